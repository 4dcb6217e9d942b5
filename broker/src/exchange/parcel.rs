//! What shards say to each other, as values.
//!
//! A turn's items for one shard go as one [`Parcel`]. A client's request that another shard is to serve
//! travels as its own payload, and what it is answered comes back as the bytes that the client is to
//! get: to the shard that serves it, a sibling's connection is a connection like its own.

use crate::engine::DeliveredMessage;
use crate::shard::driver::ConnectionId;

/// Whom an answer is for: a connection of the shard that asks, or that shard itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A client's connection.
    Connection(ConnectionId),
    /// The shard itself, which goes on with what comes back.
    Shard,
}

/// A request to be served by another shard than the one that it came to.
#[derive(Debug)]
pub struct Request {
    /// Who gets the answer.
    pub asker: Asker,
    /// The correlation id of the answer's frame.
    pub correlation: u32,
    /// The largest frame that the client takes.
    pub frame_bytes_max: u32,
    /// The number of its operation.
    pub operation: u8,
    /// Its payload, as it came.
    pub payload: Vec<u8>,
}

/// What a request was answered. All that it relies on is durable (rule 1).
#[derive(Debug)]
pub struct Reply {
    /// Who asked.
    pub asker: Asker,
    /// As in the request.
    pub correlation: u32,
    /// The number of the request's operation.
    pub operation: u8,
    /// The whole frame.
    pub frame: Vec<u8>,
    /// What it hands out, to be given back if it is never written to the client (rule 4).
    pub deliveries: Vec<DeliveredMessage>,
    /// Monotonic time at which the deliveries are somebody else's (rule 2).
    pub stale_at_ns: u64,
}

/// One thing that a shard says to another.
#[derive(Debug)]
pub enum Item {
    /// Serve this.
    Request(Box<Request>),
    /// This was asked.
    Reply(Box<Reply>),
}

/// What a shard says to another in a turn, in order.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The items.
    pub items: Vec<Item>,
}

const fn is_send<T: Send>() {}
const _: () = is_send::<Parcel>();
