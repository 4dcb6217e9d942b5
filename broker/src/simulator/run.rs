//! One run: the shard is opened, runs turn by turn, dies, and is opened again, until the world is
//! calm and every queue is empty; then once more, to see that nothing comes back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::engine::{Engine, EngineOptions};
use crate::flaws::Flaws;
use crate::journal::{Durability, Log, LogOptions, OpenError, Position, RECORD_ALIGNMENT};
use crate::shard::{Opened, Shard, ShardError, ShardOptions, Turn, open};

use super::disk::Crash;
use super::driver::{SharedWorld, SimulatedDriver, SimulatedStorage};
use super::mesh::SimulatedMesh;
use super::trace::TraceMode;
use super::world::{Phase, World};

/// Turns after which a run is taken to be caught in a circle.
const TURNS_MAX: u64 = 3_000_000;

/// How a run went.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Its seed.
    pub seed: u64,
    /// Turns of the shard.
    pub turns: u64,
    /// How often the broker was started.
    pub starts: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Simulated time.
    pub simulated_ns: u64,
    /// Hash of everything that happened, and of how many events.
    pub fingerprint: (u64, u64),
    /// Everything that happened, where it was to be kept.
    pub trace: String,
    /// What was found wrong, if anything was.
    pub failure: Option<Failure>,
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Runs a seed with a broker that has these flaws.
pub fn run<F: Flaws>(seed: u64, mode: TraceMode) -> RunReport {
    let world: SharedWorld = Rc::new(RefCell::new(World::new(seed, mode)));
    let mut run = Run::<F> {
        nonce: world.borrow_mut().random_bytes(),
        check_key: [seed, !seed],
        world: Rc::clone(&world),
        lives: Vec::new(),
        starts: 0,
        flaws: std::marker::PhantomData,
    };
    run.until_over();
    let mut world = world.borrow_mut();
    RunReport {
        seed,
        turns: world.turn,
        starts: run.starts,
        delivered: world.checker.delivered,
        simulated_ns: world.now_ns,
        fingerprint: world.trace.fingerprint(),
        trace: world.trace.take_kept(),
        failure: world.checker.found().map(|text| Failure(text.to_owned())),
    }
}

/// How a shard's life ended.
enum End {
    /// By a crash of the world, or its own refusal to go on.
    Crash(Crash),
    /// As it was asked to.
    Stopped,
    /// The run is over, or something was found.
    Over,
}

/// How far a shard's log had come when it ended.
#[derive(Debug, Default, Clone, Copy)]
struct Promise {
    /// Up to here replies had left.
    committed: Position,
    /// The last write that was begun, and where the log ended then.
    write: Option<u64>,
    written: Position,
    /// Where it had ended when the write before was begun.
    written_before: Position,
}

/// What a shard's log had when the broker ended.
#[derive(Debug, Default)]
struct Life {
    /// The engine's time and the digest of its state at each end of a batch, since the last
    /// start: what recovery must come back to.
    states: BTreeMap<Position, (u64, u64)>,
    /// What of the log must be there after a crash, and what cannot be.
    promise: Promise,
}

impl Life {
    fn begin<F: Flaws>(shard: &SimulatedShard<F>) -> Self {
        let end = shard.log().end();
        Self {
            states: BTreeMap::from([(end, (shard.engine().now_ms(), shard.engine().digest()))]),
            promise: Promise { written: end, written_before: end, ..Promise::default() },
        }
    }

    /// Notes how far the log has come, and the state where a write was begun: there a batch ends, and so
    /// may the log when it is read again.
    fn note<F: Flaws>(&mut self, shard: &SimulatedShard<F>, write: Option<u64>, is_over: bool) {
        let (log, promise) = (shard.log(), &mut self.promise);
        if !is_over {
            promise.committed = log.committed();
        }
        if write.is_none() || write == promise.write {
            return;
        }
        promise.write = write;
        promise.written_before = promise.written;
        promise.written = log.end();
        self.states.insert(log.end(), (shard.engine().now_ms(), shard.engine().digest()));
    }
}

type SimulatedShard<F> = Shard<SimulatedDriver, SimulatedMesh<F>, F>;

struct Run<F: Flaws> {
    world: SharedWorld,
    nonce: [u8; 16],
    check_key: [u64; 2],
    /// What each shard's log must come back to.
    lives: Vec<Life>,
    starts: u64,
    flaws: std::marker::PhantomData<F>,
}

impl<F: Flaws> Run<F> {
    fn until_over(&mut self) {
        loop {
            let Some(opened) = self.open() else { return };
            match self.live(opened) {
                End::Over => return,
                End::Stopped => self.after_stop(),
                End::Crash(crash) => self.after_crash(crash),
            }
        }
    }

    fn after_crash(&mut self, crash: Crash) {
        let mut world = self.world.borrow_mut();
        world.broker_down(crash);
        world.pass_down_time();
    }

