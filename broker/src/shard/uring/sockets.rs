//! The sockets of the io_uring driver: one receive and at most one send of a connection are with the
//! kernel, and its place is free only when both have come back.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::super::accepting::{Accepting, lacks_resources, widen_backlog};
use super::super::driver::{ConnectionId, Event, EventSink};
use super::super::linger::{LINGER_DISCARD_BYTES_MAX, LingerQueue};
use super::super::table::ConnectionTable;
use super::buffers::{BUFFER_COUNT, Buffers};
use super::ring::{Completion, Ring};

/// The listening socket and all connections. Owned by the driver.
pub(super) struct Sockets {
    listener: Option<TcpListener>,
    /// The multishot accept is with the kernel.
    is_accept_armed: bool,
    /// Nobody is let in any more.
    is_stopping: bool,
    accepting: Accepting,
    connections: ConnectionTable<Connection>,
    lingering: LingerQueue,
    /// Connections that found no buffer, in order; each is to receive again.
    starved: VecDeque<ConnectionId>,
    /// Connections that were detached and not yet taken.
    detached: Vec<(ConnectionId, TcpStream)>,
    /// Monotonic time at the beginning of this turn.
    now_ns: u64,
}

struct Connection {
    socket: TcpStream,
    sending: Option<Sending>,
    receive: Receive,
    /// The shard wants what arrives.
    reading: bool,
    stage: Stage,
    /// What arrived since it is to leave this driver; at most what the buffers held at that moment.
    unread: Vec<u8>,
    /// Why it ends, where that is not in good order.
    error: Option<io::Error>,
}

struct Sending {
    buffer: Vec<u8>,
    written: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receive {
    /// Nothing is with the kernel.
    Idle,
    /// The multishot receive is.
    Armed,
    /// It is, and has been cancelled.
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// It leaves this driver when what is with the kernel has come back.
    Detaching,
    /// The peer has finished; the connection ends with the send that is under way.
    Flushing,
    /// Closed by the shard; the connection lingers after the send that is under way.
    FlushingToLinger,
    /// All is sent; what still arrives is thrown away until the peer closes.
    Lingering {
        discarded_bytes: usize,
    },
    /// Over; waits for what is with the kernel to come back.
    Closing,
}

impl Sockets {
    pub(super) fn new(listener: Option<TcpListener>) -> io::Result<Self> {
        if let Some(listener) = &listener {
            // The ring refuses to wait for what a nonblocking socket does not have at once.
            listener.set_nonblocking(false)?;
            widen_backlog(listener)?;
        }
        Ok(Self {
            listener,
            is_accept_armed: false,
            is_stopping: false,
            accepting: Accepting::Ready,
            connections: ConnectionTable::new(),
            lingering: LingerQueue::new(),
            starved: VecDeque::new(),
            detached: Vec::new(),
            now_ns: 0,
        })
    }

    /// When there is something to do that no completion brings.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        [self.accepting.rests_until_ns(), self.lingering.next_deadline_ns()].into_iter().flatten().min()
    }

    pub(super) fn turn_begins(
        &mut self,
        now_ns: u64,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        self.now_ns = now_ns;
        while let Some(id) = self.lingering.pop_due(now_ns) {
            self.begin_closing(id, None, ring, events);
        }
        self.accepting.wake_if_due(now_ns);
    }

    /// Arms the accept where that is due.
    pub(super) fn arm_accept(&mut self, ring: &mut Ring) {
        if self.accepting == Accepting::Ready && !self.is_accept_armed {
            if let Some(listener) = &self.listener {
                ring.accept(listener.as_raw_fd());
                self.is_accept_armed = true;
            }
            self.accepting = Accepting::Waiting;
        }
    }

    /// Lets connections receive again that found no buffer: no more at a time than there are buffers, or
    /// thousands of them would find none again, turn after turn. Returns whether there are more.
    pub(super) fn feed_starved(&mut self, ring: &mut Ring) -> bool {
        for _ in 0..BUFFER_COUNT {
            let Some(id) = self.starved.pop_front() else { return false };
            self.arm_receive(id, ring);
        }
        !self.starved.is_empty()
    }

