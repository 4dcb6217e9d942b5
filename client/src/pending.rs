//! Requests under way on one connection: who waits for which answer.
//!
//! A request's place in the table and how often that place was used make its correlation id, so that
//! an answer finds its request without a search, and one that comes too late finds nobody.

use std::task::Waker;

use tenpin_protocol::OwnedFrame;

use crate::error::Result;

/// What becomes of an answer that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// It is dropped.
    Drop,
    /// It may bring messages of this queue, which are made visible again for others.
    HandBack {
        /// The queue's number.
        queue: u64,
    },
}

/// Bits of a correlation id that say which place.
const PLACE_BITS: u32 = 20;
/// Requests that one connection can have under way.
pub(crate) const REQUESTS_MAX: usize = (1 << PLACE_BITS) - 1;

#[derive(Debug)]
enum State {
    Free,
    Waiting(Option<Waker>),
    Done(Result<OwnedFrame>),
    Abandoned,
}

#[derive(Debug)]
struct Entry {
    uses: u32,
    unclaimed: Unclaimed,
    state: State,
}

/// What came of looking whether an answer is there.
pub(crate) enum Polled {
    /// Not yet; the waker is remembered.
    Waiting,
    /// Here it is; the place is free again.
    Done(Result<OwnedFrame>),
}

/// What an answer met.
pub(crate) enum Arrived {
    /// Somebody who waits and is to be woken, if they have asked for it.
    Claimed(Option<Waker>),
    /// Somebody who has gone.
    Unclaimed(Unclaimed, OwnedFrame),
    /// No request at all.
    Unknown,
}

