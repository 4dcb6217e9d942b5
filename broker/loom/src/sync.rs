//! What the mesh is made of, by loom; with faults for the models that show that loom would notice.

use std::cell::Cell;

// The standard library's: what it promises of the last owner's drop is not ours to check, and the models
// leave it out.
pub(super) use std::sync::Arc;

pub(super) use loom::cell::UnsafeCell;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

thread_local! {
    /// A model's threads all run on one thread, so a fault is a model's own.
    static WITHOUT_FENCES: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn fence(order: Ordering) {
    if !WITHOUT_FENCES.get() {
        loom::sync::atomic::fence(order);
    }
}

/// Runs a model of a mesh that was built without its fences.
pub(super) fn without_fences(model: impl FnOnce()) {
    WITHOUT_FENCES.set(true);
    model();
    WITHOUT_FENCES.set(false);
}
