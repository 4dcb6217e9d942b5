//! The load itself: one thread that keeps every slot of every connection busy with its next request.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tenpin_protocol::{AttributeCode, split_frame};

use super::books::{Account, Books};
use super::connection::{Connection, Slot, Step, correlation, slot_and_step};
use super::epoll::Epoll;
use super::{FIFO_QUEUE, LoadOptions, QUEUE, Shape};
use crate::client::{Client, ClientError, Receive};
use crate::measure::{self, Gaps};
use crate::wire::{self, Reply};

/// A broker that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an idle wait for messages lasts; only met when the queue is empty.
const WAIT_MS: u32 = 1_000;

/// For how long received messages stay hidden: longer than any run, so that each comes once.
const VISIBILITY_SECONDS: u32 = 43_200;

/// What the slots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Only send, until the queue is as deep as was asked for.
    Fill,
    /// Send, receive, delete.
    Cycle,
    /// Receive and delete until the queue is empty.
    Drain,
}

/// Round trips by request, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) send: Histogram<u64>,
    pub(super) receive: Histogram<u64>,
    pub(super) delete: Histogram<u64>,
    /// Those that overlapped a gap, of all three.
    pub(super) in_gaps: Histogram<u64>,
}

impl Times {
    fn new() -> Self {
        // Three significant digits, from 100 ns to 100 s; beyond that the range grows.
        let histogram = || {
            let mut histogram =
                Histogram::new_with_bounds(100, 100_000_000_000, 3).expect("the bounds are in order");
            histogram.auto(true);
            histogram
        };
        Times { send: histogram(), receive: histogram(), delete: histogram(), in_gaps: histogram() }
    }
}

/// What one run measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) lifecycles: u64,
    pub(super) length: Duration,
    pub(super) broker_cpu: Option<Duration>,
    pub(super) client_cpu: Duration,
    pub(super) times: Times,
    pub(super) gaps: Gaps,
    pub(super) account: Account,
}

/// Readings at one moment.
struct Snapshot {
    at: Instant,
    lifecycles: u64,
    broker_cpu: Option<Duration>,
    client_cpu: Duration,
}

pub(super) struct Generator<'a> {
    options: &'a LoadOptions,
    epoll: Epoll,
    connections: Vec<Connection>,
    state: State,
}

/// Everything but the connections, so that both can be borrowed at once.
struct State {
    phase: Phase,
    started: Instant,
    /// The clock as it was read last.
    now_ns: u64,
    /// Requests under way on all connections.
    under_way: usize,
    shape: Shape,
    depth: u64,
    batch: usize,
    bodies: Vec<u8>,
    body_bytes: usize,
    /// 0: a standard queue.
    fifo_groups: u64,
    next_group: u64,
    books: Books,
    deleted: u64,
    times: Option<Times>,
    gaps: Gaps,
    gap_ended_ns: u64,
    failure: Option<String>,
}

impl<'a> Generator<'a> {
    pub(super) fn connect(options: &'a LoadOptions, address: std::net::SocketAddr) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut client = Client::connect(address)?;
        let (queue, attributes): (_, &[_]) = match options.fifo_groups {
            0 => (QUEUE, &[]),
            _ => (FIFO_QUEUE, &[(AttributeCode::FifoQueue, 1)]),
        };
        client.create(queue, attributes)?;
        let connections = (0..options.connections)
            .map(|index| Connection::open(address, queue, index, options.in_flight, &epoll))
            .collect::<io::Result<Vec<_>>>()?;
        let state = State {
            phase: if options.depth > 0 { Phase::Fill } else { Phase::Cycle },
            started: Instant::now(),
            now_ns: 0,
            under_way: 0,
            shape: options.shape,
            depth: options.depth,
            batch: options.batch,
            bodies: vec![0; options.batch * options.body_bytes],
            body_bytes: options.body_bytes,
            fifo_groups: options.fifo_groups,
            next_group: 0,
            books: Books::new(),
            deleted: 0,
            times: None,
            gaps: Gaps::default(),
            gap_ended_ns: 0,
            failure: None,
        };
        Ok(Generator { options, epoll, connections, state })
    }

    /// Fills, warms up, measures, drains.
    pub(super) fn run(&mut self, broker_pid: Option<u32>) -> io::Result<Measured> {
        self.state.read_clock();
        self.start_idle_slots()?;
        while self.state.phase == Phase::Fill {
            self.turn()?;
            if self.state.books.made() >= self.options.depth {
                self.state.phase = Phase::Cycle;
            }
        }
        self.turn_until(Instant::now() + self.options.warm_up)?;
        self.state.times = Some(Times::new());
        self.state.gaps = Gaps::default();
        let begin = self.snapshot(broker_pid)?;
        self.turn_until(begin.at + self.options.length)?;
        let end = self.snapshot(broker_pid)?;
        let times = self.state.times.take().expect("set at the start of the measurement");
        let mut gaps = self.state.gaps;
        gaps.watched = end.at - begin.at;
        self.drain()?;
        Ok(Measured {
            lifecycles: end.lifecycles - begin.lifecycles,
            length: end.at - begin.at,
            broker_cpu: end.broker_cpu.zip(begin.broker_cpu).map(|(end, begin)| end.saturating_sub(begin)),
            client_cpu: end.client_cpu - begin.client_cpu,
            times,
            gaps,
            account: self.state.books.close(),
        })
    }

