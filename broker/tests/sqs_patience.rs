//! Clients of the SQS-compatible endpoint that are slow, silent, or say one request in two ways: each is bounded,
//! and the others do not notice.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use common::http::Http;
use common::{PATIENCE, TestBroker, wait_until};
use serde_json::{Value, json};
use tenpin_benches::client::Outgoing;

/// Timeouts so short that a test can wait for them. One each, so that it is seen which one it was.
const SHORT_HEAD: &str = "sqs_head_timeout_ms = 400";
const SHORT_BODY: &str = "sqs_body_timeout_ms = 400";
const SHORT_WRITE: &str = "sqs_write_timeout_ms = 400";

fn broker(config: &str) -> TestBroker {
    TestBroker::start_with_sqs("memory", config)
}

fn connect(broker: &TestBroker) -> Http {
    Http::connect(broker.process().sqs_address(PATIENCE).unwrap())
}

fn create(http: &mut Http, name: &str) -> String {
    let reply = http.json_ok("CreateQueue", json!({"QueueName": name}));
    reply["QueueUrl"].as_str().unwrap().to_owned()
}

fn count(http: &mut Http, url: &str, name: &str) -> Value {
    let reply = http.json_ok("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": [name]}));
    reply["Attributes"][name].clone()
}

/// All that comes until the end.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_head_that_does_not_come_ends_its_connection() {
    let broker = broker(SHORT_HEAD);
    let mut whole = connect(&broker);
    let url = create(&mut whole, "q");
    // One that says nothing, one that says half of a head, and one that has said something before.
    let mut silent = connect(&broker).stream;
    let mut half = connect(&broker).stream;
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-ta").unwrap();
    for stream in [&mut silent, &mut half, &mut whole.stream] {
        assert_eq!(rest(stream), "");
    }
    // A request that is being served is no silence: this one takes longer than a head may.
    let mut waiting = connect(&broker);
    let asked = json!({"QueueUrl": url, "WaitTimeSeconds": 1});
    assert_eq!(waiting.json_ok("ReceiveMessage", asked), json!({}));
}

#[test]
fn a_body_that_does_not_come_is_answered_with_a_timeout() {
    let broker = broker(SHORT_BODY);
    let mut http = connect(&broker);
    let head =
        "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ListQueues\r\ncontent-length: 100\r\n\r\n{";
    http.write(head.as_bytes());
    let reply = http.read();
    assert_eq!(reply.status, 408, "{reply:?}");
    assert!(reply.json()["__type"].as_str().unwrap().ends_with("#RequestTimeout"), "{reply:?}");
    // What comes of the body now is no request.
    assert_eq!(rest(&mut http.stream), "");
}

#[test]
fn who_takes_nothing_of_a_response_is_let_go_and_its_messages_come_back() {
    let broker = broker(SHORT_WRITE);
    let mut http = connect(&broker);
    let url = create(&mut http, "q");
    // A quotation mark is six bytes in XML: more than any system keeps for a socket by itself.
    for _ in 0..8 {
        http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "\"".repeat(1_000_000)}));
    }
    let mut idle = connect(&broker);
    take_little(&idle.stream);
    let asked = [("QueueUrl", &url[..]), ("MaxNumberOfMessages", "10"), ("VisibilityTimeout", "43200")];
    idle.send_query("/", "ReceiveMessage", &asked);
    // The response has begun, and cannot end.
    assert_eq!(idle.stream.peek(&mut [0]).unwrap(), 1);
    // It is still connected, and would have them for half a day.
    wait_until("they are back", || count(&mut http, &url, "ApproximateNumberOfMessages") == "8");
}

/// Lets a socket take little that is not read.
fn take_little(stream: &TcpStream) {
    let bytes: libc::c_int = 4096;
    // SAFETY: the value lives through the call, and has the size given.
    let result = unsafe {
        let size = size_of_val(&bytes) as libc::socklen_t;
        let value = (&raw const bytes).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value, size)
    };
    assert_eq!(result, 0);
}

