//! Memory-only answers to what the shard asks of a log; replaced when files come.
#![allow(missing_docs)]

use super::storage::Storage;
use super::{Damage, Durability, Log, LogOptions, Position, RawRecord};
use crate::flaws::Flaws;
use crate::shard::driver::{FileNumber, JournalRead, JournalWrite};
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    All,
    NoSends,
    NoReceives,
}
pub enum Cleaning {
    Idle,
    Waiting,
    Records(Vec<Carried>),
}
pub struct Carried {
    pub position: Position,
    bytes: Vec<u8>,
}
impl Carried {
    pub fn raw(&self) -> RawRecord<'_> {
        RawRecord::parse(&self.bytes).expect("it was parsed before")
    }
}
pub enum ColdRecord<'a> {
    Here(&'a [u8]),
    Reading,
    Damaged,
}
#[derive(Debug)]
pub enum OpenError {
    Damage(String),
    Records(Damage),
    Write(io::Error),
}
impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
impl std::error::Error for OpenError {}
#[derive(Debug, Default, Clone)]
pub struct RecoveryReport {
    pub last_time_ms: Option<u64>,
    pub records: u64,
}
impl std::fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records", self.records)
    }
}
pub struct Progress;
impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "")
    }
}

impl<F: Flaws> Log<F> {
    pub fn open<S: Storage>(
        _s: &mut S,
        o: LogOptions,
        _p: &mut dyn FnMut(&Progress),
        _r: &mut dyn FnMut(Position, RawRecord<'_>) -> Result<(), Damage>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        Ok((Self::in_memory(LogOptions { durability: Durability::Memory, ..o }), RecoveryReport::default()))
    }
    pub fn committed(&self) -> Position {
        Position::MAX
    }
    pub fn is_settled(&self) -> bool {
        true
    }
    pub fn room(&self) -> Room {
        Room::All
    }
    pub fn is_backlogged(&self) -> bool {
        false
    }
    pub fn next_write(&mut self) -> Option<JournalWrite> {
        None
    }
    pub fn written(&mut self) {}
    pub fn next_sync(&mut self, _now_ms: u64) -> Option<FileNumber> {
        None
    }
    pub fn sync_due_ms(&self) -> Option<u64> {
        None
    }
    pub fn synced(&mut self) {}
    pub fn idle_mark(&mut self, _now_ms: u64) {}
    pub fn wants_segment(&mut self) -> Option<(FileNumber, u64)> {
        None
    }
    pub fn segment_prepared(&mut self, _f: FileNumber, _r: io::Result<()>) {}
    pub fn wants_removal(&mut self) -> Option<FileNumber> {
        None
    }
    pub fn removed(&mut self, _f: FileNumber, _r: io::Result<()>) {}
    pub fn next_read(&mut self) -> Option<JournalRead> {
        None
    }
    pub fn read_done(&mut self, _r: JournalRead, _b: io::Result<Vec<u8>>) {}
    pub fn cold_record(&mut self, position: Position, length: u32) -> ColdRecord<'_> {
        match self.bytes(position, length) {
            Some(bytes) => ColdRecord::Here(bytes),
            None => ColdRecord::Damaged,
        }
    }
    pub fn cleaning_chunk(&mut self, _b: u32) -> Cleaning {
        Cleaning::Idle
    }
    pub fn cleaned(&mut self, _r: Vec<Carried>) {}
}
