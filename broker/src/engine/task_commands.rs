//! What clients ask of move tasks: starting, cancelling, listing.

use tenpin_protocol::{ErrorCode, MoveTaskStatus};

use super::change::{Change, Planned};
use super::outputs::{Refusal, ReplyBody, TaskOutput};
use super::plan::Answer;
use super::queue_number::incarnation_of;
use super::task_records::{TaskDefinition, read_task_handle, task_handle};
use super::tasks::{TASKS_SHOWN_MAX, Task};
use super::{Engine, out_of_range};
use crate::flaws::Flaws;
use crate::journal::{Log, Room};

/// The fastest pace of a task that has one, in messages a second.
const MESSAGES_PER_SECOND_MAX: u32 = 500;
/// Active tasks of an account; one more is refused with OverLimit.
const TASKS_ACTIVE_MAX: usize = 100;

impl<F: Flaws> Engine<F> {
    pub(super) fn plan_start_task(
        &mut self,
        source: u64,
        destination: Option<u64>,
        messages_per_second_max: u32,
        log: &Log<F>,
    ) -> Result<Planned, Refusal> {
        let source_index = self.find_queue(source)?;
        let source_name = self.queues[source_index].name.clone();
        let invalid = |text: &'static str| Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
        if self.queues.sources(&source_name).is_none() {
            return invalid("Source queue must be configured as a Dead Letter Queue.");
        }
        if messages_per_second_max > MESSAGES_PER_SECOND_MAX {
            let maximum = MESSAGES_PER_SECOND_MAX.into();
            return Err(out_of_range(messages_per_second_max, "MaxNumberOfMessagesPerSecond", 1, maximum));
        }
        let destination = match destination {
            None => None,
            Some(number) if number == source => {
                return invalid("Source and destination queue must not be the same.");
            }
            Some(number) => {
                let index = self.queues.find(number).ok_or(Refusal::new(
                    ErrorCode::ResourceNotFound,
                    "The resource that you specified for the DestinationArn parameter doesn't exist.",
                ))?;
                let name = self.queues[index].name.clone();
                if name.is_fifo() != source_name.is_fifo() {
                    return invalid("Source and destination queue must be of the same type.");
                }
                Some((number, name))
            }
        };
        if self.tasks.of(incarnation_of(source)).any(Task::is_active) {
            return invalid(
                "There is already a task running. Only one active task is allowed for a source queue arn at a \
                 given time.",
            );
        }
        if self.tasks.active_of(source_name.account()) >= TASKS_ACTIVE_MAX {
            let text = format!("Only {TASKS_ACTIVE_MAX} move tasks of an account may be active at a time.");
            return Err(Refusal::new(ErrorCode::OverLimit, text));
        }
        if log.room() != Room::All {
            return Err(ErrorCode::StorageFull.into());
        }
        let definition = TaskDefinition {
            id: self.identity.incarnation_next(),
            source: (source, source_name),
            destination,
            messages_per_second_max,
            started_at_ms: self.now_ms,
        };
        let reply = ReplyBody::MoveTaskStarted(task_handle(&definition).into());
        Ok(Planned::Change(Change::StartTask(Box::new(definition)), reply))
    }

    pub(super) fn plan_cancel_task(&self, handle: &[u8]) -> Result<Planned, Refusal> {
        let Some((id, source)) = read_task_handle(handle) else {
            let text = "Value for parameter TaskHandle is invalid.";
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
        };
        let index = self.queues.named(&source).ok_or(Refusal::new(
            ErrorCode::ResourceNotFound,
            "The resource that you specified for the SourceArn parameter doesn't exist.",
        ))?;
        let unknown = || Refusal::new(ErrorCode::ResourceNotFound, "Task does not exist.");
        let queue = &self.queues[index];
        let task = self.tasks.table.get(&(queue.incarnation, id)).ok_or_else(unknown)?;
        if task.whole().status != MoveTaskStatus::Running {
            let text = "Only active tasks can be cancelled.";
            return Err(Refusal::new(ErrorCode::UnsupportedOperation, text));
        }
        let change = Change::CancelTask { queue: queue.number(index), id };
        Ok(Planned::Change(change, ReplyBody::MoveTaskCancelled { moved: task.whole().moved }))
    }

    pub(super) fn list_tasks(&self, source: u64, count_max: u8) -> Answer {
        self.find_queue(source)?;
        if usize::from(count_max) > TASKS_SHOWN_MAX {
            return Err(out_of_range(count_max, "MaxResults", 1, TASKS_SHOWN_MAX as u64));
        }
        let tasks = self.tasks.of(incarnation_of(source)).take(count_max.max(1).into()).map(shown);
        Ok(ReplyBody::MoveTasks(tasks.collect()))
    }
}

fn shown(task: &Task) -> TaskOutput {
    let definition = &task.definition;
    let whole = task.whole();
    TaskOutput {
        status: whole.status,
        messages_per_second_max: definition.messages_per_second_max,
        moved: whole.moved,
        to_move: whole.to_move,
        started_at_ms: definition.started_at_ms,
        // It names the task only while that can be cancelled, which a task that is told to stop is already.
        task: if whole.status == MoveTaskStatus::Running { task_handle(definition) } else { Vec::new() },
        source: definition.source.1.arn(),
        destination: definition.destination.as_ref().map(|(_, name)| name.arn()).unwrap_or_default(),
        // One that will fail still waits for what it has on the way.
        failure: whole.failure.text().filter(|_| whole.status == MoveTaskStatus::Failed),
    }
}
