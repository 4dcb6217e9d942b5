//! What a shard asks of the world: sockets, its log's files, time, and being woken.
//!
//! Three drivers implement [`Driver`]: io_uring, epoll and the simulator's. The trait is shaped so
//! that buffers change owners instead of being borrowed across calls: what the kernel works on
//! belongs to the driver until an [`Event`] gives it back. Calls never block and never fail: what
//! goes wrong comes back as an event.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::engine::{Chunk, WantedChunk};
use crate::journal::memory::{FreshPage, SealedRange};

/// A connection of this shard: a place in the driver's table and how often that place was used.
///
/// A driver never gives the same pair to two connections, so a late call or event for a closed
/// connection is recognised and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The place in the table; reused.
    pub index: u32,
    /// How often the place had been used before.
    pub generation: u32,
}

/// Indices from here on are not a driver's: they stand for connections of other shards.
pub const PEER_INDICES_FROM: u32 = 1 << 31;

/// Indices from here to those are connections that the gateway has made: see [`crate::exchange::link`].
pub const GATEWAY_INDICES_FROM: u32 = 1 << 30;

impl ConnectionId {
    /// Whether it stands for a connection of another shard.
    #[inline]
    pub fn is_of_peer(self) -> bool {
        self.index >= PEER_INDICES_FROM
    }

    /// Whether it is one of the gateway's.
    #[inline]
    pub fn is_of_gateway(self) -> bool {
        self.index & (PEER_INDICES_FROM | GATEWAY_INDICES_FROM) == GATEWAY_INDICES_FROM
    }

    /// Which table it is in, that of the driver's connections, that of other shards' or that of the
    /// gateway's, and where.
    #[inline]
    pub fn place(self) -> (usize, usize) {
        if self.is_of_peer() {
            return (1, (self.index & (PEER_INDICES_FROM - 1)) as usize);
        }
        (2 * usize::from(self.is_of_gateway()), (self.index & (GATEWAY_INDICES_FROM - 1)) as usize)
    }
}

/// Number of a segment's file in the shard's folder. Files are recycled, their numbers with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileNumber(pub u32);

/// What the clocks say, read at most once a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Monotonic, from an arbitrary start that all shards have in common.
    pub monotonic_ns: u64,
    /// Wall time since the Unix epoch.
    pub wall_ms: u64,
}

/// A write to a segment's file that shall be durable when its completion comes
/// (unless `durable` is false: then it only has to have reached the kernel).
#[derive(Debug)]
pub struct JournalWrite {
    /// The file to write to.
    pub file: FileNumber,
    /// Offset in the file; a multiple of the block size, as are the range's address and length.
    pub offset: u64,
    /// The bytes, which nobody changes any more.
    pub bytes: SealedRange,
    /// Whether the completion must mean that the bytes are on disk.
    pub durable: bool,
}

/// A read of a cold part of a segment's file; offset and length are multiples of the block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JournalRead {
    /// The file to read from.
    pub file: FileNumber,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes to read.
    pub length: u32,
}

/// What happened. Events arrive in the order in which the driver saw them.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client connected; reading from it has begun.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
    },
    /// Bytes arrived, at least one.
    Data {
        /// From which connection.
        connection: ConnectionId,
        /// The bytes, which belong to the driver and are gone after the call.
        bytes: &'a [u8],
    },
    /// A buffer given to [`Driver::send`] comes back: sent whole, or `written` bytes before an
    /// error (a [`Event::Closed`] follows then).
    Sent {
        /// To which connection.
        connection: ConnectionId,
        /// The buffer, unchanged.
        buffer: Vec<u8>,
        /// How much of it the kernel took.
        written: usize,
    },
    /// The connection is gone: the peer closed it, it broke, or [`Driver::close`] was called and
    /// nothing of it is in the kernel's hands any more. The last event of a connection that was not
    /// detached. A send that was under way has come back as [`Event::Sent`] before.
    Closed {
        /// Which one.
        connection: ConnectionId,
        /// Why, where it was not an orderly end.
        error: Option<io::Error>,
    },
    /// [`Driver::detach`] is done: nothing of the connection is in the kernel's hands or the driver's
    /// buffers any more, and its socket waits for [`Driver::take_detached`]. The last event of this
    /// connection here, in the place of [`Event::Closed`].
    Detached {
        /// Which one.
        connection: ConnectionId,
        /// What had been read and not handed over, in order; no more than
        /// [`Driver::READ_AHEAD_BYTES_MAX`] bytes. The next bytes come out of the socket.
        unread: Vec<u8>,
    },
    /// The journal write under way ended; for durable ones, the bytes are on disk.
    JournalWritten(io::Result<()>),
    /// The [`Driver::journal_sync`] under way ended.
    JournalSynced(io::Result<()>),
    /// A read ended: all bytes asked for, or an error (a file that is too short is an error).
    JournalReadDone {
        /// What was asked.
        read: JournalRead,
        /// What was read.
        result: io::Result<Vec<u8>>,
    },
    /// A segment's file exists, has its full length written with zeros, and is durable with its
    /// name; or could not be made (a full disk, for one).
    SegmentPrepared {
        /// The file asked for.
        file: FileNumber,
        /// Whether it is there.
        result: io::Result<()>,
    },
    /// A segment's file was removed.
    SegmentRemoved {
        /// The file asked for.
        file: FileNumber,
        /// Whether it is gone.
        result: io::Result<()>,
    },
    /// Somebody used the driver's waker; look at what they left (a request to stop, for one).
    Woken,
}

