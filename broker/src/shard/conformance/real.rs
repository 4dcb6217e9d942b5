//! Real drivers, with clients on loopback sockets and a temporary folder.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::run::{POLLS_FOR_NOTHING, POLLS_MAX, Run, read_ready};
use super::{Client, World};
use crate::journal::memory::{SealedRange, SegmentMemory};
use crate::shard::driver::{Driver, SharesThread};
use crate::shard::epoll::EpollDriver;
use crate::shard::segment_files::SegmentFolder;
use crate::shard::uring::{self, UringDriver};
use crate::shard::waker::Waker;

/// What the real drivers have in common beside the trait.
pub(super) trait RealDriver: SharesThread {
    fn its_waker(&self) -> Waker;
}

pub(super) struct RealWorld<S: Setup> {
    // Before the folder, so that its threads end before the folder goes.
    driver: S::Driver,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

pub(super) struct RealClient(TcpStream);

impl<S: Setup> World for RealWorld<S> {
    type Driver = S::Driver;
    type Client = RealClient;

    fn is_offered() -> bool {
        S::is_offered()
    }

    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { driver: S::make(listener, folder.path().join("journal")), address, _folder: folder }
    }

    fn driver(&mut self) -> &mut S::Driver {
        &mut self.driver
    }

    fn connect(&mut self) -> io::Result<RealClient> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nonblocking(true)?;
        Ok(RealClient(stream))
    }

    fn wake(&mut self) {
        let waker = self.driver.its_waker();
        std::thread::spawn(move || waker.wake());
    }

    fn sealed(&mut self, bytes: &[u8]) -> SealedRange {
        let mut memory = SegmentMemory::new(bytes.len()).unwrap();
        memory.bytes_mut(0..bytes.len()).copy_from_slice(bytes);
        memory.seal(0..bytes.len())
    }
}

impl Client for RealClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn finish_writing(&mut self) {
        // A connection that was reset has no side to close; reading tells.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

impl RealDriver for EpollDriver {
    fn its_waker(&self) -> Waker {
        self.waker()
    }
}

impl RealDriver for UringDriver {
    fn its_waker(&self) -> Waker {
        self.waker()
    }
}

/// Waits for a driver as a thread does that runs several; `false` when the time is up.
fn wait_for<D: SharesThread>(driver: &mut D) -> bool {
    let timeout = driver.prepare_to_wait(None).unwrap();
    if timeout == Some(Duration::ZERO) {
        return true;
    }
    let handle = driver.wait_handle().as_raw_fd();
    let mut entry = libc::pollfd { fd: handle, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    unsafe { libc::poll(&mut entry, 1, 10_000) > 0 }
}

fn a_thread_can_wait_for_several_drivers<S: Setup>() {
    let mut run = Run::<RealWorld<S>>::new();
    let (mut client, connection) = run.connect();
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(Duration::ZERO));
    }
    // What was asked since the last poll is submitted before the wait.
    run.send(connection, b"hello".to_vec());
    let mut received = Vec::new();
    for _ in 0..POLLS_MAX {
        if read_ready(&mut client, &mut received) || received.len() == 5 {
            break;
        }
        assert!(wait_for(run.world.driver()), "a send that ends is worth a turn");
        run.poll(Some(Duration::ZERO));
    }
    assert_eq!(received, b"hello");
    client.write(b"good morning").unwrap();
    while run.seen.data(connection).is_empty() {
        assert!(wait_for(run.world.driver()), "data is worth a turn");
        run.poll(Some(Duration::ZERO));
    }
    run.world.wake();
    while run.seen.woken == 0 {
        assert!(wait_for(run.world.driver()), "being woken is worth a turn");
        run.poll(Some(Duration::ZERO));
    }
    let other = run.world.connect().unwrap();
    while run.seen.accepted.len() < 2 {
        assert!(wait_for(run.world.driver()), "a client is worth a turn");
        run.poll(Some(Duration::ZERO));
    }
    drop(other);
    // It rests when nothing happens.
    run.until("the second connection to end", |run| !run.seen.closed.is_empty());
    run.poll(Some(Duration::ZERO));
    let timeout = run.world.driver().prepare_to_wait(Some(Duration::from_secs(7))).unwrap();
    assert_eq!(timeout, Some(Duration::from_secs(7)));
}

/// What went out does not end the time in which requests come together, though it has ended already.
fn a_driver_submits_before_it_is_left_alone<S: Setup>() {
    const TIME: Duration = Duration::from_secs(7);
    let mut run = Run::<RealWorld<S>>::new();
    let (mut client, connection) = run.connect();
    for round in 0..3 {
        for _ in 0..POLLS_FOR_NOTHING {
            run.poll(Some(Duration::ZERO));
        }
        assert_eq!(client.write(b"may I?").unwrap(), 6);
        run.until("the question", |run| run.seen.data(connection).len() == 6 * (round + 1));
        run.send(connection, b"yes".to_vec());
        assert_eq!(run.world.driver().prepare_to_gather(TIME).unwrap(), TIME);
        let mut answer = [0; 4];
        assert_eq!(client.read(&mut answer).unwrap(), 3, "it went out without a poll");
        run.until_sent(connection);
    }
}

