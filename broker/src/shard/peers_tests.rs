//! What shards cost each other in bytes (rule 25) and share, with a driver and a mesh that do what a test says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ContentFields, CreateQueueRequest, DeleteRequest, Entries,
    ErrorCode, Goodbye, Hello, ReceiveRequest, Request, Response, SendEntry, SendRequest, StatisticCode,
    StatsRequest, VERSION, split_frame, write_content,
};

use super::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, GATEWAY_INDICES_FROM, JournalRead,
    JournalWrite,
};
use super::{Opened, Shard, ShardOptions, limits, open};
use crate::engine::{Chunk, EngineOptions, WantedChunk};
use crate::exchange::REQUEST_BYTES_OUT_MAX;
use crate::exchange::leases::home_of;
use crate::exchange::link::LinkItem;
use crate::exchange::mesh::{HandedOver, Incoming, Mesh};
use crate::exchange::parcel::{Asker, Item, Parcel};
use crate::flaws::Sound;
use crate::journal::memory::FreshPage;
use crate::journal::real_storage::RealStorage;
use crate::journal::{Durability, LogOptions, Room};

pub(super) const CLOCKS: Clocks = Clocks { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
/// More than anything here takes.
const TURNS_MAX: usize = 5_000;
/// Turns after which a shard that nobody answers has done what it can.
pub(super) const ALONE: usize = 100;

const BODY_BYTES: usize = 100_000;
const BATCH: usize = 10;
/// A batch of such messages as it travels, and what is around messages in an answer.
const BATCH_BYTES_MAX: usize = BATCH * (BODY_BYTES + 1_000);
const AROUND_BYTES_MAX: usize = 4_096;

/// One client's connection.
#[derive(Default)]
pub(super) struct Party {
    is_known: bool,
    is_stopped: bool,
    /// Takes nothing of its answers.
    is_deaf: bool,
    /// Has said goodbye.
    pub(super) has_left: bool,
    /// Its connection breaks in the next turn.
    breaks: bool,
    data: VecDeque<Rc<[u8]>>,
    back: Option<Vec<u8>>,
    pub(super) answered: Vec<u8>,
}

/// A shard's clients; its clock stands still unless time is said to pass.
#[derive(Default)]
pub(super) struct Script {
    parties: Vec<Party>,
    passed: Duration,
}

fn id(index: usize) -> ConnectionId {
    ConnectionId { index: index as u32, generation: 0 }
}

impl Driver for Script {
    type Socket = ();

    fn clocks(&mut self) -> Clocks {
        let Clocks { monotonic_ns, wall_ms } = CLOCKS;
        let passed = self.passed;
        Clocks {
            monotonic_ns: monotonic_ns + passed.as_nanos() as u64,
            wall_ms: wall_ms + passed.as_millis() as u64,
        }
    }

    fn poll<S: EventSink>(&mut self, _timeout: Option<Duration>, sink: &mut S) -> io::Result<()> {
        let clocks = self.clocks();
        sink.turn_begins(clocks);
        for (index, party) in self.parties.iter_mut().enumerate() {
            let connection = id(index);
            if !std::mem::replace(&mut party.is_known, true) {
                sink.event(Event::Accepted { connection });
            }
            if std::mem::take(&mut party.breaks) {
                if let Some(buffer) = party.back.take() {
                    sink.event(Event::Sent { connection, buffer, written: 0 });
                }
                sink.event(Event::Closed { connection, error: None });
                party.is_stopped = true;
            }
            if let Some(buffer) = party.back.take_if(|_| !party.is_deaf) {
                party.answered.extend_from_slice(&buffer);
                let written = buffer.len();
                sink.event(Event::Sent { connection, buffer, written });
            }
            if !party.is_stopped
                && let Some(bytes) = party.data.pop_front()
            {
                sink.event(Event::Data { connection, bytes: &bytes });
            }
        }
        Ok(())
    }

    fn gather(&mut self, _time: Duration) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        let before = self.parties[connection.index as usize].back.replace(buffer);
        assert!(before.is_none(), "one send at a time");
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        self.parties[connection.index as usize].is_stopped = !reading;
    }

    fn close(&mut self, connection: ConnectionId, _linger: bool) {
        assert!(self.parties[connection.index as usize].has_left, "nobody else is let go here");
    }

    fn detach(&mut self, _connection: ConnectionId) {
        panic!("everybody is where they want to be");
    }

    fn take_detached(&mut self, _connection: ConnectionId) -> Option<()> {
        None
    }
    fn attach(&mut self, _socket: ()) -> Option<ConnectionId> {
        None
    }
    fn stop_accepting(&mut self) {}
    fn journal_write(&mut self, _write: JournalWrite) {}
    fn journal_sync(&mut self, _file: FileNumber) {}
    fn journal_read(&mut self, _read: JournalRead) {}
    fn prepare_segment(&mut self, _file: FileNumber, _length: u64) {}
    fn finish_segment(&mut self, _file: FileNumber, _from: u64, _length: u64) {}
    fn remove_segment(&mut self, _file: FileNumber) {}
    fn make_page(&mut self, _page: FreshPage) {}
    fn make_chunk(&mut self, _wanted: WantedChunk) {}
    fn take_chunk(&mut self) -> Option<Chunk> {
        None
    }

    const READ_AHEAD_BYTES_MAX: usize = 0;
}