    /// A broker that stopped in good order owes nothing: all it has is on disk.
    fn after_stop(&mut self) {
        {
            let mut world = self.world.borrow_mut();
            let is_synced = world.places.iter().all(|place| place.disk.oldest_unsynced_ns().is_none());
            if !is_synced && !world.may_stop_unsynced() {
                world.violation("the broker stopped in good order with its log not synced".into());
            }
        }
        self.after_crash(Crash::PowerCut);
    }

    /// Opens the shards as the binary does, as often as the world lets it fail.
    fn open(&mut self) -> Option<Vec<Opened<F>>> {
        loop {
            self.starts += 1;
            self.world.borrow_mut().may_crash_in_recovery();
            let shards = self.world.borrow().plan.shards;
            let result: Result<Vec<_>, _> = (0..shards).map(|shard| self.open_once(shard)).collect();
            let mut world = self.world.borrow_mut();
            if world.checker.has_violation() {
                return None;
            }
            if let Some(crash) = world.crashed() {
                drop(result);
                world.note("crash_in_recovery", &[]);
                world.broker_down(crash);
                world.pass_down_time();
                continue;
            }
            match result {
                Ok(opened) => {
                    // What each log has lost is known.
                    world.checker.recovered();
                    if let Some(what) = forgotten_step(&opened) {
                        world.violation(what);
                        return None;
                    }
                    world.broker_up();
                    return Some(opened);
                }
                Err(OpenError::Damage { .. }) if world.has_rot() => {
                    world.note("damage_reported", &[]);
                    world.undo_rot();
                }
                Err(OpenError::Read(_)) if world.places.iter().any(|place| place.disk.has_lost_places()) => {
                    world.note("unreadable_reported", &[]);
                    for place in &mut world.places {
                        place.disk.restore_places();
                    }
                }
                Err(error) if world.disk_may_be_full() && !matches!(error, OpenError::Damage { .. }) => {
                    world.trace.remark(0, || format!("no room to start: {error}"));
                    world.give_room();
                }
                Err(error) => {
                    world.violation(format!("the log cannot be opened: {error}"));
                    return None;
                }
            }
        }
    }

    fn open_once(&mut self, shard: u16) -> Result<Opened<F>, OpenError> {
        let (clocks, epoch) = {
            let mut world = self.world.borrow_mut();
            (world.clocks(), world.random_bytes())
        };
        let log_options = self.log_options(shard);
        self.check_recovered_state(shard, &log_options)?;
        let mut storage = SimulatedStorage::new(&self.world, shard);
        open(&mut storage, log_options, self.engine_options(shard), clocks, epoch, &mut |_| {})
    }

    /// Replays the log into an engine of its own: it must come to the state that the engine had when
    /// the log ended there (rule 18).
    fn check_recovered_state(&mut self, shard: u16, log_options: &LogOptions) -> Result<(), OpenError> {
        let Some(life) = self.lives.get(usize::from(shard)) else { return Ok(()) };
        if log_options.durability == Durability::Memory || life.states.is_empty() {
            return Ok(());
        }
        let mut storage = SimulatedStorage::new(&self.world, shard);
        let mut engine = Engine::<F>::new(self.engine_options(shard));
        let mut end = Position::default();
        let (mut log, _) =
            Log::<F>::open(&mut storage, log_options.clone(), &mut |_| {}, &mut |position, record| {
                let record_end = position.0 + u64::from(record.length);
                end = Position(record_end.next_multiple_of(RECORD_ALIGNMENT as u64));
                engine.replay(position, record)
            })?;
        self.check_promise(shard, end);
        // Where the log ends elsewhere, a turn's records did not fit into one write; what the state was
        // inside of a turn, nobody has seen.
        if let Some((now_ms, expected)) = self.lives[usize::from(shard)].states.get(&end)
            && engine.finish_recovery(*now_ms, &mut log).is_ok()
        {
            let digest = engine.digest();
            let mut world = self.world.borrow_mut();
            world.note("recovered", &[end.0, digest]);
            if digest != *expected && !world.checker.is_time_doubtful() {
                world.violation(format!("replayed up to {} the log gives another state than it was", end.0));
            }
        }
        self.lives[usize::from(shard)].states.clear();
        Ok(())
    }

    /// What was acknowledged must be in the log, and what is not whole must not.
    fn check_promise(&mut self, shard: u16, end: Position) {
        let mut world = self.world.borrow_mut();
        let Promise { committed, written_before, write, .. } = self.lives[usize::from(shard)].promise;
        if end < committed && !world.checker.may_have_lost() {
            let (end, committed) = (end.0, committed.0);
            world.violation(format!(
                "the log was recovered up to {end}; replies rely on it up to {committed}"
            ));
        }
        if world.last_write_is_torn(shard) && write.is_some() && end > written_before {
            world.violation("a batch that is not whole on the disk was recovered".into());
        }
    }

