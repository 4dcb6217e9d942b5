//! Receiving messages, and what is shown of them.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tenpin_protocol::{ErrorCode, QUEUE_DEFAULT, ReceiveRequest, Request, Response};

use super::call::{Call, REPLY_BYTES, unexpected_answer};
use super::link::Answer;
use super::messages::show_handle;
use super::socket::Owed;
use super::target::QueueName;
use crate::sqs::actions::ReceiveMessage;
use crate::sqs::checks::is_xml_text;
use crate::sqs::replies::{GivenAttribute, ReceivedMessage, SystemAttributes};
use crate::sqs::{AttributeFilter, Digest, Reply, ServiceError, Text, md5_of_attributes, md5_of_bodies};

/// The attribute of a message whose body is no text that SQS could have, and is given out as base64.
const BODY_ENCODING: &str = "Tenpin.BodyEncoding";

/// System attributes of messages, in the order of the bits of [`Asked`].
const SYSTEM_ATTRIBUTES: [&str; 9] = [
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

/// What a reply has of most messages beside their bodies.
const REPLY_BYTES_BESIDE_BODY: usize = 400;

impl Call<'_> {
    pub(super) async fn receive_message(&mut self, action: &ReceiveMessage<'_>) -> Result<(), ServiceError> {
        let queue = self.queue(action.queue_url.as_ref())?;
        let asked = Asked::of(&[&action.attribute_names, &action.message_system_attribute_names])?;
        let filter = AttributeFilter::new(action.message_attribute_names.iter().map(|name| &**name));
        let given = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let max = given(action.max_number_of_messages).unwrap_or(1);
        let receive = ReceiveRequest {
            wait_ms: given(action.wait_time_seconds).map_or(QUEUE_DEFAULT, |seconds| seconds * 1_000),
            visibility_seconds: given(action.visibility_timeout).unwrap_or(QUEUE_DEFAULT),
            attempt_id: action.receive_request_attempt_id.as_deref(),
            ..ReceiveRequest::new(0, u8::try_from(max).unwrap_or(u8::MAX))
        };
        let answer = self.ask_while_there(&queue, receive).await?;
        let Response::Receive(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let mut messages: Vec<_> =
            reply.messages.iter().map(|message| shown(&message, asked, &filter, &queue.account)).collect();
        let bodies: Vec<_> = messages.iter().map(|message| message.body.as_bytes()).collect();
        let digests = md5_of_bodies(&bodies);
        for (message, digest) in messages.iter_mut().zip(digests) {
            message.md5_of_body = digest;
        }
        let bytes = messages.iter().map(|message| message.body.len() + REPLY_BYTES_BESIDE_BODY);
        self.out.reserve(bytes.sum::<usize>().max(REPLY_BYTES));
        self.reply(&Reply::ReceiveMessage { messages });
        self.owed = Some(answer);
        Ok(())
    }

    /// Asks for messages. A wait ends when the client has ended its sending side, as it may be gone, and what
    /// comes later would be given to nobody; it is answered what is there.
    async fn ask_while_there(
        &mut self,
        queue: &QueueName,
        mut receive: ReceiveRequest<'_>,
    ) -> Result<Answer, ServiceError> {
        let client = self.client;
        loop {
            let waits = receive.wait_ms != 0;
            let request = |queue| Request::Receive(ReceiveRequest { queue, ..receive });
            let answer = {
                let mut asking = pin!(self.ask_of(queue, request));
                poll_fn(|context| match asking.as_mut().poll(context) {
                    Poll::Pending if waits && client.is_some_and(Owed::has_ended) => Poll::Ready(None),
                    answer => answer.map(Some),
                })
                .await
            };
            if let Some(answer) = answer {
                return answer;
            }
            self.line.hang_up();
            receive.wait_ms = 0;
        }
    }
}

/// The system attributes that a receive asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked(u16);

impl Asked {
    fn of(lists: &[&Vec<Text<'_>>]) -> Result<Self, ServiceError> {
        let mut bits = 0;
        for name in lists.iter().copied().flatten() {
            if *name == "All" {
                return Ok(Self(u16::MAX));
            }
            let place = SYSTEM_ATTRIBUTES.iter().position(|known| *name == *known);
            let place = place.ok_or_else(|| {
                ServiceError::new(ErrorCode::InvalidAttributeName, format!("Unknown Attribute {name}."))
            })?;
            bits |= 1 << place;
        }
        Ok(Self(bits))
    }

    fn has(self, place: u32) -> bool {
        self.0 & (1 << place) != 0
    }
}

fn shown<'a>(
    message: &tenpin_protocol::ReceivedMessage<'a>,
    asked: Asked,
    filter: &AttributeFilter<'_>,
    account: &'a str,
) -> ReceivedMessage<'a> {
    let attributes = message.attributes();
    let given_out = || attributes.iter().filter(|attribute| filter.takes(attribute.name));
    let mut message_attributes: Vec<_> = match filter.is_empty() {
        true => Vec::new(),
        false => given_out().map(given_attribute).collect(),
    };
    let body = match std::str::from_utf8(message.body) {
        Ok(text) if is_xml_text(text) => Cow::Borrowed(text),
        _ => {
            message_attributes.push(GivenAttribute {
                name: BODY_ENCODING.into(),
                data_type: "String".into(),
                value: Cow::Borrowed(b"base64"),
            });
            Cow::Owned(STANDARD.encode(message.body))
        }
    };
    let for_digest = message_attributes.iter().map(|attribute| tenpin_protocol::UserAttribute {
        name: &attribute.name,
        data_type: &attribute.data_type,
        value: &attribute.value,
    });
    ReceivedMessage {
        message_id: message.fixed.id,
        receipt_handle: Cow::Owned(show_handle(message.handle)),
        // Those of all messages are made together.
        md5_of_body: Digest([0; 16]),
        md5_of_message_attributes: md5_of_attributes(for_digest),
        body,
        attributes: system_attributes(message, asked, account),
        message_attributes,
    }
}

fn given_attribute(attribute: tenpin_protocol::UserAttribute<'_>) -> GivenAttribute<'_> {
    GivenAttribute {
        name: Cow::Borrowed(attribute.name),
        data_type: Cow::Borrowed(attribute.data_type),
        value: Cow::Borrowed(attribute.value),
    }
}

fn system_attributes<'a>(
    message: &tenpin_protocol::ReceivedMessage<'a>,
    asked: Asked,
    account: &'a str,
) -> SystemAttributes<'a> {
    if asked.0 == 0 {
        return SystemAttributes::default();
    }
    let fixed = &message.fixed;
    let text = |place, value: Option<&'a str>| value.filter(|_| asked.has(place)).map(Cow::Borrowed);
    SystemAttributes {
        // Whoever sends without a verified identity is known by the queue's account.
        sender_id: text(0, message.sender().or(Some(account))),
        sent_timestamp: asked.has(1).then_some(fixed.sent_at_ms),
        approximate_receive_count: asked.has(2).then_some(fixed.receive_count),
        approximate_first_receive_timestamp: asked.has(3).then_some(fixed.first_received_at_ms),
        sequence_number: (asked.has(4) && fixed.sequence_number != 0).then_some(fixed.sequence_number),
        message_deduplication_id: text(5, message.deduplication_id()),
        message_group_id: text(6, message.group()),
        aws_trace_header: text(7, message.trace_header()),
        dead_letter_queue_source_arn: text(8, message.dead_letter_source()),
    }
}
