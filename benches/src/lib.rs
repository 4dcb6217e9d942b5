//! Load, measurement and proof over real sockets: what the binary `tenpin-bench` and the broker's
//! end-to-end tests are made of.
//!
//! Everything here is a client: it knows the protocol and nothing of the broker's inside. A figure
//! is only reported for a run in which every message was accounted for.

pub mod backlog;
pub mod client;
pub mod hello;
pub mod kill;
pub mod latency;
pub mod load;
pub mod measure;
pub mod payload;
pub mod process;
pub mod random;
mod wire;
