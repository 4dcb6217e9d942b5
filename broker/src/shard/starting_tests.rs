//! Two shards that begin to serve, and what one of them was cut short in.

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, Operation, ReceiveRequest, Request,
    Response, SendEntry, SendRequest, write_content,
};

use super::Opened;
use super::driver::ConnectionId;
use super::peers_tests::{ALONE, CLOCKS, Pair};
use crate::clock::Clock;
use crate::engine::{Change, Command, Home, Outputs, Planned, RawName, Ticket};
use crate::exchange::moves::TAKEN_A_TURN;
use crate::flaws::Sound;

const IN_FLIGHT_MAX: u64 = 10;
const NOBODY: Ticket = Ticket {
    connection: ConnectionId { index: u32::MAX, generation: u32::MAX },
    correlation: 0,
    operation: Operation::Ping,
};

/// Has the first shard judge a change, and these do it.
fn change(opened: &mut [Opened<Sound>; 2], command: Command<'_>, on: &[usize]) -> Change {
    let now_ms = CLOCKS.wall_ms;
    let Opened { engine, log, .. } = &mut opened[0];
    let planned = engine.plan(now_ms, command, log).expect("it is right");
    let Planned::Change(change, _) = planned else { panic!("it changes something") };
    for &shard in on {
        let Opened { engine, log, .. } = &mut opened[shard];
        engine.apply_change(now_ms, &change, log, &mut Outputs::default());
    }
    change
}

