//! Accepting clients, and the end of it all.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};

use super::call::Queues;
use super::link::{Bell, GatewayPeer, Line, Link};
use super::prepared::{make_postponed, make_queues};
use super::pulse::{Phase, Pulse};
use super::request::{self, Came};
use super::socket::{Owed, Socket};
use super::target::UrlRules;
use crate::config::QueueSetting;
use crate::exit::{ExitReason, Failure};
use crate::server::Say;
use crate::shard::accepting::widen_backlog;

/// Longest head of a request, but for what one read brings beyond it; hyper answers a longer one with 431 and
/// closes the connection. It is also how much of a body is read at a time.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Clients at a time; one more is answered 503 and closed.
const CONNECTIONS_MAX: usize = 20_000;
/// Bytes of all requests' bodies in memory at a time; a request that needs more is answered 503.
const ALL_BODY_BYTES_MAX: usize = 256 << 20;
/// How long accepting rests when the system lacks descriptors or memory for one more client.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long a gateway that is told to stop waits for its clients to be answered; shards wait as long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// How long it then waits until shards have taken what it has said.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);

/// What is said to a client beyond [`CONNECTIONS_MAX`].
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What the gateway can be told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The account of clients that name none: twelve digits.
    pub(crate) account: Box<str>,
    /// The region of clients that name none.
    pub(crate) region: Box<str>,
    /// What queue URLs begin with, whatever host clients came by.
    pub(crate) public_url: Option<String>,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub(crate) trusts_forwarded: bool,
    /// Longest body of a request.
    pub(crate) body_bytes_max: usize,
    /// How long a client may take for the head of a request, and be silent between two.
    pub(crate) head_timeout: Duration,
    /// How long a client may take for the body of a request.
    pub(crate) body_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub(crate) write_timeout: Duration,
    /// Whether a queue that does not exist is made when it is used.
    pub(crate) makes_queues: bool,
    /// Whether a request can delete all queues.
    pub(crate) can_reset: bool,
    /// Queues that are there before anybody is served.
    pub(crate) queues: Vec<QueueSetting>,
}

/// How a gateway is told to end.
pub(crate) struct Ending {
    /// In good order.
    pub(crate) stop: Arc<AtomicBool>,
    /// At once.
    pub(crate) is_abandoned: Box<dyn Fn() -> bool + Send>,
}

/// What a gateway is made of.
pub(crate) struct Setup {
    /// Where clients come; without one the gateway only makes the queues of the configuration.
    pub(crate) listener: Option<TcpListener>,
    pub(crate) peer: GatewayPeer,
    pub(crate) bell: Bell,
    pub(crate) shards: u16,
    pub(crate) options: Options,
    pub(crate) ending: Ending,
    /// Told what operators have to know.
    pub(crate) say: Say,
}

/// What all clients of the gateway share.
pub(super) struct Gateway {
    pub(super) link: Rc<Link>,
    pub(super) queues: Queues,
    pub(super) options: Options,
    pub(super) rules: UrlRules,
    pub(super) body_bytes: BodyBytes,
    pub(super) pulse: Rc<Pulse>,
    pub(super) request_ids: RequestIds,
    connections: Cell<usize>,
    connection_ended: Notify,
}

/// Makes ids of requests: two numbers each of a SplitMix64 that begins where chance says.
pub(super) struct RequestIds(Cell<u64>);

