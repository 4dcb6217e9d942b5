//! Fair queues: standard queues with message groups, where one loud tenant does not hold up the others.
//!
//! Messages without a group stand where they stand on any queue; each is a tenant of its own and needs
//! nothing more. What groups need lies in one box that a queue has while it holds messages of groups:
//! those that were never delivered stand in a list of the queue, which is in the order of their expiry,
//! and in one of their group; those that became visible later in maps. Each group with something visible
//! stands by the turn of its first message among the quiet groups or among the noisy ones. A receive takes
//! the smaller turn of the first message without a group and the first quiet group's, and where there is
//! neither, the first noisy group's: no consumer idles while messages wait. Groups are never locked.
//!
//! Who is noisy is judged when it matters (`noise.rs`): a group when it comes to the head of the quiet
//! ones, and those that were found noisy again before each message taken, so that what a receive does
//! depends on the state and the time only. No more than [`NOISY_MAX`] groups can be noisy at a time, so
//! that the cost does not grow with the number of groups.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::groups::Member;
use super::keyed_hash::Key;
use super::noise::{Foreign, Share, Window};
use super::queue::{Queue, Turn};
use super::slot::{FLAG_MEMBER, NONE, Slot, State};
use crate::flaws::{Flaw, Flaws};

/// Groups of a queue that are noisy at a time: nine can hold over a tenth of what is in flight, and nine
/// over a tenth of the processing time.
pub(super) const NOISY_MAX: usize = 18;

/// What a standard queue has for its messages of groups, while it has any.
#[derive(Debug)]
pub(super) struct Fair {
    /// Messages of groups that are stored, whatever their state but damaged.
    pub held: u64,
    /// Messages of groups that were never delivered nor delayed, linked through their slots.
    pub fresh_head: u32,
    pub fresh_tail: u32,
    /// Messages of groups that became visible again or came off their delay.
    pub returned: BTreeMap<Turn, u32>,
    /// The same by their groups' places.
    pub returned_of: BTreeMap<(u32, Turn), u32>,
    /// Groups with visible messages by the first one's turn, but for those last found noisy.
    pub quiet: BTreeMap<Turn, u32>,
    /// Those last found noisy. No more than [`NOISY_MAX`] between commands.
    pub noisy: BTreeMap<Turn, u32>,
    /// Processing time of all messages of the queue.
    pub total: Window,
    /// Groups that hold nothing and may still be noisy.
    pub lingering: VecDeque<u32>,
    /// Groups that other shards should know of.
    pub candidates: Vec<u32>,
    pub foreign: Foreign,
}

impl Fair {
    fn new() -> Box<Self> {
        Box::new(Self {
            held: 0,
            fresh_head: NONE,
            fresh_tail: NONE,
            returned: BTreeMap::new(),
            returned_of: BTreeMap::new(),
            quiet: BTreeMap::new(),
            noisy: BTreeMap::new(),
            total: Window::default(),
            lingering: VecDeque::new(),
            candidates: Vec::new(),
            foreign: Foreign::default(),
        })
    }

    /// The group that is next of each kind, by the turns of their first messages.
    fn firsts(&self) -> impl Iterator<Item = (Turn, u32)> {
        let maps = [&self.quiet, &self.noisy];
        maps.into_iter().filter_map(|map| map.first_key_value()).map(|(&turn, &place)| (turn, place))
    }

    fn map(&mut self, is_noisy: bool) -> &mut BTreeMap<Turn, u32> {
        if is_noisy { &mut self.noisy } else { &mut self.quiet }
    }
}

/// The turn of a visible message, or of one that was visible until now.
fn turn_of(slot: &Slot) -> Turn {
    (slot.available_at_ms, slot.sequence)
}

impl<F: Flaws> Engine<F> {
    /// Puts a message of a standard queue into a group. Its state is set; it stands in nothing yet.
    pub(super) fn join_fair(&mut self, index: u32, key: Key) {
        let slot = &mut self.slab[index];
        slot.set_flags(slot.flags() | FLAG_MEMBER);
        let queue_index = slot.queue;
        let queue = &mut self.queues[queue_index];
        if queue.fair.is_none() && self.options.shards > 1 {
            self.grouped.insert(queue.number(queue_index));
        }
        queue.fair.get_or_insert_with(Fair::new).held += 1;
        let purged_through = queue.purged_through;
        let place = self.groups.find_or_make(key);
        let group = &mut self.groups[place];
        if group.slots == 0 || group.purged_through != purged_through {
            group.begin_anew(purged_through);
            *self.shares.entry(place) = Share::NONE;
        }
        group.slots += 1;
        self.shares.entry(place).held += 1;
        *self.members.entry(index) = Member::of(place);
        self.link_fair(index);
    }

