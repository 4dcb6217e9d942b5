//! Sending messages.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenpin_protocol::{
    AttributeCode, AttributeName, Entries, ErrorCode, GetAttributesRequest, Operation, Request, Response,
    SendEntry, SendRequest,
};

use super::{BATCH_MAX, Queue, check_batch};
use crate::attributes::QueueAttributes;
use crate::client::response;
use crate::connection::unexpected;
use crate::error::{Error, Refusal, Result};
use crate::message::{NewMessage, Sent};

/// Bytes of one message, with its attributes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// For how long what a queue said of itself is believed.
const ATTRIBUTE_FRESH: Duration = Duration::from_secs(60);

impl Queue {
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
        let results = self.send_batch(std::slice::from_ref(&message)).await.map_err(of_one_message)?;
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
            message.check()?;
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
        if reply.outcomes.len() != count {
            return Err(unexpected(Operation::Send));
        }
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
}

/// A message by itself is no batch, and what is wrong with its size is said as of a message.
fn of_one_message(error: Error) -> Error {
    match &error {
        Error::Refused(refusal) if refusal.code() == Some(ErrorCode::BatchRequestTooLong) => {
            let text = format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} \
                 bytes, its attributes counted."
            );
            Refusal::new(ErrorCode::InvalidParameterValue.number(), Some(&text)).into()
        }
        _ => error,
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
