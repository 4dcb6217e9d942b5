//! Replies that are not on the hot path: queues, their attributes, counters, refusals.

use tenpin_protocol::{
    ANY_SHARD, Attribute, AttributeValue, AttributesReply, Done, Entries, ErrorFrame, MoveTask,
    MoveTaskCancelled, MoveTaskStarted, MoveTasksReply, Operation, QueueName, QueueOpened, QueuesReply,
    Response, Statistic, StatsReply, Tag, TagsReply,
};

use crate::engine::{AttributeOutput, QueuePage, ReplyBody, TaskOutput, Ticket};

/// Writes such a reply. The hot ones are written where they arise, and have nothing to do here.
pub(super) fn encode_rare(out: &mut Vec<u8>, ticket: Ticket, body: &ReplyBody) {
    let correlation = ticket.correlation;
    match body {
        ReplyBody::QueueOpened { number, incarnation, fifo_shard } => {
            let opened = QueueOpened {
                queue: *number,
                incarnation: *incarnation,
                shard: fifo_shard.unwrap_or(ANY_SHARD),
                fifo: u8::from(fifo_shard.is_some()),
            };
            let response = match ticket.operation {
                Operation::CreateQueue => Response::CreateQueue(opened),
                _ => Response::Open(opened),
            };
            response.encode(correlation, out);
        }
        ReplyBody::Done => {
            let response = match ticket.operation {
                Operation::DeleteQueue => Response::DeleteQueue(Done {}),
                Operation::Purge => Response::Purge(Done {}),
                Operation::TagQueue => Response::TagQueue(Done {}),
                Operation::UntagQueue => Response::UntagQueue(Done {}),
                Operation::AddPermission => Response::AddPermission(Done {}),
                Operation::RemovePermission => Response::RemovePermission(Done {}),
                _ => Response::SetAttributes(Done {}),
            };
            response.encode(correlation, out);
        }
        ReplyBody::Attributes(attributes) => {
            let attributes: Vec<_> =
                attributes.iter().map(|(code, value)| Attribute::new(*code, shown(value))).collect();
            Response::GetAttributes(AttributesReply { attributes: Entries::of(&attributes) })
                .encode(correlation, out);
        }
        ReplyBody::Tags(tags) => {
            let tags: Vec<_> = tags.iter().map(|(key, value)| Tag { key, value }).collect();
            Response::ListTags(TagsReply { tags: Entries::of(&tags) }).encode(correlation, out);
        }
        ReplyBody::Queues(page) => encode_queues(out, ticket, page),
        ReplyBody::Stats(statistics) => {
            let statistics: Vec<_> =
                statistics.iter().map(|&(code, value)| Statistic { number: code.number(), value }).collect();
            Response::Stats(StatsReply { statistics: Entries::of(&statistics) }).encode(correlation, out);
        }
        ReplyBody::MoveTaskStarted(task) => {
            Response::StartMoveTask(MoveTaskStarted { task }).encode(correlation, out);
        }
        ReplyBody::MoveTaskCancelled { moved } => {
            Response::CancelMoveTask(MoveTaskCancelled { moved: *moved }).encode(correlation, out);
        }
        ReplyBody::MoveTasks(tasks) => {
            let tasks: Vec<_> = tasks.iter().map(shown_task).collect();
            Response::ListMoveTasks(MoveTasksReply { tasks: Entries::of(&tasks) }).encode(correlation, out);
        }
        ReplyBody::Refused(refusal) => {
            ErrorFrame::encode(out, ticket.operation.number(), correlation, refusal.code, &refusal.text);
        }
        ReplyBody::Sent(_)
        | ReplyBody::Received(_)
        | ReplyBody::Deleted(_)
        | ReplyBody::Hidden(_)
        | ReplyBody::Peeked(..) => {}
    }
}

fn shown(value: &AttributeOutput) -> AttributeValue<'_> {
    match value {
        AttributeOutput::Number(value) => AttributeValue::Number(*value),
        AttributeOutput::Text(text) => AttributeValue::Text(text),
    }
}

fn encode_queues(out: &mut Vec<u8>, ticket: Ticket, page: &QueuePage) {
    let queues: Vec<_> = page
        .names
        .iter()
        .map(|queue| QueueName { account: queue.account(), region: queue.region(), name: queue.name() })
        .collect();
    let reply = QueuesReply { queues: Entries::of(&queues), next: page.next.as_deref() };
    let response = match ticket.operation {
        Operation::ListDeadLetterSources => Response::ListDeadLetterSources(reply),
        _ => Response::ListQueues(reply),
    };
    response.encode(ticket.correlation, out);
}

fn shown_task(task: &TaskOutput) -> MoveTask<'_> {
    MoveTask {
        status: task.status.number(),
        messages_per_second_max: task.messages_per_second_max,
        moved: task.moved,
        to_move: task.to_move,
        started_at_ms: task.started_at_ms,
        task: &task.task,
        source: &task.source,
        destination: &task.destination,
        failure: task.failure,
    }
}
