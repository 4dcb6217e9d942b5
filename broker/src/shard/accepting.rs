//! When a driver accepts: what both real drivers share about a kernel that runs out of something.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

/// How long accepting rests after the kernel refused for lack of descriptors or memory, instead of
/// being refused again and again. The end of one of our own connections ends the rest.
const ACCEPT_REST_NS: u64 = 100_000_000;

/// How many clients may wait to be accepted, if the system allows so many (net.core.somaxconn): beyond
/// it, they try again by themselves. Thousands come at once when a broker has been restarted.
const BACKLOG_MAX: i32 = 4096;

/// Whether a driver accepts now. Owned by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// Until the kernel says otherwise there is nothing to do: nobody waits in the backlog, or the
    /// kernel accepts by itself.
    Waiting,
    /// It is time to accept.
    Ready,
    /// The kernel lacks something; it is tried again at this time.
    Resting {
        /// Monotonic time of the next try.
        until_ns: u64,
    },
}

impl Accepting {
    pub(crate) fn rest_from(now_ns: u64) -> Self {
        Self::Resting { until_ns: now_ns.saturating_add(ACCEPT_REST_NS) }
    }

    pub(crate) fn rests_until_ns(self) -> Option<u64> {
        match self {
            Self::Resting { until_ns } => Some(until_ns),
            _ => None,
        }
    }

    pub(crate) fn wake_if_due(&mut self, now_ns: u64) {
        if self.rests_until_ns().is_some_and(|until_ns| now_ns >= until_ns) {
            *self = Self::Ready;
        }
    }

    /// One of our connections has ended, and with it something that was lacking.
    pub(crate) fn end_rest(&mut self) {
        if matches!(self, Self::Resting { .. }) {
            *self = Self::Ready;
        }
    }
}

/// Makes room for more waiting clients than the standard library does.
pub(crate) fn widen_backlog(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: listen takes no pointers, and the descriptor is open.
    let result = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG_MAX) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether accepting failed for want of something, and would fail again at once.
pub(crate) fn lacks_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
