//! Sending, deleting and hiding messages.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tenpin_protocol::{
    BATCH_BYTES_MAX, ChangeVisibilityEntry, ChangeVisibilityRequest, ContentFields, DeleteRequest, Entries,
    ErrorCode, Request, Response, SendEntry, SendOutcome, SendRequest, UserAttribute, write_content,
};

use super::call::{Call, unexpected_answer};
use crate::sqs::actions::{
    ChangeMessageVisibility, ChangeMessageVisibilityBatch, DeleteMessage, DeleteMessageBatch, NewMessage,
    SendMessage, SendMessageBatch,
};
use crate::sqs::replies::{BatchReply, FailedEntry, SentMessage};
use crate::sqs::{
    ActionName, Digest, Reply, ServiceError, Text, md5_of_attributes, md5_of_bodies, md5_of_body,
    md5_of_system_attributes,
};

/// What the broker says of a message to a FIFO queue without a group, and of one without what duplicates are known by.
const NO_GROUP: &str = "The request must contain the parameter MessageGroupId.";
const NO_DEDUPLICATION: &str = "The queue should either have ContentBasedDeduplication enabled";

impl Call<'_> {
    pub(super) async fn send_message(&mut self, action: &SendMessage<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        action.message.check()?;
        let mut contents = Contents::default();
        contents.add(&action.message)?;
        let entries = contents.entries([&action.message].into_iter())?;
        let request = |queue| Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
        let answer = self.ask_of(&queue, request).await.map_err(of_one_message)?;
        let Response::Send(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let outcome = reply.outcomes.iter().next().ok_or_else(unexpected_answer)?;
        let of_attributes = contents.digests.first().copied().flatten();
        let of_body = md5_of_body(action.message.message_body.as_bytes());
        let result = sent_message(&outcome, &action.message, of_body, of_attributes);
        answer.given();
        self.reply(&Reply::SendMessage(result?));
        Ok(())
    }

    pub(super) async fn send_message_batch(
        &mut self,
        action: &SendMessageBatch<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let mut batch = BatchReply::default();
        let mut contents = Contents::default();
        let mut sent = Vec::with_capacity(action.entries.len());
        for entry in &action.entries {
            match entry.check().and_then(|()| contents.add(&entry.message)) {
                Ok(()) => sent.push(entry),
                Err(error) => batch.failed.push(failed(&entry.id, error)),
            }
        }
        if !sent.is_empty() {
            let entries = contents.entries(sent.iter().map(|entry| &entry.message))?;
            let request = |queue| Request::Send(SendRequest { queue, entries: Entries::of(&entries) });
            let answer = self.ask_of(&queue, request).await?;
            let Response::Send(reply) = answer.response()? else { return Err(unexpected_answer()) };
            let bodies: Vec<_> = sent.iter().map(|entry| entry.message.message_body.as_bytes()).collect();
            let digests = md5_of_bodies(&bodies).into_iter().zip(&contents.digests);
            for ((entry, outcome), digests) in sent.iter().zip(reply.outcomes.iter()).zip(digests) {
                match sent_message(&outcome, &entry.message, digests.0, *digests.1) {
                    Ok(message) => batch.successful.push((Cow::Borrowed(&*entry.id), message)),
                    Err(error) => batch.failed.push(failed(&entry.id, error)),
                }
            }
            answer.given();
        }
        if batch.successful.is_empty()
            && let Some(error) = of_whole_batch(&batch.failed)
        {
            return Err(error);
        }
        self.reply(&Reply::SendMessageBatch(batch));
        Ok(())
    }

    pub(super) async fn delete_message(&mut self, action: &DeleteMessage<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let mut handle = Vec::new();
        add_handle(&mut handle, &action.receipt_handle)?;
        let handles = [&handle[..]];
        let request = |queue| Request::Delete(DeleteRequest { queue, handles: Entries::of(&handles) });
        let answer = self.ask_of(&queue, request).await?;
        let Response::Delete(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let outcome = reply.outcomes.iter().next().ok_or_else(unexpected_answer)?;
        let result = outcome_of(outcome.number, outcome.text, &action.receipt_handle);
        answer.given();
        result?;
        self.reply(&Reply::Done(ActionName::DeleteMessage));
        Ok(())
    }

    pub(super) async fn delete_message_batch(
        &mut self,
        action: &DeleteMessageBatch<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let mut batch = BatchReply::default();
        let mut handles = Vec::new();
        let mut asked = Vec::with_capacity(action.entries.len());
        for entry in &action.entries {
            match entry.check().and_then(|()| add_handle(&mut handles, &entry.receipt_handle)) {
                Ok(handle) => asked.push((entry, handle)),
                Err(error) => batch.failed.push(failed(&entry.id, error)),
            }
        }
        if !asked.is_empty() {
            let handles: Vec<&[u8]> = asked.iter().map(|(_, handle)| &handles[handle.clone()]).collect();
            let request = |queue| Request::Delete(DeleteRequest { queue, handles: Entries::of(&handles) });
            let answer = self.ask_of(&queue, request).await?;
            let Response::Delete(reply) = answer.response()? else { return Err(unexpected_answer()) };
            for ((entry, _), outcome) in asked.iter().zip(reply.outcomes.iter()) {
                match outcome_of(outcome.number, outcome.text, &entry.receipt_handle) {
                    Ok(()) => batch.successful.push(Cow::Borrowed(&*entry.id)),
                    Err(error) => batch.failed.push(failed(&entry.id, error)),
                }
            }
            answer.given();
        }
        self.reply(&Reply::DeleteMessageBatch(batch));
        Ok(())
    }

    pub(super) async fn change_visibility(
        &mut self,
        action: &ChangeMessageVisibility<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let mut handle = Vec::new();
        add_handle(&mut handle, &action.receipt_handle)?;
        let entries = [change_of(&handle, action.visibility_timeout.unwrap_or_default())];
        let request = |queue| {
            Request::ChangeVisibility(ChangeVisibilityRequest { queue, entries: Entries::of(&entries) })
        };
        let answer = self.ask_of(&queue, request).await?;
        let Response::ChangeVisibility(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let outcome = reply.outcomes.iter().next().ok_or_else(unexpected_answer)?;
        let result = outcome_of(outcome.number, outcome.text, &action.receipt_handle);
        answer.given();
        result?;
        self.reply(&Reply::Done(ActionName::ChangeMessageVisibility));
        Ok(())
    }

    pub(super) async fn change_visibility_batch(
        &mut self,
        action: &ChangeMessageVisibilityBatch<'_>,
    ) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let mut batch = BatchReply::default();
        let mut handles = Vec::new();
        let mut asked = Vec::with_capacity(action.entries.len());
        for entry in &action.entries {
            match entry.check().and_then(|()| add_handle(&mut handles, &entry.receipt_handle)) {
                Ok(handle) => asked.push((entry, handle)),
                Err(error) => batch.failed.push(failed(&entry.id, error)),
            }
        }
        if !asked.is_empty() {
            let entries: Vec<_> = asked
                .iter()
                .map(|(entry, handle)| {
                    change_of(&handles[handle.clone()], entry.visibility_timeout.unwrap_or_default())
                })
                .collect();
            let request = |queue| {
                Request::ChangeVisibility(ChangeVisibilityRequest { queue, entries: Entries::of(&entries) })
            };
            let answer = self.ask_of(&queue, request).await?;
            let Response::ChangeVisibility(reply) = answer.response()? else {
                return Err(unexpected_answer());
            };
            for ((entry, _), outcome) in asked.iter().zip(reply.outcomes.iter()) {
                match outcome_of(outcome.number, outcome.text, &entry.receipt_handle) {
                    Ok(()) => batch.successful.push(Cow::Borrowed(&*entry.id)),
                    Err(error) => batch.failed.push(failed(&entry.id, error)),
                }
            }
            answer.given();
        }
        self.reply(&Reply::ChangeMessageVisibilityBatch(batch));
        Ok(())
    }
}

/// A message by itself is no batch, and what is wrong with its size is said as of a message.
fn of_one_message(error: ServiceError) -> ServiceError {
    if error.name != ErrorCode::BatchRequestTooLong.into() {
        return error;
    }
    let text = format!(
        "One or more parameters are invalid. Reason: Message must be shorter than {BATCH_BYTES_MAX} bytes."
    );
    ServiceError::new(ErrorCode::InvalidParameterValue, text)
}

/// SQS refuses a batch to a FIFO queue as a whole where a message has no group, or nothing by which duplicates are
/// known. The broker judges each message by itself; it is the same where that is wrong with all of them.
fn of_whole_batch(failed: &[FailedEntry<'_>]) -> Option<ServiceError> {
    let error = &failed.first()?.error;
    let is_of_all = failed.iter().all(|entry| entry.error == *error);
    let is_of_batches =
        [NO_GROUP, NO_DEDUPLICATION].iter().any(|beginning| error.text.starts_with(beginning));
    let whole = || ServiceError::new(ErrorCode::InvalidParameterValue, error.text.clone());
    (is_of_all && is_of_batches).then(whole)
}

/// The contents of messages that have more than a body, one behind the other, and all digests of attributes.
#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    /// For each message where its content is; `None`: it is only a body.
    ranges: Vec<Option<Range<usize>>>,
    digests: Vec<Option<Digest>>,
}

impl Contents {
    fn add(&mut self, message: &NewMessage<'_>) -> Result<(), ServiceError> {
        let trace_header = message.trace_header();
        let is_only_body = message.message_attributes.is_empty()
            && message.message_group_id.is_none()
            && message.message_deduplication_id.is_none()
            && trace_header.is_none();
        if is_only_body {
            self.ranges.push(None);
            self.digests.push(None);
            return Ok(());
        }
        let attributes: Vec<_> = message
            .message_attributes
            .iter()
            .map(|attribute| UserAttribute {
                name: &attribute.name,
                data_type: &attribute.data_type,
                value: attribute.value(),
            })
            .collect();
        check_lengths(&attributes)?;
        self.digests.push(md5_of_attributes(attributes.iter().copied()));
        let fields = ContentFields {
            group: message.message_group_id.as_deref(),
            deduplication_id: message.message_deduplication_id.as_deref(),
            attributes: Entries::of(&attributes),
            trace_header,
            ..ContentFields::default()
        };
        let start = self.bytes.len();
        write_content(&mut self.bytes, message.message_body.as_bytes(), &fields);
        self.ranges.push(Some(start..self.bytes.len()));
        Ok(())
    }

    /// The messages as entries of a send; they are those that were added.
    fn entries<'a>(
        &'a self,
        messages: impl Iterator<Item = &'a NewMessage<'a>>,
    ) -> Result<Vec<SendEntry<'a>>, ServiceError> {
        messages
            .zip(&self.ranges)
            .map(|(message, range)| {
                let body = message.message_body.as_bytes();
                let entry = match range {
                    None => SendEntry::new(body),
                    Some(range) => SendEntry::with_content(&self.bytes[range.clone()], body.len())
                        .map_err(|error| ServiceError::new(error.code, error.to_string()))?,
                };
                let delay_seconds = message.delay_seconds.and_then(|seconds| u32::try_from(seconds).ok());
                Ok(SendEntry { delay_seconds, ..entry })
            })
            .collect()
    }
}

