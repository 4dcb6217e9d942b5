//! Queues and what is said about them: names, attributes, tags, permissions, dead letters, move
//! tasks, counters.

use crate::codes::AttributeCode;
use crate::layout::layout;

layout! {
    /// The name of a queue, as an entry of a list.
    pub struct QueueName<'a> as "queue name" {
        pieces {
            /// The account: twelve digits.
            account: &'a str,
            /// The region.
            region: &'a str,
            /// The name.
            name: &'a str,
        }
    }
}

layout! {
    /// Turns a queue's name into its number.
    pub struct OpenRequest<'a> as "open" {
        pieces {
            /// The account: twelve digits; empty means the broker's default.
            account: &'a str,
            /// The region; empty means the broker's default.
            region: &'a str,
            /// The name.
            name: &'a str,
        }
    }
}

layout! {
    /// Makes a queue, or opens the one that is there with the same attributes.
    pub struct CreateQueueRequest<'a> as "create queue" {
        pieces {
            /// The account: twelve digits; empty means the broker's default.
            account: &'a str,
            /// The region; empty means the broker's default.
            region: &'a str,
            /// The name.
            name: &'a str,
        }
        lists {
            /// Attributes; those not given have their defaults.
            attributes: Attribute<'a>,
            /// Tags of a new queue.
            tags: Tag<'a>,
        }
    }
}

layout! {
    /// Answers an open or a create.
    pub struct QueueOpened as "queue opened" {
        fixed {
            /// The number that other frames carry.
            queue: u64,
            /// Which queue of this name it is: never used again.
            incarnation: u64,
            /// The shard that it lives on, or [`ANY_SHARD`](crate::ANY_SHARD) where it is on all.
            shard: u16,
            /// 1 if it is a FIFO queue, else 0.
            fifo: u8,
        }
    }
}

layout! {
    /// Deletes a queue with its messages.
    pub struct DeleteQueueRequest as "delete queue" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
    }
}

layout! {
    /// Lists queues.
    pub struct ListQueuesRequest<'a> as "list queues" {
        fixed {
            /// Most queues in the reply: 1 to 1,000; 0 where not given.
            max: u16,
        }
        pieces {
            /// The account: twelve digits; empty means the broker's default.
            account: &'a str,
            /// The region; empty means the broker's default.
            region: &'a str,
            /// What the names begin with.
            prefix: &'a str,
        }
        fields {
            /// Where the reply before this one said to go on.
            1 next: &'a [u8],
        }
    }
}

layout! {
    /// Answers a list of queues or of dead-letter sources.
    pub struct QueuesReply<'a> as "queues" {
        lists {
            /// The queues.
            queues: QueueName<'a>,
        }
        fields {
            /// Where to go on, if there is more.
            1 next: &'a [u8],
        }
    }
}

layout! {
    /// An attribute of a queue with its value. Numbers and switches have a number, the others a text.
    pub struct Attribute<'a> as "attribute of a queue" {
        fixed {
            /// The number of its [`AttributeCode`].
            number: u16,
            /// Its value, where that is a number; else 0.
            value: u64,
        }
        fields {
            /// Its value, where that is a text.
            1 text: &'a str,
        }
    }
}

/// What an attribute is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// A number, or a switch as 0 or 1.
    Number(u64),
    /// A text.
    Text(&'a str),
}

impl<'a> Attribute<'a> {
    /// An attribute with its value.
    pub fn new(code: AttributeCode, value: AttributeValue<'a>) -> Self {
        match value {
            AttributeValue::Number(value) => Self { number: code.number(), value, text: None },
            AttributeValue::Text(text) => Self { number: code.number(), value: 0, text: Some(text) },
        }
    }

    /// Which one it is, where this version knows it.
    pub fn code(&self) -> Option<AttributeCode> {
        AttributeCode::from_number(self.number)
    }

    /// Its value.
    pub fn value(&self) -> AttributeValue<'a> {
        self.text.map_or(AttributeValue::Number(self.value), AttributeValue::Text)
    }
}

layout! {
    /// Names an attribute.
    pub struct AttributeName as "attribute name" {
        fixed {
            /// The number of its [`AttributeCode`], or [`ALL_ATTRIBUTES`](crate::ALL_ATTRIBUTES).
            number: u16,
        }
    }
}

impl AttributeName {
    /// Which one it is, where this version knows it.
    pub fn code(&self) -> Option<AttributeCode> {
        AttributeCode::from_number(self.number)
    }
}

layout! {
    /// Asks for attributes of a queue.
    pub struct GetAttributesRequest<'a> as "get attributes" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// Which ones.
            names: AttributeName,
        }
    }
}

layout! {
    /// Answers a get attributes.
    pub struct AttributesReply<'a> as "attributes of a queue" {
        lists {
            /// Those asked for that the queue has.
            attributes: Attribute<'a>,
        }
    }
}

layout! {
    /// Changes attributes of a queue.
    pub struct SetAttributesRequest<'a> as "set attributes" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// The new values; other attributes stay as they are.
            attributes: Attribute<'a>,
        }
    }
}

layout! {
    /// A tag.
    pub struct Tag<'a> as "tag" {
        pieces {
            /// Its key.
            key: &'a str,
            /// Its value.
            value: &'a str,
        }
    }
}

