//! How long a shard's turn takes at most, by what it has to do beside a client's batch of ten: what stands between two
//! messages of anybody else.
//!
//! Each case is run several times, and does the same in each: the least that each turn took in any of them is without
//! what the machine did beside. Time is the processor's, page faults with it.

use std::path::Path;
use std::time::Duration;

use tenpin_broker::engine::EngineOptions;
use tenpin_broker::journal::{Durability, LogOptions};
use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, CreateQueueRequest, DeleteQueueRequest, DeleteRequest, Entries,
    PurgeRequest, ReceiveRequest, Request, Response, SendEntry, SendRequest,
};

use super::{BATCH, BODY, Bench, processor_ns, responses};

const RUNS: usize = 5;
/// Messages that are stored, due or gone together.
const MANY: usize = 1_000_000;
/// Of those that stay stored while the log is cleaned again and again.
const STORED: usize = 200_000;
/// Large ones that are purged, and their bodies.
const LARGE: usize = 10_000;
static LARGE_BODY: [u8; 64 << 10] = [b'x'; 64 << 10];
/// Turns of a client that sends, receives and deletes.
const TURNS: usize = 200_000;

/// What a turn took, in nanoseconds.
type Turns = Vec<u64>;

/// Prints all cases.
pub fn longest() {
    println!("{:<52} {:>8} {:>10} {:>10} {:>10}", "", "turns", "median", "99.9 %", "longest µs");
    show("a batch sent, received, deleted; segments change", short_queue);
    show("a batch sent, memory made ahead", || growing(true));
    show("a batch sent, memory made by the shard", || growing(false));
    show("a round with files beside 200,000 stored, cleaning", cleaning);
    show("a million messages visible again at once", || timers(MANY));
    show("a million messages expire at once", || expiry(MANY));
    let purged = |queue| Request::Purge(PurgeRequest { queue });
    show("a million messages purged", || gone(MANY, &BODY, purged));
    show("ten thousand messages of 64 KiB purged", || gone(LARGE, &LARGE_BODY, purged));
    let deleted = |queue| Request::DeleteQueue(DeleteQueueRequest { queue });
    show("a queue of a million deleted", || gone(MANY, &BODY, deleted));
}

fn show(name: &str, case: impl Fn() -> Turns) {
    let mut turns = case();
    for _ in 1..RUNS {
        let again = case();
        assert_eq!(again.len(), turns.len(), "{name} does not do the same each time");
        turns.iter_mut().zip(again).for_each(|(turn, again)| *turn = again.min(*turn));
    }
    turns.sort_unstable();
    let us = |at: usize| turns[at.min(turns.len() - 1)] as f64 / 1e3;
    let (median, most) = (us(turns.len() / 2), us(turns.len() * 999 / 1_000));
    println!("{name:<52} {:>8} {median:>10.1} {most:>10.1} {:>10.1}", turns.len(), us(usize::MAX));
}

/// A queue that is never long: its log goes round in few segments.
fn short_queue() -> Turns {
    let mut bench = bench();
    (0..TURNS / 4).for_each(|_| bench.round());
    let begins = bench.shard.log().end();
    let turns = (0..TURNS).map(|_| bench.measured(Bench::round)).collect();
    let segments = (bench.shard.log().end().0 - begins.0) >> SEGMENT_BITS;
    assert!(segments > 50, "{segments} segments are not many");
    turns
}

/// A queue that only grows, into memory that was never used.
fn growing(makes_ahead: bool) -> Turns {
    let mut bench = bench();
    let grow = |bench: &mut Bench| {
        if makes_ahead {
            bench.shard.driver_mut().make_ahead();
        }
        bench.send(&BODY);
    };
    (0..MANY / BATCH).map(|_| bench.measured(grow)).collect()
}

/// A hot queue beside messages that stay, as long as it takes to copy all of them twice. Nothing waits for a disk.
fn cleaning() -> Turns {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let log = LogOptions {
        hot_bytes_max: 1 << 40,
        growth_base_bytes: 64 << 20,
        ..LogOptions::new(Durability::Fsync, [0; 16], 0)
    };
    let mut bench = Bench::with(folder.path(), log, EngineOptions::new(0, [1, 2]));
    bench.store(STORED, &BODY);
    let mut copied = bench.shard.log().end();
    bench.queue = bench.create("hot", &[]);
    let mut turns = Turns::new();
    for _ in 0..2 {
        while bench.shard.log().begin() < copied {
            turns.push(bench.measured(Bench::round));
            assert!(turns.len() < 20 * TURNS, "the log is never cleaned");
        }
        copied = bench.shard.log().end();
    }
    turns
}

fn timers(count: usize) -> Turns {
    let mut bench = bench();
    bench.store(count, &BODY);
    (0..count / BATCH).for_each(|_| {
        bench.receive();
        bench.turn();
    });
    bench.pass(60_000);
    let turns = bench.until_idle();
    assert_eq!(bench.visible(), count as u64);
    turns
}

