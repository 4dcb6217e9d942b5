//! A thread that has the kernel clear memory before the shard comes to it: pages of the log, and chunks of the
//! engine's tables.
//!
//! It is started with the driver: later the shard is kept on its core, and a thread that it starts then is kept there
//! with it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::engine::{Chunk, WantedChunk};
use crate::journal::memory::FreshPage;

/// The thread, as the driver sees it. Dropping it waits for what is being made.
pub(crate) struct Pages {
    /// `None`: there could be none, and the shard does without.
    thread: Option<Thread>,
}

struct Thread {
    wanted: Sender<Wanted>,
    made: Receiver<Chunk>,
    handle: JoinHandle<()>,
}

enum Wanted {
    Page(FreshPage),
    Chunk(WantedChunk),
}

impl Pages {
    /// Starts the thread, which runs wherever the caller may.
    pub(crate) fn start() -> Self {
        Self { thread: Thread::start() }
    }

    /// Has a page made. Without a thread to do it, the shard's first write there does.
    pub(crate) fn make(&mut self, page: FreshPage) {
        self.ask(Wanted::Page(page));
    }

    /// Has a chunk made. Without a thread to do it, the engine does when it needs it.
    pub(crate) fn make_chunk(&mut self, wanted: WantedChunk) {
        self.ask(Wanted::Chunk(wanted));
    }

    /// A chunk that was made meanwhile.
    pub(crate) fn take_chunk(&self) -> Option<Chunk> {
        self.thread.as_ref()?.made.try_recv().ok()
    }

    fn ask(&mut self, wanted: Wanted) {
        if let Some(thread) = &self.thread {
            // Its end is only ever this value's.
            let _ = thread.wanted.send(wanted);
        }
    }
}

impl Thread {
    fn start() -> Option<Thread> {
        let (wanted, queue) = channel();
        let (done, made) = channel();
        let work = move || {
            for wanted in queue {
                match wanted {
                    Wanted::Page(page) => page.make(),
                    Wanted::Chunk(chunk) => {
                        // Nobody takes it any more where the shard has ended.
                        let _ = done.send(chunk.make());
                    }
                }
            }
        };
        let handle = Builder::new().name("shard-memory".to_owned()).spawn(work).ok()?;
        Some(Thread { wanted, made, handle })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(Thread { wanted, handle, .. }) = self.thread.take() {
            drop(wanted);
            // A panic of the thread has been printed; nothing depends on what it did.
            let _ = handle.join();
        }
    }
}
