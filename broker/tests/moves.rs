//! Messages that move between shards, over real sockets: dead letters of FIFO queues, and move tasks.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use common::{PATIENCE, TestBroker};
use tenpin_broker::engine::export::home_of_fifo;
use tenpin_broker::engine::incarnation_of;
use tenpin_client::{
    AttributeCode, Client, ErrorCode, Message, MoveTask, MoveTaskStatus, NewMessage, Queue, QueueAttributes,
    Receive,
};

const GROUPS: usize = 5;

/// Runs a test's future on a runtime of its own, within bounded time.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it ends") })
}

fn over_each(test: impl Fn(TestBroker, u16)) {
    for (io, shards) in [("epoll", 2), ("uring", 5)] {
        if let Some(broker) = TestBroker::try_start(io, "fsync", &format!("shards = {shards}\n")) {
            test(broker, shards);
        }
    }
}

async fn client_of(broker: &TestBroker) -> Client {
    Client::builder(broker.address().to_string()).request_timeout(PATIENCE).connect().await.unwrap()
}

/// Asks again until `condition` holds of the answer.
async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> T, condition: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if condition(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

async fn count(queue: &Queue) -> u64 {
    let stats = queue.stats().await.unwrap();
    stats.visible() + stats.in_flight() + stats.delayed()
}

async fn newest_task(letters: &Queue) -> MoveTask {
    letters.move_tasks().await.unwrap().swap_remove(0)
}

async fn ended_task(letters: &Queue) -> MoveTask {
    let has_ended =
        |task: &MoveTask| !matches!(task.status, Some(MoveTaskStatus::Running | MoveTaskStatus::Cancelling));
    wait_for("the task has ended", async || newest_task(letters).await, has_ended).await
}

fn home(broker: &TestBroker, name: &str, shards: u16) -> u16 {
    home_of_fifo(incarnation_of(broker.client().open(name).unwrap()), shards)
}

/// A FIFO queue and its dead-letter queue, which lives on another shard; a message is a dead letter once
/// it was received.
async fn apart(broker: &TestBroker, client: &Client, shards: u16) -> (Queue, Queue) {
    for attempt in 0.. {
        let (work, letters) = (format!("work-{attempt}.fifo"), format!("letters-{attempt}.fifo"));
        let letters_queue = client.create_queue(letters.as_str()).await.unwrap();
        let attributes = QueueAttributes::new().dead_letters(&arn(&letters_queue).await, 1);
        let work_queue = client.create_queue_with(work.as_str(), &attributes).await.unwrap();
        if home(broker, &work, shards) != home(broker, &letters, shards) {
            return (work_queue, letters_queue);
        }
    }
    unreachable!("queues are spread over shards")
}

async fn arn(queue: &Queue) -> String {
    queue.attributes().await.unwrap().get_text(AttributeCode::QueueArn).expect("it has one").to_owned()
}

async fn send(queue: &Queue, total: usize) {
    let messages: Vec<NewMessage> = (0..total)
        .map(|number| NewMessage::new(number.to_string()).group(format!("group-{}", number % GROUPS)))
        .collect();
    for batch in messages.chunks(10) {
        for sent in queue.send_batch(batch).await.unwrap() {
            sent.unwrap();
        }
    }
}

/// Receives whatever is visible, for no time: what comes twice is a dead letter.
async fn receive_in_vain(queue: &Queue) -> Vec<Message> {
    let receive = Receive::up_to(10).wait(Duration::ZERO).visibility_timeout(Duration::ZERO);
    queue.receive_with(&receive).await.unwrap()
}

/// Takes and deletes everything; gives the bodies in their order.
async fn take_all(queue: &Queue, total: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < total {
        let messages = queue.receive_with(&Receive::up_to(10).wait(Duration::from_secs(10))).await.unwrap();
        assert!(!messages.is_empty(), "{} of {total} came", bodies.len());
        let handles: Vec<_> = messages.iter().map(Message::handle).collect();
        for deleted in queue.delete_batch(&handles).await.unwrap() {
            deleted.unwrap();
        }
        bodies.extend(messages.iter().map(|message| message.text().unwrap().to_owned()));
    }
    assert_eq!(count(queue).await, 0);
    bodies
}

fn check_each_once_and_in_order(bodies: &[String], total: usize) {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for body in bodies {
        let number: usize = body.parse().unwrap();
        groups.entry(number % GROUPS).or_default().push(number);
    }
    for (group, numbers) in groups {
        let expected: Vec<usize> = (group..total).step_by(GROUPS).collect();
        assert_eq!(numbers, expected, "each message of group {group} once, in its order");
    }
    assert_eq!(bodies.len(), total);
}

#[test]
fn fifo_dead_letters_go_to_another_shard_and_a_task_brings_them_back() {
    const TOTAL: usize = 60;
    over_each(|mut broker, shards| {
        run(async {
            let client = client_of(&broker).await;
            let (work, letters) = apart(&broker, &client, shards).await;
            send(&work, TOTAL).await;
            let all_are_letters = async || {
                receive_in_vain(&work).await;
                (count(&work).await, count(&letters).await)
            };
            wait_for("all are letters", all_are_letters, |counts| *counts == (0, TOTAL as u64)).await;
            let letter = receive_in_vain(&letters).await.swap_remove(0);
            assert_eq!(letter.dead_letter_source(), Some(&*arn(&work).await));
            assert_eq!(letter.deduplication_id(), Some(&*letter.id().to_string()));
            assert!(letter.receive_count() > 1, "what it was received before counts");

            letters.start_move_task(None, None).await.unwrap();
            let task = ended_task(&letters).await;
            assert_eq!(task.status, Some(MoveTaskStatus::Completed));
            assert_eq!((task.moved, task.to_move), (TOTAL as u64, TOTAL as u64));
            assert_eq!(count(&letters).await, 0);
            let again = receive_in_vain(&work).await.swap_remove(0);
            assert_eq!((again.receive_count(), again.dead_letter_source()), (1, None), "it is a new message");
            assert_ne!(again.id(), letter.id());
            work.set_attributes(&QueueAttributes::new().text(AttributeCode::RedrivePolicy, ""))
                .await
                .unwrap();
            check_each_once_and_in_order(&take_all(&work, TOTAL).await, TOTAL);
        });
        broker.stop();
    });
}

/// A standard queue with messages on every shard, as many clients sent to it.
async fn spread(broker: &TestBroker, shards: u16, each: usize) -> (Queue, Queue, usize) {
    let client = client_of(broker).await;
    let letters = client.create_queue("letters").await.unwrap();
    let attributes = QueueAttributes::new().dead_letters(&arn(&letters).await, 1);
    let work = client.create_queue_with("work", &attributes).await.unwrap();
    for sender in 0..2 * usize::from(shards) {
        let queue = client_of(broker).await.queue("letters").await.unwrap();
        for number in 0..each {
            queue.send(format!("{sender}-{number}")).await.unwrap();
        }
    }
    (work, letters, 2 * usize::from(shards) * each)
}

#[test]
fn a_task_moves_a_standard_queue_on_all_shards_at_one_pace_until_it_is_cancelled() {
    const PER_SECOND: u32 = 40;
    over_each(|mut broker, shards| {
        run(async {
            let (work, letters, total) = spread(&broker, shards, 20).await;
            let total = total as u64;
            let began = Instant::now();
            let handle = letters.start_move_task(Some(&work), Some(PER_SECOND)).await.unwrap();
            let refused = letters.start_move_task(Some(&work), None).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::InvalidParameterValue), "one is active");
            let mut last = 0;
            while last < u64::from(shards) * 2 {
                let task = newest_task(&letters).await;
                assert!(task.moved >= last && task.moved < total, "{task:?} after {last}");
                assert_eq!((task.status, task.to_move), (Some(MoveTaskStatus::Running), total));
                assert_eq!(task.handle.as_ref(), Some(&handle));
                let allowed = began.elapsed().as_secs_f64() * f64::from(PER_SECOND) + 1.0;
                assert!(task.moved as f64 <= allowed, "{task:?}: no more than {allowed}");
                last = task.moved;
            }
            let at_least = letters.client().cancel_move_task(&handle).await.unwrap();
            assert!(at_least >= last && at_least < total);
            let task = ended_task(&letters).await;
            assert_eq!(task.status, Some(MoveTaskStatus::Cancelled));
            assert!(task.moved >= at_least && task.moved < total);
            assert_eq!((count(&work).await, count(&letters).await), (task.moved, total - task.moved));
            let refused = letters.client().cancel_move_task(&handle).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::UnsupportedOperation), "it runs no more");

            letters.start_move_task(Some(&work), None).await.unwrap();
            let rest = ended_task(&letters).await;
            assert_eq!(rest.status, Some(MoveTaskStatus::Completed));
            assert_eq!((rest.moved, rest.to_move), (total - task.moved, total - task.moved));
            assert_eq!(letters.move_tasks().await.unwrap()[1], task, "the one before stays as it ended");
            work.set_attributes(&QueueAttributes::new().text(AttributeCode::RedrivePolicy, ""))
                .await
                .unwrap();
            let bodies: HashSet<String> = take_all(&work, total as usize).await.into_iter().collect();
            assert_eq!(bodies.len() as u64, total, "each message once");
        });
        broker.stop();
    });
}

