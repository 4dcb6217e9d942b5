//! Where each request is served where there are several shards: here, on the one that the queue or the
//! handle lives on, on shard 0, or on all.

use tenpin_protocol::{
    ChangeVisibilityRequest, DeleteRequest, Frame, HEADER_BYTES, Operation, ReceiveRequest, Request,
};

use super::Core;
use super::connection::Connection;
use crate::engine::{Home, Ticket, shard_of_handle};
use crate::exchange::parcel::{self, Asker, Item};
use crate::flaws::Flaws;

/// Whether a request was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is served, here or elsewhere.
    Yes,
    /// It has to wait until this shard has answered some of those before it.
    LacksCreditOf(u16),
}

impl<F: Flaws> Core<F> {
    /// Serves a client's request, or sends it to where it is served.
    pub(super) fn route(&mut self, ticket: Ticket, request: &Request<'_>, frame: &Frame<'_>) -> Taken {
        match *request {
            Request::Send(send) => self.serve_at_home(send.queue, ticket, request, frame),
            Request::Receive(receive) => match self.engine.home(receive.queue) {
                Home::Everywhere => self.receive_everywhere(ticket, &receive),
                _ => self.serve_at_home(receive.queue, ticket, request, frame),
            },
            Request::Delete(delete) => match self.engine.home(delete.queue) {
                Home::Everywhere => {
                    let shards: Vec<u16> =
                        delete.handles.iter().map(|handle| self.handles_shard(handle)).collect();
                    self.split(ticket, request, frame, &shards)
                }
                _ => self.serve_at_home(delete.queue, ticket, request, frame),
            },
            Request::ChangeVisibility(change) => match self.engine.home(change.queue) {
                Home::Everywhere => {
                    let shards: Vec<u16> =
                        change.entries.iter().map(|entry| self.handles_shard(entry.handle)).collect();
                    self.split(ticket, request, frame, &shards)
                }
                _ => self.serve_at_home(change.queue, ticket, request, frame),
            },
            Request::Peek(peek) => match self.engine.home(peek.queue) {
                Home::Everywhere => self.peek_everywhere(ticket, &peek),
                _ => self.serve_at_home(peek.queue, ticket, request, frame),
            },
            Request::GetAttributes(_) | Request::Stats(_) => self.sum_up(ticket, frame),
            Request::Ping(_) | Request::Goodbye(_) | Request::Hello(_) | Request::Authenticate(_) => {
                self.serve(ticket, request);
                Taken::Yes
            }
            _ => self.serve_at(0, ticket, request, frame),
        }
    }

    /// To the shard that a queue lives on. A queue that is not known here is not known anywhere, as
    /// nobody was told of one that is not everywhere.
    fn serve_at_home(
        &mut self,
        queue: u64,
        ticket: Ticket,
        request: &Request<'_>,
        frame: &Frame<'_>,
    ) -> Taken {
        match self.engine.home(queue) {
            Home::Shard(shard) => self.serve_at(shard, ticket, request, frame),
            Home::Everywhere | Home::Unknown => {
                self.serve(ticket, request);
                Taken::Yes
            }
        }
    }

