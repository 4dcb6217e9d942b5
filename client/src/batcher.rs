//! Deletes and visibility changes of a consumer, gathered into batches.
//!
//! As with a producer, what there is leaves at once while nothing is under way, and fills batches while
//! something is. What fails for good is told to the log: the message then comes back by itself.

use std::collections::VecDeque;
use std::time::Duration;

use tenpin_protocol::BATCH_ENTRIES_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::error::Result;
use crate::message::ReceiptHandle;
use crate::queue::Queue;

/// Batches under way at once.
const IN_FLIGHT_MAX: usize = 16;

/// What is done with a message.
#[derive(Debug)]
pub(crate) enum Settling {
    /// It is deleted.
    Delete(ReceiptHandle),
    /// It is hidden for so long from now on.
    Hide(ReceiptHandle, Duration),
}

/// Takes what is to be done; what is done last is done when [`Settler::finish`] returns.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    give: mpsc::UnboundedSender<Settling>,
}

impl Settler {
    /// Starts the task that does it.
    pub fn start(queue: Queue) -> (Self, Finished) {
        // What waits here is bounded by the messages that a consumer holds.
        let (give, take) = mpsc::unbounded_channel();
        let (tell, finished) = oneshot::channel();
        tokio::spawn(async move {
            run(queue, take).await;
            // Nobody may be waiting.
            let _ = tell.send(());
        });
        (Self { give }, Finished(finished))
    }

    pub fn settle(&self, settling: Settling) {
        // The task ends only when nobody can give it anything.
        let _ = self.give.send(settling);
    }
}

/// Resolves when all that was given has been done and no [`Settler`] is left.
#[derive(Debug)]
pub(crate) struct Finished(oneshot::Receiver<()>);

impl Finished {
    pub async fn wait(self) {
        // An error means that the task is gone, and with it all that it had to do.
        let _ = self.0.await;
    }
}

async fn run(queue: Queue, mut take: mpsc::UnboundedReceiver<Settling>) {
    let (mut deletes, mut hides) = (VecDeque::new(), VecDeque::new());
    let mut in_flight = JoinSet::new();
    let mut arrived = Vec::new();
    let mut open = true;
    while open || !deletes.is_empty() || !hides.is_empty() || !in_flight.is_empty() {
        while in_flight.len() < IN_FLIGHT_MAX {
            let batch = usize::from(BATCH_ENTRIES_MAX);
            let is_idle = in_flight.is_empty();
            if deletes.len() >= batch || (is_idle && !deletes.is_empty()) {
                let handles: Vec<_> = deletes.drain(..batch.min(deletes.len())).collect();
                in_flight.spawn(delete(queue.clone(), handles));
            } else if hides.len() >= batch || (is_idle && !hides.is_empty()) {
                let changes: Vec<_> = hides.drain(..batch.min(hides.len())).collect();
                in_flight.spawn(hide(queue.clone(), changes));
            } else {
                break;
            }
        }
        tokio::select! {
            count = take.recv_many(&mut arrived, 1_024), if open => {
                open = count > 0;
                for settling in arrived.drain(..) {
                    match settling {
                        Settling::Delete(handle) => deletes.push_back(handle),
                        Settling::Hide(handle, time) => hides.push_back((handle, time)),
                    }
                }
            }
            Some(_) = in_flight.join_next() => {}
        }
    }
}

async fn delete(queue: Queue, handles: Vec<ReceiptHandle>) {
    report("a message could not be deleted and comes back", queue.delete_batch(&handles).await);
}

async fn hide(queue: Queue, changes: Vec<(ReceiptHandle, Duration)>) {
    let borrowed: Vec<_> = changes.iter().map(|(handle, time)| (handle, *time)).collect();
    report(
        "a message's visibility timeout could not be changed",
        queue.change_visibility_batch(&borrowed).await,
    );
}

fn report(what: &'static str, outcome: Result<Vec<Result<()>>>) {
    match outcome {
        Ok(results) => {
            results.into_iter().filter_map(Result::err).for_each(|error| tracing::warn!(%error, what))
        }
        Err(error) => tracing::warn!(%error, what),
    }
}
