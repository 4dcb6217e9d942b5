//! A broker's inside for tests: an engine, a log in memory, and every record as it was appended.
//!
//! Restarting replays the records into a new engine; cleaning carries the oldest ones and forgets
//! them, as the log does with its segments.

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
    correlation: u32,
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
        engine.start(START_MS, [1; 16], &mut log);
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

    fn record(&self, position: Position) -> Vec<u8> {
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
        self.engine.start(self.now_ms, [self.starts; 16], &mut self.log);
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
            self.engine.carry_definitions(self.now_ms, &(start..end), &mut self.log);
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

pub(super) fn world<F: Flaws>() -> World<F> {
    World::new(EngineOptions::new(0, [1, 2]))
}

pub(super) fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> ErrorCode {
    outcome.expect_err("it is refused").code
}

#[test]
fn a_repeated_delete_rests_on_the_first() {
    fn run<F: Flaws>() -> (Position, Position) {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        let handle = world.receive(queue, 1, 30)[0].handle;
        let (first, end) = world.delete(queue, &handle);
        first.expect("it is there");
        let (second, depends_on) = world.delete(queue, &handle);
        second.expect("deleting again succeeds");
        (end, depends_on)
    }
    let (end, depends_on) = run::<Sound>();
    assert!(depends_on >= end);
    let (end, depends_on) = Planted::with(Flaw::ForgetWhatARepeatedDeleteRestsOn, run::<Planted>);
    assert!(depends_on < end);
}

#[test]
fn generations_are_never_used_again() {
    fn run<F: Flaws>() -> (u64, u64) {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        let before = world.receive(queue, 1, 30)[0];
        world.delete(queue, &before.handle).0.expect("it is there");
        world.restart();
        world.send(queue, &["b"]);
        let after = world.receive(queue, 1, 30)[0];
        (before.sequence, after.sequence)
    }
    let (before, after) = run::<Sound>();
    assert!(after > before);
    let (before, after) = Planted::with(Flaw::ReuseGenerationsAfterRestart, run::<Planted>);
    assert_eq!(after, before);
}

#[test]
fn queues_are_carried() {
    fn run<F: Flaws>() -> bool {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.clean(usize::MAX);
        world.restart();
        world.engine.counts(queue).is_some()
    }
    assert!(run::<Sound>());
    assert!(!Planted::with(Flaw::LoseQueuesInCleaning, run::<Planted>));
}

#[test]
fn policies_and_tags_are_carried() {
    fn run<F: Flaws>() -> bool {
        let mut world = world::<F>();
        let policy = r#"{"redrivePermission":"denyAll"}"#;
        let policy = Attribute::new(AttributeCode::RedriveAllowPolicy, AttributeValue::Text(policy));
        let queue = world.create_with("q", &[policy]);
        let tags = [tenpin_protocol::Tag { key: "key", value: "value" }];
        world.ask(Command::TagQueue { queue, tags: Entries::of(&tags) });
        world.clean(usize::MAX);
        let digest = world.engine.digest();
        world.recover();
        world.engine.digest() == digest
    }
    assert!(run::<Sound>());
    assert!(!Planted::with(Flaw::LoseDetailsInCleaning, run::<Planted>));
}

#[test]
fn copies_are_linked_by_sequence() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a", "b", "c"]);
        // Start, queue state, "a": the copy of "a" lies behind "b" and "c".
        world.clean(3);
        world.restart();
        world.received(queue, 10, 30)
    }
    assert_eq!(run::<Sound>(), ["a", "b", "c"]);
    assert_eq!(Planted::with(Flaw::LinkCopiesInLogOrder, run::<Planted>), ["b", "c", "a"]);
}

#[test]
fn timers_run_after_a_restart() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        world.receive(queue, 1, 30);
        world.restart();
        world.advance(30_000, ALL);
        world.received(queue, 1, 30)
    }
    assert_eq!(run::<Sound>(), ["a"]);
    assert!(Planted::with(Flaw::DropTimersAfterRestart, run::<Planted>).is_empty());
}

