//! What siblings say, and what is said to them: requests that are served for their connections, and
//! what those are answered.

use tenpin_protocol::{ErrorCode, Frame, Operation, ReceiveReplyWriter, ReceiveRequest, Request, VERSION};

use super::Core;
use super::driver::{Clocks, ConnectionId};
use super::routes::payload_of;
use crate::engine::{Command, DeliveredMessage, Home, Ticket};
use crate::exchange::parcel::{self, Asker, Item, Parcel, Reply};
use crate::flaws::{Flaw, Flaws};

/// Engine time may run this much faster or slower than the clocks that shards share: its slewing, and
/// the parts of milliseconds at both ends.
const CLOCK_SLACK_MS: u64 = 2;

impl<F: Flaws> Core<F> {
    /// Does what a sibling says.
    pub(super) fn take_parcel(&mut self, from: u16, parcel: Parcel) {
        for item in parcel.items {
            self.take_item(from, item);
        }
    }

    fn take_item(&mut self, from: u16, item: Item) {
        match item {
            Item::Request(request) => {
                self.exchange.waiting.push_back((from, request));
                self.serve_siblings();
            }
            Item::Reply(reply) => self.take_reply(from, *reply),
            Item::Closed(connection) => self.peer_closed(from, connection),
            Item::AnswerWaits(connection) => self.answer_waits_for(from, Asker::Connection(connection)),
            Item::Undelivered(messages) => {
                self.apply(nobody(), Command::Undelivered { messages: &messages });
                self.engine_has_more = true;
            }
            Item::Hunger { queue, on } => self.hears_hunger(queue, from, on),
            Item::Hint(queue) => self.use_hint(queue, from),
            Item::Interest(queue) => self.exchange.ages.interest(queue, from, self.clock.now_ms()),
            Item::Ages(ages) => {
                for (queue, age_ms) in ages {
                    self.exchange.ages.published(queue, from, age_ms, self.clock.now_ms());
                }
            }
            Item::LeaseAsk(queue) => self.lease_asked(queue, from),
            Item::LeaseGive { queue, amount } => self.lease_given(queue, amount),
            Item::LeaseRecall(queue) => {
                let amount = self.engine.take_lease(queue, u64::MAX);
                self.exchange.outbox.push(from, Item::LeaseReturn { queue, amount });
            }
            Item::LeaseReturn { queue, amount } => self.lease_returned(queue, amount),
            Item::LeaseHeld { queue, amount } => self.engine.lose_lease(queue, amount),
            Item::CatalogStep { number, change } => self.exchange.followed.told(number, change),
            Item::CatalogApplied(number) => self.exchange.steps.applied(number),
            Item::CatalogState(entries) => self.hears_catalog(entries),
            Item::CatalogStateEnds => self.heard_catalog(),
            Item::Move(moving) => self.exchange.moves.arrives(from, moving),
            Item::MoveAnswered { number, answer } => self.move_answered(from, number, answer),
            Item::TaskShares(shares) => self.hears_task_shares(from, &shares),
            Item::TaskLook { look, queue } => self.show_tasks(from, look, queue),
            Item::TaskLooked { look, shares } => self.task_looked(from, look, &shares),
            Item::GroupShares(parts) => self.exchange.shares.heard(from, parts),
            Item::Ready { time_ms } => {
                self.clock.catch_up(time_ms, self.clocks);
                self.exchange.start.ready[usize::from(from)] = true;
            }
            Item::Drained => self.exchange.drained[usize::from(from)] = true,
            Item::Link(item) => self.take_link_item(from, item),
        }
    }

    /// Answers the receives of a sibling's connection that wait. Those that this shard could not take yet, which
    /// were sent before this, wait for nothing once they are served.
    fn answer_waits_for(&mut self, from: u16, asker: Asker) {
        if let Some(&id) = self.exchange.connections.get(&(from, asker)) {
            self.apply(nobody(), Command::AnswerWaits { connection: Some(id) });
        }
        let its =
            |(sender, request): &&mut (u16, Box<parcel::Request>)| (*sender, request.asker) == (from, asker);
        self.exchange.waiting.iter_mut().filter(its).for_each(|(_, request)| wait_no_more(request));
    }

