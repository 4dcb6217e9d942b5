//! Two engines, and the moves between them, with everything that can happen on the way.

use proptest::prelude::*;
use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, Entries, MoveTaskStatus, SendEntry, write_content,
};

use super::tests::{ALL, World};
use super::*;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::journal::RawRecord;
use crate::simulator::bugs::Planted;

/// Shard 0 has the source and shard 1 the dead-letter queue, both FIFO; messages of shards are lost with
/// them, and may come twice.
struct Pair<F: Flaws> {
    shards: [World<F>; 2],
    work: u64,
    letters: u64,
    wanted: Vec<Moving>,
    answers: Vec<(u64, MoveAnswer)>,
    sent: u64,
    deleted: u64,
}

fn define<F: Flaws>(shards: &mut [World<F>; 2], command: Command<'_>, owner_shard: u16) -> u64 {
    let (engine, log) = (&mut shards[0].engine, &shards[0].log);
    let planned = engine.plan(shards[0].now_ms, command, log).expect("it is right");
    let Planned::Change(Change::Define(mut definition), _) = planned else { panic!("it is new") };
    definition.owner_shard = owner_shard;
    let number = definition.number();
    let change = Change::Define(definition);
    for world in shards {
        world.engine.apply_change(world.now_ms, &change, &mut world.log, &mut world.out);
        world.note_records();
    }
    number
}

impl<F: Flaws> Pair<F> {
    fn new() -> Self {
        let options = |shard| EngineOptions::new(shard, [1, 2]);
        let mut shards = [World::new(options(0)), World::new(options(1))];
        let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
        let content = Attribute::new(AttributeCode::ContentBasedDeduplication, AttributeValue::Number(1));
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:letters.fifo","maxReceiveCount":1}"#;
        let redrive = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy));
        let name = |name| RawName { account: "", region: "", name };
        let tags = Entries::default();
        let attributes = [fifo, content];
        let command =
            Command::CreateQueue { name: name("letters.fifo"), attributes: Entries::of(&attributes), tags };
        let letters = define(&mut shards, command, 1);
        let attributes = [fifo, content, redrive];
        let command =
            Command::CreateQueue { name: name("work.fifo"), attributes: Entries::of(&attributes), tags };
        let work = define(&mut shards, command, 0);
        Self { shards, work, letters, wanted: Vec::new(), answers: Vec::new(), sent: 0, deleted: 0 }
    }

    fn send(&mut self) {
        self.sent += 1;
        let body = self.sent.to_string();
        let group = (self.sent % 3).to_string();
        let mut content = Vec::new();
        let fields = tenpin_protocol::ContentFields { group: Some(&group), ..Default::default() };
        write_content(&mut content, body.as_bytes(), &fields);
        let entry = SendEntry::with_content(&content, body.len()).expect("it was written");
        let queue = self.work;
        self.shards[0].apply(Command::Send { queue, entries: Entries::of(&[entry]) });
        assert!(self.shards[0].out.sent.iter().all(Result::is_ok));
    }

    /// All messages of a shard's queue that can be received now, at once; they stay for a second.
    fn receive(&mut self, shard: usize) -> Vec<String> {
        let queue = [self.work, self.letters][shard];
        let world = &mut self.shards[shard];
        let got = world.receive(queue, 10, 1);
        got.iter().map(|delivery| world.body(delivery)).collect()
    }

    fn step(&mut self, step: Step) {
        let now_ms = self.shards[0].now_ms;
        match step {
            Step::Send => self.send(),
            Step::Receive => drop(self.receive(0)),
            Step::Advance => {
                for world in &mut self.shards {
                    world.advance(1_000, ALL);
                    world.drain();
                }
            }
            Step::Want => {
                let world = &mut self.shards[0];
                let mut out = Vec::new();
                world.engine.moves_wanted(now_ms, |_| true, &mut world.log, &mut out);
                world.note_records();
                self.wanted.extend(out.into_iter().map(|(shard, moving)| {
                    assert_eq!(shard, 1);
                    moving
                }));
            }
            Step::Bring { twice } => {
                if let Some(moving) = self.wanted.first().cloned() {
                    if !twice {
                        self.wanted.remove(0);
                    }
                    let world = &mut self.shards[1];
                    let number = moving.number;
                    let (answer, _) =
                        world.engine.moved_in(now_ms, 0, &moving, &mut world.log, &mut world.out);
                    world.note_records();
                    self.answers.push((number, answer));
                }
            }
            Step::Answer { twice } => {
                if let Some(&(number, answer)) = self.answers.first() {
                    if !twice {
                        self.answers.remove(0);
                    }
                    let world = &mut self.shards[0];
                    world.engine.moved_out(now_ms, number, answer, &mut world.log, &mut world.out);
                    world.note_records();
                }
            }
            Step::Crash => {
                // What was on its way is lost, and both begin again from what they have written.
                (self.wanted, self.answers) = (Vec::new(), Vec::new());
                for world in &mut self.shards {
                    world.drain();
                    let (digest, live_bytes) = (world.engine.digest(), world.live_bytes());
                    world.recover();
                    if Flaw::ALL.iter().all(|&flaw| !F::has(flaw)) {
                        assert_eq!(world.engine.digest(), digest, "the records give the same state");
                        assert_eq!(world.live_bytes(), live_bytes, "the same records are live");
                    }
                    world.restart_recovered();
                }
            }
            Step::Clean { shard, count } => self.shards[shard].clean(count),
            Step::DeleteLetter => {
                let queue = self.letters;
                let world = &mut self.shards[1];
                if let Some(delivery) = world.receive(queue, 1, 1).first() {
                    world.delete(queue, &delivery.handle).0.expect("it was just given out");
                    self.deleted += 1;
                }
            }
        }
    }

    /// Lets everything end, and says how many messages there are: on the source, and on the other.
    fn settle(&mut self) -> (u64, u64) {
        self.step(Step::Crash);
        for _ in 0..200 {
            for step in [Step::Want, Step::Bring { twice: false }, Step::Answer { twice: false }] {
                self.step(step);
            }
        }
        self.step(Step::Advance);
        let sum = |counts: [u64; 4]| counts.iter().sum();
        (sum(self.shards[0].counts(self.work)), sum(self.shards[1].counts(self.letters)))
    }

    /// Whether each message is in one queue, once.
    fn check(&mut self) -> bool {
        let (source, target) = self.settle();
        source + target == self.sent - self.deleted
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    Receive,
    Advance,
    Want,
    Bring { twice: bool },
    Answer { twice: bool },
    Crash,
    Clean { shard: usize, count: usize },
    DeleteLetter,
}

