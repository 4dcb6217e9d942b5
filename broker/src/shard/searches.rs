//! Receives on standard queues where there are several shards: from the local part first, then from
//! the others in turn; long polls wait on all at once (rules 23, 24 and 26).

use tenpin_protocol::{
    ErrorCode, ErrorFrame, Operation, QUEUE_DEFAULT, ReceiveReplyWriter, ReceiveRequest, finish_frame,
};

use super::connection::Stage;
use super::routes::{Taken, receive_payload};
use super::{Core, limits};
use crate::engine::{Command, ReplyBody, Ticket};
use crate::exchange::leases::{Leases, home_of};
use crate::exchange::parcel::{Item, Reply};
use crate::exchange::{Pending, Search};
use crate::flaws::{Flaw, Flaws};

impl<F: Flaws> Core<F> {
    /// Begins a client's receive.
    pub(super) fn receive_everywhere(&mut self, ticket: Ticket, request: &ReceiveRequest<'_>) -> Taken {
        if request.attempt_id.is_some() {
            self.serve_receive(ticket, request);
            return Taken::Yes;
        }
        if let Some(lacking) = self.lacking_credit() {
            return Taken::LacksCreditOf(lacking);
        }
        let queue = request.queue;
        let wait_ms = match request.wait_ms {
            QUEUE_DEFAULT => self.engine.receive_wait_ms(queue),
            wait_ms => u64::from(wait_ms),
        };
        let now_ms = self.now_ms();
        let reply_bytes_max = self.reply_bytes_max(ticket, request.reply_bytes_max);
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return Taken::Yes };
        if wait_ms > 0 && connection.long_polls >= limits::LONG_POLLS_PER_CONNECTION_MAX {
            let text = format!("{} long polls wait on this connection already", connection.long_polls);
            self.refuse_request(ticket, ErrorCode::RequestThrottled, &text);
            return Taken::Yes;
        }
        connection.long_polls += 1;
        connection.asked_elsewhere += 1;
        let siblings = self.exchange.shards - 1;
        let search = Search {
            ticket,
            queue,
            count_max: request.max,
            visibility_seconds: request.visibility_seconds,
            reply_bytes_max,
            waits_until_ms: if wait_ms > 0 { now_ms + wait_ms } else { 0 },
            left: if wait_ms > 0 { 0 } else { siblings },
            next: self.exchange.first_sibling(),
            local_is_left: true,
            over_limit: false,
            lease_asked: false,
        };
        if self.exchange.ages.received(queue, now_ms) {
            let me = self.exchange.me;
            self.exchange.outbox.push_to_all(me, || Item::Interest(queue));
        }
        let local_ms = self.engine.oldest_visible_ms(queue).unwrap_or(now_ms);
        match self.exchange.ages.older(queue, local_ms, now_ms) {
            Some(_) if F::has(Flaw::ServeOwnMessagesFirst) => self.search_here(search),
            Some(sibling) => self.ask_for_messages(search, sibling),
            None => self.search_here(search),
        }
        Taken::Yes
    }

    /// Serves a receive that a sibling goes around with.
    pub(super) fn receive_for_sibling(
        &mut self,
        ticket: Ticket,
        request: &ReceiveRequest<'_>,
        hinted: Option<u16>,
    ) {
        let queue = request.queue;
        let reply_bytes_max = self.reply_bytes_max(ticket, request.reply_bytes_max);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.long_polls += 1;
            connection.asked_elsewhere += 1;
        }
        let visible = self.engine.visible(queue);
        self.search_here(Search {
            ticket,
            queue,
            count_max: request.max,
            visibility_seconds: request.visibility_seconds,
            reply_bytes_max,
            waits_until_ms: 0,
            left: 0,
            next: self.exchange.me,
            local_is_left: false,
            over_limit: false,
            lease_asked: false,
        });
        if let Some(from) = hinted {
            self.exchange.hunger.hint_answered(queue, from);
            // Where it found nothing to take, another hint would find nothing either.
            if self.engine.visible(queue) < visible {
                self.give_hints(queue);
            }
        }
    }

    /// Receives from the local part of the queue.
    fn search_here(&mut self, mut search: Search) {
        let now_ms = self.now_ms();
        search.local_is_left = false;
        let Some(connection) = self.connections.get_mut(search.ticket.connection) else { return };
        if self.drain.is_some() || connection.stage == Stage::Closing {
            search.waits_until_ms = 0;
        }
        let wait_ms = search.waits_until_ms.saturating_sub(now_ms);
        let command = Command::Receive {
            queue: search.queue,
            count_max: u32::from(search.count_max),
            wait_ms: Some(u32::try_from(wait_ms).unwrap_or(u32::MAX)),
            visibility_seconds: (search.visibility_seconds != QUEUE_DEFAULT)
                .then_some(search.visibility_seconds),
            reply_bytes_max: search.reply_bytes_max,
            attempt_id: None,
        };
        self.engine.apply(now_ms, search.ticket, command, &mut self.log, &mut self.outputs);
        let replies = &mut self.outputs.replies;
        let place = replies.iter().position(|reply| reply.ticket == search.ticket && !reply.ends_wait);
        let Some(place) = place else {
            self.write_replies();
            if search.left > 0 {
                // There is more here to move or to clear away than one receive does: the others may have
                // messages.
                self.engine.forget_unfinished(search.ticket);
                search.local_is_left = true;
                return self.ask_next(search);
            }
            if let Some(connection) = self.connections.get_mut(search.ticket.connection) {
                connection.asked_elsewhere -= 1;
            }
            return self.waits_here(search.queue);
        };
        let is_empty = matches!(&replies[place].body, ReplyBody::Received(range) if range.is_empty());
        let is_over = matches!(&replies[place].body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::OverLimit);
        let asks_lease = is_over && !search.lease_asked;
        if asks_lease || ((is_empty || is_over) && (search.left > 0 || search.over_limit)) {
            replies.remove(place);
            if is_empty && !search.ticket.connection.is_of_peer() {
                self.engine.uncount_empty_receive(search.queue);
            }
            self.write_replies();
            if asks_lease {
                search.lease_asked = true;
                self.exchange.leases.park(search);
                return self.ask_for_lease(search.queue);
            }
            search.over_limit |= is_over;
            return self.search_on(search);
        }
        self.settle_search(search.ticket);
        self.write_replies();
    }

    /// Goes on with a receive for which nothing was found so far.
    fn search_on(&mut self, search: Search) {
        if self.connections.get_mut(search.ticket.connection).is_none() {
            return;
        }
        if search.local_is_left {
            return self.search_here(search);
        }
        if search.left > 0 {
            return self.ask_next(search);
        }
        self.settle_search(search.ticket);
        if search.over_limit {
            let text = "The maximum number of in flight messages is reached.";
            return self.refuse_request(search.ticket, ErrorCode::OverLimit, text);
        }
        self.engine.count_empty_receive(search.queue);
        if let Some(connection) = self.connections.get_mut(search.ticket.connection) {
            ReceiveReplyWriter::begin(&mut connection.out, search.ticket.correlation).finish();
        }
        self.replied(search.ticket, u64::MAX);
    }

    fn ask_next(&mut self, mut search: Search) {
        let sibling = search.next;
        search.left -= 1;
        search.next = self.exchange.after(sibling);
        self.ask_for_messages(search, sibling);
    }

    fn settle_search(&mut self, ticket: Ticket) {
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.long_polls -= 1;
            connection.asked_elsewhere -= 1;
        }
    }

    fn ask_for_messages(&mut self, search: Search, sibling: u16) {
        let frame_bytes_max = self.frame_bytes_max(search.ticket);
        let Search { queue, count_max, visibility_seconds, reply_bytes_max, .. } = search;
        let payload = receive_payload(queue, count_max, visibility_seconds, reply_bytes_max);
        let id = self.exchange.pending.insert(Pending::Search(Box::new(search)));
        self.ask(sibling, id, Operation::Receive, frame_bytes_max, false, payload);
    }

    /// A sibling has answered a receive that goes around.
    pub(super) fn searched(&mut self, from: u16, mut search: Search, reply: Reply) {
        if reply.deliveries.is_empty() {
            self.exchange.ages.has_nothing(search.queue, from);
            search.over_limit |= is_over_limit(&reply.frame);
            return self.search_on(search);
        }
        if self.connections.get_mut(search.ticket.connection).is_none() {
            return self.give_back(from, reply.deliveries);
        }
        self.settle_search(search.ticket);
        self.give_messages(from, search.ticket, reply);
    }

    pub(super) fn give_messages(&mut self, from: u16, ticket: Ticket, mut reply: Reply) {
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        reply.frame[12..16].copy_from_slice(&ticket.correlation.to_le_bytes());
        finish_frame(&mut reply.frame, 0);
        connection.out.extend_from_slice(&reply.frame);
        connection.note_deliveries_of(from, reply.deliveries.into_iter());
        self.has_more_to_send(ticket.connection);
    }
}

