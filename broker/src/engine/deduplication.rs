//! Deduplication on FIFO queues: what was accepted in the last five minutes, whether or not it is still
//! stored.
//!
//! An entry says which message was accepted under a key, which is a keyed hash of queue, perhaps
//! group, and id. Entries stand in the order of their times in blocks, and go from the front as their
//! window ends; a hash table leads from keys to places in them. An entry counts by its time and by
//! its queue's last purge, never by whether it has been taken away (rule 10).
//!
//! After a restart entries come back from the Sent records, which carry the key, so that replaying
//! them depends on no attribute of then. A Sent record whose message is deleted is garbage to
//! cleaning, though; so a block knows from which stretch of the log its entries came, and when
//! cleaning comes there, the block is written as one record (rule 11). What that will take is charged to
//! the segment from the beginning, so that a segment is not taken for empty that still costs something.
//!
//! The number of entries is bounded by
//! [`EngineOptions::deduplication_max`](super::EngineOptions::deduplication_max); there sends are
//! refused, and nothing is forgotten early (rule 33).

use std::collections::VecDeque;
use std::ops::Range;

use super::fifo_records::{Attempted, DEDUPLICATION_BYTES, ENTRY_BYTES, write_entries};
use super::index::Index;
use super::keyed_hash::Key;
use super::records::Kind;
use super::{Engine, append};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Log, PREFIX_BYTES, Position};

/// How long a message's deduplication id is remembered.
pub(super) const WINDOW_MS: u64 = 5 * 60 * 1_000;

/// Entries of a block at most, which is one record when it is carried.
const BLOCK_ENTRIES_MAX: usize = 1 << OFFSET_BITS;
const OFFSET_BITS: u32 = 12;
/// Blocks at most; with as many, sends are refused as at the bound of the entries.
const BLOCKS_MAX: usize = 1 << 20;
const BLOCK_MASK: u32 = (1 << (u32::BITS - OFFSET_BITS)) - 1;

/// Timers for the ends of windows run this much later, so that a steady stream does not wake a shard
/// for each message of five minutes ago.
const LATE_MS: u64 = 1_000;

/// A message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Key,
    pub sequence: u64,
    pub sent_at_ms: u64,
    pub id: [u8; 16],
}

impl Entry {
    /// Whether its window has ended.
    #[inline]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.sent_at_ms + WINDOW_MS <= now_ms
    }
}

/// Where a block's entries can be read again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the Sent records from the first position to the last, which lie in one segment.
    Sent { first: Position, last: Position },
    /// In a record of its own.
    Record { position: Position, length: u32 },
}

#[derive(Debug)]
struct Block {
    entries: Vec<Entry>,
    /// So many from the front have gone.
    gone: usize,
    origin: Origin,
}

/// All entries of a shard.
#[derive(Debug)]
pub(super) struct Deduplication {
    blocks: VecDeque<Block>,
    /// The number of the first block, which goes round.
    first: u32,
    index: Index,
    count: u64,
}

impl Deduplication {
    pub fn new() -> Self {
        Self { blocks: VecDeque::new(), first: 0, index: Index::new(), count: 0 }
    }

    /// How many entries there are, with those whose window has ended and that were not taken away yet.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is room for one more, of at most this many.
    #[inline]
    pub fn has_room(&self, entries_max: u64) -> bool {
        self.count < entries_max && self.blocks.len() < BLOCKS_MAX
    }

    /// The last entry under a key.
    #[inline]
    pub fn find(&self, key: Key) -> Option<&Entry> {
        let place = self.index.find(key, |place| entry_at(&self.blocks, self.first, place).key)?;
        Some(entry_at(&self.blocks, self.first, place))
    }

