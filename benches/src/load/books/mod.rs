//! Books over all messages of a run: what was sent has to be received whole and once, unless it was left to
//! come back; then it has to come back, not too early and not too late; and groups keep their order.

mod account;
mod fates;

use std::collections::HashMap;

use crate::payload::{self, Corrupted, Payload};

pub use account::Account;
pub use fates::{Fates, WHOLE};

/// The low bits of an origin say from which stream a message is: a queue, and a group of it.
const STREAM_BITS: u32 = 24;
const STREAM_MASK: u64 = (1 << STREAM_BITS) - 1;

/// Most streams that messages can be told apart by.
pub const STREAMS_MAX: u64 = 1 << STREAM_BITS;

/// A broker that counts in milliseconds may show a message again so much too early by our clock.
const EARLY_TOLERANCE_NS: u64 = 2_000_000;

/// A message that is due may be passed over by receives for so long before it is late.
const LATE_TOLERANCE_NS: u64 = 2_000_000_000;

/// After so many receives a doomed message moves to the dead-letter queue.
pub const RECEIVES_MAX: u32 = 2;

/// A message that is to come, and not before a time.
#[derive(Debug, Clone, Copy)]
struct Held {
    not_before_ns: u64,
    /// How often it was received; 0: it is delayed.
    receives: u32,
}

/// Of a receive: what the books must know.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// The queue's number in the load.
    pub queue: usize,
    /// Whether it is the dead-letter queue.
    pub is_dead_letter_queue: bool,
    /// Which reply, no two the same.
    pub reply: u64,
    /// When it was asked for.
    pub asked_ns: u64,
    /// When it came.
    pub now_ns: u64,
}

/// What to do with a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Delete it; its number, where it came for the first time and without a delay.
    Delete(Option<u64>),
    /// Leave it to come back.
    Leave(Option<u64>),
}

/// The account of one run. Numbers are given out in order, so a bit each is enough.
#[derive(Debug)]
pub struct Books {
    origin: u64,
    fates: Fates,
    streams_per_queue: u64,
    next: u64,
    received: Vec<u64>,
    received_once: u64,
    /// A bit each of those that were refused for want of room.
    refused: Vec<u64>,
    held: HashMap<u64, Held>,
    /// For each stream, one more than the highest number that came; empty where order is not promised.
    highest: Vec<u64>,
    /// What is left in each stream, with the reply it came in, in order.
    left: HashMap<u64, Vec<(u64, u64)>>,
    /// For each queue, when the last receive was asked that waited and brought nothing.
    empty_asked_ns: Vec<u64>,
    account: Account,
    /// Messages that came again though they were deleted, and how often.
    repeated: HashMap<u64, u64>,
    /// Messages whose deletion was answered only when they might have come back already.
    deleted_late: HashMap<u64, DeletedLate>,
}

/// How often a message's deletion was answered late.
#[derive(Debug, Clone, Copy, Default)]
struct DeletedLate {
    answers: u64,
    /// So many of them said that it was too late.
    refusals: u64,
}

impl Books {
    /// Empty books for one queue whose messages simply come, with an origin of their own.
    pub fn new() -> Self {
        Self::of(Fates::default(), 1, 1, false)
    }

    /// Empty books for some queues and streams on each, in which order is promised or not.
    pub fn of(fates: Fates, queues: usize, streams_per_queue: u64, ordered: bool) -> Self {
        let streams = if ordered { queues as u64 * streams_per_queue } else { 0 };
        Books {
            origin: payload::new_origin() & !STREAM_MASK,
            fates,
            streams_per_queue,
            next: 0,
            received: Vec::new(),
            received_once: 0,
            refused: Vec::new(),
            held: HashMap::new(),
            highest: vec![0; streams as usize],
            left: HashMap::new(),
            empty_asked_ns: vec![0; queues + 1],
            account: Account::default(),
            repeated: HashMap::new(),
            deleted_late: HashMap::new(),
        }
    }

    /// Fills the body of the next message of the first stream.
    pub fn next_body(&mut self, body: &mut [u8]) {
        self.next_of(0, body);
    }

    /// Fills the body of a stream's next message, and gives its number.
    pub fn next_of(&mut self, stream: u64, body: &mut [u8]) -> u64 {
        let number = self.next;
        Payload { origin: self.origin | stream, number }.write(body);
        if number.is_multiple_of(64) {
            self.received.push(0);
        }
        self.next += 1;
        number
    }

    /// Notes that a message is sent with its delay now.
    pub fn delayed(&mut self, number: u64, now_ns: u64) {
        let not_before_ns = now_ns + u64::from(self.fates.delay_seconds) * 1_000_000_000;
        self.held.insert(number, Held { not_before_ns, receives: 0 });
    }

    /// How many messages were made so far.
    pub fn made(&self) -> u64 {
        self.next
    }

