//! How a reply is laid out, said once for all forms that it can have: a walk over it that calls a writer.

use super::actions::is_binary;
use super::replies::{
    BatchReply, FailedEntry, GivenAttribute, MoveTask, ReceivedMessage, Reply, SentMessage, SystemAttributes,
};

/// What a list or a map is called: in JSON as a whole, in XML each of its members.
#[derive(Clone, Copy)]
pub(super) struct Named(pub &'static str, pub &'static str);

/// What the names and values of a map's members are called in XML.
#[derive(Clone, Copy)]
pub(super) struct MapWords(pub &'static str, pub &'static str);

const NAME_VALUE: MapWords = MapWords("Name", "Value");
const KEY_VALUE: MapWords = MapWords("Key", "Value");

/// Writes the parts of a reply one after the other.
pub(super) trait Writer {
    /// A text that may need escaping.
    fn text(&mut self, name: &'static str, value: &str);
    /// A text of letters, digits and hyphens.
    fn plain(&mut self, name: &'static str, value: &[u8]);
    /// Bytes, in base64.
    fn binary(&mut self, name: &'static str, value: &[u8]);
    /// A number.
    fn number(&mut self, name: &'static str, value: u64);
    /// A switch.
    fn boolean(&mut self, name: &'static str, value: bool);
    /// A list of texts; not called for an empty one.
    fn texts<'t>(&mut self, name: Named, texts: impl Iterator<Item = &'t str>);
    /// A list of structures; not called for an empty one.
    fn structures<T>(&mut self, name: Named, items: &[T], each: impl Fn(&mut Self, &T));
    /// A map begins, or ends.
    fn map_begins(&mut self, name: Named);
    /// See [`Writer::map_begins`].
    fn map_ends(&mut self);
    /// A member of a map, whose value is a text.
    fn map_text(&mut self, name: Named, words: MapWords, key: &str, value: &str);
    /// A member of a map, whose value is a structure.
    fn map_structure(&mut self, name: Named, key: &str, each: impl FnOnce(&mut Self));
}

/// Whether a reply has a result to tell, or only that it is done.
pub(super) fn has_result(reply: &Reply<'_>) -> bool {
    !matches!(reply, Reply::Done(_))
}

/// Writes what is in the result of an action.
pub(super) fn walk<W: Writer>(reply: &Reply<'_>, writer: &mut W) {
    match reply {
        Reply::Done(_) => {}
        Reply::CancelMessageMoveTask { approximate_number_of_messages_moved } => {
            writer.number("ApproximateNumberOfMessagesMoved", *approximate_number_of_messages_moved);
        }
        Reply::ChangeMessageVisibilityBatch(batch) => {
            batch_of(writer, "ChangeMessageVisibilityBatchResultEntry", batch, |writer, id| {
                writer.text("Id", id)
            });
        }
        Reply::CreateQueue { queue_url } | Reply::GetQueueUrl { queue_url } => {
            writer.text("QueueUrl", queue_url)
        }
        Reply::DeleteMessageBatch(batch) => {
            batch_of(writer, "DeleteMessageBatchResultEntry", batch, |writer, id| writer.text("Id", id));
        }
        Reply::GetQueueAttributes { attributes } => {
            let attributes = attributes.iter().map(|(name, value)| (*name, &**value));
            map_of_texts(writer, Named("Attributes", "Attribute"), NAME_VALUE, attributes);
        }
        Reply::ListDeadLetterSourceQueues { queue_urls, next_token } => {
            texts(writer, Named("queueUrls", "QueueUrl"), queue_urls);
            optional_text(writer, "NextToken", next_token.as_deref());
        }
        Reply::ListMessageMoveTasks { results } => {
            structures(writer, Named("Results", "ListMessageMoveTasksResultEntry"), results, move_task);
        }
        Reply::ListQueueTags { tags } => {
            let tags = tags.iter().map(|(key, value)| (&**key, &**value));
            map_of_texts(writer, Named("Tags", "Tag"), KEY_VALUE, tags);
        }
        Reply::ListQueues { queue_urls, next_token } => {
            texts(writer, Named("QueueUrls", "QueueUrl"), queue_urls);
            optional_text(writer, "NextToken", next_token.as_deref());
        }
        Reply::ReceiveMessage { messages } => {
            structures(writer, Named("Messages", "Message"), messages, received);
        }
        Reply::SendMessage(message) => sent(writer, message),
        Reply::SendMessageBatch(batch) => {
            batch_of(writer, "SendMessageBatchResultEntry", batch, |writer, (id, message)| {
                writer.text("Id", id);
                sent(writer, message);
            });
        }
        Reply::StartMessageMoveTask { task_handle } => writer.text("TaskHandle", task_handle),
    }
}

fn batch_of<W: Writer, T>(
    writer: &mut W,
    entry: &'static str,
    batch: &BatchReply<'_, T>,
    each: impl Fn(&mut W, &T),
) {
    structures(writer, Named("Successful", entry), &batch.successful, each);
    structures(writer, Named("Failed", "BatchResultErrorEntry"), &batch.failed, failed);
}

fn failed<W: Writer>(writer: &mut W, entry: &FailedEntry<'_>) {
    writer.text("Id", &entry.id);
    writer.boolean("SenderFault", entry.error.name.is_sender_fault());
    writer.text("Code", entry.error.name.legacy_code());
    writer.text("Message", &entry.error.text);
}

fn sent<W: Writer>(writer: &mut W, message: &SentMessage) {
    writer.plain("MessageId", &uuid(&message.message_id));
    writer.plain("MD5OfMessageBody", &message.md5_of_message_body.hexadecimal());
    if let Some(digest) = message.md5_of_message_attributes {
        writer.plain("MD5OfMessageAttributes", &digest.hexadecimal());
    }
    if let Some(digest) = message.md5_of_message_system_attributes {
        writer.plain("MD5OfMessageSystemAttributes", &digest.hexadecimal());
    }
    if let Some(number) = message.sequence_number {
        writer.plain("SequenceNumber", &twenty_digits(number));
    }
}

fn received<W: Writer>(writer: &mut W, message: &ReceivedMessage<'_>) {
    writer.plain("MessageId", &uuid(&message.message_id));
    writer.text("ReceiptHandle", &message.receipt_handle);
    writer.plain("MD5OfBody", &message.md5_of_body.hexadecimal());
    writer.text("Body", &message.body);
    if message.attributes != SystemAttributes::default() {
        system_attributes(writer, &message.attributes);
    }
    if let Some(digest) = message.md5_of_message_attributes {
        writer.plain("MD5OfMessageAttributes", &digest.hexadecimal());
    }
    if !message.message_attributes.is_empty() {
        let name = Named("MessageAttributes", "MessageAttribute");
        writer.map_begins(name);
        for attribute in &message.message_attributes {
            writer.map_structure(name, &attribute.name, |writer| given_attribute(writer, attribute));
        }
        writer.map_ends();
    }
}

fn given_attribute<W: Writer>(writer: &mut W, attribute: &GivenAttribute<'_>) {
    if is_binary(&attribute.data_type) {
        writer.binary("BinaryValue", &attribute.value);
    } else {
        writer.text("StringValue", &String::from_utf8_lossy(&attribute.value));
    }
    writer.text("DataType", &attribute.data_type);
}

fn system_attributes<W: Writer>(writer: &mut W, attributes: &SystemAttributes<'_>) {
    let name = Named("Attributes", "Attribute");
    let text = |writer: &mut W, key, value: Option<&str>| {
        if let Some(value) = value {
            writer.map_text(name, NAME_VALUE, key, value);
        }
    };
    let number = |writer: &mut W, key, value: Option<u64>| {
        if let Some(value) = value {
            writer.map_text(name, NAME_VALUE, key, decimal(value, &mut [0; 20]));
        }
    };
    writer.map_begins(name);
    text(writer, "SenderId", attributes.sender_id.as_deref());
    number(writer, "SentTimestamp", attributes.sent_timestamp);
    number(writer, "ApproximateReceiveCount", attributes.approximate_receive_count.map(u64::from));
    number(writer, "ApproximateFirstReceiveTimestamp", attributes.approximate_first_receive_timestamp);
    if let Some(number) = attributes.sequence_number {
        writer.map_text(name, NAME_VALUE, "SequenceNumber", ascii(&twenty_digits(number)));
    }
    text(writer, "MessageDeduplicationId", attributes.message_deduplication_id.as_deref());
    text(writer, "MessageGroupId", attributes.message_group_id.as_deref());
    text(writer, "AWSTraceHeader", attributes.aws_trace_header.as_deref());
    text(writer, "DeadLetterQueueSourceArn", attributes.dead_letter_queue_source_arn.as_deref());
    writer.map_ends();
}

fn move_task<W: Writer>(writer: &mut W, task: &MoveTask<'_>) {
    optional_text(writer, "TaskHandle", task.task_handle.as_deref());
    writer.text("Status", task.status);
    writer.text("SourceArn", &task.source_arn);
    optional_text(writer, "DestinationArn", task.destination_arn.as_deref());
    if let Some(rate) = task.max_number_of_messages_per_second {
        writer.number("MaxNumberOfMessagesPerSecond", rate.into());
    }
    writer.number("ApproximateNumberOfMessagesMoved", task.approximate_number_of_messages_moved);
    if let Some(count) = task.approximate_number_of_messages_to_move {
        writer.number("ApproximateNumberOfMessagesToMove", count);
    }
    optional_text(writer, "FailureReason", task.failure_reason.as_deref());
    writer.number("StartedTimestamp", task.started_timestamp);
}

fn optional_text<W: Writer>(writer: &mut W, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        writer.text(name, value);
    }
}

fn texts<W: Writer>(writer: &mut W, name: Named, texts: &[std::borrow::Cow<'_, str>]) {
    if !texts.is_empty() {
        writer.texts(name, texts.iter().map(|text| &**text));
    }
}

fn structures<W: Writer, T>(writer: &mut W, name: Named, items: &[T], each: impl Fn(&mut W, &T)) {
    if !items.is_empty() {
        writer.structures(name, items, each);
    }
}

fn map_of_texts<'t, W: Writer>(
    writer: &mut W,
    name: Named,
    words: MapWords,
    members: impl ExactSizeIterator<Item = (&'t str, &'t str)>,
) {
    if members.len() == 0 {
        return;
    }
    writer.map_begins(name);
    for (key, value) in members {
        writer.map_text(name, words, key, value);
    }
    writer.map_ends();
}

/// An id as a UUID.
pub(crate) fn uuid(id: &[u8; 16]) -> [u8; 36] {
    let digits = super::Digest(*id).hexadecimal();
    let mut text = [b'-'; 36];
    for (from, to) in [(0..8, 0), (8..12, 9), (12..16, 14), (16..20, 19), (20..32, 24)] {
        text[to..to + from.len()].copy_from_slice(&digits[from]);
    }
    text
}

/// A sequence number as clients compare it: as text.
fn twenty_digits(number: u64) -> [u8; 20] {
    let mut text = [b'0'; 20];
    let mut digits = [0; 20];
    let digits = decimal(number, &mut digits);
    text[20 - digits.len()..].copy_from_slice(digits.as_bytes());
    text
}

/// A number as text, without an allocation.
pub(super) fn decimal(mut number: u64, text: &mut [u8; 20]) -> &str {
    let mut place = text.len();
    loop {
        place -= 1;
        text[place] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return ascii(&text[place..]);
        }
    }
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("digits are ASCII")
}
