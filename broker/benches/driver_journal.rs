//! What a commit takes by each driver: durable writes of one block, one after the other, with the disk at
//! rest and beside the making of segments. Prints latencies as the shard would see them.
//!
//! `cargo bench -p tenpin-broker --bench driver_journal -- [FOLDER]`

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tenpin_broker::journal::memory::SegmentMemory;
use tenpin_broker::shard::driver::{Clocks, Driver, Event, EventSink, FileNumber, JournalWrite};
use tenpin_broker::shard::epoll::EpollDriver;
use tenpin_broker::shard::uring::UringDriver;

const SEGMENT_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 4096;
const COMMITS: usize = 2000;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| argument != "--bench").map(PathBuf::from);
    let temporary = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .expect("a folder to write to");
    for round in 0..2 {
        let folder = temporary.path().join(round.to_string());
        let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let epoll = EpollDriver::new(listener(), Some(folder.join("epoll"))).expect("a folder to write to");
        println!("epoll, direct writes: {}", epoll.writes_directly());
        measure(epoll);
        let uring =
            UringDriver::new(listener(), Some(folder.join("uring"))).expect("io_uring is offered here");
        println!("uring, direct writes: {}", uring.writes_directly());
        measure(uring);
    }
}

#[derive(Default)]
struct Seen {
    written: usize,
    prepared: usize,
}

impl EventSink for Seen {
    fn turn_begins(&mut self, _clocks: Clocks) {}

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::JournalWritten(result) => {
                result.expect("the disk takes it");
                self.written += 1;
            }
            Event::SegmentPrepared { result, .. } => {
                result.expect("there is room");
                self.prepared += 1;
            }
            _ => {}
        }
    }
}

fn measure<D: Driver>(mut driver: D) {
    let mut seen = Seen::default();
    driver.prepare_segment(FileNumber(1), SEGMENT_BYTES);
    while seen.prepared == 0 {
        driver.poll(None, &mut seen).expect("the driver goes on");
    }
    let rest = commits(&mut driver, &mut seen, false);
    let busy = commits(&mut driver, &mut seen, true);
    report("at rest", rest);
    report("beside the making of segments", busy);
}

/// Commits one block after the other; `prepares`: while one segment after the other is made.
fn commits<D: Driver>(driver: &mut D, seen: &mut Seen, prepares: bool) -> Vec<Duration> {
    let mut memory = SegmentMemory::new(BLOCK_BYTES).expect("a page of memory");
    let mut latencies = Vec::with_capacity(COMMITS);
    seen.prepared = 0;
    let mut asked = 0;
    for number in 0..COMMITS {
        if prepares && asked == seen.prepared {
            asked += 1;
            driver.prepare_segment(FileNumber(1 + asked as u32), SEGMENT_BYTES);
        }
        let offset = (number * BLOCK_BYTES) as u64 % SEGMENT_BYTES;
        let bytes = memory.seal(0..BLOCK_BYTES);
        let began = Instant::now();
        let before = seen.written;
        driver.journal_write(JournalWrite { file: FileNumber(1), offset, bytes, durable: true });
        while seen.written == before {
            driver.poll(None, seen).expect("the driver goes on");
        }
        latencies.push(began.elapsed());
    }
    while seen.prepared < asked {
        driver.poll(None, seen).expect("the driver goes on");
    }
    for file in 0..asked {
        driver.remove_segment(FileNumber(2 + file as u32));
    }
    latencies
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[(share * (latencies.len() - 1) as f64) as usize].as_micros();
    println!("  {what}: p50 {} p90 {} p99 {} most {} us", at(0.5), at(0.9), at(0.99), at(1.0));
}
