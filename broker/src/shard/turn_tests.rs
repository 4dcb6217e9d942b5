//! A shard's turns, with a driver that does what a test says.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tenpin_protocol::{
    CreateQueueRequest, DeleteQueueRequest, DeleteRequest, Entries, ErrorCode, Goodbye, Hello, NO_QUEUE,
    PurgeRequest, ReceiveRequest, Request, Response, SendEntry, SendRequest, StatisticCode, StatsRequest,
    VERSION, split_frame,
};

use super::driver::{Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite};
use super::{Shard, ShardOptions, limits, open};
use crate::engine::{Chunk, EngineOptions, WantedChunk};
use crate::exchange::mesh::Alone;
use crate::flaws::Sound;
use crate::journal::memory::FreshPage;
use crate::journal::real_storage::RealStorage;
use crate::journal::{Durability, LogOptions};

const CLIENT: ConnectionId = ConnectionId { index: 0, generation: 0 };
const OTHER: ConnectionId = ConnectionId { index: 1, generation: 0 };
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Two clients' connections, and clocks that stand still.
struct Script {
    clocks: Clocks,
    is_new: bool,
    /// What comes in the next turn, and what was answered, by connection.
    data: [Vec<u8>; 2],
    answered: [Vec<u8>; 2],
    back: VecDeque<(ConnectionId, Vec<u8>)>,
    /// Whether clients take nothing.
    is_deaf: bool,
    /// Connections that were closed, and whether they linger.
    closed: Vec<(ConnectionId, bool)>,
    /// Writes of the log that have not ended, and whether writes end.
    writes: VecDeque<JournalWrite>,
    has_disk: bool,
    /// Bytes of those that have.
    written: Vec<usize>,
    /// For how long requests were to come together.
    gathered: Vec<Duration>,
    /// Files that are filled at once, and reads.
    filled: VecDeque<FileNumber>,
    reads: VecDeque<JournalRead>,
    /// What was written, where that is kept; else all reads fail.
    files: Option<BTreeMap<FileNumber, Vec<u8>>>,
}

impl Script {
    fn keep(&mut self, write: &JournalWrite) {
        let Some(files) = &mut self.files else { return };
        let (bytes, start) = (write.bytes.as_ref(), write.offset as usize);
        let file = files.entry(write.file).or_default();
        file.resize(file.len().max(start + bytes.len()), 0);
        file[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&mut self, read: JournalRead) -> io::Result<Vec<u8>> {
        let file = self.files.as_mut().ok_or(io::ErrorKind::Other)?.entry(read.file).or_default();
        let (start, end) = (read.offset as usize, read.offset as usize + read.length as usize);
        file.resize(file.len().max(end), 0);
        Ok(file[start..end].to_vec())
    }
}

impl Driver for Script {
    type Socket = ();

    fn clocks(&mut self) -> Clocks {
        self.clocks
    }

    fn poll<S: EventSink>(&mut self, _timeout: Option<Duration>, sink: &mut S) -> io::Result<()> {
        sink.turn_begins(self.clocks);
        if std::mem::take(&mut self.is_new) {
            sink.event(Event::Accepted { connection: CLIENT });
            sink.event(Event::Accepted { connection: OTHER });
        }
        while self.has_disk
            && let Some(write) = self.writes.pop_front()
        {
            self.written.push(write.bytes.as_ref().len());
            self.keep(&write);
            sink.event(Event::JournalWritten(Ok(())));
        }
        while let Some(file) = self.filled.pop_front() {
            sink.event(Event::SegmentPrepared { file, result: Ok(()) });
        }
        while let Some(read) = self.reads.pop_front() {
            let result = self.read(read);
            sink.event(Event::JournalReadDone { read, result });
        }
        while !self.is_deaf
            && let Some((connection, buffer)) = self.back.pop_front()
        {
            let written = buffer.len();
            sink.event(Event::Sent { connection, buffer, written });
        }
        for connection in [CLIENT, OTHER] {
            let data = std::mem::take(&mut self.data[connection.index as usize]);
            if !data.is_empty() {
                sink.event(Event::Data { connection, bytes: &data });
            }
        }
        Ok(())
    }

    fn gather(&mut self, time: Duration) -> io::Result<()> {
        self.gathered.push(time);
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        self.answered[connection.index as usize].extend_from_slice(&buffer);
        self.back.push_back((connection, buffer));
    }

