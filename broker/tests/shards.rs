//! Several shards as clients see them: which shard serves a connection, whatever arrives with its hello.

mod common;

use tenpin_protocol::{
    ANY_SHARD, ErrorCode, FRAME_BYTES_MAX_LEAST, Frame, Hello, Request, Response, VERSION,
};

use crate::common::{RawConnection, TestBroker, ping_frame};

fn hello(shard: u16) -> Vec<u8> {
    let hello = Hello {
        version_minimum: VERSION,
        version_maximum: VERSION,
        frame_bytes_max: FRAME_BYTES_MAX_LEAST as u32,
        shard,
        client: "shards",
        ..Hello::default()
    };
    let mut bytes = Vec::new();
    Request::Hello(hello).encode(1, &mut bytes);
    bytes
}

/// How many shards the broker says it has, and which one has the connection.
fn read_home(connection: &mut RawConnection) -> (u16, u16) {
    let raw = connection.read_frame().expect("the hello is answered");
    let frame = Frame {
        version: VERSION,
        operation: raw.operation,
        flags: raw.flags,
        correlation: raw.correlation,
        payload: &raw.payload,
    };
    match Response::decode(&frame).unwrap() {
        Response::Hello(reply) => (reply.shard_count, reply.shard),
        other => panic!("{other:?} answers no hello"),
    }
}

fn over_each_driver(shards: u16, test: impl Fn(&TestBroker)) {
    for io in ["epoll", "uring"] {
        if let Some(mut broker) = TestBroker::try_start(io, "memory", &format!("shards = {shards}\n")) {
            test(&broker);
            broker.stop();
        }
    }
}

#[test]
fn a_hello_gets_the_shard_that_it_names() {
    over_each_driver(3, |broker| {
        for shard in [2, 0, 1, 1] {
            let mut connection = RawConnection::connect(broker.address());
            connection.write(&hello(shard));
            assert_eq!(read_home(&mut connection), (3, shard));
            connection.ping();
        }
    });
}

#[test]
fn who_names_none_is_given_one_after_the_other() {
    over_each_driver(3, |broker| {
        let mut counts = [0; 3];
        let mut kept = Vec::new();
        for _ in 0..30 {
            let mut connection = RawConnection::connect(broker.address());
            connection.write(&hello(ANY_SHARD));
            counts[usize::from(read_home(&mut connection).1)] += 1;
            kept.push(connection);
        }
        assert_eq!(counts, [10; 3]);
        kept.iter_mut().for_each(RawConnection::ping);
    });
}

#[test]
fn a_shard_that_is_not_there_is_refused() {
    over_each_driver(3, |broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.write(&hello(3));
        let frame = connection.read_frame().expect("an answer");
        assert_eq!(frame.error_number(), ErrorCode::InvalidParameterValue as u16);
        assert_eq!(connection.read_frame(), None);
    });
}

/// Whatever comes with the hello, in one piece or many, is answered once and in order behind it.
#[test]
fn requests_that_come_with_the_hello_go_along() {
    over_each_driver(2, |broker| {
        for piece in [1, 7, 30, 100, 5_000] {
            for shard in [0, 1] {
                let mut bytes = hello(shard);
                (10..60).for_each(|correlation| bytes.extend(ping_frame(correlation)));
                let mut connection = RawConnection::connect(broker.address());
                bytes.chunks(piece).for_each(|piece| connection.write(piece));
                assert_eq!(read_home(&mut connection), (2, shard));
                for correlation in 10..60 {
                    let frame = connection.read_frame().expect("each ping is answered");
                    assert_eq!(frame.correlation, correlation, "pieces of {piece} to shard {shard}");
                }
            }
        }
    });
}

