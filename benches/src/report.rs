//! What a run is reported as: figures with their settings, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};

use crate::load::Account;
use crate::measure;

/// Percentiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the samples took no longer.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// 99.99 %.
    pub p9999: f64,
    /// The longest.
    pub max: f64,
    /// How many there were.
    pub samples: u64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds; of none nothing is known.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            let none = f64::NAN;
            return Percentiles {
                p50: none,
                p90: none,
                p99: none,
                p999: none,
                p9999: none,
                max: none,
                samples: 0,
            };
        }
        let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            p9999: us(0.9999),
            max: histogram.max() as f64 / 1e3,
            samples: histogram.len(),
        }
    }

    /// As points of a line over percentiles: name and microseconds.
    pub fn points(&self) -> [(&'static str, f64); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ]
    }
}

/// Round trips of each kind of request, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RequestTimes {
    /// Of sends.
    pub send: Percentiles,
    /// Of receives, their waiting included.
    pub receive: Percentiles,
    /// Of deletes.
    pub delete: Percentiles,
}

/// What the host took away while a run was on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HostGaps {
    /// How many pauses there were.
    pub count: u64,
    /// All of them together, in milliseconds.
    pub total_ms: f64,
    /// The longest, in milliseconds.
    pub longest_ms: f64,
    /// Whether nothing but the host can have made them.
    pub real_time: bool,
}

/// One run's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Record {
    /// The command: throughput, latency …
    pub command: String,
    /// What was measured: shards, driver and durability, or a peer.
    pub variant: String,
    /// Which run of the variant, from 1.
    pub run: u32,
    /// All that decides the load.
    pub settings: Value,
    /// Messages sent, received and deleted each second.
    pub lifecycles_per_second: f64,
    /// Processor time of the broker's process for each of them; none where the process is not known.
    pub broker_cpu_us_per_message: Option<f64>,
    /// Processor time of the client for each of them.
    pub client_cpu_us_per_message: f64,
    /// Share of a core that the broker's process used.
    pub broker_cores_used: Option<f64>,
    /// Share of a core that the client used.
    pub client_cores_used: f64,
    /// Whether the client was the limit: it had no time left, and the broker had.
    pub limited_by_client: bool,
    /// What became of the messages.
    #[serde(flatten)]
    pub account: Account,
    /// From a message's intended send time to its receipt with a rate; else of all requests.
    pub latency_us: Percentiles,
    /// The same of what overlapped a host's gap.
    pub latency_in_gaps_us: Percentiles,
    /// Round trips.
    pub requests_us: RequestTimes,
    /// How late the client itself sent, with a rate.
    pub client_late_us: Option<Percentiles>,
    /// The most memory the broker has ever had resident.
    pub broker_resident_bytes_max: Option<u64>,
    /// Bytes over the connections in both directions for each message.
    pub wire_bytes_per_message: f64,
    /// Bytes that the broker wrote to disk for each message.
    pub disk_bytes_per_message: Option<f64>,
    /// System calls of the broker for each message; none where perf may not count them.
    pub syscalls_per_message: Option<f64>,
    /// Of the minute before the run.
    pub load_average: f64,
    /// Pauses in which the host gave no time; none where nothing looked for them while the run was on.
    pub host_gaps: Option<HostGaps>,
    /// Whatever only this command tells.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub more: Value,
}

impl Record {
    /// Whether nothing happened that the semantics do not allow.
    pub fn is_clean(&self) -> bool {
        self.account.is_clean()
    }

    /// The lines that a person reads when the run ends.
    pub fn told(&self) -> String {
        let mut text = format!("{:<22} {:>10.0}/s", self.variant, self.lifecycles_per_second);
        if let Some(us) = self.broker_cpu_us_per_message {
            let _ = write!(text, "  broker {us:.3} µs");
        }
        let _ = write!(text, "  client {:.3} µs", self.client_cpu_us_per_message);
        let Percentiles { p50, p99, p999, p9999, max, samples, .. } = self.latency_us;
        let _ = match samples {
            0 => write!(text, "  no request outside of gaps"),
            _ => write!(
                text,
                "  {p50:.0} / {p99:.0} / {p999:.0} / {p9999:.0} / {max:.0} µs (p50 to p99.99, max)"
            ),
        };
        let _ = write!(text, "  load {:.1}", self.load_average);
        let _ = match self.host_gaps {
            None => write!(text, "\n{:>22} gaps were looked for before the run only", ""),
            Some(HostGaps { count, total_ms, longest_ms, real_time }) => {
                let whose = if real_time { "" } else { ", with what other processes took" };
                write!(
                    text,
                    "\n{:>22} {count} gaps of {total_ms:.1} ms in all, longest {longest_ms:.1} ms{whose}",
                    "",
                )
            }
        };
        let Percentiles { samples, max, .. } = self.latency_in_gaps_us;
        if samples > 0 {
            let _ = write!(text, "; {samples} samples in them, at most {max:.0} µs");
        }
        if let Some(calls) = self.syscalls_per_message {
            let _ = write!(text, "; {calls:.3} system calls a message");
        }
        if let Some(late) = self.client_late_us {
            let _ = write!(text, "; client late by {:.0} µs (p99)", late.p99);
        }
        if self.limited_by_client {
            let _ = write!(text, "\n{:>22} THE CLIENT IS THE LIMIT: the broker had time left", "");
        }
        if !self.is_clean() {
            let _ = write!(text, "\n{:>22} FAULT: {}", "", self.account);
        }
        text
    }
}

