//! A queue as clients see it: the real binary, over real sockets, with every driver and durability.

mod common;

use tenpin_benches::client::{Answer, Client, ClientError, Message, Outgoing, Receive};
use tenpin_protocol::{
    AttributeCode, Entries, ErrorCode, Goodbye, ReceiveRequest, Request, SendEntry, SendRequest, StatsRequest,
};

use crate::common::{RawConnection, RawFrame, TestBroker, wait_until};

const NOW: Receive = Receive { messages_max: 10, wait_ms: 0, visibility_seconds: None };
const WAITING: Receive = Receive { messages_max: 10, wait_ms: 20_000, visibility_seconds: None };

fn message(body: &[u8]) -> Outgoing<'_> {
    Outgoing { body, delay_seconds: None }
}

fn send(client: &mut Client, queue: u64, body: &[u8]) -> [u8; 16] {
    client.send(queue, &[message(body)]).unwrap().remove(0).unwrap()
}

fn one(messages: Vec<Message>) -> Message {
    let [message] = <[Message; 1]>::try_from(messages).expect("one message");
    message
}

fn refused_with(error: ClientError) -> ErrorCode {
    match error {
        ClientError::Refused(refusal) => refusal.code.expect("a known code"),
        other => panic!("{other} is no refusal"),
    }
}

