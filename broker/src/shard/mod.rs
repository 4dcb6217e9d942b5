//! One core's event loop: connections, the engine, the log, and the driver that connects them to
//! the kernel.
//!
//! A turn: the driver waits and hands over what happened; frames become commands, the engine
//! applies them and says what to answer; timers and slices of longer work get their bounded part;
//! the log starts one write for all that has gathered, unless one is under way; replies whose
//! ground is durable leave (rule 1). Nothing in here blocks, and everything but the driver runs the
//! same in the simulator.

pub(crate) mod accepting;
mod byte_queue;
mod catalog_steps;
#[cfg(test)]
mod catalog_steps_tests;
mod cold;
#[cfg(test)]
mod conformance;
mod connection;
mod dead_letters;
mod disk_worker;
mod drain;
pub mod driver;
pub mod epoll;
mod gathers;
mod hand_over;
mod input;
pub(crate) mod limits;
mod linger;
mod links;
mod moves;
mod open;
mod pages;
mod pauses;
mod peers;
#[cfg(test)]
mod peers_tests;
mod rare_replies;
mod real_clock;
mod replies;
mod requests;
mod room_waits;
mod routes;
mod searches;
pub(crate) mod segment_files;
mod sharing;
#[cfg(test)]
mod starting_tests;
mod statistics;
mod table;
mod tries;
#[cfg(test)]
mod turn_tests;
mod upkeep;
pub mod uring;
pub mod waker;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::engine::{Engine, Home, Outputs};
use crate::exchange::Exchange;
use crate::exchange::link::LinkItem;
use crate::exchange::mesh::{HandedOver, Incoming, Mesh};
use crate::exchange::parcel::Reply;
use crate::flaws::{Flaw, Flaws};
use crate::journal::Log;

pub(crate) use open::write_all;
pub use open::{Opened, open};
pub use real_clock::real_clocks;

use connection::{Connection, Connections};
use driver::{Clocks, ConnectionId, Driver, Event, EventSink};
use room_waits::RoomWaits;

/// What a shard can be told.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// How long a new connection may take for its hello.
    pub handshake_timeout_ms: u64,
    /// How long a connection may be silent.
    pub keep_alive_timeout_ms: u64,
    /// The largest frame that a client may agree on.
    pub frame_bytes_max: u32,
    /// Requests that each sibling may have of this shard and not have answered (rule 25).
    pub requests_out_max: u32,
    /// How long the shard looks for more to do, after something has happened, before it sleeps.
    pub busy_poll_ns: u64,
    /// How far apart turns begin at least of which the first was asked for something.
    pub gather_ns: u64,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            handshake_timeout_ms: 10_000,
            keep_alive_timeout_ms: 120_000,
            frame_bytes_max: 4 << 20,
            requests_out_max: 256,
            busy_poll_ns: 0,
            gather_ns: 0,
        }
    }
}

/// Why a shard cannot go on.
#[derive(Debug)]
pub enum ShardError {
    /// A write or sync of the log failed: what is on disk is not known any more (rule 3).
    Journal(io::Error),
    /// The driver failed.
    Driver(io::Error),
}

impl std::fmt::Display for ShardError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Journal(error) => write!(
                formatter,
                "the log could not be written: {error}; stopping, a restart recovers what is on disk"
            ),
            Self::Driver(error) => write!(formatter, "the shard's sockets failed: {error}"),
        }
    }
}

impl std::error::Error for ShardError {}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The shard goes on.
    Running,
    /// It was asked to stop and has: clients told, log durable.
    Stopped,
}

/// One shard: owns its driver, its end of the mesh, engine and log, and runs on one thread.
pub struct Shard<D: Driver, M: Mesh, F: Flaws> {
    driver: D,
    mesh: M,
    core: Core<F>,
    /// Whether the mesh has to be looked at.
    hears_others: bool,
}

impl<D: Driver, M: Mesh<Socket = D::Socket>, F: Flaws> Shard<D, M, F> {
    /// A shard that serves from its next turn on. `stop` is looked at whenever the driver is woken.
    pub fn new(driver: D, mesh: M, opened: Opened<F>, options: ShardOptions, stop: Arc<AtomicBool>) -> Self {
        let exchange = Exchange::new(mesh.me(), mesh.shards(), options.requests_out_max);
        let hears_others = mesh.has_others();
        Self { driver, mesh, core: Core::new(opened, options, stop, exchange), hears_others }
    }

