//! A shard's helper threads for files, where the driver's own thread must not wait for the disk.
//!
//! The writer does journal writes and syncs, of which one each is under way at a time; the reader reads
//! cold parts; the keeper does what is slow and can wait: making segments and removing files. So neither
//! a commit nor a receive stands behind 64 MiB of zeros. All put completions into one queue and ring the
//! driver's bell. Under io_uring, which writes and reads by itself, there is only the keeper. Beside them
//! [`Pages`] makes memory.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::driver::{Event, FileNumber, JournalRead, JournalWrite};
use super::pages::Pages;
use super::segment_files::{OpenFiles, Purpose, SegmentFolder};
use super::waker::Bell;

/// The helper threads as the driver sees them. Dropping it waits for what is under way (a segment that
/// is being made is given up), so that the folder is at rest when its lock is released.
pub(crate) struct DiskWorker {
    threads: Option<Threads>,
    completions: Receiver<Event<'static>>,
    report: Sender<Event<'static>>,
    bell: Arc<Bell>,
    pages: Pages,
}

struct Threads {
    folder: SegmentFolder,
    transfer: Option<Transfer>,
    keeper: Helper,
    stop: Arc<AtomicBool>,
}

/// The threads that move bytes.
struct Transfer {
    writer: Helper,
    reader: Helper,
}

struct Helper {
    /// The queue of one thread. It is bounded by what the driver's contract lets be under way (one write,
    /// one sync) and by the segments and reads that the log asks for.
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Write(JournalWrite),
    Sync(FileNumber),
    Read(JournalRead),
    Prepare(FileNumber, u64),
    Finish(FileNumber, u64, u64),
    Remove(FileNumber),
    /// The file is about to be removed or made anew: close it.
    Forget(FileNumber),
}

impl DiskWorker {
    /// Starts all threads for a folder; without one, everything that is asked for fails.
    pub(crate) fn new(folder: Option<SegmentFolder>, bell: Arc<Bell>) -> io::Result<Self> {
        Self::start(folder, bell, true)
    }

    /// Starts only the keeper; writes, syncs and reads fail.
    pub(crate) fn keeper_only(folder: Option<SegmentFolder>, bell: Arc<Bell>) -> io::Result<Self> {
        Self::start(folder, bell, false)
    }

    fn start(folder: Option<SegmentFolder>, bell: Arc<Bell>, with_transfer: bool) -> io::Result<Self> {
        let (report, completions) = channel();
        let threads = match folder {
            None => None,
            Some(folder) => {
                let stop = Arc::new(AtomicBool::new(false));
                let start = |name: &str| {
                    let reporter = Reporter { report: report.clone(), bell: bell.clone() };
                    Helper::start(name, OpenFiles::new(folder.clone()), reporter, stop.clone())
                };
                let transfer = if with_transfer {
                    Some(Transfer { writer: start("journal-writer")?, reader: start("journal-reader")? })
                } else {
                    None
                };
                let keeper = start("journal-keeper")?;
                Some(Threads { folder, transfer, keeper, stop })
            }
        };
        Ok(Self { threads, completions, report, bell, pages: Pages::start() })
    }

    /// The folder, where there is one.
    pub(crate) fn folder(&self) -> Option<&SegmentFolder> {
        self.threads.as_ref().map(|threads| &threads.folder)
    }

    pub(crate) fn write(&self, write: JournalWrite) {
        match self.transfer() {
            Some(transfer) => transfer.writer.ask(Task::Write(write)),
            None => self.refuse(Event::JournalWritten(Err(no_folder()))),
        }
    }

    pub(crate) fn sync(&self, file: FileNumber) {
        match self.transfer() {
            Some(transfer) => transfer.writer.ask(Task::Sync(file)),
            None => self.refuse(Event::JournalSynced(Err(no_folder()))),
        }
    }

    pub(crate) fn read(&self, read: JournalRead) {
        match self.transfer() {
            Some(transfer) => transfer.reader.ask(Task::Read(read)),
            None => self.refuse(Event::JournalReadDone { read, result: Err(no_folder()) }),
        }
    }

    pub(crate) fn prepare(&self, file: FileNumber, length: u64) {
        match &self.threads {
            Some(threads) => {
                self.forget(file);
                threads.keeper.ask(Task::Prepare(file, length));
            }
            None => self.refuse(Event::SegmentPrepared { file, result: Err(no_folder()) }),
        }
    }

    pub(crate) fn finish(&self, file: FileNumber, from: u64, length: u64) {
        match &self.threads {
            Some(threads) => threads.keeper.ask(Task::Finish(file, from, length)),
            None => self.refuse(Event::SegmentPrepared { file, result: Err(no_folder()) }),
        }
    }

