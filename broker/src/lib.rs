//! Tenpin's broker as a library; README.md beside it is the tour.

pub mod flaws;
pub mod journal;
pub mod shard;