/// What is on its way to each shard, and how many bytes of answers ever were.
struct Wire<const N: usize> {
    /// By receiver; each with its sender.
    parcels: [VecDeque<(u16, Parcel)>; N],
    answer_bytes: usize,
}

pub(super) struct WireMesh<const N: usize> {
    me: u16,
    wire: Rc<RefCell<Wire<N>>>,
}

impl<const N: usize> Mesh for WireMesh<N> {
    type Socket = ();

    fn shards(&self) -> u16 {
        N as u16
    }

    fn me(&self) -> u16 {
        self.me
    }

    fn send(&mut self, to: u16, parcel: Parcel) {
        let mut wire = self.wire.borrow_mut();
        for item in &parcel.items {
            if let Item::Reply(reply) = item {
                wire.answer_bytes += reply.frame.len();
            }
        }
        wire.parcels[usize::from(to)].push_back((self.me, parcel));
    }

    fn hand_over(&mut self, _to: u16, _handed_over: HandedOver<()>) {
        panic!("everybody is where they want to be");
    }

    fn receive(&mut self, sink: &mut impl FnMut(u16, Incoming<()>)) -> bool {
        let parcels = std::mem::take(&mut self.wire.borrow_mut().parcels[usize::from(self.me)]);
        parcels.into_iter().for_each(|(from, parcel)| sink(from, Incoming::Parcel(parcel)));
        false
    }

    fn prepare_to_park(&mut self) -> bool {
        true
    }

    fn unparked(&mut self) {}
}

/// Shards that take turns as a test says.
pub(super) struct Shards<const N: usize> {
    pub(super) shards: [Shard<Script, WireMesh<N>, Sound>; N],
    wire: Rc<RefCell<Wire<N>>>,
}

pub(super) type Pair = Shards<2>;

impl<const N: usize> Shards<N> {
    pub(super) fn new() -> Self {
        Self::with_in_flight_max(120_000)
    }

    /// They may have so many messages of a queue in flight together.
    fn with_in_flight_max(in_flight_max: u64) -> Self {
        Self::starting(in_flight_max, |_| ())
    }

    /// They have not had a turn yet; `prepare` has put something into them.
    pub(super) fn starting(in_flight_max: u64, prepare: impl FnOnce(&mut [Opened<Sound>; N])) -> Self {
        let parcels = std::array::from_fn(|_| VecDeque::new());
        let wire = Rc::new(RefCell::new(Wire { parcels, answer_bytes: 0 }));
        let mut opened = std::array::from_fn(|me| {
            let me = me as u16;
            let log_options = LogOptions::new(Durability::Memory, [7; 16], me);
            let engine_options =
                EngineOptions { shards: N as u16, in_flight_max, ..EngineOptions::new(me, [1, 2]) };
            // There are no files.
            let mut storage = RealStorage::new("");
            let opened =
                open::<_, Sound>(&mut storage, log_options, engine_options, CLOCKS, [1; 16], &mut |_| {});
            opened.expect("nothing can go wrong")
        });
        prepare(&mut opened);
        let mut me = 0..;
        let shards = opened.map(|opened| {
            let mesh = WireMesh { me: me.next().expect("there are enough"), wire: Rc::clone(&wire) };
            let stop = Arc::new(AtomicBool::new(false));
            Shard::new(Script::default(), mesh, opened, ShardOptions::default(), stop)
        });
        Self { shards, wire }
    }

    pub(super) fn turn(&mut self, shard: usize) {
        self.shards[shard].turn_within(Some(Duration::ZERO)).expect("the shard goes on");
    }

    /// Lets time pass for all.
    pub(super) fn pass(&mut self, time: Duration) {
        self.shards.iter_mut().for_each(|shard| shard.driver_mut().passed += time);
    }

    pub(super) fn party(&mut self, (shard, party): (usize, usize)) -> &mut Party {
        &mut self.shards[shard].driver_mut().parties[party]
    }

    pub(super) fn submit(&mut self, who: (usize, usize), request: &Request<'_>, times: usize) {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        let bytes: Rc<[u8]> = bytes.into();
        self.party(who).data.extend(std::iter::repeat_n(bytes, times));
    }

    /// The same in one piece.
    fn submit_at_once(&mut self, who: (usize, usize), request: &Request<'_>, times: usize) {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        self.party(who).data.push_back(bytes.repeat(times).into());
    }

