//! Receives on FIFO queues that live on another shard. That shard is asked at first without a wait, which takes
//! credit like all else that is answered at once (rule 25); only where there was nothing does a receive wait
//! there, which takes none (rule 28).

use tenpin_protocol::{
    ErrorCode, Frame, Operation, QUEUE_DEFAULT, ReceiveRequest, Request, Response, VERSION, split_frame,
};

use super::connection::Stage;
use super::routes::{Taken, payload_of};
use super::{Core, limits};
use crate::engine::Ticket;
use crate::exchange::parcel::{self, Asker, Item, Reply};
use crate::exchange::{FirstTry, Pending};
use crate::flaws::Flaws;

impl<F: Flaws> Core<F> {
    /// Asks the shard that a queue lives on for messages that are there.
    pub(super) fn try_elsewhere(
        &mut self,
        to: u16,
        ticket: Ticket,
        receive: &ReceiveRequest<'_>,
        frame: &Frame<'_>,
    ) -> Taken {
        if !self.exchange.outbox.has_credit(to) {
            return Taken::LacksCreditOf(to);
        }
        let wait_ms = match receive.wait_ms {
            QUEUE_DEFAULT => self.engine.receive_wait_ms(receive.queue),
            wait_ms => u64::from(wait_ms),
        };
        let waits_until_ms = if wait_ms > 0 { self.now_ms() + wait_ms } else { 0 };
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return Taken::Yes };
        if wait_ms > 0 && connection.long_polls >= limits::LONG_POLLS_PER_CONNECTION_MAX {
            let text = format!("{} receives wait on this connection already", connection.long_polls);
            self.refuse_request(ticket, ErrorCode::RequestThrottled, &text);
            return Taken::Yes;
        }
        connection.long_polls += 1;
        connection.asked_elsewhere += 1;
        let frame_bytes_max = self.frame_bytes_max(ticket);
        let payload = payload_of(&Request::Receive(ReceiveRequest { wait_ms: 0, ..*receive }));
        let queue = receive.queue;
        let first = FirstTry { ticket, queue, waits_until_ms, payload: frame.payload.to_vec() };
        let id = self.exchange.pending.insert(Pending::FirstTry(Box::new(first)));
        self.ask(to, id, Operation::Receive, frame_bytes_max, false, payload);
        Taken::Yes
    }

    /// The shard has answered: the client is, or waits.
    pub(super) fn tried_elsewhere(&mut self, from: u16, first: &FirstTry, reply: Reply) {
        let wait_ms = first.waits_until_ms.saturating_sub(self.now_ms());
        let stops = self.drain.is_some();
        let Some(connection) = self.connections.get_mut(first.ticket.connection) else {
            return self.give_back(from, reply.deliveries);
        };
        let may_wait = wait_ms > 0 && !stops && connection.stage != Stage::Closing;
        let is_empty = reply.deliveries.is_empty() && has_nothing(&reply.frame);
        if may_wait && is_empty {
            return self.wait_elsewhere(from, first, u32::try_from(wait_ms).unwrap_or(u32::MAX));
        }
        connection.long_polls -= 1;
        connection.asked_elsewhere -= 1;
        if is_empty {
            self.engine.count_empty_receive(first.queue);
        }
        self.give_messages(from, first.ticket, reply);
    }

    fn wait_elsewhere(&mut self, to: u16, first: &FirstTry, wait_ms: u32) {
        let FirstTry { ticket, payload, .. } = first;
        let (correlation, operation) = (ticket.correlation, ticket.operation.number());
        let frame = Frame { version: VERSION, operation, flags: 0, correlation, payload };
        let Ok(Request::Receive(receive)) = Request::decode(&frame) else { return };
        let frame_bytes_max = self.frame_bytes_max(*ticket);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.receives_elsewhere += 1;
            connection.is_known_by(to, 0);
        }
        let request = parcel::Request {
            asker: Asker::Connection(ticket.connection),
            correlation,
            frame_bytes_max,
            operation,
            answers_hint: false,
            payload: payload_of(&Request::Receive(ReceiveRequest { wait_ms, ..receive })),
        };
        self.exchange.outbox.push(to, Item::Request(Box::new(request)));
    }
}

/// Whether a receive was answered with no messages, and not refused.
fn has_nothing(frame: &[u8]) -> bool {
    let decoded = split_frame(frame, usize::MAX).ok().flatten();
    let response = decoded.and_then(|(frame, _)| Response::decode(&frame).ok());
    matches!(response, Some(Response::Receive(reply)) if reply.messages.is_empty())
}
