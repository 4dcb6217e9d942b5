//! What clients of the SQS-compatible endpoint may count on beside its actions: one queue with two fronts,
//! messages that go back, hostile HTTP refused, and an end in good order.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use common::http::Http;
use common::{PATIENCE, TestBroker, wait_until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use tenpin_benches::client::{Client, Outgoing, Receive};
use tenpin_broker::embedded::{Broker, Builder, IoSetting};

fn builder() -> Builder {
    Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).minute_rules(false)
}

fn connect(broker: &Broker) -> Http {
    Http::connect(broker.sqs_address().unwrap())
}

fn create(http: &mut Http, name: &str, attributes: Value) -> String {
    let reply = http.json_ok("CreateQueue", json!({"QueueName": name, "Attributes": attributes}));
    reply["QueueUrl"].as_str().unwrap().to_owned()
}

fn counts(http: &mut Http, url: &str) -> Value {
    http.json_ok("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": ["All"]}))["Attributes"]
        .clone()
}

/// Brokers of each kind: over both drivers, with one shard and with three.
fn each_kind(mut test: impl FnMut(Broker)) {
    for io in [IoSetting::Auto, IoSetting::Epoll] {
        for shards in [1, 3] {
            test(builder().io(io).shards(shards).start().unwrap());
        }
    }
}

#[test]
fn one_queue_has_two_fronts() {
    each_kind(|broker| {
        let mut http = connect(&broker);
        let url = create(&mut http, "q", json!({}));
        let mut client = Client::connect(broker.address()).unwrap();
        let queue = client.open("q").unwrap();
        // Text and bytes of the binary protocol, to HTTP.
        for body in [&b"plain text"[..], b"\xff\x00 no text"] {
            client.send(queue, &[Outgoing { body, delay_seconds: None }]).unwrap();
            let parameters = json!({"QueueUrl": url, "WaitTimeSeconds": 20});
            let message = http.json_ok("ReceiveMessage", parameters)["Messages"][0].clone();
            match std::str::from_utf8(body) {
                Ok(text) => assert_eq!(message["Body"], text),
                Err(_) => {
                    assert_eq!(message["Body"], "/wAgbm8gdGV4dA==");
                    let marker = &message["MessageAttributes"]["Tenpin.BodyEncoding"];
                    assert_eq!(marker, &json!({"DataType": "String", "StringValue": "base64"}));
                }
            }
            let handle = &message["ReceiptHandle"];
            http.json_ok("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle}));
        }
        // And the other way.
        http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "from HTTP"}));
        let received = client
            .receive(queue, Receive { messages_max: 10, wait_ms: 20_000, visibility_seconds: None })
            .unwrap();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].body, b"from HTTP");
        client.delete(queue, std::slice::from_ref(&received[0].handle)).unwrap();
        assert_eq!(counts(&mut http, &url)["ApproximateNumberOfMessagesNotVisible"], "0");
    });
}

