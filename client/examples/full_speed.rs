//! How much processor time a producer and a consumer at full speed spend on a message.
//!
//! `cargo run --release --example full_speed -p tenpin-client -- ADDRESS MESSAGES TASKS`

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
        let (elapsed, cpu) = (began.elapsed(), cpu_time() - cpu);
        println!(
            "{what}: {:.0} messages/s, {:.3} µs of CPU a message",
            messages as f64 / elapsed.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / messages as f64
        );
    }
    Ok(())
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
        let handles: Vec<_> = received.iter().map(|message| message.handle().clone()).collect();
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
