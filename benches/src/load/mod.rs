//! Lifecycles under load: messages sent, received and deleted over and over, what each costs the
//! broker, and how long each request takes.
//!
//! Every connection has a number of slots, each with a batch under way: sent, received, deleted, and
//! again, as rounds or as single steps (see [`Shape`]). One thread serves all connections. What is compared is
//! interleaved: all variants once, then all again, as many times as there are runs.

mod books;
mod connection;
mod epoll;
mod generator;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use self::books::{Account, Books};
use self::generator::{Generator, Measured, Times};
use crate::measure;
use crate::process::BrokerCommand;

/// The queue that is used.
const QUEUE: &str = "bench";
/// The same where it is a FIFO queue.
const FIFO_QUEUE: &str = "bench.fifo";

/// How long a probe looks for gaps on each core before a run.
const PROBE: Duration = Duration::from_millis(250);

/// How long a broker may take to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What a slot asks for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The deletion of the batch received before, a send, and a receive, written together; the next
    /// round when all three are answered. A client that has always more to do works like this.
    Rounds,
    /// One request at a time: a send, then a receive, then the deletion.
    Steps,
}

/// The size and shape of the load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Connections.
    pub connections: usize,
    /// Slots on each: rounds, or single requests, that are under way at once.
    pub in_flight: usize,
    /// What a slot asks for together.
    pub shape: Shape,
    /// Messages a request, 1 to 10.
    pub batch: usize,
    /// Bytes of each body.
    pub body_bytes: usize,
    /// Messages in the queue beside those under way.
    pub depth: u64,
    /// Groups of a FIFO queue, each message with a deduplication id of its own; 0: a standard queue.
    pub fifo_groups: u64,
    /// Before measuring.
    pub warm_up: Duration,
    /// Of the measurement.
    pub length: Duration,
    /// The core of the client, where it shall stay on one.
    pub client_core: Option<usize>,
}

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

/// One run's figures, and the state of the machine around it.
#[derive(Debug, Clone)]
pub struct Run {
    measured: Measured,
    load_average: f64,
    probes: Vec<measure::Gaps>,
}

impl Run {
    /// Lifecycles a second.
    pub fn rate(&self) -> f64 {
        self.measured.lifecycles as f64 / self.measured.length.as_secs_f64()
    }

    /// Processor time of the broker for a lifecycle, in microseconds.
    pub fn broker_us(&self) -> Option<f64> {
        self.measured.broker_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.measured.lifecycles.max(1) as f64)
    }

    /// Processor time of the client for a lifecycle, in microseconds.
    pub fn client_us(&self) -> f64 {
        self.measured.client_cpu.as_secs_f64() * 1e6 / self.measured.lifecycles.max(1) as f64
    }

    /// Whether every message came once and whole.
    pub fn account(&self) -> &Account {
        &self.measured.account
    }

    /// Round trips of all requests outside of gaps, in nanoseconds.
    fn round_trips(&self) -> Histogram<u64> {
        let Times { send, receive, delete, .. } = &self.measured.times;
        let mut all = send.clone();
        for histogram in [receive, delete] {
            all.add(histogram).expect("histograms that grow take anything");
        }
        all
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.broker_us().map_or_else(|| "-".into(), |cpu| format!("{cpu:.3}"));
        let all = self.round_trips();
        let us = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e3;
        write!(
            formatter,
            "{:>10.0}/s  broker {broker} µs  client {:.3} µs  round trip {:.0} / {:.0} / {:.0} µs (p50/p99/p99.9)  load {:.2}",
            self.rate(),
            self.client_us(),
            us(0.5),
            us(0.99),
            us(0.999),
            self.load_average,
        )?;
        let Times { in_gaps, .. } = &self.measured.times;
        write!(
            formatter,
            "\n{:>12}client core: {}; {} requests apart",
            "",
            self.measured.gaps,
            in_gaps.len()
        )?;
        for (core, gaps) in self.probes.iter().enumerate() {
            write!(formatter, "; core {core} before: {gaps}")?;
        }
        Ok(())
    }
}

/// The round trips of one kind of request.
type StepTimes = fn(&Times) -> &Histogram<u64>;

/// All runs of a variant.
#[derive(Debug, Clone)]
pub struct VariantRuns {
    /// Its name.
    pub name: String,
    /// In the order in which they ran.
    pub runs: Vec<Run>,
}

