//! A peer's connection: bytes between its socket and its session.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Session;
use crate::load::Epoll;

/// A peer that answers nothing for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

const READ_BYTES: usize = 256 << 10;

/// A connection to a peer.
pub(super) struct Connection {
    address: SocketAddr,
    index: usize,
    stream: TcpStream,
    pub(super) session: Box<dyn Session>,
    input: Vec<u8>,
    filled: usize,
    pub(super) output: Vec<u8>,
    /// When its round began.
    pub(super) begun: Instant,
    /// Whether it does nothing any more.
    pub(super) is_done: bool,
}

impl Connection {
    /// Connects, and waits until all is set up.
    pub(super) fn open(
        address: SocketAddr,
        session: Box<dyn Session>,
        index: usize,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let mut connection = Connection {
            address,
            index,
            stream: connect(address, index, epoll)?,
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
            connection.fill(epoll, &mut |_| {})?;
        }
        Ok(connection)
    }

    /// Reads once; a peer's own questions are answered at once.
    pub(super) fn fill(&mut self, epoll: &Epoll, message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
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
        if self.session.is_closed() {
            self.stream = connect(self.address, self.index, epoll)?;
        }
        self.session.answer(&mut self.output);
        self.flush()
    }

    /// Writes all; the peer reads a round while it answers it, and a round fits into both sockets' buffers.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }
}

fn connect(address: SocketAddr, index: usize, epoll: &Epoll) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    epoll.add(&stream, index)?;
    Ok(stream)
}
