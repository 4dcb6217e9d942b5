//! Move tasks, one property at a time.

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, Entries, ErrorCode, MoveTaskStatus, SendEntry,
    write_content,
};

use super::letters_tests::{fail, world};
use super::tests::{ALL, World};
use super::*;
use crate::flaws::Sound;

fn start(world: &mut World<Sound>, source: u64, destination: Option<u64>, rate: u32) -> Vec<u8> {
    let command = Command::StartMoveTask { source, destination, messages_per_second_max: rate };
    match world.ask(command).body {
        ReplyBody::MoveTaskStarted(task) => task.into(),
        other => panic!("{other:?}"),
    }
}

fn list(world: &mut World<Sound>, source: u64, count_max: u8) -> Vec<TaskOutput> {
    match world.ask(Command::ListMoveTasks { source, count_max }).body {
        ReplyBody::MoveTasks(tasks) => tasks.into(),
        other => panic!("{other:?}"),
    }
}

fn refusal(world: &mut World<Sound>, command: Command<'_>) -> (ErrorCode, String) {
    match world.ask(command).body {
        ReplyBody::Refused(refusal) => (refusal.code, refusal.text.into_owned()),
        other => panic!("{other:?}"),
    }
}

/// A world with this many dead letters of `work`.
fn dead(count: usize) -> (World<Sound>, u64, u64) {
    let (mut world, work, letters) = world::<Sound>(1);
    let bodies: Vec<String> = (0..count).map(|number| format!("{number:03}")).collect();
    for bodies in bodies.chunks(10) {
        world.send(work, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for _ in 0..count.div_ceil(10) {
        world.receive(work, 10, 1);
    }
    world.advance(1_000, ALL);
    fail(&mut world, work, 1);
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (0, count as u64));
    (world, work, letters)
}

#[test]
fn what_a_task_moves_is_new_and_goes_back_to_where_it_came_from() {
    let (mut world, work, letters) = dead(25);
    world.advance(10_000, ALL);
    let task = start(&mut world, letters, None, 0);
    let shown = &list(&mut world, letters, 0)[0];
    assert_eq!((shown.status, shown.to_move, &shown.task), (MoveTaskStatus::Running, 25, &task));
    assert!(shown.source.ends_with(":letters") && shown.destination.is_empty());
    world.drain();
    let shown = &list(&mut world, letters, 0)[0];
    assert_eq!((shown.status, shown.moved), (MoveTaskStatus::Completed, 25));
    assert!(shown.task.is_empty(), "it does not run any more");
    assert_eq!((world.counts(work), world.counts(letters)), ([25, 0, 0, 0], [0, 0, 0, 0]));
    let got = world.receive(work, 10, 30);
    assert_eq!(world.body(&got[0]), "000");
    let now_ms = world.now_ms;
    assert_eq!((got[0].receive_count, got[0].sent_at_ms, got[0].source), (1, now_ms, 0));
    assert_eq!(got[0].first_received_at_ms, now_ms);
}

#[test]
fn what_a_task_finds_expired_before_it_ends_is_on_the_record() {
    let (mut world, work, letters) = world::<Sound>(1);
    world.set(letters, AttributeCode::MessageRetentionPeriod, 60);
    world.send(letters, &["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    start(&mut world, letters, Some(work), 0);
    // Timers have too few steps to come to all of them before the task does.
    world.advance(60_000, 4);
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Completed);
    assert!(world.engine.expired.is_empty(), "{:?}", world.engine.expired);
    world.recover();
    assert_eq!(world.engine.stored_messages(), 0);
}

#[test]
fn a_task_keeps_its_pace() {
    let (mut world, work, letters) = dead(10);
    start(&mut world, letters, Some(work), 2);
    world.drain();
    assert_eq!(world.counts(work)[0], 0);
    for moved in 1..=10 {
        assert!(world.engine.next_deadline_ms() >= Some(world.now_ms + 500));
        world.advance(500, ALL);
        world.drain();
        assert_eq!(world.counts(work)[0], moved);
    }
    world.drain();
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Completed);
    let tasks = list(&mut world, letters, 1);
    assert!(tasks[0].destination.ends_with(":work"));
}

#[test]
fn a_task_is_cancelled_once_and_only_while_it_runs() {
    let (mut world, work, letters) = dead(10);
    let task = start(&mut world, letters, None, 1);
    world.advance(3_000, ALL);
    let cancel = Command::CancelMoveTask { task: &task };
    assert_eq!(world.ask(cancel).body, ReplyBody::MoveTaskCancelled { moved: 3 });
    let shown = &list(&mut world, letters, 1)[0];
    assert_eq!((shown.status, &shown.task[..]), (MoveTaskStatus::Cancelling, &b""[..]));
    assert_eq!(refusal(&mut world, cancel).0, ErrorCode::UnsupportedOperation, "it stops already");
    world.drain();
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Cancelled);
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (3, 7));
    assert_eq!(refusal(&mut world, cancel).0, ErrorCode::UnsupportedOperation);
    let garbage = Command::CancelMoveTask { task: b"garbage" };
    assert_eq!(refusal(&mut world, garbage).0, ErrorCode::InvalidParameterValue);
    start(&mut world, letters, None, 0);
    world.drain();
    assert_eq!(world.counts(work)[0], 10);
    // Of a queue that is not there, and of one that is there and has no such task.
    world.ask(Command::DeleteQueue { queue: letters });
    let source = "The resource that you specified for the SourceArn parameter doesn't exist.";
    assert_eq!(refusal(&mut world, cancel), (ErrorCode::ResourceNotFound, source.to_owned()));
    world.advance(60_000, ALL);
    world.create("letters");
    assert_eq!(refusal(&mut world, cancel), (ErrorCode::ResourceNotFound, "Task does not exist.".to_owned()));
}

