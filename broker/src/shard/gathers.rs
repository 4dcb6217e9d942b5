//! Requests that several shards have a part in: batches of handles, counts, and looks at messages.

use std::collections::BTreeMap;

use tenpin_protocol::{
    ANY_SHARD, Attribute, AttributeCode, AttributeValue, AttributesReply, Entries, ErrorCode, ErrorFrame,
    Frame, Operation, OutcomeReplyWriter, PeekReply, PeekRequest, Request, Response, Statistic,
    StatisticCode, StatsReply, finish_frame, split_frame,
};

use super::Core;
use super::routes::{Taken, payload_of};
use crate::engine::Ticket;
use crate::exchange::parcel::Reply;
use crate::exchange::{Batch, Combine, EntryOutcome, Pending, Sum};
use crate::flaws::Flaws;

/// Bytes of the shard's number in front of what a peek says of where to go on.
const SHARD_BYTES: usize = 2;

impl<F: Flaws> Core<F> {
    /// Goes on with what a shard, perhaps this one, has answered this one.
    pub(super) fn go_on(&mut self, from: u16, reply: Reply) {
        let pending = self.exchange.pending.take(reply.correlation);
        match pending {
            Some(Pending::Search(search)) => self.searched(from, *search, reply),
            Some(Pending::FirstTry(first)) => self.tried_elsewhere(from, &first, reply),
            Some(Pending::Hinted { ticket, queue }) => self.hint_came_true(from, ticket, queue, reply),
            Some(Pending::BatchPart { batch, places }) => self.took_part(batch, &places, &reply.frame),
            Some(Pending::SumPart { sum }) => self.summed_up(from, sum, &reply.frame),
            Some(Pending::Peek { ticket, shard }) => self.peeked(ticket, shard, reply.frame),
            None => debug_assert!(false, "an answer to what was never asked"),
        }
    }

    /// Writes a frame that another shard has made to whom it is for.
    fn pass_frame(&mut self, ticket: Ticket, frame: &[u8]) {
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        let start = connection.out.len();
        connection.out.extend_from_slice(frame);
        connection.out[start + 12..start + 16].copy_from_slice(&ticket.correlation.to_le_bytes());
        finish_frame(&mut connection.out, start);
        connection.asked_elsewhere -= 1;
        self.replied(ticket, u64::MAX);
    }
}

/// Batches of handles.
impl<F: Flaws> Core<F> {
    /// Asks each shard that has a part of a batch.
    pub(super) fn ask_in_parts(
        &mut self,
        ticket: Ticket,
        shards: &[u16],
        payload: impl Fn(&[u8]) -> Vec<u8>,
    ) {
        let mut parts: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        for (place, shard) in shards.iter().enumerate() {
            parts.entry(*shard).or_default().push(place as u8);
        }
        let frame_bytes_max = self.frame_bytes_max(ticket);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.asked_elsewhere += 1;
        }
        let batch = self.exchange.pending.begin_batch(Batch {
            ticket,
            outcomes: vec![None; shards.len()],
            parts_left: parts.len() as u16,
        });
        for (shard, places) in parts {
            let payload = payload(&places);
            let id = self.exchange.pending.insert(Pending::BatchPart { batch, places });
            self.ask(shard, id, ticket.operation, frame_bytes_max, false, payload);
        }
    }

    fn took_part(&mut self, batch: u32, places: &[u8], frame: &[u8]) {
        let outcomes = outcomes_of(frame, places.len());
        let Some(batch) = self.exchange.pending.batch_part(batch, places, outcomes) else { return };
        let Some(connection) = self.connections.get_mut(batch.ticket.connection) else { return };
        connection.asked_elsewhere -= 1;
        let Ticket { correlation, operation, .. } = batch.ticket;
        let outcomes: Vec<EntryOutcome> = batch.outcomes.into_iter().flatten().collect();
        // A queue that is gone on one shard soon is on all.
        let missing = ErrorCode::QueueDoesNotExist;
        if outcomes.iter().any(|(number, _)| *number == missing.number()) {
            ErrorFrame::encode(&mut connection.out, operation.number(), correlation, missing, missing.text());
        } else {
            let mut writer = OutcomeReplyWriter::begin(&mut connection.out, operation, correlation);
            for (number, text) in outcomes {
                match ErrorCode::from_number(number) {
                    None if number == 0 => writer.succeeded(),
                    code => writer.refused(code.unwrap_or(ErrorCode::Internal), text.unwrap_or_default()),
                };
            }
            writer.finish();
        }
        self.replied(batch.ticket, u64::MAX);
    }
}

