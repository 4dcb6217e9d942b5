//! Messages that are kept for so short that they expire. Nothing moves the broker's clock over sockets, so these
//! are waited for: what is known of a message's age is known to some seconds, and in between it may be gone or not.

use std::time::{Duration, Instant};

use crate::history::History;
use crate::messages::Picked;
use crate::model::{Model, QUEUES, Stored, is_fifo};
use crate::receives::Ask;

/// The shortest period that a queue can be told to keep messages for.
pub const KEPT_SECONDS_MIN: u64 = 60;
/// Nothing that is judged at once takes longer.
const SOON: Duration = Duration::from_secs(20);
/// By so much clocks may differ.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(1);

/// Between when a message was sent, or came to where it is kept anew.
#[derive(Debug, Clone, Copy)]
pub struct SentBetween {
    pub earliest: Instant,
    pub latest: Instant,
}

impl Model {
    fn kept_for(&self, queue: usize) -> Duration {
        Duration::from_secs(self.settings[queue].retention_seconds)
    }

    fn is_expired(&self, message: &Stored, now: Instant) -> bool {
        // A task sends a message anew, and a FIFO queue of letters keeps it from when it came.
        let is_kept_anew = message.maybe_moved_to.is_some() || message.maybe_letter_in.is_some_and(is_fifo);
        let places = [Some(message.queue), message.maybe_letter_in];
        let kept_for = places.into_iter().flatten().map(|queue| self.kept_for(queue)).max();
        let kept_for = kept_for.expect("it is in one at least");
        !is_kept_anew && now >= message.sent.latest + kept_for + CLOCKS_DIFFER_BY
    }

    fn may_expire_soon(&self, message: &Stored, now: Instant) -> bool {
        let places = [Some(message.queue), message.maybe_letter_in, message.maybe_moved_to];
        let kept_for = places.into_iter().flatten().map(|queue| self.kept_for(queue)).min();
        now + SOON >= message.sent.earliest + kept_for.expect("it is in one at least")
    }
}

impl History {
    /// Time has passed: what has expired is gone, and what expires soon may be at any time.
    pub fn note_time(&mut self) {
        let now = Instant::now();
        let keys = |is: &dyn Fn(&Stored) -> bool| -> Vec<_> {
            self.model.stored.values().filter(|message| is(message)).map(|message| message.key).collect()
        };
        let expired = keys(&|message| self.model.is_expired(message, now));
        let expiring = keys(&|message| self.model.may_expire_soon(message, now));
        for key in &expiring {
            self.model.stored.get_mut(key).expect("it is there").may_be_gone = true;
        }
        if let Some(task) = self.model.task.as_mut().filter(|_| !expiring.is_empty()) {
            task.is_inexact = true;
        }
        for key in expired {
            let message = self.model.stored.remove(&key).expect("it is there");
            self.tell(format!("{key:?} has expired in {}", QUEUES[message.queue]));
            self.note(if message.held.is_some() {
                "a message that was received expires"
            } else {
                "a message that nobody had received expires"
            });
        }
    }

    /// Has some queues keep messages as short as can be, those that they have as well.
    pub fn keep_shortly(&mut self) {
        for queue in 0..QUEUES.len() {
            if self.once_in(2) {
                self.keep_for(queue, KEPT_SECONDS_MIN);
            }
        }
        self.look();
    }

    /// Waits until all that there is would be gone where messages are kept as short as can be. Some time before, all is
    /// there; and what is gone then is gone for who receives, and for who names it, whatever its timers have done.
    pub fn grow_old(&mut self) {
        self.tell("wait until all is old".to_owned());
        self.wait_for_age(SOON);
        let shown_only = Ask { visibility: Some(Duration::ZERO), ..Ask::hiding(10) };
        for queue in 0..QUEUES.len() {
            self.receive_at_once(queue, &shown_only);
        }
        self.look();
        let held: Vec<_> = (0..QUEUES.len()).map(|queue| self.held_in(queue)).collect();
        self.wait_for_age(Duration::from_secs(KEPT_SECONDS_MIN) + 2 * CLOCKS_DIFFER_BY);
        self.note_time();
        if self.once_in(2) {
            // Nobody touches it: what takes it away is a timer.
            self.look();
        }
        for (queue, held) in held.into_iter().enumerate() {
            self.receive_at_once(queue, &Ask::hiding(10));
            self.give_back(queue, held.into_iter().map(Picked::from).collect());
        }
        self.look();
    }

    fn wait_for_age(&self, age: Duration) {
        let latest = self.model.stored.values().map(|message| message.sent.latest).max();
        let until = latest.unwrap_or_else(Instant::now) + age;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
