//! What this shard has asked others, to go on with once the answer is there.

use std::collections::BTreeMap;

use crate::engine::Ticket;

/// A receive on a standard queue that goes from shard to shard.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// Whose receive it is.
    pub ticket: Ticket,
    /// The queue's number.
    pub queue: u64,
    /// As in the request.
    pub count_max: u8,
    /// As in the request.
    pub visibility_seconds: u32,
    /// How many bytes of entries the reply may have.
    pub reply_bytes_max: u32,
    /// Until when it waits for a message; 0: not at all.
    pub waits_until_ms: u64,
    /// Siblings that are still to be asked, one after the other; the next one.
    pub left: u16,
    /// See `left`.
    pub next: u16,
    /// Whether the local queue is still to be tried.
    pub local_is_left: bool,
    /// Whether any shard had messages that must not be in flight.
    pub over_limit: bool,
    /// Whether more of the limit was asked for already.
    pub lease_asked: bool,
}

/// A receive on a FIFO queue that lives on another shard, which is asked for it without a wait at first.
#[derive(Debug)]
pub struct FirstTry {
    /// Whose receive it is.
    pub ticket: Ticket,
    /// The queue's number.
    pub queue: u64,
    /// Until when it waits for a message; 0: not at all.
    pub waits_until_ms: u64,
    /// Its payload, as it came.
    pub payload: Vec<u8>,
}

/// What became of an entry of a batch: the number of its error, or 0, and what it says.
pub type EntryOutcome = (u16, Option<String>);

/// A batch of handles that several shards have parts of.
#[derive(Debug)]
pub struct Batch {
    /// Whose it is.
    pub ticket: Ticket,
    /// What became of each entry so far.
    pub outcomes: Vec<Option<EntryOutcome>>,
    /// Parts that are not answered.
    pub parts_left: u16,
}

/// Numbers of all shards that make one answer.
#[derive(Debug)]
pub struct Sum {
    /// Whose it is.
    pub ticket: Ticket,
    /// The answer of shard 0, which says all but the sums; or a refusal of any other's, without whose part
    /// there is no sum.
    pub first: Vec<u8>,
    /// Whether it is that.
    pub is_refused: bool,
    /// The sums by their numbers on the wire.
    pub sums: BTreeMap<u16, u64>,
    /// Shards that have not answered.
    pub parts_left: u16,
}

/// How a number of all shards comes from those of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// Each has a part of it.
    Add,
    /// It is the greatest of them.
    Greatest,
}

/// What an answer leads to.
#[derive(Debug)]
pub enum Pending {
    /// A receive goes on.
    Search(Box<Search>),
    /// A receive on a FIFO queue is answered, or waits there.
    FirstTry(Box<FirstTry>),
    /// A receive that waits is served, if the answer has something.
    Hinted {
        /// Whose receive it is.
        ticket: Ticket,
        /// The queue's number.
        queue: u64,
    },
    /// A part of a batch, and the places of its entries in the whole.
    BatchPart {
        /// Which batch.
        batch: u32,
        /// The places.
        places: Vec<u8>,
    },
    /// A part of a sum.
    SumPart {
        /// Which sum.
        sum: u32,
    },
    /// A page of a peek.
    Peek {
        /// Whose it is.
        ticket: Ticket,
        /// The shard that shows the page.
        shard: u16,
    },
}

/// Everything that waits for other shards' answers. Owned by one shard; each entry is an answer that
/// will come, which credits bound.
#[derive(Debug, Default)]
pub struct PendingTable {
    entries: BTreeMap<u32, Pending>,
    batches: BTreeMap<u32, Batch>,
    sums: BTreeMap<u32, Sum>,
    last_id: u32,
}

impl PendingTable {
    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            let is_used = self.entries.contains_key(&id)
                || self.batches.contains_key(&id)
                || self.sums.contains_key(&id);
            // No request has correlation id 0.
            if id != 0 && !is_used {
                return id;
            }
        }
    }

    /// Notes what an answer will lead to; gives the correlation id to ask with.
    pub fn insert(&mut self, pending: Pending) -> u32 {
        let id = self.next_id();
        self.entries.insert(id, pending);
        id
    }

    /// What the answer with this correlation id leads to.
    pub fn take(&mut self, id: u32) -> Option<Pending> {
        self.entries.remove(&id)
    }

    /// Begins a batch.
    pub fn begin_batch(&mut self, batch: Batch) -> u32 {
        let id = self.next_id();
        self.batches.insert(id, batch);
        id
    }

    /// Takes a part's outcomes; gives the batch back when it was the last.
    pub fn batch_part(&mut self, id: u32, places: &[u8], outcomes: Vec<EntryOutcome>) -> Option<Batch> {
        let batch = self.batches.get_mut(&id)?;
        for (place, outcome) in places.iter().zip(outcomes) {
            if let Some(entry) = batch.outcomes.get_mut(usize::from(*place)) {
                *entry = Some(outcome);
            }
        }
        batch.parts_left -= 1;
        if batch.parts_left > 0 {
            return None;
        }
        self.batches.remove(&id)
    }

    /// Begins a sum.
    pub fn begin_sum(&mut self, sum: Sum) -> u32 {
        let id = self.next_id();
        self.sums.insert(id, sum);
        id
    }

    /// Takes a shard's part of a sum; gives the sum back when it was the last.
    pub fn sum_part(
        &mut self,
        id: u32,
        first: Option<Vec<u8>>,
        is_refused: bool,
        parts: impl Iterator<Item = (u16, u64, Combine)>,
    ) -> Option<Sum> {
        let sum = self.sums.get_mut(&id)?;
        if let Some(first) = first.filter(|_| !sum.is_refused) {
            sum.first = first;
        }
        sum.is_refused |= is_refused;
        for (number, value, combine) in parts {
            let whole = sum.sums.entry(number).or_default();
            *whole = match combine {
                Combine::Add => *whole + value,
                Combine::Greatest => value.max(*whole),
            };
        }
        sum.parts_left -= 1;
        if sum.parts_left > 0 {
            return None;
        }
        self.sums.remove(&id)
    }
}
