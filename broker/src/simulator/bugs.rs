//! A broker with one planted bug, which the thread that runs it chooses.
//!
//! All bugs share this one type, so that a program is built with the broker twice and not once for each.

use std::cell::Cell;

use crate::flaws::{Flaw, Flaws};

thread_local! {
    static PLANTED: Cell<Option<Flaw>> = const { Cell::new(None) };
}

/// Has the bug that was planted in the running thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted;

impl Planted {
    /// Every broker that this thread runs as [`Planted`] has this bug from now on.
    pub fn plant(flaw: Flaw) {
        PLANTED.set(Some(flaw));
    }

    /// Does something that has this bug.
    pub fn with<T>(flaw: Flaw, run: impl FnOnce() -> T) -> T {
        Self::plant(flaw);
        let result = run();
        PLANTED.set(None);
        result
    }
}

impl Flaws for Planted {
    fn has(flaw: Flaw) -> bool {
        PLANTED.get() == Some(flaw)
    }
}
