//! The threads of the shards: each opens its shards, makes their drivers, waits for the others, and
//! runs them until they have stopped or one has failed.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;
use std::{io, thread};

use super::Say;
use super::cores::{ThreadPlan, pin_to};
use super::opening::open_shard;
use super::running::{Ending, Report};
use super::turns::run_by_turns;
use crate::config::Config;
use crate::exchange::mesh::Incoming;
use crate::exit::{ExitReason, Failure};
use crate::flaws::Sound;
use crate::folder::{Folder, Identity};
use crate::mesh::{Peer, ShardMesh};
use crate::shard::driver::SharesThread;
use crate::shard::epoll::EpollDriver;
use crate::shard::uring::UringDriver;
use crate::shard::waker::Waker;
use crate::shard::{Shard, ShardError, ShardOptions, Turn};

/// The drivers that a broker can run on.
pub(super) trait RealDriver: SharesThread<Socket = TcpStream> + Sized {
    /// Makes one on the thread that runs it, alone or with others.
    fn make(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
        shares_its_thread: bool,
    ) -> io::Result<Self>;
}

impl RealDriver for EpollDriver {
    fn make(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
        _shares_its_thread: bool,
    ) -> io::Result<Self> {
        Self::with_waker(listener, folder, waker)
    }
}

impl RealDriver for UringDriver {
    fn make(
        listener: Option<TcpListener>,
        folder: Option<PathBuf>,
        waker: Waker,
        shares_its_thread: bool,
    ) -> io::Result<Self> {
        match shares_its_thread {
            true => Self::sharing_a_thread(listener, folder, waker),
            false => Self::with_waker(listener, folder, waker),
        }
    }
}

/// What all threads are told.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) identity: Identity,
    /// Locked until the last thread has ended.
    pub(super) folder: Option<Arc<Folder>>,
    pub(super) ending: Arc<Ending>,
    pub(super) say: Say,
}

/// What a shard is made of.
pub(super) struct ShardSetup {
    pub(super) number: u16,
    /// Where its log is; `None` in memory.
    pub(super) folder: Option<PathBuf>,
    /// The first shard accepts for all.
    pub(super) listener: Option<TcpListener>,
    pub(super) waker: Waker,
    pub(super) peer: Peer<Incoming<TcpStream>>,
}

/// Tells the starter that a thread is over, even where a bug ends it, and the other threads that it has failed.
pub(super) struct LastWords {
    pub(super) reports: Sender<Report>,
    pub(super) ending: Arc<Ending>,
    pub(super) result: Option<Result<(), Failure>>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(Failure::new(ExitReason::Unexpected, "a thread of the broker has ended by a bug of its own"))
        });
        if result.is_err() {
            self.ending.abandon();
        }
        // Nobody listens any more when another thread has failed before.
        let _ = self.reports.send(Report::Ended(result));
    }
}

/// Starts a thread for some shards. It serves only once `go` says so.
pub(super) fn start<D: RealDriver>(
    plan: &ThreadPlan,
    setups: Vec<ShardSetup>,
    common: Common,
    reports: Sender<Report>,
    go: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let name = match &plan.shards[..] {
        [shard] => format!("tenpin-shard-{shard}"),
        shards => format!("tenpin-shards-{}", shards.first().copied().unwrap_or_default()),
    };
    let core = plan.core;
    thread::Builder::new().name(name).spawn(move || {
        let ending = Arc::clone(&common.ending);
        let mut last_words = LastWords { reports: reports.clone(), ending, result: None };
        last_words.result = Some(recover_and_run::<D>(setups, core, &common, &reports, &go));
    })
}

