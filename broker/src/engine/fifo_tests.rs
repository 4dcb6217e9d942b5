//! What FIFO queues promise, each promise by a short history.

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, ErrorCode, MessageState, SendEntry,
    write_content,
};

use super::tests::{ALL, CONNECTION, World, code, world};
use super::*;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::shard::driver::ConnectionId;
use crate::simulator::bugs::Planted;

/// A message of a FIFO queue as a test says it: body, group, deduplication id.
type Said<'a> = (&'a str, &'a str, &'a str);

fn create<F: Flaws>(world: &mut World<F>, more: &[(AttributeCode, AttributeValue<'_>)]) -> u64 {
    let mut attributes = vec![Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1))];
    attributes.extend(more.iter().map(|&(code, value)| Attribute::new(code, value)));
    world.create_with("q.fifo", &attributes)
}

fn content((body, group, id): Said<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    let given = |text: &'_ str| if text.is_empty() { None } else { Some(text.to_owned()) };
    let (group, id) = (given(group), given(id));
    let fields =
        ContentFields { group: group.as_deref(), deduplication_id: id.as_deref(), ..Default::default() };
    write_content(&mut content, body.as_bytes(), &fields);
    content
}

fn send_as<F: Flaws>(
    world: &mut World<F>,
    connection: ConnectionId,
    queue: u64,
    messages: &[(Said<'_>, bool)],
) -> Vec<Result<Accepted, Refusal>> {
    let contents: Vec<_> =
        messages.iter().map(|&(said, flagged)| (content(said), said.0.len(), flagged)).collect();
    let entries: Vec<_> = contents
        .iter()
        .map(|(content, body_bytes, flagged)| SendEntry {
            only_if_previous_accepted: *flagged,
            ..SendEntry::with_content(content, *body_bytes).expect("it was just written")
        })
        .collect();
    world.apply_for(connection, Command::Send { queue, entries: Entries::of(&entries) });
    world.out.sent.clone()
}

fn send<F: Flaws>(world: &mut World<F>, queue: u64, messages: &[Said<'_>]) -> Vec<Result<Accepted, Refusal>> {
    let messages: Vec<_> = messages.iter().map(|&said| (said, false)).collect();
    send_as(world, CONNECTION, queue, &messages)
}

fn attempt<F: Flaws>(world: &mut World<F>, queue: u64, id: &str, seconds: u32) -> Vec<Delivery> {
    let reply = world.ask(Command::Receive {
        queue,
        count_max: 10,
        wait_ms: Some(0),
        visibility_seconds: Some(seconds),
        reply_bytes_max: u32::MAX,
        attempt_id: Some(id),
    });
    match reply.body {
        ReplyBody::Received(range) => {
            assert!(range.is_empty() || reply.depends_on == world.log.end());
            world.out.deliveries[range.start as usize..range.end as usize].to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receive_takes_what_it_can_of_one_group_and_leaves_the_group_locked() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let sent = send(
        &mut world,
        queue,
        &[("1", "a", "1"), ("2", "b", "2"), ("3", "a", "3"), ("4", "a", "4"), ("5", "c", "5")],
    );
    let numbers: Vec<u64> = sent.iter().map(|sent| sent.as_ref().expect("sent").sequence_number).collect();
    assert!(numbers.is_sorted() && numbers[0] > 0);
    let taken = world.receive(queue, 2, 30);
    assert_eq!(taken.iter().map(|delivery| world.body(delivery)).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(taken[1].sequence_number, numbers[2]);
    assert_eq!(world.received(queue, 10, 30), ["2", "5"]);
    assert_eq!(world.received(queue, 10, 30), [""; 0]);
    world.delete(queue, &taken[0].handle).0.expect("it is in flight");
    assert_eq!(world.received(queue, 10, 30), [""; 0]);
    world.hide(queue, &taken[1].handle, 0).expect("it is in flight");
    assert_eq!(world.received(queue, 10, 30), ["3", "4"]);
    assert_eq!(world.counts(queue), [0, 4, 0, 0]);
}

#[test]
fn deliveries_rest_on_their_own_record() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1")]);
    let reply = world.ask(Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(0),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    });
    assert_eq!(reply.depends_on, world.log.end());
}

#[test]
fn what_expired_is_refused() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1")]);
    let old = world.receive(queue, 1, 5)[0].handle;
    world.now_ms += 5_000;
    // By its deadline: its timer has not run.
    assert_eq!(code(world.delete(queue, &old).0), ErrorCode::InvalidParameterValue);
    assert_eq!(code(world.hide(queue, &old, 10)), ErrorCode::InvalidParameterValue);
    world.drain();
    let new = world.receive(queue, 1, 5)[0].handle;
    let refused = world.delete(queue, &old).0.expect_err("another delivery's");
    assert!(refused.text.ends_with("The receipt handle has expired."));
    world.delete(queue, &new).0.expect("it is in flight");
    world.delete(queue, &old).0.expect("deleting again succeeds");
}

#[test]
fn duplicates_are_known_after_deletion_cleaning_and_restart() {
    fn run<F: Flaws>() -> bool {
        let mut world = world::<F>();
        let queue = create(&mut world, &[]);
        let first = send(&mut world, queue, &[("1", "a", "x")])[0].clone().expect("it is new");
        let handle = world.receive(queue, 1, 30)[0].handle;
        world.delete(queue, &handle).0.expect("it is in flight");
        world.advance(299_999, 1_000);
        for _ in 0..3 {
            world.clean(usize::MAX);
        }
        world.restart();
        let same = send(&mut world, queue, &[("1", "b", "x")])[0] == Ok(first);
        world.advance(1, 1_000);
        assert_ne!(send(&mut world, queue, &[("1", "a", "x")])[0], Ok(first), "the window has ended");
        same
    }
    assert!(run::<Sound>());
    assert!(!Planted::with(Flaw::ForgetDuplicatesInCleaning, run::<Planted>));
}

#[test]
fn a_group_is_locked_until_all_of_it_is_out_of_flight() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = create(&mut world, &[]);
        send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2"), ("3", "a", "3")]);
        let taken = world.receive(queue, 2, 30);
        world.hide(queue, &taken[0].handle, 0).expect("it is in flight");
        world.received(queue, 10, 30)
    }
    assert_eq!(run::<Sound>(), [""; 0]);
    assert_eq!(Planted::with(Flaw::UnlockGroupsEarly, run::<Planted>), ["1"]);
}

#[test]
fn bodies_stand_for_ids_and_scopes_are_kept_apart() {
    let mut world = world::<Sound>();
    let content_based = (AttributeCode::ContentBasedDeduplication, AttributeValue::Number(1));
    let scope = (AttributeCode::DeduplicationScope, AttributeValue::Text("messageGroup"));
    let queue = create(&mut world, &[content_based, scope]);
    let sent = send(&mut world, queue, &[("abc", "a", ""), ("abc", "b", ""), ("abc", "a", "")]);
    assert_eq!(sent[0], sent[2]);
    assert_ne!(sent[0], sent[1]);
    // The body's SHA-256 is the id, also where a sender gives it.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(send(&mut world, queue, &[("other", "a", digest)])[0], sent[0]);
    let delivery = world.receive(queue, 1, 30)[0];
    let bytes = world.log.bytes(delivery.position, delivery.length).expect("a record");
    let raw = crate::journal::RawRecord::parse(bytes).expect("a record");
    let stored = records::StoredMessage::parse(&raw).expect("a message");
    assert_eq!(stored.content, content(("abc", "a", digest)));
}

#[test]
fn at_the_bound_sends_are_refused_and_nothing_is_forgotten() {
    let mut world =
        World::<Sound>::new(EngineOptions { deduplication_max: 2, ..EngineOptions::new(0, [1, 2]) });
    let queue = create(&mut world, &[]);
    let sent = send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2"), ("3", "a", "3"), ("1", "a", "1")]);
    assert_eq!(world.engine.deduplication.count(), 2);
    assert_eq!(code(sent[2].clone()), ErrorCode::RequestThrottled);
    assert_eq!(sent[3], sent[0]);
    world.advance(300_000, 100);
    send(&mut world, queue, &[("3", "a", "3")])[0].as_ref().expect("there is room again");
}

#[test]
fn a_purge_clears_what_was_remembered() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let first = send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2")]);
    world.receive(queue, 1, 30);
    world.ask(Command::Purge { queue });
    let second = send(&mut world, queue, &[("1", "a", "1")]);
    assert_ne!(first[0], second[0]);
    assert_eq!(world.received(queue, 10, 0), ["1"]);
    world.drain();
    world.restart();
    assert_eq!(send(&mut world, queue, &[("1", "a", "1")]), second);
    assert_eq!(world.received(queue, 10, 30), ["1"]);
}

