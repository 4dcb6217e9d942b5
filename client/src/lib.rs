//! The Rust client library of Tenpin, on tokio.
//!
//! [`Client`] connects to a broker and opens [`Queue`]s; a queue sends, receives, deletes and hides
//! messages. Connections are shared by all clones, made for each shard when first needed and made again
//! when they break; requests made together travel together. Errors are one enum, [`Error`], which tells
//! what may succeed later from what never will.
//!
//! ```
//! # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
//! # example::with_address(async |address| {
//! let client = tenpin_client::Client::connect(address).await?;
//! let queue = client.create_queue("orders").await?;
//! queue.send("a first order").await?;
//! for message in queue.receive().await? {
//!     println!("{}", message.text()?);
//!     queue.delete(&message).await?;
//! }
//! # Ok(()) });
//! ```
//!
//! Examples that speak of a `client` and a `queue` mean these.
#![forbid(unsafe_code)]

mod attributes;
mod batcher;
pub mod blocking;
mod client;
mod connection;
mod consumer;
mod crew;
mod error;
mod message;
mod moves;
mod options;
mod peek;
mod pending;
mod pool;
mod prefetch;
mod producer;
mod queue;
mod retry;
mod room;
mod sending;
mod shift;
mod stats;
mod stream;
mod waiting;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use attributes::{DeduplicationScope, QueueAttributes};
pub use client::Client;
pub use consumer::{Consumer, OnError, Outcome};
pub use error::{Error, Refusal, Result};
pub use message::{AttributeValue, Message, MessageId, NewMessage, ReceiptHandle, Sent};
pub use moves::{MoveTask, TaskHandle};
pub use options::ClientBuilder;
pub use peek::{PeekPage, Peeked};
pub use producer::{Producer, ProducerBuilder};
pub use queue::{Queue, QueueName, QueuePage, Receive};
pub use sending::Sending;
pub use stats::Stats;
pub use stream::{MessageStream, StreamedMessage};
pub use tenpin_protocol::{AttributeCode, ErrorCode, MessageState, MoveTaskStatus, StatisticCode};
