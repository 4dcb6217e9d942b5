//! The load tells a broker that loses, repeats, changes, reorders, hurries, delays or keeps messages from one that
//! does not: it is run against a small one in this process, which does each on demand.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenpin_benches::load::books::WHOLE;
use tenpin_benches::load::{self, Account, Fates, LoadOptions, Shape, Target, Variant};
use tenpin_benches::report::Report;
use tenpin_protocol::{
    Entries, ErrorCode, FRAME_BYTES_MAX_LEAST, HelloReply, Outcome, OutcomeReply, QueueOpened, ReceiveReply,
    ReceivedFixed, ReceivedMessage, Request, Response, SendOutcome, SendReply, Statistic, StatisticCode,
    StatsReply, split_frame,
};

/// What goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    Lose,
    Repeat,
    Change,
    /// The hundredth message changes places with the one before.
    Reorder,
    /// The hundredth comes back before its visibility timeout is over.
    ReturnEarly,
    /// The hundredth comes back long after it.
    ReturnLate,
    /// The hundredth never comes back.
    ReturnNever,
    /// The hundredth comes before its delay is over.
    Hurry,
    /// The hundredth is shown again after it was deleted.
    Revive,
    /// The hundredth is not deleted, though the broker says so.
    Keep,
    /// The send of the hundredth, or one beside it, is answered twice.
    AnswerTwice,
    /// There is no room for the hundredth.
    Full,
    /// The hundredth is stored, though the broker says that there is no room for it.
    Deny,
}

/// When a message can be received: now, later, or never again.
struct Stored {
    number: u64,
    body: Vec<u8>,
    available_at: Instant,
}

/// The messages of all queues as if they were one, and what shall become of the hundredth.
struct Store {
    messages: VecDeque<Stored>,
    next: u64,
    fault: Fault,
    has_answered_twice: bool,
    /// The most sends that came together, before any of them was answered.
    sends_at_once_max: usize,
}

/// The message that something happens to.
const VICTIM: u64 = 100;

impl Store {
    /// Says whether there was room.
    fn send(&mut self, body: &[u8], delay_seconds: u32) -> bool {
        self.next += 1;
        let number = self.next;
        let is_victim = number == VICTIM;
        let mut body = body.to_vec();
        let mut available_at = Instant::now() + Duration::from_secs(u64::from(delay_seconds));
        match self.fault {
            Fault::Full if is_victim => return false,
            Fault::Lose if is_victim => return true,
            Fault::Repeat if is_victim => {
                self.messages.push_back(Stored { number: u64::MAX, body: body.clone(), available_at });
            }
            Fault::Change if is_victim => body[30] ^= 4,
            Fault::Hurry if is_victim => available_at = Instant::now(),
            _ => {}
        }
        self.messages.push_back(Stored { number, body, available_at });
        let count = self.messages.len();
        if self.fault == Fault::Reorder && is_victim && count > 1 {
            self.messages.swap(count - 1, count - 2);
        }
        self.fault != Fault::Deny || !is_victim
    }

    fn receive(&mut self, max: usize, visibility_seconds: u32) -> Vec<(u64, Vec<u8>)> {
        let now = Instant::now();
        let visibility = Duration::from_secs(u64::from(visibility_seconds));
        let mut taken = Vec::new();
        for message in self.messages.iter_mut().filter(|message| message.available_at <= now).take(max) {
            let hidden = match self.fault {
                Fault::ReturnEarly if message.number == VICTIM => visibility / 2,
                Fault::ReturnLate if message.number == VICTIM => visibility + Duration::from_secs(3),
                Fault::ReturnNever if message.number == VICTIM => visibility * 1_000,
                _ => visibility,
            };
            message.available_at = now + hidden;
            taken.push((message.number, message.body.clone()));
        }
        taken
    }