/// Sent, received, deleted, gone; the same id throughout; a second delete succeeds too.
fn a_message_lives_and_is_deleted(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let id = send(&mut client, queue, b"strike");
    let received = one(client.receive(queue, NOW).unwrap());
    assert_eq!(
        (received.id, received.body.as_slice(), received.receive_count),
        (id, b"strike".as_slice(), 1)
    );
    assert_eq!(client.receive(queue, NOW).unwrap(), [], "it is hidden");
    for _ in 0..2 {
        let outcome = client.delete(queue, std::slice::from_ref(&received.handle)).unwrap().remove(0);
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(client.counts(queue).unwrap().all(), 0);
}

/// A batch comes back whole, in order, each body with its own id.
fn a_batch_keeps_its_order(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let bodies: Vec<Vec<u8>> = (1..=10u8).map(|pin| vec![pin; usize::from(pin) * 1_000]).collect();
    let messages: Vec<Outgoing<'_>> = bodies.iter().map(|body| message(body)).collect();
    let ids: Vec<[u8; 16]> = client.send(queue, &messages).unwrap().into_iter().map(Result::unwrap).collect();
    let received = client.receive(queue, NOW).unwrap();
    assert_eq!(received.iter().map(|message| message.id).collect::<Vec<_>>(), ids);
    assert_eq!(received.iter().map(|message| message.body.clone()).collect::<Vec<_>>(), bodies);
}

/// The largest message there may be goes through.
fn a_mebibyte_fits(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let body: Vec<u8> = (0..1 << 20).map(|at: u32| (at ^ (at >> 8)) as u8).collect();
    send(&mut client, queue, &body);
    let received = one(client.receive(queue, NOW).unwrap());
    assert!(received.body == body, "the body came back changed");
    let too_long = vec![0; (1 << 20) + 1];
    let refused = match client.send(queue, &[message(&too_long)]) {
        Ok(mut outcomes) => outcomes.remove(0).unwrap_err().code.expect("a known code"),
        Err(error) => refused_with(error),
    };
    assert!(
        matches!(refused, ErrorCode::BatchRequestTooLong | ErrorCode::InvalidParameterValue),
        "{refused:?}"
    );
}

/// A receive that waits gets a message the moment it arrives, and the first to wait comes first.
fn a_long_poll_is_woken_by_a_send(broker: &mut TestBroker) {
    let (mut sender, queue) = broker.client_and_queue();
    let mut first = broker.client();
    let mut second = broker.client();
    let one_each = Receive { messages_max: 1, ..WAITING };
    let first_asked = first.submit_receive(queue, one_each).unwrap();
    first.flush().unwrap();
    wait_until("the first receive waits", || sender.counts(queue).unwrap().waiting == 1);
    let second_asked = second.submit_receive(queue, one_each).unwrap();
    second.flush().unwrap();
    wait_until("both receives wait", || sender.counts(queue).unwrap().waiting == 2);
    let mut received = Vec::new();
    send(&mut sender, queue, b"one");
    if broker.shards() > 1 {
        // Who waits on the sender's shard is first there, however long others wait elsewhere.
        send(&mut sender, queue, b"two");
    }
    for (client, asked) in [(&mut first, first_asked), (&mut second, second_asked)] {
        let (correlation, answer) = client.next_answer().unwrap();
        let Answer::Received(messages) = answer else { panic!("{answer:?}") };
        assert_eq!(correlation, asked);
        received.push(one(messages).body);
        if received.len() == 1 && broker.shards() == 1 {
            assert_eq!(received, [b"one"], "who waits first is served first");
            send(&mut sender, queue, b"two");
        }
    }
    received.sort();
    assert_eq!(received, [b"one", b"two"]);
}

/// A long poll holds up nothing behind it on its connection.
fn a_long_poll_blocks_nothing(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let asked = client.submit_receive(queue, WAITING).unwrap();
    let sent = client.submit_send(queue, &[message(b"to myself")]).unwrap();
    let mut answered = Vec::new();
    for _ in 0..2 {
        answered.push(client.next_answer().unwrap().0);
    }
    answered.sort_unstable();
    assert_eq!(answered, [asked, sent]);
}

/// What is not deleted comes back when its timeout is over, counted; the older handle still deletes.
fn what_is_not_deleted_comes_back(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    send(&mut client, queue, b"again");
    let first = one(client.receive(queue, Receive { visibility_seconds: Some(1), ..NOW }).unwrap());
    let second = one(client.receive(queue, WAITING).unwrap());
    assert_eq!((second.id, second.receive_count), (first.id, 2));
    assert_ne!(second.handle, first.handle, "each delivery has a handle of its own");
    assert_eq!(client.delete(queue, &[first.handle]).unwrap(), [Ok(())]);
    assert_eq!(client.counts(queue).unwrap().all(), 0);
}

/// A timeout changed to zero makes a message visible at once; then there is nothing left to change.
fn visibility_can_be_changed(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    send(&mut client, queue, b"spare");
    let first = one(client.receive(queue, Receive { visibility_seconds: Some(600), ..NOW }).unwrap());
    assert_eq!(client.change_visibility(queue, &[(first.handle.clone(), 0)]).unwrap(), [Ok(())]);
    let again = client.change_visibility(queue, &[(first.handle.clone(), 30)]).unwrap().remove(0);
    assert_eq!(again.unwrap_err().code, Some(ErrorCode::MessageNotInflight));
    let second = one(client.receive(queue, NOW).unwrap());
    assert_eq!(second.id, first.id);
    assert_eq!(client.change_visibility(queue, &[(second.handle, 43_000)]).unwrap(), [Ok(())]);
    assert_eq!(client.counts(queue).unwrap().in_flight, 1);
}

/// A delayed message is counted, hidden, and delivered when its delay is over.
fn a_delayed_message_waits(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let late = Outgoing { body: b"late", delay_seconds: Some(900) };
    let soon = Outgoing { body: b"soon", delay_seconds: Some(1) };
    client.send(queue, &[late, soon]).unwrap();
    let received = one(client.receive(queue, WAITING).unwrap());
    assert_eq!(received.body, b"soon");
    let counts = client.counts(queue).unwrap();
    assert_eq!((counts.visible, counts.in_flight, counts.delayed), (0, 1, 1));
}

/// Attributes are what they were set to, and hold at once.
fn attributes_hold(broker: &mut TestBroker) {
    let (mut client, _) = broker.client_and_queue();
    let attributes = [(AttributeCode::VisibilityTimeout, 1), (AttributeCode::DelaySeconds, 0)];
    let queue = client.create("short", &attributes).unwrap();
    assert_eq!(client.create("short", &attributes).unwrap(), queue, "created again, it is the same");
    let differs = client.create("short", &[(AttributeCode::VisibilityTimeout, 2)]).unwrap_err();
    assert_eq!(refused_with(differs), ErrorCode::QueueNameExists);
    send(&mut client, queue, b"brief");
    one(client.receive(queue, NOW).unwrap());
    let again = one(client.receive(queue, WAITING).unwrap());
    assert_eq!(again.receive_count, 2, "it came back by the queue's own timeout");
}

/// Errors have the code of what is wrong, and the connection goes on.
fn errors_say_what_is_wrong(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let other = client.create("other", &[]).unwrap();
    assert_eq!(refused_with(client.open("nobody").unwrap_err()), ErrorCode::QueueDoesNotExist);
    let unknown = client.receive(u64::MAX - 1, NOW).unwrap_err();
    assert_eq!(refused_with(unknown), ErrorCode::QueueDoesNotExist);
    let no_handle = client.delete(queue, &[b"no handle".to_vec()]).unwrap().remove(0);
    assert_eq!(no_handle.unwrap_err().code, Some(ErrorCode::ReceiptHandleIsInvalid));
    send(&mut client, queue, b"mine");
    let received = one(client.receive(queue, NOW).unwrap());
    let forged = {
        let mut handle = received.handle.clone();
        *handle.last_mut().unwrap() ^= 1;
        client.delete(queue, &[handle]).unwrap().remove(0)
    };
    assert_eq!(forged.unwrap_err().code, Some(ErrorCode::ReceiptHandleIsInvalid));
    let elsewhere = client.delete(other, std::slice::from_ref(&received.handle)).unwrap().remove(0);
    assert!(elsewhere.is_err(), "a handle works on the queue that issued it only");
    assert_eq!(client.delete(queue, &[received.handle]).unwrap(), [Ok(())]);
    let bad_name = client.create("no spaces in names", &[]).unwrap_err();
    assert_eq!(refused_with(bad_name), ErrorCode::InvalidParameterValue);
}

/// Hundreds of requests under way at once are all answered, and took effect in their order.
fn requests_can_be_pipelined(broker: &mut TestBroker) {
    const REQUESTS: u32 = 300;
    let (mut client, queue) = broker.client_and_queue();
    let mut asked: Vec<u32> = Vec::new();
    for number in 0..REQUESTS {
        asked.push(client.submit_send(queue, &[message(&number.to_le_bytes())]).unwrap());
    }
    for _ in 0..REQUESTS {
        let (correlation, answer) = client.next_answer().unwrap();
        assert!(matches!(answer, Answer::Sent(_)), "{answer:?}");
        asked.retain(|request| *request != correlation);
    }
    assert_eq!(asked, [] as [u32; 0]);
    let mut expected = 0;
    while expected < REQUESTS {
        for received in client.receive(queue, NOW).unwrap() {
            assert_eq!(received.body, expected.to_le_bytes());
            expected += 1;
        }
    }
}

/// A deleted queue is gone, with its number; a purged one is empty.
fn queues_are_purged_and_deleted(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    send(&mut client, queue, b"dust");
    client.purge(queue).unwrap();
    assert_eq!(client.counts(queue).unwrap().all(), 0);
    assert_eq!(client.receive(queue, NOW).unwrap(), []);
    client.delete_queue(queue).unwrap();
    assert_eq!(refused_with(client.receive(queue, NOW).unwrap_err()), ErrorCode::QueueDoesNotExist);
    assert_eq!(refused_with(client.open("tests").unwrap_err()), ErrorCode::QueueDoesNotExist);
}

/// What a connection was given and could not take, because it went away, is not lost nor hidden for long.
fn a_connection_that_goes_away_frees_its_waits(broker: &mut TestBroker) {
    let (mut client, queue) = broker.client_and_queue();
    let mut leaving = broker.client();
    leaving.submit_receive(queue, WAITING).unwrap();
    leaving.flush().unwrap();
    wait_until("the receive waits", || client.counts(queue).unwrap().waiting == 1);
    drop(leaving);
    wait_until("the wait is forgotten", || client.counts(queue).unwrap().waiting == 0);
    send(&mut client, queue, b"still here");
    assert_eq!(one(client.receive(queue, WAITING).unwrap()).receive_count, 1);
}

/// All answers to requests on a connection of their own, as they come; they are numbered from 1 on.
fn answers_to(broker: &TestBroker, requests: &[Request<'_>]) -> Vec<RawFrame> {
    let mut connection = RawConnection::after_hello(broker.address());
    let mut bytes = Vec::new();
    for (request, correlation) in requests.iter().zip(1..) {
        request.encode(correlation, &mut bytes);
    }
    connection.write(&bytes);
    std::iter::from_fn(|| connection.read_frame()).collect()
}

/// What was asked before a goodbye is answered before it, whatever that has to wait for; then the connection
/// ends.
fn a_goodbye_is_answered_last(broker: &mut TestBroker) {
    let (_, queue) = broker.client_and_queue();
    let entries = [SendEntry::new(b"last words")];
    let waiting = ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(queue, 10) };
    let answers = answers_to(
        broker,
        &[
            Request::Receive(waiting),
            Request::Stats(StatsRequest { queue }),
            Request::Send(SendRequest { queue, entries: Entries::of(&entries) }),
            Request::Goodbye(Goodbye::default()),
        ],
    );
    let mut answered: Vec<_> = answers.iter().map(|frame| frame.correlation).collect();
    assert_eq!(answered.last(), Some(&4), "{answered:?}");
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4]);
}

