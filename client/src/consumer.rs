//! A consumer: a handler that is run for each message, with everything around it.
//!
//! A task receives ahead by long polls, as much as its workers will take soon. Workers run the handler,
//! each for one message at a time; messages of one group wait for each other. While a message is held
//! it stays hidden. What the handler has done is deleted, in batches; what it has not comes back, at
//! once, later, or when its visibility timeout has passed. A handler that panics costs its message one
//! visibility timeout and nothing else.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::Instrument;

use crate::batcher::Settler;
use crate::error::Result;
use crate::message::Message;
use crate::prefetch::Holdings;
use crate::queue::{Queue, Receive};
use crate::retry::Backoff;
use crate::shift::Shift;

/// Messages in a receive at most.
const RECEIVE_MAX: usize = 10;
/// How long a receive waits for a first message.
const WAIT: Duration = Duration::from_secs(20);
/// Receives that are under way at once.
const RECEIVERS_MAX: usize = 8;

/// What is to become of a message that was handled. A handler may also give a `Result`: `Ok` deletes
/// the message, `Err` is [`Outcome::Failed`].
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # use std::time::Duration;
/// # example::run(async |client, queue| {
/// use tenpin_client::Outcome;
/// let outcome = |text: &str| match text {
///     "" => Outcome::Delete,
///     "later" => Outcome::Retry(Duration::from_secs(60)),
///     _ => Outcome::Failed,
/// };
/// assert_eq!(Outcome::from(()), outcome(""), "what gives nothing is done");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: delete it.
    Delete,
    /// It comes back when its visibility timeout has passed.
    Leave,
    /// It comes back after this time: at most 12 hours, in whole seconds; zero is at once.
    Retry(Duration),
    /// It failed: it comes back as the consumer is told to do with errors.
    Failed,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Delete
    }
}

impl<E: fmt::Display> From<std::result::Result<(), E>> for Outcome {
    fn from(result: std::result::Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Delete,
            Err(error) => {
                tracing::warn!(%error, "a message was not handled");
                Self::Failed
            }
        }
    }
}

/// When a message comes back whose handler failed.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # use std::time::Duration;
/// # example::run(async |client, queue| {
/// use tenpin_client::OnError;
/// let on_error = OnError::BackOff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
/// let consumer = queue.consumer().on_error(on_error);
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// When its visibility timeout has passed.
    Leave,
    /// After a time that doubles with each receive, from `first` up to `max`.
    BackOff {
        /// After the first receive.
        first: Duration,
        /// At most.
        max: Duration,
    },
}

impl OnError {
    fn outcome(self, receive_count: u32) -> Outcome {
        match self {
            Self::Leave => Outcome::Leave,
            Self::BackOff { first, max } => {
                let doublings = receive_count.saturating_sub(1).min(20);
                Outcome::Retry(first.saturating_mul(1 << doublings).min(max))
            }
        }
    }
}

/// Options of a consumer, and its run; [`Queue::consumer`] begins them.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_address(async |address| {
/// let client = tenpin_client::Client::connect(address).await?;
/// let queue = client.create_queue("orders").await?;
/// queue.send("a first order").await?;
/// // This one stops after a message; a program would give `tokio::signal::ctrl_c()`.
/// let handled = std::sync::Arc::new(tokio::sync::Notify::new());
/// let stop = handled.clone().notified_owned();
/// queue
///     .consumer()
///     .concurrency(8)
///     .run_until(stop, move |message| {
///         handled.notify_one();
///         async move {
///             println!("{}", message.text()?);
///             Ok::<(), std::str::Utf8Error>(())
///         }
///     })
///     .await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Consumer {
    queue: Queue,
    concurrency: usize,
    prefetch: Option<usize>,
    visibility: Duration,
    on_error: OnError,
}