fn expiry(count: usize) -> Turns {
    let mut bench = bench();
    let minute = Attribute::new(AttributeCode::MessageRetentionPeriod, AttributeValue::Number(60));
    bench.queue = bench.create("short", &[minute]);
    bench.store(count, &BODY);
    assert_eq!(bench.visible(), count as u64);
    bench.pass(100_000);
    let turns = bench.until_idle();
    assert_eq!(bench.visible(), 0);
    turns
}

fn gone(count: usize, body: &[u8], how: impl Fn(u64) -> Request<'static>) -> Turns {
    let mut bench = bench();
    bench.store(count, body);
    how(bench.queue).encode(1, &mut bench.shard.driver_mut().asked[0]);
    let mut turns = vec![bench.measured(|_| {})];
    bench.say_nothing();
    turns.extend(bench.until_idle());
    assert_eq!(bench.visible(), 0);
    turns
}

/// The segments of a log in memory.
const SEGMENT_BITS: u32 = 22;

/// A shard in memory with room for all.
fn bench() -> Bench {
    let log = LogOptions { hot_bytes_max: 1 << 40, ..LogOptions::new(Durability::Memory, [0; 16], 0) };
    assert_eq!(log.segment_bytes, 1 << SEGMENT_BITS);
    let engine = EngineOptions { in_flight_max: u64::MAX, ..EngineOptions::new(0, [1, 2]) };
    Bench::with(Path::new(""), log, engine)
}

impl Bench {
    /// What a turn takes in which the client says what `says` has it say.
    fn measured(&mut self, says: impl FnOnce(&mut Self)) -> u64 {
        says(self);
        let start_ns = processor_ns();
        self.turn();
        processor_ns() - start_ns
    }

    fn turn(&mut self) {
        self.shard.turn().expect("the shard goes on");
    }

    fn say_nothing(&mut self) {
        self.shard.driver_mut().asked.iter_mut().for_each(Vec::clear);
    }

    fn send(&mut self, body: &[u8]) {
        let (queue, entries) = (self.queue, [SendEntry::new(body); BATCH]);
        let asked = &mut self.shard.driver_mut().asked[0];
        asked.clear();
        Request::Send(SendRequest { queue, entries: Entries::of(&entries) }).encode(2, asked);
    }

    fn receive(&mut self) {
        let queue = self.queue;
        let asked = &mut self.shard.driver_mut().asked[0];
        asked.clear();
        Request::Receive(ReceiveRequest::new(queue, BATCH as u8)).encode(3, asked);
    }

    /// What was received is deleted, a batch is sent and one received. Memory is made ahead, as in a broker.
    fn round(&mut self) {
        let queue = self.queue;
        let clients = self.shard.driver_mut();
        clients.make_ahead();
        let (asked, answered) = (&mut clients.asked[0], &clients.answered[0]);
        asked.clear();
        responses(answered, |response| {
            if let Response::Receive(reply) = response {
                let handles: Vec<&[u8]> = reply.messages.iter().map(|message| message.handle).collect();
                let handles = Entries::of(&handles);
                Request::Delete(DeleteRequest { queue, handles }).encode(1, asked);
            }
        });
        let entries = [SendEntry::new(&BODY); BATCH];
        Request::Send(SendRequest { queue, entries: Entries::of(&entries) }).encode(2, asked);
        Request::Receive(ReceiveRequest::new(queue, BATCH as u8)).encode(3, asked);
    }

    fn store(&mut self, count: usize, body: &[u8]) {
        for _ in 0..count / BATCH {
            self.shard.driver_mut().make_ahead();
            self.send(body);
            self.turn();
        }
        self.say_nothing();
    }

    fn create(&mut self, name: &str, attributes: &[Attribute<'_>]) -> u64 {
        self.say_nothing();
        let request =
            CreateQueueRequest { name, attributes: Entries::of(attributes), ..CreateQueueRequest::default() };
        Request::CreateQueue(request).encode(1, &mut self.shard.driver_mut().asked[0]);
        loop {
            self.turn();
            self.say_nothing();
            let mut queue = None;
            responses(&self.shard.driver_mut().answered[0], |response| {
                if let Response::CreateQueue(reply) = response {
                    queue = Some(reply.queue);
                }
            });
            if let Some(queue) = queue {
                return queue;
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.say_nothing();
        self.shard.driver_mut().clocks.monotonic_ns += ms * 1_000_000;
    }

    /// All turns until there is nothing more to do.
    fn until_idle(&mut self) -> Turns {
        let mut turns = Vec::new();
        while turns.is_empty() || self.shard.rest() == Some(Duration::ZERO) {
            turns.push(self.measured(|_| {}));
        }
        turns
    }

    fn visible(&self) -> u64 {
        self.shard.engine().counts(self.queue).map_or(0, |counts| counts.visible)
    }
}
