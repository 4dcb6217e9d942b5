//! Long polls: receives that wait for a message.
//!
//! A queue's waits stand in a list in the order in which they came and are served in it, whenever
//! the queue has something to give. A connection's waits stand in a second list, so that they are
//! forgotten with it. A third place is the wheel, for the time at which a wait ends with nothing. A
//! wait that is over by its deadline gets nothing, whether or not its timer has run (rule 10).

use super::outputs::{Outputs, Reply, ReplyBody};
use super::queue::Queues;
use super::receive::{Nothing, Receive};
use super::slot::NONE;
use super::wheel::{Links, Step, TimerLinks, Wheel};
use super::{Engine, Ticket};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};
use crate::shard::driver::ConnectionId;

/// Waits in a chunk; the table grows by chunks (rule 32).
const CHUNK_WAITS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// One receive that waits.
#[derive(Debug, Clone, Copy)]
struct Wait {
    ticket: Ticket,
    receive: Receive,
    deadline_ms: u64,
    /// Whether another shard is asked for it.
    asked: bool,
    queue: u32,
    /// In the queue's list; `next` also in the list of free places.
    next: u32,
    previous: u32,
    /// In the connection's list.
    connection_next: u32,
    connection_previous: u32,
    timer: TimerLinks,
}

#[derive(Debug, Default)]
struct Table {
    chunks: Vec<Vec<Wait>>,
}

/// All waits of a shard.
#[derive(Debug)]
pub(super) struct Waits {
    table: Table,
    used: u32,
    free: u32,
    count: u32,
    wheel: Wheel,
    /// The first wait of each connection, by its place in the driver's table; then of those that stand
    /// for connections of other shards, then of the gateway's.
    connections: [Vec<u32>; 3],
    /// Watched queues whose last wait has ended: what came while another shard was asked for it was left
    /// to it, and nobody was told.
    pub left_alone: Vec<u32>,
}

impl Waits {
    pub fn new() -> Self {
        Self {
            table: Table::default(),
            used: 0,
            free: NONE,
            count: 0,
            wheel: Wheel::new(),
            connections: Default::default(),
            left_alone: Vec::new(),
        }
    }

    /// How many wait.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// As [`Wheel::begin_at`].
    pub fn begin_at(&mut self, now_ms: u64) {
        self.wheel.begin_at(now_ms);
    }

