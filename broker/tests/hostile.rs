//! Clients that are broken, slow or mean: each is told so or let go, and nobody else notices.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use tenpin_benches::client::{Client, Outgoing, Receive};
use tenpin_protocol::{
    Entries, ErrorCode, FRAME_BYTES_MAX_LEAST, HEADER_BYTES, Hello, PeekRequest, ReceiveRequest, Request,
    SendEntry, SendRequest, VERSION, finish_frame, split_frame,
};

use crate::common::{PATIENCE, RawConnection, TestBroker, ping_frame, wait_until};

const SHORT_HANDSHAKE: &str = "handshake_timeout_ms = 300\n";
const SHORT_SILENCE: &str = "keep_alive_timeout_ms = 1000\n";

fn encoded(request: &Request<'_>, correlation: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(correlation, &mut bytes);
    bytes
}

fn send_frame(queue: u64, bodies: &[&[u8]], correlation: u32) -> Vec<u8> {
    let entries: Vec<SendEntry<'_>> = bodies.iter().map(|body| SendEntry::new(body)).collect();
    encoded(&Request::Send(SendRequest { queue, entries: Entries::of(&entries) }), correlation)
}

fn hello_frame(client: &str) -> Vec<u8> {
    let hello = Hello { version_minimum: VERSION, version_maximum: VERSION, client, ..Hello::default() };
    encoded(&Request::Hello(hello), 1)
}

/// Runs a test over both drivers.
fn over_each_driver(config: &str, test: impl Fn(&mut TestBroker)) {
    for io in ["epoll", "uring"] {
        if let Some(mut broker) = TestBroker::try_start(io, "memory", config) {
            test(&mut broker);
            broker.stop();
        }
    }
}

/// Who takes the port for the SQS endpoint is told so in HTTP.
#[test]
fn http_is_told_that_it_has_the_wrong_port() {
    over_each_driver("", |broker| {
        for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"]
        {
            let mut stream = std::net::TcpStream::connect(broker.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("The SQS endpoint"), "{answer}");
        }
        broker.client().ping().unwrap();
    });
}

/// Frames that arrive in two parts, cut at each byte, are whole frames.
#[test]
fn a_frame_may_be_cut_at_each_byte() {
    over_each_driver("", |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let frame = send_frame(queue, &[b"cut", b"in two"], 5);
        let mut connection = RawConnection::after_hello(broker.address());
        for cut in 1..frame.len() {
            connection.write(&frame[..cut]);
            // An answer on another connection: the broker has had its turn with the first part.
            bystander.ping().unwrap();
            connection.write(&frame[cut..]);
            let reply = connection.read_frame().unwrap();
            assert_eq!((reply.correlation, reply.flags), (5, tenpin_protocol::FLAG_REPLY), "cut at {cut}");
        }
        let stored = bystander.counts(queue).unwrap().visible;
        assert_eq!(stored, 2 * (frame.len() as u64 - 1));
    });
}

/// Three frames and a half in one write, then the rest and three more.
#[test]
fn frames_may_be_glued() {
    over_each_driver("", |broker| {
        let mut connection = RawConnection::after_hello(broker.address());
        let pings: Vec<u8> = (1..=7).flat_map(ping_frame).collect();
        let half = pings.len() / 2;
        for part in [&pings[..half], &pings[half..]] {
            connection.write(part);
        }
        let answered: Vec<u32> = (1..=7).map(|_| connection.read_frame().unwrap().correlation).collect();
        assert_eq!(answered, [1, 2, 3, 4, 5, 6, 7]);
    });
}

/// A connection that ends inside a frame leaves nothing behind.
#[test]
fn a_connection_may_end_at_each_byte() {
    over_each_driver("", |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let frame = send_frame(queue, &[b"never whole"], 5);
        for cut in (0..frame.len()).step_by(7) {
            let mut connection = RawConnection::after_hello(broker.address());
            connection.write(&frame[..cut]);
        }
        bystander.ping().unwrap();
        assert_eq!(bystander.counts(queue).unwrap().all(), 0);
    });
}

/// A changed byte anywhere behind the length is told with correlation id 0, and the connection ends.
#[test]
fn a_frame_that_does_not_match_its_crc_ends_the_connection() {
    over_each_driver("", |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let frame = send_frame(queue, &[b"changed on the way"], 5);
        for at in 4..frame.len() {
            let mut broken = frame.clone();
            broken[at] ^= 0x10;
            let mut connection = RawConnection::after_hello(broker.address());
            connection.write(&broken);
            connection.expect_closed_with(ErrorCode::CrcMismatch.number());
        }
        assert_eq!(bystander.counts(queue).unwrap().all(), 0);
    });
}

