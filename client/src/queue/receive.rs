//! Receiving messages.

use std::time::Duration;

use tenpin_protocol::{Operation, QUEUE_DEFAULT, QueueOpened, ReceiveRequest, Request, Response};

use super::{BATCH_MAX, Queue};
use crate::client::response;
use crate::connection::unexpected;
use crate::error::Result;
use crate::message::Message;

/// What a receive asks for.
///
/// ```
/// use std::time::{Duration, Instant};
/// let asked = tenpin_client::Receive::up_to(10).wait(Duration::from_secs(20));
/// ```
#[derive(Debug, Clone)]
pub struct Receive {
    max: u8,
    wait_ms: u32,
    visibility_seconds: u32,
    attempt_id: Option<String>,
}

impl Receive {
    /// Up to so many messages: 1 to 10.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()]).await?;
    /// assert_eq!(queue.receive_with(&tenpin_client::Receive::up_to(1)).await?.len(), 1);
    /// # Ok(()) });
    /// ```
    pub fn up_to(max: u8) -> Self {
        Self { max, wait_ms: QUEUE_DEFAULT, visibility_seconds: QUEUE_DEFAULT, attempt_id: None }
    }

    /// How long to wait for a first message: up to 20 s; as the queue says where it is not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let asked = tenpin_client::Receive::default().wait(Duration::from_millis(10));
    /// assert!(queue.receive_with(&asked).await?.is_empty(), "nothing came in time");
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(QUEUE_DEFAULT - 1);
        self
    }

    /// For how long what is received is hidden, in whole seconds: up to 12 hours; as the queue says
    /// where it is not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("a long task").await?;
    /// let asked = tenpin_client::Receive::up_to(1).visibility_timeout(Duration::from_secs(600));
    /// for message in queue.receive_with(&asked).await? {
    ///     println!("ten minutes for {}", message.text()?);
    /// }
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_seconds = u32::try_from(timeout.as_secs()).unwrap_or(QUEUE_DEFAULT - 1);
        self
    }

    /// On FIFO queues: a receive with the same id within five minutes gives the same messages again.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// steps.send(tenpin_client::NewMessage::new("a step").group("a")).await?;
    /// let asked = tenpin_client::Receive::up_to(10).attempt_id("attempt-1");
    /// let (first, again) = (steps.receive_with(&asked).await?, steps.receive_with(&asked).await?);
    /// assert_eq!(first[0].id(), again[0].id());
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn attempt_id(mut self, id: impl Into<String>) -> Self {
        self.attempt_id = Some(id.into());
        self
    }
}

impl Default for Receive {
    fn default() -> Self {
        Self::up_to(BATCH_MAX as u8)
    }
}

impl Queue {
    /// Receives up to 10 messages, waiting as long as the queue says.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// for message in queue.receive().await? {
    ///     println!("{}", message.text()?);
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn receive(&self) -> Result<Vec<Message>> {
        self.receive_with(&Receive::default()).await
    }

    /// Receives messages. Dropping the future lets go: what the broker gives out for it is made visible
    /// for others again.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let asked = tenpin_client::Receive::up_to(1).wait(Duration::from_secs(20));
    /// assert_eq!(queue.receive_with(&asked).await?.len(), 1);
    /// # Ok(()) });
    /// ```
    pub async fn receive_with(&self, asked: &Receive) -> Result<Vec<Message>> {
        let request = |opened: &QueueOpened| {
            let request = ReceiveRequest {
                wait_ms: asked.wait_ms,
                visibility_seconds: asked.visibility_seconds,
                attempt_id: asked.attempt_id.as_deref(),
                ..ReceiveRequest::new(opened.queue, asked.max)
            };
            (opened.shard, Request::Receive(request))
        };
        let frame = self.call(request).await?;
        let Response::Receive(reply) = response(&frame)? else { return Err(unexpected(Operation::Receive)) };
        Ok(reply.messages.iter().map(|message| Message::from_wire(&message, &frame)).collect())
    }
}
