//! Clients: they speak the real protocol, do what their plan says, and tell the checker what they
//! asked and what they were answered.

use std::collections::{BTreeMap, VecDeque};

use crate::shard::driver::ConnectionId;

use super::checker::{Checker, Ending, Settings, Window};
use super::network::Link;
use super::plan::{ClientPlan, MS, SECOND};
use super::random::Random;
use super::world::{Phase, World};

/// What a client asked, to be ended once.
#[derive(Debug)]
pub(super) enum Asked {
    Hello,
    /// `is_last_word`: nobody creates it any more.
    Open {
        name: usize,
        is_last_word: bool,
    },
    Create {
        name: usize,
        settings: Settings,
    },
    Send {
        queue: u64,
        /// Each with whether it was sent before.
        ids: Vec<(u64, bool)>,
    },
    Receive {
        queue: u64,
        visibility_seconds: Option<u64>,
        reply_bytes_max: u32,
        wait_ms: u32,
    },
    Delete {
        queue: u64,
        entries: Vec<Held>,
    },
    Change {
        queue: u64,
        entries: Vec<(u64, usize)>,
    },
    Peek {
        queue: u64,
    },
    Purge {
        queue: u64,
    },
    DeleteQueue {
        queue: u64,
    },
    Set {
        queue: u64,
        change: usize,
    },
    /// `is_last_word`: nothing can come into the queue any more.
    Get {
        queue: u64,
        is_last_word: bool,
    },
    Stats {
        queue: u64,
    },
    List,
    StartTask,
    CancelTask,
    ListTasks {
        queue: u64,
    },
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) asked: Asked,
    /// Where it ends in the stream to the shard.
    end: u64,
    asked_ns: u64,
    /// When the shard was handed it, where the link is gone and so the answer is final.
    arrived_ns: Option<u64>,
}

/// A link as its client knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    greeted: bool,
    /// The broker's end is gone; `arrived_ns` of what is pending is final.
    is_gone: bool,
    /// It was sent what is no frame: it will be closed.
    spoiled: bool,
    sent_bytes: u64,
    read_bytes: u64,
    input: Vec<u8>,
    next_correlation: u32,
    pub(super) pending: BTreeMap<u32, Pending>,
}

/// A message in a client's hands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) queue: u64,
    pub(super) id: u64,
    pub(super) handle: Vec<u8>,
}

/// One client of the broker.
#[derive(Debug)]
pub struct Client {
    pub(super) index: usize,
    pub(super) random: Random,
    pub(super) plan: ClientPlan,
    pub(super) connection: Option<Connection>,
    /// Numbers of the queues that it has opened, by their names.
    pub(super) numbers: BTreeMap<usize, u64>,
    pub(super) held: Vec<Held>,
    pub(super) deleted: VecDeque<Held>,
    /// Handles of move tasks that it has started.
    pub(super) tasks: Vec<Vec<u8>>,
    /// What it sent to FIFO queues lately: queue, message, length of its body.
    pub(super) sent_fifo: VecDeque<(u64, u64, usize)>,
    pub(super) drain: super::drain::Drain,
    calm: bool,
}

impl Client {
    /// A client that has not done anything yet.
    pub fn new(index: usize, plan: &ClientPlan, random: Random) -> Self {
        Self {
            index,
            random,
            plan: plan.clone(),
            connection: None,
            numbers: BTreeMap::new(),
            held: Vec::new(),
            deleted: VecDeque::new(),
            tasks: Vec::new(),
            sent_fifo: VecDeque::new(),
            drain: super::drain::Drain::default(),
            calm: false,
        }
    }

    /// Looks at what it could do, and when to look again.
    pub fn wakes(&mut self, world: &mut World) {
        let calm = world.phase != Phase::Chaos;
        let think_ns = if calm { 4 * MS } else { self.plan.think_ns };
        let again_ns = self.random.between(think_ns / 4, think_ns * 2);
        world.wake_client(self.index, again_ns);
        if calm && !self.calm {
            self.calm = true;
            // What it holds comes back to be received again; nothing is deleted by an old handle.
            self.held.clear();
            self.deleted.clear();
        }
        self.check_patience(world);
        let Some(connection) = &self.connection else { return self.connect(world) };
        if !connection.greeted || connection.is_gone {
            return;
        }
        if connection.spoiled || (!calm && self.random.chance(1, 1_000)) {
            if self.random.chance(1, 20) {
                self.hang_up(world);
            }
            return;
        }
        if calm {
            super::drain::act(self, world);
        } else if connection.pending.len() < self.plan.pipeline {
            super::habits::act(self, world);
        }
    }

