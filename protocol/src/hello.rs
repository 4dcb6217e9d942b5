//! The frames of a connection itself: hello, authenticate, ping, goodbye.

use crate::codes::VERSION;
use crate::frame::FRAME_BYTES_MAX_LEAST;
use crate::layout::layout;

layout! {
    /// Begins a connection. Its layout, and the version 1 in its header, stay in all versions.
    pub struct Hello<'a> as "hello" {
        fixed {
            /// The oldest version that the client speaks.
            version_minimum: u8,
            /// The newest version that the client speaks.
            version_maximum: u8,
            /// The newest revision of the layouts that the client knows.
            revision: u16,
            /// Bits of features that the client wants; none has a meaning yet, and the broker
            /// grants those that it knows.
            features: u64,
            /// Bytes of the largest frame that the client wants to send or receive; 0 leaves it to
            /// the broker.
            frame_bytes_max: u32,
            /// For how long the client wants to be allowed to be silent; 0 leaves it to the broker.
            keep_alive_ms: u32,
            /// The shard that it wants to be connected to, or [`ANY_SHARD`](crate::ANY_SHARD).
            shard: u16,
        }
        pieces {
            /// Name and version of the client's software, for logs.
            client: &'a str,
        }
    }
}

impl Hello<'_> {
    /// The version to speak: ours, if it is in the client's range.
    pub fn agreed_version(&self) -> Option<u8> {
        (self.version_minimum..=self.version_maximum).contains(&VERSION).then_some(VERSION)
    }

    /// The frame limit to grant: what the client wants, at least [`FRAME_BYTES_MAX_LEAST`] and at
    /// most what the broker allows.
    pub fn agreed_frame_bytes_max(&self, broker_frame_bytes_max: u32) -> u32 {
        if self.frame_bytes_max == 0 {
            return broker_frame_bytes_max;
        }
        self.frame_bytes_max.max(FRAME_BYTES_MAX_LEAST as u32).min(broker_frame_bytes_max)
    }
}

layout! {
    /// Answers a hello: what holds on this connection from now on.
    pub struct HelloReply<'a> as "hello reply" {
        fixed {
            /// The version that both speak.
            version: u8,
            /// The newest revision of the layouts that the broker knows.
            revision: u16,
            /// The features granted.
            features: u64,
            /// Bytes of the largest frame that either side may send.
            frame_bytes_max: u32,
            /// Most entries in a batch.
            batch_entries_max: u16,
            /// Most bytes of messages in a batch.
            batch_bytes_max: u32,
            /// Most long polls that may wait at once on this connection.
            long_polls_max: u32,
            /// The connection is closed when nothing arrives for so long.
            keep_alive_ms: u32,
            /// How many shards the broker has.
            shard_count: u16,
            /// The shard that serves this connection.
            shard: u16,
        }
        pieces {
            /// Name and version of the broker's software.
            broker: &'a str,
        }
        lists {
            /// What there is to know about single shards; shards that are not named are reached as
            /// this one was.
            shards: ShardInfo<'a>,
        }
    }
}

layout! {
    /// How to reach one shard.
    pub struct ShardInfo<'a> as "shard" {
        fixed {
            /// Which one.
            shard: u16,
            /// Its port; 0 means the one that was connected to.
            port: u16,
        }
        pieces {
            /// Its host; empty means the one that was connected to.
            host: &'a str,
        }
    }
}

layout! {
    /// Proves who the client is, in one step or several.
    pub struct Authenticate<'a> as "authenticate" {
        pieces {
            /// The name of the method.
            method: &'a str,
            /// What the method wants to be told.
            credentials: &'a [u8],
        }
    }
}

layout! {
    /// Answers an authenticate.
    pub struct AuthenticateReply<'a> as "authenticate reply" {
        fixed {
            /// 1 if the method wants another step, else 0.
            goes_on: u8,
        }
        pieces {
            /// What the method answers.
            challenge: &'a [u8],
        }
    }
}

layout! {
    /// Asks for a sign of life, and is one.
    pub struct Ping<'a> as "ping" {
        pieces {
            /// Comes back in the reply.
            echo: &'a [u8],
        }
    }
}

layout! {
    /// The client will send nothing more: the broker answers what is under way, long polls with
    /// what they have, then this, and closes. From the broker a goodbye is an error frame with the
    /// correlation id 0.
    pub struct Goodbye<'a> as "goodbye" {
        fields {
            /// Why, for logs.
            1 text: &'a str,
        }
    }
}
