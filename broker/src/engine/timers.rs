//! What time brings: deadlines, and the slices of longer work, a bounded number of steps a call.

use super::slot::{FLAG_MOVING, NONE, State};
use super::wheel::{Step, Wheel};
use super::{Engine, Outputs};
use crate::flaws::Flaws;
use crate::journal::{Log, Room};

/// Of the steps of a call, this part is kept for sweeping however many timers are due.
const SWEEP_PART: u32 = 4;

impl<F: Flaws> Engine<F> {
    /// Runs timers that are due and slices of longer work, at most `steps` of them (a step takes
    /// well under a microsecond). `true`: more is due now.
    pub fn advance(&mut self, now_ms: u64, log: &mut Log<F>, out: &mut Outputs, steps: u32) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        self.free_names(log);
        self.unblock(log);
        self.continue_receives(log, out);
        let mut steps = steps.max(SWEEP_PART);
        let sweeps = !self.sweep.is_idle() || self.has_discarded();
        let reserved = if sweeps { steps / SWEEP_PART } else { 0 };
        steps -= reserved;
        steps = self.end_waits(steps, out);
        steps = self.run_queue_timers(steps, log);
        steps = self.run_slot_timers(steps, log);
        steps = self.deduplication.forget(self.now_ms, steps, log);
        steps = self.attempts.forget(self.now_ms, steps, log);
        let is_late = steps == 0;
        steps = self.drop_maps(steps + reserved);
        self.sweep_slots(steps, log);
        let has_tasks = self.run_tasks(log);
        self.serve_ready(log, out);
        // A sweep may have made timers due.
        is_late || sweeps || has_tasks || self.has_letters_to_move()
    }

    /// The next time at which [`Engine::advance`] has something to do, unless commands bring more.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if !self.sweep.is_idle() || self.has_discarded() || self.has_letters_to_move() {
            return Some(self.now_ms);
        }
        let name = self.tombstones.order.front().map(|&(free_at_ms, _)| free_at_ms);
        [
            self.slot_wheel.next_deadline_ms(),
            self.queue_wheel.next_deadline_ms(),
            self.waits.next_deadline_ms(),
            self.tasks.next_deadline_ms(),
            self.deduplication.next_deadline_ms(),
            self.attempts.next_deadline_ms(),
            self.letters_deadline_ms(),
            name,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn run_slot_timers(&mut self, mut steps: u32, log: &mut Log<F>) -> u32 {
        let mut queue = NONE;
        while steps > 0 {
            steps -= 1;
            let index = match self.slot_wheel.step(&mut self.slab, self.now_ms) {
                Step::Idle => {
                    steps += 1;
                    break;
                }
                Step::Moved(index) => {
                    self.start_timer(index);
                    continue;
                }
                Step::Due(index) => index,
            };
            let slot_queue = self.slab[index].queue;
            if queue != slot_queue {
                self.flush_expired_of(queue, log);
                queue = slot_queue;
            }
            self.slot_is_due(index, log);
        }
        self.flush_expired_of(queue, log);
        steps
    }

    fn slot_is_due(&mut self, index: u32, log: &mut Log<F>) {
        let slot = &self.slab[index];
        let queue = &self.queues[slot.queue];
        if queue.is_gone(slot.sequence) {
            // Its queue may be retired by this; expired ones of it were journaled or never were.
            return self.discard(index, log);
        }
        if self.expiry_ms(queue, slot) <= self.now_ms {
            return self.expire(index, log);
        }
        match slot.state() {
            State::Hidden | State::Delayed if slot.available_at_ms <= self.now_ms => {
                self.make_returned(index)
            }
            _ => self.start_timer(index),
        }
    }

    /// Expires a queue's messages that were never delivered, from the oldest on.
    fn run_queue_timers(&mut self, mut steps: u32, log: &mut Log<F>) -> u32 {
        while steps > 0 {
            steps -= 1;
            match self.queue_wheel.step(&mut self.queues, self.now_ms) {
                Step::Idle => {
                    steps += 1;
                    break;
                }
                Step::Moved(index) => self.start_queue_timer(index),
                Step::Due(index) => {
                    while steps > 0
                        && let Some((expiry_ms, slot)) = self.first_to_expire(index)
                        && expiry_ms <= self.now_ms
                    {
                        steps -= 1;
                        self.expire(slot, log);
                    }
                    self.flush_expired_of(index, log);
                    if self.is_fifo(index) {
                        steps = self.move_delay_cursor(index, steps);
                    }
                    self.start_queue_timer(index);
                }
            }
        }
        steps
    }

    /// Starts a queue's timer for the oldest message of its list, if there is one, or for the first
    /// whose delay ends.
    #[inline]
    pub(super) fn start_queue_timer(&mut self, index: u32) {
        if Wheel::is_started(&self.queues, index) {
            return;
        }
        if let Some((expiry_ms, _)) = self.first_to_expire(index) {
            let queue = &self.queues[index];
            let is_fifo = queue.attributes.fifo.is_some();
            let delay_ms = if is_fifo { self.delay_cursor_due_ms(queue) } else { None };
            let deadline_ms = expiry_ms.min(delay_ms.unwrap_or(u64::MAX));
            self.queue_wheel.start(&mut self.queues, index, deadline_ms);
        }
    }

    /// A queue's settings have changed: its timer may be due earlier now.
    pub(super) fn restart_queue_timer(&mut self, index: u32) {
        self.queue_wheel.cancel(&mut self.queues, index);
        self.start_queue_timer(index);
    }

    /// Of the messages of a queue without timers of their own, the one that expires next, and when.
    #[inline]
    fn first_to_expire(&self, index: u32) -> Option<(u64, u32)> {
        let queue = &self.queues[index];
        let mut head = queue.fresh_head;
        // What is on its way to another shard does not expire, nor keep what stands behind it from that.
        while head != NONE && self.slab[head].flags() & FLAG_MOVING != 0 {
            head = self.slab[head].list_next;
        }
        let plain = (head != NONE).then_some(head);
        let grouped = if queue.fair.is_some() { self.first_fair_fresh(index) } else { None };
        let heads = plain.into_iter().chain(grouped);
        heads.map(|head| (self.expiry_ms(queue, &self.slab[head]), head)).min()
    }

    fn flush_expired_of(&mut self, index: u32, log: &mut Log<F>) {
        if let Some(queue) = self.queues.get(index) {
            let incarnation = queue.incarnation;
            self.flush_expired(incarnation, log);
        }
    }

    /// Queues that found no room in the log are tried again once there is some.
    fn unblock(&mut self, log: &Log<F>) {
        if !self.blocked.is_empty() && log.room() != Room::NoReceives {
            for index in std::mem::take(&mut self.blocked) {
                if self.queues.get(index).is_some() {
                    self.mark_ready(index);
                }
            }
        }
    }
}
