//! A queue as the engine holds it, and the table of all.
//!
//! Messages that were never delivered stand in a list through their slots, which is in the order of
//! their sequences and so of their times. The few that became visible later stand in an ordered map.
//! The next message to give out is the smaller of the two heads (rule 18). What is hidden or delayed
//! is in neither; the wheel has it.
//!
//! On a FIFO queue the list has all messages, and what is next is told by its ready groups: see `fifo.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::fair::Fair;
use super::queue_number::{index_of, number_of};
use super::queue_state::{Definition, QueueState};
use super::ready::ReadyGroups;
use super::slot::NONE;
use super::wheel::{Links, TimerLinks};
use crate::catalog::{Attributes, BoxedDetails, QueueName};
use crate::journal::Position;

/// When a message became visible, and its sequence: the order in which messages are given out.
pub(super) type Turn = (u64, u64);

/// What has happened on a queue since the broker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub sent: u64,
    pub received: u64,
    pub deleted: u64,
    pub expired: u64,
    pub purged: u64,
    pub empty_receives: u64,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub incarnation: u64,
    /// Nobody can name it any more; the entry stays until no slot refers to it.
    pub deleted: bool,
    /// Whether it stands on the list of those whose waits can be served.
    pub ready: bool,
    pub attributes: Attributes,
    /// What is rarely read: policies, tags. Where its dead letters go is there too, one comparison
    /// away for a queue that has none of it.
    pub details: BoxedDetails,
    pub owner_shard: u16,
    pub retention_ms: u64,
    /// Messages up to this sequence are gone.
    pub purged_through: u64,
    /// Messages sent at or before this are gone, if their sequence is not above the one below.
    pub expired_through_ms: u64,
    /// What came by a move since is judged by the retention period alone.
    pub expired_through: u64,
    pub fresh_head: u32,
    pub fresh_tail: u32,
    pub returned: BTreeMap<Turn, u32>,
    /// On a standard queue that holds messages of groups.
    pub fair: Option<Box<Fair>>,
    /// On a FIFO queue: groups whose first message may be given out.
    pub ready_groups: ReadyGroups,
    /// On a FIFO queue: the first message of the list that is delayed, with all behind it that were
    /// never received.
    pub delay_cursor: u32,
    /// Where the delay has changed: the cursor has to go back to messages sent after this. What a command
    /// in between took for delayed must not be left behind.
    pub delay_back_to_ms: u64,
    pub visible: u64,
    pub in_flight: u64,
    pub delayed: u64,
    pub damaged: u64,
    pub stored_bytes: u64,
    /// Slots that refer to the queue, also of messages that are gone and not swept yet.
    pub slots: u64,
    pub first_wait: u32,
    pub last_wait: u32,
    pub waiting: u32,
    /// Whether another shard waits for its messages, so that what nobody waits for here is noticed.
    pub watched: bool,
    /// How many messages may be in flight on this shard (rule 26).
    pub in_flight_max: u64,
    pub timer: TimerLinks,
    pub name: QueueName,
    pub created_at_ms: u64,
    pub modified_at_ms: u64,
    pub purged_at_ms: u64,
    /// When its last purge was known to be durable on every shard (rule 20); until that is, and after a
    /// restart, when it was asked for.
    pub purge_ended_ms: u64,
    /// Its newest QueueState record.
    pub record: (Position, u32),
    pub totals: Totals,
}

impl Queue {
    pub fn new(state: QueueState) -> Self {
        let QueueState { definition, purged_at_ms, purged_through, expired_through_ms, expired_through } =
            state;
        Self {
            incarnation: definition.incarnation,
            deleted: false,
            ready: false,
            attributes: definition.attributes,
            details: definition.details,
            owner_shard: definition.owner_shard,
            retention_ms: definition.attributes.retention_ms(),
            purged_through,
            expired_through_ms,
            expired_through,
            fresh_head: NONE,
            fresh_tail: NONE,
            returned: BTreeMap::new(),
            fair: None,
            ready_groups: ReadyGroups::new(),
            delay_cursor: NONE,
            delay_back_to_ms: u64::MAX,
            visible: 0,
            in_flight: 0,
            delayed: 0,
            damaged: 0,
            stored_bytes: 0,
            slots: 0,
            first_wait: NONE,
            last_wait: NONE,
            waiting: 0,
            watched: false,
            in_flight_max: u64::MAX,
            timer: TimerLinks::IDLE,
            name: definition.name,
            created_at_ms: definition.created_at_ms,
            modified_at_ms: definition.modified_at_ms,
            purged_at_ms,
            purge_ended_ms: purged_at_ms,
            record: (Position::default(), 0),
            totals: Totals::default(),
        }
    }

