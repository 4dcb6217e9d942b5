//! How much room there is, what of it is kept in reserve (rule 16), and what cleaning can win back.
//!
//! A full log must always be emptied by its clients, though receives and deletes write records
//! themselves. What they write is garbage at once, so cleaning wins it back, as long as two things hold:
//!
//! 1. Copying all that is live takes clearly fewer segments than there may be, at worst. So sends are
//!    refused by what the live records *would* take when copied ([`Log::compact_segments`]), and not
//!    only by what is free at the moment.
//! 2. There is room for the copies on the way. The oldest segments may be all live, and copies take
//!    more than what they are made of; what is won may come from the newest segments, at the round's end.
//!    So the reserve includes by how much copying can make the log longer ([`Log::copying_bytes`]).
//!
//! Where less is free than the reserve, and so more segments are taken than copying can need, a round of
//! cleaning is sure to end with fewer (see [`Log::frees_segments`]), and goes on until then. Where copying
//! may win nothing, there is no such round: nothing is copied in a circle.

use super::log::Log;
use super::position::round_up;
use super::record::RECORD_ALIGNMENT;
use super::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::flaws::Flaws;

/// How much of the oldest segment is looked through at once, but for its end: each look may end in a
/// batch of its own.
pub const CLEANING_SLICE_BYTES: u32 = 256 << 10;

/// How much longer a copy is than its record at most, what makes up its alignment counted.
pub const COPY_GROWTH_BYTES: u64 = 24 + 24 + 7;

/// Segments that cleaning needs to go on: one for the copies, one whose file is not yet free.
const RESERVE_SEGMENTS: u64 = 2;
/// What a stored message may still need: records that hide it and move it …
const RESERVE_RECEIVE_BYTES: u64 = 72 + 88;
/// … and one that deletes it.
const RESERVE_DELETE_BYTES: u64 = 72;
/// What the largest send may take, with the end of a segment that its last record does not fit into.
/// Sends are refused this far above the reserve, so that the last one that is taken leaves it whole.
/// A log of segments smaller than this keeps one of them.
const LARGEST_SEND_BYTES: u64 = 2 * ((1 << 20) + (128 << 10));

/// What there is still room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    All,
    /// Deletes and receives go on, sends are refused.
    NoSends,
    /// Deletes go on, sends and receives are refused.
    NoReceives,
}

impl<F: Flaws> Log<F> {
    /// What there is room for (rule 16).
    #[inline]
    pub fn room(&self) -> Room {
        let files_max = self.files_max();
        if files_max == u64::MAX {
            return Room::All;
        }
        let free_bytes = self.free_bytes(files_max);
        if self.has_plenty(files_max, free_bytes) {
            debug_assert_eq!(self.room_left(files_max, free_bytes), Room::All);
            return Room::All;
        }
        self.room_left(files_max, free_bytes)
    }

    fn room_left(&self, files_max: u64, free_bytes: u64) -> Room {
        if free_bytes < self.floor_bytes() {
            return Room::NoReceives;
        }
        let segment = self.geometry.segment_bytes();
        let send = LARGEST_SEND_BYTES.min(segment);
        let reserve = self.reserve_bytes() + self.copying_bytes(files_max) + send;
        let compact = self.compact_segments(files_max) * segment;
        let is_short = free_bytes < reserve || files_max * segment < compact + reserve;
        if is_short { Room::NoSends } else { Room::All }
    }

    /// Whether there is so much room that nothing has to be divided to see it, which every send and every
    /// receive asks. A segment is half filled at worst, so copies take no more than twice their bytes, and
    /// as usable bytes are at least 15 of 16, three times their bytes in whole segments.
    #[inline]
    fn has_plenty(&self, files_max: u64, free_bytes: u64) -> bool {
        let segment = self.geometry.segment_bytes();
        let carried = self.carried_bytes(files_max);
        let reserve = 3 * segment
            + self.live_count * (RESERVE_RECEIVE_BYTES + RESERVE_DELETE_BYTES)
            + carried.saturating_mul(2);
        let compact = 2 * segment + carried.saturating_mul(3);
        free_bytes >= reserve && files_max.saturating_mul(segment) >= compact.saturating_add(reserve)
    }

    /// Whether cleaning must begin though the log has not grown to its bound: little room is left.
    pub(super) fn is_tight(&self) -> bool {
        let files_max = self.files_max();
        if files_max == u64::MAX {
            return false;
        }
        let ahead = 2.max(files_max / 8) * self.geometry.segment_bytes();
        let wanted = self.reserve_bytes() + self.copying_bytes(self.segments_taken()) + ahead;
        self.free_bytes(files_max) < wanted
    }

