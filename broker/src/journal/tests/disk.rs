//! A disk in memory that loses, tears and reorders what was not synced, and can rot.

use std::collections::BTreeMap;
use std::io;

use crate::journal::BLOCK_BYTES;
use crate::journal::storage::Storage;
use crate::shard::driver::FileNumber;

/// Numbers that look random; the same seed gives the same ones.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<u32, Vec<u8>>,
    /// Writes that were not synced, in the order in which they came.
    unsynced: Vec<(FileNumber, usize, Vec<u8>)>,
    pub(super) files_max: Option<usize>,
    /// A byte of a file; whatever covers it cannot be read.
    pub(super) unreadable: Option<(u32, usize)>,
}

impl Disk {
    pub(super) fn start_write(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) {
        self.unsynced.push((file, offset as usize, bytes.to_vec()));
    }

    /// Makes durable what was written to a file.
    pub(super) fn sync(&mut self, file: FileNumber) {
        let (now, later) = std::mem::take(&mut self.unsynced).into_iter().partition(|(of, ..)| *of == file);
        self.unsynced = later;
        let now: Vec<(FileNumber, usize, Vec<u8>)> = now;
        for (file, offset, bytes) in now {
            self.put(file, offset, &bytes);
        }
    }

    /// The power fails: of what was not synced any blocks are there and any are not.
    pub(super) fn crash(&mut self, random: &mut Random) {
        for (file, offset, bytes) in std::mem::take(&mut self.unsynced) {
            let mode = random.below(3);
            for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                if mode == 0 || (mode == 1 && random.one_in(2)) {
                    self.put(file, offset + index * BLOCK_BYTES, block);
                }
            }
        }
    }

    /// The process dies and the kernel goes on: what was given to it is written.
    pub(super) fn sync_everything(&mut self) {
        for (file, offset, bytes) in std::mem::take(&mut self.unsynced) {
            self.put(file, offset, &bytes);
        }
    }

    fn put(&mut self, file: FileNumber, offset: usize, bytes: &[u8]) {
        let content = self.files.get_mut(&file.0).expect("only prepared files are written");
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

impl Storage for Disk {
    fn segments(&mut self) -> io::Result<Vec<(FileNumber, u64)>> {
        Ok(self.files.iter().map(|(number, content)| (FileNumber(*number), content.len() as u64)).collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let content = self.files.get(&file.0).ok_or(io::ErrorKind::NotFound)?;
        let bytes = content.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let is_lost = |(number, place)| number == file.0 && (offset..offset + buffer.len()).contains(&place);
        if self.unreadable.is_some_and(is_lost) {
            return Err(io::ErrorKind::Other.into());
        }
        buffer.copy_from_slice(bytes);
        // What was written is seen before it is synced.
        for (_, at, bytes) in self.unsynced.iter().filter(|(of, ..)| *of == file) {
            for (index, byte) in bytes.iter().enumerate() {
                if let Some(place) = (at + index).checked_sub(offset).and_then(|place| buffer.get_mut(place))
                {
                    *place = *byte;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.start_write(file, offset, bytes);
        self.sync(file);
        Ok(())
    }

    fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()> {
        if self.files_max.is_some_and(|max| self.files.len() >= max) && !self.files.contains_key(&file.0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = self.files.entry(file.0).or_default();
        if content.len() as u64 != length {
            *content = vec![0; length as usize];
        }
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync_everything();
        Ok(())
    }
}
