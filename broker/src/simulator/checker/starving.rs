//! Nobody starves, however consumers are connected (rules 23 and 24).
//!
//! Judged where nothing else keeps a message from being received: no slow disk, no paused shard, no full
//! log, no small limit. Two things must not be, seen from a message's first delivery: that a receive had
//! waited for a while meanwhile and found nothing; and that a shard which receives come to went on
//! serving messages that were sent much later.

use super::super::plan::{MS, Plan};
use super::{Checker, Window};

/// The longest that a message may wait beside a receive that waits: a hint and an answer between shards,
/// which have other turns to run.
const HINTED_NS: u64 = 200 * MS;

/// By how much a message may be younger that is served before one on another shard (the bound of rule
/// 23, and what publishing takes).
const YOUNGER_NS: u64 = 120 * MS;

/// How old the word of what another shard has may be when a receive goes there: it is believed for 50 ms.
const TOLD_NS: u64 = 55 * MS;

/// Interest in a queue that was shown this long ago still holds.
const INTEREST_NS: u64 = 900 * MS;

/// What is known of the receives of a queue, since the last crash.
#[derive(Debug, Default)]
pub(super) struct Receives {
    /// Receives that waited and found nothing: since when, and until when.
    empty: Vec<(u64, u64)>,
    /// Replies with deliveries: the shard that the receive came to, when, when the reply left, and when the
    /// oldest of these messages was sent at the earliest; 0 where one of them had come back or off its delay.
    first: Vec<(u16, u64, u64, u64)>,
}

/// Which bounds hold in a run, if any do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    shards: u16,
    heard_ns_max: u64,
    is_judged: bool,
}

impl Bounds {
    pub(super) fn of(plan: &Plan) -> Self {
        let faults = &plan.faults;
        let has_room =
            faults.full_disk_ns == 0 && plan.disk_bytes >= 1 << 30 && plan.broker.log_bytes_max.is_none();
        let is_smooth = faults.slow_operations == 0
            && faults.pause_ns == 0
            && faults.failed_writes == 0
            && faults.rot_ns == 0
            && faults.failed_reads == 0
            && faults.wall_jump_ns == 0;
        Self {
            shards: plan.shards,
            heard_ns_max: plan.heard_ns_max(),
            is_judged: has_room && is_smooth && plan.broker.in_flight_max >= 10_000,
        }
    }

    /// How long a question and an answer between shards may travel, some times over.
    fn travels_ns(self) -> u64 {
        if self.shards == 1 { 0 } else { 12 * self.heard_ns_max }
    }

    /// Whether messages that were never delivered are received in the order of their sends exactly.
    pub(super) fn has_one_order(&self) -> bool {
        self.shards == 1
    }
}

impl Receives {
    pub(super) fn crashed(&mut self) {
        *self = Self::default();
    }

    /// A message was delivered. Of those in one reply the first to be sent counts: a receive takes what is
    /// on the shard that it comes to, once it is there.
    pub(super) fn delivered(&mut self, shard: u16, from_ns: u64, window: Window) {
        match self.first.last_mut() {
            Some((at, came_ns, left_ns, sent_ns))
                if (*at, *came_ns, *left_ns) == (shard, window.from_ns, window.to_ns) =>
            {
                *sent_ns = from_ns.min(*sent_ns);
            }
            _ => self.first.push((shard, window.from_ns, window.to_ns, from_ns)),
        }
    }

    /// A receive that found nothing while the message was there.
    fn waited_beside(&self, to_ns: u64, window: Window, bounds: Bounds) -> Option<String> {
        let bound_ns = HINTED_NS + bounds.travels_ns();
        let (began_ns, ended_ns) = self.empty.iter().find(|(began_ns, ended_ns)| {
            *ended_ns < window.from_ns && to_ns.max(*began_ns) + bound_ns < *ended_ns
        })?;
        Some(format!("a receive waited from {began_ns} to {ended_ns} and found nothing"))
    }

    /// Since when a message has surely been in its place that was stored at `to_ns`. Another shard may have taken it
    /// for a receive whose wait was over when the answer came: then it went back, behind what was there by then.
    fn in_place_ns(&self, to_ns: u64, window: Window, bounds: Bounds) -> u64 {
        let before = self.empty.iter().filter(|(began_ns, _)| *began_ns < window.from_ns);
        let back_ns = before.map(|(_, ended_ns)| ended_ns + HINTED_NS + bounds.travels_ns()).max();
        back_ns.filter(|_| bounds.shards > 1).map_or(to_ns, |back_ns| back_ns.max(to_ns))
    }

    /// A shard that served much younger messages, and did so again when it had to know of this one.
    fn served_younger(&self, to_ns: u64, window: Window, bounds: Bounds) -> Option<String> {
        let travels_ns = bounds.travels_ns();
        let to_ns = self.in_place_ns(to_ns, window, bounds);
        // A receive may go where there was something older until another one took it, just before.
        let came_late = |came_ns: u64| {
            let told_ns = came_ns.saturating_sub(TOLD_NS + travels_ns)..=came_ns + travels_ns;
            self.first.iter().any(|(_, _, left_ns, sent_ns)| *sent_ns <= to_ns && told_ns.contains(left_ns))
        };
        for receiver in 0..bounds.shards {
            let later = || {
                self.first.iter().filter(|(at, came_ns, left_ns, sent_ns)| {
                    *at == receiver
                        && *left_ns < window.from_ns
                        && *sent_ns > to_ns + YOUNGER_NS + travels_ns
                        && !came_late(*came_ns)
                })
            };
            let Some(first_ns) = later().map(|(_, _, left_ns, _)| *left_ns).min() else { continue };
            let again = later().find(|(_, came_ns, _, _)| {
                *came_ns > first_ns + HINTED_NS + travels_ns && *came_ns < first_ns + INTEREST_NS
            });
            if let Some((_, came_ns, _, sent_ns)) = again {
                return Some(format!(
                    "shard {receiver} served one that was sent at {sent_ns} to a receive at {came_ns}"
                ));
            }
        }
        None
    }
}

impl Checker {
    /// A receive that waited has found nothing.
    pub fn waited_for_nothing(&mut self, queue: u64, window: Window) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.receives.empty.push((window.from_ns, window.earliest_ns));
        }
    }

    /// A message that nothing had delayed is delivered for the first time, by a receive that came to
    /// `shard`. It was sent at `from_ns` at the earliest, and stored at `to_ns`.
    pub(super) fn check_starving(
        &mut self,
        id: u64,
        queue: u64,
        shard: u16,
        (from_ns, to_ns): (u64, u64),
        window: Window,
    ) {
        let bounds = self.bounds;
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        let is_judged = bounds.is_judged && queue.abandoned_receives == 0 && from_ns > queue.receive_lost_ns;
        queue.receives.delivered(shard, from_ns, window);
        if !is_judged {
            return;
        }
        let found = queue
            .receives
            .waited_beside(to_ns, window, bounds)
            .or_else(|| queue.receives.served_younger(to_ns, window, bounds));
        if let Some(found) = found {
            self.violation(format!("message {id} was there from {to_ns} on; {found}"));
        }
    }
}
