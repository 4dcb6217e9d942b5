//! Waiting for any of many sockets, by epoll.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// A set of sockets to wait for.
pub(crate) struct Epoll {
    file: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// A socket that is ready: to be read from, or else only to be written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) index: usize,
    pub(crate) readable: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let file = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        Ok(Epoll { file, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Starts watching a socket for input.
    pub(crate) fn add(&self, socket: &impl AsRawFd, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, index, false)
    }

    /// Watches it for room to write too, or no longer.
    pub(crate) fn watch_room(&self, socket: &impl AsRawFd, index: usize, room: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, index, room)
    }

    fn control(&self, operation: i32, socket: &impl AsRawFd, index: usize, room: bool) -> io::Result<()> {
        let interest = libc::EPOLLIN | if room { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: interest as u32, u64: index as u64 };
        // SAFETY: `event` is valid for the call, which copies it.
        let result =
            unsafe { libc::epoll_ctl(self.file.as_raw_fd(), operation, socket.as_raw_fd(), &mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits, and says how many sockets are ready; [`Epoll::ready`] tells which.
    pub(crate) fn wait(&mut self, at_most: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: at_most.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: i64::from(at_most.subsec_nanos()) as libc::c_long,
        };
        let room = self.events.len() as i32;
        // SAFETY: the buffer has room for `room` events, and `timeout` is valid for the call.
        let count = unsafe {
            libc::epoll_pwait2(
                self.file.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                &timeout,
                std::ptr::null(),
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
    }

    /// One of those that the last wait found.
    pub(crate) fn ready(&self, at: usize) -> Ready {
        let event = self.events[at];
        let flags = event.events as i32;
        // An error or a hang-up is found by reading.
        let readable = flags & (libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLHUP) != 0;
        Ready { index: event.u64 as usize, readable }
    }
}