#[test]
fn a_delay_holds_for_what_is_stored() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "b", "2")]);
    world.set(queue, AttributeCode::DelaySeconds, 10);
    // Before a slice has run, too.
    assert_eq!(world.received(queue, 10, 30), [""; 0]);
    world.drain();
    assert_eq!(world.counts(queue), [0, 0, 2, 0]);
    world.advance(4_000, 100);
    send(&mut world, queue, &[("3", "a", "3")]);
    world.set(queue, AttributeCode::DelaySeconds, 4);
    world.drain();
    assert_eq!(world.counts(queue), [2, 0, 1, 0]);
    assert_eq!(world.received(queue, 10, 30), ["1", "2"]);
    world.advance(4_000, 100);
    assert_eq!(world.counts(queue), [1, 2, 0, 0]);
}

#[test]
fn a_peek_says_when_a_delay_ends() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[(AttributeCode::DelaySeconds, AttributeValue::Number(10))]);
    send(&mut world, queue, &[("1", "a", "1")]);
    world.now_ms += 3_000;
    world.ask(Command::Peek { queue, count_max: 1, state: 0, next: None, reply_bytes_max: u32::MAX });
    let shown = world.out.deliveries[0];
    assert_eq!((shown.state, shown.until_ms), (MessageState::Delayed, world.now_ms + 7_000));
}

