//! Which groups of a fair queue are noisy.
//!
//! A group is noisy when it has over a tenth of its queue's messages in flight, and at least
//! [`NOISY_IN_FLIGHT_MIN`]; or over a tenth of the processing time of the last minute. Processing time is
//! the time from a delivery to the deletion of the message or to its becoming visible again, at most a
//! minute of it, and belongs to the moment at which it ends. It is summed in a few coarse buckets, of each
//! group and of the queue as a whole.
//!
//! Messages in flight are state, which is in the records. Processing times are measured: they begin anew
//! with a start of the broker, when the queue is purged, and when the last message of a group has left
//! the queue, so they are not in the digest. They only ever change which of several visible messages goes
//! first. What ends otherwise (a message that expires, is set aside, moves to another queue, or whose
//! delivery never left) says nothing about its processing and is not measured.
//!
//! A group that holds nothing is forgotten, unless it may be noisy: then it lingers until a receive finds
//! that it is not any more.
//!
//! Between shards shares are approximate (rule 26): each shard gives out its own figures of groups that
//! may matter ([`Engine::group_shares`]), and takes the sums of the others'
//! ([`Engine::set_foreign_shares`]).

use std::collections::BTreeMap;

use super::Engine;
use super::fair::Fair;
use super::keyed_hash::Key;
use super::queue::Queue;
use super::slot::{FLAG_MOVING, State};
use crate::flaws::Flaws;

/// Messages in flight with which a group may be noisy.
pub const NOISY_IN_FLIGHT_MIN: u32 = 30;
/// More than one part of so many is noisy.
const NOISY_PART: u64 = 10;

/// How far back processing time counts, to within a bucket.
const WINDOW_MS: u64 = 60_000;
const BUCKETS: u64 = 6;
const BUCKET_MS: u64 = WINDOW_MS / BUCKETS;

/// Groups without messages that may linger unjudged; with more, each that comes has the oldest judged.
const LINGERING_MAX: usize = 64;
/// Lingering groups that one receive, or one more of them, judges.
const JUDGED_MAX: usize = 32;

/// Groups with more than one part of so many are told to other shards.
const CANDIDATE_PART: u64 = 50;
/// Candidates of a queue, twice as many as can be at a time: fifty by each measure. With as many those
/// that are none any more are taken off.
const CANDIDATES_MAX: usize = 200;
/// Groups that other shards may tell of; the rest is left out, as if it were quiet there.
const FOREIGN_MAX: usize = 4_096;

/// Processing time of about the last minute.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// The number of the newest bucket; a bucket's place is its number modulo [`BUCKETS`].
    newest: u64,
    spent_ms: [u64; BUCKETS as usize],
}

impl Window {
    /// Adds what ended at a time, which may be a while ago.
    fn add(&mut self, ended_at_ms: u64, spent_ms: u64) {
        let number = ended_at_ms / BUCKET_MS;
        if number > self.newest {
            let first = (self.newest + 1).max((number + 1).saturating_sub(BUCKETS));
            (first..=number).for_each(|number| self.spent_ms[(number % BUCKETS) as usize] = 0);
            self.newest = number;
        }
        if number + BUCKETS > self.newest {
            self.spent_ms[(number % BUCKETS) as usize] += spent_ms;
        }
    }

    /// What counts at a time.
    pub fn sum_ms(&self, now_ms: u64) -> u64 {
        let oldest = (now_ms / BUCKET_MS + 1).saturating_sub(BUCKETS);
        let first = (self.newest + 1).saturating_sub(BUCKETS).max(oldest);
        (first..=self.newest).map(|number| self.spent_ms[(number % BUCKETS) as usize]).sum()
    }
}

/// What a group of a fair queue has beside its entry in the table of groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Stored messages of the group, without those that a purge made go.
    pub held: u32,
    /// While it has something visible: whether it stands among the noisy ones.
    pub is_noisy: bool,
    /// It is on the list of those that hold nothing, which refers to it like a slot.
    lingers: bool,
    is_candidate: bool,
    window: Window,
}

impl Share {
    /// Of a group that has nothing yet.
    pub const NONE: Self = Self {
        held: 0,
        is_noisy: false,
        lingers: false,
        is_candidate: false,
        window: Window { newest: 0, spent_ms: [0; BUCKETS as usize] },
    };
}

/// A group's share in a queue on one shard, or on several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupShare {
    /// The group, the same on all shards of a data folder.
    pub group: [u8; 16],
    /// Its messages in flight.
    pub in_flight: u64,
    /// Its processing time of the last minute.
    pub processing_ms: u64,
}

/// Shares in a queue of the groups that matter, and what they are shares of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupShares {
    /// The queue's messages in flight, with and without groups.
    pub in_flight: u64,
    /// The queue's processing time of the last minute, as far as it had groups.
    pub processing_ms: u64,
    /// Groups that hold over a fiftieth of either.
    pub groups: Vec<GroupShare>,
}

