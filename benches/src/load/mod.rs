//! Messages sent, received and deleted over and over, what each costs the broker, and how long each takes.
//!
//! In a closed loop every connection has a number of slots, each with a batch under way: sent, received,
//! deleted, and again, as rounds or as single steps (see [`Shape`]). With a rate the loop is open: one half
//! of the connections sends by a timetable whatever the broker does, the other half waits in receives, and a
//! message's time counts from when it was to be sent, so that a stall costs every message that it made late
//! (coordinated omission). One thread serves all connections. What is compared is interleaved: all variants
//! once, then all again, as many times as there are runs.

pub mod books;
mod connection;
mod epoll;
mod generator;
mod measured;
mod open;
mod options;
mod remains;
mod replies;
mod requests;
mod state;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tenpin_protocol::NO_QUEUE;

pub use self::books::{Account, Books, Fates};
pub(crate) use self::epoll::Epoll;
use self::generator::Generator;
use self::measured::Measured;
pub(crate) use self::open::{Open, Timetable};
pub use self::options::{LoadOptions, Shape};
use crate::client::Client;
use crate::measure;
use crate::process::BrokerCommand;
use crate::progress::Progress;
use crate::report::{Percentiles, Record, Report, RequestTimes};

/// How long a probe looks for gaps on each core before a run.
const PROBE: Duration = Duration::from_millis(250);

/// How long a broker may take to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How often a run is looked at from beside.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// A client that idles less than this share of its time is the limit.
pub(crate) const IDLE_MIN: f64 = 0.03;

/// A broker to measure.
#[derive(Debug, Clone)]
pub enum Target {
    /// One that runs; its processor time is measured if its process is known.
    Running {
        /// Where it listens.
        address: SocketAddr,
        /// Its process.
        pid: Option<u32>,
    },
    /// One that is started for each run, on a folder of its own.
    Started {
        /// How; the folder is replaced by a new one.
        command: BrokerCommand,
        /// Where the folder is made.
        parent: PathBuf,
    },
}

/// A target with its name in the report.
#[derive(Debug, Clone)]
pub struct Variant {
    /// For people.
    pub name: String,
    /// What.
    pub target: Target,
}

impl Variant {
    fn settings(&self) -> Value {
        match &self.target {
            Target::Running { address, .. } => json!({ "address": address.to_string() }),
            Target::Started { command, .. } => json!({
                "shards": command.shards,
                "driver": command.io,
                "durability": command.durability,
                "broker_arguments": command.arguments,
                "broker_core": command.core,
            }),
        }
    }
}

/// Settings of the target and of the load as one.
pub fn settings(variant: &Variant, options: &LoadOptions) -> Value {
    let mut all = variant.settings();
    if let (Value::Object(all), Value::Object(own)) = (&mut all, options.settings()) {
        all.extend(own);
    }
    all
}

/// What is seen from beside while a run is on.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Since the run's start.
    pub since: Duration,
    /// The broker's process.
    pub pid: Option<u32>,
    /// Its data folder, where it is known.
    pub folder: Option<&'a Path>,
    /// Messages sent, received and deleted so far.
    pub deleted: u64,
}

/// Who looks, ten times a second.
pub type Look<'a> = dyn FnMut(&Moment<'_>) + 'a;

