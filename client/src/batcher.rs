//! Deletes and visibility changes of a consumer, gathered into batches by a [crew](crate::crew).
//!
//! Batches may overtake each other on their way. So a message that is let go of while it is being hidden
//! anew is let go of behind that: it would come back as the earlier request says where that arrived last.
//!
//! Deletes and visibility changes fill up batches each by themselves: what is hidden anew is in a hurry, and
//! must not wait until there is nothing to delete.
//!
//! What the broker refuses for now is asked again for a while. What fails for good is told to the log: the
//! message then comes back by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tenpin_protocol::BATCH_ENTRIES_MAX;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::crew::{Owner, Told, Work};
use crate::error::{Error, Result};
use crate::message::KeptHandle;
use crate::queue::Queue;
use crate::retry::Backoff;

/// Batches under way at once.
const IN_FLIGHT_MAX: usize = 16;
/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;
/// From the first time that the broker refuses something for now, for how long it is asked again.
const ASKED_AGAIN_FOR: Duration = Duration::from_secs(30);

/// What is done with a message.
#[derive(Debug)]
pub(crate) enum Settling {
    /// It is deleted.
    Delete(KeptHandle),
    /// It is hidden for so long from now on, and let go of.
    Hide(KeptHandle, Duration),
    /// It is held on, and hidden anew for so long.
    Renew(KeptHandle, Duration),
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
            Settling::Delete(handle) => waiting.deletes.push_back(Asked::new(handle)),
            Settling::Hide(handle, time) => waiting.hide(handle, time),
            Settling::Renew(handle, time) => waiting.renew(handle, time),
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

/// What the broker is asked for, and until when, where it has refused it for now.
#[derive(Debug)]
struct Asked<T> {
    what: T,
    until: Option<Instant>,
}

impl<T> Asked<T> {
    fn new(what: T) -> Self {
        Self { what, until: None }
    }
}

#[derive(Debug)]
struct Hiding {
    handle: KeptHandle,
    time: Duration,
    /// The message is held on.
    is_renewal: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    deletes: VecDeque<Asked<KeptHandle>>,
    hides: VecDeque<Asked<Hiding>>,
    /// Batches of each that are under way.
    deleting: usize,
    hiding: usize,
    /// Messages that are hidden anew by what waits or is under way; of those that were let go of since then,
    /// for how long they are to be hidden afterwards.
    renewing: HashMap<KeptHandle, Option<Duration>>,
    /// How long to wait after the next refusal for now; `None`: the last one is forgotten.
    backoff: Option<Backoff>,
}

impl Waiting {
    fn renew(&mut self, handle: KeptHandle, time: Duration) {
        if self.renewing.contains_key(&handle) {
            // That has not been done yet, and is all the same.
            return;
        }
        self.renewing.insert(handle.clone(), None);
        self.hides.push_back(Asked::new(Hiding { handle, time, is_renewal: true }));
    }

    fn hide(&mut self, handle: KeptHandle, time: Duration) {
        match self.renewing.get_mut(&handle) {
            Some(afterwards) => *afterwards = Some(time),
            None => self.hides.push_back(Asked::new(Hiding { handle, time, is_renewal: false })),
        }
    }

    fn delete_batches(&self) -> usize {
        batches(self.deletes.len(), self.deleting == 0)
    }

    fn hide_batches(&self) -> usize {
        batches(self.hides.len(), self.hiding == 0)
    }

    fn take_deletes(&mut self) -> Batch {
        self.deleting += 1;
        Batch::Deletes(first_of(&mut self.deletes))
    }

    fn take_hides(&mut self) -> Batch {
        self.hiding += 1;
        Batch::Hides(first_of(&mut self.hides))
    }

