//! From bytes to frames: connections come and go, partial frames wait for their rest, and input
//! waits where the shard cannot take it.

use tenpin_protocol::{
    ErrorCode, FRAME_BYTES_MAX_BEFORE_HELLO, HEADER_BYTES, Operation, frame_bytes, split_frame,
};

use super::Core;
use super::connection::{Connection, Stage};
use super::driver::ConnectionId;
use super::limits;
use crate::engine::{Command, Home, Ticket};
use crate::exchange::parcel::Item;
use crate::flaws::{Flaw, Flaws};
use crate::journal::Room;

impl<F: Flaws> Core<F> {
    pub(super) fn accepted(&mut self, id: ConnectionId) {
        let connection = Connection::new(id, self.monotonic_ms(), FRAME_BYTES_MAX_BEFORE_HELLO);
        self.connections.insert(connection);
        self.refuse_if_too_much(id);
    }

    /// Refuses a new connection that cannot be served.
    pub(super) fn refuse_if_too_much(&mut self, id: ConnectionId) {
        if self.drain.is_some() {
            self.refuse_connection(
                id,
                ErrorCode::ShuttingDown,
                "the broker is shutting down; connect again later",
            );
        } else if self.connections.len() > limits::CONNECTIONS_MAX && !id.is_of_gateway() {
            self.refuse_connection(
                id,
                ErrorCode::TooManyConnections,
                "the broker has as many connections as it takes",
            );
        }
    }

    /// The connection is gone: what it waited for is forgotten, and what it was to be given but never
    /// was goes back (rule 4).
    pub(super) fn closed(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        self.partial_bytes -= connection.input.len();
        connection.uncount(&mut self.unsent_bytes);
        let mut undelivered = connection.undelivered();
        for (shard, messages) in connection.undelivered_elsewhere() {
            self.give_back(shard, messages);
        }
        for &(shard, out) in &connection.known_by {
            self.exchange.outbox.push(shard, Item::Closed(id));
            // What is not answered yet may never be, as nobody asks any more.
            if !F::has(Flaw::LoseCreditOfGoneConnections) {
                (0..out).for_each(|_| self.exchange.outbox.give_credit(shard));
            }
        }
        self.drop_parked(id, &mut undelivered);
        self.apply(no_ticket(id), Command::CancelWaits { connection: id });
        if !undelivered.is_empty() {
            self.apply(no_ticket(id), Command::Undelivered { messages: &undelivered });
        }
    }

    pub(super) fn take_data(&mut self, id: ConnectionId, bytes: &[u8]) {
        let now_ms = self.monotonic_ms();
        let may_take_input = self.may_take_input();
        let Some(connection) = self.connections.get_mut(id) else { return };
        // A hello that comes a byte at a time has no more time than one that does not come, and who is let go has
        // nothing more to say.
        if !matches!(connection.stage, Stage::Greeting | Stage::Closing) {
            connection.heard_ms = now_ms;
        }
        if connection.stage == Stage::Closing {
            return;
        }
        if !connection.stalled && !may_take_input {
            self.stall(id);
        }
        self.take_bytes(id, bytes);
    }

    /// Takes input that waited, as long as it may be taken: one connection after the other, each as
    /// far as it goes.
    pub(super) fn take_stalled_input(&mut self) {
        for _ in 0..self.stalled.len() {
            if !self.may_take_input() {
                return;
            }
            let Some(id) = self.stalled.pop_front() else { return };
            let short = self.is_short();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if matches!(connection.stage, Stage::Closing | Stage::Leaving { .. }) {
                continue;
            }
            let lacks_credit =
                connection.lacks_credit_of.is_some_and(|shard| !self.exchange.has_credit_of(shard));
            if lacks_credit || connection.asks_too_much() || is_over(connection, short) {
                self.stalled.push_back(id);
                continue;
            }
            connection.lacks_credit_of = None;
            self.resume(id);
        }
    }

    /// Takes sends that waited, where they need not wait any more: one connection after the other, each as far
    /// as it goes.
    pub(super) fn take_waiting_sends(&mut self) {
        self.room_waits.is_their_turn = true;
        self.take_sends_in_turn();
        self.room_waits.is_their_turn = false;
    }

