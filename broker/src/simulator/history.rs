//! What a value may be, by who set it when.

use super::checker::{Ending, Window};

#[derive(Debug, Clone, Copy)]
struct Change<V> {
    value: V,
    from_ns: u64,
    /// `None` while it is not certain that it took effect.
    to_ns: Option<u64>,
}

/// The changes of a value, each of which took effect in a window of time, or may have.
#[derive(Debug)]
pub struct History<V> {
    changes: Vec<Option<Change<V>>>,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        Self { changes: Vec::new() }
    }
}

impl<V> History<V> {
    /// A change is asked for: from now on it may have taken effect. Gives its number.
    pub fn begin(&mut self, value: V, now_ns: u64) -> usize {
        self.changes.push(Some(Change { value, from_ns: now_ns, to_ns: None }));
        self.changes.len() - 1
    }

    /// A change has ended.
    pub fn end(&mut self, number: usize, ending: Ending) {
        let place = &mut self.changes[number];
        let Some(change) = place else { return };
        match ending {
            Ending::Done(window) => (change.from_ns, change.to_ns) = (window.from_ns, Some(window.to_ns)),
            Ending::Unknown(Some(from_ns)) => change.from_ns = from_ns,
            Ending::Refused | Ending::Unknown(None) => *place = None,
        }
    }

    /// A crash made everything uncertain that was acknowledged since then.
    pub fn crashed(&mut self, lost_since_ns: u64) {
        for change in self.changes.iter_mut().flatten() {
            change.to_ns = change.to_ns.filter(|to_ns| *to_ns < lost_since_ns);
        }
    }

    /// Whether a part of the value may have been `part` in a window: some change that set it so may
    /// have been the last to set that part. What nobody set may be anything.
    pub fn may_be(&self, part: u64, of: fn(&V) -> Option<u64>, window: Window) -> bool {
        let changes = self.changes.iter().flatten().filter(|change| of(&change.value).is_some());
        let is_superseded = |change: &Change<V>| {
            changes.clone().any(|other| {
                let before_window = other.to_ns.is_some_and(|to_ns| to_ns < window.from_ns);
                before_window && change.to_ns.is_some_and(|to_ns| to_ns < other.from_ns)
            })
        };
        let nobody_set_it =
            !changes.clone().any(|change| change.to_ns.is_some_and(|to_ns| to_ns < window.from_ns));
        nobody_set_it
            || changes.clone().any(|change| of(&change.value) == Some(part) && !is_superseded(change))
    }
}
