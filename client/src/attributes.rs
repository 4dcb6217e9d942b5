//! Attributes of queues, typed: what a queue is made with, changed to, and says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, AttributesReply, Tag};

/// A value as it is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
}

/// Attributes to make a queue with or to change it to. What is not named keeps its default, or stays
/// as it is.
///
/// ```
/// use std::time::Duration;
/// let attributes = tenpin_client::QueueAttributes::new()
///     .visibility_timeout(Duration::from_secs(60))
///     .retention(Duration::from_secs(14 * 86_400))
///     .tag("team", "billing");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueAttributes {
    values: BTreeMap<AttributeCode, Value>,
    tags: BTreeMap<String, String>,
}

/// Which messages of a FIFO queue share a memory of deduplication ids.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// use tenpin_client::{DeduplicationScope, QueueAttributes};
/// let attributes = QueueAttributes::new().deduplication_scope(DeduplicationScope::MessageGroup);
/// client.create_queue_with("steps.fifo", &attributes).await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeduplicationScope {
    /// All of the queue.
    Queue,
    /// Those of one message group.
    MessageGroup,
}

impl QueueAttributes {
    /// None yet.
    ///
    /// ```
    /// let unchanged = tenpin_client::QueueAttributes::new();
    /// assert_eq!(unchanged.iter().count(), 0);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets any attribute that is a number or a switch.
    ///
    /// ```
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// let attributes = QueueAttributes::new().number(AttributeCode::DelaySeconds, 5);
    /// assert_eq!(attributes.get_number(AttributeCode::DelaySeconds), Some(5));
    /// ```
    #[must_use]
    pub fn number(mut self, code: AttributeCode, value: u64) -> Self {
        self.values.insert(code, Value::Number(value));
        self
    }