    pub(crate) fn remove(&self, file: FileNumber) {
        match &self.threads {
            Some(threads) => {
                self.forget(file);
                threads.keeper.ask(Task::Remove(file));
            }
            None => self.refuse(Event::SegmentRemoved { file, result: Err(no_folder()) }),
        }
    }

    /// What has memory made before the shard comes to it.
    pub(crate) fn pages(&mut self) -> &mut Pages {
        &mut self.pages
    }

    /// Moves what has completed into `events`; called when the bell was answered.
    pub(crate) fn take_completions(&self, events: &mut VecDeque<Event<'static>>) {
        events.extend(self.completions.try_iter());
    }

    fn transfer(&self) -> Option<&Transfer> {
        self.threads.as_ref()?.transfer.as_ref()
    }

    fn forget(&self, file: FileNumber) {
        if let Some(transfer) = self.transfer() {
            transfer.writer.ask(Task::Forget(file));
            transfer.reader.ask(Task::Forget(file));
        }
    }

    fn refuse(&self, event: Event<'static>) {
        Reporter { report: self.report.clone(), bell: self.bell.clone() }.complete(event);
    }
}

impl Drop for DiskWorker {
    fn drop(&mut self) {
        if let Some(threads) = &mut self.threads {
            threads.stop.store(true, Ordering::Relaxed);
            if let Some(transfer) = &mut threads.transfer {
                transfer.writer.end();
                transfer.reader.end();
            }
            threads.keeper.end();
        }
    }
}

/// The error of everything that is asked of a journal without files.
pub(crate) fn no_folder() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this shard has no journal files")
}

impl Helper {
    fn start(name: &str, files: OpenFiles, reporter: Reporter, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let (tasks, queue) = channel();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let mut worker = Worker { files, stop };
            for task in queue {
                if let Some(event) = worker.carry_out(task) {
                    reporter.complete(event);
                }
            }
        })?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread) })
    }

    fn ask(&self, task: Task) {
        let tasks = self.tasks.as_ref().expect("the queue is open until the worker is dropped");
        // A helper ends only when its queue is closed, or by a panic: going on without it would mean
        // commits that never come back.
        tasks.send(task).expect("the helper thread runs as long as its queue is open");
    }

    fn end(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the helper has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// How a helper tells the driver.
struct Reporter {
    report: Sender<Event<'static>>,
    bell: Arc<Bell>,
}

impl Reporter {
    fn complete(&self, event: Event<'static>) {
        // Nobody listens any more when the driver is being dropped.
        if self.report.send(event).is_ok() {
            self.bell.ring();
        }
    }
}

/// What runs on a helper thread.
struct Worker {
    files: OpenFiles,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn carry_out(&mut self, task: Task) -> Option<Event<'static>> {
        Some(match task {
            Task::Write(write) => Event::JournalWritten(self.write(&write)),
            Task::Sync(file) => Event::JournalSynced(self.sync(file)),
            Task::Read(read) => Event::JournalReadDone { read, result: self.read(read) },
            Task::Prepare(file, length) => {
                let result = self.files.folder().prepare(file, length, &self.stop);
                Event::SegmentPrepared { file, result }
            }
            Task::Finish(file, from, length) => {
                let result = self.files.folder().finish(file, from, length, &self.stop);
                Event::SegmentPrepared { file, result }
            }
            Task::Remove(file) => Event::SegmentRemoved { file, result: self.files.folder().remove(file) },
            Task::Forget(file) => {
                self.files.forget(file);
                return None;
            }
        })
    }

    fn write(&mut self, write: &JournalWrite) -> io::Result<()> {
        let purpose = if write.durable { Purpose::DurableWrite } else { Purpose::PlainWrite };
        let is_durable = self.files.folder().writes_directly();
        let file = self.files.get(write.file, purpose)?;
        file.write_all_at(write.bytes.as_ref(), write.offset)?;
        if write.durable && !is_durable { file.sync_data() } else { Ok(()) }
    }

    fn sync(&mut self, file: FileNumber) -> io::Result<()> {
        self.files.get(file, Purpose::PlainWrite)?.sync_data()
    }

    fn read(&mut self, read: JournalRead) -> io::Result<Vec<u8>> {
        let file = self.files.get(read.file, Purpose::Read)?;
        let mut bytes = vec![0; read.length as usize];
        file.read_exact_at(&mut bytes, read.offset)?;
        Ok(bytes)
    }
}
