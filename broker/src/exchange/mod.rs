//! All that shards say to each other: requests that another shard serves, receives that wait on all of
//! them, changes of the catalog, parts of limits.
//!
//! A sibling is a connection whose bytes travel in parcels: a client's request that another shard is to
//! serve goes there as it came, is served on the ordinary path under a connection that stands for the
//! client's, is held there until its reply is durable (rule 1), and the reply's bytes come back. Here is
//! the state that this takes, without sockets, rings, threads or a clock, so that the simulator runs
//! the same (rule 29); [`crate::shard`] connects it to requests and replies. Everything belongs to one
//! shard.

mod ages;
mod hunger;
pub mod leases;
pub mod link;
mod looks;
pub mod mesh;
pub(crate) mod moves;
mod outbox;
pub mod parcel;
mod pending;
mod shares;
mod steps;

use std::collections::{BTreeMap, VecDeque};

use crate::shard::driver::ConnectionId;

pub(crate) use ages::Ages;
pub(crate) use hunger::Hunger;
pub(crate) use leases::Leases;
pub(crate) use looks::Looks;
pub(crate) use moves::Moves;
pub(crate) use outbox::Outbox;
#[cfg(test)]
pub(crate) use outbox::REQUEST_BYTES_OUT_MAX;
use parcel::{Asker, Request};
pub(crate) use pending::{Batch, Combine, EntryOutcome, FirstTry, Pending, PendingTable, Search, Sum};
pub(crate) use shares::Shares;
pub(crate) use steps::{FollowedSteps, Steps};

/// One shard's end of everything between shards.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) me: u16,
    pub(crate) shards: u16,
    pub(crate) outbox: Outbox,
    /// Requests of siblings that wait for the log to keep up, or for the start to be over.
    pub(crate) waiting: VecDeque<(u16, Box<Request>)>,
    /// Which connection here stands for whom there.
    pub(crate) connections: BTreeMap<(u16, Asker), ConnectionId>,
    pub(crate) pending: PendingTable,
    pub(crate) hunger: Hunger,
    pub(crate) ages: Ages,
    pub(crate) leases: Leases,
    pub(crate) steps: Steps,
    pub(crate) followed: FollowedSteps,
    pub(crate) moves: Moves,
    pub(crate) looks: Looks,
    pub(crate) shares: Shares,
    pub(crate) start: Start,
    /// Siblings that have stopped and ask for nothing any more.
    pub(crate) drained: Vec<bool>,
    /// Whether they know that of this one.
    pub(crate) said_drained: bool,
    /// The sibling that the last receive asked first.
    pub(crate) next_sibling: u16,
    /// The shard that the next connection goes to which wishes for none.
    pub(crate) next_home: u16,
}

/// How far the start is.
#[derive(Debug)]
pub(crate) struct Start {
    /// Shard 0: how much of the catalog the siblings were told; `None`: everything.
    pub(crate) telling_from: Option<u32>,
    /// The others: queues that shard 0 has named, what is to be changed here, and whether that is all.
    pub(crate) named: Vec<u64>,
    pub(crate) changes: Vec<crate::engine::Change>,
    pub(crate) has_heard: bool,
    /// The catalog is as shard 0 has it, once this is durable.
    pub(crate) caught_up: Option<crate::journal::Position>,
    pub(crate) said_ready: bool,
    /// Siblings that can serve.
    pub(crate) ready: Vec<bool>,
    pub(crate) is_over: bool,
}

impl Exchange {
    pub(crate) fn new(me: u16, shards: u16, requests_out_max: u32) -> Self {
        let each = usize::from(shards);
        Self {
            me,
            shards,
            outbox: Outbox::new(shards, requests_out_max),
            waiting: VecDeque::new(),
            connections: BTreeMap::new(),
            pending: PendingTable::default(),
            hunger: Hunger::default(),
            ages: Ages::default(),
            leases: Leases::default(),
            steps: Steps::default(),
            followed: FollowedSteps::default(),
            moves: Moves::default(),
            looks: Looks::default(),
            shares: Shares::default(),
            start: Start {
                telling_from: (me == 0).then_some(0),
                named: Vec::new(),
                changes: Vec::new(),
                has_heard: false,
                caught_up: None,
                said_ready: false,
                ready: (0..shards).map(|shard| shard == me).collect(),
                is_over: shards == 1,
            },
            drained: (0..each).map(|shard| shard == usize::from(me)).collect(),
            said_drained: false,
            next_sibling: me,
            next_home: me,
        }
    }

    /// Whether a request that was not taken for want of this shard's answers can be taken now.
    pub(crate) fn has_credit_of(&self, shard: u16) -> bool {
        if shard == self.me { !self.is_full() } else { self.outbox.has_credit(shard) }
    }

    /// Whether shard 0 has as much under way as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.steps.is_full() || self.looks.is_full()
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.shards == 1
    }

    /// Whether clients of this shard may still be answered what others have been asked.
    pub(crate) fn owes_clients(&self) -> bool {
        !self.outbox.nothing_out() || !self.steps.is_empty() || !self.looks.is_empty()
    }

    /// Says once that this shard asks for nothing any more, where it `is_done`; gives whether none does.
    pub(crate) fn are_drained(&mut self, is_done: bool) -> bool {
        if is_done && self.outbox.nothing_out() && !self.said_drained {
            self.said_drained = true;
            self.outbox.push_to_all(self.me, || parcel::Item::Drained);
        }
        self.said_drained && self.drained.iter().all(|drained| *drained)
    }

    /// A queue is deleted: who waits for it, and how old its messages are, need not be known any more.
    pub(crate) fn queue_is_gone(&mut self, queue: u64) {
        self.hunger.queue_is_gone(queue);
        self.ages.queue_is_gone(queue);
    }

    /// The queues of which something is remembered for as long as they are there.
    pub(crate) fn remembered_queues(&self) -> impl Iterator<Item = u64> {
        self.hunger.queues().chain(self.ages.queues())
    }

    /// The sibling behind this one in the round.
    pub(crate) fn after(&self, shard: u16) -> u16 {
        if self.is_alone() {
            return self.me;
        }
        let next = (shard + 1) % self.shards;
        if next == self.me { (next + 1) % self.shards } else { next }
    }

    /// The shard for a connection that wishes for none: one after the other, this one included.
    pub(crate) fn next_home(&mut self) -> u16 {
        let home = self.next_home;
        self.next_home = (home + 1) % self.shards;
        home
    }

    /// The sibling to ask first: each time another.
    pub(crate) fn first_sibling(&mut self) -> u16 {
        self.next_sibling = self.after(self.next_sibling);
        self.next_sibling
    }

    /// When something of it is due by itself.
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        let ages_ms = self.ages.next_deadline_ms().unwrap_or(u64::MAX);
        let shares_ms = self.shares.next_deadline_ms().unwrap_or(u64::MAX);
        ages_ms.min(shares_ms).min(self.leases.next_deadline_ms().unwrap_or(u64::MAX))
    }
}
