//! What only few messages have, beside their slots and before the content of their records.
//!
//! A message that came from another queue keeps where it came from and how often it had been received
//! until then. In memory that is an entry of a [`Side`](super::side::Side) table, which the slot's flag
//! [`FLAG_ARRIVED`] makes valid. In the log it is told by the record of the move, and by a block of rare
//! fields in every copy made after that, so that a copy needs no other record (rule 11).

use super::records::{Reader, Writer};
use super::slot::{FLAG_ARRIVED, FLAG_ORIGIN, Slot};
use crate::journal::Damage;

/// What a message has that came from another queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rare {
    /// The incarnation of the queue that it was a dead letter of.
    pub source: u64,
    /// How often it had been received when it came here.
    pub receives_before: u32,
    /// When it was first received. A move may begin its retention anew, and then the slot cannot tell.
    pub first_received_at_ms: u64,
    /// Where the record of its move ends: whoever is given the message depends on it (rule 1). It is no
    /// part of the state, and zero after recovery.
    pub moved_end: u64,
}

impl Rare {
    pub const NONE: Self = Self { source: 0, receives_before: 0, first_received_at_ms: 0, moved_end: 0 };
}

/// In a block's fields: where the message came from.
const FIELD_ORIGIN: u16 = 1;
/// All fields that this version knows.
const FIELDS_KNOWN: u16 = FIELD_ORIGIN;
/// Length, fields, reserved.
const HEAD_BYTES: usize = 8;
/// Source, receives before, reserved.
const ORIGIN_BYTES: usize = 16;
/// Bytes of a block that says where a message came from.
pub(super) const ORIGIN_BLOCK_BYTES: usize = HEAD_BYTES + ORIGIN_BYTES;

/// A block of rare fields, which stands before the content where
/// [`CONTENT_RARE`](super::records::CONTENT_RARE) says so: its length without these two bytes as a `u16`,
/// the bits of its fields as a `u16`, a `u32` that is reserved, then the fields in the order of their
/// bits. Bit 0 is the origin: the source's incarnation `u64`, receives before `u32`, reserved `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RareBlock {
    /// The source's incarnation, and the receives before.
    pub origin: Option<(u64, u32)>,
}

impl RareBlock {
    /// What a copy of this message carries.
    pub fn of(slot: &Slot, rare: Rare) -> Self {
        let arrived = slot.flags() & FLAG_ARRIVED != 0;
        Self { origin: arrived.then_some((rare.source, rare.receives_before)) }
    }

    /// Its length; nothing is written where there is nothing in it.
    pub fn bytes(&self) -> usize {
        if self.origin.is_some() { ORIGIN_BLOCK_BYTES } else { 0 }
    }

    /// The flag of a slot whose record carries it.
    pub fn flag(&self) -> u8 {
        if self.origin.is_some() { FLAG_ORIGIN } else { 0 }
    }

    pub fn write(&self, out: &mut [u8]) {
        let Some((source, receives_before)) = self.origin else { return };
        let mut writer = Writer(out);
        writer.u16((ORIGIN_BLOCK_BYTES - 2) as u16);
        writer.u16(FIELD_ORIGIN);
        writer.u32(0);
        writer.u64(source);
        writer.u32(receives_before);
        writer.u32(0);
    }

    /// Takes a block from the front of a record's variable part, and gives what is behind.
    pub fn split(variable: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let mut reader = Reader(variable);
        let length = reader.u16()?;
        let mut block = Reader(reader.bytes(length.into())?);
        let content = reader.0;
        let fields = block.u16()?;
        block.u32()?;
        if fields & !FIELDS_KNOWN != 0 || fields & FIELD_ORIGIN == 0 {
            return Err(Damage::new("a message has rare fields that are not known"));
        }
        let origin = (block.u64()?, block.u32()?);
        block.u32()?;
        if !block.0.is_empty() {
            return Err(Damage::new("a block of rare fields has another length than it says"));
        }
        Ok((Self { origin: Some(origin) }, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_as_it_was_and_what_is_not_known_is_damage() {
        let block = RareBlock { origin: Some((0x0102_0304_0506_0708, 9)) };
        let mut bytes = vec![0; block.bytes()];
        block.write(&mut bytes);
        bytes.extend_from_slice(b"body");
        let (read, content) = RareBlock::split(&bytes).expect("it was written");
        assert_eq!((read, content), (block, &b"body"[..]));
        for end in 0..block.bytes() {
            assert!(RareBlock::split(&bytes[..end]).is_err());
        }
        bytes[2] = 3;
        assert!(RareBlock::split(&bytes).is_err());
    }
}
