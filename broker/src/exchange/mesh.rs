//! What carries parcels and sockets between shards.
//!
//! The exchange says what is to be said and to whom; a mesh carries it. Between two shards everything
//! arrives in the order in which it was sent, and between different pairs in any order. The real mesh
//! is rings between threads, the simulator's a list with delays, and a lone shard has [`Alone`], which
//! carries nothing and costs nothing.

use std::marker::PhantomData;

use super::parcel::Parcel;

/// A connection on its way to another shard.
#[derive(Debug)]
pub struct HandedOver<S> {
    /// What the driver of the shard before gave for it.
    pub socket: S,
    /// What was read from it and not served yet: its hello, and perhaps more.
    pub unread: Vec<u8>,
}

/// Something that came from another shard.
#[derive(Debug)]
pub enum Incoming<S> {
    /// What the exchange there says.
    Parcel(Parcel),
    /// A connection to go on with.
    HandedOver(HandedOver<S>),
}

/// Carries what shards say to each other. Owned by one shard; the calls never block.
pub trait Mesh {
    /// A connection as drivers hand it over.
    type Socket;

    /// How many shards there are, this one included.
    fn shards(&self) -> u16;

    /// Which shard this is.
    fn me(&self) -> u16;

    /// Whether anybody can say anything: another shard, or a gateway.
    #[inline]
    fn has_others(&self) -> bool {
        self.shards() > 1
    }

    /// Sends a parcel to another shard, or to the gateway. It is never dropped: where there is no room now,
    /// it and all later ones to the same wait behind it.
    fn send(&mut self, to: u16, parcel: Parcel);

    /// Sends a connection to another shard, in order with the parcels.
    fn hand_over(&mut self, to: u16, handed_over: HandedOver<Self::Socket>);

    /// Hands over what has come, a bounded part of it a call. `true`: there may be more.
    fn receive(&mut self, sink: &mut impl FnMut(u16, Incoming<Self::Socket>)) -> bool;

    /// Called before the shard waits in its driver: from now on, whoever sends to it wakes it.
    /// `false`: something has come meanwhile, and it must not wait.
    fn prepare_to_park(&mut self) -> bool;

    /// The shard does not wait any more, and need not be woken.
    fn unparked(&mut self);
}

/// The mesh of a shard that is the only one.
#[derive(Debug)]
pub struct Alone<S>(PhantomData<S>);

impl<S> Default for Alone<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S> Mesh for Alone<S> {
    type Socket = S;

    #[inline]
    fn shards(&self) -> u16 {
        1
    }

    #[inline]
    fn me(&self) -> u16 {
        0
    }

    fn send(&mut self, _to: u16, _parcel: Parcel) {
        unreachable!("a lone shard says nothing to others");
    }

    fn hand_over(&mut self, _to: u16, _handed_over: HandedOver<S>) {
        unreachable!("a lone shard hands nothing over");
    }

    #[inline]
    fn receive(&mut self, _sink: &mut impl FnMut(u16, Incoming<S>)) -> bool {
        false
    }

    #[inline]
    fn prepare_to_park(&mut self) -> bool {
        true
    }

    #[inline]
    fn unparked(&mut self) {}
}