    /// How many messages the broker still has, by these books, beside those that are held back.
    pub fn outstanding(&self, finished: u64) -> u64 {
        self.next.saturating_sub(self.not_accepted() + finished + self.held.len() as u64)
    }

    /// Whether every message was received as often as it has to be.
    pub fn is_complete(&self) -> bool {
        self.held.is_empty() && self.received_once + self.not_accepted() >= self.next
    }

    fn not_accepted(&self) -> u64 {
        self.account.refused + self.account.refused_allowed
    }

    /// A message was refused: it must not come.
    pub fn refused(&mut self) {
        self.account.refused += 1;
    }

    /// A message was refused by a broker that may be full: it must not come either.
    pub fn refused_for_want_of_room(&mut self, number: u64) {
        self.account.refused_allowed += 1;
        let word = (number / 64) as usize;
        if self.refused.len() <= word {
            self.refused.resize(word + 1, 0);
        }
        self.refused[word] |= 1 << (number % 64);
        if is_set(&self.received, number) {
            // It has come before that was said.
            self.account.strange += 1;
            self.received_once = self.received_once.saturating_sub(1);
        }
        if self.held.get(&number).is_some_and(|held| held.receives == 0) {
            self.held.remove(&number);
        }
    }

    /// A receive waited and brought nothing.
    pub fn found_empty(&mut self, queue: usize, asked_ns: u64) {
        self.empty_asked_ns[queue] = self.empty_asked_ns[queue].max(asked_ns);
    }

    /// A message's deletion was answered, or refused, only when it might have come back already.
    pub fn deleted_late(&mut self, number: Option<u64>, is_refused: bool) {
        if let Some(number) = number {
            let late = self.deleted_late.entry(number).or_default();
            late.answers += 1;
            late.refusals += u64::from(is_refused);
        }
    }

    /// Messages that the broker may still have although all was deleted: those of which every deletion was refused
    /// as too late.
    pub fn undeleted_allowed(&self) -> u64 {
        let is_there = |(number, late): &(&u64, &DeletedLate)| {
            late.refusals > self.repeated.get(*number).copied().unwrap_or_default()
        };
        self.deleted_late.iter().filter(is_there).count() as u64
    }

    /// A message came on the one queue there is; gives its number where it is one of this run.
    pub fn received(&mut self, body: &[u8]) -> Option<u64> {
        let receipt = Receipt { queue: 0, is_dead_letter_queue: false, reply: 0, asked_ns: 0, now_ns: 0 };
        match self.arrived(body, receipt) {
            (_, Some(number)) => Some(number),
            _ => None,
        }
    }

    /// A message came: what to do with it, and its number where it is one of this run.
    pub fn arrived(&mut self, body: &[u8], receipt: Receipt) -> (Verdict, Option<u64>) {
        let strange = (Verdict::Delete(None), None);
        let Payload { origin, number } = match Payload::read(body) {
            Ok(payload) => payload,
            Err(Corrupted) => {
                self.account.corrupted += 1;
                return strange;
            }
        };
        let stream = origin & STREAM_MASK;
        let is_of_queue =
            receipt.is_dead_letter_queue || stream / self.streams_per_queue == receipt.queue as u64;
        if origin & !STREAM_MASK != self.origin || number >= self.next || !is_of_queue {
            self.account.strange += 1;
            return strange;
        }
        if is_set(&self.refused, number) {
            self.account.strange += 1;
            return strange;
        }
        let word = &mut self.received[(number / 64) as usize];
        let bit = 1 << (number % 64);
        let is_first = *word & bit == 0;
        *word |= bit;
        let verdict =
            if is_first { self.first(number, stream, receipt) } else { self.again(number, stream, receipt) };
        (verdict, Some(number))
    }

    fn first(&mut self, number: u64, stream: u64, receipt: Receipt) -> Verdict {
        self.received_once += 1;
        if receipt.is_dead_letter_queue {
            self.account.strange += 1;
        }
        let was_delayed = self.fates.delayed > 0 && self.held.contains_key(&number);
        if was_delayed && let Some(held) = self.held.remove(&number) {
            self.judge_time(held.not_before_ns, receipt);
        }
        if !self.highest.is_empty() {
            self.judge_order(number, stream, receipt);
        }
        let told = (!was_delayed).then_some(number);
        if self.fates.is_doomed(number) || self.fates.is_left(number) {
            self.leave(number, stream, 1, receipt);
            return Verdict::Leave(told);
        }
        Verdict::Delete(told)
    }

