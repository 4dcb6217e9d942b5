//! Looking at messages without taking them.
//!
//! Visible messages are shown in the order in which they would be received, but that on a standard
//! queue those of groups, noisy or not, come behind those without. The others are in no
//! list, so that they are looked for in the slots, a bounded number of them a call; a page may
//! therefore be empty and still say where to go on.

use std::collections::BTreeMap;

use tenpin_protocol::{ErrorCode, MessageState};

use super::fifo::delayed_until_ms;
use super::message::shown_bytes;
use super::outputs::{Delivery, Outputs, Refusal, ReplyBody};
use super::queue::Turn;
use super::slot::{FLAG_MOVING, NONE, Slot, State};
use super::{BATCH_ENTRIES_MAX, Engine, Ticket, out_of_range};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

/// Slots or list entries that one peek passes over; where that is not enough, the page is short.
const PASSED_MAX: u32 = 4_096;

/// A peek as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub count_max: u32,
    pub state: u8,
    pub next: Option<&'a [u8]>,
    pub reply_bytes_max: u32,
}

/// The last message of a list that was passed over, by its slot and sequence: as long as it stands in the list,
/// what is before it needs not be passed over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passed {
    slot: u32,
    sequence: u64,
}

impl Passed {
    /// None was; no message has this sequence.
    const NONE: Self = Self { slot: NONE, sequence: 0 };
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Visible messages behind this turn, of which a FIFO queue's messages have the sequence only.
    Visible(Turn, Passed),
    /// The same of a standard queue's messages of groups, which come behind those without.
    Grouped(Turn, Passed),
    /// Other messages, from this slot on.
    Others(u32),
}

impl Cursor {
    const START: Self = Self::Visible((0, 0), Passed::NONE);

    fn encode(self) -> Box<[u8]> {
        let (phase, turn, passed) = match self {
            Self::Visible(turn, passed) => (0, turn, passed),
            Self::Others(slot) => (1, (0, 0), Passed { slot, ..Passed::NONE }),
            Self::Grouped(turn, passed) => (2, turn, passed),
        };
        let mut bytes = vec![phase];
        for word in [turn.0, turn.1, passed.sequence] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&passed.slot.to_le_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&phase, rest) = bytes.split_first()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (passed, rest) = rest.split_first_chunk()?;
        let slot = u32::from_le_bytes(rest.try_into().ok()?);
        let turn = (u64::from_le_bytes(*time), u64::from_le_bytes(*sequence));
        let passed = Passed { slot, sequence: u64::from_le_bytes(*passed) };
        match phase {
            0 => Some(Self::Visible(turn, passed)),
            1 => Some(Self::Others(slot)),
            2 => Some(Self::Grouped(turn, passed)),
            _ => None,
        }
    }
}

/// What of a message is told from elsewhere than its slot.
struct Past {
    /// Up to where the log must be committed for it to be shown.
    end: Position,
    source: u64,
    first_received_at_ms: u64,
    /// When its state ends by itself; 0 where it does not.
    until_ms: u64,
}

/// A page as it fills.
struct Page<'a> {
    deliveries: &'a mut Vec<Delivery>,
    start: usize,
    count_max: usize,
    bytes_left: u64,
    wanted: Option<MessageState>,
    depends_on: Position,
    is_fifo: bool,
}

impl Page<'_> {
    /// Shows a message; with it comes what of it is told from elsewhere. `false`: it does
    /// not fit any more.
    fn show(&mut self, index: u32, slot: &Slot, state: MessageState, past: Past) -> bool {
        if self.wanted.is_some_and(|wanted| wanted != state) {
            return true;
        }
        let count = self.deliveries.len() - self.start;
        let bytes = u64::from(shown_bytes(slot));
        if count == self.count_max || (count > 0 && bytes > self.bytes_left) {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.depends_on = self.depends_on.max(past.end);
        self.deliveries.push(Delivery {
            position: Position(slot.position),
            length: slot.length,
            slot: index,
            sequence: slot.sequence,
            sequence_number: if self.is_fifo { slot.sequence } else { 0 },
            sent_at_ms: slot.sent_at_ms(),
            first_received_at_ms: if slot.receive_count > 0 { past.first_received_at_ms } else { 0 },
            receive_count: slot.receive_count,
            source: past.source,
            state,
            until_ms: past.until_ms,
            handle: [0; 32],
        });
        true
    }
}

