//! A producer against a broker that refuses at random, breaks connections at random, and loses answers
//! to what it has done: on a FIFO queue every message is stored once, and each group in its order.
//!
//! The broker here is a stand-in of a few lines, which keeps the promises that the real one makes:
//! deduplication by id, and "only if the previous one of this group was accepted".

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use proptest::prelude::*;
use tenpin_client::{Client, NewMessage};
use tenpin_protocol::{
    AttributesReply, ErrorCode, FrameCodec, HelloReply, QueueOpened, Request, Response, SendReplyWriter,
    SendRequest, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Decoder;

/// What is stored, and the dice.
struct Stored {
    messages: Vec<(String, u32)>,
    ids: HashSet<String>,
    random: u64,
    /// Of a thousand entries, how many are refused; of a thousand requests, how many break the
    /// connection before or after they are done.
    refused: u64,
    broken: u64,
}

impl Stored {
    fn dice(&mut self, of_a_thousand: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1_000 < of_a_thousand
    }

    fn send(&mut self, request: &SendRequest<'_>, correlation: u32, out: &mut Vec<u8>) {
        let mut refused_groups = HashMap::new();
        let mut writer = SendReplyWriter::begin(out, correlation);
        for entry in request.entries {
            let group = entry.group().expect("FIFO messages have groups").to_owned();
            let id = entry.deduplication_id().expect("the client gives ids").to_owned();
            let previous_refused = refused_groups.get(&group).copied().unwrap_or(false);
            let code = if entry.only_if_previous_accepted && previous_refused {
                Some(ErrorCode::PreviousNotAccepted)
            } else if self.dice(self.refused) {
                Some(ErrorCode::RequestThrottled)
            } else {
                None
            };
            refused_groups.insert(group.clone(), code.is_some());
            match code {
                Some(code) => writer.refused(code, "by the dice"),
                None => {
                    if self.ids.insert(id) {
                        let number = std::str::from_utf8(entry.body).unwrap().parse().unwrap();
                        self.messages.push((group, number));
                    }
                    writer.accepted([1; 16], self.messages.len() as u64)
                }
            };
        }
        writer.finish();
    }
}

async fn serve(listener: TcpListener, stored: Arc<Mutex<Stored>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_one(stream, Arc::clone(&stored)));
    }
}

/// Serves a connection until the dice break it.
async fn serve_one(mut stream: TcpStream, stored: Arc<Mutex<Stored>>) {
    let mut codec = FrameCodec::new();
    let mut input = BytesMut::new();
    loop {
        let frame = match codec.decode(&mut input).expect("the client sends frames") {
            Some(frame) => frame,
            None => match stream.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
        };
        let correlation = frame.correlation();
        let mut out = Vec::new();
        let breaks_after = {
            let mut stored = stored.lock().unwrap();
            match frame.request().expect("the client sends requests") {
                Request::Hello(_) => Response::Hello(HelloReply {
                    version: VERSION,
                    frame_bytes_max: 4 << 20,
                    long_polls_max: 10,
                    keep_alive_ms: 60_000,
                    shard_count: 1,
                    ..HelloReply::default()
                })
                .encode(correlation, &mut out),
                Request::CreateQueue(_) => {
                    let opened = QueueOpened { queue: 7, incarnation: 1, shard: 0, fifo: 1 };
                    Response::CreateQueue(opened).encode(correlation, &mut out);
                }
                Request::GetAttributes(_) => {
                    Response::GetAttributes(AttributesReply::default()).encode(correlation, &mut out);
                }
                Request::Send(request) => {
                    let broken = stored.broken;
                    if stored.dice(broken) {
                        return;
                    }
                    stored.send(&request, correlation, &mut out);
                }
                other => panic!("nobody sends {other:?} here"),
            }
            let broken = stored.broken;
            stored.dice(broken)
        };
        if breaks_after || stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn run(seed: u64, groups: u32, messages: u32, refused: u64, broken: u64) {
    let stored = Stored {
        messages: Vec::new(),
        ids: HashSet::new(),
        random: seed | 1,
        refused,
        // The first connection is to be made.
        broken: 0,
    };
    let stored = Arc::new(Mutex::new(stored));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let broker = tokio::spawn(serve(listener, Arc::clone(&stored)));
    let client = Client::connect(address).await.unwrap();
    let queue = client.create_queue("orders.fifo").await.unwrap();
    stored.lock().unwrap().broken = broken;
    let producer = queue.producer().start();
    let mut sending = Vec::new();
    for number in 0..messages {
        let group = format!("group {}", (number * 7 + number / 3) % groups);
        sending.push(producer.enqueue(NewMessage::new(number.to_string()).group(group)).await.unwrap());
    }
    for send in sending {
        send.await.expect("the broker takes everything in the end");
    }
    broker.abort();
    let stored = stored.lock().unwrap();
    assert_eq!(stored.messages.len(), messages as usize, "every message is stored once");
    let mut last: HashMap<&str, u32> = HashMap::new();
    for (group, number) in &stored.messages {
        if let Some(before) = last.insert(group, *number) {
            assert!(before < *number, "{group}: {number} was stored behind {before}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_stored_once_and_each_group_in_its_order(
        seed: u64, groups in 1_u32..12, messages in 1_u32..150, refused in 0_u64..200, broken in 0_u64..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(seed, groups, messages, refused, broken));
    }
}
