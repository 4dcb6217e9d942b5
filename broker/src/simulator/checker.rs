//! The judge: what clients were told, and what they may therefore expect.
//!
//! The checker sees requests and replies only, with the times at which the shard was handed the one
//! and let go of the other. Between these a request took effect, and nobody outside can know when;
//! so each judgement takes the times that speak for the broker. What was never answered may or may
//! not have happened. What was acknowledged has, and must stay so.

use std::collections::BTreeMap;

use crate::clock::TRUSTED_JUMP_MS;

use super::history::History;
use super::message::{Existence, Hold, HoldKind, Message, Removal};
use super::plan::{MS, SECOND};

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
    /// How often it was received, by the broker's count.
    pub receive_count: u32,
    /// For how long it is hidden at least; `None`: as the queue says.
    pub visibility_seconds: Option<u64>,
}

/// Judges one run.
#[derive(Debug)]
pub struct Checker {
    violation: Option<String>,
    /// All lives of queues by their numbers.
    pub queues: BTreeMap<u64, Queue>,
    /// The newest life of each name that is known.
    messages: BTreeMap<u64, Message>,
    by_broker_id: BTreeMap<[u8; 16], u64>,
    sends_under_way: u64,
    wall_jumps: Vec<(u64, i64)>,
    wall_starts_ms: u64,
    rot: bool,
    may_have_lost: bool,
    /// How many replies, deliveries and so on there were: a run that did nothing proves nothing.
    pub delivered: u64,
}

