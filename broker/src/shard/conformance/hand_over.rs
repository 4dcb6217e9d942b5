//! Connections that leave one driver for another: what arrives before, while and after they do.

use std::time::Duration;

use super::run::{POLL_TIMEOUT, POLLS_FOR_NOTHING, Run, pattern, take_ready};
use super::{Client, World};
use crate::shard::driver::Driver;

pub(super) fn what_arrives_around_a_hand_over_arrives_once_and_in_order<W: World>() {
    const HAND_OVERS: usize = 24;
    let mut runs = [Run::<W>::new(), Run::<W>::new()];
    let (mut client, mut connection) = runs[0].connect();
    let bytes = pattern(8 << 20, 16);
    let (mut written, mut arrived) = (0, Vec::new());
    let mut write = |client: &mut W::Client, most: usize| {
        let end = bytes.len().min(written + most);
        written += take_ready(client.write(&bytes[written..end])).unwrap_or(0);
        written == bytes.len()
    };
    for number in 0..HAND_OVERS {
        let [here, there] = &mut runs;
        let (from, to) = if number.is_multiple_of(2) { (here, there) } else { (there, here) };
        // Some before the driver knows, some that it has not looked at when it is to let go, and some
        // while nobody has the connection.
        write(&mut client, 150_000);
        for _ in 0..number % 4 {
            from.poll(Some(Duration::ZERO));
            write(&mut client, 20_000);
        }
        if number % 5 == 4 {
            from.world.driver().set_reading(connection, false);
            from.poll(Some(Duration::ZERO));
        }
        let (unread, socket) = from.detaches(connection);
        write(&mut client, 20_000);
        arrived.extend_from_slice(from.seen.data(connection));
        arrived.extend(unread);
        connection = to.attaches(socket);
        assert!(arrived == bytes[..arrived.len()], "hand-over {number}");
    }
    let last = &mut runs[0];
    last.until("all bytes", |run| {
        let all_written = write(&mut client, 200_000);
        all_written && arrived.len() + run.seen.data(connection).len() >= bytes.len()
    });
    arrived.extend_from_slice(last.seen.data(connection));
    assert!(arrived == bytes, "nothing is lost, doubled or out of order");
    last.send(connection, b"and back".to_vec());
    assert_eq!(last.client_reads(&mut client, 8), b"and back");
}

pub(super) fn a_send_under_way_ends_before_a_hand_over<W: World>() {
    let (mut here, mut there) = (Run::<W>::new(), Run::<W>::new());
    let (mut client, connection) = here.connect();
    let bytes = pattern(16 << 20, 17);
    here.send(connection, bytes.clone());
    here.world.driver().detach(connection);
    for _ in 0..POLLS_FOR_NOTHING {
        here.poll(Some(POLL_TIMEOUT));
    }
    assert!(here.seen.detached.is_empty(), "the client has not taken all");
    here.client_writes(&mut client, b"meanwhile");
    assert!(here.client_reads(&mut client, bytes.len()) == bytes);
    let (unread, socket) = here.detaches(connection);
    assert_eq!(here.until_sent(connection).1, bytes.len());
    let connection = there.attaches(socket);
    let mut arrived = unread;
    there.until("what came meanwhile", |run| arrived.len() + run.seen.data(connection).len() == 9);
    arrived.extend_from_slice(there.seen.data(connection));
    assert_eq!(arrived, b"meanwhile");
}

pub(super) fn a_hand_over_that_does_not_come_can_be_given_up<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    run.send(connection, pattern(16 << 20, 19));
    run.world.driver().detach(connection);
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(POLL_TIMEOUT));
    }
    assert!(run.seen.detached.is_empty(), "the client has not taken all");
    run.world.driver().close(connection, false);
    run.until_closed(connection);
    let (buffer, written) = run.until_sent(connection);
    assert!(written < buffer.len());
    assert!(run.seen.detached.is_empty());
    drop(client);
}

pub(super) fn an_end_during_a_hand_over_shows_after_it<W: World>() {
    for polls in 0..3 {
        let (mut here, mut there) = (Run::<W>::new(), Run::<W>::new());
        let (mut client, connection) = here.connect();
        // Not read yet, so that the driver does not see the end before it is to let go.
        here.world.driver().set_reading(connection, false);
        for _ in 0..polls {
            here.poll(Some(POLL_TIMEOUT));
        }
        here.client_writes(&mut client, b"the last words");
        client.finish_writing();
        let (unread, socket) = here.detaches(connection);
        let connection = there.attaches(socket);
        there.until_closed(connection);
        let mut arrived = unread;
        arrived.extend_from_slice(there.seen.data(connection));
        assert_eq!(arrived, b"the last words");
    }
}

pub(super) fn a_connection_that_ends_is_not_handed_over<W: World>() {
    let mut run = Run::<W>::new();
    let (client, connection) = run.connect();
    let (other_client, other) = run.connect();
    run.world.driver().close(connection, false);
    run.world.driver().detach(connection);
    run.until_closed(connection);
    // Its client goes away with a send under way, and the socket breaks before it can leave.
    run.send(other, pattern(16 << 20, 18));
    run.poll(Some(POLL_TIMEOUT));
    run.world.driver().detach(other);
    drop(other_client);
    run.until_closed(other);
    assert!(run.seen.detached.is_empty());
    assert!(run.world.driver().take_detached(connection).is_none());
    // A socket that nobody attaches is closed.
    let (mut third_client, third) = run.connect();
    let (_, socket) = run.detaches(third);
    drop(socket);
    assert!(run.client_reads_to_end(&mut third_client).is_empty());
    drop(client);
}
