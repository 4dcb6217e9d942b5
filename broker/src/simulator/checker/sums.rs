//! What is told of queues as a whole: counts, and what is left at the end.

use super::{Checker, Sweep, Window};
use crate::simulator::message::{Existence, Message, Removal};
use crate::simulator::plan::SECOND;

impl Checker {
    /// Whether a message may be gone without anybody having been told, by `now_ns`.
    pub(super) fn may_be_gone(&self, message: &Message, now_ns: u64) -> bool {
        if message.removal != Removal::No || message.deletes_under_way > 0 {
            return true;
        }
        let Some(queue) = self.queues.get(&message.queue) else { return true };
        let from_ns = message.sent_from_ns();
        let may_follow = |sweep: &Sweep| sweep.to_ns.is_none_or(|to_ns| to_ns >= from_ns);
        queue.purges.iter().any(may_follow)
            || queue.purges_under_way > 0
            || queue.may_be_gone()
            || self.elapsed_ns_max(from_ns, now_ns) >= queue.retention_seconds.0 * SECOND
    }

    /// The broker says how many messages a queue has, in all states together.
    pub fn counted(&mut self, number: u64, count: u64, window: Window) {
        let (mut least, mut most) = (0, 0);
        let mut expected = Vec::new();
        for (id, message) in self.messages.iter().filter(|(_, message)| message.queue == number) {
            let certain = matches!(message.existence, Existence::Yes { to_ns, .. } if to_ns < window.from_ns);
            let removed = matches!(message.removal, Removal::Yes { to_ns } if to_ns < window.from_ns);
            if certain && !self.may_be_gone(message, window.to_ns) {
                least += 1;
                expected.push(*id);
            }
            most += u64::from(message.existence != Existence::No && !removed);
        }
        if (!self.rot && count < least) || count > most {
            self.violation(format!(
                "queue {number} counts {count} messages; it has from {least} to {most}: {expected:?}"
            ));
        }
    }

    /// The end: everything that clients may expect has been received and deleted, or something was
    /// lost. `set_aside`: how many messages the broker reports as damaged.
    pub fn finish(&mut self, now_ns: u64, set_aside: u64) {
        if set_aside > 0 && !self.rot {
            self.violation(format!("{set_aside} messages are set aside as damaged, though nothing was"));
        }
        let missing: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, message)| matches!(message.existence, Existence::Yes { .. }))
            .filter(|(_, message)| !self.may_be_gone(message, now_ns))
            .map(|(id, _)| *id)
            .collect();
        if missing.len() as u64 > if self.rot { set_aside } else { 0 } {
            let first = missing[0];
            self.violation(format!(
                "{} acknowledged messages were lost, the first of them {first}: {:?}; {set_aside} are set aside",
                missing.len(),
                self.messages[&first]
            ));
        }
    }
}
