//! From records back to the state: the log is read from its oldest segment on, then everything is
//! linked at once.
//!
//! While records are read, only slots and a table of incarnations are filled; lists, maps, timers and
//! counts come at the end, by sequence and time, never by a record's place (rule 12). A queue's
//! record may have been carried behind those of its messages, so that an incarnation may be unknown
//! until the end; what no queue claims then is gone with its queue.

use std::collections::BTreeMap;

use super::Engine;
use super::deduplication::{Entry, RecoveredEntries};
use super::fifo_records::{Attempted, read_entries};
use super::keyed_hash::{Key, group_key};
use super::letters::group_of;
use super::manage::{MINUTE_MS, Tombstone};
use super::message::{content_bytes, link_fresh};
use super::move_records::{Moved, MovedInFrom, MovedMessage, MovedOut, MovingOut, read_arrivals};
use super::moves::Outgoing;
use super::origins::Origin;
use super::queue::Queue;
use super::queue_state::QueueState;
use super::rare::{Rare, RareBlock};
use super::records::{
    CONTENT_GROUPED, CONTENT_KEYED, CONTENT_RARE, CopiedState, Kind, ListHead, Listed, Mark, MessageHead,
    Start, StoredMessage, read_key, read_name,
};
use super::slot::{
    FLAG_ARRIVED, FLAG_CHANGED, FLAG_COPIED, FLAG_KEYED, FLAG_MEMBER, FLAG_MOVED_IN, FLAG_MOVING, NONE, Slot,
    State,
};
use super::task_records::TaskRecord;
use crate::catalog::QueueName;
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Damage, Log, Position, RawRecord};

/// What recovery knows until it ends.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    queues: Vec<RecoveredQueue>,
    by_incarnation: BTreeMap<u64, u32>,
    /// The incarnation that was asked for last, and its place: most records are of the same queue.
    last: Option<(u64, u32)>,
    time_ms: u64,
    remembered: RecoveredEntries,
    /// Names of queues that messages came from, with their newest records.
    origins: BTreeMap<u64, (QueueName, (Position, u32))>,
    /// Move tasks by source and id, with their newest records.
    tasks: BTreeMap<(u64, u64), (TaskRecord, (Position, u32))>,
    /// The source of each task by its id, as records of what a task has moved name only that.
    task_sources: BTreeMap<u64, u64>,
}

/// A queue as far as its records have been seen.
#[derive(Debug, Default)]
struct RecoveredQueue {
    incarnation: u64,
    state: Option<(QueueState, (Position, u32))>,
    deleted: Option<(QueueName, u64, (Position, u32))>,
    purged_at_ms: u64,
    purged_through: u64,
}

impl Recovery {
    /// A task has moved one more message since its record.
    fn count_moved(&mut self, task: u64) {
        let Some(&source) = self.task_sources.get(&task) else { return };
        if let Some((record, _)) = self.tasks.get_mut(&(source, task)) {
            record.share.moved += 1;
        }
    }

    #[inline]
    fn queue(&mut self, incarnation: u64) -> u32 {
        if let Some((last, place)) = self.last
            && last == incarnation
        {
            return place;
        }
        let next = self.queues.len() as u32;
        let place = *self.by_incarnation.entry(incarnation).or_insert(next);
        if place == next {
            self.queues.push(RecoveredQueue { incarnation, ..RecoveredQueue::default() });
        }
        self.last = Some((incarnation, place));
        place
    }
}

impl<F: Flaws> Engine<F> {
    /// Takes one record of the log, in the log's order. Kinds that this version does not know are
    /// damage: a newer broker wrote them, and they mean something.
    pub fn replay(&mut self, position: Position, raw: RawRecord<'_>) -> Result<(), Damage> {
        let mut recovery = self.recovery.take().expect("records are replayed before recovery is finished");
        let result = self.replay_into(&mut recovery, position, &raw);
        self.recovery = Some(recovery);
        result
    }

