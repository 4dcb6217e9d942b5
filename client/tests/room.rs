//! A producer whose buffer is full: who waits for room and leaves takes none with them.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, Producer, Queue};

/// Two of these fill a producer that holds 2 MiB.
fn large() -> Vec<u8> {
    vec![b'x'; 1_000_000]
}

async fn full_producer(broker: &Broker) -> (Queue, Producer) {
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    let queue = client.create_queue("orders").await.expect("a new queue");
    let producer = queue.producer().buffered_bytes_max(2 << 20).start();
    for _ in 0..2 {
        // Nothing is sent before this task waits for something.
        drop(producer.enqueue(large()).await.expect("there is room"));
    }
    (queue, producer)
}

/// Waits for what would never come, were room lost.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("no room is lost")
}

async fn looks_once<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut future = future;
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn who_stops_waiting_for_room_holds_nobody_up() {
    let broker = Broker::in_memory().expect("a broker starts");
    let (queue, producer) = full_producer(&broker).await;
    {
        let mut third = pin!(producer.enqueue(large()));
        assert!(!looks_once(third.as_mut()).await, "there is no room");
    }
    drop(producer.enqueue("a fourth").await.expect("there is room"));
    in_time(producer.close()).await.expect("all are sent");
    assert_eq!(queue.stats().await.expect("it counts").visible(), 3, "the third was never handed over");
}

#[tokio::test]
async fn room_that_was_given_and_not_taken_is_given_on() {
    let broker = Broker::in_memory().expect("a broker starts");
    let (queue, producer) = full_producer(&broker).await;
    {
        let mut third = pin!(producer.enqueue(large()));
        assert!(!looks_once(third.as_mut()).await, "there is no room");
        // Both are stored, and so the third has its room, but it does not look.
        while queue.stats().await.expect("it counts").visible() < 2 {}
    }
    in_time(producer.flush()).await.expect("all room is there");
    in_time(producer.clone().close()).await.expect("nothing is under way");
    assert!(producer.enqueue("too late").await.is_err(), "it is closed for all clones");
}
