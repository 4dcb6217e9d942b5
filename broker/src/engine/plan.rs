//! Judging what shall change in the catalog: from the catalog as it is and a request to a refusal, an
//! answer, or a whole [`Change`]. Nothing changes here but the count of incarnations.

use tenpin_protocol::{Attribute, Entries, ErrorCode, Tag, Text};

use super::Engine;
use super::change::{Change, Planned};
use super::command::{Command, RawName};
use super::manage::MINUTE_MS;
use super::outputs::{Refusal, ReplyBody};
use super::queue::QUEUES_MAX;
use super::queue_state::{Definition, QUEUE_STATE_BYTES, QueueState};
use crate::catalog::{
    AttributeChange, AttributeError, Details, NameError, Permission, Policy, QueueName, Redrive, remove_tags,
    set_tags,
};
use crate::flaws::Flaws;
use crate::journal::{Log, PREFIX_BYTES, Room};

pub(super) type Answer = Result<ReplyBody, Refusal>;
type Plan = Result<Planned, Refusal>;

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Self {
        Self { code: error.code, text: error.text }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

impl<F: Flaws> Engine<F> {
    /// What a command that is to change the catalog comes to. Another shard may be told the change
    /// once this one has it durable; where this shard applies it at once, nothing lies between.
    ///
    /// # Panics
    /// Where the command is not one that changes the catalog.
    pub fn plan(&mut self, now_ms: u64, command: Command<'_>, log: &Log<F>) -> Result<Planned, Refusal> {
        self.now_ms = self.now_ms.max(now_ms);
        match command {
            Command::CreateQueue { name, attributes, tags } => self.plan_create(name, attributes, tags, log),
            Command::DeleteQueue { queue } => {
                self.find_queue(queue)?;
                Ok(Planned::Change(Change::Delete { queue, time_ms: self.now_ms }, ReplyBody::Done))
            }
            Command::SetAttributes { queue, attributes } => self.plan_set(queue, attributes, log),
            Command::TagQueue { queue, tags } => self.plan_tag(queue, tags, log),
            Command::UntagQueue { queue, keys } => self.plan_untag(queue, keys, log),
            Command::AddPermission { queue, permission } => self.plan_permission(queue, permission, log),
            Command::RemovePermission { queue, label } => self.plan_no_permission(queue, label, log),
            Command::Purge { queue } => self.plan_purge(queue),
            other => unreachable!("{other:?} changes no catalog"),
        }
    }

    fn plan_create(
        &mut self,
        name: RawName<'_>,
        attributes: Entries<'_, Attribute<'_>>,
        tags: Entries<'_, Tag<'_>>,
        log: &Log<F>,
    ) -> Plan {
        let name = self.parse_name(name)?;
        let change = AttributeChange::parse(attributes)?;
        let (attributes, mut details) = change.create(&name)?;
        details.tags = set_tags(&details.tags, tags)?;
        if let Some(index) = self.queues.named(&name) {
            let queue = &self.queues[index];
            if let Some(attribute) = change.differs_from(&queue.attributes, &queue.details) {
                let text = format!(
                    "A queue already exists with the same name and a different value for attribute {}",
                    attribute.name()
                );
                return Err(Refusal::new(ErrorCode::QueueNameExists, text));
            }
            return Ok(Planned::Answer(self.opened(index)));
        }
        if let Some(redrive) = &details.redrive {
            self.check_redrive(&name, redrive)?;
        }
        let tombstone = self.tombstones.by_name.get(&name);
        if tombstone.is_some_and(|tombstone| self.now_ms < tombstone.deleted_at_ms + MINUTE_MS) {
            return Err(ErrorCode::QueueDeletedRecently.into());
        }
        if self.queues.count() >= QUEUES_MAX as usize {
            return Err(Refusal::new(ErrorCode::OverLimit, "There are as many queues as there may be."));
        }
        let incarnation = self.identity.incarnation_next();
        let definition = Definition {
            index: self.queues.next_index(),
            incarnation,
            owner_shard: self.identity.shard_of_incarnation(self.options.shards),
            name,
            attributes,
            details: details.into(),
            created_at_ms: self.now_ms,
            modified_at_ms: self.now_ms,
        };
        let reply = ReplyBody::QueueOpened {
            number: definition.number(),
            incarnation,
            fifo_shard: definition.attributes.is_fifo().then_some(definition.owner_shard),
        };
        check_room(None, &definition, log)?;
        Ok(Planned::Change(Change::Define(Box::new(definition)), reply))
    }

    fn plan_set(&self, number: u64, attributes: Entries<'_, Attribute<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let change = AttributeChange::parse(attributes)?;
        let queue = &self.queues[index];
        let (attributes, details) = change.set(queue.attributes, &queue.details)?;
        if let Some(redrive) = details.redrive.as_ref().filter(|_| change.has_redrive()) {
            self.check_redrive(&queue.name, redrive)?;
        }
        let before = queue.definition(index);
        let after =
            Definition { attributes, details: details.into(), modified_at_ms: self.now_ms, ..before.clone() };
        define(before, after, log)
    }

    fn plan_tag(&self, number: u64, tags: Entries<'_, Tag<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let tags = set_tags(&before.details.tags, tags)?;
        let after = with_details(&before, |details| details.tags = tags);
        define(before, after, log)
    }

    fn plan_untag(&self, number: u64, keys: Entries<'_, Text<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let tags = remove_tags(&before.details.tags, keys);
        let after = with_details(&before, |details| details.tags = tags);
        define(before, after, log)
    }

    fn plan_permission(&self, number: u64, permission: Permission<'_>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let policy = Policy::with_permission(before.details.policy.as_ref(), &before.name, &permission)?;
        let mut after = with_details(&before, |details| details.policy = Some(policy));
        after.modified_at_ms = self.now_ms;
        define(before, after, log)
    }

    fn plan_no_permission(&self, number: u64, label: &str, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let policy = Policy::without_permission(before.details.policy.as_ref(), label)?;
        let mut after = with_details(&before, |details| details.policy = policy);
        after.modified_at_ms = self.now_ms;
        define(before, after, log)
    }

    fn plan_purge(&self, number: u64) -> Plan {
        let queue = &self.queues[self.find_queue(number)?];
        let is_soon = queue.purged_at_ms > 0 && self.now_ms < queue.purged_at_ms + MINUTE_MS;
        if self.options.minute_rules && is_soon {
            let text = format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                queue.name.name()
            );
            return Err(Refusal::new(ErrorCode::PurgeQueueInProgress, text));
        }
        Ok(Planned::Change(Change::Purge { queue: number, time_ms: self.now_ms }, ReplyBody::Done))
    }

    /// A dead-letter queue must be there, be another one of the same kind, account and region, and
    /// allow this.
    fn check_redrive(&self, source: &QueueName, redrive: &Redrive) -> Result<(), Refusal> {
        let target = &redrive.target;
        let refuse = |reason: &str| Err(redrive.refuse(reason).into());
        if target.account() != source.account() {
            return refuse("Dead-letter target owner should be same as the source.");
        }
        if target.region() != source.region() {
            return refuse("Dead-letter target should be in the same region as the source.");
        }
        if target.is_fifo() != source.is_fifo() {
            return refuse("Dead-letter queue must be same type of queue as the source.");
        }
        if target == source {
            return refuse("A queue cannot be its own dead-letter queue.");
        }
        let Some(index) = self.queues.named(target) else {
            return refuse("Dead letter target does not exist.");
        };
        match &self.queues[index].details.redrive_allow {
            Some(policy) if !policy.allows(source) => {
                refuse("The redrive allow policy of the dead-letter queue does not allow the source queue.")
            }
            _ => Ok(()),
        }
    }
}

