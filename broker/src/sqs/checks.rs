//! The rules for requests that need no queue to be known: batches, ranges, characters of a body.
//!
//! Parsers call [`Action::check`] themselves, so that an action that came out of one keeps to the rules for
//! requests as a whole. Entries of a batch fail one by one: who serves a batch calls the `check` of each
//! entry, and the message's `check` for a single send. What a queue or the broker decides is not looked at
//! here: sizes, names, types and values of attributes, handles, groups, names and attributes of queues.

use tenpin_protocol::ErrorCode;

use super::actions::{Action, ChangeVisibilityEntry, DeleteEntry, MessageAttribute, NewMessage, SendEntry};
use super::error::ServiceError;

/// Entries of a batch.
const ENTRIES_MAX: usize = 10;
/// Characters of an entry's id.
const ID_CHARACTERS_MAX: usize = 80;
/// Characters of a receive attempt's id.
const ATTEMPT_CHARACTERS_MAX: usize = 128;
const MESSAGES_MAX: i64 = 10;
const WAIT_SECONDS_MAX: i64 = 20;
const VISIBILITY_SECONDS_MAX: i64 = 43_200;
const DELAY_SECONDS_MAX: i64 = 900;
const RESULTS_MAX: i64 = 1_000;
const TASKS_MAX: i64 = 10;
const MOVE_RATE_MAX: i64 = 500;

impl Action<'_> {
    /// Checks what concerns the request as a whole.
    pub fn check(&self) -> Result<(), ServiceError> {
        match self {
            Self::ChangeMessageVisibility(action) => check_visibility(action.visibility_timeout),
            Self::ChangeMessageVisibilityBatch(action) => {
                let what = "ChangeMessageVisibilityBatchRequestEntry";
                check_batch(what, action.entries.iter().map(|entry| &*entry.id))
            }
            Self::DeleteMessageBatch(action) => {
                check_batch("DeleteMessageBatchRequestEntry", action.entries.iter().map(|entry| &*entry.id))
            }
            Self::SendMessageBatch(action) => {
                check_batch("SendMessageBatchRequestEntry", action.entries.iter().map(|entry| &*entry.id))
            }
            Self::ReceiveMessage(action) => {
                check_range("MaxNumberOfMessages", action.max_number_of_messages, 1, MESSAGES_MAX)?;
                check_range("WaitTimeSeconds", action.wait_time_seconds, 0, WAIT_SECONDS_MAX)?;
                check_visibility(action.visibility_timeout)?;
                check_attempt(action.receive_request_attempt_id.as_deref())
            }
            Self::ListDeadLetterSourceQueues(action) => {
                check_range("MaxResults", action.max_results, 1, RESULTS_MAX)
            }
            Self::ListQueues(action) => check_range("MaxResults", action.max_results, 1, RESULTS_MAX),
            Self::StartMessageMoveTask(action) => {
                let rate = action.max_number_of_messages_per_second;
                check_range("MaxNumberOfMessagesPerSecond", rate, 1, MOVE_RATE_MAX)
            }
            Self::ListMessageMoveTasks(action) => check_range("MaxResults", action.max_results, 1, TASKS_MAX),
            _ => Ok(()),
        }
    }
}

impl NewMessage<'_> {
    /// Checks a message: that it has a body, of characters that XML has, and what else needs no queue.
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.message_body.is_empty() {
            return Err(ServiceError::missing("MessageBody"));
        }
        check_characters(&self.message_body)?;
        check_range("DelaySeconds", self.delay_seconds, 0, DELAY_SECONDS_MAX)?;
        for attribute in &self.message_attributes {
            check_attribute(attribute)?;
        }
        self.check_system_attributes()
    }

    fn check_system_attributes(&self) -> Result<(), ServiceError> {
        let refuse = |text| Err(ServiceError::new(ErrorCode::InvalidParameterValue, text));
        for attribute in &self.message_system_attributes {
            check_attribute(attribute)?;
            if attribute.name != "AWSTraceHeader" {
                return refuse(format!(
                    "Message system attribute name '{}' is invalid. You must use only the following \
                     supported names: AWSTraceHeader.",
                    attribute.name
                ));
            }
            if attribute.data_type != "String" || attribute.value().is_empty() {
                return refuse(
                    "Message system attribute 'AWSTraceHeader' must contain a non-empty value of type 'String'."
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// The trace header, of a message that was checked.
    pub fn trace_header(&self) -> Option<&str> {
        let header =
            self.message_system_attributes.iter().find(|attribute| attribute.name == "AWSTraceHeader");
        header.and_then(|attribute| attribute.string_value.as_deref())
    }
}

impl SendEntry<'_> {
    /// Checks the entry's message.
    pub fn check(&self) -> Result<(), ServiceError> {
        self.message.check()
    }
}

impl DeleteEntry<'_> {
    /// Checks that there is a handle.
    pub fn check(&self) -> Result<(), ServiceError> {
        check_handle(&self.receipt_handle)
    }
}

impl ChangeVisibilityEntry<'_> {
    /// Checks that there are a handle and a time in its range.
    pub fn check(&self) -> Result<(), ServiceError> {
        check_handle(&self.receipt_handle)?;
        if self.visibility_timeout.is_none() {
            return Err(ServiceError::missing("VisibilityTimeout"));
        }
        check_visibility(self.visibility_timeout)
    }
}

