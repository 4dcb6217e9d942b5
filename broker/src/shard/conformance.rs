//! What every driver must do, whatever it is made of.
//!
//! The tests are generic over a [`World`]: a driver, clients that connect to it, and somebody who wakes
//! it. They never sleep: they poll the driver until what they wait for has happened, a bounded number
//! of times. [`Recorder`] checks the contract's standing promises on every event.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use super::driver::{Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite};
use crate::journal::memory::SealedRange;

/// Polls until a test gives up waiting. With [`POLL_TIMEOUT`] that is about half a minute of nothing.
const POLLS_MAX: usize = 20_000;

/// Long enough not to spin, short enough to notice what only the client's side knows.
const POLL_TIMEOUT: Duration = Duration::from_millis(2);

/// Polls in which something that must not happen is given the chance to.
const POLLS_FOR_NOTHING: usize = 20;

/// A driver in its surroundings. The driver has an empty folder for its journal.
pub(crate) trait World {
    type Driver: Driver;
    type Client: Client;

    /// Whether this machine offers what the driver needs; without it the tests pass over the world.
    fn is_offered() -> bool {
        true
    }

    fn new() -> Self;
    fn driver(&mut self) -> &mut Self::Driver;
    /// Connects, or is refused.
    fn connect(&mut self) -> io::Result<Self::Client>;
    /// Has the driver woken from elsewhere, now or soon.
    fn wake(&mut self);
    /// Bytes for a journal write; a multiple of 4096.
    fn sealed(&mut self, bytes: &[u8]) -> SealedRange;
}

/// The other end of a connection. Dropping it closes it. Nothing blocks: what would is `WouldBlock`.
pub(crate) trait Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Zero is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Says that nothing more is to come, while still reading.
    fn finish_writing(&mut self);
}

/// Runs every test of this module over a world.
macro_rules! conformance_tests {
    ($name:ident, $world:ty, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $test() {
                    if <$world>::is_offered() {
                        super::$test::<$world>();
                    }
                }
            )*
        }
    };
}

/// A world with what has happened in it so far.
struct Run<W: World> {
    world: W,
    seen: Recorder,
}

#[derive(Default)]
struct Recorder {
    turns: usize,
    last_clocks: Option<Clocks>,
    accepted: Vec<ConnectionId>,
    open: HashSet<ConnectionId>,
    ever: HashSet<ConnectionId>,
    data: HashMap<ConnectionId, Vec<u8>>,
    sending: HashSet<ConnectionId>,
    sent: Vec<(ConnectionId, Vec<u8>, usize)>,
    closed: Vec<(ConnectionId, Option<io::Error>)>,
    written: Vec<io::Result<()>>,
    synced: Vec<io::Result<()>>,
    reads: Vec<(JournalRead, io::Result<Vec<u8>>)>,
    prepared: Vec<(FileNumber, io::Result<()>)>,
    removed: Vec<(FileNumber, io::Result<()>)>,
    woken: usize,
    turn_has_begun: bool,
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
    fn data(&self, connection: ConnectionId) -> &[u8] {
        self.data.get(&connection).map_or(&[], Vec::as_slice)
    }

    fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.iter().any(|(closed, _)| *closed == connection)
    }
}

impl<W: World> Run<W> {
    fn new() -> Self {
        Self { world: W::new(), seen: Recorder::default() }
    }

    fn poll(&mut self, timeout: Option<Duration>) {
        let turns = self.seen.turns;
        self.seen.turn_has_begun = false;
        self.world.driver().poll(timeout, &mut self.seen).unwrap();
        assert_eq!(self.seen.turns, turns + 1, "each poll is a turn");
    }

