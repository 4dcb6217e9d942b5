//! Receipt handles: 32 bytes that say where a message is and prove that this folder issued them.
//!
//! A handle names shard, slot, sequence, queue incarnation and delivery, little-endian, and ends in
//! a check value of these under the data folder's key. Finding a message takes no map: the slot is
//! looked at, and it either still has the handle's sequence or the message is gone. A handle that
//! was forged or damaged does not match its check value.
//!
//! The check value is half of an AES-128 block. The three words are brought into one block by adding
//! to the first two the product of the third and a secret factor: two different handles give the same
//! block for at most two of the 2^63 factors, so nobody finds such a pair without knowing
//! the factor, and of the factor the cipher lets nothing out. To who does not have the key, check values are random
//! numbers then: seeing any number of handles does not help in making another, and a guess is right
//! once in 2^64. A batch's blocks go through the cipher together, which processors with instructions
//! for it work on side by side; others get the same from a slower implementation that takes the same
//! time for every input.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Block};

use super::BATCH_ENTRIES_MAX;

/// Bytes of a handle.
pub const HANDLE_BYTES: usize = 32;

/// The layout that this version writes; in the handle's third byte.
const FORMAT: u8 = 1;

/// Bits of an incarnation in handles, and in the numbers of queues.
pub(super) const INCARNATION_BITS: u32 = 40;
const INCARNATION_MASK: u64 = (1 << INCARNATION_BITS) - 1;
/// Deliveries are counted up to here; later ones carry the same number.
const DELIVERY_MAX: u64 = (1 << 24) - 1;

/// What a receipt handle says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handle {
    /// The shard that holds the message.
    pub shard: u16,
    /// In which distribution over shards it was issued.
    pub distribution: u8,
    /// The message's slot there.
    pub slot: u32,
    /// The message's sequence.
    pub sequence: u64,
    /// The queue's incarnation, its low 40 bits.
    pub incarnation: u64,
    /// Which delivery it was, counted from 1.
    pub delivery: u32,
}

/// What a handle says as its first three words.
type Words = [u64; 3];

impl Handle {
    #[inline]
    fn words(&self) -> Words {
        let place = u64::from(self.shard)
            | (u64::from(FORMAT) << 16)
            | (u64::from(self.distribution) << 24)
            | (u64::from(self.slot) << 32);
        let delivery = u64::from(self.delivery).min(DELIVERY_MAX);
        let origin = (self.incarnation & INCARNATION_MASK) | (delivery << INCARNATION_BITS);
        [place, self.sequence, origin]
    }

    /// `None`: the words are of another layout.
    #[inline]
    fn from_words(words: &Words) -> Option<Self> {
        if (words[0] >> 16) as u8 != FORMAT {
            return None;
        }
        Some(Self {
            shard: words[0] as u16,
            distribution: (words[0] >> 24) as u8,
            slot: (words[0] >> 32) as u32,
            sequence: words[1],
            incarnation: words[2] & INCARNATION_MASK,
            delivery: (words[2] >> INCARNATION_BITS) as u32,
        })
    }

    /// Whether it is of the delivery that made the message's receive count this.
    #[inline]
    pub fn is_of_delivery(&self, receive_count: u32) -> bool {
        u64::from(self.delivery) == u64::from(receive_count).min(DELIVERY_MAX)
    }

    /// Whether a queue with this incarnation issued the handle.
    #[inline]
    pub fn is_of(&self, incarnation: u64) -> bool {
        self.incarnation == incarnation & INCARNATION_MASK
    }
}

/// The shard that a handle says it is of, whether or not it is one that was issued.
pub fn shard_of_handle(handle: &[u8]) -> Option<u16> {
    (handle.len() == HANDLE_BYTES).then(|| u16::from_le_bytes([handle[0], handle[1]]))
}

/// Makes and checks handles of one data folder.
#[derive(Clone)]
pub struct HandleKey {
    cipher: Aes128Enc,
    factor: u64,
}

impl std::fmt::Debug for HandleKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HandleKey")
    }
}

impl HandleKey {
    /// From the data folder's check key: the cipher's key and the factor are what that enciphers 1 and
    /// 2 to.
    pub fn new(check_key: [u64; 2]) -> Self {
        let master = Aes128Enc::new(&block(check_key[0], check_key[1]));
        let mut derived = [block(1, 0), block(2, 0)];
        master.encrypt_blocks(&mut derived);
        Self { cipher: Aes128Enc::new(&derived[0]), factor: first_half(&derived[1]) | 1 }
    }

