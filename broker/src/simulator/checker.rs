//! The judge: what clients were told, and what they may therefore expect.
//!
//! The checker sees requests and replies only, with the times at which the shard was handed the one
//! and let go of the other. Between these a request took effect, and nobody outside can know when;
//! so each judgement takes the times that speak for the broker. What was never answered may or may
//! not have happened. What was acknowledged has, and must stay so.

mod fifo;
mod messages;
mod moves;
mod queues;
mod starving;
mod sums;

use std::collections::BTreeMap;

use crate::clock::TRUSTED_JUMP_MS;

use super::history::History;
use super::message::Message;
use super::plan::{MS, Plan};
use starving::Bounds;

pub use fifo::group_of;
pub use moves::{Life, ListedTask};

/// Engine time goes in whole milliseconds, at either end of an interval, and may run one ahead.
const CLOCK_STEP_NS: u64 = 2 * MS;

/// When a request took effect: after the shard was handed it, before its reply left.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The shard was handed the request's last byte.
    pub from_ns: u64,
    /// The reply left at this time or later …
    pub earliest_ns: u64,
    /// … and at the latest then.
    pub to_ns: u64,
}

/// How a request ended, as its client knows it.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// It was carried out.
    Done(Window),
    /// It was refused and had no effect.
    Refused,
    /// No reply came; the shard had been handed it then, or (`None`) never was.
    Unknown(Option<u64>),
}

/// A purge, or the deletion of a whole queue.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    from_ns: u64,
    /// `None` until it is certain.
    to_ns: Option<u64>,
}

/// What is known of one life of a queue.
#[derive(Debug)]
pub struct Queue {
    /// Its name.
    pub name: usize,
    /// When its number was given out; what relies on it was durable then.
    known_ns: u64,
    /// A power cut may have undone its creation.
    may_never_have_been: bool,
    purges: Vec<Sweep>,
    deletions: Vec<Sweep>,
    purges_under_way: u32,
    deletions_under_way: u32,
    settings: History<Settings>,
    /// The least and greatest values that it may have had, ever.
    retention_seconds: (u64, u64),
    visibility_seconds_min: u64,
    delay_seconds_min: u64,
    delay_seconds_max: u64,
    /// When a receive was last lost: it may have taken messages that nobody knows of.
    receive_lost_ns: u64,
    abandoned_receives: u64,
    /// First deliveries of messages that stood in the order of their sends: when each left, and when
    /// the latest of these messages was sent at the earliest.
    first_deliveries: Vec<(u64, u64)>,
    receives: starving::Receives,
}

/// What one attribute change said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Seconds of retention.
    pub retention_seconds: Option<u64>,
    /// Seconds of visibility timeout.
    pub visibility_seconds: Option<u64>,
    /// Seconds of delay.
    pub delay_seconds: Option<u64>,
}

/// A message as a client received it.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    /// From which queue.
    pub queue: u64,
    /// Its body.
    pub body: &'a [u8],
    /// The id that the broker gave it.
    pub broker_id: [u8; 16],
    /// When the broker says it was sent.
    pub sent_at_ms: u64,
    /// What deletes it.
    pub handle: &'a [u8],
    /// How often it was received, by the broker's count.
    pub receive_count: u32,
    /// For how long it is hidden at least; `None`: as the queue says.
    pub visibility_seconds: Option<u64>,
    /// The shard that the receive came to.
    pub shard: u16,
}

/// Judges one run.
#[derive(Debug)]
pub struct Checker {
    violation: Option<String>,
    bounds: Bounds,
    /// Whether every other queue is a FIFO queue.
    has_fifo: bool,
    /// Whether messages move from queue to queue.
    moves: bool,
    tasks: moves::Tasks,
    /// All lives of queues by their numbers.
    pub queues: BTreeMap<u64, Queue>,
    /// The newest life of each name that is known.
    messages: BTreeMap<u64, Message>,
    by_broker_id: BTreeMap<[u8; 16], u64>,
    sends_under_way: u64,
    /// Messages of FIFO queues by queue and group, each by its sequence number.
    groups: BTreeMap<(u64, u64), BTreeMap<u64, u64>>,
    wall_jumps: Vec<(u64, i64)>,
    wall_starts_ms: u64,
    rot: bool,
    may_have_lost: bool,
    /// When the broker crashed, and whether that may have taken what was acknowledged.
    crashes: Vec<(u64, bool)>,
    /// How many replies, deliveries and so on there were: a run that did nothing proves nothing.
    pub delivered: u64,
}

