//! Who goes where: decided for all messages before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use crate::engine::export::{
    ExportedMessage, ExportedNumbers, ExportedPlace, ExportedQueue, ExportedTask, ExportedTombstone,
    home_of_fifo,
};
use crate::exit::{ExitReason, Failure};
use crate::folder::random_bytes;

/// Slots of a shard are numbered below this.
const SLOTS_MAX: u32 = 1 << 31;

/// What is to be written.
pub(super) struct Plan {
    pub(super) shards: u16,
    pub(super) now_ms: u64,
    /// The start that the new shards come out of: above all of the old ones.
    pub(super) numbers: ExportedNumbers,
    pub(super) epoch: [u8; 16],
    /// The catalog, with the new homes of FIFO queues.
    pub(super) queues: Vec<ExportedQueue>,
    pub(super) tombstones: Vec<ExportedTombstone>,
    /// What there is to be in the end, without what can only be known by reading contents.
    pub(super) expected: Tally,
    /// Each queue's way, by incarnation.
    ways: BTreeMap<u64, Way>,
    /// Old and new homes between which a FIFO queue moves, or stays.
    fifo_ways: BTreeSet<(u16, u16)>,
    /// For each old shard, what is gone of the queues there.
    marks: Vec<BTreeMap<u64, Marks>>,
    /// For each old shard and each slot there: the new place.
    places: Vec<Places>,
}

/// Where a queue's messages go.
struct Way {
    /// Of a FIFO queue: the old home and the new one.
    fifo: Option<(u16, u16)>,
    /// Old shards that had not heard of the queue's last purge: their messages are gone.
    purged_on: Vec<u16>,
}

/// What a shard says is gone of a queue.
#[derive(Debug, Clone, Copy)]
struct Marks {
    purged_at_ms: u64,
    purged_through: u64,
}

/// New places by old slots. A sequence of 0 is the old one.
#[derive(Default)]
struct Places {
    slots: Vec<u32>,
    sequences: Vec<u64>,
}

impl Plan {
    /// Decides where everything goes.
    pub(super) fn new(sources: &[Source], shards: u16, now_ms: u64) -> Result<Self, Failure> {
        let numbers = sources.iter().map(|source| source.engine.exported_numbers());
        let numbers = numbers.reduce(|one, other| ExportedNumbers {
            start_number: one.start_number.max(other.start_number),
            incarnation_next: one.incarnation_next.max(other.incarnation_next),
        });
        let numbers = numbers.expect("a folder has a shard");
        let numbers = ExportedNumbers { start_number: numbers.start_number + 1, ..numbers };
        let mut plan = Self {
            shards,
            now_ms,
            numbers,
            epoch: random_bytes()?,
            queues: sources[0].engine.exported_queues(),
            tombstones: sources[0].engine.exported_tombstones(),
            expected: Tally::default(),
            ways: BTreeMap::new(),
            fifo_ways: BTreeSet::new(),
            marks: sources.iter().map(marks_of).collect(),
            places: Vec::new(),
        };
        plan.find_ways();
        plan.place_all(sources)?;
        Ok(plan)
    }

    fn find_ways(&mut self) {
        let marks = &self.marks;
        for queue in &mut self.queues {
            let incarnation = queue.definition.incarnation;
            let is_behind = |shard: &u16| {
                let known = marks[usize::from(*shard)].get(&incarnation);
                known.is_some_and(|marks| marks.purged_at_ms < queue.purged_at_ms)
            };
            let purged_on = (0..marks.len() as u16).filter(is_behind).collect();
            let fifo = queue.definition.attributes.is_fifo().then(|| {
                let home = home_of_fifo(incarnation, self.shards);
                (std::mem::replace(&mut queue.definition.owner_shard, home), home)
            });
            self.fifo_ways.extend(fifo);
            self.ways.insert(incarnation, Way { fifo, purged_on });
        }
    }

    /// The new shard of a message on an old one; `None`: it is gone.
    pub(super) fn target(&self, shard: u16, incarnation: u64) -> Option<u16> {
        let way = self.ways.get(&incarnation)?;
        if way.purged_on.contains(&shard) {
            return None;
        }
        Some(way.fifo.map_or_else(|| self.home_of_standard(shard), |(_, home)| home))
    }

