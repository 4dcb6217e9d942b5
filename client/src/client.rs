//! A client: what all queues of one broker are reached through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenpin_protocol::{
    ANY_SHARD, CreateQueueRequest, Entries, ListQueuesRequest, NO_QUEUE, OpenRequest, Operation, OwnedFrame,
    Ping, QueueOpened, Request, Response, StatsRequest,
};
use tracing::Instrument;

use crate::attributes::QueueAttributes;
use crate::connection::{unexpected, wait_of};
use crate::error::{Error, Result};
use crate::options::ClientBuilder;
use crate::pool::Pool;
use crate::queue::{Queue, QueueName, QueuePage};
use crate::retry::{Backoff, after};
use crate::stats::Stats;

/// A broker, reached over connections that are made, shared and made again as needed.
///
/// Cloning is cheap; all clones share their connections, which close when the last clone and the last
/// [`Queue`] of it are gone. Calls may be made from any number of tasks at once: requests that are made
/// together travel together.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_address(async |address| {
/// let client = tenpin_client::Client::connect(address).await?;
/// let queue = client.create_queue("orders").await?;
/// queue.send("a first order").await?;
/// for message in queue.receive().await? {
///     println!("{}", message.text().unwrap_or("not text"));
///     queue.delete(&message).await?;
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ClientBuilder,
    pool: Arc<Pool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Client {
    /// Connects to a broker with the default options.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::connect(address).await?;
    /// println!("{} shards", client.shard_count().await?);
    /// # Ok(()) });
    /// ```
    pub async fn connect(address: impl Into<String>) -> Result<Self> {
        Self::builder(address).connect().await
    }

    /// Options for a client of this broker.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::builder(address)
    ///     .connect_timeout(Duration::from_secs(1))
    ///     .request_timeout(Duration::from_secs(5))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) });
    /// ```
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(address)
    }

    pub(crate) async fn connect_with(options: ClientBuilder) -> Result<Self> {
        let pool =
            Pool::new(options.address.clone(), options.connect_timeout, options.requests_in_flight_max);
        let client = Self { inner: Arc::new(Inner { options, pool }) };
        client.inner.pool.connection(ANY_SHARD).await?;
        Ok(client)
    }

    /// The address that it was made with.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::connect(&*address).await?;
    /// assert_eq!(client.address(), address);
    /// # Ok(()) });
    /// ```
    pub fn address(&self) -> &str {
        &self.inner.options.address
    }

    /// How many shards the broker has.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// assert_eq!(client.shard_count().await?, 1);
    /// # Ok(()) });
    /// ```
    pub async fn shard_count(&self) -> Result<u16> {
        Ok(self.inner.pool.connection(ANY_SHARD).await?.agreement.shard_count)
    }

    /// Ends all connections. Calls under way and later ones fail with [`Error::Closed`].
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// client.close();
    /// assert!(matches!(queue.send("too late").await, Err(tenpin_client::Error::Closed)));
    /// # Ok(()) });
    /// ```
    pub fn close(&self) {
        self.inner.pool.close();
    }

    /// Opens a queue that exists.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::ErrorCode;
    /// client.queue("orders").await?.send("a first order").await?;
    /// let error = client.queue("not-there").await.expect_err("nobody has made it");
    /// assert_eq!(error.code(), Some(ErrorCode::QueueDoesNotExist));
    /// # Ok(()) });
    /// ```
    pub async fn queue(&self, name: impl Into<QueueName>) -> Result<Queue> {
        let name = name.into();
        let opened = self.open(&name).await?;
        Ok(Queue::new(self.clone(), name, opened))
    }

    /// Makes a queue with the default attributes, or opens the one of this name where it has them.
    /// A name that ends in `.fifo` makes a FIFO queue.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// assert!(steps.is_fifo());
    /// # Ok(()) });
    /// ```
    pub async fn create_queue(&self, name: impl Into<QueueName>) -> Result<Queue> {
        self.create_queue_with(name, &QueueAttributes::new()).await
    }

    /// Makes a queue with these attributes and tags, or opens the one of this name where none of the
    /// attributes differs.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().delay(Duration::from_secs(5));
    /// client.create_queue_with("later", &attributes).await?.send("in five seconds").await?;
    /// # Ok(()) });
    /// ```
    pub async fn create_queue_with(
        &self,
        name: impl Into<QueueName>,
        attributes: &QueueAttributes,
    ) -> Result<Queue> {
        let name = name.into();
        let list = attributes.to_wire(name.is_fifo());
        let tags = attributes.tags_to_wire();
        let (account, region) = self.account_and_region(&name);
        let request = Request::CreateQueue(CreateQueueRequest {
            account,
            region,
            name: name.name(),
            attributes: Entries::from(&list[..]),
            tags: Entries::from(&tags[..]),
        });
        let frame = self.call(ANY_SHARD, &request).await?;
        match response(&frame)? {
            Response::CreateQueue(opened) => Ok(Queue::new(self.clone(), name, opened)),
            _ => Err(unexpected(Operation::CreateQueue)),
        }
    }

    /// Lists queues whose names begin with `prefix`, in the order of their names: up to 1,000, from
    /// where the page before ended.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let mut page = client.list_queues("ord", None).await?;
    /// loop {
    ///     for name in &page.names {
    ///         println!("{}", name.name());
    ///     }
    ///     if !page.has_more() {
    ///         break;
    ///     }
    ///     page = client.list_queues("ord", Some(&page)).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn list_queues(&self, prefix: &str, after: Option<&QueuePage>) -> Result<QueuePage> {
        let request = Request::ListQueues(ListQueuesRequest {
            max: 1_000,
            account: &self.inner.options.account,
            region: &self.inner.options.region,
            prefix,
            next: after.and_then(QueuePage::next),
        });
        let frame = self.call(ANY_SHARD, &request).await?;
        match response(&frame)? {
            Response::ListQueues(reply) => Ok(QueuePage::from_wire(&reply)),
            _ => Err(unexpected(Operation::ListQueues)),
        }
    }

    /// Counters of the whole broker.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// assert_eq!(client.stats().await?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub async fn stats(&self) -> Result<Stats> {
        let request = Request::Stats(StatsRequest { queue: NO_QUEUE });
        Stats::of_answer(&self.call(ANY_SHARD, &request).await?)
    }

    /// Asks the broker for a sign of life, and says how long it took.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// println!("it answers within {:?}", client.ping().await?);
    /// # Ok(()) });
    /// ```
    pub async fn ping(&self) -> Result<Duration> {
        let began = Instant::now();
        self.call(ANY_SHARD, &Request::Ping(Ping::default())).await?;
        Ok(began.elapsed())
    }

    pub(crate) async fn open(&self, name: &QueueName) -> Result<QueueOpened> {
        let (account, region) = self.account_and_region(name);
        let request = Request::Open(OpenRequest { account, region, name: name.name() });
        let frame = self.call(ANY_SHARD, &request).await?;
        match response(&frame)? {
            Response::Open(opened) => Ok(opened),
            _ => Err(unexpected(Operation::Open)),
        }
    }

    fn account_and_region<'a>(&'a self, name: &'a QueueName) -> (&'a str, &'a str) {
        let options = &self.inner.options;
        (name.account().unwrap_or(&options.account), name.region().unwrap_or(&options.region))
    }

    /// Makes a request, again where its connection breaks and the time is not over. A span goes with it, so
    /// that what happens to its attempts is told with what was asked.
    pub(crate) async fn call(&self, shard: u16, request: &Request<'_>) -> Result<OwnedFrame> {
        let span = tracing::debug_span!("tenpin_request", operation = request.operation().name());
        self.call_until(shard, request).instrument(span).await
    }

    async fn call_until(&self, shard: u16, request: &Request<'_>) -> Result<OwnedFrame> {
        let options = &self.inner.options;
        let wait = wait_of(request);
        let time = options.request_timeout.saturating_add(wait);
        let until = after(time);
        let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
        loop {
            let attempt = self.attempt(shard, request, !wait.is_zero());
            let error = match tokio::time::timeout_at(until.into(), attempt).await {
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(error)) => error,
                Err(_) => return Err(Error::TimedOut { operation: request.operation(), after: time }),
            };
            let pause = backoff.wait();
            if !options.retries || !is_worth_repeating(&error) || Instant::now() + pause >= until {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, shard: u16, request: &Request<'_>, waits: bool) -> Result<OwnedFrame> {
        let connection = self.inner.pool.connection(shard).await?;
        connection.request(request, waits).await
    }
}

/// What may go away by itself: a broker that restarts, or that has too much to do just now.
fn is_worth_repeating(error: &Error) -> bool {
    use tenpin_protocol::ErrorCode;
    match error {
        Error::Connect { .. } | Error::Disconnected { .. } => true,
        Error::Refused(refusal) => {
            matches!(refusal.code(), Some(ErrorCode::ShuttingDown | ErrorCode::TooManyRequests))
        }
        _ => false,
    }
}

/// Reads the answer in a frame.
pub(crate) fn response(frame: &OwnedFrame) -> Result<Response<'_>> {
    frame.response().map_err(|error| Error::Protocol(error.to_string()))
}
