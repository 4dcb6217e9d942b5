//! The commands: each from its arguments to its figures, as a table, as JSON and as charts.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::arguments::{
    self, BacklogArguments, CrowdArguments, HelloArguments, KillArguments, LatencyArguments, ReportArguments,
    SoakArguments, Task, ThroughputArguments,
};
use crate::backlog::{self, BacklogOptions};
use crate::chart::{self, Axes, Bar, Line, Scale};
use crate::crowd::{self, CrowdOptions};
use crate::kill::{self, KillOptions};
use crate::load::{self, LoadOptions, Shape, Variant};
use crate::process::BrokerCommand;
use crate::report::{self, Record, Report};
use crate::soak::{self, SoakOptions, Soaked};
use crate::{compare, fanin, hello, measure, overload, payload, scale};

/// Whether all was as it has to be.
pub type Verdict = Result<bool, Box<dyn Error>>;

/// Carries out a command.
pub fn run(task: &Task) -> Verdict {
    match task {
        Task::Hello(arguments) => say_hello(arguments),
        Task::Throughput(arguments) => throughput(arguments),
        Task::Latency(arguments) => latency(arguments),
        Task::Soak(arguments) => soak(arguments),
        Task::Backlog(arguments) => backlog(arguments, "backlog"),
        Task::Recover(arguments) => backlog(arguments, "recover"),
        Task::Fanin(arguments) => fanin::run(arguments),
        Task::Scale(arguments) => scale::run(arguments),
        Task::Overload(arguments) => overload::run(arguments),
        Task::Compare(arguments) => compare::command::run(arguments),
        Task::Kill(arguments) => run_kill(arguments),
        Task::Crowd(arguments) => run_crowd(arguments),
    }
}

fn say_hello(arguments: &HelloArguments) -> Verdict {
    hello::run(arguments.address, &arguments.queue, &mut io::stdout().lock())?;
    Ok(true)
}

pub(crate) fn tell(record: &Record) {
    println!("{}", record.told());
}

fn throughput(arguments: &ThroughputArguments) -> Verdict {
    let options = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        shape: if arguments.steps { Shape::Steps } else { Shape::Rounds },
        rate: arguments.rate.map(|rate| rate.max(1)),
        ..arguments.load.options(arguments.broker.core_of_client())?
    };
    let variants = arguments.broker.variants()?;
    println!("{}\n{}", measure::machine(), options.told());
    let report = load::run("throughput", &options, &variants, arguments.report.runs.max(1), &mut tell)?;
    arguments.drawing.draw(|| throughput_chart(&report))?;
    finish("throughput", &report, &arguments.report)
}

fn throughput_chart(report: &Report) -> String {
    let bars: Vec<Bar> = report
        .variants()
        .into_iter()
        .map(|variant| {
            let spread = report.spread(variant, |record| record.lifecycles_per_second);
            let range = (spread.least, spread.most);
            Bar { name: variant.to_owned(), value: spread.median, range, stands_out: false }
        })
        .collect();
    chart::bars(
        "Messages sent, received and deleted each second",
        "messages/s",
        "the line in a bar is the least and the most",
        &bars,
    )
}

/// Measures all rates and variants in turn, as many times as there are runs.
fn latency(arguments: &LatencyArguments) -> Verdict {
    let options = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        batch: usize::from(arguments.load.batch.unwrap_or(1)),
        ..arguments.load.options(arguments.broker.core_of_client())?
    };
    let variants = arguments.broker.variants()?;
    let is_curve = arguments.rate.len() > 1;
    println!("{}", measure::machine());
    let mut report = Report::default();
    for run in 1..=arguments.report.runs.max(1) {
        for rate in &arguments.rate {
            let options = LoadOptions { rate: Some((*rate).max(1)), ..options.clone() };
            if run == 1 {
                println!("{}", options.told());
            }
            for variant in &variants {
                let mut record = load::run_once("latency", &options, variant, run, &mut load::blind)?;
                if is_curve {
                    record.variant = format!("{} at {rate}/s", variant.name);
                }
                tell(&record);
                report.records.push(record);
            }
        }
    }
    let over_rate = || rate_chart(&report, &variants, &arguments.rate);
    arguments.drawing.draw(|| percentile_chart(&report), over_rate)?;
    finish("latency", &report, &arguments.report)
}

