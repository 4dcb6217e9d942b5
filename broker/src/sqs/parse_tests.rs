//! Requests of both protocols: what they are read as, and that nothing that comes makes a reader fall over.

use std::borrow::Cow;

use proptest::prelude::*;
use tenpin_protocol::ErrorCode;

use super::actions::*;
use super::error::{ErrorName, ServiceError};
use super::{Text, json, query};

fn from_json<'a>(action: &str, body: &'a str) -> Result<Action<'a>, ServiceError> {
    json::parse(&format!("AmazonSQS.{action}"), body.as_bytes())
}

fn from_query(form: &str) -> Result<Action<'_>, ServiceError> {
    query::parse("", form.as_bytes(), true)
}

fn text(text: &str) -> Option<Text<'_>> {
    Some(text.into())
}

#[test]
fn a_send_is_the_same_in_both_protocols() {
    let body = r#"{"QueueUrl":"http://h/0/q","MessageBody":"a & b","DelaySeconds":5,"Unknown":{"x":[1,null]},
        "MessageAttributes":{"one":{"DataType":"String","StringValue":"v","StringListValues":[]},
        "two":{"DataType":"Binary.png","BinaryValue":"AAH/"}},
        "MessageSystemAttributes":{"AWSTraceHeader":{"DataType":"String","StringValue":"Root=1"}},
        "MessageGroupId":null,"MessageDeduplicationId":"d"}"#;
    let form = "Action=SendMessage&Version=2012-11-05&QueueUrl=http%3A%2F%2Fh%2F0%2Fq&MessageBody=a+%26%20b&DelaySeconds=5\
        &MessageAttribute.1.Name=one&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v\
        &MessageAttribute.2.Name=two&MessageAttribute.2.Value.DataType=Binary.png&MessageAttribute.2.Value.BinaryValue=AAH%2F\
        &MessageSystemAttribute.1.Name=AWSTraceHeader&MessageSystemAttribute.1.Value.DataType=String\
        &MessageSystemAttribute.1.Value.StringValue=Root%3D1&MessageDeduplicationId=d&X-Amz-Signature=00";
    let expected = Action::SendMessage(SendMessage {
        queue_url: text("http://h/0/q"),
        message: NewMessage {
            message_body: "a & b".into(),
            delay_seconds: Some(5),
            message_attributes: vec![
                MessageAttribute {
                    name: "one".into(),
                    data_type: "String".into(),
                    string_value: text("v"),
                    ..MessageAttribute::default()
                },
                MessageAttribute {
                    name: "two".into(),
                    data_type: "Binary.png".into(),
                    binary_value: Some(Cow::Borrowed(&[0, 1, 255])),
                    ..MessageAttribute::default()
                },
            ],
            message_system_attributes: vec![MessageAttribute {
                name: "AWSTraceHeader".into(),
                data_type: "String".into(),
                string_value: text("Root=1"),
                ..MessageAttribute::default()
            }],
            message_deduplication_id: text("d"),
            message_group_id: None,
        },
    });
    assert_eq!(from_json("SendMessage", body).as_ref(), Ok(&expected));
    assert_eq!(from_query(form).as_ref(), Ok(&expected));
    let Action::SendMessage(send) = expected else { unreachable!("it was made as one") };
    assert_eq!(send.message.check(), Ok(()));
    assert_eq!(send.message.trace_header(), Some("Root=1"));
}

