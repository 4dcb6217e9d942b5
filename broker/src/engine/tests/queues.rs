//! Queues: their lists, their counts, and how they are emptied and deleted; when their messages expire.

use super::*;

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
fn the_oldest_age_is_that_of_the_message_that_is_next() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let other = world.create("other");
    let oldest = |values: &[(StatisticCode, u64)]| {
        values.iter().find(|(code, _)| *code == StatisticCode::OldestAgeMs).expect("it is told").1
    };
    let age = |world: &mut World<Sound>, queue| match (queue, &world.engine) {
        (None, engine) => {
            // A few queues at a time.
            let (mut sum, mut from) = (Sum::default(), Some(0));
            while let Some(place) = from {
                from = engine.add_up_queues(&mut sum, place, 1);
            }
            oldest(&sum.values())
        }
        (Some(queue), _) => match world.ask(Command::Stats { queue }).body {
            ReplyBody::Stats(values) => oldest(&values),
            other => panic!("{other:?}"),
        },
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