/// A queue is one queue, whichever shards its users are on.
#[test]
fn what_is_sent_on_one_shard_is_received_on_another() {
    over_each_driver(5, |broker| {
        let mut clients: Vec<_> = (0..7).map(|_| broker.client()).collect();
        let queue = clients[0].create("shared", &[]).unwrap();
        for client in &mut clients {
            for _ in 0..20 {
                let outcome = client.send(
                    queue,
                    &[tenpin_benches::client::Outgoing { body: b"a message", delay_seconds: None }],
                );
                assert!(outcome.unwrap().remove(0).is_ok());
            }
        }
        let now =
            tenpin_benches::client::Receive { messages_max: 10, wait_ms: 10_000, visibility_seconds: None };
        let mut ids = std::collections::BTreeSet::new();
        let taker = &mut clients[3];
        while ids.len() < 140 {
            let messages = taker.receive(queue, now).unwrap();
            assert!(!messages.is_empty(), "{} of 140 came", ids.len());
            let handles: Vec<_> = messages.iter().map(|message| message.handle.clone()).collect();
            assert!(taker.delete(queue, &handles).unwrap().iter().all(Result::is_ok));
            for message in messages {
                assert!(ids.insert(message.id), "each once");
            }
        }
        assert_eq!(clients[6].counts(queue).unwrap().all(), 0);
    });
}

/// A group that is loud on one shard is loud on the others (rule 26): what came after it there, of a quiet
/// group, goes first as soon as its shares were told.
#[test]
fn a_group_that_is_loud_on_one_shard_waits_on_the_others() {
    use std::time::Duration;
    use tenpin_client::{NewMessage, Receive, blocking::Client};

    over_each_driver(2, |broker| {
        // They are given one shard each.
        let [here, there] = [(); 2].map(|()| Client::connect(broker.address().to_string()).unwrap());
        let (here, there) = (here.create_queue("fair").unwrap(), there.create_queue("fair").unwrap());
        let held = Receive::up_to(10).wait(Duration::ZERO).visibility_timeout(Duration::from_secs(600));
        for _ in 0..6 {
            let loud: Vec<_> = (0..10).map(|_| NewMessage::new("loud").group("loud")).collect();
            here.send_batch(&loud).unwrap();
            assert_eq!(here.receive_with(&held).unwrap().len(), 10);
        }
        // While it has a group, the other shard is told.
        there.send(NewMessage::new("kept").group("kept")).unwrap();
        assert_eq!(there.receive_with(&held).unwrap().len(), 1);
        let one = Receive::up_to(1).wait(Duration::from_secs(10));
        let mut tries = 0;
        crate::common::wait_until("the quiet group goes first", || {
            // Another one each time: one that was served before is loud by its share of the time that took.
            tries += 1;
            let quiet = format!("quiet-{tries}");
            there.send(NewMessage::new("loud").group("loud")).unwrap();
            there.send(NewMessage::new("quiet").group(&quiet)).unwrap();
            let bodies = [(); 2].map(|()| {
                let message = there.receive_with(&one).unwrap().pop().expect("it was sent");
                there.delete(&message).unwrap();
                message.text().unwrap().to_owned()
            });
            bodies == ["quiet", "loud"]
        });
    });
}

/// A receive that does not wait finds what another shard has, also where its own has more dead letters than one
/// receive moves.
#[test]
fn dead_letters_do_not_hide_what_another_shard_has() {
    use std::time::Duration;
    use tenpin_client::{NewMessage, QueueAttributes, Receive, blocking::Client};

    over_each_driver(2, |broker| {
        // They are given one shard each.
        let [here, there] = [(); 2].map(|()| Client::connect(broker.address().to_string()).unwrap());
        here.create_queue("letters").unwrap();
        let attributes = QueueAttributes::new().dead_letters("arn:aws:sqs:us-east-1:000000000000:letters", 1);
        let (here, there) =
            (here.create_queue_with("work", &attributes).unwrap(), there.queue("work").unwrap());
        let mut held = Vec::new();
        let hide = Receive::up_to(10).wait(Duration::ZERO).visibility_timeout(Duration::from_secs(600));
        for _ in 0..7 {
            here.send_batch(&vec![NewMessage::new("letter"); 10]).unwrap();
            held.extend(here.receive_with(&hide).unwrap());
        }
        assert_eq!(held.len(), 70);
        for message in &held {
            here.change_visibility(&message.handle(), Duration::ZERO).unwrap();
        }
        there.send(NewMessage::new("message")).unwrap();
        let found = here.receive_with(&Receive::up_to(1).wait(Duration::ZERO)).unwrap();
        assert_eq!(found.iter().map(|message| message.text().unwrap()).collect::<Vec<_>>(), ["message"]);
    });
}