/// A client may end its sending side with its request, as some do that have only one; what is not known is whether
/// it is still there.
#[test]
fn who_ends_its_sending_side_is_answered_and_waits_no_longer() {
    let broker = broker("");
    let mut http = connect(&broker);
    let url = create(&mut http, "q");
    let ask_and_end = |ask: &dyn Fn(&mut Http)| {
        let mut http = connect(&broker);
        ask(&mut http);
        http.stream.shutdown(Shutdown::Write).unwrap();
        let reply = http.read();
        http.expect_end();
        reply
    };
    let send = |http: &mut Http| http.send_json("SendMessage", &json!({"QueueUrl": url, "MessageBody": "x"}));
    assert_eq!(ask_and_end(&send).status, 200);
    let list = ask_and_end(&|http| {
        let bytes = http.request("GET", "/?Action=ListQueues", "", b"");
        http.write(&bytes);
    });
    assert!(list.body.contains(&url), "{list:?}");
    // Several requests at once.
    let mut several = connect(&broker);
    let bytes = several.request("GET", "/?Action=ListQueues", "", b"").repeat(3);
    several.write(&bytes);
    several.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(several.read().status, 200);
    }
    several.expect_end();
    let asked = json!({"QueueUrl": url, "WaitTimeSeconds": 20});
    let received = ask_and_end(&|http| http.send_json("ReceiveMessage", &asked));
    assert_eq!(received.json()["Messages"][0]["Body"], "x");
    // One that waits already.
    let (mut client, mut waiting) = (broker.client(), connect(&broker));
    let queue = client.open("q").unwrap();
    waiting.send_json("ReceiveMessage", &asked);
    wait_until("it waits", || client.counts(queue).unwrap().waiting == 1);
    waiting.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(waiting.read().json(), json!({}));
    waiting.expect_end();
    assert_eq!(client.counts(queue).unwrap().waiting, 0);
    // Half of a body is no request.
    let half = ask_and_end(&|http| {
        let target = "x-amz-target: AmazonSQS.ListQueues\r\n";
        let bytes = http.request("POST", "/", target, b"{}");
        http.write(&bytes[..bytes.len() - 1]);
    });
    assert_eq!(half.status, 400, "{half:?}");
}

/// What everybody is refused for is told to whoever watches over the broker.
#[test]
fn health_tells_of_a_full_log() {
    let broker = broker("");
    let mut http = connect(&broker);
    let (mut client, queue) = broker.client_and_queue();
    let body = vec![9; 100_000];
    let mut is_taken = || {
        client
            .send(queue, &[Outgoing { body: &body, delay_seconds: None }])
            .is_ok_and(|outcomes| outcomes[0].is_ok())
    };
    assert!((0..10_000).any(|_| !is_taken()), "a gigabyte fits into a log that is far smaller");
    let health = http.get("/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("degraded")), "{health:?}");
    let reasons = health.json()["reasons"].clone();
    assert_eq!(reasons.as_array().map(Vec::len), Some(1), "{reasons}");
    assert!(reasons[0].as_str().unwrap().starts_with("the log is full"), "{reasons}");
    client.purge(queue).unwrap();
    wait_until("there is room again", || http.get("/health").json() == json!({"status": "ok"}));
}

/// A request that says its length in two ways could be two requests to a proxy before us, so it is none here.
#[test]
fn a_length_that_is_said_in_two_ways_is_refused() {
    let broker = broker("");
    let inner = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let target = "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ListQueues\r\n";
    for headers in [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", inner.len() + 5),
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n".to_owned(),
        "transfer-encoding: identity, chunked\r\ncontent-length: 5\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding: \u{b}chunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "content-length: 0, 5\r\n".to_owned(),
        "content-length: +5\r\n".to_owned(),
        "content-length: 0x5\r\n".to_owned(),
        "content-length: 5\r\ncontent-length: 50\r\n".to_owned(),
    ] {
        let mut http = connect(&broker);
        http.write(format!("{target}{headers}\r\n0\r\n\r\n{inner}").as_bytes());
        let _ = http.stream.shutdown(Shutdown::Write);
        let reply = rest(&mut http.stream);
        // Chunks alone say where a body ends; but what stands behind them is not served.
        let is_refused = reply.starts_with("HTTP/1.1 400 ");
        assert!(is_refused || reply.contains("connection: close\r\n"), "{headers:?} got {reply}");
        assert!(!reply.contains(r#""status":"ok""#), "{headers:?} got {reply}");
    }
}
