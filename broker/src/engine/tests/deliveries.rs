//! Deliveries: for how long they hide a message, what their handles are good for, and how they are taken back.

use super::*;

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

/// Rule 5: after the shards have changed in number a message of another queue may stand, under its own sequence, where
/// the handle's message stood, should both shards have given out the same one.
#[test]
fn a_handle_from_before_the_shards_changed_names_no_message_of_another_queue() {
    let mut world = World::<Sound>::new(EngineOptions { distribution: 1, ..EngineOptions::new(0, [1, 2]) });
    let (gone, stays) = (world.create("gone"), world.create("stays"));
    world.send(stays, &["stays"]);
    let there = world.receive(stays, 1, 30)[0];
    let issued_before = |queue| {
        let handle = Handle {
            shard: 0,
            distribution: 0,
            slot: there.slot,
            sequence: there.sequence,
            incarnation: incarnation_of(queue),
            delivery: 1,
        };
        let mut bytes = [0; HANDLE_BYTES];
        world.engine.handle_key.encode(std::iter::once((handle, &mut bytes)));
        bytes
    };
    let (of_gone, of_stays) = (issued_before(gone), issued_before(stays));
    assert_eq!(code(world.delete(gone, &of_gone).0), ErrorCode::ReceiptHandleIsInvalid);
    assert_eq!(code(world.hide(gone, &of_gone, 0)), ErrorCode::ReceiptHandleIsInvalid);
    assert_eq!(world.counts(stays), [0, 1, 0, 0]);
    assert_eq!(world.delete(stays, &of_stays).0, Ok(()), "its own message has stayed where it was");
    assert_eq!(world.counts(stays), [0; 4]);
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

/// Rule 10: one who waited long enough gets nothing, though no timer has ended the wait.
#[test]
fn a_wait_is_over_by_its_deadline() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let wait = Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(1_000),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(wait).is_empty());
    world.now_ms += 1_000;
    let entries = [SendEntry::new(b"late")];
    let replies = world.apply(Command::Send { queue, entries: Entries::of(&entries) });
    let ended = replies.iter().find(|reply| reply.ends_wait).expect("it is answered");
    assert!(matches!(&ended.body, ReplyBody::Received(range) if range.is_empty()));
    assert_eq!(world.received(queue, 1, 30), ["late"]);
}
