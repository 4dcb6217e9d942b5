//! A codec for clients on tokio: frames in and out of a byte stream.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::error::DecodeError;
use crate::frame::{
    FRAME_BYTES_MAX_LEAST, Frame, FrameError, HEADER_BYTES, frame_bytes, split_frame, split_header,
};
use crate::operations::{Request, Response};

/// What is kept of the encoder's scratch space between frames.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

/// Cuts a stream into frames whose CRC is right, and puts requests and responses into one.
///
/// A frame that cannot be read ends the stream: nothing after it can be trusted.
#[derive(Debug)]
pub struct FrameCodec {
    frame_bytes_max: usize,
    scratch: Vec<u8>,
}

impl FrameCodec {
    /// A codec with the limit that holds before anything else is agreed on.
    pub fn new() -> Self {
        Self { frame_bytes_max: FRAME_BYTES_MAX_LEAST, scratch: Vec::new() }
    }

    /// Sets the limit that hello has agreed on.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    fn encode_scratch(
        &mut self,
        out: &mut BytesMut,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), CodecError> {
        self.scratch.clear();
        encode(&mut self.scratch);
        let frame_bytes = self.scratch.len();
        let fits = frame_bytes <= self.frame_bytes_max;
        if fits {
            out.extend_from_slice(&self.scratch);
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        if fits {
            return Ok(());
        }
        Err(CodecError::Frame(FrameError::TooLarge { frame_bytes, frame_bytes_max: self.frame_bytes_max }))
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame that owns its bytes; cloning it copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    bytes: Bytes,
}

impl OwnedFrame {
    /// The frame, borrowed.
    pub fn frame(&self) -> Frame<'_> {
        let (header, payload) = self.bytes.split_at(HEADER_BYTES);
        let header = header.try_into().expect("split where the header ends");
        split_header(header, payload)
    }

    /// What ties a reply to its request.
    pub fn correlation(&self) -> u32 {
        self.frame().correlation
    }

    /// The response in it.
    pub fn response(&self) -> Result<Response<'_>, DecodeError> {
        Response::decode(&self.frame())
    }

    /// The request in it.
    pub fn request(&self) -> Result<Request<'_>, DecodeError> {
        Request::decode(&self.frame())
    }

    /// All its bytes, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Decoder for FrameCodec {
    type Item = OwnedFrame;
    type Error = CodecError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<OwnedFrame>, CodecError> {
        match split_frame(input, self.frame_bytes_max) {
            Ok(Some((_, consumed))) => Ok(Some(OwnedFrame { bytes: input.split_to(consumed).freeze() })),
            Ok(None) => {
                // The length, once there, is within the limit here.
                let wanted = frame_bytes(input).unwrap_or(HEADER_BYTES);
                input.reserve(wanted.saturating_sub(input.len()));
                Ok(None)
            }
            Err(error) => Err(CodecError::Frame(error)),
        }
    }
}

impl Encoder<(u32, &Request<'_>)> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, item: (u32, &Request<'_>), out: &mut BytesMut) -> Result<(), CodecError> {
        let (correlation, request) = item;
        self.encode_scratch(out, |scratch| request.encode(correlation, scratch))
    }
}

impl Encoder<(u32, &Response<'_>)> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, item: (u32, &Response<'_>), out: &mut BytesMut) -> Result<(), CodecError> {
        let (correlation, response) = item;
        self.encode_scratch(out, |scratch| response.encode(correlation, scratch))
    }
}

/// Why a stream of frames ended, or why a frame did not get into one.
#[derive(Debug)]
pub enum CodecError {
    /// The stream failed.
    Io(io::Error),
    /// Its bytes are no frame, or what was to be encoded is over the limit.
    Frame(FrameError),
}

impl fmt::Display for CodecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "The connection failed: {error}"),
            Self::Frame(error) => fmt::Display::fmt(error, formatter),
        }
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Frame(error) => Some(error),
        }
    }
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