#[test]
fn a_long_poll_gets_what_comes_and_blocks_nobody() {
    each_kind(|broker| {
        let mut http = connect(&broker);
        let url = create(&mut http, "q", json!({}));
        let mut waiting: Vec<_> = (0..10).map(|_| connect(&broker)).collect();
        for http in &mut waiting {
            http.send_json("ReceiveMessage", &json!({"QueueUrl": url, "WaitTimeSeconds": 20}));
        }
        for number in 0..10 {
            http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": number.to_string()}));
        }
        let mut bodies: Vec<_> = waiting
            .iter_mut()
            .map(|http| http.read().json()["Messages"][0]["Body"].as_str().unwrap().to_owned())
            .collect();
        bodies.sort();
        assert_eq!(bodies, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    });
}

/// Rule 4: who is gone is given nothing, and what was not written to it counts as not received.
#[test]
fn messages_of_clients_that_are_gone_go_back() {
    each_kind(|broker| {
        let mut http = connect(&broker);
        let url = create(&mut http, "q", json!({}));
        // One that waits, and goes.
        let mut waiting = connect(&broker);
        waiting.send_json("ReceiveMessage", &json!({"QueueUrl": url, "WaitTimeSeconds": 20}));
        let mut client = Client::connect(broker.address()).unwrap();
        let queue = client.open("q").unwrap();
        let mut waits = |count| {
            wait_until("as many wait", || client.counts(queue).unwrap().waiting == count);
        };
        waits(1);
        drop(waiting);
        waits(0);
        // One whose response is larger than what its socket takes, and goes without having read it. A quotation mark
        // is six bytes in XML: a message alone, which is what comes from another shard, is more than any system
        // keeps for a socket by itself.
        let body = "\"".repeat(1_000_000);
        for _ in 0..4 {
            http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": body}));
        }
        let slow = small_window(broker.sqs_address().unwrap());
        let mut slow = Http::over(slow, broker.sqs_address().unwrap());
        let asked = [("QueueUrl", &url[..]), ("MaxNumberOfMessages", "10"), ("VisibilityTimeout", "43200")];
        slow.send_query("/", "ReceiveMessage", &asked);
        wait_until("it has been given some", || {
            counts(&mut http, &url)["ApproximateNumberOfMessages"] != "4"
        });
        drop(slow);
        wait_until("they are back", || counts(&mut http, &url)["ApproximateNumberOfMessages"] == "4");
        let parameters = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let message = http.json_ok("ReceiveMessage", parameters)["Messages"][0].clone();
        assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
    });
}

/// A client whose socket takes little before it reads.
fn small_window(address: SocketAddr) -> TcpStream {
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    assert!(socket >= 0);
    // SAFETY: the socket was just made, and belongs to nobody else.
    let stream = unsafe { <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    let bytes: libc::c_int = 4096;
    let SocketAddr::V4(address) = address else { panic!("IPv4") };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both calls read values that live through them, of the sizes given.
    unsafe {
        let size = size_of_val(&bytes) as libc::socklen_t;
        let value = (&raw const bytes).cast();
        assert_eq!(libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value, size), 0);
        let size = size_of_val(&name) as libc::socklen_t;
        assert_eq!(libc::connect(stream.as_raw_fd(), (&raw const name).cast(), size), 0);
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_broker_that_stops_answers_those_who_wait() {
    each_kind(|broker| {
        let mut http = connect(&broker);
        let url = create(&mut http, "q", json!({}));
        let mut waiting = connect(&broker);
        waiting.send_json("ReceiveMessage", &json!({"QueueUrl": url, "WaitTimeSeconds": 20}));
        let mut client = Client::connect(broker.address()).unwrap();
        let queue = client.open("q").unwrap();
        wait_until("it waits", || client.counts(queue).unwrap().waiting == 1);
        drop(client);
        let stopping = std::thread::spawn(move || broker.stop());
        let reply = waiting.read();
        assert_eq!((reply.status, reply.json()), (200, json!({})), "{reply:?}");
        waiting.expect_end();
        http.expect_end();
        stopping.join().unwrap().unwrap();
    });
}

#[test]
fn requests_may_follow_each_other_without_waiting() {
    let broker = builder().start().unwrap();
    let mut http = connect(&broker);
    let url = create(&mut http, "q", json!({}));
    // All in one write; also receives, each of which owes its messages to the one before.
    let mut bytes = Vec::new();
    let headers = |action| format!("x-amz-target: AmazonSQS.{action}\r\n");
    for number in 0..20 {
        let body = json!({"QueueUrl": url, "MessageBody": number.to_string()}).to_string();
        bytes.extend(http.request("POST", "/", &headers("SendMessage"), body.as_bytes()));
    }
    for _ in 0..20 {
        let body = json!({"QueueUrl": url}).to_string();
        bytes.extend(http.request("POST", "/", &headers("ReceiveMessage"), body.as_bytes()));
    }
    http.write(&bytes);
    for _ in 0..20 {
        assert!(http.read().json()["MessageId"].is_string());
    }
    for number in 0..20 {
        assert_eq!(http.read().json()["Messages"][0]["Body"], number.to_string());
    }
}

#[test]
fn hostile_http_is_refused() {
    let broker = builder().start().unwrap();
    let address = broker.sqs_address().unwrap();
    let target = "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ListQueues\r\n";
    // What is sent, and the status that it gets; 0: a refusal, or the end.
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), 0),
        (b"GET /\r\n\r\n".to_vec(), 400),
        (b"\r\n\r\nNONSENSE\r\n\r\n".to_vec(), 400),
        (format!("{target}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into_bytes(), 400),
        (format!("{target}content-length: -1\r\n\r\n{{}}").into_bytes(), 400),
        (format!("{target}content-length: 99999999999999999999999\r\n\r\n{{}}").into_bytes(), 400),
        (format!("{target}content-length: 67108864\r\n\r\n").into_bytes(), 413),
        (format!("{target}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n").into_bytes(), 400),
        (format!("{target}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}").into_bytes(), 400),
        (
            format!("{target}transfer-encoding: chunked, identity\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n")
                .into_bytes(),
            400,
        ),
        (format!("{target} folded: header\r\n\r\n").into_bytes(), 400),
        (format!("{target}content-length : 2\r\n\r\n{{}}").into_bytes(), 400),
        (format!("{target}x: {}\r\n\r\n", "y".repeat(400_000)).into_bytes(), 0),
        (format!("{target}{}\r\n", "a: b\r\n".repeat(200)).into_bytes(), 431),
        // Two are there already, and 101 are one too many.
        (format!("{target}{}\r\n", "a: b\r\n".repeat(99)).into_bytes(), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000)).into_bytes(), 0),
        (b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 405),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 405),
        ([target.as_bytes(), b"content-length: 3\r\n\r\n\xff\xfe"].concat(), 0),
        (format!("{target}content-length: 200000\r\n\r\n{}", "[".repeat(200_000)).into_bytes(), 400),
        (
            {
                let deep = format!("{{\"Tags\":{}", "{\"a\":".repeat(40_000));
                format!("{target}content-length: {}\r\n\r\n{deep}", deep.len()).into_bytes()
            },
            400,
        ),
    ];
    for (bytes, status) in cases {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be refused, and the connection closed, before all of it is written.
        let _ = stream.write_all(&bytes);
        if status == 0 {
            // Nothing more comes of what is not whole.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut reply = Vec::new();
        let mut buffer = [0; 4096];
        let is_whole = |reply: &[u8]| status != 0 && reply.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        while !is_whole(&reply) {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => reply.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let reply = String::from_utf8_lossy(&reply);
        if status != 0 {
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} got {reply}");
        }
        assert!(!reply.starts_with("HTTP/1.1 2"), "{shown:?} got {reply}");
        assert!(!reply.starts_with("HTTP/1.1 5"), "{shown:?} got {reply}");
    }
    // It goes on.
    assert_eq!(connect(&broker).json_ok("ListQueues", json!({})), json!({}));
}

