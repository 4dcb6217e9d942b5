//! The command line.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bodies::BodySizes;
use crate::compare::command::CompareArguments;
use crate::load::books::{Fates, WHOLE};
use crate::load::{LoadOptions, Shape, Target, Variant};
use crate::measure;
use crate::overload::OverloadArguments;
use crate::process::BrokerCommand;
use crate::scale::Over;

/// Measures a Tenpin broker, compares it with others, and tries to make it lose something.
#[derive(Debug, Parser)]
#[command(name = "tenpin-bench", version, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Sends a message, receives it and deletes it, and says at each step what happens.
    Hello(HelloArguments),
    /// Keeps messages going through send, receive and delete, and reports what each costs.
    #[command(alias = "lifecycle")]
    Throughput(ThroughputArguments),
    /// Sends at fixed rates, and reports how long messages take to a consumer that waits.
    Latency(LatencyArguments),
    /// Loads for long with redeliveries, delays and dead letters, and watches memory and disk.
    Soak(SoakArguments),
    /// Piles up a backlog, then drains it in order: rate, memory, and with --restart recovery.
    Backlog(BacklogArguments),
    /// Piles up a backlog, kills the broker, and measures how long new ones take to have it again.
    Recover(BacklogArguments),
    /// Loads a few queues and connections beside many that are open, or all of many at once.
    Fanin(FaninArguments),
    /// What a message costs as one thing grows: bodies, batches, queues, groups, a backlog and others.
    Scale(ScaleArguments),
    /// Asks for more than the broker can do, up to twice as much, and looks whether it goes on as fast as it can.
    Overload(OverloadArguments),
    /// The same work by Tenpin and by other brokers, in turn.
    Compare(CompareArguments),
    /// Kills a loaded broker again and again, and checks that it kept every promise.
    Kill(KillArguments),
    /// Holds many connections of which few are busy: what each silent one costs the broker in memory.
    Crowd(CrowdArguments),
}

/// As `tenpin serve --io` has them.
const DRIVERS: [&str; 3] = ["auto", "uring", "epoll"];
/// As `tenpin serve --durability` has them.
const DURABILITIES: [&str; 3] = ["memory", "async", "fsync"];

/// Of `hello`.
#[derive(Debug, Args)]
pub struct HelloArguments {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:7010", value_name = "HOST:PORT", value_parser = resolved)]
    pub address: SocketAddr,
    /// The queue; it is made if it is not there, and stays.
    #[arg(long, default_value = "hello")]
    pub queue: String,
}

/// Which broker: one that runs, or else one that is started for each run.
#[derive(Debug, Clone, Args)]
pub struct BrokerArguments {
    /// Where a running broker listens. Without it one is started for each run, and stopped afterwards.
    #[arg(long, conflicts_with = "spawn", value_name = "HOST:PORT", value_parser = resolved)]
    pub address: Option<SocketAddr>,
    /// The running broker's process id, to measure its processor time and memory.
    #[arg(long, requires = "address")]
    pub pid: Option<u32>,
    /// The `tenpin` to start; the one that lies beside this program if not given.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    pub spawn: Option<PathBuf>,
    /// Numbers of shards of a started broker, compared in turn.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub shards: Vec<u16>,
    /// Drivers of a started broker, compared in turn.
    #[arg(long, alias = "io", value_delimiter = ',', default_value = "auto", value_parser = DRIVERS)]
    pub driver: Vec<String>,
    /// Durabilities of a started broker, compared in turn.
    #[arg(long, value_delimiter = ',', default_value = "memory", value_parser = DURABILITIES)]
    pub durability: Vec<String>,
    /// Where the data folder of a started broker is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// More arguments for a started broker.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    pub broker_arguments: Vec<String>,
    /// The core of a started broker with one shard.
    #[arg(long)]
    pub broker_core: Option<usize>,
    /// The core of the client.
    #[arg(long)]
    pub client_core: Option<usize>,
}

