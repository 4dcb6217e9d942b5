//! Which messages of a run are not simply received and deleted.

use serde::Serialize;

use crate::random::Random;

/// Shares are counted in parts of this.
pub const WHOLE: u64 = 10_000;

/// Which messages are not simply received and deleted, each in parts of [`WHOLE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Left once, to come back.
    pub left: u64,
    /// Left until they move to the dead-letter queue.
    pub doomed: u64,
    /// Sent with a delay.
    pub delayed: u64,
    /// For how long what is received stays hidden.
    pub visibility_seconds: u32,
    /// How long the delay is.
    pub delay_seconds: u32,
}

impl Fates {
    /// Whether every message is received once and deleted.
    pub fn is_plain(&self) -> bool {
        self.left + self.doomed + self.delayed == 0
    }

    /// Whether a message is sent with a delay.
    pub fn is_delayed(&self, number: u64) -> bool {
        self.delayed > 0 && spread(number, 1) < self.delayed
    }

    pub(super) fn is_doomed(&self, number: u64) -> bool {
        self.doomed > 0 && spread(number, 2) < self.doomed
    }

    pub(super) fn is_left(&self, number: u64) -> bool {
        self.left > 0 && spread(number, 3) < self.left
    }
}

/// The same part of [`WHOLE`] for a number every time, evenly spread.
fn spread(number: u64, salt: u64) -> u64 {
    Random::new(number ^ salt << 56).below(WHOLE)
}
