//! Changes of the catalog on two shards of which one may not come to do anything (rule 20).

use std::time::Duration;

use tenpin_protocol::{
    CreateQueueRequest, ErrorCode, Goodbye, ListMoveTasksRequest, OpenRequest, PurgeRequest, Request,
    Response,
};

use super::peers_tests::{ALONE, Pair};

const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

/// What a request that is answered with nothing more was answered.
fn outcome(answer: Response<'_>) -> Result<(), ErrorCode> {
    match answer {
        Response::Error(error) => Err(error.code().expect("a known one")),
        Response::Purge(_) => Ok(()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_minute_between_purges_begins_when_the_first_is_on_every_shard() {
    let mut pair = Pair::new();
    let (first, second) = (pair.connect(0), pair.connect(0));
    let queue = pair.create(first, false);
    let purge = Request::Purge(PurgeRequest { queue });
    pair.submit(first, &purge, 1);
    (0..ALONE).for_each(|_| pair.turn(0));
    pair.pass(MINUTE + MILLISECOND);
    pair.submit(second, &purge, 1);
    (0..ALONE).for_each(|_| pair.turn(0));
    assert!(pair.party(first).answered.is_empty(), "the other shard does not have it");
    // It is there later than the second was asked for.
    pair.pass(MINUTE / 2);
    assert_eq!(pair.answer(first, outcome), Ok(()));
    // It says nothing more, and is let go for that.
    pair.party(first).has_left = true;
    assert_eq!(pair.answer(second, outcome), Err(ErrorCode::PurgeQueueInProgress));
    for (passes, expected) in
        [(MINUTE - MILLISECOND, Err(ErrorCode::PurgeQueueInProgress)), (MILLISECOND, Ok(()))]
    {
        pair.pass(passes);
        pair.submit(second, &purge, 1);
        assert_eq!(pair.answer(second, outcome), expected);
    }
}

/// Nobody hears of a queue that some shard does not know yet.
#[test]
fn what_is_said_of_a_queue_waits_until_every_shard_has_it() {
    let mut pair = Pair::new();
    let (first, second) = (pair.connect(0), pair.connect(0));
    let create = CreateQueueRequest { name: "late", ..CreateQueueRequest::default() };
    pair.submit(first, &Request::CreateQueue(create), 1);
    (0..ALONE).for_each(|_| pair.turn(0));
    let open = OpenRequest { name: "late", ..OpenRequest::default() };
    pair.submit(second, &Request::Open(open), 1);
    (0..ALONE).for_each(|_| pair.turn(0));
    assert!(pair.party(second).answered.is_empty());
    pair.answer(second, |answer| assert!(matches!(answer, Response::Open(_)), "{answer:?}"));
    pair.answer(first, |answer| assert!(matches!(answer, Response::CreateQueue(_)), "{answer:?}"));
}

#[test]
fn a_goodbye_is_answered_behind_what_waits_for_other_shards() {
    let mut pair = Pair::new();
    let other = pair.connect(0);
    let queue = pair.create(other, false);
    let create = CreateQueueRequest { name: "late", ..CreateQueueRequest::default() };
    let requests = [
        Request::CreateQueue(create),
        Request::Purge(PurgeRequest { queue }),
        Request::ListMoveTasks(ListMoveTasksRequest { source: queue, max: 1 }),
    ];
    for request in requests {
        let who = pair.connect(0);
        pair.submit(who, &request, 1);
        pair.submit(who, &Request::Goodbye(Goodbye::default()), 1);
        pair.party(who).has_left = true;
        (0..ALONE).for_each(|_| pair.turn(0));
        assert!(pair.party(who).answered.is_empty());
        pair.answer(who, |answer| assert_eq!(answer.operation(), Some(request.operation())));
        pair.answer(who, |answer| assert!(matches!(answer, Response::Goodbye(_))));
    }
}