    fn live(&mut self, opened: Vec<Opened<F>>) -> End {
        let stop = Arc::new(AtomicBool::new(false));
        let count = opened.len() as u16;
        let options = self.shard_options();
        let mut shards: Vec<SimulatedShard<F>> = opened
            .into_iter()
            .enumerate()
            .map(|(number, opened)| {
                let number = number as u16;
                let driver = SimulatedDriver::new(&self.world, number);
                let mesh = SimulatedMesh::new(&self.world, number, count);
                Shard::new(driver, mesh, opened, options.clone(), Arc::clone(&stop))
            })
            .collect();
        self.lives = shards.iter().map(Life::begin).collect();
        loop {
            let Some(number) = self.next_to_run() else { return self.end() };
            if self.world.borrow().stop_asked() && !stop.swap(true, Ordering::AcqRel) {
                // Once more, as a shard that looked before this is not woken again.
                self.world.borrow_mut().wake_all();
            }
            let shard = &mut shards[usize::from(number)];
            if self.world.borrow_mut().has_gathered(number) {
                self.rest(number, shard);
                continue;
            }
            self.world.borrow_mut().turn_begins(number);
            let result = shard.turn_within(Some(Duration::ZERO));
            let is_over = {
                let mut world = self.world.borrow_mut();
                let is_over = world.crashed().is_some();
                if let Some(queue) = shard.remembers_gone_queue() {
                    world.violation(format!(
                        "queue {queue:#x} is gone, and not all that was remembered of it"
                    ));
                }
                self.lives[usize::from(number)].note(shard, world.write_under_way(number), is_over);
                world.turn_ends();
                is_over
            };
            if let Some(end) = self.judge(number, result) {
                return end;
            }
            // As a thread with one shard does: see `Shard::turn`.
            if !is_over && !matches!(shard.gather(), Ok(true)) {
                self.rest(number, shard);
            }
        }
    }

    fn rest(&self, number: u16, shard: &mut SimulatedShard<F>) {
        let rests = shard.rest();
        let rests_ns = rests.map(|rests| u64::try_from(rests.as_nanos()).unwrap_or(u64::MAX));
        self.world.borrow_mut().rests(number, rests_ns);
    }

    fn next_to_run(&self) -> Option<u16> {
        self.world.borrow_mut().next_to_run()
    }

    /// Why the broker does not go on.
    fn end(&self) -> End {
        match self.world.borrow().crashed() {
            Some(crash) => End::Crash(crash),
            None => End::Over,
        }
    }

    /// Whether the broker's life ends with this turn of a shard.
    fn judge(&self, number: u16, result: Result<Turn, ShardError>) -> Option<End> {
        let mut world = self.world.borrow_mut();
        if world.turn > TURNS_MAX {
            world.violation(format!("the run has not ended after {TURNS_MAX} turns"));
        }
        if world.checker.has_violation() || world.phase == Phase::Over {
            return Some(End::Over);
        }
        if let Some(crash) = world.crashed() {
            return Some(End::Crash(crash));
        }
        match result {
            Ok(Turn::Running) if world.is_doomed(number) => {
                world.violation("the shard goes on after a journal write had failed".into());
                Some(End::Over)
            }
            Ok(Turn::Running) => None,
            Ok(Turn::Stopped) => world.shard_stopped(number).then_some(End::Stopped),
            Err(ShardError::Journal(_)) if world.is_doomed(number) => Some(End::Crash(Crash::Kill)),
            Err(error) => {
                world.violation(format!("the shard ended by itself: {error}"));
                Some(End::Over)
            }
        }
    }

    fn shard_options(&self) -> ShardOptions {
        let plan = &self.world.borrow().plan.broker;
        ShardOptions {
            requests_out_max: plan.requests_out_max,
            gather_ns: plan.gather_ns,
            busy_poll_ns: plan.busy_poll_ns,
            ..ShardOptions::default()
        }
    }

    fn log_options(&self, shard: u16) -> LogOptions {
        let plan = &self.world.borrow().plan.broker;
        LogOptions {
            segment_bytes: plan.segment_bytes,
            hot_bytes_max: plan.hot_bytes_max,
            log_bytes_max: plan.log_bytes_max,
            growth_factor: plan.growth_factor,
            growth_base_bytes: plan.growth_base_bytes,
            cold_window_bytes: plan.cold_window_bytes,
            cold_bytes_max: plan.cold_bytes_max,
            unwritten_bytes_max: plan.unwritten_bytes_max,
            ..LogOptions::new(plan.durability, self.nonce, shard)
        }
    }

    fn engine_options(&self, shard: u16) -> EngineOptions {
        let world = self.world.borrow();
        let plan = &world.plan.broker;
        EngineOptions {
            in_flight_max: plan.in_flight_max.into(),
            minute_rules: plan.minute_rules,
            shards: world.plan.shards,
            ..EngineOptions::new(shard, self.check_key)
        }
    }
}

/// What a shard was told of the catalog, and shard 0 does not know any more.
fn forgotten_step<F: Flaws>(opened: &[Opened<F>]) -> Option<String> {
    let (first, siblings) = opened.split_first()?;
    let name = siblings.iter().find_map(|sibling| sibling.engine.ahead_of(&first.engine))?;
    Some(format!("a shard has made or deleted {}, and shard 0 has not", name.name()))
}
