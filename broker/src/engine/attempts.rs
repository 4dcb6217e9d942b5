//! Receives with an attempt id: for five minutes a repeat is given the same messages and handles again.
//!
//! A client that never saw an answer asks again under the same id. As long as each of the messages
//! is still hidden by that very delivery, until the very deadline that it was given, all of them are
//! given again with a fresh timeout; where one was deleted, changed, taken back or has become visible
//! since, the receive is a new one. An attempt is a record of its own, which cleaning carries
//! (rule 11), and is known by a keyed hash of queue and id.

use std::collections::VecDeque;
use std::ops::Range;

use tenpin_protocol::ErrorCode;

use super::fifo_records::{ATTEMPT_BYTES, Attempted, AttemptedMessage};
use super::fifo_send::{check_text, not_for_queue_type};
use super::handle::Handle;
use super::index::Index;
use super::keyed_hash::{Key, Room, key_of};
use super::message::shown_bytes;
use super::outputs::{Delivery, Outputs, Refusal, Reply, ReplyBody};
use super::receive::Receive;
use super::records::{Kind, Listed};
use super::slot::{FLAG_CHANGED, State};
use super::{Engine, Ticket, append};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

/// How long an attempt is remembered.
pub(super) const ATTEMPT_MS: u64 = 5 * 60 * 1_000;
/// Timers for the ends of attempts run this much later, so that many are taken away at once.
const LATE_MS: u64 = 1_000;

#[derive(Debug)]
struct Attempt {
    attempted: Attempted,
    /// Its newest record; without a length, another receive has taken its id.
    record: (Position, u32),
}

/// All attempts of a shard, in the order of their times.
#[derive(Debug)]
pub(super) struct Attempts {
    ring: VecDeque<Attempt>,
    /// The number of the first, which goes round.
    first: u32,
    index: Index,
}

impl Attempts {
    pub fn new() -> Self {
        Self { ring: VecDeque::new(), first: 0, index: Index::new() }
    }

    /// Whether there is room for one more, of at most this many.
    pub fn has_room(&self, attempts_max: usize) -> bool {
        self.ring.len() < attempts_max
    }

