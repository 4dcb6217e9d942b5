//! What is looked at for all clients together, now and then: who is silent for too long, and how far the
//! gateway is. A timer and a channel for each connection would cost more than most requests do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// How often clients are looked at within the time that they may be silent.
const BEATS: u32 = 16;

/// How far the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Stopping,
    Abandoned,
}

/// All clients that are watched.
pub(super) struct Pulse {
    beats: Cell<u32>,
    phase: Cell<Phase>,
    clients: RefCell<Vec<Rc<Watched>>>,
}

/// A client's connection as far as it is watched. It is forgotten when its connection ends.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The beat since which a request's head is waited for; `None` while a request is served.
    waits_since: Cell<Option<u32>>,
    is_overdue: Cell<bool>,
    /// Wakes the connection's task, which is always the same.
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    pub(super) fn new() -> Rc<Self> {
        let phase = Cell::new(Phase::Serving);
        Rc::new(Self { beats: Cell::default(), phase, clients: RefCell::default() })
    }

    /// Beats until it is dropped. Clients may be silent for so long.
    pub(super) async fn run(&self, patience: Duration) {
        loop {
            tokio::time::sleep(patience / BEATS).await;
            self.beat();
        }
    }

    fn beat(&self) {
        let now = self.beats.get().wrapping_add(1);
        self.beats.set(now);
        self.clients.borrow_mut().retain(|client| {
            let is_overdue = client.waits_since.get().is_some_and(|since| now.wrapping_sub(since) > BEATS);
            if is_overdue && !client.is_overdue.replace(true) {
                client.wake();
            }
            Rc::strong_count(client) > 1
        });
    }

    /// A new client, who is waited for.
    pub(super) fn watch(&self) -> Rc<Watched> {
        let client = Rc::new(Watched::default());
        client.wait(self);
        self.clients.borrow_mut().push(Rc::clone(&client));
        client
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Says to all connections how far the gateway is.
    pub(super) fn tell(&self, phase: Phase) {
        self.phase.set(phase);
        self.clients.borrow().iter().for_each(|client| client.wake());
    }
}

impl Watched {
    /// Its next request is waited for from now on.
    pub(super) fn wait(&self, pulse: &Pulse) {
        self.waits_since.set(Some(pulse.beats.get()));
    }

    /// A request's head is there.
    pub(super) fn has_asked(&self) {
        self.waits_since.set(None);
    }

    /// Whether a request of it is served.
    pub(super) fn is_served(&self) -> bool {
        self.waits_since.get().is_none()
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_overdue.get()
    }

    /// Lets the connection's task be woken for what happens here.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(context.waker().clone());
        }
    }

    fn wake(&self) {
        self.waker.borrow().iter().for_each(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_for_too_long_is_overdue() {
        let pulse = Pulse::new();
        let (silent, busy, gone) = (pulse.watch(), pulse.watch(), pulse.watch());
        busy.has_asked();
        drop(gone);
        for _ in 0..BEATS {
            pulse.beat();
        }
        assert!(!silent.is_overdue());
        assert_eq!(pulse.clients.borrow().len(), 2);
        pulse.beat();
        assert!(silent.is_overdue());
        // Whose request is served is waited for again once it is answered.
        assert!(!busy.is_overdue());
        busy.wait(&pulse);
        for _ in 0..BEATS {
            pulse.beat();
        }
        assert!(!busy.is_overdue());
        pulse.beat();
        assert!(busy.is_overdue());
    }
}
