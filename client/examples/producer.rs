//! Many sends at once, in batches that the library makes.
//!
//! `cargo run --example producer -p tenpin-client -- [ADDRESS] [MESSAGES]`

use tenpin_client::{Client, NewMessage, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7010".into());
    let messages = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_u32);
    let queue = Client::connect(address).await?.create_queue("work").await?;
    let producer = queue.producer().start();
    let mut sending = Vec::new();
    for number in 0..messages {
        let message =
            NewMessage::new(format!("piece of work {number}")).attribute("number", i64::from(number));
        // Waits only where the producer holds as much as it may.
        sending.push(producer.enqueue(message).await?);
    }
    for (number, send) in sending.into_iter().enumerate() {
        // Each message has a result of its own: stored, or refused with the broker's words.
        if let Err(error) = send.await {
            eprintln!("piece {number}: {error}");
        }
    }
    println!("{} wait for a worker", queue.stats().await?.visible());
    Ok(())
}
