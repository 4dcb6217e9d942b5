//! How the threads of a broker talk: a ring each way between each two of them, and a bell for whoever
//! sleeps.
//!
//! A *peer* has a number and is one thread: a shard, or the one thread of a tokio runtime that serves
//! HTTP. [`mesh`] makes all peers of a process at once; each is then moved to its thread. What travels
//! is the caller's business (`T: Send`). Nothing blocks and nothing is dropped: what finds a ring full
//! waits in a list at its sender, all later traffic to that peer behind it (rule 25).
//!
//! A peer works in turns: [`Peer::receive`] once a turn, any number of [`Peer::send`], and before it
//! waits for anything [`Peer::prepare_to_park`], which may find that there is something to do after
//! all. What ends the wait is the peer's own [`Wake`].
//!
//! The ring and the wake protocol are checked by loom as they are (`broker/loom`), so nothing in them
//! names the standard library's atomics but through `sync`.

mod peer;
pub mod ring;
mod shards;
mod sync;
#[cfg(test)]
mod tests;
mod wake;

use crate::shard::waker::Waker;

pub use peer::{ITEMS_PER_RECEIVE_MAX, Peer, mesh};
pub use shards::ShardMesh;
pub use wake::Wake;

/// Items that a ring between two peers holds. An item is a parcel with all that one turn has for one
/// peer, so a ring is full only when its receiver has not had a turn for that many of the sender's.
pub const RING_CAPACITY: usize = 128;

/// A shard is woken by the bell of its driver.
impl Wake for Waker {
    fn wake(&self) {
        Waker::wake(self);
    }
}
