//! The catalog on several shards: shard 0 judges and journals, the others follow, and at the start all
//! come to what shard 0 has before anybody is served (rule 20). A purge is a step on one shard too, so that the
//! minute before the next one begins once it is durable.

use super::Core;
use crate::engine::{Change, Command, Planned, Reply, ReplyBody, Ticket};
use crate::exchange::leases::home_of;
use crate::exchange::parcel::{CatalogEntry, Item};
use crate::flaws::{Flaw, Flaws};

/// Queues that shard 0 names in a turn at the start.
const NAMED_A_TURN: usize = 256;

/// The number of a change that is not a step but part of the catalog at the start.
const NO_STEP: u64 = 0;

impl<F: Flaws> Core<F> {
    /// Does what a request about the catalog says, on shard 0.
    pub(super) fn apply_to_catalog(&mut self, ticket: Ticket, command: Command<'_>) {
        let is_step = !self.exchange.is_alone() || matches!(command, Command::Purge { .. });
        if self.exchange.me != 0 || !is_step {
            return self.apply(ticket, command);
        }
        match command {
            Command::CreateQueue { .. }
            | Command::DeleteQueue { .. }
            | Command::SetAttributes { .. }
            | Command::TagQueue { .. }
            | Command::UntagQueue { .. }
            | Command::AddPermission { .. }
            | Command::RemovePermission { .. }
            | Command::StartMoveTask { .. }
            | Command::CancelMoveTask { .. }
            | Command::Purge { .. } => self.begin_step(ticket, command),
            _ => {
                self.engine.apply(self.clock.now_ms(), ticket, command, &mut self.log, &mut self.outputs);
                let replies = &mut self.outputs.replies;
                let place = replies.iter().position(|reply| reply.ticket == ticket && !reply.ends_wait);
                let reply = place.map(|place| replies.remove(place));
                self.write_replies();
                if let Some(reply) = reply {
                    self.hold_behind_steps(reply);
                }
            }
        }
    }

    fn begin_step(&mut self, ticket: Ticket, command: Command<'_>) {
        let now_ms = self.now_ms();
        if let Command::Purge { queue } = command
            && self.exchange.steps.purges(queue)
        {
            // The one before is not everywhere, however long that has taken.
            self.engine.purge_is_everywhere(queue, now_ms);
        }
        let planned = self.engine.plan(now_ms, command, &self.log);
        let depends_on = self.log.end();
        let reply = |body| Reply { ticket, depends_on, stale_after_ms: u64::MAX, ends_wait: false, body };
        match planned {
            Err(refusal) => self.hold_behind_steps(reply(ReplyBody::Refused(refusal))),
            Ok(Planned::Answer(body)) => self.hold_behind_steps(reply(body)),
            Ok(Planned::Change(change, body)) => {
                self.engine.apply_change(now_ms, &change, &mut self.log, &mut self.outputs);
                self.forget_what_is_gone(&change);
                let position = self.log.end();
                let reply = Reply { depends_on: position, ..reply(body) };
                self.log.hasten_sync(position);
                let siblings = self.exchange.shards - 1;
                self.owes_later(ticket);
                self.exchange.steps.begin(change, position, reply, siblings);
                self.write_replies();
                // Without a disk nothing else may bring the turn in which it is answered.
                self.engine_has_more = true;
            }
        }
    }

    /// What is said of the catalog waits for the changes that are not everywhere yet.
    fn hold_behind_steps(&mut self, reply: Reply) {
        if self.exchange.steps.is_empty() {
            self.outputs.replies.push(reply);
            return self.write_replies();
        }
        self.owes_later(reply.ticket);
        self.exchange.steps.hold(reply);
    }

    /// Tells of changes that are durable, applies those told, and answers what is done.
    pub(super) fn drive_catalog(&mut self) {
        let committed = self.log.committed();
        self.tell_steps();
        self.follow();
        // Shard 0 knows what became of a task here before it hears that the change is.
        self.tell_of_tasks();
        self.say_what_is_durable();
        while let Some(number) = self.exchange.followed.next_durable(committed) {
            self.exchange.outbox.push(0, Item::CatalogApplied(number));
        }
        self.answer_steps();
        if !self.exchange.start.is_over {
            self.go_on_with_start();
        }
    }

    /// The same on one shard.
    pub(super) fn drive_steps(&mut self) {
        self.tell_steps();
        self.answer_steps();
    }

    fn tell_steps(&mut self) {
        // Not before a power cut leaves it here: else the others would know what this shard has forgotten.
        let is_early = self.exchange.is_alone() || F::has(Flaw::TellCatalogBeforeItIsDurable);
        let durable = if is_early { self.log.committed() } else { self.log.durable() };
        while let Some((number, change)) = self.exchange.steps.next_to_tell(durable) {
            let me = self.exchange.me;
            let step = || Item::CatalogStep { number, change: change.clone() };
            self.exchange.outbox.push_to_all(me, step);
        }
    }