    fn delete(&mut self, number: u64) {
        if self.fault == Fault::Keep && number == VICTIM {
            return;
        }
        if let Some(place) = self.messages.iter().position(|message| message.number == number) {
            if self.fault == Fault::Revive && number == VICTIM {
                self.messages[place].available_at = Instant::now();
                self.messages[place].number = u64::MAX;
            } else {
                self.messages.remove(place);
            }
        }
    }

    /// Whether the send that was just answered is answered again.
    fn answers_again(&mut self) -> bool {
        let is_time = self.fault == Fault::AnswerTwice && self.next >= VICTIM;
        is_time && !std::mem::replace(&mut self.has_answered_twice, true)
    }

    /// Messages that can be received, and all others.
    fn counts(&self) -> (u64, u64) {
        let now = Instant::now();
        let visible = self.messages.iter().filter(|message| message.available_at <= now).count();
        (visible as u64, (self.messages.len() - visible) as u64)
    }
}

fn serve(store: &Mutex<Store>, mut stream: TcpStream) {
    let mut input = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let mut output = Vec::new();
        let mut sends = 0;
        while let Some((frame, length)) = split_frame(&input, FRAME_BYTES_MAX_LEAST).unwrap() {
            let request = Request::decode(&frame).unwrap();
            sends += usize::from(matches!(request, Request::Send(_)));
            answer(store, &request, frame.correlation, &mut output);
            input.drain(..length);
        }
        let mut locked = store.lock().unwrap();
        locked.sends_at_once_max = locked.sends_at_once_max.max(sends);
        drop(locked);
        if stream.write_all(&output).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

/// What there is, or nothing after a short wait.
fn receive(store: &Mutex<Store>, max: usize, visibility_seconds: u32, wait_ms: u32) -> Vec<(u64, Vec<u8>)> {
    let end = Instant::now() + Duration::from_millis(u64::from(wait_ms.min(20)));
    loop {
        let taken = store.lock().unwrap().receive(max, visibility_seconds);
        if !taken.is_empty() || Instant::now() >= end {
            return taken;
        }
        std::thread::yield_now();
    }
}

fn answer(store: &Mutex<Store>, request: &Request<'_>, correlation: u32, output: &mut Vec<u8>) {
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
                    let has_room = store.lock().unwrap().send(entry.body, entry.delay_seconds.unwrap_or(0));
                    let number = if has_room { 0 } else { ErrorCode::StorageFull.number() };
                    SendOutcome { number, ..SendOutcome::default() }
                })
                .collect();
            let reply = Response::Send(SendReply { outcomes: Entries::of(&outcomes) });
            reply.encode(correlation, output);
            if store.lock().unwrap().answers_again() {
                reply.encode(correlation, output);
            }
        }
        Request::Receive(request) => {
            let (max, wait_ms) = (usize::from(request.max), request.wait_ms);
            let taken = receive(store, max, request.visibility_seconds, wait_ms);
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
                    store.lock().unwrap().delete(u64::from_le_bytes(handle.try_into().unwrap()));
                    Outcome::default()
                })
                .collect();
            Response::Delete(OutcomeReply { outcomes: Entries::of(&outcomes) }).encode(correlation, output);
        }
        Request::Stats(_) => {
            let (visible, hidden) = store.lock().unwrap().counts();
            let statistics = [(StatisticCode::Visible, visible), (StatisticCode::InFlight, hidden)]
                .map(|(code, value)| Statistic { number: code.number(), value });
            Response::Stats(StatsReply { statistics: Entries::of(&statistics) }).encode(correlation, output)
        }
        other => panic!("the load does not ask for {other:?}"),
    }
}

/// Starts a broker with a fault, which serves until the process ends.
fn start(fault: Fault) -> (SocketAddr, Arc<Mutex<Store>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let messages = VecDeque::new();
    let store = Store { messages, next: 0, fault, has_answered_twice: false, sends_at_once_max: 0 };
    let store = Arc::new(Mutex::new(store));
    let served = Arc::clone(&store);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let store = Arc::clone(&served);
            std::thread::spawn(move || serve(&store, stream.unwrap()));
        }
    });
    (address, store)
}

