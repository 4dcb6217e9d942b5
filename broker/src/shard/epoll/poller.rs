//! The epoll system calls behind a safe surface.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An epoll instance. Everything is watched for edges, with a token of the caller's choice.
pub(super) struct Poller {
    descriptor: OwnedFd,
    /// Whether the kernel has `epoll_pwait2` (5.11), which waits with a nanosecond's resolution.
    precise: bool,
}

/// What one wait found ready.
pub(super) struct ReadyList {
    events: Vec<libc::epoll_event>,
}

/// One watched descriptor that became ready.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: u64,
    /// There may be something to read, or the peer has finished sending.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has finished sending.
    pub(super) finished: bool,
    /// The connection is broken, or both sides have finished.
    pub(super) hung_up: bool,
}

impl ReadyList {
    pub(super) fn with_capacity(events_max: usize) -> Self {
        Self { events: Vec::with_capacity(events_max) }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn get(&self, index: usize) -> Ready {
        let event = self.events[index];
        let flags = event.events as i32;
        let hung_up = flags & (libc::EPOLLHUP | libc::EPOLLERR) != 0;
        Ready {
            token: event.u64,
            readable: hung_up || flags & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
            writable: hung_up || flags & libc::EPOLLOUT != 0,
            finished: hung_up || flags & libc::EPOLLRDHUP != 0,
            hung_up,
        }
    }
}

/// Itself readable when something watched is ready.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked before it is used.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { descriptor, precise: true })
    }

    /// Watches a socket for reading, writing and its end. A watch ends when its descriptor is closed.
    pub(super) fn watch_socket(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        self.watch(socket, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP, token)
    }

    /// Watches a listening socket or an eventfd.
    pub(super) fn watch_input(&self, source: &impl AsFd, token: u64) -> io::Result<()> {
        self.watch(source, libc::EPOLLIN, token)
    }

    fn watch(&self, source: &impl AsFd, flags: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (flags | libc::EPOLLET) as u32, u64: token };
        let source = source.as_fd().as_raw_fd();
        // SAFETY: `event` is a valid epoll_event during the call, which is all that epoll_ctl asks.
        let result =
            unsafe { libc::epoll_ctl(self.descriptor.as_raw_fd(), libc::EPOLL_CTL_ADD, source, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Ends a watch whose descriptor stays open.
    pub(super) fn forget(&self, source: &impl AsFd) -> io::Result<()> {
        let source = source.as_fd().as_raw_fd();
        let no_event = std::ptr::null_mut();
        // SAFETY: the kernel takes no event for a removal.
        let result =
            unsafe { libc::epoll_ctl(self.descriptor.as_raw_fd(), libc::EPOLL_CTL_DEL, source, no_event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until something is ready or the time is up. A signal ends the wait early.
    pub(super) fn wait(&mut self, ready: &mut ReadyList, timeout: Option<Duration>) -> io::Result<()> {
        ready.events.clear();
        let mut result = self.wait_once(ready, timeout);
        if self.precise && matches!(&result, Err(error) if lacks_precise_wait(error)) {
            self.precise = false;
            result = self.wait_once(ready, timeout);
        }
        match result {
            Ok(count) => {
                debug_assert!(count <= ready.events.capacity());
                // SAFETY: the kernel wrote `count` events, no more than the capacity that it was given.
                unsafe { ready.events.set_len(count) };
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wait_once(&self, ready: &mut ReadyList, timeout: Option<Duration>) -> io::Result<usize> {
        let descriptor = self.descriptor.as_raw_fd();
        let events = ready.events.as_mut_ptr();
        let capacity = ready.events.capacity().min(i32::MAX as usize) as i32;
        // A zero timeout takes the plain call, which has no timespec to copy.
        let result = match timeout {
            Some(timeout) if self.precise && !timeout.is_zero() => {
                let timespec = libc::timespec {
                    tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
                    tv_nsec: timeout.subsec_nanos() as libc::c_long,
                };
                let no_mask = std::ptr::null::<libc::sigset_t>();
                // SAFETY: `events` points to room for `capacity` events, `timespec` lives through the
                // call, and a null mask means that the signal mask stays as it is.
                unsafe {
                    libc::syscall(libc::SYS_epoll_pwait2, descriptor, events, capacity, &timespec, no_mask, 8)
                        as i32
                }
            }
            // SAFETY: `events` points to room for `capacity` events.
            _ => unsafe { libc::epoll_wait(descriptor, events, capacity, whole_milliseconds(timeout)) },
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
    }
}

/// Rounded up, so that a wait never ends before its time and is then repeated in a hurry.
fn whole_milliseconds(timeout: Option<Duration>) -> i32 {
    let Some(timeout) = timeout else { return -1 };
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds).unwrap_or(i32::MAX)
}

/// Old kernels do not know the call, and some seccomp profiles refuse what they do not know.
fn lacks_precise_wait(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up() {
        assert_eq!(whole_milliseconds(None), -1);
        assert_eq!(whole_milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(whole_milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(whole_milliseconds(Some(Duration::from_millis(7))), 7);
        assert_eq!(whole_milliseconds(Some(Duration::MAX)), i32::MAX);
    }
}