/// What became of the entries of a part. Where the part was refused as a whole, each was.
fn outcomes_of(frame: &[u8], count: usize) -> Vec<EntryOutcome> {
    let decoded = split_frame(frame, usize::MAX).ok().flatten();
    let response = decoded.and_then(|(frame, _)| Response::decode(&frame).ok());
    match response {
        Some(Response::Delete(reply) | Response::ChangeVisibility(reply)) => {
            reply.outcomes.iter().map(|outcome| (outcome.number, outcome.text.map(str::to_owned))).collect()
        }
        Some(Response::Error(error)) => vec![(error.number, error.text.map(str::to_owned)); count],
        _ => vec![(ErrorCode::Internal.number(), None); count],
    }
}

/// Counts.
impl<F: Flaws> Core<F> {
    /// Asks all shards the same, to add up what they count.
    pub(super) fn sum_up(&mut self, ticket: Ticket, frame: &Frame<'_>) -> Taken {
        if let Some(lacking) = self.lacking_credit() {
            return Taken::LacksCreditOf(lacking);
        }
        let frame_bytes_max = self.frame_bytes_max(ticket);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.asked_elsewhere += 1;
        }
        let shards = self.exchange.shards;
        let sum =
            Sum { ticket, first: Vec::new(), is_refused: false, sums: BTreeMap::new(), parts_left: shards };
        let sum = self.exchange.pending.begin_sum(sum);
        for shard in 0..shards {
            let id = self.exchange.pending.insert(Pending::SumPart { sum });
            self.ask(shard, id, ticket.operation, frame_bytes_max, false, frame.payload.to_vec());
        }
        Taken::Yes
    }

    fn summed_up(&mut self, from: u16, sum: u32, frame: &[u8]) {
        // The catalog is shard 0's: whether there is the queue, and what it is like.
        let is_refused = is_refused(frame);
        let first = (from == 0 || is_refused).then(|| frame.to_vec());
        let parts = numbers_of(frame).into_iter();
        let Some(sum) = self.exchange.pending.sum_part(sum, first, is_refused, parts) else { return };
        let Sum { ticket, first, sums, .. } = sum;
        let decoded = split_frame(&first, usize::MAX).ok().flatten();
        let response = decoded.and_then(|(frame, _)| Response::decode(&frame).ok());
        let mut frame = Vec::new();
        match response {
            Some(Response::GetAttributes(reply)) => {
                let attributes: Vec<Attribute<'_>> = reply
                    .attributes
                    .iter()
                    .map(|attribute| match (attribute.code(), sums.get(&attribute.number)) {
                        (Some(code), Some(sum)) => Attribute::new(code, AttributeValue::Number(*sum)),
                        _ => attribute,
                    })
                    .collect();
                let reply = AttributesReply { attributes: Entries::of(&attributes) };
                Response::GetAttributes(reply).encode(ticket.correlation, &mut frame);
            }
            Some(Response::Stats(reply)) => {
                let statistics: Vec<Statistic> = reply
                    .statistics
                    .iter()
                    .map(|Statistic { number, value }| Statistic {
                        number,
                        value: sums.get(&number).copied().unwrap_or(value),
                    })
                    .collect();
                let reply = StatsReply { statistics: Entries::of(&statistics) };
                Response::Stats(reply).encode(ticket.correlation, &mut frame);
            }
            _ => frame.clone_from(&first),
        }
        self.pass_frame(ticket, &frame);
    }
}

/// Whether a shard refuses its part. That it does not know the queue (any more, or yet) is no refusal: it
/// has none of its messages.
fn is_refused(frame: &[u8]) -> bool {
    let decoded = split_frame(frame, usize::MAX).ok().flatten();
    match decoded.and_then(|(frame, _)| Response::decode(&frame).ok()) {
        Some(Response::Error(error)) => error.number != ErrorCode::QueueDoesNotExist.number(),
        _ => false,
    }
}

/// Attributes that are counts, of which each shard has its part.
const COUNTS: [AttributeCode; 3] = [
    AttributeCode::ApproximateNumberOfMessages,
    AttributeCode::ApproximateNumberOfMessagesNotVisible,
    AttributeCode::ApproximateNumberOfMessagesDelayed,
];

