//! Room for what a producer holds, given in turn.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::crew::Told;

/// Bytes that are left, and those who wait for some.
#[derive(Debug, Default)]
pub(crate) struct Room {
    left: usize,
    pub waiters: VecDeque<Waiter>,
    numbers: u64,
}

/// Somebody who waits for room.
#[derive(Debug)]
pub(crate) struct Waiter {
    number: u64,
    bytes: usize,
    tell: oneshot::Sender<()>,
}

impl Room {
    /// All of it is left.
    pub fn new(bytes: usize) -> Self {
        Self { left: bytes, ..Self::default() }
    }

    /// Takes room, where there is enough and nobody waits.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> bool {
        let is_there = self.waiters.is_empty() && self.left >= bytes;
        if is_there {
            self.left -= bytes;
        }
        is_there
    }

    /// Waits behind all others; gives the number of the place, and who is to be told, perhaps at once.
    pub fn enter(&mut self, bytes: usize, tell: oneshot::Sender<()>) -> (u64, Told) {
        self.numbers += 1;
        self.waiters.push_back(Waiter { number: self.numbers, bytes, tell });
        (self.numbers, self.give(0))
    }

    /// Waits no more; whether it did.
    pub fn leave(&mut self, number: u64) -> bool {
        let place = self.waiters.iter().position(|waiter| waiter.number == number);
        place.and_then(|place| self.waiters.remove(place)).is_some()
    }

    /// Gives room back, and to those who wait, as far as it goes: they are to be told.
    pub fn give(&mut self, bytes: usize) -> Told {
        self.left += bytes;
        let mut told = Told::new();
        while self.waiters.front().is_some_and(|waiter| waiter.bytes <= self.left)
            && let Some(waiter) = self.waiters.pop_front()
        {
            self.left -= waiter.bytes;
            told.push(waiter.tell);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_in_turn_and_those_who_leave_do_not_hold_up_others() {
        let mut room = Room::new(10);
        assert!(room.take(8) && !room.take(3));
        let (first, second, third) = (oneshot::channel(), oneshot::channel(), oneshot::channel());
        let (number, _) = room.enter(9, first.0);
        room.enter(1, second.0);
        room.enter(2, third.0);
        assert!(!room.take(1), "others were here before");
        assert!(room.give(1).is_empty(), "the first needs more");
        assert!(room.leave(number) && !room.leave(number));
        assert_eq!(room.give(0).len(), 2);
        assert_eq!(room.left, 0);
    }
}
