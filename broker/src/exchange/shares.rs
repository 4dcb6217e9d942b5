//! What groups of fair queues hold on other shards (rule 26): each shard says every 100 ms what it has of
//! the groups that matter, where that has changed, and takes what the others have together.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::GroupShares;

/// How often shares are exchanged.
const EVERY_MS: u64 = 100;

/// Queues that are looked at in one round; with more, the rounds take turns.
const QUEUES_A_ROUND: usize = 256;

/// Shares of one shard in a queue.
type Part = (u64, GroupShares);

/// Both sides of groups' shares. Owned by one shard.
#[derive(Debug, Default)]
pub struct Shares {
    /// Queues with groups here, and what was said of them last.
    here: BTreeMap<u64, GroupShares>,
    /// What siblings have said, by queue and shard.
    elsewhere: BTreeMap<(u64, u16), GroupShares>,
    next_round_ms: u64,
    round_from: u64,
}

/// What comes of a round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// To be said to all siblings.
    pub said: Vec<Part>,
    /// What the others have together, to be taken here.
    pub taken: Vec<Part>,
}

impl Shares {
    /// Queues that have got groups.
    pub fn has_groups(&mut self, queues: BTreeSet<u64>) {
        for queue in queues {
            self.here.entry(queue).or_default();
        }
    }

    /// A sibling says what it has; nothing at all, where it has no groups any more.
    pub fn heard(&mut self, from: u16, parts: Vec<Part>) {
        for (queue, shares) in parts {
            if shares == GroupShares::default() {
                self.elsewhere.remove(&(queue, from));
            } else {
                self.elsewhere.insert((queue, from), shares);
            }
        }
    }

    /// When the next round is due, if one is.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        (!self.here.is_empty()).then_some(self.next_round_ms)
    }

    /// Looks at queues with groups, if that is due. `shares_of` says what a queue's groups have here; `None`:
    /// it has none any more.
    pub fn round(&mut self, now_ms: u64, mut shares_of: impl FnMut(u64) -> Option<GroupShares>) -> Round {
        let mut round = Round::default();
        if self.here.is_empty() || now_ms < self.next_round_ms {
            return round;
        }
        self.next_round_ms = now_ms + EVERY_MS;
        let queues: Vec<u64> =
            self.here.range(self.round_from..).take(QUEUES_A_ROUND).map(|(queue, _)| *queue).collect();
        self.round_from = match queues.last() {
            Some(last) if queues.len() == QUEUES_A_ROUND => last.saturating_add(1),
            _ => 0,
        };
        for queue in queues {
            let shares = shares_of(queue);
            let before = match &shares {
                Some(shares) => self.here.insert(queue, shares.clone()),
                None => self.here.remove(&queue),
            };
            let has_groups = shares.is_some();
            let shares = shares.unwrap_or_default();
            if before.is_some_and(|before| before != shares) {
                round.said.push((queue, shares));
            }
            if has_groups {
                round.taken.push((queue, self.all_elsewhere(queue)));
            }
        }
        round
    }

    fn all_elsewhere(&self, queue: u64) -> GroupShares {
        let mut all = GroupShares::default();
        for (_, shares) in self.elsewhere.range((queue, 0)..=(queue, u16::MAX)) {
            all.in_flight += shares.in_flight;
            all.processing_ms += shares.processing_ms;
            all.groups.extend(shares.groups.iter().cloned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::GroupShare;

    fn shares(in_flight: u64) -> GroupShares {
        let group = GroupShare { group: [1; 16], in_flight, processing_ms: 0 };
        GroupShares { in_flight, processing_ms: 0, groups: vec![group] }
    }

    #[test]
    fn shares_are_said_when_they_change_and_when_they_end() {
        let mut mine = Shares::default();
        assert_eq!(mine.next_deadline_ms(), None);
        mine.has_groups(BTreeSet::from([7]));
        let round = mine.round(1_000, |_| Some(shares(5)));
        assert_eq!(round.said, [(7, shares(5))]);
        assert_eq!(round.taken, [(7, GroupShares::default())]);
        assert_eq!(mine.round(1_050, |_| Some(shares(6))), Round::default(), "not before the next round");
        assert!(mine.round(1_100, |_| Some(shares(5))).said.is_empty(), "nothing has changed");
        let round = mine.round(1_200, |_| None);
        assert_eq!((round.said, round.taken), (vec![(7, GroupShares::default())], vec![]));
        assert_eq!(mine.next_deadline_ms(), None);
    }

    #[test]
    fn what_several_siblings_have_is_added_up_until_they_have_none() {
        let mut mine = Shares::default();
        mine.has_groups(BTreeSet::from([7]));
        mine.heard(1, vec![(7, shares(5)), (8, shares(1))]);
        mine.heard(2, vec![(7, shares(6))]);
        let taken = mine.round(1_000, |_| Some(shares(0))).taken;
        assert_eq!((taken[0].1.in_flight, taken[0].1.groups.len()), (11, 2));
        mine.heard(1, vec![(7, GroupShares::default())]);
        assert_eq!(mine.round(1_100, |_| Some(shares(0))).taken[0].1, shares(6));
    }
}
