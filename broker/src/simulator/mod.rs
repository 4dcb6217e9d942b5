//! Whole runs of the broker's shard in a simulated world, each decided by one number.
//!
//! A run takes the real shard (event loop, engine and log) and gives it a driver, a clock, a disk, a
//! network and clients that are simulated, single threaded, and draw everything that chance decides
//! from one seed. The world crashes between any two steps, tears and reorders what was not synced,
//! fails writes and reads, fills the disk, lets bits rot, breaks connections and moves the clock; the
//! [`checker`] judges what clients were told. At the end nothing goes wrong any more, and every
//! queue has to become empty.
//!
//! The same seed gives the same run, event by event; so the number is all that a report of a
//! failure needs. Each seed leaves something out (see [`plan`]), as runs with everything in them hide
//! failures behind others. The planted bugs of [`bugs`] show that the checker would see what it is
//! for.
//!
//! **Architecture Invariant**: nothing in here reads a clock of the machine, draws from its
//! randomness, starts a thread, or walks a hash map.

mod answers;
pub mod bugs;
pub mod checker;
mod clients;
pub mod disk;
mod drain;
pub mod driver;
mod habits;
mod history;
mod mesh;
mod message;
mod moving;
pub mod network;
pub mod plan;
pub mod random;
pub mod run;
pub mod trace;
pub mod world;

pub use run::{Failure, RunReport, run};
