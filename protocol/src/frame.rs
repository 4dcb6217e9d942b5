//! Frames: finding them in a stream of bytes, and putting them around a payload.
//!
//! A frame is a header of 16 bytes and a payload. The first 8 bytes, length and CRC-32, cover all that
//! follows them. The header's layout is the same in all versions.

use std::fmt;
use std::io::Write as _;

use crate::codes::{FLAG_ERROR, FLAG_REPLY, VERSION};
use crate::error::{ERROR_TEXT_BYTES_MAX, ErrorCode};
use crate::layout;
use crate::layout::{Layout, write_fixed, zeros_at_end};
use crate::outcomes::Outcome;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;

/// Bytes of length and CRC, which the length does not count and the CRC does not cover.
pub const PREFIX_BYTES: usize = 8;

/// Longest hello that a client may send; a broker need not take a longer frame before it has answered
/// one.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 4096;

/// The least frame limit that a hello can agree on: a batch or a message at the limit of 1 MiB fits
/// with all that stands around it. Who wants less gets this.
pub const FRAME_BYTES_MAX_LEAST: usize = (1 << 20) + (64 << 10);

/// One frame, whole and with the right CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Version of the protocol.
    pub version: u8,
    /// Code of the operation.
    pub operation: u8,
    /// Flags.
    pub flags: u16,
    /// What ties a reply to its request.
    pub correlation: u32,
    /// What stands behind the header.
    pub payload: &'a [u8],
}

/// Why bytes are no frame. The stream cannot be read further: the connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length is less than a header has.
    TooShort {
        /// Bytes of the whole frame, by its length.
        frame_bytes: usize,
    },
    /// The length is over the limit.
    TooLarge {
        /// Bytes of the whole frame, by its length.
        frame_bytes: usize,
        /// The limit.
        frame_bytes_max: usize,
    },
    /// The bytes do not match the CRC.
    Crc {
        /// What the frame says.
        stated: u32,
        /// What its bytes give.
        computed: u32,
    },
}

impl FrameError {
    /// The code of the error frame to answer with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooShort { .. } => ErrorCode::BadFrame,
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::Crc { .. } => ErrorCode::CrcMismatch,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { frame_bytes } => {
                write!(formatter, "A frame of {frame_bytes} bytes is shorter than a header ({HEADER_BYTES}).")
            }
            Self::TooLarge { frame_bytes, frame_bytes_max } => {
                write!(formatter, "A frame of {frame_bytes} bytes is longer than agreed ({frame_bytes_max}).")
            }
            Self::Crc { stated, computed } => {
                write!(formatter, "The frame states the CRC {stated:#010x}, its bytes give {computed:#010x}.")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Takes the first frame from `bytes`, with the number of bytes it has in all.
///
/// `None` means that more bytes are needed. `frame_bytes_max` counts the whole frame, header
/// included. Only length and CRC are judged here: flags, version and operation are the business of
/// [`Request::decode`](crate::Request::decode) and [`Response::decode`](crate::Response::decode).
#[inline(always)]
pub fn split_frame(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(frame_bytes) = frame_bytes(bytes) else {
        return Ok(None);
    };
    if frame_bytes > frame_bytes_max {
        return Err(FrameError::TooLarge { frame_bytes, frame_bytes_max });
    }
    if frame_bytes < HEADER_BYTES {
        return Err(FrameError::TooShort { frame_bytes });
    }
    let Some((frame, _)) = bytes.split_at_checked(frame_bytes) else {
        return Ok(None);
    };
    let Some((header, payload)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        // A frame has a header's bytes at least.
        return Ok(None);
    };
    let stated = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let computed = crc32fast::hash(&frame[PREFIX_BYTES..]);
    if stated != computed {
        return Err(FrameError::Crc { stated, computed });
    }
    Ok(Some((split_header(header, payload), frame_bytes)))
}

/// A frame by its header and what stands behind that.
#[inline(always)]
pub(crate) fn split_header<'a>(header: &[u8; HEADER_BYTES], payload: &'a [u8]) -> Frame<'a> {
    let &[_, _, _, _, _, _, _, _, version, operation, f0, f1, k0, k1, k2, k3] = header;
    let flags = u16::from_le_bytes([f0, f1]);
    let correlation = u32::from_le_bytes([k0, k1, k2, k3]);
    Frame { version, operation, flags, correlation, payload }
}

