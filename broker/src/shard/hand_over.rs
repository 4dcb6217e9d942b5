//! Connections that move to another shard: the one that a client's hello wishes for, or the next in
//! turn where it wishes for none.
//!
//! The hello itself is not served here. It goes along, with whatever came behind it, and is answered by the
//! shard that the connection arrives at, which keeps it whatever its hello says.

use tenpin_protocol::{ANY_SHARD, FRAME_BYTES_MAX_BEFORE_HELLO, Hello};

use super::Core;
use super::connection::{Connection, Stage};
use super::driver::{ConnectionId, Driver};
use crate::exchange::mesh::{HandedOver, Mesh};
use crate::flaws::Flaws;

/// What leaves, between the event that says so and the end of the driver's poll.
#[derive(Debug)]
pub(super) struct Detached {
    connection: ConnectionId,
    /// `None`: the connection was to be closed meanwhile, and is.
    home: Option<u16>,
    unread: Vec<u8>,
}

impl<F: Flaws> Core<F> {
    /// The shard that a new connection is to be served by, if that is another one.
    pub(super) fn home_elsewhere(&mut self, id: ConnectionId, hello: &Hello<'_>) -> Option<u16> {
        if self.exchange.is_alone() || self.connections.get_mut(id)?.was_handed_over || self.drain.is_some() {
            return None;
        }
        let home = match hello.shard {
            ANY_SHARD => self.exchange.next_home(),
            shard => shard,
        };
        (home != self.exchange.me).then_some(home)
    }

    /// A connection is to leave: nothing more of it is served here.
    pub(super) fn begin_leaving(&mut self, id: ConnectionId, home: u16) {
        let now_ms = self.monotonic_ms();
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.stage = Stage::Leaving { home };
        connection.heard_ms = now_ms;
        self.leaving.push(id);
    }

    /// The driver has let go of a connection.
    pub(super) fn detached(&mut self, id: ConnectionId, unread: Vec<u8>) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        self.partial_bytes -= connection.input.len();
        connection.uncount(&mut self.unsent_bytes);
        let mut bytes = std::mem::take(&mut connection.input).into_vec();
        bytes.extend(unread);
        let home = match connection.stage {
            Stage::Leaving { home } => Some(home),
            Stage::Greeting | Stage::Serving | Stage::Closing => None,
        };
        self.detached.push(Detached { connection: id, home, unread: bytes });
    }

    /// Gives what the driver has let go of to the mesh.
    pub(super) fn hand_over_detached<D: Driver, M: Mesh<Socket = D::Socket>>(
        &mut self,
        driver: &mut D,
        mesh: &mut M,
    ) {
        for Detached { connection, home, unread } in self.detached.drain(..) {
            if let (Some(socket), Some(home)) = (driver.take_detached(connection), home) {
                mesh.hand_over(home, HandedOver { socket, unread });
            }
        }
    }

    /// A connection has come from another shard, and is this driver's now.
    pub(super) fn arrived(&mut self, id: ConnectionId, unread: &[u8]) {
        let mut connection = Connection::new(id, self.monotonic_ms(), FRAME_BYTES_MAX_BEFORE_HELLO);
        connection.was_handed_over = true;
        self.connections.insert(connection);
        self.refuse_if_too_much(id);
        self.take_data(id, unread);
    }
}
