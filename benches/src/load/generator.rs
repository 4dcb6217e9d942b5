//! The load itself: one thread that keeps every slot of every connection busy with its next request, and
//! sends by a timetable where there is one.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenpin_protocol::{AttributeCode, AttributeValue};

use super::connection::{Connection, Groups, Role, timed_correlation, timed_number};
use super::epoll::Epoll;
use super::measured::{Measured, Snapshot, Times};
use super::open::{Behind, Open, Timetable};
use super::remains::Remains;
use super::state::{Ends, Phase, State};
use super::{Account, LoadOptions, books};
use crate::client::{Answer, Client};
use crate::measure::{self, Gaps};
use crate::progress::Progress;
use crate::random::Random;
use crate::report::HostGaps;

/// A broker that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Batches that are sent by the timetable before replies are looked for again, however late they are: as many as
/// receives are under way by default. With many more, a client that is late would send for most of its time and
/// have its consumers ask once in a while, and the backlog that grows would be its own doing.
const SENDS_A_TURN_MAX: usize = 32;

/// From the start of a timetable until the first message is due.
const HEAD_START_NS: u64 = 20_000_000;

pub(super) struct Generator<'a> {
    options: &'a LoadOptions,
    address: SocketAddr,
    /// What was on the queues before.
    remains: Remains,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// How many of them send; they come first.
    senders: usize,
    /// Whose turn it is to send by the timetable.
    next_sender: usize,
    /// Connections with nothing to do.
    _idle: Vec<Client>,
    dirty: Vec<usize>,
    state: State,
    /// Where others see how much is done.
    deleted: &'a AtomicU64,
}

