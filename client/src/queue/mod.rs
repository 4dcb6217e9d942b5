//! A queue: what all that is asked of one queue goes through. What can be asked is in the modules below.

mod handled;
mod manage;
mod name;
mod receive;
mod send;

use std::sync::{Arc, RwLock};
use std::time::Instant;

use tenpin_protocol::{ANY_SHARD, BATCH_ENTRIES_MAX, ErrorCode, OwnedFrame, QueueOpened, Request};

pub use self::name::{QueueName, QueuePage};
pub use self::receive::Receive;
pub(crate) use self::send::fresh_id;
use crate::client::Client;
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::producer::ProducerBuilder;
use crate::stream::MessageStream;

/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;

/// A queue of a broker. Cloning is cheap; all methods may be called from any number of tasks at once.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let queue = client.create_queue("orders").await?;
/// queue.send("a first order").await?;
/// for message in queue.receive().await? {
///     println!("{}", message.text()?);
///     queue.delete(&message).await?;
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    name: QueueName,
    opened: RwLock<QueueOpened>,
    /// Whether a FIFO queue takes bodies for deduplication ids, and when it said so.
    content_based: RwLock<Option<(Instant, bool)>>,
}

impl Queue {
    pub(crate) fn new(client: Client, name: QueueName, opened: QueueOpened) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                name,
                opened: RwLock::new(opened),
                content_based: RwLock::default(),
            }),
        }
    }

    /// Its name, as it was opened.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// assert_eq!(queue.name().name(), "orders");
    /// # Ok(()) });
    /// ```
    pub fn name(&self) -> &QueueName {
        &self.inner.name
    }

    /// The client that it belongs to.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.client().create_queue("beside-it").await?;
    /// # Ok(()) });
    /// ```
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Whether it is a FIFO queue.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// assert!(!queue.is_fifo());
    /// # Ok(()) });
    /// ```
    pub fn is_fifo(&self) -> bool {
        self.opened().fifo != 0
    }

    fn opened(&self) -> QueueOpened {
        *self.inner.opened.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A producer, which sends single messages in batches.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// for number in 0..100 {
    ///     producer.enqueue(format!("order {number}")).await?;
    /// }
    /// producer.close().await?;
    /// # Ok(()) });
    /// ```
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// A consumer, which runs a handler for each message.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// // It stops at once; a program would give `tokio::signal::ctrl_c()`.
    /// let stop = std::future::ready(());
    /// queue.consumer().run_until(stop, |message| async move { println!("{message:?}") }).await?;
    /// # Ok(()) });
    /// ```
    pub fn consumer(&self) -> Consumer {
        Consumer::new(self.clone())
    }

    /// A stream of messages, received ahead.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// queue.stream().next().await?.delete();
    /// # Ok(()) });
    /// ```
    pub fn stream(&self) -> MessageStream {
        MessageStream::new(self.clone())
    }

    /// Its number, as long as it is not deleted.
    pub(crate) fn number(&self) -> u64 {
        self.opened().queue
    }

    pub(crate) async fn call_any<'a>(&self, request: impl Fn(u64) -> Request<'a>) -> Result<OwnedFrame> {
        self.call(|opened| (ANY_SHARD, request(opened.queue))).await
    }

    /// Makes a request of this queue. Its number is an old one where the queue was deleted and made
    /// again: then the name is opened anew, once.
    async fn call<'a>(&self, request: impl Fn(&QueueOpened) -> (u16, Request<'a>)) -> Result<OwnedFrame> {
        let before = self.opened();
        let (shard, first) = request(&before);
        let error = match self.inner.client.call(shard, &first).await {
            Err(error) if error.code() == Some(ErrorCode::QueueDoesNotExist) => error,
            result => return result,
        };
        let opened = self.inner.client.open(&self.inner.name).await?;
        if opened.queue == before.queue {
            return Err(error);
        }
        *self.inner.opened.write().unwrap_or_else(std::sync::PoisonError::into_inner) = opened;
        let (shard, second) = request(&opened);
        self.inner.client.call(shard, &second).await
    }
}

fn check_batch(entries: usize) -> Result<()> {
    if (1..=BATCH_MAX).contains(&entries) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a batch has 1 to {BATCH_MAX} entries, this one has {entries}; split it")))
}
