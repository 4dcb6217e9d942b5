//! Moves between shards: the engine's part, which the exchange carries (rule 22).
//!
//! A move has a number, a sequence of the shard that the message leaves. It begins with MovingOut on the
//! record there: the message is locked, and counted in flight there and nowhere else. Once that is
//! durable the message with all that it has is on the list of [`Engine::moves_wanted`]. The shard that
//! takes it writes MovedIn ([`Engine::moved_in`]): from then on it is visible there. When that is durable
//! the first shard is told ([`Engine::moved_out`]), writes MovedOut, and the message is gone there; or it
//! is visible there again, where the other shard refused it.
//!
//! Each step may be repeated. What is open after a restart is wanted again. The shard that takes messages
//! remembers what it has taken until the other says that it has no open move below a number, so a message
//! that comes twice is stored once, even where it has been deleted meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::keyed_hash::{Key, group_key};
use super::letters::group_of;
use super::message::content_bytes;
use super::move_records::{
    ARRIVAL_BYTES, ARRIVALS_BYTES, MOVED_IN_BYTES, MOVED_OUT_BYTES, MOVING_OUT_BYTES, MovedInFrom, MovedOut,
    MovingOut, write_arrivals,
};
use super::outputs::Outputs;
use super::queue_number::incarnation_of;
use super::rare::{Rare, RareBlock};
use super::records::{CONTENT_GROUPED, CONTENT_RARE, CopiedState, Kind, MessageHead, StoredMessage};
use super::slot::{
    FLAG_ARRIVED, FLAG_COPIED, FLAG_MEMBER, FLAG_MOVED_IN, FLAG_MOVING, NONE, State, TIME_MS_MAX,
};
use super::{Engine, append, end_of};
use crate::catalog::QueueName;
use crate::flaws::{Flaw, Flaws};
use crate::journal::{ColdRecord, Log, Position, RawRecord, Room};

/// Moves to other shards that are open at a time. At it a dead letter is delivered as usual, and a task
/// waits.
pub(super) const MOVES_OPEN_MAX: usize = 256;
/// Messages that one call of [`Engine::moves_wanted`] gives, so that a turn copies no more than some
/// megabytes; the rest is given by the next.
const MOVES_WANTED_MAX: usize = 8;
/// Dead letters that are remembered as not taken; with more, all are tried again.
const STAYED_MAX: usize = 4_096;
/// Live bytes of the log that keep the record that says that a move has arrived.
const ARRIVAL_LIVE_BYTES: u32 = ARRIVAL_BYTES as u32;

/// A message on its way to another shard, with all that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The move's number on the shard that it leaves.
    pub number: u64,
    /// That shard has no open moves below this number.
    pub settled_below: u64,
    /// The task that moves it; 0: it is a dead letter.
    pub task: u64,
    /// The number of the queue that it leaves, and its name.
    pub source: (u64, QueueName),
    /// The number of the queue that it goes to.
    pub target: u64,
    /// Its id.
    pub id: [u8; 16],
    /// When it was sent.
    pub sent_at_ms: u64,
    /// How often it was received.
    pub receive_count: u32,
    /// When it was first received; 0 if it never was.
    pub first_received_at_ms: u64,
    /// Bytes of the body, which is the first part of `content`.
    pub body_bytes: u32,
    /// Body and fields.
    pub content: Vec<u8>,
}

/// What became of a message that another shard was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveAnswer {
    /// It is stored there.
    Taken,
    /// It is not: the queue is gone, or does not allow it.
    Refused,
    /// It is not: there is no room now.
    NoRoom,
}

/// How a move ends on the shard that the message leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The message is on the other shard.
    Left,
    /// It was purged, or its queue deleted, before the other shard's answer came.
    Gone,
    /// It stays, as the other shard does not take it.
    Refused,
    /// It stays for now.
    Stays,
}

impl Moving {
    /// Roughly what it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.content.len()
    }
}

/// An open move to another shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing {
    pub record: MovingOut,
    pub position: Position,
    /// Whether it was given out since the start.
    pub given: bool,
}

