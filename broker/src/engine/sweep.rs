//! Work over all slots, a slice at a time: freeing what a purge or a deletion made invalid, and
//! giving timers their new time after retention was shortened (rule 31).

use std::collections::BTreeMap;

use super::Engine;
use super::queue::Turn;
use super::slot::State;
use crate::flaws::Flaws;
use crate::journal::Log;

/// Slots looked at for one step: most need nothing.
const SLOTS_A_STEP: u32 = 8;
/// Entries of a purged queue's map dropped for one step.
const ENTRIES_A_STEP: u32 = 8;

/// Where the sweep stands: a cursor that goes round until it has been everywhere once.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    active: bool,
    cursor: u32,
    /// The round ends here, after it has begun again at the first slot.
    stop: u32,
    wrapped: bool,
}

impl Sweep {
    /// Every slot there is now must be visited once more.
    pub fn request(&mut self) {
        self.active = true;
        self.stop = self.cursor;
        self.wrapped = false;
    }

    pub fn is_idle(&self) -> bool {
        !self.active
    }

    /// The next slot to visit, of `used`; slots that were taken meanwhile are visited too.
    fn next(&mut self, used: u32) -> Option<u32> {
        if self.cursor >= used {
            self.cursor = 0;
            if self.wrapped {
                self.active = false;
            }
            self.wrapped = true;
        }
        if !self.active || (self.wrapped && self.cursor >= self.stop) {
            *self = Self::default();
            return None;
        }
        self.cursor += 1;
        Some(self.cursor - 1)
    }
}

impl<F: Flaws> Engine<F> {
    /// Visits some slots. Says how many of the steps are left.
    pub(super) fn sweep_slots(&mut self, mut steps: u32, log: &mut Log<F>) -> u32 {
        while steps > 0 && !self.sweep.is_idle() {
            steps -= 1;
            for _ in 0..SLOTS_A_STEP {
                let Some(index) = self.sweep.next(self.slab.used()) else { break };
                self.sweep_slot(index, log);
            }
        }
        steps
    }

    fn sweep_slot(&mut self, index: u32, log: &mut Log<F>) {
        let slot = &self.slab[index];
        if slot.state() == State::Free {
            return;
        }
        if self.queues[slot.queue].is_gone(slot.sequence) {
            return self.discard_gone(index, log);
        }
        let has_timer = if self.is_fifo(slot.queue) {
            slot.state() == State::Hidden
        } else {
            slot.state() != State::Fresh
        };
        if has_timer {
            self.slot_wheel.cancel(&mut self.slab, index);
            self.start_timer(index);
        }
    }

    /// Takes a map whose entries mean nothing any more.
    pub(super) fn discard_map(&mut self, map: BTreeMap<Turn, u32>) {
        if !map.is_empty() {
            self.discarded.push(map);
        }
    }

    /// Drops entries of such maps. Says how many of the steps are left.
    pub(super) fn drop_maps(&mut self, mut steps: u32) -> u32 {
        steps = drop_entries(&mut self.discarded, steps);
        drop_entries(&mut self.discarded_of_groups, steps)
    }

    /// Whether there are such maps.
    pub(super) fn has_discarded(&self) -> bool {
        !self.discarded.is_empty() || !self.discarded_of_groups.is_empty()
    }
}

fn drop_entries<K: Ord>(maps: &mut Vec<BTreeMap<K, u32>>, mut steps: u32) -> u32 {
    while steps > 0
        && let Some(map) = maps.last_mut()
    {
        steps -= 1;
        for _ in 0..ENTRIES_A_STEP {
            map.pop_first();
        }
        if map.is_empty() {
            maps.pop();
        }
    }
    steps
}
