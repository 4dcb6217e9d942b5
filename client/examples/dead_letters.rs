//! Messages that cannot be handled go to a queue of their own, and are moved back once they can.
//!
//! `cargo run --example dead_letters -p tenpin-client -- [ADDRESS]`

use std::time::Duration;

use tenpin_client::{AttributeCode, Client, MoveTaskStatus, OnError, QueueAttributes, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7010".into());
    let client = Client::connect(address).await?;
    let letters = client.create_queue("parcels-dead").await?;
    let arn = letters.attributes().await?.get_text(AttributeCode::QueueArn).unwrap_or_default().to_owned();
    let attributes = QueueAttributes::new().dead_letters(&arn, 3);
    let queue = client.create_queue_with("parcels", &attributes).await?;
    queue.send("a parcel without an address").await?;

    // A handler that fails each time; after three receives the message is a dead letter.
    let waits_for_it = async {
        while letters.stats().await.map_or(0, |stats| stats.visible()) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let at_once = OnError::BackOff { first: Duration::ZERO, max: Duration::ZERO };
    queue.consumer().on_error(at_once).run_until(waits_for_it, |_| async { Err("no address") }).await?;
    println!("it is a dead letter now");

    // The address has been found: everything goes back to where it came from.
    letters.start_move_task(None, None).await?;
    loop {
        match letters.move_tasks().await?.first() {
            Some(task) if task.status == Some(MoveTaskStatus::Running) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some(task) => break println!("{} moved back", task.moved),
            None => break,
        }
    }
    let message = queue.receive().await?.pop().expect("it has been moved back");
    println!("received again: {}", message.text().unwrap_or_default());
    queue.delete(&message).await
}
