//! How batches and segment headers lie on disk.
//!
//! Each can be judged on its own: its checksum takes in the data folder's random number, and the
//! segment's serial stands in clear under the checksum. So neither another folder's bytes nor what a
//! recycled file held before is ever taken for part of this log, and the batch before it is named by
//! its checksum (rule 14).

use super::position::Position;
use super::record::{read_u32, read_u64};
use super::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BLOCK_BYTES};

/// First bytes of a batch: "TPB1".
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"TPB1");
/// First bytes of a segment.
const SEGMENT_MAGIC: [u8; 8] = *b"TENPIN\0\0";
/// The format that is written and read.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header that mean something; the rest of its block is zeros.
const SEGMENT_HEADER_BYTES: usize = 96;
/// Flag of a batch: the log fell idle behind it.
pub(super) const FLAG_CLOSING: u32 = 1;

/// The head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of the batch with this header, before they are rounded up to blocks.
    pub(super) length: u32,
    pub(super) flags: u32,
    /// Batches are counted from 1 on, without gaps in a chain.
    pub(super) sequence: u64,
    /// The log's time when it was closed.
    pub(super) time_ms: u64,
    /// All batches up to this one were durable when this one was written.
    pub(super) durable_sequence: u64,
    /// No segment before this one is needed any more; 0 while this one is not known to be durable.
    pub(super) oldest_serial: u64,
    /// The segment that it is part of.
    pub(super) serial: u64,
    /// The checksum of the batch before it; zero for the first.
    pub(super) previous_crc: u32,
    /// The block of the segment that it begins at: one that a disk has put elsewhere is none.
    pub(super) block: u32,
}

