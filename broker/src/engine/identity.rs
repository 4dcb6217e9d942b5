//! Numbers that are never used twice in a data folder (rules 5 and 7).
//!
//! A sequence is the number of the start in its high 24 bits and a counter in the low 40, so that
//! sequences rise across restarts without a record for each. The counter begins where the start's random
//! epoch says, in the lower half of its room: where a folder is restored from a backup, two lines of history
//! have starts of the same number, and what was handed out in one names nothing in the other. Incarnations of
//! queues are a counter of their own, whose next value every Start record carries. Message ids are a mix of
//! sequence and epoch that maps no two sequences to one id, in the shape of a version 4 UUID.

const COUNTER_BITS: u32 = 40;
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;
/// Incarnations that a start leaves out. With durability `async` a power cut may take the records of
/// queues whose numbers clients have already: those numbers must not come to mean other queues.
pub(super) const INCARNATIONS_SKIPPED_A_START: u64 = 1 << 14;

/// A data folder can be started this often, which is more than once a second for half a year.
const START_NUMBER_MAX: u32 = (1 << 24) - 1;

/// Where sequences, message ids and incarnations come from.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    start_number: u32,
    counter: u64,
    epoch: [u8; 16],
    incarnation_next: u64,
}

impl Identity {
    /// Before the first start: incarnations begin at 1, no sequence has been given out.
    pub fn new() -> Self {
        Self { start_number: 0, counter: 0, epoch: [0; 16], incarnation_next: 1 }
    }

    pub fn start_number(&self) -> u32 {
        self.start_number
    }

    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    pub fn incarnation_next(&self) -> u64 {
        self.incarnation_next
    }

    /// Takes over what a Start record says.
    pub fn replay_start(&mut self, start_number: u32, epoch: [u8; 16], incarnation_next: u64) {
        if start_number >= self.start_number {
            self.start_number = start_number;
            self.epoch = epoch;
        }
        self.incarnation_next = self.incarnation_next.max(incarnation_next);
    }

    /// An incarnation was seen in the log: it is never given out again.
    pub fn replay_incarnation(&mut self, incarnation: u64) {
        self.incarnation_next = self.incarnation_next.max(incarnation.saturating_add(1));
    }

    /// Begins a start with a number above all before. The caller journals it.
    pub fn begin_start(&mut self, epoch: [u8; 16]) {
        assert!(self.start_number < START_NUMBER_MAX, "a data folder has room for 2^24 starts");
        if self.start_number > 0 {
            self.incarnation_next += INCARNATIONS_SKIPPED_A_START;
        }
        self.start_number += 1;
        self.counter = counter_before(epoch);
        self.epoch = epoch;
    }

    /// Begins the sequences of this start again, as the planted bug does.
    pub fn begin_again(&mut self, epoch: [u8; 16]) {
        self.start_number = self.start_number.max(1);
        self.counter = 0;
        self.epoch = epoch;
    }

    /// Whether the counter cannot give `more` sequences: then a new start must be journaled first.
    #[inline]
    pub fn is_spent(&self, more: u64) -> bool {
        self.counter + more > COUNTER_MAX
    }

    /// The next sequence.
    #[inline]
    pub fn next_sequence(&mut self) -> u64 {
        self.counter += 1;
        (u64::from(self.start_number) << COUNTER_BITS) | self.counter
    }

    /// The last sequence that was given out; everything stored has this one or a lower one.
    pub fn last_sequence(&self) -> u64 {
        (u64::from(self.start_number) << COUNTER_BITS) | self.counter
    }

    /// The shard that a FIFO queue of the next incarnation is to live on.
    pub fn shard_of_incarnation(&self, shards: u16) -> u16 {
        shard_of(self.incarnation_next, shards)
    }

    /// As if all incarnations before this one had been given out.
    #[cfg(test)]
    pub fn skip_incarnations_to(&mut self, incarnation: u64) {
        self.incarnation_next = self.incarnation_next.max(incarnation);
    }

    /// As if all sequences of this start but so many had been given out.
    #[cfg(test)]
    pub fn spend_all_but(&mut self, left: u64) {
        self.counter = COUNTER_MAX - left;
    }

    /// The next queue's incarnation.
    #[cfg(test)]
    pub fn next_incarnation(&mut self) -> u64 {
        let incarnation = self.incarnation_next;
        self.incarnation_next += 1;
        incarnation
    }

    /// The id of the message with this sequence.
    #[inline]
    pub fn message_id(&self, sequence: u64) -> [u8; 16] {
        let halves = halves(self.epoch);
        let one = mix(sequence ^ halves.0);
        let two = mix(one ^ halves.1);
        // 60 bits of `one` beside the version, its other 4 bits and 58 bits of `two` beside the
        // variant: all of `one` is in the id, and `one` differs wherever the sequence does.
        let high = (one & 0xffff_ffff_ffff_0000) | 0x4000 | (one & 0x0fff);
        let low = (0b10 << 62) | (((one >> 12) & 0xf) << 58) | (two >> 6);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id
    }
}

