//! Whether io_uring will do here: everything the driver needs is tried once before it is chosen.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::opcode;

use super::super::driver::ConnectionId;
use super::super::waker::Waker;
use super::buffers::Buffers;
use super::ring::{Completion, Flavour, Ring, Token};

/// How long a request of the probe may take. It is a matter of microseconds, but not on every machine.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Turns in which a request of the probe has to complete.
const PROBE_TURNS_MAX: usize = 10;

/// What the kernel offers, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    flavour: Flavour,
}

impl fmt::Display for Offer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.flavour {
            Flavour::Deferred => "single issuer, deferred work, multishot receive over provided buffers",
            Flavour::Cooperative => "cooperative work, multishot receive over provided buffers",
        })
    }
}

/// Why io_uring will not do: which step failed and how, the likely cause and what helps.
#[derive(Debug)]
pub struct Refusal {
    step: &'static str,
    error: io::Error,
}

impl Refusal {
    /// What failed.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The likely cause, and the remedy.
    pub fn advice(&self) -> &'static str {
        match self.error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "likely a seccomp profile (Docker's default one refuses io_uring) or kernel.io_uring_disabled; \
                 allow io_uring_setup, io_uring_enter and io_uring_register, or set the sysctl to 0"
            }
            Some(libc::ENOMEM) => {
                "likely the limit on locked memory; raise it (ulimit -l, LimitMEMLOCK=, --ulimit memlock) to \
                 8 MiB or more"
            }
            Some(libc::ENOSYS) => {
                "likely a kernel without io_uring, or a sandbox that hides it; Linux 6.0 or later is needed"
            }
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOTTY) => {
                "likely an old kernel; Linux 6.0 or later is needed, 6.1 is better"
            }
            Some(libc::EMFILE | libc::ENFILE) => "too few file descriptors; raise the limit (ulimit -n)",
            _ => "the cause is unknown",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "io_uring refused, {}: {}; {}", self.step, self.error, self.advice())
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Tries the ring, its flags and what the driver needs of it.
pub fn probe() -> Result<Offer, Refusal> {
    let at = |step: &'static str| move |error: io::Error| Refusal { step, error };
    let mut ring = Ring::new().map_err(at("making a ring"))?;
    needs_operations(&ring).map_err(at("looking for its operations"))?;
    let flavour = ring.flavour();
    let buffers = Buffers::register(&ring).map_err(at("registering receive buffers"))?;
    let mut trial = Trial { completions: Vec::new(), ring: &mut ring, buffers };
    let result = trial
        .wake()
        .map_err(at("polling for wake-ups"))
        .and_then(|()| trial.receive_and_send().map_err(at("receiving in one request many times")));
    let Trial { buffers, .. } = trial;
    if ring.end(drop) {
        // The ring goes before the buffers that it knows.
        drop(ring);
        drop(buffers);
    } else {
        std::mem::forget(buffers);
    }
    result.map(|()| Offer { flavour })
}

/// Asks the kernel for the operations that cannot be tried on a socket.
fn needs_operations(ring: &Ring) -> io::Result<()> {
    let mut probe = io_uring::Probe::new();
    ring.io_uring().submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::AcceptMulti::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Write::CODE,
        opcode::Read::CODE,
        opcode::Fsync::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

struct Trial<'a> {
    ring: &'a mut Ring,
    buffers: Buffers,
    completions: Vec<Completion>,
}

impl Trial<'_> {
    fn wake(&mut self) -> io::Result<()> {
        let waker = Waker::new()?;
        self.ring.watch_bell(waker.bell().as_fd().as_raw_fd());
        for _ in 0..2 {
            waker.wake();
            self.wait_for(Token::Bell)?.outcome()?;
            waker.bell().answer();
            waker.take();
        }
        Ok(())
    }

    fn receive_and_send(&mut self) -> io::Result<()> {
        static GREETING: &[u8] = b"tenpin";
        let connection = ConnectionId { index: 0, generation: 0 };
        let (ours, mut theirs) = UnixStream::pair()?;
        self.ring.receive(connection, ours.as_raw_fd());
        for _ in 0..2 {
            theirs.write_all(GREETING)?;
            let completion = self.wait_for(Token::Receive(connection))?;
            let length = completion.outcome()?;
            let buffer = completion.buffer.ok_or(io::ErrorKind::InvalidData)?;
            if self.buffers.received(buffer, length) != GREETING || !completion.more {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
        // SAFETY: the bytes are static.
        unsafe { self.ring.send(connection, ours.as_raw_fd(), GREETING) };
        self.wait_for(Token::Send(connection))?.outcome()?;
        self.ring.cancel_receive(connection);
        self.wait_for(Token::CancelReceive(connection))?.outcome().map(|_| ())
    }

    fn wait_for(&mut self, token: Token) -> io::Result<Completion> {
        for _ in 0..PROBE_TURNS_MAX {
            if let Some(index) = self.completions.iter().position(|completion| completion.token == token) {
                return Ok(self.completions.swap_remove(index));
            }
            self.ring.turn(Some(PROBE_TIMEOUT), &mut self.completions)?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_cause_and_remedy() {
        let refusal = Refusal { step: "making a ring", error: io::Error::from_raw_os_error(libc::EPERM) };
        let text = refusal.to_string();
        assert!(
            text.contains("making a ring") && text.contains("seccomp") && text.contains("io_uring_setup")
        );
        for (number, word) in
            [(libc::ENOMEM, "locked memory"), (libc::ENOSYS, "kernel"), (libc::EINVAL, "old kernel")]
        {
            let refusal = Refusal { step: "", error: io::Error::from_raw_os_error(number) };
            assert!(refusal.advice().contains(word));
        }
    }

    #[test]
    fn a_probe_says_what_it_found() {
        match probe() {
            Ok(offer) => assert!(offer.to_string().contains("multishot")),
            Err(refusal) => assert!(refusal.to_string().contains("io_uring refused")),
        }
    }
}
