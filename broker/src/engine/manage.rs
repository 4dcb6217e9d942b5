//! Making, deleting, listing and setting queues.

use std::collections::{BTreeMap, VecDeque};

use tenpin_protocol::{ALL_ATTRIBUTES, Attribute, AttributeCode, AttributeName, Entries, ErrorCode, Tag};

use super::command::RawName;
use super::outputs::{AttributeOutput, Outputs, QueuePage, Refusal, ReplyBody};
use super::queue::{QUEUES_MAX, Queue};
use super::records::{Kind, MARK_BYTES, Mark, QUEUE_STATE_BYTES, QueueState, name_bytes, write_name};
use super::{Engine, append, out_of_range};
use crate::catalog::{AttributeChange, AttributeError, Attributes, NameError, QueueName};
use crate::flaws::Flaws;
use crate::journal::{Log, Position};

/// How long a deleted queue's name is not free, and how long after a purge the next is refused.
pub(super) const MINUTE_MS: u64 = 60_000;
/// Queues of one page; where no count is given, all that are listed.
const PAGE_MAX: u32 = 1_000;

type Answer = Result<ReplyBody, Refusal>;

/// Names that are not free yet, and their records.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    pub by_name: BTreeMap<QueueName, Tombstone>,
    /// Times and names in the order in which they become free.
    pub order: VecDeque<(u64, QueueName)>,
}

/// A deleted queue whose name is not free yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tombstone {
    pub incarnation: u64,
    pub deleted_at_ms: u64,
    pub record: (Position, u32),
}

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Self {
        Self { code: error.code, text: error.text }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        let code = match error {
            NameError::Fifo => ErrorCode::UnsupportedOperation,
            _ => ErrorCode::InvalidParameterValue,
        };
        Self::new(code, error.to_string())
    }
}

impl<F: Flaws> Engine<F> {
    fn parse_name(&self, name: RawName<'_>) -> Result<QueueName, Refusal> {
        Ok(QueueName::parse(name.account, name.region, name.name, &self.options.defaults)?)
    }

    pub(super) fn open_queue(&mut self, name: RawName<'_>) -> Answer {
        // A name that no queue can have is the name of no queue.
        let name = self.parse_name(name).map_err(|_| Refusal::from(ErrorCode::QueueDoesNotExist))?;
        match self.queues.named(&name) {
            Some(index) => Ok(self.opened(index)),
            None => Err(ErrorCode::QueueDoesNotExist.into()),
        }
    }

    fn opened(&self, index: u32) -> ReplyBody {
        let queue = &self.queues[index];
        ReplyBody::QueueOpened { number: queue.number(index), incarnation: queue.incarnation }
    }

    pub(super) fn create_queue(
        &mut self,
        name: RawName<'_>,
        attributes: Entries<'_, Attribute<'_>>,
        tags: Entries<'_, Tag<'_>>,
        log: &mut Log<F>,
    ) -> Answer {
        let name = self.parse_name(name)?;
        let change = AttributeChange::parse(attributes)?;
        if !tags.is_empty() {
            return Err(Refusal::new(ErrorCode::UnsupportedOperation, "Tags are not supported."));
        }
        if let Some(index) = self.queues.named(&name) {
            if let Some(attribute) = change.differs_from(&self.queues[index].attributes) {
                let text = format!(
                    "A queue already exists with the same name and a different value for attribute {}",
                    attribute.name()
                );
                return Err(Refusal::new(ErrorCode::QueueNameExists, text));
            }
            return Ok(self.opened(index));
        }
        self.free_names(log);
        if self.tombstones.by_name.contains_key(&name) {
            return Err(ErrorCode::QueueDeletedRecently.into());
        }
        if self.queues.count() >= QUEUES_MAX as usize {
            return Err(Refusal::new(ErrorCode::OverLimit, "There are as many queues as there may be."));
        }
        let index = self.queues.take_index();
        let state = QueueState {
            index,
            incarnation: self.identity.next_incarnation(),
            name,
            attributes: change.apply_to(&Attributes::default()),
            created_at_ms: self.now_ms,
            modified_at_ms: self.now_ms,
            purged_at_ms: 0,
            purged_through: 0,
            expired_through_ms: 0,
        };
        self.queues.insert(index, Queue::new(state));
        self.journal_queue(index, log);
        Ok(self.opened(index))
    }

