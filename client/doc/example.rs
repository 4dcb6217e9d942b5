// What the examples in the documentation stand on, hidden in each: a broker of their own in memory, a client of
// it, and a queue. They include it, since the library itself cannot depend on the broker, which depends on it.
// `documented.rs` in tests/ sees to it that each public item has such an example.

use std::error::Error;
use std::time::Duration;

use tenpin_client::{Client, Message, NewMessage, Queue, Refusal};

/// An example that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(60);

fn broker() -> tenpin_broker::embedded::Broker {
    tenpin_broker::embedded::Broker::builder().minute_rules(false).start().expect("a broker starts")
}

/// Runs an example with a client and a queue.
pub fn run(example: impl AsyncFnOnce(Client, Queue) -> Result<(), Box<dyn Error>>) {
    let broker = broker();
    let running = async {
        let client = Client::connect(broker.address().to_string()).await?;
        let queue = client.create_queue("orders").await?;
        example(client, queue).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.expect("a runtime").block_on(async { tokio::time::timeout(TIME_MAX, running).await });
    result.expect("the example ends").expect("the example succeeds");
}

/// Runs an example that connects by itself.
pub fn with_address(example: impl AsyncFnOnce(String) -> Result<(), Box<dyn Error>>) {
    run(async |client, _| example(client.address().to_owned()).await);
}

/// Runs an example with a message that was received.
pub fn with_message(example: impl AsyncFnOnce(Queue, Message) -> Result<(), Box<dyn Error>>) {
    run(async |_, queue| {
        queue.send(NewMessage::new("twelve eggs").attribute("items", 12)).await?;
        let message = queue.receive().await?.remove(0);
        example(queue, message).await
    });
}

/// Runs an example with what the broker says about a queue that is not there.
pub fn with_refusal(example: impl FnOnce(Refusal)) {
    run(async |client, _| match client.queue("not-there").await {
        Err(tenpin_client::Error::Refused(refusal)) => Ok(example(refusal)),
        other => panic!("{other:?}"),
    });
}

/// Runs an example with the queue for another's dead letters.
pub fn with_dead_letters(example: impl AsyncFnOnce(Client, Queue, Queue) -> Result<(), Box<dyn Error>>) {
    use tenpin_client::{AttributeCode, QueueAttributes};
    run(async |client, queue| {
        let dead = client.create_queue("orders-dead").await?;
        let attributes = dead.attributes().await?;
        let arn = attributes.get_text(AttributeCode::QueueArn).expect("each queue has one");
        queue.set_attributes(&QueueAttributes::new().dead_letters(arn, 3)).await?;
        example(client, queue, dead).await
    });
}

/// Runs an example without async.
pub fn without_async(
    example: impl FnOnce(
        String,
        tenpin_client::blocking::Client,
        tenpin_client::blocking::Queue,
    ) -> Result<(), Box<dyn Error>>,
) {
    let broker = broker();
    let address = broker.address().to_string();
    let client = tenpin_client::blocking::Client::connect(&*address).expect("it answers");
    let queue = client.create_queue("orders").expect("a new queue");
    example(address, client, queue).expect("the example succeeds");
}
