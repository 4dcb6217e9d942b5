//! Cleaning of the oldest segment: what is in it is handed to the engine in slices, which appends
//! again what still matters.
//!
//! It begins when the log has grown to its bound (rule 17) or room is short, and there is something to
//! win. Records are found by
//! walking the segment's batches; where damage has made that impossible, by looking for the next
//! record whose own checksum holds. A segment of which a live record can no longer be found is kept
//! until the engine, told by [`Log::lost_positions`], has set aside what it had there.

use std::ops::Range;
use std::sync::Arc;

use super::batch::BatchHeader;
use super::cold::Found;
use super::log::Log;
use super::memory::SealedRange;
use super::position::{Position, round_down, round_up};
use super::record::{FLAG_OWN_CRC, PREFIX_BYTES, Prefix, RECORD_ALIGNMENT, RawRecord, verify};
use super::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::flaws::Flaws;

/// The oldest segment is cleaned early when at most this part of it is live (one in …) …
const NEARLY_DEAD_PART: u64 = 32;
/// … and there are so many segments.
pub(super) const NEARLY_DEAD_FROM_SEGMENTS: u64 = 4;

/// Where the structure of a segment is lost, bytes that are no record may look like the beginnings of many long
/// ones. After checksums over so many bytes in vain the next turn goes on.
const IN_VAIN_BYTES_MAX: usize = super::CLEANING_SLICE_BYTES as usize;

/// Without files: so many segments whose memory was taken back may lie between others, each of some hundred
/// bytes here. With more, what lies before them is copied behind them.
const VACANT_MAX: u64 = 1 << 16;

/// What there is to clean.
#[derive(Debug)]
pub enum Cleaning {
    /// Nothing now.
    Idle,
    /// Something, once a read or a write has ended.
    Waiting,
    /// A segment with these positions is begun. What of it the engine can write anew without its
    /// records is to be written now: often nothing else is live in it, and it need not be read at all.
    Begins(Range<Position>),
    /// Records to carry; they go back through [`Log::cleaned`].
    Records(Vec<Carried>),
}

/// A record of the oldest segment, of which the engine knows whether it is live.
#[derive(Debug)]
pub struct Carried {
    /// Where it lies.
    pub position: Position,
    bytes: Bytes,
    start: usize,
    length: usize,
}

#[derive(Debug, Clone)]
enum Bytes {
    Memory(SealedRange),
    Read(Arc<[u8]>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Memory(range) => range.as_ref(),
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl Carried {
    /// The record.
    pub fn raw(&self) -> RawRecord<'_> {
        let bytes = &self.bytes.as_slice()[self.start..self.start + self.length];
        RawRecord::parse(bytes).expect("it was parsed when it was found")
    }
}

/// How far the oldest segment was looked through.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The segment; zero while none is.
    pub(super) serial: u64,
    /// Where to go on.
    pub(super) offset: usize,
    /// Where the batch that `offset` is in ends; zero between batches.
    batch_end: usize,
    /// How much to look at next, where one record needs more than a slice.
    wanted_bytes: usize,
    /// The structure is lost: records are looked for by their checksums.
    is_lost: bool,
    /// A read failed and was asked for once more.
    is_second_try: bool,
    /// Before this place blocks are read one by one, as a longer read has failed: only a part of it may be
    /// lost.
    narrow_until: usize,
    /// Walked to its end.
    is_done: bool,
}

/// One way round the whole log. Where it is not sure to free anything, a round that freed nothing is not
/// followed by another until something has changed: else copying would go round and round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The newest segment when it began.
    last_serial: u64,
    /// Segments there were then.
    taken: u64,
    /// Live bytes and the log's end after a round that freed nothing.
    futile: Option<(u64, u64)>,
}

/// What a step of a walk over some bytes comes to.
enum Step {
    /// The walk goes on behind it.
    More,
    /// A checksum over so many bytes does not hold.
    InVain(usize),
    /// The record at the cleaner's offset needs this many bytes from there.
    Needs(usize),
}

