//! The gateway's end of the mesh: lines to shards, on which requests of the binary protocol go out and
//! frames come back.
//!
//! To its shard a line is a client's connection (see [`crate::exchange::link`]), so an HTTP client has what
//! any client has: order on its connection, replies that wait until they are durable, waits that end with
//! the connection, and messages that go back when they were never given to it. All of this belongs to the
//! gateway's one thread (rule 30).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::TcpStream;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tenpin_protocol::{ErrorCode, FLAG_ERROR, Frame, Request, Response, split_frame};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::exchange::link::LinkItem;
use crate::exchange::mesh::Incoming;
use crate::exchange::parcel::{Item, Parcel};
use crate::mesh::{Peer, Wake};
use crate::shard::driver::{ConnectionId, GATEWAY_INDICES_FROM};
use crate::sqs::ServiceError;

/// The gateway's end of the mesh as it comes to the gateway's thread.
pub(crate) type GatewayPeer = Peer<Incoming<TcpStream>>;

/// Gets the gateway out of its wait, from any thread.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The largest frame that shards take from a gateway; what is longer is refused before it is sent.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// What most requests about one message fit into.
const REQUEST_BYTES: usize = 256;

/// All lines of the gateway, and what carries them.
pub(super) struct Link {
    peer: RefCell<GatewayPeer>,
    bell: Bell,
    shards: u16,
    /// What is to be said to each shard at the end of the turn.
    outboxes: RefCell<Vec<Vec<Item>>>,
    lines: RefCell<Lines>,
    /// The shard of the next line: one after the other.
    next_shard: Cell<u16>,
    last_correlation: Cell<u32>,
    /// Whether something waits that is to be said soon, and need wake nobody.
    is_lagging: Cell<bool>,
}

/// How long what need wake nobody waits at most for something that does.
const LAG: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Lines {
    places: Vec<Place>,
    free: Vec<u32>,
}

/// A place for a line, used again and again.
#[derive(Default)]
struct Place {
    generation: u32,
    shard: u16,
    is_open: bool,
    /// Outputs of the shard that nobody has looked at.
    outputs: VecDeque<Vec<u8>>,
    waiting: Option<Waker>,
}

impl Lines {
    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Place> {
        let place = self.places.get_mut(id.place().1)?;
        (place.is_open && place.generation == id.generation).then_some(place)
    }
}

impl Link {
    /// The end of `peer`, behind so many shards, which `bell` wakes.
    pub(super) fn new(peer: GatewayPeer, bell: Bell, shards: u16) -> Rc<Self> {
        Rc::new(Self {
            peer: RefCell::new(peer),
            bell,
            shards,
            outboxes: RefCell::new((0..shards).map(|_| Vec::new()).collect()),
            lines: RefCell::default(),
            next_shard: Cell::new(0),
            last_correlation: Cell::new(0),
            is_lagging: Cell::new(false),
        })
    }

    /// Carries what is said both ways, until it is dropped, and calls `woken` now and then: always after its
    /// bell was rung. Everything else of the gateway runs beside it on the same thread.
    pub(super) async fn run(&self, woken: &mut impl FnMut()) {
        loop {
            woken();
            if self.turn() || !self.peer.borrow_mut().prepare_to_park() {
                tokio::task::yield_now().await;
                continue;
            }
            self.bell.0.notified().await;
            self.peer.borrow_mut().unparked();
        }
    }

    /// Says whether there may be more to do at once.
    fn turn(&self) -> bool {
        let mut peer = self.peer.borrow_mut();
        let more = peer.receive(&mut |_, incoming| {
            if let Incoming::Parcel(parcel) = incoming {
                parcel.items.into_iter().for_each(|item| self.take(item));
            }
        });
        for (shard, items) in self.outboxes.borrow_mut().iter_mut().enumerate() {
            if !items.is_empty() {
                let parcel = Parcel { items: std::mem::take(items) };
                peer.send(shard as u16, Incoming::Parcel(parcel));
            }
        }
        more
    }