/// Open moves out of this shard by their numbers, and those that came and may come again, with the
/// positions of the records that say so.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub outgoing: BTreeMap<u64, Outgoing>,
    /// Tasks by the numbers of their moves whose messages are gone here, and may have come to the other shard:
    /// its answer says whether they count as moved. No part of the state: what is asked when this shard ends
    /// is never known, and counts as not moved.
    unanswered: BTreeMap<u64, u64>,
    pub arrivals: BTreeMap<(u16, u64), Position>,
    /// Moves that are over, while that may not be durable: after a crash they may be open again. Where the
    /// record ends that says so, the other shard, and the number.
    settling: VecDeque<(Position, u16, u64)>,
    /// Dead letters that other shards have not taken, by slot and sequence: they are delivered before
    /// they are tried again. No part of the state: who begins anew tries once more.
    pub stayed: BTreeSet<(u32, u64)>,
}

impl Moves {
    /// How many are not over.
    fn count(&self) -> usize {
        self.outgoing.len() + self.unanswered.len()
    }

    /// The first move to a shard that is open, or may be after a crash: what is below does not come again.
    fn open_from(&mut self, to_shard: u16, durable: Position) -> Option<u64> {
        while self.settling.front().is_some_and(|(end, ..)| *end <= durable) {
            self.settling.pop_front();
        }
        let settling = self.settling.iter().filter(|(_, to, _)| *to == to_shard).map(|&(.., number)| number);
        let open = self.outgoing.values().map(|outgoing| outgoing.record);
        let open = open.filter(|record| record.to_shard == to_shard).map(|record| record.number);
        settling.min().into_iter().chain(open.take(1)).min()
    }
}

const MOVING_OUT_LENGTH: u32 = (crate::journal::PREFIX_BYTES + MOVING_OUT_BYTES) as u32;

impl<F: Flaws> Engine<F> {
    /// Locks a visible message and begins to move it to a queue that lives on another shard. `false`: as
    /// many moves are open as may be, or the log has no room for its records (rule 16).
    pub(super) fn begin_move_out(
        &mut self,
        index: u32,
        to_shard: u16,
        target: u64,
        task: u64,
        log: &mut Log<F>,
    ) -> bool {
        if self.moves.count() >= MOVES_OPEN_MAX || log.room() != Room::All {
            return false;
        }
        self.lock(index);
        self.reserve_sequences(log);
        let number = self.identity.next_sequence();
        let slot = &mut self.slab[index];
        slot.set_flags(slot.flags() | FLAG_MOVING);
        slot.available_at_ms = TIME_MS_MAX;
        let sequence = slot.sequence;
        let source = self.queues[slot.queue].number(slot.queue);
        let time_ms = self.now_ms;
        let record = MovingOut { number, source, target, time_ms, slot: index, to_shard, sequence, task };
        let position = self.journal_moving_out(&record, log);
        self.moves.outgoing.insert(number, Outgoing { record, position, given: false });
        true
    }

    /// Takes a visible message as one in flight without a timer. On a FIFO queue it keeps its group waiting.
    fn lock(&mut self, index: u32) {
        let queue_index = self.slab[index].queue;
        if !self.is_fifo(queue_index) {
            self.slot_wheel.cancel(&mut self.slab, index);
            if self.slab[index].flags() & FLAG_MEMBER == 0 {
                self.uncount(index);
                self.slab[index].set_state(State::Hidden);
            } else {
                self.queues[queue_index].visible -= 1;
                self.change_fair(index, State::Hidden);
            }
            self.queues[queue_index].in_flight += 1;
            return;
        }
        let queue = &mut self.queues[queue_index];
        queue.visible -= 1;
        queue.in_flight += 1;
        self.slab[index].set_state(State::Hidden);
        let place = self.members.get(index).group;
        self.groups[place].in_flight += 1;
        self.place_group(place);
    }

    fn journal_moving_out(&mut self, record: &MovingOut, log: &mut Log<F>) -> Position {
        let (position, length) =
            append(log, self.now_ms, Kind::MovingOut, MOVING_OUT_BYTES, 0, true, |out| record.write(out));
        debug_assert_eq!(length, MOVING_OUT_LENGTH);
        log.live(position, length);
        position
    }

