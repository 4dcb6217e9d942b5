//! All slots of a shard, in chunks of a fixed size.
//!
//! The slab grows by whole chunks and never moves a slot (rule 32): growing costs the same at any
//! depth. Freed slots are used again last in, first out, so that a queue that is drained as fast as
//! it is filled stays within a few cache lines. Owned by the shard's engine.

use super::chunks::Next;
use super::slot::{NONE, SLOTS_MAX, Slot, State};
use super::wheel::{Links, TimerLinks};
use crate::large_pages::{LARGE_PAGE_BYTES, LargeArray};
use crate::prefetch::prefetch;

/// Slots in a chunk: a large page of them.
const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 15;
const CHUNK_MASK: usize = CHUNK_SLOTS - 1;

/// As many slots as the slab grows by.
pub(super) type SlotChunk = LargeArray<Slot, CHUNK_SLOTS>;

const _: () = assert!(size_of::<[Slot; CHUNK_SLOTS]>() == LARGE_PAGE_BYTES);

/// Slots without messages.
pub(super) fn new_chunk() -> SlotChunk {
    LargeArray::filled(Slot::FREE)
}

/// The slots and the list of those that are free.
#[derive(Debug)]
pub(super) struct Slab {
    chunks: Vec<SlotChunk>,
    next_chunk: Next<SlotChunk>,
    free_head: u32,
    /// Slots ever used; all behind are free and in no list.
    used: u32,
    occupied: u64,
}

impl Slab {
    pub fn new() -> Self {
        Self { chunks: Vec::new(), next_chunk: Next::default(), free_head: NONE, used: 0, occupied: 0 }
    }

    /// How many slots have ever been used: what a sweep has to visit.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// How many hold a message.
    pub fn occupied(&self) -> u64 {
        self.occupied
    }

    /// Takes a free slot. `None`: every slot that can be numbered is taken.
    #[inline]
    pub fn take(&mut self) -> Option<u32> {
        self.take_slot().map(|(index, _)| index)
    }

    /// As [`Slab::take`], with the slot itself.
    #[inline]
    pub fn take_slot(&mut self) -> Option<(u32, &mut Slot)> {
        let index = self.free_head;
        if index == NONE {
            let index = self.take_unused()?;
            return Some((index, &mut self[index]));
        }
        self.free_head = self[index].list_next;
        // Which is in no cache any more where messages come in bursts, and each leads to the next one.
        if let Some(next) = self.get(self.free_head) {
            prefetch(next);
        }
        self.occupied += 1;
        Some((index, &mut self[index]))
    }

    #[cold]
    fn take_unused(&mut self) -> Option<u32> {
        if self.used == SLOTS_MAX {
            return None;
        }
        let index = self.used;
        self.grow_to_hold(index);
        self.used += 1;
        self.occupied += 1;
        Some(index)
    }

    /// Gives a slot back. The caller has unlinked it everywhere.
    #[inline]
    pub fn give_back(&mut self, index: u32) {
        let head = self.free_head;
        let slot = &mut self[index];
        assert!(slot.state() != State::Free, "a slot is given back once");
        slot.sequence = 0;
        slot.set_sent(0, State::Free, 0);
        slot.queue = NONE;
        slot.list_next = head;
        self.free_head = index;
        self.occupied -= 1;
    }

    /// Recovery takes the very slot that a record names, whatever the order; the list of free ones
    /// is made by [`Slab::link_free`] at its end. `false`: there can be no such slot.
    pub fn take_at(&mut self, index: u32) -> bool {
        if index >= SLOTS_MAX {
            return false;
        }
        if index >= self.used {
            self.grow_to_hold(index);
            self.used = index + 1;
        }
        if self[index].state() == State::Free {
            self.occupied += 1;
        }
        true
    }

    /// Frees a slot during recovery, without the list.
    pub fn clear_at(&mut self, index: u32) {
        if self[index].state() != State::Free {
            self[index] = Slot::FREE;
            self.occupied -= 1;
        }
    }

    /// Links every free slot, lowest first, at the end of recovery.
    pub fn link_free(&mut self) {
        self.free_head = NONE;
        for index in (0..self.used).rev() {
            let head = self.free_head;
            let slot = &mut self[index];
            if slot.state() == State::Free {
                slot.list_next = head;
                self.free_head = index;
            }
        }
    }

