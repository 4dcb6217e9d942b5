//! What a message costs in a whole shard but its kernel: frames in, replies out, with a driver that
//! does nothing.
//!
//! `cargo bench -p tenpin-broker --bench shard` prints the processor's time for one message to be sent,
//! received and deleted, in rounds as `tenpin-bench throughput` asks for them. An argument is the number
//! of turns of a run, few of them for a simulated processor that counts instructions. `-- longest` prints how
//! long turns are at most, and of what.

#[path = "shard/turns.rs"]
mod turns;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tenpin_broker::engine::{Chunk, EngineOptions, WantedChunk};
use tenpin_broker::exchange::mesh::Alone;
use tenpin_broker::flaws::Sound;
use tenpin_broker::journal::memory::FreshPage;
use tenpin_broker::journal::real_storage::RealStorage;
use tenpin_broker::journal::{Durability, LogOptions};
use tenpin_broker::shard::driver::{
    Clocks, ConnectionId, Driver, Event, EventSink, FileNumber, JournalRead, JournalWrite,
};
use tenpin_broker::shard::{Shard, ShardOptions, open};
use tenpin_protocol::{
    CreateQueueRequest, DeleteRequest, Entries, Hello, ReceiveRequest, Request, Response, SendEntry,
    SendRequest, split_frame,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 8;
const BATCH: usize = 10;
const BODY: [u8; 64] = [b'x'; 64];
const FRAME_BYTES_MAX: usize = 4 << 20;

/// Clients that ask and read as fast as the shard goes.
struct Clients {
    clocks: Clocks,
    /// What each connection asks in the next turn, and what it was answered in this.
    asked: Vec<Vec<u8>>,
    answered: Vec<Vec<u8>>,
    accepted: bool,
    /// Memory that the shard wants made ahead, and chunks that were.
    pages: Vec<FreshPage>,
    wanted: Vec<WantedChunk>,
    made: VecDeque<Chunk>,
    /// What a disk that takes no time has done.
    done: Vec<Event<'static>>,
}

impl Clients {
    /// Does what a broker's own thread does for its shard.
    fn make_ahead(&mut self) {
        self.pages.drain(..).for_each(|page| page.make());
        self.made.extend(self.wanted.drain(..).map(WantedChunk::make));
    }
}

impl Driver for Clients {
    type Socket = std::convert::Infallible;

    fn detach(&mut self, _connection: ConnectionId) {}

    fn take_detached(&mut self, _connection: ConnectionId) -> Option<Self::Socket> {
        None
    }

    fn attach(&mut self, socket: Self::Socket) -> Option<ConnectionId> {
        match socket {}
    }

    const READ_AHEAD_BYTES_MAX: usize = 0;

    fn clocks(&mut self) -> Clocks {
        self.clocks
    }

    fn poll<S: EventSink>(&mut self, _: Option<Duration>, sink: &mut S) -> io::Result<()> {
        // A turn of a busy shard.
        self.clocks.monotonic_ns += 100_000;
        self.clocks.wall_ms = self.clocks.monotonic_ns / 1_000_000;
        sink.turn_begins(self.clocks);
        self.done.drain(..).for_each(|event| sink.event(event));
        for (index, (asked, answered)) in self.asked.iter_mut().zip(&mut self.answered).enumerate() {
            let connection = ConnectionId { index: index as u32, generation: 0 };
            if !self.accepted {
                sink.event(Event::Accepted { connection });
            }
            let written = answered.len();
            if written > 0 {
                sink.event(Event::Sent { connection, buffer: std::mem::take(answered), written });
            }
            if !asked.is_empty() {
                sink.event(Event::Data { connection, bytes: asked });
            }
        }
        self.accepted = true;
        Ok(())
    }

    fn gather(&mut self, _time: Duration) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, buffer: Vec<u8>) {
        self.answered[connection.index as usize] = buffer;
    }

    fn set_reading(&mut self, _: ConnectionId, _: bool) {}
    fn close(&mut self, connection: ConnectionId, _: bool) {
        panic!("{connection:?} is closed");
    }
    fn stop_accepting(&mut self) {}
    fn journal_write(&mut self, _: JournalWrite) {
        self.done.push(Event::JournalWritten(Ok(())));
    }
    fn journal_sync(&mut self, _: FileNumber) {
        self.done.push(Event::JournalSynced(Ok(())));
    }
    fn journal_read(&mut self, read: JournalRead) {
        panic!("all is in memory, and {read:?} is wanted");
    }
    fn prepare_segment(&mut self, file: FileNumber, _: u64) {
        self.done.push(Event::SegmentPrepared { file, result: Ok(()) });
    }
    fn finish_segment(&mut self, file: FileNumber, _: u64, _: u64) {
        self.done.push(Event::SegmentPrepared { file, result: Ok(()) });
    }
    fn remove_segment(&mut self, file: FileNumber) {
        self.done.push(Event::SegmentRemoved { file, result: Ok(()) });
    }
    fn make_page(&mut self, page: FreshPage) {
        self.pages.push(page);
    }
    fn make_chunk(&mut self, wanted: WantedChunk) {
        self.wanted.push(wanted);
    }
    fn take_chunk(&mut self) -> Option<Chunk> {
        self.made.pop_front()
    }
}

