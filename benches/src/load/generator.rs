//! The load itself: one thread that keeps every slot of every connection busy with its next request, and
//! sends by a timetable where there is one.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tenpin_protocol::{AttributeCode, AttributeValue, split_frame};

use super::books::{Account, Books, Receipt, Verdict};
use super::connection::{
    Asked, Connection, Deletion, Groups, Role, SLOTS_MAX, Slot, Step, asked, correlation, timed_correlation,
};
use super::epoll::Epoll;
use super::open::{Open, Timetable};
use super::{LoadOptions, Shape, books, histogram};
use crate::client::{Client, ClientError, Receive};
use crate::measure::{self, Gaps};
use crate::random::Random;
use crate::report::HostGaps;
use crate::wire::{self, BATCH_MAX, Outgoing, Reply};

/// A broker that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an idle wait for messages lasts; only met when the queue is empty.
const WAIT_MS: u32 = 1_000;

/// The same while the queues are emptied and messages are still to come back.
const DRAIN_WAIT_MS: u32 = 100;

/// Once nothing comes for so long, beyond the time that messages may be hidden, what is missing is lost.
const QUIET_NS: u64 = 3_000_000_000;

/// Sends by the timetable wait while so much of a connection's output is not taken.
const UNWRITTEN_MAX: usize = 4 << 20;

/// From the start of a timetable until the first message is due.
const HEAD_START_NS: u64 = 20_000_000;

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
        Times { send: histogram(), receive: histogram(), delete: histogram(), in_gaps: histogram() }
    }

    /// All requests outside of gaps.
    pub(super) fn all(&self) -> Histogram<u64> {
        let mut all = self.send.clone();
        for histogram in [&self.receive, &self.delete] {
            all.add(histogram).expect("histograms that grow take anything");
        }
        all
    }
}

/// What one run measured.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) lifecycles: u64,
    pub(super) length: Duration,
    pub(super) broker_cpu: Option<Duration>,
    pub(super) client_cpu: Duration,
    /// Time in which the client had nothing to do.
    pub(super) idle: Duration,
    pub(super) wire_bytes: u64,
    pub(super) disk_bytes: Option<u64>,
    pub(super) syscalls_per_cpu_second: Option<f64>,
    pub(super) times: Times,
    /// End to end, those in gaps, and the client's lateness, where there was a timetable.
    pub(super) timed: Option<(Histogram<u64>, Histogram<u64>, Histogram<u64>)>,
    pub(super) gaps: HostGaps,
    pub(super) account: Account,
}

/// Readings at one moment.
struct Snapshot {
    at: Instant,
    lifecycles: u64,
    broker_cpu: Option<Duration>,
    client_cpu: Duration,
    idle_ns: u64,
    wire_bytes: u64,
    disk_bytes: Option<u64>,
}

pub(super) struct Generator<'a> {
    options: &'a LoadOptions,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// How many of them send; they come first.
    senders: usize,
    /// Connections with nothing to do.
    _idle: Vec<Client>,
    dirty: Vec<usize>,
    state: State,
}

/// Everything but the connections, so that both can be borrowed at once.
struct State {
    phase: Phase,
    started: Instant,
    /// The clock as it was read last.
    now_ns: u64,
    idle_ns: u64,
    /// Requests of slots that are under way on all connections.
    under_way: usize,
    options: LoadOptions,
    /// The dead-letter queue's number.
    dead_letter_queue: usize,
    streams_per_queue: u64,
    /// More messages than this are not kept with the broker in a closed loop.
    outstanding_max: u64,
    batch: Batch,
    books: Books,
    random: Random,
    replies: u64,
    deleted: u64,
    /// Of each queue, whether it was found empty since the draining began, and nothing has come since.
    empty: Vec<bool>,
    drain_began_ns: u64,
    last_arrival_ns: u64,
    open: Option<Open>,
    times: Option<Times>,
    gaps: Gaps,
    gap_ended_ns: u64,
    failure: Option<String>,
}

/// The next batch of messages.
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<(usize, Option<u64>, Option<u32>)>,
}