fn check_handle(handle: &str) -> Result<(), ServiceError> {
    if handle.is_empty() { Err(ServiceError::missing("ReceiptHandle")) } else { Ok(()) }
}

fn check_range(parameter: &str, value: Option<i64>, minimum: i64, maximum: i64) -> Result<(), ServiceError> {
    match value {
        Some(value) if !(minimum..=maximum).contains(&value) => {
            Err(ServiceError::out_of_range(value, parameter, minimum, maximum))
        }
        _ => Ok(()),
    }
}

fn check_visibility(seconds: Option<i64>) -> Result<(), ServiceError> {
    check_range("VisibilityTimeout", seconds, 0, VISIBILITY_SECONDS_MAX)
}

fn check_attempt(id: Option<&str>) -> Result<(), ServiceError> {
    let Some(id) = id else { return Ok(()) };
    let is_good =
        (1..=ATTEMPT_CHARACTERS_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good {
        return Ok(());
    }
    let reason = format!(
        "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to \
         {ATTEMPT_CHARACTERS_MAX} in length."
    );
    Err(ServiceError::invalid(id, "ReceiveRequestAttemptId", &reason))
}

/// Checks a batch's number of entries and their ids.
fn check_batch<'a>(
    what: &str,
    ids: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<(), ServiceError> {
    if ids.len() == 0 {
        let text = format!("There should be at least one {what} in the request.");
        return Err(ServiceError::new(ErrorCode::EmptyBatchRequest, text));
    }
    if ids.len() > ENTRIES_MAX {
        let text =
            format!("Maximum number of entries per request are {ENTRIES_MAX}. You have sent {}.", ids.len());
        return Err(ServiceError::new(ErrorCode::TooManyEntriesInBatchRequest, text));
    }
    for (place, id) in ids.clone().enumerate() {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=ID_CHARACTERS_MAX).contains(&id.len()) || !id.bytes().all(is_id) {
            return Err(ErrorCode::InvalidBatchEntryId.into());
        }
        // There are so few that a set would take longer.
        if ids.clone().take(place).any(|other| other == id) {
            return Err(ServiceError::new(ErrorCode::BatchEntryIdsNotDistinct, format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

/// Whether XML can have this character: what a body on HTTP is made of.
pub fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether XML can have every character of a text.
pub fn is_xml_text(text: &str) -> bool {
    // Nearly all bodies are told to be good by their bytes: printable ASCII and what is in it of lines. To look at
    // all bytes takes less time than to stop at the first that is none.
    let is_plain = |byte: u8| matches!(byte, b' '..=0x7f | b'\t' | b'\n' | b'\r');
    text.bytes().fold(true, |all, byte| all & is_plain(byte)) || text.chars().all(is_xml_character)
}

/// Checks that XML can have every character.
fn check_characters(text: &str) -> Result<(), ServiceError> {
    if is_xml_text(text) {
        return Ok(());
    }
    let Some(wrong) = text.chars().find(|&character| !is_xml_character(character)) else { return Ok(()) };
    let text = format!(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to \
         #xFFFD | #x10000 to #x10FFFF. The first that is none is #x{:X}.",
        u32::from(wrong)
    );
    Err(ServiceError::new(ErrorCode::InvalidMessageContents, text))
}

/// Checks what the broker cannot see of an attribute, since it only has its one value.
fn check_attribute(attribute: &MessageAttribute<'_>) -> Result<(), ServiceError> {
    let refuse = |text: String| Err(ServiceError::new(ErrorCode::InvalidParameterValue, text));
    let name = &attribute.name;
    if attribute.has_list_values {
        return refuse(
            "Message attribute list values in SendMessage operation are not supported.".to_owned(),
        );
    }
    if attribute.data_type.is_empty() {
        return refuse(format!(
            "The message attribute '{name}' must contain non-empty message attribute type."
        ));
    }
    if attribute.string_value.is_some() && attribute.binary_value.is_some() {
        return refuse(format!("Message attribute '{name}' has both a StringValue and a BinaryValue."));
    }
    let has_other = if attribute.is_binary() {
        attribute.string_value.is_some()
    } else {
        attribute.binary_value.is_some()
    };
    if has_other {
        return refuse(format!(
            "The message attribute '{name}' with type '{}' must use field '{}'.",
            attribute.data_type,
            if attribute.is_binary() { "Binary" } else { "String" }
        ));
    }
    if !attribute.is_binary()
        && let Some(value) = &attribute.string_value
    {
        check_characters(value)?;
    }
    Ok(())
}
