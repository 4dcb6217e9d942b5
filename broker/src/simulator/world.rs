//! Everything around the shard: time, disk, network, clients and what goes wrong.
//!
//! The world is a list of things that will happen, each at its time. The shard runs one turn at a
//! time; when it waits in its driver, the world goes on until there is something for the shard or
//! its patience ends. A crash may fall between any two steps, a step being one event that the shard
//! is given or one call that it makes: from then on nothing that the shard does has any effect, and
//! the run's loop drops it after the turn.

mod faults;
mod files;
mod links;
mod mesh;
mod place;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::exchange::mesh::Incoming;
use crate::journal::Durability;
use crate::shard::driver::{Clocks, ConnectionId, FileNumber, JournalRead};
use crate::shard::limits;

use super::checker::Checker;
use super::clients::Client;
use super::disk::Crash;
use super::network::Network;
use super::plan::{Faults, MS, Plan, SECOND};
use super::random::Random;
use super::trace::{Trace, TraceMode};
use place::Place;

/// Wall time at which each run begins: a moment of 2026.
const WALL_STARTS_MS: u64 = 1_790_000_000_000;

/// With durability `async` a write is synced in this time, and what the disk needs beside it.
const ASYNC_LOSS_NS_MAX: u64 = 150 * MS;

/// A run calms down at this time at the latest.
const CHAOS_NS_MAX: u64 = 300 * SECOND;

/// How much later than it asked a thread that sleeps runs again.
const GATHERS_LATE_NS_MAX: u64 = 60_000;

/// Turns without an event and without time passing that a sound shard never needs.
const IDLE_TURNS_MAX: u64 = 20_000;

/// What happens at some time.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A client looks at what it could do.
    ClientWakes(usize),
    /// A piece of bytes reaches the shard's driver.
    ToShard(ConnectionId),
    /// The kernel takes a piece of what the shard sends.
    Taken(ConnectionId),
    /// A piece of bytes reaches the client.
    ToClient(ConnectionId),
    /// A client is told that its link is gone.
    ClientLoses(usize, ConnectionId),
    /// A client that did not read goes on.
    ClientReads(ConnectionId),
    /// A link that lingered is closed at last.
    LingerEnds(ConnectionId),
    /// A shard's disk is done with something.
    DiskEnds(u16, u64),
    /// What one shard has said to another arrives.
    Heard(u16, u16),
    /// A fault falls.
    Fault(Fault),
    /// The wall clock jumps while the broker stops.
    WallJumps,
    /// A shard's disk has room again.
    DiskHasRoom(u16),
}

/// A fault that comes at a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    PowerCut,
    Stop,
    FullDisk,
    Rot,
    Break,
    SlowReader,
    WallJump,
    Pause,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::Stop,
    Fault::FullDisk,
    Fault::Rot,
    Fault::Break,
    Fault::SlowReader,
    Fault::WallJump,
    Fault::Pause,
];

impl Fault {
    fn mean_ns(self, faults: &Faults) -> u64 {
        match self {
            Self::Kill => faults.kill_ns,
            Self::PowerCut => faults.power_cut_ns,
            Self::Stop => faults.stop_ns,
            Self::FullDisk => faults.full_disk_ns,
            Self::Rot => faults.rot_ns,
            Self::Break => faults.break_ns,
            Self::SlowReader => faults.slow_reader_ns,
            Self::WallJump => faults.wall_jump_ns,
            Self::Pause => faults.pause_ns,
        }
    }
}

/// What the shard's driver has for it.
#[derive(Debug)]
pub enum ShardEvent {
    /// See [`crate::shard::driver::Event`], as for all of these.
    Accepted(ConnectionId),
    /// Bytes.
    Data(ConnectionId, Vec<u8>),
    /// A buffer comes back.
    Sent(ConnectionId, Vec<u8>, usize),
    /// A connection is gone.
    Closed(ConnectionId, Option<io::ErrorKind>),
    /// A connection is let go, with what was not read of it.
    Detached(ConnectionId, Vec<u8>),
    /// A write ended.
    Written(io::Result<()>),
    /// A sync ended.
    Synced(io::Result<()>),
    /// A read ended.
    Read(JournalRead, io::Result<Vec<u8>>),
    /// A file was made, or not.
    Prepared(FileNumber, io::Result<()>),
    /// A file was removed, or not.
    Removed(FileNumber, io::Result<()>),
    /// Somebody wants the shard's attention.
    Woken,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Clients do what they like, and faults fall.
    Chaos,
    /// No more faults; clients take and delete everything.
    Calm,
    /// Everything is taken: the run is over.
    Over,
}