/// How often, and where to.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// How often each variant runs.
    #[arg(long, default_value_t = 1)]
    pub runs: u32,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Of what can be drawn.
#[derive(Debug, Args)]
pub struct ChartArguments {
    /// Draws the figures to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,
}

impl ChartArguments {
    /// Draws, where that was asked for.
    pub fn draw(&self, svg: impl FnOnce() -> String) -> io::Result<()> {
        self.chart.as_ref().map_or(Ok(()), |file| std::fs::write(file, svg()))
    }
}

/// Of what can be drawn of runs at several rates.
#[derive(Debug, Args)]
pub struct RateChartArguments {
    #[command(flatten)]
    drawing: ChartArguments,
    /// Draws latency over rate to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    rate_chart: Option<PathBuf>,
}

impl RateChartArguments {
    /// Draws the figures, and latency over rate, where either was asked for.
    pub fn draw(&self, svg: impl FnOnce() -> String, over_rate: impl FnOnce() -> String) -> io::Result<()> {
        self.drawing.draw(svg)?;
        self.rate_chart.as_ref().map_or(Ok(()), |file| std::fs::write(file, over_rate()))
    }
}

/// The load that all kinds of runs share.
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// With a rate: what falls due within so many microseconds is sent together, as by a program with a
    /// coarse clock; each batch when it is due if not given.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub burst_us: u64,
    /// Look for replies all the time instead of sleeping until some come, so that the broker is not charged for
    /// waking the client, as it is not where the client is another machine. It takes the client's whole core.
    #[arg(long)]
    pub spin: bool,
    /// Messages a request; with a rate, all of them are due together. 10, for latency 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub batch: Option<u8>,
    /// Bytes of each body, at least 24: 64, or 64-1024, or 64:9,4096:1 for nine small to each large.
    #[arg(long, alias = "body-bytes", default_value = "64")]
    pub body: BodySizes,
    /// Queues, over which connections and requests are spread.
    #[arg(long, default_value_t = 1)]
    pub queues: usize,
    /// Use FIFO queues with so many message groups each, and give each message a deduplication id; 0:
    /// standard queues.
    #[arg(long, default_value_t = 0)]
    pub fifo_groups: u64,
    /// Messages queued before anything is received.
    #[arg(long, default_value_t = 0)]
    pub backlog: u64,
    /// Percent of messages that are left once to come back.
    #[arg(long, default_value_t = 0.0)]
    pub redeliver: f64,
    /// Percent of messages that are left until they are moved to a dead-letter queue.
    #[arg(long, default_value_t = 0.0)]
    pub dead_letters: f64,
    /// Percent of messages that are sent with a delay.
    #[arg(long, default_value_t = 0.0)]
    pub delay: f64,
    /// How long that delay is.
    #[arg(long, default_value_t = 1)]
    pub delay_seconds: u32,
    /// For how long messages stay hidden where some are left to come back.
    #[arg(long, default_value_t = 5)]
    pub visibility_seconds: u32,
    /// Messages to measure, instead of seconds.
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up_seconds: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Count the broker's system calls with perf, which costs it a little.
    #[arg(long)]
    pub syscalls: bool,
}

/// Of `throughput`.
#[derive(Debug, Args)]
pub struct ThroughputArguments {
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// Which load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Connections; with a rate, so many that send and so many that receive.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Rounds (or single requests, with --steps) under way on each connection; with a rate, receives.
    #[arg(long, alias = "in-flight", default_value_t = 8)]
    pub depth: usize,
    /// Ask for one thing at a time (send, then receive, then delete), not for all three in a round.
    #[arg(long)]
    pub steps: bool,
    /// Messages a second, sent by a timetable whatever the broker does; as fast as answers come if not given.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: ChartArguments,
}

