//! What can go wrong, told apart by what a caller can do about it.

use std::fmt;
use std::io;
use std::time::Duration;

use tenpin_protocol::{ErrorCode, Operation};

/// The broker's own words about what it refused.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// use tenpin_client::{Error, Refusal};
/// let error = client.queue("not-there").await.expect_err("nobody has made it");
/// let Error::Refused(refusal) = error else { panic!("{error}") };
/// println!("the broker says: {refusal}");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: Option<ErrorCode>,
    number: u16,
    text: Box<str>,
}

impl Refusal {
    pub(crate) fn new(number: u16, text: Option<&str>) -> Self {
        let code = ErrorCode::from_number(number);
        let text = text.filter(|text| !text.is_empty()).or(code.map(ErrorCode::text)).unwrap_or_default();
        Self { code, number, text: text.into() }
    }

    /// The code, where this version of the library knows it.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_refusal(|refusal| {
    /// assert_eq!(refusal.code(), Some(tenpin_client::ErrorCode::QueueDoesNotExist));
    /// # });
    /// ```
    pub fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// The code's number on the wire.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_refusal(|refusal| {
    /// assert_eq!(refusal.number(), tenpin_client::ErrorCode::QueueDoesNotExist.number());
    /// # });
    /// ```
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What the broker said.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_refusal(|refusal| {
    /// assert_eq!(refusal.text(), "The specified queue does not exist.");
    /// # });
    /// ```
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the same request may succeed later without anybody changing it.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_refusal(|refusal| {
    /// assert!(!refusal.is_retryable(), "somebody has to make the queue");
    /// # });
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code,
            Some(
                ErrorCode::ShuttingDown
                    | ErrorCode::TooManyRequests
                    | ErrorCode::TooManyConnections
                    | ErrorCode::RequestThrottled
                    | ErrorCode::KeepAliveTimeout
                    | ErrorCode::HandshakeTimeout
                    | ErrorCode::SlowReader
                    | ErrorCode::StorageFull
                    | ErrorCode::OverLimit
                    | ErrorCode::QueueDeletedRecently
                    | ErrorCode::PurgeQueueInProgress
            )
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(formatter, "{}: {}", code.name(), self.text),
            None => write!(formatter, "error {}: {}", self.number, self.text),
        }
    }
}

/// Why a request has no answer that its caller could use.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// use tenpin_client::Error;
/// match client.queue("not-there").await {
///     Ok(_) => println!("it is there"),
///     Err(error) if error.is_retryable() => println!("later, perhaps: {error}"),
///     Err(Error::Refused(refusal)) => println!("the broker does not: {refusal}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made within the time for it.
    Connect {
        /// Where to.
        address: String,
        /// What the last attempt met.
        reason: String,
    },
    /// The connection ended before the answer came. Whether the broker did what was asked is not known.
    Disconnected {
        /// What ended it.
        reason: String,
    },
    /// The answer did not come in time. Whether the broker did what was asked is not known.
    TimedOut {
        /// What was asked.
        operation: Operation,
        /// For how long it was waited.
        after: Duration,
    },
    /// The broker refused it.
    Refused(Refusal),
    /// The library refused it before it was sent: what is wrong, and what to do.
    Invalid(String),
    /// The broker said something that this version of the library does not understand.
    Protocol(String),
    /// The client was closed.
    Closed,
}

impl Error {
    /// Whether the same call may succeed if it is made again. What is not retryable stays refused until
    /// somebody changes the request, the queue or the broker.
    ///
    /// ```
    /// use tenpin_client::Error;
    /// assert!(Error::Disconnected { reason: "the cable is out".into() }.is_retryable());
    /// assert!(!Error::Closed.is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Invalid(_) | Self::Protocol(_) | Self::Closed => false,
        }
    }

    /// The broker's code, where the broker refused it.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::ErrorCode;
    /// let error = client.queue("not-there").await.expect_err("nobody has made it");
    /// assert_eq!(error.code(), Some(ErrorCode::QueueDoesNotExist));
    /// # Ok(()) });
    /// ```
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refusal) => refusal.code(),
            _ => None,
        }
    }

    pub(crate) fn connect(address: &str, error: &io::Error) -> Self {
        Self::Connect { address: address.to_owned(), reason: error.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, reason } => {
                write!(formatter, "no connection to {address}: {reason}; is a broker listening there?")
            }
            Self::Disconnected { reason } => write!(formatter, "the connection ended: {reason}"),
            Self::TimedOut { operation, after } => {
                write!(formatter, "no answer to {} within {:.1} s", operation.name(), after.as_secs_f64())
            }
            Self::Refused(refusal) => fmt::Display::fmt(refusal, formatter),
            Self::Invalid(text) => formatter.write_str(text),
            Self::Protocol(text) => write!(formatter, "the broker broke the protocol: {text}"),
            Self::Closed => formatter.write_str("the client was closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What calls of this library give.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// async fn order(queue: &tenpin_client::Queue) -> tenpin_client::Result<()> {
///     queue.send("a first order").await.map(drop)
/// }
/// order(&queue).await?;
/// # Ok(()) });
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;
