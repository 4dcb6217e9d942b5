//! What a broker does when more is asked of it than it can do: it has to hold clients back, and go on as fast as it can.
//!
//! First the rate is looked for that the broker just keeps up with. Then messages are sent by timetables of shares of
//! that rate, from half of it to twice as much. The timetable does not wait for the broker: what is held back is sent
//! late, and each message's time counts from when it was to be sent. What is due and not sent yet is arithmetic, so
//! that nothing grows at the client.

mod search;
mod shown;

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::shown::Row;
use crate::arguments::{BrokerArguments, LoadArguments, RateChartArguments, ReportArguments};
use crate::commands::Verdict;
use crate::load::{self, LoadOptions, Variant};
use crate::measure;
use crate::report::{Record, Report};

/// How long one rate is tried while the one is looked for that the broker keeps up with.
const TRY: Duration = Duration::from_millis(1_500);

/// Before that.
const TRY_WARM_UP: Duration = Duration::from_millis(500);

/// Of `overload`.
#[derive(Debug, Args)]
pub struct OverloadArguments {
    /// Which broker.
    #[command(flatten)]
    pub broker: BrokerArguments,
    /// Which load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Connections that send, and as many that receive.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Receives that wait on each receiving connection.
    #[arg(long, default_value_t = 32)]
    pub depth: usize,
    /// Batches under way on each sending connection, at most: the 16 of the client library's producer; 0: as many
    /// as its socket takes, as by clients that nothing but the broker holds back.
    #[arg(long, default_value_t = 16)]
    pub under_way: usize,
    /// Rates, in percent of the one that the broker just keeps up with.
    #[arg(long, value_delimiter = ',', default_value = "50,75,90,100,110,125,150,200",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub shares: Vec<u64>,
    /// That rate, in messages a second; looked for if not given.
    #[arg(long)]
    pub keeps_up_with: Option<u64>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArguments,
    /// Where throughput and latency over rate are drawn.
    #[command(flatten)]
    pub drawing: RateChartArguments,
}

/// Looks for the rate, then runs all shares of it in turn, as many times as there are runs.
pub fn run(arguments: &OverloadArguments) -> Verdict {
    let load = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        under_way_max: arguments.under_way,
        is_overload: true,
        messages: None,
        ..arguments.load.options(arguments.broker.core_of_client())?
    };
    let mut report = Report::default();
    println!("{}", measure::machine());
    let variants = arguments.broker.variants()?;
    let mut rates = Vec::new();
    for variant in &variants {
        let rate = match arguments.keeps_up_with {
            Some(rate) => rate.max(1),
            None => search::most_kept(|rate| keeps_up(&load, variant, rate))?,
        };
        println!("{}: keeps up with {rate} messages/s", variant.name);
        rates.push(rate);
    }
    for run in 1..=arguments.report.runs.max(1) {
        for share in &arguments.shares {
            for (variant, rate) in variants.iter().zip(&rates) {
                let offered = (rate * share / 100).max(1);
                let options = LoadOptions { rate: Some(offered), ..load.clone() };
                if run == 1 && Some(share) == arguments.shares.first() {
                    println!("{}", options.told());
                }
                let mut record = load::run_once("overload", &options, variant, run, &mut load::blind)?;
                record.variant = shown::name(&variant.name, *share);
                record.more["overload"] =
                    json!({ "keeps_up_with": rate, "share_percent": share, "offered_per_second": offered });
                println!("{}", record.told());
                report.records.push(record);
            }
        }
    }
    finish(arguments, &variants, &mut report)
}

/// Tells and draws what came out.
fn finish(arguments: &OverloadArguments, variants: &[Variant], report: &mut Report) -> Verdict {
    let mut holds = true;
    let mut all = Vec::new();
    for variant in variants {
        let rows: Vec<Row> =
            arguments.shares.iter().filter_map(|share| Row::of(report, &variant.name, *share)).collect();
        let peak = shown::peak(&rows);
        for share in &arguments.shares {
            let name = shown::name(&variant.name, *share);
            for record in report.records.iter_mut().filter(|record| record.variant == name) {
                record.more["overload"]["share_of_peak"] = json!(record.lifecycles_per_second / peak);
            }
        }
        let (is_held, told) = shown::judged(&variant.name, &rows);
        holds &= is_held;
        report.notes.push(told);
        all.push((variant.name.as_str(), rows));
    }
    println!("\n{}\n{}", shown::table(&all), report.foot());
    arguments.drawing.draw(|| shown::throughput_chart(&all), || shown::latency_chart(&all))?;
    if let Some(file) = &arguments.report.json {
        report.write_json("overload", file)?;
    }
    Ok(report.is_clean() && holds)
}

/// Whether a broker keeps up with a rate. What happens at a moment of the host's is tried again.
fn keeps_up(load: &LoadOptions, variant: &Variant, rate: u64) -> io::Result<bool> {
    for run in 1..=2 {
        let options = LoadOptions { rate: Some(rate), warm_up: TRY_WARM_UP, length: TRY, ..load.clone() };
        let record: Record = load::run_once("overload", &options, variant, run, &mut load::blind)?;
        println!("  tried {rate}/s: {:.0}/s", record.lifecycles_per_second);
        if !record.is_clean() {
            return Err(io::Error::other(format!("at {rate}/s: {}", record.account)));
        }
        if search::is_kept(rate as f64, record.lifecycles_per_second) {
            return Ok(true);
        }
    }
    Ok(false)
}
