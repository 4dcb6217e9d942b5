//! Group commit: what has gathered in the tail becomes one batch, one write, and in time durable.
//!
//! One write is under way at a time, so each batch can say that all before it are durable (in
//! `fsync`), and one sync (in `async`). A batch gets its sequence and checksum when its write is
//! taken, as only then is it known what it follows.

use std::collections::VecDeque;

use super::batch::{BatchHeader, FLAG_CLOSING, SegmentHeader};
use super::log::Log;
use super::options::Durability;
use super::position::{Position, round_up};
use super::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::flaws::{Flaw, Flaws};
use crate::shard::driver::{FileNumber, JournalWrite};

/// In `async`, how long after a write its sync is asked for: the most that a power cut takes.
const SYNC_INTERVAL_MS: u64 = 100;

/// A batch that is closed and not yet written.
#[derive(Debug, Clone, Copy)]
struct Pending {
    serial: u64,
    /// Its offset in the segment.
    start: usize,
    /// Bytes with the header, before rounding up.
    length: usize,
    time_ms: u64,
    is_closing: bool,
}

/// The write under way.
#[derive(Debug, Clone, Copy)]
struct Write {
    file: FileNumber,
    sequence: u64,
    /// Where its last record ends.
    end: Position,
    oldest_serial: u64,
}

/// What was written to a file and not synced.
#[derive(Debug, Clone, Copy)]
struct Dirty {
    file: FileNumber,
    last: Written,
}

/// A point in the log that was reached on disk.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    sequence: u64,
    end: Position,
    oldest_serial: u64,
}

/// How far the log has come on disk.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pending: VecDeque<Pending>,
    write: Option<Write>,
    /// The last batch given to be written: its sequence and checksum.
    pub(super) sequence: u64,
    /// The last batch of the run before.
    recovered_sequence: u64,
    pub(super) previous_crc: u32,
    written: Written,
    durable: Written,
    dirty: VecDeque<Dirty>,
    dirty_since_ms: Option<u64>,
    /// Up to where somebody waits for a sync.
    sync_wanted: Position,
    syncing: Option<Dirty>,
    /// Whether the last batch is a closing mark, and whether one is to follow as soon as nothing is
    /// left to write.
    is_marked: bool,
    mark_wanted: bool,
    /// The time as of the shard's last turn; 0 before its first.
    pub(super) now_ms: u64,
}

impl Commit {
    /// Where a recovered log begins: everything up to here is on disk.
    pub(super) fn recovered(sequence: u64, previous_crc: u32, end: Position) -> Self {
        let durable = Written { sequence, end, oldest_serial: 0 };
        // The last batch found may be one that nothing behind it vouches for.
        let is_marked = sequence == 0;
        let recovered_sequence = sequence;
        Commit {
            sequence,
            recovered_sequence,
            previous_crc,
            written: durable,
            durable,
            is_marked,
            ..Commit::default()
        }
    }

    /// The sequence up to which everything is durable.
    pub(super) fn durable_sequence(&self) -> u64 {
        self.durable.sequence
    }

    /// The end of what is durable.
    pub(super) fn durable_end(&self) -> Position {
        self.durable.end
    }

    /// The oldest serial that a durable batch states.
    pub(super) fn stated_serial(&self) -> u64 {
        self.durable.oldest_serial
    }

    /// Whether the shard runs: while a start writes its first records nothing is made in advance.
    pub(super) fn is_running(&self) -> bool {
        self.now_ms > 0
    }

    /// Whether nothing that was closed is unwritten.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.write.is_none()
    }
}

impl<F: Flaws> Log<F> {
    /// Replies that depend on this or less may leave.
    #[inline]
    pub fn committed(&self) -> Position {
        match self.options.durability {
            Durability::Memory => Position::MAX,
            _ if F::has(Flaw::AcknowledgeBeforeSync) => Position(self.tail),
            Durability::Async => self.commit.written.end,
            Durability::Fsync => self.commit.durable.end,
        }
    }

    /// What a power cut does not take any more, whatever replies wait for: moves between shards do, as each
    /// shard's log may lose another part.
    pub fn durable(&self) -> Position {
        match self.options.durability {
            Durability::Memory => Position::MAX,
            _ => self.commit.durable.end,
        }
    }

    /// Whether records run so far ahead of the disk that the shard must take no more input: of what was
    /// written, or of the files that are made in advance.
    pub fn is_backlogged(&self) -> bool {
        self.options.has_files()
            && (self.unwritten_bytes() > self.options.unwritten_bytes_max || self.files.awaits_reserve)
    }