    fn set_reading(&mut self, _connection: ConnectionId, _reading: bool) {}
    fn close(&mut self, connection: ConnectionId, linger: bool) {
        self.closed.push((connection, linger));
    }
    fn detach(&mut self, _connection: ConnectionId) {}
    fn take_detached(&mut self, _connection: ConnectionId) -> Option<()> {
        None
    }
    fn attach(&mut self, _socket: ()) -> Option<ConnectionId> {
        None
    }
    fn stop_accepting(&mut self) {}
    fn journal_write(&mut self, write: JournalWrite) {
        self.writes.push_back(write);
    }
    fn journal_sync(&mut self, _file: FileNumber) {}
    fn journal_read(&mut self, read: JournalRead) {
        self.reads.push_back(read);
    }
    fn prepare_segment(&mut self, file: FileNumber, _length: u64) {
        self.filled.push_back(file);
    }
    fn finish_segment(&mut self, file: FileNumber, _from: u64, _length: u64) {
        self.filled.push_back(file);
    }
    fn remove_segment(&mut self, _file: FileNumber) {}
    fn make_page(&mut self, _page: FreshPage) {}
    fn make_chunk(&mut self, _wanted: WantedChunk) {}
    fn take_chunk(&mut self) -> Option<Chunk> {
        None
    }

    const READ_AHEAD_BYTES_MAX: usize = 0;
}

type TestShard = Shard<Script, Alone<()>, Sound>;

/// Where there is no disk.
fn shard(log_options: LogOptions) -> TestShard {
    shard_in("".as_ref(), log_options)
}

fn shard_in(folder: &Path, log_options: LogOptions) -> TestShard {
    shard_with(folder, log_options, ShardOptions::default())
}

fn shard_with(folder: &Path, log_options: LogOptions, options: ShardOptions) -> TestShard {
    let clocks = Clocks { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    let engine_options = EngineOptions::new(0, [1, 2]);
    let mut storage = RealStorage::new(folder);
    let opened = open::<_, Sound>(&mut storage, log_options, engine_options, clocks, [1; 16], &mut |_| {});
    let driver = Script {
        clocks,
        is_new: true,
        data: Default::default(),
        answered: Default::default(),
        back: VecDeque::new(),
        is_deaf: false,
        closed: Vec::new(),
        writes: VecDeque::new(),
        has_disk: true,
        written: Vec::new(),
        gathered: Vec::new(),
        filled: VecDeque::new(),
        reads: VecDeque::new(),
        files: None,
    };
    let opened = opened.expect("nothing can go wrong");
    Shard::new(driver, Alone::default(), opened, options, Arc::new(AtomicBool::new(false)))
}

fn memory() -> LogOptions {
    LogOptions::new(Durability::Memory, [7; 16], 0)
}

fn turn(shard: &mut TestShard) {
    shard.turn_within(Some(Duration::ZERO)).expect("the shard goes on");
}

/// What a client was answered since this was last asked: messages sent, refused or received.
fn answers(shard: &mut TestShard, connection: ConnectionId) -> Vec<Result<usize, ErrorCode>> {
    let bytes = std::mem::take(&mut shard.driver_mut().answered[connection.index as usize]);
    let (mut answers, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((frame, length)) = split_frame(rest, usize::MAX).expect("it is a frame") {
        answers.push(match Response::decode(&frame).expect("it is an answer") {
            Response::Send(reply) => match reply.outcomes.iter().find_map(|outcome| outcome.code()) {
                Some(code) => Err(code),
                None => Ok(reply.outcomes.len()),
            },
            Response::Delete(reply) => Ok(reply.outcomes.len()),
            Response::Purge(_) | Response::DeleteQueue(_) => Ok(0),
            Response::Error(error) => Err(error.code().expect("a known one")),
            Response::Receive(reply) => Ok(reply.messages.iter().count()),
            other => panic!("{other:?}"),
        });
        rest = &rest[length..];
    }
    answers
}

/// Says something that is heard in the next turn.
fn say(shard: &mut TestShard, connection: ConnectionId, request: Request<'_>) {
    request.encode(1, &mut shard.driver_mut().data[connection.index as usize]);
}

/// The answer to a request that comes in the next turn, as `look` sees it.
fn ask<R>(shard: &mut TestShard, request: Request<'_>, look: impl FnOnce(Response<'_>) -> R) -> R {
    say(shard, CLIENT, request);
    shard.driver_mut().answered[0].clear();
    turn(shard);
    // Its ground is on disk in the turn after that.
    (0..2).for_each(|_| turn(shard));
    let answered = std::mem::take(&mut shard.driver_mut().answered[0]);
    let (frame, _) = split_frame(&answered, usize::MAX).expect("it is a frame").expect("it is answered soon");
    look(Response::decode(&frame).expect("it is an answer"))
}

/// A shard with clients that have said hello, and a queue.
fn shard_with_queue() -> (TestShard, u64) {
    with_queue(shard(memory()))
}

fn with_queue(mut shard: TestShard) -> (TestShard, u64) {
    let hello = Hello { version_minimum: VERSION, version_maximum: VERSION, ..Hello::default() };
    say(&mut shard, OTHER, Request::Hello(hello));
    ask(&mut shard, Request::Hello(hello), |answer| assert!(matches!(answer, Response::Hello(_))));
    shard.driver_mut().answered[1].clear();
    let create = CreateQueueRequest { name: "q", ..CreateQueueRequest::default() };
    let queue = ask(&mut shard, Request::CreateQueue(create), |answer| match answer {
        Response::CreateQueue(opened) => opened.queue,
        other => panic!("{other:?}"),
    });
    (shard, queue)
}

#[test]
fn the_turn_in_which_the_wall_jumps_far_expires_nothing() {
    let (mut shard, queue) = shard_with_queue();
    let entries = [SendEntry::new(b"kept")];
    let send = SendRequest { queue, entries: Entries::of(&entries) };
    ask(&mut shard, Request::Send(send), |answer| assert!(matches!(answer, Response::Send(_))));
    assert_eq!(statistic(&mut shard, StatisticCode::RetentionHeldBack), 0);
    let clocks = &mut shard.driver_mut().clocks;
    clocks.monotonic_ns += 1_000_000;
    clocks.wall_ms += 5 * DAY_MS;
    let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) };
    let received = ask(&mut shard, Request::Receive(receive), |answer| match answer {
        Response::Receive(reply) => reply.messages.iter().count(),
        other => panic!("{other:?}"),
    });
    assert_eq!(received, 1);
    assert_eq!(statistic(&mut shard, StatisticCode::RetentionHeldBack), 1);
    // Operators are told, once, and when the time is believed again.
    assert!(shard.news().is_some_and(|text| text.contains("wall clock")));
    assert_eq!(shard.news(), None);
    pass(&mut shard, Duration::from_secs(3_600));
    turn(&mut shard);
    assert!(shard.news().is_some_and(|text| text.ends_with("again")));
    assert_eq!(shard.news(), None);
}

