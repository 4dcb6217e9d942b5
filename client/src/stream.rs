//! A stream of messages, for those who want the loop themselves.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use crate::batcher::{Finished, Settler};
use crate::error::Result;
use crate::message::Message;
use crate::prefetch::{Held, Holdings};
use crate::queue::{Queue, Receive};

/// How long a receive waits for a first message.
const WAIT: Duration = Duration::from_secs(20);
/// For how long a message is hidden at a time.
const VISIBILITY: Duration = Duration::from_secs(30);

type Receiving = Pin<Box<dyn Future<Output = Result<Vec<Message>>> + Send>>;

/// Messages of a queue, received ahead by long polls; it ends never. While a message of it is held it
/// stays hidden. Dropping the stream makes what it has received ahead visible again for others.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_address(async |address| {
/// let client = tenpin_client::Client::connect(address).await?;
/// let queue = client.create_queue("orders").await?;
/// queue.send("a first order").await?;
/// let mut messages = queue.stream();
/// loop {
///     let message = messages.next().await?;
///     println!("{}", message.text().unwrap_or("not text"));
///     message.delete();
///     # break;
/// }
/// # Ok(()) });
/// ```
pub struct MessageStream {
    queue: Queue,
    ready: std::collections::VecDeque<Held>,
    receiving: Option<Receiving>,
    holdings: Arc<Holdings>,
    visibility: Duration,
    finished: Option<Finished>,
}

impl MessageStream {
    pub(crate) fn new(queue: Queue) -> Self {
        Self::hiding_for(VISIBILITY, queue)
    }

    fn hiding_for(visibility: Duration, queue: Queue) -> Self {
        let (settler, finished) = Settler::start(queue.clone());
        let holdings = Holdings::new(settler, visibility);
        // It ends with the last message that is held, which may be after the stream.
        tokio::spawn(Holdings::keep_hidden(Arc::downgrade(&holdings), visibility));
        Self {
            queue,
            ready: std::collections::VecDeque::new(),
            receiving: None,
            holdings,
            visibility,
            finished: Some(finished),
        }
    }

    /// The next message. Errors that may pass do not end the stream: ask again.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let mut messages = queue.stream();
    /// println!("{}", messages.next().await?.text()?);
    /// # Ok(()) });
    /// ```
    pub async fn next(&mut self) -> Result<StreamedMessage> {
        std::future::poll_fn(|context| self.poll_message(context)).await
    }

    /// Ends the stream, and waits until what was deleted or let go of is so at the broker. Messages of
    /// it that are still held elsewhere are waited for.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let mut messages = queue.stream();
    /// messages.next().await?.delete();
    /// messages.close().await;
    /// assert_eq!(queue.stats().await?.in_flight(), 0);
    /// # Ok(()) });
    /// ```
    pub async fn close(mut self) {
        let finished = self.finished.take();
        drop(self);
        if let Some(finished) = finished {
            finished.wait().await;
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<StreamedMessage>> {
        loop {
            if let Some(held) = self.ready.pop_front() {
                return Poll::Ready(Ok(StreamedMessage { held }));
            }
            let (queue, visibility) = (&self.queue, self.visibility);
            let receiving = self.receiving.get_or_insert_with(|| {
                let queue = queue.clone();
                Box::pin(async move {
                    queue.receive_with(&Receive::default().wait(WAIT).visibility_timeout(visibility)).await
                })
            });
            let received = ready!(receiving.as_mut().poll(context));
            self.receiving = None;
            self.ready.extend(self.holdings.hold(received?));
        }
    }
}

impl Stream for MessageStream {
    type Item = Result<StreamedMessage>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(context).map(Some)
    }
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MessageStream").field("queue", self.queue.name()).finish_non_exhaustive()
    }
}

/// A message of a stream. Dropping it makes it visible for others at once.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// queue.send("a first order").await?;
/// let mut messages = queue.stream();
/// let message = messages.next().await?;
/// println!("{} says {}", message.id(), message.text()?);
/// message.delete();
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct StreamedMessage {
    held: Held,
}

impl StreamedMessage {
    /// It is done: it is deleted, together with others.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let mut messages = queue.stream();
    /// messages.next().await?.delete();
    /// messages.close().await;
    /// # Ok(()) });
    /// ```
    pub fn delete(self) {
        self.held.delete();
    }

    /// It comes back after this time: at most 12 hours, in whole seconds.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("not now").await?;
    /// let mut messages = queue.stream();
    /// messages.next().await?.retry(Duration::from_secs(60));
    /// messages.close().await;
    /// # Ok(()) });
    /// ```
    pub fn retry(self, time: Duration) {
        self.held.hide(time);
    }

    /// It comes back when its visibility timeout has passed, or is deleted by who takes it out here.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let message = queue.stream().next().await?.into_message();
    /// queue.delete(&message).await?;
    /// # Ok(()) });
    /// ```
    pub fn into_message(self) -> Message {
        self.held.leave().expect("no handler has it")
    }
}

impl Deref for StreamedMessage {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.held.message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_stays_hidden_as_long_as_it_is_held_also_after_its_stream() {
        let broker = tenpin_broker::embedded::Broker::in_memory().expect("a broker starts");
        let client = crate::Client::connect(broker.address().to_string()).await.expect("it answers");
        let queue = client.create_queue("orders").await.expect("a new queue");
        queue.send("a first order").await.expect("it is stored");
        let mut stream = MessageStream::hiding_for(Duration::from_secs(6), queue.clone());
        let held = stream.next().await.expect("a message");
        drop(stream);
        let hidden_until = async || {
            let page = queue.peek(None, None).await.expect("a look");
            page.messages[0].until.expect("it is hidden")
        };
        let first = hidden_until().await;
        while hidden_until().await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        held.delete();
    }
}