    /// Takes what came of a batch, and says how long to wait before the next one, if so.
    fn take_back(&mut self, returned: Returned) -> Option<Duration> {
        let is_refused = match returned {
            Returned::Deletes { again } => {
                self.deleting -= 1;
                put_back(&mut self.deletes, again)
            }
            Returned::Hides { renewed, again } => {
                self.hiding -= 1;
                for handle in renewed {
                    if let Some(Some(time)) = self.renewing.remove(&handle) {
                        self.hide(handle, time);
                    }
                }
                put_back(&mut self.hides, again)
            }
        };
        if !is_refused {
            self.backoff = None;
            return None;
        }
        Some(self.backoff.get_or_insert_with(fresh_backoff).wait())
    }
}

/// How many batches so many entries are; less than a full one counts only where none is under way.
fn batches(entries: usize, is_first: bool) -> usize {
    (entries / BATCH_MAX).max(usize::from(is_first && entries > 0))
}

fn first_of<T>(waiting: &mut VecDeque<T>) -> Vec<T> {
    waiting.drain(..BATCH_MAX.min(waiting.len())).collect()
}

/// Puts back what is asked again, before what waits; says whether there is any.
fn put_back<T>(waiting: &mut VecDeque<T>, again: Vec<T>) -> bool {
    let is_any = !again.is_empty();
    again.into_iter().rev().for_each(|entry| waiting.push_front(entry));
    is_any
}

fn fresh_backoff() -> Backoff {
    // What is held is not hidden anew meanwhile, so it is short.
    Backoff::new(Duration::from_millis(5), Duration::from_millis(250))
}

enum Batch {
    Deletes(Vec<Asked<KeptHandle>>),
    Hides(Vec<Asked<Hiding>>),
}

/// What came of a batch, of which some is asked again.
enum Returned {
    Deletes {
        again: Vec<Asked<KeptHandle>>,
    },
    Hides {
        /// Messages that were hidden anew, or not: their renewals are over.
        renewed: Vec<KeptHandle>,
        again: Vec<Asked<Hiding>>,
    },
}

impl Work for Settles {
    type Waiting = Waiting;
    type Batch = Batch;
    type Outcome = Returned;

    #[inline]
    fn due(waiting: &Waiting, _partial: bool) -> usize {
        // Whether any batch is under way says less than whether one of its kind is.
        waiting.delete_batches() + waiting.hide_batches()
    }

    fn take(waiting: &mut Waiting, _partial: bool) -> Option<Batch> {
        let (has_deletes, has_hides) = (waiting.delete_batches() > 0, waiting.hide_batches() > 0);
        if has_hides && (!has_deletes || waiting.hiding <= waiting.deleting) {
            Some(waiting.take_hides())
        } else if has_deletes {
            Some(waiting.take_deletes())
        } else {
            None
        }
    }

    fn is_empty(waiting: &Waiting) -> bool {
        // What is to be done behind a renewal is taken on by who sees that through.
        waiting.deletes.is_empty() && waiting.hides.is_empty()
    }

    async fn run(&self, batch: Batch) -> Returned {
        match batch {
            Batch::Deletes(deletes) => {
                let handles = deletes.iter().map(|delete| delete.what.as_bytes());
                let outcome = self.queue.delete_each(handles).await;
                let what = "a message could not be deleted and comes back";
                Returned::Deletes { again: asked_again(what, deletes, outcome) }
            }
            Batch::Hides(hides) => {
                let changes = hides.iter().map(|hide| (hide.what.handle.as_bytes(), hide.what.time));
                let outcome = self.queue.change_visibility_of_each(changes).await;
                let renewals = hides.iter().filter(|hide| hide.what.is_renewal);
                let renewed = renewals.map(|hide| hide.what.handle.clone()).collect();
                let what = "a message's visibility timeout could not be changed";
                let mut again = asked_again(what, hides, outcome);
                // What is held on is hidden anew by itself.
                again.retain(|hide| !hide.what.is_renewal);
                Returned::Hides { renewed, again }
            }
        }
    }

    fn finish(&self, waiting: &mut Waiting, returned: Returned) -> (Option<Instant>, Told) {
        let pause = waiting.take_back(returned);
        (pause.map(|pause| Instant::now() + pause), Told::new())
    }
}

/// Of what the broker was asked for, what it has refused for now and is asked for again. All else that failed
/// is told to the log.
fn asked_again<T>(
    what: &'static str,
    asked: Vec<Asked<T>>,
    outcome: Result<Vec<Result<()>>>,
) -> Vec<Asked<T>> {
    let results = match outcome {
        Ok(results) => results,
        Err(error) if may_pass(&error) => asked.iter().map(|_| Err(error.clone())).collect(),
        Err(error) => {
            tracing::warn!(%error, what);
            return Vec::new();
        }
    };
    let mut again = Vec::new();
    for (mut asked, result) in asked.into_iter().zip(results) {
        let Err(error) = result else { continue };
        let now = Instant::now();
        let until = *asked.until.get_or_insert(now + ASKED_AGAIN_FOR);
        if may_pass(&error) && now < until {
            again.push(asked);
        } else {
            tracing::warn!(%error, what);
        }
    }
    again
}

/// Whether the broker has refused something for now. What met no broker was asked again before this.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.is_retryable())
}

#[cfg(test)]
mod tests {
    use tenpin_protocol::ErrorCode;

    use super::*;
    use crate::error::Refusal;

    const VISIBILITY: Duration = Duration::from_secs(30);
    const LATER: Duration = Duration::from_secs(3_600);

    fn handle(name: &str) -> KeptHandle {
        KeptHandle::new(name.as_bytes())
    }

