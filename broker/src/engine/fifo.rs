//! FIFO queues: order within a group, and the lock that messages in flight are.
//!
//! All messages of a FIFO queue stand in one list in the order of their sequences, whatever their
//! state, so that what expires next is at its head and one timer does for the queue. Beside it each
//! stands in its group's list. A group is ready when its first message is visible and none of the
//! group is in flight; a delayed or hidden first message keeps all behind it waiting, so that nothing
//! overtakes. What was set aside as damaged stands in the queue's list only: its group goes on
//! (rule 15).
//!
//! The queue's delay holds for what is stored, too: a message that was never received is delayed as
//! long as its age is less than the delay is *now*. Of such messages a suffix of the list is delayed,
//! since they stand in the order of their times. [`Queue::delay_cursor`](super::queue::Queue) is where
//! it begins; it moves on as time goes by, and back when the delay grows, in slices (rule 31). A
//! command judges by age and delay, never by where the cursor is (rule 10).

use super::Engine;
use super::groups::Member;
use super::keyed_hash::Key;
use super::message::{link_fresh, unlink_fresh};
use super::queue::Queue;
use super::slot::{FLAG_CHANGED, FLAG_MEMBER, FLAG_MOVING, NONE, Slot, State};
use crate::flaws::{Flaw, Flaws};

/// Until when a message of a FIFO queue is delayed, if it was never received.
#[inline]
pub(super) fn delayed_until_ms(queue: &Queue, slot: &Slot) -> u64 {
    if slot.receive_count > 0 { 0 } else { slot.sent_at_ms() + queue.attributes.delay_ms() }
}

impl<F: Flaws> Engine<F> {
    /// Whether a queue is a FIFO queue.
    #[inline]
    pub(super) fn is_fifo(&self, queue_index: u32) -> bool {
        self.queues[queue_index].attributes.fifo.is_some()
    }

    /// What a message of a FIFO queue is that is neither in flight nor damaged.
    #[inline]
    fn waiting_state(&self, index: u32) -> State {
        let slot = &self.slab[index];
        if slot.receive_count > 0 {
            State::Returned
        } else if delayed_until_ms(&self.queues[slot.queue], slot) > self.now_ms {
            State::Delayed
        } else {
            State::Fresh
        }
    }

    /// Links a message of a FIFO queue behind all others of its queue and its group, and counts it.
    /// Its state is set but for the one of messages that wait, which is told from its age.
    pub(super) fn link_fifo(&mut self, index: u32, group: Option<u32>) {
        let state = match self.slab[index].state() {
            held @ (State::Hidden | State::Damaged) => held,
            _ => self.waiting_state(index),
        };
        let slot = &mut self.slab[index];
        slot.set_state(state);
        let queue_index = slot.queue;
        let queue = &mut self.queues[queue_index];
        match state {
            State::Hidden => queue.in_flight += 1,
            State::Delayed => queue.delayed += 1,
            State::Damaged => queue.damaged += 1,
            _ => queue.visible += 1,
        }
        // Whatever its state: one in flight is delayed again where its delivery never left.
        self.begin_delay(queue_index, index);
        link_fresh(&mut self.slab, &mut self.queues[queue_index], index);
        if let Some(group) = group {
            let slot = &mut self.slab[index];
            slot.set_flags(slot.flags() | FLAG_MEMBER);
            let purged_through = self.queues[queue_index].purged_through;
            self.join_group(index, group, state == State::Hidden, purged_through);
        }
    }

    /// The queue's delayed messages begin with one that comes behind all others, if it is the first.
    pub(super) fn begin_delay(&mut self, queue_index: u32, index: u32) {
        let queue = &self.queues[queue_index];
        if queue.delay_cursor == NONE && self.is_young(queue, index) {
            self.queues[queue_index].delay_cursor = index;
            // The queue's timer may stand much later.
            self.queue_wheel.cancel(&mut self.queues, queue_index);
        }
    }

