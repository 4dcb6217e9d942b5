//! From keys to places in a table: a hash table that grows one bucket at a time.
//!
//! A hash table that grows by doubling moves everything that it holds. This one is a linear hash table:
//! with every few keys the next bucket in line is split in two, and nothing else moves (rule 32). A
//! bucket is one cache line with a byte of each key beside its place, so that whoever looks for a key
//! that is not there reads that line and nearly always nothing else; what does not fit goes on in
//! another bucket. The next bits of the key's hash stand there too, so that a split reads no keys, which
//! are anywhere in memory. Only places are held; whoever owns the table that they are of says which key
//! a place has. Nothing iterates over it (rule 18). Owned by the shard's engine.

use super::chunks::Next;
use super::keyed_hash::Key;
use crate::large_pages::{LARGE_PAGE_BYTES, LargeArray};
use crate::prefetch::prefetch;

/// Places in a bucket.
const PLACES: usize = 10;
/// Keys a bucket from which on one more is made: a bucket that waits for its split has up to twice as
/// many as one that was split, and few shall need a second line.
const KEYS_A_BUCKET: u64 = 6;
/// Splits that a place knows its way through.
const BITS_AHEAD: u32 = 7;
/// Buckets in a chunk, a large page of them: the table grows by chunks, which never move.
const CHUNK_BUCKETS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 15;

/// Some places whose keys lead here.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    places: [u32; PLACES],
    /// Beside each place a part of its key, [`tag_of`]; 0 where there is no place.
    tags: [u8; PLACES],
    /// Beside each place the bits of its key that the next splits go by, the next one lowest, and behind
    /// the last one a 1: alone it says that the key itself must be looked at.
    ahead: [u8; PLACES],
    /// The number of the bucket where it goes on, plus one; of a free one, the next free one.
    next: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

impl Bucket {
    const EMPTY: Self = Self { places: [0; PLACES], tags: [0; PLACES], ahead: [0; PLACES], next: 0 };

    /// Where this tag stands.
    #[inline(always)]
    fn with_tag(&self, tag: u8) -> Found {
        let [a, b, c, d, e, f, g, h, i, j] = self.tags;
        let front = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // The rest of it is like no tag.
        let back = u64::from_le_bytes([i, j, !tag, !tag, !tag, !tag, !tag, !tag]);
        Found { front: equal_bytes(front, tag), back: equal_bytes(back, tag) }
    }

    /// Which places there are.
    fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        (0..PLACES).filter(|&at| self.tags[at] != 0)
    }

    /// Puts a place where there is room. `false`: there is none.
    #[inline]
    fn put(&mut self, one: Noted) -> bool {
        let Some(at) = self.with_tag(0).next() else { return false };
        (self.tags[at], self.ahead[at], self.places[at]) = (one.tag, one.ahead, one.place);
        true
    }
}

/// What a bucket has of a key: see there.
#[derive(Debug, Clone, Copy)]
struct Noted {
    place: u32,
    tag: u8,
    ahead: u8,
}

/// Which of a bucket's places have a tag, from the lowest on: the highest bit of the byte of each.
#[derive(Debug, Clone, Copy)]
struct Found {
    front: u64,
    back: u64,
}

impl Iterator for Found {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let (word, from) = if self.front != 0 { (&mut self.front, 0) } else { (&mut self.back, 8) };
        let at = word.trailing_zeros() as usize / 8 + from;
        *word &= word.wrapping_sub(1);
        (at < PLACES).then_some(at)
    }
}

/// The highest bit of each byte that is this one.
#[inline(always)]
fn equal_bytes(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differing = word ^ (u64::from(byte) * 0x0101_0101_0101_0101);
    // No byte carries into the next one, so that each is judged by itself.
    !(((differing & LOW) + LOW) | differing | LOW)
}

/// As many buckets as a table grows by.
pub(super) type BucketChunk = LargeArray<Bucket, CHUNK_BUCKETS>;

const _: () = assert!(size_of::<[Bucket; CHUNK_BUCKETS]>() == LARGE_PAGE_BYTES);

