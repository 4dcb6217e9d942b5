//! Sending by a timetable that does not wait for the broker, and judging times by it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::histogram;
use crate::gaps::{self, Probes};
use crate::report::HostGaps;

/// Samples are judged when they are so old that every gap which they overlap is known.
const JUDGED_AFTER_NS: u64 = 1_000_000_000;

/// When each message is due. All of a batch are due together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    pub(crate) start_ns: u64,
    pub(crate) rate: u64,
    pub(crate) batch: u64,
    /// The number of the first message; those before it had no time.
    pub(crate) first: u64,
    /// Messages in all, and how many of them come before measuring.
    pub(crate) total: u64,
    pub(crate) warm_up: u64,
    /// What falls into a stretch of this length is due together, at its end; 0: each batch by itself.
    pub(crate) burst_ns: u64,
}

impl Timetable {
    /// When a batch is due, counted from 0.
    pub(crate) fn batch_due_ns(&self, batch: u64) -> u64 {
        let after_ns = u128::from(batch) * u128::from(self.batch) * 1_000_000_000 / u128::from(self.rate);
        let after_ns = after_ns as u64;
        self.start_ns + if self.burst_ns == 0 { after_ns } else { after_ns.next_multiple_of(self.burst_ns) }
    }

    /// When a message is due, if it is one that counts.
    pub(crate) fn due_ns(&self, number: u64) -> Option<u64> {
        let place = number.checked_sub(self.first)?;
        (place >= self.warm_up).then(|| self.batch_due_ns(place / self.batch))
    }

    pub(crate) fn batches(&self) -> u64 {
        self.total.div_ceil(self.batch)
    }

    /// Batches that are due by now, in all.
    fn batches_due(&self, now_ns: u64) -> u64 {
        let Some(passed_ns) = now_ns.checked_sub(self.start_ns) else { return 0 };
        let passed_ns = passed_ns - passed_ns % self.burst_ns.max(1);
        let batches = u128::from(passed_ns) * u128::from(self.rate) / u128::from(self.batch) / 1_000_000_000;
        (batches as u64 + 1).min(self.batches())
    }
}

/// How far sending was behind the timetable when it ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behind {
    pub(crate) messages: u64,
    pub(crate) by: Duration,
}

/// The timetable at work, and what was measured by it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) table: Timetable,
    pub(crate) next_batch: u64,
    /// Requests that are not answered yet.
    pub(crate) under_way: u64,
    /// Whether more is due, but no connection takes it now.
    pub(crate) is_held_back: bool,
    probes: Probes,
    stretches: Vec<(u64, u64)>,
    /// From when to when; young ones, and older ones that are judged next.
    young: Vec<(u64, u64)>,
    older: Vec<(u64, u64)>,
    turned_ns: u64,
    pub(crate) end_to_end: Histogram<u64>,
    pub(crate) in_gaps: Histogram<u64>,
    /// How late the client was itself.
    pub(crate) lateness: Histogram<u64>,
}

impl Open {
    pub(crate) fn new(table: Timetable, start: Instant) -> Self {
        Open {
            table,
            next_batch: 0,
            under_way: 0,
            is_held_back: false,
            probes: Probes::start(start),
            stretches: Vec::new(),
            young: Vec::new(),
            older: Vec::new(),
            turned_ns: 0,
            end_to_end: histogram(),
            in_gaps: histogram(),
            lateness: histogram(),
        }
    }

