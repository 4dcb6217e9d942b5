//! What FIFO queues promise beyond the others: order and lock of each group, and that a message which is
//! sent again is not stored again.

use super::{Checker, Ending, Window};
use crate::simulator::message::{Existence, Hold, HoldKind, Removal};
use crate::simulator::plan::SECOND;

/// Groups of a FIFO queue.
const GROUPS: u64 = 3;
/// A message is sent again within this time of its first send; the broker remembers it for longer,
/// however late the repeat arrives.
const AGAIN_NS: u64 = 100 * SECOND;
/// For how long the broker remembers it.
const WINDOW_NS: u64 = 300 * SECOND;

/// The group that a message is sent to.
pub fn group_of(id: u64) -> u64 {
    id % GROUPS
}

impl Checker {
    /// Whether the queue of a name is a FIFO queue.
    pub fn is_fifo(&self, name: usize) -> bool {
        self.has_fifo && name % 2 == 1
    }

    /// Whether this is the number of a FIFO queue.
    pub fn is_fifo_number(&self, number: u64) -> bool {
        self.queues.get(&number).is_some_and(|queue| self.is_fifo(queue.name))
    }

    /// A message of a FIFO queue has this sequence number, as the broker says.
    pub fn has_sequence(&mut self, id: u64, sequence: u64) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        if *message.sequence.get_or_insert(sequence) != sequence || sequence == 0 {
            return self.violation(format!("message {id} has two sequence numbers, or none"));
        }
        self.groups.entry((message.queue, group_of(id))).or_default().insert(sequence, id);
    }

    /// Messages of a FIFO queue were received together, in this order: none of them may have overtaken
    /// another of its group, nor have come while another was in flight.
    pub fn check_groups(&mut self, queue: u64, received: &[(u64, u64)], window: Window) {
        for (place, &(id, sequence)) in received.iter().enumerate() {
            let group = self.groups.entry((queue, group_of(id))).or_default();
            let messages = &self.messages;
            while let Some(first) = group.first_entry()
                && matches!(messages[first.get()].removal, Removal::Yes { .. })
            {
                first.remove();
            }
            let before: Vec<u64> = group.range(..sequence).map(|(_, &id)| id).collect();
            let passed = before.into_iter().find(|before| {
                let message = &self.messages[before];
                matches!(message.existence, Existence::Yes { .. })
                    && !self.may_be_gone(message, window.to_ns)
                    && !received[..place].iter().any(|(earlier, _)| earlier == before)
            });
            if let Some(passed) = passed
                && !self.rot
            {
                self.violation(format!("message {id} overtook message {passed} of its group"));
            }
            if let Some(held) = self.held_in_group(queue, id, received, window)
                && !self.rot
            {
                self.violation(format!("message {id} came while message {held} of its group was in flight"));
            }
        }
    }

    /// Another message of the group that was certainly in flight all the time.
    fn held_in_group(&self, queue: u64, id: u64, received: &[(u64, u64)], window: Window) -> Option<u64> {
        let group = self.groups.get(&(queue, group_of(id)))?;
        let is_held = |other: &u64| {
            let message = &self.messages[other];
            let is_delivery = |hold: &Hold| matches!(hold.kind, HoldKind::Delivery { .. });
            let Some(last) = message.holds.last() else { return false };
            last.certain
                && last.to_ns < window.from_ns
                && message.holds.iter().all(is_delivery)
                && self.elapsed_ns_max(last.from_ns, window.to_ns) < last.hidden_ns
                && !self.may_be_gone(message, window.to_ns)
        };
        group.values().copied().find(|other| !received.iter().any(|(id, _)| id == other) && is_held(other))
    }

    /// Whether a message may be sent again and must be known.
    pub fn may_send_again(&self, id: u64, now_ns: u64) -> bool {
        let Some(message) = self.messages.get(&id) else { return false };
        let Some(queue) = self.queues.get(&message.queue) else { return false };
        message.send_has_ended
            && message.existence != Existence::No
            && !queue.may_be_gone()
            && now_ns < message.sent_from_ns() + AGAIN_NS
    }

    /// A message is sent again.
    pub fn repeat_began(&mut self) {
        self.sends_under_way += 1;
    }

    /// The repeat of a message's send has ended.
    pub fn repeat_ended(&mut self, id: u64, ending: Ending, accepted: Option<([u8; 16], u64)>) {
        self.sends_under_way -= 1;
        let (Ending::Done(window), Some((broker_id, sequence))) = (ending, accepted) else { return };
        let Some(message) = self.messages.get_mut(&id) else { return };
        let from_ns = message.sent_from_ns();
        if let Existence::Maybe { .. } = message.existence {
            message.existence = Existence::Yes { from_ns, to_ns: window.to_ns };
        }
        if self.elapsed_ns_max(from_ns, window.to_ns) < WINDOW_NS {
            self.has_broker_id(id, broker_id);
            self.has_sequence(id, sequence);
        }
    }
}
