//! One core's event loop; the drivers so far.

mod accepting;
#[cfg(test)]
mod conformance;
mod disk_worker;
pub mod driver;
pub mod epoll;
mod linger;
mod real_clock;
pub(crate) mod segment_files;
mod table;
pub mod uring;
pub mod waker;