    fn connect(&mut self, world: &mut World) {
        let Some(id) = world.connect(self.index) else { return };
        self.connection = Some(Connection {
            id,
            greeted: false,
            is_gone: false,
            spoiled: false,
            sent_bytes: 0,
            read_bytes: 0,
            input: Vec::new(),
            next_correlation: 0,
            pending: BTreeMap::new(),
        });
        let hello = tenpin_protocol::Hello {
            version_minimum: tenpin_protocol::VERSION,
            version_maximum: tenpin_protocol::VERSION,
            shard: tenpin_protocol::ANY_SHARD,
            client: "simulator",
            ..Default::default()
        };
        self.ask(world, hello.into(), Asked::Hello);
    }

    /// The shard that its link is with.
    pub(super) fn shard(&self, world: &mut World) -> u16 {
        let id = self.connection.as_ref().map(|connection| connection.id);
        id.and_then(|id| world.link(id)).map_or(0, |link| link.shard)
    }

    /// Closes its link without waiting for anything.
    fn hang_up(&mut self, world: &mut World) {
        if let Some(connection) = &self.connection {
            let id = connection.id;
            world.client_closes(id);
            self.lost(world, id);
        }
    }

    /// Sends a request.
    pub(super) fn ask(&mut self, world: &mut World, request: tenpin_protocol::Request<'_>, asked: Asked) {
        let Some(connection) = &mut self.connection else { return };
        connection.next_correlation += 1;
        let correlation = connection.next_correlation;
        let mut bytes = Vec::new();
        request.encode(correlation, &mut bytes);
        connection.sent_bytes += bytes.len() as u64;
        let end = connection.sent_bytes;
        let operation = u64::from(request.operation().number());
        world.note("ask", &[self.index as u64, operation, u64::from(correlation), bytes.len() as u64]);
        world.trace.remark(world.now_ns, || format!("{asked:?}"));
        connection
            .pending
            .insert(correlation, Pending { asked, end, asked_ns: world.now_ns, arrived_ns: None });
        world.client_sends(connection.id, &bytes);
    }

    /// Sends bytes that are no request; the broker is to close the link.
    pub(super) fn spoil(&mut self, world: &mut World, bytes: &[u8]) {
        if let Some(connection) = &mut self.connection {
            connection.spoiled = true;
            world.note("spoil", &[self.index as u64, bytes.len() as u64]);
            world.client_sends(connection.id, bytes);
        }
    }

    /// Bytes came.
    pub fn take(&mut self, world: &mut World, id: ConnectionId, bytes: &[u8]) {
        if self.connection.as_ref().is_none_or(|connection| connection.id != id) {
            return;
        }
        for (frame, end) in self.frames(world, bytes) {
            let Some(connection) = &self.connection else { return };
            let Some(link) = world.link(id) else { return };
            let window = window(connection, link, &frame, end);
            self.answered(world, &frame, window);
        }
    }

    /// The last bytes came that a broker had sent before it was killed.
    pub fn take_last(&mut self, world: &mut World, link: &mut Link, bytes: &[u8]) {
        if self.connection.as_ref().is_none_or(|connection| connection.id != link.id) {
            return;
        }
        for (frame, end) in self.frames(world, bytes) {
            let Some(connection) = &self.connection else { return };
            let window = window(connection, link, &frame, end);
            self.answered(world, &frame, window);
        }
    }

    /// The whole frames there are, each with its end in the stream.
    fn frames(&mut self, world: &mut World, bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let connection = self.connection.as_mut().expect("the caller has looked");
        connection.input.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut start = 0;
        loop {
            match tenpin_protocol::split_frame(&connection.input[start..], 16 << 20) {
                Ok(Some((_, length))) => {
                    connection.read_bytes += length as u64;
                    frames.push((connection.input[start..start + length].to_vec(), connection.read_bytes));
                    start += length;
                }
                Ok(None) => break,
                Err(error) => {
                    world.violation(format!("the broker sent what is no frame: {error}"));
                    break;
                }
            }
        }
        connection.input.drain(..start);
        frames
    }

    fn answered(&mut self, world: &mut World, bytes: &[u8], window: Option<Window>) {
        let Ok(Some((frame, _))) = tenpin_protocol::split_frame(bytes, 16 << 20) else { return };
        world.note("answer", &[self.index as u64, u64::from(frame.operation), u64::from(frame.correlation)]);
        let response = match tenpin_protocol::Response::decode(&frame) {
            Ok(response) => response,
            Err(error) => return world.violation(format!("a reply cannot be read: {error}")),
        };
        world.trace.remark(world.now_ns, || format!("{window:?} {}", brief(&response)));
        let connection = self.connection.as_mut().expect("the caller has looked");
        let Some(pending) = connection.pending.remove(&frame.correlation) else {
            if frame.correlation != 0 {
                world.violation(format!("a reply came to a request that is not pending: {frame:?}"));
            } else if !connection.spoiled
                && matches!(&response, tenpin_protocol::Response::Error(error) if is_our_fault(error))
            {
                world.violation(format!("the broker closes a good connection: {response:?}"));
            }
            return;
        };
        let Some(window) = window else {
            return world.violation(format!("a reply came before its request: {frame:?}"));
        };
        if matches!(pending.asked, Asked::Hello) {
            connection.greeted = true;
        }
        super::answers::take(self, world, pending.asked, &response, window, bytes.len());
    }

