//! What an engine tells and is told where it is one of several: whose a queue is, who waits, how old
//! what waits is, and its part of the limits.

use std::collections::BTreeSet;

use tenpin_protocol::MoveTaskStatus;

use super::change::Change;
use super::identity::INCARNATIONS_SKIPPED_A_START;
use super::queue::Queue;
use super::queue_number::incarnation_of;
use super::queue_state::Definition;
use super::slot::NONE;
use super::{Engine, EngineOptions, Outputs, Ticket};
use crate::catalog::QueueName;
use crate::exchange::leases;
use crate::flaws::Flaws;
use crate::journal::Log;

/// A receive that waits, as another shard is to serve it.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Whose it is.
    pub ticket: Ticket,
    /// How many messages at most.
    pub count_max: u32,
    /// For how long to hide them.
    pub visibility_seconds: u32,
    /// How many bytes of entries the reply may have.
    pub reply_bytes_max: u32,
}

/// Where requests for a queue are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// It has a part on every shard.
    Everywhere,
    /// It lives on one shard.
    Shard(u16),
    /// There is no such queue here.
    Unknown,
}

impl<F: Flaws> Engine<F> {
    /// Engine time as of the last command.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Does what shard 0 has done. Its engine time may be ahead of this shard's, which follows: no record
    /// is of a time that is still to come. Gives the time that it is now.
    pub fn follow(&mut self, now_ms: u64, change: &Change, log: &mut Log<F>, out: &mut Outputs) -> u64 {
        let changed_at_ms = match change {
            Change::Define(definition) => definition.modified_at_ms,
            Change::Delete { time_ms, .. } | Change::Purge { time_ms, .. } => *time_ms,
            Change::StartTask(definition) => definition.started_at_ms,
            Change::CancelTask { .. } => now_ms,
        };
        let followed_ms = now_ms.max(changed_at_ms);
        self.apply_change(followed_ms, change, log, out);
        followed_ms
    }

    /// Where requests for the queue with this number are served.
    pub fn home(&self, queue: u64) -> Home {
        match self.queues.find(queue).map(|index| &self.queues[index]) {
            None => Home::Unknown,
            Some(queue) if queue.attributes.is_fifo() => Home::Shard(queue.owner_shard),
            Some(_) => Home::Everywhere,
        }
    }

    /// Whether a message of the queue is visible, as far as timers have run.
    pub fn visible(&self, queue: u64) -> u64 {
        self.queues.find(queue).map_or(0, |index| self.queues[index].visible)
    }

    /// Since when the message that is next in a queue has been visible.
    pub fn oldest_visible_ms(&self, queue: u64) -> Option<u64> {
        let index = self.queues.find(queue)?;
        if self.queues[index].visible == 0 {
            return None;
        }
        let first = self.oldest_visible(index)?;
        let slot = &self.slab[first];
        Some(slot.available_at_ms.max(slot.sent_at_ms()))
    }

    /// Has messages of the queue noticed that nobody waits for here, or not any more. Says whether there
    /// is such a queue.
    pub fn watch(&mut self, queue: u64, on: bool) -> bool {
        let Some(index) = self.queues.find(queue) else { return false };
        self.queues[index].watched = on;
        if on && self.queues[index].visible > 0 {
            self.mark_ready(index);
        }
        true
    }

    /// Gives the numbers of watched queues that have got something nobody waits for here.
    pub fn take_surplus(&mut self) -> Vec<u64> {
        for index in std::mem::take(&mut self.waits.left_alone) {
            self.notice_surplus(index);
        }
        let mut noticed = std::mem::take(&mut self.surplus);
        noticed.sort_unstable();
        noticed.dedup();
        noticed
    }

    /// Whether receives wait for the queue.
    pub fn has_waits(&self, queue: u64) -> bool {
        self.queues.find(queue).is_some_and(|index| self.queues[index].waiting > 0)
    }

    /// Whether receives wait for the queue, here or elsewhere for what is here.
    pub fn has_takers(&self, queue: u64) -> bool {
        let is_wanted = |queue: &Queue| queue.waiting > 0 || (queue.watched && queue.visible > 0);
        self.queues.find(queue).is_some_and(|index| is_wanted(&self.queues[index]))
    }