    /// All entries, in their order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| &block.entries[block.gone..])
    }

    /// When the first entry is to be taken away.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.entries().next().map(|entry| entry.sent_at_ms + WINDOW_MS + LATE_MS)
    }

    /// Adds an entry whose Sent record is at a position.
    #[inline]
    pub fn push<F: Flaws>(&mut self, entry: Entry, position: Position, log: &mut Log<F>) {
        let most = block_entries_max(log);
        let fits = |block: &Block| match block.origin {
            Origin::Sent { first, .. } => block.entries.len() < most && log.is_same_segment(first, position),
            Origin::Record { .. } => false,
        };
        if !self.blocks.back().is_some_and(fits) {
            let origin = Origin::Sent { first: position, last: position };
            self.blocks.push_back(Block { entries: Vec::new(), gone: 0, origin });
        }
        log.charge(position, ENTRY_BYTES as u64);
        let block = self.blocks.back_mut().expect("it was made where there was none");
        if let Origin::Sent { last, .. } = &mut block.origin {
            *last = position;
        }
        self.add_to_last(entry);
    }

    /// Adds a block that was read from a record of its own. Its length in the log is live from now on.
    fn push_recovered<F: Flaws>(&mut self, entries: &[Entry], record: (Position, u32), log: &mut Log<F>) {
        let origin = Origin::Record { position: record.0, length: record.1 };
        self.blocks.push_back(Block { entries: Vec::with_capacity(entries.len()), gone: 0, origin });
        log.live(record.0, record.1);
        entries.iter().for_each(|&entry| self.add_to_last(entry));
    }

    fn add_to_last(&mut self, entry: Entry) {
        let number = self.first.wrapping_add(self.blocks.len() as u32 - 1) & BLOCK_MASK;
        if let Some(place) = self.index.find(entry.key, |place| entry_at(&self.blocks, self.first, place).key)
        {
            // That one's window has ended, or a purge has made it void.
            self.index.remove(entry.key, place);
        }
        let block = self.blocks.back_mut().expect("the caller has seen to it");
        let place = (number << OFFSET_BITS) | block.entries.len() as u32;
        block.entries.push(entry);
        self.count += 1;
        let (blocks, first) = (&self.blocks, self.first);
        self.index.insert(entry.key, place, |place| entry_at(blocks, first, place).key);
    }

    /// Takes entries away whose window has ended, one a step. Says how many steps are left.
    pub fn forget<F: Flaws>(&mut self, now_ms: u64, mut steps: u32, log: &mut Log<F>) -> u32 {
        while steps > 0
            && let Some(block) = self.blocks.front_mut()
            && block.entries[block.gone].is_over(now_ms)
        {
            steps -= 1;
            let (entry, offset) = (block.entries[block.gone], block.gone as u32);
            block.gone += 1;
            self.count -= 1;
            let is_empty = block.gone == block.entries.len();
            match block.origin {
                Origin::Sent { first, .. } => log.discharge(first, ENTRY_BYTES as u64),
                Origin::Record { position, length } if is_empty && length > 0 => {
                    log.release(position, length);
                }
                Origin::Record { .. } => {}
            }
            self.index.remove(entry.key, (self.first << OFFSET_BITS) | offset);
            if is_empty {
                self.blocks.pop_front();
                self.first = self.first.wrapping_add(1) & BLOCK_MASK;
            }
        }
        steps
    }

    /// Writes blocks again at the tail that can be read only at these positions.
    pub fn carry<F: Flaws>(&mut self, now_ms: u64, old: &Range<Position>, log: &mut Log<F>) {
        for block in &mut self.blocks {
            let is_old = match block.origin {
                Origin::Sent { first, last } => first < old.end && last >= old.start,
                Origin::Record { position, .. } => old.contains(&position),
            };
            if !is_old {
                continue;
            }
            let living = &block.entries[block.gone..];
            let bytes = (living.len() * ENTRY_BYTES) as u64;
            if F::has(Flaw::ForgetDuplicatesInCleaning) {
                match block.origin {
                    Origin::Sent { first, .. } => log.discharge(first, bytes),
                    Origin::Record { position, length } => log.release(position, length),
                }
                block.origin = Origin::Record { position: Position(u64::MAX), length: 0 };
                continue;
            }
            let (position, length) = append(
                log,
                now_ms,
                Kind::Deduplication,
                DEDUPLICATION_BYTES,
                living.len() * ENTRY_BYTES,
                true,
                |out| write_entries(living, out),
            );
            log.live(position, length);
            match block.origin {
                Origin::Sent { first, .. } => log.discharge(first, bytes),
                Origin::Record { position, length } => log.release(position, length),
            }
            block.origin = Origin::Record { position, length };
        }
    }
}

