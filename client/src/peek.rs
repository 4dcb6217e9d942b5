//! Looking at messages without receiving them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenpin_protocol::{
    BATCH_ENTRIES_MAX, MessageState, Operation, PeekRequest, PeekedMessage, Request, Response,
};

use crate::client::response;
use crate::connection::unexpected;
use crate::error::Result;
use crate::message::MessageId;
use crate::queue::Queue;

/// A message that was looked at. Nothing has happened to it.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// queue.send("a first order").await?;
/// for message in queue.peek(None, None).await?.messages {
///     println!("{} {:?}: {} bytes", message.id, message.state, message.body.len());
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// Its id.
    pub id: MessageId,
    /// Where it stands.
    pub state: Option<MessageState>,
    /// Its body; empty where it is damaged.
    pub body: Bytes,
    /// When it was sent.
    pub sent_at: SystemTime,
    /// How often it has been received.
    pub receive_count: u32,
    /// When its state ends by itself: a delay, a visibility timeout.
    pub until: Option<SystemTime>,
    /// Its group.
    pub group: Option<String>,
    /// Its attributes: name, type, value.
    pub attributes: Vec<(String, String, Bytes)>,
}

/// Some messages of a queue, and where to go on.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let page = queue.peek(None, None).await?;
/// assert!(page.messages.is_empty() && !page.has_more());
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeekPage {
    /// The messages.
    pub messages: Vec<Peeked>,
    next: Option<Box<[u8]>>,
}

impl PeekPage {
    /// Whether there may be more.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let mut page = queue.peek(None, None).await?;
    /// while page.has_more() {
    ///     page = queue.peek(None, Some(&page)).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

impl Queue {
    /// Looks at up to ten messages, in one state or in any, from where the page before ended.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::MessageState;
    /// queue.send("a first order").await?;
    /// let page = queue.peek(Some(MessageState::Visible), None).await?;
    /// assert_eq!(page.messages[0].body, "a first order");
    /// assert_eq!(queue.stats().await?.visible(), 1, "nothing has happened to it");
    /// # Ok(()) });
    /// ```
    pub async fn peek(&self, state: Option<MessageState>, after: Option<&PeekPage>) -> Result<PeekPage> {
        let next = after.and_then(|page| page.next.as_deref());
        let request = |queue| {
            Request::Peek(PeekRequest {
                queue,
                max: BATCH_ENTRIES_MAX as u8,
                state: state.map_or(0, MessageState::number),
                reply_bytes_max: u32::MAX,
                next,
                ..PeekRequest::default()
            })
        };
        let frame = self.call_any(request).await?;
        match response(&frame)? {
            Response::Peek(reply) => Ok(PeekPage {
                messages: reply.messages.iter().map(|message| from_wire(&message)).collect(),
                next: reply.next.map(Box::from),
            }),
            _ => Err(unexpected(Operation::Peek)),
        }
    }
}

fn from_wire(message: &PeekedMessage<'_>) -> Peeked {
    let time = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    let fixed = &message.fixed;
    Peeked {
        id: MessageId(fixed.message.id),
        state: MessageState::from_number(fixed.state),
        body: Bytes::copy_from_slice(message.body),
        sent_at: time(fixed.message.sent_at_ms),
        receive_count: fixed.message.receive_count,
        until: (fixed.until_ms > 0).then(|| time(fixed.until_ms)),
        group: message.group().map(str::to_owned),
        attributes: message
            .attributes()
            .iter()
            .map(|entry| {
                (entry.name.to_owned(), entry.data_type.to_owned(), Bytes::copy_from_slice(entry.value))
            })
            .collect(),
    }
}