fn recover_and_run<D: RealDriver>(
    setups: Vec<ShardSetup>,
    core: Option<usize>,
    common: &Common,
    reports: &Sender<Report>,
    go: &Receiver<()>,
) -> Result<(), Failure> {
    let mut shards = Vec::with_capacity(setups.len());
    let shares_its_thread = setups.len() > 1;
    for setup in setups {
        shards.push(make_shard::<D>(setup, common, shares_its_thread)?);
    }
    // After the drivers: their helper threads are to run wherever there is room.
    let pinned = core.map(pin_to).transpose();
    let complaint = pinned.err().map(|error| format!("a shard could not be pinned to its core: {error}"));
    // Whoever does not listen, and does not say go, has ended.
    if reports.send(Report::Ready(complaint)).is_err() || go.recv().is_err() {
        return Ok(());
    }
    let result = match &mut shards[..] {
        [shard] => run_alone(shard, common),
        shards => run_by_turns(shards, common),
    };
    result.map_err(|error| {
        let reason = match &error {
            ShardError::Journal(_) => ExitReason::JournalFailed,
            ShardError::Driver(_) => ExitReason::Unexpected,
        };
        Failure::new(reason, error.to_string())
    })
}

pub(super) type RealShard<D> = Shard<D, ShardMesh<TcpStream>, Sound>;

fn make_shard<D: RealDriver>(
    setup: ShardSetup,
    common: &Common,
    shares_its_thread: bool,
) -> Result<RealShard<D>, Failure> {
    let Common { config, identity, ending, say, .. } = common;
    let opened = open_shard(config, identity, setup.folder.as_deref(), setup.number, say)?;
    let driver = D::make(setup.listener, setup.folder, setup.waker, shares_its_thread)
        .map_err(|error| Failure::new(ExitReason::Unexpected, format!("the driver cannot start: {error}")))?;
    let options = ShardOptions {
        handshake_timeout_ms: config.handshake_timeout_ms,
        keep_alive_timeout_ms: config.keep_alive_timeout_ms,
        busy_poll_ns: u64::from(config.busy_poll_us) * 1_000,
        gather_ns: u64::from(config.gather_us) * 1_000,
        ..ShardOptions::default()
    };
    let mesh = ShardMesh::new(setup.peer, identity.shards);
    Ok(Shard::new(driver, mesh, opened, options, Arc::clone(&ending.stop)))
}

fn run_alone<D: RealDriver>(shard: &mut RealShard<D>, common: &Common) -> Result<(), ShardError> {
    while shard.turn()? == Turn::Running && !common.ending.is_abandoned() {
        shard.news().into_iter().for_each(|text| (common.say)(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::SocketAddr;

    use super::*;
    use crate::config::{DurabilitySetting, SqsListen};

    /// What the kernel says of a thread: its name, and the cores that it may run on.
    fn name_and_cores(status: &str) -> Option<(String, String)> {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
        };
        Some((field("Name:")?, field("Cpus_allowed_list:")?))
    }

    /// The cores that the threads of this process may run on which make memory.
    fn cores_of_helpers() -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").expect("it is there");
        // Threads of other tests may end meanwhile.
        let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        let threads = statuses.filter_map(|status| name_and_cores(&status));
        threads.filter(|(name, _)| name == "shard-memory").map(|(_, cores)| cores).collect()
    }

    /// Memory is made beside a shard, not on the core that the shard is kept on.
    #[test]
    fn who_makes_memory_for_a_pinned_shard_runs_wherever_there_is_room() {
        let status = fs::read_to_string("/proc/thread-self/status").expect("it is there");
        let (_, all) = name_and_cores(&status).expect("it says so");
        let config = Config {
            durability: DurabilitySetting::Memory,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            sqs_listen: SqsListen::Off,
            ..Config::default()
        };
        let _running = crate::server::start(&config, Arc::new(|_| {})).expect("it starts");
        let cores = loop {
            let cores = cores_of_helpers();
            if !cores.is_empty() {
                break cores;
            }
            thread::yield_now();
        };
        assert!(cores.iter().all(|cores| *cores == all), "{cores:?}, and not {all}");
    }
}
