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
//! Of a log that nobody recovers from, nothing is charged and nothing is written.
//!
//! The table is made for tens of millions of entries, which no processor's cache holds: an entry of this
//! start takes 24 bytes, a batch's keys are told beforehand ([`Deduplication::expect`]) so that what they
//! lead to is fetched together, and so is what a run of entries that go leads to.
//!
//! The number of entries is bounded by
//! [`EngineOptions::deduplication_max`](super::EngineOptions::deduplication_max); there sends are
//! refused, and nothing is forgotten early (rule 33).

use std::collections::VecDeque;
use std::ops::Range;

use super::chunks::{Next, WantedChunk};
use super::fifo_records::{Attempted, DEDUPLICATION_BYTES, ENTRY_BYTES, write_entries};
use super::identity::Identity;
use super::index::{BucketChunk, Index};
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

/// Entries that go together, after what they lead to was fetched together.
const RUN_ENTRIES_MAX: usize = 16;

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

/// An entry of this start, whose message id follows from its sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    key: Key,
    /// Behind the block's first.
    sequence_after: u32,
    sent_after_ms: u32,
}

const _: () = assert!(size_of::<Own>() == 24, "there may be tens of millions");

/// Room for the entries of a block, its memory there.
pub(super) fn new_block() -> Vec<Own> {
    let filler = Own { key: Key([1; 2]), sequence_after: 1, sent_after_ms: 1 };
    let mut entries = vec![filler; BLOCK_ENTRIES_MAX];
    entries.clear();
    entries
}

/// The entries of a block.
#[derive(Debug)]
enum Entries {
    /// Of messages that were accepted since this start; sequence and time are those of the first.
    Own { sequence: u64, sent_at_ms: u64, entries: Vec<Own> },
    /// Read by recovery.
    Read(Vec<Entry>),
}

impl Entries {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Entries::Own { entries, .. } => entries.len(),
            Entries::Read(entries) => entries.len(),
        }
    }

    #[inline]
    fn key(&self, offset: usize) -> &Key {
        match self {
            Entries::Own { entries, .. } => &entries[offset].key,
            Entries::Read(entries) => &entries[offset].key,
        }
    }

    #[inline]
    fn is_over(&self, offset: usize, now_ms: u64) -> bool {
        let sent_at_ms = match self {
            Entries::Own { sent_at_ms, entries, .. } => sent_at_ms + u64::from(entries[offset].sent_after_ms),
            Entries::Read(entries) => entries[offset].sent_at_ms,
        };
        sent_at_ms + WINDOW_MS <= now_ms
    }

    fn get(&self, offset: usize, identity: &Identity) -> Entry {
        match self {
            Entries::Own { sequence, sent_at_ms, entries } => {
                let own = &entries[offset];
                let sequence = sequence + u64::from(own.sequence_after);
                Entry {
                    key: own.key,
                    sequence,
                    sent_at_ms: sent_at_ms + u64::from(own.sent_after_ms),
                    id: identity.message_id(sequence),
                }
            }
            Entries::Read(entries) => entries[offset],
        }
    }
}

/// Where a block's entries can be read again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the Sent records from the first position to the last, which lie in one segment.
    Sent { first: Position, last: Position },
    /// In a record of its own.
    Record { position: Position, length: u32 },
    /// Nowhere, as nobody recovers from the log.
    Nowhere,
}

#[derive(Debug)]
struct Block {
    entries: Entries,
    /// So many from the front have gone.
    gone: usize,
    /// So many fit.
    most: usize,
    origin: Origin,
}

impl Block {
    /// A block that begins with an entry whose Sent record is at a position.
    fn begin<F: Flaws>(entries: Entries, position: Position, log: &Log<F>) -> Self {
        let origin = match log.options().is_recovered {
            true => Origin::Sent { first: position, last: position },
            false => Origin::Nowhere,
        };
        Self { entries, gone: 0, most: block_entries_max(log), origin }
    }

    /// Takes the place of one more entry, whose Sent record is at a position. `false`: it belongs into
    /// another block.
    #[inline]
    fn extend<F: Flaws>(&mut self, position: Position, log: &Log<F>) -> bool {
        let is_full = self.entries.len() >= self.most;
        match &mut self.origin {
            Origin::Sent { first, last } if !is_full && log.is_same_segment(*first, position) => {
                *last = position;
                true
            }
            Origin::Nowhere => !is_full,
            _ => false,
        }
    }
}

