//! Sending, receiving, looking at, deleting and hiding messages: the frames of the hot path.

use crate::codes::{BATCH_ENTRIES_MAX, QUEUE_DEFAULT, content_tag};
use crate::content::{
    UserAttribute, content_accessors, content_attributes, content_fields, content_text, split_content,
};
use crate::error::{DecodeError, ErrorCode, Problem};
use crate::layout::{
    Entries, Fields, Layout, NoFlags, Raw, Reader, check_fields, layout, length_u16, length_u32, short,
    write_fixed,
};

layout! {
    /// Stores 1 to 10 messages; each has a result of its own.
    pub struct SendRequest<'a> as "send" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// The messages.
            entries: SendEntry<'a>,
        }
        check check_send;
    }
}

fn check_send(request: &SendRequest<'_>) -> Result<(), DecodeError> {
    check_batch(request.entries.len())
}

#[inline(always)]
fn check_batch(count: usize) -> Result<(), DecodeError> {
    if count == 0 || count > usize::from(BATCH_ENTRIES_MAX) {
        return Err(DecodeError::entries(length_u16(count)));
    }
    Ok(())
}

impl SendRequest<'_> {
    /// The size of all its messages as the limits count it.
    pub fn message_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.message_bytes()).sum()
    }
}

/// The messages of a send.
pub type SendEntries<'a> = Entries<'a, SendEntry<'a>>;

impl<'a> SendEntries<'a> {
    /// Walks the messages: a body by itself where that is all there is to it, which needs no more than
    /// a look at the frame; or with the whole entry.
    #[inline(always)]
    pub fn visit(self, mut each: impl FnMut(&'a [u8], Option<&SendEntry<'a>>)) {
        // One call for all cases, so that it is no call at all where this is compiled into.
        self.for_each_raw(|raw| {
            let whole;
            let (body, entry) = match raw {
                Raw::Wire(bytes) => match SendEntry::only_body(bytes) {
                    Some(body) => (body, None),
                    None => {
                        // The entries were checked when the list was taken, so this does not fail.
                        let Ok(read) = SendEntry::read_checked(bytes) else { return };
                        whole = read;
                        (whole.body, Some(&whole))
                    }
                },
                Raw::Ready(entry) => (entry.body, (!entry.is_only_body()).then_some(entry)),
            };
            each(body, entry);
        });
    }
}

/// One message of a send. [`SendEntry::new`] and [`SendEntry::with_content`] see to it that `content`
/// begins with `body`, on which its encoding relies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SendEntry<'a> {
    /// The body: the front of `content`.
    pub body: &'a [u8],
    /// The body and the optional fields behind it, in one piece.
    pub content: &'a [u8],
    /// Seconds for which nobody receives it; the queue's delay where it is not given.
    pub delay_seconds: Option<u32>,
    /// 0 to 9; higher ones are received first.
    pub priority: Option<u8>,
    /// Milliseconds after which it expires, where that is before the queue's retention period ends.
    pub own_expiry_ms: Option<u64>,
    /// Who sends it, as which of its messages.
    pub producer: Option<Producer>,
    /// Refuse it unless this connection's previous message of the same group was accepted.
    pub only_if_previous_accepted: bool,
}

/// A producer's name for a message, which makes a repeated send of it known as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Producer {
    /// The producer.
    pub id: u64,
    /// Which of its messages this is.
    pub sequence: u64,
    /// The shard that it was first sent to.
    pub first_shard: u16,
}

const SEND_DELAY: u16 = 1 << 0;
const SEND_PRIORITY: u16 = 1 << 1;
const SEND_OWN_EXPIRY: u16 = 1 << 2;
const SEND_PRODUCER: u16 = 1 << 3;
const SEND_ONLY_IF_PREVIOUS: u16 = 1 << 4;
const SEND_FLAGS_KNOWN: u16 =
    SEND_DELAY | SEND_PRIORITY | SEND_OWN_EXPIRY | SEND_PRODUCER | SEND_ONLY_IF_PREVIOUS;