    /// Puts a message, whose slot has the flag of members, behind all others of a group. It says what its
    /// queue was purged through.
    #[inline]
    pub(super) fn join_group(&mut self, index: u32, place: u32, is_in_flight: bool, purged_through: u64) {
        let group = &mut self.groups[place];
        if group.purged_through != purged_through {
            group.begin_anew(purged_through);
        }
        let before = std::mem::replace(&mut group.tail, index);
        group.slots += 1;
        group.in_flight += u32::from(is_in_flight);
        let member = self.members.entry(index);
        (member.group, member.next, member.previous) = (place, NONE, before);
        if before == NONE {
            group.head = index;
            self.place_group(place);
        } else {
            self.members.entry(before).next = index;
            if is_in_flight {
                self.place_group(place);
            }
        }
    }

    /// Takes a message of a queue out of its group's list. The slot still refers to the group.
    #[inline]
    pub(super) fn leave_group(&mut self, queue_index: u32, index: u32, is_in_flight: bool) {
        let Member { group: place, next, previous, .. } = self.members.get(index);
        if previous != NONE {
            self.members.entry(previous).next = next;
        }
        if next != NONE {
            self.members.entry(next).previous = previous;
        }
        let group = &mut self.groups[place];
        if previous == NONE {
            group.head = next;
        }
        if next == NONE {
            group.tail = previous;
        }
        group.in_flight -= u32::from(is_in_flight);
        if group.head != NONE {
            self.place_group(place);
        } else {
            self.queues[queue_index].ready_groups.remove(&mut self.groups, place);
        }
    }

    /// The slot does not refer to its group any more.
    pub(super) fn forget_group(&mut self, index: u32) {
        let slot = &mut self.slab[index];
        slot.set_flags(slot.flags() & !FLAG_MEMBER);
        self.let_go_of_group(index);
    }

    /// One slot less refers to the group that this one does. The group goes with the last one.
    #[inline]
    pub(super) fn let_go_of_group(&mut self, index: u32) {
        let place = self.members.get(index).group;
        let group = &mut self.groups[place];
        group.slots -= 1;
        if group.slots == 0 {
            self.groups.leave_empty(place);
        }
    }

    /// Puts a group that has messages where it belongs: among the ready ones by its first message's
    /// turn, or not among them.
    pub(super) fn place_group(&mut self, place: u32) {
        let group = &self.groups[place];
        let head = &self.slab[group.head];
        let is_unlocked = group.in_flight == 0 || F::has(Flaw::UnlockGroupsEarly);
        let is_ready = is_unlocked && matches!(head.state(), State::Fresh | State::Returned);
        let turn = is_ready.then_some((head.available_at_ms, head.sequence));
        if turn == group.turn() {
            return;
        }
        let queue_index = head.queue;
        let queue = &mut self.queues[queue_index];
        queue.ready_groups.remove(&mut self.groups, place);
        if let Some(turn) = turn {
            queue.ready_groups.insert(&mut self.groups, place, turn);
            if queue.waiting > 0 {
                self.mark_ready(queue_index);
            }
        }
    }

    /// Takes a message of a FIFO queue out of everything and out of its counts.
    pub(super) fn uncount_fifo(&mut self, index: u32) {
        if self.slab[index].state() == State::Damaged {
            self.queues[self.slab[index].queue].damaged -= 1;
        } else {
            self.uncount_member(index);
        }
        self.unlink_fifo(self.slab[index].queue, index);
    }

    /// Takes a message out of its queue's list.
    #[inline]
    pub(super) fn unlink_fifo(&mut self, queue_index: u32, index: u32) {
        let queue = &mut self.queues[queue_index];
        if queue.delay_cursor == index {
            queue.delay_cursor = self.slab[index].list_next;
        }
        unlink_fresh(&mut self.slab, queue, index);
    }

    /// Takes a message out of its group and its counts; in its queue's list it stays.
    pub(super) fn uncount_member(&mut self, index: u32) {
        let slot = &self.slab[index];
        let queue_index = slot.queue;
        let queue = &mut self.queues[queue_index];
        let state = slot.state();
        match state {
            State::Hidden => {
                queue.in_flight -= 1;
                if queue.waiting > 0 {
                    self.mark_ready(queue_index);
                }
            }
            State::Delayed => queue.delayed -= 1,
            _ => queue.visible -= 1,
        }
        self.leave_group(queue_index, index, state == State::Hidden);
    }