/// All entries of a shard.
#[derive(Debug)]
pub(super) struct Deduplication {
    blocks: VecDeque<Block>,
    next_block: Next<Vec<Own>>,
    /// The number of the first block, which goes round.
    first: u32,
    index: Index,
    count: u64,
}

impl Deduplication {
    pub fn new() -> Self {
        Self { blocks: VecDeque::new(), next_block: Next::default(), first: 0, index: Index::new(), count: 0 }
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

    /// What is needed soon, and nobody makes yet.
    #[inline]
    pub fn wants_chunk(&mut self) -> Option<WantedChunk> {
        let block = self.blocks.back()?;
        if block.entries.len() > block.most / 2 && self.next_block.ask() {
            return Some(WantedChunk::Entries);
        }
        self.index.wants_chunk().then_some(WantedChunk::Buckets)
    }

    /// Room for a block that was wanted is there.
    pub fn block_made(&mut self, entries: Vec<Own>) {
        self.next_block.came(entries);
    }

    /// A chunk of the index that was wanted is there.
    pub fn buckets_made(&mut self, buckets: BucketChunk) {
        self.index.chunk_made(buckets);
    }

    /// A key is going to be looked for soon.
    #[inline]
    pub fn expect(&self, key: Key) {
        self.index.prefetch(key);
    }

    /// The place of the last entry under a key.
    #[inline]
    pub fn find(&self, key: Key) -> Option<u32> {
        self.index.find(key, |place| key_at(&self.blocks, self.first, place))
    }

    /// The entry at a place.
    pub fn get(&self, place: u32, identity: &Identity) -> Entry {
        let (number, offset) = split(self.first, place);
        self.blocks[number].entries.get(offset, identity)
    }

    /// All entries, in their order.
    pub fn entries<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = Entry> {
        self.blocks.iter().flat_map(move |block| living(block, identity))
    }

    /// When the first entry is to be taken away.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let block = self.blocks.front()?;
        let sent_at_ms = match &block.entries {
            Entries::Own { sent_at_ms, entries, .. } => {
                sent_at_ms + u64::from(entries[block.gone].sent_after_ms)
            }
            Entries::Read(entries) => entries[block.gone].sent_at_ms,
        };
        Some(sent_at_ms + WINDOW_MS + LATE_MS)
    }

    /// Adds an entry of this start, whose Sent record is at a position. `before` is the place that was found
    /// under its key.
    #[inline]
    pub fn push<F: Flaws>(
        &mut self,
        (key, before): (Key, Option<u32>),
        (sequence, sent_at_ms): (u64, u64),
        position: Position,
        log: &mut Log<F>,
    ) {
        if let Some(before) = before {
            // That one's window has ended, or a purge has made it void.
            self.index.remove(key, before);
        }
        if let Some(block) = self.blocks.back_mut()
            && let Entries::Own { sequence: first_sequence, sent_at_ms: first_ms, .. } = block.entries
            && let Some(sequence_after) = difference(sequence, first_sequence)
            && let Some(sent_after_ms) = difference(sent_at_ms, first_ms)
            && block.extend(position, log)
            && let Entries::Own { entries, .. } = &mut block.entries
        {
            entries.push(Own { key, sequence_after, sent_after_ms });
        } else {
            let mut entries =
                self.next_block.take().unwrap_or_else(|| Vec::with_capacity(block_entries_max(log)));
            entries.push(Own { key, sequence_after: 0, sent_after_ms: 0 });
            let entries = Entries::Own { sequence, sent_at_ms, entries };
            self.blocks.push_back(Block::begin(entries, position, log));
        }
        self.note_last(key);
        if log.options().is_recovered {
            log.charge(position, ENTRY_BYTES as u64);
        }
    }

    /// Recovery: adds an entry whose Sent record is at a position.
    fn push_read<F: Flaws>(&mut self, entry: Entry, position: Position, log: &mut Log<F>) {
        self.forget_key(entry.key);
        if let Some(block) = self.blocks.back_mut()
            && matches!(block.entries, Entries::Read(_))
            && block.extend(position, log)
            && let Entries::Read(entries) = &mut block.entries
        {
            entries.push(entry);
        } else {
            self.blocks.push_back(Block::begin(Entries::Read(vec![entry]), position, log));
        }
        self.note_last(entry.key);
        log.charge(position, ENTRY_BYTES as u64);
    }

