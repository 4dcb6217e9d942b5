//! Opening queues, and doing to the catalog what was planned.

use std::collections::{BTreeMap, VecDeque};

use tenpin_protocol::ErrorCode;

use super::change::{Change, Planned};
use super::command::{Command, RawName};
use super::outputs::{Outputs, Refusal, ReplyBody};
use super::plan::Answer;
use super::queue::Queue;
use super::queue_number::incarnation_of;
use super::queue_state::{Definition, QUEUE_STATE_BYTES, QueueState};
use super::records::{Kind, MARK_BYTES, Mark, name_bytes, write_name};
use super::{Engine, append};
use crate::catalog::QueueName;
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

/// How long a deleted queue's name is not free, and how long after a purge the next is refused.
pub(super) const MINUTE_MS: u64 = 60_000;

/// Names that are not free yet, and their records.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    pub by_name: BTreeMap<QueueName, Tombstone>,
    /// Times and names in the order in which they become free.
    pub order: VecDeque<(u64, QueueName)>,
}

/// A deleted queue whose name is not free yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tombstone {
    pub incarnation: u64,
    pub deleted_at_ms: u64,
    pub record: (Position, u32),
}

impl<F: Flaws> Engine<F> {
    pub(super) fn parse_name(&self, name: RawName<'_>) -> Result<QueueName, Refusal> {
        Ok(QueueName::parse(name.account, name.region, name.name, &self.options.defaults)?)
    }

    pub(super) fn open_queue(&mut self, name: RawName<'_>) -> Answer {
        // A name that no queue can have is the name of no queue.
        let name = self.parse_name(name).map_err(|_| Refusal::from(ErrorCode::QueueDoesNotExist))?;
        match self.queues.named(&name) {
            Some(index) => Ok(self.opened(index)),
            None => Err(ErrorCode::QueueDoesNotExist.into()),
        }
    }

    pub(super) fn opened(&self, index: u32) -> ReplyBody {
        let queue = &self.queues[index];
        ReplyBody::QueueOpened {
            number: queue.number(index),
            incarnation: queue.incarnation,
            fifo_shard: queue.attributes.is_fifo().then_some(queue.owner_shard),
        }
    }

