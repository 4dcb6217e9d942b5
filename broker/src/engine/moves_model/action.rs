//! What can happen in a history, and how often it does.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Action {
    Create {
        name: usize,
    },
    Delete {
        name: usize,
    },
    Purge {
        name: usize,
    },
    /// A dead-letter queue lets no queue in any more, or all.
    Deny {
        name: usize,
        on: bool,
    },
    Send {
        name: usize,
        shard: usize,
        group: u8,
    },
    Receive {
        name: usize,
        shard: usize,
        count_max: u32,
        seconds: u32,
        wait_ms: u32,
    },
    DeleteMessage {
        place: usize,
    },
    Start {
        source: usize,
        destination: Option<usize>,
        rate: u32,
        /// What the first shard says of it comes to the second before the task itself.
        is_early: bool,
    },
    Cancel {
        source: usize,
    },
    List {
        source: usize,
    },
    /// A shard gives what is to go to the other, if that may be given more.
    Want {
        shard: usize,
        has_room: bool,
    },
    /// A shard hears what the other has said, so much of it.
    Hear {
        shard: usize,
        count: usize,
    },
    /// A shard takes the next message that has come.
    Take {
        shard: usize,
        twice: bool,
    },
    Advance {
        by_ms: u64,
    },
    /// The log of a shard has room for so much.
    Room {
        shard: usize,
        room: Room,
    },
    Crash,
    Clean {
        shard: usize,
        count: usize,
    },
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let shard = || 0..SHARDS;
    let work = || prop_oneof![3 => Just(0_usize), 4 => Just(2), 3 => Just(3)];
    let letters = || prop_oneof![2 => Just(1_usize), 3 => Just(4)];
    let either = || prop_oneof![4 => work(), 1 => letters()];
    let destination = prop_oneof![3 => Just(None), 2 => work().prop_map(Some)];
    let rate = prop_oneof![2 => Just(0_u32), 2 => 1..4_u32, 1 => 4..40_u32];
    let wait_ms = prop_oneof![3 => Just(0_u32), 1 => 1..20_000_u32];
    let room = prop_oneof![3 => Just(Room::All), 2 => Just(Room::NoSends), 1 => Just(Room::NoReceives)];
    let by_ms = prop_oneof![3 => 0..300_u64, 4 => 300..2_500_u64, 1 => 0..200_000_u64];
    prop_oneof![
        2 => (0..NAMES.len()).prop_map(|name| Action::Create { name }),
        1 => either().prop_map(|name| Action::Delete { name }),
        1 => either().prop_map(|name| Action::Purge { name }),
        1 => (letters(), prop::bool::weighted(0.3)).prop_map(|(name, on)| Action::Deny { name, on }),
        14 => (prop_oneof![12 => work(), 1 => letters()], shard(), 0..3_u8)
            .prop_map(|(name, shard, group)| Action::Send { name, shard, group }),
        14 => (prop_oneof![4 => work(), 1 => letters()], shard(), 1..=10_u32, 0..3_u32, wait_ms)
            .prop_map(|(name, shard, count_max, seconds, wait_ms)| {
                Action::Receive { name, shard, count_max, seconds, wait_ms }
            }),
        2 => any::<usize>().prop_map(|place| Action::DeleteMessage { place }),
        5 => (letters(), destination, rate, prop::bool::weighted(0.2))
            .prop_map(|(source, destination, rate, is_early)| Action::Start { source, destination, rate, is_early }),
        1 => letters().prop_map(|source| Action::Cancel { source }),
        1 => letters().prop_map(|source| Action::List { source }),
        8 => (shard(), prop::bool::weighted(0.9)).prop_map(|(shard, has_room)| Action::Want { shard, has_room }),
        10 => (shard(), 1..5_usize).prop_map(|(shard, count)| Action::Hear { shard, count }),
        8 => (shard(), prop::bool::weighted(0.2)).prop_map(|(shard, twice)| Action::Take { shard, twice }),
        10 => by_ms.prop_map(|by_ms| Action::Advance { by_ms }),
        1 => (shard(), room).prop_map(|(shard, room)| Action::Room { shard, room }),
        3 => Just(Action::Crash),
        4 => (shard(), 1..200_usize).prop_map(|(shard, count)| Action::Clean { shard, count }),
    ]
}