    /// How far the tail is ahead of the disk.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        self.tail.saturating_sub(self.commit.written.end.0)
    }

    /// Whether every record is on disk.
    pub fn is_durable(&self) -> bool {
        !self.options.has_files()
            || (self.limit == 0
                && self.commit.is_idle()
                && self.commit.dirty.is_empty()
                && self.commit.syncing.is_none())
    }

    /// Whether nothing is left to write, the closing mark is written, and all of it is on disk.
    pub fn is_settled(&self) -> bool {
        if !self.options.has_files() {
            return true;
        }
        let commit = &self.commit;
        self.limit == 0
            && commit.is_idle()
            && commit.is_marked
            && !commit.mark_wanted
            && commit.dirty.is_empty()
            && commit.syncing.is_none()
    }

    /// Closes the open batch, if there is one: it waits to be written.
    pub(super) fn close_batch(&mut self) {
        if self.limit == 0 || !self.options.has_files() {
            return;
        }
        let start = (self.batch_start - self.base) as usize;
        let end = (self.tail - self.base) as usize;
        self.filled = round_up(end, BLOCK_BYTES);
        let filled = self.filled;
        // Recycled memory must not put old bytes on disk, and the same records give the same file.
        self.tail_memory().bytes_mut(end..filled).fill(0);
        self.push_pending(start, end - start, false);
        self.limit = 0;
        self.commit.is_marked = false;
    }

    fn push_pending(&mut self, start: usize, length: usize, is_closing: bool) {
        let serial = self.tail_serial();
        self.chain_end = self.geometry.position(serial, self.filled);
        let pending = Pending { serial, start, length, time_ms: self.time_ms, is_closing };
        self.commit.pending.push_back(pending);
    }

    /// Batches that were given to be written since the start.
    pub fn batches(&self) -> u64 {
        self.commit.sequence - self.commit.recovered_sequence
    }

    /// The log has fallen idle: a closing mark follows the last batch, so that it can be told from one
    /// that was never durable (rule 14). Does nothing where there is a mark already.
    pub fn idle_mark(&mut self, now_ms: u64) {
        let states_more = self.commit.stated_serial() < self.first_serial && !self.files.retiring.is_empty();
        if !self.options.has_files() || (self.limit == 0 && self.commit.is_marked && !states_more) {
            return;
        }
        self.time_ms = self.time_ms.max(now_ms);
        self.commit.mark_wanted = true;
    }

    /// Appends a batch without records.
    fn append_mark(&mut self) {
        if self.segments.back().is_none_or(|last| last.memory.is_none())
            || self.filled + BLOCK_BYTES > self.geometry.segment_bytes() as usize
        {
            self.begin_segment();
        }
        let start = self.filled;
        self.filled += BLOCK_BYTES;
        self.tail_memory().bytes_mut(start..start + BLOCK_BYTES).fill(0);
        self.push_pending(start, BATCH_HEADER_BYTES, true);
        self.commit.is_marked = true;
        self.commit.mark_wanted = false;
    }

    /// The next write, if there is something to write, a file for it, and none under way.
    pub fn next_write(&mut self) -> Option<JournalWrite> {
        if !self.options.has_files() || self.commit.write.is_some() {
            return None;
        }
        if self.commit.pending.is_empty() {
            if self.limit != 0 && self.tail_has_file() {
                self.close_batch();
            } else if self.limit == 0
                && (self.commit.mark_wanted || (self.files.is_short() && self.owes_statement()))
            {
                // The log has fallen idle; or files wait for a batch that says they are free, and
                // nothing else is coming.
                self.append_mark();
            }
        }
        let pending = *self.commit.pending.front()?;
        let file = self.file_of(pending.serial)?;
        if !self.files.can_write(file, (pending.start + pending.length) as u64) {
            return None;
        }
        self.commit.pending.pop_front();
        Some(self.start_write(pending, file))
    }

    fn owes_statement(&self) -> bool {
        !self.files.retiring.is_empty()
            && self.commit.stated_serial() < self.first_serial
            && self.filled + BLOCK_BYTES <= self.geometry.segment_bytes() as usize
            && self.segments.back().is_some_and(|last| last.file.is_some() && last.memory.is_some())
    }

    fn tail_has_file(&mut self) -> bool {
        let serial = self.tail_serial();
        self.file_of(serial).is_some()
    }

    /// The file of a segment; it gets one now if it has none and there is one.
    fn file_of(&mut self, serial: u64) -> Option<FileNumber> {
        let segment = self.segments.get_mut((serial - self.first_serial) as usize)?;
        if segment.file.is_none() {
            segment.file = self.files.spares.pop_front();
        }
        segment.file
    }

    /// The segment that the log begins with, for recovery to look for: none before it is on disk.
    fn oldest_serial(&self) -> u64 {
        let first = self.segments.front().and_then(|segment| segment.first_sequence);
        let is_durable = first.is_some_and(|first| first <= self.commit.durable_sequence());
        if is_durable { self.first_serial } else { 0 }
    }

    fn start_write(&mut self, pending: Pending, file: FileNumber) -> JournalWrite {
        let Pending { serial, start, length, time_ms, is_closing } = pending;
        let oldest_serial = self.oldest_serial();
        let commit = &mut self.commit;
        let sequence = commit.sequence + 1;
        let header = BatchHeader {
            length: length as u32,
            flags: if is_closing { FLAG_CLOSING } else { 0 },
            sequence,
            time_ms,
            durable_sequence: commit.durable.sequence,
            oldest_serial,
            serial,
            previous_crc: commit.previous_crc,
            block: (start / BLOCK_BYTES) as u32,
        };
        let segment = &mut self.segments[(serial - self.first_serial) as usize];
        let memory = segment.memory.as_mut().expect("segments stay in memory until they are written");
        let nonce = &self.options.nonce;
        let crc = header.seal(memory.bytes_mut(start..start + length), nonce);
        let mut write_start = start;
        if segment.first_sequence.is_none() {
            segment.first_sequence = Some(sequence);
            write_start = 0;
            let header = SegmentHeader {
                shard: self.options.shard,
                segment_bytes: self.options.segment_bytes,
                serial,
                previous_end: segment.previous_end,
                first_sequence: sequence,
                oldest_serial,
                previous_crc: commit.previous_crc,
            };
            header.seal(memory.bytes_mut(0..BLOCK_BYTES), nonce);
        }
        let bytes = memory.seal(write_start..start + round_up(length, BLOCK_BYTES));
        commit.sequence = sequence;
        commit.previous_crc = crc;
        // A mark ends where the record before it does: replies wait for records only.
        let end =
            if is_closing { commit.written.end } else { self.geometry.position(serial, start + length) };
        commit.write = Some(Write { file, sequence, end, oldest_serial });
        let durable = self.options.durability == Durability::Fsync;
        JournalWrite { file, offset: write_start as u64, bytes, durable }
    }

    /// The write under way has ended well.
    pub fn written(&mut self) {
        let write = self.commit.write.take().expect("one write is under way when one ends");
        let commit = &mut self.commit;
        let Write { file, sequence, end, oldest_serial } = write;
        commit.written = Written { sequence, end, oldest_serial };
        if self.options.durability == Durability::Fsync {
            commit.durable = commit.written;
            return;
        }
        match commit.dirty.back_mut() {
            Some(dirty) if dirty.file == file => dirty.last = commit.written,
            _ => commit.dirty.push_back(Dirty { file, last: commit.written }),
        }
    }

    /// Somebody waits for this to be durable: in `async` it is synced as soon as it is written.
    pub fn hasten_sync(&mut self, end: Position) {
        self.commit.sync_wanted = self.commit.sync_wanted.max(end);
    }

    /// In `async`, the file to sync next, when it is time to.
    pub fn next_sync(&mut self, now_ms: u64) -> Option<FileNumber> {
        let commit = &mut self.commit;
        commit.now_ms = now_ms;
        if commit.dirty.is_empty() {
            commit.dirty_since_ms = None;
            return None;
        }
        let since_ms = *commit.dirty_since_ms.get_or_insert(now_ms);
        // A file that the tail has left is synced as soon as may be: files before it in the log's
        // order are always synced first.
        let is_wanted = commit.sync_wanted > commit.durable.end;
        let is_due = is_wanted || now_ms >= since_ms + SYNC_INTERVAL_MS || commit.dirty.len() > 1;
        if commit.syncing.is_some() || !is_due {
            return None;
        }
        commit.syncing = commit.dirty.pop_front();
        if commit.dirty.is_empty() {
            commit.dirty_since_ms = None;
        }
        commit.syncing.map(|dirty| dirty.file)
    }

    /// When the shard must look again, without anything else happening: a sync is due, or another
    /// attempt to make a file that a full disk refused.
    pub fn sync_due_ms(&self) -> Option<u64> {
        let sync_ms = self.commit.dirty_since_ms.map(|since_ms| since_ms + SYNC_INTERVAL_MS);
        let sync_ms = sync_ms.filter(|_| self.commit.syncing.is_none());
        sync_ms.into_iter().chain(self.prepare_due_ms()).min()
    }

    /// The sync under way has ended well.
    pub fn synced(&mut self) {
        let dirty = self.commit.syncing.take().expect("one sync is under way when one ends");
        self.commit.durable = dirty.last;
    }
}
