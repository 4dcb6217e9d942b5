//! Counters of a queue and of the shard.

use tenpin_protocol::StatisticCode;

use super::Engine;
use super::fifo::delayed_until_ms;
use super::outputs::{Refusal, ReplyBody};
use super::queue::{Queue, Totals};
use super::slot::NONE;
use crate::flaws::Flaws;

/// How many messages stand where. Exact once all timers that are due have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// A receive could take them now; on a FIFO queue also what waits for others of its group.
    pub visible: u64,
    /// Received, and hidden.
    pub in_flight: u64,
    /// Their delay is not over.
    pub delayed: u64,
    /// Set aside.
    pub damaged: u64,
}

impl<F: Flaws> Engine<F> {
    /// Counts of the queue with this number.
    pub fn counts(&self, queue: u64) -> Option<Counts> {
        self.queues.find(queue).map(|index| counts_of(&self.queues[index]))
    }

    /// For how long the message that is next on the queue with this number could have been received; 0
    /// where none can be. Exact once all timers that are due have run.
    pub fn oldest_age_ms(&self, queue: u64) -> Option<u64> {
        self.queues.find(queue).map(|index| self.oldest_age_of(&self.queues[index]))
    }

    fn oldest_age_of(&self, queue: &Queue) -> u64 {
        if queue.attributes.is_fifo() {
            let first = queue.ready_groups.first(&self.groups).map(|group| self.groups[group].head);
            let since_ms = first.map(|head| {
                let slot = &self.slab[head];
                slot.available_at_ms.max(delayed_until_ms(queue, slot))
            });
            return since_ms.map_or(0, |since_ms| self.now_ms.saturating_sub(since_ms));
        }
        let fresh = (queue.fresh_head != NONE).then(|| self.slab[queue.fresh_head].sent_at_ms());
        let returned = queue.returned.first_key_value().map(|((since_ms, _), _)| *since_ms);
        let grouped = self.oldest_fair(queue).map(|((since_ms, _), _)| since_ms);
        let since_ms = fresh.into_iter().chain(returned).chain(grouped).min();
        since_ms.map_or(0, |since_ms| self.now_ms.saturating_sub(since_ms))
    }

    /// Messages that are stored, also those that are gone and whose slots are not swept yet: what
    /// the log keeps a reserve for (rule 16).
    pub fn stored_messages(&self) -> u64 {
        self.slab.occupied()
    }

    /// Queues that there are.
    pub fn queue_count(&self) -> usize {
        self.queues.count()
    }

    /// The number of the last start.
    pub fn start_number(&self) -> u32 {
        self.identity.start_number()
    }

    pub(super) fn stats(&self, queue: u64) -> Result<ReplyBody, Refusal> {
        let mut sum = Sum::default();
        self.add_up(&self.queues[self.find_queue(queue)?], &mut sum);
        Ok(ReplyBody::Stats(sum.values().into()))
    }

    /// Adds counters of queues at so many places of the table from this one on. Gives the place to go on at; `None`:
    /// the sum is of all. Messages and queues that come and go meanwhile may be in it or not.
    pub fn add_up_queues(&self, sum: &mut Sum, from: u32, count_max: u32) -> Option<u32> {
        let length = self.queues.table_length();
        let to = length.min(from.saturating_add(count_max));
        (from..to)
            .filter_map(|index| self.queues.get(index))
            .filter(|queue| !queue.deleted)
            .for_each(|queue| self.add_up(queue, sum));
        (to < length).then_some(to)
    }

    fn add_up(&self, queue: &Queue, sum: &mut Sum) {
        sum.add(queue);
        sum.oldest_age_ms = sum.oldest_age_ms.max(self.oldest_age_of(queue));
    }
}

/// What some queues have in all.
#[derive(Debug, Default)]
pub struct Sum {
    counts: Counts,
    totals: Totals,
    stored_bytes: u64,
    oldest_age_ms: u64,
    waiting: u64,
}

impl Sum {
    /// The counters.
    pub fn values(&self) -> Vec<(StatisticCode, u64)> {
        let Self { counts, totals, stored_bytes, oldest_age_ms, waiting } = *self;
        vec![
            (StatisticCode::Visible, counts.visible),
            (StatisticCode::InFlight, counts.in_flight),
            (StatisticCode::Delayed, counts.delayed),
            (StatisticCode::Damaged, counts.damaged),
            (StatisticCode::StoredBytes, stored_bytes),
            (StatisticCode::OldestAgeMs, oldest_age_ms),
            (StatisticCode::Waiting, waiting),
            (StatisticCode::Sent, totals.sent),
            (StatisticCode::Received, totals.received),
            (StatisticCode::Deleted, totals.deleted),
            (StatisticCode::Expired, totals.expired),
            (StatisticCode::Purged, totals.purged),
            (StatisticCode::EmptyReceives, totals.empty_receives),
        ]
    }

    fn add(&mut self, queue: &Queue) {
        let counts = counts_of(queue);
        self.counts.visible += counts.visible;
        self.counts.in_flight += counts.in_flight;
        self.counts.delayed += counts.delayed;
        self.counts.damaged += counts.damaged;
        self.totals.sent += queue.totals.sent;
        self.totals.received += queue.totals.received;
        self.totals.deleted += queue.totals.deleted;
        self.totals.expired += queue.totals.expired;
        self.totals.purged += queue.totals.purged;
        self.totals.empty_receives += queue.totals.empty_receives;
        self.stored_bytes += queue.stored_bytes;
        self.waiting += u64::from(queue.waiting);
    }
}

fn counts_of(queue: &Queue) -> Counts {
    Counts {
        visible: queue.visible,
        in_flight: queue.in_flight,
        delayed: queue.delayed,
        damaged: queue.damaged,
    }
}
