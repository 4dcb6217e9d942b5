//! The files around the log: those that wait to be used, those that wait to be free, and how many
//! are made in advance.
//!
//! A segment's file is used again in two steps (rule 13). First nothing in the segment may be live,
//! with the copies or deletions that emptied it durable, and the next segment's header durable too:
//! from then on the log begins after it. Then a durable batch must say so, or recovery would look for
//! the segment in vain; and no read of it may be under way.

use std::collections::VecDeque;
use std::io;

use super::log::Log;
use super::room::Room;
use crate::flaws::{Flaw, Flaws};
use crate::shard::driver::FileNumber;

/// Files kept ready for new segments where the reserve needs no more; what is freed beyond is removed.
const SPARE_FILES_MAX: u64 = 8;
/// Segments in which nothing is live any more are let go so many bytes at a time, and one at least: there may be
/// hundreds at once where large messages are purged or a backlog has been copied, and the kernel takes ten microseconds
/// and more to have the memory of each back.
const RETIRED_BYTES_A_TIME: u64 = 16 << 20;
/// How long after a file could not be made (a full disk) the next attempt comes.
const PREPARE_AGAIN_AFTER_MS: u64 = 1_000;
/// The files that belong to no segment of the log.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Ready to be written, in the order in which they came.
    pub(super) spares: VecDeque<FileNumber>,
    /// Left by a segment; free once a durable batch states a serial above this one.
    pub(super) retiring: VecDeque<(u64, FileNumber)>,
    preparing: Option<FileNumber>,
    begun: Option<Begun>,
    removing: Option<FileNumber>,
    /// Files to be removed as they are none of ours or too many.
    pub(super) surplus: VecDeque<FileNumber>,
    /// Numbers below `next_number` that no file has.
    unused: Vec<FileNumber>,
    pub(super) next_number: u32,
    /// When a file could not be made: until the next attempt, the files there are are all.
    pub(super) failed_ms: Option<u64>,
    /// Whether input waits until more files are made.
    pub(super) awaits_reserve: bool,
}

/// A file that a start has not waited for: up to `written` it is fit to be written to.
#[derive(Debug, Clone, Copy)]
struct Begun {
    file: FileNumber,
    written: u64,
    /// Whether the shard has been asked for the rest.
    is_asked: bool,
}

impl Files {
    /// Whether this part of a file is fit to be written to. Where it is not, it will be soon, without fail.
    pub(super) fn can_write(&self, file: FileNumber, end: u64) -> bool {
        self.begun.is_none_or(|begun| begun.file != file || end <= begun.written)
    }

    /// Whether no file is ready for the next segment.
    pub(super) fn is_short(&self) -> bool {
        self.spares.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        (self.spares.len() + self.retiring.len() + usize::from(self.preparing.is_some())) as u64
    }
}

impl<F: Flaws> Log<F> {
    /// A file that the shard shall prepare, with its length.
    pub fn wants_segment(&mut self) -> Option<(FileNumber, u64)> {
        self.look_at_reserve();
        if !self.lacks_files() || self.failed_lately() {
            return None;
        }
        let file = self.files.unused.pop().unwrap_or_else(|| {
            self.files.next_number += 1;
            FileNumber(self.files.next_number)
        });
        self.files.preparing = Some(file);
        Some((file, self.geometry.segment_bytes()))
    }

    /// Whether one more file should be made.
    fn lacks_files(&self) -> bool {
        if !self.options.has_files() || self.files.preparing.is_some() {
            return false;
        }
        let needed = self.segments_without_file();
        let spares = self.files.spares.len() as u64;
        // A start waits for the files that it needs only. After that one is ready for the tail, and
        // the reserve with it; files that will be free with the next batches count.
        let (ready, coming) = if self.commit.is_running() { (1, self.reserve_files()) } else { (0, 0) };
        let is_short =
            spares < needed + ready || spares + (self.files.retiring.len() as u64) < needed + ready + coming;
        // A segment that has bytes gets its file whatever the budget: deletes and copies are what
        // makes room again, so only what is made in advance keeps to it.
        let is_wanted = is_short || self.probes_disk();
        spares < needed || (is_wanted && self.files_in_log() + self.files.count() < self.budget())
    }

