//! Engine time (rule 9): milliseconds since the Unix epoch that never run backwards.
//!
//! It starts at the last journaled time or later, follows the monotonic clock, and is slewed to
//! wall time: where it is ahead of the wall it runs slower by [`SLEW_PER_MS`] until the wall has
//! caught up; where it is behind it jumps forward, for visibility and delays must follow real time.
//!
//! A wall clock that is far away from engine time cannot be believed: five days ahead, it would
//! expire whole queues. A jump over [`TRUSTED_JUMP_MS`] therefore holds retention back, and only
//! retention: it is judged as if the jump had not happened, until the wall comes back or
//! [`RETENTION_GRACE_MS`] have passed, and the shard says so.

use crate::shard::driver::Clocks;

/// How far wall time may be from engine time, at start or later, and still be believed at once.
pub const TRUSTED_JUMP_MS: u64 = 24 * 60 * 60 * 1000;

/// How long retention is held back after a jump that was not believed.
pub const RETENTION_GRACE_MS: u64 = 60 * 60 * 1000;

/// Engine time that is ahead of the wall advances by this many thousandths less than real time.
pub const SLEW_PER_MS: u64 = 5;

/// Turns what the clocks say into engine time. Owned by the shard.
#[derive(Debug)]
pub struct Clock {
    now_ms: u64,
    /// Monotonic time at which `now_ms` was right, and the fraction of a millisecond beyond it.
    at_ns: u64,
    slewed_us: u64,
    retention_lag_ms: u64,
    grace_ends_ms: u64,
}

impl Clock {
    /// Begins at the wall's time, or at the last journaled time where that is later. A new folder
    /// has no last time (`None`) and believes the wall.
    pub fn start(last_journaled_ms: Option<u64>, clocks: Clocks) -> Self {
        let last_ms = last_journaled_ms.unwrap_or(clocks.wall_ms);
        let mut clock = Self {
            now_ms: last_ms,
            at_ns: clocks.monotonic_ns,
            slewed_us: 0,
            retention_lag_ms: 0,
            grace_ends_ms: 0,
        };
        clock.follow_wall(clocks);
        clock
    }

    /// Engine time now; called once a turn.
    pub fn tick(&mut self, clocks: Clocks) -> u64 {
        let elapsed_ms = clocks.monotonic_ns.saturating_sub(self.at_ns) / 1_000_000;
        if elapsed_ms == 0 {
            return self.now_ms;
        }
        self.at_ns += elapsed_ms * 1_000_000;
        self.now_ms += if self.now_ms > clocks.wall_ms { self.slowed(elapsed_ms) } else { elapsed_ms };
        self.follow_wall(clocks);
        if self.retention_lag_ms > 0 && self.now_ms >= self.grace_ends_ms {
            self.confirm();
        }
        self.now_ms
    }

    /// The time of the last tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Monotonic time of the last tick, which no jump of the wall moves: for how long something took, such
    /// as a client's silence or a stop, where engine time would end at once what had just begun.
    pub fn monotonic_ms(&self) -> u64 {
        self.at_ns / 1_000_000
    }

    /// Another shard's time is further: this one goes on from there. At a start they have come as far as
    /// their logs say; later they differ by what a turn takes.
    pub fn catch_up(&mut self, now_ms: u64, clocks: Clocks) {
        if now_ms > self.now_ms {
            self.now_ms = now_ms;
            // As where it follows the wall: else shards would drive each other on, by a part of a millisecond each time.
            self.at_ns = clocks.monotonic_ns;
        }
    }

    /// By how much retention lags behind engine time while a jump of the wall is not believed.
    pub fn retention_lag_ms(&self) -> u64 {
        self.retention_lag_ms
    }

    /// Believes the wall clock: retention is judged by engine time again.
    pub fn confirm(&mut self) {
        self.retention_lag_ms = 0;
    }

    fn slowed(&mut self, elapsed_ms: u64) -> u64 {
        self.slewed_us += elapsed_ms * (1000 - SLEW_PER_MS);
        let whole_ms = self.slewed_us / 1000;
        self.slewed_us %= 1000;
        whole_ms
    }

