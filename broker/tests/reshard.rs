//! Another number of shards: a real broker fills a folder, the folder is resharded and stopped at every
//! step, and what is in it stays what it was.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_broker::reshard::{contents, reshard, reshard_in_steps};
use tenpin_client::blocking::{Client, Queue};
use tenpin_client::{Error, Message, NewMessage, Receive};
use tenpin_protocol::ErrorCode;

use crate::common::TestBroker;

const HIDDEN: Duration = Duration::from_secs(3600);

fn at_once(max: u8) -> Receive {
    Receive::up_to(max).wait(Duration::ZERO)
}

fn clients(broker: &TestBroker, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(broker.address().to_string()).unwrap()).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What was sent, and handles of what was received and not deleted.
struct Filled {
    standard: usize,
    fifo_groups: usize,
    standard_held: Vec<Message>,
    fifo_held: Message,
    /// When the purge was asked for.
    purged: Instant,
}

fn body(queue: &str, number: usize) -> String {
    format!("{queue} {number} {}", "x".repeat(number % 700))
}

/// Several queues on all shards: messages that wait, that are in flight, that are deleted.
fn fill(broker: &TestBroker) -> Filled {
    let clients = clients(broker, 6);
    let filled_queue = |client: &Client, name: &str| client.create_queue(name).unwrap();
    let standard: Vec<Queue> = clients.iter().map(|client| filled_queue(client, "orders")).collect();
    for number in 0..300 {
        standard[number % 6].send(body("orders", number)).unwrap();
    }
    let fifo: Vec<Queue> =
        (0..5).map(|number| filled_queue(&clients[number], &format!("lane-{number}.fifo"))).collect();
    for (place, queue) in fifo.iter().enumerate() {
        for number in 0..30 {
            let message = NewMessage::new(body("lane", number))
                .group(format!("group-{}", number % 3))
                .deduplication_id(format!("{place}-{number}"));
            queue.send(message).unwrap();
        }
    }
    let purged_queue = filled_queue(&clients[0], "purged");
    purged_queue.send("gone").unwrap();
    let purged = Instant::now();
    purged_queue.purge().unwrap();
    let mut held = Vec::new();
    for queue in &standard {
        held.extend(queue.receive_with(&at_once(10).visibility_timeout(HIDDEN)).unwrap());
    }
    let deleted = held.split_off(30);
    for message in &deleted {
        standard[0].delete(message).unwrap();
    }
    let mut fifo_held = fifo[0].receive_with(&at_once(1).visibility_timeout(HIDDEN)).unwrap();
    Filled {
        standard: 300 - deleted.len(),
        fifo_groups: 3,
        standard_held: held,
        fifo_held: fifo_held.remove(0),
        purged,
    }
}

