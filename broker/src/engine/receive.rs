//! Handing out messages, at once or from a long poll.

use tenpin_protocol::{ErrorCode, MessageState};

use super::keyed_hash::Key;
use super::letters::Unfinished;
use super::message::{shown_bytes, unlink_fresh};
use super::outputs::{Delivery, Outputs, Refusal, Reply, ReplyBody};
use super::records::{Kind, Listed};
use super::slot::{FLAG_ARRIVED, FLAG_MEMBER, NONE, Slot, State};
use super::{BATCH_ENTRIES_MAX, Engine, Ticket, end_of, out_of_range};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Log, Position, Room};

/// What a message takes in a reply beside its content, at most; the limit of a reply is kept with it.
pub const DELIVERY_OVERHEAD_BYTES: u32 = 128;

/// Expired messages that one receive clears away at a queue's head. Where there are more, it goes on in the
/// next turn; the timers that are due take them away in slices meanwhile (rule 31).
pub(super) const CLEARED_MAX: usize = 256;

/// The longest wait of a long poll.
const WAIT_MS_MAX: u32 = 20_000;
/// What was written to the log so long ago is probably in no cache any more.
const CACHED_BYTES: u64 = 1 << 20;
/// The longest visibility timeout.
pub(super) const VISIBILITY_SECONDS_MAX: u32 = 43_200;

/// A receive as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub count_max: u32,
    pub wait_ms: Option<u32>,
    pub visibility_seconds: Option<u32>,
    pub reply_bytes_max: u32,
    pub attempt_id: Option<&'a str>,
}

/// A receive with everything decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receive {
    pub count_max: u32,
    pub visibility_ms: u64,
    pub reply_bytes_max: u32,
    /// On a FIFO queue: the key of its attempt id.
    pub attempt: Option<Key>,
}

/// What a receive has taken so far.
#[derive(Debug, Default)]
struct Taken {
    /// Up to where the log must be committed for the messages.
    depends_on: Position,
    count: usize,
    bytes: u64,
}

/// A message that was just hidden, as it is handed out; its handle is yet to be made.
#[inline]
fn delivery_of(index: u32, slot: &Slot, source: u64) -> Delivery {
    Delivery {
        position: Position(slot.position),
        length: slot.length,
        slot: index,
        sequence: slot.sequence,
        sequence_number: 0,
        sent_at_ms: slot.sent_at_ms(),
        first_received_at_ms: slot.first_received_at_ms(),
        source,
        receive_count: slot.receive_count,
        state: MessageState::InFlight,
        until_ms: slot.available_at_ms,
        handle: [0; 32],
    }
}

/// Why nothing was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nothing {
    /// There is nothing visible.
    Empty,
    /// As many messages are in flight as may be.
    OverLimit,
    /// The log has no room for what a receive leads to (rule 16).
    NoRoom,
    /// There were dead letters to move or expired messages to clear away, and there are more messages: it
    /// goes on in the next turn.
    More,
}

impl<F: Flaws> Engine<F> {
    #[inline]
    pub(super) fn receive(
        &mut self,
        ticket: Ticket,
        number: u64,
        asked: Asked<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        let (queue, receive, wait_ms) = match self.check_receive(number, asked) {
            Ok(checked) => checked,
            Err(refusal) => return out.reply(ticket, log.end(), ReplyBody::Refused(refusal)),
        };
        let nothing = match self.hand_out(queue, ticket, receive, false, log, out) {
            Ok(()) => return,
            Err(nothing) => nothing,
        };
        let deadline_ms = self.now_ms + wait_ms;
        if nothing == Nothing::More {
            return self.unfinished.push_back(Unfinished { ticket, queue: number, receive, deadline_ms });
        }
        self.handed_out_nothing(ticket, queue, receive, deadline_ms, nothing, false, out);
    }