/// A chunked body is a body, and one that smuggles a request behind a second length is not two.
#[test]
fn a_body_ends_where_its_framing_says() {
    let broker = builder().start().unwrap();
    let mut http = connect(&broker);
    let url = create(&mut http, "q", json!({}));
    let body = json!({"QueueUrl": url, "MessageBody": "in chunks"}).to_string();
    let (one, two) = body.split_at(10);
    let head = "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.SendMessage\r\ntransfer-encoding: chunked\r\n\r\n";
    let bytes = format!("{head}{:x}\r\n{one}\r\n{:x};ext=1\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    http.write(bytes.as_bytes());
    assert_eq!(http.read().status, 200);
    let mut http = connect(&broker);
    let expects =
        http.request("POST", "/", "x-amz-target: AmazonSQS.ListQueues\r\nexpect: 100-continue\r\n", b"{}");
    http.write(&expects[..expects.len() - 2]);
    assert_eq!(http.read().status, 100);
    http.write(b"{}");
    assert_eq!(http.read().status, 200);
}

/// Room for headers is used again for the response's, and for the next request's.
#[test]
fn headers_of_a_request_stay_with_it() {
    let broker = builder().start().unwrap();
    let mut http = connect(&broker);
    // Host, length, target and content type are there already: at most it is a hundred.
    for more in [0, 1, 20, 96, 0, 40, 0] {
        let headers = format!(
            "x-amz-target: AmazonSQS.ListQueues\r\ncontent-type: application/x-amz-json-1.0\r\n{}",
            (0..more).map(|number| format!("x-more-{number}: more\r\n")).collect::<String>()
        );
        http.write(&http.request("POST", "/", &headers, b"{}"));
        let reply = http.read();
        assert_eq!(reply.status, 200, "{more}");
        let names: Vec<&str> = reply.headers.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["content-type", "x-amzn-requestid", "content-length", "date"], "{more}");
    }
}