/// The broker as the world sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broker {
    Down,
    Up,
    /// It has stopped listening.
    Deaf,
}

/// Everything around the shard.
#[derive(Debug)]
pub struct World {
    /// Simulated time since the run began.
    pub now_ns: u64,
    wall_offset_ms: u64,
    /// What the seed decided.
    pub plan: Plan,
    random: Random,
    schedule: BTreeMap<(u64, u64), Happening>,
    next_serial: u64,
    /// What is each shard's own.
    pub places: Vec<Place>,
    /// What shards have said to each other and what has not arrived.
    spoken: BTreeMap<(u16, u16), VecDeque<Incoming<ConnectionId>>>,
    network: Network,
    clients: Vec<Option<Client>>,
    /// The judge.
    pub checker: Checker,
    /// The log of the run.
    pub trace: Trace,
    broker: Broker,
    /// How far the run is.
    pub phase: Phase,
    /// Counts the shard's polls over the whole run.
    pub turn: u64,
    crash_after: Option<(u64, Crash)>,
    crashed: Option<Crash>,
    stop_asked_ns: Option<u64>,
    /// Since when acknowledged writes are lost by a failed sync.
    lost_since_ns: Option<u64>,
    /// Whether neither disk nor thread ever takes long in this run.
    is_smooth: bool,
    messages: u64,
    calm_since_ns: Option<u64>,
    drained_before: bool,
}

impl World {
    /// The world of a seed, before anything has happened.
    pub fn new(seed: u64, mode: TraceMode) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random.fork(1));
        let mut client_random = random.fork(2);
        let clients = (0..plan.clients.clients)
            .map(|index| Some(Client::new(index, &plan.clients, client_random.fork(index as u64))))
            .collect();
        let mut world = Self {
            now_ns: SECOND,
            wall_offset_ms: WALL_STARTS_MS,
            places: (0..plan.shards).map(|_| Place::new(plan.disk_bytes)).collect(),
            spoken: BTreeMap::new(),
            checker: Checker::new(WALL_STARTS_MS, &plan),
            random: random.fork(3),
            schedule: BTreeMap::new(),
            next_serial: 0,
            network: Network::default(),
            clients,
            trace: Trace::new(mode),
            broker: Broker::Down,
            phase: Phase::Chaos,
            turn: 0,
            crash_after: None,
            crashed: None,
            stop_asked_ns: None,
            lost_since_ns: None,
            is_smooth: plan.faults.slow_operations == 0 && plan.faults.pause_ns == 0,
            messages: 0,
            calm_since_ns: None,
            drained_before: false,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let plan = format!("{:?}", self.plan);
        self.trace.remark(self.now_ns, || plan);
        for index in 0..self.clients.len() {
            self.schedule(index as u64 * 1000, Happening::ClientWakes(index));
        }
        for fault in FAULTS {
            self.schedule_fault(fault);
        }
    }

    /// What the clocks say.
    pub fn clocks(&self) -> Clocks {
        Clocks { monotonic_ns: self.now_ns, wall_ms: self.wall_ms() }
    }

    fn wall_ms(&self) -> u64 {
        self.wall_offset_ms + self.now_ns / MS
    }

    /// The crash that fell, if one did since the broker last started.
    pub fn crashed(&self) -> Option<Crash> {
        self.crashed
    }

    /// Whether the shard can go on: no crash fell, and nothing was found wrong.
    pub fn goes_on(&self) -> bool {
        self.crashed.is_none() && !self.checker.has_violation()
    }

    /// Whether the broker was asked to stop.
    pub fn stop_asked(&self) -> bool {
        self.stop_asked_ns.is_some()
    }

    /// Whether the broker may stop though the disk has not got all: it stood still until there was no hope.
    pub fn may_stop_unsynced(&self) -> bool {
        let patience_ns = (limits::DRAIN_MS_MAX + limits::DRAIN_DISK_MS_MAX) * MS;
        self.stop_asked_ns.is_some_and(|asked_ns| self.now_ns >= asked_ns + patience_ns)
    }

    /// Whether a write of a shard failed since the broker started.
    pub fn is_doomed(&self, shard: u16) -> bool {
        self.places[usize::from(shard)].doomed
    }

    /// Random bytes, for what a broker takes from the system.
    pub fn random_bytes(&mut self) -> [u8; 16] {
        let (low, high) = (self.random.bits(), self.random.bits());
        (u128::from(low) << 64 | u128::from(high)).to_le_bytes()
    }

    /// Adds an event to the trace.
    pub fn note(&mut self, name: &'static str, numbers: &[u64]) {
        self.trace.event(self.now_ns, name, numbers);
    }

    /// Something was found that must not be.
    pub fn violation(&mut self, text: String) {
        self.checker.violation(text);
    }

    fn schedule(&mut self, after_ns: u64, happening: Happening) {
        self.next_serial += 1;
        self.schedule.insert((self.now_ns + after_ns, self.next_serial), happening);
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let mean_ns = fault.mean_ns(&self.plan.faults);
        if mean_ns > 0 {
            let after_ns = self.random.between(mean_ns / 10, mean_ns * 2);
            self.schedule(after_ns, Happening::Fault(fault));
        }
    }

    /// One step of the shard: a crash may fall right after it. False: one has, and the step has no
    /// effect.
    fn step(&mut self) -> bool {
        if self.crashed.is_some() {
            return false;
        }
        if let Some((steps, crash)) = &mut self.crash_after {
            *steps -= 1;
            if *steps == 0 {
                self.crashed = Some(*crash);
                self.crash_after = None;
                self.note("crash", &[]);
                return false;
            }
        }
        true
    }
}