/// Of `latency`.
#[derive(Debug, Args)]
pub struct LatencyArguments {
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// Which load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Connections that send, and as many that receive.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Receives that wait on each receiving connection.
    #[arg(long, default_value_t = 1)]
    pub depth: usize,
    /// Messages a second; several rates in turn make a curve.
    #[arg(long, value_delimiter = ',', default_value = "5000")]
    pub rate: Vec<u64>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: RateChartArguments,
}

/// Of `soak`.
#[derive(Debug, Args)]
pub struct SoakArguments {
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// Minutes.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// Messages a second.
    #[arg(long, default_value_t = 100_000)]
    pub rate: u64,
    /// Connections that send, and as many that receive.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Receives that wait on each receiving connection.
    #[arg(long, default_value_t = 4)]
    pub depth: usize,
    /// Messages a request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub batch: u8,
    /// Bytes of each body.
    #[arg(long, alias = "body-bytes", default_value = "64-1024")]
    pub body: BodySizes,
    /// Queues.
    #[arg(long, default_value_t = 4)]
    pub queues: usize,
    /// Use FIFO queues with so many message groups each; 0: standard queues.
    #[arg(long, default_value_t = 0)]
    pub fifo_groups: u64,
    /// Percent of messages that are left once to come back.
    #[arg(long, default_value_t = 1.0)]
    pub redeliver: f64,
    /// Percent of messages that are left until they are moved to a dead-letter queue.
    #[arg(long, default_value_t = 0.5)]
    pub dead_letters: f64,
    /// Percent of messages that are sent with a delay; standard queues only.
    #[arg(long, default_value_t = 1.0)]
    pub delay: f64,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: ChartArguments,
}

/// Of `backlog` and `recover`.
#[derive(Debug, Args)]
pub struct BacklogArguments {
    /// The `tenpin` to start; the one that lies beside this program if not given.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    pub spawn: Option<PathBuf>,
    /// Its shards.
    #[arg(long, default_value_t = 1)]
    pub shards: u16,
    /// Its driver.
    #[arg(long, alias = "io", default_value = "auto", value_parser = DRIVERS)]
    pub driver: String,
    /// Its durability.
    #[arg(long, default_value = "fsync", value_parser = DURABILITIES)]
    pub durability: String,
    /// Where its data folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// More arguments for it.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    pub broker_arguments: Vec<String>,
    /// Messages.
    #[arg(long, default_value_t = 1_000_000)]
    pub messages: u64,
    /// Bytes of each body, at least 24.
    #[arg(long, alias = "body-bytes", default_value = "1024")]
    pub body: BodySizes,
    /// Messages a request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub batch: u8,
    /// Requests under way.
    #[arg(long, default_value_t = 64)]
    pub depth: usize,
    /// Kill the broker once all is queued, and measure how long a new one takes to have it again.
    #[arg(long)]
    pub restart: bool,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
}

/// Of `fanin`.
#[derive(Debug, Args)]
pub struct FaninArguments {
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// Which load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Queues and connections that the load is on; all if 0.
    #[arg(long, default_value_t = 16)]
    pub active: usize,
    /// Connections that are open; several numbers in turn make a curve.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    pub connections: Vec<usize>,
    /// Queues that are there, for each of these numbers; the last one for all that follow.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    pub queues_in_all: Vec<usize>,
    /// Rounds under way on each connection of the load.
    #[arg(long, alias = "in-flight", default_value_t = 1)]
    pub depth: usize,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: ChartArguments,
}

/// Of `scale`.
#[derive(Debug, Args)]
pub struct ScaleArguments {
    /// What grows.
    #[arg(value_enum)]
    pub over: Over,
    /// Its values, separated by commas; a usual row of them if not given.
    #[arg(value_delimiter = ',')]
    pub values: Vec<u64>,
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// The load, of which the rest stays as it is.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Rounds under way on each connection.
    #[arg(long, alias = "in-flight", default_value_t = 8)]
    pub depth: usize,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where they are drawn.
    #[command(flatten)]
    pub drawing: ChartArguments,
}

