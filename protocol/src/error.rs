//! Every error that the protocol can say, in one table, and what is wrong with a frame that cannot
//! be read.

use std::fmt;

/// Longest text of an error in a frame; a longer one is cut at a character's boundary.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

macro_rules! errors {
    ($($(#[$about:meta])* $name:ident = $number:literal, $sqs:literal, $query:literal, $status:literal, $text:literal;)*) => {
        /// Why something was refused. The number is what the wire carries; 0 means success.
        ///
        /// ```
        /// use tenpin_protocol::ErrorCode;
        /// let code = ErrorCode::from_number(ErrorCode::QueueDoesNotExist.number());
        /// assert_eq!(code.map(ErrorCode::text), Some("The specified queue does not exist."));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$about])* #[doc = ""] #[doc = concat!("\"", $text, "\"")] $name = $number,)*
        }

        impl ErrorCode {
            /// All of them, by rising number.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// The code with this number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name in this protocol.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its name in the JSON protocol of SQS.
            pub const fn sqs_name(self) -> &'static str {
                match self { $(Self::$name => $sqs,)* }
            }

            /// Its code in the older query protocol of SQS.
            pub const fn query_code(self) -> &'static str {
                match self { $(Self::$name => $query,)* }
            }

            /// The status it has over HTTP.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What it says where there is nothing more exact to say.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

errors! {
    /// A frame's length or the layout of its payload is wrong; the connection closes.
    BadFrame = 1, "InvalidParameterValueException", "InvalidParameterValue", 400, "The frame is malformed.";
    /// A frame's bytes do not match its CRC-32; the connection closes.
    CrcMismatch = 2, "InvalidParameterValueException", "InvalidParameterValue", 400, "The frame does not match its CRC.";
    /// A frame is longer than the limit that was agreed on; the connection closes.
    FrameTooLarge = 3, "InvalidParameterValueException", "InvalidParameterValue", 400, "The frame is longer than agreed.";
    /// The header names a version that was not agreed on, or a hello a range without ours; the connection closes.
    UnsupportedVersion = 4, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400, "The protocol version is not supported.";
    /// No operation has this code.
    UnknownOperation = 5, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400, "The operation is unknown.";
    /// A bit is set that has no meaning yet.
    ReservedBits = 6, "InvalidParameterValueException", "InvalidParameterValue", 400, "A reserved bit is set.";
    /// The first frame was not a hello, or a hello came again; the connection closes.
    HelloRequired = 7, "InvalidParameterValueException", "InvalidParameterValue", 400, "A connection begins with one hello.";
    /// No hello arrived in time; the connection closes.
    HandshakeTimeout = 8, "RequestThrottled", "RequestThrottled", 403, "No hello arrived in time.";
    /// Nothing arrived for longer than the keep-alive time; the connection closes.
    KeepAliveTimeout = 9, "RequestThrottled", "RequestThrottled", 403, "Nothing arrived within the keep-alive time.";
    /// The client did not read its replies; the connection closes.
    SlowReader = 10, "RequestThrottled", "RequestThrottled", 403, "Replies were not read in time.";
    /// The broker is shutting down; the connection closes.
    ShuttingDown = 11, "ServiceUnavailable", "ServiceUnavailable", 503, "The broker is shutting down.";
    /// More requests at once than the broker allows.
    TooManyRequests = 12, "RequestThrottled", "RequestThrottled", 403, "Too many requests are under way.";
    /// The broker has as many connections as it takes; the connection closes.
    TooManyConnections = 13, "RequestThrottled", "RequestThrottled", 403, "The broker takes no more connections.";
    /// There is no room to store messages; deletes and receives go on.
    StorageFull = 14, "RequestThrottled", "RequestThrottled", 403, "There is no room to store more messages.";
    /// The broker made a mistake, which its log describes.
    Internal = 15, "InternalFailure", "InternalFailure", 500, "The broker failed to do this.";
    /// What was asked for does not fit into the largest reply.
    ReplyTooLarge = 16, "InvalidParameterValueException", "InvalidParameterValue", 400, "The reply would be longer than agreed.";
    /// A stored message is damaged and was set aside.
    MessageDamaged = 17, "InternalFailure", "InternalFailure", 500, "The stored message is damaged.";

    /// An operation that this broker does not serve.
    UnsupportedOperation = 100, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400, "This operation is not supported.";
    /// No such queue, or a number from before it was deleted.
    QueueDoesNotExist = 101, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400, "The specified queue does not exist.";
    /// The name is taken by a queue with other attributes.
    QueueNameExists = 102, "QueueNameExists", "QueueAlreadyExists", 400, "A queue already exists with the same name and a different value for an attribute.";
    /// The name was freed less than 60 seconds ago.
    QueueDeletedRecently = 103, "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400, "You must wait 60 seconds after deleting a queue before you can create another with the same name.";
    /// The last purge was less than 60 seconds ago.
    PurgeQueueInProgress = 104, "PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403, "Only one PurgeQueue operation on a queue is allowed every 60 seconds.";
    /// Two entries of a batch have the same id.
    BatchEntryIdsNotDistinct = 105, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400, "Two or more batch entries in the request have the same Id.";
    /// A batch has more than 1 MiB.
    BatchRequestTooLong = 106, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400, "Batch requests cannot be longer than 1048576 bytes.";
    /// A batch has no entry.
    EmptyBatchRequest = 107, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400, "There should be at least one entry in the request.";
    /// An entry's id is not 1 to 80 letters, digits, hyphens and underscores.
    InvalidBatchEntryId = 108, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400, "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.";
    /// A batch has more than ten entries.
    TooManyEntriesInBatchRequest = 109, "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400, "Maximum number of entries per request are 10.";
    /// The message is visible, so that it has no visibility timeout to change.
    MessageNotInflight = 110, "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400, "The specified message is not in flight.";
    /// A value is out of its range.
    InvalidParameterValue = 111, "InvalidParameterValueException", "InvalidParameterValue", 400, "One or more parameters are invalid.";
    /// A parameter is missing.
    MissingRequiredParameter = 112, "MissingRequiredParameterException", "MissingParameter", 400, "The request must contain a parameter that is missing.";
    /// No attribute has this name or code.
    InvalidAttributeName = 113, "InvalidAttributeName", "InvalidAttributeName", 400, "Unknown Attribute.";
    /// An attribute's value is out of its range.
    InvalidAttributeValue = 114, "InvalidAttributeValue", "InvalidAttributeValue", 400, "Invalid value for an attribute.";
    /// A receipt handle is not one for this purpose.
    InvalidIdFormat = 115, "InvalidIdFormat", "InvalidIdFormat", 400, "The specified receipt handle is not valid for the current version.";
    /// The body has characters that are not allowed.
    InvalidMessageContents = 116, "InvalidMessageContents", "InvalidMessageContents", 400, "The message contains characters outside the allowed set.";
    /// Not a handle of this broker.
    ReceiptHandleIsInvalid = 117, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404, "The input receipt handle is not a valid receipt handle.";
    /// A task or another thing that was named is not there.
    ResourceNotFound = 118, "ResourceNotFoundException", "ResourceNotFoundException", 404, "One or more specified resources don't exist.";
    /// The address of the queue is not one.
    InvalidAddress = 119, "InvalidAddress", "InvalidAddress", 404, "The specified ID is invalid.";
    /// Too many messages in flight, or another limit.
    OverLimit = 120, "OverLimit", "OverLimit", 403, "The specified action violates a limit.";
    /// The request is not secured as it has to be.
    InvalidSecurity = 121, "InvalidSecurity", "InvalidSecurity", 403, "The request was not made over HTTPS or did not use SigV4 for signing.";
    /// Too much at once.
    RequestThrottled = 122, "RequestThrottled", "RequestThrottled", 403, "The request was denied due to request throttling.";
    /// Who asks may not do this.
    AccessDenied = 123, "AccessDeniedException", "AccessDenied", 403, "Access to the resource is denied.";
    /// "Only if my previous one of this group was accepted": it was not.
    PreviousNotAccepted = 124, "InvalidParameterValueException", "InvalidParameterValue", 400, "An earlier message of this group was not accepted.";

    /// The caller may not use the key.
    KmsAccessDenied = 140, "KmsAccessDenied", "KMS.AccessDeniedException", 400, "The caller doesn't have the required KMS access.";
    /// The key is disabled.
    KmsDisabled = 141, "KmsDisabled", "KMS.DisabledException", 400, "The request was denied due to KMS key being disabled.";
    /// The key is not for this use.
    KmsInvalidKeyUsage = 142, "KmsInvalidKeyUsage", "KMS.InvalidKeyUsageException", 400, "The KMS key is not usable for this operation.";
    /// The key is in the wrong state.
    KmsInvalidState = 143, "KmsInvalidState", "KMS.InvalidStateException", 400, "The state of the KMS key is not valid for this request.";
    /// There is no such key.
    KmsNotFound = 144, "KmsNotFound", "KMS.NotFoundException", 400, "The specified KMS key was not found.";
    /// The account has no KMS.
    KmsOptInRequired = 145, "KmsOptInRequired", "KMS.OptInRequired", 403, "The specified key policy isn't syntactically or semantically correct.";
    /// Too many requests to KMS.
    KmsThrottled = 146, "KmsThrottled", "KMS.ThrottlingException", 400, "Amazon Web Services KMS throttles requests.";
}

impl ErrorCode {
    /// The number on the wire; never 0.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the sender of the request is at fault, not the broker.
    pub const fn is_sender_fault(self) -> bool {
        self.http_status() < 500 && !matches!(self, Self::StorageFull)
    }

    /// Whether the broker closes the connection after an error frame with this code.
    pub const fn closes_connection(self) -> bool {
        matches!(
            self,
            Self::BadFrame
                | Self::CrcMismatch
                | Self::FrameTooLarge
                | Self::UnsupportedVersion
                | Self::HelloRequired
                | Self::HandshakeTimeout
                | Self::KeepAliveTimeout
                | Self::SlowReader
                | Self::ShuttingDown
                | Self::TooManyConnections
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is wrong with a frame whose CRC was right. Its `Display` says so in a sentence that names the
/// field; it is what the error frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The code to answer with.
    pub code: ErrorCode,
    /// What exactly.
    pub problem: Problem,
}

impl DecodeError {
    /// The layout of a payload is wrong.
    #[cold]
    pub(crate) fn malformed(problem: Problem) -> Self {
        Self { code: ErrorCode::BadFrame, problem }
    }

    /// Bits of `found` are set that have no meaning.
    #[cold]
    pub(crate) fn reserved(what: &'static str, found: u16, known: u16) -> Self {
        Self { code: ErrorCode::ReservedBits, problem: Problem::Reserved { what, bits: found & !known } }
    }

    /// A batch that is empty or too long.
    #[cold]
    pub(crate) fn entries(count: u16) -> Self {
        let code =
            if count == 0 { ErrorCode::EmptyBatchRequest } else { ErrorCode::TooManyEntriesInBatchRequest };
        Self { code, problem: Problem::Entries { count } }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.problem, formatter)
    }
}

impl std::error::Error for DecodeError {}

/// What exactly is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The bytes end before or inside this.
    EndsInside {
        /// The field or part.
        what: &'static str,
    },
    /// A text is not UTF-8.
    NotText {
        /// The field.
        what: &'static str,
    },
    /// The tags of optional fields do not rise (0 is no tag).
    FieldOrder {
        /// What the fields belong to.
        what: &'static str,
        /// The tag that is out of order.
        tag: u8,
        /// The tag before it.
        previous: u8,
    },
    /// Something stands where nothing of the kind may be.
    Misplaced {
        /// What it is.
        what: &'static str,
    },
    /// Bits without a meaning are set.
    Reserved {
        /// The field with the bits.
        what: &'static str,
        /// The bits that have no meaning.
        bits: u16,
    },
    /// The header's version is not one of ours.
    Version {
        /// What it says.
        version: u8,
    },
    /// The header's operation is none.
    Operation {
        /// What it says.
        operation: u8,
    },
    /// The operation exists, but not as an own frame in this direction.
    Direction {
        /// What the header says.
        operation: u8,
    },
    /// A request has the correlation id 0, which belongs to frames that answer nothing.
    CorrelationZero,
    /// A batch has no entries or too many.
    Entries {
        /// How many.
        count: u16,
    },
    /// A number is out of its range.
    Range {
        /// The parameter's name.
        what: &'static str,
        /// What it was.
        value: u64,
        /// The least it may be.
        minimum: u64,
        /// The most it may be.
        maximum: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EndsInside { what } => write!(formatter, "The bytes end inside {what}."),
            Self::NotText { what } => write!(formatter, "Not UTF-8: {what}."),
            Self::FieldOrder { what, tag, previous } => {
                write!(formatter, "Tags must rise: {tag} follows {previous} in {what}.")
            }
            Self::Misplaced { what } => write!(formatter, "Not allowed here: {what}."),
            Self::Reserved { what, bits } => {
                write!(formatter, "Reserved bits are set in {what}: {bits:#06x}.")
            }
            Self::Version { version } => write!(formatter, "Version {version} is not supported."),
            Self::Operation { operation } => write!(formatter, "Operation {operation} is unknown."),
            Self::Direction { operation } => {
                write!(formatter, "Operation {operation} does not go in this direction.")
            }
            Self::CorrelationZero => write!(formatter, "A request must not have the correlation id 0."),
            Self::Entries { count: 0 } => formatter.write_str(ErrorCode::EmptyBatchRequest.text()),
            Self::Entries { count } => {
                write!(formatter, "Maximum number of entries per request are 10. You have sent {count}.")
            }
            Self::Range { what, value, minimum, maximum } => write!(
                formatter,
                "Value {value} for parameter {what} is invalid. Reason: Must be between {minimum} and \
                 {maximum}, if provided."
            ),
        }
    }
}
