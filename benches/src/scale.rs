//! What a message costs as one thing grows: bodies, batches, connections, queues, groups, a backlog, what is
//! stored on another queue, shards.

use clap::ValueEnum;

use crate::arguments::{BrokerArguments, ScaleArguments};
use crate::chart::{self, Axes, Line, Scale};
use crate::commands::{Verdict, finish, tell};
use crate::load::{self, LoadOptions, Variant};
use crate::measure;
use crate::report::{Record, Report};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// Bytes of each body.
    Body,
    /// Messages a request.
    Batch,
    /// Connections.
    Connections,
    /// Rounds under way on each connection.
    Depth,
    /// Queues that the load is spread over.
    Queues,
    /// Message groups of a FIFO queue.
    Groups,
    /// Messages queued beside.
    Backlog,
    /// Messages that stay stored on another queue.
    Stored,
    /// Shards of the broker.
    Shards,
}

impl Over {
    /// The values where none are given.
    fn usual(self) -> &'static [u64] {
        match self {
            Over::Body => &[64, 256, 1_024, 4_096, 16_384, 65_536],
            Over::Batch => &[1, 2, 5, 10],
            Over::Connections => &[1, 8, 64, 512, 4_096],
            Over::Depth => &[1, 2, 4, 8, 16, 32],
            Over::Queues => &[1, 10, 100, 1_000, 10_000],
            Over::Groups => &[1, 10, 100, 1_000, 10_000, 100_000],
            Over::Backlog => &[0, 1_000, 100_000, 1_000_000],
            Over::Stored => &[0, 1_000_000],
            Over::Shards => &[1, 2, 4],
        }
    }

    /// As it is called in front of a value.
    fn name(self) -> &'static str {
        match self {
            Over::Body => "bodies of",
            Over::Batch => "batches of",
            Over::Connections => "connections",
            Over::Depth => "rounds under way",
            Over::Queues => "queues",
            Over::Groups => "groups",
            Over::Backlog => "queued beside",
            Over::Stored => "stored on another queue",
            Over::Shards => "shards",
        }
    }

    /// The load with this value.
    fn load(self, value: u64, load: &LoadOptions) -> Result<LoadOptions, String> {
        let count = usize::try_from(value).map_err(|_| format!("{value} is too many"))?.max(1);
        let load = load.clone();
        Ok(match self {
            Over::Body => LoadOptions { bodies: value.to_string().parse()?, ..load },
            Over::Batch if value > 10 => return Err(format!("a request has 1 to 10 messages, not {value}")),
            Over::Batch => LoadOptions { batch: count, ..load },
            Over::Connections => LoadOptions { connections: count, ..load },
            Over::Depth => LoadOptions { depth: count, ..load },
            Over::Queues => LoadOptions { queues: count, ..load },
            Over::Groups => LoadOptions { fifo_groups: value.max(1), ..load },
            Over::Backlog => LoadOptions { backlog: value, ..load },
            Over::Stored => LoadOptions { stored: value, ..load },
            Over::Shards => load,
        })
    }

    /// The brokers with this value.
    fn brokers(
        self,
        value: u64,
        broker: &BrokerArguments,
    ) -> Result<Vec<Variant>, Box<dyn std::error::Error>> {
        if self != Over::Shards {
            return broker.variants();
        }
        if broker.address.is_some() {
            return Err("a broker that runs has the shards that it has; leave out --address".into());
        }
        BrokerArguments { shards: vec![u16::try_from(value)?.max(1)], ..broker.clone() }.variants()
    }
}

