//! A broker's inside for tests: an engine, a log in memory, and every record as it was appended.
//!
//! Restarting replays the records into a new engine; cleaning carries the oldest ones and forgets
//! them, as the log does with its segments.

mod bounds;
mod deliveries;
mod digest;
mod peek;
mod queues;
mod restarts;

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ChangeVisibilityEntry, Entries, ErrorCode, Operation,
    SendEntry, StatisticCode,
};

use super::records::StoredMessage;
use super::*;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::journal::{Durability, LogOptions, RawRecord};
use crate::shard::driver::ConnectionId;
use crate::simulator::bugs::Planted;

pub(super) const START_MS: u64 = 1_700_000_000_000;
pub(super) const CONNECTION: ConnectionId = ConnectionId { index: 3, generation: 1 };

/// Far more steps than any test has timers.
pub(super) const ALL: u32 = 1 << 30;

pub(super) struct World<F: Flaws> {
    pub engine: Engine<F>,
    pub log: Log<F>,
    pub out: Outputs,
    pub now_ms: u64,
    /// Places of the records that the log still has.
    pub records: Vec<Position>,
    seen: u64,
    options: EngineOptions,
    pub correlation: u32,
    starts: u8,
    counted_before: u64,
}

impl<F: Flaws> World<F> {
    pub fn new(options: EngineOptions) -> Self {
        let log_options = LogOptions {
            segment_bytes: 16 << 20,
            is_recovered: true,
            ..LogOptions::new(Durability::Memory, [7; 16], 0)
        };
        let mut log = Log::in_memory(log_options);
        let mut engine = Engine::new(options.clone());
        let seen = log.end().0;
        engine.finish_recovery(START_MS, &mut log).expect("there is nothing");
        engine.start(START_MS, epoch(1, options.shard), &mut log);
        let mut world = Self {
            engine,
            log,
            out: Outputs::default(),
            now_ms: START_MS,
            records: Vec::new(),
            seen,
            options,
            correlation: 0,
            starts: 1,
            counted_before: 0,
        };
        world.note_records();
        world
    }

    pub fn note_records(&mut self) {
        while self.seen < self.log.end().0 {
            let position = Position(self.seen);
            let length = parsed(&self.record(position)).padded_length() as u64;
            self.records.push(position);
            self.seen += length;
        }
    }

    pub fn record(&self, position: Position) -> Vec<u8> {
        let prefix = self.log.bytes(position, 4).expect("the log has all in one segment");
        let length = u32::from_le_bytes(prefix.try_into().expect("four bytes"));
        self.log.bytes(position, length).expect("a record lies in one segment").to_vec()
    }

    pub fn apply(&mut self, command: Command<'_>) -> Vec<Reply> {
        self.apply_for(CONNECTION, command)
    }

    pub fn apply_for(&mut self, connection: ConnectionId, command: Command<'_>) -> Vec<Reply> {
        self.correlation += 1;
        self.out.clear();
        let ticket = Ticket { connection, correlation: self.correlation, operation: Operation::Ping };
        self.engine.apply(self.now_ms, ticket, command, &mut self.log, &mut self.out);
        self.note_records();
        self.out.replies.clone()
    }

    /// The reply of a command that is answered at once and wakes nobody.
    pub fn ask(&mut self, command: Command<'_>) -> Reply {
        let mut replies = self.apply(command);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    /// Applies a change that was planned elsewhere.
    pub fn apply_change(&mut self, change: &Change) {
        self.out.clear();
        self.engine.apply_change(self.now_ms, change, &mut self.log, &mut self.out);
        self.note_records();
    }

    pub fn advance(&mut self, by_ms: u64, steps: u32) -> (bool, Vec<Reply>) {
        self.now_ms += by_ms;
        self.out.clear();
        let more = self.engine.advance(self.now_ms, &mut self.log, &mut self.out, steps);
        self.note_records();
        (more, self.out.replies.clone())
    }

    /// Runs everything that is due.
    pub fn drain(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            let (more, some) = self.advance(0, ALL);
            replies.extend(some);
            if !more {
                return replies;
            }
        }
    }

    /// A new engine from the records alone, at the same time; waits are gone.
    pub fn restart(&mut self) {
        self.recover();
        self.restart_recovered();
    }

    /// Journals the start of an engine that has just been recovered.
    pub fn restart_recovered(&mut self) {
        self.starts += 1;
        self.engine.start(self.now_ms, epoch(self.starts, self.options.shard), &mut self.log);
        self.note_records();
    }

    /// The log still counts what an engine before had live; what that was is known to be this much.
    pub fn live_bytes(&self) -> u64 {
        self.log.live_bytes() - self.counted_before
    }

    /// Replays the records into a new engine.
    pub fn recover(&mut self) {
        self.counted_before = self.log.live_bytes();
        let mut engine = Engine::new(self.options.clone());
        for &position in &self.records {
            engine.replay(position, parsed(&self.record(position))).expect("the engine wrote it");
        }
        engine.finish_recovery(self.now_ms, &mut self.log).expect("the records fit together");
        self.engine = engine;
    }

