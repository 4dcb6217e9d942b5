//! One connection: what came in and is not yet a whole frame, what goes out and is not yet sent,
//! and which deliveries are in it.

use std::collections::VecDeque;

use super::byte_queue::ByteQueue;
use super::driver::{ConnectionId, PEER_INDICES_FROM};
use super::limits;
use crate::engine::DeliveredMessage;
use crate::exchange::parcel::Asker;

/// Stands for this shard where a delivery's shard is named.
const LOCAL: u16 = u16::MAX;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its hello has not come yet.
    Greeting,
    /// Its requests are served.
    Serving,
    /// It goes to another shard, which serves what has come of it.
    Leaving {
        /// That shard.
        home: u16,
    },
    /// Nothing more is taken from it; it closes once what it is owed is sent.
    Closing,
}

/// The shard's state of a connection. Owned by the shard.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) stage: Stage,
    /// The largest frame agreed on at hello.
    pub(super) frame_bytes_max: usize,
    /// Bytes that are not yet a frame, or that wait while the connection is stalled.
    pub(super) input: ByteQueue,
    /// Input waits: for the connection to read its replies, for the log, or for room in it.
    pub(super) stalled: bool,
    /// The driver reads from it.
    pub(super) is_read: bool,
    /// It has asked for messages, or deleted some.
    pub(super) takes_messages: bool,
    /// When bytes last came, in monotonic time.
    pub(super) heard_ms: u64,
    /// Another shard accepted it, and has given it to this one for good.
    pub(super) was_handed_over: bool,
    /// Long polls that wait.
    pub(super) long_polls: u32,
    /// Whom it stands for on another shard; `None`: it is a connection of this one.
    pub(super) origin: Option<(u16, Asker)>,
    /// Shards that serve requests of it, and so know it; and how many requests that took credit each of
    /// them has not answered.
    pub(super) known_by: Vec<(u16, u32)>,
    /// Requests that other shards have not answered, or that this one answers in a later turn.
    pub(super) asked_elsewhere: u32,
    /// Bytes of requests that took credit, since all of them were answered.
    pub(super) asked_elsewhere_bytes: usize,
    /// Those of them that are receives on FIFO queues and wait there for a message.
    pub(super) receives_elsewhere: u32,
    /// The correlation id of its goodbye, which is answered behind all else that it is owed.
    pub(super) goodbye: Option<u32>,
    /// The shard without whose answers its next request cannot be taken (rule 25).
    pub(super) lacks_credit_of: Option<u16>,
    /// Whether it stands on the list of those with something to send.
    pub(super) dirty: bool,
    /// Replies that may leave.
    pub(super) out: Vec<u8>,
    /// Replies that wait until what they rely on is durable.
    held: ByteQueue,
    /// The messages in held replies, in their order.
    held_messages: VecDeque<DeliveredMessage>,
    /// Bytes that the driver has.
    sending_bytes: usize,
    sending: bool,
    spare: Vec<u8>,
    /// What of it the shard's sum of unsent bytes includes.
    counted_bytes: usize,
    /// Offset in the stream of what the kernel has taken.
    taken: u64,
    /// Replies with deliveries that the kernel has not taken whole: where each ends in the stream,
    /// how many of `unwritten_messages` are in it, and whose these are.
    unwritten: VecDeque<(u64, u32, u16)>,
    unwritten_messages: VecDeque<DeliveredMessage>,
    undelivered_elsewhere: Vec<(u16, Vec<DeliveredMessage>)>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, monotonic_ms: u64, frame_bytes_max: usize) -> Self {
        Self {
            id,
            stage: Stage::Greeting,
            frame_bytes_max,
            input: ByteQueue::default(),
            stalled: false,
            is_read: true,
            takes_messages: false,
            heard_ms: monotonic_ms,
            was_handed_over: false,
            long_polls: 0,
            origin: None,
            known_by: Vec::new(),
            asked_elsewhere: 0,
            asked_elsewhere_bytes: 0,
            receives_elsewhere: 0,
            goodbye: None,
            lacks_credit_of: None,
            dirty: false,
            out: Vec::new(),
            held: ByteQueue::default(),
            held_messages: VecDeque::new(),
            sending_bytes: 0,
            sending: false,
            spare: Vec::new(),
            counted_bytes: 0,
            taken: 0,
            unwritten: VecDeque::new(),
            unwritten_messages: VecDeque::new(),
            undelivered_elsewhere: Vec::new(),
        }
    }

    /// Bytes of replies that the kernel has not taken.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len() + self.held.len() + self.sending_bytes
    }

    /// Brings the shard's sum of unsent bytes up to date with this connection.
    pub(super) fn count_unsent(&mut self, all_bytes: &mut usize) {
        let bytes = self.unsent_bytes();
        *all_bytes = *all_bytes + bytes - self.counted_bytes;
        self.counted_bytes = bytes;
    }

    /// The connection is gone: the sum counts nothing of it any more.
    pub(super) fn uncount(&mut self, all_bytes: &mut usize) {
        *all_bytes -= self.counted_bytes;
        self.counted_bytes = 0;
    }

    /// Whether as much is asked of other shards as may be.
    pub(super) fn asks_too_much(&self) -> bool {
        self.asked_elsewhere - self.receives_elsewhere >= limits::ASKED_ELSEWHERE_MAX
            || self.asked_elsewhere_bytes >= limits::ASKED_ELSEWHERE_BYTES_MAX
    }

    /// A shard serves a request of it, and so knows it; `credit`: how much that took.
    pub(super) fn is_known_by(&mut self, shard: u16, credit: u32) {
        match self.known_by.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, out)) => *out += credit,
            None => self.known_by.push((shard, credit)),
        }
    }

    /// A shard that knows it has answered a request that took credit.
    pub(super) fn credit_returns(&mut self, shard: u16) {
        if let Some((_, out)) = self.known_by.iter_mut().find(|(known, _)| *known == shard) {
            *out -= 1;
        }
        if self.known_by.iter().all(|(_, out)| *out == 0) {
            self.asked_elsewhere_bytes = 0;
        }
    }

    /// Whether everything it was owed is sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent_bytes() == 0 && self.asked_elsewhere == 0 && self.goodbye.is_none()
    }

    /// Whether answers are still to come that may leave only later.
    pub(super) fn awaits_answers(&self) -> bool {
        !self.held.is_empty() || self.asked_elsewhere > 0
    }

    /// Gives memory back that a connection has no use for while it is silent.
    pub(super) fn give_memory_back(&mut self) {
        self.input.give_memory_back();
        self.spare = Vec::new();
        self.out.shrink_to_fit();
        self.held.give_memory_back();
        self.held_messages.shrink_to_fit();
        self.unwritten.shrink_to_fit();
        self.unwritten_messages.shrink_to_fit();
        self.undelivered_elsewhere.shrink_to_fit();
    }

    /// Notes that the reply which ends at the end of `out` hands out these messages.
    pub(super) fn note_deliveries(&mut self, messages: impl Iterator<Item = DeliveredMessage>) {
        self.note_deliveries_of(LOCAL, messages);
    }

    /// As [`Connection::note_deliveries`], of another shard's messages.
    pub(super) fn note_deliveries_of(
        &mut self,
        shard: u16,
        messages: impl Iterator<Item = DeliveredMessage>,
    ) {
        let before = self.unwritten_messages.len();
        self.unwritten_messages.extend(messages);
        let count = (self.unwritten_messages.len() - before) as u32;
        if count > 0 {
            self.unwritten.push_back((self.out_end(), count, shard));
        }
    }

    /// Where replies that must wait are written; the caller says afterwards what they hand out.
    pub(super) fn held_buffer(&mut self) -> &mut Vec<u8> {
        self.held.end()
    }

    /// Notes messages that the last held reply hands out.
    pub(super) fn note_held_deliveries(&mut self, messages: impl Iterator<Item = DeliveredMessage>) {
        self.held_messages.extend(messages);
    }

    /// Moves the first held reply to what may leave.
    pub(super) fn release_held(&mut self, length: usize, deliveries: usize) {
        self.held.pop_into(length, &mut self.out);
        if deliveries > 0 {
            self.unwritten_messages.extend(self.held_messages.drain(..deliveries));
            self.unwritten.push_back((self.out_end(), deliveries as u32, LOCAL));
        }
    }

    /// Drops the first held reply, which must not leave any more.
    pub(super) fn drop_held(&mut self, length: usize, deliveries: usize) {
        self.held.skip(length);
        self.held_messages.drain(..deliveries);
    }

    /// What to give to the driver now, if anything and if it has nothing of ours.
    pub(super) fn take_out(&mut self) -> Option<Vec<u8>> {
        if self.sending || self.out.is_empty() {
            return None;
        }
        self.sending = true;
        self.sending_bytes = self.out.len();
        Some(std::mem::replace(&mut self.out, std::mem::take(&mut self.spare)))
    }

    /// The driver gives a buffer back.
    pub(super) fn sent(&mut self, mut buffer: Vec<u8>, written: usize) {
        self.sending = false;
        self.sending_bytes = 0;
        self.taken += written as u64;
        while let Some(&(end, count, _)) = self.unwritten.front()
            && end <= self.taken
        {
            self.unwritten.pop_front();
            self.unwritten_messages.drain(..count as usize);
        }
        if buffer.capacity() <= limits::KEPT_BUFFER_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// The messages of replies that never were written whole, when the connection is gone (rule 4).
    pub(super) fn undelivered(&mut self) -> Vec<DeliveredMessage> {
        let mut local = Vec::new();
        let mut messages = std::mem::take(&mut self.unwritten_messages);
        for &(_, count, shard) in &self.unwritten {
            let part = messages.drain(..count as usize);
            if shard == LOCAL {
                local.extend(part);
            } else {
                self.undelivered_elsewhere.push((shard, part.collect()));
            }
        }
        self.unwritten.clear();
        local.extend(self.held_messages.drain(..));
        local
    }

    /// As [`Connection::undelivered`], which is called before: the messages of other shards.
    pub(super) fn undelivered_elsewhere(&mut self) -> Vec<(u16, Vec<DeliveredMessage>)> {
        std::mem::take(&mut self.undelivered_elsewhere)
    }

    /// The only reply in what may leave, and what it hands out: for a connection that stands for another
    /// shard's.
    pub(super) fn take_reply(&mut self) -> (Vec<u8>, Vec<DeliveredMessage>) {
        self.unwritten.clear();
        (std::mem::take(&mut self.out), self.unwritten_messages.drain(..).collect())
    }

    fn out_end(&self) -> u64 {
        self.taken + (self.sending_bytes + self.out.len()) as u64
    }
}