    /// Registers a receive that waits, or says that there is nothing.
    #[expect(clippy::too_many_arguments, reason = "a receive, and what became of it")]
    pub(super) fn handed_out_nothing(
        &mut self,
        ticket: Ticket,
        queue: u32,
        receive: Receive,
        deadline_ms: u64,
        nothing: Nothing,
        ends_wait: bool,
        out: &mut Outputs,
    ) {
        let end = out.deliveries.len() as u32;
        let mut answer = |body| {
            let (depends_on, stale_after_ms) = (Position::default(), u64::MAX);
            out.replies.push(Reply { ticket, depends_on, stale_after_ms, ends_wait, body });
        };
        if deadline_ms > self.now_ms && nothing != Nothing::NoRoom {
            if self.waits.count() < self.options.waits_max {
                return self.waits.add(ticket, queue, receive, deadline_ms, &mut self.queues);
            }
            let text = "More receives wait than the shard has room for.";
            return answer(ReplyBody::Refused(Refusal::new(ErrorCode::RequestThrottled, text)));
        }
        answer(match nothing {
            Nothing::Empty | Nothing::More => {
                // A part of a receive that goes around is counted where its client is, if at all.
                self.queues[queue].totals.empty_receives += u64::from(!ticket.connection.is_of_peer());
                ReplyBody::Received(end..end)
            }
            Nothing::OverLimit => ReplyBody::Refused(Refusal::new(
                ErrorCode::OverLimit,
                "The maximum number of in flight messages is reached.",
            )),
            Nothing::NoRoom => ReplyBody::Refused(Refusal::new(
                ErrorCode::StorageFull,
                "There is no room to record more deliveries; delete messages first.",
            )),
        });
    }

    #[inline]
    fn check_receive(&self, number: u64, asked: Asked<'_>) -> Result<(u32, Receive, u64), Refusal> {
        let index = self.find_queue(number)?;
        let attributes = &self.queues[index].attributes;
        let Asked { count_max, wait_ms, visibility_seconds, reply_bytes_max, attempt_id } = asked;
        if !(1..=BATCH_ENTRIES_MAX as u32).contains(&count_max) {
            return Err(out_of_range(count_max, "MaxNumberOfMessages", 1, BATCH_ENTRIES_MAX as u64));
        }
        let wait_ms = match wait_ms {
            None => attributes.receive_wait_ms(),
            Some(wait_ms) if wait_ms <= WAIT_MS_MAX => wait_ms.into(),
            Some(wait_ms) => {
                return Err(out_of_range(wait_ms.div_ceil(1_000), "WaitTimeSeconds", 0, 20));
            }
        };
        let visibility_ms = match visibility_seconds {
            None => attributes.visibility_timeout_ms(),
            Some(seconds) if seconds <= VISIBILITY_SECONDS_MAX => u64::from(seconds) * 1_000,
            Some(seconds) => {
                return Err(out_of_range(seconds, "VisibilityTimeout", 0, VISIBILITY_SECONDS_MAX.into()));
            }
        };
        let attempt = attempt_id.map(|id| self.attempt_key(index, id, reply_bytes_max)).transpose()?;
        Ok((index, Receive { count_max, visibility_ms, reply_bytes_max, attempt }, wait_ms))
    }