    /// Whether files of the reserve are not there and can be made as far as anybody knows. If that fails, the
    /// reserve has to be there, so nothing is to use it up meanwhile. A log that has only begun has little
    /// to keep it for.
    fn awaits_reserve(&self) -> bool {
        let may_make =
            self.files.failed_ms.is_none() && self.files_in_log() + self.files.count() < self.budget();
        if !self.options.has_files() || !self.commit.is_running() || !may_make {
            return false;
        }
        let coming = self.reserve_files().min(self.segments_taken().saturating_sub(1));
        let there = (self.files.spares.len() + self.files.retiring.len()) as u64;
        there < self.segments_without_file() + coming
    }

    /// Looks again whether input has to wait for files: once a turn, and when a segment is begun.
    pub(super) fn look_at_reserve(&mut self) {
        self.files.awaits_reserve = self.awaits_reserve();
    }

    /// Whether a file should be made only to see if the disk has room again: until one could be made,
    /// the files there are count as all there will be, and clients are refused for want of more.
    fn probes_disk(&self) -> bool {
        self.files.failed_ms.is_some() && self.room() != Room::All
    }

    /// When another attempt to make a file is due, where the last one failed.
    pub(super) fn prepare_due_ms(&self) -> Option<u64> {
        let failed_ms = self.files.failed_ms?;
        self.lacks_files().then_some(failed_ms + PREPARE_AGAIN_AFTER_MS)
    }

    /// The newest segments, that have no file yet.
    fn segments_without_file(&self) -> u64 {
        let newest = self.segments.iter().rev();
        newest.take_while(|segment| segment.file.is_none() && !segment.is_vacant).count() as u64
    }

    /// The file asked for is there, and fit to be written to as far as `written`; the rest is wanted once the
    /// shard runs.
    pub fn segment_begun(&mut self, file: FileNumber, written: u64) {
        if written < self.geometry.segment_bytes() {
            self.files.begun = Some(Begun { file, written, is_asked: false });
        }
        self.files.preparing = None;
        self.files.spares.push_back(file);
    }

    /// A file of which the shard shall write the rest, with where that begins and ends.
    pub fn wants_finishing(&mut self) -> Option<(FileNumber, u64, u64)> {
        let begun = self.files.begun.as_mut().filter(|begun| !begun.is_asked)?;
        begun.is_asked = true;
        Some((begun.file, begun.written, self.geometry.segment_bytes()))
    }

    /// The file asked for is there, or could not be made.
    pub fn segment_prepared(&mut self, file: FileNumber, result: io::Result<()>) {
        if self.files.begun.is_some_and(|begun| begun.file == file) {
            // What failed to be written are zeros where zeros are read: it only costs time later.
            self.files.begun = None;
            return;
        }
        self.files.preparing = None;
        if result.is_ok() {
            self.files.failed_ms = None;
            self.files.spares.push_back(file);
        } else {
            self.files.failed_ms = Some(self.commit.now_ms);
            self.files.unused.push(file);
        }
        self.look_at_reserve();
    }

    /// A file that the shard shall remove.
    pub fn wants_removal(&mut self) -> Option<FileNumber> {
        if !self.options.has_files() || self.files.removing.is_some() {
            return None;
        }
        let file = self.files.surplus.pop_front().or_else(|| {
            let too_many = self.files.spares.len() as u64 > SPARE_FILES_MAX.max(1 + self.reserve_files());
            if too_many { self.files.spares.pop_back() } else { None }
        })?;
        self.files.removing = Some(file);
        Some(file)
    }

    /// The file is removed; where that failed it stays where it is and is made anew when its number
    /// comes up.
    pub fn removed(&mut self, file: FileNumber, _result: io::Result<()>) {
        self.files.removing = None;
        self.files.unused.push(file);
    }

    /// Lets go of segments in which nothing is live, oldest first, as far as that is safe. Called
    /// once a turn, when nobody holds bytes of a record any more.
    pub(super) fn retire(&mut self) {
        let segments_max = (RETIRED_BYTES_A_TIME / self.geometry.segment_bytes()).max(1);
        let mut retired = 0;
        self.retires_more = false;
        while self.segments.len() > 1 {
            if self.segments[0].is_vacant {
                self.vacant -= 1;
                self.drop_oldest();
                continue;
            }
            if self.live[0] > 0 || !self.is_retirable() {
                break;
            }
            if retired == segments_max {
                self.retires_more = true;
                break;
            }
            retired += 1;
            let serial = self.first_serial;
            let segment = self.drop_oldest();
            if let Some(memory) = segment.memory {
                self.give_memory_back(memory);
            }
            self.files.retiring.extend(segment.file.map(|file| (serial, file)));
        }
        self.vacate_dead(segments_max - retired);
        self.mark_emptied();
        self.free_files();
    }