    fn answer_steps(&mut self) {
        let mut done = false;
        while let Some((mut reply, change)) = self.exchange.steps.next_done() {
            match (change, &mut reply.body) {
                (Some(Change::CancelTask { queue, id }), ReplyBody::MoveTaskCancelled { moved }) => {
                    *moved = self.engine.moved_by_task(queue, id);
                }
                (Some(Change::Purge { queue, .. }), _) => {
                    self.engine.purge_is_everywhere(queue, self.clock.now_ms());
                }
                _ => {}
            }
            self.owed_comes(reply.ticket);
            self.outputs.replies.push(reply);
            done = true;
        }
        if done {
            self.write_replies();
        }
    }

    fn forget_what_is_gone(&mut self, change: &Change) {
        if let Change::Delete { queue, .. } = change {
            self.exchange.queue_is_gone(*queue);
        }
    }

    /// Applies changes in their order, as far as they can be.
    fn follow(&mut self) {
        while self.exchange.followed.first().is_some_and(|change| self.engine.can_apply(change)) {
            let Some((number, change)) = self.exchange.followed.take_first() else { return };
            let followed_ms =
                self.engine.follow(self.clock.now_ms(), &change, &mut self.log, &mut self.outputs);
            self.clock.catch_up(followed_ms, self.clocks);
            self.forget_what_is_gone(&change);
            self.write_replies();
            if number != NO_STEP {
                self.exchange.followed.applied(number, self.log.end());
            }
        }
    }
}

/// The start.
impl<F: Flaws> Core<F> {
    /// Shard 0 says what queues it has.
    pub(super) fn hears_catalog(&mut self, entries: Vec<CatalogEntry>) {
        for CatalogEntry { define, purged_at_ms } in entries {
            let Change::Define(definition) = &define else {
                // A move task, whose beginning or end may have been cut short here.
                self.exchange.start.changes.push(define);
                continue;
            };
            let queue = definition.number();
            let (is_same, purged_here_ms) = self.engine.knows(&define);
            self.exchange.start.named.push(queue);
            if !is_same {
                self.exchange.start.changes.push(define);
            }
            if purged_here_ms < purged_at_ms && !F::has(Flaw::ForgetPurgesCutShort) {
                self.exchange.start.changes.push(Change::Purge { queue, time_ms: purged_at_ms });
            }
        }
    }

    /// Shard 0 has named all: what is not among them is gone.
    pub(super) fn heard_catalog(&mut self) {
        let mut named = std::mem::take(&mut self.exchange.start.named);
        named.sort_unstable();
        let time_ms = self.now_ms();
        for queue in self.engine.queue_numbers() {
            if named.binary_search(&queue).is_err() {
                self.exchange.followed.told(NO_STEP, Change::Delete { queue, time_ms });
            }
        }
        // Only now, as a new queue may have the name or the place of one that is gone.
        for change in std::mem::take(&mut self.exchange.start.changes) {
            self.exchange.followed.told(NO_STEP, change);
        }
        self.exchange.start.has_heard = true;
        self.follow();
    }

    fn go_on_with_start(&mut self) {
        self.tell_catalog();
        let start = &mut self.exchange.start;
        if start.has_heard && start.caught_up.is_none() && self.exchange.followed.first().is_none() {
            start.caught_up = Some(self.log.end());
            self.engine.has_caught_up();
        }
        let is_durable = start.caught_up.is_some_and(|position| self.log.committed() >= position);
        if is_durable && !start.said_ready {
            start.said_ready = true;
            self.say_ready();
        }
        let start = &mut self.exchange.start;
        start.is_over = start.said_ready && start.ready.iter().all(|is_ready| *is_ready);
        if start.is_over {
            self.serve_waiting_siblings();
        }
    }

    /// Says what is in flight here to the homes of the limits, and that this shard can serve.
    fn say_ready(&mut self) {
        self.tell_of_all_tasks();
        for (queue, amount) in self.engine.settle_leases() {
            let home = home_of(queue, self.exchange.shards);
            self.exchange.outbox.push(home, Item::LeaseHeld { queue, amount });
        }
        let (me, time_ms) = (self.exchange.me, self.now_ms());
        self.exchange.outbox.push_to_all(me, || Item::Ready { time_ms });
    }

    fn tell_catalog(&mut self) {
        let Some(from) = self.exchange.start.telling_from else { return };
        let me = self.exchange.me;
        let (found, next) = self.engine.definitions(from, NAMED_A_TURN);
        self.exchange.outbox.push_to_all(me, || {
            let entry = |(define, purged_at_ms): &(Change, u64)| CatalogEntry {
                define: define.clone(),
                purged_at_ms: *purged_at_ms,
            };
            Item::CatalogState(found.iter().map(entry).collect())
        });
        self.exchange.start.telling_from = next;
        self.engine_has_more = true;
        if next.is_none() {
            self.exchange.outbox.push_to_all(me, || Item::CatalogStateEnds);
            self.exchange.start.has_heard = true;
        }
    }
}
