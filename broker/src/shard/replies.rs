//! From the engine's outputs to bytes on their way: each reply is encoded into its connection's
//! buffer, and held there until what it reveals or relies on is durable (rule 1).

use std::borrow::Cow;
use std::ops::Range;

use tenpin_protocol::{
    ErrorCode, ErrorFrame, MessageState, Operation, OutcomeReplyWriter, PeekReplyWriter, PeekedFixed,
    ReceiveReplyWriter, ReceivedFixed, Response, SendReplyWriter,
};

use super::Core;
use super::cold::Parked;
use super::connection::{Connection, Stage};
use super::dead_letters::{source_arn, with_source};
use super::driver::ConnectionId;
use super::input::is_over;
use super::limits;
use super::rare_replies::encode_rare;
use crate::engine::records::StoredMessage;
use crate::engine::{BATCH_ENTRIES_MAX, Delivery, Engine, Outcome, Outputs, Reply, ReplyBody, Ticket};
use crate::flaws::{Flaw, Flaws};
use crate::journal::{ColdRecord, Log, Position, RawRecord};

/// A reply in its connection's held queue.
#[derive(Debug)]
pub(super) struct Held {
    depends_on: Position,
    ticket: Ticket,
    length: u32,
    deliveries: u32,
    stale_after_ms: u64,
}

impl<F: Flaws> Core<F> {
    /// Encodes what the engine has answered.
    pub(super) fn write_replies(&mut self) {
        if self.outputs.replies.is_empty() {
            return;
        }
        for index in 0..self.outputs.replies.len() {
            self.write_reply(index);
        }
        self.outputs.clear();
    }

    fn write_reply(&mut self, index: usize) {
        let Self { connections, outputs, log, engine, .. } = self;
        let reply = &outputs.replies[index];
        let Reply { ticket, depends_on, stale_after_ms, .. } = *reply;
        let Some(connection) = connections.get_mut(ticket.connection) else {
            // The engine forgets the waits of a connection that is gone, and other replies follow
            // their requests at once; so nothing can be delivered here.
            debug_assert!(!matches!(&reply.body, ReplyBody::Received(range) if !range.is_empty()));
            return;
        };
        if reply.ends_wait {
            connection.long_polls -= 1;
        }
        let is_held = depends_on > log.committed();
        let buffer = if is_held { connection.held_buffer() } else { &mut connection.out };
        let start = buffer.len();
        let mut handed_out: &[Delivery] = &[];
        if let ReplyBody::Received(range) = &reply.body
            && let deliveries = part(&outputs.deliveries, range)
            && let Some(records) = records_in_memory(log, deliveries)
        {
            encode_received(buffer, ticket.correlation, deliveries, &records, engine);
            handed_out = deliveries;
        } else {
            let (deliveries, shown) = messages_in(reply, outputs);
            if !all_here(log, deliveries) {
                let arns = deliveries.iter().map(|delivery| source_arn(engine, delivery)).collect();
                let parked = Parked::new(reply, shown, deliveries, arns);
                return self.park(parked);
            }
            encode(buffer, reply, outputs, log, engine);
            if shown == Shown::HandedOut {
                handed_out = deliveries;
            }
        }
        let length = (buffer.len() - start) as u32;
        if !handed_out.is_empty() {
            self.room_waits.taken(self.clock.monotonic_ms());
        }
        let messages = handed_out.iter().map(Delivery::message);
        if is_held {
            connection.note_held_deliveries(messages);
            let deliveries = handed_out.len() as u32;
            self.hold(ticket, depends_on, length, deliveries, stale_after_ms);
        } else {
            connection.note_deliveries(messages);
            self.replied(ticket, stale_after_ms);
        }
    }

    /// Notes that a connection's held queue has one more reply at its end.
    pub(super) fn hold(
        &mut self,
        ticket: Ticket,
        depends_on: Position,
        length: u32,
        deliveries: u32,
        stale_after_ms: u64,
    ) {
        // Replies leave in one order for all; one that relies on less than its predecessor waits
        // for it, which is at most the write that is under way.
        let depends_on = self.held.back().map_or(depends_on, |last| last.depends_on.max(depends_on));
        self.held.push_back(Held { depends_on, ticket, length, deliveries, stale_after_ms });
    }

