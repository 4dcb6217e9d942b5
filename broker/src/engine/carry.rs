//! Cleaning: what of an old segment is still needed is written again at the tail.
//!
//! These three functions are the one list of what recovery needs (rule 11). A kind that is not carried must be one
//! whose effect is in what is carried: a message is copied with its whole state, so that no record
//! about it is needed any more; a queue's record has the mark of its last purge. By the time that a
//! record is met here, everything before it in the log has been carried or is gone.

use std::ops::Range;

use super::fifo_records::Attempted;
use super::manage::Tombstone;
use super::message::content_bytes;
use super::rare::{ORIGIN_BLOCK_BYTES, RareBlock};
use super::records::{
    CONTENT_KEYED, CONTENT_RARE, COPIED_BYTES, CopiedState, Kind, MARK_BYTES, Mark, MessageHead, SENT_BYTES,
    content_of, name_bytes, write_name,
};
use super::slot::{FLAG_COPIED, FLAG_KEYED, FLAG_MOVED_IN, FLAG_ORIGIN, State};
use super::{Engine, append};
use crate::catalog::{BoxedDetails, QueueName};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{COPY_GROWTH_BYTES, Log, Position, RECORD_ALIGNMENT, RawRecord};

const _: () = assert!(
    COPIED_BYTES - SENT_BYTES + ORIGIN_BLOCK_BYTES + RECORD_ALIGNMENT - 1 <= COPY_GROWTH_BYTES as usize,
    "the log's reserve counts on it"
);