fn percentile_chart(report: &Report) -> String {
    let ticks = report
        .best(report.variants().first().copied().unwrap_or_default())
        .map(|record| record.latency_us.points().map(|(name, _)| name.to_owned()))
        .map_or_else(Vec::new, |names| (0..).map(f64::from).zip(names).collect());
    let lines: Vec<Line> = report
        .variants()
        .into_iter()
        .filter_map(|variant| {
            let points = (0..).map(f64::from).zip(report.best(variant)?.latency_us.points());
            let points = points.map(|(place, (_, us))| (place, us)).collect();
            Some(Line { name: variant.to_owned(), points })
        })
        .collect();
    let axes = Axes {
        title: "From a message's intended send time to its receipt",
        across: "percentile, of the best run outside of the host's gaps",
        up: "µs",
        ticks,
        scale: Scale::Logarithmic,
    };
    chart::lines(&axes, &lines)
}

fn rate_chart(report: &Report, variants: &[Variant], rates: &[u64]) -> String {
    let place = |rate: &u64| (*rate as f64).log10();
    let mut lines = Vec::new();
    for variant in variants {
        for (name, figure) in [
            ("p50", (|record| record.latency_us.p50) as fn(&Record) -> f64),
            ("p99", |record| record.latency_us.p99),
            ("p99.9", |record| record.latency_us.p999),
            ("p99.99", |record| record.latency_us.p9999),
        ] {
            let points = rates.iter().filter_map(|rate| {
                let record = report.best(&format!("{} at {rate}/s", variant.name))?;
                Some((place(rate), figure(record)))
            });
            lines.push(Line { name: format!("{}, {name}", variant.name), points: points.collect() });
        }
    }
    let axes = Axes {
        title: "Latency from send to receipt over rate",
        across: "messages a second",
        up: "µs",
        ticks: rates.iter().map(|rate| (place(rate), chart::shortly(*rate as f64))).collect(),
        scale: Scale::Logarithmic,
    };
    chart::lines(&axes, &lines)
}

fn soak(arguments: &SoakArguments) -> Verdict {
    let delay = if arguments.fifo_groups > 0 { 0.0 } else { arguments.delay };
    let load = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        batch: usize::from(arguments.batch),
        bodies: arguments.body.clone(),
        queues: arguments.queues.max(1),
        fifo_groups: arguments.fifo_groups,
        rate: Some(arguments.rate.max(1)),
        fates: arguments::fates(arguments.redeliver, arguments.dead_letters, delay, arguments.fifo_groups)?,
        warm_up: Duration::from_secs(5),
        length: Duration::try_from_secs_f64(arguments.minutes * 60.0)?,
        client_core: arguments.broker.core_of_client(),
        ..LoadOptions::default()
    };
    println!("{}\n{}", measure::machine(), load.told());
    let options = SoakOptions { load };
    let mut report = Report::default();
    let (mut is_bounded, mut is_judged) = (true, true);
    for run in 1..=arguments.report.runs.max(1) {
        for variant in arguments.broker.variants()? {
            let Soaked { record, bounded, samples } = soak::run(&options, &variant, run)?;
            tell(&record);
            println!("{bounded}");
            is_bounded &= bounded.is_bounded() != Some(false);
            is_judged &= bounded.is_judged;
            report.records.push(record);
            arguments.drawing.draw(|| soak::chart(&samples))?;
        }
    }
    let is_clean = finish("soak", &report, &arguments.report)?;
    if !is_judged {
        println!(
            "NOT JUDGED: memory and disk of a run that was too short, or of a process that is not known"
        );
    }
    Ok(is_clean && is_bounded)
}

fn backlog(arguments: &BacklogArguments, name: &str) -> Verdict {
    let mut command = BrokerCommand::new(&arguments::program(&arguments.spawn)?, &arguments.folder);
    command.io.clone_from(&arguments.driver);
    command.durability.clone_from(&arguments.durability);
    command.shards = Some(arguments.shards.max(1));
    command.arguments.clone_from(&arguments.broker_arguments);
    command.start_up_max = Duration::from_secs(600);
    let restarts = match name {
        // Every run of a recovery starts from the same backlog.
        "recover" => arguments.report.runs.max(1),
        _ => u32::from(arguments.restart),
    };
    let options = BacklogOptions {
        command,
        parent: arguments.folder.clone(),
        messages: arguments.messages,
        bodies: arguments.body.clone(),
        batch: usize::from(arguments.batch),
        depth: arguments.depth.max(1),
        restarts,
    };
    if options.command.durability == "memory" && restarts > 0 {
        return Err("what is in memory only is gone with its process: recovery needs fsync or async".into());
    }
    println!("{}", measure::machine());
    let mut report = Report::default();
    let runs = if name == "recover" { 1 } else { arguments.report.runs.max(1) };
    for run in 1..=runs {
        let outcome = backlog::run(&options)?;
        println!("{outcome}");
        report.records.push(outcome.record(name, &options, run));
    }
    if let Some(file) = &arguments.report.json {
        report.write_json(name, file)?;
    }
    Ok(report.is_clean())
}

