//! A folder of segment files on a real disk, as recovery and the tools see it.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::journal::storage::Storage;
use crate::shard::driver::FileNumber;
use crate::shard::segment_files::{OpenFiles, Purpose, SegmentFolder};

/// A shard's folder of files `segment-00000001.log` and so on. Used by one thread, before the shard
/// runs or instead of it. The folder is made when it is first used and is not there.
pub struct RealStorage {
    path: PathBuf,
    files: Option<OpenFiles>,
}

impl RealStorage {
    /// Names the folder; nothing is touched yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { path: folder.into(), files: None }
    }

    fn files(&mut self) -> io::Result<&mut OpenFiles> {
        if self.files.is_none() {
            self.files = Some(OpenFiles::new(SegmentFolder::open(&self.path)?));
        }
        Ok(self.files.as_mut().expect("it was there or has just been opened"))
    }
}

impl Storage for RealStorage {
    fn segments(&mut self) -> io::Result<Vec<(FileNumber, u64)>> {
        self.files()?.folder().segments()
    }

    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.files()?.get(file, Purpose::Read)?.read_exact_at(buffer, offset)
    }

    fn write(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // The bytes may lie anywhere in memory, so this goes through the page cache.
        let file = self.files()?.get(file, Purpose::PlainWrite)?;
        file.write_all_at(bytes, offset)?;
        file.sync_data()
    }

    fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()> {
        let files = self.files()?;
        files.forget(file);
        files.folder().prepare(file, length, &AtomicBool::new(false))
    }

    fn begin(&mut self, file: FileNumber, length: u64) -> io::Result<u64> {
        let files = self.files()?;
        files.forget(file);
        files.folder().begin(file, length)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        let files = self.files()?;
        for (file, _) in files.folder().segments()? {
            files.get(file, Purpose::Read)?.sync_all()?;
        }
        files.folder().sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_what_is_written_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("shard");
        let mut storage = RealStorage::new(&folder);
        storage.prepare(FileNumber(2), 65_536).unwrap();
        storage.prepare(FileNumber(1), 65_536).unwrap();
        storage.write(FileNumber(1), 4096, b"kept").unwrap();
        drop(storage);

        let mut storage = RealStorage::new(&folder);
        storage.sync_all().unwrap();
        assert_eq!(storage.segments().unwrap(), [(FileNumber(1), 65_536), (FileNumber(2), 65_536)]);
        let mut bytes = [1; 6];
        storage.read(FileNumber(1), 4096, &mut bytes).unwrap();
        assert_eq!(&bytes, b"kept\0\0");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = RealStorage::new(directory.path());
        let mut bytes = [0; 8];
        assert!(storage.read(FileNumber(1), 0, &mut bytes).is_err());
        assert!(storage.write(FileNumber(1), 0, &bytes).is_err());
        storage.prepare(FileNumber(1), 4096).unwrap();
        let error = storage.read(FileNumber(1), 4092, &mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
