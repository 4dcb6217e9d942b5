//! One io_uring and what is asked of it: the only place that hands memory to the kernel by address.
//!
//! Requests that do not fit the submission queue wait in a list and go in order with the next call. A
//! turn is one `io_uring_enter`, which submits, runs what the kernel has deferred, and waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::super::driver::ConnectionId;

/// Requests that go to the kernel at once; more wait in a list of our own.
const SUBMISSION_ENTRIES: u32 = 1024;

/// Completions that the kernel can leave for us between two turns without a detour; 16 bytes each.
const COMPLETION_ENTRIES: u32 = 16 << 10;

/// Turns in which a ring that comes to its end waits for its requests to come back. Cancelled ones do so
/// at once; writes and reads of files that have begun take as long as the disk.
const TURNS_TO_END_MAX: usize = 10_000;

/// So many completions end a wait in which they come together: far fewer than there is room for.
const GATHERED_MAX: usize = 1024;

/// What the kernel is asked to wait at most; it refuses times that do not fit its clock.
const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 30);

/// How long each of those turns waits.
const END_TURN: Duration = Duration::from_millis(10);

/// The group of buffers that receiving takes from.
pub(super) const BUFFER_GROUP: u16 = 0;

/// A ring with the flags that the kernel allowed. Used only by the thread that made it.
pub(super) struct Ring {
    ring: IoUring,
    waiting: VecDeque<squeue::Entry>,
    wait_flags: EnterFlags,
    flavour: Flavour,
    /// Requests whose last completion has not come.
    under_way: usize,
}

/// Which flags a ring was made with, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// `SINGLE_ISSUER | DEFER_TASKRUN` (6.1): the kernel's part of the work is done in our own calls.
    Deferred,
    /// `COOP_TASKRUN` (5.19): it is done when we enter the kernel, without interrupting us.
    Cooperative,
}

/// Whom a completion is for; travels through the kernel as 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Accept,
    Bell,
    Receive(ConnectionId),
    Send(ConnectionId),
    JournalWrite,
    JournalSync,
    /// A read by its place in the table of reads.
    JournalRead(u32),
    /// The cancellation of an accept, a receive or a send, which themselves tell how they ended.
    CancelAccept,
    CancelReceive(ConnectionId),
    CancelSend(ConnectionId),
    /// The cancellation of everything.
    CancelAll,
}

/// What the kernel says about a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) token: Token,
    /// What the system call would have returned, or an error number below zero.
    pub(super) result: i32,
    /// The request goes on; without it, this was its last completion.
    pub(super) more: bool,
    /// The buffer that was taken for what was received.
    pub(super) buffer: Option<u16>,
}

