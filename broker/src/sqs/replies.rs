//! What a client is answered: a type for each action's result, which the printers of both protocols walk.
//!
//! Ids, digests, numbers and times are as the broker has them; how they look is the printers' business.
//! Empty lists and what is `None` are left out, as the service does.

use std::borrow::Cow;

use super::actions::ActionName;
use super::digests::Digest;
use super::error::ServiceError;

/// What an action is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// That it is done: for all actions whose result has nothing in it.
    Done(ActionName),
    /// How much the task had moved.
    CancelMessageMoveTask {
        /// Messages that it had moved.
        approximate_number_of_messages_moved: u64,
    },
    /// What became of each entry.
    ChangeMessageVisibilityBatch(BatchReply<'a, Cow<'a, str>>),
    /// The queue's URL.
    CreateQueue {
        /// The URL.
        queue_url: Cow<'a, str>,
    },
    /// What became of each entry.
    DeleteMessageBatch(BatchReply<'a, Cow<'a, str>>),
    /// The attributes that were asked for.
    GetQueueAttributes {
        /// Names and values.
        attributes: Vec<(&'a str, Cow<'a, str>)>,
    },
    /// The queue's URL.
    GetQueueUrl {
        /// The URL.
        queue_url: Cow<'a, str>,
    },
    /// The source queues.
    ListDeadLetterSourceQueues {
        /// Their URLs.
        queue_urls: Vec<Cow<'a, str>>,
        /// Where to go on, if there are more.
        next_token: Option<Cow<'a, str>>,
    },
    /// The move tasks.
    ListMessageMoveTasks {
        /// The tasks.
        results: Vec<MoveTask<'a>>,
    },
    /// The tags.
    ListQueueTags {
        /// Keys and values.
        tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    },
    /// The queues.
    ListQueues {
        /// Their URLs.
        queue_urls: Vec<Cow<'a, str>>,
        /// Where to go on, if there are more.
        next_token: Option<Cow<'a, str>>,
    },
    /// The messages.
    ReceiveMessage {
        /// The messages, maybe none.
        messages: Vec<ReceivedMessage<'a>>,
    },
    /// What the message is known by now.
    SendMessage(SentMessage),
    /// What became of each entry.
    SendMessageBatch(BatchReply<'a, (Cow<'a, str>, SentMessage)>),
    /// What cancels the task.
    StartMessageMoveTask {
        /// The handle.
        task_handle: Cow<'a, str>,
    },
}

impl Reply<'_> {
    /// The action that it answers.
    pub fn action(&self) -> ActionName {
        match self {
            Self::Done(action) => *action,
            Self::CancelMessageMoveTask { .. } => ActionName::CancelMessageMoveTask,
            Self::ChangeMessageVisibilityBatch(_) => ActionName::ChangeMessageVisibilityBatch,
            Self::CreateQueue { .. } => ActionName::CreateQueue,
            Self::DeleteMessageBatch(_) => ActionName::DeleteMessageBatch,
            Self::GetQueueAttributes { .. } => ActionName::GetQueueAttributes,
            Self::GetQueueUrl { .. } => ActionName::GetQueueUrl,
            Self::ListDeadLetterSourceQueues { .. } => ActionName::ListDeadLetterSourceQueues,
            Self::ListMessageMoveTasks { .. } => ActionName::ListMessageMoveTasks,
            Self::ListQueueTags { .. } => ActionName::ListQueueTags,
            Self::ListQueues { .. } => ActionName::ListQueues,
            Self::ReceiveMessage { .. } => ActionName::ReceiveMessage,
            Self::SendMessage(_) => ActionName::SendMessage,
            Self::SendMessageBatch(_) => ActionName::SendMessageBatch,
            Self::StartMessageMoveTask { .. } => ActionName::StartMessageMoveTask,
        }
    }
}

/// What became of each entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReply<'a, T> {
    /// Those that were done, by their ids.
    pub successful: Vec<T>,
    /// Those that were refused.
    pub failed: Vec<FailedEntry<'a>>,
}

impl<T> Default for BatchReply<'_, T> {
    fn default() -> Self {
        Self { successful: Vec::new(), failed: Vec::new() }
    }
}

/// An entry of a batch that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedEntry<'a> {
    /// The entry's id.
    pub id: Cow<'a, str>,
    /// Why.
    pub error: ServiceError,
}

/// What a message that was stored is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMessage {
    /// Its id, shown as a UUID.
    pub message_id: [u8; 16],
    /// The digest of the body that was sent.
    pub md5_of_message_body: Digest,
    /// The digest of the user's attributes, where there are any.
    pub md5_of_message_attributes: Option<Digest>,
    /// The digest of the system's attributes, where there are any.
    pub md5_of_message_system_attributes: Option<Digest>,
    /// Its place in its group; FIFO queues only. Shown as 20 digits.
    pub sequence_number: Option<u64>,
}

/// A message that a receive gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage<'a> {
    /// Its id, shown as a UUID.
    pub message_id: [u8; 16],
    /// What deletes it.
    pub receipt_handle: Cow<'a, str>,
    /// The digest of its body.
    pub md5_of_body: Digest,
    /// Its body.
    pub body: Cow<'a, str>,
    /// The system's attributes that were asked for.
    pub attributes: SystemAttributes<'a>,
    /// The digest of the user's attributes that are given out, where there are any.
    pub md5_of_message_attributes: Option<Digest>,
    /// The user's attributes that were asked for.
    pub message_attributes: Vec<GivenAttribute<'a>>,
}

/// System attributes of a message: those that are there and were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemAttributes<'a> {
    /// Who sent it.
    pub sender_id: Option<Cow<'a, str>>,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub sent_timestamp: Option<u64>,
    /// How often it has been received, this time included.
    pub approximate_receive_count: Option<u32>,
    /// When it was first received, in milliseconds since the Unix epoch.
    pub approximate_first_receive_timestamp: Option<u64>,
    /// Its place in its group. Shown as 20 digits.
    pub sequence_number: Option<u64>,
    /// Deduplication id.
    pub message_deduplication_id: Option<Cow<'a, str>>,
    /// Message group.
    pub message_group_id: Option<Cow<'a, str>>,
    /// Trace header.
    pub aws_trace_header: Option<Cow<'a, str>>,
    /// The ARN of the queue that it was a dead letter of.
    pub dead_letter_queue_source_arn: Option<Cow<'a, str>>,
}

/// A user's attribute as a receive gives it out. Its type says whether the value is text or bytes;
/// a text that is not UTF-8 is given out with what is wrong replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAttribute<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// `String`, `Number` or `Binary`, with an optional label behind a dot.
    pub data_type: Cow<'a, str>,
    /// Its value.
    pub value: Cow<'a, [u8]>,
}

/// A move task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask<'a> {
    /// What cancels it; only while it runs.
    pub task_handle: Option<Cow<'a, str>>,
    /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
    pub status: &'a str,
    /// The ARN of the dead-letter queue.
    pub source_arn: Cow<'a, str>,
    /// The ARN of the queue that it moves to, if one was given.
    pub destination_arn: Option<Cow<'a, str>>,
    /// How fast it may move, if that was given.
    pub max_number_of_messages_per_second: Option<u32>,
    /// How many it has moved.
    pub approximate_number_of_messages_moved: u64,
    /// How many there were to move when it started.
    pub approximate_number_of_messages_to_move: Option<u64>,
    /// Why it failed, if it did.
    pub failure_reason: Option<Cow<'a, str>>,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_timestamp: u64,
}