fn responses(mut bytes: &[u8], mut each: impl FnMut(&Response<'_>)) {
    while let Ok(Some((frame, length))) = split_frame(bytes, FRAME_BYTES_MAX) {
        each(&Response::decode(&frame).expect("replies can be read"));
        bytes = &bytes[length..];
    }
}

struct Bench {
    shard: Shard<Clients, Alone<std::convert::Infallible>, Sound>,
    queue: u64,
}

impl Bench {
    fn new() -> Self {
        let log = LogOptions::new(Durability::Memory, [0; 16], 0);
        Self::with(Path::new(""), log, EngineOptions::new(0, [1, 2]))
    }

    fn with(folder: &Path, log: LogOptions, engine: EngineOptions) -> Self {
        let clocks = Clocks { monotonic_ns: 1_700_000_000_000_000_000, wall_ms: 1_700_000_000_000 };
        let opened = open(&mut RealStorage::new(folder), log, engine, clocks, [1; 16], &mut |_| {})
            .expect("a new log opens");
        let clients = Clients {
            clocks,
            asked: vec![Vec::new(); CONNECTIONS],
            answered: vec![Vec::new(); CONNECTIONS],
            accepted: false,
            pages: Vec::new(),
            wanted: Vec::new(),
            made: VecDeque::new(),
            done: Vec::new(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut shard = Shard::new(clients, Alone::default(), opened, ShardOptions::default(), stop);
        for asked in &mut shard.driver_mut().asked {
            Request::Hello(Hello { version_minimum: 1, version_maximum: 1, ..Hello::default() })
                .encode(1, asked);
            Request::CreateQueue(CreateQueueRequest { name: "bench", ..CreateQueueRequest::default() })
                .encode(2, asked);
        }
        let mut queue = None;
        while queue.is_none() {
            shard.turn().expect("the shard goes on");
            responses(&shard.driver_mut().answered[0], |response| {
                if let Response::CreateQueue(reply) = response {
                    queue = Some(reply.queue);
                }
            });
            shard.driver_mut().asked.iter_mut().for_each(Vec::clear);
        }
        Self { shard, queue: queue.expect("the queue was made") }
    }

    /// What every client asks next: in each round, what was received is deleted, a batch is sent, and
    /// one received.
    fn ask(&mut self) {
        let clients = self.shard.driver_mut();
        for (asked, answered) in clients.asked.iter_mut().zip(&clients.answered) {
            asked.clear();
            responses(answered, |response| {
                if let Response::Receive(reply) = response {
                    let handles: Vec<&[u8]> = reply.messages.iter().map(|message| message.handle).collect();
                    assert_eq!(handles.len(), BATCH);
                    let handles = Entries::of(&handles);
                    Request::Delete(DeleteRequest { queue: self.queue, handles }).encode(1, asked);
                }
            });
            for _ in 0..ROUNDS {
                let entries = [SendEntry::new(&BODY); BATCH];
                Request::Send(SendRequest { queue: self.queue, entries: Entries::of(&entries) })
                    .encode(2, asked);
                Request::Receive(ReceiveRequest::new(self.queue, BATCH as u8)).encode(3, asked);
            }
        }
    }
}

/// Time on a processor, which neighbours on a shared machine do not add to.
fn processor_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a place of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn main() {
    if std::env::args().any(|argument| argument == "longest") {
        return turns::longest();
    }
    let turns = std::env::args().find_map(|argument| argument.parse::<usize>().ok()).unwrap_or(500);
    let mut bench = Bench::new();
    let mut runs: Vec<f64> = (0..9)
        .map(|_| {
            let mut spent_ns = 0;
            for _ in 0..turns {
                bench.ask();
                let start_ns = processor_ns();
                bench.shard.turn().expect("the shard goes on");
                spent_ns += processor_ns() - start_ns;
            }
            spent_ns as f64 / (turns * CONNECTIONS * ROUNDS * BATCH) as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{:.1} ns a message at best, {:.1} in the median", runs[0], runs[4]);
}