    fn replay_into(
        &mut self,
        recovery: &mut Recovery,
        position: Position,
        raw: &RawRecord<'_>,
    ) -> Result<(), Damage> {
        let Some(kind) = Kind::from_code(raw.kind) else {
            return Err(Damage::new(format!("a record of the unknown kind {}", raw.kind)));
        };
        match kind {
            Kind::Sent | Kind::Copied | Kind::MovedIn => {
                return self.replay_message(recovery, position, kind, raw);
            }
            Kind::Delivered
            | Kind::Hidden
            | Kind::Deleted
            | Kind::Expired
            | Kind::Undelivered
            | Kind::Damaged => return self.replay_list(recovery, kind, raw),
            Kind::Deduplication => {
                let (remembered, time_ms) = (&mut recovery.remembered, recovery.time_ms);
                read_entries(raw, |entry| remembered.note(entry, position, raw.length, time_ms))?;
            }
            Kind::Attempt => {
                let attempted = Attempted::read(raw)?;
                recovery.time_ms = recovery.time_ms.max(attempted.time_ms);
                recovery.remembered.attempts.insert(attempted.key, (attempted, position, raw.length));
            }
            Kind::Start => {
                let start = Start::read(raw)?;
                self.identity.replay_start(start.start_number, start.epoch, start.incarnation_next);
                self.start_record = (position, raw.length);
                recovery.time_ms = recovery.time_ms.max(start.time_ms);
            }
            Kind::QueueState => {
                let state = QueueState::read(raw)?;
                let definition = &state.definition;
                self.identity.replay_incarnation(definition.incarnation);
                recovery.time_ms = recovery.time_ms.max(definition.modified_at_ms);
                let place = recovery.queue(definition.incarnation);
                recovery.queues[place as usize].state = Some((state, (position, raw.length)));
            }
            Kind::QueueDeleted => {
                let mark = Mark::read(raw)?;
                self.identity.replay_incarnation(mark.incarnation);
                recovery.time_ms = recovery.time_ms.max(mark.time_ms);
                let place = recovery.queue(mark.incarnation);
                let name = read_name(raw.variable)?;
                recovery.queues[place as usize].deleted = Some((name, mark.time_ms, (position, raw.length)));
            }
            Kind::Moved => return self.replay_moved(recovery, raw),
            Kind::Origin => {
                let incarnation = Mark::read(raw)?.incarnation;
                let origin = (read_name(raw.variable)?, (position, raw.length));
                recovery.origins.insert(incarnation, origin);
            }
            Kind::MovingOut => {
                let record = MovingOut::read(raw)?;
                recovery.time_ms = recovery.time_ms.max(record.time_ms);
                self.moves.outgoing.insert(record.number, Outgoing { record, position, given: false });
            }
            Kind::MovedOut => self.replay_moved_out(recovery, MovedOut::read(raw)?),
            Kind::Arrivals => {
                for arrival in read_arrivals(raw)? {
                    self.moves.arrivals.insert(arrival, position);
                }
            }
            Kind::Task => {
                let task = TaskRecord::read(raw)?;
                recovery.time_ms = recovery.time_ms.max(task.definition.started_at_ms);
                self.identity.replay_incarnation(task.definition.id);
                let (source, id) = task.definition.key();
                recovery.task_sources.insert(id, source);
                recovery.tasks.insert((source, id), (task, (position, raw.length)));
            }
            Kind::Purged => {
                let mark = Mark::read(raw)?;
                recovery.time_ms = recovery.time_ms.max(mark.time_ms);
                let place = recovery.queue(mark.incarnation);
                let queue = &mut recovery.queues[place as usize];
                queue.purged_at_ms = queue.purged_at_ms.max(mark.time_ms);
                queue.purged_through = queue.purged_through.max(mark.through);
            }
        }
        Ok(())
    }