    /// Whether anybody is to be told of a message that becomes visible.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.waiting > 0 || self.watched
    }

    /// Whether somebody is to be told of the room that one message less in flight makes.
    #[inline]
    pub fn is_room_awaited(&self) -> bool {
        self.waiting > 0 || (self.watched && self.in_flight >= self.in_flight_max)
    }

    /// The queue as all shards know it.
    pub fn definition(&self, index: u32) -> Definition {
        Definition {
            index,
            incarnation: self.incarnation,
            owner_shard: self.owner_shard,
            name: self.name.clone(),
            attributes: self.attributes,
            details: self.details.clone(),
            created_at_ms: self.created_at_ms,
            modified_at_ms: self.modified_at_ms,
        }
    }

    /// What a record of it says.
    pub fn state(&self, index: u32) -> QueueState {
        QueueState {
            definition: self.definition(index),
            purged_at_ms: self.purged_at_ms,
            purged_through: self.purged_through,
            expired_through_ms: self.expired_through_ms,
            expired_through: self.expired_through,
        }
    }

    /// Until when a message of it with this sequence is kept that was sent at this time.
    #[inline]
    pub fn expiry_ms(&self, sent_at_ms: u64, sequence: u64, retention_lag_ms: u64) -> u64 {
        if sent_at_ms <= self.expired_through_ms && sequence <= self.expired_through {
            return 0;
        }
        sent_at_ms + self.retention_ms + retention_lag_ms
    }

    /// Whether a message of it with this sequence was purged, or the queue deleted.
    #[inline]
    pub fn is_gone(&self, sequence: u64) -> bool {
        sequence <= self.purged_through || self.deleted
    }

    /// The number that hot frames carry: where in the table, and which incarnation.
    pub fn number(&self, index: u32) -> u64 {
        number_of(index, self.incarnation)
    }

    /// All messages are gone at once: counts and lists begin anew. What was in the map is given
    /// back, to be dropped in slices.
    pub fn forget_messages(&mut self) -> BTreeMap<Turn, u32> {
        self.totals.purged += self.visible + self.in_flight + self.delayed + self.damaged;
        self.fresh_head = NONE;
        self.fresh_tail = NONE;
        (self.visible, self.in_flight, self.delayed, self.damaged) = (0, 0, 0, 0);
        self.stored_bytes = 0;
        self.delay_cursor = NONE;
        let (returned, groups) = (std::mem::take(&mut self.returned), self.ready_groups.forget());
        // A queue is of one type and has one of the two.
        if groups.is_empty() { returned } else { groups }
    }
}

/// All queues of a shard. An entry is a box, so that growing the table moves pointers only.
#[derive(Debug, Default)]
pub(super) struct Queues {
    entries: Vec<Option<Box<Queue>>>,
    free: Vec<u32>,
    by_name: BTreeMap<QueueName, u32>,
    /// For each name that is a dead-letter queue's, whose dead letters go there; none is empty.
    sources: BTreeMap<QueueName, BTreeSet<QueueName>>,
}

impl Queues {
    /// Where the queue with this number is, if it still is.
    #[inline]
    pub fn find(&self, number: u64) -> Option<u32> {
        let index = index_of(number);
        let queue = self.entries.get(index as usize)?.as_deref()?;
        (queue.number(index) == number && !queue.deleted).then_some(index)
    }

    /// The queue with this name.
    pub fn named(&self, name: &QueueName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Names at or behind `from` in their order, with their queues.
    pub fn names_from<'a>(&'a self, from: &QueueName) -> impl Iterator<Item = (&'a QueueName, u32)> {
        self.by_name.range(from.clone()..).map(|(name, &index)| (name, index))
    }

    /// How many there are that can be named.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Length of the table; every queue's index is below.
    pub fn table_length(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The queue at this place, also one that is deleted and still has slots.
    pub fn get(&self, index: u32) -> Option<&Queue> {
        self.entries.get(index as usize)?.as_deref()
    }

    /// The place that the next new queue gets.
    pub fn next_index(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| self.table_length())
    }

    /// Whether no queue is at this place, nor any slot that refers to one.
    pub fn is_free(&self, index: u32) -> bool {
        self.get(index).is_none()
    }