#[test]
fn expiry_is_judged_by_the_deadline() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let retention = Attribute::new(AttributeCode::MessageRetentionPeriod, AttributeValue::Number(60));
        let queue = world.create_with("q", &[retention]);
        world.send(queue, &["a"]);
        world.now_ms += 60_000;
        // No timer has run.
        world.received(queue, 1, 30)
    }
    assert!(run::<Sound>().is_empty());
    assert_eq!(Planted::with(Flaw::JudgeExpiryByTimer, run::<Planted>), ["a"]);
}

#[test]
fn visibility_is_judged_by_the_deadline() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let handle = world.receive(queue, 1, 30)[0].handle;
    world.now_ms += 29_999;
    assert_eq!(world.hide(queue, &handle, 1), Ok(()));
    world.now_ms += 1_000;
    assert_eq!(code(world.hide(queue, &handle, 1)), ErrorCode::MessageNotInflight);
    world.drain();
    assert_eq!(world.received(queue, 1, 30), ["a"]);
    // An older handle deletes, whoever has the message now.
    world.delete(queue, &handle).0.expect("it is there");
    assert_eq!(world.counts(queue), [0; 4]);
    assert_eq!(code(world.hide(queue, &handle, 1)), ErrorCode::InvalidParameterValue);
}

#[test]
fn changes_of_visibility_end_12_hours_after_the_delivery() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let handle = world.receive(queue, 1, 43_200)[0].handle;
    world.now_ms += 1_000;
    assert_eq!(code(world.hide(queue, &handle, 43_200)), ErrorCode::InvalidParameterValue);
    assert_eq!(world.hide(queue, &handle, 43_199), Ok(()));
    assert_eq!(code(world.hide(queue, &handle, 43_201)), ErrorCode::InvalidParameterValue);
    assert_eq!(world.hide(queue, &handle, 0), Ok(()));
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
    assert_eq!(code(world.hide(queue, &handle, 1)), ErrorCode::MessageNotInflight);
}

#[test]
fn a_handle_works_only_on_its_queue() {
    let mut world = world::<Sound>();
    let (one, two) = (world.create("one"), world.create("two"));
    world.send(one, &["a"]);
    let handle = world.receive(one, 1, 30)[0].handle;
    let (outcome, _) = world.delete(two, &handle);
    let refusal = outcome.expect_err("another queue's");
    assert_eq!(refusal.code, ErrorCode::ReceiptHandleIsInvalid);
    assert!(refusal.text.contains("not valid for this queue"));
    assert_eq!(code(world.delete(one, b"garbage").0), ErrorCode::ReceiptHandleIsInvalid);
    assert_eq!(world.counts(one), [0, 1, 0, 0]);
}

#[test]
fn a_full_queue_in_flight_refuses_short_polls_and_holds_long_ones() {
    let mut world = World::<Sound>::new(EngineOptions { in_flight_max: 2, ..EngineOptions::new(0, [1, 2]) });
    let queue = world.create("q");
    world.send(queue, &["a", "b", "c"]);
    let deliveries = world.receive(queue, 10, 30);
    assert_eq!(deliveries.len(), 2);
    let receive = |wait_ms| Command::Receive {
        queue,
        count_max: 10,
        wait_ms: Some(wait_ms),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(
        matches!(world.ask(receive(0)).body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::OverLimit)
    );
    assert!(world.apply(receive(20_000)).is_empty());
    let handle = deliveries[0].handle;
    let replies = world.apply(Command::Delete { queue, handles: Entries::of(&[&handle]) });
    assert_eq!(replies.len(), 2);
    assert!(
        replies[1].ends_wait && matches!(&replies[1].body, ReplyBody::Received(range) if range.len() == 1)
    );
}

#[test]
fn an_undelivered_message_is_not_taken_from_its_next_consumer() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let first = world.receive(queue, 1, 30)[0];
    world.advance(30_000, ALL);
    let second = world.receive(queue, 1, 30)[0];
    assert!(world.apply(Command::Undelivered { messages: &[first.message()] }).is_empty());
    assert_eq!(world.counts(queue), [0, 1, 0, 0]);
    world.apply(Command::Undelivered { messages: &[second.message()] });
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
    assert_eq!(world.receive(queue, 1, 30)[0].receive_count, 2);
}

