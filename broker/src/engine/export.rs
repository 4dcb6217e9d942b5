//! What a shard holds, to be written for other shards: for a folder that gets another number of them.
//!
//! It is the list of cleaning (`carry.rs`) once more (rule 11): what cleaning carries within a log is what
//! has to be carried into another one.

use tenpin_protocol::MoveTaskStatus;

use super::deduplication::Entry;
use super::fifo_records::{ATTEMPT_BYTES, Attempted, DEDUPLICATION_BYTES, ENTRY_BYTES, write_entries};
use super::identity::{last_of_start, sequence_of, shard_of};
use super::move_records::MovingOut;
use super::queue::Queue;
use super::queue_state::{Definition, QUEUE_STATE_BYTES, QueueState};
use super::rare::{ORIGIN_BLOCK_BYTES, RareBlock};
use super::records::{
    CONTENT_KEYED, CONTENT_RARE, COPIED_BYTES, CopiedState, Kind, MARK_BYTES, Mark, MessageHead, START_BYTES,
    Start, content_of, name_bytes, write_name,
};
use super::slot::{FLAG_MOVING, Slot, State};
use super::task_records::TaskRecord;
use super::tasks::{Failure, Share};
use super::{Engine, append};
use crate::catalog::QueueName;
use crate::flaws::Flaws;
use crate::journal::{Log, PREFIX_BYTES, Position, RawRecord};

/// Entries of one record; below what fits the smallest segment.
const ENTRIES_A_RECORD: usize = 256;

/// The shard that a FIFO queue with this incarnation lives on, of so many (rule 21).
pub fn home_of_fifo(incarnation: u64, shards: u16) -> u16 {
    shard_of(incarnation, shards)
}

/// A queue as a shard has it.
#[derive(Debug, Clone)]
pub struct ExportedQueue {
    /// What all shards know of it.
    pub definition: Definition,
    /// When the shard's part of it was last purged; 0 if never.
    pub purged_at_ms: u64,
    /// The last sequence that a purge has taken. (What had expired when the retention period was changed is
    /// not exported, so that it needs no mark.)
    pub purged_through: u64,
}

/// A source of dead letters, by incarnation and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedOrigin {
    incarnation: u64,
    name: QueueName,
}

/// A move task with what one shard has done of it.
#[derive(Debug, Clone)]
pub struct ExportedTask(TaskRecord);

/// A name that is not free yet.
#[derive(Debug, Clone)]
pub struct ExportedTombstone {
    name: QueueName,
    mark: Mark,
}

/// What FIFO queues remember of accepted messages.
#[derive(Debug, Clone, Default)]
pub struct ExportedEntries(Vec<Entry>);

/// A receive with an attempt id.
#[derive(Debug, Clone)]
pub struct ExportedAttempt(Attempted);

/// The numbers that a shard has given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportedNumbers {
    /// Of its newest start.
    pub start_number: u32,
    /// The next queue's incarnation.
    pub incarnation_next: u64,
}

/// A stored message, with where it stands.
#[derive(Debug, Clone, Copy)]
pub struct ExportedMessage<'a> {
    /// Its slot.
    pub slot: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Its queue.
    pub incarnation: u64,
    /// When it was sent.
    pub sent_at_ms: u64,
    head: MessageHead,
    state: CopiedState,
    block: RareBlock,
    content: &'a [u8],
}

/// A message's place without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportedPlace {
    /// Its slot.
    pub slot: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Its queue.
    pub incarnation: u64,
    /// When it was sent.
    pub sent_at_ms: u64,
    /// Whether it was ever handed out.
    pub was_received: bool,
}

impl<F: Flaws> Engine<F> {
    /// The numbers that were given out.
    pub fn exported_numbers(&self) -> ExportedNumbers {
        ExportedNumbers {
            start_number: self.identity.start_number(),
            incarnation_next: self.identity.incarnation_next(),
        }
    }

