//! What the checker knows of one message.

use super::checker::{Ending, Life};
use super::random::mix;

/// The shortest body: it carries the message's number and a check.
pub const BODY_BYTES_MIN: usize = 16;

/// The body of a message: its number, a check, and bytes that follow from both.
pub fn write_body(id: u64, length: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(length + 8);
    body.extend(id.to_le_bytes());
    let mut word = mix(id ^ mix(length as u64));
    while body.len() < length {
        body.extend(word.to_le_bytes());
        word = mix(word.wrapping_add(1));
    }
    body.truncate(length);
    body
}

/// The number of the message whose body this is, if every byte of it is right.
pub fn read_body(body: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(*body.first_chunk()?);
    (body.len() >= BODY_BYTES_MIN && write_body(id, body.len()) == body).then_some(id)
}

/// Whether a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// Nobody can say; if it was, then not before this time.
    Maybe {
        /// See above.
        from_ns: u64,
    },
    /// It was, in this window.
    Yes {
        /// Not before.
        from_ns: u64,
        /// And known to be durable then.
        to_ns: u64,
    },
    /// It was not.
    No,
}

/// Whether a message was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Nobody tried, or was refused.
    No,
    /// Nobody can say.
    Maybe,
    /// It was, and that was acknowledged then.
    Yes {
        /// See above.
        to_ns: u64,
    },
}

/// What made a message invisible for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// A delivery.
    Delivery {
        /// The broker's count of deliveries, this one included.
        count: u32,
        /// The delivery did not leave before this.
        earliest_ns: u64,
    },
    /// A change of visibility.
    Change,
}

/// A time for which a message is invisible.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// What made it.
    pub kind: HoldKind,
    /// It began at this time or later …
    pub from_ns: u64,
    /// … and at the latest then.
    pub to_ns: u64,
    /// How long it lasts.
    pub hidden_ns: u64,
    /// Whether it happened at all.
    pub certain: bool,
}

/// What the checker knows of one message.
#[derive(Debug)]
pub struct Message {
    /// The queue's number.
    pub queue: u64,
    /// Length of its body.
    pub body_bytes: usize,
    /// How long it is delayed; `None`: as the queue says.
    pub delay_seconds: Option<u64>,
    /// The sequence number that a FIFO queue gave it.
    pub sequence: Option<u64>,
    /// Whether its first send has ended.
    pub send_has_ended: bool,
    /// Whether a client has got it before.
    pub was_delivered: bool,
    /// When the last receive that gave it was handed to the shard; 0: none has.
    pub received_ns: u64,
    /// Whether it was stored.
    pub existence: Existence,
    /// Whether it was deleted.
    pub removal: Removal,
    /// The queue from which its last delete took it.
    pub deleted_from: u64,
    /// Deletes that have not ended yet.
    pub deletes_under_way: u32,
    /// The broker's id.
    pub broker_id: Option<[u8; 16]>,
    /// The ids that it was seen with, and the handle of the last delivery, where it may move.
    pub lives: Vec<Life>,
    /// See above.
    pub last_handle: Vec<u8>,
    /// Deliveries and changes of visibility since the last crash.
    pub holds: Vec<Hold>,
    /// Changes of visibility so far, to number them across crashes.
    forgotten_holds: usize,
}

impl Message {
    /// A message whose send begins.
    pub fn new(queue: u64, body_bytes: usize, delay_seconds: Option<u64>, now_ns: u64) -> Self {
        Self {
            queue,
            body_bytes,
            delay_seconds,
            sequence: None,
            send_has_ended: false,
            was_delivered: false,
            received_ns: 0,
            existence: Existence::Maybe { from_ns: now_ns },
            removal: Removal::No,
            deleted_from: queue,
            deletes_under_way: 0,
            broker_id: None,
            lives: Vec::new(),
            last_handle: Vec::new(),
            holds: Vec::new(),
            forgotten_holds: 0,
        }
    }

    /// Its send was not carried out before this.
    pub fn sent_from_ns(&self) -> u64 {
        match self.existence {
            Existence::Maybe { from_ns } | Existence::Yes { from_ns, .. } => from_ns,
            Existence::No => 0,
        }
    }

    /// A crash: deliveries may be forgotten, and so may be what was acknowledged since
    /// `lost_since_ns`.
    pub fn crashed(&mut self, lost_since_ns: u64) {
        self.forgotten_holds += self.holds.len();
        self.holds.clear();
        if let Existence::Yes { from_ns, to_ns } = self.existence
            && to_ns >= lost_since_ns
        {
            self.existence = Existence::Maybe { from_ns };
        }
        if let Removal::Yes { to_ns } = self.removal
            && to_ns >= lost_since_ns
        {
            self.removal = Removal::Maybe;
        }
    }

    /// A delete from a queue has ended.
    pub fn delete_ended(&mut self, queue: u64, ending: Ending) {
        if let Ending::Done(_) = ending {
            self.deleted_from = queue;
        }
        self.removal = match (self.removal, ending) {
            (Removal::Yes { to_ns }, Ending::Done(window)) => Removal::Yes { to_ns: to_ns.min(window.to_ns) },
            (Removal::Yes { to_ns }, _) => Removal::Yes { to_ns },
            (_, Ending::Done(window)) => Removal::Yes { to_ns: window.to_ns },
            (_, Ending::Unknown(Some(_))) => Removal::Maybe,
            (removal, Ending::Refused | Ending::Unknown(None)) => removal,
        };
    }

