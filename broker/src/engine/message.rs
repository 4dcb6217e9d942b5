//! What can happen to any stored message: it becomes visible, it expires, it goes.

use super::queue::Queue;
use super::records::{Kind, LIST_BYTES, ListHead, Listed, listed_bytes, message_overhead_bytes};
use super::slab::Slab;
use super::slot::{FLAG_ARRIVED, FLAG_CHANGED, FLAG_MEMBER, FLAG_MOVING, NONE, Slot, State};
use super::{DELIVERY_OVERHEAD_BYTES, Engine, append};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Log, Position};

/// Messages in one record of a list; more make another record.
pub(super) const LISTED_MAX: usize = 1_024;

/// Most bytes that a dead letter's fields are longer when it is given out than when it was sent: an ARN, and
/// a deduplication id.
pub(super) const SOURCE_BYTES_MAX: u32 = 256;

/// Bytes of body and fields that a message's record holds.
#[inline]
pub(super) fn content_bytes(slot: &Slot) -> u32 {
    slot.length - message_overhead_bytes(slot.flags())
}

/// Bytes that a message takes in a reply, at most.
#[inline]
pub(super) fn shown_bytes(slot: &Slot) -> u32 {
    let source = if slot.flags() & FLAG_ARRIVED == 0 { 0 } else { SOURCE_BYTES_MAX };
    content_bytes(slot) + DELIVERY_OVERHEAD_BYTES + source
}

/// Appends a slot to a queue's list of messages that were never delivered.
#[inline]
pub(super) fn link_fresh(slab: &mut Slab, queue: &mut Queue, index: u32) {
    let tail = queue.fresh_tail;
    let slot = &mut slab[index];
    slot.list_next = NONE;
    slot.list_previous = tail;
    link_fresh_behind(slab, queue, index);
}

/// Makes a slot whose own links say so already the last of that list.
#[inline]
pub(super) fn link_fresh_behind(slab: &mut Slab, queue: &mut Queue, index: u32) {
    let tail = std::mem::replace(&mut queue.fresh_tail, index);
    if tail == NONE {
        queue.fresh_head = index;
    } else {
        slab[tail].list_next = index;
    }
}

/// Takes a slot out of that list.
#[inline]
pub(super) fn unlink_fresh(slab: &mut Slab, queue: &mut Queue, index: u32) {
    let (previous, next) = (slab[index].list_previous, slab[index].list_next);
    if previous == NONE {
        queue.fresh_head = next;
    } else {
        slab[previous].list_next = next;
    }
    if next == NONE {
        queue.fresh_tail = previous;
    } else {
        slab[next].list_previous = previous;
    }
}

impl<F: Flaws> Engine<F> {
    /// Until when a message is kept.
    #[inline]
    pub(super) fn expiry_ms(&self, queue: &Queue, slot: &Slot) -> u64 {
        if slot.flags() & FLAG_MOVING != 0 {
            // It stays until it is known where it is.
            return u64::MAX;
        }
        queue.expiry_ms(slot.sent_at_ms(), slot.sequence, self.retention_lag_ms)
    }

    /// Whether a command that touches the message must take it as expired (rule 10).
    #[inline]
    pub(super) fn is_expired(&self, queue: &Queue, slot: &Slot) -> bool {
        !F::has(Flaw::JudgeExpiryByTimer) && self.expiry_ms(queue, slot) <= self.now_ms
    }

    /// The message that a handle or a record names, if it is still stored: it has this sequence, and
    /// was not purged, nor has it expired.
    #[inline]
    pub(super) fn find_message(&self, index: u32, sequence: u64) -> Option<u32> {
        let slot = self.slab.get(index)?;
        if slot.sequence != sequence || sequence == 0 {
            return None;
        }
        let queue = &self.queues[slot.queue];
        (!queue.is_gone(sequence) && !self.is_expired(queue, slot)).then_some(index)
    }

    /// Frees a message's slot and room in the log. What its going means for others (a record, an
    /// answer) is the caller's.
    pub(super) fn discard(&mut self, index: u32, log: &mut Log<F>) {
        let slot = &self.slab[index];
        let (queue_index, position, length) = (slot.queue, slot.position, slot.length);
        let queue = &mut self.queues[queue_index];
        if !queue.is_gone(slot.sequence) {
            queue.stored_bytes -= u64::from(content_bytes(slot));
            self.uncount(index);
        }
        self.slot_wheel.cancel(&mut self.slab, index);
        if self.slab[index].flags() & FLAG_MEMBER != 0 {
            self.forget_group(index);
        }
        if self.slab[index].flags() & FLAG_ARRIVED != 0 {
            self.uncount_origin(self.rares.get(index).source, log);
        }
        log.release(Position(position), length);
        self.slab.give_back(index);
        let queue = &mut self.queues[queue_index];
        queue.slots -= 1;
        if queue.deleted && queue.slots == 0 {
            self.retire_queue(queue_index);
        }
    }