/// Empty buckets.
pub(super) fn new_chunk() -> BucketChunk {
    LargeArray::filled(Bucket::EMPTY)
}

/// Buckets in chunks.
#[derive(Debug, Default)]
struct Buckets {
    chunks: Vec<BucketChunk>,
    used: u32,
}

impl Buckets {
    /// One more, which is empty.
    fn add(&mut self, next_chunk: &mut Next<BucketChunk>) -> u32 {
        let number = self.used;
        if number as usize == self.chunks.len() << CHUNK_BITS {
            self.chunks.push(next_chunk.take().unwrap_or_else(new_chunk));
        }
        self.used += 1;
        number
    }

    /// Whether more than half of the last chunk is used.
    #[inline]
    fn are_short(&self) -> bool {
        let there = self.chunks.len() << CHUNK_BITS;
        self.used as usize + CHUNK_BUCKETS / 2 > there && there > 0
    }
}

impl std::ops::Index<u32> for Buckets {
    type Output = Bucket;

    #[inline]
    fn index(&self, number: u32) -> &Bucket {
        &self.chunks[number as usize >> CHUNK_BITS][number as usize & (CHUNK_BUCKETS - 1)]
    }
}

impl std::ops::IndexMut<u32> for Buckets {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut Bucket {
        &mut self.chunks[number as usize >> CHUNK_BITS][number as usize & (CHUNK_BUCKETS - 1)]
    }
}

/// Places by their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Those that keys lead to; the first is made by the first key, as most shards have none.
    buckets: Buckets,
    /// Those that others go on in.
    more: Buckets,
    next_chunk: Next<BucketChunk>,
    /// The first free one of these, plus one.
    free: u32,
    /// One less than the power of two that the number of buckets is on its way to.
    mask: u32,
    count: u64,
}

/// Which of the buckets that keys lead to, or of those that these go on in.
#[derive(Debug, Clone, Copy)]
enum At {
    Bucket(u32),
    More(u32),
}

impl Index {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether another chunk is needed soon, which nobody makes yet.
    #[inline]
    pub fn wants_chunk(&mut self) -> bool {
        (self.buckets.are_short() || self.more.are_short()) && self.next_chunk.ask()
    }

    /// The chunk that was wanted is there.
    pub fn chunk_made(&mut self, chunk: BucketChunk) {
        self.next_chunk.came(chunk);
    }

    #[inline]
    fn bucket_of(&self, key: Key) -> u32 {
        let number = key.0[0] as u32 & self.mask;
        if number < self.buckets.used { number } else { number & (self.mask >> 1) }
    }

    fn at(&mut self, at: At) -> &mut Bucket {
        match at {
            At::Bucket(number) => &mut self.buckets[number],
            At::More(number) => &mut self.more[number],
        }
    }

    /// Has the processor fetch what a key leads to: a table of millions of keys is not in its caches.
    #[inline]
    pub fn prefetch(&self, key: Key) {
        if self.count > 0 {
            prefetch(&self.buckets[self.bucket_of(key)]);
        }
    }

