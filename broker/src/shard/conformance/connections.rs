//! Connections that carry bytes: echoes, slow readers, many at once, waking and waiting.

use std::collections::HashSet;
use std::time::Duration;

use super::run::{POLL_TIMEOUT, POLLS_FOR_NOTHING, Run, pattern, read_ready, take_ready};
use super::{Client, World};
use crate::shard::driver::Driver;

pub(super) fn echo_returns_what_was_sent<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(3 << 20, 1);
    let (mut written, mut echoed, mut returned) = (0, 0, Vec::new());
    run.until("everything to be echoed", |run| {
        if written < bytes.len() {
            let end = bytes.len().min(written + 100_000);
            written += take_ready(client.write(&bytes[written..end])).unwrap_or(0);
        }
        if !run.seen.sending.contains(&connection) && run.seen.data(connection).len() > echoed {
            let reply = run.seen.data(connection)[echoed..].to_vec();
            echoed += reply.len();
            run.send(connection, reply);
        }
        read_ready(&mut client, &mut returned);
        returned.len() == bytes.len()
    });
    assert!(returned == bytes, "what comes back is what was sent");
    for (_, buffer, written) in &run.seen.sent {
        assert_eq!(buffer.len(), *written);
    }
}

pub(super) fn a_slow_reader_gets_everything_in_the_end<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 2);
    run.send(connection, bytes.clone());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(run.seen.sent.is_empty(), "the kernel cannot have taken all of it");
    assert!(run.client_reads(&mut client, bytes.len()) == bytes);
    let (buffer, written) = run.until_sent(connection);
    assert_eq!(written, buffer.len());
    assert!(buffer == bytes, "the buffer comes back unchanged");
}

pub(super) fn reading_stops_and_goes_on<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"before");
    run.until("the first bytes", |run| run.seen.data(connection).len() == 6);
    run.world.driver().set_reading(connection, false);

    let bytes = pattern(W::Driver::READ_AHEAD_BYTES_MAX + (32 << 20), 3);
    let (mut written, mut refusals) = (0, 0);
    while written < bytes.len() && refusals < POLLS_FOR_NOTHING {
        match take_ready(client.write(&bytes[written..])) {
            Some(length) => written += length,
            None => refusals += 1,
        }
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(written < bytes.len(), "the client is held up");
    assert!(run.seen.data(connection).len() <= 6 + W::Driver::READ_AHEAD_BYTES_MAX);

    // Resuming, stopping and resuming in one turn is resuming.
    for reading in [true, false, true] {
        run.world.driver().set_reading(connection, reading);
    }
    run.client_writes(&mut client, &bytes[written..]);
    run.until("all bytes", |run| run.seen.data(connection).len() == 6 + bytes.len());
    assert!(run.seen.data(connection)[6..] == bytes, "nothing is lost or out of order");
}

pub(super) fn many_connections_are_served_and_their_places_reused<W: World>() {
    const CLIENTS: usize = 300;
    let mut run = Run::<W>::new();
    let mut indexes = HashSet::new();
    for round in 0..3 {
        let first = run.seen.accepted.len();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| run.connect()).collect();
        assert_eq!(run.seen.accepted.len(), first + CLIENTS);
        for (number, (client, connection)) in clients.iter_mut().enumerate() {
            indexes.insert(connection.index);
            let bytes = pattern(100 + number, round);
            assert_eq!(client.write(&bytes).unwrap(), bytes.len());
        }
        let connections: Vec<_> = clients.iter().map(|(_, connection)| *connection).collect();
        run.until("everybody's bytes", |run| {
            connections.iter().enumerate().all(|(number, &it)| run.seen.data(it).len() == 100 + number)
        });
        for (number, &connection) in connections.iter().enumerate() {
            let reply = run.seen.data(connection).to_vec();
            assert_eq!(reply, pattern(100 + number, round));
            run.send(connection, reply);
        }
        for (number, (client, connection)) in clients.iter_mut().enumerate() {
            assert_eq!(run.client_reads(client, 100 + number), pattern(100 + number, round));
            run.until_sent(*connection);
        }
        drop(clients);
        run.until("everybody to be gone", |run| run.seen.open.is_empty());
    }
    // The recorder has checked that no pair came twice.
    assert!(indexes.len() < 2 * CLIENTS, "places are used again");
}

pub(super) fn a_busy_client_does_not_shut_out_the_others<W: World>() {
    let mut run = Run::<W>::new();
    let (mut busy, loud) = run.connect();
    let (mut quiet, calm) = run.connect();
    let noise = pattern(1 << 20, 10);
    let mut is_written = false;
    run.until("the quiet client's bytes", |run| {
        // Always more noise than one turn takes.
        while busy.write(&noise).is_ok() {}
        if !is_written && run.seen.data(loud).len() > 8 << 20 {
            assert_eq!(quiet.write(b"may I?").unwrap(), 6);
            is_written = true;
        }
        if let Some(data) = run.seen.data.get_mut(&loud) {
            data.truncate(9 << 20);
        }
        run.seen.data(calm) == b"may I?"
    });
}

pub(super) fn waking_ends_the_wait<W: World>() {
    let mut run = Run::<W>::new();
    for round in 1..=50 {
        let before = run.seen.woken;
        run.world.wake();
        while run.seen.woken == before {
            run.poll(None);
        }
        assert!(run.seen.woken <= round, "one wake is at most one event");
    }
}

pub(super) fn gathering_does_what_was_asked_and_keeps_what_happens<W: World>() {
    const TIME: Duration = Duration::from_millis(1);
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    for round in 0..3 {
        assert_eq!(client.write(b"may I?").unwrap(), 6);
        run.world.driver().gather(TIME).unwrap();
        run.poll(Some(Duration::ZERO));
        assert_eq!(run.seen.data(connection).len(), 6 * (round + 1), "the next poll hands it over");
        run.send(connection, b"yes".to_vec());
        run.world.driver().gather(TIME).unwrap();
        let mut answer = [0; 4];
        assert_eq!(client.read(&mut answer).unwrap(), 3, "it went out without a poll");
        run.until_sent(connection);
    }
}

pub(super) fn a_poll_ends_when_its_time_is_up<W: World>() {
    let mut run = Run::<W>::new();
    let before = run.world.driver().clocks().monotonic_ns;
    run.poll(Some(Duration::ZERO));
    run.poll(Some(Duration::from_nanos(1)));
    run.poll(Some(Duration::from_millis(3)));
    let after = run.seen.last_clocks.unwrap().monotonic_ns;
    assert!(after > before, "time goes on, and is the turn's");
    assert_eq!(run.seen.woken, 0);
}

pub(super) fn stopping_to_accept_leaves_connections_alone<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().stop_accepting();
    // One that got into the backlog before the socket was closed is reset, and the next is refused.
    run.until("newcomers to be refused", |run| run.world.connect().is_err());
    assert_eq!(run.seen.accepted.len(), 1);
    run.client_writes(&mut client, b"still here");
    run.until("the bytes", |run| run.seen.data(connection) == b"still here");
    run.send(connection, b"so am I".to_vec());
    assert_eq!(run.client_reads(&mut client, 7), b"so am I");
}
