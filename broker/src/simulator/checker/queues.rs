//! What is told of queues, and of their attributes.

use super::{Checker, Ending, Queue, Settings, Sweep, Window};
use crate::simulator::history::History;

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
                receives: Default::default(),
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

    /// Whether a purge of a queue is under way, or one was cut short.
    pub fn has_open_purge(&self, number: u64) -> bool {
        self.queues.get(&number).is_some_and(|queue| {
            queue.purges_under_way > 0 || queue.purges.iter().any(|purge| purge.to_ns.is_none())
        })
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