#[test]
fn an_account_has_a_hundred_active_tasks() {
    let mut world = World::<Sound>::new(EngineOptions::new(0, [1, 2]));
    let dead_letter_queue = |world: &mut World<Sound>, account: &str, number: usize| {
        let name = format!("letters-{number}");
        let create = |world: &mut World<Sound>, name: &str, attributes: &[Attribute<'_>]| {
            let name = RawName { account, region: "", name };
            let (attributes, tags) = (Entries::of(attributes), Entries::default());
            match world.ask(Command::CreateQueue { name, attributes, tags }).body {
                ReplyBody::QueueOpened { number, .. } => number,
                other => panic!("{other:?}"),
            }
        };
        let letters = create(world, &name, &[]);
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:{account}:{name}","maxReceiveCount":1}}"#
        );
        let policy = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(&policy));
        let work = create(world, &format!("work-{number}"), &[policy]);
        world.send(letters, &["a"]);
        (letters, work)
    };
    let mut last = None;
    for number in 0..=100 {
        let (letters, work) = dead_letter_queue(&mut world, "111111111111", number);
        let begin =
            Command::StartMoveTask { source: letters, destination: Some(work), messages_per_second_max: 1 };
        if number < 100 {
            start(&mut world, letters, Some(work), 1);
        } else {
            assert_eq!(refusal(&mut world, begin).0, ErrorCode::OverLimit);
            last = Some((letters, work));
        }
    }
    let (letters, work) = dead_letter_queue(&mut world, "222222222222", 0);
    start(&mut world, letters, Some(work), 1);
    // Those that have ended do not count.
    world.advance(2_000, ALL);
    world.drain();
    let (letters, work) = last.expect("there is one that was refused");
    start(&mut world, letters, Some(work), 1);
}

#[test]
fn what_cannot_be_started_is_refused_with_the_reason() {
    let (mut world, work, letters) = dead(1);
    let begin = |source, destination, rate| Command::StartMoveTask {
        source,
        destination,
        messages_per_second_max: rate,
    };
    let text = refusal(&mut world, begin(work, None, 0)).1;
    assert_eq!(text, "Source queue must be configured as a Dead Letter Queue.");
    assert_eq!(refusal(&mut world, begin(letters, None, 501)).0, ErrorCode::InvalidParameterValue);
    assert_eq!(refusal(&mut world, begin(letters, Some(letters), 0)).0, ErrorCode::InvalidParameterValue);
    assert_eq!(refusal(&mut world, begin(letters, Some(1 << 40), 0)).0, ErrorCode::ResourceNotFound);
    assert_eq!(refusal(&mut world, begin(1 << 40, None, 0)).0, ErrorCode::QueueDoesNotExist);
    start(&mut world, letters, None, 1);
    assert!(refusal(&mut world, begin(letters, None, 0)).1.starts_with("There is already a task running."));
    let too_many = Command::ListMoveTasks { source: letters, count_max: 11 };
    assert_eq!(refusal(&mut world, too_many).0, ErrorCode::InvalidParameterValue);
}