    /// Recovery: adds a block that was read from a record of its own. Its length in the log is live from
    /// now on.
    fn push_block<F: Flaws>(&mut self, entries: &[Entry], record: (Position, u32), log: &mut Log<F>) {
        let origin = Origin::Record { position: record.0, length: record.1 };
        let read = Vec::with_capacity(entries.len());
        self.blocks.push_back(Block { entries: Entries::Read(read), gone: 0, most: entries.len(), origin });
        log.live(record.0, record.1);
        for &entry in entries {
            self.forget_key(entry.key);
            if let Some(Block { entries: Entries::Read(read), .. }) = self.blocks.back_mut() {
                read.push(entry);
            }
            self.note_last(entry.key);
        }
    }

    /// An entry under this key is not the last one any more.
    fn forget_key(&mut self, key: Key) {
        if let Some(place) = self.find(key) {
            self.index.remove(key, place);
        }
    }

    /// Counts the last entry of the last block, and leads its key to it.
    #[inline]
    fn note_last(&mut self, key: Key) {
        let number = self.first.wrapping_add(self.blocks.len() as u32 - 1) & BLOCK_MASK;
        let length = self.blocks.back().map_or(0, |block| block.entries.len());
        let place = (number << OFFSET_BITS) | (length - 1) as u32;
        self.count += 1;
        let (blocks, first) = (&self.blocks, self.first);
        self.index.insert(key, place, |place| key_at(blocks, first, place));
    }

    /// Takes entries away whose window has ended, one a step. Says how many steps are left.
    pub fn forget<F: Flaws>(&mut self, now_ms: u64, mut steps: u32, log: &mut Log<F>) -> u32 {
        while steps > 0
            && let Some(block) = self.blocks.front_mut()
        {
            let most = block.entries.len().min(block.gone + RUN_ENTRIES_MAX.min(steps as usize));
            let run = block.gone
                ..(block.gone..most).find(|&offset| !block.entries.is_over(offset, now_ms)).unwrap_or(most);
            if run.is_empty() {
                break;
            }
            run.clone().for_each(|offset| self.index.prefetch(*block.entries.key(offset)));
            for offset in run.clone() {
                self.index.remove(*block.entries.key(offset), (self.first << OFFSET_BITS) | offset as u32);
            }
            steps -= run.len() as u32;
            self.count -= run.len() as u64;
            block.gone = run.end;
            let is_empty = block.gone == block.entries.len();
            match block.origin {
                Origin::Sent { first, .. } => log.discharge(first, (run.len() * ENTRY_BYTES) as u64),
                Origin::Record { position, length } if is_empty && length > 0 => {
                    log.release(position, length);
                }
                Origin::Record { .. } | Origin::Nowhere => {}
            }
            if is_empty {
                self.blocks.pop_front();
                self.first = self.first.wrapping_add(1) & BLOCK_MASK;
            }
        }
        steps
    }

    /// Writes blocks again at the tail that can be read only at these positions.
    pub fn carry<F: Flaws>(
        &mut self,
        now_ms: u64,
        old: &Range<Position>,
        identity: &Identity,
        log: &mut Log<F>,
    ) {
        for block in &mut self.blocks {
            let is_old = match block.origin {
                Origin::Sent { first, last } => first < old.end && last >= old.start,
                Origin::Record { position, .. } => old.contains(&position),
                Origin::Nowhere => false,
            };
            if !is_old {
                continue;
            }
            let bytes = (block.entries.len() - block.gone) * ENTRY_BYTES;
            let record = if F::has(Flaw::ForgetDuplicatesInCleaning) {
                (Position(u64::MAX), 0)
            } else {
                let fixed_bytes = DEDUPLICATION_BYTES;
                let record = append(log, now_ms, Kind::Deduplication, fixed_bytes, bytes, true, |out| {
                    write_entries(living(block, identity), out);
                });
                log.live(record.0, record.1);
                record
            };
            match block.origin {
                Origin::Sent { first, .. } => log.discharge(first, bytes as u64),
                Origin::Record { position, length } => log.release(position, length),
                Origin::Nowhere => {}
            }
            block.origin = Origin::Record { position: record.0, length: record.1 };
        }
    }
}

