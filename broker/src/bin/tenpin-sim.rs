//! `tenpin-sim`: runs whole brokers in simulated worlds, one seed after the other, and says which
//! seed shows something that must not be, with the one command that shows it again.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tenpin_broker::flaws::{Flaw, Sound};
use tenpin_broker::simulator::bugs::Planted;
use tenpin_broker::simulator::trace::TraceMode;
use tenpin_broker::simulator::{RunReport, run};

/// Exit code where a seed shows something that must not be.
const FOUND: u8 = 1;

/// Exit code where the command line makes no sense.
const USAGE: u8 = 2;

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Runs Tenpin's shard in simulated worlds and judges what its clients see. Without --seed and
/// --seeds it goes on until it is stopped or finds something.
#[derive(Debug, Parser)]
#[command(name = "tenpin-sim", version)]
struct Arguments {
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Begin with this seed instead of a random one.
    #[arg(long)]
    first: Option<u64>,
    /// Run a broker that has this planted bug.
    #[arg(long)]
    bug: Option<String>,
    /// Show the names of the planted bugs.
    #[arg(long)]
    list_bugs: bool,
    /// Print everything that happens; with --seed only.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run so many seeds at a time; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_bugs {
        Flaw::ALL.iter().for_each(|flaw| println!("{}", flaw.name()));
        return ExitCode::SUCCESS;
    }
    let flaw = match find_flaw(arguments.bug.as_deref()) {
        Ok(flaw) => flaw,
        Err(unknown) => {
            eprintln!("there is no bug named {unknown}; --list-bugs shows those there are");
            return ExitCode::from(USAGE);
        }
    };
    name_seed_when_it_panics(flaw);
    if let Some(seed) = arguments.seed {
        return run_one(flaw, seed, arguments.trace);
    }
    let first = arguments.first.unwrap_or_else(|| RandomState::new().hash_one("a random start") >> 24);
    let count = arguments.seeds.unwrap_or(u64::MAX - first);
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    search(flaw, first, count, jobs.unwrap_or(1).max(1))
}

fn find_flaw(name: Option<&str>) -> Result<Option<Flaw>, &str> {
    let Some(name) = name else { return Ok(None) };
    Flaw::ALL.iter().copied().find(|flaw| flaw.name() == name).map(Some).ok_or(name)
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A panic of the broker is something found like any other.
fn name_seed_when_it_panics(flaw: Option<Flaw>) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if let Some(seed) = SEED.get() {
            eprintln!("seed {seed}: the broker panicked\nrepeat with: {}", command(seed, flaw));
            std::process::exit(i32::from(FOUND));
        }
    }));
}

/// What shows a seed's run again.
fn command(seed: u64, flaw: Option<Flaw>) -> String {
    let with_bug = flaw.map_or(String::new(), |flaw| format!(" --bug {}", flaw.name()));
    format!("cargo run --release --bin tenpin-sim -- --seed {seed}{with_bug}")
}

fn run_seed(flaw: Option<Flaw>, seed: u64, mode: TraceMode) -> RunReport {
    SEED.set(Some(seed));
    match flaw {
        None => run::<Sound>(seed, mode),
        Some(flaw) => Planted::with(flaw, || run::<Planted>(seed, mode)),
    }
}

fn run_one(flaw: Option<Flaw>, seed: u64, trace: bool) -> ExitCode {
    let report = run_seed(flaw, seed, if trace { TraceMode::Print } else { TraceMode::Hash });
    println!(
        "seed {seed}: {} turns, {} starts, {} messages received, {} s simulated, {} events with hash {:016x}",
        report.turns,
        report.starts,
        report.delivered,
        report.simulated_ns / 1_000_000_000,
        report.fingerprint.1,
        report.fingerprint.0,
    );
    verdict(flaw, &report)
}

fn verdict(flaw: Option<Flaw>, report: &RunReport) -> ExitCode {
    match &report.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("seed {}: {failure}\nrepeat with: {}", report.seed, command(report.seed, flaw));
            ExitCode::from(FOUND)
        }
    }
}

/// What all seeds so far came to.
#[derive(Debug, Default)]
struct Totals {
    seeds: AtomicU64,
    turns: AtomicU64,
    starts: AtomicU64,
    delivered: AtomicU64,
    simulated_s: AtomicU64,
}

impl Totals {
    fn add(&self, report: &RunReport) {
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.turns.fetch_add(report.turns, Ordering::Relaxed);
        self.starts.fetch_add(report.starts, Ordering::Relaxed);
        self.delivered.fetch_add(report.delivered, Ordering::Relaxed);
        self.simulated_s.fetch_add(report.simulated_ns / 1_000_000_000, Ordering::Relaxed);
    }

    fn show(&self) {
        println!(
            "{} seeds, {} turns, {} starts, {} messages received, {} s simulated",
            self.seeds.load(Ordering::Relaxed),
            self.turns.load(Ordering::Relaxed),
            self.starts.load(Ordering::Relaxed),
            self.delivered.load(Ordering::Relaxed),
            self.simulated_s.load(Ordering::Relaxed),
        );
    }
}

/// Runs seed after seed, `jobs` at a time, until one fails or all have run.
fn search(flaw: Option<Flaw>, first: u64, count: u64, jobs: usize) -> ExitCode {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let totals = Totals::default();
    let failed: Mutex<Option<RunReport>> = Mutex::new(None);
    let shown = Mutex::new(Instant::now());
    println!("seeds from {first} on");
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let report = run_seed(flaw, first + index, TraceMode::Hash);
            totals.add(&report);
            if report.failure.is_some() {
                stop.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().expect("no holder of it panics");
                failed.get_or_insert(report);
            }
            let mut shown = shown.lock().expect("no holder of it panics");
            if shown.elapsed() >= PROGRESS_EVERY {
                *shown = Instant::now();
                totals.show();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    totals.show();
    let failed = failed.into_inner().expect("no holder of it panics");
    failed.map_or(ExitCode::SUCCESS, |report| verdict(flaw, &report))
}
