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
    /// Memory of the broker, where its process is known.
    pub resident_bytes: Option<u64>,
    /// Bytes of the files in its data folder, where that is known.
    pub disk_bytes: Option<u64>,
    /// Messages sent, received and deleted each second since the sample before.
    pub lifecycles_per_second: f64,
}

/// Whether memory and disk came to rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bounded {
    /// The most in the second quarter of the run.
    pub before: (Option<u64>, Option<u64>),
    /// The most in the last quarter.
    pub after: (Option<u64>, Option<u64>),
    /// Whether there were enough samples to tell, with the broker's memory in them.
    pub is_judged: bool,
}

impl Bounded {
    /// Of samples of a whole run.
    pub fn of(samples: &[Sample]) -> Self {
        let quarter = samples.len() / 4;
        let most = |samples: &[Sample]| {
            let memory = samples.iter().filter_map(|sample| sample.resident_bytes).max();
            let disk = samples.iter().filter_map(|sample| sample.disk_bytes).max();
            (memory, disk)
        };
        let before = most(&samples[quarter..2 * quarter]);
        let after = most(&samples[samples.len() - quarter..]);
        Bounded { before, after, is_judged: before.0.is_some() && after.0.is_some() }
    }

    /// Whether neither has grown, as far as they were looked at; none where that is not judged.
    pub fn is_bounded(&self) -> Option<bool> {
        let grew = |before: Option<u64>, after: Option<u64>| {
            before.zip(after).is_some_and(|(before, after)| {
                after > before + GROWTH_BYTES && after as f64 > before as f64 * GROWTH_MAX
            })
        };
        let is_bounded = !grew(self.before.0, self.after.0) && !grew(self.before.1, self.after.1);
        self.is_judged.then_some(is_bounded)
    }
}

impl fmt::Display for Bounded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(is_bounded) = self.is_bounded() else {
            return formatter.write_str(
                "NOT JUDGED whether memory and disk come to rest: the run is too short, or the broker's process is \
                 not known (--pid)",
            );
        };
        formatter.write_str("at most in the second quarter of the run and in the last: ")?;
        for (name, before, after) in
            [("resident", self.before.0, self.after.0), ("on disk", self.before.1, self.after.1)]
        {
            match before.zip(after) {
                Some((before, after)) => {
                    write!(formatter, "{} and {} MiB {name}; ", before >> 20, after >> 20)?;
                }
                None => write!(formatter, "{name} not known; ")?,
            }
        }
        formatter.write_str(if is_bounded { "they come to rest" } else { "\nFAULT: they grow" })
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
        let memory = moment.pid.and_then(|pid| measure::process_memory(pid).ok());
        let passed = moment.since - seen.0;
        samples.push(Sample {
            seconds: moment.since.as_secs(),
            resident_bytes: memory.map(|memory| memory.resident_bytes),
            disk_bytes: moment.folder.map(bytes_below),
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
    let over_time = |name: &str, figure: &dyn Fn(&Sample) -> Option<f64>| Line {
        name: name.into(),
        points: samples
            .iter()
            .filter_map(|sample| Some((sample.seconds as f64 / 60.0, figure(sample)?)))
            .collect(),
    };
    let gib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / f64::from(1 << 30));
    let panels = [
        over_time("resident memory, GiB", &|sample| gib(sample.resident_bytes)),
        over_time("data folder on disk, GiB", &|sample| gib(sample.disk_bytes)),
        over_time("messages sent, received and deleted a second", &|sample| {
            Some(sample.lifecycles_per_second)
        }),
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
                    resident_bytes: Some(memory(at) << 20),
                    disk_bytes: Some(1 << 30),
                    lifecycles_per_second: 1.0,
                })
                .collect()
        };
        assert_eq!(Bounded::of(&samples(&|at| 100 + at.min(10) * 50)).is_bounded(), Some(true));
        assert_eq!(Bounded::of(&samples(&|at| 100 + at * 50)).is_bounded(), Some(false));
        assert_eq!(Bounded::of(&samples(&|at| at)[..3]).is_bounded(), None, "it is too short");
        let mut of_a_stranger = samples(&|at| at);
        of_a_stranger.iter_mut().for_each(|sample| sample.resident_bytes = None);
        let bounded = Bounded::of(&of_a_stranger);
        assert_eq!(bounded.is_bounded(), None, "its memory is not known");
        assert!(bounded.to_string().starts_with("NOT JUDGED"), "{bounded}");
    }
}
