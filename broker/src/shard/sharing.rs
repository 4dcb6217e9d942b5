//! A shard on a thread that runs several, which waits for all of them at once: see
//! [`Shard::turn_within`].

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::driver::SharesThread;
use super::{Shard, ShardError};
use crate::exchange::mesh::Mesh;
use crate::flaws::Flaws;

impl<D: SharesThread, M: Mesh<Socket = D::Socket>, F: Flaws> Shard<D, M, F> {
    /// As [`Shard::rest`], for a wait for [`Shard::wait_handle`].
    pub fn rest_elsewhere(&mut self) -> Result<Option<Duration>, ShardError> {
        let timeout = self.rest();
        if timeout == Some(Duration::ZERO) {
            return Ok(timeout);
        }
        self.driver.prepare_to_wait(timeout).map_err(ShardError::Driver)
    }

    /// Becomes readable when the shard has something to do.
    pub fn wait_handle(&self) -> BorrowedFd<'_> {
        self.driver.wait_handle()
    }
}
