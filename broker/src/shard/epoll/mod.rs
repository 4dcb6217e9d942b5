//! The driver for kernels, containers and seccomp profiles where io_uring is refused.
//!
//! Sockets are watched for edges: each is registered once, and a connection that filled the shared
//! read buffer stands in a list of its own until a short read shows that the kernel has no more. So a
//! busy turn costs one `epoll_wait`, one `recv` for each connection that has something and one `send`
//! for each that is answered. Sends are tried at once; what the kernel does not take waits for room.
//! Files are left to the helper threads of `disk_worker`.

mod poller;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use self::poller::{Poller, Ready, ReadyList};
use super::accepting::{Accepting, lacks_resources, widen_backlog};
use super::disk_worker::DiskWorker;
use super::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite, SharesThread,
};
use super::linger::{LINGER_DISCARD_BYTES_MAX, LingerQueue, earlier};
use super::real_clock::RealClock;
use super::segment_files::SegmentFolder;
use super::table::ConnectionTable;
use super::waker::Waker;
use crate::engine::{Chunk, WantedChunk};
use crate::journal::memory::FreshPage;

/// What one read takes at most; a connection that has more is read again next turn, after the others.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// A turn stops reading after this much; the connections not reached come first next turn.
const READ_BYTES_PER_TURN_MAX: usize = 4 << 20;

/// Most descriptors that one wait reports; the kernel keeps the rest, in order, for the next.
const READY_PER_TURN_MAX: usize = 1024;

/// Most connections accepted in a turn; the others wait in the backlog.
const ACCEPTS_PER_TURN_MAX: usize = 64;

const LISTENER_TOKEN: u64 = u64::MAX;
const BELL_TOKEN: u64 = u64::MAX - 1;

/// Sockets by epoll, files by helper threads. Owned by its shard's thread.
pub struct EpollDriver {
    poller: Poller,
    ready: ReadyList,
    clock: RealClock,
    /// Monotonic time at the beginning of this turn.
    now_ns: u64,
    listener: Option<TcpListener>,
    accepting: Accepting,
    connections: ConnectionTable<Connection>,
    /// Connections to read from: the kernel may have more of them. Each stands in here once.
    readable: VecDeque<ConnectionId>,
    lingering: LingerQueue,
    buffer: Box<[u8]>,
    /// Connections that were detached and not yet taken.
    detached: Vec<(ConnectionId, TcpStream)>,
    /// What happened and was not handed over yet: at most what the last turn's calls brought about.
    pending: VecDeque<Event<'static>>,
    waker: Waker,
    disk: DiskWorker,
}

struct Connection {
    socket: TcpStream,
    sending: Option<Sending>,
    /// The shard wants what arrives.
    reading: bool,
    /// The kernel may have something to read.
    has_input: bool,
    /// It stands in the list of connections to read from.
    listed: bool,
    /// The peer has finished sending: what is left to read ends with an end of file.
    peer_finished: bool,
    stage: Stage,
}

struct Sending {
    buffer: Vec<u8>,
    written: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// It leaves this driver with the end of the send that is under way.
    Detaching,
    /// The peer has finished; the connection ends with the send that is under way.
    Flushing,
    /// Closed by the shard; the connection lingers after the send that is under way.
    FlushingToLinger,
    /// All is sent; what still arrives is thrown away until the peer closes.
    Lingering {
        discarded_bytes: usize,
    },
}

impl EpollDriver {
    /// Makes a driver that accepts from `listener` and keeps segment files in `folder` (`None`: there
    /// is no journal, and what is asked of it fails).
    pub fn new(listener: TcpListener, folder: Option<PathBuf>) -> io::Result<Self> {
        Self::with_waker(Some(listener), folder, Waker::new()?)
    }

    /// As [`EpollDriver::new`], with a waker that others may have clones of already; without a listener it
    /// gets its connections by [`Driver::attach`] only.
    pub fn with_waker(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
    ) -> io::Result<Self> {
        let folder = folder.map(|path| SegmentFolder::open(&path)).transpose()?;
        Self::with_folder(listener, folder, waker)
    }

