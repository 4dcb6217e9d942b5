//! Places in the log.
//!
//! The log is one endless row of bytes, cut into segments of equal size. Segment serial `s` holds
//! the positions from `s * segment_bytes` on; serials begin at 1 and are never used twice, so a
//! position names one record for as long as the data folder exists, however often files are recycled.

/// A byte offset in the endless log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(pub u64);

impl Position {
    /// Before everything: a reply that depends on nothing depends on this.
    pub const ZERO: Position = Position(0);
    /// Behind everything that will ever be written.
    pub const MAX: Position = Position(u64::MAX);
}

/// How positions are cut into segments: the size of a segment as a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    shift: u32,
}

impl Geometry {
    /// For segments of `segment_bytes`, a power of two (the options have checked it).
    pub(super) fn new(segment_bytes: u32) -> Self {
        assert!(segment_bytes.is_power_of_two(), "segments are powers of two long");
        Geometry { shift: segment_bytes.trailing_zeros() }
    }

    #[inline]
    pub(super) fn segment_bytes(self) -> u64 {
        1 << self.shift
    }

    #[inline]
    pub(super) fn serial(self, position: Position) -> u64 {
        position.0 >> self.shift
    }

    #[inline]
    pub(super) fn offset(self, position: Position) -> usize {
        (position.0 & (self.segment_bytes() - 1)) as usize
    }

    #[inline]
    pub(super) fn position(self, serial: u64, offset: usize) -> Position {
        debug_assert!(offset as u64 <= self.segment_bytes());
        Position((serial << self.shift) + offset as u64)
    }
}

/// `value` rounded up to a multiple of `unit`, a power of two.
pub(super) const fn round_up(value: usize, unit: usize) -> usize {
    (value + unit - 1) & !(unit - 1)
}

/// `value` rounded down to a multiple of `unit`, a power of two.
pub(super) const fn round_down(value: usize, unit: usize) -> usize {
    value & !(unit - 1)
}