/// The table. It grows to the requests that were ever under way at once and is reused from there.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Pending {
    /// A place for a request, and its correlation id.
    pub fn begin(&mut self, unclaimed: Unclaimed, is_waited_for: bool) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.entries.len() < REQUESTS_MAX => {
                self.entries.push(Entry { uses: 0, unclaimed, state: State::Free });
                (self.entries.len() - 1) as u32
            }
            None => return None,
        };
        let entry = &mut self.entries[place as usize];
        entry.uses = (entry.uses + 1) & (u32::MAX >> PLACE_BITS);
        entry.unclaimed = unclaimed;
        entry.state = if is_waited_for { State::Waiting(None) } else { State::Abandoned };
        Some(((entry.uses) << PLACE_BITS) | (place + 1))
    }

    fn find(&mut self, correlation: u32) -> Option<(u32, &mut Entry)> {
        let place = (correlation & ((1 << PLACE_BITS) - 1)).checked_sub(1)?;
        let entry = self.entries.get_mut(place as usize)?;
        (entry.uses == correlation >> PLACE_BITS && !matches!(entry.state, State::Free))
            .then_some((place, entry))
    }

    /// Whether a request's answer is there.
    pub fn poll(&mut self, correlation: u32, waker: &Waker) -> Polled {
        let (place, entry) = self.find(correlation).expect("a request keeps its place until it is answered");
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Done(result) => {
                self.free.push(place);
                Polled::Done(result)
            }
            State::Waiting(before) => {
                let waker = match before {
                    Some(before) if before.will_wake(waker) => before,
                    _ => waker.clone(),
                };
                entry.state = State::Waiting(Some(waker));
                Polled::Waiting
            }
            State::Abandoned | State::Free => unreachable!("only its own future polls a request"),
        }
    }

    /// Nobody waits for this request's answer any more. Gives back an answer that is there already.
    pub fn abandon(&mut self, correlation: u32) -> Option<(Unclaimed, OwnedFrame)> {
        let (place, entry) = self.find(correlation)?;
        match std::mem::replace(&mut entry.state, State::Abandoned) {
            State::Done(result) => {
                entry.state = State::Free;
                let unclaimed = entry.unclaimed;
                self.free.push(place);
                result.ok().map(|frame| (unclaimed, frame))
            }
            _ => None,
        }
    }

    /// A request that was not made after all: its place is free again.
    pub fn withdraw(&mut self, correlation: u32) {
        if let Some((place, entry)) = self.find(correlation) {
            entry.state = State::Free;
            self.free.push(place);
        }
    }

    /// An answer has come.
    pub fn arrived(&mut self, frame: OwnedFrame) -> Arrived {
        let Some((place, entry)) = self.find(frame.correlation()) else { return Arrived::Unknown };
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Waiting(waker) => {
                entry.state = State::Done(Ok(frame));
                Arrived::Claimed(waker)
            }
            State::Abandoned => {
                let unclaimed = entry.unclaimed;
                self.free.push(place);
                Arrived::Unclaimed(unclaimed, frame)
            }
            done @ (State::Done(_) | State::Free) => {
                entry.state = done;
                Arrived::Unknown
            }
        }
    }

    /// The connection has ended: everybody who waits is told why, and woken.
    pub fn fail_all(&mut self, error: &crate::Error) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            match std::mem::replace(&mut entry.state, State::Free) {
                State::Waiting(waker) => {
                    entry.state = State::Done(Err(error.clone()));
                    wakers.extend(waker);
                }
                State::Abandoned => self.free.push(place as u32),
                other => entry.state = other,
            }
        }
        wakers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use tenpin_protocol::{Done, FrameCodec, Response};
    use tokio_util::codec::Decoder as _;

    fn answer(correlation: u32) -> OwnedFrame {
        let mut bytes = Vec::new();
        Response::Purge(Done {}).encode(correlation, &mut bytes);
        FrameCodec::new().decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap()
    }

    #[test]
    fn an_answer_finds_its_request_once_and_a_late_one_finds_nobody() {
        let mut pending = Pending::default();
        let first = pending.begin(Unclaimed::Drop, true).unwrap();
        assert!(matches!(pending.poll(first, Waker::noop()), Polled::Waiting));
        assert!(matches!(pending.arrived(answer(first)), Arrived::Claimed(Some(_))));
        assert!(matches!(pending.arrived(answer(first)), Arrived::Unknown));
        assert!(matches!(pending.poll(first, Waker::noop()), Polled::Done(Ok(_))));
        let second = pending.begin(Unclaimed::Drop, true).unwrap();
        assert_ne!(first, second, "the place is used again under another id");
        assert!(matches!(pending.arrived(answer(first)), Arrived::Unknown));
    }

    #[test]
    fn what_is_abandoned_keeps_its_place_until_its_answer_comes() {
        let mut pending = Pending::default();
        let request = pending.begin(Unclaimed::HandBack { queue: 7 }, true).unwrap();
        assert!(pending.abandon(request).is_none());
        let other = pending.begin(Unclaimed::Drop, true).unwrap();
        assert_ne!(request, other);
        let arrived = pending.arrived(answer(request));
        assert!(matches!(arrived, Arrived::Unclaimed(Unclaimed::HandBack { queue: 7 }, _)));
    }

    #[test]
    fn an_answer_that_came_before_it_was_abandoned_is_given_back() {
        let mut pending = Pending::default();
        let request = pending.begin(Unclaimed::HandBack { queue: 7 }, true).unwrap();
        assert!(matches!(pending.arrived(answer(request)), Arrived::Claimed(None)));
        assert!(pending.abandon(request).is_some());
    }

    #[test]
    fn the_end_of_a_connection_reaches_everybody() {
        let mut pending = Pending::default();
        let request = pending.begin(Unclaimed::Drop, true).unwrap();
        assert!(matches!(pending.poll(request, Waker::noop()), Polled::Waiting));
        assert_eq!(pending.fail_all(&crate::Error::Closed).len(), 1);
        assert!(matches!(pending.poll(request, Waker::noop()), Polled::Done(Err(crate::Error::Closed))));
    }
}