/// Of `crowd`.
#[derive(Debug, Args)]
pub struct CrowdArguments {
    /// The `tenpin` to start; the one that lies beside this program if not given.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    pub spawn: Option<PathBuf>,
    /// Where its data folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// Drivers, in turn.
    #[arg(long, alias = "io", value_delimiter = ',', default_value = "uring,epoll", value_parser = DRIVERS)]
    pub driver: Vec<String>,
    /// Numbers of shards, in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub shards: Vec<u16>,
    /// Its durability.
    #[arg(long, default_value = "fsync", value_parser = DURABILITIES)]
    pub durability: String,
    /// Connections that fall silent after a round each.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Connections with traffic beside them.
    #[arg(long, default_value_t = 16)]
    pub busy: usize,
    /// Rounds on each busy one: a batch sent, received, deleted.
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
    /// Bytes of each body.
    #[arg(long, alias = "body-bytes", default_value_t = 1_024)]
    pub body: usize,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Of `kill`.
#[derive(Debug, Args)]
pub struct KillArguments {
    /// The `tenpin` to start and kill; the one that lies beside this program if not given.
    #[arg(long, value_name = "PATH_TO_TENPIN")]
    pub spawn: Option<PathBuf>,
    /// Where its data folder is made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// More arguments for it.
    #[arg(long = "broker-argument", allow_hyphen_values = true)]
    pub broker_arguments: Vec<String>,
    /// Its driver.
    #[arg(long, alias = "io", default_value = "auto", value_parser = DRIVERS)]
    pub driver: String,
    /// Its durability.
    #[arg(long, default_value = "fsync", value_parser = ["fsync", "async"])]
    pub durability: String,
    /// Kills under load.
    #[arg(long, default_value_t = 200)]
    pub kills: u32,
    /// Connections.
    #[arg(long, default_value_t = 6)]
    pub connections: u32,
    /// Bytes of the largest body.
    #[arg(long, alias = "body-bytes", default_value = "2000")]
    pub body: BodySizes,
    /// For the choices; random if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Writes what was counted to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where a name and port are, by IPv4 where they are by both, as a broker listens that is given a name.
fn resolved(text: &str) -> Result<SocketAddr, String> {
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().ok_or_else(|| format!("{text} has no address"))
}

/// The `tenpin` to start: the one given, or the one beside this program.
pub fn program(given: &Option<PathBuf>) -> Result<PathBuf, Box<dyn Error>> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("tenpin");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(format!(
        "there is no {}: build it (cargo build --release --bin tenpin), name one with --spawn, or a running \
         broker with --address",
        beside.display()
    )
    .into())
}

impl BrokerArguments {
    /// All combinations of what was asked for, or the one that runs.
    pub fn variants(&self) -> Result<Vec<Variant>, Box<dyn Error>> {
        if let Some(address) = self.address {
            let target = Target::Running { address, pid: self.pid };
            return Ok(vec![Variant { name: address.to_string(), target }]);
        }
        let program = program(&self.spawn)?;
        let mut variants = Vec::new();
        for shards in &self.shards {
            for io in &self.driver {
                for durability in &self.durability {
                    let mut command = BrokerCommand::new(&program, &self.folder);
                    command.io.clone_from(io);
                    command.durability.clone_from(durability);
                    command.shards = Some(*shards);
                    command.arguments.clone_from(&self.broker_arguments);
                    let own = self.own_cores().map(|(core, _)| core).filter(|_| *shards == 1);
                    command.core = self.broker_core.or(own);
                    let target = Target::Started { command, parent: self.folder.clone() };
                    let name = match shards {
                        1 => format!("{io} {durability}"),
                        _ => format!("{io} {durability}, {shards} shards"),
                    };
                    variants.push(Variant { name, target });
                }
            }
        }
        Ok(variants)
    }