/// What the protocol has no room for cannot be refused by the broker: names and types of 64 KiB, and as many
/// attributes.
fn check_lengths(attributes: &[UserAttribute<'_>]) -> Result<(), ServiceError> {
    let longest = |length: usize| length > usize::from(u16::MAX);
    let is_too_long = longest(attributes.len())
        || attributes
            .iter()
            .any(|attribute| longest(attribute.name.len()) || longest(attribute.data_type.len()));
    if is_too_long {
        let text = "One or more parameters are invalid. Reason: Message attributes are too long.";
        return Err(ServiceError::new(ErrorCode::InvalidParameterValue, text));
    }
    Ok(())
}

fn sent_message(
    outcome: &SendOutcome<'_>,
    message: &NewMessage<'_>,
    md5_of_message_body: Digest,
    md5_of_message_attributes: Option<Digest>,
) -> Result<SentMessage, ServiceError> {
    if !outcome.is_success() {
        return Err(refused(outcome.number, outcome.text));
    }
    Ok(SentMessage {
        message_id: outcome.id,
        md5_of_message_body,
        md5_of_message_attributes,
        md5_of_message_system_attributes: md5_of_system_attributes(message.trace_header()),
        sequence_number: (outcome.sequence_number != 0).then_some(outcome.sequence_number),
    })
}

fn failed<'a>(id: &'a Text<'_>, error: ServiceError) -> FailedEntry<'a> {
    FailedEntry { id: Cow::Borrowed(id), error }
}

fn change_of(handle: &[u8], visibility_timeout: i64) -> ChangeVisibilityEntry<'_> {
    ChangeVisibilityEntry {
        visibility_seconds: u32::try_from(visibility_timeout).unwrap_or(u32::MAX),
        handle,
    }
}

