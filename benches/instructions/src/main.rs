//! What the broker's inner parts cost in instructions, which no neighbour on a shared machine changes, and whether
//! that has grown.
//!
//! ```text
//! cargo run --profile checks -p tenpin-instructions              count, and compare with baseline.json
//! cargo run --profile checks -p tenpin-instructions -- --write   count, and make that the baseline
//! ```
//!
//! Each case runs twice under `valgrind --tool=callgrind`, the second time with twice as many operations; the
//! difference is what they cost, without start-up and setting up. The baseline is keyed by the compiler and by what
//! the processor can do, since both decide which instructions there are. Exit codes: 0 where nothing has grown by
//! more than 5 %, 1 where something has (it is named, with the functions that it is spent in), 77 where nothing could
//! be compared, or one of the cases could not.

mod cases;

use std::path::Path;
use std::process::ExitCode;

use cases::CASES;
use tenpin_instructions::baseline::{Baseline, Judgement};
use tenpin_instructions::count;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whoever runs many checks takes it for: nothing was checked.
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--run", case, operations] => return run_case(case, operations),
        ["--features"] => {
            println!("{}", count::features());
            return ExitCode::SUCCESS;
        }
        [] | ["--write"] => {}
        _ => {
            eprintln!("usage: tenpin-instructions [--write]");
            return ExitCode::from(2);
        }
    }
    if !count::has_valgrind() {
        println!(
            "SKIPPED: valgrind is not installed (apt-get install valgrind): INSTRUCTIONS WERE NOT COUNTED"
        );
        return ExitCode::from(SKIPPED);
    }
    match check(arguments.is_empty()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tenpin-instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What runs under valgrind.
fn run_case(name: &str, operations: &str) -> ExitCode {
    let case = CASES.iter().find(|case| case.name == name);
    match (case, operations.parse()) {
        (Some(case), Ok(operations)) => {
            (case.run)(operations);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn check(compares: bool) -> std::io::Result<ExitCode> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut baseline = Baseline::read(&file)?;
    let key = count::key()?;
    println!("{key}");
    let is_known = baseline.has(&key);
    let folder = tempfile::tempdir()?;
    let mut grown = Vec::new();
    let mut new = Vec::new();
    let mut counts = Vec::new();
    for case in CASES {
        let counted = count::count(case, folder.path())?;
        let judgement = baseline.judge(&key, case.name, counted.instructions);
        println!("{:<44} {:>10.1} {:<14} {judgement}", case.name, counted.instructions, case.unit);
        if compares && judgement.has_grown() {
            grown.push((case.name, judgement, counted.profile));
        }
        if judgement == Judgement::New {
            new.push(case.name);
        }
        counts.push((case.name, counted.instructions));
    }
    if !compares {
        baseline.set(&key, &counts);
        baseline.write(&file)?;
        println!("written to {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !is_known {
        println!(
            "SKIPPED: there is no baseline for {key} in {}: INSTRUCTIONS WERE COUNTED AND NOT COMPARED. \
             Make one from a state that is known to be good: tenpin-instructions --write",
            file.display()
        );
        return Ok(ExitCode::from(SKIPPED));
    }
    for (name, judgement, profile) in &grown {
        println!("\nGROWN: {name}: {judgement}. Where it is spent, with its setting up:");
        println!("{}", count::functions(profile));
    }
    if !new.is_empty() {
        println!(
            "SKIPPED: the baseline has nothing for {}: {} OF {} CASES WERE COUNTED AND NOT COMPARED. \
             tenpin-instructions --write adds them",
            new.join("; "),
            new.len(),
            CASES.len()
        );
    }
    if grown.is_empty() {
        return Ok(if new.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SKIPPED) });
    }
    println!(
        "{} of {} cases cost over {} % more instructions than the baseline. Where that has to be: \
         tenpin-instructions --write, and say why in the commit",
        grown.len(),
        CASES.len(),
        Judgement::GROWTH_MAX_PERCENT
    );
    Ok(ExitCode::FAILURE)
}
