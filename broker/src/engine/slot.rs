//! One stored message as the engine holds it: a cache line.
//!
//! A slot says where a message's record lies, when it may be given out, and how it is linked; the
//! body, the attributes and the message id stay in the log. The moment from which a message may be
//! given out is one field, [`Slot::available_at_ms`], through all of its life: the end of its delay,
//! its visibility deadline, or the time at which it became visible. What is due can therefore be
//! told from the slot and the time alone, whether or not a timer has run (rule 10), and the same
//! records give the same slot however the timers ran (rule 18).

/// "No slot" and "no node" in every intrusive link.
pub(super) const NONE: u32 = u32::MAX;

/// Slots of one shard are numbered below this: the wheel's links need the highest bit.
pub(super) const SLOTS_MAX: u32 = 1 << 31;

/// Milliseconds are kept in 48 bits, which is 8,900 years from the Unix epoch.
pub(super) const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// Where a message stands. What is past its deadline may still be waiting for its timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// No message: the slot is in the free list.
    Free = 0,
    /// Visible and never delivered nor delayed: in its queue's list, without a timer of its own.
    Fresh = 1,
    /// Sent with a delay that has not ended.
    Delayed = 2,
    /// In flight, until its visibility deadline.
    Hidden = 3,
    /// Visible again, or come off its delay: in its queue's ordered map.
    Returned = 4,
    /// Set aside because its record is damaged (rule 15): counted and listed, never given out.
    Damaged = 5,
    /// Read from the log by recovery and not linked anywhere yet.
    Replayed = 6,
}

/// By their numbers. Read on the path of every message, without a branch.
const STATES: [State; 8] = [
    State::Free,
    State::Fresh,
    State::Delayed,
    State::Hidden,
    State::Returned,
    State::Damaged,
    State::Replayed,
    State::Replayed,
];

/// The record carries more than the common fields: it is a `Copied` one.
pub(super) const FLAG_COPIED: u8 = 1;
/// The record carries a block of rare fields before its content, which says where the message came from.
pub(super) const FLAG_ORIGIN: u8 = 2;
/// Hidden by a change of visibility or by an attempt that was repeated, and not by its delivery alone any more.
pub(super) const FLAG_CHANGED: u8 = 4;
/// The record is a `Sent` one with a deduplication key.
pub(super) const FLAG_KEYED: u8 = 8;
/// The message stands in a group: the entry beside the slot means something. No flag of the record.
pub(super) const FLAG_MEMBER: u8 = 16;
/// The message came from another queue: its entry in the table of rare fields means something.
pub(super) const FLAG_ARRIVED: u8 = 32;
/// The record is a `MovedIn` one, whose fixed part is longer than that of a copy.
pub(super) const FLAG_MOVED_IN: u8 = 64;
/// The message is locked on its way to another shard.
pub(super) const FLAG_MOVING: u8 = 128;

/// A message's place, times and links.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// The message's sequence; 0 where there is no message.
    pub sequence: u64,
    /// Where its newest Sent or Copied record begins.
    pub position: u64,
    /// From when on it may be given out: see the module.
    pub available_at_ms: u64,
    /// `sent_at_ms` in the low 48 bits, state and flags above.
    sent_and_state: u64,
    /// The next slot: of the queue's list (fresh; on a FIFO queue all) or of the free list.
    pub list_next: u32,
    /// The slot before in the queue's list (fresh; on a FIFO queue all); for a message in flight on a
    /// standard queue, when it was last delivered, in milliseconds after it was sent.
    pub list_previous: u32,
    /// The next node in the same bucket of the wheel.
    pub timer_next: u32,
    /// The node before, or the bucket.
    pub timer_previous: u32,
    /// Index of its queue in the table.
    pub queue: u32,
    /// Bytes of its record, without the padding behind it.
    pub length: u32,
    /// How often it was received.
    pub receive_count: u32,
    /// When it was first received, in milliseconds after it was sent.
    pub first_received_after_ms: u32,
}

const _: () = assert!(size_of::<Slot>() == 64, "a slot is one cache line");

