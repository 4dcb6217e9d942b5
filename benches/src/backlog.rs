//! A backlog far larger than memory would hold: piled up, measured, perhaps recovered by a new
//! process, and drained in the order in which it came.
//!
//! One connection sends, so that the order is known; one connection drains. Both keep requests under
//! way, which a broker carries out in the order in which they were sent, whatever order the replies
//! come in.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::bodies::BodySizes;
use crate::client::{Answer, Client, ClientError, Receive};
use crate::load::{Account, Books};
use crate::measure::{self, Memory};
use crate::process::{BrokerCommand, BrokerProcess};
use crate::progress::Progress;
use crate::random::Random;
use crate::report::{Percentiles, Record, RequestTimes};

/// The queue that is used.
const QUEUE: &str = "backlog";

/// How long a broker may take to stop.
const STOP_MAX: Duration = Duration::from_secs(120);

/// What to do.
#[derive(Debug, Clone)]
pub struct BacklogOptions {
    /// How to start the broker.
    pub command: BrokerCommand,
    /// Where its folder is made.
    pub parent: PathBuf,
    /// Messages.
    pub messages: u64,
    /// Sizes of bodies.
    pub bodies: BodySizes,
    /// Messages a request.
    pub batch: usize,
    /// Requests under way.
    pub depth: usize,
    /// How often to kill the broker when all is queued, and to measure how long a new one takes to have it
    /// again.
    pub restarts: u32,
}

/// Piling up, or draining.
#[derive(Debug, Clone, Copy)]
pub struct Leg {
    /// Messages a second.
    pub rate: f64,
    /// The broker's memory at its end.
    pub memory: Memory,
    /// Processor time of the broker for each message, in microseconds.
    pub broker_us: f64,
}

impl fmt::Display for Leg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            formatter,
            "{:.0} messages/s, broker {:.3} µs a message, {} MiB resident ({} MiB at most)",
            self.rate,
            self.broker_us,
            mib(self.memory.resident_bytes),
            mib(self.memory.resident_bytes_max),
        )
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct BacklogReport {
    /// Piling up.
    pub queued: Leg,
    /// For each restart, from the start of the new process until it listened, and its memory then.
    pub recovered: Vec<(Duration, Memory)>,
    /// Draining.
    pub drained: Leg,
    /// Processor time of the client while it queued and drained, for each message, in microseconds.
    pub client_us: f64,
    /// Round trips of sends, in nanoseconds.
    pub requests: Histogram<u64>,
    /// What became of the messages.
    pub account: Account,
}

impl BacklogReport {
    /// Whether every message came once, whole and in order.
    pub fn is_clean(&self) -> bool {
        self.account.is_clean()
    }

    /// The report's form. A lifecycle's processor time is that of both legs; the rate is the drain's.
    pub fn record(&self, command: &str, options: &BacklogOptions, run: u32) -> Record {
        let leg = |leg: &Leg| {
            json!({
                "messages_per_second": leg.rate,
                "broker_cpu_us_per_message": leg.broker_us,
                "resident_bytes": leg.memory.resident_bytes,
            })
        };
        let recovered: Vec<_> = self
            .recovered
            .iter()
            .map(|(took, memory)| json!({ "seconds": took.as_secs_f64(), "resident_bytes": memory.resident_bytes }))
            .collect();
        let command_of = &options.command;
        Record {
            command: command.to_owned(),
            variant: format!("{} {}", command_of.io, command_of.durability),
            run,
            settings: json!({
                "shards": command_of.shards,
                "driver": command_of.io,
                "durability": command_of.durability,
                "broker_arguments": command_of.arguments,
                "messages": options.messages,
                "body": options.bodies.to_string(),
                "batch": options.batch,
                "depth": options.depth,
                "restarts": options.restarts,
            }),
            lifecycles_per_second: 1.0 / (1.0 / self.queued.rate + 1.0 / self.drained.rate),
            broker_cpu_us_per_message: Some(self.queued.broker_us + self.drained.broker_us),
            client_cpu_us_per_message: self.client_us,
            broker_cores_used: None,
            client_cores_used: f64::NAN,
            limited_by_client: false,
            account: self.account,
            latency_us: Percentiles::of(&self.requests),
            latency_in_gaps_us: Percentiles::default(),
            requests_us: RequestTimes::default(),
            client_late_us: None,
            broker_resident_bytes_max: Some(self.drained.memory.resident_bytes_max),
            wire_bytes_per_message: f64::NAN,
            disk_bytes_per_message: None,
            syscalls_per_message: None,
            load_average: measure::load_average(),
            host_gaps: None,
            more: json!({ "queued": leg(&self.queued), "recovered": recovered, "drained": leg(&self.drained) }),
        }
    }
}

