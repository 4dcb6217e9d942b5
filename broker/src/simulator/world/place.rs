//! What is a shard's own in the world: its disk, what its driver has for it, its end of the mesh, and
//! when it runs.

use std::collections::VecDeque;
use std::ops::Range;

use crate::exchange::mesh::Incoming;
use crate::journal::memory::SealedRange;
use crate::shard::driver::{ConnectionId, FileNumber};
use crate::simulator::disk::Disk;

use super::ShardEvent;

/// One shard's part of the world.
#[derive(Debug)]
pub struct Place {
    /// Its folder.
    pub disk: Disk,
    pub(super) inbox: VecDeque<ShardEvent>,
    /// What siblings have said and it has not taken.
    pub(super) parcels: VecDeque<(u16, Incoming<ConnectionId>)>,
    /// It has said that it is to be woken, and it was.
    pub(super) is_parked: bool,
    pub(super) is_woken: bool,
    /// Requests come together until then: nothing wakes it before.
    pub(super) gathers_until_ns: Option<u64>,
    /// It has nothing to do by itself before this.
    pub(super) rests_until_ns: u64,
    /// Its thread does not run before this.
    pub(super) paused_until_ns: u64,
    /// It has ended in good order.
    pub(super) has_stopped: bool,
    /// Its turns, and how many in a row did nothing.
    pub(super) turn: u64,
    pub(super) idle_turns: u64,
    /// It has been told that a write failed: nothing may leave any more (rule 3).
    pub(super) doomed: bool,
    pub(super) write_under_way: Option<(u64, SealedRange)>,
    pub(super) sync_under_way: bool,
    /// The files written to last, newest first.
    pub(super) last_written: Vec<FileNumber>,
    pub(super) last_write_is_torn: bool,
    /// Rot that fell, to be undone where it makes the log unreadable.
    pub(super) rot: Vec<(FileNumber, u64, u8)>,
    /// Reads that failed; none fails there again by chance.
    pub(super) failed_reads: Vec<(FileNumber, Range<u64>)>,
}

impl Place {
    pub(super) fn new(disk_bytes: u64) -> Self {
        Self {
            disk: Disk::new(disk_bytes),
            inbox: VecDeque::new(),
            parcels: VecDeque::new(),
            is_parked: false,
            is_woken: false,
            gathers_until_ns: None,
            rests_until_ns: 0,
            paused_until_ns: 0,
            has_stopped: false,
            turn: 0,
            idle_turns: 0,
            doomed: false,
            write_under_way: None,
            sync_under_way: false,
            last_written: Vec::new(),
            last_write_is_torn: false,
            rot: Vec::new(),
            failed_reads: Vec::new(),
        }
    }

    /// The broker is gone: what was on its way in it is too.
    pub(super) fn broker_down(&mut self) {
        self.inbox.clear();
        self.parcels.clear();
        self.is_parked = false;
        self.is_woken = false;
        self.gathers_until_ns = None;
        self.rests_until_ns = 0;
        self.paused_until_ns = 0;
        self.has_stopped = false;
        self.write_under_way = None;
        self.sync_under_way = false;
        self.doomed = false;
    }

    /// Whether it runs now, if nothing keeps it from running.
    pub(super) fn is_ready(&self, now_ns: u64) -> bool {
        let is_due = match self.gathers_until_ns {
            Some(until_ns) => until_ns <= now_ns,
            None => !self.inbox.is_empty() || self.is_woken || self.rests_until_ns <= now_ns,
        };
        !self.has_stopped && self.paused_until_ns <= now_ns && is_due
    }

    /// When it runs by itself.
    pub(super) fn wakes_at_ns(&self) -> u64 {
        let due_ns = self.gathers_until_ns.unwrap_or(self.rests_until_ns);
        if self.has_stopped { u64::MAX } else { due_ns.max(self.paused_until_ns) }
    }
}
