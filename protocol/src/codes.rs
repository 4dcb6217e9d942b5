//! The numbers of the protocol: operations, flags, attributes of queues, statistics.

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// The newest revision of the layouts that this crate knows. A revision adds fields behind those of
/// the one before; either side skips what it does not know.
pub const REVISION: u16 = 0;

/// Most entries in a batch, and most messages in a receive.
pub const BATCH_ENTRIES_MAX: u16 = 10;

/// Most bytes of messages in a batch, and of one message.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Stands for "no queue" where a queue number may be left out.
pub const NO_QUEUE: u64 = u64::MAX;

/// Stands for "any shard" or "every shard".
pub const ANY_SHARD: u16 = u16::MAX;

/// Stands for "what the queue's attribute says" in a receive's wait and visibility timeout.
pub const QUEUE_DEFAULT: u32 = u32::MAX;

/// Stands for "all attributes" in a get attributes.
pub const ALL_ATTRIBUTES: u16 = 0;

/// Flag of a header: this frame comes from the broker.
pub const FLAG_REPLY: u16 = 1 << 0;
/// Flag of a header: this reply is an error frame.
pub const FLAG_ERROR: u16 = 1 << 1;
/// All flags of a header that have a meaning.
pub const FLAGS_KNOWN: u16 = FLAG_REPLY | FLAG_ERROR;

