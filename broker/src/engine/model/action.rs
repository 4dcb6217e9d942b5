//! What can happen in a history, and how often it does.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Action {
    Create {
        name: usize,
        delay_seconds: Option<u32>,
    },
    DeleteQueue {
        name: usize,
    },
    Purge {
        name: usize,
    },
    Send {
        name: usize,
        messages: Vec<Message>,
    },
    Receive {
        name: usize,
        count_max: u32,
        wait_ms: u32,
        seconds: Option<u32>,
        bytes_max: u32,
        connection: u32,
        attempt: Option<u8>,
    },
    SendFifo {
        name: usize,
        connection: u32,
        messages: Vec<fifo::Message>,
    },
    Delete {
        name: usize,
        handles: Vec<usize>,
    },
    Hide {
        name: usize,
        entries: Vec<(usize, u32)>,
    },
    Set {
        name: usize,
        code: AttributeCode,
        value: u64,
    },
    Redrive {
        name: usize,
        target: Option<usize>,
        count: u32,
    },
    Allow {
        name: usize,
        allow: Allow,
    },
    Undelivered {
        deliveries: Vec<usize>,
    },
    Damaged {
        delivery: usize,
    },
    Peek {
        name: usize,
        count_max: u32,
    },
    CancelWaits {
        connection: u32,
    },
    AnswerWaits {
        connection: Option<u32>,
    },
    Advance {
        by_ms: u64,
        steps: u32,
    },
    /// Time passes before the next command that names messages comes, and no timer runs meanwhile.
    Late {
        by_ms: u64,
    },
    Restart,
    Clean {
        count: usize,
    },
}

/// Which queues may send their dead letters to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allow {
    All,
    None,
    Only(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) bytes: usize,
    pub(super) delay_seconds: Option<u32>,
    pub(super) attribute: bool,
    pub(super) group: Option<u8>,
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    let bytes = prop_oneof![8 => 1..200_usize, 1 => Just(0_usize), 1 => 1_020..1_030_usize];
    let delay = prop_oneof![6 => Just(None), 1 => Just(Some(0)), 2 => (1..20_u32).prop_map(Some), 1 => Just(Some(901))];
    (bytes, delay, prop::bool::weighted(0.2), fair::group()).prop_map(
        |(bytes, delay_seconds, attribute, group)| Message { bytes, delay_seconds, attribute, group },
    )
}

pub(super) fn setting() -> impl Strategy<Value = (AttributeCode, u64)> {
    prop_oneof![
        (prop_oneof![Just(60_u64), Just(61), Just(120), Just(600), Just(59)])
            .prop_map(|value| (AttributeCode::MessageRetentionPeriod, value)),
        (0..40_u64).prop_map(|value| (AttributeCode::VisibilityTimeout, value)),
        (0..10_u64).prop_map(|value| (AttributeCode::DelaySeconds, value)),
        prop_oneof![Just(1_024_u64), Just(1_048_576)]
            .prop_map(|value| (AttributeCode::MaximumMessageSize, value)),
        (0..25_u64).prop_map(|value| (AttributeCode::ReceiveMessageWaitTimeSeconds, value)),
    ]
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let standard = || prop_oneof![6 => Just(0_usize), 2 => Just(1), 1 => Just(2)];
    let fifo = || prop_oneof![4 => Just(FIFO_FROM), 1 => Just(FIFO_FROM + 1)];
    let name = || prop_oneof![1 => standard(), 1 => fifo()];
    let seconds = prop_oneof![
        2 => Just(None), 2 => Just(Some(0)), 6 => (1..40_u32).prop_map(Some), 1 => Just(Some(43_200)), 1 => Just(Some(43_201))
    ];
    let wait = prop_oneof![4 => Just(0_u32), 3 => 1..20_000_u32];
    let attempt = prop_oneof![3 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    let bytes_max = prop_oneof![3 => Just(u32::MAX), 1 => 0..1_500_u32];
    let by_ms = prop_oneof![3 => 0..5_u64, 3 => 0..3_000_u64, 3 => 0..40_000_u64, 1 => 0..400_000_u64];
    let steps = prop_oneof![2 => Just(ALL), 1 => 4..12_u32];
    prop_oneof![
        3 => (name(), prop_oneof![3 => Just(None), 1 => (0..3_u32).prop_map(Some)])
            .prop_map(|(name, delay_seconds)| Action::Create { name, delay_seconds }),
        1 => name().prop_map(|name| Action::DeleteQueue { name }),
        1 => name().prop_map(|name| Action::Purge { name }),
        6 => (standard(), prop::collection::vec(message(), 1..=10))
            .prop_map(|(name, messages)| Action::Send { name, messages }),
        8 => (fifo(), 0..2_u32, prop::collection::vec(fifo::message(), 1..=10)).prop_map(
            |(name, connection, messages)| Action::SendFifo { name, connection, messages }),
        12 => (name(), 1..=10_u32, wait, seconds, bytes_max, 0..3_u32, attempt).prop_map(
            |(name, count_max, wait_ms, seconds, bytes_max, connection, attempt)| Action::Receive {
                name, count_max, wait_ms, seconds, bytes_max, connection, attempt
            }),
        6 => (name(), prop::collection::vec(any::<usize>(), 1..=10))
            .prop_map(|(name, handles)| Action::Delete { name, handles }),
        4 => (name(), prop::collection::vec((any::<usize>(), prop_oneof![Just(0_u32), 1..60_u32, Just(43_200), Just(50_000)]), 1..=5))
            .prop_map(|(name, entries)| Action::Hide { name, entries }),
        2 => (name(), setting()).prop_map(|(name, (code, value))| Action::Set { name, code, value }),
        1 => (fifo(), fifo::setting()).prop_map(|(name, (code, value))| Action::Set { name, code, value }),
        3 => (name(), prop_oneof![1 => Just(None), 5 => name().prop_map(Some)], 1..4_u32)
            .prop_map(|(name, target, count)| Action::Redrive { name, target, count }),
        1 => (name(), prop_oneof![2 => Just(Allow::All), 1 => Just(Allow::None), 1 => name().prop_map(Allow::Only)])
            .prop_map(|(name, allow)| Action::Allow { name, allow }),
        2 => prop::collection::vec(any::<usize>(), 1..=5).prop_map(|deliveries| Action::Undelivered { deliveries }),
        1 => any::<usize>().prop_map(|delivery| Action::Damaged { delivery }),
        1 => (name(), 1..=10_u32).prop_map(|(name, count_max)| Action::Peek { name, count_max }),
        1 => (0..3_u32).prop_map(|connection| Action::CancelWaits { connection }),
        1 => prop::option::of(0..3_u32).prop_map(|connection| Action::AnswerWaits { connection }),
        10 => (by_ms, steps).prop_map(|(by_ms, steps)| Action::Advance { by_ms, steps }),
        3 => prop_oneof![0..3_000_u64, 0..100_000_u64].prop_map(|by_ms| Action::Late { by_ms }),
        2 => Just(Action::Restart),
        3 => (1..60_usize).prop_map(|count| Action::Clean { count }),
    ]
}

/// A receive as it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) connection: u32,
    pub(super) count_max: u32,
    pub(super) wait_ms: u32,
    pub(super) seconds: Option<u32>,
    pub(super) bytes_max: u32,
    pub(super) attempt: Option<u8>,
}
