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

use crate::client::{Answer, Client, ClientError, Receive};
use crate::load::{Account, Books};
use crate::measure::{self, Memory};
use crate::process::{BrokerCommand, BrokerProcess};
use crate::wire::BATCH_MAX;

/// The queue that is used.
const QUEUE: &str = "backlog";

/// Requests under way.
const UNDER_WAY_MAX: usize = 64;

/// A line of progress after so many messages.
const PROGRESS_MESSAGES: u64 = 1_000_000;

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
    /// Bytes of each body.
    pub body_bytes: usize,
    /// Kill the broker when all is queued, and measure how long a new one takes to have it again.
    pub restart: bool,
    /// Whether to print progress.
    pub verbose: bool,
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
    /// From the start of the new process until it listened, and its memory then.
    pub recovered: Option<(Duration, Memory)>,
    /// Draining.
    pub drained: Leg,
    /// Messages that came before one that was sent earlier.
    pub out_of_order: u64,
    /// What became of the messages.
    pub account: Account,
}

impl BacklogReport {
    /// Whether every message came once, whole and in order.
    pub fn is_clean(&self) -> bool {
        self.account.is_clean() && self.out_of_order == 0
    }
}

impl fmt::Display for BacklogReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "queued:    {}", self.queued)?;
        if let Some((took, memory)) = self.recovered {
            let (now, most) = (memory.resident_bytes >> 20, memory.resident_bytes_max >> 20);
            let seconds = took.as_secs_f64();
            writeln!(formatter, "recovered: in {seconds:.2} s, {now} MiB resident ({most} MiB at most)")?;
        }
        writeln!(formatter, "drained:   {}", self.drained)?;
        write!(formatter, "{}, {} out of order", self.account, self.out_of_order)
    }
}

/// Piles up, recovers if asked to, drains.
pub fn run(options: &BacklogOptions) -> io::Result<BacklogReport> {
    let folder = tempfile::Builder::new().prefix("tenpin-backlog-").tempdir_in(&options.parent)?;
    let mut command = options.command.clone();
    command.folder = folder.path().join("data");
    let mut broker = command.start()?;
    let mut books = Books::new();
    let queued = measured(&broker, options.messages, || pile_up(options, broker.address(), &mut books))?;
    let mut recovered = None;
    if options.restart {
        broker.kill()?;
        broker = command.start()?;
        recovered = Some((broker.listening_after().unwrap_or_default(), broker.memory()?));
    }
    let mut out_of_order = 0;
    let drained = measured(&broker, options.messages, || {
        out_of_order = drain(options, broker.address(), &mut books)?;
        Ok(())
    })?;
    let (status, printed) = broker.stop(STOP_MAX)?;
    if !status.success() {
        return Err(io::Error::other(format!("the broker stopped with {status}; it printed:\n{printed}")));
    }
    Ok(BacklogReport { queued, recovered, drained, out_of_order, account: books.close() })
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

fn pile_up(options: &BacklogOptions, address: SocketAddr, books: &mut Books) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    let queue = client.create(QUEUE, &[])?;
    let mut bodies = vec![0; BATCH_MAX * options.body_bytes];
    let mut under_way = 0;
    while books.made() < options.messages || under_way > 0 {
        if books.made() < options.messages && under_way < UNDER_WAY_MAX {
            let count = (options.messages - books.made()).min(BATCH_MAX as u64) as usize;
            let bodies = &mut bodies[..count * options.body_bytes];
            bodies.chunks_exact_mut(options.body_bytes).for_each(|body| books.next_body(body));
            client.submit_bodies(queue, bodies.chunks_exact(options.body_bytes))?;
            under_way += 1;
            report_progress(options, "queued", books.made(), count as u64);
            continue;
        }
        match client.next_answer()? {
            (_, Answer::Sent(outcomes)) => {
                if let Some(refusal) = outcomes.into_iter().find_map(Result::err) {
                    return Err(io::Error::other(format!("a send was refused: {refusal}")));
                }
            }
            (_, answer) => return Err(unexpected(answer)),
        }
        under_way -= 1;
    }
    Ok(())
}

/// Receives and deletes until the queue is empty; gives how many messages were out of order.
fn drain(options: &BacklogOptions, address: SocketAddr, books: &mut Books) -> io::Result<u64> {
    let mut client = Client::connect(address)?;
    let queue = client.open(QUEUE)?;
    let receive = Receive { messages_max: BATCH_MAX as u8, wait_ms: 0, visibility_seconds: Some(43_200) };
    let mut order = Order::default();
    let mut deletes = 0;
    let mut is_empty = false;
    let mut taken = 0;
    while !is_empty || !order.waiting.is_empty() || deletes > 0 {
        while !is_empty && order.waiting.len() + deletes < UNDER_WAY_MAX {
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
                    report_progress(options, "drained", taken, messages.len() as u64);
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
    Ok(order.out_of_order)
}

fn report_progress(options: &BacklogOptions, what: &str, done: u64, by: u64) {
    if options.verbose && done / PROGRESS_MESSAGES != (done - by) / PROGRESS_MESSAGES {
        println!("{what} {done} of {}", options.messages);
    }
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