#[test]
fn what_a_command_found_delayed_before_the_cursor_came_is_not_left_behind() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "b", "2")]);
    world.set(queue, AttributeCode::DelaySeconds, 1);
    assert_eq!(world.received(queue, 10, 30), [""; 0]);
    // No turn comes before the delay has passed.
    world.advance(1_000, super::tests::ALL);
    assert_eq!(world.counts(queue), [2, 0, 0, 0]);
}

#[test]
fn what_came_behind_a_cursor_that_is_late_is_delayed_by_a_longer_delay() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[(AttributeCode::DelaySeconds, AttributeValue::Number(10))]);
    send(&mut world, queue, &[("1", "a", "1")]);
    world.set(queue, AttributeCode::DelaySeconds, 0);
    // No turn comes in between.
    send(&mut world, queue, &[("2", "b", "2")]);
    world.set(queue, AttributeCode::DelaySeconds, 5);
    world.drain();
    assert_eq!(world.counts(queue), [0, 0, 2, 0]);
    world.advance(5_000, super::tests::ALL);
    assert_eq!(world.received(queue, 10, 30), ["1", "2"]);
}

#[test]
fn what_is_in_flight_at_a_restart_and_never_left_is_delayed_no_longer_than_it_must() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1")]);
    let received = world.receive(queue, 1, 30);
    world.set(queue, AttributeCode::DelaySeconds, 1);
    world.restart();
    world.apply(Command::Undelivered { messages: &[received[0].message()] });
    assert_eq!(world.counts(queue), [0, 0, 1, 0]);
    world.advance(1_000, super::tests::ALL);
    assert_eq!(world.received(queue, 10, 30), ["1"]);
}