fn run_crowd(arguments: &CrowdArguments) -> Verdict {
    println!("{}", measure::machine());
    let program = arguments::program(&arguments.spawn)?;
    let mut runs = Vec::new();
    for io in &arguments.driver {
        for shards in &arguments.shards {
            let folder = tempfile::Builder::new().prefix("tenpin-crowd-").tempdir_in(&arguments.folder)?;
            let mut command = BrokerCommand::new(&program, &folder.path().join("data"));
            command.io.clone_from(io);
            command.durability.clone_from(&arguments.durability);
            let config = folder.path().join("tenpin.toml");
            std::fs::write(&config, crowd::CONFIGURATION)?;
            let config = config.to_str().ok_or("the folder's name is no text")?.to_owned();
            command.arguments = vec!["--shards".into(), shards.to_string(), "--config".into(), config];
            let options = CrowdOptions {
                idle: arguments.connections,
                busy: arguments.busy,
                rounds: arguments.rounds,
                body_bytes: arguments.body,
            };
            let report = crowd::run(&command.start()?, &options)?;
            println!("{io}, shards {shards}: {report}");
            runs.push(json!({
                "settings": {
                    "driver": io,
                    "shards": shards,
                    "durability": arguments.durability,
                    "connections": arguments.connections,
                    "busy": arguments.busy,
                    "body": arguments.body,
                },
                "resident_bytes_idle": report.idle_bytes,
                "resident_bytes_with_one_client": report.alone_bytes,
                "resident_bytes_crowded": report.crowded_bytes,
                "resident_bytes_after_traffic": report.busy_bytes,
                "bytes_a_silent_connection": report.bytes_each(),
                "messages_per_second": report.messages as f64 / report.took.as_secs_f64().max(f64::MIN_POSITIVE),
            }));
        }
    }
    if let Some(file) = &arguments.json {
        report::write_runs("crowd", &runs, file)?;
    }
    Ok(true)
}

fn run_kill(arguments: &KillArguments) -> Verdict {
    let folder = tempfile::Builder::new().prefix("tenpin-kill-").tempdir_in(&arguments.folder)?;
    let program = arguments::program(&arguments.spawn)?;
    let mut command = BrokerCommand::new(&program, &folder.path().join("data"));
    command.io.clone_from(&arguments.driver);
    command.durability.clone_from(&arguments.durability);
    command.arguments.clone_from(&arguments.broker_arguments);
    let seed = arguments.seed.unwrap_or_else(payload::new_origin);
    println!("seed {seed}");
    let options = KillOptions {
        command,
        kills: arguments.kills,
        connections: arguments.connections.max(1),
        body_bytes_max: arguments.body.most(),
        seed,
        verbose: true,
    };
    let report = kill::run(&options)?;
    println!("{report}");
    if let Some(file) = &arguments.json {
        let run = json!({
            "settings": {
                "driver": arguments.driver,
                "durability": arguments.durability,
                "broker_arguments": arguments.broker_arguments,
                "connections": options.connections,
                "body_bytes_max": options.body_bytes_max,
                "seed": seed,
            },
            "kills": report.kills,
            "kills_while_starting": report.kills_while_starting,
            "sends_acknowledged": report.totals.acknowledged,
            "deletes_acknowledged": report.totals.deleted,
            "received": report.totals.received,
            "redelivered": report.totals.redelivered,
            "promises_broken": report.totals.violations,
            "recovered_ms_max": report.recovery_longest.as_secs_f64() * 1e3,
        });
        report::write_runs("kill", &[run], file)?;
    }
    let is_kept = report.totals.violations == 0;
    if !is_kept {
        println!("the data folder is kept: {}", folder.keep().display());
    }
    Ok(is_kept)
}

/// Prints the table, writes the JSON, and says whether all went well.
pub(crate) fn finish(command: &str, report: &Report, arguments: &ReportArguments) -> Verdict {
    println!("\n{}\n{}", report.table(), report.foot());
    if let Some(file) = &arguments.json {
        report.write_json(command, Path::new(file))?;
    }
    Ok(report.is_clean())
}