/// What a slot needs of its connection.
struct Ends<'a> {
    role: Role,
    queues: &'a [(usize, u64)],
    groups: &'a mut Groups,
    output: &'a mut Vec<u8>,
    slots: usize,
}

impl<'a> Generator<'a> {
    pub(super) fn connect(options: &'a LoadOptions, address: std::net::SocketAddr) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut client = Client::connect(address)?;
        make_queues(options, &mut client)?;
        let senders = options.connections;
        let shares = senders.div_ceil(options.queues.max(1)) as u64;
        let streams_per_queue = options.fifo_groups.max(shares).max(1);
        let mut generator = Generator {
            options,
            epoll,
            connections: Vec::new(),
            senders,
            _idle: Vec::new(),
            dirty: Vec::new(),
            state: State::new(options, streams_per_queue)?,
        };
        let roles: &[Role] =
            if options.rate.is_some() { &[Role::Produce, Role::Consume] } else { &[Role::Cycle] };
        for role in roles {
            for place in 0..options.connections {
                generator.add(address, *role, place, &options.queues_of(place))?;
            }
        }
        if options.fates.doomed > 0 {
            let queue = [(options.queues, options.dead_letter_queue())];
            generator.add(address, Role::Consume, 0, &queue)?;
        }
        for _ in 0..options.idle_connections {
            generator._idle.push(Client::connect(address)?);
        }
        Ok(generator)
    }

    fn add(
        &mut self,
        address: std::net::SocketAddr,
        role: Role,
        place: usize,
        queues: &[(usize, String)],
    ) -> io::Result<()> {
        let index = self.connections.len();
        let mut connection = Connection::open(address, role, queues, index, self.options.depth, &self.epoll)?;
        if self.options.fifo_groups > 0 {
            let queues = self.options.queues.max(1);
            let (share, shares) = (place / queues, self.options.connections.div_ceil(queues));
            connection.groups = Groups::of(self.options.fifo_groups, share as u64, shares as u64);
        }
        self.connections.push(connection);
        Ok(())
    }

    /// Fills, warms up, measures, drains.
    pub(super) fn run(&mut self, broker_pid: Option<u32>) -> io::Result<Measured> {
        self.state.read_clock();
        if self.state.phase == Phase::Fill {
            self.start_idle_slots()?;
            while self.state.phase == Phase::Fill {
                self.turn()?;
                if self.state.books.made() >= self.options.backlog {
                    self.state.phase = Phase::Cycle;
                }
            }
        }
        self.state.read_clock();
        if let Some(rate) = self.options.rate {
            self.state.open = Some(Open::new(self.timetable(rate), self.state.started));
        }
        self.start_idle_slots()?;
        self.warm_up()?;
        self.state.times = Some(Times::new());
        self.state.gaps = Gaps::default();
        let syscalls = match broker_pid {
            Some(pid) if self.options.syscalls => measure::SystemCalls::count(pid),
            _ => None,
        };
        let begin = self.snapshot(broker_pid)?;
        self.measure(&begin)?;
        let end = self.snapshot(broker_pid)?;
        let syscalls_per_cpu_second = syscalls.and_then(measure::SystemCalls::per_cpu_second);
        let times = self.state.times.take().expect("set at the start of the measurement");
        let mut gaps = HostGaps {
            count: self.state.gaps.count,
            total_ms: self.state.gaps.total.as_secs_f64() * 1e3,
            longest_ms: self.state.gaps.longest.as_secs_f64() * 1e3,
            real_time: false,
        };
        self.drain()?;
        let now_ns = self.state.now_ns;
        let timed = self.state.open.take().map(|open| {
            let (end_to_end, in_gaps, lateness, seen) = open.finish(now_ns);
            gaps = seen;
            (end_to_end, in_gaps, lateness)
        });
        Ok(Measured {
            lifecycles: end.lifecycles - begin.lifecycles,
            length: end.at - begin.at,
            broker_cpu: end.broker_cpu.zip(begin.broker_cpu).map(|(end, begin)| end.saturating_sub(begin)),
            client_cpu: end.client_cpu - begin.client_cpu,
            idle: Duration::from_nanos(end.idle_ns - begin.idle_ns),
            wire_bytes: end.wire_bytes - begin.wire_bytes,
            disk_bytes: end.disk_bytes.zip(begin.disk_bytes).map(|(end, begin)| end - begin),
            syscalls_per_cpu_second,
            times,
            timed,
            gaps,
            account: self.state.books.close(),
        })
    }