    /// Takes a message out of its group, which its slot still refers to.
    pub(super) fn leave_fair(&mut self, index: u32) {
        self.unlink_fair(index);
        let queue_index = self.slab[index].queue;
        let place = self.members.get(index).group;
        if let Some(fair) = &mut self.queues[queue_index].fair {
            fair.held -= 1;
        }
        let share = self.shares.entry(place);
        share.held -= 1;
        if share.held == 0 {
            self.group_is_empty(queue_index, place);
        }
    }

    /// A message of a group changes from visible to hidden or back, or comes off its delay.
    pub(super) fn change_fair(&mut self, index: u32, state: State) {
        self.unlink_fair(index);
        self.slab[index].set_state(state);
        self.link_fair(index);
    }

    /// Puts a message of a group where its state says that it stands.
    fn link_fair(&mut self, index: u32) {
        let slot = &self.slab[index];
        let (state, queue_index) = (slot.state(), slot.queue);
        let turn = turn_of(slot);
        let place = self.members.get(index).group;
        match state {
            State::Hidden => self.groups[place].in_flight += 1,
            State::Fresh => self.link_fair_fresh(index, queue_index, place),
            State::Returned => {
                let Some(fair) = &mut self.queues[queue_index].fair else { return };
                fair.returned.insert(turn, index);
                fair.returned_of.insert((place, turn), index);
                self.place_fair(queue_index, place);
            }
            _ => {}
        }
    }

    fn link_fair_fresh(&mut self, index: u32, queue_index: u32, place: u32) {
        let Some(fair) = &mut self.queues[queue_index].fair else { return };
        let before = std::mem::replace(&mut fair.fresh_tail, index);
        if before == NONE {
            fair.fresh_head = index;
        } else {
            self.slab[before].list_next = index;
        }
        let slot = &mut self.slab[index];
        (slot.list_next, slot.list_previous) = (NONE, before);
        let group = &mut self.groups[place];
        let before = std::mem::replace(&mut group.tail, index);
        let member = self.members.entry(index);
        (member.next, member.previous) = (NONE, before);
        if before == NONE {
            group.head = index;
            self.place_fair(queue_index, place);
        } else {
            self.members.entry(before).next = index;
        }
    }

    /// Takes a message of a group from where its state says that it stands.
    fn unlink_fair(&mut self, index: u32) {
        let slot = &self.slab[index];
        let (state, queue_index) = (slot.state(), slot.queue);
        let turn = turn_of(slot);
        let place = self.members.get(index).group;
        match state {
            State::Hidden => self.groups[place].in_flight -= 1,
            State::Fresh => self.unlink_fair_fresh(index, queue_index, place),
            State::Returned => {
                let Some(fair) = &mut self.queues[queue_index].fair else { return };
                fair.returned.remove(&turn);
                fair.returned_of.remove(&(place, turn));
                self.place_fair(queue_index, place);
            }
            _ => {}
        }
    }

    fn unlink_fair_fresh(&mut self, index: u32, queue_index: u32, place: u32) {
        let Some(fair) = &mut self.queues[queue_index].fair else { return };
        let (next, previous) = (self.slab[index].list_next, self.slab[index].list_previous);
        if previous == NONE {
            fair.fresh_head = next;
        } else {
            self.slab[previous].list_next = next;
        }
        if next == NONE {
            fair.fresh_tail = previous;
        } else {
            self.slab[next].list_previous = previous;
        }
        let Member { next, previous, .. } = self.members.get(index);
        let group = &mut self.groups[place];
        if previous == NONE {
            group.head = next;
        } else {
            self.members.entry(previous).next = next;
        }
        if next == NONE {
            group.tail = previous;
        } else {
            self.members.entry(next).previous = previous;
        }
        if previous == NONE {
            self.place_fair(queue_index, place);
        }
    }

    /// The message of a group that is next, with its turn.
    fn fair_head(&self, fair: &Fair, place: u32) -> Option<(Turn, u32)> {
        let head = self.groups[place].head;
        let fresh = (head != NONE).then(|| (turn_of(&self.slab[head]), head));
        let all = (place, (0, 0))..=(place, (u64::MAX, u64::MAX));
        let returned = fair.returned_of.range(all).next().map(|(&(_, turn), &index)| (turn, index));
        fresh.into_iter().chain(returned).min()
    }

    /// Puts a group among the quiet or the noisy ones, by its first visible message. One that had nothing
    /// visible begins as a quiet one, until it is judged.
    fn place_fair(&mut self, queue_index: u32, place: u32) {
        let Some(fair) = &self.queues[queue_index].fair else { return };
        let turn = self.fair_head(fair, place).map(|(turn, _)| turn);
        let before = self.groups[place].replace_turn(turn);
        if turn == before {
            return;
        }
        let Some(fair) = &mut self.queues[queue_index].fair else { return };
        let share = self.shares.entry(place);
        if let Some(before) = before {
            fair.map(share.is_noisy).remove(&before);
        } else {
            share.is_noisy = false;
        }
        if let Some(turn) = turn {
            fair.map(share.is_noisy).insert(turn, place);
        }
    }

