//! What is to be said to each sibling, and how much has been asked of it and not answered (rule 25).

use super::mesh::Mesh;
use super::parcel::{Item, Parcel};

/// Bytes of requests on their way to one sibling, since it last had answered all; with more, requests wait
/// until it has.
pub(crate) const REQUEST_BYTES_OUT_MAX: usize = 64 << 20;

/// Items for the other shards, gathered in a turn.
#[derive(Debug)]
pub struct Outbox {
    items: Vec<Vec<Item>>,
    requests_out: Vec<u32>,
    /// Bytes of the requests to each since it last had answered all.
    bytes_out: Vec<usize>,
    requests_out_max: u32,
}

impl Outbox {
    /// With nothing to say. So many requests may a sibling have that it has not answered: without room for
    /// one more, the connection that wants it is not read from until an answer has come. Receives on a FIFO
    /// queue that wait for a message are not counted: each connection has a limit of its own for them
    /// (rule 28).
    pub fn new(shards: u16, requests_out_max: u32) -> Self {
        let items = (0..shards).map(|_| Vec::new()).collect();
        let each = usize::from(shards);
        Self { items, requests_out: vec![0; each], bytes_out: vec![0; each], requests_out_max }
    }

    /// Says something to a sibling, at the end of the turn.
    pub fn push(&mut self, to: u16, item: Item) {
        self.items[usize::from(to)].push(item);
    }

    /// Says something to all siblings.
    pub fn push_to_all(&mut self, me: u16, mut item: impl FnMut() -> Item) {
        for to in (0..self.items.len() as u16).filter(|&to| to != me) {
            self.push(to, item());
        }
    }

    /// Whether one more request may be sent there.
    pub fn has_credit(&self, to: u16) -> bool {
        let place = usize::from(to);
        self.requests_out[place] < self.requests_out_max && self.bytes_out[place] < REQUEST_BYTES_OUT_MAX
    }

    /// Whether one more request may be sent to each.
    pub fn has_credit_everywhere(&self) -> bool {
        (0..self.requests_out.len() as u16).all(|to| self.has_credit(to))
    }

    /// A request is on its way. What goes on from one shard to the next takes credit beyond the bound,
    /// as each such search was begun with it.
    pub fn take_credit(&mut self, to: u16, bytes: usize) {
        self.requests_out[usize::from(to)] += 1;
        self.bytes_out[usize::from(to)] += bytes;
    }

    /// A request was answered.
    pub fn give_credit(&mut self, to: u16) {
        let out = &mut self.requests_out[usize::from(to)];
        debug_assert!(*out > 0, "an answer to nothing");
        *out = out.saturating_sub(1);
        if *out == 0 {
            self.bytes_out[usize::from(to)] = 0;
        }
    }

    /// Whether nothing is asked of anybody.
    pub fn nothing_out(&self) -> bool {
        self.requests_out.iter().all(|&out| out == 0)
    }

    /// Sends what there is to say.
    pub fn post<M: Mesh>(&mut self, mesh: &mut M) {
        for (to, items) in self.items.iter_mut().enumerate() {
            if !items.is_empty() {
                let items = std::mem::take(items);
                mesh.send(to as u16, Parcel { items });
            }
        }
    }
}
