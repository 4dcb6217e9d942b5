//! A shard on a thread that runs several, which waits for all of them at once: see
//! [`Shard::turn_within`].

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::driver::SharesThread;
use super::{Shard, ShardError};
use crate::exchange::mesh::Mesh;
use crate::flaws::Flaws;

impl<D: SharesThread, M: Mesh<Socket = D::Socket>, F: Flaws> Shard<D, M, F> {
    /// As [`Shard::gather`], for a thread that leaves the shard alone for so long; `None`: it does not gather.
    /// [`Shard::gathers_for`] says what is left of it.
    pub fn gather_elsewhere(&mut self) -> Result<Option<Duration>, ShardError> {
        let Some(time) = self.gathers_for() else { return Ok(None) };
        let time = self.driver.prepare_to_gather(time).map_err(ShardError::Driver)?;
        Ok((time > Duration::ZERO).then_some(time))
    }

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