    /// Moves a group between the quiet and the noisy ones.
    fn set_noisy(&mut self, queue_index: u32, (turn, place): (Turn, u32), is_noisy: bool) {
        let Some(fair) = &mut self.queues[queue_index].fair else { return };
        fair.map(!is_noisy).remove(&turn);
        fair.map(is_noisy).insert(turn, place);
        self.shares.entry(place).is_noisy = is_noisy;
    }

    /// The visible message of a queue with groups that is next.
    pub(super) fn next_fair(&mut self, queue_index: u32) -> Option<u32> {
        self.judge_noisy(queue_index);
        let plain = self.first_visible(queue_index).map(|index| (turn_of(&self.slab[index]), index));
        let quiet = loop {
            let queue = &self.queues[queue_index];
            let fair = queue.fair.as_deref()?;
            let Some((&turn, &place)) = fair.quiet.first_key_value() else { break None };
            if plain.is_some_and(|(plain, _)| plain < turn) {
                break None;
            }
            if !self.is_noisy(queue, fair, place) {
                break self.fair_head(fair, place);
            }
            self.set_noisy(queue_index, (turn, place), true);
        };
        let fair = self.queues[queue_index].fair.as_deref()?;
        let noisy = || {
            let (_, &place) = fair.noisy.first_key_value()?;
            self.fair_head(fair, place)
        };
        let first = if F::has(Flaw::ServeNoisyGroupsFirst) {
            noisy().or(quiet).or(plain)
        } else {
            quiet.or(plain).or_else(noisy)
        };
        first.map(|(_, index)| index)
    }

    /// Lets those that were found noisy and are not any more stand among the quiet ones again.
    fn judge_noisy(&mut self, queue_index: u32) {
        let queue = &self.queues[queue_index];
        let Some(fair) = queue.fair.as_deref() else { return };
        if fair.noisy.is_empty() {
            return;
        }
        let mut quiet = [((0, 0), NONE); NOISY_MAX];
        let now_quiet = fair.noisy.iter().filter(|&(_, &place)| !self.is_noisy(queue, fair, place));
        let count = quiet.iter_mut().zip(now_quiet).map(|(to, (&turn, &place))| *to = (turn, place)).count();
        for &group in &quiet[..count] {
            self.set_noisy(queue_index, group, false);
        }
    }

    /// A visible message of a group is handed out.
    pub(super) fn take_of_fair(&mut self, queue_index: u32, index: u32) {
        if self.slab[index].state() == State::Returned {
            self.slot_wheel.cancel(&mut self.slab, index);
        }
        self.change_fair(index, State::Hidden);
        self.consider(queue_index, self.members.get(index).group);
    }

    /// The oldest visible message of a standard queue, whoever's.
    pub(super) fn oldest_visible(&self, queue_index: u32) -> Option<u32> {
        let plain = self.first_visible(queue_index).map(|index| (turn_of(&self.slab[index]), index));
        let oldest = plain.into_iter().chain(self.oldest_fair(&self.queues[queue_index])).min();
        oldest.map(|(_, index)| index)
    }

    /// The oldest visible message of a queue's groups, noisy or not, with its turn.
    pub(super) fn oldest_fair(&self, queue: &Queue) -> Option<(Turn, u32)> {
        let fair = queue.fair.as_deref()?;
        let (_, place) = fair.firsts().min()?;
        self.fair_head(fair, place)
    }

    /// The message of a group that was never delivered and expires next.
    pub(super) fn first_fair_fresh(&self, queue_index: u32) -> Option<u32> {
        let head = self.queues[queue_index].fair.as_deref()?.fresh_head;
        (head != NONE).then_some(head)
    }

    /// All messages of the queue are gone at once, and with them what was known of its groups. What was
    /// in maps is dropped in slices (rule 31).
    pub(super) fn forget_fair(&mut self, queue_index: u32) {
        let Some(fair) = self.queues[queue_index].fair.take() else { return };
        for &place in &fair.lingering {
            self.stop_lingering(place);
        }
        let Fair { returned, returned_of, quiet, noisy, .. } = *fair;
        [returned, quiet, noisy].into_iter().for_each(|map| self.discard_map(map));
        if !returned_of.is_empty() {
            self.discarded_of_groups.push(returned_of);
        }
    }

    /// Recovery: takes a message of a group of a standard queue whose state is set; one that was never
    /// delivered is linked later.
    pub(super) fn recover_fair(&mut self, index: u32) {
        let place = self.members.get(index).group;
        let key = self.groups[place].key;
        self.join_fair(index, key);
    }
}