/// Whether a reply says that more may not be in flight.
fn is_over_limit(frame: &[u8]) -> bool {
    let Ok(Some((frame, _))) = tenpin_protocol::split_frame(frame, usize::MAX) else { return false };
    let response = tenpin_protocol::Response::decode(&frame);
    matches!(response, Ok(tenpin_protocol::Response::Error(ErrorFrame { number, .. }))
        if number == ErrorCode::OverLimit.number())
}

/// Long polls.
impl<F: Flaws> Core<F> {
    /// A receive waits here: the siblings know, or are told, and one that has given a hint is asked.
    fn waits_here(&mut self, queue: u64) {
        let Self { exchange, .. } = self;
        for sibling in exchange.hunger.waits(queue, exchange.me, exchange.shards) {
            exchange.outbox.push(sibling, Item::Hunger { queue, on: true });
        }
        self.use_hints(queue);
    }

    fn use_hints(&mut self, queue: u64) {
        for _ in 0..self.exchange.shards {
            let Some(from) = self.exchange.hunger.take_hint(queue) else { return };
            self.use_hint(queue, from);
        }
    }

    /// A sibling has a message that nobody waits for there: the first receive that waits here, and that
    /// nobody else was asked for, takes it.
    pub(super) fn use_hint(&mut self, queue: u64, from: u16) {
        let Some(waiting) = self.engine.ask_for_wait(queue) else {
            if self.engine.has_waits(queue) {
                // Each of them is asked for elsewhere; the first that gets nothing there comes here.
                return self.exchange.hunger.hinted(queue, from);
            }
            self.exchange.hunger.withdrawn(queue, from);
            return self.exchange.outbox.push(from, Item::Hunger { queue, on: false });
        };
        let ticket = waiting.ticket;
        let frame_bytes_max = self.frame_bytes_max(ticket);
        let count_max = u8::try_from(waiting.count_max).unwrap_or(u8::MAX);
        let payload = receive_payload(queue, count_max, waiting.visibility_seconds, waiting.reply_bytes_max);
        let id = self.exchange.pending.insert(Pending::Hinted { ticket, queue });
        self.ask(from, id, Operation::Receive, frame_bytes_max, true, payload);
    }