/// A handle as clients have it.
pub(super) fn show_handle(handle: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(handle)
}

/// Puts the handle in the text that a client has for it behind others; gives its place.
fn add_handle(handles: &mut Vec<u8>, text: &str) -> Result<Range<usize>, ServiceError> {
    let start = handles.len();
    match URL_SAFE_NO_PAD.decode_vec(text, handles) {
        Ok(()) if handles.len() - start <= usize::from(u8::MAX) => Ok(start..handles.len()),
        _ => Err(bad_handle(text)),
    }
}

fn bad_handle(text: &str) -> ServiceError {
    let text = format!("The input receipt handle \"{text}\" is not a valid receipt handle.");
    ServiceError::new(ErrorCode::ReceiptHandleIsInvalid, text)
}

/// An outcome of something done by a handle. The broker's texts cannot show the handle as the client has it.
fn outcome_of(number: u16, text: Option<&str>, handle: &str) -> Result<(), ServiceError> {
    match ErrorCode::from_number(number) {
        None if number == 0 => Ok(()),
        Some(ErrorCode::ReceiptHandleIsInvalid) if text.is_none_or(is_plain_text) => Err(bad_handle(handle)),
        _ => {
            let mut error = refused(number, text);
            if let Some(rest) = error.text.strip_prefix("Value for parameter ReceiptHandle ") {
                error.text = format!("Value {handle} for parameter ReceiptHandle {rest}").into();
            }
            Err(error)
        }
    }
}

fn is_plain_text(text: &str) -> bool {
    text == ErrorCode::ReceiptHandleIsInvalid.text()
}

/// What the broker has refused.
fn refused(number: u16, text: Option<&str>) -> ServiceError {
    let code = ErrorCode::from_number(number).unwrap_or(ErrorCode::Internal);
    ServiceError::new(code, text.unwrap_or(code.text()).to_owned())
}
