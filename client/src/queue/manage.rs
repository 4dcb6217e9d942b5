//! A queue as a whole: its attributes, tags, permissions, sources and counters, and its end.

use tenpin_protocol::{
    ALL_ATTRIBUTES, ANY_SHARD, AddPermissionRequest, AttributeName, DeleteQueueRequest, Entries,
    GetAttributesRequest, ListDeadLetterSourcesRequest, ListTagsRequest, Operation, PurgeRequest,
    RemovePermissionRequest, Request, Response, SetAttributesRequest, StatsRequest, Tag, TagQueueRequest,
    Text, UntagQueueRequest,
};

use super::{Queue, QueuePage};
use crate::attributes::QueueAttributes;
use crate::client::response;
use crate::connection::unexpected;
use crate::error::Result;
use crate::stats::Stats;

impl Queue {
    /// All its attributes, counts included.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// for (name, value) in queue.attributes().await?.iter() {
    ///     println!("{name} = {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn attributes(&self) -> Result<QueueAttributes> {
        let all = [AttributeName { number: ALL_ATTRIBUTES }];
        let names = Entries::from(&all[..]);
        let frame =
            self.call_any(|queue| Request::GetAttributes(GetAttributesRequest { queue, names })).await?;
        match response(&frame)? {
            Response::GetAttributes(reply) => Ok(QueueAttributes::from_wire(&reply)),
            _ => Err(unexpected(Operation::GetAttributes)),
        }
    }

    /// Changes attributes: all that are given, or none where one of them is refused.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// queue.set_attributes(&QueueAttributes::new().visibility_timeout(Duration::from_secs(60))).await?;
    /// let attributes = queue.attributes().await?;
    /// assert_eq!(attributes.get_number(AttributeCode::VisibilityTimeout), Some(60));
    /// # Ok(()) });
    /// ```
    pub async fn set_attributes(&self, attributes: &QueueAttributes) -> Result<()> {
        let list = attributes.to_wire(false);
        let attributes = Entries::from(&list[..]);
        self.call_any(|queue| Request::SetAttributes(SetAttributesRequest { queue, attributes })).await?;
        Ok(())
    }

    /// Adds or replaces tags.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing"), ("stage", "test")]).await?;
    /// # Ok(()) });
    /// ```
    pub async fn tag(&self, tags: &[(&str, &str)]) -> Result<()> {
        let list: Vec<_> = tags.iter().map(|&(key, value)| Tag { key, value }).collect();
        let tags = Entries::from(&list[..]);
        self.call_any(|queue| Request::TagQueue(TagQueueRequest { queue, tags })).await?;
        Ok(())
    }

    /// Removes tags by their keys.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing")]).await?;
    /// queue.untag(&["team"]).await?;
    /// assert!(queue.tags().await?.is_empty());
    /// # Ok(()) });
    /// ```
    pub async fn untag(&self, keys: &[&str]) -> Result<()> {
        let list: Vec<_> = keys.iter().map(|&text| Text { text }).collect();
        let keys = Entries::from(&list[..]);
        self.call_any(|queue| Request::UntagQueue(UntagQueueRequest { queue, keys })).await?;
        Ok(())
    }

    /// Its tags.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.tag(&[("team", "billing")]).await?;
    /// for (key, value) in queue.tags().await? {
    ///     println!("{key} = {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub async fn tags(&self) -> Result<Vec<(String, String)>> {
        let frame = self.call_any(|queue| Request::ListTags(ListTagsRequest { queue })).await?;
        match response(&frame)? {
            Response::ListTags(reply) => {
                Ok(reply.tags.iter().map(|tag| (tag.key.to_owned(), tag.value.to_owned())).collect())
            }
            _ => Err(unexpected(Operation::ListTags)),
        }
    }

    /// Adds a statement to its policy that allows accounts some of the actions of SQS.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.add_permission("partners", &["123456789012"], &["SendMessage"]).await?;
    /// # Ok(()) });
    /// ```
    pub async fn add_permission(&self, label: &str, accounts: &[&str], actions: &[&str]) -> Result<()> {
        let accounts: Vec<_> = accounts.iter().map(|&text| Text { text }).collect();
        let actions: Vec<_> = actions.iter().map(|&text| Text { text }).collect();
        let request = |queue| {
            Request::AddPermission(AddPermissionRequest {
                queue,
                label,
                accounts: Entries::from(&accounts[..]),
                actions: Entries::from(&actions[..]),
            })
        };
        self.call_any(request).await.map(drop)
    }

    /// Removes the statement with this label from its policy.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.add_permission("partners", &["123456789012"], &["SendMessage"]).await?;
    /// queue.remove_permission("partners").await?;
    /// # Ok(()) });
    /// ```
    pub async fn remove_permission(&self, label: &str) -> Result<()> {
        self.call_any(|queue| Request::RemovePermission(RemovePermissionRequest { queue, label }))
            .await
            .map(drop)
    }

    /// Queues that have this one for their dead letters: up to 1,000, from where the page before ended.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::{AttributeCode, QueueAttributes};
    /// let dead = client.create_queue("orders-dead").await?;
    /// let arn = dead.attributes().await?.get_text(AttributeCode::QueueArn).unwrap_or_default().to_owned();
    /// queue.set_attributes(&QueueAttributes::new().dead_letters(&arn, 3)).await?;
    /// assert_eq!(dead.dead_letter_sources(None).await?.names[0].name(), "orders");
    /// # Ok(()) });
    /// ```
    pub async fn dead_letter_sources(&self, after: Option<&QueuePage>) -> Result<QueuePage> {
        let next = after.and_then(QueuePage::next);
        let request =
            |queue| Request::ListDeadLetterSources(ListDeadLetterSourcesRequest { queue, max: 1_000, next });
        let frame = self.call_any(request).await?;
        match response(&frame)? {
            Response::ListDeadLetterSources(reply) => Ok(QueuePage::from_wire(&reply)),
            _ => Err(unexpected(Operation::ListDeadLetterSources)),
        }
    }

    /// Its counters.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// assert_eq!(queue.stats().await?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub async fn stats(&self) -> Result<Stats> {
        Stats::of_answer(&self.call_any(|queue| Request::Stats(StatsRequest { queue })).await?)
    }

    /// Deletes all its messages; at most once in 60 seconds.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// queue.purge().await?;
    /// assert!(queue.receive().await?.is_empty());
    /// # Ok(()) });
    /// ```
    pub async fn purge(&self) -> Result<()> {
        self.call_any(|queue| Request::Purge(PurgeRequest { queue })).await?;
        Ok(())
    }

    /// Deletes the queue with all its messages. Its name is free again after 60 seconds.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.delete_queue().await?;
    /// assert!(queue.send("too late").await.is_err());
    /// # Ok(()) });
    /// ```
    pub async fn delete_queue(&self) -> Result<()> {
        // Not by `call`: a namesake that was made meanwhile is another queue.
        let request = Request::DeleteQueue(DeleteQueueRequest { queue: self.opened().queue });
        self.inner.client.call(ANY_SHARD, &request).await.map(drop)
    }
}
