//! Records that have left memory: windows of segments' files, read back when they are asked for.
//!
//! Windows lie on a fixed grid, so that neighbours share them. Where one is asked for, the one behind is
//! read ahead; where one that was read ahead is come to, the log is being read in order, and several
//! are, into the next segment too. So a drained backlog waits for the disk once, and a record here and
//! there costs one window too many at most. A record that crosses the grid is put together from its
//! windows where they are here; else it gets a read of its own, as does one whose window cannot be read. What was read stays until a budget is used up, least recently used
//! first, and at least for the turn in which it came: every read serves whoever waited for it. Nothing is
//! waited for forever: each read that fails is tried once more, and one that fails on its own too is damage.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::BLOCK_BYTES;
use super::log::Log;
use super::position::{Position, round_down, round_up};
use super::record::{RawRecord, verify};
use crate::flaws::{Flaw, Flaws};
use crate::prefetch::prefetch;
use crate::shard::driver::{FileNumber, JournalRead};

/// Reads under way at a time; further ones wait their turn.
const READS_MAX: usize = 16;
/// A line of the processor's caches, and how many of a record are fetched before it is read; with longer ones the
/// processor goes on by itself.
const LINE_BYTES: usize = 64;
const LINES_EXPECTED: usize = 4;
/// No window is read ahead while this many reads wait.
const READ_AHEAD_BELOW: usize = 8;
/// Windows that are read ahead where the log is read in order: what a disk needs to be kept busy.
const READ_AHEAD_WINDOWS: usize = 4;

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
    /// It was read ahead, and nobody has come to it yet.
    is_ahead: bool,
    /// A read of it failed, and was asked for once more.
    is_second_try: bool,
}

impl Window {
    fn new(state: State, used: u64) -> Self {
        Self { state, used, is_ahead: false, is_second_try: false }
    }
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

    fn ask(&mut self, extent: Extent, read: JournalRead, is_ahead: bool) {
        self.queue.push_back((read, extent));
        self.windows.insert(extent, Window { is_ahead, ..Window::new(State::Reading, self.turn) });
    }

    /// Whether this is the first that comes to a window that was read ahead.
    fn comes_to(&mut self, extent: Extent) -> bool {
        self.windows.get_mut(&extent).is_some_and(|window| std::mem::take(&mut window.is_ahead))
    }

