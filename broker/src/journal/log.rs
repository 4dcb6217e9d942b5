//! The log's tail: where records are appended, found again, and counted as live.
//!
//! Appending is on the path of every message and costs a few nanoseconds: a record goes behind the
//! last one in the newest segment's memory, after one comparison with the place where something else
//! has to happen (the batch or the segment is full, or was closed by a write).

use std::collections::VecDeque;
use std::marker::PhantomData;

use super::cleaning::{Cleaner, NEARLY_DEAD_FROM_SEGMENTS, Round};
use super::cold::Windows;
use super::commit::Commit;
use super::files::Files;
use super::memory::{FreshPage, SegmentMemory};
use super::options::{Durability, LogOptions};
use super::position::{Geometry, Position, round_up};
use super::record::{FLAG_OWN_CRC, PREFIX_BYTES, Prefix, RECORD_ALIGNMENT, own_crc_of_new};
use super::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::flaws::Flaws;
use crate::large_pages::LARGE_PAGE_BYTES;
use crate::shard::driver::FileNumber;

/// Emptied segments' memory that is kept for new ones, at least as many as are emptied at once when a
/// short log is used again; more goes back to the kernel. Memory that is mapped anew has to be cleared,
/// page by page, which cost a third of a broker's time.
const SPARE_MEMORY_BYTES_MAX: usize = 64 << 20;

/// How far before the tail memory has its pages: what a busy shard fills while one is made.
const PAGES_AHEAD_BYTES: usize = 1 << 20;

/// One shard's log. Owned by the shard's thread.
pub struct Log<F: Flaws> {
    pub(super) options: LogOptions,
    pub(super) geometry: Geometry,
    /// The end of the last record; the next one goes here unless a batch begins with it.
    pub(super) tail: u64,
    /// How far the open batch may go; zero while none is open.
    pub(super) limit: u64,
    /// Where the newest segment begins.
    pub(super) base: u64,
    /// Bytes that this run has appended to segments before the newest.
    appended_before: u64,
    /// The latest time that came with a record.
    pub(super) time_ms: u64,
    /// Where the open batch begins (its header's place), while `limit` is not zero.
    pub(super) batch_start: u64,
    /// Serial of the first of `segments`.
    pub(super) first_serial: u64,
    /// The segments from the oldest to the one being filled.
    pub(super) segments: VecDeque<Segment>,
    /// Live bytes of each of `segments`, apart from them so that they lie close together.
    pub(super) live: VecDeque<u64>,
    pub(super) live_total_bytes: u64,
    /// How many records are live: each stored message has one.
    pub(super) live_count: u64,
    /// The longest record that ever was live.
    pub(super) longest_bytes: u32,
    /// Where in the newest segment the next batch may begin.
    pub(super) filled: usize,
    /// Where the last batch ends, rounded up to blocks: what the next segment's header says.
    pub(super) chain_end: Position,
    /// How many of `segments` are vacant.
    pub(super) vacant: u64,
    /// Without files: segments before the tail in which nothing was live at some time.
    pub(super) dead: Vec<u64>,
    /// What was closed, written and synced.
    pub(super) commit: Commit,
    /// The files that belong to no segment.
    pub(super) files: Files,
    /// How far the oldest segment was looked through.
    pub(super) cleaner: Cleaner,
    pub(super) round: Round,
    /// What was read back from disk.
    pub(super) windows: Windows,
    /// No segment before this one is in memory.
    pub(super) hot_serial: u64,
    spare_memories: Vec<SegmentMemory>,
    /// Whether more segments may go than have been let go of.
    pub(super) retires_more: bool,
    flaws: PhantomData<fn() -> F>,
}

/// Records of one segment that begin or cease to be live together.
#[derive(Debug, Default)]
pub struct Tally {
    serial: u64,
    bytes: u64,
    count: u64,
    longest_bytes: u32,
}

/// One segment of the log.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Its file, once it has one.
    pub(super) file: Option<FileNumber>,
    /// Its bytes, while they are in memory.
    pub(super) memory: Option<SegmentMemory>,
    /// Where its last batch ends, rounded up to blocks, once the tail has left it.
    pub(super) end: usize,
    /// Where the last batch of the segment before ends: what this one's header says.
    pub(super) previous_end: Position,
    /// A serial that was never filled, as recovery leaves gaps; or, without files, one whose memory was
    /// taken back before its turn.
    pub(super) is_vacant: bool,
    /// Where the log ended when nothing in it was live any more.
    pub(super) emptied_at: Option<Position>,
    /// The sequence of its first batch, once that was given to be written.
    pub(super) first_sequence: Option<u64>,
}