impl<F: Flaws> Engine<F> {
    pub(super) fn peek(
        &mut self,
        ticket: Ticket,
        number: u64,
        asked: Asked<'_>,
        log: &Log<F>,
        out: &mut Outputs,
    ) {
        let (queue, cursor) = match self.check_peek(number, asked) {
            Ok(checked) => checked,
            Err(refusal) => return out.reply(ticket, log.end(), ReplyBody::Refused(refusal)),
        };
        let start = out.deliveries.len();
        let mut page = Page {
            deliveries: &mut out.deliveries,
            start,
            count_max: asked.count_max as usize,
            bytes_left: asked.reply_bytes_max.into(),
            wanted: MessageState::from_number(asked.state),
            depends_on: Position::default(),
            is_fifo: self.is_fifo(queue),
        };
        let next = match cursor {
            Cursor::Visible((_, after), passed) if page.is_fifo => self
                .peek_fifo(queue, after, passed, &mut page)
                .or_else(|| self.peek_others(queue, 0, &mut page)),
            Cursor::Visible(turn, passed) => self
                .peek_visible(queue, turn, passed, &mut page)
                .or_else(|| self.peek_grouped(queue, (0, 0), Passed::NONE, &mut page))
                .or_else(|| self.peek_others(queue, 0, &mut page)),
            Cursor::Grouped(turn, passed) => self
                .peek_grouped(queue, turn, passed, &mut page)
                .or_else(|| self.peek_others(queue, 0, &mut page)),
            Cursor::Others(slot) => self.peek_others(queue, slot, &mut page),
        };
        let depends_on = page.depends_on;
        let body =
            ReplyBody::Peeked(start as u32..out.deliveries.len() as u32, next.map(|cursor| cursor.encode()));
        out.reply(ticket, depends_on, body);
    }