    /// What became of an extent that was asked for; a failure is told once and then forgotten.
    fn look(&mut self, extent: Extent) -> Option<Found<'_>> {
        if matches!(self.windows.get(&extent)?.state, State::Failed) {
            self.windows.remove(&extent);
            return Some(Found::Failed);
        }
        self.look_again(extent)
    }

    /// What is known of an extent; a failure stays to be told.
    fn look_again(&mut self, extent: Extent) -> Option<Found<'_>> {
        let window = self.windows.get_mut(&extent)?;
        window.used = self.turn;
        Some(match &window.state {
            State::Here(bytes) => Found::Here(bytes),
            State::Reading => Found::Reading,
            State::Failed => Found::Failed,
        })
    }

    /// Adds what was put together from other windows.
    fn put(&mut self, extent: Extent, bytes: Vec<u8>) {
        self.kept_bytes += bytes.len() as u64;
        self.windows.insert(extent, Window::new(State::Here(bytes), self.turn));
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
        let last = self.window_at(Position(position.0 + u64::from(length) - 1));
        if let Some(last) = last
            && self.windows.comes_to(last)
        {
            // As many as the budget has room for while others read too.
            let room = self.options.cold_bytes_max / 4 / u64::from(self.options.cold_window_bytes);
            self.read_ahead(last, READ_AHEAD_WINDOWS.min(room as usize));
        }
        // The window on the grid first; where there is none or it failed, a read of its own.
        let extent = match whole {
            Some(window) if !self.windows.has(own) => match self.windows.look(window) {
                None => {
                    self.ask(window, false);
                    self.read_ahead(window, 1);
                    return ColdRecord::Reading;
                }
                Some(Found::Reading) => return ColdRecord::Reading,
                Some(Found::Here(_)) => window,
                Some(Found::Failed) => own,
            },
            _ => own,
        };
        if !(self.windows.has(extent) || whole.is_none() && self.join(extent)) {
            self.ask(extent, false);
            return ColdRecord::Reading;
        }
        match self.windows.look(extent) {
            Some(Found::Here(bytes)) => check::<F>(position, length, extent, bytes),
            Some(Found::Reading) => ColdRecord::Reading,
            Some(Found::Failed) | None => ColdRecord::Damaged,
        }
    }

    /// Has the processor fetch the beginning of a record that is going to be read soon, if it is in memory.
    #[inline]
    pub fn expect(&self, position: Position, length: u32) {
        let lines = self.bytes(position, length).unwrap_or_default().chunks(LINE_BYTES);
        lines.take(LINES_EXPECTED).for_each(|line| prefetch(&line[0]));
    }

    /// The bytes of a record that [`cold_record`](Log::cold_record) found to be here, in this turn.
    pub fn record_here(&self, position: Position, length: u32) -> Option<&[u8]> {
        if let Some(bytes) = self.bytes(position, length) {
            return Some(bytes);
        }
        let (whole, own) = self.extents(position, length)?;
        let extent = whole.filter(|_| !self.windows.has(own)).unwrap_or(own);
        let State::Here(bytes) = &self.windows.windows.get(&extent)?.state else { return None };
        let start = (position.0 - extent.0.0) as usize;
        bytes.get(start..start + length as usize)
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
            _ if !std::mem::replace(&mut window.is_second_try, true) => {
                windows.queue.push_back((read, extent));
                State::Reading
            }
            _ => State::Failed,
        };
    }

    /// Bytes of the log for cleaning: from memory, or read back. `extent` is block aligned.
    pub(super) fn extent(&mut self, extent: Extent) -> Found<'_> {
        if !self.windows.has(extent) {
            self.ask(extent, false);
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
        let window = self.window_at(position)?;
        let window_end = self.geometry.offset(window.0) + window.1 as usize;
        Some(((end <= window_end).then_some(window), own))
    }

    /// The window on the grid that this place of a cold segment lies in.
    fn window_at(&self, position: Position) -> Option<Extent> {
        let serial = self.geometry.serial(position);
        let window_bytes = self.options.cold_window_bytes as usize;
        let start = round_down(self.geometry.offset(position), window_bytes);
        let end = (start + window_bytes).min(self.segment_end(serial)?);
        Some((self.geometry.position(serial, start), end.checked_sub(start)? as u32))
    }

    /// Puts blocks together that lie in several windows, where all of these are here.
    fn join(&mut self, extent: Extent) -> bool {
        let (position, length) = extent;
        let mut bytes = Vec::with_capacity(length as usize);
        while bytes.len() < length as usize {
            let at = Position(position.0 + bytes.len() as u64);
            let Some(window) = self.window_at(at) else { return false };
            let Some(Found::Here(found)) = self.windows.look_again(window) else { return false };
            let start = (at.0 - window.0.0) as usize;
            let stop = found.len().min(start + length as usize - bytes.len());
            bytes.extend_from_slice(&found[start..stop]);
        }
        self.windows.put(extent, bytes);
        true
    }

    /// Where a cold segment ends; `None` where it has no file to read.
    pub(super) fn segment_end(&self, serial: u64) -> Option<usize> {
        let index = serial.checked_sub(self.first_serial)?;
        let segment = self.segments.get(index as usize)?;
        segment.file.map(|_| segment.end)
    }

    fn ask(&mut self, extent: Extent, is_ahead: bool) {
        let (position, length) = extent;
        let index = (self.geometry.serial(position) - self.first_serial) as usize;
        let file = self.segments[index].file.expect("a cold segment has a file");
        let offset = self.geometry.offset(position) as u64;
        self.windows.ask(extent, JournalRead { file, offset, length }, is_ahead);
    }

    /// Reads the windows behind this one too, while little else waits.
    fn read_ahead(&mut self, window: Extent, count: usize) {
        let mut last = window;
        for _ in 0..count {
            let Some(next) = self.window_behind(last) else { return };
            if !self.windows.has(next) {
                if self.windows.queue.len() >= READ_AHEAD_BELOW {
                    return;
                }
                self.ask(next, true);
            }
            last = next;
        }
    }

    /// The window that follows this one, where it has left memory: in its segment, or at the beginning of
    /// the next one that was filled.
    fn window_behind(&self, (position, length): Extent) -> Option<Extent> {
        let mut serial = self.geometry.serial(position);
        let mut start = self.geometry.offset(position) + length as usize;
        if start >= self.segment_end(serial)? {
            serial = (serial + 1..=self.tail_serial()).find(|serial| !self.is_vacant(*serial))?;
            start = 0;
        }
        let index = (serial - self.first_serial) as usize;
        if self.segments[index].memory.is_some() {
            return None;
        }
        self.window_at(self.geometry.position(serial, start))
    }

    fn is_vacant(&self, serial: u64) -> bool {
        self.segments[(serial - self.first_serial) as usize].is_vacant
    }
}

/// Checks a record that was read back (rule 15).
fn check<F: Flaws>(position: Position, length: u32, extent: Extent, bytes: &[u8]) -> ColdRecord<'_> {
    let start = (position.0 - extent.0.0) as usize;
    let Some(record) = bytes.get(start..start + length as usize) else { return ColdRecord::Damaged };
    let checked = if F::has(Flaw::ServeBodiesUnchecked) {
        RawRecord::parse(record)
    } else {
        verify(position, record, length)
    };
    if checked.is_ok() { ColdRecord::Here(record) } else { ColdRecord::Damaged }
}
