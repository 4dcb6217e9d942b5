//! How long a message takes from its sender to a consumer that waits for it, at a rate that does not
//! wait for the broker.
//!
//! One producer sends by a timetable. Each message's time counts from the moment at which it was to be
//! sent, not from that at which it was: a broker that stalls does not keep the samples away that its
//! stall has cost (coordinated omission). One consumer waits in a long poll, and asks again at once.
//!
//! A probe on each core sleeps for short periods and notes when it is woken late. Where the system
//! lets it run before everything else, what makes it late is the host; a sample that overlaps such a gap
//! is counted apart.

use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Answer, Client, ClientError, Message, Receive};
use crate::load::Target;
use crate::measure::{self, Gaps};
use crate::payload::{self, Payload};
use crate::wire::BATCH_MAX;

/// The queue that is used.
const QUEUE: &str = "latency";

/// From the start of the threads until the first message is due.
const HEAD_START: Duration = Duration::from_millis(100);

/// How long a probe sleeps. Shorter gaps than this can fall between two looks.
const PROBE_PERIOD: Duration = Duration::from_micros(250);

/// How long the consumer waits for a message; once all are sent, an empty answer means that one is lost.
const WAIT_MS: u32 = 2_000;

/// How long a broker may take to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone)]
pub struct LatencyOptions {
    /// Messages a second.
    pub rate: u64,
    /// Messages a request, 1 to 10; all of them are due together.
    pub batch: usize,
    /// Bytes of each body.
    pub body_bytes: usize,
    /// Before measuring.
    pub warm_up: Duration,
    /// Of the measurement.
    pub length: Duration,
    /// The core of producer and consumer, where they shall stay on one.
    pub client_core: Option<usize>,
}

/// What came out of one run.
#[derive(Debug, Clone)]
pub struct LatencyRun {
    /// From the time at which a message was to be sent until it was received, in nanoseconds.
    pub times: Histogram<u64>,
    /// Those that overlapped a gap.
    pub in_gaps: Histogram<u64>,
    /// How late the producer itself was.
    pub lateness: Histogram<u64>,
    /// What the probe on each core saw.
    pub gaps: Vec<Gaps>,
    /// Whether nothing but the host can have made the probes late.
    pub real_time: bool,
    /// Processor time of the broker for each message, in microseconds, where its process is known.
    pub broker_us: Option<f64>,
    /// Messages that did not come, came again, or came changed.
    pub faults: u64,
}

impl LatencyRun {
    /// Whether every message came once and whole.
    pub fn is_clean(&self) -> bool {
        self.faults == 0
    }

    fn us(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Its figures as a JSON object.
    pub fn json(&self) -> String {
        let mut text = String::from("{");
        let Self { times, in_gaps, lateness, gaps, real_time, broker_us, faults } = self;
        for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            let _ = write!(text, "\"{name}\":{:.1},", self.us(quantile));
        }
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let _ = write!(
            text,
            "\"max_us\":{:.1},\"samples\":{},\"samples_in_gaps\":{},\"max_in_gaps_us\":{:.1},\
             \"producer_late_p99_us\":{:.1},\"gaps\":{},\"gap_ms\":{:.3},\"probes_real_time\":{real_time},\
             \"faults\":{faults},\"broker_us\":{}}}",
            us(times.max()),
            times.len(),
            in_gaps.len(),
            us(in_gaps.max()),
            us(lateness.value_at_quantile(0.99)),
            gaps.iter().map(|gaps| gaps.count).sum::<u64>(),
            gaps.iter().map(|gaps| gaps.total.as_secs_f64()).sum::<f64>() * 1e3,
            broker_us.map_or_else(|| "null".to_owned(), |us| format!("{us:.3}")),
        );
        text
    }
}

