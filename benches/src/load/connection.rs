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

impl Step {
    const ALL: [Step; 3] = [Step::Send, Step::Receive, Step::Delete];
}

/// A place for requests: one step after the other, or a round of all three together.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// Which steps are under way, a bit each.
    under_way: u8,
    /// The step that was answered last.
    pub(super) last: Option<Step>,
    /// When they were asked, in nanoseconds since the run's start.
    pub(super) asked_ns: u64,
    /// Messages in the send and in the delete that are under way.
    pub(super) sending: u32,
    pub(super) deleting: u32,
    /// Handles of what was received and is not yet asked to be deleted, one behind the other, and
    /// where each ends.
    pub(super) handles: Vec<u8>,
    pub(super) handle_ends: Vec<usize>,
}

impl Slot {
    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Notes that a step was asked.
    pub(super) fn begin(&mut self, step: Step) {
        self.under_way |= 1 << step as u8;
    }

    /// Notes that it was answered; false where it was not under way.
    pub(super) fn end(&mut self, step: Step) -> bool {
        let was_under_way = self.under_way & 1 << step as u8 != 0;
        self.under_way &= !(1 << step as u8);
        self.last = Some(step);
        was_under_way
    }
}

/// The correlation id of a slot's step; each has one of its own, and none is 0.
pub(super) fn correlation(slot: usize, step: Step) -> u32 {
    (slot * Step::ALL.len() + step as usize + 1) as u32
}

/// The slot and step of a correlation id.
pub(super) fn slot_and_step(correlation: u32) -> Option<(usize, Step)> {
    let number = (correlation as usize).checked_sub(1)?;
    Some((number / Step::ALL.len(), Step::ALL[number % Step::ALL.len()]))
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
            slots: vec![Slot::default(); in_flight],
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