#[test]
fn tasks_fail_with_a_reason() {
    let (mut world, work, letters) = dead(2);
    world.send(letters, &["sent here"]);
    let other = world.create("other");
    start(&mut world, letters, Some(other), 1);
    world.ask(Command::DeleteQueue { queue: other });
    world.advance(1_000, ALL);
    let failed = list(&mut world, letters, 1).remove(0);
    assert_eq!(failed.failure, Some("AWS.SimpleQueueService.NonExistentQueue"));
    start(&mut world, letters, None, 0);
    world.drain();
    let failed = list(&mut world, letters, 1).remove(0);
    assert_eq!((failed.status, failed.moved), (MoveTaskStatus::Failed, 2));
    assert_eq!(failed.failure, Some("CouldNotDetermineMessageSource"));
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (2, 1));
    // A task that is slow runs for 36 hours at most.
    start(&mut world, letters, Some(work), 1);
    world.advance(36 * 3_600_000, 4);
    world.drain();
    let failed = list(&mut world, letters, 1).remove(0);
    assert_eq!(failed.failure, Some("The task ran for 36 hours."));
}

#[test]
fn the_newest_ten_are_remembered_and_go_with_their_queue() {
    let (mut world, work, letters) = dead(1);
    for number in 0..12 {
        start(&mut world, letters, Some(work), number);
        world.advance(2_000, ALL);
        world.drain();
    }
    let rates: Vec<u32> =
        list(&mut world, letters, 10).iter().map(|task| task.messages_per_second_max).collect();
    assert_eq!(rates, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    assert_eq!(list(&mut world, letters, 0).len(), 1);
    // The records of the others may be there still.
    let (digest, live_bytes) = (world.engine.digest(), world.live_bytes());
    world.recover();
    assert_eq!((world.engine.digest(), world.live_bytes()), (digest, live_bytes));
    world.restart_recovered();
    world.ask(Command::DeleteQueue { queue: letters });
    world.drain();
    let (digest, live_bytes) = (world.engine.digest(), world.live_bytes());
    world.recover();
    assert_eq!((world.engine.digest(), world.live_bytes()), (digest, live_bytes));
}

#[test]
fn a_task_goes_on_after_restarts_and_cleaning_and_loses_and_doubles_nothing() {
    let (mut world, work, letters) = dead(40);
    start(&mut world, letters, None, 4);
    for _ in 0..12 {
        world.advance(1_000, ALL);
        world.drain();
        let (digest, live_bytes) = (world.engine.digest(), world.live_bytes());
        world.recover();
        assert_eq!((world.engine.digest(), world.live_bytes()), (digest, live_bytes));
        world.restart_recovered();
        assert_eq!(world.counts(work)[0] + world.counts(letters)[0], 40);
        assert_eq!(list(&mut world, letters, 1)[0].moved, world.counts(work)[0]);
        world.clean(world.records.len() / 2);
    }
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Completed);
    assert_eq!(world.counts(work)[0], 40);
}

#[test]
fn moved_messages_wake_who_waits_and_are_delayed_as_sent_ones_are() {
    let (mut world, work, letters) = dead(2);
    let receive = Command::Receive {
        queue: work,
        count_max: 10,
        wait_ms: Some(20_000),
        visibility_seconds: None,
        reply_bytes_max: u32::MAX,
        attempt_id: None,
    };
    assert!(world.apply(receive).is_empty());
    world.apply(Command::StartMoveTask { source: letters, destination: None, messages_per_second_max: 0 });
    let (_, replies) = world.advance(0, ALL);
    assert!(matches!(&replies[..], [Reply { body: ReplyBody::Received(range), .. }] if range.len() == 2));
    world.advance(30_000, ALL);
    fail(&mut world, work, 1);
    let delay = [Attribute::new(AttributeCode::DelaySeconds, AttributeValue::Number(5))];
    world.ask(Command::SetAttributes { queue: work, attributes: Entries::of(&delay) });
    assert_eq!(world.counts(letters)[0], 2);
    start(&mut world, letters, None, 0);
    world.drain();
    assert_eq!(world.counts(work), [0, 0, 2, 0]);
    world.advance(5_000, ALL);
    world.drain();
    assert_eq!(world.counts(work), [2, 0, 0, 0]);
}

