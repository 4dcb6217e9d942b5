//! The peers: what they are, how each is started at its best, and how its version is asked.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Session;
use super::beanstalk::Beanstalk;
use super::nats::Nats;
use super::redis::Redis;
use crate::process;

/// How long a peer may take until it listens.
const START_UP_MAX: Duration = Duration::from_secs(20);

/// A peer in one of its modes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    pub(super) install: &'static str,
    pub(super) mode: &'static str,
    /// Whether an answer means that it is on disk, as with Tenpin's fsync.
    pub(super) durability: &'static str,
    /// Arguments; `PORT` and `FOLDER` stand for what is chosen for the run.
    pub(super) arguments: &'static [&'static str],
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Redis,
    Beanstalk,
    NatsMemory,
    NatsFile,
}

macro_rules! redis {
    ($name:literal, $program:literal, $install:literal, $mode:literal, $durability:literal, $($more:literal),*) => {
        Peer {
            name: $name,
            program: $program,
            install: $install,
            mode: $mode,
            durability: $durability,
            arguments: &["--port", "PORT", "--bind", "127.0.0.1", "--dir", "FOLDER", "--save", "", $($more),*],
            kind: Kind::Redis,
        }
    };
}

macro_rules! peer {
    ($name:literal, $program:literal, $install:literal, $mode:literal, $durability:literal, $kind:ident, $arguments:expr) => {
        Peer {
            name: $name,
            program: $program,
            install: $install,
            mode: $mode,
            durability: $durability,
            arguments: $arguments,
            kind: Kind::$kind,
        }
    };
}

/// All peers that there are adapters for, in all their modes.
pub(super) const PEERS: &[Peer] = &[
    redis!("redis", "redis-server", "apt-get install redis-server", "memory", "memory", "--appendonly", "no"),
    redis!(
        "redis",
        "redis-server",
        "apt-get install redis-server",
        "everysec",
        "async",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec"
    ),
    redis!(
        "redis",
        "redis-server",
        "apt-get install redis-server",
        "always",
        "fsync",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always"
    ),
    redis!(
        "valkey",
        "valkey-server",
        "apt-get install valkey-server (from Debian 13 on)",
        "memory",
        "memory",
        "--appendonly",
        "no"
    ),
    redis!(
        "valkey",
        "valkey-server",
        "apt-get install valkey-server (from Debian 13 on)",
        "always",
        "fsync",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always"
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "memory",
        "memory",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "PORT"]
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "binlog",
        "async",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "PORT", "-b", "FOLDER", "-F"]
    ),
    peer!(
        "beanstalkd",
        "beanstalkd",
        "apt-get install beanstalkd",
        "binlog, fsync each",
        "fsync",
        Beanstalk,
        &["-l", "127.0.0.1", "-p", "PORT", "-b", "FOLDER", "-f", "0"]
    ),
    peer!(
        "nats",
        "nats-server",
        "apt-get install nats-server",
        "JetStream, memory",
        "memory",
        NatsMemory,
        &["-a", "127.0.0.1", "-p", "PORT", "-js", "-sd", "FOLDER"]
    ),
    peer!(
        "nats",
        "nats-server",
        "apt-get install nats-server",
        "JetStream, file",
        "async",
        NatsFile,
        &["-a", "127.0.0.1", "-p", "PORT", "-js", "-sd", "FOLDER"]
    ),
];

/// A peer that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended already both only say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name, self.mode)
    }

    /// Its version, where it is installed.
    pub(super) fn version(&self) -> Option<String> {
        let flag = if matches!(self.kind, Kind::Beanstalk) { "-v" } else { "--version" };
        let output = Command::new(self.program).arg(flag).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        text.lines().next().map(str::to_owned)
    }

    /// Starts it on a free port and an empty folder, and waits until it listens.
    pub(super) fn start(&self, folder: &Path, core: Option<usize>) -> io::Result<Running> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(self.program);
        let port = address.port().to_string();
        for argument in self.arguments {
            match *argument {
                "PORT" => command.arg(&port),
                "FOLDER" => command.arg(folder),
                other => command.arg(other),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        process::tie(&mut command, core);
        let mut running = Running { child: command.spawn()?, address };
        let deadline = Instant::now() + START_UP_MAX;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} ended with {status} while it started",
                    self.title()
                )));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("{} does not listen", self.title())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    pub(super) fn session(&self, index: usize) -> Box<dyn Session> {
        match self.kind {
            Kind::Redis => Box::new(Redis::new(index)),
            Kind::Beanstalk => Box::new(Beanstalk::default()),
            Kind::NatsMemory => Box::new(Nats::new(index, "memory")),
            Kind::NatsFile => Box::new(Nats::new(index, "file")),
        }
    }
}