/// One of the counters of the whole shard.
fn statistic(shard: &mut TestShard, code: StatisticCode) -> u64 {
    ask(shard, Request::Stats(StatsRequest { queue: NO_QUEUE }), |answer| match answer {
        Response::Stats(reply) => {
            reply.statistics.iter().find(|one| one.number == code.number()).expect("it is told").value
        }
        other => panic!("{other:?}"),
    })
}

/// Rule 20, where there is one shard: a purge is there once it is on disk.
#[test]
fn the_minute_between_purges_begins_when_the_first_is_on_disk() {
    const MINUTE: Duration = Duration::from_secs(60);
    const MILLISECOND: Duration = Duration::from_millis(1);
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let log = LogOptions::new(Durability::Fsync, [7; 16], 0);
    let (mut shard, queue) = with_queue(shard_in(folder.path(), log));
    let purge = Request::Purge(PurgeRequest { queue });
    let in_progress = [Err(ErrorCode::PurgeQueueInProgress)];
    shard.driver_mut().has_disk = false;
    say(&mut shard, CLIENT, purge);
    turn(&mut shard);
    pass(&mut shard, MINUTE + MILLISECOND);
    say(&mut shard, OTHER, purge);
    (0..5).for_each(|_| turn(&mut shard));
    assert_eq!((answers(&mut shard, CLIENT), answers(&mut shard, OTHER)), (vec![], vec![]));
    shard.driver_mut().has_disk = true;
    (0..5).for_each(|_| turn(&mut shard));
    assert_eq!(answers(&mut shard, CLIENT), [Ok(0)]);
    assert_eq!(answers(&mut shard, OTHER), in_progress);
    for (passes, expected) in [(MINUTE - MILLISECOND, in_progress), (MILLISECOND, [Ok(0)])] {
        pass(&mut shard, passes);
        say(&mut shard, OTHER, purge);
        (0..5).for_each(|_| turn(&mut shard));
        assert_eq!(answers(&mut shard, OTHER), expected);
    }
}

