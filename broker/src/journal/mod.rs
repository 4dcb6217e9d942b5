//! The log that is the store: segments, group commit, recovery, cleaning, cold reads.
//!
//! Records go to the tail, in memory; once a turn the shard takes what has gathered as one batch,
//! writes it and tells the log when it is on disk. A queue holds positions in the log, never bodies.
//! The oldest segment is cleaned: what still matters there is appended again by the engine, then its
//! file is used for a new segment.
//!
//! **Architecture Invariant**: while it runs, the log does no I/O, reads no clock and starts no
//! thread. It asks (a write, a read, a file) and is told; only [`Log::open`] and the tools touch
//! files, through [`storage::Storage`]. What a record says is the engine's business: the log knows its
//! frame and its length.

mod batch;
mod cleaning;
mod cold;
mod commit;
mod files;
mod inspect;
mod log;
pub mod memory;
mod options;
mod position;
pub mod real_storage;
mod record;
mod recovery;
mod report;
mod room;
mod scan;
pub mod storage;
#[cfg(test)]
mod tests;

pub use cleaning::{Carried, Cleaning};
pub use cold::ColdRecord;
pub use inspect::{Finding, KindSum, SegmentSum, Summary, inspect, verify};
pub use log::{Log, Tally};
pub use options::*;
use position::Geometry;
pub use position::Position;
pub use record::{Damage, FLAG_OWN_CRC, PREFIX_BYTES, RECORD_ALIGNMENT, RawRecord};
pub use report::{Cut, OpenError, Progress, RecoveryReport};
pub use room::{CLEANING_SLICE_BYTES, COPY_GROWTH_BYTES, Room};

/// Writes to files begin and end at multiples of this.
pub const BLOCK_BYTES: usize = 4096;
/// A batch is closed at this size, so that no write takes the disk for long; a record never is
/// larger (see [`Log::record_bytes_max`]).
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes of a batch before its first record.
pub(crate) const BATCH_HEADER_BYTES: usize = 64;
