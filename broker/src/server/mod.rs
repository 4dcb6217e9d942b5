//! A broker as a process: it opens the data folder, chooses the driver, runs the shards on threads of
//! their own, and turns signals into a stop in good order.
//!
//! All connections come in by one port. The first shard accepts them and hands each one over to the shard
//! that its hello names, or to the next in turn where it names none: so they are spread evenly to one
//! connection, which a listener per shard and the kernel's hash over them are not.

mod cores;
mod opening;
mod threads;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::config::{Config, DurabilitySetting, IoSetting};
use crate::exchange::mesh::Incoming;
use crate::exit::{ExitReason, Failure};
use crate::folder::{Folder, Identity};
use crate::mesh::{Peer, RING_CAPACITY, Wake, mesh};
use crate::shard::epoll::EpollDriver;
use crate::shard::uring::{self, UringDriver};
use crate::shard::waker::Waker;

use cores::{Cores, Plan};
use threads::{Common, RealDriver, Report, ShardSetup};

pub use opening::log_options;

/// For how long a port that is in use is tried again.
const PORT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Shards of a new folder where nothing is said.
const SHARDS_DEFAULT: u16 = 1;

/// Runs a broker until it is told to stop, or cannot go on.
pub fn serve(config: &Config) -> Result<(), Failure> {
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
    let listener = listen(config.listen).map_err(|error| {
        let text = format!("cannot listen on {}: {error}; choose another --listen", config.listen);
        Failure::new(ExitReason::Listen, text)
    })?;
    let address = listener.local_addr().map_err(|error| {
        Failure::new(ExitReason::Listen, format!("the listening socket has no address: {error}"))
    })?;
    let (uring, driver_line) = choose_driver(config.io)?;
    let plan = Plan::new(identity.shards, &cores, config.pin_threads, std::process::id() as usize);
    let announce = || say_hello(config, address, &plan, &driver_line);
    let setups =
        set_up(&identity, folder.as_ref(), listener).map_err(|error| unexpected("a waker", &error))?;
    let common = Common { config: config.clone(), identity, stop: Arc::new(AtomicBool::new(false)) };
    if uring {
        run::<UringDriver>(&plan, setups, common, announce)
    } else {
        run::<EpollDriver>(&plan, setups, common, announce)
    }
}

/// A broker that was just killed may have the port for a moment still: the kernel ends its ring behind it.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < PORT_WAIT_MAX => {
                std::thread::sleep(PORT_WAIT_MAX / 40);
            }
            result => return result,
        }
    }
}

/// What each shard is made of, but for what its own thread has to make.
fn set_up(
    identity: &Identity,
    folder: Option<&Folder>,
    listener: TcpListener,
) -> std::io::Result<Vec<ShardSetup>> {
    let wakers = (0..identity.shards).map(|_| Waker::new()).collect::<Result<Vec<_>, _>>()?;
    let wakes = wakers.iter().map(|waker| Box::new(waker.clone()) as Box<dyn Wake>).collect();
    let peers: Vec<Peer<Incoming<TcpStream>>> = mesh(wakes, RING_CAPACITY);
    let mut listener = Some(listener);
    let setup = |(number, (waker, peer))| ShardSetup {
        number,
        folder: folder.map(|folder| folder.shard_path(number)),
        listener: listener.take(),
        waker,
        peer,
    };
    Ok((0..identity.shards).zip(wakers.into_iter().zip(peers)).map(setup).collect())
}

/// Starts the threads, lets them serve when all shards are recovered, and waits for their end.
fn run<D: RealDriver>(
    plan: &Plan,
    setups: Vec<ShardSetup>,
    common: Common,
    announce: impl FnOnce(),
) -> Result<(), Failure> {
    let wakers: Vec<_> = setups.iter().map(|setup| setup.waker.clone()).collect();
    let stop = Arc::clone(&common.stop);
    let (reports, from_threads) = mpsc::channel();
    let go = start_all::<D>(plan, setups, &common, &reports)?;
    drop(reports);
    for _ in &plan.threads {
        match from_threads.recv() {
            Ok(Report::Ready(complaint)) => {
                complaint.into_iter().for_each(|text| eprintln!("tenpin: {text}"));
            }
            Ok(Report::Ended(result)) => return result,
            Err(_) => unreachable!("a thread says that it is over before it is"),
        }
    }
    let (signals, listener) = stop_on_signals(wakers, stop)?;
    // Only now: whoever reads this may connect at once, or send a signal.
    announce();
    go.iter().for_each(|go| {
        // One that has ended meanwhile has said why.
        let _ = go.send(());
    });
    let result = wait_for_all(plan.threads.len(), &from_threads);
    signals.close();
    // It only ever waits for signals, and has just been told to end.
    let _ = listener.join();
    if result.is_ok() {
        eprintln!("tenpin: stopped");
    }
    result
}

fn start_all<D: RealDriver>(
    plan: &Plan,
    setups: Vec<ShardSetup>,
    common: &Common,
    reports: &Sender<Report>,
) -> Result<Vec<Sender<()>>, Failure> {
    let mut setups: Vec<_> = setups.into_iter().map(Some).collect();
    let mut go = Vec::with_capacity(plan.threads.len());
    for thread in &plan.threads {
        let (give, take) = mpsc::channel();
        let its = thread.shards.iter().filter_map(|shard| setups[usize::from(*shard)].take()).collect();
        threads::start::<D>(thread, its, common.clone(), reports.clone(), take)
            .map_err(|error| unexpected("the thread of a shard cannot start", &error))?;
        go.push(give);
    }
    Ok(go)
}

/// The first failure ends the wait and with it the process: no shard lives on without the others (rule 3).
fn wait_for_all(threads: usize, from_threads: &Receiver<Report>) -> Result<(), Failure> {
    for _ in 0..threads {
        if let Ok(Report::Ended(result)) = from_threads.recv() {
            result?;
        }
    }
    Ok(())
}

/// Has all shards stop when the process is told to.
fn stop_on_signals(wakers: Vec<Waker>, stop: Arc<AtomicBool>) -> Result<(Handle, JoinHandle<()>), Failure> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| unexpected("signals cannot be taken", &error))?;
    let handle = signals.handle();
    let listener = std::thread::Builder::new()
        .name("tenpin-signals".to_owned())
        .spawn(move || {
            for _ in &mut signals {
                stop.store(true, Ordering::Release);
                wakers.iter().for_each(Waker::wake);
            }
        })
        .map_err(|error| unexpected("the signal thread cannot start", &error))?;
    Ok((handle, listener))
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

fn say_hello(config: &Config, address: SocketAddr, plan: &Plan, driver_line: &str) {
    let durability = match config.durability {
        DurabilitySetting::Fsync => "fsync: acknowledged means on disk",
        DurabilitySetting::Async => "async: acknowledged means given to the kernel, on disk within 100 ms",
        DurabilitySetting::Memory => "memory: nothing outlives this process",
    };
    let data = match config.durability {
        DurabilitySetting::Memory => "in memory".to_owned(),
        _ => format!("in {}", config.data_dir.display()),
    };
    let text = format!(
        "tenpin {}\n  listening on {address} (binary protocol)\n  data {data} ({durability})\n  shards {}\n  driver {driver_line}\n  \
         try it: cargo run --release --bin tenpin-bench -- hello --address {address}\n",
        env!("CARGO_PKG_VERSION"),
        plan.describe(),
    );
    // Nobody may be reading, and the broker serves all the same.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
