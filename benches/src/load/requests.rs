//! What a slot asks for next, and how it is written.

use super::Shape;
use super::connection::{Deletion, Groups, Role, Slot, Step, correlation};
use super::state::{Batch, Ends, Phase, State};
use crate::client::Receive;
use crate::wire::{self, BATCH_MAX, Outgoing};

/// How long an idle wait for messages lasts; only met when the queue is empty.
const WAIT_MS: u32 = 1_000;

/// The same while the queues are emptied and messages are still to come back.
const DRAIN_WAIT_MS: u32 = 100;

/// Once nothing comes for so long, beyond the time that messages may be hidden, what is missing is lost.
const QUIET_NS: u64 = 3_000_000_000;

impl State {
    /// Asks for what comes next in a slot; nothing where all is done.
    pub(super) fn go_on(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        match (self.phase, ends.role) {
            (Phase::Fill, Role::Cycle | Role::Produce) => {
                if self.books.made() < self.options.backlog {
                    self.turn_to_next_queue(slot, ends);
                    self.ask_send(slot, index, ends);
                }
            }
            (Phase::Fill, Role::Consume) | (Phase::Cycle | Phase::Drain, Role::Produce) => {}
            (Phase::Cycle, Role::Cycle) => self.go_on_cycling(slot, index, ends),
            (Phase::Cycle, Role::Consume) => {
                self.ask_delete(slot, index, ends);
                if !slot.is_receiving() && slot.handle_ends.is_empty() {
                    self.turn_to_next_queue(slot, ends);
                    self.ask_receive(slot, index, WAIT_MS, ends);
                }
            }
            (Phase::Drain, Role::Cycle | Role::Consume) => {
                self.ask_delete(slot, index, ends);
                if !slot.is_receiving() && slot.handle_ends.is_empty() {
                    self.go_on_draining(slot, index, ends);
                }
            }
        }
    }

    fn go_on_cycling(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let is_in_rounds = self.options.shape == Shape::Rounds;
        let has_received = !slot.handle_ends.is_empty();
        if has_received {
            self.ask_delete(slot, index, ends);
            if !is_in_rounds {
                return;
            }
        }
        let is_turn = is_in_rounds || slot.last != Some(Step::Send);
        let sends = is_turn && self.books.outstanding(self.deleted) < self.outstanding_max;
        if sends {
            self.turn_to_next_queue(slot, ends);
            self.ask_send(slot, index, ends);
        }
        if is_in_rounds || !sends {
            self.ask_receive(slot, index, WAIT_MS, ends);
        }
    }

    /// Receives from the next queue that may have something; stops when all that is to come has come, or
    /// when nothing has come for so long that the rest is lost.
    fn go_on_draining(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let is_complete = self.books.is_complete();
        for _ in 0..ends.queues.len() {
            if !self.empty[ends.queues[slot.queue].0] {
                // A queue with many neighbours is not waited for: the next may have what is missing.
                let waits = !is_complete && ends.queues.len() <= ends.slots;
                return self.ask_receive(slot, index, if waits { DRAIN_WAIT_MS } else { 0 }, ends);
            }
            slot.queue = (slot.queue + 1) % ends.queues.len();
        }
        let fates = &self.options.fates;
        let hidden_seconds =
            if fates.is_plain() { 0 } else { fates.visibility_seconds + fates.delay_seconds };
        let quiet_ns = QUIET_NS + u64::from(hidden_seconds) * 1_000_000_000;
        if !is_complete && self.now_ns - self.last_arrival_ns < quiet_ns {
            slot.queue = (slot.queue + 1) % ends.queues.len();
            self.ask_receive(slot, index, DRAIN_WAIT_MS, ends);
        }
    }

    fn turn_to_next_queue(&self, slot: &mut Slot, ends: &Ends<'_>) {
        if ends.queues.len() > ends.slots {
            slot.queue = (slot.queue + ends.slots) % ends.queues.len();
        }
    }