    fn snapshot(&self, broker_pid: Option<u32>) -> io::Result<Snapshot> {
        Ok(Snapshot {
            at: Instant::now(),
            lifecycles: self.state.deleted,
            broker_cpu: broker_pid.map(measure::process_cpu).transpose()?,
            client_cpu: measure::thread_cpu(),
        })
    }

    fn turn_until(&mut self, end: Instant) -> io::Result<()> {
        while self.state.clock() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Lets every slot go on receiving until it is told that there is nothing more.
    fn drain(&mut self) -> io::Result<()> {
        self.state.phase = Phase::Drain;
        while self.state.under_way > 0 {
            self.turn()?;
        }
        Ok(())
    }

    fn start_idle_slots(&mut self) -> io::Result<()> {
        for connection in &mut self.connections {
            let Connection { slots, output, queue, .. } = connection;
            for (index, slot) in slots.iter_mut().enumerate() {
                self.state.go_on(slot, index, *queue, output);
            }
            connection.flush(&self.epoll)?;
        }
        Ok(())
    }

    /// Waits for replies and answers each with its slot's next request.
    fn turn(&mut self) -> io::Result<()> {
        let count = self.epoll.wait(PATIENCE)?;
        if count == 0 && self.state.clock_silent() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker answers nothing"));
        }
        self.state.read_clock();
        for at in 0..count {
            let ready = self.epoll.ready(at);
            let connection = &mut self.connections[ready.index];
            if ready.readable {
                while connection.fill()? {
                    self.state.take_replies(connection)?;
                }
                self.state.take_replies(connection)?;
            }
            connection.flush(&self.epoll)?;
        }
        if let Some(failure) = self.state.failure.take() {
            return Err(io::Error::other(failure));
        }
        self.state.note_gap();
        Ok(())
    }
}

impl State {
    fn read_clock(&mut self) {
        self.now_ns = self.started.elapsed().as_nanos() as u64;
    }

    fn clock(&self) -> Instant {
        self.started + Duration::from_nanos(self.now_ns)
    }

    /// Whether nothing was heard since the clock was read last, for all of the patience there is.
    fn clock_silent(&self) -> bool {
        Instant::now() >= self.clock() + PATIENCE
    }

    /// A turn's work takes far less than a gap lasts, unless the host stopped the machine.
    fn note_gap(&mut self) {
        let turn_began_ns = self.now_ns;
        self.read_clock();
        if self.gaps.note(Duration::from_nanos(self.now_ns - turn_began_ns)) {
            self.gap_ended_ns = self.now_ns;
        }
    }

    fn take_replies(&mut self, connection: &mut Connection) -> io::Result<()> {
        let Connection { input, arrived, output, slots, queue, frame_bytes_max, .. } = connection;
        while let Some((frame, length)) =
            split_frame(&input[arrived.clone()], *frame_bytes_max).map_err(io::Error::other)?
        {
            let reply = wire::read_reply(&frame)?;
            let place = slot_and_step(frame.correlation);
            let Some((index, step, slot)) =
                place.and_then(|(index, step)| slots.get_mut(index).map(|slot| (index, step, slot)))
            else {
                return Err(ClientError::Protocol(format!("an unexpected frame: {reply:?}")).into());
            };
            if !slot.end(step) {
                return Err(ClientError::Protocol(format!("a second reply to a {step:?}")).into());
            }
            self.under_way -= 1;
            self.note_time(step, slot.asked_ns);
            self.take_reply(step, reply, slot)?;
            if slot.is_idle() {
                self.go_on(slot, index, *queue, output);
            }
            arrived.start += length;
        }
        Ok(())
    }

    fn note_time(&mut self, step: Step, asked_ns: u64) {
        let Some(times) = &mut self.times else { return };
        let histogram = if asked_ns < self.gap_ended_ns {
            &mut times.in_gaps
        } else {
            match step {
                Step::Send => &mut times.send,
                Step::Receive => &mut times.receive,
                Step::Delete => &mut times.delete,
            }
        };
        histogram.saturating_record(self.now_ns - asked_ns);
    }

