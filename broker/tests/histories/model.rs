//! What the broker must hold, as a list of messages that is looked through from end to end. Where it may lawfully be one
//! way or another (a dead letter moves when a receive comes to it, a task moves what it finds), a message says so until it
//! is seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Instant, SystemTime};

use tenpin_broker::engine::export::home_of_fifo;
use tenpin_client::{MessageId, ReceiptHandle};

use crate::ages::SentBetween;

/// Of each kind: two queues, and one for the dead letters of both.
pub const QUEUES: [&str; 6] = ["work", "other", "letters", "work.fifo", "other.fifo", "letters.fifo"];
/// Queues from this one on are FIFO queues.
pub const FIFO_FROM: usize = 3;
/// So few that histories reach it.
pub const IN_FLIGHT_MAX: usize = 9;
/// A delay that no test waits for.
pub const LONG_DELAY_SECONDS: u64 = 900;

/// Of what a handle says of its queue's incarnation.
const INCARNATION_MASK: u64 = (1 << 40) - 1;

pub fn is_fifo(queue: usize) -> bool {
    queue >= FIFO_FROM
}

/// The queue of the same kind that dead letters go to.
pub fn letters_of_kind(queue: usize) -> usize {
    queue / FIFO_FROM * FIFO_FROM + FIFO_FROM - 1
}

pub fn is_letters(queue: usize) -> bool {
    queue == letters_of_kind(queue)
}

/// By what a message is known: the number in its body, which no other has, and its group, as a body may be sent again
/// in another.
pub type Key = (u64, Option<u64>);

/// A delivery that hides its message.
#[derive(Debug, Clone)]
pub struct Held {
    /// None: nobody was told.
    pub handle: Option<ReceiptHandle>,
    /// The handle is of no use under another number of shards.
    pub is_refused: bool,
    /// It was hidden anew since.
    pub changed: bool,
    /// It was hidden for so short that it may be visible again.
    pub may_be_over: bool,
    /// It may have been made visible, or hidden anew: nobody has said.
    pub maybe_visible: bool,
    pub maybe_changed: bool,
}

impl Held {
    pub fn new(handle: Option<ReceiptHandle>, may_be_over: bool) -> Self {
        Self {
            handle,
            is_refused: false,
            changed: false,
            may_be_over,
            maybe_visible: false,
            maybe_changed: false,
        }
    }
}

/// Whether a handle names what it was issued for, as far as that hangs on the number of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is of this number of shards.
    Good,
    /// It is older, and its message has stayed on its shard.
    Stayed,
    /// It is older, and its message has not.
    Moved,
    /// It is older, and its message has come back to its shard, where it stands where it has found room: that may be
    /// where it stood.
    CameBack,
}

/// What holds a message of a standard queue back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    None,
    /// It was short, and may be over.
    Short,
    Long,
}

#[derive(Debug, Clone)]
pub struct Stored {
    pub key: Key,
    /// None: its send was not answered.
    pub id: Option<MessageId>,
    pub queue: usize,
    pub sent: SentBetween,
    /// Where it stands in its queue.
    pub order: f64,
    /// Each stay in a queue has another one.
    pub arrival: u64,
    pub attributes: Vec<(String, String, Vec<u8>)>,
    pub trace_header: Option<String>,
    /// What is known of what a FIFO queue gave it.
    pub sequence: Option<u64>,
    pub deduplication_id: Option<String>,
    pub received: u32,
    pub received_here: u32,
    /// How many of its receives a crash cannot undo (rule 1 exempts deliveries of standard queues).
    pub surely_received: u32,
    pub first_received: Option<SystemTime>,
    pub held: Option<Held>,
    pub source: Option<usize>,
    pub delay: Delay,
    /// A receive may have moved it there.
    pub maybe_letter_in: Option<usize>,
    /// A task may have moved it there.
    pub maybe_moved_to: Option<usize>,
    /// What was purged or deleted while it may have been elsewhere, what nobody has said was sent or deleted, and what
    /// expires about now.
    pub may_be_gone: bool,
    /// A receive may have taken it whose answer never came.
    pub may_be_received: bool,
}

impl Stored {
    pub fn is_unsure(&self) -> bool {
        self.may_be_gone || self.maybe_letter_in.is_some() || self.maybe_moved_to.is_some()
    }

    pub fn is_surely_in(&self, queue: usize) -> bool {
        self.queue == queue && !self.is_unsure()
    }

    pub fn may_be_in(&self, queue: usize) -> bool {
        self.queue == queue || self.maybe_letter_in == Some(queue) || self.maybe_moved_to == Some(queue)
    }