#[test]
fn an_attempt_is_repeated_until_something_of_it_changes() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2"), ("3", "b", "3")]);
    let first = attempt(&mut world, queue, "x", 10);
    assert_eq!(first.len(), 3);
    world.advance(5_000, 100);
    let handles = |deliveries: &[Delivery]| deliveries.iter().map(|one| one.handle).collect::<Vec<_>>();
    let second = attempt(&mut world, queue, "x", 10);
    assert_eq!(handles(&second), handles(&first));
    world.clean(usize::MAX);
    world.restart();
    world.advance(9_000, 100);
    let third = attempt(&mut world, queue, "x", 20);
    assert_eq!(handles(&third), handles(&first));
    assert_eq!(third[0].until_ms, world.now_ms + 20_000);
    world.delete(queue, &third[0].handle).0.expect("it is in flight");
    assert_eq!(attempt(&mut world, queue, "x", 10), []);
}

/// Rule 27: the messages are given again only as they were given, by that very delivery and until its deadline.
#[test]
fn an_attempt_is_not_repeated_with_messages_that_were_given_anew_since() {
    for is_received in [false, true] {
        let mut world = world::<Sound>();
        let queue = create(&mut world, &[]);
        send(&mut world, queue, &[("1", "a", "1")]);
        let first = attempt(&mut world, queue, "x", 10);
        if is_received {
            world.hide(queue, &first[0].handle, 0).expect("it is in flight");
            // Until the same time as before.
            assert_eq!(world.received(queue, 1, 10), ["1"]);
        } else {
            world.hide(queue, &first[0].handle, 20).expect("it is in flight");
        }
        assert_eq!(attempt(&mut world, queue, "x", 10), []);
    }
}

/// A client that has asked and gone at once, and another one that waited, all in one turn.
#[test]
fn an_attempt_that_never_left_is_not_repeated_with_what_another_was_given_in_the_same_millisecond() {
    for (is_cleaned, is_restarted) in [(false, false), (false, true), (true, true)] {
        let mut world = world::<Sound>();
        let queue = create(&mut world, &[]);
        send(&mut world, queue, &[("1", "a", "1")]);
        let first = attempt(&mut world, queue, "x", 10);
        world.apply(Command::Undelivered { messages: &[first[0].message()] });
        assert_eq!(world.received(queue, 1, 10), ["1"]);
        if is_cleaned {
            world.clean(usize::MAX);
        }
        if is_restarted {
            world.restart();
        }
        assert_eq!(attempt(&mut world, queue, "x", 10), []);
    }
}

/// The broker finds that the first answer never left only after the client has asked once more.
#[test]
fn what_a_repeated_attempt_was_given_is_not_taken_back_with_the_first_answer() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2")]);
    let first = attempt(&mut world, queue, "x", 30);
    world.advance(1_000, ALL);
    let again = attempt(&mut world, queue, "x", 30);
    let messages: Vec<_> = first.iter().map(Delivery::message).collect();
    world.apply(Command::Undelivered { messages: &messages });
    assert_eq!(world.received(queue, 10, 30), [""; 0], "they are their receiver's");
    // Nor with its own, as the first may be at work; who has got neither asks once more.
    world.apply(Command::Undelivered { messages: &messages });
    assert_eq!(attempt(&mut world, queue, "x", 30), again);
    for delivery in &again {
        world.delete(queue, &delivery.handle).0.expect("it is in flight");
    }
}

#[test]
fn an_attempt_that_waits_behind_others_is_repeated_once_they_wait_no_more() {
    let other = ConnectionId { index: 9, generation: 0 };
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let wait = |attempt_id| Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(20_000),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id,
    };
    assert!(world.apply(wait(Some("x"))).is_empty());
    assert!(world.apply_for(other, wait(None)).is_empty());
    assert!(world.apply(wait(Some("x"))).is_empty());
    send(&mut world, queue, &[("1", "a", "1")]);
    let replies = world.apply_for(other, Command::CancelWaits { connection: other });
    assert!(matches!(&replies[..], [Reply { body: ReplyBody::Received(range), .. }] if range.len() == 1));
    assert_eq!(world.out.deliveries[0].receive_count, 1, "it is the first one's message");
}

