//! Books over all messages of a run: what was sent has to be received once, whole.

use std::fmt;

use crate::payload::{self, Corrupted, Payload};

/// The account of one run. Numbers are given out in order, so a bit each is enough.
#[derive(Debug)]
pub struct Books {
    origin: u64,
    next: u64,
    refused: u64,
    received: Vec<u64>,
    received_once: u64,
    duplicated: u64,
    corrupted: u64,
    strange: u64,
}

impl Books {
    /// Empty books with an origin of their own.
    pub fn new() -> Self {
        Books {
            origin: payload::new_origin(),
            next: 0,
            refused: 0,
            received: Vec::new(),
            received_once: 0,
            duplicated: 0,
            corrupted: 0,
            strange: 0,
        }
    }

    /// Fills the body of the next message.
    pub fn next_body(&mut self, body: &mut [u8]) {
        Payload { origin: self.origin, number: self.next }.write(body);
        if self.next.is_multiple_of(64) {
            self.received.push(0);
        }
        self.next += 1;
    }

    /// How many messages were made so far.
    pub fn made(&self) -> u64 {
        self.next
    }

    /// A message was refused: it must not come.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// A message came; gives its number where it is one of this run.
    pub fn received(&mut self, body: &[u8]) -> Option<u64> {
        match Payload::read(body) {
            Ok(Payload { origin, number }) if origin == self.origin && number < self.next => {
                let word = &mut self.received[(number / 64) as usize];
                let bit = 1 << (number % 64);
                if *word & bit == 0 {
                    *word |= bit;
                    self.received_once += 1;
                } else {
                    self.duplicated += 1;
                }
                Some(number)
            }
            Ok(_) => {
                self.strange += 1;
                None
            }
            Err(Corrupted) => {
                self.corrupted += 1;
                None
            }
        }
    }

    /// The account once the queue is empty.
    pub fn close(&self) -> Account {
        Account {
            sent: self.next - self.refused,
            refused: self.refused,
            lost: (self.next - self.refused).saturating_sub(self.received_once),
            duplicated: self.duplicated,
            corrupted: self.corrupted,
            strange: self.strange,
        }
    }
}

impl Default for Books {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of the messages of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Accepted by the broker.
    pub sent: u64,
    /// Not accepted.
    pub refused: u64,
    /// Accepted and never received.
    pub lost: u64,
    /// Received again although they had been received in time.
    pub duplicated: u64,
    /// Received with other bytes than were sent.
    pub corrupted: u64,
    /// Of another run: the queue was not empty, or not ours alone.
    pub strange: u64,
}

impl Account {
    /// Whether every message came once and whole.
    pub fn is_clean(&self) -> bool {
        (self.refused, self.lost, self.duplicated, self.corrupted, self.strange) == (0, 0, 0, 0, 0)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { sent, refused, lost, duplicated, corrupted, strange } = self;
        write!(
            formatter,
            "{sent} messages: {refused} refused, {lost} lost, {duplicated} duplicated, {corrupted} corrupted, \
             {strange} strange"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_where_it_belongs() {
        let mut books = Books::new();
        let mut bodies = vec![[0; 64]; 70];
        bodies.iter_mut().for_each(|body| books.next_body(body));
        for body in &bodies[1..] {
            books.received(body);
        }
        assert_eq!(books.received(&bodies[5]), Some(5));
        let mut broken = bodies[6];
        broken[40] ^= 1;
        assert_eq!(books.received(&broken), None);
        let mut other = [0; 64];
        Payload { origin: books.origin ^ 1, number: 1 }.write(&mut other);
        assert_eq!(books.received(&other), None);
        let account = books.close();
        let expected = Account { sent: 70, refused: 0, lost: 1, duplicated: 1, corrupted: 1, strange: 1 };
        assert_eq!(account, expected);
        assert!(!account.is_clean());
    }
}
