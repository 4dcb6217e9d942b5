//! Long polls that wait on all shards at once (rule 24).
//!
//! A shard where receives wait for a queue tells each sibling once, and stays hungry for it until it
//! says otherwise, which it does only when a hint finds nobody waiting. A sibling that has a message
//! and no waiter of its own gives one hint, to one hungry shard after the other, for as many messages as
//! it has. Every hint is answered: by a receive, or by the end of the hunger.

use std::collections::{BTreeMap, VecDeque};

/// What siblings know of a queue's waits here.
#[derive(Debug, Default)]
struct Told {
    /// Who was told.
    siblings: Vec<u16>,
    /// Hints that no receive has answered yet.
    hints: VecDeque<u16>,
}

#[derive(Debug)]
struct HungryShard {
    shard: u16,
    /// Whether a hint is on its way or not answered.
    hinted: bool,
}

/// Who waits elsewhere for a queue's messages.
#[derive(Debug, Default)]
struct Hungry {
    shards: Vec<HungryShard>,
    /// Who is next, so that none is always first.
    next: usize,
}

/// Both sides of hunger. Owned by one shard.
#[derive(Debug, Default)]
pub struct Hunger {
    told: BTreeMap<u64, Told>,
    hungry: BTreeMap<u64, Hungry>,
}

/// Both sides.
impl Hunger {
    /// The queue is deleted: nothing of it is remembered.
    pub fn queue_is_gone(&mut self, queue: u64) {
        self.told.remove(&queue);
        self.hungry.remove(&queue);
    }

    /// The queues of which anything is remembered.
    pub fn queues(&self) -> impl Iterator<Item = u64> {
        self.told.keys().chain(self.hungry.keys()).copied()
    }
}

/// The side of those who wait.
impl Hunger {
    /// A receive waits for the queue: gives the siblings that do not know it yet.
    pub fn waits(&mut self, queue: u64, me: u16, shards: u16) -> Vec<u16> {
        let told = self.told.entry(queue).or_default();
        if told.siblings.len() + 1 == usize::from(shards) {
            return Vec::new();
        }
        let new: Vec<u16> =
            (0..shards).filter(|shard| *shard != me && !told.siblings.contains(shard)).collect();
        told.siblings.extend(&new);
        new
    }

    /// A sibling has given a hint.
    pub fn hinted(&mut self, queue: u64, from: u16) {
        self.told.entry(queue).or_default().hints.push_back(from);
    }

    /// A hint to be answered.
    pub fn take_hint(&mut self, queue: u64) -> Option<u16> {
        self.told.get_mut(&queue)?.hints.pop_front()
    }

    /// The sibling is told that nobody waits any more.
    pub fn withdrawn(&mut self, queue: u64, from: u16) {
        if let Some(told) = self.told.get_mut(&queue) {
            told.siblings.retain(|shard| *shard != from);
            if told.siblings.is_empty() && told.hints.is_empty() {
                self.told.remove(&queue);
            }
        }
    }
}

/// The side of those who have.
impl Hunger {
    /// A sibling says whether it is hungry; any hint to it is answered by that. Says whether anybody
    /// is hungry for the queue now.
    pub fn hears(&mut self, queue: u64, from: u16, on: bool) -> bool {
        let hungry = self.hungry.entry(queue).or_default();
        let known = hungry.shards.iter_mut().find(|hungry| hungry.shard == from);
        match (known, on) {
            (Some(known), true) => known.hinted = false,
            (None, true) => hungry.shards.push(HungryShard { shard: from, hinted: false }),
            (_, false) => hungry.shards.retain(|hungry| hungry.shard != from),
        }
        if hungry.shards.is_empty() {
            self.hungry.remove(&queue);
            return false;
        }
        true
    }

    /// The queue is gone.
    pub fn forget(&mut self, queue: u64) {
        self.hungry.remove(&queue);
    }

    /// A sibling has answered a hint by a receive.
    pub fn hint_answered(&mut self, queue: u64, from: u16) {
        let known = self.hungry.get_mut(&queue);
        if let Some(known) =
            known.and_then(|hungry| hungry.shards.iter_mut().find(|hungry| hungry.shard == from))
        {
            known.hinted = false;
        }
    }

    /// Whom to give hints, where so many messages can be taken.
    pub fn choose_for_hints(&mut self, queue: u64, visible: u64) -> Vec<u16> {
        let Some(hungry) = self.hungry.get_mut(&queue) else { return Vec::new() };
        let out = hungry.shards.iter().filter(|hungry| hungry.hinted).count() as u64;
        let count = hungry.shards.len();
        let mut chosen = Vec::new();
        for offset in 0..count {
            if out + chosen.len() as u64 >= visible {
                break;
            }
            let place = (hungry.next + offset) % count;
            let candidate = &mut hungry.shards[place];
            if !candidate.hinted {
                candidate.hinted = true;
                chosen.push(candidate.shard);
            }
        }
        hungry.next = (hungry.next + chosen.len()) % count;
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunger_is_told_once_and_again_after_it_was_withdrawn() {
        let mut hunger = Hunger::default();
        assert_eq!(hunger.waits(7, 1, 3), [0, 2]);
        assert!(hunger.waits(7, 1, 3).is_empty());
        hunger.hinted(7, 2);
        assert_eq!(hunger.take_hint(7), Some(2));
        hunger.withdrawn(7, 2);
        assert_eq!(hunger.waits(7, 1, 3), [2]);
    }

    #[test]
    fn as_many_hints_are_out_as_there_are_messages_and_in_turn() {
        let mut hunger = Hunger::default();
        for shard in [1, 2, 3] {
            assert!(hunger.hears(7, shard, true));
        }
        assert_eq!(hunger.choose_for_hints(7, 1), [1]);
        assert!(hunger.choose_for_hints(7, 1).is_empty());
        assert_eq!(hunger.choose_for_hints(7, 2), [2]);
        hunger.hint_answered(7, 1);
        hunger.hint_answered(7, 2);
        assert_eq!(hunger.choose_for_hints(7, 5), [3, 1, 2]);
        assert!(hunger.hears(7, 3, false) && hunger.hears(7, 2, false) && !hunger.hears(7, 1, false));
        assert!(hunger.choose_for_hints(7, 5).is_empty());
    }
}