    fn again(&mut self, number: u64, stream: u64, receipt: Receipt) -> Verdict {
        let Some(held) = self.held.remove(&number) else {
            self.account.duplicated += 1;
            *self.repeated.entry(number).or_default() += 1;
            return Verdict::Delete(None);
        };
        if let Some(left) = self.left.get_mut(&stream) {
            left.retain(|(other, _)| *other != number);
        }
        let is_doomed = self.fates.is_doomed(number);
        if receipt.is_dead_letter_queue {
            if is_doomed && held.receives == RECEIVES_MAX {
                self.account.dead_lettered += 1;
            } else {
                self.account.strange += 1;
            }
            return Verdict::Delete(None);
        }
        self.judge_time(held.not_before_ns, receipt);
        self.account.redelivered += 1;
        if held.receives >= RECEIVES_MAX {
            // It had been received as often as it may be.
            self.account.duplicated += 1;
            return Verdict::Delete(None);
        }
        if is_doomed {
            self.leave(number, stream, held.receives + 1, receipt);
            return Verdict::Leave(None);
        }
        Verdict::Delete(None)
    }

    fn leave(&mut self, number: u64, stream: u64, receives: u32, receipt: Receipt) {
        let not_before_ns = receipt.asked_ns + u64::from(self.fates.visibility_seconds) * 1_000_000_000;
        self.held.insert(number, Held { not_before_ns, receives });
        if !self.highest.is_empty() {
            let left = self.left.entry(stream).or_default();
            let place = left.partition_point(|(other, _)| *other < number);
            left.insert(place, (number, receipt.reply));
        }
    }

    fn judge_time(&mut self, not_before_ns: u64, receipt: Receipt) {
        if receipt.now_ns + EARLY_TOLERANCE_NS < not_before_ns {
            self.account.early += 1;
        }
        // Late is what a receive has passed over that was asked when the message was long due.
        if self.empty_asked_ns[receipt.queue] > not_before_ns + LATE_TOLERANCE_NS {
            self.account.late += 1;
        }
    }

    /// In a group a later message comes neither before an earlier one nor while that is in flight.
    fn judge_order(&mut self, number: u64, stream: u64, receipt: Receipt) {
        let highest = &mut self.highest[stream as usize];
        let is_overtaken = number < *highest;
        *highest = (*highest).max(number + 1);
        let is_locked = self
            .left
            .get(&stream)
            .is_some_and(|left| left.iter().any(|(other, reply)| *other < number && *reply != receipt.reply));
        self.account.out_of_order += u64::from(is_overtaken || is_locked);
    }

    /// The account once the queues are empty.
    pub fn close(&self) -> Account {
        let sent = self.next - self.not_accepted();
        let never_came_back = self.held.values().filter(|held| held.receives > 0).count() as u64;
        let allowed = self.repeated.iter().map(|(number, times)| {
            let late = self.deleted_late.get(number).copied().unwrap_or_default();
            late.answers.min(*times)
        });
        let allowed: u64 = allowed.sum();
        Account {
            sent,
            lost: sent.saturating_sub(self.received_once) + never_came_back,
            duplicated: self.account.duplicated - allowed,
            duplicated_allowed: allowed,
            ..self.account
        }
    }
}

fn is_set(bits: &[u64], number: u64) -> bool {
    bits.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
}

impl Default for Books {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(reply: u64, asked_ms: u64, now_ms: u64) -> Receipt {
        Receipt {
            queue: 0,
            is_dead_letter_queue: false,
            reply,
            asked_ns: asked_ms * 1_000_000,
            now_ns: now_ms * 1_000_000,
        }
    }

    fn books(fates: Fates, ordered: bool, messages: usize) -> (Books, Vec<[u8; 64]>) {
        let mut books = Books::of(fates, 1, 1, ordered);
        let mut bodies = vec![[0; 64]; messages];
        bodies.iter_mut().for_each(|body| books.next_body(body));
        (books, bodies)
    }

    #[test]
    fn each_fault_is_counted_where_it_belongs() {
        let (mut books, bodies) = books(Fates::default(), false, 70);
        for body in &bodies[1..] {
            books.received(body);
        }
        assert_eq!(books.received(&bodies[5]), Some(5));
        let mut broken = bodies[6];
        broken[40] ^= 1;
        assert_eq!(books.received(&broken), None);
        let mut other = [0; 64];
        Payload { origin: books.origin ^ 1 << 40, number: 1 }.write(&mut other);
        assert_eq!(books.received(&other), None);
        Payload { origin: books.origin | 7, number: 2 }.write(&mut other);
        assert_eq!(books.received(&other), None, "it was sent to another queue");
        let account = books.close();
        let expected =
            Account { sent: 70, lost: 1, duplicated: 1, corrupted: 1, strange: 2, ..Account::default() };
        assert_eq!(account, expected);
        assert!(!account.is_clean());
    }