    /// Lets replies go whose ground is durable now.
    pub(super) fn release_held(&mut self) {
        let committed = self.log.committed();
        let now_ms = self.now_ms();
        while self.held.front().is_some_and(|held| held.depends_on <= committed) {
            let Some(held) = self.held.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(held.ticket.connection) else { continue };
            if held.deliveries > 0 && now_ms >= held.stale_after_ms && !F::has(Flaw::SendStaleDeliveries) {
                // Rule 2: the messages may be somebody else's by now.
                connection.drop_held(held.length as usize, held.deliveries as usize);
                ReceiveReplyWriter::begin(&mut connection.out, held.ticket.correlation).finish();
            } else {
                connection.release_held(held.length as usize, held.deliveries as usize);
            }
            self.replied(held.ticket, held.stale_after_ms);
        }
    }

    /// A reply stands at the end of what may leave on its connection: it goes out, or to the shard that
    /// the connection stands for.
    #[inline]
    pub(super) fn replied(&mut self, ticket: Ticket, stale_after_ms: u64) {
        if ticket.connection.is_of_peer() {
            return self.reply_to_peer(ticket, stale_after_ms);
        }
        self.has_more_to_send(ticket.connection);
    }

    /// Puts a connection on the list of those to flush, or closes it if it takes nothing.
    pub(super) fn has_more_to_send(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        Self::mark_dirty(&mut self.dirty, connection);
        let may_be_slow =
            connection.long_polls > 0 && connection.unsent_bytes() > limits::UNSENT_BYTES_WHEN_SHORT;
        if may_be_slow && self.slow_readers.last() != Some(&id) {
            self.slow_readers.push(id);
        }
        if connection.unsent_bytes() > limits::UNSENT_BYTES_CLOSED_AT && connection.stage != Stage::Closing {
            connection.stage = Stage::Closing;
            self.closing.push((id, true));
        }
    }

    /// Who does not take what it was given is given no more: its long polls, here and on other shards, end with
    /// nothing. As its requests wait, too, no more begin before it reads.
    pub(super) fn end_waits_of_slow_readers(&mut self) {
        for id in std::mem::take(&mut self.slow_readers) {
            let short = self.is_short();
            let is_slow =
                |connection: &mut Connection| connection.long_polls > 0 && is_over(connection, short);
            if self.connections.get_mut(id).is_some_and(is_slow) {
                self.answer_waits_of(id);
            }
        }
    }

    pub(super) fn sent(&mut self, id: ConnectionId, buffer: Vec<u8>, written: usize) {
        let now_ms = self.monotonic_ms();
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.sent(buffer, written);
        connection.count_unsent(&mut self.unsent_bytes);
        if connection.stalled || connection.stage == Stage::Closing {
            // A reader that reads is not silent, though nothing is read from it meanwhile.
            connection.heard_ms = now_ms;
        }
        if !connection.out.is_empty() {
            Self::mark_dirty(&mut self.dirty, connection);
        }
    }

    /// Tells a connection why it is closed, and closes it once that is sent.
    pub(super) fn refuse_connection(&mut self, id: ConnectionId, code: ErrorCode, text: &str) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stage == Stage::Closing {
            // It was told why already, and did not take it.
            return self.closing.push((id, true));
        }
        connection.stage = Stage::Closing;
        ErrorFrame::encode(&mut connection.out, 0, 0, code, text);
        Self::mark_dirty(&mut self.dirty, connection);
        self.closing.push((id, false));
    }

    /// Says in HTTP that the SQS endpoint is elsewhere, as an SDK shows it to whoever has mixed up the ports.
    #[cold]
    pub(super) fn refuse_http(&mut self, id: ConnectionId) {
        const BODY: &str = r#"{"__type":"WrongPort","message":"This port speaks the binary protocol of Tenpin. The SQS endpoint has another one: 9324, unless sqs_listen says otherwise."}"#;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            BODY.len()
        );
        connection.stage = Stage::Closing;
        connection.out.extend_from_slice(head.as_bytes());
        connection.out.extend_from_slice(BODY.as_bytes());
        Self::mark_dirty(&mut self.dirty, connection);
        self.closing.push((id, false));
    }

    /// Takes nothing more from a connection, and closes it once it has what it is owed.
    pub(super) fn close_when_flushed(&mut self, id: ConnectionId) {
        let now_ms = self.monotonic_ms();
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stage = Stage::Closing;
            // It has time to take that, however long its input had to wait.
            connection.heard_ms = now_ms;
            self.closing.push((id, false));
        }
    }

    /// Answers a request with an error of its own.
    pub(super) fn refuse_request(&mut self, ticket: Ticket, code: ErrorCode, text: &str) {
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        let operation = ticket.operation.number();
        ErrorFrame::encode(&mut connection.out, operation, ticket.correlation, code, text);
        self.replied(ticket, u64::MAX);
    }

    /// A request is answered in a later turn; until then its connection is owed something.
    pub(super) fn owes_later(&mut self, ticket: Ticket) {
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.asked_elsewhere += 1;
        }
    }

    /// That answer comes now.
    pub(super) fn owed_comes(&mut self, ticket: Ticket) {
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.asked_elsewhere -= 1;
        }
    }

    /// Answers a request with a reply that relies on nothing in the log.
    pub(super) fn answer(&mut self, ticket: Ticket, response: &Response<'_>) {
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        response.encode(ticket.correlation, &mut connection.out);
        self.replied(ticket, u64::MAX);
    }
}

