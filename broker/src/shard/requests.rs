//! From frames to commands: what each request asks of the engine, and what is answered here.

use tenpin_protocol::{
    ANY_SHARD, AddPermissionRequest, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, ErrorCode, ErrorFrame,
    FRAME_BYTES_MAX_LEAST, Frame, Hello, HelloReply, NO_QUEUE, Operation, QUEUE_DEFAULT, REVISION,
    ReceiveRequest, Request, Response, VERSION,
};

use super::connection::Stage;
use super::driver::ConnectionId;
use super::routes::Taken;
use super::{Core, limits, peers};
use crate::catalog::Permission;
use crate::engine::{Command, RawName, Ticket};
use crate::exchange::parcel::Item;
use crate::flaws::Flaws;

/// What goes around the messages of a receive's reply at most: the frame's header and fixed part.
const REPLY_FRAME_BYTES: u32 = 64;

impl<F: Flaws> Core<F> {
    /// Serves one whole frame. `false`: it is to be served later, as too much is asked of other shards, or there
    /// is no room yet.
    #[inline]
    pub(super) fn take_frame(&mut self, connection: ConnectionId, frame: &Frame<'_>) -> bool {
        let Some(operation) = Operation::from_number(frame.operation) else {
            self.refuse_unknown_operation(connection, frame);
            return true;
        };
        let ticket = Ticket { connection, correlation: frame.correlation, operation };
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error) => {
                let text = error.to_string();
                self.refuse_request(ticket, error.code, &text);
                if error.code.closes_connection() || frame.correlation == 0 {
                    self.close_when_flushed(connection);
                }
                return true;
            }
        };
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return true };
        connection.takes_messages |= matches!(request, Request::Receive(_) | Request::Delete(_));
        match (connection.stage, &request) {
            (Stage::Greeting, Request::Hello(hello)) => return self.take_hello(ticket, hello),
            (Stage::Greeting, _) | (Stage::Serving, Request::Hello(_)) => {
                let code = ErrorCode::HelloRequired;
                self.refuse_request(ticket, code, code.text());
                self.close_when_flushed(ticket.connection);
            }
            (Stage::Serving, _) if self.drain.is_some() => {
                let text = "the broker is shutting down; connect again later";
                self.refuse_request(ticket, ErrorCode::ShuttingDown, text);
            }
            (Stage::Serving, Request::Send(send)) if self.send_waits(ticket.connection, send.queue) => {
                return false;
            }
            (Stage::Serving, _) if self.exchange.is_alone() => self.serve(ticket, &request),
            (Stage::Serving, _) => return self.serve_or_pass_on(ticket, &request, frame),
            (Stage::Closing | Stage::Leaving { .. }, _) => {}
        }
        true
    }

    #[inline(never)]
    fn serve_or_pass_on(&mut self, ticket: Ticket, request: &Request<'_>, frame: &Frame<'_>) -> bool {
        match self.route(ticket, request, frame) {
            Taken::Yes => true,
            Taken::LacksCreditOf(shard) => {
                if let Some(connection) = self.connections.get_mut(ticket.connection) {
                    connection.lacks_credit_of = Some(shard);
                }
                false
            }
        }
    }

    fn refuse_unknown_operation(&mut self, id: ConnectionId, frame: &Frame<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let text = format!("operation {} is none that this broker knows", frame.operation);
        let out = &mut connection.out;
        ErrorFrame::encode(out, frame.operation, frame.correlation, ErrorCode::UnknownOperation, text);
        Self::mark_dirty(&mut self.dirty, connection);
        if frame.correlation == 0 {
            // An error frame that answers nothing is always a connection's last.
            self.close_when_flushed(id);
        }
    }

    /// Gives the engine a command and sends on what it answers.
    pub(super) fn apply(&mut self, ticket: Ticket, command: Command<'_>) {
        self.engine.apply(self.clock.now_ms(), ticket, command, &mut self.log, &mut self.outputs);
        self.write_replies();
    }

    /// Answers a hello. `false`: another shard will.
    fn take_hello(&mut self, ticket: Ticket, hello: &Hello<'_>) -> bool {
        if !(hello.version_minimum..=hello.version_maximum).contains(&VERSION) {
            let text = format!(
                "the broker speaks version {VERSION}, the client {} to {}",
                hello.version_minimum, hello.version_maximum
            );
            self.refuse_request(ticket, ErrorCode::UnsupportedVersion, &text);
            self.close_when_flushed(ticket.connection);
            return true;
        }
        let shards = self.exchange.shards;
        if hello.shard != ANY_SHARD && hello.shard >= shards {
            let (shard, last) = (hello.shard, shards - 1);
            let text = format!("there is no shard {shard}: this broker has {shards}, numbered 0 to {last}");
            self.refuse_request(ticket, ErrorCode::InvalidParameterValue, &text);
            self.close_when_flushed(ticket.connection);
            return true;
        }
        if let Some(home) = self.home_elsewhere(ticket.connection, hello) {
            self.begin_leaving(ticket.connection, home);
            return false;
        }
        let most = self.options.frame_bytes_max;
        let wanted = if hello.frame_bytes_max == 0 { most } else { hello.frame_bytes_max };
        let frame_bytes_max = wanted.clamp(FRAME_BYTES_MAX_LEAST as u32, most);
        let keep_alive_ms = u32::try_from(self.options.keep_alive_timeout_ms).unwrap_or(u32::MAX);
        let reply = HelloReply {
            version: VERSION,
            revision: REVISION,
            frame_bytes_max,
            batch_entries_max: BATCH_ENTRIES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX as u32,
            long_polls_max: limits::LONG_POLLS_PER_CONNECTION_MAX,
            keep_alive_ms,
            shard_count: shards,
            shard: self.exchange.me,
            broker: concat!("tenpin ", env!("CARGO_PKG_VERSION")),
            ..HelloReply::default()
        };
        let now_ms = self.monotonic_ms();
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.stage = Stage::Serving;
            connection.heard_ms = now_ms;
            connection.frame_bytes_max = frame_bytes_max as usize;
        }
        self.answer(ticket, &Response::Hello(reply));
        true
    }

    /// Serves a request on this shard.
    pub(super) fn serve(&mut self, ticket: Ticket, request: &Request<'_>) {
        match *request {
            Request::Send(request) => {
                self.apply(ticket, Command::Send { queue: request.queue, entries: request.entries });
            }
            Request::Receive(request) => self.serve_receive(ticket, &request),
            Request::Delete(request) => {
                self.apply(ticket, Command::Delete { queue: request.queue, handles: request.handles });
            }
            Request::ChangeVisibility(request) => {
                let command = Command::ChangeVisibility { queue: request.queue, entries: request.entries };
                self.apply(ticket, command);
            }
            Request::Ping(ping) => self.answer(ticket, &Response::Ping(ping)),
            Request::Goodbye(_) => self.take_goodbye(ticket),
            _ => self.serve_rare(ticket, request),
        }
    }

    /// Requests that are not on the hot path.
    fn serve_rare(&mut self, ticket: Ticket, request: &Request<'_>) {
        match *request {
            Request::Open(request) => {
                let name = RawName { account: request.account, region: request.region, name: request.name };
                self.apply_to_catalog(ticket, Command::OpenQueue { name });
            }
            Request::CreateQueue(request) => {
                let name = RawName { account: request.account, region: request.region, name: request.name };
                let (attributes, tags) = (request.attributes, request.tags);
                self.apply_to_catalog(ticket, Command::CreateQueue { name, attributes, tags });
            }
            Request::DeleteQueue(request) => {
                self.apply_to_catalog(ticket, Command::DeleteQueue { queue: request.queue })
            }
            Request::ListQueues(request) => {
                let prefix =
                    RawName { account: request.account, region: request.region, name: request.prefix };
                let count_max = u32::from(request.max);
                self.apply_to_catalog(ticket, Command::ListQueues { prefix, next: request.next, count_max });
            }
            Request::GetAttributes(request) => {
                self.apply_to_catalog(
                    ticket,
                    Command::GetAttributes { queue: request.queue, names: request.names },
                );
            }
            Request::SetAttributes(request) => {
                let command = Command::SetAttributes { queue: request.queue, attributes: request.attributes };
                self.apply_to_catalog(ticket, command);
            }
            Request::TagQueue(request) => {
                self.apply_to_catalog(ticket, Command::TagQueue { queue: request.queue, tags: request.tags });
            }
            Request::UntagQueue(request) => {
                self.apply_to_catalog(
                    ticket,
                    Command::UntagQueue { queue: request.queue, keys: request.keys },
                );
            }
            Request::ListTags(request) => {
                self.apply_to_catalog(ticket, Command::ListTags { queue: request.queue })
            }
            Request::AddPermission(request) => {
                let AddPermissionRequest { queue, label, accounts, actions } = request;
                let permission = Permission { label, accounts, actions };
                self.apply_to_catalog(ticket, Command::AddPermission { queue, permission });
            }
            Request::RemovePermission(request) => {
                let command = Command::RemovePermission { queue: request.queue, label: request.label };
                self.apply_to_catalog(ticket, command);
            }
            Request::ListDeadLetterSources(request) => {
                let command = Command::ListDeadLetterSources {
                    queue: request.queue,
                    next: request.next,
                    count_max: u32::from(request.max),
                };
                self.apply_to_catalog(ticket, command);
            }
            Request::Purge(request) => self.apply_to_catalog(ticket, Command::Purge { queue: request.queue }),
            Request::Peek(request) => {
                let command = Command::Peek {
                    queue: request.queue,
                    count_max: u32::from(request.max),
                    state: request.state,
                    next: request.next,
                    reply_bytes_max: self.reply_bytes_max(ticket, request.reply_bytes_max),
                };
                self.apply(ticket, command);
            }
            Request::StartMoveTask(request) => {
                let command = Command::StartMoveTask {
                    source: request.source,
                    destination: (request.destination != NO_QUEUE).then_some(request.destination),
                    messages_per_second_max: request.messages_per_second_max,
                };
                self.apply_to_catalog(ticket, command);
            }
            Request::CancelMoveTask(request) => {
                self.apply_to_catalog(ticket, Command::CancelMoveTask { task: request.task });
            }
            Request::ListMoveTasks(request) => {
                self.look_at_tasks(ticket, request.source, request.max);
            }
            Request::Stats(request) => self.tell_statistics(ticket, request.queue),
            _ => {
                let operation = request.operation();
                let text = format!("{} is not supported by this version of the broker", operation.name());
                self.refuse_request(ticket, ErrorCode::UnsupportedOperation, &text);
            }
        }
    }

    pub(super) fn serve_receive(&mut self, ticket: Ticket, request: &ReceiveRequest<'_>) {
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        if request.wait_ms != 0 && connection.long_polls >= limits::LONG_POLLS_PER_CONNECTION_MAX {
            let text = format!("{} long polls wait on this connection already", connection.long_polls);
            return self.refuse_request(ticket, ErrorCode::RequestThrottled, &text);
        }
        // What is waited for is answered later. It is counted before, as its end is counted off.
        connection.long_polls += 1;
        let command = Command::Receive {
            queue: request.queue,
            count_max: u32::from(request.max),
            wait_ms: given(request.wait_ms),
            visibility_seconds: given(request.visibility_seconds),
            reply_bytes_max: self.reply_bytes_max(ticket, request.reply_bytes_max),
            attempt_id: request.attempt_id,
        };
        self.engine.apply(self.clock.now_ms(), ticket, command, &mut self.log, &mut self.outputs);
        let answered = self.outputs.replies.iter().any(|reply| reply.ticket == ticket && !reply.ends_wait);
        if answered && let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.long_polls -= 1;
        }
        self.write_replies();
    }

    /// How many bytes of entries a reply may have: what was asked for, within the frame agreed on.
    pub(super) fn reply_bytes_max(&mut self, ticket: Ticket, wanted: u32) -> u32 {
        let frame_bytes_max =
            self.connections.get_mut(ticket.connection).map_or(0, |found| found.frame_bytes_max);
        let mut room = u32::try_from(frame_bytes_max).unwrap_or(u32::MAX).saturating_sub(REPLY_FRAME_BYTES);
        if ticket.connection.is_of_peer() {
            room = room.min(limits::SIBLING_REPLY_BYTES_MAX);
        }
        wanted.min(room)
    }

    /// The client will send nothing more: its long polls return, it is answered, then it is closed.
    fn take_goodbye(&mut self, ticket: Ticket) {
        self.answer_waits_of(ticket.connection);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.goodbye = Some(ticket.correlation);
        }
        self.close_when_flushed(ticket.connection);
    }

    /// Answers a connection's long polls, here and on other shards, with nothing.
    pub(super) fn answer_waits_of(&mut self, id: ConnectionId) {
        self.apply(peers::nobody(), Command::AnswerWaits { connection: Some(id) });
        if let Some(connection) = self.connections.get_mut(id) {
            for &(shard, _) in &connection.known_by {
                self.exchange.outbox.push(shard, Item::AnswerWaits(id));
            }
        }
    }

    /// Answers goodbyes of connections that have got all else.
    pub(super) fn answer_goodbyes(&mut self) {
        for &(id, _) in &self.closing {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.awaits_answers() || self.parked.has_any_for(id) {
                continue;
            }
            if let Some(correlation) = connection.goodbye.take() {
                Response::Goodbye(tenpin_protocol::Done {}).encode(correlation, &mut connection.out);
                Self::mark_dirty(&mut self.dirty, connection);
            }
        }
    }
}

fn given(value: u32) -> Option<u32> {
    (value != QUEUE_DEFAULT).then_some(value)
}