    fn timetable(&self, rate: u64) -> Timetable {
        let messages = |length: Duration| (length.as_secs_f64() * rate as f64) as u64;
        let warm_up = messages(self.options.warm_up);
        Timetable {
            start_ns: self.state.now_ns + HEAD_START_NS,
            rate,
            batch: self.options.batch as u64,
            first: self.state.books.made(),
            total: warm_up + self.options.messages.unwrap_or_else(|| messages(self.options.length)),
            warm_up,
        }
    }

    fn warm_up(&mut self) -> io::Result<()> {
        let end = Instant::now() + self.options.warm_up;
        while self.state.clock() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn measure(&mut self, begin: &Snapshot) -> io::Result<()> {
        let end = match self.options.messages {
            Some(_) => None,
            None => Some(begin.at + self.options.length),
        };
        loop {
            let is_over = match (&self.state.open, end) {
                (Some(open), _) => open.next_due_ns().is_none(),
                (None, Some(end)) => self.state.clock() >= end,
                (None, None) => {
                    self.state.deleted - begin.lifecycles >= self.options.messages.unwrap_or_default()
                }
            };
            if is_over {
                return Ok(());
            }
            self.turn()?;
        }
    }

    fn snapshot(&self, broker_pid: Option<u32>) -> io::Result<Snapshot> {
        Ok(Snapshot {
            at: Instant::now(),
            lifecycles: self.state.deleted,
            broker_cpu: broker_pid.map(measure::process_cpu).transpose()?,
            client_cpu: measure::thread_cpu(),
            idle_ns: self.state.idle_ns,
            wire_bytes: self.connections.iter().map(|connection| connection.bytes).sum(),
            disk_bytes: broker_pid.and_then(|pid| measure::disk_bytes_written(pid).ok()),
        })
    }

    /// Lets every slot go on receiving until its queues are empty and nothing is missing.
    fn drain(&mut self) -> io::Result<()> {
        self.state.phase = Phase::Drain;
        self.state.drain_began_ns = self.state.now_ns;
        self.state.last_arrival_ns = self.state.now_ns;
        self.start_idle_slots()?;
        while self.state.under_way > 0 || self.state.open.as_ref().is_some_and(|open| open.under_way > 0) {
            self.turn()?;
        }
        Ok(())
    }

    fn start_idle_slots(&mut self) -> io::Result<()> {
        for connection in &mut self.connections {
            let (slots, mut ends) = split(connection);
            for (index, slot) in slots.iter_mut().enumerate() {
                if slot.is_idle() {
                    self.state.go_on(slot, index, &mut ends);
                }
            }
            connection.flush(&self.epoll)?;
        }
        Ok(())
    }

    /// Sends what is due, waits for replies, and answers each with its slot's next request.
    fn turn(&mut self) -> io::Result<()> {
        self.send_due()?;
        let before_ns = self.state.now_ns;
        let patience = match &self.state.open {
            Some(open) => open.wait(before_ns, PATIENCE),
            None => PATIENCE,
        };
        let count = self.epoll.wait(patience)?;
        self.state.read_clock();
        if count == 0 && Duration::from_nanos(self.state.now_ns - before_ns) >= PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker answers nothing"));
        }
        self.state.idle_ns += self.state.now_ns - before_ns;
        let turn_began_ns = self.state.now_ns;
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
        self.state.note_gap(turn_began_ns);
        Ok(())
    }

