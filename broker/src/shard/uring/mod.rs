//! The driver for kernels that offer io_uring: sockets, journal writes and cold reads all go through
//! one ring, and a turn is one system call.
//!
//! Clients are accepted and bytes received by requests that stay with the kernel and complete many
//! times (multishot); they are made again whenever the kernel says that they have ended. What the
//! kernel works on (a buffer being sent, a range being written) belongs to the driver until its last
//! completion, and so does a connection's place: completions carry place and generation.

mod buffers;
mod files;
mod probe;
mod ring;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use self::buffers::{BUFFER_BYTES, BUFFER_COUNT, Buffers};
use self::files::Files;
use self::ring::{Completion, Flavour, Ring, Token};
use self::sockets::Sockets;
use super::disk_worker::DiskWorker;
use super::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite, SharesThread,
};
use super::linger::earlier;
use super::real_clock::RealClock;
use super::segment_files::SegmentFolder;
use super::waker::Waker;
use crate::engine::{Chunk, WantedChunk};
use crate::journal::memory::FreshPage;

pub use self::probe::{Offer, Refusal, probe};

/// Sockets and files by one io_uring. Owned by its shard's thread, which has to be the one that made it.
pub struct UringDriver {
    /// The ring and what it points to. Dropped by hand: first the ring, then the memory, and neither
    /// while the kernel still works on it.
    kernel: ManuallyDrop<Kernel>,
    clock: RealClock,
    events: VecDeque<Event<'static>>,
    completions: Vec<Completion>,
    waker: Waker,
    disk: DiskWorker,
    /// The kernel takes requests of a ring from the thread that made it only.
    _stays_on_its_thread: PhantomData<*const ()>,
}

/// In the order in which it is dropped.
struct Kernel {
    ring: Ring,
    sockets: Sockets,
    files: Files,
    buffers: Buffers,
}

impl UringDriver {
    /// Makes a driver that accepts from `listener` and keeps segment files in `folder` (`None`: there
    /// is no journal, and what is asked of it fails).
    pub fn new(listener: TcpListener, folder: Option<PathBuf>) -> io::Result<Self> {
        Self::with_waker(Some(listener), folder, Waker::new()?)
    }

    /// As [`UringDriver::new`], with a waker that others may have clones of already; without a listener it
    /// gets its connections by [`Driver::attach`] only.
    pub fn with_waker(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
    ) -> io::Result<Self> {
        let folder = folder.map(|path| SegmentFolder::open(&path)).transpose()?;
        Self::with_ring(Ring::new()?, listener, folder, waker)
    }

    /// As [`UringDriver::with_waker`], for a thread that runs several: where a ring's work is deferred until
    /// its thread enters it, nobody is woken who polls its descriptor, so this one's is not.
    pub fn sharing_a_thread(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
    ) -> io::Result<Self> {
        let folder = folder.map(|path| SegmentFolder::open(&path)).transpose()?;
        Self::with_ring(Ring::with_flavour(Flavour::Cooperative)?, listener, folder, waker)
    }

    /// A driver whose ring does with less of the kernel and which writes through the page cache.
    #[cfg(test)]
    pub(super) fn modest(listener: TcpListener, folder: PathBuf) -> io::Result<Self> {
        let folder = SegmentFolder::open(&folder)?.without_direct_writes();
        let ring = Ring::with_flavour(Flavour::Cooperative)?;
        Self::with_ring(ring, Some(listener), Some(folder), Waker::new()?)
    }

    fn with_ring(
        mut ring: Ring,
        listener: Option<TcpListener>,
        folder: Option<SegmentFolder>,
        waker: Waker,
    ) -> io::Result<Self> {
        let disk = DiskWorker::keeper_only(folder, waker.bell().clone())?;
        let files = Files::new(disk.folder().cloned());
        let sockets = Sockets::new(listener)?;
        // Nothing fails after this, so the ring is never dropped behind what it knows.
        let buffers = Buffers::register(&ring)?;
        ring.watch_bell(waker.bell().as_fd().as_raw_fd());
        Ok(Self {
            kernel: ManuallyDrop::new(Kernel { ring, sockets, files, buffers }),
            clock: RealClock::new(),
            events: VecDeque::new(),
            completions: Vec::new(),
            waker,
            disk,
            _stays_on_its_thread: PhantomData,
        })
    }

