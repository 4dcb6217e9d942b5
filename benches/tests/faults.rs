//! The load tells a broker that loses, repeats or changes messages from one that does not: it is run
//! against a small one in this process, which does each on demand.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenpin_benches::load::{self, Account, LoadOptions, Shape, Target, Variant};
use tenpin_protocol::{
    Entries, FRAME_BYTES_MAX_LEAST, HelloReply, Outcome, OutcomeReply, QueueOpened, ReceiveReply,
    ReceivedFixed, ReceivedMessage, Request, Response, SendOutcome, SendReply, split_frame,
};

/// What goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    Lose,
    Repeat,
    Change,
}

/// The messages of the one queue there is, and what shall become of the hundredth.
struct Store {
    visible: VecDeque<(u64, Vec<u8>)>,
    hidden: HashMap<u64, Vec<u8>>,
    next: u64,
    fault: Fault,
}

impl Store {
    fn send(&mut self, body: &[u8]) {
        self.next += 1;
        let mut body = body.to_vec();
        match self.fault {
            Fault::Lose if self.next == 100 => return,
            Fault::Repeat if self.next == 100 => self.visible.push_back((u64::MAX, body.clone())),
            Fault::Change if self.next == 100 => body[30] ^= 4,
            _ => {}
        }
        self.visible.push_back((self.next, body));
    }

    fn receive(&mut self, max: usize) -> Vec<(u64, Vec<u8>)> {
        let count = max.min(self.visible.len());
        let taken: Vec<(u64, Vec<u8>)> = self.visible.drain(..count).collect();
        self.hidden.extend(taken.iter().cloned());
        taken
    }
}

fn serve(store: &Mutex<Store>, mut stream: TcpStream) {
    let mut input = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let mut output = Vec::new();
        while let Some((frame, length)) = split_frame(&input, FRAME_BYTES_MAX_LEAST).unwrap() {
            let request = Request::decode(&frame).unwrap();
            answer(&mut store.lock().unwrap(), &request, frame.correlation, &mut output);
            input.drain(..length);
        }
        if stream.write_all(&output).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

fn answer(store: &mut Store, request: &Request<'_>, correlation: u32, output: &mut Vec<u8>) {
    match request {
        Request::Hello(_) => {
            let reply = HelloReply { frame_bytes_max: FRAME_BYTES_MAX_LEAST as u32, ..HelloReply::default() };
            Response::Hello(reply).encode(correlation, output);
        }
        Request::CreateQueue(_) => Response::CreateQueue(QueueOpened::default()).encode(correlation, output),
        Request::Open(_) => Response::Open(QueueOpened::default()).encode(correlation, output),
        Request::Send(send) => {
            let outcomes: Vec<SendOutcome<'_>> = send
                .entries
                .iter()
                .map(|entry| {
                    store.send(entry.body);
                    SendOutcome::default()
                })
                .collect();
            Response::Send(SendReply { outcomes: Entries::of(&outcomes) }).encode(correlation, output);
        }
        Request::Receive(receive) => {
            let taken = store.receive(usize::from(receive.max));
            let handles: Vec<[u8; 8]> = taken.iter().map(|(number, _)| number.to_le_bytes()).collect();
            let fixed = ReceivedFixed::default();
            let messages: Vec<ReceivedMessage<'_>> = taken
                .iter()
                .zip(&handles)
                .map(|((_, body), handle)| ReceivedMessage { fixed, handle, body, content: body })
                .collect();
            Response::Receive(ReceiveReply { messages: Entries::of(&messages) }).encode(correlation, output);
        }
        Request::Delete(delete) => {
            let outcomes: Vec<Outcome<'_>> = delete
                .handles
                .iter()
                .map(|handle| {
                    store.hidden.remove(&u64::from_le_bytes(handle.try_into().unwrap()));
                    Outcome::default()
                })
                .collect();
            Response::Delete(OutcomeReply { outcomes: Entries::of(&outcomes) }).encode(correlation, output);
        }
        other => panic!("the load does not ask for {other:?}"),
    }
}

/// Starts a broker with a fault, which serves until the process ends.
fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store =
        Arc::new(Mutex::new(Store { visible: VecDeque::new(), hidden: HashMap::new(), next: 0, fault }));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let store = Arc::clone(&store);
            std::thread::spawn(move || serve(&store, stream.unwrap()));
        }
    });
    address
}

fn load_with(fault: Fault, depth: u64) -> Account {
    load_in(Shape::Steps, fault, depth);
    load_in(Shape::Rounds, fault, depth)
}

fn load_in(shape: Shape, fault: Fault, depth: u64) -> Account {
    let options = LoadOptions {
        connections: 2,
        in_flight: 3,
        shape,
        batch: 10,
        body_bytes: 64,
        depth,
        fifo_groups: 0,
        warm_up: Duration::ZERO,
        length: Duration::from_millis(100),
        client_core: None,
    };
    let target = Target::Running { address: start(fault), pid: Some(std::process::id()) };
    let variant = Variant { name: format!("{fault:?}"), target };
    let all = load::run(&options, &[variant], 1, &mut |_, run| assert!(run.rate() > 0.0)).unwrap();
    assert_eq!(all[0].is_clean(), fault == Fault::Nothing, "{}", all[0]);
    *all[0].runs[0].account()
}

#[test]
fn a_good_broker_is_clean() {
    let account = load_with(Fault::Nothing, 0);
    assert!(account.sent > 100 && account.is_clean(), "{account}");
}

#[test]
fn a_deep_queue_is_drained() {
    let account = load_with(Fault::Nothing, 5_000);
    assert!(account.sent > 5_000 && account.is_clean(), "{account}");
}

#[test]
fn a_lost_message_is_counted() {
    assert_eq!(load_with(Fault::Lose, 0).lost, 1);
}

#[test]
fn a_repeated_message_is_counted() {
    assert_eq!(load_with(Fault::Repeat, 0).duplicated, 1);
}

#[test]
fn a_changed_message_is_counted() {
    let account = load_with(Fault::Change, 0);
    assert_eq!((account.corrupted, account.lost), (1, 1), "{account}");
}
