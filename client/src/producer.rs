//! A producer: single sends, gathered into batches.
//!
//! One task owns what waits to be sent. While nothing is under way a message leaves at once, alone if
//! need be; while batches are under way the next ones fill up, so that a busy producer sends tens and an
//! idle one adds no latency. No timer is involved.
//!
//! On a FIFO queue a group has one batch under way at a time, and within it every message but the first
//! is accepted only if the one before it was. What is refused for now goes back to the front of its
//! group and is sent again, so nothing of a group overtakes (rule 35).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tenpin_protocol::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, ErrorCode, Operation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::error::{Error, Result};
use crate::message::{NewMessage, Sent};
use crate::queue::Queue;
use crate::retry::Backoff;

/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;
/// What a message counts beside its own bytes, in what a producer may hold.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Options of a producer; [`Queue::producer`] begins them.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # use std::time::Duration;
/// # example::run(async |client, queue| {
/// let producer = queue.producer().send_timeout(Duration::from_secs(10)).start();
/// producer.send("a first order").await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    queue: Queue,
    batches_in_flight_max: usize,
    buffered_bytes_max: usize,
    send_timeout: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            batches_in_flight_max: 16,
            buffered_bytes_max: 8 << 20,
            send_timeout: Duration::from_secs(60),
        }
    }

    /// Batches under way at once (16).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let one_at_a_time = queue.producer().batches_in_flight_max(1).start();
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn batches_in_flight_max(mut self, batches: usize) -> Self {
        self.batches_in_flight_max = batches.max(1);
        self
    }

    /// Bytes of messages that the producer holds (8 MiB); who sends more waits.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().buffered_bytes_max(64 << 20).start();
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.buffered_bytes_max = bytes.max(2 << 20);
        self
    }

    /// For how long a message is sent again where the broker cannot be reached or has no room (60 s).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let impatient = queue.producer().send_timeout(Duration::from_secs(1)).start();
    /// # Ok(()) });
    /// ```
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// Starts it, on the runtime of the caller.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// producer.send("a first order").await?;
    /// # Ok(()) });
    /// ```
    pub fn start(self) -> Producer {
        let room_bytes = self.buffered_bytes_max.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(room_bytes));
        // The room is the bound: a message in the channel holds its share of it.
        let (give, take) = mpsc::unbounded_channel();
        let is_fifo = self.queue.is_fifo();
        let task = Task {
            queue: self.queue,
            batches_in_flight_max: self.batches_in_flight_max,
            send_timeout: self.send_timeout,
            waiting: if is_fifo {
                Waiting::Groups(Groups::default())
            } else {
                Waiting::Plain(VecDeque::new())
            },
            in_flight: JoinSet::new(),
            pause: None,
            backoff: fresh_backoff(),
        };
        tokio::spawn(task.run(take));
        Producer { give, room, room_bytes }
    }
}

/// Sends single messages in batches. Cloning is cheap, and clones share the batches. What was handed
/// over is sent also when the last clone is gone, as long as the runtime lives; [`Producer::close`]
/// waits for it.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_address(async |address| {
/// let client = tenpin_client::Client::connect(address).await?;
/// let producer = client.create_queue("orders").await?.producer().start();
/// // One after the other, each acknowledged when it is stored:
/// producer.send("first").await?;
/// // Or many under way at once:
/// let mut sends = Vec::new();
/// for number in 0..1_000 {
///     sends.push(producer.enqueue(format!("order {number}")).await?);
/// }
/// for send in sends {
///     println!("{}", send.await?.id);
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    give: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    room_bytes: usize,
}

/// A message on its way; as a future, it gives what became of it. Dropping it lets the message go on
/// its way unheeded.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// let producer = queue.producer().start();
/// let (first, second) = (producer.enqueue("first").await?, producer.enqueue("second").await?);
/// println!("stored as {} and {}", first.await?.id, second.await?.id);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Sending {
    outcome: oneshot::Receiver<Result<Sent>>,
}

impl Future for Sending {
    type Output = Result<Sent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(Error::Closed)))
    }
}

impl Producer {
    /// Sends a message and waits until it is stored.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// println!("stored as {}", producer.send("a first order").await?.id);
    /// # Ok(()) });
    /// ```
    pub async fn send(&self, message: impl Into<NewMessage>) -> Result<Sent> {
        self.enqueue(message).await?.await
    }