    /// All queues, in the order of the table.
    pub fn exported_queues(&self) -> Vec<ExportedQueue> {
        let all = (0..self.queues.table_length()).filter_map(|index| Some((index, self.queues.get(index)?)));
        all.filter(|(_, queue)| !queue.deleted)
            .map(|(index, queue)| {
                let QueueState { definition, purged_at_ms, purged_through, .. } = queue.state(index);
                ExportedQueue { definition, purged_at_ms, purged_through }
            })
            .collect()
    }

    /// Names that are not free yet.
    pub fn exported_tombstones(&self) -> Vec<ExportedTombstone> {
        let all = self.tombstones.by_name.iter();
        all.map(|(name, tombstone)| ExportedTombstone {
            name: name.clone(),
            mark: Mark { incarnation: tombstone.incarnation, time_ms: tombstone.deleted_at_ms, through: 0 },
        })
        .collect()
    }

    /// Deduplication entries whose window has not ended.
    pub fn exported_entries(&self) -> ExportedEntries {
        let entries = self.deduplication.entries(&self.identity);
        ExportedEntries(entries.filter(|entry| !entry.is_over(self.now_ms)).collect())
    }

    /// Attempts that can still be repeated.
    pub fn exported_attempts(&self) -> Vec<ExportedAttempt> {
        let attempts = self.attempts.iter().filter(|attempted| !attempted.is_over(self.now_ms));
        attempts.map(|attempted| ExportedAttempt(attempted.clone())).collect()
    }

    /// How many slots have ever been used.
    pub fn slots_used(&self) -> u32 {
        self.slab.used()
    }

    /// All stored messages, in the order of their slots.
    pub fn exported_places(&self) -> impl Iterator<Item = ExportedPlace> {
        (0..self.slab.used()).filter_map(|index| {
            let slot = self.slab.get(index).filter(|slot| self.is_exported(slot))?;
            let queue = self.queues.get(slot.queue)?;
            Some(ExportedPlace {
                slot: index,
                sequence: slot.sequence,
                incarnation: queue.incarnation,
                sent_at_ms: slot.sent_at_ms(),
                was_received: slot.receive_count > 0,
            })
        })
    }