    pub(super) fn stop_accepting(&mut self, ring: &mut Ring) {
        self.accepting = Accepting::Waiting;
        self.is_stopping = true;
        if self.is_accept_armed {
            // The socket is closed when the accept has come back; until then its number must not name
            // another one.
            ring.cancel_accept();
        } else {
            self.listener = None;
        }
    }

    pub(super) fn accepted(
        &mut self,
        completion: Completion,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        if !completion.more {
            self.is_accept_armed = false;
            self.accepting = Accepting::Ready;
            if self.is_stopping {
                self.listener = None;
            }
        }
        match completion.outcome() {
            Ok(descriptor) => {
                // SAFETY: the kernel has just made the descriptor for us, and nobody else knows it.
                let socket = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
                if !self.is_stopping {
                    // With a full table the socket is closed again, which is all that can be said.
                    if let Some(connection) = self.admit(TcpStream::from(socket), ring) {
                        events.push_back(Event::Accepted { connection });
                    }
                }
            }
            Err(error) if lacks_resources(&error) => self.accepting = Accepting::rest_from(self.now_ns),
            // The client was gone before it was accepted, or accepting was cancelled.
            Err(_) => {}
        }
    }

    /// Closes a connection that was accepted when it was too late.
    pub(super) fn refuse(completion: Completion) {
        if let Ok(descriptor) = completion.outcome() {
            // SAFETY: the kernel has just made the descriptor for us, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor as i32) });
        }
    }

    /// Takes in a new socket and begins to receive; `None` with a full table.
    fn admit(&mut self, socket: TcpStream, ring: &mut Ring) -> Option<ConnectionId> {
        // A socket that refuses this is a broken one; reading from it will say so.
        let _ = socket.set_nodelay(true);
        let connection = Connection {
            socket,
            sending: None,
            receive: Receive::Idle,
            reading: true,
            stage: Stage::Open,
            unread: Vec::new(),
            error: None,
        };
        let id = self.connections.insert(connection).ok()?;
        self.arm_receive(id, ring);
        Some(id)
    }

    /// Takes in a connection from another driver.
    pub(super) fn attach(&mut self, socket: TcpStream, ring: &mut Ring) -> Option<ConnectionId> {
        socket.set_nonblocking(false).ok()?;
        self.admit(socket, ring)
    }

    /// Begins to take a connection out: it leaves when receive and send have come back.
    pub(super) fn detach(
        &mut self,
        id: ConnectionId,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stage != Stage::Open {
            return;
        }
        connection.stage = Stage::Detaching;
        connection.reading = false;
        if connection.receive == Receive::Armed {
            connection.receive = Receive::Cancelled;
            ring.cancel_receive(id);
        }
        self.let_go_if_idle(id, events);
    }

    pub(super) fn take_detached(&mut self, id: ConnectionId) -> Option<TcpStream> {
        let place = self.detached.iter().position(|(detached, _)| *detached == id)?;
        Some(self.detached.swap_remove(place).1)
    }