impl<'a> Generator<'a> {
    pub(super) fn connect(
        options: &'a LoadOptions,
        address: SocketAddr,
        deleted: &'a AtomicU64,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut client = Client::connect(address)?;
        make_queues(options, &mut client)?;
        let remains = Remains::before(options, &mut client)?;
        store(options, &mut client)?;
        let senders = options.connections;
        let shares = senders.div_ceil(options.queues.max(1)) as u64;
        let streams_per_queue = options.fifo_groups.max(shares).max(1);
        let mut generator = Generator {
            options,
            address,
            remains,
            epoll,
            connections: Vec::new(),
            senders,
            next_sender: 0,
            _idle: Vec::new(),
            dirty: Vec::new(),
            state: State::new(options, streams_per_queue)?,
            deleted,
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
        address: SocketAddr,
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
        if let Some(open) = self.state.open.as_mut().filter(|_| self.options.is_overload) {
            open.measure_from_now();
        }
        self.measure(&begin)?;
        let end = self.snapshot(broker_pid)?;
        let behind = match &mut self.state.open {
            Some(open) if self.options.is_overload => open.stop(self.state.now_ns),
            _ => Behind::default(),
        };
        let syscalls_per_cpu_second = syscalls.and_then(measure::SystemCalls::per_cpu_second);
        let times = self.state.times.take().expect("set at the start of the measurement");
        let mut gaps = HostGaps {
            count: self.state.gaps.count,
            total_ms: self.state.gaps.total.as_secs_f64() * 1e3,
            longest_ms: self.state.gaps.longest.as_secs_f64() * 1e3,
            real_time: false,
        };
        self.drain()?;
        let undeleted =
            self.remains.left(self.options, self.address, self.state.books.undeleted_allowed())?;
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
            handed_over: end.made - begin.made,
            behind,
            account: Account { undeleted, ..self.state.books.close() },
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
            total: match self.options.is_overload {
                true => u64::MAX,
                false => warm_up + self.options.messages.unwrap_or_else(|| messages(self.options.length)),
            },
            warm_up,
            burst_ns: self.options.burst.as_nanos() as u64,
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
                (Some(open), _) if !self.options.is_overload => open.next_due_ns().is_none(),
                (_, Some(end)) => self.state.clock() >= end,
                (_, None) => {
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
            made: self.state.books.made(),
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
            let (slots, mut ends) = Ends::of(connection);
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
        let count = self.wait(patience)?;
        if count == 0 && Duration::from_nanos(self.state.now_ns - before_ns) >= PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker answers nothing"));
        }
        self.state.idle_ns += self.state.now_ns - before_ns;
        let turn_began_ns = self.state.now_ns;
        for at in 0..count {
            let ready = self.epoll.ready(at);
            let connection = &mut self.connections[ready.index];
            if ready.readable {
                loop {
                    let may_have_more = connection.fill()?;
                    // What was read may have come after the turn began: by the turn's time it would seem to
                    // have come too early where the thread was not let run in between.
                    self.state.read_clock();
                    self.state.take_replies(connection)?;
                    if !may_have_more {
                        break;
                    }
                }
            }
            connection.flush(&self.epoll)?;
        }
        self.deleted.store(self.state.deleted, Ordering::Relaxed);
        if let Some(failure) = self.state.failure.take() {
            return Err(io::Error::other(failure));
        }
        self.state.note_gap(turn_began_ns);
        Ok(())
    }

    /// Waits for replies, asleep or looking all the time; says how many connections have some.
    fn wait(&mut self, patience: Duration) -> io::Result<usize> {
        let asleep = if self.options.spins { Duration::ZERO } else { patience };
        let until_ns = self.state.now_ns.saturating_add(patience.as_nanos() as u64);
        loop {
            let count = self.epoll.wait(asleep)?;
            self.state.read_clock();
            if count > 0 || !self.options.spins || self.state.now_ns >= until_ns {
                return Ok(count);
            }
        }
    }

    /// Sends batches that are due by the timetable, as far as there is a connection that takes them.
    fn send_due(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.state.open else { return Ok(()) };
        if open.next_due_ns().is_none_or(|due_ns| due_ns > self.state.now_ns) {
            return Ok(());
        }
        open.is_held_back = false;
        self.state.read_clock();
        for _ in 0..SENDS_A_TURN_MAX {
            let Some(open) = &mut self.state.open else { break };
            let Some(due_ns) = open.next_due_ns().filter(|due_ns| *due_ns <= self.state.now_ns) else {
                break;
            };
            let (connections, under_way_max) = (&self.connections, self.options.under_way_max);
            let takes_more = |place: &usize| connections[*place].takes_more(under_way_max);
            let Some(place) = in_turn(self.next_sender, self.senders).find(takes_more) else {
                open.is_held_back = true;
                break;
            };
            self.next_sender = (place + 1) % self.senders;
            let number = timed_number(open.next_batch);
            let connection = &mut self.connections[place];
            connection.timed.push_back(number);
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

/// All of so many, from one of them on.
fn in_turn(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (first..count).chain(0..first.min(count))
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

/// Has messages stored on a queue that nothing else is done with.
fn store(options: &LoadOptions, client: &mut Client) -> io::Result<()> {
    /// Sends under way at once.
    const DEPTH: u64 = 64;
    if options.stored == 0 {
        return Ok(());
    }
    let queue = client.create_with("stored", &[])?;
    let progress = Progress::new("storing", options.stored);
    let (mut random, mut body) = (Random::new(2), Vec::new());
    let (mut sent, mut stored) = (0, 0);
    while stored < options.stored {
        while sent < options.stored && sent - stored < DEPTH * options.batch as u64 {
            body.resize(options.bodies.next(&mut random), b'.');
            let count = (options.stored - sent).min(options.batch as u64);
            client.submit_bodies(queue, (0..count).map(|_| &body[..]))?;
            sent += count;
        }
        let (_, Answer::Sent(outcomes)) = client.next_answer()? else {
            return Err(io::Error::other("a send was not answered as one"));
        };
        stored += outcomes.len() as u64;
        if let Some(refusal) = outcomes.into_iter().find_map(Result::err) {
            return Err(io::Error::other(format!("a message could not be stored: {refusal}")));
        }
        progress.set(stored);
    }
    progress.finish();
    Ok(())
}