macro_rules! over {
    ($($module:ident: $io:literal, $durability:literal, $shards:literal;)*) => { $(
        mod $module {
            over!(@tests $io, $durability, $shards:
                a_message_lives_and_is_deleted, a_batch_keeps_its_order, a_mebibyte_fits,
                a_long_poll_is_woken_by_a_send, a_long_poll_blocks_nothing, what_is_not_deleted_comes_back,
                visibility_can_be_changed, a_delayed_message_waits, attributes_hold, errors_say_what_is_wrong,
                requests_can_be_pipelined, queues_are_purged_and_deleted,
                a_connection_that_goes_away_frees_its_waits, a_goodbye_is_answered_last,
            );
        }
    )* };
    (@tests $io:literal, $durability:literal, $shards:literal: $($test:ident,)*) => { $(
        #[test]
        fn $test() {
            let config = format!("minute_rules = false\nshards = {}\n", $shards);
            if let Some(mut broker) = super::TestBroker::try_start($io, $durability, &config) {
                super::$test(&mut broker);
                broker.stop();
            }
        }
    )* };
}

over! {
    epoll_memory: "epoll", "memory", 1;
    epoll_fsync: "epoll", "fsync", 1;
    uring_memory: "uring", "memory", 1;
    uring_fsync: "uring", "fsync", 1;
    two_shards_epoll: "epoll", "fsync", 2;
    two_shards_uring: "uring", "memory", 2;
    five_shards_epoll: "epoll", "memory", 5;
    five_shards_uring: "uring", "fsync", 5;
}