    /// The bytes that a consumer gets, for each of at most [`BATCH_ENTRIES_MAX`] handles.
    #[inline]
    pub fn encode<'h>(&self, handles: impl ExactSizeIterator<Item = (Handle, &'h mut [u8; HANDLE_BYTES])>) {
        let count = handles.len();
        let mut blocks = [Block::default(); BATCH_ENTRIES_MAX];
        let mut places = [const { None }; BATCH_ENTRIES_MAX];
        for ((block, place), (handle, bytes)) in blocks.iter_mut().zip(&mut places).zip(handles) {
            let words = handle.words();
            for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            *block = self.block(&words);
            *place = Some(bytes);
        }
        self.cipher.encrypt_blocks(&mut blocks[..count]);
        for (block, place) in blocks.iter().zip(places) {
            let Some(bytes) = place else { break };
            bytes[24..].copy_from_slice(&block[..8]);
        }
    }

    /// Reads at most [`BATCH_ENTRIES_MAX`] handles, to be looked at one by one.
    #[inline]
    pub fn decode<'h>(&self, handles: impl ExactSizeIterator<Item = &'h [u8]>) -> Decoded {
        let count = handles.len();
        let mut blocks = [Block::default(); BATCH_ENTRIES_MAX];
        let mut stated = [NOTHING_STATED; BATCH_ENTRIES_MAX];
        for ((block, stated), bytes) in blocks.iter_mut().zip(&mut stated).zip(handles) {
            let Ok(bytes) = <&[u8; HANDLE_BYTES]>::try_from(bytes) else { continue };
            let word = |at: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[at..at + 8]);
                u64::from_le_bytes(word)
            };
            let words = [word(0), word(8), word(16)];
            *block = self.block(&words);
            *stated = (words, word(24));
        }
        self.cipher.encrypt_blocks(&mut blocks[..count]);
        Decoded { stated, blocks }
    }

    /// Three words as one block: see the module.
    #[inline]
    fn block(&self, words: &Words) -> Block {
        let base = u128::from(words[1]) | (u128::from(words[0]) << 64);
        let block = base.wrapping_add(u128::from(words[2]) * u128::from(self.factor));
        Block::from(block.to_le_bytes())
    }
}

/// Stands for what cannot be a handle: its words are of no layout.
const NOTHING_STATED: (Words, u64) = ([0; 3], 0);

/// Handles that were read, with the check values that they should have.
#[derive(Debug)]
pub struct Decoded {
    stated: [(Words, u64); BATCH_ENTRIES_MAX],
    blocks: [Block; BATCH_ENTRIES_MAX],
}

impl Decoded {
    /// The handle at this place. `None`: it is none that was issued under the key, or there was none.
    #[inline]
    pub fn get(&self, at: usize) -> Option<Handle> {
        let (words, check) = self.stated.get(at)?;
        if *check != first_half(&self.blocks[at]) {
            return None;
        }
        Handle::from_words(words)
    }
}

fn block(low: u64, high: u64) -> Block {
    Block::from((u128::from(low) | (u128::from(high) << 64)).to_le_bytes())
}

#[inline]
fn first_half(block: &Block) -> u64 {
    let mut half = [0; 8];
    half.copy_from_slice(&block[..8]);
    u64::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    fn encode(handle: Handle) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        HandleKey::new(KEY).encode([(handle, &mut bytes)].into_iter());
        bytes
    }

    fn decode(bytes: &[u8], key: [u64; 2]) -> Option<Handle> {
        HandleKey::new(key).decode([bytes].into_iter()).get(0)
    }

    #[test]
    fn the_cipher_is_aes() {
        // FIPS 197, appendix C.1.
        let mut block = Block::from(std::array::from_fn::<u8, 16, _>(|at| at as u8 * 0x11));
        Aes128Enc::new(&super::block(KEY[0], KEY[1])).encrypt_block(&mut block);
        assert_eq!(first_half(&block), u64::from_le_bytes([0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30]));
    }

    #[test]
    fn handles_outlive_an_upgrade() {
        let handle = Handle { shard: 1, distribution: 0, slot: 2, sequence: 3, incarnation: 4, delivery: 5 };
        let bytes = encode(handle);
        assert_eq!(bytes[..24], [1, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 5, 0, 0]);
        assert_eq!(bytes[24..], [208, 90, 162, 48, 85, 180, 137, 110]);
    }

    proptest! {
        #[test]
        fn a_handle_comes_back_as_it_was(
            shard: u16, slot: u32, sequence: u64, incarnation in 0..=INCARNATION_MASK, delivery in 0..1_u32 << 24,
        ) {
            let handle = Handle { shard, distribution: shard as u8, slot, sequence, incarnation, delivery };
            prop_assert_eq!(decode(&encode(handle), KEY), Some(handle));
            prop_assert_eq!(decode(&encode(handle), [1, 2]), None);
        }

        #[test]
        fn a_handle_with_any_bit_changed_is_none(sequence: u64, bit in 0..256_usize) {
            let handle = Handle { slot: 7, sequence, incarnation: 3, delivery: 1, ..Handle::default() };
            let mut bytes = encode(handle);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes, KEY), None);
        }

        #[test]
        fn a_batch_is_as_each_alone(sequences in proptest::collection::vec(any::<u64>(), 0..=BATCH_ENTRIES_MAX), bad: u8) {
            let handles: Vec<Handle> = sequences.iter().map(|&sequence| Handle { sequence, ..Handle::default() }).collect();
            let mut all = vec![[0; HANDLE_BYTES]; handles.len()];
            let key = HandleKey::new(KEY);
            key.encode(handles.iter().copied().zip(&mut all));
            for (bytes, handle) in all.iter().zip(&handles) {
                prop_assert_eq!(bytes, &encode(*handle));
            }
            let bad = usize::from(bad) % BATCH_ENTRIES_MAX;
            let read = key.decode(all.iter().enumerate().map(|(at, bytes)| if at == bad { &bytes[..5] } else { &bytes[..] }));
            for at in 0..=BATCH_ENTRIES_MAX {
                prop_assert_eq!(read.get(at), handles.get(at).copied().filter(|_| at != bad));
            }
        }
    }

    #[test]
    fn other_lengths_are_no_handles() {
        assert_eq!(decode(b"", KEY), None);
        assert_eq!(decode(&[0; 33], KEY), None);
    }
}
