//! A disk that keeps only what it promised: what was synced.
//!
//! Each file has two contents: what a reader sees now, and what a power cut would leave. A write
//! under way may, when the world ends, have reached the disk in whole, in part, or not at all, its
//! blocks in any order, a block torn between sectors; so may one that the kernel took and nobody
//! synced. A write or sync that fails leaves any of these behind as well, and is never tried again
//! by itself.

use std::collections::BTreeMap;
use std::io;

use crate::shard::driver::{FileNumber, JournalRead};

use super::random::Random;

/// The unit in which the log is written, and in which the disk reorders.
pub const BLOCK_BYTES: usize = 4096;

/// The unit that the disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// How a run of the broker ends without its consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what the kernel took stays.
    Kill,
    /// The machine loses power: what was not synced may be gone.
    PowerCut,
}

/// What the disk is asked to do.
#[derive(Debug)]
pub enum Operation {
    /// Write bytes, durably or only to the kernel.
    Write {
        /// The file to write to.
        file: FileNumber,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
        /// Whether its end means that the bytes are on disk.
        durable: bool,
    },
    /// Make durable what the kernel took for a file before this was asked.
    Sync {
        /// The file.
        file: FileNumber,
    },
    /// Read what a reader sees when the operation ends.
    Read(JournalRead),
    /// Make a file of zeros, unless there is one of this length.
    Prepare {
        /// The file.
        file: FileNumber,
        /// Its length.
        length: u64,
    },
    /// Remove a file.
    Remove {
        /// The file.
        file: FileNumber,
    },
}

/// A write that the kernel took and that no sync has covered.
#[derive(Debug)]
struct Unsynced {
    taken_at_ns: u64,
    /// Numbers the writes in the order in which the kernel took them.
    serial: u64,
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Debug)]
struct UnderWay {
    operation: Operation,
    /// Of writes taken by the kernel, those up to here came before.
    taken_before: u64,
}

/// The files of one shard's folder.
#[derive(Debug)]
pub struct Disk {
    files: BTreeMap<FileNumber, File>,
    under_way: BTreeMap<u64, UnderWay>,
    next_serial: u64,
    taken: u64,
    capacity_bytes: u64,
    /// Bytes that cannot be read, until they are written again.
    unreadable: Vec<(FileNumber, u64)>,
    /// Bytes that have rotted at some time.
    rotted: Vec<(FileNumber, u64)>,
    /// Files that are being filled with zeros, and from where on.
    begun: BTreeMap<FileNumber, u64>,
}