    pub(super) fn with_folder(
        listener: Option<TcpListener>,
        folder: Option<SegmentFolder>,
        waker: Waker,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
            widen_backlog(listener)?;
            poller.watch_input(listener, LISTENER_TOKEN)?;
        }
        poller.watch_input(&**waker.bell(), BELL_TOKEN)?;
        let disk = DiskWorker::new(folder, waker.bell().clone())?;
        Ok(Self {
            poller,
            ready: ReadyList::with_capacity(READY_PER_TURN_MAX),
            clock: RealClock::new(),
            now_ns: 0,
            listener,
            accepting: Accepting::Ready,
            connections: ConnectionTable::new(),
            readable: VecDeque::new(),
            lingering: LingerQueue::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            detached: Vec::new(),
            pending: VecDeque::new(),
            waker,
            disk,
        })
    }

    /// Something that ends this driver's wait from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether durable journal writes go around the page cache.
    pub fn writes_directly(&self) -> bool {
        self.disk.folder().is_some_and(SegmentFolder::writes_directly)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.own_timeout(timeout);
        self.poller.wait(&mut self.ready, timeout)
    }

    /// How long it may wait, given how long the shard would.
    fn own_timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.pending.is_empty() { self.until_own_work(timeout) } else { Some(Duration::ZERO) }
    }

    /// How long until it goes on by itself, `timeout` at most, whatever it has to hand over.
    fn until_own_work(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.readable.is_empty() || self.accepting == Accepting::Ready {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.accepting.rests_until_ns(), self.lingering.next_deadline_ns()];
        let deadline_ns = deadlines.into_iter().flatten().min();
        let now_ns = if deadline_ns.is_some() { self.clock.read().monotonic_ns } else { 0 };
        earlier(timeout, deadline_ns, now_ns)
    }

    fn deliver<S: EventSink>(&mut self, sink: &mut S) {
        while let Some(event) = self.pending.pop_front() {
            sink.event(event);
        }
    }

    fn notice(&mut self, ready: Ready) {
        match ready.token {
            LISTENER_TOKEN => {
                if self.accepting == Accepting::Waiting {
                    self.accepting = Accepting::Ready;
                }
            }
            BELL_TOKEN => {
                self.waker.bell().answer();
                if self.waker.take() {
                    self.pending.push_back(Event::Woken);
                }
                self.disk.take_completions(&mut self.pending);
            }
            token => self.notice_connection(connection_of(token), ready),
        }
    }

    fn notice_connection(&mut self, id: ConnectionId, ready: Ready) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.has_input |= ready.readable;
        connection.peer_finished |= ready.finished;
        if ready.writable && connection.sending.is_some() {
            self.continue_sending(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.reading {
            self.list_if_readable(id);
        } else if ready.hung_up {
            // Nobody is there any more to be answered, so what is still unread does not matter.
            let error = connection.socket.take_error().ok().flatten();
            self.finish(id, error);
        }
    }

    fn list_if_readable(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.reading && connection.has_input && !connection.listed {
            connection.listed = true;
            self.readable.push_back(id);
        }
    }

    fn accept(&mut self) {
        self.accepting.wake_if_due(self.now_ns);
        if self.accepting != Accepting::Ready {
            return;
        }
        let Some(listener) = &self.listener else {
            self.accepting = Accepting::Waiting;
            return;
        };
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match listener.accept() {
                Ok((socket, _)) => match Connection::admit(socket, &self.poller, &mut self.connections) {
                    Some(connection) => self.pending.push_back(Event::Accepted { connection }),
                    None => {
                        self.accepting = Accepting::rest_from(self.now_ns);
                        return;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = Accepting::Waiting;
                    return;
                }
                Err(error) if lacks_resources(&error) => {
                    self.accepting = Accepting::rest_from(self.now_ns);
                    return;
                }
                // The client in the backlog was gone before it was accepted; the next may be well.
                Err(_) => {}
            }
        }
    }

    fn read_all<S: EventSink>(&mut self, sink: &mut S) {
        let mut bytes_left = READ_BYTES_PER_TURN_MAX;
        for _ in 0..self.readable.len() {
            if bytes_left == 0 {
                return;
            }
            let Some(id) = self.readable.pop_front() else { return };
            bytes_left = bytes_left.saturating_sub(self.read_one(id, sink));
            if !self.pending.is_empty() {
                self.deliver(sink);
            }
        }
    }

    /// Reads once from a connection and returns how much there was.
    fn read_one<S: EventSink>(&mut self, id: ConnectionId, sink: &mut S) -> usize {
        let Some(connection) = self.connections.get_mut(id) else { return 0 };
        connection.listed = false;
        if !connection.reading || !connection.has_input {
            return 0;
        }
        match connection.socket.read(&mut self.buffer) {
            Ok(0) => {
                self.end_of_input(id);
                0
            }
            Ok(length) => {
                // A short read of a stream means that the kernel has no more, but for the end itself.
                connection.has_input = length == self.buffer.len() || connection.peer_finished;
                match &mut connection.stage {
                    Stage::Open => sink.event(Event::Data { connection: id, bytes: &self.buffer[..length] }),
                    Stage::Lingering { discarded_bytes } => {
                        *discarded_bytes += length;
                        if *discarded_bytes > LINGER_DISCARD_BYTES_MAX {
                            self.finish(id, None);
                        }
                    }
                    Stage::Detaching | Stage::Flushing | Stage::FlushingToLinger => {}
                }
                self.list_if_readable(id);
                length
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.has_input = false;
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.list_if_readable(id);
                0
            }
            Err(error) => {
                self.finish(id, Some(error));
                0
            }
        }
    }

    /// The peer has finished. It may still read, so a send that is under way is completed.
    fn end_of_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.has_input = false;
        if connection.sending.is_some() {
            connection.stage = Stage::Flushing;
        } else {
            self.finish(id, None);
        }
    }

    fn continue_sending(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(sending) = &mut connection.sending else { return };
        let rest = &sending.buffer[sending.written..];
        match connection.socket.write(rest) {
            Ok(length) => {
                let is_whole = length == rest.len();
                sending.written += length;
                // A stream takes less than all only when it has no more room, and says when it has some.
                if is_whole {
                    self.sent(id);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.continue_sending(id),
            Err(error) => self.finish(id, Some(error)),
        }
    }

    /// A send is complete.
    fn sent(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(Sending { buffer, written }) = connection.sending.take() {
            self.pending.push_back(Event::Sent { connection: id, buffer, written });
        }
        match connection.stage {
            Stage::Open | Stage::Lingering { .. } => {}
            Stage::Detaching => self.let_go(id),
            Stage::Flushing => self.finish(id, None),
            Stage::FlushingToLinger => self.linger(id),
        }
    }

    /// The connection leaves: it is watched no more, and what has arrived stays in its socket.
    fn let_go(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Err(error) = self.poller.forget(&connection.socket) {
            return self.finish(id, Some(error));
        }
        if let Some(connection) = self.connections.remove(id) {
            self.detached.push((id, connection.socket));
            self.pending.push_back(Event::Detached { connection: id, unread: Vec::new() });
        }
    }

    /// All is sent: tell the peer so, and wait for it to close.
    fn linger(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.socket.shutdown(Shutdown::Write).is_err() {
            return self.finish(id, None);
        }
        connection.stage = Stage::Lingering { discarded_bytes: 0 };
        connection.reading = true;
        self.lingering.push(id, self.now_ns);
        self.list_if_readable(id);
    }

    /// The connection is gone: its socket is closed, its buffer and its end are handed over.
    fn finish(&mut self, id: ConnectionId, error: Option<io::Error>) {
        let Some(connection) = self.connections.remove(id) else { return };
        if let Some(Sending { buffer, written }) = connection.sending {
            self.pending.push_back(Event::Sent { connection: id, buffer, written });
        }
        self.pending.push_back(Event::Closed { connection: id, error });
        self.accepting.end_rest();
    }
}

impl Connection {
    /// Takes a new socket into the table and the poller's watch; `None` where one of them is full.
    fn admit(
        socket: TcpStream,
        poller: &Poller,
        connections: &mut ConnectionTable<Connection>,
    ) -> Option<ConnectionId> {
        // A socket that refuses these is a broken one; reading from it will say so.
        let _ = socket.set_nodelay(true);
        socket.set_nonblocking(true).ok()?;
        let connection = Connection {
            socket,
            sending: None,
            reading: true,
            has_input: false,
            listed: false,
            peer_finished: false,
            stage: Stage::Open,
        };
        let id = connections.insert(connection).ok()?;
        let connection = connections.get_mut(id)?;
        if poller.watch_socket(&connection.socket, token_of(id)).is_err() {
            connections.remove(id);
            return None;
        }
        Some(id)
    }
}

impl Driver for EpollDriver {
    type Socket = TcpStream;

    fn clocks(&mut self) -> Clocks {
        self.clock.read()
    }

    fn poll<S: EventSink>(&mut self, timeout: Option<Duration>, sink: &mut S) -> io::Result<()> {
        self.wait(timeout)?;
        let clocks = self.clock.read();
        self.now_ns = clocks.monotonic_ns;
        sink.turn_begins(clocks);
        self.deliver(sink);
        for index in 0..self.ready.len() {
            self.notice(self.ready.get(index));
        }
        while let Some(id) = self.lingering.pop_due(self.now_ns) {
            self.finish(id, None);
        }
        self.accept();
        self.deliver(sink);
        self.read_all(sink);
        Ok(())
    }

    fn gather(&mut self, time: Duration) -> io::Result<()> {
        // What it has sent already is in `pending`, and can wait to be told.
        std::thread::sleep(self.prepare_to_gather(time)?);
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        assert!(entry.sending.is_none(), "one send at a time for a connection");
        if entry.stage != Stage::Open {
            return;
        }
        entry.sending = Some(Sending { buffer, written: 0 });
        self.continue_sending(connection);
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        if entry.stage == Stage::Open {
            entry.reading = reading;
            self.list_if_readable(connection);
        }
    }

    fn close(&mut self, connection: ConnectionId, linger: bool) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        if !linger {
            return self.finish(connection, None);
        }
        match (entry.stage, &entry.sending) {
            (Stage::Open, Some(_)) => entry.stage = Stage::FlushingToLinger,
            (Stage::Open, None) => self.linger(connection),
            _ => {}
        }
    }

    fn detach(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connections.get_mut(connection) else { return };
        if entry.stage != Stage::Open {
            return;
        }
        entry.stage = Stage::Detaching;
        entry.reading = false;
        if entry.sending.is_none() {
            self.let_go(connection);
        }
    }

    fn take_detached(&mut self, connection: ConnectionId) -> Option<TcpStream> {
        let place = self.detached.iter().position(|(id, _)| *id == connection)?;
        Some(self.detached.swap_remove(place).1)
    }

    fn attach(&mut self, socket: TcpStream) -> Option<ConnectionId> {
        Connection::admit(socket, &self.poller, &mut self.connections)
    }

    fn stop_accepting(&mut self) {
        self.listener = None;
        self.accepting = Accepting::Waiting;
    }

    fn journal_write(&mut self, write: JournalWrite) {
        self.disk.write(write);
    }

    fn journal_sync(&mut self, file: FileNumber) {
        self.disk.sync(file);
    }

    fn journal_read(&mut self, read: JournalRead) {
        self.disk.read(read);
    }

    fn prepare_segment(&mut self, file: FileNumber, length: u64) {
        self.disk.prepare(file, length);
    }

    fn finish_segment(&mut self, file: FileNumber, from: u64, length: u64) {
        self.disk.finish(file, from, length);
    }

    fn remove_segment(&mut self, file: FileNumber) {
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

    /// Nothing is read ahead: what is not wanted stays in the kernel.
    const READ_AHEAD_BYTES_MAX: usize = 0;
}

impl SharesThread for EpollDriver {
    fn prepare_to_wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        Ok(self.own_timeout(timeout))
    }

    fn prepare_to_gather(&mut self, time: Duration) -> io::Result<Duration> {
        Ok(self.until_own_work(Some(time)).unwrap_or(time))
    }

    fn wait_handle(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

fn token_of(id: ConnectionId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

/// The index of a connection fits 24 bits, so no connection has the token of the listener or the bell.
fn connection_of(token: u64) -> ConnectionId {
    ConnectionId { index: token as u32, generation: (token >> 32) as u32 }
}
