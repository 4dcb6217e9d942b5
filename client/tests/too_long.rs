//! What is too long for the protocol is refused by itself: neither those who send at the same time nor their
//! connection suffer from it.

use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, Error, NewMessage, ReceiptHandle};

/// Longer than a length of 16 bits can say.
fn long() -> String {
    "x".repeat(70_000)
}

#[tokio::test]
async fn a_message_that_cannot_be_written_is_refused_and_its_producer_goes_on() {
    let broker = Broker::in_memory().expect("a broker starts");
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    let queue = client.create_queue("orders").await.expect("a new queue");
    let producer = queue.producer().start();
    let message = || NewMessage::new("odd").attribute(long(), "value");
    let one = producer.enqueue("one").await.expect("there is room");
    assert!(matches!(producer.send(message()).await, Err(Error::Invalid(_))));
    one.await.expect("it is stored");
    producer.send("two").await.expect("it is stored");
    assert!(matches!(queue.send(message()).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_message_that_no_frame_has_room_for_is_refused_before_it_is_in_a_batch_with_others() {
    let broker = Broker::in_memory().expect("a broker starts");
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    let producer = client.create_queue("orders").await.expect("a new queue").producer().start();
    let long = || "x".repeat(5 << 20);
    let one = producer.enqueue("one").await.expect("there is room");
    let traced = producer.enqueue(NewMessage::new("odd").trace_header(long())).await;
    let grouped = producer.enqueue(NewMessage::new("odd").group(long())).await;
    let mut many = NewMessage::new("odd");
    for number in 0..5_000 {
        many = many.attribute(number.to_string(), "");
    }
    let many = producer.enqueue(many).await;
    let two = producer.enqueue("two").await.expect("there is room");
    for odd in [traced, grouped, many] {
        assert!(matches!(odd, Err(Error::Invalid(_))), "{odd:?}");
    }
    one.await.expect("it is stored");
    two.await.expect("it is stored");
}

#[tokio::test]
async fn a_request_that_cannot_be_written_leaves_its_connection_as_it_was() {
    let broker = Broker::in_memory().expect("a broker starts");
    // Where the connection broke, the others would fail.
    let client =
        Client::builder(broker.address().to_string()).retries(false).connect().await.expect("it answers");
    let queue = client.create_queue("orders").await.expect("a new queue");
    let handle = ReceiptHandle::from_bytes(long());
    let (named, deleted, sent, stored) = tokio::join!(
        client.queue(long()),
        queue.delete_handle(&handle),
        queue.send(NewMessage::new("odd").trace_header("x".repeat(5 << 20))),
        queue.send("a first order"),
    );
    assert!(matches!(named, Err(Error::Invalid(_))), "{named:?}");
    assert!(matches!(deleted, Err(Error::Invalid(_))), "{deleted:?}");
    assert!(matches!(sent, Err(Error::Invalid(_))), "{sent:?}");
    stored.expect("it is stored");
}
