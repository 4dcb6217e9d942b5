//! What is live in an old segment and can no longer be read there.
//!
//! Cleaning finds records by walking their segment. Where a disk has lost some, the segment would be
//! kept for ever, and the log could only grow. The engine still knows what was there: queues, starts
//! and marks of deletion are in its memory whole, and are written again; messages are set aside
//! (rule 15) and written again without their content, so that they stay counted and listed.

use std::ops::Range;

use super::Engine;
use super::message::content_bytes;
use super::records::MessageHead;
use super::slot::State;
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

impl<F: Flaws> Engine<F> {
    /// Writes again what is live at these positions, looking at no more than `slots_max` slots. Says
    /// whether all have been looked at; if not, the next call with the same positions goes on.
    pub fn rescue(&mut self, now_ms: u64, lost: &Range<Position>, slots_max: u32, log: &mut Log<F>) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        if self.rescue_cursor == 0 {
            self.carry_definitions(now_ms, lost, log);
            self.carry_queues(now_ms, lost, 0, u32::MAX, log);
            self.attempts.rescue(now_ms, lost, log);
        }
        let end = self.slab.used().min(self.rescue_cursor.saturating_add(slots_max));
        for index in self.rescue_cursor..end {
            self.rescue_message(index, lost, log);
        }
        let is_done = end == self.slab.used();
        self.rescue_cursor = if is_done { 0 } else { end };
        is_done
    }

    fn rescue_message(&mut self, index: u32, lost: &Range<Position>, log: &mut Log<F>) {
        let slot = &self.slab[index];
        if slot.state() == State::Free || !lost.contains(&Position(slot.position)) {
            return;
        }
        let queue = &self.queues[slot.queue];
        if queue.is_gone(slot.sequence) {
            return self.discard_gone(index, log);
        }
        let (sequence, incarnation) = (slot.sequence, queue.incarnation);
        if self.find_message(index, sequence).is_none() {
            self.expire(index, log);
            return self.flush_expired(incarnation, log);
        }
        self.set_aside(index, sequence, log);
        let slot = &self.slab[index];
        let head = MessageHead {
            slot: index,
            content_flags: 0,
            sequence,
            incarnation,
            sent_at_ms: slot.sent_at_ms(),
            available_at_ms: slot.available_at_ms,
            // It stood in the record only.
            id: [0; 16],
            body_bytes: 0,
        };
        let content = u64::from(content_bytes(slot));
        self.queues[self.slab[index].queue].stored_bytes -= content;
        self.copy_message(head, &[], log);
    }
}