impl Completion {
    /// The result as the standard library would give it.
    pub(super) fn outcome(self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// Readable when there are completions.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open for as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl Ring {
    /// Makes a ring with the best flags that the kernel takes.
    pub(super) fn new() -> io::Result<Self> {
        match Self::with_flavour(Flavour::Deferred) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Self::with_flavour(Flavour::Cooperative)
            }
            other => other,
        }
    }

    pub(super) fn with_flavour(flavour: Flavour) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_cqsize(COMPLETION_ENTRIES).dontfork();
        match flavour {
            Flavour::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
            Flavour::Cooperative => builder.setup_coop_taskrun(),
        };
        let ring = builder.build(SUBMISSION_ENTRIES)?;
        let mut wait_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            // A shard that waits for clients is idle, not waiting for a disk.
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        Ok(Self { ring, waiting: VecDeque::new(), wait_flags, flavour, under_way: 0 })
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub(super) fn io_uring(&self) -> &IoUring {
        &self.ring
    }

    /// Whether no request is with the kernel.
    fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    pub(super) fn accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, Token::Accept) };
    }

    /// Reports each ring of a bell, without anybody reading its counter.
    pub(super) fn watch_bell(&mut self, bell: RawFd) {
        let entry = opcode::PollAdd::new(Fd(bell), libc::POLLIN as u32).multi(true).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, Token::Bell) };
    }

    pub(super) fn receive(&mut self, connection: ConnectionId, socket: RawFd) {
        let entry = opcode::RecvMulti::new(Fd(socket), BUFFER_GROUP).build();
        // SAFETY: the request names no memory; the group of buffers belongs to the ring.
        unsafe { self.push(entry, Token::Receive(connection)) };
    }

    /// Sends all of `bytes`.
    ///
    /// # Safety
    ///
    /// The bytes stay where they are, and unchanged, until the completion has come or the ring is gone.
    pub(super) unsafe fn send(&mut self, connection: ConnectionId, socket: RawFd, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        // SAFETY: the caller keeps the bytes.
        unsafe { self.push(entry, Token::Send(connection)) };
    }

    /// Writes `bytes` at `offset` of a file.
    ///
    /// # Safety
    ///
    /// As for [`Ring::send`].
    pub(super) unsafe fn write(&mut self, token: Token, file: RawFd, offset: u64, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
        let entry = opcode::Write::new(Fd(file), bytes.as_ptr(), length).offset(offset).build();
        // SAFETY: the caller keeps the bytes.
        unsafe { self.push(entry, token) };
    }

    /// Reads into `bytes` from `offset` of a file.
    ///
    /// # Safety
    ///
    /// The bytes stay where they are, and nobody else touches them, until the completion has come or
    /// the ring is gone.
    pub(super) unsafe fn read(&mut self, token: Token, file: RawFd, offset: u64, bytes: &mut [u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
        let entry = opcode::Read::new(Fd(file), bytes.as_mut_ptr(), length).offset(offset).build();
        // SAFETY: the caller keeps the bytes.
        unsafe { self.push(entry, token) };
    }

    pub(super) fn sync_data(&mut self, token: Token, file: RawFd) {
        let entry = opcode::Fsync::new(Fd(file)).flags(FsyncFlags::DATASYNC).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, token) };
    }

    pub(super) fn cancel_accept(&mut self) {
        self.cancel(Token::Accept, Token::CancelAccept);
    }

    pub(super) fn cancel_receive(&mut self, connection: ConnectionId) {
        self.cancel(Token::Receive(connection), Token::CancelReceive(connection));
    }

    pub(super) fn cancel_send(&mut self, connection: ConnectionId) {
        self.cancel(Token::Send(connection), Token::CancelSend(connection));
    }

    /// Ends a request early, if it is still under way; its own completion says how it ended. The
    /// cancellation's completion comes after it, or fails where the kernel had the request in hand.
    fn cancel(&mut self, request: Token, token: Token) {
        let entry = opcode::AsyncCancel::new(request.to_bits()).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, token) };
    }

    /// Takes back all requests, however far they are; `take` gets their completions. `false` if some do
    /// not come back, so that what they name must stay.
    pub(super) fn end(&mut self, mut take: impl FnMut(Completion)) -> bool {
        if self.is_idle() {
            return true;
        }
        let any = CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(any).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, Token::CancelAll) };
        let mut completions = Vec::new();
        for _ in 0..TURNS_TO_END_MAX {
            if self.turn(Some(END_TURN), &mut completions).is_err() {
                return false;
            }
            completions.drain(..).for_each(&mut take);
            if self.is_idle() {
                return true;
            }
        }
        false
    }

    /// Queues a request.
    ///
    /// # Safety
    ///
    /// The memory that the request names is valid until its last completion or the end of the ring.
    unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.to_bits());
        self.under_way += 1;
        // SAFETY: the caller answers for the entry.
        if !self.waiting.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.waiting.push_back(entry);
        }
    }

    /// Submits what was asked, waits for a completion or until the time is up, and takes what there is.
    pub(super) fn turn(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.turn_for(1, timeout, completions)
    }

    /// As [`Ring::turn`], but waits for the whole time, or until very much has happened. Where the kernel's work
    /// is deferred this thread is not woken before.
    pub(super) fn gather(&mut self, time: Duration, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.turn_for(GATHERED_MAX, Some(time), completions)
    }

    fn turn_for(
        &mut self,
        wanted: usize,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.enter(0, None)?;
            if !self.fill_submission_queue() {
                // The kernel takes nothing before it has got rid of completions.
                self.take_completions(completions);
                return Ok(());
            }
        }
        let is_there = self.ring.completion().len() >= wanted || timeout == Some(Duration::ZERO);
        self.enter(if is_there { 0 } else { wanted }, timeout)?;
        self.take_completions(completions);
        Ok(())
    }

    /// Moves requests that waited into the queue; `false` if it had no room for any.
    fn fill_submission_queue(&mut self) -> bool {
        let mut queue = self.ring.submission();
        let mut has_moved = false;
        while let Some(entry) = self.waiting.front() {
            // SAFETY: whoever queued the entry answers for it until its last completion.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.waiting.pop_front();
            has_moved = true;
        }
        has_moved
    }

    fn enter(&mut self, wants: usize, timeout: Option<Duration>) -> io::Result<()> {
        let to_submit = self.ring.submission().len() as u32;
        let timespec = timeout.map(|timeout| Timespec::from(timeout.min(TIMEOUT_MAX)));
        let mut arguments = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        let flags = self.wait_flags.bits();
        // SAFETY: with EXT_ARG the kernel reads the arguments, and the time they point to, during the
        // call; both live through it.
        let result = unsafe { self.ring.submitter().enter(to_submit, wants as u32, flags, Some(&arguments)) };
        match result {
            Ok(_) => Ok(()),
            // The time is up, a signal came, or completions have to be taken first.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn take_completions(&mut self, completions: &mut Vec<Completion>) {
        let mut last = 0;
        completions.extend(self.ring.completion().map(|entry| {
            let flags = entry.flags();
            let more = cqueue::more(flags);
            last += usize::from(!more);
            Completion {
                token: Token::from_bits(entry.user_data()),
                result: entry.result(),
                more,
                buffer: cqueue::buffer_select(flags),
            }
        }));
        self.under_way -= last;
    }
}

