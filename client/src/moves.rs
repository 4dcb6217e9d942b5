//! Moving dead letters back: tasks that take the messages of a dead-letter queue to where they are to
//! be handled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenpin_protocol::{
    ANY_SHARD, CancelMoveTaskRequest, ListMoveTasksRequest, MoveTaskStatus, NO_QUEUE, Operation, Request,
    Response, StartMoveTaskRequest,
};

use crate::client::{Client, response};
use crate::connection::unexpected;
use crate::error::Result;
use crate::queue::Queue;

/// What names a task while it runs.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_dead_letters(async |client, queue, dead| {
/// let task = dead.start_move_task(None, None).await?;
/// println!("started: {:?}", task.as_bytes());
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskHandle(Bytes);

impl TaskHandle {
    /// Its bytes, to keep or to pass on.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_dead_letters(async |client, queue, dead| {
    /// let kept = dead.start_move_task(None, None).await?.as_bytes().to_vec();
    /// # Ok(()) });
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A handle from such bytes.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_dead_letters(async |client, queue, dead| {
    /// let kept = dead.start_move_task(None, None).await?.as_bytes().to_vec();
    /// let task = tenpin_client::TaskHandle::from_bytes(kept);
    /// # Ok(()) });
    /// ```
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}

/// A task that moves messages, as it stands.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::with_dead_letters(async |client, queue, dead| {
/// dead.start_move_task(None, None).await?;
/// for task in dead.move_tasks().await? {
///     println!("{} of {} moved out of {}", task.moved, task.to_move, task.source);
/// }
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask {
    /// What cancels it; `None` where it does not run, or has been told to stop.
    pub handle: Option<TaskHandle>,
    /// Where it stands; `None` where this version of the library does not know the word.
    pub status: Option<MoveTaskStatus>,
    /// ARN of the dead-letter queue.
    pub source: String,
    /// ARN of the queue that it moves to; `None`: each message to the one that it came from.
    pub destination: Option<String>,
    /// How fast it may move, where that was said.
    pub messages_per_second_max: Option<u32>,
    /// How many messages it has moved.
    pub moved: u64,
    /// How many there were when it started.
    pub to_move: u64,
    /// When it started.
    pub started_at: SystemTime,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

impl Queue {
    /// Starts to move the messages of this dead-letter queue: to `destination`, or each to the queue that
    /// it came from; 1 to 500 messages a second where that is said.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_dead_letters(async |client, queue, dead| {
    /// dead.start_move_task(Some(&queue), Some(100)).await?;
    /// # Ok(()) });
    /// ```
    pub async fn start_move_task(
        &self,
        destination: Option<&Queue>,
        messages_per_second_max: Option<u32>,
    ) -> Result<TaskHandle> {
        let destination = destination.map_or(NO_QUEUE, Queue::number);
        let frame = self
            .call_any(|source| {
                let messages_per_second_max = messages_per_second_max.unwrap_or(0);
                Request::StartMoveTask(StartMoveTaskRequest { source, destination, messages_per_second_max })
            })
            .await?;
        match response(&frame)? {
            Response::StartMoveTask(started) => Ok(TaskHandle(Bytes::copy_from_slice(started.task))),
            _ => Err(unexpected(Operation::StartMoveTask)),
        }
    }

    /// The newest tasks of this dead-letter queue, newest first: up to ten.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::with_dead_letters(async |client, queue, dead| {
    /// use tenpin_client::MoveTaskStatus;
    /// dead.start_move_task(None, None).await?;
    /// while dead.move_tasks().await?[0].status == Some(MoveTaskStatus::Running) {
    ///     tokio::time::sleep(Duration::from_millis(10)).await;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn move_tasks(&self) -> Result<Vec<MoveTask>> {
        let list = |source| Request::ListMoveTasks(ListMoveTasksRequest { source, max: 10 });
        let frame = self.call_any(list).await?;
        let Response::ListMoveTasks(reply) = response(&frame)? else {
            return Err(unexpected(Operation::ListMoveTasks));
        };
        let tasks = reply.tasks.iter().map(|task| MoveTask {
            handle: (!task.task.is_empty()).then(|| TaskHandle(Bytes::copy_from_slice(task.task))),
            status: MoveTaskStatus::from_number(task.status),
            source: task.source.to_owned(),
            destination: (!task.destination.is_empty()).then(|| task.destination.to_owned()),
            messages_per_second_max: (task.messages_per_second_max > 0)
                .then_some(task.messages_per_second_max),
            moved: task.moved,
            to_move: task.to_move,
            started_at: UNIX_EPOCH + Duration::from_millis(task.started_at_ms),
            failure: task.failure.map(str::to_owned),
        });
        Ok(tasks.collect())
    }
}

impl Client {
    /// Stops a task; gives how many messages it had moved.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::with_dead_letters(async |client, queue, dead| {
    /// # for _ in 0..10 { dead.send("could not be handled").await?; }
    /// let task = dead.start_move_task(Some(&queue), Some(1)).await?;
    /// println!("{} had been moved", client.cancel_move_task(&task).await?);
    /// # Ok(()) });
    /// ```
    pub async fn cancel_move_task(&self, task: &TaskHandle) -> Result<u64> {
        let request = Request::CancelMoveTask(CancelMoveTaskRequest { task: task.as_bytes() });
        let frame = self.call(ANY_SHARD, &request).await?;
        match response(&frame)? {
            Response::CancelMoveTask(cancelled) => Ok(cancelled.moved),
            _ => Err(unexpected(Operation::CancelMoveTask)),
        }
    }
}
