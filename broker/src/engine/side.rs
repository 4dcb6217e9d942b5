//! What only some messages have, in chunks beside the slots.
//!
//! A side table is as wide as the slab and as sparse as its use: the chunk of a slot is made when the
//! first slot in it needs one, and stays. The entry of a slot has the slot's index, so that there is
//! no free list and no link to follow. An entry says nothing by itself: a flag in the slot, or the
//! kind of its queue, says whether it means anything, and whoever sets that writes the whole entry.
//! Owned by the shard's engine.

use crate::prefetch::prefetch;

/// Entries in a chunk, as many as slots.
const CHUNK_ENTRIES: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 12;

/// One entry for each slot that has one.
#[derive(Debug)]
pub(super) struct Side<T> {
    chunks: Vec<Option<Box<[T]>>>,
    /// What an entry is that was never set.
    empty: T,
}

impl<T: Copy> Side<T> {
    /// A table without any entry; one that was never set reads as `empty`.
    pub fn new(empty: T) -> Self {
        Self { chunks: Vec::new(), empty }
    }

    /// The slot's entry.
    #[inline]
    pub fn get(&self, index: u32) -> T {
        match self.chunks.get(index as usize >> CHUNK_BITS) {
            Some(Some(chunk)) => chunk[index as usize & (CHUNK_ENTRIES - 1)],
            _ => self.empty,
        }
    }

    /// The slot's entry is going to be looked at soon.
    #[inline]
    pub fn expect(&self, index: u32) {
        if let Some(Some(chunk)) = self.chunks.get(index as usize >> CHUNK_BITS) {
            prefetch(&chunk[index as usize & (CHUNK_ENTRIES - 1)]);
        }
    }

    /// The slot's entry, to be changed; its chunk is made where there is none.
    #[inline]
    pub fn entry(&mut self, index: u32) -> &mut T {
        let number = index as usize >> CHUNK_BITS;
        if !matches!(self.chunks.get(number), Some(Some(_))) {
            self.grow_to_hold(number);
        }
        let chunk = self.chunks[number].as_mut().expect("it was made where there was none");
        &mut chunk[index as usize & (CHUNK_ENTRIES - 1)]
    }

    #[cold]
    fn grow_to_hold(&mut self, number: usize) {
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        self.chunks[number] = Some(vec![self.empty; CHUNK_ENTRIES].into_boxed_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_made_where_they_are_set() {
        let mut side = Side::new(7_u64);
        assert_eq!(side.get(5_000_000), 7);
        *side.entry(5_000_000) = 1;
        *side.entry(0) = 2;
        assert_eq!((side.get(5_000_000), side.get(0), side.get(1), side.get(100_000)), (1, 2, 7, 7));
        assert_eq!(side.chunks.iter().flatten().count(), 2);
    }
}