    /// The next answer, as `look` sees it.
    pub(super) fn answer<R>(&mut self, who: (usize, usize), look: impl FnOnce(Response<'_>) -> R) -> R {
        for _ in 0..TURNS_MAX {
            let answered = &mut self.party(who).answered;
            if let Some((frame, length)) = split_frame(answered, usize::MAX).expect("whole frames") {
                let result = look(Response::decode(&frame).expect("it is an answer"));
                answered.drain(..length);
                return result;
            }
            (0..N).for_each(|shard| self.turn(shard));
        }
        panic!("no answer came");
    }

    pub(super) fn connect(&mut self, shard: usize) -> (usize, usize) {
        let who = self.greet(shard);
        self.answer(who, |answer| assert!(matches!(answer, Response::Hello(_))));
        who
    }

    /// A client that says hello as soon as the shard has a turn.
    pub(super) fn greet(&mut self, shard: usize) -> (usize, usize) {
        let parties = &mut self.shards[shard].driver_mut().parties;
        parties.push(Party::default());
        let who = (shard, parties.len() - 1);
        let hello = Hello {
            version_minimum: VERSION,
            version_maximum: VERSION,
            shard: shard as u16,
            ..Hello::default()
        };
        self.submit(who, &Request::Hello(hello), 1);
        who
    }

    /// A queue whose messages are on shard 1, as they are sent there or as it lives there.
    pub(super) fn create(&mut self, who: (usize, usize), is_fifo: bool) -> u64 {
        let fifo = [Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1))];
        let attributes = Entries::of(if is_fifo { &fifo[..] } else { &[] });
        for number in 0.. {
            let name = format!("q{number}{}", if is_fifo { ".fifo" } else { "" });
            let create = CreateQueueRequest { name: &name, attributes, ..CreateQueueRequest::default() };
            self.submit(who, &Request::CreateQueue(create), 1);
            let (queue, shard) = self.answer(who, |answer| match answer {
                Response::CreateQueue(opened) => (opened.queue, opened.shard),
                other => panic!("{other:?}"),
            });
            if !is_fifo || shard == 1 {
                return queue;
            }
        }
        unreachable!("they live on one shard after the other");
    }

    /// How many queues the first shard has told the second of that are still on their way.
    pub(super) fn queues_under_way(&self) -> usize {
        let wire = self.wire.borrow();
        let items = wire.parcels[1].iter().flat_map(|(_, parcel)| &parcel.items);
        items.map(|item| if let Item::CatalogState(entries) = item { entries.len() } else { 0 }).sum()
    }

    /// How many messages the first shard has given the second that are still on their way.
    pub(super) fn moves_under_way(&self) -> usize {
        let wire = self.wire.borrow();
        let items = wire.parcels[1].iter().flat_map(|(_, parcel)| &parcel.items);
        items.filter(|item| matches!(item, Item::Move(_))).count()
    }

    /// How many messages the second shard has given to clients of the first one that are still on their way.
    fn deliveries_under_way(&self) -> usize {
        let wire = self.wire.borrow();
        let items = wire.parcels[0].iter().flat_map(|(_, parcel)| &parcel.items);
        items.map(|item| if let Item::Reply(reply) = item { reply.deliveries.len() } else { 0 }).sum()
    }

    fn request_bytes_under_way(&self) -> usize {
        let wire = self.wire.borrow();
        let items = wire.parcels[1].iter().flat_map(|(_, parcel)| &parcel.items);
        items.map(|item| if let Item::Request(request) = item { request.payload.len() } else { 0 }).sum()
    }
}

/// Gives `use_it` a batch of messages from this number on; on a FIFO queue each has a group of its own.
fn with_batch(queue: u64, is_fifo: bool, first: usize, use_it: impl FnOnce(&Request<'_>)) {
    let contents: Vec<_> = (first..first + BATCH)
        .map(|number| {
            let id = number.to_string();
            let given = is_fifo.then_some(&id[..]);
            let fields = ContentFields { group: given, deduplication_id: given, ..ContentFields::default() };
            let mut content = Vec::new();
            write_content(&mut content, &vec![1; BODY_BYTES], &fields);
            content
        })
        .collect();
    let entries: Vec<_> = contents
        .iter()
        .map(|content| SendEntry::with_content(content, BODY_BYTES).expect("just written"))
        .collect();
    use_it(&Request::Send(SendRequest { queue, entries: Entries::of(&entries) }));
}

#[test]
fn requests_to_a_shard_that_does_not_answer_wait_by_their_bytes() {
    /// Of one client, and of each of many: more than either bound.
    const REQUESTS: usize = 8;
    const CLIENTS: usize = 20;
    let mut pair = Pair::new();
    let first = pair.connect(0);
    let queue = pair.create(first, true);
    let mut clients = vec![first];
    clients.extend((1..CLIENTS).map(|_| pair.connect(0)));
    // They are the same each time, so that they are stored once.
    with_batch(queue, true, 0, |send| pair.submit(first, send, REQUESTS));
    (0..ALONE).for_each(|_| pair.turn(0));
    let bound = limits::ASKED_ELSEWHERE_BYTES_MAX;
    let under_way = pair.request_bytes_under_way();
    assert!((bound..bound + BATCH_BYTES_MAX).contains(&under_way), "{under_way} bytes of one client");
    for &who in &clients[1..] {
        with_batch(queue, true, 0, |send| pair.submit(who, send, REQUESTS));
    }
    (0..ALONE).for_each(|_| pair.turn(0));
    let bound = REQUEST_BYTES_OUT_MAX;
    let under_way = pair.request_bytes_under_way();
    assert!((bound..bound + BATCH_BYTES_MAX).contains(&under_way), "{under_way} bytes of all clients");
    for who in clients {
        for _ in 0..REQUESTS {
            pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_)), "{answer:?}"));
        }
    }
}