    /// What operators have to know and were not told yet.
    pub fn news(&mut self) -> Option<&'static str> {
        if std::mem::take(&mut self.core.found_damage) {
            return Some(
                "records in the oldest segment of the log cannot be read any more; \
                 their messages are set aside and counted as damaged",
            );
        }
        let now_ms = self.core.monotonic_ms();
        if let Some(text) = self.core.room_waits.news(now_ms) {
            return Some(text);
        }
        // The shards share the clocks: one says it for all.
        let doubts = self.core.clock.retention_lag_ms() > 0;
        if self.core.exchange.me != 0 || doubts == self.core.told_of_doubt {
            return None;
        }
        self.core.told_of_doubt = doubts;
        Some(if doubts {
            "the wall clock is far ahead of the log's time; until it comes back, or for an hour, \
             retention periods are judged as if it were not"
        } else {
            "retention periods are judged by the wall clock again"
        })
    }

    /// Waits for something to happen, does what follows from it, and starts what it leads to.
    pub fn turn(&mut self) -> Result<Turn, ShardError> {
        self.gather()?;
        let timeout = self.rest();
        self.turn_within(timeout)
    }

    /// A turn that waits for so long, which [`Shard::rest`] has said; or not at all, where something
    /// else has waited.
    pub fn turn_within(&mut self, timeout: Option<Duration>) -> Result<Turn, ShardError> {
        let polled = self.driver.poll(timeout, &mut self.core);
        self.mesh.unparked();
        polled.map_err(ShardError::Driver)?;
        if let Some(error) = self.core.journal_failure.take() {
            return Err(ShardError::Journal(error));
        }
        if self.hears_others {
            self.take_from_mesh();
        }
        self.core.work();
        self.core.feed_journal(&mut self.driver);
        self.core.release_held();
        if !self.core.exchange.is_alone() {
            self.core.take_loopback();
            self.core.exchange.outbox.post(&mut self.mesh);
            self.core.hand_over_detached(&mut self.driver, &mut self.mesh);
        }
        self.core.flush(&mut self.driver);
        if self.hears_others {
            self.core.links.post(&mut self.mesh);
        }
        Ok(if self.core.has_stopped() { Turn::Stopped } else { Turn::Running })
    }

    fn take_from_mesh(&mut self) {
        let Self { core, driver, mesh, .. } = self;
        core.mesh_has_more = mesh.receive(&mut |from, incoming| {
            core.happened_ns = core.clocks.monotonic_ns;
            core.was_asked = true;
            match incoming {
                Incoming::Parcel(parcel) => core.take_parcel(from, parcel),
                Incoming::HandedOver(HandedOver { socket, unread }) => {
                    // Where the driver has no room for it, it is closed.
                    if let Some(connection) = driver.attach(socket) {
                        core.arrived(connection, &unread);
                    }
                }
            }
        });
    }

    /// The driver, for the simulator.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// The engine, to compare and to count.
    pub fn engine(&self) -> &Engine<F> {
        &self.core.engine
    }

    /// The log, to compare and to count.
    pub fn log(&self) -> &Log<F> {
        &self.core.log
    }

    /// A queue that is not there any more and of which something is remembered. For the simulator.
    pub fn remembers_gone_queue(&self) -> Option<u64> {
        let Core { exchange, engine, .. } = &self.core;
        exchange.remembered_queues().find(|&queue| engine.home(queue) == Home::Unknown)
    }

    /// Engine time as of the last turn.
    pub fn now_ms(&self) -> u64 {
        self.core.clock.now_ms()
    }
}