/// What a reply with messages does with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// They are the receiver's until their visibility timeout.
    HandedOut,
    /// They are only looked at; a further look goes on there, if there is more.
    Peeked(Option<Box<[u8]>>),
}

fn messages_in<'o>(reply: &Reply, outputs: &'o Outputs) -> (&'o [Delivery], Shown) {
    match &reply.body {
        ReplyBody::Received(range) => (part(&outputs.deliveries, range), Shown::HandedOut),
        ReplyBody::Peeked(range, cursor) => (part(&outputs.deliveries, range), Shown::Peeked(cursor.clone())),
        _ => (&[], Shown::HandedOut),
    }
}

/// The records of a batch of messages, where all of them are in memory: nearly always.
#[inline(always)]
fn records_in_memory<'l, F: Flaws>(
    log: &'l Log<F>,
    deliveries: &[Delivery],
) -> Option<[&'l [u8]; BATCH_ENTRIES_MAX]> {
    let mut records = [&[][..]; BATCH_ENTRIES_MAX];
    for (record, delivery) in records.iter_mut().zip(deliveries) {
        *record = log.bytes(delivery.position, delivery.length)?;
    }
    (deliveries.len() <= BATCH_ENTRIES_MAX).then_some(records)
}

/// Writes the reply to a receive of messages whose records are in memory.
#[inline]
fn encode_received<F: Flaws>(
    out: &mut Vec<u8>,
    correlation: u32,
    deliveries: &[Delivery],
    records: &[&[u8]; BATCH_ENTRIES_MAX],
    engine: &Engine<F>,
) {
    let mut writer = ReceiveReplyWriter::begin(out, correlation);
    for (delivery, record) in deliveries.iter().zip(records) {
        let Some(stored) = stored_message(record) else { continue };
        let fixed = received_fixed(delivery, &stored);
        let body_bytes = stored.body_bytes as usize;
        if delivery.source == 0 {
            writer.push(&fixed, &delivery.handle, stored.content, body_bytes);
        } else {
            let arn = source_arn(engine, delivery);
            writer.push(&fixed, &delivery.handle, &shown_content(&stored, arn.as_deref()), body_bytes);
        }
    }
    writer.finish();
}

/// Whether the bodies of all these messages can be given now; reads those that have left memory.
fn all_here<F: Flaws>(log: &mut Log<F>, deliveries: &[Delivery]) -> bool {
    let mut all = true;
    for delivery in deliveries {
        // One set aside as damaged is only shown, without its content.
        let is_shown = delivery.state == MessageState::Damaged;
        if !is_shown && log.bytes(delivery.position, delivery.length).is_none() {
            all &= matches!(log.cold_record(delivery.position, delivery.length), ColdRecord::Here(_));
        }
    }
    all
}

fn part<'o, T>(list: &'o [T], range: &Range<u32>) -> &'o [T] {
    &list[range.start as usize..range.end as usize]
}