    fn replay_message(
        &mut self,
        recovery: &mut Recovery,
        position: Position,
        kind: Kind,
        raw: &RawRecord<'_>,
    ) -> Result<(), Damage> {
        let head = MessageHead::read(raw)?;
        let stored = StoredMessage::parse(raw)?;
        if head.sequence == 0 || !self.slab.take_at(head.slot) {
            return Err(Damage::new("a message without a sequence or with an impossible slot"));
        }
        recovery.time_ms = recovery.time_ms.max(head.sent_at_ms);
        let mut flags = match kind {
            Kind::Copied => FLAG_COPIED,
            Kind::MovedIn => FLAG_COPIED | FLAG_MOVED_IN,
            _ => 0,
        };
        if kind == Kind::MovedIn {
            self.replay_moved_in(recovery, position, MovedInFrom::read(raw)?);
        }
        let block = match head.content_flags & CONTENT_RARE {
            0 => RareBlock::default(),
            _ => RareBlock::split(raw.variable)?.0,
        };
        flags |= block.flag();
        if block.origin.is_some() {
            flags |= FLAG_ARRIVED;
        }
        if head.content_flags & CONTENT_KEYED != 0 && kind == Kind::Sent {
            flags |= FLAG_KEYED;
            let entry = Entry {
                key: Key::from_bytes(read_key(raw)?),
                sequence: head.sequence,
                sent_at_ms: head.sent_at_ms,
                id: head.id,
            };
            recovery.remembered.note(entry, position, 0, recovery.time_ms);
        }
        if head.content_flags & CONTENT_GROUPED != 0 {
            flags |= FLAG_MEMBER;
        }
        let slot = &mut self.slab[head.slot];
        if slot.sequence != head.sequence {
            // Whoever had the slot before is gone, by a purge or with its queue.
            *slot = Slot::FREE;
            slot.sequence = head.sequence;
            slot.queue = recovery.queue(head.incarnation);
            slot.available_at_ms = head.available_at_ms;
            slot.set_sent(head.sent_at_ms, State::Replayed, flags);
            if kind != Kind::Sent {
                let copied = CopiedState::read(raw)?;
                slot.receive_count = copied.receive_count;
                slot.first_received_after_ms = slot.after_sent(copied.first_received_at_ms);
                slot.list_previous = slot.after_sent(copied.delivered_at_ms);
                if copied.damaged {
                    slot.set_state(State::Damaged);
                }
                if let Some((source, receives_before)) = block.origin {
                    let first_received_at_ms = copied.first_received_at_ms;
                    *self.rares.entry(head.slot) =
                        Rare { source, receives_before, first_received_at_ms, moved_end: 0 };
                }
            }
            if flags & FLAG_MEMBER != 0 {
                let group = group_of(stored.content, stored.body_bytes as usize)
                    .ok_or(Damage::new("a message of a group does not name it"))?;
                let key = group_key(&self.options.check_key, head.incarnation, group);
                self.replay_group(head.slot, key);
            }
        }
        // What a move said holds, whichever record is the message's newest.
        let slot = &mut self.slab[head.slot];
        slot.set_flags(flags | (slot.flags() & FLAG_ARRIVED));
        slot.position = position.0;
        slot.length = raw.length;
        Ok(())
    }

    fn replay_moved_in(&mut self, recovery: &mut Recovery, position: Position, from: MovedInFrom) {
        if from.shard == self.options.shard {
            if self.slab.get(from.slot).is_some_and(|slot| slot.sequence == from.number) {
                self.slab.clear_at(from.slot);
            }
            recovery.count_moved(from.task);
        } else {
            self.moves.arrivals.insert((from.shard, from.number), position);
            self.moves
                .arrivals
                .retain(|&(shard, number), _| shard != from.shard || number >= from.settled_below);
        }
    }

    fn replay_moved_out(&mut self, recovery: &mut Recovery, over: MovedOut) {
        recovery.time_ms = recovery.time_ms.max(over.time_ms);
        self.moves.outgoing.remove(&over.number);
        if !over.refused {
            recovery.count_moved(over.task);
        }
        if self.slab.get(over.slot).is_none_or(|slot| slot.sequence != over.sequence) {
            return;
        }
        if over.refused {
            self.slab[over.slot].available_at_ms = over.time_ms;
        } else {
            self.slab.clear_at(over.slot);
        }
    }

    fn replay_moved(&mut self, recovery: &mut Recovery, raw: &RawRecord<'_>) -> Result<(), Damage> {
        let moved = Moved::read(raw, |moved, message| self.replay_moved_message(recovery, moved, message))?;
        recovery.time_ms = recovery.time_ms.max(moved.time_ms);
        Ok(())
    }

    fn replay_moved_message(&mut self, recovery: &mut Recovery, moved: &Moved, message: MovedMessage) {
        let MovedMessage { slot: index, receive_count, before, sequence, group } = message;
        if self.slab.get(index).is_none_or(|slot| slot.sequence != before) {
            return;
        }
        let first_received_at_ms = self.first_received_at_ms(index);
        let slot = &mut self.slab[index];
        slot.sequence = sequence;
        slot.queue = recovery.queue(moved.target);
        slot.available_at_ms = moved.time_ms;
        slot.receive_count = receive_count;
        let flags = (slot.flags() | FLAG_ARRIVED) & !FLAG_CHANGED;
        slot.set_flags(flags);
        if moved.is_fifo {
            slot.set_sent(moved.time_ms, State::Replayed, flags);
            slot.first_received_after_ms = 0;
        }
        if flags & FLAG_MEMBER != 0 {
            self.replay_group(index, group);
        }
        *self.rares.entry(index) =
            Rare { source: moved.source, receives_before: receive_count, first_received_at_ms, moved_end: 0 };
    }

