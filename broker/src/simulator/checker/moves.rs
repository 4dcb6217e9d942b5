//! What moves promise: a message is never in two queues and never in none, as receives and counts see it
//! (rule 22), and tasks end with exact counts.
//!
//! A message that a task moves is a new one, with another id; so the ids that a body is seen with are its
//! lives, one after the other, and dead letters keep theirs. A life surely lasted from the first time
//! that it was seen to the last, and no other may have been seen meanwhile.

use std::collections::BTreeMap;

use tenpin_protocol::MoveTaskStatus;

use super::{Checker, Ending, Received, Window};
use crate::simulator::message::{HoldKind, Message};
use crate::simulator::moving;
use crate::simulator::plan::Plan;

/// Tasks of a queue in a run, so that all of them can be listed.
const TASKS_MAX: u64 = 9;

/// One life of a message: when it was seen.
#[derive(Debug)]
pub struct Life {
    id: [u8; 16],
    seen: Vec<Window>,
}

impl Life {
    /// Whether it was there all through a window.
    fn lasted_through(&self, window: &Window) -> bool {
        let first_ns = self.seen.iter().map(|seen| seen.to_ns).min();
        let last_ns = self.seen.iter().map(|seen| seen.from_ns).max();
        first_ns.is_some_and(|first_ns| first_ns < window.from_ns)
            && last_ns.is_some_and(|last_ns| window.to_ns < last_ns)
    }
}

/// A move task as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedTask {
    /// When it was started, by which it is known.
    pub started_at_ms: u64,
    /// Its status on the wire.
    pub status: u16,
    /// How many messages it has moved.
    pub moved: u64,
    /// How many there were.
    pub to_move: u64,
    /// Whether it can be cancelled.
    pub has_handle: bool,
}

impl ListedTask {
    /// Whether it goes on.
    pub fn is_active(&self) -> bool {
        moving::is_active(self.status)
    }

    /// Whether it runs, and has not been told to stop.
    fn is_running(&self) -> bool {
        MoveTaskStatus::from_number(self.status) == Some(MoveTaskStatus::Running)
    }
}

/// What is known of the tasks of all queues.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    asked: BTreeMap<u64, u64>,
    /// As they were listed last, by queue and start, and by how many of its older ones started at once with
    /// them.
    listed: BTreeMap<(u64, u64, usize), (ListedTask, Window)>,
    /// Whether something may have been forgotten, or nobody knows what was received.
    pub is_uncertain: bool,
}

impl Tasks {
    pub(super) fn of(plan: &Plan) -> Self {
        // What waited long for the disk is not sent, though it was received.
        Self { is_uncertain: plan.faults.slow_operations > 0, ..Self::default() }
    }
}

impl Checker {
    /// Whether a client may start a task, which counts it.
    pub fn may_start_task(&mut self, queue: u64) -> bool {
        let asked = self.tasks.asked.entry(queue).or_default();
        *asked += 1;
        *asked <= TASKS_MAX
    }

    /// Whether a message may be in another queue than the one that it was sent to.
    pub(super) fn are_kin(&self, one: u64, other: u64) -> bool {
        let name = |number| self.queues.get(&number).map(|queue| queue.name);
        let (Some(one), Some(other)) = (name(one), name(other)) else { return false };
        let work = |name| moving::work_of(name).unwrap_or(name);
        self.moves && work(one) == work(other)
    }

    /// How often a queue may count one message at a time: each task that brought it back may have found it
    /// counted still where it had left from, as a crash may take the word that it had arrived.
    pub(super) fn copies_max(&self, queue: u64) -> u64 {
        let of_kin = self.tasks.asked.iter().filter(|(source, _)| self.are_kin(**source, queue));
        1 + of_kin.map(|(_, asked)| asked).sum::<u64>()
    }

    /// Whether messages move in this world.
    pub fn has_moves(&self) -> bool {
        self.moves
    }

    /// What a crash that loses something takes is not known any more.
    pub(super) fn moves_crashed(&mut self, loses: bool) {
        self.tasks.is_uncertain = true;
        if loses {
            self.tasks.listed.clear();
            self.messages.values_mut().for_each(|message| message.lives.clear());
        }
    }

    /// A message that may move was received.
    pub(super) fn received_moving(&mut self, id: u64, received: &Received<'_>, window: Window) {
        self.lived(id, received.broker_id, window);
        self.check_existence(id, received, window);
        self.check_time(id, received, window);
        if self.messages[&id].lives.last().is_some_and(|life| life.id == received.broker_id) {
            self.check_holds(id, received, window);
            if let Some(message) = self.messages.get_mut(&id) {
                message.last_handle = received.handle.to_vec();
            }
        }
    }

    /// A message was seen with this id.
    pub(super) fn lived(&mut self, id: u64, broker_id: [u8; 16], window: Window) {
        let may_be_new = !self.tasks.asked.is_empty();
        let Some(message) = self.messages.get_mut(&id) else { return };
        let found = see(message, broker_id, window, may_be_new);
        if let Some(found) = found {
            self.violation(format!("message {id} {found}"));
        }
        if *self.by_broker_id.entry(broker_id).or_insert(id) != id {
            self.violation(format!("message {id} has the id of another message"));
        }
    }

