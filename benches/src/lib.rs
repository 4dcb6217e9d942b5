//! Load, measurement and proof over real sockets: what the binary `tenpin-bench` and the broker's
//! end-to-end tests are made of.
//!
//! Everything here is a client: it knows the protocol and nothing of the broker's inside. A figure
//! is only reported for a run in which every message was accounted for.

pub mod arguments;
pub mod backlog;
pub mod bodies;
pub mod chart;
pub mod client;
pub mod commands;
pub mod compare;
pub mod crowd;
pub mod fanin;
pub mod gaps;
pub mod hello;
pub mod kill;
pub mod load;
pub mod measure;
pub mod overload;
pub mod payload;
pub mod process;
pub mod progress;
pub mod random;
pub mod report;
pub mod scale;
pub mod soak;
mod wire;
