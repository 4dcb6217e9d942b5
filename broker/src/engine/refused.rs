//! "Only if my previous one of this group was accepted" (rule 35).
//!
//! A client that sends a group's messages one behind the other without waiting must not have the
//! second stored when the first was refused. So a connection is remembered with the groups of which
//! something was refused, until an entry without the flag of that group is accepted: that is the
//! client beginning again. A group's key has its queue's incarnation in it.

use std::collections::BTreeMap;

use super::keyed_hash::Key;
use crate::shard::driver::ConnectionId;

/// Groups that are remembered for a connection. With more, everything with the flag is refused on it
/// until it is closed: nothing is ever taken that should not be.
const GROUPS_MAX: usize = 1_024;

#[derive(Debug, Default)]
struct Groups {
    /// Sorted.
    keys: Vec<Key>,
    overflowed: bool,
}

/// The groups that connections wait to begin again.
#[derive(Debug, Default)]
pub(super) struct Refused {
    connections: BTreeMap<(u32, u32), Groups>,
}

impl Refused {
    fn place(connection: ConnectionId) -> (u32, u32) {
        (connection.index, connection.generation)
    }

    /// Whether the connection's previous entry of the group was refused, or may have been.
    #[inline]
    pub fn was_refused(&self, connection: ConnectionId, group: Key) -> bool {
        if self.connections.is_empty() {
            return false;
        }
        self.connections
            .get(&Self::place(connection))
            .is_some_and(|groups| groups.overflowed || groups.keys.binary_search(&group).is_ok())
    }

    /// An entry of the group was refused.
    pub fn refused(&mut self, connection: ConnectionId, group: Key) {
        let groups = self.connections.entry(Self::place(connection)).or_default();
        if let Err(place) = groups.keys.binary_search(&group) {
            if groups.keys.len() < GROUPS_MAX {
                groups.keys.insert(place, group);
            } else {
                groups.overflowed = true;
            }
        }
    }

    /// An entry of the group was accepted.
    #[inline]
    pub fn accepted(&mut self, connection: ConnectionId, group: Key) {
        if self.connections.is_empty() {
            return;
        }
        if let Some(groups) = self.connections.get_mut(&Self::place(connection))
            && let Ok(place) = groups.keys.binary_search(&group)
        {
            groups.keys.remove(place);
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(&Self::place(connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_too_many_groups_everything_counts_as_refused() {
        let mut refused = Refused::default();
        let (connection, other) =
            (ConnectionId { index: 1, generation: 1 }, ConnectionId { index: 1, generation: 2 });
        for number in 0..GROUPS_MAX as u64 {
            refused.refused(connection, Key([number, 0]));
        }
        let unknown = Key([u64::MAX, 0]);
        assert!(!refused.was_refused(connection, unknown) && !refused.was_refused(other, Key([0, 0])));
        refused.accepted(connection, Key([0, 0]));
        assert!(!refused.was_refused(connection, Key([0, 0])));
        for number in 0..=GROUPS_MAX as u64 {
            refused.refused(connection, Key([number, 0]));
        }
        assert!(refused.was_refused(connection, unknown));
        refused.forget(connection);
        assert!(!refused.was_refused(connection, Key([1, 0])));
    }
}
