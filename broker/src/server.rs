//! A broker as a process: it opens the data folder, chooses the driver, runs the shard on a thread
//! of its own, and turns signals into a stop in good order.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Config, DurabilitySetting, IoSetting};
use crate::engine::EngineOptions;
use crate::exchange::mesh::Alone;
use crate::exit::{ExitReason, Failure};
use crate::flaws::Sound;
use crate::folder::{self, Folder, Identity};
use crate::journal::real_storage::RealStorage;
use crate::journal::{Durability, LogOptions, OpenError, Progress, RecoveryReport};
use crate::shard::driver::Driver;
use crate::shard::epoll::EpollDriver;
use crate::shard::uring::{self, UringDriver};
use crate::shard::waker::Waker;
use crate::shard::{Opened, Shard, ShardError, ShardOptions, open, real_clocks};

/// Runs a broker until it is told to stop, or cannot go on.
pub fn serve(config: &Config) -> Result<(), Failure> {
    let folder = match config.durability {
        DurabilitySetting::Memory => None,
        _ => Some(Folder::open(&config.data_dir, config.segment_bytes)?),
    };
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        let text = format!("cannot listen on {}: {error}; choose another --listen", config.listen);
        Failure::new(ExitReason::Listen, text)
    })?;
    let address = listener.local_addr().map_err(|error| {
        Failure::new(ExitReason::Listen, format!("the listening socket has no address: {error}"))
    })?;
    let (uring, driver_line) = choose_driver(config.io)?;
    let opened = open_shard(config, folder.as_ref())?;
    let announce = || say_hello(config, address, &driver_line);
    let shard_folder = folder.as_ref().map(|folder| folder.shard_path(0));
    let options = ShardOptions {
        handshake_timeout_ms: config.handshake_timeout_ms,
        keep_alive_timeout_ms: config.keep_alive_timeout_ms,
        ..ShardOptions::default()
    };
    // The ring belongs to the thread that makes it, and so does everything else of a shard.
    if uring {
        run(opened, options, announce, || {
            let driver = UringDriver::new(listener, shard_folder)?;
            let waker = driver.waker();
            Ok((driver, waker))
        })
    } else {
        run(opened, options, announce, || {
            let driver = EpollDriver::new(listener, shard_folder)?;
            let waker = driver.waker();
            Ok((driver, waker))
        })
    }
}

fn run<D: Driver>(
    opened: Opened<Sound>,
    options: ShardOptions,
    announce: impl FnOnce(),
    make_driver: impl FnOnce() -> std::io::Result<(D, Waker)>,
) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let unexpected =
        |what: &str, error: std::io::Error| Failure::new(ExitReason::Unexpected, format!("{what}: {error}"));
    let (driver, waker) = make_driver().map_err(|error| unexpected("the driver cannot start", error))?;
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| unexpected("signals cannot be taken", error))?;
    let handle = signals.handle();
    let told = Arc::clone(&stop);
    let listener = std::thread::Builder::new()
        .name("tenpin-signals".to_owned())
        .spawn(move || {
            for _ in &mut signals {
                told.store(true, Ordering::Release);
                waker.wake();
            }
        })
        .map_err(|error| unexpected("the signal thread cannot start", error))?;
    // Only now: whoever reads this may connect at once, or send a signal.
    announce();
    let result = Shard::new(driver, Alone::<()>::default(), opened, options, stop)
        .run(|text| eprintln!("tenpin: {text}"));
    handle.close();
    // It only ever waits for signals, and has just been told to end.
    let _ = listener.join();
    match result {
        Ok(()) => {
            eprintln!("tenpin: stopped");
            Ok(())
        }
        Err(error @ ShardError::Journal(_)) => {
            Err(Failure::new(ExitReason::JournalFailed, error.to_string()))
        }
        Err(error @ ShardError::Driver(_)) => Err(Failure::new(ExitReason::Unexpected, error.to_string())),
    }
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

fn open_shard(config: &Config, folder: Option<&Folder>) -> Result<Opened<Sound>, Failure> {
    let identity = match folder {
        Some(folder) => folder.identity().clone(),
        None => Identity::random(config.segment_bytes)?,
    };
    let log_options = log_options(config, &identity);
    log_options.check().map_err(|text| Failure::new(ExitReason::Configuration, text))?;
    let engine_options = EngineOptions {
        minute_rules: config.minute_rules,
        ..EngineOptions::new(0, identity.check_key_words())
    };
    let path = folder.map_or_else(PathBuf::new, |folder| folder.shard_path(0));
    let mut storage = RealStorage::new(path.clone());
    let began = Instant::now();
    let mut said = Instant::now();
    let mut progress = |progress: &Progress| {
        if said.elapsed().as_secs() >= 1 {
            said = Instant::now();
            eprintln!("tenpin: recovering, {progress}");
        }
    };
    let opened = open(
        &mut storage,
        log_options,
        engine_options,
        real_clocks(),
        folder::random_bytes()?,
        &mut progress,
    )
    .map_err(|error| {
        let reason = match &error {
            OpenError::Damage { .. } | OpenError::Records(_) => ExitReason::LogDamaged,
            _ => ExitReason::FolderUnusable,
        };
        Failure::new(reason, format!("the log in {} cannot be opened: {error}", path.display()))
    })?;
    if let Some(report) = &opened.report {
        report_recovery(report, began);
    }
    Ok(opened)
}

fn report_recovery(report: &RecoveryReport, began: Instant) {
    if report.records > 0 {
        eprintln!("tenpin: recovered {report} in {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// How a log of this folder is set up; the tools use it as well.
pub fn log_options(config: &Config, identity: &Identity) -> LogOptions {
    let durability = match config.durability {
        DurabilitySetting::Fsync => Durability::Fsync,
        DurabilitySetting::Async => Durability::Async,
        DurabilitySetting::Memory => Durability::Memory,
    };
    let defaults = LogOptions::new(durability, identity.nonce, 0);
    LogOptions {
        segment_bytes: if defaults.has_files() { identity.segment_bytes } else { defaults.segment_bytes },
        hot_bytes_max: config.hot_bytes_max,
        log_bytes_max: config.log_bytes_max,
        growth_factor: config.log_growth_factor,
        ..defaults
    }
}

fn say_hello(config: &Config, address: SocketAddr, driver_line: &str) {
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
        "tenpin {}\n  listening on {address} (binary protocol)\n  data {data} ({durability})\n  driver {driver_line}\n  \
         try it: cargo run --release --bin tenpin-bench -- hello --address {address}\n",
        env!("CARGO_PKG_VERSION")
    );
    // Nobody may be reading, and the broker serves all the same.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
