//! The clocks of a real machine.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::driver::Clocks;

/// Where monotonic time counts from: for all shards from the same, as they tell each other when something was said
/// (rule 2), and one's driver may be made long after another's, whose log was shorter.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads the machine's clocks.
#[derive(Debug)]
pub(crate) struct RealClock {
    started: Instant,
}

impl RealClock {
    pub(crate) fn new() -> Self {
        Self { started: *STARTED }
    }

    pub(crate) fn read(&self) -> Clocks {
        // A clock before 1970 reads as 1970: engine time starts no earlier than the journal's last.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clocks {
            monotonic_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The machine's clocks where no driver runs yet.
pub fn real_clocks() -> Clocks {
    RealClock::new().read()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_is_the_same_whenever_a_shard_was_made() {
        const MILLISECOND_NS: u64 = 1_000_000;
        let first = RealClock::new();
        while first.read().monotonic_ns < MILLISECOND_NS {
            std::thread::yield_now();
        }
        let earlier = first.read();
        assert!(RealClock::new().read().monotonic_ns >= earlier.monotonic_ns);
        assert!(real_clocks().monotonic_ns >= earlier.monotonic_ns);
    }
}
