//! The client library against real brokers: over both drivers, through restarts and kills, and with
//! futures and streams that are dropped at any time.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, TestBroker};
use tenpin_client::{
    Client, ErrorCode, NewMessage, OnError, Outcome, Queue, QueueAttributes, Receive, StatisticCode,
};

/// Runs a test's future on a runtime of its own, within bounded time.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it ends") })
}

/// The same for what is long on a busy machine: each of its requests takes bounded time by itself.
fn run_long<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A test on brokers with one shard and with several.
fn with_shards(config: &str, test: impl Fn(&TestBroker)) {
    for shards in [1, 3] {
        test(&TestBroker::start("memory", &format!("{config}shards = {shards}\n")));
    }
}

async fn client_of(broker: &TestBroker) -> Client {
    Client::builder(broker.address().to_string()).request_timeout(PATIENCE).connect().await.unwrap()
}

/// A free port outside the range from which the kernel gives out ports, so that a broker finds it free
/// again when it comes back. Each call gives another one: a port is free also while the broker of another
/// test that has it starts, or is killed.
fn port_that_nobody_is_given() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = 20_000 + std::process::id() % 5_000;
    std::iter::repeat_with(|| start + TRIED.fetch_add(1, Ordering::Relaxed))
        .take_while(|&port| port < 30_000)
        .map(|port| port as u16)
        .find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("one of thousands of ports is free")
}

/// Receives until nothing more comes, and deletes it.
async fn drain(queue: &Queue) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let messages = queue.receive_with(&Receive::up_to(10).wait(Duration::ZERO)).await.unwrap();
        if messages.is_empty() {
            return bodies;
        }
        let handles: Vec<_> = messages.iter().map(tenpin_client::Message::handle).collect();
        for result in queue.delete_batch(&handles).await.unwrap() {
            result.unwrap();
        }
        bodies.extend(messages.iter().map(|message| message.text().unwrap().to_owned()));
    }
}

#[test]
fn everything_of_a_message_arrives_over_both_drivers() {
    for (io, config) in [("epoll", ""), ("uring", ""), ("epoll", "shards = 3\n"), ("uring", "shards = 3\n")] {
        let Some(broker) = TestBroker::try_start(io, "fsync", config) else { continue };
        run(async {
            let client = client_of(&broker).await;
            let queue = client.create_queue("orders").await.unwrap();
            let message = NewMessage::new("twelve eggs").attribute("source", "web").attribute("items", 12);
            let sent = queue.send(message.trace_header("Root=1")).await.unwrap();
            let received = queue.receive().await.unwrap().pop().unwrap();
            assert_eq!(received.id(), sent.id);
            assert_eq!(received.text().unwrap(), "twelve eggs");
            assert_eq!(received.attribute("items"), Some(&b"12"[..]));
            assert_eq!(received.trace_header(), Some("Root=1"));
            assert_eq!(received.receive_count(), 1);
            queue.delete(&received).await.unwrap();
            queue.delete(&received).await.unwrap();
            let stats = queue.stats().await.unwrap();
            assert_eq!((stats.visible(), stats.in_flight(), stats.delayed()), (0, 0, 0));
        });
    }
}

#[test]
fn what_is_refused_says_so_in_the_brokers_words() {
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let error = client.queue("nowhere").await.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::QueueDoesNotExist));
            assert!(!error.is_retryable());
            let small = QueueAttributes::new().message_bytes_max(1_024);
            let queue = client.create_queue_with("small", &small).await.unwrap();
            let results = queue.send_batch(&["fits".into(), vec![b'x'; 2_000].into()]).await.unwrap();
            assert!(results[0].is_ok());
            let refused = results[1].as_ref().unwrap_err();
            assert!(refused.to_string().contains("shorter than 1024 bytes"), "{refused}");
            assert!(queue.send_batch(&[]).await.unwrap_err().to_string().contains("1 to 10"));
        });
    });
}

