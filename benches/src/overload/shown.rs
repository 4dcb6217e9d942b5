//! What came out of an overload, as a table, as charts, and as a verdict.

use super::search::is_kept;
use crate::chart::{self, Axes, Line, Scale};
use crate::report::{Percentiles, Record, Report, aligned};

/// Above the rate that it keeps up with, a broker has to do this share of the most that it ever does.
const HELD_MIN: f64 = 0.9;

/// A share of that rate, over all runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) share: u64,
    /// Messages a second: those that were to be sent, those that were, and those that were received and deleted too.
    pub(super) offered: f64,
    pub(super) handed_over: f64,
    pub(super) done: f64,
    /// Processor time of the broker for each of the last, which tells on a busy machine, too, whether it does more
    /// work for less.
    pub(super) broker_us: f64,
    /// Of the run with the shortest tail, as its host disturbed it least; of all messages that were sent while it
    /// was measured.
    pub(super) latency_us: Percentiles,
    pub(super) late_ms: f64,
    /// Of all runs together.
    pub(super) refused: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) resident_mib_max: f64,
    /// Whether the client had no time left, in any run.
    pub(super) client_was_busy: bool,
}

/// A variant's name at a share.
pub(super) fn name(variant: &str, share: u64) -> String {
    format!("{variant} at {share} %")
}

impl Row {
    /// Of a variant's runs at a share; none where it has none.
    pub(super) fn of(report: &Report, variant: &str, share: u64) -> Option<Self> {
        let name = name(variant, share);
        let best = report.best(&name)?;
        let median = |figure: &dyn Fn(&Record) -> f64| report.spread(&name, figure).median;
        let more = |record: &Record, part: &str, field: &str| record.more[part][field].as_f64();
        let records = || report.records.iter().filter(|record| record.variant == name);
        let sum = |figure: fn(&Record) -> u64| records().map(figure).sum();
        Some(Row {
            share,
            offered: more(best, "overload", "offered_per_second").unwrap_or(f64::NAN),
            handed_over: median(&|record| {
                more(record, "timetable", "handed_over_per_second").unwrap_or(f64::NAN)
            }),
            done: median(&|record| record.lifecycles_per_second),
            broker_us: median(&|record| record.broker_cpu_us_per_message.unwrap_or(f64::NAN)),
            latency_us: best.latency_us,
            late_ms: best.client_late_us.map_or(f64::NAN, |late| late.p99 / 1e3),
            refused: sum(|record| record.account.refused + record.account.refused_allowed),
            lost: sum(|record| record.account.lost),
            duplicated: sum(|record| record.account.duplicated),
            resident_mib_max: median(&|record| {
                record.broker_resident_bytes_max.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20))
            }),
            client_was_busy: records().any(|record| record.limited_by_client),
        })
    }

    /// What kept it from doing more.
    fn limit(&self) -> &'static str {
        match (is_kept(self.offered, self.done), self.client_was_busy) {
            (true, _) => "the rate",
            (false, true) => "THE CLIENT",
            (false, false) => "the broker",
        }
    }
}

/// The most that was done at any share.
pub(super) fn peak(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.done).fold(0.0, f64::max)
}

/// Whether throughput holds above what is kept up with, and in words how far it fell.
pub(super) fn judged(variant: &str, rows: &[Row]) -> (bool, String) {
    let peak = peak(rows);
    // What is done of a rate that is kept is no limit, however far above the one that was looked for or given.
    let above = || rows.iter().filter(|row| row.share > 100 && !is_kept(row.offered, row.done));
    let Some(worst) = above().min_by(|one, other| one.done.total_cmp(&other.done)) else {
        return (true, format!("{variant}: nothing was offered that it did not keep up with"));
    };
    let most = above().map(|row| row.share).max().unwrap_or_default();
    let is_held = worst.done > HELD_MIN * peak;
    let mut told = format!(
        "{variant}: up to {most} % of what it keeps up with it does at least {:.0} % of its peak of {peak:.0}/s (at {} %): {}",
        100.0 * worst.done / peak,
        worst.share,
        if is_held { "throughput holds" } else { "THROUGHPUT DOES NOT HOLD" },
    );
    let by_client: Vec<String> =
        above().filter(|row| row.limit() == "THE CLIENT").map(|row| format!("{} %", row.share)).collect();
    if !by_client.is_empty() {
        told.push_str(&format!(
            "; the client had no time left at {}, so the broker may have been asked for less there",
            by_client.join(", ")
        ));
    }
    (is_held, told)
}

/// A row for each share of each variant.
pub(super) fn table(all: &[(&str, Vec<Row>)]) -> String {
    const COLUMNS: usize = 16;
    let header = [
        "",
        "offered/s",
        "sent/s",
        "lifecycles/s",
        "of the peak",
        "broker µs",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p99.99 µs",
        "sent late ms (p99)",
        "refused",
        "lost",
        "twice",
        "broker MiB",
        "limit",
    ];
    let mut rows: Vec<[String; COLUMNS]> = vec![header.map(str::to_owned)];
    for (variant, own) in all {
        let peak = peak(own);
        for row in own {
            let Percentiles { p50, p99, p999, p9999, .. } = row.latency_us;
            rows.push([
                name(variant, row.share),
                format!("{:.0}", row.offered),
                format!("{:.0}", row.handed_over),
                format!("{:.0}", row.done),
                format!("{:.1} %", 100.0 * row.done / peak),
                format!("{:.3}", row.broker_us),
                format!("{p50:.0}"),
                format!("{p99:.0}"),
                format!("{p999:.0}"),
                format!("{p9999:.0}"),
                format!("{:.1}", row.late_ms),
                row.refused.to_string(),
                row.lost.to_string(),
                row.duplicated.to_string(),
                format!("{:.0}", row.resident_mib_max),
                row.limit().to_owned(),
            ]);
        }
    }
    aligned(&rows)
}

