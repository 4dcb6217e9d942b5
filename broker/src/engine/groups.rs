//! Message groups: which there are, what stands in each, and which of them are ready.
//!
//! A group is known by a keyed hash of its queue and its id, is made by its first message and goes
//! with its last one. Some of those that went last keep their places, as the next message of a busy group
//! comes soon; nothing but [`Groups::find_or_make`] sees these. Its messages form a list in the order of their sequences, whose links lie
//! beside the slots ([`Member`]). A group is ready when its first message may be given out; the ready
//! ones of a queue stand in the order of these messages' turns, so that a receive takes the first and
//! costs the same however many groups wait for something. Whether messages in flight keep a group
//! from being ready is the queue's matter: they do on a FIFO queue.
//!
//! A purge does not visit groups. A group that was made before its queue's last purge has a list
//! that means nothing; it begins anew with its next message, and goes when the sweep has freed its
//! last slot (rule 31).

use super::index::Index;
use super::keyed_hash::Key;
use super::queue::Turn;
use super::slot::NONE;
use crate::prefetch::prefetch;

/// Groups in a chunk: the table grows by chunks (rule 32).
const CHUNK_GROUPS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 12;

/// Empty groups that keep their places.
const EMPTY_MAX: u32 = 4_096;

/// What a message of a group has beside its slot. Says something where the slot has
/// [`FLAG_MEMBER`](super::slot::FLAG_MEMBER).
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub group: u32,
    /// The messages behind and before it in its group.
    pub next: u32,
    pub previous: u32,
    /// On a FIFO queue, while the message is in flight: when it was last delivered, in milliseconds
    /// after it was sent.
    pub delivered_after_ms: u32,
}

impl Member {
    /// The entry of a slot without a group.
    pub const NONE: Self = Self { group: NONE, next: NONE, previous: NONE, delivered_after_ms: 0 };

    /// A message of this group that is not linked yet.
    pub fn of(group: u32) -> Self {
        Self { group, ..Self::NONE }
    }
}

/// One group.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Group {
    pub key: Key,
    pub head: u32,
    /// The last message; in a free place, the next free one.
    pub tail: u32,
    pub in_flight: u32,
    /// Slots that refer to the group, also of messages that a purge made go and that are not swept yet.
    pub slots: u32,
    /// What its queue was purged through when the group began: another purge makes its list void.
    pub purged_through: u64,
    /// Where it stands among the ready ones of its queue, or [`NO_TURN`].
    turn: Turn,
    /// The ready ones behind and before it (see [`ReadyGroups`](super::ready::ReadyGroups)), or the empty ones.
    pub ready_next: u32,
    pub ready_previous: u32,
}

impl Group {
    fn new(key: Key) -> Self {
        Self {
            key,
            head: NONE,
            tail: NONE,
            in_flight: 0,
            slots: 0,
            purged_through: 0,
            turn: NO_TURN,
            ready_next: NONE,
            ready_previous: NONE,
        }
    }

    /// Where it stands among the ready ones of its queue, if it does.
    #[inline]
    pub fn turn(&self) -> Option<Turn> {
        (self.turn != NO_TURN).then_some(self.turn)
    }

    /// Gives it another turn, or none, and says which it had.
    #[inline]
    pub fn replace_turn(&mut self, turn: Option<Turn>) -> Option<Turn> {
        let before = self.turn();
        self.turn = turn.unwrap_or(NO_TURN);
        before
    }

    /// All that it had went with a purge, or was of nobody any more.
    #[inline]
    pub fn begin_anew(&mut self, purged_through: u64) {
        (self.head, self.tail, self.in_flight, self.turn) = (NONE, NONE, 0, NO_TURN);
        self.purged_through = purged_through;
    }
}

/// In [`Group::turn`]: it is not ready. No message has it.
const NO_TURN: Turn = (u64::MAX, u64::MAX);

const _: () = assert!(size_of::<Group>() == 64, "a group is one cache line");

/// All groups of a shard.
#[derive(Debug)]
pub(super) struct Groups {
    chunks: Vec<Vec<Group>>,
    used: u32,
    free: u32,
    index: Index,
    /// Empty groups in the order in which they became so.
    empty: u32,
    empty_head: u32,
    empty_tail: u32,
}