impl fmt::Display for BacklogReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "queued:    {}", self.queued)?;
        for (took, memory) in &self.recovered {
            let (now, most) = (memory.resident_bytes >> 20, memory.resident_bytes_max >> 20);
            let seconds = took.as_secs_f64();
            writeln!(formatter, "recovered: in {seconds:.2} s, {now} MiB resident ({most} MiB at most)")?;
        }
        writeln!(formatter, "drained:   {}", self.drained)?;
        write!(formatter, "{}", self.account)
    }
}

/// Piles up, recovers if asked to, drains.
pub fn run(options: &BacklogOptions) -> io::Result<BacklogReport> {
    let folder = tempfile::Builder::new().prefix("tenpin-backlog-").tempdir_in(&options.parent)?;
    let mut command = options.command.clone();
    command.folder = folder.path().join("data");
    let mut broker = command.start()?;
    let mut books = Books::new();
    let client = measure::thread_cpu();
    let mut requests = Histogram::new(3).map_err(io::Error::other)?;
    let queued = measured(&broker, options.messages, || {
        pile_up(options, broker.address(), &mut books, &mut requests)
    })?;
    let mut recovered = Vec::new();
    for _ in 0..options.restarts {
        broker.kill()?;
        broker = command.start()?;
        recovered.push((broker.listening_after().unwrap_or_default(), broker.memory()?));
    }
    let mut out_of_order = 0;
    let drained = measured(&broker, options.messages, || {
        out_of_order = drain(options, broker.address(), &mut books)?;
        Ok(())
    })?;
    let client_us = (measure::thread_cpu() - client).as_secs_f64() * 1e6 / options.messages.max(1) as f64;
    let undeleted = left(broker.address())?;
    let (status, printed) = broker.stop(STOP_MAX)?;
    if !status.success() {
        return Err(io::Error::other(format!("the broker stopped with {status}; it printed:\n{printed}")));
    }
    // Several shards each have an order of their own.
    let out_of_order = if options.command.shards.unwrap_or(1) == 1 { out_of_order } else { 0 };
    let account = Account { out_of_order, undeleted, ..books.close() };
    Ok(BacklogReport { queued, recovered, drained, client_us, requests, account })
}

fn measured(broker: &BrokerProcess, messages: u64, leg: impl FnOnce() -> io::Result<()>) -> io::Result<Leg> {
    let (begun, cpu) = (Instant::now(), broker.cpu()?);
    leg()?;
    let (took, cpu) = (begun.elapsed(), broker.cpu()? - cpu);
    Ok(Leg {
        rate: messages as f64 / took.as_secs_f64(),
        memory: measure::process_memory(broker.pid())?,
        broker_us: cpu.as_secs_f64() * 1e6 / messages.max(1) as f64,
    })
}

fn pile_up(
    options: &BacklogOptions,
    address: SocketAddr,
    books: &mut Books,
    requests: &mut Histogram<u64>,
) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    let queue = client.create(QUEUE, &[])?;
    let progress = Progress::new("queueing", options.messages);
    let mut random = Random::new(1);
    let mut bodies = vec![Vec::new(); options.batch];
    let mut under_way = VecDeque::new();
    while books.made() < options.messages || !under_way.is_empty() {
        if books.made() < options.messages && under_way.len() < options.depth {
            let count = (options.messages - books.made()).min(options.batch as u64) as usize;
            for body in &mut bodies[..count] {
                body.resize(options.bodies.next(&mut random), 0);
                books.next_body(body);
            }
            let asked = client.submit_bodies(queue, bodies[..count].iter().map(Vec::as_slice))?;
            under_way.push_back((asked, Instant::now()));
            continue;
        }
        match client.next_answer()? {
            (asked, Answer::Sent(outcomes)) => {
                let place = under_way.iter().position(|(other, _)| *other == asked);
                if let Some((_, begun)) = place.and_then(|place| under_way.remove(place)) {
                    requests.saturating_record(begun.elapsed().as_nanos() as u64);
                }
                if let Some(refusal) = outcomes.into_iter().find_map(Result::err) {
                    return Err(io::Error::other(format!("a send was refused: {refusal}")));
                }
            }
            (_, answer) => return Err(unexpected(answer)),
        }
        progress.set(books.made());
    }
    progress.finish();
    Ok(())
}

