//! Worlds whose queues have dead-letter queues: what clients do there with move tasks.
//!
//! Queues 0 and 1 are sent to; queues 2 and 3 get their dead letters, each on whatever shard it lives.
//! Tasks send these anew. The checker judges by `checker/moves.rs`.

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, CancelMoveTaskRequest, ErrorCode, ListMoveTasksRequest,
    MoveTaskStatus, MoveTasksReply, NO_QUEUE, StartMoveTaskRequest,
};

use super::checker::{ListedTask, Window};
use super::clients::{Asked, Client};
use super::habits::{open, queue_name};
use super::plan::{BrokerPlan, ClientPlan, Faults, MS, Operations, SECOND};
use super::random::Random;
use super::world::World;
use crate::journal::Durability;

/// Queues that are sent to; as many have their dead letters.
const WORK_QUEUES: usize = 2;

/// What worlds have where messages move.
#[derive(Debug, Clone, Default)]
pub struct MovingPlan {
    /// How often a message is received before it moves.
    pub receives_max: u64,
    /// How likely clients start, cancel and list tasks, against their other operations.
    pub tasks: u32,
    /// Of ten requests so many may go to FIFO queues: where they are few, the log turns between two moves
    /// from shard to shard.
    pub fifo_in_ten: u64,
}

/// The queue that gets the dead letters of one that is sent to.
pub(super) fn letters_of(name: usize) -> Option<usize> {
    (name < WORK_QUEUES).then_some(name + WORK_QUEUES)
}

/// The queue whose dead letters come to this one.
pub(super) fn work_of(name: usize) -> Option<usize> {
    name.checked_sub(WORK_QUEUES)
}

/// Sets up a world where messages move, and processes end meanwhile.
pub(super) fn set_theme(
    random: &mut Random,
    shards: &mut u16,
    broker: &mut BrokerPlan,
    clients: &mut ClientPlan,
    faults: &mut Faults,
) {
    *shards = random.between(2, 5) as u16;
    let kills_ns = *random.pick(&[0, 300 * MS, SECOND, 3 * SECOND]);
    let slow_ns_max = *random.pick(&[0, 50 * MS, SECOND, 4 * SECOND]);
    *faults = Faults {
        kill_ns: kills_ns,
        power_cut_ns: if random.chance(1, 2) { kills_ns } else { 0 },
        slow_operations: if slow_ns_max > 0 { random.between(2, 12) } else { 0 },
        slow_ns_max,
        break_ns: if random.chance(1, 4) { SECOND } else { 0 },
        ..Faults::default()
    };
    broker.minute_rules = false;
    broker.log_bytes_max = None;
    broker.in_flight_max = 120_000;
    broker.growth_factor = 1;
    broker.growth_base_bytes = 0;
    clients.queues = 2 * WORK_QUEUES;
    clients.fifo = true;
    clients.moving = Some(MovingPlan {
        receives_max: random.between(1, 3),
        tasks: *random.pick(&[0, 4, 12]),
        fifo_in_ten: *random.pick(&[10, 10, 1]),
    });
    clients.clients = clients.clients.max(3);
    clients.requests = random.between(300, 1_200);
    clients.think_ns = clients.think_ns.clamp(3 * MS, 60 * MS);
    clients.delay_seconds_max = 0;
    clients.visibility_seconds_max = *random.pick(&[0, 1, 1, 2]);
    clients.wait_ms_max = clients.wait_ms_max.min(2_000);
    clients.body_bytes_max = *random.pick(&[64, 2_000, 8_000]);
    clients.retention_seconds_max = 345_600;
    clients.operations = Operations {
        send: random.between(10, 30) as u32,
        receive: random.between(30, 60) as u32,
        long_poll: *random.pick(&[0, 10]),
        delete: random.between(2, 20) as u32,
        delete_again: *random.pick(&[0, 5]),
        peek: *random.pick(&[0, 3]),
        get_attributes: 3,
        ..Operations::default()
    };
}

/// Makes a queue that clients send to have its dead letters moved. `false`: there is none for them yet,
/// so that one is opened first.
pub(super) fn add_redrive(
    client: &mut Client,
    world: &mut World,
    name: usize,
    policy: &mut Option<String>,
) -> bool {
    let Some(moving) = &client.plan.moving else { return true };
    let Some(letters) = letters_of(name) else { return true };
    if !client.numbers.contains_key(&letters) {
        open(client, world, letters);
        return false;
    }
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{}", queue_name(world, letters));
    let most = moving.receives_max;
    *policy = Some(format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{most}}}"#));
    true
}

