//! What shards tell each other of move tasks: each runs its share, and what is shown is the sum.
//!
//! A shard tells the others of its share when it begins, is cancelled or ends, and of all it has at its
//! start. So each knows how much there is to move everywhere, by which a pace is shared; that another
//! shard's share has failed, which ends all; and shard 0, that no share runs any more. What others have
//! done is no part of the state: it is told again after a restart.

use tenpin_protocol::MoveTaskStatus;

use super::Engine;
use super::queue_number::incarnation_of;
use super::tasks::{Share, Task};
use crate::flaws::Flaws;
use crate::journal::Log;

/// Shares of tasks that are not known here yet; with more, the oldest are left out, and their tasks wait
/// for a restart.
const EARLY_MAX: usize = 4_096;

/// What a shard has done of a task, for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskShare {
    /// The task's place among tasks.
    pub(super) key: (u64, u64),
    pub(super) share: Share,
}

impl Share {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.status, MoveTaskStatus::Running | MoveTaskStatus::Cancelling)
    }
}

impl Task {
    /// Whether any shard may still move messages for it.
    pub fn is_active(&self) -> bool {
        self.share.is_active() || self.others.iter().any(|other| other.is_none_or(|share| share.is_active()))
    }

    /// What all shards have done of it, as far as it is known here.
    pub fn whole(&self) -> Share {
        let mut whole = self.share;
        let is_active = self.is_active();
        for other in self.others.iter().flatten() {
            whole.moved += other.moved;
            whole.to_move += other.to_move;
            if rank(other.status) > rank(whole.status) {
                (whole.status, whole.failure) = (other.status, other.failure);
            }
        }
        if is_active && !whole.is_active() {
            // One has not said so far that it runs, or that it does not.
            whole.status = MoveTaskStatus::Running;
        }
        whole
    }

    /// How many messages all shards that run it have to move; `None`: that is not known.
    pub(super) fn to_move_everywhere(&self) -> Option<u64> {
        let mut sum = self.share.to_move;
        for other in &self.others {
            let share = (*other)?;
            sum += if share.is_active() { share.to_move } else { 0 };
        }
        Some(sum)
    }
}

/// Of several shares' words, which one is the task's: what still runs, then what went wrong.
fn rank(status: MoveTaskStatus) -> u8 {
    match status {
        MoveTaskStatus::Cancelling => 4,
        MoveTaskStatus::Running => 3,
        MoveTaskStatus::Failed => 2,
        MoveTaskStatus::Cancelled => 1,
        MoveTaskStatus::Completed => 0,
    }
}

impl<F: Flaws> Engine<F> {
    /// The other shards are to be told of this shard's share.
    pub(super) fn tell_task(&mut self, key: (u64, u64)) {
        if self.options.shards > 1 {
            self.tasks.news.insert(key);
        }
    }

    /// What has begun or ended since this was last asked, for the other shards.
    pub fn take_task_news(&mut self) -> Vec<TaskShare> {
        let news = std::mem::take(&mut self.tasks.news);
        let share =
            |key: (u64, u64)| self.tasks.table.get(&key).map(|task| TaskShare { key, share: task.share });
        news.into_iter().filter_map(share).collect()
    }

    /// Shares here of the tasks of a queue.
    pub fn task_shares(&self, queue: u64) -> Vec<TaskShare> {
        let share = |task: &Task| TaskShare { key: task.definition.key(), share: task.share };
        self.tasks.of(incarnation_of(queue)).map(share).collect()
    }

    /// Another shard says what it has done.
    pub fn hears_task_shares(&mut self, from: u16, shares: &[TaskShare], log: &mut Log<F>) {
        for &TaskShare { key, share } in shares {
            if self.tasks.table.contains_key(&key) {
                self.hears_task_share(from, key, share, log);
            } else if self.tasks.is_catching_up || key.1 > self.tasks.newest_id {
                // Shard 0 tells of the task soon: of new ones in their order, and at the start of all that it has. What
                // it told of before is known or gone.
                self.tasks.early.entry(key).or_default().push((from, share));
                if self.tasks.early.len() > EARLY_MAX {
                    self.tasks.early.pop_first();
                }
            }
        }
    }

    /// All is known that shard 0 had at the start: what others have said of older tasks is of none that there is.
    pub fn has_caught_up(&mut self) {
        let newest_id = self.tasks.newest_id;
        self.tasks.is_catching_up = false;
        self.tasks.early.retain(|&(_, id), _| id > newest_id);
    }

    /// A task is new here: others may have spoken of it.
    pub(super) fn take_early_shares(&mut self, key: (u64, u64), log: &mut Log<F>) {
        for (from, share) in self.tasks.early.remove(&key).unwrap_or_default() {
            self.hears_task_share(from, key, share, log);
        }
    }

    fn hears_task_share(&mut self, from: u16, key: (u64, u64), share: Share, log: &mut Log<F>) {
        let now_ms = self.now_ms;
        let Some(task) = self.tasks.table.get_mut(&key) else { return };
        let Some(other) = task.others.get_mut(usize::from(from)) else { return };
        let was_paced_with = other.map(|share| (share.is_active(), share.to_move));
        *other = Some(share);
        if was_paced_with != Some((share.is_active(), share.to_move)) {
            task.set_pace(now_ms);
        }
        if share.status == MoveTaskStatus::Failed && task.share.is_active() {
            return self.fail_task(key, share.failure, log);
        }
        self.tasks.note_activity(key);
    }

    /// How many messages a task has moved on all shards, as far as it is known here.
    pub fn moved_by_task(&self, queue: u64, id: u64) -> u64 {
        self.tasks.table.get(&(incarnation_of(queue), id)).map_or(0, |task| task.whole().moved)
    }
}
