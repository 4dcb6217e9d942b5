//! What a driver costs by itself: a server that returns what it gets, 16 clients with 100 messages of
//! 64 bytes in flight each, over loopback. Prints the server thread's CPU time per message.
//!
//! `cargo bench -p tenpin-broker --bench driver_echo -- [SECONDS] [epoll|uring]...`

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenpin_broker::shard::driver::{Clocks, ConnectionId, Driver, Event, EventSink};
use tenpin_broker::shard::epoll::EpollDriver;
use tenpin_broker::shard::uring::UringDriver;

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 100;
const MESSAGE_BYTES: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| ["epoll", "uring"].contains(name)).collect();
    for name in if named.is_empty() { vec!["epoll", "uring", "epoll", "uring"] } else { named } {
        for in_flight in [IN_FLIGHT, 1] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let duration = Duration::from_secs(seconds);
            match name {
                "epoll" => run(name, listener, duration, in_flight, |listener| {
                    EpollDriver::new(listener, None).expect("epoll is always there")
                }),
                _ => run(name, listener, duration, in_flight, |listener| {
                    UringDriver::new(listener, None).expect("io_uring is offered here")
                }),
            }
        }
    }
}

fn run<D: Driver>(
    name: &str,
    listener: TcpListener,
    duration: Duration,
    in_flight: usize,
    make: impl FnOnce(TcpListener) -> D + Send,
) {
    let address = listener.local_addr().expect("it is bound");
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(make(listener), &stop));
        scope.spawn(|| load(address, duration, in_flight, &stop));
        let figures = server.join().expect("the server does not panic");
        println!(
            "{name:5} {in_flight:3} in flight: {:.3} us of server CPU a message, {:.2} million a second, \
             {:.1} messages a turn",
            figures.cpu.as_secs_f64() * 1e6 / figures.messages,
            figures.messages / 1e6 / figures.elapsed.as_secs_f64(),
            figures.messages / figures.turns
        );
    });
}

struct Figures {
    cpu: Duration,
    elapsed: Duration,
    messages: f64,
    turns: f64,
}

#[derive(Default)]
struct Echo {
    connections: HashMap<ConnectionId, Reply>,
    dirty: Vec<ConnectionId>,
    bytes: u64,
}

#[derive(Default)]
struct Reply {
    out: Vec<u8>,
    spare: Vec<u8>,
    is_sending: bool,
    is_dirty: bool,
}

impl Echo {
    fn mark(&mut self, connection: ConnectionId) {
        if let Some(reply) = self.connections.get_mut(&connection)
            && !reply.is_dirty
        {
            reply.is_dirty = true;
            self.dirty.push(connection);
        }
    }
}

impl EventSink for Echo {
    fn turn_begins(&mut self, _clocks: Clocks) {}

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { connection } => {
                self.connections.insert(connection, Reply::default());
            }
            Event::Data { connection, bytes } => {
                self.bytes += bytes.len() as u64;
                if let Some(reply) = self.connections.get_mut(&connection) {
                    reply.out.extend_from_slice(bytes);
                }
                self.mark(connection);
            }
            Event::Sent { connection, mut buffer, .. } => {
                if let Some(reply) = self.connections.get_mut(&connection) {
                    buffer.clear();
                    reply.spare = buffer;
                    reply.is_sending = false;
                    if !reply.out.is_empty() {
                        self.mark(connection);
                    }
                }
            }
            Event::Closed { connection, .. } => {
                self.connections.remove(&connection);
            }
            _ => {}
        }
    }
}

fn serve<D: Driver>(mut driver: D, stop: &AtomicBool) -> Figures {
    let mut echo = Echo::default();
    let mut turns = 0.0;
    let mut began: Option<(Duration, Instant, u64)> = None;
    while !stop.load(Ordering::Relaxed) || !echo.connections.is_empty() {
        driver.poll(Some(Duration::from_millis(100)), &mut echo).expect("the driver goes on");
        turns += 1.0;
        if began.is_none() && echo.connections.len() == CONNECTIONS {
            began = Some((thread_cpu(), Instant::now(), echo.bytes));
            turns = 0.0;
        }
        for connection in echo.dirty.drain(..) {
            let Some(reply) = echo.connections.get_mut(&connection) else { continue };
            reply.is_dirty = false;
            if !reply.is_sending && !reply.out.is_empty() {
                let buffer = std::mem::replace(&mut reply.out, std::mem::take(&mut reply.spare));
                reply.is_sending = true;
                driver.send(connection, buffer);
            }
        }
    }
    let (cpu, instant, bytes) = began.expect("the clients connected");
    Figures {
        cpu: thread_cpu() - cpu,
        elapsed: instant.elapsed(),
        messages: (echo.bytes - bytes) as f64 / MESSAGE_BYTES as f64,
        turns,
    }
}

/// Returns what comes back, so that as much as was sent first stays in flight.
fn load(address: SocketAddr, duration: Duration, in_flight: usize, stop: &AtomicBool) {
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(address).expect("the server listens");
            stream.set_nodelay(true).expect("a TCP socket");
            stream
        })
        .collect();
    for client in &mut clients {
        client.write_all(&vec![7; MESSAGE_BYTES * in_flight]).expect("the server reads");
    }
    let mut polled: Vec<libc::pollfd> = clients
        .iter()
        .map(|client| libc::pollfd { fd: client.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let mut buffer = vec![0; MESSAGE_BYTES * in_flight];
    let end = Instant::now() + duration;
    while Instant::now() < end {
        // SAFETY: the list is as long as said, and lives through the call.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 100) };
        for (client, poll) in clients.iter_mut().zip(&polled) {
            if poll.revents != 0 {
                let length = client.read(&mut buffer).expect("the server answers");
                client.write_all(&buffer[..length]).expect("the server reads");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every thread has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
