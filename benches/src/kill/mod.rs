//! Kills a loaded broker with SIGKILL at random moments, again and again, and checks that it kept
//! every promise: no acknowledged send lost, no acknowledged delete undone.
//!
//! Workers send, receive, hide and delete as fast as they are answered. The killer waits until some
//! requests have been answered since the last start, a little longer, and kills; sometimes it kills
//! again while the broker is still recovering. The next broker starts on the same folder and the
//! workers go on where they were. At the end the queue is drained, and the ledger closed.

mod ledger;
mod worker;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use self::ledger::Ledger;
pub use self::ledger::Totals;
use crate::client::{Client, Receive};
use crate::payload::{self, Payload};
use crate::process::{BrokerCommand, BrokerProcess};
use crate::random::Random;

/// The queue that is used.
const QUEUE: &str = "kill";

/// How long messages that were taken by a cut connection stay hidden. Short, so that they come back
/// during the run.
const VISIBILITY_SECONDS: u32 = 2;

/// Requests that are answered, at most, between a start and the next kill.
const REQUESTS_BETWEEN_KILLS_MAX: u64 = 1_500;

/// How often to look for broken promises while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One kill in so many is followed by another one while the broker is still starting.
const KILLED_WHILE_STARTING_ONCE_IN: u64 = 4;

/// A broker that answers nothing for so long, or a queue that does not drain, is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone)]
pub struct KillOptions {
    /// How to start the broker.
    pub command: BrokerCommand,
    /// How often to kill it under load (kills while it starts come on top).
    pub kills: u32,
    /// Connections, each with a thread.
    pub connections: u32,
    /// Bytes of the largest body; bodies have random lengths up to it.
    pub body_bytes_max: usize,
    /// For the choices; the interleaving is the machine's.
    pub seed: u64,
    /// Whether to print a line now and then.
    pub verbose: bool,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct KillReport {
    /// Kills under load.
    pub kills: u32,
    /// Kills while the broker was starting.
    pub kills_while_starting: u32,
    /// What the workers did.
    pub totals: Totals,
    /// Descriptions of broken promises; none is what is wanted.
    pub violations: Vec<String>,
    /// The longest time from a start until the broker listened.
    pub recovery_longest: Duration,
    /// In all.
    pub took: Duration,
}

impl fmt::Display for KillReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { attempted, acknowledged, received, redelivered, deleted, violations, .. } = self.totals;
        writeln!(
            formatter,
            "{} kills under load and {} while starting in {:.1} s; recovered in {:.0} ms at most",
            self.kills,
            self.kills_while_starting,
            self.took.as_secs_f64(),
            self.recovery_longest.as_secs_f64() * 1e3,
        )?;
        writeln!(
            formatter,
            "{attempted} messages sent, {acknowledged} acknowledged; {received} received, {redelivered} of them \
             again; {deleted} deletes acknowledged"
        )?;
        for violation in &self.violations {
            writeln!(formatter, "VIOLATION: {violation}")?;
        }
        write!(formatter, "{violations} promises broken")
    }
}

/// Where the broker is now; the generation goes up with each start.
#[derive(Debug, Clone, Copy)]
struct Place {
    generation: u64,
    address: SocketAddr,
}

/// What the killer and the workers share.
struct Shared {
    origin: u64,
    body_bytes_max: usize,
    place: Mutex<Option<Place>>,
    place_changed: Condvar,
    ledger: Mutex<Ledger>,
    /// Requests answered.
    answered: AtomicU64,
    /// The killer's thread, and for how many answers it waits.
    killer: Thread,
    wanted: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered; wakes the killer once it has what it waits for.
    fn note_answer(&self) {
        let answered = self.answered.fetch_add(1, Ordering::SeqCst) + 1;
        if answered == self.wanted.load(Ordering::SeqCst) {
            self.killer.unpark();
        }
    }

