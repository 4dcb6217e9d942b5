//! Dead letters: a message that was received too often moves to another queue instead of being delivered.
//!
//! It is decided when a receive comes to the message, by what holds then: the source's redrive policy,
//! whether the target is there and of the same kind, and whether its allow policy lets the source in. If
//! not, the message is delivered as usual. What counts are the receives since the message arrived in the
//! queue; all receives of its life are what consumers are shown. The message keeps its slot and its
//! record, and gets a new sequence: marks of the target (a purge, what had expired) judge it by when it
//! came there, and handles from before mean nothing any more (rule 6).
//!
//! A receive moves a bounded number; where there are more it goes on in the next turn (rule 31).

use super::message::content_bytes;
use tenpin_protocol::{Fields, content_tag};

use super::keyed_hash::{Key, TEXT_BYTES_MAX, group_key, group_key_elsewhere};
use super::move_records::{MOVED_BYTES, MOVED_MESSAGE_BYTES, Moved, MovedMessage};
use super::outputs::{Outputs, Reply, ReplyBody};
use super::rare::Rare;
use super::receive::{Nothing, Receive};
use super::records::{Kind, StoredMessage};
use super::slot::{FLAG_ARRIVED, FLAG_CHANGED, FLAG_MEMBER, Slot, State};
use super::{Engine, Ticket, append};
use crate::flaws::Flaws;
use crate::journal::{ColdRecord, Log, Position, RawRecord};
use crate::shard::driver::ConnectionId;

/// Dead letters that one receive moves. Where there are more, it goes on in the next turn.
pub(super) const LETTERS_A_RECEIVE: usize = 64;

/// A receive that moves dead letters or clears expired messages away and has found nothing else yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfinished {
    pub ticket: Ticket,
    /// The queue's number: it may be deleted meanwhile.
    pub queue: u64,
    pub receive: Receive,
    /// Until when it waits once there is nothing; the time at which it came, where it does not.
    pub deadline_ms: u64,
}

/// What became of a dead letter at the head of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetterStep {
    /// It is not at the head any more.
    Moved,
    /// As many were moved as may be in a turn, or it must be read from disk first, as its record says its
    /// group: the receive goes on later.
    Later,
    /// It cannot move to another shard now: it is delivered as usual.
    Stays,
}

/// What a receive knows of its queue's dead letters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letters {
    /// From this many receives on a message is one.
    pub after: u32,
    /// Where they go, if anywhere, once that was looked up.
    pub target: Option<Option<u32>>,
}

impl<F: Flaws> Engine<F> {
    /// What a receive on this queue needs to know of dead letters; `None`: they never are.
    #[inline]
    pub(super) fn letters_of(&self, queue_index: u32) -> Option<Letters> {
        let after = self.queues[queue_index].details.redrive()?.max_receive_count;
        Some(Letters { after, target: None })
    }

    /// The queue that a visible message is to be moved to, if it is a dead letter that is taken.
    #[inline]
    pub(super) fn is_letter(&self, index: u32, queue_index: u32, letters: &mut Letters) -> Option<u32> {
        if self.receives_here(index, &self.slab[index]) < letters.after {
            return None;
        }
        let target = || self.queues.dead_letter_target(queue_index).map(|(target, _)| target);
        *letters.target.get_or_insert_with(target)
    }

    /// How often a message was received since it came to its queue.
    #[inline]
    pub(super) fn receives_here(&self, index: u32, slot: &Slot) -> u32 {
        if slot.flags() & FLAG_ARRIVED == 0 {
            return slot.receive_count;
        }
        slot.receive_count.saturating_sub(self.rares.get(index).receives_before)
    }

    /// Up to where the log must be committed for a message to be shown: its record, and its move.
    #[inline]
    pub(super) fn message_end(&self, index: u32, slot: &Slot) -> Position {
        let end = super::end_of(slot.position, slot.length);
        if slot.flags() & FLAG_ARRIVED == 0 {
            end
        } else {
            end.max(Position(self.rares.get(index).moved_end))
        }
    }