    /// When the first one is to be taken away.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.ring.front().map(|attempt| attempt.attempted.time_ms + ATTEMPT_MS + LATE_MS)
    }

    /// What is remembered, for the digest.
    pub fn iter(&self) -> impl Iterator<Item = &Attempted> {
        self.ring.iter().filter(|attempt| attempt.record.1 > 0).map(|attempt| &attempt.attempted)
    }

    fn find(&self, key: Key) -> Option<usize> {
        let (ring, first) = (&self.ring, self.first);
        let place = self.index.find(key, |place| &ring[place.wrapping_sub(first) as usize].attempted.key)?;
        Some(place.wrapping_sub(first) as usize)
    }

    /// Remembers an attempt whose record is written and live; one with the same key is forgotten.
    fn push<F: Flaws>(&mut self, attempted: Attempted, record: (Position, u32), log: &mut Log<F>) {
        if let Some(before) = self.find(attempted.key) {
            self.index.remove(attempted.key, self.first.wrapping_add(before as u32));
            let before = std::mem::take(&mut self.ring[before].record);
            log.release(before.0, before.1);
        }
        let (key, place) = (attempted.key, self.first.wrapping_add(self.ring.len() as u32));
        self.ring.push_back(Attempt { attempted, record });
        let (ring, first) = (&self.ring, self.first);
        self.index.insert(key, place, |place| &ring[place.wrapping_sub(first) as usize].attempted.key);
    }

    /// Takes attempts away that are over, one a step. Says how many steps are left.
    pub fn forget<F: Flaws>(&mut self, now_ms: u64, mut steps: u32, log: &mut Log<F>) -> u32 {
        while steps > 0
            && let Some(attempt) = self.ring.front()
            && attempt.attempted.is_over(now_ms)
        {
            steps -= 1;
            if attempt.record.1 > 0 {
                self.index.remove(attempt.attempted.key, self.first);
                log.release(attempt.record.0, attempt.record.1);
            }
            self.ring.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        steps
    }

    /// A delivery of that time never left: an attempt that it was given to is none any more, since the next
    /// delivery of the message has the same number and may last as long. A record without messages says so.
    pub fn take_back<F: Flaws>(
        &mut self,
        given_at_ms: u64,
        message: AttemptedMessage,
        now_ms: u64,
        log: &mut Log<F>,
    ) {
        let start = self.ring.partition_point(|attempt| attempt.attempted.time_ms < given_at_ms);
        let then = self.ring.range_mut(start..).zip(start..);
        let mut then = then.take_while(|(attempt, _)| attempt.attempted.time_ms == given_at_ms);
        let is_it = |attempt: &Attempt| attempt.record.1 > 0 && attempt.attempted.messages.contains(&message);
        let Some((attempt, place)) = then.find(|(attempt, _)| is_it(attempt)) else { return };
        attempt.attempted.messages = Box::default();
        append(log, now_ms, Kind::Attempt, ATTEMPT_BYTES, 0, true, |out| attempt.attempted.write(out));
        let before = std::mem::take(&mut attempt.record);
        log.release(before.0, before.1);
        self.index.remove(attempt.attempted.key, self.first.wrapping_add(place as u32));
    }

    /// Writes an attempt's record again at the tail.
    fn journal<F: Flaws>(&mut self, place: usize, now_ms: u64, log: &mut Log<F>) {
        let attempt = &mut self.ring[place];
        let before = std::mem::replace(&mut attempt.record, write(&attempt.attempted, now_ms, log));
        log.release(before.0, before.1);
    }

    /// Carries a record of an old segment if it is the newest of its attempt. Says whether it was.
    pub fn carry<F: Flaws>(&mut self, now_ms: u64, key: Key, position: Position, log: &mut Log<F>) -> bool {
        let Some(place) = self.find(key).filter(|&place| self.ring[place].record.0 == position) else {
            return false;
        };
        self.journal(place, now_ms, log);
        true
    }

    /// Writes attempts again whose records at these positions cannot be read any more.
    pub fn rescue<F: Flaws>(&mut self, now_ms: u64, lost: &Range<Position>, log: &mut Log<F>) {
        for place in 0..self.ring.len() {
            let (position, length) = self.ring[place].record;
            if length > 0 && lost.contains(&position) {
                self.journal(place, now_ms, log);
            }
        }
    }

    /// Recovery: takes what the records say, in the order of the attempts' times.
    pub fn recover<F: Flaws>(
        &mut self,
        now_ms: u64,
        recovered: impl Iterator<Item = (Attempted, Position, u32)>,
        log: &mut Log<F>,
    ) {
        let is_one = |attempted: &Attempted| !attempted.is_over(now_ms) && !attempted.messages.is_empty();
        let mut attempts: Vec<_> = recovered.filter(|(attempted, ..)| is_one(attempted)).collect();
        attempts.sort_by_key(|(attempted, position, _)| (attempted.time_ms, *position));
        for (attempted, position, length) in attempts {
            log.live(position, length);
            self.push(attempted, (position, length), log);
        }
    }
}

fn write<F: Flaws>(attempted: &Attempted, now_ms: u64, log: &mut Log<F>) -> (Position, u32) {
    let variable_bytes = attempted.variable_bytes();
    let record = append(log, now_ms, Kind::Attempt, ATTEMPT_BYTES, variable_bytes, true, |out| {
        attempted.write(out);
    });
    log.live(record.0, record.1);
    record
}

impl<F: Flaws> Engine<F> {
    /// Checks an attempt id, and whether there is room to remember it, which a repeat needs not.
    #[cold]
    pub(super) fn attempt_key(
        &self,
        queue_index: u32,
        id: &str,
        reply_bytes_max: u32,
    ) -> Result<Key, Refusal> {
        const PARAMETER: &str = "ReceiveRequestAttemptId";
        if !self.is_fifo(queue_index) {
            return Err(not_for_queue_type(PARAMETER, id));
        }
        let id = check_text(PARAMETER, id)?;
        let incarnation = self.queues[queue_index].incarnation;
        let key = key_of(&self.options.check_key, Room::Attempt, incarnation, id.as_bytes());
        let is_repeat = || {
            let place = self.attempts.find(key);
            place.is_some_and(|place| {
                self.is_repeatable(&self.attempts.ring[place].attempted, reply_bytes_max)
            })
        };
        if !self.attempts.has_room(self.options.attempts_max) && !is_repeat() {
            let text = "The shard remembers as many attempt ids as it may.";
            return Err(Refusal::new(ErrorCode::RequestThrottled, text));
        }
        Ok(key)
    }

