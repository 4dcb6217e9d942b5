//! Rounds of any peer: one thread, one round under way on each connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Session;
use crate::bodies::BodySizes;
use crate::load::{Account, Books, Epoll, histogram};
use crate::measure;
use crate::random::Random;

/// A peer that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const READ_BYTES: usize = 256 << 10;

/// How much, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) connections: usize,
    /// Messages in a connection's round.
    pub(super) messages: usize,
    pub(super) bodies: BodySizes,
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    pub(super) client_core: Option<usize>,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) lifecycles: u64,
    pub(super) length: Duration,
    pub(super) broker_cpu: Duration,
    pub(super) client_cpu: Duration,
    pub(super) idle: Duration,
    pub(super) rounds: Histogram<u64>,
    pub(super) account: Account,
}

struct Connection {
    stream: TcpStream,
    session: Box<dyn Session>,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    begun: Instant,
    is_done: bool,
}

impl Connection {
    fn open(address: SocketAddr, session: Box<dyn Session>, index: usize, epoll: &Epoll) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Connection {
            stream,
            session,
            input: vec![0; READ_BYTES],
            filled: 0,
            output: Vec::new(),
            begun: Instant::now(),
            is_done: false,
        };
        connection.session.greet(&mut connection.output);
        connection.flush()?;
        while !connection.session.is_ready() {
            connection.fill(&mut |_| {})?;
        }
        epoll.add(&connection.stream, index)?;
        Ok(connection)
    }

    /// Reads once; a peer's own questions are answered at once.
    fn fill(&mut self, message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.filled == self.input.len() {
            self.input.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.input[self.filled..])? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed a connection")),
            count => self.filled += count,
        }
        let used = self.session.read(&self.input[..self.filled], message)?;
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.session.answer(&mut self.output);
        self.flush()
    }

    /// Writes all; the peer reads a round while it answers it, and a round fits into both sockets' buffers.
    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }
}

/// Loads a peer from the calling thread.
pub(super) fn run(
    work: &Work,
    address: SocketAddr,
    pid: u32,
    session: &dyn Fn(usize) -> Box<dyn Session>,
) -> io::Result<Outcome> {
    if let Some(core) = work.client_core {
        measure::pin_to_core(core)?;
    }
    let mut epoll = Epoll::new()?;
    let mut connections = (0..work.connections)
        .map(|index| Connection::open(address, session(index), index, &epoll))
        .collect::<io::Result<Vec<_>>>()?;
    let mut books = Books::new();
    let mut random = Random::new(1);
    let mut bodies = vec![Vec::new(); work.messages];
    let mut next = |books: &mut Books, connection: &mut Connection| {
        for body in &mut bodies {
            body.resize(work.bodies.next(&mut random), 0);
            books.next_body(body);
        }
        connection.session.write_round(&bodies, &mut connection.output);
        connection.begun = Instant::now();
        connection.flush()
    };
    for connection in &mut connections {
        next(&mut books, connection)?;
    }
    let start = Instant::now() + work.warm_up;
    let end = start + work.length;
    let (mut begin, mut finish) = (None, None);
    let (mut received, mut idle, mut done) = (0_u64, Duration::ZERO, 0);
    let mut rounds = histogram();
    while done < connections.len() {
        let before = Instant::now();
        let snapshot = |received, idle| -> io::Result<_> {
            Ok((Instant::now(), received, idle, measure::process_cpu(pid)?, measure::thread_cpu()))
        };
        if begin.is_none() && before >= start {
            begin = Some(snapshot(received, idle)?);
        }
        if finish.is_none() && before >= end {
            finish = Some(snapshot(received, idle)?);
        }
        let count = epoll.wait(PATIENCE)?;
        if count == 0 && before.elapsed() >= PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer answers nothing"));
        }
        idle += before.elapsed();
        for at in 0..count {
            let connection = &mut connections[epoll.ready(at).index];
            connection.fill(&mut |body| {
                received += 1;
                books.received(body);
            })?;
            if !connection.session.is_round_over() || connection.is_done {
                continue;
            }
            if begin.is_some() && finish.is_none() {
                rounds.saturating_record(connection.begun.elapsed().as_nanos() as u64);
            }
            if finish.is_none() {
                next(&mut books, connection)?;
                continue;
            }
            // Deletes what came last, and is done once that is answered, if it is.
            let has_more = {
                connection.session.write_round(&[], &mut connection.output);
                !connection.output.is_empty() && !connection.session.is_round_over()
            };
            connection.flush()?;
            if !has_more {
                connection.is_done = true;
                done += 1;
            }
        }
    }
    let (begin, finish) = begin.zip(finish).ok_or_else(|| io::Error::other("nothing was measured"))?;
    Ok(Outcome {
        lifecycles: finish.1 - begin.1,
        length: finish.0 - begin.0,
        broker_cpu: finish.3.saturating_sub(begin.3),
        client_cpu: finish.4.saturating_sub(begin.4),
        idle: finish.2 - begin.2,
        rounds,
        account: books.close(),
    })
}
