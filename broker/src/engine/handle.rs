//! Receipt handles: 32 bytes that say where a message is and prove that this folder issued them.
//!
//! A handle names shard, slot, sequence, queue incarnation and delivery, little-endian, and ends in
//! a SipHash-1-3 of these under the data folder's key. Finding a message takes no map: the slot is
//! looked at, and it either still has the handle's sequence or the message is gone. A handle that
//! was forged or damaged does not match its check value.

/// Bytes of a handle.
pub const HANDLE_BYTES: usize = 32;

/// The layout that this version writes; in the handle's third byte.
const FORMAT: u8 = 1;

const INCARNATION_BITS: u32 = 40;
const INCARNATION_MASK: u64 = (1 << INCARNATION_BITS) - 1;
/// Deliveries are counted up to here; later ones carry the same number.
const DELIVERY_MAX: u64 = (1 << 24) - 1;

/// What a receipt handle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// The shard that holds the message.
    pub shard: u16,
    /// The message's slot there.
    pub slot: u32,
    /// The message's sequence.
    pub sequence: u64,
    /// The queue's incarnation, its low 40 bits.
    pub incarnation: u64,
    /// Which delivery it was, counted from 1.
    pub delivery: u32,
}

impl Handle {
    /// The bytes that a consumer gets.
    #[inline]
    pub fn encode(&self, key: &[u64; 2]) -> [u8; HANDLE_BYTES] {
        let place = u64::from(self.shard) | (u64::from(FORMAT) << 16) | (u64::from(self.slot) << 32);
        let delivery = u64::from(self.delivery).min(DELIVERY_MAX);
        let origin = (self.incarnation & INCARNATION_MASK) | (delivery << INCARNATION_BITS);
        let words = [place, self.sequence, origin];
        let mut bytes = [0; HANDLE_BYTES];
        bytes[..8].copy_from_slice(&place.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&origin.to_le_bytes());
        bytes[24..].copy_from_slice(&siphash_1_3(key, &words).to_le_bytes());
        bytes
    }

    /// Reads a handle back. `None`: it is none that was issued under this key.
    #[inline]
    pub fn decode(bytes: &[u8], key: &[u64; 2]) -> Option<Self> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let words = [word(0), word(8), word(16)];
        if siphash_1_3(key, &words) != word(24) || (words[0] >> 16) as u16 != u16::from(FORMAT) {
            return None;
        }
        Some(Self {
            shard: words[0] as u16,
            slot: (words[0] >> 32) as u32,
            sequence: words[1],
            incarnation: words[2] & INCARNATION_MASK,
            delivery: (words[2] >> INCARNATION_BITS) as u32,
        })
    }

    /// Whether a queue with this incarnation issued the handle.
    #[inline]
    pub fn is_of(&self, incarnation: u64) -> bool {
        self.incarnation == incarnation & INCARNATION_MASK
    }
}

/// SipHash with one round a word and three at the end, over whole words.
#[inline(always)]
fn siphash_1_3(key: &[u64; 2], words: &[u64; 3]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for &word in words {
        state[3] ^= word;
        round(&mut state);
        state[0] ^= word;
    }
    let length = (words.len() as u64 * 8) << 56;
    state[3] ^= length;
    round(&mut state);
    state[0] ^= length;
    state[2] ^= 0xff;
    round(&mut state);
    round(&mut state);
    round(&mut state);
    state[0] ^ state[1] ^ state[2] ^ state[3]
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
    use proptest::prelude::*;

    use super::*;

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    #[test]
    #[expect(deprecated, reason = "the only SipHash that the standard library shows is 2-4")]
    fn rounds_and_finish_are_those_of_siphash() {
        use std::hash::{Hasher, SipHasher};
        // The standard library's DefaultHasher is SipHash-1-3 with a zero key.
        let words = [1_u64, 0x1234_5678_9abc_def0, u64::MAX];
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
        assert_eq!(siphash_1_3(&[0, 0], &words), hasher.finish());
        let mut other = SipHasher::new_with_keys(KEY[0], KEY[1]);
        other.write_u64(1);
        assert_ne!(siphash_1_3(&KEY, &words), other.finish());
    }

    proptest! {
        #[test]
        fn a_handle_comes_back_as_it_was(
            shard: u16, slot: u32, sequence: u64, incarnation in 0..=INCARNATION_MASK, delivery in 0..1_u32 << 24,
        ) {
            let handle = Handle { shard, slot, sequence, incarnation, delivery };
            prop_assert_eq!(Handle::decode(&handle.encode(&KEY), &KEY), Some(handle));
            prop_assert_eq!(Handle::decode(&handle.encode(&KEY), &[1, 2]), None);
        }

        #[test]
        fn a_handle_with_any_bit_changed_is_none(sequence: u64, bit in 0..256_usize) {
            let handle = Handle { shard: 0, slot: 7, sequence, incarnation: 3, delivery: 1 };
            let mut bytes = handle.encode(&KEY);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Handle::decode(&bytes, &KEY), None);
        }
    }

    #[test]
    fn other_lengths_are_no_handles() {
        assert_eq!(Handle::decode(b"", &KEY), None);
        assert_eq!(Handle::decode(&[0; 33], &KEY), None);
    }
}
