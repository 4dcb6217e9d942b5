//! A worker: a handler for each message, some at once, until Ctrl-C.
//!
//! `cargo run --example worker -p tenpin-client -- [ADDRESS]`, beside the example `producer`.

use std::time::Duration;

use tenpin_client::{Client, Message, OnError, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7010".into());
    let queue = Client::connect(address).await?.create_queue("work").await?;
    println!("working; Ctrl-C stops after what is begun");
    queue
        .consumer()
        .concurrency(8)
        // What fails comes back after a second, then after two, four …, at most after ten minutes.
        .on_error(OnError::BackOff { first: Duration::from_secs(1), max: Duration::from_secs(600) })
        .run_until(tokio::signal::ctrl_c(), handle)
        .await?;
    println!("stopped: what was done is deleted, what was not begun is visible again");
    Ok(())
}

/// An error leaves the message in the queue; `Ok` deletes it.
async fn handle(message: Message) -> Result<(), std::str::Utf8Error> {
    println!("{} (received {} times)", message.text()?, message.receive_count());
    Ok(())
}