    /// Polls until `done` says so.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..POLLS_MAX {
            if done(self) {
                return;
            }
            self.poll(Some(POLL_TIMEOUT));
        }
        panic!("waited in vain for: {what}");
    }

    fn connect(&mut self) -> (W::Client, ConnectionId) {
        let before = self.seen.accepted.len();
        let client = self.world.connect().unwrap();
        self.until("the connection to be accepted", |run| run.seen.accepted.len() > before);
        (client, self.seen.accepted[before])
    }

    fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        if self.seen.open.contains(&connection) {
            assert!(self.seen.sending.insert(connection), "one send at a time");
        }
        self.world.driver().send(connection, bytes);
    }

    /// Writes all of `bytes` from the client's side while the driver runs.
    fn client_writes(&mut self, client: &mut W::Client, bytes: &[u8]) {
        let mut written = 0;
        self.until("the client to write all", |_| {
            written += take_ready(client.write(&bytes[written..])).unwrap_or(0);
            written == bytes.len()
        });
    }

    /// Reads `length` bytes on the client's side while the driver runs.
    fn client_reads(&mut self, client: &mut W::Client, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the client to read all", |_| {
            read_ready(client, &mut bytes);
            bytes.len() >= length
        });
        assert_eq!(bytes.len(), length, "no more than was sent");
        bytes
    }

    /// Reads to the end on the client's side; a reset is an end as well.
    fn client_reads_to_end(&mut self, client: &mut W::Client) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the client to see the end", |_| read_ready(client, &mut bytes));
        bytes
    }

    fn until_closed(&mut self, connection: ConnectionId) {
        self.until("the connection to be closed", |run| run.seen.is_closed(connection));
    }

    fn until_sent(&mut self, connection: ConnectionId) -> (Vec<u8>, usize) {
        let mut found = None;
        self.until("the send to come back", |run| {
            found = run.seen.sent.iter().position(|(sent, ..)| *sent == connection);
            found.is_some()
        });
        let (_, buffer, written) = self.seen.sent.swap_remove(found.unwrap());
        (buffer, written)
    }

    fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()> {
        self.world.driver().prepare_segment(file, length);
        self.until("the segment to be prepared", |run| !run.seen.prepared.is_empty());
        let (prepared, result) = self.seen.prepared.remove(0);
        assert_eq!(prepared, file);
        result
    }

    fn write(&mut self, file: FileNumber, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let bytes = self.world.sealed(bytes);
        self.world.driver().journal_write(JournalWrite { file, offset, bytes, durable });
        self.until("the journal write to end", |run| !run.seen.written.is_empty());
        self.seen.written.remove(0)
    }

    fn read(&mut self, file: FileNumber, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        let read = JournalRead { file, offset, length };
        self.world.driver().journal_read(read);
        self.until("the journal read to end", |run| !run.seen.reads.is_empty());
        let (done, result) = self.seen.reads.remove(0);
        assert_eq!(done, read);
        result
    }

    fn remove(&mut self, file: FileNumber) -> io::Result<()> {
        self.world.driver().remove_segment(file);
        self.until("the segment to be removed", |run| !run.seen.removed.is_empty());
        let (removed, result) = self.seen.removed.remove(0);
        assert_eq!(removed, file);
        result
    }
}

/// What a call that does not block came to; `None` when it would have to wait or the connection broke.
fn take_ready(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(length) => Some(length),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("the client's connection broke: {error}"),
    }
}

