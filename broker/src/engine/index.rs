//! From keys to places in a table: many small hash tables instead of a large one.
//!
//! A hash table that grows moves everything that it holds. Cut into parts by some bits of the key,
//! each part grows by itself, and no turn moves more than one of them (rule 32). Only places are
//! held; whoever owns the table that they are of says whether a place has the key. Nothing iterates
//! over it (rule 18).

use hashbrown::HashTable;

use super::keyed_hash::Key;

/// Parts, by the top bits of a key's second half. With 64 million keys one has 16,000.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 12;

/// Places by their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// Made by the first key, as most shards have none.
    parts: Vec<HashTable<u32>>,
}

impl Index {
    pub fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// The place with this key; `key_at` says which key a place has.
    #[inline]
    pub fn find(&self, key: Key, key_at: impl Fn(u32) -> Key) -> Option<u32> {
        let part = self.parts.get(part_of(key))?;
        part.find(key.0[0], |&place| key_at(place) == key).copied()
    }

    /// Notes a place. Its key is in no other place, or that one was removed before.
    #[inline]
    pub fn insert(&mut self, key: Key, place: u32, key_at: impl Fn(u32) -> Key) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        self.parts[part_of(key)].insert_unique(key.0[0], place, |&place| key_at(place).0[0]);
    }

    /// Forgets a place that has this key, if it is noted.
    #[inline]
    pub fn remove(&mut self, key: Key, place: u32) {
        let Some(part) = self.parts.get_mut(part_of(key)) else { return };
        if let Ok(found) = part.find_entry(key.0[0], |&other| other == place) {
            found.remove();
        }
    }
}

#[inline]
fn part_of(key: Key) -> usize {
    (key.0[1] >> (u64::BITS - PART_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_until_they_are_removed() {
        let keys: Vec<Key> = (0..50_000_u64)
            .map(|number| Key([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number.rotate_right(9)]))
            .collect();
        let key_at = |place: u32| keys[place as usize];
        let mut index = Index::new();
        assert_eq!(index.find(keys[0], key_at), None);
        index.remove(keys[0], 0);
        for (place, &key) in keys.iter().enumerate() {
            index.insert(key, place as u32, key_at);
        }
        for (place, &key) in keys.iter().enumerate().step_by(2) {
            index.remove(key, place as u32);
        }
        for (place, &key) in keys.iter().enumerate() {
            assert_eq!(index.find(key, key_at), (place % 2 == 1).then_some(place as u32));
        }
    }
}