/// Measures all values in turn, as many times as there are runs.
pub fn run(arguments: &ScaleArguments) -> Verdict {
    measure::raise_file_limit()?;
    let over = arguments.over;
    let values = if arguments.values.is_empty() { over.usual() } else { &arguments.values[..] };
    let load = LoadOptions {
        connections: arguments.connections.max(1),
        depth: arguments.depth.max(1),
        ..arguments.load.options(arguments.broker.core_of_client())?
    };
    println!("{}\n{}", measure::machine(), load.told());
    let mut report = Report::default();
    for run in 1..=arguments.report.runs.max(1) {
        for value in values {
            let options = over.load(*value, &load)?;
            for variant in over.brokers(*value, &arguments.broker)? {
                let mut record = load::run_once("scale", &options, &variant, run, &mut load::blind)?;
                // Shards are in a variant's name already, but for one.
                let name = line_of(over, &variant);
                record.variant = format!("{name}, {} {value}", over.name());
                tell(&record);
                if over == Over::Stored {
                    tell_copied(&record);
                }
                report.records.push(record);
            }
        }
    }
    arguments.drawing.draw(|| chart_of(over, values, &report))?;
    finish("scale", &report, &arguments.report)
}

/// How much of what went to the log cleaning had copied.
fn tell_copied(record: &Record) {
    let bytes = |name: &str| record.more["log"][name].as_u64().unwrap_or_default();
    let (all, copied) = (bytes("bytes"), bytes("copied_bytes"));
    let new = all.saturating_sub(copied).max(1);
    println!(
        "{:23}{} MiB newly written to the log since the start, {:.3} bytes copied for each",
        "",
        new >> 20,
        copied as f64 / new as f64
    );
}

/// What the values of one line of the chart have in common.
fn line_of(over: Over, variant: &Variant) -> &str {
    match over {
        Over::Shards => variant.name.split(',').next().unwrap_or_default(),
        _ => &variant.name,
    }
}

fn chart_of(over: Over, values: &[u64], report: &Report) -> String {
    // Most rows of values grow by a factor.
    let place = |value: u64| (value.max(1) as f64).log10();
    let mut names: Vec<&str> = Vec::new();
    for variant in report.variants() {
        let name = variant.rsplit_once(',').map_or(variant, |(name, _)| name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let cpu = |record: &Record| record.broker_cpu_us_per_message.unwrap_or(f64::NAN);
    let lines: Vec<Line> = names
        .into_iter()
        .map(|name| {
            let of_value = |value: &u64| {
                let variant = format!("{name}, {} {value}", over.name());
                (place(*value), report.spread(&variant, cpu).median)
            };
            Line { name: name.to_owned(), points: values.iter().map(of_value).collect() }
        })
        .collect();
    let across = over.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let axes = Axes {
        title: "Broker CPU for a message sent, received and deleted",
        across: &across,
        up: "µs",
        ticks: values.iter().map(|value| (place(*value), chart::shortly(*value as f64))).collect(),
        scale: Scale::Linear,
    };
    chart::lines(&axes, &lines)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Task};

    fn of(line: &str) -> ScaleArguments {
        let Task::Scale(arguments) = Arguments::parse_from(line.split(' ')).task else { panic!("not scale") };
        arguments
    }

    #[test]
    fn one_thing_grows_and_the_rest_of_the_load_stays() {
        let arguments = of("tenpin-bench scale groups 1,1000 --body 100 --connections 3");
        assert_eq!((arguments.over, &arguments.values[..]), (Over::Groups, &[1, 1_000][..]));
        let load = LoadOptions { connections: 3, ..LoadOptions::default() };
        let grown = Over::Groups.load(1_000, &load).expect("it can be");
        assert_eq!((grown.fifo_groups, grown.connections, grown.batch), (1_000, 3, load.batch));
        assert!(Over::Batch.load(11, &load).is_err());
        assert!(Over::Body.load(3, &load).is_err(), "a body has room for what is checked");
    }

    #[test]
    fn shards_are_the_brokers() {
        let arguments = of("tenpin-bench scale shards --spawn t --durability memory,fsync");
        let brokers = Over::Shards.brokers(2, &arguments.broker).expect("they can be named");
        let names: Vec<&str> = brokers.iter().map(|broker| broker.name.as_str()).collect();
        assert_eq!(names, ["auto memory, 2 shards", "auto fsync, 2 shards"]);
        assert_eq!(line_of(Over::Shards, &brokers[1]), "auto fsync");
    }
}
