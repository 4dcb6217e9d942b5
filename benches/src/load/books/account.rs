//! What became of the messages of a run, as figures.

use std::fmt;

use serde::Serialize;

/// What became of the messages of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Accepted by the broker.
    pub sent: u64,
    /// Not accepted.
    pub refused: u64,
    /// The same where the broker may have had no room, as more was sent than it can do.
    pub refused_allowed: u64,
    /// Accepted and never received, or left to come back and never seen again.
    pub lost: u64,
    /// Received again although they were deleted or hidden.
    pub duplicated: u64,
    /// The same where the deletion was answered only after the message might have been shown again.
    pub duplicated_allowed: u64,
    /// Received after a later one of their group, or while an earlier one was in flight.
    pub out_of_order: u64,
    /// Received before their delay or their visibility timeout was over.
    pub early: u64,
    /// Received long after that although receives had waited for them.
    pub late: u64,
    /// Received with other bytes than were sent.
    pub corrupted: u64,
    /// Of another run, on another queue than they were sent to, or not accepted.
    pub strange: u64,
    /// Deleted, as the broker said, and still there at the end.
    pub undeleted: u64,
    /// Left, and received again as they should be.
    pub redelivered: u64,
    /// Moved to the dead-letter queue as they should be.
    pub dead_lettered: u64,
}

impl Account {
    /// Whether nothing happened that the semantics do not allow.
    pub fn is_clean(&self) -> bool {
        let Account { refused, lost, duplicated, out_of_order, early, late, corrupted, strange, .. } = self;
        refused + lost + duplicated + out_of_order + early + late + corrupted + strange + self.undeleted == 0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { sent, refused, lost, duplicated, out_of_order, early, late, .. } = self;
        write!(
            formatter,
            "{sent} messages: {refused} refused, {lost} lost, {duplicated} duplicated, {out_of_order} out of \
             order, {early} early, {late} late, {} corrupted, {} strange, {} deleted and still there; \
             {} redelivered, {} dead letters",
            self.corrupted, self.strange, self.undeleted, self.redelivered, self.dead_lettered
        )
    }
}