impl Checker {
    /// Nothing is known yet.
    pub fn new(wall_starts_ms: u64, plan: &Plan) -> Self {
        Self {
            violation: None,
            bounds: Bounds::of(plan),
            has_fifo: plan.clients.fifo,
            moves: plan.clients.moving.is_some(),
            tasks: moves::Tasks::of(plan),
            queues: BTreeMap::new(),
            messages: BTreeMap::new(),
            by_broker_id: BTreeMap::new(),
            sends_under_way: 0,
            groups: BTreeMap::new(),
            wall_jumps: Vec::new(),
            wall_starts_ms,
            rot: false,
            may_have_lost: false,
            crashes: Vec::new(),
            delivered: 0,
        }
    }

    /// Notes what must not be; the first one stands.
    pub fn violation(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }

    /// Whether something was found.
    pub fn has_violation(&self) -> bool {
        self.violation.is_some()
    }

    /// What was found.
    pub fn found(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Whether the last crash may have taken what was acknowledged (durability `async` only).
    pub fn may_have_lost(&self) -> bool {
        self.may_have_lost
    }

    /// The log was recovered and looked at: what was lost is known.
    pub fn recovered(&mut self) {
        self.may_have_lost = false;
    }

    /// A bit flipped somewhere on disk.
    pub fn rot_fell(&mut self) {
        self.rot = true;
    }

    /// The wall clock jumped.
    pub fn wall_jumped(&mut self, at_ns: u64, by_ms: i64) {
        self.wall_jumps.push((at_ns, by_ms));
    }

    /// The broker crashed. What it acknowledged since `lost_since_ns` may be gone (with `async`
    /// durability and a power cut only).
    pub fn crashed(&mut self, now_ns: u64, lost_since_ns: Option<u64>) {
        self.crashes.push((now_ns, lost_since_ns.is_some()));
        self.may_have_lost |= lost_since_ns.is_some();
        self.moves_crashed(lost_since_ns.is_some());
        let lost_since_ns = lost_since_ns.unwrap_or(u64::MAX);
        for message in self.messages.values_mut() {
            message.crashed(lost_since_ns);
        }
        for queue in self.queues.values_mut() {
            queue.may_never_have_been |= queue.known_ns >= lost_since_ns;
            queue.settings.crashed(lost_since_ns);
            // A purge before them may be undone, and what it had taken stands before them again.
            queue.first_deliveries.retain(|(left_ns, _)| *left_ns < lost_since_ns);
            queue.receives.crashed();
            for sweep in queue.purges.iter_mut().chain(&mut queue.deletions) {
                sweep.to_ns = sweep.to_ns.filter(|to_ns| *to_ns < lost_since_ns);
            }
        }
    }

    /// Whether the wall clock jumped so far that retention is held back (rule 9).
    pub fn is_time_doubtful(&self) -> bool {
        self.wall_jumps.iter().map(|(_, by_ms)| by_ms.unsigned_abs()).sum::<u64>() >= TRUSTED_JUMP_MS
    }

    /// How far engine time may at most have moved between two times: with the monotonic clock, and
    /// by each jump that the wall made forward. One from which the wall came back may have been missed by a
    /// shard that stood still meanwhile; it hears of it from another one, whose time has gone on, later.
    fn elapsed_ns_max(&self, from_ns: u64, to_ns: u64) -> u64 {
        // One just before is noticed with the next whole millisecond.
        let is_within = |at_ns: u64| (from_ns.saturating_sub(CLOCK_STEP_NS)..=to_ns).contains(&at_ns);
        let came_back = |since_ns: u64| {
            self.wall_jumps.iter().any(|&(at_ns, by_ms)| by_ms < 0 && (since_ns..=to_ns).contains(&at_ns))
        };
        let jumps_ms: u64 = self
            .wall_jumps
            .iter()
            .filter(|&&(at_ns, by_ms)| by_ms > 0 && (is_within(at_ns) || at_ns < from_ns && came_back(at_ns)))
            .map(|(_, by_ms)| by_ms.unsigned_abs())
            .sum();
        to_ns.saturating_sub(from_ns) + jumps_ms * MS + CLOCK_STEP_NS
    }

    /// Engine time, where no jump of the wall has made it uncertain.
    fn engine_ms(&self, at_ns: u64) -> Option<u64> {
        self.wall_jumps.is_empty().then(|| self.wall_starts_ms + at_ns / MS)
    }
}

impl Sweep {
    fn of(ending: Ending) -> Option<Self> {
        match ending {
            Ending::Done(window) => Some(Self { from_ns: window.from_ns, to_ns: Some(window.to_ns) }),
            Ending::Refused | Ending::Unknown(None) => None,
            Ending::Unknown(Some(from_ns)) => Some(Self { from_ns, to_ns: None }),
        }
    }
}

impl Queue {
    fn may_be_gone(&self) -> bool {
        self.may_never_have_been || !self.deletions.is_empty() || self.deletions_under_way > 0
    }
}