/// All that one command has measured.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they ran.
    pub records: Vec<Record>,
    /// What else is worth a line: peers that are missing, figures that could not be taken.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether every run was as it has to be.
    pub fn is_clean(&self) -> bool {
        self.records.iter().all(Record::is_clean)
    }

    /// The names of the variants, in the order in which they came first.
    pub fn variants(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for record in &self.records {
            if !names.contains(&record.variant.as_str()) {
                names.push(&record.variant);
            }
        }
        names
    }

    /// Median, least and most of a figure over a variant's runs.
    pub fn spread(&self, variant: &str, figure: impl Fn(&Record) -> f64) -> Spread {
        Spread::of(self.records.iter().filter(|record| record.variant == variant).map(figure))
    }

    /// Of several runs of a variant, the one with the shortest tail: the others met more of the neighbours.
    pub fn best(&self, variant: &str) -> Option<&Record> {
        self.records
            .iter()
            .filter(|record| record.variant == variant)
            .min_by(|one, other| one.latency_us.p999.total_cmp(&other.latency_us.p999))
    }

    /// A plain table: a row for each variant, medians with least and most.
    pub fn table(&self) -> String {
        const COLUMNS: usize = 9;
        let header = [
            "",
            "lifecycles/s",
            "broker µs",
            "client µs",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "p99.99 µs",
            "max µs",
        ];
        let mut rows: Vec<[String; COLUMNS]> = vec![header.map(str::to_owned)];
        for variant in self.variants() {
            let spread = |digits: usize, figure: &dyn Fn(&Record) -> f64| {
                format!("{:.digits$}", self.spread(variant, figure))
            };
            rows.push([
                variant.to_owned(),
                spread(0, &|record| record.lifecycles_per_second),
                spread(3, &|record| record.broker_cpu_us_per_message.unwrap_or(f64::NAN)),
                spread(3, &|record| record.client_cpu_us_per_message),
                spread(0, &|record| record.latency_us.p50),
                spread(0, &|record| record.latency_us.p99),
                spread(0, &|record| record.latency_us.p999),
                spread(0, &|record| record.latency_us.p9999),
                spread(0, &|record| record.latency_us.max),
            ]);
        }
        aligned(&rows)
    }

    /// What stands behind the table: sums of the accounts, and the notes.
    pub fn foot(&self) -> String {
        let sent: u64 = self.records.iter().map(|record| record.account.sent).sum();
        let faulty = self.records.iter().filter(|record| !record.is_clean()).count();
        let mut text = format!("{sent} messages accounted for, {faulty} runs with faults");
        for note in &self.notes {
            let _ = write!(text, "\n{note}");
        }
        text
    }

    /// Everything, as JSON.
    pub fn json(&self, command: &str) -> Value {
        whole(command, &self.notes, &self.records)
    }

    /// Writes the JSON to a file.
    pub fn write_json(&self, command: &str, file: &Path) -> io::Result<()> {
        write(&self.json(command), file)
    }
}

/// What a command has measured that is no load, as JSON to a file.
pub fn write_runs(command: &str, runs: &[Value], file: &Path) -> io::Result<()> {
    write(&whole(command, &[], runs), file)
}

fn whole(command: &str, notes: &[String], runs: &[impl Serialize]) -> Value {
    json!({
        "tool": concat!("tenpin-bench ", env!("CARGO_PKG_VERSION")),
        "command": command,
        "machine": measure::machine(),
        "load_average": measure::load_average(),
        "notes": notes,
        "runs": runs,
    })
}

fn write(json: &Value, file: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(json)?;
    text.push('\n');
    std::fs::write(file, text)
}

/// Columns under each other: the first to the left, the others to the right.
pub fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Median, least and most.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of figures.
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
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

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = formatter.precision().unwrap_or(3);
        let Spread { median, least, most } = self;
        if median.is_nan() {
            formatter.write_str("-")
        } else if least == most {
            write!(formatter, "{median:.digits$}")
        } else {
            write!(formatter, "{median:.digits$} ({least:.digits$}-{most:.digits$})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).median, 1.5);
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0-3.0)");
        assert_eq!(format!("{:.1}", Spread::of([1.0].into_iter())), "1.0");
        assert_eq!(format!("{:.1}", Spread::of(std::iter::empty())), "-");
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=10_000_u64).for_each(|us| histogram.record(us * 1_000).unwrap());
        let Percentiles { p50, p99, p999, p9999, max, samples, .. } = Percentiles::of(&histogram);
        let near = |figure: f64, expected: f64| (figure - expected).abs() / expected < 0.002;
        assert!(near(p50, 5_000.0) && near(p99, 9_900.0) && near(p999, 9_990.0), "{p50} {p99} {p999}");
        assert!(near(p9999, 9_999.0) && near(max, 10_000.0) && samples == 10_000);
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["".into(), "b".into()], ["long µs".into(), "12".into()]];
        assert_eq!(aligned(&rows), "          b\nlong µs  12");
    }
}
