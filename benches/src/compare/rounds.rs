//! Rounds of any peer: one thread, one round under way on each connection.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Session;
use super::connection::{Connection, PATIENCE};
use crate::bodies::BodySizes;
use crate::load::{Account, Books, Epoll, histogram};
use crate::measure;
use crate::random::Random;
use crate::report::HostGaps;

/// Between two looks for answers. A peer that writes each answer by itself would have to wake this thread for each:
/// that is dear, and would be the harness's doing. Every peer has work for longer than this.
const LOOKS_APART: Duration = Duration::from_micros(200);

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
    /// Of rounds, or of messages from when they were to be sent.
    pub(super) times: Histogram<u64>,
    /// With a timetable those in gaps, the client's lateness, and the gaps.
    pub(super) timed: Option<(Histogram<u64>, Histogram<u64>, HostGaps)>,
    pub(super) account: Account,
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
            body.resize(connection.session.body_bytes(work.bodies.next(&mut random)), 0);
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
        std::thread::sleep(LOOKS_APART);
        let count = epoll.wait(PATIENCE)?;
        if count == 0 && before.elapsed() >= PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer answers nothing"));
        }
        idle += before.elapsed();
        for at in 0..count {
            let connection = &mut connections[epoll.ready(at).index];
            connection.fill(&epoll, &mut |body| {
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
        times: rounds,
        timed: None,
        account: books.close(),
    })
}
