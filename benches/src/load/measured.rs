//! What one run of the load measured, and the readings that it is the difference of.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::books::Account;
use super::histogram;
use super::open::Behind;
use crate::report::HostGaps;

/// Round trips by request, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) send: Histogram<u64>,
    pub(super) receive: Histogram<u64>,
    pub(super) delete: Histogram<u64>,
    /// Those that overlapped a gap, of all three.
    pub(super) in_gaps: Histogram<u64>,
}

impl Times {
    pub(super) fn new() -> Self {
        Times { send: histogram(), receive: histogram(), delete: histogram(), in_gaps: histogram() }
    }

    /// All requests outside of gaps.
    pub(super) fn all(&self) -> Histogram<u64> {
        let mut all = self.send.clone();
        for histogram in [&self.receive, &self.delete] {
            all.add(histogram).expect("histograms that grow take anything");
        }
        all
    }
}

/// What one run measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) lifecycles: u64,
    pub(super) length: Duration,
    pub(super) broker_cpu: Option<Duration>,
    pub(super) client_cpu: Duration,
    /// Time in which the client had nothing to do.
    pub(super) idle: Duration,
    pub(super) wire_bytes: u64,
    pub(super) disk_bytes: Option<u64>,
    pub(super) syscalls_per_cpu_second: Option<f64>,
    pub(super) times: Times,
    /// End to end, those in gaps, and the client's lateness, where there was a timetable.
    pub(super) timed: Option<(Histogram<u64>, Histogram<u64>, Histogram<u64>)>,
    pub(super) gaps: HostGaps,
    /// Messages handed to connections.
    pub(super) handed_over: u64,
    /// How far behind the timetable that was, where it ended with the time.
    pub(super) behind: Behind,
    pub(super) account: Account,
}

/// Readings at one moment.
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) lifecycles: u64,
    pub(super) made: u64,
    pub(super) broker_cpu: Option<Duration>,
    pub(super) client_cpu: Duration,
    pub(super) idle_ns: u64,
    pub(super) wire_bytes: u64,
    pub(super) disk_bytes: Option<u64>,
}
