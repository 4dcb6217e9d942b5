//! What a client asks for: the 23 actions of the API of 2012-11-05, each with its parameters as given.
//!
//! Texts borrow from the request. Parsers see to the form: that what must be there is there, that numbers
//! are numbers, base64 is base64, lists are not endless. [`checks`](super::checks) has the rules that need
//! no queue, and says who calls them; everything else is for who serves the action.
//!
//! `queue_url` is `None` where a request names its queue by the path that it came on.

use std::borrow::Cow;

use super::text::Text;

/// A name with a value: an attribute of a queue, or a tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pair<'a> {
    /// The name, or a tag's key.
    pub name: Text<'a>,
    /// The value.
    pub value: Text<'a>,
}

/// An attribute of a message, of either kind: a user's or the system's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageAttribute<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// `String`, `Number` or `Binary`, with an optional label behind a dot; empty where none was given.
    pub data_type: Text<'a>,
    /// The value as text.
    pub string_value: Option<Text<'a>>,
    /// The value as bytes.
    pub binary_value: Option<Cow<'a, [u8]>>,
    /// Whether a list of values was given, which the API has and no service takes.
    pub has_list_values: bool,
}

impl MessageAttribute<'_> {
    /// Whether its type says that the value is bytes.
    pub fn is_binary(&self) -> bool {
        is_binary(&self.data_type)
    }

    /// The value of the kind that the type says; empty where there is none.
    pub fn value(&self) -> &[u8] {
        match (self.is_binary(), &self.string_value, &self.binary_value) {
            (true, _, Some(bytes)) => bytes,
            (false, Some(text), _) => text.as_bytes(),
            _ => &[],
        }
    }
}

/// Whether values of this type are bytes.
pub(super) fn is_binary(data_type: &str) -> bool {
    data_type.strip_prefix("Binary").is_some_and(|label| label.is_empty() || label.starts_with('.'))
}

macro_rules! actions {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, PartialEq, Eq, Default)]
            pub struct $name<'a> {
                $($(#[$field_about])* pub $field: $type,)*
            }

            impl<'a> From<$name<'a>> for Action<'a> {
                fn from(parameters: $name<'a>) -> Self {
                    Self::$name(parameters)
                }
            }
        )*

        /// An action with its parameters.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Action<'a> {
            $($(#[$about])* $name($name<'a>),)*
        }

        impl Action<'_> {
            /// Which action it is.
            pub fn name(&self) -> ActionName {
                match self { $(Self::$name(_) => ActionName::$name,)* }
            }
        }

        /// Which action.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ActionName {
            $($(#[$about])* $name,)*
        }

        impl ActionName {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As it stands in requests.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The one of this name; case matters.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

actions! {
    /// Adds a statement to a queue's policy.
    AddPermission {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The statement's label.
        label: Text<'a>,
        /// Accounts that are allowed something.
        aws_account_ids: Vec<Text<'a>>,
        /// What they are allowed.
        actions: Vec<Text<'a>>,
    }
    /// Stops a move task.
    CancelMessageMoveTask {
        /// The task.
        task_handle: Text<'a>,
    }
    /// Changes for how long a message stays hidden.
    ChangeMessageVisibility {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The message's handle.
        receipt_handle: Text<'a>,
        /// Seconds from now; always there, once it was parsed.
        visibility_timeout: Option<i64>,
    }
    /// Changes for how long messages stay hidden.
    ChangeMessageVisibilityBatch {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The messages.
        entries: Vec<ChangeVisibilityEntry<'a>>,
    }
    /// Makes a queue.
    CreateQueue {
        /// Its name.
        queue_name: Text<'a>,
        /// Its attributes, where they are not to be what they are by default.
        attributes: Vec<Pair<'a>>,
        /// Its tags.
        tags: Vec<Pair<'a>>,
    }
    /// Deletes a message.
    DeleteMessage {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The message's handle.
        receipt_handle: Text<'a>,
    }
    /// Deletes messages.
    DeleteMessageBatch {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The messages.
        entries: Vec<DeleteEntry<'a>>,
    }
    /// Deletes a queue.
    DeleteQueue {
        /// The queue.
        queue_url: Option<Text<'a>>,
    }
    /// Gives a queue's attributes.
    GetQueueAttributes {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// Which, or `All`; none where none is named.
        attribute_names: Vec<Text<'a>>,
    }
    /// Gives a queue's URL.
    GetQueueUrl {
        /// The queue's name.
        queue_name: Text<'a>,
        /// The account that it is of, where that is not the caller's.
        queue_owner_aws_account_id: Option<Text<'a>>,
    }
    /// Lists the queues that have this one for their dead letters.
    ListDeadLetterSourceQueues {
        /// The dead-letter queue.
        queue_url: Option<Text<'a>>,
        /// Where the reply before this one said to go on.
        next_token: Option<Text<'a>>,
        /// Most queues in the reply: 1 to 1,000.
        max_results: Option<i64>,
    }
    /// Lists a queue's move tasks, newest first.
    ListMessageMoveTasks {
        /// The ARN of the dead-letter queue.
        source_arn: Text<'a>,
        /// Most tasks in the reply: 1 to 10, 1 where not given.
        max_results: Option<i64>,
    }
    /// Lists a queue's tags.
    ListQueueTags {
        /// The queue.
        queue_url: Option<Text<'a>>,
    }
    /// Lists queues.
    ListQueues {
        /// What their names begin with.
        queue_name_prefix: Option<Text<'a>>,
        /// Where the reply before this one said to go on.
        next_token: Option<Text<'a>>,
        /// Most queues in the reply: 1 to 1,000.
        max_results: Option<i64>,
    }
    /// Deletes all messages of a queue.
    PurgeQueue {
        /// The queue.
        queue_url: Option<Text<'a>>,
    }
    /// Takes messages.
    ReceiveMessage {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// System attributes to give, by the list's older name.
        attribute_names: Vec<Text<'a>>,
        /// System attributes to give. Both lists count.
        message_system_attribute_names: Vec<Text<'a>>,
        /// User attributes to give: what an [`AttributeFilter`](super::AttributeFilter) is made of.
        message_attribute_names: Vec<Text<'a>>,
        /// Most messages: 1 to 10, 1 where not given.
        max_number_of_messages: Option<i64>,
        /// Seconds for which they are hidden.
        visibility_timeout: Option<i64>,
        /// Seconds to wait for a message.
        wait_time_seconds: Option<i64>,
        /// Names this attempt, so that it can be made again; FIFO queues only.
        receive_request_attempt_id: Option<Text<'a>>,
    }
    /// Removes a statement from a queue's policy.
    RemovePermission {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The statement's label.
        label: Text<'a>,
    }
    /// Stores a message.
    SendMessage {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The message.
        message: NewMessage<'a>,
    }
    /// Stores messages.
    SendMessageBatch {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The messages.
        entries: Vec<SendEntry<'a>>,
    }
    /// Changes a queue's attributes.
    SetQueueAttributes {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The attributes to change.
        attributes: Vec<Pair<'a>>,
    }
    /// Starts moving messages out of a dead-letter queue.
    StartMessageMoveTask {
        /// The ARN of the dead-letter queue.
        source_arn: Text<'a>,
        /// The ARN of the queue to move to; each message to where it came from where not given.
        destination_arn: Option<Text<'a>>,
        /// How fast: 1 to 500.
        max_number_of_messages_per_second: Option<i64>,
    }
    /// Adds tags to a queue.
    TagQueue {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The tags.
        tags: Vec<Pair<'a>>,
    }
    /// Removes tags from a queue.
    UntagQueue {
        /// The queue.
        queue_url: Option<Text<'a>>,
        /// The keys of the tags.
        tag_keys: Vec<Text<'a>>,
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewMessage<'a> {
    /// The body; empty where none was given, which nobody may send.
    pub message_body: Text<'a>,
    /// Seconds for which nobody receives it.
    pub delay_seconds: Option<i64>,
    /// The user's attributes.
    pub message_attributes: Vec<MessageAttribute<'a>>,
    /// The system's attributes that a sender may give: `AWSTraceHeader`.
    pub message_system_attributes: Vec<MessageAttribute<'a>>,
    /// Deduplication id; FIFO queues only.
    pub message_deduplication_id: Option<Text<'a>>,
    /// Message group.
    pub message_group_id: Option<Text<'a>>,
}

/// One message of a batch to send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SendEntry<'a> {
    /// What its result is known by.
    pub id: Text<'a>,
    /// The message.
    pub message: NewMessage<'a>,
}

/// One message of a batch to delete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteEntry<'a> {
    /// What its result is known by.
    pub id: Text<'a>,
    /// The message's handle; empty where none was given.
    pub receipt_handle: Text<'a>,
}

/// One message of a batch to change the visibility of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeVisibilityEntry<'a> {
    /// What its result is known by.
    pub id: Text<'a>,
    /// The message's handle; empty where none was given.
    pub receipt_handle: Text<'a>,
    /// Seconds from now, which must be given.
    pub visibility_timeout: Option<i64>,
}