/// What another shard answers a client that takes nothing is bounded, whatever it asks for.
#[test]
fn answers_from_another_shard_to_who_does_not_read_are_bounded() {
    const MESSAGES: usize = 300;
    const RECEIVES: usize = 250;
    let bound = limits::UNSENT_BYTES_MAX
        + limits::ASKED_ELSEWHERE_MAX as usize
            * (limits::SIBLING_REPLY_BYTES_MAX as usize + AROUND_BYTES_MAX);
    let mut wrong = Vec::new();
    for (is_fifo, wait_ms) in [(false, 0), (true, 0), (true, 20_000)] {
        let mut pair = Pair::new();
        let (deaf, sender) = (pair.connect(0), pair.connect(1));
        let queue = pair.create(deaf, is_fifo);
        for first in (0..MESSAGES).step_by(BATCH) {
            with_batch(queue, is_fifo, first, |send| pair.submit(sender, send, 1));
            pair.answer(sender, |answer| match answer {
                Response::Send(reply) => {
                    assert!(reply.outcomes.iter().all(|outcome| outcome.number == 0), "{reply:?}");
                }
                other => panic!("{other:?}"),
            });
        }
        let before = pair.wire.borrow().answer_bytes;
        pair.party(deaf).is_deaf = true;
        let receive = ReceiveRequest { wait_ms, ..ReceiveRequest::new(queue, 10) };
        pair.submit_at_once(deaf, &Request::Receive(receive), RECEIVES);
        for _ in 0..4 * RECEIVES {
            pair.turn(0);
            pair.turn(1);
        }
        let answered = pair.wire.borrow().answer_bytes - before;
        if !(limits::UNSENT_BYTES_MAX..bound).contains(&answered) {
            wrong.push((is_fifo, wait_ms, answered));
        }
        pair.party(deaf).is_deaf = false;
        let mut received = 0;
        while received < MESSAGES {
            received += pair.answer(deaf, |answer| match answer {
                Response::Receive(reply) => reply.messages.iter().count(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(received, MESSAGES);
    }
    assert!(wrong.is_empty(), "{wrong:?}, where {bound} bytes are the bound");
}

/// Who waits for messages and does not take them is given no more than others who do not read, wherever the
/// messages are.
#[test]
fn long_polls_of_who_does_not_read_get_no_more_than_its_requests_would() {
    const MESSAGES: usize = 400;
    // What one answer has, beyond what may be unsent; from another shard those on their way as well.
    let bound = limits::UNSENT_BYTES_MAX + 4 * (BATCH_BYTES_MAX + AROUND_BYTES_MAX);
    for (is_fifo, sends_at) in [(false, 0), (false, 1), (true, 1)] {
        let mut pair = Pair::new();
        let (deaf, sender) = (pair.connect(0), pair.connect(sends_at));
        let queue = pair.create(deaf, is_fifo);
        let receive = ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(queue, 10) };
        pair.submit(deaf, &Request::Receive(receive), limits::LONG_POLLS_PER_CONNECTION_MAX as usize);
        for _ in 0..4 * limits::LONG_POLLS_PER_CONNECTION_MAX {
            pair.turn(0);
            pair.turn(1);
        }
        pair.party(deaf).is_deaf = true;
        for first in (0..MESSAGES).step_by(BATCH) {
            with_batch(queue, is_fifo, first, |send| pair.submit(sender, send, 1));
            pair.answer(sender, |answer| assert!(matches!(answer, Response::Send(_))));
            for _ in 0..ALONE {
                pair.turn(0);
                pair.turn(1);
            }
        }
        let in_flight: u64 = (0..2)
            .map(|shard| pair.shards[shard].engine().counts(queue).map_or(0, |counts| counts.in_flight))
            .sum();
        let given = in_flight as usize * BODY_BYTES;
        assert!(
            (limits::UNSENT_BYTES_MAX - BATCH_BYTES_MAX..bound).contains(&given),
            "{given} bytes, where {bound} are the bound; FIFO: {is_fifo}, sent on shard {sends_at}"
        );
        // The others were answered with nothing, and all messages come once they are asked for again.
        pair.party(deaf).is_deaf = false;
        let mut received = 0;
        for _ in 0..limits::LONG_POLLS_PER_CONNECTION_MAX {
            received += pair.answer(deaf, received_of);
        }
        while received < MESSAGES {
            pair.submit(deaf, &Request::Receive(ReceiveRequest { wait_ms: 0, ..receive }), 1);
            received += pair.answer(deaf, received_of);
        }
        assert_eq!(received, MESSAGES);
    }
}

fn received_of(answer: Response<'_>) -> usize {
    match answer {
        Response::Receive(reply) => reply.messages.iter().count(),
        other => panic!("{other:?}"),
    }
}

/// A receive that looks on several shards is one receive.
#[test]
fn a_receive_that_finds_nothing_anywhere_is_counted_once() {
    let mut pair = Pair::new();
    let (who, sender) = (pair.connect(0), pair.connect(1));
    for is_fifo in [false, true] {
        let queue = pair.create(who, is_fifo);
        let receive =
            |wait_ms| Request::Receive(ReceiveRequest { wait_ms, ..ReceiveRequest::new(queue, 10) });
        pair.submit(who, &receive(0), 1);
        assert_eq!(pair.answer(who, received_of), 0);
        pair.submit(who, &receive(1_000), 1);
        for _ in 0..ALONE {
            pair.turn(0);
            pair.turn(1);
        }
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.answer(who, received_of), 0);
        // What is found on the other shard is found, at once or while it is waited for.
        for wait_ms in [0, 1_000] {
            let first = wait_ms as usize;
            if wait_ms > 0 {
                pair.submit(who, &receive(wait_ms), 1);
                pair.turn(0);
            }
            with_batch(queue, is_fifo, first, |send| pair.submit(sender, send, 1));
            pair.answer(sender, |answer| assert!(matches!(answer, Response::Send(_))));
            if wait_ms == 0 {
                pair.submit(who, &receive(wait_ms), 1);
            }
            let mut received = pair.answer(who, received_of);
            while received < BATCH {
                pair.submit(who, &receive(0), 1);
                let more = pair.answer(who, received_of);
                assert!(more > 0);
                received += more;
            }
        }
        pair.submit(who, &Request::Stats(StatsRequest { queue }), 1);
        let empty = pair.answer(who, |answer| match answer {
            Response::Stats(reply) => {
                let code = StatisticCode::EmptyReceives.number();
                reply.statistics.iter().find(|statistic| statistic.number == code).expect("it is told").value
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(empty, 2, "FIFO: {is_fifo}");
    }
}

/// Rule 2: what another shard gave is not passed on once it may be somebody else's.
#[test]
fn what_is_no_longer_the_receivers_when_it_comes_from_another_shard_is_not_passed_on() {
    for (on_its_way_ms, comes) in [(0, 1), (500, 1), (1_000, 0)] {
        let mut pair = Pair::new();
        let (who, sender) = (pair.connect(0), pair.connect(1));
        let queue = pair.create(who, true);
        with_batch(queue, true, 0, |send| pair.submit(sender, send, 1));
        pair.answer(sender, |answer| assert!(matches!(answer, Response::Send(_))));
        let receive = ReceiveRequest { wait_ms: 0, visibility_seconds: 1, ..ReceiveRequest::new(queue, 1) };
        pair.submit(who, &Request::Receive(receive), 1);
        pair.turn(0);
        for _ in 0..ALONE {
            pair.turn(1);
        }
        assert_eq!(pair.deliveries_under_way(), 1);
        pair.pass(Duration::from_millis(on_its_way_ms));
        assert_eq!(pair.answer(who, received_of), comes, "{on_its_way_ms} ms on its way");
    }
}

/// Rule 4: what was given to a connection that broke before it took anything goes back, whichever shard had it.
#[test]
fn what_a_broken_connection_never_took_goes_back_to_its_shard() {
    for (is_fifo, sends_at) in [(false, 0), (false, 1), (true, 1)] {
        let mut pair = Pair::new();
        let (deaf, sender) = (pair.connect(0), pair.connect(sends_at));
        let queue = pair.create(deaf, is_fifo);
        with_batch(queue, is_fifo, 0, |send| pair.submit(sender, send, 1));
        pair.answer(sender, |answer| assert!(matches!(answer, Response::Send(_))));
        pair.party(deaf).is_deaf = true;
        let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) });
        pair.submit(deaf, &receive, 2);
        let in_flight = |pair: &Pair| -> u64 {
            let counts = |shard: usize| pair.shards[shard].engine().counts(queue);
            (0..2).map(|shard| counts(shard).map_or(0, |counts| counts.in_flight)).sum()
        };
        for _ in 0..ALONE {
            pair.turn(0);
            pair.turn(1);
        }
        assert_eq!(in_flight(&pair), 2);
        pair.party(deaf).breaks = true;
        for _ in 0..ALONE {
            pair.turn(0);
            pair.turn(1);
        }
        assert_eq!(in_flight(&pair), 0, "FIFO: {is_fifo}, sent on shard {sends_at}");
        pair.submit(sender, &receive, 1);
        pair.answer(sender, |answer| match answer {
            Response::Receive(reply) => {
                let message = reply.messages.iter().next().expect("it is there");
                assert_eq!(message.fixed.receive_count, 1, "going back is no receive");
            }
            other => panic!("{other:?}"),
        });
    }
}

/// Who says goodbye has its long polls answered, also those that the shard of their queue could not take before it
/// heard of that.
#[test]
fn a_goodbye_ends_waits_that_another_shard_has_not_taken_yet() {
    let mut pair = Pair::new();
    let who = pair.connect(0);
    let queue = pair.create(who, true);
    let receive = ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(queue, 1) };
    pair.submit(who, &Request::Receive(receive), 1);
    // There is nothing, so it is to wait there.
    [0, 1, 0].into_iter().for_each(|shard| pair.turn(shard));
    pair.party(who).has_left = true;
    pair.submit(who, &Request::Goodbye(Goodbye::default()), 1);
    pair.turn(0);
    pair.shards[1].core.exchange.start.is_over = false;
    assert_eq!(pair.answer(who, received_of), 0);
    pair.answer(who, |answer| assert!(matches!(answer, Response::Goodbye(_)), "{answer:?}"));
}

/// Rule 28: one more long poll than a connection may have is refused, and the others wait on.
#[test]
fn a_connection_has_so_many_long_polls_wherever_they_wait() {
    for (is_fifo, shard) in [(false, 0), (true, 0), (true, 1)] {
        let mut pair = Pair::new();
        let who = pair.connect(shard);
        let queue = pair.create(who, is_fifo);
        let receive = Request::Receive(ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(queue, 1) });
        pair.submit(who, &receive, limits::LONG_POLLS_PER_CONNECTION_MAX as usize + 1);
        pair.answer(who, |answer| match answer {
            Response::Error(error) => assert_eq!(error.code(), Some(ErrorCode::RequestThrottled)),
            other => panic!("{other:?}"),
        });
        for _ in 0..ALONE {
            pair.turn(0);
            pair.turn(1);
        }
        assert!(pair.party(who).answered.is_empty());
    }
}

