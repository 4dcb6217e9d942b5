//! Random histories over real sockets, of clients on all shards, against a model that is obviously right: a
//! list of messages. Standard and FIFO queues with everything that clients can ask of them, dead letters and move tasks
//! that stay on their shard or go to another, brokers that are stopped and killed in between, also with requests under
//! way, and folders that get another number of shards.
//!
//! What is chosen depends on the seed alone (and on what the broker answers, and on what it has done when it is killed).
//! Nothing depends on the clock: a message is hidden for longer than a test takes and comes back when it is told to, or for
//! so short that it is waited for. But messages expire by the clock alone, in a minute at the soonest: the test that waits
//! for that is run by `cargo test --test histories -- --ignored`.
//!
//! `HISTORIES_FIRST`, `HISTORIES_SEEDS` and `HISTORIES_STEPS` choose other seeds, or more of them, or longer ones.

#[path = "../common/mod.rs"]
mod common;

mod ages;
mod history;
mod kills;
mod looks;
mod messages;
mod model;
mod queues;
mod receives;
mod restarts;
mod sends;
mod tasks;
mod unanswered;

use std::collections::BTreeMap;

use crate::common::TestBroker;
use crate::history::{EXPIRES, HAPPENS, History};

const SEEDS: u64 = 5;
/// Where something that has to happen has not so far, more seeds are tried, so many in all.
const SEEDS_MAX: u64 = 40;
const STEPS: u64 = 150;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn start(io: &str, durability: &str, shards: u16) -> Option<TestBroker> {
    let config =
        format!("minute_rules = false\nshards = {shards}\nin_flight_max = {}\n", model::IN_FLIGHT_MAX);
    TestBroker::try_start(io, durability, &config)
}

/// Runs one history after the other until enough has happened.
fn run(mut broker: TestBroker, seeds: u64, has_to_happen: &[&str], live: impl Fn(&mut History)) {
    let shards = broker.shards();
    let (first, asked) = (number_of("HISTORIES_FIRST").unwrap_or(1), number_of("HISTORIES_SEEDS"));
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first.. {
        println!("seed {seed} on {shards} shards; HISTORIES_FIRST={seed} HISTORIES_SEEDS=1 repeats it");
        let mut history = History::new(broker, seed);
        live(&mut history);
        let (again, of_this) = history.drain();
        broker = again;
        of_this.into_iter().for_each(|(what, times)| *happened.entry(what).or_default() += times);
        let never = has_to_happen.iter().find(|what| !happened.contains_key(*what));
        let done = seed - first + 1;
        if done >= asked.unwrap_or(seeds) && (asked.is_some() || never.is_none()) {
            break;
        }
        assert!(asked.is_some() || done < SEEDS_MAX, "{never:?} has never happened");
    }
    broker.stop();
    println!("{happened:#?}");
}

fn go_on(history: &mut History) {
    for _ in 0..number_of("HISTORIES_STEPS").unwrap_or(STEPS) {
        history.step();
    }
}

fn run_quickly(io: &str, durability: &str, shards: u16) {
    let Some(broker) = start(io, durability, shards) else { return };
    run(broker, SEEDS, &HAPPENS, go_on);
}

#[test]
fn histories_on_one_shard_agree_with_the_model() {
    run_quickly("epoll", "fsync", 1);
}

#[test]
fn histories_on_two_shards_agree_with_the_model() {
    run_quickly("uring", "async", 2);
}

#[test]
fn histories_on_five_shards_agree_with_the_model() {
    run_quickly("epoll", "async", 5);
}

#[test]
#[ignore = "waits for over a minute a history"]
fn histories_in_which_messages_expire_agree_with_the_model() {
    let broker = start("epoll", "async", 2).expect("epoll is always there");
    run(broker, 1, &EXPIRES, |history| {
        history.keep_shortly();
        go_on(history);
        history.grow_old();
        history.keep_shortly();
        go_on(history);
    });
}