/// Who does not look.
pub fn blind(_: &Moment<'_>) {}

/// Runs all variants in turn, `runs` times, and tells each run's figures to `each` as it ends.
pub fn run(
    command: &str,
    options: &LoadOptions,
    variants: &[Variant],
    runs: u32,
    each: &mut dyn FnMut(&Record),
) -> io::Result<Report> {
    let mut report = Report::default();
    for run in 1..=runs {
        for variant in variants {
            let record = run_once(command, options, variant, run, &mut blind)?;
            each(&record);
            report.records.push(record);
        }
    }
    Ok(report)
}

/// Runs a variant once.
pub fn run_once(
    command: &str,
    options: &LoadOptions,
    variant: &Variant,
    run: u32,
    look: &mut Look<'_>,
) -> io::Result<Record> {
    let probed = probe();
    let load_average = measure::load_average();
    let name = &variant.name;
    let (measured, memory, (log_bytes, log_copied_bytes)) = match &variant.target {
        Target::Running { address, pid } => {
            let measured = load(options, name, *address, *pid, None, look)?;
            (measured, pid.and_then(|pid| measure::process_memory(pid).ok()), log_of(*address)?)
        }
        Target::Started { command, parent } => {
            let folder = tempfile::Builder::new().prefix("tenpin-bench-").tempdir_in(parent)?;
            let mut command = command.clone();
            command.folder = folder.path().join("data");
            let broker = command.start()?;
            let (address, pid) = (broker.address(), Some(broker.pid()));
            let measured = load(options, name, address, pid, Some(&command.folder), look)?;
            let memory = broker.memory().ok();
            let log = log_of(address)?;
            let (status, printed) = broker.stop(STOP_MAX)?;
            if !status.success() {
                return Err(io::Error::other(format!(
                    "the broker stopped with {status}; it printed:\n{printed}"
                )));
            }
            (measured, memory, log)
        }
    };
    let mut record = record(command, options, variant, run, &measured);
    if options.syscalls && record.syscalls_per_message.is_none() {
        eprintln!("system calls are missing: perf is not installed, or may not count them here");
    }
    record.load_average = load_average;
    record.broker_resident_bytes_max = memory.map(|memory| memory.resident_bytes_max);
    record.more = probed;
    record.more["log"] = json!({ "bytes": log_bytes, "copied_bytes": log_copied_bytes });
    if options.is_overload {
        let seconds = measured.length.as_secs_f64().max(f64::MIN_POSITIVE);
        record.more["timetable"] = json!({
            "handed_over_per_second": measured.handed_over as f64 / seconds,
            "due_but_unsent": measured.behind.messages,
            "behind_ms": measured.behind.by.as_secs_f64() * 1e3,
        });
    }
    Ok(record)
}

/// Bytes appended to a broker's logs since its start, and those of them that cleaning has copied.
fn log_of(address: SocketAddr) -> io::Result<(u64, u64)> {
    let counts = Client::connect(address)?.counts(NO_QUEUE)?;
    Ok((counts.log_bytes, counts.log_copied_bytes))
}

/// Looks for gaps on each core, before a run.
pub(crate) fn probe() -> Value {
    let probes: Vec<measure::Gaps> =
        (0..measure::cores()).map(|core| measure::spin_probe(core, PROBE)).collect();
    let longest = probes.iter().map(|gaps| gaps.longest).max().unwrap_or_default();
    let total: Duration = probes.iter().map(|gaps| gaps.total).sum();
    json!({
        "spin_probe_before": {
            "watched_ms": PROBE.as_millis() as u64 * probes.len() as u64,
            "gap_ms": total.as_secs_f64() * 1e3,
            "longest_ms": longest.as_secs_f64() * 1e3,
        }
    })
}

fn record(command: &str, options: &LoadOptions, variant: &Variant, run: u32, measured: &Measured) -> Record {
    let messages = measured.lifecycles.max(1) as f64;
    let seconds = measured.length.as_secs_f64().max(f64::MIN_POSITIVE);
    let has_some = measured.lifecycles > 0;
    let cpu = measured.broker_cpu.filter(|_| has_some);
    let broker_us = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages);
    let times = &measured.times;
    let (latency, in_gaps, late) = match &measured.timed {
        // What waits for a broker that has too much to do overlaps a gap sooner or later.
        Some((end_to_end, in_gaps, late)) if options.is_overload => {
            let mut all = end_to_end.clone();
            all.add(in_gaps).expect("histograms that grow take anything");
            (all, in_gaps, Some(Percentiles::of(late)))
        }
        Some((end_to_end, in_gaps, late)) => (end_to_end.clone(), in_gaps, Some(Percentiles::of(late))),
        None => (times.all(), &times.in_gaps, None),
    };
    Record {
        command: command.to_owned(),
        variant: variant.name.clone(),
        run,
        settings: settings(variant, options),
        lifecycles_per_second: measured.lifecycles as f64 / seconds,
        broker_cpu_us_per_message: broker_us,
        client_cpu_us_per_message: measured.client_cpu.as_secs_f64() * 1e6 / messages,
        broker_cores_used: measured.broker_cpu.map(|cpu| cpu.as_secs_f64() / seconds),
        client_cores_used: measured.client_cpu.as_secs_f64() / seconds,
        limited_by_client: measured.idle.as_secs_f64() / seconds < IDLE_MIN,
        account: measured.account,
        latency_us: Percentiles::of(&latency),
        latency_in_gaps_us: Percentiles::of(in_gaps),
        requests_us: RequestTimes {
            send: Percentiles::of(&times.send),
            receive: Percentiles::of(&times.receive),
            delete: Percentiles::of(&times.delete),
        },
        client_late_us: late,
        broker_resident_bytes_max: None,
        wire_bytes_per_message: measured.wire_bytes as f64 / messages,
        disk_bytes_per_message: measured.disk_bytes.map(|bytes| bytes as f64 / messages),
        // Calls for each second of the broker's processor time, and that time for each message.
        syscalls_per_message: measured
            .syscalls_per_cpu_second
            .zip(broker_us)
            .map(|(calls, us)| calls * us / 1e6),
        load_average: f64::NAN,
        host_gaps: Some(measured.gaps),
        more: Value::Null,
    }
}

/// Loads from a thread of its own, which may be pinned without the caller being so afterwards.
fn load(
    options: &LoadOptions,
    name: &str,
    address: SocketAddr,
    pid: Option<u32>,
    folder: Option<&Path>,
    look: &mut Look<'_>,
) -> io::Result<Measured> {
    let progress = Progress::of_time(name, options.warm_up + options.length);
    let begun = Instant::now();
    let deleted = AtomicU64::new(0);
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(core) = options.client_core {
                measure::pin_to_core(core)?;
            }
            crate::gaps::keep_time_exactly();
            Generator::connect(options, address, &deleted)?.run(pid)
        });
        while !thread.is_finished() {
            std::thread::park_timeout(LOOK);
            progress.set(begun.elapsed().as_millis() as u64);
            look(&Moment { since: begun.elapsed(), pid, folder, deleted: deleted.load(Ordering::Relaxed) });
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the load's thread panicked")))
    });
    progress.finish();
    measured
}

/// A histogram of nanoseconds with three significant digits, which grows.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(100, 100_000_000_000, 3).expect("the bounds are in order");
    histogram.auto(true);
    histogram
}