/// Everything of a shard but its driver, so that the driver can hand events to it while it is polled.
struct Core<F: Flaws> {
    options: ShardOptions,
    clock: Clock,
    engine: Engine<F>,
    log: Log<F>,
    outputs: Outputs,
    connections: Connections,
    /// Connections with something to send, and connections to close once they are flushed.
    dirty: Vec<ConnectionId>,
    closing: Vec<(ConnectionId, bool)>,
    /// Connections whose reading is to be stopped or resumed.
    reading: Vec<(ConnectionId, bool)>,
    /// Connections to be detached, and what the driver has detached.
    leaving: Vec<ConnectionId>,
    detached: Vec<hand_over::Detached>,
    /// Connections whose input waits.
    stalled: VecDeque<ConnectionId>,
    room_waits: RoomWaits,
    /// Replies in connections' held queues, in the order in which they may leave.
    held: VecDeque<replies::Held>,
    /// Replies that wait for bodies to be read from disk.
    parked: cold::ParkedReplies,
    /// Whether one of them may have what it needs.
    cold_reads_came: bool,
    /// Bytes of partial frames, and of unsent replies, on all connections.
    partial_bytes: usize,
    unsent_bytes: usize,
    /// Whether the engine has more to do now.
    engine_has_more: bool,
    upkeep: upkeep::Upkeep,
    counting: statistics::Counting,
    /// Connections that wait for messages and do not take what they were given.
    slow_readers: Vec<ConnectionId>,
    silence_checked_ms: u64,
    stop: Arc<AtomicBool>,
    drain: Option<drain::Drain>,
    exchange: Exchange,
    links: links::Links,
    /// What this shard has answered itself and goes on with.
    loopback: VecDeque<Reply>,
    /// What the clocks said at this turn's begin.
    clocks: Clocks,
    /// When something happened last, by the monotonic clock.
    happened_ns: u64,
    /// Whether this turn brought anything from a client or from another shard.
    was_asked: bool,
    /// Whether the mesh may have more.
    mesh_has_more: bool,
    journal_failure: Option<io::Error>,
    /// Whether messages of a damaged segment were set aside, which nobody was told yet.
    found_damage: bool,
    /// Whether operators know that the wall clock is not believed.
    told_of_doubt: bool,
}

impl<F: Flaws> Core<F> {
    fn new(opened: Opened<F>, options: ShardOptions, stop: Arc<AtomicBool>, exchange: Exchange) -> Self {
        Self {
            options,
            clock: opened.clock,
            engine: opened.engine,
            log: opened.log,
            outputs: Outputs::default(),
            connections: Connections::default(),
            dirty: Vec::new(),
            closing: Vec::new(),
            reading: Vec::new(),
            leaving: Vec::new(),
            detached: Vec::new(),
            stalled: VecDeque::new(),
            room_waits: RoomWaits::default(),
            held: VecDeque::new(),
            parked: cold::ParkedReplies::default(),
            cold_reads_came: false,
            partial_bytes: 0,
            unsent_bytes: 0,
            engine_has_more: true,
            upkeep: upkeep::Upkeep::default(),
            counting: statistics::Counting::default(),
            slow_readers: Vec::new(),
            silence_checked_ms: 0,
            stop,
            drain: None,
            exchange,
            links: links::Links::default(),
            loopback: VecDeque::new(),
            clocks: Clocks { monotonic_ns: 0, wall_ms: 0 },
            happened_ns: 0,
            was_asked: false,
            mesh_has_more: false,
            journal_failure: None,
            found_damage: false,
            told_of_doubt: false,
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Time that no jump of the wall moves, for timeouts of clients and of a stop.
    fn monotonic_ms(&self) -> u64 {
        if F::has(Flaw::MeasureStopsByTheWall) {
            return self.clock.now_ms();
        }
        self.clock.monotonic_ms()
    }

    /// How long the driver may wait from the turn's begin on.
    fn timeout(&mut self) -> Option<Duration> {
        if self.engine_has_more || self.upkeep.has_more || self.cold_reads_came || self.mesh_has_more {
            return Some(Duration::ZERO);
        }
        if !self.counting.is_idle() || !self.slow_readers.is_empty() {
            return Some(Duration::ZERO);
        }
        let room_awaited_until_ms = self.room_awaited_until_ms();
        let has_waiting = !self.room_waits.waiting.is_empty();
        if has_waiting && room_awaited_until_ms.is_none() && self.may_take_input() {
            return Some(Duration::ZERO);
        }
        let mut next_ms = self.engine.next_deadline_ms().unwrap_or(u64::MAX);
        next_ms = next_ms.min(self.upkeep.next_deadline_ms());
        next_ms = next_ms.min(self.exchange.next_deadline_ms());
        let mut wait_ms = (next_ms < u64::MAX).then(|| next_ms.saturating_sub(self.now_ms()));
        let monotonic_ms = self.monotonic_ms();
        let mut until = |deadline_ms: u64| {
            let left_ms = deadline_ms.saturating_sub(monotonic_ms);
            wait_ms = Some(wait_ms.map_or(left_ms, |wait_ms| wait_ms.min(left_ms)));
        };
        if self.connections.len() > 0 {
            until(self.silence_checked_ms + self.silence_check_interval_ms());
        }
        if let Some(awaited_until_ms) = room_awaited_until_ms.filter(|_| has_waiting) {
            until(awaited_until_ms);
        }
        if let Some(drain) = &self.drain {
            let is_late = monotonic_ms >= drain.ends_ms;
            until(drain.ends_ms + if is_late { limits::DRAIN_DISK_MS_MAX } else { 0 });
        }
        wait_ms.map(Duration::from_millis)
    }

    /// What follows from time and events: timers, waiting input, cold replies, the oldest segment.
    fn work(&mut self) {
        let now_ms = self.now_ms();
        self.engine_has_more =
            self.engine.advance(now_ms, &mut self.log, &mut self.outputs, limits::ENGINE_STEPS_A_TURN);
        self.write_replies();
        self.serve_parked();
        if !self.exchange.is_alone() {
            self.work_with_siblings();
        } else if !self.exchange.steps.is_empty() {
            self.drive_steps();
        }
        self.take_waiting_sends();
        self.take_stalled_input();
        self.end_waits_of_slow_readers();
        self.count_on();
        self.clean();
        self.close_silent();
        self.drain_on();
    }

    /// What follows for the other shards, and from what they said.
    fn work_with_siblings(&mut self) {
        self.drive_catalog();
        self.take_loopback();
        self.serve_waiting_siblings();
        self.drive_moves();
        self.share_groups();
        self.tell_siblings();
    }

    /// Gives the driver what is to be sent, read no more, or closed.
    fn flush<D: Driver>(&mut self, driver: &mut D) {
        self.answer_goodbyes();
        for id in self.dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.dirty = false;
            match connection.take_out() {
                Some(frames) if id.is_of_gateway() => {
                    self.links.say(LinkItem::Output { connection: id, frames });
                }
                Some(buffer) => driver.send(id, buffer),
                None => {}
            }
            connection.count_unsent(&mut self.unsent_bytes);
        }
        // The gateway waits for answers before it says more.
        for (id, reading) in self.reading.drain(..).filter(|(id, _)| !id.is_of_gateway()) {
            driver.set_reading(id, reading);
        }
        self.leaving.drain(..).for_each(|id| driver.detach(id));
        if self.drain.as_mut().is_some_and(drain::Drain::begins) {
            driver.stop_accepting();
        }
        let mut ended = Vec::new();
        self.closing.retain(|&(id, at_once)| match self.connections.get_mut(id) {
            None => false,
            Some(connection) if at_once || connection.is_flushed() => {
                match id.is_of_gateway() {
                    true => ended.push(id),
                    false => driver.close(id, !at_once),
                }
                false
            }
            Some(_) => true,
        });
        // What their end leads to is said and written in another turn, which may not wait for anything.
        self.engine_has_more |= !ended.is_empty();
        ended.into_iter().for_each(|id| self.end_link(id));
    }

    fn mark_dirty(dirty: &mut Vec<ConnectionId>, connection: &mut Connection) {
        if !connection.dirty {
            connection.dirty = true;
            dirty.push(connection.id);
        }
    }
}

impl<F: Flaws> EventSink for Core<F> {
    fn turn_begins(&mut self, clocks: Clocks) {
        self.clock.tick(clocks);
        self.clocks = clocks;
        self.was_asked = false;
        // Before anything is judged by a time that may have jumped (rule 9).
        self.engine.set_retention_lag_ms(self.clock.retention_lag_ms());
    }