/// Rule 1: that a queue is not there any more is known once its deletion is on disk.
#[test]
fn a_purge_of_what_is_deleted_rests_on_the_deletion() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let log = LogOptions::new(Durability::Fsync, [7; 16], 0);
    let (mut shard, queue) = with_queue(shard_in(folder.path(), log));
    shard.driver_mut().has_disk = false;
    say(&mut shard, CLIENT, Request::DeleteQueue(DeleteQueueRequest { queue }));
    turn(&mut shard);
    say(&mut shard, OTHER, Request::Purge(PurgeRequest { queue }));
    (0..5).for_each(|_| turn(&mut shard));
    assert_eq!((answers(&mut shard, CLIENT), answers(&mut shard, OTHER)), (vec![], vec![]));
    shard.driver_mut().has_disk = true;
    (0..5).for_each(|_| turn(&mut shard));
    assert_eq!(answers(&mut shard, CLIENT), [Ok(0)]);
    assert_eq!(answers(&mut shard, OTHER), [Err(ErrorCode::QueueDoesNotExist)]);
}

/// Rule 15: what can never be read again is set aside, and whoever runs the broker is told, once.
#[test]
fn operators_are_told_of_what_the_disk_has_lost() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let segment_bytes = 64 << 10;
    let log = LogOptions::new(Durability::Fsync, [7; 16], 0);
    let log = LogOptions { segment_bytes, hot_bytes_max: 0, ..log };
    let (mut shard, queue) = with_queue(shard_in(folder.path(), log));
    let send = |shard: &mut TestShard, bytes: usize| {
        let body = vec![7; bytes];
        let entries = [SendEntry::new(&body)];
        say(shard, CLIENT, Request::Send(SendRequest { queue, entries: Entries::of(&entries) }));
        (0..3).for_each(|_| turn(shard));
    };
    send(&mut shard, 100);
    say(&mut shard, OTHER, Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) }));
    (0..3).for_each(|_| turn(&mut shard));
    shard.driver_mut().answered[1].clear();
    // All that comes later is deleted at once, so that the segment that the first one is in is cleaned.
    let told = (0..200).find_map(|_| {
        send(&mut shard, 20_000);
        let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 1) };
        say(&mut shard, OTHER, Request::Receive(receive));
        (0..3).for_each(|_| turn(&mut shard));
        delete_received(&mut shard, queue);
        (0..3).for_each(|_| turn(&mut shard));
        shard.news()
    });
    assert!(told.is_some_and(|text| text.contains("cannot be read any more")), "{told:?}");
    assert_eq!(shard.engine().counts(queue).map(|counts| counts.damaged), Some(1));
    (0..10).for_each(|_| turn(&mut shard));
    assert_eq!(shard.news(), None);
}