    pub fn is_surely_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.may_be_over && !held.maybe_visible)
    }

    /// Whether this is the handle of the delivery that hides it.
    pub fn is_held_by(&self, handle: &ReceiptHandle) -> bool {
        self.held.as_ref().is_some_and(|held| held.handle.as_ref() == Some(handle))
    }

    /// It is where it was last known to be.
    pub fn is_here(&mut self) {
        (self.maybe_letter_in, self.maybe_moved_to, self.may_be_gone) = (None, None, false);
    }
}

/// How a message came to where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Stayed,
    Letter,
    Task,
}

/// What a queue was set to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub visibility_seconds: u64,
    pub delay_seconds: u64,
    pub retention_seconds: u64,
    pub message_bytes_max: u64,
    /// After how many receives messages are dead letters.
    pub letters_after: Option<u32>,
    pub allow: Allow,
    pub content_based: bool,
    pub scope_is_group: bool,
    pub tags: BTreeMap<String, String>,
    /// Which queue of this name it is.
    pub incarnation: u32,
}

/// Which queues may send their dead letters to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    All,
    None,
    Only(usize),
}

impl Allow {
    pub fn allows(self, source: usize) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(allowed) => allowed == source,
        }
    }
}

/// A delivery as it was given out.
#[derive(Debug, Clone)]
pub struct Issued {
    pub queue: usize,
    pub incarnation: u32,
    pub key: Key,
    pub arrival: u64,
    pub handle: ReceiptHandle,
}

/// A move task that may move messages.
#[derive(Debug, Clone)]
pub struct Active {
    pub letters: usize,
    /// None: each to its own source.
    pub destination: Option<usize>,
    /// Messages that it was seen to have moved.
    pub seen_moved: u64,
    /// What it has moved at least, by its own word.
    pub moved: u64,
    pub to_move: u64,
    /// A message that may have been deleted where it lay or where it went.
    pub is_inexact: bool,
}

/// A FIFO queue's memory: queue, incarnation, group where that is the scope, id.
pub type Remembered = (usize, u32, Option<u64>, String);

pub struct Model {
    pub settings: Vec<Settings>,
    pub stored: BTreeMap<Key, Stored>,
    pub remembered: BTreeMap<Remembered, (MessageId, Option<u64>, u64)>,
    /// By queue, incarnation and attempt id: what was given.
    pub attempts: BTreeMap<(usize, u32, u64), Vec<(Key, ReceiptHandle)>>,
    pub issued: Vec<Issued>,
    pub used: BTreeSet<Key>,
    pub task: Option<Active>,
    /// The last sequence number that a send to a queue was given.
    pub last_sequence: BTreeMap<(usize, u32), u64>,
    /// The numbers of shards that the folder was given.
    pub reshards: Vec<usize>,
    /// Of how many of these each handle knows.
    pub issued_after: HashMap<ReceiptHandle, usize>,
    /// Queues and groups that messages were seen to have left for another shard: theirs may not have heard that yet.
    pub leaving: Vec<(usize, Option<u64>)>,
    next: u64,
}

impl Settings {
    /// What a queue is made with.
    pub fn of(queue: usize, incarnation: u32) -> Self {
        let is_other_fifo = queue == FIFO_FROM + 1;
        Self {
            visibility_seconds: 7_200,
            delay_seconds: 0,
            retention_seconds: 345_600,
            message_bytes_max: 1_048_576,
            letters_after: (!is_letters(queue)).then_some(1),
            allow: Allow::All,
            content_based: is_other_fifo,
            scope_is_group: is_other_fifo,
            tags: BTreeMap::new(),
            incarnation,
        }
    }
}

impl Model {
    pub fn new() -> Self {
        Self {
            settings: (0..QUEUES.len()).map(|queue| Settings::of(queue, 0)).collect(),
            stored: BTreeMap::new(),
            remembered: BTreeMap::new(),
            attempts: BTreeMap::new(),
            issued: Vec::new(),
            used: BTreeSet::new(),
            task: None,
            last_sequence: BTreeMap::new(),
            reshards: Vec::new(),
            issued_after: HashMap::new(),
            leaving: Vec::new(),
            next: 0,
        }
    }

    /// A number that was not used before.
    pub fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn incarnation(&self, queue: usize) -> u32 {
        self.settings[queue].incarnation
    }

    pub fn store(&mut self, message: Stored) {
        let before = self.stored.insert(message.key, message);
        assert!(before.is_none(), "the test uses a number once: {before:?}");
    }

    /// Where dead letters of a queue go now, and after how many receives.
    pub fn letters(&self, queue: usize) -> Option<(usize, u32)> {
        let target = letters_of_kind(queue);
        let after = self.settings[queue].letters_after?;
        self.settings[target].allow.allows(queue).then_some((target, after))
    }