fn options() -> LoadOptions {
    LoadOptions {
        connections: 2,
        depth: 3,
        warm_up: Duration::ZERO,
        // Not a time: on a busy machine the hundredth might not be sent in it.
        messages: Some(500),
        ..LoadOptions::default()
    }
}

fn run_with(address: SocketAddr, options: &LoadOptions) -> io::Result<Report> {
    let target = Target::Running { address, pid: Some(std::process::id()) };
    let variant = Variant { name: "small".into(), target };
    load::run("test", options, &[variant], 1, &mut |_| ())
}

fn load_with(fault: Fault, options: &LoadOptions) -> Account {
    let report = run_with(start(fault).0, options).unwrap();
    let record = &report.records[0];
    assert_eq!(report.is_clean(), fault == Fault::Nothing, "{}", record.told());
    assert!(options.rate.is_some() || record.lifecycles_per_second > 0.0);
    record.account
}

/// The same fault in each way of loading.
fn load_in_all_ways(fault: Fault) -> [Account; 3] {
    let steps = LoadOptions { shape: Shape::Steps, ..options() };
    let open = LoadOptions { rate: Some(5_000), ..options() };
    [load_with(fault, &options()), load_with(fault, &steps), load_with(fault, &open)]
}

fn ordered() -> LoadOptions {
    // One connection, so that the small broker, which locks no group, shows them in order.
    LoadOptions { connections: 1, fifo_groups: 1, ..options() }
}

fn left() -> LoadOptions {
    let fates = Fates { left: WHOLE, visibility_seconds: 1, ..Fates::default() };
    LoadOptions { fates, rate: Some(3_000), ..options() }
}

#[test]
fn a_good_broker_is_clean() {
    for account in load_in_all_ways(Fault::Nothing) {
        assert!(account.sent > 100 && account.is_clean(), "{account}");
    }
}

#[test]
fn a_deep_queue_is_drained() {
    let account = load_with(Fault::Nothing, &LoadOptions { backlog: 5_000, ..options() });
    assert!(account.sent > 5_000 && account.is_clean(), "{account}");
}

#[test]
fn many_queues_and_sizes_are_loaded() {
    let load = LoadOptions { bodies: "64:9,100-1000:1".parse().unwrap(), ..options() };
    assert!(load_with(Fault::Nothing, &load).sent > 100);
}

#[test]
fn a_number_of_messages_is_measured() {
    let load = LoadOptions { messages: Some(1_000), ..options() };
    assert!(load_with(Fault::Nothing, &load).sent >= 1_000);
    let open = LoadOptions { rate: Some(5_000), ..load };
    assert_eq!(load_with(Fault::Nothing, &open).sent, 1_000);
}

#[test]
fn a_lost_message_is_counted() {
    assert_eq!(load_in_all_ways(Fault::Lose).map(|account| account.lost), [1; 3]);
}

#[test]
fn a_repeated_message_is_counted() {
    assert_eq!(load_in_all_ways(Fault::Repeat).map(|account| account.duplicated), [1; 3]);
}

#[test]
fn a_message_that_comes_back_from_the_dead_is_counted() {
    assert_eq!(load_in_all_ways(Fault::Revive).map(|account| account.duplicated), [1; 3]);
}

#[test]
fn a_message_that_was_to_be_deleted_and_is_still_there_is_counted() {
    for account in load_in_all_ways(Fault::Keep) {
        assert_eq!((account.undeleted, account.duplicated, account.lost), (1, 0, 0), "{account}");
    }
}

