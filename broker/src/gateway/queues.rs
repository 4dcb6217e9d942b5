//! Queues themselves: making, listing, changing and deleting them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tenpin_protocol::{
    ALL_ATTRIBUTES, AddPermissionRequest, Attribute, AttributeCode, AttributeName, AttributeValue,
    CreateQueueRequest, DeleteQueueRequest, Entries, ErrorCode, GetAttributesRequest,
    ListDeadLetterSourcesRequest, ListQueuesRequest, ListTagsRequest, PurgeRequest, QueuesReply,
    RemovePermissionRequest, Request, Response, SetAttributesRequest, Tag, TagQueueRequest,
    UntagQueueRequest,
};

use super::call::{Call, unexpected_answer};
use crate::sqs::actions::{
    AddPermission, CreateQueue, DeleteQueue, GetQueueAttributes, GetQueueUrl, ListDeadLetterSourceQueues,
    ListQueueTags, ListQueues, Pair, PurgeQueue, RemovePermission, SetQueueAttributes, TagQueue, UntagQueue,
};
use crate::sqs::{ActionName, Reply, ServiceError, Text};

/// Longest text that the protocol has room for, but for bodies and values of attributes.
const TEXT_BYTES_MAX: usize = u16::MAX as usize;

impl Call<'_> {
    pub(super) async fn create_queue(&mut self, action: &CreateQueue<'_>) -> Result<(), ServiceError> {
        check_texts([&action.queue_name])?;
        let attributes = parse_attributes(&action.attributes)?;
        let tags = parse_tags(&action.tags)?;
        let queue = self.origin.own(&action.queue_name);
        let request = Request::CreateQueue(CreateQueueRequest {
            account: &queue.account,
            region: &queue.region,
            name: &queue.name,
            attributes: Entries::of(&attributes),
            tags: Entries::of(&tags),
        });
        let answer = self.line.ask(&request).await?;
        let Response::CreateQueue(opened) = answer.response()? else { return Err(unexpected_answer()) };
        self.queues.remember(queue.clone(), opened.queue);
        answer.given();
        let queue_url = self.origin.url_of(&queue.account, &queue.name).into();
        self.reply(&Reply::CreateQueue { queue_url });
        Ok(())
    }

    pub(super) async fn delete_queue(&mut self, action: &DeleteQueue<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let request = |queue| Request::DeleteQueue(DeleteQueueRequest { queue });
        self.have_done(&queue, ActionName::DeleteQueue, request).await?;
        self.queues.forget(&queue);
        Ok(())
    }

    pub(super) async fn get_queue_url(&mut self, action: &GetQueueUrl<'_>) -> Result<(), ServiceError> {
        check_texts([&action.queue_name].into_iter().chain(&action.queue_owner_aws_account_id))?;
        let mut queue = self.origin.own(&action.queue_name);
        if let Some(account) =
            action.queue_owner_aws_account_id.as_ref().filter(|account| !account.is_empty())
        {
            queue.account = account.to_string();
        }
        self.open(&queue).await?;
        let queue_url = self.origin.url_of(&queue.account, &queue.name).into();
        self.reply(&Reply::GetQueueUrl { queue_url });
        Ok(())
    }

    pub(super) async fn list_queues(&mut self, action: &ListQueues<'_>) -> Result<(), ServiceError> {
        check_texts(&action.queue_name_prefix)?;
        let next = token_of(action.next_token.as_ref())?;
        let request = Request::ListQueues(ListQueuesRequest {
            max: max_results(action.max_results),
            account: &self.origin.account,
            region: &self.origin.region,
            prefix: action.queue_name_prefix.as_deref().unwrap_or_default(),
            next: next.as_deref(),
        });
        let answer = self.line.ask(&request).await?;
        let Response::ListQueues(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let (queue_urls, next_token) = self.urls_in(&reply, action.max_results);
        answer.given();
        self.reply(&Reply::ListQueues { queue_urls, next_token });
        Ok(())
    }

    pub(super) async fn list_sources(
        &mut self,
        action: &ListDeadLetterSourceQueues<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let next = token_of(action.next_token.as_ref())?;
        let request = |queue| {
            Request::ListDeadLetterSources(ListDeadLetterSourcesRequest {
                queue,
                max: max_results(action.max_results),
                next: next.as_deref(),
            })
        };
        let answer = self.ask_of(&queue, request).await?;
        let Response::ListDeadLetterSources(reply) = answer.response()? else {
            return Err(unexpected_answer());
        };
        let (queue_urls, next_token) = self.urls_in(&reply, action.max_results);
        answer.given();
        self.reply(&Reply::ListDeadLetterSourceQueues { queue_urls, next_token });
        Ok(())
    }

    /// Only who said how many is told where to go on.
    fn urls_in(
        &self,
        reply: &QueuesReply<'_>,
        max_results: Option<i64>,
    ) -> (Vec<Cow<'static, str>>, Option<Cow<'static, str>>) {
        let urls = reply.queues.iter().map(|queue| self.origin.url_of(queue.account, queue.name).into());
        let next = reply.next.filter(|_| max_results.is_some());
        (urls.collect(), next.map(|next| URL_SAFE_NO_PAD.encode(next).into()))
    }

    pub(super) async fn get_attributes(
        &mut self,
        action: &GetQueueAttributes<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let names = attribute_names(&action.attribute_names)?;
        let names = Entries::of(&names);
        let request = |queue| Request::GetAttributes(GetAttributesRequest { queue, names });
        let answer = self.ask_of(&queue, request).await?;
        let Response::GetAttributes(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let attributes = reply.attributes.iter().filter_map(|attribute| {
            let code = attribute.code()?;
            Some((code.name(), show_value(code, attribute.value())))
        });
        self.reply(&Reply::GetQueueAttributes { attributes: attributes.collect() });
        answer.given();
        Ok(())
    }

    pub(super) async fn set_attributes(
        &mut self,
        action: &SetQueueAttributes<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let attributes = parse_attributes(&action.attributes)?;
        let attributes = Entries::of(&attributes);
        let request = |queue| Request::SetAttributes(SetAttributesRequest { queue, attributes });
        self.have_done(&queue, ActionName::SetQueueAttributes, request).await
    }

    pub(super) async fn tag_queue(&mut self, action: &TagQueue<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let tags = parse_tags(&action.tags)?;
        let tags = Entries::of(&tags);
        let request = |queue| Request::TagQueue(TagQueueRequest { queue, tags });
        self.have_done(&queue, ActionName::TagQueue, request).await
    }

    pub(super) async fn untag_queue(&mut self, action: &UntagQueue<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let keys = parse_texts(&action.tag_keys)?;
        let keys = Entries::of(&keys);
        let request = |queue| Request::UntagQueue(UntagQueueRequest { queue, keys });
        self.have_done(&queue, ActionName::UntagQueue, request).await
    }

    pub(super) async fn list_tags(&mut self, action: &ListQueueTags<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let request = |queue| Request::ListTags(ListTagsRequest { queue });
        let answer = self.ask_of(&queue, request).await?;
        let Response::ListTags(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let tags = reply.tags.iter().map(|tag| (tag.key.into(), tag.value.into())).collect();
        self.reply(&Reply::ListQueueTags { tags });
        answer.given();
        Ok(())
    }

    pub(super) async fn add_permission(&mut self, action: &AddPermission<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        check_texts([&action.label])?;
        let (accounts, actions) = (parse_texts(&action.aws_account_ids)?, parse_texts(&action.actions)?);
        let (accounts, actions) = (Entries::of(&accounts), Entries::of(&actions));
        let label = &*action.label;
        let request =
            |queue| Request::AddPermission(AddPermissionRequest { queue, label, accounts, actions });
        self.have_done(&queue, ActionName::AddPermission, request).await
    }

    pub(super) async fn remove_permission(
        &mut self,
        action: &RemovePermission<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        check_texts([&action.label])?;
        let label = &*action.label;
        let request = |queue| Request::RemovePermission(RemovePermissionRequest { queue, label });
        self.have_done(&queue, ActionName::RemovePermission, request).await
    }

    pub(super) async fn purge(&mut self, action: &PurgeQueue<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let request = |queue| Request::Purge(PurgeRequest { queue });
        self.have_done(&queue, ActionName::PurgeQueue, request).await
    }
}

/// What a queue that nobody described is made with: it is a FIFO queue where its name says so.
pub(super) fn fifo_attribute(name: &str) -> Option<Attribute<'static>> {
    let is_fifo = name.ends_with(".fifo");
    is_fifo.then(|| Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1)))
}

