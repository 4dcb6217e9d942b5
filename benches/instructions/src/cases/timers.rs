//! The timer wheel, compiled from the broker's own file, since nobody but the engine may have it.

use std::hint::black_box;

// What a shard's engine needs beside what is counted.
#[allow(dead_code)]
#[path = "../../../../broker/src/engine/wheel.rs"]
mod wheel;

use wheel::{Links, Step, TimerLinks, Wheel};

const NOW_MS: u64 = 1_700_000_000_000;
/// A visibility timeout.
const LATER_MS: u64 = 30_000;
/// Timers that run at once.
const NODES: u64 = 1_000;

struct Nodes(Vec<TimerLinks>);

impl Nodes {
    fn new() -> Self {
        Nodes(vec![TimerLinks::IDLE; NODES as usize])
    }
}

impl Links for Nodes {
    fn links(&self, node: u32) -> TimerLinks {
        self.0[node as usize]
    }

    fn set_next(&mut self, node: u32, next: u32) {
        self.0[node as usize].next = next;
    }

    fn set_previous(&mut self, node: u32, previous: u32) {
        self.0[node as usize].previous = previous;
    }
}

/// Each is stopped when all have been started: what a consumer in time does.
pub fn stopped(timers: u64) {
    let mut nodes = Nodes::new();
    let mut wheel = Wheel::new();
    wheel.begin_at(NOW_MS);
    for round in 0..timers / NODES {
        for node in 0..NODES as u32 {
            wheel.start(&mut nodes, node, NOW_MS + LATER_MS + round + u64::from(node) / 10);
        }
        for node in 0..NODES as u32 {
            wheel.cancel(&mut nodes, node);
        }
    }
    black_box(&nodes.0);
}

/// Each moves down from the level where it starts until its millisecond has come.
pub fn due(timers: u64) {
    let mut nodes = Nodes::new();
    let mut wheel = Wheel::new();
    wheel.begin_at(NOW_MS);
    let mut now_ms = NOW_MS;
    for _ in 0..timers / NODES {
        let deadline_ms = |node: u32| now_ms + LATER_MS + u64::from(node) / 10;
        for node in 0..NODES as u32 {
            wheel.start(&mut nodes, node, deadline_ms(node));
        }
        let mut came = 0;
        let until_ms = now_ms + 2 * LATER_MS;
        loop {
            match wheel.step(&mut nodes, until_ms) {
                Step::Due(_) => came += 1,
                Step::Moved(node) => wheel.start(&mut nodes, node, deadline_ms(node)),
                Step::Idle => break,
            }
        }
        assert_eq!(came, NODES);
        now_ms = until_ms;
    }
}