    /// When the next batch is due; none when all were sent.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        (self.next_batch < self.table.batches()).then(|| self.table.batch_due_ns(self.next_batch))
    }

    /// Counts only what is sent from now on, however much should have been sent by now.
    pub(crate) fn measure_from_now(&mut self) {
        self.table.warm_up = self.next_batch * self.table.batch;
        self.lateness.reset();
    }

    /// Ends the timetable with what was sent; says how many messages were due and are not sent, and for how long
    /// the first of them has been due.
    pub(crate) fn stop(&mut self, now_ns: u64) -> Behind {
        let due = self.table.batches_due(now_ns).max(self.next_batch);
        let behind = Behind {
            messages: (due - self.next_batch) * self.table.batch,
            by: Duration::from_nanos(now_ns.saturating_sub(self.table.batch_due_ns(self.next_batch))),
        };
        self.table.total = self.table.total.min(self.next_batch * self.table.batch);
        behind
    }

    /// How long to wait for it at most.
    pub(crate) fn wait(&self, now_ns: u64, at_most: Duration) -> Duration {
        if self.is_held_back {
            return at_most;
        }
        self.next_due_ns()
            .map_or(at_most, |due_ns| at_most.min(Duration::from_nanos(due_ns.saturating_sub(now_ns))))
    }

    /// A message came for the first time.
    pub(crate) fn received(&mut self, number: u64, now_ns: u64) {
        let Some(due_ns) = self.table.due_ns(number) else { return };
        self.young.push((due_ns, now_ns));
        if now_ns - self.turned_ns >= JUDGED_AFTER_NS {
            self.turned_ns = now_ns;
            std::mem::swap(&mut self.young, &mut self.older);
            // What is young now was older before.
            let due = std::mem::take(&mut self.young);
            self.judge(&due, now_ns);
            self.young = due;
            self.young.clear();
        }
    }

    fn judge(&mut self, samples: &[(u64, u64)], now_ns: u64) {
        self.stretches.extend(self.probes.take());
        self.stretches = gaps::merged(std::mem::take(&mut self.stretches));
        for (from_ns, to_ns) in samples {
            let is_in_gap = gaps::overlaps(&self.stretches, *from_ns, *to_ns);
            let histogram = if is_in_gap { &mut self.in_gaps } else { &mut self.end_to_end };
            histogram.record(to_ns - from_ns).expect("histograms that grow take anything");
        }
        // Messages may be slow, but a sample that reaches back further than this is a gap of its own.
        let keep_ns = now_ns.saturating_sub(60 * JUDGED_AFTER_NS);
        self.stretches.retain(|(_, to_ns)| *to_ns >= keep_ns);
    }

    /// Judges what is left, and says what the probes saw.
    pub(crate) fn finish(
        mut self,
        now_ns: u64,
    ) -> (Histogram<u64>, Histogram<u64>, Histogram<u64>, HostGaps) {
        let left = [std::mem::take(&mut self.older), std::mem::take(&mut self.young)].concat();
        self.judge(&left, now_ns);
        (self.end_to_end, self.in_gaps, self.lateness, self.probes.stop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Timetable {
        Timetable { start_ns: 500, rate: 1_000, batch: 1, first: 10, total: 5, warm_up: 1, burst_ns: 0 }
    }

    #[test]
    fn times_count_from_when_a_message_was_due() {
        let table = table();
        assert_eq!(table.due_ns(13), Some(3_000_500));
        assert_eq!((table.due_ns(10), table.due_ns(9)), (None, None), "one warms up, one is of the backlog");
        let pairs = Timetable { batch: 2, ..table };
        assert_eq!(pairs.due_ns(13), Some(2_000_500), "a batch is due together");
        assert_eq!((table.batches(), pairs.batches()), (5, 3));
        let bursts = Timetable { burst_ns: 2_500_000, ..table };
        let due = [0, 1, 2, 3].map(|batch| bursts.batch_due_ns(batch));
        assert_eq!(due, [500, 2_500_500, 2_500_500, 5_000_500]);
    }

    #[test]
    fn what_is_due_and_not_sent_is_arithmetic() {
        let endless = Timetable { batch: 2, first: 0, total: u64::MAX, ..table() };
        let mut open = Open::new(endless, Instant::now());
        open.next_batch = 3;
        open.measure_from_now();
        assert_eq!((open.table.due_ns(5), open.table.due_ns(6)), (None, Some(6_000_500)));
        assert_eq!(open.next_due_ns(), Some(6_000_500));
        let behind = open.stop(10_000_500);
        assert_eq!((behind.messages, behind.by), (6, Duration::from_millis(4)), "due at 6, 8 and 10 ms");
        assert_eq!(open.next_due_ns(), None, "nothing is sent afterwards");
        let ahead = open.stop(1_000_500);
        assert_eq!((ahead.messages, ahead.by), (0, Duration::ZERO));
    }

    #[test]
    fn who_is_held_back_waits_for_answers_and_not_for_the_clock() {
        let mut open = Open::new(table(), Instant::now());
        let patience = Duration::from_secs(60);
        assert_eq!(open.wait(10_000_000, patience), Duration::ZERO);
        open.is_held_back = true;
        assert_eq!(open.wait(10_000_000, patience), patience);
    }

    #[test]
    fn samples_in_gaps_are_apart() {
        let mut open = Open::new(table(), Instant::now());
        open.stretches.push((2_700_000, 2_800_000));
        open.received(11, 1_100_500);
        open.received(12, 2_900_500);
        let (times, in_gaps, _, _) = open.finish(2_900_500);
        // A real gap of the host may fall on the samples, too.
        assert!(!in_gaps.is_empty() && times.len() + in_gaps.len() == 2);
        assert!((900_000..901_000).contains(&in_gaps.max()));
    }
}