    /// Waits for a broker newer than `generation`; `None` when the run ends.
    fn next_place(&self, generation: u64) -> Option<Place> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            match *place {
                Some(found) if found.generation > generation => return Some(found),
                _ => {
                    let (next, timeout) = self
                        .place_changed
                        .wait_timeout(place, PATIENCE)
                        .unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() {
                        drop(next);
                        let what = "a connection broke although the broker was alive, or none came back";
                        self.ledger().violation(what.into());
                        return None;
                    }
                    place = next;
                }
            }
        }
    }

    /// A connection to the broker of this start broke: by a kill, before which its place is taken away, or
    /// else it should not have.
    fn connection_broke(&self, generation: u64, error: &io::Error) {
        let place = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some_and(|place| place.generation == generation) {
            self.ledger().violation(format!("a connection broke although the broker was alive: {error}"));
        }
    }

    fn set_place(&self, place: Option<Place>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        self.place_changed.notify_all();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Under the lock, so that nobody is between looking and waiting.
        let _place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        self.place_changed.notify_all();
    }
}

/// Does it all. An error is one of the harness or of a broker that does not come up; what the broker
/// did wrong is in the report.
pub fn run(options: &KillOptions) -> io::Result<KillReport> {
    let begun = Instant::now();
    let shared = Shared {
        origin: payload::new_origin(),
        body_bytes_max: options.body_bytes_max.max(payload::BODY_BYTES_MIN),
        place: Mutex::new(None),
        place_changed: Condvar::new(),
        ledger: Mutex::new(Ledger::default()),
        answered: AtomicU64::new(0),
        killer: std::thread::current(),
        wanted: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
    };
    let mut killer = Killer {
        options,
        shared: &shared,
        generation: 0,
        kills: 0,
        kills_while_starting: 0,
        longest: Duration::ZERO,
    };
    let broker = std::thread::scope(|scope| {
        // However the killer ends, the workers have to as well, or the scope would wait for ever.
        let _stop = StopAtEnd(&shared);
        let mut random = Random::new(options.seed);
        let first = killer.start_first()?;
        for _ in 0..options.connections {
            let seed = random.bits();
            let shared = &shared;
            scope.spawn(move || worker::run(shared, Random::new(seed)));
        }
        killer.kill_again_and_again(first, &mut random)
    })?;
    killer.drain(&broker)?;
    let (status, printed) = broker.stop(PATIENCE)?;
    let mut ledger = shared.ledger();
    if !status.success() {
        ledger.violation(format!("stopped with {status}; it printed:\n{printed}"));
    }
    if let Err(error) = options.command.verify_log() {
        ledger.violation(format!("the log that is left is damaged: {error}"));
    }
    ledger.close();
    Ok(KillReport {
        kills: killer.kills,
        kills_while_starting: killer.kills_while_starting,
        totals: ledger.totals(),
        violations: ledger.violations().to_vec(),
        recovery_longest: killer.longest,
        took: begun.elapsed(),
    })
}

struct StopAtEnd<'a>(&'a Shared);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Killer<'a> {
    options: &'a KillOptions,
    shared: &'a Shared,
    generation: u64,
    kills: u32,
    kills_while_starting: u32,
    longest: Duration,
}

