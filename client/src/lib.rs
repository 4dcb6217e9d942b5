//! The Rust client library of Tenpin, on tokio.
//!
//! [`Client`] connects to a broker and opens [`Queue`]s; a queue sends, receives, deletes and hides
//! messages. Connections are shared by all clones, made for each shard when first needed and made again
//! when they break; requests made together travel together. Errors are one enum, [`Error`], which tells
//! what may succeed later from what never will.
#![forbid(unsafe_code)]

mod attributes;
mod client;
mod connection;
mod error;
mod message;
mod options;
mod pending;
mod pool;
mod queue;
mod retry;
mod stats;

pub use attributes::{DeduplicationScope, QueueAttributes};
pub use client::Client;
pub use error::{Error, Refusal, Result};
pub use message::{AttributeValue, Message, MessageId, NewMessage, ReceiptHandle, Sent};
pub use options::ClientBuilder;
pub use queue::{Queue, QueueName, QueuePage, Receive};
pub use stats::Stats;
pub use tenpin_protocol::{AttributeCode, ErrorCode, StatisticCode};
