//! What shards say to each other, on its way.

use super::{Happening, World};
use crate::exchange::mesh::Incoming;
use crate::shard::driver::ConnectionId;

impl World {
    /// A shard says something to another.
    pub fn say(&mut self, from: u16, to: u16, incoming: Incoming<ConnectionId>) {
        if !self.step() {
            return;
        }
        let size = match &incoming {
            Incoming::Parcel(parcel) => parcel.items.len() as u64,
            Incoming::HandedOver(_) => 0,
        };
        self.note("say", &[u64::from(from), u64::from(to), size]);
        if let Incoming::Parcel(parcel) = &incoming {
            let text = format!("{from} to {to}: {:?}", parcel.items);
            self.trace.remark(self.now_ns, || text.chars().take(600).collect());
        }
        self.spoken.entry((from, to)).or_default().push_back(incoming);
        let travels_ns = self.random.skewed(200, self.plan.mesh_ns_max);
        self.schedule(travels_ns, Happening::Heard(from, to));
    }

    /// The oldest thing that is on its way between two shards arrives, whichever was sent with this delay.
    pub(super) fn arrive(&mut self, from: u16, to: u16) {
        let Some(incoming) = self.spoken.get_mut(&(from, to)).and_then(|queue| queue.pop_front()) else {
            return;
        };
        let place = &mut self.places[usize::from(to)];
        place.parcels.push_back((from, incoming));
        // A shard that runs looks by itself; one that sleeps is woken.
        place.is_woken |= place.is_parked;
    }

    /// The next thing that a shard hears.
    pub fn hear(&mut self, shard: u16) -> Option<(u16, Incoming<ConnectionId>)> {
        if !self.goes_on() || !self.step() {
            return None;
        }
        let (from, incoming) = self.places[usize::from(shard)].parcels.pop_front()?;
        self.note("hear", &[u64::from(from), u64::from(shard)]);
        Some((from, incoming))
    }

    /// A shard says that it is to be woken.
    pub fn park(&mut self, shard: u16) {
        self.places[usize::from(shard)].is_parked = true;
    }

    /// Whether a shard has something that it has not heard yet.
    pub fn has_parcels(&self, shard: u16) -> bool {
        !self.places[usize::from(shard)].parcels.is_empty()
    }

    /// A shard runs again.
    pub fn unpark(&mut self, shard: u16) {
        let place = &mut self.places[usize::from(shard)];
        place.is_parked = false;
        place.is_woken = false;
    }
}
