//! Deleting messages by their handles.

use tenpin_protocol::{ErrorCode, Handles};

use super::handle::Handle;
use super::message::{LISTED_MAX, content_bytes};
use super::outputs::{Outputs, Refusal, ReplyBody};
use super::records::{Kind, Listed};
use super::send::check_batch;
use super::slot::{FLAG_ARRIVED, FLAG_MOVING, State};
use super::{BATCH_ENTRIES_MAX, Engine, Ticket};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Log, Position, Tally};
use crate::prefetch::prefetch;

/// Messages of one queue that were in flight and are deleted together.
#[derive(Default)]
struct Gone {
    count: u64,
    content_bytes: u64,
    records: Tally,
}

const _: () = assert!(BATCH_ENTRIES_MAX <= LISTED_MAX, "a batch is one record");

impl<F: Flaws> Engine<F> {
    #[inline]
    pub(super) fn delete(
        &mut self,
        ticket: Ticket,
        number: u64,
        handles: Handles<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        let queue = match self.find_queue(number).and_then(|queue| check_batch(handles.len()).map(|()| queue))
        {
            Ok(queue) => queue,
            Err(refusal) => return out.reply(ticket, log.end(), ReplyBody::Refused(refusal)),
        };
        let incarnation = self.queues[queue].incarnation;
        let start = out.outcomes.len() as u32;
        let mut listed = std::mem::take(&mut self.listed);
        listed.clear();
        let found = self.handle_key.decode(handles.iter());
        let mut gone = Gone::default();
        if self.is_fifo(queue) {
            for handle in (0..handles.len()).filter_map(|at| found.get(at)) {
                self.slab.get(handle.slot).into_iter().for_each(prefetch);
                self.members.expect(handle.slot);
            }
        }
        for at in 0..handles.len() {
            let handle = found.get(at);
            if let Some(handle) = &handle
                && handle.is_of(incarnation)
                && self.delete_in_flight(queue, handle, &mut gone, &mut listed, log)
            {
                out.outcomes.push(Ok(()));
                continue;
            }
            let outcome =
                self.judge_handle(incarnation, handle).and_then(|handle| self.check_current(queue, handle));
            out.outcomes.push(outcome.map(|handle| self.delete_one(handle, &mut listed, log)));
        }
        self.settle_gone(queue, gone, log);
        if !listed.is_empty() {
            self.journal_few(Kind::Deleted, incarnation, 0, listed.iter().copied(), log);
            self.queues[queue].totals.deleted += listed.len() as u64;
        }
        let depends_on = if listed.is_empty() && F::has(Flaw::ForgetWhatARepeatedDeleteRestsOn) {
            Position::default()
        } else {
            // A message that is gone already was deleted by a record before this (rule 1).
            log.end()
        };
        self.listed = listed;
        out.reply(ticket, depends_on, ReplyBody::Deleted(start..out.outcomes.len() as u32));
    }

    /// Deletes the message that one of this queue's handles names, if it is in flight as nearly all are, on
    /// a queue that has no groups or on a FIFO queue, and came from no other queue. `false`: it is to be
    /// looked at more closely.
    #[inline]
    fn delete_in_flight(
        &mut self,
        queue_index: u32,
        handle: &Handle,
        gone: &mut Gone,
        listed: &mut Vec<Listed>,
        log: &mut Log<F>,
    ) -> bool {
        let queue = &self.queues[queue_index];
        let Some(slot) = self.slab.get(handle.slot) else { return false };
        let is_in_flight = slot.sequence == handle.sequence
            && slot.sequence != 0
            && slot.queue == queue_index
            && slot.state() == State::Hidden
            && slot.flags() & (FLAG_MOVING | FLAG_ARRIVED) == 0
            && handle.shard == self.options.shard
            && !queue.is_gone(slot.sequence)
            && !self.is_expired(queue, slot);
        let is_fifo = queue.attributes.fifo.is_some();
        // On a FIFO queue its handle must be that of this delivery, which must not have ended.
        let is_good = if is_fifo {
            slot.available_at_ms > self.now_ms && handle.is_of_delivery(slot.receive_count)
        } else {
            queue.fair.is_none()
        };
        if !is_in_flight || !is_good {
            return false;
        }
        gone.count += 1;
        gone.content_bytes += u64::from(content_bytes(slot));
        log.note_released(&mut gone.records, Position(slot.position), slot.length);
        listed.push(Listed {
            slot: handle.slot,
            receive_count: 0,
            sequence: handle.sequence,
            deadline_ms: 0,
        });
        if is_fifo {
            self.unlink_fifo(queue_index, handle.slot);
            self.leave_group(queue_index, handle.slot, true);
            self.let_go_of_group(handle.slot);
        }
        self.slot_wheel.cancel(&mut self.slab, handle.slot);
        self.slab.give_back(handle.slot);
        true
    }