#[test]
fn a_queue_that_was_made_again_is_found_again() {
    with_shards("minute_rules = false\n", |broker| {
        run(async {
            let client = client_of(broker).await;
            let queue = client.create_queue("again").await.unwrap();
            queue.delete_queue().await.unwrap();
            assert_eq!(queue.send("nobody").await.unwrap_err().code(), Some(ErrorCode::QueueDoesNotExist));
            client.create_queue("again").await.unwrap();
            queue.send("somebody").await.unwrap();
            assert_eq!(drain(&queue).await, ["somebody"]);
        });
    });
}

#[test]
fn a_broker_counts_its_clients_and_what_its_log_does() {
    for config in ["", "shards = 3\n"] {
        let broker = TestBroker::start("async", config);
        run(async {
            let client = client_of(&broker).await;
            let queue = client.create_queue("counted").await.unwrap();
            let body = "x".repeat(256 << 10);
            // Until the log is cleaned, which copies at least the queue.
            let stats = loop {
                queue.send(body.clone()).await.unwrap();
                drain(&queue).await;
                let stats = client.stats().await.unwrap();
                if stats.get(StatisticCode::LogCopiedBytes) > 0 {
                    break stats;
                }
            };
            let get = |code| stats.get(code);
            assert!(get(StatisticCode::Connections) >= 1 && get(StatisticCode::LogLiveBytes) > 0);
            assert!(get(StatisticCode::LogBytes) > get(StatisticCode::LogCopiedBytes));
            assert!(get(StatisticCode::LogBytes) > get(StatisticCode::Sent) * body.len() as u64);
            assert!(get(StatisticCode::LogBatches) >= get(StatisticCode::Sent));
            assert_eq!(queue.stats().await.unwrap().get(StatisticCode::LogBytes), 0);
        });
    }
}

#[test]
fn a_receive_that_is_dropped_keeps_nothing() {
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let queue = client.create_queue("dropped").await.unwrap();
            let waiting = tokio::spawn({
                let queue = queue.clone();
                async move { queue.receive_with(&Receive::up_to(1).wait(Duration::from_secs(20))).await }
            });
            while queue.stats().await.unwrap().get(StatisticCode::Waiting) == 0 {
                tokio::task::yield_now().await;
            }
            waiting.abort();
            assert!(waiting.await.unwrap_err().is_cancelled());
            queue.send("for whoever asks").await.unwrap();
            // The broker gave it to the receive that is gone, whose connection hands it back.
            let again = queue.receive_with(&Receive::up_to(1).wait(Duration::from_secs(20))).await.unwrap();
            assert_eq!(again[0].text().unwrap(), "for whoever asks");
        });
    });
}

#[test]
fn a_stream_that_is_dropped_gives_back_what_it_has_not_given_out() {
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let queue = client.create_queue("stream").await.unwrap();
            for number in 0..10 {
                queue.send(number.to_string()).await.unwrap();
            }
            let mut stream = queue.stream();
            stream.next().await.unwrap().delete();
            let second = stream.next().await.unwrap();
            drop(second);
            stream.close().await;
            let mut left = drain(&queue).await;
            left.sort();
            assert_eq!(left, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        });
    });
}