    /// Journals a queue's whole state; the record before is not needed any more.
    pub(super) fn journal_queue(&mut self, index: u32, log: &mut Log<F>) {
        let state = self.queues[index].state(index);
        let variable_bytes = name_bytes(&state.name);
        let record =
            append(log, self.now_ms, Kind::QueueState, QUEUE_STATE_BYTES, variable_bytes, true, |out| {
                state.write(out);
            });
        log.live(record.0, record.1);
        let before = std::mem::replace(&mut self.queues[index].record, record);
        if before.1 > 0 {
            log.release(before.0, before.1);
        }
    }

    pub(super) fn delete_queue(&mut self, number: u64, log: &mut Log<F>, out: &mut Outputs) -> Answer {
        let index = self.find_queue(number)?;
        let queue = &self.queues[index];
        let mark = Mark { incarnation: queue.incarnation, time_ms: self.now_ms, through: 0 };
        let (name, state_record) = (queue.name.clone(), queue.record);
        let record =
            append(log, self.now_ms, Kind::QueueDeleted, MARK_BYTES, name_bytes(&name), true, |out| {
                let (fixed, variable) = out.split_at_mut(MARK_BYTES);
                mark.write(fixed);
                write_name(&name, variable);
            });
        log.release(state_record.0, state_record.1);
        if self.options.minute_rules {
            log.live(record.0, record.1);
            self.bury(&name, Tombstone { incarnation: mark.incarnation, deleted_at_ms: self.now_ms, record });
        }
        self.refuse_waits(index, log.end(), ReplyBody::Refused(ErrorCode::QueueDoesNotExist.into()), out);
        self.queues.forget_name(index);
        let map = self.queues[index].forget_messages();
        self.queues[index].deleted = true;
        self.discard_map(map);
        if self.queues[index].slots == 0 {
            self.retire_queue(index);
        } else {
            self.sweep.request();
        }
        Ok(ReplyBody::Done)
    }

    /// Keeps a name from being used for a minute.
    pub(super) fn bury(&mut self, name: &QueueName, tombstone: Tombstone) {
        self.tombstones.by_name.insert(name.clone(), tombstone);
        self.tombstones.order.push_back((tombstone.deleted_at_ms + MINUTE_MS, name.clone()));
    }

    /// Frees names whose minute is over.
    pub(super) fn free_names(&mut self, log: &mut Log<F>) {
        while let Some((free_at_ms, name)) = self.tombstones.order.front()
            && *free_at_ms <= self.now_ms
        {
            if let Some(tombstone) = self.tombstones.by_name.remove(name) {
                log.release(tombstone.record.0, tombstone.record.1);
            }
            self.tombstones.order.pop_front();
        }
    }

    /// No slot refers to a deleted queue any more.
    pub(super) fn retire_queue(&mut self, index: u32) {
        self.queue_wheel.cancel(&mut self.queues, index);
        self.queues.retire(index);
    }

    pub(super) fn list_queues(&self, prefix: RawName<'_>, next: Option<&[u8]>, count_max: u32) -> Answer {
        if count_max > PAGE_MAX {
            return Err(out_of_range(count_max, "MaxResults", 1, PAGE_MAX.into()));
        }
        let (account, region) =
            QueueName::parse_scope(prefix.account, prefix.region, &self.options.defaults)?;
        let after = match next.map(std::str::from_utf8) {
            None => "",
            Some(Ok(after)) => after,
            Some(Err(_)) => {
                return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Invalid or expired next token."));
            }
        };
        let from = QueueName::lower_bound(account, region, prefix.name.max(after));
        let is_listed = |name: &QueueName| {
            name.account() == account && name.region() == region && name.name().starts_with(prefix.name)
        };
        let limit = if count_max == 0 { PAGE_MAX } else { count_max } as usize;
        let mut names: Vec<QueueName> = Vec::new();
        let mut more = false;
        for (name, _) in self.queues.names_from(&from) {
            if !is_listed(name) {
                break;
            }
            if name.name() == after {
                continue;
            }
            if names.len() == limit {
                more = true;
                break;
            }
            names.push(name.clone());
        }
        let last = names.last().filter(|_| more && count_max > 0);
        let next = last.map(|name| name.name().as_bytes().into());
        Ok(ReplyBody::Queues(Box::new(QueuePage { names, next })))
    }