    /// The first receive that waits for the queue and was not taken by this yet.
    pub fn ask_for_wait(&mut self, queue: u64) -> Option<Waiting> {
        let index = self.queues.find(queue)?;
        let (ticket, receive) = self.waits.ask_next(self.queues[index].first_wait)?;
        Some(Waiting {
            ticket,
            count_max: receive.count_max,
            visibility_seconds: u32::try_from(receive.visibility_ms / 1_000).unwrap_or(u32::MAX),
            reply_bytes_max: receive.reply_bytes_max,
        })
    }

    /// Another shard had nothing for this receive: it waits on, if it still does.
    pub fn wait_on(&mut self, ticket: Ticket) {
        if let Some(wait) = self.waits.find(ticket) {
            let queue = self.waits.not_asked(wait);
            self.mark_ready(queue);
        }
    }

    /// Another shard has served this receive: it waits no more. `false`: it did not wait.
    pub fn end_wait_elsewhere(&mut self, ticket: Ticket) -> bool {
        let Some(wait) = self.waits.find(ticket) else { return false };
        self.waits.take(wait, &mut self.queues);
        true
    }

    /// How many messages of a standard queue may be in flight here, and how many are.
    pub fn lease(&self, queue: u64) -> Option<(u64, u64)> {
        let queue = &self.queues[self.queues.find(queue)?];
        Some((queue.in_flight_max, queue.in_flight))
    }

    /// A receive that has gone around has found nothing anywhere.
    pub fn count_empty_receive(&mut self, queue: u64) {
        if let Some(index) = self.queues.find(queue) {
            self.queues[index].totals.empty_receives += 1;
        }
    }

    /// A receive that has found nothing here goes on elsewhere.
    pub fn uncount_empty_receive(&mut self, queue: u64) {
        if let Some(index) = self.queues.find(queue) {
            self.queues[index].totals.empty_receives -= 1;
        }
    }

    /// More may be in flight here from now on.
    pub fn add_lease(&mut self, queue: u64, amount: u64) {
        let Some(index) = self.queues.find(queue) else { return };
        let queue = &mut self.queues[index];
        queue.in_flight_max = queue.in_flight_max.saturating_add(amount);
        if amount > 0 && (queue.waiting > 0 || queue.watched) {
            self.mark_ready(index);
        }
    }

    /// Takes up to so much of what is not used; says how much that was.
    pub fn take_lease(&mut self, queue: u64, amount: u64) -> u64 {
        let Some(index) = self.queues.find(queue) else { return 0 };
        let queue = &mut self.queues[index];
        let taken = queue.in_flight_max.saturating_sub(queue.in_flight).min(amount);
        queue.in_flight_max -= taken;
        taken
    }

    /// Another shard has so much of the queue's limit, used or not.
    pub fn lose_lease(&mut self, queue: u64, amount: u64) {
        if let Some(index) = self.queues.find(queue) {
            let queue = &mut self.queues[index];
            queue.in_flight_max = queue.in_flight_max.saturating_sub(amount);
        }
    }

