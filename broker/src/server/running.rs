//! A broker that runs: how it is asked to stop, how its threads are told that one of them has failed, and
//! how its end is waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::exit::Failure;
use crate::mesh::Wake;

/// For how long a broker that is dropped may stop in good order.
const DROP_PATIENCE: Duration = Duration::from_millis(250);

/// For how long threads that were told to end at once are waited for. One that is stuck in a system call for
/// longer is left behind, and keeps the data folder until it has ended.
const ABANDON_PATIENCE: Duration = Duration::from_secs(5);

/// What threads tell the one that started them.
pub(super) enum Report {
    /// It is ready, and waits to be told to go on. With what it could not do.
    Ready(Option<String>),
    /// It is over.
    Ended(Result<(), Failure>),
}

/// How all threads are told to end. Shared by all of them.
pub(super) struct Ending {
    /// Looked at by shards when they are woken.
    pub(super) stop: Arc<AtomicBool>,
    abandoned: AtomicBool,
    wakes: Vec<Box<dyn Wake>>,
}

impl Ending {
    /// For threads that these get out of their waits.
    pub(super) fn new(wakes: Vec<Box<dyn Wake>>) -> Self {
        Self { stop: Arc::new(AtomicBool::new(false)), abandoned: AtomicBool::new(false), wakes }
    }

    /// Has all stop in good order.
    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Has all end as soon as they look: something has failed, and no shard lives on without the others.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Whether they are to end at once. Looked at by threads after each wait.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn wake_all(&self) {
        self.wakes.iter().for_each(|wake| wake.wake());
    }
}

/// Asks a broker to stop, from any thread.
#[derive(Clone)]
pub struct Stopper(Arc<Ending>);

impl Stopper {
    /// Has the broker stop in good order: no new connections, long polls return, clients are told goodbye,
    /// replies leave, the log is synced. Returns at once.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// The threads of a broker, and what they report.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    reports: Receiver<Report>,
    /// How many have not reported their end.
    running: usize,
}

impl Threads {
    /// None yet; those that are added report here.
    pub(super) fn new(reports: Receiver<Report>) -> Self {
        Self { handles: Vec::new(), reports, running: 0 }
    }

    /// One more that was started.
    pub(super) fn add(&mut self, handle: JoinHandle<()>) {
        self.handles.push(handle);
        self.running += 1;
    }

    /// Waits until each is ready; gives what they complain about. The first that ends before ends the wait.
    pub(super) fn wait_until_ready(&mut self) -> Result<Vec<String>, Failure> {
        let mut complaints = Vec::new();
        for _ in 0..self.handles.len() {
            match self.reports.recv() {
                Ok(Report::Ready(complaint)) => complaints.extend(complaint),
                Ok(Report::Ended(result)) => {
                    self.running -= 1;
                    result?;
                }
                Err(_) => unreachable!("a thread says that it is over before it is"),
            }
        }
        Ok(complaints)
    }

    /// Waits until all have ended, at most until `deadline`: `None` if some have not. The first failure
    /// ends the wait.
    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Result<(), Failure>> {
        while self.running > 0 {
            let report = match deadline {
                None => self.reports.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            };
            match report {
                Ok(Report::Ready(_)) => {}
                Ok(Report::Ended(result)) => {
                    self.running -= 1;
                    if result.is_err() {
                        return Some(result);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => self.running = 0,
            }
        }
        // They have said that they are over; a panic among them was reported as a failure.
        self.handles.drain(..).for_each(|handle| drop(handle.join()));
        Some(Ok(()))
    }

    /// Waits for threads that were told to end at once, whatever they still report.
    pub(super) fn wait_after_abandon(&mut self) {
        let deadline = Instant::now() + ABANDON_PATIENCE;
        while let Some(Err(_)) = self.wait_until(Some(deadline)) {}
    }

    /// Waits for nobody any more.
    fn let_go(&mut self) {
        self.running = 0;
        self.handles.clear();
    }

    fn have_ended(&self) -> bool {
        self.handles.is_empty()
    }
}

/// A broker that serves. Dropping it stops it, within seconds at most; [`Running::join`] waits until it is
/// stopped or fails.
pub struct Running {
    pub(super) address: SocketAddr,
    pub(super) sqs_address: Option<SocketAddr>,
    pub(super) description: Description,
    pub(super) ending: Arc<Ending>,
    pub(super) threads: Threads,
}

/// Lines about a start, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// How many shards there are, and where they run.
    pub shards: String,
    /// Which driver was chosen, and why.
    pub driver: String,
}

impl Running {
    /// The address of the binary protocol.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the SQS-compatible endpoint, if there is one.
    pub fn sqs_address(&self) -> Option<SocketAddr> {
        self.sqs_address
    }

    /// What it has come to.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Something that asks it to stop, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.ending))
    }

    /// Waits until it has stopped. The first failure ends the wait; by then all threads have been told to end,
    /// as no shard lives on without the others (rule 3), and those that are still ending are left behind.
    pub fn join(mut self) -> Result<(), Failure> {
        let result = self.threads.wait_until(None).unwrap_or(Ok(()));
        self.threads.let_go();
        result
    }

    /// Stops it in good order, and ends whatever is left after `patience` as a kill would. It waits for
    /// the end of all threads, but for those that are stuck in the kernel for seconds.
    pub fn stop_within(mut self, patience: Duration) -> Result<(), Failure> {
        self.end(patience)
    }

    fn end(&mut self, patience: Duration) -> Result<(), Failure> {
        if self.threads.have_ended() {
            return Ok(());
        }
        self.ending.stop();
        let result = self.threads.wait_until(Some(Instant::now() + patience));
        if matches!(result, Some(Ok(()))) {
            return Ok(());
        }
        self.ending.abandon();
        self.threads.wait_after_abandon();
        self.threads.let_go();
        result.unwrap_or(Ok(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Who wants to know asks by `stop_within` or `join`.
        let _ = self.end(DROP_PATIENCE);
    }
}