    fn replay_list(
        &mut self,
        recovery: &mut Recovery,
        kind: Kind,
        raw: &RawRecord<'_>,
    ) -> Result<(), Damage> {
        let head = ListHead::read(kind, raw)?;
        recovery.time_ms = recovery.time_ms.max(head.time_ms);
        for listed in Listed::each(kind, raw) {
            if self.slab.get(listed.slot).is_some_and(|slot| slot.sequence == listed.sequence) {
                self.replay_listed(kind, head, listed);
            }
        }
        Ok(())
    }

    #[inline]
    fn replay_listed(&mut self, kind: Kind, head: ListHead, listed: Listed) {
        let slot = &mut self.slab[listed.slot];
        match kind {
            Kind::Delivered => {
                slot.receive_count = listed.receive_count;
                slot.available_at_ms = head.deadline_ms;
                slot.list_previous = slot.after_sent(head.time_ms);
                if listed.receive_count == 1 {
                    slot.first_received_after_ms = slot.list_previous;
                }
            }
            Kind::Hidden => slot.available_at_ms = listed.deadline_ms,
            Kind::Undelivered => {
                slot.receive_count = slot.receive_count.saturating_sub(1);
                slot.give_back(head.time_ms);
            }
            Kind::Damaged => slot.set_state(State::Damaged),
            Kind::Deleted | Kind::Expired => self.slab.clear_at(listed.slot),
            _ => unreachable!("only records that list messages are read as such"),
        }
    }

    /// Links what the records said, starts timers, and tells the log what of it is live. Damage: the
    /// records contradict each other.
    pub fn finish_recovery(&mut self, now_ms: u64, log: &mut Log<F>) -> Result<(), Damage> {
        let mut recovery = self.recovery.take().expect("recovery is finished once");
        self.now_ms = now_ms.max(recovery.time_ms);
        self.slot_wheel.begin_at(self.now_ms);
        self.queue_wheel.begin_at(self.now_ms);
        self.waits.begin_at(self.now_ms);
        if self.start_record.1 > 0 {
            log.live(self.start_record.0, self.start_record.1);
        }
        let indices = self.recover_queues(recovery.queues, log)?;
        let mut fresh = Vec::new();
        for (incarnation, (name, record)) in recovery.origins {
            self.origins.by_incarnation.insert(incarnation, Origin { name, count: 0, record });
        }
        self.recover_moves(log);
        self.recover_tasks(std::mem::take(&mut recovery.tasks), log);
        for slot in 0..self.slab.used() {
            self.recover_slot(slot, &indices, &mut fresh, log)?;
        }
        self.recover_origins(log);
        self.attempts.recover(
            self.now_ms,
            std::mem::take(&mut recovery.remembered.attempts).into_values(),
            log,
        );
        self.recover_entries(recovery.remembered, log);
        // Nearly sorted already, which this sort makes use of.
        fresh.sort_by_key(|&(key, _)| key);
        for (_, slot) in fresh {
            let queue = self.slab[slot].queue;
            if self.is_fifo(queue) {
                self.recover_fifo_link(slot);
            } else if self.slab[slot].flags() & FLAG_MEMBER != 0 {
                self.recover_fair(slot);
            } else {
                link_fresh(&mut self.slab, &mut self.queues[queue], slot);
            }
        }
        self.recover_groups();
        for index in 0..self.queues.table_length() {
            if self.queues.get(index).is_some() {
                self.start_queue_timer(index);
            }
        }
        self.slab.link_free();
        self.queues.link_free();
        Ok(())
    }