    /// The sibling that gave a hint has answered.
    pub(super) fn hint_came_true(&mut self, from: u16, ticket: Ticket, queue: u64, reply: Reply) {
        if reply.deliveries.is_empty() {
            self.engine.wait_on(ticket);
            self.engine_has_more = true;
        } else if self.engine.end_wait_elsewhere(ticket) {
            if let Some(connection) = self.connections.get_mut(ticket.connection) {
                connection.long_polls -= 1;
            }
            self.give_messages(from, ticket, reply);
        } else {
            // It was served here meanwhile, or its time was over.
            self.give_back(from, reply.deliveries);
        }
        self.use_hints(queue);
    }

    /// A sibling says whether receives wait there.
    pub(super) fn hears_hunger(&mut self, queue: u64, from: u16, on: bool) {
        let is_wanted = self.exchange.hunger.hears(queue, from, on);
        if !self.engine.watch(queue, is_wanted && !F::has(Flaw::HintOnlyTheNewlyHungry)) {
            self.exchange.hunger.forget(queue);
        } else if is_wanted {
            self.give_hints(queue);
        }
    }

    /// Tells hungry siblings of messages that nobody waits for here.
    pub(super) fn give_hints(&mut self, queue: u64) {
        if self.engine.has_waits(queue) {
            return;
        }
        let visible = self.engine.visible(queue);
        for sibling in self.exchange.hunger.choose_for_hints(queue, visible) {
            if F::has(Flaw::HintCountsAsReceive) {
                let command = Command::Receive {
                    queue,
                    count_max: 1,
                    wait_ms: Some(0),
                    visibility_seconds: None,
                    reply_bytes_max: 0,
                    attempt_id: None,
                };
                let nobody = super::peers::nobody();
                self.engine.apply(self.clock.now_ms(), nobody, command, &mut self.log, &mut self.outputs);
                self.outputs.replies.retain(|reply| reply.ticket != nobody);
                self.write_replies();
            }
            self.exchange.outbox.push(sibling, Item::Hint(queue));
        }
    }