/// The numbers in a reply of which each shard has its own.
fn numbers_of(frame: &[u8]) -> Vec<(u16, u64, Combine)> {
    let decoded = split_frame(frame, usize::MAX).ok().flatten();
    match decoded.and_then(|(frame, _)| Response::decode(&frame).ok()) {
        Some(Response::GetAttributes(reply)) => reply
            .attributes
            .iter()
            .filter(|attribute| attribute.code().is_some_and(|code| COUNTS.contains(&code)))
            .map(|attribute| (attribute.number, attribute.value, Combine::Add))
            .collect(),
        Some(Response::Stats(reply)) => reply
            .statistics
            .iter()
            // There are as many queues on each shard.
            .filter(|statistic| statistic.number != StatisticCode::Queues.number())
            .map(|statistic| {
                let is_age = statistic.number == StatisticCode::OldestAgeMs.number();
                (statistic.number, statistic.value, if is_age { Combine::Greatest } else { Combine::Add })
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Looks at messages: the pages of one shard after those of the other.
impl<F: Flaws> Core<F> {
    pub(super) fn peek_everywhere(&mut self, ticket: Ticket, request: &PeekRequest<'_>) -> Taken {
        if let Some(lacking) = self.lacking_credit() {
            return Taken::LacksCreditOf(lacking);
        }
        let (shard, next) = match request.next.map(|next| next.split_first_chunk::<SHARD_BYTES>()) {
            None => (0, None),
            Some(Some((shard, next))) => (u16::from_le_bytes(*shard), (!next.is_empty()).then_some(next)),
            Some(None) => (ANY_SHARD, None),
        };
        if shard >= self.exchange.shards {
            let text = "Invalid or expired next token.";
            self.refuse_request(ticket, ErrorCode::InvalidParameterValue, text);
            return Taken::Yes;
        }
        let reply_bytes_max = self.reply_bytes_max(ticket, request.reply_bytes_max);
        let frame_bytes_max = self.frame_bytes_max(ticket);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.asked_elsewhere += 1;
        }
        let id = self.exchange.pending.insert(Pending::Peek { ticket, shard });
        let payload = payload_of(&Request::Peek(PeekRequest { next, reply_bytes_max, ..*request }));
        self.ask(shard, id, Operation::Peek, frame_bytes_max, false, payload);
        Taken::Yes
    }

    fn peeked(&mut self, ticket: Ticket, shard: u16, frame: Vec<u8>) {
        let decoded = split_frame(&frame, usize::MAX).ok().flatten();
        let response = decoded.and_then(|(frame, _)| Response::decode(&frame).ok());
        let Some(Response::Peek(reply)) = response else { return self.pass_frame(ticket, &frame) };
        let (shard, rest) = match reply.next {
            Some(next) => (shard, next),
            None => (shard + 1, &[][..]),
        };
        let next: Vec<u8> = shard.to_le_bytes().into_iter().chain(rest.iter().copied()).collect();
        let next = (shard < self.exchange.shards).then_some(&next[..]);
        let mut page = Vec::new();
        Response::Peek(PeekReply { next, ..reply }).encode(ticket.correlation, &mut page);
        self.pass_frame(ticket, &page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::PendingTable;
    use crate::shard::driver::ConnectionId;

    #[test]
    fn the_oldest_message_of_all_shards_is_as_old_as_it_is_on_its_own() {
        let frame = |visible, oldest_age_ms| {
            let statistics = [(StatisticCode::Visible, visible), (StatisticCode::OldestAgeMs, oldest_age_ms)]
                .map(|(code, value)| Statistic { number: code.number(), value });
            let mut frame = Vec::new();
            Response::Stats(StatsReply { statistics: Entries::of(&statistics) }).encode(1, &mut frame);
            frame
        };
        let connection = ConnectionId { index: 0, generation: 0 };
        let ticket = Ticket { connection, correlation: 1, operation: Operation::Stats };
        let sum = Sum { ticket, first: Vec::new(), is_refused: false, sums: BTreeMap::new(), parts_left: 3 };
        let mut pending = PendingTable::default();
        let id = pending.begin_sum(sum);
        let mut add = |frame: Vec<u8>| pending.sum_part(id, None, false, numbers_of(&frame).into_iter());
        assert!(add(frame(2, 500)).is_none());
        assert!(add(frame(4, 900)).is_none());
        let sum = add(frame(3, 0)).expect("it was the last");
        assert_eq!(sum.sums[&StatisticCode::Visible.number()], 9);
        assert_eq!(sum.sums[&StatisticCode::OldestAgeMs.number()], 900);
    }
}