    /// Takes a message out of its queue's list or map, and out of its counts.
    #[inline]
    pub(super) fn uncount(&mut self, index: u32) {
        let slot = &self.slab[index];
        let queue = &mut self.queues[slot.queue];
        if queue.attributes.fifo.is_some() {
            return self.uncount_fifo(index);
        }
        let is_member = slot.flags() & FLAG_MEMBER != 0;
        if is_member {
            self.leave_fair(index);
        }
        let slot = &self.slab[index];
        let queue = &mut self.queues[slot.queue];
        match slot.state() {
            State::Hidden => {
                let is_room_awaited = queue.is_room_awaited();
                queue.in_flight -= 1;
                if is_room_awaited {
                    self.mark_ready(self.slab[index].queue);
                }
            }
            State::Fresh => {
                queue.visible -= 1;
                if !is_member {
                    unlink_fresh(&mut self.slab, queue, index);
                }
            }
            State::Returned => {
                queue.visible -= 1;
                queue.returned.remove(&(slot.available_at_ms, slot.sequence));
            }
            State::Delayed => queue.delayed -= 1,
            State::Damaged => queue.damaged -= 1,
            State::Free | State::Replayed => unreachable!("only stored messages are counted"),
        }
    }

    /// A message that was hidden or delayed is visible, from the time in its slot on. Its timer is
    /// not running and runs again for its retention.
    pub(super) fn make_returned(&mut self, index: u32) {
        let slot = &self.slab[index];
        let (turn, queue_index) = ((slot.available_at_ms, slot.sequence), slot.queue);
        let queue = &mut self.queues[queue_index];
        if queue.attributes.fifo.is_some() {
            return self.make_returned_fifo(index);
        }
        let is_member = slot.flags() & FLAG_MEMBER != 0;
        match slot.state() {
            State::Hidden => {
                queue.in_flight -= 1;
                self.processed(index);
            }
            State::Delayed => queue.delayed -= 1,
            other => unreachable!("{other:?} messages do not become visible"),
        }
        if is_member {
            self.change_fair(index, State::Returned);
        } else {
            self.queues[queue_index].returned.insert(turn, index);
        }
        let queue = &mut self.queues[queue_index];
        queue.visible += 1;
        let waits = queue.is_awaited();
        let expiry_ms = self.expiry_ms(&self.queues[queue_index], &self.slab[index]);
        let slot = &mut self.slab[index];
        slot.set_state(State::Returned);
        slot.set_flags(slot.flags() & !FLAG_CHANGED);
        self.slot_wheel.start(&mut self.slab, index, expiry_ms);
        if waits {
            self.mark_ready(queue_index);
        }
    }

    /// Starts a hidden or delayed message's timer at its earliest deadline.
    #[inline]
    pub(super) fn start_timer(&mut self, index: u32) {
        let slot = &self.slab[index];
        let expiry_ms = self.expiry_ms(&self.queues[slot.queue], slot);
        let deadline_ms = match slot.state() {
            State::Hidden | State::Delayed => slot.available_at_ms.min(expiry_ms),
            _ => expiry_ms,
        };
        self.slot_wheel.start(&mut self.slab, index, deadline_ms);
    }

    /// A message has expired: it goes, and stands in the next Expired record.
    pub(super) fn expire(&mut self, index: u32, log: &mut Log<F>) {
        let slot = &self.slab[index];
        let queue_index = slot.queue;
        let listed = Listed { slot: index, receive_count: 0, sequence: slot.sequence, deadline_ms: 0 };
        self.queues[queue_index].totals.expired += 1;
        self.expired.push(listed);
        self.discard(index, log);
    }

    /// Journals the messages of one queue that have expired since.
    pub(super) fn flush_expired(&mut self, incarnation: u64, log: &mut Log<F>) {
        if !self.expired.is_empty() {
            let expired = std::mem::take(&mut self.expired);
            self.journal_list(Kind::Expired, incarnation, 0, &expired, log);
            self.expired = expired;
            self.expired.clear();
        }
    }

    /// Appends one record of what happened to some messages of a queue.
    #[inline]
    pub(super) fn journal_list(
        &mut self,
        kind: Kind,
        incarnation: u64,
        deadline_ms: u64,
        listed: &[Listed],
        log: &mut Log<F>,
    ) {
        for listed in listed.chunks(LISTED_MAX) {
            self.journal_few(kind, incarnation, deadline_ms, listed.iter().copied(), log);
        }
    }

    /// The same for at most [`LISTED_MAX`] messages, from wherever they are known.
    #[inline]
    pub(super) fn journal_few(
        &mut self,
        kind: Kind,
        incarnation: u64,
        deadline_ms: u64,
        listed: impl ExactSizeIterator<Item = Listed>,
        log: &mut Log<F>,
    ) {
        debug_assert!(listed.len() <= LISTED_MAX, "more messages make another record");
        let head = ListHead { incarnation, time_ms: self.now_ms, deadline_ms };
        let variable_bytes = listed.len() * listed_bytes(kind);
        append(log, self.now_ms, kind, LIST_BYTES, variable_bytes, false, |out| {
            head.write(kind, listed, out)
        });
    }
}