    /// Deletes the message that a handle names. Deleting what is gone is a success, whatever made it go.
    #[inline(never)]
    fn delete_one(&mut self, handle: Handle, listed: &mut Vec<Listed>, log: &mut Log<F>) {
        let Some(index) = self.find_message(handle.slot, handle.sequence) else { return };
        let slot = &self.slab[index];
        if slot.flags() & FLAG_MOVING != 0 {
            // As if it had left already (rule 6).
            return;
        }
        listed.push(Listed { slot: index, receive_count: 0, sequence: handle.sequence, deadline_ms: 0 });
        self.processed(index);
        self.discard(index, log);
    }

    /// What [`Engine::discard`] counts for each message, once for all that were in flight.
    #[inline]
    fn settle_gone(&mut self, index: u32, mut gone: Gone, log: &mut Log<F>) {
        if gone.count == 0 {
            return;
        }
        log.settle_released(&mut gone.records);
        let queue = &mut self.queues[index];
        let is_room_awaited = queue.is_room_awaited();
        queue.in_flight -= gone.count;
        queue.slots -= gone.count;
        queue.stored_bytes -= gone.content_bytes;
        if is_room_awaited {
            self.mark_ready(index);
        }
    }

    /// Reads a handle and checks that this queue issued it.
    #[inline]
    pub(super) fn check_handle(&self, incarnation: u64, handle: &[u8]) -> Result<Handle, Refusal> {
        let found = self.handle_key.decode(std::iter::once(handle));
        self.judge_handle(incarnation, found.get(0))
    }

    #[inline]
    fn judge_handle(&self, incarnation: u64, handle: Option<Handle>) -> Result<Handle, Refusal> {
        match handle {
            Some(handle) if handle.shard == self.options.shard => {
                if handle.is_of(incarnation) {
                    return self.check_distribution(handle);
                }
                Err(Refusal::new(
                    ErrorCode::ReceiptHandleIsInvalid,
                    "The input receipt handle is not valid for this queue.",
                ))
            }
            _ => Err(ErrorCode::ReceiptHandleIsInvalid.into()),
        }
    }

    /// A handle from before the shards were redistributed names a message only if that has stayed where
    /// it was; it must not be taken for one whose message is gone. What is there now may have come from
    /// another shard, which gave out the same sequences: but not to messages of this queue (rule 5).
    #[inline]
    fn check_distribution(&self, handle: Handle) -> Result<Handle, Refusal> {
        let is_of_queue = |index| handle.is_of(self.queues[self.slab[index].queue].incarnation);
        if handle.distribution == self.options.distribution
            || self.find_message(handle.slot, handle.sequence).is_some_and(is_of_queue)
        {
            return Ok(handle);
        }
        Err(Refusal::new(
            ErrorCode::ReceiptHandleIsInvalid,
            "The input receipt handle was issued before the messages were spread over another number of \
             shards. Receive the message again.",
        ))
    }
}