    /// Remembers what a receive with an attempt id was given.
    pub(super) fn remember_attempt(
        &mut self,
        key: Key,
        queue_index: u32,
        deadline_ms: u64,
        taken: &[Delivery],
        log: &mut Log<F>,
    ) {
        let incarnation = self.queues[queue_index].incarnation;
        if self.queues[queue_index].waiting > 0 {
            // One that waits under the same id has something to be given.
            self.mark_ready(queue_index);
        }
        let messages = taken.iter().map(|delivery| AttemptedMessage {
            slot: delivery.slot,
            receive_count: delivery.receive_count,
            sequence: delivery.sequence,
        });
        let messages = messages.collect();
        let attempted = Attempted { key, incarnation, time_ms: self.now_ms, deadline_ms, messages };
        let record = write(&attempted, self.now_ms, log);
        self.attempts.push(attempted, record, log);
    }

    /// Gives a repeated attempt its messages again. `false`: it counts as a new receive.
    pub(super) fn repeat_attempt(
        &mut self,
        queue_index: u32,
        ticket: Ticket,
        receive: Receive,
        ends_wait: bool,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> bool {
        let Some(place) = receive.attempt.and_then(|key| self.attempts.find(key)) else { return false };
        let attempted = &self.attempts.ring[place].attempted;
        if !self.is_repeatable(attempted, receive.reply_bytes_max) {
            return false;
        }
        let messages = attempted.messages.clone();
        let start = out.deliveries.len();
        let deadline_ms = self.now_ms + receive.visibility_ms;
        for message in &messages {
            self.slot_wheel.cancel(&mut self.slab, message.slot);
            let slot = &mut self.slab[message.slot];
            slot.available_at_ms = deadline_ms;
            // One of both answers may come, and the other be found never to have left: that must not take
            // the message from who has it. Where neither comes, asking once more does.
            slot.set_flags(slot.flags() | FLAG_CHANGED);
            let delivery = self.fifo_delivery(message.slot, &self.slab[message.slot]);
            out.deliveries.push(delivery);
        }
        let incarnation = self.queues[queue_index].incarnation;
        self.seal_handles(incarnation, &mut out.deliveries[start..]);
        let listed = messages.iter().map(|message| Listed {
            slot: message.slot,
            receive_count: 0,
            sequence: message.sequence,
            deadline_ms,
        });
        self.journal_few(Kind::Hidden, incarnation, 0, listed, log);
        self.attempts.ring[place].attempted.deadline_ms = deadline_ms;
        self.attempts.journal(place, self.now_ms, log);
        for message in &messages {
            if receive.visibility_ms == 0 {
                self.make_returned(message.slot);
            } else {
                self.start_timer(message.slot);
            }
        }
        let stale_after_ms = if receive.visibility_ms == 0 { u64::MAX } else { deadline_ms };
        let body = ReplyBody::Received(start as u32..out.deliveries.len() as u32);
        out.replies.push(Reply { ticket, depends_on: log.end(), stale_after_ms, ends_wait, body });
        true
    }

    /// Whether an attempt's messages are all as it left them, and fit the reply.
    fn is_repeatable(&self, attempted: &Attempted, reply_bytes_max: u32) -> bool {
        let is_as_it_was = |message: &AttemptedMessage| {
            self.find_message(message.slot, message.sequence).is_some_and(|index| {
                let slot = &self.slab[index];
                slot.state() == State::Hidden
                    && slot.receive_count == message.receive_count
                    && slot.available_at_ms == attempted.deadline_ms
            })
        };
        let is_over = attempted.is_over(self.now_ms) || attempted.deadline_ms <= self.now_ms;
        if is_over || !attempted.messages.iter().all(is_as_it_was) {
            return false;
        }
        let bytes = attempted.messages.iter().map(|message| u64::from(shown_bytes(&self.slab[message.slot])));
        attempted.messages.len() == 1 || bytes.sum::<u64>() <= reply_bytes_max.into()
    }

    /// Gives deliveries the handles that their consumers get.
    #[inline]
    pub(super) fn seal_handles(&self, incarnation: u64, deliveries: &mut [Delivery]) {
        let (shard, distribution) = (self.options.shard, self.options.distribution);
        self.handle_key.encode(deliveries.iter_mut().map(|delivery| {
            let Delivery { slot, sequence, receive_count, .. } = *delivery;
            let handle = Handle { shard, distribution, slot, sequence, incarnation, delivery: receive_count };
            (handle, &mut delivery.handle)
        }));
    }
}