/// Most bytes of one read or write, a multiple of the block size: the kernel's own limit is just below
/// 2 GiB. What is left follows in another request.
const FILE_BYTES_MAX: u32 = 1 << 30;

const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 24;
const INDEX_MASK: u64 = (1 << GENERATION_SHIFT) - 1;

impl Token {
    fn to_bits(self) -> u64 {
        let of = |kind: u64, id: ConnectionId| {
            kind << KIND_SHIFT | u64::from(id.generation) << GENERATION_SHIFT | u64::from(id.index)
        };
        match self {
            Self::Accept => 0,
            Self::Bell => 1 << KIND_SHIFT,
            Self::Receive(id) => of(2, id),
            Self::Send(id) => of(3, id),
            Self::JournalWrite => 4 << KIND_SHIFT,
            Self::JournalSync => 5 << KIND_SHIFT,
            Self::JournalRead(index) => 6 << KIND_SHIFT | u64::from(index),
            Self::CancelAll => 7 << KIND_SHIFT,
            Self::CancelAccept => 8 << KIND_SHIFT,
            Self::CancelReceive(id) => of(9, id),
            Self::CancelSend(id) => of(10, id),
        }
    }

    fn from_bits(bits: u64) -> Self {
        // The table of connections has no more places than 24 bits can name.
        let id =
            ConnectionId { index: (bits & INDEX_MASK) as u32, generation: (bits >> GENERATION_SHIFT) as u32 };
        match bits >> KIND_SHIFT {
            0 => Self::Accept,
            1 => Self::Bell,
            2 => Self::Receive(id),
            3 => Self::Send(id),
            4 => Self::JournalWrite,
            5 => Self::JournalSync,
            6 => Self::JournalRead(bits as u32),
            7 => Self::CancelAll,
            8 => Self::CancelAccept,
            9 => Self::CancelReceive(id),
            10 => Self::CancelSend(id),
            _ => unreachable!("the kernel gives back the bits that it was given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_journey() {
        let id = ConnectionId { index: (1 << 24) - 1, generation: u32::MAX };
        let other = ConnectionId { index: 5, generation: 1 << 31 };
        for token in [
            Token::Accept,
            Token::Bell,
            Token::Receive(id),
            Token::Receive(other),
            Token::Send(id),
            Token::Send(other),
            Token::JournalWrite,
            Token::JournalSync,
            Token::JournalRead(u32::MAX),
            Token::CancelAll,
            Token::CancelAccept,
            Token::CancelReceive(other),
            Token::CancelSend(id),
        ] {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