    /// Hands a message over, waiting only for room. Messages handed over one after the other are sent
    /// in that order; on FIFO queues they are also stored in it, group by group.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// let sending = producer.enqueue("a first order").await?;
    /// println!("stored as {}", sending.await?.id);
    /// # Ok(()) });
    /// ```
    pub async fn enqueue(&self, message: impl Into<NewMessage>) -> Result<Sending> {
        let mut message = message.into();
        let bytes = message.message_bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a message has at most {BATCH_BYTES_MAX} bytes with its attributes, this one has {bytes}"
            )));
        }
        let share = (bytes + MESSAGE_OVERHEAD_BYTES).min(self.room_bytes);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await.map_err(|_| Error::Closed)?;
        message.set_only_if_previous_accepted(false);
        let (tell, outcome) = oneshot::channel();
        let item = Item { message, bytes, until: None, tell, _room: room };
        self.give.send(item).map_err(|_| Error::Closed)?;
        Ok(Sending { outcome })
    }

    /// Waits until everything that was handed over so far, by all clones, is stored or refused.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// for number in 0..100 {
    ///     producer.enqueue(format!("order {number}")).await?;
    /// }
    /// producer.flush().await?;
    /// assert_eq!(queue.stats().await?.visible(), 100);
    /// # Ok(()) });
    /// ```
    pub async fn flush(&self) -> Result<()> {
        let all = u32::try_from(self.room_bytes).unwrap_or(u32::MAX);
        self.room.acquire_many(all).await.map(drop).map_err(|_| Error::Closed)
    }

    /// Waits for what is on its way; messages handed over from now on are refused.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// let producer = queue.producer().start();
    /// producer.enqueue("the last order").await?;
    /// producer.close().await?;
    /// assert_eq!(queue.stats().await?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub async fn close(self) -> Result<()> {
        self.flush().await?;
        self.room.close();
        Ok(())
    }
}

/// A message that waits, and who wants to know what becomes of it.
#[derive(Debug)]
struct Item {
    message: NewMessage,
    bytes: usize,
    /// Until when it is sent again; set when the task takes it.
    until: Option<Instant>,
    tell: oneshot::Sender<Result<Sent>>,
    /// Its share of what the producer may hold.
    _room: OwnedSemaphorePermit,
}

impl Item {
    fn settle(self, outcome: Result<Sent>) {
        // Nobody may be waiting any more.
        let _ = self.tell.send(outcome);
    }
}

/// A batch that came back.
struct Returned {
    items: Vec<Item>,
    outcome: Result<Vec<Result<Sent>>>,
}

enum Waiting {
    Plain(VecDeque<Item>),
    Groups(Groups),
}

/// What waits on a FIFO queue: each group in its order, and the groups that may send in theirs.
#[derive(Default)]
struct Groups {
    by_name: HashMap<Box<str>, Group>,
    ready: VecDeque<Box<str>>,
    count: usize,
}

#[derive(Default)]
struct Group {
    items: VecDeque<Item>,
    in_flight: bool,
}

struct Task {
    queue: Queue,
    batches_in_flight_max: usize,
    send_timeout: Duration,
    waiting: Waiting,
    in_flight: JoinSet<Returned>,
    /// Until when nothing is sent, after a refusal that may pass.
    pause: Option<tokio::time::Instant>,
    backoff: Backoff,
}

fn fresh_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(5), Duration::from_secs(1))
}

impl Task {
    async fn run(mut self, mut take: mpsc::UnboundedReceiver<Item>) {
        let mut arrived = Vec::new();
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.in_flight.is_empty() {
            self.send_what_may();
            let pause = self.pause;
            tokio::select! {
                count = take.recv_many(&mut arrived, 1_024), if open => {
                    open = count > 0;
                    let until = Some(Instant::now() + self.send_timeout);
                    for item in arrived.drain(..) {
                        self.waiting.push(Item { until, ..item });
                    }
                }
                Some(returned) = self.in_flight.join_next() => match returned {
                    Ok(returned) => self.take_back(returned),
                    // Its items are gone with it, and so those who wait for them are told.
                    Err(error) => tracing::error!(%error, "a batch was lost"),
                },
                () = tokio::time::sleep_until(pause.unwrap_or_else(tokio::time::Instant::now)), if pause.is_some() => {
                    self.pause = None;
                }
            }
        }
    }

    /// Full batches leave while there is room for them, a smaller one when nothing is under way.
    fn send_what_may(&mut self) {
        while self.pause.is_none() && self.in_flight.len() < self.batches_in_flight_max {
            let items = self.waiting.take_batch(self.in_flight.is_empty());
            if items.is_empty() {
                return;
            }
            let queue = self.queue.clone();
            let span = tracing::debug_span!(parent: None, "tenpin_batch", messages = items.len());
            self.in_flight.spawn(send(queue, items).instrument(span));
        }
    }

    fn take_back(&mut self, returned: Returned) {
        let Returned { items, outcome } = returned;
        let outcomes = match outcome {
            Ok(outcomes) => outcomes,
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        };
        let now = Instant::now();
        let mut again = Vec::new();
        let mut groups: Vec<Box<str>> = Vec::new();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            if let Waiting::Groups(_) = self.waiting {
                let group = group_of(&item);
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
            match outcome {
                Err(error) if may_pass(&error) && item.until.is_some_and(|until| now < until) => {
                    again.push((item, error))
                }
                Err(error) if may_pass(&error) && error.code() == Some(ErrorCode::PreviousNotAccepted) => {
                    let after = self.send_timeout;
                    item.settle(Err(Error::TimedOut { operation: Operation::Send, after }));
                }
                outcome => item.settle(outcome),
            }
        }
        let only_behind_others =
            again.iter().all(|(_, error)| error.code() == Some(ErrorCode::PreviousNotAccepted));
        if again.is_empty() || only_behind_others {
            self.backoff = fresh_backoff();
        } else {
            self.pause = Some(tokio::time::Instant::now() + self.backoff.wait());
        }
        self.waiting.put_back(again.into_iter().map(|(item, _)| item), &groups);
    }
}