    /// Whether shards have not taken all that was said.
    pub(super) fn has_more_to_say(&self) -> bool {
        self.outboxes.borrow().iter().any(|items| !items.is_empty()) || self.peer.borrow().overflow_len() > 0
    }

    fn take(&self, item: Item) {
        let mut lines = self.lines.borrow_mut();
        match item {
            Item::Link(LinkItem::Output { connection, frames }) => {
                if let Some(place) = lines.get_mut(connection) {
                    place.outputs.push_back(frames);
                    place.waiting.take().into_iter().for_each(Waker::wake);
                }
            }
            Item::Link(LinkItem::Ended(connection)) => {
                if let Some(place) = lines.get_mut(connection) {
                    place.close();
                    lines.free.push(connection.place().1 as u32);
                }
            }
            _ => debug_assert!(false, "shards say nothing else to a gateway"),
        }
    }

    fn say(&self, shard: u16, item: LinkItem) {
        self.outboxes.borrow_mut()[usize::from(shard)].push(Item::Link(item));
        self.bell.wake();
    }

    /// Says it with what is said next, or soon: waking a shard costs more than most requests do.
    fn say_later(self: &Rc<Self>, shard: u16, item: LinkItem) {
        self.outboxes.borrow_mut()[usize::from(shard)].push(Item::Link(item));
        if !self.is_lagging.replace(true) {
            let link = Rc::clone(self);
            spawn_local(async move {
                tokio::time::sleep(LAG).await;
                link.is_lagging.set(false);
                link.bell.wake();
            });
        }
    }

    /// Lets everything be said that waits.
    pub(super) fn ring(&self) {
        self.bell.wake();
    }

    fn open(&self, shard: u16) -> ConnectionId {
        let mut lines = self.lines.borrow_mut();
        let index = lines.free.pop().unwrap_or_else(|| {
            lines.places.push(Place::default());
            lines.places.len() as u32 - 1
        });
        let place = &mut lines.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        place.shard = shard;
        place.is_open = true;
        let id = ConnectionId { index: GATEWAY_INDICES_FROM | index, generation: place.generation };
        drop(lines);
        self.say(shard, LinkItem::Opened(id));
        id
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.lines.borrow_mut().get_mut(id).is_some()
    }

    fn close(&self, id: ConnectionId) {
        let mut lines = self.lines.borrow_mut();
        let Some(place) = lines.get_mut(id) else { return };
        let shard = place.shard;
        place.close();
        lines.free.push(id.place().1 as u32);
        drop(lines);
        self.say(shard, LinkItem::Closed(id));
    }

    /// The next output of a line; `None` if it is gone.
    fn poll_output(&self, id: ConnectionId, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut lines = self.lines.borrow_mut();
        let Some(place) = lines.get_mut(id) else { return Poll::Ready(None) };
        if let Some(output) = place.outputs.pop_front() {
            return Poll::Ready(Some(output));
        }
        place.waiting = Some(context.waker().clone());
        Poll::Pending
    }

    fn next_correlation(&self) -> u32 {
        // 0 belongs to frames that answer nothing.
        let next = self.last_correlation.get().wrapping_add(1).max(1);
        self.last_correlation.set(next);
        next
    }

    fn next_shard(&self) -> u16 {
        let shard = self.next_shard.get();
        self.next_shard.set((shard + 1) % self.shards);
        shard
    }
}

