//! What an engine notices for its siblings: messages that nobody waits for here.

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue};

use super::tests::{ALL, CONNECTION, World};
use super::*;
use crate::flaws::Sound;

const WAIT_MS: u32 = 20_000;

/// A queue that another shard is hungry for, and an engine with this limit of messages in flight.
fn watched(in_flight_max: u64) -> (World<Sound>, u64) {
    let options = EngineOptions { shards: 2, ..EngineOptions::new(0, [1, 2]) };
    let mut world = World::new(EngineOptions { in_flight_max, ..options });
    let queue = world.create("q");
    // This shard has the whole limit, wherever its home is.
    world.engine.take_lease(queue, u64::MAX);
    world.engine.add_lease(queue, in_flight_max);
    assert!(world.engine.watch(queue, true));
    (world, queue)
}

/// A long poll that another shard is asked for.
fn wait_elsewhere(world: &mut World<Sound>, queue: u64) -> Ticket {
    let replies = world.apply(Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(WAIT_MS),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    });
    assert!(replies.is_empty(), "{replies:?}");
    world.engine.ask_for_wait(queue).expect("it waits").ticket
}

#[test]
fn what_came_for_a_wait_that_ends_otherwise_is_told_of() {
    type End = fn(&mut World<Sound>, Ticket);
    let ends: [End; 4] = [
        |world, ticket| assert!(world.engine.end_wait_elsewhere(ticket)),
        |world, _| drop(world.apply(Command::CancelWaits { connection: CONNECTION })),
        |world, _| drop(world.apply(Command::AnswerWaits { connection: None })),
        |world, _| drop(world.advance(WAIT_MS.into(), ALL)),
    ];
    for end in ends {
        let (mut world, queue) = watched(10);
        let ticket = wait_elsewhere(&mut world, queue);
        world.send(queue, &["a"]);
        assert!(world.engine.take_surplus().is_empty(), "it may be for the one that waits");
        end(&mut world, ticket);
        assert_eq!(world.engine.take_surplus(), [queue]);
    }
}

#[test]
fn room_in_flight_is_told_of_where_there_was_none() {
    let (mut world, queue) = watched(1);
    world.send(queue, &["a", "b", "c"]);
    let first = world.receive(queue, 1, 30)[0];
    assert_eq!(world.engine.take_surplus(), [queue]);
    world.delete(queue, &first.handle).0.expect("it is in flight");
    assert_eq!(world.engine.take_surplus(), [queue]);
    let second = world.receive(queue, 1, 30)[0];
    world.engine.take_surplus();
    world.apply(Command::Damaged { slot: second.slot, sequence: second.sequence });
    assert_eq!(world.engine.take_surplus(), [queue]);
}

#[test]
fn a_dead_letter_is_told_of_where_it_comes() {
    let (mut world, letters) = watched(10);
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:q","maxReceiveCount":1}"#;
    let redrive = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy));
    let work = world.create_with("work", &[redrive]);
    world.engine.add_lease(work, 10);
    world.send(work, &["a"]);
    world.receive(work, 1, 0);
    assert!(world.receive(work, 1, 0).is_empty(), "it has been received as often as it may be");
    assert_eq!(world.counts(letters), [1, 0, 0, 0]);
    assert_eq!(world.engine.take_surplus(), [letters]);
}

#[test]
fn what_the_log_had_no_room_for_is_told_of_once_it_has() {
    let (mut world, queue) = watched(10);
    world.send(queue, &["a"]);
    assert_eq!(world.engine.take_surplus(), [queue]);
    world.log.set_log_bytes_max(32 << 20);
    assert_eq!(world.log.room(), crate::journal::Room::NoReceives);
    let reply = world.ask(Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(0),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    });
    assert!(matches!(reply.body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::StorageFull));
    world.drain();
    assert!(world.engine.take_surplus().is_empty());
    world.log.set_log_bytes_max(u64::MAX);
    world.drain();
    assert_eq!(world.engine.take_surplus(), [queue]);
}

/// Rule 26: after a restart a shard has as much of a limit as it has in flight, and says so.
#[test]
fn what_is_in_flight_at_a_restart_is_taken_of_the_limit_of_its_home() {
    let options = EngineOptions { shards: 2, in_flight_max: 10, ..EngineOptions::new(0, [1, 2]) };
    let mut world = World::<Sound>::new(options);
    let lease = |world: &World<Sound>, queue| world.engine.lease(queue).expect("it is there");
    let queues = [world.create("one"), world.create("two")];
    // One of them has its home here and the whole limit with it; the other has what it is leased.
    let (home, away) = match queues.map(|queue| lease(&world, queue).0) {
        [10, 0] => (queues[0], queues[1]),
        [0, 10] => (queues[1], queues[0]),
        other => panic!("{other:?}"),
    };
    world.engine.add_lease(away, 5);
    for queue in [home, away] {
        world.send(queue, &["a", "b", "c"]);
        assert_eq!(world.receive(queue, 3, 30).len(), 3);
    }
    world.restart();
    assert_eq!(world.engine.settle_leases(), [(away, 3)]);
    assert_eq!((lease(&world, away), lease(&world, home)), ((3, 3), (10, 3)));
    // What others have at the start is not the home's to give.
    world.engine.lose_lease(home, 4);
    assert_eq!(lease(&world, home), (6, 3));
    assert_eq!(world.engine.take_lease(home, 10), 3);
    assert_eq!(lease(&world, home), (3, 3));
}