/// What a queue has on other shards.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    in_flight: u64,
    processing_ms: u64,
    /// Messages in flight and processing time.
    groups: BTreeMap<Key, (u64, u64)>,
}

impl<F: Flaws> Engine<F> {
    /// Whether a group of the queue is noisy now.
    pub(super) fn is_noisy(&self, queue: &Queue, fair: &Fair, place: u32) -> bool {
        let group = &self.groups[place];
        let mut in_flight = u64::from(group.in_flight);
        let mut spent_ms = self.shares.get(place).window.sum_ms(self.now_ms);
        if let Some(&(more, more_ms)) = fair.foreign.groups.get(&group.key) {
            in_flight += more;
            spent_ms += more_ms;
        }
        let of_in_flight = queue.in_flight + fair.foreign.in_flight;
        if in_flight >= u64::from(self.options.noisy_in_flight_min) && in_flight * NOISY_PART > of_in_flight {
            return true;
        }
        spent_ms > 0 && spent_ms * NOISY_PART > fair.total.sum_ms(self.now_ms) + fair.foreign.processing_ms
    }

    /// The processing of a message in flight ends: it is deleted, or visible again since its deadline.
    #[inline]
    pub(super) fn processed(&mut self, index: u32) {
        if self.queues[self.slab[index].queue].fair.is_some() {
            self.measure(index);
        }
    }

    fn measure(&mut self, index: u32) {
        let slot = &self.slab[index];
        if slot.state() != State::Hidden || slot.flags() & FLAG_MOVING != 0 {
            return;
        }
        let ended_at_ms = slot.available_at_ms.min(self.now_ms);
        let spent_ms = ended_at_ms.saturating_sub(slot.delivered_at_ms()).min(WINDOW_MS);
        let is_member = slot.flags() & super::slot::FLAG_MEMBER != 0;
        let queue_index = slot.queue;
        if let Some(fair) = &mut self.queues[queue_index].fair {
            fair.total.add(ended_at_ms, spent_ms);
        }
        if is_member {
            let place = self.members.get(index).group;
            self.shares.entry(place).window.add(ended_at_ms, spent_ms);
            self.consider(queue_index, place);
        }
    }

    /// Notes a group for other shards where it has got enough.
    pub(super) fn consider(&mut self, queue_index: u32, place: u32) {
        let queue = &self.queues[queue_index];
        if self.options.shards < 2 || self.shares.get(place).is_candidate {
            return;
        }
        let Some(fair) = queue.fair.as_deref() else { return };
        if !self.is_candidate(queue, fair, place) {
            return;
        }
        if fair.candidates.len() == CANDIDATES_MAX {
            self.retain_candidates(queue_index);
        }
        if let Some(fair) = &mut self.queues[queue_index].fair
            && fair.candidates.len() < CANDIDATES_MAX
        {
            fair.candidates.push(place);
            self.shares.entry(place).is_candidate = true;
        }
    }

    fn is_candidate(&self, queue: &Queue, fair: &Fair, place: u32) -> bool {
        let spent_ms = self.shares.get(place).window.sum_ms(self.now_ms);
        u64::from(self.groups[place].in_flight) * CANDIDATE_PART > queue.in_flight
            || spent_ms * CANDIDATE_PART > fair.total.sum_ms(self.now_ms)
    }

    fn retain_candidates(&mut self, queue_index: u32) {
        let Some(fair) = &mut self.queues[queue_index].fair else { return };
        let mut candidates = std::mem::take(&mut fair.candidates);
        let queue = &self.queues[queue_index];
        let Some(fair) = queue.fair.as_deref() else { return };
        let is_none = |place: &u32| !self.is_candidate(queue, fair, *place);
        let over: Vec<u32> = candidates.extract_if(.., |place| is_none(place)).collect();
        for place in over {
            self.shares.entry(place).is_candidate = false;
        }
        if let Some(fair) = &mut self.queues[queue_index].fair {
            fair.candidates = candidates;
        }
    }

    /// A group holds nothing any more. It is forgotten, unless it has been processing a short while ago.
    pub(super) fn group_is_empty(&mut self, queue_index: u32, place: u32) {
        let now_ms = self.now_ms;
        let share = self.shares.entry(place);
        if share.window.sum_ms(now_ms) == 0 {
            self.forget_share(queue_index, place);
        } else if !share.lingers {
            share.lingers = true;
            self.groups[place].slots += 1;
            if let Some(fair) = &mut self.queues[queue_index].fair {
                fair.lingering.push_back(place);
                if fair.lingering.len() > LINGERING_MAX {
                    return self.judge_lingering(queue_index);
                }
            }
        }
        self.end_fair(queue_index);
    }

