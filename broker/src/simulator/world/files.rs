//! The world's disk, as the shard uses it while it runs.

use std::io;
use std::ops::Range;

use crate::shard::driver::{FileNumber, JournalRead, JournalWrite};

use super::{Happening, ShardEvent, World};
use crate::simulator::disk::{BLOCK_BYTES, Operation};
use crate::simulator::plan::MS;

/// The disk, as the shard uses it.
impl World {
    /// The shard starts a write.
    pub fn journal_write(&mut self, shard: u16, write: JournalWrite) {
        if !self.step() {
            return;
        }
        let bytes = write.bytes.as_ref().to_vec();
        self.note("write", &[u64::from(write.file.0), write.offset, bytes.len() as u64]);
        self.check_aligned(write.offset, bytes.len() as u64);
        if self.places[usize::from(shard)].write_under_way.is_some() {
            self.violation("the shard began a journal write while one was under way".into());
            return;
        }
        let end = write.offset + bytes.len() as u64;
        if !self.places[usize::from(shard)].disk.can_write(write.file, end) {
            self.violation("the shard wrote where a file was being filled with zeros".into());
        }
        self.overwrites(shard, write.file, write.offset, bytes.len() as u64);
        let operation =
            Operation::Write { file: write.file, offset: write.offset, bytes, durable: write.durable };
        let serial = self.begin_on_disk(shard, operation);
        self.places[usize::from(shard)].write_under_way = Some((serial, write.bytes));
    }

    /// Rot where something new is written is gone. The file is the log's newest from here on, whether the
    /// shard or a start writes: nothing vouches yet for what stands in it.
    pub fn overwrites(&mut self, shard: u16, file: FileNumber, offset: u64, length: u64) {
        self.places[usize::from(shard)].last_written.retain(|newest| *newest != file);
        self.places[usize::from(shard)].last_written.insert(0, file);
        self.places[usize::from(shard)].last_written.truncate(4);
        self.places[usize::from(shard)]
            .rot
            .retain(|(rotten, at, _)| *rotten != file || !(offset..offset + length).contains(at));
    }

    /// The shard starts a sync.
    pub fn journal_sync(&mut self, shard: u16, file: FileNumber) {
        if !self.step() {
            return;
        }
        self.note("sync", &[u64::from(file.0)]);
        if std::mem::replace(&mut self.places[usize::from(shard)].sync_under_way, true) {
            self.violation("the shard began a sync while one was under way".into());
            return;
        }
        self.begin_on_disk(shard, Operation::Sync { file });
    }

    /// The shard starts a read.
    pub fn journal_read(&mut self, shard: u16, read: JournalRead) {
        if self.step() {
            self.note("want", &[u64::from(read.file.0), read.offset, u64::from(read.length)]);
            self.check_aligned(read.offset, u64::from(read.length));
            self.begin_on_disk(shard, Operation::Read(read));
        }
    }

    /// The shard wants a file.
    pub fn prepare_segment(&mut self, shard: u16, file: FileNumber, length: u64) {
        if self.step() {
            self.note("prepare", &[u64::from(file.0), length]);
            self.begin_on_disk(shard, Operation::Prepare { file, length });
        }
    }

    /// The shard wants a file gone.
    pub fn remove_segment(&mut self, shard: u16, file: FileNumber) {
        if self.step() {
            self.note("remove", &[u64::from(file.0)]);
            self.begin_on_disk(shard, Operation::Remove { file });
        }
    }

    fn check_aligned(&mut self, offset: u64, length: u64) {
        let block = BLOCK_BYTES as u64;
        if !offset.is_multiple_of(block) || !length.is_multiple_of(block) || length == 0 {
            self.violation(format!("{length} bytes at {offset} are not whole blocks"));
        }
    }

    fn begin_on_disk(&mut self, shard: u16, operation: Operation) -> u64 {
        let faults = &self.plan.faults;
        let (slow, slow_ns_max) = (faults.slow_operations, faults.slow_ns_max.max(5 * MS));
        let takes_ns = if slow > 0 && self.random.chance(1, slow) {
            self.random.between(self.plan.disk_ns, slow_ns_max.max(self.plan.disk_ns))
        } else {
            self.random.between(self.plan.disk_ns / 2, self.plan.disk_ns * 2)
        };
        let serial = self.places[usize::from(shard)].disk.begin(operation);
        self.schedule(takes_ns, Happening::DiskEnds(shard, serial));
        serial
    }

    /// Whether a read fails: once, so that trying again must help, or for ever.
    fn read_fails(&mut self, shard: u16, serial: u64) -> bool {
        let fails = self.plan.faults.failed_reads;
        let Some(read) = self.places[usize::from(shard)].disk.read_under_way(serial) else { return false };
        if fails == 0 || !self.random.chance(1, fails) {
            return false;
        }
        let (file, range) = (read.file, read.offset..read.offset + u64::from(read.length));
        let overlaps = |(of, other): &(FileNumber, Range<u64>)| {
            *of == file && other.start < range.end && range.start < other.end
        };
        if self.places[usize::from(shard)].failed_reads.iter().any(overlaps) {
            return false;
        }
        self.note("read_fails", &[u64::from(file.0), range.start, range.end]);
        let lost = self.plan.faults.lost_places;
        if lost > 0 && self.random.chance(1, lost) {
            let offset = self.random.between(range.start, range.end - 1);
            self.note("place_lost", &[u64::from(file.0), offset]);
            self.places[usize::from(shard)].disk.lose_place(file, offset);
            self.checker.rot_fell();
        }
        self.places[usize::from(shard)].failed_reads.push((file, range));
        true
    }

    pub(super) fn disk_ends(&mut self, shard: u16, serial: u64) {
        let fails = self.plan.faults.failed_writes;
        let write_fails = fails > 0
            && self.places[usize::from(shard)].disk.may_fail(serial)
            && self.random.chance(1, fails);
        let failure = (write_fails || self.read_fails(shard, serial)).then_some(io::ErrorKind::Other);
        let oldest_unsynced_ns = self.places[usize::from(shard)].disk.oldest_unsynced_ns();
        let (operation, result) =
            self.places[usize::from(shard)].disk.finish(serial, self.now_ns, failure, &mut self.random);
        self.note("disk", &[serial, u64::from(result.is_ok())]);
        let done = result.as_ref().map(|_| ()).map_err(|error| error.kind().into());
        let event = match operation {
            Operation::Write { bytes, .. } => {
                let (_, sealed) =
                    self.places[usize::from(shard)].write_under_way.take().expect("it was begun");
                if sealed.as_ref() != bytes {
                    self.violation("bytes changed while the disk was writing them".into());
                }
                ShardEvent::Written(done)
            }
            Operation::Sync { .. } => {
                self.places[usize::from(shard)].sync_under_way = false;
                if done.is_err() {
                    // What the kernel could not write it forgets, as a power cut would; two shards may meet it.
                    let since_ns = [self.lost_since_ns, oldest_unsynced_ns];
                    self.lost_since_ns = since_ns.into_iter().flatten().min();
                }
                ShardEvent::Synced(done)
            }
            Operation::Read(read) => ShardEvent::Read(read, result),
            Operation::Prepare { file, .. } => ShardEvent::Prepared(file, done),
            Operation::Remove { file } => ShardEvent::Removed(file, done),
        };
        self.places[usize::from(shard)].inbox.push_back(event);
    }
}