#[test]
fn a_goodbye_is_answered_behind_what_is_read_from_disk() {
    for io in ["epoll", "uring"] {
        let Some(mut broker) = TestBroker::try_start(io, "fsync", "") else { continue };
        let (mut client, queue) = broker.client_and_queue();
        send(&mut client, queue, b"on disk alone");
        broker.stop_and_restart();
        let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) });
        let answers = answers_to(&broker, &[receive, Request::Goodbye(Goodbye::default())]);
        let answered: Vec<_> = answers.iter().map(|frame| frame.correlation).collect();
        assert_eq!(answered, [1, 2]);
        assert!(answers[0].payload.windows(13).any(|bytes| bytes == b"on disk alone"));
    }
}

/// What was acknowledged is there after a stop and after a kill: queues, messages, deletes, handles,
/// what is in flight.
fn acknowledged_things_outlive_the_process(broker: &mut TestBroker, restart: fn(&mut TestBroker)) {
    let (mut client, queue) = broker.client_and_queue();
    for body in [b"keep", b"gone", b"hold"] {
        send(&mut client, queue, body);
    }
    let received = client.receive(queue, Receive { visibility_seconds: Some(600), ..NOW }).unwrap();
    let handle_of =
        |body: &[u8]| received.iter().find(|message| message.body == body).unwrap().handle.clone();
    assert_eq!(client.delete(queue, &[handle_of(b"gone")]).unwrap(), [Ok(())]);
    assert_eq!(client.change_visibility(queue, &[(handle_of(b"keep"), 0)]).unwrap(), [Ok(())]);
    restart(broker);
    let mut client = broker.client();
    let queue = client.open("tests").unwrap();
    let kept = one(client.receive(queue, NOW).unwrap());
    assert_eq!((kept.body.as_slice(), kept.receive_count), (b"keep".as_slice(), 2));
    assert_eq!(client.counts(queue).unwrap().all(), 2);
    assert_eq!(client.delete(queue, &[handle_of(b"hold"), kept.handle]).unwrap(), [Ok(()), Ok(())]);
    assert_eq!(client.counts(queue).unwrap().all(), 0, "a handle from before the restart works");
}

