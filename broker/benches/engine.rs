//! What a message costs in the engine alone: no sockets, no disk, a log in memory.
//!
//! `cargo bench -p tenpin-broker --bench engine` prints, for several depths of the queue, the time for
//! one message to be sent, delivered and deleted in batches of ten; the memory that a visible message
//! takes beside its record; and the longest turn while a million visibility deadlines are due at once.
//! An argument is a depth to measure alone, 0 the deadlines; a second one the batches of a run, few of
//! them for a simulated processor that counts instructions. `-- copied 1000000` asks what cleaning copies while
//! that many messages stay stored on a queue beside a hot one, until the log has turned five times;
//! `-- queues 100000` what a message costs among so many queues.

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
    /// Bytes that cleaning wrote again.
    copied_bytes: u64,
}

impl Bench {
    fn new() -> Self {
        // As the broker's without files, but with room for any depth.
        Self::with_log(LogOptions {
            hot_bytes_max: 1 << 40,
            ..LogOptions::new(Durability::Memory, [0; 16], 0)
        })
    }

    fn with_log(options: LogOptions) -> Self {
        let mut log = Log::in_memory(options);
        let options = EngineOptions { in_flight_max: u64::MAX, ..EngineOptions::new(0, [1, 2]) };
        let mut engine = Engine::new(options);
        let now_ms = 1_700_000_000_000;
        engine.finish_recovery(now_ms, &mut log).expect("there is nothing");
        engine.start(now_ms, [1; 16], &mut log);
        let out = Outputs::default();
        let mut bench = Self { engine, log, out, now_ms, queue: 0, batches: 0, copied_bytes: 0 };
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
            let before = self.log.end();
            clean(&mut self.engine, &mut self.log, self.now_ms);
            self.copied_bytes += self.log.end().0 - before.0;
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

/// What a message costs where nothing else is stored, once the log's memory is there.
fn alone_ns(options: LogOptions) -> f64 {
    let mut bench = Bench::with_log(options);
    let mut each_ns = 0.0;
    for _ in 0..3 {
        let start_ns = processor_ns();
        (0..10 * BATCHES).for_each(|_| bench.lifecycle());
        each_ns = (processor_ns() - start_ns) as f64 / (10 * BATCHES * BATCH) as f64;
    }
    each_ns
}

/// What cleaning copies for each byte newly written (rule 17) while `stored` messages stay on a queue
/// beside a hot one, at the default growth factor, and what a message of the hot one costs with that and alone.
/// Files and disks have no part in it.
fn copied(stored: usize) {
    let defaults = LogOptions::new(Durability::Memory, [0; 16], 0);
    println!("growth factor {}, segments of {} KiB", defaults.growth_factor, defaults.segment_bytes >> 10);
    let options = LogOptions { hot_bytes_max: 1 << 40, ..defaults };
    let alone_ns = alone_ns(options.clone());
    let mut bench = Bench::with_log(options);
    for _ in 0..stored / BATCH {
        bench.send();
        bench.turn();
    }
    bench.queue = bench.create("hot");
    // First until the log is as long as it ever is: what is copied before that is nothing.
    let live_bytes = bench.log.live_bytes();
    let (mut written, mut turns, mut longest, mut batches) = (0, 0, 0, 0);
    let mut start_ns = processor_ns();
    let mut turned_at = bench.log.end();
    let (mut copied_before, mut end_before) = (0, bench.log.end());
    while turns <= 5 {
        bench.lifecycle();
        batches += 1;
        longest = longest.max(bench.log.log_bytes());
        if bench.log.begin() < turned_at {
            continue;
        }
        turned_at = bench.log.end();
        let copied = bench.copied_bytes - copied_before;
        let new = turned_at.0 - end_before.0 - copied;
        let share = copied as f64 / new as f64;
        let each_ns = (processor_ns() - start_ns) as f64 / (batches * BATCH) as f64;
        println!(
            "turn {turns}: {copied} bytes copied, {new} newly written: {share:.3} a byte; {each_ns:.1} ns a message"
        );
        if turns > 0 {
            written += new;
        }
        if turns == 0 {
            (bench.copied_bytes, start_ns, batches) = (0, processor_ns(), 0);
        }
        (copied_before, end_before) = (bench.copied_bytes, turned_at);
        turns += 1;
    }
    let share = bench.copied_bytes as f64 / written as f64;
    let each_ns = (processor_ns() - start_ns) as f64 / (batches * BATCH) as f64;
    println!(
        "{stored} stored ({live_bytes} bytes), log of {longest} bytes at most, turned 5 times: \
         {share:.3} bytes copied a byte newly written; {each_ns:.1} ns a message of the hot queue, {alone_ns:.1} where it is alone"
    );
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let depth = numbers.next();
    if std::env::args().any(|argument| argument == "copied") {
        return copied(depth.unwrap_or(1_000_000));
    }
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