/// A frame longer than agreed is refused by its length alone, before its bytes come.
#[test]
fn an_oversized_frame_ends_the_connection() {
    over_each_driver("", |broker| {
        let mut connection = RawConnection::after_hello(broker.address());
        connection.write(&u32::MAX.to_le_bytes());
        connection.expect_closed_with(ErrorCode::FrameTooLarge.number());
        let mut connection = RawConnection::connect(broker.address());
        connection.write(&(FRAME_BYTES_MAX_LEAST as u32).to_le_bytes());
        connection.expect_closed_with(ErrorCode::FrameTooLarge.number());
        broker.client().ping().unwrap();
    });
}

/// A length that has no room for a header is no frame.
#[test]
fn a_frame_shorter_than_its_header_ends_the_connection() {
    over_each_driver("", |broker| {
        let mut connection = RawConnection::after_hello(broker.address());
        connection.write(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        connection.expect_closed_with(ErrorCode::BadFrame.number());
    });
}

/// Bytes that are anything: the connection ends, and everybody else is served.
#[test]
fn garbage_ends_the_connection() {
    over_each_driver("", |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let mut random = tenpin_benches::random::Random::new(7);
        for round in 0..50 {
            let garbage: Vec<u8> = (0..4_096).map(|_| random.bits() as u8).collect();
            let mut connection = if round % 2 == 0 {
                RawConnection::connect(broker.address())
            } else {
                RawConnection::after_hello(broker.address())
            };
            // The broker may end the connection before all of it is written.
            let _ = connection.stream.write_all(&garbage);
            let _ = connection.stream.shutdown(std::net::Shutdown::Write);
            while connection.read_frame().is_some() {}
        }
        bystander.send(queue, &[Outgoing { body: b"unimpressed", delay_seconds: None }]).unwrap();
    });
}

/// Whole frames with right checksums and nonsense inside are answered with what is wrong, each with
/// its correlation id, and the broker lives.
#[test]
fn nonsense_in_right_frames_is_answered() {
    over_each_driver("", |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let frame = send_frame(queue, &[b"body"], 5);
        for at in 8..frame.len() {
            for value in [0x00, 0x7f, 0xff] {
                let mut changed = frame.clone();
                changed[at] = value;
                finish_frame(&mut changed, 0);
                let mut connection = RawConnection::after_hello(broker.address());
                connection.write(&changed);
                // Refused or, where the byte did not matter, accepted: but answered.
                assert!(connection.read_frame().is_some(), "byte {at} as {value:#x}");
            }
        }
        bystander.ping().unwrap();
    });
}

/// Reserved bits, unknown operations and other versions are named, not passed over.
#[test]
fn what_has_no_meaning_is_refused_by_name() {
    over_each_driver("", |broker| {
        let changes: [(usize, u8, ErrorCode); 3] = [
            (8, 9, ErrorCode::UnsupportedVersion),
            (9, 200, ErrorCode::UnknownOperation),
            (11, 0x80, ErrorCode::ReservedBits),
        ];
        for (at, value, expected) in changes {
            let mut frame = ping_frame(6);
            frame[at] = value;
            finish_frame(&mut frame, 0);
            let mut connection = RawConnection::after_hello(broker.address());
            connection.write(&frame);
            assert_eq!(connection.read_frame().unwrap().error_number(), expected.number());
        }
    });
}

/// Operations that have their place in the protocol and are not served yet say so.
#[test]
fn operations_not_served_yet_say_so() {
    over_each_driver("", |broker| {
        let request =
            Request::Authenticate(tenpin_protocol::Authenticate { method: "password", credentials: b"" });
        let mut connection = RawConnection::after_hello(broker.address());
        connection.write(&encoded(&request, 6));
        let reply = connection.read_frame().unwrap();
        assert_eq!((reply.correlation, reply.error_number()), (6, ErrorCode::UnsupportedOperation.number()));
        connection.ping();
    });
}