#[test]
fn texts_are_borrowed_from_the_request() {
    let Ok(Action::SendMessage(send)) = from_json("SendMessage", r#"{"MessageBody":"long","QueueUrl":"u"}"#)
    else {
        panic!("it is a send")
    };
    assert!(matches!(send.message.message_body.0, Cow::Borrowed("long")));
    assert!(matches!(send.queue_url, Some(Text(Cow::Borrowed("u")))));
    let Ok(Action::SendMessage(send)) = from_query("Action=SendMessage&MessageBody=long") else {
        panic!("it is a send")
    };
    assert!(matches!(send.message.message_body.0, Cow::Borrowed("long")));
}

#[test]
fn a_batch_is_read_in_the_order_of_its_numbers() {
    let entries: String = (1..=10)
        .rev()
        .map(|number| {
            format!(
                "&SendMessageBatchRequestEntry.{number}.Id=i{number}&SendMessageBatchRequestEntry.{number}.MessageBody=b{number}"
            )
        })
        .collect();
    let form = format!("Action=SendMessageBatch{entries}");
    let Ok(Action::SendMessageBatch(batch)) = from_query(&form) else { panic!("it is a batch") };
    let ids: Vec<_> = batch.entries.iter().map(|entry| (&*entry.id, &*entry.message.message_body)).collect();
    let expected: Vec<_> = (1..=10).map(|number| (format!("i{number}"), format!("b{number}"))).collect();
    assert!(ids.iter().zip(&expected).all(|(one, other)| *one == (&*other.0, &*other.1)), "{ids:?}");
    assert_eq!(ids.len(), 10);
}

#[test]
fn lists_and_maps_are_understood_as_clients_of_all_ages_write_them() {
    let names = |form: &str| match from_query(form) {
        Ok(Action::GetQueueAttributes(get)) => {
            get.attribute_names.iter().map(|name| name.to_string()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    for form in [
        "Action=GetQueueAttributes&AttributeName.1=A&AttributeName.2=B",
        "Action=GetQueueAttributes&AttributeName.member.2=B&AttributeName.member.1=A",
        "Action=GetQueueAttributes&AttributeName.7=A&AttributeName.10=B",
    ] {
        assert_eq!(names(form), ["A", "B"], "{form}");
    }
    assert_eq!(names("Action=GetQueueAttributes&AttributeName=All"), ["All"]);
    assert!(names("Action=GetQueueAttributes&AttributeName=").is_empty());
    assert!(names("Action=GetQueueAttributes").is_empty());
    for form in [
        "Attribute.1.Name=DelaySeconds&Attribute.1.Value=5",
        "Attribute.Name=DelaySeconds&Attribute.Value=5",
        "Attribute.entry.1.key=DelaySeconds&Attribute.entry.1.value=5",
    ] {
        let form = format!("Action=SetQueueAttributes&{form}");
        let expected = SetQueueAttributes {
            queue_url: None,
            attributes: vec![Pair { name: "DelaySeconds".into(), value: "5".into() }],
        };
        assert_eq!(from_query(&form), Ok(expected.into()), "{form}");
    }
}

#[track_caller]
fn refused<T>(result: Result<T, ServiceError>, name: impl Into<ErrorName>, text: &str) {
    let Err(error) = result else { panic!("it was to be refused: {text}") };
    assert_eq!((error.name, &*error.text), (name.into(), text));
}

#[test]
fn what_is_not_an_action_is_said_so() {
    refused(
        json::parse("AmazonSQS.Nothing", b"{}"),
        ErrorName::UnknownOperation,
        "The target AmazonSQS.Nothing is not an action of AmazonSQS.*.",
    );
    assert!(json::parse("SendMessage", b"{}").is_err());
    refused(
        from_query("Action=FooBar"),
        ErrorName::InvalidAction,
        "The action FooBar is not valid for this endpoint.",
    );
    refused(
        from_query("Action=ListQueues"),
        ErrorName::InvalidAction,
        "The action ListQueues is not valid for this endpoint.",
    );
    assert!(query::parse("Action=ListQueues", b"", false).is_ok());
    assert_eq!(from_query("").expect_err("no action").name, ErrorName::NoOperation);
    assert_eq!(query::parse("", b"", false).expect_err("no action").name, ErrorName::MissingAction);
}

#[test]
fn what_must_be_there_is_asked_for() {
    for (action, parameter) in [
        ("SendMessage", "MessageBody"),
        ("DeleteMessage", "ReceiptHandle"),
        ("ChangeMessageVisibility", "ReceiptHandle"),
        ("CreateQueue", "QueueName"),
        ("GetQueueUrl", "QueueName"),
        ("SetQueueAttributes", "Attributes"),
        ("TagQueue", "Tags"),
        ("UntagQueue", "TagKeys"),
        ("StartMessageMoveTask", "SourceArn"),
    ] {
        let text = format!("The request must contain the parameter {parameter}.");
        refused(from_json(action, "{}"), ErrorCode::MissingRequiredParameter, &text);
        let form = format!("Action={action}");
        refused(query::parse(&form, b"", false), ErrorCode::MissingRequiredParameter, &text);
    }
    let text = "The request must contain the parameter VisibilityTimeout.";
    let body = r#"{"ReceiptHandle":"h"}"#;
    refused(from_json("ChangeMessageVisibility", body), ErrorCode::MissingRequiredParameter, text);
}

#[test]
fn batches_and_ranges_are_checked() {
    let entries = |count: usize, id: &dyn Fn(usize) -> String| {
        let entries: Vec<_> =
            (0..count).map(|place| format!(r#"{{"Id":"{}","ReceiptHandle":"h"}}"#, id(place))).collect();
        format!(r#"{{"Entries":[{}]}}"#, entries.join(","))
    };
    let delete = |body: String| json::parse("AmazonSQS.DeleteMessageBatch", body.as_bytes()).map(|_| ());
    let number = |place: usize| place.to_string();
    assert_eq!(delete(entries(10, &number)), Ok(()));
    refused(
        delete(entries(20, &number)),
        ErrorCode::TooManyEntriesInBatchRequest,
        "Maximum number of entries per request are 10. You have sent 20.",
    );
    refused(
        delete("{}".to_owned()),
        ErrorCode::EmptyBatchRequest,
        "There should be at least one DeleteMessageBatchRequestEntry in the request.",
    );
    refused(delete(entries(2, &|_| "x".to_owned())), ErrorCode::BatchEntryIdsNotDistinct, "Id x repeated.");
    for bad in ["", "a b", "ä", "a.b", &"x".repeat(81)] {
        let code = ErrorCode::InvalidBatchEntryId;
        refused(delete(entries(1, &|_| bad.to_owned())), code, code.text());
    }
    refused(
        from_json("ReceiveMessage", r#"{"MaxNumberOfMessages":11}"#),
        ErrorCode::InvalidParameterValue,
        "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
    );
    refused(
        from_query("Action=ReceiveMessage&WaitTimeSeconds=x"),
        ErrorCode::InvalidParameterValue,
        "Value x for parameter WaitTimeSeconds is invalid. Reason: Must be an integer.",
    );
    let message =
        |delay_seconds| NewMessage { message_body: "b".into(), delay_seconds, ..NewMessage::default() };
    assert_eq!(message(Some(900)).check(), Ok(()));
    assert!(message(Some(901)).check().is_err() && message(Some(-1)).check().is_err());
}

#[test]
fn bodies_have_the_characters_that_xml_has() {
    let check = |body: &str| NewMessage { message_body: body.into(), ..NewMessage::default() }.check();
    for good in ["\t\n\r", " ", "\u{7f}\u{85}", "\u{d7ff}\u{e000}\u{fffd}", "\u{10000}\u{10ffff}"] {
        assert_eq!(check(good), Ok(()), "{good:?}");
    }
    for bad in ["\0", "a\u{b}", "\u{1f}", "\u{fffe}", "ä\u{ffff}"] {
        assert_eq!(check(bad).expect_err(bad).name, ErrorCode::InvalidMessageContents.into(), "{bad:?}");
    }
}

#[test]
fn attributes_keep_to_the_field_of_their_type() {
    let attribute = |data_type: &'static str, string: Option<&'static str>, binary: Option<&'static [u8]>| {
        let attribute = MessageAttribute {
            name: "a".into(),
            data_type: data_type.into(),
            string_value: string.map(Text::from),
            binary_value: binary.map(Cow::Borrowed),
            has_list_values: false,
        };
        NewMessage { message_body: "b".into(), message_attributes: vec![attribute], ..NewMessage::default() }
            .check()
    };
    assert!(attribute("String", Some("x"), None).is_ok() && attribute("Binary.x", None, Some(b"x")).is_ok());
    // The broker says that it must not be empty.
    assert!(attribute("String", None, None).is_ok());
    assert!(attribute("", Some("x"), None).is_err());
    assert!(attribute("String", None, Some(b"x")).is_err() && attribute("Binary", Some("x"), None).is_err());
    assert!(attribute("String", Some("x"), Some(b"x")).is_err());
    assert!(attribute("String", Some("\u{1}"), None).is_err());
}

#[test]
fn hostile_requests_are_refused() {
    let serialization = |body: &str| {
        let error = from_json("SendMessage", body).expect_err(body);
        assert_eq!(error.name, ErrorName::Serialization, "{body}: {error}");
    };
    let deep = format!(r#"{{"X":{}"#, "[".repeat(100_000));
    let many = format!(r#"{{"MessageAttributes":{{{}"a":{{}}}}}}"#, r#""a":{},"#.repeat(json::LIST_MAX));
    for body in [
        "[]",
        "{",
        "{\"MessageBody\":5}",
        "{\"MessageBody\":\"\\ud800\"}",
        "{\"DelaySeconds\":\"5\"}",
        "{} {}",
        &deep,
        &many,
        r#"{"MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"*"}}}"#,
    ] {
        serialization(body);
    }
    assert_eq!(
        json::parse("AmazonSQS.SendMessage", b"{\"MessageBody\":\"\xff\"}").expect_err("no UTF-8").name,
        ErrorName::Serialization
    );
    for form in
        ["Action=SendMessage&MessageBody=%", "Action=%zz", "%ff=x", "Action=SendMessage&MessageBody=%f"]
    {
        assert_eq!(from_query(form).expect_err(form).name, ErrorName::MalformedInput, "{form}");
    }
    let many = "a=b&".repeat(query::PARAMETERS_MAX + 1);
    assert_eq!(from_query(&many).expect_err("too many").name, ErrorName::MalformedInput);
}

/// Pieces that requests of the Query protocol are made of, so that random ones get somewhere.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "Action",
        "SendMessageBatch",
        "SendMessage",
        "SetQueueAttributes",
        "=",
        "&",
        ".",
        "1",
        "10",
        "01",
        "Name",
        "Value",
        "Attribute",
        "MessageAttribute",
        "SendMessageBatchRequestEntry",
        "member",
        "entry",
        "%",
        "%41",
        "+",
        "ä",
        "",
        "BinaryValue",
        "DataType",
        "StringValue",
        "-",
        "99999999999",
        "Id",
        "MessageBody",
        "/",
        "!",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), action in 0..23_usize, on_queue_url: bool) {
        let action = ActionName::ALL[action].as_str();
        let _ = json::parse(&format!("AmazonSQS.{action}"), &bytes);
        let _ = query::parse("", &bytes, on_queue_url);
        let mut form = format!("Action={action}&").into_bytes();
        form.extend_from_slice(&bytes);
        let _ = query::parse("", &form, on_queue_url);
    }

    #[test]
    fn no_pieces_make_the_query_parser_panic(action in 0..23_usize, pieces in pieces(), query in pieces()) {
        let form = format!("Action={}&{pieces}", ActionName::ALL[action].as_str());
        let _ = query::parse(&query, form.as_bytes(), false);
    }

    /// What a client encodes is read as it was, whatever it is.
    #[test]
    fn any_text_comes_through_both_parsers(body in "\\PC{1,40}", name in "[a-zA-Z0-9_.-]{1,20}", value in any::<String>()) {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let form = format!(
            "Action=SendMessage&MessageBody={}&MessageAttribute.1.Name={}&MessageAttribute.1.Value.StringValue={}&MessageAttribute.1.Value.DataType=String",
            encode(&body), encode(&name), encode(&value),
        );
        let object = serde_json::json!({
            "MessageBody": body, "MessageAttributes": { &name: { "StringValue": value, "DataType": "String" } },
        }).to_string();
        let expected = NewMessage {
            message_body: (&*body).into(),
            message_attributes: vec![MessageAttribute {
                name: (&*name).into(), data_type: "String".into(), string_value: text(&value), ..MessageAttribute::default()
            }],
            ..NewMessage::default()
        };
        let expected = Action::SendMessage(SendMessage { queue_url: None, message: expected });
        prop_assert_eq!(from_query(&form), Ok(expected.clone()));
        prop_assert_eq!(from_json("SendMessage", &object), Ok(expected));
    }
}