fn with_details(before: &Definition, change: impl FnOnce(&mut Details)) -> Definition {
    let mut details = (*before.details).clone();
    change(&mut details);
    Definition { details: details.into(), ..before.clone() }
}

/// A change from one definition of a queue to another.
fn define<F: Flaws>(before: Definition, after: Definition, log: &Log<F>) -> Plan {
    if before == after {
        return Ok(Planned::Answer(ReplyBody::Done));
    }
    check_room(Some(before), &after, log)?;
    Ok(Planned::Change(Change::Define(Box::new(after)), ReplyBody::Done))
}

/// A queue's record must fit into the log at all, and where room is short none may grow (rule 16).
fn check_room<F: Flaws>(before: Option<Definition>, after: &Definition, log: &Log<F>) -> Result<(), Refusal> {
    let bytes = |definition: Definition| {
        PREFIX_BYTES + QUEUE_STATE_BYTES + QueueState::of(definition).variable_bytes()
    };
    let after_bytes = bytes(after.clone());
    if after_bytes > log.record_bytes_max() {
        let text = "The queue's policies and tags are longer than a record of the log may be.";
        return Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
    }
    if log.room() != Room::All && after_bytes > before.map_or(0, bytes) {
        return Err(ErrorCode::StorageFull.into());
    }
    Ok(())
}