    /// Sends all batches that are due by the timetable.
    fn send_due(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.state.open else { return Ok(()) };
        if open.next_due_ns().is_none_or(|due_ns| due_ns > self.state.now_ns) {
            return Ok(());
        }
        self.state.read_clock();
        while let Some(open) = &mut self.state.open
            && let Some(due_ns) = open.next_due_ns().filter(|due_ns| *due_ns <= self.state.now_ns)
        {
            let number = open.next_batch;
            let place = (number % self.senders as u64) as usize;
            let connection = &mut self.connections[place];
            if connection.unwritten() > UNWRITTEN_MAX {
                break;
            }
            let _ = open.lateness.record(self.state.now_ns - due_ns);
            open.next_batch += 1;
            open.under_way += 1;
            let (queue, broker_queue) = connection.queues[connection.next_queue];
            connection.next_queue = (connection.next_queue + 1) % connection.queues.len();
            self.state.make_batch(queue, &mut connection.groups);
            self.state.write_batch(&mut connection.output, timed_correlation(number), broker_queue);
            if !self.dirty.contains(&place) {
                self.dirty.push(place);
            }
        }
        for place in self.dirty.drain(..) {
            self.connections[place].flush(&self.epoll)?;
        }
        self.state.read_clock();
        Ok(())
    }
}

/// Makes all queues that the load needs, and the ones that only stand beside it.
fn make_queues(options: &LoadOptions, client: &mut Client) -> io::Result<()> {
    let mut attributes = Vec::new();
    if options.fifo_groups > 0 {
        attributes.push((AttributeCode::FifoQueue, AttributeValue::Number(1)));
    }
    for index in 0..options.idle_queues {
        client.create_with(&format!("idle-{index}"), &[])?;
    }
    let policy = format!(
        r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:{}","maxReceiveCount":{}}}"#,
        options.dead_letter_queue(),
        books::RECEIVES_MAX
    );
    if options.fates.doomed > 0 {
        client.create_with(&options.dead_letter_queue(), &attributes)?;
        attributes.push((AttributeCode::RedrivePolicy, AttributeValue::Text(&policy)));
    }
    for queue in 0..options.queues {
        client.create_with(&options.queue_name(queue), &attributes)?;
    }
    Ok(())
}

fn split(connection: &mut Connection) -> (&mut [Slot], Ends<'_>) {
    let Connection { role, queues, groups, output, slots, .. } = connection;
    let count = slots.len();
    (slots, Ends { role: *role, queues, groups, output, slots: count })
}

impl State {
    fn new(options: &LoadOptions, streams_per_queue: u64) -> io::Result<Self> {
        let slots = options.connections * options.depth;
        if streams_per_queue * options.queues as u64 >= books::STREAMS_MAX || slots > SLOTS_MAX {
            return Err(io::Error::other("so many queues, groups and slots are too much for one run"));
        }
        let is_ordered = options.fifo_groups > 0;
        let mut options = options.clone();
        if options.fates.is_plain() {
            // Longer than any run, so that each message comes once.
            options.fates.visibility_seconds = 43_200;
        }
        Ok(State {
            phase: if options.backlog > 0 { Phase::Fill } else { Phase::Cycle },
            started: Instant::now(),
            now_ns: 0,
            idle_ns: 0,
            under_way: 0,
            dead_letter_queue: options.queues,
            streams_per_queue,
            outstanding_max: options.backlog + 3 * (slots * options.batch) as u64,
            batch: Batch { bytes: Vec::new(), entries: Vec::new() },
            books: Books::of(options.fates, options.queues, streams_per_queue, is_ordered),
            random: Random::new(1),
            replies: 0,
            deleted: 0,
            empty: vec![false; options.queues + 1],
            drain_began_ns: 0,
            last_arrival_ns: 0,
            open: None,
            times: None,
            gaps: Gaps::default(),
            gap_ended_ns: 0,
            failure: None,
            options,
        })
    }

    fn read_clock(&mut self) {
        self.now_ns = self.started.elapsed().as_nanos() as u64;
    }

    fn clock(&self) -> Instant {
        self.started + Duration::from_nanos(self.now_ns)
    }

    /// A turn's work takes far less than a gap lasts, unless the host stopped the machine.
    fn note_gap(&mut self, turn_began_ns: u64) {
        self.read_clock();
        if self.gaps.note(Duration::from_nanos(self.now_ns - turn_began_ns)) {
            self.gap_ended_ns = self.now_ns;
        }
    }

