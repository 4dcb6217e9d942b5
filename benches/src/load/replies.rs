//! What replies say, booked.

use std::io;

use tenpin_protocol::{ReceivedMessage, split_frame};

use super::books::{Receipt, Verdict};
use super::connection::{Asked, Connection, Role, Slot, Step, asked};
use super::state::{Ends, Phase, State};
use crate::client::{ClientError, Refusal};
use crate::wire::{self, Reply};

impl State {
    pub(super) fn take_replies(&mut self, connection: &mut Connection) -> io::Result<()> {
        let Connection {
            input, arrived, output, slots, queues, frame_bytes_max, role, groups, timed, ..
        } = connection;
        let slot_count = slots.len();
        while let Some((frame, length)) =
            split_frame(&input[arrived.clone()], *frame_bytes_max).map_err(io::Error::other)?
        {
            let reply = wire::read_reply(&frame)?;
            let unexpected =
                |reply: &Reply<'_>| ClientError::Protocol(format!("an unexpected frame: {reply:?}"));
            match asked(frame.correlation) {
                Some(Asked::Timed(number)) => {
                    // The first, as a rule.
                    let Some(place) = timed.iter().position(|asked| *asked == number) else {
                        return Err(unexpected(&reply).into());
                    };
                    timed.remove(place);
                    self.take_timed(number, reply)?;
                }
                Some(Asked::Slot { slot: index, step, note }) if index < slot_count => {
                    let slot = &mut slots[index];
                    if !slot.end(step) {
                        return Err(ClientError::Protocol(format!("a second reply to a {step:?}")).into());
                    }
                    self.under_way -= 1;
                    let queue = queues[slot.queue].0;
                    self.take_reply(step, note, reply, slot, queue)?;
                    let goes_on = *role == Role::Consume && step == Step::Receive;
                    if goes_on || slot.is_idle() {
                        let ends = &mut Ends { role: *role, queues, groups, output, slots: slot_count };
                        self.go_on(slot, index, ends);
                    }
                }
                _ => return Err(unexpected(&reply).into()),
            }
            arrived.start += length;
        }
        Ok(())
    }

