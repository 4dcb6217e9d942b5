//! Changing for how long messages stay hidden.

use tenpin_protocol::{ChangeVisibilityEntry, Entries, ErrorCode};

use super::outputs::{Outcome, Outputs, Refusal, ReplyBody};
use super::receive::VISIBILITY_SECONDS_MAX;
use super::records::{Kind, Listed};
use super::send::check_batch;
use super::slot::{FLAG_CHANGED, State};
use super::{Engine, Ticket, out_of_range};
use crate::flaws::Flaws;
use crate::journal::Log;

/// A message stays hidden this long after a delivery at most, whatever is asked for.
const HIDDEN_MS_MAX: u64 = 12 * 60 * 60 * 1_000;

impl<F: Flaws> Engine<F> {
    pub(super) fn change_visibility(
        &mut self,
        ticket: Ticket,
        number: u64,
        entries: Entries<'_, ChangeVisibilityEntry<'_>>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        let queue = match self.find_queue(number).and_then(|queue| check_batch(entries.len()).map(|()| queue))
        {
            Ok(queue) => queue,
            Err(refusal) => return out.reply(ticket, log.end(), ReplyBody::Refused(refusal)),
        };
        let incarnation = self.queues[queue].incarnation;
        let start = out.outcomes.len() as u32;
        let mut listed = std::mem::take(&mut self.listed);
        listed.clear();
        for entry in entries {
            let outcome = self.change_one(queue, incarnation, entry, &mut listed);
            out.outcomes.push(outcome);
        }
        if !listed.is_empty() {
            self.journal_list(Kind::Hidden, incarnation, 0, &listed, log);
        }
        if self.queues[queue].waiting > 0 && self.is_fifo(queue) {
            // What waits under an attempt id may be as that attempt left it again.
            self.mark_ready(queue);
        }
        self.listed = listed;
        out.reply(ticket, log.end(), ReplyBody::Hidden(start..out.outcomes.len() as u32));
    }

    fn change_one(
        &mut self,
        queue_index: u32,
        incarnation: u64,
        entry: ChangeVisibilityEntry<'_>,
        listed: &mut Vec<Listed>,
    ) -> Outcome {
        let handle = self.check_handle(incarnation, entry.handle)?;
        if entry.visibility_seconds > VISIBILITY_SECONDS_MAX {
            return Err(out_of_range(
                entry.visibility_seconds,
                "VisibilityTimeout",
                0,
                VISIBILITY_SECONDS_MAX.into(),
            ));
        }
        let Some(index) = self.find_message(handle.slot, handle.sequence) else {
            return Err(Refusal::new(
                ErrorCode::InvalidParameterValue,
                "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
                 available for visibility timeout change.",
            ));
        };
        self.check_current(queue_index, handle)?;
        let slot = &self.slab[index];
        // By its deadline, not by whether its timer has run (rule 10).
        if slot.state() != State::Hidden || slot.available_at_ms <= self.now_ms {
            return Err(ErrorCode::MessageNotInflight.into());
        }
        let deadline_ms = self.now_ms + u64::from(entry.visibility_seconds) * 1_000;
        if deadline_ms > self.delivered_at_ms(index) + HIDDEN_MS_MAX {
            let text = format!(
                "Value {} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for \
                 the message is beyond the limit [{VISIBILITY_SECONDS_MAX} seconds]",
                entry.visibility_seconds
            );
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
        }
        self.slot_wheel.cancel(&mut self.slab, index);
        let slot = &mut self.slab[index];
        slot.available_at_ms = deadline_ms;
        slot.set_flags(slot.flags() | FLAG_CHANGED);
        listed.push(Listed { slot: index, receive_count: 0, sequence: slot.sequence, deadline_ms });
        if entry.visibility_seconds == 0 {
            self.make_returned(index);
        } else {
            self.start_timer(index);
        }
        Ok(())
    }
}
