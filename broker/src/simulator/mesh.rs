//! The simulated mesh: parcels that travel for a while, in order between two shards and in no order
//! between different pairs, and a shard that sleeps until it is woken.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::exchange::mesh::{HandedOver, Incoming, Mesh};
use crate::exchange::parcel::Parcel;
use crate::flaws::{Flaw, Flaws};
use crate::shard::driver::ConnectionId;

use super::driver::SharedWorld;

/// Parcels taken in a turn.
const RECEIVED_A_TURN: usize = 8;

/// A shard's end of the simulated mesh.
#[derive(Debug)]
pub struct SimulatedMesh<F: Flaws> {
    world: SharedWorld,
    me: u16,
    shards: u16,
    flaws: PhantomData<F>,
}

impl<F: Flaws> SimulatedMesh<F> {
    /// The end of shard `me` of so many.
    pub fn new(world: &SharedWorld, me: u16, shards: u16) -> Self {
        Self { world: Rc::clone(world), me, shards, flaws: PhantomData }
    }
}

impl<F: Flaws> Mesh for SimulatedMesh<F> {
    type Socket = ConnectionId;

    fn shards(&self) -> u16 {
        self.shards
    }

    fn me(&self) -> u16 {
        self.me
    }

    fn send(&mut self, to: u16, parcel: Parcel) {
        self.world.borrow_mut().say(self.me, to, Incoming::Parcel(parcel));
    }

    fn hand_over(&mut self, to: u16, handed_over: HandedOver<ConnectionId>) {
        self.world.borrow_mut().say(self.me, to, Incoming::HandedOver(handed_over));
    }

    fn receive(&mut self, sink: &mut impl FnMut(u16, Incoming<ConnectionId>)) -> bool {
        for _ in 0..RECEIVED_A_TURN {
            // Bound before the call, which may say something itself.
            let heard = self.world.borrow_mut().hear(self.me);
            let Some((from, incoming)) = heard else { return false };
            sink(from, incoming);
        }
        true
    }

    fn prepare_to_park(&mut self) -> bool {
        let mut world = self.world.borrow_mut();
        world.park(self.me);
        F::has(Flaw::ParkWithoutLookingAgain) || !world.has_parcels(self.me)
    }

    fn unparked(&mut self) {
        self.world.borrow_mut().unpark(self.me);
    }
}
