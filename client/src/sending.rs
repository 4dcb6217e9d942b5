//! What became of a message that was handed over: told by who sends it, and waited for by who wants to know.
//!
//! Both sides share a place on a board of several, so that a message by itself costs no allocation.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::message::Sent;

/// Places on a board. It lives as long as one of its messages is under way or asked about.
const PLACES: usize = 32;

#[derive(Debug, Default)]
struct Place {
    /// Nobody asks any more. Who misses that leaves an outcome that goes with the board.
    unheeded: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Waiting(Waker),
    Done(Result<Sent>),
    Taken,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Board = Arc<[Place; PLACES]>;

/// Makes both sides.
#[derive(Debug, Default)]
pub(crate) struct Boards {
    board: Board,
    used: usize,
}

impl Boards {
    /// Both sides of a new message.
    pub fn pair(&mut self) -> (Telling, Sending) {
        if self.used == PLACES {
            *self = Self::default();
        }
        let place = self.used;
        self.used += 1;
        let telling = Telling { board: Arc::clone(&self.board), place, is_told: false };
        (telling, Sending { board: Arc::clone(&self.board), place, is_polled: false })
    }
}

/// The side that says what became of the message: [`Error::Closed`] where it is dropped without a word.
#[derive(Debug)]
pub(crate) struct Telling {
    board: Board,
    place: usize,
    is_told: bool,
}

impl Telling {
    /// Says it.
    pub fn tell(mut self, outcome: Result<Sent>) {
        self.is_told = true;
        self.put(outcome);
    }

    fn put(&self, outcome: Result<Sent>) {
        let place = &self.board[self.place];
        if place.unheeded.load(Ordering::Relaxed) {
            return;
        }
        let before = std::mem::replace(&mut *place.lock(), State::Done(outcome));
        if let State::Waiting(waker) = before {
            waker.wake();
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.is_told {
            self.put(Err(Error::Closed));
        }
    }
}

/// A message on its way; as a future, it gives what became of it. Dropping it lets the message go on
/// its way unheeded.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let producer = queue.producer().start();
/// let (first, second) = (producer.enqueue("first").await?, producer.enqueue("second").await?);
/// println!("stored as {} and {}", first.await?.id, second.await?.id);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Sending {
    board: Board,
    place: usize,
    is_polled: bool,
}

impl Future for Sending {
    type Output = Result<Sent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.is_polled = true;
        let mut state = self.board[self.place].lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(outcome) => return Poll::Ready(outcome),
            State::Taken => panic!("it was polled after it had given its outcome"),
            State::Waiting(waker) if waker.will_wake(context.waker()) => *state = State::Waiting(waker),
            State::New | State::Waiting(_) => *state = State::Waiting(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let place = &self.board[self.place];
        place.unheeded.store(true, Ordering::Relaxed);
        if self.is_polled {
            // No waker is left behind.
            *place.lock() = State::Taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(sending: &mut Sending) -> Poll<Result<Sent>> {
        Pin::new(sending).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_told_is_heard_and_silence_is_a_closed_producer() {
        let mut boards = Boards::default();
        let (telling, mut sending) = boards.pair();
        assert!(poll(&mut sending).is_pending());
        telling.tell(Ok(Sent { id: crate::MessageId([7; 16]), sequence_number: None }));
        assert!(matches!(poll(&mut sending), Poll::Ready(Ok(Sent { id: crate::MessageId([7, ..]), .. }))));
        let (telling, mut sending) = boards.pair();
        drop(telling);
        assert!(matches!(poll(&mut sending), Poll::Ready(Err(Error::Closed))));
    }

    #[test]
    fn a_full_board_is_followed_by_another() {
        let mut boards = Boards::default();
        let mut pairs: Vec<_> = (0..2 * PLACES + 1).map(|_| boards.pair()).collect();
        let (telling, _) = pairs.remove(PLACES);
        telling.tell(Err(Error::Closed));
        let done = pairs
            .iter_mut()
            .filter(|(_, sending)| matches!(*sending.board[sending.place].lock(), State::Done(_)));
        assert_eq!(done.count(), 0, "it was another's place");
    }
}
