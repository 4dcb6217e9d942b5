//! How many messages of a standard queue may be in flight, over all shards (rule 26).
//!
//! One shard, the queue's home, has the whole limit at first. A sibling that has none of it left asks for
//! a block; a home that has none left calls back what the siblings do not use, and shares that. The parts
//! never are more than the whole: each engine keeps its own. Here is who has asked whom, and which receives
//! wait for that; a receive is refused with OverLimit only once all that is unused has been looked for.

use std::collections::{BTreeMap, BTreeSet};

use super::pending::Search;
use crate::engine::incarnation_of;

/// How soon the limit is tried again for receives that wait.
const TRY_AGAIN_MS: u64 = 20;

/// The shard that owns a queue's limit.
pub fn home_of(queue: u64, shards: u16) -> u16 {
    (incarnation_of(queue) % u64::from(shards)) as u16
}

/// How much is leased at a time.
pub fn block(in_flight_max: u64, shards: u16) -> u64 {
    (in_flight_max / (8 * u64::from(shards))).max(1)
}

/// A home's calling back of what siblings do not use.
#[derive(Debug, Default)]
struct Recall {
    /// Shards that have asked, perhaps the home itself.
    askers: BTreeSet<u16>,
    /// Siblings that have not answered.
    left: u16,
}

/// Who has asked whom for parts of limits. Owned by one shard; bounded by the number of queues.
#[derive(Debug, Default)]
pub struct Leases {
    /// Queues of other homes for which more was asked.
    asked: BTreeSet<u64>,
    recalls: BTreeMap<u64, Recall>,
    /// Receives that go on once it is known whether there is more.
    parked: BTreeMap<u64, Vec<Search>>,
    /// Queues where receives wait for more of the limit, and when that is tried again.
    short: BTreeMap<u64, u64>,
}

impl Leases {
    /// A receive waits for the answer.
    pub fn park(&mut self, search: Search) {
        self.parked.entry(search.queue).or_default().push(search);
    }

    /// The answer is there: these go on.
    pub fn unpark(&mut self, queue: u64) -> Vec<Search> {
        self.parked.remove(&queue).unwrap_or_default()
    }

    /// More is to be asked of the queue's home; `false`: it has been already.
    pub fn asks(&mut self, queue: u64) -> bool {
        self.asked.insert(queue)
    }

    /// The home has answered.
    pub fn answered(&mut self, queue: u64) {
        self.asked.remove(&queue);
    }

    /// This home has nothing left for one who asks. Says whether the siblings are to be called: they
    /// are not where they have been.
    pub fn recall(&mut self, queue: u64, asker: u16, siblings: u16) -> bool {
        let is_new = !self.recalls.contains_key(&queue);
        let recall = self.recalls.entry(queue).or_default();
        recall.askers.insert(asker);
        if is_new {
            recall.left = siblings;
        }
        is_new
    }

    /// A sibling has given back what it does not use. Gives those who have asked once all have.
    pub fn returned(&mut self, queue: u64) -> Option<BTreeSet<u16>> {
        let recall = self.recalls.get_mut(&queue)?;
        recall.left = recall.left.saturating_sub(1);
        if recall.left > 0 {
            return None;
        }
        self.recalls.remove(&queue).map(|recall| recall.askers)
    }

    /// How much each of so many who have asked is given of what is free: its part of it, and a block at most.
    pub fn part(free: u64, askers: usize, block: u64) -> u64 {
        free.div_ceil(askers.max(1) as u64).min(block)
    }

    /// Receives of the queue wait for more of the limit: it is tried again soon.
    pub fn is_short(&mut self, queue: u64, now_ms: u64) {
        self.short.entry(queue).or_insert(now_ms + TRY_AGAIN_MS);
    }

    /// When a queue is to be tried again.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.short.values().copied().min()
    }

    /// Queues to be tried again now.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<u64> {
        let due: Vec<u64> =
            self.short.iter().filter(|(_, due_ms)| **due_ms <= now_ms).map(|(queue, _)| *queue).collect();
        for queue in &due {
            self.short.remove(queue);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of four shards three ask the home, which has called back five: none of them goes without.
    #[test]
    fn what_is_called_back_is_shared_by_all_who_have_asked() {
        let mut leases = Leases::default();
        assert!(leases.recall(7, 1, 3), "the siblings are called");
        assert!(!leases.recall(7, 2, 3) && !leases.recall(7, 3, 3), "once");
        assert_eq!((leases.returned(7), leases.returned(7)), (None, None));
        let askers = leases.returned(7).expect("all have answered");
        let (mut free, mut given) = (5, Vec::new());
        let part = Leases::part(free, askers.len(), 100);
        for _ in askers {
            given.push(part.min(free));
            free -= part.min(free);
        }
        assert_eq!((given, free), (vec![2, 2, 1], 0));
        assert_eq!(Leases::part(1_000, 2, 100), 100, "no more than a block");
        assert_eq!(leases.returned(7), None, "it is over");
    }
}