impl Disk {
    /// An empty disk that files may fill up to `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            under_way: BTreeMap::new(),
            next_serial: 0,
            taken: 0,
            capacity_bytes,
            unreadable: Vec::new(),
            rotted: Vec::new(),
            begun: BTreeMap::new(),
        }
    }

    /// A file that is there is fit to be written to up to `written` only, until it has been prepared.
    pub fn begin_file(&mut self, file: FileNumber, written: u64) {
        self.begun.insert(file, written);
    }

    /// Whether a file is fit to be written to up to `end`.
    pub fn can_write(&self, file: FileNumber, end: u64) -> bool {
        self.begun.get(&file).is_none_or(|written| end <= *written)
    }

    /// Changes how much there is room for; files that are there stay.
    pub fn set_capacity(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = capacity_bytes;
    }

    /// Whether it can be full.
    pub fn is_limited(&self) -> bool {
        self.capacity_bytes < u64::MAX
    }

    /// How much the files take.
    pub fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.seen.len() as u64).sum()
    }

    /// The files there are, with their lengths.
    pub fn segments(&self) -> Vec<(FileNumber, u64)> {
        self.files.iter().map(|(number, file)| (*number, file.seen.len() as u64)).collect()
    }

    /// When the oldest write was taken that a power cut could still undo.
    pub fn oldest_unsynced_ns(&self) -> Option<u64> {
        let writes = self.files.values().flat_map(|file| &file.unsynced);
        writes.map(|write| write.taken_at_ns).min()
    }

    /// Whether an operation is under way that writes to `file`.
    pub fn is_being_written(&self, file: FileNumber) -> bool {
        self.under_way.values().any(|under_way| {
            matches!(under_way.operation, Operation::Write { file: written, .. } if written == file)
        })
    }

    /// Whether nothing is under way or waiting to be synced.
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.files.values().all(|file| file.unsynced.is_empty())
    }

    /// Whether an operation under way is one that a bad disk fails: a write or a sync.
    pub fn may_fail(&self, serial: u64) -> bool {
        let operation = self.under_way.get(&serial).map(|under_way| &under_way.operation);
        matches!(operation, Some(Operation::Write { .. } | Operation::Sync { .. }))
    }

    /// The read that an operation under way is, if it is one.
    pub fn read_under_way(&self, serial: u64) -> Option<JournalRead> {
        match self.under_way.get(&serial)?.operation {
            Operation::Read(read) => Some(read),
            _ => None,
        }
    }

    /// Begins an operation; [`Disk::finish`] with the number that is returned ends it.
    pub fn begin(&mut self, operation: Operation) -> u64 {
        self.next_serial += 1;
        let under_way = UnderWay { operation, taken_before: self.taken };
        self.under_way.insert(self.next_serial, under_way);
        self.next_serial
    }

    /// Ends an operation, well or with an error, and says which it was, with what was read.
    pub fn finish(
        &mut self,
        serial: u64,
        now_ns: u64,
        failure: Option<io::ErrorKind>,
        random: &mut Random,
    ) -> (Operation, io::Result<Vec<u8>>) {
        let under_way = self.under_way.remove(&serial).expect("the world ends an operation once");
        if let Some(kind) = failure {
            self.abandon(&under_way, random);
            return (under_way.operation, Err(kind.into()));
        }
        let result = self.carry_out(&under_way, now_ns);
        (under_way.operation, result)
    }

    /// The end of the world as the broker knew it: settles what was under way and, without power,
    /// what was not synced. Says whether a write was under way that did not reach the disk whole.
    pub fn crash(&mut self, crash: Crash, random: &mut Random) -> bool {
        let mut is_torn = false;
        self.begun.clear();
        for under_way in std::mem::take(&mut self.under_way).into_values() {
            // A sync that nobody waits for any more changes nothing of what the kernel has.
            if !matches!(under_way.operation, Operation::Sync { .. }) {
                self.abandon(&under_way, random);
            }
            is_torn |= self.is_torn(&under_way.operation);
        }
        if crash == Crash::Kill {
            return is_torn;
        }
        for file in self.files.values_mut() {
            for write in std::mem::take(&mut file.unsynced) {
                write_in_part(&mut file.durable, write.offset, &write.bytes, random);
            }
            file.seen.clone_from(&file.durable);
        }
        is_torn
    }

    fn is_torn(&self, operation: &Operation) -> bool {
        let Operation::Write { file: number, offset, bytes, .. } = operation else { return false };
        let Some(file) = self.files.get(number) else { return true };
        // What fills up the last block is zeros, and of no matter.
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // One that rotted may lie where nothing but zeros does and nobody looks, as behind a segment's header.
        let is_as_written = |(at, byte): (u64, &u8)| {
            file.durable[at as usize] == *byte || self.rotted.contains(&(*number, at))
        };
        !(*offset..).zip(&bytes[..length]).all(is_as_written)
    }

    /// Makes everything durable that the kernel took.
    pub fn sync_all(&mut self) {
        for file in self.files.values_mut() {
            file.unsynced.clear();
            file.durable.clone_from(&file.seen);
        }
    }

    /// Reads what a reader sees.
    pub fn read(&self, number: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.files.get(&number).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = file.seen.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.unreadable.iter().any(|(of, at)| *of == number && (offset..end as u64).contains(at)) {
            return Err(io::ErrorKind::Other.into());
        }
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    /// From now on nothing that covers this byte can be read.
    pub fn lose_place(&mut self, file: FileNumber, offset: u64) {
        self.unreadable.push((file, offset));
    }

    /// Whether there is something that cannot be read.
    pub fn has_lost_places(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Makes everything readable again, as an operator does from a copy.
    pub fn restore_places(&mut self) {
        self.unreadable.clear();
    }

    /// Flips bits of the byte at `offset`, as a disk that rots does.
    pub fn rot(&mut self, file: FileNumber, offset: u64, bits: u8) {
        self.rotted.push((file, offset));
        let file = self.files.get_mut(&file).expect("rot falls on a file that is there");
        file.seen[offset as usize] ^= bits;
        file.durable[offset as usize] ^= bits;
    }

    fn carry_out(&mut self, under_way: &UnderWay, now_ns: u64) -> io::Result<Vec<u8>> {
        match &under_way.operation {
            Operation::Write { file, offset, bytes, durable } => {
                self.taken += 1;
                let serial = self.taken;
                let end = offset + bytes.len() as u64;
                self.unreadable.retain(|(of, at)| of != file || !(*offset..end).contains(at));
                let file = self.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
                let range = range_in(&file.seen, *offset, bytes.len())?;
                file.seen[range.clone()].copy_from_slice(bytes);
                if *durable {
                    file.durable[range].copy_from_slice(bytes);
                } else {
                    let (offset, bytes) = (*offset, bytes.clone());
                    file.unsynced.push(Unsynced { taken_at_ns: now_ns, serial, offset, bytes });
                }
            }
            Operation::Sync { file } => {
                let file = self.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
                for write in file.unsynced.extract_if(.., |write| write.serial <= under_way.taken_before) {
                    let range = range_in(&file.durable, write.offset, write.bytes.len())?;
                    file.durable[range].copy_from_slice(&write.bytes);
                }
            }
            Operation::Read(read) => {
                let mut bytes = vec![0; read.length as usize];
                self.read(read.file, read.offset, &mut bytes)?;
                return Ok(bytes);
            }
            Operation::Prepare { file, length } => {
                self.begun.remove(file);
                self.prepare(*file, *length)?;
            }
            Operation::Remove { file } => {
                self.unreadable.retain(|(of, _)| of != file);
                self.files.remove(file).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(Vec::new())
    }

    /// Makes a file of zeros, durable with its name, where there is room.
    pub fn prepare(&mut self, number: FileNumber, length: u64) -> io::Result<()> {
        let there = self.files.get(&number).map_or(0, |file| file.seen.len() as u64);
        if self.files.contains_key(&number) && there == length {
            return Ok(());
        }
        if self.used_bytes() - there + length > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; length as usize];
        self.files.insert(number, File { seen: zeros.clone(), durable: zeros, unsynced: Vec::new() });
        Ok(())
    }

    /// Writes bytes durably at once, as recovery does.
    pub fn write_now(&mut self, number: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let range = range_in(&file.seen, offset, bytes.len())?;
        file.seen[range.clone()].copy_from_slice(bytes);
        file.durable[range].copy_from_slice(bytes);
        Ok(())
    }

    /// Leaves behind what an operation may have done before it failed or the world ended.
    fn abandon(&mut self, under_way: &UnderWay, random: &mut Random) {
        match &under_way.operation {
            Operation::Write { file, offset, bytes, .. } => {
                if let Some(file) = self.files.get_mut(file) {
                    write_in_part(&mut file.durable, *offset, bytes, random);
                    let range = *offset as usize..*offset as usize + bytes.len();
                    file.seen[range.clone()].copy_from_slice(&file.durable[range]);
                }
            }
            // Pages that could not be written are dropped: a reader sees what the disk has.
            Operation::Sync { file } => {
                if let Some(file) = self.files.get_mut(file) {
                    for write in std::mem::take(&mut file.unsynced) {
                        write_in_part(&mut file.durable, write.offset, &write.bytes, random);
                    }
                    file.seen.clone_from(&file.durable);
                }
            }
            Operation::Read(_) => {}
            Operation::Prepare { file, length } => {
                self.begun.remove(file);
                // It gets its name when it is whole.
                if random.chance(1, 2) && !self.files.contains_key(file) {
                    let _ = self.prepare(*file, *length);
                }
            }
            Operation::Remove { file } => {
                if random.chance(1, 2) {
                    self.files.remove(file);
                }
            }
        }
    }
}

fn range_in(content: &[u8], offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = offset as usize;
    let end = start.checked_add(length).filter(|end| *end <= content.len());
    Ok(start..end.ok_or(io::ErrorKind::UnexpectedEof)?)
}

/// Writes some of the blocks, in one of the ways in which disks are known to fail: none, all, the
/// first ones, all but one, or any; and at times tears a block between two sectors.
fn write_in_part(content: &mut [u8], offset: u64, bytes: &[u8], random: &mut Random) {
    let blocks = bytes.len().div_ceil(BLOCK_BYTES);
    let way = random.below(5);
    let chosen = random.below(blocks.max(1) as u64) as usize;
    for block in 0..blocks {
        let reached = match way {
            0 => false,
            1 => true,
            2 => block < chosen,
            3 => block != chosen,
            _ => random.chance(1, 2),
        };
        let torn = random.chance(1, 8);
        let whole = BLOCK_BYTES.min(bytes.len() - block * BLOCK_BYTES);
        let sectors = if torn { random.below((whole / SECTOR_BYTES) as u64 + 1) as usize } else { 0 };
        let (from, to) = match (reached, torn) {
            (true, false) => (0, whole),
            (true, true) => (0, sectors * SECTOR_BYTES),
            (false, true) => (sectors * SECTOR_BYTES, whole),
            (false, false) => continue,
        };
        let (from, to) = (block * BLOCK_BYTES + from, block * BLOCK_BYTES + to);
        content[offset as usize + from..offset as usize + to].copy_from_slice(&bytes[from..to]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileNumber = FileNumber(1);
    const LENGTH: usize = 16 * BLOCK_BYTES;

    fn disk() -> Disk {
        let mut disk = Disk::new(1 << 20);
        disk.prepare(FILE, LENGTH as u64).unwrap();
        disk
    }

    fn write(block: usize, blocks: usize, fill: u8, durable: bool) -> Operation {
        let offset = (block * BLOCK_BYTES) as u64;
        Operation::Write { file: FILE, offset, bytes: vec![fill; blocks * BLOCK_BYTES], durable }
    }

    fn finish(disk: &mut Disk, operation: Operation, random: &mut Random) {
        let serial = disk.begin(operation);
        disk.finish(serial, 0, None, random).1.unwrap();
    }

    fn content(disk: &Disk) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        disk.read(FILE, 0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let mut lost = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = disk();
            finish(&mut disk, write(0, 2, 1, true), &mut random);
            finish(&mut disk, write(2, 2, 2, false), &mut random);
            finish(&mut disk, Operation::Sync { file: FILE }, &mut random);
            finish(&mut disk, write(4, 4, 3, false), &mut random);
            disk.begin(write(8, 4, 4, true));
            disk.crash(Crash::PowerCut, &mut random);
            let content = content(&disk);
            assert!(content[..2 * BLOCK_BYTES].iter().all(|byte| *byte == 1));
            assert!(content[2 * BLOCK_BYTES..4 * BLOCK_BYTES].iter().all(|byte| *byte == 2));
            assert!(content[4 * BLOCK_BYTES..8 * BLOCK_BYTES].iter().all(|byte| [0, 3].contains(byte)));
            assert!(content[8 * BLOCK_BYTES..12 * BLOCK_BYTES].iter().all(|byte| [0, 4].contains(byte)));
            lost += usize::from(content[4 * BLOCK_BYTES..8 * BLOCK_BYTES].contains(&0));
        }
        assert!(lost > 50, "a power cut takes unsynced writes in many of the runs");
    }

    #[test]
    fn a_write_is_torn_where_what_it_says_is_missing_and_not_where_zeros_had_rotted() {
        let (mut whole, mut torn) = (0, 0);
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = disk();
            disk.rot(FILE, 1_000, 16);
            let mut bytes = vec![0; 2 * BLOCK_BYTES];
            bytes[..SECTOR_BYTES].fill(1);
            bytes[BLOCK_BYTES..].fill(2);
            disk.begin(Operation::Write { file: FILE, offset: 0, bytes, durable: true });
            let is_torn = disk.crash(Crash::PowerCut, &mut random);
            let content = content(&disk);
            let is_there = content[..SECTOR_BYTES].iter().all(|byte| *byte == 1)
                && content[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|byte| *byte == 2);
            assert_eq!(is_torn, !is_there, "seed {seed}");
            whole += usize::from(is_there && content[1_000] != 0);
            torn += usize::from(is_torn);
        }
        assert!(whole > 0 && torn > 50, "{whole} whole beside what rotted, {torn} torn");
    }

    #[test]
    fn a_sync_covers_only_what_came_before_it() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut disk = disk();
            finish(&mut disk, write(0, 1, 1, false), &mut random);
            let sync = disk.begin(Operation::Sync { file: FILE });
            finish(&mut disk, write(1, 1, 2, false), &mut random);
            disk.finish(sync, 0, None, &mut random).1.unwrap();
            disk.crash(Crash::PowerCut, &mut random);
            assert_eq!(content(&disk)[0], 1);
            lost += usize::from(content(&disk)[BLOCK_BYTES] == 0);
        }
        assert!(lost > 20);
    }

    #[test]
    fn a_kill_leaves_what_the_kernel_took_and_a_later_power_cut_may_take_it() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut disk = disk();
            finish(&mut disk, write(0, 4, 1, false), &mut random);
            disk.crash(Crash::Kill, &mut random);
            assert!(content(&disk)[..4 * BLOCK_BYTES].iter().all(|byte| *byte == 1));
            disk.crash(Crash::PowerCut, &mut random);
            lost += usize::from(content(&disk)[..4 * BLOCK_BYTES].contains(&0));
        }
        assert!(lost > 20);
    }

    #[test]
    fn a_full_disk_makes_no_file_and_keeps_those_it_has() {
        let mut random = Random::new(1);
        let mut disk = Disk::new(LENGTH as u64);
        disk.prepare(FILE, LENGTH as u64).unwrap();
        let serial = disk.begin(Operation::Prepare { file: FileNumber(2), length: LENGTH as u64 });
        let (_, result) = disk.finish(serial, 0, None, &mut random);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.segments(), [(FILE, LENGTH as u64)]);
    }
}
