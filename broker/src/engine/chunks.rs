//! Pieces of the tables that grow, made by another thread before the tables come to them.
//!
//! A table grows by a chunk at a time and moves nothing (rule 32), but the kernel has to clear the chunk's
//! memory, and the host of a virtual machine may have to give it first: milliseconds in which the shard would
//! stand still. So the engine says early what it will need; where that has not come by then, it makes it itself.

use super::Engine;
use super::deduplication::{self, Own};
use super::index::{self, BucketChunk};
use super::slab::{self, SlotChunk};
use crate::flaws::Flaws;

/// Which chunk a table will need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedChunk {
    /// More slots for messages.
    Slots,
    /// More of the table that leads to deduplication ids.
    Buckets,
    /// Room for more deduplication ids.
    Entries,
}

/// A chunk with its memory there.
#[derive(Debug)]
pub struct Chunk(Made);

#[derive(Debug)]
enum Made {
    Slots(SlotChunk),
    Buckets(BucketChunk),
    Entries(Vec<Own>),
}

impl WantedChunk {
    /// Makes it: for a thread that has the time.
    pub fn make(self) -> Chunk {
        Chunk(match self {
            WantedChunk::Slots => Made::Slots(slab::new_chunk()),
            WantedChunk::Buckets => Made::Buckets(index::new_chunk()),
            WantedChunk::Entries => Made::Entries(deduplication::new_block()),
        })
    }
}

/// The next chunk of a table, as far as it has been seen to.
#[derive(Debug)]
pub(super) struct Next<T> {
    is_asked: bool,
    made: Option<T>,
}

impl<T> Default for Next<T> {
    fn default() -> Self {
        Self { is_asked: false, made: None }
    }
}

impl<T> Next<T> {
    /// It is needed soon: says whether nobody makes it yet.
    #[inline]
    pub fn ask(&mut self) -> bool {
        !std::mem::replace(&mut self.is_asked, true)
    }

    /// Somebody has made it.
    pub fn came(&mut self, made: T) {
        self.made = Some(made);
    }

    /// It is needed now; if it has not come, whoever needs it makes it.
    pub fn take(&mut self) -> Option<T> {
        let made = self.made.take();
        // What is still being made is for the next time.
        self.is_asked &= made.is_none();
        made
    }
}

impl<F: Flaws> Engine<F> {
    /// A chunk that a table will need soon, to be made elsewhere and brought by [`Engine::chunk_made`].
    #[inline]
    pub fn wants_chunk(&mut self) -> Option<WantedChunk> {
        if self.slab.wants_chunk() {
            return Some(WantedChunk::Slots);
        }
        self.deduplication.wants_chunk()
    }

    /// A chunk that was wanted is there.
    pub fn chunk_made(&mut self, chunk: Chunk) {
        match chunk.0 {
            Made::Slots(slots) => self.slab.chunk_made(slots),
            Made::Buckets(buckets) => self.deduplication.buckets_made(buckets),
            Made::Entries(entries) => self.deduplication.block_made(entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_asked_for_once_and_again_after_it_was_taken() {
        let mut next = Next::default();
        assert!(next.ask() && !next.ask());
        assert_eq!(next.take(), None, "it is still being made");
        assert!(!next.ask());
        next.came(7);
        assert!(!next.ask());
        assert_eq!((next.take(), next.take()), (Some(7), None));
        assert!(next.ask());
    }
}
