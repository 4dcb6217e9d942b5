//! The groups of a FIFO queue whose first messages may be given out, in the order of these messages'
//! turns.
//!
//! A group that becomes ready by a new message comes behind all others, whose first messages are older:
//! it is linked behind the last one, and a receive takes the first. Only where an older message becomes
//! the first of its group does the group have to be found a place among others; those stand in a map.

use std::collections::BTreeMap;

use super::groups::{Group, Groups};
use super::queue::Turn;
use super::slot::NONE;

/// In [`Group::ready_previous`]: it stands in the map.
const IN_MAP: u32 = u32::MAX - 1;

/// One queue's; the links lie in the groups. Owned by the queue.
#[derive(Debug)]
pub(super) struct ReadyGroups {
    head: u32,
    tail: u32,
    others: BTreeMap<Turn, u32>,
}

impl ReadyGroups {
    pub fn new() -> Self {
        Self { head: NONE, tail: NONE, others: BTreeMap::new() }
    }

    /// A group that does not stand here becomes ready.
    #[inline]
    pub fn insert(&mut self, groups: &mut Groups, place: u32, turn: Turn) {
        let is_last = self.tail == NONE || groups[self.tail].turn() < Some(turn);
        let group = &mut groups[place];
        group.replace_turn(Some(turn));
        if !is_last {
            group.ready_previous = IN_MAP;
            self.others.insert(turn, place);
            return;
        }
        (group.ready_previous, group.ready_next) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = place,
            tail => groups[tail].ready_next = place,
        }
        self.tail = place;
    }

    /// A group is not ready any more, if it was.
    #[inline]
    pub fn remove(&mut self, groups: &mut Groups, place: u32) {
        let Group { ready_previous: previous, ready_next: next, .. } = groups[place];
        let Some(turn) = groups[place].replace_turn(None) else { return };
        if previous == IN_MAP {
            self.others.remove(&turn);
            return;
        }
        match previous {
            NONE => self.head = next,
            previous => groups[previous].ready_next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => groups[next].ready_previous = previous,
        }
    }

    /// The group whose turn it is.
    #[inline]
    pub fn first(&self, groups: &Groups) -> Option<u32> {
        let other = self.others.first_key_value();
        if self.head == NONE {
            return other.map(|(_, &place)| place);
        }
        match other {
            Some((&turn, &place)) if Some(turn) < groups[self.head].turn() => Some(place),
            _ => Some(self.head),
        }
    }

    /// The group whose turn it is, which is not ready any more.
    #[inline]
    pub fn take_first(&mut self, groups: &mut Groups) -> Option<u32> {
        let place = self.first(groups)?;
        self.remove(groups, place);
        Some(place)
    }

    /// None is ready any more; what the groups say of it means nothing. What was in the map is given
    /// back, to be dropped in slices.
    pub fn forget(&mut self) -> BTreeMap<Turn, u32> {
        std::mem::replace(self, Self::new()).others
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keyed_hash::Key;
    use super::*;

    proptest! {
        #[test]
        fn they_stand_in_the_order_of_their_turns(
            actions in prop::collection::vec((0..20_usize, 0..4_u8, 0..100_u64), 1..500)
        ) {
            let mut groups = Groups::new();
            let places: Vec<u32> = (0..20).map(|number| groups.find_or_make(Key([number, 1]))).collect();
            let mut ready = ReadyGroups::new();
            let mut known = BTreeMap::new();
            for (sequence, (number, action, since_ms)) in actions.into_iter().enumerate() {
                let place = places[number];
                match action {
                    0 => {
                        ready.remove(&mut groups, place);
                        known.retain(|_, &mut other| other != place);
                    }
                    1 => {
                        let expected = known.pop_first().map(|(_, place)| place);
                        prop_assert_eq!(ready.take_first(&mut groups), expected);
                    }
                    _ if groups[place].turn().is_none() => {
                        // Every other one comes behind all.
                        let turn = (if action == 2 { sequence as u64 } else { since_ms }, sequence as u64);
                        ready.insert(&mut groups, place, turn);
                        known.insert(turn, place);
                    }
                    _ => {}
                }
                prop_assert_eq!(ready.first(&groups), known.values().next().copied());
            }
            while let Some((_, place)) = known.pop_first() {
                prop_assert_eq!(ready.take_first(&mut groups), Some(place));
            }
            prop_assert!(ready.take_first(&mut groups).is_none() && ready.tail == NONE);
        }
    }
}
