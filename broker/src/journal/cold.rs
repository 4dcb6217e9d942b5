//! Records that have left memory: windows of segments' files, read back when they are asked for.
//!
//! Windows lie on a fixed grid, so that neighbours share them, and the one behind is read ahead. A
//! record that crosses the grid, or whose window cannot be read, gets a read of its own. What was read
//! stays until a budget is used up, least recently used first, and at least for the turn in which it
//! came: every read serves whoever waited for it. Nothing is waited for forever: a read that fails
//! on its own too is damage.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::BLOCK_BYTES;
use super::log::Log;
use super::position::{Position, round_down, round_up};
use super::record::{RawRecord, verify};
use crate::flaws::Flaws;
use crate::shard::driver::{FileNumber, JournalRead};

/// Reads under way at a time; further ones wait their turn.
const READS_MAX: usize = 16;
/// No window is read ahead while this many reads wait.
const READ_AHEAD_BELOW: usize = 8;

/// What became of a record that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum ColdRecord<'a> {
    /// Its bytes, checked, for this turn.
    Here(&'a [u8]),
    /// They are being read: ask again when a read has ended.
    Reading,
    /// They cannot be read, or are not what was written.
    Damaged,
}

/// A part of the log: where it begins, and how long it is.
type Extent = (Position, u32);

#[derive(Debug)]
enum State {
    Reading,
    Here(Vec<u8>),
    Failed,
}

#[derive(Debug)]
struct Window {
    state: State,
    used: u64,
}

/// What was read back from disk, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Windows {
    windows: BTreeMap<Extent, Window>,
    queue: VecDeque<(JournalRead, Extent)>,
    under_way: Vec<(JournalRead, Extent)>,
    kept_bytes: u64,
    turn: u64,
}

/// What is known of an extent.
pub(super) enum Found<'a> {
    Here(&'a [u8]),
    Reading,
    Failed,
}

impl Windows {
    /// Whether a read of this file is under way or waits.
    pub(super) fn reads_from(&self, file: FileNumber) -> bool {
        self.queue.iter().chain(&self.under_way).any(|(read, _)| read.file == file)
    }

    fn has(&self, extent: Extent) -> bool {
        self.windows.contains_key(&extent)
    }

    fn ask(&mut self, extent: Extent, read: JournalRead) {
        self.queue.push_back((read, extent));
        self.windows.insert(extent, Window { state: State::Reading, used: self.turn });
    }

    /// What became of an extent that was asked for; a failure is told once and then forgotten.
    fn look(&mut self, extent: Extent) -> Option<Found<'_>> {
        if matches!(self.windows.get(&extent)?.state, State::Failed) {
            self.windows.remove(&extent);
            return Some(Found::Failed);
        }
        let window = self.windows.get_mut(&extent)?;
        window.used = self.turn;
        match &window.state {
            State::Here(bytes) => Some(Found::Here(bytes)),
            State::Reading | State::Failed => Some(Found::Reading),
        }
    }

    /// Ends a turn: what is over the budget goes, but nothing that came or was used in this one.
    fn end_turn(&mut self, kept_bytes_max: u64) {
        let turn = self.turn;
        self.turn += 1;
        while self.kept_bytes > kept_bytes_max {
            let oldest = self
                .windows
                .iter()
                .filter(|(_, window)| !matches!(window.state, State::Reading) && window.used < turn)
                .min_by_key(|(_, window)| window.used)
                .map(|(extent, _)| *extent);
            let Some(extent) = oldest else { return };
            self.forget(extent);
        }
    }

    fn forget(&mut self, extent: Extent) {
        if let Some(Window { state: State::Here(bytes), .. }) = self.windows.remove(&extent) {
            self.kept_bytes -= bytes.len() as u64;
        }
    }
}

