//! Messages: those to send, and those that were received.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenpin_protocol::{
    ContentFields, Entries, FIELD_HEADER_BYTES, OwnedFrame, ReceivedFixed, ReceivedMessage, SendEntry,
    UserAttribute, write_content,
};

use crate::error::{Error, Result};

/// What is longer is not even written, for the broker to refuse: lengths on the wire have 32 bits.
const MESSAGE_BYTES_MOST: usize = 1 << 30;
/// Bytes of a message that the limits do not count: with them one at the limit fits into the smallest frame.
const UNCOUNTED_BYTES_MAX: usize = 32 << 10;
/// Bytes around an attribute's name, type and value: lengths of all of it, of its fixed part, and of each.
const ATTRIBUTE_OVERHEAD_BYTES: usize = 4 + 2 + 2 + 2 + 4;

/// The value of a message's attribute.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// use tenpin_client::{AttributeValue, NewMessage};
/// let message = NewMessage::new("twelve eggs")
///     .attribute("source", "web")
///     .attribute("items", 12)
///     .attribute("signature", AttributeValue::Binary(vec![1, 2, 3].into()))
///     .attribute("weight", AttributeValue::Labelled {
///         data_type: "Number.kilograms".into(),
///         value: "0.72".into(),
///     });
/// queue.send(message).await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text.
    String(String),
    /// A number, as text: up to 38 digits.
    Number(String),
    /// Bytes.
    Binary(Bytes),
    /// Any of these with a type of its own behind a dot, such as `Number.float`.
    Labelled {
        /// The whole type.
        data_type: String,
        /// The value.
        value: Bytes,
    },
}

impl AttributeValue {
    fn data_type(&self) -> &str {
        match self {
            Self::String(_) => "String",
            Self::Number(_) => "Number",
            Self::Binary(_) => "Binary",
            Self::Labelled { data_type, .. } => data_type,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::String(text) | Self::Number(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Labelled { value: bytes, .. } => bytes,
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Number(number.to_string())
    }
}

/// A message to send. A body alone becomes one by itself: `queue.send("body")`.
///
/// ```
/// use tenpin_client::NewMessage;
/// let message = NewMessage::new("twelve eggs")
///     .group("customer-17")
///     .attribute("source", "web")
///     .attribute("items", 12);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    body: Bytes,
    delay_seconds: Option<u32>,
    only_if_previous_accepted: bool,
    fields: Option<Box<Fields>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    group: Option<String>,
    deduplication_id: Option<String>,
    attributes: Vec<(String, AttributeValue)>,
    trace_header: Option<String>,
}

impl NewMessage {
    /// A message that is only a body: any bytes, 1 to 1,048,576 of them.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send(tenpin_client::NewMessage::new(vec![0xff, 0x00])).await?;
    /// assert_eq!(queue.receive().await?[0].body(), [0xff, 0x00]);
    /// # Ok(()) });
    /// ```
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    fn fields(&mut self) -> &mut Fields {
        self.fields.get_or_insert_default()
    }

    /// The group within which a FIFO queue keeps the order, and among which a standard queue is fair.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// steps.send(tenpin_client::NewMessage::new("a step").group("customer-17")).await?;
    /// assert_eq!(steps.receive().await?[0].group(), Some("customer-17"));
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.fields().group = Some(group.into());
        self
    }

    /// On FIFO queues: a message with an id that was used in the last five minutes is not stored again.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// let step = tenpin_client::NewMessage::new("a step").group("a").deduplication_id("step-1");
    /// let (first, again) = (steps.send(step.clone()).await?, steps.send(step).await?);
    /// assert_eq!(first, again, "it is stored once");
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn deduplication_id(mut self, id: impl Into<String>) -> Self {
        self.fields().deduplication_id = Some(id.into());
        self
    }

