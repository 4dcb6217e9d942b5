//! Times as long as a duration goes.

use std::time::Duration;

use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, NewMessage, Receive};

#[tokio::test]
async fn who_waits_for_ever_may_say_so() {
    let broker = Broker::in_memory().expect("a broker starts");
    let options = Client::builder(broker.address().to_string())
        .connect_timeout(Duration::MAX)
        .request_timeout(Duration::MAX);
    let client = options.connect().await.expect("it answers");
    let queue = client.create_queue("orders").await.expect("a new queue");
    let producer = queue.producer().send_timeout(Duration::MAX).start();
    producer.send("a first order").await.expect("it is stored");
    let asked = Receive::default().wait(Duration::from_secs(20));
    assert_eq!(queue.receive_with(&asked).await.expect("it answers").len(), 1);
    let never = queue.send(NewMessage::new("a last order").delay(Duration::MAX)).await;
    assert!(never.is_err(), "it would be there at once: {never:?}");
}