/// Reads what there is, and returns whether that was the end.
fn read_ready(client: &mut impl Client, bytes: &mut Vec<u8>) -> bool {
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
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let words = (0_u32..).map(|index| (index ^ seed.rotate_left(16)).wrapping_mul(0x9e37_79b1));
    let mut bytes: Vec<u8> = words.take(length.div_ceil(4)).flat_map(u32::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

fn echo_returns_what_was_sent<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(3 << 20, 1);
    let (mut written, mut echoed, mut returned) = (0, 0, Vec::new());
    run.until("everything to be echoed", |run| {
        if written < bytes.len() {
            let end = bytes.len().min(written + 100_000);
            written += take_ready(client.write(&bytes[written..end])).unwrap_or(0);
        }
        if !run.seen.sending.contains(&connection) && run.seen.data(connection).len() > echoed {
            let reply = run.seen.data(connection)[echoed..].to_vec();
            echoed += reply.len();
            run.send(connection, reply);
        }
        read_ready(&mut client, &mut returned);
        returned.len() == bytes.len()
    });
    assert!(returned == bytes, "what comes back is what was sent");
    for (_, buffer, written) in &run.seen.sent {
        assert_eq!(buffer.len(), *written);
    }
}

fn a_slow_reader_gets_everything_in_the_end<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 2);
    run.send(connection, bytes.clone());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(run.seen.sent.is_empty(), "the kernel cannot have taken all of it");
    assert!(run.client_reads(&mut client, bytes.len()) == bytes);
    let (buffer, written) = run.until_sent(connection);
    assert_eq!(written, buffer.len());
    assert!(buffer == bytes, "the buffer comes back unchanged");
}

fn reading_stops_and_goes_on<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"before");
    run.until("the first bytes", |run| run.seen.data(connection).len() == 6);
    run.world.driver().set_reading(connection, false);

    let bytes = pattern(W::Driver::READ_AHEAD_BYTES_MAX + (32 << 20), 3);
    let (mut written, mut refusals) = (0, 0);
    while written < bytes.len() && refusals < POLLS_FOR_NOTHING {
        match take_ready(client.write(&bytes[written..])) {
            Some(length) => written += length,
            None => refusals += 1,
        }
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(written < bytes.len(), "the client is held up");
    assert!(run.seen.data(connection).len() <= 6 + W::Driver::READ_AHEAD_BYTES_MAX);

    // Resuming, stopping and resuming in one turn is resuming.
    for reading in [true, false, true] {
        run.world.driver().set_reading(connection, reading);
    }
    run.client_writes(&mut client, &bytes[written..]);
    run.until("all bytes", |run| run.seen.data(connection).len() == 6 + bytes.len());
    assert!(run.seen.data(connection)[6..] == bytes, "nothing is lost or out of order");
}

fn closing_ends_a_connection_at_once<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().close(connection, false);
    // These come too late, and are ignored.
    run.world.driver().close(connection, true);
    run.world.driver().set_reading(connection, true);
    run.world.driver().send(connection, b"late".to_vec());
    run.until_closed(connection);
    assert!(run.client_reads_to_end(&mut client).is_empty());
    run.world.driver().close(connection, false);
    run.world.driver().send(connection, b"late".to_vec());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(Duration::ZERO));
    }
    assert_eq!(run.seen.closed.len(), 1);
    assert!(run.seen.sent.is_empty());
}

fn closing_gives_an_unfinished_send_back<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 4);
    run.send(connection, bytes.clone());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    // A linger is under way, and is then given up.
    run.world.driver().close(connection, true);
    run.poll(Some(POLL_TIMEOUT));
    assert!(!run.seen.is_closed(connection), "it lingers until all is sent");
    run.world.driver().close(connection, false);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert!(buffer == bytes, "the buffer comes back unchanged");
    assert!(written < bytes.len());
    let received = run.client_reads_to_end(&mut client);
    assert!(received.len() <= written && received == bytes[..received.len()]);
}

fn lingering_sends_everything_and_survives_unread_input<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(4 << 20, 5);
    // The client sends while it reads nothing, as one does that is told off for a broken frame.
    run.world.driver().set_reading(connection, false);
    run.client_writes(&mut client, &pattern(30_000, 6));
    run.send(connection, bytes.clone());
    run.world.driver().close(connection, true);
    run.poll(Some(POLL_TIMEOUT));
    assert!(run.client_reads_to_end(&mut client) == bytes, "all bytes, then the end");
    let seen = run.seen.data(connection).len();
    // The driver waits for the client to close; what it still sends goes nowhere.
    let _ = client.write(b"more");
    drop(client);
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection).len(), seen, "no data after closing");
    assert_eq!(run.until_sent(connection).1, bytes.len());
}