impl<F: Flaws> Log<F> {
    /// The next records of the oldest segment, from about `budget_bytes` of it. Called once a turn;
    /// also the place where segments, memory and what was read back are let go.
    pub fn cleaning_chunk(&mut self, budget_bytes: u32) -> Cleaning {
        self.retire();
        self.cool();
        let result = self.clean_on(budget_bytes as usize);
        self.end_cold_turn();
        result
    }

    /// Whether there is more to let go of, which the next turn does.
    pub fn has_more_to_let_go(&self) -> bool {
        self.retires_more
    }

    /// Takes the records back when they are carried.
    pub fn cleaned(&mut self, records: Vec<Carried>) {
        drop(records);
        self.retire();
    }

    /// The oldest segment's positions, where cleaning has come to its end and something in it is still
    /// live: records that cannot be found there any more, which the engine has to give up or write anew.
    pub fn lost_positions(&self) -> Option<Range<Position>> {
        let is_stuck = self.cleaner.is_done
            && self.cleaner.serial == self.first_serial
            && self.live.front().is_some_and(|live| *live > 0);
        is_stuck.then(|| self.oldest_positions())
    }

    fn oldest_positions(&self) -> Range<Position> {
        self.geometry.position(self.first_serial, 0)..self.geometry.position(self.first_serial + 1, 0)
    }

    fn clean_on(&mut self, budget_bytes: usize) -> Cleaning {
        if self.segments.len() < 2 || self.live[0] == 0 || !self.is_cleaning_due() {
            return Cleaning::Idle;
        }
        if self.cleaner.serial != self.first_serial {
            self.count_rounds();
            if !self.is_cleaning_due() {
                return Cleaning::Idle;
            }
            let offset = if self.options.has_files() { BLOCK_BYTES } else { 0 };
            self.cleaner = Cleaner { serial: self.first_serial, offset, ..Cleaner::default() };
            return Cleaning::Begins(self.oldest_positions());
        }
        if self.cleaner.is_done {
            return Cleaning::Idle;
        }
        if self.options.has_files() && !self.is_oldest_written() {
            return Cleaning::Waiting;
        }
        if self.options.has_files() && self.unwritten_bytes() > self.options.unwritten_bytes_max / 4 {
            // Copies are not to crowd out what clients send.
            return Cleaning::Waiting;
        }
        let Some((start, bytes)) = self.slice_to_clean(budget_bytes) else { return Cleaning::Waiting };
        let records = self.walk(start, &bytes);
        Cleaning::Records(records)
    }

    /// Whether all batches of the oldest segment were given to be written: until then they change.
    fn is_oldest_written(&self) -> bool {
        let next = self.segments.iter().skip(1).find(|segment| !segment.is_vacant);
        next.is_some_and(|segment| segment.first_sequence.is_some())
    }

    fn is_cleaning_due(&self) -> bool {
        if self.is_nearly_dead() || self.has_many_gaps() {
            return true;
        }
        if self.frees_segments() {
            return self.is_grown() || self.is_tight();
        }
        self.is_tight() && self.may_free_segments() && !self.is_futile()
    }

    /// Whether the log has grown to its bound (rule 17).
    fn is_grown(&self) -> bool {
        let growth = u64::from(self.options.growth_factor).saturating_mul(self.live_total_bytes);
        self.log_bytes() > growth.saturating_add(self.options.growth_base_bytes)
    }

    /// Notes that the log's oldest segment is to be cleaned: whether a round has ended, and what it won.
    fn count_rounds(&mut self) {
        if self.first_serial <= self.round.last_serial {
            return;
        }
        let taken = self.segments_taken();
        let was_futile = self.round.last_serial > 0 && taken >= self.round.taken;
        let futile = was_futile.then_some((self.live_total_bytes, self.tail));
        self.round = Round { last_serial: self.tail_serial(), taken, futile };
    }