impl fmt::Display for LatencyRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        write!(
            formatter,
            "send to receive {:.0} / {:.0} / {:.0} / {:.0} µs (p50/p99/p99.9/max) of {}",
            self.us(0.5),
            self.us(0.99),
            self.us(0.999),
            us(self.times.max()),
            self.times.len(),
        )?;
        if let Some(broker_us) = self.broker_us {
            write!(formatter, "  broker {broker_us:.2} µs a message")?;
        }
        write!(
            formatter,
            "\n{:>12}{} overlapped gaps, at most {:.0} µs; producer late by {:.0} µs (p99)",
            "",
            self.in_gaps.len(),
            us(self.in_gaps.max()),
            us(self.lateness.value_at_quantile(0.99)),
        )?;
        let note = if self.real_time { "" } else { " (with what other processes took)" };
        for (core, gaps) in self.gaps.iter().enumerate() {
            write!(formatter, "; core {core}: {gaps}{note}")?;
        }
        if !self.is_clean() {
            write!(formatter, "\n{:>12}FAULT: {} messages lost, repeated or changed", "", self.faults)?;
        }
        Ok(())
    }
}

/// Measures a broker once.
pub fn run(options: &LatencyOptions, target: &Target) -> io::Result<LatencyRun> {
    match target {
        Target::Running { address, pid } => run_against(options, *address, *pid),
        Target::Started { command, parent } => {
            let folder = tempfile::Builder::new().prefix("tenpin-latency-").tempdir_in(parent)?;
            let mut command = command.clone();
            command.folder = folder.path().join("data");
            let broker = command.start()?;
            let run = run_against(options, broker.address(), Some(broker.pid()))?;
            let (status, printed) = broker.stop(STOP_MAX)?;
            if !status.success() {
                return Err(io::Error::other(format!(
                    "the broker stopped with {status}; it printed:\n{printed}"
                )));
            }
            Ok(run)
        }
    }
}

/// When each message is due.
#[derive(Debug, Clone, Copy)]
struct Timetable {
    start: Instant,
    rate: u64,
    batch: u64,
    /// Messages in all, and how many of them come before measuring.
    total: u64,
    warm_up: u64,
    origin: u64,
}

impl Timetable {
    fn due_ns(&self, number: u64) -> u64 {
        let number = number / self.batch * self.batch;
        (u128::from(number) * 1_000_000_000 / u128::from(self.rate)) as u64
    }

    /// Time since the first message was due; 0 before.
    fn now_ns(&self) -> u64 {
        Instant::now().saturating_duration_since(self.start).as_nanos() as u64
    }
}

fn run_against(options: &LatencyOptions, address: SocketAddr, pid: Option<u32>) -> io::Result<LatencyRun> {
    let queue = Client::connect(address)?.create(QUEUE, &[])?;
    let messages = |length: Duration| (length.as_secs_f64() * options.rate as f64) as u64;
    let batch = options.batch.clamp(1, BATCH_MAX) as u64;
    let table = Timetable {
        start: Instant::now() + HEAD_START,
        rate: options.rate.max(1),
        batch,
        total: (messages(options.warm_up) + messages(options.length)).next_multiple_of(batch),
        warm_up: messages(options.warm_up),
        origin: payload::new_origin(),
    };
    let cpu = |pid: Option<u32>| pid.map(measure::process_cpu).transpose();
    let before = cpu(pid)?;
    let done = AtomicBool::new(false);
    let sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let probes: Vec<_> = (0..measure::cores())
            .map(|core| {
                scope.spawn({
                    let done = &done;
                    move || probe(core, &table, done)
                })
            })
            .collect();
        let pinned = |task: &mut dyn FnMut() -> io::Result<()>| {
            options.client_core.map_or(Ok(()), measure::pin_to_core)?;
            keep_time_exactly();
            task()
        };
        let mut lateness = histogram();
        let mut received = Received::new(&table);
        let (consumed, produced) = std::thread::scope(|clients| {
            let consumer =
                clients.spawn(|| pinned(&mut || consume(&table, address, queue, &sent, &mut received)));
            let producer = clients.spawn(|| {
                let result =
                    pinned(&mut || produce(&table, options.body_bytes, address, queue, &mut lateness));
                sent.store(true, Ordering::Release);
                result
            });
            let failed = |_| Err(io::Error::other("a client's thread panicked"));
            (consumer.join().unwrap_or_else(failed), producer.join().unwrap_or_else(failed))
        });
        done.store(true, Ordering::Release);
        let seen: Vec<Probed> = probes.into_iter().map(|probe| probe.join().unwrap_or_default()).collect();
        produced.and(consumed)?;
        let used = before.zip(cpu(pid)?).map(|(before, after)| after.saturating_sub(before));
        let broker_us = used.map(|cpu| cpu.as_secs_f64() * 1e6 / table.total.max(1) as f64);
        Ok(received.judge(&table, lateness, seen, broker_us))
    })
}

