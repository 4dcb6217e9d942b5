//! What a message of a FIFO queue costs in the engine alone: no sockets, no disk, a log in memory.
//!
//! `cargo bench -p tenpin-broker --bench fifo` prints the time for a message to be sent, delivered and
//! deleted in batches of ten with distinct deduplication ids: with 1,000 groups, with a million groups that
//! are ready, beside a million groups that are blocked by messages in flight, and at a deep backlog. The
//! cost of a receive must be much the same in all of them. An argument scales the large numbers down:
//! `-- 10` divides them by ten.

use tenpin_broker::engine::{
    Command, Engine, EngineOptions, HANDLE_BYTES, Outputs, RawName, ReplyBody, Ticket,
};
use tenpin_broker::flaws::Sound;
use tenpin_broker::journal::{Cleaning, Durability, Log, LogOptions};
use tenpin_broker::shard::driver::ConnectionId;
use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, Operation, SendEntry, write_content,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10;
const BODY: [u8; 64] = [b'x'; 64];
/// Batches of a measured run.
const BATCHES: usize = 20_000;
/// Turns of the shard's loop that a millisecond of engine time stands for: a busy shard's.
const BATCHES_A_MS: u64 = 100;
const STEPS_A_TURN: u32 = 2_048;
/// Where the window of deduplication is filled: messages a millisecond, and for how long ids are remembered.
const MESSAGES_A_MS: u64 = 200;
const WINDOW_MS: u64 = 300_000;

struct Bench {
    engine: Engine<Sound>,
    log: Log<Sound>,
    out: Outputs,
    now_ms: u64,
    queue: u64,
    batches: u64,
    messages: u64,
    groups: u64,
    /// Groups are numbered from here on.
    first_group: u64,
    batches_a_ms: u64,
}

/// Nanoseconds a message, by what was done with it.
#[derive(Default)]
struct Times {
    send: u64,
    receive: u64,
    delete: u64,
    /// What time brings: timers, ids that go, cleaning.
    turn: u64,
}