#[test]
fn what_another_run_left_hidden_is_not_counted() {
    let (address, store) = start(Fault::Nothing);
    let hidden_until = Instant::now() + Duration::from_secs(3_600);
    let hidden = Stored { number: u64::MAX, body: b"of another run".to_vec(), available_at: hidden_until };
    store.lock().unwrap().messages.push_back(hidden);
    let account = run_with(address, &options()).unwrap().records[0].account;
    assert!(account.is_clean(), "{account}");
}

#[test]
fn a_changed_message_is_counted() {
    for account in load_in_all_ways(Fault::Change) {
        assert_eq!((account.corrupted, account.lost), (1, 1), "{account}");
    }
}

#[test]
fn messages_that_change_places_in_a_group_are_counted() {
    assert!(load_with(Fault::Nothing, &ordered()).sent > 100);
    assert_eq!(load_with(Fault::Reorder, &ordered()).out_of_order, 1);
}

#[test]
fn messages_that_are_left_come_back_once() {
    let account = load_with(Fault::Nothing, &left());
    assert!(account.redelivered > 100 && account.redelivered == account.sent, "{account}");
}

#[test]
fn a_message_that_comes_back_too_early_is_counted() {
    assert_eq!(load_with(Fault::ReturnEarly, &left()).early, 1);
}

#[test]
fn a_message_that_comes_back_too_late_is_counted() {
    assert_eq!(load_with(Fault::ReturnLate, &left()).late, 1);
}

#[test]
fn a_message_that_does_not_come_back_is_counted() {
    assert_eq!(load_with(Fault::ReturnNever, &left()).lost, 1);
}

#[test]
fn a_delayed_message_that_comes_too_early_is_counted() {
    let fates = Fates { delayed: WHOLE, delay_seconds: 1, visibility_seconds: 30, ..Fates::default() };
    let load = LoadOptions { fates, rate: Some(3_000), ..options() };
    assert!(load_with(Fault::Nothing, &load).sent > 100);
    assert_eq!(load_with(Fault::Hurry, &load).early, 1);
}

#[test]
fn more_than_a_broker_can_do_is_held_back_and_ends_with_the_time() {
    let load = LoadOptions {
        rate: Some(1_000_000_000),
        under_way_max: 3,
        is_overload: true,
        batch: 1,
        messages: None,
        length: Duration::from_secs(1),
        ..options()
    };
    let (address, store) = start(Fault::Nothing);
    let report = run_with(address, &load).unwrap();
    let record = &report.records[0];
    assert!(record.account.sent > 0 && record.account.is_clean(), "{}", record.account);
    assert!(record.more["timetable"]["due_but_unsent"].as_u64().unwrap() > 0, "{}", record.more);
    assert!(store.lock().unwrap().sends_at_once_max <= 3, "no more are under way on a connection");
}

#[test]
fn a_full_broker_is_at_fault_unless_more_is_sent_than_it_can_do() {
    let load = LoadOptions { rate: Some(5_000), ..options() };
    let refused = run_with(start(Fault::Full).0, &load).unwrap_err();
    assert!(refused.to_string().contains("a send was refused"), "{refused}");
    let report = run_with(start(Fault::Full).0, &LoadOptions { is_overload: true, ..load }).unwrap();
    let account = report.records[0].account;
    assert_eq!((account.refused_allowed, account.lost, account.is_clean()), (1, 0, true), "{account}");
}

#[test]
fn a_message_that_comes_though_it_was_refused_is_counted() {
    let load = LoadOptions { rate: Some(5_000), is_overload: true, ..options() };
    let account = load_with(Fault::Deny, &load);
    assert_eq!((account.refused_allowed, account.strange, account.lost), (1, 1, 0), "{account}");
}

#[test]
fn a_second_answer_to_a_send_by_the_timetable_is_no_answer_to_another() {
    let load = LoadOptions { rate: Some(5_000), ..options() };
    let error = run_with(start(Fault::AnswerTwice).0, &load).unwrap_err();
    assert!(error.to_string().contains("an unexpected frame"), "{error}");
}
