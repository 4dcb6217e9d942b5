//! A client's socket as hyper sees it, which knows when a response has been written whole, and gives up on
//! clients that take nothing.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Cursor};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::Answer;
use super::pulse::{Pulse, Watched};

/// What is no longer than this is written in one piece: to copy it is cheaper than what the kernel does for several.
const JOINED_BYTES_MAX: usize = 8 << 10;

/// What a connection's client is owed: the answer whose messages are its own once the response that tells
/// of them has been written (rule 4).
pub(super) struct Owed {
    pulse: Rc<Pulse>,
    watched: Rc<Watched>,
    answer: RefCell<Option<Answer>>,
    /// Whether hyper has all of the response.
    is_taken: Cell<bool>,
    /// The client has ended its sending side while it was served; who hears of that once it is answered.
    ended: RefCell<Option<Waker>>,
}

impl Owed {
    pub(super) fn new(pulse: Rc<Pulse>, watched: Rc<Watched>) -> Self {
        let (answer, is_taken, ended) = (RefCell::default(), Cell::default(), RefCell::default());
        Self { pulse, watched, answer, is_taken, ended }
    }

    /// A request has come.
    pub(super) fn has_asked(&self) {
        self.watched.has_asked();
    }

    /// Whether the client has ended its sending side while it is served. Whether it takes the response is not
    /// known then: it may have said all that it had to say, or be gone.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// The next response tells of these messages.
    pub(super) fn owe(&self, answer: Answer) {
        *self.answer.borrow_mut() = Some(answer);
    }

    /// All that hyper had is written.
    fn written(&self) {
        if !self.is_taken.replace(false) {
            return;
        }
        self.watched.wait(&self.pulse);
        if let Some(answer) = self.answer.borrow_mut().take() {
            answer.given();
        }
        self.ended.take().into_iter().for_each(Waker::wake);
    }
}

/// The socket of a connection.
pub(super) struct Socket {
    stream: TcpStream,
    owed: Rc<Owed>,
    /// How long the client may take nothing before the connection is closed.
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    patience: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, owed: Rc<Owed>, write_timeout: Duration) -> Self {
        Self { stream, owed, write_timeout, patience: None }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = {
            // SAFETY: nothing in here makes initialised bytes uninitialised: a `ReadBuf` only ever fills.
            let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            buffer.filled().len()
        };
        if filled == 0 && self.owed.watched.is_served() {
            // hyper would take it for the end of everything, and drop the request that is served.
            *self.owed.ended.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        // SAFETY: the stream has filled, and so initialised, so many bytes.
        unsafe { cursor.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all_bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let written = if all_bytes <= JOINED_BYTES_MAX {
            let mut room = [MaybeUninit::uninit(); JOINED_BYTES_MAX];
            let mut joined = ReadBuf::uninit(&mut room);
            slices.iter().for_each(|slice| joined.put_slice(slice));
            Pin::new(&mut self.stream).poll_write(context, joined.filled())
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(context, slices)
        };
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket when nothing is left in its own buffer.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.owed.written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Socket {
    /// Ends the connection where nothing could be written for too long.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let timeout = self.write_timeout;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The body of a response.
pub(super) struct ReplyBody {
    bytes: Vec<u8>,
    owed: Rc<Owed>,
}

impl ReplyBody {
    pub(super) fn new(bytes: Vec<u8>, owed: &Rc<Owed>) -> Self {
        // Nobody asks for a body that is empty.
        owed.is_taken.set(bytes.is_empty());
        Self { bytes, owed: Rc::clone(owed) }
    }
}

impl Body for ReplyBody {
    type Data = Cursor<Vec<u8>>;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.owed.is_taken.set(true);
        Poll::Ready(Some(Ok(Frame::data(Cursor::new(std::mem::take(&mut self.bytes))))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