    fn let_go_if_idle(&mut self, id: ConnectionId, events: &mut VecDeque<Event<'static>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.receive != Receive::Idle || connection.sending.is_some() {
            return;
        }
        if let Some(connection) = self.connections.remove(id) {
            self.detached.push((id, connection.socket));
            events.push_back(Event::Detached { connection: id, unread: connection.unread });
        }
    }

    /// Begins to receive if that is wanted and not under way.
    fn arm_receive(&mut self, id: ConnectionId, ring: &mut Ring) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let may = matches!(connection.stage, Stage::Open | Stage::FlushingToLinger | Stage::Lingering { .. });
        if may && connection.reading && connection.receive == Receive::Idle {
            connection.receive = Receive::Armed;
            ring.receive(id, connection.socket.as_raw_fd());
        }
    }

    pub(super) fn received<S: EventSink>(
        &mut self,
        id: ConnectionId,
        completion: Completion,
        ring: &mut Ring,
        buffers: &mut Buffers,
        events: &mut VecDeque<Event<'static>>,
        sink: &mut S,
    ) {
        let connection = self.connections.get_mut(id).expect("a place is kept until its last completion");
        if !completion.more {
            connection.receive = Receive::Idle;
        }
        let outcome = completion.outcome();
        if let Some(buffer) = completion.buffer {
            let bytes = buffers.received(buffer, *outcome.as_ref().unwrap_or(&0));
            match &mut connection.stage {
                Stage::Open if !bytes.is_empty() => sink.event(Event::Data { connection: id, bytes }),
                Stage::Detaching => connection.unread.extend_from_slice(bytes),
                Stage::Lingering { discarded_bytes } => *discarded_bytes += bytes.len(),
                _ => {}
            }
            buffers.give_back(buffer);
        }
        let discards_too_much = matches!(connection.stage,
            Stage::Lingering { discarded_bytes } if discarded_bytes > LINGER_DISCARD_BYTES_MAX);
        match outcome {
            // Whoever gets the socket next finds its end again.
            Ok(0) if connection.stage == Stage::Detaching => {}
            Ok(0) => self.end_of_input(id, ring, events),
            Ok(_) if discards_too_much => self.begin_closing(id, None, ring, events),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                if !completion.more && !matches!(connection.stage, Stage::Closing | Stage::Detaching) {
                    return self.starved.push_back(id);
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => self.begin_closing(id, Some(error), ring, events),
        }
        self.go_on(id, ring, events);
    }

    /// What follows when a request of a connection has come back for good.
    fn go_on(&mut self, id: ConnectionId, ring: &mut Ring, events: &mut VecDeque<Event<'static>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.stage {
            Stage::Closing => self.finish_if_idle(id, events),
            Stage::Detaching => self.let_go_if_idle(id, events),
            _ => self.arm_receive(id, ring),
        }
    }

    /// The peer has finished. It may still read, so a send that is under way is completed.
    fn end_of_input(&mut self, id: ConnectionId, ring: &mut Ring, events: &mut VecDeque<Event<'static>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.sending.is_some() && connection.stage != Stage::Closing {
            connection.stage = Stage::Flushing;
        } else {
            self.begin_closing(id, None, ring, events);
        }
    }

    /// Starts sending; a buffer for a connection that is gone is dropped.
    pub(super) fn send(&mut self, id: ConnectionId, buffer: Vec<u8>, ring: &mut Ring) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        assert!(connection.sending.is_none(), "one send at a time for a connection");
        if connection.stage != Stage::Open {
            return;
        }
        connection.sending = Some(Sending { buffer, written: 0 });
        connection.submit_send(id, ring);
    }

    pub(super) fn sent(
        &mut self,
        id: ConnectionId,
        completion: Completion,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        let connection = self.connections.get_mut(id).expect("a place is kept until its last completion");
        let sending = connection.sending.as_mut().expect("a buffer is kept until its send has come back");
        let error = match completion.outcome() {
            Ok(length) => {
                sending.written += length;
                None
            }
            Err(error) if is_passing(&error) => None,
            Err(error) => Some(error),
        };
        let is_over = error.is_some() || connection.stage == Stage::Closing;
        if !is_over && sending.written < sending.buffer.len() {
            return connection.submit_send(id, ring);
        }
        if let Some(Sending { buffer, written }) = connection.sending.take() {
            events.push_back(Event::Sent { connection: id, buffer, written });
        }
        match connection.stage {
            _ if error.is_some() => self.begin_closing(id, error, ring, events),
            Stage::Open | Stage::Lingering { .. } => {}
            Stage::Detaching => self.let_go_if_idle(id, events),
            Stage::Flushing => self.begin_closing(id, None, ring, events),
            Stage::FlushingToLinger => self.linger(id, ring, events),
            Stage::Closing => self.finish_if_idle(id, events),
        }
    }

    pub(super) fn set_reading(&mut self, id: ConnectionId, reading: bool, ring: &mut Ring) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stage != Stage::Open || connection.reading == reading {
            return;
        }
        connection.reading = reading;
        if reading {
            // One that was cancelled a moment ago begins again when it has come back.
            self.arm_receive(id, ring);
        } else if connection.receive == Receive::Armed {
            connection.receive = Receive::Cancelled;
            ring.cancel_receive(id);
        }
    }

    pub(super) fn close(
        &mut self,
        id: ConnectionId,
        linger: bool,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !linger {
            return self.begin_closing(id, None, ring, events);
        }
        match (connection.stage, &connection.sending) {
            (Stage::Open, Some(_)) => connection.stage = Stage::FlushingToLinger,
            (Stage::Open, None) => self.linger(id, ring, events),
            _ => {}
        }
    }

    /// All is sent: tell the peer so, and wait for it to close.
    fn linger(&mut self, id: ConnectionId, ring: &mut Ring, events: &mut VecDeque<Event<'static>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.socket.shutdown(Shutdown::Write).is_err() {
            return self.begin_closing(id, None, ring, events);
        }
        connection.stage = Stage::Lingering { discarded_bytes: 0 };
        connection.reading = true;
        self.lingering.push(id, self.now_ns);
        self.arm_receive(id, ring);
    }

    /// The connection is over: what is with the kernel is called back, and then it is gone.
    fn begin_closing(
        &mut self,
        id: ConnectionId,
        error: Option<io::Error>,
        ring: &mut Ring,
        events: &mut VecDeque<Event<'static>>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stage == Stage::Closing {
            return self.finish_if_idle(id, events);
        }
        connection.stage = Stage::Closing;
        connection.error = error;
        if connection.receive == Receive::Armed {
            connection.receive = Receive::Cancelled;
            ring.cancel_receive(id);
        }
        if connection.sending.is_some() {
            ring.cancel_send(id);
        }
        self.finish_if_idle(id, events);
    }

    /// A cancellation has come back. The kernel does not find a request that it has in hand at that very
    /// moment (one that is about to be tried again, for one); what has not come back is cancelled again.
    pub(super) fn receive_cancelled(&mut self, id: ConnectionId, ring: &mut Ring) {
        if self.connections.get_mut(id).is_some_and(|connection| connection.receive == Receive::Cancelled) {
            ring.cancel_receive(id);
        }
    }

    /// As [`Sockets::receive_cancelled`].
    pub(super) fn send_cancelled(&mut self, id: ConnectionId, ring: &mut Ring) {
        if self.connections.get_mut(id).is_some_and(|connection| connection.sending.is_some()) {
            ring.cancel_send(id);
        }
    }

    /// As [`Sockets::receive_cancelled`].
    pub(super) fn accept_cancelled(&mut self, ring: &mut Ring) {
        if self.is_accept_armed {
            ring.cancel_accept();
        }
    }

    fn finish_if_idle(&mut self, id: ConnectionId, events: &mut VecDeque<Event<'static>>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.receive != Receive::Idle || connection.sending.is_some() {
            return;
        }
        let error = connection.error.take();
        self.connections.remove(id);
        events.push_back(Event::Closed { connection: id, error });
        self.accepting.end_rest();
    }
}

impl Connection {
    fn submit_send(&self, id: ConnectionId, ring: &mut Ring) {
        let Some(sending) = &self.sending else { return };
        let rest = &sending.buffer[sending.written..];
        // SAFETY: the buffer is on the heap, and nobody changes or drops it before its send has come
        // back: `sending` is taken only by its completion, a place with a send under way is never
        // removed, and the driver takes all requests back before it drops the table.
        unsafe { ring.send(id, self.socket.as_raw_fd(), rest) };
    }
}

/// Whether a request ended for a reason that says nothing about the connection, and may be made again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EAGAIN | libc::EINTR))
}
