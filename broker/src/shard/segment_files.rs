//! The segment files of a shard's folder: their names, how they are opened, made and removed.
//!
//! A commit is one write through a descriptor opened with `O_DIRECT | O_DSYNC`, into blocks that have
//! been written before: the kernel has nothing to allocate and no page cache to go through. Where the
//! folder's file system refuses `O_DIRECT`, which is tried when the folder is opened, a commit is a
//! plain write and an fdatasync. Reads go through the page cache, for its reading ahead.
//!
//! A new file is written under another name and renamed when it is whole and durable. So what has a
//! segment's name has its full length, whenever the power fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::driver::FileNumber;

/// How much of a new segment is written at a time: so much may be before a commit in the disk's queue.
const PREPARE_CHUNK_BYTES: usize = 256 << 10;

/// How much of a file is written before a start goes on with it.
const BEGUN_BYTES: u64 = 2 << 20;

/// What is tried on the folder to find out whether it takes direct writes.
const PROBE_BYTES: usize = 4096;

/// Open files that a user of the folder keeps for each purpose; the one not used for longest is closed.
const OPEN_FILES_MAX: usize = 16;

const PROBE_NAME: &str = "direct-write-probe.tmp";

/// A folder of segment files. Every thread that works on it has a clone of its own.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFolder {
    path: PathBuf,
    writes_directly: bool,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Writes that are durable when they return, or (see [`SegmentFolder::writes_directly`]) once a
    /// sync has followed.
    DurableWrite,
    /// Writes that reach the kernel, and syncs of them.
    PlainWrite,
    Read,
}

/// The most recently used open files of a folder. Owned by one thread.
pub(crate) struct OpenFiles {
    folder: SegmentFolder,
    /// The one used last is at the end.
    files: Vec<(FileNumber, Purpose, Arc<File>)>,
}

/// The name of a segment's file.
pub(crate) fn segment_name(file: FileNumber) -> String {
    format!("segment-{:08}.log", file.0)
}

/// The number in the name of a segment's file; other names have none.
pub(crate) fn segment_number(name: &str) -> Option<FileNumber> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    let file = FileNumber(digits.parse().ok()?);
    // Only the one way of writing a number counts, so that no two names have the same.
    (segment_name(file) == name).then_some(file)
}

impl SegmentFolder {
    /// Opens a folder, making it if need be, and tries how it can be written to.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), writes_directly: takes_direct_writes(path)? })
    }

    /// The same folder as a file system would have it that knows no direct writes.
    #[cfg(test)]
    pub(crate) fn without_direct_writes(self) -> Self {
        Self { writes_directly: false, ..self }
    }

    /// Whether durable writes are direct: durable when they return. Otherwise each needs a sync.
    pub(crate) fn writes_directly(&self) -> bool {
        self.writes_directly
    }

    /// The segment files with their lengths, by number. What a crash left half made is removed.
    pub(crate) fn segments(&self) -> io::Result<Vec<(FileNumber, u64)>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(file) = segment_number(name) {
                segments.push((file, entry.metadata()?.len()));
            } else if name.strip_suffix(UNFINISHED_SUFFIX).and_then(segment_number).is_some() {
                fs::remove_file(entry.path())?;
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    pub(crate) fn open_file(&self, file: FileNumber, purpose: Purpose) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match purpose {
            Purpose::DurableWrite if self.writes_directly => {
                options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC)
            }
            Purpose::DurableWrite | Purpose::PlainWrite => options.write(true),
            Purpose::Read => options.read(true),
        };
        options.open(self.path_of(file))
    }

    /// Makes a file of zeros that is durable with its name. One that is there with this length is left
    /// as it is. Ends early with an error when `stop` is set.
    pub(crate) fn prepare(&self, file: FileNumber, length: u64, stop: &AtomicBool) -> io::Result<()> {
        self.make(file, length, length, stop).map(drop)
    }

    /// Makes such a file of which only the beginning has been written; says how many bytes. The rest has its
    /// blocks and reads as zeros, and is for [`SegmentFolder::finish`], which a start need not wait for.
    /// Where the file system gives no blocks in advance, all is written.
    pub(crate) fn begin(&self, file: FileNumber, length: u64) -> io::Result<u64> {
        self.make(file, length, BEGUN_BYTES.min(length), &AtomicBool::new(false))
    }

    /// Writes the zeros that [`SegmentFolder::begin`] has left out. Nothing else may write there meanwhile.
    pub(crate) fn finish(
        &self,
        file: FileNumber,
        from: u64,
        length: u64,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let file = self.zeroing(length).open(self.path_of(file))?;
        fill(&file, from..length, stop)
    }

    fn make(&self, file: FileNumber, length: u64, least: u64, stop: &AtomicBool) -> io::Result<u64> {
        let path = self.path_of(file);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == length => return Ok(length),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED_SUFFIX);
        let result = self.write_zeros(Path::new(&unfinished), length, least, stop).and_then(|written| {
            fs::rename(&unfinished, &path)?;
            self.sync()?;
            Ok(written)
        });
        if result.is_err() {
            // Give the room back: most likely there was too little. The first error is what matters.
            let _ = fs::remove_file(&unfinished);
        }
        result
    }

    /// Removes a file; its name is gone for good when this returns.
    pub(crate) fn remove(&self, file: FileNumber) -> io::Result<()> {
        fs::remove_file(self.path_of(file))?;
        self.sync()
    }

    /// Makes the folder's names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path_of(&self, file: FileNumber) -> PathBuf {
        self.path.join(segment_name(file))
    }

    /// Says how many bytes it has written: all, or `least` where the others are there without.
    fn write_zeros(&self, path: &Path, length: u64, least: u64, stop: &AtomicBool) -> io::Result<u64> {
        let file = self.zeroing(length).create(true).truncate(true).open(path)?;
        let written = if reserve(&file, length)? { least } else { length };
        fill(&file, 0..written, stop)?;
        Ok(written)
    }

    /// How a file of this length is opened to be filled with zeros.
    fn zeroing(&self, length: u64) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true);
        // Direct writes keep the disk's queue short, so that a commit on another file gets through.
        if self.writes_directly && length.is_multiple_of(PROBE_BYTES as u64) {
            options.custom_flags(libc::O_DIRECT);
        }
        options
    }
}

