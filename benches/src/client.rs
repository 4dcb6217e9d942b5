//! A small client that blocks: one connection, requests written one after the other, answers taken
//! as they come.
//!
//! Requests can be under way together: the `submit` methods only put them into a buffer and give
//! their correlation ids; the buffer goes out when an answer is waited for. The other methods ask and
//! wait. Answers own what they say. A read times out after [`PATIENCE`], so that a test against a
//! broker that hangs ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ChangeVisibilityEntry, ChangeVisibilityRequest,
    CreateQueueRequest, DeleteQueueRequest, Entries, FRAME_BYTES_MAX_LEAST, Hello, OpenRequest, PeekRequest,
    Ping, PurgeRequest, Request, Response, SendEntry, SendRequest, Statistic, StatisticCode, StatsRequest,
    VERSION, split_frame,
};

use crate::wire::{self, Reply};
pub use crate::wire::{Receive, Refusal};

/// How long to wait for the next byte of an answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is read at once, at least.
const READ_BYTES: usize = 64 << 10;

/// Output beyond this is written without waiting for an answer to be asked for.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// Why a request has no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection broke or could not be made.
    Connection(io::Error),
    /// The broker refused the request as a whole.
    Refused(Refusal),
    /// The broker said something that it must not say.
    Protocol(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connection(error) => write!(formatter, "the connection failed: {error}"),
            ClientError::Refused(refusal) => write!(formatter, "refused: {refusal}"),
            ClientError::Protocol(what) => write!(formatter, "the broker broke the protocol: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Connection(error)
    }
}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connection(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its body.
    pub body: &'a [u8],
    /// Its delay; the queue's where it is not given.
    pub delay_seconds: Option<u32>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: [u8; 16],
    /// What deletes it.
    pub handle: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

/// How many messages a queue has, and how many receives wait on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages that were received and are hidden.
    pub in_flight: u64,
    /// Messages whose delay is not over.
    pub delayed: u64,
    /// Receives that wait.
    pub waiting: u64,
    /// Of the whole broker: bytes appended to its logs, and those of them that cleaning has copied.
    pub log_bytes: u64,
    /// See above.
    pub log_copied_bytes: u64,
}

impl Counts {
    /// All messages.
    pub fn all(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }

    fn from_statistics(statistics: impl IntoIterator<Item = Statistic>) -> Self {
        let mut counts = Counts::default();
        for Statistic { number, value } in statistics {
            match StatisticCode::from_number(number) {
                Some(StatisticCode::Visible) => counts.visible = value,
                Some(StatisticCode::InFlight) => counts.in_flight = value,
                Some(StatisticCode::Delayed) => counts.delayed = value,
                Some(StatisticCode::Waiting) => counts.waiting = value,
                Some(StatisticCode::LogBytes) => counts.log_bytes = value,
                Some(StatisticCode::LogCopiedBytes) => counts.log_copied_bytes = value,
                _ => {}
            }
        }
        counts
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a send: each message's id, or why it was refused.
    Sent(Vec<Result<[u8; 16], Refusal>>),
    /// To a receive.
    Received(Vec<Message>),
    /// To a delete or a visibility change.
    Outcomes(Vec<Result<(), Refusal>>),
    /// To an open or a create: the queue's number.
    Opened(u64),
    /// To a request for counters.
    Counts(Counts),
    /// To a peek: how many messages there were to see.
    Peeked(usize),
    /// To a request that has nothing more to tell.
    Done,
    /// The request was refused; with the correlation id 0, the connection is about to close.
    Refused(Refusal),
}

/// One connection to a broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation: u32,
    frame_bytes_max: usize,
    output: Vec<u8>,
    input: Vec<u8>,
    /// Of `input`, what arrived and is not yet taken.
    arrived: std::ops::Range<usize>,
}