/// Receives a driver's events. The driver is borrowed meanwhile: calls to it wait until
/// [`Driver::poll`] has returned.
pub trait EventSink {
    /// Called once by each [`Driver::poll`], after its wait and before its first event: the time at
    /// which all of this turn's events are taken to have happened.
    fn turn_begins(&mut self, clocks: Clocks);

    /// Takes one event.
    fn event(&mut self, event: Event<'_>);
}

/// Sockets, files, time and wake-ups of one shard. Owned by the shard's thread.
pub trait Driver {
    /// A connection on its way from one driver to another of the same kind. Dropping it closes it.
    type Socket: Send + 'static;

    /// Reads the clocks; needed outside turns only, as each turn begins with them.
    fn clocks(&mut self) -> Clocks;

    /// Carries out what was asked, waits until something happens or the time is up (`None`: for as
    /// long as it takes), and hands over what happened, a bounded number of events at a time.
    ///
    /// An error is one that the driver cannot go on after; the shard ends.
    fn poll<S: EventSink>(&mut self, timeout: Option<Duration>, sink: &mut S) -> io::Result<()>;

    /// Carries out what was asked and lets so much time pass, without being woken for each thing that happens
    /// meanwhile: the next [`Driver::poll`] hands it over. Ends early where very much has happened, and at once
    /// where it knows of something to do for which nothing has to happen.
    fn gather(&mut self, time: Duration) -> io::Result<()>;

    /// Starts sending all of `buffer`. At most one send is under way for a connection; the caller
    /// waits for [`Event::Sent`] before the next. For a connection that is gone the buffer is
    /// dropped.
    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>);

    /// Stops or resumes reading from a connection. After stopping, what had been read already may
    /// still arrive: at most [`Driver::READ_AHEAD_BYTES_MAX`] bytes.
    fn set_reading(&mut self, connection: ConnectionId, reading: bool);

    /// Closes a connection: with `linger`, what was given to [`Driver::send`] is still sent out first.
    fn close(&mut self, connection: ConnectionId, linger: bool);

    /// Begins to take a connection out of this driver, so that another one can go on with it. No data
    /// of it is handed over from now on, and nothing more may be sent; a send under way ends first.
    /// Then comes [`Event::Detached`], or [`Event::Closed`] if the connection breaks meanwhile. One that
    /// is being closed stays so, and this call is ignored.
    fn detach(&mut self, connection: ConnectionId);

    /// The socket of a connection whose [`Event::Detached`] has come, once.
    fn take_detached(&mut self, connection: ConnectionId) -> Option<Self::Socket>;

    /// Takes in a connection that another driver has detached; reading from it begins, and no
    /// [`Event::Accepted`] follows. `None` where there is no room for it: it is closed then.
    fn attach(&mut self, socket: Self::Socket) -> Option<ConnectionId>;

    /// Accepts no more connections (the listening socket is closed).
    fn stop_accepting(&mut self);

    /// Starts a journal write. At most one is under way.
    fn journal_write(&mut self, write: JournalWrite);

    /// Starts making durable what was written to `file` without `durable`. At most one is under way.
    fn journal_sync(&mut self, file: FileNumber);

    /// Starts a read; several may be under way.
    fn journal_read(&mut self, read: JournalRead);

    /// Starts making a segment's file of `length` bytes of zeros. One that is there already and has
    /// this length is left as it is.
    fn prepare_segment(&mut self, file: FileNumber, length: u64);

    /// Starts writing zeros to a segment's file that is there, from `from` to its end at `length`, where nothing
    /// is written before this has ended with [`Event::SegmentPrepared`].
    fn finish_segment(&mut self, file: FileNumber, from: u64, length: u64);

    /// Starts removing a segment's file.
    fn remove_segment(&mut self, file: FileNumber);

    /// Has somebody else than this thread make a page of memory; nothing is said when it is there.
    fn make_page(&mut self, page: FreshPage);

    /// Has somebody else than this thread make a chunk of a table; [`Driver::take_chunk`] has it in its time.
    fn make_chunk(&mut self, wanted: WantedChunk);

    /// A chunk that was made meanwhile.
    fn take_chunk(&mut self) -> Option<Chunk>;

    /// The most that may still arrive on a connection after reading from it was stopped.
    const READ_AHEAD_BYTES_MAX: usize;
}

/// A driver that can be made to share its thread with others, which waits for all of them at once.
pub trait SharesThread: Driver {
    /// Submits what was asked and says how long the thread may wait before the next
    /// [`Driver::poll`], where the shard itself would wait for `timeout`: zero if something has
    /// happened already.
    fn prepare_to_wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>>;

    /// As [`Driver::gather`], but for the time, which the thread spends elsewhere: submits what was asked and says
    /// for how long this driver is to be left alone, whatever happens.
    fn prepare_to_gather(&mut self, time: Duration) -> io::Result<Duration>;

    /// Becomes readable when there is something to poll for.
    fn wait_handle(&self) -> BorrowedFd<'_>;
}
