//! The files of a data folder as recovery and the tools see them: synchronous, and small enough
//! for the simulator to have its own.

use std::io;

use crate::shard::driver::FileNumber;

/// A shard's folder of segment files, before the shard runs. Real folders and simulated ones
/// implement it.
pub trait Storage {
    /// The segment files there are, with their lengths, in order of their numbers.
    fn segments(&mut self) -> io::Result<Vec<(FileNumber, u64)>>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    fn read(&mut self, file: FileNumber, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset` and makes them durable.
    fn write(&mut self, file: FileNumber, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file of `length` bytes of zeros, durable with its name.
    fn prepare(&mut self, file: FileNumber, length: u64) -> io::Result<()>;

    /// The same, but that only the file's beginning may be fit to be written to yet; says how many bytes. The
    /// rest reads as zeros, and is the shard's to finish while it runs.
    fn begin(&mut self, file: FileNumber, length: u64) -> io::Result<u64> {
        self.prepare(file, length).map(|()| length)
    }

    /// Syncs the folder and every segment file, so that what is read next is what the disk has.
    fn sync_all(&mut self) -> io::Result<()>;
}
