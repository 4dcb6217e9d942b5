//! How a client is set up.

use std::time::Duration;

use crate::client::Client;
use crate::error::Result;

/// What a client is made from; [`Client::builder`] begins one.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_address(async |address| {
/// use std::time::Duration;
/// let client = tenpin_client::Client::builder(address)
///     .request_timeout(Duration::from_secs(5))
///     .connect()
///     .await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    pub(crate) address: String,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retries: bool,
    pub(crate) requests_in_flight_max: usize,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

impl ClientBuilder {
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            account: String::new(),
            region: String::new(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retries: true,
            requests_in_flight_max: 1_024,
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
        }
    }

    /// The account of queues that are named without one: twelve digits. The broker's own default
    /// where it is not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::builder(address).account("123456789012").connect().await?;
    /// client.create_queue("orders").await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// The region of queues that are named without one. The broker's own default where it is not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::builder(address).region("eu-central-1").connect().await?;
    /// client.create_queue("orders").await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// How long an attempt to make a connection may take, until the broker has said hello (5 s). Requests make
    /// further attempts while they have time; [`ClientBuilder::connect`] makes one.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::with_address(async |address| {
    /// let options = tenpin_client::Client::builder(address).connect_timeout(Duration::from_secs(1));
    /// options.connect().await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take with all its repetitions (30 s); a long poll has its wait on top.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::with_address(async |address| {
    /// let options = tenpin_client::Client::builder(address).request_timeout(Duration::from_secs(5));
    /// options.connect().await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Whether requests are made again when their connection breaks (they are). A send that is repeated
    /// on a standard queue may be stored twice, as at-least-once delivery allows; on a FIFO queue its
    /// deduplication id prevents that.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let client = tenpin_client::Client::builder(address).retries(false).connect().await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: bool) -> Self {
        self.retries = retries;
        self
    }

    /// Requests under way on one connection (1,024); further ones wait for their turn.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_address(async |address| {
    /// let options = tenpin_client::Client::builder(address).requests_in_flight_max(64);
    /// options.connect().await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn requests_in_flight_max(mut self, requests: usize) -> Self {
        self.requests_in_flight_max = requests.max(1);
        self
    }

    /// Connects, so that a wrong address is known at once.
    ///
    /// ```
    /// let nowhere = tenpin_client::Client::builder("127.0.0.1:1").connect();
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// let error = nowhere.await.expect_err("nobody listens there");
    /// assert!(error.is_retryable());
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(self) -> Result<Client> {
        Client::connect_with(self).await
    }
}