impl Checker {
    /// Nothing is known yet.
    pub fn new(wall_starts_ms: u64) -> Self {
        Self {
            violation: None,
            queues: BTreeMap::new(),
            messages: BTreeMap::new(),
            by_broker_id: BTreeMap::new(),
            sends_under_way: 0,
            wall_jumps: Vec::new(),
            wall_starts_ms,
            rot: false,
            may_have_lost: false,
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
    pub fn crashed(&mut self, _now_ns: u64, lost_since_ns: Option<u64>) {
        self.may_have_lost |= lost_since_ns.is_some();
        let lost_since_ns = lost_since_ns.unwrap_or(u64::MAX);
        for message in self.messages.values_mut() {
            message.crashed(lost_since_ns);
        }
        for queue in self.queues.values_mut() {
            queue.may_never_have_been |= queue.known_ns >= lost_since_ns;
            queue.settings.crashed(lost_since_ns);
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
    /// by each jump that the wall made forward.
    fn elapsed_ns_max(&self, from_ns: u64, to_ns: u64) -> u64 {
        let jumps_ms: u64 = self
            .wall_jumps
            .iter()
            .filter(|(at_ns, by_ms)| (from_ns..=to_ns).contains(at_ns) && *by_ms > 0)
            .map(|(_, by_ms)| by_ms.unsigned_abs())
            .sum();
        to_ns.saturating_sub(from_ns) + jumps_ms * MS + CLOCK_STEP_NS
    }

    /// Engine time, where no jump of the wall has made it uncertain.
    fn engine_ms(&self, at_ns: u64) -> Option<u64> {
        self.wall_jumps.is_empty().then(|| self.wall_starts_ms + at_ns / MS)
    }
}

/// Queues.
impl Checker {
    /// A queue was created or opened and has this number.
    pub fn queue_known(&mut self, name: usize, number: u64, settings: Settings, window: Window) {
        let to_ns = window.to_ns;
        if let Some(queue) = self.queues.get_mut(&number) {
            if queue.name != name {
                return self.violation(format!("queue number {number} belongs to two names"));
            }
            // It is revealed, and so durable.
            queue.known_ns = queue.known_ns.min(to_ns);
            queue.may_never_have_been = false;
            if queue.deletions.iter().any(|sweep| sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns)) {
                self.violation(format!("queue {name} has number {number} again, which was deleted"));
            }
            return;
        }
        let retention = settings.retention_seconds;
        let mut history = History::default();
        let creation = history.begin(settings, 0);
        history.end(creation, Ending::Done(Window { from_ns: 0, ..window }));
        self.queues.insert(
            number,
            Queue {
                name,
                known_ns: to_ns,
                may_never_have_been: false,
                purges: Vec::new(),
                deletions: Vec::new(),
                purges_under_way: 0,
                deletions_under_way: 0,
                settings: history,
                retention_seconds: (retention.unwrap_or(60), retention.unwrap_or(1_209_600)),
                visibility_seconds_min: settings.visibility_seconds.unwrap_or(0),
                delay_seconds_min: settings.delay_seconds.unwrap_or(0),
                delay_seconds_max: settings.delay_seconds.unwrap_or(u64::MAX),
                receive_lost_ns: 0,
                abandoned_receives: 0,
                first_deliveries: Vec::new(),
            },
        );
    }

    /// A queue is to get other attributes; whether it has them is not certain from now on. Gives the
    /// number of the change.
    pub fn settings_change(&mut self, number: u64, settings: Settings, now_ns: u64) -> usize {
        let Some(queue) = self.queues.get_mut(&number) else { return 0 };
        if let Some(seconds) = settings.retention_seconds {
            let (least, most) = queue.retention_seconds;
            queue.retention_seconds = (least.min(seconds), most.max(seconds));
        }
        if let Some(seconds) = settings.visibility_seconds {
            queue.visibility_seconds_min = queue.visibility_seconds_min.min(seconds);
        }
        if let Some(seconds) = settings.delay_seconds {
            queue.delay_seconds_min = queue.delay_seconds_min.min(seconds);
            queue.delay_seconds_max = queue.delay_seconds_max.max(seconds);
        }
        queue.settings.begin(settings, now_ns)
    }

    /// A change of attributes has ended.
    pub fn settings_changed(&mut self, number: u64, change: usize, ending: Ending) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.settings.end(change, ending);
        }
    }

    /// The broker says what a queue's attributes are.
    pub fn settings_read(&mut self, number: u64, read: Settings, window: Window) {
        let Some(queue) = self.queues.get(&number) else { return };
        let name = queue.name;
        let differs = |is: Option<u64>, of: fn(&Settings) -> Option<u64>| {
            is.is_some_and(|value| !queue.settings.may_be(value, of, window))
        };
        if differs(read.visibility_seconds, |settings| settings.visibility_seconds)
            || differs(read.delay_seconds, |settings| settings.delay_seconds)
            || differs(read.retention_seconds, |settings| settings.retention_seconds)
        {
            let text = format!("queue {name} says {read:?}; it was set by {:?}", queue.settings);
            self.violation(text);
        }
    }

    /// A purge is asked for.
    pub fn purge_began(&mut self, number: u64) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.purges_under_way += 1;
        }
    }

    /// A purge has ended.
    pub fn purge_ended(&mut self, number: u64, ending: Ending) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.purges_under_way -= 1;
            queue.purges.extend(Sweep::of(ending));
        }
    }

    /// A queue's deletion is asked for.
    pub fn deletion_began(&mut self, number: u64) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.deletions_under_way += 1;
        }
    }

    /// A queue's deletion has ended.
    pub fn deletion_ended(&mut self, number: u64, ending: Ending) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.deletions_under_way -= 1;
            queue.deletions.extend(Sweep::of(ending));
        }
    }

    /// A request was told that a queue's number means nothing.
    pub fn number_missing(&mut self, number: u64, window: Window) {
        let Some(queue) = self.queues.get(&number) else { return };
        if !queue.may_be_gone() && queue.known_ns < window.from_ns {
            let name = queue.name;
            self.violation(format!("queue {name} (number {number}) is gone, though nobody deleted it"));
        }
    }

    /// A request was told that there is no queue of a name.
    pub fn name_missing(&mut self, name: usize, window: Window) {
        let is_there =
            |queue: &Queue| queue.name == name && !queue.may_be_gone() && queue.known_ns < window.from_ns;
        if self.queues.values().any(is_there) {
            self.violation(format!("there is no queue {name}, though nobody deleted it"));
        }
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

/// Messages.
impl Checker {
    /// A message is sent; whether it is stored is not known from now on.
    pub fn send_began(
        &mut self,
        id: u64,
        queue: u64,
        body_bytes: usize,
        delay_seconds: Option<u64>,
        now_ns: u64,
    ) {
        self.messages.insert(id, Message::new(queue, body_bytes, delay_seconds, now_ns));
        self.sends_under_way += 1;
    }

    /// Whether messages are on their way to a queue.
    pub fn has_sends_under_way(&self) -> bool {
        self.sends_under_way > 0
    }

    /// A receive was never answered: messages may be hidden that nobody has.
    pub fn receive_lost(&mut self, queue: u64, now_ns: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.receive_lost_ns = now_ns;
        }
    }

    /// The send of a message has ended; the broker gave it an id where it was accepted.
    pub fn send_ended(&mut self, id: u64, ending: Ending, broker_id: [u8; 16]) {
        self.sends_under_way -= 1;
        let message = self.messages.get_mut(&id).expect("it began");
        match ending {
            Ending::Done(window) => {
                message.existence = Existence::Yes { from_ns: window.from_ns, to_ns: window.to_ns };
                self.has_broker_id(id, broker_id);
            }
            Ending::Refused | Ending::Unknown(None) => {
                if let Existence::Yes { .. } = message.existence {
                    self.violation(format!(
                        "message {id} was received, but its send was refused or never arrived"
                    ));
                } else {
                    message.existence = Existence::No;
                }
            }
            Ending::Unknown(Some(from_ns)) => {
                if let Existence::Maybe { from_ns: since_ns } = &mut message.existence {
                    *since_ns = from_ns;
                }
            }
        }
    }

    /// Nobody waits any more for the answer of a receive that the shard may still serve.
    pub fn receive_abandoned(&mut self, queue: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.abandoned_receives += 1;
        }
    }

    /// The shard serves an abandoned receive no more.
    pub fn abandoned_receive_ended(&mut self, queue: u64, now_ns: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.abandoned_receives -= 1;
        }
        self.receive_lost(queue, now_ns);
    }

    /// A message's delete was asked for.
    pub fn delete_began(&mut self, id: u64) {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.deletes_under_way += 1;
    }

    /// A message's delete has ended.
    pub fn delete_ended(&mut self, id: u64, ending: Ending) {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.deletes_under_way -= 1;
        message.delete_ended(ending);
    }

    /// A message's visibility is to be changed; the hold that is returned is to be named at the end.
    pub fn change_began(&mut self, id: u64, seconds: u64, now_ns: u64) -> usize {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.change_began(seconds * SECOND, now_ns)
    }

    /// A change of visibility has ended.
    pub fn change_ended(&mut self, id: u64, hold: usize, ending: Ending) {
        self.messages.get_mut(&id).expect("it was received").change_ended(hold, ending);
    }

    /// A message was received: is it one that may be? Gives its number if it is.
    pub fn received(&mut self, received: &Received<'_>, window: Window) -> Option<u64> {
        let id = self.known_body(received)?;
        self.has_broker_id(id, received.broker_id);
        self.check_existence(id, received, window);
        self.check_time(id, received, window);
        self.check_order(id, received, window);
        self.check_holds(id, received, window);
        self.delivered += 1;
        Some(id)
    }

    /// A message was seen without being taken: is its body one that was sent?
    pub fn peeked(&mut self, received: &Received<'_>, window: Window) {
        if let Some(id) = self.known_body(received) {
            self.check_existence(id, received, window);
        }
    }

    fn known_body(&mut self, received: &Received<'_>) -> Option<u64> {
        let id = super::message::read_body(received.body);
        let known = id.and_then(|id| self.messages.get(&id).map(|message| (id, message)));
        let Some((id, message)) = known else {
            self.violation(format!("a body of {} bytes was never sent", received.body.len()));
            return None;
        };
        if message.body_bytes != received.body.len() {
            self.violation(format!("message {id} has not the length with which it was sent"));
        } else if message.queue != received.queue {
            self.violation(format!("message {id} came from queue {}, not from its own", received.queue));
        }
        Some(id)
    }

    fn has_broker_id(&mut self, id: u64, broker_id: [u8; 16]) {
        let message = self.messages.get_mut(&id).expect("the caller found it");
        if *message.broker_id.get_or_insert(broker_id) != broker_id {
            self.violation(format!("message {id} has two ids: it was stored twice"));
        }
        if *self.by_broker_id.entry(broker_id).or_insert(id) != id {
            self.violation(format!("message {id} has the id of another message"));
        }
    }

    fn check_existence(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = self.messages.get_mut(&id).expect("the caller found it");
        let sent = match message.existence {
            Existence::No => {
                return self.violation(format!(
                    "message {id} was received, but its send was refused or never arrived"
                ));
            }
            Existence::Maybe { from_ns } => {
                // It was revealed, and so it is durable (rule 1).
                message.existence = Existence::Yes { from_ns, to_ns: window.to_ns };
                u64::MAX
            }
            Existence::Yes { to_ns, .. } => to_ns,
        };
        if let Removal::Yes { to_ns } = message.removal
            && to_ns < window.from_ns
        {
            return self.violation(format!("message {id} came back after its delete was acknowledged"));
        }
        let Some(queue) = self.queues.get(&received.queue) else { return };
        let swept =
            |sweep: &Sweep| sent < sweep.from_ns && sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns);
        if queue.purges.iter().any(swept) {
            self.violation(format!("message {id} came back after its queue was purged"));
        } else if queue.deletions.iter().any(|sweep| sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns))
        {
            self.violation(format!("message {id} came from a queue that was deleted"));
        }
    }

    fn check_time(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = &self.messages[&id];
        let from_ns = message.sent_from_ns();
        let delay_min = self.queues.get(&received.queue).map_or(0, |queue| queue.delay_seconds_min);
        let delay_ns = message.delay_seconds.unwrap_or(delay_min) * SECOND;
        if self.elapsed_ns_max(from_ns, window.to_ns) < delay_ns {
            return self.violation(format!("message {id} was received before its delay had passed"));
        }
        let (Some(from_ms), Some(sent_ms)) = (self.engine_ms(window.from_ns), self.engine_ms(from_ns)) else {
            return;
        };
        if received.sent_at_ms + 1 < sent_ms
            || received.sent_at_ms > 1 + from_ms.max(self.engine_ms(window.to_ns).unwrap_or(0))
        {
            return self.violation(format!(
                "message {id} says that it was sent at {}, but it was handed over at {sent_ms}",
                received.sent_at_ms
            ));
        }
        let retention_max =
            self.queues.get(&received.queue).map_or(u64::MAX / 1000, |queue| queue.retention_seconds.1);
        if from_ms >= received.sent_at_ms + retention_max * 1000 {
            let late_ms = from_ms - received.sent_at_ms - retention_max * 1000;
            self.violation(format!("message {id} was received {late_ms} ms after it had expired"));
        }
    }

    /// Whether a message that was never delivered was passed over: those stand in the order of their
    /// sends.
    fn check_order(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = self.messages.get_mut(&id).expect("the caller found it");
        let is_first = !std::mem::replace(&mut message.was_delivered, true) && received.receive_count == 1;
        let Existence::Yes { from_ns, to_ns } = message.existence else { return };
        let Some(queue) = self.queues.get_mut(&received.queue) else { return };
        if !is_first || message.delay_seconds.unwrap_or(queue.delay_seconds_max) > 0 {
            return;
        }
        let before = queue.first_deliveries.partition_point(|(left_ns, _)| *left_ns < window.from_ns);
        let latest_ns = before.checked_sub(1).map_or(0, |index| queue.first_deliveries[index].1);
        let last = queue.first_deliveries.last().copied().unwrap_or((0, 0));
        if window.to_ns >= last.0 {
            queue.first_deliveries.push((window.to_ns, last.1.max(from_ns)));
        }
        let is_judged = queue.abandoned_receives == 0 && from_ns > queue.receive_lost_ns;
        if is_judged && to_ns < latest_ns {
            self.violation(format!("message {id} was passed over by one that was sent after it"));
        }
    }

    /// Whether nobody else can have the message.
    fn check_holds(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let visibility_min = self.queues.get(&received.queue).map_or(0, |queue| queue.visibility_seconds_min);
        let hidden_ns = received.visibility_seconds.unwrap_or(visibility_min) * SECOND;
        let hold = Hold {
            kind: HoldKind::Delivery { count: received.receive_count, earliest_ns: window.earliest_ns },
            from_ns: window.from_ns.max(self.messages[&id].sent_from_ns()),
            to_ns: window.to_ns,
            hidden_ns,
            certain: true,
        };
        let elapsed = |from_ns, to_ns| self.elapsed_ns_max(from_ns, to_ns);
        let found = self.messages[&id].holds_against(&hold, elapsed);
        if let Some(found) = found {
            self.violation(format!("message {id} {found}"));
        }
        self.messages.get_mut(&id).expect("it was just read").holds.push(hold);
    }
}

