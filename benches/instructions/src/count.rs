//! Counting: a case in a process of its own under callgrind.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Something that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Where a growth is said to be.
    pub name: &'static str,
    /// What the count is for: a message, a timer.
    pub unit: &'static str,
    /// Of the shorter run.
    pub operations: u64,
    /// How many units an operation has.
    pub units_an_operation: f64,
    /// Sets up and does so many operations.
    pub run: fn(u64),
}

/// What a case costs.
#[derive(Debug)]
pub struct Counted {
    /// For one of its units.
    pub instructions: f64,
    /// Callgrind's file of the longer run.
    pub profile: PathBuf,
}

/// Functions that are told of what has grown.
const FUNCTIONS_TOLD: usize = 12;

/// Whether it is installed.
pub fn has_valgrind() -> bool {
    let status =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What decides which instructions there are: the compiler, and which ways through libraries the processor has.
pub fn key() -> io::Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    let output = callgrind(file.path(), &["--features"])?;
    Ok(format!("{}, {}", env!("COMPILER"), String::from_utf8_lossy(&output.stdout).trim()))
}

/// What the processor can do, as it seems under valgrind, of what is asked for at run time.
#[cfg(target_arch = "x86_64")]
pub fn features() -> String {
    let features = [
        ("aes", is_x86_feature_detected!("aes")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
    ];
    let names: Vec<&str> = features.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    format!("x86_64 with {}", names.join(", "))
}

/// Elsewhere nothing is asked for that differs among processors in use.
#[cfg(not(target_arch = "x86_64"))]
pub fn features() -> String {
    std::env::consts::ARCH.to_owned()
}

/// Runs a case twice, and takes the difference.
pub fn count(case: &Case, folder: &Path) -> io::Result<Counted> {
    let instructions = |operations: u64| -> io::Result<(u64, PathBuf)> {
        let profile = folder.join(format!("{}-{operations}", case.name.replace([' ', ':', ','], "-")));
        let output = callgrind(&profile, &["--run", case.name, &operations.to_string()])?;
        let told = String::from_utf8_lossy(&output.stderr);
        let collected = collected(&told).ok_or_else(|| {
            io::Error::other(format!("valgrind said nothing of instructions for {}:\n{told}", case.name))
        })?;
        Ok((collected, profile))
    };
    let (few, _) = instructions(case.operations)?;
    let (many, profile) = instructions(2 * case.operations)?;
    let each = many.saturating_sub(few) as f64 / case.operations as f64 / case.units_an_operation;
    Ok(Counted { instructions: each, profile })
}

/// The functions that most is spent in.
pub fn functions(profile: &Path) -> String {
    match Command::new("callgrind_annotate").arg("--auto=no").arg(profile).output() {
        Ok(output) => functions_of(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => format!("callgrind_annotate: {error}"),
    }
}

/// Sums of lines like `3,141,000 ( 4.13%)  broker/src/engine/hash.rs:engine::hash::key_of [program]`: a function has
/// one for each file that something was inlined into it from.
fn functions_of(annotated: &str) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for line in annotated.lines() {
        let Some((count, rest)) = line.split_once(" (") else { continue };
        let Some((_, place)) = rest.split_once("%)") else { continue };
        let function = place.split_once(':').map(|(_, function)| function);
        let count: String = count.chars().filter(char::is_ascii_digit).collect();
        if let (Some(function), Ok(count)) = (function, count.parse::<u64>()) {
            *sums.entry(function.split(" [").next().unwrap_or(function)).or_default() += count;
        }
    }
    let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = sums.iter().take(FUNCTIONS_TOLD).map(|(function, count)| format!("{count:>12}  {function}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn callgrind(profile: &Path, arguments: &[&str]) -> io::Result<Output> {
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(output);
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{arguments:?} under valgrind: {}\n{told}", output.status)))
}

/// The number in callgrind's line `==1== Collected : 123`.
fn collected(told: &str) -> Option<u64> {
    let (_, behind) = told.split_once("Collected : ")?;
    behind.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        let told = "==7== Events    : Ir\n==7== Collected : 194729\n==7== \n";
        assert_eq!(collected(told), Some(194_729));
        assert_eq!(collected("==7== no such thing"), None);
    }

    #[test]
    fn a_functions_lines_are_added_up() {
        let annotated = "Profile data file\n9,000 (100.0%)  PROGRAM TOTALS\n\
                         4,100 (46.00%)  ./copy.S:copy [libc.so]\n\
                         3,000 ( 4.13%)  broker/hash.rs:hash::<impl Engine<F>>::key_of [program]\n\
                         1,500 ( 2.00%)  core/num.rs:hash::<impl Engine<F>>::key_of\n";
        let told = functions_of(annotated);
        assert_eq!(told, "        4500  hash::<impl Engine<F>>::key_of\n        4100  copy");
    }
}