fn lingering_without_a_send_tells_the_client<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().close(connection, true);
    assert!(run.client_reads_to_end(&mut client).is_empty());
    drop(client);
    run.until_closed(connection);
}

fn a_client_that_keeps_an_ended_connection_is_closed_in_time<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    run.world.driver().close(connection, true);
    run.until_closed(connection);
    drop(client);
}

fn a_client_that_goes_is_reported<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"last words");
    drop(client);
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection), b"last words");
    assert!(run.seen.closed[0].1.is_none(), "an orderly end is no error");
    run.world.driver().send(connection, b"nobody".to_vec());
    run.poll(Some(Duration::ZERO));
    assert!(run.seen.sent.is_empty());
}

fn a_client_that_goes_with_unread_bytes_ends_the_send<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    run.send(connection, pattern(16 << 20, 7));
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    drop(client);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert!(written < buffer.len());
}

fn a_half_closed_client_gets_the_send_under_way<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 8);
    run.client_writes(&mut client, b"question");
    run.until("the question", |run| run.seen.data(connection) == b"question");
    run.send(connection, bytes.clone());
    client.finish_writing();
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(!run.seen.is_closed(connection), "the send is not over");
    assert!(run.client_reads_to_end(&mut client) == bytes);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert_eq!(written, buffer.len());
}

fn a_half_closed_client_with_nothing_under_way_is_closed<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"goodbye");
    client.finish_writing();
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection), b"goodbye");
    assert!(run.client_reads_to_end(&mut client).is_empty());
}

fn an_end_behind_stopped_reading_shows_when_it_goes_on<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().set_reading(connection, false);
    run.poll(Some(POLL_TIMEOUT));
    let bytes = pattern(20_000, 9);
    run.client_writes(&mut client, &bytes);
    client.finish_writing();
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    run.world.driver().set_reading(connection, true);
    run.until_closed(connection);
    assert!(run.seen.data(connection) == bytes, "everything before the end arrives");
}

fn many_connections_are_served_and_their_places_reused<W: World>() {
    const CLIENTS: usize = 300;
    let mut run = Run::<W>::new();
    let mut indexes = HashSet::new();
    for round in 0..3 {
        let first = run.seen.accepted.len();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| run.connect()).collect();
        assert_eq!(run.seen.accepted.len(), first + CLIENTS);
        for (number, (client, connection)) in clients.iter_mut().enumerate() {
            indexes.insert(connection.index);
            let bytes = pattern(100 + number, round);
            assert_eq!(client.write(&bytes).unwrap(), bytes.len());
        }
        let connections: Vec<_> = clients.iter().map(|(_, connection)| *connection).collect();
        run.until("everybody's bytes", |run| {
            connections.iter().enumerate().all(|(number, &it)| run.seen.data(it).len() == 100 + number)
        });
        for (number, &connection) in connections.iter().enumerate() {
            let reply = run.seen.data(connection).to_vec();
            assert_eq!(reply, pattern(100 + number, round));
            run.send(connection, reply);
        }
        for (number, (client, connection)) in clients.iter_mut().enumerate() {
            assert_eq!(run.client_reads(client, 100 + number), pattern(100 + number, round));
            run.until_sent(*connection);
        }
        drop(clients);
        run.until("everybody to be gone", |run| run.seen.open.is_empty());
    }
    // The recorder has checked that no pair came twice.
    assert!(indexes.len() < 2 * CLIENTS, "places are used again");
}

