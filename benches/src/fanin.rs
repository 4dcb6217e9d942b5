//! Many queues and connections: the load on a few beside many that are only there, or on all of them, against
//! the same load alone.

use crate::arguments::FaninArguments;
use crate::chart::{self, Axes, Line, Scale};
use crate::commands::{Verdict, finish, tell};
use crate::load::{self, LoadOptions, Variant};
use crate::measure;
use crate::report::{Record, Report};

/// One size of the crowd.
struct Size {
    connections: usize,
    queues: usize,
    options: LoadOptions,
}

impl Size {
    /// As it is called behind its variant's name.
    fn name(&self) -> String {
        format!("{} connections, {} queues", self.connections, self.queues)
    }
}

/// Measures all sizes in turn, the load alone first.
pub fn run(arguments: &FaninArguments) -> Verdict {
    measure::raise_file_limit()?;
    let load = LoadOptions {
        depth: arguments.depth.max(1),
        ..arguments.load.options(arguments.broker.core_of_client())?
    };
    let sizes = sizes(arguments, &load);
    println!("{}\nalone: {}", measure::machine(), sizes[0].options.told());
    for size in &sizes[1..] {
        let LoadOptions { idle_connections, idle_queues, .. } = size.options;
        println!(
            "among: {}, {idle_connections} more connections and {idle_queues} more queues",
            size.options.told()
        );
    }
    let variants = arguments.broker.variants()?;
    let mut report = Report::default();
    for run in 1..=arguments.report.runs.max(1) {
        for variant in &variants {
            for size in &sizes {
                let mut record = load::run_once("fanin", &size.options, variant, run, &mut load::blind)?;
                record.variant = format!("{}, {}", variant.name, size.name());
                tell(&record);
                report.records.push(record);
            }
        }
    }
    for variant in &variants {
        let alone = cpu(&report, variant, &sizes[0]);
        for size in &sizes[1..] {
            let among = cpu(&report, variant, size);
            report.notes.push(format!(
                "{}, {}: {among:.3} µs of broker CPU a message, {alone:.3} alone: {:.2} times",
                variant.name,
                size.name(),
                among / alone
            ));
        }
    }
    arguments.drawing.draw(|| chart_of(&report, &variants, &sizes))?;
    finish("fanin", &report, &arguments.report)
}

/// The load alone, then among as many as were asked for.
fn sizes(arguments: &FaninArguments, load: &LoadOptions) -> Vec<Size> {
    let sized = |connections: usize, queues: usize, options: LoadOptions| Size {
        connections,
        queues,
        options: LoadOptions {
            idle_connections: connections - options.connections,
            idle_queues: queues - options.queues,
            ..options
        },
    };
    // Where all are active there is no load to compare with but one of the usual size.
    let alone = match arguments.active {
        0 => LoadOptions { connections: 8, queues: 1, ..load.clone() },
        active => LoadOptions { connections: active, queues: active, ..load.clone() },
    };
    let mut sizes = vec![sized(alone.connections, alone.queues, alone)];
    for (index, connections) in arguments.connections.iter().enumerate() {
        let last = arguments.queues_in_all.last().copied().unwrap_or(1);
        let connections = (*connections).max(1);
        let queues = arguments.queues_in_all.get(index).copied().unwrap_or(last).max(load.queues).max(1);
        let (active, active_queues) = match arguments.active {
            0 => (connections, queues),
            active => (active.min(connections), active.min(queues)),
        };
        let options = LoadOptions { connections: active, queues: active_queues, ..load.clone() };
        sizes.push(sized(connections, queues, options));
    }
    sizes
}

/// Median processor time of the broker for a message.
fn cpu(report: &Report, variant: &Variant, size: &Size) -> f64 {
    let cpu = |record: &Record| record.broker_cpu_us_per_message.unwrap_or(f64::NAN);
    report.spread(&format!("{}, {}", variant.name, size.name()), cpu).median
}

fn chart_of(report: &Report, variants: &[Variant], sizes: &[Size]) -> String {
    // Sizes differ a hundredfold, what they cost does not.
    let place = |size: &Size| (size.connections as f64).log10();
    let name = |size: &Size| {
        let (connections, queues) = (size.connections as f64, size.queues as f64);
        format!("{} / {}", chart::shortly(connections), chart::shortly(queues))
    };
    let lines: Vec<Line> = variants
        .iter()
        .map(|variant| {
            let points = sizes.iter().map(|size| (place(size), cpu(report, variant, size)));
            Line { name: variant.name.clone(), points: points.collect() }
        })
        .collect();
    let axes = Axes {
        title: "Broker CPU for a message sent, received and deleted",
        across: "connections / queues that are there; the first is the load alone",
        up: "µs",
        ticks: sizes.iter().map(|size| (place(size), name(size))).collect(),
        scale: Scale::Linear,
    };
    chart::lines(&axes, &lines)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Task};

    fn of(line: &str) -> Vec<(usize, usize, usize, usize)> {
        let Task::Fanin(arguments) = Arguments::parse_from(line.split(' ')).task else { panic!("not fanin") };
        let sizes = sizes(&arguments, &LoadOptions::default());
        let told = sizes.iter().map(|size| {
            let LoadOptions { connections, queues, .. } = size.options;
            (size.connections, size.queues, connections, queues)
        });
        told.collect()
    }

    #[test]
    fn the_load_stays_the_same_however_many_are_beside_it() {
        let sizes = of("tenpin-bench fanin --connections 100,1000 --queues-in-all 5");
        assert_eq!(sizes, [(16, 16, 16, 16), (100, 5, 16, 5), (1_000, 5, 16, 5)]);
        let sizes = of("tenpin-bench fanin --active 0 --connections 100 --queues-in-all 1");
        assert_eq!(sizes, [(8, 1, 8, 1), (100, 1, 100, 1)]);
    }
}
