//! Move tasks: messages of a dead-letter queue are sent anew, to one queue or each to its own source.
//!
//! A task's definition is a change of the catalog, the same on every shard; what a shard has done of it is
//! the shard's own ([`Share`]), and what is shown of a task is the sum of its shares. The newest record of
//! a task on a shard has both. What a task moves is a new message with an id, a time and counts of its
//! own: one MovedIn record stores it and frees the slot that it had, so that it is in one queue always,
//! and names the task, so that recovery counts it.
//!
//! A task takes what is visible in the order in which receives would, as many messages as were visible
//! when it started at most, so that what comes back to the queue meanwhile does not keep it going. On a FIFO
//! queue what stands behind a message in flight is visible, too: the task waits until its group is ready. It
//! runs in slices on engine time, and waits where the log has no room for sends (rule 16).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tenpin_protocol::MoveTaskStatus;

use super::Engine;
use super::fifo::delayed_until_ms;
use super::message::content_bytes;
use super::move_records::MovedInFrom;
use super::moves::{Moving, read_message};
use super::task_records::{TaskDefinition, TaskRecord};
use crate::flaws::Flaws;
use crate::journal::{ColdRecord, Log, Position, Room};

/// A task ends after this long, whatever is left.
const RUNS_MS_MAX: u64 = 36 * 60 * 60 * 1_000;
/// Tasks of a queue that are remembered; older ones that have ended are forgotten.
pub(super) const TASKS_SHOWN_MAX: usize = 10;
/// Messages that a task moves in one turn.
const MESSAGES_A_TURN: u32 = 16;
/// Bytes of bodies that a task moves in one turn, but for the last message.
const BYTES_A_TURN: u64 = 256 << 10;
/// Tasks that go on in one turn; the others do in the next.
const TASKS_A_TURN: usize = 16;
/// A task that cannot go on now, for want of room, of an answer or of a group that is ready, looks again after
/// this long.
const LOOKS_AGAIN_AFTER_MS: u64 = 100;

/// Why a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Failure {
    None = 0,
    NoDestination = 1,
    NoSource = 2,
    TooLong = 3,
    Refused = 4,
}

impl Failure {
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::NoDestination, Self::NoSource, Self::TooLong, Self::Refused]
            .into_iter()
            .find(|failure| *failure as u8 == number)
    }

    /// As SQS says it where it has a word for it.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::NoDestination => Some("AWS.SimpleQueueService.NonExistentQueue"),
            Self::NoSource => Some("CouldNotDetermineMessageSource"),
            Self::TooLong => Some("The task ran for 36 hours."),
            Self::Refused => Some("The destination did not take a message."),
        }
    }
}

/// What a shard has done of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub status: MoveTaskStatus,
    pub failure: Failure,
    pub moved: u64,
    /// How many messages were visible when it started.
    pub to_move: u64,
}

/// A task on this shard.
#[derive(Debug)]
pub(super) struct Task {
    pub definition: TaskDefinition,
    pub share: Share,
    pub record: (Position, u32),
    /// What other shards have done, by their numbers; `None`: it is not known. In this one's own place
    /// nothing was done.
    pub others: Vec<Option<Share>>,
    /// Messages on their way to other shards.
    under_way: u64,
    /// When it goes on.
    due_ms: u64,
    /// Its pace begins at this time with this many moved: at its start, and anew at each of the broker.
    pace_from: (u64, u64),
}

/// Tasks by the incarnation of their source and their id; when the active ones go on.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub table: BTreeMap<(u64, u64), Task>,
    /// The source of each task by its id, which is all that a message on its way knows of its task.
    sources: BTreeMap<u64, u64>,
    /// Those that some shard runs.
    open: BTreeSet<(u64, u64)>,
    /// Those of which the other shards are to be told.
    pub news: BTreeSet<(u64, u64)>,
    /// What others have said of tasks that are not known here yet.
    pub early: BTreeMap<(u64, u64), Vec<(u16, Share)>>,
    /// The highest id of a task that was ever known here, as far as the records say.
    pub newest_id: u64,
    /// Shard 0 has not told all that it has at the start.
    pub is_catching_up: bool,
    due: BTreeSet<(u64, (u64, u64))>,
}