    /// To this shard or another, whole.
    fn serve_at(&mut self, to: u16, ticket: Ticket, request: &Request<'_>, frame: &Frame<'_>) -> Taken {
        if to == self.exchange.me {
            if to == 0 && self.exchange.is_full() {
                return Taken::LacksCreditOf(0);
            }
            self.serve(ticket, request);
            return Taken::Yes;
        }
        if let Request::Receive(receive) = request {
            return self.try_elsewhere(to, ticket, receive, frame);
        }
        if !self.exchange.outbox.has_credit(to) {
            return Taken::LacksCreditOf(to);
        }
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return Taken::Yes };
        self.exchange.outbox.take_credit(to, frame.payload.len());
        connection.asked_elsewhere_bytes += frame.payload.len();
        connection.asked_elsewhere += 1;
        connection.is_known_by(to, 1);
        let request = parcel::Request {
            asker: Asker::Connection(ticket.connection),
            correlation: ticket.correlation,
            frame_bytes_max: frame_bytes_max(connection),
            operation: frame.operation,
            answers_hint: false,
            payload: frame.payload.to_vec(),
        };
        self.exchange.outbox.push(to, Item::Request(Box::new(request)));
        Taken::Yes
    }

    /// A batch of handles: to the shards that these name.
    fn split(&mut self, ticket: Ticket, request: &Request<'_>, frame: &Frame<'_>, shards: &[u16]) -> Taken {
        let first = shards.first().copied().unwrap_or(self.exchange.me);
        if shards.iter().all(|shard| *shard == first) {
            if first == self.exchange.me {
                self.serve(ticket, request);
                return Taken::Yes;
            }
            return self.serve_at(first, ticket, request, frame);
        }
        if let Some(lacking) = self.lacking_credit() {
            return Taken::LacksCreditOf(lacking);
        }
        match request {
            Request::Delete(DeleteRequest { queue, handles }) => {
                self.ask_in_parts(ticket, shards, |places| {
                    let part: Vec<&[u8]> =
                        places.iter().filter_map(|&at| handles.iter().nth(at.into())).collect();
                    payload_of(&Request::Delete(DeleteRequest { queue: *queue, handles: part[..].into() }))
                });
            }
            Request::ChangeVisibility(ChangeVisibilityRequest { queue, entries }) => {
                self.ask_in_parts(ticket, shards, |places| {
                    let part: Vec<_> =
                        places.iter().filter_map(|&at| entries.iter().nth(at.into())).collect();
                    payload_of(&Request::ChangeVisibility(ChangeVisibilityRequest {
                        queue: *queue,
                        entries: part[..].into(),
                    }))
                });
            }
            _ => unreachable!("only batches of handles are split"),
        }
        Taken::Yes
    }

    /// The shard that a handle names; this one where there is no such shard, which refuses it.
    fn handles_shard(&self, handle: &[u8]) -> u16 {
        shard_of_handle(handle).filter(|shard| *shard < self.exchange.shards).unwrap_or(self.exchange.me)
    }

    /// A shard of which too much is asked.
    pub(super) fn lacking_credit(&self) -> Option<u16> {
        if self.exchange.outbox.has_credit_everywhere() {
            return None;
        }
        (0..self.exchange.shards).find(|&shard| !self.exchange.outbox.has_credit(shard))
    }

    /// Asks a shard, which may be this one, for something that this shard goes on with.
    pub(super) fn ask(
        &mut self,
        to: u16,
        correlation: u32,
        operation: Operation,
        frame_bytes_max: u32,
        hint: bool,
        payload: Vec<u8>,
    ) {
        let request = parcel::Request {
            asker: Asker::Shard,
            correlation,
            frame_bytes_max,
            operation: operation.number(),
            answers_hint: hint,
            payload,
        };
        if to == self.exchange.me {
            return self.serve_sibling(to, &request);
        }
        self.exchange.outbox.take_credit(to, request.payload.len());
        self.exchange.outbox.push(to, Item::Request(Box::new(request)));
    }

    /// The frame limit of a ticket's connection.
    pub(super) fn frame_bytes_max(&mut self, ticket: Ticket) -> u32 {
        self.connections.get_mut(ticket.connection).map_or(0, |connection| frame_bytes_max(connection))
    }
}

fn frame_bytes_max(connection: &Connection) -> u32 {
    u32::try_from(connection.frame_bytes_max).unwrap_or(u32::MAX)
}

/// A request's payload.
pub(super) fn payload_of(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    request.encode(1, &mut frame);
    frame.drain(..HEADER_BYTES);
    frame
}

/// A receive that another shard is to serve: it never waits there.
pub(super) fn receive_payload(
    queue: u64,
    count_max: u8,
    visibility_seconds: u32,
    reply_bytes_max: u32,
) -> Vec<u8> {
    let request = ReceiveRequest {
        wait_ms: 0,
        visibility_seconds,
        reply_bytes_max,
        ..ReceiveRequest::new(queue, count_max)
    };
    payload_of(&Request::Receive(request))
}
