//! What goes over Tenpin's wire: frames, operations and errors, with no I/O and no clock.
//!
//! Reading borrows from the bytes that came and allocates nothing; writing appends to a buffer of
//! the caller's. The broker takes a frame from its input with [`split_frame`], turns it into a
//! [`Request`], and answers with a [`Response`], an [`ErrorFrame`], or one of the writers that put a
//! batch of results together entry by entry. A client does the opposite. The README beside this
//! crate specifies every byte.

#[cfg(feature = "codec")]
mod codec;
mod codes;
mod content;
mod error;
mod frame;
mod hello;
mod layout;
mod messages;
mod operations;
mod outcomes;
mod queues;
mod writers;

#[cfg(feature = "codec")]
pub use codec::{CodecError, FrameCodec, OwnedFrame};
pub use codes::*;
pub use content::{ContentFields, UserAttribute, UserAttributes, write_content};
pub use error::{DecodeError, ERROR_TEXT_BYTES_MAX, ErrorCode, Problem};
pub use frame::{
    ErrorFrame, FRAME_BYTES_MAX_BEFORE_HELLO, FRAME_BYTES_MAX_LEAST, Frame, FrameError, HEADER_BYTES,
    PREFIX_BYTES, begin_frame, finish_frame, frame_bytes, split_frame,
};
pub use hello::{Authenticate, AuthenticateReply, Goodbye, Hello, HelloReply, Ping, ShardInfo};
pub use layout::{Entries, EntriesIter, FIELD_HEADER_BYTES, Fields, Layout, NoFlags, write_field};
pub use messages::{
    ChangeVisibilityEntry, ChangeVisibilityRequest, DeleteRequest, Handles, PeekReply, PeekRequest,
    PeekedFixed, PeekedMessage, Producer, ReceiveReply, ReceiveRequest, ReceivedFixed, ReceivedMessage,
    SendEntries, SendEntry, SendRequest,
};
pub use operations::{Request, Response};
pub use outcomes::{Done, Outcome, OutcomeReply, SendOutcome, SendReply};
pub use queues::*;
pub use writers::{OutcomeReplyWriter, PeekReplyWriter, ReceiveReplyWriter, SendReplyWriter};

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