    #[test]
    fn what_was_refused_must_not_come_and_stands_for_nothing_that_is_lost() {
        let (mut books, bodies) = books(Fates::default(), false, 3);
        books.refused_for_want_of_room(0);
        books.received(&bodies[0]);
        books.received(&bodies[1]);
        books.refused_for_want_of_room(1);
        assert!(!books.is_complete());
        let account = books.close();
        assert_eq!((account.refused_allowed, account.strange, account.lost), (2, 2, 1));
    }

    const ALL_LEFT: Fates =
        Fates { left: WHOLE, doomed: 0, delayed: 0, visibility_seconds: 5, delay_seconds: 0 };

    #[test]
    fn what_was_left_has_to_come_back_in_time_and_once() {
        let (mut books, bodies) = books(ALL_LEFT, false, 4);
        for body in &bodies {
            assert!(matches!(books.arrived(body, receipt(1, 0, 1)).0, Verdict::Leave(Some(_))));
        }
        assert_eq!(books.close().lost, 4, "none has come back yet");
        books.arrived(&bodies[0], receipt(2, 4_900, 4_997));
        books.arrived(&bodies[1], receipt(3, 4_900, 5_000));
        books.found_empty(0, 7_001_000_000);
        books.arrived(&bodies[2], receipt(4, 8_000, 8_001));
        assert!(!books.is_complete());
        let account = books.close();
        assert_eq!((account.early, account.late, account.lost, account.redelivered), (1, 1, 1, 3));
        books.arrived(&bodies[1], receipt(5, 9_000, 9_001));
        assert_eq!(books.close().duplicated, 1);
        books.deleted_late(Some(0), false);
        assert_eq!(books.close().duplicated, 1, "it was another that was deleted late");
        books.deleted_late(Some(1), false);
        assert_eq!((books.close().duplicated, books.close().duplicated_allowed), (0, 1));
    }

    #[test]
    fn what_could_not_be_deleted_in_time_may_still_be_there_until_it_is_deleted() {
        let (mut books, bodies) = books(Fates::default(), true, 2);
        for body in &bodies {
            books.arrived(body, receipt(1, 0, 1));
        }
        books.deleted_late(Some(0), true);
        books.deleted_late(Some(1), false);
        assert_eq!(books.undeleted_allowed(), 1);
        books.arrived(&bodies[0], receipt(2, 2, 3));
        assert_eq!(books.undeleted_allowed(), 0, "it came again and was deleted in time");
        books.deleted_late(Some(0), true);
        assert_eq!(books.undeleted_allowed(), 1, "it was not");
    }

    #[test]
    fn a_delayed_message_must_not_come_before_its_time() {
        let fates = Fates { delayed: WHOLE, delay_seconds: 1, visibility_seconds: 30, ..Fates::default() };
        let (mut books, bodies) = books(fates, false, 2);
        (0..2).for_each(|number| books.delayed(number, 0));
        books.arrived(&bodies[0], receipt(1, 0, 900));
        assert_eq!(books.arrived(&bodies[1], receipt(2, 0, 1_000)), (Verdict::Delete(None), Some(1)));
        assert_eq!((books.close().early, books.is_complete()), (1, true));
    }

    #[test]
    fn a_group_keeps_its_order_and_waits_for_what_is_in_flight() {
        let (mut plain, bodies) = books(Fates::default(), true, 3);
        plain.arrived(&bodies[1], receipt(1, 0, 1));
        plain.arrived(&bodies[0], receipt(2, 0, 1));
        plain.arrived(&bodies[2], receipt(3, 0, 1));
        assert_eq!(plain.close().out_of_order, 1);

        let (mut left, bodies) = books(ALL_LEFT, true, 3);
        left.arrived(&bodies[0], receipt(1, 0, 1));
        left.arrived(&bodies[1], receipt(1, 0, 1));
        assert_eq!(left.close().out_of_order, 0, "one reply may bring several of a group");
        left.arrived(&bodies[2], receipt(2, 0, 1));
        assert_eq!(left.close().out_of_order, 1, "the first is still in flight");
    }

    #[test]
    fn a_doomed_message_is_left_until_it_is_a_dead_letter() {
        let fates = Fates { doomed: WHOLE, visibility_seconds: 1, ..Fates::default() };
        let (mut books, bodies) = books(fates, false, 2);
        for time in [0, 2_000] {
            assert!(matches!(books.arrived(&bodies[0], receipt(1, time, time)).0, Verdict::Leave(_)));
        }
        let dead = Receipt { is_dead_letter_queue: true, queue: 1, ..receipt(3, 4_000, 4_001) };
        assert_eq!(books.arrived(&bodies[0], dead).0, Verdict::Delete(None));
        assert_eq!((books.close().dead_lettered, books.close().strange), (1, 0));
        books.arrived(&bodies[1], receipt(4, 0, 1));
        books.arrived(&bodies[1], dead);
        assert_eq!(books.close().strange, 1, "received once only, it is no dead letter yet");
    }
}