layout! {
    /// A text, as an entry of a list.
    pub struct Text<'a> as "text" {
        pieces {
            /// The text.
            text: &'a str,
        }
    }
}

layout! {
    /// Adds or replaces tags of a queue.
    pub struct TagQueueRequest<'a> as "tag queue" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// The tags.
            tags: Tag<'a>,
        }
    }
}

layout! {
    /// Removes tags of a queue.
    pub struct UntagQueueRequest<'a> as "untag queue" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        lists {
            /// The tags' keys.
            keys: Text<'a>,
        }
    }
}

layout! {
    /// Asks for the tags of a queue.
    pub struct ListTagsRequest as "list tags" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
    }
}

layout! {
    /// Answers a list of tags.
    pub struct TagsReply<'a> as "tags" {
        lists {
            /// The tags.
            tags: Tag<'a>,
        }
    }
}

layout! {
    /// Adds a statement to a queue's policy.
    pub struct AddPermissionRequest<'a> as "add permission" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        pieces {
            /// The statement's label, not used before.
            label: &'a str,
        }
        lists {
            /// Accounts that are allowed something.
            accounts: Text<'a>,
            /// What they are allowed: up to 7 names of operations in SQS, without a prefix.
            actions: Text<'a>,
        }
    }
}

layout! {
    /// Removes a statement from a queue's policy.
    pub struct RemovePermissionRequest<'a> as "remove permission" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
        pieces {
            /// The statement's label.
            label: &'a str,
        }
    }
}

layout! {
    /// Deletes all messages of a queue.
    pub struct PurgeRequest as "purge" {
        fixed {
            /// The queue's number.
            queue: u64,
        }
    }
}

layout! {
    /// Lists the queues that have this one for their dead letters.
    pub struct ListDeadLetterSourcesRequest<'a> as "list dead-letter sources" {
        fixed {
            /// The queue's number.
            queue: u64,
            /// Most queues in the reply: 1 to 1,000; 0 where not given.
            max: u16,
        }
        fields {
            /// Where the reply before this one said to go on.
            1 next: &'a [u8],
        }
    }
}

layout! {
    /// Starts moving messages out of a dead-letter queue.
    pub struct StartMoveTaskRequest as "start move task" {
        fixed {
            /// The number of the dead-letter queue.
            source: u64,
            /// The number of the queue to move them to, or [`NO_QUEUE`](crate::NO_QUEUE): each to the
            /// one that it came from.
            destination: u64,
            /// How fast: 1 to 500; 0 where not given.
            messages_per_second_max: u32,
        }
    }
}

layout! {
    /// Answers a start of a move task.
    pub struct MoveTaskStarted<'a> as "move task started" {
        pieces {
            /// What cancels the task.
            task: &'a [u8],
        }
    }
}

layout! {
    /// Stops a move task.
    pub struct CancelMoveTaskRequest<'a> as "cancel move task" {
        pieces {
            /// The task, as its start or a list named it.
            task: &'a [u8],
        }
    }
}

layout! {
    /// Answers a cancel of a move task.
    pub struct MoveTaskCancelled as "move task cancelled" {
        fixed {
            /// How many messages it had moved.
            moved: u64,
        }
    }
}

layout! {
    /// Lists the move tasks of a queue, newest first.
    pub struct ListMoveTasksRequest as "list move tasks" {
        fixed {
            /// The number of the dead-letter queue.
            source: u64,
            /// Most tasks in the reply: 1 to 10; 0 where not given, which is 1.
            max: u8,
        }
    }
}

layout! {
    /// A move task.
    pub struct MoveTask<'a> as "move task" {
        fixed {
            /// The number of its [`MoveTaskStatus`](crate::MoveTaskStatus).
            status: u16,
            /// How fast it may move; 0 where it was not said.
            messages_per_second_max: u32,
            /// How many messages it has moved.
            moved: u64,
            /// How many there were to move when it started.
            to_move: u64,
            /// When it started, in milliseconds since the Unix epoch.
            started_at_ms: u64,
        }
        pieces {
            /// What cancels it; empty where it does not run.
            task: &'a [u8],
            /// ARN of the dead-letter queue.
            source: &'a str,
            /// ARN of the queue that it moves to; empty: each to the one that it came from.
            destination: &'a str,
        }
        fields {
            /// Why it failed, where it did.
            1 failure: &'a str,
        }
    }
}

layout! {
    /// Answers a list of move tasks.
    pub struct MoveTasksReply<'a> as "move tasks" {
        lists {
            /// The tasks.
            tasks: MoveTask<'a>,
        }
    }
}

layout! {
    /// Asks for counters.
    pub struct StatsRequest as "stats" {
        fixed {
            /// The queue's number, or [`NO_QUEUE`](crate::NO_QUEUE) for the shard's counters.
            queue: u64,
        }
    }
}

layout! {
    /// A counter.
    pub struct Statistic as "statistic" {
        fixed {
            /// The number of its [`StatisticCode`](crate::StatisticCode).
            number: u16,
            /// What it stands at.
            value: u64,
        }
    }
}

layout! {
    /// Answers a stats.
    pub struct StatsReply<'a> as "statistics" {
        lists {
            /// The counters that there are.
            statistics: Statistic,
        }
    }
}