fn a_busy_client_does_not_shut_out_the_others<W: World>() {
    let mut run = Run::<W>::new();
    let (mut busy, loud) = run.connect();
    let (mut quiet, calm) = run.connect();
    let noise = pattern(1 << 20, 10);
    let mut is_written = false;
    run.until("the quiet client's bytes", |run| {
        // Always more noise than one turn takes.
        while busy.write(&noise).is_ok() {}
        if !is_written && run.seen.data(loud).len() > 8 << 20 {
            assert_eq!(quiet.write(b"may I?").unwrap(), 6);
            is_written = true;
        }
        if let Some(data) = run.seen.data.get_mut(&loud) {
            data.truncate(9 << 20);
        }
        run.seen.data(calm) == b"may I?"
    });
}

fn waking_ends_the_wait<W: World>() {
    let mut run = Run::<W>::new();
    for round in 1..=50 {
        let before = run.seen.woken;
        run.world.wake();
        while run.seen.woken == before {
            run.poll(None);
        }
        assert!(run.seen.woken <= round, "one wake is at most one event");
    }
}

fn a_poll_ends_when_its_time_is_up<W: World>() {
    let mut run = Run::<W>::new();
    let before = run.world.driver().clocks().monotonic_ns;
    run.poll(Some(Duration::ZERO));
    run.poll(Some(Duration::from_nanos(1)));
    run.poll(Some(Duration::from_millis(3)));
    let after = run.seen.last_clocks.unwrap().monotonic_ns;
    assert!(after > before, "time goes on, and is the turn's");
    assert_eq!(run.seen.woken, 0);
}

fn stopping_to_accept_leaves_connections_alone<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().stop_accepting();
    // One that got into the backlog before the socket was closed is reset, and the next is refused.
    run.until("newcomers to be refused", |run| run.world.connect().is_err());
    assert_eq!(run.seen.accepted.len(), 1);
    run.client_writes(&mut client, b"still here");
    run.until("the bytes", |run| run.seen.data(connection) == b"still here");
    run.send(connection, b"so am I".to_vec());
    assert_eq!(run.client_reads(&mut client, 7), b"so am I");
}

fn journal_files_keep_what_is_written<W: World>() {
    let mut run = Run::<W>::new();
    let (one, two) = (FileNumber(1), FileNumber(2));
    run.prepare(one, 1 << 20).unwrap();
    run.prepare(two, 1 << 20).unwrap();
    assert_eq!(run.read(one, 0, 8192).unwrap(), vec![0; 8192]);
    let bytes = pattern(64 << 10, 11);
    run.write(one, 4096, &bytes, true).unwrap();
    run.write(two, 0, &bytes[..4096], false).unwrap();
    run.world.driver().journal_sync(two);
    run.until("the sync to end", |run| !run.seen.synced.is_empty());
    run.seen.synced.remove(0).unwrap();
    assert!(run.read(one, 4096, 64 << 10).unwrap() == bytes);
    assert_eq!(run.read(two, 0, 4096).unwrap(), bytes[..4096]);

    // A file that is there already is left as it is.
    run.prepare(one, 1 << 20).unwrap();
    assert_eq!(run.read(one, 4096, 4096).unwrap(), bytes[..4096]);
    // One that was removed is made anew, though it was open.
    run.remove(one).unwrap();
    run.read(one, 0, 4096).unwrap_err();
    run.write(one, 0, &bytes[..4096], true).unwrap_err();
    run.prepare(one, 1 << 20).unwrap();
    run.write(one, 0, &bytes[..4096], true).unwrap();
    assert_eq!(run.read(one, 0, 4096).unwrap(), bytes[..4096]);
    assert_eq!(run.read(one, 4096, 4096).unwrap(), vec![0; 4096]);
}