/// Before the hello there is nothing, and there is one hello.
#[test]
fn a_connection_begins_with_one_hello() {
    over_each_driver("", |broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.write(&ping_frame(6));
        let reply = connection.read_frame().unwrap();
        assert_eq!(reply.error_number(), ErrorCode::HelloRequired.number());
        assert_eq!(connection.read_frame(), None);
        let mut connection = RawConnection::after_hello(broker.address());
        connection.write(&hello_frame("twice"));
        let reply = connection.read_frame().unwrap();
        assert_eq!(reply.error_number(), ErrorCode::HelloRequired.number());
    });
}

/// Who connects and says nothing is let go.
#[test]
fn a_silent_connection_is_closed() {
    over_each_driver(SHORT_HANDSHAKE, |broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.expect_closed_with(ErrorCode::HandshakeTimeout.number());
    });
}

/// Who says hello a byte at a time is let go too: the time counts from the connection, not from the
/// last byte.
#[test]
fn a_slow_hello_is_closed() {
    over_each_driver(SHORT_HANDSHAKE, |broker| {
        let mut connection = RawConnection::connect(broker.address());
        let drip = connection.stream.try_clone().unwrap();
        let dripper = std::thread::spawn(move || {
            let mut drip = drip;
            // Far more bytes than fit into the time there is, one at a time, until the end comes.
            let hello = hello_frame(&"slow".repeat(900));
            for byte in hello {
                if drip.write_all(&[byte]).is_err() {
                    return true;
                }
                // The pace is what is tested: each byte comes well within the time, all together do not.
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        });
        connection.expect_closed_with(ErrorCode::HandshakeTimeout.number());
        drop(connection);
        assert!(dripper.join().unwrap(), "the hello was heard to its end");
    });
}

/// Who is silent for longer than agreed is let go; who pings is not.
#[test]
fn silence_ends_the_connection() {
    over_each_driver(SHORT_SILENCE, |broker| {
        let mut silent = RawConnection::after_hello(broker.address());
        let mut lively = RawConnection::after_hello(broker.address());
        silent.stream.set_nonblocking(true).unwrap();
        let mut byte = [0; 1];
        wait_until("the silent one has something to read", || {
            lively.ping();
            !matches!(silent.stream.peek(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        silent.stream.set_nonblocking(false).unwrap();
        silent.expect_closed_with(ErrorCode::KeepAliveTimeout.number());
        lively.ping();
    });
}

/// Writes requests until neither side takes more, although the broker has answered `bystander` a
/// hundred times since; gives how many whole requests were written.
fn write_until_stuck(connection: &mut RawConnection, request: &[u8], bystander: &mut Client) -> u64 {
    connection.stream.set_nonblocking(true).unwrap();
    let requests: Vec<u8> = request.repeat(512);
    let mut written = 0;
    let mut refused_in_a_row = 0;
    while refused_in_a_row < 100 {
        match connection.stream.write(&requests[written % request.len()..]) {
            Ok(count) => {
                written += count;
                refused_in_a_row = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bystander.ping().unwrap();
                refused_in_a_row += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    connection.stream.set_nonblocking(false).unwrap();
    (written / request.len()) as u64
}

/// A client that asks and never reads costs the broker a bounded amount of memory, is not served
/// beyond it, and gets all its answers once it reads.
#[test]
fn a_reader_that_does_not_read_costs_little() {
    reads_nothing("");
}

fn reads_nothing(config: &str) {
    /// Far more than the bound for one connection, far less than what was asked for.
    const GROWTH_BYTES_MAX: u64 = 96 << 20;
    over_each_driver(config, |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let body = vec![1; 100_000];
        for _ in 0..10 {
            bystander.send(queue, &[Outgoing { body: &body, delay_seconds: None }]).unwrap();
        }
        let before = broker.process().memory().unwrap().resident_bytes;
        let request = PeekRequest { queue, max: 10, reply_bytes_max: u32::MAX, ..PeekRequest::default() };
        let request = encoded(&Request::Peek(request), 9);
        let mut connection = RawConnection::after_hello(broker.address());
        let asked = write_until_stuck(&mut connection, &request, &mut bystander);
        let growth = broker.process().memory().unwrap().resident_bytes.saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{} MiB more for one client", growth >> 20);
        // A megabyte for each request: nothing like that was kept.
        assert!(asked * 1_000_000 > 4 * GROWTH_BYTES_MAX, "{asked} requests are too few to show anything");
        for answer in 0..asked.min(200) {
            let frame = connection.read_frame().unwrap_or_else(|| panic!("no answer {answer} of {asked}"));
            assert_eq!(frame.correlation, 9);
            assert_eq!(frame.flags, tenpin_protocol::FLAG_REPLY);
        }
    });
}

/// The same where other shards have a part in what is asked.
#[test]
fn a_reader_that_does_not_read_costs_little_on_several_shards() {
    for shards in [2, 5] {
        reads_nothing(&format!("shards = {shards}\n"));
    }
}

/// A client that never reads is let go in the end.
#[test]
fn a_reader_that_never_reads_is_closed() {
    over_each_driver(SHORT_SILENCE, |broker| {
        let (mut bystander, queue) = broker.client_and_queue();
        let body = vec![1; 100_000];
        for _ in 0..10 {
            bystander.send(queue, &[Outgoing { body: &body, delay_seconds: None }]).unwrap();
        }
        let request = PeekRequest { queue, max: 10, reply_bytes_max: u32::MAX, ..PeekRequest::default() };
        let request = encoded(&Request::Peek(request), 9);
        let mut connection = RawConnection::after_hello(broker.address());
        connection.stream.set_nonblocking(true).unwrap();
        wait_until("the connection is closed", || {
            bystander.ping().unwrap();
            connection.stream.write(&request).is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
        });
    });
}

/// Deliveries that were never written to the socket, because its connection went away, go back at
/// once and do not count as receives.
#[test]
fn deliveries_that_nobody_took_go_back() {
    over_each_driver("", |broker| {
        const MESSAGES: u64 = 400;
        let (mut bystander, queue) = broker.client_and_queue();
        let body = vec![1; 100_000];
        for _ in 0..MESSAGES {
            bystander.send(queue, &[Outgoing { body: &body, delay_seconds: None }]).unwrap();
        }
        let mut leaving = RawConnection::after_hello(broker.address());
        for correlation in 1..=MESSAGES as u32 {
            let request =
                ReceiveRequest { wait_ms: 0, visibility_seconds: 43_200, ..ReceiveRequest::new(queue, 1) };
            leaving.write(&encoded(&Request::Receive(request), correlation));
        }
        // Until the broker has handed out more than the sockets hold, or all it may for one reader.
        wait_until("some are in flight", || bystander.counts(queue).unwrap().in_flight > 20);
        drop(leaving);
        wait_until("some are back", || bystander.counts(queue).unwrap().visible > 0);
        let receive = Receive { messages_max: 10, wait_ms: 0, visibility_seconds: None };
        let first = bystander.receive(queue, receive).unwrap();
        assert!(first.iter().any(|message| message.receive_count == 1), "going back is no receive");
    });
}

/// Many connections that come and go leave no trace.
#[test]
fn connections_come_and_go() {
    over_each_driver("", |broker| {
        let before = broker.process().memory().unwrap().resident_bytes;
        for _ in 0..2_000 {
            drop(RawConnection::connect(broker.address()));
        }
        let mut client = broker.client();
        client.ping().unwrap();
        let growth = broker.process().memory().unwrap().resident_bytes.saturating_sub(before);
        assert!(growth < 32 << 20, "{} MiB more after they went", growth >> 20);
    });
}

/// The frames of the hello are as the protocol says: the first bytes a stranger's client would see.
#[test]
fn a_hello_is_answered_with_the_limits() {
    over_each_driver("", |broker| {
        let mut connection = RawConnection::connect(broker.address());
        connection.write(&hello_frame("stranger"));
        let mut bytes = vec![0; 4_096];
        connection.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut arrived = 0;
        while split_frame(&bytes[..arrived], FRAME_BYTES_MAX_LEAST).unwrap().is_none() {
            let count = connection.stream.read(&mut bytes[arrived..]).unwrap();
            assert!(count > 0, "the connection ended");
            arrived += count;
        }
        assert!(arrived > HEADER_BYTES);
        let (frame, _) = split_frame(&bytes[..arrived], FRAME_BYTES_MAX_LEAST).unwrap().unwrap();
        let tenpin_protocol::Response::Hello(reply) = tenpin_protocol::Response::decode(&frame).unwrap()
        else {
            panic!("{frame:?} answers no hello")
        };
        assert_eq!((reply.version, reply.shard_count, reply.batch_entries_max), (VERSION, 1, 10));
        assert!(reply.frame_bytes_max as usize >= FRAME_BYTES_MAX_LEAST);
    });
}
