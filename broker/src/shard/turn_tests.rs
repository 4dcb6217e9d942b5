//! A shard's turns, with a driver that does what a test says.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tenpin_protocol::{
    CreateQueueRequest, Entries, Hello, ReceiveRequest, Request, Response, SendEntry, SendRequest, VERSION,
    split_frame,
};

use super::driver::{Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite};
use super::{Shard, ShardOptions, open};
use crate::engine::{Chunk, EngineOptions, WantedChunk};
use crate::exchange::mesh::Alone;
use crate::flaws::Sound;
use crate::journal::memory::FreshPage;
use crate::journal::real_storage::RealStorage;
use crate::journal::{Durability, LogOptions};

const CLIENT: ConnectionId = ConnectionId { index: 0, generation: 0 };
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One client's connection, and clocks that stand still.
struct Script {
    clocks: Clocks,
    is_new: bool,
    data: Vec<u8>,
    back: VecDeque<Vec<u8>>,
    answered: Vec<u8>,
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
        }
        while let Some(buffer) = self.back.pop_front() {
            let written = buffer.len();
            sink.event(Event::Sent { connection: CLIENT, buffer, written });
        }
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            sink.event(Event::Data { connection: CLIENT, bytes: &data });
        }
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        assert_eq!(connection, CLIENT);
        self.answered.extend_from_slice(&buffer);
        self.back.push_back(buffer);
    }

    fn set_reading(&mut self, _connection: ConnectionId, _reading: bool) {}
    fn close(&mut self, _connection: ConnectionId, _linger: bool) {}
    fn detach(&mut self, _connection: ConnectionId) {}
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

type TestShard = Shard<Script, Alone<()>, Sound>;

fn shard() -> TestShard {
    let clocks = Clocks { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    let log_options = LogOptions::new(Durability::Memory, [7; 16], 0);
    let engine_options = EngineOptions::new(0, [1, 2]);
    // There are no files.
    let mut storage = RealStorage::new("");
    let opened = open::<_, Sound>(&mut storage, log_options, engine_options, clocks, [1; 16], &mut |_| {});
    let driver =
        Script { clocks, is_new: true, data: Vec::new(), back: VecDeque::new(), answered: Vec::new() };
    let opened = opened.expect("nothing can go wrong");
    Shard::new(driver, Alone::default(), opened, ShardOptions::default(), Arc::new(AtomicBool::new(false)))
}

/// The answer to a request that comes in the next turn, as `look` sees it.
fn ask<R>(shard: &mut TestShard, request: Request<'_>, look: impl FnOnce(Response<'_>) -> R) -> R {
    let driver = shard.driver_mut();
    request.encode(1, &mut driver.data);
    driver.answered.clear();
    shard.turn_within(Some(Duration::ZERO)).expect("the shard goes on");
    let (frame, _) = split_frame(&shard.driver_mut().answered, usize::MAX)
        .expect("it is a frame")
        .expect("it is answered at once");
    look(Response::decode(&frame).expect("it is an answer"))
}

/// A shard with a client that has said hello, and a queue.
fn shard_with_queue() -> (TestShard, u64) {
    let mut shard = shard();
    let hello = Hello { version_minimum: VERSION, version_maximum: VERSION, ..Hello::default() };
    ask(&mut shard, Request::Hello(hello), |answer| assert!(matches!(answer, Response::Hello(_))));
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
    let clocks = &mut shard.driver_mut().clocks;
    clocks.monotonic_ns += 1_000_000;
    clocks.wall_ms += 5 * DAY_MS;
    let receive = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::new(queue, 10) };
    let received = ask(&mut shard, Request::Receive(receive), |answer| match answer {
        Response::Receive(reply) => reply.messages.iter().count(),
        other => panic!("{other:?}"),
    });
    assert_eq!(received, 1);
}