impl<'a> SendEntry<'a> {
    /// A message that is only a body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, content: body, ..Self::default() }
    }

    /// A message with a content that [`write_content`](crate::write_content) wrote, whose first
    /// `body_length` bytes are the body.
    pub fn with_content(content: &'a [u8], body_length: usize) -> Result<Self, DecodeError> {
        let body_length = u32::try_from(body_length).unwrap_or(u32::MAX);
        let body = split_content(content, body_length, false)?;
        Ok(Self { body, content, ..Self::default() })
    }

    /// Whether there is nothing but the body.
    #[inline]
    fn is_only_body(&self) -> bool {
        self.content.len() == self.body.len() && self.flags() == 0
    }

    /// Whether it asks for nothing but to be stored: perhaps only if the one before it of its group was.
    #[inline]
    pub fn is_without_options(&self) -> bool {
        self.flags() & !SEND_ONLY_IF_PREVIOUS == 0
    }

    /// The body of an entry that has nothing else; `None` where there is more to it, or it is not whole.
    #[inline(always)]
    fn only_body(bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut reader = Reader::new(bytes);
        let mut fixed = reader.fixed(Self::NAME).ok()?;
        let flags = fixed.u16("send entry: flags").ok()?;
        let body_length = fixed.u32("send entry: body_length").ok()?;
        (flags == 0 && body_length as usize == reader.rest.len()).then_some(reader.rest)
    }

    /// Reads an entry that was checked before, and does not look at its fields again.
    #[inline(always)]
    fn read_checked(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut fixed = reader.fixed(Self::NAME)?;
        let flags = fixed.u16("send entry: flags")?;
        let body_length = fixed.u32("send entry: body_length")?;
        let content = reader.rest;
        let body = reader.bytes(body_length as usize, "message body")?;
        let entry = Self { body, content, ..Self::default() };
        if flags == 0 { Ok(entry) } else { entry.with_options(flags, fixed) }
    }

    #[inline]
    fn flags(&self) -> u16 {
        let flag = |is_there, flag| if is_there { flag } else { 0 };
        flag(self.delay_seconds.is_some(), SEND_DELAY)
            | flag(self.priority.is_some(), SEND_PRIORITY)
            | flag(self.own_expiry_ms.is_some(), SEND_OWN_EXPIRY)
            | flag(self.producer.is_some(), SEND_PRODUCER)
            | flag(self.only_if_previous_accepted, SEND_ONLY_IF_PREVIOUS)
    }

    /// Given and returned by value, so that entries without options, which are nearly all, can be kept
    /// in registers.
    #[cold]
    #[inline(never)]
    fn with_options(mut self, flags: u16, mut fixed: Reader<'a>) -> Result<Self, DecodeError> {
        if flags & !SEND_FLAGS_KNOWN != 0 {
            return Err(DecodeError::reserved("send entry: flags", flags, SEND_FLAGS_KNOWN));
        }
        if flags & SEND_DELAY != 0 {
            self.delay_seconds = Some(fixed.u32("send entry: delay_seconds")?);
        }
        if flags & SEND_PRIORITY != 0 {
            self.priority = Some(fixed.u8("send entry: priority")?);
        }
        if flags & SEND_OWN_EXPIRY != 0 {
            self.own_expiry_ms = Some(fixed.u64("send entry: own_expiry_ms")?);
        }
        if flags & SEND_PRODUCER != 0 {
            self.producer = Some(Producer {
                id: fixed.u64("send entry: producer id")?,
                sequence: fixed.u64("send entry: producer sequence")?,
                first_shard: fixed.u16("send entry: producer first_shard")?,
            });
        }
        self.only_if_previous_accepted = flags & SEND_ONLY_IF_PREVIOUS != 0;
        Ok(self)
    }
}

impl<'a> Layout<'a> for SendEntry<'a> {
    const NAME: &'static str = "send entry";

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut fixed = reader.fixed(Self::NAME)?;
        let flags = fixed.u16("send entry: flags")?;
        let body_length = fixed.u32("send entry: body_length")?;
        let body = split_content(reader.rest, body_length, false)?;
        let entry = Self { body, content: reader.rest, ..Self::default() };
        if flags == 0 { Ok(entry) } else { entry.with_options(flags, fixed) }
    }

    /// Most are only a body, and then the whole entry, which is large, need not be made to see that.
    #[inline(always)]
    fn check(bytes: &'a [u8]) -> Result<(), DecodeError> {
        if Self::only_body(bytes).is_some() { Ok(()) } else { Self::read(bytes).map(drop) }
    }

    #[inline]
    fn text_bytes(&self) -> Option<usize> {
        Some(self.content.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_fixed(out, |out| {
            out.extend_from_slice(&self.flags().to_le_bytes());
            out.extend_from_slice(&length_u32(self.body.len()).to_le_bytes());
            if let Some(delay_seconds) = self.delay_seconds {
                out.extend_from_slice(&delay_seconds.to_le_bytes());
            }
            if let Some(priority) = self.priority {
                out.push(priority);
            }
            if let Some(own_expiry_ms) = self.own_expiry_ms {
                out.extend_from_slice(&own_expiry_ms.to_le_bytes());
            }
            if let Some(producer) = self.producer {
                out.extend_from_slice(&producer.id.to_le_bytes());
                out.extend_from_slice(&producer.sequence.to_le_bytes());
                out.extend_from_slice(&producer.first_shard.to_le_bytes());
            }
        });
        out.extend_from_slice(self.content);
    }
}