impl Client {
    /// Connects and says hello.
    pub fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).map_err(|error| {
            io::Error::new(error.kind(), format!("no connection to a broker at {address}: {error}"))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client::from_stream(stream);
        let hello = Hello {
            version_minimum: VERSION,
            version_maximum: VERSION,
            shard: tenpin_protocol::ANY_SHARD,
            client: concat!("tenpin-bench ", env!("CARGO_PKG_VERSION")),
            ..Hello::default()
        };
        let asked = client.submit(&Request::Hello(hello));
        let frame_bytes_max = client.take(asked, |response| match response {
            Response::Hello(reply) => Ok(reply.frame_bytes_max as usize),
            other => Err(unexpected(&other)),
        })?;
        client.frame_bytes_max = frame_bytes_max;
        Ok(client)
    }

    /// A connection that [`Client::into_stream`] gave, or a new one on which nothing was said. Frames are as
    /// small as every broker takes them, unless a hello says more.
    pub fn from_stream(stream: TcpStream) -> Self {
        Client {
            stream,
            correlation: 0,
            frame_bytes_max: FRAME_BYTES_MAX_LEAST,
            output: Vec::new(),
            input: vec![0; READ_BYTES],
            arrived: 0..0,
        }
    }

    /// Bytes of the largest frame, as agreed at the hello.
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// The socket, with nothing under way on it.
    pub fn into_stream(self) -> Result<TcpStream, ClientError> {
        if self.output.is_empty() && self.arrived.is_empty() {
            Ok(self.stream)
        } else {
            Err(ClientError::Protocol("something was said that nobody had asked for".into()))
        }
    }

    /// Opens a queue by its name; gives its number.
    pub fn open(&mut self, name: &str) -> Result<u64, ClientError> {
        let request = Request::Open(OpenRequest { name, ..OpenRequest::default() });
        let asked = self.submit(&request);
        self.take_opened(asked)
    }

    /// Makes a queue or opens the one that is there; gives its number.
    pub fn create(&mut self, name: &str, attributes: &[(AttributeCode, u64)]) -> Result<u64, ClientError> {
        let attributes: Vec<(AttributeCode, AttributeValue<'_>)> =
            attributes.iter().map(|(code, value)| (*code, AttributeValue::Number(*value))).collect();
        self.create_with(name, &attributes)
    }

    /// The same with attributes that may be texts.
    pub fn create_with(
        &mut self,
        name: &str,
        attributes: &[(AttributeCode, AttributeValue<'_>)],
    ) -> Result<u64, ClientError> {
        let attributes: Vec<Attribute<'_>> =
            attributes.iter().map(|(code, value)| Attribute::new(*code, *value)).collect();
        let request = CreateQueueRequest { name, attributes: Entries::of(&attributes), ..Default::default() };
        let asked = self.submit(&Request::CreateQueue(request));
        self.take_opened(asked)
    }

    fn take_opened(&mut self, asked: u32) -> Result<u64, ClientError> {
        match self.answer_to(asked)? {
            Answer::Opened(queue) => Ok(queue),
            other => Err(wrong(other)),
        }
    }

    /// Deletes a queue with its messages.
    pub fn delete_queue(&mut self, queue: u64) -> Result<(), ClientError> {
        let asked = self.submit(&Request::DeleteQueue(DeleteQueueRequest { queue }));
        self.take_done(asked)
    }

    /// Deletes all messages of a queue.
    pub fn purge(&mut self, queue: u64) -> Result<(), ClientError> {
        let asked = self.submit(&Request::Purge(PurgeRequest { queue }));
        self.take_done(asked)
    }

    fn take_done(&mut self, asked: u32) -> Result<(), ClientError> {
        match self.answer_to(asked)? {
            Answer::Done => Ok(()),
            other => Err(wrong(other)),
        }
    }

    /// Sends 1 to 10 messages.
    pub fn send(
        &mut self,
        queue: u64,
        messages: &[Outgoing<'_>],
    ) -> Result<Vec<Result<[u8; 16], Refusal>>, ClientError> {
        let asked = self.submit_send(queue, messages)?;
        match self.answer_to(asked)? {
            Answer::Sent(outcomes) => Ok(outcomes),
            other => Err(wrong(other)),
        }
    }

    /// Receives.
    pub fn receive(&mut self, queue: u64, receive: Receive) -> Result<Vec<Message>, ClientError> {
        let asked = self.submit_receive(queue, receive)?;
        match self.answer_to(asked)? {
            Answer::Received(messages) => Ok(messages),
            other => Err(wrong(other)),
        }
    }

    /// Deletes 1 to 10 messages.
    pub fn delete(
        &mut self,
        queue: u64,
        handles: &[Vec<u8>],
    ) -> Result<Vec<Result<(), Refusal>>, ClientError> {
        let handles: Vec<&[u8]> = handles.iter().map(Vec::as_slice).collect();
        let asked = self.submit_delete(queue, &handles)?;
        self.take_outcomes(asked)
    }

    /// Changes for how many seconds 1 to 10 messages stay hidden.
    pub fn change_visibility(
        &mut self,
        queue: u64,
        changes: &[(Vec<u8>, u32)],
    ) -> Result<Vec<Result<(), Refusal>>, ClientError> {
        let entries: Vec<ChangeVisibilityEntry<'_>> = changes
            .iter()
            .map(|(handle, seconds)| ChangeVisibilityEntry { visibility_seconds: *seconds, handle })
            .collect();
        let request = ChangeVisibilityRequest { queue, entries: Entries::of(&entries) };
        let asked = self.submit(&Request::ChangeVisibility(request));
        self.take_outcomes(asked)
    }

    fn take_outcomes(&mut self, asked: u32) -> Result<Vec<Result<(), Refusal>>, ClientError> {
        match self.answer_to(asked)? {
            Answer::Outcomes(outcomes) => Ok(outcomes),
            other => Err(wrong(other)),
        }
    }

    /// How many messages a queue has.
    pub fn counts(&mut self, queue: u64) -> Result<Counts, ClientError> {
        let asked = self.submit(&Request::Stats(StatsRequest { queue }));
        match self.answer_to(asked)? {
            Answer::Counts(counts) => Ok(counts),
            other => Err(wrong(other)),
        }
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        let asked = self.submit(&Request::Ping(Ping { echo: b"pin" }));
        self.take(asked, |response| match response {
            Response::Ping(Ping { echo: b"pin" }) => Ok(()),
            other => Err(unexpected(&other)),
        })
    }

    /// Puts a send of 1 to 10 messages on its way.
    pub fn submit_send(&mut self, queue: u64, messages: &[Outgoing<'_>]) -> Result<u32, ClientError> {
        let entries: Vec<SendEntry<'_>> = messages
            .iter()
            .map(|message| SendEntry { delay_seconds: message.delay_seconds, ..SendEntry::new(message.body) })
            .collect();
        let asked = self.submit(&Request::Send(SendRequest { queue, entries: Entries::of(&entries) }));
        self.flush_if_much()?;
        Ok(asked)
    }

    /// Puts a send of at most 10 bodies on its way.
    pub fn submit_bodies<'a>(
        &mut self,
        queue: u64,
        bodies: impl Iterator<Item = &'a [u8]>,
    ) -> Result<u32, ClientError> {
        let asked = self.next_correlation();
        wire::write_send(&mut self.output, asked, queue, bodies.map(wire::Outgoing::of));
        self.flush_if_much()?;
        Ok(asked)
    }

    /// Puts a receive on its way.
    pub fn submit_receive(&mut self, queue: u64, receive: Receive) -> Result<u32, ClientError> {
        let asked = self.next_correlation();
        wire::write_receive(&mut self.output, asked, queue, receive);
        Ok(asked)
    }

    /// Puts a delete of at most 10 messages on its way.
    pub fn submit_delete(&mut self, queue: u64, handles: &[&[u8]]) -> Result<u32, ClientError> {
        let asked = self.next_correlation();
        wire::write_delete(&mut self.output, asked, queue, handles);
        self.flush_if_much()?;
        Ok(asked)
    }

    /// Puts a look at up to `max` messages on its way.
    pub fn submit_peek(&mut self, queue: u64, max: u8) -> Result<u32, ClientError> {
        let request = PeekRequest { queue, max, reply_bytes_max: u32::MAX, ..PeekRequest::default() };
        let asked = self.submit(&Request::Peek(request));
        self.flush_if_much()?;
        Ok(asked)
    }

    /// Puts any request on its way.
    pub fn submit(&mut self, request: &Request<'_>) -> u32 {
        let asked = self.next_correlation();
        request.encode(asked, &mut self.output);
        asked
    }

    fn next_correlation(&mut self) -> u32 {
        self.correlation = self.correlation.wrapping_add(1).max(1);
        self.correlation
    }

    fn flush_if_much(&mut self) -> Result<(), ClientError> {
        if self.output.len() > OUTPUT_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes out what was submitted.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// The next answer, whichever request it belongs to.
    pub fn next_answer(&mut self) -> Result<(u32, Answer), ClientError> {
        let length = self.wait_for_frame()?;
        self.take_answer(length)
    }

    /// The next answer, if it has come already. Writes nothing.
    pub fn try_answer(&mut self) -> Result<Option<(u32, Answer)>, ClientError> {
        if let Some(length) = self.whole_frame()? {
            return self.take_answer(length).map(Some);
        }
        self.make_room();
        let room = &mut self.input[self.arrived.end..];
        // SAFETY: `room` is memory of this length that nobody else uses during the call.
        let count = unsafe {
            libc::recv(self.stream.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(count) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => self.arrived.end += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error.into()),
                };
            }
        }
        match self.whole_frame()? {
            Some(length) => self.take_answer(length).map(Some),
            None => Ok(None),
        }
    }

    fn take_answer(&mut self, length: usize) -> Result<(u32, Answer), ClientError> {
        let (frame, _) = split_frame(&self.input[self.arrived.clone()], self.frame_bytes_max)
            .ok()
            .flatten()
            .expect("a whole frame was waited for");
        let answer = (frame.correlation, owned(wire::read_reply(&frame)?)?);
        self.arrived.start += length;
        Ok(answer)
    }

    fn answer_to(&mut self, asked: u32) -> Result<Answer, ClientError> {
        match self.next_answer()? {
            (correlation, answer) if correlation == asked => Ok(answer),
            (_, Answer::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            (correlation, _) => Err(out_of_turn(correlation, asked)),
        }
    }

    /// Takes the answer to `asked`, in whatever way.
    fn take<T>(
        &mut self,
        asked: u32,
        read: impl FnOnce(Response<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let length = self.wait_for_frame()?;
        let (frame, _) = split_frame(&self.input[self.arrived.clone()], self.frame_bytes_max)
            .ok()
            .flatten()
            .expect("a whole frame was waited for");
        let response = Response::decode(&frame).map_err(|error| ClientError::Protocol(error.to_string()))?;
        if frame.correlation != asked && !matches!(response, Response::Error(_)) {
            return Err(out_of_turn(frame.correlation, asked));
        }
        let taken = read(response)?;
        self.arrived.start += length;
        Ok(taken)
    }

    /// Writes out what was submitted, and reads until there is a whole frame; gives its length.
    fn wait_for_frame(&mut self) -> Result<usize, ClientError> {
        loop {
            if let Some(length) = self.whole_frame()? {
                return Ok(length);
            }
            if !self.output.is_empty() {
                self.flush()?;
            }
            self.make_room();
            match self.stream.read(&mut self.input[self.arrived.end..]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.arrived.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The length of the frame that has arrived, if all of it has.
    fn whole_frame(&self) -> Result<Option<usize>, ClientError> {
        match split_frame(&self.input[self.arrived.clone()], self.frame_bytes_max) {
            Ok(frame) => Ok(frame.map(|(_, length)| length)),
            Err(error) => Err(ClientError::Protocol(error.to_string())),
        }
    }

    fn make_room(&mut self) {
        if self.input.len() - self.arrived.end >= READ_BYTES / 2 {
            return;
        }
        self.input.copy_within(self.arrived.clone(), 0);
        self.arrived = 0..self.arrived.len();
        if self.input.len() - self.arrived.end < READ_BYTES / 2 {
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}

fn owned(reply: Reply<'_>) -> Result<Answer, ClientError> {
    Ok(match reply {
        Reply::Sent(outcomes) => Answer::Sent(outcomes.map(|outcome| wire::send_outcome(&outcome)).collect()),
        Reply::Received(messages) => {
            let own = messages.map(|message| Message {
                id: message.fixed.id,
                handle: message.handle.to_vec(),
                body: message.body.to_vec(),
                receive_count: message.fixed.receive_count,
            });
            Answer::Received(own.collect())
        }
        Reply::Outcomes(outcomes) => {
            Answer::Outcomes(outcomes.map(|outcome| wire::outcome(&outcome)).collect())
        }
        Reply::Refused(refusal) => Answer::Refused(refusal),
        Reply::Other(response) => match response {
            Response::Open(opened) | Response::CreateQueue(opened) => Answer::Opened(opened.queue),
            Response::Stats(reply) => Answer::Counts(Counts::from_statistics(reply.statistics)),
            Response::Peek(reply) => Answer::Peeked(reply.messages.len()),
            Response::DeleteQueue(_)
            | Response::SetAttributes(_)
            | Response::Purge(_)
            | Response::Goodbye(_) => Answer::Done,
            other => return Err(unexpected(&other)),
        },
    })
}

fn out_of_turn(correlation: u32, asked: u32) -> ClientError {
    ClientError::Protocol(format!("an answer to request {correlation} while only {asked} was under way"))
}

fn unexpected(response: &Response<'_>) -> ClientError {
    match response {
        Response::Error(error) => {
            ClientError::Refused(Refusal::new(error.number, error.text.unwrap_or_default()))
        }
        other => ClientError::Protocol(format!("an answer of the wrong kind: {other:?}")),
    }
}

fn wrong(answer: Answer) -> ClientError {
    match answer {
        Answer::Refused(refusal) => ClientError::Refused(refusal),
        other => ClientError::Protocol(format!("an answer of the wrong kind: {other:?}")),
    }
}