    /// Messages that are to be given to other shards now, each with the shard. Each is given once a start;
    /// what is lost on the way is not asked for again until the next. A message whose body is not in
    /// memory comes once it was read. `has_room` says which shards may be given more. Says whether the next
    /// call may give more.
    pub fn moves_wanted(
        &mut self,
        now_ms: u64,
        has_room: impl Fn(u16) -> bool,
        log: &mut Log<F>,
        out: &mut Vec<(u16, Moving)>,
    ) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        // Not only written: else a power cut could take this record, and leave the other shard's.
        let durable = log.durable();
        let wanted = |outgoing: &&Outgoing| {
            let is_durable = end_of(outgoing.position.0, MOVING_OUT_LENGTH) <= durable
                || F::has(Flaw::SendMovesBeforeTheyAreDurable);
            !outgoing.given && is_durable && has_room(outgoing.record.to_shard)
        };
        let outgoing = self.moves.outgoing.values().filter(wanted);
        let numbers: Vec<u64> = outgoing.map(|outgoing| outgoing.record.number).collect();
        let mut has_gone_on = false;
        for &number in numbers.iter().take(MOVES_WANTED_MAX) {
            has_gone_on |= self.want_move(number, log, out);
        }
        has_gone_on && numbers.len() > MOVES_WANTED_MAX
    }

    /// Whether there are moves that were not given out since the start.
    pub fn has_moves_wanted(&self) -> bool {
        self.moves.outgoing.values().any(|outgoing| !outgoing.given)
    }

    /// Says whether anything has come of it.
    fn want_move(&mut self, number: u64, log: &mut Log<F>, out: &mut Vec<(u16, Moving)>) -> bool {
        let Some(outgoing) = self.moves.outgoing.get(&number) else { return false };
        let record = outgoing.record;
        let settled_below = self.moves.open_from(record.to_shard, log.durable()).unwrap_or(number);
        let slot = &self.slab[record.slot];
        let name = self.queues.get(slot.queue).map(|queue| queue.name.clone());
        let is_there = slot.sequence == record.sequence && slot.flags() & FLAG_MOVING != 0;
        let Some(name) = name.filter(|_| is_there && !self.queues[slot.queue].is_gone(slot.sequence)) else {
            // It was purged, or its queue deleted, before it could leave.
            self.settle_move(number, End::Gone, log);
            return true;
        };
        let (position, length) = (Position(slot.position), slot.length);
        let moving = match log.cold_record(position, length) {
            ColdRecord::Reading => return false,
            ColdRecord::Here(bytes) => read_message(bytes),
            ColdRecord::Damaged => None,
        };
        let Some((id, body_bytes, content)) = moving else {
            // It stays here, and is set aside (rule 15).
            self.settle_move(number, End::Stays, log);
            self.set_aside(record.slot, record.sequence, log);
            return true;
        };
        let slot = &self.slab[record.slot];
        let receive_count = slot.receive_count;
        let moving = Moving {
            number,
            settled_below,
            task: record.task,
            source: (record.source, name),
            target: record.target,
            id,
            sent_at_ms: slot.sent_at_ms(),
            receive_count,
            first_received_at_ms: if receive_count > 0 { self.first_received_at_ms(record.slot) } else { 0 },
            body_bytes,
            content,
        };
        out.push((record.to_shard, moving));
        if let Some(outgoing) = self.moves.outgoing.get_mut(&number) {
            outgoing.given = true;
        }
        if F::has(Flaw::FreeWhatMovesBeforeItArrived) {
            self.settle_move(number, End::Left, log);
        }
        true
    }

    /// Takes a message from another shard. Its answer may leave when the log is durable up to the
    /// position.
    pub fn moved_in(
        &mut self,
        now_ms: u64,
        from_shard: u16,
        moving: &Moving,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> (MoveAnswer, Position) {
        self.now_ms = self.now_ms.max(now_ms);
        let answer = if self.moves.arrivals.contains_key(&(from_shard, moving.number)) {
            MoveAnswer::Taken
        } else {
            match self.target_of(moving) {
                None => MoveAnswer::Refused,
                Some(_) if log.room() != Room::All => MoveAnswer::NoRoom,
                Some(target) => {
                    let from = MovedInFrom {
                        shard: from_shard,
                        slot: 0,
                        number: moving.number,
                        settled_below: moving.settled_below,
                        task: moving.task,
                    };
                    match self.store_moved(target, moving, from, log) {
                        Some(_) => MoveAnswer::Taken,
                        None => MoveAnswer::NoRoom,
                    }
                }
            }
        };
        self.serve_ready(log, out);
        (answer, log.end())
    }

    /// The queue that a message from another shard goes to, if it is there and lets it in.
    fn target_of(&self, moving: &Moving) -> Option<u32> {
        let index = self.queues.find(moving.target)?;
        let target = &self.queues[index];
        let allow = target.details.redrive_allow.as_ref().filter(|_| moving.task == 0);
        let is_allowed = allow.is_none_or(|allow| allow.allows(&moving.source.1));
        let is_alike = target.name.is_fifo() == moving.source.1.is_fifo();
        (is_allowed && is_alike).then_some(index)
    }

    /// Stores a message that came from another place: a dead letter with all that it was, what a task moves
    /// as a new one.
    pub(super) fn store_moved(
        &mut self,
        target_index: u32,
        moving: &Moving,
        from: MovedInFrom,
        log: &mut Log<F>,
    ) -> Option<u32> {
        self.reserve_sequences(log);
        let is_letter = moving.task == 0;
        let incarnation = self.queues[target_index].incarnation;
        let is_fifo = self.is_fifo(target_index);
        let group = group_of(&moving.content, moving.body_bytes as usize);
        if is_fifo && group.is_none() {
            return None;
        }
        let group = group.map(|id| group_key(&self.options.check_key, incarnation, id));
        let index = self.slab.take()?;
        let sequence = self.identity.next_sequence();
        let target = &self.queues[target_index];
        // A FIFO queue's retention begins with the move.
        let sent_at_ms = if is_letter && !is_fifo { moving.sent_at_ms } else { self.now_ms };
        let delay_ms = if is_letter { 0 } else { target.attributes.delay_ms() };
        let source = incarnation_of(moving.source.0);
        let block = RareBlock { origin: is_letter.then_some((source, moving.receive_count)) };
        let head = MessageHead {
            slot: index,
            content_flags: if is_letter { CONTENT_RARE } else { 0 }
                | if group.is_some() { CONTENT_GROUPED } else { 0 },
            sequence,
            incarnation,
            sent_at_ms,
            available_at_ms: self.now_ms + delay_ms,
            id: if is_letter { moving.id } else { self.identity.message_id(sequence) },
            body_bytes: moving.body_bytes,
        };
        let state = CopiedState {
            damaged: false,
            receive_count: if is_letter { moving.receive_count } else { 0 },
            first_received_at_ms: if is_letter { moving.first_received_at_ms } else { 0 },
            delivered_at_ms: 0,
        };
        if is_letter {
            self.count_origin(source, &moving.source.1, 1, log);
        }
        let variable_bytes = block.bytes() + moving.content.len();
        let (position, length) =
            append(log, self.now_ms, Kind::MovedIn, MOVED_IN_BYTES, variable_bytes, true, |out| {
                head.write(out);
                state.write(out);
                from.write(out);
                let (rare, content) = out[MOVED_IN_BYTES..].split_at_mut(block.bytes());
                block.write(rare);
                content.copy_from_slice(&moving.content);
            });
        log.live(position, length);
        if from.shard != self.options.shard {
            // The record says so, too: what is forgotten here is forgotten by who reads it.
            self.forget_arrivals(from.shard, from.settled_below, log);
            self.moves.arrivals.insert((from.shard, from.number), position);
            log.live(position, ARRIVAL_LIVE_BYTES);
        }
        let mut flags = FLAG_COPIED | FLAG_MOVED_IN | block.flag();
        if is_letter {
            flags |= FLAG_ARRIVED;
            let first_received_at_ms = moving.first_received_at_ms;
            let rare =
                Rare { source, receives_before: moving.receive_count, first_received_at_ms, moved_end: 0 };
            *self.rares.entry(index) = rare;
        }
        let slot = &mut self.slab[index];
        slot.sequence = sequence;
        slot.position = position.0;
        slot.length = length;
        slot.queue = target_index;
        slot.available_at_ms = head.available_at_ms;
        slot.receive_count = state.receive_count;
        slot.set_sent(sent_at_ms, State::Hidden, flags);
        slot.first_received_after_ms = slot.after_sent(state.first_received_at_ms);
        self.attach(index, delay_ms, group);
        Some(index)
    }

    /// Counts and links a message that has just come to its queue.
    fn attach(&mut self, index: u32, delay_ms: u64, group: Option<Key>) {
        let content = u64::from(content_bytes(&self.slab[index]));
        let queue_index = self.slab[index].queue;
        let queue = &mut self.queues[queue_index];
        queue.slots += 1;
        queue.stored_bytes += content;
        if let Some(group) = group
            && queue.attributes.is_fifo()
        {
            let place = self.groups.find_or_make(group);
            let slot = &mut self.slab[index];
            slot.set_state(State::Returned);
            if slot.receive_count == 0 {
                // Its delay is judged by the time of its sending.
                slot.available_at_ms = slot.sent_at_ms();
            }
            self.link_fifo(index, Some(place));
            self.start_queue_timer(queue_index);
        } else if delay_ms > 0 {
            queue.delayed += 1;
            self.slab[index].set_state(State::Delayed);
            self.start_timer(index);
            if let Some(group) = group {
                self.join_fair(index, group);
            }
        } else {
            // As one that was hidden until now.
            queue.in_flight += 1;
            let slot = &mut self.slab[index];
            slot.list_previous = slot.after_sent(self.now_ms);
            if let Some(group) = group {
                self.join_fair(index, group);
            }
            self.make_returned(index);
        }
    }

    /// The other shard has answered, durably: the message is gone here, or visible again.
    pub fn moved_out(
        &mut self,
        now_ms: u64,
        number: u64,
        answer: MoveAnswer,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        self.now_ms = self.now_ms.max(now_ms);
        let end = match answer {
            MoveAnswer::Taken => End::Left,
            MoveAnswer::Refused => End::Refused,
            MoveAnswer::NoRoom => End::Stays,
        };
        self.settle_unanswered(number, end, log);
        self.settle_move(number, end, log);
        self.serve_ready(log, out);
    }

    /// The other shard has said what became of a message that is gone here: where it has arrived, its task has
    /// moved it.
    fn settle_unanswered(&mut self, number: u64, end: End, log: &mut Log<F>) {
        let Some(task) = self.moves.unanswered.remove(&number) else { return };
        let is_moved = end == End::Left;
        if is_moved {
            let (time_ms, slot) = (self.now_ms, NONE);
            let record = MovedOut { number, time_ms, slot, refused: false, sequence: 0, task };
            append(log, self.now_ms, Kind::MovedOut, MOVED_OUT_BYTES, 0, false, |out| record.write(out));
        }
        self.task_moved(task, is_moved, end == End::Refused, log);
    }

    /// A message that is on its way is gone here: purged, or with its queue.
    pub(super) fn discard_gone(&mut self, index: u32, log: &mut Log<F>) {
        match self.move_of(index) {
            Some(number) => self.settle_move(number, End::Gone, log),
            None => self.discard(index, log),
        }
    }

    /// A message cannot be read: if it is on its way, it stays.
    pub(super) fn stop_moving(&mut self, index: u32, log: &mut Log<F>) {
        if let Some(number) = self.move_of(index) {
            self.settle_move(number, End::Stays, log);
        }
    }

    /// The open move of the message in a slot.
    fn move_of(&self, index: u32) -> Option<u64> {
        let slot = &self.slab[index];
        if slot.flags() & FLAG_MOVING == 0 {
            return None;
        }
        let is_it = |record: &MovingOut| record.slot == index && record.sequence == slot.sequence;
        let mut records = self.moves.outgoing.values().map(|outgoing| outgoing.record);
        records.find(is_it).map(|record| record.number)
    }

    /// Whether another shard has not taken a dead letter, which is delivered then.
    pub(super) fn has_stayed(&mut self, index: u32) -> bool {
        self.moves.stayed.remove(&(index, self.slab[index].sequence))
    }

    fn settle_move(&mut self, number: u64, end: End, log: &mut Log<F>) {
        let Some(outgoing) = self.moves.outgoing.remove(&number) else { return };
        let MovingOut { slot: index, sequence, task, .. } = outgoing.record;
        // Of what is gone nobody knows here whether it has arrived: only the other shard's word makes it count.
        let refused = end != End::Left;
        let record = MovedOut { number, time_ms: self.now_ms, slot: index, refused, sequence, task };
        append(log, self.now_ms, Kind::MovedOut, MOVED_OUT_BYTES, 0, false, |out| record.write(out));
        log.release(outgoing.position, MOVING_OUT_LENGTH);
        if log.durable() < log.end() {
            self.moves.settling.push_back((log.end(), outgoing.record.to_shard, number));
        }
        if task != 0 && end == End::Gone && outgoing.given {
            self.moves.unanswered.insert(number, task);
        } else if task != 0 {
            self.task_moved(task, end == End::Left, end == End::Refused, log);
        }
        let slot = &self.slab[index];
        if slot.sequence != sequence || slot.flags() & FLAG_MOVING == 0 {
            return;
        }
        let queue_index = slot.queue;
        if matches!(end, End::Left | End::Gone) || self.queues[queue_index].is_gone(sequence) {
            self.discard(index, log);
        } else {
            self.unlock(index, task, sequence);
        }
        // What is on its way does not expire: while it was its queue's first, the timer stood for nothing.
        if self.queues.get(queue_index).is_some_and(|queue| queue.attributes.is_fifo()) {
            self.restart_queue_timer(queue_index);
        }
    }

    /// A message that was on its way is visible again where it is.
    fn unlock(&mut self, index: u32, task: u64, sequence: u64) {
        if task == 0 {
            if self.moves.stayed.len() == STAYED_MAX {
                self.moves.stayed.clear();
            }
            self.moves.stayed.insert((index, sequence));
        }
        // A sweep may have given it one, which never ends.
        self.slot_wheel.cancel(&mut self.slab, index);
        let slot = &mut self.slab[index];
        slot.set_flags(slot.flags() & !FLAG_MOVING);
        slot.available_at_ms = self.now_ms;
        if !self.queues[slot.queue].attributes.is_fifo() {
            // Nobody has processed it.
            slot.list_previous = slot.after_sent(self.now_ms);
        }
        self.make_returned(index);
    }

    /// The other shard has settled its moves below a number: they do not come again.
    fn forget_arrivals(&mut self, from_shard: u16, below: u64, log: &mut Log<F>) {
        while let Some((&arrival, &position)) = self.moves.arrivals.range((from_shard, 0)..).next()
            && arrival < (from_shard, below)
        {
            self.moves.arrivals.remove(&arrival);
            log.release(position, ARRIVAL_LIVE_BYTES);
        }
    }

    /// Writes again what lies at these positions.
    pub(super) fn carry_moves(&mut self, old: &Range<Position>, log: &mut Log<F>) {
        let is_old = |outgoing: &&Outgoing| old.contains(&outgoing.position);
        let outgoing: Vec<Outgoing> = self.moves.outgoing.values().filter(is_old).copied().collect();
        for outgoing in outgoing {
            let position = self.journal_moving_out(&outgoing.record, log);
            log.release(outgoing.position, MOVING_OUT_LENGTH);
            self.moves.outgoing.insert(outgoing.record.number, Outgoing { position, ..outgoing });
        }
        let is_old = |(_, position): &(&(u16, u64), &Position)| old.contains(position);
        let arrivals: Vec<(u16, u64)> =
            self.moves.arrivals.iter().filter(is_old).map(|(&arrival, _)| arrival).collect();
        if arrivals.is_empty() || F::has(Flaw::ForgetArrivalsInCleaning) {
            return;
        }
        let variable_bytes = arrivals.len() * ARRIVAL_BYTES;
        let (position, _) =
            append(log, self.now_ms, Kind::Arrivals, ARRIVALS_BYTES, variable_bytes, true, |out| {
                write_arrivals(&arrivals, out);
            });
        for arrival in arrivals {
            log.live(position, ARRIVAL_LIVE_BYTES);
            if let Some(before) = self.moves.arrivals.insert(arrival, position) {
                log.release(before, ARRIVAL_LIVE_BYTES);
            }
        }
    }

    /// Recovery has read all records: locks what is moving, and tells the log what of it is live.
    pub(super) fn recover_moves(&mut self, log: &mut Log<F>) {
        let slab = &mut self.slab;
        self.moves.outgoing.retain(|_, outgoing| {
            let index = outgoing.record.slot;
            let is_there = slab.get(index).is_some_and(|slot| slot.sequence == outgoing.record.sequence);
            if is_there {
                let slot = &mut slab[index];
                slot.set_flags(slot.flags() | FLAG_MOVING);
                slot.available_at_ms = TIME_MS_MAX;
            }
            is_there
        });
        for outgoing in self.moves.outgoing.values() {
            log.live(outgoing.position, MOVING_OUT_LENGTH);
        }
        for &position in self.moves.arrivals.values() {
            log.live(position, ARRIVAL_LIVE_BYTES);
        }
    }
}

