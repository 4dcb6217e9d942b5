//! Everything around the shard: time, disk, network, clients and what goes wrong.
//!
//! The world is a list of things that will happen, each at its time. The shard runs one turn at a
//! time; when it waits in its driver, the world goes on until there is something for the shard or
//! its patience ends. A crash may fall between any two steps, a step being one event that the shard
//! is given or one call that it makes: from then on nothing that the shard does has any effect, and
//! the run's loop drops it after the turn.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::journal::Durability;
use crate::journal::memory::SealedRange;
use crate::shard::driver::{Clocks, ConnectionId, FileNumber, JournalRead, JournalWrite};

use super::checker::Checker;
use super::clients::Client;
use super::disk::{BLOCK_BYTES, Crash, Disk, Operation};
use super::network::Network;
use super::plan::{Faults, MS, Plan, SECOND};
use super::random::Random;
use super::trace::{Trace, TraceMode};

/// Wall time at which each run begins: a moment of 2026.
const WALL_STARTS_MS: u64 = 1_790_000_000_000;

/// With durability `async` a write is synced in this time, and what the disk needs beside it.
const ASYNC_LOSS_NS_MAX: u64 = 150 * MS;

/// A run calms down at this time at the latest.
const CHAOS_NS_MAX: u64 = 300 * SECOND;

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
    /// The disk is done with something.
    DiskEnds(u64),
    /// A fault falls.
    Fault(Fault),
    /// The disk has room again.
    DiskHasRoom,
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
    /// The disk.
    pub disk: Disk,
    network: Network,
    clients: Vec<Option<Client>>,
    /// The judge.
    pub checker: Checker,
    /// The log of the run.
    pub trace: Trace,
    inbox: VecDeque<ShardEvent>,
    broker: Broker,
    /// How far the run is.
    pub phase: Phase,
    /// Counts the shard's polls over the whole run.
    pub turn: u64,
    idle_turns: u64,
    crash_after: Option<(u64, Crash)>,
    crashed: Option<Crash>,
    /// The shard has been told that a write failed: nothing may leave any more (rule 3).
    doomed: bool,
    stop_asked: bool,
    write_under_way: Option<(u64, SealedRange)>,
    sync_under_way: bool,
    last_written: Option<FileNumber>,
    /// Rot that fell, to be undone where it makes the log unreadable.
    rot: Vec<(FileNumber, u64, u8)>,
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
            disk: Disk::new(plan.disk_bytes),
            checker: Checker::new(WALL_STARTS_MS),
            random: random.fork(3),
            schedule: BTreeMap::new(),
            next_serial: 0,
            network: Network::default(),
            clients,
            trace: Trace::new(mode),
            inbox: VecDeque::new(),
            broker: Broker::Down,
            phase: Phase::Chaos,
            turn: 0,
            idle_turns: 0,
            crash_after: None,
            crashed: None,
            doomed: false,
            stop_asked: false,
            write_under_way: None,
            sync_under_way: false,
            last_written: None,
            rot: Vec::new(),
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
        self.stop_asked
    }

    /// Whether a write failed since the broker started.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// Random bytes, for what a broker takes from the system.
    pub fn random_bytes(&mut self) -> [u8; 16] {
        let (low, high) = (self.random.next(), self.random.next());
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
    /// Waits as the shard's driver does: until there is something for it, or the time is up.
    pub fn wait(&mut self, timeout_ns: Option<u64>) {
        self.turn += 1;
        let began_ns = self.now_ns;
        let busy_ns = self.random.between(1_000, 30_000);
        self.run_until(self.now_ns + busy_ns, false);
        if self.inbox.is_empty() {
            let deadline_ns = timeout_ns.map_or(u64::MAX, |timeout_ns| began_ns.saturating_add(timeout_ns));
            self.run_until(deadline_ns, true);
        }
        self.idle_turns =
            if self.inbox.is_empty() && timeout_ns == Some(0) { self.idle_turns + 1 } else { 0 };
        if self.idle_turns > IDLE_TURNS_MAX {
            self.violation(format!("the shard has run {IDLE_TURNS_MAX} turns in a row that did nothing"));
        }
    }

    /// Lets the world go on while there is no broker.
    pub fn pass(&mut self, time_ns: u64) {
        self.run_until(self.now_ns + time_ns, false);
    }

    fn run_until(&mut self, deadline_ns: u64, stop_for_shard: bool) {
        while self.goes_on() || self.broker == Broker::Down {
            if stop_for_shard && !self.inbox.is_empty() {
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
            Happening::DiskEnds(serial) => self.disk_ends(serial),
            Happening::Fault(fault) => {
                self.schedule_fault(fault);
                if self.phase == Phase::Chaos && self.broker != Broker::Down {
                    self.fall(fault);
                }
            }
            Happening::DiskHasRoom => self.disk.set_capacity(self.plan.disk_bytes),
        }
    }
}

/// Faults.
impl World {
    fn fall(&mut self, fault: Fault) {
        self.note("fault", &[fault as u64]);
        match fault {
            Fault::Kill | Fault::PowerCut => {
                let crash = if fault == Fault::Kill { Crash::Kill } else { Crash::PowerCut };
                let steps = self.random.skewed(1, 200);
                self.crash_after.get_or_insert((steps, crash));
            }
            Fault::Stop => {
                self.stop_asked = true;
                self.inbox.push_back(ShardEvent::Woken);
            }
            Fault::FullDisk => {
                let room = self.random.below(2) * u64::from(self.plan.broker.segment_bytes);
                self.disk.set_capacity(self.disk.used_bytes() + room);
                let lasts_ns = self.random.skewed(100 * MS, 60 * SECOND);
                self.schedule(lasts_ns, Happening::DiskHasRoom);
            }
            Fault::Rot => self.rot(),
            Fault::Break => {
                if let Some(id) = self.random_link() {
                    self.break_link(id);
                }
            }
            Fault::SlowReader => {
                if let Some(id) = self.random_link() {
                    self.network.link(id).expect("chosen among those there are").client_reads = false;
                    let lasts_ns = self.random.skewed(10 * MS, 20 * SECOND);
                    self.schedule(lasts_ns, Happening::ClientReads(id));
                }
            }
            Fault::WallJump => self.jump_wall(),
            Fault::Pause => {
                let lasts_ns = self.random.skewed(MS, self.plan.faults.pause_ns_max.max(2 * MS));
                self.run_until(self.now_ns + lasts_ns, false);
            }
        }
    }

    fn jump_wall(&mut self) {
        let jump_ms = self.random.skewed(1, self.plan.faults.wall_jump_ms_max.max(10));
        if self.random.chance(1, 2) {
            self.wall_offset_ms += jump_ms;
            self.checker.wall_jumped(self.now_ns, i64::try_from(jump_ms).expect("days at most"));
        } else {
            self.wall_offset_ms -= jump_ms;
            self.checker.wall_jumped(self.now_ns, -i64::try_from(jump_ms).expect("days at most"));
        }
    }

    /// Flips bits in a file that nobody writes to: not in the segment that is being filled, whose
    /// end is what a torn write looks like.
    fn rot(&mut self) {
        let files: Vec<_> = self.disk.segments();
        let sealed: Vec<_> = files
            .iter()
            .filter(|(file, length)| {
                Some(*file) != self.last_written && *length > 0 && !self.disk.is_being_written(*file)
            })
            .collect();
        if sealed.is_empty() {
            return;
        }
        let (file, length) = **self.random.pick(&sealed);
        let offset = self.random.below(length);
        let bits = 1 << self.random.below(8);
        self.note("rot", &[u64::from(file.0), offset]);
        self.disk.rot(file, offset, bits);
        self.rot.push((file, offset, bits));
        self.checker.rot_fell();
    }

    /// Whether rot fell in this run.
    pub fn has_rot(&self) -> bool {
        !self.rot.is_empty()
    }

    /// Puts the bits back that rot has flipped, as an operator does from a copy.
    pub fn undo_rot(&mut self) {
        self.note("undo_rot", &[]);
        for (file, offset, bits) in std::mem::take(&mut self.rot) {
            if self.disk.segments().iter().any(|(number, length)| *number == file && *length > offset) {
                self.disk.rot(file, offset, bits);
            }
        }
    }

    /// From here on nothing goes wrong any more.
    pub fn calm_down(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.note("calm", &[]);
        self.phase = Phase::Calm;
        self.crash_after = None;
        self.plan.faults = Faults::default();
        self.disk.set_capacity(u64::MAX);
        self.calm_since_ns = Some(self.now_ns);
        for id in self.network.ids() {
            self.schedule(0, Happening::ClientReads(id));
        }
    }
}

/// The life of the broker.
impl World {
    /// The broker serves from now on.
    pub fn broker_up(&mut self) {
        self.note("up", &[]);
        self.broker = Broker::Up;
        self.stop_asked = false;
    }

    /// The broker is gone, by a crash or by itself; settles what was on its way.
    pub fn broker_down(&mut self, crash: Crash) {
        self.note("down", &[crash as u64]);
        let oldest_unsynced_ns = self.disk.oldest_unsynced_ns();
        self.check_unsynced(oldest_unsynced_ns);
        self.disk.crash(crash, &mut self.random);
        self.inbox.clear();
        self.write_under_way = None;
        self.sync_under_way = false;
        self.doomed = false;
        self.crash_after = None;
        self.crashed = None;
        self.broker = Broker::Down;
        self.schedule.retain(|_, happening| !matches!(happening, Happening::DiskEnds(_)));
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
        let lost_since_ns = if crash == Crash::PowerCut { oldest_unsynced_ns } else { None };
        self.checker.crashed(self.now_ns, lost_since_ns);
    }

    /// Whether what a power cut may take is as little as the durability setting says.
    fn check_unsynced(&mut self, oldest_unsynced_ns: Option<u64>) {
        let Some(oldest_ns) = oldest_unsynced_ns else { return };
        if self.plan.broker.durability == Durability::Fsync {
            return self.violation("with durability fsync, a write was not asked to be durable".into());
        }
        let faults = &self.plan.faults;
        let is_smooth = faults.slow_operations == 0 && faults.pause_ns == 0 && self.broker != Broker::Down;
        if is_smooth && self.now_ns - oldest_ns > ASYNC_LOSS_NS_MAX + 6 * self.plan.disk_ns {
            let age_ms = (self.now_ns - oldest_ns) / MS;
            self.violation(format!("a write had not been synced for {age_ms} ms"));
        }
    }

    /// Lets some time go by while nothing serves.
    pub fn pass_down_time(&mut self) {
        let time_ns = self.random.skewed(5 * MS, 20 * SECOND);
        self.pass(time_ns);
    }

    /// Whether there may be no room on the disk for a start.
    pub fn disk_may_be_full(&self) -> bool {
        self.disk.is_limited()
    }

    /// Makes room on the disk, as an operator would.
    pub fn give_room(&mut self) {
        self.note("room", &[]);
        self.disk.set_capacity(u64::MAX);
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
    pub fn events_this_turn(&mut self) -> usize {
        let most = self.plan.events_a_turn_max;
        (self.random.between(1, most) as usize).min(self.inbox.len())
    }

    /// The next event for the shard.
    pub fn next_event(&mut self) -> Option<ShardEvent> {
        if !self.goes_on() || !self.step() {
            return None;
        }
        let event = self.inbox.pop_front()?;
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
                let turn = self.turn;
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
            ShardEvent::Written(result) | ShardEvent::Synced(result) => {
                self.note("written", &[u64::from(result.is_ok())]);
                self.doomed |= result.is_err();
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

    /// The shard starts a write.
    pub fn journal_write(&mut self, write: JournalWrite) {
        if !self.step() {
            return;
        }
        let bytes = write.bytes.as_ref().to_vec();
        self.note("write", &[u64::from(write.file.0), write.offset, bytes.len() as u64]);
        self.check_aligned(write.offset, bytes.len() as u64);
        if self.write_under_way.is_some() {
            self.violation("the shard began a journal write while one was under way".into());
            return;
        }
        self.last_written = Some(write.file);
        self.rot.retain(|(file, offset, _)| {
            *file != write.file || !(write.offset..write.offset + bytes.len() as u64).contains(offset)
        });
        let operation =
            Operation::Write { file: write.file, offset: write.offset, bytes, durable: write.durable };
        let serial = self.begin_on_disk(operation);
        self.write_under_way = Some((serial, write.bytes));
    }

    /// The shard starts a sync.
    pub fn journal_sync(&mut self, file: FileNumber) {
        if !self.step() {
            return;
        }
        self.note("sync", &[u64::from(file.0)]);
        if std::mem::replace(&mut self.sync_under_way, true) {
            self.violation("the shard began a sync while one was under way".into());
            return;
        }
        self.begin_on_disk(Operation::Sync { file });
    }

    /// The shard starts a read.
    pub fn journal_read(&mut self, read: JournalRead) {
        if self.step() {
            self.note("want", &[u64::from(read.file.0), read.offset, u64::from(read.length)]);
            self.check_aligned(read.offset, u64::from(read.length));
            self.begin_on_disk(Operation::Read(read));
        }
    }

    /// The shard wants a file.
    pub fn prepare_segment(&mut self, file: FileNumber, length: u64) {
        if self.step() {
            self.note("prepare", &[u64::from(file.0), length]);
            self.begin_on_disk(Operation::Prepare { file, length });
        }
    }

    /// The shard wants a file gone.
    pub fn remove_segment(&mut self, file: FileNumber) {
        if self.step() {
            self.note("remove", &[u64::from(file.0)]);
            self.begin_on_disk(Operation::Remove { file });
        }
    }

    fn check_aligned(&mut self, offset: u64, length: u64) {
        let block = BLOCK_BYTES as u64;
        if offset % block != 0 || length % block != 0 || length == 0 {
            self.violation(format!("{length} bytes at {offset} are not whole blocks"));
        }
    }

    fn begin_on_disk(&mut self, operation: Operation) -> u64 {
        let faults = &self.plan.faults;
        let (slow, slow_ns_max) = (faults.slow_operations, faults.slow_ns_max.max(5 * MS));
        let takes_ns = if slow > 0 && self.random.chance(1, slow) {
            self.random.skewed(self.plan.disk_ns, slow_ns_max.max(self.plan.disk_ns))
        } else {
            self.random.between(self.plan.disk_ns / 2, self.plan.disk_ns * 2)
        };
        let serial = self.disk.begin(operation);
        self.schedule(takes_ns, Happening::DiskEnds(serial));
        serial
    }

    fn disk_ends(&mut self, serial: u64) {
        let fails = self.plan.faults.failed_writes;
        let failure = (fails > 0 && self.disk.may_fail(serial) && self.random.chance(1, fails))
            .then_some(io::ErrorKind::Other);
        let (operation, result) = self.disk.finish(serial, self.now_ns, failure, &mut self.random);
        self.note("disk", &[serial, u64::from(result.is_ok())]);
        let done = result.as_ref().map(|_| ()).map_err(|error| error.kind().into());
        let event = match operation {
            Operation::Write { bytes, .. } => {
                let (_, sealed) = self.write_under_way.take().expect("it was begun");
                if sealed.as_ref() != bytes {
                    self.violation("bytes changed while the disk was writing them".into());
                }
                ShardEvent::Written(done)
            }
            Operation::Sync { .. } => {
                self.sync_under_way = false;
                ShardEvent::Synced(done)
            }
            Operation::Read(read) => ShardEvent::Read(read, result),
            Operation::Prepare { file, .. } => ShardEvent::Prepared(file, done),
            Operation::Remove { file } => ShardEvent::Removed(file, done),
        };
        self.inbox.push_back(event);
    }
}

/// Links, as the shard uses them.
impl World {
    /// The shard sends.
    pub fn send(&mut self, id: ConnectionId, buffer: Vec<u8>) {
        if !self.step() {
            return;
        }
        self.note("send", &[u64::from(id.generation), buffer.len() as u64]);
        if self.doomed {
            self.violation("the shard sent something after a journal write had failed".into());
        }
        let (now_ns, turn) = (self.now_ns, self.turn);
        if let Some(link) = self.network.link(id) {
            link.send(buffer, now_ns, turn);
            self.move_bytes(id);
        }
    }

    /// The shard stops or goes on reading.
    pub fn set_reading(&mut self, id: ConnectionId, reading: bool) {
        if self.step()
            && let Some(link) = self.network.link(id)
        {
            link.reading = reading;
            self.note("reading", &[u64::from(id.generation), u64::from(reading)]);
            self.move_bytes(id);
        }
    }

    /// The shard closes a link.
    pub fn close(&mut self, id: ConnectionId, linger: bool) {
        if !self.step() {
            return;
        }
        self.note("close", &[u64::from(id.generation), u64::from(linger)]);
        let Some(link) = self.network.link(id) else { return };
        if linger && (link.is_sending() || link.has_downstream()) {
            link.lingering = true;
            self.schedule(2 * SECOND, Happening::LingerEnds(id));
        } else {
            self.close_link(id, None);
        }
    }

    /// The shard listens no more.
    pub fn stop_accepting(&mut self) {
        if self.step() {
            self.note("deaf", &[]);
            self.broker = Broker::Deaf;
        }
    }

    fn random_link(&mut self) -> Option<ConnectionId> {
        let ids = self.network.ids();
        (!ids.is_empty()).then(|| *self.random.pick(&ids))
    }

    /// A link breaks: what was on its way is lost, and both sides learn of it.
    fn break_link(&mut self, id: ConnectionId) {
        self.note("break", &[u64::from(id.generation)]);
        self.close_link(id, Some(io::ErrorKind::ConnectionReset));
    }

    fn close_link(&mut self, id: ConnectionId, error: Option<io::ErrorKind>) {
        let lost_after_ns = self.random.below(self.plan.travel_ns_max);
        let Some(link) = self.network.link(id) else { return };
        if link.is_gone {
            return;
        }
        link.is_gone = true;
        let client = link.client;
        if let Some((buffer, taken)) = link.sent_in_part() {
            self.inbox.push_back(ShardEvent::Sent(id, buffer, taken));
        }
        self.inbox.push_back(ShardEvent::Closed(id, error));
        self.schedule(lost_after_ns, Happening::ClientLoses(client, id));
    }

    /// Sees to it that bytes that can move will.
    fn move_bytes(&mut self, id: ConnectionId) {
        let travel_ns_max = self.plan.travel_ns_max;
        let mut delay = || self.random.skewed(500, travel_ns_max);
        let delays = (delay(), delay(), delay());
        let Some(link) = self.network.link(id) else { return };
        if link.is_gone {
            return;
        }
        let up = (link.has_upstream() || link.upstream_ended()) && !std::mem::replace(&mut link.up_due, true);
        let take = link.is_sending() && !std::mem::replace(&mut link.take_due, true);
        let down = link.has_downstream() && link.client_reads && !std::mem::replace(&mut link.down_due, true);
        if up {
            self.schedule(delays.0, Happening::ToShard(id));
        }
        if take {
            self.schedule(delays.1 / 4, Happening::Taken(id));
        }
        if down {
            self.schedule(delays.2, Happening::ToClient(id));
        }
    }

    /// How much moves at once: often all there is, or a long body would take for ever.
    fn piece(&mut self) -> usize {
        if self.random.chance(1, 2) {
            return usize::MAX;
        }
        self.random.skewed(1, self.plan.piece_bytes_max) as usize
    }

    fn carry_to_shard(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.up_due = false;
        if link.is_gone {
            return;
        }
        if link.has_upstream() {
            let bytes = link.read_upstream(piece);
            self.inbox.push_back(ShardEvent::Data(id, bytes));
        } else if link.upstream_ended() {
            return self.close_link(id, None);
        }
        self.move_bytes(id);
    }

    fn take_from_shard(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.take_due = false;
        if link.is_gone {
            return;
        }
        let taken = link.take(piece);
        if let Some((buffer, taken)) = link.sent_whole() {
            self.inbox.push_back(ShardEvent::Sent(id, buffer, taken));
        }
        if taken == 0 {
            // The kernel is full; it takes more once the client has read.
            return;
        }
        self.move_bytes(id);
    }

    fn carry_to_client(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.down_due = false;
        if link.is_gone || !link.client_reads {
            return;
        }
        let bytes = link.read_downstream(piece);
        let client = link.client;
        let drained = link.lingering && !link.is_sending() && !link.has_downstream();
        self.with_client(client, |client, world| client.take(world, id, &bytes));
        if drained {
            self.close_link(id, None);
        }
        self.move_bytes(id);
    }
}

/// Links, as clients use them.
impl World {
    /// A client asks for a link: `None` where nobody listens.
    pub fn connect(&mut self, client: usize) -> Option<ConnectionId> {
        if self.broker != Broker::Up || self.crashed.is_some() {
            return None;
        }
        let id = self.network.connect(client, &mut self.random);
        self.note("connect", &[client as u64, u64::from(id.generation)]);
        self.inbox.push_back(ShardEvent::Accepted(id));
        Some(id)
    }

    /// A client sends.
    pub fn client_sends(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(link) = self.network.link(id) {
            link.push_upstream(bytes);
            self.move_bytes(id);
        }
    }

    /// A client closes its link in good order.
    pub fn client_closes(&mut self, id: ConnectionId) {
        if let Some(link) = self.network.link(id) {
            link.client_closed = true;
            self.move_bytes(id);
        }
    }

    /// The link, to ask for times.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut super::network::Link> {
        self.network.link(id)
    }

    /// One more request of those that the plan has; the world calms down when there are none left.
    pub fn take_request(&mut self) -> bool {
        let requests = &mut self.plan.clients.requests;
        if *requests == 0 || self.now_ns > CHAOS_NS_MAX {
            self.calm_down();
            return false;
        }
        *requests -= 1;
        true
    }

    /// The number of a new message.
    pub fn new_message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// For how long nothing has gone wrong any more; 0 while things may.
    pub fn calm_for_ns(&self) -> u64 {
        self.calm_since_ns.map_or(0, |since_ns| self.now_ns - since_ns)
    }

    /// Every queue is empty, and this many messages are set aside: the run is over.
    pub fn drained(&mut self, set_aside: u64) {
        if self.crashed.is_some() || self.crash_after.is_some() {
            return;
        }
        self.note("drained", &[set_aside]);
        self.checker.finish(self.now_ns, set_aside);
        let has_files = self.plan.broker.durability != Durability::Memory;
        if has_files && !std::mem::replace(&mut self.drained_before, true) {
            // Once more after a power cut: what is deleted stays deleted.
            self.crash_after = Some((1, Crash::PowerCut));
            self.inbox.push_back(ShardEvent::Woken);
        } else {
            self.phase = Phase::Over;
        }
    }

    /// A client goes away while the shard may still serve its receive from a queue. False: the shard
    /// knows already.
    pub fn abandon(&mut self, id: ConnectionId, queue: u64) -> bool {
        self.network.link(id).map(|link| link.abandoned.push(queue)).is_some()
    }

    /// Wakes a client after a while.
    pub fn wake_client(&mut self, index: usize, after_ns: u64) {
        self.schedule(after_ns, Happening::ClientWakes(index));
    }

    fn client_wakes(&mut self, index: usize) {
        self.with_client(index, |client, world| client.wakes(world));
    }

    fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut World)) {
        let mut client = self.clients[index].take().expect("clients are at home between events");
        act(&mut client, self);
        self.clients[index] = Some(client);
    }
}
