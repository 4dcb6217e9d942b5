//! A client that outlives the runtime on which it was made.

use std::time::Duration;

use tenpin_broker::embedded::Broker;
use tenpin_client::Client;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_connection_ends_with_its_runtime_and_is_made_again_on_another() {
    let broker = Broker::in_memory().expect("a broker starts");
    let first = runtime();
    let queue = first.block_on(async {
        let options = Client::builder(broker.address().to_string()).request_timeout(Duration::from_secs(5));
        let client = options.connect().await.expect("it answers");
        client.create_queue("orders").await.expect("a new queue")
    });
    drop(first);
    runtime().block_on(queue.send("a first order")).expect("it is stored");
}

#[test]
fn an_attempt_to_connect_that_ended_with_its_runtime_is_made_again() {
    let broker = Broker::in_memory().expect("a broker starts");
    let first = runtime();
    let queue = first.block_on(async {
        let client = Client::connect(broker.address().to_string()).await.expect("it answers");
        client.create_queue("orders").await.expect("a new queue")
    });
    drop(first);
    // This one begins to connect, and is gone before anything can come of it.
    let second = runtime();
    second.block_on(async {
        let mut sending = std::pin::pin!(queue.send("not sent"));
        std::future::poll_fn(|context| {
            assert!(sending.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    drop(second);
    runtime().block_on(queue.send("a first order")).expect("it is stored");
}