/// What a task comes to with its next message.
enum Step {
    Moved,
    /// Nothing was moved, and it goes on: what stood at the head is gone.
    Passed,
    /// Not before this time.
    Later(u64),
    Ended(MoveTaskStatus, Failure),
}

impl Tasks {
    /// When the next task goes on.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.due.first().map(|&(due_ms, _)| due_ms)
    }

    /// The tasks of a queue, newest first.
    pub fn of(&self, source: u64) -> impl Iterator<Item = &Task> {
        self.table.range((source, 0)..=(source, u64::MAX)).rev().map(|(_, task)| task)
    }

    /// The task with this id.
    pub fn by_id(&mut self, id: u64) -> Option<&mut Task> {
        self.table.get_mut(&(*self.sources.get(&id)?, id))
    }

    fn insert(&mut self, key: (u64, u64), task: Task) {
        self.sources.insert(key.1, key.0);
        self.table.insert(key, task);
    }

    fn remove(&mut self, key: (u64, u64)) -> Option<Task> {
        self.sources.remove(&key.1);
        self.table.remove(&key)
    }

    /// How many tasks of an account are active.
    pub fn active_of(&self, account: &str) -> usize {
        let is_of = |key: &(u64, u64)| {
            self.table.get(key).is_some_and(|task: &Task| task.definition.source.1.account() == account)
        };
        self.open.iter().filter(|key| is_of(key)).count()
    }

    /// Whether a task is active may have changed.
    pub fn note_activity(&mut self, key: (u64, u64)) {
        if self.table.get(&key).is_some_and(Task::is_active) {
            self.open.insert(key);
        } else {
            self.open.remove(&key);
        }
    }

    fn schedule(&mut self, key: (u64, u64), due_ms: u64) {
        if let Some(task) = self.table.get_mut(&key) {
            self.due.remove(&(task.due_ms, key));
            task.due_ms = due_ms;
            self.due.insert((due_ms, key));
        }
    }
}

impl Task {
    /// When its pace allows the next message; `None`: that depends on what other shards have to move,
    /// which is not known yet. Each has the part of the pace that it has of the messages.
    fn paced_ms(&self) -> Option<u64> {
        let rate = u128::from(self.definition.messages_per_second_max);
        if rate == 0 {
            return Some(0);
        }
        let (from_ms, from_moved) = self.pace_from;
        let ahead = u128::from((self.share.moved + self.under_way).saturating_sub(from_moved) + 1);
        let (mine, all) =
            (u128::from(self.share.to_move.max(1)), u128::from(self.to_move_everywhere()?.max(1)));
        let wait_ms = (ahead * 1_000 * all).div_ceil(rate * mine);
        Some(from_ms.saturating_add(u64::try_from(wait_ms).unwrap_or(u64::MAX)))
    }

    /// Its pace begins anew, as its part of it is another now.
    pub fn set_pace(&mut self, now_ms: u64) {
        self.pace_from = (now_ms, self.share.moved + self.under_way);
    }
}

impl<F: Flaws> Engine<F> {
    /// Begins this shard's share of a task; one that is known changes nothing.
    pub(super) fn start_share(&mut self, definition: &TaskDefinition, log: &mut Log<F>) {
        self.tasks.newest_id = self.tasks.newest_id.max(definition.id);
        let Some(source) = self.queues.find(definition.source.0) else { return };
        let key = definition.key();
        if self.tasks.table.contains_key(&key) {
            return;
        }
        let share = Share {
            status: MoveTaskStatus::Running,
            failure: Failure::None,
            moved: 0,
            to_move: self.queues[source].visible,
        };
        let record = (Position::default(), 0);
        self.insert_task(definition.clone(), share, record);
        self.journal_task(key, log);
        self.forget_old_tasks(key.0, log);
        self.tell_task(key);
        self.take_early_shares(key, log);
    }