/// The attribute that says so.
pub(super) fn redrive_attribute(policy: &Option<String>) -> Option<Attribute<'_>> {
    let policy = policy.as_deref()?;
    Some(Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy)))
}

/// The queue that a client does something with.
pub(super) fn choose_queue(client: &mut Client) -> usize {
    let name = client.random.below(client.plan.queues as u64) as usize;
    match client.plan.moving {
        Some(MovingPlan { fifo_in_ten, .. }) if !client.random.chance(fifo_in_ten, 10) => name & !1,
        _ => name,
    }
}

/// The queue to send to instead of this one; `None`: the client has not opened it yet.
pub(super) fn sends_to(client: &Client, world: &World, queue: u64) -> Option<u64> {
    let work = client.plan.moving.as_ref().and_then(|_| work_of(world.checker.queues.get(&queue)?.name));
    work.map_or(Some(queue), |work| client.numbers.get(&work).copied())
}

/// Does something with move tasks, where it is their turn.
pub(super) fn act(client: &mut Client, world: &mut World) -> bool {
    let Some(MovingPlan { tasks, .. }) = client.plan.moving else { return false };
    if tasks == 0 || !client.random.chance(tasks.into(), 100) {
        return false;
    }
    let work = client.random.below(WORK_QUEUES as u64) as usize;
    let (Some(&work), Some(&letters)) =
        (client.numbers.get(&work), client.numbers.get(&(work + WORK_QUEUES)))
    else {
        return false;
    };
    match client.random.below(6) {
        0 => {
            if !client.tasks.is_empty() {
                let place = client.random.below(client.tasks.len() as u64) as usize;
                let task = client.tasks[place].clone();
                client.ask(world, CancelMoveTaskRequest { task: &task }.into(), Asked::CancelTask);
            }
        }
        1 | 2 => list(client, world, letters),
        _ => {
            if world.checker.may_start_task(letters) {
                let destination = if client.random.chance(1, 3) { work } else { NO_QUEUE };
                let messages_per_second_max = *client.random.pick(&[0, 0, 20, 200]);
                let request = StartMoveTaskRequest { source: letters, destination, messages_per_second_max };
                client.ask(world, request.into(), Asked::StartTask);
            }
        }
    }
    true
}

/// Asks what tasks there are.
pub(super) fn list(client: &mut Client, world: &mut World, queue: u64) {
    let request = ListMoveTasksRequest { source: queue, max: 10 };
    client.ask(world, request.into(), Asked::ListTasks { queue });
}

/// Keeps the handle of a task that was started.
pub(super) fn started(client: &mut Client, task: &[u8]) {
    client.tasks.push(task.to_vec());
}

/// Looks at a list of tasks; notes whether any is active.
pub(super) fn listed(
    client: &mut Client,
    world: &mut World,
    queue: u64,
    reply: &MoveTasksReply<'_>,
    window: Window,
) {
    let tasks: Vec<ListedTask> = reply
        .tasks
        .iter()
        .map(|task| ListedTask {
            started_at_ms: task.started_at_ms,
            status: task.status,
            moved: task.moved,
            to_move: task.to_move,
            has_handle: !task.task.is_empty(),
        })
        .collect();
    let is_idle = tasks.iter().all(|task| !task.is_active());
    world.checker.tasks_listed(queue, tasks, window);
    client.drain.tasks_are_idle(queue, is_idle, window);
}

/// Whether a power cut may have taken the dead-letter queue that a client knows, so that a queue which names
/// it is refused.
pub(super) fn may_lack_letters(world: &World) -> bool {
    world.checker.has_moves() && world.plan.broker.durability == Durability::Async
}

/// Refusals that a request about tasks may get.
pub(super) fn allowed(asked: &Asked) -> &'static [ErrorCode] {
    match asked {
        Asked::StartTask => {
            &[ErrorCode::InvalidParameterValue, ErrorCode::StorageFull, ErrorCode::ResourceNotFound]
        }
        Asked::CancelTask => &[ErrorCode::ResourceNotFound, ErrorCode::UnsupportedOperation],
        _ => &[],
    }
}

/// Whether a task of this status goes on.
pub(super) fn is_active(status: u16) -> bool {
    matches!(
        MoveTaskStatus::from_number(status),
        Some(MoveTaskStatus::Running | MoveTaskStatus::Cancelling) | None
    )
}