    /// When the next wait may end.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline_ms()
    }

    /// Registers a wait behind those of its queue.
    pub fn add(
        &mut self,
        ticket: Ticket,
        queue: u32,
        receive: Receive,
        deadline_ms: u64,
        queues: &mut Queues,
    ) {
        let (side, place) = ticket.connection.place();
        let connections = &mut self.connections[side];
        if connections.len() <= place {
            connections.resize(place + 1, NONE);
        }
        let (entry, connection_next) = (&mut queues[queue], connections[place]);
        let wait = Wait {
            ticket,
            receive,
            deadline_ms,
            asked: false,
            queue,
            next: NONE,
            previous: entry.last_wait,
            connection_next,
            connection_previous: NONE,
            timer: TimerLinks::IDLE,
        };
        let index = self.place(wait);
        if entry.last_wait == NONE {
            entry.first_wait = index;
        } else {
            self.table[entry.last_wait].next = index;
        }
        entry.last_wait = index;
        entry.waiting += 1;
        if connection_next != NONE {
            self.table[connection_next].connection_previous = index;
        }
        self.connections[side][place] = index;
        self.wheel.start(&mut self.table, index, deadline_ms);
        self.count += 1;
    }

    fn place(&mut self, wait: Wait) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.table[index].next;
            self.table[index] = wait;
            return index;
        }
        let index = self.used;
        if index as usize & (CHUNK_WAITS - 1) == 0 {
            self.table.chunks.push(Vec::with_capacity(CHUNK_WAITS));
        }
        self.table.chunks[index as usize >> CHUNK_BITS].push(wait);
        self.used += 1;
        index
    }

    /// Takes a wait out of everything.
    fn remove(&mut self, index: u32, queues: &mut Queues) -> Wait {
        self.wheel.cancel(&mut self.table, index);
        let wait = self.table[index];
        let queue = &mut queues[wait.queue];
        match wait.previous {
            NONE => queue.first_wait = wait.next,
            previous => self.table[previous].next = wait.next,
        }
        match wait.next {
            NONE => queue.last_wait = wait.previous,
            next => self.table[next].previous = wait.previous,
        }
        queue.waiting -= 1;
        if queue.watched && queue.waiting == 0 {
            self.left_alone.push(wait.queue);
        }
        match wait.connection_previous {
            NONE => {
                let (side, place) = wait.ticket.connection.place();
                self.connections[side][place] = wait.connection_next;
            }
            previous => self.table[previous].connection_next = wait.connection_next,
        }
        if wait.connection_next != NONE {
            self.table[wait.connection_next].connection_previous = wait.connection_previous;
        }
        self.table[index].next = self.free;
        self.free = index;
        self.count -= 1;
        wait
    }

    /// Takes one wait of a connection out, the newest first.
    fn take_of(&mut self, connection: ConnectionId, queues: &mut Queues) -> Option<Wait> {
        let index = self.first_of(connection)?;
        // The waits of a connection are forgotten before its place is used again.
        (self.table[index].ticket.connection == connection).then(|| self.remove(index, queues))
    }

    fn first_of(&self, connection: ConnectionId) -> Option<u32> {
        let (side, place) = connection.place();
        self.connections[side].get(place).copied().filter(|&index| index != NONE)
    }

    /// The wait with this ticket: of one connection, which has a bounded number of them.
    pub fn find(&self, ticket: Ticket) -> Option<u32> {
        let mut index = self.first_of(ticket.connection)?;
        while index != NONE {
            if self.table[index].ticket == ticket {
                return Some(index);
            }
            index = self.table[index].connection_next;
        }
        None
    }

    /// The first wait of a queue's list that no other shard is asked for; one is from now on. There are
    /// at most as many before it as there are shards.
    pub fn ask_next(&mut self, first: u32) -> Option<(Ticket, Receive)> {
        let index = self.first_unasked(first);
        if index == NONE {
            return None;
        }
        let wait = &mut self.table[index];
        wait.asked = true;
        Some((wait.ticket, wait.receive))
    }

    /// The first wait of a queue's list that is not asked for elsewhere. One that is waits for that answer:
    /// served here as well, it would have to give that back.
    #[inline]
    fn first_unasked(&self, first: u32) -> u32 {
        let mut index = first;
        while index != NONE && self.table[index].asked {
            index = self.table[index].next;
        }
        index
    }

    /// No other shard is asked for it any more. Gives its queue.
    pub fn not_asked(&mut self, index: u32) -> u32 {
        self.table[index].asked = false;
        self.table[index].queue
    }

    /// Takes one out that is served.
    pub fn take(&mut self, index: u32, queues: &mut Queues) {
        self.remove(index, queues);
    }

    /// One step towards this time: a wait that is over, taken out, or only a timer moved.
    fn pop_over(&mut self, now_ms: u64, queues: &mut Queues) -> Option<Option<Wait>> {
        match self.wheel.step(&mut self.table, now_ms) {
            Step::Due(index) => Some(Some(self.remove(index, queues))),
            Step::Moved(index) => {
                let deadline_ms = self.table[index].deadline_ms;
                self.wheel.start(&mut self.table, index, deadline_ms);
                Some(None)
            }
            Step::Idle => None,
        }
    }
}

impl<F: Flaws> Engine<F> {
    /// Puts a queue on the list of those whose waits can be served.
    #[inline]
    pub(super) fn mark_ready(&mut self, index: u32) {
        let queue = &mut self.queues[index];
        if !queue.ready {
            queue.ready = true;
            self.ready.push(index);
        }
    }

    /// Gives what has become visible to those who wait, in their order.
    pub(super) fn serve_ready(&mut self, log: &mut Log<F>, out: &mut Outputs) {
        while let Some(index) = self.ready.pop() {
            if self.queues.get(index).is_some() {
                // It stays marked meanwhile: what dead letters uncover as they go is seen anyway, and where
                // there are more than may be moved in a turn nothing else may serve it in this one (rule 31).
                let goes_on_later = self.serve_waits(index, log, out);
                self.queues[index].ready = goes_on_later;
                self.notice_surplus(index);
            }
        }
    }

