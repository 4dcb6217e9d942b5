//! Brokers that fall silent, that say no for now or what is no frame, and that come back as others: stand-ins
//! of a few lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tenpin_client::{Client, ClientBuilder, Error};
use tenpin_protocol::{
    ANY_SHARD, Entries, ErrorCode, ErrorFrame, FrameCodec, HelloReply, Operation, OutcomeReplyWriter,
    OwnedFrame, QueueOpened, ReceiveReply, ReceivedMessage, Request, Response, SendReplyWriter, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::codec::Decoder;

/// What a stand-in does with a frame.
enum Then {
    GoOn,
    HangUp,
}

/// Listens, and gives every frame to `answer` with the number of its connection and a place for the reply.
async fn broker(
    answer: impl Fn(usize, &OwnedFrame, &mut Vec<u8>) -> Then + Clone + Send + 'static,
) -> ClientBuilder {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it has one").to_string();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, number, answer.clone()));
            number += 1;
        }
    });
    Client::builder(address)
}

async fn serve(
    mut stream: TcpStream,
    number: usize,
    answer: impl Fn(usize, &OwnedFrame, &mut Vec<u8>) -> Then,
) {
    let (mut codec, mut input) = (FrameCodec::new(), BytesMut::new());
    loop {
        while let Some(frame) = codec.decode(&mut input).expect("the client sends frames") {
            let mut out = Vec::new();
            let then = answer(number, &frame, &mut out);
            if stream.write_all(&out).await.is_err() || matches!(then, Then::HangUp) {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

fn hello_reply(shard: u16, shard_count: u16) -> Response<'static> {
    Response::Hello(HelloReply {
        version: VERSION,
        frame_bytes_max: 4 << 20,
        long_polls_max: 10,
        keep_alive_ms: 1_000,
        shard,
        shard_count,
        ..HelloReply::default()
    })
}

fn accept_one(correlation: u32, out: &mut Vec<u8>) {
    let mut writer = SendReplyWriter::begin(out, correlation);
    writer.accepted([1; 16], 0);
    writer.finish();
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_given_up_however_much_is_asked() {
    let options = broker(|connection, frame, out| {
        let correlation = frame.correlation();
        match frame.request().expect("the client sends requests") {
            Request::Hello(_) => hello_reply(0, 1).encode(correlation, out),
            Request::Open(_) => {
                let opened = QueueOpened { queue: 7, incarnation: 1, shard: ANY_SHARD, fifo: 0 };
                Response::Open(opened).encode(correlation, out);
            }
            // From here on the first connection is one to a machine that is gone: all is taken, nothing comes.
            Request::Send(_) if connection > 0 => accept_one(correlation, out),
            _ => {}
        }
        Then::GoOn
    });
    let client =
        options.await.request_timeout(Duration::from_millis(100)).connect().await.expect("it answers");
    let queue = client.queue("orders").await.expect("it answers");
    let mut attempts = 0;
    while queue.send("a first order").await.is_err() {
        attempts += 1;
        assert!(attempts < 200, "requests are made again and again on a connection that is dead");
    }
}

#[tokio::test]
async fn a_broker_that_comes_back_with_fewer_shards_is_found_again() {
    let (shards, sends) = (Arc::new(AtomicU16::new(2)), Arc::new(AtomicUsize::new(0)));
    let served = Arc::clone(&sends);
    let options = broker(move |_, frame, out| {
        let correlation = frame.correlation();
        let count = shards.load(Ordering::Relaxed);
        match frame.request().expect("the client sends requests") {
            Request::Hello(hello) if hello.shard == ANY_SHARD => {
                hello_reply(0, count).encode(correlation, out);
            }
            Request::Hello(hello) if hello.shard < count => {
                hello_reply(hello.shard, count).encode(correlation, out);
            }
            Request::Hello(_) => {
                let operation = Operation::Hello.number();
                let number = ErrorCode::InvalidParameterValue.number();
                let refusal = ErrorFrame { operation, number, text: Some("no such shard") };
                Response::Error(refusal).encode(correlation, out);
                return Then::HangUp;
            }
            Request::Open(_) => {
                let opened = QueueOpened { queue: 7, incarnation: 1, shard: 1, fifo: 0 };
                Response::Open(opened).encode(correlation, out);
                return Then::HangUp;
            }
            Request::Send(_) => {
                accept_one(correlation, out);
                if served.fetch_add(1, Ordering::Relaxed) == 0 {
                    // It ends, and comes back with one shard.
                    shards.store(1, Ordering::Relaxed);
                    return Then::HangUp;
                }
            }
            _ => {}
        }
        Then::GoOn
    });
    let client = options.await.request_timeout(Duration::from_secs(5)).connect().await.expect("it answers");
    let queue = client.queue("orders").await.expect("it answers");
    queue.send("to shard 1").await.expect("it is there");
    queue.send("to where shard 1 was").await.expect("the broker is there");
    assert_eq!(sends.load(Ordering::Relaxed), 2);
}

fn opened() -> Response<'static> {
    Response::Open(QueueOpened { queue: 7, incarnation: 1, shard: ANY_SHARD, fifo: 0 })
}

#[tokio::test]
async fn a_delete_that_is_refused_for_now_is_asked_again() {
    let deletes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&deletes);
    let options = broker(move |_, frame, out| {
        let correlation = frame.correlation();
        match frame.request().expect("the client sends requests") {
            Request::Hello(_) => hello_reply(0, 1).encode(correlation, out),
            Request::Open(_) => opened().encode(correlation, out),
            Request::Ping(ping) => Response::Ping(ping).encode(correlation, out),
            Request::Receive(_) => {
                let (handle, body): (&[u8], &[u8]) = (&[0, 0, 1], b"a first order");
                let message = ReceivedMessage { handle, body, content: body, ..ReceivedMessage::default() };
                Response::Receive(ReceiveReply { messages: Entries::of(&[message]) })
                    .encode(correlation, out);
            }
            Request::Delete(_) => {
                let mut writer = OutcomeReplyWriter::begin(out, Operation::Delete, correlation);
                match counted.fetch_add(1, Ordering::Relaxed) {
                    0 => writer.refused(ErrorCode::RequestThrottled, "not now"),
                    _ => writer.succeeded(),
                };
                writer.finish();
            }
            _ => {}
        }
        Then::GoOn
    });
    let client = options.await.connect().await.expect("it answers");
    let queue = client.queue("orders").await.expect("it answers");
    let mut messages = queue.stream();
    messages.next().await.expect("there is one").delete();
    messages.close().await;
    assert_eq!(deletes.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_is_no_frame_ends_its_connection_and_not_the_consumer() {
    let asked_again = Arc::new(Notify::new());
    let told = Arc::clone(&asked_again);
    let options = broker(move |connection, frame, out| {
        let correlation = frame.correlation();
        match frame.request().expect("the client sends requests") {
            Request::Hello(_) => hello_reply(0, 1).encode(correlation, out),
            Request::Open(_) => opened().encode(correlation, out),
            Request::Ping(ping) => Response::Ping(ping).encode(correlation, out),
            Request::Receive(_) if connection == 0 => {
                Response::Receive(ReceiveReply::default()).encode(correlation, out);
                // A bit of it changes on its way.
                *out.last_mut().expect("a frame has bytes") ^= 1;
            }
            Request::Receive(_) => told.notify_one(),
            _ => {}
        }
        Then::GoOn
    });
    let client = options.await.connect().await.expect("it answers");
    let queue = client.queue("orders").await.expect("it answers");
    let stop = async { asked_again.notified().await };
    let running = queue.consumer().run_until(stop, |_| std::future::ready(()));
    running.await.expect("it goes on over another connection");
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_some_is_none() {
    let options = broker(|_, frame, out| {
        let correlation = frame.correlation();
        match frame.request().expect("the client sends requests") {
            Request::Hello(_) => hello_reply(0, 1).encode(correlation, out),
            Request::Open(_) => opened().encode(correlation, out),
            Request::Ping(ping) => Response::Ping(ping).encode(correlation, out),
            // Of however many.
            Request::Send(_) => accept_one(correlation, out),
            _ => {}
        }
        Then::GoOn
    });
    let client = options.await.connect().await.expect("it answers");
    let queue = client.queue("orders").await.expect("it answers");
    let answer = queue.send_batch(&["one".into(), "two".into()]).await;
    assert!(matches!(answer, Err(Error::Protocol(_))), "{answer:?}");
    let producer = queue.producer().start();
    let one = producer.enqueue("one").await.expect("there is room");
    let two = producer.enqueue("two").await.expect("there is room");
    for answer in [one.await, two.await] {
        assert!(matches!(answer, Err(Error::Protocol(_))), "{answer:?}");
    }
    producer.flush().await.expect("all room was given back");
}
