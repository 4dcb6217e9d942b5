//! What is asked about queues: lists of them, their attributes and tags. Nothing here changes anything.

use tenpin_protocol::{ALL_ATTRIBUTES, AttributeCode, AttributeName, Entries, ErrorCode};

use super::command::RawName;
use super::outputs::{AttributeOutput, QueuePage, Refusal, ReplyBody};
use super::plan::Answer;
use super::{Engine, out_of_range};
use crate::catalog::{Attributes, Details, QueueName, attribute_number, attribute_text};
use crate::flaws::Flaws;

/// Queues of one page; where no count is given, all that are listed.
const PAGE_MAX: u32 = 1_000;

impl<F: Flaws> Engine<F> {
    pub(super) fn list_queues(&self, prefix: RawName<'_>, next: Option<&[u8]>, count_max: u32) -> Answer {
        let (account, region) =
            QueueName::parse_scope(prefix.account, prefix.region, &self.options.defaults)?;
        let after = read_token(next)?;
        let from = QueueName::lower_bound(account, region, prefix.name.max(after));
        let is_listed = |name: &&QueueName| {
            name.account() == account && name.region() == region && name.name().starts_with(prefix.name)
        };
        let names = self.queues.names_from(&from).map(|(name, _)| name).take_while(is_listed);
        page(names, after, count_max)
    }

    pub(super) fn list_dead_letter_sources(
        &self,
        number: u64,
        next: Option<&[u8]>,
        count_max: u32,
    ) -> Answer {
        let name = &self.queues[self.find_queue(number)?].name;
        let after = read_token(next)?;
        // A queue and its dead-letter queue have one account and one region.
        let from = QueueName::lower_bound(name.account(), name.region(), after);
        let sources = self.queues.sources(name).into_iter().flat_map(|sources| sources.range(from.clone()..));
        page(sources, after, count_max)
    }

    pub(super) fn list_tags(&self, number: u64) -> Answer {
        let queue = &self.queues[self.find_queue(number)?];
        Ok(ReplyBody::Tags(Box::new(queue.details.tags.clone())))
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

    /// The queue to which the dead letters of another go now, and after how many receives.
    pub fn dead_letter_target(&self, queue: u64) -> Option<(u64, u32)> {
        let (target, max_receive_count) = self.queues.dead_letter_target(self.queues.find(queue)?)?;
        Some((self.queues[target].number(target), max_receive_count))
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
            _ => return setting(&queue.attributes, &queue.details, code),
        }))
    }
}

/// What an attribute was set to, if the queue has it.
fn setting(attributes: &Attributes, details: &Details, code: AttributeCode) -> Option<AttributeOutput> {
    match attribute_number(attributes, details, code) {
        Some(number) => Some(AttributeOutput::Number(number)),
        None => attribute_text(attributes, details, code).map(|text| AttributeOutput::Text(text.to_owned())),
    }
}

/// The name that the page before ended with.
fn read_token(next: Option<&[u8]>) -> Result<&str, Refusal> {
    let invalid = || Refusal::new(ErrorCode::InvalidParameterValue, "Invalid or expired next token.");
    next.map_or(Ok(""), |next| std::str::from_utf8(next).map_err(|_| invalid()))
}

/// The names behind `after`, as many as fit.
fn page<'a>(names: impl Iterator<Item = &'a QueueName>, after: &str, count_max: u32) -> Answer {
    if count_max > PAGE_MAX {
        return Err(out_of_range(count_max, "MaxResults", 1, PAGE_MAX.into()));
    }
    let limit = if count_max == 0 { PAGE_MAX } else { count_max } as usize;
    let mut names = names.filter(|name| name.name() != after);
    let page: Vec<QueueName> = names.by_ref().take(limit).cloned().collect();
    let has_more = count_max > 0 && names.next().is_some();
    let next = page.last().filter(|_| has_more).map(|name| name.name().as_bytes().into());
    Ok(ReplyBody::Queues(Box::new(QueuePage { names: page, next })))
}