    fn insert_task(&mut self, definition: TaskDefinition, share: Share, record: (Position, u32)) {
        let key = definition.key();
        let pace_from = (self.now_ms, share.moved);
        let nothing =
            Share { status: MoveTaskStatus::Completed, failure: Failure::None, moved: 0, to_move: 0 };
        let is_mine = |shard| shard == self.options.shard;
        let others = (0..self.options.shards).map(|shard| is_mine(shard).then_some(nothing)).collect();
        let task = Task { definition, share, record, others, under_way: 0, due_ms: self.now_ms, pace_from };
        if share.is_active() {
            self.tasks.due.insert((task.due_ms, key));
        }
        self.tasks.insert(key, task);
        self.tasks.note_activity(key);
    }

    /// Tells a task to stop. It has stopped when it would go on next.
    pub(super) fn cancel_share(&mut self, key: (u64, u64), log: &mut Log<F>) {
        let Some(task) = self.tasks.table.get_mut(&key) else { return };
        if task.share.status == MoveTaskStatus::Running {
            task.share.status = MoveTaskStatus::Cancelling;
            self.tasks.schedule(key, self.now_ms);
            self.journal_task(key, log);
            self.tell_task(key);
        }
    }

    /// Goes on with tasks that are due. Says whether more are.
    pub(super) fn run_tasks(&mut self, log: &mut Log<F>) -> bool {
        let now_ms = self.now_ms;
        let is_due = |&&(due_ms, _): &&(u64, (u64, u64))| due_ms <= now_ms;
        let keys: Vec<_> =
            self.tasks.due.iter().take_while(is_due).take(TASKS_A_TURN).map(|&(_, key)| key).collect();
        for key in keys {
            self.run_task(key, log);
        }
        self.tasks.next_deadline_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    fn run_task(&mut self, key: (u64, u64), log: &mut Log<F>) {
        let (mut count, mut bytes) = (0, 0);
        // Those behind it in this turn come first in the next.
        let mut next = Step::Later(self.now_ms);
        while count < MESSAGES_A_TURN && bytes < BYTES_A_TURN {
            count += 1;
            match self.step_task(key, &mut bytes, log) {
                Step::Moved | Step::Passed => {}
                stops => {
                    next = stops;
                    break;
                }
            }
        }
        if let Some(source) = self.tasks.table.get(&key).map(|task| task.definition.source.0)
            && let Some(queue) = self.queues.find(source)
        {
            let incarnation = self.queues[queue].incarnation;
            self.flush_expired(incarnation, log);
        }
        match next {
            Step::Ended(MoveTaskStatus::Failed, failure) => self.fail_task(key, failure, log),
            Step::Ended(status, failure) => self.end_task(key, status, failure, log),
            Step::Later(due_ms) => self.tasks.schedule(key, due_ms),
            Step::Moved | Step::Passed => unreachable!("it goes on after these"),
        }
    }

    pub(super) fn end_task(
        &mut self,
        key: (u64, u64),
        status: MoveTaskStatus,
        failure: Failure,
        log: &mut Log<F>,
    ) {
        let Some(task) = self.tasks.table.get_mut(&key) else { return };
        self.tasks.due.remove(&(task.due_ms, key));
        task.share.status = status;
        task.share.failure = failure;
        self.journal_task(key, log);
        self.tell_task(key);
        self.tasks.note_activity(key);
    }

    /// A task fails. What it has on the way to other shards comes there or back first, as for one that is
    /// cancelled: what it has moved is counted when it has ended.
    pub(super) fn fail_task(&mut self, key: (u64, u64), failure: Failure, log: &mut Log<F>) {
        let Some(task) = self.tasks.table.get_mut(&key) else { return };
        if task.under_way == 0 {
            return self.end_task(key, MoveTaskStatus::Failed, failure, log);
        }
        if task.share.failure == Failure::None {
            (task.share.status, task.share.failure) = (MoveTaskStatus::Cancelling, failure);
            self.tasks.schedule(key, self.now_ms + LOOKS_AGAIN_AFTER_MS);
            self.journal_task(key, log);
            self.tell_task(key);
        }
    }

    fn step_task(&mut self, key: (u64, u64), bytes: &mut u64, log: &mut Log<F>) -> Step {
        let Some(task) = self.tasks.table.get(&key) else {
            return Step::Ended(MoveTaskStatus::Failed, Failure::NoSource);
        };
        let (moved, under_way) = (task.share.moved, task.under_way);
        let later = Step::Later(self.now_ms + LOOKS_AGAIN_AFTER_MS);
        if task.share.status == MoveTaskStatus::Cancelling {
            return match task.share.failure {
                _ if under_way > 0 => later,
                Failure::None => Step::Ended(MoveTaskStatus::Cancelled, Failure::None),
                failure => Step::Ended(MoveTaskStatus::Failed, failure),
            };
        }
        if self.now_ms >= task.definition.started_at_ms + RUNS_MS_MAX {
            return Step::Ended(MoveTaskStatus::Failed, Failure::TooLong);
        }
        let Some(source) = self.queues.find(task.definition.source.0) else {
            return Step::Ended(MoveTaskStatus::Failed, Failure::NoSource);
        };
        let is_fifo = self.is_fifo(source);
        let has_all = moved + under_way >= task.share.to_move;
        let first = if is_fifo { self.first_ready(source) } else { self.oldest_visible(source) };
        let Some(index) = first.filter(|_| !has_all) else {
            let is_locked = is_fifo && !has_all && self.queues[source].visible > 0;
            return if under_way == 0 && !is_locked {
                Step::Ended(MoveTaskStatus::Completed, Failure::None)
            } else {
                later
            };
        };
        match task.paced_ms() {
            None => return later,
            Some(paced_ms) if self.now_ms < paced_ms => return Step::Later(paced_ms),
            Some(_) => {}
        }
        let (queue, slot) = (&self.queues[source], &self.slab[index]);
        if self.is_expired(queue, slot) {
            self.expire(index, log);
            return Step::Passed;
        }
        if queue.attributes.is_fifo() && delayed_until_ms(queue, slot) > self.now_ms {
            self.change_delayed(index, true);
            return Step::Passed;
        }
        if log.room() != Room::All {
            return later;
        }
        match self.destination_of(key, index) {
            Ok(target) => self.redrive(key, source, index, target, bytes, log),
            Err(failure) => Step::Ended(MoveTaskStatus::Failed, failure),
        }
    }

    /// The queue that a task moves a message to.
    fn destination_of(&self, key: (u64, u64), index: u32) -> Result<u32, Failure> {
        let definition = &self.tasks.table[&key].definition;
        if let Some((number, _)) = &definition.destination {
            return self.queues.find(*number).ok_or(Failure::NoDestination);
        }
        let source = self.source_of(index, &self.slab[index]);
        let name = self.origin_name(source).ok_or(Failure::NoSource)?;
        self.queues.named(name).ok_or(Failure::NoDestination)
    }

    fn redrive(
        &mut self,
        key: (u64, u64),
        source: u32,
        index: u32,
        target: u32,
        bytes: &mut u64,
        log: &mut Log<F>,
    ) -> Step {
        let definition = &self.queues[target];
        let number = definition.number(target);
        let to_shard =
            if definition.attributes.is_fifo() { definition.owner_shard } else { self.options.shard };
        let task_id = key.1;
        if to_shard != self.options.shard {
            if !self.begin_move_out(index, to_shard, number, task_id, log) {
                return Step::Later(self.now_ms + LOOKS_AGAIN_AFTER_MS);
            }
            self.tasks.table.get_mut(&key).expect("its step runs").under_way += 1;
            return Step::Moved;
        }
        let slot = &self.slab[index];
        let (sequence, position, length) = (slot.sequence, Position(slot.position), slot.length);
        *bytes += u64::from(content_bytes(slot));
        let read = match log.cold_record(position, length) {
            // The turn in which it has been read comes sooner.
            ColdRecord::Reading => return Step::Later(self.now_ms + 1),
            ColdRecord::Here(bytes) => read_message(bytes),
            ColdRecord::Damaged => None,
        };
        let Some((id, body_bytes, content)) = read else {
            self.set_aside(index, sequence, log);
            return Step::Passed;
        };
        let name = self.queues[source].name.clone();
        let moving = Moving {
            number: sequence,
            settled_below: 0,
            task: task_id,
            source: (self.queues[source].number(source), name),
            target: number,
            id,
            sent_at_ms: 0,
            receive_count: 0,
            first_received_at_ms: 0,
            body_bytes,
            content,
        };
        let from = MovedInFrom {
            shard: self.options.shard,
            slot: index,
            number: sequence,
            settled_below: 0,
            task: task_id,
        };
        if self.store_moved(target, &moving, from, log).is_none() {
            return Step::Later(self.now_ms + LOOKS_AGAIN_AFTER_MS);
        }
        self.discard(index, log);
        self.tasks.table.get_mut(&key).expect("its step runs").share.moved += 1;
        Step::Moved
    }

    /// A move of a task to another shard is over. Where the message is not there, the other shard refused it
    /// for good, or it is tried again.
    pub(super) fn task_moved(&mut self, id: u64, is_moved: bool, is_refused: bool, log: &mut Log<F>) {
        let Some(task) = self.tasks.by_id(id) else { return };
        task.under_way = task.under_way.saturating_sub(1);
        if is_moved {
            task.share.moved += 1;
        } else if is_refused && task.share.is_active() {
            let key = task.definition.key();
            self.fail_task(key, Failure::Refused, log);
        }
    }

    pub(super) fn journal_task(&mut self, key: (u64, u64), log: &mut Log<F>) {
        let Some(task) = self.tasks.table.get_mut(&key) else { return };
        let record = TaskRecord { definition: task.definition.clone(), share: task.share };
        let written = record.append(self.now_ms, log);
        log.live(written.0, written.1);
        let before = std::mem::replace(&mut task.record, written);
        if before.1 > 0 {
            log.release(before.0, before.1);
        }
    }

    fn forget_old_tasks(&mut self, source: u64, log: &mut Log<F>) {
        let old: Vec<_> =
            self.tasks.of(source).skip(TASKS_SHOWN_MAX).map(|task| task.definition.key()).collect();
        for key in old {
            self.forget_task(key, log);
        }
    }

    fn forget_task(&mut self, key: (u64, u64), log: &mut Log<F>) {
        if let Some(task) = self.tasks.remove(key) {
            self.tasks.due.remove(&(task.due_ms, key));
            self.tasks.open.remove(&key);
            log.release(task.record.0, task.record.1);
        }
    }

    /// The queue is deleted, and its tasks with it.
    pub(super) fn forget_tasks(&mut self, source: u64, log: &mut Log<F>) {
        let keys: Vec<_> = self.tasks.of(source).map(|task| task.definition.key()).collect();
        for key in keys {
            self.forget_task(key, log);
        }
    }

    /// Writes again what lies at these positions.
    pub(super) fn carry_tasks(&mut self, old: &Range<Position>, log: &mut Log<F>) {
        let is_old = |task: &&Task| old.contains(&task.record.0);
        let keys: Vec<_> =
            self.tasks.table.values().filter(is_old).map(|task| task.definition.key()).collect();
        for key in keys {
            self.journal_task(key, log);
        }
    }

    /// Recovery has read all records: tasks of queues that are there go on. Those that were forgotten stay so,
    /// though their records may still be there: another shard that has none would never say that it is done with them.
    pub(super) fn recover_tasks(
        &mut self,
        tasks: BTreeMap<(u64, u64), (TaskRecord, (Position, u32))>,
        log: &mut Log<F>,
    ) {
        self.tasks.is_catching_up = true;
        for (_, (TaskRecord { definition, share }, record)) in tasks {
            self.tasks.newest_id = self.tasks.newest_id.max(definition.id);
            if self.queues.find(definition.source.0).is_some() {
                let key = definition.key();
                log.live(record.0, record.1);
                self.tell_task(key);
                self.insert_task(definition, share, record);
                self.forget_old_tasks(key.0, log);
            }
        }
        let under_way: Vec<u64> =
            self.moves.outgoing.values().map(|outgoing| outgoing.record.task).filter(|&id| id != 0).collect();
        for id in under_way {
            if let Some(task) = self.tasks.by_id(id) {
                task.under_way += 1;
                task.set_pace(self.now_ms);
            }
        }
    }
}