    fn take_sends_in_turn(&mut self) {
        for _ in 0..self.room_waits.waiting.len() {
            if self.room_awaited_until_ms().is_some() || !self.may_take_input() {
                return;
            }
            let Some(id) = self.room_waits.waiting.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if !matches!(connection.stage, Stage::Closing | Stage::Leaving { .. }) {
                self.resume(id);
            }
        }
    }

    /// Goes on with a connection's input.
    fn resume(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.stalled = false;
        self.take_assembled(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.stalled && !connection.is_read {
            connection.is_read = true;
            self.reading.push((id, true));
        }
    }

    /// Whether clients have so much unsent that each is held shorter.
    pub(super) fn is_short(&self) -> bool {
        self.unsent_bytes > limits::ALL_UNSENT_BYTES_MAX / usize::from(self.exchange.shards)
    }

    /// Whether requests can be taken at all: the log keeps up, and so do reads of cold bodies.
    pub(super) fn may_take_input(&self) -> bool {
        !self.log.is_backlogged() && self.parked.has_room() && self.exchange.start.is_over
    }

    fn take_bytes(&mut self, id: ConnectionId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(connection) = self.connections.get_mut(id) else { return };
            if connection.stage == Stage::Closing {
                return;
            }
            if connection.stalled {
                return self.keep(id, bytes);
            }
            if connection.input.is_empty() {
                let consumed = self.take_frames(id, bytes);
                bytes = &bytes[consumed..];
                if !bytes.is_empty() {
                    return self.keep(id, bytes);
                }
            } else {
                // A frame that came in parts is put together once; then the rest is taken in place.
                let frame_bytes_max = connection.frame_bytes_max;
                let missing = missing_bytes(connection.input.bytes(), frame_bytes_max).min(bytes.len());
                let (part, rest) = bytes.split_at(missing);
                bytes = rest;
                self.keep(id, part);
                self.take_assembled(id);
            }
        }
    }

    fn take_assembled(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut input = std::mem::take(&mut connection.input);
        self.partial_bytes -= input.len();
        let consumed = self.take_frames(id, input.bytes());
        let Some(connection) = self.connections.get_mut(id) else { return };
        input.skip(consumed);
        self.partial_bytes += input.len();
        connection.input = input;
    }

    /// Serves the whole frames at the front of `bytes` and says how many bytes they were. Stops
    /// where the connection must not be served any further.
    fn take_frames(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let mut consumed = 0;
        while consumed < bytes.len() {
            let short = self.is_short();
            let shard_can = self.may_take_input();
            let Some(connection) = self.connections.get_mut(id) else { return bytes.len() };
            if connection.stage == Stage::Closing {
                return bytes.len();
            }
            if !shard_can || connection.asks_too_much() || is_over(connection, short) {
                self.stall(id);
                return consumed;
            }
            match split_frame(&bytes[consumed..], connection.frame_bytes_max) {
                Ok(Some((frame, length))) => {
                    if !self.take_frame(id, &frame) {
                        self.stall(id);
                        return consumed;
                    }
                    consumed += length;
                }
                Ok(None) => return consumed,
                Err(error) => {
                    if connection.stage == Stage::Greeting && is_http(&bytes[consumed..]) {
                        self.refuse_http(id);
                    } else {
                        self.refuse_connection(id, error.code(), &error.to_string());
                    }
                    return bytes.len();
                }
            }
        }
        consumed
    }

    fn keep(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if self.partial_bytes + bytes.len() > limits::PARTIAL_BYTES_MAX {
            let text = "too many frames are coming in parts on all connections; connect again later";
            return self.refuse_connection(id, ErrorCode::RequestThrottled, text);
        }
        self.partial_bytes += bytes.len();
        connection.input.extend(bytes);
        if connection.stalled && connection.is_read && connection.input.len() >= limits::READ_AHEAD_BYTES {
            connection.is_read = false;
            self.reading.push((id, false));
        }
    }

    fn stall(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.stalled
        {
            connection.stalled = true;
            self.stalled.push_back(id);
            if std::mem::take(&mut connection.is_read) {
                self.reading.push((id, false));
            }
        }
    }

