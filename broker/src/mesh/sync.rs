//! What the mesh is made of, under names that a model checker can stand in for: `broker/loom` compiles
//! the ring, the wake protocol and the peer against loom's versions of the same things.

use std::cell;

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Memory that is shared with a thread that stays away from it meanwhile, by a promise of the code.
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(cell::UnsafeCell::new(value))
    }

    /// Lets `look` read it through a pointer.
    pub(super) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    /// Lets `change` write it through a pointer.
    pub(super) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}
