//! What the log asks for between requests: its next write, files for its segments, reads of cold
//! bodies, memory that is going to be used, and cleaning its oldest segment.

use std::ops::Range;

use super::driver::Driver;
use super::{Core, limits};
use crate::flaws::Flaws;
use crate::journal::{Cleaning, Position};

/// Where the log's upkeep stands.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Whether cleaning has more to do now.
    pub(super) has_more: bool,
    /// Positions whose queues are being carried, and the place in their table to go on at.
    carrying: Option<(Range<Position>, u32)>,
    /// Bytes that cleaning has appended since the start.
    pub(super) copied_bytes: u64,
    /// The log's end and the time when it was last seen to move.
    last_end: Position,
    moved_ms: u64,
    marked: bool,
    sync_due_ms: Option<u64>,
    /// Chunks of tables that are being made.
    chunks_asked: u32,
}

impl Upkeep {
    pub(super) fn next_deadline_ms(&self) -> u64 {
        let mark_ms = if self.marked { u64::MAX } else { self.moved_ms + limits::IDLE_MARK_AFTER_MS };
        mark_ms.min(self.sync_due_ms.unwrap_or(u64::MAX))
    }
}

impl<F: Flaws> Core<F> {
    /// Starts what the log wants of the disk.
    pub(super) fn feed_journal<D: Driver>(&mut self, driver: &mut D) {
        self.mark_idle();
        while let Some(write) = self.log.next_write() {
            driver.journal_write(write);
        }
        let now_ms = self.now_ms();
        while let Some(file) = self.log.next_sync(now_ms) {
            driver.journal_sync(file);
        }
        self.upkeep.sync_due_ms = self.log.sync_due_ms();
        while let Some(read) = self.log.next_read() {
            driver.journal_read(read);
        }
        while let Some(page) = self.log.wants_page() {
            driver.make_page(page);
        }
        if self.upkeep.chunks_asked > 0
            && let Some(chunk) = driver.take_chunk()
        {
            self.upkeep.chunks_asked -= 1;
            self.engine.chunk_made(chunk);
        }
        if let Some(wanted) = self.engine.wants_chunk() {
            self.upkeep.chunks_asked += 1;
            driver.make_chunk(wanted);
        }
        if let Some((file, from, length)) = self.log.wants_finishing() {
            driver.finish_segment(file, from, length);
        }
        while let Some((file, length)) = self.log.wants_segment() {
            driver.prepare_segment(file, length);
        }
        while let Some(file) = self.log.wants_removal() {
            driver.remove_segment(file);
        }
    }

    /// Looks through a bounded part of the oldest segment and carries what is live to the tail.
    pub(super) fn clean(&mut self) {
        let now_ms = self.now_ms();
        let before = self.log.appended_bytes();
        if let Some((old, from)) = self.upkeep.carrying.take() {
            let count_max = limits::QUEUES_A_TURN;
            let next = self.engine.carry_queues(now_ms, &old, from, count_max, &mut self.log);
            self.upkeep.carrying = next.map(|next| (old, next));
            self.upkeep.copied_bytes += self.log.appended_bytes().saturating_sub(before);
            self.upkeep.has_more = true;
            return;
        }
        self.upkeep.has_more = match self.log.cleaning_chunk(limits::CLEANING_BYTES_A_TURN) {
            Cleaning::Idle => self.rescue(),
            Cleaning::Waiting => false,
            Cleaning::Begins(old) => {
                self.engine.carry_definitions(now_ms, &old, &mut self.log);
                self.upkeep.carrying = Some((old, 0));
                true
            }
            Cleaning::Records(records) => {
                for record in &records {
                    self.engine.carry(now_ms, record.position, record.raw(), &mut self.log);
                }
                self.log.cleaned(records);
                true
            }
        };
        self.upkeep.has_more |= self.log.has_more_to_let_go();
        self.upkeep.copied_bytes += self.log.appended_bytes().saturating_sub(before);
    }

    /// Goes on with what cleaning could not find, if there is anything (rule 15). Says whether there is
    /// more to do.
    fn rescue(&mut self) -> bool {
        let Some(lost) = self.log.lost_positions() else { return false };
        let now_ms = self.now_ms();
        if !self.engine.rescue(now_ms, &lost, limits::RESCUED_SLOTS_A_TURN, &mut self.log) {
            return true;
        }
        self.found_damage = true;
        false
    }

    fn mark_idle(&mut self) {
        let now_ms = self.now_ms();
        let end = self.log.end();
        if end != self.upkeep.last_end {
            self.upkeep.last_end = end;
            self.upkeep.moved_ms = now_ms;
            self.upkeep.marked = false;
        } else if !self.upkeep.marked && now_ms >= self.upkeep.moved_ms + limits::IDLE_MARK_AFTER_MS {
            self.log.idle_mark(now_ms);
            self.upkeep.last_end = self.log.end();
            self.upkeep.marked = true;
        }
    }
}