    /// Hands out what is visible, in order, up to the receive's limits, and answers.
    #[inline]
    pub(super) fn hand_out(
        &mut self,
        queue_index: u32,
        ticket: Ticket,
        receive: Receive,
        ends_wait: bool,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> Result<(), Nothing> {
        if receive.attempt.is_some() && self.repeat_attempt(queue_index, ticket, receive, ends_wait, log, out)
        {
            return Ok(());
        }
        let queue = &self.queues[queue_index];
        let is_fifo = queue.attributes.fifo.is_some();
        let free = queue.in_flight_max.saturating_sub(queue.in_flight);
        if free == 0 {
            self.notice_limit(queue_index);
            // A FIFO queue gives nothing then, and does not say why.
            return Err(if is_fifo { Nothing::Empty } else { Nothing::OverLimit });
        }
        if queue.visible == 0 {
            return Err(Nothing::Empty);
        }
        if log.room() == Room::NoReceives {
            if self.queues[queue_index].is_awaited() && !self.blocked.contains(&queue_index) {
                self.blocked.push(queue_index);
            }
            return Err(Nothing::NoRoom);
        }
        self.reserve_sequences(log);
        let count_max = (receive.count_max as usize).min(usize::try_from(free).unwrap_or(usize::MAX));
        let start = out.deliveries.len();
        let (depends_on, has_more) = if is_fifo {
            (Position::default(), self.take_fifo(queue_index, receive, count_max, log, out))
        } else {
            self.take_visible(queue_index, receive, count_max, log, out)
        };
        let incarnation = self.queues[queue_index].incarnation;
        self.flush_expired(incarnation, log);
        let taken = &mut out.deliveries[start..];
        if taken.is_empty() {
            return Err(if has_more { Nothing::More } else { Nothing::Empty });
        }
        // Neighbours of a group are anywhere in the log, and those of a long backlog were written long ago.
        let is_far = taken.first().is_some_and(|first| first.position.0 + CACHED_BYTES < log.end().0);
        if is_fifo || is_far {
            taken.iter().for_each(|delivery| log.expect(delivery.position, delivery.length));
        }
        self.seal_handles(incarnation, taken);
        let deadline_ms = self.now_ms + receive.visibility_ms;
        let listed = taken.iter().map(|delivery| Listed {
            slot: delivery.slot,
            receive_count: delivery.receive_count,
            sequence: delivery.sequence,
            deadline_ms: 0,
        });
        self.queues[queue_index].totals.received += taken.len() as u64;
        self.journal_few(Kind::Delivered, incarnation, deadline_ms, listed, log);
        if let Some(attempt) = receive.attempt {
            self.remember_attempt(attempt, queue_index, deadline_ms, taken, log);
        }
        // The order of a FIFO queue's group must not be undone by a crash: its deliveries are held.
        let depends_on = if is_fifo { log.end() } else { depends_on };
        if receive.visibility_ms == 0 {
            taken.iter().for_each(|delivery| self.make_returned(delivery.slot));
        } else {
            self.start_timers(queue_index, deadline_ms, taken);
        }
        // A delivery that hides nothing is as good later as now.
        let stale_after_ms = if receive.visibility_ms == 0 { u64::MAX } else { deadline_ms };
        let body = ReplyBody::Received(start as u32..out.deliveries.len() as u32);
        out.replies.push(Reply { ticket, depends_on, stale_after_ms, ends_wait, body });
        Ok(())
    }

    /// Starts the timers of messages that were taken together: nearly always one deadline for all.
    #[inline]
    fn start_timers(&mut self, queue_index: u32, deadline_ms: u64, taken: &[Delivery]) {
        let queue = &self.queues[queue_index];
        let bucket = self.slot_wheel.bucket(deadline_ms);
        let expiry_ms = |delivery: &Delivery| {
            queue.expiry_ms(delivery.sent_at_ms, delivery.sequence, self.retention_lag_ms)
        };
        if taken.iter().all(|delivery| expiry_ms(delivery) >= deadline_ms) {
            let slots = taken.iter().map(|delivery| delivery.slot);
            return self.slot_wheel.start_all_in(&mut self.slab, slots, bucket);
        }
        for delivery in taken {
            self.slot_wheel.start(&mut self.slab, delivery.slot, deadline_ms.min(expiry_ms(delivery)));
        }
    }

    /// Takes messages that were never delivered from the head of a queue without groups, as long as there
    /// is nothing else to think of: no message that came back, no dead letter, none that has expired.
    #[inline]
    fn take_fresh(
        &mut self,
        queue_index: u32,
        deadline_ms: u64,
        (count_max, bytes_max): (usize, u32),
        out: &mut Outputs,
    ) -> Taken {
        let queue = &mut self.queues[queue_index];
        let mut taken = Taken::default();
        if queue.fair.is_some() || !queue.returned.is_empty() {
            return taken;
        }
        let mut head = queue.fresh_head;
        while taken.count < count_max && head != NONE {
            let slot = &mut self.slab[head];
            let expiry_ms = queue.expiry_ms(slot.sent_at_ms(), slot.sequence, self.retention_lag_ms);
            let bytes = taken.bytes + u64::from(shown_bytes(slot));
            let fits = taken.count == 0 || bytes <= u64::from(bytes_max);
            if expiry_ms <= self.now_ms || slot.flags() & FLAG_ARRIVED != 0 || !fits {
                break;
            }
            slot.hide(self.now_ms, deadline_ms);
            taken.depends_on = taken.depends_on.max(end_of(slot.position, slot.length));
            out.deliveries.push(delivery_of(head, slot, 0));
            head = slot.list_next;
            taken.count += 1;
            taken.bytes = bytes;
        }
        if taken.count > 0 {
            queue.visible -= taken.count as u64;
            queue.in_flight += taken.count as u64;
            queue.fresh_head = head;
            if head == NONE {
                queue.fresh_tail = NONE;
            } else {
                self.slab[head].list_previous = NONE;
                self.slab.expect_run(head, taken.count as u32);
            }
        }
        taken
    }

    /// Takes visible messages from the queue's heads; they are hidden then, without timers yet.
    /// Dead letters at the heads are moved instead. Says up to where the log must be committed for the
    /// messages, and whether there is more to move or to clear away than one receive does.
    #[inline]
    fn take_visible(
        &mut self,
        queue_index: u32,
        receive: Receive,
        count_max: usize,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> (Position, bool) {
        let mut letters = self.letters_of(queue_index);
        if self.queues[queue_index].fair.is_some() {
            self.judge_lingering(queue_index);
        }
        let deadline_ms = self.now_ms + receive.visibility_ms;
        let mut has_more = false;
        let bounds = (count_max, receive.reply_bytes_max);
        let Taken { mut depends_on, mut count, mut bytes } =
            self.take_fresh(queue_index, deadline_ms, bounds, out);
        while count < count_max {
            let Some(index) = self.next_visible(queue_index) else { break };
            let queue = &mut self.queues[queue_index];
            let slot = &mut self.slab[index];
            let expiry_ms = queue.expiry_ms(slot.sent_at_ms(), slot.sequence, self.retention_lag_ms);
            if expiry_ms <= self.now_ms && !F::has(Flaw::JudgeExpiryByTimer) {
                if self.expired.len() == CLEARED_MAX {
                    has_more = true;
                    break;
                }
                self.expire(index, log);
                continue;
            }
            if let Some(letters) = &mut letters
                && let Some(target) = self.is_letter(index, queue_index, letters)
            {
                if self.moved.len() == self.options.letters_a_receive {
                    self.flush_moved(queue_index, target, log);
                    return (depends_on, true);
                }
                self.move_message(index, target, Key::default(), log);
                continue;
            }
            let queue = &mut self.queues[queue_index];
            let slot = &self.slab[index];
            bytes += u64::from(shown_bytes(slot));
            if count > 0 && bytes > u64::from(receive.reply_bytes_max) {
                break;
            }
            queue.visible -= 1;
            queue.in_flight += 1;
            if slot.flags() & FLAG_MEMBER != 0 {
                self.take_of_fair(queue_index, index);
            } else if slot.state() == State::Fresh {
                unlink_fresh(&mut self.slab, queue, index);
            } else {
                queue.returned.pop_first();
                self.slot_wheel.cancel(&mut self.slab, index);
            }
            self.slab[index].hide(self.now_ms, deadline_ms);
            let slot = &self.slab[index];
            depends_on = depends_on.max(self.message_end(index, slot));
            out.deliveries.push(delivery_of(index, slot, self.source_of(index, slot)));
            count += 1;
        }
        self.flush_letters(queue_index, letters, log);
        (depends_on, has_more)
    }

    /// The visible message that is next.
    #[inline]
    fn next_visible(&mut self, queue_index: u32) -> Option<u32> {
        if self.queues[queue_index].fair.is_some() {
            return self.next_fair(queue_index);
        }
        self.first_visible(queue_index)
    }

    /// The visible message without a group that is next: by the time it became visible, then by sequence
    /// (rule 18).
    #[inline]
    pub(super) fn first_visible(&self, queue_index: u32) -> Option<u32> {
        let queue = &self.queues[queue_index];
        let fresh = queue.fresh_head;
        if queue.returned.is_empty() {
            return (fresh != NONE).then_some(fresh);
        }
        let (&turn, &index) = queue.returned.first_key_value()?;
        if fresh != NONE {
            let slot = &self.slab[fresh];
            if (slot.sent_at_ms(), slot.sequence) < turn {
                return Some(fresh);
            }
        }
        Some(index)
    }
}
