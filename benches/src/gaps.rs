//! Gaps in which the host gave a core no time, seen by a probe on each core while a run is on.
//!
//! A probe sleeps for short periods and notes when it is woken late. Where the system lets it run before
//! everything else, what makes it late is the host; a sample that overlaps such a gap is counted apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::measure::{self, Gaps};
use crate::report::HostGaps;

/// How long a probe sleeps. Shorter gaps than this can fall between two looks.
const PROBE_PERIOD: Duration = Duration::from_micros(250);

/// Probes on all cores, which look until they are dropped.
#[derive(Debug)]
pub struct Probes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Probed>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    done: AtomicBool,
    /// From when to when each gap was, at most, in nanoseconds since `start`.
    stretches: Mutex<Vec<(u64, u64)>>,
}

#[derive(Debug, Default)]
struct Probed {
    gaps: Gaps,
    real_time: bool,
}

impl Probes {
    /// Starts one on each core; stretches are told in nanoseconds since `start`.
    pub fn start(start: Instant) -> Self {
        let shared =
            Arc::new(Shared { start, done: AtomicBool::new(false), stretches: Mutex::new(Vec::new()) });
        let threads = (0..measure::cores())
            .map(|core| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || probe(core, &shared))
            })
            .collect();
        Probes { shared, threads }
    }

    /// The gaps that were found since the last call, in any order.
    pub fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.shared.stretches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends them, and says what they saw.
    pub fn stop(mut self) -> HostGaps {
        self.shared.done.store(true, Ordering::Release);
        let mut all = HostGaps { real_time: true, ..HostGaps::default() };
        for thread in self.threads.drain(..) {
            let Probed { gaps, real_time } = thread.join().unwrap_or_default();
            all.count += gaps.count;
            all.total_ms += gaps.total.as_secs_f64() * 1e3;
            all.longest_ms = all.longest_ms.max(gaps.longest.as_secs_f64() * 1e3);
            all.real_time &= real_time;
        }
        all
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Release);
    }
}

fn probe(core: usize, shared: &Shared) -> Probed {
    // One that cannot be pinned still measures the machine, only not that core.
    let _ = measure::pin_to_core(core);
    keep_time_exactly();
    let mut probed = Probed { real_time: run_first(), ..Probed::default() };
    let since_start = |at: Instant| at.saturating_duration_since(shared.start).as_nanos() as u64;
    while !shared.done.load(Ordering::Acquire) {
        let before = Instant::now();
        std::thread::sleep(PROBE_PERIOD);
        let after = Instant::now();
        if probed.gaps.note((after - before).saturating_sub(PROBE_PERIOD)) {
            let mut stretches = shared.stretches.lock().unwrap_or_else(PoisonError::into_inner);
            stretches.push((since_start(before), since_start(after)));
        }
    }
    probed
}

/// Has the kernel wake this thread when it asked for it, not up to 50 µs later to save power.
pub fn keep_time_exactly() {
    // SAFETY: this sets a number of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

/// Lets the calling thread run before all that are not of this kind; says whether it may.
fn run_first() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameters` is valid for the call, which changes the calling thread only.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
}

/// Stretches in order, those that overlap as one.
pub fn merged(mut stretches: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    stretches.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from_ns, to_ns) in stretches {
        match merged.last_mut() {
            Some(last) if from_ns <= last.1 => last.1 = last.1.max(to_ns),
            _ => merged.push((from_ns, to_ns)),
        }
    }
    merged
}

/// Whether a sample overlaps any of merged stretches.
pub fn overlaps(merged: &[(u64, u64)], from_ns: u64, to_ns: u64) -> bool {
    let next = merged.partition_point(|(_, end_ns)| *end_ns < from_ns);
    merged.get(next).is_some_and(|(start_ns, _)| *start_ns <= to_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_overlap_are_one() {
        assert_eq!(merged(vec![(5, 6), (1, 3), (2, 4)]), [(1, 4), (5, 6)]);
    }

    #[test]
    fn a_sample_overlaps_what_it_shares_time_with() {
        let stretches = [(10, 20), (30, 40)];
        for (from, to, expected) in [(0, 9, false), (0, 10, true), (15, 16, true), (21, 29, false)] {
            assert_eq!(overlaps(&stretches, from, to), expected, "{from} to {to}");
        }
        assert!(overlaps(&stretches, 20, 50) && !overlaps(&stretches, 41, 50));
    }
}