/// Writes zeros there and makes the file durable.
fn fill(file: &File, range: Range<u64>, stop: &AtomicBool) -> io::Result<()> {
    let zeros = Box::new(Zeros([0; PREPARE_CHUNK_BYTES]));
    let mut offset = range.start;
    while offset < range.end {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the broker is stopping"));
        }
        let chunk = (range.end - offset).min(PREPARE_CHUNK_BYTES as u64);
        file.write_all_at(&zeros.0[..chunk as usize], offset)?;
        offset += chunk;
    }
    file.sync_all()
}

const UNFINISHED_SUFFIX: &str = ".unfinished";

#[repr(align(4096))]
struct Zeros([u8; PREPARE_CHUNK_BYTES]);

#[repr(align(4096))]
struct ProbeBlock([u8; PROBE_BYTES]);

/// Asks for the blocks of a whole file at once, so that they lie together and a full disk shows before
/// anything is written. `false`: the file system cannot do so, and gives blocks as they are written.
fn reserve(file: &File, length: u64) -> io::Result<bool> {
    let length = libc::off_t::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: fallocate takes no pointers, and the descriptor is open.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Err(error),
        _ => Ok(false),
    }
}

fn takes_direct_writes(folder: &Path) -> io::Result<bool> {
    let path = folder.join(PROBE_NAME);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    let result = options.open(&path).and_then(|file| {
        let block = Box::new(ProbeBlock([0; PROBE_BYTES]));
        file.write_all_at(&block.0, 0)
    });
    let _ = fs::remove_file(&path);
    match result {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) =>
        {
            Ok(false)
        }
        // A full disk says nothing about direct writes, and must not keep the broker from starting.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => Ok(true),
        Err(error) => Err(error),
    }
}

impl OpenFiles {
    pub(crate) fn new(folder: SegmentFolder) -> Self {
        Self { folder, files: Vec::with_capacity(OPEN_FILES_MAX + 1) }
    }

    pub(crate) fn folder(&self) -> &SegmentFolder {
        &self.folder
    }

    /// The file, opened if it is not yet. Whoever works on it for longer keeps a clone.
    pub(crate) fn get(&mut self, file: FileNumber, purpose: Purpose) -> io::Result<&Arc<File>> {
        let found = self.files.iter().position(|entry| entry.0 == file && entry.1 == purpose);
        match found {
            Some(index) if index + 1 == self.files.len() => {}
            Some(index) => {
                let entry = self.files.remove(index);
                self.files.push(entry);
            }
            None => {
                let opened = self.folder.open_file(file, purpose)?;
                if self.files.len() >= OPEN_FILES_MAX {
                    self.files.remove(0);
                }
                self.files.push((file, purpose, Arc::new(opened)));
            }
        }
        Ok(&self.files.last().expect("it was found, or was just added").2)
    }