/// The shard that a FIFO queue with this incarnation lives on, of so many.
pub(super) fn shard_of(incarnation: u64, shards: u16) -> u16 {
    (mix(incarnation) % u64::from(shards.max(1))) as u16
}

/// The last sequence that a start could give out.
pub(super) fn last_of_start(start_number: u32) -> u64 {
    (u64::from(start_number) << COUNTER_BITS) | COUNTER_MAX
}

/// A sequence of the start with this number and epoch, counted from 1.
pub(super) fn sequence_of(start_number: u32, epoch: [u8; 16], count: u64) -> u64 {
    let counter = counter_before(epoch) + count;
    assert!(counter <= COUNTER_MAX, "no folder holds 2^39 messages");
    (u64::from(start_number) << COUNTER_BITS) | counter
}

/// Where the counter of a start stands before it gives out its first sequence.
fn counter_before(epoch: [u8; 16]) -> u64 {
    let (low, _) = halves(epoch);
    mix(low) & (COUNTER_MAX >> 1)
}

fn halves(epoch: [u8; 16]) -> (u64, u64) {
    let epoch = u128::from_le_bytes(epoch);
    (epoch as u64, (epoch >> 64) as u64)
}

/// The finish of SplitMix64: one to one, and every bit of the input moves half of the output's.
#[inline]
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_incarnation_whose_record_was_lost_is_not_given_out_again() {
        let mut identity = Identity::new();
        identity.begin_start([1; 16]);
        let stated = identity.incarnation_next();
        let lost: Vec<u64> = (0..100).map(|_| identity.next_incarnation()).collect();
        let mut recovered = Identity::new();
        recovered.replay_start(1, [1; 16], stated);
        recovered.begin_start([2; 16]);
        assert!(!lost.contains(&recovered.next_incarnation()));
    }

    #[test]
    fn sequences_rise_across_starts_and_ids_are_distinct_uuids() {
        let mut identity = Identity::new();
        let (mut last, mut ids) = (0, BTreeSet::new());
        for start in 0..10_u8 {
            identity.begin_start([start; 16]);
            for _ in 0..1_000 {
                let sequence = identity.next_sequence();
                assert!(sequence > last);
                last = sequence;
                let id = identity.message_id(sequence);
                assert_eq!((id[6] >> 4, id[8] >> 6), (4, 0b10));
                assert!(ids.insert(id));
            }
        }
        assert_eq!(identity.last_sequence(), last);
    }

    #[test]
    fn each_start_counts_from_where_its_epoch_says_and_has_half_of_the_room_at_least() {
        let begun = |epoch: u8| {
            let mut identity = Identity::new();
            identity.begin_start([epoch; 16]);
            assert!(!identity.is_spent(1 << (COUNTER_BITS - 1)));
            let first = identity.next_sequence();
            assert_eq!(first, sequence_of(1, [epoch; 16], 1));
            assert!((sequence_of(1, [epoch; 16], 2)..=last_of_start(1)).contains(&identity.next_sequence()));
            first
        };
        let mut firsts: Vec<u64> = (0..=255).map(begun).collect();
        firsts.sort_unstable();
        let apart = |pair: &[u64]| pair[1] - pair[0];
        assert!(firsts.windows(2).map(apart).min() > Some(10_000), "epochs begin far from each other");
    }

    #[test]
    fn all_of_a_starts_epoch_is_in_its_ids() {
        let ids = |epoch| {
            let mut identity = Identity::new();
            identity.begin_start(epoch);
            let sequence = identity.next_sequence();
            identity.message_id(sequence)
        };
        let epochs = (0..16).map(|place| {
            let mut epoch = [7; 16];
            epoch[place] = 8;
            epoch
        });
        let distinct: BTreeSet<_> = epochs.chain([[7; 16]]).map(ids).collect();
        assert_eq!(distinct.len(), 17);
    }

    #[test]
    fn replay_never_goes_back() {
        let mut identity = Identity::new();
        identity.replay_start(5, [5; 16], 9);
        identity.replay_start(3, [3; 16], 4);
        identity.replay_incarnation(20);
        identity.replay_incarnation(2);
        assert_eq!((identity.start_number(), identity.epoch()), (5, [5; 16]));
        assert_eq!(identity.next_incarnation(), 21);
    }

    #[test]
    fn a_spent_counter_is_seen_in_time() {
        let mut identity = Identity::new();
        identity.begin_start([0; 16]);
        identity.counter = COUNTER_MAX - 10;
        assert!(!identity.is_spent(10));
        assert!(identity.is_spent(11));
        let before = identity.next_sequence();
        identity.begin_start(identity.epoch());
        assert!(identity.next_sequence() > before);
    }
}
