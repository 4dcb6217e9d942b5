//! How every record lies in the log, whatever it says.
//!
//! A record begins at a multiple of 8 with a prefix of 16 bytes; the fixed part of its kind follows,
//! then a part of any length. A record that is ever live carries a checksum of its own (rule 15), which
//! takes in its position: a cold read needs nothing else to know that it got the right record, and
//! cleaning finds records again behind a damaged place.

use super::position::{Position, round_up};

/// Bytes before a record's fixed part.
pub const PREFIX_BYTES: usize = 16;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT: usize = 8;
/// Flag: the record carries a checksum of its own.
pub const FLAG_OWN_CRC: u8 = 1;

/// One record as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// What it says; the engine knows.
    pub kind: u8,
    /// [`FLAG_OWN_CRC`] or nothing.
    pub flags: u8,
    /// The kind's fixed part. A newer minor version may have made it longer.
    pub fixed: &'a [u8],
    /// What follows the fixed part.
    pub variable: &'a [u8],
    /// Bytes of the record with its prefix, before it is rounded up.
    pub length: u32,
}

/// What is wrong with a record's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage(pub std::borrow::Cow<'static, str>);

impl Damage {
    /// Damage for this reason.
    pub fn new(reason: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Damage(reason.into())
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

impl<'a> RawRecord<'a> {
    /// The record that begins at the start of `bytes`, which may go on behind it. Its own checksum is
    /// not looked at: that is `verify`'s work.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let prefix = Prefix::read(bytes).ok_or(Damage::new("no room for a record's prefix"))?;
        if !prefix.is_plausible(bytes.len()) {
            return Err(Damage::new("a record's lengths do not fit"));
        }
        let fixed_end = PREFIX_BYTES + prefix.fixed_length as usize;
        Ok(RawRecord {
            kind: prefix.kind,
            flags: prefix.flags,
            fixed: &bytes[PREFIX_BYTES..fixed_end],
            variable: &bytes[fixed_end..prefix.length as usize],
            length: prefix.length,
        })
    }

    /// What the record takes in the log, rounded up.
    pub fn padded_length(&self) -> usize {
        round_up(self.length as usize, RECORD_ALIGNMENT)
    }

    /// Whether it carries a checksum of its own.
    pub fn has_own_crc(&self) -> bool {
        self.flags & FLAG_OWN_CRC != 0
    }
}

/// Checks a record read from disk against the checksum that it carries, and that it is the one of
/// `length` bytes that was written at `position`. A record without a checksum is refused: only
/// batches vouch for those.
pub fn verify(position: Position, bytes: &[u8], length: u32) -> Result<RawRecord<'_>, Damage> {
    let record = RawRecord::parse(bytes)?;
    if record.length != length {
        return Err(Damage::new(format!(
            "a record of {} bytes where one of {length} was written",
            record.length
        )));
    }
    if !record.has_own_crc() {
        return Err(Damage::new("a record without a checksum of its own"));
    }
    let bytes = &bytes[..length as usize];
    if own_crc(position, bytes) != read_u32(bytes, 8) {
        return Err(Damage::new("a record's checksum does not match"));
    }
    Ok(record)
}

/// The checksum of a record's own, where its place still holds zeros: over the whole record, begun
/// with a number that its position gives, so that the bytes are gone through once and in one piece.
#[inline]
pub(super) fn own_crc_of_new(position: Position, record: &[u8]) -> u32 {
    let mut hasher = begin_own_crc(position);
    hasher.update(record);
    hasher.finalize()
}

/// The same for a record that carries its checksum.
fn own_crc(position: Position, record: &[u8]) -> u32 {
    let (prefix, rest) = record.split_at(PREFIX_BYTES);
    let mut hasher = begin_own_crc(position);
    hasher.update(&prefix[..8]);
    hasher.update(&[0; 4]);
    hasher.update(&prefix[12..]);
    hasher.update(rest);
    hasher.finalize()
}

#[inline]
fn begin_own_crc(position: Position) -> crc32fast::Hasher {
    crc32fast::Hasher::new_with_initial(position.0 as u32 ^ (position.0 >> 32) as u32)
}

/// The 16 bytes before a record's fixed part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) fixed_length: u16,
}

impl Prefix {
    /// Reads the prefix at the start of `bytes`; `None` where they are too few.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8]) -> Option<Prefix> {
        let bytes: &[u8; 8] = bytes.get(..PREFIX_BYTES)?.first_chunk()?;
        Some(Prefix {
            length: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            kind: bytes[4],
            flags: bytes[5],
            fixed_length: u16::from_le_bytes([bytes[6], bytes[7]]),
        })
    }

    /// Writes the prefix; the checksum's place is set to zero.
    #[inline]
    pub(super) fn write(self, bytes: &mut [u8; PREFIX_BYTES]) {
        let head = u64::from(self.length)
            | u64::from(self.kind) << 32
            | u64::from(self.flags) << 40
            | u64::from(self.fixed_length) << 48;
        *bytes = u128::from(head).to_le_bytes();
    }

    /// Whether such a record can lie in `room` bytes.
    #[inline]
    pub(super) fn is_plausible(self, room: usize) -> bool {
        self.length as usize >= PREFIX_BYTES + self.fixed_length as usize && self.length as usize <= room
    }
}

/// Reads a number at an offset that the caller knows to be inside.
pub(super) fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// Reads a number at an offset that the caller knows to be inside.
pub(super) fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