/// A step of a history. Messages are known by their bodies, which are all different, and a receive takes all
/// that it can: which of two messages of one millisecond comes first is nobody's promise.
#[derive(Debug, Clone)]
enum Step {
    Send(String, u32),
    ReceiveAll,
    Delete(usize),
    Hide(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => "[a-z é<&\"\r\n]{1,40}".prop_map(|body| Step::Send(body, 0)),
        1 => "[a-z]{1,9}".prop_map(|body| Step::Send(body, 900)),
        2 => Just(Step::ReceiveAll),
        2 => any::<usize>().prop_map(Step::Delete),
        2 => (any::<usize>(), prop_oneof![Just(0u32), Just(600)])
            .prop_map(|(which, seconds)| Step::Hide(which, seconds)),
    ]
}

/// What was received by one front: by body, how often, and the newest handle.
type Received<H> = BTreeMap<String, (String, H)>;

/// One queue for each front, and what was received of it.
struct Pair {
    http: Http,
    url: String,
    over_http: Received<String>,
    client: Client,
    queue: u64,
    over_binary: Received<Vec<u8>>,
}

impl Pair {
    fn take(&mut self, number: usize, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send(body, delay) => {
                let body = format!("{number} {body}");
                let parameters = json!({"QueueUrl": self.url, "MessageBody": body, "DelaySeconds": delay});
                self.http.json_ok("SendMessage", parameters);
                let message = Outgoing { body: body.as_bytes(), delay_seconds: Some(delay) };
                self.client.send(self.queue, &[message]).unwrap();
                Ok(())
            }
            Step::ReceiveAll => self.receive_all(),
            Step::Delete(which) => self.delete(which),
            Step::Hide(which, seconds) => self.hide(which, seconds),
        }
    }

    fn receive_all(&mut self) -> Result<(), TestCaseError> {
        loop {
            let parameters = json!({
                "QueueUrl": self.url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
                "AttributeNames": ["ApproximateReceiveCount"],
            });
            let reply = self.http.json_ok("ReceiveMessage", parameters);
            let messages = reply["Messages"].as_array().cloned().unwrap_or_default();
            let receive = Receive { messages_max: 10, wait_ms: 0, visibility_seconds: Some(600) };
            let others = self.client.receive(self.queue, receive).unwrap();
            prop_assert_eq!(messages.len(), others.len());
            if messages.is_empty() {
                break;
            }
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            for message in messages {
                let count = text(&message["Attributes"]["ApproximateReceiveCount"]);
                self.over_http.insert(text(&message["Body"]), (count, text(&message["ReceiptHandle"])));
            }
            for other in others {
                let body = String::from_utf8(other.body).unwrap();
                self.over_binary.insert(body, (other.receive_count.to_string(), other.handle));
            }
        }
        let of = |(body, count): (&String, &String)| (body.clone(), count.clone());
        let here: Vec<_> = self.over_http.iter().map(|(body, (count, _))| of((body, count))).collect();
        let there: Vec<_> = self.over_binary.iter().map(|(body, (count, _))| of((body, count))).collect();
        prop_assert_eq!(here, there);
        Ok(())
    }

    /// The handles of one message that was received by both.
    fn handles(&self, which: usize) -> Option<(String, Vec<u8>)> {
        let (body, (_, here)) = self.over_http.iter().nth(which % self.over_http.len().max(1))?;
        Some((here.clone(), self.over_binary[body].1.clone()))
    }

    fn delete(&mut self, which: usize) -> Result<(), TestCaseError> {
        let Some((here, there)) = self.handles(which) else { return Ok(()) };
        self.http.json_ok("DeleteMessage", json!({"QueueUrl": self.url, "ReceiptHandle": here}));
        prop_assert_eq!(self.client.delete(self.queue, &[there]).unwrap(), [Ok(())]);
        Ok(())
    }

    fn hide(&mut self, which: usize, seconds: u32) -> Result<(), TestCaseError> {
        let Some((here, there)) = self.handles(which) else { return Ok(()) };
        let parameters = json!({"QueueUrl": self.url, "ReceiptHandle": here, "VisibilityTimeout": seconds});
        let reply = self.http.json("ChangeMessageVisibility", parameters);
        let other = self.client.change_visibility(self.queue, &[(there, seconds)]).unwrap();
        let there = other[0].as_ref().err().map(|refusal| refusal.code.unwrap().query_code().to_owned());
        let here = reply.header("x-amzn-query-error").map(|text| text.replace(";Sender", ""));
        prop_assert_eq!(here, there);
        Ok(())
    }

    fn compare_counts(&mut self) -> Result<(), TestCaseError> {
        let attributes = counts(&mut self.http, &self.url);
        let text = |name: &str| attributes[name].as_str().unwrap().parse::<u64>().unwrap();
        let counts = self.client.counts(self.queue).unwrap();
        prop_assert_eq!(text("ApproximateNumberOfMessages"), counts.visible);
        prop_assert_eq!(text("ApproximateNumberOfMessagesNotVisible"), counts.in_flight);
        prop_assert_eq!(text("ApproximateNumberOfMessagesDelayed"), counts.delayed);
        Ok(())
    }
}