/// Sums.
impl Checker {
    /// Whether a message may be gone without anybody having been told, by `now_ns`.
    fn may_be_gone(&self, message: &Message, now_ns: u64) -> bool {
        if message.removal != Removal::No || message.deletes_under_way > 0 {
            return true;
        }
        let Some(queue) = self.queues.get(&message.queue) else { return true };
        let from_ns = message.sent_from_ns();
        let may_follow = |sweep: &Sweep| sweep.to_ns.is_none_or(|to_ns| to_ns >= from_ns);
        queue.purges.iter().any(may_follow)
            || queue.purges_under_way > 0
            || queue.may_be_gone()
            || self.elapsed_ns_max(from_ns, now_ns) >= queue.retention_seconds.0 * SECOND
    }

    /// The broker says how many messages a queue has, in all states together.
    pub fn counted(&mut self, number: u64, count: u64, window: Window) {
        let (mut least, mut most) = (0, 0);
        let mut expected = Vec::new();
        for (id, message) in self.messages.iter().filter(|(_, message)| message.queue == number) {
            let certain = matches!(message.existence, Existence::Yes { to_ns, .. } if to_ns < window.from_ns);
            let removed = matches!(message.removal, Removal::Yes { to_ns } if to_ns < window.from_ns);
            if certain && !self.may_be_gone(message, window.to_ns) {
                least += 1;
                expected.push(*id);
            }
            most += u64::from(message.existence != Existence::No && !removed);
        }
        if (!self.rot && count < least) || count > most {
            self.violation(format!(
                "queue {number} counts {count} messages; it has from {least} to {most}: {expected:?}"
            ));
        }
    }

    /// The end: everything that clients may expect has been received and deleted, or something was
    /// lost. `set_aside`: how many messages the broker reports as damaged.
    pub fn finish(&mut self, now_ns: u64, set_aside: u64) {
        if set_aside > 0 && !self.rot {
            self.violation(format!("{set_aside} messages are set aside as damaged, though nothing was"));
        }
        let missing: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, message)| matches!(message.existence, Existence::Yes { .. }))
            .filter(|(_, message)| !self.may_be_gone(message, now_ns))
            .map(|(id, _)| *id)
            .collect();
        if missing.len() as u64 > if self.rot { set_aside } else { 0 } {
            let first = missing[0];
            self.violation(format!(
                "{} acknowledged messages were lost, the first of them {first}: {:?}; {set_aside} are set aside",
                missing.len(),
                self.messages[&first]
            ));
        }
    }
}

impl Queue {
    fn may_be_gone(&self) -> bool {
        self.may_never_have_been || !self.deletions.is_empty() || self.deletions_under_way > 0
    }
}
