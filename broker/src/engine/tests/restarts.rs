//! What outlives restarts and cleaning.

use super::*;

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

/// Else the log could never be cleaned of the first one: a broker that frees names at once has left both, and the
/// next one keeps names for a minute.
#[test]
fn of_a_name_that_was_freed_twice_in_a_minute_one_mark_is_live_and_then_none() {
    let mut world =
        World::<Sound>::new(EngineOptions { minute_rules: false, ..EngineOptions::new(0, [1, 2]) });
    world.restart();
    let live_bytes = world.live_bytes();
    for _ in 0..2 {
        let queue = world.create("q");
        world.ask(Command::DeleteQueue { queue });
        world.now_ms += 1_000;
    }
    world.options.minute_rules = true;
    world.restart();
    assert!(world.live_bytes() > live_bytes);
    world.advance(60_000, ALL);
    assert_eq!(world.live_bytes(), live_bytes);
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

/// Rule 1: a queue or a purge that is found already there, or no more, was acknowledged by a record before.
#[test]
fn what_is_said_of_the_catalog_rests_on_all_before_it() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let made = world.log.end();
    let name = RawName { account: "", region: "", name: "q" };
    let create = Command::CreateQueue { name, attributes: Entries::default(), tags: Entries::default() };
    assert!(world.ask(create).depends_on >= made);
    assert!(world.ask(Command::OpenQueue { name }).depends_on >= made);
    world.ask(Command::Purge { queue });
    let purged = world.log.end();
    assert!(purged > made);
    let again = world.ask(Command::Purge { queue });
    assert!(matches!(again.body, ReplyBody::Refused(_)) && again.depends_on >= purged);
    world.ask(Command::DeleteQueue { queue });
    let deleted = world.log.end();
    for command in [create, Command::OpenQueue { name }, Command::Purge { queue }] {
        let reply = world.ask(command);
        assert!(matches!(reply.body, ReplyBody::Refused(_)) && reply.depends_on >= deleted);
    }
}

/// Rule 1: a message is handed out once its own record is durable, though not that it was.
#[test]
fn what_is_handed_out_rests_on_its_send_and_on_a_standard_queue_not_on_its_delivery() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let before = world.log.end();
    world.send(queue, &["a"]);
    let sent = world.log.end();
    let receive = Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(0),
        visibility_seconds: Some(0),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    for _ in 0..2 {
        let reply = world.ask(receive);
        assert!(reply.depends_on > before && reply.depends_on <= sent, "{:?}", reply.depends_on);
        assert!(world.log.end() > sent, "the delivery is on the record");
    }
}

/// Rule 11: the newest start, and marks of purges, are carried.
#[test]
fn starts_and_purges_are_carried() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["purged"]);
    let purged = world.receive(queue, 1, 30)[0];
    world.ask(Command::Purge { queue });
    world.send(queue, &["kept"]);
    let start = world.engine.start_number();
    // All but the records of both messages, and then these.
    world.clean(2);
    world.clean(usize::MAX);
    world.restart();
    assert_eq!(world.engine.start_number(), start + 1);
    assert_eq!(world.counts(queue), [1, 0, 0, 0]);
    assert_eq!(world.delete(queue, &purged.handle).0, Ok(()), "it is gone");
    let kept = world.receive(queue, 10, 30);
    assert_eq!(kept.len(), 1);
    assert_eq!(world.body(&kept[0]), "kept");
    assert!(kept[0].sequence > purged.sequence);
}

/// Rule 31: of a million queues a turn carries some.
#[test]
fn queues_are_carried_a_few_at_a_time() {
    let mut world = world::<Sound>();
    for number in 0..10 {
        world.create(&format!("q{number}"));
    }
    let old = Position(0)..world.log.end();
    let mut from = Some(0);
    let mut carried = Vec::new();
    while let Some(place) = from {
        let before = world.records.len();
        from = world.engine.carry_queues(world.now_ms, &old, place, 4, &mut world.log);
        world.note_records();
        carried.push(world.records.len() - before);
    }
    assert_eq!(carried, [4, 4, 2]);
    world.engine.carry_queues(world.now_ms, &old, 0, u32::MAX, &mut world.log);
    world.note_records();
    assert_eq!(world.engine.carry_queues(world.now_ms, &old, 0, u32::MAX, &mut world.log), None);
    let before = world.records.len();
    world.note_records();
    assert_eq!(world.records.len(), before, "each only once");
}

/// Rule 5: a handle from a line of history that a backup has undone names nothing in the one that followed.
#[test]
fn a_handle_from_before_a_restored_backup_names_no_other_message() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let backup = world.records.clone();
    world.restart();
    world.send(queue, &["undone"]);
    let undone = world.receive(queue, 1, 30)[0];
    world.records = backup;
    world.restart();
    world.send(queue, &["another"]);
    let another = world.receive(queue, 1, 30)[0];
    assert_eq!(world.delete(queue, &undone.handle).0, Ok(()), "what it named is gone");
    assert_eq!(world.counts(queue), [0, 1, 0, 0]);
    world.delete(queue, &another.handle).0.expect("it is there");
    assert_eq!(world.counts(queue), [0; 4]);
}

/// Rule 5: where the counter is spent a new start number is taken, on the record.
#[test]
fn a_spent_counter_costs_a_start_number_and_no_sequence_comes_twice() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["a"]);
    let first = world.receive(queue, 1, 30)[0];
    let start = world.engine.start_number();
    world.engine.identity.spend_all_but(5);
    world.send(queue, &["b"; 10]);
    assert_eq!(world.engine.start_number(), start + 1);
    let mut last = first.sequence;
    for delivery in world.receive(queue, 10, 30) {
        assert!(delivery.sequence > last);
        last = delivery.sequence;
    }
    world.restart();
    assert_eq!(world.engine.start_number(), start + 2);
    world.send(queue, &["c"]);
    assert!(world.receive(queue, 1, 30)[0].sequence > last);
    world.delete(queue, &first.handle).0.expect("it is there");
    assert_eq!(world.counts(queue), [0, 11, 0, 0]);
}