    /// Forgets groups that hold nothing and are not noisy, a bounded number of them.
    pub(super) fn judge_lingering(&mut self, queue_index: u32) {
        let Some(fair) = &self.queues[queue_index].fair else { return };
        for _ in 0..fair.lingering.len().min(JUDGED_MAX) {
            let queue = &mut self.queues[queue_index];
            let Some(place) = queue.fair.as_mut().and_then(|fair| fair.lingering.pop_front()) else { return };
            let queue = &self.queues[queue_index];
            let Some(fair) = queue.fair.as_deref() else { return };
            if self.shares.get(place).held > 0 {
                self.stop_lingering(place);
            } else if !self.is_noisy(queue, fair, place) {
                self.forget_share(queue_index, place);
                self.stop_lingering(place);
            } else if let Some(fair) = &mut self.queues[queue_index].fair {
                fair.lingering.push_back(place);
            }
        }
        self.end_fair(queue_index);
    }

    /// A group is not on the list of those without messages any more.
    pub(super) fn stop_lingering(&mut self, place: u32) {
        self.shares.entry(place).lingers = false;
        self.groups[place].slots -= 1;
        if self.groups[place].slots == 0 {
            self.groups.leave_empty(place);
        }
    }

    fn forget_share(&mut self, queue_index: u32, place: u32) {
        let share = self.shares.entry(place);
        let (is_candidate, lingers) = (share.is_candidate, share.lingers);
        *share = Share { lingers, ..Share::NONE };
        if is_candidate && let Some(fair) = &mut self.queues[queue_index].fair {
            fair.candidates.retain(|&candidate| candidate != place);
        }
    }

    /// A queue without messages of groups is one like any other again.
    fn end_fair(&mut self, queue_index: u32) {
        let queue = &mut self.queues[queue_index];
        if queue.fair.as_deref().is_some_and(|fair| fair.held == 0 && fair.lingering.is_empty()) {
            queue.fair = None;
        }
    }

    /// What other shards should know of this one's groups in a queue; `None`: it has none here.
    pub fn group_shares(&mut self, now_ms: u64, queue: u64) -> Option<GroupShares> {
        self.now_ms = self.now_ms.max(now_ms);
        let index = self.queues.find(queue)?;
        self.retain_candidates(index);
        let queue = &self.queues[index];
        let fair = queue.fair.as_deref()?;
        let mut groups: Vec<GroupShare> = fair
            .candidates
            .iter()
            .map(|&place| GroupShare {
                group: self.groups[place].key.bytes(),
                in_flight: self.groups[place].in_flight.into(),
                processing_ms: self.shares.get(place).window.sum_ms(self.now_ms),
            })
            .collect();
        groups.sort_unstable_by_key(|share| share.group);
        let processing_ms = fair.total.sum_ms(self.now_ms);
        Some(GroupShares { in_flight: queue.in_flight, processing_ms, groups })
    }

    /// Takes what all other shards have together in a queue, in place of what they had before: the sums of
    /// their totals, and their groups, where several entries of one group are added up. It is forgotten
    /// where this shard has no groups of the queue.
    pub fn set_foreign_shares(&mut self, queue: u64, shares: &GroupShares) {
        let Some(index) = self.queues.find(queue) else { return };
        let Some(fair) = &mut self.queues[index].fair else { return };
        let mut foreign = Foreign::default();
        let (mut in_flight, mut processing_ms) = (0_u64, 0_u64);
        for share in shares.groups.iter().take(FOREIGN_MAX) {
            let entry = foreign.groups.entry(Key::from_bytes(share.group)).or_default();
            entry.0 += share.in_flight;
            entry.1 += share.processing_ms;
            in_flight += share.in_flight;
            processing_ms += share.processing_ms;
        }
        // Whatever comes, the parts are no more than the whole, which bounds how many are noisy.
        foreign.in_flight = shares.in_flight.max(in_flight);
        foreign.processing_ms = shares.processing_ms.max(processing_ms);
        fair.foreign = foreign;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_what_ended_in_the_last_minute() {
        let mut window = Window::default();
        assert_eq!(window.sum_ms(1_000_000), 0);
        window.add(1_000_000, 5);
        window.add(1_009_999, 6);
        window.add(1_010_000, 7);
        assert_eq!(window.sum_ms(1_010_000), 18);
        window.add(1_000_500, 1);
        assert_eq!(
            (window.sum_ms(1_059_999), window.sum_ms(1_060_000), window.sum_ms(1_070_000)),
            (19, 7, 0)
        );
        window.add(1_200_000, 3);
        window.add(1_149_999, 100);
        assert_eq!(window.sum_ms(1_200_000), 3, "what ended long ago does not count");
        window.add(1_150_000, 100);
        assert_eq!(window.sum_ms(1_200_000), 103);
    }
}
