//! What the SQS-compatible endpoint says of what it refuses, letter for letter: clients match on it.

mod common;

use common::http::Http;
use serde_json::{Value, json};
use tenpin_broker::embedded::Broker;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn create(http: &mut Http, name: &str, attributes: Value) -> String {
    let reply = http.json_ok("CreateQueue", json!({"QueueName": name, "Attributes": attributes}));
    text(&reply["QueueUrl"]).to_owned()
}

/// What is asked, and how it is refused: name, code of the Query protocol, status, text.
type Refusal = (&'static str, Value, (&'static str, &'static str, u16), String);

const BAD_VALUE: (&str, &str, u16) = ("InvalidAttributeValue", "InvalidAttributeValue", 400);
const INVALID: (&str, &str, u16) = ("InvalidParameterValueException", "InvalidParameterValue", 400);

/// Names, codes, statuses and texts of refusals, letter for letter, in both protocols.
#[test]
fn refusals_say_what_clients_match_on() {
    // The rules of 60 seconds hold here.
    let broker = Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).start().unwrap();
    let mut http = Http::connect(broker.sqs_address().unwrap());
    let url = create(&mut http, "q", json!({"MaximumMessageSize": "1024"}));
    let refusals = [refusals_of_queues(&mut http, &url), refusals_of_sends(&mut http, &url)];
    for refusal in refusals.into_iter().flatten().chain(refusals_of_handles(&mut http)) {
        check_refusal(&mut http, refusal);
    }
}

fn check_refusal(http: &mut Http, (action, parameters, (name, code, status), expected): Refusal) {
    let reply = http.json(action, parameters.clone());
    let said = reply.json();
    assert_eq!(said["__type"], format!("com.amazonaws.sqs#{name}"), "{action}: {said}");
    assert_eq!(said["message"], expected, "{action}");
    assert_eq!(reply.header("x-amzn-query-error"), Some(&*format!("{code};Sender")), "{action}");
    assert_eq!(reply.status, status, "{action}");
    let form = as_form(action, &parameters);
    let form: Vec<_> = form.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let reply = http.query("/", action, &form);
    let expected = match name {
        "QueueDoesNotExist" => "The specified queue does not exist for this wsdl version.".to_owned(),
        _ => expected,
    };
    assert_eq!(reply.element("Message"), Some(expected), "{action}");
    assert_eq!((reply.status, reply.element("Code").as_deref()), (status, Some(code)), "{action}");
    assert_eq!(reply.element("Type").as_deref(), Some("Sender"), "{action}");
}