    /// Serves what siblings have sent, in order, as far as requests can be taken.
    fn serve_siblings(&mut self) {
        while self.may_take_input() {
            let Some((from, request)) = self.exchange.waiting.pop_front() else { return };
            self.serve_sibling(from, &request);
        }
    }

    /// Serves what had to wait. What follows from it was looked at before in this turn, and nothing else may
    /// come that begins another.
    pub(super) fn serve_waiting_siblings(&mut self) {
        let waited = self.exchange.waiting.len();
        self.serve_siblings();
        self.mesh_has_more |= self.exchange.waiting.len() < waited;
    }

    /// Serves a request of a sibling, or the part of one that this shard asked itself.
    pub(super) fn serve_sibling(&mut self, from: u16, request: &parcel::Request) {
        let Some(operation) = Operation::from_number(request.operation) else { return };
        let connection = self.connection_of(from, request);
        let correlation = request.correlation;
        let ticket = Ticket { connection, correlation, operation };
        let payload = &request.payload[..];
        let frame = Frame { version: VERSION, operation: request.operation, flags: 0, correlation, payload };
        match Request::decode(&frame) {
            Err(error) => self.refuse_request(ticket, error.code, &error.to_string()),
            Ok(_) if self.drain.is_some() => {
                let text = "the broker is shutting down; connect again later";
                self.refuse_request(ticket, ErrorCode::ShuttingDown, text);
            }
            Ok(Request::Receive(receive)) if is_search(request.asker, self.engine.home(receive.queue)) => {
                self.receive_for_sibling(ticket, &receive, request.answers_hint.then_some(from));
                self.tell_age(receive.queue, from);
            }
            Ok(request) => self.serve(ticket, &request),
        }
    }

    /// Says how long the oldest message waits that a receive for a sibling has left: what was said before is
    /// of the one that it took, and the sibling's next receive would come for younger ones than others have.
    fn tell_age(&mut self, queue: u64, to: u16) {
        if to != self.exchange.me {
            let now_ms = self.now_ms();
            let age_ms =
                self.engine.oldest_visible_ms(queue).map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
            self.exchange.outbox.push(to, Item::Ages(vec![(queue, age_ms)]));
        }
    }

    fn connection_of(&mut self, from: u16, request: &parcel::Request) -> ConnectionId {
        let origin = (from, request.asker);
        let frame_bytes_max = request.frame_bytes_max as usize;
        let connections = &mut self.connections;
        let id = *self
            .exchange
            .connections
            .entry(origin)
            .or_insert_with(|| connections.insert_of_peer(origin, frame_bytes_max));
        if let Some(connection) = connections.get_mut(id) {
            connection.frame_bytes_max = frame_bytes_max;
        }
        id
    }

    fn peer_closed(&mut self, from: u16, connection: ConnectionId) {
        let asker = Asker::Connection(connection);
        self.exchange.waiting.retain(|(sender, request)| (*sender, request.asker) != (from, asker));
        if let Some(id) = self.exchange.connections.remove(&(from, asker)) {
            self.closed(id);
        }
    }

    /// Sends the only reply of a connection that stands for another shard's to that shard.
    pub(super) fn reply_to_peer(&mut self, ticket: Ticket, stale_after_ms: u64) {
        let now_ms = self.now_ms();
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        let Some((to, asker)) = connection.origin else { return };
        let (frame, deliveries) = connection.take_reply();
        let reply = Reply {
            asker,
            correlation: ticket.correlation,
            operation: ticket.operation.number(),
            frame,
            deliveries,
            fresh_for_ms: match stale_after_ms {
                u64::MAX => u64::MAX,
                stale_after_ms => stale_after_ms.saturating_sub(now_ms),
            },
            said: self.clocks,
        };
        if to == self.exchange.me {
            self.loopback.push_back(reply);
        } else {
            self.exchange.outbox.push(to, Item::Reply(Box::new(reply)));
        }
    }

