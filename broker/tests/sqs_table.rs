//! The table of README.md that says how near the endpoint is to SQS. What it states is found out here by asking a
//! broker, or read from the code that answers; why something differs is written here, once.
//!
//! `TENPIN_WRITE_TABLE=1 cargo test -p tenpin-broker --test sqs_table` writes it.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use common::http::{Http, HttpReply};
use serde_json::{Value, json};
use tenpin_broker::embedded::Broker;
use tenpin_broker::sqs::{ActionName, ErrorName};
use tenpin_protocol::{AttributeCode, ErrorCode};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- What follows is written by broker/tests/sqs_table.rs -->\n";
const END: &str = "<!-- So far. -->\n";
const COMMAND: &str = "TENPIN_WRITE_TABLE=1 cargo test -p tenpin-broker --test sqs_table";

/// What differs in an action, and why; the others are the same.
fn difference_of_action(action: ActionName) -> Option<&'static str> {
    Some(match action {
        ActionName::AddPermission | ActionName::RemovePermission => {
            "the policy is kept and given back; nothing is checked against it, as there are no identities yet"
        }
        ActionName::CreateQueue => {
            "encryption settings are kept and given back; they encrypt nothing, as there is no KMS"
        }
        ActionName::GetQueueAttributes => "the counts are exact, at once",
        ActionName::PurgeQueue => {
            "what was sent before is gone when the reply is there, not within 60 seconds"
        }
        ActionName::ReceiveMessage => {
            "short polls look at all shards, so that they find what is there; a reply has at most about 4 MiB; a body \
             that is no text, which only the binary protocol can send, comes as base64 with an attribute that says so"
        }
        ActionName::SendMessageBatch => {
            "where only some messages to a FIFO queue lack a group or what tells duplicates, the others are stored, and \
             those are named as failed; where all do, the batch is refused, as in SQS"
        }
        ActionName::SetQueueAttributes => "holds at once, not within 60 seconds",
        ActionName::TagQueue | ActionName::UntagQueue => {
            "tags are kept and given back; nothing is billed by them"
        }
        _ => return None,
    })
}

/// What differs in an attribute of queues, and why.
fn difference_of_attribute(code: AttributeCode) -> Option<&'static str> {
    Some(match code {
        AttributeCode::ApproximateNumberOfMessages
        | AttributeCode::ApproximateNumberOfMessagesNotVisible
        | AttributeCode::ApproximateNumberOfMessagesDelayed => "exact",
        AttributeCode::Policy => "kept, not checked: there are no identities yet",
        AttributeCode::KmsMasterKeyId
        | AttributeCode::KmsDataKeyReusePeriodSeconds
        | AttributeCode::SqsManagedSseEnabled => "kept; the log is not encrypted",
        AttributeCode::FifoThroughputLimit => "kept; there are no quotas that it could raise",
        _ => return None,
    })
}

/// The system attributes of messages, and what differs in one.
const MESSAGE_ATTRIBUTES: [(&str, &str); 9] = [
    ("SenderId", "the queue's account, as there are no identities yet"),
    ("SentTimestamp", ""),
    ("ApproximateReceiveCount", "exact"),
    ("ApproximateFirstReceiveTimestamp", "exact"),
    ("SequenceNumber", ""),
    ("MessageDeduplicationId", ""),
    ("MessageGroupId", ""),
    ("AWSTraceHeader", ""),
    ("DeadLetterQueueSourceArn", ""),
];

/// What differs in an error, and why.
fn difference_of_error(name: ErrorName) -> Option<&'static str> {
    let ErrorName::Broker(code) = name else {
        return match name {
            ErrorName::IncompleteSignature => Some("never: signatures are not looked at yet"),
            ErrorName::RequestTimeout => Some("also for a body that does not come in time"),
            _ => None,
        };
    };
    Some(match code {
        ErrorCode::InvalidIdFormat => "never: ReceiptHandleIsInvalid is said instead",
        ErrorCode::InvalidSecurity | ErrorCode::AccessDenied => "never: there are no identities yet",
        ErrorCode::KmsAccessDenied
        | ErrorCode::KmsDisabled
        | ErrorCode::KmsInvalidKeyUsage
        | ErrorCode::KmsInvalidState
        | ErrorCode::KmsNotFound
        | ErrorCode::KmsOptInRequired
        | ErrorCode::KmsThrottled => "never: there is no KMS",
        ErrorCode::RequestThrottled => "only when the broker has too much to do; there are no quotas",
        ErrorCode::StorageFull => "ours: the disk is full; receives and deletes go on",
        _ => return None,
    })
}

