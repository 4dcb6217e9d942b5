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
        let copies = self.copies_max(number);
        let mut expected = Vec::new();
        let is_of = |message: &Message| message.queue == number || self.are_kin(message.queue, number);
        for (id, message) in self.messages.iter().filter(|(_, message)| is_of(message)) {
            let is_certain =
                matches!(message.existence, Existence::Yes { to_ns, .. } if to_ns < window.from_ns);
            // Nobody can say in which of its queues it is.
            let certain = is_certain && !self.moves;
            let removed = matches!(message.removal, Removal::Yes { to_ns } if to_ns < window.from_ns);
            if certain && !self.may_be_gone(message, window.to_ns) {
                least += 1;
                expected.push(*id);
            }
            // Where it came from counts it until it has heard that it has arrived: it may be deleted by then, or
            // be back.
            let may_be_there = message.existence != Existence::No && (!removed || self.moves);
            most += if may_be_there { copies } else { 0 };
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
        if self.moves {
            self.check_moved();
        }
        if let Some(found) = self.half_purge(now_ns) {
            self.violation(found);
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

    /// A purge that nobody was told of because a crash came: after the start it has taken all messages that
    /// were there before it was asked for, or none.
    fn half_purge(&self, now_ns: u64) -> Option<String> {
        if self.rot || !self.wall_jumps.is_empty() {
            return None;
        }
        for (number, queue) in self.queues.iter().filter(|(_, queue)| !queue.may_be_gone()) {
            for (place, purge) in queue.purges.iter().enumerate().filter(|(_, purge)| purge.to_ns.is_none()) {
                let crash = self.crashes.iter().find(|(at_ns, _)| *at_ns >= purge.from_ns);
                let Some(&(crashed_ns, false)) = crash else { continue };
                let stood = |message: &&Message| {
                    message.queue == *number
                        && matches!(message.existence, Existence::Yes { to_ns, .. } if to_ns < purge.from_ns)
                };
                let is_of_another = |message: &Message| {
                    queue.purges.iter().enumerate().any(|(other, sweep)| {
                        other != place && sweep.to_ns.is_none_or(|to_ns| to_ns >= message.sent_from_ns())
                    })
                };
                let stayed =
                    self.messages.values().filter(stood).find(|message| message.received_ns > crashed_ns);
                let went = self.messages.values().filter(stood).find(|message| {
                    message.received_ns < crashed_ns
                        && message.removal == Removal::No
                        && message.deletes_under_way == 0
                        && !is_of_another(message)
                        && self.elapsed_ns_max(message.sent_from_ns(), now_ns)
                            < queue.retention_seconds.0 * SECOND
                });
                if let (Some(stayed), Some(went)) = (stayed, went) {
                    let at_ns = purge.from_ns;
                    return Some(format!("a purge asked for at {at_ns} took {went:?} and left {stayed:?}"));
                }
            }
        }
        None
    }
}