    /// The message whose newest record this is, with its whole state.
    pub fn exported_message<'a>(
        &self,
        position: Position,
        raw: &RawRecord<'a>,
    ) -> Option<ExportedMessage<'a>> {
        if !matches!(Kind::from_code(raw.kind), Some(Kind::Sent | Kind::Copied | Kind::MovedIn)) {
            return None;
        }
        let mut head = MessageHead::read(raw).ok()?;
        let slot = self.slab.get(head.slot)?;
        let is_newest = slot.position == position.0 && slot.length == raw.length;
        if !is_newest || !self.is_exported(slot) {
            return None;
        }
        let content = content_of(&head, raw.variable).ok()?;
        head.sequence = slot.sequence;
        head.incarnation = self.queues.get(slot.queue)?.incarnation;
        head.sent_at_ms = slot.sent_at_ms();
        head.available_at_ms = slot.available_at_ms;
        let block = RareBlock::of(slot, self.rares.get(head.slot));
        // What its key is for is carried apart.
        head.content_flags &= !(CONTENT_KEYED | CONTENT_RARE);
        head.content_flags |= if block.bytes() > 0 { CONTENT_RARE } else { 0 };
        Some(ExportedMessage {
            slot: head.slot,
            sequence: head.sequence,
            incarnation: head.incarnation,
            sent_at_ms: head.sent_at_ms,
            head,
            state: self.copied_state(head.slot),
            block,
            content,
        })
    }

    /// Whether there is a message that is not gone by a mark.
    fn is_exported(&self, slot: &Slot) -> bool {
        let is_there = |queue: &Queue| {
            let has_expired =
                slot.sent_at_ms() <= queue.expired_through_ms && slot.sequence <= queue.expired_through;
            !queue.is_gone(slot.sequence) && !has_expired
        };
        slot.state() != State::Free && self.queues.get(slot.queue).is_some_and(is_there)
    }

    /// Whether a message with this number has come from another shard.
    pub fn has_arrived(&self, from_shard: u16, number: u64) -> bool {
        self.moves.arrivals.contains_key(&(from_shard, number))
    }

    /// Ends all moves to other shards that are open: `has_arrived` says of a shard and a number whether the
    /// message is stored there. Then it is gone here, and otherwise it never left. The engine is of no use
    /// afterwards but to be exported.
    pub fn settle_moves_for_export(&mut self, has_arrived: impl Fn(u16, u64) -> bool) {
        for (number, outgoing) in std::mem::take(&mut self.moves.outgoing) {
            let MovingOut { slot: index, sequence, to_shard, task, .. } = outgoing.record;
            if self.slab.get(index).is_none_or(|slot| slot.sequence != sequence) {
                continue;
            }
            if has_arrived(to_shard, number) {
                self.slab.clear_at(index);
                if let Some(task) = self.tasks.by_id(task) {
                    task.share.moved += 1;
                }
            } else {
                let (now_ms, is_fifo) = (self.now_ms, self.is_fifo(self.slab[index].queue));
                let slot = &mut self.slab[index];
                slot.set_flags(slot.flags() & !FLAG_MOVING);
                slot.set_state(State::Returned);
                // What nobody has received of a FIFO queue stands by its sending, and recovery says so too.
                let is_fresh = is_fifo && slot.receive_count == 0;
                slot.available_at_ms = if is_fresh { slot.sent_at_ms() } else { now_ms };
            }
        }
    }

    /// The names that messages here came from.
    pub fn exported_origins(&self) -> Vec<ExportedOrigin> {
        let all = self.origins.by_incarnation.iter();
        all.map(|(&incarnation, origin)| ExportedOrigin { incarnation, name: origin.name.clone() }).collect()
    }

    /// Move tasks, with what was done of them here.
    pub fn exported_tasks(&self) -> Vec<ExportedTask> {
        let all = self.tasks.table.values();
        all.map(|task| ExportedTask(TaskRecord { definition: task.definition.clone(), share: task.share }))
            .collect()
    }
}

impl ExportedMessage<'_> {
    /// Writes it into a log at a place of its own.
    pub fn write<F: Flaws>(&self, slot: u32, sequence: u64, now_ms: u64, log: &mut Log<F>) {
        let head = MessageHead { slot, sequence, ..self.head };
        let variable_bytes = self.block.bytes() + self.content.len();
        append(log, now_ms, Kind::Copied, COPIED_BYTES, variable_bytes, true, |out| {
            head.write(out);
            self.state.write(out);
            let (rare, content) = out[COPIED_BYTES..].split_at_mut(self.block.bytes());
            self.block.write(rare);
            content.copy_from_slice(self.content);
        });
    }

    /// Everything of it but its place, in one number: two messages that differ in anything have
    /// different ones, as good as always.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = [0; COPIED_BYTES + ORIGIN_BLOCK_BYTES];
        MessageHead { slot: 0, sequence: 0, ..self.head }.write(&mut bytes);
        self.state.write(&mut bytes);
        self.block.write(&mut bytes[COPIED_BYTES..]);
        let one = crc32fast::hash(&bytes);
        let other = crc32fast::hash(self.content);
        (u64::from(one) << 32 | u64::from(other)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Bytes of its content.
    pub fn content_bytes(&self) -> u64 {
        self.content.len() as u64
    }
}

impl ExportedQueue {
    /// Writes it into a log.
    pub fn write<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) {
        let state = QueueState {
            definition: self.definition.clone(),
            purged_at_ms: self.purged_at_ms,
            purged_through: self.purged_through,
            expired_through_ms: 0,
            expired_through: 0,
        };
        let variable_bytes = state.variable_bytes();
        append(log, now_ms, Kind::QueueState, QUEUE_STATE_BYTES, variable_bytes, true, |out| {
            state.write(out)
        });
    }
}