fn several_reads_and_a_write_are_under_way_at_once<W: World>() {
    const READS: u64 = 20;
    let mut run = Run::<W>::new();
    run.prepare(FileNumber(1), 1 << 20).unwrap();
    let bytes = pattern(512 << 10, 12);
    run.write(FileNumber(1), 0, &bytes, true).unwrap();
    for number in 0..READS {
        let read = JournalRead { file: FileNumber(1), offset: number * 4096, length: 8192 };
        run.world.driver().journal_read(read);
    }
    run.world.driver().prepare_segment(FileNumber(2), 4 << 20);
    run.write(FileNumber(1), 512 << 10, &bytes, true).unwrap();
    run.until("all reads", |run| run.seen.reads.len() == READS as usize && !run.seen.prepared.is_empty());
    for (read, result) in &run.seen.reads {
        let start = read.offset as usize;
        assert_eq!(result.as_ref().unwrap(), &bytes[start..start + 8192]);
    }
}

fn what_is_asked_of_missing_files_fails<W: World>() {
    let mut run = Run::<W>::new();
    let missing = FileNumber(77);
    run.write(missing, 0, &[1; 4096], true).unwrap_err();
    run.write(missing, 0, &[1; 4096], false).unwrap_err();
    run.read(missing, 0, 4096).unwrap_err();
    run.remove(missing).unwrap_err();
    run.world.driver().journal_sync(missing);
    run.until("the sync to end", |run| !run.seen.synced.is_empty());
    run.seen.synced.remove(0).unwrap_err();

    run.prepare(FileNumber(1), 64 << 10).unwrap();
    run.read(FileNumber(1), 60 << 10, 8192).unwrap_err();
    run.read(FileNumber(1), 64 << 10, 4096).unwrap_err();
}

fn a_driver_can_be_dropped_with_everything_under_way<W: World>() {
    let mut run = Run::<W>::new();
    run.prepare(FileNumber(1), 1 << 20).unwrap();
    let (mut client, connection) = run.connect();
    let (mut lingering, other) = run.connect();
    run.send(connection, pattern(16 << 20, 13));
    run.send(other, pattern(16 << 20, 14));
    run.world.driver().close(other, true);
    run.poll(Some(POLL_TIMEOUT));
    for file in 2..6 {
        run.world.driver().prepare_segment(FileNumber(file), 64 << 20);
    }
    for number in 0..8 {
        run.world.driver().journal_read(JournalRead {
            file: FileNumber(1),
            offset: number * 4096,
            length: 4096,
        });
    }
    let bytes = run.world.sealed(&pattern(256 << 10, 15));
    run.world.driver().journal_write(JournalWrite { file: FileNumber(1), offset: 0, bytes, durable: true });
    let _unaccepted = run.world.connect().unwrap();
    drop(run);
    // Both connections have ended; what had been taken may still arrive.
    let mut bytes = Vec::new();
    for client in [&mut client, &mut lingering] {
        assert!((0..POLLS_MAX).any(|_| read_ready(client, &mut bytes)), "the client sees the end");
    }
}

/// One client of [`whatever_both_sides_do_nothing_is_mixed_up`] and what it has seen and done.
struct Party<C> {
    client: Option<C>,
    connection: ConnectionId,
    /// What the client sends, and what the driver sends, in all.
    upstream: Vec<u8>,
    downstream: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    given: usize,
    has_finished: bool,
    is_closing: bool,
}

/// Bytes of one stream of a [`Party`]: no more are sent on it.
const STREAM_BYTES: usize = 1 << 20;

impl<C: Client> Party<C> {
    fn act<W: World<Client = C>>(&mut self, run: &mut Run<W>, action: u32, length: usize) {
        match (action, &mut self.client) {
            (0..=3, Some(client)) if !self.has_finished => {
                let end = STREAM_BYTES.min(self.written + length);
                self.written += client.write(&self.upstream[self.written..end]).unwrap_or(0);
            }
            (4..=6, Some(client)) => {
                read_ready(client, &mut self.received);
            }
            (7, Some(client)) if length < 10_000 && !self.has_finished => {
                client.finish_writing();
                self.has_finished = true;
            }
            (8, Some(_)) if length < 10_000 => self.client = None,
            (9..=12, _) if !run.seen.sending.contains(&self.connection) && !self.is_closing => {
                let end = STREAM_BYTES.min(self.given + length);
                if end > self.given && run.seen.open.contains(&self.connection) {
                    run.send(self.connection, self.downstream[self.given..end].to_vec());
                    self.given = end;
                }
            }
            (13, _) => run.world.driver().set_reading(self.connection, length.is_multiple_of(2)),
            (14, _) if length < 20_000 => {
                run.world.driver().close(self.connection, length.is_multiple_of(2));
                self.is_closing = true;
            }
            _ => run.poll(Some(Duration::ZERO)),
        }
    }

