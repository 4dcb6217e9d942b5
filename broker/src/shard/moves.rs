//! Moves between shards (rule 22), and move tasks that all of them run.

use super::Core;
use crate::engine::{Command, MoveAnswer, Moving, TaskShare, Ticket};
use crate::exchange::moves::TAKEN_A_TURN;
use crate::exchange::parcel::Item;
use crate::flaws::{Flaw, Flaws};
use crate::journal::Position;

/// Shares of tasks in one item.
const SHARES_AN_ITEM: usize = 256;

impl<F: Flaws> Core<F> {
    /// Takes messages that have come, says what is durable, and gives messages that are to go.
    pub(super) fn drive_moves(&mut self) {
        self.take_moves();
        self.tell_of_tasks();
        self.say_what_is_durable();
        if self.exchange.start.is_over && self.drain.is_none() && self.engine.has_moves_wanted() {
            self.give_moves();
        }
    }

    pub(super) fn say_what_is_durable(&mut self) {
        let durable = self.log.durable();
        while let Some((to, item)) = self.exchange.moves.next_to_say(durable) {
            self.exchange.outbox.push(to, item);
        }
    }

    fn take_moves(&mut self) {
        for _ in 0..TAKEN_A_TURN {
            if !self.exchange.moves.has_arrived() || self.log.is_backlogged() {
                return;
            }
            let Some((from, moving)) = self.exchange.moves.next_arrived() else { return };
            self.take_move(from, &moving);
        }
        self.engine_has_more |= self.exchange.moves.has_arrived();
    }

    fn take_move(&mut self, from: u16, moving: &Moving) {
        let now_ms = self.clock.now_ms();
        let (answer, position) = self.engine.moved_in(now_ms, from, moving, &mut self.log, &mut self.outputs);
        self.write_replies();
        let position =
            if F::has(Flaw::AnswerMovesBeforeTheyAreDurable) { Position::default() } else { position };
        self.exchange.moves.say(position, from, Item::MoveAnswered { number: moving.number, answer });
    }

    fn give_moves(&mut self) {
        let mut wanted = Vec::new();
        let (now_ms, moves) = (self.clock.now_ms(), &self.exchange.moves);
        let has_more = self.engine.moves_wanted(now_ms, |to| moves.has_room(to), &mut self.log, &mut wanted);
        self.engine_has_more |= has_more;
        for (to, moving) in wanted {
            self.exchange.moves.gives(to, &moving);
            self.exchange.outbox.push(to, Item::Move(Box::new(moving)));
        }
    }

    /// A sibling has taken a message, durably, or has not.
    pub(super) fn move_answered(&mut self, from: u16, number: u64, answer: MoveAnswer) {
        self.exchange.moves.answered(from, number);
        let now_ms = self.clock.now_ms();
        self.engine.moved_out(now_ms, number, answer, &mut self.log, &mut self.outputs);
        self.write_replies();
        self.engine_has_more = true;
    }
}

/// Move tasks.
impl<F: Flaws> Core<F> {
    /// Tells the siblings of shares that have begun or ended, once that is durable.
    pub(super) fn tell_of_tasks(&mut self) {
        if !self.exchange.start.said_ready {
            return;
        }
        let news = self.engine.take_task_news();
        let (me, shards) = (self.exchange.me, self.exchange.shards);
        for part in news.chunks(SHARES_AN_ITEM) {
            for to in (0..shards).filter(|&to| to != me) {
                self.exchange.moves.say(self.log.end(), to, Item::TaskShares(part.to_vec()));
            }
        }
    }

    /// At the start: tells them of all there are.
    pub(super) fn tell_of_all_tasks(&mut self) {
        let news = self.engine.take_task_news();
        for part in news.chunks(SHARES_AN_ITEM) {
            let me = self.exchange.me;
            self.exchange.outbox.push_to_all(me, || Item::TaskShares(part.to_vec()));
        }
    }

    pub(super) fn hears_task_shares(&mut self, from: u16, shares: &[TaskShare]) {
        self.engine.hears_task_shares(from, shares, &mut self.log);
        // A share that ended because of it is told of.
        self.engine_has_more = true;
    }

    /// Answers what tasks of a queue there are, once all siblings have said what they have done.
    pub(super) fn look_at_tasks(&mut self, ticket: Ticket, source: u64, count_max: u8) {
        if self.exchange.is_alone() || self.exchange.me != 0 {
            return self.apply(ticket, Command::ListMoveTasks { source, count_max });
        }
        let siblings = self.exchange.shards - 1;
        self.owes_later(ticket);
        let look = self.exchange.looks.begin(ticket, source, count_max, siblings);
        self.exchange.outbox.push_to_all(0, || Item::TaskLook { look, queue: source });
    }

    /// Shard 0 wants to know; it hears what is durable (rule 1).
    pub(super) fn show_tasks(&mut self, to: u16, look: u64, queue: u64) {
        let shares = self.engine.task_shares(queue);
        self.exchange.moves.say(self.log.end(), to, Item::TaskLooked { look, shares });
        self.engine_has_more = true;
    }

    pub(super) fn task_looked(&mut self, from: u16, look: u64, shares: &[TaskShare]) {
        self.hears_task_shares(from, shares);
        let Some(look) = self.exchange.looks.answered(look) else { return };
        self.owed_comes(look.ticket);
        let command = Command::ListMoveTasks { source: look.source, count_max: look.count_max };
        self.apply_to_catalog(look.ticket, command);
    }
}

/// Groups of fair queues (rule 26).
impl<F: Flaws> Core<F> {
    /// Exchanges what groups hold, where that is due.
    pub(super) fn share_groups(&mut self) {
        let grouped = self.engine.take_grouped();
        let Self { exchange, engine, clock, .. } = self;
        exchange.shares.has_groups(grouped);
        let now_ms = clock.now_ms();
        let round = exchange.shares.round(now_ms, |queue| engine.group_shares(now_ms, queue));
        for (queue, shares) in round.taken {
            engine.set_foreign_shares(queue, &shares);
        }
        if !round.said.is_empty() {
            exchange.outbox.push_to_all(exchange.me, || Item::GroupShares(round.said.clone()));
        }
    }
}
