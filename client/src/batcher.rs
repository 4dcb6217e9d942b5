//! Deletes and visibility changes of a consumer, gathered into batches by a [crew](crate::crew).
//!
//! What fails for good is told to the log: the message then comes back by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tenpin_protocol::BATCH_ENTRIES_MAX;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::crew::{Owner, Told, Work};
use crate::error::Result;
use crate::message::KeptHandle;
use crate::queue::Queue;

/// Batches under way at once.
const IN_FLIGHT_MAX: usize = 16;
/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;

/// What is done with a message.
#[derive(Debug)]
pub(crate) enum Settling {
    /// It is deleted.
    Delete(KeptHandle),
    /// It is hidden for so long from now on.
    Hide(KeptHandle, Duration),
}

/// Takes what is to be done; what is done last is done when [`Finished::wait`] returns.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    // What waits here is bounded by the messages that a consumer holds.
    crew: Arc<Owner<Settles>>,
}

impl Settler {
    /// Begins on the runtime of the caller.
    pub fn start(queue: Queue) -> (Self, Finished) {
        let (tell, finished) = oneshot::channel();
        let settles = Settles { queue, _tell: tell };
        let crew = Arc::new(Owner::new(settles, Waiting::default(), IN_FLIGHT_MAX));
        (Self { crew }, Finished(finished))
    }

    #[inline]
    pub fn settle(&self, settling: Settling) {
        // Where the runtime ends, the message comes back by itself.
        let _ = self.crew.change(|waiting| match settling {
            Settling::Delete(handle) => waiting.deletes.push_back(handle),
            Settling::Hide(handle, time) => waiting.hides.push_back((handle, time)),
        });
    }
}

/// Resolves when all that was given has been done and no [`Settler`] is left.
#[derive(Debug)]
pub(crate) struct Finished(oneshot::Receiver<()>);

impl Finished {
    pub async fn wait(self) {
        // It is never said, but the other side goes with the crew.
        let _ = self.0.await;
    }
}

#[derive(Debug)]
struct Settles {
    queue: Queue,
    _tell: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    deletes: VecDeque<KeptHandle>,
    hides: VecDeque<(KeptHandle, Duration)>,
}

enum Batch {
    Deletes(Vec<KeptHandle>),
    Hides(Vec<(KeptHandle, Duration)>),
}

impl Work for Settles {
    type Waiting = Waiting;
    type Batch = Batch;
    type Outcome = ();

    #[inline]
    fn due(waiting: &Waiting, partial: bool) -> usize {
        let (deletes, hides) = (waiting.deletes.len(), waiting.hides.len());
        let full = deletes / BATCH_MAX + hides / BATCH_MAX;
        if partial && deletes + hides > 0 { full.max(1) } else { full }
    }

    fn take(waiting: &mut Waiting, partial: bool) -> Option<Batch> {
        let Waiting { deletes, hides } = waiting;
        if deletes.len() >= BATCH_MAX || (partial && !deletes.is_empty()) {
            Some(Batch::Deletes(deletes.drain(..BATCH_MAX.min(deletes.len())).collect()))
        } else if hides.len() >= BATCH_MAX || (partial && !hides.is_empty()) {
            Some(Batch::Hides(hides.drain(..BATCH_MAX.min(hides.len())).collect()))
        } else {
            None
        }
    }

    fn is_empty(waiting: &Waiting) -> bool {
        waiting.deletes.is_empty() && waiting.hides.is_empty()
    }

    async fn run(&self, batch: Batch) {
        match batch {
            Batch::Deletes(handles) => {
                let outcome = self.queue.delete_each(handles.iter().map(KeptHandle::as_bytes)).await;
                report("a message could not be deleted and comes back", outcome);
            }
            Batch::Hides(changes) => {
                let changes = changes.iter().map(|(handle, time)| (handle.as_bytes(), *time));
                let outcome = self.queue.change_visibility_of_each(changes).await;
                report("a message's visibility timeout could not be changed", outcome);
            }
        }
    }

    fn finish(&self, _: &mut Waiting, (): ()) -> (Option<Instant>, Told) {
        (None, Told::new())
    }
}

fn report(what: &'static str, outcome: Result<Vec<Result<()>>>) {
    match outcome {
        Ok(results) => {
            results.into_iter().filter_map(Result::err).for_each(|error| tracing::warn!(%error, what))
        }
        Err(error) => tracing::warn!(%error, what),
    }
}