/// Rule 26: the parts of a limit that the shards have are never more than the whole, whoever asks for them.
#[test]
fn no_more_is_in_flight_on_both_shards_than_on_one() {
    const IN_FLIGHT_MAX: usize = 13;
    let mut pair = Shards::<2>::with_in_flight_max(IN_FLIGHT_MAX as u64);
    let clients = [pair.connect(0), pair.connect(1)];
    let queue = pair.create(clients[0], false);
    let entries = [SendEntry::new(b"a"); BATCH];
    for who in clients {
        pair.submit(who, &Request::Send(SendRequest { queue, entries: Entries::of(&entries) }), 2);
        (0..2).for_each(|_| pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_)))));
    }
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) });
    let mut received = 0;
    for turn in 0..4 * IN_FLIGHT_MAX {
        let who = clients[turn % 2];
        pair.submit(who, &receive, 1);
        received += pair.answer(who, |answer| match answer {
            Response::Error(error) => {
                assert_eq!(error.code(), Some(ErrorCode::OverLimit));
                0
            }
            answer => received_of(answer),
        });
    }
    assert_eq!(received, IN_FLIGHT_MAX);
}

/// Rule 26: of three shards the first has called back what the third does not use, for the second and itself: each
/// has its part of that, and no other shard more than a block.
#[test]
fn a_home_shares_what_it_has_called_back() {
    const BLOCK: u64 = 5;
    for (unused, shared) in [(7, [3, 4]), (30, [25, BLOCK])] {
        let mut trio = Shards::<3>::with_in_flight_max(8 * 3 * BLOCK);
        let first = trio.connect(0);
        let queue = trio.create(first, false);
        let home = usize::from(home_of(queue, 3));
        let [asker, idle] = [1, 2].map(|step| (home + step) % 3);
        trio.shards[home].core.engine.lose_lease(queue, 8 * 3 * BLOCK);
        trio.shards[idle].core.engine.add_lease(queue, unused);
        let clients = [home, asker].map(|shard| trio.connect(shard));
        let entries = [SendEntry::new(b"a")];
        let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) });
        for who in clients {
            trio.submit(who, &Request::Send(SendRequest { queue, entries: Entries::of(&entries) }), 1);
            trio.answer(who, |answer| assert!(matches!(answer, Response::Send(_))));
        }
        clients.into_iter().for_each(|who| trio.submit(who, &receive, 1));
        // The home hears of the asker before anybody has given anything back.
        [asker, home].into_iter().for_each(|shard| trio.turn(shard));
        clients.into_iter().for_each(|who| assert_eq!(trio.answer(who, received_of), 1));
        let leases = [home, asker, idle].map(|shard| trio.shards[shard].engine().lease(queue));
        assert_eq!(leases, [Some((shared[0], 1)), Some((shared[1], 1)), Some((0, 0))]);
    }
}

