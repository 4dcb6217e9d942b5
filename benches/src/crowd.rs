//! Many connections of which few are busy: what each idle one costs the broker in memory, and whether the
//! busy ones notice the others.
//!
//! Every connection has said hello and has had a round of its own (a batch sent, received and deleted), so
//! that what is measured is a client that has fallen silent, not one that never did anything.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::client::{Client, Outgoing, Receive};
use crate::measure;
use crate::process::BrokerProcess;

/// Queues that the connections share.
const QUEUES: usize = 16;

/// Rounds before anything is compared, so that the log has all the memory that it will have: see
/// [`CONFIGURATION`].
const ROUNDS_BEFORE: usize = 1_500;

/// Settings for the broker, so that the log's memory is small and stays the same after the rounds that come first,
/// and that those who are silent on purpose are not taken for dead where the machine is slow.
pub const CONFIGURATION: &str = "segment_bytes = 4194304\nhot_bytes_max = 16777216\nlog_bytes_max = 134217728\n\
    keep_alive_timeout_ms = 1800000\n";

/// How long the broker has to give back what silent connections do not need.
const SETTLE: Duration = Duration::from_secs(5);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct CrowdOptions {
    /// Connections that fall silent.
    pub idle: usize,
    /// Connections with traffic while the others are silent.
    pub busy: usize,
    /// Rounds on each busy one.
    pub rounds: usize,
    /// Bytes of each body.
    pub body_bytes: usize,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct CrowdReport {
    /// Resident memory of the broker that nobody has asked for anything.
    pub idle_bytes: u64,
    /// With one client, after its rounds.
    pub alone_bytes: u64,
    /// With all connections silent.
    pub crowded_bytes: u64,
    /// After the busy ones' traffic.
    pub busy_bytes: u64,
    /// How many were silent.
    pub idle: usize,
    /// Messages that went through while they were.
    pub messages: u64,
    /// How long those took.
    pub took: Duration,
}

impl CrowdReport {
    /// Memory that a silent connection costs.
    pub fn bytes_each(&self) -> u64 {
        self.crowded_bytes.saturating_sub(self.alone_bytes) / self.idle.max(1) as u64
    }
}

impl fmt::Display for CrowdReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            formatter,
            "idle {:.1} MiB, with one client {:.1} MiB; {} silent connections {:.1} MiB, {:.1} KiB each; \
             {} messages beside them at {:.0}/s, {:.1} MiB after",
            mib(self.idle_bytes),
            mib(self.alone_bytes),
            self.idle,
            mib(self.crowded_bytes),
            self.bytes_each() as f64 / 1024.0,
            self.messages,
            self.messages as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE),
            mib(self.busy_bytes),
        )
    }
}

/// Fills a broker that was just started with connections, and measures.
pub fn run(broker: &BrokerProcess, options: &CrowdOptions) -> io::Result<CrowdReport> {
    measure::raise_file_limit()?;
    let address = broker.address();
    let resident = || broker.memory().map(|memory| memory.resident_bytes);
    let idle_bytes = resident()?;
    let mut client = Client::connect(address)?;
    let queues: Vec<u64> =
        (0..QUEUES).map(|number| client.create(&format!("crowd-{number}"), &[])).collect::<Result<_, _>>()?;
    let mut several = (0..QUEUES).map(|_| Client::connect(address)).collect::<Result<Vec<_>, _>>()?;
    for number in 0..ROUNDS_BEFORE {
        round(&mut several[number % QUEUES], queues[0], options.body_bytes)?;
    }
    drop(several);
    std::thread::sleep(SETTLE);
    let mut report = CrowdReport { idle_bytes, alone_bytes: resident()?, ..CrowdReport::default() };
    report.idle = options.idle;
    let silent = fill(address, &queues, options)?;
    std::thread::sleep(SETTLE);
    report.crowded_bytes = resident()?;
    let began = Instant::now();
    let mut busy = (0..options.busy).map(|_| Client::connect(address)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..options.rounds {
        for (number, client) in busy.iter_mut().enumerate() {
            report.messages += round(client, queues[number % QUEUES], options.body_bytes)?;
        }
    }
    report.took = began.elapsed();
    report.busy_bytes = resident()?;
    // The silent ones are there still, and are served.
    for stream in silent {
        Client::from_stream(stream).ping()?;
    }
    Ok(report)
}

fn fill(address: SocketAddr, queues: &[u64], options: &CrowdOptions) -> io::Result<Vec<TcpStream>> {
    let mut silent = Vec::with_capacity(options.idle);
    for number in 0..options.idle {
        let mut client = Client::connect(address)?;
        round(&mut client, queues[number % queues.len()], options.body_bytes)?;
        silent.push(client.into_stream()?);
    }
    Ok(silent)
}

/// A batch sent, received and deleted; gives how many messages it was.
fn round(client: &mut Client, queue: u64, body_bytes: usize) -> io::Result<u64> {
    let body = vec![b'x'; body_bytes];
    let batch = [Outgoing { body: &body, delay_seconds: None }; 10];
    for outcome in client.send(queue, &batch)? {
        outcome.map_err(|refusal| io::Error::other(refusal.to_string()))?;
    }
    let mut left = batch.len();
    while left > 0 {
        let receive = Receive { messages_max: 10, wait_ms: 20_000, visibility_seconds: None };
        let messages = client.receive(queue, receive)?;
        if messages.is_empty() {
            return Err(io::Error::other("messages that were sent do not come"));
        }
        let handles: Vec<_> = messages.into_iter().map(|message| message.handle).collect();
        for outcome in client.delete(queue, &handles)? {
            outcome.map_err(|refusal| io::Error::other(refusal.to_string()))?;
        }
        left -= handles.len().min(left);
    }
    Ok(batch.len() as u64)
}
