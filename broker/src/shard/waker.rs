//! How other threads get a shard's driver out of its wait: an eventfd that the driver polls.
//!
//! The helper threads of a driver ring the `Bell` when a completion lies in their queue, and anybody
//! may hold a [`Waker`]. Both wake at most once until the driver has looked: whoever finds the bell
//! already rung adds nothing, so that a thousand wakes of a busy shard cost one system call.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes one shard's driver from any thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct Waker {
    bell: Arc<Bell>,
    asked: Arc<AtomicBool>,
}

impl Waker {
    /// Makes a waker with its bell, for one driver to be made with: it polls the bell.
    pub fn new() -> io::Result<Self> {
        Ok(Self { bell: Arc::new(Bell::new()?), asked: Arc::new(AtomicBool::new(false)) })
    }

    /// Makes the driver's current or next poll report [`super::driver::Event::Woken`]. What was
    /// written before this call is visible to the shard when it sees the event.
    pub fn wake(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// The bell, for helper threads that have a queue of their own.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Whether [`Waker::wake`] was called since the last time; called by the driver after
    /// [`Bell::answer`].
    pub(crate) fn take(&self) -> bool {
        // A plain load first: this is asked once a turn and nearly always false.
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::AcqRel)
    }
}

/// An eventfd and whether it was rung since the driver last answered it.
#[derive(Debug)]
pub(crate) struct Bell {
    file: File,
    rung: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is used.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { file: File::from(owned), rung: AtomicBool::new(false) })
    }

    /// Wakes the driver if nobody has since it last answered.
    pub(crate) fn ring(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // The driver polls for edges and never reads the counter, so it only ever rises. It would be
        // full after 2^64 - 1 rings; should it be, reading it makes room.
        let one = 1_u64.to_ne_bytes();
        while let Err(error) = (&self.file).write(&one) {
            if error.kind() == io::ErrorKind::WouldBlock {
                // A failure here means that somebody else has emptied it.
                let _ = (&self.file).read(&mut [0_u8; 8]);
            }
        }
    }

    /// The driver has noticed the bell: the next ring is a new one. Called before the driver looks at
    /// what was left for it, so that whatever is left later rings again.
    pub(crate) fn answer(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