/// Errors of the broker that no client of HTTP can be told: they are of the binary protocol.
fn is_of_http(code: ErrorCode) -> bool {
    code.number() >= ErrorCode::UnsupportedOperation.number() && code != ErrorCode::PreviousNotAccepted
        || matches!(code, ErrorCode::StorageFull | ErrorCode::Internal | ErrorCode::ShuttingDown)
}

#[test]
fn the_table_of_the_readme_is_what_the_endpoint_does() {
    let broker = Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).start().unwrap();
    let mut http = Http::connect(broker.sqs_address().unwrap());
    let mut table = String::new();
    actions(&mut http, &mut table);
    attributes(&mut http, &mut table);
    message_attributes(&mut http, &mut table);
    errors(&broker, &mut table);
    compare(&table);
}

/// Compares the README's part with what it should be, or writes it.
fn compare(table: &str) {
    let readme = fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README says where the table begins");
    let (found, after) = rest.split_once(END).expect("the README says where the table ends");
    if std::env::var_os("TENPIN_WRITE_TABLE").is_some() {
        fs::write(README, [before, BEGIN, table, END, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        found, table,
        "the table in broker/README.md is not what the endpoint does; this writes it: {COMMAND}"
    );
}

fn actions(http: &mut Http, table: &mut String) {
    *table += "\n| action | in JSON | in the Query protocol | what differs from SQS, and why |\n|---|---|---|---|\n";
    for action in ActionName::ALL {
        let name = action.as_str();
        let in_json = http.json(name, json!({}));
        let error = in_json.json()["__type"].to_string();
        assert!(!error.contains("UnknownOperation"), "{in_json:?}");
        let in_query = http.query("/", name, &[]);
        let error = in_query.element("Code").unwrap_or_default();
        assert!(error != "InvalidAction" && error != "UnknownOperationException", "{in_query:?}");
        let difference = difference_of_action(*action).unwrap_or_default();
        writeln!(table, "| {name} | yes | yes | {difference} |").unwrap();
    }
}

/// A value other than the default one that a queue can be given.
fn other_value(code: AttributeCode, arn: &str) -> String {
    match code {
        AttributeCode::VisibilityTimeout | AttributeCode::DelaySeconds => "7".into(),
        AttributeCode::ReceiveMessageWaitTimeSeconds => "7".into(),
        AttributeCode::MessageRetentionPeriod => "86400".into(),
        AttributeCode::MaximumMessageSize => "2048".into(),
        AttributeCode::Policy => json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": arn}],
        })
        .to_string(),
        AttributeCode::RedrivePolicy => {
            json!({"deadLetterTargetArn": arn, "maxReceiveCount": "5"}).to_string()
        }
        AttributeCode::RedriveAllowPolicy => json!({"redrivePermission": "denyAll"}).to_string(),
        AttributeCode::KmsMasterKeyId => "alias/key".into(),
        AttributeCode::KmsDataKeyReusePeriodSeconds => "600".into(),
        AttributeCode::SqsManagedSseEnabled => "false".into(),
        AttributeCode::ContentBasedDeduplication | AttributeCode::FifoQueue => "true".into(),
        AttributeCode::DeduplicationScope => "messageGroup".into(),
        AttributeCode::FifoThroughputLimit => "perMessageGroupId".into(),
        _ => "1".into(),
    }
}

fn attributes(http: &mut Http, table: &mut String) {
    *table += "\n| attribute of a queue | standard | FIFO | set | what differs from SQS, and why |\n|---|---|---|---|---|\n";
    let dead = [create(http, "dead", json!({})), create(http, "dead.fifo", json!({"FifoQueue": "true"}))];
    let dead = dead.map(|url| attribute(http, &url, "QueueArn").unwrap());
    for code in AttributeCode::ALL {
        let name = code.name();
        let lower = name.to_ascii_lowercase();
        let urls = [
            create(http, &lower, json!({})),
            create(http, &format!("{lower}.fifo"), json!({"FifoQueue": "true"})),
        ];
        let shown = [0, 1].map(|kind| match attribute(http, &urls[kind], name) {
            Some(_) if name.ends_with("Timestamp") => "seconds".to_owned(),
            Some(_) if *code == AttributeCode::QueueArn => "its ARN".to_owned(),
            Some(value) => format!("`{value}`"),
            None => String::new(),
        });
        let set = settable(http, *code, &urls, &dead);
        let difference = difference_of_attribute(*code).unwrap_or_default();
        writeln!(table, "| {name} | {} | {} | {set} | {difference} |", shown[0], shown[1]).unwrap();
    }
}

