//! Dead letters, one property at a time; histories over all of them are the model's.

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, Entries, ErrorCode};

use super::tests::World;
use super::*;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::simulator::bugs::Planted;

fn policy(target: &str, count: u32) -> String {
    format!(
        r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:{target}","maxReceiveCount":{count}}}"#
    )
}

/// A world with `letters`, a dead-letter queue, and `work`, whose messages go there after `count` receives.
pub(super) fn world<F: Flaws>(count: u32) -> (World<F>, u64, u64) {
    let mut world = World::new(EngineOptions { letters_a_receive: 4, ..EngineOptions::new(0, [1, 2]) });
    let letters = world.create("letters");
    let text = policy("letters", count);
    let attribute = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(&text));
    let work = world.create_with("work", &[attribute]);
    (world, work, letters)
}

pub(super) fn fail(world: &mut World<impl Flaws>, queue: u64, times: u32) {
    for _ in 0..times {
        // It may have so many dead letters to move that it is answered later.
        world.apply(Command::Receive {
            queue,
            count_max: 10,
            wait_ms: Some(0),
            visibility_seconds: Some(1),
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        world.drain();
        world.advance(1_000, super::tests::ALL);
        world.drain();
    }
}

#[test]
fn a_message_received_too_often_moves_with_all_it_has() {
    let (mut world, work, letters) = world::<Sound>(2);
    world.send(work, &["a", "b"]);
    fail(&mut world, work, 1);
    let old = world.receive(work, 10, 1);
    world.advance(1_000, super::tests::ALL);
    assert!(world.receive(work, 10, 30).is_empty());
    assert_eq!((world.counts(work), world.counts(letters)), ([0, 0, 0, 0], [2, 0, 0, 0]));
    let got = world.receive(letters, 10, 30);
    let bodies: Vec<_> = got.iter().map(|delivery| world.body(delivery)).collect();
    assert_eq!(bodies, ["a", "b"]);
    // All receives are shown; the source is known; the first receive was on the queue before.
    assert_eq!((got[0].receive_count, got[0].sent_at_ms), (3, old[0].sent_at_ms));
    assert_eq!(got[0].first_received_at_ms, super::tests::START_MS);
    let name = world.engine.origin_name(got[0].source).expect("it is known").arn();
    assert_eq!(name, "arn:aws:sqs:us-east-1:000000000000:work");
    // A handle from before succeeds and does nothing (rule 6).
    assert_eq!(world.delete(work, &old[0].handle).0, Ok(()));
    assert!(world.hide(work, &old[0].handle, 5).is_err());
    let refused = world.delete(letters, &old[0].handle).0.expect_err("another queue's handle");
    assert_eq!(refused.code, ErrorCode::ReceiptHandleIsInvalid);
    assert_eq!(world.counts(letters), [0, 2, 0, 0]);
    assert_eq!(world.delete(letters, &got[0].handle).0, Ok(()));
    assert_eq!(world.counts(letters), [0, 1, 0, 0]);
}

#[test]
fn what_is_given_out_after_a_move_rests_on_the_move() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.send(work, &["a"]);
    fail(&mut world, work, 1);
    let before = world.log.end();
    assert!(world.receive(work, 1, 30).is_empty());
    let reply = world.ask(Command::Peek {
        queue: letters,
        count_max: 1,
        state: 0,
        next: None,
        reply_bytes_max: u32::MAX,
    });
    assert!(reply.depends_on > before);
}

#[test]
fn a_receive_moves_a_few_and_goes_on_in_the_next_turn() {
    let (mut world, work, letters) = world::<Sound>(1);
    let bodies: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    world.send(work, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    fail(&mut world, work, 1);
    let receive = Command::Receive {
        queue: work,
        count_max: 10,
        wait_ms: Some(0),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(receive).is_empty(), "it is not answered yet");
    assert_eq!(world.counts(letters)[0], 4);
    assert_eq!(world.engine.next_deadline_ms(), Some(world.now_ms));
    let (more, replies) = world.advance(0, 100);
    assert!(more && replies.is_empty());
    let (_, replies) = world.advance(0, 100);
    assert!(
        matches!(&replies[..], [Reply { ends_wait: true, body: ReplyBody::Received(range), .. }] if range.is_empty())
    );
    assert_eq!(world.counts(letters)[0], 10);
    assert_eq!(world.received(letters, 10, 30), bodies);
}

#[test]
fn who_waits_on_the_dead_letter_queue_is_woken_and_unfinished_receives_end_with_their_connection() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.send(work, &["1", "2", "3", "4", "5"]);
    fail(&mut world, work, 1);
    let receive = |queue, wait_ms| Command::Receive {
        queue,
        count_max: 10,
        wait_ms: Some(wait_ms),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(receive(letters, 20_000)).is_empty());
    let replies = world.apply(receive(work, 0));
    assert!(
        matches!(&replies[..], [Reply { ends_wait: true, body: ReplyBody::Received(range), .. }] if range.len() == 4)
    );
    world.apply(Command::CancelWaits { connection: super::tests::CONNECTION });
    assert_eq!(world.drain(), []);
    assert_eq!(world.counts(work)[0], 1);
}

#[test]
fn a_target_that_is_gone_or_denies_it_leaves_messages_where_they_are() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.send(work, &["a"]);
    fail(&mut world, work, 1);
    let deny = r#"{"redrivePermission":"denyAll"}"#;
    let set = |world: &mut World<Sound>, text| {
        let attributes = [Attribute::new(AttributeCode::RedriveAllowPolicy, AttributeValue::Text(text))];
        let attributes = Entries::of(&attributes);
        assert_eq!(world.ask(Command::SetAttributes { queue: letters, attributes }).body, ReplyBody::Done);
    };
    set(&mut world, deny);
    assert_eq!(world.received(work, 1, 0), ["a"]);
    set(&mut world, "");
    assert!(world.received(work, 1, 0).is_empty());
    assert_eq!(world.counts(letters)[0], 1);
    world.send(work, &["b"]);
    fail(&mut world, work, 1);
    world.ask(Command::DeleteQueue { queue: letters });
    assert_eq!(world.received(work, 1, 0), ["b"]);
}