impl<F: Flaws> Log<F> {
    /// The record of `length` bytes at `position`, wherever it is. Starts reading it where that is
    /// needed.
    pub fn cold_record(&mut self, position: Position, length: u32) -> ColdRecord<'_> {
        if self.bytes(position, length).is_some() {
            return self.bytes(position, length).map_or(ColdRecord::Damaged, ColdRecord::Here);
        }
        let Some((whole, own)) = self.extents(position, length) else { return ColdRecord::Damaged };
        // The window on the grid first; where there is none or it failed, a read of its own.
        let extent = match whole {
            Some(window) if !self.windows.has(own) => match self.windows.look(window) {
                None => {
                    self.ask(window);
                    self.read_ahead(window);
                    return ColdRecord::Reading;
                }
                Some(Found::Reading) => return ColdRecord::Reading,
                Some(Found::Here(_)) => window,
                Some(Found::Failed) => own,
            },
            _ => own,
        };
        if !self.windows.has(extent) {
            self.ask(extent);
            return ColdRecord::Reading;
        }
        match self.windows.look(extent) {
            Some(Found::Here(bytes)) => check::<F>(position, length, extent, bytes),
            Some(Found::Reading) => ColdRecord::Reading,
            Some(Found::Failed) | None => ColdRecord::Damaged,
        }
    }

    /// The next read that the shard shall start.
    pub fn next_read(&mut self) -> Option<JournalRead> {
        if self.windows.under_way.len() >= READS_MAX {
            return None;
        }
        let (read, extent) = self.windows.queue.pop_front()?;
        self.windows.under_way.push((read, extent));
        Some(read)
    }

    /// A read has ended, well or not.
    pub fn read_done(&mut self, read: JournalRead, result: io::Result<Vec<u8>>) {
        let windows = &mut self.windows;
        let Some(index) = windows.under_way.iter().position(|(asked, _)| *asked == read) else { return };
        let (_, extent) = windows.under_way.swap_remove(index);
        let Some(window) = windows.windows.get_mut(&extent) else { return };
        window.used = windows.turn;
        window.state = match result {
            Ok(bytes) if bytes.len() == read.length as usize => {
                windows.kept_bytes += bytes.len() as u64;
                State::Here(bytes)
            }
            _ => State::Failed,
        };
    }

    /// Bytes of the log for cleaning: from memory, or read back. `extent` is block aligned.
    pub(super) fn extent(&mut self, extent: Extent) -> Found<'_> {
        if !self.windows.has(extent) {
            self.ask(extent);
            return Found::Reading;
        }
        self.windows.look(extent).unwrap_or(Found::Failed)
    }

    /// Forgets an extent that is not needed again.
    pub(super) fn forget_extent(&mut self, extent: Extent) {
        self.windows.forget(extent);
    }

    pub(super) fn end_cold_turn(&mut self) {
        self.windows.end_turn(self.options.cold_bytes_max);
    }

    /// The window on the grid that a record lies in, if it lies in one, and the blocks that it covers.
    fn extents(&self, position: Position, length: u32) -> Option<(Option<Extent>, Extent)> {
        let serial = self.geometry.serial(position);
        let offset = self.geometry.offset(position);
        let end = offset + length as usize;
        let segment_end = self.segment_end(serial)?;
        if end > segment_end {
            return None;
        }
        let start = round_down(offset, BLOCK_BYTES);
        let own = (self.geometry.position(serial, start), (round_up(end, BLOCK_BYTES) - start) as u32);
        let window_bytes = self.options.cold_window_bytes as usize;
        let window_start = offset / window_bytes * window_bytes;
        let window_end = (window_start + window_bytes).min(segment_end);
        let window = (self.geometry.position(serial, window_start), (window_end - window_start) as u32);
        Some(((end <= window_end).then_some(window), own))
    }

    /// Where a cold segment ends; `None` where it has no file to read.
    pub(super) fn segment_end(&self, serial: u64) -> Option<usize> {
        let index = serial.checked_sub(self.first_serial)?;
        let segment = self.segments.get(index as usize)?;
        segment.file.map(|_| segment.end)
    }

    fn ask(&mut self, extent: Extent) {
        let (position, length) = extent;
        let index = (self.geometry.serial(position) - self.first_serial) as usize;
        let file = self.segments[index].file.expect("a cold segment has a file");
        let offset = self.geometry.offset(position) as u64;
        self.windows.ask(extent, JournalRead { file, offset, length });
    }

    /// Reads the window behind this one too, while little else waits.
    fn read_ahead(&mut self, (position, length): Extent) {
        let serial = self.geometry.serial(position);
        let start = self.geometry.offset(position) + length as usize;
        let Some(segment_end) = self.segment_end(serial) else { return };
        if start >= segment_end || self.windows.queue.len() >= READ_AHEAD_BELOW {
            return;
        }
        let next_length = (segment_end - start).min(self.options.cold_window_bytes as usize) as u32;
        let next = (self.geometry.position(serial, start), next_length);
        if !self.windows.has(next) {
            self.ask(next);
        }
    }
}

/// Checks a record that was read back (rule 15).
fn check<F: Flaws>(position: Position, length: u32, extent: Extent, bytes: &[u8]) -> ColdRecord<'_> {
    let start = (position.0 - extent.0.0) as usize;
    let Some(record) = bytes.get(start..start + length as usize) else { return ColdRecord::Damaged };
    let checked =
        if F::SERVE_BODIES_UNCHECKED { RawRecord::parse(record) } else { verify(position, record, length) };
    if checked.is_ok() { ColdRecord::Here(record) } else { ColdRecord::Damaged }
}
