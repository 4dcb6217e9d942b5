//! What clients make of the answers they get, and what of it they tell the checker.

use tenpin_protocol::{AttributeCode, AttributesReply, ErrorCode, Response, StatisticCode};

use super::checker::{Ending, Received, Settings, Window};
use super::clients::{Asked, Client, Held};
use super::habits;
use super::moving;
use super::world::World;

/// Takes the answer to a request.
pub(super) fn take(
    client: &mut Client,
    world: &mut World,
    asked: Asked,
    response: &Response<'_>,
    window: Window,
    frame_bytes: usize,
) {
    match (asked, response) {
        (asked, Response::Error(error)) => refused(client, world, &asked, error.code(), window),
        (Asked::Hello, Response::Hello(_)) | (Asked::List, Response::ListQueues(_)) => {}
        (Asked::Open { name, .. }, Response::Open(opened)) => {
            world.checker.queue_known(name, opened.queue, Settings::default(), window);
            client.numbers.insert(name, opened.queue);
        }
        (Asked::Create { name, settings }, Response::CreateQueue(opened)) => {
            world.checker.queue_known(name, opened.queue, settings, window);
            client.numbers.insert(name, opened.queue);
        }
        (Asked::Send { queue, ids }, Response::Send(reply)) => {
            if ids.len() != reply.outcomes.len() {
                return world.violation("a send has not as many outcomes as entries".into());
            }
            for ((id, is_repeat), outcome) in ids.into_iter().zip(reply.outcomes) {
                let ending = if outcome.is_success() { Ending::Done(window) } else { Ending::Refused };
                expected(
                    world,
                    outcome.code(),
                    &[ErrorCode::StorageFull, ErrorCode::RequestThrottled],
                    "a send",
                );
                let accepted = outcome.is_success().then_some((outcome.id, outcome.sequence_number));
                if is_repeat {
                    world.checker.repeat_ended(id, ending, accepted);
                    continue;
                }
                world.checker.send_ended(id, ending, outcome.id);
                if outcome.is_success() && world.checker.is_fifo_number(queue) && !world.checker.has_moves() {
                    world.checker.has_sequence(id, outcome.sequence_number);
                }
            }
        }
        (
            Asked::Receive { queue, visibility_seconds, reply_bytes_max, wait_ms },
            Response::Receive(reply),
        ) => {
            if reply.messages.is_empty() && wait_ms > 0 {
                world.checker.waited_for_nothing(queue, window);
            }
            let shard = client.shard(world);
            if reply.messages.len() > 1 && frame_bytes > reply_bytes_max as usize {
                world.violation(format!(
                    "a reply has {frame_bytes} bytes, over the limit of {reply_bytes_max}"
                ));
            }
            let is_fifo = world.checker.is_fifo_number(queue);
            let mut together = Vec::new();
            for message in reply.messages {
                let handle = message.handle.to_vec();
                let received = Received {
                    queue,
                    body: message.body,
                    broker_id: message.fixed.id,
                    sent_at_ms: message.fixed.sent_at_ms,
                    receive_count: message.fixed.receive_count,
                    handle: &handle,
                    visibility_seconds,
                    shard,
                };
                let Some(id) = world.checker.received(&received, window) else { return };
                world.note("received", &[client.index as u64, id, u64::from(received.receive_count)]);
                world.trace.remark(0, || format!("handle of {id}: {:?}", &message.handle[4..16]));
                if message.trace_header() != habits::trace_header(id).as_deref() {
                    world.violation(format!("message {id} has another trace header than it was sent with"));
                }
                client.took(Held { queue, id, handle });
                if is_fifo {
                    let group = habits::group(id);
                    if message.group() != Some(&*group) {
                        world.violation(format!("message {id} has another group than it was sent to"));
                    }
                    if world.checker.has_moves() {
                        continue;
                    }
                    world.checker.has_sequence(id, message.fixed.sequence_number);
                    together.push((id, message.fixed.sequence_number));
                }
            }
            world.checker.check_groups(queue, &together, window);
        }
        (Asked::Delete { queue, entries }, Response::Delete(reply)) => {
            // There a handle is good for its delivery only.
            let is_fifo = world.checker.is_fifo_number(queue);
            let allowed: &[ErrorCode] = if is_fifo { &[ErrorCode::InvalidParameterValue] } else { &[] };
            for (held, outcome) in entries.into_iter().zip(reply.outcomes) {
                let ending = if outcome.is_success() { Ending::Done(window) } else { Ending::Refused };
                expected(world, outcome.code(), allowed, "a delete");
                world.checker.delete_ended(held.id, held.queue, &held.handle, ending);
            }
        }
        (Asked::Change { entries, .. }, Response::ChangeVisibility(reply)) => {
            let allowed =
                [ErrorCode::MessageNotInflight, ErrorCode::InvalidParameterValue, ErrorCode::StorageFull];
            for ((id, hold), outcome) in entries.into_iter().zip(reply.outcomes) {
                let ending = if outcome.is_success() { Ending::Done(window) } else { Ending::Refused };
                expected(world, outcome.code(), &allowed, "a change of visibility");
                world.checker.change_ended(id, hold, ending);
            }
        }
        (Asked::Peek { queue }, Response::Peek(reply)) => peeked(world, queue, reply, window),
        (asked @ (Asked::Purge { .. } | Asked::DeleteQueue { .. } | Asked::Set { .. }), response)
            if is_done(response) =>
        {
            end(world, &asked, Ending::Done(window));
        }
        (Asked::Get { queue, is_last_word }, Response::GetAttributes(reply)) => {
            let count = got_attributes(world, queue, reply, window);
            if is_last_word {
                client.drain.counted(queue, count, window);
            }
        }
        (Asked::Stats { queue }, Response::Stats(reply)) => {
            let damaged = StatisticCode::Damaged.number();
            let count = reply.statistics.into_iter().find(|statistic| statistic.number == damaged);
            client.drain.counted_damaged(queue, count.map_or(0, |statistic| statistic.value));
        }
        (Asked::StartTask, Response::StartMoveTask(reply)) => moving::started(client, reply.task),
        (Asked::CancelTask, Response::CancelMoveTask(_)) => {}
        (Asked::ListTasks { queue }, Response::ListMoveTasks(reply)) => {
            moving::listed(client, world, queue, reply, window);
        }
        (asked, response) => world.violation(format!("{asked:?} was answered by {response:?}")),
    }
}