/// Time.
impl World {
    /// Lets the world go on until a shard runs, and says which one; `None`: the broker does not go on.
    pub fn next_to_run(&mut self) -> Option<u16> {
        loop {
            if !self.goes_on() || self.phase == Phase::Over {
                return None;
            }
            let now_ns = self.now_ns;
            let ready: Vec<u16> = (0..self.plan.shards)
                .filter(|&shard| self.places[usize::from(shard)].is_ready(now_ns))
                .collect();
            if !ready.is_empty() {
                return Some(*self.random.pick(&ready));
            }
            let deadline_ns = self.places.iter().map(Place::wakes_at_ns).min().unwrap_or(u64::MAX);
            self.run_until(deadline_ns, true);
        }
    }

    /// A shard's turn begins: it takes a while.
    pub fn turn_begins(&mut self, shard: u16) {
        self.turn += 1;
        let place = &mut self.places[usize::from(shard)];
        place.turn += 1;
        let has_something = !place.inbox.is_empty() || !place.parcels.is_empty();
        let is_idle = !has_something && !place.is_woken && place.rests_until_ns == 0;
        place.idle_turns = if is_idle { place.idle_turns + 1 } else { 0 };
        if place.idle_turns > IDLE_TURNS_MAX {
            self.violation(format!("shard {shard} has run {IDLE_TURNS_MAX} turns in a row that did nothing"));
        }
        let busy_ns = self.random.between(1_000, 30_000);
        self.run_until(self.now_ns + busy_ns, false);
    }

    /// A shard has looked at everything there was: something may come before it rests.
    pub fn turn_ends(&mut self) {
        if self.plan.shards > 1 {
            let busy_ns = self.random.skewed(100, 200_000);
            self.run_until(self.now_ns + busy_ns, false);
        }
    }

    /// A shard lets requests come together for so long: nothing that happens meanwhile wakes it. As with the real
    /// drivers that may end early, where much happens, and mostly ends a little late.
    pub fn gathers(&mut self, shard: u16, time_ns: u64) {
        let is_early = self.random.chance(1, 16);
        let time_ns = if is_early { self.random.below(time_ns) } else { time_ns };
        let late_ns = self.random.below(GATHERS_LATE_NS_MAX);
        self.note("gather", &[u64::from(shard), time_ns]);
        self.places[usize::from(shard)].gathers_until_ns = Some(self.now_ns + time_ns + late_ns);
    }

    /// Whether a shard that is to run was letting requests come together: it comes to that end first.
    pub fn has_gathered(&mut self, shard: u16) -> bool {
        self.places[usize::from(shard)].gathers_until_ns.take().is_some()
    }

    /// A shard would wait for so long.
    pub fn rests(&mut self, shard: u16, timeout_ns: Option<u64>) {
        let now_ns = self.now_ns;
        self.places[usize::from(shard)].rests_until_ns = match timeout_ns {
            None => u64::MAX,
            Some(0) => 0,
            Some(timeout_ns) => now_ns.saturating_add(timeout_ns),
        };
    }

    /// A shard has ended in good order; says whether all have.
    pub fn shard_stopped(&mut self, shard: u16) -> bool {
        self.note("stopped", &[u64::from(shard)]);
        self.places[usize::from(shard)].has_stopped = true;
        self.places.iter().all(|place| place.has_stopped)
    }

    /// Lets the world go on while there is no broker.
    pub fn pass(&mut self, time_ns: u64) {
        self.run_until(self.now_ns + time_ns, false);
    }

