//! The few frames that load consists of, written into a buffer and read from one without allocating.

use std::fmt;

use tenpin_protocol::{
    ContentFields, DeleteRequest, Entries, EntriesIter, ErrorCode, ErrorFrame, Frame, Outcome, QUEUE_DEFAULT,
    ReceiveRequest, ReceivedMessage, Request, Response, SendEntry, SendOutcome, SendRequest, write_content,
};

use crate::client::ClientError;

/// Most entries in a batch.
pub(crate) const BATCH_MAX: usize = tenpin_protocol::BATCH_ENTRIES_MAX as usize;

/// Bytes of a body that tell it from all others.
const ID_BYTES: usize = 24;

/// How to receive.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// Most messages: 1 to 10.
    pub messages_max: u8,
    /// How long to wait for one.
    pub wait_ms: u32,
    /// For how long to hide them; the queue's own timeout where it is not given.
    pub visibility_seconds: Option<u32>,
}

/// A request, or an entry of one, that the broker did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error's number.
    pub number: u16,
    /// Its code, where this version knows it.
    pub code: Option<ErrorCode>,
    /// What the broker says about it.
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(number: u16, text: &str) -> Self {
        Refusal { number, code: ErrorCode::from_number(number), text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(formatter, "{code}: {}", self.text),
            None => write!(formatter, "error {}: {}", self.number, self.text),
        }
    }
}

/// Appends a send of bodies, at most ten.
pub(crate) fn write_send<'a>(
    out: &mut Vec<u8>,
    correlation: u32,
    queue: u64,
    bodies: impl Iterator<Item = &'a [u8]>,
) {
    let mut entries = [SendEntry::default(); BATCH_MAX];
    let mut count = 0;
    for (entry, body) in entries.iter_mut().zip(bodies) {
        *entry = SendEntry::new(body);
        count += 1;
    }
    Request::Send(SendRequest { queue, entries: Entries::of(&entries[..count]) }).encode(correlation, out);
}

/// Appends a send to a FIFO queue: bodies, at most ten, each to a group and under a deduplication id of
/// its own, which is made from the body's first bytes.
pub(crate) fn write_fifo_send<'a>(
    out: &mut Vec<u8>,
    correlation: u32,
    queue: u64,
    bodies: impl Iterator<Item = (&'a [u8], u64)>,
) {
    let contents: Vec<(Vec<u8>, usize)> = bodies
        .take(BATCH_MAX)
        .map(|(body, group)| {
            let group = format!("group-{group}");
            let id: String = body.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
            let fields =
                ContentFields { group: Some(&group), deduplication_id: Some(&id), ..Default::default() };
            let mut content = Vec::with_capacity(body.len() + 128);
            write_content(&mut content, body, &fields);
            (content, body.len())
        })
        .collect();
    let entries: Vec<SendEntry<'_>> = contents
        .iter()
        .filter_map(|(content, body_bytes)| SendEntry::with_content(content, *body_bytes).ok())
        .collect();
    Request::Send(SendRequest { queue, entries: Entries::of(&entries) }).encode(correlation, out);
}

/// Appends a receive.
pub(crate) fn write_receive(out: &mut Vec<u8>, correlation: u32, queue: u64, receive: Receive) {
    let request = ReceiveRequest {
        wait_ms: receive.wait_ms,
        visibility_seconds: receive.visibility_seconds.unwrap_or(QUEUE_DEFAULT),
        ..ReceiveRequest::new(queue, receive.messages_max)
    };
    Request::Receive(request).encode(correlation, out);
}

/// Appends a delete by handles, at most ten.
pub(crate) fn write_delete(out: &mut Vec<u8>, correlation: u32, queue: u64, handles: &[&[u8]]) {
    Request::Delete(DeleteRequest { queue, handles: Entries::of(handles) }).encode(correlation, out);
}

/// A reply to one of these.
pub(crate) enum Reply<'a> {
    Sent(EntriesIter<'a, SendOutcome<'a>>),
    Received(EntriesIter<'a, ReceivedMessage<'a>>),
    Outcomes(EntriesIter<'a, Outcome<'a>>),
    Refused(Refusal),
    Other(Response<'a>),
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Sent(_) => formatter.write_str("a send's reply"),
            Reply::Received(_) => formatter.write_str("a receive's reply"),
            Reply::Outcomes(_) => formatter.write_str("a reply with outcomes"),
            Reply::Refused(refusal) => write!(formatter, "{refusal}"),
            Reply::Other(response) => write!(formatter, "{response:?}"),
        }
    }
}

/// Reads a frame from the broker.
#[inline]
pub(crate) fn read_reply<'a>(frame: &Frame<'a>) -> Result<Reply<'a>, ClientError> {
    let response = Response::decode(frame).map_err(|error| ClientError::Protocol(error.to_string()))?;
    Ok(match response {
        Response::Send(reply) => Reply::Sent(reply.outcomes.iter()),
        Response::Receive(reply) => Reply::Received(reply.messages.iter()),
        Response::Delete(reply) | Response::ChangeVisibility(reply) => Reply::Outcomes(reply.outcomes.iter()),
        Response::Error(ErrorFrame { number, text, .. }) => {
            Reply::Refused(Refusal::new(number, text.unwrap_or_default()))
        }
        other => Reply::Other(other),
    })
}

/// What became of a message that was sent: its id, or why it was refused.
#[inline]
pub(crate) fn send_outcome(outcome: &SendOutcome<'_>) -> Result<[u8; 16], Refusal> {
    if outcome.is_success() {
        Ok(outcome.id)
    } else {
        Err(Refusal::new(outcome.number, outcome.text.unwrap_or_default()))
    }
}

/// What became of an entry of a delete or a visibility change.
#[inline]
pub(crate) fn outcome(outcome: &Outcome<'_>) -> Result<(), Refusal> {
    if outcome.is_success() {
        Ok(())
    } else {
        Err(Refusal::new(outcome.number, outcome.text.unwrap_or_default()))
    }
}
