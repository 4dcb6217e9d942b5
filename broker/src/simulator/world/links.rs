//! The world's links: what the shard does with them, what clients do, and how bytes move between.

use std::io;

use crate::journal::Durability;
use crate::shard::driver::ConnectionId;

use super::{Broker, CHAOS_NS_MAX, Happening, Phase, ShardEvent, World};
use crate::simulator::clients::Client;
use crate::simulator::disk::Crash;
use crate::simulator::network::Link;
use crate::simulator::plan::SECOND;

/// Links, as the shard uses them.
impl World {
    /// The shard sends.
    pub fn send(&mut self, id: ConnectionId, buffer: Vec<u8>) {
        if !self.step() {
            return;
        }
        self.note("send", &[u64::from(id.generation), buffer.len() as u64]);
        let now_ns = self.now_ns;
        if let Some(link) = self.network.link(id) {
            let place = &self.places[usize::from(link.shard)];
            let (turn, doomed) = (place.turn, place.doomed);
            if doomed {
                self.checker.violation("the shard sent something after a journal write had failed".into());
            }
            link.send(buffer, now_ns, turn);
            self.move_bytes(id);
        }
    }

    /// The shard stops or goes on reading.
    pub fn set_reading(&mut self, id: ConnectionId, reading: bool) {
        if self.step()
            && let Some(link) = self.network.link(id)
        {
            link.reading = reading;
            self.note("reading", &[u64::from(id.generation), u64::from(reading)]);
            self.move_bytes(id);
        }
    }

    /// The shard closes a link.
    pub fn close(&mut self, id: ConnectionId, linger: bool) {
        if !self.step() {
            return;
        }
        self.note("close", &[u64::from(id.generation), u64::from(linger)]);
        let Some(link) = self.network.link(id) else { return };
        if linger && (link.is_sending() || link.has_downstream()) {
            link.lingering = true;
            self.schedule(2 * SECOND, Happening::LingerEnds(id));
        } else {
            self.close_link(id, None);
        }
    }

    /// The shard lets go of a link: what its driver has read and not handed over goes along.
    pub fn detach(&mut self, id: ConnectionId) {
        if !self.step() {
            return;
        }
        self.note("detach", &[u64::from(id.generation)]);
        let Some(link) = self.network.link(id) else { return };
        if link.is_gone {
            return;
        }
        link.is_handed_over = true;
        let inbox = &mut self.places[usize::from(link.shard)].inbox;
        let mut unread = Vec::new();
        inbox.retain(|event| match event {
            ShardEvent::Data(from, bytes) if *from == id => {
                unread.extend_from_slice(bytes);
                false
            }
            _ => true,
        });
        inbox.push_back(ShardEvent::Detached(id, unread));
    }

    /// Another shard goes on with a link. One that broke on the way has ended there.
    pub fn attach(&mut self, shard: u16, id: ConnectionId) -> Option<ConnectionId> {
        if !self.step() {
            return None;
        }
        self.note("attach", &[u64::from(shard), u64::from(id.generation)]);
        let link = self.network.link(id)?;
        link.shard = shard;
        link.reading = true;
        link.is_handed_over = false;
        if link.is_gone {
            let error = Some(io::ErrorKind::ConnectionReset);
            self.places[usize::from(shard)].inbox.push_back(ShardEvent::Closed(id, error));
        } else {
            self.move_bytes(id);
        }
        Some(id)
    }

    /// The shard listens no more.
    pub fn stop_accepting(&mut self) {
        if self.step() {
            self.note("deaf", &[]);
            self.broker = Broker::Deaf;
        }
    }

    pub(super) fn random_link(&mut self) -> Option<ConnectionId> {
        let ids = self.network.ids();
        (!ids.is_empty()).then(|| *self.random.pick(&ids))
    }

    /// A link breaks: what was on its way is lost, and both sides learn of it.
    pub(super) fn break_link(&mut self, id: ConnectionId) {
        self.note("break", &[u64::from(id.generation)]);
        self.close_link(id, Some(io::ErrorKind::ConnectionReset));
    }

    pub(super) fn close_link(&mut self, id: ConnectionId, error: Option<io::ErrorKind>) {
        let lost_after_ns = self.random.below(self.plan.travel_ns_max);
        let Some(link) = self.network.link(id) else { return };
        if link.is_gone {
            return;
        }
        link.is_gone = true;
        let client = link.client;
        let inbox = &mut self.places[usize::from(link.shard)].inbox;
        if let Some((buffer, taken)) = link.sent_in_part() {
            inbox.push_back(ShardEvent::Sent(id, buffer, taken));
        }
        inbox.push_back(ShardEvent::Closed(id, error));
        self.schedule(lost_after_ns, Happening::ClientLoses(client, id));
    }