    /// Takes the place for a new queue, which is free.
    pub fn take_index(&mut self, index: u32) {
        let place = index as usize;
        match self.free.iter().rposition(|&free| free == index) {
            // The last one, but where another shard chose the place.
            Some(position) => drop(self.free.remove(position)),
            None => {
                let length = self.table_length();
                self.entries.resize_with(self.entries.len().max(place + 1), || None);
                self.free.splice(0..0, (length..index).rev());
            }
        }
    }

    /// Puts a queue into its place, under its name.
    pub fn insert(&mut self, index: u32, queue: Queue) {
        self.by_name.insert(queue.name.clone(), index);
        self.link_source(&queue);
        self.entries[index as usize] = Some(Box::new(queue));
    }

    /// Gives a queue other details.
    pub fn set_details(&mut self, index: u32, details: BoxedDetails) {
        self.unlink_source(index);
        self[index].details = details;
        let queue = self.entries[index as usize].take().expect("it was there the line before");
        self.link_source(&queue);
        self.entries[index as usize] = Some(queue);
    }

    fn link_source(&mut self, queue: &Queue) {
        if let Some(redrive) = queue.details.redrive() {
            self.sources.entry(redrive.target.clone()).or_default().insert(queue.name.clone());
        }
    }

    fn unlink_source(&mut self, index: u32) {
        let (name, target) = {
            let queue = &self[index];
            let Some(redrive) = queue.details.redrive() else { return };
            (queue.name.clone(), redrive.target.clone())
        };
        if let Some(sources) = self.sources.get_mut(&target) {
            sources.remove(&name);
            if sources.is_empty() {
                self.sources.remove(&target);
            }
        }
    }

    /// The queues whose dead letters go to the one of this name, in their order.
    pub fn sources(&self, target: &QueueName) -> Option<&BTreeSet<QueueName>> {
        self.sources.get(target)
    }

    /// Where dead letters of a queue go now, and after how many receives: the dead-letter queue must be
    /// there, be of the same kind, and allow it.
    pub fn dead_letter_target(&self, index: u32) -> Option<(u32, u32)> {
        let queue = &self[index];
        let redrive = queue.details.redrive()?;
        let place = self.named(&redrive.target)?;
        let target = &self[place];
        let is_allowed =
            target.details.redrive_allow.as_ref().is_none_or(|policy| policy.allows(&queue.name));
        let is_same_kind = target.attributes.is_fifo() == queue.attributes.is_fifo();
        (is_allowed && is_same_kind).then_some((place, redrive.max_receive_count))
    }

    /// Recovery puts a queue where its record says. `false`: the place is taken, or absurd.
    pub fn insert_at(&mut self, index: u32, queue: Queue) -> bool {
        if index > QUEUES_MAX {
            return false;
        }
        let index = index as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        if self.entries[index].is_some() || self.by_name.contains_key(&queue.name) {
            return false;
        }
        self.insert(index as u32, queue);
        true
    }

    /// Makes the list of free places at the end of recovery; the lowest is taken first.
    pub fn link_free(&mut self) {
        self.free = (0..self.table_length()).rev().filter(|&index| self.get(index).is_none()).collect();
    }

    /// The name leads nowhere any more.
    pub fn forget_name(&mut self, index: u32) {
        self.unlink_source(index);
        let name = self[index].name.clone();
        self.by_name.remove(&name);
    }

    /// No slot refers to a deleted queue any more: its place is free.
    pub fn retire(&mut self, index: u32) {
        self.entries[index as usize] = None;
        self.free.push(index);
    }
}

/// Places of queues on one shard, also of deleted ones whose messages are not swept yet; creating one more is
/// refused with OverLimit. A million entries of the table take some hundred megabytes.
pub(super) const QUEUES_MAX: u32 = 1 << 20;

impl std::ops::Index<u32> for Queues {
    type Output = Queue;

    #[inline]
    fn index(&self, index: u32) -> &Queue {
        self.entries[index as usize]
            .as_deref()
            .expect("indices come from slots and lists of queues that exist")
    }
}

impl std::ops::IndexMut<u32> for Queues {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Queue {
        self.entries[index as usize]
            .as_deref_mut()
            .expect("indices come from slots and lists of queues that exist")
    }
}

impl Links for Queues {
    fn links(&self, node: u32) -> TimerLinks {
        self[node].timer
    }

    fn set_next(&mut self, node: u32, next: u32) {
        self[node].timer.next = next;
    }

    fn set_previous(&mut self, node: u32, previous: u32) {
        self[node].timer.previous = previous;
    }
}