impl Bench {
    fn new(groups: u64) -> Self {
        let options =
            LogOptions { hot_bytes_max: 1 << 40, ..LogOptions::new(Durability::Memory, [0; 16], 0) };
        let mut log = Log::in_memory(options);
        let options = EngineOptions { in_flight_max: u64::MAX, ..EngineOptions::new(0, [1, 2]) };
        let mut engine = Engine::new(options);
        let now_ms = 1_700_000_000_000;
        engine.finish_recovery(now_ms, &mut log).expect("there is nothing");
        engine.start(now_ms, [1; 16], &mut log);
        let out = Outputs::default();
        let mut bench = Self {
            engine,
            log,
            out,
            now_ms,
            queue: 0,
            batches: 0,
            messages: 0,
            groups,
            first_group: 0,
            batches_a_ms: BATCHES_A_MS,
        };
        let name = RawName { account: "", region: "", name: "bench.fifo" };
        let fifo = [Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1))];
        bench.apply(Command::CreateQueue { name, attributes: Entries::of(&fifo), tags: Entries::default() });
        let ReplyBody::QueueOpened { number, .. } = bench.out.replies[0].body else { panic!("it is made") };
        bench.queue = number;
        bench
    }

    fn apply(&mut self, command: Command<'_>) {
        let connection = ConnectionId { index: 0, generation: 0 };
        let ticket = Ticket { connection, correlation: 1, operation: Operation::Ping };
        self.out.clear();
        self.engine.apply(self.now_ms, ticket, command, &mut self.log, &mut self.out);
    }

    /// Sends a batch to the next groups. Says how long the engine took.
    fn send(&mut self) -> u64 {
        let contents: Vec<Vec<u8>> = (0..BATCH)
            .map(|_| {
                self.messages += 1;
                let group = format!("group-{}", self.first_group + self.messages % self.groups);
                let id = self.messages.to_string();
                let fields =
                    ContentFields { group: Some(&group), deduplication_id: Some(&id), ..Default::default() };
                let mut content = Vec::with_capacity(128);
                write_content(&mut content, &BODY, &fields);
                content
            })
            .collect();
        let entries: Vec<_> = contents
            .iter()
            .map(|content| SendEntry::with_content(content, BODY.len()).expect("it was just written"))
            .collect();
        let start_ns = processor_ns();
        self.apply(Command::Send { queue: self.queue, entries: Entries::of(&entries) });
        let time_ns = processor_ns() - start_ns;
        assert!(self.out.sent.iter().all(Result::is_ok));
        time_ns
    }

    fn receive(&mut self) -> (u64, Vec<[u8; HANDLE_BYTES]>) {
        let start_ns = processor_ns();
        self.apply(Command::Receive {
            queue: self.queue,
            count_max: BATCH as u32,
            wait_ms: Some(0),
            visibility_seconds: Some(43_200),
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        let time_ns = processor_ns() - start_ns;
        assert_eq!(self.out.deliveries.len(), BATCH);
        (time_ns, self.out.deliveries.iter().map(|delivery| delivery.handle).collect())
    }

    fn delete(&mut self, handles: &[[u8; HANDLE_BYTES]]) -> u64 {
        let handles: Vec<&[u8]> = handles.iter().map(|handle| &handle[..]).collect();
        let start_ns = processor_ns();
        self.apply(Command::Delete { queue: self.queue, handles: Entries::of(&handles) });
        let time_ns = processor_ns() - start_ns;
        assert!(self.out.outcomes.iter().all(Result::is_ok));
        time_ns
    }

    /// Time passes, and the log lets go of segments that nothing lives in any more.
    fn turn(&mut self) {
        self.batches += 1;
        if !self.batches.is_multiple_of(self.batches_a_ms) {
            return;
        }
        self.now_ms += 1;
        self.out.clear();
        self.engine.advance(self.now_ms, &mut self.log, &mut self.out, STEPS_A_TURN);
        match self.log.cleaning_chunk(256 << 10) {
            Cleaning::Begins(old) => {
                self.engine.carry_definitions(self.now_ms, &old, &mut self.log);
                self.engine.carry_queues(self.now_ms, &old, 0, u32::MAX, &mut self.log);
            }
            Cleaning::Records(records) => {
                for record in &records {
                    self.engine.carry(self.now_ms, record.position, record.raw(), &mut self.log);
                }
                self.log.cleaned(records);
            }
            Cleaning::Idle | Cleaning::Waiting => {}
        }
    }

    fn fill(&mut self, messages: usize) {
        for _ in 0..messages / BATCH {
            self.send();
            self.turn();
        }
    }

    /// Sends, receives and deletes so many batches.
    fn live(&mut self, batches: usize) -> Times {
        let mut times = Times::default();
        for _ in 0..batches {
            times.send += self.send();
            let (time_ns, handles) = self.receive();
            times.receive += time_ns;
            times.delete += self.delete(&handles);
            let start_ns = processor_ns();
            self.turn();
            times.turn += processor_ns() - start_ns;
        }
        times
    }

    fn measure(&mut self, what: &str) {
        let mut runs: Vec<Times> = (0..3).map(|_| self.live(BATCHES)).collect();
        runs.sort_by_key(Times::all);
        runs[0].tell(what, BATCHES);
    }
}

impl Times {
    fn all(&self) -> u64 {
        self.send + self.receive + self.delete + self.turn
    }

    fn tell(&self, what: &str, batches: usize) {
        let each = |time_ns: u64| time_ns as f64 / (batches * BATCH) as f64;
        println!(
            "{what}: {:6.0} ns a message (send {:4.0}, receive {:4.0}, delete {:4.0}, in between {:4.0})",
            each(self.all()),
            each(self.send),
            each(self.receive),
            each(self.delete),
            each(self.turn)
        );
    }
}

/// What is resident of the process.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|told| told.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.expect("Linux says so") * 4_096
}

/// Time on a processor, which neighbours on a shared machine do not add to.
fn processor_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and `time` is ours to be written to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn main() {
    let by = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()).unwrap_or(1).max(1);
    let (many, deep) = (1_000_000 / by, 10_000_000 / by);
    // The window of deduplication fills, and then turns.
    let mut bench = Bench::new(1_000);
    bench.batches_a_ms = MESSAGES_A_MS / BATCH as u64;
    let batches = (WINDOW_MS * MESSAGES_A_MS) as usize / by / BATCH;
    let before = resident_bytes();
    bench.live(batches).tell(&format!("1,000 groups, until {} ids are remembered", batches * BATCH), batches);
    let each = (resident_bytes() - before) as f64 / (batches * BATCH) as f64;
    println!("resident for each id: {each:.1} bytes");
    if by > 1 {
        // What is left of the window goes by at once.
        bench.now_ms += WINDOW_MS - WINDOW_MS / by as u64;
    }
    // Ids go a second late.
    bench.live((2_000 * MESSAGES_A_MS) as usize / BATCH);
    bench.measure("1,000 groups, as many ids go as come");
    drop(bench);

    Bench::new(1_000).measure("1,000 groups, empty");

    let mut bench = Bench::new(many as u64);
    bench.fill(many);
    bench.measure(&format!("{many} ready groups"));
    drop(bench);

    // Each group has one message in flight and one that waits for it; then come other groups.
    let mut bench = Bench::new(many as u64);
    bench.fill(many);
    for _ in 0..many / BATCH {
        bench.receive();
    }
    bench.fill(many);
    (bench.groups, bench.first_group) = (1_000, many as u64);
    bench.measure(&format!("{many} blocked groups"));
    drop(bench);

    let mut bench = Bench::new(1_000);
    bench.fill(deep);
    bench.measure(&format!("1,000 groups, backlog {deep}"));
}