/// Killed twice while messages go over, and twice while a task brings them back: nothing is lost and
/// nothing doubled, and the task's counts are exact.
#[test]
fn nothing_is_lost_or_doubled_by_kills_while_messages_move_between_shards() {
    const TOTAL: usize = 200;
    over_each(|mut broker, shards| {
        let (work, letters) = run(async {
            let client = client_of(&broker).await;
            let (work, letters) = apart(&broker, &client, shards).await;
            send(&work, TOTAL).await;
            (work.name().name().to_owned(), letters.name().name().to_owned())
        });
        let queues = async |broker: &TestBroker| {
            let client = client_of(broker).await;
            (client.queue(work.as_str()).await.unwrap(), client.queue(letters.as_str()).await.unwrap())
        };
        for many in [20, 80, TOTAL as u64] {
            run(async {
                let (work, letters) = queues(&broker).await;
                let moves = async || {
                    receive_in_vain(&work).await;
                    count(&letters).await
                };
                wait_for("many are letters", moves, |count| *count >= many).await;
            });
            broker.kill_and_restart();
        }
        run(async {
            let (work, letters) = queues(&broker).await;
            wait_for("none is left", async || count(&work).await, |count| *count == 0).await;
            assert_eq!(count(&letters).await, TOTAL as u64);
            letters.start_move_task(None, None).await.unwrap();
        });
        for many in [20, 80] {
            run(async {
                let letters = queues(&broker).await.1;
                wait_for("many are back", async || newest_task(&letters).await, |task| task.moved >= many)
                    .await;
            });
            broker.kill_and_restart();
        }
        run(async {
            let (work, letters) = queues(&broker).await;
            let task = ended_task(&letters).await;
            assert_eq!(task.status, Some(MoveTaskStatus::Completed));
            assert_eq!((task.moved, task.to_move), (TOTAL as u64, TOTAL as u64));
            assert_eq!((count(&work).await, count(&letters).await), (TOTAL as u64, 0));
            work.set_attributes(&QueueAttributes::new().text(AttributeCode::RedrivePolicy, ""))
                .await
                .unwrap();
            check_each_once_and_in_order(&take_all(&work, TOTAL).await, TOTAL);
        });
        broker.stop();
    });
}
