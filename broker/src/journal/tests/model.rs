//! A small user of the log, with a model of what must be in it: messages that are sent, copied by
//! cleaning, and deleted, each by a record that says so.

use std::collections::BTreeMap;
use std::io;

use super::disk::{Disk, Random};
use crate::flaws::Flaws;
use crate::journal::{
    Cleaning, ColdRecord, Damage, Durability, Log, LogOptions, OpenError, PREFIX_BYTES, Position, RawRecord,
    RecoveryReport, SEGMENT_BYTES_MIN,
};
use crate::shard::driver::{JournalRead, JournalWrite};

const SENT: u8 = 5;
const COPIED: u8 = 6;
const TOUCHED: u8 = 7;
const DELETED: u8 = 9;
/// Number and message; a copy says more, as one of a real message does.
fn fixed_bytes(kind: u8) -> usize {
    if kind == COPIED { 16 + 24 } else { 16 }
}

/// One record as the model knows it: what it says about which message, and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    kind: u8,
    number: u64,
    message: u64,
    body: usize,
}

pub(super) fn options(durability: Durability) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        growth_factor: 2,
        growth_base_bytes: 256 << 10,
        hot_bytes_max: 192 << 10,
        cold_window_bytes: 16 << 10,
        cold_bytes_max: 64 << 10,
        unwritten_bytes_max: 256 << 10,
        ..LogOptions::new(durability, [7; 16], 0)
    }
}

pub(super) struct World<F: Flaws> {
    pub(super) disk: Disk,
    pub(super) options: LogOptions,
    pub(super) log: Log<F>,
    pub(super) random: Random,
    /// Everything said so far in the one line of history that counts.
    pub(super) history: Vec<(Said, Position)>,
    pub(super) live: BTreeMap<u64, (Position, u32)>,
    pub(super) now_ms: u64,
    next_message: u64,
    write: Option<JournalWrite>,
    syncing: bool,
    reads: Vec<JournalRead>,
    pub(super) report: RecoveryReport,
    pub(super) copied: u64,
    /// How much of the oldest segment is cleaned in a turn.
    pub(super) slice_bytes: u32,
    /// So many reads fail from now on.
    pub(super) failing_reads: u32,
    /// How often a record had to be waited for.
    pub(super) waits: u64,
}

impl<F: Flaws> World<F> {
    pub(super) fn new(options: LogOptions, seed: u64) -> Self {
        let mut disk = Disk::default();
        let (log, report) = open(&mut disk, &options, &mut |_, _| Ok(())).expect("an empty folder opens");
        World {
            disk,
            options,
            log,
            random: Random::new(seed),
            history: Vec::new(),
            live: BTreeMap::new(),
            now_ms: 1_000,
            next_message: 1,
            write: None,
            syncing: false,
            reads: Vec::new(),
            report,
            copied: 0,
            slice_bytes: 8 << 10,
            failing_reads: 0,
            waits: 0,
        }
    }

    fn say(&mut self, kind: u8, message: u64, body: usize) -> (Position, u32) {
        let number = self.history.len() as u64;
        let said = Said { kind, number, message, body };
        let position = self.log.append(self.now_ms, kind, fixed_bytes(kind), body, kind < TOUCHED, |out| {
            out[..8].copy_from_slice(&number.to_le_bytes());
            out[8..16].copy_from_slice(&message.to_le_bytes());
            out[16..].fill(message as u8);
        });
        self.history.push((said, position));
        (position, (PREFIX_BYTES + fixed_bytes(kind) + body) as u32)
    }

    pub(super) fn send(&mut self, body: usize) -> u64 {
        let message = self.next_message;
        self.next_message += 1;
        let (position, length) = self.say(SENT, message, body);
        self.log.live(position, length);
        self.live.insert(message, (position, length));
        message
    }

    pub(super) fn delete(&mut self, message: u64) {
        let (position, length) = self.live.remove(&message).expect("only live messages are deleted");
        self.say(DELETED, message, 8);
        self.log.release(position, length);
    }

    /// Writes a record that is garbage at once, as a delivery is.
    pub(super) fn touch(&mut self, message: u64) {
        self.say(TOUCHED, message, 24);
    }

    /// What a shard does at the end of a turn, each step by chance.
    pub(super) fn turn(&mut self, haste: u64) {
        self.now_ms += self.random.below(30);
        self.clean();
        if self.write.is_none()
            && let Some(write) = self.log.next_write()
        {
            assert_eq!(write.offset as usize % crate::journal::BLOCK_BYTES, 0);
            self.disk.start_write(write.file, write.offset, write.bytes.as_ref());
            self.write = Some(write);
        }
        if let Some(file) = self.log.next_sync(self.now_ms) {
            assert!(!self.syncing);
            self.disk.sync(file);
            self.syncing = true;
        }
        while let Some(read) = self.log.next_read() {
            self.reads.push(read);
        }
        if let Some((file, length)) = self.log.wants_segment() {
            let result = crate::journal::storage::Storage::prepare(&mut self.disk, file, length);
            self.log.segment_prepared(file, result);
        }
        if let Some(file) = self.log.wants_removal() {
            self.disk.files.remove(&file.0);
            self.log.removed(file, Ok(()));
        }
        if self.random.one_in(haste) {
            self.end_io();
        }
    }

