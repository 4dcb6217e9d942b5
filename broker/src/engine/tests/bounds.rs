//! Bounds: of what is sent, of a turn, and of the log.

use tenpin_protocol::Producer;

use super::*;

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
    let mut brief = SendEntry::new(b"brief");
    brief.own_expiry_ms = Some(1_000);
    // Rule 34: who repeats it relies on its being stored once.
    let mut numbered = SendEntry::new(b"numbered");
    numbered.producer = Some(Producer { id: 1, sequence: 1, first_shard: 0 });
    let entries = [
        SendEntry::new(&large[..1_025]),
        SendEntry::new(b""),
        late,
        urgent,
        brief,
        numbered,
        SendEntry::new(&large[..1_024]),
    ];
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
            Some(ErrorCode::UnsupportedOperation),
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

/// Rule 31: what expires in the order of sending has one timer, which takes a part a turn.
#[test]
fn what_expires_together_goes_over_turns() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    for _ in 0..100 {
        world.send(queue, &["b"; 10]);
    }
    world.now_ms += 4 * 24 * 60 * 60 * 1_000;
    let mut before = world.engine.stored_messages();
    assert_eq!(before, 1_000);
    while before > 0 {
        assert!(world.advance(0, 100).0 || world.engine.stored_messages() == 0);
        let stored = world.engine.stored_messages();
        assert!((1..=100).contains(&(before - stored)), "{} in a turn", before - stored);
        before = stored;
    }
}

/// Rule 31: the order of what was returned goes a part a turn, too.
#[test]
fn what_a_purge_leaves_of_an_order_goes_over_turns() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    for _ in 0..100 {
        world.send(queue, &["b"; 10]);
    }
    for _ in 0..100 {
        world.receive(queue, 10, 30);
    }
    world.advance(30_000, ALL);
    world.ask(Command::Purge { queue });
    let left = |world: &World<Sound>| world.engine.discarded.iter().map(|map| map.len()).sum::<usize>();
    let mut before = left(&world);
    assert_eq!(before, 1_000);
    while before > 0 {
        assert!(world.advance(0, 4).0);
        assert!(before - left(&world) <= 4 * 8, "{} in a turn", before - left(&world));
        before = left(&world);
    }
}

/// Rule 31: what damage has left is looked for in a part of the slots a turn.
#[test]
fn a_turn_rescues_from_a_few_slots() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.send(queue, &["b"; 10]);
    let lost = world.records[0]..world.log.end();
    let aside = |world: &World<Sound>| world.counts(queue)[3];
    for turn in 1..=5 {
        let is_done = world.engine.rescue(world.now_ms, &lost, 2, &mut world.log);
        assert_eq!((aside(&world), is_done), (2 * turn, turn == 5));
    }
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