    fn run_until(&mut self, deadline_ns: u64, stop_for_shard: bool) {
        while self.goes_on() || self.broker == Broker::Down {
            if stop_for_shard && self.places.iter().any(|place| place.is_ready(self.now_ns)) {
                return;
            }
            let Some((&(at_ns, serial), _)) = self.schedule.first_key_value() else { break };
            if at_ns > deadline_ns {
                break;
            }
            let happening = self.schedule.remove(&(at_ns, serial)).expect("it is the first");
            self.now_ns = self.now_ns.max(at_ns);
            self.happen(happening);
            if self.checker.has_violation() || self.phase == Phase::Over {
                return;
            }
        }
        if deadline_ns != u64::MAX && self.crashed.is_none() {
            self.now_ns = self.now_ns.max(deadline_ns);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ClientWakes(index) => self.client_wakes(index),
            Happening::ToShard(id) => self.carry_to_shard(id),
            Happening::Taken(id) => self.take_from_shard(id),
            Happening::ToClient(id) => self.carry_to_client(id),
            Happening::ClientLoses(index, id) => {
                self.with_client(index, |client, world| client.lost(world, id))
            }
            Happening::ClientReads(id) => {
                if let Some(link) = self.network.link(id) {
                    link.client_reads = true;
                    self.move_bytes(id);
                }
            }
            Happening::LingerEnds(id) => {
                if self.network.link(id).is_some_and(|link| link.lingering) {
                    self.close_link(id, None);
                }
            }
            Happening::DiskEnds(shard, serial) => self.disk_ends(shard, serial),
            Happening::Heard(from, to) => self.arrive(from, to),
            Happening::Fault(fault) => {
                self.schedule_fault(fault);
                if self.phase == Phase::Chaos && self.broker != Broker::Down {
                    self.fall(fault);
                }
            }
            Happening::WallJumps => self.jump_wall_far(),
            Happening::DiskHasRoom(shard) => {
                let disk_bytes = if self.phase == Phase::Chaos { self.plan.disk_bytes } else { u64::MAX };
                self.places[usize::from(shard)].disk.set_capacity(disk_bytes);
            }
        }
    }
}

/// The life of the broker.
impl World {
    /// The broker serves from now on.
    pub fn broker_up(&mut self) {
        self.note("up", &[]);
        self.broker = Broker::Up;
        self.stop_asked_ns = None;
    }

    /// The broker is gone, by a crash or by itself; settles what was on its way.
    pub fn broker_down(&mut self, crash: Crash) {
        self.note("down", &[crash as u64]);
        let oldest_unsynced_ns = self.places.iter().filter_map(|place| place.disk.oldest_unsynced_ns()).min();
        self.check_unsynced(oldest_unsynced_ns);
        for place in &mut self.places {
            place.last_write_is_torn = place.disk.crash(crash, &mut self.random);
            place.broker_down();
        }
        self.spoken.clear();
        self.crash_after = None;
        self.crashed = None;
        self.broker = Broker::Down;
        self.schedule
            .retain(|_, happening| !matches!(happening, Happening::DiskEnds(..) | Happening::Heard(..)));
        for mut link in self.network.remove_all() {
            let client = link.client;
            let left = self.random.between(0, 1 << 20) as usize;
            let bytes = link.read_downstream(left);
            if !bytes.is_empty() && crash == Crash::Kill {
                self.with_client(client, |client, world| client.take_last(world, &mut link, &bytes));
            }
            let client_now = self.clients[client].as_mut().expect("clients are at home between events");
            client_now.link_gone(&mut link, &mut self.checker, self.now_ns);
            self.schedule(self.random.clone().below(MS), Happening::ClientLoses(client, link.id));
        }
        let lost_by_power_ns = if crash == Crash::PowerCut { oldest_unsynced_ns } else { None };
        let lost_since_ns = [self.lost_since_ns.take(), lost_by_power_ns].into_iter().flatten().min();
        self.checker.crashed(self.now_ns, lost_since_ns);
    }

    /// Whether what a power cut may take is as little as the durability setting says.
    fn check_unsynced(&mut self, oldest_unsynced_ns: Option<u64>) {
        let Some(oldest_ns) = oldest_unsynced_ns else { return };
        if self.plan.broker.durability == Durability::Fsync {
            return self.violation("with durability fsync, a write was not asked to be durable".into());
        }
        // That the write has ended and that a sync is due are both seen so much later at most.
        let gathers_ns = 2 * self.plan.broker.gather_ns;
        if self.is_smooth
            && self.broker != Broker::Down
            && self.now_ns - oldest_ns > ASYNC_LOSS_NS_MAX + 6 * self.plan.disk_ns + gathers_ns
        {
            let age_ms = (self.now_ns - oldest_ns) / MS;
            self.violation(format!("a write had not been synced for {age_ms} ms"));
        }
    }

