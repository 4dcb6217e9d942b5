//! Errors as HTTP clients see them: a name, an older code, a status, a text.

use std::borrow::Cow;
use std::fmt;

use tenpin_protocol::ErrorCode;

/// An error of the endpoint. The codes that the broker has say their own names; the others are what can
/// be wrong with a request before the broker hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorName {
    /// What the broker says, or what it would have said.
    Broker(ErrorCode),
    /// No action of this name, in the JSON protocol.
    UnknownOperation,
    /// No action at all, on a queue's URL, in the Query protocol.
    NoOperation,
    /// No action of this name, or not one for a queue's URL, in the Query protocol.
    InvalidAction,
    /// No action at all, in the Query protocol.
    MissingAction,
    /// A request that cannot be read in the JSON protocol.
    Serialization,
    /// A request that cannot be read in the Query protocol.
    MalformedInput,
    /// Credentials that cannot be read.
    IncompleteSignature,
    /// A method other than GET and POST, or POST where it must be.
    MethodNotAllowed,
    /// A body that is longer than the endpoint takes.
    RequestEntityTooLarge,
    /// A request that did not come in time.
    RequestTimeout,
    /// The broker is too busy, or on its way out.
    ServiceUnavailable,
}

impl ErrorName {
    /// The errors that are no code of the broker's.
    pub const OF_REQUESTS: &'static [Self] = &[
        Self::UnknownOperation,
        Self::NoOperation,
        Self::InvalidAction,
        Self::MissingAction,
        Self::Serialization,
        Self::MalformedInput,
        Self::IncompleteSignature,
        Self::MethodNotAllowed,
        Self::RequestEntityTooLarge,
        Self::RequestTimeout,
        Self::ServiceUnavailable,
    ];

    /// The `__type` of the JSON protocol, with its namespace.
    pub const fn json_type(self) -> (&'static str, &'static str) {
        const SQS: &str = "com.amazonaws.sqs";
        const CORAL: &str = "com.amazon.coral.service";
        match self {
            Self::Broker(code) => (SQS, code.sqs_name()),
            other => (CORAL, other.legacy_code()),
        }
    }

    /// The code of the Query protocol, which the JSON protocol also has in a header.
    pub const fn legacy_code(self) -> &'static str {
        match self {
            Self::Broker(code) => code.query_code(),
            Self::UnknownOperation | Self::NoOperation => "UnknownOperationException",
            Self::InvalidAction => "InvalidAction",
            Self::MissingAction => "MissingAction",
            Self::Serialization => "SerializationException",
            Self::MalformedInput => "MalformedInput",
            Self::IncompleteSignature => "IncompleteSignature",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::RequestTimeout => "RequestTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Broker(code) => code.http_status(),
            Self::NoOperation => 404,
            Self::UnknownOperation => 400,
            Self::InvalidAction | Self::MissingAction | Self::Serialization | Self::MalformedInput => 400,
            Self::IncompleteSignature => 400,
            Self::MethodNotAllowed => 405,
            Self::RequestEntityTooLarge => 413,
            Self::RequestTimeout => 408,
            Self::ServiceUnavailable => 503,
        }
    }

    /// Whether the sender of the request is at fault, not the broker.
    pub const fn is_sender_fault(self) -> bool {
        match self {
            Self::Broker(code) => code.is_sender_fault(),
            other => other.status() < 500,
        }
    }
}

impl From<ErrorCode> for ErrorName {
    fn from(code: ErrorCode) -> Self {
        Self::Broker(code)
    }
}

/// Why a request, or an entry of a batch, was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// Which error.
    pub name: ErrorName,
    /// What is wrong, for people, and for clients that match on it.
    pub text: Cow<'static, str>,
}

impl ServiceError {
    /// An error with its text.
    pub fn new(name: impl Into<ErrorName>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// "The request must contain the parameter X."
    pub fn missing(parameter: &str) -> Self {
        let text = format!("The request must contain the parameter {parameter}.");
        Self::new(ErrorCode::MissingRequiredParameter, text)
    }

    /// "Value V for parameter P is invalid. Reason: R"
    pub fn invalid(value: impl fmt::Display, parameter: &str, reason: &str) -> Self {
        let text = format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::new(ErrorCode::InvalidParameterValue, text)
    }

    /// "Value V for parameter P is invalid. Reason: Must be between A and B, if provided."
    pub fn out_of_range(value: i64, parameter: &str, minimum: i64, maximum: i64) -> Self {
        Self::invalid(value, parameter, &format!("Must be between {minimum} and {maximum}, if provided."))
    }
}

/// An error that says what its code says.
impl From<ErrorCode> for ServiceError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name.legacy_code(), self.text)
    }
}

impl std::error::Error for ServiceError {}
