//! A queue: sending, receiving, deleting, hiding, and all that is asked of one queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, RwLock};
use std::time::{Duration, Instant};

use tenpin_protocol::{
    ALL_ATTRIBUTES, ANY_SHARD, AddPermissionRequest, AttributeCode, AttributeName, BATCH_ENTRIES_MAX,
    ChangeVisibilityEntry, ChangeVisibilityRequest, DeleteQueueRequest, DeleteRequest, Entries, ErrorCode,
    GetAttributesRequest, ListDeadLetterSourcesRequest, ListTagsRequest, Operation, Outcome, OwnedFrame,
    PurgeRequest, QUEUE_DEFAULT, QueueOpened, QueuesReply, ReceiveRequest, RemovePermissionRequest, Request,
    Response, SendEntry, SendRequest, SetAttributesRequest, Tag, TagQueueRequest, Text, UntagQueueRequest,
};

use crate::attributes::QueueAttributes;
use crate::client::{Client, response};
use crate::connection::unexpected;
use crate::consumer::Consumer;
use crate::error::{Error, Refusal, Result};
use crate::message::{Message, NewMessage, ReceiptHandle, Sent};
use crate::producer::ProducerBuilder;
use crate::stats::Stats;
use crate::stream::MessageStream;

/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;

/// For how long what a queue said of itself is believed.
const ATTRIBUTE_FRESH: Duration = Duration::from_secs(60);

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

    /// Sends one message.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// println!("stored as {}", queue.send("a first order").await?.id);
    /// # Ok(()) });
    /// ```
    pub async fn send(&self, message: impl Into<NewMessage>) -> Result<Sent> {
        let message = message.into();
        let results = self.send_batch(std::slice::from_ref(&message)).await?;
        results.into_iter().next().unwrap_or(Err(unexpected(Operation::Send)))
    }

    /// Sends 1 to 10 messages in one request; each has a result of its own, in their order.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// for result in queue.send_batch(&["one".into(), "two".into()]).await? {
    ///     println!("stored as {}", result?.id);
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn send_batch(&self, messages: &[NewMessage]) -> Result<Vec<Result<Sent>>> {
        check_batch(messages.len())?;
        let with_ids;
        let lacks_ids = self.is_fifo() && !messages.iter().all(NewMessage::has_deduplication_id);
        let messages = if lacks_ids && !self.is_content_based().await? {
            with_ids = self.give_deduplication_ids(messages);
            &with_ids
        } else {
            messages
        };
        self.send_prepared(messages.iter()).await
    }

    /// Sends messages that have what they need to be known when they are sent again.
    pub(crate) async fn send_prepared(
        &self,
        messages: impl ExactSizeIterator<Item = &NewMessage> + Clone,
    ) -> Result<Vec<Result<Sent>>> {
        let count = messages.len();
        let mut contents = [const { std::borrow::Cow::Borrowed(&[] as &[u8]) }; BATCH_MAX];
        for (content, message) in contents.iter_mut().zip(messages.clone()) {
            *content = message.content();
        }
        let mut entries = [SendEntry::default(); BATCH_MAX];
        for ((entry, message), content) in entries.iter_mut().zip(messages).zip(&contents) {
            *entry = message.entry(content)?;
        }
        let entries = Entries::from(&entries[..count]);
        let frame = self
            .call(|opened| (opened.shard, Request::Send(SendRequest { queue: opened.queue, entries })))
            .await?;
        let Response::Send(reply) = response(&frame)? else { return Err(unexpected(Operation::Send)) };
        let mut results = Vec::with_capacity(count);
        results.extend(reply.outcomes.iter().map(|outcome| {
            if outcome.is_success() {
                let sequence_number = (outcome.sequence_number != 0).then_some(outcome.sequence_number);
                Ok(Sent { id: crate::MessageId(outcome.id), sequence_number })
            } else {
                Err(Refusal::new(outcome.number, outcome.text).into())
            }
        }));
        Ok(results)
    }

    /// Whether the queue takes bodies for deduplication ids; asked anew after [`ATTRIBUTE_FRESH`].
    pub(crate) async fn is_content_based(&self) -> Result<bool> {
        let known = *self.inner.content_based.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, known)) = known.filter(|(since, _)| since.elapsed() < ATTRIBUTE_FRESH) {
            return Ok(known);
        }
        let names = [AttributeName { number: AttributeCode::ContentBasedDeduplication.number() }];
        let names = Entries::from(&names[..]);
        let frame =
            self.call_any(|queue| Request::GetAttributes(GetAttributesRequest { queue, names })).await?;
        let Response::GetAttributes(reply) = response(&frame)? else {
            return Err(unexpected(Operation::GetAttributes));
        };
        let attributes = QueueAttributes::from_wire(&reply);
        let is_on = attributes.get_number(AttributeCode::ContentBasedDeduplication) == Some(1);
        *self.inner.content_based.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((Instant::now(), is_on));
        Ok(is_on)
    }

    /// A send that is made again must be known as such: on FIFO queues that takes an id (rule 34).
    fn give_deduplication_ids(&self, messages: &[NewMessage]) -> Vec<NewMessage> {
        let give = |message: &NewMessage| {
            let message = message.clone();
            if message.has_deduplication_id() { message } else { message.deduplication_id(fresh_id()) }
        };
        messages.iter().map(give).collect()
    }

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

    /// Deletes a message.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// for message in queue.receive().await? {
    ///     queue.delete(&message).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete(&self, message: &Message) -> Result<()> {
        self.delete_handle(&message.handle()).await
    }

    /// Deletes a message by its handle.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// for message in queue.receive().await? {
    ///     let handle = message.handle();
    ///     drop(message);
    ///     queue.delete_handle(&handle).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete_handle(&self, handle: &ReceiptHandle) -> Result<()> {
        one(self.delete_batch(std::slice::from_ref(handle)).await?)
    }

    /// Deletes 1 to 10 messages in one request; each has a result of its own, in their order.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()]).await?;
    /// let handles: Vec<_> = queue.receive().await?.iter().map(|message| message.handle()).collect();
    /// for result in queue.delete_batch(&handles).await? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete_batch(&self, handles: &[ReceiptHandle]) -> Result<Vec<Result<()>>> {
        self.delete_each(handles.iter().map(ReceiptHandle::as_bytes)).await
    }

    pub(crate) async fn delete_each<'a>(
        &self,
        handles: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Result<()>>> {
        check_batch(handles.len())?;
        let (mut list, count) = ([&[][..]; BATCH_MAX], handles.len());
        list.iter_mut().zip(handles).for_each(|(place, handle)| *place = handle);
        let shard = common_shard(list[..count].iter().copied());
        let handles = Entries::from(&list[..count]);
        let frame = self
            .call(|opened| (shard, Request::Delete(DeleteRequest { queue: opened.queue, handles })))
            .await?;
        let Response::Delete(reply) = response(&frame)? else { return Err(unexpected(Operation::Delete)) };
        Ok(reply.outcomes.iter().map(|outcome| result_of(&outcome)).collect())
    }

    /// Hides a message for so long from now on, in whole seconds; zero makes it visible at once.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("not now").await?;
    /// for message in queue.receive().await? {
    ///     queue.change_visibility(&message.handle(), Duration::ZERO).await?;
    /// }
    /// assert_eq!(queue.receive().await?.len(), 1, "it is there again");
    /// # Ok(()) });
    /// ```
    pub async fn change_visibility(&self, handle: &ReceiptHandle, timeout: Duration) -> Result<()> {
        one(self.change_visibility_batch(&[(handle, timeout)]).await?)
    }

    /// Changes for how long 1 to 10 messages are hidden; each has a result of its own, in their order.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()]).await?;
    /// let handles: Vec<_> = queue.receive().await?.iter().map(|message| message.handle()).collect();
    /// let changes: Vec<_> = handles.iter().map(|handle| (handle, Duration::from_secs(60))).collect();
    /// for result in queue.change_visibility_batch(&changes).await? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn change_visibility_batch(
        &self,
        changes: &[(&ReceiptHandle, Duration)],
    ) -> Result<Vec<Result<()>>> {
        self.change_visibility_of_each(changes.iter().map(|(handle, timeout)| (handle.as_bytes(), *timeout)))
            .await
    }

    pub(crate) async fn change_visibility_of_each<'a>(
        &self,
        changes: impl ExactSizeIterator<Item = (&'a [u8], Duration)>,
    ) -> Result<Vec<Result<()>>> {
        check_batch(changes.len())?;
        let seconds = |timeout: Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let entry =
            |(handle, timeout)| ChangeVisibilityEntry { visibility_seconds: seconds(timeout), handle };
        let list: Vec<_> = changes.map(entry).collect();
        let shard = common_shard(list.iter().map(|entry| entry.handle));
        let entries = Entries::from(&list[..]);
        let request = |opened: &QueueOpened| {
            (shard, Request::ChangeVisibility(ChangeVisibilityRequest { queue: opened.queue, entries }))
        };
        let frame = self.call(request).await?;
        match response(&frame)? {
            Response::ChangeVisibility(reply) => {
                Ok(reply.outcomes.iter().map(|outcome| result_of(&outcome)).collect())
            }
            _ => Err(unexpected(Operation::ChangeVisibility)),
        }
    }

    /// All its attributes, counts included.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// for (name, value) in queue.attributes().await?.iter() {
    ///     println!("{name} = {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn attributes(&self) -> Result<QueueAttributes> {
        let all = [AttributeName { number: ALL_ATTRIBUTES }];
        let names = Entries::from(&all[..]);
        let frame =
            self.call_any(|queue| Request::GetAttributes(GetAttributesRequest { queue, names })).await?;
        match response(&frame)? {
            Response::GetAttributes(reply) => Ok(QueueAttributes::from_wire(&reply)),
            _ => Err(unexpected(Operation::GetAttributes)),
        }
    }

    /// Changes attributes: all that are given, or none where one of them is refused.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// queue.set_attributes(&QueueAttributes::new().visibility_timeout(Duration::from_secs(60))).await?;
    /// let attributes = queue.attributes().await?;
    /// assert_eq!(attributes.get_number(AttributeCode::VisibilityTimeout), Some(60));
    /// # Ok(()) });
    /// ```
    pub async fn set_attributes(&self, attributes: &QueueAttributes) -> Result<()> {
        let list = attributes.to_wire(false);
        let attributes = Entries::from(&list[..]);
        self.call_any(|queue| Request::SetAttributes(SetAttributesRequest { queue, attributes })).await?;
        Ok(())
    }

    /// Adds or replaces tags.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing"), ("stage", "test")]).await?;
    /// # Ok(()) });
    /// ```
    pub async fn tag(&self, tags: &[(&str, &str)]) -> Result<()> {
        let list: Vec<_> = tags.iter().map(|&(key, value)| Tag { key, value }).collect();
        let tags = Entries::from(&list[..]);
        self.call_any(|queue| Request::TagQueue(TagQueueRequest { queue, tags })).await?;
        Ok(())
    }

    /// Removes tags by their keys.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing")]).await?;
    /// queue.untag(&["team"]).await?;
    /// assert!(queue.tags().await?.is_empty());
    /// # Ok(()) });
    /// ```
    pub async fn untag(&self, keys: &[&str]) -> Result<()> {
        let list: Vec<_> = keys.iter().map(|&text| Text { text }).collect();
        let keys = Entries::from(&list[..]);
        self.call_any(|queue| Request::UntagQueue(UntagQueueRequest { queue, keys })).await?;
        Ok(())
    }

    /// Its tags.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing")]).await?;
    /// for (key, value) in queue.tags().await? {
    ///     println!("{key} = {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn tags(&self) -> Result<Vec<(String, String)>> {
        let frame = self.call_any(|queue| Request::ListTags(ListTagsRequest { queue })).await?;
        match response(&frame)? {
            Response::ListTags(reply) => {
                Ok(reply.tags.iter().map(|tag| (tag.key.to_owned(), tag.value.to_owned())).collect())
            }
            _ => Err(unexpected(Operation::ListTags)),
        }
    }

    /// Adds a statement to its policy that allows accounts some of the actions of SQS.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.add_permission("partners", &["123456789012"], &["SendMessage"]).await?;
    /// # Ok(()) });
    /// ```
    pub async fn add_permission(&self, label: &str, accounts: &[&str], actions: &[&str]) -> Result<()> {
        let accounts: Vec<_> = accounts.iter().map(|&text| Text { text }).collect();
        let actions: Vec<_> = actions.iter().map(|&text| Text { text }).collect();
        let request = |queue| {
            Request::AddPermission(AddPermissionRequest {
                queue,
                label,
                accounts: Entries::from(&accounts[..]),
                actions: Entries::from(&actions[..]),
            })
        };
        self.call_any(request).await.map(drop)
    }

    /// Removes the statement with this label from its policy.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.add_permission("partners", &["123456789012"], &["SendMessage"]).await?;
    /// queue.remove_permission("partners").await?;
    /// # Ok(()) });
    /// ```
    pub async fn remove_permission(&self, label: &str) -> Result<()> {
        self.call_any(|queue| Request::RemovePermission(RemovePermissionRequest { queue, label }))
            .await
            .map(drop)
    }

    /// Queues that have this one for their dead letters: up to 1,000, from where the page before ended.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// let dead = client.create_queue("orders-dead").await?;
    /// let arn = dead.attributes().await?.get_text(AttributeCode::QueueArn).unwrap_or_default().to_owned();
    /// queue.set_attributes(&QueueAttributes::new().dead_letters(&arn, 3)).await?;
    /// assert_eq!(dead.dead_letter_sources(None).await?.names[0].name(), "orders");
    /// # Ok(()) });
    /// ```
    pub async fn dead_letter_sources(&self, after: Option<&QueuePage>) -> Result<QueuePage> {
        let next = after.and_then(QueuePage::next);
        let request =
            |queue| Request::ListDeadLetterSources(ListDeadLetterSourcesRequest { queue, max: 1_000, next });
        let frame = self.call_any(request).await?;
        match response(&frame)? {
            Response::ListDeadLetterSources(reply) => Ok(QueuePage::from_wire(&reply)),
            _ => Err(unexpected(Operation::ListDeadLetterSources)),
        }
    }

    /// Its counters.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// assert_eq!(queue.stats().await?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub async fn stats(&self) -> Result<Stats> {
        self.inner.client.stats_of(self.opened().queue).await
    }

    /// Deletes all its messages; at most once in 60 seconds.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// queue.purge().await?;
    /// assert!(queue.receive().await?.is_empty());
    /// # Ok(()) });
    /// ```
    pub async fn purge(&self) -> Result<()> {
        self.call_any(|queue| Request::Purge(PurgeRequest { queue })).await?;
        Ok(())
    }

    /// Deletes the queue with all its messages. Its name is free again after 60 seconds.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.delete_queue().await?;
    /// assert!(queue.send("too late").await.is_err());
    /// # Ok(()) });
    /// ```
    pub async fn delete_queue(&self) -> Result<()> {
        let request = Request::DeleteQueue(DeleteQueueRequest { queue: self.opened().queue });
        match self.inner.client.call(ANY_SHARD, &request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
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

/// An id that no other client and no other message has.
pub(crate) fn fresh_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    static ORIGIN: LazyLock<(u64, u64)> = LazyLock::new(|| {
        let random = || RandomState::new().build_hasher().finish();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (random() ^ u64::from(std::process::id()), random() ^ now.as_nanos() as u64)
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}{:016x}-{}", ORIGIN.0, ORIGIN.1, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn check_batch(entries: usize) -> Result<()> {
    if (1..=BATCH_MAX).contains(&entries) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a batch has 1 to {BATCH_MAX} entries, this one has {entries}; split it")))
}

/// The shard that all these handles name, or any: the broker splits what is mixed.
fn common_shard<'a>(mut handles: impl Iterator<Item = &'a [u8]>) -> u16 {
    // The first two bytes say it.
    let shard = |handle: &[u8]| handle.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
    let first = handles.next().and_then(shard);
    match first {
        Some(named) if handles.all(|handle| shard(handle) == first) => named,
        _ => ANY_SHARD,
    }
}

fn result_of(outcome: &Outcome<'_>) -> Result<()> {
    if outcome.is_success() { Ok(()) } else { Err(Refusal::new(outcome.number, outcome.text).into()) }
}

fn one(results: Vec<Result<()>>) -> Result<()> {
    results.into_iter().next().unwrap_or(Err(Error::Protocol("an answer without a result".into())))
}
