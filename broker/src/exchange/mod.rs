//! All that shards say to each other, without sockets, rings and threads (rule 29).

pub mod mesh;
pub mod parcel;