/// Who never saw an answer is not to lose its messages because others have asked for much.
#[test]
fn an_attempt_is_repeated_where_no_other_has_room() {
    let mut world = World::<Sound>::new(EngineOptions { attempts_max: 1, ..EngineOptions::new(0, [1, 2]) });
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "b", "2")]);
    let ask = |attempt_id| Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(0),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: Some(attempt_id),
    };
    assert!(matches!(world.ask(ask("x")).body, ReplyBody::Received(range) if range.len() == 1));
    let first = world.out.deliveries[0].handle;
    let is_throttled = |reply: Reply| matches!(reply.body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::RequestThrottled);
    assert!(is_throttled(world.ask(ask("y"))));
    assert!(matches!(world.ask(ask("x")).body, ReplyBody::Received(range) if range.len() == 1));
    assert_eq!(world.out.deliveries[0].handle, first);
    // One that is a new receive needs room like any other.
    world.delete(queue, &first).0.expect("it is in flight");
    assert!(is_throttled(world.ask(ask("x"))));
}

#[test]
fn an_attempt_id_is_for_fifo_queues() {
    let mut world = world::<Sound>();
    let queue = world.create("standard");
    let reply = world.ask(Command::Receive {
        queue,
        count_max: 1,
        wait_ms: None,
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: Some("x"),
    });
    assert!(
        matches!(reply.body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::InvalidParameterValue)
    );
}

#[test]
fn what_follows_a_refused_one_is_refused_until_its_sender_begins_again() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let flagged = |body| ((body, "a", body), true);
    let sent = send_as(
        &mut world,
        CONNECTION,
        queue,
        &[flagged("1"), (("2", "a", ""), true), flagged("3"), (("4", "b", "4"), true)],
    );
    let accepted: Vec<bool> = sent.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, false, true]);
    let other = ConnectionId { index: 9, generation: 1 };
    assert!(send_as(&mut world, other, queue, &[flagged("5")])[0].is_ok());
    assert!(send_as(&mut world, CONNECTION, queue, &[flagged("6")])[0].is_err());
    assert!(send_as(&mut world, CONNECTION, queue, &[(("2", "a", "2"), false)])[0].is_ok());
    assert!(send_as(&mut world, CONNECTION, queue, &[flagged("6")])[0].is_ok());
}

/// Rule 35, where a batch is refused as a whole.
#[test]
fn what_follows_a_refused_batch_is_refused_until_its_sender_begins_again() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let bound = (2..64).map(|segments| segments * (16 << 20)).find(|&bound| {
        world.log.set_log_bytes_max(bound);
        world.log.room() == crate::journal::Room::NoSends
    });
    assert!(bound.is_some());
    assert!(send(&mut world, queue, &[("1", "a", "1")]).is_empty(), "there is no room");
    world.log.set_log_bytes_max(u64::MAX);
    let flagged = |group| ((group, group, group), true);
    let sent = send_as(&mut world, CONNECTION, queue, &[flagged("a"), flagged("b")]);
    assert_eq!(sent.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    assert!(send(&mut world, queue, &[("1", "a", "1")])[0].is_ok());
    assert!(send_as(&mut world, CONNECTION, queue, &[flagged("a")])[0].is_ok());
}

#[test]
fn a_damaged_message_is_set_aside_and_its_group_goes_on() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2"), ("3", "a", "3")]);
    let first = world.receive(queue, 1, 30)[0];
    world.apply(Command::Damaged { slot: first.slot, sequence: first.sequence });
    assert_eq!(world.received(queue, 1, 0), ["2"]);
    assert_eq!(world.counts(queue), [2, 0, 0, 1]);
    world.restart();
    assert_eq!(world.received(queue, 10, 0), ["2", "3"]);
    assert_eq!(world.counts(queue), [2, 0, 0, 1]);
}

#[test]
fn what_never_left_goes_back_to_its_place() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1"), ("2", "a", "2"), ("3", "b", "3")]);
    let taken = world.receive(queue, 2, 30);
    let messages: Vec<_> = taken.iter().map(Delivery::message).collect();
    world.advance(1_000, 100);
    world.apply(Command::Undelivered { messages: &messages });
    let again = world.receive(queue, 10, 30);
    assert_eq!(again.iter().map(|one| world.body(one)).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(again.iter().all(|one| one.receive_count == 1));
}

