//! The command `compare`: Tenpin and its peers in turn.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::peers::{PEERS, Peer};
use super::rounds::{self, Outcome, Work};
use crate::arguments::{self, ChartArguments, ReportArguments};
use crate::bodies::BodySizes;
use crate::chart::{self, Bar};
use crate::commands::{Verdict, finish};
use crate::load::{self, LoadOptions, Target, Variant};
use crate::measure;
use crate::process::BrokerCommand;
use crate::report::{HostGaps, Percentiles, Record, Report, RequestTimes};

/// Of `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// The `tenpin` to start; the one that lies beside this program if not given.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    pub spawn: Option<PathBuf>,
    /// Peers by name, as --list prints them; all that are installed if not given.
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Only say which peers there are, and what installs those that are missing.
    #[arg(long)]
    pub list: bool,
    /// Tenpin's shards.
    #[arg(long, default_value_t = 1)]
    pub shards: u16,
    /// Tenpin's driver.
    #[arg(long, alias = "io", default_value = "auto")]
    pub driver: String,
    /// Which durabilities: memory, async (synced now and then), fsync (synced before each answer).
    #[arg(long, value_delimiter = ',', default_value = "memory,async,fsync")]
    pub durability: Vec<String>,
    /// Where data folders are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// Connections that send, and as many that receive.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Batches under way on each.
    #[arg(long, default_value_t = 8)]
    pub depth: usize,
    /// Messages a batch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub batch: u8,
    /// Bytes of each body.
    #[arg(long, alias = "body-bytes", default_value = "64")]
    pub body: BodySizes,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up_seconds: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: ChartArguments,
}

/// What runs in turn.
enum Side {
    Tenpin(Variant),
    Peer(Peer),
}

/// Compares.
pub fn run(arguments: &CompareArguments) -> Verdict {
    let mut report = Report::default();
    let peers = peers(arguments, &mut report.notes)?;
    if arguments.list {
        report.notes.iter().for_each(|note| println!("{note}"));
        return Ok(true);
    }
    let (broker_core, client_core) = if measure::cores() >= 2 { (Some(0), Some(1)) } else { (None, None) };
    let sides = sides(arguments, &peers, broker_core)?;
    let load = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        batch: usize::from(arguments.batch),
        bodies: arguments.body.clone(),
        warm_up: Duration::try_from_secs_f64(arguments.warm_up_seconds)?,
        length: Duration::try_from_secs_f64(arguments.seconds)?,
        client_core,
        ..LoadOptions::default()
    };
    println!("{}\n{}", measure::machine(), load.told());
    report.notes.iter().for_each(|note| println!("{note}"));
    for run in 1..=arguments.report.runs.max(1) {
        for side in &sides {
            let record = match side {
                Side::Tenpin(variant) => load::run_once("compare", &load, variant, run, &mut load::blind)?,
                Side::Peer(peer) => run_peer(peer, &load, arguments, broker_core, run)?,
            };
            println!("{}", record.told());
            report.records.push(record);
        }
    }
    arguments.drawing.draw(|| chart_of(&report))?;
    finish("compare", &report, &arguments.report)
}

/// Those that were asked for and are installed; what is missing is noted.
fn peers(arguments: &CompareArguments, notes: &mut Vec<String>) -> Result<Vec<Peer>, Box<dyn Error>> {
    if let Some(unknown) =
        arguments.peers.iter().find(|name| !PEERS.iter().any(|peer| peer.name == name.as_str()))
    {
        let mut names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        names.dedup();
        return Err(format!("there is no adapter for {unknown}; there are {}", names.join(", ")).into());
    }
    let mut found = Vec::new();
    for peer in PEERS {
        let is_named = arguments.peers.is_empty() || arguments.peers.iter().any(|name| name == peer.name);
        if !is_named || !arguments.durability.iter().any(|durability| durability == peer.durability) {
            continue;
        }
        match peer.version() {
            Some(version) => {
                notes.push(format!("{}: {version}: {}", peer.title(), peer.arguments.join(" ")));
                found.push(*peer);
            }
            None => notes.push(format!("{}: MISSING: {}", peer.title(), peer.install)),
        }
    }
    Ok(found)
}

