//! Sends that wait for room in the log.
//!
//! Whoever takes messages asks for more when the last have come; whoever sends may send whatever fits into a
//! socket, and a flood of sends fills any log. As long as others take messages there will soon be room again,
//! and until then a send waits: the sender is slowed down to what is taken. Refusing it would cost the shard as
//! much as taking it, and the sender would only ask again. A connection that takes messages itself is refused at
//! once all the same: its deletes, which make room, shall not wait behind its sends. So is a send to a FIFO queue
//! of another shard that has no room: what waited there would hold up whatever else is asked of that shard.

use std::collections::VecDeque;

use super::driver::ConnectionId;

/// For so long sends wait for room after messages were last handed out …
const ROOM_AFTER_TAKEN_MS: u64 = 100;
/// … and no longer than this where there is none all the time.
const ROOM_WAIT_MS_MAX: u64 = 1_000;
/// After so long without a send that found no room, operators are told that there is some again, and told anew
/// where it ends: a log that is full fills up again with each message that is taken from it.
const ROOM_TOLD_AFTER_MS: u64 = 60_000;

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
    /// When a send last found none, where operators are to hear of it.
    lacked_ms: Option<u64>,
    /// Whether they have.
    is_told: bool,
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
        self.lacked_ms = Some(now_ms);
        let since_ms = *self.full_since_ms.get_or_insert(now_ms);
        let until_ms = (since_ms + ROOM_WAIT_MS_MAX).min(self.taken_ms + ROOM_AFTER_TAKEN_MS);
        (now_ms < until_ms).then_some(until_ms)
    }

    /// What operators have to know and were not told yet.
    #[inline]
    pub(super) fn news(&mut self, now_ms: u64) -> Option<&'static str> {
        let lacked_ms = self.lacked_ms?;
        if !std::mem::replace(&mut self.is_told, true) {
            return Some(
                "the log has no room for more messages: sends wait or are refused until some are deleted or \
                 expire, or the disk has room",
            );
        }
        if now_ms < lacked_ms + ROOM_TOLD_AFTER_MS {
            return None;
        }
        (self.lacked_ms, self.is_told) = (None, false);
        Some("for a minute no send has found the log without room")
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

    #[test]
    fn operators_are_told_once_that_there_is_no_room_and_that_there_is_again() {
        let mut waits = RoomWaits::default();
        assert_eq!((waits.until_ms(true, 1_000), waits.news(1_000)), (None, None));
        waits.until_ms(false, 2_000);
        assert!(waits.news(2_000).is_some_and(|text| text.contains("no room for more")));
        // It is full, and has room, and is full again.
        for now_ms in (3_000..90_000).step_by(1_000) {
            waits.until_ms(now_ms % 2_000 == 0, now_ms);
            assert_eq!(waits.news(now_ms), None, "at {now_ms}");
        }
        assert_eq!(waits.news(148_999), None);
        assert!(waits.news(149_000).is_some_and(|text| text.starts_with("for a minute")));
        assert_eq!(waits.news(150_000), None);
        waits.until_ms(false, 151_000);
        assert!(waits.news(151_000).is_some());
    }
}
