//! Fair queues in the model: which messages of which groups were processed when is a list that is looked
//! through for every message that is handed out.

use super::*;

/// So few that histories reach it.
pub(super) const NOISY_IN_FLIGHT_MIN: u32 = 2;
const BUCKET_MS: u64 = 10_000;
const BUCKETS: u64 = 6;
const MINUTE_MS: u64 = 60_000;

/// What is known of processing on a queue.
#[derive(Debug, Default)]
pub(super) struct Measured {
    processed: Vec<Processed>,
    /// Groups that hold nothing and may be noisy.
    lingering: BTreeSet<u8>,
}

#[derive(Debug)]
struct Processed {
    at_ms: u64,
    spent_ms: u64,
    group: Option<u8>,
}

impl Measured {
    /// What was processed about the last minute, of a group or of all.
    fn sum_ms(&self, group: Option<u8>, now_ms: u64) -> u64 {
        let counts = |one: &&Processed| {
            let is_recent = one.at_ms / BUCKET_MS + BUCKETS > now_ms / BUCKET_MS;
            is_recent && (group.is_none() || one.group == group)
        };
        self.processed.iter().filter(counts).map(|one| one.spent_ms).sum()
    }

    fn forget(&mut self, group: u8) {
        self.processed.iter_mut().filter(|one| one.group == Some(group)).for_each(|one| one.group = None);
    }
}

pub(super) fn group() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 3 => (0..4_u8).prop_map(Some)]
}

pub(super) fn name_of(group: u8) -> String {
    format!("tenant-{group}")
}

impl Queue {
    fn holds(&self, group: u8) -> bool {
        self.messages.iter().any(|message| !message.damaged && message.group == Some(group))
    }

    /// Notes what has been processed and which groups hold nothing any more, up to now.
    pub(super) fn measure(&mut self) {
        let empty: Vec<u8> = (0..4).filter(|&group| !self.holds(group)).collect();
        let now_ms = self.now_ms;
        for &group in &empty {
            if self.measured.sum_ms(Some(group), now_ms) > 0 {
                self.measured.lingering.insert(group);
            } else if !self.measured.lingering.contains(&group) {
                self.measured.forget(group);
            }
        }
        let is_fair = empty.len() < 4 || !self.measured.lingering.is_empty();
        if !is_fair {
            self.measured.processed.clear();
        }
        for message in self.messages.iter_mut().filter(|message| !message.damaged) {
            if message.processing && message.available_at_ms <= now_ms {
                message.processing = false;
                let processed = message.processed(message.available_at_ms);
                self.measured.processed.extend(is_fair.then_some(processed));
            }
        }
    }

    /// A message is deleted.
    pub(super) fn note_deleted(&mut self, issued: &Issued) {
        let now_ms = self.now_ms;
        let deleted = self.messages.iter().find(|message| issued.is_of(message));
        if let Some(message) = deleted.filter(|message| message.processing && !message.damaged) {
            let is_fair = (0..4).any(|group| self.holds(group)) || !self.measured.lingering.is_empty();
            // It may have been visible again since its deadline.
            let at_ms = message.available_at_ms.min(now_ms);
            self.measured.processed.extend(is_fair.then(|| message.processed(at_ms)));
        }
    }

    /// Forgets groups that hold nothing and are not noisy.
    pub(super) fn judge_lingering(&mut self) {
        for group in std::mem::take(&mut self.measured.lingering) {
            if self.holds(group) {
                continue;
            }
            if self.is_noisy(Some(group), &[]) {
                self.measured.lingering.insert(group);
            } else {
                self.measured.forget(group);
            }
        }
        self.measure();
    }

    /// Whether a group is noisy while these have just been taken.
    fn is_noisy(&self, group: Option<u8>, taken: &[[u8; 16]]) -> bool {
        let Some(group) = group else { return false };
        let in_flight = |message: &&Stored| {
            message.state(self.now_ms) == MessageState::InFlight || taken.contains(&message.id)
        };
        let all = self.messages.iter().filter(in_flight).count();
        let own = self.messages.iter().filter(in_flight).filter(|message| message.group == Some(group));
        let own = own.count();
        if own >= NOISY_IN_FLIGHT_MIN as usize && own * 10 > all {
            return true;
        }
        let spent_ms = self.measured.sum_ms(Some(group), self.now_ms);
        spent_ms > 0 && spent_ms * 10 > self.measured.sum_ms(None, self.now_ms)
    }

    /// The message that is handed out next to whom has these already.
    pub(super) fn next(&self, taken: &[[u8; 16]]) -> Option<[u8; 16]> {
        let visible = self.messages.iter().filter(|message| {
            message.state(self.now_ms) == MessageState::Visible && !taken.contains(&message.id)
        });
        let first = visible.min_by_key(|message| {
            (self.is_noisy(message.group, taken), message.available_at_ms, message.order)
        });
        first.map(|message| message.id)
    }
}

impl Stored {
    fn processed(&self, at_ms: u64) -> Processed {
        let spent_ms = at_ms.saturating_sub(self.delivered_at_ms).min(MINUTE_MS);
        Processed { at_ms, spent_ms, group: self.group }
    }
}