content_accessors!(SendEntry);

layout! {
    /// Takes up to 10 messages, waiting for one if asked to.
    pub struct ReceiveRequest<'a> as "receive" {
        fixed {
            /// The queue's number.
            queue: u64,
            /// Most messages to take: 1 to 10.
            max: u8,
            /// Flags; none has a meaning yet.
            flags: NoFlags,
            /// How long to wait for a message: 0 to 20,000, or [`QUEUE_DEFAULT`].
            wait_ms: u32,
            /// For how long to hide what is taken: 0 to 43,200, or [`QUEUE_DEFAULT`].
            visibility_seconds: u32,
            /// The receive stops before its reply has more bytes; one message always fits.
            /// [`u32::MAX`] leaves it to the agreed frame limit.
            reply_bytes_max: u32,
        }
        fields {
            /// Receive request attempt id; FIFO queues only.
            1 attempt_id: &'a str,
        }
        check check_receive;
    }
}

fn check_receive(request: &ReceiveRequest<'_>) -> Result<(), DecodeError> {
    check_range("MaxNumberOfMessages", u64::from(request.max), 1, u64::from(BATCH_ENTRIES_MAX))?;
    if request.wait_ms != QUEUE_DEFAULT {
        check_range("wait_ms", u64::from(request.wait_ms), 0, 20_000)?;
    }
    check_visibility(request.visibility_seconds, true)
}

fn check_visibility(seconds: u32, or_default: bool) -> Result<(), DecodeError> {
    if or_default && seconds == QUEUE_DEFAULT {
        return Ok(());
    }
    check_range("VisibilityTimeout", u64::from(seconds), 0, 43_200)
}

#[inline(always)]
fn check_range(what: &'static str, value: u64, minimum: u64, maximum: u64) -> Result<(), DecodeError> {
    if value < minimum || value > maximum {
        let problem = Problem::Range { what, value, minimum, maximum };
        return Err(DecodeError { code: ErrorCode::InvalidParameterValue, problem });
    }
    Ok(())
}

impl ReceiveRequest<'_> {
    /// A receive of up to `max` messages that leaves the rest to the queue.
    pub fn new(queue: u64, max: u8) -> Self {
        Self {
            queue,
            max,
            wait_ms: QUEUE_DEFAULT,
            visibility_seconds: QUEUE_DEFAULT,
            reply_bytes_max: u32::MAX,
            ..Self::default()
        }
    }
}

/// Answers a receive: the messages, maybe none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReceiveReply<'a> {
    /// The messages.
    pub messages: Entries<'a, ReceivedMessage<'a>>,
}

impl<'a> Layout<'a> for ReceiveReply<'a> {
    const NAME: &'static str = "receive reply";

    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.fixed(Self::NAME)?.u16("receive reply: count of messages")?;
        let messages = Entries::take(&mut reader, count)?;
        check_fields(reader.rest, Self::NAME)?;
        Ok(Self { messages })
    }

    fn text_bytes(&self) -> Option<usize> {
        self.messages.text_bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_fixed(out, |out| out.extend_from_slice(&length_u16(self.messages.len()).to_le_bytes()));
        self.messages.write(out);
    }
}

/// What a delivery says beside handle and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceivedFixed {
    /// The message's id.
    pub id: [u8; 16],
    /// Its place in its queue's order; 0 on standard queues.
    pub sequence_number: u64,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// When it was first received, in milliseconds since the Unix epoch.
    pub first_received_at_ms: u64,
    /// How often it has been received, this time included.
    pub receive_count: u32,
}

/// Bytes of a received message's fixed part.
pub(crate) const RECEIVED_FIXED_BYTES: usize = 2 + 16 + 8 + 8 + 8 + 4 + 2 + 4;

/// One message of a receive's reply.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReceivedMessage<'a> {
    /// Id, counts and times.
    pub fixed: ReceivedFixed,
    /// What deletes it or changes its visibility.
    pub handle: &'a [u8],
    /// The body: the front of `content`.
    pub body: &'a [u8],
    /// The body and the optional fields behind it, in one piece.
    pub content: &'a [u8],
}

