//! One connection of the load: bytes in, bytes out, and its requests under way.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::epoll::Epoll;
use crate::client::Client;
use crate::wire::BATCH_MAX;

/// What a connection reads at once, at most.
const READ_BYTES: usize = 256 << 10;

/// Sends by the timetable wait while so much of a connection's output is not taken. What is due and not sent is
/// arithmetic, so that a broker that takes too little costs the client no memory beside this.
const UNWRITTEN_MAX: usize = 4 << 20;

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

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To send, receive and delete by turns.
    Cycle,
    /// To send by a timetable.
    Produce,
    /// To receive and delete what others have sent.
    Consume,
}

/// A delete that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion {
    pub(super) asked_ns: u64,
    /// When the messages may come back if the broker has not deleted them by then.
    pub(super) expires_ns: u64,
    /// How many messages it is of.
    pub(super) count: u32,
    /// Their numbers, of those that are of this run.
    pub(super) numbers: [Option<u64>; BATCH_MAX],
}

/// A place for requests: one step after the other, or a round of all three together.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// How many of each step are under way.
    under_way: [u32; 3],
    /// The step that was answered last.
    pub(super) last: Option<Step>,
    /// When the send and the receive were asked, in nanoseconds since the run's start.
    pub(super) sent_ns: u64,
    pub(super) asked_ns: u64,
    /// Which of the connection's queues it works on.
    pub(super) queue: usize,
    /// Deletes that are under way, each in a place that is used again: they may be answered in any order.
    pub(super) deletions: Vec<Option<Deletion>>,
    /// Handles of what was received and is not yet asked to be deleted, one behind the other, where each ends,
    /// and which message it is of.
    pub(super) handles: Vec<u8>,
    pub(super) handle_ends: Vec<usize>,
    pub(super) numbers: Vec<Option<u64>>,
}

impl Slot {
    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == [0; 3]
    }

    /// Whether a receive is under way.
    pub(super) fn is_receiving(&self) -> bool {
        self.under_way[Step::Receive as usize] > 0
    }

    /// Notes that a step was asked.
    pub(super) fn begin(&mut self, step: Step) {
        self.under_way[step as usize] += 1;
    }

    /// Notes that it was answered; false where it was not under way.
    pub(super) fn end(&mut self, step: Step) -> bool {
        self.last = Some(step);
        let left = self.under_way[step as usize].checked_sub(1);
        self.under_way[step as usize] = left.unwrap_or(0);
        left.is_some()
    }

    /// A place for one more delete, unless too many are under way.
    pub(super) fn place_for_deletion(&mut self) -> Option<usize> {
        match self.deletions.iter().position(Option::is_none) {
            None if self.deletions.len() < DELETIONS_MAX => {
                self.deletions.push(None);
                Some(self.deletions.len() - 1)
            }
            place => place,
        }
    }
}

/// What an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A step of a slot, and what was noted: of a send, how many entries it had; of a delete, its place.
    Slot { slot: usize, step: Step, note: u32 },
    /// A send by the timetable, by its number.
    Timed(u32),
}

/// Set in correlation ids of sends by the timetable.
const TIMED: u32 = 1 << 31;
const NOTE_SHIFT: u32 = 22;
const PLACE_MASK: u32 = (1 << NOTE_SHIFT) - 1;

/// Most slots on a connection.
pub(super) const SLOTS_MAX: usize = 1 << 20;

/// Most deletes of one slot that are under way: with more it waits until all of them are answered.
const DELETIONS_MAX: usize = 1 << (31 - NOTE_SHIFT);

/// The correlation id of a slot's step; none is 0.
pub(super) fn correlation(slot: usize, step: Step, note: u32) -> u32 {
    note << NOTE_SHIFT | (slot * Step::ALL.len() + step as usize + 1) as u32
}

/// The number of a send by the timetable as its correlation id says it; after two thousand millions numbers come
/// round again.
pub(super) fn timed_number(number: u64) -> u32 {
    number as u32 & !TIMED
}

/// The correlation id of a send by the timetable.
pub(super) fn timed_correlation(number: u32) -> u32 {
    TIMED | number
}

/// What a correlation id stands for.
pub(super) fn asked(correlation: u32) -> Option<Asked> {
    if correlation & TIMED != 0 {
        return Some(Asked::Timed(correlation & !TIMED));
    }
    let number = ((correlation & PLACE_MASK) as usize).checked_sub(1)?;
    let step = Step::ALL[number % Step::ALL.len()];
    Some(Asked::Slot { slot: number / Step::ALL.len(), step, note: correlation >> NOTE_SHIFT })
}

/// Which message groups of its queues a connection sends to, so that no other connection sends to them
/// where there are enough.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Groups {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) count: u64,
    pub(super) next: u64,
}