fn refusals_of_queues(http: &mut Http, url: &str) -> Vec<Refusal> {
    let gone = create(http, "gone", json!({}));
    http.json_ok("DeleteQueue", json!({"QueueUrl": gone}));
    http.json_ok("PurgeQueue", json!({"QueueUrl": url}));
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let dead = json!({"deadLetterTargetArn": "dead", "maxReceiveCount": 1}).to_string();
    let eight = vec!["*"; 8];
    vec![
        (
            "GetQueueUrl",
            json!({"QueueName": "none"}),
            ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400),
            "The specified queue does not exist.".into(),
        ),
        (
            "GetQueueUrl",
            json!({}),
            ("MissingRequiredParameterException", "MissingParameter", 400),
            "The request must contain the parameter QueueName.".into(),
        ),
        (
            "PurgeQueue",
            json!({"QueueUrl": url}),
            ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403),
            "Only one PurgeQueue operation on q is allowed every 60 seconds.".into(),
        ),
        (
            "CreateQueue",
            json!({"QueueName": "gone"}),
            ("QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400),
            "You must wait 60 seconds after deleting a queue before you can create another with the same name."
                .into(),
        ),
        (
            "CreateQueue",
            json!({"QueueName": "q", "Attributes": {"DelaySeconds": "1"}}),
            ("QueueNameExists", "QueueAlreadyExists", 400),
            "A queue already exists with the same name and a different value for attribute DelaySeconds".into(),
        ),
        (
            "CreateQueue",
            json!({"QueueName": "new", "Attributes": {"FifoQueue": "false"}}),
            ("InvalidAttributeName", "InvalidAttributeName", 400),
            "Unknown Attribute FifoQueue.".into(),
        ),
        (
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"}}),
            ("InvalidAttributeName", "InvalidAttributeName", 400),
            "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE \
             or SQS SSE."
                .into(),
        ),
        (
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"RedrivePolicy": dead}}),
            INVALID,
            format!(
                "Value {dead} for parameter RedrivePolicy is invalid. Reason: Invalid value for \
                 deadLetterTargetArn."
            ),
        ),
        (
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"DelaySeconds": "-1"}}),
            BAD_VALUE,
            "Invalid value for the parameter DelaySeconds. Reason: Must be between 0 and 900, if provided.".into(),
        ),
        (
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"DelaySeconds": ""}}),
            BAD_VALUE,
            "Invalid value for the parameter DelaySeconds. Reason: Must be between 0 and 900, if provided.".into(),
        ),
        (
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"SqsManagedSseEnabled": "yes"}}),
            BAD_VALUE,
            "Invalid value for the parameter SqsManagedSseEnabled. Reason: Valid values: true, false.".into(),
        ),
        (
            // What cannot be set at all is not judged by its value.
            "SetQueueAttributes",
            json!({"QueueUrl": url, "Attributes": {"CreatedTimestamp": "now"}}),
            ("InvalidAttributeName", "InvalidAttributeName", 400),
            "Unknown Attribute CreatedTimestamp.".into(),
        ),
        (
            "ListQueues",
            json!({"MaxResults": 1_001}),
            INVALID,
            "Value 1001 for parameter MaxResults is invalid. Reason: Must be between 1 and 1000, if provided."
                .into(),
        ),
        (
            "RemovePermission",
            json!({"QueueUrl": url, "Label": "none"}),
            INVALID,
            "Value none for parameter Label is invalid. Reason: can't find label.".into(),
        ),
        (
            "AddPermission",
            json!({"QueueUrl": url, "Label": "l", "AWSAccountIds": ["123456789012"], "Actions": eight}),
            ("OverLimit", "OverLimit", 403),
            "8 Actions were found, maximum allowed is 7.".into(),
        ),
        (
            "StartMessageMoveTask",
            json!({"SourceArn": arn("q")}),
            INVALID,
            "Source queue must be configured as a Dead Letter Queue.".into(),
        ),
        (
            "StartMessageMoveTask",
            json!({"SourceArn": arn("q"), "DestinationArn": arn("none")}),
            ("ResourceNotFoundException", "ResourceNotFoundException", 404),
            "The resource that you specified for the DestinationArn parameter doesn't exist.".into(),
        ),
        (
            "CancelMessageMoveTask",
            json!({"TaskHandle": "a b"}),
            INVALID,
            "Value for parameter TaskHandle is invalid.".into(),
        ),
    ]
}

fn refusals_of_sends(http: &mut Http, url: &str) -> Vec<Refusal> {
    let fifo = create(http, "sends.fifo", json!({"FifoQueue": "true"}));
    let entries = |count: usize, body: &str| -> Value {
        (0..count).map(|id| json!({"Id": id.to_string(), "MessageBody": body})).collect()
    };
    vec![
        (
            "SendMessageBatch",
            json!({"QueueUrl": url, "Entries": entries(20, "x")}),
            ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400),
            "Maximum number of entries per request are 10. You have sent 20.".into(),
        ),
        (
            "SendMessageBatch",
            json!({"QueueUrl": url, "Entries": []}),
            ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400),
            "There should be at least one SendMessageBatchRequestEntry in the request.".into(),
        ),
        (
            // Whatever the queue's own maximum is.
            "SendMessageBatch",
            json!({"QueueUrl": url, "Entries": entries(2, &"x".repeat(600_000))}),
            ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400),
            "Batch requests cannot be longer than 1048576 bytes. You have sent 1200000 bytes.".into(),
        ),
        (
            "SendMessage",
            json!({"QueueUrl": url, "MessageBody": "x".repeat(1_025)}),
            INVALID,
            "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.".into(),
        ),
        (
            "SendMessage",
            json!({"QueueUrl": fifo, "MessageBody": "x", "MessageDeduplicationId": "d"}),
            ("MissingRequiredParameterException", "MissingParameter", 400),
            "The request must contain the parameter MessageGroupId.".into(),
        ),
        (
            "SendMessage",
            json!({"QueueUrl": fifo, "MessageBody": "x", "MessageGroupId": "g"}),
            INVALID,
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
             provided explicitly"
                .into(),
        ),
        (
            // As a whole, and with another name than a message alone.
            "SendMessageBatch",
            json!({"QueueUrl": fifo, "Entries": entries(2, "x")}),
            INVALID,
            "The request must contain the parameter MessageGroupId.".into(),
        ),
        (
            "SendMessageBatch",
            json!({"QueueUrl": fifo, "Entries": [{"Id": "a", "MessageBody": "x", "MessageGroupId": "g"}]}),
            INVALID,
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
             provided explicitly"
                .into(),
        ),
        (
            "ReceiveMessage",
            json!({"QueueUrl": url, "MaxNumberOfMessages": 11}),
            INVALID,
            "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if \
             provided."
                .into(),
        ),
    ]
}

