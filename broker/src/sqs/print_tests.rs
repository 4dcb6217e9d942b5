//! Replies of all forms: as readers that know nothing of this code read them.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};
use tenpin_protocol::ErrorCode;

use super::error::{ErrorName, ServiceError};
use super::replies::*;
use super::{ActionName, Reply, json_out, md5_of_body, xml};

fn as_json(reply: &Reply<'_>) -> Value {
    let mut out = Vec::new();
    json_out::write_reply(reply, &mut out);
    serde_json::from_slice(&out).expect("it is JSON")
}

fn as_xml(reply: &Reply<'_>) -> String {
    let mut out = Vec::new();
    xml::write_reply(reply, "request-1", &mut out);
    String::from_utf8(out).expect("it is UTF-8")
}

fn received<'a>(body: &'a str, value: &'a [u8]) -> ReceivedMessage<'a> {
    ReceivedMessage {
        message_id: [0xab; 16],
        receipt_handle: "han/dle+==".into(),
        md5_of_body: md5_of_body(body.as_bytes()),
        body: body.into(),
        attributes: SystemAttributes {
            sender_id: Some("AIDA".into()),
            sent_timestamp: Some(1_700_000_000_123),
            approximate_receive_count: Some(2),
            approximate_first_receive_timestamp: Some(1_700_000_000_456),
            sequence_number: Some(18_446_744_073_709_551_615),
            message_deduplication_id: Some("d".into()),
            message_group_id: Some("g".into()),
            aws_trace_header: Some("Root=1".into()),
            dead_letter_queue_source_arn: Some("arn:x".into()),
        },
        md5_of_message_attributes: Some(md5_of_body(b"x")),
        message_attributes: vec![
            GivenAttribute { name: "t".into(), data_type: "String".into(), value: Cow::Borrowed(b"\"<v>\"") },
            GivenAttribute { name: "b".into(), data_type: "Binary.x".into(), value: Cow::Borrowed(value) },
        ],
    }
}

#[test]
fn a_received_message_has_the_shape_of_the_service() {
    let reply = Reply::ReceiveMessage { messages: vec![received("bo\"dy\r\n\u{1}ä", &[0, 1, 255])] };
    let expected = json!({ "Messages": [{
        "MessageId": "abababab-abab-abab-abab-abababababab",
        "ReceiptHandle": "han/dle+==",
        "MD5OfBody": md5_of_body("bo\"dy\r\n\u{1}ä".as_bytes()).to_string(),
        "Body": "bo\"dy\r\n\u{1}ä",
        "Attributes": {
            "SenderId": "AIDA", "SentTimestamp": "1700000000123", "ApproximateReceiveCount": "2",
            "ApproximateFirstReceiveTimestamp": "1700000000456", "SequenceNumber": "18446744073709551615",
            "MessageDeduplicationId": "d", "MessageGroupId": "g", "AWSTraceHeader": "Root=1",
            "DeadLetterQueueSourceArn": "arn:x",
        },
        "MD5OfMessageAttributes": md5_of_body(b"x").to_string(),
        "MessageAttributes": {
            "t": { "StringValue": "\"<v>\"", "DataType": "String" },
            "b": { "BinaryValue": "AAH/", "DataType": "Binary.x" },
        },
    }]});
    assert_eq!(as_json(&reply), expected);
    let xml = as_xml(&reply);
    assert!(xml.starts_with(
        "<?xml version=\"1.0\"?><ReceiveMessageResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
         <ReceiveMessageResult><Message><MessageId>abababab-abab-abab-abab-abababababab</MessageId>"
    ));
    assert!(xml.ends_with(
        "<MessageAttribute><Name>b</Name><Value><BinaryValue>AAH/</BinaryValue><DataType>Binary.x</DataType></Value>\
         </MessageAttribute></Message></ReceiveMessageResult><ResponseMetadata><RequestId>request-1</RequestId>\
         </ResponseMetadata></ReceiveMessageResponse>"
    ));
    assert!(xml.contains("<Body>bo&quot;dy&#xD;\n\u{fffd}ä</Body>"), "{xml}");
    assert!(xml.contains("<Attribute><Name>SenderId</Name><Value>AIDA</Value></Attribute>"));
}

#[test]
fn what_is_empty_is_left_out() {
    let nothing = Reply::ReceiveMessage { messages: Vec::new() };
    assert_eq!(as_json(&nothing), json!({}));
    assert!(as_xml(&nothing).contains("<ReceiveMessageResult/><ResponseMetadata>"));
    assert_eq!(as_json(&Reply::GetQueueAttributes { attributes: Vec::new() }), json!({}));
    let mut out = Vec::new();
    json_out::write_reply(&Reply::Done(ActionName::DeleteMessage), &mut out);
    assert!(out.is_empty());
    assert_eq!(
        as_xml(&Reply::Done(ActionName::DeleteMessage)),
        "<?xml version=\"1.0\"?><DeleteMessageResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
         <ResponseMetadata><RequestId>request-1</RequestId></ResponseMetadata></DeleteMessageResponse>"
    );
}