impl Groups {
    pub fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            free: NONE,
            index: Index::new(),
            empty: 0,
            empty_head: NONE,
            empty_tail: NONE,
        }
    }

    /// A group is going to be looked for soon.
    #[inline]
    pub fn expect(&self, key: Key) {
        self.index.prefetch(key);
    }

    /// The group with this key.
    #[cfg(test)]
    pub fn find(&self, key: Key) -> Option<u32> {
        self.find_any(key).filter(|&place| self.is_used(place))
    }

    #[inline]
    fn find_any(&self, key: Key) -> Option<u32> {
        self.index.find(key, |place| &self[place].key)
    }

    /// The group with this key, made where there is none.
    #[inline]
    pub fn find_or_make(&mut self, key: Key) -> u32 {
        if let Some(place) = self.find_any(key) {
            if self[place].slots == EMPTY {
                self.take_empty(place);
            }
            return place;
        }
        let place = self.place(Group::new(key));
        let chunks = &self.chunks;
        self.index.insert(key, place, |place| &at(chunks, place).key);
        place
    }

    fn place(&mut self, group: Group) -> u32 {
        if self.free != NONE {
            let place = self.free;
            self.free = self[place].tail;
            if self.free != NONE {
                prefetch(&self[self.free]);
            }
            self[place] = group;
            return place;
        }
        let place = self.used;
        if place as usize & (CHUNK_GROUPS - 1) == 0 {
            self.chunks.push(Vec::with_capacity(CHUNK_GROUPS));
        }
        self.chunks[place as usize >> CHUNK_BITS].push(group);
        self.used += 1;
        place
    }

    /// No slot refers to a group any more.
    #[inline]
    pub fn leave_empty(&mut self, place: u32) {
        let last = self.empty_tail;
        let group = &mut self[place];
        debug_assert_eq!(group.slots, 0, "a group goes with its last message");
        *group = Group { slots: EMPTY, ready_previous: last, ..Group::new(group.key) };
        match last {
            NONE => self.empty_head = place,
            last => self[last].ready_next = place,
        }
        self.empty_tail = place;
        self.empty += 1;
        if self.empty > EMPTY_MAX {
            let oldest = self.empty_head;
            self.take_empty(oldest);
            self.free(oldest);
        }
    }

    /// Makes an empty group one like any other that has no messages yet.
    #[inline]
    fn take_empty(&mut self, place: u32) {
        let group = &mut self[place];
        group.slots = 0;
        let (previous, next) = (group.ready_previous, group.ready_next);
        match previous {
            NONE => self.empty_head = next,
            previous => self[previous].ready_next = next,
        }
        match next {
            NONE => self.empty_tail = previous,
            next => self[next].ready_previous = previous,
        }
        self.empty -= 1;
    }

    fn free(&mut self, place: u32) {
        self.index.remove(self[place].key, place);
        let free = self.free;
        let group = &mut self[place];
        group.tail = free;
        group.slots = FREE;
        self.free = place;
    }

    /// Places that hold a group, from the lowest on.
    pub fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.used
    }

    /// Whether there is a group at this place, and not one that went.
    pub fn is_used(&self, place: u32) -> bool {
        self[place].slots < EMPTY
    }
}

/// In [`Group::slots`]: the place is free.
const FREE: u32 = u32::MAX;
/// In [`Group::slots`]: the group went, and keeps its place for its next message.
const EMPTY: u32 = u32::MAX - 1;

#[inline]
fn at(chunks: &[Vec<Group>], place: u32) -> &Group {
    &chunks[place as usize >> CHUNK_BITS][place as usize & (CHUNK_GROUPS - 1)]
}

impl std::ops::Index<u32> for Groups {
    type Output = Group;

    #[inline]
    fn index(&self, place: u32) -> &Group {
        at(&self.chunks, place)
    }
}

impl std::ops::IndexMut<u32> for Groups {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut Group {
        &mut self.chunks[place as usize >> CHUNK_BITS][place as usize & (CHUNK_GROUPS - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key([number, number << 52])
    }

    #[test]
    fn a_group_that_went_begins_anew_in_its_place() {
        let mut groups = Groups::new();
        let first = groups.find_or_make(key(1));
        let second = groups.find_or_make(key(2));
        assert_eq!((groups.find_or_make(key(1)), groups.find(key(2))), (first, Some(second)));
        groups[first].purged_through = 7;
        groups[first].head = 3;
        groups.leave_empty(first);
        assert_eq!(groups.find(key(1)), None);
        assert!(!groups.is_used(first) && groups.is_used(second));
        assert_eq!(groups.find_or_make(key(1)), first);
        assert!(groups.is_used(first));
        let group = &groups[first];
        assert_eq!((group.slots, group.head, group.tail, group.purged_through), (0, NONE, NONE, 0));
    }

    #[test]
    fn the_one_that_has_been_empty_longest_gives_its_place_away() {
        let mut groups = Groups::new();
        let places: Vec<u32> =
            (0..=u64::from(EMPTY_MAX) + 2).map(|number| groups.find_or_make(key(number))).collect();
        for &place in &places[..EMPTY_MAX as usize] {
            groups.leave_empty(place);
        }
        // From the front, the middle and the end of the order.
        for number in [0, 1_000, EMPTY_MAX as usize - 1] {
            assert_eq!(groups.find_or_make(key(number as u64)), places[number]);
        }
        for number in [1_000, EMPTY_MAX as usize - 1, 0] {
            groups.leave_empty(places[number]);
        }
        for &place in &places[EMPTY_MAX as usize..] {
            groups.leave_empty(place);
        }
        // Three more than fit: the first, the second and the third that were not used again.
        let new = u64::from(EMPTY_MAX) + 100;
        for (made, gone) in [(new, 3), (new + 1, 2), (new + 2, 1)] {
            assert_eq!(groups.find_or_make(key(made)), places[gone]);
        }
        assert_eq!(groups.find_or_make(key(new + 3)), places.len() as u32, "no other place is free");
        for number in [0, 4, 1_000, 1_001] {
            assert_eq!(groups.find_or_make(key(number as u64)), places[number]);
        }
    }
}
