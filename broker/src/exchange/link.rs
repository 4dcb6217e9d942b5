//! What a gateway and a shard say to each other: connections without a socket.
//!
//! A gateway is a peer of the mesh behind the shards, and there is one at most. For each client of its own
//! it makes a connection to a shard, whose bytes are frames of the binary protocol that travel in parcels.
//! To the shard it is a connection like those of its driver: requests are routed, receives wait, replies are
//! held until what they rely on is durable, and what was never written to the client goes back (rule 4).
//! Only its hello is implied, and it is never closed for silence, since the gateway watches its clients.

use crate::shard::driver::ConnectionId;

/// One thing that is said about a connection of the gateway's.
#[derive(Debug)]
pub enum LinkItem {
    /// From the gateway: a new connection, in a place of its own choice, which is free.
    Opened(ConnectionId),
    /// From the gateway: bytes of frames.
    Data {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// From the gateway: an [`LinkItem::Output`] comes back. What it handed out has been given to the client.
    Sent {
        /// On which connection.
        connection: ConnectionId,
        /// The buffer, unchanged.
        buffer: Vec<u8>,
    },
    /// From the gateway: the connection is gone. What has not come back was not given to the client.
    Closed(ConnectionId),
    /// From the shard: whole frames for the client. The next follow when these have come back.
    Output {
        /// On which connection.
        connection: ConnectionId,
        /// The frames.
        frames: Vec<u8>,
    },
    /// From the shard: the connection is gone there; nothing more comes.
    Ended(ConnectionId),
}
