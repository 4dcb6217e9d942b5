//! From send to receive by any peer, open loop: some connections send by a timetable whatever the peer does, as many
//! wait for messages, and each message's time counts from when it was to be sent.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Connection, PATIENCE};
use super::rounds::{Outcome, Work};
use super::{Role, Session};
use crate::load::{Books, Epoll, Open, Timetable};
use crate::measure;
use crate::random::Random;

/// From the start of a timetable until the first message is due.
const HEAD_START_NS: u64 = 20_000_000;

/// What is missing when nothing has come for so long is lost.
const QUIET: Duration = Duration::from_secs(5);

/// Sends `rate` messages a second from the calling thread.
pub(super) fn run(
    work: &Work,
    rate: u64,
    address: SocketAddr,
    pid: u32,
    session: &dyn Fn(usize, Role) -> Box<dyn Session>,
) -> io::Result<Outcome> {
    if let Some(core) = work.client_core {
        measure::pin_to_core(core)?;
    }
    crate::gaps::keep_time_exactly();
    let mut epoll = Epoll::new()?;
    let senders = work.connections.max(1);
    let mut connections = (0..2 * senders)
        .map(|index| {
            let role = if index < senders { Role::Send } else { Role::Receive };
            Connection::open(address, session(index, role), index, &epoll)
        })
        .collect::<io::Result<Vec<_>>>()?;
    for consumer in &mut connections[senders..] {
        consumer.session.consume(&mut consumer.output);
        consumer.flush()?;
    }
    let mut books = Books::new();
    let mut random = Random::new(1);
    let started = Instant::now();
    let now_ns = || started.elapsed().as_nanos() as u64;
    let messages = |length: Duration| (length.as_secs_f64() * rate as f64) as u64;
    let warm_up = messages(work.warm_up);
    let total = warm_up + messages(work.length).max(1);
    let table = Timetable { start_ns: HEAD_START_NS, rate, batch: 1, first: 0, total, warm_up, burst_ns: 0 };
    let mut open = Open::new(table, started);
    let (mut begin, mut idle, mut received) = (None, Duration::ZERO, 0);
    let mut arrived = Instant::now();
    let mut bodies = [Vec::new()];
    while received < total {
        while let Some(due_ns) = open.next_due_ns().filter(|due_ns| *due_ns <= now_ns()) {
            if begin.is_none() && open.next_batch >= warm_up {
                begin =
                    Some((Instant::now(), measure::process_cpu(pid)?, measure::thread_cpu(), idle, received));
            }
            let sender = &mut connections[(open.next_batch % senders as u64) as usize];
            bodies[0].resize(sender.session.body_bytes(work.bodies.next(&mut random)), 0);
            books.next_body(&mut bodies[0]);
            let _ = open.lateness.record(now_ns() - due_ns);
            sender.session.send(&bodies, &mut sender.output);
            sender.flush()?;
            open.next_batch += 1;
            arrived = Instant::now();
        }
        if arrived.elapsed() > QUIET {
            break;
        }
        let before = Instant::now();
        let count = epoll.wait(open.wait(now_ns(), PATIENCE.min(QUIET)))?;
        idle += before.elapsed();
        for at in 0..count {
            let index = epoll.ready(at).index;
            let connection = &mut connections[index];
            connection.fill(&epoll, &mut |body| {
                received += 1;
                arrived = Instant::now();
                if let Some(number) = books.received(body) {
                    open.received(number, now_ns());
                }
            })?;
            if index >= senders {
                connection.session.consume(&mut connection.output);
                connection.flush()?;
            }
        }
    }
    let end = (Instant::now(), measure::process_cpu(pid)?, measure::thread_cpu());
    let begin = begin.ok_or_else(|| io::Error::other("nothing was measured"))?;
    let (end_to_end, in_gaps, lateness, gaps) = open.finish(now_ns());
    Ok(Outcome {
        lifecycles: received - begin.4,
        length: end.0 - begin.0,
        broker_cpu: end.1.saturating_sub(begin.1),
        client_cpu: end.2.saturating_sub(begin.2),
        idle: idle - begin.3,
        times: end_to_end,
        timed: Some((in_gaps, lateness, gaps)),
        account: books.close(),
    })
}
