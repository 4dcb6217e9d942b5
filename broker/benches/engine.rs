//! What a message costs in the engine alone: no sockets, no disk, a log in memory.
//!
//! `cargo bench -p tenpin-broker --bench engine` prints, for several depths of the queue, the time for
//! one message to be sent, delivered and deleted in batches of ten; the memory that a visible message
//! takes beside its record; and the longest turn while a million visibility deadlines are due at once.
//! An argument is a depth to measure alone, 0 the deadlines; a second one the batches of a run, few of
//! them for a simulated processor that counts instructions. `-- queues 100000` asks what a message costs among
//! so many queues.

use std::time::{Duration, Instant};

use tenpin_broker::engine::{
    Command, Delivery, Engine, EngineOptions, HANDLE_BYTES, Outputs, RawName, ReplyBody, Ticket,
};
use tenpin_broker::flaws::Sound;
use tenpin_broker::journal::{Durability, Log, LogOptions};
use tenpin_broker::shard::driver::ConnectionId;
use tenpin_protocol::{Entries, Operation, SendEntry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10;
/// Batches of a run.
const BATCHES: usize = 100_000;
/// How often the million deadlines come.
const DEADLINE_RUNS: usize = 5;
const BODY: [u8; 64] = [b'x'; 64];
/// Turns of the shard's loop that a millisecond of engine time stands for: a busy shard's.
const BATCHES_A_MS: u64 = 100;
/// Steps that the shard gives the engine a turn.
const STEPS_A_TURN: u32 = 2_048;

struct Bench {
    engine: Engine<Sound>,
    log: Log<Sound>,
    out: Outputs,
    now_ms: u64,
    queue: u64,
    batches: u64,
}

impl Bench {
    fn new() -> Self {
        // As the broker's without files, but with room for any depth.
        let options =
            LogOptions { hot_bytes_max: 1 << 40, ..LogOptions::new(Durability::Memory, [0; 16], 0) };
        let mut log = Log::in_memory(options);
        let options = EngineOptions { in_flight_max: u64::MAX, ..EngineOptions::new(0, [1, 2]) };
        let mut engine = Engine::new(options);
        let now_ms = 1_700_000_000_000;
        engine.finish_recovery(now_ms, &mut log).expect("there is nothing");
        engine.start(now_ms, [1; 16], &mut log);
        let out = Outputs::default();
        let mut bench = Self { engine, log, out, now_ms, queue: 0, batches: 0 };
        bench.queue = bench.create("bench");
        bench
    }

    fn apply(&mut self, command: Command<'_>) {
        let connection = ConnectionId { index: 0, generation: 0 };
        let ticket = Ticket { connection, correlation: 1, operation: Operation::Ping };
        self.out.clear();
        self.engine.apply(self.now_ms, ticket, command, &mut self.log, &mut self.out);
    }

    fn create(&mut self, name: &str) -> u64 {
        let name = RawName { account: "", region: "", name };
        self.apply(Command::CreateQueue { name, attributes: Entries::default(), tags: Entries::default() });
        match self.out.replies[0].body {
            ReplyBody::QueueOpened { number, .. } => number,
            ref other => panic!("{other:?}"),
        }
    }

    fn send(&mut self) {
        let entries = [SendEntry::new(&BODY); BATCH];
        self.apply(Command::Send { queue: self.queue, entries: Entries::of(&entries) });
        assert!(self.out.sent.iter().all(Result::is_ok));
    }

    fn receive(&mut self) -> [[u8; HANDLE_BYTES]; BATCH] {
        self.apply(Command::Receive {
            queue: self.queue,
            count_max: BATCH as u32,
            wait_ms: Some(0),
            visibility_seconds: None,
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        let handles = self.out.deliveries.iter().map(|delivery: &Delivery| delivery.handle);
        let mut all = [[0; HANDLE_BYTES]; BATCH];
        assert_eq!(handles.len(), BATCH);
        all.iter_mut().zip(handles).for_each(|(place, handle)| *place = handle);
        all
    }

    fn delete(&mut self, handles: &[[u8; HANDLE_BYTES]; BATCH]) {
        let handles = handles.each_ref().map(|handle| &handle[..]);
        self.apply(Command::Delete { queue: self.queue, handles: Entries::of(&handles) });
        assert!(self.out.outcomes.iter().all(Result::is_ok));
    }

    /// Time passes, and the log lets go of segments that nothing lives in any more.
    fn turn(&mut self) {
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES_A_MS) {
            self.now_ms += 1;
            self.out.clear();
            self.engine.advance(self.now_ms, &mut self.log, &mut self.out, STEPS_A_TURN);
            clean(&mut self.engine, &mut self.log, self.now_ms);
        }
    }

    fn lifecycle(&mut self) {
        self.send();
        let handles = self.receive();
        self.delete(&handles);
        self.turn();
    }
}

/// Cleaning as the shard does it.
fn clean(engine: &mut Engine<Sound>, log: &mut Log<Sound>, now_ms: u64) {
    use tenpin_broker::journal::Cleaning;
    match log.cleaning_chunk(256 << 10) {
        Cleaning::Begins(old) => {
            engine.carry_definitions(now_ms, &old, log);
            engine.carry_queues(now_ms, &old, 0, u32::MAX, log);
        }
        Cleaning::Records(records) => {
            for record in &records {
                engine.carry(now_ms, record.position, record.raw(), log);
            }
            log.cleaned(records);
        }
        Cleaning::Idle | Cleaning::Waiting => {}
    }
}

/// Time on a processor, which neighbours on a shared machine do not add to.
fn processor_ns() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    status.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// The cost of a lifecycle at this depth: the best and the median of several runs.
fn lifecycles(depth: usize, batches: usize) {
    let before_bytes = resident_bytes();
    let mut bench = Bench::new();
    for _ in 0..depth / BATCH {
        bench.send();
        bench.turn();
    }
    let after_bytes = resident_bytes();
    let mut runs: Vec<f64> = (0..7)
        .map(|_| {
            let start_ns = processor_ns();
            for _ in 0..batches {
                bench.lifecycle();
            }
            (processor_ns() - start_ns) as f64 / (batches * BATCH) as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("depth {depth:>9}: {:6.1} ns a message at best, {:6.1} in the median", runs[0], runs[3]);
    if depth >= 1_000_000 {
        // A 64-byte body's record takes 144 bytes of the log.
        let beside = (after_bytes - before_bytes) as f64 / depth as f64 - 144.0;
        println!("depth {depth:>9}: {beside:6.1} bytes of memory a visible message beside its record");
    }
}

/// The turns while `count` messages become visible in one millisecond.
fn deadline_turns(count: usize) -> Vec<Duration> {
    let mut bench = Bench::new();
    for _ in 0..count / BATCH {
        bench.send();
    }
    for _ in 0..count / BATCH {
        bench.receive();
    }
    bench.now_ms += 30_000;
    let mut turns = Vec::new();
    loop {
        bench.out.clear();
        let start = Instant::now();
        let more = bench.engine.advance(bench.now_ms, &mut bench.log, &mut bench.out, STEPS_A_TURN);
        turns.push(start.elapsed());
        if !more {
            break;
        }
    }
    let visible = bench.engine.counts(bench.queue).map_or(0, |counts| counts.visible);
    assert_eq!(visible, count as u64);
    turns
}

/// How long the turns are while a million deadlines are due: each does the same in every run, so that the least
/// of several is without the machine's own gaps.
fn deadlines(count: usize) {
    let mut turns = deadline_turns(count);
    for _ in 1..DEADLINE_RUNS {
        let again = deadline_turns(count);
        assert_eq!(again.len(), turns.len());
        turns.iter_mut().zip(again).for_each(|(turn, again)| *turn = again.min(*turn));
    }
    turns.sort();
    let all: Duration = turns.iter().sum();
    let long = turns.iter().filter(|&&turn| turn > Duration::from_millis(1)).count();
    println!(
        "{count} deadlines at once: {} turns, median {:?}, 99 % within {:?}, longest {:?}, {long} over 1 ms, {all:?} in all",
        turns.len(),
        turns[turns.len() / 2],
        turns[turns.len() * 99 / 100],
        turns[turns.len() - 1],
    );
}

/// The cost of a lifecycle on one queue, and going round all of them, beside `count` queues with messages in
/// each.
fn queues(count: usize, batches: usize) {
    let mut bench = Bench::new();
    let all: Vec<u64> = (0..count.max(1)).map(|number| bench.create(&format!("queue-{number}"))).collect();
    for &queue in &all {
        bench.queue = queue;
        bench.send();
        bench.turn();
    }
    for (place, step) in [("on one of them", 0), ("going round all", 1)] {
        let mut at = 0;
        let mut runs: Vec<f64> = (0..7)
            .map(|_| {
                let start_ns = processor_ns();
                for _ in 0..batches {
                    at = (at + step) % all.len();
                    bench.queue = all[at];
                    bench.lifecycle();
                }
                (processor_ns() - start_ns) as f64 / (batches * BATCH) as f64
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        println!(
            "{count:>7} queues, {place}: {:6.1} ns a message at best, {:6.1} in the median",
            runs[0], runs[3]
        );
    }
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let depth = numbers.next();
    let batches = numbers.next().unwrap_or(BATCHES);
    if std::env::args().any(|argument| argument == "queues") {
        return queues(depth.unwrap_or(100_000), batches);
    }
    match depth {
        Some(0) => return deadlines(1_000_000),
        Some(depth) => return lifecycles(depth, batches),
        None => {}
    }
    for depth in [BATCH, 1_000, 1_000_000, 20_000_000] {
        lifecycles(depth, batches);
    }
    deadlines(1_000_000);
}