    /// Serves those who wait on a queue. Says whether it has to go on in the next turn.
    fn serve_waits(&mut self, index: u32, log: &mut Log<F>, out: &mut Outputs) -> bool {
        loop {
            let first = self.waits.first_unasked(self.queues[index].first_wait);
            if first == NONE {
                return false;
            }
            let wait = self.waits.table[first];
            if wait.deadline_ms <= self.now_ms {
                self.waits.remove(first, &mut self.queues);
                self.end_wait(&wait, out);
                continue;
            }
            match self.hand_out(index, wait.ticket, wait.receive, true, log, out) {
                Ok(()) => {
                    self.waits.remove(first, &mut self.queues);
                }
                Err(Nothing::More) => {
                    self.later.push(index);
                    return true;
                }
                Err(Nothing::Empty | Nothing::OverLimit | Nothing::NoRoom) => return false,
            }
        }
    }

    /// Ends waits whose time is up. Says how many of the steps are left.
    pub(super) fn end_waits(&mut self, mut steps: u32, out: &mut Outputs) -> u32 {
        while steps > 0 {
            let Some(wait) = self.waits.pop_over(self.now_ms, &mut self.queues) else { break };
            steps -= 1;
            if let Some(wait) = wait {
                self.end_wait(&wait, out);
            }
        }
        steps
    }

    /// Forgets the waits of a connection that is gone.
    pub(super) fn forget_waits(&mut self, connection: ConnectionId) {
        while let Some(wait) = self.waits.take_of(connection, &mut self.queues) {
            self.let_next_wait(wait.queue);
        }
    }

    /// Answers the waits of a connection, or all, with nothing.
    pub(super) fn answer_waits(&mut self, connection: Option<ConnectionId>, out: &mut Outputs) {
        self.answer_unfinished(connection, out);
        if let Some(connection) = connection {
            while let Some(wait) = self.waits.take_of(connection, &mut self.queues) {
                self.end_wait(&wait, out);
            }
            return;
        }
        for index in 0..self.queues.table_length() {
            while let Some(first) = self.queues.get(index).map(|queue| queue.first_wait)
                && first != NONE
            {
                let wait = self.waits.remove(first, &mut self.queues);
                self.end_wait(&wait, out);
            }
        }
    }

    /// Answers the waits of a queue that is deleted.
    pub(super) fn refuse_waits(
        &mut self,
        index: u32,
        depends_on: Position,
        body: ReplyBody,
        out: &mut Outputs,
    ) {
        while self.queues[index].first_wait != NONE {
            let wait = self.waits.remove(self.queues[index].first_wait, &mut self.queues);
            out.replies.push(Reply {
                ticket: wait.ticket,
                depends_on,
                stale_after_ms: u64::MAX,
                ends_wait: true,
                body: body.clone(),
            });
        }
    }

    /// One who found nothing waits no more. On a FIFO queue one behind it may be there to repeat the attempt of
    /// another that was served.
    pub(super) fn let_next_wait(&mut self, index: u32) {
        let queue = &self.queues[index];
        if queue.attributes.fifo.is_some() && queue.first_wait != NONE {
            self.mark_ready(index);
        }
    }

    fn end_wait(&mut self, wait: &Wait, out: &mut Outputs) {
        self.queues[wait.queue].totals.empty_receives += 1;
        self.let_next_wait(wait.queue);
        let end = out.deliveries.len() as u32;
        out.replies.push(Reply {
            ticket: wait.ticket,
            depends_on: Position::default(),
            stale_after_ms: u64::MAX,
            ends_wait: true,
            body: ReplyBody::Received(end..end),
        });
    }
}

impl std::ops::Index<u32> for Table {
    type Output = Wait;

    fn index(&self, index: u32) -> &Wait {
        &self.chunks[index as usize >> CHUNK_BITS][index as usize & (CHUNK_WAITS - 1)]
    }
}

impl std::ops::IndexMut<u32> for Table {
    fn index_mut(&mut self, index: u32) -> &mut Wait {
        &mut self.chunks[index as usize >> CHUNK_BITS][index as usize & (CHUNK_WAITS - 1)]
    }
}

impl Links for Table {
    fn links(&self, node: u32) -> TimerLinks {
        self[node].timer
    }

    fn set_next(&mut self, node: u32, next: u32) {
        self[node].timer.next = next;
    }

    fn set_previous(&mut self, node: u32, previous: u32) {
        self[node].timer.previous = previous;
    }
}
