//! SIGKILL under load, a few times for each driver and durability that promises anything. The
//! command `tenpin-bench kill` does the same as often as one likes.

mod common;

use tenpin_benches::kill::{self, KillOptions};

use crate::common::TestBroker;

const KILLS: u32 = 5;

fn promises_are_kept(io: &str, durability: &str, config: &str) {
    // Started once to learn whether the driver is there, and for its folder.
    let Some(mut broker) = TestBroker::try_start(io, durability, config) else { return };
    broker.stop();
    let options = KillOptions {
        command: broker.command.clone(),
        kills: KILLS,
        connections: 4,
        body_bytes_max: 2_000,
        seed: tenpin_benches::payload::new_origin(),
        verbose: false,
    };
    let report = kill::run(&options).unwrap();
    assert_eq!(report.totals.violations, 0, "{report}");
    assert!(report.totals.acknowledged > 0 && report.totals.deleted > 0, "{report}");
}

#[test]
fn epoll_fsync() {
    promises_are_kept("epoll", "fsync", "");
}

#[test]
fn epoll_async() {
    promises_are_kept("epoll", "async", "");
}

#[test]
fn uring_fsync() {
    promises_are_kept("uring", "fsync", "");
}

/// A log so small that it is cleaned all the time.
#[test]
fn epoll_fsync_while_cleaning() {
    promises_are_kept("epoll", "fsync", "log_bytes_max = 33554432\nlog_growth_factor = 2\n");
}
