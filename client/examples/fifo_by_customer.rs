//! A FIFO queue with a group for each customer: strict order for each, and many customers at once.
//!
//! `cargo run --example fifo_by_customer -p tenpin-client -- [ADDRESS]`

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tenpin_client::{Client, Message, NewMessage, Result};

const CUSTOMERS: u32 = 5;
const STEPS: u32 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7010".into());
    let queue = Client::connect(address).await?.create_queue("steps.fifo").await?;
    let producer = queue.producer().start();
    let mut sending = Vec::new();
    for step in 0..STEPS {
        for customer in 0..CUSTOMERS {
            let message = NewMessage::new(step.to_string())
                .group(format!("customer-{customer}"))
                // Sent twice within five minutes, it is stored once.
                .deduplication_id(format!("{customer}-{step}-{}", std::process::id()));
            sending.push(producer.enqueue(message).await?);
        }
    }
    for send in sending {
        send.await?;
    }

    let (done, stop) = tokio::sync::oneshot::channel::<()>();
    let progress = Arc::new(Mutex::new((HashMap::<String, u32>::new(), Some(done))));
    let handler = move |message: Message| {
        let progress = Arc::clone(&progress);
        async move {
            let (seen, done) = &mut *progress.lock().expect("no handler panics");
            let customer = message.group().unwrap_or_default().to_owned();
            let step: u32 = message.text().unwrap_or_default().parse().unwrap_or_default();
            let expected = seen.entry(customer).or_default();
            assert!(step <= *expected, "a step overtook another");
            *expected = step + 1;
            if seen.len() == CUSTOMERS as usize && seen.values().all(|&next| next == STEPS) {
                done.take();
            }
        }
    };
    // Messages of one customer are handled one after the other, however many handlers there are.
    queue.consumer().concurrency(4).run_until(stop, handler).await?;
    println!("{CUSTOMERS} customers had their {STEPS} steps in order");
    Ok(())
}