    /// Whether a send of a connection waits for room; if so, the connection does. It is read on for a while, as
    /// there will be some soon. What is stored on another shard waits for none here.
    #[inline]
    pub(super) fn send_waits(&mut self, id: ConnectionId, queue: u64) -> bool {
        let comes_first = self.room_waits.waiting.is_empty() || self.room_waits.is_their_turn;
        if self.room_awaited_until_ms().is_none() && comes_first {
            return false;
        }
        if matches!(self.engine.home(queue), Home::Shard(shard) if shard != self.exchange.me) {
            return false;
        }
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.takes_messages)
        else {
            return false;
        };
        if !std::mem::replace(&mut connection.stalled, true) {
            self.room_waits.waiting.push_back(id);
        }
        true
    }

    /// Until when sends wait for room in the log, where they do.
    #[inline]
    pub(super) fn room_awaited_until_ms(&mut self) -> Option<u64> {
        let has_room = self.drain.is_some() || self.log.room() == Room::All;
        self.room_waits.until_ms(has_room, self.clock.monotonic_ms())
    }

    /// Closes connections that did not say hello, or anything, for too long, or do not go.
    pub(super) fn close_silent(&mut self) {
        let now_ms = self.monotonic_ms();
        if now_ms < self.silence_checked_ms + self.silence_check_interval_ms() {
            return;
        }
        let looked_ms_ago = now_ms - self.silence_checked_ms;
        self.silence_checked_ms = now_ms;
        let short = self.is_short();
        let mut silent = Vec::new();
        for connection in self.connections.iter_mut() {
            let silent_ms = now_ms - connection.heard_ms;
            // Once for each silence, at the look that finds it long enough.
            let enough_ms = limits::SILENT_MS_KEEPS_BUFFERS;
            if silent_ms >= enough_ms && silent_ms.saturating_sub(looked_ms_ago) < enough_ms {
                connection.give_memory_back();
            }
            match connection.stage {
                Stage::Greeting if silent_ms >= self.options.handshake_timeout_ms => {
                    silent.push((connection.id, ErrorCode::HandshakeTimeout, "no hello came in time"));
                }
                // Its driver does not let go of it before it has taken what was sent to it.
                Stage::Leaving { .. } if silent_ms >= self.options.handshake_timeout_ms => {
                    self.closing.push((connection.id, true));
                }
                // It does not take what it is owed, whatever its input waits for.
                Stage::Closing if silent_ms >= self.options.keep_alive_timeout_ms => {
                    self.closing.push((connection.id, true));
                }
                Stage::Serving if silent_ms >= self.options.keep_alive_timeout_ms => {
                    // Input that waits for the shard is no silence of the client's.
                    if !connection.stalled {
                        let text = "nothing came for too long; send pings";
                        silent.push((connection.id, ErrorCode::KeepAliveTimeout, text));
                    } else if is_over(connection, short) {
                        silent.push((
                            connection.id,
                            ErrorCode::SlowReader,
                            "replies were not read for too long",
                        ));
                    }
                }
                _ => {}
            }
        }
        for (id, code, text) in silent {
            self.refuse_connection(id, code, text);
        }
    }

    pub(super) fn silence_check_interval_ms(&self) -> u64 {
        limits::SILENCE_CHECK_MS.min(self.options.handshake_timeout_ms.div_ceil(2))
    }
}

/// The ticket of what nobody asked for and nobody is answered.
fn no_ticket(connection: ConnectionId) -> Ticket {
    Ticket { connection, correlation: 0, operation: Operation::Goodbye }
}

/// Whether this is how a request of HTTP begins, which taken as a length is one that no frame may have.
#[cold]
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE"];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Whether a connection has so much unsent that its requests wait.
pub(super) fn is_over(connection: &Connection, short: bool) -> bool {
    let bound = if short { limits::UNSENT_BYTES_WHEN_SHORT } else { limits::UNSENT_BYTES_MAX };
    connection.unsent_bytes() > bound
}

/// How many bytes the frame at the front of `input` still lacks, as far as is known.
fn missing_bytes(input: &[u8], frame_bytes_max: usize) -> usize {
    match frame_bytes(input) {
        // One of an impossible length is refused when it is taken apart, without its rest.
        Some(whole) if whole > input.len() && whole <= frame_bytes_max => whole - input.len(),
        Some(_) => 1,
        None => HEADER_BYTES - input.len().min(HEADER_BYTES - 1),
    }
}