    /// Whether the last round freed nothing, and neither deletes nor new records of a segment's size
    /// have come since.
    fn is_futile(&self) -> bool {
        let segment = self.geometry.segment_bytes();
        self.round.futile.is_some_and(|(live_bytes, tail)| {
            self.live_total_bytes + segment > live_bytes && self.tail <= tail + segment
        })
    }

    /// Whether the oldest segment holds so little that its file is had for almost nothing. Using files
    /// again early keeps the log within few of them: none has to be filled with zeros, and their memory
    /// is warm. What is copied stays far below the bound of rule 17.
    fn is_nearly_dead(&self) -> bool {
        let copied_bytes = self.live[0].saturating_mul(NEARLY_DEAD_PART);
        self.segments.len() as u64 >= NEARLY_DEAD_FROM_SEGMENTS
            && copied_bytes <= self.geometry.segment_bytes()
    }

    fn has_many_gaps(&self) -> bool {
        !self.options.has_files() && self.vacant > VACANT_MAX
    }

    /// Bytes of the oldest segment from a block at or before the cleaner's offset on.
    fn slice_to_clean(&mut self, budget_bytes: usize) -> Option<(usize, Bytes)> {
        let end = self.segments[0].end;
        let start = round_down(self.cleaner.offset, BLOCK_BYTES);
        if let Some(memory) = self.segments[0].memory.as_mut() {
            let wanted = (self.cleaner.offset - start + budget_bytes).max(self.cleaner.wanted_bytes);
            let stop = (start + wanted).min(round_up(end, RECORD_ALIGNMENT));
            return Some((start, Bytes::Memory(memory.seal(start..stop.max(start)))));
        }
        let is_narrow = start < self.cleaner.narrow_until;
        let wanted = match is_narrow {
            true => self.cleaner.wanted_bytes.max(BLOCK_BYTES),
            false => budget_bytes.max(self.cleaner.wanted_bytes) + BLOCK_BYTES,
        };
        let wanted = round_up(wanted, BLOCK_BYTES);
        let stop = (start + wanted).min(end);
        let extent = (self.geometry.position(self.first_serial, start), (stop - start) as u32);
        let found = match self.extent(extent) {
            Found::Here(bytes) => Some(Bytes::Read(Arc::from(bytes))),
            Found::Reading => return None,
            Found::Failed => None,
        };
        let Some(bytes) = found else {
            if !std::mem::replace(&mut self.cleaner.is_second_try, true) {
                // Once more: this asks for it again.
                let _ = self.extent(extent);
                return None;
            }
            self.cleaner.is_second_try = false;
            if stop - start > BLOCK_BYTES {
                if is_narrow {
                    // The record here, if it is one, goes through what is lost.
                    self.lose_track();
                }
                self.cleaner.narrow_until = self.cleaner.narrow_until.max(stop);
            } else {
                // What cannot be read is walked over; the live bytes that stay tell of it.
                self.cleaner.offset = stop;
                self.cleaner.is_lost = true;
            }
            return Some((self.cleaner.offset, Bytes::Read(Arc::from([]))));
        };
        self.cleaner.is_second_try = false;
        self.forget_extent(extent);
        Some((start, bytes))
    }

    /// Walks over `bytes`, which begin at offset `start` of the oldest segment, and collects records.
    fn walk(&mut self, start: usize, bytes: &Bytes) -> Vec<Carried> {
        let mut records = Vec::new();
        let slice = bytes.as_slice();
        let stop = start + slice.len();
        let before = self.cleaner.offset;
        let mut in_vain_bytes = 0;
        self.cleaner.wanted_bytes = 0;
        while self.cleaner.offset < stop && in_vain_bytes < IN_VAIN_BYTES_MAX {
            match self.walk_one(start, slice, bytes, &mut records) {
                Step::More => {}
                Step::InVain(checked_bytes) => in_vain_bytes += checked_bytes,
                Step::Needs(needed) => {
                    self.cleaner.wanted_bytes =
                        self.cleaner.offset - round_down(self.cleaner.offset, BLOCK_BYTES) + needed;
                    break;
                }
            }
        }
        let is_at_end = stop >= self.segments[0].end;
        if self.cleaner.offset >= stop && is_at_end {
            self.cleaner.is_done = true;
        } else if is_at_end && self.cleaner.offset == before {
            // Something claims to go on behind the segment's end.
            self.lose_track();
        }
        records
    }