#[test]
fn what_never_left_keeps_its_place_before_younger_messages() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["old"]);
    let never_left = world.receive(queue, 1, 30)[0];
    world.advance(1_000, ALL);
    world.send(queue, &["young"]);
    world.advance(1_000, ALL);
    world.apply(Command::Undelivered { messages: &[never_left.message()] });
    world.restart();
    assert_eq!(world.received(queue, 10, 1), ["old", "young"]);
    // Somebody had it meanwhile: it stands where it came back.
    world.advance(1_000, ALL);
    world.send(queue, &["youngest"]);
    world.advance(1_000, ALL);
    let again = world.receive(queue, 1, 30)[0];
    world.advance(1_000, ALL);
    world.apply(Command::Undelivered { messages: &[again.message()] });
    assert_eq!(world.received(queue, 10, 30), ["young", "youngest", "old"]);
}

#[test]
fn what_never_left_and_is_visible_again_stands_where_its_record_says() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let never_left = world.receive(queue, 1, 30)[0];
    // Its time is over, though its timer has not run.
    world.now_ms += 31_000;
    world.apply(Command::Undelivered { messages: &[never_left.message()] });
    let digest = world.engine.digest();
    world.recover();
    assert_eq!(world.engine.digest(), digest);
}

#[test]
fn what_was_hidden_with_an_older_handle_stays_hidden_when_a_delivery_never_left() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let first = world.receive(queue, 1, 30)[0];
    world.advance(30_000, ALL);
    let second = world.receive(queue, 1, 30)[0];
    world.hide(queue, &first.handle, 60).expect("it is in flight");
    world.apply(Command::Undelivered { messages: &[second.message()] });
    assert_eq!(world.counts(queue), [0, 1, 0, 0], "the change was acknowledged");
    world.advance(60_000, ALL);
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
}

#[test]
fn a_longer_retention_brings_nothing_back() {
    let mut world = world::<Sound>();
    let retention = Attribute::new(AttributeCode::MessageRetentionPeriod, AttributeValue::Number(60));
    let queue = world.create_with("q", &[retention]);
    world.send(queue, &["a"]);
    world.now_ms += 60_000;
    assert_eq!(world.set(queue, AttributeCode::MessageRetentionPeriod, 600), ReplyBody::Done);
    assert!(world.received(queue, 1, 30).is_empty());
    world.restart();
    assert!(world.received(queue, 1, 30).is_empty());
}

#[test]
fn purge_and_delete_cost_no_turn_and_free_everything_in_slices() {
    let mut world = world::<Sound>();
    let (one, two) = (world.create("one"), world.create("two"));
    let bodies = ["b"; 10];
    for _ in 0..100 {
        world.send(one, &bodies);
        world.send(two, &bodies);
    }
    world.receive(one, 10, 0);
    let live_before = world.log.live_bytes();
    assert_eq!(world.ask(Command::Purge { queue: one }).body, ReplyBody::Done);
    assert_eq!(world.ask(Command::DeleteQueue { queue: two }).body, ReplyBody::Done);
    assert_eq!(world.counts(one), [0; 4]);
    assert!(world.received(one, 10, 30).is_empty());
    world.send(one, &["new"]);
    let mut turns = 0;
    while world.advance(0, 16).0 {
        turns += 1;
        assert!(turns < 10_000);
    }
    assert!(turns > 10);
    assert_eq!(world.engine.stored_messages(), 1);
    assert!(world.log.live_bytes() < live_before / 100);
    assert_eq!(world.received(one, 10, 30), ["new"]);
}