    /// Closes what is open of a file, because it is removed.
    pub(crate) fn forget(&mut self, file: FileNumber) {
        self.files.retain(|entry| entry.0 != file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_have_numbers() {
        assert_eq!(segment_name(FileNumber(7)), "segment-00000007.log");
        for number in [0, 7, 99_999_999, u32::MAX] {
            assert_eq!(segment_number(&segment_name(FileNumber(number))), Some(FileNumber(number)));
        }
        for name in ["segment-7.log", "segment-+0000007.log", "segment-00000007.log.unfinished", "lock", ""] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_that_was_begun_is_finished_later() {
        let directory = tempfile::tempdir().unwrap();
        let folder = SegmentFolder::open(directory.path()).unwrap();
        let (file, length) = (FileNumber(1), 2 * BEGUN_BYTES);
        let written = folder.begin(file, length).unwrap();
        assert!(written == BEGUN_BYTES || written == length, "{written}");
        assert_eq!(folder.segments().unwrap(), [(file, length)]);
        let path = directory.path().join(segment_name(file));
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"kept", BEGUN_BYTES - 4).unwrap();
        assert!(folder.finish(file, BEGUN_BYTES, length, &AtomicBool::new(true)).is_err());
        folder.finish(file, BEGUN_BYTES, length, &AtomicBool::new(false)).unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, length);
        let kept = BEGUN_BYTES as usize - 4..BEGUN_BYTES as usize;
        assert_eq!(&content[kept.clone()], b"kept");
        assert!(content[..kept.start].iter().chain(&content[kept.end..]).all(|byte| *byte == 0));
        // What is there is there.
        assert_eq!(folder.begin(file, length).unwrap(), length);
    }

    #[test]
    fn a_prepared_file_is_whole_and_an_unfinished_one_is_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        let folder = SegmentFolder::open(directory.path()).unwrap();
        let go_on = AtomicBool::new(false);
        let length = 3 * PREPARE_CHUNK_BYTES as u64 / 2;
        folder.prepare(FileNumber(2), length, &go_on).unwrap();
        let stop = AtomicBool::new(true);
        assert!(folder.prepare(FileNumber(3), length, &stop).is_err());
        fs::write(directory.path().join("segment-00000004.log.unfinished"), b"half").unwrap();
        assert_eq!(folder.segments().unwrap(), [(FileNumber(2), length)]);
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["segment-00000002.log"]);
        assert!(fs::read(folder.path_of(FileNumber(2))).unwrap().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_file_of_another_length_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let folder = SegmentFolder::open(directory.path()).unwrap();
        let go_on = AtomicBool::new(false);
        fs::write(folder.path_of(FileNumber(1)), b"short").unwrap();
        folder.prepare(FileNumber(1), 8192, &go_on).unwrap();
        assert_eq!(fs::read(folder.path_of(FileNumber(1))).unwrap(), vec![0; 8192]);
        fs::write(folder.path_of(FileNumber(1)), vec![1; 8192]).unwrap();
        folder.prepare(FileNumber(1), 8192, &go_on).unwrap();
        assert_eq!(fs::read(folder.path_of(FileNumber(1))).unwrap(), vec![1; 8192]);
    }

    #[test]
    fn only_so_many_files_stay_open() {
        let directory = tempfile::tempdir().unwrap();
        let folder = SegmentFolder::open(directory.path()).unwrap();
        let go_on = AtomicBool::new(false);
        for number in 0..2 * OPEN_FILES_MAX as u32 {
            folder.prepare(FileNumber(number), 4096, &go_on).unwrap();
        }
        let mut files = OpenFiles::new(folder);
        for number in (0..2 * OPEN_FILES_MAX as u32).chain(0..4) {
            files.get(FileNumber(number), Purpose::Read).unwrap();
            assert!(files.files.len() <= OPEN_FILES_MAX);
        }
        assert!(files.get(FileNumber(1000), Purpose::DurableWrite).is_err());
        files.forget(FileNumber(3));
        assert!(files.files.iter().all(|entry| entry.0 != FileNumber(3)));
    }
}