/// Which kinds of queues can be given another value, as is found by trying.
fn settable(http: &mut Http, code: AttributeCode, urls: &[String; 2], dead: &[String; 2]) -> &'static str {
    let name = code.name();
    let can_set = [0, 1].map(|kind| {
        let value = other_value(code, &dead[kind]);
        let mut attributes = json!({name: value});
        if code == AttributeCode::FifoThroughputLimit {
            attributes["DeduplicationScope"] = json!("messageGroup");
        }
        let reply =
            http.json("SetQueueAttributes", json!({"QueueUrl": urls[kind], "Attributes": attributes}));
        if reply.status == 200 {
            let (found, value): (Option<String>, _) = (attribute(http, &urls[kind], name), Some(value));
            let as_json = |text: &Option<String>| {
                text.as_ref().map(|text| serde_json::from_str(text).unwrap_or(json!(text)))
            };
            let same: [Option<Value>; 2] = [as_json(&found), as_json(&value)];
            assert!(same[0] == same[1] || code == AttributeCode::RedrivePolicy, "{name}: {found:?}");
        }
        reply.status == 200
    });
    match (can_set, code) {
        (_, AttributeCode::FifoQueue) => "at creation",
        ([true, true], _) => "yes",
        ([false, true], _) => "FIFO only",
        ([false, false], _) => "",
        ([true, false], _) => "standard only",
    }
}

fn message_attributes(http: &mut Http, table: &mut String) {
    *table += "\n| system attribute of a message | what differs from SQS, and why |\n|---|---|\n";
    let url =
        create(http, "messages.fifo", json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"}));
    let sent = json!({
        "QueueUrl": url, "MessageBody": "x", "MessageGroupId": "g",
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}},
    });
    http.json_ok("SendMessage", sent);
    let asked = json!({"QueueUrl": url, "MessageSystemAttributeNames": ["All"], "WaitTimeSeconds": 20});
    let message = http.json_ok("ReceiveMessage", asked)["Messages"][0].clone();
    let mut found: BTreeSet<_> = message["Attributes"].as_object().unwrap().keys().cloned().collect();
    // The one that this message cannot have.
    found.insert("DeadLetterQueueSourceArn".to_owned());
    assert_eq!(found, MESSAGE_ATTRIBUTES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, difference) in MESSAGE_ATTRIBUTES {
        writeln!(table, "| {name} | {difference} |").unwrap();
    }
}

fn errors(broker: &Broker, table: &mut String) {
    *table += "\n| error in JSON | in the Query protocol | status | tried here | what differs from SQS, and why |\n|---|---|---|---|---|\n";
    let provoked = provoke(broker);
    let of_broker = ErrorCode::ALL.iter().filter(|code| is_of_http(**code)).map(|code| (*code).into());
    for name in of_broker.chain(ErrorName::OF_REQUESTS.iter().copied()) {
        let tried =
            provoked.contains(&(name.json_type().1.to_owned(), name.legacy_code().to_owned(), name.status()));
        let difference = difference_of_error(name).unwrap_or_default();
        assert!(!(tried && difference.starts_with("never")), "{name:?} is said");
        let (json, legacy, status) = (name.json_type().1, name.legacy_code(), name.status());
        let tried = if tried { "yes" } else { "" };
        writeln!(table, "| `{json}` | `{legacy}` | {status} | {tried} | {difference} |").unwrap();
    }
}

type Said = BTreeSet<(String, String, u16)>;

/// All errors that can be had by asking, as the endpoint says them.
fn provoke(broker: &Broker) -> Said {
    let mut said = Said::new();
    let http = &mut Http::connect(broker.sqs_address().unwrap());
    provoke_of_queues(http, &mut said);
    provoke_of_messages(http, &mut said);
    provoke_of_requests(broker, &mut said);
    said
}