fn is_done(response: &Response<'_>) -> bool {
    matches!(response, Response::Purge(_) | Response::DeleteQueue(_) | Response::SetAttributes(_))
}

fn peeked(world: &mut World, queue: u64, reply: &tenpin_protocol::PeekReply<'_>, window: Window) {
    for message in reply.messages {
        if message.fixed.state == tenpin_protocol::MessageState::Damaged.number() {
            continue;
        }
        let received = Received {
            queue,
            body: message.body,
            broker_id: message.fixed.message.id,
            sent_at_ms: message.fixed.message.sent_at_ms,
            receive_count: message.fixed.message.receive_count,
            handle: &[],
            visibility_seconds: None,
            shard: 0,
        };
        world.checker.peeked(&received, window);
    }
}

/// How many messages the queue says that it has, in all states.
fn got_attributes(world: &mut World, queue: u64, reply: &AttributesReply<'_>, window: Window) -> u64 {
    let value = |code: AttributeCode| {
        reply
            .attributes
            .into_iter()
            .find(|attribute| attribute.code() == Some(code))
            .map(|attribute| attribute.value)
    };
    let settings = Settings {
        retention_seconds: value(AttributeCode::MessageRetentionPeriod),
        visibility_seconds: value(AttributeCode::VisibilityTimeout),
        delay_seconds: value(AttributeCode::DelaySeconds),
    };
    world.checker.settings_read(queue, settings, window);
    let count = [
        AttributeCode::ApproximateNumberOfMessages,
        AttributeCode::ApproximateNumberOfMessagesNotVisible,
        AttributeCode::ApproximateNumberOfMessagesDelayed,
    ]
    .into_iter()
    .map(|code| value(code).unwrap_or(0))
    .sum();
    world.checker.counted(queue, count, window);
    count
}