impl ExportedTombstone {
    /// Writes it into a log.
    pub fn write<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) {
        append(log, now_ms, Kind::QueueDeleted, MARK_BYTES, name_bytes(&self.name), true, |out| {
            let (fixed, variable) = out.split_at_mut(MARK_BYTES);
            self.mark.write(fixed);
            write_name(&self.name, variable);
        });
    }
}

impl ExportedOrigin {
    /// Writes it into a log.
    pub fn write<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) {
        let mark = Mark { incarnation: self.incarnation, time_ms: now_ms, through: 0 };
        append(log, now_ms, Kind::Origin, MARK_BYTES, name_bytes(&self.name), true, |out| {
            let (fixed, variable) = out.split_at_mut(MARK_BYTES);
            mark.write(fixed);
            write_name(&self.name, variable);
        });
    }
}

impl ExportedTask {
    /// The task's place among tasks: its source's incarnation, and its id.
    pub fn key(&self) -> (u64, u64) {
        self.0.definition.key()
    }

    /// The same task where nothing was done of it and nothing is to do.
    pub fn without_a_share(&self) -> Self {
        let mut task = self.clone();
        let status = MoveTaskStatus::Completed;
        task.0.share = Share { status, failure: Failure::None, moved: 0, to_move: 0 };
        task
    }

    /// Takes over what another shard has done and has yet to do.
    pub fn add(&mut self, other: &Self) {
        let (mine, its) = (&mut self.0.share, other.0.share);
        mine.moved += its.moved;
        mine.to_move += its.to_move;
        // What still runs goes on; otherwise what went wrong is told.
        let weight = |status| match status {
            MoveTaskStatus::Running => 4,
            MoveTaskStatus::Cancelling => 3,
            MoveTaskStatus::Failed => 2,
            MoveTaskStatus::Cancelled => 1,
            MoveTaskStatus::Completed => 0,
        };
        if weight(its.status) > weight(mine.status) {
            (mine.status, mine.failure) = (its.status, its.failure);
        }
    }

    /// Writes it into a log.
    pub fn write<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) {
        self.0.append(now_ms, log);
    }
}

impl ExportedEntries {
    /// Takes in those of another shard.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable_by_key(|entry| (entry.sequence, entry.key));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them into a log.
    pub fn write<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) {
        let room = (log.record_bytes_max() - PREFIX_BYTES - DEDUPLICATION_BYTES) / ENTRY_BYTES;
        for entries in self.0.chunks(ENTRIES_A_RECORD.min(room)) {
            let variable_bytes = entries.len() * ENTRY_BYTES;
            append(log, now_ms, Kind::Deduplication, DEDUPLICATION_BYTES, variable_bytes, true, |out| {
                write_entries(entries.iter().copied(), out);
            });
        }
    }
}

impl ExportedAttempt {
    /// The queue that was received from.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Writes it into a log, with its messages where `place` says that they are now.
    pub fn write<F: Flaws>(&self, place: impl Fn(u32) -> u32, now_ms: u64, log: &mut Log<F>) {
        let mut attempted = self.0.clone();
        attempted.messages.iter_mut().for_each(|message| message.slot = place(message.slot));
        append(log, now_ms, Kind::Attempt, ATTEMPT_BYTES, attempted.variable_bytes(), true, |out| {
            attempted.write(out);
        });
    }
}

impl ExportedNumbers {
    /// The last sequence that can have been given out.
    pub fn last_sequence(&self) -> u64 {
        last_of_start(self.start_number)
    }

    /// A sequence of this start, if it has this epoch, counted from 1.
    pub fn sequence(&self, epoch: [u8; 16], count: u64) -> u64 {
        sequence_of(self.start_number, epoch, count)
    }

    /// Writes the start that gave them out into a log.
    pub fn write<F: Flaws>(&self, epoch: [u8; 16], now_ms: u64, log: &mut Log<F>) {
        let Self { start_number, incarnation_next } = *self;
        let start = Start { start_number, epoch, incarnation_next, time_ms: now_ms };
        append(log, now_ms, Kind::Start, START_BYTES, 0, true, |out| start.write(out));
    }
}
