//! Connections that cut the stream of bytes anywhere, fill up, and break.
//!
//! A link is one connection. Bytes stay in order, and nothing else is promised: they arrive in
//! pieces of any size, a reader that stops makes the sender wait, and when a link breaks, what was
//! on its way is lost on either side. Beside the bytes, a link remembers when the shard was given
//! each request and when it let go of each reply, which is what the checker judges by.

use std::collections::{BTreeMap, VecDeque};

use crate::shard::driver::ConnectionId;

use super::random::Random;

/// The most that the driver has read ahead of a shard that stopped reading.
pub const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// When the shard let go of the bytes up to an offset.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    end: u64,
    /// Not before this: earlier ones of the shard's replies held the connection.
    pub earliest_ns: u64,
    /// Then the driver was told to send.
    pub latest_ns: u64,
}

#[derive(Debug)]
struct Sending {
    buffer: Vec<u8>,
    taken: usize,
}

/// One connection between a client and the shard.
#[derive(Debug)]
pub struct Link {
    /// What the shard calls it.
    pub id: ConnectionId,
    /// Whose it is.
    pub client: usize,
    /// The shard that has it.
    pub shard: u16,
    /// On the way to the shard.
    upstream: VecDeque<u8>,
    /// Given to the shard's driver and not yet handed over.
    pub read_ahead_bytes: usize,
    /// Whether the shard reads.
    pub reading: bool,
    /// It is on its way from one shard to another: neither reads it.
    pub is_handed_over: bool,
    /// How much the shard was handed, and when each piece of it.
    arrived: u64,
    arrivals: Vec<(u64, u64)>,
    sending: Option<Sending>,
    /// Taken by the kernel, on the way to the client.
    downstream: VecDeque<u8>,
    /// How much the kernel holds for a reader that does not read.
    downstream_bytes_max: usize,
    departed: u64,
    departures: VecDeque<Departure>,
    send_ended_turn: u64,
    send_began_ns: u64,
    /// Whether the client takes what arrives.
    pub client_reads: bool,
    /// The client has closed it in good order; the shard is told when it has read everything.
    pub client_closed: bool,
    /// The shard wants it closed once everything is sent.
    pub lingering: bool,
    /// Both sides have been told, or soon are, that it is gone.
    pub is_gone: bool,
    /// Queues of receives whose client has gone away while the shard may still serve them.
    pub abandoned: Vec<u64>,
    /// Whether a piece is already due in a direction, so that there is one at a time.
    pub up_due: bool,
    /// See `up_due`.
    pub down_due: bool,
    /// See `up_due`.
    pub take_due: bool,
}

impl Link {
    fn new(id: ConnectionId, client: usize, shard: u16, downstream_bytes_max: usize) -> Self {
        Self {
            id,
            client,
            shard,
            upstream: VecDeque::new(),
            read_ahead_bytes: 0,
            reading: true,
            is_handed_over: false,
            arrived: 0,
            arrivals: Vec::new(),
            sending: None,
            downstream: VecDeque::new(),
            downstream_bytes_max,
            departed: 0,
            departures: VecDeque::new(),
            send_ended_turn: 0,
            send_began_ns: 0,
            client_reads: true,
            client_closed: false,
            lingering: false,
            is_gone: false,
            abandoned: Vec::new(),
            up_due: false,
            down_due: false,
            take_due: false,
        }
    }

    /// The client sends.
    pub fn push_upstream(&mut self, bytes: &[u8]) {
        self.upstream.extend(bytes);
    }

    /// Whether there is a piece for the shard's driver to read.
    pub fn has_upstream(&self) -> bool {
        !self.upstream.is_empty() && self.reading && self.read_ahead_bytes < READ_AHEAD_BYTES_MAX
    }

    /// Whether everything that the client sent before closing has been read.
    pub fn upstream_ended(&self) -> bool {
        self.client_closed && self.upstream.is_empty()
    }

    /// The next piece that the shard's driver reads, of at most `piece` bytes.
    pub fn read_upstream(&mut self, piece: usize) -> Vec<u8> {
        let length = piece.clamp(1, self.upstream.len());
        let bytes: Vec<u8> = self.upstream.drain(..length).collect();
        self.read_ahead_bytes += length;
        bytes
    }

    /// The shard was handed a piece.
    pub fn arrived(&mut self, length: usize, now_ns: u64) {
        self.read_ahead_bytes -= length;
        self.arrived += length as u64;
        self.arrivals.push((self.arrived, now_ns));
    }

    /// When the shard had been handed all bytes up to `offset`.
    pub fn arrival_ns(&self, offset: u64) -> Option<u64> {
        let index = self.arrivals.partition_point(|(end, _)| *end < offset);
        self.arrivals.get(index).map(|(_, at_ns)| *at_ns)
    }

