//! The front door that every SDK of SQS already speaks: HTTP, on one thread beside the shards.
//!
//! The gateway is a peer in the mesh. Each of its clients has a *line* to a shard ([`link`]): a connection
//! of the binary protocol without a socket, on which requests are written with `tenpin-protocol`'s encoders
//! and replies read with its decoders. So everything that holds for clients of the binary protocol holds
//! here, and a queue has one meaning, however it is looked at.
//!
//! - `server` accepts and bounds connections, `request` takes requests apart, `socket` knows when a response
//!   has been written, `link` talks to shards;
//! - `call` serves an action, with `queues`, `messages`, `receive` and `moves`; what actions and replies
//!   are, and how they look in both wire protocols, is [`crate::sqs`]'s;
//! - `health` says how the shards are;
//! - `pulse` watches for clients that say nothing for too long;
//! - `prepared` makes the queues of the configuration;
//! - `identity` says who asks, `target` which queue a URL names.
//!
//! Everything in here belongs to one thread (rule 30), and nothing in here is shared with a shard.

mod call;
mod health;
mod identity;
mod link;
mod messages;
mod moves;
mod prepared;
mod pulse;
mod queues;
mod receive;
mod request;
mod server;
mod socket;
mod target;

pub(crate) use link::{Bell, GatewayPeer};
pub(crate) use server::{Ending, Options, Setup, run};