    /// A hidden message of a FIFO queue is visible, or delayed, from the time in its slot on. Its timer
    /// is not running, and it needs none.
    pub(super) fn make_returned_fifo(&mut self, index: u32) {
        let slot = &self.slab[index];
        let queue_index = slot.queue;
        let place = self.members.get(index).group;
        self.queues[queue_index].in_flight -= 1;
        self.groups[place].in_flight -= 1;
        self.begin_waiting(index);
        self.place_group(place);
        if self.queues[queue_index].waiting > 0 {
            self.mark_ready(queue_index);
        }
    }

    /// Gives a message the state of one that waits, and counts it as such.
    fn begin_waiting(&mut self, index: u32) {
        let slot = &mut self.slab[index];
        if slot.receive_count == 0 {
            // It goes back to its place, as if it had not been received.
            slot.available_at_ms = slot.sent_at_ms();
        }
        let state = self.waiting_state(index);
        let slot = &mut self.slab[index];
        slot.set_state(state);
        slot.set_flags(slot.flags() & !FLAG_CHANGED);
        let queue = &mut self.queues[slot.queue];
        if state == State::Delayed {
            queue.delayed += 1;
        } else {
            queue.visible += 1;
        }
    }

    /// A delivery of a message of a FIFO queue never left; its receive does not count any more.
    pub(super) fn take_back_fifo(&mut self, index: u32) {
        let now_ms = self.now_ms;
        let slot = &mut self.slab[index];
        if slot.state() == State::Hidden {
            slot.available_at_ms = slot.available_at_ms.min(now_ms);
            self.slot_wheel.cancel(&mut self.slab, index);
            return self.make_returned_fifo(index);
        }
        self.queues[slot.queue].visible -= 1;
        self.begin_waiting(index);
        self.place_group(self.members.get(index).group);
    }

    /// A message that waits is delayed now, or is not any more.
    pub(super) fn change_delayed(&mut self, index: u32, is_delayed: bool) {
        let slot = &mut self.slab[index];
        let queue = &mut self.queues[slot.queue];
        match (slot.state(), is_delayed) {
            (State::Fresh, true) => {
                slot.set_state(State::Delayed);
                queue.visible -= 1;
                queue.delayed += 1;
            }
            (State::Delayed, false) => {
                slot.set_state(State::Fresh);
                queue.visible += 1;
                queue.delayed -= 1;
            }
            _ => return,
        }
        let place = self.members.get(index).group;
        if self.groups[place].head == index {
            self.place_group(place);
        }
    }

    /// Moves a FIFO queue's cursor to where its delayed messages begin. Says how many of the steps
    /// are left; with none it may have to go on.
    pub(super) fn move_delay_cursor(&mut self, queue_index: u32, mut steps: u32) -> u32 {
        while steps > 0 {
            let queue = &self.queues[queue_index];
            let (cursor, before) = (queue.delay_cursor, self.before_cursor(queue));
            // All the way back first, and then on.
            if before != NONE && self.is_left_behind(queue, before) {
                self.queues[queue_index].delay_cursor = before;
                if self.slab[before].receive_count == 0 {
                    self.change_delayed(before, true);
                }
            } else if queue.delay_back_to_ms != u64::MAX {
                self.queues[queue_index].delay_back_to_ms = u64::MAX;
            } else if cursor != NONE && !self.is_young(queue, cursor) {
                self.queues[queue_index].delay_cursor = self.slab[cursor].list_next;
                self.change_delayed(cursor, false);
            } else {
                break;
            }
            steps -= 1;
        }
        steps
    }

    /// When a FIFO queue's cursor has to move next.
    pub(super) fn delay_cursor_due_ms(&self, queue: &Queue) -> Option<u64> {
        let before = self.before_cursor(queue);
        if before != NONE && self.is_left_behind(queue, before) {
            return Some(self.now_ms);
        }
        let cursor = queue.delay_cursor;
        (cursor != NONE).then(|| self.slab[cursor].sent_at_ms() + queue.attributes.delay_ms())
    }