#[test]
fn the_source_is_known_when_its_queue_is_gone_and_after_cleaning_and_restarts() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.send(work, &["a"]);
    fail(&mut world, work, 1);
    assert!(world.receive(work, 1, 0).is_empty());
    world.ask(Command::DeleteQueue { queue: work });
    for _ in 0..3 {
        world.drain();
        let (digest, live_bytes) = (world.engine.digest(), world.live_bytes());
        world.recover();
        assert_eq!((world.engine.digest(), world.live_bytes()), (digest, live_bytes));
        world.restart_recovered();
        world.clean(world.records.len());
    }
    let got = world.receive(letters, 1, 30);
    assert_eq!(world.body(&got[0]), "a");
    assert!(world.engine.origin_name(got[0].source).expect("it is known").arn().ends_with(":work"));
    world.delete(letters, &got[0].handle).0.expect("it is there");
    assert_eq!(world.engine.origin_name(got[0].source), None);
    world.clean(world.records.len());
    world.recover();
}

#[test]
fn dead_letters_of_dead_letters_count_anew() {
    let (mut world, work, letters) = world::<Sound>(1);
    let last = world.create("last");
    let text = policy("last", 2);
    let attributes = [Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(&text))];
    world.ask(Command::SetAttributes { queue: letters, attributes: Entries::of(&attributes) });
    world.send(work, &["a"]);
    fail(&mut world, work, 2);
    assert_eq!(world.counts(letters)[0], 1);
    fail(&mut world, letters, 2);
    assert_eq!(world.counts(letters)[0], 1);
    fail(&mut world, letters, 1);
    assert_eq!(world.counts(last)[0], 1);
    let got = world.receive(last, 1, 0);
    assert_eq!(got[0].receive_count, 4);
    assert!(world.engine.origin_name(got[0].source).expect("it is known").arn().ends_with(":letters"));
}

#[test]
fn retention_goes_on_from_the_send_and_older_marks_of_expiry_do_not_hit_what_moves_in() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.set(letters, AttributeCode::MessageRetentionPeriod, 60);
    world.send(work, &["a"]);
    fail(&mut world, work, 1);
    world.advance(100_000, super::tests::ALL);
    // What was sent until 40 seconds ago had expired there; this one had not come yet.
    world.set(letters, AttributeCode::MessageRetentionPeriod, 200);
    assert!(world.receive(work, 1, 0).is_empty());
    assert_eq!(world.received(letters, 1, 0), ["a"]);
    world.recover();
    world.restart_recovered();
    assert_eq!(world.received(letters, 1, 0), ["a"]);
    world.advance(100_000, super::tests::ALL);
    world.drain();
    assert_eq!(world.counts(letters), [0, 0, 0, 0]);
}

#[test]
fn receives_before_the_move_are_carried() {
    fn digests_agree<F: Flaws>() -> bool {
        let (mut world, work, _) = world::<F>(1);
        world.send(work, &["a"]);
        fail(&mut world, work, 2);
        world.clean(world.records.len());
        let digest = world.engine.digest();
        world.recover();
        world.engine.digest() == digest
    }
    assert!(digests_agree::<Sound>());
    assert!(!Planted::with(Flaw::LoseReceivesBeforeArrivalInCleaning, digests_agree::<Planted>));
}