    /// Makes the next batch for a queue.
    pub(super) fn make_batch(&mut self, queue: usize, groups: &mut Groups) {
        let Batch { bytes, entries } = &mut self.batch;
        bytes.clear();
        entries.clear();
        let is_fifo = self.options.fifo_groups > 0;
        for _ in 0..self.options.batch {
            let begin = bytes.len();
            bytes.resize(begin + self.options.bodies.next(&mut self.random), 0);
            let place = if is_fifo { groups.next() } else { 0 };
            let stream = queue as u64 * self.streams_per_queue + place;
            let number = self.books.next_of(stream, &mut bytes[begin..]);
            let is_delayed = self.options.fates.is_delayed(number);
            if is_delayed {
                self.books.delayed(number, self.now_ns);
            }
            let group = is_fifo.then_some(place % self.options.fifo_groups.max(1));
            let delay = is_delayed.then_some(self.options.fates.delay_seconds);
            entries.push((bytes.len(), group, delay));
        }
    }

    pub(super) fn write_batch(&self, output: &mut Vec<u8>, correlation: u32, broker_queue: u64) {
        let mut begin = 0;
        let messages = self.batch.entries.iter().map(|(end, group, delay_seconds)| {
            let body = &self.batch.bytes[begin..*end];
            begin = *end;
            Outgoing { body, delay_seconds: *delay_seconds, group: *group }
        });
        if self.options.fifo_groups == 0 {
            wire::write_send(output, correlation, broker_queue, messages);
        } else {
            wire::write_fifo_send(output, correlation, broker_queue, messages);
        }
    }

    fn ask_send(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let (queue, broker_queue) = ends.queues[slot.queue];
        self.make_batch(queue, ends.groups);
        let correlation = correlation(index, Step::Send, self.options.batch as u32);
        self.write_batch(ends.output, correlation, broker_queue);
        slot.sent_ns = self.now_ns;
        self.asked(slot, Step::Send);
    }

    fn ask_receive(&mut self, slot: &mut Slot, index: usize, wait_ms: u32, ends: &mut Ends<'_>) {
        let receive = Receive {
            messages_max: self.options.receive_max() as u8,
            wait_ms,
            visibility_seconds: Some(self.options.fates.visibility_seconds),
        };
        let broker_queue = ends.queues[slot.queue].1;
        wire::write_receive(ends.output, correlation(index, Step::Receive, 0), broker_queue, receive);
        slot.asked_ns = self.now_ns;
        self.asked(slot, Step::Receive);
    }

    /// Deletes what was received, if anything; later, where too many deletes are under way.
    pub(super) fn ask_delete(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        if slot.handle_ends.is_empty() {
            return;
        }
        let Some(place) = slot.place_for_deletion() else { return };
        let mut handles: [&[u8]; BATCH_MAX] = [&[]; BATCH_MAX];
        let mut start = 0;
        let count = slot.handle_ends.len().min(handles.len());
        for (handle, &end) in handles.iter_mut().zip(&slot.handle_ends) {
            *handle = &slot.handles[start..end];
            start = end;
        }
        let broker_queue = ends.queues[slot.queue].1;
        let correlation = correlation(index, Step::Delete, place as u32);
        wire::write_delete(ends.output, correlation, broker_queue, &handles[..count]);
        let visible_ns = u64::from(self.options.fates.visibility_seconds) * 1_000_000_000;
        let mut numbers = [None; BATCH_MAX];
        numbers.iter_mut().zip(&slot.numbers).for_each(|(place, number)| *place = *number);
        let expires_ns = slot.asked_ns + visible_ns;
        slot.deletions[place] =
            Some(Deletion { asked_ns: self.now_ns, expires_ns, count: count as u32, numbers });
        slot.handles.clear();
        slot.handle_ends.clear();
        slot.numbers.clear();
        self.asked(slot, Step::Delete);
    }
}