impl<F: Flaws> Engine<F> {
    /// Writes a record of an old segment again at the tail if it is live. Says whether it was.
    pub fn carry(&mut self, now_ms: u64, position: Position, raw: RawRecord<'_>, log: &mut Log<F>) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        match Kind::from_code(raw.kind) {
            Some(Kind::Sent | Kind::Copied | Kind::MovedIn) => self.carry_message(position, &raw, log),
            Some(Kind::Attempt) => self.carry_attempt(position, &raw, log),
            // Their effects are in what is carried, or they are by `carry_definitions`.
            Some(
                Kind::Start
                | Kind::QueueState
                | Kind::QueueDeleted
                | Kind::Purged
                | Kind::Delivered
                | Kind::Hidden
                | Kind::Deleted
                | Kind::Expired
                | Kind::Undelivered
                | Kind::Damaged
                | Kind::Deduplication
                | Kind::MovingOut
                | Kind::MovedOut
                | Kind::Moved
                | Kind::Task
                | Kind::Origin
                | Kind::Arrivals,
            )
            | None => false,
        }
    }

    /// Writes again at the tail what is live at these positions and is whole in the engine's memory:
    /// the newest start, marks of deletion, blocks of deduplication entries, sources of dead letters,
    /// moves and move tasks; [`Engine::carry_queues`] follows.
    pub fn carry_definitions(&mut self, now_ms: u64, old: &Range<Position>, log: &mut Log<F>) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.start_record.1 > 0 && old.contains(&self.start_record.0) {
            self.journal_start(log);
        }
        self.deduplication.carry(self.now_ms, old, &self.identity, log);
        self.carry_origins(old, log);
        self.carry_moves(old, log);
        self.carry_tasks(old, log);
        self.free_names(log);
        let buried =
            self.tombstones.by_name.iter().filter(|(_, tombstone)| old.contains(&tombstone.record.0));
        let buried: Vec<_> = buried.map(|(name, tombstone)| (name.clone(), *tombstone)).collect();
        for (name, tombstone) in buried {
            self.journal_tombstone(name, tombstone, log);
        }
    }

    /// Writes again at the tail the records of queues that stand at these positions, of so many places in the
    /// table from this one on: there may be a million queues (rule 31). Gives the place to go on at.
    pub fn carry_queues(
        &mut self,
        now_ms: u64,
        old: &Range<Position>,
        from: u32,
        count_max: u32,
        log: &mut Log<F>,
    ) -> Option<u32> {
        self.now_ms = self.now_ms.max(now_ms);
        let length = self.queues.table_length();
        let to = length.min(from.saturating_add(count_max));
        for index in from..to {
            let is_old = |record: (Position, u32)| record.1 > 0 && old.contains(&record.0);
            if self.queues.get(index).is_some_and(|queue| !queue.deleted && is_old(queue.record)) {
                self.carry_queue(index, log);
            }
        }
        (to < length).then_some(to)
    }

    fn carry_attempt(&mut self, position: Position, raw: &RawRecord<'_>, log: &mut Log<F>) -> bool {
        let Ok(attempted) = Attempted::read(raw) else { return false };
        self.attempts.carry(self.now_ms, attempted.key, position, log)
    }

    fn carry_queue(&mut self, index: u32, log: &mut Log<F>) {
        if F::has(Flaw::LoseQueuesInCleaning) {
            let record = std::mem::take(&mut self.queues[index].record);
            log.release(record.0, record.1);
        } else if F::has(Flaw::LoseDetailsInCleaning) {
            let mut state = self.queues[index].state(index);
            state.definition.details = BoxedDetails::default();
            self.journal_state(state, log);
        } else {
            self.journal_queue(index, log);
        }
    }

    /// Writes the mark of a queue's deletion again at the tail.
    fn journal_tombstone(&mut self, name: QueueName, tombstone: Tombstone, log: &mut Log<F>) {
        let Tombstone { incarnation, deleted_at_ms, record: before } = tombstone;
        let mark = Mark { incarnation, time_ms: deleted_at_ms, through: 0 };
        let variable_bytes = name_bytes(&name);
        let record = append(log, self.now_ms, Kind::QueueDeleted, MARK_BYTES, variable_bytes, true, |out| {
            let (fixed, variable) = out.split_at_mut(MARK_BYTES);
            mark.write(fixed);
            write_name(&name, variable);
        });
        log.live(record.0, record.1);
        log.release(before.0, before.1);
        self.tombstones.by_name.insert(name, Tombstone { record, ..tombstone });
    }

    fn carry_message(&mut self, position: Position, raw: &RawRecord<'_>, log: &mut Log<F>) -> bool {
        let Ok(mut head) = MessageHead::read(raw) else { return false };
        let Some(slot) = self.slab.get(head.slot) else { return false };
        // By its place, not by the sequence in it: a message that was moved has another one.
        let is_there = slot.position == position.0 && slot.length == raw.length;
        if slot.state() == State::Free || !is_there {
            return false;
        }
        let Ok(content) = content_of(&head, raw.variable) else { return false };
        if self.queues[slot.queue].is_gone(slot.sequence) {
            // The sweep has not come here yet.
            self.discard_gone(head.slot, log);
            return false;
        }
        head.sequence = slot.sequence;
        head.incarnation = self.queues[slot.queue].incarnation;
        head.sent_at_ms = slot.sent_at_ms();
        head.available_at_ms = slot.available_at_ms;
        // What its key is for is carried apart.
        head.content_flags &= !CONTENT_KEYED;
        let before_bytes = content_bytes(slot);
        self.copy_message(head, content, log);
        debug_assert_eq!(before_bytes, content_bytes(&self.slab[head.slot]), "copying changes no content");
        true
    }

    /// What a Copied record says of a stored message beyond its head.
    pub(super) fn copied_state(&self, index: u32) -> CopiedState {
        let slot = &self.slab[index];
        let was_received = slot.receive_count > 0;
        CopiedState {
            damaged: slot.state() == State::Damaged,
            receive_count: slot.receive_count,
            first_received_at_ms: if was_received { self.first_received_at_ms(index) } else { 0 },
            delivered_at_ms: if slot.state() == State::Hidden { self.delivered_at_ms(index) } else { 0 },
        }
    }

    /// Writes a stored message again at the tail with its whole state; what it had before is released.
    pub(super) fn copy_message(&mut self, mut head: MessageHead, content: &[u8], log: &mut Log<F>) {
        let slot = &self.slab[head.slot];
        let before = (Position(slot.position), slot.length);
        let mut block = RareBlock::of(slot, self.rares.get(head.slot));
        if F::has(Flaw::LoseReceivesBeforeArrivalInCleaning)
            && let Some(origin) = &mut block.origin
        {
            origin.1 = 0;
        }
        head.content_flags &= !CONTENT_RARE;
        head.content_flags |= if block.bytes() > 0 { CONTENT_RARE } else { 0 };
        let state = self.copied_state(head.slot);
        let (copy, length) = append(
            log,
            self.now_ms,
            Kind::Copied,
            COPIED_BYTES,
            block.bytes() + content.len(),
            true,
            |out| {
                head.write(out);
                state.write(out);
                let (rare, rest) = out[COPIED_BYTES..].split_at_mut(block.bytes());
                block.write(rare);
                rest.copy_from_slice(content);
            },
        );
        log.live(copy, length);
        log.release(before.0, before.1);
        let slot = &mut self.slab[head.slot];
        slot.position = copy.0;
        slot.length = length;
        let kept = slot.flags() & !(FLAG_ORIGIN | FLAG_MOVED_IN | FLAG_KEYED);
        slot.set_flags(kept | FLAG_COPIED | block.flag());
    }
}