    /// The answer to a send by the timetable: its time counts from when it was due.
    fn take_timed(&mut self, number: u32, reply: Reply<'_>) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(ClientError::Protocol("an answer to a send that was not asked".into()).into());
        };
        open.under_way = open.under_way.saturating_sub(1);
        let due_ns = open.table.batch_due_ns(u64::from(number));
        let first = open.table.first + u64::from(number) * open.table.batch;
        self.note_time(Step::Send, due_ns);
        match reply {
            Reply::Sent(outcomes) => {
                let mut answered = 0_u32;
                for outcome in outcomes {
                    let number = first + u64::from(answered);
                    answered += 1;
                    match wire::send_outcome(&outcome) {
                        Ok(_) => {}
                        Err(refusal) if self.may_refuse(&refusal) => {
                            self.books.refused_for_want_of_room(number);
                        }
                        Err(refusal) => {
                            self.books.refused();
                            self.fail(format!("a send was refused: {refusal}"));
                        }
                    }
                }
                self.check_count(answered, self.options.batch as u32);
                Ok(())
            }
            Reply::Refused(refusal) if self.may_refuse(&refusal) => {
                let numbers = first..first + self.options.batch as u64;
                numbers.for_each(|number| self.books.refused_for_want_of_room(number));
                Ok(())
            }
            Reply::Refused(refusal) => Err(ClientError::Refused(refusal).into()),
            reply => Err(ClientError::Protocol(format!("the answer to a send is {reply:?}")).into()),
        }
    }

    /// Whether a broker that more is asked of than it can do may refuse a send so.
    fn may_refuse(&self, refusal: &Refusal) -> bool {
        self.options.is_overload && refusal.is_for_want_of_room()
    }

    /// Books what a reply says.
    fn take_reply(
        &mut self,
        step: Step,
        note: u32,
        reply: Reply<'_>,
        slot: &mut Slot,
        queue: usize,
    ) -> io::Result<()> {
        let mut answered = 0;
        match (step, reply) {
            (Step::Send, Reply::Sent(outcomes)) => {
                self.note_time(step, slot.sent_ns);
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::send_outcome(&outcome) {
                        self.books.refused();
                        self.fail(format!("a send was refused: {refusal}"));
                    }
                }
                self.check_count(answered, note);
            }
            (Step::Receive, Reply::Received(messages)) => {
                self.note_time(step, slot.asked_ns);
                self.take_messages(messages, slot, queue);
            }
            (Step::Delete, Reply::Outcomes(outcomes)) => {
                let Some(deletion) = slot.deletions.get_mut(note as usize).and_then(Option::take) else {
                    return Err(ClientError::Protocol("an answer to no delete".into()).into());
                };
                let is_late = deletion.expires_ns <= self.now_ns;
                self.note_time(step, deletion.asked_ns);
                for (place, outcome) in outcomes.enumerate() {
                    answered += 1;
                    let refusal = wire::outcome(&outcome).err();
                    if is_late {
                        let number = deletion.numbers.get(place).copied().flatten();
                        self.books.deleted_late(number, refusal.is_some());
                    } else if let Some(refusal) = refusal {
                        self.fail(format!("a delete was refused: {refusal}"));
                    }
                }
                self.check_count(answered, deletion.count);
                self.deleted += u64::from(answered);
            }
            (_, Reply::Refused(refusal)) => return Err(ClientError::Refused(refusal).into()),
            (step, reply) => {
                return Err(ClientError::Protocol(format!("the answer to a {step:?} is {reply:?}")).into());
            }
        }
        Ok(())
    }

    fn take_messages<'m>(
        &mut self,
        messages: impl Iterator<Item = ReceivedMessage<'m>>,
        slot: &mut Slot,
        queue: usize,
    ) {
        self.replies += 1;
        let receipt = Receipt {
            queue,
            is_dead_letter_queue: queue == self.dead_letter_queue,
            reply: self.replies,
            asked_ns: slot.asked_ns,
            now_ns: self.now_ns,
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            let (verdict, number) = self.books.arrived(message.body, receipt);
            let (Verdict::Delete(told) | Verdict::Leave(told)) = verdict;
            if let Some((number, open)) = told.zip(self.open.as_mut()) {
                open.received(number, self.now_ns);
            }
            if matches!(verdict, Verdict::Delete(_)) {
                slot.handles.extend_from_slice(message.handle);
                slot.handle_ends.push(slot.handles.len());
                slot.numbers.push(number);
            }
        }
        let most = self.options.receive_max();
        if count > most {
            self.fail(format!("{count} messages where {most} were asked for"));
        }
        if count > 0 {
            self.last_arrival_ns = self.now_ns;
            self.empty[queue] = false;
        } else {
            self.books.found_empty(queue, slot.asked_ns);
            if self.phase == Phase::Drain && slot.asked_ns >= self.drain_began_ns {
                self.empty[queue] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenpin_protocol::{Entries, ErrorCode, Outcome};

    use super::*;
    use crate::load::connection::Groups;
    use crate::load::{Fates, LoadOptions};

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn an_answer_to_a_delete_is_of_that_delete_whatever_order_answers_come_in() {
        let fates = Fates { left: 1, visibility_seconds: 1, ..Fates::default() };
        let mut state = State::new(&LoadOptions { fates, ..LoadOptions::default() }, 1).unwrap();
        let (mut slot, mut output, mut groups) = (Slot::default(), Vec::new(), Groups::default());
        let queues = [(0, 0)];
        let (output, groups) = (&mut output, &mut groups);
        let mut ends = Ends { role: Role::Consume, queues: &queues, groups, output, slots: 1 };
        for (number, received_ns) in [(0, 0), (1, 5 * SECOND_NS)] {
            slot.asked_ns = received_ns;
            slot.handles.push(b'h');
            slot.handle_ends.push(1);
            slot.numbers.push(Some(number));
            state.ask_delete(&mut slot, 0, &mut ends);
        }
        state.now_ns = 5 * SECOND_NS + 1;
        let refused = [Outcome { number: ErrorCode::ReceiptHandleIsInvalid.number(), text: None }];
        let mut answer = |place, state: &mut State| {
            let reply = Reply::Outcomes(Entries::of(&refused).iter());
            state.take_reply(Step::Delete, place, reply, &mut slot, 0).map(|()| state.failure.take())
        };
        assert!(answer(1, &mut state).unwrap().is_some(), "its message was not to come back yet");
        assert_eq!(answer(0, &mut state).unwrap(), None, "its message may have come back");
        assert!(answer(0, &mut state).is_err(), "it was answered before");
    }
}