    fn home_of_standard(&self, shard: u16) -> u16 {
        if shard < self.shards { shard } else { shard % self.shards }
    }

    /// Whether anything of an old shard goes to a new one.
    pub(super) fn gives_to(&self, from: u16, to: u16) -> bool {
        self.home_of_standard(from) == to || self.moves_fifo(from, to)
    }

    /// Whether a FIFO queue has its old home here and its new one there.
    pub(super) fn moves_fifo(&self, from: u16, to: u16) -> bool {
        self.fifo_ways.contains(&(from, to))
    }

    /// A queue as a new shard has it. A FIFO queue keeps the mark of what was purged of it, as what it
    /// remembers of accepted messages is judged by that; of others, what is gone was left behind.
    pub(super) fn queue_on(&self, queue: &ExportedQueue, sources: &[Source]) -> ExportedQueue {
        let incarnation = queue.definition.incarnation;
        let way = self.ways.get(&incarnation);
        let purged_through = way.and_then(|way| way.fifo.map(|(old, _)| (old, way))).map(|(old, way)| {
            if way.purged_on.contains(&old) {
                sources[usize::from(old)].engine.exported_numbers().last_sequence()
            } else {
                self.marks[usize::from(old)].get(&incarnation).map_or(0, |marks| marks.purged_through)
            }
        });
        ExportedQueue { purged_through: purged_through.unwrap_or(0), ..queue.clone() }
    }

    /// The move tasks as a new shard has them: each with what is left of the shares of those shards whose
    /// messages have come here.
    pub(super) fn tasks_on(&self, shard: u16, sources: &[Source]) -> Vec<ExportedTask> {
        let mut tasks: BTreeMap<(u64, u64), ExportedTask> = BTreeMap::new();
        for source in sources {
            for task in source.engine.exported_tasks() {
                let Some(way) = self.ways.get(&task.key().0) else { continue };
                let home = way.fifo.map_or_else(|| self.home_of_standard(source.shard), |(_, home)| home);
                let mine = tasks.entry(task.key()).or_insert_with(|| task.without_a_share());
                if home == shard {
                    mine.add(&task);
                }
            }
        }
        tasks.into_values().collect()
    }

    /// The new place of a message: slot and sequence.
    pub(super) fn place(&self, shard: u16, message: &ExportedMessage<'_>) -> (u32, u64) {
        let (slot, sequence) = self.places[usize::from(shard)].of(message.slot);
        (slot, if sequence == 0 { message.sequence } else { sequence })
    }

    /// The new slot of an old one.
    pub(super) fn slot(&self, shard: u16, slot: u32) -> u32 {
        self.places[usize::from(shard)].of(slot).0
    }

    fn is_fifo(&self, incarnation: u64) -> bool {
        self.ways.get(&incarnation).is_some_and(|way| way.fifo.is_some())
    }

    /// Gives every message its place, and counts them.
    fn place_all(&mut self, sources: &[Source]) -> Result<(), Failure> {
        self.places = sources.iter().map(|_| Places::default()).collect();
        let mut next = Vec::new();
        for shard in 0..self.shards {
            let used = sources.get(usize::from(shard)).map_or(0, |source| source.engine.slots_used());
            next.push((used, 0));
            self.number_in_order(shard, sources, &mut next[usize::from(shard)].1);
        }
        for source in sources {
            for place in source.engine.exported_places() {
                self.place_one(source.shard, &place, &mut next)?;
            }
        }
        Ok(())
    }

    /// Where messages of several shards come together, those of standard queues that nobody has received
    /// get sequences in the order in which they were sent: a queue's oldest has to be its first.
    fn number_in_order(&mut self, shard: u16, sources: &[Source], counter: &mut u64) {
        let givers = sources.iter().filter(|source| self.home_of_standard(source.shard) == shard);
        if givers.clone().count() < 2 {
            return;
        }
        let mut all = Vec::new();
        for source in givers {
            let places = source.engine.exported_places();
            let fresh = places.filter(|place| !place.was_received && !self.is_fifo(place.incarnation));
            all.extend(fresh.map(|place| (place.sent_at_ms, place.sequence, source.shard, place.slot)));
        }
        all.sort_unstable();
        for (_, _, source, slot) in all {
            *counter += 1;
            self.places[usize::from(source)].set_sequence(slot, self.numbers.sequence(self.epoch, *counter));
        }
    }

