//! How old the oldest visible message of a queue is elsewhere, so that none starves where nobody
//! receives while others are served where many do (rule 23).
//!
//! A shard that receives come to says so to its siblings once a while; these publish for a while how
//! long their oldest message has waited, as soon as that may matter.

use std::collections::BTreeMap;

/// A receive goes to a sibling whose oldest message has waited this much longer than the local one.
pub const OLDER_MS: u64 = 50;

/// How often ages are published.
const PUBLISH_EVERY_MS: u64 = 10;

/// An age below this is not published: it decides nothing.
const PUBLISHED_FROM_MS: u64 = 25;

/// For how long what was published is believed.
const KNOWN_FOR_MS: u64 = 5 * PUBLISH_EVERY_MS;

/// For how long interest holds, and how often it is said again while receives come.
const INTEREST_MS: u64 = 1_000;
const INTEREST_SAID_EVERY_MS: u64 = 400;

/// Queues whose ages are looked at in one round; with more, the rounds take turns.
const QUEUES_A_ROUND: usize = 512;

/// A queue that receives come to here.
#[derive(Debug)]
struct Received {
    said_ms: u64,
    last_ms: u64,
    /// Since when each sibling's oldest message waits, in this shard's engine time, and when that was
    /// heard.
    oldest: Vec<(u16, u64, u64)>,
}

/// Both sides of ages. Owned by one shard.
#[derive(Debug, Default)]
pub struct Ages {
    received: BTreeMap<u64, Received>,
    /// Siblings that want to know, and until when.
    interested: BTreeMap<u64, Vec<(u16, u64)>>,
    next_round_ms: u64,
    round_from: u64,
}

/// Both sides.
impl Ages {
    /// The queue is deleted: what is remembered of it for longer than a while goes.
    pub fn queue_is_gone(&mut self, queue: u64) {
        self.received.remove(&queue);
    }

    /// The queues that receives have come to here.
    pub fn queues(&self) -> impl Iterator<Item = u64> {
        self.received.keys().copied()
    }
}

/// The side of those who receive.
impl Ages {
    /// A receive has come; says whether the siblings are to be told.
    pub fn received(&mut self, queue: u64, now_ms: u64) -> bool {
        let received =
            self.received.entry(queue).or_insert(Received { said_ms: 0, last_ms: 0, oldest: Vec::new() });
        received.last_ms = now_ms;
        let is_due = received.said_ms == 0 || now_ms >= received.said_ms + INTEREST_SAID_EVERY_MS;
        if is_due {
            received.said_ms = now_ms;
        }
        is_due
    }

    /// A sibling says how long its oldest message has waited.
    pub fn published(&mut self, queue: u64, from: u16, age_ms: u64, now_ms: u64) {
        let Some(received) = self.received.get_mut(&queue) else { return };
        received.oldest.retain(|(shard, ..)| *shard != from);
        received.oldest.push((from, now_ms.saturating_sub(age_ms), now_ms));
    }

    /// The sibling to ask before the local queue, whose oldest message has waited since `local_ms`.
    pub fn older(&mut self, queue: u64, local_ms: u64, now_ms: u64) -> Option<u16> {
        let received = self.received.get_mut(&queue)?;
        received.oldest.retain(|(_, _, heard_ms)| heard_ms + KNOWN_FOR_MS > now_ms);
        let (shard, since_ms, _) = received.oldest.iter().min_by_key(|(_, since_ms, _)| *since_ms)?;
        (since_ms + OLDER_MS < local_ms).then_some(*shard)
    }

    /// A sibling has nothing for receives from here now.
    pub fn has_nothing(&mut self, queue: u64, from: u16) {
        if let Some(received) = self.received.get_mut(&queue) {
            received.oldest.retain(|(shard, ..)| *shard != from);
        }
    }
}

/// The side of those who have.
impl Ages {
    /// A sibling wants to know.
    pub fn interest(&mut self, queue: u64, from: u16, now_ms: u64) {
        let interested = self.interested.entry(queue).or_default();
        interested.retain(|(shard, _)| *shard != from);
        interested.push((from, now_ms + INTEREST_MS));
    }

    /// When the next round is due, if one is.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        (!self.interested.is_empty()).then_some(self.next_round_ms)
    }

    /// What is to be published now, to whom. `oldest_ms` says since when a queue's oldest visible
    /// message has waited.
    pub fn round(
        &mut self,
        now_ms: u64,
        oldest_ms: impl Fn(u64) -> Option<u64>,
    ) -> BTreeMap<u16, Vec<(u64, u64)>> {
        let mut said: BTreeMap<u16, Vec<(u64, u64)>> = BTreeMap::new();
        if self.interested.is_empty() || now_ms < self.next_round_ms {
            return said;
        }
        self.next_round_ms = now_ms + PUBLISH_EVERY_MS;
        let queues: Vec<u64> =
            self.interested.range(self.round_from..).take(QUEUES_A_ROUND).map(|(queue, _)| *queue).collect();
        self.round_from = match queues.last() {
            Some(last) if queues.len() == QUEUES_A_ROUND => last.saturating_add(1),
            _ => 0,
        };
        for queue in queues {
            let Some(interested) = self.interested.get_mut(&queue) else { continue };
            interested.retain(|(_, until_ms)| *until_ms > now_ms);
            if interested.is_empty() {
                self.interested.remove(&queue);
                continue;
            }
            let age_ms = oldest_ms(queue).map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
            if age_ms >= PUBLISHED_FROM_MS {
                for (shard, _) in interested {
                    said.entry(*shard).or_default().push((queue, age_ms));
                }
            }
        }
        self.received.retain(|_, received| received.last_ms + 2 * INTEREST_MS > now_ms);
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_sibling_is_asked_while_it_has_something() {
        let mut ages = Ages::default();
        assert!(ages.received(7, 1_000));
        assert!(!ages.received(7, 1_100));
        assert!(ages.received(7, 1_400), "while receives come it is said again");
        ages.published(7, 2, 300, 2_000);
        assert_eq!(ages.older(7, 1_740, 2_001), None, "not by more than the bound");
        assert_eq!(ages.older(7, 1_760, 2_001), Some(2));
        ages.published(7, 3, 350, 2_000);
        ages.published(7, 4, 320, 2_000);
        assert_eq!(ages.older(7, 1_760, 2_001), Some(3), "the one that has waited longest");
        assert_eq!(ages.older(7, 1_760, 2_100), None, "it is not known any more");
        ages.published(7, 2, 400, 2_100);
        ages.has_nothing(7, 2);
        assert_eq!(ages.older(7, 2_000, 2_101), None);
    }

    #[test]
    fn ages_are_published_while_there_is_interest() {
        let mut ages = Ages::default();
        ages.interest(7, 1, 1_000);
        let said = ages.round(1_000, |_| Some(900));
        assert_eq!(said[&1], [(7, 100)]);
        assert!(ages.round(1_005, |_| Some(900)).is_empty(), "not before the next round");
        assert!(ages.round(1_010, |_| Some(1_000)).is_empty(), "too young to matter");
        assert!(ages.round(2_500, |_| Some(0)).is_empty());
        assert_eq!(ages.next_deadline_ms(), None);
    }
}