    /// A change of visibility begins; gives its number.
    pub fn change_began(&mut self, hidden_ns: u64, now_ns: u64) -> usize {
        let hold =
            Hold { kind: HoldKind::Change, from_ns: now_ns, to_ns: u64::MAX, hidden_ns, certain: false };
        self.holds.push(hold);
        self.forgotten_holds + self.holds.len() - 1
    }

    /// A change of visibility has ended.
    pub fn change_ended(&mut self, number: usize, ending: Ending) {
        let index = number.checked_sub(self.forgotten_holds);
        let Some(hold) = index.and_then(|index| self.holds.get_mut(index)) else { return };
        match ending {
            Ending::Done(window) => {
                hold.certain = true;
                (hold.from_ns, hold.to_ns) = (window.from_ns, window.to_ns);
            }
            // It stays in its place, as others are numbered behind it, and says nothing.
            Ending::Refused | Ending::Unknown(None) => hold.from_ns = u64::MAX,
            Ending::Unknown(Some(from_ns)) => hold.from_ns = from_ns,
        }
    }

    /// What speaks against a delivery beside the other deliveries of this message.
    pub fn holds_against(&self, new: &Hold, elapsed_ns_max: impl Fn(u64, u64) -> u64) -> Option<String> {
        let HoldKind::Delivery { count: new_count, .. } = new.kind else { return None };
        for old in &self.holds {
            let HoldKind::Delivery { count: old_count, .. } = old.kind else { continue };
            if old_count == new_count {
                return Some(format!("was handed out twice as delivery {new_count}"));
            }
            let (earlier, later) = if old_count < new_count { (old, new) } else { (new, old) };
            if !self.may_follow(earlier, later, &elapsed_ns_max) {
                return Some(format!("is with two consumers: {earlier:?}, {later:?}; all: {:?}", self.holds));
            }
            if let HoldKind::Delivery { earliest_ns, .. } = earlier.kind
                && earliest_ns >= later.to_ns
                && earlier.hidden_ns > 0
                && self.holds.iter().all(|hold| hold.kind != HoldKind::Change)
            {
                return Some(format!("left as {earlier:?} when it was somebody else's: {later:?}"));
            }
        }
        None
    }

    /// Whether `later` may have happened after `earlier` had ended, by its timeout or by the last
    /// change of it.
    fn may_follow(&self, earlier: &Hold, later: &Hold, elapsed_ns_max: impl Fn(u64, u64) -> u64) -> bool {
        let changes =
            self.holds.iter().filter(|hold| hold.kind == HoldKind::Change && hold.from_ns <= later.to_ns);
        let candidates: Vec<&Hold> = std::iter::once(earlier).chain(changes).collect();
        let is_superseded = |hold: &Hold| {
            candidates.iter().any(|other| {
                let is_before_later = std::ptr::eq(*other, earlier) || other.to_ns < later.from_ns;
                other.certain && hold.to_ns < other.from_ns && is_before_later
            })
        };
        candidates
            .iter()
            .filter(|hold| !is_superseded(hold))
            .any(|hold| elapsed_ns_max(hold.from_ns, later.to_ns) >= hold.hidden_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(count: u32, from_ns: u64, to_ns: u64, hidden_ns: u64) -> Hold {
        let kind = HoldKind::Delivery { count, earliest_ns: from_ns };
        Hold { kind, from_ns, to_ns, hidden_ns, certain: true }
    }

    fn judge(message: &Message, hold: Hold) -> Option<String> {
        message.holds_against(&hold, |from_ns, to_ns| to_ns.saturating_sub(from_ns))
    }

    fn message() -> Message {
        let mut message = Message::new(1, 16, None, 0);
        message.holds.push(delivery(1, 100, 110, 50));
        message
    }

    #[test]
    fn a_body_says_whose_it_is_and_no_byte_may_differ() {
        for length in [16, 17, 64, 1000] {
            let mut body = write_body(7, length);
            assert_eq!(body.len(), length);
            assert_eq!(read_body(&body), Some(7));
            body[length - 1] ^= 1;
            assert_eq!(read_body(&body), None);
        }
    }

    #[test]
    fn a_second_consumer_within_the_timeout_is_found() {
        assert!(judge(&message(), delivery(2, 120, 149, 50)).is_some());
        assert!(judge(&message(), delivery(2, 120, 150, 50)).is_none());
        assert!(judge(&message(), delivery(1, 120, 500, 50)).is_some(), "the same delivery twice");
    }

    #[test]
    fn a_change_of_visibility_shortens_or_lengthens_the_timeout() {
        let mut message = message();
        let change = message.change_began(0, 112);
        assert!(judge(&message, delivery(2, 113, 115, 50)).is_none(), "it may have been carried out");
        message.change_ended(change, Ending::Refused);
        assert!(judge(&message, delivery(2, 113, 115, 50)).is_some());
        let change = message.change_began(500, 115);
        let window = super::super::checker::Window { from_ns: 116, earliest_ns: 117, to_ns: 117 };
        message.change_ended(change, Ending::Done(window));
        assert!(judge(&message, delivery(2, 200, 300, 50)).is_some(), "it was lengthened");
    }

    #[test]
    fn a_delivery_that_leaves_after_the_next_one_is_found() {
        let mut message = message();
        message.holds.clear();
        message.holds.push(delivery(2, 200, 210, 50));
        let mut late = delivery(1, 100, 220, 50);
        late.kind = HoldKind::Delivery { count: 1, earliest_ns: 215 };
        assert!(judge(&message, late).is_some());
    }
}
