//! The settings of a queue that the engine reads all the time: numbers, in their ranges, and what a
//! FIFO queue has beside them. They are copied, not borrowed, and cost no pointer.

use tenpin_protocol::AttributeCode;

/// What a queue does with its messages. All fields are within their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    visibility_timeout_seconds: u32,
    delay_seconds: u32,
    receive_wait_seconds: u32,
    retention_seconds: u32,
    message_bytes_max: u32,
    /// What only a FIFO queue has; `None`: it is a standard queue.
    pub fifo: Option<FifoAttributes>,
}

/// What only a FIFO queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FifoAttributes {
    /// Whether the body stands for a deduplication id that is not given.
    pub content_based: bool,
    /// Among which messages duplicates are looked for.
    pub scope: DeduplicationScope,
    /// What the quota of SQS would apply to. Nothing here depends on it: it is kept and shown.
    pub throughput: ThroughputLimit,
}

/// Among which messages of a FIFO queue duplicates are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeduplicationScope {
    /// All of the queue.
    #[default]
    Queue,
    /// Those of the same group.
    MessageGroup,
}

/// What the quota of a FIFO queue applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThroughputLimit {
    /// The queue.
    #[default]
    PerQueue,
    /// Each group.
    PerMessageGroup,
}

impl DeduplicationScope {
    /// What SQS calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::MessageGroup => "messageGroup",
        }
    }

    /// The one that SQS calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Queue, Self::MessageGroup].into_iter().find(|scope| scope.name() == name)
    }
}

impl ThroughputLimit {
    /// What SQS calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerQueue => "perQueue",
            Self::PerMessageGroup => "perMessageGroupId",
        }
    }

    /// The one that SQS calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PerQueue, Self::PerMessageGroup].into_iter().find(|limit| limit.name() == name)
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            visibility_timeout_seconds: 30,
            delay_seconds: 0,
            receive_wait_seconds: 0,
            retention_seconds: 345_600,
            message_bytes_max: 1_048_576,
            fifo: None,
        }
    }
}

/// How many numbers there are.
pub(crate) const NUMBERS: usize = 5;

/// The attributes that are numbers, with their ranges, in the order in which records have them.
pub(crate) const RANGES: [(AttributeCode, u32, u32); NUMBERS] = [
    (AttributeCode::VisibilityTimeout, 0, 43_200),
    (AttributeCode::DelaySeconds, 0, 900),
    (AttributeCode::ReceiveMessageWaitTimeSeconds, 0, 20),
    (AttributeCode::MessageRetentionPeriod, 60, 1_209_600),
    (AttributeCode::MaximumMessageSize, 1_024, 1_048_576),
];

impl Attributes {
    /// How long a received message is hidden.
    pub fn visibility_timeout_ms(&self) -> u64 {
        u64::from(self.visibility_timeout_seconds) * 1_000
    }

    /// How long a sent message is delayed.
    pub fn delay_ms(&self) -> u64 {
        u64::from(self.delay_seconds) * 1_000
    }

    /// How long a receive waits.
    pub fn receive_wait_ms(&self) -> u64 {
        u64::from(self.receive_wait_seconds) * 1_000
    }

    /// How long a message is kept.
    pub fn retention_ms(&self) -> u64 {
        u64::from(self.retention_seconds) * 1_000
    }

    /// The largest message, user attributes included.
    pub fn message_bytes_max(&self) -> u32 {
        self.message_bytes_max
    }

    /// The defaults of a queue that is a FIFO queue or not.
    pub(crate) fn of_kind(fifo: Option<FifoAttributes>) -> Self {
        Self { fifo, ..Self::default() }
    }

    /// Whether it is a FIFO queue.
    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    /// All numbers, in the order in which records have them.
    pub(crate) fn numbers(&self) -> [u32; NUMBERS] {
        [
            self.visibility_timeout_seconds,
            self.delay_seconds,
            self.receive_wait_seconds,
            self.retention_seconds,
            self.message_bytes_max,
        ]
    }

    /// With these numbers, each of which must be within its range; else `None`.
    pub(crate) fn with_numbers(self, numbers: [u32; NUMBERS]) -> Option<Self> {
        let within = |(number, range): (&u32, &(_, u32, u32))| (range.1..=range.2).contains(number);
        if !numbers.iter().zip(&RANGES).all(within) {
            return None;
        }
        let [
            visibility_timeout_seconds,
            delay_seconds,
            receive_wait_seconds,
            retention_seconds,
            message_bytes_max,
        ] = numbers;
        Some(Self {
            visibility_timeout_seconds,
            delay_seconds,
            receive_wait_seconds,
            retention_seconds,
            message_bytes_max,
            fifo: self.fifo,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_ranges_are_kept() {
        let defaults = Attributes::default();
        assert_eq!(defaults.with_numbers(defaults.numbers()), Some(defaults));
        for (place, (_, minimum, maximum)) in RANGES.into_iter().enumerate() {
            let with = |number| {
                let mut numbers = defaults.numbers();
                numbers[place] = number;
                defaults.with_numbers(numbers).map(|attributes| attributes.numbers()[place])
            };
            assert_eq!((with(minimum), with(maximum)), (Some(minimum), Some(maximum)));
            assert_eq!((with(minimum.wrapping_sub(1)), with(maximum + 1)), (None, None));
        }
    }

    #[test]
    fn names_of_choices_lead_back_to_them() {
        for scope in [DeduplicationScope::Queue, DeduplicationScope::MessageGroup] {
            assert_eq!(DeduplicationScope::from_name(scope.name()), Some(scope));
        }
        for limit in [ThroughputLimit::PerQueue, ThroughputLimit::PerMessageGroup] {
            assert_eq!(ThroughputLimit::from_name(limit.name()), Some(limit));
        }
        assert_eq!((DeduplicationScope::from_name(""), ThroughputLimit::from_name("queue")), (None, None));
    }
}