    pub(super) fn get_attributes(&self, number: u64, names: Entries<'_, AttributeName>) -> Answer {
        let index = self.find_queue(number)?;
        let mut values = Vec::new();
        let mut add = |code: AttributeCode| {
            if values.iter().all(|&(other, _)| other != code)
                && let Some(value) = self.attribute(index, code)
            {
                values.push((code, value));
            }
        };
        for name in names {
            match AttributeCode::from_number(name.number) {
                Some(code) => add(code),
                None if name.number == ALL_ATTRIBUTES => {
                    AttributeCode::ALL.iter().copied().for_each(&mut add)
                }
                None => {
                    let text = format!("Unknown Attribute {}.", name.number);
                    return Err(Refusal::new(ErrorCode::InvalidAttributeName, text));
                }
            }
        }
        Ok(ReplyBody::Attributes(values.into()))
    }

    fn attribute(&self, index: u32, code: AttributeCode) -> Option<AttributeOutput> {
        let queue = &self.queues[index];
        Some(AttributeOutput::Number(match code {
            AttributeCode::ApproximateNumberOfMessages => queue.visible,
            AttributeCode::ApproximateNumberOfMessagesNotVisible => queue.in_flight,
            AttributeCode::ApproximateNumberOfMessagesDelayed => queue.delayed,
            AttributeCode::CreatedTimestamp => queue.created_at_ms / 1_000,
            AttributeCode::LastModifiedTimestamp => queue.modified_at_ms / 1_000,
            AttributeCode::QueueArn => return Some(AttributeOutput::Text(queue.name.arn())),
            _ => queue.attributes.number(code)?,
        }))
    }

    pub(super) fn set_attributes(
        &mut self,
        number: u64,
        attributes: Entries<'_, Attribute<'_>>,
        log: &mut Log<F>,
    ) -> Answer {
        let index = self.find_queue(number)?;
        let change = AttributeChange::parse(attributes)?;
        let now_ms = self.now_ms;
        let queue = &mut self.queues[index];
        let attributes = change.apply_to(&queue.attributes);
        let (before_ms, after_ms) = (queue.retention_ms, attributes.retention_ms());
        queue.attributes = attributes;
        queue.modified_at_ms = now_ms;
        if before_ms != after_ms {
            // What had expired stays expired, whatever the new period says (rule 10).
            let kept_ms = before_ms + self.retention_lag_ms;
            queue.expired_through_ms = queue.expired_through_ms.max(now_ms.saturating_sub(kept_ms));
            queue.retention_ms = after_ms;
        }
        if after_ms < before_ms {
            if queue.slots > 0 {
                self.sweep.request();
            }
            // The timer may be one of messages that are gone: without any, too, it must not stay.
            self.queue_wheel.cancel(&mut self.queues, index);
            self.start_queue_timer(index);
        }
        self.journal_queue(index, log);
        Ok(ReplyBody::Done)
    }

    pub(super) fn purge(&mut self, number: u64, log: &mut Log<F>) -> Answer {
        let index = self.find_queue(number)?;
        let queue = &self.queues[index];
        let is_soon = queue.purged_at_ms > 0 && self.now_ms < queue.purged_at_ms + MINUTE_MS;
        if self.options.minute_rules && is_soon {
            let text = format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                queue.name.name()
            );
            return Err(Refusal::new(ErrorCode::PurgeQueueInProgress, text));
        }
        let through = self.identity.last_sequence();
        let mark = Mark { incarnation: queue.incarnation, time_ms: self.now_ms, through };
        append(log, self.now_ms, Kind::Purged, MARK_BYTES, 0, false, |out| mark.write(out));
        let queue = &mut self.queues[index];
        queue.purged_at_ms = self.now_ms;
        queue.purged_through = through;
        let map = queue.forget_messages();
        if queue.slots > 0 {
            self.sweep.request();
        }
        self.discard_map(map);
        Ok(ReplyBody::Done)
    }
}
