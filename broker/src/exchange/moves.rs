//! Messages that move from shard to shard (rule 22), and all else that is said only once it is durable.
//!
//! The engine has the state that must outlive a restart. Here is what is on its way: how much each
//! sibling was given and has not answered, so that it is bounded; what has come and is taken a part a
//! turn; and answers that wait until their ground is durable.

use std::collections::{BTreeMap, VecDeque};

use super::parcel::Item;
use crate::engine::Moving;
use crate::journal::Position;

/// Messages given to a sibling that it has not answered; with more, the rest waits, locked at its
/// source.
const OUT_MAX: usize = 32;
/// Bytes of these messages, but for those of the last turn.
const OUT_BYTES_MAX: usize = 4 << 20;
/// Messages from siblings that are taken in one turn.
pub const TAKEN_A_TURN: usize = 16;

/// One shard's end of all moves. Owned by that shard.
#[derive(Debug, Default)]
pub struct Moves {
    /// By sibling and number: the sizes of messages that were given and not answered.
    out: BTreeMap<(u16, u64), usize>,
    arrived: VecDeque<(u16, Box<Moving>)>,
    /// What is to be said once the log is durable up to a position, in the order of these.
    to_say: VecDeque<(Position, u16, Item)>,
}

impl Moves {
    /// Whether a sibling may be given more.
    pub fn has_room(&self, to: u16) -> bool {
        let out = self.out.range((to, 0)..=(to, u64::MAX));
        let (count, bytes) = out.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size));
        count < OUT_MAX && bytes < OUT_BYTES_MAX
    }

    /// A message is given to a sibling.
    pub fn gives(&mut self, to: u16, moving: &Moving) {
        self.out.insert((to, moving.number), moving.bytes());
    }

    /// A sibling has answered.
    pub fn answered(&mut self, from: u16, number: u64) {
        self.out.remove(&(from, number));
    }

    /// A sibling gives a message.
    pub fn arrives(&mut self, from: u16, moving: Box<Moving>) {
        self.arrived.push_back((from, moving));
    }

    /// The next message to take.
    pub fn next_arrived(&mut self) -> Option<(u16, Box<Moving>)> {
        self.arrived.pop_front()
    }

    /// Whether there are messages to take.
    pub fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// This is to be said once the log is durable up to a position, which is not below the last one.
    pub fn say(&mut self, position: Position, to: u16, item: Item) {
        let position = self.to_say.back().map_or(position, |(last, ..)| position.max(*last));
        self.to_say.push_back((position, to, item));
    }

    /// The next thing that may be said.
    pub fn next_to_say(&mut self, durable: Position) -> Option<(u16, Item)> {
        self.to_say.front().filter(|(position, ..)| *position <= durable)?;
        self.to_say.pop_front().map(|(_, to, item)| (to, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{NameDefaults, QueueName};

    fn moving(number: u64, bytes: usize) -> Moving {
        let name = QueueName::parse("", "", "work.fifo", &NameDefaults::default()).expect("a name");
        Moving {
            number,
            settled_below: 0,
            task: 0,
            source: (1, name),
            target: 2,
            id: [0; 16],
            sent_at_ms: 0,
            receive_count: 0,
            first_received_at_ms: 0,
            body_bytes: bytes as u32,
            content: vec![0; bytes],
        }
    }

    #[test]
    fn a_sibling_is_given_so_much_and_more_when_it_has_answered() {
        let mut moves = Moves::default();
        for number in 1..=OUT_MAX as u64 {
            assert!(moves.has_room(1));
            moves.gives(1, &moving(number, 1));
        }
        assert!(!moves.has_room(1) && moves.has_room(2));
        moves.answered(1, 7);
        assert!(moves.has_room(1));
        moves.gives(2, &moving(1, OUT_BYTES_MAX));
        assert!(!moves.has_room(2));
        moves.answered(2, 1);
        assert!(moves.has_room(2));
    }

    #[test]
    fn nothing_is_said_before_its_ground_is_durable() {
        let mut moves = Moves::default();
        moves.say(Position(10), 1, Item::Ready { time_ms: 0 });
        moves.say(Position(5), 2, Item::Ready { time_ms: 0 });
        assert!(moves.next_to_say(Position(9)).is_none());
        assert!(matches!(moves.next_to_say(Position(10)), Some((1, _))));
        assert!(matches!(moves.next_to_say(Position(10)), Some((2, _))));
        assert!(moves.next_to_say(Position(10)).is_none());
    }
}
