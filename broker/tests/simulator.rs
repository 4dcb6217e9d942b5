//! The simulator's own proof: it is deterministic, a sound broker passes, and each planted bug is
//! found within its budget of seeds.
//!
//! The runs are made by the binary `tenpin-sim`, so that brokers with bugs are built in one place only.

use std::process::{Command, Output};

/// Seeds that each planted bug is found in, with room to spare.
const BUDGETS: &[(&str, u64)] = &[
    ("acknowledge-before-sync", 200),
    ("forget-what-a-repeated-delete-rests-on", 400),
    ("reuse-generations-after-restart", 200),
    ("lose-queues-in-cleaning", 200),
    ("link-copies-in-log-order", 200),
    ("recycle-before-copies-are-durable", 400),
    ("drop-timers-after-restart", 200),
    ("judge-expiry-by-timer", 400),
    ("take-torn-tail-as-whole", 400),
    ("cut-damage-as-torn-tail", 400),
    ("serve-bodies-unchecked", 400),
    ("send-stale-deliveries", 400),
];

/// Seeds that a sound broker passes here; far more are run by the binary itself.
const SOUND_SEEDS: u64 = 60;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenpin-sim"))
        .args(arguments)
        .output()
        .expect("the simulator's binary was built for this test")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    for seed in ["1", "2", "3", "4"] {
        let [first, second] = [(); 2].map(|()| simulate(&["--seed", seed, "--trace"]));
        assert!(first.status.success(), "{}", text(&first));
        assert!(first.stdout == second.stdout, "seed {seed} ran differently the second time");
        let other = simulate(&["--seed", &format!("10{seed}"), "--trace"]);
        assert!(first.stdout != other.stdout, "another seed must give another run");
    }
}

#[test]
fn a_sound_broker_passes() {
    let output = simulate(&["--first", "1", "--seeds", &SOUND_SEEDS.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn each_planted_bug_is_found_within_its_budget() {
    let listed = simulate(&["--list-bugs"]);
    let mut listed: Vec<String> = text(&listed).lines().map(str::to_owned).collect();
    let mut budgeted: Vec<&str> = BUDGETS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    budgeted.sort_unstable();
    assert_eq!(listed, budgeted, "each bug has its budget here");
    for (name, seeds) in BUDGETS {
        let output = simulate(&["--bug", name, "--first", "1", "--seeds", &seeds.to_string()]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{name} was not found in {seeds} seeds:\n{text}");
        let repeat = format!("--bug {name}");
        assert!(text.contains("repeat with: ") && text.contains(&repeat), "{text}");
    }
}

#[test]
fn what_is_found_is_found_again_by_the_command_that_is_printed() {
    let output = simulate(&["--bug", "acknowledge-before-sync", "--first", "1", "--seeds", "200"]);
    let text = text(&output);
    let line = text.lines().find_map(|line| line.split_once("-- --seed ")).expect("it prints the command");
    let seed = line.1.split(' ').next().expect("the seed follows");
    let again = simulate(&["--seed", seed, "--bug", "acknowledge-before-sync"]);
    assert_eq!(again.status.code(), Some(1));
}