/// Tenpin before the peers of each durability, so that it runs among them.
fn sides(
    arguments: &CompareArguments,
    peers: &[Peer],
    core: Option<usize>,
) -> Result<Vec<Side>, Box<dyn Error>> {
    let program = arguments::program(&arguments.spawn)?;
    let mut sides = Vec::new();
    for durability in &arguments.durability {
        let mut command = BrokerCommand::new(&program, &arguments.folder);
        command.io.clone_from(&arguments.driver);
        command.durability.clone_from(durability);
        command.shards = Some(arguments.shards.max(1));
        command.core = core.filter(|_| arguments.shards <= 1);
        let target = Target::Started { command, parent: arguments.folder.clone() };
        sides.push(Side::Tenpin(Variant { name: format!("tenpin {durability}"), target }));
        sides.extend(peers.iter().filter(|peer| peer.durability == durability).copied().map(Side::Peer));
    }
    Ok(sides)
}

fn run_peer(
    peer: &Peer,
    load: &LoadOptions,
    arguments: &CompareArguments,
    core: Option<usize>,
    run: u32,
) -> io::Result<Record> {
    let load_average = measure::load_average();
    let folder = tempfile::Builder::new().prefix("tenpin-peer-").tempdir_in(&arguments.folder)?;
    let running = peer.start(folder.path(), core)?;
    let work = Work {
        connections: load.connections,
        messages: load.depth * load.batch,
        bodies: load.bodies.clone(),
        warm_up: load.warm_up,
        length: load.length,
        client_core: load.client_core,
    };
    let (address, pid) = (running.address, running.pid());
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| rounds::run(&work, address, pid, &|index| peer.session(index)));
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the load's thread panicked")))
    })
    .map_err(|error| io::Error::other(format!("{}: {error}", peer.title())))?;
    let memory = measure::process_memory(pid).ok();
    let mut record = record(peer, load, run, &outcome);
    record.load_average = load_average;
    record.broker_resident_bytes_max = memory.map(|memory| memory.resident_bytes_max);
    Ok(record)
}

fn record(peer: &Peer, load: &LoadOptions, run: u32, outcome: &Outcome) -> Record {
    let messages = outcome.lifecycles.max(1) as f64;
    let seconds = outcome.length.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut settings = load.settings();
    if let Value::Object(settings) = &mut settings {
        settings.insert("peer".into(), json!(peer.name));
        settings.insert("mode".into(), json!(peer.mode));
        settings.insert("durability".into(), json!(peer.durability));
        settings.insert("arguments".into(), json!(peer.arguments));
    }
    Record {
        command: "compare".into(),
        variant: peer.title(),
        run,
        settings,
        lifecycles_per_second: outcome.lifecycles as f64 / seconds,
        broker_cpu_us_per_message: (outcome.lifecycles > 0)
            .then(|| outcome.broker_cpu.as_secs_f64() * 1e6 / messages),
        client_cpu_us_per_message: outcome.client_cpu.as_secs_f64() * 1e6 / messages,
        broker_cores_used: Some(outcome.broker_cpu.as_secs_f64() / seconds),
        client_cores_used: outcome.client_cpu.as_secs_f64() / seconds,
        limited_by_client: outcome.idle.as_secs_f64() / seconds < load::IDLE_MIN,
        account: outcome.account,
        latency_us: Percentiles::of(&outcome.rounds),
        latency_in_gaps_us: Percentiles::default(),
        requests_us: RequestTimes::default(),
        client_late_us: None,
        broker_resident_bytes_max: None,
        wire_bytes_per_message: f64::NAN,
        disk_bytes_per_message: None,
        syscalls_per_message: None,
        load_average: f64::NAN,
        host_gaps: HostGaps::default(),
        more: Value::Null,
    }
}

fn chart_of(report: &Report) -> String {
    let bars: Vec<Bar> = report
        .variants()
        .into_iter()
        .map(|variant| {
            let cpu = |record: &Record| record.broker_cpu_us_per_message.unwrap_or(f64::NAN);
            let spread = report.spread(variant, cpu);
            let range = (spread.least, spread.most);
            let stands_out = variant.starts_with("tenpin");
            Bar { name: variant.to_owned(), value: spread.median, range, stands_out }
        })
        .collect();
    chart::bars(
        "Server CPU for a message sent, received and deleted (less is better)",
        "µs of processor time of the server's process",
        &bars,
    )
}
