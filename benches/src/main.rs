//! `tenpin-bench`: measures a broker, compares it with others, and tries to make it lose something.

use std::process::ExitCode;

use clap::Parser;
use tenpin_benches::arguments::Arguments;
use tenpin_benches::commands;

fn main() -> ExitCode {
    match commands::run(&Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("tenpin-bench: something happened that must not: see FAULT above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tenpin-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
