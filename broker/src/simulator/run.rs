//! One run: the shard is opened, runs turn by turn, dies, and is opened again, until the world is
//! calm and every queue is empty; then once more, to see that nothing comes back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::{Engine, EngineOptions};
use crate::exchange::mesh::Alone;
use crate::flaws::Flaws;
use crate::journal::{Durability, Log, LogOptions, OpenError, Position, RECORD_ALIGNMENT};
use crate::shard::{Opened, Shard, ShardError, ShardOptions, Turn, open};

use super::disk::Crash;
use super::driver::{SharedWorld, SimulatedDriver, SimulatedStorage};
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
        states: BTreeMap::new(),
        promise: Promise::default(),
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

struct Run<F: Flaws> {
    world: SharedWorld,
    nonce: [u8; 16],
    check_key: [u64; 2],
    /// The engine's time and the digest of its state at each end of a batch, since the last
    /// start: what recovery must come back to.
    states: BTreeMap<Position, (u64, u64)>,
    /// What of the log must be there after a crash, and what cannot be.
    promise: Promise,
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
            if world.disk.oldest_unsynced_ns().is_some() {
                world.violation("the broker stopped in good order with its log not synced".into());
            }
        }
        self.after_crash(Crash::PowerCut);
    }

    /// Opens the shard as the binary does, as often as the world lets it fail.
    fn open(&mut self) -> Option<Opened<F>> {
        loop {
            self.starts += 1;
            self.world.borrow_mut().may_crash_in_recovery();
            let result = self.open_once();
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
                    world.broker_up();
                    return Some(opened);
                }
                Err(OpenError::Damage { .. }) if world.has_rot() => {
                    world.note("damage_reported", &[]);
                    world.undo_rot();
                }
                Err(OpenError::Read(_)) if world.disk.has_lost_places() => {
                    world.note("unreadable_reported", &[]);
                    world.disk.restore_places();
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

    fn open_once(&mut self) -> Result<Opened<F>, OpenError> {
        let (clocks, epoch) = {
            let mut world = self.world.borrow_mut();
            (world.clocks(), world.random_bytes())
        };
        let log_options = self.log_options();
        self.check_recovered_state(&log_options)?;
        let mut storage = SimulatedStorage::new(&self.world);
        open(&mut storage, log_options, self.engine_options(), clocks, epoch, &mut |_| {})
    }

    /// Replays the log into an engine of its own: it must come to the state that the engine had when
    /// the log ended there (rule 18).
    fn check_recovered_state(&mut self, log_options: &LogOptions) -> Result<(), OpenError> {
        if log_options.durability == Durability::Memory || self.states.is_empty() {
            return Ok(());
        }
        let mut storage = SimulatedStorage::new(&self.world);
        let mut engine = Engine::<F>::new(self.engine_options());
        let mut end = Position::default();
        let (mut log, _) =
            Log::<F>::open(&mut storage, log_options.clone(), &mut |_| {}, &mut |position, record| {
                let record_end = position.0 + u64::from(record.length);
                end = Position(record_end.next_multiple_of(RECORD_ALIGNMENT as u64));
                engine.replay(position, record)
            })?;
        self.check_promise(end);
        // Where the log ends elsewhere, a turn's records did not fit into one write; what the state was
        // inside of a turn, nobody has seen.
        if let Some((now_ms, expected)) = self.states.get(&end)
            && engine.finish_recovery(*now_ms, &mut log).is_ok()
        {
            let digest = engine.digest();
            let mut world = self.world.borrow_mut();
            world.note("recovered", &[end.0, digest]);
            if digest != *expected && !world.checker.is_time_doubtful() {
                world.violation(format!("replayed up to {} the log gives another state than it was", end.0));
            }
        }
        self.states.clear();
        self.world.borrow_mut().checker.recovered();
        Ok(())
    }

    /// What was acknowledged must be in the log, and what is not whole must not.
    fn check_promise(&mut self, end: Position) {
        let mut world = self.world.borrow_mut();
        let Promise { committed, written_before, write, .. } = self.promise;
        if end < committed && !world.checker.may_have_lost() {
            let (end, committed) = (end.0, committed.0);
            world.violation(format!(
                "the log was recovered up to {end}; replies rely on it up to {committed}"
            ));
        }
        if world.last_write_is_torn() && write.is_some() && end > written_before {
            world.violation("a batch that is not whole on the disk was recovered".into());
        }
    }

    /// Notes how far the log has come; says whether a write was begun in this turn.
    fn note_promise(&mut self, log: &Log<F>, write: Option<u64>, is_over: bool) -> bool {
        if !is_over {
            self.promise.committed = log.committed();
        }
        if write.is_none() || write == self.promise.write {
            return false;
        }
        self.promise.write = write;
        self.promise.written_before = self.promise.written;
        self.promise.written = log.end();
        true
    }

    fn live(&mut self, opened: Opened<F>) -> End {
        let stop = Arc::new(AtomicBool::new(false));
        let driver = SimulatedDriver::new(&self.world);
        let mut shard =
            Shard::new(driver, Alone::<()>::default(), opened, ShardOptions::default(), Arc::clone(&stop));
        self.states.clear();
        let end = shard.log().end();
        self.states.insert(end, (shard.now_ms(), shard.engine().digest()));
        self.promise = Promise { written: end, written_before: end, ..Promise::default() };
        loop {
            if self.world.borrow().stop_asked() {
                stop.store(true, Ordering::Release);
            }
            let result = shard.turn();
            let world = Rc::clone(&self.world);
            let mut world = world.borrow_mut();
            if self.note_promise(shard.log(), world.write_under_way(), world.crashed().is_some()) {
                // Here a batch ends, and so may the log when it is read again.
                self.states.insert(shard.log().end(), (shard.now_ms(), shard.engine().digest()));
            }
            if world.turn > TURNS_MAX {
                world.violation(format!("the run has not ended after {TURNS_MAX} turns"));
            }
            if world.checker.has_violation() || world.phase == Phase::Over {
                return End::Over;
            }
            if let Some(crash) = world.crashed() {
                return End::Crash(crash);
            }
            match result {
                Ok(Turn::Running) if world.is_doomed() => {
                    world.violation("the shard goes on after a journal write had failed".into());
                    return End::Over;
                }
                Ok(Turn::Running) => {}
                Ok(Turn::Stopped) => return End::Stopped,
                Err(ShardError::Journal(_)) if world.is_doomed() => return End::Crash(Crash::Kill),
                Err(error) => {
                    world.violation(format!("the shard ended by itself: {error}"));
                    return End::Over;
                }
            }
        }
    }

    fn log_options(&self) -> LogOptions {
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
            ..LogOptions::new(plan.durability, self.nonce, 0)
        }
    }

    fn engine_options(&self) -> EngineOptions {
        let plan = &self.world.borrow().plan.broker;
        EngineOptions {
            in_flight_max: plan.in_flight_max.into(),
            minute_rules: plan.minute_rules,
            ..EngineOptions::new(0, self.check_key)
        }
    }
}