    fn walk_one(&mut self, start: usize, slice: &[u8], bytes: &Bytes, records: &mut Vec<Carried>) -> Step {
        let has_files = self.options.has_files();
        let offset = self.cleaner.offset;
        let rest = &slice[offset - start..];
        if has_files && !self.cleaner.is_lost && offset >= self.cleaner.batch_end {
            return self.enter_batch(rest);
        }
        if rest.len() < PREFIX_BYTES {
            return self.needs(PREFIX_BYTES, rest.len(), start + slice.len());
        }
        let prefix = Prefix::read(rest).expect("there is room for a prefix");
        let limit =
            if has_files && !self.cleaner.is_lost { self.cleaner.batch_end } else { self.segments[0].end };
        let is_candidate =
            prefix.flags == FLAG_OWN_CRC && (prefix.length as usize) <= self.record_bytes_max();
        if !prefix.is_plausible(limit - offset) || (self.cleaner.is_lost && !is_candidate) {
            self.lose_track();
            return Step::More;
        }
        let length = prefix.length as usize;
        if rest.len() < length {
            return self.needs(length, rest.len(), start + slice.len());
        }
        let position = self.geometry.position(self.first_serial, offset);
        // Without a checksum of its own nothing is ever live; in memory nothing has one.
        let is_sound = !has_files || verify(position, &rest[..length], prefix.length).is_ok();
        let has_crc = RawRecord::parse(&rest[..length]).is_ok_and(|raw| raw.has_own_crc());
        if is_sound {
            records.push(Carried { position, bytes: bytes.clone(), start: offset - start, length });
        } else if has_crc || self.cleaner.is_lost {
            self.lose_track();
            return Step::InVain(length);
        }
        self.cleaner.offset += round_up(length, RECORD_ALIGNMENT);
        if has_files && !self.cleaner.is_lost && self.cleaner.offset >= self.cleaner.batch_end {
            self.leave_batch();
        }
        Step::More
    }

    /// More bytes are needed for what is at the cleaner's offset; at the segment's end that is damage.
    fn needs(&mut self, needed: usize, here: usize, stop: usize) -> Step {
        if stop >= self.segments[0].end {
            self.lose_track();
            if here < PREFIX_BYTES {
                self.cleaner.offset = stop;
            }
            return Step::More;
        }
        Step::Needs(needed)
    }

    fn enter_batch(&mut self, rest: &[u8]) -> Step {
        let Some(header) = BatchHeader::read(rest) else {
            self.lose_track();
            return Step::More;
        };
        let end = self.cleaner.offset + header.length as usize;
        if header.serial != self.first_serial || end > self.segments[0].end {
            self.lose_track();
            return Step::More;
        }
        self.cleaner.batch_end = end;
        self.cleaner.offset += BATCH_HEADER_BYTES;
        if self.cleaner.offset >= end {
            self.leave_batch();
        }
        Step::More
    }

    fn leave_batch(&mut self) {
        self.cleaner.offset = round_up(self.cleaner.batch_end, BLOCK_BYTES);
        self.cleaner.batch_end = 0;
    }

    /// From here on records are looked for at every place where one can begin.
    fn lose_track(&mut self) {
        self.cleaner.is_lost = true;
        self.cleaner.offset += RECORD_ALIGNMENT;
    }
}