fn refusals_of_handles(http: &mut Http) -> Vec<Refusal> {
    let url = create(http, "handles", json!({}));
    let fifo = create(
        http,
        "handles.fifo",
        json!({"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "0"}),
    );
    let mut received = |url: &str, group: Value| {
        http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "x", "MessageGroupId": group}));
        let received = http.json_ok("ReceiveMessage", json!({"QueueUrl": url, "WaitTimeSeconds": 20}));
        text(&received["Messages"][0]["ReceiptHandle"]).to_owned()
    };
    let (deleted, visible) = (received(&url, Value::Null), received(&url, Value::Null));
    let expired = received(&fifo, json!("g"));
    let hide = |handle: &str, seconds: u32| json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": seconds});
    http.json_ok("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": deleted}));
    http.json_ok("ChangeMessageVisibility", hide(&visible, 0));
    vec![
        (
            "DeleteMessage",
            json!({"QueueUrl": url, "ReceiptHandle": "nonsense"}),
            ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404),
            "The input receipt handle \"nonsense\" is not a valid receipt handle.".into(),
        ),
        (
            "DeleteMessage",
            json!({"QueueUrl": fifo, "ReceiptHandle": expired}),
            INVALID,
            format!(
                "Value {expired} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
            ),
        ),
        (
            "ChangeMessageVisibility",
            hide(&deleted, 1),
            INVALID,
            format!(
                "Value {deleted} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is \
                 not available for visibility timeout change."
            ),
        ),
        (
            "ChangeMessageVisibility",
            hide(&visible, 1),
            ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400),
            "The specified message is not in flight.".into(),
        ),
        (
            "ChangeMessageVisibility",
            hide(&visible, 43_201),
            INVALID,
            "Value 43201 for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if \
             provided."
                .into(),
        ),
    ]
}

/// A request of the JSON protocol as one of the Query protocol.
fn as_form(action: &str, parameters: &Value) -> Vec<(String, String)> {
    let mut form = Vec::new();
    for (name, value) in parameters.as_object().unwrap() {
        let single = match &name[..] {
            "Attributes" => "Attribute".to_owned(),
            "Entries" => format!("{action}RequestEntry"),
            "Actions" => "ActionName".to_owned(),
            name => name.trim_end_matches('s').to_owned(),
        };
        match value {
            Value::Object(map) => {
                for (place, (key, value)) in (1..).zip(map) {
                    form.push((format!("{single}.{place}.Name"), key.clone()));
                    form.push((format!("{single}.{place}.Value"), shown(value)));
                }
            }
            Value::Array(list) => {
                for (place, item) in (1..).zip(list) {
                    let fields = item.as_object().into_iter().flatten();
                    form.extend(
                        fields.map(|(field, value)| (format!("{single}.{place}.{field}"), shown(value))),
                    );
                    form.extend(item.as_str().map(|text| (format!("{single}.{place}"), text.to_owned())));
                }
            }
            value => form.push((name.clone(), shown(value))),
        }
    }
    form
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