/// A block's entries that have not gone.
fn living<'a>(block: &'a Block, identity: &'a Identity) -> impl ExactSizeIterator<Item = Entry> {
    (block.gone..block.entries.len()).map(move |offset| block.entries.get(offset, identity))
}

/// Which block from the first on a place is in, and where in it.
#[inline]
fn split(first: u32, place: u32) -> (usize, usize) {
    let number = (place >> OFFSET_BITS).wrapping_sub(first) & BLOCK_MASK;
    (number as usize, place as usize & (BLOCK_ENTRIES_MAX - 1))
}

#[inline]
fn key_at(blocks: &VecDeque<Block>, first: u32, place: u32) -> &Key {
    let (number, offset) = split(first, place);
    blocks[number].entries.key(offset)
}

/// How far a number is behind another one, if it can be said in so many bits.
#[inline]
fn difference(number: u64, from: u64) -> Option<u32> {
    number.checked_sub(from).and_then(|difference| u32::try_from(difference).ok())
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
                self.deduplication.push_read(entry, position, log);
            } else {
                block.clear();
                block.extend(stretch.iter().map(|&(entry, ..)| entry));
                self.deduplication.push_block(&block, (position, length), log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flaws::Sound;
    use crate::journal::{Durability, LogOptions};

    fn log(is_recovered: bool) -> Log<Sound> {
        Log::in_memory(LogOptions {
            segment_bytes: 64 << 10,
            is_recovered,
            ..LogOptions::new(Durability::Memory, [1; 16], 0)
        })
    }

    fn key(number: u64) -> Key {
        Key([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number.rotate_right(12)])
    }

    /// The entry is known that was made for a number, under the key of that or of another one.
    fn is_known(table: &Deduplication, number: u64, made: (u64, u64)) -> bool {
        let identity = Identity::new();
        table.find(key(number)).is_some_and(|place| {
            let id = identity.message_id(made.0);
            let expected = Entry { key: key(number), sequence: made.0, sent_at_ms: made.1, id };
            table.get(place, &identity) == expected
        })
    }

    #[test]
    fn entries_are_found_until_their_window_ends_and_again_when_their_key_comes_again() {
        for is_recovered in [true, false] {
            let (mut log, mut table) = (log(is_recovered), Deduplication::new());
            let (start, _) = append(&mut log, 1, Kind::Sent, 8, 0, true, |out| out.fill(0));
            for number in 1..=10_000 {
                table.push((key(number), None), (number, number * 10), start, &mut log);
            }
            let charged = if is_recovered { 10_000 * ENTRY_BYTES as u64 } else { 0 };
            assert_eq!(log.live_bytes(), charged);
            assert!((1..=10_000).all(|number| is_known(&table, number, (number, number * 10))));
            table.push((key(7), table.find(key(7))), (20_000, 100_000), start, &mut log);
            assert!(is_known(&table, 7, (20_000, 100_000)));
            let steps = table.forget(WINDOW_MS + 99_990, 1_000_000, &mut log);
            assert_eq!((steps, table.count()), (1_000_000 - 9_999, 2));
            assert!(table.find(key(8)).is_none() && is_known(&table, 7, (20_000, 100_000)));
            assert_eq!(table.forget(u64::MAX, 1, &mut log), 0);
            table.forget(u64::MAX, 10, &mut log);
            assert_eq!((table.count(), log.live_bytes(), table.next_deadline_ms()), (0, 0, None));
        }
    }

    #[test]
    fn sequences_and_times_far_apart_stand_in_blocks_of_their_own() {
        let (mut log, mut table) = (log(false), Deduplication::new());
        let (start, _) = append(&mut log, 1, Kind::Sent, 8, 0, true, |out| out.fill(0));
        let made = [(1, 1), (2, 1), (1 << 40, 5), ((1 << 40) + 1, 1 << 33), (1 << 41, (1 << 33) + 1)];
        for (number, &made) in made.iter().enumerate() {
            table.push((key(number as u64), None), made, start, &mut log);
        }
        assert_eq!(table.blocks.len(), 4);
        assert!(made.iter().enumerate().all(|(number, &made)| is_known(&table, number as u64, made)));
        table.forget(u64::MAX, 10, &mut log);
        assert_eq!(table.count(), 0);
    }
}
