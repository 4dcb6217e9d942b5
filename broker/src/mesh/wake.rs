//! The wake protocol: a parked peer is woken, a running one never is, and no wake is lost.
//!
//! Who parks announces it, puts up a fence, and looks once more at everything that it could miss; who
//! has left something puts up a fence and looks for the announcement. Whichever fence comes second, its
//! owner sees what the other wrote: either the parker finds the work, or the other finds it parked.

use super::sync::{AtomicBool, Ordering, fence};

/// How a peer is got out of its wait, from any thread: a shard by the bell of its driver, a task by a
/// notification. A wake that comes before the wait has begun must end it at once.
pub trait Wake: Send + Sync {
    /// Ends the current or the next wait.
    fn wake(&self);
}

/// Where one peer says that it is parked. Shared by all who send to it.
pub(super) struct Berth {
    parked: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Berth {
    pub(super) fn new(wake: Box<dyn Wake>) -> Self {
        Self { parked: AtomicBool::new(false), wake }
    }

    /// The peer is about to park; it calls [`look_again`] next.
    pub(super) fn announce(&self) {
        self.parked.store(true, Ordering::Relaxed);
    }

    /// The peer runs.
    pub(super) fn leave(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Wakes the peer if it is parked and nobody else does: called after leaving something for it.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        // A plain load first: a running peer, the usual case, keeps its cache line.
        if self.parked.load(Ordering::Relaxed) && is_first(&self.parked) {
            self.wake.wake();
        }
    }
}

/// Whether this call, of all that try, has turned the flag off.
pub(super) fn is_first(flag: &AtomicBool) -> bool {
    flag.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The parker's fence, between its announcement and its last look.
pub(super) fn look_again() {
    fence(Ordering::SeqCst);
}