    /// The place with this key; `key_at` says which key a place has.
    #[inline]
    pub fn find<'k>(&self, key: Key, key_at: impl Fn(u32) -> &'k Key) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let tag = tag_of(key);
        let mut bucket = &self.buckets[self.bucket_of(key)];
        loop {
            for at in bucket.with_tag(tag) {
                let place = bucket.places[at];
                if *key_at(place) == key {
                    return Some(place);
                }
            }
            bucket = &self.more[bucket.next.checked_sub(1)?];
        }
    }

    /// Notes a place. Its key is in no other place, or that one was removed before.
    #[inline]
    pub fn insert<'k>(&mut self, key: Key, place: u32, key_at: impl Fn(u32) -> &'k Key) {
        if self.count >= u64::from(self.buckets.used) * KEYS_A_BUCKET {
            self.grow(key_at);
        }
        self.count += 1;
        let number = self.bucket_of(key);
        let ahead = bits_ahead(key, self.bits_of(number));
        self.put(number, Noted { place, tag: tag_of(key), ahead });
    }

    #[inline]
    fn put(&mut self, number: u32, one: Noted) {
        if !self.buckets[number].put(one) {
            self.put_behind(number, one);
        }
    }

    /// Puts a place into the buckets in which a full one goes on.
    #[inline(never)]
    fn put_behind(&mut self, number: u32, one: Noted) {
        let mut at = At::Bucket(number);
        while let Some(next) = self.at(at).next.checked_sub(1) {
            at = At::More(next);
            if self.more[next].put(one) {
                return;
            }
        }
        let next = self.take_more();
        self.more[next].put(one);
        self.at(at).next = next + 1;
    }

    fn take_more(&mut self) -> u32 {
        match self.free.checked_sub(1) {
            Some(number) => {
                self.free = std::mem::take(&mut self.more[number].next);
                number
            }
            None => self.more.add(&mut self.next_chunk),
        }
    }

    /// Forgets a place that has this key, if it is noted.
    #[inline]
    pub fn remove(&mut self, key: Key, place: u32) {
        if self.count == 0 {
            return;
        }
        let tag = tag_of(key);
        let (mut before, mut at) = (None, At::Bucket(self.bucket_of(key)));
        loop {
            let bucket = self.at(at);
            if let Some(one) = bucket.with_tag(tag).find(|&one| bucket.places[one] == place) {
                bucket.tags[one] = 0;
                self.count -= 1;
                return self.drop_empty(before, at);
            }
            let Some(next) = bucket.next.checked_sub(1) else { return };
            before = Some(at);
            at = At::More(next);
        }
    }

    /// Frees a bucket behind another one if there is nothing in it any more.
    #[inline]
    fn drop_empty(&mut self, before: Option<At>, at: At) {
        if let (Some(before), At::More(number)) = (before, at)
            && self.more[number].tags == [0; PLACES]
        {
            let free = std::mem::replace(&mut self.free, number + 1);
            let next = std::mem::replace(&mut self.more[number].next, free);
            self.at(before).next = next;
        }
    }

    /// Makes one more bucket of the one whose turn it is.
    #[inline(never)]
    fn grow<'k>(&mut self, key_at: impl Fn(u32) -> &'k Key) {
        let number = self.buckets.add(&mut self.next_chunk);
        if number == 0 {
            return;
        }
        self.mask = self.mask.max(one_less_than_a_power(number));
        let from = split_for(number);
        let bits = self.bits_of(number);
        let mut bucket = std::mem::replace(&mut self.buckets[from], Bucket::EMPTY);
        loop {
            for at in bucket.taken() {
                let (place, tag) = (bucket.places[at], bucket.tags[at]);
                let ahead = match bucket.ahead[at] {
                    1 => bits_ahead(*key_at(place), bits - 1),
                    known => known,
                };
                let to = if ahead & 1 == 0 { from } else { number };
                self.put(to, Noted { place, tag, ahead: ahead >> 1 });
            }
            let Some(next) = bucket.next.checked_sub(1) else { break };
            bucket = std::mem::replace(&mut self.more[next], Bucket { next: self.free, ..Bucket::EMPTY });
            self.free = next + 1;
        }
        // What the next split needs is fetched until then.
        prefetch(&self.buckets[split_for(number + 1)]);
    }

    /// How many bits of a key choose a bucket.
    #[inline]
    fn bits_of(&self, number: u32) -> u32 {
        let bits = self.mask.count_ones();
        // One that waits for its split, and is chosen by one bit less.
        let waits = number <= self.mask >> 1 && number + (self.mask >> 1) + 1 >= self.buckets.used;
        bits - u32::from(waits && bits > 0)
    }
}

/// The lowest number that a number fits into and that has only ones.
#[inline]
fn one_less_than_a_power(number: u32) -> u32 {
    u32::MAX >> number.leading_zeros()
}

