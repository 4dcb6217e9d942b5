//! The judge: what clients were told, and what they may therefore expect.
//!
//! The checker sees requests and replies only, with the times at which the shard was handed the one
//! and let go of the other. Between these a request took effect, and nobody outside can know when;
//! so each judgement takes the times that speak for the broker. What was never answered may or may
//! not have happened. What was acknowledged has, and must stay so.

use std::collections::BTreeMap;

use super::message::{Existence, Hold, HoldKind, Message, Removal};
use super::plan::{MS, Plan, SECOND};

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
    /// The least and greatest values that it may have had, ever.
    retention_seconds: (u64, u64),
    visibility_seconds_min: u64,
    delay_seconds_min: u64,
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
    wall_jumps: Vec<(u64, i64)>,
    wall_starts_ms: u64,
    rot: bool,
    calm_since_ns: Option<u64>,
    /// How many replies, deliveries and so on there were: a run that did nothing proves nothing.
    pub delivered: u64,
}

impl Checker {
    /// Nothing is known yet.
    pub fn new(_plan: &Plan, wall_starts_ms: u64) -> Self {
        Self {
            violation: None,
            queues: BTreeMap::new(),
            messages: BTreeMap::new(),
            by_broker_id: BTreeMap::new(),
            wall_jumps: Vec::new(),
            wall_starts_ms,
            rot: false,
            calm_since_ns: None,
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

    /// A bit flipped somewhere on disk.
    pub fn rot_fell(&mut self) {
        self.rot = true;
    }

    /// The wall clock jumped.
    pub fn wall_jumped(&mut self, at_ns: u64, by_ms: i64) {
        self.wall_jumps.push((at_ns, by_ms));
    }

    /// No more faults from here on.
    pub fn calm_begins(&mut self, now_ns: u64) {
        self.calm_since_ns = Some(now_ns);
    }

    /// The broker crashed. What it acknowledged since `lost_since_ns` may be gone (with `async`
    /// durability and a power cut only).
    pub fn crashed(&mut self, _now_ns: u64, lost_since_ns: Option<u64>) {
        let lost_since_ns = lost_since_ns.unwrap_or(u64::MAX);
        for message in self.messages.values_mut() {
            message.crashed(lost_since_ns);
        }
        for queue in self.queues.values_mut() {
            queue.may_never_have_been |= queue.known_ns >= lost_since_ns;
            for sweep in queue.purges.iter_mut().chain(&mut queue.deletions) {
                sweep.to_ns = sweep.to_ns.filter(|to_ns| *to_ns < lost_since_ns);
            }
        }
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
        to_ns.saturating_sub(from_ns) + jumps_ms * MS
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
        self.queues.insert(
            number,
            Queue {
                name,
                known_ns: to_ns,
                may_never_have_been: false,
                purges: Vec::new(),
                deletions: Vec::new(),
                retention_seconds: (retention.unwrap_or(60), retention.unwrap_or(1_209_600)),
                visibility_seconds_min: settings.visibility_seconds.unwrap_or(0),
                delay_seconds_min: settings.delay_seconds.unwrap_or(0),
            },
        );
    }

    /// A queue is to get other attributes; whether it has them is not certain from now on.
    pub fn settings_change(&mut self, number: u64, settings: Settings) {
        let Some(queue) = self.queues.get_mut(&number) else { return };
        if let Some(seconds) = settings.retention_seconds {
            let (least, most) = queue.retention_seconds;
            queue.retention_seconds = (least.min(seconds), most.max(seconds));
        }
        if let Some(seconds) = settings.visibility_seconds {
            queue.visibility_seconds_min = queue.visibility_seconds_min.min(seconds);
        }
        if let Some(seconds) = settings.delay_seconds {
            queue.delay_seconds_min = queue.delay_seconds_min.min(seconds);
        }
    }

    /// A purge was asked for, and ended so.
    pub fn purged(&mut self, number: u64, ending: Ending) {
        if let (Some(queue), Some(sweep)) = (self.queues.get_mut(&number), Sweep::of(ending)) {
            queue.purges.push(sweep);
        }
    }

    /// A queue's deletion was asked for, and ended so.
    pub fn queue_deleted(&mut self, number: u64, ending: Ending) {
        if let (Some(queue), Some(sweep)) = (self.queues.get_mut(&number), Sweep::of(ending)) {
            queue.deletions.push(sweep);
        }
    }

    /// A request was told that a queue's number or name means nothing. `began_ns`: when the shard
    /// was handed the request.
    pub fn queue_missing(&mut self, number: u64, window: Window, deletion_pending: bool) {
        let Some(queue) = self.queues.get(&number) else { return };
        let may_be_gone = queue.may_never_have_been || !queue.deletions.is_empty() || deletion_pending;
        if !may_be_gone && queue.known_ns < window.from_ns {
            let name = queue.name;
            self.violation(format!("queue {name} (number {number}) is gone, though nobody deleted it"));
        }
    }

    /// The number of a name's life that nobody has tried to end, if there is one.
    pub fn certain_number(&self, name: usize) -> Option<u64> {
        let certain = |queue: &Queue| {
            queue.name == name && queue.deletions.is_empty() && !queue.may_never_have_been
        };
        self.queues.iter().find(|(_, queue)| certain(queue)).map(|(number, _)| *number)
    }

    /// Whether a queue is certainly gone.
    pub fn is_gone(&self, number: u64) -> bool {
        self.queues.get(&number).is_some_and(|queue| queue.deletions.iter().any(|sweep| sweep.to_ns.is_some()))
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
    pub fn send_began(&mut self, id: u64, queue: u64, body_bytes: usize, delay_seconds: Option<u64>, now_ns: u64) {
        let delay_min = self.queues.get(&queue).map_or(0, |queue| queue.delay_seconds_min);
        let delay_ns = delay_seconds.unwrap_or(delay_min) * SECOND;
        self.messages.insert(id, Message::new(queue, body_bytes, delay_ns, now_ns));
    }

    /// The send of a message has ended; the broker gave it an id where it was accepted.
    pub fn send_ended(&mut self, id: u64, ending: Ending, broker_id: [u8; 16]) {
        let message = self.messages.get_mut(&id).expect("it began");
        match ending {
            Ending::Done(window) => {
                message.existence = Existence::Yes { from_ns: window.from_ns, to_ns: window.to_ns };
                self.has_broker_id(id, broker_id);
            }
            Ending::Refused | Ending::Unknown(None) => {
                if let Existence::Yes { .. } = message.existence {
                    self.violation(format!("message {id} was received, but its send was refused or never arrived"));
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
                return self.violation(format!("message {id} was received, but its send was refused or never arrived"));
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
        let swept = |sweep: &Sweep| sent < sweep.from_ns && sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns);
        if queue.purges.iter().any(swept) {
            self.violation(format!("message {id} came back after its queue was purged"));
        } else if queue.deletions.iter().any(|sweep| sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns)) {
            self.violation(format!("message {id} came from a queue that was deleted"));
        }
    }

    fn check_time(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = &self.messages[&id];
        let from_ns = message.sent_from_ns();
        if self.elapsed_ns_max(from_ns, window.to_ns) + MS < message.delay_ns {
            return self.violation(format!("message {id} was received before its delay had passed"));
        }
        let (Some(from_ms), Some(sent_ms)) = (self.engine_ms(window.from_ns), self.engine_ms(from_ns)) else {
            return;
        };
        if received.sent_at_ms + 1 < sent_ms || received.sent_at_ms > from_ms.max(self.engine_ms(window.to_ns).unwrap_or(0)) {
            return self.violation(format!(
                "message {id} says that it was sent at {}, but it was handed over at {sent_ms}",
                received.sent_at_ms
            ));
        }
        let retention_max = self.queues.get(&received.queue).map_or(u64::MAX / 1000, |queue| queue.retention_seconds.1);
        if from_ms >= received.sent_at_ms + retention_max * 1000 {
            let late_ms = from_ms - received.sent_at_ms - retention_max * 1000;
            self.violation(format!("message {id} was received {late_ms} ms after it had expired"));
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
        let elapsed = |from_ns, to_ns| self.elapsed_ns_max(from_ns, to_ns) + MS;
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
            || queue.purge_pending()
            || !queue.deletions.is_empty()
            || queue.may_never_have_been
            || self.elapsed_ns_max(from_ns, now_ns) + MS >= queue.retention_seconds.0 * SECOND
    }

    /// The broker says how many messages a queue has, in all states together.
    pub fn counted(&mut self, number: u64, count: u64, window: Window, sweep_pending: bool) {
        let (mut least, mut most) = (0, 0);
        for message in self.messages.values().filter(|message| message.queue == number) {
            let certain = matches!(message.existence, Existence::Yes { to_ns, .. } if to_ns <= window.from_ns);
            let removed = matches!(message.removal, Removal::Yes { to_ns } if to_ns < window.from_ns);
            least += u64::from(certain && !sweep_pending && !self.may_be_gone(message, window.to_ns));
            most += u64::from(message.existence != Existence::No && !removed);
        }
        if (!self.rot && count < least) || count > most {
            self.violation(format!("queue {number} counts {count} messages; it has from {least} to {most}"));
        }
    }

    /// The end: everything that clients may expect has been received and deleted, or something was
    /// lost. `set_aside`: how many messages the broker reports as damaged.
    pub fn finish(&mut self, now_ns: u64, set_aside: u64) {
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
    fn purge_pending(&self) -> bool {
        false
    }
}