impl Killer<'_> {
    fn start_first(&mut self) -> io::Result<BrokerProcess> {
        let broker = self.options.command.start()?;
        let mut client = Client::connect(broker.address()).map_err(io::Error::other)?;
        client.create(QUEUE, &[]).map_err(io::Error::other)?;
        self.announce(&broker);
        Ok(broker)
    }

    fn announce(&mut self, broker: &BrokerProcess) {
        self.generation += 1;
        self.longest = self.longest.max(broker.listening_after().unwrap_or_default());
        self.shared.set_place(Some(Place { generation: self.generation, address: broker.address() }));
    }

    fn kill_again_and_again(
        &mut self,
        mut broker: BrokerProcess,
        random: &mut Random,
    ) -> io::Result<BrokerProcess> {
        for kill in 1..=self.options.kills {
            if self.shared.ledger().totals().violations > 0 {
                break;
            }
            let enough =
                self.shared.answered.load(Ordering::SeqCst) + random.below(REQUESTS_BETWEEN_KILLS_MAX);
            self.wait_for_answers(enough, &broker)?;
            // So that the kill falls anywhere, not only right behind an answer.
            spin(Duration::from_nanos(random.below(3_000_000)));
            // Before the kill: whoever loses the connection must wait for the next broker, not this one.
            self.shared.set_place(None);
            broker.kill()?;
            self.kills = kill;
            while random.once_in(KILLED_WHILE_STARTING_ONCE_IN) {
                let starting = self.options.command.spawn()?;
                spin(Duration::from_nanos(random.below(30_000_000)));
                starting.kill()?;
                self.kills_while_starting += 1;
            }
            broker = self.options.command.start()?;
            self.announce(&broker);
            if self.options.verbose && (kill % 10 == 0 || kill == self.options.kills) {
                let Totals { acknowledged, deleted, violations, .. } = self.shared.ledger().totals();
                println!(
                    "{kill} kills, {acknowledged} sends and {deleted} deletes acknowledged, {violations} broken"
                );
            }
        }
        Ok(broker)
    }

    /// Waits until so many requests have been answered in all, or something is broken.
    fn wait_for_answers(&self, enough: u64, broker: &BrokerProcess) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.shared.wanted.store(enough, Ordering::SeqCst);
        while self.shared.answered.load(Ordering::SeqCst) < enough {
            if Instant::now() > deadline {
                let printed = broker.printed();
                return Err(io::Error::other(format!("the broker answers nothing; it printed:\n{printed}")));
            }
            if self.shared.ledger().totals().violations > 0 {
                return Ok(());
            }
            // Whoever brings the last one wakes this thread; what is broken is looked for now and then.
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// Takes and deletes all there is, waiting for what is hidden to come back.
    fn drain(&self, broker: &BrokerProcess) -> io::Result<()> {
        let mut client = Client::connect(broker.address()).map_err(io::Error::other)?;
        let queue = client.open(QUEUE).map_err(io::Error::other)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begun = self.shared.ledger().begin_receive();
            let receive = Receive { messages_max: 10, wait_ms: 500, visibility_seconds: Some(60) };
            let messages = client.receive(queue, receive).map_err(io::Error::other)?;
            let mut handles = Vec::new();
            let mut numbers = Vec::new();
            for message in messages {
                if let Some(number) = self.shared.check(&message.body, begun) {
                    numbers.push(number);
                }
                handles.push(message.handle);
            }
            if handles.is_empty() {
                let counts = client.counts(queue).map_err(io::Error::other)?;
                if counts.all() == 0 {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    self.shared.ledger().violation(format!("the queue does not drain: {counts:?}"));
                    return Ok(());
                }
                continue;
            }
            numbers.iter().for_each(|number| self.shared.ledger().attempt_delete(*number));
            let outcomes = client.delete(queue, &handles).map_err(io::Error::other)?;
            for outcome in outcomes {
                if let Err(refusal) = outcome {
                    self.shared.ledger().violation(format!("a delete while draining was refused: {refusal}"));
                }
            }
        }
    }
}

impl Shared {
    /// Verifies a body that came with a receive begun then, and books it; gives its number.
    fn check(&self, body: &[u8], begun: ledger::Moment) -> Option<u64> {
        match Payload::read(body) {
            Ok(Payload { origin, number }) if origin == self.origin => {
                self.ledger().received(number, begun);
                Some(number)
            }
            Ok(Payload { origin, number }) => {
                self.ledger().violation(format!("message {number} is of the strange origin {origin:#x}"));
                None
            }
            Err(corrupted) => {
                self.ledger().violation(corrupted.to_string());
                None
            }
        }
    }
}

fn spin(length: Duration) {
    let end = Instant::now() + length;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_breaks_by_a_kill_or_by_a_fault() {
        let place = |generation| Place { generation, address: SocketAddr::from(([127, 0, 0, 1], 1)) };
        let shared = Shared {
            origin: 1,
            body_bytes_max: payload::BODY_BYTES_MIN,
            place: Mutex::new(None),
            place_changed: Condvar::new(),
            ledger: Mutex::new(Ledger::default()),
            answered: AtomicU64::new(0),
            killer: std::thread::current(),
            wanted: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        };
        let broken = |place, generation| {
            shared.set_place(place);
            shared.connection_broke(generation, &io::ErrorKind::ConnectionReset.into());
            shared.ledger().totals().violations
        };
        assert_eq!(broken(None, 1), 0, "it is being killed");
        assert_eq!(broken(Some(place(2)), 1), 0, "it was killed, and the next one is there");
        assert_eq!(broken(Some(place(2)), 2), 1);
    }
}
