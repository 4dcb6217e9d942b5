//! What is done with received messages by their handles: deleting them, and changing for how long they are hidden.

use std::time::Duration;

use tenpin_protocol::{
    ANY_SHARD, ChangeVisibilityEntry, ChangeVisibilityRequest, DeleteRequest, Entries, Operation, Outcome,
    QueueOpened, Request, Response,
};

use super::{BATCH_MAX, Queue, check_batch};
use crate::client::response;
use crate::connection::unexpected;
use crate::error::{Error, Refusal, Result};
use crate::message::{Message, ReceiptHandle};

impl Queue {
    /// Deletes a message.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// for message in queue.receive().await? {
    ///     queue.delete(&message).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete(&self, message: &Message) -> Result<()> {
        self.delete_handle(&message.handle()).await
    }

    /// Deletes a message by its handle.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// for message in queue.receive().await? {
    ///     let handle = message.handle();
    ///     drop(message);
    ///     queue.delete_handle(&handle).await?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete_handle(&self, handle: &ReceiptHandle) -> Result<()> {
        one(self.delete_batch(std::slice::from_ref(handle)).await?)
    }

    /// Deletes 1 to 10 messages in one request; each has a result of its own, in their order.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()]).await?;
    /// let handles: Vec<_> = queue.receive().await?.iter().map(|message| message.handle()).collect();
    /// for result in queue.delete_batch(&handles).await? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn delete_batch(&self, handles: &[ReceiptHandle]) -> Result<Vec<Result<()>>> {
        self.delete_each(handles.iter().map(ReceiptHandle::as_bytes)).await
    }

    pub(crate) async fn delete_each<'a>(
        &self,
        handles: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Result<()>>> {
        check_batch(handles.len())?;
        let (mut list, count) = ([&[][..]; BATCH_MAX], handles.len());
        list.iter_mut().zip(handles).for_each(|(place, handle)| *place = handle);
        let shard = common_shard(list[..count].iter().copied());
        let handles = Entries::from(&list[..count]);
        let frame = self
            .call(|opened| (shard, Request::Delete(DeleteRequest { queue: opened.queue, handles })))
            .await?;
        let Response::Delete(reply) = response(&frame)? else { return Err(unexpected(Operation::Delete)) };
        results_of(reply.outcomes, count, Operation::Delete)
    }

    /// Hides a message for so long from now on, in whole seconds; zero makes it visible at once.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send("not now").await?;
    /// for message in queue.receive().await? {
    ///     queue.change_visibility(&message.handle(), Duration::ZERO).await?;
    /// }
    /// assert_eq!(queue.receive().await?.len(), 1, "it is there again");
    /// # Ok(()) });
    /// ```
    pub async fn change_visibility(&self, handle: &ReceiptHandle, timeout: Duration) -> Result<()> {
        one(self.change_visibility_batch(&[(handle, timeout)]).await?)
    }

    /// Changes for how long 1 to 10 messages are hidden; each has a result of its own, in their order.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// queue.send_batch(&["one".into(), "two".into()]).await?;
    /// let handles: Vec<_> = queue.receive().await?.iter().map(|message| message.handle()).collect();
    /// let changes: Vec<_> = handles.iter().map(|handle| (handle, Duration::from_secs(60))).collect();
    /// for result in queue.change_visibility_batch(&changes).await? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn change_visibility_batch(
        &self,
        changes: &[(&ReceiptHandle, Duration)],
    ) -> Result<Vec<Result<()>>> {
        self.change_visibility_of_each(changes.iter().map(|(handle, timeout)| (handle.as_bytes(), *timeout)))
            .await
    }

    pub(crate) async fn change_visibility_of_each<'a>(
        &self,
        changes: impl ExactSizeIterator<Item = (&'a [u8], Duration)>,
    ) -> Result<Vec<Result<()>>> {
        check_batch(changes.len())?;
        let seconds = |timeout: Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let entry =
            |(handle, timeout)| ChangeVisibilityEntry { visibility_seconds: seconds(timeout), handle };
        let list: Vec<_> = changes.map(entry).collect();
        let shard = common_shard(list.iter().map(|entry| entry.handle));
        let entries = Entries::from(&list[..]);
        let request = |opened: &QueueOpened| {
            (shard, Request::ChangeVisibility(ChangeVisibilityRequest { queue: opened.queue, entries }))
        };
        let frame = self.call(request).await?;
        match response(&frame)? {
            Response::ChangeVisibility(reply) => {
                results_of(reply.outcomes, list.len(), Operation::ChangeVisibility)
            }
            _ => Err(unexpected(Operation::ChangeVisibility)),
        }
    }
}

/// The shard that all these handles name, or any: the broker splits what is mixed.
fn common_shard<'a>(mut handles: impl Iterator<Item = &'a [u8]>) -> u16 {
    // The first two bytes say it.
    let shard = |handle: &[u8]| handle.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
    let first = handles.next().and_then(shard);
    match first {
        Some(named) if handles.all(|handle| shard(handle) == first) => named,
        _ => ANY_SHARD,
    }
}

/// A result for each of so many entries, without which nobody can tell whose is whose.
fn results_of<'a>(
    outcomes: Entries<'a, Outcome<'a>>,
    asked: usize,
    operation: Operation,
) -> Result<Vec<Result<()>>> {
    if outcomes.len() != asked {
        return Err(unexpected(operation));
    }
    Ok(outcomes.iter().map(|outcome| result_of(&outcome)).collect())
}

fn result_of(outcome: &Outcome<'_>) -> Result<()> {
    if outcome.is_success() { Ok(()) } else { Err(Refusal::new(outcome.number, outcome.text).into()) }
}

fn one(results: Vec<Result<()>>) -> Result<()> {
    results.into_iter().next().unwrap_or(Err(Error::Protocol("an answer without a result".into())))
}
