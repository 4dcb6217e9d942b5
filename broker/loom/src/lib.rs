//! The mesh under loom: ring, wake protocol and peer are the broker's own files, compiled against
//! atomics whose every order of events, and every value that the memory model allows a load to see, is
//! tried. Run with `cargo test --manifest-path broker/loom/Cargo.toml`.

// The broker uses all of it; the models use a part.
#![allow(dead_code)]
#![cfg(test)]

mod models;
#[path = "../../src/mesh/peer.rs"]
mod peer;
#[path = "../../src/mesh/ring.rs"]
mod ring;
mod sync;
#[path = "../../src/mesh/wake.rs"]
mod wake;