#[test]
fn a_consumer_survives_what_handlers_do() {
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let queue = client.create_queue("handled").await.unwrap();
            for kind in ["good", "panics", "fails", "again"] {
                queue.send(kind).await.unwrap();
            }
            let (done, stop) = tokio::sync::oneshot::channel::<()>();
            let done = Mutex::new(Some(done));
            let handled = Arc::new(Mutex::new(HashSet::new()));
            let attempts = AtomicU32::new(0);
            let seen = Arc::clone(&handled);
            let handler = move |message: tenpin_client::Message| {
                let kind = message.text().unwrap().to_owned();
                let is_first = message.receive_count() == 1;
                attempts.fetch_add(1, Ordering::Relaxed);
                if !is_first || kind == "good" {
                    let mut seen = seen.lock().unwrap();
                    seen.insert(kind.clone());
                    if seen.len() == 4 {
                        done.lock().unwrap().take();
                    }
                }
                async move {
                    match kind.as_str() {
                        "panics" if is_first => panic!("as a test of the consumer"),
                        "fails" if is_first => Outcome::Failed,
                        "again" if is_first => Outcome::Retry(Duration::ZERO),
                        _ => Outcome::Delete,
                    }
                }
            };
            queue
                .consumer()
                .concurrency(2)
                .visibility_timeout(Duration::from_secs(1))
                .on_error(OnError::BackOff { first: Duration::ZERO, max: Duration::ZERO })
                .run_until(stop, handler)
                .await
                .unwrap();
            assert_eq!(handled.lock().unwrap().len(), 4);
            let stats = queue.stats().await.unwrap();
            assert_eq!(
                (stats.visible(), stats.in_flight()),
                (0, 0),
                "what was handled is deleted when it returns"
            );
        });
    });
}

#[test]
fn a_handler_that_takes_long_keeps_its_message() {
    // It is renewed when half of it is over, at the latest: for the other half a busy machine may let us wait.
    const VISIBILITY: Duration = Duration::from_secs(3);
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let queue = client.create_queue("slow").await.unwrap();
            queue.send("slow work").await.unwrap();
            let (done, stop) = tokio::sync::oneshot::channel::<()>();
            let done = Arc::new(Mutex::new(Some(done)));
            let starts = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&starts);
            let handler = move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                let done = Arc::clone(&done);
                async move {
                    // Longer than its visibility timeout: the time itself is what is tested.
                    tokio::time::sleep(VISIBILITY + Duration::from_secs(1)).await;
                    done.lock().unwrap().take();
                }
            };
            let consumer = queue.consumer().concurrency(2).visibility_timeout(VISIBILITY);
            consumer.run_until(stop, handler).await.unwrap();
            assert_eq!(starts.load(Ordering::Relaxed), 1, "nobody else was given it");
            assert_eq!(queue.stats().await.unwrap().in_flight(), 0);
        });
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load() {
    for shards in [1, 3] {
        killed_under_load("killed", shards, |body, _| NewMessage::new(body));
    }
}

/// And on a FIFO queue nothing is stored twice or out of its group's order, however often a send had to be
/// repeated.
#[test]
fn a_fifo_queue_has_everything_once_and_in_order_when_the_broker_is_killed_under_load() {
    const GROUPS: usize = 5;
    for shards in [1, 3] {
        let grouped = |body, number| NewMessage::new(body).group(format!("group-{}", number % GROUPS));
        for bodies in killed_under_load("killed.fifo", shards, grouped) {
            let mut next = [0; GROUPS];
            for body in bodies {
                let number: usize = body.rsplit(' ').next().unwrap().parse().unwrap();
                let next = &mut next[number % GROUPS];
                assert!(number >= *next, "message {number} where its group had come to {next}");
                *next = number + 1;
            }
        }
    }
}