#[test]
fn names_are_free_again_after_a_minute() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    assert_eq!(world.ask(Command::DeleteQueue { queue }).body, ReplyBody::Done);
    let name = RawName { account: "", region: "", name: "q" };
    let create = Command::CreateQueue { name, attributes: Entries::default(), tags: Entries::default() };
    let refused =
        |body| matches!(body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::QueueDeletedRecently);
    assert!(refused(world.ask(create).body));
    world.clean(usize::MAX);
    world.restart();
    world.now_ms += 59_999;
    assert!(refused(world.ask(create).body));
    world.now_ms += 1;
    let again = world.create("q");
    assert_ne!(again, queue);
    let gone = world.ask(Command::Purge { queue }).body;
    assert!(matches!(gone, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::QueueDoesNotExist));
}

#[test]
fn lists_come_in_pages() {
    let mut world = world::<Sound>();
    for name in ["b", "a2", "a1", "a3", "c"] {
        world.create(name);
    }
    let mut page = |prefix, next: Option<&[u8]>, count_max| {
        let prefix = RawName { account: "", region: "", name: prefix };
        match world.ask(Command::ListQueues { prefix, next, count_max }).body {
            ReplyBody::Queues(page) => {
                let names: Vec<_> = page.names.iter().map(|name| name.name().to_owned()).collect();
                (names, page.next)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page("", None, 0).0, ["a1", "a2", "a3", "b", "c"]);
    let (names, next) = page("a", None, 2);
    assert_eq!(names, ["a1", "a2"]);
    let (names, next) = page("a", next.as_deref(), 2);
    assert_eq!((names, next), (vec!["a3".to_owned()], None));
}

#[test]
fn peek_shows_all_in_pages_and_changes_nothing() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let bodies: Vec<String> = (0..25).map(|number| format!("m{number:02}")).collect();
    for bodies in bodies.chunks(5) {
        let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
        world.send(queue, &bodies);
        world.now_ms += 1;
    }
    world.receive(queue, 3, 30);
    world.receive(queue, 2, 0);
    let before = world.engine.digest();
    let (mut seen, mut next) = (Vec::new(), None::<Box<[u8]>>);
    loop {
        let command =
            Command::Peek { queue, count_max: 4, state: 0, next: next.as_deref(), reply_bytes_max: u32::MAX };
        let ReplyBody::Peeked(range, more) = world.ask(command).body else { panic!("a peek") };
        let shown = world.out.deliveries[range.start as usize..range.end as usize].to_vec();
        seen.extend(shown.iter().map(|delivery| world.body(delivery)));
        next = more;
        if next.is_none() {
            break;
        }
    }
    // Visible from the times of sending on, then the two that came back, then those in flight.
    let mut expected: Vec<String> = bodies[5..].to_vec();
    expected.extend(bodies[3..5].iter().cloned());
    expected.extend(bodies[..3].iter().cloned());
    assert_eq!(seen, expected);
    assert_eq!(world.engine.digest(), before);
}

#[test]
fn a_further_page_shows_nothing_that_was_purged_nor_of_another_queue() {
    let mut world = world::<Sound>();
    let (purged, other) = (world.create("purged"), world.create("other"));
    for queue in [purged, other] {
        world.send(queue, &["a", "b", "c", "d"]);
    }
    let peek = |queue, next| Command::Peek { queue, count_max: 2, state: 0, next, reply_bytes_max: u32::MAX };
    let ReplyBody::Peeked(_, next) = world.ask(peek(purged, None)).body else { panic!("a peek") };
    let next = next.expect("there is more");
    let ReplyBody::Peeked(range, _) = world.ask(peek(other, Some(&next))).body else { panic!("a peek") };
    let shown = &world.out.deliveries[range.start as usize..range.end as usize];
    assert!(shown.iter().all(|delivery| delivery.slot >= 4), "{shown:?}");
    world.ask(Command::Purge { queue: purged });
    // Nothing of it has been swept yet.
    let ReplyBody::Peeked(range, _) = world.ask(peek(purged, Some(&next))).body else { panic!("a peek") };
    assert!(range.is_empty());
}

#[test]
fn limits_of_a_batch_and_of_a_message() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let large = vec![b'x'; 1 << 20];
    let entries = [SendEntry::new(&large), SendEntry::new(b"y")];
    let body = world.ask(Command::Send { queue, entries: Entries::of(&entries) }).body;
    assert!(matches!(body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::BatchRequestTooLong
        && refusal.text.ends_with("You have sent 1048577 bytes.")));
    world.set(queue, AttributeCode::MaximumMessageSize, 1_024);
    let mut late = SendEntry::new(b"late");
    late.delay_seconds = Some(901);
    let mut urgent = SendEntry::new(b"urgent");
    urgent.priority = Some(3);
    let entries =
        [SendEntry::new(&large[..1_025]), SendEntry::new(b""), late, urgent, SendEntry::new(&large[..1_024])];
    world.ask(Command::Send { queue, entries: Entries::of(&entries) });
    let codes: Vec<_> =
        world.out.sent.iter().map(|sent| sent.as_ref().err().map(|refusal| refusal.code)).collect();
    assert_eq!(
        codes,
        [
            Some(ErrorCode::InvalidParameterValue),
            Some(ErrorCode::MissingRequiredParameter),
            Some(ErrorCode::InvalidParameterValue),
            Some(ErrorCode::UnsupportedOperation),
            None,
        ]
    );
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
    let none = world.ask(Command::Send { queue, entries: Entries::default() }).body;
    assert!(matches!(none, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::EmptyBatchRequest));
}

