//! How a client is set up.

use std::time::Duration;

use crate::client::Client;
use crate::error::Result;

/// What a client is made from; [`Client::builder`] begins one.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tenpin_client::Result<()> {
/// use std::time::Duration;
/// let client = tenpin_client::Client::builder("127.0.0.1:7010")
///     .request_timeout(Duration::from_secs(5))
///     .connect()
///     .await?;
/// # Ok(()) }
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
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// The region of queues that are named without one. The broker's own default where it is not set.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// How long to try to make a connection, with all attempts (5 s).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take with all its repetitions (30 s); a long poll has its wait on top.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Whether requests are made again when their connection breaks (they are). A send that is repeated
    /// on a standard queue may be stored twice, as at-least-once delivery allows; on a FIFO queue its
    /// deduplication id prevents that.
    #[must_use]
    pub fn retries(mut self, retries: bool) -> Self {
        self.retries = retries;
        self
    }

    /// Requests under way on one connection (1,024); further ones wait for their turn.
    #[must_use]
    pub fn requests_in_flight_max(mut self, requests: usize) -> Self {
        self.requests_in_flight_max = requests.max(1);
        self
    }

    /// Connects, so that a wrong address is known at once.
    pub async fn connect(self) -> Result<Client> {
        Client::connect_with(self).await
    }
}
