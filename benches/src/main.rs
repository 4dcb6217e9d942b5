//! `tenpin-bench`: measures a broker, shows it to people, and tries to make it lose something.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tenpin_benches::backlog::{self, BacklogOptions};
use tenpin_benches::kill::{self, KillOptions};
use tenpin_benches::latency::{self, LatencyOptions, LatencyRun};
use tenpin_benches::load::{self, LoadOptions, Shape, Target, Variant, VariantRuns};
use tenpin_benches::process::BrokerCommand;
use tenpin_benches::{hello, measure, payload};

/// Measures a Tenpin broker, shows it to people, and tries to make it lose something.
#[derive(Debug, Parser)]
#[command(name = "tenpin-bench", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Sends a message, receives it and deletes it, and says at each step what happens.
    Hello(HelloArguments),
    /// Keeps messages going through send, receive and delete, and reports what each costs.
    Lifecycle(LifecycleArguments),
    /// Sends at a fixed rate, and reports how long messages take to a consumer that waits.
    Latency(LatencyArguments),
    /// Piles up a backlog, then drains it in order: rate, memory, and with --restart recovery.
    Backlog(BacklogArguments),
    /// Kills a loaded broker again and again, and checks that it kept every promise.
    Kill(KillArguments),
}

#[derive(Debug, Args)]
struct HelloArguments {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:7010")]
    address: SocketAddr,
    /// The queue; it is made if it is not there, and stays.
    #[arg(long, default_value = "hello")]
    queue: String,
}

/// Which broker: one that runs, or one started for the occasion.
#[derive(Debug, Args)]
struct BrokerArguments {
    /// Where a running broker listens.
    #[arg(long, default_value = "127.0.0.1:7010", conflicts_with = "spawn")]
    address: SocketAddr,
    /// The running broker's process id, to measure its processor time and memory.
    #[arg(long, conflicts_with = "spawn")]
    pid: Option<u32>,
    /// Starts this `tenpin` on a free port, and stops it afterwards.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    spawn: Option<PathBuf>,
    /// Where the data folder of a started broker is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// More arguments for a started broker.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    broker_arguments: Vec<String>,
    /// The core of a started broker.
    #[arg(long)]
    broker_core: Option<usize>,
    /// The core of the client.
    #[arg(long)]
    client_core: Option<usize>,
}

#[derive(Debug, Args)]
struct LifecycleArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Drivers of a started broker, compared in turn.
    #[arg(long, value_delimiter = ',', default_value = "auto")]
    io: Vec<String>,
    /// Durabilities of a started broker, compared in turn.
    #[arg(long, value_delimiter = ',', default_value = "memory")]
    durability: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Rounds (or single requests, with --steps) under way on each connection.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Ask for one thing at a time (send, then receive, then delete), not for all three in a round.
    #[arg(long)]
    steps: bool,
    /// Messages a request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    batch: u8,
    /// Bytes of each body, at least 24.
    #[arg(long, default_value_t = 64, value_parser = parse_body_bytes)]
    body_bytes: usize,
    /// Messages in the queue beside those under way.
    #[arg(long, default_value_t = 0)]
    depth: u64,
    /// Use a FIFO queue with so many message groups, and give each message a deduplication id; 0: a
    /// standard queue.
    #[arg(long, default_value_t = 0)]
    fifo_groups: u64,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often each variant runs.
    #[arg(long, default_value_t = 1)]
    runs: u32,
}

#[derive(Debug, Args)]
struct LatencyArguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Drivers of a started broker, compared in turn.
    #[arg(long, alias = "io", value_delimiter = ',', default_value = "auto")]
    driver: Vec<String>,
    /// Durabilities of a started broker, compared in turn.
    #[arg(long, value_delimiter = ',', default_value = "memory")]
    durability: Vec<String>,
    /// Messages a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Messages a request, due together.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    batch: u8,
    /// Bytes of each body, at least 24.
    #[arg(long, alias = "body-bytes", default_value_t = 64, value_parser = parse_body_bytes)]
    body: usize,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often each variant runs.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Writes all figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BacklogArguments {
    /// The `tenpin` to start.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    spawn: PathBuf,
    /// Where its data folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// More arguments for it.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    broker_arguments: Vec<String>,
    /// Its driver.
    #[arg(long, default_value = "auto")]
    io: String,
    /// Its durability.
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Messages.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of each body, at least 24.
    #[arg(long, default_value_t = 1_024, value_parser = parse_body_bytes)]
    body_bytes: usize,
    /// Kill the broker once all is queued, and measure how long a new one takes to have it again.
    #[arg(long)]
    restart: bool,
}