/// Rules 24 and 26: what becomes free of a limit on one shard is asked for by another one, which has messages for who
/// waits on the first.
#[test]
fn room_in_the_limit_reaches_the_shard_that_has_what_is_waited_for() {
    const IN_FLIGHT_MAX: usize = 3;
    for waits_at_home in [true, false] {
        let mut pair = Shards::<2>::with_in_flight_max(IN_FLIGHT_MAX as u64);
        let clients = [pair.connect(0), pair.connect(1)];
        let queue = pair.create(clients[0], false);
        let shard = (usize::from(home_of(queue, 2)) + usize::from(!waits_at_home)) % 2;
        let (waiting, sender) = (clients[shard], clients[1 - shard]);
        let entries = [SendEntry::new(b"a"); IN_FLIGHT_MAX];
        let send = Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
        pair.submit(waiting, &send, 1);
        pair.answer(waiting, |answer| assert!(matches!(answer, Response::Send(_))));
        let mut handles: Vec<Vec<u8>> = Vec::new();
        while handles.len() < IN_FLIGHT_MAX {
            let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) };
            pair.submit(waiting, &Request::Receive(receive), 1);
            pair.answer(waiting, |answer| match answer {
                Response::Receive(reply) => {
                    handles.extend(reply.messages.iter().map(|message| message.handle.to_vec()))
                }
                other => panic!("{other:?}"),
            });
        }
        pair.submit(sender, &send, 1);
        pair.answer(sender, |answer| assert!(matches!(answer, Response::Send(_))));

        let receive = ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(queue, 1) };
        pair.submit(waiting, &Request::Receive(receive), 1);
        (0..ALONE).for_each(|turn| pair.turn(turn % 2));
        assert!(pair.party(waiting).answered.is_empty(), "all that may be in flight is");
        let deleted = [&handles[0][..]];
        let delete = Request::Delete(DeleteRequest { queue, handles: Entries::of(&deleted) });
        pair.submit(waiting, &delete, 1);
        pair.answer(waiting, |answer| assert!(matches!(answer, Response::Delete(_))));
        for _ in 0..10 {
            pair.pass(Duration::from_millis(10));
            (0..ALONE).for_each(|turn| pair.turn(turn % 2));
        }
        assert!(!pair.party(waiting).answered.is_empty(), "one more may be in flight, {waits_at_home}");
        assert_eq!(pair.answer(waiting, received_of), 1);
    }
}