/// Rule 31: of many queues a turn looks at some.
#[test]
fn counters_of_many_queues_are_added_up_over_several_turns() {
    let (mut shard, first) = shard_with_queue();
    let mut last = first;
    for number in 0..2 * limits::QUEUES_A_TURN {
        let name = format!("q{number}");
        let create = CreateQueueRequest { name: &name, ..CreateQueueRequest::default() };
        say(&mut shard, CLIENT, Request::CreateQueue(create));
        turn(&mut shard);
        let answered = std::mem::take(&mut shard.driver_mut().answered[0]);
        let (frame, _) = split_frame(&answered, usize::MAX).expect("a frame").expect("it is answered");
        if let Ok(Response::CreateQueue(opened)) = Response::decode(&frame) {
            last = opened.queue;
        }
    }
    assert_ne!(first, last);
    for queue in [first, last] {
        let entries = [SendEntry::new(b"counted")];
        let send = SendRequest { queue, entries: Entries::of(&entries) };
        ask(&mut shard, Request::Send(send), |answer| assert!(matches!(answer, Response::Send(_))));
    }
    shard.driver_mut().answered[0].clear();
    let stats = Request::Stats(StatsRequest { queue: NO_QUEUE });
    say(&mut shard, CLIENT, stats);
    say(&mut shard, CLIENT, stats);
    say(&mut shard, CLIENT, Request::Goodbye(Goodbye::default()));
    let mut turns = 0;
    while shard.driver_mut().answered[0].is_empty() {
        turn(&mut shard);
        turns += 1;
        assert!(turns < 10);
        if shard.driver_mut().answered[0].is_empty() {
            assert_eq!(shard.rest(), Some(Duration::ZERO), "it does not wait for anything");
        }
    }
    assert_eq!(turns, 3, "there is one more queue than two turns look at");
    turn(&mut shard);
    let answered = std::mem::take(&mut shard.driver_mut().answered[0]);
    let mut rest = &answered[..];
    for _ in 0..2 {
        let (frame, length) = split_frame(rest, usize::MAX).expect("a frame").expect("both are answered");
        let Ok(Response::Stats(reply)) = Response::decode(&frame) else { panic!("{frame:?}") };
        let value = |code: StatisticCode| {
            reply.statistics.iter().find(|statistic| statistic.number == code.number()).map(|one| one.value)
        };
        assert_eq!(value(StatisticCode::Visible), Some(2));
        assert_eq!(value(StatisticCode::Queues), Some(2 * u64::from(limits::QUEUES_A_TURN) + 1));
        rest = &rest[length..];
    }
    let (frame, _) = split_frame(rest, usize::MAX).expect("a frame").expect("the goodbye follows");
    assert!(matches!(Response::decode(&frame), Ok(Response::Goodbye(_))));
}

#[test]
fn a_shard_that_polls_sleeps_once_nothing_has_happened_for_so_long() {
    let options = ShardOptions { busy_poll_ns: 2_000_000, ..ShardOptions::default() };
    let (mut shard, queue) = with_queue(shard_with("".as_ref(), memory(), options));
    // The answer comes back sent.
    turn(&mut shard);
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(shard.rest(), Some(Duration::ZERO));
            pass(&mut shard, Duration::from_millis(1));
            turn(&mut shard);
        }
        assert_ne!(shard.rest(), Some(Duration::ZERO));
        let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) };
        ask(&mut shard, Request::Receive(receive), |_| ());
        turn(&mut shard);
    }
}

const GATHER: Duration = Duration::from_micros(300);

/// A shard that lets requests come together for so long.
fn shard_that_gathers(gather: Duration) -> (TestShard, u64) {
    let options = ShardOptions { gather_ns: gather.as_nanos() as u64, ..ShardOptions::default() };
    with_queue(shard_with("".as_ref(), memory(), options))
}

/// A turn, and for how long the shard let requests come together before it.
fn next(shard: &mut TestShard) -> Vec<Duration> {
    shard.turn().expect("the shard goes on");
    std::mem::take(&mut shard.driver_mut().gathered)
}

#[test]
fn requests_come_together_only_after_a_turn_that_had_some_and_until_the_next_is_due() {
    let (mut shard, queue) = shard_that_gathers(GATHER);
    next(&mut shard);
    assert_eq!(next(&mut shard), [], "the last turn brought back what was sent, and no request");
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) });
    for (passed_us, left_us) in [(0, Some(300)), (100, Some(200)), (300, None), (400, None)] {
        say(&mut shard, CLIENT, receive);
        turn(&mut shard);
        pass(&mut shard, Duration::from_micros(passed_us));
        let left: Vec<_> = left_us.map(Duration::from_micros).into_iter().collect();
        assert_eq!(next(&mut shard), left, "{passed_us} microseconds after the turn began");
        assert_eq!(next(&mut shard), []);
    }
}