impl Consumer {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            concurrency: 10,
            prefetch: None,
            visibility: Duration::from_secs(30),
            on_error: OnError::Leave,
        }
    }

    /// Handlers that run at once (10).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let one_after_the_other = queue.consumer().concurrency(1);
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// Messages held beside those that are being handled (as many as handlers, 10 at least).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let consumer = queue.consumer().concurrency(10).prefetch(100);
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = Some(messages);
        self
    }

    /// For how long a message is hidden at a time (30 s); while its handler runs it is hidden anew. It
    /// is also the time after which a message comes back whose consumer has died.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let consumer = queue.consumer().visibility_timeout(Duration::from_secs(120));
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility = timeout.max(Duration::from_secs(1));
        self
    }

    /// When a message comes back whose handler failed (when its visibility timeout has passed).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let (tried, mut tries) = tokio::sync::mpsc::unbounded_channel();
    /// let on_error = tenpin_client::OnError::BackOff { first: Duration::ZERO, max: Duration::ZERO };
    /// queue
    ///     .consumer()
    ///     .on_error(on_error)
    ///     .run_until(async { (tries.recv().await, tries.recv().await) }, move |message| {
    ///         tried.send(message.receive_count()).ok();
    ///         std::future::ready(Err::<(), _>("not today"))
    ///     })
    ///     .await?;
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Handles messages until something fails that will not pass by itself. Dropping the future ends the
    /// handlers that run and makes what is held visible for others.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.delete_queue().await?;
    /// let ended = queue.consumer().run(|message| async move { println!("{message:?}") }).await;
    /// assert!(ended.is_err(), "the queue is gone, and nothing else ends it");
    /// # Ok(()) });
    /// ```
    pub async fn run<H, F, O>(self, handler: H) -> Result<()>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        self.run_until(std::future::pending::<()>(), handler).await
    }

    /// Handles messages until `stop` resolves; then no more are received, handlers that run come to
    /// their end, what they have done is deleted, and what was not begun is visible again.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// let (handled, stop) = tokio::sync::oneshot::channel::<()>();
    /// let handled = std::sync::Mutex::new(Some(handled));
    /// // A program would give `tokio::signal::ctrl_c()` here.
    /// queue
    ///     .consumer()
    ///     .run_until(stop, move |message| {
    ///         println!("{message:?}");
    ///         handled.lock().unwrap().take();
    ///         std::future::ready(())
    ///     })
    ///     .await?;
    /// assert!(queue.receive().await?.is_empty(), "it is deleted");
    /// # Ok(()) });
    /// ```
    pub async fn run_until<S, H, F, O>(self, stop: S, handler: H) -> Result<()>
    where
        S: Future,
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        let (settler, finished) = Settler::start(self.queue.clone());
        let holdings = Holdings::new(settler, self.visibility);
        let keeper = tokio::spawn(Holdings::keep_hidden(Arc::downgrade(&holdings), self.visibility));
        let result = self.work(stop, Arc::new(handler), holdings).await;
        keeper.abort();
        finished.wait().await;
        result
    }

    async fn work<S, H, F, O>(&self, stop: S, handler: Arc<H>, holdings: Arc<Holdings>) -> Result<()>
    where
        S: Future,
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        let prefetch = self.prefetch.unwrap_or(self.concurrency.max(RECEIVE_MAX));
        let room = self.concurrency + prefetch;
        let shift = Arc::new(Shift::new(room, self.queue.is_fifo()));
        // Sets of tasks, which end with the future that this is, should it be dropped.
        let mut receivers = JoinSet::new();
        for _ in 0..room.div_ceil(2 * RECEIVE_MAX).min(RECEIVERS_MAX) {
            receivers.spawn(receive(
                self.queue.clone(),
                self.visibility,
                Arc::clone(&shift),
                holdings.clone(),
            ));
        }
        let mut workers = JoinSet::new();
        for _ in 0..self.concurrency {
            workers.spawn(work(Arc::clone(&shift), Arc::clone(&handler), self.on_error));
        }
        drop(holdings);
        tokio::select! {
            _ = stop => {}
            () = shift.ended() => {}
        }
        receivers.abort_all();
        shift.stop();
        while workers.join_next().await.is_some() {}
        // They were told to end; what they were given after that is handed back.
        while receivers.join_next().await.is_some() {}
        shift.stop();
        shift.failure().map_or(Ok(()), Err)
    }
}

/// Receives as much as there is room for, until it is told to stop or fails for good.
async fn receive(queue: Queue, visibility: Duration, shift: Arc<Shift>, holdings: Arc<Holdings>) {
    let mut backoff = fresh_backoff();
    loop {
        let room = shift.reserve().await;
        let count = u8::try_from(room).expect("a receive has at most ten messages");
        let asked = Receive::up_to(count).wait(WAIT).visibility_timeout(visibility);
        match queue.receive_with(&asked).await {
            Ok(messages) => {
                backoff = fresh_backoff();
                shift.give_room_back(room - messages.len().min(room));
                shift.push(holdings.hold(messages));
            }
            Err(error) if error.is_retryable() => {
                shift.give_room_back(room);
                tracing::warn!(%error, "receiving failed; trying again");
                tokio::time::sleep(backoff.wait()).await;
            }
            Err(error) => return shift.fail(error),
        }
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}

/// Handles one message after the other.
async fn work<H, F, O>(shift: Arc<Shift>, handler: Arc<H>, on_error: OnError)
where
    H: Fn(Message) -> F,
    F: Future<Output = O>,
    O: Into<Outcome> + 'static,
{
    let mut next = shift.next().await;
    while let Some(mut held) = next {
        let group = shift.group_of(held.message());
        let message = held.give();
        let (id, receive_count) = (message.id(), message.receive_count());
        // What a handler says stands with its message.
        let span = tracing::info_span!("tenpin_message", %id, receive_count);
        let outcome = match run_handler(&*handler, message).instrument(span).await {
            Ok(Outcome::Failed) => on_error.outcome(receive_count),
            Ok(outcome) => outcome,
            Err(()) => {
                tracing::error!(%id, "a handler panicked; its message comes back later");
                Outcome::Leave
            }
        };
        next = match shift.settle(held, group, outcome) {
            Some(held) => Some(held),
            None => shift.next().await,
        };
    }
}

/// Runs a handler; an error is a panic.
async fn run_handler<H, F, O>(handler: &H, message: Message) -> std::result::Result<Outcome, ()>
where
    H: Fn(Message) -> F,
    F: Future<Output = O>,
    O: Into<Outcome> + 'static,
{
    // What a handler that panics leaves behind is its own affair: it is not run again.
    let called = std::panic::catch_unwind(AssertUnwindSafe(|| handler(message)));
    let mut running = pin!(called.map_err(drop)?);
    std::future::poll_fn(|context| {
        // What its outcome is made of may be the caller's code as well.
        let polled = AssertUnwindSafe(|| running.as_mut().poll(context).map(Into::into));
        match std::panic::catch_unwind(polled) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    })
    .await
}