    /// Takes back the memory of segments in which nothing is live, wherever they are: without files nobody
    /// recovers from them, so that no order has to be kept. Else what stays for long would keep all behind it.
    fn vacate_dead(&mut self, mut segments_max: u64) {
        let tail_serial = self.tail_serial();
        while let Some(serial) = self.dead.pop() {
            let Some(index) = serial.checked_sub(self.first_serial) else { continue };
            let segment = &mut self.segments[index as usize];
            if serial == tail_serial || segment.is_vacant || self.live[index as usize] > 0 {
                continue;
            }
            if segments_max == 0 {
                self.dead.push(serial);
                self.retires_more = true;
                return;
            }
            segments_max -= 1;
            segment.is_vacant = true;
            self.vacant += 1;
            if let Some(memory) = segment.memory.take() {
                self.give_memory_back(memory);
            }
        }
    }

    fn drop_oldest(&mut self) -> super::log::Segment {
        self.live.pop_front();
        self.first_serial += 1;
        self.hot_serial = self.hot_serial.max(self.first_serial);
        self.segments.pop_front().expect("there is a segment")
    }

    /// Whether the oldest segment, in which nothing is live, may go.
    fn is_retirable(&self) -> bool {
        if !self.options.has_files() {
            return true;
        }
        let next = self.segments.iter().skip(1).find(|segment| !segment.is_vacant);
        let Some(next_sequence) = next.and_then(|segment| segment.first_sequence) else { return false };
        if F::has(Flaw::RecycleBeforeCopiesAreDurable) {
            return true;
        }
        let Some(emptied_at) = self.segments[0].emptied_at else { return false };
        let next_is_durable = next_sequence <= self.commit.durable_sequence();
        next_is_durable && self.commit.durable_end() >= emptied_at
    }

    /// Notes where the log ends for the segments that have become empty since.
    fn mark_emptied(&mut self) {
        if !self.options.has_files() {
            return;
        }
        let end = self.end();
        let before_tail = self.segments.len().saturating_sub(1);
        for (segment, live) in self.segments.iter_mut().zip(&self.live).take(before_tail) {
            if segment.is_vacant {
                continue;
            }
            if *live > 0 {
                break;
            }
            segment.emptied_at.get_or_insert(end);
        }
    }

    /// Takes back files whose segments a durable batch declares to be gone.
    fn free_files(&mut self) {
        while let Some(&(serial, file)) = self.files.retiring.front() {
            let stated = self.commit.stated_serial() > serial || F::has(Flaw::RecycleBeforeCopiesAreDurable);
            if !stated || self.windows.reads_from(file) {
                return;
            }
            self.files.retiring.pop_front();
            self.files.spares.push_back(file);
        }
    }

    /// Sealed segments leave memory, oldest first, until the rest keeps to its bound. Cleaning does it once a
    /// turn; who writes a log without cleaning it has to.
    pub fn cool(&mut self) {
        if !self.options.has_files() {
            return;
        }
        let tail_serial = self.tail_serial();
        let durable_sequence = self.commit.durable_sequence();
        while self.hot_serial < tail_serial {
            let hot_bytes = (tail_serial + 1 - self.hot_serial) * self.geometry.segment_bytes();
            let index = (self.hot_serial - self.first_serial) as usize;
            let next = &self.segments[index + 1];
            // The next segment's first batch follows all of this one.
            let is_durable = next.first_sequence.is_some_and(|first| first <= durable_sequence);
            let is_cold = self.segments[index].memory.is_none();
            if !is_cold && (hot_bytes <= self.options.hot_bytes_max || !is_durable) {
                return;
            }
            if let Some(memory) = self.segments[index].memory.take() {
                self.give_memory_back(memory);
            }
            self.hot_serial += 1;
        }
    }

    /// Segments of the log, but those that were never filled.
    pub(super) fn segments_taken(&self) -> u64 {
        self.segments.len() as u64 - self.vacant
    }

    pub(super) fn files_in_log(&self) -> u64 {
        self.segments_taken() - self.segments_without_file()
    }

    fn failed_lately(&self) -> bool {
        self.files.failed_ms.is_some_and(|failed_ms| self.commit.now_ms < failed_ms + PREPARE_AGAIN_AFTER_MS)
    }
}