/// The same random history through both fronts comes to the same.
#[test]
fn both_fronts_answer_a_history_alike() {
    let broker = builder().start().unwrap();
    let number = std::cell::Cell::new(0);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |history| {
        number.set(number.get() + 1);
        let number = number.get();
        let mut http = connect(&broker);
        let url = create(&mut http, &format!("http-{number}"), json!({}));
        let mut client = Client::connect(broker.address()).unwrap();
        let queue = client.create(&format!("binary-{number}"), &[]).unwrap();
        let (over_http, over_binary) = Default::default();
        let mut pair = Pair { http, url, over_http, client, queue, over_binary };
        history.into_iter().enumerate().try_for_each(|(number, step)| pair.take(number, step))?;
        pair.compare_counts()
    });
    result.unwrap();
}

/// A broker as a process, with an endpoint and more configuration.
fn process(config: &str) -> TestBroker {
    TestBroker::start_with_sqs("memory", config)
}

/// An HTTP connection to it.
fn connect_to(broker: &TestBroker) -> Http {
    Http::connect(broker.process().sqs_address(PATIENCE).unwrap())
}

#[test]
fn queues_of_the_configuration_are_there_at_the_start() {
    let queue = r#"
        [[queues]]
        name = "orders"
        attributes = { VisibilityTimeout = 45, SqsManagedSseEnabled = false }
        dead_letter_queue = "orders-dead"
        max_receive_count = 3
        tags = { team = "one" }
        [[queues]]
        name = "orders-dead"
        [[queues]]
        name = "steps.fifo"
        region = "eu-west-1"
        attributes = { ContentBasedDeduplication = "true" }
    "#;
    let mut broker = TestBroker::start_with_sqs("fsync", queue);
    let mut http = connect_to(&broker);
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "orders"}))["QueueUrl"].clone();
    let attributes = counts(&mut http, url.as_str().unwrap());
    assert_eq!(attributes["VisibilityTimeout"], "45");
    assert_eq!(attributes["SqsManagedSseEnabled"], "false");
    assert!(attributes["RedrivePolicy"].as_str().unwrap().contains(":orders-dead"), "{attributes}");
    assert_eq!(http.json_ok("ListQueueTags", json!({"QueueUrl": url}))["Tags"], json!({"team": "one"}));
    http.headers =
        "authorization: AWS4-HMAC-SHA256 Credential=x/20261128/eu-west-1/sqs/aws4_request\r\n".into();
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "steps.fifo"}))["QueueUrl"].clone();
    assert_eq!(counts(&mut http, url.as_str().unwrap())["ContentBasedDeduplication"], "true");
    // What is there already is brought to what the configuration says now.
    broker.stop();
    broker.start_again(&queue.replace("VisibilityTimeout = 45", "VisibilityTimeout = 46"));
    let mut http = connect_to(&broker);
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "orders"}))["QueueUrl"].clone();
    assert_eq!(counts(&mut http, url.as_str().unwrap())["VisibilityTimeout"], "46");
    // Also where only a tag differs.
    broker.stop();
    broker.start_again(&queue.replace("= 45", "= 46").replace("\"one\"", "\"two\""));
    let mut http = connect_to(&broker);
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "orders"}))["QueueUrl"].clone();
    assert_eq!(http.json_ok("ListQueueTags", json!({"QueueUrl": url}))["Tags"], json!({"team": "two"}));
    // What cannot be is refused with the queue's name.
    broker.stop();
    let said = broker.fails_to_start(&queue.replace("= 45", "= 45000"));
    assert!(said.contains("orders") && said.contains("VisibilityTimeout"), "{said}");
}