    fn follow_wall(&mut self, clocks: Clocks) {
        let wall_ms = clocks.wall_ms;
        let ahead_ms = wall_ms.saturating_sub(self.now_ms);
        if ahead_ms > TRUSTED_JUMP_MS {
            self.retention_lag_ms += ahead_ms;
            self.grace_ends_ms = wall_ms + RETENTION_GRACE_MS;
        } else if self.retention_lag_ms > 0 && wall_ms + TRUSTED_JUMP_MS < self.now_ms {
            // The wall came back: engine time stays where it is, and so does the lag, which now
            // says how far engine time itself is ahead of what is believed.
            self.retention_lag_ms = self.retention_lag_ms.min(self.now_ms - wall_ms);
            self.grace_ends_ms = u64::MAX;
        }
        if wall_ms > self.now_ms {
            self.now_ms = wall_ms;
            // Counted from here, or the part of a millisecond before it would be counted twice.
            self.at_ns = clocks.monotonic_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn at(monotonic_ms: u64, wall_ms: u64) -> Clocks {
        Clocks { monotonic_ns: monotonic_ms * 1_000_000, wall_ms }
    }

    #[test]
    fn never_runs_ahead_of_a_wall_that_does_not_jump() {
        let mut clock = Clock::start(None, Clocks { monotonic_ns: 900_000, wall_ms: 1_000 });
        for now_us in (900..100_000).step_by(370) {
            let clocks = Clocks { monotonic_ns: now_us * 1000, wall_ms: 1_000 + now_us / 1000 };
            let now_ms = clock.tick(clocks);
            assert!((clocks.wall_ms - 1..=clocks.wall_ms).contains(&now_ms), "{now_ms} at {clocks:?}");
        }
    }

    #[test]
    fn never_runs_backwards_when_the_wall_does() {
        let mut clock = Clock::start(None, at(0, 1_000_000));
        assert_eq!(clock.tick(at(10, 1_000_010)), 1_000_010);
        assert_eq!(clock.tick(at(1010, 500_000)), 1_000_010 + 995);
    }

    #[test]
    fn one_that_has_caught_up_with_another_goes_on_with_it() {
        let wall = |ms| 1_000_000 + ms;
        let mut ahead = Clock::start(Some(2_000_500), at(0, wall(0)));
        let mut behind = Clock::start(Some(2_000_000), at(0, wall(0)));
        behind.catch_up(ahead.tick(at(10, wall(10))), at(10, wall(10)));
        behind.tick(at(11, wall(11)));
        for ms in [500, 5_000, 50_000] {
            let apart = ahead.tick(at(ms, wall(ms))).abs_diff(behind.tick(at(ms, wall(ms))));
            assert!(apart <= 11, "{apart} ms after {ms}");
        }
        let now_ms = behind.now_ms();
        behind.catch_up(now_ms - 1, at(50_000, wall(50_000)));
        assert_eq!(behind.now_ms(), now_ms);
    }

    #[test]
    fn catching_up_counts_no_time_twice() {
        let clocks = |us: u64| Clocks { monotonic_ns: us * 1_000, wall_ms: 1_000 + us / 1_000 };
        let mut behind = Clock::start(None, clocks(900));
        // The other one has followed the wall to its next millisecond meanwhile.
        behind.catch_up(1_001, clocks(1_000));
        assert_eq!(behind.tick(clocks(1_950)), 1_001, "the wall is there, too");
    }

    #[test]
    fn starts_at_the_last_journaled_time_when_the_wall_is_behind() {
        let clock = Clock::start(Some(5_000_000), at(0, 4_000_000));
        assert_eq!(clock.now_ms(), 5_000_000);
    }

    #[test]
    fn a_far_jump_holds_retention_back_until_the_grace_ends() {
        let mut clock = Clock::start(Some(DAY_MS), at(0, 6 * DAY_MS));
        assert_eq!(clock.now_ms(), 6 * DAY_MS);
        assert_eq!(clock.retention_lag_ms(), 5 * DAY_MS);
        clock.tick(at(RETENTION_GRACE_MS - 1, 6 * DAY_MS + RETENTION_GRACE_MS - 1));
        assert_eq!(clock.retention_lag_ms(), 5 * DAY_MS);
        clock.tick(at(RETENTION_GRACE_MS, 6 * DAY_MS + RETENTION_GRACE_MS));
        assert_eq!(clock.retention_lag_ms(), 0);
    }

    #[test]
    fn a_wall_that_comes_back_keeps_retention_at_what_is_believed() {
        let mut clock = Clock::start(Some(DAY_MS), at(0, DAY_MS));
        clock.tick(at(1, 6 * DAY_MS));
        assert_eq!(clock.retention_lag_ms(), 5 * DAY_MS - 1);
        clock.tick(at(2, DAY_MS + 2));
        assert!(clock.now_ms() >= 6 * DAY_MS);
        assert!(clock.now_ms() - clock.retention_lag_ms() <= DAY_MS + 2);
        clock.tick(at(RETENTION_GRACE_MS * 2, DAY_MS + RETENTION_GRACE_MS * 2));
        assert!(clock.retention_lag_ms() > 0, "no grace ends while engine time is ahead of the wall");
    }

    #[test]
    fn a_jump_within_the_bound_is_believed() {
        let mut clock = Clock::start(Some(DAY_MS), at(0, DAY_MS + DAY_MS / 2));
        assert_eq!(clock.retention_lag_ms(), 0);
        assert_eq!(clock.tick(at(5, DAY_MS + DAY_MS / 2 + 5)), DAY_MS + DAY_MS / 2 + 5);
    }
}