    /// Moves a visible message to another queue of this shard; a message of a FIFO queue joins this group
    /// there. [`Engine::flush_moved`] must follow before anything else is journaled of it.
    pub(super) fn move_message(&mut self, index: u32, target_index: u32, group: Key, log: &mut Log<F>) {
        let is_fifo = self.is_fifo(target_index);
        let is_member = self.slab[index].flags() & FLAG_MEMBER != 0;
        let group = if is_member && !is_fifo { self.group_elsewhere(index, target_index) } else { group };
        self.uncount(index);
        self.slot_wheel.cancel(&mut self.slab, index);
        if is_member {
            self.forget_group(index);
        }
        let sequence = self.identity.next_sequence();
        let slot = &mut self.slab[index];
        let (source_index, content) = (slot.queue, u64::from(content_bytes(slot)));
        let listed = MovedMessage {
            slot: index,
            receive_count: slot.receive_count,
            before: slot.sequence,
            sequence,
            group,
        };
        self.moved.push(listed);
        let source = &mut self.queues[source_index];
        source.slots -= 1;
        source.stored_bytes -= content;
        let source_incarnation = source.incarnation;
        self.arrive(index, source_incarnation, log);
        let target = &mut self.queues[target_index];
        target.slots += 1;
        target.stored_bytes += content;
        let slot = &mut self.slab[index];
        slot.sequence = sequence;
        slot.queue = target_index;
        slot.available_at_ms = self.now_ms;
        slot.set_state(State::Returned);
        slot.set_flags(slot.flags() & !FLAG_CHANGED);
        if is_fifo {
            // Retention begins anew, and so the queue's list stays in the order of times.
            let (state, flags) = (slot.state(), slot.flags());
            slot.set_sent(self.now_ms, state, flags);
            slot.first_received_after_ms = 0;
            let place = self.groups.find_or_make(group);
            self.link_fifo(index, Some(place));
            self.start_queue_timer(target_index);
        } else {
            target.visible += 1;
            if is_member {
                self.join_fair(index, group);
            } else {
                target.returned.insert((self.now_ms, sequence), index);
            }
            self.start_timer(index);
        }
        if self.queues[target_index].is_awaited() {
            self.mark_ready(target_index);
        }
    }

    /// The key that the group of a message has in another queue.
    fn group_elsewhere(&self, index: u32, target_index: u32) -> Key {
        let [from, to] = [self.slab[index].queue, target_index].map(|queue| self.queues[queue].incarnation);
        let key = self.groups[self.members.get(index).group].key;
        group_key_elsewhere(&self.options.check_key, key, from, to)
    }

    /// Moves the dead letter at the head of a group of a FIFO queue, here or to begin with where the target
    /// lives on another shard.
    pub(super) fn move_fifo_letter(&mut self, index: u32, target: u32, log: &mut Log<F>) -> LetterStep {
        let queue = &self.queues[target];
        if queue.owner_shard != self.options.shard {
            let (to_shard, number) = (queue.owner_shard, queue.number(target));
            let begins = !self.has_stayed(index) && self.begin_move_out(index, to_shard, number, 0, log);
            return if begins { LetterStep::Moved } else { LetterStep::Stays };
        }
        if self.moved.len() == self.options.letters_a_receive {
            return LetterStep::Later;
        }
        let slot = &self.slab[index];
        let (sequence, position, length) = (slot.sequence, Position(slot.position), slot.length);
        let group = match log.cold_record(position, length) {
            ColdRecord::Reading => {
                // Not in each turn until then; the read takes longer than that.
                self.letters_due_ms = self.now_ms + 1;
                return LetterStep::Later;
            }
            ColdRecord::Here(bytes) => read_group(bytes),
            ColdRecord::Damaged => None,
        };
        let Some(group) = group else {
            // It stays, set aside; its group goes on (rule 15).
            self.set_aside(index, sequence, log);
            return LetterStep::Moved;
        };
        let key = group_key(&self.options.check_key, self.queues[target].incarnation, &group);
        self.move_message(index, target, key, log);
        LetterStep::Moved
    }

    /// Journals what a receive has moved.
    pub(super) fn flush_letters(&mut self, queue_index: u32, letters: Option<Letters>, log: &mut Log<F>) {
        if let Some(Letters { target: Some(Some(target)), .. }) = letters {
            self.flush_moved(queue_index, target, log);
        }
    }

    /// Notes where a message comes from, in place of where it came from before.
    fn arrive(&mut self, index: u32, source: u64, log: &mut Log<F>) {
        let slot = &mut self.slab[index];
        let flags = slot.flags();
        let first_received_at_ms = if flags & FLAG_ARRIVED == 0 {
            slot.first_received_at_ms()
        } else {
            self.rares.get(index).first_received_at_ms
        };
        let before = if flags & FLAG_ARRIVED == 0 { 0 } else { self.rares.get(index).source };
        slot.set_flags(flags | FLAG_ARRIVED);
        let receives_before = slot.receive_count;
        *self.rares.entry(index) = Rare { source, receives_before, first_received_at_ms, moved_end: 0 };
        if before != 0 {
            self.uncount_origin(before, log);
        }
    }

