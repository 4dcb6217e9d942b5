//! Changes of the catalog, one after the other on every shard (rule 20).
//!
//! Shard 0 judges a change, journals it, and tells the others once it is durable; each journals it and
//! says when that is durable; then whoever asked is answered. What shard 0 says of the catalog
//! meanwhile waits as well, behind all changes before it: nobody shall hear of a queue that some shard
//! does not know yet.
//!
//! Where there is one shard, a purge is such a change, and the only one.

use std::collections::VecDeque;

use crate::engine::{Change, Reply};
use crate::journal::Position;

/// Changes of the catalog that are not on all shards; with more, connections that want one are not
/// read from until some are done.
pub const STEPS_MAX: usize = 1_024;

/// A change under way, or an answer that waits for those before it.
#[derive(Debug)]
struct Step {
    number: u64,
    /// Where its record ends on shard 0.
    position: Position,
    change: Option<Change>,
    told: bool,
    /// Siblings that have not said that they have it.
    left: u16,
    reply: Reply,
}

/// Shard 0's side.
#[derive(Debug, Default)]
pub struct Steps {
    steps: VecDeque<Step>,
    last_number: u64,
}

impl Steps {
    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether as much is under way as may be.
    pub fn is_full(&self) -> bool {
        self.steps.len() >= STEPS_MAX
    }

    /// A change was applied and journaled here.
    pub fn begin(&mut self, change: Change, position: Position, reply: Reply, siblings: u16) {
        self.last_number += 1;
        let number = self.last_number;
        self.steps.push_back(Step {
            number,
            position,
            change: Some(change),
            told: false,
            left: siblings,
            reply,
        });
    }

    /// An answer waits for all changes that have begun.
    pub fn hold(&mut self, reply: Reply) {
        let (number, position) = (self.last_number, Position::default());
        self.steps.push_back(Step { number, position, change: None, told: true, left: 0, reply });
    }

    /// Whether a purge of this queue is under way.
    pub fn purges(&self, queue: u64) -> bool {
        let is_it =
            |change: &Change| matches!(change, Change::Purge { queue: purged, .. } if *purged == queue);
        self.steps.iter().any(|step| step.change.as_ref().is_some_and(is_it))
    }

    /// The next change that is durable here and that the siblings do not know, with its number.
    pub fn next_to_tell(&mut self, durable: Position) -> Option<(u64, Change)> {
        let step = self.steps.iter_mut().find(|step| !step.told)?;
        if step.position > durable {
            return None;
        }
        step.told = true;
        Some((step.number, step.change.clone()?))
    }

    /// A sibling has a change durable.
    pub fn applied(&mut self, number: u64) {
        let step = self.steps.iter_mut().find(|step| step.number == number && step.change.is_some());
        if let Some(step) = step {
            step.left = step.left.saturating_sub(1);
        }
    }

    /// The next answer that may leave, and what was changed.
    pub fn next_done(&mut self) -> Option<(Reply, Option<Change>)> {
        let first = self.steps.front()?;
        if !first.told || first.left > 0 {
            return None;
        }
        self.steps.pop_front().map(|step| (step.reply, step.change))
    }
}

/// A sibling's side.
#[derive(Debug, Default)]
pub struct FollowedSteps {
    /// Told and not applied: a new queue's place may still be taken here.
    to_apply: VecDeque<(u64, Change)>,
    /// Applied, and not durable.
    to_say: VecDeque<(u64, Position)>,
}

impl FollowedSteps {
    /// Shard 0 tells of a change.
    pub fn told(&mut self, number: u64, change: Change) {
        self.to_apply.push_back((number, change));
    }

    /// The next change to apply.
    pub fn first(&self) -> Option<&Change> {
        self.to_apply.front().map(|(_, change)| change)
    }

    /// Takes the next change to apply it.
    pub fn take_first(&mut self) -> Option<(u64, Change)> {
        self.to_apply.pop_front()
    }

    /// It was applied; its record ends here.
    pub fn applied(&mut self, number: u64, position: Position) {
        self.to_say.push_back((number, position));
    }

    /// The next one that is durable and that shard 0 is to be told of.
    pub fn next_durable(&mut self, committed: Position) -> Option<u64> {
        let (number, position) = *self.to_say.front()?;
        if position > committed {
            return None;
        }
        self.to_say.pop_front();
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_says_of_a_change_that_it_has_it_once_that_is_on_its_disk() {
        let mut followed = FollowedSteps::default();
        followed.applied(1, Position(100));
        followed.applied(2, Position(200));
        assert_eq!(followed.next_durable(Position(99)), None);
        assert_eq!(followed.next_durable(Position(100)), Some(1));
        assert_eq!(followed.next_durable(Position(100)), None);
        assert_eq!(followed.next_durable(Position(200)), Some(2));
    }
}