    /// The shard gives a buffer to be sent.
    pub fn send(&mut self, buffer: Vec<u8>, now_ns: u64, turn: u64) {
        assert!(self.sending.is_none(), "one send at a time on a connection");
        let waited = self.send_ended_turn == turn;
        let earliest_ns = if waited { self.send_began_ns } else { now_ns };
        self.departed += buffer.len() as u64;
        self.departures.push_back(Departure { end: self.departed, earliest_ns, latest_ns: now_ns });
        self.send_began_ns = now_ns;
        self.sending = Some(Sending { buffer, taken: 0 });
    }

    /// Whether a buffer of the shard's is still with the driver.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// The kernel takes up to `piece` bytes of what is sent, as far as it has room.
    pub fn take(&mut self, piece: usize) -> usize {
        let Some(sending) = &mut self.sending else { return 0 };
        let room = self.downstream_bytes_max.saturating_sub(self.downstream.len());
        let length = piece.min(room).min(sending.buffer.len() - sending.taken);
        self.downstream.extend(&sending.buffer[sending.taken..sending.taken + length]);
        sending.taken += length;
        length
    }

    /// The buffer, if all of it is taken.
    pub fn sent_whole(&mut self) -> Option<(Vec<u8>, usize)> {
        self.sending.take_if(|sending| sending.taken == sending.buffer.len()).map(|s| (s.buffer, s.taken))
    }

    /// The buffer, however much of it was taken: the link is gone.
    pub fn sent_in_part(&mut self) -> Option<(Vec<u8>, usize)> {
        self.sending.take().map(|sending| (sending.buffer, sending.taken))
    }

    /// The shard has got its buffer back.
    pub fn send_ended(&mut self, turn: u64) {
        self.send_ended_turn = turn;
    }

    /// Whether the kernel has something for the client.
    pub fn has_downstream(&self) -> bool {
        !self.downstream.is_empty()
    }

    /// The next piece that the client reads.
    pub fn read_downstream(&mut self, piece: usize) -> Vec<u8> {
        let length = piece.clamp(1, self.downstream.len().max(1)).min(self.downstream.len());
        self.downstream.drain(..length).collect()
    }

    /// When the shard let go of the byte before `offset`. Offsets are asked for in rising order.
    pub fn departure(&mut self, offset: u64) -> Departure {
        while let Some(departure) = self.departures.front() {
            if departure.end >= offset {
                return *departure;
            }
            self.departures.pop_front();
        }
        unreachable!("a client has read only what the shard has sent")
    }
}

/// All links there are.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<ConnectionId, Link>,
    next_generation: u32,
}

impl Network {
    /// A new link of a client to a shard.
    pub fn connect(&mut self, client: usize, shard: u16, random: &mut Random) -> ConnectionId {
        let index = (0..).find(|index| self.links.keys().all(|id| id.index != *index));
        let index = index.expect("there are fewer links than indices");
        self.next_generation += 1;
        let id = ConnectionId { index, generation: self.next_generation };
        let downstream_bytes_max = random.skewed(1 << 10, 256 << 10) as usize;
        self.links.insert(id, Link::new(id, client, shard, downstream_bytes_max));
        id
    }

    /// A link, if it is still there.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Takes a link away.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Link> {
        self.links.remove(&id)
    }

    /// Takes all links away, in order.
    pub fn remove_all(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links).into_values().collect()
    }

    /// The links there are.
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_through_pieces_of_any_size() {
        let mut random = Random::new(3);
        let mut network = Network::default();
        let id = network.connect(0, 0, &mut random);
        let link = network.link(id).unwrap();
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        link.push_upstream(&sent);
        let mut read = Vec::new();
        while link.has_upstream() {
            let piece = link.read_upstream(random.skewed(1, 5000) as usize);
            link.arrived(piece.len(), read.len() as u64);
            read.extend(piece);
        }
        assert_eq!(read, sent);
        assert_eq!(link.arrival_ns(1), Some(0));
        assert_eq!(link.arrival_ns(100_001), None);
    }

    #[test]
    fn a_reader_that_stops_makes_the_sender_wait() {
        let mut network = Network::default();
        let id = network.connect(0, 0, &mut Random::new(1));
        let link = network.link(id).unwrap();
        link.send(vec![7; 1 << 20], 5, 1);
        while link.take(1 << 20) > 0 {}
        assert!(link.sent_whole().is_none());
        let mut read = 0;
        while link.has_downstream() {
            read += link.read_downstream(10_000).len();
            link.take(1 << 20);
        }
        assert_eq!(read, 1 << 20);
        assert_eq!(link.sent_whole().map(|(_, taken)| taken), Some(1 << 20));
        assert_eq!(link.departure(1 << 20).earliest_ns, 5);
    }
}
