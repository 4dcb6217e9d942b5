//! What the receivers and workers of a consumer share: the messages that are held and not yet handled.
//!
//! Whoever finds messages calls one worker that has nothing to do, and that one the next, so that a worker that
//! is done at once takes what would have kept others from sleep.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::consumer::Outcome;
use crate::error::Error;
use crate::message::Message;
use crate::prefetch::Held;

/// Messages in a receive at most.
const RECEIVE_MAX: usize = 10;

/// A message group.
type Group = Box<str>;

/// The shift that workers work in.
#[derive(Debug)]
pub(crate) struct Shift {
    state: Mutex<State>,
    is_fifo: bool,
    /// There are messages to handle, or none will come any more.
    messages: Notify,
    /// There is room for more.
    room: Notify,
    /// Receiving has failed for good.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Held>,
    /// FIFO: groups of which a message is being handled, and what of them waits behind it.
    busy: HashMap<Group, VecDeque<Held>>,
    /// Workers that wait for messages.
    idle: usize,
    /// One of them was called and has not looked yet.
    called: bool,
    /// How many more may be held.
    room: usize,
    stopping: bool,
    failure: Option<Error>,
}

impl Shift {
    /// A shift that holds up to `room` messages.
    pub fn new(room: usize, is_fifo: bool) -> Self {
        Self {
            state: Mutex::new(State { room, ..State::default() }),
            is_fifo,
            messages: Notify::new(),
            room: Notify::new(),
            ended: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group that a message keeps its order in; none on a standard queue.
    pub fn group_of(&self, message: &Message) -> Option<Group> {
        self.is_fifo.then(|| group_of(message))
    }

    /// Receiving has failed for good.
    pub fn fail(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
        self.ended.notify_one();
    }

    /// Resolves when receiving has failed for good.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Why receiving has failed.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    /// No more is begun: what waits is let go.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        let waiting = std::mem::take(&mut state.waiting);
        let behind: Vec<_> = state.busy.values_mut().flat_map(std::mem::take).collect();
        drop(state);
        // In the order in which they came, so that they stand in it again.
        waiting.into_iter().chain(behind).for_each(drop);
        self.messages.notify_waiters();
    }

    /// Room for some messages, as soon as there is any.
    pub async fn reserve(&self) -> usize {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if state.room > 0 {
                    let taken = state.room.min(RECEIVE_MAX);
                    state.room -= taken;
                    if state.room > 0 {
                        // Others may wait for it, and are told of the first of it alone.
                        self.room.notify_one();
                    }
                    return taken;
                }
            }
            room.await;
        }
    }

    pub fn give_room_back(&self, count: usize) {
        if count > 0 {
            self.lock().room += count;
            self.room.notify_one();
        }
    }

    pub fn push(&self, batch: Vec<Held>) {
        let mut state = self.lock();
        state.waiting.extend(batch);
        self.call(state);
    }

    /// Calls a worker that has nothing to do, where there is something.
    fn call(&self, mut state: MutexGuard<'_, State>) {
        if state.idle > 0 && !state.called && !state.waiting.is_empty() {
            state.called = true;
            drop(state);
            self.messages.notify_one();
        }
    }

    /// The next message to handle; `None`: no more is begun.
    pub async fn next(&self) -> Option<Held> {
        let mut has_waited = false;
        loop {
            let messages = self.messages.notified();
            {
                let mut state = self.lock();
                if has_waited {
                    state.idle -= 1;
                    state.called = false;
                }
                if state.stopping {
                    return None;
                }
                if let Some(held) = self.pop(&mut state) {
                    self.call(state);
                    return Some(held);
                }
                state.idle += 1;
                has_waited = true;
            }
            messages.await;
        }
    }

    fn pop(&self, state: &mut State) -> Option<Held> {
        while let Some(held) = state.waiting.pop_front() {
            if !self.is_fifo {
                return Some(held);
            }
            match state.busy.entry(group_of(held.message())) {
                Entry::Occupied(mut behind) => behind.get_mut().push_back(held),
                Entry::Vacant(group) => {
                    group.insert(VecDeque::new());
                    return Some(held);
                }
            }
        }
        None
    }

    /// A message was handled: what of its group waits goes on, or, where the message comes back, is let
    /// go, so that it does not overtake. Gives the next message, where there is one.
    pub fn settle(&self, held: Held, group: Option<Group>, outcome: Outcome) -> Option<Held> {
        match outcome {
            Outcome::Delete => held.delete(),
            Outcome::Leave | Outcome::Failed => drop(held.leave()),
            Outcome::Retry(time) => held.hide(time),
        }
        let mut freed = 1;
        let mut let_go = VecDeque::new();
        let mut state = self.lock();
        if let Some(group) = group
            && let Some(behind) = state.busy.remove(&group)
        {
            if outcome == Outcome::Delete {
                behind.into_iter().rev().for_each(|held| state.waiting.push_front(held));
            } else {
                // All of the group that is held here stands behind the message that comes back.
                let_go = behind;
                for held in std::mem::take(&mut state.waiting) {
                    let is_behind = group_of(held.message()) == group;
                    (if is_behind { &mut let_go } else { &mut state.waiting }).push_back(held);
                }
                freed += let_go.len();
            }
        }
        let is_full = state.room == 0;
        state.room += freed;
        let next = if state.stopping { None } else { self.pop(&mut state) };
        self.call(state);
        let_go.into_iter().for_each(drop);
        if is_full {
            self.room.notify_one();
        }
        next
    }
}

fn group_of(message: &Message) -> Group {
    message.group().unwrap_or_default().into()
}
