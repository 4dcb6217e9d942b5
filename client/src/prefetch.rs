//! Messages that were received ahead and are held for a consumer or a stream.
//!
//! What is held stays hidden: a task changes its visibility timeout whenever a part of it has passed.
//! What is let go unhandled is made visible again.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::batcher::{Settler, Settling};
use crate::message::{KeptHandle, Message};

/// How often in a visibility timeout what is held is looked at.
const LOOKS_A_TIMEOUT: u32 = 6;
/// A message is hidden anew when it was seen at this many of those looks since the last time.
const LOOKS_BEFORE_RENEWAL: u32 = 2;

/// What is held, each message in a place that is used again.
#[derive(Debug)]
pub(crate) struct Holdings {
    state: Mutex<State>,
    settler: Settler,
    visibility: Duration,
}

#[derive(Debug, Default)]
struct State {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Place {
    handle: KeptHandle,
    /// Looks since it was hidden last.
    looks: u32,
}

impl Holdings {
    /// Nothing yet; what comes is hidden for `visibility` at a time.
    pub fn new(settler: Settler, visibility: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), settler, visibility })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Holds messages that were just received.
    pub fn hold(self: &Arc<Self>, messages: Vec<Message>) -> Vec<Held> {
        let mut state = self.lock();
        let hold = |message: Message| {
            let place = Some(Place { handle: message.kept_handle(), looks: 0 });
            let number = match state.free.pop() {
                Some(number) => {
                    state.places[number] = place;
                    number
                }
                None => {
                    state.places.push(place);
                    state.places.len() - 1
                }
            };
            Held { message: Some(message), number: Some(number), holdings: Arc::clone(self) }
        };
        messages.into_iter().map(hold).collect()
    }

    /// Keeps what is held hidden, until nobody can hold anything any more.
    pub async fn keep_hidden(holdings: Weak<Self>, visibility: Duration) {
        let look = (visibility / LOOKS_A_TIMEOUT).max(Duration::from_millis(50));
        loop {
            tokio::time::sleep(look).await;
            let Some(holdings) = holdings.upgrade() else { return };
            for place in holdings.lock().places.iter_mut().flatten() {
                place.looks += 1;
                if place.looks >= LOOKS_BEFORE_RENEWAL {
                    place.looks = 0;
                    holdings.settler.settle(Settling::Renew(place.handle.clone(), holdings.visibility));
                }
            }
        }
    }
}

/// A message that is held. Dropping it makes it visible for others.
#[derive(Debug)]
pub(crate) struct Held {
    /// `None`: a handler has it.
    message: Option<Message>,
    /// Its place; `None`: it was let go of.
    number: Option<usize>,
    holdings: Arc<Holdings>,
}

impl Held {
    /// The message, where no handler has it.
    pub fn message(&self) -> &Message {
        self.message.as_ref().expect("it is given to a handler once, and not looked at from then on")
    }

    /// Gives the message to a handler. It is held on.
    pub fn give(&mut self) -> Message {
        self.message.take().expect("it is given to a handler once")
    }

    fn release(&mut self) -> Option<KeptHandle> {
        let number = self.number.take()?;
        let mut state = self.holdings.lock();
        state.free.push(number);
        state.places[number].take().map(|place| place.handle)
    }

    /// Lets go of it without a word: it comes back when its visibility timeout has passed.
    pub fn leave(mut self) -> Option<Message> {
        self.release();
        self.message.take()
    }

    /// Deletes it.
    pub fn delete(mut self) {
        if let Some(handle) = self.release() {
            self.holdings.settler.settle(Settling::Delete(handle));
        }
    }

    /// Hides it for so long from now on, and lets go of it.
    pub fn hide(mut self, time: Duration) {
        if let Some(handle) = self.release() {
            self.holdings.settler.settle(Settling::Hide(handle, time));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(handle) = self.release() {
            self.holdings.settler.settle(Settling::Hide(handle, Duration::ZERO));
        }
    }
}