impl BatchHeader {
    /// Writes the header into the batch that begins with it, and returns the checksum. `batch` is the
    /// batch's `length` bytes, its records already in place.
    pub(super) fn seal(&self, batch: &mut [u8], nonce: &[u8; 16]) -> u32 {
        debug_assert_eq!(batch.len(), self.length as usize);
        let head = &mut batch[..BATCH_HEADER_BYTES];
        head[0..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        head[8..12].copy_from_slice(&self.length.to_le_bytes());
        head[12..16].copy_from_slice(&self.flags.to_le_bytes());
        head[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        head[24..32].copy_from_slice(&self.time_ms.to_le_bytes());
        head[32..40].copy_from_slice(&self.durable_sequence.to_le_bytes());
        head[40..48].copy_from_slice(&self.oldest_serial.to_le_bytes());
        head[48..56].copy_from_slice(&self.serial.to_le_bytes());
        head[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        head[60..64].copy_from_slice(&self.block.to_le_bytes());
        let crc = batch_crc(batch, nonce);
        batch[4..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header at the start of `bytes`, if that looks like one; its checksum is not looked at.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..BATCH_HEADER_BYTES)?;
        let length = read_u32(head, 8);
        let is_plausible = read_u32(head, 0) == BATCH_MAGIC
            && (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&(length as usize));
        is_plausible.then(|| BatchHeader {
            length,
            flags: read_u32(head, 12),
            sequence: read_u64(head, 16),
            time_ms: read_u64(head, 24),
            durable_sequence: read_u64(head, 32),
            oldest_serial: read_u64(head, 40),
            serial: read_u64(head, 48),
            previous_crc: read_u32(head, 56),
            block: read_u32(head, 60),
        })
    }
}

/// The checksum that stands in a batch.
pub(super) fn stored_batch_crc(batch: &[u8]) -> u32 {
    read_u32(batch, 4)
}

/// The checksum that a batch must have: over the nonce, its first 4 bytes, and all behind the checksum.
pub(super) fn batch_crc(batch: &[u8], nonce: &[u8; 16]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(nonce);
    hasher.update(&batch[..4]);
    hasher.update(&batch[8..]);
    hasher.finalize()
}

/// The first block of a segment. It is written in one piece with the segment's first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) shard: u16,
    pub(super) segment_bytes: u32,
    pub(super) serial: u64,
    /// Where the batch before the segment's first one ends, rounded up to blocks; zero at the log's
    /// very beginning.
    pub(super) previous_end: Position,
    /// The sequence of the segment's first batch.
    pub(super) first_sequence: u64,
    pub(super) oldest_serial: u64,
    /// The checksum of the batch before the segment's first one.
    pub(super) previous_crc: u32,
}

/// What a segment's first block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heading {
    /// A header of this folder.
    Valid(SegmentHeader),
    /// A whole header that this version must not touch, and why.
    Foreign(String),
    /// Nothing, or nothing whole.
    Nothing,
}

impl SegmentHeader {
    /// Writes the header into the segment's first block.
    pub(super) fn seal(&self, block: &mut [u8], nonce: &[u8; 16]) {
        debug_assert_eq!(block.len(), BLOCK_BYTES);
        block.fill(0);
        block[0..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..32].copy_from_slice(nonce);
        block[32..34].copy_from_slice(&self.shard.to_le_bytes());
        block[36..40].copy_from_slice(&self.segment_bytes.to_le_bytes());
        block[40..48].copy_from_slice(&self.serial.to_le_bytes());
        block[48..56].copy_from_slice(&self.previous_end.0.to_le_bytes());
        block[56..64].copy_from_slice(&self.first_sequence.to_le_bytes());
        block[64..72].copy_from_slice(&self.oldest_serial.to_le_bytes());
        block[72..76].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = header_crc(block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    /// What the first block of a file says to a folder with this nonce and these settings.
    pub(super) fn read(block: &[u8], nonce: &[u8; 16], shard: u16, segment_bytes: u32) -> Heading {
        if block.len() < SEGMENT_HEADER_BYTES
            || block[0..8] != SEGMENT_MAGIC
            || read_u32(block, 12) != header_crc(block)
        {
            return Heading::Nothing;
        }
        let version = read_u32(block, 8);
        if version != FORMAT_VERSION {
            return Heading::Foreign(format!("format version {version}; this broker knows {FORMAT_VERSION}"));
        }
        if block[16..32] != *nonce {
            return Heading::Foreign("the file belongs to another data folder".into());
        }
        let header = SegmentHeader {
            shard: u16::from_le_bytes([block[32], block[33]]),
            segment_bytes: read_u32(block, 36),
            serial: read_u64(block, 40),
            previous_end: Position(read_u64(block, 48)),
            first_sequence: read_u64(block, 56),
            oldest_serial: read_u64(block, 64),
            previous_crc: read_u32(block, 72),
        };
        if header.shard != shard {
            return Heading::Foreign(format!("the file belongs to shard {}, not {shard}", header.shard));
        }
        if header.segment_bytes != segment_bytes {
            let text = format!("segments of {} bytes, not {segment_bytes}", header.segment_bytes);
            return Heading::Foreign(text);
        }
        Heading::Valid(header)
    }
}

/// The checksum of a segment's header: over its meaningful bytes but the checksum's own.
fn header_crc(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..SEGMENT_HEADER_BYTES]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_read_back_and_vouch_for_every_byte() {
        let header = BatchHeader {
            length: 80,
            flags: FLAG_CLOSING,
            sequence: 9,
            time_ms: 77,
            durable_sequence: 8,
            oldest_serial: 3,
            serial: 5,
            previous_crc: 0x1234,
            block: 7,
        };
        let mut batch = vec![7; 80];
        let crc = header.seal(&mut batch, &[1; 16]);
        assert_eq!(BatchHeader::read(&batch), Some(header));
        assert_eq!((stored_batch_crc(&batch), batch_crc(&batch, &[1; 16])), (crc, crc));
        assert_ne!(batch_crc(&batch, &[2; 16]), crc, "another folder's");
        for place in (0..80).filter(|place| !(4..8).contains(place)) {
            batch[place] ^= 16;
            assert_ne!(batch_crc(&batch, &[1; 16]), crc, "byte {place}");
            batch[place] ^= 16;
        }
        assert_eq!(BatchHeader::read(&[0; 80]), None);
        assert_eq!(BatchHeader::read(&batch[..63]), None);
    }

    #[test]
    fn headers_say_whose_they_are() {
        let header = SegmentHeader {
            shard: 2,
            segment_bytes: 65536,
            serial: 4,
            previous_end: Position(5),
            first_sequence: 6,
            oldest_serial: 1,
            previous_crc: 8,
        };
        let mut block = vec![9; BLOCK_BYTES];
        header.seal(&mut block, &[1; 16]);
        let read = |block: &[u8], nonce, shard, bytes| SegmentHeader::read(block, &[nonce; 16], shard, bytes);
        assert_eq!(read(&block, 1, 2, 65536), Heading::Valid(header));
        for (nonce, shard, bytes) in [(3, 2, 65536), (1, 3, 65536), (1, 2, 131_072)] {
            assert!(matches!(read(&block, nonce, shard, bytes), Heading::Foreign(_)));
        }
        block[50] ^= 1;
        assert_eq!(read(&block, 1, 2, 65536), Heading::Nothing);
        assert_eq!(read(&[0; BLOCK_BYTES], 1, 2, 65536), Heading::Nothing);
    }
}