fn show_value<'a>(code: AttributeCode, value: AttributeValue<'a>) -> Cow<'a, str> {
    match value {
        AttributeValue::Text(text) => text.into(),
        AttributeValue::Number(0) if code.is_switch() => "false".into(),
        AttributeValue::Number(_) if code.is_switch() => "true".into(),
        AttributeValue::Number(number) => number.to_string().into(),
    }
}

pub(super) fn parse_attributes<'a>(pairs: &'a [Pair<'_>]) -> Result<Vec<Attribute<'a>>, ServiceError> {
    check_count(pairs.len())?;
    pairs.iter().map(|pair| parse_attribute(&pair.name, &pair.value)).collect()
}

/// What is no switch or no number becomes a number that none can be: the broker says what it should have been.
fn parse_attribute<'a>(name: &str, value: &'a str) -> Result<Attribute<'a>, ServiceError> {
    let code = AttributeCode::from_name(name).ok_or_else(|| unknown_attribute(name))?;
    let value = if code.is_text() {
        AttributeValue::Text(value)
    } else if code.is_switch() {
        match value {
            "true" | "True" | "TRUE" => AttributeValue::Number(1),
            "false" | "False" | "FALSE" => AttributeValue::Number(0),
            _ => AttributeValue::Number(u64::MAX),
        }
    } else {
        AttributeValue::Number(value.parse().unwrap_or(u64::MAX))
    };
    Ok(Attribute::new(code, value))
}