content_accessors!(ReceivedMessage);

impl<'a> Layout<'a> for ReceivedMessage<'a> {
    const NAME: &'static str = "received message";

    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut part = reader.fixed(Self::NAME)?;
        let flags = part.u16("received message: flags")?;
        if flags != 0 {
            return Err(DecodeError::reserved("received message: flags", flags, 0));
        }
        let fixed = ReceivedFixed {
            id: *part.array("received message: id")?,
            sequence_number: part.u64("received message: sequence_number")?,
            sent_at_ms: part.u64("received message: sent_at_ms")?,
            first_received_at_ms: part.u64("received message: first_received_at_ms")?,
            receive_count: part.u32("received message: receive_count")?,
        };
        let handle_length = part.u16("received message: handle_length")?;
        let body_length = part.u32("received message: body_length")?;
        let handle = reader.bytes(usize::from(handle_length), "received message: handle")?;
        let body = split_content(reader.rest, body_length, true)?;
        Ok(Self { fixed, handle, body, content: reader.rest })
    }

    fn text_bytes(&self) -> Option<usize> {
        Some(short(self.handle.len())? + self.content.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut front = [0; RECEIVED_FRONT_BYTES];
        let lengths = (self.handle.len(), self.content.len(), self.body.len());
        fill_received_front(&mut front, &self.fixed, lengths);
        // The list that this is an entry of has written the entry's length.
        out.extend_from_slice(&front[4..]);
        out.extend_from_slice(self.handle);
        out.extend_from_slice(self.content);
    }
}

/// Bytes of a received message's entry before its handle: lengths of entry and fixed part, and that.
pub(crate) const RECEIVED_FRONT_BYTES: usize = 4 + 2 + RECEIVED_FIXED_BYTES;

/// Fills in a received message's entry before its handle, where zeros are.
#[inline(always)]
pub(crate) fn fill_received_front(
    front: &mut [u8; RECEIVED_FRONT_BYTES],
    fixed: &ReceivedFixed,
    (handle_length, content_length, body_length): (usize, usize, usize),
) {
    let entry_length = RECEIVED_FRONT_BYTES - 4 + handle_length + content_length;
    front[0..4].copy_from_slice(&length_u32(entry_length).to_le_bytes());
    front[4..6].copy_from_slice(&(RECEIVED_FIXED_BYTES as u16).to_le_bytes());
    // Bytes 6 and 7 are flags, of which none has a meaning yet.
    front[8..24].copy_from_slice(&fixed.id);
    front[24..32].copy_from_slice(&fixed.sequence_number.to_le_bytes());
    front[32..40].copy_from_slice(&fixed.sent_at_ms.to_le_bytes());
    front[40..48].copy_from_slice(&fixed.first_received_at_ms.to_le_bytes());
    front[48..52].copy_from_slice(&fixed.receive_count.to_le_bytes());
    front[52..54].copy_from_slice(&length_u16(handle_length).to_le_bytes());
    front[54..58].copy_from_slice(&length_u32(body_length).to_le_bytes());
}

/// A handle as an entry of a delete: its length in the fixed part, then its bytes.
impl<'a> Layout<'a> for &'a [u8] {
    const NAME: &'static str = "handle";

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let length = reader.fixed(Self::NAME)?.u16("handle: length")?;
        let handle = reader.bytes(usize::from(length), "handle")?;
        check_fields(reader.rest, Self::NAME)?;
        Ok(handle)
    }

    #[inline]
    fn text_bytes(&self) -> Option<usize> {
        short(self.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_fixed(out, |out| out.extend_from_slice(&length_u16(self.len()).to_le_bytes()));
        out.extend_from_slice(self);
    }
}

/// The handles of a delete.
pub type Handles<'a> = Entries<'a, &'a [u8]>;

layout! {
    /// Deletes 1 to 10 messages; each has a result of its own.
    pub struct DeleteRequest<'a> as "delete" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// Handles of the messages.
            handles: &'a [u8],
        }
        check check_delete;
    }
}

fn check_delete(request: &DeleteRequest<'_>) -> Result<(), DecodeError> {
    check_batch(request.handles.len())
}

layout! {
    /// Changes for how long 1 to 10 messages stay hidden; each has a result of its own.
    pub struct ChangeVisibilityRequest<'a> as "change visibility" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// Which messages, and for how long.
            entries: ChangeVisibilityEntry<'a>,
        }
        check check_change;
    }
}

