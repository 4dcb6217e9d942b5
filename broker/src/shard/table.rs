//! The table of a driver's connections: places that are used again, each time under a new generation.
//!
//! It grows by chunks that never move, so that the ten-thousandth client does not pay for copying the
//! other ten thousand.

use super::driver::ConnectionId;

/// Places in a chunk; the table grows by one chunk at a time.
const CHUNK_PLACES: usize = 256;

/// Most connections of one driver; beyond it, [`ConnectionTable::insert`] refuses. The index fits the
/// 24 bits that completions of the ring carry. File descriptors run out long before.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 24;

/// A driver's connections by [`ConnectionId`]. Owned by the driver.
pub(crate) struct ConnectionTable<T> {
    chunks: Vec<Box<[Place<T>]>>,
    free: Vec<u32>,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> ConnectionTable<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    /// Takes a connection in, or gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<ConnectionId, T> {
        if self.free.is_empty() && !self.grow() {
            return Err(value);
        }
        let index = self.free.pop().expect("grow() adds free places or reports that it cannot");
        let place = self.place_mut(index).expect("free places are in the table");
        place.value = Some(value);
        let generation = place.generation;
        Ok(ConnectionId { index, generation })
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let place = self.place_mut(id.index)?;
        if place.generation == id.generation { place.value.as_mut() } else { None }
    }

    /// Takes a connection out; its place is free for another, under the next generation.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let place = self.place_mut(id.index)?;
        if place.generation != id.generation {
            return None;
        }
        let value = place.value.take()?;
        // A place whose generations are spent is never used again, rather than repeat a pair.
        if let Some(next) = id.generation.checked_add(1) {
            let place = self.place_mut(id.index).expect("it was there a moment ago");
            place.generation = next;
            self.free.push(id.index);
        }
        Some(value)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK_PLACES)?.get_mut(index % CHUNK_PLACES)
    }

    fn grow(&mut self) -> bool {
        let first = self.chunks.len() * CHUNK_PLACES;
        if first + CHUNK_PLACES > CONNECTIONS_MAX {
            return false;
        }
        self.chunks.push((0..CHUNK_PLACES).map(|_| Place { generation: 0, value: None }).collect());
        // The lowest index is given out first.
        self.free.extend((first..first + CHUNK_PLACES).rev().map(|index| index as u32));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_under_new_generations() {
        let mut table = ConnectionTable::new();
        let first = table.insert("first").unwrap();
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second").unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second.generation, first.generation);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn a_place_with_spent_generations_is_retired() {
        let mut table = ConnectionTable::new();
        let first = table.insert(1).unwrap();
        table.place_mut(first.index).unwrap().generation = u32::MAX;
        let last = ConnectionId { generation: u32::MAX, ..first };
        assert_eq!(table.remove(last), Some(1));
        for _ in 0..2 * CHUNK_PLACES {
            assert_ne!(table.insert(2).unwrap().index, first.index);
        }
    }

    #[test]
    fn unknown_connections_are_not_found() {
        let mut table = ConnectionTable::<u8>::new();
        let unknown = ConnectionId { index: 70_000, generation: 0 };
        assert_eq!(table.get_mut(unknown), None);
        assert_eq!(table.remove(unknown), None);
    }
}
