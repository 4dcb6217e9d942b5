//! The simulator's driver and storage: the shard's end of the [`World`].
//!
//! Both are handles to the one world of a run, which is single threaded; no call into the shard is
//! made while the world is borrowed.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::{Chunk, WantedChunk};
use crate::journal::memory::FreshPage;
use crate::journal::storage::Storage;
use crate::shard::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite,
};

use super::network;
use super::world::{ShardEvent, World};

/// How much of a segment's file a start has to do with, before the shard has finished it.
const BEGUN_BYTES: u64 = 16 << 10;

/// The world of a run, shared by the run's loop and the shard's driver.
pub type SharedWorld = Rc<RefCell<World>>;

/// The driver of a simulated shard.
#[derive(Debug)]
pub struct SimulatedDriver {
    world: SharedWorld,
    shard: u16,
    /// Chunks that were asked for.
    chunks: Vec<Chunk>,
}

impl SimulatedDriver {
    /// A driver for a shard in `world`.
    pub fn new(world: &SharedWorld, shard: u16) -> Self {
        Self { world: Rc::clone(world), shard, chunks: Vec::new() }
    }
}

impl Driver for SimulatedDriver {
    /// The link, which keeps its name.
    type Socket = ConnectionId;

    fn detach(&mut self, connection: ConnectionId) {
        self.world.borrow_mut().detach(connection);
    }

    fn take_detached(&mut self, connection: ConnectionId) -> Option<ConnectionId> {
        Some(connection)
    }

    fn attach(&mut self, socket: ConnectionId) -> Option<ConnectionId> {
        self.world.borrow_mut().attach(self.shard, socket)
    }

    const READ_AHEAD_BYTES_MAX: usize = network::READ_AHEAD_BYTES_MAX;

    fn clocks(&mut self) -> Clocks {
        self.world.borrow().clocks()
    }

    fn poll<S: EventSink>(&mut self, timeout: Option<Duration>, sink: &mut S) -> io::Result<()> {
        let (clocks, events) = {
            let mut world = self.world.borrow_mut();
            debug_assert_eq!(timeout, Some(Duration::ZERO), "the run waits for all shards at once");
            (world.clocks(), world.events_this_turn(self.shard))
        };
        sink.turn_begins(clocks);
        for _ in 0..events {
            let event = self.world.borrow_mut().next_event(self.shard);
            let Some(event) = event else { break };
            hand_over(event, sink);
        }
        Ok(())
    }

    fn gather(&mut self, time: Duration) -> io::Result<()> {
        self.world.borrow_mut().gathers(self.shard, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        self.world.borrow_mut().send(connection, buffer);
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        self.world.borrow_mut().set_reading(connection, reading);
    }

    fn close(&mut self, connection: ConnectionId, linger: bool) {
        self.world.borrow_mut().close(connection, linger);
    }

    fn stop_accepting(&mut self) {
        self.world.borrow_mut().stop_accepting();
    }

    fn journal_write(&mut self, write: JournalWrite) {
        self.world.borrow_mut().journal_write(self.shard, write);
    }

    fn journal_sync(&mut self, file: FileNumber) {
        self.world.borrow_mut().journal_sync(self.shard, file);
    }

    fn journal_read(&mut self, read: JournalRead) {
        self.world.borrow_mut().journal_read(self.shard, read);
    }

    fn prepare_segment(&mut self, file: FileNumber, length: u64) {
        self.world.borrow_mut().prepare_segment(self.shard, file, length);
    }

    fn finish_segment(&mut self, file: FileNumber, _from: u64, length: u64) {
        // It is there with its length, so that this takes time and leaves it as it is.
        self.world.borrow_mut().prepare_segment(self.shard, file, length);
    }

    fn remove_segment(&mut self, file: FileNumber) {
        self.world.borrow_mut().remove_segment(self.shard, file);
    }

    fn make_page(&mut self, _page: FreshPage) {
        // Simulated time does not stand still for the kernel's.
    }

    fn make_chunk(&mut self, wanted: WantedChunk) {
        self.chunks.push(wanted.make());
    }

    fn take_chunk(&mut self) -> Option<Chunk> {
        self.chunks.pop()
    }
}

fn hand_over<S: EventSink>(event: ShardEvent, sink: &mut S) {
    match event {
        ShardEvent::Accepted(connection) => sink.event(Event::Accepted { connection }),
        ShardEvent::Data(connection, bytes) => sink.event(Event::Data { connection, bytes: &bytes }),
        ShardEvent::Sent(connection, buffer, written) => {
            sink.event(Event::Sent { connection, buffer, written });
        }
        ShardEvent::Closed(connection, error) => {
            sink.event(Event::Closed { connection, error: error.map(io::Error::from) });
        }
        ShardEvent::Detached(connection, unread) => sink.event(Event::Detached { connection, unread }),
        ShardEvent::Written(result) => sink.event(Event::JournalWritten(result)),
        ShardEvent::Synced(result) => sink.event(Event::JournalSynced(result)),
        ShardEvent::Read(read, result) => sink.event(Event::JournalReadDone { read, result }),
        ShardEvent::Prepared(file, result) => sink.event(Event::SegmentPrepared { file, result }),
        ShardEvent::Removed(file, result) => sink.event(Event::SegmentRemoved { file, result }),
        ShardEvent::Woken => sink.event(Event::Woken),
    }
}

/// The files of the simulated disk, as recovery sees them.
#[derive(Debug)]
pub struct SimulatedStorage {
    world: SharedWorld,
    shard: u16,
}

impl SimulatedStorage {
    /// The storage of a shard in `world`.
    pub fn new(world: &SharedWorld, shard: u16) -> Self {
        Self { world: Rc::clone(world), shard }
    }
}

impl Storage for SimulatedStorage {
    fn segments(&mut self) -> io::Result<Vec<(FileNumber, u64)>> {
        Ok(self.world.borrow().places[usize::from(self.shard)].disk.segments())
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.world.borrow().places[usize::from(self.shard)].disk.read(file, offset, buffer)
    }

    fn write(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.note("recovery_write", &[u64::from(file.0), offset, bytes.len() as u64]);
        world.recovery_step()?;
        world.overwrites(self.shard, file, offset, bytes.len() as u64);
        world.places[usize::from(self.shard)].disk.write_now(file, offset, bytes)
    }

    fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.note("recovery_prepare", &[u64::from(file.0), length]);
        world.recovery_step()?;
        world.places[usize::from(self.shard)].disk.prepare(file, length)
    }

    fn begin(&mut self, file: FileNumber, length: u64) -> io::Result<u64> {
        self.prepare(file, length)?;
        let written = length.min(BEGUN_BYTES);
        self.world.borrow_mut().places[usize::from(self.shard)].disk.begin_file(file, written);
        Ok(written)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.recovery_step()?;
        world.places[usize::from(self.shard)].disk.sync_all();
        Ok(())
    }
}