/// What has moved names only the task's id.
#[test]
fn each_task_counts_what_it_has_moved_itself_also_after_restarts() {
    let (mut world, work, letters) = dead(12);
    let other_letters = world.create("other-letters");
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:other-letters","maxReceiveCount":1}"#;
    let redrive = [Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy))];
    let other_work = world.create_with("other-work", &redrive);
    world.send(other_work, &["x", "y", "z"]);
    fail(&mut world, other_work, 2);
    assert_eq!(world.counts(other_letters), [3, 0, 0, 0]);
    let first = start(&mut world, letters, Some(work), 4);
    let second = start(&mut world, other_letters, Some(other_work), 1);
    for seconds in 1..=2 {
        world.advance(1_000, ALL);
        world.drain();
        world.restart();
        let moved = [letters, other_letters].map(|queue| list(&mut world, queue, 1)[0].moved);
        assert_eq!(moved, [4 * seconds, seconds]);
    }
    // Each is cancelled by its own handle.
    let cancel = world.ask(Command::CancelMoveTask { task: &second }).body;
    assert_eq!(cancel, ReplyBody::MoveTaskCancelled { moved: 2 });
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Running);
    let cancel = world.ask(Command::CancelMoveTask { task: &first }).body;
    assert_eq!(cancel, ReplyBody::MoveTaskCancelled { moved: 8 });
    assert_eq!((world.counts(letters)[0], world.counts(other_letters)[0]), (4, 1));
}

/// A shard says once what it has to move, and may hear of a task before this one does: without that word no part of
/// the pace would ever be this one's.
#[test]
fn what_another_shard_says_of_a_task_that_is_not_known_yet_is_kept() {
    for is_started in [false, true] {
        let mut world = World::<Sound>::new(EngineOptions { shards: 3, ..EngineOptions::new(1, [1, 2]) });
        let queue = world.create("letters");
        // What it would number itself is ahead of shard 0, as after a start that not all have come to.
        world.restart();
        if is_started {
            world.engine.has_caught_up();
        }
        let place = world.engine.queues.find(queue).expect("it is there");
        let (name, started_at_ms) = (world.engine.queues[place].name.clone(), world.now_ms);
        let definition = |id| task_records::TaskDefinition {
            id,
            source: (queue, name.clone()),
            destination: None,
            messages_per_second_max: 1,
            started_at_ms,
        };
        let (status, failure) = (MoveTaskStatus::Running, tasks::Failure::None);
        let share = tasks::Share { status, failure, moved: 0, to_move: 7 };
        // At the start shard 0 may tell of a newer one first, which later means that the older one is gone.
        for (id, is_kept) in [(20, true), (10, !is_started)] {
            let definition = definition(id);
            let said = TaskShare { key: definition.key(), share };
            world.engine.hears_task_shares(2, &[said], &mut world.log);
            world.apply_change(&Change::StartTask(Box::new(definition)));
            let task = world.engine.tasks.by_id(id).expect("it was started");
            assert_eq!(task.others[2], is_kept.then_some(share), "task {id}");
        }
    }
}

/// Rule 31: of many messages a turn moves some.
#[test]
fn a_task_moves_a_few_messages_a_turn() {
    let (mut world, work, letters) = dead(40);
    start(&mut world, letters, None, 0);
    for turns in 1..=3 {
        world.advance(0, 1);
        let moved = world.counts(work)[0];
        assert!(moved <= 16 * turns, "{moved} messages in {turns} turns");
    }
    world.drain();
    assert_eq!(world.counts(work)[0], 40);
}

