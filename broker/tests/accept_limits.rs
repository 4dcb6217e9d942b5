//! A driver that runs out of file descriptors goes on serving, and accepts again when there are some.
//!
//! Alone in its process, because the limit is the process's.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tenpin_broker::shard::driver::{Clocks, ConnectionId, Driver, Event, EventSink};
use tenpin_broker::shard::epoll::EpollDriver;
use tenpin_broker::shard::uring::{self, UringDriver};

const CLIENTS: usize = 20;
const DESCRIPTORS_LEFT: u64 = 5;
const POLLS_MAX: usize = 20_000;

#[derive(Default)]
struct Seen {
    accepted: Vec<ConnectionId>,
    closed: usize,
    bytes: usize,
}

impl EventSink for Seen {
    fn turn_begins(&mut self, _clocks: Clocks) {}

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { connection } => self.accepted.push(connection),
            Event::Closed { .. } => self.closed += 1,
            Event::Data { bytes, .. } => self.bytes += bytes.len(),
            _ => {}
        }
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survive(|listener| EpollDriver::new(listener, None).unwrap());
    if uring::probe().is_ok() {
        survive(|listener| UringDriver::new(listener, None).unwrap());
    }
}

fn survive<D: Driver>(make: impl FnOnce(TcpListener) -> D) {
    let before = descriptor_limit();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut driver = make(listener);
    // They stand in the backlog, for nobody has polled yet.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    set_descriptor_limit(lowest_free_descriptor() + DESCRIPTORS_LEFT);

    let mut seen = Seen::default();
    let few = DESCRIPTORS_LEFT as usize;
    until(&mut driver, &mut seen, |seen| seen.accepted.len() == few);
    for _ in 0..20 {
        driver.poll(Some(Duration::from_millis(1)), &mut seen).unwrap();
    }
    assert_eq!(seen.accepted.len(), few, "there are no descriptors for more");

    // Those that got in are served.
    for client in &mut clients[..few] {
        client.write_all(b"hello").unwrap();
    }
    until(&mut driver, &mut seen, |seen| seen.bytes == few * 5);

    // The place of one that goes is taken by the next.
    driver.close(seen.accepted[0], false);
    until(&mut driver, &mut seen, |seen| seen.closed == 1 && seen.accepted.len() == few + 1);

    set_descriptor_limit(before);
    until(&mut driver, &mut seen, |seen| seen.accepted.len() == CLIENTS);
}

fn until<D: Driver>(driver: &mut D, seen: &mut Seen, done: impl Fn(&Seen) -> bool) {
    for _ in 0..POLLS_MAX {
        if done(seen) {
            return;
        }
        driver.poll(Some(Duration::from_millis(2)), seen).unwrap();
    }
    panic!("waited in vain");
}

fn lowest_free_descriptor() -> u64 {
    use std::os::fd::AsRawFd;
    std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64
}

fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur
}

fn set_descriptor_limit(descriptors: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = descriptors;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}