    /// The broker's end of the link is gone: notes what of it the shard was handed.
    pub fn link_gone(&mut self, link: &mut Link, checker: &mut Checker, now_ns: u64) {
        for queue in link.abandoned.drain(..) {
            checker.abandoned_receive_ended(queue, now_ns);
        }
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == link.id) else {
            return;
        };
        connection.is_gone = true;
        for pending in connection.pending.values_mut() {
            pending.arrived_ns = link.arrival_ns(pending.end);
            if let (Asked::Receive { queue, .. }, Some(_)) = (&pending.asked, pending.arrived_ns) {
                checker.receive_lost(*queue, now_ns);
            }
        }
    }

    /// The link is gone; what is pending will never be answered.
    pub fn lost(&mut self, world: &mut World, id: ConnectionId) {
        let Some(mut connection) = self.connection.take_if(|connection| connection.id == id) else { return };
        world.note("lost", &[self.index as u64, connection.pending.len() as u64]);
        self.drain.forget();
        let now_ns = world.now_ns;
        for pending in std::mem::take(&mut connection.pending).into_values() {
            if let (Asked::Receive { queue, .. }, false) = (&pending.asked, connection.is_gone)
                && world.abandon(id, *queue)
            {
                world.checker.receive_abandoned(*queue);
            }
            let arrived_ns = if connection.is_gone {
                pending.arrived_ns
            } else {
                // Some of it may still be handed over.
                let arrived_ns = world.link(id).and_then(|link| link.arrival_ns(pending.end));
                Some(arrived_ns.unwrap_or(now_ns))
            };
            super::answers::end(world, &pending.asked, Ending::Unknown(arrived_ns));
        }
    }

    /// Whether anything should have been answered long ago.
    fn check_patience(&self, world: &mut World) {
        let Some(connection) =
            self.connection.as_ref().filter(|connection| !connection.is_gone && !connection.spoiled)
        else {
            return;
        };
        let calm = world.calm_for_ns();
        for pending in connection.pending.values() {
            let wait_ms =
                if let Asked::Receive { wait_ms, .. } = pending.asked { u64::from(wait_ms) } else { 0 };
            let waited_ns = world.now_ns - pending.asked_ns;
            let bound_ns =
                wait_ms * MS * 101 / 100 + if calm > 0 { 20 * SECOND } else { self.plan.patience_ns };
            let counted_ns = if calm > 0 { waited_ns.min(calm) } else { waited_ns };
            if counted_ns > bound_ns {
                let text = format!(
                    "client {} was not answered for {} ms: {:?}",
                    self.index,
                    waited_ns / MS,
                    pending.asked
                );
                return world.violation(text);
            }
        }
    }
}

/// A response for a reader of the trace: without the bodies.
fn brief(response: &tenpin_protocol::Response<'_>) -> String {
    match response {
        tenpin_protocol::Response::Receive(reply) => format!("{} messages", reply.messages.len()),
        tenpin_protocol::Response::Peek(reply) => format!("a look at {} messages", reply.messages.len()),
        other => format!("{other:?}"),
    }
}

/// Errors that end a connection and that a client which speaks the protocol never sees.
fn is_our_fault(error: &tenpin_protocol::ErrorFrame<'_>) -> bool {
    use tenpin_protocol::ErrorCode;
    matches!(
        error.code(),
        None | Some(
            ErrorCode::BadFrame
                | ErrorCode::CrcMismatch
                | ErrorCode::FrameTooLarge
                | ErrorCode::UnsupportedVersion
                | ErrorCode::UnknownOperation
                | ErrorCode::ReservedBits
                | ErrorCode::Internal
        )
    )
}

fn window(connection: &Connection, link: &mut Link, frame: &[u8], end: u64) -> Option<Window> {
    let departure = link.departure(end);
    let correlation = u32::from_le_bytes(*frame.get(12..16)?.first_chunk()?);
    let pending = connection.pending.get(&correlation)?;
    let from_ns = link.arrival_ns(pending.end)?;
    Some(Window { from_ns, earliest_ns: departure.earliest_ns, to_ns: departure.latest_ns })
}