/// Rule 31: of large messages a turn moves fewer.
#[test]
fn a_task_moves_some_bytes_a_turn() {
    const MESSAGES: u64 = 8;
    let (mut world, work, letters) = world::<Sound>(1);
    let body = "x".repeat(100 << 10);
    (0..MESSAGES).for_each(|_| world.send(work, &[&body]));
    fail(&mut world, work, 2);
    assert_eq!(world.counts(letters), [MESSAGES, 0, 0, 0]);
    start(&mut world, letters, None, 0);
    for turns in 1..=2 {
        world.advance(0, 1);
        assert_eq!(world.counts(work)[0], 3 * turns, "the last one may be over");
    }
    world.drain();
    assert_eq!(world.counts(work)[0], MESSAGES);
}

/// What stands behind a message in flight is there to be moved like all else, once its group is ready.
#[test]
fn a_task_waits_for_a_group_that_is_locked() {
    let mut world = World::<Sound>::new(EngineOptions::new(0, [1, 2]));
    let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
    let content_based = Attribute::new(AttributeCode::ContentBasedDeduplication, AttributeValue::Number(1));
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:letters.fifo","maxReceiveCount":1}"#;
    let redrive = Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy));
    let letters = world.create_with("letters.fifo", &[fifo, content_based]);
    let work = world.create_with("work.fifo", &[fifo, redrive]);
    let send = |world: &mut World<Sound>, body: &str| {
        let mut content = Vec::new();
        let fields = ContentFields { group: Some("g"), ..ContentFields::default() };
        write_content(&mut content, body.as_bytes(), &fields);
        let entry = SendEntry::with_content(&content, body.len()).expect("it was written");
        world.apply(Command::Send { queue: letters, entries: Entries::of(&[entry]) });
    };
    ["1", "2", "3"].into_iter().for_each(|body| send(&mut world, body));
    assert_eq!(world.receive(letters, 1, 30).len(), 1);
    start(&mut world, letters, Some(work), 0);
    world.drain();
    let shown = list(&mut world, letters, 1).remove(0);
    assert_eq!((shown.status, shown.moved, shown.to_move), (MoveTaskStatus::Running, 0, 2));
    world.advance(30_000, ALL);
    world.drain();
    let shown = list(&mut world, letters, 1).remove(0);
    assert_eq!((shown.status, shown.moved), (MoveTaskStatus::Completed, 2));
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (2, 1));
    // It does not wait for what others take meanwhile.
    send(&mut world, "4");
    let mut got = world.receive(letters, 1, 30);
    start(&mut world, letters, Some(work), 0);
    world.drain();
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Running);
    for _ in 0..2 {
        world.delete(letters, &got[0].handle).0.expect("it is in flight");
        got = world.receive(letters, 1, 30);
    }
    world.advance(1_000, ALL);
    let shown = list(&mut world, letters, 1).remove(0);
    assert_eq!((shown.status, shown.moved, shown.to_move), (MoveTaskStatus::Completed, 0, 1));
}

/// Rule 16: a task sends, and so it waits where there is no room for sends.
#[test]
fn a_task_waits_for_room() {
    let (mut world, work, letters) = dead(5);
    start(&mut world, letters, None, 0);
    let bound = (2..64).map(|segments| segments * (16 << 20)).find(|&bound| {
        world.log.set_log_bytes_max(bound);
        world.log.room() == crate::journal::Room::NoSends
    });
    assert!(bound.is_some());
    world.advance(1_000, ALL);
    world.drain();
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (0, 5));
    world.log.set_log_bytes_max(u64::MAX);
    world.advance(1_000, ALL);
    world.drain();
    assert_eq!((world.counts(work)[0], world.counts(letters)[0]), (5, 0));
    assert_eq!(list(&mut world, letters, 1)[0].status, MoveTaskStatus::Completed);
}

/// Rule 18: a task is in the digest, and with it how far it has come.
#[test]
fn a_task_is_in_the_digest() {
    let changes: [fn(&mut tasks::Task); 3] =
        [|task| task.share.moved += 1, |task| task.share.to_move += 1, |task| task.definition.id += 1];
    for change in changes {
        let (mut world, _, letters) = dead(1);
        start(&mut world, letters, None, 1);
        let before = world.engine.digest();
        world.engine.tasks.table.values_mut().for_each(change);
        assert_ne!(world.engine.digest(), before);
    }
}