/// More than may be on its way to another shard at a time, in bytes, waits and is answered.
#[test]
fn much_that_is_sent_to_a_queue_of_another_shard_arrives_in_order() {
    use tenpin_benches::client::{Answer, Receive};
    use tenpin_protocol::{
        AttributeCode, AttributeValue, ContentFields, Entries, SendEntry, SendRequest, write_content,
    };

    /// 10 MB, where a connection may have 4 MiB on its way.
    const MESSAGES: usize = 100;
    const BODY_BYTES: usize = 100_000;
    let body = |number: usize| number.to_string().bytes().cycle().take(BODY_BYTES).collect::<Vec<u8>>();

    over_each_driver(2, |broker| {
        // They are given one shard each.
        for (shard, mut client) in [broker.client(), broker.client()].into_iter().enumerate() {
            let name = format!("large-{shard}.fifo");
            let fifo = [(AttributeCode::FifoQueue, AttributeValue::Number(1))];
            let queue = client.create_with(&name, &fifo).unwrap();
            for first in (0..MESSAGES).step_by(10) {
                let contents: Vec<_> = (first..first + 10)
                    .map(|number| {
                        let id = number.to_string();
                        let fields = ContentFields {
                            group: Some("one"),
                            deduplication_id: Some(&id),
                            ..ContentFields::default()
                        };
                        let mut content = Vec::new();
                        write_content(&mut content, &body(number), &fields);
                        content
                    })
                    .collect();
                let entries: Vec<_> = contents
                    .iter()
                    .map(|content| SendEntry::with_content(content, BODY_BYTES).expect("just written"))
                    .collect();
                client.submit(&Request::Send(SendRequest { queue, entries: Entries::of(&entries) }));
            }
            client.flush().unwrap();
            for _ in (0..MESSAGES).step_by(10) {
                let (_, answer) = client.next_answer().unwrap();
                let Answer::Sent(outcomes) = answer else { panic!("{answer:?} answers no send") };
                assert!(outcomes.iter().all(Result::is_ok));
            }
            let mut next = 0;
            while next < MESSAGES {
                let asked = Receive { messages_max: 10, wait_ms: 10_000, visibility_seconds: None };
                let messages = client.receive(queue, asked).unwrap();
                assert!(!messages.is_empty(), "{next} of {MESSAGES} came");
                for message in &messages {
                    assert!(message.body == body(next), "message {next}");
                    next += 1;
                }
                let handles: Vec<_> = messages.iter().map(|message| message.handle.clone()).collect();
                assert!(client.delete(queue, &handles).unwrap().iter().all(Result::is_ok));
            }
        }
    });
}