/// Sends each message as soon as it is due, whatever became of those before.
fn produce(
    table: &Timetable,
    body_bytes: usize,
    address: SocketAddr,
    queue: u64,
    lateness: &mut Histogram<u64>,
) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    let mut bodies = vec![0; body_bytes * table.batch as usize];
    let (mut number, mut under_way) = (0, 0_u64);
    while number < table.total || under_way > 0 {
        let mut now_ns = table.now_ns();
        while number < table.total && table.start <= Instant::now() && table.due_ns(number) <= now_ns {
            let _ = lateness.record(now_ns - table.due_ns(number));
            for body in bodies.chunks_exact_mut(body_bytes) {
                Payload { origin: table.origin, number }.write(body);
                number += 1;
            }
            client.submit_bodies(queue, bodies.chunks_exact(body_bytes))?;
            under_way += 1;
            now_ns = table.now_ns();
        }
        client.flush()?;
        if number == table.total {
            under_way -= accepted(client.next_answer()?.1)?;
            continue;
        }
        while let Some((_, answer)) = client.try_answer()? {
            under_way -= accepted(answer)?;
        }
        let due = table.start + Duration::from_nanos(table.due_ns(number));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn accepted(answer: Answer) -> io::Result<u64> {
    match answer {
        Answer::Sent(outcomes) => match outcomes.into_iter().find_map(Result::err) {
            None => Ok(1),
            Some(refusal) => Err(ClientError::Refused(refusal).into()),
        },
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: Answer) -> io::Error {
    match answer {
        Answer::Refused(refusal) => ClientError::Refused(refusal).into(),
        other => ClientError::Protocol(format!("an answer of the wrong kind: {other:?}")).into(),
    }
}

/// Receives and deletes until all messages have come.
fn consume(
    table: &Timetable,
    address: SocketAddr,
    queue: u64,
    sent: &AtomicBool,
    received: &mut Received,
) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    let receive = Receive { messages_max: BATCH_MAX as u8, wait_ms: WAIT_MS, visibility_seconds: Some(60) };
    let (mut is_waiting, mut deletes) = (false, 0);
    let mut is_over = false;
    while !is_over || deletes > 0 || is_waiting {
        if !is_waiting && !is_over {
            client.submit_receive(queue, receive)?;
            is_waiting = true;
        }
        // Looked at first: what is sent before the broker finds the queue empty is received.
        let all_sent = sent.load(Ordering::Acquire);
        match client.next_answer()?.1 {
            Answer::Received(messages) => {
                received.note(table, &messages);
                is_waiting = false;
                is_over = received.missing == 0 || (messages.is_empty() && all_sent);
                if !is_over {
                    client.submit_receive(queue, receive)?;
                    is_waiting = true;
                }
                if !messages.is_empty() {
                    let handles: Vec<&[u8]> =
                        messages.iter().map(|message| message.handle.as_slice()).collect();
                    client.submit_delete(queue, &handles)?;
                    deletes += 1;
                }
            }
            Answer::Outcomes(_) => deletes -= 1,
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

/// When each message came.
#[derive(Debug)]
struct Received {
    /// By number; [`u64::MAX`]: it has not.
    at_ns: Vec<u64>,
    missing: u64,
    faults: u64,
}

impl Received {
    fn new(table: &Timetable) -> Self {
        Self { at_ns: vec![u64::MAX; table.total as usize], missing: table.total, faults: 0 }
    }

    fn note(&mut self, table: &Timetable, messages: &[Message]) {
        let now_ns = table.now_ns();
        for message in messages {
            let number = match Payload::read(&message.body) {
                Ok(Payload { origin, number }) if origin == table.origin => number,
                // Left by somebody else, on a broker that runs for longer.
                Ok(_) => continue,
                Err(_) => {
                    self.faults += 1;
                    continue;
                }
            };
            match self.at_ns.get_mut(number as usize) {
                Some(at_ns) if *at_ns == u64::MAX => {
                    *at_ns = now_ns;
                    self.missing -= 1;
                }
                _ => self.faults += 1,
            }
        }
    }

    fn judge(
        self,
        table: &Timetable,
        lateness: Histogram<u64>,
        seen: Vec<Probed>,
        broker_us: Option<f64>,
    ) -> LatencyRun {
        let stretches = merged(seen.iter().flat_map(|probed| probed.stretches.iter().copied()).collect());
        let (mut times, mut in_gaps) = (histogram(), histogram());
        for (number, at_ns) in (0..).zip(&self.at_ns).skip(table.warm_up as usize) {
            if *at_ns == u64::MAX {
                continue;
            }
            let due_ns = table.due_ns(number);
            let next = stretches.partition_point(|(_, to_ns)| *to_ns < due_ns);
            let is_in_gap = stretches.get(next).is_some_and(|(from_ns, _)| from_ns <= at_ns);
            let histogram = if is_in_gap { &mut in_gaps } else { &mut times };
            histogram.record(at_ns - due_ns).expect("histograms that grow take anything");
        }
        LatencyRun {
            times,
            in_gaps,
            lateness,
            real_time: seen.iter().all(|probed| probed.real_time),
            gaps: seen.iter().map(|probed| probed.gaps).collect(),
            broker_us,
            faults: self.faults + self.missing,
        }
    }
}

/// Stretches that overlap become one.
fn merged(mut stretches: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
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

/// What a probe saw.
#[derive(Debug, Default)]
struct Probed {
    gaps: Gaps,
    /// From when to when each of them was, at most.
    stretches: Vec<(u64, u64)>,
    real_time: bool,
}

fn probe(core: usize, table: &Timetable, done: &AtomicBool) -> Probed {
    // One that cannot be pinned still measures the machine, only not that core.
    let _ = measure::pin_to_core(core);
    keep_time_exactly();
    let mut probed = Probed { real_time: run_first(), ..Probed::default() };
    let start = Instant::now();
    while !done.load(Ordering::Acquire) {
        let (from_ns, before) = (table.now_ns(), Instant::now());
        std::thread::sleep(PROBE_PERIOD);
        if probed.gaps.note(before.elapsed().saturating_sub(PROBE_PERIOD)) {
            probed.stretches.push((from_ns, table.now_ns()));
        }
    }
    probed.gaps.watched = start.elapsed();
    probed
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Has the kernel wake this thread when it asked for it, not up to 50 µs later to save power.
fn keep_time_exactly() {
    // SAFETY: this sets a number of the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

/// Lets the calling thread run before all that are not of this kind; says whether it may.
fn run_first() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameters` is valid for the call, which changes the calling thread only.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Timetable {
        let start = Instant::now();
        Timetable { start, rate: 1_000, batch: 1, total: 4, warm_up: 1, origin: 9 }
    }

    #[test]
    fn times_count_from_when_a_message_was_due() {
        let table = table();
        assert_eq!(table.due_ns(3), 3_000_000);
        assert_eq!(Timetable { batch: 2, ..table }.due_ns(3), 2_000_000, "a batch is due together");
        let received = Received { at_ns: vec![9, 1_100_000, 2_900_000, u64::MAX], missing: 1, faults: 0 };
        let probed =
            Probed { stretches: vec![(2_500_000, 2_700_000), (2_600_000, 2_800_000)], ..Probed::default() };
        let run = received.judge(&table, histogram(), vec![probed], None);
        assert_eq!((run.times.len(), run.in_gaps.len(), run.faults), (1, 1, 1));
        assert!(run.times.max() >= 100_000 && run.times.max() < 101_000);
        assert!(run.in_gaps.max() >= 900_000);
        assert!(run.json().contains("\"samples_in_gaps\":1,"), "{}", run.json());
    }

    #[test]
    fn stretches_that_overlap_are_one() {
        assert_eq!(merged(vec![(5, 6), (1, 3), (2, 4)]), [(1, 4), (5, 6)]);
    }
}