/// What a message's record says of it.
pub(super) fn read_message(bytes: &[u8]) -> Option<([u8; 16], u32, Vec<u8>)> {
    let raw = RawRecord::parse(bytes).ok()?;
    let stored = StoredMessage::parse(&raw).ok()?;
    Some((stored.id, stored.body_bytes, stored.content.to_vec()))
}

#[cfg(test)]
mod tests {
    use tenpin_protocol::{
        Attribute, AttributeCode, AttributeValue, ContentFields, Entries, Operation, SendEntry, write_content,
    };

    use super::super::tests::{CONNECTION, START_MS};
    use super::super::{Change, Command, EngineOptions, Planned, RawName, Ticket};
    use super::*;
    use crate::flaws::Sound;
    use crate::journal::real_storage::RealStorage;
    use crate::journal::{Durability, LogOptions};

    fn open(number: u64, to_shard: u16) -> Outgoing {
        let record =
            MovingOut { number, source: 1, target: 2, time_ms: 3, slot: 4, to_shard, sequence: 5, task: 0 };
        Outgoing { record, position: Position(1), given: true }
    }

    /// Else the other shard would forget what has come, and take it once more after a crash.
    #[test]
    fn a_move_counts_as_open_until_its_end_is_durable() {
        let mut moves = Moves::default();
        moves.outgoing.insert(30, open(30, 1));
        moves.outgoing.insert(20, open(20, 2));
        moves.settling.push_back((Position(100), 1, 10));
        moves.settling.push_back((Position(200), 1, 11));
        assert_eq!(moves.open_from(1, Position(99)), Some(10));
        assert_eq!(moves.open_from(2, Position(99)), Some(20), "each shard by itself");
        assert_eq!(moves.open_from(1, Position(150)), Some(11));
        assert_eq!(moves.open_from(1, Position(200)), Some(30));
        assert_eq!(moves.open_from(3, Position(200)), None);
    }

