//! A world with everything that has happened in it, and what tests do with it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use super::{Client, World};
use crate::shard::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite,
};

/// Polls until a test gives up waiting. With [`POLL_TIMEOUT`] that is about half a minute of nothing.
pub(super) const POLLS_MAX: usize = 20_000;

/// Long enough not to spin, short enough to notice what only the client's side knows.
pub(super) const POLL_TIMEOUT: Duration = Duration::from_millis(2);

/// Polls in which something that must not happen is given the chance to.
pub(super) const POLLS_FOR_NOTHING: usize = 20;

/// A world with what has happened in it so far.
pub(super) struct Run<W: World> {
    pub(super) world: W,
    pub(super) seen: Recorder,
}

#[derive(Default)]
pub(super) struct Recorder {
    pub(super) turns: usize,
    pub(super) last_clocks: Option<Clocks>,
    pub(super) accepted: Vec<ConnectionId>,
    pub(super) open: HashSet<ConnectionId>,
    pub(super) ever: HashSet<ConnectionId>,
    pub(super) data: HashMap<ConnectionId, Vec<u8>>,
    pub(super) sending: HashSet<ConnectionId>,
    pub(super) sent: Vec<(ConnectionId, Vec<u8>, usize)>,
    pub(super) closed: Vec<(ConnectionId, Option<io::Error>)>,
    pub(super) detached: Vec<(ConnectionId, Vec<u8>)>,
    pub(super) written: Vec<io::Result<()>>,
    pub(super) synced: Vec<io::Result<()>>,
    pub(super) reads: Vec<(JournalRead, io::Result<Vec<u8>>)>,
    pub(super) prepared: Vec<(FileNumber, io::Result<()>)>,
    pub(super) removed: Vec<(FileNumber, io::Result<()>)>,
    pub(super) woken: usize,
    pub(super) turn_has_begun: bool,
}

impl EventSink for Recorder {
    fn turn_begins(&mut self, clocks: Clocks) {
        assert!(!self.turn_has_begun, "a turn begins once");
        if let Some(last) = self.last_clocks {
            assert!(clocks.monotonic_ns >= last.monotonic_ns, "monotonic time does not run backwards");
        }
        self.last_clocks = Some(clocks);
        self.turn_has_begun = true;
        self.turns += 1;
    }

    fn event(&mut self, event: Event<'_>) {
        assert!(self.turn_has_begun, "a turn begins before its first event");
        match event {
            Event::Accepted { connection } => {
                assert!(self.ever.insert(connection), "no pair of index and generation is used twice");
                assert!(
                    self.open.iter().all(|other| other.index != connection.index),
                    "one connection in a place at a time"
                );
                self.open.insert(connection);
                self.accepted.push(connection);
            }
            Event::Data { connection, bytes } => {
                assert!(self.open.contains(&connection), "data is for open connections");
                assert!(!bytes.is_empty(), "data is at least a byte");
                self.data.entry(connection).or_default().extend_from_slice(bytes);
            }
            Event::Sent { connection, buffer, written } => {
                assert!(self.open.contains(&connection), "a send comes back before the end");
                assert!(self.sending.remove(&connection), "only what was sent comes back");
                assert!(written <= buffer.len());
                self.sent.push((connection, buffer, written));
            }
            Event::Closed { connection, error } => {
                assert!(self.open.remove(&connection), "a connection ends once");
                assert!(!self.sending.contains(&connection), "a send comes back before the end");
                self.closed.push((connection, error));
            }
            Event::Detached { connection, unread } => {
                assert!(self.open.remove(&connection), "a connection ends once");
                assert!(!self.sending.contains(&connection), "a send comes back before the end");
                self.detached.push((connection, unread));
            }
            Event::JournalWritten(result) => self.written.push(result),
            Event::JournalSynced(result) => self.synced.push(result),
            Event::JournalReadDone { read, result } => self.reads.push((read, result)),
            Event::SegmentPrepared { file, result } => self.prepared.push((file, result)),
            Event::SegmentRemoved { file, result } => self.removed.push((file, result)),
            Event::Woken => self.woken += 1,
        }
    }
}

impl Recorder {
    pub(super) fn data(&self, connection: ConnectionId) -> &[u8] {
        self.data.get(&connection).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.iter().any(|(closed, _)| *closed == connection)
    }
}

impl<W: World> Run<W> {
    pub(super) fn new() -> Self {
        Self { world: W::new(), seen: Recorder::default() }
    }

    pub(super) fn poll(&mut self, timeout: Option<Duration>) {
        let turns = self.seen.turns;
        self.seen.turn_has_begun = false;
        self.world.driver().poll(timeout, &mut self.seen).unwrap();
        assert_eq!(self.seen.turns, turns + 1, "each poll is a turn");
    }

