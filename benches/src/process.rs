//! A broker as a child process: started on a free port, watched through what it prints, stopped
//! politely or not.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::measure;

/// Lines of a broker's output that are kept; the oldest go when there are more.
const LINES_KEPT_MAX: usize = 1_000;

/// How to start a broker.
#[derive(Debug, Clone)]
pub struct BrokerCommand {
    /// The binary `tenpin`.
    pub program: PathBuf,
    /// Its data folder.
    pub folder: PathBuf,
    /// The driver: auto, uring or epoll.
    pub io: String,
    /// When it acknowledges: fsync, async or memory.
    pub durability: String,
    /// Its shards, where that is said.
    pub shards: Option<u16>,
    /// Where it listens; port 0 takes a free one.
    pub listen: String,
    /// Where its SQS-compatible endpoint listens: an address or `off`.
    pub sqs_listen: String,
    /// Arguments beside those.
    pub arguments: Vec<String>,
    /// The core that it is to stay on, where it shall.
    pub core: Option<usize>,
    /// How long it may take until it listens, recovery included.
    pub start_up_max: Duration,
}

impl BrokerCommand {
    /// A broker with the default driver and durability.
    pub fn new(program: &Path, folder: &Path) -> Self {
        BrokerCommand {
            program: program.to_owned(),
            folder: folder.to_owned(),
            io: "auto".into(),
            durability: "fsync".into(),
            shards: None,
            listen: "127.0.0.1:0".into(),
            sqs_listen: "off".into(),
            arguments: Vec::new(),
            core: None,
            start_up_max: Duration::from_secs(60),
        }
    }

    /// Starts the process and returns at once.
    pub fn spawn(&self) -> io::Result<BrokerProcess> {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--data-dir").arg(&self.folder);
        command.args(["--listen", &self.listen, "--io", &self.io, "--durability", &self.durability]);
        command.args(["--sqs-listen", &self.sqs_listen]);
        if let Some(shards) = self.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tie(&mut command, self.core);
        let started = Instant::now();
        let process = command.spawn().map_err(|error| {
            let program = self.program.display();
            io::Error::new(
                error.kind(),
                format!("{program} cannot be started (build it, or name it with --spawn): {error}"),
            )
        })?;
        BrokerProcess::watch(process, started)
    }

    /// Has the log's every checksum verified by `tenpin journal verify`, while no broker runs; an
    /// error carries what it printed.
    pub fn verify_log(&self) -> io::Result<()> {
        let output = Command::new(&self.program)
            .args(["journal", "verify", "--data-dir"])
            .arg(&self.folder)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let printed = [output.stdout, output.stderr].concat();
        Err(io::Error::other(format!("{}: {}", output.status, String::from_utf8_lossy(&printed))))
    }

    /// Starts the process and waits until it listens.
    pub fn start(&self) -> io::Result<BrokerProcess> {
        let broker = self.spawn()?;
        broker.wait_until_listening(self.start_up_max)?;
        Ok(broker)
    }
}

/// Has a process end with its starter, and stay on a core where it shall.
pub(crate) fn tie(command: &mut Command, core: Option<usize>) {
    // SAFETY: between fork and exec only system calls are made, which allocate nothing.
    unsafe {
        command.pre_exec(move || {
            // What is left by a starter that is gone would run for ever.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            core.map_or(Ok(()), measure::pin_to_core)
        });
    }
}

/// What a broker has printed so far.
#[derive(Debug, Default)]
struct Printed {
    lines: VecDeque<String>,
    address: Option<SocketAddr>,
    sqs_address: Option<SocketAddr>,
    listening_after: Option<Duration>,
    streams_ended: usize,
}

