//! Sends that wait for room in the log.
//!
//! Whoever takes messages asks for more when the last have come; whoever sends may send whatever fits into a
//! socket, and a flood of sends fills any log. As long as others take messages there will soon be room again,
//! and until then a send waits: the sender is slowed down to what is taken. Refusing it would cost the shard as
//! much as taking it, and the sender would only ask again. A connection that takes messages itself is refused at
//! once all the same: its deletes, which make room, shall not wait behind its sends.

use std::collections::VecDeque;

use super::driver::ConnectionId;

/// For so long sends wait for room after messages were last handed out …
const ROOM_AFTER_TAKEN_MS: u64 = 100;
/// … and no longer than this where there is none all the time.
const ROOM_WAIT_MS_MAX: u64 = 1_000;

/// Owned by the shard. Times are monotonic.
#[derive(Debug, Default)]
pub(super) struct RoomWaits {
    /// Connections whose next request is a send that waits.
    pub(super) waiting: VecDeque<ConnectionId>,
    /// It is their turn. Else whoever comes later waits behind them, though there is room.
    pub(super) is_their_turn: bool,
    /// When messages were last handed out.
    taken_ms: u64,
    /// Since when there has been no room.
    full_since_ms: Option<u64>,
}

impl RoomWaits {
    /// Messages were handed out.
    pub(super) fn taken(&mut self, now_ms: u64) {
        self.taken_ms = now_ms;
    }

    /// Until when sends wait, where they do.
    #[inline]
    pub(super) fn until_ms(&mut self, has_room: bool, now_ms: u64) -> Option<u64> {
        if has_room {
            self.full_since_ms = None;
            return None;
        }
        let since_ms = *self.full_since_ms.get_or_insert(now_ms);
        let until_ms = (since_ms + ROOM_WAIT_MS_MAX).min(self.taken_ms + ROOM_AFTER_TAKEN_MS);
        (now_ms < until_ms).then_some(until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_wait_as_long_as_messages_are_taken() {
        let mut waits = RoomWaits::default();
        waits.taken(5_000);
        assert_eq!(waits.until_ms(false, 5_050), Some(5_100));
        assert_eq!(waits.until_ms(false, 5_100), None, "nobody takes anything");
        waits.taken(5_200);
        assert_eq!(waits.until_ms(false, 5_200), Some(5_300));
        assert_eq!(waits.until_ms(true, 5_200), None);
        // What is taken may not make room: it is not deleted.
        waits.taken(6_100);
        assert_eq!(waits.until_ms(false, 6_100), Some(6_200));
        waits.taken(7_090);
        assert_eq!(waits.until_ms(false, 7_099), Some(7_100));
        assert_eq!(waits.until_ms(false, 7_100), None);
    }
}