#[test]
fn who_waits_while_a_group_of_dead_letters_moves_goes_on_once_a_turn() {
    let options = EngineOptions { letters_a_receive: 3, in_flight_max: 10, ..EngineOptions::new(0, [1, 2]) };
    let mut world: World<Sound> = World::new(options);
    let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
    let letters = world.create_with("letters.fifo", &[fifo]);
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:letters.fifo","maxReceiveCount":1}"#;
    let work = create(&mut world, &[(AttributeCode::RedrivePolicy, AttributeValue::Text(policy))]);
    let ids: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let said: Vec<Said<'_>> = ids.iter().map(|id| ("x", "group", id.as_str())).collect();
    for accepted in send(&mut world, work, &said) {
        accepted.expect("a good message");
    }
    let received = world.receive(work, 10, 5);
    assert_eq!(received.len(), 9);
    let wait = Command::Receive {
        queue: work,
        count_max: 10,
        wait_ms: Some(20_000),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(wait).is_empty());
    // Seeing no message again, nine dead letters move three a turn.
    for expected in [3, 6, 9] {
        world.advance(if expected == 3 { 5_000 } else { 0 }, super::tests::ALL);
        assert_eq!(world.counts(letters)[0], expected);
    }
    assert_eq!(world.counts(work), [0; 4]);
}

#[test]
fn fields_are_checked() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    let sent = send(&mut world, queue, &[("1", "", "1"), ("1", "a b", "1"), ("1", "a", "ü"), ("1", "a", "")]);
    let texts: Vec<_> = sent.iter().map(|sent| sent.clone().expect_err("refused").text).collect();
    assert_eq!(texts[0], "The request must contain the parameter MessageGroupId.");
    assert!(texts[1].contains("MessageGroupId can only include alphanumeric and punctuation characters."));
    assert!(texts[2].contains("MessageDeduplicationId can only include"));
    assert!(texts[3].starts_with("The queue should either have ContentBasedDeduplication enabled"));
    let standard = world.create("standard");
    let sent = send(&mut world, standard, &[("1", "tenant", ""), ("1", "", "x"), ("1", "a b", "")]);
    assert!(sent[0].is_ok() && sent[1].is_err() && sent[2].is_err());
    assert_eq!(sent[0].as_ref().expect("accepted").sequence_number, 0);
}

/// Rule 21: where a queue lives was decided when it was made.
#[test]
fn a_queue_stays_where_it_is_whatever_its_scope_becomes() {
    let mut world = World::<Sound>::new(EngineOptions { shards: 5, ..EngineOptions::new(3, [1, 2]) });
    let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
    let homes: std::collections::BTreeSet<u16> = (0..20)
        .map(|number| {
            let queue = world.create_with(&format!("q{number}.fifo"), &[fifo]);
            let Home::Shard(before) = world.engine.home(queue) else { panic!("it lives on one shard") };
            let attributes = [
                Attribute::new(AttributeCode::DeduplicationScope, AttributeValue::Text("messageGroup")),
                Attribute::new(AttributeCode::FifoThroughputLimit, AttributeValue::Text("perMessageGroupId")),
            ];
            let set = Command::SetAttributes { queue, attributes: Entries::of(&attributes) };
            assert_eq!(world.ask(set).body, ReplyBody::Done);
            assert_eq!(world.engine.home(queue), Home::Shard(before));
            world.restart();
            assert_eq!(world.engine.home(queue), Home::Shard(before));
            before
        })
        .collect();
    assert_eq!(homes.len(), 5, "they are spread");
}

/// Rule 1: a duplicate is answered as success once what it is a duplicate of is durable.
#[test]
fn a_duplicate_rests_on_the_first() {
    let mut world = world::<Sound>();
    let queue = create(&mut world, &[]);
    send(&mut world, queue, &[("1", "a", "1")]);
    let end = world.log.end();
    let content = content(("1", "a", "1"));
    let entry = SendEntry::with_content(&content, 1).expect("it was just written");
    let reply = world.ask(Command::Send { queue, entries: Entries::of(&[entry]) });
    assert_eq!(world.log.end(), end, "nothing is stored");
    assert!(world.out.sent[0].is_ok() && reply.depends_on >= end);
}