fn step() -> impl Strategy<Value = Step> {
    let twice = || prop::bool::weighted(0.3);
    prop_oneof![
        4 => Just(Step::Send),
        4 => Just(Step::Receive),
        3 => Just(Step::Advance),
        5 => Just(Step::Want),
        5 => twice().prop_map(|twice| Step::Bring { twice }),
        5 => twice().prop_map(|twice| Step::Answer { twice }),
        2 => Just(Step::Crash),
        3 => (0..2_usize, 1..40_usize).prop_map(|(shard, count)| Step::Clean { shard, count }),
        1 => Just(Step::DeleteLetter),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_message_is_in_one_queue_once(steps in prop::collection::vec(step(), 1..80)) {
        let mut pair = Pair::<Sound>::new();
        for step in steps {
            pair.step(step);
        }
        prop_assert!(pair.check());
    }
}

/// A message that has failed on the source and is about to move.
fn failed<F: Flaws>() -> Pair<F> {
    let mut pair = Pair::new();
    for step in [Step::Send, Step::Receive, Step::Advance, Step::Receive] {
        pair.step(step);
    }
    pair
}

#[test]
fn a_message_on_its_way_is_locked_and_counted_in_one_place() {
    let mut pair = failed::<Sound>();
    let counts = |pair: &Pair<Sound>| (pair.shards[0].counts(pair.work), pair.shards[1].counts(pair.letters));
    assert_eq!(counts(&pair), ([0, 1, 0, 0], [0, 0, 0, 0]));
    let queue = pair.work;
    pair.shards[0].ask(Command::Peek {
        queue,
        count_max: 1,
        state: 0,
        next: None,
        reply_bytes_max: u32::MAX,
    });
    assert_eq!(pair.shards[0].out.deliveries[0].until_ms, 0, "no time ends this");
    pair.step(Step::Advance);
    assert!(pair.receive(0).is_empty());
    pair.step(Step::Want);
    pair.step(Step::Bring { twice: true });
    assert_eq!(counts(&pair), ([0, 1, 0, 0], [1, 0, 0, 0]));
    pair.step(Step::Answer { twice: false });
    assert_eq!(counts(&pair), ([0, 0, 0, 0], [1, 0, 0, 0]));
    pair.step(Step::Bring { twice: false });
    assert_eq!(counts(&pair).1, [1, 0, 0, 0]);
    assert_eq!(pair.receive(1), ["1"]);
}

#[test]
fn what_the_other_shard_refuses_stays_and_is_delivered() {
    for is_gone in [true, false] {
        let mut pair = failed::<Sound>();
        pair.step(Step::Want);
        let queue = pair.letters;
        let denies = [Attribute::new(
            AttributeCode::RedriveAllowPolicy,
            AttributeValue::Text(r#"{"redrivePermission":"denyAll"}"#),
        )];
        let command = match is_gone {
            true => Command::DeleteQueue { queue },
            false => Command::SetAttributes { queue, attributes: Entries::of(&denies) },
        };
        let first = &mut pair.shards[0];
        let planned = first.engine.plan(first.now_ms, command, &first.log).expect("it is right");
        let Planned::Change(change, _) = planned else { panic!("it changes something") };
        for world in &mut pair.shards {
            world.engine.apply_change(world.now_ms, &change, &mut world.log, &mut world.out);
            world.note_records();
        }
        pair.step(Step::Bring { twice: false });
        assert_eq!(pair.answers[0].1, MoveAnswer::Refused);
        pair.step(Step::Answer { twice: false });
        assert_eq!(pair.shards[0].counts(pair.work), [1, 0, 0, 0]);
        assert_eq!(pair.receive(0), ["1"]);
    }
}

#[test]
fn a_task_that_fails_ends_when_what_it_has_on_the_way_is_counted() {
    let mut pair = failed::<Sound>();
    for step in [Step::Want, Step::Bring { twice: false }, Step::Answer { twice: false }] {
        pair.step(step);
    }
    // Behind the dead letter stands a message that came from no queue.
    let mut content = Vec::new();
    let fields = tenpin_protocol::ContentFields { group: Some("other"), ..Default::default() };
    write_content(&mut content, b"sent", &fields);
    let entry = SendEntry::with_content(&content, 4).expect("it was written");
    let [work, letters] = &mut pair.shards;
    letters.apply(Command::Send { queue: pair.letters, entries: Entries::of(&[entry]) });
    let command =
        Command::StartMoveTask { source: pair.letters, destination: None, messages_per_second_max: 0 };
    let planned = letters.engine.plan(letters.now_ms, command, &letters.log).expect("it may start");
    let Planned::Change(change, _) = planned else { panic!("it is new") };
    let Change::StartTask(definition) = &change else { panic!("it is a task") };
    letters.engine.apply_change(letters.now_ms, &change, &mut letters.log, &mut letters.out);
    let share = |letters: &mut World<Sound>| {
        letters.note_records();
        letters.advance(1_000, ALL);
        letters.engine.tasks.by_id(definition.id).expect("it is there").share
    };
    let waits = share(letters);
    assert_eq!((waits.status, waits.moved), (MoveTaskStatus::Cancelling, 0));
    let mut wanted = Vec::new();
    letters.engine.moves_wanted(letters.now_ms, |_| true, &mut letters.log, &mut wanted);
    let (_, moving) = wanted.remove(0);
    let (answer, _) = work.engine.moved_in(work.now_ms, 1, &moving, &mut work.log, &mut work.out);
    let (log, out) = (&mut letters.log, &mut letters.out);
    letters.engine.moved_out(letters.now_ms, moving.number, answer, log, out);
    let ended = share(letters);
    assert_eq!((ended.status, ended.moved), (MoveTaskStatus::Failed, 1));
    assert_eq!(ended.failure.text(), Some("CouldNotDetermineMessageSource"));
}

/// Whether a task has moved what is purged on its way is for the other shard to say, and the task waits for that.
#[test]
fn what_is_purged_on_its_way_counts_as_moved_where_it_has_arrived() {
    const NOT_GIVEN: Option<MoveAnswer> = None;
    for (answer, moved) in [(NOT_GIVEN, 0), (Some(MoveAnswer::NoRoom), 0), (Some(MoveAnswer::Taken), 1)] {
        let mut pair = failed::<Sound>();
        for step in [Step::Want, Step::Bring { twice: false }, Step::Answer { twice: false }] {
            pair.step(step);
        }
        let (queue, letters) = (pair.letters, &mut pair.shards[1]);
        let command = Command::StartMoveTask { source: queue, destination: None, messages_per_second_max: 0 };
        let planned = letters.engine.plan(letters.now_ms, command, &letters.log).expect("it may start");
        let Planned::Change(change, _) = planned else { panic!("it is new") };
        let Change::StartTask(definition) = &change else { panic!("it is a task") };
        letters.apply_change(&change);
        letters.drain();
        let mut wanted = Vec::new();
        if answer.is_some() {
            letters.engine.moves_wanted(letters.now_ms, |_| true, &mut letters.log, &mut wanted);
            assert_eq!(wanted.len(), 1);
        }
        letters.ask(Command::Purge { queue });
        letters.drain();
        let share = |letters: &mut World<Sound>| {
            letters.advance(1_000, ALL);
            letters.drain();
            let share = letters.engine.tasks.by_id(definition.id).expect("it is there").share;
            (share.status, share.moved)
        };
        if let Some(answer) = answer {
            assert_eq!(share(letters), (MoveTaskStatus::Running, 0), "nobody knows");
            let (log, out) = (&mut letters.log, &mut letters.out);
            letters.engine.moved_out(letters.now_ms, wanted[0].1.number, answer, log, out);
            letters.note_records();
        }
        assert_eq!(share(letters), (MoveTaskStatus::Completed, moved), "{answer:?}");
        letters.restart();
        assert_eq!(share(letters), (MoveTaskStatus::Completed, moved), "{answer:?}");
        assert_eq!(letters.counts(queue), [0; 4]);
    }
}

/// What a shard exports, with its place and a sum over what it is.
fn exported(world: &World<Sound>) -> Vec<(u32, u64, u64)> {
    let mut all = Vec::new();
    for &position in &world.records {
        let bytes = world.record(position);
        let raw = RawRecord::parse(&bytes).expect("the engine wrote it");
        let message = world.engine.exported_message(position, &raw);
        all.extend(message.map(|message| (message.slot, message.sequence, message.fingerprint())));
    }
    all
}

#[test]
fn what_never_left_is_exported_as_it_is_read_back() {
    // One that nobody has received, as a task moves it, and one that somebody has.
    for received in [false, true] {
        let mut pair = Pair::<Sound>::new();
        let mut content = Vec::new();
        let fields = tenpin_protocol::ContentFields { group: Some("group"), ..Default::default() };
        write_content(&mut content, b"sent", &fields);
        let entry = SendEntry::with_content(&content, 4).expect("it was written");
        let (source, destination) = (pair.letters, Some(pair.work));
        let letters = &mut pair.shards[1];
        letters.apply(Command::Send { queue: source, entries: Entries::of(&[entry]) });
        if received {
            assert_eq!(letters.receive(source, 1, 1).len(), 1);
            letters.advance(1_000, ALL);
        }
        let command = Command::StartMoveTask { source, destination, messages_per_second_max: 0 };
        let planned = letters.engine.plan(letters.now_ms, command, &letters.log).expect("it may start");
        let Planned::Change(change, _) = planned else { panic!("it is new") };
        letters.engine.apply_change(letters.now_ms, &change, &mut letters.log, &mut letters.out);
        letters.advance(1_000, ALL);
        letters.note_records();
        assert_eq!(letters.counts(source), [0, 1, 0, 0], "it is on its way");
        letters.recover();
        letters.engine.settle_moves_for_export(|_, _| false);
        let written = exported(letters);
        assert_eq!(written.len(), 1);
        let mut other = Pair::<Sound>::new();
        let target = &mut other.shards[1];
        for &position in &letters.records {
            let bytes = letters.record(position);
            let raw = RawRecord::parse(&bytes).expect("the engine wrote it");
            if let Some(message) = letters.engine.exported_message(position, &raw) {
                message.write(message.slot, message.sequence, letters.now_ms, &mut target.log);
            }
        }
        target.note_records();
        target.now_ms = letters.now_ms;
        target.recover();
        assert_eq!(exported(target), written);
        assert_eq!(target.counts(source), [1, 0, 0, 0]);
    }
}

#[test]
fn what_stands_behind_a_message_on_its_way_expires_in_its_time() {
    for end in [MoveAnswer::Taken, MoveAnswer::NoRoom] {
        let mut pair = failed::<Sound>();
        pair.step(Step::Send);
        // After a restart the queue's timer begins with its first message, which is on its way.
        pair.step(Step::Crash);
        pair.step(Step::Want);
        pair.answers.push((pair.wanted[0].number, end));
        pair.step(Step::Answer { twice: false });
        let world = &mut pair.shards[0];
        world.advance(4 * 24 * 60 * 60 * 1_000, ALL);
        world.drain();
        assert_eq!(world.counts(pair.work), [0; 4], "{end:?}");
        assert_eq!(world.engine.stored_messages(), 0);
    }
}

/// However long the other shard takes.
#[test]
fn what_stands_behind_a_message_on_its_way_expires_meanwhile() {
    let mut pair = failed::<Sound>();
    pair.step(Step::Send);
    let world = &mut pair.shards[0];
    world.advance(4 * 24 * 60 * 60 * 1_000, ALL);
    world.drain();
    assert_eq!(world.counts(pair.work), [0, 1, 0, 0]);
}

#[test]
fn a_message_that_is_freed_before_it_arrived_is_in_neither_queue() {
    fn keeps<F: Flaws>() -> bool {
        let mut pair = failed::<F>();
        pair.step(Step::Want);
        pair.check()
    }
    assert!(keeps::<Sound>());
    assert!(!Planted::with(Flaw::FreeWhatMovesBeforeItArrived, keeps::<Planted>));
}

#[test]
fn a_message_whose_arrival_is_forgotten_comes_twice() {
    fn once<F: Flaws>() -> bool {
        let mut pair = failed::<F>();
        pair.step(Step::Want);
        pair.step(Step::Bring { twice: false });
        let count = pair.shards[1].records.len();
        pair.step(Step::Clean { shard: 1, count });
        pair.settle().1 == 1
    }
    assert!(once::<Sound>());
    assert!(!Planted::with(Flaw::ForgetArrivalsInCleaning, once::<Planted>));
}

/// Has a shard's log room for receives, and not for sends.
fn take_room(world: &mut World<Sound>) {
    let bound = (2..64).map(|segments| segments * (16 << 20)).find(|&bound| {
        world.log.set_log_bytes_max(bound);
        world.log.room() == crate::journal::Room::NoSends
    });
    assert!(bound.is_some());
}

/// Rule 16: a shard without room takes no message from another one, where it can be received meanwhile.
#[test]
fn without_room_for_it_a_message_stays_where_it_is() {
    let mut pair = failed::<Sound>();
    take_room(&mut pair.shards[1]);
    for step in [Step::Want, Step::Bring { twice: false }] {
        pair.step(step);
    }
    assert_eq!(pair.answers[0].1, MoveAnswer::NoRoom);
    pair.step(Step::Answer { twice: false });
    assert_eq!(pair.receive(0), ["1"]);
    pair.shards[1].log.set_log_bytes_max(u64::MAX);
    pair.step(Step::Advance);
    assert!(pair.receive(0).is_empty());
    assert_eq!(pair.settle(), (0, 1));
}

/// Rule 16: where room is short a move waits, and its message can be received meanwhile.
#[test]
fn without_room_a_move_waits_and_its_message_is_delivered() {
    let mut pair = Pair::<Sound>::new();
    for step in [Step::Send, Step::Receive, Step::Advance] {
        pair.step(step);
    }
    take_room(&mut pair.shards[0]);
    assert_eq!(pair.receive(0), ["1"], "as often as it takes");
    pair.shards[0].log.set_log_bytes_max(u64::MAX);
    pair.step(Step::Advance);
    assert!(pair.receive(0).is_empty());
    assert_eq!(pair.settle(), (0, 1));
}

/// Rule 6: what is on its way is not this queue's any more, whatever handle names it.
#[test]
fn a_handle_of_a_message_on_its_way_succeeds_and_does_nothing() {
    let mut pair = Pair::<Sound>::new();
    pair.step(Step::Send);
    let queue = pair.work;
    let handle = pair.shards[0].receive(queue, 1, 1)[0].handle;
    for step in [Step::Advance, Step::Receive] {
        pair.step(step);
    }
    assert_eq!(pair.shards[0].counts(queue), [0, 1, 0, 0], "it is locked");
    let refused = pair.shards[0].delete(queue, &handle).0.expect_err("that delivery has ended");
    assert!(refused.text.ends_with("The receipt handle has expired."));
    pair.step(Step::Want);
    for step in [Step::Bring { twice: false }, Step::Answer { twice: false }] {
        pair.step(step);
    }
    pair.shards[0].delete(queue, &handle).0.expect("it has left");
    assert_eq!(pair.settle(), (0, 1));
}