    /// An attribute, beside the body; up to ten.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send(tenpin_client::NewMessage::new("twelve eggs").attribute("items", 12)).await?;
    /// assert_eq!(queue.receive().await?[0].attribute("items"), Some(&b"12"[..]));
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.fields().attributes.push((name.into(), value.into()));
        self
    }

    /// The trace header of AWS X-Ray.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let header = "Root=1-5759e988-bd862e3fe1be46a994272793";
    /// queue.send(tenpin_client::NewMessage::new("traced").trace_header(header)).await?;
    /// assert_eq!(queue.receive().await?[0].trace_header(), Some(header));
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn trace_header(mut self, header: impl Into<String>) -> Self {
        self.fields().trace_header = Some(header.into());
        self
    }

    /// For how long nobody receives it, where that is not as the queue says: up to 15 minutes, in
    /// whole seconds; a part of a second counts as one. Not on FIFO queues.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let later = tenpin_client::NewMessage::new("in a minute").delay(Duration::from_secs(60));
    /// queue.send(later).await?;
    /// assert_eq!(queue.stats().await?.delayed(), 1);
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
        self.delay_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self
    }

    /// On FIFO queues: refuse it if the message of its group that was sent before it on this client
    /// was refused, so that nothing of a group overtakes.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::NewMessage;
    /// let steps = client.create_queue("steps.fifo").await?;
    /// let second = NewMessage::new("second").group("a").only_if_previous_accepted();
    /// for result in steps.send_batch(&[NewMessage::new("first").group("a"), second]).await? {
    ///     println!("stored as {}", result?.id);
    /// }
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn only_if_previous_accepted(mut self) -> Self {
        self.only_if_previous_accepted = true;
        self
    }

    /// Its group, if it has one.
    ///
    /// ```
    /// let message = tenpin_client::NewMessage::new("a step").group("customer-17");
    /// assert_eq!(message.group_id(), Some("customer-17"));
    /// ```
    pub fn group_id(&self) -> Option<&str> {
        self.fields.as_ref()?.group.as_deref()
    }

    pub(crate) fn set_only_if_previous_accepted(&mut self, on: bool) {
        self.only_if_previous_accepted = on;
    }

    pub(crate) fn ensure_deduplication_id(&mut self, make: impl FnOnce() -> String) {
        let fields = self.fields();
        if fields.deduplication_id.is_none() {
            fields.deduplication_id = Some(make());
        }
    }

    pub(crate) fn has_deduplication_id(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.deduplication_id.is_some())
    }

    /// The body.
    ///
    /// ```
    /// let message = tenpin_client::NewMessage::from("twelve eggs");
    /// assert_eq!(message.body(), "twelve eggs");
    /// ```
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes as the limits count them: body and attributes.
    ///
    /// ```
    /// let message = tenpin_client::NewMessage::new("eggs").attribute("n", 12);
    /// assert_eq!(message.message_bytes(), "eggs".len() + "n".len() + "Number".len() + "12".len());
    /// ```
    pub fn message_bytes(&self) -> usize {
        let attributes = self.fields.iter().flat_map(|fields| &fields.attributes);
        self.body.len()
            + attributes
                .map(|(name, value)| name.len() + value.data_type().len() + value.bytes().len())
                .sum::<usize>()
    }

    /// Whether it can be written at all: what is in it is for the broker to judge.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(fields) = &self.fields else { return Ok(()) };
        let most = usize::from(u16::MAX);
        let is_short =
            |(name, value): &(String, AttributeValue)| name.len() <= most && value.data_type().len() <= most;
        if fields.attributes.len() > most || !fields.attributes.iter().all(is_short) {
            return Err(Error::Invalid(format!(
                "a message has at most {most} attributes, with names and types of at most {most} bytes"
            )));
        }
        let bytes = self.message_bytes();
        if bytes > MESSAGE_BYTES_MOST {
            return Err(Error::Invalid(format!("no message can have {bytes} bytes")));
        }
        let bytes = self.uncounted_bytes();
        if bytes > UNCOUNTED_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a message has at most {UNCOUNTED_BYTES_MAX} bytes in its group, deduplication id and trace \
                 header and around its attributes, this one has {bytes}"
            )));
        }
        Ok(())
    }

    /// Bytes that the limits do not count and that take their room in a frame all the same.
    pub(crate) fn uncounted_bytes(&self) -> usize {
        let Some(fields) = &self.fields else { return 0 };
        let texts = [&fields.group, &fields.deduplication_id, &fields.trace_header];
        let texts: usize = texts.into_iter().flatten().map(|text| FIELD_HEADER_BYTES + text.len()).sum();
        texts + fields.attributes.len() * ATTRIBUTE_OVERHEAD_BYTES
    }

    /// Body and fields in one piece, as they travel; where [`Self::check`] has found nothing wrong.
    pub(crate) fn content(&self) -> Cow<'_, [u8]> {
        let Some(fields) = &self.fields else { return Cow::Borrowed(&self.body) };
        let attributes: Vec<_> = fields
            .attributes
            .iter()
            .map(|(name, value)| UserAttribute { name, data_type: value.data_type(), value: value.bytes() })
            .collect();
        let mut content = Vec::with_capacity(self.body.len() + 64);
        let fields = ContentFields {
            group: fields.group.as_deref(),
            deduplication_id: fields.deduplication_id.as_deref(),
            attributes: Entries::from(&attributes[..]),
            trace_header: fields.trace_header.as_deref(),
            ..ContentFields::default()
        };
        write_content(&mut content, &self.body, &fields);
        Cow::Owned(content)
    }

    pub(crate) fn entry<'a>(&self, content: &'a [u8]) -> Result<SendEntry<'a>> {
        let entry = SendEntry::with_content(content, self.body.len())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(SendEntry {
            delay_seconds: self.delay_seconds,
            only_if_previous_accepted: self.only_if_previous_accepted,
            ..entry
        })
    }
}

