//! Move tasks: to a destination or back to each message's source, at a pace or not, ended by themselves or cancelled,
//! across restarts.

use tenpin_client::{ErrorCode, MoveTask, MoveTaskStatus};

use crate::history::History;
use crate::messages::code_of;
use crate::model::{
    Active, Delay, FIFO_FROM, LONG_DELAY_SECONDS, QUEUES, is_fifo, is_letters, letters_of_kind,
};

const SLOW_PER_SECOND: u32 = 3;
/// How many messages a second tasks may move.
pub const PACES: [Option<u32>; 4] = [None, Some(500), Some(SLOW_PER_SECOND), Some(SLOW_PER_SECOND)];

/// Whether it has not ended.
fn is_active(task: &MoveTask) -> bool {
    matches!(task.status, Some(MoveTaskStatus::Running | MoveTaskStatus::Cancelling))
}

impl History {
    pub fn start_a_task(&mut self) {
        if self.model.task.is_some() {
            return;
        }
        self.look();
        let kinds = [FIFO_FROM - 1, QUEUES.len() - 1];
        let letters = kinds[self.below(2)];
        let is_there = |message: &crate::model::Stored| message.queue == letters && message.held.is_none();
        if !self.model.stored.values().any(is_there) && !self.once_in(4) {
            return;
        }
        let destination = [None, Some(letters - 1), Some(letters - 2)][self.below(3)];
        if let Some(destination) = destination
            && self.once_in(3)
        {
            // What is moved there is delayed as what is sent there.
            self.tell(format!("delay {}", QUEUES[destination]));
            self.delay(destination, LONG_DELAY_SECONDS);
        }
        let pace = PACES[self.below(PACES.len())];
        self.tell(format!("start a task of {} to {destination:?} at {pace:?}", QUEUES[letters]));
        let target = destination.map(|destination| self.queue(destination));
        let asked = self.queue(letters);
        let started = self.runtime.block_on(asked.start_move_task(target.as_ref(), pace));
        let is_of = |queue: &usize| self.model.settings[*queue].letters_after.is_some();
        if !(letters - 2..letters).any(|queue| is_of(&queue)) {
            assert_eq!(
                code_of(&started),
                Some(ErrorCode::InvalidParameterValue),
                "it is no dead-letter queue"
            );
            return;
        }
        let handle = started.unwrap();
        self.model.task = Some(self.task_of(letters, destination));
        self.model.note_task();
        let task = self.newest_task();
        assert!(task.handle.as_ref().is_none_or(|listed| *listed == handle));
        assert_eq!(task.messages_per_second_max, pace);
        if pace != Some(SLOW_PER_SECOND) && !self.may_be_locked(letters) {
            self.wait_for_the_task();
            self.settle_the_task();
        }
    }

    /// Whether a group of a FIFO queue may have messages in flight, or delayed ones, which a task waits for.
    fn may_be_locked(&self, letters: usize) -> bool {
        let holds = |message: &crate::model::Stored| {
            let is_there = message.may_be_in(letters);
            let is_held = message.held.is_some() || message.may_be_received;
            is_there && (is_held || self.model.delay_of(message) != Delay::None)
        };
        is_fifo(letters) && self.model.stored.values().any(holds)
    }

    /// A task that starts now.
    pub fn task_of(&self, letters: usize, destination: Option<usize>) -> Active {
        let is_visible = |message: &&crate::model::Stored| {
            message.queue == letters && message.held.is_none() && self.model.delay_of(message) == Delay::None
        };
        let is_short = |message: &crate::model::Stored| {
            message.queue == letters
                && (message.held.as_ref().is_some_and(|held| held.may_be_over)
                    || message.delay == Delay::Short
                    || message.may_be_gone)
        };
        let to_move = self.model.stored.values().filter(is_visible).count() as u64;
        let is_inexact = self.model.stored.values().any(is_short);
        Active { letters, destination, seen_moved: 0, moved: 0, to_move, is_inexact }
    }

