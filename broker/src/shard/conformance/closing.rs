//! How connections end, from either side.

use std::time::Duration;

use super::run::{POLL_TIMEOUT, POLLS_FOR_NOTHING, Run, pattern};
use super::{Client, World};
use crate::shard::driver::Driver;

pub(super) fn closing_ends_a_connection_at_once<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().close(connection, false);
    // These come too late, and are ignored.
    run.world.driver().close(connection, true);
    run.world.driver().set_reading(connection, true);
    run.world.driver().send(connection, b"late".to_vec());
    run.until_closed(connection);
    assert!(run.client_reads_to_end(&mut client).is_empty());
    run.world.driver().close(connection, false);
    run.world.driver().send(connection, b"late".to_vec());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(Duration::ZERO));
    }
    assert_eq!(run.seen.closed.len(), 1);
    assert!(run.seen.sent.is_empty());
}

pub(super) fn closing_gives_an_unfinished_send_back<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 4);
    run.send(connection, bytes.clone());
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    // A linger is under way, and is then given up.
    run.world.driver().close(connection, true);
    run.poll(Some(POLL_TIMEOUT));
    assert!(!run.seen.is_closed(connection), "it lingers until all is sent");
    run.world.driver().close(connection, false);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert!(buffer == bytes, "the buffer comes back unchanged");
    assert!(written < bytes.len());
    let received = run.client_reads_to_end(&mut client);
    assert!(received.len() <= written && received == bytes[..received.len()]);
}

pub(super) fn lingering_sends_everything_and_survives_unread_input<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(4 << 20, 5);
    // The client sends while it reads nothing, as one does that is told off for a broken frame.
    run.world.driver().set_reading(connection, false);
    run.client_writes(&mut client, &pattern(30_000, 6));
    run.send(connection, bytes.clone());
    run.world.driver().close(connection, true);
    run.poll(Some(POLL_TIMEOUT));
    assert!(run.client_reads_to_end(&mut client) == bytes, "all bytes, then the end");
    let seen = run.seen.data(connection).len();
    // The driver waits for the client to close; what it still sends goes nowhere.
    let _ = client.write(b"more");
    drop(client);
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection).len(), seen, "no data after closing");
    assert_eq!(run.until_sent(connection).1, bytes.len());
}

pub(super) fn lingering_without_a_send_tells_the_client<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().close(connection, true);
    assert!(run.client_reads_to_end(&mut client).is_empty());
    drop(client);
    run.until_closed(connection);
}

pub(super) fn a_client_that_keeps_an_ended_connection_is_closed_in_time<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    run.world.driver().close(connection, true);
    run.until_closed(connection);
    drop(client);
}

pub(super) fn a_client_that_goes_is_reported<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"last words");
    drop(client);
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection), b"last words");
    assert!(run.seen.closed[0].1.is_none(), "an orderly end is no error");
    run.world.driver().send(connection, b"nobody".to_vec());
    run.poll(Some(Duration::ZERO));
    assert!(run.seen.sent.is_empty());
}

pub(super) fn a_client_that_goes_with_unread_bytes_ends_the_send<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    run.send(connection, pattern(16 << 20, 7));
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    drop(client);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert!(written < buffer.len());
}

pub(super) fn a_half_closed_client_gets_the_send_under_way<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    let bytes = pattern(16 << 20, 8);
    run.client_writes(&mut client, b"question");
    run.until("the question", |run| run.seen.data(connection) == b"question");
    run.send(connection, bytes.clone());
    client.finish_writing();
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(!run.seen.is_closed(connection), "the send is not over");
    assert!(run.client_reads_to_end(&mut client) == bytes);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert_eq!(written, buffer.len());
}

pub(super) fn a_half_closed_client_with_nothing_under_way_is_closed<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.client_writes(&mut client, b"goodbye");
    client.finish_writing();
    run.until_closed(connection);
    assert_eq!(run.seen.data(connection), b"goodbye");
    assert!(run.client_reads_to_end(&mut client).is_empty());
}

pub(super) fn an_end_behind_stopped_reading_shows_when_it_goes_on<W: World>() {
    let mut run = Run::<W>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().set_reading(connection, false);
    run.poll(Some(POLL_TIMEOUT));
    let bytes = pattern(20_000, 9);
    run.client_writes(&mut client, &bytes);
    client.finish_writing();
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    run.world.driver().set_reading(connection, true);
    run.until_closed(connection);
    assert!(run.seen.data(connection) == bytes, "everything before the end arrives");
}