fn note(said: &mut Said, reply: &HttpReply) {
    assert!(reply.status >= 400, "{reply:?}");
    let legacy =
        reply.header("x-amzn-query-error").and_then(|text| text.split(';').next()).map(str::to_owned);
    let (name, legacy) = match legacy {
        Some(legacy) => {
            let name = reply.json()["__type"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
            (name, legacy)
        }
        // The Query protocol says one name only, which of these errors is the same in both.
        None => {
            let bare = || reply.body.trim_start_matches('<').split('/').next().unwrap().to_owned();
            let code = reply.element("Code").unwrap_or_else(bare);
            (code.clone(), code)
        }
    };
    said.insert((name, legacy, reply.status));
}

fn provoke_of_queues(http: &mut Http, said: &mut Said) {
    let url = create(http, "errors", json!({}));
    let old = create(http, "errors-deleted", json!({}));
    http.json_ok("DeleteQueue", json!({"QueueUrl": old}));
    http.json_ok("PurgeQueue", json!({"QueueUrl": url}));
    let arn = attribute(http, &url, "QueueArn").unwrap();
    let many: Vec<_> = (0..8).map(|_| "SendMessage").collect();
    for (action, parameters) in [
        ("GetQueueUrl", json!({"QueueName": "errors-missing"})),
        ("CreateQueue", json!({"QueueName": "errors", "Attributes": {"DelaySeconds": "1"}})),
        ("CreateQueue", json!({"QueueName": "errors-deleted"})),
        ("CreateQueue", json!({"QueueName": "no name"})),
        ("CreateQueue", json!({})),
        ("PurgeQueue", json!({"QueueUrl": url})),
        ("PurgeQueue", json!({"QueueUrl": "http://localhost/a/b"})),
        ("SetQueueAttributes", json!({"QueueUrl": url, "Attributes": {"Colour": "red"}})),
        ("SetQueueAttributes", json!({"QueueUrl": url, "Attributes": {"DelaySeconds": "-1"}})),
        (
            "AddPermission",
            json!({"QueueUrl": url, "Label": "l", "AWSAccountIds": ["123456789012"], "Actions": many}),
        ),
        ("ListMessageMoveTasks", json!({"SourceArn": format!("{arn}-missing")})),
        ("ListQueues", json!({"MaxResults": "many"})),
        ("Nonsense", json!({})),
    ] {
        note(said, &http.json(action, parameters));
    }
}

fn provoke_of_messages(http: &mut Http, said: &mut Said) {
    let (dead, url) = (create(http, "errors-dead", json!({})), create(http, "errors-alive", json!({})));
    let arn = attribute(http, &dead, "QueueArn").unwrap();
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 1}).to_string();
    http.json_ok("SetQueueAttributes", json!({"QueueUrl": url, "Attributes": {"RedrivePolicy": policy}}));
    let task = http.json_ok("StartMessageMoveTask", json!({"SourceArn": arn}))["TaskHandle"].clone();
    // It has nothing to move.
    loop {
        let tasks = http.json_ok("ListMessageMoveTasks", json!({"SourceArn": arn}));
        match tasks["Results"][0]["Status"].as_str() {
            Some("COMPLETED") => break,
            _ => std::thread::yield_now(),
        }
    }
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "x"}));
    let received = http.json_ok("ReceiveMessage", json!({"QueueUrl": url, "WaitTimeSeconds": 20}));
    let handle = &received["Messages"][0]["ReceiptHandle"];
    let change = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0});
    http.json_ok("ChangeMessageVisibility", change.clone());
    let entries = |ids: &[&str], body: &str| {
        let entries: Vec<_> = ids.iter().map(|id| json!({"Id": id, "MessageBody": body})).collect();
        json!({"QueueUrl": url, "Entries": entries})
    };
    for (action, parameters) in [
        ("CancelMessageMoveTask", json!({"TaskHandle": task})),
        ("ChangeMessageVisibility", change),
        ("SendMessage", json!({"QueueUrl": url, "MessageBody": "\u{1}"})),
        ("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": "nonsense"})),
        ("SendMessageBatch", entries(&[], "")),
        ("SendMessageBatch", entries(&["a", "a"], "x")),
        ("SendMessageBatch", entries(&["a b"], "x")),
        ("SendMessageBatch", entries(&["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"], "x")),
        ("SendMessageBatch", entries(&["a", "b"], &"x".repeat(600_000))),
    ] {
        note(said, &http.json(action, parameters));
    }
}

fn provoke_of_requests(broker: &Broker, said: &mut Said) {
    let connect = || Http::connect(broker.sqs_address().unwrap());
    let http = &mut connect();
    for target in ["/", "/?Action=Nonsense", "/000000000000/errors", "/?Action=ListQueues&MaxResults=many"] {
        note(said, &http.get(target));
    }
    let (form, json) =
        ("content-type: application/x-www-form-urlencoded\r\n", "x-amz-target: AmazonSQS.ListQueues\r\n");
    for (method, target, headers, body) in [
        ("POST", "/", form, &b"Action=ListQueues&QueueNamePrefix=%FF"[..]),
        ("PUT", "/", json, b"{}"),
        ("POST", "/", json, &vec![b' '; 5 << 20]),
    ] {
        let mut http = connect();
        let request = http.request(method, target, headers, body);
        // What is too long need not be taken whole.
        let _ = std::io::Write::write_all(&mut http.stream, &request);
        note(said, &http.read());
    }
}

fn create(http: &mut Http, name: &str, attributes: Value) -> String {
    let reply = http.json_ok("CreateQueue", json!({"QueueName": name, "Attributes": attributes}));
    reply["QueueUrl"].as_str().unwrap().to_owned()
}

/// An attribute of a queue, where it has it.
fn attribute(http: &mut Http, url: &str, name: &str) -> Option<String> {
    let reply = http.json_ok("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": [name]}));
    reply["Attributes"][name].as_str().map(str::to_owned)
}