    /// Journals the messages that were moved from one queue to another since.
    pub(super) fn flush_moved(&mut self, source_index: u32, target_index: u32, log: &mut Log<F>) {
        if self.moved.is_empty() {
            return;
        }
        let mut moved = std::mem::take(&mut self.moved);
        let source = &self.queues[source_index];
        let (incarnation, name) = (source.incarnation, source.name.clone());
        let target = &self.queues[target_index];
        let head = Moved {
            source: incarnation,
            target: target.incarnation,
            time_ms: self.now_ms,
            is_fifo: target.attributes.is_fifo(),
        };
        self.count_origin(incarnation, &name, moved.len() as u64, log);
        let variable_bytes = moved.len() * MOVED_MESSAGE_BYTES;
        append(log, self.now_ms, Kind::Moved, MOVED_BYTES, variable_bytes, false, |out| {
            head.write(&moved, out);
        });
        for message in moved.drain(..) {
            self.rares.entry(message.slot).moved_end = log.end().0;
        }
        self.moved = moved;
    }

    /// Goes on with receives that had dead letters to move or expired messages to clear away, once each.
    pub(super) fn continue_receives(&mut self, log: &mut Log<F>, out: &mut Outputs) {
        if self.now_ms < self.letters_due_ms {
            return;
        }
        for index in std::mem::take(&mut self.later) {
            if self.queues.get(index).is_some() {
                self.queues[index].ready = false;
                self.mark_ready(index);
            }
        }
        for _ in 0..self.unfinished.len() {
            let Some(unfinished) = self.unfinished.pop_front() else { return };
            self.continue_receive(unfinished, log, out);
        }
    }

    fn continue_receive(&mut self, unfinished: Unfinished, log: &mut Log<F>, out: &mut Outputs) {
        let Unfinished { ticket, queue, receive, deadline_ms } = unfinished;
        let result = self
            .find_queue(queue)
            .map(|index| (index, self.hand_out(index, ticket, receive, true, log, out)));
        match result {
            Ok((_, Ok(()))) => {}
            Ok((_, Err(Nothing::More))) => self.unfinished.push_back(unfinished),
            Ok((index, Err(nothing))) => {
                self.handed_out_nothing(ticket, index, receive, deadline_ms, nothing, true, out);
            }
            Err(refusal) => out.replies.push(Reply {
                ticket,
                depends_on: log.end(),
                stale_after_ms: u64::MAX,
                ends_wait: true,
                body: ReplyBody::Refused(refusal),
            }),
        }
    }

    /// When receives go on, if there are any: in the next turn, or once a record may have been read.
    pub(super) fn letters_deadline_ms(&self) -> Option<u64> {
        let is_there = !self.unfinished.is_empty() || !self.later.is_empty();
        is_there.then(|| self.letters_due_ms.max(self.now_ms))
    }

    /// Whether receives go on in the next turn.
    pub(super) fn has_letters_to_move(&self) -> bool {
        self.letters_deadline_ms().is_some_and(|due_ms| due_ms <= self.now_ms)
    }

    /// Forgets the unfinished receives of a connection that is gone.
    pub(super) fn cancel_unfinished(&mut self, connection: ConnectionId) {
        self.unfinished.retain(|unfinished| unfinished.ticket.connection != connection);
    }

    /// Forgets an unfinished receive that is to be tried again.
    pub fn forget_unfinished(&mut self, ticket: Ticket) {
        self.unfinished.retain(|unfinished| unfinished.ticket != ticket);
    }

    /// Answers the unfinished receives of a connection, or all, with nothing.
    pub(super) fn answer_unfinished(&mut self, connection: Option<ConnectionId>, out: &mut Outputs) {
        let end = out.deliveries.len() as u32;
        self.unfinished.retain(|unfinished| {
            let stays = connection.is_some_and(|connection| unfinished.ticket.connection != connection);
            if !stays {
                out.replies.push(Reply {
                    ticket: unfinished.ticket,
                    depends_on: Position::default(),
                    stale_after_ms: u64::MAX,
                    ends_wait: true,
                    body: ReplyBody::Received(end..end),
                });
            }
            stays
        });
    }
}

/// The group that a message's record names.
fn read_group(bytes: &[u8]) -> Option<String> {
    let raw = RawRecord::parse(bytes).ok()?;
    let stored = StoredMessage::parse(&raw).ok()?;
    group_of(stored.content, stored.body_bytes as usize).map(str::to_owned)
}

/// The group that a message's content names.
pub(super) fn group_of(content: &[u8], body_bytes: usize) -> Option<&str> {
    let fields = Fields::new(content.get(body_bytes..)?);
    let group = fields.value(content_tag::GROUP).and_then(|id| std::str::from_utf8(id).ok());
    group.filter(|id| id.len() <= TEXT_BYTES_MAX)
}