    /// Polls until `done` says so.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..POLLS_MAX {
            if done(self) {
                return;
            }
            self.poll(Some(POLL_TIMEOUT));
        }
        panic!("waited in vain for: {what}");
    }

    pub(super) fn connect(&mut self) -> (W::Client, ConnectionId) {
        let before = self.seen.accepted.len();
        let client = self.world.connect().unwrap();
        self.until("the connection to be accepted", |run| run.seen.accepted.len() > before);
        (client, self.seen.accepted[before])
    }

    pub(super) fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        if self.seen.open.contains(&connection) {
            assert!(self.seen.sending.insert(connection), "one send at a time");
        }
        self.world.driver().send(connection, bytes);
    }

    /// Writes all of `bytes` from the client's side while the driver runs.
    pub(super) fn client_writes(&mut self, client: &mut W::Client, bytes: &[u8]) {
        let mut written = 0;
        self.until("the client to write all", |_| {
            written += take_ready(client.write(&bytes[written..])).unwrap_or(0);
            written == bytes.len()
        });
    }

    /// Reads `length` bytes on the client's side while the driver runs.
    pub(super) fn client_reads(&mut self, client: &mut W::Client, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the client to read all", |_| {
            read_ready(client, &mut bytes);
            bytes.len() >= length
        });
        assert_eq!(bytes.len(), length, "no more than was sent");
        bytes
    }

    /// Reads to the end on the client's side; a reset is an end as well.
    pub(super) fn client_reads_to_end(&mut self, client: &mut W::Client) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the client to see the end", |_| read_ready(client, &mut bytes));
        bytes
    }

    /// Takes a connection out of the driver: what it had read and not handed over, and the socket.
    pub(super) fn detaches(&mut self, connection: ConnectionId) -> (Vec<u8>, Socket<W>) {
        self.world.driver().detach(connection);
        let data = self.seen.data(connection).len();
        let mut found = None;
        self.until("the connection to be detached", |run| {
            found = run.seen.detached.iter().position(|(detached, _)| *detached == connection);
            found.is_some()
        });
        assert_eq!(self.seen.data(connection).len(), data, "no data after it was asked for");
        let (_, unread) = self.seen.detached.swap_remove(found.unwrap());
        assert!(unread.len() <= W::Driver::READ_AHEAD_BYTES_MAX);
        let socket = self.world.driver().take_detached(connection).expect("it has just been detached");
        assert!(self.world.driver().take_detached(connection).is_none(), "it is given out once");
        (unread, socket)
    }

    pub(super) fn attaches(&mut self, socket: Socket<W>) -> ConnectionId {
        let connection = self.world.driver().attach(socket).expect("there is room");
        assert!(self.seen.ever.insert(connection), "no pair of index and generation is used twice");
        self.seen.open.insert(connection);
        connection
    }

    pub(super) fn until_closed(&mut self, connection: ConnectionId) {
        self.until("the connection to be closed", |run| run.seen.is_closed(connection));
    }

    pub(super) fn until_sent(&mut self, connection: ConnectionId) -> (Vec<u8>, usize) {
        let mut found = None;
        self.until("the send to come back", |run| {
            found = run.seen.sent.iter().position(|(sent, ..)| *sent == connection);
            found.is_some()
        });
        let (_, buffer, written) = self.seen.sent.swap_remove(found.unwrap());
        (buffer, written)
    }

    pub(super) fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()> {
        self.world.driver().prepare_segment(file, length);
        self.until("the segment to be prepared", |run| !run.seen.prepared.is_empty());
        let (prepared, result) = self.seen.prepared.remove(0);
        assert_eq!(prepared, file);
        result
    }

    pub(super) fn write(
        &mut self,
        file: FileNumber,
        offset: u64,
        bytes: &[u8],
        durable: bool,
    ) -> io::Result<()> {
        let bytes = self.world.sealed(bytes);
        self.world.driver().journal_write(JournalWrite { file, offset, bytes, durable });
        self.until("the journal write to end", |run| !run.seen.written.is_empty());
        self.seen.written.remove(0)
    }

    pub(super) fn read(&mut self, file: FileNumber, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        let read = JournalRead { file, offset, length };
        self.world.driver().journal_read(read);
        self.until("the journal read to end", |run| !run.seen.reads.is_empty());
        let (done, result) = self.seen.reads.remove(0);
        assert_eq!(done, read);
        result
    }

    pub(super) fn remove(&mut self, file: FileNumber) -> io::Result<()> {
        self.world.driver().remove_segment(file);
        self.until("the segment to be removed", |run| !run.seen.removed.is_empty());
        let (removed, result) = self.seen.removed.remove(0);
        assert_eq!(removed, file);
        result
    }
}

type Socket<W> = <<W as World>::Driver as Driver>::Socket;

/// What a call that does not block came to; `None` when it would have to wait or the connection broke.
pub(super) fn take_ready(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(length) => Some(length),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("the client's connection broke: {error}"),
    }
}

/// Reads what there is, and returns whether that was the end.
pub(super) fn read_ready(client: &mut impl Client, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return true,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// Bytes in which a lost, doubled or moved piece shows.
pub(super) fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let words = (0_u32..).map(|index| (index ^ seed.rotate_left(16)).wrapping_mul(0x9e37_79b1));
    let mut bytes: Vec<u8> = words.take(length.div_ceil(4)).flat_map(u32::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}
