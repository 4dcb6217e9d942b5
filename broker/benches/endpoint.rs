//! What the SQS endpoint costs the broker: processor time of its process for a message that is sent, received and
//! deleted over HTTP, by clients that each have one request under way; and how soon it listens on an empty folder.
//!
//! The broker has one core and its clients have the other. Where a thread serves one client, it sleeps until it is
//! answered, and whoever answers pays for waking it: on one machine that is the broker. One thread for all clients
//! hardly ever sleeps, as little as clients on another machine would let the broker pay.
//!
//! `cargo bench -p tenpin-broker --bench endpoint`, with the path of another `tenpin` behind `--` to measure that one.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenpin_benches::measure;
use tenpin_benches::process::{BrokerCommand, BrokerProcess};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(500);
const LASTS: Duration = Duration::from_secs(2);
const STARTS: usize = 7;
/// The body of each message.
const BODY: &str = "0123456789012345678901234567890123456789012345678901234567890123";

/// What clients do, and how often they have.
struct Load {
    address: SocketAddr,
    batch: usize,
    ends: AtomicBool,
    lifecycles: AtomicU64,
    requests: AtomicU64,
}

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let program = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_tenpin").to_owned());
    println!("{}, load average {:.1}", measure::machine(), measure::load_average());
    for durability in ["memory", "fsync"] {
        for batch in [10, 1] {
            for (clients, threads) in [(8, 1), (64, 1), (64, 64)] {
                for _ in 0..ROUNDS {
                    run(Path::new(&program), durability, batch, clients, threads);
                }
            }
        }
    }
    start(Path::new(&program));
}

fn broker(program: &Path, folder: &Path, durability: &str) -> (BrokerProcess, Duration) {
    let mut command = BrokerCommand::new(program, &folder.join("data"));
    command.sqs_listen = "127.0.0.1:0".into();
    command.durability = durability.into();
    command.core = (measure::cores() >= 2).then_some(0);
    let began = Instant::now();
    let process = command.start().expect("the broker starts");
    let address = process.sqs_address(PATIENCE).expect("it says where its endpoint is");
    TcpStream::connect(address).expect("it listens there");
    (process, began.elapsed())
}

fn start(program: &Path) {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let folder = tempfile::tempdir().expect("a folder");
            let (process, took) = broker(program, folder.path(), "fsync");
            process.stop(PATIENCE).expect("it stops");
            took
        })
        .collect();
    times.sort_unstable();
    println!(
        "listens on an empty folder after {:.0?} (median; at most {:.0?})",
        times[STARTS / 2],
        times[STARTS - 1]
    );
}

fn run(program: &Path, durability: &str, batch: usize, clients: usize, threads: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let (process, _) = broker(program, folder.path(), durability);
    let load = Load {
        address: process.sqs_address(PATIENCE).expect("it is known"),
        batch,
        ends: AtomicBool::new(false),
        lifecycles: AtomicU64::new(0),
        requests: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| serve(&load, clients / threads));
        }
        std::thread::sleep(WARM_UP);
        let count = || (load.lifecycles.load(Ordering::Relaxed), load.requests.load(Ordering::Relaxed));
        let (before, cpu_before, began) = (count(), process.cpu().expect("it runs"), Instant::now());
        std::thread::sleep(LASTS);
        let (after, cpu, took) = (count(), process.cpu().expect("it runs") - cpu_before, began.elapsed());
        load.ends.store(true, Ordering::Relaxed);
        let (lifecycles, requests) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        let each_us = |count: f64| cpu.as_secs_f64() * 1e6 / count;
        println!(
            "{durability:<6} {batch:>2} a request, {clients:>2} clients on {threads:>2} threads: {:>6.2} us a lifecycle, {:>5.1} us a request, \
             {:>7.0} lifecycles/s",
            each_us(lifecycles),
            each_us(requests),
            lifecycles / took.as_secs_f64(),
        );
    });
    process.stop(PATIENCE).expect("it stops");
}

