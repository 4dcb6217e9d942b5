//! The size and shape of a load.

use std::time::Duration;

use serde_json::{Value, json};

use super::books::{self, Fates};
use crate::bodies::BodySizes;

/// What a slot asks for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The deletion of the batch received before, a send, and a receive, written together; the next
    /// round when all three are answered. A client that has always more to do works like this.
    Rounds,
    /// One request at a time: a send, then a receive, then the deletion.
    Steps,
}

/// The size and shape of the load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Connections; with a rate, so many that send and so many that receive.
    pub connections: usize,
    /// Slots on each: rounds, single requests, or with a rate waiting receives, that are under way at once.
    pub depth: usize,
    /// What a slot asks for together.
    pub shape: Shape,
    /// Messages a request, 1 to 10.
    pub batch: usize,
    /// Sizes of bodies.
    pub bodies: BodySizes,
    /// Messages queued before anything is received.
    pub backlog: u64,
    /// Messages that stay on a queue of their own meanwhile.
    pub stored: u64,
    /// Queues, over which connections and requests are spread.
    pub queues: usize,
    /// Queues that stand beside them with nothing to do.
    pub idle_queues: usize,
    /// Connections that stay open with nothing to do.
    pub idle_connections: usize,
    /// Groups of each FIFO queue, each message with a deduplication id of its own; 0: standard queues.
    pub fifo_groups: u64,
    /// Messages a second, sent whatever the broker does; none: as fast as answers come.
    pub rate: Option<u64>,
    /// What falls due within so long goes out together; zero: each batch when it is due.
    pub burst: Duration,
    /// With a rate, the most batches that are under way on each connection that sends; 0: as many as its socket
    /// takes.
    pub under_way_max: usize,
    /// Whether the rate may be more than the broker can do: the timetable ends with the time, whatever is not sent
    /// by then, and sends that are refused for want of room are counted and are no fault.
    pub is_overload: bool,
    /// Which messages are left, delayed, or end as dead letters.
    pub fates: Fates,
    /// Before measuring.
    pub warm_up: Duration,
    /// Of the measurement, unless a number of messages is given.
    pub length: Duration,
    /// Messages to measure.
    pub messages: Option<u64>,
    /// Whether perf counts the broker's system calls, which costs it a little.
    pub syscalls: bool,
    /// The core of the client, where it shall stay on one.
    pub client_core: Option<usize>,
    /// Whether the client looks for replies all the time and never sleeps.
    pub spins: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            connections: 8,
            depth: 8,
            shape: Shape::Rounds,
            batch: 10,
            bodies: BodySizes::fixed(64),
            backlog: 0,
            stored: 0,
            queues: 1,
            idle_queues: 0,
            idle_connections: 0,
            fifo_groups: 0,
            rate: None,
            burst: Duration::ZERO,
            under_way_max: 0,
            is_overload: false,
            fates: Fates::default(),
            warm_up: Duration::from_secs(1),
            length: Duration::from_secs(10),
            messages: None,
            syscalls: false,
            client_core: None,
            spins: false,
        }
    }
}

impl LoadOptions {
    /// The name of one of the queues.
    pub fn queue_name(&self, queue: usize) -> String {
        format!("bench-{queue}{}", self.suffix())
    }

    /// The name of the queue of dead letters.
    pub fn dead_letter_queue(&self) -> String {
        format!("bench-dead{}", self.suffix())
    }

    fn suffix(&self) -> &'static str {
        if self.fifo_groups > 0 { ".fifo" } else { "" }
    }

    /// The queues that a connection works on.
    pub(super) fn queues_of(&self, connection: usize) -> Vec<(usize, String)> {
        let (queues, connections) = (self.queues.max(1), self.connections.max(1));
        let own: Vec<usize> = if queues <= connections {
            vec![connection % queues]
        } else {
            (connection..queues).step_by(connections).collect()
        };
        own.into_iter().map(|queue| (queue, self.queue_name(queue))).collect()
    }

    /// Messages a receive asks for: what waits is taken at once by a consumer that nobody tells how much to
    /// take.
    pub(super) fn receive_max(&self) -> usize {
        if self.rate.is_some() { crate::wire::BATCH_MAX } else { self.batch }
    }

    /// All that decides the load, for the report.
    pub fn settings(&self) -> Value {
        json!({
            "connections": self.connections,
            "depth": self.depth,
            "shape": if self.shape == Shape::Rounds { "rounds" } else { "steps" },
            "batch": self.batch,
            "body": self.bodies.to_string(),
            "backlog": self.backlog,
            "stored": self.stored,
            "queues": self.queues,
            "idle_queues": self.idle_queues,
            "idle_connections": self.idle_connections,
            "fifo_groups": self.fifo_groups,
            "rate": self.rate,
            "burst_us": self.burst.as_micros() as u64,
            "under_way_max": self.under_way_max,
            "is_overload": self.is_overload,
            "spins": self.spins,
            "fates_of_10000": self.fates,
            "warm_up_seconds": self.warm_up.as_secs_f64(),
            "seconds": self.messages.is_none().then_some(self.length.as_secs_f64()),
            "messages": self.messages,
        })
    }

    /// The load in words.
    pub fn told(&self) -> String {
        let kind = match self.fifo_groups {
            0 => "standard".to_owned(),
            groups => format!("FIFO with {groups} groups"),
        };
        let loop_ = match (self.rate, self.shape) {
            (Some(rate), _) => {
                let mut told = format!("{rate} messages/s by a timetable");
                if !self.burst.is_zero() {
                    told.push_str(&format!(", those of {} µs together", self.burst.as_micros()));
                }
                if self.under_way_max > 0 {
                    told.push_str(&format!(", at most {} sends under way", self.under_way_max));
                }
                format!("{told}, {} receives waiting", self.depth)
            }
            (None, Shape::Rounds) => format!("{} rounds under way", self.depth),
            (None, Shape::Steps) => format!("{} single requests under way", self.depth),
        };
        let mut text = format!(
            "{} connections, {loop_} on each, batches of {}, bodies of {} bytes, {} queued beside, {} queues, {kind}",
            self.connections, self.batch, self.bodies, self.backlog, self.queues
        );
        let Fates { left, doomed, delayed, visibility_seconds, delay_seconds } = self.fates;
        if !self.fates.is_plain() {
            let percent = |share: u64| share as f64 * 100.0 / books::WHOLE as f64;
            text.push_str(&format!(
                "; {} % left to come back after {visibility_seconds} s, {} % delayed by {delay_seconds} s, {} % dead letters",
                percent(left), percent(delayed), percent(doomed)
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shared_out() {
        let options = LoadOptions { connections: 3, queues: 2, ..LoadOptions::default() };
        let own = |options: &LoadOptions, connection| -> Vec<usize> {
            options.queues_of(connection).into_iter().map(|(queue, _)| queue).collect()
        };
        assert_eq!([own(&options, 0), own(&options, 1), own(&options, 2)], [[0], [1], [0]]);
        let many = LoadOptions { connections: 2, queues: 5, ..LoadOptions::default() };
        assert_eq!((own(&many, 0), own(&many, 1)), (vec![0, 2, 4], vec![1, 3]));
    }
}
