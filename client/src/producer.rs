//! A producer: single sends, gathered into batches by a [crew](crate::crew).
//!
//! On a FIFO queue a group has one batch under way at a time, and within it every message but the first
//! is accepted only if the one before it was. What is refused for now goes back to the front of its
//! group and is sent again, so nothing of a group overtakes (rule 35).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenpin_protocol::{BATCH_BYTES_MAX, ErrorCode, Operation};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::crew::{Owner, Told, Work, tell_all};
use crate::error::{Error, Result};
use crate::message::{NewMessage, Sent};
use crate::queue::Queue;
use crate::retry::{Backoff, after};
use crate::room::Room;
use crate::sending::{Boards, Sending};
use crate::waiting::{Groups, Item, Waiting};

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
        let room_bytes = self.buffered_bytes_max;
        let held = Held {
            waiting: if self.queue.is_fifo() {
                Waiting::Groups(Groups::default())
            } else {
                Waiting::default()
            },
            room: Room::new(room_bytes),
            ..Held::default()
        };
        let sends = Sends { queue: self.queue, send_timeout: self.send_timeout };
        let send_timeout = self.send_timeout;
        let crew = Arc::new(Owner::new(sends, held, self.batches_in_flight_max));
        Producer { crew, room_bytes, send_timeout }
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
    crew: Arc<Owner<Sends>>,
    room_bytes: usize,
    send_timeout: Duration,
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
        // Each by itself, before others go with it.
        message.check()?;
        let bytes = message.message_bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a message has at most {BATCH_BYTES_MAX} bytes with its attributes, this one has {bytes}"
            )));
        }
        // A batch is one frame, with what the limits do not count. A message that is at the limit goes alone.
        let bytes = (bytes + message.uncounted_bytes()).min(BATCH_BYTES_MAX);
        message.set_only_if_previous_accepted(false);
        let share = share_of(bytes).min(self.room_bytes);
        let until = after(self.send_timeout);
        let mut hand_over = |held: &mut Held| {
            let (telling, sending) = held.boards.pair();
            held.waiting.push(Item { message: std::mem::take(&mut message), bytes, until, telling });
            sending
        };
        let at_once = self.crew.change(|held| {
            if held.closed {
                return Err(Error::Closed);
            }
            Ok(held.room.take(share).then(|| hand_over(held)))
        });
        if let Some(sending) = at_once.unwrap_or(Err(Error::Closed))? {
            return Ok(sending);
        }
        self.room(share).await?;
        self.crew.change(hand_over).ok_or(Error::Closed)
    }

    /// Waits for room, in turn with all others who do.
    async fn room(&self, bytes: usize) -> Result<()> {
        let (tell, told) = oneshot::channel();
        let enter = |held: &mut Held| (!held.closed).then(|| held.room.enter(bytes, tell));
        let (number, granted) = self.crew.change(enter).flatten().ok_or(Error::Closed)?;
        tell_all(granted);
        let turn = Turn { crew: &self.crew, number: Some(number), bytes };
        told.await.map_err(|_| Error::Closed)?;
        std::mem::forget(turn);
        Ok(())
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
        self.room(self.room_bytes).await?;
        drop(Turn { crew: &self.crew, number: None, bytes: self.room_bytes });
        Ok(())
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
        // Those who wait for room find out when nobody tells them.
        let waiters = self.crew.change(|held| {
            held.closed = true;
            std::mem::take(&mut held.room.waiters)
        });
        drop(waiters);
        Ok(())
    }
}

/// A place among those who wait for room, or room that was given. Dropping it gives it back.
struct Turn<'a> {
    crew: &'a Owner<Sends>,
    /// The place; `None`: it has been given room.
    number: Option<u64>,
    bytes: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let told = self.crew.change(|held| match self.number {
            Some(number) if held.room.leave(number) => held.room.give(0),
            _ => held.room.give(self.bytes),
        });
        tell_all(told.unwrap_or_default());
    }
}