/// Rule 26: a group that holds much on one shard waits behind others on another one, too.
#[test]
fn a_group_that_is_noisy_on_one_shard_is_on_the_other() {
    let mut pair = Pair::new();
    let (here, there) = (pair.connect(0), pair.connect(1));
    let queue = pair.create(here, false);
    let give = |pair: &mut Pair, who, group: &str| {
        let fields = ContentFields { group: Some(group), ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, group.as_bytes(), &fields);
        let entry = SendEntry::with_content(&content, group.len()).expect("just written");
        pair.submit(who, &Request::Send(SendRequest { queue, entries: Entries::of(&[entry]) }), 1);
        pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_))));
    };
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) });
    for _ in 0..40 {
        give(&mut pair, here, "loud");
        pair.submit(here, &receive, 1);
        assert_eq!(pair.answer(here, received_of), 1);
    }
    // While it has a group, the other shard is told.
    give(&mut pair, there, "kept");
    pair.submit(there, &receive, 1);
    assert_eq!(pair.answer(there, received_of), 1);
    for _ in 0..4 {
        pair.pass(Duration::from_millis(100));
        for _ in 0..10 {
            pair.turn(0);
            pair.turn(1);
        }
    }
    give(&mut pair, there, "loud");
    give(&mut pair, there, "quiet");
    pair.submit(there, &receive, 1);
    pair.answer(there, |answer| match answer {
        Response::Receive(reply) => {
            assert_eq!(reply.messages.iter().map(|message| message.body).collect::<Vec<_>>(), [b"quiet"]);
        }
        other => panic!("{other:?}"),
    });
}