impl<F: Flaws> Log<F> {
    /// A log without files.
    ///
    /// # Panics
    /// Where the options are not for [`Durability::Memory`], or [`LogOptions::check`] objects.
    pub fn in_memory(options: LogOptions) -> Self {
        assert_eq!(options.durability, Durability::Memory, "a log with files is opened");
        Self::empty(options, 1)
    }

    pub(super) fn empty(options: LogOptions, first_serial: u64) -> Self {
        options.check().expect("the options were checked when they were read");
        let geometry = Geometry::new(options.segment_bytes);
        Log {
            geometry,
            tail: geometry.position(first_serial, 0).0,
            limit: 0,
            base: 0,
            appended_before: 0,
            time_ms: 0,
            batch_start: 0,
            first_serial,
            segments: VecDeque::new(),
            live: VecDeque::new(),
            live_total_bytes: 0,
            live_count: 0,
            longest_bytes: 0,
            filled: 0,
            chain_end: Position::ZERO,
            vacant: 0,
            dead: Vec::new(),
            commit: Commit::default(),
            files: Files::default(),
            cleaner: Cleaner::default(),
            round: Round::default(),
            windows: Windows::default(),
            hot_serial: first_serial,
            spare_memories: Vec::new(),
            retires_more: false,
            flaws: PhantomData,
            options,
        }
    }

    /// The settings it was made with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Makes the log fuller, or emptier, than its records do.
    #[cfg(test)]
    pub(crate) fn set_log_bytes_max(&mut self, log_bytes_max: u64) {
        self.options.log_bytes_max = Some(log_bytes_max);
    }