macro_rules! codes {
    (
        $(#[$about:meta])*
        pub enum $type:ident: $number:ident { $($(#[$code_about:meta])* $name:ident = $code:literal $(, $text:literal)?;)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($number)]
        pub enum $type {
            $($(#[$code_about])* $name = $code,)*
        }

        impl $type {
            /// All of them, by rising number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The one with this number on the wire.
            pub const fn from_number(number: $number) -> Option<Self> {
                match number {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The number on the wire.
            pub const fn number(self) -> $number {
                self as $number
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => codes!(@name $name $($text)?),)* }
            }
        }
    };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:ident $text:literal) => { $text };
}

codes! {
    /// What a frame asks for or answers.
    pub enum Operation: u8 {
        /// Begins a connection: versions, features, limits, shards.
        Hello = 1;
        /// Turns a queue's name into the number that other frames carry.
        Open = 2;
        /// Proves who the client is.
        Authenticate = 3;
        /// Stores 1 to 10 messages.
        Send = 4;
        /// Takes up to 10 messages, waiting for them if asked to.
        Receive = 5;
        /// Deletes 1 to 10 messages by their handles.
        Delete = 6;
        /// Changes for how long 1 to 10 messages stay hidden.
        ChangeVisibility = 7;
        /// Looks at messages without taking them.
        Peek = 8;
        /// Makes a queue, or opens the one that is there.
        CreateQueue = 9;
        /// Deletes a queue with its messages.
        DeleteQueue = 10;
        /// Lists queues by their names' prefix.
        ListQueues = 11;
        /// Gives attributes of a queue.
        GetAttributes = 12;
        /// Changes attributes of a queue.
        SetAttributes = 13;
        /// Adds or replaces tags of a queue.
        TagQueue = 14;
        /// Removes tags of a queue.
        UntagQueue = 15;
        /// Lists the tags of a queue.
        ListTags = 16;
        /// Adds a statement to a queue's policy.
        AddPermission = 17;
        /// Removes a statement from a queue's policy.
        RemovePermission = 18;
        /// Deletes all messages of a queue.
        Purge = 19;
        /// Lists the queues that have this one for their dead letters.
        ListDeadLetterSources = 20;
        /// Starts moving messages out of a dead-letter queue.
        StartMoveTask = 21;
        /// Stops a move task.
        CancelMoveTask = 22;
        /// Lists the move tasks of a queue.
        ListMoveTasks = 23;
        /// Gives counters of a queue or of the shard.
        Stats = 24;
        /// Asks for a sign of life.
        Ping = 25;
        /// Ends a connection, from either side.
        Goodbye = 26;
    }
}

codes! {
    /// The attributes of a queue. Numbers on the wire are numbers; switches are 0 and 1;
    /// texts are what SQS has for them.
    ///
    /// ```
    /// use tenpin_protocol::AttributeCode;
    /// assert_eq!(AttributeCode::from_name("DelaySeconds"), Some(AttributeCode::DelaySeconds));
    /// assert!(AttributeCode::RedrivePolicy.is_text() && AttributeCode::QueueArn.is_read_only());
    /// ```
    pub enum AttributeCode: u16 {
        /// Seconds for which a received message is hidden: 0-43,200, 30 if not given. Number.
        VisibilityTimeout = 1;
        /// Seconds for which a sent message is delayed: 0-900, 0 if not given. Number.
        DelaySeconds = 2;
        /// Seconds for which a receive waits: 0-20, 0 if not given. Number.
        ReceiveMessageWaitTimeSeconds = 3;
        /// Seconds after which a message expires: 60-1,209,600, 345,600 if not given. Number.
        MessageRetentionPeriod = 4;
        /// Bytes of the largest message: 1,024-1,048,576, 1,048,576 if not given. Number.
        MaximumMessageSize = 5;
        /// Who may do what: JSON; empty resets it. Text.
        Policy = 6;
        /// Where dead letters go and when: JSON; empty resets it. Text.
        RedrivePolicy = 7;
        /// Which queues may send their dead letters here: JSON; empty resets it. Text.
        RedriveAllowPolicy = 8;
        /// The KMS key; empty resets it. Text.
        KmsMasterKeyId = 9;
        /// Seconds for which a data key is used: 60-86,400, 300 if not given. Number.
        KmsDataKeyReusePeriodSeconds = 10;
        /// Whether the broker's own keys encrypt: 1 if not given. Switch.
        SqsManagedSseEnabled = 11;
        /// Whether it is a FIFO queue; at creation only. Switch.
        FifoQueue = 12;
        /// Whether a message's body is its deduplication id where it has none. Switch; FIFO only.
        ContentBasedDeduplication = 13;
        /// `queue` or `messageGroup`. Text; FIFO only.
        DeduplicationScope = 14;
        /// `perQueue` or `perMessageGroupId`. Text; FIFO only.
        FifoThroughputLimit = 15;
        /// Visible messages. Number; read only.
        ApproximateNumberOfMessages = 32;
        /// Messages in flight. Number; read only.
        ApproximateNumberOfMessagesNotVisible = 33;
        /// Delayed messages. Number; read only.
        ApproximateNumberOfMessagesDelayed = 34;
        /// Seconds since the Unix epoch. Number; read only.
        CreatedTimestamp = 35;
        /// Seconds since the Unix epoch. Number; read only.
        LastModifiedTimestamp = 36;
        /// The queue's ARN. Text; read only.
        QueueArn = 37;
    }
}

impl AttributeCode {
    /// Whether it can be asked for but not set.
    pub const fn is_read_only(self) -> bool {
        self.number() >= Self::ApproximateNumberOfMessages.number()
    }

    /// Whether its value is a text (the others are numbers).
    pub const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Policy
                | Self::RedrivePolicy
                | Self::RedriveAllowPolicy
                | Self::KmsMasterKeyId
                | Self::DeduplicationScope
                | Self::FifoThroughputLimit
                | Self::QueueArn
        )
    }

    /// Whether its value is a switch: a number that is 0 or 1, which SQS writes as `false` and `true`.
    pub const fn is_switch(self) -> bool {
        matches!(self, Self::SqsManagedSseEnabled | Self::FifoQueue | Self::ContentBasedDeduplication)
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

codes! {
    /// Counters that a stats reply carries. Those of the first group are exact at the moment of the
    /// reply; the others have counted since the broker started.
    ///
    /// ```
    /// use tenpin_protocol::StatisticCode;
    /// assert_eq!(StatisticCode::from_number(2).map(StatisticCode::name), Some("InFlight"));
    /// ```
    pub enum StatisticCode: u16 {
        /// Messages that a receive could take now.
        Visible = 1;
        /// Messages in flight.
        InFlight = 2;
        /// Messages whose delay is not over.
        Delayed = 3;
        /// Messages set aside because they are damaged.
        Damaged = 4;
        /// Bytes of bodies and attributes stored.
        StoredBytes = 5;
        /// For how long the message that is next could have been received, in milliseconds: since it was
        /// sent, its delay ended, or it came back. 0 where none can be received.
        OldestAgeMs = 6;
        /// Receives that wait now.
        Waiting = 7;
        /// Queues (of the shard).
        Queues = 8;
        /// Connections (of the shard).
        Connections = 9;
        /// Messages accepted.
        Sent = 32;
        /// Deliveries.
        Received = 33;
        /// Messages deleted.
        Deleted = 34;
        /// Messages that expired.
        Expired = 35;
        /// Messages purged.
        Purged = 36;
        /// Receives answered with nothing.
        EmptyReceives = 37;
        /// Bytes appended to the log.
        LogBytes = 64;
        /// Bytes of the log that are live.
        LogLiveBytes = 65;
        /// Bytes copied by cleaning.
        LogCopiedBytes = 66;
        /// Batches written to the log.
        LogBatches = 67;
        /// Shards whose log has no room for what is sent.
        LogFull = 68;
        /// Shards that judge retention by an earlier time, as the wall clock is further ahead than is believed.
        RetentionHeldBack = 69;
    }
}

codes! {
    /// What state a peeked message is in.
    ///
    /// ```
    /// use tenpin_protocol::MessageState;
    /// let names: Vec<_> = MessageState::ALL.iter().map(|state| state.name()).collect();
    /// assert_eq!(names, ["Visible", "InFlight", "Delayed", "Damaged"]);
    /// ```
    pub enum MessageState: u8 {
        /// A receive could take it.
        Visible = 1;
        /// It was received and is hidden.
        InFlight = 2;
        /// Its delay is not over.
        Delayed = 3;
        /// Its stored bytes are damaged; it was set aside.
        Damaged = 4;
    }
}

codes! {
    /// What state a move task is in.
    ///
    /// ```
    /// use tenpin_protocol::MoveTaskStatus;
    /// assert_eq!(MoveTaskStatus::Running.name(), "RUNNING");
    /// ```
    pub enum MoveTaskStatus: u16 {
        /// It moves messages.
        Running = 1, "RUNNING";
        /// It has moved all.
        Completed = 2, "COMPLETED";
        /// It was told to stop and has not yet.
        Cancelling = 3, "CANCELLING";
        /// It stopped because it was told to.
        Cancelled = 4, "CANCELLED";
        /// It stopped for the reason given.
        Failed = 5, "FAILED";
    }
}

/// Tags of the optional fields of a message, which follow its body.
pub mod content_tag {
    /// Message group.
    pub const GROUP: u8 = 1;
    /// Deduplication id.
    pub const DEDUPLICATION_ID: u8 = 2;
    /// User attributes.
    pub const ATTRIBUTES: u8 = 3;
    /// Trace header.
    pub const TRACE_HEADER: u8 = 4;
    /// ARN of the queue that the message was a dead letter of; only given out.
    pub const DEAD_LETTER_SOURCE: u8 = 5;
    /// Who sent it; only given out.
    pub const SENDER: u8 = 6;
}
