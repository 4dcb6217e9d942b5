//! The clocks of a real machine.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::driver::Clocks;

/// Reads the machine's clocks; monotonic time counts from when this was made.
#[derive(Debug)]
pub(crate) struct RealClock {
    started: Instant,
}

impl RealClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
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

/// The machine's clocks before any driver runs; monotonic time begins with this call.
pub fn real_clocks() -> Clocks {
    RealClock::new().read()
}