    pub fn is_letter(&self, message: &Stored) -> bool {
        self.letters(message.queue).is_some_and(|(_, after)| message.received_here >= after)
    }

    /// Whether its delay hides it. On a FIFO queue the delay is the queue's, and holds for what nobody has received.
    pub fn delay_of(&self, message: &Stored) -> Delay {
        match () {
            () if message.received > 0 => Delay::None,
            () if !is_fifo(message.queue) => message.delay,
            () if self.settings[message.queue].delay_seconds > 0 => Delay::Long,
            () => Delay::None,
        }
    }

    /// A receive comes to a queue: what is a dead letter there may move.
    pub fn note_receive(&mut self, queue: usize) {
        let Some((target, after)) = self.letters(queue) else { return };
        for message in self.stored.values_mut().filter(|message| message.queue == queue) {
            if !message.is_surely_held() && message.received_here >= after && message.delay != Delay::Long {
                message.maybe_letter_in = Some(target);
            }
        }
    }

    /// What the task that is active may have moved by now.
    pub fn note_task(&mut self) {
        let Some(Active { letters, destination, .. }) = self.task else { return };
        let is_delayed = self.long_delayed();
        for message in self.stored.values_mut().filter(|message| !is_delayed.contains(&message.key)) {
            let source = match message.queue {
                queue if queue == letters => message.source,
                queue => Some(queue),
            };
            let may_be_there = message.queue == letters || message.maybe_letter_in == Some(letters);
            if may_be_there && !message.is_surely_held() {
                message.maybe_moved_to = message.maybe_moved_to.or(destination.or(source));
            }
        }
    }

    /// At least and at most so many messages of a queue are in flight.
    pub fn in_flight(&self, queue: usize) -> (usize, usize) {
        let count = |is: &dyn Fn(&Stored) -> bool| self.stored.values().filter(|message| is(message)).count();
        let surely =
            count(&|message| message.queue == queue && message.is_surely_held() && !message.may_be_gone);
        // What moves to another shard is counted in flight until its own has heard that it has arrived.
        let may_be = |message: &Stored| message.held.is_some() || message.is_unsure();
        let leaving = self.leaving.iter().filter(|left| left.0 == queue).count();
        let perhaps = count(&|message| message.queue == queue && may_be(message)) + leaving;
        (surely, perhaps)
    }

    /// What a receive may have given whose answer did not come.
    pub fn note_lost_receive(&mut self, queue: usize) {
        let is_delayed: BTreeSet<Key> = self.long_delayed();
        for message in self.stored.values_mut() {
            message.may_be_received |=
                message.may_be_in(queue) && !message.is_surely_held() && !is_delayed.contains(&message.key);
        }
    }

    fn long_delayed(&self) -> BTreeSet<Key> {
        let is_delayed = |message: &&Stored| self.delay_of(message) == Delay::Long;
        self.stored.values().filter(is_delayed).map(|message| message.key).collect()
    }

    /// Whether a receive that does not wait must give something, on whatever shard that is.
    pub fn must_give(&self, queue: usize) -> bool {
        let is_free = |message: &&Stored| {
            message.is_surely_in(queue)
                && message.held.is_none()
                && self.delay_of(message) == Delay::None
                && !(is_fifo(queue) && self.is_blocked(message))
        };
        self.in_flight(queue).1 < IN_FLIGHT_MAX && self.stored.values().any(|message| is_free(&message))
    }

    /// Whether something of its group is in flight, or on the way out, or delayed before it.
    fn is_blocked(&self, message: &Stored) -> bool {
        self.leaving.contains(&(message.queue, message.key.1))
            || self.stored.values().any(|other| {
                other.key.1 == message.key.1
                    && other.may_be_in(message.queue)
                    && other.key != message.key
                    && (other.held.is_some()
                        || other.is_unsure()
                        || (other.order < message.order && self.delay_of(other) != Delay::None))
            })
    }

    /// How a handle of a queue stands after changes of the number of shards.
    pub fn standing(&self, queue: usize, handle: &ReceiptHandle) -> Standing {
        let Some(&after) = self.issued_after.get(handle) else { return Standing::Good };
        // Handles say on which shard their message is; clients send them there.
        let bytes = handle.as_bytes();
        let shard = u16::from_le_bytes([bytes[0], bytes[1]]);
        let mut since = self.reshards[after..].iter().map(|shards| *shards as u16);
        if !is_fifo(queue) {
            return match since.len() {
                0 => Standing::Good,
                _ if since.any(|shards| shard >= shards) => Standing::Moved,
                _ => Standing::Stayed,
            };
        }
        let incarnation =
            u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")) & INCARNATION_MASK;
        let homes: Vec<u16> = since.map(|shards| home_of_fifo(incarnation, shards)).collect();
        match homes.last() {
            None => Standing::Good,
            Some(_) if homes.iter().all(|home| *home == shard) => Standing::Stayed,
            Some(home) if *home == shard => Standing::CameBack,
            Some(_) => Standing::Moved,
        }
    }

