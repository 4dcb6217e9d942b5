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

    /// Whether the broker has no room for it now, as when more is sent than it can do.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        matches!(self.code, Some(ErrorCode::StorageFull | ErrorCode::TooManyRequests))
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

/// A message to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// Its body.
    pub(crate) body: &'a [u8],
    /// Its delay; the queue's where it is not given.
    pub(crate) delay_seconds: Option<u32>,
    /// The number of its group, on a FIFO queue.
    pub(crate) group: Option<u64>,
}

impl<'a> Outgoing<'a> {
    /// A body and nothing else.
    pub(crate) fn of(body: &'a [u8]) -> Self {
        Outgoing { body, delay_seconds: None, group: None }
    }
}

/// Appends a send of messages, at most ten.
pub(crate) fn write_send<'a>(
    out: &mut Vec<u8>,
    correlation: u32,
    queue: u64,
    messages: impl Iterator<Item = Outgoing<'a>>,
) {
    let mut entries = [SendEntry::default(); BATCH_MAX];
    let mut count = 0;
    for (entry, message) in entries.iter_mut().zip(messages) {
        *entry = SendEntry { delay_seconds: message.delay_seconds, ..SendEntry::new(message.body) };
        count += 1;
    }
    Request::Send(SendRequest { queue, entries: Entries::of(&entries[..count]) }).encode(correlation, out);
}

/// Appends a send to a FIFO queue: messages, at most ten, each under a deduplication id of its own, which
/// is made from the body's first bytes.
pub(crate) fn write_fifo_send<'a>(
    out: &mut Vec<u8>,
    correlation: u32,
    queue: u64,
    messages: impl Iterator<Item = Outgoing<'a>>,
) {
    let mut bytes = Vec::with_capacity(BATCH_MAX * 256);
    let mut ends = [(0, 0, 0); BATCH_MAX];
    let mut count = 0;
    for (end, message) in ends.iter_mut().zip(messages) {
        let begin = bytes.len();
        let (mut digits, mut name) = ([0; 2 * ID_BYTES], [0; 20]);
        let id = hexadecimal(&message.body[..message.body.len().min(ID_BYTES)], &mut digits);
        let group = decimal(message.group.unwrap_or_default(), &mut name);
        let fields = ContentFields { group: Some(group), deduplication_id: Some(id), ..Default::default() };
        write_content(&mut bytes, message.body, &fields);
        *end = (begin, bytes.len(), message.body.len());
        count += 1;
    }
    let mut entries = [SendEntry::default(); BATCH_MAX];
    for (entry, (begin, end, body_bytes)) in entries.iter_mut().zip(&ends[..count]) {
        *entry = SendEntry::with_content(&bytes[*begin..*end], *body_bytes)
            .expect("what was just written can be read");
    }
    Request::Send(SendRequest { queue, entries: Entries::of(&entries[..count]) }).encode(correlation, out);
}

fn hexadecimal<'a>(bytes: &[u8], digits: &'a mut [u8; 2 * ID_BYTES]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(&digits[..2 * bytes.len()]).unwrap_or_default()
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[begin..]).unwrap_or_default();
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        let mut digits = [0; 20];
        for number in [0, 7, 10, 1_234, u64::MAX] {
            assert_eq!(decimal(number, &mut digits), number.to_string());
        }
        assert_eq!(hexadecimal(&[0x00, 0xaf], &mut [0; 2 * ID_BYTES]), "00af");
    }
}