    /// The slot, if the number is one that was ever used.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&Slot> {
        if index < self.used { Some(&self[index]) } else { None }
    }

    /// So many slots from one on are probably going to be looked at soon: messages that were sent one after the
    /// other mostly lie so.
    #[inline]
    pub fn expect_run(&self, first: u32, count: u32) {
        (first..first + count).filter_map(|index| self.get(index)).for_each(prefetch);
    }

    /// Whether another chunk is needed soon, which nobody makes yet.
    #[inline]
    pub fn wants_chunk(&mut self) -> bool {
        let there = self.chunks.len() << CHUNK_BITS;
        // More than half of the last one is used.
        self.used as usize + CHUNK_SLOTS / 2 > there && there > 0 && self.next_chunk.ask()
    }

    /// The chunk that was wanted is there.
    pub fn chunk_made(&mut self, chunk: SlotChunk) {
        self.next_chunk.came(chunk);
    }

    fn grow_to_hold(&mut self, index: u32) {
        while self.chunks.len() <= index as usize >> CHUNK_BITS {
            let chunk = self.next_chunk.take().unwrap_or_else(new_chunk);
            self.chunks.push(chunk);
        }
    }
}

impl std::ops::Index<u32> for Slab {
    type Output = Slot;

    #[inline]
    fn index(&self, index: u32) -> &Slot {
        &self.chunks[index as usize >> CHUNK_BITS][index as usize & CHUNK_MASK]
    }
}

impl std::ops::IndexMut<u32> for Slab {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize >> CHUNK_BITS][index as usize & CHUNK_MASK]
    }
}

impl Links for Slab {
    #[inline]
    fn links(&self, node: u32) -> TimerLinks {
        let slot = &self[node];
        TimerLinks { next: slot.timer_next, previous: slot.timer_previous }
    }

    #[inline]
    fn set_links(&mut self, node: u32, links: TimerLinks) {
        let slot = &mut self[node];
        (slot.timer_next, slot.timer_previous) = (links.next, links.previous);
    }

    #[inline]
    fn set_next(&mut self, node: u32, next: u32) {
        self[node].timer_next = next;
    }

    #[inline]
    fn set_previous(&mut self, node: u32, previous: u32) {
        self[node].timer_previous = previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupy(slab: &mut Slab) -> u32 {
        let index = slab.take().expect("there is room");
        slab[index].set_sent(1, State::Fresh, 0);
        index
    }

    #[test]
    fn a_chunk_that_was_made_elsewhere_is_the_next_one() {
        let mut slab = Slab::new();
        assert!(!slab.wants_chunk(), "nothing is stored here yet");
        let wishes = (0..CHUNK_SLOTS).filter(|_| {
            occupy(&mut slab);
            slab.wants_chunk()
        });
        assert_eq!(wishes.count(), 1);
        let chunk = new_chunk();
        let address = chunk.as_ptr();
        slab.chunk_made(chunk);
        let index = occupy(&mut slab);
        assert!(std::ptr::eq(&slab[index], address) && !slab.wants_chunk());
    }

    #[test]
    fn freed_slots_come_back_last_in_first_out() {
        let mut slab = Slab::new();
        let taken: Vec<u32> = (0..3).map(|_| occupy(&mut slab)).collect();
        assert_eq!(taken, [0, 1, 2]);
        slab.give_back(0);
        slab.give_back(2);
        assert_eq!(slab.occupied(), 1);
        assert_eq!(occupy(&mut slab), 2);
        assert_eq!(occupy(&mut slab), 0);
        assert_eq!(occupy(&mut slab), 3);
    }

    #[test]
    fn growing_leaves_slots_where_they_are() {
        let mut slab = Slab::new();
        let first = occupy(&mut slab);
        let address = std::ptr::from_ref(&slab[first]);
        for _ in 0..2 * CHUNK_SLOTS {
            occupy(&mut slab);
        }
        assert_eq!(address, std::ptr::from_ref(&slab[first]));
    }

    #[test]
    fn recovery_takes_named_slots_and_links_the_rest() {
        let mut slab = Slab::new();
        assert!(slab.take_at(3));
        slab[3].set_sent(1, State::Replayed, 0);
        assert!(!slab.take_at(SLOTS_MAX));
        slab.link_free();
        assert_eq!((0..4).map(|_| occupy(&mut slab)).collect::<Vec<_>>(), [0, 1, 2, 4]);
    }
}