/// Rule 10: what is due comes neither later nor sooner because requests come together.
#[test]
fn a_shard_gathers_and_rests_until_the_next_deadline_and_no_longer() {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let (mut shard, queue) = shard_that_gathers(10 * MILLISECOND);
    next(&mut shard);
    let wait = |wait_ms| Request::Receive(ReceiveRequest { wait_ms, ..ReceiveRequest::new(queue, 10) });
    for (wait_ms, passed_ms, gathers_ms, rests_ms) in
        [(5, 0, Some(5), Some(0)), (5, 3, Some(2), Some(0)), (5, 6, None, Some(0)), (14, 4, Some(6), Some(4))]
    {
        answers(&mut shard, CLIENT);
        say(&mut shard, CLIENT, wait(wait_ms));
        turn(&mut shard);
        pass(&mut shard, passed_ms * MILLISECOND);
        let gathers = shard.gathers_for();
        let asked = format!("{wait_ms} ms to wait, {passed_ms} ms later");
        assert_eq!(gathers, gathers_ms.map(|ms: u32| ms * MILLISECOND), "{asked}");
        assert_eq!(shard.gather().unwrap(), gathers.is_some());
        pass(&mut shard, gathers.unwrap_or_default());
        assert_eq!(shard.rest(), rests_ms.map(|ms: u32| ms * MILLISECOND), "{asked}");
        pass(&mut shard, rests_ms.unwrap_or_default() * MILLISECOND);
        turn(&mut shard);
        assert_eq!(answers(&mut shard, CLIENT), [Ok(0)], "{asked}: the wait is over");
        turn(&mut shard);
    }
}

#[test]
fn a_shard_that_stops_lets_nothing_come_together() {
    let (mut shard, queue) = shard_that_gathers(GATHER);
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) });
    say(&mut shard, CLIENT, receive);
    turn(&mut shard);
    assert_eq!(shard.gathers_for(), Some(GATHER));
    shard.core.begin_drain();
    say(&mut shard, CLIENT, receive);
    turn(&mut shard);
    assert_eq!(shard.gathers_for(), None);
}

#[test]
fn a_send_waits_for_room_as_long_as_others_take_messages() {
    let log = LogOptions { segment_bytes: 64 << 10, hot_bytes_max: 2 << 20, ..memory() };
    let (mut shard, queue) = with_queue(shard(log));
    let body = [7; 10_000];
    let entries = [SendEntry::new(&body)];
    let send = Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) });
    let full = Err(ErrorCode::StorageFull);
    let answer = |shard: &mut TestShard, connection, request| {
        say(shard, connection, request);
        turn(shard);
        answers(shard, connection)
    };
    while answer(&mut shard, CLIENT, send) == [Ok(1)] {}
    assert_eq!(answer(&mut shard, CLIENT, send), [full], "nobody takes anything");

    let received = answer(&mut shard, OTHER, receive);
    assert!(matches!(received[..], [Ok(1..)]), "{received:?}");
    assert_eq!(answer(&mut shard, CLIENT, send), [], "it waits");
    assert_eq!(answer(&mut shard, OTHER, send), [full], "who takes messages is not kept from deleting them");
    let rest = shard.rest().expect("it waits for a bounded time");
    assert!(Duration::ZERO < rest && rest <= Duration::from_millis(100), "{rest:?}");
    pass(&mut shard, rest);
    turn(&mut shard);
    assert_eq!(answers(&mut shard, CLIENT), [full], "nothing was taken any more");

    // As messages are taken and deleted, room comes.
    assert!(matches!(answer(&mut shard, OTHER, receive)[..], [Ok(1..)]));
    assert_eq!(answer(&mut shard, CLIENT, send), []);
    let sent = (0..200).find_map(|_| {
        say(&mut shard, OTHER, receive);
        turn(&mut shard);
        delete_received(&mut shard, queue);
        turn(&mut shard);
        let answered = answers(&mut shard, CLIENT);
        (!answered.is_empty()).then_some(answered)
    });
    assert_eq!(sent, Some(vec![Ok(1)]));
}

/// Of a full log most has to be read back from disk before it is taken.
#[test]
fn a_send_waits_for_room_while_cold_messages_are_taken() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let log = LogOptions::new(Durability::Fsync, [7; 16], 0);
    let log = LogOptions { segment_bytes: 64 << 10, hot_bytes_max: 0, log_bytes_max: Some(3 << 20), ..log };
    let (mut shard, queue) = with_queue(shard_in(folder.path(), log));
    shard.driver_mut().files = Some(BTreeMap::new());
    let body = [7; 10_000];
    let entries = [SendEntry::new(&body)];
    let send = Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
    let answer = |shard: &mut TestShard, connection, request| {
        say(shard, connection, request);
        (0..20).for_each(|_| turn(shard));
        answers(shard, connection)
    };
    while answer(&mut shard, CLIENT, send) == [Ok(1)] {}
    assert_eq!(answer(&mut shard, CLIENT, send), [Err(ErrorCode::StorageFull)], "nobody takes anything");
    let receive = Request::Receive(ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) });
    assert_eq!(answer(&mut shard, OTHER, receive), [Ok(10)]);
    assert_eq!(answer(&mut shard, CLIENT, send), [], "it waits");
}