    /// Publishes ages, gives hints, and asks for more of the limits that receives have met.
    pub(super) fn tell_siblings(&mut self) {
        for queue in self.engine.take_surplus() {
            self.give_hints(queue);
        }
        let now_ms = self.now_ms();
        let engine = &self.engine;
        for (sibling, ages) in self.exchange.ages.round(now_ms, |queue| engine.oldest_visible_ms(queue)) {
            self.exchange.outbox.push(sibling, Item::Ages(ages));
        }
        let mut short = self.engine.take_over_limit();
        short.extend(self.exchange.leases.take_due(now_ms));
        for queue in short {
            if self.engine.has_takers(queue) {
                self.ask_for_lease(queue);
            }
        }
    }
}

/// Parts of limits (rule 26).
impl<F: Flaws> Core<F> {
    fn ask_for_lease(&mut self, queue: u64) {
        let home = home_of(queue, self.exchange.shards);
        if home == self.exchange.me {
            self.lease_asked(queue, home);
        } else if self.exchange.leases.asks(queue) {
            self.exchange.outbox.push(home, Item::LeaseAsk(queue));
        }
    }

    fn free_lease(&self, queue: u64) -> u64 {
        self.engine.lease(queue).map_or(0, |(most, in_flight)| most.saturating_sub(in_flight))
    }

    /// A shard, which may be this one, needs more of a limit that this one owns.
    pub(super) fn lease_asked(&mut self, queue: u64, from: u16) {
        let free = self.free_lease(queue);
        if free > 0 || self.engine.lease(queue).is_none() {
            return self.give_lease(queue, from, free.min(self.engine.lease_block()));
        }
        let Self { exchange, .. } = self;
        if exchange.leases.recall(queue, from, exchange.shards - 1) {
            exchange.outbox.push_to_all(exchange.me, || Item::LeaseRecall(queue));
        }
    }

    fn give_lease(&mut self, queue: u64, to: u16, amount: u64) {
        if to == self.exchange.me {
            return self.lease_given(queue, 0);
        }
        let amount = self.engine.take_lease(queue, amount);
        self.exchange.outbox.push(to, Item::LeaseGive { queue, amount });
    }

    /// The home of a queue's limit has answered: what waited for that goes on.
    pub(super) fn lease_given(&mut self, queue: u64, amount: u64) {
        self.exchange.leases.answered(queue);
        self.engine.add_lease(queue, amount);
        self.engine_has_more = true;
        if self.free_lease(queue) == 0 && self.engine.has_takers(queue) {
            self.exchange.leases.is_short(queue, self.clock.now_ms());
        }
        for search in self.exchange.leases.unpark(queue) {
            self.search_here(search);
        }
    }

    /// A sibling gives back what it does not use; once all have, it is shared by those who asked.
    pub(super) fn lease_returned(&mut self, queue: u64, amount: u64) {
        self.engine.add_lease(queue, amount);
        self.engine_has_more = true;
        let Some(askers) = self.exchange.leases.returned(queue) else { return };
        let share = Leases::part(self.free_lease(queue), askers.len(), self.engine.lease_block());
        for asker in askers {
            self.give_lease(queue, asker, share);
        }
    }
}
