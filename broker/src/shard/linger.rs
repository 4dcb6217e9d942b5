//! What the drivers share about the end of a connection that shall still get its last bytes.
//!
//! Closing a socket whose receive buffer holds unread bytes resets the connection, and the reset may
//! destroy what the peer has not yet read: the very error frame that says why. So a lingering close
//! sends what it has, says that it has finished, and throws away what still arrives until the peer
//! closes too or patience ends.

use std::collections::VecDeque;
use std::time::Duration;

use super::driver::ConnectionId;

/// How long a lingering connection is kept for its peer to close it, once everything has been sent to
/// it. Then it is closed all the same. (Sending itself takes as long as it takes: the caller may give
/// up by closing again without lingering.)
pub(crate) const LINGER_NS_MAX: u64 = 1_000_000_000;

/// How much a lingering connection may still send to us, to be thrown away, before it is closed.
pub(crate) const LINGER_DISCARD_BYTES_MAX: usize = 8 << 20;

/// The lingering connections in the order in which patience with them ends. Owned by a driver.
pub(crate) struct LingerQueue {
    deadlines: VecDeque<(u64, ConnectionId)>,
}

impl LingerQueue {
    pub(crate) fn new() -> Self {
        Self { deadlines: VecDeque::new() }
    }

    /// A connection begins to linger. Each has the same time, so the queue stays sorted. One that ends
    /// sooner stays in here, and is an unknown one when its time comes.
    pub(crate) fn push(&mut self, connection: ConnectionId, now_ns: u64) {
        self.deadlines.push_back((now_ns.saturating_add(LINGER_NS_MAX), connection));
    }

    /// When the next one's time is up.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.front().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// Takes out one whose time is up.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<ConnectionId> {
        if self.next_deadline_ns()? > now_ns {
            return None;
        }
        self.deadlines.pop_front().map(|(_, connection)| connection)
    }
}

/// The shorter of what the caller would wait and the time until the driver has something of its own
/// to do.
pub(crate) fn earlier(timeout: Option<Duration>, deadline_ns: Option<u64>, now_ns: u64) -> Option<Duration> {
    let Some(deadline_ns) = deadline_ns else { return timeout };
    let own = Duration::from_nanos(deadline_ns.saturating_sub(now_ns));
    Some(timeout.map_or(own, |timeout| timeout.min(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lingering_ends_in_order_and_not_before_its_time() {
        let (first, second) =
            (ConnectionId { index: 1, generation: 0 }, ConnectionId { index: 2, generation: 0 });
        let mut queue = LingerQueue::new();
        queue.push(first, 10);
        queue.push(second, 20);
        assert_eq!(queue.next_deadline_ns(), Some(10 + LINGER_NS_MAX));
        assert_eq!(queue.pop_due(9 + LINGER_NS_MAX), None);
        assert_eq!(queue.pop_due(10 + LINGER_NS_MAX), Some(first));
        assert_eq!(queue.pop_due(10 + LINGER_NS_MAX), None);
        assert_eq!(queue.pop_due(u64::MAX), Some(second));
        assert_eq!(queue.next_deadline_ns(), None);
    }

    #[test]
    fn the_earlier_of_both_deadlines_holds() {
        let second = Duration::from_secs(1);
        assert_eq!(earlier(None, None, 5), None);
        assert_eq!(earlier(Some(second), None, 5), Some(second));
        assert_eq!(earlier(None, Some(105), 5), Some(Duration::from_nanos(100)));
        assert_eq!(earlier(Some(second), Some(105), 5), Some(Duration::from_nanos(100)));
        assert_eq!(earlier(Some(second), Some(3), 5), Some(Duration::ZERO));
    }
}
