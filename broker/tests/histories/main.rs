//! Random histories over real sockets, of clients on all shards, against a model that is obviously right: a
//! list of messages. Standard and FIFO queues with everything that clients can ask of them, dead letters and move tasks
//! that stay on their shard or go to another, brokers that are stopped and killed in between, and folders that get
//! another number of shards.
//!
//! What is chosen depends on the seed alone (and on what the broker answers). Nothing depends on the clock: a message is
//! hidden for longer than a test takes and comes back when it is told to, or for so short that it is waited for.
//!
//! `HISTORIES_FIRST`, `HISTORIES_SEEDS` and `HISTORIES_STEPS` choose other seeds, or more of them, or longer ones.

#[path = "../common/mod.rs"]
mod common;

mod history;
mod looks;
mod messages;
mod model;
mod queues;
mod receives;
mod restarts;
mod tasks;

use std::collections::BTreeMap;

use crate::common::TestBroker;
use crate::history::{HAPPENS, History};

const SEEDS: u64 = 5;
/// Where something that has to happen has not so far, more seeds are tried, so many in all.
const SEEDS_MAX: u64 = 40;
const STEPS: u64 = 150;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(io: &str, durability: &str, shards: u16) {
    let config =
        format!("minute_rules = false\nshards = {shards}\nin_flight_max = {}\n", model::IN_FLIGHT_MAX);
    let Some(mut broker) = TestBroker::try_start(io, durability, &config) else { return };
    let (first, asked) = (number_of("HISTORIES_FIRST").unwrap_or(1), number_of("HISTORIES_SEEDS"));
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first.. {
        println!("seed {seed} on {shards} shards; HISTORIES_FIRST={seed} HISTORIES_SEEDS=1 repeats it");
        let mut history = History::new(broker, seed);
        for _ in 0..number_of("HISTORIES_STEPS").unwrap_or(STEPS) {
            history.step();
        }
        let (again, of_this) = history.drain();
        broker = again;
        of_this.into_iter().for_each(|(what, times)| *happened.entry(what).or_default() += times);
        let never = HAPPENS.iter().find(|what| !happened.contains_key(*what));
        let done = seed - first + 1;
        if done >= asked.unwrap_or(SEEDS) && (asked.is_some() || never.is_none()) {
            break;
        }
        assert!(asked.is_some() || done < SEEDS_MAX, "{never:?} has never happened");
    }
    broker.stop();
    println!("{happened:#?}");
}

#[test]
fn histories_on_one_shard_agree_with_the_model() {
    run("epoll", "fsync", 1);
}

#[test]
fn histories_on_two_shards_agree_with_the_model() {
    run("uring", "async", 2);
}

#[test]
fn histories_on_five_shards_agree_with_the_model() {
    run("epoll", "async", 5);
}
