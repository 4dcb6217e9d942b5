//! The engine alone, on a log in memory: no sockets, no disk.

use tenpin_broker::engine::{
    Command, Engine, EngineOptions, HANDLE_BYTES, Outputs, RawName, ReplyBody, Ticket,
};
use tenpin_broker::flaws::Sound;
use tenpin_broker::journal::{Cleaning, Durability, Log, LogOptions};
use tenpin_broker::shard::driver::ConnectionId;
use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, Operation, SendEntry, write_content,
};

use super::{BATCH, BODY};

/// Turns of the shard's loop that a millisecond of engine time stands for: a busy shard's.
const BATCHES_A_MS: u64 = 100;
/// Steps that the shard gives the engine a turn.
const STEPS_A_TURN: u32 = 2_048;
const GROUPS: u64 = 100;
/// Messages that lie before those that are counted.
const BACKLOG: usize = 1_000;

type Handles = [[u8; HANDLE_BYTES]; BATCH];

struct Bench {
    engine: Engine<Sound>,
    log: Log<Sound>,
    out: Outputs,
    now_ms: u64,
    queue: u64,
    batches: u64,
    messages: u64,
    contents: [Vec<u8>; BATCH],
}

impl Bench {
    fn new(is_fifo: bool) -> Self {
        let mut log = Log::in_memory(LogOptions {
            hot_bytes_max: 1 << 40,
            ..LogOptions::new(Durability::Memory, [0; 16], 0)
        });
        let mut engine =
            Engine::new(EngineOptions { in_flight_max: u64::MAX, ..EngineOptions::new(0, [1, 2]) });
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
            contents: Default::default(),
        };
        let fifo = [Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1))];
        let (name, attributes) = if is_fifo { ("bench.fifo", &fifo[..]) } else { ("bench", &[][..]) };
        let name = RawName { account: "", region: "", name };
        let attributes = Entries::of(attributes);
        bench.apply(Command::CreateQueue { name, attributes, tags: Entries::default() });
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

    fn send(&mut self) {
        let entries = [SendEntry::new(&BODY); BATCH];
        self.apply(Command::Send { queue: self.queue, entries: Entries::of(&entries) });
        assert!(self.out.sent.iter().all(Result::is_ok));
    }

    /// To the next groups, with deduplication ids of their own.
    fn send_to_groups(&mut self) {
        for content in &mut self.contents {
            self.messages += 1;
            let (group, id) = (digits(self.messages % GROUPS), digits(self.messages));
            let [group, id] = [&group, &id].map(|digits| std::str::from_utf8(digits).ok());
            content.clear();
            write_content(
                content,
                &BODY,
                &ContentFields { group, deduplication_id: id, ..Default::default() },
            );
        }
        let contents = std::mem::take(&mut self.contents);
        let entries = contents
            .each_ref()
            .map(|content| SendEntry::with_content(content, BODY.len()).expect("it was just written"));
        self.apply(Command::Send { queue: self.queue, entries: Entries::of(&entries) });
        assert!(self.out.sent.iter().all(Result::is_ok));
        self.contents = contents;
    }

    fn receive(&mut self, visibility_seconds: Option<u32>) -> Handles {
        self.apply(Command::Receive {
            queue: self.queue,
            count_max: BATCH as u32,
            wait_ms: Some(0),
            visibility_seconds,
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        assert_eq!(self.out.deliveries.len(), BATCH);
        std::array::from_fn(|index| self.out.deliveries[index].handle)
    }

    fn delete(&mut self, handles: &Handles) {
        let handles = handles.each_ref().map(|handle| &handle[..]);
        self.apply(Command::Delete { queue: self.queue, handles: Entries::of(&handles) });
        assert!(self.out.outcomes.iter().all(Result::is_ok));
    }

    /// Time passes, and the log lets go of segments that nothing lives in any more.
    fn turn(&mut self) {
        self.batches += 1;
        if !self.batches.is_multiple_of(BATCHES_A_MS) {
            return;
        }
        self.now_ms += 1;
        self.out.clear();
        self.engine.advance(self.now_ms, &mut self.log, &mut self.out, STEPS_A_TURN);
        match self.log.cleaning_chunk(256 << 10) {
            Cleaning::Begins(old) => self.engine.carry_definitions(self.now_ms, &old, &mut self.log),
            Cleaning::Records(records) => {
                for record in &records {
                    self.engine.carry(self.now_ms, record.position, record.raw(), &mut self.log);
                }
                self.log.cleaned(records);
            }
            Cleaning::Idle | Cleaning::Waiting => {}
        }
    }
}

/// A number, without the work of a formatter.
fn digits(number: u64) -> [u8; 8] {
    std::array::from_fn(|place| b'0' + (number / 10_u64.pow(7 - place as u32) % 10) as u8)
}

pub fn send(batches: u64) {
    let mut bench = Bench::new(false);
    for _ in 0..batches {
        bench.send();
        bench.turn();
    }
}

pub fn send_and_receive(batches: u64) {
    let mut bench = Bench::new(false);
    for _ in 0..batches {
        bench.send();
        bench.receive(None);
        bench.turn();
    }
}

pub fn live(batches: u64) {
    let mut bench = Bench::new(false);
    for _ in 0..batches {
        bench.send();
        let handles = bench.receive(None);
        bench.delete(&handles);
        bench.turn();
    }
}

pub fn live_behind_others(batches: u64) {
    let mut bench = Bench::new(false);
    for _ in 0..BACKLOG / BATCH {
        bench.send();
    }
    for _ in 0..batches {
        bench.send();
        let handles = bench.receive(None);
        bench.delete(&handles);
        bench.turn();
    }
}

pub fn live_in_groups(batches: u64) {
    let mut bench = Bench::new(true);
    for _ in 0..batches {
        bench.send_to_groups();
        let handles = bench.receive(None);
        bench.delete(&handles);
        bench.turn();
    }
}

/// The timers of what was received are due together.
pub fn come_back(batches: u64) {
    let mut bench = Bench::new(false);
    for _ in 0..batches {
        bench.send();
        bench.receive(Some(30));
        bench.turn();
    }
    bench.now_ms += 31_000;
    loop {
        bench.out.clear();
        let has_more = bench.engine.advance(bench.now_ms, &mut bench.log, &mut bench.out, STEPS_A_TURN);
        if !has_more {
            break;
        }
    }
    let visible = bench.engine.counts(bench.queue).map_or(0, |counts| counts.visible);
    assert_eq!(visible, batches * BATCH as u64);
}