/// As many messages are in flight as may be, on all shards together, whichever of them have them (rule 26).
#[test]
fn the_limit_in_flight_is_one_for_all_shards() {
    use tenpin_benches::client::{Answer, ClientError, Outgoing, Receive};

    const LIMIT: usize = 7;
    let one = |wait_ms| Receive { messages_max: 1, wait_ms, visibility_seconds: None };
    for (io, shards) in [("epoll", 1), ("uring", 2), ("epoll", 5)] {
        let config = format!("shards = {shards}\nin_flight_max = {LIMIT}\n");
        let Some(mut broker) = TestBroker::try_start(io, "memory", &config) else { continue };
        // Each shard is given one, and the first one another.
        let mut clients: Vec<_> = (0..=shards).map(|_| broker.client()).collect();
        let queue = clients[0].create("limited", &[]).unwrap();
        for client in &mut clients {
            let messages = vec![Outgoing { body: b"a message", delay_seconds: None }; 10];
            assert!(client.send(queue, &messages).unwrap().iter().all(Result::is_ok));
        }
        let mut held = Vec::new();
        for number in 0..LIMIT {
            let taker = number % clients.len();
            held.extend(clients[taker].receive(queue, one(0)).unwrap());
            assert_eq!(held.len(), number + 1, "{shards} shards");
        }
        for round in 0..3 * clients.len() {
            let (taker, other) = (round % clients.len(), (round + 1) % clients.len());
            match clients[taker].receive(queue, one(0)) {
                Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, Some(ErrorCode::OverLimit)),
                other => panic!("{other:?} on {shards} shards, though {LIMIT} are in flight"),
            }
            // What is deleted makes room on any shard, for who asks then and for who waits.
            let waits = round % 2 == 0;
            if waits {
                clients[taker].submit_receive(queue, one(20_000)).unwrap();
                clients[taker].flush().unwrap();
            }
            let gone = held.remove(0);
            assert!(clients[other].delete(queue, &[gone.handle]).unwrap()[0].is_ok());
            if waits {
                let (_, answer) = clients[taker].next_answer().unwrap();
                let Answer::Received(messages) = answer else { panic!("{answer:?}") };
                held.extend(messages);
            } else {
                held.extend(clients[taker].receive(queue, one(0)).unwrap());
            }
            assert_eq!(held.len(), LIMIT, "round {round} on {shards} shards");
        }
        assert_eq!(clients[0].counts(queue).unwrap().in_flight, LIMIT as u64);
        broker.stop();
    }
}

/// Shards of one thread that let requests come together hold up neither each other nor what is due, nor the stop.
#[test]
fn shards_on_fewer_threads_gather_and_serve_all() {
    use std::thread::available_parallelism;
    use tenpin_benches::client::{Answer, Outgoing, Receive};

    let shards = (available_parallelism().map_or(1, usize::from) + 2).min(128);
    let config = format!("shards = {shards}\ngather_us = 2000\n");
    let of_ten = |wait_ms| Receive { messages_max: 10, wait_ms, visibility_seconds: Some(2) };
    for (io, durability) in [("epoll", "memory"), ("uring", "memory"), ("uring", "fsync")] {
        let Some(mut broker) = TestBroker::try_start(io, durability, &config) else { continue };
        let mut clients: Vec<_> = (0..shards).map(|_| broker.client()).collect();
        let queue = clients[0].create("gathered", &[]).unwrap();
        for giver in 0..shards {
            let taker = (giver + 1) % shards;
            // A long poll on one shard is served by a send to another, and ends in time where nothing comes.
            clients[taker].submit_receive(queue, of_ten(20_000)).unwrap();
            clients[taker].flush().unwrap();
            let sent = [Outgoing { body: b"a message", delay_seconds: None }];
            assert!(clients[giver].send(queue, &sent).unwrap()[0].is_ok());
            let (_, answer) = clients[taker].next_answer().unwrap();
            let Answer::Received(received) = answer else { panic!("{answer:?}") };
            let mut handles = [received[0].handle.clone()];
            if giver == 0 {
                assert_eq!(clients[giver].receive(queue, of_ten(5)).unwrap().len(), 0);
                // It comes back by itself, to whoever waits.
                let received = clients[giver].receive(queue, of_ten(20_000)).unwrap();
                handles = [received[0].handle.clone()];
            }
            assert!(clients[taker].delete(queue, &handles).unwrap()[0].is_ok());
        }
        // Many at once, whose requests do come together.
        for round in 0..20 {
            for client in &mut clients {
                let sent = [Outgoing { body: b"one of many", delay_seconds: None }; 10];
                client.submit_send(queue, &sent).unwrap();
                client.flush().unwrap();
            }
            for client in &mut clients {
                let (_, answer) = client.next_answer().unwrap();
                let Answer::Sent(outcomes) = answer else { panic!("{answer:?} in round {round}") };
                assert!(outcomes.iter().all(Result::is_ok));
            }
        }
        assert_eq!(clients[0].counts(queue).unwrap().all(), 200 * shards as u64);
        let printed = broker.stop();
        assert!(printed.contains("as cores are fewer"), "{printed}");
    }
}