#[inline]
fn entry_at(blocks: &VecDeque<Block>, first: u32, place: u32) -> &Entry {
    let number = (place >> OFFSET_BITS).wrapping_sub(first) & BLOCK_MASK;
    &blocks[number as usize].entries[place as usize & (BLOCK_ENTRIES_MAX - 1)]
}

/// A block is one record when it is carried, and must fit a segment.
fn block_entries_max<F: Flaws>(log: &Log<F>) -> usize {
    let room = log.record_bytes_max() - PREFIX_BYTES - DEDUPLICATION_BYTES;
    (room / ENTRY_BYTES).min(BLOCK_ENTRIES_MAX)
}

/// Entries as recovery reads them, in the order of their records.
#[derive(Debug, Default)]
pub(super) struct RecoveredEntries {
    /// With where each was read: the record, and its length where it is one of a block.
    entries: Vec<(Entry, Position, u32)>,
    /// At this length those whose window has ended are taken out.
    pruned_at: usize,
    /// Attempts, by key: the last record of one holds.
    pub attempts: std::collections::BTreeMap<Key, (Attempted, Position, u32)>,
}

impl RecoveredEntries {
    /// Notes an entry; `length` is 0 where it comes from a Sent record.
    pub fn note(&mut self, entry: Entry, position: Position, length: u32, time_ms: u64) {
        if self.entries.len() >= self.pruned_at.max(1 << 16) {
            self.entries.retain(|(entry, ..)| !entry.is_over(time_ms));
            self.pruned_at = self.entries.len() * 2;
        }
        self.entries.push((entry, position, length));
    }
}

impl<F: Flaws> Engine<F> {
    /// Recovery: makes blocks of the entries whose window has not ended.
    pub(super) fn recover_entries(&mut self, recovered: RecoveredEntries, log: &mut Log<F>) {
        let now_ms = self.now_ms;
        let mut entries = recovered.entries;
        entries.retain(|(entry, ..)| !entry.is_over(now_ms));
        // One that was carried is known twice as long as its segment is there: the newest place holds.
        // Queues that came from different shards may have the same sequences, never under one key.
        entries.sort_by_key(|&(entry, position, _)| (entry.sequence, entry.key, std::cmp::Reverse(position)));
        entries.dedup_by_key(|(entry, ..)| (entry.sequence, entry.key));
        let mut block = Vec::new();
        for stretch in entries.chunk_by(|one, other| (one.1, one.2) == (other.1, other.2) && one.2 > 0) {
            let (entry, position, length) = stretch[0];
            if length == 0 {
                self.deduplication.push(entry, position, log);
            } else {
                block.clear();
                block.extend(stretch.iter().map(|&(entry, ..)| entry));
                self.deduplication.push_recovered(&block, (position, length), log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flaws::Sound;
    use crate::journal::{Durability, LogOptions};

    fn log() -> Log<Sound> {
        Log::in_memory(LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::new(Durability::Memory, [1; 16], 0)
        })
    }

    fn entry(number: u64) -> Entry {
        let key = Key([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number.rotate_right(12)]);
        Entry { key, sequence: number, sent_at_ms: number * 10, id: [number as u8; 16] }
    }

    #[test]
    fn entries_are_found_until_their_window_ends_and_again_when_their_key_comes_again() {
        let (mut log, mut table) = (log(), Deduplication::new());
        let (start, _) = append(&mut log, 1, Kind::Sent, 8, 0, true, |out| out.fill(0));
        for number in 1..=10_000 {
            table.push(entry(number), start, &mut log);
        }
        assert_eq!(log.live_bytes(), 10_000 * ENTRY_BYTES as u64);
        assert_eq!(table.find(entry(7).key), Some(&entry(7)));
        let again = Entry { sequence: 20_000, sent_at_ms: 100_000, ..entry(7) };
        table.push(again, start, &mut log);
        assert_eq!(table.find(entry(7).key), Some(&again));
        let steps = table.forget(WINDOW_MS + 99_990, 1_000_000, &mut log);
        assert_eq!((steps, table.count()), (1_000_000 - 9_999, 2));
        assert_eq!((table.find(entry(8).key), table.find(entry(7).key)), (None, Some(&again)));
        table.forget(u64::MAX, 10, &mut log);
        assert_eq!((table.count(), log.live_bytes(), table.next_deadline_ms()), (0, 0, None));
    }
}
