//! Messages that were received ahead and are held for a consumer or a stream.
//!
//! What is held stays hidden: a task changes its visibility timeout whenever a part of it has passed.
//! What is let go unhandled is made visible again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::batcher::{Settler, Settling};
use crate::message::{Message, ReceiptHandle};

/// How often in a visibility timeout what is held is looked at.
const LOOKS_A_TIMEOUT: u32 = 6;
/// A message is hidden anew once this many of those looks have passed since the last time.
const LOOKS_BEFORE_RENEWAL: u32 = 2;

/// What is held, by a number that rises.
#[derive(Debug)]
pub(crate) struct Holdings {
    state: Mutex<State>,
    settler: Settler,
    visibility: Duration,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    held: HashMap<u64, (ReceiptHandle, Instant)>,
}

impl Holdings {
    /// Nothing yet; what comes is hidden for `visibility` at a time.
    pub fn new(settler: Settler, visibility: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), settler, visibility })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Holds a message that was received at this time.
    pub fn hold(self: &Arc<Self>, message: Message, received: Instant) -> Held {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.held.insert(number, (message.handle().clone(), received));
        drop(state);
        Held { message: Some(message), number, holdings: Arc::clone(self) }
    }

    /// Keeps what is held hidden, until nobody can hold anything any more.
    pub async fn keep_hidden(holdings: std::sync::Weak<Self>, visibility: Duration) {
        let look = (visibility / LOOKS_A_TIMEOUT).max(Duration::from_millis(50));
        loop {
            tokio::time::sleep(look).await;
            let Some(holdings) = holdings.upgrade() else { return };
            let mut state = holdings.lock();
            for (handle, since) in state.held.values_mut() {
                if since.elapsed() >= look * LOOKS_BEFORE_RENEWAL {
                    *since = Instant::now();
                    holdings.settler.settle(Settling::Hide(handle.clone(), holdings.visibility));
                }
            }
        }
    }
}

/// A message that is held. Dropping it makes it visible for others.
#[derive(Debug)]
pub(crate) struct Held {
    message: Option<Message>,
    number: u64,
    holdings: Arc<Holdings>,
}

impl Held {
    /// The message.
    pub fn message(&self) -> &Message {
        self.message.as_ref().expect("only taking it apart takes it out")
    }

    fn take(&mut self) -> Option<Message> {
        self.holdings.lock().held.remove(&self.number);
        self.message.take()
    }

    /// Lets go of it without a word: it comes back when its visibility timeout has passed.
    pub fn leave(mut self) -> Message {
        self.take().expect("only taking it apart takes it out")
    }

    /// Deletes it.
    pub fn delete(mut self) {
        if let Some(message) = self.take() {
            self.holdings.settler.settle(Settling::Delete(message.handle().clone()));
        }
    }

    /// Hides it for so long from now on, and lets go of it.
    pub fn hide(mut self, time: Duration) {
        if let Some(message) = self.take() {
            self.holdings.settler.settle(Settling::Hide(message.handle().clone(), time));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(message) = self.take() {
            self.holdings.settler.settle(Settling::Hide(message.handle().clone(), Duration::ZERO));
        }
    }
}