#[test]
fn a_million_deadlines_are_spread_over_turns() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let bodies = ["b"; 10];
    for _ in 0..1_000 {
        world.send(queue, &bodies);
    }
    for _ in 0..1_000 {
        world.receive(queue, 10, 30);
    }
    world.now_ms += 30_000;
    let mut turns = 0;
    loop {
        let before = world.counts(queue)[0];
        let (more, _) = world.advance(0, 100);
        assert!(world.counts(queue)[0] - before <= 100);
        turns += 1;
        if !more {
            break;
        }
    }
    assert!(turns >= 100);
    assert_eq!(world.counts(queue), [10_000, 0, 0, 0]);
}

#[test]
fn what_cannot_be_read_any_more_is_set_aside_and_nothing_else_is_lost() {
    let mut world = world::<Sound>();
    let queue = world.create("here");
    world.send(queue, &["a", "b", "c", "d", "e"]);
    let kept = world.records.len();
    world.send(queue, &["f"]);
    world.lose(kept);
    assert_eq!(world.counts(queue), [1, 0, 0, 5]);
    let digest = world.engine.digest();
    let live_bytes = world.live_bytes();
    world.recover();
    assert_eq!(world.engine.digest(), digest, "the queue and what was set aside outlive a restart");
    assert_eq!(world.live_bytes(), live_bytes);
    world.restart_recovered();
    assert_eq!(world.received(queue, 10, 30), ["f"]);
}

