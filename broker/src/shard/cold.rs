//! Replies whose bodies are not in memory any more: they wait until the log has read them back.

use tenpin_protocol::MessageState;

use super::Core;
use super::driver::ConnectionId;
use super::replies::{Shown, encode_messages};
use crate::engine::{Command, DeliveredMessage, Delivery, Reply, Ticket};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{ColdRecord, Position};

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
        }
    }

    /// Leaves out a message that is not to be given out any more.
    fn remove(&mut self, index: usize) {
        self.deliveries.remove(index);
        self.arns.remove(index);
        self.records.remove(index);
    }

    pub(super) fn is_for(&self, connection: ConnectionId) -> bool {
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
        for mut parked in std::mem::take(&mut self.parked) {
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
        if self.now_ms() >= parked.stale_after_ms && !F::has(Flaw::SendStaleDeliveries) {
            parked.deliveries.clear();
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
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
        self.parked.retain(|parked| {
            let keep = !parked.is_for(id);
            if !keep {
                undelivered.extend(parked.handed_out());
            }
            keep
        });
    }
}
