//! One connection: requests go out in the order in which they were made and are answered in any.
//!
//! Who makes a request puts its frame into a buffer that all share and waits for its answer. One task
//! writes the buffer, all of it at once, so that requests made together leave together; another reads
//! answers and wakes those who wait. A third duty is the writer's: it pings now and then, which keeps an idle
//! connection alive, and gives the connection up when nothing has come from the broker since the last ping,
//! however much is asked of it.
//!
//! The buffer and the table of requests stand under a mutex that is held for the copying of a frame
//! and never across an await.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tenpin_protocol::{
    ChangeVisibilityEntry, ChangeVisibilityRequest, Entries, FrameCodec, Hello, Operation, OwnedFrame, Ping,
    REVISION, Request, Response, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::Decoder;

use crate::error::{Error, Refusal, Result};
use crate::pending::{Arrived, Pending, Polled, Unclaimed};

/// Bytes of requests that wait to be written; who makes one more waits until they are.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// What is read at once, at least.
const READ_BYTES: usize = 64 << 10;
/// A buffer that has grown beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Name and version that the broker is told.
const SOFTWARE: &str = concat!("tenpin-client ", env!("CARGO_PKG_VERSION"));

/// What the broker said when the connection was made.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub shard: u16,
    pub shard_count: u16,
    pub frame_bytes_max: usize,
    pub keep_alive: Duration,
    pub long_polls_max: usize,
    /// Where shards are reached that have an address of their own: shard, host, port.
    pub addresses: Vec<(u16, String, u16)>,
}

/// A connection that is made.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    pub agreement: Agreement,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or the connection is given up.
    output: Notify,
    /// The buffer was written.
    written: Notify,
    /// The connection is given up: the reader stops.
    closed: Notify,
    requests: Semaphore,
    long_polls: Semaphore,
    frame_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    output: Vec<u8>,
    pending: Pending,
    /// Nothing has come since the last ping.
    pinged: bool,
    ended: Option<Error>,
}

impl Connection {
    /// Connects to `address` and says hello, asking for a shard.
    pub async fn open(address: &str, shard: u16, requests_max: usize) -> Result<Self> {
        let mut stream =
            TcpStream::connect(address).await.map_err(|error| Error::connect(address, &error))?;
        stream.set_nodelay(true).map_err(|error| Error::connect(address, &error))?;
        let mut input = BytesMut::new();
        let mut codec = FrameCodec::new();
        let agreement = greet(&mut stream, &mut codec, &mut input, shard)
            .await
            .map_err(|error| Error::Connect { address: address.to_owned(), reason: error.to_string() })?;
        codec.set_frame_bytes_max(agreement.frame_bytes_max);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            output: Notify::new(),
            written: Notify::new(),
            closed: Notify::new(),
            requests: Semaphore::new(requests_max.min(crate::pending::REQUESTS_MAX / 2)),
            long_polls: Semaphore::new(agreement.long_polls_max.clamp(1, Semaphore::MAX_PERMITS)),
            frame_bytes_max: agreement.frame_bytes_max,
        });
        let (read, write) = stream.into_split();
        tokio::spawn(read_all(EndsWithTask(Arc::clone(&shared)), read, codec, input));
        tokio::spawn(write_all(EndsWithTask(Arc::clone(&shared)), write, agreement.keep_alive));
        Ok(Self { shared, agreement })
    }

    /// Whether requests made now would fail.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended.is_some()
    }

    /// Makes a request and waits for its answer; an error frame is an error. Dropping the future lets
    /// go of the answer, and hands back the messages that it brings.
    pub async fn request(&self, request: &Request<'_>, waits: bool) -> Result<OwnedFrame> {
        let shared = &self.shared;
        let limit = if waits { &shared.long_polls } else { &shared.requests };
        let _permit = limit.acquire().await.map_err(|_| Error::Closed)?;
        let answer = loop {
            let written = shared.written.notified();
            match shared.begin(request)? {
                Some(correlation) => break Answer { shared, correlation, taken: false },
                None => written.await,
            }
        };
        let frame = answer.await?;
        if let Response::Error(error) =
            frame.response().map_err(|error| Error::Protocol(error.to_string()))?
        {
            return Err(Refusal::new(error.number, error.text).into());
        }
        Ok(frame)
    }

    /// Gives the connection up: whoever waits is told.
    pub fn close(&self) {
        self.shared.end(Error::Closed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts a request into the buffer; `None`: there is no room now.
    fn begin(&self, request: &Request<'_>) -> Result<Option<u32>> {
        if !request.fits(self.frame_bytes_max) {
            return Err(self.too_long(request));
        }
        let unclaimed = match request {
            Request::Receive(receive) => Unclaimed::HandBack { queue: receive.queue },
            _ => Unclaimed::Drop,
        };
        let mut state = self.lock();
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        if state.output.len() > OUTPUT_BYTES_MAX {
            return Ok(None);
        }
        let Some(correlation) = state.pending.begin(unclaimed, true) else { return Ok(None) };
        let State { output, pending, .. } = &mut *state;
        let (start, was_empty) = (output.len(), output.is_empty());
        request.encode(correlation, output);
        if output.len() - start > self.frame_bytes_max {
            // The broker would close the connection for all who use it.
            output.truncate(start);
            pending.withdraw(correlation);
            return Err(self.too_long(request));
        }
        drop(state);
        if was_empty {
            self.output.notify_one();
        }
        Ok(Some(correlation))
    }

    fn too_long(&self, request: &Request<'_>) -> Error {
        let (operation, bytes) = (request.operation().name(), self.frame_bytes_max);
        Error::Invalid(format!("{operation}: too long for a frame of {bytes} bytes"))
    }

    /// Makes a request whose answer nobody waits for.
    fn begin_unheeded(&self, state: &mut State, request: &Request<'_>, unclaimed: Unclaimed) {
        if state.ended.is_none()
            && let Some(correlation) = state.pending.begin(unclaimed, false)
        {
            request.encode(correlation, &mut state.output);
            self.output.notify_one();
        }
    }

    /// An answer that nobody waits for: messages in it are made visible for others at once.
    fn take_unclaimed(&self, state: &mut State, unclaimed: Unclaimed, frame: &OwnedFrame) {
        let queue = match unclaimed {
            Unclaimed::HandBack { queue } => queue,
            Unclaimed::Drop => return,
        };
        let Ok(Response::Receive(reply)) = frame.response() else { return };
        let entries: Vec<_> = reply
            .messages
            .iter()
            .map(|message| ChangeVisibilityEntry { visibility_seconds: 0, handle: message.handle })
            .collect();
        if !entries.is_empty() {
            let request = ChangeVisibilityRequest { queue, entries: Entries::from(&entries[..]) };
            self.begin_unheeded(state, &Request::ChangeVisibility(request), Unclaimed::Drop);
        }
    }

    /// Pings, where something has come since the last time; whether it has.
    fn ping(&self) -> bool {
        let mut state = self.lock();
        if std::mem::replace(&mut state.pinged, true) {
            return false;
        }
        self.begin_unheeded(&mut state, &Request::Ping(Ping::default()), Unclaimed::Drop);
        true
    }

    /// The connection has ended for this reason, if it has not before.
    fn end(&self, reason: Error) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let wakers = state.pending.fail_all(&reason);
        state.ended = Some(reason);
        state.output = Vec::new();
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        self.output.notify_one();
        self.written.notify_waiters();
        self.closed.notify_one();
    }
}

