//! The command `compare`: Tenpin and its peers in turn.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::peers::{PEERS, Peer};
use super::rounds::{self, Outcome, Work};
use super::start::Places;
use super::{Role, latency};
use crate::arguments::{self, ChartArguments, ReportArguments};
use crate::bodies::BodySizes;
use crate::chart::{self, Bar};
use crate::commands::{Verdict, finish};
use crate::load::{self, LoadOptions, Target, Variant};
use crate::measure;
use crate::process::BrokerCommand;
use crate::progress::Progress;
use crate::report::{Percentiles, Record, Report, RequestTimes};

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
    /// Connections; with a rate, so many that send and so many that receive. 8, with a rate 1.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Batches under way on each.
    #[arg(long, default_value_t = 8)]
    pub depth: usize,
    /// Messages a batch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub batch: u8,
    /// Bytes of each body.
    #[arg(long, alias = "body-bytes", default_value = "64")]
    pub body: BodySizes,
    /// Compare latency from send to receive, at so many messages a second by a timetable, one a request.
    #[arg(long)]
    pub rate: Option<u64>,
    /// The server of NATS; the one in the PATH if not given.
    #[arg(long, value_name = "PATH")]
    pub nats: Option<PathBuf>,
    /// The program of fauxqs; the one in the PATH if not given.
    #[arg(long, value_name = "PATH")]
    pub fauxqs: Option<PathBuf>,
    /// The jar of ElasticMQ, which is run where it is given.
    #[arg(long, value_name = "JAR")]
    pub elasticmq: Option<PathBuf>,
    /// The Python that has moto; the one in the PATH if not given.
    #[arg(long, value_name = "PYTHON")]
    pub moto: Option<PathBuf>,
    /// The Python that has LocalStack; the one in the PATH if not given.
    #[arg(long, value_name = "PYTHON")]
    pub localstack: Option<PathBuf>,
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

/// Connections over HTTP that send by a timetable, for one that may have many requests under way.
const CONNECTIONS_BY_RATE: usize = 4;

/// What runs in turn.
enum Side {
    Tenpin(Variant),
    Peer(Peer),
}

/// Compares.
pub fn run(arguments: &CompareArguments) -> Verdict {
    let mut report = Report::default();
    let places = Places {
        tenpin: arguments::program(&arguments.spawn)?,
        nats: arguments.nats.clone(),
        fauxqs: arguments.fauxqs.clone(),
        elasticmq_jar: arguments.elasticmq.clone(),
        moto_python: arguments.moto.clone(),
        localstack_python: arguments.localstack.clone(),
    };
    let peers = peers(arguments, &places, &mut report.notes)?;
    if arguments.list {
        report.notes.iter().for_each(|note| println!("{note}"));
        return Ok(true);
    }
    let (broker_core, client_core) = if measure::cores() >= 2 { (Some(0), Some(1)) } else { (None, None) };
    let sides = sides(arguments, &places, &peers, broker_core);
    let load = LoadOptions {
        connections: arguments.connections.unwrap_or(if arguments.rate.is_some() { 1 } else { 8 }).max(1),
        depth: if arguments.rate.is_some() { 1 } else { arguments.depth.max(1) },
        batch: if arguments.rate.is_some() { 1 } else { usize::from(arguments.batch) },
        rate: arguments.rate.map(|rate| rate.max(1)),
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
                Side::Peer(peer) => run_peer(peer, &places, &load, arguments, broker_core, run)?,
            };
            println!("{}", record.told());
            report.records.push(record);
        }
    }
    arguments
        .drawing
        .draw(|| if load.rate.is_some() { latency_chart(&report) } else { chart_of(&report) })?;
    finish("compare", &report, &arguments.report)
}

/// Those that were asked for and are installed; what is missing is noted.
fn peers(
    arguments: &CompareArguments,
    places: &Places,
    notes: &mut Vec<String>,
) -> Result<Vec<Peer>, Box<dyn Error>> {
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
        match places.find(peer) {
            Some((_, version)) => {
                notes.push(format!("{}: {version}: {}", peer.title(), peer.settings()));
                found.push(*peer);
            }
            None => notes.push(format!("{}: MISSING: {}", peer.title(), peer.install)),
        }
    }
    Ok(found)
}