/// A queue of the configuration that was deleted a moment before the start keeps nobody from being served. It is
/// made when its name is free, with or without an endpoint, and what sends dead letters to it does so from then on.
#[test]
fn a_queue_of_the_configuration_that_was_just_deleted_is_made_when_its_minute_is_over() {
    let config = r#"
        [[queues]]
        name = "orders"
        dead_letter_queue = "orders-dead"
        [[queues]]
        name = "orders-dead"
        attributes = { VisibilityTimeout = 45 }
    "#;
    let mut with_endpoint = TestBroker::start_with_sqs("fsync", config);
    let mut without = TestBroker::start("fsync", config);
    let all = [&mut with_endpoint, &mut without].map(|broker| {
        wait_until("the queues are made", || broker.client().open("orders-dead").is_ok());
        let mut client = broker.client();
        let dead = client.open("orders-dead").unwrap();
        client.delete_queue(dead).unwrap();
        broker.stop();
        broker.start_again(config);
        let text = "the queue orders-dead was deleted less than 60 seconds ago: it will be made";
        broker.process().wait_for_line(text, PATIENCE).unwrap();
        assert!(broker.client().open("orders").is_ok());
        broker
    });
    let mut http = connect_to(all[0]);
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "orders"}))["QueueUrl"].clone();
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "meanwhile"}));
    for broker in &all {
        broker.process().wait_for_line("the queue orders-dead is made", 2 * PATIENCE).unwrap();
        assert!(broker.client().open("orders-dead").is_ok());
    }
    let mut http = connect_to(all[0]);
    let dead = http.json_ok("GetQueueUrl", json!({"QueueName": "orders-dead"}))["QueueUrl"].clone();
    assert_eq!(counts(&mut http, dead.as_str().unwrap())["VisibilityTimeout"], "45");
    wait_until("it has the dead letters", || {
        let attributes = counts(&mut http, url.as_str().unwrap());
        attributes["RedrivePolicy"].as_str().is_some_and(|policy| policy.contains(":orders-dead"))
    });
}