impl<'a> Action<'a> {
    /// The URL of the queue that the request names in its parameters.
    pub fn queue_url(&self) -> Option<&Text<'a>> {
        match self {
            Self::AddPermission(action) => action.queue_url.as_ref(),
            Self::ChangeMessageVisibility(action) => action.queue_url.as_ref(),
            Self::ChangeMessageVisibilityBatch(action) => action.queue_url.as_ref(),
            Self::DeleteMessage(action) => action.queue_url.as_ref(),
            Self::DeleteMessageBatch(action) => action.queue_url.as_ref(),
            Self::DeleteQueue(action) => action.queue_url.as_ref(),
            Self::GetQueueAttributes(action) => action.queue_url.as_ref(),
            Self::ListDeadLetterSourceQueues(action) => action.queue_url.as_ref(),
            Self::ListQueueTags(action) => action.queue_url.as_ref(),
            Self::PurgeQueue(action) => action.queue_url.as_ref(),
            Self::ReceiveMessage(action) => action.queue_url.as_ref(),
            Self::RemovePermission(action) => action.queue_url.as_ref(),
            Self::SendMessage(action) => action.queue_url.as_ref(),
            Self::SendMessageBatch(action) => action.queue_url.as_ref(),
            Self::SetQueueAttributes(action) => action.queue_url.as_ref(),
            Self::TagQueue(action) => action.queue_url.as_ref(),
            Self::UntagQueue(action) => action.queue_url.as_ref(),
            Self::CancelMessageMoveTask(_)
            | Self::CreateQueue(_)
            | Self::GetQueueUrl(_)
            | Self::ListMessageMoveTasks(_)
            | Self::ListQueues(_)
            | Self::StartMessageMoveTask(_) => None,
        }
    }
}

impl ActionName {
    /// Whether it is about a queue that the request names by its URL.
    pub const fn needs_queue_url(self) -> bool {
        !matches!(
            self,
            Self::CancelMessageMoveTask
                | Self::CreateQueue
                | Self::GetQueueUrl
                | Self::ListMessageMoveTasks
                | Self::ListQueues
                | Self::StartMessageMoveTask
        )
    }
}
