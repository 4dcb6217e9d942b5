//! Receives while more has expired than one of them clears away (rule 31).

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, SendEntry, write_content,
};

use super::receive::CLEARED_MAX;
use super::tests::{ALL, World, world};
use super::*;
use crate::flaws::Sound;

const RETENTION_MS: u64 = 60_000;
/// So many that a few timers that run first leave more than a receive clears away.
const EXPIRED: usize = CLEARED_MAX + 100;

/// A queue with more expired messages than a receive clears away, each in a group of its own where there are
/// groups, and one behind them that has not expired. No timer has run since.
fn with_expired(name: &str) -> (World<Sound>, u64) {
    let mut world = world();
    let is_fifo = name.ends_with(".fifo");
    let mut attributes =
        vec![Attribute::new(AttributeCode::MessageRetentionPeriod, AttributeValue::Number(60))];
    if is_fifo {
        attributes.push(Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1)));
    }
    let queue = world.create_with(name, &attributes);
    let send = |world: &mut World<Sound>, number: usize| {
        let id = number.to_string();
        let given = is_fifo.then_some(&id[..]);
        let fields = ContentFields { group: given, deduplication_id: given, ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, b"a", &fields);
        let entry = SendEntry::with_content(&content, 1).expect("just written");
        world.apply(Command::Send { queue, entries: Entries::of(&[entry]) });
        assert!(world.out.sent[0].is_ok(), "{:?}", world.out.sent);
    };
    (1..=EXPIRED).for_each(|number| send(&mut world, number));
    world.advance(1_000, ALL);
    send(&mut world, 0);
    world.now_ms += RETENTION_MS - 1_000;
    (world, queue)
}

fn ask(queue: u64, wait_ms: u32) -> Command<'static> {
    Command::Receive {
        queue,
        count_max: 1,
        wait_ms: Some(wait_ms),
        visibility_seconds: Some(30),
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    }
}

/// Asks for one message; gives all replies until nothing is left to do at this time.
fn receive(world: &mut World<Sound>, queue: u64, wait_ms: u32) -> Vec<Reply> {
    let mut replies = world.apply(ask(queue, wait_ms));
    replies.extend(world.drain());
    replies
}

/// Whether one message, and nothing else, was given.
fn is_given(replies: &[Reply]) -> bool {
    matches!(replies, [Reply { body: ReplyBody::Received(range), .. }] if range.len() == 1)
}

#[test]
fn a_message_behind_many_that_have_expired_is_received() {
    let mut missed = Vec::new();
    for name in ["q", "q.fifo"] {
        for wait_ms in [0, 20_000] {
            let (mut world, queue) = with_expired(name);
            let replies = receive(&mut world, queue, wait_ms);
            if !is_given(&replies) || world.counts(queue) != [0, 1, 0, 0] {
                missed.push((name, wait_ms, replies));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// A receive that waited before is given it as well, in whatever slices the timers run.
#[test]
fn a_message_behind_many_that_have_expired_comes_to_who_waits() {
    let mut missed = Vec::new();
    for name in ["q", "q.fifo"] {
        let (mut world, queue) = with_expired(name);
        // It finds that nothing more may be in flight; then it may.
        let lease = world.engine.take_lease(queue, u64::MAX);
        let replies = world.apply(ask(queue, 20_000));
        assert!(replies.is_empty(), "{name}: {replies:?}");
        world.engine.add_lease(queue, lease);
        let mut replies = Vec::new();
        loop {
            let (more, some) = world.advance(0, 8);
            replies.extend(some);
            if !more {
                break;
            }
        }
        if !is_given(&replies) {
            missed.push((name, replies));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_receive_clears_away_so_many_and_no_more() {
    for name in ["q", "q.fifo"] {
        let (mut world, queue) = with_expired(name);
        assert!(world.apply(ask(queue, 0)).is_empty(), "it goes on in the next turn");
        let (cleared, messages) = (CLEARED_MAX as u64, EXPIRED as u64 + 1);
        assert_eq!(world.engine.stored_messages(), messages - cleared, "{name}");
    }
}
