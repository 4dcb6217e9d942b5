//! A first message: makes a queue, sends to it, receives from it, deletes.
//!
//! Start a broker with `cargo run --release --bin tenpin`, then
//! `cargo run --example hello -p tenpin-client`.

use tenpin_client::{Client, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7010".into());
    let client = Client::connect(address).await?;
    let queue = client.create_queue("hello").await?;
    let sent = queue.send("Hello, pins!").await?;
    println!("sent {}", sent.id);
    for message in queue.receive().await? {
        println!("received {}: {}", message.id(), message.text().unwrap_or("(not text)"));
        queue.delete(&message).await?;
    }
    Ok(())
}