fn check_change(request: &ChangeVisibilityRequest<'_>) -> Result<(), DecodeError> {
    check_batch(request.entries.len())
}

layout! {
    /// One message of a visibility change.
    pub struct ChangeVisibilityEntry<'a> as "change visibility entry" {
        fixed {
            /// Seconds from now for which it stays hidden: 0 to 43,200. Out of its range it is refused
            /// in the entry's result, not here.
            visibility_seconds: u32,
        }
        pieces {
            /// The message's handle.
            handle: &'a [u8],
        }
    }
}

layout! {
    /// Looks at messages without taking them.
    pub struct PeekRequest<'a> as "peek" {
        fixed {
            /// The queue's number.
            queue: u64,
            /// Most messages to look at: 1 to 10.
            max: u8,
            /// Only those in the state with this number (see [`MessageState`](crate::MessageState)); 0: all.
            state: u8,
            /// Flags; none has a meaning yet.
            flags: NoFlags,
            /// The reply ends before it has more bytes; one message always fits. [`u32::MAX`] leaves
            /// it to the agreed frame limit.
            reply_bytes_max: u32,
        }
        fields {
            /// Where the reply before this one said to go on.
            1 next: &'a [u8],
        }
        check check_peek;
    }
}

fn check_peek(request: &PeekRequest<'_>) -> Result<(), DecodeError> {
    check_range("MaxNumberOfMessages", u64::from(request.max), 1, u64::from(BATCH_ENTRIES_MAX))
}

layout! {
    /// Answers a peek.
    pub struct PeekReply<'a> as "peek reply" {
        lists {
            /// The messages.
            messages: PeekedMessage<'a>,
        }
        fields {
            /// Where to go on, if there is more.
            1 next: &'a [u8],
        }
    }
}

/// What a look at a message says beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeekedFixed {
    /// The number of its [`MessageState`](crate::MessageState).
    pub state: u8,
    /// Id, counts and times; the first receive is 0 where there was none.
    pub message: ReceivedFixed,
    /// When its state ends by itself (a delay, a visibility timeout), in milliseconds since the Unix
    /// epoch; 0 where it does not.
    pub until_ms: u64,
}

/// One message of a peek's reply.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PeekedMessage<'a> {
    /// State, id, counts and times.
    pub fixed: PeekedFixed,
    /// The body: the front of `content`.
    pub body: &'a [u8],
    /// The body and the optional fields behind it, in one piece; empty where the message is damaged.
    pub content: &'a [u8],
}

content_accessors!(PeekedMessage);

impl<'a> Layout<'a> for PeekedMessage<'a> {
    const NAME: &'static str = "peeked message";

    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut part = reader.fixed(Self::NAME)?;
        let flags = part.u16("peeked message: flags")?;
        if flags != 0 {
            return Err(DecodeError::reserved("peeked message: flags", flags, 0));
        }
        let state = part.u8("peeked message: state")?;
        let message = ReceivedFixed {
            id: *part.array("peeked message: id")?,
            sequence_number: part.u64("peeked message: sequence_number")?,
            sent_at_ms: part.u64("peeked message: sent_at_ms")?,
            first_received_at_ms: part.u64("peeked message: first_received_at_ms")?,
            receive_count: part.u32("peeked message: receive_count")?,
        };
        let until_ms = part.u64("peeked message: until_ms")?;
        let body_length = part.u32("peeked message: body_length")?;
        let body = split_content(reader.rest, body_length, true)?;
        Ok(Self { fixed: PeekedFixed { state, message, until_ms }, body, content: reader.rest })
    }

    fn text_bytes(&self) -> Option<usize> {
        Some(self.content.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_peeked(out, &self.fixed, self.content, self.body.len());
    }
}

pub(crate) fn write_peeked(out: &mut Vec<u8>, fixed: &PeekedFixed, content: &[u8], body_length: usize) {
    write_fixed(out, |out| {
        out.extend_from_slice(&[0; 2]);
        out.push(fixed.state);
        out.extend_from_slice(&fixed.message.id);
        out.extend_from_slice(&fixed.message.sequence_number.to_le_bytes());
        out.extend_from_slice(&fixed.message.sent_at_ms.to_le_bytes());
        out.extend_from_slice(&fixed.message.first_received_at_ms.to_le_bytes());
        out.extend_from_slice(&fixed.message.receive_count.to_le_bytes());
        out.extend_from_slice(&fixed.until_ms.to_le_bytes());
        out.extend_from_slice(&length_u32(body_length).to_le_bytes());
    });
    out.extend_from_slice(content);
}