    /// The newest task of the queue that has one active; those before it are listed as they ended.
    pub fn newest_task(&mut self) -> MoveTask {
        let Active { letters, destination, .. } = self.model.task.clone().expect("one is active");
        let asked = self.queue(letters);
        let mut tasks = self.runtime.block_on(asked.move_tasks()).unwrap();
        let newest = tasks.remove(0);
        let ended = &self.ended[letters / FIFO_FROM];
        assert_eq!(tasks, ended[..ended.len().min(9)], "those that have ended stay as they were");
        assert_eq!(newest.source, self.arn(letters));
        assert_eq!(newest.destination, destination.map(|destination| self.arn(destination)));
        let is_running = newest.status == Some(MoveTaskStatus::Running);
        assert_eq!(newest.handle.is_some(), is_running, "{newest:?}");
        assert_eq!(newest.failure.is_some(), newest.status == Some(MoveTaskStatus::Failed), "{newest:?}");
        let known = self.model.task.as_mut().expect("one is active");
        if !known.is_inexact {
            assert_eq!(newest.to_move, known.to_move, "{newest:?}");
        }
        assert!(newest.moved >= known.moved && newest.moved <= newest.to_move, "{newest:?}: {known:?}");
        known.moved = newest.moved;
        newest
    }

    /// Looks at the task that is active, if there is one, and ends it some time.
    pub fn go_on_with_the_task(&mut self) {
        if self.model.task.is_none() {
            return;
        }
        self.model.note_task();
        match self.below(12) {
            0..4 => {
                let task = self.newest_task();
                if !is_active(&task) {
                    self.settle_the_task();
                }
            }
            4 => self.end_the_task(),
            5 if self.once_in(2) => self.restart(),
            _ => {}
        }
    }

    /// Cancels the task that is active, if there is one.
    pub fn end_the_task(&mut self) {
        if self.model.task.is_none() {
            return;
        }
        self.tell("cancel the task".to_owned());
        let task = self.newest_task();
        if let Some(handle) = task.handle.clone() {
            let client = self.any_client();
            let cancelled = self.runtime.block_on(client.cancel_move_task(&handle));
            match cancelled {
                Ok(moved) => assert!(moved >= task.moved && moved <= task.to_move, "{moved}: {task:?}"),
                Err(error) => {
                    assert_eq!(error.code(), Some(ErrorCode::UnsupportedOperation), "it ran no more")
                }
            }
            let ended = self.wait_for_the_task();
            let goes_on =
                ended.messages_per_second_max == Some(SLOW_PER_SECOND) && ended.moved > task.moved + 2;
            assert!(!goes_on || ended.status != Some(MoveTaskStatus::Completed), "{ended:?} after {task:?}");
            let again = self.runtime.block_on(client.cancel_move_task(&handle));
            assert_eq!(code_of(&again), Some(ErrorCode::UnsupportedOperation), "it runs no more");
        }
        self.wait_for_the_task();
        self.settle_the_task();
    }

    fn wait_for_the_task(&mut self) -> MoveTask {
        self.until_right(|history| {
            let task = history.newest_task();
            if is_active(&task) { Err(format!("{task:?} runs")) } else { Ok(task) }
        })
    }

    /// A task has ended: what it says that it has moved is where it went, and no more.
    fn settle_the_task(&mut self) {
        let task = self.newest_task();
        self.tell(format!("a task has ended: {task:?}"));
        self.look();
        let known = self.model.task.take().expect("it was active");
        let mut messages = self.model.stored.values();
        let is_lost = messages.any(|message| message.may_be_gone && message.maybe_moved_to.is_some());
        // What it may have moved on top of what was seen it has not.
        self.model.stored.values_mut().for_each(|message| message.maybe_moved_to = None);
        if known.is_inexact || is_lost {
            assert!(known.seen_moved <= task.moved, "{task:?}: {known:?}");
        } else {
            assert_eq!(known.seen_moved, task.moved, "{task:?}");
        }
        self.note(match task.status {
            Some(MoveTaskStatus::Completed) => "a task completes",
            Some(MoveTaskStatus::Cancelled) => "a task is cancelled",
            _ => "a task fails",
        });
        let ended = &mut self.ended[known.letters / FIFO_FROM];
        ended.insert(0, task);
    }

    /// What is asked of tasks and refused.
    pub fn refused_tasks(&mut self) {
        let queue = self.below(QUEUES.len());
        let letters = letters_of_kind(queue);
        let other_kind = if is_fifo(queue) { 0 } else { FIFO_FROM };
        let (source, target, pace) = match self.below(4) {
            0 => (letters, Some(letters), None),
            1 => (letters, Some(other_kind), None),
            2 => (letters, None, Some(501)),
            _ => (if is_letters(queue) { queue - 1 } else { queue }, None, None),
        };
        let destination = target.map(|target| self.queue(target));
        let asked = self.queue(source);
        let refused = self.runtime.block_on(asked.start_move_task(destination.as_ref(), pace));
        assert_eq!(
            code_of(&refused),
            Some(ErrorCode::InvalidParameterValue),
            "{source} to {target:?}, {pace:?}"
        );
    }
}