impl VariantRuns {
    /// Whether every message of every run came once and whole.
    pub fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.account().is_clean())
    }
}

impl fmt::Display for VariantRuns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = |figure: &dyn Fn(&Run) -> f64| Spread::of(self.runs.iter().map(figure));
        writeln!(formatter, "{}, {} runs: median (least to most)", self.name, self.runs.len())?;
        writeln!(formatter, "  lifecycles/s           {:.0}", spread(&Run::rate))?;
        if self.runs.iter().all(|run| run.broker_us().is_some()) {
            let broker = spread(&|run| run.broker_us().unwrap_or(f64::NAN));
            writeln!(formatter, "  broker µs a lifecycle  {broker:.3}")?;
        }
        writeln!(formatter, "  client µs a lifecycle  {:.3}", spread(&Run::client_us))?;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let times = spread(&|run| run.round_trips().value_at_quantile(quantile) as f64 / 1e3);
            writeln!(formatter, "  round trip {name:<5} µs    {times:.0}")?;
        }
        let steps: [(&str, StepTimes); 3] = [
            ("send", |times| &times.send),
            ("receive", |times| &times.receive),
            ("delete", |times| &times.delete),
        ];
        for (name, histogram) in steps {
            let times = spread(&|run| histogram(&run.measured.times).value_at_quantile(0.5) as f64 / 1e3);
            writeln!(formatter, "  {name:<7} p50 µs         {times:.0}")?;
        }
        let faults = self.runs.iter().filter(|run| !run.account().is_clean()).count();
        let sent: u64 = self.runs.iter().map(|run| run.account().sent).sum();
        write!(formatter, "  {sent} messages accounted for, {faults} runs with faults")?;
        for run in self.runs.iter().filter(|run| !run.account().is_clean()) {
            write!(formatter, "\n  FAULT: {}", run.account())?;
        }
        Ok(())
    }
}

/// Median, least and most.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let Some((&least, &most)) = sorted.first().zip(sorted.last()) else {
            return Spread { median: f64::NAN, least: f64::NAN, most: f64::NAN };
        };
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Spread { median, least, most }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = formatter.precision().unwrap_or(3);
        let Spread { median, least, most } = self;
        write!(formatter, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// Runs all variants in turn, `runs` times, and tells each run's figures to `each` as it ends.
pub fn run(
    options: &LoadOptions,
    variants: &[Variant],
    runs: u32,
    each: &mut dyn FnMut(&Variant, &Run),
) -> io::Result<Vec<VariantRuns>> {
    let mut all: Vec<VariantRuns> =
        variants.iter().map(|variant| VariantRuns { name: variant.name.clone(), runs: Vec::new() }).collect();
    for _ in 0..runs {
        for (variant, collected) in variants.iter().zip(&mut all) {
            let run = run_once(options, &variant.target)?;
            each(variant, &run);
            collected.runs.push(run);
        }
    }
    Ok(all)
}

fn run_once(options: &LoadOptions, target: &Target) -> io::Result<Run> {
    let probes = (0..measure::cores()).map(|core| measure::spin_probe(core, PROBE)).collect();
    let load_average = measure::load_average();
    let measured = match target {
        Target::Running { address, pid } => load(options, *address, *pid)?,
        Target::Started { command, parent } => {
            let folder = tempfile::Builder::new().prefix("tenpin-bench-").tempdir_in(parent)?;
            let mut command = command.clone();
            command.folder = folder.path().join("data");
            let broker = command.start()?;
            let measured = load(options, broker.address(), Some(broker.pid()))?;
            let (status, printed) = broker.stop(STOP_MAX)?;
            if !status.success() {
                return Err(io::Error::other(format!(
                    "the broker stopped with {status}; it printed:\n{printed}"
                )));
            }
            measured
        }
    };
    Ok(Run { measured, load_average, probes })
}

/// Loads from a thread of its own, which may be pinned without the caller being so afterwards.
fn load(options: &LoadOptions, address: SocketAddr, pid: Option<u32>) -> io::Result<Measured> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(core) = options.client_core {
                measure::pin_to_core(core)?;
            }
            Generator::connect(options, address)?.run(pid)
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the load's thread panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).median, 1.5);
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0 to 3.0)");
    }
}