    fn check<W: World<Client = C>>(&self, run: &Run<W>) {
        let arrived = run.seen.data(self.connection);
        assert!(arrived.len() <= self.written && *arrived == self.upstream[..arrived.len()]);
        assert!(
            self.received.len() <= self.given && *self.received == self.downstream[..self.received.len()]
        );
    }
}

fn whatever_both_sides_do_nothing_is_mixed_up<W: World>() {
    for seed in 1..=4_u64 {
        let mut run = Run::<W>::new();
        let mut parties = Vec::new();
        let mut state = seed;
        let mut random = || {
            // A linear congruential generator does, as long as only its high bits are used.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for step in 0..4_000_u32 {
            if step.is_multiple_of(200) {
                let (client, connection) = run.connect();
                parties.push(Party {
                    client: Some(client),
                    connection,
                    upstream: pattern(STREAM_BYTES, 2 * step),
                    downstream: pattern(STREAM_BYTES, 2 * step + 1),
                    written: 0,
                    received: Vec::new(),
                    given: 0,
                    has_finished: false,
                    is_closing: false,
                });
            }
            let party = random() % parties.len();
            let (action, length) = (random() as u32 % 17, 1 + random() % 200_000);
            parties[party].act(&mut run, action, length);
        }
        for party in &mut parties {
            party.client = None;
            run.world.driver().close(party.connection, false);
        }
        run.until("all connections to end", |run| run.seen.open.is_empty());
        assert!(run.seen.sending.is_empty(), "every send has come back");
        parties.iter().for_each(|party| party.check(&run));
    }
}

/// Real drivers, with clients on loopback sockets and a temporary folder.
mod real {
    use std::io::{self, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::path::PathBuf;

    use super::{Client, SealedRange, World};
    use crate::journal::memory::SegmentMemory;
    use crate::shard::driver::Driver;
    use crate::shard::epoll::EpollDriver;
    use crate::shard::segment_files::SegmentFolder;
    use crate::shard::uring::{self, UringDriver};
    use crate::shard::waker::Waker;

    /// What the real drivers have in common beside the trait.
    pub(super) trait RealDriver: Driver {
        fn its_waker(&self) -> Waker;
    }

    pub(super) struct RealWorld<S: Setup> {
        // Before the folder, so that its threads end before the folder goes.
        driver: S::Driver,
        address: SocketAddr,
        _folder: tempfile::TempDir,
    }

    pub(super) struct RealClient(TcpStream);

    impl<S: Setup> World for RealWorld<S> {
        type Driver = S::Driver;
        type Client = RealClient;

        fn is_offered() -> bool {
            S::is_offered()
        }

        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let folder = tempfile::tempdir().unwrap();
            Self { driver: S::make(listener, folder.path().join("journal")), address, _folder: folder }
        }

        fn driver(&mut self) -> &mut S::Driver {
            &mut self.driver
        }

        fn connect(&mut self) -> io::Result<RealClient> {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nonblocking(true)?;
            Ok(RealClient(stream))
        }

        fn wake(&mut self) {
            let waker = self.driver.its_waker();
            std::thread::spawn(move || waker.wake());
        }

        fn sealed(&mut self, bytes: &[u8]) -> SealedRange {
            let mut memory = SegmentMemory::new(bytes.len()).unwrap();
            memory.bytes_mut(0..bytes.len()).copy_from_slice(bytes);
            memory.seal(0..bytes.len())
        }
    }