/// What is done over what is offered, which no line can be above.
pub(super) fn throughput_chart(all: &[(&str, Vec<Row>)]) -> String {
    let mut lines = Vec::new();
    for (variant, rows) in all {
        let line = |name: String, figure: fn(&Row) -> f64| Line {
            name,
            points: rows.iter().map(|row| (row.share as f64, figure(row))).collect(),
        };
        lines.push(line(format!("{variant}: sent, received and deleted"), |row| row.done));
        lines.push(line(format!("{variant}: offered"), |row| row.offered));
    }
    drawn(
        "Messages sent, received and deleted over what is offered",
        "messages/s",
        Scale::Linear,
        all,
        &lines,
    )
}

/// Percentiles over what is offered.
pub(super) fn latency_chart(all: &[(&str, Vec<Row>)]) -> String {
    let mut lines = Vec::new();
    for (variant, rows) in all {
        for percentile in ["p50", "p99", "p99.9", "p99.99"] {
            let of_row = |row: &Row| {
                let (_, us) = row.latency_us.points().into_iter().find(|(name, _)| *name == percentile)?;
                Some((row.share as f64, us))
            };
            let points = rows.iter().filter_map(of_row).collect();
            lines.push(Line { name: format!("{variant}, {percentile}"), points });
        }
    }
    drawn("From a message's intended send time to its receipt", "µs", Scale::Logarithmic, all, &lines)
}

fn drawn(title: &str, up: &str, scale: Scale, all: &[(&str, Vec<Row>)], lines: &[Line]) -> String {
    let shares = all.first().map_or(&[][..], |(_, rows)| rows);
    let ticks = shares.iter().map(|row| (row.share as f64, row.share.to_string())).collect();
    let across = "offered, in % of the rate that it just keeps up with";
    chart::lines(&Axes { title, across, up, ticks, scale }, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(share: u64, done: f64) -> Row {
        Row { share, offered: share as f64 * 1_000.0, done, ..Row::default() }
    }

    #[test]
    fn throughput_that_falls_above_saturation_is_told() {
        let rows = [row(50, 50_000.0), row(100, 99_000.0), row(150, 102_000.0), row(200, 95_000.0)];
        let (is_held, told) = judged("b", &rows);
        assert!(is_held && told.contains("at least 93 % of its peak of 102000/s (at 200 %)"), "{told}");
        let falling = [row(50, 50_000.0), row(100, 100_000.0), row(150, 80_000.0), row(200, 95_000.0)];
        let (is_held, told) = judged("b", &falling);
        assert!(!is_held && told.contains("80 % of its peak") && told.contains("(at 150 %)"), "{told}");
    }

    #[test]
    fn little_work_below_saturation_is_no_fall() {
        assert!(judged("b", &[row(10, 10_000.0), row(200, 100_000.0)]).0);
    }

    #[test]
    fn a_rate_that_is_kept_is_no_fall_either() {
        assert!(judged("b", &[row(100, 100_000.0), row(150, 150_000.0), row(200, 200_000.0)]).0);
        assert!(judged("b", &[row(100, 100_000.0), row(150, 150_000.0), row(200, 180_000.0)]).0);
    }

    #[test]
    fn a_client_without_time_is_told() {
        let rows = [row(100, 100_000.0), Row { client_was_busy: true, ..row(200, 98_000.0) }];
        let (is_held, told) = judged("b", &rows);
        assert!(is_held && told.contains("the client had no time left at 200 %"), "{told}");
        // Who is busy and keeps to the timetable limits nothing.
        let kept = Row { client_was_busy: true, ..row(100, 100_000.0) };
        assert_eq!(
            [kept.limit(), rows[1].limit(), row(150, 100_000.0).limit()],
            ["the rate", "THE CLIENT", "the broker"]
        );
    }

    #[test]
    fn rows_are_medians_and_sums_of_runs() {
        use crate::load::Account;
        use serde_json::json;
        let mut report = Report::default();
        for (done, refused) in [(90.0, 1), (110.0, 0), (100.0, 2)] {
            let account = Account { refused_allowed: refused, ..Account::default() };
            let more = json!({
                "overload": { "offered_per_second": 200 },
                "timetable": { "handed_over_per_second": done + 1.0 },
            });
            report.records.push(Record {
                variant: name("b", 200),
                lifecycles_per_second: done,
                account,
                more,
                ..Record::default()
            });
        }
        let row = Row::of(&report, "b", 200).expect("there are runs");
        assert_eq!((row.done, row.handed_over, row.offered, row.refused), (100.0, 101.0, 200.0, 3));
        assert!(Row::of(&report, "b", 100).is_none());
        assert!(table(&[("b", vec![row])]).contains("100.0 %"));
    }
}