/// Tenpin before the peers of each durability, so that it runs among them.
fn sides(arguments: &CompareArguments, places: &Places, peers: &[Peer], core: Option<usize>) -> Vec<Side> {
    let mut sides = Vec::new();
    for durability in &arguments.durability {
        let mut command = BrokerCommand::new(&places.tenpin, &arguments.folder);
        command.io.clone_from(&arguments.driver);
        command.durability.clone_from(durability);
        command.shards = Some(arguments.shards.max(1));
        command.core = core.filter(|_| arguments.shards <= 1);
        let target = Target::Started { command, parent: arguments.folder.clone() };
        sides.push(Side::Tenpin(Variant { name: format!("tenpin {durability}"), target }));
        sides.extend(peers.iter().filter(|peer| peer.durability == durability).copied().map(Side::Peer));
    }
    sides
}

fn run_peer(
    peer: &Peer,
    places: &Places,
    load: &LoadOptions,
    arguments: &CompareArguments,
    core: Option<usize>,
    run: u32,
) -> io::Result<Record> {
    let probed = load::probe();
    let load_average = measure::load_average();
    let folder = tempfile::Builder::new().prefix("tenpin-peer-").tempdir_in(&arguments.folder)?;
    let running = places.start(peer, folder.path(), core)?;
    let (connections, messages) = match (load.rate, peer.is_over_http()) {
        // With one request at a time on each, so many send as the rate may need.
        (Some(_), true) => (load.connections * CONNECTIONS_BY_RATE, 1),
        (Some(_), false) => (load.connections, 1),
        (None, true) => (load.connections * load.depth, load.batch),
        (None, false) => (load.connections, load.depth * load.batch),
    };
    let work = Work {
        connections,
        messages,
        bodies: load.bodies.clone(),
        warm_up: load.warm_up,
        length: load.length,
        client_core: load.client_core,
    };
    let (address, pid) = (running.address, running.pid());
    let host = address.to_string();
    let session = |index: usize, role: Role| peer.session(&host, index, role, load.batch);
    let progress = Progress::of_time(&peer.title(), load.warm_up + load.length);
    let begun = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| match load.rate {
            Some(rate) => latency::run(&work, rate, address, pid, &session),
            None => rounds::run(&work, address, pid, &|index| session(index, Role::Rounds { messages })),
        });
        while !thread.is_finished() {
            std::thread::park_timeout(load::LOOK);
            progress.set(begun.elapsed().as_millis() as u64);
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the load's thread panicked")))
    })
    .map_err(|error| io::Error::other(format!("{}: {error}", peer.title())))?;
    progress.finish();
    let memory = measure::process_memory(pid).ok();
    let mut record = record(peer, load, run, &outcome);
    record.load_average = load_average;
    record.more = probed;
    record.broker_resident_bytes_max = memory.map(|memory| memory.resident_bytes_max);
    Ok(record)
}

fn record(peer: &Peer, load: &LoadOptions, run: u32, outcome: &Outcome) -> Record {
    let messages = outcome.lifecycles.max(1) as f64;
    let seconds = outcome.length.as_secs_f64().max(f64::MIN_POSITIVE);
    let timed = outcome.timed.as_ref();
    let mut settings = load.settings();
    if let Value::Object(settings) = &mut settings {
        settings.insert("peer".into(), json!(peer.name));
        settings.insert("mode".into(), json!(peer.mode));
        settings.insert("durability".into(), json!(peer.durability));
        settings.insert("arguments".into(), json!(peer.settings()));
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
        latency_us: Percentiles::of(&outcome.times),
        latency_in_gaps_us: timed.map(|(in_gaps, _, _)| Percentiles::of(in_gaps)).unwrap_or_default(),
        requests_us: RequestTimes::default(),
        client_late_us: timed.map(|(_, lateness, _)| Percentiles::of(lateness)),
        broker_resident_bytes_max: None,
        wire_bytes_per_message: f64::NAN,
        disk_bytes_per_message: None,
        syscalls_per_message: None,
        load_average: f64::NAN,
        host_gaps: timed.map(|(_, _, gaps)| *gaps),
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
        "the line in a bar is the least and the most",
        &bars,
    )
}

/// The run with the shortest tail of each: the others met more of the neighbours.
fn latency_chart(report: &Report) -> String {
    let bars: Vec<Bar> = report
        .variants()
        .into_iter()
        .filter_map(|variant| {
            let Percentiles { p50, p99, .. } = report.best(variant)?.latency_us;
            let stands_out = variant.starts_with("tenpin");
            Some(Bar { name: variant.to_owned(), value: p50, range: (p50, p99), stands_out })
        })
        .collect();
    chart::bars(
        "From a message's intended send time to its receipt (less is better)",
        "µs",
        "bars are the median, the line behind each reaches to the 99th percentile",
        &bars,
    )
}
