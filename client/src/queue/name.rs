//! Names of queues, and pages of them.

use tenpin_protocol::QueuesReply;

/// A queue's name, with account and region where they are not the client's.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// use tenpin_client::QueueName;
/// client.create_queue(QueueName::full("123456789012", "eu-central-1", "orders")).await?;
/// client.create_queue("invoices").await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    account: Option<Box<str>>,
    region: Option<Box<str>>,
    name: Box<str>,
}

impl QueueName {
    /// A name with an account and a region of its own.
    ///
    /// ```
    /// let name = tenpin_client::QueueName::full("123456789012", "eu-central-1", "orders");
    /// assert_eq!(name.name(), "orders");
    /// ```
    pub fn full(account: &str, region: &str, name: &str) -> Self {
        Self { account: Some(account.into()), region: Some(region.into()), name: name.into() }
    }

    /// The account, where it is named.
    ///
    /// ```
    /// let name = tenpin_client::QueueName::full("123456789012", "eu-central-1", "orders");
    /// assert_eq!(name.account(), Some("123456789012"));
    /// ```
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The region, where it is named.
    ///
    /// ```
    /// assert_eq!(tenpin_client::QueueName::from("orders").region(), None);
    /// ```
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The name itself.
    ///
    /// ```
    /// assert_eq!(tenpin_client::QueueName::from("orders").name(), "orders");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the name of a FIFO queue.
    ///
    /// ```
    /// assert!(tenpin_client::QueueName::from("steps.fifo").is_fifo());
    /// ```
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

impl From<&str> for QueueName {
    fn from(name: &str) -> Self {
        Self { account: None, region: None, name: name.into() }
    }
}

impl From<String> for QueueName {
    fn from(name: String) -> Self {
        Self { account: None, region: None, name: name.into() }
    }
}

/// A page of a list of queues.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let page = client.list_queues("", None).await?;
/// assert_eq!(page.names[0].name(), "orders");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePage {
    /// The queues' names, in order.
    pub names: Vec<QueueName>,
    next: Option<Box<[u8]>>,
}

impl QueuePage {
    pub(crate) fn from_wire(reply: &QueuesReply<'_>) -> Self {
        let names = reply.queues.iter().map(|name| QueueName::full(name.account, name.region, name.name));
        Self { names: names.collect(), next: reply.next.map(Box::from) }
    }

    pub(crate) fn next(&self) -> Option<&[u8]> {
        self.next.as_deref()
    }

    /// Whether there are more.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// assert!(!client.list_queues("", None).await?.has_more());
    /// # Ok(()) });
    /// ```
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}