    /// Carries what is live of the oldest records, and forgets these.
    pub fn clean(&mut self, count: usize) {
        let old: Vec<_> = self.records.drain(..count.min(self.records.len())).collect();
        let end = self.records.first().copied().unwrap_or(self.log.end());
        if let Some(&start) = old.first() {
            let old = start..end;
            self.engine.carry_definitions(self.now_ms, &old, &mut self.log);
            let mut from = Some(0);
            while let Some(place) = from {
                from = self.engine.carry_queues(self.now_ms, &old, place, 2, &mut self.log);
            }
        }
        for position in old {
            let record = self.record(position);
            self.engine.carry(self.now_ms, position, parsed(&record), &mut self.log);
        }
        self.note_records();
    }

    /// The oldest records cannot be read any more: what is live of them is rescued, a few slots at a time.
    pub fn lose(&mut self, count: usize) {
        let lost: Vec<_> = self.records.drain(..count).collect();
        let end = self.records.first().copied().unwrap_or(self.log.end());
        while !self.engine.rescue(self.now_ms, &(lost[0]..end), 2, &mut self.log) {}
        self.note_records();
    }

    pub fn create(&mut self, name: &str) -> u64 {
        self.create_with(name, &[])
    }

    pub fn create_with(&mut self, name: &str, attributes: &[Attribute<'_>]) -> u64 {
        let name = RawName { account: "", region: "", name };
        let attributes = Entries::of(attributes);
        match self.ask(Command::CreateQueue { name, attributes, tags: Entries::default() }).body {
            ReplyBody::QueueOpened { number, .. } => number,
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&mut self, queue: u64, bodies: &[&str]) {
        let entries: Vec<_> = bodies.iter().map(|body| SendEntry::new(body.as_bytes())).collect();
        let replies = self.apply(Command::Send { queue, entries: Entries::of(&entries) });
        assert!(matches!(&replies[0].body, ReplyBody::Sent(range) if range.len() == bodies.len()));
        assert!(self.out.sent.iter().all(Result::is_ok), "{:?}", self.out.sent);
    }

    /// Receives at once.
    pub fn receive(&mut self, queue: u64, count_max: u32, visibility_seconds: u32) -> Vec<Delivery> {
        let reply = self.ask(Command::Receive {
            queue,
            count_max,
            wait_ms: Some(0),
            visibility_seconds: Some(visibility_seconds),
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        match reply.body {
            ReplyBody::Received(range) => {
                self.out.deliveries[range.start as usize..range.end as usize].to_vec()
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn body(&self, delivery: &Delivery) -> String {
        let bytes = self.log.bytes(delivery.position, delivery.length).expect("a record");
        let raw = RawRecord::parse(bytes).expect("a record");
        let stored = StoredMessage::parse(&raw).expect("a message");
        // Its record is known by its place: the sequence in it is older where the message has moved.
        assert_eq!(stored.slot, delivery.slot);
        String::from_utf8(stored.content[..stored.body_bytes as usize].to_vec()).expect("tests send text")
    }

    pub fn received(&mut self, queue: u64, count_max: u32, visibility_seconds: u32) -> Vec<String> {
        let deliveries = self.receive(queue, count_max, visibility_seconds);
        deliveries.iter().map(|delivery| self.body(delivery)).collect()
    }

    pub fn delete(&mut self, queue: u64, handle: &[u8]) -> (Outcome, Position) {
        let reply = self.ask(Command::Delete { queue, handles: Entries::of(&[handle]) });
        (self.out.outcomes[0].clone(), reply.depends_on)
    }

    pub fn hide(&mut self, queue: u64, handle: &[u8], visibility_seconds: u32) -> Outcome {
        let entries = [ChangeVisibilityEntry { visibility_seconds, handle }];
        self.apply(Command::ChangeVisibility { queue, entries: Entries::of(&entries) });
        self.out.outcomes[0].clone()
    }

    pub fn set(&mut self, queue: u64, code: AttributeCode, value: u64) -> ReplyBody {
        let attributes = [Attribute::new(code, AttributeValue::Number(value))];
        self.ask(Command::SetAttributes { queue, attributes: Entries::of(&attributes) }).body
    }

    pub fn counts(&self, queue: u64) -> [u64; 4] {
        let counts = self.engine.counts(queue).expect("the queue is there");
        [counts.visible, counts.in_flight, counts.delayed, counts.damaged]
    }
}

fn parsed(record: &[u8]) -> RawRecord<'_> {
    RawRecord::parse(record).expect("the log wrote it")
}

/// Of each start of each shard another one, as the broker draws them.
fn epoch(start: u8, shard: u16) -> [u8; 16] {
    let mut epoch = [start; 16];
    epoch[..2].copy_from_slice(&shard.to_le_bytes());
    epoch
}

pub(super) fn world<F: Flaws>() -> World<F> {
    World::new(EngineOptions::new(0, [1, 2]))
}

pub(super) fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> ErrorCode {
    outcome.expect_err("it is refused").code
}