/// Sends to a queue while the broker is killed, over each driver; gives what it has then, in the order in
/// which it came.
fn killed_under_load(
    name: &'static str,
    shards: u16,
    message: impl Fn(String, usize) -> NewMessage + Copy + Send + 'static,
) -> Vec<Vec<String>> {
    let mut drained = Vec::new();
    for io in ["epoll", "uring"] {
        let listen = format!("127.0.0.1:{}", port_that_nobody_is_given());
        let config = format!("shards = {shards}\n");
        let Some(mut broker) = TestBroker::try_start_at(&listen, io, "fsync", &config) else { continue };
        let address = broker.address().to_string();
        let sender = std::thread::spawn(move || {
            run_long(async {
                let client = Client::builder(address).request_timeout(PATIENCE).connect().await.unwrap();
                let queue = client.create_queue(name).await.unwrap();
                let producer = queue.producer().send_timeout(PATIENCE).start();
                let mut sending = Vec::new();
                for number in 0..20_000 {
                    let message = message(format!("message {number}"), number);
                    sending.push((number, producer.enqueue(message).await.unwrap()));
                }
                let mut acknowledged = HashSet::new();
                for (number, send) in sending {
                    send.await.expect("the broker comes back");
                    acknowledged.insert(format!("message {number}"));
                }
                acknowledged
            })
        });
        for stored in [500, 5_000, 12_000] {
            common::wait_until("some are stored", || {
                let mut client = broker.client();
                let Ok(queue) = client.open(name) else { return false };
                client.counts(queue).is_ok_and(|counts| counts.all() >= stored)
            });
            broker.kill_and_restart();
        }
        let acknowledged = sender.join().unwrap();
        run_long(async {
            let client = client_of(&broker).await;
            let queue = client.queue(name).await.unwrap();
            let bodies = drain(&queue).await;
            let stored: HashSet<_> = bodies.iter().cloned().collect();
            let lost = acknowledged.difference(&stored).count();
            assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
            drained.push(bodies);
        });
    }
    drained
}

#[test]
fn a_fifo_queue_keeps_each_groups_order_through_producer_and_consumer() {
    with_shards("", keeps_each_groups_order);
}

fn keeps_each_groups_order(broker: &TestBroker) {
    const GROUPS: usize = 7;
    const STEPS: usize = 60;
    run(async {
        let client = client_of(broker).await;
        let queue = client.create_queue("steps.fifo").await.unwrap();
        assert!(queue.is_fifo());
        let producer = queue.producer().start();
        let mut sending = Vec::new();
        for step in 0..STEPS {
            for group in 0..GROUPS {
                let message = NewMessage::new(step.to_string()).group(format!("group-{group}"));
                sending.push(producer.enqueue(message).await.unwrap());
            }
        }
        for send in sending {
            send.await.unwrap();
        }
        let (done, stop) = tokio::sync::oneshot::channel::<()>();
        let progress = Arc::new(Mutex::new((std::collections::HashMap::new(), Some(done))));
        let handler = move |message: tenpin_client::Message| {
            let progress = Arc::clone(&progress);
            async move {
                let (next, done) = &mut *progress.lock().unwrap();
                let step: usize = message.text().unwrap().parse().unwrap();
                let expected = next.entry(message.group().unwrap().to_owned()).or_insert(0);
                assert!(message.sequence_number().is_some());
                assert_eq!(step, *expected, "nothing overtakes, nothing comes twice");
                // One in ten is given back once, and so is what stands behind it.
                if step % 10 == 3 && message.receive_count() == 1 {
                    return Outcome::Retry(Duration::ZERO);
                }
                *expected += 1;
                if next.len() == GROUPS && next.values().all(|&next| next == STEPS) {
                    done.take();
                }
                Outcome::Delete
            }
        };
        queue.consumer().concurrency(4).run_until(stop, handler).await.unwrap();
        let stats = queue.stats().await.unwrap();
        assert_eq!((stats.visible(), stats.in_flight()), (0, 0));
    });
}

#[test]
fn bodies_are_deduplication_ids_where_the_queue_says_so() {
    with_shards("", |broker| {
        run(async {
            let client = client_of(broker).await;
            let by_content = QueueAttributes::new().content_based_deduplication(true);
            for (name, attributes, stored) in
                [("by-content.fifo", by_content, 1), ("by-id.fifo", QueueAttributes::new(), 2)]
            {
                let queue = client.create_queue_with(name, &attributes).await.unwrap();
                for _ in 0..2 {
                    queue.send(NewMessage::new("the same").group("one")).await.unwrap();
                }
                assert_eq!(queue.stats().await.unwrap().visible(), stored, "{name}");
            }
        });
    });
}
