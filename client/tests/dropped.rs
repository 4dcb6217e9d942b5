//! Consumers that are dropped, and handlers whose outcome is no good.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, Outcome, Queue, Receive};
use tokio::sync::Notify;

/// Longer than any test: nothing comes back by itself.
const HIDDEN: Duration = Duration::from_secs(600);

async fn queue_of(broker: &Broker) -> Queue {
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    client.create_queue("orders").await.expect("a new queue")
}

#[tokio::test]
async fn a_consumer_that_is_dropped_lets_go_of_what_it_holds_and_receives_no_more() {
    let broker = Broker::in_memory().expect("a broker starts");
    let queue = queue_of(&broker).await;
    queue.send_batch(&["one".into(), "two".into(), "three".into()]).await.expect("they are stored");
    let begun = Arc::new(Notify::new());
    let handler = {
        let begun = Arc::clone(&begun);
        move |_| {
            begun.notify_one();
            std::future::pending::<()>()
        }
    };
    tokio::select! {
        _ = queue.consumer().concurrency(1).visibility_timeout(HIDDEN).run(handler) => panic!("nothing ends it"),
        () = begun.notified() => {}
    }
    queue.send("four").await.expect("it is stored");
    let mut bodies = HashSet::new();
    while bodies.len() < 4 {
        let asked = Receive::default().wait(Duration::from_secs(20)).visibility_timeout(HIDDEN);
        let messages = queue.receive_with(&asked).await.expect("it answers");
        assert!(!messages.is_empty(), "only {bodies:?} came");
        bodies.extend(messages.iter().map(|message| message.text().expect("a text").to_owned()));
    }
}

/// What a handler gives, and what cannot be made an outcome of.
struct Odd {
    is_broken: bool,
}

impl From<Odd> for Outcome {
    fn from(odd: Odd) -> Self {
        assert!(!odd.is_broken, "as the test wants it");
        Self::Delete
    }
}

#[tokio::test]
async fn an_outcome_that_panics_costs_its_message_a_visibility_timeout_and_nothing_else() {
    let broker = Broker::in_memory().expect("a broker starts");
    let queue = queue_of(&broker).await;
    queue.send_batch(&["one".into(), "two".into()]).await.expect("they are stored");
    let is_broken = AtomicBool::new(true);
    let done = Arc::new(Notify::new());
    let handler = {
        let done = Arc::clone(&done);
        move |_| {
            let is_broken = is_broken.swap(false, Ordering::Relaxed);
            if !is_broken {
                done.notify_one();
            }
            std::future::ready(Odd { is_broken })
        }
    };
    let consumer = queue.consumer().concurrency(1).visibility_timeout(HIDDEN);
    let running = consumer.run_until(async { done.notified().await }, handler);
    let in_time = tokio::time::timeout(Duration::from_secs(60), running).await;
    in_time.expect("its only worker goes on").expect("nothing fails");
    assert_eq!(
        queue.stats().await.expect("it counts").in_flight(),
        1,
        "one is deleted, one comes back later"
    );
}
