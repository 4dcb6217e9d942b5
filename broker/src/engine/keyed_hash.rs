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
    #[inline]
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
    group_key_in(secret, queue_key(secret, incarnation), id.as_bytes())
}

/// What the keys of a queue's groups have in common.
pub(super) fn queue_key(secret: &[u64; 2], incarnation: u64) -> Key {
    key_of(secret, Room::Queue, incarnation, &[])
}

/// The key of a group in a queue with this [`queue_key`].
#[inline]
pub(super) fn group_key_in(secret: &[u64; 2], Key(queue): Key, id: &[u8]) -> Key {
    let Key(group) = key_of(secret, Room::Group, 0, id);
    Key([group[0] ^ queue[0], group[1] ^ queue[1]])
}

/// The key that a group of one queue has in another.
pub(super) fn group_key_elsewhere(secret: &[u64; 2], Key(group): Key, from: u64, to: u64) -> Key {
    let [Key(from), Key(to)] = [from, to].map(|queue| queue_key(secret, queue));
    Key([group[0] ^ from[0] ^ to[0], group[1] ^ from[1] ^ to[1]])
}

/// The key of a text in a room of a queue.
#[inline]
pub(super) fn key_of(secret: &[u64; 2], room: Room, incarnation: u64, text: &[u8]) -> Key {
    key_of_joined(secret, (room, incarnation), text.len(), text)
}

/// The key of two texts in a room of a queue. They are of [`TEXT_BYTES_MAX`] bytes at most; the length of
/// the first stands before it, so that what is hashed can be read in one way only.
pub(super) fn key_of_two(
    secret: &[u64; 2],
    room: Room,
    incarnation: u64,
    first: &[u8],
    second: &[u8],
) -> Key {
    let mut joined = [0; 2 * TEXT_BYTES_MAX];
    let end = first.len() + second.len();
    joined[..first.len()].copy_from_slice(first);
    joined[first.len()..end].copy_from_slice(second);
    key_of_joined(secret, (room, incarnation), first.len(), &joined[..end])
}

#[inline]
fn key_of_joined(secret: &[u64; 2], (room, incarnation): (Room, u64), first: usize, texts: &[u8]) -> Key {
    let mut sip = Sip::<1, 3>::new(secret);
    sip.word(u64::from(room as u8) | (first as u64 & 0xff) << 8);
    sip.word(incarnation);
    Key(sip.end(16, texts))
}

const START: [u64; 4] =
    [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

/// SipHash of 128 bits with `WORD` rounds a word and `END` rounds for each half of the result.
struct Sip<const WORD: usize, const END: usize>([u64; 4]);

impl<const WORD: usize, const END: usize> Sip<WORD, END> {
    #[inline(always)]
    fn new(secret: &[u64; 2]) -> Self {
        let [a, b, c, d] = START;
        Self([a ^ secret[0], b ^ secret[1] ^ 0xee, c ^ secret[0], d ^ secret[1]])
    }

    /// Takes in eight bytes.
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        (0..WORD).for_each(|_| round(&mut self.0));
        self.0[0] ^= word;
    }

    /// Takes in the rest behind so many bytes in words, and ends.
    #[inline(always)]
    fn end(mut self, before: usize, bytes: &[u8]) -> [u64; 2] {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|&word| self.word(u64::from_le_bytes(word)));
        self.word(short_word(rest) | ((before + bytes.len()) as u64) << 56);
        let state = &mut self.0;
        state[2] ^= 0xee;
        (0..END).for_each(|_| round(state));
        let low = state[0] ^ state[1] ^ state[2] ^ state[3];
        state[1] ^= 0xdd;
        (0..END).for_each(|_| round(state));
        [low, state[0] ^ state[1] ^ state[2] ^ state[3]]
    }
}

/// Up to seven bytes as a number, without a copy of unknown length.
#[inline(always)]
pub(super) fn short_word(bytes: &[u8]) -> u64 {
    match (bytes, bytes.first_chunk(), bytes.last_chunk()) {
        (_, Some(&low), Some(&high)) => {
            let high = u64::from(u32::from_le_bytes(high));
            u64::from(u32::from_le_bytes(low)) | high << (8 * (bytes.len() - 4))
        }
        (&[first, .., last], _, _) => {
            let middle = u64::from(bytes[bytes.len() / 2]) << (8 * (bytes.len() / 2));
            u64::from(first) | middle | u64::from(last) << (8 * (bytes.len() - 1))
        }
        (&[only], _, _) => only.into(),
        _ => 0,
    }
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
            let hashed = Key(Sip::<2, 4>::new(&SECRET).end(0, &[0, 1, 2][..length]));
            assert_eq!(hashed.bytes(), expected);
            assert_eq!(Key::from_bytes(expected), hashed);
        }
    }

    /// What is in data folders was written with these.
    #[test]
    fn keys_of_texts_of_any_length_stay_what_they_were() {
        let text: Vec<u8> = (0..=TEXT_BYTES_MAX as u8).map(|number| b'!' + number % 90).collect();
        let all = (0..=TEXT_BYTES_MAX).fold([0; 2], |[low, high], length| {
            let Key([one, other]) = key_of(&SECRET, Room::Deduplication, 77, &text[..length]);
            let Key([third, fourth]) =
                key_of_two(&SECRET, Room::GroupDeduplication, 78, &text[..length], &text[..length / 3]);
            [(low ^ one ^ third).rotate_left(5), (high ^ other ^ fourth).rotate_left(7)]
        });
        assert_eq!(all, [0x2532_d731_ac48_ff1c, 0x304d_3186_2cc3_2665]);
    }

    #[test]
    fn short_words_are_their_bytes() {
        for length in 0..8 {
            let mut word = [0; 8];
            word[..length].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7][..length]);
            assert_eq!(short_word(&word[..length]), u64::from_le_bytes(word));
        }
    }

    #[test]
    fn keys_differ_by_room_queue_and_where_one_text_ends() {
        let keys = [
            key_of_two(&SECRET, Room::Group, 1, b"ab", b"c"),
            key_of_two(&SECRET, Room::Group, 1, b"a", b"bc"),
            key_of_two(&SECRET, Room::Group, 2, b"ab", b"c"),
            key_of_two(&SECRET, Room::Attempt, 1, b"ab", b"c"),
            key_of_two(&[1, 2], Room::Group, 1, b"ab", b"c"),
            key_of(&SECRET, Room::Group, 1, b"abc"),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(keys[..place].iter().all(|other| other != key));
        }
        let group = group_key(&SECRET, 1, "tenant");
        assert_ne!(group, group_key(&SECRET, 2, "tenant"));
        assert_eq!(group_key_elsewhere(&SECRET, group, 1, 2), group_key(&SECRET, 2, "tenant"));
        let longest = "x".repeat(TEXT_BYTES_MAX);
        let longest = longest.as_bytes();
        assert_ne!(key_of_two(&SECRET, Room::Group, 1, longest, longest), keys[0]);
    }
}