    /// A shard's journal write under way, by its number.
    pub fn write_under_way(&self, shard: u16) -> Option<u64> {
        self.places[usize::from(shard)].write_under_way.as_ref().map(|(serial, _)| *serial)
    }

    /// Whether the last crash left a write of a shard in part on the disk.
    pub fn last_write_is_torn(&self, shard: u16) -> bool {
        self.places[usize::from(shard)].last_write_is_torn
    }

    /// Lets some time go by while nothing serves.
    pub fn pass_down_time(&mut self) {
        let time_ns = self.random.skewed(5 * MS, 20 * SECOND);
        self.pass(time_ns);
    }

    /// Whether there may be no room on the disk for a start.
    pub fn disk_may_be_full(&self) -> bool {
        self.places.iter().any(|place| place.disk.is_limited())
    }

    /// Makes room on the disk, as an operator would.
    pub fn give_room(&mut self) {
        self.note("room", &[]);
        for place in &mut self.places {
            place.disk.set_capacity(u64::MAX);
        }
    }

    /// One more step of recovery, which a crash may cut short.
    pub fn recovery_step(&mut self) -> io::Result<()> {
        if self.step() { Ok(()) } else { Err(io::Error::other("the world ended")) }
    }

    /// Makes a crash during the coming recovery possible.
    pub fn may_crash_in_recovery(&mut self) {
        let faults = &self.plan.faults;
        if faults.kill_ns + faults.power_cut_ns > 0 && self.random.chance(1, 8) {
            let crash = if self.random.chance(1, 2) { Crash::Kill } else { Crash::PowerCut };
            let steps = self.random.skewed(1, 100);
            self.crash_after = Some((steps, crash));
        }
    }
}

/// What the shard's driver hands over.
impl World {
    /// How many events the turn that begins is given.
    pub fn events_this_turn(&mut self, shard: u16) -> usize {
        let most = self.plan.events_a_turn_max;
        (self.random.between(1, most) as usize).min(self.places[usize::from(shard)].inbox.len())
    }

    /// The next event for the shard.
    pub fn next_event(&mut self, shard: u16) -> Option<ShardEvent> {
        if !self.goes_on() || !self.step() {
            return None;
        }
        let event = self.places[usize::from(shard)].inbox.pop_front()?;
        match &event {
            ShardEvent::Accepted(id) => self.note("accepted", &[u64::from(id.generation)]),
            ShardEvent::Data(id, bytes) => {
                self.note("data", &[u64::from(id.generation), bytes.len() as u64]);
                let now_ns = self.now_ns;
                if let Some(link) = self.network.link(*id) {
                    link.arrived(bytes.len(), now_ns);
                }
                self.move_bytes(*id);
            }
            ShardEvent::Sent(id, _, written) => {
                self.note("sent", &[u64::from(id.generation), *written as u64]);
                let turn = self.places[usize::from(shard)].turn;
                if let Some(link) = self.network.link(*id) {
                    link.send_ended(turn);
                }
            }
            ShardEvent::Closed(id, _) => {
                self.note("closed", &[u64::from(id.generation)]);
                let link = self.network.remove(*id);
                if let Some(mut link) = link
                    && let Some(client) = self.clients[link.client].as_mut()
                {
                    client.link_gone(&mut link, &mut self.checker, self.now_ns);
                }
            }
            ShardEvent::Detached(id, unread) => {
                self.note("detached", &[u64::from(id.generation), unread.len() as u64]);
                let now_ns = self.now_ns;
                if let Some(link) = self.network.link(*id) {
                    link.arrived(unread.len(), now_ns);
                }
            }
            ShardEvent::Written(result) | ShardEvent::Synced(result) => {
                self.note("written", &[u64::from(result.is_ok())]);
                self.places[usize::from(shard)].doomed |= result.is_err();
            }
            ShardEvent::Read(read, result) => {
                self.note("read", &[u64::from(read.file.0), read.offset, u64::from(result.is_ok())]);
            }
            ShardEvent::Prepared(file, result) => {
                self.note("prepared", &[u64::from(file.0), u64::from(result.is_ok())]);
            }
            ShardEvent::Removed(file, result) => {
                self.note("removed", &[u64::from(file.0), u64::from(result.is_ok())]);
            }
            ShardEvent::Woken => self.note("woken", &[]),
        }
        Some(event)
    }
}