    /// Something that ends this driver's wait from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether durable journal writes go around the page cache.
    pub fn writes_directly(&self) -> bool {
        self.kernel.files.writes_directly()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.own_timeout(timeout);
        self.kernel.ring.turn(timeout, &mut self.completions)
    }

    /// Asks for what is due, and says how long to wait, given how long the shard would.
    fn own_timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let kernel = &mut *self.kernel;
        kernel.sockets.arm_accept(&mut kernel.ring);
        let more_starve = kernel.sockets.feed_starved(&mut kernel.ring);
        if !self.events.is_empty() || !self.completions.is_empty() || more_starve {
            return Some(Duration::ZERO);
        }
        let deadline_ns = kernel.sockets.next_deadline_ns();
        let now_ns = if deadline_ns.is_some() { self.clock.read().monotonic_ns } else { 0 };
        earlier(timeout, deadline_ns, now_ns)
    }

    fn complete<S: EventSink>(&mut self, completion: Completion, sink: &mut S) {
        let Kernel { ring, sockets, files, buffers } = &mut *self.kernel;
        let events = &mut self.events;
        match completion.token {
            Token::Receive(id) => sockets.received(id, completion, ring, buffers, events, sink),
            Token::Send(id) => sockets.sent(id, completion, ring, events),
            Token::Accept => sockets.accepted(completion, ring, events),
            Token::JournalWrite => files.written(completion, ring, events),
            Token::JournalSync => files.synced(completion, events),
            Token::JournalRead(index) => files.read_done(index, completion, ring, events),
            Token::CancelReceive(id) => sockets.receive_cancelled(id, ring),
            Token::CancelSend(id) => sockets.send_cancelled(id, ring),
            Token::CancelAccept => sockets.accept_cancelled(ring),
            Token::CancelAll => {}
            Token::Bell => {
                if !completion.more {
                    ring.watch_bell(self.waker.bell().as_fd().as_raw_fd());
                }
                self.waker.bell().answer();
                if self.waker.take() {
                    events.push_back(Event::Woken);
                }
                self.disk.take_completions(events);
            }
        }
    }

    fn deliver<S: EventSink>(&mut self, sink: &mut S) {
        while let Some(event) = self.events.pop_front() {
            sink.event(event);
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // Connections that were accepted in the last moment are closed.
        let close = |completion: Completion| {
            if completion.token == Token::Accept {
                Sockets::refuse(completion);
            }
        };
        // Also those of which the next turn would have told.
        self.completions.drain(..).for_each(close);
        if self.kernel.ring.end(close) {
            // SAFETY: `kernel` is not used again: this is the driver's drop.
            unsafe { ManuallyDrop::drop(&mut self.kernel) };
        }
        // Otherwise it is leaked: memory that the kernel may still write to must not be used again.
    }
}

impl Driver for UringDriver {
    type Socket = TcpStream;

    fn clocks(&mut self) -> Clocks {
        self.clock.read()
    }