/// A request was refused as a whole.
fn refused(client: &mut Client, world: &mut World, asked: &Asked, code: Option<ErrorCode>, window: Window) {
    match (asked, code) {
        (Asked::Open { name, is_last_word }, Some(ErrorCode::QueueDoesNotExist)) => {
            world.checker.name_missing(*name, window);
            if *is_last_word {
                client.drain.missing(*name);
            }
        }
        (_, Some(ErrorCode::QueueDoesNotExist)) => {
            let Some(queue) = asked.queue() else {
                return world.violation(format!("{asked:?} was refused: QueueDoesNotExist"));
            };
            world.checker.number_missing(queue, window);
            client.numbers.retain(|_, number| *number != queue);
        }
        (asked, code) => {
            let allowed: &[ErrorCode] = match asked {
                Asked::Create { .. } if moving::may_lack_letters(world) => {
                    &[ErrorCode::InvalidParameterValue, ErrorCode::QueueNameExists, ErrorCode::StorageFull]
                }
                Asked::Create { .. } => {
                    &[ErrorCode::QueueNameExists, ErrorCode::QueueDeletedRecently, ErrorCode::StorageFull]
                }
                Asked::Receive { .. } => &[
                    ErrorCode::OverLimit,
                    ErrorCode::StorageFull,
                    ErrorCode::TooManyRequests,
                    ErrorCode::RequestThrottled,
                ],
                Asked::Send { .. } | Asked::Set { .. } | Asked::Change { .. } => {
                    &[ErrorCode::StorageFull, ErrorCode::RequestThrottled]
                }
                Asked::Purge { .. } => &[ErrorCode::PurgeQueueInProgress],
                asked => moving::allowed(asked),
            };
            expected(world, code.or(Some(ErrorCode::Internal)), allowed, "a request");
        }
    }
    end(world, asked, Ending::Refused);
}

/// Whether a refusal is one that may be.
fn expected(world: &mut World, code: Option<ErrorCode>, allowed: &[ErrorCode], what: &str) {
    if let Some(code) = code
        && code != ErrorCode::ShuttingDown
        && !allowed.contains(&code)
    {
        world.violation(format!("{what} was refused with {code:?}"));
    }
}

/// Tells the checker how a request ended.
pub(super) fn end(world: &mut World, asked: &Asked, ending: Ending) {
    let now_ns = world.now_ns;
    let checker = &mut world.checker;
    match asked {
        Asked::Receive { queue, .. } => {
            if let Ending::Unknown(Some(_)) = ending {
                checker.receive_lost(*queue, now_ns);
            }
        }
        Asked::Send { ids, .. } => {
            for &(id, is_repeat) in ids {
                if is_repeat {
                    checker.repeat_ended(id, ending, None);
                } else {
                    checker.send_ended(id, ending, [0; 16]);
                }
            }
        }
        Asked::Delete { entries, .. } => {
            for held in entries {
                checker.delete_ended(held.id, held.queue, &held.handle, ending);
            }
        }
        Asked::Change { entries, .. } => {
            for (id, hold) in entries {
                checker.change_ended(*id, *hold, ending);
            }
        }
        Asked::Purge { queue } => checker.purge_ended(*queue, ending),
        Asked::DeleteQueue { queue } => checker.deletion_ended(*queue, ending),
        Asked::Set { queue, change } => checker.settings_changed(*queue, *change, ending),
        Asked::Hello
        | Asked::Open { .. }
        | Asked::Create { .. }
        | Asked::Peek { .. }
        | Asked::Get { .. }
        | Asked::Stats { .. }
        | Asked::StartTask
        | Asked::CancelTask
        | Asked::ListTasks { .. }
        | Asked::List => {}
    }
}

impl Asked {
    /// The queue that it is about, by number.
    fn queue(&self) -> Option<u64> {
        match self {
            Self::Send { queue, .. }
            | Self::Receive { queue, .. }
            | Self::Delete { queue, .. }
            | Self::Change { queue, .. }
            | Self::Peek { queue }
            | Self::Purge { queue }
            | Self::DeleteQueue { queue }
            | Self::Set { queue, .. }
            | Self::Get { queue, .. }
            | Self::ListTasks { queue }
            | Self::Stats { queue } => Some(*queue),
            Self::StartTask
            | Self::CancelTask
            | Self::Hello
            | Self::Open { .. }
            | Self::Create { .. }
            | Self::List => None,
        }
    }
}