    /// Makes the queues that still are. Says for each recovered one where it stands, or that it is gone.
    fn recover_queues(
        &mut self,
        recovered: Vec<RecoveredQueue>,
        log: &mut Log<F>,
    ) -> Result<Vec<u32>, Damage> {
        let mut indices = Vec::with_capacity(recovered.len());
        let mut tombstones = Vec::new();
        let mut heirs = Vec::new();
        for recovered in recovered {
            let mut place = NONE;
            if F::has(Flaw::GiveTheDeadsMessagesToTheirHeirs)
                && let Some((name, ..)) = &recovered.deleted
            {
                heirs.push((indices.len(), name.clone()));
            }
            if let Some((name, deleted_at_ms, record)) = recovered.deleted {
                if self.options.minute_rules && self.now_ms < deleted_at_ms + MINUTE_MS {
                    log.live(record.0, record.1);
                    let incarnation = recovered.incarnation;
                    tombstones.push((name, Tombstone { incarnation, deleted_at_ms, record }));
                }
            } else if let Some((mut state, record)) = recovered.state {
                state.purged_at_ms = state.purged_at_ms.max(recovered.purged_at_ms);
                state.purged_through = state.purged_through.max(recovered.purged_through);
                place = state.definition.index;
                let in_flight_max = self.first_lease(&state.definition);
                let mut queue = Queue::new(state);
                queue.record = record;
                queue.in_flight_max = in_flight_max;
                if !self.queues.insert_at(place, queue) {
                    return Err(Damage::new("two queues have the same number or name"));
                }
                log.live(record.0, record.1);
            }
            indices.push(place);
        }
        for (place, name) in heirs {
            indices[place] = self.queues.named(&name).unwrap_or(NONE);
        }
        tombstones.sort_by_key(|(_, tombstone)| (tombstone.deleted_at_ms, tombstone.incarnation));
        for (name, tombstone) in tombstones {
            self.bury(&name, tombstone, log);
        }
        Ok(indices)
    }

    fn recover_slot(
        &mut self,
        index: u32,
        queues: &[u32],
        fresh: &mut Vec<(u64, u32)>,
        log: &mut Log<F>,
    ) -> Result<(), Damage> {
        let now_ms = self.now_ms;
        let slot = &mut self.slab[index];
        if slot.state() == State::Free {
            return Ok(());
        }
        let queue_index = queues[slot.queue as usize];
        if queue_index == NONE || self.queues[queue_index].is_gone(slot.sequence) {
            self.slab.clear_at(index);
            return Ok(());
        }
        slot.queue = queue_index;
        if slot.flags() & FLAG_ARRIVED != 0 {
            let source = self.rares.get(index).source;
            let origin = self.origins.by_incarnation.get_mut(&source);
            origin.ok_or(Damage::new("a message came from a queue that has no name"))?.count += 1;
        }
        log.live(Position(slot.position), slot.length);
        let queue = &mut self.queues[queue_index];
        queue.slots += 1;
        queue.stored_bytes += u64::from(content_bytes(slot));
        if queue.attributes.fifo.is_some() {
            let key = if F::has(Flaw::LinkCopiesInLogOrder) { slot.position } else { slot.sequence };
            fresh.push((key, index));
            self.recover_fifo_slot(index);
            return Ok(());
        }
        let is_member = slot.flags() & FLAG_MEMBER != 0;
        if slot.state() == State::Damaged {
            slot.set_flags(slot.flags() & !FLAG_MEMBER);
            queue.damaged += 1;
            self.start_timer(index);
            return Ok(());
        }
        if slot.flags() & FLAG_MOVING != 0 {
            slot.set_state(State::Hidden);
            queue.in_flight += 1;
            if is_member {
                self.recover_fair(index);
            }
            return Ok(());
        }
        if slot.available_at_ms > now_ms {
            let was_received = slot.receive_count > 0;
            slot.set_state(if was_received { State::Hidden } else { State::Delayed });
            if was_received {
                queue.in_flight += 1;
            } else {
                queue.delayed += 1;
            }
        } else {
            queue.visible += 1;
            if slot.receive_count == 0 && slot.available_at_ms == slot.sent_at_ms() {
                slot.set_state(State::Fresh);
                let key = if F::has(Flaw::LinkCopiesInLogOrder) { slot.position } else { slot.sequence };
                fresh.push((key, index));
                return Ok(());
            }
            slot.set_state(State::Returned);
            if !is_member {
                queue.returned.insert((slot.available_at_ms, slot.sequence), index);
            }
        }
        let is_hidden = slot.state() == State::Hidden;
        if is_member {
            self.recover_fair(index);
        }
        if !(is_hidden && F::has(Flaw::DropTimersAfterRestart)) {
            self.start_timer(index);
        }
        Ok(())
    }
}
