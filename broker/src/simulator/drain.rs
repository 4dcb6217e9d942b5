//! What clients do once the world is calm: they take and delete everything, until every queue says
//! that it is empty.

use std::collections::BTreeMap;

use tenpin_protocol::{ReceiveRequest, StatsRequest};

use super::clients::{Asked, Client, Held};
use super::habits;
use super::plan::SECOND;
use super::world::World;

/// The longest that a calm world may take to become empty: every timeout, delay and change of
/// visibility that a plan can have, one after the other, and some.
const DRAIN_NS_MAX: u64 = 400 * SECOND;

/// How long a receive hides what a draining client deletes at once.
const VISIBILITY_SECONDS: u32 = 30;

/// How many handles of deleted messages a client keeps to try again.
const DELETED_MAX: usize = 32;

/// How far a client is with emptying the queues.
#[derive(Debug, Default)]
pub(super) struct Drain {
    turn: u64,
    /// Names of queues that are not there.
    missing: Vec<usize>,
    /// What queues counted when they were last asked.
    counts: BTreeMap<u64, u64>,
    damaged: BTreeMap<u64, u64>,
    to_delete: Vec<Held>,
}

impl Drain {
    /// A queue says how many messages it has.
    pub(super) fn counted(&mut self, queue: u64, count: u64) {
        self.counts.insert(queue, count);
    }

    /// A queue says how many messages are set aside.
    pub(super) fn counted_damaged(&mut self, queue: u64, count: u64) {
        self.damaged.insert(queue, count);
    }

    /// The broker is gone: everything is to be asked again.
    pub(super) fn forget(&mut self) {
        *self = Self { turn: self.turn, ..Self::default() };
    }

    /// There is no queue of a name.
    pub(super) fn missing(&mut self, name: usize) {
        self.missing.push(name);
    }
}

impl Client {
    /// Keeps a message that it received.
    pub(super) fn took(&mut self, held: Held) {
        if self.drain.turn > 0 { self.drain.to_delete.push(held) } else { self.held.push(held) }
    }

    /// Keeps handles of deleted messages, to try them again.
    pub(super) fn remember_deleted(&mut self, entries: &[Held]) {
        self.deleted.extend(entries.iter().cloned());
        while self.deleted.len() > DELETED_MAX {
            self.deleted.pop_front();
        }
    }
}

/// Does one thing.
pub(super) fn act(client: &mut Client, world: &mut World) {
    client.drain.turn += 1;
    if world.calm_for_ns() > DRAIN_NS_MAX {
        let counts = &client.drain.counts;
        return world
            .violation(format!("queues are not empty though nothing goes wrong any more: {counts:?}"));
    }
    if client.connection.as_ref().is_some_and(|connection| connection.pending.len() >= 2) {
        return;
    }
    if let Some(queue) = client.drain.to_delete.first().map(|held| held.queue) {
        let (mut chosen, mut rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut client.drain.to_delete).into_iter().partition(|held| held.queue == queue);
        rest.extend(chosen.split_off(chosen.len().min(10)));
        client.drain.to_delete = rest;
        return habits::delete(client, world, queue, chosen);
    }
    let name = (client.drain.turn / 4) as usize % client.plan.queues;
    if client.drain.missing.contains(&name) {
        return finish(client, world);
    }
    let Some(&queue) = client.numbers.get(&name) else { return habits::open_only(client, world, name) };
    match client.drain.turn % 4 {
        0 => habits::get_attributes(client, world, queue),
        1 => client.ask(world, StatsRequest { queue }.into(), Asked::Stats { queue }),
        2 => finish(client, world),
        _ => receive(client, world, queue),
    }
}

fn receive(client: &mut Client, world: &mut World, queue: u64) {
    let wait_ms = client.random.below(500) as u32;
    let request =
        ReceiveRequest { wait_ms, visibility_seconds: VISIBILITY_SECONDS, ..ReceiveRequest::new(queue, 10) };
    let visibility_seconds = Some(u64::from(VISIBILITY_SECONDS));
    let asked = Asked::Receive { queue, visibility_seconds, reply_bytes_max: u32::MAX, wait_ms };
    client.ask(world, request.into(), asked);
}

/// Ends the run if every queue is gone or has said that it is empty.
fn finish(client: &mut Client, world: &mut World) {
    let drain = &client.drain;
    let is_empty = |name: usize| {
        let number = client.numbers.get(&name);
        drain.missing.contains(&name)
            || number.is_some_and(|number| {
                drain.counts.get(number) == Some(&0) && drain.damaged.contains_key(number)
            })
    };
    if (0..client.plan.queues).all(is_empty) {
        let set_aside = drain.damaged.values().sum();
        world.drained(set_aside);
    }
}