impl From<&str> for NewMessage {
    fn from(body: &str) -> Self {
        Self::new(body.to_owned())
    }
}

impl From<String> for NewMessage {
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for NewMessage {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

impl From<&[u8]> for NewMessage {
    fn from(body: &[u8]) -> Self {
        Self::new(body.to_vec())
    }
}

impl From<Bytes> for NewMessage {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

/// A message's id.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let sent = queue.send("a first order").await?;
/// let received = queue.receive().await?;
/// assert_eq!(received[0].id(), sent.id);
/// assert_eq!(sent.id.to_string().len(), "c0ffee00-0000-4000-8000-000000000000".len());
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A message that the broker has stored.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let sent = queue.send("a first order").await?;
/// println!("stored as {}", sent.id);
/// assert_eq!(sent.sequence_number, None, "the queue keeps no order");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// Its place in its queue's order; `None` on standard queues.
    pub sequence_number: Option<u64>,
}

/// What deletes one delivery's message, or changes for how long it is hidden.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # use std::time::Duration;
/// # example::run(async |client, queue| {
/// queue.send("a first order").await?;
/// for message in queue.receive().await? {
///     queue.change_visibility(&message.handle(), Duration::from_secs(60)).await?;
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReceiptHandle(Bytes);

impl ReceiptHandle {
    /// A handle from bytes that [`ReceiptHandle::as_bytes`] gave.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// let kept = message.handle().as_bytes().to_vec();
    /// queue.delete_handle(&tenpin_client::ReceiptHandle::from_bytes(kept)).await?;
    /// # Ok(()) });
    /// ```
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes, to keep or to pass on.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// std::fs::write("/dev/null", message.handle().as_bytes())?;
    /// # Ok(()) });
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ReceiptHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReceiptHandle({} bytes)", self.0.len())
    }
}

/// Bytes of a handle that is kept without an allocation; those of this version's brokers are shorter.
const KEPT_BYTES: usize = 62;

/// A handle that is kept beside its message, to be passed around at the cost of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum KeptHandle {
    /// Length and bytes.
    Here(u8, [u8; KEPT_BYTES]),
    /// A longer one.
    Elsewhere(Box<[u8]>),
}

impl KeptHandle {
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let mut kept = [0; KEPT_BYTES];
        match kept.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Here(bytes.len() as u8, kept)
            }
            None => Self::Elsewhere(bytes.into()),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Here(length, bytes) => &bytes[..usize::from(*length)],
            Self::Elsewhere(bytes) => bytes,
        }
    }
}

/// A message that was received. It is hidden from others until its visibility timeout passes, and then
/// comes back, unless it is deleted.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// queue.send("a first order").await?;
/// for message in queue.receive().await? {
///     println!("{} says {}", message.id(), message.text()?);
///     queue.delete(&message).await?;
/// }
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Message {
    fixed: ReceivedFixed,
    /// Handle and content, as they stand in the frame that brought them.
    bytes: Bytes,
    handle_bytes: u32,
    body_bytes: u32,
}

impl Message {
    pub(crate) fn from_wire(message: &ReceivedMessage<'_>, frame: &OwnedFrame) -> Self {
        // The content follows the handle.
        let start = message.handle.as_ptr() as usize - frame.bytes().as_ptr() as usize;
        let length = message.handle.len() + message.content.len();
        Self {
            fixed: message.fixed,
            bytes: frame.bytes().slice(start..start + length),
            handle_bytes: message.handle.len() as u32,
            body_bytes: message.body.len() as u32,
        }
    }