/// What a producer holds.
#[derive(Debug, Default)]
struct Held {
    waiting: Waiting,
    room: Room,
    boards: Boards,
    /// How long to wait after the next refusal that may pass; `None`: the last one is forgotten.
    backoff: Option<Backoff>,
    closed: bool,
}

/// What the crew of a producer does.
#[derive(Debug)]
struct Sends {
    queue: Queue,
    send_timeout: Duration,
}

/// What came of a batch, of which those who asked have been told.
struct Returned {
    /// What is to be sent again, each with why.
    again: Vec<(Item, Error)>,
    groups: Vec<Box<str>>,
    /// Room of what is not.
    freed: usize,
}

impl Work for Sends {
    type Waiting = Held;
    type Batch = Vec<Item>;
    type Outcome = Returned;

    #[inline]
    fn due(held: &Held, partial: bool) -> usize {
        held.waiting.due(partial)
    }

    fn take(held: &mut Held, _partial: bool) -> Option<Vec<Item>> {
        Some(held.waiting.take_batch())
    }

    fn is_empty(held: &Held) -> bool {
        held.waiting.is_empty()
    }

    async fn run(&self, mut items: Vec<Item>) -> Returned {
        let span = tracing::debug_span!(parent: None, "tenpin_batch", messages = items.len());
        let outcome = self.send(&mut items).instrument(span).await;
        self.settle(items, outcome)
    }

    fn finish(&self, held: &mut Held, returned: Returned) -> (Option<tokio::time::Instant>, Told) {
        let Returned { again, groups, freed } = returned;
        let only_behind_others =
            again.iter().all(|(_, error)| error.code() == Some(ErrorCode::PreviousNotAccepted));
        let pause = if again.is_empty() || only_behind_others {
            held.backoff = None;
            None
        } else {
            let backoff = held.backoff.get_or_insert_with(fresh_backoff);
            Some(tokio::time::Instant::now() + backoff.wait())
        };
        held.waiting.put_back(again.into_iter().map(|(item, _)| item), &groups);
        (pause, held.room.give(freed))
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(5), Duration::from_secs(1))
}

impl Sends {
    async fn send(&self, items: &mut [Item]) -> Result<Vec<Result<Sent>>> {
        if self.queue.is_fifo() && !self.queue.is_content_based().await? {
            // Whatever happens to the batch: these are the same messages when they are sent again.
            items.iter_mut().for_each(|item| item.message.ensure_deduplication_id(crate::queue::fresh_id));
        }
        self.queue.send_prepared(items.iter().map(|item| &item.message)).await
    }

    /// Tells those who asked, and sorts out what is to be sent again.
    fn settle(&self, items: Vec<Item>, outcome: Result<Vec<Result<Sent>>>) -> Returned {
        let mut returned = Returned { again: Vec::new(), groups: Vec::new(), freed: 0 };
        let outcomes = match outcome {
            Ok(outcomes) => outcomes,
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        };
        let is_fifo = self.queue.is_fifo();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            if is_fifo {
                let group = item.group();
                if !returned.groups.contains(&group) {
                    returned.groups.push(group);
                }
            }
            let outcome = match outcome {
                Err(error) if may_pass(&error) && Instant::now() < item.until => {
                    returned.again.push((item, error));
                    continue;
                }
                Err(error) if error.code() == Some(ErrorCode::PreviousNotAccepted) => {
                    Err(Error::TimedOut { operation: Operation::Send, after: self.send_timeout })
                }
                outcome => outcome,
            };
            returned.freed += share_of(item.bytes);
            item.telling.tell(outcome);
        }
        returned
    }
}

/// What a message takes of a producer's room.
fn share_of(bytes: usize) -> usize {
    bytes + MESSAGE_OVERHEAD_BYTES
}

/// Whether sending the same message again may succeed.
fn may_pass(error: &Error) -> bool {
    error.is_retryable() || error.code() == Some(ErrorCode::PreviousNotAccepted)
}