/// The shard's connections by their places in the driver's table, those that stand for connections of
/// other shards, and the gateway's.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Option<Box<Connection>>>,
    count: usize,
    of_peers: Vec<Option<Box<Connection>>>,
    free_of_peers: Vec<u32>,
    of_gateway: Vec<Option<Box<Connection>>>,
    count_of_gateway: usize,
    last_generation: u32,
}

impl Connections {
    /// How many clients are connected to this shard by its driver.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many clients are connected, by the driver or the gateway.
    pub(super) fn clients(&self) -> usize {
        self.count + self.count_of_gateway
    }

    /// Whether any is.
    pub(super) fn has_clients(&self) -> bool {
        self.clients() > 0
    }

    pub(super) fn insert(&mut self, connection: Connection) {
        let (places, count) = match connection.id.is_of_gateway() {
            true => (&mut self.of_gateway, &mut self.count_of_gateway),
            false => (&mut self.places, &mut self.count),
        };
        let index = connection.id.place().1;
        if places.len() <= index {
            places.resize_with(index + 1, || None);
        }
        let before = places[index].replace(Box::new(connection));
        debug_assert!(before.is_none(), "a connection is closed before its place is used again");
        *count += 1;
    }

    /// Adds one that stands for a connection of another shard.
    pub(super) fn insert_of_peer(&mut self, origin: (u16, Asker), frame_bytes_max: usize) -> ConnectionId {
        let place = self.free_of_peers.pop().unwrap_or_else(|| {
            self.of_peers.push(None);
            self.of_peers.len() as u32 - 1
        });
        self.last_generation = self.last_generation.wrapping_add(1);
        let id = ConnectionId { index: PEER_INDICES_FROM | place, generation: self.last_generation };
        let mut connection = Connection::new(id, 0, frame_bytes_max);
        connection.stage = Stage::Serving;
        connection.origin = Some(origin);
        self.of_peers[place as usize] = Some(Box::new(connection));
        id
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = match self.places.get_mut(id.index as usize) {
            Some(place) => place,
            None if id.is_of_peer() => self.of_peers.get_mut(id.place().1)?,
            None if id.is_of_gateway() => self.of_gateway.get_mut(id.place().1)?,
            None => return None,
        };
        place.as_deref_mut().filter(|connection| connection.id == id)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        let place = id.place().1;
        if id.is_of_peer() {
            self.free_of_peers.push(place as u32);
            return self.of_peers[place].take().map(|connection| *connection);
        }
        if id.is_of_gateway() {
            self.count_of_gateway -= 1;
            return self.of_gateway[place].take().map(|connection| *connection);
        }
        self.count -= 1;
        self.places[place].take().map(|connection| *connection)
    }