    fn take_replies(&mut self, connection: &mut Connection) -> io::Result<()> {
        let Connection { input, arrived, output, slots, queues, frame_bytes_max, role, groups, .. } =
            connection;
        let slot_count = slots.len();
        while let Some((frame, length)) =
            split_frame(&input[arrived.clone()], *frame_bytes_max).map_err(io::Error::other)?
        {
            let reply = wire::read_reply(&frame)?;
            let unexpected =
                |reply: &Reply<'_>| ClientError::Protocol(format!("an unexpected frame: {reply:?}"));
            match asked(frame.correlation) {
                Some(Asked::Timed(number)) => self.take_timed(number, reply)?,
                Some(Asked::Slot { slot: index, step, count }) if index < slot_count => {
                    let slot = &mut slots[index];
                    if !slot.end(step) {
                        return Err(ClientError::Protocol(format!("a second reply to a {step:?}")).into());
                    }
                    self.under_way -= 1;
                    let queue = queues[slot.queue].0;
                    self.take_reply(step, count, reply, slot, queue)?;
                    let goes_on = *role == Role::Consume && step == Step::Receive;
                    if goes_on || slot.is_idle() {
                        let ends = &mut Ends { role: *role, queues, groups, output, slots: slot_count };
                        self.go_on(slot, index, ends);
                    }
                }
                _ => return Err(unexpected(&reply).into()),
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
        histogram.saturating_record(self.now_ns.saturating_sub(asked_ns));
    }

    /// The answer to a send by the timetable: its time counts from when it was due.
    fn take_timed(&mut self, number: u32, reply: Reply<'_>) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(ClientError::Protocol("an answer to a send that was not asked".into()).into());
        };
        open.under_way = open.under_way.saturating_sub(1);
        let due_ns = open.table.batch_due_ns(u64::from(number));
        self.note_time(Step::Send, due_ns);
        match reply {
            Reply::Sent(outcomes) => {
                let mut answered = 0;
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::send_outcome(&outcome) {
                        self.books.refused();
                        self.fail(format!("a send was refused: {refusal}"));
                    }
                }
                self.check_count(answered, self.options.batch as u32);
                Ok(())
            }
            Reply::Refused(refusal) => Err(ClientError::Refused(refusal).into()),
            reply => Err(ClientError::Protocol(format!("the answer to a send is {reply:?}")).into()),
        }
    }

