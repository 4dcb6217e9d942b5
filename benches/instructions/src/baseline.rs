//! The counts that are compared with: by compiler and processor, by case.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

/// A file of counts.
#[derive(Debug, Default)]
pub struct Baseline(Map<String, Value>);

/// A count beside the one in the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judgement {
    /// There is none to compare with.
    New,
    /// By so many percent more, or less where below 0.
    Differs(f64),
}

impl Baseline {
    /// An empty one where there is no file.
    pub fn read(file: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Baseline(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Baseline::default()),
            Err(error) => Err(error),
        }
    }

    /// Puts the file in place of what is there.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.0)?;
        text.push('\n');
        std::fs::write(file, text)
    }

    /// Whether there are counts for this compiler and processor.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A count against the one for the same case.
    pub fn judge(&self, key: &str, case: &str, instructions: f64) -> Judgement {
        match self.0.get(key).and_then(|counts| counts.get(case)).and_then(Value::as_f64) {
            Some(before) if before > 0.0 => Judgement::Differs(100.0 * (instructions - before) / before),
            _ => Judgement::New,
        }
    }

    /// Takes the place of what was there for this compiler and processor.
    pub fn set(&mut self, key: &str, counts: &[(&str, f64)]) {
        let rounded = |count: f64| json!((count * 10.0).round() / 10.0);
        let counts = counts.iter().map(|(case, count)| ((*case).to_owned(), rounded(*count)));
        self.0.insert(key.to_owned(), Value::Object(counts.collect()));
    }
}

impl Judgement {
    /// More than this is a fault.
    pub const GROWTH_MAX_PERCENT: f64 = 5.0;

    /// Whether it has become worse by more than is borne.
    pub fn has_grown(self) -> bool {
        matches!(self, Judgement::Differs(percent) if percent > Self::GROWTH_MAX_PERCENT)
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Judgement::New => formatter.write_str("not in the baseline"),
            Judgement::Differs(percent) => {
                write!(formatter, "{percent:+.1} % against the baseline")?;
                if *percent < -Self::GROWTH_MAX_PERCENT {
                    formatter.write_str(": better; --write keeps it so")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_costs_more_than_before_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        let mut baseline = Baseline::read(&file).unwrap();
        baseline.set("one compiler", &[("decode", 1_000.04)]);
        baseline.write(&file).unwrap();
        let baseline = Baseline::read(&file).unwrap();
        assert!(baseline.has("one compiler") && !baseline.has("another"));
        let judge = |count| baseline.judge("one compiler", "decode", count);
        assert_eq!(judge(1_000.0), Judgement::Differs(0.0));
        assert!(judge(1_060.0).has_grown() && !judge(1_050.0).has_grown() && !judge(500.0).has_grown());
        assert_eq!(baseline.judge("another", "decode", 1.0), Judgement::New);
        assert_eq!(baseline.judge("one compiler", "encode", 1.0), Judgement::New);
        assert!(judge(500.0).to_string().ends_with("keeps it so"));
    }
}
