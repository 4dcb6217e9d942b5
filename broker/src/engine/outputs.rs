//! What an engine answers. The shard gives the same [`Outputs`] to every call and clears it once it
//! has read it, so that nothing is allocated in the steady state.

use std::borrow::Cow;
use std::ops::Range;

use tenpin_protocol::{AttributeCode, ErrorCode, MessageState, MoveTaskStatus, StatisticCode};

use super::command::Ticket;
use super::handle::HANDLE_BYTES;
use crate::catalog::{QueueName, Tags};
use crate::journal::Position;

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error's code.
    pub code: ErrorCode,
    /// What it says.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a text of its own.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }
}

/// A message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id; a duplicate's is that of the first.
    pub id: [u8; 16],
    /// On a FIFO queue its sequence number, or that of the first; else 0.
    pub sequence_number: u64,
}

/// What became of one entry of a send: the message, or why it was refused.
pub type SendOutcome = Result<Accepted, Refusal>;

/// What became of one entry of a delete or of a change of visibility.
pub type Outcome = Result<(), Refusal>;

/// Names one delivery of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredMessage {
    /// Its slot.
    pub slot: u32,
    /// Which delivery of it.
    pub receive_count: u32,
    /// Its sequence.
    pub sequence: u64,
}

/// A message that is handed out or shown. Id and content are in its record, read by
/// [`super::records::StoredMessage::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Where its record begins.
    pub position: Position,
    /// Bytes of its record.
    pub length: u32,
    /// Its slot.
    pub slot: u32,
    /// Its sequence.
    pub sequence: u64,
    /// On a FIFO queue its sequence number; else 0.
    pub sequence_number: u64,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// When it was first received; 0 if it never was.
    pub first_received_at_ms: u64,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// The incarnation of the queue that it was a dead letter of, whose name is
    /// [`Engine::origin_name`](super::Engine::origin_name); 0: of none.
    pub source: u64,
    /// Where it stands; a received one is in flight. The record of a damaged one is not to be given out.
    pub state: MessageState,
    /// When its state ends by itself (a delay, a visibility timeout); 0 where it does not.
    pub until_ms: u64,
    /// Its receipt handle; zeros where it is only shown.
    pub handle: [u8; HANDLE_BYTES],
}

impl Delivery {
    /// Names the delivery, to take it back.
    pub fn message(&self) -> DeliveredMessage {
        DeliveredMessage { slot: self.slot, receive_count: self.receive_count, sequence: self.sequence }
    }
}

/// An attribute's value as it is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeOutput {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// A move task as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput {
    /// Where it stands.
    pub status: MoveTaskStatus,
    /// How fast it may move; 0 where that was not said.
    pub messages_per_second_max: u32,
    /// How many messages it has moved.
    pub moved: u64,
    /// How many there were to move when it started.
    pub to_move: u64,
    /// When it started.
    pub started_at_ms: u64,
    /// What cancels it; empty where it does not run.
    pub task: Vec<u8>,
    /// ARN of the dead-letter queue.
    pub source: String,
    /// ARN of the queue that it moves to; empty: each message to the one that it came from.
    pub destination: String,
    /// Why it failed, where it did.
    pub failure: Option<&'static str>,
}

/// One page of a list of queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePage {
    /// Their names, in order.
    pub names: Vec<QueueName>,
    /// Where to go on, if there are more and a count was given.
    pub next: Option<Box<[u8]>>,
}

/// What is answered. Ranges are into the lists of [`Outputs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyBody {
    /// To a send: into [`Outputs::sent`].
    Sent(Range<u32>),
    /// To a receive: into [`Outputs::deliveries`].
    Received(Range<u32>),
    /// To a delete: into [`Outputs::outcomes`].
    Deleted(Range<u32>),
    /// To a change of visibility: into [`Outputs::outcomes`].
    Hidden(Range<u32>),
    /// To a peek: into [`Outputs::deliveries`], and where to go on if there may be more.
    Peeked(Range<u32>, Option<Box<[u8]>>),
    /// To an open or create.
    QueueOpened {
        /// The queue's number.
        number: u64,
        /// Its incarnation.
        incarnation: u64,
        /// The shard that a FIFO queue lives on; `None`: it is a standard queue, on every shard.
        fifo_shard: Option<u16>,
    },
    /// To a deletion of a queue, a purge, a change of attributes, tags or permissions.
    Done,
    /// Tags, by key.
    Tags(Box<Tags>),
    /// The attributes asked for.
    Attributes(Box<[(AttributeCode, AttributeOutput)]>),
    /// Queues.
    Queues(Box<QueuePage>),
    /// Counters.
    Stats(Box<[(StatisticCode, u64)]>),
    /// A move task was started; this cancels it.
    MoveTaskStarted(Box<[u8]>),
    /// A move task was told to stop.
    MoveTaskCancelled {
        /// How many messages it had moved.
        moved: u64,
    },
    /// Move tasks, newest first.
    MoveTasks(Box<[TaskOutput]>),
    /// It was refused as a whole.
    Refused(Refusal),
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whom it is for.
    pub ticket: Ticket,
    /// It may leave when the log is committed up to here (rule 1).
    pub depends_on: Position,
    /// It must not leave at this time or later (rule 2); [`u64::MAX`]: it may.
    pub stale_after_ms: u64,
    /// Whether it answers a long poll that had been registered.
    pub ends_wait: bool,
    /// What it says.
    pub body: ReplyBody,
}

/// Answers, gathered.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The replies, in the order in which they came about.
    pub replies: Vec<Reply>,
    /// Results of sends.
    pub sent: Vec<SendOutcome>,
    /// Messages handed out or shown.
    pub deliveries: Vec<Delivery>,
    /// Results of deletes and changes of visibility.
    pub outcomes: Vec<Outcome>,
}

impl Outputs {
    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.replies.clear();
        self.sent.clear();
        self.deliveries.clear();
        self.outcomes.clear();
    }

    /// Adds a reply that is never stale and ends no wait.
    pub(super) fn reply(&mut self, ticket: Ticket, depends_on: Position, body: ReplyBody) {
        self.replies.push(Reply { ticket, depends_on, stale_after_ms: u64::MAX, ends_wait: false, body });
    }
}
