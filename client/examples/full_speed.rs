//! How much processor time a producer and a consumer at full speed spend on a message.
//!
//! `cargo run --release --example full_speed -p tenpin-client -- ADDRESS MESSAGES TASKS`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenpin_client::{Client, NewMessage, Queue, Receive, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7010".into());
    let messages = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000_u64);
    let tasks = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(16_u64);
    let client = Client::connect(address).await?;
    let queue = client.create_queue("full-speed").await?;
    for (what, send) in [("send", true), ("receive and delete", false)] {
        let (began, cpu) = (Instant::now(), cpu_time());
        let running: Vec<_> =
            (0..tasks).map(|_| tokio::spawn(work(queue.clone(), messages / tasks, send))).collect();
        for task in running {
            task.await.expect("tasks do not panic")?;
        }
        report(what, messages, began, cpu);
    }
    with_producer_and_consumer(&queue, messages).await
}

async fn with_producer_and_consumer(queue: &Queue, messages: u64) -> Result<()> {
    let (began, cpu) = (Instant::now(), cpu_time());
    let producer = queue.producer().start();
    for _ in 0..messages {
        // Unheeded: the flush below waits for all of them.
        drop(producer.enqueue(vec![b'x'; 64]).await?);
    }
    producer.close().await?;
    report("producer", messages, began, cpu);
    let (began, cpu) = (Instant::now(), cpu_time());
    let handled = Arc::new(AtomicU64::new(0));
    let (done, stop) = tokio::sync::oneshot::channel::<()>();
    let done = Arc::new(std::sync::Mutex::new(Some(done)));
    let handler = move |_| {
        if handled.fetch_add(1, Ordering::Relaxed) + 1 == messages {
            done.lock().expect("nothing panics under it").take();
        }
        std::future::ready(())
    };
    queue.consumer().concurrency(30).prefetch(300).run_until(stop, handler).await?;
    report("consumer", messages, began, cpu);
    Ok(())
}

fn report(what: &str, messages: u64, began: Instant, cpu_before: Duration) {
    let (elapsed, cpu) = (began.elapsed(), cpu_time() - cpu_before);
    println!(
        "{what}: {:.0} messages/s, {:.3} µs of CPU a message",
        messages as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / messages as f64
    );
}

async fn work(queue: Queue, messages: u64, send: bool) -> Result<()> {
    let batch: Vec<_> = (0..10).map(|_| NewMessage::new(vec![b'x'; 64])).collect();
    let asked = Receive::up_to(10).wait(Duration::ZERO);
    for _ in 0..messages / 10 {
        if send {
            queue.send_batch(&batch).await?;
            continue;
        }
        let received = queue.receive_with(&asked).await?;
        let handles: Vec<_> = received.iter().map(|message| message.handle()).collect();
        if !handles.is_empty() {
            queue.delete_batch(&handles).await?;
        }
    }
    Ok(())
}

/// User and system time of this process, from /proc/self/stat in its units of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