    impl Client for RealClient {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }

        fn finish_writing(&mut self) {
            // A connection that was reset has no side to close; reading tells.
            let _ = self.0.shutdown(Shutdown::Write);
        }
    }

    impl RealDriver for EpollDriver {
        fn its_waker(&self) -> Waker {
            self.waker()
        }
    }

    impl RealDriver for UringDriver {
        fn its_waker(&self) -> Waker {
            self.waker()
        }
    }

    /// A way of making a driver.
    pub(super) trait Setup {
        type Driver: RealDriver;
        fn is_offered() -> bool {
            true
        }
        fn make(listener: TcpListener, folder: PathBuf) -> Self::Driver;
    }

    pub(super) struct Epoll;

    impl Setup for Epoll {
        type Driver = EpollDriver;

        fn make(listener: TcpListener, folder: PathBuf) -> EpollDriver {
            EpollDriver::new(listener, Some(folder)).unwrap()
        }
    }

    /// On a file system that knows no direct writes.
    pub(super) struct EpollThroughCache;

    impl Setup for EpollThroughCache {
        type Driver = EpollDriver;

        fn make(listener: TcpListener, folder: PathBuf) -> EpollDriver {
            let folder = SegmentFolder::open(&folder).unwrap().without_direct_writes();
            EpollDriver::with_folder(listener, Some(folder)).unwrap()
        }
    }

    pub(super) struct Uring;

    impl Setup for Uring {
        type Driver = UringDriver;

        fn is_offered() -> bool {
            uring::probe().is_ok()
        }

        fn make(listener: TcpListener, folder: PathBuf) -> UringDriver {
            UringDriver::new(listener, Some(folder)).unwrap()
        }
    }

    /// On an older kernel, and a file system that knows no direct writes.
    pub(super) struct ModestUring;

    impl Setup for ModestUring {
        type Driver = UringDriver;

        fn is_offered() -> bool {
            uring::probe().is_ok()
        }

        fn make(listener: TcpListener, folder: PathBuf) -> UringDriver {
            UringDriver::modest(listener, folder).unwrap()
        }
    }
}

macro_rules! all_conformance_tests {
    ($name:ident, $world:ty) => {
        conformance_tests!(
            $name,
            $world,
            [
                echo_returns_what_was_sent,
                a_slow_reader_gets_everything_in_the_end,
                reading_stops_and_goes_on,
                closing_ends_a_connection_at_once,
                closing_gives_an_unfinished_send_back,
                lingering_sends_everything_and_survives_unread_input,
                lingering_without_a_send_tells_the_client,
                a_client_that_keeps_an_ended_connection_is_closed_in_time,
                a_client_that_goes_is_reported,
                a_client_that_goes_with_unread_bytes_ends_the_send,
                a_half_closed_client_gets_the_send_under_way,
                a_half_closed_client_with_nothing_under_way_is_closed,
                an_end_behind_stopped_reading_shows_when_it_goes_on,
                many_connections_are_served_and_their_places_reused,
                a_busy_client_does_not_shut_out_the_others,
                waking_ends_the_wait,
                a_poll_ends_when_its_time_is_up,
                stopping_to_accept_leaves_connections_alone,
                journal_files_keep_what_is_written,
                several_reads_and_a_write_are_under_way_at_once,
                what_is_asked_of_missing_files_fails,
                a_driver_can_be_dropped_with_everything_under_way,
                whatever_both_sides_do_nothing_is_mixed_up,
            ]
        );
    };
}

all_conformance_tests!(epoll, real::RealWorld<real::Epoll>);
all_conformance_tests!(epoll_through_cache, real::RealWorld<real::EpollThroughCache>);
all_conformance_tests!(uring, real::RealWorld<real::Uring>);
all_conformance_tests!(modest_uring, real::RealWorld<real::ModestUring>);