fn create(opened: &mut [Opened<Sound>; 2], name: &str, attributes: &[Attribute<'_>], on: &[usize]) -> u64 {
    let name = RawName { account: "", region: "", name };
    let attributes = Entries::of(attributes);
    match change(opened, Command::CreateQueue { name, attributes, tags: Entries::default() }, on) {
        Change::Define(definition) => definition.number(),
        other => panic!("{other:?}"),
    }
}

/// A FIFO queue that lives on this shard, and its name.
fn create_on(
    opened: &mut [Opened<Sound>; 2],
    shard: u16,
    name: &str,
    attributes: &[Attribute<'_>],
) -> (u64, String) {
    for number in 0.. {
        let name = format!("{name}-{number}.fifo");
        let queue = create(opened, &name, attributes, &[0, 1]);
        if opened[0].engine.home(queue) == Home::Shard(shard) {
            return (queue, name);
        }
    }
    unreachable!("they live on one shard after the other")
}

fn send_to_group(opened: &mut Opened<Sound>, queue: u64, group: &str) {
    let fields =
        ContentFields { group: Some(group), deduplication_id: Some(group), ..ContentFields::default() };
    let mut content = Vec::new();
    write_content(&mut content, b"a", &fields);
    let entry = SendEntry::with_content(&content, 1).expect("just written");
    apply(opened, Command::Send { queue, entries: Entries::of(&[entry]) });
}

fn apply(opened: &mut Opened<Sound>, command: Command<'_>) {
    let (engine, log) = (&mut opened.engine, &mut opened.log);
    engine.apply(CLOCKS.wall_ms, NOBODY, command, log, &mut Outputs::default());
}

fn send(opened: &mut Opened<Sound>, queue: u64, count: usize) {
    apply(opened, Command::Send { queue, entries: Entries::of(&vec![SendEntry::new(b"a"); count]) });
}

impl Pair {
    fn let_start(&mut self) {
        for _ in 0..ALONE {
            self.turn(0);
            self.turn(1);
        }
    }
}

/// Rule 20: what the first shard has done and the second has not is done before anybody is served.
#[test]
fn changes_that_were_cut_short_are_completed_at_the_start() {
    let mut purged = 0;
    let mut pair = Pair::starting(IN_FLIGHT_MAX, |opened| {
        purged = create(opened, "purged", &[], &[0, 1]);
        let deleted = create(opened, "deleted", &[], &[0, 1]);
        create(opened, "new", &[], &[0]);
        for queue in [purged, deleted] {
            send(&mut opened[1], queue, 3);
        }
        change(opened, Command::Purge { queue: purged }, &[0]);
        change(opened, Command::DeleteQueue { queue: deleted }, &[0]);
    });
    pair.let_start();
    let numbers = |shard: usize| pair.shards[shard].engine().queue_numbers();
    assert_eq!(numbers(0).len(), 2);
    assert_eq!(numbers(1), numbers(0));
    assert_eq!(pair.shards[1].engine().counts(purged).map(|counts| counts.visible), Some(0));
}

/// Rule 31: of many queues the first shard tells some a turn.
#[test]
fn the_catalog_is_told_a_part_a_turn() {
    const QUEUES: usize = 600;
    const TOLD_A_TURN_MAX: usize = 256;
    let mut pair = Pair::starting(IN_FLIGHT_MAX, |opened| {
        for number in 0..QUEUES {
            create(opened, &format!("q{number}"), &[], &[0]);
        }
    });
    let mut told = 0;
    for _ in 0..ALONE {
        pair.turn(0);
        let more = pair.queues_under_way() - told;
        assert!(more <= TOLD_A_TURN_MAX, "{more} queues in a turn");
        told += more;
    }
    assert_eq!(told, QUEUES);
    pair.let_start();
    assert_eq!(pair.shards[1].engine().queue_count(), QUEUES);
}

/// Rule 26: what a shard has in flight when it starts is no more for its queue's home to give.
#[test]
fn what_is_in_flight_elsewhere_at_the_start_is_no_more_the_homes() {
    let mut queues = Vec::new();
    let mut pair = Pair::starting(IN_FLIGHT_MAX, |opened| {
        queues = ["one", "two"].map(|name| create(opened, name, &[], &[0, 1])).to_vec();
        for &queue in &queues {
            for shard in opened.iter_mut() {
                shard.engine.add_lease(queue, IN_FLIGHT_MAX);
                send(shard, queue, 3);
                let receive = Command::Receive {
                    queue,
                    count_max: 3,
                    wait_ms: Some(0),
                    visibility_seconds: Some(30),
                    reply_bytes_max: u32::MAX,
                    attempt_id: None,
                };
                apply(shard, receive);
                // The home has the whole again after a restart.
                let (most, _) = shard.engine.lease(queue).expect("it is there");
                shard.engine.lose_lease(queue, most.saturating_sub(IN_FLIGHT_MAX));
            }
        }
    });
    pair.let_start();
    for queue in queues {
        let mut leases = [0, 1].map(|shard: usize| pair.shards[shard].engine().lease(queue));
        leases.sort_unstable();
        assert_eq!(leases, [Some((3, 3)), Some((IN_FLIGHT_MAX - 3, 3))]);
    }
}

/// Rule 9: all go on from the furthest of their times, at the start and when they hear of what was done later.
#[test]
fn shards_go_on_from_the_furthest_of_their_times() {
    const AHEAD_MS: u64 = 5_000;
    let ahead_ms = CLOCKS.wall_ms + AHEAD_MS;
    for furthest in 0..2 {
        let mut pair = Pair::starting(IN_FLIGHT_MAX, |opened| {
            opened[furthest].clock = Clock::start(Some(ahead_ms), CLOCKS);
        });
        pair.let_start();
        assert_eq!([0, 1].map(|shard: usize| pair.shards[shard].core.clock.now_ms()), [ahead_ms; 2]);
        let who = pair.connect(0);
        pair.shards[0].core.clock.catch_up(ahead_ms + AHEAD_MS, CLOCKS);
        pair.create(who, false);
        assert_eq!(pair.shards[1].core.clock.now_ms(), ahead_ms + AHEAD_MS);
    }
}

/// Rule 28: what another shard asks before this one serves waits, in its order.
#[test]
fn requests_of_another_shard_that_wait_for_the_start_keep_their_order() {
    let mut queue = 0;
    let mut pair = Pair::starting(IN_FLIGHT_MAX, |opened| {
        let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
        queue = create_on(opened, 0, "q", &[fifo]).0;
    });
    // The second shard hears all from the first one before that hears that it has.
    (0..ALONE).for_each(|_| pair.turn(0));
    pair.turn(1);
    let who = pair.greet(1);
    for number in 0..5 {
        let body = number.to_string();
        let fields =
            ContentFields { group: Some("g"), deduplication_id: Some(&body), ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, body.as_bytes(), &fields);
        let entry = SendEntry::with_content(&content, body.len()).expect("just written");
        pair.submit(who, &Request::Send(SendRequest { queue, entries: Entries::of(&[entry]) }), 1);
    }
    (0..ALONE).for_each(|_| pair.turn(1));
    pair.answer(who, |answer| assert!(matches!(answer, Response::Hello(_))));
    (0..5).for_each(|_| pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_)))));
    let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) };
    pair.submit(who, &Request::Receive(receive), 1);
    let bodies = pair.answer(who, |answer| match answer {
        Response::Receive(reply) => {
            reply.messages.iter().map(|message| message.body.to_vec()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(bodies, [b"0", b"1", b"2", b"3", b"4"]);
}

/// Rule 31: of many messages that go to another shard a turn gives some, and takes some.
#[test]
fn shards_give_and_take_a_few_messages_a_turn() {
    const GIVEN_A_TURN_MAX: usize = 8;
    const LETTERS: usize = 30;
    let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
    let mut letters = 0;
    let mut pair = Pair::starting(1_000, |opened| {
        let (queue, name) = create_on(opened, 1, "letters", &[fifo]);
        letters = queue;
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:{name}","maxReceiveCount":1}}"#
        );
        let redrive = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(&policy));
        let (work, _) = create_on(opened, 0, "work", &[fifo, redrive]);
        for number in 0..LETTERS {
            send_to_group(&mut opened[0], work, &number.to_string());
        }
        let receive = Command::Receive {
            queue: work,
            count_max: 10,
            wait_ms: Some(0),
            visibility_seconds: Some(0),
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        };
        (0..LETTERS).for_each(|_| apply(&mut opened[0], receive));
    });
    (0..ALONE).for_each(|_| pair.turn(0));
    pair.turn(1);
    let mut given = 0;
    for _ in 0..ALONE {
        pair.turn(0);
        let more = pair.moves_under_way() - given;
        assert!(more <= GIVEN_A_TURN_MAX, "{more} messages in a turn");
        given += more;
    }
    assert_eq!(given, LETTERS);
    let visible = |pair: &Pair| pair.shards[1].engine().visible(letters) as usize;
    assert_eq!(visible(&pair), 0);
    for taken in [TAKEN_A_TURN, LETTERS] {
        pair.turn(1);
        assert_eq!(visible(&pair), taken);
    }
}