    /// Sets any attribute that is a text; an empty one resets a policy.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// let no_policy = QueueAttributes::new().text(AttributeCode::RedrivePolicy, "");
    /// queue.set_attributes(&no_policy).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn text(mut self, code: AttributeCode, value: impl Into<String>) -> Self {
        self.values.insert(code, Value::Text(value.into()));
        self
    }

    /// For how long a received message is hidden: 0 to 12 hours, 30 s if not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().visibility_timeout(Duration::from_secs(60));
    /// queue.set_attributes(&attributes).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn visibility_timeout(self, timeout: Duration) -> Self {
        self.number(AttributeCode::VisibilityTimeout, timeout.as_secs())
    }

    /// For how long a sent message is held back: 0 to 15 minutes, 0 if not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().delay(Duration::from_secs(5));
    /// client.create_queue_with("later", &attributes).await?.send("in five seconds").await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.number(AttributeCode::DelaySeconds, delay.as_secs())
    }

    /// How long a receive waits that does not say: 0 to 20 s, 0 if not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().receive_wait(Duration::from_secs(20));
    /// queue.set_attributes(&attributes).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn receive_wait(self, wait: Duration) -> Self {
        self.number(AttributeCode::ReceiveMessageWaitTimeSeconds, wait.as_secs())
    }

    /// For how long messages are kept: 1 minute to 14 days, 4 days if not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().retention(Duration::from_secs(14 * 86_400));
    /// queue.set_attributes(&attributes).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn retention(self, period: Duration) -> Self {
        self.number(AttributeCode::MessageRetentionPeriod, period.as_secs())
    }

    /// The largest message: 1 KiB to 1 MiB, 1 MiB if not set.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().message_bytes_max(1_024);
    /// queue.set_attributes(&attributes).await?;
    /// assert!(queue.send(vec![b'x'; 1_025]).await.is_err());
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn message_bytes_max(self, bytes: u32) -> Self {
        self.number(AttributeCode::MaximumMessageSize, bytes.into())
    }

    /// Messages received more than `max_receive_count` times go to the queue with this ARN.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// let dead = client.create_queue("orders-dead").await?;
    /// let arn = dead.attributes().await?.get_text(AttributeCode::QueueArn).unwrap_or_default().to_owned();
    /// queue.set_attributes(&QueueAttributes::new().dead_letters(&arn, 3)).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn dead_letters(self, target_arn: &str, max_receive_count: u32) -> Self {
        let target = target_arn.replace(['"', '\\'], "");
        let policy = format!(r#"{{"deadLetterTargetArn":"{target}","maxReceiveCount":{max_receive_count}}}"#);
        self.text(AttributeCode::RedrivePolicy, policy)
    }

    /// Whether a FIFO queue takes the body of a message without a deduplication id for one.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().content_based_deduplication(true);
    /// let steps = client.create_queue_with("steps.fifo", &attributes).await?;
    /// let step = tenpin_client::NewMessage::new("the only step").group("a");
    /// assert_eq!(steps.send(step.clone()).await?.id, steps.send(step).await?.id);
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn content_based_deduplication(self, on: bool) -> Self {
        self.number(AttributeCode::ContentBasedDeduplication, on.into())
    }

    /// Which messages of a FIFO queue share a memory of deduplication ids.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{DeduplicationScope, QueueAttributes};
    /// let attributes = QueueAttributes::new().deduplication_scope(DeduplicationScope::Queue);
    /// client.create_queue_with("steps.fifo", &attributes).await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn deduplication_scope(self, scope: DeduplicationScope) -> Self {
        let value = match scope {
            DeduplicationScope::Queue => "queue",
            DeduplicationScope::MessageGroup => "messageGroup",
        };
        self.text(AttributeCode::DeduplicationScope, value)
    }

    /// A tag of a new queue.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let attributes = tenpin_client::QueueAttributes::new().tag("team", "billing");
    /// let tagged = client.create_queue_with("invoices", &attributes).await?;
    /// assert_eq!(tagged.tags().await?, [("team".to_owned(), "billing".to_owned())]);
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    pub(crate) fn to_wire(&self, fifo: bool) -> Vec<Attribute<'_>> {
        let given = self.values.iter().map(|(&code, value)| {
            let value = match value {
                Value::Number(number) => AttributeValue::Number(*number),
                Value::Text(text) => AttributeValue::Text(text),
            };
            Attribute::new(code, value)
        });
        let mut list: Vec<_> = given.collect();
        if fifo && !self.values.contains_key(&AttributeCode::FifoQueue) {
            list.push(Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1)));
        }
        list
    }

    pub(crate) fn tags_to_wire(&self) -> Vec<Tag<'_>> {
        self.tags.iter().map(|(key, value)| Tag { key, value }).collect()
    }

    pub(crate) fn from_wire(reply: &AttributesReply<'_>) -> Self {
        let known = reply.attributes.iter().filter_map(|attribute| {
            let value = match attribute.value() {
                AttributeValue::Number(number) => Value::Number(number),
                AttributeValue::Text(text) => Value::Text(text.to_owned()),
            };
            attribute.code().map(|code| (code, value))
        });
        Self { values: known.collect(), tags: BTreeMap::new() }
    }

    /// An attribute's value, where it is a number and there.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::AttributeCode;
    /// let attributes = queue.attributes().await?;
    /// assert_eq!(attributes.get_number(AttributeCode::VisibilityTimeout), Some(30));
    /// # Ok(()) });
    /// ```
    pub fn get_number(&self, code: AttributeCode) -> Option<u64> {
        match self.values.get(&code)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }

    /// An attribute's value, where it is a text and there.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::AttributeCode;
    /// let attributes = queue.attributes().await?;
    /// assert!(attributes.get_text(AttributeCode::QueueArn).is_some_and(|arn| arn.ends_with(":orders")));
    /// # Ok(()) });
    /// ```
    pub fn get_text(&self, code: AttributeCode) -> Option<&str> {
        match self.values.get(&code)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }

    /// All attributes that are there with their names, and values as SQS writes them, in the order of their numbers.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// for (name, value) in queue.attributes().await?.iter() {
    ///     println!("{name} = {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.values.iter().map(|(code, value)| match value {
            Value::Number(number) if code.is_switch() => (code.name(), (*number != 0).to_string()),
            Value::Number(number) => (code.name(), number.to_string()),
            Value::Text(text) => (code.name(), text.clone()),
        })
    }
}
