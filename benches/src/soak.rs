//! A long load with everything in it, looked at from beside: memory and disk must come to rest.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::chart::{self, Line};
use crate::load::{self, LoadOptions, Variant};
use crate::measure;
use crate::report::Record;

/// How often memory and disk are looked at.
const SAMPLE: Duration = Duration::from_secs(5);

/// Memory and disk may grow by so much from the first half of a run to the second.
const GROWTH_MAX: f64 = 1.10;

/// And by so many bytes whatever they were, for they move by pages and segments.
const GROWTH_BYTES: u64 = 64 << 20;

/// What to do.
#[derive(Debug, Clone)]
pub struct SoakOptions {
    /// The load, with a rate.
    pub load: LoadOptions,
}

/// Memory, disk and throughput at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Since the run's start.
    pub seconds: u64,
    /// Memory of the broker.
    pub resident_bytes: u64,
    /// Bytes of the files in its data folder.
    pub disk_bytes: u64,
    /// Messages sent, received and deleted each second since the sample before.
    pub lifecycles_per_second: f64,
}

/// Whether memory and disk came to rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bounded {
    /// The most in the second quarter of the run.
    pub before: (u64, u64),
    /// The most in the last quarter.
    pub after: (u64, u64),
    /// Whether there were enough samples to tell.
    pub is_judged: bool,
}

impl Bounded {
    /// Of samples of a whole run.
    pub fn of(samples: &[Sample]) -> Self {
        let quarter = samples.len() / 4;
        let most = |samples: &[Sample]| {
            let memory = samples.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0);
            let disk = samples.iter().map(|sample| sample.disk_bytes).max().unwrap_or(0);
            (memory, disk)
        };
        Bounded {
            before: most(&samples[quarter..2 * quarter]),
            after: most(&samples[samples.len() - quarter..]),
            is_judged: quarter > 0,
        }
    }

    /// Whether neither has grown.
    pub fn is_bounded(&self) -> bool {
        let grew = |before: u64, after: u64| {
            after > before + GROWTH_BYTES && after as f64 > before as f64 * GROWTH_MAX
        };
        !grew(self.before.0, self.after.0) && !grew(self.before.1, self.after.1)
    }
}

impl fmt::Display for Bounded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_judged {
            return formatter.write_str("too short to tell whether memory and disk come to rest");
        }
        let mib = |bytes: u64| bytes >> 20;
        write!(
            formatter,
            "at most in the second quarter of the run and in the last: {} and {} MiB resident, {} and {} MiB on disk",
            mib(self.before.0),
            mib(self.after.0),
            mib(self.before.1),
            mib(self.after.1),
        )?;
        if self.is_bounded() { Ok(()) } else { formatter.write_str("\nFAULT: they grow") }
    }
}

/// What a soak has shown.
#[derive(Debug, Clone)]
pub struct Soaked {
    /// Its figures.
    pub record: Record,
    /// Whether memory and disk came to rest.
    pub bounded: Bounded,
    /// Over time.
    pub samples: Vec<Sample>,
}

/// Loads a broker once, for long.
pub fn run(options: &SoakOptions, variant: &Variant, run: u32) -> io::Result<Soaked> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = (Duration::ZERO, 0);
    let length = options.load.warm_up + options.load.length;
    let mut record = load::run_once("soak", &options.load, variant, run, &mut |moment| {
        // What is drained at the end is no part of the load.
        if moment.since < seen.0 + SAMPLE || moment.since >= length {
            return;
        }
        let memory = moment.pid.and_then(|pid| measure::process_memory(pid).ok()).unwrap_or_default();
        let passed = moment.since - seen.0;
        samples.push(Sample {
            seconds: moment.since.as_secs(),
            resident_bytes: memory.resident_bytes,
            disk_bytes: moment.folder.map_or(0, bytes_below),
            lifecycles_per_second: (moment.deleted - seen.1) as f64 / passed.as_secs_f64(),
        });
        seen = (moment.since, moment.deleted);
    })?;
    let bounded = Bounded::of(&samples);
    record.more = json!({ "samples": samples, "bounded": bounded, "is_bounded": bounded.is_bounded() });
    Ok(Soaked { record, bounded, samples })
}

/// Memory, disk and throughput over time, under each other.
pub fn chart(samples: &[Sample]) -> String {
    let over_time = |name: &str, figure: &dyn Fn(&Sample) -> f64| Line {
        name: name.into(),
        points: samples.iter().map(|sample| (sample.seconds as f64 / 60.0, figure(sample))).collect(),
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let panels = [
        over_time("resident memory, GiB", &|sample| gib(sample.resident_bytes)),
        over_time("data folder on disk, GiB", &|sample| gib(sample.disk_bytes)),
        over_time("messages sent, received and deleted a second", &|sample| sample.lifecycles_per_second),
    ];
    chart::panels("A broker under load for long", "minutes", &panels)
}

/// Bytes that the files below a folder take on disk; what goes away meanwhile is not counted.
fn bytes_below(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_on_is_a_fault_and_what_comes_to_rest_is_not() {
        let samples = |memory: &dyn Fn(u64) -> u64| -> Vec<Sample> {
            (0..40)
                .map(|at| Sample {
                    seconds: at * 5,
                    resident_bytes: memory(at) << 20,
                    disk_bytes: 1 << 30,
                    lifecycles_per_second: 1.0,
                })
                .collect()
        };
        assert!(Bounded::of(&samples(&|at| 100 + at.min(10) * 50)).is_bounded());
        assert!(!Bounded::of(&samples(&|at| 100 + at * 50)).is_bounded());
        assert!(!Bounded::of(&samples(&|at| at)[..3]).is_judged);
    }
}