macro_rules! restarts {
    ($($test:ident: $io:literal, $durability:literal, $shards:literal, $restart:expr;)*) => { $(
        #[test]
        fn $test() {
            let config = format!("shards = {}\n", $shards);
            if let Some(mut broker) = TestBroker::try_start($io, $durability, &config) {
                acknowledged_things_outlive_the_process(&mut broker, $restart);
            }
        }
    )* };
}

restarts! {
    outlives_a_stop_five_shards: "uring", "fsync", 5, TestBroker::stop_and_restart;
    outlives_a_kill_two_shards: "uring", "fsync", 2, TestBroker::kill_and_restart;
    outlives_a_kill_five_shards: "epoll", "fsync", 5, TestBroker::kill_and_restart;
    outlives_a_stop_epoll_fsync: "epoll", "fsync", 1, TestBroker::stop_and_restart;
    outlives_a_stop_uring_async: "uring", "async", 1, TestBroker::stop_and_restart;
    outlives_a_kill_epoll_fsync: "epoll", "fsync", 1, TestBroker::kill_and_restart;
    outlives_a_kill_epoll_async: "epoll", "async", 1, TestBroker::kill_and_restart;
    outlives_a_kill_uring_fsync: "uring", "fsync", 1, TestBroker::kill_and_restart;
}

/// A log that is full refuses sends by name, while what is stored is still received and deleted; then
/// there is room again. Nothing that was accepted is lost on the way.
fn a_full_log_refuses_sends_only(broker: &TestBroker, body_bytes: usize) {
    let (mut client, queue) = broker.client_and_queue();
    let body = vec![9; body_bytes];
    let mut accepted = Vec::new();
    let refused = loop {
        match client.send(queue, &[message(&body)]) {
            Ok(mut outcomes) => match outcomes.remove(0) {
                Ok(id) => accepted.push(id),
                Err(refusal) => break refusal.code.expect("a known code"),
            },
            Err(error) => break refused_with(error),
        }
        assert!(accepted.len() * body_bytes < 1 << 30, "a gigabyte fits into a log that is far smaller");
    };
    assert_eq!(refused, ErrorCode::StorageFull);
    assert!(!accepted.is_empty());
    let mut received = Vec::new();
    while received.len() < accepted.len() {
        let messages = client
            .receive(queue, WAITING)
            .unwrap_or_else(|error| panic!("{} of {}: {error}", received.len(), accepted.len()));
        assert!(!messages.is_empty(), "{} of {} came", received.len(), accepted.len());
        let handles: Vec<Vec<u8>> = messages.iter().map(|message| message.handle.clone()).collect();
        assert!(client.delete(queue, &handles).unwrap().iter().all(Result::is_ok));
        received.extend(messages.iter().map(|message| message.id));
    }
    assert!(received == accepted, "not the same messages, or not in their order");
    wait_until("there is room again", || {
        client.send(queue, &[message(&body)]).is_ok_and(|outcomes| outcomes[0].is_ok())
    });
}

#[test]
fn a_full_log_on_disk_goes_on() {
    for (io, body_bytes) in [("epoll", 100_000), ("uring", 1_000_000), ("uring", 20_000)] {
        if let Some(mut broker) = TestBroker::try_start(io, "fsync", "log_bytes_max = 41943040\n") {
            a_full_log_refuses_sends_only(&broker, body_bytes);
            broker.stop();
        }
    }
}

#[test]
fn a_full_log_in_memory_goes_on() {
    let mut broker = TestBroker::start("memory", "");
    a_full_log_refuses_sends_only(&broker, 100_000);
    broker.stop();
}

/// The bench's first command works, and says what it does.
#[test]
fn hello_tells_its_story() {
    let broker = TestBroker::start("memory", "");
    let mut told = Vec::new();
    tenpin_benches::hello::run(broker.address(), "hello", &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("Hello, pins!") && told.contains("0 visible, 0 in flight"), "{told}");
}