impl RequestIds {
    fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    /// One that was not there before.
    pub(super) fn next(&self) -> [u8; 16] {
        let next = || {
            let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.0.set(state);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        (u128::from(next()) << 64 | u128::from(next())).to_be_bytes()
    }
}

/// What the gateway keeps of a client's connection.
pub(super) struct Client {
    pub(super) gateway: Rc<Gateway>,
    /// Its connection to a shard, while no request uses it.
    pub(super) line: RefCell<Option<Line>>,
    pub(super) owed: Rc<Owed>,
    /// How it came the last time, since it mostly comes the same way again.
    pub(super) came: RefCell<Option<Came>>,
}

/// Runs a gateway on this thread until it has stopped.
pub(crate) fn run(setup: Setup) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(ExitReason::Unexpected, format!("the SQS endpoint failed: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let outcome = LocalSet::new().block_on(&runtime.map_err(failed)?, serve(setup)).map_err(failed)?;
    outcome.map_err(|text| Failure::new(ExitReason::Configuration, text))
}

/// An error inside is one of the configuration.
async fn serve(setup: Setup) -> io::Result<Result<(), String>> {
    let Setup { listener, peer, bell, shards, options, ending, say } = setup;
    let listening = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let rules = UrlRules {
        public_url: options.public_url.clone(),
        trusts_forwarded: options.trusts_forwarded,
        listening: listening.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
        region: options.region.clone(),
    };
    let link = Link::new(peer, bell, shards);
    let pulse = Pulse::new();
    let (say_phase, phase) = watch::channel(Phase::Serving);
    let beating = spawn_local({
        let (pulse, patience) = (Rc::clone(&pulse), options.head_timeout);
        async move { pulse.run(patience).await }
    });
    let telling = spawn_local(tell_clients(Rc::clone(&pulse), phase.clone()));
    let carrier = spawn_local({
        let link = Rc::clone(&link);
        async move { link.run(&mut || tell(&ending, &say_phase)).await }
    });
    let gateway = Rc::new(Gateway {
        queues: Queues::new(options.makes_queues),
        link,
        options,
        rules,
        body_bytes: BodyBytes::default(),
        pulse,
        request_ids: RequestIds::new(),
        connections: Cell::new(0),
        connection_ended: Notify::new(),
    });
    let made = tokio::select! {
        made = make_queues(&gateway, &gateway.options.queues) => made.map(Some),
        _ = stops(phase.clone()) => Ok(None),
    };
    let made = match made {
        Ok(Some(postponed)) => {
            let making = async {
                tokio::select! {
                    () = make_postponed(&gateway, postponed, &say) => {}
                    () = stops(phase.clone()) => {}
                }
            };
            let (_, accepted) = tokio::join!(making, accept(&gateway, listener, phase.clone()));
            accepted?;
            Ok(())
        }
        made => made.map(|_| ()),
    };
    drain(&gateway, phase).await;
    for task in [carrier, beating, telling] {
        task.abort();
    }
    Ok(made)
}

/// Waits until the gateway is to stop.
async fn stops(mut phase: watch::Receiver<Phase>) {
    // Whoever says so lives as long as the gateway.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
}

/// Says to all clients how far the gateway is.
async fn tell_clients(pulse: Rc<Pulse>, mut phase: watch::Receiver<Phase>) {
    while phase.changed().await.is_ok() {
        let phase = *phase.borrow_and_update();
        pulse.tell(phase);
    }
}

/// Says how far the gateway is, where that is new.
fn tell(ending: &Ending, say_phase: &watch::Sender<Phase>) {
    let phase = match () {
        () if (ending.is_abandoned)() => Phase::Abandoned,
        () if ending.stop.load(Ordering::Acquire) => Phase::Stopping,
        () => Phase::Serving,
    };
    say_phase.send_if_modified(|before| std::mem::replace(before, phase) != phase);
}

/// Accepts clients until the gateway is to stop; without a listener there are none.
async fn accept(
    gateway: &Rc<Gateway>,
    listener: Option<TcpListener>,
    phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    widen_backlog(&listener)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = stops(phase.clone()) => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if gateway.connections.get() >= CONNECTIONS_MAX => {
                // A socket that is new has room for so little.
                let _ = stream.try_write(TOO_MANY);
            }
            Ok((stream, address)) => {
                spawn_local(serve_client(Rc::clone(gateway), stream, address));
            }
            // Only this client is not to be had: it keeps nobody else waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Whatever the system lacks: the next one is accepted when it may be.
            Err(_) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

async fn serve_client(gateway: Rc<Gateway>, stream: TcpStream, _address: SocketAddr) {
    let _counted = Counted::new(&gateway);
    // Without it responses are only later.
    let _ = stream.set_nodelay(true);
    let watched = gateway.pulse.watch();
    let owed = Rc::new(Owed::new(Rc::clone(&gateway.pulse), Rc::clone(&watched)));
    let socket = Socket::new(stream, Rc::clone(&owed), gateway.options.write_timeout);
    let pulse = Rc::clone(&gateway.pulse);
    let client = Rc::new(Client { gateway, line: RefCell::default(), owed, came: RefCell::default() });
    let service = service_fn(move |request| {
        client.owed.has_asked();
        request::serve(Rc::clone(&client), request)
    });
    // Silence is the pulse's: hyper would set a timer for each request. The bound of headers is hyper's own, 100,
    // and more are answered 431: it makes room for another number anew with each request.
    let connection = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).serve_connection(socket, service);
    let mut connection = pin!(connection);
    let mut phase_known = Phase::Serving;
    poll_fn(|context| {
        watched.register(context);
        if phase_known == Phase::Serving && pulse.phase() != Phase::Serving {
            connection.as_mut().graceful_shutdown();
        }
        phase_known = pulse.phase();
        // An error is the client's: it went, or sent what is no HTTP and was told so.
        let is_over = connection.as_mut().poll(context).is_ready();
        if is_over || watched.is_overdue() || phase_known == Phase::Abandoned {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Waits until all clients have been answered, and shards know that they are gone.
async fn drain(gateway: &Rc<Gateway>, mut phase: watch::Receiver<Phase>) {
    let all_gone = async {
        while gateway.connections.get() > 0 {
            gateway.connection_ended.notified().await;
        }
    };
    tokio::select! {
        () = all_gone => {},
        () = tokio::time::sleep(DRAIN_TIME_MAX) => {},
        _ = phase.wait_for(|phase| *phase == Phase::Abandoned) => return,
    }
    let all_said = async {
        gateway.link.ring();
        while gateway.link.has_more_to_say() {
            tokio::task::yield_now().await;
        }
    };
    // Shards that have ended take nothing any more.
    let _ = tokio::time::timeout(FAREWELL_TIME_MAX, all_said).await;
}

/// Counts a connection as long as it is served.
struct Counted(Rc<Gateway>);

impl Counted {
    fn new(gateway: &Rc<Gateway>) -> Self {
        gateway.connections.set(gateway.connections.get() + 1);
        Self(Rc::clone(gateway))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.connection_ended.notify_one();
    }
}

/// Bytes of requests' bodies that are in memory.
#[derive(Debug, Default)]
pub(super) struct BodyBytes(Cell<usize>);

impl BodyBytes {
    /// Counts so many more as part of what `held` stands for; `false`: there is no room for them.
    pub(super) fn take(&self, held: &mut HeldBytes<'_>, bytes: usize) -> bool {
        let all = self.0.get() + bytes;
        if all > ALL_BODY_BYTES_MAX {
            return false;
        }
        self.0.set(all);
        held.bytes += bytes;
        true
    }

    /// Nothing yet, given back when it is dropped.
    pub(super) fn hold(&self) -> HeldBytes<'_> {
        HeldBytes { all: self, bytes: 0 }
    }
}

/// A request's part of [`BodyBytes`].
pub(super) struct HeldBytes<'b> {
    all: &'b BodyBytes,
    bytes: usize,
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_ids_of_their_own() {
        let (here, there) = (RequestIds::new(), RequestIds::new());
        let ids: std::collections::BTreeSet<_> =
            (0..1_000).flat_map(|_| [here.next(), there.next()]).collect();
        assert_eq!(ids.len(), 2_000);
    }
}