    /// For how long the messages are hidden of all batches that can be begun.
    fn begun(waiting: &mut Waiting) -> Vec<Duration> {
        let mut times = Vec::new();
        while let Some(batch) = Settles::take(waiting, false) {
            let Batch::Hides(hides) = batch else { panic!("nothing is deleted here") };
            times.extend(hides.into_iter().map(|hide| hide.what.time));
        }
        times
    }

    fn end(waiting: &mut Waiting, renewed: &[&str]) {
        let renewed = renewed.iter().map(|name| handle(name)).collect();
        assert_eq!(waiting.take_back(Returned::Hides { renewed, again: Vec::new() }), None);
    }

    #[test]
    fn what_is_let_go_of_is_not_hidden_by_a_renewal_that_arrives_later() {
        let mut waiting = Waiting::default();
        waiting.renew(handle("under way"), VISIBILITY);
        assert_eq!(begun(&mut waiting), [VISIBILITY]);
        waiting.hide(handle("under way"), LATER);
        waiting.renew(handle("waiting"), VISIBILITY);
        waiting.hide(handle("waiting"), LATER);
        waiting.hide(handle("another"), Duration::ZERO);
        end(&mut waiting, &["under way"]);
        let times = begun(&mut waiting);
        assert_eq!(times, [VISIBILITY, Duration::ZERO, LATER], "one still waits for its renewal");
        end(&mut waiting, &["waiting"]);
        assert_eq!(begun(&mut waiting), [LATER]);
    }

    #[test]
    fn a_message_is_not_hidden_anew_twice_at_once_and_is_so_again_afterwards() {
        let mut waiting = Waiting::default();
        waiting.renew(handle("held"), VISIBILITY);
        waiting.renew(handle("held"), VISIBILITY);
        assert_eq!(begun(&mut waiting), [VISIBILITY]);
        waiting.renew(handle("held"), VISIBILITY);
        end(&mut waiting, &["held"]);
        assert!(begun(&mut waiting).is_empty());
        waiting.renew(handle("held"), VISIBILITY);
        assert_eq!(begun(&mut waiting), [VISIBILITY]);
    }

    #[test]
    fn what_is_hidden_anew_does_not_wait_until_there_is_nothing_to_delete() {
        let mut waiting = Waiting::default();
        let delete = |waiting: &mut Waiting| waiting.deletes.push_back(Asked::new(handle("handled")));
        delete(&mut waiting);
        assert!(matches!(Settles::take(&mut waiting, false), Some(Batch::Deletes(_))));
        delete(&mut waiting);
        assert_eq!(Settles::due(&waiting, false), 0, "the batch fills up while another is under way");
        waiting.renew(handle("held"), VISIBILITY);
        assert_eq!(Settles::due(&waiting, false), 1);
        assert!(matches!(Settles::take(&mut waiting, false), Some(Batch::Hides(_))));
        waiting.take_back(Returned::Deletes { again: Vec::new() });
        assert!(matches!(Settles::take(&mut waiting, false), Some(Batch::Deletes(_))));
        end(&mut waiting, &["held"]);
        // There is always more to delete than is under way.
        (0..5 * BATCH_MAX).for_each(|_| delete(&mut waiting));
        waiting.renew(handle("held"), VISIBILITY);
        assert!(matches!(Settles::take(&mut waiting, false), Some(Batch::Hides(_))));
    }

    #[test]
    fn what_is_refused_for_now_is_asked_again_for_a_while() {
        let refused = |code: ErrorCode| -> Result<()> { Err(Refusal::new(code.number(), None).into()) };
        let asked = || vec![Asked::new("one"), Asked::new("two"), Asked::new("three")];
        let names = |again: Vec<Asked<&'static str>>| -> Vec<_> {
            again.into_iter().map(|asked| asked.what).collect()
        };
        let results =
            vec![Ok(()), refused(ErrorCode::RequestThrottled), refused(ErrorCode::ReceiptHandleIsInvalid)];
        assert_eq!(names(asked_again("", asked(), Ok(results))), ["two"]);
        let whole = asked_again("", asked(), refused(ErrorCode::RequestThrottled).map(|()| Vec::new()));
        assert_eq!(names(whole), ["one", "two", "three"]);
        let mut late = asked();
        late[0].until = Some(Instant::now());
        let results = vec![refused(ErrorCode::RequestThrottled)];
        assert!(asked_again("", late, Ok(results)).is_empty(), "it was asked for long enough");
        let lost = Err(Error::Disconnected { reason: String::new() });
        assert!(asked_again("", asked(), lost).is_empty(), "it was repeated before");
    }
}
