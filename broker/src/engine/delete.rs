//! Deleting messages by their handles.

use tenpin_protocol::{ErrorCode, Handles};

use super::handle::Handle;
use super::message::LISTED_MAX;
use super::outputs::{Outputs, Refusal, ReplyBody};
use super::records::{Kind, Listed};
use super::send::check_batch;
use super::{BATCH_ENTRIES_MAX, Engine, Ticket};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

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
        for handle in handles {
            let handle = self.check_handle(incarnation, handle);
            out.outcomes.push(handle.map(|handle| self.delete_one(handle, &mut listed, log)));
        }
        if !listed.is_empty() {
            self.journal_list(Kind::Deleted, incarnation, 0, &listed, log);
            self.queues[queue].totals.deleted += listed.len() as u64;
        }
        let depends_on = if listed.is_empty() && F::FORGET_WHAT_A_REPEATED_DELETE_RESTS_ON {
            Position::default()
        } else {
            // A message that is gone already was deleted by a record before this (rule 1).
            log.end()
        };
        self.listed = listed;
        out.reply(ticket, depends_on, ReplyBody::Deleted(start..out.outcomes.len() as u32));
    }

    /// Deletes the message that a handle names. Deleting what is gone is a success, whatever made it go.
    #[inline]
    fn delete_one(&mut self, handle: Handle, listed: &mut Vec<Listed>, log: &mut Log<F>) {
        if let Some(index) = self.find_message(handle.slot, handle.sequence) {
            listed.push(Listed { slot: index, receive_count: 0, sequence: handle.sequence, deadline_ms: 0 });
            self.discard(index, log);
        }
    }

    /// Reads a handle and checks that this queue issued it.
    #[inline]
    pub(super) fn check_handle(&self, incarnation: u64, handle: &[u8]) -> Result<Handle, Refusal> {
        match Handle::decode(handle, &self.options.check_key) {
            Some(handle) if handle.shard == self.options.shard => {
                if handle.is_of(incarnation) {
                    return Ok(handle);
                }
                Err(Refusal::new(
                    ErrorCode::ReceiptHandleIsInvalid,
                    "The input receipt handle is not valid for this queue.",
                ))
            }
            _ => Err(ErrorCode::ReceiptHandleIsInvalid.into()),
        }
    }
}
