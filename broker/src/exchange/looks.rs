//! Looks at move tasks: shard 0 asks what all others have done before it answers.

use std::collections::BTreeMap;

use crate::engine::Ticket;

/// Looks under way on a shard; with more, connections that want one are not read from until some are
/// answered.
const LOOKS_MAX: usize = 1_024;

/// A request that waits for what the siblings have done.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Whose it is.
    pub ticket: Ticket,
    /// The number of the tasks' queue.
    pub source: u64,
    /// As in the request.
    pub count_max: u8,
    left: u16,
}

/// All looks of shard 0.
#[derive(Debug, Default)]
pub struct Looks {
    looks: BTreeMap<u64, Look>,
    last: u64,
}

impl Looks {
    /// Begins one; gives its number.
    pub fn begin(&mut self, ticket: Ticket, source: u64, count_max: u8, siblings: u16) -> u64 {
        self.last += 1;
        self.looks.insert(self.last, Look { ticket, source, count_max, left: siblings });
        self.last
    }

    /// A sibling has answered. Gives the look once all have.
    pub fn answered(&mut self, number: u64) -> Option<Look> {
        let look = self.looks.get_mut(&number)?;
        look.left -= 1;
        if look.left > 0 {
            return None;
        }
        self.looks.remove(&number)
    }

    /// Whether as many are under way as may be.
    pub fn is_full(&self) -> bool {
        self.looks.len() >= LOOKS_MAX
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }
}