impl Slot {
    /// A slot without a message.
    pub const FREE: Self = Self {
        sequence: 0,
        position: 0,
        available_at_ms: 0,
        sent_and_state: 0,
        list_next: NONE,
        list_previous: NONE,
        timer_next: NONE,
        timer_previous: NONE,
        queue: NONE,
        length: 0,
        receive_count: 0,
        first_received_after_ms: 0,
    };

    /// When the message was sent.
    #[inline]
    pub fn sent_at_ms(&self) -> u64 {
        self.sent_and_state & TIME_MS_MAX
    }

    /// Where the message stands.
    #[inline]
    pub fn state(&self) -> State {
        STATES[(self.sent_and_state >> 48) as usize % STATES.len()]
    }

    /// Flags of its record and of how it is hidden.
    #[inline]
    pub fn flags(&self) -> u8 {
        (self.sent_and_state >> 56) as u8
    }

    /// Sets time of sending, state and flags in one go.
    #[inline]
    pub fn set_sent(&mut self, sent_at_ms: u64, state: State, flags: u8) {
        self.sent_and_state =
            (sent_at_ms & TIME_MS_MAX) | (u64::from(state as u8) << 48) | (u64::from(flags) << 56);
    }

    /// Changes the state alone.
    #[inline]
    pub fn set_state(&mut self, state: State) {
        self.sent_and_state = (self.sent_and_state & !(0xff << 48)) | (u64::from(state as u8) << 48);
    }

    /// Changes the flags alone.
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.sent_and_state = (self.sent_and_state & !(0xff << 56)) | (u64::from(flags) << 56);
    }

    /// Hides the message until `deadline_ms` because it is delivered now, on a standard queue.
    #[inline]
    pub fn hide(&mut self, now_ms: u64, deadline_ms: u64) {
        self.list_previous = self.hide_of_fifo(now_ms, deadline_ms);
    }

    /// The same on a FIFO queue, where the message stays in its list. Says how long after it was sent that is.
    #[inline]
    pub fn hide_of_fifo(&mut self, now_ms: u64, deadline_ms: u64) -> u32 {
        self.set_state(State::Hidden);
        self.available_at_ms = deadline_ms;
        self.receive_count = self.receive_count.saturating_add(1);
        let after_sent = self.after_sent(now_ms);
        if self.receive_count == 1 {
            self.first_received_after_ms = after_sent;
        }
        after_sent
    }

    /// Makes a message visible again whose delivery never left, where it is not yet: what nobody has ever
    /// received goes back to its place of old, or it would stand behind a whole backlog.
    #[inline]
    pub fn give_back(&mut self, now_ms: u64) {
        if self.available_at_ms > now_ms {
            self.available_at_ms = if self.receive_count == 0 { self.sent_at_ms() } else { now_ms };
        }
    }

    /// When it was first received; only meaningful once it has been received.
    #[inline]
    pub fn first_received_at_ms(&self) -> u64 {
        self.sent_at_ms() + u64::from(self.first_received_after_ms)
    }

    /// When it was last delivered; only meaningful while it is in flight on a standard queue.
    #[inline]
    pub fn delivered_at_ms(&self) -> u64 {
        self.sent_at_ms() + u64::from(self.list_previous)
    }

    /// Milliseconds from its sending to `now_ms`, as the slot keeps them. Retention ends long
    /// before the 49 days that fit; what were later is kept as the latest.
    #[inline]
    pub fn after_sent(&self, now_ms: u64) -> u32 {
        u32::try_from(now_ms.saturating_sub(self.sent_at_ms())).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_fields_do_not_touch_each_other() {
        let mut slot = Slot::FREE;
        slot.set_sent(TIME_MS_MAX, State::Hidden, 0xff);
        slot.set_state(State::Returned);
        assert_eq!((slot.sent_at_ms(), slot.state(), slot.flags()), (TIME_MS_MAX, State::Returned, 0xff));
        slot.set_flags(FLAG_COPIED);
        assert_eq!(
            (slot.sent_at_ms(), slot.state(), slot.flags()),
            (TIME_MS_MAX, State::Returned, FLAG_COPIED)
        );
        assert_eq!(slot.after_sent(5), 0);
    }
}