/// Lets so many clients work, from the calling thread.
fn serve(load: &Load, clients: usize) {
    if measure::cores() >= 2 {
        measure::pin_to_core(1).expect("it is there");
    }
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::new(load)).collect();
    clients.iter_mut().for_each(|client| client.ask(load));
    while !load.ends.load(Ordering::Relaxed) {
        for client in &mut clients {
            client.take_answer(load);
            client.ask(load);
        }
    }
    clients.iter_mut().for_each(|client| client.take_answer(load));
}

/// What a client does next.
enum Step {
    Send,
    Receive,
    /// Messages with these handles.
    Delete(Vec<String>),
}

/// A client, who sends, receives and deletes.
struct Client {
    http: Http,
    url: String,
    /// The request that sends.
    send: (&'static str, String),
    receive: String,
    step: Step,
}

impl Client {
    fn new(load: &Load) -> Self {
        let mut http = Http::connect(load.address);
        http.write("CreateQueue", r#"{"QueueName":"load"}"#);
        http.read();
        let url = format!("http://{}/000000000000/load", load.address);
        let entry = |id| format!(r#"{{"Id":"{id}","MessageBody":"{BODY}"}}"#);
        let send = match load.batch {
            1 => ("SendMessage", format!(r#"{{"QueueUrl":"{url}","MessageBody":"{BODY}"}}"#)),
            batch => {
                let entries: Vec<_> = (0..batch).map(entry).collect();
                ("SendMessageBatch", format!(r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#, entries.join(",")))
            }
        };
        let receive = format!(r#"{{"QueueUrl":"{url}","MaxNumberOfMessages":{}}}"#, load.batch);
        Self { http, url, send, receive, step: Step::Send }
    }

    fn ask(&mut self, load: &Load) {
        load.requests.fetch_add(1, Ordering::Relaxed);
        let url = &self.url;
        match &self.step {
            Step::Send => self.http.write(self.send.0, &self.send.1),
            Step::Receive => self.http.write("ReceiveMessage", &self.receive),
            Step::Delete(handles) if load.batch == 1 => {
                let handle = &handles[0];
                let delete = format!(r#"{{"QueueUrl":"{url}","ReceiptHandle":"{handle}"}}"#);
                self.http.write("DeleteMessage", &delete);
            }
            Step::Delete(handles) => {
                let mut entries = String::new();
                for (id, handle) in handles.iter().enumerate() {
                    let comma = if id == 0 { "" } else { "," };
                    let _ = write!(entries, r#"{comma}{{"Id":"{id}","ReceiptHandle":"{handle}"}}"#);
                }
                let delete = format!(r#"{{"QueueUrl":"{url}","Entries":[{entries}]}}"#);
                self.http.write("DeleteMessageBatch", &delete);
            }
        }
    }

    fn take_answer(&mut self, load: &Load) {
        let answer = self.http.read();
        self.step = match &self.step {
            Step::Send => Step::Receive,
            Step::Receive => {
                let handles: Vec<String> = answer
                    .split(r#""ReceiptHandle":""#)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned)
                    .collect();
                if handles.is_empty() { Step::Send } else { Step::Delete(handles) }
            }
            Step::Delete(handles) => {
                load.lifecycles.fetch_add(handles.len() as u64, Ordering::Relaxed);
                Step::Send
            }
        };
    }
}

/// A lean HTTP client, which sends headers as long as those of an SDK.
struct Http {
    stream: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
}

impl Http {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the endpoint listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Self { stream, address, input: Vec::new() }
    }

    fn write(&mut self, action: &str, body: &str) {
        let (address, length, zeros) = (self.address, body.len(), "0".repeat(64));
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: AmazonSQS.{action}\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-date: 20261128T000000Z\r\nuser-agent: bench\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=any/20261128/us-east-1/sqs/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={zeros}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).expect("the endpoint takes requests");
    }

    /// The body of the response, which must be a success.
    fn read(&mut self) -> String {
        self.input.clear();
        loop {
            let mut buffer = [0; 65_536];
            let count = self.stream.read(&mut buffer).expect("the endpoint answers");
            assert!(count > 0, "the endpoint has closed the connection");
            self.input.extend_from_slice(&buffer[..count]);
            if let Some(body) = whole(&self.input) {
                return body.to_owned();
            }
        }
    }
}

/// The body of a response that is there whole.
fn whole(input: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(input).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    (body.len() >= length).then_some(body)
}