    fn event(&mut self, event: Event<'_>) {
        self.happened_ns = self.clocks.monotonic_ns;
        match event {
            Event::Data { connection, bytes } => {
                self.was_asked = true;
                self.take_data(connection, bytes);
            }
            Event::Sent { connection, buffer, written } => self.sent(connection, buffer, written),
            Event::Accepted { connection } => self.accepted(connection),
            Event::Closed { connection, .. } => self.closed(connection),
            Event::Detached { connection, unread } => self.detached(connection, unread),
            Event::JournalWritten(Ok(())) => self.log.written(),
            Event::JournalSynced(Ok(())) => self.log.synced(),
            Event::JournalWritten(Err(error)) | Event::JournalSynced(Err(error)) => {
                self.journal_failure = Some(error);
            }
            Event::JournalReadDone { read, result } => {
                self.log.read_done(read, result);
                self.cold_reads_came = true;
            }
            Event::SegmentPrepared { file, result } => self.log.segment_prepared(file, result),
            Event::SegmentRemoved { file, result } => self.log.removed(file, result),
            Event::Woken => self.look_at_stop(),
        }
    }
}

impl<F: Flaws> Core<F> {
    fn look_at_stop(&mut self) {
        if self.stop.load(Ordering::Acquire) {
            self.begin_drain();
        }
    }
}