#[test]
fn queues_are_made_at_first_use_where_that_is_asked_for() {
    let broker = process("sqs_create_queues = true\nminute_rules = false\nsqs_reset = true\n");
    let mut http = connect_to(&broker);
    let url = http.json_ok("GetQueueUrl", json!({"QueueName": "new.fifo"}))["QueueUrl"].clone();
    let send = json!({
        "QueueUrl": url, "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d",
    });
    assert!(http.json_ok("SendMessage", send)["SequenceNumber"].is_string());
    let sent = http.query_ok("/000000000000/another", "SendMessage", &[("MessageBody", "x")]);
    assert!(sent.element("MessageId").is_some());
    // A reset deletes them all.
    let bytes = http.request("POST", "/reset", "", b"");
    http.write(&bytes);
    assert_eq!(http.read().json(), json!({"deleted_queues": 2}));
    assert_eq!(http.json_ok("ListQueues", json!({})), json!({}));
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let broker = process("");
    let mut second = broker.command.clone();
    let folder = tempfile::tempdir().unwrap();
    second.folder = folder.path().join("data");
    second.sqs_listen = address.clone();
    let (status, printed) = second.spawn().unwrap().wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(4), "{printed}");
    assert!(printed.contains(&address) && printed.contains("--sqs-listen off"), "{printed}");
}

/// Queue URLs as settings say, and a warning where everybody may come.
#[test]
fn urls_and_listening_are_settings() {
    let mut broker = process("sqs_public_url = \"https://queues.example/\"\nregion = \"eu-west-1\"\n");
    let mut http = connect_to(&broker);
    let url = create(&mut http, "q", json!({}));
    assert_eq!(url, "https://queues.example/000000000000/q");
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "x"}));
    let arn = &counts(&mut http, &url)["QueueArn"];
    assert_eq!(arn, "arn:aws:sqs:eu-west-1:000000000000:q");
    broker.stop();
    broker.command.sqs_listen = "0.0.0.0:0".into();
    broker.start_again("");
    broker.process().wait_for_line("whoever can reach 0.0.0.0:", PATIENCE).unwrap();
}

/// As many open files as this process, and those that it starts, may have.
fn allow_many_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one structure that lives through them.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

/// Ten thousand long polls cost no thread and little memory.
#[test]
fn ten_thousand_long_polls_wait_in_little_memory() {
    const POLLS: u64 = 10_000;
    const BYTES_MAX: u64 = 400 << 20;
    allow_many_descriptors();
    let broker = process("");
    let mut http = connect_to(&broker);
    let url = create(&mut http, "q", json!({}));
    let address = broker.process().sqs_address(PATIENCE).unwrap();
    let request = {
        let body = json!({"QueueUrl": url, "WaitTimeSeconds": 20}).to_string();
        http.request("POST", "/", "x-amz-target: AmazonSQS.ReceiveMessage\r\n", body.as_bytes())
    };
    let polls: Vec<TcpStream> = (0..POLLS)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&request).unwrap();
            stream
        })
        .collect();
    let mut client = broker.client();
    let queue = client.open("q").unwrap();
    // All wait at once, before the first has waited for its 20 seconds.
    wait_until("nearly all wait", || client.counts(queue).unwrap().waiting >= POLLS * 99 / 100);
    let memory = broker.process().memory().unwrap().resident_bytes;
    eprintln!("{} waiting long polls, {} MiB", client.counts(queue).unwrap().waiting, memory >> 20);
    assert!(memory < BYTES_MAX, "{memory} bytes");
    drop(polls);
    wait_until("nobody waits", || client.counts(queue).unwrap().waiting == 0);
}