    /// Whether a message is hidden by a delivery whose handle nobody has, or stands behind such a one.
    pub fn is_stuck(&self, message: &Stored) -> bool {
        let is_lost = |other: &&Stored| {
            other.queue == message.queue
                && other.is_surely_held()
                && other.held.as_ref().is_some_and(|held| held.handle.is_none() || held.is_refused)
        };
        let lost: Vec<_> = self.stored.values().filter(is_lost).collect();
        let is_before = |other: &&Stored| {
            other.key == message.key || (is_fifo(message.queue) && other.key.1 == message.key.1)
        };
        lost.len() >= IN_FLIGHT_MAX || lost.iter().any(is_before)
    }

    /// How a message came to where it was seen under this id, if it may have.
    pub fn path(&self, message: &Stored, queue: usize, id: MessageId) -> Option<Path> {
        let is_same = message.id.is_none_or(|known| known == id);
        match () {
            () if message.queue == queue && is_same => Some(Path::Stayed),
            () if message.maybe_letter_in == Some(queue) && is_same => Some(Path::Letter),
            () if message.maybe_moved_to == Some(queue) && message.id != Some(id) => Some(Path::Task),
            () => None,
        }
    }

    /// It was seen to have come this way.
    pub fn arrive(&mut self, key: Key, queue: usize, id: MessageId, path: Path, order: f64) {
        let (arrival, delay_seconds) = (self.next(), self.settings[queue].delay_seconds);
        let message = self.stored.get_mut(&key).expect("it was seen");
        message.is_here();
        if path == Path::Stayed {
            return;
        }
        let from = std::mem::replace(&mut message.queue, queue);
        self.leaving.push((from, key.1));
        (message.arrival, message.order, message.sequence, message.held) = (arrival, order, None, None);
        message.received_here = 0;
        if path == Path::Task || is_fifo(queue) {
            message.sent.latest = Instant::now();
        }
        message.surely_received = message.received;
        if path == Path::Letter {
            message.source = Some(from);
            message.delay = Delay::None;
            if is_fifo(queue) {
                message.deduplication_id = Some(id.to_string());
            }
            return;
        }
        message.id = Some(id);
        (message.source, message.deduplication_id, message.first_received) = (None, None, None);
        (message.received, message.surely_received) = (0, 0);
        message.delay = if delay_seconds > 0 { Delay::Long } else { Delay::None };
        if let Some(task) = &mut self.task {
            task.seen_moved += 1;
        }
    }

    /// Where a message of this group goes that is at its head now, but for these.
    pub fn order_before(&self, queue: usize, group: Option<u64>, taken: &[Key]) -> Option<f64> {
        // What a task may have taken away stands behind it, if it is there.
        let is_behind = |message: &&Stored| {
            message.queue == queue && message.key.1 == group && !taken.contains(&message.key)
        };
        let orders = self.stored.values().filter(is_behind).map(|message| message.order);
        orders.reduce(f64::min).map(|first| self.just_before(first))
    }

    /// A place directly before another.
    pub fn just_before(&self, order: f64) -> f64 {
        let before = self.stored.values().map(|message| message.order).filter(|other| *other < order);
        (before.fold(0.0, f64::max) + order) / 2.0
    }

    /// The messages that surely are in a queue, of a group of it, in their order.
    pub fn in_order(&self, queue: usize, group: Option<u64>) -> Vec<&Stored> {
        let is_of = |message: &&Stored| message.is_surely_in(queue) && message.key.1 == group;
        let mut messages: Vec<_> = self.stored.values().filter(is_of).collect();
        messages.sort_by(|one, other| one.order.total_cmp(&other.order));
        messages
    }

    /// All messages of a queue are gone, and so is what it remembered.
    pub fn forget(&mut self, queue: usize) {
        self.stored.retain(|_, message| !message.is_surely_in(queue));
        self.next += 1;
        for message in self.stored.values_mut().filter(|message| message.may_be_in(queue)) {
            message.may_be_gone = true;
            if message.queue == queue {
                // If it is anywhere, it is not here any more.
                (message.held, message.arrival) = (None, self.next);
            }
        }
        self.remembered.retain(|remembered, _| remembered.0 != queue);
    }
}