/// Receives and deletes until the queue is empty; gives how many messages were out of order.
fn drain(options: &BacklogOptions, address: SocketAddr, books: &mut Books) -> io::Result<u64> {
    let mut client = Client::connect(address)?;
    let queue = client.open(QUEUE)?;
    let messages_max = options.batch as u8;
    let receive = Receive { messages_max, wait_ms: 0, visibility_seconds: Some(43_200) };
    let progress = Progress::new("draining", options.messages);
    let mut order = Order::default();
    let mut deletes = 0;
    let mut is_empty = false;
    let mut taken = 0;
    while !is_empty || !order.waiting.is_empty() || deletes > 0 {
        while !is_empty && order.waiting.len() + deletes < options.depth {
            order.asked(client.submit_receive(queue, receive)?);
        }
        match client.next_answer()? {
            (correlation, Answer::Received(messages)) => {
                is_empty |= messages.is_empty();
                let numbers = messages.iter().filter_map(|message| books.received(&message.body)).collect();
                order.answered(correlation, numbers);
                if !messages.is_empty() {
                    let handles: Vec<&[u8]> =
                        messages.iter().map(|message| message.handle.as_slice()).collect();
                    client.submit_delete(queue, &handles)?;
                    deletes += 1;
                    taken += messages.len() as u64;
                    progress.set(taken);
                }
            }
            (_, Answer::Outcomes(outcomes)) => {
                deletes -= 1;
                if let Some(refusal) = outcomes.into_iter().find_map(Result::err) {
                    return Err(io::Error::other(format!("a delete was refused: {refusal}")));
                }
            }
            (_, answer) => return Err(unexpected(answer)),
        }
    }
    progress.finish();
    Ok(order.out_of_order)
}

/// Messages that the broker still has: what it was asked to delete is hidden for longer than this takes.
fn left(address: SocketAddr) -> io::Result<u64> {
    let mut client = Client::connect(address)?;
    let queue = client.open(QUEUE)?;
    Ok(client.counts(queue)?.all())
}

fn unexpected(answer: Answer) -> io::Error {
    match answer {
        Answer::Refused(refusal) => ClientError::Refused(refusal).into(),
        other => ClientError::Protocol(format!("an answer of the wrong kind: {other:?}")).into(),
    }
}

/// Puts the replies into the order of their requests, in which messages have to rise.
#[derive(Debug, Default)]
struct Order {
    waiting: VecDeque<(u32, Option<Vec<u64>>)>,
    last: Option<u64>,
    out_of_order: u64,
}

impl Order {
    fn asked(&mut self, correlation: u32) {
        self.waiting.push_back((correlation, None));
    }

    fn answered(&mut self, correlation: u32, numbers: Vec<u64>) {
        if let Some((_, answer)) = self.waiting.iter_mut().find(|(asked, _)| *asked == correlation) {
            *answer = Some(numbers);
        }
        while let Some((_, Some(_))) = self.waiting.front() {
            let (_, numbers) = self.waiting.pop_front().expect("looked at just before");
            for number in numbers.into_iter().flatten() {
                self.out_of_order += u64::from(self.last.is_some_and(|last| number < last));
                self.last = Some(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_in_another_order_are_not_messages_out_of_order() {
        let mut order = Order::default();
        (1..=3).for_each(|correlation| order.asked(correlation));
        order.answered(2, vec![3, 4]);
        order.answered(1, vec![1, 2]);
        assert_eq!(order.out_of_order, 0);
        order.answered(3, vec![6, 5]);
        assert_eq!(order.out_of_order, 1);
    }
}