/// Lets time pass.
fn pass(shard: &mut TestShard, time: Duration) {
    let clocks = &mut shard.driver_mut().clocks;
    clocks.monotonic_ns += time.as_nanos() as u64;
    clocks.wall_ms += time.as_millis() as u64;
}

/// Deletes what the other client has received.
fn delete_received(shard: &mut TestShard, queue: u64) {
    let bytes = std::mem::take(&mut shard.driver_mut().answered[1]);
    let (mut handles, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((frame, length)) = split_frame(rest, usize::MAX).expect("it is a frame") {
        if let Response::Receive(reply) = Response::decode(&frame).expect("it is an answer") {
            handles.extend(reply.messages.iter().map(|message| message.handle));
        }
        rest = &rest[length..];
    }
    say(shard, OTHER, Request::Delete(DeleteRequest { queue, handles: Entries::of(&handles) }));
}

/// Rule 14: behind the last batch of a log that falls idle stands a mark that says so, so that its loss is seen.
#[test]
fn a_log_that_falls_idle_gets_one_closing_mark() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let log = LogOptions::new(Durability::Fsync, [7; 16], 0);
    let (mut shard, _) = with_queue(shard_in(folder.path(), log));
    let before = shard.driver_mut().written.len();
    for passes_ms in [50, 60, 500, 500] {
        pass(&mut shard, Duration::from_millis(passes_ms));
        (0..3).for_each(|_| turn(&mut shard));
    }
    assert_eq!(shard.driver_mut().written[before..], [crate::journal::BLOCK_BYTES]);
}

/// Who is let go and does not take what it is owed is closed in the end, though its input had to wait and it goes
/// on sending.
#[test]
fn who_is_told_to_go_and_takes_nothing_is_closed() {
    let (mut shard, _) = shard_with_queue();
    turn(&mut shard);
    shard.driver_mut().is_deaf = true;
    shard.core.connections.get_mut(CLIENT).expect("it is there").stalled = true;
    shard.core.refuse_connection(CLIENT, ErrorCode::RequestThrottled, "too much");
    let half = Duration::from_millis(ShardOptions::default().keep_alive_timeout_ms / 2);
    for is_closed in [false, false, true] {
        say(&mut shard, CLIENT, Request::Stats(StatsRequest { queue: NO_QUEUE }));
        turn(&mut shard);
        assert_eq!(shard.driver_mut().closed.contains(&(CLIENT, false)), is_closed);
        pass(&mut shard, half);
    }
}

/// A driver keeps who is to leave until it has taken what was sent to it.
#[test]
fn who_is_to_leave_for_another_shard_and_does_not_is_closed() {
    let (mut shard, _) = shard_with_queue();
    let most_ms = ShardOptions::default().handshake_timeout_ms;
    let wait = |shard: &mut TestShard, ms| {
        pass(shard, Duration::from_millis(ms));
        turn(shard);
        std::mem::take(&mut shard.driver_mut().closed)
    };
    // It has as long from then on, however late its hello came.
    assert_eq!(wait(&mut shard, most_ms - 1_000), []);
    shard.core.begin_leaving(CLIENT, 1);
    assert_eq!(wait(&mut shard, most_ms - 1_000), []);
    assert_eq!(wait(&mut shard, 1_000), [(CLIENT, false)]);
}

/// Who says goodbye is answered, also where its input had to wait for longer than it may be silent.
#[test]
fn a_goodbye_that_had_to_wait_is_answered() {
    let (mut shard, _) = shard_with_queue();
    shard.core.connections.get_mut(CLIENT).expect("it is there").stalled = true;
    say(&mut shard, CLIENT, Request::Goodbye(Goodbye::default()));
    turn(&mut shard);
    pass(&mut shard, Duration::from_millis(ShardOptions::default().keep_alive_timeout_ms));
    shard.core.stalled.push_back(CLIENT);
    (0..3).for_each(|_| turn(&mut shard));
    let closed = &shard.driver_mut().closed;
    assert_eq!(closed.iter().find(|(id, _)| *id == CLIENT), Some(&(CLIENT, true)));
}
