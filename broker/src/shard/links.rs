//! Connections of the gateway: bytes that come and go in parcels, and not through the driver.

use super::Core;
use super::connection::{Connection, Stage};
use super::driver::ConnectionId;
use crate::exchange::link::LinkItem;
use crate::exchange::mesh::Mesh;
use crate::exchange::parcel::{Item, Parcel};
use crate::flaws::Flaws;

/// What a shard has to do with its gateway. Owned by the shard.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The gateway's number in the mesh, once it has said something.
    gateway: Option<u16>,
    /// What is to be said to it at the end of the turn.
    items: Vec<Item>,
}

impl Links {
    pub(super) fn say(&mut self, item: LinkItem) {
        self.items.push(Item::Link(item));
    }

    /// Says it.
    pub(super) fn post(&mut self, mesh: &mut impl Mesh) {
        if let Some(gateway) = self.gateway
            && !self.items.is_empty()
        {
            mesh.send(gateway, Parcel { items: std::mem::take(&mut self.items) });
        }
    }
}

impl<F: Flaws> Core<F> {
    /// Does what the gateway says.
    pub(super) fn take_link_item(&mut self, from: u16, item: LinkItem) {
        self.links.gateway = Some(from);
        match item {
            LinkItem::Opened(id) => self.opened(id),
            LinkItem::Data { connection, bytes } => self.take_data(connection, &bytes),
            LinkItem::Sent { connection, buffer } => {
                let written = buffer.len();
                self.sent(connection, buffer, written);
            }
            LinkItem::Closed(id) => self.closed(id),
            LinkItem::Output { .. } | LinkItem::Ended(_) => {
                debug_assert!(false, "shards say this, and are not told it");
            }
        }
    }

    /// A connection of the gateway's, which needs no hello.
    fn opened(&mut self, id: ConnectionId) {
        let frame_bytes_max = self.options.frame_bytes_max as usize;
        let mut connection = Connection::new(id, self.monotonic_ms(), frame_bytes_max);
        connection.stage = Stage::Serving;
        self.connections.insert(connection);
        self.refuse_if_too_much(id);
    }

    /// A connection of the gateway's has what it is owed, or is not to be given it.
    pub(super) fn end_link(&mut self, id: ConnectionId) {
        self.links.say(LinkItem::Ended(id));
        self.closed(id);
    }
}