    fn place_one(
        &mut self,
        shard: u16,
        place: &ExportedPlace,
        next: &mut [(u32, u64)],
    ) -> Result<(), Failure> {
        let Some(target) = self.target(shard, place.incarnation) else { return Ok(()) };
        self.expected.count(place.incarnation);
        if target == shard {
            return Ok(());
        }
        let (next_slot, counter) = &mut next[usize::from(target)];
        if *next_slot >= SLOTS_MAX {
            let text = format!("shard {target} would hold more messages than one can; use more shards");
            return Err(Failure::new(ExitReason::Configuration, text));
        }
        let is_fifo = self.is_fifo(place.incarnation);
        let places = &mut self.places[usize::from(shard)];
        places.set_slot(place.slot, *next_slot);
        *next_slot += 1;
        if !is_fifo && places.of(place.slot).1 == 0 {
            *counter += 1;
            places.set_sequence(place.slot, self.numbers.sequence(self.epoch, *counter));
        }
        Ok(())
    }
}

fn marks_of(source: &Source) -> BTreeMap<u64, Marks> {
    let queues = source.engine.exported_queues().into_iter();
    queues
        .map(|queue| {
            let ExportedQueue { purged_at_ms, purged_through, definition } = queue;
            (definition.incarnation, Marks { purged_at_ms, purged_through })
        })
        .collect()
}

impl Places {
    fn of(&self, slot: u32) -> (u32, u64) {
        let index = slot as usize;
        // What is not said stays as it is; slots are kept one higher, so that 0 is nothing said.
        let kept = self.slots.get(index).copied().unwrap_or(0);
        let slot = if kept == 0 { slot } else { kept - 1 };
        (slot, self.sequences.get(index).copied().unwrap_or(0))
    }

    fn set_slot(&mut self, slot: u32, new: u32) {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, 0);
        }
        self.slots[index] = new + 1;
    }

    fn set_sequence(&mut self, slot: u32, sequence: u64) {
        let index = slot as usize;
        if self.sequences.len() <= index {
            self.sequences.resize(index + 1, 0);
        }
        self.sequences[index] = sequence;
    }
}

/// Messages by queue: how many, and what they are in one sum that their places do not change.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    queues: BTreeMap<u64, Sum>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    count: u64,
    /// Bytes and fingerprints; zero where contents were not read.
    bytes: u64,
    fingerprints: u64,
}

/// What was not read is not compared.
impl PartialEq for Tally {
    fn eq(&self, other: &Self) -> bool {
        self.queues.len() == other.queues.len()
            && self.queues.iter().zip(&other.queues).all(|((queue, one), (other_queue, two))| {
                let is_read = one.fingerprints != 0 && two.fingerprints != 0;
                queue == other_queue && one.count == two.count && (!is_read || one == two)
            })
    }
}

impl Tally {
    fn count(&mut self, incarnation: u64) {
        self.queues.entry(incarnation).or_default().count += 1;
    }

    /// Counts a message that was read.
    pub(super) fn note(&mut self, message: &ExportedMessage<'_>) {
        let sum = self.queues.entry(message.incarnation).or_default();
        sum.count += 1;
        sum.bytes += message.content_bytes();
        sum.fingerprints = sum.fingerprints.wrapping_add(message.fingerprint());
    }

    /// Takes in those of another shard.
    pub(super) fn add(&mut self, other: &Self) {
        for (&incarnation, sum) in &other.queues {
            let mine = self.queues.entry(incarnation).or_default();
            mine.count += sum.count;
            mine.bytes += sum.bytes;
            mine.fingerprints = mine.fingerprints.wrapping_add(sum.fingerprints);
        }
    }

    /// Queue by queue: incarnation, count, bytes, fingerprints.
    pub(super) fn sums(&self) -> impl Iterator<Item = (u64, u64, u64, u64)> {
        self.queues.iter().map(|(&queue, sum)| (queue, sum.count, sum.bytes, sum.fingerprints))
    }

    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        self.queues.values().map(|sum| sum.count).sum()
    }
}
