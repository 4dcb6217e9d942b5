//! What clients do once the world is calm: they take and delete everything, until every queue says
//! that it is empty.

use std::collections::BTreeMap;

use tenpin_protocol::{ReceiveRequest, StatsRequest};

use super::checker::Window;
use super::clients::{Asked, Client, Held};
use super::habits;
use super::moving;
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
    counts: BTreeMap<u64, (u64, Window)>,
    /// When queues had no active task; they have none from then on.
    idle: BTreeMap<u64, Window>,
    damaged: BTreeMap<u64, u64>,
    to_delete: Vec<Held>,
}

impl Drain {
    /// A queue says how many messages it has.
    pub(super) fn counted(&mut self, queue: u64, count: u64, window: Window) {
        let before = self.counts.insert(queue, (count, window));
        if before.is_none_or(|(before, _)| before > 0) {
            // What was set aside has left the count, perhaps after it was last asked how much that is.
            self.damaged.remove(&queue);
        }
    }

    /// A queue says whether it has an active move task.
    pub(super) fn tasks_are_idle(&mut self, queue: u64, is_idle: bool, window: Window) {
        if is_idle {
            self.idle.entry(queue).or_insert(window);
        }
    }

    /// Whether a queue was empty when its count was last asked for, and nothing has come since: dead
    /// letters come from the queue before, and go back by tasks.
    fn is_empty(&self, numbers: &BTreeMap<usize, u64>, name: usize) -> bool {
        let of = |name: usize| numbers.get(&name).and_then(|number| self.counts.get(number));
        let Some((0, counted)) = of(name) else { return false };
        let Some(work) = moving::work_of(name).filter(|work| !self.missing.contains(work)) else {
            return true;
        };
        let (Some((_, before)), Some(number)) = (of(work), numbers.get(&name)) else { return false };
        self.idle
            .get(number)
            .is_some_and(|idle| idle.to_ns < before.from_ns && before.to_ns < counted.from_ns)
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

    /// Whether it asks for a queue's tasks this time.
    fn lists_tasks(&mut self, name: usize) -> bool {
        self.plan.moving.is_some() && moving::work_of(name).is_some() && self.random.chance(1, 2)
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
        1 if client.lists_tasks(name) => moving::list(client, world, queue),
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
                let is_empty = match world.checker.has_moves() {
                    true => drain.is_empty(&client.numbers, name),
                    false => drain.counts.get(number).is_some_and(|(count, _)| *count == 0),
                };
                is_empty && drain.damaged.contains_key(number)
            })
    };
    if (0..client.plan.queues).all(is_empty) {
        let set_aside = drain.damaged.values().sum();
        world.drained(set_aside);
    }
}
