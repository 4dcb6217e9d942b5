//! A broker that runs: it opens the data folder, chooses the driver, and runs the shards on threads of
//! their own until it is stopped or fails. Signals, exit codes and the allocator are the binary's.
//!
//! All connections come in by one port. The first shard accepts them and hands each one over to the shard
//! that its hello names, or to the next in turn where it names none: so they are spread evenly to one
//! connection, which a listener per shard and the kernel's hash over them are not.

mod cores;
mod front;
mod opening;
mod running;
mod threads;
mod turns;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use crate::address::ListenAddress;
use crate::config::{Config, DurabilitySetting, IoSetting, SqsListen};
use crate::exchange::mesh::Incoming;
use crate::exit::{ExitReason, Failure};
use crate::folder::{Folder, Identity};
use crate::gateway::Bell;
use crate::mesh::{Peer, RING_CAPACITY, Wake, mesh};
use crate::shard::epoll::EpollDriver;
use crate::shard::uring::{self, UringDriver};
use crate::shard::waker::Waker;

use cores::{Cores, Plan};
use front::FrontSetup;
use running::{Ending, Report, Threads};
use threads::{Common, RealDriver, ShardSetup};

pub use opening::log_options;
pub use running::{Description, Running, Stopper};

/// Told what operators have to know, a line at a time, from any thread.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// For how long a port that is in use is tried again.
const PORT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Shards of a new folder where nothing is said.
const SHARDS_DEFAULT: u16 = 1;

/// Starts a broker. When this returns its shards are recovered and serve.
pub fn start(config: &Config, say: Say) -> Result<Running, Failure> {
    let cores = Cores::of_this_process();
    let shards = config.shards.unwrap_or(SHARDS_DEFAULT);
    let folder = match config.durability {
        DurabilitySetting::Memory => None,
        _ => Some(Folder::open(&config.data_dir, config.segment_bytes, shards)?),
    };
    if let (Some(folder), Some(shards)) = (&folder, config.shards) {
        folder.check_shards(shards)?;
    }
    let identity = match &folder {
        Some(folder) => folder.identity().clone(),
        None => Identity::random(config.segment_bytes, shards)?,
    };
    opening::check(config, &identity)?;
    let (listener, address) = listen(&config.listen, "--listen")?;
    let sqs = match &config.sqs_listen {
        SqsListen::Off => None,
        SqsListen::At(address) => Some(listen(address, "--sqs-listen, or --sqs-listen off")?),
    };
    let sqs_address = sqs.as_ref().map(|(_, address)| *address);
    let (uring, driver) = choose_driver(config.io)?;
    let plan = Plan::new(identity.shards, &cores, config.pin_threads, std::process::id() as usize);
    let description = Description { shards: plan.describe(), driver };
    let has_front = sqs.is_some() || !config.queues.is_empty();
    let sqs_listener = sqs.map(|(listener, _)| listener);
    let (setups, front) = set_up(&identity, folder.as_ref(), listener, has_front.then_some(sqs_listener))
        .map_err(|error| unexpected("a waker", &error))?;
    let mut wakes: Vec<_> =
        setups.iter().map(|setup| Box::new(setup.waker.clone()) as Box<dyn Wake>).collect();
    wakes.extend(front.iter().map(|front| Box::new(front.bell.clone()) as Box<dyn Wake>));
    let ending = Arc::new(Ending::new(wakes));
    let common = Common {
        config: config.clone(),
        identity,
        folder: folder.map(Arc::new),
        ending: Arc::clone(&ending),
        say,
    };
    let threads = if uring {
        start_threads::<UringDriver>(&plan, setups, front, &common)?
    } else {
        start_threads::<EpollDriver>(&plan, setups, front, &common)?
    };
    Ok(Running { address, sqs_address, description, ending, threads })
}

/// Listens at an address that a flag can change: at the first of a name's that is this machine's. A broker that
/// was just killed may have the port for a moment still: the kernel ends its ring behind it.
fn listen(address: &ListenAddress, flag: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let fails = |error: std::io::Error| {
        let text = format!("cannot listen on {address}: {error}; choose another {flag}");
        Failure::new(ExitReason::Listen, text)
    };
    let addresses = address.resolve().map_err(fails)?;
    let began = Instant::now();
    let listener = loop {
        match bind(&addresses) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < PORT_WAIT_MAX => {
                std::thread::sleep(PORT_WAIT_MAX / 40);
            }
            result => break result,
        }
    };
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(fails)
}