#[test]
fn the_oldest_age_is_that_of_the_message_that_is_next() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let other = world.create("other");
    let age = |world: &mut World<Sound>, queue| match world.ask(Command::Stats { queue }).body {
        ReplyBody::Stats(values) => {
            values.iter().find(|(code, _)| *code == StatisticCode::OldestAgeMs).expect("it is told").1
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(age(&mut world, Some(queue)), 0);
    world.send(queue, &["a"]);
    world.advance(3_000, ALL);
    world.send(queue, &["b"]);
    world.advance(4_000, ALL);
    assert_eq!((age(&mut world, Some(queue)), age(&mut world, Some(other))), (7_000, 0));
    assert_eq!(age(&mut world, None), 7_000, "the shard tells of its oldest");
    let first = world.receive(queue, 1, 5)[0];
    assert_eq!(age(&mut world, Some(queue)), 4_000);
    world.receive(queue, 1, 30);
    assert_eq!(age(&mut world, Some(queue)), 0);
    world.advance(6_000, ALL);
    assert_eq!(age(&mut world, Some(queue)), 1_000, "it has come back a second ago");
    world.restart();
    assert_eq!(age(&mut world, Some(queue)), 1_000);
    world.delete(queue, &first.handle).0.expect("it is there");
    assert_eq!(age(&mut world, Some(queue)), 0);
}

/// Rule 9: while the wall clock is not believed nothing expires by it.
#[test]
fn retention_waits_while_time_is_doubtful() {
    const DAY_MS: u64 = 86_400_000;
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["never received", "received", "returned"]);
    world.engine.set_retention_lag_ms(5 * DAY_MS);
    // The clock has jumped by more than the four days for which messages are kept.
    world.advance(5 * DAY_MS, ALL);
    world.drain();
    let held = world.receive(queue, 3, 43_200);
    assert_eq!(held.len(), 3, "nothing has expired");
    assert_eq!(world.hide(queue, &held[2].handle, 0), Ok(()));
    assert_eq!(world.counts(queue), [1, 2, 0, 0]);
    // Part of the jump is taken back: visibility never waited, retention still does.
    world.engine.set_retention_lag_ms(2 * DAY_MS);
    world.advance(43_200_000, ALL);
    world.drain();
    assert_eq!(world.counts(queue), [3, 0, 0, 0]);
    world.send(queue, &["young"]);
    // The jump is confirmed.
    world.engine.set_retention_lag_ms(0);
    assert_eq!(world.received(queue, 10, 30), ["young"], "judged by the deadline, before any timer");
    world.drain();
    assert_eq!(world.counts(queue), [0, 1, 0, 0]);
    assert_eq!(world.engine.stored_messages(), 1);
}

/// Rule 16: where even deliveries have no room any more, deletes go on.
#[test]
fn without_room_for_receives_deletes_go_on() {
    let mut world = world::<Sound>();
    let (queue, waited_for) = (world.create("q"), world.create("waited-for"));
    world.send(queue, &["a", "b"]);
    world.send(waited_for, &["c"]);
    let held = world.receive(queue, 1, 30)[0];
    world.receive(waited_for, 1, 10);
    let poll = |queue, wait_ms| Command::Receive {
        queue,
        count_max: 10,
        wait_ms: Some(wait_ms),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(poll(waited_for, 20_000)).is_empty(), "it waits");
    // The tail's segment and one more: less than what is kept for cleaning and deletes.
    world.log.set_log_bytes_max(32 << 20);
    assert_eq!(world.log.room(), crate::journal::Room::NoReceives);
    for wait_ms in [0, 20_000] {
        let ReplyBody::Refused(refusal) = world.ask(poll(queue, wait_ms)).body else { panic!("handed out") };
        assert_eq!(refusal.code, ErrorCode::StorageFull);
    }
    let entries = [SendEntry::new(b"d")];
    world.apply(Command::Send { queue, entries: Entries::of(&entries) });
    assert!(world.out.sent.iter().all(Result::is_err));
    let (_, replies) = world.advance(11_000, ALL);
    assert!(replies.is_empty(), "what came back is not handed out to the one who waits: {replies:?}");
    assert_eq!(world.counts(waited_for), [1, 0, 0, 0]);
    world.delete(queue, &held.handle).0.expect("deletes go on");
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
    world.log.set_log_bytes_max(u64::MAX);
    let replies = world.drain();
    assert!(matches!(&replies[..], [Reply { ends_wait: true, body: ReplyBody::Received(range), .. }]
        if range.len() == 1));
    assert_eq!(world.received(queue, 10, 30), ["b"]);
}