    fn end_io(&mut self) {
        if let Some(write) = self.write.take() {
            if write.durable {
                self.disk.sync(write.file);
            }
            self.log.written();
        }
        if std::mem::take(&mut self.syncing) {
            self.log.synced();
        }
        for read in std::mem::take(&mut self.reads) {
            let mut bytes = vec![0; read.length as usize];
            let result =
                crate::journal::storage::Storage::read(&mut self.disk, read.file, read.offset, &mut bytes);
            let fails = self.failing_reads > 0;
            self.failing_reads -= u32::from(fails);
            let result = if fails { Err(io::ErrorKind::Other.into()) } else { result.map(|()| bytes) };
            self.log.read_done(read, result);
        }
    }

    fn clean(&mut self) {
        if let Cleaning::Records(records) = self.log.cleaning_chunk(self.slice_bytes) {
            for record in &records {
                let raw = record.raw();
                let message = u64::from_le_bytes(raw.fixed[8..16].try_into().unwrap());
                let is_live =
                    self.live.get(&message).is_some_and(|(position, _)| *position == record.position);
                if is_live && raw.kind < TOUCHED {
                    let (position, length) = self.say(COPIED, message, raw.variable.len());
                    self.log.live(position, length);
                    self.log.release(record.position, raw.length);
                    self.live.insert(message, (position, length));
                    self.copied += 1;
                }
            }
            self.log.cleaned(records);
        }
    }

    /// Turns until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.turn(1);
            self.now_ms += 100;
            self.log.idle_mark(self.now_ms);
            if self.log.is_settled() && self.log.committed() >= self.log.end() {
                return;
            }
        }
        panic!("the log does not come to rest: {} unwritten", self.log.end().0 - self.log.committed().0);
    }

    /// Reads a message's record as a receive would.
    pub(super) fn fetch(&mut self, message: u64) -> Result<Vec<u8>, ()> {
        let (position, length) = self.live[&message];
        for _ in 0..100 {
            match self.log.cold_record(position, length) {
                ColdRecord::Here(bytes) => return Ok(bytes.to_vec()),
                ColdRecord::Damaged => return Err(()),
                ColdRecord::Reading => {
                    self.waits += 1;
                    while let Some(read) = self.log.next_read() {
                        self.reads.push(read);
                    }
                    self.end_io();
                }
            }
        }
        panic!("a read is waited for forever");
    }

    /// The process or the power fails, the log is opened again, and what is there must be what was
    /// promised. An error is what opening said.
    pub(super) fn restart(&mut self, power_fails: bool) -> Result<(), OpenError> {
        let committed = self.log.committed();
        let was_promised = |position: &Position| {
            *position < committed && (!power_fails || self.options.durability == Durability::Fsync)
        };
        let promised = self.history.iter().filter(|(_, position)| was_promised(position)).count();
        self.write = None;
        self.syncing = false;
        self.reads.clear();
        if power_fails {
            self.disk.crash(&mut self.random);
        } else {
            self.disk.sync_everything();
        }
        let mut found = Vec::new();
        let (log, report) = open(&mut self.disk, &self.options, &mut |position, raw| {
            found.push((read_said(&raw)?, position));
            Ok(())
        })?;
        self.log = log;
        self.report = report;
        self.compare(&found, promised);
        Ok(())
    }

    fn compare(&mut self, found: &[(Said, Position)], promised: usize) {
        // Where nothing was live any more even the last record's segment may be gone.
        let is_empty_after = |count: &usize| state_of(&self.history[..*count]).is_empty();
        let kept = match found.last() {
            Some((said, _)) => said.number as usize + 1,
            None => (promised..=self.history.len()).find(is_empty_after).expect("nothing live is lost"),
        };
        assert!(kept >= promised, "{promised} records were promised, {kept} are there");
        self.history.truncate(kept);
        assert_eq!(found, &self.history[kept - found.len()..], "recovered records are the newest, in order");
        let (all, some) = (state_of(&self.history), state_of(found));
        assert_eq!(all, some, "no live message is in a segment that is gone");
        self.live = some;
        for (position, length) in self.live.values() {
            self.log.live(*position, *length);
        }
        self.next_message = self.next_message.max(1);
    }
}

fn read_said(raw: &RawRecord<'_>) -> Result<Said, Damage> {
    let number =
        |at: usize| raw.fixed.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let (Some(number), Some(message)) = (number(0), number(8)) else { return Err(Damage::new("too short")) };
    if raw.variable.iter().any(|byte| *byte != message as u8) {
        return Err(Damage::new("not the body that was sent"));
    }
    Ok(Said { kind: raw.kind, number, message, body: raw.variable.len() })
}

/// Which messages there are after these records, and where.
fn state_of(history: &[(Said, Position)]) -> BTreeMap<u64, (Position, u32)> {
    let mut state = BTreeMap::new();
    for (said, position) in history {
        let length = (PREFIX_BYTES + fixed_bytes(said.kind) + said.body) as u32;
        match said.kind {
            TOUCHED => None,
            DELETED => state.remove(&said.message),
            _ => state.insert(said.message, (*position, length)),
        };
    }
    state
}

pub(super) fn open<F: Flaws>(
    disk: &mut Disk,
    options: &LogOptions,
    replay: &mut dyn FnMut(Position, RawRecord<'_>) -> Result<(), Damage>,
) -> Result<(Log<F>, RecoveryReport), OpenError> {
    Log::open(disk, options.clone(), &mut |_| {}, replay)
}