/// An answer that is waited for.
struct Answer<'a> {
    shared: &'a Shared,
    correlation: u32,
    taken: bool,
}

impl Future for Answer<'_> {
    type Output = Result<OwnedFrame>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.shared.lock().pending.poll(self.correlation, context.waker()) {
            Polled::Waiting => Poll::Pending,
            Polled::Done(result) => {
                self.taken = true;
                Poll::Ready(result)
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if !self.taken {
            let mut state = self.shared.lock();
            if let Some((unclaimed, frame)) = state.pending.abandon(self.correlation) {
                self.shared.take_unclaimed(&mut state, unclaimed, &frame);
            }
        }
    }
}

async fn greet(
    stream: &mut TcpStream,
    codec: &mut FrameCodec,
    input: &mut BytesMut,
    shard: u16,
) -> Result<Agreement> {
    let hello = Hello {
        version_minimum: VERSION,
        version_maximum: VERSION,
        revision: REVISION,
        shard,
        client: SOFTWARE,
        ..Hello::default()
    };
    let mut frame = Vec::new();
    Request::Hello(hello).encode(1, &mut frame);
    let ended = |error: std::io::Error| Error::Disconnected { reason: error.to_string() };
    stream.write_all(&frame).await.map_err(ended)?;
    let frame = loop {
        if input.starts_with(b"HTTP/") {
            let text = "what answers is an HTTP server, perhaps the SQS endpoint; this protocol has a port of its own";
            return Err(Error::Protocol(text.into()));
        }
        match codec.decode(input).map_err(|error| Error::Protocol(error.to_string()))? {
            Some(frame) => break frame,
            None if stream.read_buf(input).await.map_err(ended)? == 0 => {
                return Err(Error::Disconnected { reason: "the broker hung up before it said hello".into() });
            }
            None => {}
        }
    };
    match frame.response().map_err(|error| Error::Protocol(error.to_string()))? {
        Response::Hello(reply) => Ok(Agreement {
            shard: reply.shard,
            shard_count: reply.shard_count.max(1),
            frame_bytes_max: reply.frame_bytes_max as usize,
            keep_alive: Duration::from_millis(reply.keep_alive_ms.max(1_000).into()),
            long_polls_max: reply.long_polls_max as usize,
            addresses: reply
                .shards
                .iter()
                .map(|shard| (shard.shard, shard.host.to_owned(), shard.port))
                .collect(),
        }),
        Response::Error(error) => Err(Refusal::new(error.number, error.text).into()),
        _ => Err(Error::Protocol("the first answer is none to a hello".into())),
    }
}

