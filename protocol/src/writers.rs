//! Writers of the hot replies: they put a frame together entry by entry, straight into the buffer
//! that goes to the socket, and fill in count, length and CRC at the end.

use std::fmt;

use crate::codes::{FLAG_REPLY, Operation};
use crate::error::ErrorCode;
use crate::frame::{HEADER_BYTES, begin_frame, finish_frame, write_text};
use crate::layout::{Layout, length_u16, write_entry, zeros_at_end};
use crate::messages::{PeekedFixed, RECEIVED_FRONT_BYTES, ReceivedFixed, fill_received_front, write_peeked};
use crate::outcomes::{Outcome, SendOutcome};

/// A reply whose fixed part is only the count of one list.
struct ListWriter<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    count: usize,
}

impl<'b> ListWriter<'b> {
    #[inline(always)]
    fn begin(out: &'b mut Vec<u8>, operation: Operation, correlation: u32) -> Self {
        let start = begin_frame(out, operation.number(), FLAG_REPLY, correlation);
        // The fixed part's length and room for the count.
        out.extend_from_slice(&[2, 0, 0, 0]);
        Self { out, start, count: 0 }
    }

    #[inline(always)]
    fn finish(self) {
        let place = self.start + HEADER_BYTES + 2;
        self.out[place..place + 2].copy_from_slice(&length_u16(self.count).to_le_bytes());
        finish_frame(self.out, self.start);
    }
}

/// The length of the broker's handles; others are written as well.
const HANDLE_BYTES_USUAL: usize = 32;

/// Writes the reply to a receive.
pub struct ReceiveReplyWriter<'b>(ListWriter<'b>);

impl<'b> ReceiveReplyWriter<'b> {
    /// Begins the reply at the end of `out`.
    #[inline]
    pub fn begin(out: &'b mut Vec<u8>, correlation: u32) -> Self {
        Self(ListWriter::begin(out, Operation::Receive, correlation))
    }

    /// Adds a message. The first `body_length` bytes of `content` are its body.
    #[inline]
    pub fn push(
        &mut self,
        fixed: &ReceivedFixed,
        handle: &[u8],
        content: &[u8],
        body_length: usize,
    ) -> &mut Self {
        debug_assert!(body_length <= content.len());
        let out = &mut *self.0.out;
        out.reserve(Self::entry_bytes(handle.len(), content.len()));
        fill_received_front(zeros_at_end(out), fixed, (handle.len(), content.len(), body_length));
        match <&[u8; HANDLE_BYTES_USUAL]>::try_from(handle) {
            // A copy whose length is known takes no call.
            Ok(handle) => out.extend_from_slice(handle),
            Err(_) => out.extend_from_slice(handle),
        }
        out.extend_from_slice(content);
        self.0.count += 1;
        self
    }

    /// Bytes that a message adds to the reply.
    pub const fn entry_bytes(handle_length: usize, content_length: usize) -> usize {
        RECEIVED_FRONT_BYTES + handle_length + content_length
    }

    /// Ends the reply.
    #[inline]
    pub fn finish(self) {
        self.0.finish();
    }
}

/// Bytes of a send outcome's fixed part.
const SEND_OUTCOME_FIXED_BYTES: usize = 2 + 16 + 8;

/// Writes the reply to a send.
pub struct SendReplyWriter<'b>(ListWriter<'b>);

impl<'b> SendReplyWriter<'b> {
    /// Begins the reply at the end of `out`.
    #[inline]
    pub fn begin(out: &'b mut Vec<u8>, correlation: u32) -> Self {
        Self(ListWriter::begin(out, Operation::Send, correlation))
    }

    /// The next entry was accepted.
    #[inline]
    pub fn accepted(&mut self, id: [u8; 16], sequence_number: u64) -> &mut Self {
        let entry = zeros_at_end::<{ 4 + 2 + SEND_OUTCOME_FIXED_BYTES }>(self.0.out);
        entry[0..4].copy_from_slice(&(2 + SEND_OUTCOME_FIXED_BYTES as u32).to_le_bytes());
        entry[4..6].copy_from_slice(&(SEND_OUTCOME_FIXED_BYTES as u16).to_le_bytes());
        // Bytes 6 and 7 are the number 0 of success.
        entry[8..24].copy_from_slice(&id);
        entry[24..32].copy_from_slice(&sequence_number.to_le_bytes());
        self.0.count += 1;
        self
    }

    /// The next entry was refused.
    pub fn refused(&mut self, code: ErrorCode, text: impl fmt::Display) -> &mut Self {
        let outcome = SendOutcome { number: code.number(), ..SendOutcome::default() };
        write_entry(self.0.out, |out| {
            outcome.write(out);
            write_text(out, text);
        });
        self.0.count += 1;
        self
    }

    /// Ends the reply.
    #[inline]
    pub fn finish(self) {
        self.0.finish();
    }
}

/// Writes the reply to a delete or a visibility change.
pub struct OutcomeReplyWriter<'b>(ListWriter<'b>);

impl<'b> OutcomeReplyWriter<'b> {
    /// Begins the reply to `operation` (delete or change visibility) at the end of `out`.
    #[inline]
    pub fn begin(out: &'b mut Vec<u8>, operation: Operation, correlation: u32) -> Self {
        debug_assert!(matches!(operation, Operation::Delete | Operation::ChangeVisibility));
        Self(ListWriter::begin(out, operation, correlation))
    }

    /// The next entry succeeded.
    #[inline]
    pub fn succeeded(&mut self) -> &mut Self {
        // Entry's length, fixed part's length, and the number 0 of success.
        self.0.out.extend_from_slice(&[4, 0, 0, 0, 2, 0, 0, 0]);
        self.0.count += 1;
        self
    }

    /// The next entry was refused.
    pub fn refused(&mut self, code: ErrorCode, text: impl fmt::Display) -> &mut Self {
        let outcome = Outcome { number: code.number(), text: None };
        write_entry(self.0.out, |out| {
            outcome.write(out);
            write_text(out, text);
        });
        self.0.count += 1;
        self
    }

    /// Ends the reply.
    #[inline]
    pub fn finish(self) {
        self.0.finish();
    }
}

/// Writes the reply to a peek.
pub struct PeekReplyWriter<'b>(ListWriter<'b>);

impl<'b> PeekReplyWriter<'b> {
    /// Begins the reply at the end of `out`.
    pub fn begin(out: &'b mut Vec<u8>, correlation: u32) -> Self {
        Self(ListWriter::begin(out, Operation::Peek, correlation))
    }

    /// Adds a message. The first `body_length` bytes of `content` are its body.
    pub fn push(&mut self, fixed: &PeekedFixed, content: &[u8], body_length: usize) -> &mut Self {
        debug_assert!(body_length <= content.len());
        write_entry(self.0.out, |out| write_peeked(out, fixed, content, body_length));
        self.0.count += 1;
        self
    }

    /// Ends the reply; `next` says where a further peek goes on, if there is more.
    pub fn finish(self, next: Option<&[u8]>) {
        if let Some(next) = next {
            crate::layout::write_field(self.0.out, 1, next);
        }
        self.0.finish();
    }
}