fn encode<F: Flaws>(out: &mut Vec<u8>, reply: &Reply, outputs: &Outputs, log: &Log<F>, engine: &Engine<F>) {
    let correlation = reply.ticket.correlation;
    match &reply.body {
        ReplyBody::Received(_) | ReplyBody::Peeked(..) => {
            let (deliveries, shown) = messages_in(reply, outputs);
            let records = deliveries.iter().map(|delivery| {
                // `write_reply` has just seen that all of them are here.
                let record = log.record_here(delivery.position, delivery.length).unwrap_or_default();
                (delivery, record, source_arn(engine, delivery))
            });
            encode_messages(out, correlation, &shown, records);
        }
        ReplyBody::Sent(range) => {
            let mut writer = SendReplyWriter::begin(out, correlation);
            for outcome in part(&outputs.sent, range) {
                match outcome {
                    Ok(accepted) => writer.accepted(accepted.id, accepted.sequence_number),
                    Err(refusal) => writer.refused(refusal.code, &refusal.text),
                };
            }
            writer.finish();
        }
        ReplyBody::Deleted(range) => {
            encode_outcomes(out, Operation::Delete, correlation, part(&outputs.outcomes, range))
        }
        ReplyBody::Hidden(range) => {
            encode_outcomes(out, Operation::ChangeVisibility, correlation, part(&outputs.outcomes, range));
        }
        body => encode_rare(out, reply.ticket, body),
    }
}

fn encode_outcomes(out: &mut Vec<u8>, operation: Operation, correlation: u32, outcomes: &[Outcome]) {
    let mut writer = OutcomeReplyWriter::begin(out, operation, correlation);
    for outcome in outcomes {
        match outcome {
            Ok(()) => writer.succeeded(),
            Err(refusal) => writer.refused(refusal.code, &refusal.text),
        };
    }
    writer.finish();
}

/// Writes the reply to a receive or a peek, each message from the bytes of its record, a dead letter with
/// the ARN of its source.
pub(super) fn encode_messages<'r>(
    out: &mut Vec<u8>,
    correlation: u32,
    shown: &Shown,
    messages: impl Iterator<Item = (&'r Delivery, &'r [u8], Option<String>)>,
) {
    match shown {
        Shown::HandedOut => {
            let mut writer = ReceiveReplyWriter::begin(out, correlation);
            for (delivery, record, arn) in messages {
                let Some(stored) = stored_message(record) else { continue };
                let fixed = received_fixed(delivery, &stored);
                let content = shown_content(&stored, arn.as_deref());
                writer.push(&fixed, &delivery.handle, &content, stored.body_bytes as usize);
            }
            writer.finish();
        }
        Shown::Peeked(next) => {
            let mut writer = PeekReplyWriter::begin(out, correlation);
            for (delivery, record, arn) in messages {
                let damaged = delivery.state == MessageState::Damaged;
                let stored = stored_message(record).filter(|_| !damaged).unwrap_or(NOTHING_STORED);
                let fixed = PeekedFixed {
                    state: delivery.state.number(),
                    message: received_fixed(delivery, &stored),
                    until_ms: delivery.until_ms,
                };
                let content = shown_content(&stored, arn.as_deref().filter(|_| !damaged));
                writer.push(&fixed, &content, stored.body_bytes as usize);
            }
            writer.finish(next.as_deref());
        }
    }
}

/// A message's content as it is given out.
#[inline]
fn shown_content<'r>(stored: &StoredMessage<'r>, arn: Option<&str>) -> Cow<'r, [u8]> {
    match arn {
        None => Cow::Borrowed(stored.content),
        Some(arn) => with_source(stored.content, stored.body_bytes as usize, stored.id, arn).into(),
    }
}

/// Stands for the record of a message that was set aside because it cannot be read.
const NOTHING_STORED: StoredMessage<'static> =
    StoredMessage { slot: 0, sequence: 0, id: [0; 16], sent_at_ms: 0, body_bytes: 0, content: &[] };

/// The message in a record; recovery or the engine has seen that it is one.
#[inline(always)]
fn stored_message(record: &[u8]) -> Option<StoredMessage<'_>> {
    let raw = RawRecord::parse(record).ok()?;
    StoredMessage::parse(&raw).ok()
}

#[inline(always)]
fn received_fixed(delivery: &Delivery, stored: &StoredMessage<'_>) -> ReceivedFixed {
    ReceivedFixed {
        id: stored.id,
        sequence_number: delivery.sequence_number,
        sent_at_ms: delivery.sent_at_ms,
        first_received_at_ms: delivery.first_received_at_ms,
        receive_count: delivery.receive_count,
    }
}