    /// Books what a reply says.
    fn take_reply(
        &mut self,
        step: Step,
        count: u32,
        reply: Reply<'_>,
        slot: &mut Slot,
        queue: usize,
    ) -> io::Result<()> {
        let mut answered = 0;
        match (step, reply) {
            (Step::Send, Reply::Sent(outcomes)) => {
                self.note_time(step, slot.sent_ns);
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::send_outcome(&outcome) {
                        self.books.refused();
                        self.fail(format!("a send was refused: {refusal}"));
                    }
                }
                self.check_count(answered, count);
            }
            (Step::Receive, Reply::Received(messages)) => {
                self.note_time(step, slot.asked_ns);
                self.take_messages(messages, slot, queue);
            }
            (Step::Delete, Reply::Outcomes(outcomes)) => {
                let deletion = slot.deletions.pop_front();
                let is_late = deletion.is_some_and(|deletion| deletion.expires_ns <= self.now_ns);
                self.note_time(step, deletion.map_or(self.now_ns, |deletion| deletion.asked_ns));
                for outcome in outcomes {
                    answered += 1;
                    if let Err(refusal) = wire::outcome(&outcome)
                        && !is_late
                    {
                        self.fail(format!("a delete was refused: {refusal}"));
                    }
                }
                if is_late {
                    self.books.deleted_late(u64::from(answered));
                }
                self.check_count(answered, count);
                self.deleted += u64::from(answered);
            }
            (_, Reply::Refused(refusal)) => return Err(ClientError::Refused(refusal).into()),
            (step, reply) => {
                return Err(ClientError::Protocol(format!("the answer to a {step:?} is {reply:?}")).into());
            }
        }
        Ok(())
    }

    fn take_messages<'m>(
        &mut self,
        messages: impl Iterator<Item = tenpin_protocol::ReceivedMessage<'m>>,
        slot: &mut Slot,
        queue: usize,
    ) {
        self.replies += 1;
        let receipt = Receipt {
            queue,
            is_dead_letter_queue: queue == self.dead_letter_queue,
            reply: self.replies,
            asked_ns: slot.asked_ns,
            now_ns: self.now_ns,
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            let (verdict, _) = self.books.arrived(message.body, receipt);
            let (Verdict::Delete(told) | Verdict::Leave(told)) = verdict;
            if let Some((number, open)) = told.zip(self.open.as_mut()) {
                open.received(number, self.now_ns);
            }
            if matches!(verdict, Verdict::Delete(_)) {
                slot.handles.extend_from_slice(message.handle);
                slot.handle_ends.push(slot.handles.len());
            }
        }
        let most = self.options.receive_max();
        if count > most {
            self.fail(format!("{count} messages where {most} were asked for"));
        }
        if count > 0 {
            self.last_arrival_ns = self.now_ns;
            self.empty[queue] = false;
        } else {
            self.books.found_empty(queue, slot.asked_ns);
            if self.phase == Phase::Drain && slot.asked_ns >= self.drain_began_ns {
                self.empty[queue] = true;
            }
        }
    }

    /// Asks for what comes next in a slot; nothing where all is done.
    fn go_on(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        match (self.phase, ends.role) {
            (Phase::Fill, Role::Cycle | Role::Produce) => {
                if self.books.made() < self.options.backlog {
                    self.turn_to_next_queue(slot, ends);
                    self.ask_send(slot, index, ends);
                }
            }
            (Phase::Fill, Role::Consume) | (Phase::Cycle | Phase::Drain, Role::Produce) => {}
            (Phase::Cycle, Role::Cycle) => self.go_on_cycling(slot, index, ends),
            (Phase::Cycle, Role::Consume) => {
                self.ask_delete(slot, index, ends);
                if !slot.is_receiving() {
                    self.turn_to_next_queue(slot, ends);
                    self.ask_receive(slot, index, WAIT_MS, ends);
                }
            }
            (Phase::Drain, Role::Cycle | Role::Consume) => {
                self.ask_delete(slot, index, ends);
                if !slot.is_receiving() {
                    self.go_on_draining(slot, index, ends);
                }
            }
        }
    }

    fn go_on_cycling(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let is_in_rounds = self.options.shape == Shape::Rounds;
        let has_received = !slot.handle_ends.is_empty();
        if has_received {
            self.ask_delete(slot, index, ends);
            if !is_in_rounds {
                return;
            }
        }
        let is_turn = is_in_rounds || slot.last != Some(Step::Send);
        let sends = is_turn && self.books.outstanding(self.deleted) < self.outstanding_max;
        if sends {
            self.turn_to_next_queue(slot, ends);
            self.ask_send(slot, index, ends);
        }
        if is_in_rounds || !sends {
            self.ask_receive(slot, index, WAIT_MS, ends);
        }
    }

    /// Receives from the next queue that may have something; stops when all that is to come has come, or
    /// when nothing has come for so long that the rest is lost.
    fn go_on_draining(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let is_complete = self.books.is_complete();
        for _ in 0..ends.queues.len() {
            if !self.empty[ends.queues[slot.queue].0] {
                // A queue with many neighbours is not waited for: the next may have what is missing.
                let waits = !is_complete && ends.queues.len() <= ends.slots;
                return self.ask_receive(slot, index, if waits { DRAIN_WAIT_MS } else { 0 }, ends);
            }
            slot.queue = (slot.queue + 1) % ends.queues.len();
        }
        let fates = &self.options.fates;
        let hidden_seconds =
            if fates.is_plain() { 0 } else { fates.visibility_seconds + fates.delay_seconds };
        let quiet_ns = QUIET_NS + u64::from(hidden_seconds) * 1_000_000_000;
        if !is_complete && self.now_ns - self.last_arrival_ns < quiet_ns {
            slot.queue = (slot.queue + 1) % ends.queues.len();
            self.ask_receive(slot, index, DRAIN_WAIT_MS, ends);
        }
    }

    fn turn_to_next_queue(&self, slot: &mut Slot, ends: &Ends<'_>) {
        if ends.queues.len() > ends.slots {
            slot.queue = (slot.queue + ends.slots) % ends.queues.len();
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

    /// Makes the next batch for a queue.
    fn make_batch(&mut self, queue: usize, groups: &mut Groups) {
        let Batch { bytes, entries } = &mut self.batch;
        bytes.clear();
        entries.clear();
        let is_fifo = self.options.fifo_groups > 0;
        for _ in 0..self.options.batch {
            let begin = bytes.len();
            bytes.resize(begin + self.options.bodies.next(&mut self.random), 0);
            let place = if is_fifo { groups.next() } else { 0 };
            let stream = queue as u64 * self.streams_per_queue + place;
            let number = self.books.next_of(stream, &mut bytes[begin..]);
            let is_delayed = self.options.fates.is_delayed(number);
            if is_delayed {
                self.books.delayed(number, self.now_ns);
            }
            let group = is_fifo.then_some(place % self.options.fifo_groups.max(1));
            let delay = is_delayed.then_some(self.options.fates.delay_seconds);
            entries.push((bytes.len(), group, delay));
        }
    }

    fn write_batch(&self, output: &mut Vec<u8>, correlation: u32, broker_queue: u64) {
        let mut begin = 0;
        let messages = self.batch.entries.iter().map(|(end, group, delay_seconds)| {
            let body = &self.batch.bytes[begin..*end];
            begin = *end;
            Outgoing { body, delay_seconds: *delay_seconds, group: *group }
        });
        if self.options.fifo_groups == 0 {
            wire::write_send(output, correlation, broker_queue, messages);
        } else {
            wire::write_fifo_send(output, correlation, broker_queue, messages);
        }
    }

    fn ask_send(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        let (queue, broker_queue) = ends.queues[slot.queue];
        self.make_batch(queue, ends.groups);
        let correlation = correlation(index, Step::Send, self.options.batch as u32);
        self.write_batch(ends.output, correlation, broker_queue);
        slot.sent_ns = self.now_ns;
        self.asked(slot, Step::Send);
    }

    fn ask_receive(&mut self, slot: &mut Slot, index: usize, wait_ms: u32, ends: &mut Ends<'_>) {
        let receive = Receive {
            messages_max: self.options.receive_max() as u8,
            wait_ms,
            visibility_seconds: Some(self.options.fates.visibility_seconds),
        };
        let broker_queue = ends.queues[slot.queue].1;
        wire::write_receive(ends.output, correlation(index, Step::Receive, 0), broker_queue, receive);
        slot.asked_ns = self.now_ns;
        self.asked(slot, Step::Receive);
    }

    /// Deletes what was received, if anything.
    fn ask_delete(&mut self, slot: &mut Slot, index: usize, ends: &mut Ends<'_>) {
        if slot.handle_ends.is_empty() {
            return;
        }
        let mut handles: [&[u8]; BATCH_MAX] = [&[]; BATCH_MAX];
        let mut start = 0;
        let count = slot.handle_ends.len().min(handles.len());
        for (handle, &end) in handles.iter_mut().zip(&slot.handle_ends) {
            *handle = &slot.handles[start..end];
            start = end;
        }
        let broker_queue = ends.queues[slot.queue].1;
        let correlation = correlation(index, Step::Delete, count as u32);
        wire::write_delete(ends.output, correlation, broker_queue, &handles[..count]);
        let visible_ns = u64::from(self.options.fates.visibility_seconds) * 1_000_000_000;
        slot.deletions.push_back(Deletion { asked_ns: self.now_ns, expires_ns: slot.asked_ns + visible_ns });
        slot.handles.clear();
        slot.handle_ends.clear();
        self.asked(slot, Step::Delete);
    }
}