    fn check_peek(&self, number: u64, asked: Asked<'_>) -> Result<(u32, Cursor), Refusal> {
        let queue = self.find_queue(number)?;
        if !(1..=BATCH_ENTRIES_MAX as u32).contains(&asked.count_max) {
            return Err(out_of_range(asked.count_max, "MaxNumberOfMessages", 1, BATCH_ENTRIES_MAX as u64));
        }
        if asked.state != 0 && MessageState::from_number(asked.state).is_none() {
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "No message is in this state."));
        }
        let cursor = match asked.next {
            None => Some(Cursor::START),
            Some(bytes) => Cursor::decode(bytes),
        };
        cursor
            .map(|cursor| (queue, cursor))
            .ok_or(Refusal::new(ErrorCode::InvalidParameterValue, "Invalid or expired next token."))
    }

    fn past_of(&self, index: u32, slot: &Slot) -> Past {
        let until_ms = match slot.state() {
            // What is on its way to another shard stays so until that has answered.
            State::Hidden if slot.flags() & FLAG_MOVING == 0 => slot.available_at_ms,
            State::Delayed if self.is_fifo(slot.queue) => delayed_until_ms(&self.queues[slot.queue], slot),
            State::Delayed => slot.available_at_ms,
            _ => 0,
        };
        Past {
            until_ms,
            end: self.message_end(index, slot),
            source: self.source_of(index, slot),
            first_received_at_ms: self.first_received_at_ms(index),
        }
    }

    /// Shows visible messages without groups behind a turn. Gives back where to go on, if the page is full.
    fn peek_visible(
        &self,
        queue_index: u32,
        after: Turn,
        passed: Passed,
        page: &mut Page<'_>,
    ) -> Option<Cursor> {
        let queue = &self.queues[queue_index];
        let next = self.peek_turns(queue_index, (queue.fresh_head, &queue.returned), after, passed, page);
        next.map(|(turn, passed)| Cursor::Visible(turn, passed))
    }

    /// The same of visible messages of groups.
    fn peek_grouped(
        &self,
        queue_index: u32,
        after: Turn,
        passed: Passed,
        page: &mut Page<'_>,
    ) -> Option<Cursor> {
        let queue = &self.queues[queue_index];
        let fair = queue.fair.as_deref()?;
        let next = self.peek_turns(queue_index, (fair.fresh_head, &fair.returned), after, passed, page);
        next.map(|(turn, passed)| Cursor::Grouped(turn, passed))
    }

    fn peek_turns(
        &self,
        queue_index: u32,
        (head, returned): (u32, &BTreeMap<Turn, u32>),
        after: Turn,
        passed: Passed,
        page: &mut Page<'_>,
    ) -> Option<(Turn, Passed)> {
        if page.wanted.is_some_and(|wanted| wanted != MessageState::Visible) {
            return None;
        }
        let queue = &self.queues[queue_index];
        let stands_here = |slot: &Slot| {
            slot.sequence == passed.sequence
                && slot.state() == State::Fresh
                && slot.queue == queue_index
                && !queue.is_gone(slot.sequence)
        };
        let stands = self.slab.get(passed.slot).filter(|slot| stands_here(slot));
        let mut fresh = stands.map_or(head, |slot| slot.list_next);
        let mut returned = returned.range((after.0, after.1.saturating_add(1))..).peekable();
        let mut last = (after, passed);
        for _ in 0..PASSED_MAX {
            let fresh_turn =
                (fresh != NONE).then(|| (self.slab[fresh].sent_at_ms(), self.slab[fresh].sequence));
            let (turn, index) = match (fresh_turn, returned.peek()) {
                (None, None) => return None,
                (Some(turn), None) => (turn, fresh),
                (Some(turn), Some(&(&other, _))) if turn < other => (turn, fresh),
                (_, Some(&(&turn, &index))) => (turn, index),
            };
            let slot = &self.slab[index];
            let past = self.past_of(index, slot);
            let is_shown = turn > after && !self.is_expired(queue, slot);
            if is_shown && !page.show(index, slot, MessageState::Visible, past) {
                return Some(last);
            }
            last.0 = turn.max(after);
            if slot.state() == State::Fresh {
                last.1 = Passed { slot: index, sequence: slot.sequence };
                fresh = slot.list_next;
            } else {
                returned.next();
            }
        }
        Some(last)
    }

    /// Shows visible messages of a FIFO queue behind a sequence, in their order. Gives back where to go on, if
    /// the page is full.
    fn peek_fifo(&self, queue_index: u32, after: u64, passed: Passed, page: &mut Page<'_>) -> Option<Cursor> {
        if page.wanted.is_some_and(|wanted| wanted != MessageState::Visible) {
            return None;
        }
        let queue = &self.queues[queue_index];
        let stands_here = |slot: &Slot| {
            slot.sequence == passed.sequence
                && passed.sequence > 0
                && slot.queue == queue_index
                && !queue.is_gone(slot.sequence)
        };
        let stands = self.slab.get(passed.slot).filter(|slot| stands_here(slot));
        let mut index = stands.map_or(queue.fresh_head, |slot| slot.list_next);
        let mut last = Cursor::Visible((0, after), passed);
        for _ in 0..PASSED_MAX {
            if index == NONE {
                return None;
            }
            let slot = &self.slab[index];
            let is_visible = matches!(slot.state(), State::Fresh | State::Returned);
            if is_visible
                && slot.sequence > after
                && !self.is_expired(queue, slot)
                && !page.show(index, slot, MessageState::Visible, self.past_of(index, slot))
            {
                return Some(last);
            }
            let passed = Passed { slot: index, sequence: slot.sequence };
            last = Cursor::Visible((0, slot.sequence.max(after)), passed);
            index = slot.list_next;
        }
        Some(last)
    }

    /// Shows messages that are hidden, delayed or damaged, from a slot on.
    fn peek_others(&self, queue_index: u32, from: u32, page: &mut Page<'_>) -> Option<Cursor> {
        let queue = &self.queues[queue_index];
        let is_wanted = |state, count| count > 0 && page.wanted.is_none_or(|wanted| wanted == state);
        let any = is_wanted(MessageState::InFlight, queue.in_flight)
            || is_wanted(MessageState::Delayed, queue.delayed)
            || is_wanted(MessageState::Damaged, queue.damaged);
        if !any {
            return None;
        }
        let until = from.saturating_add(PASSED_MAX).min(self.slab.used());
        for index in from..until {
            let slot = &self.slab[index];
            let state = match slot.state() {
                State::Hidden => MessageState::InFlight,
                State::Delayed => MessageState::Delayed,
                State::Damaged => MessageState::Damaged,
                _ => continue,
            };
            let is_here = slot.queue == queue_index && !queue.is_gone(slot.sequence);
            let past = self.past_of(index, slot);
            if is_here && !self.is_expired(queue, slot) && !page.show(index, slot, state, past) {
                return Some(Cursor::Others(index));
            }
        }
        (until < self.slab.used()).then_some(Cursor::Others(until))
    }
}