    /// Takes what this shard has answered itself.
    pub(super) fn take_loopback(&mut self) {
        while let Some(reply) = self.loopback.pop_front() {
            self.take_reply(self.exchange.me, reply);
            // What it leads to may be in the log already, whose turn to be written is over.
            self.engine_has_more = true;
        }
    }

    fn take_reply(&mut self, from: u16, mut reply: Reply) {
        let is_lost = F::has(Flaw::LoseCreditOnOverflow) && !self.exchange.outbox.has_credit(from);
        if from != self.exchange.me && self.returns_credit(from, &reply) && !is_lost {
            self.exchange.outbox.give_credit(from);
        }
        if !reply.deliveries.is_empty() && self.is_stale(&reply) {
            // Rule 2: the messages may be somebody else's by now.
            reply.deliveries.clear();
            reply.frame.clear();
            ReceiveReplyWriter::begin(&mut reply.frame, reply.correlation).finish();
        }
        match reply.asker {
            Asker::Connection(id) => self.pass_on(from, id, reply),
            Asker::Shard => self.go_on(from, reply),
        }
    }

    /// Whether an answer makes room for another request: for connections that are gone it was made when
    /// they went.
    fn returns_credit(&mut self, from: u16, reply: &Reply) -> bool {
        let Asker::Connection(id) = reply.asker else { return true };
        let Some(connection) = self.connections.get_mut(id).filter(|_| reply.has_credit()) else {
            return false;
        };
        connection.credit_returns(from);
        true
    }

    fn is_stale(&self, reply: &Reply) -> bool {
        if reply.fresh_for_ms == u64::MAX {
            return false;
        }
        let Clocks { monotonic_ns, wall_ms } = self.clocks;
        let elapsed_ms = (monotonic_ns.saturating_sub(reply.said.monotonic_ns) / 1_000_000)
            .max(wall_ms.saturating_sub(reply.said.wall_ms));
        elapsed_ms + CLOCK_SLACK_MS >= reply.fresh_for_ms && elapsed_ms > 0
    }

    /// Gives a client what another shard has answered it.
    fn pass_on(&mut self, from: u16, id: ConnectionId, reply: Reply) {
        let Some(connection) = self.connections.get_mut(id) else {
            return self.give_back(from, reply.deliveries);
        };
        connection.asked_elsewhere -= 1;
        if reply.operation == Operation::Receive.number() {
            connection.receives_elsewhere -= 1;
            connection.long_polls -= 1;
        }
        connection.out.extend_from_slice(&reply.frame);
        connection.note_deliveries_of(from, reply.deliveries.into_iter());
        self.has_more_to_send(id);
    }

    /// Messages of another shard that were never given to anybody go back (rule 4).
    pub(super) fn give_back(&mut self, from: u16, deliveries: Vec<DeliveredMessage>) {
        if deliveries.is_empty() {
            return;
        }
        if from == self.exchange.me {
            self.apply(nobody(), Command::Undelivered { messages: &deliveries });
            self.engine_has_more = true;
        } else {
            self.exchange.outbox.push(from, Item::Undelivered(deliveries));
        }
    }
}

/// Lets a request that is a receive wait for no message.
fn wait_no_more(request: &mut parcel::Request) {
    let &mut parcel::Request { operation, correlation, ref payload, .. } = request;
    let frame = Frame { version: VERSION, operation, flags: 0, correlation, payload };
    let Ok(Request::Receive(receive)) = Request::decode(&frame) else { return };
    let payload = payload_of(&Request::Receive(ReceiveRequest { wait_ms: 0, ..receive }));
    request.payload = payload;
}

/// Whether a receive goes around among the shards: one on a FIFO queue is served like a client's.
fn is_search(asker: Asker, home: Home) -> bool {
    asker == Asker::Shard && !matches!(home, Home::Shard(_))
}

impl Reply {
    /// Whether its request was counted.
    fn has_credit(&self) -> bool {
        self.asker == Asker::Shard || self.operation != Operation::Receive.number()
    }
}

/// The ticket of what nobody is answered.
pub(super) fn nobody() -> Ticket {
    let connection = ConnectionId { index: u32::MAX, generation: u32::MAX };
    Ticket { connection, correlation: 0, operation: Operation::Goodbye }
}