/// The bucket that is split to make the one with this number, which is not 0.
#[inline]
fn split_for(number: u32) -> u32 {
    number & (one_less_than_a_power(number) >> 1)
}

/// The bits of a key behind so many that choose its bucket.
#[inline]
fn bits_ahead(key: Key, bits: u32) -> u8 {
    ((key.0[0] >> bits) as u8) | 1 << BITS_AHEAD
}

/// What of a key stands beside its place: nothing that the bucket was chosen by, and not 0.
#[inline]
fn tag_of(key: Key) -> u8 {
    (key.0[1] as u8).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> Key {
        Key([number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20), number.rotate_right(9) ^ number])
    }

    #[test]
    fn places_are_found_until_they_are_removed() {
        let keys: Vec<Key> = (0..50_000_u64).map(key).collect();
        let key_at = |place: u32| &keys[place as usize];
        let mut index = Index::new();
        assert_eq!(index.find(keys[0], key_at), None);
        index.remove(keys[0], 0);
        for (place, &key) in keys.iter().enumerate() {
            index.insert(key, place as u32, key_at);
        }
        assert_eq!(u64::from(index.buckets.used), 50_000_u64.div_ceil(KEYS_A_BUCKET));
        for (place, &key) in keys.iter().enumerate().step_by(2) {
            index.remove(key, place as u32);
        }
        for (place, &key) in keys.iter().enumerate() {
            assert_eq!(index.find(key, key_at), (place % 2 == 1).then_some(place as u32));
        }
    }

    #[test]
    fn buckets_behind_others_are_used_again() {
        // All lead to one bucket, as far as it is split by the low bits.
        let keys: Vec<Key> = (0..200_u64).map(|number| Key([number << 32, number << 56 | number])).collect();
        let key_at = |place: u32| &keys[place as usize];
        let mut index = Index::new();
        let mut used = 0;
        for round in 0..3 {
            for (place, &key) in keys.iter().enumerate() {
                index.insert(key, place as u32, key_at);
            }
            assert!(
                keys.iter().enumerate().all(|(place, &key)| index.find(key, key_at) == Some(place as u32))
            );
            assert!(round == 0 || index.more.used == used, "{} after {used}", index.more.used);
            used = index.more.used;
            for (place, &key) in keys.iter().enumerate() {
                index.remove(key, place as u32);
                assert_eq!(index.find(key, key_at), None);
            }
            assert!(index.buckets.chunks[0].iter().all(|bucket| bucket.next == 0));
        }
    }

    /// Rule 32: however many there are, one more splits one bucket at most.
    #[test]
    fn a_key_more_costs_a_bucket_at_most() {
        let keys: Vec<Key> = (0..20_000).map(key).collect();
        let key_at = |place: u32| &keys[place as usize];
        let mut index = Index::new();
        for (place, &key) in keys.iter().enumerate() {
            let before = index.buckets.used;
            index.insert(key, place as u32, key_at);
            assert!(index.buckets.used - before <= 1, "{} buckets at once", index.buckets.used - before);
        }
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(actions in prop::collection::vec((0..400_u64, 0..3_u8), 1..3_000)) {
            let mut known = std::collections::BTreeSet::new();
            let mut index = Index::new();
            // Few buckets get most of the keys.
            let key = |number: u64| Key([key(number).0[0] & !0xff, key(number).0[1]]);
            let keys: Vec<Key> = (0..400).map(key).collect();
            let key_at = |place: u32| &keys[place as usize];
            for (number, action) in actions {
                if action == 0 {
                    index.remove(key(number), number as u32);
                    known.remove(&number);
                } else if known.insert(number) {
                    index.insert(key(number), number as u32, key_at);
                }
                prop_assert_eq!(index.count, known.len() as u64);
                prop_assert_eq!(index.find(key(number), key_at).is_some(), known.contains(&number));
            }
            for number in 0..400 {
                let found = index.find(key(number), key_at);
                prop_assert_eq!(found, known.contains(&number).then_some(number as u32));
            }
        }
    }
}