    fn before_cursor(&self, queue: &Queue) -> u32 {
        if queue.delay_cursor == NONE {
            queue.fresh_tail
        } else {
            self.slab[queue.delay_cursor].list_previous
        }
    }

    /// Whether the queue's delay has not passed since a message was sent.
    fn is_young(&self, queue: &Queue, index: u32) -> bool {
        self.slab[index].sent_at_ms() + queue.attributes.delay_ms() > self.now_ms
    }

    /// Whether the cursor has to go back to a message before it.
    fn is_left_behind(&self, queue: &Queue, index: u32) -> bool {
        self.is_young(queue, index) || self.slab[index].sent_at_ms() > queue.delay_back_to_ms
    }

    /// A FIFO queue's delay was set; before, it was this.
    pub(super) fn delay_was_set(&mut self, queue_index: u32, before_ms: u64) {
        let now_ms = self.now_ms;
        let queue = &mut self.queues[queue_index];
        let delay_ms = queue.attributes.delay_ms();
        queue.delay_back_to_ms = queue.delay_back_to_ms.min(now_ms.saturating_sub(delay_ms));
        let cursor = queue.delay_cursor;
        if cursor != NONE && delay_ms > before_ms {
            let sent_at_ms = self.slab[cursor].sent_at_ms();
            if sent_at_ms + before_ms <= now_ms {
                // It had to move on. What came behind it meanwhile was not delayed, and may be now.
                queue.delay_cursor = NONE;
                queue.delay_back_to_ms = queue.delay_back_to_ms.min(sent_at_ms.saturating_sub(1));
            }
        }
        self.restart_queue_timer(queue_index);
    }

    /// Recovery: the group that a message's record names.
    pub(super) fn replay_group(&mut self, index: u32, key: Key) {
        let group = self.groups.find_or_make(key);
        *self.members.entry(index) = Member::of(group);
    }

    /// Recovery: takes a message of a FIFO queue that is still stored; it is linked later.
    pub(super) fn recover_fifo_slot(&mut self, index: u32) {
        let now_ms = self.now_ms;
        let slot = &mut self.slab[index];
        if slot.state() != State::Damaged && slot.flags() & FLAG_MEMBER == 0 {
            // Only what lost its record has no group.
            slot.set_state(State::Damaged);
        }
        if slot.receive_count == 0 && slot.flags() & FLAG_MOVING == 0 {
            slot.available_at_ms = slot.sent_at_ms();
        }
        if slot.state() == State::Damaged {
            slot.set_flags(slot.flags() & !FLAG_MEMBER);
        } else if slot.flags() & FLAG_MOVING != 0 {
            slot.set_state(State::Hidden);
        } else if slot.receive_count > 0 && slot.available_at_ms > now_ms {
            slot.set_state(State::Hidden);
            self.members.entry(index).delivered_after_ms = slot.list_previous;
            if !F::has(Flaw::DropTimersAfterRestart) {
                self.start_timer(index);
            }
        }
    }

    /// Recovery: links a message behind those with lower sequences.
    pub(super) fn recover_fifo_link(&mut self, index: u32) {
        let is_member = self.slab[index].flags() & FLAG_MEMBER != 0;
        let group = is_member.then(|| self.members.get(index).group);
        self.link_fifo(index, group);
    }

    /// Recovery: groups whose messages are all gone go.
    pub(super) fn recover_groups(&mut self) {
        for place in self.groups.places() {
            if self.groups.is_used(place) && self.groups[place].slots == 0 {
                self.groups.leave_empty(place);
            }
        }
    }

    /// When a message was last delivered; only meaningful while it is in flight.
    #[inline]
    pub(super) fn delivered_at_ms(&self, index: u32) -> u64 {
        let slot = &self.slab[index];
        if slot.flags() & FLAG_MEMBER != 0 && self.is_fifo(slot.queue) {
            slot.sent_at_ms() + u64::from(self.members.get(index).delivered_after_ms)
        } else {
            slot.delivered_at_ms()
        }
    }
}
