//! The journal files of the io_uring driver: writes, syncs and cold reads go through the ring.
//!
//! Making and removing segments is left to the keeper thread of [`super::super::disk_worker`].

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::super::disk_worker::no_folder;
use super::super::driver::{Event, FileNumber, JournalRead, JournalWrite};
use super::super::segment_files::{OpenFiles, Purpose, SegmentFolder};
use super::ring::{Completion, Ring, Token};

/// What of the journal is with the kernel. Owned by the driver.
pub(super) struct Files {
    open: Option<OpenFiles>,
    write: Option<Write>,
    sync: Option<Arc<File>>,
    reads: Vec<Option<Read>>,
    free_reads: Vec<u32>,
}

struct Write {
    request: JournalWrite,
    /// Kept open until the completion, whatever happens to the list of open files.
    file: Arc<File>,
    written: usize,
    /// The bytes have been taken, and the sync that makes them durable is under way.
    is_syncing: bool,
}

struct Read {
    request: JournalRead,
    file: Arc<File>,
    bytes: Vec<u8>,
    filled: usize,
}

type Events = VecDeque<Event<'static>>;

impl Files {
    pub(super) fn new(folder: Option<SegmentFolder>) -> Self {
        Self {
            open: folder.map(OpenFiles::new),
            write: None,
            sync: None,
            reads: Vec::new(),
            free_reads: Vec::new(),
        }
    }

    pub(super) fn writes_directly(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.folder().writes_directly())
    }

    fn file(&mut self, file: FileNumber, purpose: Purpose) -> io::Result<Arc<File>> {
        self.open.as_mut().ok_or_else(no_folder)?.get(file, purpose).cloned()
    }

    /// Closes what is open of a file, because it is removed or made anew.
    pub(super) fn forget(&mut self, file: FileNumber) {
        if let Some(open) = &mut self.open {
            open.forget(file);
        }
    }

    pub(super) fn write(&mut self, request: JournalWrite, ring: &mut Ring, events: &mut Events) {
        assert!(self.write.is_none(), "one journal write at a time");
        let purpose = if request.durable { Purpose::DurableWrite } else { Purpose::PlainWrite };
        match self.file(request.file, purpose) {
            Ok(file) => {
                let write = self.write.insert(Write { request, file, written: 0, is_syncing: false });
                write.submit(ring);
            }
            Err(error) => events.push_back(Event::JournalWritten(Err(error))),
        }
    }

    pub(super) fn written(&mut self, completion: Completion, ring: &mut Ring, events: &mut Events) {
        let syncs_after = !self.writes_directly();
        let write = self.write.as_mut().expect("a write is kept until it has come back");
        let result = match completion.outcome() {
            Err(error) => Err(error),
            Ok(_) if write.is_syncing => Ok(()),
            Ok(0) if write.written < write.request.bytes.as_ref().len() => {
                Err(io::ErrorKind::WriteZero.into())
            }
            Ok(length) => {
                write.written += length;
                if write.written < write.request.bytes.as_ref().len() {
                    return write.submit(ring);
                }
                if write.request.durable && syncs_after {
                    write.is_syncing = true;
                    return ring.sync_data(Token::JournalWrite, write.file.as_raw_fd());
                }
                Ok(())
            }
        };
        self.write = None;
        events.push_back(Event::JournalWritten(result));
    }

    pub(super) fn sync(&mut self, file: FileNumber, ring: &mut Ring, events: &mut Events) {
        assert!(self.sync.is_none(), "one journal sync at a time");
        match self.file(file, Purpose::PlainWrite) {
            Ok(file) => {
                ring.sync_data(Token::JournalSync, file.as_raw_fd());
                self.sync = Some(file);
            }
            Err(error) => events.push_back(Event::JournalSynced(Err(error))),
        }
    }

    pub(super) fn synced(&mut self, completion: Completion, events: &mut Events) {
        self.sync = None;
        events.push_back(Event::JournalSynced(completion.outcome().map(|_| ())));
    }

    pub(super) fn read(&mut self, request: JournalRead, ring: &mut Ring, events: &mut Events) {
        match self.file(request.file, Purpose::Read) {
            Ok(file) => {
                let index = self.free_reads.pop().unwrap_or_else(|| {
                    self.reads.push(None);
                    self.reads.len() as u32 - 1
                });
                let bytes = vec![0; request.length as usize];
                let read = self.reads[index as usize].insert(Read { request, file, bytes, filled: 0 });
                read.submit(index, ring);
            }
            Err(error) => events.push_back(Event::JournalReadDone { read: request, result: Err(error) }),
        }
    }

    pub(super) fn read_done(
        &mut self,
        index: u32,
        completion: Completion,
        ring: &mut Ring,
        events: &mut Events,
    ) {
        let place = &mut self.reads[index as usize];
        let read = place.as_mut().expect("a read is kept until it has come back");
        let error = match completion.outcome() {
            Err(error) => Some(error),
            Ok(0) if read.filled < read.bytes.len() => Some(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                read.filled += length;
                if read.filled < read.bytes.len() {
                    return read.submit(index, ring);
                }
                None
            }
        };
        if let Some(Read { request, bytes, .. }) = place.take() {
            let result = error.map_or(Ok(bytes), Err);
            events.push_back(Event::JournalReadDone { read: request, result });
        }
        self.free_reads.push(index);
    }
}

impl Write {
    fn submit(&self, ring: &mut Ring) {
        let rest = &self.request.bytes.as_ref()[self.written..];
        let offset = self.request.offset + self.written as u64;
        // SAFETY: a sealed range has a stable address and never changes; it is dropped with this
        // request, by its completion, and the driver takes all requests back before it drops them.
        unsafe { ring.write(Token::JournalWrite, self.file.as_raw_fd(), offset, rest) };
    }
}

impl Read {
    fn submit(&mut self, index: u32, ring: &mut Ring) {
        let offset = self.request.offset + self.filled as u64;
        let rest = &mut self.bytes[self.filled..];
        // SAFETY: the bytes are on the heap and nobody touches them before the completion, which alone
        // takes them out of the table; the driver takes all requests back before it drops the table.
        unsafe { ring.read(Token::JournalRead(index), self.file.as_raw_fd(), offset, rest) };
    }
}