#[derive(Debug, Args)]
struct KillArguments {
    /// The `tenpin` to start and kill.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    spawn: PathBuf,
    /// Where its data folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// More arguments for it.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    broker_arguments: Vec<String>,
    /// Its driver.
    #[arg(long, default_value = "auto")]
    io: String,
    /// Its durability: fsync or async.
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Kills under load.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Connections.
    #[arg(long, default_value_t = 6)]
    connections: u32,
    /// Bytes of the largest body.
    #[arg(long, default_value_t = 2_000, value_parser = parse_body_bytes)]
    body_bytes: usize,
    /// For the choices; random if not given.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Hello(arguments) => say_hello(&arguments),
        Task::Lifecycle(arguments) => run_lifecycle(&arguments),
        Task::Latency(arguments) => run_latency(&arguments),
        Task::Backlog(arguments) => run_backlog(&arguments),
        Task::Kill(arguments) => run_kill(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tenpin-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as it has to be.
type Verdict = Result<bool, Box<dyn Error>>;

fn say_hello(arguments: &HelloArguments) -> Verdict {
    hello::run(arguments.address, &arguments.queue, &mut std::io::stdout().lock())?;
    Ok(true)
}

fn run_lifecycle(arguments: &LifecycleArguments) -> Verdict {
    let options = LoadOptions {
        connections: arguments.connections.max(1),
        in_flight: arguments.in_flight.max(1),
        shape: if arguments.steps { Shape::Steps } else { Shape::Rounds },
        batch: usize::from(arguments.batch),
        body_bytes: arguments.body_bytes,
        depth: arguments.depth,
        fifo_groups: arguments.fifo_groups,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up_seconds)?,
        length: Duration::try_from_secs_f64(arguments.seconds)?,
        client_core: arguments.broker.client_core.or(arguments.broker.own_cores().map(|(_, client)| client)),
    };
    println!("{}", measure::machine());
    println!(
        "{} connections, {} {} under way on each, batches of {}, bodies of {} bytes, {} queued beside, {}",
        options.connections,
        options.in_flight,
        if arguments.steps { "single requests" } else { "rounds" },
        options.batch,
        options.body_bytes,
        options.depth,
        match options.fifo_groups {
            0 => "a standard queue".to_owned(),
            groups => format!("a FIFO queue of {groups} groups"),
        }
    );
    let variants = variants(&arguments.broker, &arguments.io, &arguments.durability);
    let all = load::run(&options, &variants, arguments.runs.max(1), &mut |variant, run| {
        println!("{:<16} {run}", variant.name);
    })?;
    for variant in &all {
        println!("\n{variant}");
    }
    Ok(all.iter().all(VariantRuns::is_clean))
}

/// Measures all variants in turn, as many times as there are runs.
fn run_latency(arguments: &LatencyArguments) -> Verdict {
    let options = LatencyOptions {
        rate: arguments.rate.max(1),
        batch: usize::from(arguments.batch),
        body_bytes: arguments.body,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up_seconds)?,
        length: Duration::try_from_secs_f64(arguments.seconds)?,
        client_core: arguments.broker.client_core.or(arguments.broker.own_cores().map(|(_, client)| client)),
    };
    println!("{}", measure::machine());
    println!(
        "{} messages/s in requests of {}, bodies of {} bytes, one consumer that waits",
        options.rate, options.batch, options.body_bytes
    );
    let variants = variants(&arguments.broker, &arguments.driver, &arguments.durability);
    let mut all: Vec<(&Variant, Vec<LatencyRun>)> =
        variants.iter().map(|variant| (variant, Vec::new())).collect();
    for _ in 0..arguments.runs.max(1) {
        for (variant, runs) in &mut all {
            let run = latency::run(&options, &variant.target)?;
            println!("{:<12}{run}", variant.name);
            runs.push(run);
        }
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, latency_json(&options, &all))?;
    }
    Ok(all.iter().flat_map(|(_, runs)| runs).all(LatencyRun::is_clean))
}