impl Groups {
    /// Of the connection that is number `share` of `shares` on its queue.
    pub(super) fn of(groups: u64, share: u64, shares: u64) -> Self {
        if groups >= shares {
            let count = (groups - share).div_ceil(shares);
            Groups { first: share, step: shares, count, next: 0 }
        } else {
            Groups { first: share, step: 0, count: 1, next: 0 }
        }
    }

    /// The stream of the next message; its group is that number modulo the number of groups.
    pub(super) fn next(&mut self) -> u64 {
        let chosen = self.first + self.step * self.next;
        self.next = (self.next + 1) % self.count.max(1);
        chosen
    }
}

/// Bytes in and out of a socket that never blocks.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) index: usize,
    pub(super) role: Role,
    /// Its queues: the load's number and the broker's.
    pub(super) queues: Vec<(usize, u64)>,
    pub(super) next_queue: usize,
    /// Numbers of the sends by the timetable that are not answered yet.
    pub(super) timed: VecDeque<u32>,
    pub(super) groups: Groups,
    pub(super) input: Vec<u8>,
    /// Of `input`, what has arrived and is not yet taken.
    pub(super) arrived: std::ops::Range<usize>,
    pub(super) output: Vec<u8>,
    pub(super) frame_bytes_max: usize,
    pub(super) bytes: u64,
    written: usize,
    waits_for_room: bool,
    pub(super) slots: Vec<Slot>,
}

impl Connection {
    /// Connects, says hello and opens the queues by ordinary means; from then on nothing blocks.
    pub(super) fn open(
        address: SocketAddr,
        role: Role,
        queues: &[(usize, String)],
        index: usize,
        slots: usize,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let mut client = Client::connect(address)?;
        let queues = queues
            .iter()
            .map(|(number, name)| Ok((*number, client.open(name)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let frame_bytes_max = client.frame_bytes_max();
        let stream = client.into_stream()?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, index)?;
        let mut slots = vec![Slot::default(); slots];
        for (place, slot) in slots.iter_mut().enumerate() {
            slot.queue = place % queues.len().max(1);
        }
        Ok(Connection {
            stream,
            index,
            role,
            queues,
            next_queue: 0,
            timed: VecDeque::new(),
            groups: Groups::default(),
            input: vec![0; 4 << 10],
            arrived: 0..0,
            output: Vec::new(),
            frame_bytes_max,
            bytes: 0,
            written: 0,
            waits_for_room: false,
            slots,
        })
    }

    /// Whether one more send by the timetable may go to it, if only so many may be under way (0: any number).
    pub(super) fn takes_more(&self, under_way_max: usize) -> bool {
        let has_room = under_way_max == 0 || self.timed.len() < under_way_max;
        has_room && self.output.len() - self.written <= UNWRITTEN_MAX
    }

    /// Reads what there is, as much as there is room for; says whether there may be more.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.arrived.is_empty() {
            self.arrived = 0..0;
        } else if self.input.len() - self.arrived.end < self.input.len() / 2 {
            self.input.copy_within(self.arrived.clone(), 0);
            self.arrived = 0..self.arrived.len();
            if self.input.len() - self.arrived.end < self.input.len() / 2 {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        match self.stream.read(&mut self.input[self.arrived.end..]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed a connection")),
            Ok(count) => {
                self.arrived.end += count;
                self.bytes += count as u64;
                let is_full = self.arrived.end == self.input.len();
                if is_full && self.arrived.start == 0 && self.input.len() < READ_BYTES {
                    self.input.resize(READ_BYTES, 0);
                }
                Ok(is_full)
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
                Ok(count) => {
                    self.written += count;
                    self.bytes += count as u64;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_ids_tell_what_was_asked() {
        let place = Asked::Slot { slot: 70, step: Step::Send, note: 10 };
        assert_eq!(asked(correlation(70, Step::Send, 10)), Some(place));
        let note = DELETIONS_MAX as u32 - 1;
        let last = Asked::Slot { slot: SLOTS_MAX - 1, step: Step::Delete, note };
        assert_eq!(asked(correlation(SLOTS_MAX - 1, Step::Delete, note)), Some(last));
        assert_eq!(asked(timed_correlation(timed_number(1 << 31 | 12))), Some(Asked::Timed(12)));
        assert_eq!(asked(0), None);
    }

    #[test]
    fn connections_share_groups_without_meeting() {
        let mut seen = std::collections::HashSet::new();
        for share in 0..3 {
            let mut groups = Groups::of(10, share, 3);
            let own: std::collections::HashSet<u64> = (0..20).map(|_| groups.next()).collect();
            assert!(own.iter().all(|group| seen.insert(*group) && *group < 10));
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(Groups::of(2, 5, 8).next(), 5, "a stream of its own, in a group that others use too");
    }
}
