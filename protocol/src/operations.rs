//! All requests and all responses, each by its operation.

use crate::codes::{FLAG_ERROR, FLAG_REPLY, FLAGS_KNOWN, Operation, VERSION};
use crate::error::{DecodeError, ErrorCode, Problem};
use crate::frame::{ErrorFrame, Frame, write_frame};
use crate::hello::{Authenticate, AuthenticateReply, Goodbye, Hello, HelloReply, Ping};
use crate::layout::Layout;
use crate::messages::{
    ChangeVisibilityRequest, DeleteRequest, PeekReply, PeekRequest, ReceiveReply, ReceiveRequest, SendRequest,
};
use crate::outcomes::{Done, OutcomeReply, SendReply};
use crate::queues::*;

/// What is longer is not encoded: lengths of 32 bits can say more than this with all that stands around it.
const FRAME_BYTES_MOST: usize = 1 << 30;

macro_rules! operations {
    ($($operation:ident: $request:ty => $response:ty;)*) => {
        /// A request, decoded from a frame or to be encoded into one.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Request<'a> {
            $(#[doc = concat!("[`Operation::", stringify!($operation), "`]")] $operation($request),)*
        }

        impl<'a> Request<'a> {
            /// Reads a request. The frame's flags, version, operation and correlation id are judged
            /// here too; everything is checked, so that walking what comes out never fails.
            #[inline]
            pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
                let operation = check_header(frame, 0)?;
                if frame.correlation == 0 {
                    return Err(DecodeError::malformed(Problem::CorrelationZero));
                }
                match operation {
                    $(Operation::$operation => Ok(Self::$operation(Layout::read(frame.payload)?)),)*
                }
            }

            /// Whether it can be encoded, and its texts and byte strings have so many bytes at most: what
            /// stands around them is not counted. It looks at lengths only.
            pub fn fits(&self, frame_bytes_max: usize) -> bool {
                let bytes = match self { $(Self::$operation(payload) => payload.text_bytes(),)* };
                bytes.is_some_and(|bytes| bytes <= frame_bytes_max.min(FRAME_BYTES_MOST))
            }

            /// Appends the request's frame. Its bytes are those that it was decoded from, but for
            /// fields that this version does not know.
            ///
            /// # Panics
            ///
            /// If a short text or byte string (all but bodies and attributes' values) has 64 KiB or
            /// more, or a list as many entries; never where it [fits](Self::fits).
            pub fn encode(&self, correlation: u32, out: &mut Vec<u8>) {
                match self {
                    $(Self::$operation(payload) => {
                        write_frame(out, Operation::$operation.number(), 0, correlation, payload);
                    })*
                }
            }

            /// Its operation.
            pub const fn operation(&self) -> Operation {
                match self { $(Self::$operation(_) => Operation::$operation,)* }
            }
        }

        $(impl<'a> From<$request> for Request<'a> {
            fn from(payload: $request) -> Self {
                Self::$operation(payload)
            }
        })*

        /// A response, decoded from a frame or to be encoded into one.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Response<'a> {
            $(#[doc = concat!("Answers [`Operation::", stringify!($operation), "`].")] $operation($response),)*
            /// The request failed as a whole, or the broker closes the connection and says why.
            Error(ErrorFrame<'a>),
        }

        impl<'a> Response<'a> {
            /// Reads a response; its frame's header is judged here too.
            #[inline]
            pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
                if frame.flags & FLAG_ERROR != 0 {
                    check_flags_and_version(frame, FLAG_REPLY)?;
                    return Ok(Self::Error(ErrorFrame::decode(frame)?));
                }
                match check_header(frame, FLAG_REPLY)? {
                    $(Operation::$operation => Ok(Self::$operation(Layout::read(frame.payload)?)),)*
                }
            }

            /// Appends the response's frame. Its bytes are those that it was decoded from, but for
            /// fields that this version does not know.
            ///
            /// # Panics
            ///
            /// If a short text or byte string (all but bodies and attributes' values) has 64 KiB or
            /// more, or a list as many entries.
            pub fn encode(&self, correlation: u32, out: &mut Vec<u8>) {
                match self {
                    $(Self::$operation(payload) => {
                        write_frame(out, Operation::$operation.number(), FLAG_REPLY, correlation, payload);
                    })*
                    Self::Error(error) => error.write(correlation, out),
                }
            }

            /// Its operation, if it is not an error.
            pub const fn operation(&self) -> Option<Operation> {
                match self {
                    $(Self::$operation(_) => Some(Operation::$operation),)*
                    Self::Error(_) => None,
                }
            }
        }
    };
}

operations! {
    Hello: Hello<'a> => HelloReply<'a>;
    Open: OpenRequest<'a> => QueueOpened;
    Authenticate: Authenticate<'a> => AuthenticateReply<'a>;
    Send: SendRequest<'a> => SendReply<'a>;
    Receive: ReceiveRequest<'a> => ReceiveReply<'a>;
    Delete: DeleteRequest<'a> => OutcomeReply<'a>;
    ChangeVisibility: ChangeVisibilityRequest<'a> => OutcomeReply<'a>;
    Peek: PeekRequest<'a> => PeekReply<'a>;
    CreateQueue: CreateQueueRequest<'a> => QueueOpened;
    DeleteQueue: DeleteQueueRequest => Done;
    ListQueues: ListQueuesRequest<'a> => QueuesReply<'a>;
    GetAttributes: GetAttributesRequest<'a> => AttributesReply<'a>;
    SetAttributes: SetAttributesRequest<'a> => Done;
    TagQueue: TagQueueRequest<'a> => Done;
    UntagQueue: UntagQueueRequest<'a> => Done;
    ListTags: ListTagsRequest => TagsReply<'a>;
    AddPermission: AddPermissionRequest<'a> => Done;
    RemovePermission: RemovePermissionRequest<'a> => Done;
    Purge: PurgeRequest => Done;
    ListDeadLetterSources: ListDeadLetterSourcesRequest<'a> => QueuesReply<'a>;
    StartMoveTask: StartMoveTaskRequest => MoveTaskStarted<'a>;
    CancelMoveTask: CancelMoveTaskRequest<'a> => MoveTaskCancelled;
    ListMoveTasks: ListMoveTasksRequest => MoveTasksReply<'a>;
    Stats: StatsRequest => StatsReply<'a>;
    Ping: Ping<'a> => Ping<'a>;
    Goodbye: Goodbye<'a> => Done;
}

#[inline]
fn check_header(frame: &Frame<'_>, direction: u16) -> Result<Operation, DecodeError> {
    check_flags_and_version(frame, direction)?;
    match Operation::from_number(frame.operation) {
        Some(operation) => Ok(operation),
        None => {
            let problem = Problem::Operation { operation: frame.operation };
            Err(DecodeError { code: ErrorCode::UnknownOperation, problem })
        }
    }
}

#[inline]
fn check_flags_and_version(frame: &Frame<'_>, direction: u16) -> Result<(), DecodeError> {
    if frame.version != VERSION {
        let problem = Problem::Version { version: frame.version };
        return Err(DecodeError { code: ErrorCode::UnsupportedVersion, problem });
    }
    if frame.flags & !FLAGS_KNOWN != 0 {
        return Err(DecodeError::reserved("the header's flags", frame.flags, FLAGS_KNOWN));
    }
    let error_in_request = direction == 0 && frame.flags & FLAG_ERROR != 0;
    if frame.flags & FLAG_REPLY != direction || error_in_request {
        return Err(DecodeError::malformed(Problem::Direction { operation: frame.operation }));
    }
    Ok(())
}