    /// Those of all clients: the driver's, then the gateway's.
    pub(super) fn clients_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        let all = self.places.iter_mut().chain(&mut self.of_gateway);
        all.filter_map(|place| place.as_deref_mut())
    }

    /// Those of clients that are connected to this shard by its driver.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.places.iter_mut().filter_map(|place| place.as_deref_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::new(ConnectionId { index: 0, generation: 0 }, 0, 1 << 20)
    }

    fn message(slot: u32) -> DeliveredMessage {
        DeliveredMessage { slot, receive_count: 1, sequence: u64::from(slot) + 10 }
    }

    #[test]
    fn a_delivery_is_written_only_when_its_whole_reply_is() {
        let mut connection = connection();
        connection.out.extend_from_slice(&[0; 100]);
        connection.note_deliveries([message(1), message(2)].into_iter());
        connection.out.extend_from_slice(&[0; 50]);
        connection.note_deliveries([message(3)].into_iter());
        let buffer = connection.take_out().expect("there is something to send");
        connection.sent(buffer, 149);
        assert_eq!(connection.undelivered(), [message(3)]);
    }

    #[test]
    fn replies_written_while_a_send_is_under_way_count_from_its_end() {
        let mut connection = connection();
        connection.out.extend_from_slice(&[0; 100]);
        let buffer = connection.take_out().expect("there is something to send");
        connection.out.extend_from_slice(&[0; 10]);
        connection.note_deliveries([message(1)].into_iter());
        assert!(connection.take_out().is_none(), "one send at a time");
        connection.sent(buffer, 100);
        assert_eq!(connection.undelivered(), [message(1)]);
    }

    /// Rule 4: what was held until its ground was durable was not written either.
    #[test]
    fn what_is_held_when_the_connection_closes_was_not_delivered() {
        let mut connection = connection();
        for slot in [1, 2] {
            connection.held_buffer().extend_from_slice(&[0; 10]);
            connection.note_held_deliveries([message(slot)].into_iter());
        }
        connection.release_held(10, 1);
        assert_eq!(connection.undelivered(), [message(1), message(2)]);
    }

    #[test]
    fn held_replies_leave_in_order_or_are_dropped() {
        let mut connection = connection();
        connection.held_buffer().extend_from_slice(&[1; 10]);
        connection.note_held_deliveries([message(1)].into_iter());
        connection.held_buffer().extend_from_slice(&[2; 20]);
        connection.note_held_deliveries([message(2)].into_iter());
        connection.drop_held(10, 1);
        connection.release_held(20, 1);
        assert_eq!(connection.out, [2; 20]);
        let buffer = connection.take_out().expect("there is something to send");
        connection.sent(buffer, 20);
        assert_eq!(connection.undelivered(), []);
        assert!(connection.is_flushed());
    }
}