/// A connection's reader and writer end it when they do, also where that is because their runtime does: others
/// may use it from another one, and would wait for answers in vain.
struct EndsWithTask(Arc<Shared>);

impl Drop for EndsWithTask {
    fn drop(&mut self) {
        self.0.end(Error::Disconnected { reason: "the runtime that it was made on has ended".into() });
    }
}

async fn read_all(
    connection: EndsWithTask,
    mut stream: OwnedReadHalf,
    mut codec: FrameCodec,
    mut input: BytesMut,
) {
    let shared = &connection.0;
    let mut frames = Vec::new();
    loop {
        if let Err(error) = take_frames(shared, &mut codec, &mut input, &mut frames) {
            return shared.end(error);
        }
        input.reserve(READ_BYTES);
        let read = tokio::select! {
            read = stream.read_buf(&mut input) => read,
            () = shared.closed.notified() => return,
        };
        match read {
            Ok(0) => return shared.end(Error::Disconnected { reason: "the broker closed it".into() }),
            Ok(_) => shared.lock().pinged = false,
            Err(error) => return shared.end(Error::Disconnected { reason: error.to_string() }),
        }
    }
}

/// Hands the answers that have come to those who wait for them.
fn take_frames(
    shared: &Shared,
    codec: &mut FrameCodec,
    input: &mut BytesMut,
    frames: &mut Vec<OwnedFrame>,
) -> Result<()> {
    let mut ended = Ok(());
    loop {
        match codec.decode(input) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break,
            // It ends the connection and nothing else: over another one the answer may come.
            Err(error) => {
                ended = Err(Error::Disconnected { reason: error.to_string() });
                break;
            }
        }
    }
    if frames.is_empty() {
        return ended;
    }
    let mut wakers = Vec::with_capacity(frames.len());
    let mut farewell = None;
    let mut state = shared.lock();
    for frame in frames.drain(..) {
        if frame.correlation() == 0 {
            farewell = Some(frame);
            continue;
        }
        match state.pending.arrived(frame) {
            Arrived::Claimed(waker) => wakers.extend(waker),
            Arrived::Unclaimed(unclaimed, frame) => shared.take_unclaimed(&mut state, unclaimed, &frame),
            Arrived::Unknown => {}
        }
    }
    drop(state);
    wakers.into_iter().for_each(std::task::Waker::wake);
    farewell.map_or(ended, |frame| Err(farewell_reason(&frame)))
}

/// What the broker says before it closes the connection.
fn farewell_reason(frame: &OwnedFrame) -> Error {
    match frame.response() {
        Ok(Response::Error(error)) => {
            Error::Disconnected { reason: Refusal::new(error.number, error.text).to_string() }
        }
        _ => Error::Protocol("an answer to nothing".into()),
    }
}

async fn write_all(connection: EndsWithTask, mut stream: OwnedWriteHalf, keep_alive: Duration) {
    let shared = &connection.0;
    let between_pings = keep_alive / 3;
    let mut next_ping = Instant::now() + between_pings;
    let no_sign_of_life = || Error::Disconnected { reason: "the broker gives no sign of life".into() };
    let mut buffer = Vec::new();
    loop {
        {
            let mut state = shared.lock();
            if state.ended.is_some() {
                return;
            }
            std::mem::swap(&mut buffer, &mut state.output);
        }
        if !buffer.is_empty() {
            shared.written.notify_waiters();
            let written = {
                let mut writing = pin!(stream.write_all(&buffer));
                loop {
                    match timeout_at(next_ping, &mut writing).await {
                        Ok(written) => break written,
                        Err(_) if !shared.ping() => return shared.end(no_sign_of_life()),
                        Err(_) => next_ping = Instant::now() + between_pings,
                    }
                }
            };
            if let Err(error) = written {
                return shared.end(Error::Disconnected { reason: error.to_string() });
            }
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES_KEPT);
        } else if timeout_at(next_ping, shared.output.notified()).await.is_ok() {
            let_others_go_first().await;
        }
        if Instant::now() >= next_ping {
            if !shared.ping() {
                return shared.end(no_sign_of_life());
            }
            next_ping = Instant::now() + between_pings;
        }
    }
}

/// Lets those tasks run that are ready, so that what they ask for leaves in the same write.
async fn let_others_go_first() {
    let mut have_gone = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut have_gone, true) {
            return Poll::Ready(());
        }
        // Unlike tokio's own yield this does not look at sockets first.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// How long an operation may take beyond the time that every request has.
pub(crate) fn wait_of(request: &Request<'_>) -> Duration {
    match request {
        Request::Receive(receive) if receive.wait_ms != 0 => Duration::from_millis(match receive.wait_ms {
            tenpin_protocol::QUEUE_DEFAULT => 20_000,
            wait_ms => wait_ms.into(),
        }),
        _ => Duration::ZERO,
    }
}

/// A reply of another kind than the request's.
pub(crate) fn unexpected(operation: Operation) -> Error {
    Error::Protocol(format!("the answer to {} is another's", operation.name()))
}
