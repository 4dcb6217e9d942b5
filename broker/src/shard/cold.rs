//! Replies whose bodies are not in memory any more: they wait until the log has read them back.

use tenpin_protocol::MessageState;

use super::Core;
use super::driver::ConnectionId;
use super::limits;
use super::replies::{Shown, encode_messages};
use crate::engine::{Command, DeliveredMessage, Delivery, Reply, Ticket};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{ColdRecord, Position};

/// The replies of a shard that wait for bodies.
#[derive(Debug, Default)]
pub(super) struct ParkedReplies {
    replies: Vec<Parked>,
    /// Of the records that they have, or will have when they go.
    bytes: usize,
}

impl ParkedReplies {
    /// Whether requests may be taken, each of which may park one more.
    pub(super) fn has_room(&self) -> bool {
        self.replies.len() < limits::PARKED_REPLIES_MAX && self.bytes < limits::PARKED_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    pub(super) fn has_any_for(&self, connection: ConnectionId) -> bool {
        self.replies.iter().any(|parked| parked.is_for(connection))
    }

    pub(super) fn push(&mut self, parked: Parked) {
        self.bytes += parked.bytes;
        self.replies.push(parked);
    }

    fn drop_those_for(&mut self, connection: ConnectionId, undelivered: &mut Vec<DeliveredMessage>) {
        let Self { replies, bytes } = self;
        replies.retain(|parked| {
            let keep = !parked.is_for(connection);
            if !keep {
                *bytes -= parked.bytes;
                undelivered.extend(parked.handed_out());
            }
            keep
        });
    }

    /// Takes all: those that still wait are pushed again.
    fn take(&mut self) -> Vec<Parked> {
        std::mem::take(self).replies
    }
}

/// A reply that waits for bodies.
#[derive(Debug)]
pub(super) struct Parked {
    ticket: Ticket,
    depends_on: Position,
    stale_after_ms: u64,
    shown: Shown,
    deliveries: Vec<Delivery>,
    /// The ARNs of the queues that they are dead letters of.
    arns: Vec<Option<String>>,
    /// The records in the order of `deliveries`, copied as they came so that they outlive the log's
    /// windows.
    records: Vec<Option<Vec<u8>>>,
    /// Of all its records, also of those that were not read yet.
    bytes: usize,
}

impl Parked {
    pub(super) fn new(
        reply: &Reply,
        shown: Shown,
        deliveries: &[Delivery],
        arns: Vec<Option<String>>,
    ) -> Self {
        Self {
            ticket: reply.ticket,
            depends_on: reply.depends_on,
            stale_after_ms: reply.stale_after_ms,
            shown,
            deliveries: deliveries.to_vec(),
            arns,
            records: vec![None; deliveries.len()],
            bytes: deliveries.iter().map(|delivery| delivery.length as usize).sum(),
        }
    }

    /// Leaves out a message that is not to be given out any more.
    fn remove(&mut self, index: usize) {
        self.deliveries.remove(index);
        self.arns.remove(index);
        self.records.remove(index);
    }

    fn is_for(&self, connection: ConnectionId) -> bool {
        self.ticket.connection == connection
    }

    fn is_whole(&self) -> bool {
        self.records.iter().all(Option::is_some)
    }

    /// The messages with their records and sources.
    fn messages(&self) -> impl Iterator<Item = (&Delivery, &[u8], Option<String>)> {
        let records = self.records.iter().map(|record| record.as_deref().unwrap_or_default());
        let messages = self.deliveries.iter().zip(records).zip(&self.arns);
        messages.map(|((delivery, record), arn)| (delivery, record, arn.clone()))
    }

    /// The messages that it hands out: none where it only shows them.
    fn handed_out(&self) -> impl Iterator<Item = DeliveredMessage> {
        let deliveries = if self.shown == Shown::HandedOut { &self.deliveries[..] } else { &[] };
        deliveries.iter().map(Delivery::message)
    }
}

impl<F: Flaws> Core<F> {
    /// Keeps a reply until the log has read its bodies.
    pub(super) fn park(&mut self, parked: Parked) {
        self.parked.push(parked);
        self.cold_reads_came = true;
    }

    /// Collects what has been read, and sends the replies that have all they need.
    pub(super) fn serve_parked(&mut self) {
        if !std::mem::take(&mut self.cold_reads_came) {
            return;
        }
        for mut parked in self.parked.take() {
            self.collect(&mut parked);
            if parked.is_whole() {
                self.unpark(parked);
            } else {
                self.parked.push(parked);
            }
        }
    }