    /// Books what a reply says.
    fn take_reply(&mut self, step: Step, reply: Reply<'_>, slot: &mut Slot) -> io::Result<()> {
        let mut answered = 0;
        match (step, reply) {
            (Step::Send, Reply::Sent(outcomes)) => {
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::send_outcome(&outcome) {
                        self.books.refused();
                        self.fail(format!("a send was refused: {refusal}"));
                    }
                }
                self.check_count(answered, slot.sending);
            }
            (Step::Receive, Reply::Received(messages)) => {
                for message in messages {
                    self.books.received(message.body);
                    slot.handles.extend_from_slice(message.handle);
                    slot.handle_ends.push(slot.handles.len());
                }
                if slot.handle_ends.len() > self.batch {
                    self.fail(format!(
                        "{} messages where {} were asked for",
                        slot.handle_ends.len(),
                        self.batch
                    ));
                }
            }
            (Step::Delete, Reply::Outcomes(outcomes)) => {
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::outcome(&outcome) {
                        self.fail(format!("a delete was refused: {refusal}"));
                    }
                }
                self.check_count(answered, slot.deleting);
                self.deleted += u64::from(answered);
            }
            (_, Reply::Refused(refusal)) => return Err(ClientError::Refused(refusal).into()),
            (step, reply) => {
                return Err(ClientError::Protocol(format!("the answer to a {step:?} is {reply:?}")).into());
            }
        }
        Ok(())
    }

    /// Asks for what comes next in a slot that has all its answers; nothing where all is drained.
    fn go_on(&mut self, slot: &mut Slot, index: usize, queue: u64, output: &mut Vec<u8>) {
        let has_received = !slot.handle_ends.is_empty();
        let is_in_rounds = self.shape == Shape::Rounds;
        slot.asked_ns = self.now_ns;
        if self.phase == Phase::Fill && self.books.made() < self.depth {
            return self.ask_send(slot, index, queue, output);
        }
        if has_received {
            self.ask_delete(slot, index, queue, output);
            if !is_in_rounds {
                return;
            }
        }
        let is_draining = self.phase == Phase::Drain;
        let sends = !is_draining && (is_in_rounds || matches!(slot.last, None | Some(Step::Delete)));
        // While draining, a receive that brought nothing was the last one.
        let receives = if is_draining {
            has_received || slot.last != Some(Step::Receive)
        } else {
            is_in_rounds || !sends
        };
        if sends {
            self.ask_send(slot, index, queue, output);
        }
        if receives {
            self.ask_receive(slot, index, queue, output);
        }
    }

    fn check_count(&mut self, answered: u32, asked: u32) {
        if answered != asked {
            self.fail(format!("{answered} results for {asked} entries"));
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn asked(&mut self, slot: &mut Slot, step: Step) {
        slot.begin(step);
        self.under_way += 1;
    }

    fn ask_send(&mut self, slot: &mut Slot, index: usize, queue: u64, output: &mut Vec<u8>) {
        for body in self.bodies.chunks_exact_mut(self.body_bytes) {
            self.books.next_body(body);
        }
        let bodies = self.bodies.chunks_exact(self.body_bytes);
        let correlation = correlation(index, Step::Send);
        if self.fifo_groups == 0 {
            wire::write_send(output, correlation, queue, bodies);
        } else {
            let (first, groups) = (self.next_group, self.fifo_groups);
            let bodies = bodies.enumerate().map(|(place, body)| (body, (first + place as u64) % groups));
            wire::write_fifo_send(output, correlation, queue, bodies);
            self.next_group += self.batch as u64;
        }
        slot.sending = self.batch as u32;
        self.asked(slot, Step::Send);
    }

    fn ask_receive(&mut self, slot: &mut Slot, index: usize, queue: u64, output: &mut Vec<u8>) {
        let wait_ms = if self.phase == Phase::Drain { 0 } else { WAIT_MS };
        let receive =
            Receive { messages_max: self.batch as u8, wait_ms, visibility_seconds: Some(VISIBILITY_SECONDS) };
        wire::write_receive(output, correlation(index, Step::Receive), queue, receive);
        self.asked(slot, Step::Receive);
    }

    fn ask_delete(&mut self, slot: &mut Slot, index: usize, queue: u64, output: &mut Vec<u8>) {
        let mut handles: [&[u8]; wire::BATCH_MAX] = [&[]; wire::BATCH_MAX];
        let mut start = 0;
        let count = slot.handle_ends.len().min(handles.len());
        for (handle, &end) in handles.iter_mut().zip(&slot.handle_ends) {
            *handle = &slot.handles[start..end];
            start = end;
        }
        wire::write_delete(output, correlation(index, Step::Delete), queue, &handles[..count]);
        slot.deleting = count as u32;
        slot.handles.clear();
        slot.handle_ends.clear();
        self.asked(slot, Step::Delete);
    }
}