    /// Whether cleaning all of the log is sure to leave fewer segments than there are. A round of as many
    /// segments leaves at most [`Log::compact_segments`], so rounds come to an end.
    pub(super) fn frees_segments(&self) -> bool {
        let taken = self.segments_taken();
        taken > self.compact_segments(taken)
    }

    /// Whether cleaning all of the log probably frees as many segments as it needs, though the longest
    /// records could fall so badly that it does not.
    pub(super) fn may_free_segments(&self) -> bool {
        let taken = self.segments_taken();
        let filled = self.carried_bytes(taken).div_ceil(self.usable_bytes());
        taken > filled + RESERVE_SEGMENTS
    }

    /// How many files are to be ready beyond the next one, so that a disk that is full still has the
    /// reserve. There sends were taken as long as files could be made, so that copying may make the log
    /// longer before it makes it shorter: what that takes is there twice, before and after a round.
    pub(super) fn reserve_files(&self) -> u64 {
        let segment = self.geometry.segment_bytes();
        let records = self.live_count * (RESERVE_RECEIVE_BYTES + RESERVE_DELETE_BYTES);
        let bytes = records.min(2 * segment) + 2 * self.copying_bytes(self.segments_taken());
        RESERVE_SEGMENTS + bytes.div_ceil(self.usable_bytes())
    }

    /// Below this, receives are refused: two segments, and room for many deletes at once. What deletes
    /// leave is garbage that cleaning wins back, so that there need not be room for all of them.
    fn floor_bytes(&self) -> u64 {
        let segment = self.geometry.segment_bytes();
        RESERVE_SEGMENTS * segment + (self.live_count * RESERVE_DELETE_BYTES).min(segment)
    }

    fn reserve_bytes(&self) -> u64 {
        RESERVE_SEGMENTS * self.geometry.segment_bytes()
            + self.live_count * (RESERVE_RECEIVE_BYTES + RESERVE_DELETE_BYTES)
    }

    /// How many segments the live records take at most when `taken` segments have been cleaned and
    /// nothing else was written: those that are filled with copies, and the one being filled.
    fn compact_segments(&self, taken: u64) -> u64 {
        1 + self.carried_bytes(taken).div_ceil(self.filled_bytes())
    }

    /// By how much copying the live records can make the log longer, as long as nothing is won.
    fn copying_bytes(&self, taken: u64) -> u64 {
        let carried = u128::from(self.carried_bytes(taken));
        let spread = carried * u128::from(self.usable_bytes()) / u128::from(self.filled_bytes());
        (spread as u64).saturating_sub(self.live_total_bytes)
    }

    /// The bytes of all copies when `taken` segments are cleaned, with what makes up batches to blocks.
    #[inline]
    fn carried_bytes(&self, taken: u64) -> u64 {
        let copies = self.live_total_bytes + self.live_count * COPY_GROWTH_BYTES;
        if !self.options.has_files() {
            return copies;
        }
        // One batch for what the engine writes anew by itself, one for each look.
        let batches = 1 + self.geometry.segment_bytes().div_ceil(CLEANING_SLICE_BYTES.into());
        copies + taken * batches * (BATCH_HEADER_BYTES + BLOCK_BYTES) as u64
    }

    fn usable_bytes(&self) -> u64 {
        self.geometry.segment_bytes() - if self.options.has_files() { BLOCK_BYTES as u64 } else { 0 }
    }

    /// How much of a segment is filled at least, in the mean: a segment's end stays empty where the next
    /// record does not fit, but two neighbours together always hold more than one can.
    fn filled_bytes(&self) -> u64 {
        let longest = round_up(self.longest_bytes as usize, RECORD_ALIGNMENT) + BATCH_HEADER_BYTES;
        let usable = self.usable_bytes();
        usable.saturating_sub(longest as u64 + COPY_GROWTH_BYTES).max(usable / 2)
    }

    #[inline]
    fn free_bytes(&self, files_max: u64) -> u64 {
        let segment = self.geometry.segment_bytes();
        let used = self.segments_taken();
        let in_tail = if used == 0 { 0 } else { segment.saturating_sub(self.tail.saturating_sub(self.base)) };
        files_max.saturating_sub(used) * (segment - BLOCK_BYTES as u64) + in_tail
    }

    /// How many segments there may be; `MAX` where nothing is known to stop them.
    #[inline]
    fn files_max(&self) -> u64 {
        if self.files.failed_ms.is_some() {
            return self.budget().min(self.files_in_log() + self.files.count());
        }
        self.budget()
    }

    /// How many segments the settings allow.
    #[inline]
    pub(super) fn budget(&self) -> u64 {
        self.options.log_segments_max().unwrap_or(u64::MAX)
    }
}