    /// Copies the records that the log has by now. A damaged one is set aside (rule 15), and the
    /// reply goes without it.
    fn collect(&mut self, parked: &mut Parked) {
        let mut index = 0;
        while index < parked.deliveries.len() {
            if parked.records[index].is_some() {
                index += 1;
                continue;
            }
            let delivery = parked.deliveries[index];
            if delivery.state == MessageState::Damaged {
                parked.records[index] = Some(Vec::new());
                continue;
            }
            // Cleaning may have moved it since, and somebody may have deleted it with an older handle.
            let Some((position, length)) = self.engine.locate(delivery.message()) else {
                parked.remove(index);
                continue;
            };
            match self.log.cold_record(position, length) {
                ColdRecord::Here(bytes) => {
                    parked.records[index] = Some(bytes.to_vec());
                    index += 1;
                }
                ColdRecord::Reading => index += 1,
                ColdRecord::Damaged => {
                    parked.remove(index);
                    let command = Command::Damaged { slot: delivery.slot, sequence: delivery.sequence };
                    self.apply(parked.ticket, command);
                }
            }
        }
    }

    fn unpark(&mut self, mut parked: Parked) {
        let id = parked.ticket.connection;
        if self.now_ms() >= parked.stale_after_ms && !F::has(Flaw::SendStaleColdDeliveries) {
            parked.deliveries.clear();
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if parked.handed_out().next().is_some() {
            self.room_waits.taken(self.clock.monotonic_ms());
        }
        let held = parked.depends_on > self.log.committed();
        let buffer = if held { connection.held_buffer() } else { &mut connection.out };
        let start = buffer.len();
        encode_messages(buffer, parked.ticket.correlation, &parked.shown, parked.messages());
        let length = (buffer.len() - start) as u32;
        if held {
            connection.note_held_deliveries(parked.handed_out());
            let count = parked.handed_out().count() as u32;
            self.hold(parked.ticket, parked.depends_on, length, count, parked.stale_after_ms);
        } else {
            connection.note_deliveries(parked.handed_out());
            self.replied(parked.ticket, parked.stale_after_ms);
        }
    }

    /// Forgets the parked replies of a connection that is gone; what they would have handed out was
    /// not delivered.
    pub(super) fn drop_parked(&mut self, id: ConnectionId, undelivered: &mut Vec<DeliveredMessage>) {
        self.parked.drop_those_for(id, undelivered);
    }
}

#[cfg(test)]
mod tests {
    use tenpin_protocol::Operation;

    use super::*;
    use crate::engine::{HANDLE_BYTES, ReplyBody};

    const ONE: ConnectionId = ConnectionId { index: 1, generation: 0 };
    const OTHER: ConnectionId = ConnectionId { index: 2, generation: 0 };

    /// A reply to this client with one long message, which waits for its body.
    fn parked(connection: ConnectionId) -> Parked {
        let reply = Reply {
            ticket: Ticket { connection, correlation: 1, operation: Operation::Receive },
            depends_on: Position(0),
            stale_after_ms: u64::MAX,
            ends_wait: false,
            body: ReplyBody::Received(0..1),
        };
        let delivery = Delivery {
            position: Position(0),
            length: 1 << 20,
            slot: 0,
            sequence: 1,
            sequence_number: 0,
            sent_at_ms: 1,
            first_received_at_ms: 1,
            receive_count: 1,
            source: 0,
            state: MessageState::InFlight,
            until_ms: 0,
            handle: [0; HANDLE_BYTES],
        };
        Parked::new(&reply, Shown::HandedOut, &[delivery], vec![None])
    }

    #[test]
    fn replies_that_wait_are_bounded_by_their_bytes() {
        let mut parked_replies = ParkedReplies::default();
        parked_replies.push(parked(OTHER));
        for _ in 1..limits::PARKED_BYTES_MAX >> 20 {
            assert!(parked_replies.has_room());
            parked_replies.push(parked(ONE));
        }
        assert!(!parked_replies.has_room());
        // What is looked at and goes on waiting counts as before.
        for parked in parked_replies.take() {
            parked_replies.push(parked);
        }
        assert!(!parked_replies.has_room());
        let mut undelivered = Vec::new();
        parked_replies.drop_those_for(OTHER, &mut undelivered);
        assert!(parked_replies.has_room() && undelivered.len() == 1);
        assert!(parked_replies.has_any_for(ONE) && !parked_replies.has_any_for(OTHER));
    }
}