    /// A core for a started broker and one for the client, where there is one for each.
    fn own_cores(&self) -> Option<(usize, usize)> {
        let is_free = self.address.is_none() && self.broker_core.is_none() && self.client_core.is_none();
        (is_free && measure::cores() >= 2).then_some((0, 1))
    }

    /// The core that the client shall stay on.
    pub fn core_of_client(&self) -> Option<usize> {
        self.client_core.or(self.own_cores().map(|(_, client)| client))
    }
}

impl LoadArguments {
    /// The load, with connections, depth and rate still to be set.
    pub fn options(&self, client_core: Option<usize>) -> Result<LoadOptions, Box<dyn Error>> {
        let fates = fates(self.redeliver, self.dead_letters, self.delay, self.fifo_groups)?;
        Ok(LoadOptions {
            shape: Shape::Rounds,
            batch: usize::from(self.batch.unwrap_or(10)),
            bodies: self.body.clone(),
            backlog: self.backlog,
            queues: self.queues.max(1),
            fifo_groups: self.fifo_groups,
            fates: Fates {
                visibility_seconds: self.visibility_seconds.max(1),
                delay_seconds: self.delay_seconds,
                ..fates
            },
            warm_up: Duration::try_from_secs_f64(self.warm_up_seconds)?,
            length: Duration::try_from_secs_f64(self.seconds)?,
            messages: self.messages,
            burst: Duration::from_micros(self.burst_us),
            spins: self.spin,
            syscalls: self.syscalls,
            client_core,
            ..LoadOptions::default()
        })
    }
}

/// Shares of messages from percentages.
pub fn fates(left: f64, doomed: f64, delayed: f64, fifo_groups: u64) -> Result<Fates, Box<dyn Error>> {
    let share = |percent: f64| match percent {
        percent if (0.0..=100.0).contains(&percent) => Ok((percent * WHOLE as f64 / 100.0).round() as u64),
        _ => Err(format!("{percent} %: a share is 0 to 100 %")),
    };
    if delayed > 0.0 && fifo_groups > 0 {
        return Err("single messages of a FIFO queue have no delay: give --delay 0".into());
    }
    let (left, doomed, delayed) = (share(left)?, share(doomed)?, share(delayed)?);
    Ok(Fates { left, doomed, delayed, visibility_seconds: 5, delay_seconds: 1 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_in_order() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn old_names_still_work() {
        let old = ["tenpin-bench", "lifecycle", "--io", "uring", "--in-flight", "1", "--body-bytes", "100"];
        let Task::Throughput(arguments) = Arguments::parse_from(old).task else { panic!("not throughput") };
        assert_eq!((arguments.depth, arguments.broker.driver[0].as_str()), (1, "uring"));
    }

    #[test]
    fn a_running_broker_is_found_by_name_and_by_address() {
        let of = |address| Arguments::try_parse_from(["tenpin-bench", "throughput", "--address", address]);
        for address in ["localhost:7010", "127.0.0.1:7010"] {
            let Ok(Arguments { task: Task::Throughput(arguments) }) = of(address) else {
                panic!("{address}")
            };
            assert_eq!(arguments.broker.address, Some(SocketAddr::from(([127, 0, 0, 1], 7010))));
        }
        assert!(of("localhost").is_err() && of("").is_err());
    }

    #[test]
    fn variants_are_all_combinations() {
        let line =
            "tenpin-bench throughput --spawn t --shards 1,2 --driver uring,epoll --durability memory,fsync";
        let Task::Throughput(arguments) = Arguments::parse_from(line.split(' ')).task else {
            panic!("not throughput")
        };
        let variants = arguments.broker.variants().unwrap();
        assert_eq!((variants.len(), variants[7].name.as_str()), (8, "epoll fsync, 2 shards"));
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(fates(1.5, 0.0, 100.0, 0).unwrap().left, 150);
        assert!(fates(101.0, 0.0, 0.0, 0).is_err() && fates(0.0, 0.0, 1.0, 5).is_err());
    }
}
