//! Between a shard's turns: it rests until something happens, and where it was asked for something it may let
//! requests come together first.

use std::time::Duration;

use super::driver::Driver;
use super::{Core, Shard, ShardError};
use crate::exchange::mesh::Mesh;
use crate::flaws::{Flaw, Flaws};

impl<D: Driver, M: Mesh<Socket = D::Socket>, F: Flaws> Shard<D, M, F> {
    /// Lets requests come together, where that is wanted now; says whether it did. [`Shard::rest`] follows.
    pub fn gather(&mut self) -> Result<bool, ShardError> {
        let Some(time) = self.gathers_for() else { return Ok(false) };
        // Others need not wake it meanwhile: it has not said that it rests.
        self.driver.gather(time).map_err(ShardError::Driver)?;
        Ok(true)
    }

    /// How long requests are still to come together before the shard looks for them: it was asked for something
    /// in its last turn, has nothing else to do before, and does not stop.
    pub fn gathers_for(&mut self) -> Option<Duration> {
        let core = &mut self.core;
        if !core.may_gather() || core.drain.is_some() {
            return None;
        }
        let time = Duration::from_nanos(core.options.gather_ns);
        let time = core.timeout().map_or(time, |timeout| timeout.min(time));
        let left = time.saturating_sub(self.since_turn_began());
        (left > Duration::ZERO).then_some(left)
    }

    /// Says how long the shard may wait for something to happen, and that it is to be woken meanwhile;
    /// `None`: for as long as it takes.
    pub fn rest(&mut self) -> Option<Duration> {
        if self.core.stays_awake() {
            return Some(Duration::ZERO);
        }
        let timeout = self.timeout_left();
        if timeout != Some(Duration::ZERO) && !self.mesh.prepare_to_park() {
            return Some(Duration::ZERO);
        }
        timeout
    }

    /// What is left of the time that the driver may wait. A shard that has not gathered comes here right after its
    /// turn, and need not look at the clock.
    fn timeout_left(&mut self) -> Option<Duration> {
        let timeout = self.core.timeout()?;
        if !self.core.may_gather() {
            return Some(timeout);
        }
        let passed = self.since_turn_began();
        if F::has(Flaw::SleepOnWhatFellDueWhileGathering) {
            return timeout.checked_sub(passed);
        }
        Some(timeout.saturating_sub(passed))
    }

    fn since_turn_began(&mut self) -> Duration {
        let now_ns = self.driver.clocks().monotonic_ns;
        Duration::from_nanos(now_ns.saturating_sub(self.core.clocks.monotonic_ns))
    }
}

impl<F: Flaws> Core<F> {
    /// Whether to go on looking for something to do instead of sleeping.
    fn stays_awake(&self) -> bool {
        let Self { options, clocks, .. } = self;
        clocks.monotonic_ns.saturating_sub(self.happened_ns) < options.busy_poll_ns
    }

    /// Whether the last turn is one after which requests come together.
    fn may_gather(&self) -> bool {
        self.options.gather_ns > 0 && self.was_asked
    }
}
