//! SipHash under the data folder's key.
//!
//! What clients choose (groups, deduplication ids, attempt ids) is known by a 128-bit hash that
//! nobody can aim without the key, so that two texts never meet in one by chance or by intent
//! (rule 33).

/// A 128-bit keyed hash, which stands for what was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Key(pub [u64; 2]);

impl Key {
    /// The key as records have it.
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }

    /// A key from a record.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self([number as u64, (number >> 64) as u64])
    }
}

/// What a key is for: the same text means different things in different rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Room {
    /// A message group.
    Group = 1,
    /// A deduplication id in a queue.
    Deduplication = 2,
    /// A deduplication id in a group of a queue.
    GroupDeduplication = 3,
    /// An attempt id of a queue's receives.
    Attempt = 4,
    /// A queue that groups are of.
    Queue = 5,
}

/// Longest text of a key: what is longer was refused before.
pub(super) const TEXT_BYTES_MAX: usize = 128;

/// The key of a group in a queue. It is a hash of the id and one of the queue together, so that the key
/// of the same group in another queue can be told without the id.
pub(super) fn group_key(secret: &[u64; 2], incarnation: u64, id: &str) -> Key {
    let Key(group) = key_of(secret, Room::Group, 0, id, "");
    let Key(queue) = key_of(secret, Room::Queue, incarnation, "", "");
    Key([group[0] ^ queue[0], group[1] ^ queue[1]])
}

/// The key that a group of one queue has in another.
pub(super) fn group_key_elsewhere(secret: &[u64; 2], Key(group): Key, from: u64, to: u64) -> Key {
    let [Key(from), Key(to)] = [from, to].map(|queue| key_of(secret, Room::Queue, queue, "", ""));
    Key([group[0] ^ from[0] ^ to[0], group[1] ^ from[1] ^ to[1]])
}

/// The key of one or two texts in a room of a queue. The texts are of [`TEXT_BYTES_MAX`] bytes at
/// most; the length of the first stands before it, so that what is hashed can be read in one way only.
pub(super) fn key_of(secret: &[u64; 2], room: Room, incarnation: u64, first: &str, second: &str) -> Key {
    let mut bytes = [0; 16 + 2 * TEXT_BYTES_MAX];
    bytes[0] = room as u8;
    bytes[1] = first.len() as u8;
    bytes[8..16].copy_from_slice(&incarnation.to_le_bytes());
    let middle = 16 + first.len();
    let end = middle + second.len();
    bytes[16..middle].copy_from_slice(first.as_bytes());
    bytes[middle..end].copy_from_slice(second.as_bytes());
    Key(siphash_128::<1, 3>(secret, &bytes[..end]))
}

const START: [u64; 4] =
    [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

#[inline(always)]
fn begin(secret: &[u64; 2]) -> [u64; 4] {
    [START[0] ^ secret[0], START[1] ^ secret[1], START[2] ^ secret[0], START[3] ^ secret[1]]
}

/// SipHash of 128 bits with `WORD` rounds a word and `END` rounds for each half of the result.
fn siphash_128<const WORD: usize, const END: usize>(secret: &[u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = begin(secret);
    state[1] ^= 0xee;
    let mut chunks = bytes.chunks_exact(8);
    let absorb = |state: &mut [u64; 4], word: u64| {
        state[3] ^= word;
        (0..WORD).for_each(|_| round(state));
        state[0] ^= word;
    };
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        absorb(&mut state, u64::from_le_bytes(word));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    last[7] = bytes.len() as u8;
    absorb(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xee;
    (0..END).for_each(|_| round(&mut state));
    let low = state[0] ^ state[1] ^ state[2] ^ state[3];
    state[1] ^= 0xdd;
    (0..END).for_each(|_| round(&mut state));
    [low, state[0] ^ state[1] ^ state[2] ^ state[3]]
}

#[inline(always)]
fn round(state: &mut [u64; 4]) {
    let [a, b, c, d] = state;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    #[test]
    fn wide_hashes_are_those_of_the_reference() {
        // The first two vectors of SipHash-2-4-128, from its authors' `vectors.h`.
        let expected = [
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93],
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45],
        ];
        for (length, expected) in expected.into_iter().enumerate() {
            let hashed = Key(siphash_128::<2, 4>(&SECRET, &[0, 1, 2][..length]));
            assert_eq!(hashed.bytes(), expected);
            assert_eq!(Key::from_bytes(expected), hashed);
        }
    }

    #[test]
    fn keys_differ_by_room_queue_and_where_one_text_ends() {
        let keys = [
            key_of(&SECRET, Room::Group, 1, "ab", "c"),
            key_of(&SECRET, Room::Group, 1, "a", "bc"),
            key_of(&SECRET, Room::Group, 2, "ab", "c"),
            key_of(&SECRET, Room::Attempt, 1, "ab", "c"),
            key_of(&[1, 2], Room::Group, 1, "ab", "c"),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(keys[..place].iter().all(|other| other != key));
        }
        let group = group_key(&SECRET, 1, "tenant");
        assert_ne!(group, group_key(&SECRET, 2, "tenant"));
        assert_eq!(group_key_elsewhere(&SECRET, group, 1, 2), group_key(&SECRET, 2, "tenant"));
        let longest = "x".repeat(TEXT_BYTES_MAX);
        assert_ne!(key_of(&SECRET, Room::Group, 1, &longest, &longest), keys[0]);
    }
}