/// Bytes of the whole frame that `bytes` begin with, by its length, as soon as that is there: how
/// much to gather before [`split_frame`] can take it. The length is not judged here.
#[inline]
pub fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk::<4>()?;
    // Saturates only where a usize has 32 bits, and then the limit is passed all the same.
    Some((u32::from_le_bytes(*length) as usize).saturating_add(PREFIX_BYTES))
}

/// Appends a header whose length and CRC [`finish_frame`] fills in; gives the frame's place.
#[inline]
pub fn begin_frame(out: &mut Vec<u8>, operation: u8, flags: u16, correlation: u32) -> usize {
    let start = out.len();
    let header = zeros_at_end::<HEADER_BYTES>(out);
    header[8] = VERSION;
    header[9] = operation;
    header[10..12].copy_from_slice(&flags.to_le_bytes());
    header[12..16].copy_from_slice(&correlation.to_le_bytes());
    start
}

/// Ends the frame that began at `start`: fills in its length and CRC.
#[inline]
pub fn finish_frame(out: &mut [u8], start: usize) {
    let frame = &mut out[start..];
    let length = layout::length_u32(frame.len() - PREFIX_BYTES);
    let crc = crc32fast::hash(&frame[PREFIX_BYTES..]);
    frame[0..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a whole frame around a payload.
pub(crate) fn write_frame<'a>(
    out: &mut Vec<u8>,
    operation: u8,
    flags: u16,
    correlation: u32,
    payload: &impl Layout<'a>,
) {
    let start = begin_frame(out, operation, flags, correlation);
    payload.write(out);
    finish_frame(out, start);
}

/// An error frame: the answer to a request that failed as a whole, or to bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorFrame<'a> {
    /// The operation of the request; 0 where there was none to read.
    pub operation: u8,
    /// The number of the [`ErrorCode`]; a newer broker may have more of them.
    pub number: u16,
    /// What is wrong, for people.
    pub text: Option<&'a str>,
}

/// Tag of the text in error frames and in entries that say why something was refused.
pub(crate) const TAG_TEXT: u8 = 1;

impl<'a> ErrorFrame<'a> {
    /// The code, where this version knows it.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.number)
    }

    /// Appends an error frame; a text over [`ERROR_TEXT_BYTES_MAX`] is cut.
    pub fn encode(
        out: &mut Vec<u8>,
        operation: u8,
        correlation: u32,
        code: ErrorCode,
        text: impl fmt::Display,
    ) {
        let start = begin_frame(out, operation, FLAG_REPLY | FLAG_ERROR, correlation);
        write_fixed(out, |out| out.extend_from_slice(&code.number().to_le_bytes()));
        write_text(out, text);
        finish_frame(out, start);
    }

    /// Appends the frame as it is, for bytes that are to be the same again.
    pub(crate) fn write(&self, correlation: u32, out: &mut Vec<u8>) {
        let outcome = Outcome { number: self.number, text: self.text };
        write_frame(out, self.operation, FLAG_REPLY | FLAG_ERROR, correlation, &outcome);
    }

    pub(crate) fn decode(frame: &Frame<'a>) -> Result<Self, crate::error::DecodeError> {
        let outcome = Outcome::read(frame.payload)?;
        Ok(Self { operation: frame.operation, number: outcome.number, text: outcome.text })
    }
}

/// Appends a text as an optional field, cut at [`ERROR_TEXT_BYTES_MAX`].
pub(crate) fn write_text(out: &mut Vec<u8>, text: impl fmt::Display) {
    let start = out.len();
    layout::write_field(out, TAG_TEXT, &[]);
    let text_start = out.len();
    write!(Bounded { out, left: ERROR_TEXT_BYTES_MAX }, "{text}").ok();
    let mut text_bytes = out.len() - text_start;
    if let Err(error) = std::str::from_utf8(&out[text_start..]) {
        text_bytes = error.valid_up_to();
        out.truncate(text_start + text_bytes);
    }
    out[start + 1..text_start].copy_from_slice(&layout::length_u32(text_bytes).to_le_bytes());
}

/// Takes so many bytes and drops the rest.
struct Bounded<'b> {
    out: &'b mut Vec<u8>,
    left: usize,
}

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.left);
        self.out.extend_from_slice(&bytes[..taken]);
        self.left -= taken;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
