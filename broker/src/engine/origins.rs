//! Names of the queues that messages here came from.
//!
//! A dead letter is given out with the ARN of its source, also when that queue is deleted meanwhile. So
//! the name of a source has a record of its own, which is live while there are messages from it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::records::{Kind, MARK_BYTES, Mark, name_bytes, write_name};
use super::slot::{FLAG_ARRIVED, Slot};
use super::{Engine, append};
use crate::catalog::QueueName;
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

/// One source of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub name: QueueName,
    /// Messages of this shard that came from it.
    pub count: u64,
    /// Its record, while that is live.
    pub record: (Position, u32),
}

/// The sources of this shard's messages, by incarnation.
#[derive(Debug, Default)]
pub(super) struct Origins {
    pub by_incarnation: BTreeMap<u64, Origin>,
}

impl<F: Flaws> Engine<F> {
    /// The name of the queue with this incarnation, of which messages here came.
    pub fn origin_name(&self, incarnation: u64) -> Option<&QueueName> {
        self.origins.by_incarnation.get(&incarnation).map(|origin| &origin.name)
    }

    /// Counts messages that came from a queue; its name is journaled where it is not known.
    pub(super) fn count_origin(&mut self, incarnation: u64, name: &QueueName, count: u64, log: &mut Log<F>) {
        if let Some(origin) = self.origins.by_incarnation.get_mut(&incarnation) {
            origin.count += count;
            return;
        }
        let origin = Origin { name: name.clone(), count, record: (Position::default(), 0) };
        self.origins.by_incarnation.insert(incarnation, origin);
        self.journal_origin(incarnation, log);
    }

    /// A message that came from another queue is no more: its source may be forgotten.
    pub(super) fn uncount_origin(&mut self, incarnation: u64, log: &mut Log<F>) {
        let Some(origin) = self.origins.by_incarnation.get_mut(&incarnation) else {
            debug_assert!(false, "messages that came from a queue are counted");
            return;
        };
        origin.count -= 1;
        if origin.count == 0 {
            let record = origin.record;
            self.origins.by_incarnation.remove(&incarnation);
            log.release(record.0, record.1);
        }
    }

    /// When a message was first received; only meaningful once it has been received.
    #[inline]
    pub(super) fn first_received_at_ms(&self, index: u32) -> u64 {
        let slot = &self.slab[index];
        if slot.flags() & FLAG_ARRIVED == 0 {
            slot.first_received_at_ms()
        } else {
            self.rares.get(index).first_received_at_ms
        }
    }

    /// The incarnation of the queue that a message came from; 0: it was sent to the one where it is.
    #[inline]
    pub(super) fn source_of(&self, index: u32, slot: &Slot) -> u64 {
        if slot.flags() & FLAG_ARRIVED == 0 { 0 } else { self.rares.get(index).source }
    }

    /// Recovery has counted messages by their sources: keeps the sources that have any.
    pub(super) fn recover_origins(&mut self, log: &mut Log<F>) {
        self.origins.by_incarnation.retain(|_, origin| origin.count > 0);
        for origin in self.origins.by_incarnation.values() {
            log.live(origin.record.0, origin.record.1);
        }
    }

    /// Writes again what lies at these positions.
    pub(super) fn carry_origins(&mut self, old: &Range<Position>, log: &mut Log<F>) {
        let is_old = |(_, origin): &(&u64, &Origin)| origin.record.1 > 0 && old.contains(&origin.record.0);
        let incarnations: Vec<u64> =
            self.origins.by_incarnation.iter().filter(is_old).map(|(&incarnation, _)| incarnation).collect();
        for incarnation in incarnations {
            self.journal_origin(incarnation, log);
        }
    }

    fn journal_origin(&mut self, incarnation: u64, log: &mut Log<F>) {
        let now_ms = self.now_ms;
        let Some(origin) = self.origins.by_incarnation.get_mut(&incarnation) else { return };
        let mark = Mark { incarnation, time_ms: now_ms, through: 0 };
        let name = &origin.name;
        let record = append(log, now_ms, Kind::Origin, MARK_BYTES, name_bytes(name), true, |out| {
            let (fixed, variable) = out.split_at_mut(MARK_BYTES);
            mark.write(fixed);
            write_name(name, variable);
        });
        log.live(record.0, record.1);
        let before = std::mem::replace(&mut origin.record, record);
        if before.1 > 0 {
            log.release(before.0, before.1);
        }
    }
}