fn unknown_attribute(name: &str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidAttributeName, format!("Unknown Attribute {name}."))
}

fn attribute_names(names: &[Text<'_>]) -> Result<Vec<AttributeName>, ServiceError> {
    let code = |name: &Text<'_>| match &**name {
        "All" => Ok(AttributeName { number: ALL_ATTRIBUTES }),
        name => {
            let code = AttributeCode::from_name(name).ok_or_else(|| unknown_attribute(name))?;
            Ok(AttributeName { number: code.number() })
        }
    };
    check_count(names.len())?;
    names.iter().map(code).collect()
}

pub(super) fn parse_tags<'a>(pairs: &'a [Pair<'_>]) -> Result<Vec<Tag<'a>>, ServiceError> {
    check_count(pairs.len())?;
    check_texts(pairs.iter().flat_map(|pair| [&pair.name, &pair.value]))?;
    Ok(pairs.iter().map(|pair| Tag { key: &pair.name, value: &pair.value }).collect())
}

fn parse_texts<'a>(texts: &'a [Text<'_>]) -> Result<Vec<tenpin_protocol::Text<'a>>, ServiceError> {
    check_count(texts.len())?;
    check_texts(texts)?;
    Ok(texts.iter().map(|text| tenpin_protocol::Text { text }).collect())
}

/// Refuses what the protocol has no room for; everything shorter is for the broker to judge.
fn check_texts<'a, 'r: 'a>(texts: impl IntoIterator<Item = &'a Text<'r>>) -> Result<(), ServiceError> {
    let is_too_long = texts.into_iter().any(|text| text.len() > TEXT_BYTES_MAX);
    if is_too_long {
        let text = format!("One or more parameters are invalid. Reason: over {TEXT_BYTES_MAX} bytes long.");
        return Err(ServiceError::new(ErrorCode::InvalidParameterValue, text));
    }
    Ok(())
}

/// Refuses lists that the protocol has no room for.
fn check_count(count: usize) -> Result<(), ServiceError> {
    if count > usize::from(u16::MAX) {
        let text = "One or more parameters are invalid. Reason: a list has too many entries.";
        return Err(ServiceError::new(ErrorCode::InvalidParameterValue, text));
    }
    Ok(())
}

fn max_results(given: Option<i64>) -> u16 {
    given.and_then(|max| u16::try_from(max).ok()).unwrap_or(0)
}

fn token_of(token: Option<&Text<'_>>) -> Result<Option<Vec<u8>>, ServiceError> {
    let wrong = || ServiceError::new(ErrorCode::InvalidParameterValue, "Invalid or expired next token.");
    let Some(token) = token else { return Ok(None) };
    URL_SAFE_NO_PAD.decode(&**token).map(Some).map_err(|_| wrong())
}