#[derive(Debug, Default)]
struct Output {
    printed: Mutex<Printed>,
    changed: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Printed> {
        // Lines are pushed whole, so what a thread that panicked left is as good as any.
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running broker. Dropping it kills it.
pub struct BrokerProcess {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for BrokerProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BrokerProcess").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl BrokerProcess {
    fn watch(mut child: Child, started: Instant) -> io::Result<Self> {
        let output = Arc::new(Output::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ];
        let readers = streams.into_iter().flatten().map(|stream| {
            let output = Arc::clone(&output);
            std::thread::spawn(move || read_lines(stream, started, &output))
        });
        let readers = readers.collect();
        Ok(BrokerProcess { child, output, readers })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed where it listens. An error carries what it printed instead.
    pub fn wait_until_listening(&self, at_most: Duration) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + at_most;
        let mut printed = self.output.lock();
        loop {
            if let Some(address) = printed.address {
                return Ok(address);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || printed.streams_ended == 2 {
                let why = if left.is_zero() { "took too long to start" } else { "ended while it started" };
                return Err(io::Error::other(format!(
                    "the broker {why}; it printed:\n{}",
                    join(&printed.lines)
                )));
            }
            printed =
                self.output.changed.wait_timeout(printed, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// If it does not listen yet: [`BrokerCommand::start`] waits for it.
    pub fn address(&self) -> SocketAddr {
        self.output.lock().address.expect("the broker was waited for until it listens")
    }

    /// Where its SQS-compatible endpoint listens, once it has said so.
    pub fn sqs_address(&self, at_most: Duration) -> io::Result<SocketAddr> {
        self.wait_for_line("SQS endpoint", at_most)?;
        self.output.lock().sqs_address.ok_or_else(|| io::Error::other("it has no SQS-compatible endpoint"))
    }

    /// How long it took from its start until it listened.
    pub fn listening_after(&self) -> Option<Duration> {
        self.output.lock().listening_after
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        join(&self.output.lock().lines)
    }

    /// Waits until it has printed a line with `text` in it.
    pub fn wait_for_line(&self, text: &str, at_most: Duration) -> io::Result<String> {
        let deadline = Instant::now() + at_most;
        let mut printed = self.output.lock();
        loop {
            if let Some(line) = printed.lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || printed.streams_ended == 2 {
                return Err(io::Error::other(format!("no line with {text:?} in:\n{}", join(&printed.lines))));
            }
            printed =
                self.output.changed.wait_timeout(printed, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> io::Result<Duration> {
        measure::process_cpu(self.pid())
    }

    /// Its resident memory.
    pub fn memory(&self) -> io::Result<measure::Memory> {
        measure::process_memory(self.pid())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the process is our child and not yet waited for, so that the id is still its own.
        let result = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Ends it as a power cut of the process would: SIGKILL, then waits for its end.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Waits until it has ended by itself, and returns its exit status and all that it printed.
    pub fn wait(mut self, at_most: Duration) -> io::Result<(ExitStatus, String)> {
        let deadline = Instant::now() + at_most;
        let mut printed = self.output.lock();
        while printed.streams_ended < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("the broker did not end; it printed:\n{}", join(&printed.lines));
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            printed =
                self.output.changed.wait_timeout(printed, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let lines = join(&printed.lines);
        drop(printed);
        Ok((self.child.wait()?, lines))
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub fn stop(self, at_most: Duration) -> io::Result<(ExitStatus, String)> {
        self.signal(libc::SIGTERM)?;
        self.wait(at_most)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Where it has ended already both only say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn read_lines(stream: Box<dyn Read + Send>, started: Instant, output: &Output) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let mut printed = output.lock();
        if printed.address.is_none()
            && let Some(address) = listening_address(&line)
        {
            printed.address = Some(address);
            printed.listening_after = Some(started.elapsed());
        }
        if printed.sqs_address.is_none() {
            printed.sqs_address = sqs_address(&line);
        }
        if printed.lines.len() == LINES_KEPT_MAX {
            printed.lines.pop_front();
        }
        printed.lines.push_back(line);
        output.changed.notify_all();
    }
    output.lock().streams_ended += 1;
    output.changed.notify_all();
}

fn join(lines: &VecDeque<String>) -> String {
    lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// The address in a line like `listening on 127.0.0.1:7010 (binary protocol)`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, behind) = line.split_once("listening on ")?;
    behind.split_whitespace().next()?.parse().ok()
}

/// The address in a line like `SQS endpoint http://127.0.0.1:9324 (any credentials are accepted)`.
fn sqs_address(line: &str) -> Option<SocketAddr> {
    let (_, behind) = line.split_once("SQS endpoint http://")?;
    behind.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_line() {
        let line = "listening on 127.0.0.1:40123 (binary protocol)";
        assert_eq!(listening_address(line), Some("127.0.0.1:40123".parse().unwrap()));
        assert_eq!(listening_address("data lies in ./listening on nothing"), None);
    }
}
