//! What shards say to each other, as values.
//!
//! A turn's items for one shard go as one [`Parcel`]. A client's request that another shard is to serve
//! travels as its own payload, and what it is answered comes back as the bytes that the client is to
//! get: to the shard that serves it, a sibling's connection is a connection like its own.

use super::link::LinkItem;
use crate::engine::{Change, DeliveredMessage, GroupShares, MoveAnswer, Moving, TaskShare};
use crate::shard::driver::{Clocks, ConnectionId};

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
    /// Whether it is a receive that a hint led to (rule 24).
    pub answers_hint: bool,
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
    /// For how long the deliveries are the receiver's, in engine time (rule 2); [`u64::MAX`]: for ever.
    pub fresh_for_ms: u64,
    /// When that was said: shards share the clocks, and not engine time.
    pub said: Clocks,
}

/// A queue as shard 0 has it, for a sibling that starts.
#[derive(Debug)]
pub struct CatalogEntry {
    /// What makes it what it is; or one of its move tasks.
    pub define: Change,
    /// When it was last purged; 0: never.
    pub purged_at_ms: u64,
}

/// One thing that a shard says to another.
#[derive(Debug)]
pub enum Item {
    /// Serve this.
    Request(Box<Request>),
    /// This was asked.
    Reply(Box<Reply>),
    /// This connection of mine is gone, and with it whatever it waits for.
    Closed(ConnectionId),
    /// Answer the receives of this connection that wait, with nothing.
    AnswerWaits(ConnectionId),
    /// These deliveries were never written to their client (rule 4).
    Undelivered(Vec<DeliveredMessage>),
    /// Receives wait here for this queue (or, with `false`, do not any more).
    Hunger {
        /// The queue's number.
        queue: u64,
        /// Whether they do.
        on: bool,
    },
    /// There is a message in this queue that nobody waits for here.
    Hint(u64),
    /// Receives of this queue come here: tell me how old your oldest message is.
    Interest(u64),
    /// Since how many milliseconds a queue's oldest visible message has waited.
    Ages(Vec<(u64, u64)>),
    /// More messages of this queue may be in flight here, please (rule 26).
    LeaseAsk(u64),
    /// So many more may; perhaps none.
    LeaseGive {
        /// The queue's number.
        queue: u64,
        /// How many.
        amount: u64,
    },
    /// Give back what is not used of this queue's.
    LeaseRecall(u64),
    /// This is not used.
    LeaseReturn {
        /// The queue's number.
        queue: u64,
        /// How much.
        amount: u64,
    },
    /// At the start: so many messages are in flight here.
    LeaseHeld {
        /// The queue's number.
        queue: u64,
        /// How many.
        amount: u64,
    },
    /// A change of the catalog, durable on shard 0 (rule 20).
    CatalogStep {
        /// Its place among all.
        number: u64,
        /// What changes.
        change: Change,
    },
    /// That change is durable here.
    CatalogApplied(u64),
    /// At the start: queues as shard 0 has them, in the order of their places.
    CatalogState(Vec<CatalogEntry>),
    /// These were all.
    CatalogStateEnds,
    /// A message that is to live here from now on; it is locked where it is, durably (rule 22).
    Move(Box<Moving>),
    /// That message is here, durably, or is not taken.
    MoveAnswered {
        /// The move's number.
        number: u64,
        /// Which of both.
        answer: MoveAnswer,
    },
    /// What this shard has done of move tasks.
    TaskShares(Vec<TaskShare>),
    /// What have you done of the move tasks of a queue?
    TaskLook {
        /// Which look it is.
        look: u64,
        /// The queue's number.
        queue: u64,
    },
    /// This; it is durable.
    TaskLooked {
        /// Which look was asked.
        look: u64,
        /// What was done.
        shares: Vec<TaskShare>,
    },
    /// What the groups of fair queues have here, by the queues' numbers; nothing, where there are none any
    /// more (rule 26).
    GroupShares(Vec<(u64, GroupShares)>),
    /// This shard has what it needs to serve.
    Ready {
        /// Its engine time, which the others catch up with, so that none of them makes another's jump later.
        time_ms: u64,
    },
    /// This shard stops, and asks for nothing any more.
    Drained,
    /// Between a shard and the gateway, about one of its connections.
    Link(LinkItem),
}

/// What a shard says to another in a turn, in order.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The items.
    pub items: Vec<Item>,
}

const fn is_send<T: Send>() {}
const _: () = is_send::<Parcel>();
