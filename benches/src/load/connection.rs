//! One connection of the load: bytes in, bytes out, and its requests under way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::epoll::Epoll;
use crate::client::Client;

/// What a connection reads at once, at most.
const READ_BYTES: usize = 256 << 10;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Send,
    Receive,
    Delete,
}

/// A place for one request at a time; its number plus one is the correlation id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// What is under way, if anything is.
    pub(super) step: Option<Step>,
    /// When it was asked, in nanoseconds since the run's start.
    pub(super) asked_ns: u64,
    /// How many messages the request is about.
    pub(super) messages: u32,
}

/// Bytes in and out of a socket that never blocks.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) index: usize,
    pub(super) queue: u64,
    pub(super) input: Vec<u8>,
    /// Of `input`, what has arrived and is not yet taken.
    pub(super) arrived: std::ops::Range<usize>,
    pub(super) output: Vec<u8>,
    pub(super) frame_bytes_max: usize,
    written: usize,
    waits_for_room: bool,
    pub(super) slots: Vec<Slot>,
}

impl Connection {
    /// Connects, says hello and opens the queue by ordinary means; from then on nothing blocks.
    pub(super) fn open(
        address: SocketAddr,
        queue_name: &str,
        index: usize,
        in_flight: usize,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let mut client = Client::connect(address)?;
        let queue = client.open(queue_name)?;
        let frame_bytes_max = client.frame_bytes_max();
        let stream = client.into_stream()?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, index)?;
        let slot = Slot { step: None, asked_ns: 0, messages: 0 };
        Ok(Connection {
            stream,
            index,
            queue,
            input: vec![0; READ_BYTES],
            arrived: 0..0,
            output: Vec::with_capacity(READ_BYTES),
            frame_bytes_max,
            written: 0,
            waits_for_room: false,
            slots: vec![slot; in_flight],
        })
    }

    /// Reads what there is, as much as there is room for; says whether there may be more.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.arrived.is_empty() {
            self.arrived = 0..0;
        } else if self.input.len() - self.arrived.end < READ_BYTES / 2 {
            self.input.copy_within(self.arrived.clone(), 0);
            self.arrived = 0..self.arrived.len();
            if self.input.len() - self.arrived.end < READ_BYTES / 2 {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        match self.stream.read(&mut self.input[self.arrived.end..]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed a connection")),
            Ok(count) => {
                self.arrived.end += count;
                Ok(self.arrived.end == self.input.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Writes what there is, as far as the kernel takes it; the rest goes when it has room again.
    pub(super) fn flush(&mut self, epoll: &Epoll) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_written = self.written == self.output.len();
        if is_written {
            self.output.clear();
            self.written = 0;
        }
        if self.waits_for_room == is_written {
            self.waits_for_room = !is_written;
            epoll.watch_room(&self.stream, self.index, self.waits_for_room)?;
        }
        Ok(())
    }
}