    fn poll<S: EventSink>(&mut self, timeout: Option<Duration>, sink: &mut S) -> io::Result<()> {
        self.wait(timeout)?;
        let clocks = self.clock.read();
        sink.turn_begins(clocks);
        let kernel = &mut *self.kernel;
        kernel.sockets.turn_begins(clocks.monotonic_ns, &mut kernel.ring, &mut self.events);
        self.deliver(sink);
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.complete(completion, sink);
            if !self.events.is_empty() {
                self.deliver(sink);
            }
        }
        self.completions = completions;
        self.kernel.buffers.publish();
        Ok(())
    }

    fn gather(&mut self, time: Duration) -> io::Result<()> {
        match self.own_timeout(Some(time)) {
            Some(time) if time > Duration::ZERO => self.kernel.ring.gather(time, &mut self.completions),
            _ => Ok(()),
        }
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        let kernel = &mut *self.kernel;
        kernel.sockets.send(connection, buffer, &mut kernel.ring);
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        let kernel = &mut *self.kernel;
        kernel.sockets.set_reading(connection, reading, &mut kernel.ring);
    }

    fn close(&mut self, connection: ConnectionId, linger: bool) {
        let kernel = &mut *self.kernel;
        kernel.sockets.close(connection, linger, &mut kernel.ring, &mut self.events);
    }

    fn detach(&mut self, connection: ConnectionId) {
        let kernel = &mut *self.kernel;
        kernel.sockets.detach(connection, &mut kernel.ring, &mut self.events);
    }

    fn take_detached(&mut self, connection: ConnectionId) -> Option<TcpStream> {
        self.kernel.sockets.take_detached(connection)
    }

    fn attach(&mut self, socket: TcpStream) -> Option<ConnectionId> {
        let kernel = &mut *self.kernel;
        kernel.sockets.attach(socket, &mut kernel.ring)
    }

    fn stop_accepting(&mut self) {
        let kernel = &mut *self.kernel;
        kernel.sockets.stop_accepting(&mut kernel.ring);
    }

    fn journal_write(&mut self, write: JournalWrite) {
        let kernel = &mut *self.kernel;
        kernel.files.write(write, &mut kernel.ring, &mut self.events);
    }

    fn journal_sync(&mut self, file: FileNumber) {
        let kernel = &mut *self.kernel;
        kernel.files.sync(file, &mut kernel.ring, &mut self.events);
    }

    fn journal_read(&mut self, read: JournalRead) {
        let kernel = &mut *self.kernel;
        kernel.files.read(read, &mut kernel.ring, &mut self.events);
    }

    fn prepare_segment(&mut self, file: FileNumber, length: u64) {
        // What is open under this number may be about to be replaced.
        self.kernel.files.forget(file);
        self.disk.prepare(file, length);
    }

    fn finish_segment(&mut self, file: FileNumber, from: u64, length: u64) {
        self.disk.finish(file, from, length);
    }

    fn remove_segment(&mut self, file: FileNumber) {
        self.kernel.files.forget(file);
        self.disk.remove(file);
    }

    fn make_page(&mut self, page: FreshPage) {
        self.disk.pages().make(page);
    }

    fn make_chunk(&mut self, wanted: WantedChunk) {
        self.disk.pages().make_chunk(wanted);
    }

    fn take_chunk(&mut self) -> Option<Chunk> {
        self.disk.pages().take_chunk()
    }

    /// What can lie in the receive buffers when reading is stopped.
    const READ_AHEAD_BYTES_MAX: usize = BUFFER_COUNT as usize * BUFFER_BYTES;
}

impl SharesThread for UringDriver {
    fn prepare_to_wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        assert!(self.kernel.ring.flavour() == Flavour::Cooperative, "it was made to share its thread");
        let timeout = self.own_timeout(timeout);
        if timeout != Some(Duration::ZERO) {
            // Submits what was asked; what is over at once lies in `completions` for the next poll.
            self.kernel.ring.turn(Some(Duration::ZERO), &mut self.completions)?;
            if !self.completions.is_empty() {
                return Ok(Some(Duration::ZERO));
            }
        }
        Ok(timeout)
    }

    fn prepare_to_gather(&mut self, time: Duration) -> io::Result<Duration> {
        let time = self.own_timeout(Some(time)).unwrap_or(time);
        if time > Duration::ZERO {
            self.kernel.ring.turn(Some(Duration::ZERO), &mut self.completions)?;
        }
        Ok(time)
    }

    fn wait_handle(&self) -> BorrowedFd<'_> {
        self.kernel.ring.as_fd()
    }
}
