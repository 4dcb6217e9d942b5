//! A broker as a process: it is told to stop by signals, and says on standard output where it listens.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tenpin_broker::config::{Config, DurabilitySetting};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_broker::server::{self, Running, Stopper};

/// Runs a broker until the process is told to stop, or it cannot go on.
pub(crate) fn serve(config: &Config) -> Result<(), Failure> {
    raise_descriptor_limit();
    let running = server::start(config, Arc::new(|text| eprintln!("tenpin: {text}")))?;
    let (signals, listener) = stop_on_signals(running.stopper())?;
    // Only now: whoever reads this may send a signal at once.
    say_hello(config, &running);
    warn_of_strangers(&running);
    let result = running.join();
    signals.close();
    // It only ever waits for signals, and has just been told to end.
    let _ = listener.join();
    if result.is_ok() {
        eprintln!("tenpin: stopped");
    }
    result
}

/// Nobody has to say who they are yet.
fn warn_of_strangers(running: &Running) {
    let addresses = [Some(running.address()), running.sqs_address()].into_iter().flatten();
    let open: Vec<_> =
        addresses.filter(|address| !address.ip().is_loopback()).map(|address| address.to_string()).collect();
    if !open.is_empty() {
        eprintln!(
            "tenpin: there is no authentication: whoever can reach {} may do everything",
            open.join(" or ")
        );
    }
}

/// Where this machine reaches what listens at all of its addresses.
fn reached_at(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    if address.ip().is_unspecified() { (loopback, address.port()).into() } else { address }
}

/// Each connection is a descriptor, and the limit that processes begin with is often a small one. Where it
/// cannot be raised, connections beyond it wait, as they do at every limit.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and then a valid limit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // A failure leaves the limit as it was.
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Has the broker stop when the process is told to.
fn stop_on_signals(stopper: Stopper) -> Result<(Handle, JoinHandle<()>), Failure> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| unexpected("signals cannot be taken", &error))?;
    let handle = signals.handle();
    let listener = std::thread::Builder::new()
        .name("tenpin-signals".to_owned())
        .spawn(move || {
            for _ in &mut signals {
                stopper.stop();
            }
        })
        .map_err(|error| unexpected("the signal thread cannot start", &error))?;
    Ok((handle, listener))
}

fn unexpected(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitReason::Unexpected, format!("{what}: {error}"))
}

fn say_hello(config: &Config, running: &Running) {
    let address = running.address();
    let durability = match config.durability {
        DurabilitySetting::Fsync => "fsync: acknowledged means on disk",
        DurabilitySetting::Async => "async: acknowledged means given to the kernel, on disk within 100 ms",
        DurabilitySetting::Memory => "memory: nothing outlives this process",
    };
    let data = match config.durability {
        DurabilitySetting::Memory => "in memory".to_owned(),
        _ => format!("in {}", config.data_dir.display()),
    };
    let sqs = match running.sqs_address() {
        Some(address) => format!("SQS endpoint http://{address} (any credentials are accepted)"),
        None => "no SQS endpoint (--sqs-listen off)".to_owned(),
    };
    let server::Description { shards, driver } = running.description();
    let text = format!(
        "tenpin {}\n  listening on {address} (binary protocol)\n  {sqs}\n  data {data} ({durability})\n  shards {shards}\n  driver {driver}\n  \
         try it: tenpin queue create orders --address {}\n",
        env!("CARGO_PKG_VERSION"),
        reached_at(address),
    );
    // Nobody may be reading, and the broker serves all the same.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