#[test]
fn batches_say_what_became_of_each_entry() {
    let sent = SentMessage {
        message_id: [1; 16],
        md5_of_message_body: md5_of_body(b"a"),
        md5_of_message_attributes: None,
        md5_of_message_system_attributes: None,
        sequence_number: Some(7),
    };
    let failed = FailedEntry { id: "b".into(), error: ServiceError::missing("MessageBody") };
    let batch = BatchReply { successful: vec![("a".into(), sent)], failed: vec![failed] };
    assert_eq!(
        as_json(&Reply::SendMessageBatch(batch.clone())),
        json!({
            "Successful": [{ "Id": "a", "MessageId": "01010101-0101-0101-0101-010101010101",
                "MD5OfMessageBody": "0cc175b9c0f1b6a831c399e269772661", "SequenceNumber": "00000000000000000007" }],
            "Failed": [{ "Id": "b", "SenderFault": true, "Code": "MissingParameter",
                "Message": "The request must contain the parameter MessageBody." }],
        })
    );
    assert!(as_xml(&Reply::SendMessageBatch(batch)).contains(
        "<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault><Code>MissingParameter</Code>"
    ));
}

#[test]
fn errors_have_their_names_codes_and_texts() {
    let error = ServiceError::from(ErrorCode::QueueDoesNotExist);
    let mut out = Vec::new();
    json_out::write_error(&error, &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#
    );
    assert_eq!(json_out::query_error_header(&error), "AWS.SimpleQueueService.NonExistentQueue;Sender");
    out.clear();
    xml::write_error(&error, "r", &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"><Error>\
         <Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>\
         <Message>The specified queue does not exist for this wsdl version.</Message><Detail/></Error>\
         <RequestId>r</RequestId></ErrorResponse>"
    );
    out.clear();
    xml::write_error(&ServiceError::new(ErrorName::NoOperation, "x"), "r", &mut out);
    assert_eq!(out, b"<UnknownOperationException/>\n");
    for name in ErrorName::OF_REQUESTS {
        assert!((400..600).contains(&name.status()), "{name:?}");
        assert_eq!(name.is_sender_fault(), name.status() < 500);
    }
}

#[test]
fn a_client_of_the_query_protocol_may_be_answered_in_json() {
    let mut out = Vec::new();
    let reply =
        Reply::GetQueueAttributes { attributes: vec![("QueueArn", "arn".into()), ("Policy", "{}".into())] };
    json_out::write_query_reply(&reply, "r", &mut out);
    assert_eq!(
        serde_json::from_slice::<Value>(&out).expect("it is JSON"),
        json!({ "GetQueueAttributesResponse": {
            "GetQueueAttributesResult": { "Attributes": [
                { "Name": "QueueArn", "Value": "arn" }, { "Name": "Policy", "Value": "{}" },
            ]},
            "ResponseMetadata": { "RequestId": "r" },
        }})
    );
    for reply in
        [Reply::Done(ActionName::PurgeQueue), Reply::ReceiveMessage { messages: vec![received("b", b"v")] }]
    {
        out.clear();
        json_out::write_query_reply(&reply, "r", &mut out);
        serde_json::from_slice::<Value>(&out).expect("it is JSON");
    }
    out.clear();
    json_out::write_query_error(&ErrorCode::QueueDoesNotExist.into(), "r", &mut out);
    let error: Value = serde_json::from_slice(&out).expect("it is JSON");
    assert_eq!(error["Error"]["Code"], "AWS.SimpleQueueService.NonExistentQueue");
    assert_eq!(error["RequestId"], "r");
}

proptest! {
    #[test]
    fn any_body_and_value_is_read_back_from_json(body in any::<String>(), value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let reply = Reply::ReceiveMessage { messages: vec![received(&body, &value)] };
        let message = &as_json(&reply)["Messages"][0];
        prop_assert_eq!(message["Body"].as_str(), Some(&*body));
        use base64::Engine as _;
        let shown = message["MessageAttributes"]["b"]["BinaryValue"].as_str().expect("a text");
        prop_assert_eq!(base64::engine::general_purpose::STANDARD.decode(shown).expect("base64"), value);
    }

    #[test]
    fn any_body_is_read_back_from_xml(body in any::<String>()) {
        let reply = Reply::ReceiveMessage { messages: vec![received(&body, b"v")] };
        let printed = as_xml(&reply);
        let document = roxmltree::Document::parse(&printed).expect("it is XML");
        let shown = document.descendants().find(|node| node.has_tag_name(("http://queue.amazonaws.com/doc/2012-11-05/", "Body")));
        let shown = shown.expect("a body").text().unwrap_or_default();
        let expected: String = body.chars()
            .map(|character| if super::checks::is_xml_character(character) { character } else { '\u{fffd}' })
            .collect();
        prop_assert_eq!(shown, expected);
    }
}