    /// Queues whose receives have met the limit since this was last asked.
    pub fn take_over_limit(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.over_limit)
    }

    /// Standard queues that have got message groups since this was last asked.
    pub fn take_grouped(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.grouped)
    }

    /// At the start: takes as much of the limits of other homes as is in flight here already. Gives the
    /// queues and how much that is.
    pub fn settle_leases(&mut self) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        for index in 0..self.queues.table_length() {
            if self.queues.get(index).is_none_or(|queue| queue.deleted || queue.attributes.is_fifo()) {
                continue;
            }
            let queue = &mut self.queues[index];
            let number = queue.number(index);
            if leases::home_of(number, self.options.shards) != self.options.shard && queue.in_flight > 0 {
                queue.in_flight_max = queue.in_flight;
                taken.push((number, queue.in_flight));
            }
        }
        taken
    }

    /// How long a receive of the queue waits that does not say so itself.
    pub fn receive_wait_ms(&self, queue: u64) -> u64 {
        self.queues.find(queue).map_or(0, |index| self.queues[index].attributes.receive_wait_ms())
    }

    /// How much of a queue's limit is leased at a time.
    pub fn lease_block(&self) -> u64 {
        leases::block(self.options.in_flight_max, self.options.shards)
    }

    /// Queues from this place on as they are now, with their move tasks, for a sibling that starts, about so
    /// many; and the place to go on at.
    pub fn definitions(&self, from: u32, count_max: usize) -> (Vec<(Change, u64)>, Option<u32>) {
        let mut found = Vec::new();
        for index in from..self.queues.table_length() {
            if found.len() >= count_max {
                return (found, Some(index));
            }
            if let Some(queue) = self.queues.get(index).filter(|queue| !queue.deleted) {
                found.push((Change::Define(Box::new(queue.definition(index))), queue.purged_at_ms));
                self.add_tasks(queue.number(index), &mut found);
            }
        }
        (found, None)
    }

    /// The tasks of a queue as changes, the oldest first, as they may have been cut short elsewhere.
    fn add_tasks(&self, queue: u64, found: &mut Vec<(Change, u64)>) {
        let start = found.len();
        for task in self.tasks.of(incarnation_of(queue)) {
            if matches!(task.share.status, MoveTaskStatus::Cancelling | MoveTaskStatus::Cancelled) {
                found.push((Change::CancelTask { queue, id: task.definition.id }, 0));
            }
            found.push((Change::StartTask(Box::new(task.definition.clone())), 0));
        }
        found[start..].reverse();
    }

    /// Whether a queue is here as shard 0 has it, and when it was last purged here.
    pub fn knows(&self, define: &Change) -> (bool, u64) {
        let Change::Define(definition) = define else { return (false, 0) };
        match self.queues.find(definition.number()) {
            Some(index) => {
                let queue = &self.queues[index];
                (queue.definition(index) == **definition, queue.purged_at_ms)
            }
            None => (false, 0),
        }
    }

    /// The numbers of all queues.
    pub fn queue_numbers(&self) -> Vec<u64> {
        (0..self.queues.table_length())
            .filter_map(|index| self.queues.get(index).map(|queue| (index, queue)))
            .filter(|(_, queue)| !queue.deleted)
            .map(|(index, queue)| queue.number(index))
            .collect()
    }

    /// A queue that was made or deleted here and not on shard 0, both having just started: what shard 0 told
    /// this shard, it has forgotten itself (rule 20). For the simulator.
    pub fn ahead_of(&self, first: &Self) -> Option<&QueueName> {
        let next = first.identity.incarnation_next().saturating_sub(INCARNATIONS_SKIPPED_A_START);
        let mut made = self.live_queues().filter(|queue| queue.incarnation >= next);
        let is_there = |incarnation| first.live_queues().any(|queue| queue.incarnation == incarnation);
        let mut deleted = self.tombstones.by_name.iter();
        let deleted = deleted.find(|(_, tombstone)| is_there(tombstone.incarnation)).map(|(name, _)| name);
        deleted.or_else(|| made.next().map(|queue| &queue.name))
    }

    fn live_queues(&self) -> impl Iterator<Item = &Queue> {
        let queues = (0..self.queues.table_length()).filter_map(|index| self.queues.get(index));
        queues.filter(|queue| !queue.deleted)
    }

    /// How many messages of a new queue may be in flight here to begin with.
    pub(super) fn first_lease(&self, definition: &Definition) -> u64 {
        let EngineOptions { shard, shards, in_flight_max, .. } = self.options;
        if shards <= 1 || definition.attributes.is_fifo() {
            return in_flight_max;
        }
        if leases::home_of(definition.number(), shards) == shard { in_flight_max } else { 0 }
    }

    /// A watched queue has something that nobody here waits for.
    pub(super) fn notice_surplus(&mut self, index: u32) {
        let Some(queue) = self.queues.get(index) else { return };
        if queue.watched && queue.first_wait == NONE && queue.visible > 0 {
            self.surplus.push(queue.number(index));
        }
    }

    /// A receive has met the limit: where that is only a part of the whole, more is asked for.
    pub(super) fn notice_limit(&mut self, index: u32) {
        if self.options.shards > 1 {
            let queue = &self.queues[index];
            if !queue.attributes.is_fifo() {
                let number = queue.number(index);
                if !self.over_limit.contains(&number) {
                    self.over_limit.push(number);
                }
            }
        }
    }
}