/// Rule 25: a shard that does not answer has so many requests of another one, and the others wait.
#[test]
fn requests_to_a_shard_that_does_not_answer_wait_by_their_number() {
    let most = ShardOptions::default().requests_out_max as usize;
    let each = limits::ASKED_ELSEWHERE_MAX as usize;
    let mut pair = Pair::new();
    let first = pair.connect(0);
    let queue = pair.create(first, true);
    let clients: Vec<_> = (0..2 * most / each).map(|_| pair.connect(0)).collect();
    let fields = ContentFields { group: Some("g"), deduplication_id: Some("d"), ..ContentFields::default() };
    let mut content = Vec::new();
    write_content(&mut content, b"a", &fields);
    let entries = [SendEntry::with_content(&content, 1).expect("just written")];
    let send = Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
    for &who in &clients {
        pair.submit(who, &send, each);
    }
    (0..ALONE).for_each(|_| pair.turn(0));
    let under_way = {
        let wire = pair.wire.borrow();
        let items = wire.parcels[1].iter().flat_map(|(_, parcel)| &parcel.items);
        items.filter(|item| matches!(item, Item::Request(_))).count()
    };
    assert_eq!(under_way, most);
    for who in clients {
        (0..each).for_each(|_| pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_)))));
    }
}

/// Rule 16: whether there is room for what is stored on another shard is for that one to say.
#[test]
fn a_send_to_another_shard_waits_for_no_room_here() {
    let mut pair = Pair::new();
    let who = pair.connect(0);
    let (there, here) = (pair.create(who, true), pair.create(who, false));
    let core = &mut pair.shards[0].core;
    let bound = (1..1_000_u64).map(|mebibytes| mebibytes << 20).find(|&bound| {
        core.log.set_log_bytes_max(bound);
        core.log.room() == Room::NoSends
    });
    assert!(bound.is_some());
    core.room_waits.taken(core.clock.monotonic_ms());
    with_batch(there, true, 0, |send| pair.submit(who, send, 1));
    pair.answer(who, |answer| assert!(matches!(answer, Response::Send(_)), "{answer:?}"));
    with_batch(here, false, 0, |send| pair.submit(who, send, 1));
    (0..ALONE).for_each(|turn| pair.turn(turn % 2));
    assert!(pair.party(who).answered.is_empty(), "what is stored here waits");
}

/// What follows from the end of a gateway's connection is said soon, though the turn in which it ends has said all
/// that it had to say by then.
#[test]
fn a_shard_that_served_a_connection_of_the_gateway_hears_of_its_end() {
    /// The third shard stands for the gateway; it has no turn any more.
    const GATEWAY: u16 = 2;
    let mut trio = Shards::<3>::new();
    let who = trio.connect(0);
    let queue = trio.create(who, true);
    let line = ConnectionId { index: GATEWAY_INDICES_FROM, generation: 1 };
    let say = |trio: &mut Shards<3>, items: Vec<LinkItem>| {
        let parcel = Parcel { items: items.into_iter().map(Item::Link).collect() };
        trio.wire.borrow_mut().parcels[0].push_back((GATEWAY, parcel));
    };
    let output = |trio: &mut Shards<3>| {
        (0..ALONE).for_each(|turn| trio.turn(turn % 2));
        let parcels = std::mem::take(&mut trio.wire.borrow_mut().parcels[usize::from(GATEWAY)]);
        let mut items = parcels.into_iter().flat_map(|(_, parcel)| parcel.items);
        let frames = items.find_map(|item| match item {
            Item::Link(LinkItem::Output { frames, .. }) => Some(frames),
            _ => None,
        });
        frames.expect("it is answered")
    };
    let data = |request: Request<'_>| {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        LinkItem::Data { connection: line, bytes }
    };
    let is_known = |trio: &Shards<3>| {
        trio.shards[1].core.exchange.connections.contains_key(&(0, Asker::Connection(line)))
    };
    let rests = |trio: &mut Shards<3>| {
        (0..ALONE).any(|_| {
            let rests = trio.shards[0].rest() != Some(Duration::ZERO);
            if !rests {
                trio.turn(0);
            }
            rests
        })
    };
    let handles = [&b"none"[..]];
    let delete = Request::Delete(DeleteRequest { queue, handles: Entries::of(&handles) });
    say(&mut trio, vec![LinkItem::Opened(line), data(delete)]);
    let buffer = output(&mut trio);
    assert!(is_known(&trio));
    let goodbye = data(Request::Goodbye(Goodbye::default()));
    say(&mut trio, vec![LinkItem::Sent { connection: line, buffer }, goodbye]);
    let buffer = output(&mut trio);
    assert!(rests(&mut trio), "there is nothing else to do");
    say(&mut trio, vec![LinkItem::Sent { connection: line, buffer }]);
    trio.turn(0);
    assert!(rests(&mut trio));
    trio.turn(1);
    assert!(!is_known(&trio));
}