    fn view(&self) -> ReceivedMessage<'_> {
        let (handle, content) = self.bytes.split_at(self.handle_bytes as usize);
        ReceivedMessage { fixed: self.fixed, handle, body: &content[..self.body_bytes as usize], content }
    }

    /// Its id.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// println!("{}", message.id());
    /// # Ok(()) });
    /// ```
    pub fn id(&self) -> MessageId {
        MessageId(self.fixed.id)
    }

    /// Its body.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert_eq!(message.body(), b"twelve eggs");
    /// # Ok(()) });
    /// ```
    pub fn body(&self) -> &[u8] {
        self.view().body
    }

    /// Its body, sharing the memory in which it came.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// let body = message.body_bytes();
    /// drop(message);
    /// assert_eq!(body, "twelve eggs");
    /// # Ok(()) });
    /// ```
    pub fn body_bytes(&self) -> Bytes {
        let start = self.handle_bytes as usize;
        self.bytes.slice(start..start + self.body_bytes as usize)
    }

    /// Its body as text.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert_eq!(message.text(), Ok("twelve eggs"));
    /// # Ok(()) });
    /// ```
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.body())
    }

    /// What deletes it.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// let handle = message.handle();
    /// drop(message);
    /// queue.delete_handle(&handle).await?;
    /// # Ok(()) });
    /// ```
    pub fn handle(&self) -> ReceiptHandle {
        ReceiptHandle(self.bytes.slice(..self.handle_bytes as usize))
    }

    pub(crate) fn kept_handle(&self) -> KeptHandle {
        KeptHandle::new(&self.bytes[..self.handle_bytes as usize])
    }

    /// How often it has been received, this time included.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// if message.receive_count() > 5 {
    ///     println!("{} seems to be hard to handle", message.id());
    /// }
    /// # Ok(()) });
    /// ```
    pub fn receive_count(&self) -> u32 {
        self.fixed.receive_count
    }

    /// When it was sent.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// println!("sent {:?} ago", message.sent_at().elapsed()?);
    /// # Ok(()) });
    /// ```
    pub fn sent_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.fixed.sent_at_ms)
    }

    /// When it was first received.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert!(message.first_received_at() >= message.sent_at());
    /// # Ok(()) });
    /// ```
    pub fn first_received_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.fixed.first_received_at_ms)
    }

    /// Its place in its queue's order; `None` on standard queues.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// let sent = steps.send(tenpin_client::NewMessage::new("a step").group("a")).await?;
    /// assert_eq!(steps.receive().await?[0].sequence_number(), sent.sequence_number);
    /// # Ok(()) });
    /// ```
    pub fn sequence_number(&self) -> Option<u64> {
        (self.fixed.sequence_number != 0).then_some(self.fixed.sequence_number)
    }

    /// Its group.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert_eq!(message.group(), None);
    /// # Ok(()) });
    /// ```
    pub fn group(&self) -> Option<&str> {
        self.view().group()
    }

    /// Its deduplication id.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let steps = client.create_queue("steps.fifo").await?;
    /// let step = tenpin_client::NewMessage::new("a step").group("a").deduplication_id("step-1");
    /// steps.send(step).await?;
    /// assert_eq!(steps.receive().await?[0].deduplication_id(), Some("step-1"));
    /// # Ok(()) });
    /// ```
    pub fn deduplication_id(&self) -> Option<&str> {
        self.view().deduplication_id()
    }

    /// Its trace header.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert_eq!(message.trace_header(), None);
    /// # Ok(()) });
    /// ```
    pub fn trace_header(&self) -> Option<&str> {
        self.view().trace_header()
    }

    /// The ARN of the queue that it was a dead letter of.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// match message.dead_letter_source() {
    ///     Some(arn) => println!("it could not be handled in {arn}"),
    ///     None => println!("it was sent to this queue"),
    /// }
    /// # Ok(()) });
    /// ```
    pub fn dead_letter_source(&self) -> Option<&str> {
        self.view().dead_letter_source()
    }

    /// Its attributes: names, types and values.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// for (name, data_type, value) in message.attributes() {
    ///     println!("{name} ({data_type}): {}", String::from_utf8_lossy(value));
    /// }
    /// # Ok(()) });
    /// ```
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str, &[u8])> {
        self.view().attributes().into_iter().map(|entry| (entry.name, entry.data_type, entry.value))
    }

    /// The value of one attribute.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_message(async |queue, message| {
    /// assert_eq!(message.attribute("items"), Some(&b"12"[..]));
    /// # Ok(()) });
    /// ```
    pub fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.attributes().find(|(found, _, _)| *found == name).map(|(_, _, value)| value)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("id", &self.id())
            .field("receive_count", &self.receive_count())
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}
