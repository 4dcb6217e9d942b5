//! A long load with everything in it, looked at from beside: memory and disk must come to rest.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

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

/// Memory and disk at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Since the run's start.
    pub seconds: u64,
    /// Memory of the broker.
    pub resident_bytes: u64,
    /// Bytes of the files in its data folder.
    pub disk_bytes: u64,
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

/// Loads a broker once, for long.
pub fn run(options: &SoakOptions, variant: &Variant, run: u32) -> io::Result<(Record, Bounded)> {
    let mut samples: Vec<Sample> = Vec::new();
    let length = options.load.warm_up + options.load.length;
    let mut record = load::run_once("soak", &options.load, variant, run, &mut |since, pid, folder| {
        let is_due = samples.last().is_none_or(|last| since.as_secs() >= last.seconds + SAMPLE.as_secs());
        // What is drained at the end is no part of the load.
        if is_due && since < length {
            let memory = pid.and_then(|pid| measure::process_memory(pid).ok()).unwrap_or_default();
            samples.push(Sample {
                seconds: since.as_secs(),
                resident_bytes: memory.resident_bytes,
                disk_bytes: folder.map_or(0, bytes_below),
            });
        }
    })?;
    let bounded = Bounded::of(&samples);
    record.more = json!({ "samples": samples, "bounded": bounded, "is_bounded": bounded.is_bounded() });
    Ok((record, bounded))
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
                .map(|at| Sample { seconds: at * 5, resident_bytes: memory(at) << 20, disk_bytes: 1 << 30 })
                .collect()
        };
        assert!(Bounded::of(&samples(&|at| 100 + at.min(10) * 50)).is_bounded());
        assert!(!Bounded::of(&samples(&|at| 100 + at * 50)).is_bounded());
        assert!(!Bounded::of(&samples(&|at| at)[..3]).is_judged);
    }
}
