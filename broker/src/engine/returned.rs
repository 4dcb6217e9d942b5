//! What the shard finds out about deliveries afterwards: that they never left, or that the message
//! is damaged.

use super::Engine;
use super::fifo_records::AttemptedMessage;
use super::outputs::DeliveredMessage;
use super::records::{Kind, Listed};
use super::slot::{FLAG_CHANGED, FLAG_MEMBER, FLAG_MOVING, State};
use crate::flaws::Flaws;
use crate::journal::Log;

impl<F: Flaws> Engine<F> {
    /// Takes deliveries back that never were written (rule 4). A message that was delivered again
    /// since, or is gone, is left as it is; and so is one that somebody with the handle of an earlier
    /// delivery has hidden for another time since, or that a repeated attempt was given: it stays hidden.
    pub(super) fn undelivered(&mut self, messages: &[DeliveredMessage], log: &mut Log<F>) {
        let mut listed = std::mem::take(&mut self.listed);
        let mut queue = None;
        listed.clear();
        for &message in messages {
            let Some(index) = self.find_message(message.slot, message.sequence) else { continue };
            let slot = &self.slab[index];
            let is_latest = slot.receive_count == message.receive_count && message.receive_count > 0;
            let is_changed = slot.available_at_ms > self.now_ms && slot.flags() & FLAG_CHANGED != 0;
            // What is on its way to another shard has become visible since.
            let is_moving = slot.flags() & FLAG_MOVING != 0;
            let is_waiting = matches!(slot.state(), State::Hidden | State::Returned);
            if !is_latest || is_changed || is_moving || !is_waiting {
                continue;
            }
            let slot_queue = Some(slot.queue);
            if queue != slot_queue {
                self.flush_undelivered(queue, &mut listed, log);
                queue = slot_queue;
            }
            listed.push(Listed {
                slot: index,
                receive_count: message.receive_count,
                sequence: message.sequence,
                deadline_ms: 0,
            });
            self.take_back(index, log);
        }
        self.flush_undelivered(queue, &mut listed, log);
        self.listed = listed;
    }

    fn take_back(&mut self, index: u32, log: &mut Log<F>) {
        let now_ms = self.now_ms;
        let slot = &self.slab[index];
        let is_fifo = self.is_fifo(slot.queue);
        if is_fifo && slot.state() == State::Hidden && slot.available_at_ms > now_ms {
            let (receive_count, sequence) = (slot.receive_count, slot.sequence);
            let message = AttemptedMessage { slot: index, receive_count, sequence };
            self.attempts.take_back(self.delivered_at_ms(index), message, now_ms, log);
        }
        let slot = &mut self.slab[index];
        slot.receive_count -= 1;
        if is_fifo {
            return self.take_back_fifo(index);
        }
        if slot.state() == State::Hidden {
            slot.give_back(now_ms);
            // Nobody has begun to process it.
            slot.list_previous = slot.after_sent(now_ms);
            self.slot_wheel.cancel(&mut self.slab, index);
            self.make_returned(index);
        }
    }

    fn flush_undelivered(&mut self, queue: Option<u32>, listed: &mut Vec<Listed>, log: &mut Log<F>) {
        if let Some(queue) = queue {
            let incarnation = self.queues[queue].incarnation;
            let received = &mut self.queues[queue].totals.received;
            *received = received.saturating_sub(listed.len() as u64);
            self.journal_list(Kind::Undelivered, incarnation, 0, listed, log);
            listed.clear();
        }
    }

    /// Sets a message aside whose record is damaged (rule 15).
    pub(super) fn set_aside(&mut self, index: u32, sequence: u64, log: &mut Log<F>) {
        let Some(index) = self.find_message(index, sequence) else { return };
        if self.slab[index].state() == State::Damaged {
            return;
        }
        self.stop_moving(index, log);
        let is_fifo = self.is_fifo(self.slab[index].queue);
        if is_fifo {
            // It stays in the list that expires it; its group goes on without it.
            self.uncount_member(index);
            self.forget_group(index);
        } else {
            self.uncount(index);
            if self.slab[index].flags() & FLAG_MEMBER != 0 {
                self.forget_group(index);
            }
        }
        self.slot_wheel.cancel(&mut self.slab, index);
        let slot = &mut self.slab[index];
        slot.set_state(State::Damaged);
        let queue = &mut self.queues[slot.queue];
        queue.damaged += 1;
        let incarnation = queue.incarnation;
        if !is_fifo {
            self.start_timer(index);
        }
        let listed = Listed { slot: index, receive_count: 0, sequence, deadline_ms: 0 };
        self.journal_list(Kind::Damaged, incarnation, 0, &[listed], log);
    }
}
