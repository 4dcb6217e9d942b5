//! The mesh as a shard sees it: parcels and connections between real threads.

use super::peer::Peer;
use crate::exchange::mesh::{HandedOver, Incoming, Mesh};
use crate::exchange::parcel::Parcel;

/// A shard's end of the mesh. Shards are the first peers; others may follow them. Owned by the shard.
pub struct ShardMesh<S> {
    peer: Peer<Incoming<S>>,
    shards: u16,
}

impl<S: Send> ShardMesh<S> {
    /// The end of the shard that has the peer's number, of `shards` shards.
    pub fn new(peer: Peer<Incoming<S>>, shards: u16) -> Self {
        assert!(peer.me() < shards && usize::from(shards) <= peer.peers(), "shards are the first peers");
        Self { peer, shards }
    }
}

impl<S: Send> Mesh for ShardMesh<S> {
    type Socket = S;

    fn shards(&self) -> u16 {
        self.shards
    }

    fn me(&self) -> u16 {
        self.peer.me()
    }

    fn has_others(&self) -> bool {
        self.peer.peers() > 1
    }

    fn send(&mut self, to: u16, parcel: Parcel) {
        self.peer.send(to, Incoming::Parcel(parcel));
    }

    fn hand_over(&mut self, to: u16, handed_over: HandedOver<S>) {
        self.peer.send(to, Incoming::HandedOver(handed_over));
    }

    fn receive(&mut self, sink: &mut impl FnMut(u16, Incoming<S>)) -> bool {
        self.peer.receive(sink)
    }

    fn prepare_to_park(&mut self) -> bool {
        self.peer.prepare_to_park()
    }

    fn unparked(&mut self) {
        self.peer.unparked();
    }
}