    /// The longest record that fits, its prefix counted: what the shard must refuse above.
    pub fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.options.segment_bytes)
    }

    /// Appends a record of this kind: a fixed part and one of any length, both written by `fill` into
    /// the bytes that it is given (which hold anything before). With `own_crc` the record carries a
    /// checksum of its own; every record that is ever [`live`](Log::live) must, as cold reads and
    /// cleaning go by it.
    ///
    /// # Panics
    /// Where the record is longer than [`record_bytes_max`](Log::record_bytes_max).
    #[inline(always)]
    pub fn append(
        &mut self,
        now_ms: u64,
        kind: u8,
        fixed_length: usize,
        variable_length: usize,
        own_crc: bool,
        fill: impl FnOnce(&mut [u8]),
    ) -> Position {
        let length = PREFIX_BYTES + fixed_length + variable_length;
        let padded = round_up(length, RECORD_ALIGNMENT);
        if self.tail + padded as u64 > self.limit {
            self.make_room(padded);
        }
        self.time_ms = self.time_ms.max(now_ms);
        let position = Position(self.tail);
        let offset = (self.tail - self.base) as usize;
        self.tail += padded as u64;
        let own_crc = own_crc && self.options.durability != Durability::Memory;
        let bytes = self.tail_memory().bytes_mut(offset..offset + padded);
        // Bytes that make up the 8 are zeros, so that the same records give the same file.
        bytes[padded - RECORD_ALIGNMENT..].fill(0);
        write_record(bytes, length, kind, fixed_length, own_crc, position, fill);
        position
    }

    /// Counts a record (its length before rounding, as in [`RawRecord`](super::RawRecord)) as live.
    #[inline]
    pub fn live(&mut self, position: Position, length: u32) {
        let index = self.index(position);
        self.live[index] += u64::from(length);
        self.live_total_bytes += u64::from(length);
        self.live_count += 1;
        self.longest_bytes = self.longest_bytes.max(length);
    }

    /// Counts a record as live no longer.
    #[inline]
    pub fn release(&mut self, position: Position, length: u32) {
        self.no_longer_live(position, u64::from(length), "only live records are released, and once");
        self.live_count -= 1;
    }

    #[inline]
    fn no_longer_live(&mut self, position: Position, bytes: u64, rule: &str) {
        let index = self.index(position);
        let live = &mut self.live[index];
        *live = live.checked_sub(bytes).expect(rule);
        if *live == 0 && index + 1 < self.live.len() {
            self.note_dead(index);
        }
        self.live_total_bytes -= bytes;
    }

    /// Nothing in a segment before the tail is live, or what is was not counted yet.
    #[cold]
    fn note_dead(&mut self, index: usize) {
        if !self.options.has_files() {
            self.dead.push(self.first_serial + index as u64);
        }
    }

    /// Counts bytes as live that something in the segment of this position will take when it is
    /// carried, though no record there is its own.
    #[inline]
    pub fn charge(&mut self, position: Position, bytes: u64) {
        let index = self.index(position);
        self.live[index] += bytes;
        self.live_total_bytes += bytes;
    }

    /// Counts such bytes as live no longer.
    #[inline]
    pub fn discharge(&mut self, position: Position, bytes: u64) {
        self.no_longer_live(position, bytes, "only what was charged is discharged");
    }

    /// Whether two positions lie in one segment.
    #[inline]
    pub fn is_same_segment(&self, one: Position, other: Position) -> bool {
        self.geometry.serial(one) == self.geometry.serial(other)
    }

    /// As [`live`](Log::live), but only noted: [`settle_live`](Log::settle_live) must follow before
    /// anything else is asked of the log but to append. Records of one segment are then counted at once.
    #[inline]
    pub fn note_live(&mut self, tally: &mut Tally, position: Position, length: u32) {
        let serial = self.geometry.serial(position);
        if serial != tally.serial {
            self.settle_live(tally);
            tally.serial = serial;
        }
        tally.bytes += u64::from(length);
        tally.count += 1;
        tally.longest_bytes = tally.longest_bytes.max(length);
    }

    /// Counts as live what was noted.
    pub fn settle_live(&mut self, tally: &mut Tally) {
        if tally.count > 0 {
            let index = self.index(self.geometry.position(tally.serial, 0));
            self.live[index] += tally.bytes;
            self.live_total_bytes += tally.bytes;
            self.live_count += tally.count;
            self.longest_bytes = self.longest_bytes.max(tally.longest_bytes);
        }
        *tally = Tally::default();
    }

    /// As [`release`](Log::release), but only noted: [`settle_released`](Log::settle_released) must
    /// follow before anything else is asked of the log but to append.
    #[inline]
    pub fn note_released(&mut self, tally: &mut Tally, position: Position, length: u32) {
        let serial = self.geometry.serial(position);
        if serial != tally.serial {
            self.settle_released(tally);
            tally.serial = serial;
        }
        tally.bytes += u64::from(length);
        tally.count += 1;
    }

    /// Counts as live no longer what was noted.
    pub fn settle_released(&mut self, tally: &mut Tally) {
        if tally.count > 0 {
            let segment = self.geometry.position(tally.serial, 0);
            self.no_longer_live(segment, tally.bytes, "only live records are released, and once");
            self.live_count -= tally.count;
        }
        *tally = Tally::default();
    }

    /// The end of what was appended: what a reply depends on that relies on everything so far.
    #[inline]
    pub fn end(&self) -> Position {
        Position(self.tail)
    }

    /// The bytes of a record, where they are in memory.
    #[inline]
    pub fn bytes(&self, position: Position, length: u32) -> Option<&[u8]> {
        let offset = self.geometry.offset(position);
        let index = self.geometry.serial(position).checked_sub(self.first_serial)?;
        let memory = self.segments.get(index as usize)?.memory.as_ref()?;
        memory.get(offset..offset + length as usize)
    }

    /// Live bytes in all.
    pub fn live_bytes(&self) -> u64 {
        self.live_total_bytes
    }

    /// Live bytes of each segment by its serial, from the oldest on.
    pub fn live_by_segment(&self) -> impl Iterator<Item = (u64, u64)> {
        (self.first_serial..).zip(self.live.iter().copied())
    }

    /// Bytes that were appended since the start, with what frames them.
    pub fn appended_bytes(&self) -> u64 {
        // Between a new segment and its first batch the tail is still in the one before.
        self.appended_before + self.tail.saturating_sub(self.base)
    }

    /// What the segments of the log take, full or not.
    pub fn log_bytes(&self) -> u64 {
        self.segments_taken() * self.geometry.segment_bytes()
    }

    /// Where the log begins: nothing before is in it any more.
    pub fn begin(&self) -> Position {
        self.geometry.position(self.first_serial, 0)
    }

    #[inline]
    fn index(&self, position: Position) -> usize {
        let serial = self.geometry.serial(position);
        assert!(serial >= self.first_serial, "the position lies in a segment that is gone");
        (serial - self.first_serial) as usize
    }

    #[inline]
    pub(super) fn tail_memory(&mut self) -> &mut SegmentMemory {
        let segment = self.segments.back_mut().expect("room was made in a segment");
        segment.memory.as_mut().expect("the newest segment is always in memory")
    }

    /// Serial of the segment being filled (of the first one, before it is).
    pub(super) fn tail_serial(&self) -> u64 {
        self.first_serial + (self.segments.len() as u64).saturating_sub(1)
    }

    /// Begins a batch that has room for `padded` bytes, in a new segment where this one has none.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, padded: usize) {
        assert!(padded <= self.record_bytes_max(), "a record of {padded} bytes fits no segment");
        let segment_bytes = self.geometry.segment_bytes() as usize;
        if !self.options.has_files() {
            self.begin_segment();
            self.tail = self.base;
            self.limit = self.base + segment_bytes as u64;
            return;
        }
        self.close_batch();
        if self.segments.is_empty() || self.filled + BATCH_HEADER_BYTES + padded > segment_bytes {
            self.begin_segment();
        }
        self.begin_batch(self.filled);
    }

    /// Begins a batch at this offset of the newest segment.
    pub(super) fn begin_batch(&mut self, start: usize) {
        let segment_bytes = self.geometry.segment_bytes() as usize;
        self.batch_start = self.base + start as u64;
        self.tail = self.batch_start + BATCH_HEADER_BYTES as u64;
        self.limit = self.base + segment_bytes.min(start + BATCH_BYTES_MAX) as u64;
    }

    /// Adds a segment to the log; the tail goes on there.
    pub(super) fn begin_segment(&mut self) {
        if let Some(last) = self.segments.back_mut()
            && last.memory.is_some()
        {
            last.end = if self.options.has_files() { self.filled } else { (self.tail - self.base) as usize };
            self.appended_before += last.end as u64;
        }
        if self.live.back() == Some(&0) {
            self.note_dead(self.live.len() - 1);
        }
        let memory = self.take_memory();
        let previous_end = self.chain_end;
        self.segments.push_back(Segment { memory: Some(memory), previous_end, ..Segment::default() });
        self.filled = BLOCK_BYTES;
        self.live.push_back(0);
        self.base = self.geometry.position(self.tail_serial(), 0).0;
        self.look_at_reserve();
    }

    /// Memory for a segment: a spare one, or new.
    fn take_memory(&mut self) -> SegmentMemory {
        self.spare_memories.pop().unwrap_or_else(|| {
            // Like any allocation that fails, this has no answer but the process's end.
            SegmentMemory::new(self.options.segment_bytes as usize)
                .expect("the kernel has memory for one more segment")
        })
    }

    /// A page of memory that the tail comes to soon, to be made by somebody who has the time.
    pub fn wants_page(&mut self) -> Option<FreshPage> {
        let segment_bytes = self.options.segment_bytes as usize;
        if segment_bytes < LARGE_PAGE_BYTES {
            return None;
        }
        // Between a new segment and its first batch the tail is still in the one before.
        let filled = self.tail.checked_sub(self.base)? as usize;
        let end = filled + PAGES_AHEAD_BYTES;
        let tail = self.segments.back_mut()?.memory.as_mut()?;
        if end <= segment_bytes {
            return tail.fresh_page(end);
        }
        if self.spare_memories.is_empty() {
            self.spare_memories.push(SegmentMemory::new(segment_bytes).ok()?);
        }
        tail.fresh_page(end).or_else(|| self.spare_memories.last_mut()?.fresh_page(end - segment_bytes))
    }

    /// Takes back the memory of a segment that needs none any more.
    pub(super) fn give_memory_back(&mut self, memory: SegmentMemory) {
        let spares_max = (SPARE_MEMORY_BYTES_MAX / memory.len()).max(NEARLY_DEAD_FROM_SEGMENTS as usize - 1);
        if self.spare_memories.len() < spares_max {
            self.spare_memories.extend(memory.recycle());
        }
    }
}

/// The longest record that fits a segment of this size, its prefix counted.
pub fn record_bytes_max(segment_bytes: u32) -> usize {
    (segment_bytes as usize - BLOCK_BYTES).min(BATCH_BYTES_MAX) - BATCH_HEADER_BYTES
}

#[inline(always)]
fn write_record(
    bytes: &mut [u8],
    length: usize,
    kind: u8,
    fixed_length: usize,
    with_crc: bool,
    position: Position,
    fill: impl FnOnce(&mut [u8]),
) {
    let fixed_length = u16::try_from(fixed_length).expect("fixed parts are short");
    let flags = if with_crc { FLAG_OWN_CRC } else { 0 };
    let prefix = bytes.first_chunk_mut().expect("room for a prefix was made");
    Prefix { length: length as u32, kind, flags, fixed_length }.write(prefix);
    fill(&mut bytes[PREFIX_BYTES..length]);
    if with_crc {
        let crc = own_crc_of_new(position, &bytes[..length]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}