    /// The same of a move that ends, where the log has a disk.
    #[test]
    fn a_move_that_has_just_ended_may_be_open_after_a_crash() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let options = LogOptions::new(Durability::Fsync, [7; 16], 0);
        let opened = Log::<Sound>::open(
            &mut RealStorage::new(folder.path()),
            options,
            &mut |_| {},
            &mut |_, _| Ok(()),
        );
        let (mut log, mut out) = (opened.expect("an empty folder opens").0, Outputs::default());
        let mut engine = Engine::<Sound>::new(EngineOptions { shards: 2, ..EngineOptions::new(0, [1, 2]) });
        engine.finish_recovery(START_MS, &mut log).expect("there is nothing");
        engine.start(START_MS, [1; 16], &mut log);
        let attributes = [Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1))];
        let name = RawName { account: "", region: "", name: "q.fifo" };
        let tags = Entries::default();
        let command = Command::CreateQueue { name, attributes: Entries::of(&attributes), tags };
        let planned = engine.plan(START_MS, command, &log).expect("it is right");
        let Planned::Change(change, _) = planned else { panic!("it is new") };
        engine.apply_change(START_MS, &change, &mut log, &mut out);
        let Change::Define(definition) = change else { panic!("it is a queue") };
        let queue = definition.number();
        let fields =
            ContentFields { group: Some("g"), deduplication_id: Some("d"), ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, b"a", &fields);
        let entries = [SendEntry::with_content(&content, 1).expect("it was written")];
        let ticket = Ticket { connection: CONNECTION, correlation: 1, operation: Operation::Send };
        let send = Command::Send { queue, entries: Entries::of(&entries) };
        engine.apply(START_MS, ticket, send, &mut log, &mut out);
        assert!(engine.begin_move_out(0, 1, queue, 0, &mut log));
        let number = *engine.moves.outgoing.keys().next().expect("it has begun");
        engine.moved_out(START_MS, number, MoveAnswer::Taken, &mut log, &mut out);
        assert!(engine.moves.outgoing.is_empty() && log.durable() < log.end());
        assert_eq!(engine.moves.open_from(1, log.durable()), Some(number));
        assert_eq!(engine.moves.open_from(1, log.end()), None);
    }
}