/// What a broker on the resharded folder gives out.
fn check(broker: &TestBroker, filled: &Filled, shards: u16) {
    let clients = clients(broker, 4);
    let orders = clients[0].queue("orders").unwrap();
    let mut refused = 0;
    for message in &filled.standard_held {
        match orders.delete(message) {
            Ok(()) => {}
            Err(Error::Refused(refusal)) => {
                assert!(
                    matches!(
                        refusal.code(),
                        Some(ErrorCode::ReceiptHandleIsInvalid | ErrorCode::InvalidParameterValue)
                    ),
                    "{refusal}"
                );
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    if shards > 3 {
        assert_eq!(refused, 0, "what has stayed is found by its handle");
    }
    let left = filled.standard - filled.standard_held.len();
    let mut received = Vec::new();
    while received.len() < left {
        let messages = orders.receive_with(&Receive::up_to(10).wait(Duration::from_secs(10))).unwrap();
        assert!(!messages.is_empty(), "{} of {left} came", received.len());
        for message in messages {
            orders.delete(&message).unwrap();
            received.push(message.text().unwrap().to_owned());
        }
    }
    received.sort();
    received.dedup();
    assert_eq!(received.len(), left, "each once");
    for place in 0..5 {
        let queue = clients[place % 4].queue(format!("lane-{place}.fifo")).unwrap();
        let again = NewMessage::new("another body").group("group-0").deduplication_id(format!("{place}-0"));
        queue.send(again).unwrap();
        let mut next = vec![0; filled.fifo_groups];
        if place == 0 {
            // Its group is locked by what is in flight, handle or not.
            next[0] = usize::MAX;
            let held = &filled.fifo_held;
            assert_eq!(held.text().unwrap(), body("lane", 0));
        }
        let wanted: usize = if place == 0 { 20 } else { 30 };
        let mut count = 0;
        while count < wanted {
            let messages = queue.receive_with(&Receive::up_to(10).wait(Duration::from_secs(10))).unwrap();
            assert!(!messages.is_empty(), "{count} of {wanted} came from lane {place}");
            for message in messages {
                let text = message.text().unwrap();
                let number: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
                assert_eq!(next[number % 3], number / 3, "in the order of the group");
                next[number % 3] += 1;
                count += 1;
                queue.delete(&message).unwrap();
            }
        }
        let more = queue.receive_with(&at_once(10)).unwrap();
        assert!(more.is_empty(), "a duplicate is one still");
    }
    let purged = clients[0].queue("purged").unwrap();
    assert!(purged.receive_with(&at_once(10)).unwrap().is_empty());
    // The work may take longer than that on a busy machine, and our clock is not quite the broker's.
    let is_refused = purged.purge().is_err();
    let is_over = filled.purged.elapsed() >= Duration::from_secs(59);
    assert!(is_refused || is_over, "the minute of the last purge is not over");
}

/// Kills the work at every step, each time on a copy; the last one goes through.
fn reshard_is_whole_at_every_step(shards: u16) {
    let config = "minute_rules = true\nshards = 3\n";
    let mut broker = TestBroker::start("fsync", config);
    let filled = fill(&broker);
    broker.stop();
    let data = broker.folder().join("data");
    let before = contents(&data).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (mut steps, mut old, mut new) = (0, 0, 0);
    loop {
        let copy = scratch.path().join(format!("copy-{steps}"));
        copy_folder(&data, &copy);
        let mut left = steps;
        let result = reshard_in_steps(&copy, shards, &mut |_| {}, &mut |_| match left {
            0 => Err(Failure::new(ExitReason::Unexpected, "killed")),
            _ => {
                left -= 1;
                Ok(())
            }
        });
        let after = contents(&copy).unwrap();
        assert_eq!(after.messages, before.messages, "after {steps} steps");
        match after.shards {
            3 => old += 1,
            _ => {
                assert_eq!(after.shards, shards);
                new += 1;
            }
        }
        if result.is_ok() {
            assert_eq!(after.shards, shards);
            std::fs::remove_dir_all(&data).unwrap();
            copy_folder(&copy, &data);
            break;
        }
        // Whoever tries again succeeds, whatever the last one has left.
        if steps % 5 == 2 && after.shards == 3 {
            reshard(&copy, shards, &mut |_| {}).unwrap();
            assert_eq!(contents(&copy).unwrap().messages, before.messages);
        }
        std::fs::remove_dir_all(&copy).unwrap();
        steps += 1;
    }
    assert!(old > 10 && new >= 2, "{old} times the old ones, {new} times the new ones");
    let mut names: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["distribution-1", "folder.toml", "lock", "served"]);
    broker.start_again(&format!("shards = {shards}\n"));
    check(&broker, &filled, shards);
    broker.stop();
}

#[test]
fn more_shards() {
    reshard_is_whole_at_every_step(5);
}

#[test]
fn fewer_shards() {
    reshard_is_whole_at_every_step(2);
}

#[test]
fn one_shard_and_back() {
    let mut broker = TestBroker::start("fsync", "shards = 3\n");
    let filled = fill(&broker);
    broker.stop();
    let data = broker.folder().join("data");
    let before = contents(&data).unwrap();
    for shards in [1, 4, 3] {
        reshard(&data, shards, &mut |_| {}).unwrap();
        let after = contents(&data).unwrap();
        assert_eq!((after.shards, &after.messages), (shards, &before.messages));
    }
    broker.start_again("shards = 3\n");
    check(&broker, &filled, 3);
    broker.stop();
}

#[test]
fn a_broker_that_runs_keeps_its_shards() {
    let broker = TestBroker::start("fsync", "shards = 2\n");
    let data = broker.folder().join("data");
    let failure = reshard(&data, 3, &mut |_| {}).unwrap_err();
    assert_eq!(failure.reason, ExitReason::FolderLocked);
}

#[test]
fn another_number_is_refused_by_name() {
    let mut broker = TestBroker::start("fsync", "shards = 2\n");
    broker.stop();
    let printed = broker.fails_to_start("shards = 3\n");
    assert!(printed.contains("tenpin journal reshard") && printed.contains("--shards 3"), "{printed}");
    // Without a number, the folder's holds.
    broker.start_again("");
    broker.stop();
}