fn latency_json(options: &LatencyOptions, all: &[(&Variant, Vec<LatencyRun>)]) -> String {
    let variants: Vec<String> = all
        .iter()
        .map(|(variant, runs)| {
            let runs: Vec<String> = runs.iter().map(LatencyRun::json).collect();
            format!("{{\"variant\":{:?},\"runs\":[{}]}}", variant.name, runs.join(","))
        })
        .collect();
    let LatencyOptions { rate, batch, body_bytes, .. } = options;
    format!(
        "{{\"task\":\"latency\",\"machine\":{:?},\"load_average\":{:.2},\"rate\":{rate},\"batch\":{batch},\
         \"body_bytes\":{body_bytes},\"seconds\":{},\"variants\":[{}]}}\n",
        measure::machine(),
        measure::load_average(),
        options.length.as_secs_f64(),
        variants.join(","),
    )
}

fn variants(broker: &BrokerArguments, drivers: &[String], durabilities: &[String]) -> Vec<Variant> {
    let Some(program) = &broker.spawn else {
        let target = Target::Running { address: broker.address, pid: broker.pid };
        return vec![Variant { name: broker.address.to_string(), target }];
    };
    let mut variants = Vec::new();
    for io in drivers {
        for durability in durabilities {
            let mut command = BrokerCommand::new(program, &broker.folder);
            command.io.clone_from(io);
            command.durability.clone_from(durability);
            command.arguments.clone_from(&broker.broker_arguments);
            command.core = broker.broker_core.or(broker.own_cores().map(|(core, _)| core));
            let target = Target::Started { command, parent: broker.folder.clone() };
            variants.push(Variant { name: format!("{io} {durability}"), target });
        }
    }
    variants
}

impl BrokerArguments {
    /// A core for a started broker and one for the client, where there is one for each.
    fn own_cores(&self) -> Option<(usize, usize)> {
        let is_free = self.spawn.is_some() && self.broker_core.is_none() && self.client_core.is_none();
        (is_free && measure::cores() >= 2).then_some((0, 1))
    }
}

fn run_backlog(arguments: &BacklogArguments) -> Verdict {
    let mut command = BrokerCommand::new(&arguments.spawn, &arguments.folder);
    command.io.clone_from(&arguments.io);
    command.durability.clone_from(&arguments.durability);
    command.arguments.clone_from(&arguments.broker_arguments);
    command.start_up_max = Duration::from_secs(600);
    let options = BacklogOptions {
        command,
        parent: arguments.folder.clone(),
        messages: arguments.messages,
        body_bytes: arguments.body_bytes,
        restart: arguments.restart,
        verbose: true,
    };
    println!("{}", measure::machine());
    let report = backlog::run(&options)?;
    println!("{report}");
    Ok(report.is_clean())
}

fn run_kill(arguments: &KillArguments) -> Verdict {
    let folder = tempfile::Builder::new().prefix("tenpin-kill-").tempdir_in(&arguments.folder)?;
    let mut command = BrokerCommand::new(&arguments.spawn, &folder.path().join("data"));
    command.io.clone_from(&arguments.io);
    command.durability.clone_from(&arguments.durability);
    command.arguments.clone_from(&arguments.broker_arguments);
    let seed = arguments.seed.unwrap_or_else(payload::new_origin);
    println!("seed {seed}");
    let options = KillOptions {
        command,
        kills: arguments.kills,
        connections: arguments.connections.max(1),
        body_bytes_max: arguments.body_bytes,
        seed,
        verbose: true,
    };
    let report = kill::run(&options)?;
    println!("{report}");
    let is_kept = report.totals.violations == 0;
    if !is_kept {
        println!("the data folder is kept: {}", folder.keep().display());
    }
    Ok(is_kept)
}

fn parse_body_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (payload::BODY_BYTES_MIN..=100_000).contains(&bytes) => Ok(bytes),
        Ok(_) => Err(format!("bodies have {} to 100000 bytes here", payload::BODY_BYTES_MIN)),
        Err(error) => Err(format!("{error}")),
    }
}