    /// Sees to it that bytes that can move will.
    pub(super) fn move_bytes(&mut self, id: ConnectionId) {
        let travel_ns_max = self.plan.travel_ns_max;
        let mut delay = || self.random.skewed(500, travel_ns_max);
        let delays = (delay(), delay(), delay());
        let Some(link) = self.network.link(id) else { return };
        if link.is_gone {
            return;
        }
        let up = (link.has_upstream() || link.upstream_ended()) && !std::mem::replace(&mut link.up_due, true);
        let take = link.is_sending() && !std::mem::replace(&mut link.take_due, true);
        let down = link.has_downstream() && link.client_reads && !std::mem::replace(&mut link.down_due, true);
        if up {
            self.schedule(delays.0, Happening::ToShard(id));
        }
        if take {
            self.schedule(delays.1 / 4, Happening::Taken(id));
        }
        if down {
            self.schedule(delays.2, Happening::ToClient(id));
        }
    }

    /// How much moves at once: often all there is, or a long body would take for ever.
    fn piece(&mut self) -> usize {
        if self.random.chance(1, 2) {
            return usize::MAX;
        }
        self.random.skewed(1, self.plan.piece_bytes_max) as usize
    }

    pub(super) fn carry_to_shard(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.up_due = false;
        if link.is_gone || link.is_handed_over {
            return;
        }
        if link.has_upstream() {
            let bytes = link.read_upstream(piece);
            self.places[usize::from(link.shard)].inbox.push_back(ShardEvent::Data(id, bytes));
        } else if link.upstream_ended() {
            return self.close_link(id, None);
        }
        self.move_bytes(id);
    }

    pub(super) fn take_from_shard(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.take_due = false;
        if link.is_gone {
            return;
        }
        let taken = link.take(piece);
        if let Some((buffer, taken)) = link.sent_whole() {
            self.places[usize::from(link.shard)].inbox.push_back(ShardEvent::Sent(id, buffer, taken));
        }
        if taken == 0 {
            // The kernel is full; it takes more once the client has read.
            return;
        }
        self.move_bytes(id);
    }

    pub(super) fn carry_to_client(&mut self, id: ConnectionId) {
        let piece = self.piece();
        let Some(link) = self.network.link(id) else { return };
        link.down_due = false;
        if link.is_gone || !link.client_reads {
            return;
        }
        let bytes = link.read_downstream(piece);
        let client = link.client;
        let drained = link.lingering && !link.is_sending() && !link.has_downstream();
        self.with_client(client, |client, world| client.take(world, id, &bytes));
        if drained {
            self.close_link(id, None);
        }
        self.move_bytes(id);
    }
}

/// Links, as clients use them.
impl World {
    /// A client asks for a link: `None` where nobody listens.
    pub fn connect(&mut self, client: usize) -> Option<ConnectionId> {
        if self.broker != Broker::Up || self.crashed.is_some() {
            return None;
        }
        let shard = self.random_shard();
        let id = self.network.connect(client, shard, &mut self.random);
        self.note("connect", &[client as u64, u64::from(id.generation)]);
        self.places[usize::from(shard)].inbox.push_back(ShardEvent::Accepted(id));
        Some(id)
    }

    /// A client sends.
    pub fn client_sends(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(link) = self.network.link(id) {
            link.push_upstream(bytes);
            self.move_bytes(id);
        }
    }

    /// A client closes its link in good order.
    pub fn client_closes(&mut self, id: ConnectionId) {
        if let Some(link) = self.network.link(id) {
            link.client_closed = true;
            self.move_bytes(id);
        }
    }

    /// The link, to ask for times.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.network.link(id)
    }

    /// One more request of those that the plan has; the world calms down when there are none left.
    pub fn take_request(&mut self) -> bool {
        let requests = &mut self.plan.clients.requests;
        if *requests == 0 || self.now_ns > CHAOS_NS_MAX {
            self.calm_down();
            return false;
        }
        *requests -= 1;
        true
    }

    /// The number of a new message.
    pub fn new_message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// For how long nothing has gone wrong any more; 0 while things may.
    pub fn calm_for_ns(&self) -> u64 {
        self.calm_since_ns.map_or(0, |since_ns| self.now_ns - since_ns)
    }

    /// Every queue is empty, and this many messages are set aside: the run is over.
    pub fn drained(&mut self, set_aside: u64) {
        if self.crashed.is_some() || self.crash_after.is_some() {
            return;
        }
        self.note("drained", &[set_aside]);
        self.checker.finish(self.now_ns, set_aside);
        let has_files = self.plan.broker.durability != Durability::Memory;
        if has_files && !std::mem::replace(&mut self.drained_before, true) {
            // Once more after a power cut: what is deleted stays deleted.
            self.crash_after = Some((1, Crash::PowerCut));
            self.places[0].inbox.push_back(ShardEvent::Woken);
        } else {
            self.phase = Phase::Over;
        }
    }

    /// A client goes away while the shard may still serve its receive from a queue. False: the shard
    /// knows already.
    pub fn abandon(&mut self, id: ConnectionId, queue: u64) -> bool {
        self.network.link(id).map(|link| link.abandoned.push(queue)).is_some()
    }

    /// Wakes a client after a while.
    pub fn wake_client(&mut self, index: usize, after_ns: u64) {
        self.schedule(after_ns, Happening::ClientWakes(index));
    }

    pub(super) fn client_wakes(&mut self, index: usize) {
        self.with_client(index, |client, world| client.wakes(world));
    }

    pub(super) fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut World)) {
        let mut client = self.clients[index].take().expect("clients are at home between events");
        act(&mut client, self);
        self.clients[index] = Some(client);
    }
}
