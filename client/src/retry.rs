//! How long to wait before trying again: longer each time, and never in step with other clients.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// What is longer than this is as good as for ever, and clocks do not go much further.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// When so long a time will have passed, however long a caller wants to wait.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + time.min(FOR_EVER)
}

/// Waits that double from one attempt to the next, each spread over its upper half.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { next: min.max(Duration::from_millis(1)), max }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next.min(self.max);
        self.next = (self.next * 2).min(self.max);
        whole / 2 + whole.mul_f64(random_fraction() / 2.0)
    }
}

/// A number from 0 up to 1. Spreading needs no more than the seeds that maps are given.
fn random_fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_has_an_end_too() {
        assert!(after(Duration::MAX) > after(Duration::from_secs(86_400)));
    }

    #[test]
    fn waits_double_up_to_the_bound_and_never_leave_their_upper_half() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        for whole in [10, 20, 40, 80, 100, 100] {
            let whole = Duration::from_millis(whole);
            let wait = backoff.wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