async fn send(queue: Queue, mut items: Vec<Item>) -> Returned {
    if queue.is_fifo() {
        // Whatever happens to the batch: these are the same messages when they are sent again.
        match queue.is_content_based().await {
            Ok(true) => {}
            Ok(false) => {
                items.iter_mut().for_each(|item| item.message.ensure_deduplication_id(crate::queue::fresh_id))
            }
            Err(error) => return Returned { items, outcome: Err(error) },
        }
    }
    let messages: Vec<_> = items.iter_mut().map(|item| std::mem::take(&mut item.message)).collect();
    let outcome = queue.send_batch(&messages).await;
    for (item, message) in items.iter_mut().zip(messages) {
        item.message = message;
    }
    Returned { items, outcome }
}

/// Whether sending the same message again may succeed.
fn may_pass(error: &Error) -> bool {
    error.is_retryable() || error.code() == Some(ErrorCode::PreviousNotAccepted)
}

fn group_of(item: &Item) -> Box<str> {
    item.message.group_id().unwrap_or_default().into()
}

impl Waiting {
    fn is_empty(&self) -> bool {
        match self {
            Self::Plain(items) => items.is_empty(),
            Self::Groups(groups) => groups.count == 0,
        }
    }

    fn push(&mut self, item: Item) {
        match self {
            Self::Plain(items) => items.push_back(item),
            Self::Groups(groups) => {
                groups.push(item);
            }
        }
    }

    /// The next batch; less than a full one only if `partial`.
    fn take_batch(&mut self, partial: bool) -> Vec<Item> {
        match self {
            Self::Plain(items) => {
                let (mut count, mut bytes) = (0, 0);
                for item in items.iter().take(BATCH_MAX) {
                    bytes += item.bytes;
                    if bytes > BATCH_BYTES_MAX {
                        break;
                    }
                    count += 1;
                }
                let is_full = count == BATCH_MAX || bytes > BATCH_BYTES_MAX;
                if is_full || partial { items.drain(..count).collect() } else { Vec::new() }
            }
            Self::Groups(groups) => groups.take_batch(partial),
        }
    }

    /// Items that are to be sent again, in their order, before what waits; these groups have nothing
    /// under way any more.
    fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item>, groups_back: &[Box<str>]) {
        match self {
            Self::Plain(waiting) => items.rev().for_each(|item| waiting.push_front(item)),
            Self::Groups(groups) => groups.put_back(items, groups_back),
        }
    }
}

impl Groups {
    fn push(&mut self, item: Item) {
        let name = group_of(&item);
        self.count += 1;
        let group = self.by_name.entry(name.clone()).or_default();
        group.items.push_back(item);
        if group.items.len() == 1 && !group.in_flight {
            self.ready.push_back(name);
        }
    }

    fn take_batch(&mut self, partial: bool) -> Vec<Item> {
        let ready =
            self.ready.iter().map(|name| self.by_name[name].items.len()).take(BATCH_MAX).sum::<usize>();
        if ready < BATCH_MAX && !partial {
            return Vec::new();
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_MAX {
            let Some(name) = self.ready.front() else { break };
            let group = self.by_name.get_mut(name).expect("a group that is ready is there");
            let fits = |item: &Item, bytes| bytes + item.bytes <= BATCH_BYTES_MAX;
            if group.items.front().is_none_or(|item| !fits(item, bytes)) {
                break;
            }
            let mut is_first = true;
            while batch.len() < BATCH_MAX
                && let Some(item) = group.items.front()
                && fits(item, bytes)
                && let Some(mut item) = group.items.pop_front()
            {
                item.message.set_only_if_previous_accepted(!is_first);
                is_first = false;
                bytes += item.bytes;
                batch.push(item);
                self.count -= 1;
            }
            group.in_flight = true;
            self.ready.pop_front();
        }
        batch
    }

    fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item>, groups_back: &[Box<str>]) {
        for item in items.rev() {
            self.count += 1;
            let group = self.by_name.entry(group_of(&item)).or_default();
            group.items.push_front(item);
        }
        for name in groups_back {
            let Some(group) = self.by_name.get_mut(name) else { continue };
            group.in_flight = false;
            if group.items.is_empty() {
                self.by_name.remove(name);
            } else {
                self.ready.push_back(name.clone());
            }
        }
    }
}
