//! A thread that has the kernel clear the log's memory before the shard comes to it.
//!
//! It starts with the first page that is wanted: a log that is used again in the memory that it has wants none.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::journal::memory::FreshPage;

/// The thread, as the driver sees it. Dropping it waits for the page that is being made.
#[derive(Default)]
pub(crate) struct Pages {
    thread: Option<(Sender<FreshPage>, JoinHandle<()>)>,
}

impl Pages {
    /// Has a page made. Without a thread to do it, the shard's first write there does.
    pub(crate) fn make(&mut self, page: FreshPage) {
        if self.thread.is_none() {
            let (pages, queue) = channel::<FreshPage>();
            let started = Builder::new().name("journal-pages".to_owned()).spawn(move || {
                queue.into_iter().for_each(|page| page.make());
            });
            self.thread = started.ok().map(|thread| (pages, thread));
        }
        if let Some((pages, _)) = &self.thread {
            // Its end is only ever this value's.
            let _ = pages.send(page);
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some((pages, thread)) = self.thread.take() {
            drop(pages);
            // A panic of the thread has been printed; nothing depends on what it did.
            let _ = thread.join();
        }
    }
}