impl Place {
    fn close(&mut self) {
        self.is_open = false;
        self.outputs.clear();
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// A client's connection to a shard. Dropping it closes it there.
pub(super) struct Line {
    link: Rc<Link>,
    shard: u16,
    id: Option<ConnectionId>,
}

impl Line {
    /// One to the next shard in turn, which hears of it with the first request.
    pub(super) fn new(link: &Rc<Link>) -> Self {
        Self { link: Rc::clone(link), shard: link.next_shard(), id: None }
    }

    /// Asks the shard something and waits for the answer. An error that answers the request as a whole is
    /// one here.
    pub(super) async fn ask(&mut self, request: &Request<'_>) -> Result<Answer, ServiceError> {
        let correlation = self.link.next_correlation();
        let mut bytes = Vec::with_capacity(REQUEST_BYTES);
        request.encode(correlation, &mut bytes);
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(ErrorCode::BatchRequestTooLong.into());
        }
        let id = self.open_id();
        self.link.say(self.shard, LinkItem::Data { connection: id, bytes });
        loop {
            let output = poll_fn(|context| self.link.poll_output(id, context)).await;
            let Some(frames) = output else {
                return Err(ErrorCode::ShuttingDown.into());
            };
            let found = Found::of(&frames, correlation);
            let is_found = found.is_some();
            let found = found.unwrap_or_default();
            let answer = Answer { link: Rc::clone(&self.link), id, shard: self.shard, frames, found };
            if is_found {
                return answer.checked();
            }
            // A goodbye, after which the line ends, or what was asked by a request that nobody waits for.
            answer.given();
        }
    }

    /// Ends what is waited for on it, and gives back what was not given to the client. The next request opens
    /// it anew.
    pub(super) fn hang_up(&mut self) {
        self.id.take().into_iter().for_each(|id| self.link.close(id));
    }

    fn open_id(&mut self) -> ConnectionId {
        match self.id {
            Some(id) if self.link.is_open(id) => id,
            _ => *self.id.insert(self.link.open(self.shard)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// What a shard has answered, in its own buffer. The shard counts it as given to the client when
/// [`Answer::given`] is called. Dropping it instead closes its line: what it hands out goes back (rule 4).
pub(super) struct Answer {
    link: Rc<Link>,
    id: ConnectionId,
    shard: u16,
    frames: Vec<u8>,
    found: Found,
}

/// Where among the frames the answer is, and what its header says.
#[derive(Debug, Default)]
struct Found {
    version: u8,
    operation: u8,
    flags: u16,
    correlation: u32,
    payload: Range<usize>,
}

impl Found {
    /// The frame that answers what was asked by this number.
    fn of(frames: &[u8], correlation: u32) -> Option<Self> {
        let mut start = 0;
        while let Ok(Some((frame, length))) = split_frame(&frames[start..], usize::MAX) {
            let end = start + length;
            if frame.correlation == correlation {
                let Frame { version, operation, flags, correlation, payload } = frame;
                return Some(Self {
                    version,
                    operation,
                    flags,
                    correlation,
                    payload: end - payload.len()..end,
                });
            }
            start = end;
        }
        None
    }
}

impl Answer {
    /// What it says.
    pub(super) fn response(&self) -> Result<Response<'_>, ServiceError> {
        let &Found { version, operation, flags, correlation, ref payload } = &self.found;
        let payload = &self.frames[payload.clone()];
        Response::decode(&Frame { version, operation, flags, correlation, payload })
            .map_err(|_| ServiceError::new(ErrorCode::Internal, "a shard's answer cannot be read"))
    }

    /// It has been given to the client, or is nothing that has to be.
    pub(super) fn given(mut self) {
        let buffer = std::mem::take(&mut self.frames);
        self.link.say_later(self.shard, LinkItem::Sent { connection: self.id, buffer });
    }

    fn checked(self) -> Result<Self, ServiceError> {
        if self.found.flags & FLAG_ERROR == 0 {
            return Ok(self);
        }
        let error = match self.response()? {
            Response::Error(error) => {
                let code = ErrorCode::from_number(error.number).unwrap_or(ErrorCode::Internal);
                let text = error.text.unwrap_or(code.text()).to_owned();
                ServiceError::new(code, text)
            }
            _ => return Ok(self),
        };
        self.given();
        Err(error)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.frames.is_empty() {
            self.link.close(self.id);
        }
    }
}