/// Nothing has to happen for what is known to be there.
#[test]
fn an_epoll_driver_with_more_to_read_is_not_left_alone() {
    let mut run = Run::<RealWorld<Epoll>>::new();
    let (mut client, connection) = run.connect();
    run.world.driver().set_reading(connection, false);
    assert_eq!(client.write(b"are you there?").unwrap(), 14);
    for _ in 0..POLLS_FOR_NOTHING {
        run.poll(Some(Duration::ZERO));
    }
    let time = Duration::from_secs(7);
    assert_eq!(run.world.driver().prepare_to_gather(time).unwrap(), time);
    run.world.driver().set_reading(connection, true);
    assert_eq!(run.world.driver().prepare_to_gather(time).unwrap(), Duration::ZERO);
}

/// A client that asks again only when it was answered finds the driver's thread asleep.
fn a_thread_that_sleeps_is_woken_by_its_drivers<S: Setup>() {
    const ROUNDS: usize = 300;
    let mut run = Run::<RealWorld<S>>::new();
    let mut stream = TcpStream::connect(run.world.address).unwrap();
    let client = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            stream.write_all(&[round as u8]).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round as u8]);
        }
    });
    let mut echoed = 0;
    while echoed < ROUNDS {
        assert!(wait_for(run.world.driver()), "the client waits for its answer");
        run.poll(Some(Duration::ZERO));
        let Some(&connection) = run.seen.accepted.first() else { continue };
        let bytes = run.seen.data(connection)[echoed..].to_vec();
        if !bytes.is_empty() && !run.seen.sending.contains(&connection) {
            echoed += bytes.len();
            run.send(connection, bytes);
        }
    }
    // The last answer is submitted with the next turn.
    run.poll(Some(Duration::ZERO));
    client.join().unwrap();
}

/// Who was accepted while the thread waited, and was not told of, sees the end when the driver is dropped.
fn a_client_that_came_last_is_let_go<S: Setup>() {
    let mut run = Run::<RealWorld<S>>::new();
    let (first, _) = run.connect();
    let mut client = run.world.connect().unwrap();
    for _ in 0..2 {
        assert!(wait_for(run.world.driver()), "a client is worth a turn");
    }
    drop(run);
    let mut bytes = Vec::new();
    assert!((0..POLLS_MAX).any(|_| read_ready(&mut client, &mut bytes)), "it sees the end");
    drop(first);
}

#[test]
fn a_thread_can_wait_for_several_epoll_drivers() {
    a_thread_can_wait_for_several_drivers::<Epoll>();
    a_thread_that_sleeps_is_woken_by_its_drivers::<Epoll>();
    a_driver_submits_before_it_is_left_alone::<Epoll>();
    a_client_that_came_last_is_let_go::<Epoll>();
}

#[test]
fn a_thread_can_wait_for_several_rings() {
    if Uring::is_offered() {
        a_thread_can_wait_for_several_drivers::<ModestUring>();
        a_thread_that_sleeps_is_woken_by_its_drivers::<ModestUring>();
        a_driver_submits_before_it_is_left_alone::<ModestUring>();
        a_client_that_came_last_is_let_go::<ModestUring>();
    }
}

/// A way of making a driver.
pub(super) trait Setup {
    type Driver: RealDriver;
    fn is_offered() -> bool {
        true
    }
    fn make(listener: TcpListener, folder: PathBuf) -> Self::Driver;
}

pub(super) struct Epoll;

impl Setup for Epoll {
    type Driver = EpollDriver;

    fn make(listener: TcpListener, folder: PathBuf) -> EpollDriver {
        EpollDriver::new(listener, Some(folder)).unwrap()
    }
}

/// On a file system that knows no direct writes.
pub(super) struct EpollThroughCache;

impl Setup for EpollThroughCache {
    type Driver = EpollDriver;

    fn make(listener: TcpListener, folder: PathBuf) -> EpollDriver {
        let folder = SegmentFolder::open(&folder).unwrap().without_direct_writes();
        EpollDriver::with_folder(Some(listener), Some(folder), Waker::new().unwrap()).unwrap()
    }
}

pub(super) struct Uring;

impl Setup for Uring {
    type Driver = UringDriver;

    fn is_offered() -> bool {
        uring::probe().is_ok()
    }

    fn make(listener: TcpListener, folder: PathBuf) -> UringDriver {
        UringDriver::new(listener, Some(folder)).unwrap()
    }
}

/// On an older kernel, and a file system that knows no direct writes.
pub(super) struct ModestUring;

impl Setup for ModestUring {
    type Driver = UringDriver;

    fn is_offered() -> bool {
        uring::probe().is_ok()
    }

    fn make(listener: TcpListener, folder: PathBuf) -> UringDriver {
        UringDriver::modest(listener, folder).unwrap()
    }
}
