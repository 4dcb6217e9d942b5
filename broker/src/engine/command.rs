//! What an engine can be told.

use tenpin_protocol::{
    Attribute, AttributeName, ChangeVisibilityEntry, Entries, Handles, Operation, SendEntries, Tag, Text,
};

use super::outputs::DeliveredMessage;
use crate::catalog::Permission;
use crate::shard::driver::ConnectionId;

/// Who asked: where the reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The connection.
    pub connection: ConnectionId,
    /// The request's correlation id.
    pub correlation: u32,
    /// The request's operation, which its reply carries.
    pub operation: Operation,
}

/// A queue's name as a client gives it; an empty account or region is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawName<'a> {
    /// Twelve digits, or empty.
    pub account: &'a str,
    /// A region, or empty.
    pub region: &'a str,
    /// The name itself.
    pub name: &'a str,
}

/// What to do. Each command but the last four is answered by exactly one
/// reply, a receive perhaps later.
#[derive(Debug, Clone, Copy)]
pub enum Command<'a> {
    /// Turns a name into a queue's number.
    OpenQueue {
        /// The name.
        name: RawName<'a>,
    },
    /// Makes a queue, or opens the one that is there.
    CreateQueue {
        /// The name.
        name: RawName<'a>,
        /// Attributes that are to be other than the defaults.
        attributes: Entries<'a, Attribute<'a>>,
        /// Its tags, if it is made.
        tags: Entries<'a, Tag<'a>>,
    },
    /// Deletes a queue with its messages.
    DeleteQueue {
        /// The queue's number.
        queue: u64,
    },
    /// Lists queues of an account and a region in the order of their names.
    ListQueues {
        /// Account, region and the prefix as the name.
        prefix: RawName<'a>,
        /// Where the page before said to go on.
        next: Option<&'a [u8]>,
        /// How many at most, 1 to 1,000; 0: as many, and no next page.
        count_max: u32,
    },
    /// Gives attributes of a queue.
    GetAttributes {
        /// The queue's number.
        queue: u64,
        /// Which ones.
        names: Entries<'a, AttributeName>,
    },
    /// Changes attributes of a queue: all, or none where one is refused.
    SetAttributes {
        /// The queue's number.
        queue: u64,
        /// The new values.
        attributes: Entries<'a, Attribute<'a>>,
    },
    /// Adds tags to a queue, or gives them other values.
    TagQueue {
        /// The queue's number.
        queue: u64,
        /// The tags.
        tags: Entries<'a, Tag<'a>>,
    },
    /// Takes tags of a queue away.
    UntagQueue {
        /// The queue's number.
        queue: u64,
        /// Their keys.
        keys: Entries<'a, Text<'a>>,
    },
    /// Gives the tags of a queue.
    ListTags {
        /// The queue's number.
        queue: u64,
    },
    /// Adds a statement to a queue's policy.
    AddPermission {
        /// The queue's number.
        queue: u64,
        /// The statement.
        permission: Permission<'a>,
    },
    /// Takes a statement of a queue's policy away.
    RemovePermission {
        /// The queue's number.
        queue: u64,
        /// Its label.
        label: &'a str,
    },
    /// Lists the queues whose dead letters go to this one, in the order of their names.
    ListDeadLetterSources {
        /// The queue's number.
        queue: u64,
        /// Where the page before said to go on.
        next: Option<&'a [u8]>,
        /// How many at most, 1 to 1,000; 0: as many, and no next page.
        count_max: u32,
    },
    /// Deletes all messages of a queue.
    Purge {
        /// The queue's number.
        queue: u64,
    },
    /// Stores 1 to 10 messages, each with a result of its own.
    Send {
        /// The queue's number.
        queue: u64,
        /// The messages.
        entries: SendEntries<'a>,
    },
    /// Takes messages.
    Receive {
        /// The queue's number.
        queue: u64,
        /// How many at most, 1 to 10.
        count_max: u32,
        /// How long to wait for the first; `None`: as the queue says.
        wait_ms: Option<u32>,
        /// How long to hide them; `None`: as the queue says.
        visibility_seconds: Option<u32>,
        /// How many bytes of entries the reply may have; one message always fits (rule 36).
        reply_bytes_max: u32,
        /// On a FIFO queue: a repeat under the same id is given the same messages.
        attempt_id: Option<&'a str>,
    },
    /// Deletes 1 to 10 messages by their handles.
    Delete {
        /// The queue's number.
        queue: u64,
        /// The handles.
        handles: Handles<'a>,
    },
    /// Changes for how long 1 to 10 messages stay hidden.
    ChangeVisibility {
        /// The queue's number.
        queue: u64,
        /// The handles and the seconds.
        entries: Entries<'a, ChangeVisibilityEntry<'a>>,
    },
    /// Looks at messages without taking them: first the visible ones in their order, then the others
    /// in no order. A page may be short, or empty, and still say where to go on.
    Peek {
        /// The queue's number.
        queue: u64,
        /// How many at most, 1 to 10.
        count_max: u32,
        /// Only those in the state with this number; 0: all.
        state: u8,
        /// Where the page before said to go on.
        next: Option<&'a [u8]>,
        /// As for a receive.
        reply_bytes_max: u32,
    },
    /// Starts to send the messages of a dead-letter queue anew.
    StartMoveTask {
        /// The dead-letter queue's number.
        source: u64,
        /// Where to; `None`: each message to the queue that it came from.
        destination: Option<u64>,
        /// How many messages a second, 1 to 500; 0: as fast as it goes.
        messages_per_second_max: u32,
    },
    /// Stops such a task.
    CancelMoveTask {
        /// What its start answered.
        task: &'a [u8],
    },
    /// Lists tasks of a dead-letter queue, newest first.
    ListMoveTasks {
        /// The dead-letter queue's number.
        source: u64,
        /// How many at most, 1 to 10; 0: one.
        count_max: u8,
    },
    /// Gives counters of a queue. Those of all are added up by [`Engine::add_up_queues`](super::Engine::add_up_queues).
    Stats {
        /// The queue's number.
        queue: u64,
    },
    /// Forgets the long polls of a connection that is gone; nothing is answered.
    CancelWaits {
        /// The connection.
        connection: ConnectionId,
    },
    /// Answers long polls with nothing: those of a connection that says goodbye, or all, to stop.
    AnswerWaits {
        /// The connection; `None`: all.
        connection: Option<ConnectionId>,
    },
    /// These deliveries were never written to their connection: the messages are visible again and
    /// the receive does not count (rule 4). Nothing is answered.
    Undelivered {
        /// The deliveries, of any queues.
        messages: &'a [DeliveredMessage],
    },
    /// This message's record could not be read back whole: it is set aside (rule 15). Nothing is
    /// answered.
    Damaged {
        /// Its slot.
        slot: u32,
        /// Its sequence.
        sequence: u64,
    },
}