    /// Plans a command that changes the catalog, and does it here at once.
    pub(super) fn change_catalog(
        &mut self,
        command: Command<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> Answer {
        match self.plan(self.now_ms, command, log)? {
            Planned::Answer(reply) => Ok(reply),
            Planned::Change(change, reply) => {
                self.apply_change(self.now_ms, &change, log, out);
                Ok(reply)
            }
        }
    }

    /// Whether a change can be applied now. Only a new queue may have to wait: its place may still
    /// be taken here by one that is deleted and not swept, which [`Engine::advance`] goes on with.
    pub fn can_apply(&self, change: &Change) -> bool {
        match change {
            Change::Define(definition) => {
                self.queues.find(definition.number()).is_some() || self.queues.is_free(definition.index)
            }
            Change::Delete { .. }
            | Change::Purge { .. }
            | Change::StartTask(_)
            | Change::CancelTask { .. } => true,
        }
    }

    /// Does to the catalog what was planned, here or on another shard. One that was applied before
    /// changes nothing, but a purge applied twice also takes what came in its own millisecond. The
    /// log's end says what it rests on.
    pub fn apply_change(&mut self, now_ms: u64, change: &Change, log: &mut Log<F>, out: &mut Outputs) {
        self.now_ms = self.now_ms.max(now_ms);
        match change {
            Change::Define(definition) => match self.queues.find(definition.number()) {
                Some(index) => self.redefine(index, definition, log),
                None => self.define(definition, log),
            },
            Change::Delete { queue, time_ms } => {
                if let Some(index) = self.queues.find(*queue) {
                    self.delete_queue(index, *time_ms, log, out);
                }
            }
            Change::StartTask(definition) => {
                self.identity.replay_incarnation(definition.id);
                self.start_share(definition, log);
            }
            Change::CancelTask { queue, id } => self.cancel_share((incarnation_of(*queue), *id), log),
            Change::Purge { queue, time_ms } => {
                if let Some(index) = self.queues.find(*queue)
                    && self.queues[index].purged_at_ms <= *time_ms
                {
                    self.purge(index, *time_ms, log);
                }
            }
        }
    }

    fn define(&mut self, definition: &Definition, log: &mut Log<F>) {
        self.free_names(log);
        // Another shard's clock may have freed the name before this one's does.
        if let Some(tombstone) = self.tombstones.by_name.remove(&definition.name) {
            log.release(tombstone.record.0, tombstone.record.1);
        }
        self.identity.replay_incarnation(definition.incarnation);
        self.queues.take_index(definition.index);
        let mut queue = Queue::new(QueueState::of(definition.clone()));
        queue.in_flight_max = self.first_lease(definition);
        self.queues.insert(definition.index, queue);
        self.journal_queue(definition.index, log);
    }

    fn redefine(&mut self, index: u32, definition: &Definition, log: &mut Log<F>) {
        self.queues.set_details(index, definition.details.clone());
        let (now_ms, last_sequence) = (self.now_ms, self.identity.last_sequence());
        let queue = &mut self.queues[index];
        let (before_ms, after_ms) = (queue.retention_ms, definition.attributes.retention_ms());
        let delay_before_ms = queue.attributes.delay_ms();
        queue.attributes = definition.attributes;
        queue.modified_at_ms = definition.modified_at_ms;
        if before_ms != after_ms {
            // What had expired stays expired, whatever the new period says (rule 10).
            let kept_ms = before_ms + self.retention_lag_ms;
            let expired_ms = now_ms.saturating_sub(kept_ms);
            if expired_ms >= queue.expired_through_ms {
                // A mark that is lower in time stays out: what it would mean beyond the one before has
                // moved here and expired within a turn, and is kept instead.
                (queue.expired_through_ms, queue.expired_through) = (expired_ms, last_sequence);
            }
            queue.retention_ms = after_ms;
        }
        if after_ms < before_ms {
            if queue.slots > 0 {
                self.sweep.request();
            }
            // The timer may be one of messages that are gone: without any, too, it must not stay.
            self.queue_wheel.cancel(&mut self.queues, index);
            self.start_queue_timer(index);
        }
        if self.is_fifo(index) {
            // A longer or shorter delay holds for what is stored.
            self.delay_was_set(index, delay_before_ms);
        }
        self.journal_queue(index, log);
    }

    /// Journals a queue's whole state; the record before is not needed any more.
    pub(super) fn journal_queue(&mut self, index: u32, log: &mut Log<F>) {
        self.journal_state(self.queues[index].state(index), log);
    }

    /// Journals this as the state of a queue.
    pub(super) fn journal_state(&mut self, state: QueueState, log: &mut Log<F>) {
        let index = state.definition.index;
        let variable_bytes = state.variable_bytes();
        let record =
            append(log, self.now_ms, Kind::QueueState, QUEUE_STATE_BYTES, variable_bytes, true, |out| {
                state.write(out);
            });
        log.live(record.0, record.1);
        let before = std::mem::replace(&mut self.queues[index].record, record);
        if before.1 > 0 {
            log.release(before.0, before.1);
        }
    }

    fn delete_queue(&mut self, index: u32, time_ms: u64, log: &mut Log<F>, out: &mut Outputs) {
        let queue = &self.queues[index];
        let mark = Mark { incarnation: queue.incarnation, time_ms, through: 0 };
        let (name, state_record) = (queue.name.clone(), queue.record);
        let record =
            append(log, self.now_ms, Kind::QueueDeleted, MARK_BYTES, name_bytes(&name), true, |out| {
                let (fixed, variable) = out.split_at_mut(MARK_BYTES);
                mark.write(fixed);
                write_name(&name, variable);
            });
        log.release(state_record.0, state_record.1);
        self.forget_tasks(mark.incarnation, log);
        if self.options.minute_rules {
            log.live(record.0, record.1);
            let tombstone = Tombstone { incarnation: mark.incarnation, deleted_at_ms: time_ms, record };
            self.bury(&name, tombstone, log);
        }
        self.refuse_waits(index, log.end(), ReplyBody::Refused(ErrorCode::QueueDoesNotExist.into()), out);
        self.queues.forget_name(index);
        self.forget_fair(index);
        let map = self.queues[index].forget_messages();
        self.queues[index].deleted = true;
        self.discard_map(map);
        if self.queues[index].slots == 0 {
            self.retire_queue(index);
        } else {
            self.sweep.request();
        }
    }

    /// Keeps a name from being used for a minute. The record of the deletion is live; the one before it, of a
    /// broker that has freed names at once, is not any more.
    pub(super) fn bury(&mut self, name: &QueueName, tombstone: Tombstone, log: &mut Log<F>) {
        if let Some(before) = self.tombstones.by_name.insert(name.clone(), tombstone) {
            log.release(before.record.0, before.record.1);
        }
        self.tombstones.order.push_back((tombstone.deleted_at_ms + MINUTE_MS, name.clone()));
    }

    /// Frees names whose minute is over.
    pub(super) fn free_names(&mut self, log: &mut Log<F>) {
        while let Some((free_at_ms, _)) = self.tombstones.order.front()
            && *free_at_ms <= self.now_ms
        {
            let (free_at_ms, name) = self.tombstones.order.pop_front().expect("it was there the line before");
            // The name may have been used and freed again since.
            if let Some(tombstone) = self.tombstones.by_name.get(&name)
                && tombstone.deleted_at_ms + MINUTE_MS == free_at_ms
            {
                log.release(tombstone.record.0, tombstone.record.1);
                self.tombstones.by_name.remove(&name);
            }
        }
    }

    /// No slot refers to a deleted queue any more.
    pub(super) fn retire_queue(&mut self, index: u32) {
        self.queue_wheel.cancel(&mut self.queues, index);
        self.queues.retire(index);
    }

    /// A queue's last purge is durable on every shard since now at the earliest: the minute in which there is no
    /// other begins (rule 20).
    pub fn purge_is_everywhere(&mut self, queue: u64, now_ms: u64) {
        if let Some(index) = self.queues.find(queue) {
            self.queues[index].purge_ended_ms = now_ms;
        }
    }

    fn purge(&mut self, index: u32, time_ms: u64, log: &mut Log<F>) {
        let through = self.identity.last_sequence();
        let queue = &mut self.queues[index];
        let mark = Mark { incarnation: queue.incarnation, time_ms, through };
        append(log, self.now_ms, Kind::Purged, MARK_BYTES, 0, false, |out| mark.write(out));
        queue.purged_at_ms = time_ms;
        queue.purge_ended_ms = time_ms;
        queue.purged_through = through;
        let map = queue.forget_messages();
        if queue.slots > 0 {
            self.sweep.request();
        }
        self.forget_fair(index);
        self.discard_map(map);
    }
}