/// Where the first address is taken the next is not tried: clients would find the one who has it.
fn bind(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let (last, others) = addresses.split_last().expect("a name has an address");
    let is_elsewhere = |error: &std::io::Error| error.kind() == ErrorKind::AddrNotAvailable;
    let mut bound = others.iter().map(TcpListener::bind);
    bound.find(|bound| !bound.as_ref().is_err_and(is_elsewhere)).unwrap_or_else(|| TcpListener::bind(last))
}

/// What each shard is made of, but for what its own thread has to make.
fn set_up(
    identity: &Identity,
    folder: Option<&Folder>,
    listener: TcpListener,
    front: Option<Option<TcpListener>>,
) -> std::io::Result<(Vec<ShardSetup>, Option<FrontSetup>)> {
    let wakers = (0..identity.shards).map(|_| Waker::new()).collect::<Result<Vec<_>, _>>()?;
    let mut wakes: Vec<_> = wakers.iter().map(|waker| Box::new(waker.clone()) as Box<dyn Wake>).collect();
    let bell = Bell::default();
    wakes.extend(front.iter().map(|_| Box::new(bell.clone()) as Box<dyn Wake>));
    let mut peers: Vec<Peer<Incoming<TcpStream>>> = mesh(wakes, RING_CAPACITY);
    // Behind the shards.
    let front = front.and_then(|listener| peers.pop().map(|peer| FrontSetup { listener, peer, bell }));
    let mut listener = Some(listener);
    let setup = |(number, (waker, peer))| ShardSetup {
        number,
        folder: folder.map(|folder| folder.shard_path(number)),
        listener: listener.take(),
        waker,
        peer,
    };
    let setups = (0..identity.shards).zip(wakers.into_iter().zip(peers)).map(setup).collect();
    Ok((setups, front))
}

/// Starts the threads, and lets them serve when all shards are recovered.
fn start_threads<D: RealDriver>(
    plan: &Plan,
    setups: Vec<ShardSetup>,
    front: Option<FrontSetup>,
    common: &Common,
) -> Result<Threads, Failure> {
    let (reports, from_threads) = mpsc::channel();
    let mut threads = Threads::new(from_threads);
    let started = start_all::<D>(plan, setups, common, &reports, &mut threads).and_then(|mut go| {
        if let Some(front) = front {
            let (give, take) = mpsc::channel();
            let handle = front::start(front, common.clone(), reports.clone(), take)
                .map_err(|error| unexpected("the thread of the SQS endpoint cannot start", &error))?;
            threads.add(handle);
            go.push(give);
        }
        Ok(go)
    });
    drop(reports);
    let ready = started.and_then(|go| Ok((go, threads.wait_until_ready()?)));
    let (go, complaints) = ready.inspect_err(|_| {
        common.ending.abandon();
        threads.wait_after_abandon();
    })?;
    complaints.iter().for_each(|text| (common.say)(text));
    if let Some(folder) = &common.folder {
        folder.mark_as_served().inspect_err(|_| {
            common.ending.abandon();
            threads.wait_after_abandon();
        })?;
    }
    go.iter().for_each(|go| {
        // One that has ended meanwhile has said why.
        let _ = go.send(());
    });
    Ok(threads)
}

/// Starts one thread after the other; what comes back lets each of them serve, and where it is dropped
/// instead, they end.
fn start_all<D: RealDriver>(
    plan: &Plan,
    setups: Vec<ShardSetup>,
    common: &Common,
    reports: &Sender<Report>,
    threads: &mut Threads,
) -> Result<Vec<Sender<()>>, Failure> {
    let mut setups: Vec<_> = setups.into_iter().map(Some).collect();
    let mut go = Vec::with_capacity(plan.threads.len());
    for thread in &plan.threads {
        let (give, take) = mpsc::channel();
        let its = thread.shards.iter().filter_map(|shard| setups[usize::from(*shard)].take()).collect();
        let handle = threads::start::<D>(thread, its, common.clone(), reports.clone(), take)
            .map_err(|error| unexpected("the thread of a shard cannot start", &error))?;
        threads.add(handle);
        go.push(give);
    }
    Ok(go)
}

fn unexpected(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitReason::Unexpected, format!("{what}: {error}"))
}

fn choose_driver(io: IoSetting) -> Result<(bool, String), Failure> {
    if io == IoSetting::Epoll {
        return Ok((false, "epoll (asked for)".to_owned()));
    }
    match uring::probe() {
        Ok(offer) => Ok((true, format!("io_uring ({offer})"))),
        Err(refusal) if io == IoSetting::Uring => {
            Err(Failure::new(ExitReason::RingRefused, refusal.to_string()))
        }
        Err(refusal) => Ok((false, format!("epoll ({refusal})"))),
    }
}
