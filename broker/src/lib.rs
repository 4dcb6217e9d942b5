//! Tenpin's broker as a library: [`embedded`] starts one inside another program, for tests above all.
//! README.md beside it is the tour.

pub mod address;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod embedded;
pub mod engine;
pub mod exchange;
pub mod exit;
pub mod flaws;
pub mod folder;
mod gateway;
pub mod journal;
mod large_pages;
pub mod mesh;
mod prefetch;
pub mod reshard;
pub mod server;
pub mod shard;
pub mod simulator;
pub mod sqs;
pub mod tools;
