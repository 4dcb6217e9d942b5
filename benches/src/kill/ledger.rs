//! What the broker has promised, message by message, and whether it keeps it.
//!
//! Pure bookkeeping: the workers report what they ask for before they ask and what they are
//! answered after, and the ledger says when the two cannot both be. A request whose connection was
//! cut may or may not have taken effect; only what was answered binds.

use std::collections::HashMap;

/// Violations that are described; more are only counted.
const DESCRIBED_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Asked for; no answer (yet).
    Attempted,
    /// The broker said that it has it.
    Acknowledged,
    /// The broker said that it does not take it.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Fate {
    sent: Sent,
    delete_attempted: bool,
    /// When the broker said that it is gone, in the ledger's own time.
    deleted_at: Option<u64>,
    receives: u32,
}

/// A moment in the ledger's own time, which goes on by one with each thing told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that somebody tried to send.
    pub attempted: u64,
    /// Sends that were acknowledged.
    pub acknowledged: u64,
    /// Sends that were refused with an error.
    pub refused: u64,
    /// Deliveries, repeated ones too.
    pub received: u64,
    /// Deliveries of messages that had been delivered before.
    pub redelivered: u64,
    /// Deletes that were acknowledged.
    pub deleted: u64,
    /// Promises broken.
    pub violations: u64,
}

/// All promises of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    fates: HashMap<u64, Fate>,
    now: u64,
    totals: Totals,
    violations: Vec<String>,
}

impl Ledger {
    /// A message is about to be sent; returns its number.
    pub fn attempt_send(&mut self) -> u64 {
        let number = self.totals.attempted;
        self.totals.attempted += 1;
        self.fates.insert(
            number,
            Fate { sent: Sent::Attempted, delete_attempted: false, deleted_at: None, receives: 0 },
        );
        number
    }

    /// Its send was answered.
    pub fn answer_send(&mut self, number: u64, accepted: bool) {
        let Some(fate) = self.fates.get_mut(&number) else { return };
        if accepted {
            fate.sent = Sent::Acknowledged;
            self.totals.acknowledged += 1;
        } else {
            fate.sent = Sent::Refused;
            self.totals.refused += 1;
        }
    }

    /// A receive is about to be asked for. What is deleted before this moment must not come back
    /// with it.
    pub fn begin_receive(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    /// A message came with a receive that was asked for at `begun`.
    pub fn received(&mut self, number: u64, begun: Moment) {
        self.totals.received += 1;
        let Some(fate) = self.fates.get_mut(&number) else {
            return self.violation(format!("message {number} was received and never sent"));
        };
        fate.receives += 1;
        if fate.receives > 1 {
            self.totals.redelivered += 1;
        }
        let fate = *fate;
        if fate.sent == Sent::Refused {
            self.violation(format!("message {number} was received though its send was refused"));
        }
        if let Some(deleted_at) = fate.deleted_at
            && deleted_at < begun.0
        {
            self.violation(format!("message {number} came back after its delete was acknowledged"));
        }
    }

    /// A message is about to be deleted.
    pub fn attempt_delete(&mut self, number: u64) {
        if let Some(fate) = self.fates.get_mut(&number) {
            fate.delete_attempted = true;
        }
    }

    /// Its delete was answered with success.
    pub fn acknowledge_delete(&mut self, number: u64) {
        self.now += 1;
        let now = self.now;
        if let Some(fate) = self.fates.get_mut(&number)
            && fate.deleted_at.is_none()
        {
            fate.deleted_at = Some(now);
            self.totals.deleted += 1;
        }
    }

    /// Something else that must not happen did.
    pub fn violation(&mut self, what: String) {
        self.totals.violations += 1;
        if self.violations.len() < DESCRIBED_MAX {
            self.violations.push(what);
        }
    }

    /// The queue has been emptied: whoever was acknowledged and nobody ever tried to delete is lost.
    pub fn close(&mut self) {
        let lost = |fate: &Fate| fate.sent == Sent::Acknowledged && !fate.delete_attempted;
        let mut lost: Vec<u64> =
            self.fates.iter().filter(|(_, fate)| lost(fate)).map(|(number, _)| *number).collect();
        lost.sort_unstable();
        for number in lost {
            self.violation(format!("message {number} was acknowledged and is lost"));
        }
    }

    /// How much happened so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The violations, the first ones described.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_fine() {
        let mut ledger = Ledger::default();
        let number = ledger.attempt_send();
        ledger.answer_send(number, true);
        let unanswered = ledger.attempt_send();
        let begun = ledger.begin_receive();
        ledger.received(number, begun);
        ledger.attempt_delete(number);
        ledger.acknowledge_delete(number);
        // Asked for before the delete was answered: may have been on its way.
        ledger.received(number, begun);
        ledger.close();
        assert_eq!(ledger.violations(), [] as [&str; 0], "{unanswered} was promised to nobody");
        assert_eq!(ledger.totals().redelivered, 1);
    }

    #[test]
    fn broken_promises_are_seen() {
        let mut ledger = Ledger::default();
        let lost = ledger.attempt_send();
        ledger.answer_send(lost, true);
        let back = ledger.attempt_send();
        ledger.answer_send(back, true);
        ledger.attempt_delete(back);
        ledger.acknowledge_delete(back);
        let begun = ledger.begin_receive();
        ledger.received(back, begun);
        let refused = ledger.attempt_send();
        ledger.answer_send(refused, false);
        ledger.received(refused, begun);
        ledger.received(99, begun);
        ledger.close();
        assert_eq!(ledger.totals().violations, 4, "{:?}", ledger.violations());
    }
}
