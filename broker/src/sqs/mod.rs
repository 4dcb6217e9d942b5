//! What the HTTP side of SQS shows of messages and the binary protocol does not: digests, and which
//! attributes a receive asks for. Pure functions of what a message has; no shard computes them.

mod digests;
mod filters;

pub use digests::{md5_of_attributes, md5_of_body, md5_of_system_attributes};
pub use filters::AttributeFilter;
