//! Handing out messages of FIFO queues.

use tenpin_protocol::MessageState;

use super::Engine;
use super::fifo::delayed_until_ms;
use super::handle::Handle;
use super::letters::{LetterStep, Letters};
use super::message::shown_bytes;
use super::outputs::{Delivery, Outputs, Refusal};
use super::receive::{CLEARED_MAX, Receive};
use super::slot::{FLAG_MOVING, NONE, Slot, State};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};
use crate::prefetch::prefetch;
use tenpin_protocol::ErrorCode;

/// What a receive has taken so far.
struct Taking {
    count: usize,
    count_max: usize,
    bytes: u64,
    bytes_max: u64,
    deadline_ms: u64,
    /// Messages that were passed over because they expired or are delayed by now: at
    /// [`CLEARED_MAX`] the receive goes on in the next turn, and the timers that are due do the rest in
    /// slices meanwhile.
    cleared: usize,
    /// There is more to pass over, or there are more dead letters than one receive moves, or one must be read
    /// first.
    has_more: bool,
}

/// Whether a receive goes on with the next group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Group,
    Enough,
}

impl<F: Flaws> Engine<F> {
    /// Takes messages of a FIFO queue: of the first ready group as many as fit, in their order, then
    /// of the next. They are hidden then, without timers yet. Dead letters on the way are moved; says
    /// whether the receive has to go on in the next turn where it has found nothing.
    pub(super) fn take_fifo(
        &mut self,
        queue_index: u32,
        receive: Receive,
        count_max: usize,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> bool {
        let mut letters = self.letters_of(queue_index);
        let mut taking = Taking {
            count: 0,
            count_max,
            bytes: 0,
            bytes_max: receive.reply_bytes_max.into(),
            deadline_ms: self.now_ms + receive.visibility_ms,
            cleared: 0,
            has_more: false,
        };
        while taking.count < count_max
            && let Some(group) = self.queues[queue_index].ready_groups.take_first(&mut self.groups)
        {
            // Whatever comes of it puts it back if it is still ready.
            if self.take_of_group(queue_index, group, &mut taking, &mut letters, log, out) == Next::Enough {
                break;
            }
        }
        self.flush_letters(queue_index, letters, log);
        taking.has_more
    }

    /// The first message of the first ready group.
    pub(super) fn first_ready(&self, queue_index: u32) -> Option<u32> {
        let group = self.queues[queue_index].ready_groups.first(&self.groups)?;
        Some(self.groups[group].head)
    }

    /// Takes what fits of a group that was ready, and puts it back among the ready ones if it still is.
    #[inline]
    fn take_of_group(
        &mut self,
        queue_index: u32,
        place: u32,
        taking: &mut Taking,
        letters: &mut Option<Letters>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> Next {
        let (mut index, before) = (self.groups[place].head, taking.count);
        let mut next = Next::Group;
        let mut was_delayed = 0;
        while index != NONE && taking.count < taking.count_max {
            // Behind a backlog they are in no cache.
            let behind = self.members.get(index).next;
            if behind != NONE {
                prefetch(&self.slab[behind]);
                self.members.expect(behind);
            }
            let (queue, slot) = (&self.queues[queue_index], &self.slab[index]);
            if slot.state() == State::Hidden {
                // Only a group that was unlocked early has one behind a visible one.
                break;
            }
            let is_expired = self.is_expired(queue, slot);
            if is_expired || delayed_until_ms(queue, slot) > self.now_ms {
                if taking.count > before {
                    break;
                }
                return self.clear_head(index, place, is_expired, taking, log);
            }
            if let Some(letters) = letters
                && let Some(target) = self.is_letter(index, queue_index, letters)
            {
                if taking.count > before {
                    break;
                }
                match self.move_fifo_letter(index, target, log) {
                    LetterStep::Moved => return Next::Group,
                    LetterStep::Later => {
                        taking.has_more = true;
                        next = Next::Enough;
                        break;
                    }
                    LetterStep::Stays => {}
                }
            }
            let slot = &mut self.slab[index];
            let bytes = u64::from(shown_bytes(slot));
            if taking.count > 0 && taking.bytes + bytes > taking.bytes_max {
                next = Next::Enough;
                break;
            }
            taking.bytes += bytes;
            taking.count += 1;
            was_delayed += u64::from(slot.state() == State::Delayed);
            let after_sent = slot.hide_of_fifo(self.now_ms, taking.deadline_ms);
            let slot = &self.slab[index];
            out.deliveries.push(self.fifo_delivery(index, slot));
            let member = self.members.entry(index);
            member.delivered_after_ms = after_sent;
            index = behind;
        }
        let taken = taking.count - before;
        let queue = &mut self.queues[queue_index];
        queue.delayed -= was_delayed;
        queue.visible -= taken as u64 - was_delayed;
        queue.in_flight += taken as u64;
        self.groups[place].in_flight += taken as u32;
        self.place_group(place);
        next
    }

    /// The first message of a group expired, or is delayed by a delay that has grown, and its timer
    /// has not run yet.
    #[cold]
    fn clear_head(
        &mut self,
        index: u32,
        place: u32,
        is_expired: bool,
        taking: &mut Taking,
        log: &mut Log<F>,
    ) -> Next {
        if taking.cleared == CLEARED_MAX {
            taking.has_more = true;
            self.place_group(place);
            return Next::Enough;
        }
        taking.cleared += 1;
        if is_expired {
            self.expire(index, log);
        } else {
            self.change_delayed(index, true);
        }
        Next::Group
    }

    /// A message of a FIFO queue that is in flight, as it is given out.
    #[inline]
    pub(super) fn fifo_delivery(&self, index: u32, slot: &Slot) -> Delivery {
        Delivery {
            position: Position(slot.position),
            length: slot.length,
            slot: index,
            sequence: slot.sequence,
            sequence_number: slot.sequence,
            sent_at_ms: slot.sent_at_ms(),
            first_received_at_ms: self.first_received_at_ms(index),
            source: self.source_of(index, slot),
            receive_count: slot.receive_count,
            state: MessageState::InFlight,
            until_ms: slot.available_at_ms,
            handle: [0; 32],
        }
    }

    /// On a FIFO queue a handle is good as long as the delivery is that it was given out with.
    #[inline]
    pub(super) fn check_current(&self, queue_index: u32, handle: Handle) -> Result<Handle, Refusal> {
        if !self.is_fifo(queue_index) {
            return Ok(handle);
        }
        let Some(index) = self.find_message(handle.slot, handle.sequence) else { return Ok(handle) };
        let slot = &self.slab[index];
        // By its deadline, not by whether its timer has run (rule 10).
        let is_current = slot.state() == State::Hidden
            && slot.available_at_ms > self.now_ms
            && slot.flags() & FLAG_MOVING == 0
            && handle.is_of_delivery(slot.receive_count);
        if is_current {
            return Ok(handle);
        }
        Err(Refusal::new(
            ErrorCode::InvalidParameterValue,
            "Value for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
        ))
    }
}