    /// A delete of a message that may move has ended. It has surely taken the message only while the handle's
    /// delivery lasted: later it may have moved, and the handle mean nothing any more (rule 6).
    pub(super) fn moving_delete_ended(&mut self, id: u64, queue: u64, handle: &[u8], ending: Ending) {
        let Some(message) = self.messages.get(&id) else { return };
        let ending = match ending {
            Ending::Done(window) if message.last_handle != handle || !self.is_held(message, window) => {
                Ending::Unknown(Some(window.from_ns))
            }
            ending => ending,
        };
        if let Some(message) = self.messages.get_mut(&id) {
            message.delete_ended(queue, ending);
        }
    }

    /// Whether a message's last delivery lasted at least until the end of a window.
    fn is_held(&self, message: &Message, window: Window) -> bool {
        message.holds.last().is_some_and(|hold| {
            matches!(hold.kind, HoldKind::Delivery { .. })
                && self.elapsed_ns_max(hold.from_ns, window.to_ns) < hold.hidden_ns
        })
    }

    /// A queue says what tasks it has.
    pub fn tasks_listed(&mut self, queue: u64, tasks: Vec<ListedTask>, window: Window) {
        if tasks.iter().filter(|task| task.is_active()).count() > 1 {
            self.violation(format!("two tasks of queue {queue} are active: {tasks:?}"));
        }
        for (place, task) in tasks.iter().enumerate() {
            let task = *task;
            if task.moved > task.to_move || task.has_handle != task.is_running() {
                self.violation(format!("a task of queue {queue} is shown as {task:?}"));
            }
            // The newest comes first.
            let older = &tasks[place + 1..];
            let at_once = older.iter().filter(|other| other.started_at_ms == task.started_at_ms).count();
            let key = (queue, task.started_at_ms, at_once);
            let (before, seen) = *self.tasks.listed.entry(key).or_insert((task, window));
            if seen.to_ns >= window.from_ns {
                continue;
            }
            let goes_back = task.moved < before.moved || task.to_move < before.to_move;
            if goes_back || (!before.is_active() && task != before) {
                self.violation(format!("a task of queue {queue} was {before:?}, and is now {task:?}"));
            }
            self.tasks.listed.insert(key, (task, window));
        }
    }

    /// At the end: tasks have moved as many messages as have come back, or more of which nobody knows.
    pub(super) fn check_moved(&mut self) {
        let lives = |message: &Message| message.lives.len().saturating_sub(1) as u64;
        let seen: u64 = self.messages.values().map(lives).sum();
        let moved: u64 = self.tasks.listed.values().map(|(task, _)| task.moved).sum();
        let has_lost = self.tasks.is_uncertain || self.queues.values().any(|queue| queue.receive_lost_ns > 0);
        if seen > moved || (!has_lost && seen < moved) {
            self.violation(format!(
                "tasks say that they moved {moved} messages; {seen} were seen to: {:?}",
                self.tasks.listed
            ));
        }
    }
}

/// Notes a sight of a message. Says what is wrong with it.
fn see(message: &mut Message, id: [u8; 16], window: Window, may_be_new: bool) -> Option<String> {
    let Some(place) = message.lives.iter().position(|life| life.id == id) else {
        if !message.lives.is_empty() && !may_be_new {
            return Some("has two ids: it was stored twice".into());
        }
        let found = message.lives.iter().find(|life| life.lasted_through(&window));
        let found = found.map(|life| format!("was seen in two lives at a time: {life:?}, {window:?}"));
        // What is told late of a life before does not make it the last one.
        let last_ns = message.lives.last().and_then(|life| life.seen.iter().map(|seen| seen.to_ns).min());
        let place = match last_ns {
            Some(last_ns) if window.from_ns < last_ns => message.lives.len() - 1,
            _ => {
                message.holds.clear();
                message.lives.len()
            }
        };
        message.lives.insert(place, Life { id, seen: vec![window] });
        return found;
    };
    message.lives[place].seen.push(window);
    let is_beside = |other: &Life| {
        other.id != id
            && (other.lasted_through(&window)
                || other.seen.iter().any(|seen| message.lives[place].lasted_through(seen)))
    };
    let beside = message.lives.iter().find(|other| is_beside(other));
    beside.map(|life| format!("was seen in two lives at a time: {life:?}, {:?}", message.lives[place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from_ns: u64, to_ns: u64) -> Window {
        Window { from_ns, earliest_ns: to_ns, to_ns }
    }

    #[test]
    fn lives_follow_each_other() {
        let mut message = Message::new(1, 16, None, 0);
        let mut sees = |id: u8, from_ns, to_ns| see(&mut message, [id; 16], window(from_ns, to_ns), true);
        assert_eq!(sees(1, 0, 10), None);
        assert_eq!(sees(2, 20, 30), None);
        assert_eq!(sees(1, 15, 40), None, "it may have been before");
        assert!(sees(1, 31, 50).is_some(), "the first life goes on after the second had begun");
    }

    #[test]
    fn without_a_task_there_is_one_life() {
        let mut message = Message::new(1, 16, None, 0);
        assert_eq!(see(&mut message, [1; 16], window(0, 10), false), None);
        assert_eq!(see(&mut message, [1; 16], window(20, 30), false), None);
        assert!(see(&mut message, [2; 16], window(40, 50), false).is_some());
    }
}
