//! Every action of the SQS-compatible endpoint in both of its protocols, by requests written by hand.

mod common;

use common::http::Http;
use serde_json::{Value, json};
use tenpin_broker::embedded::Broker;

const BODY: &str = "one & <two>\r\n\"three\" é 🎳";
const BODY_MD5: &str = "fc029c6c5caa90d1c3ce73b5eb3b9fc9";

fn broker() -> Broker {
    let builder = Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).minute_rules(false);
    builder.start().unwrap()
}

fn connect(broker: &Broker) -> Http {
    Http::connect(broker.sqs_address().unwrap())
}

/// The path of a queue's URL.
fn path(url: &str) -> &str {
    &url[url.find("/0").unwrap()..]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn create(http: &mut Http, name: &str, attributes: Value) -> String {
    let reply = http.json_ok("CreateQueue", json!({"QueueName": name, "Attributes": attributes}));
    text(&reply["QueueUrl"]).to_owned()
}

fn receive(http: &mut Http, url: &str) -> Vec<Value> {
    let parameters = json!({
        "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0,
        "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"],
    });
    let reply = http.json_ok("ReceiveMessage", parameters);
    reply["Messages"].as_array().cloned().unwrap_or_default()
}

#[test]
fn queues_in_json() {
    let broker = broker();
    let mut http = connect(&broker);
    let address = broker.sqs_address().unwrap();
    let url = create(&mut http, "orders", json!({"VisibilityTimeout": "45"}));
    assert_eq!(url, format!("http://{address}/000000000000/orders"));
    // The same again is the same queue; another value is refused by its name.
    assert_eq!(create(&mut http, "orders", json!({"VisibilityTimeout": "45"})), url);
    let other = json!({"QueueName": "orders", "Attributes": {"VisibilityTimeout": "46"}});
    let (name, why) = http.json_refused("CreateQueue", other);
    assert_eq!(name, "QueueNameExists");
    assert!(why.contains("VisibilityTimeout"), "{why}");

    assert_eq!(http.json_ok("GetQueueUrl", json!({"QueueName": "orders"}))["QueueUrl"], json!(url));
    let reply = http.json("GetQueueUrl", json!({"QueueName": "nothing"}));
    assert_eq!(reply.status, 400);
    let header = reply.header("x-amzn-query-error");
    assert_eq!(header, Some("AWS.SimpleQueueService.NonExistentQueue;Sender"));
    assert_eq!(reply.json()["message"], "The specified queue does not exist.");

    let tagged = json!({"QueueName": "others", "tags": {"team": "two"}});
    let others = http.json_ok("CreateQueue", tagged)["QueueUrl"].clone();
    assert_eq!(http.json_ok("ListQueueTags", json!({"QueueUrl": others}))["Tags"], json!({"team": "two"}));
    create(&mut http, "orders-2", json!({}));
    let listed = http.json_ok("ListQueues", json!({"QueueNamePrefix": "order"}));
    assert_eq!(listed["QueueUrls"].as_array().unwrap().len(), 2);
    assert!(listed.get("NextToken").is_none(), "{listed}");
    let first = http.json_ok("ListQueues", json!({"MaxResults": 2}));
    let next = text(&first["NextToken"]);
    let second = http.json_ok("ListQueues", json!({"MaxResults": 2, "NextToken": next}));
    assert_eq!(second["QueueUrls"].as_array().unwrap().len(), 1);
    let (name, _) = http.json_refused("ListQueues", json!({"MaxResults": 2, "NextToken": "*"}));
    assert_eq!(name, "InvalidParameterValueException");

    let set = json!({"QueueUrl": url, "Attributes": {"DelaySeconds": "5", "MaximumMessageSize": "2048"}});
    assert_eq!(http.json_ok("SetQueueAttributes", set), Value::Null);
    let asked =
        json!({"QueueUrl": url, "AttributeNames": ["DelaySeconds", "QueueArn", "SqsManagedSseEnabled"]});
    let expected = json!({
        "DelaySeconds": "5", "QueueArn": "arn:aws:sqs:us-east-1:000000000000:orders",
        "SqsManagedSseEnabled": "true",
    });
    assert_eq!(http.json_ok("GetQueueAttributes", asked)["Attributes"], expected);
    let none = http.json_ok("GetQueueAttributes", json!({"QueueUrl": url}));
    assert!(none.get("Attributes").is_none_or(|attributes| attributes == &json!({})), "{none}");
    for (attributes, error) in [
        (json!({"Colour": "red"}), "InvalidAttributeName"),
        (json!({"DelaySeconds": "901"}), "InvalidAttributeValue"),
        (json!({"DelaySeconds": "soon"}), "InvalidAttributeValue"),
    ] {
        let set = json!({"QueueUrl": url, "Attributes": attributes});
        assert_eq!(http.json_refused("SetQueueAttributes", set).0, error);
    }

    http.json_ok("TagQueue", json!({"QueueUrl": url, "Tags": {"team": "one", "cost": "2"}}));
    http.json_ok("UntagQueue", json!({"QueueUrl": url, "TagKeys": ["cost"]}));
    assert_eq!(http.json_ok("ListQueueTags", json!({"QueueUrl": url}))["Tags"], json!({"team": "one"}));

    let permission = json!({
        "QueueUrl": url, "Label": "share", "AWSAccountIds": ["123456789012"], "Actions": ["SendMessage"],
    });
    http.json_ok("AddPermission", permission.clone());
    assert_eq!(http.json_refused("AddPermission", permission).0, "InvalidParameterValueException");
    let policy = http.json_ok("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": ["Policy"]}));
    let policy: Value = serde_json::from_str(text(&policy["Attributes"]["Policy"])).unwrap();
    assert_eq!(policy["Statement"][0]["Action"], "SQS:SendMessage");
    http.json_ok("RemovePermission", json!({"QueueUrl": url, "Label": "share"}));

    assert_eq!(http.json_ok("DeleteQueue", json!({"QueueUrl": url})), Value::Null);
    assert_eq!(
        http.json_refused("SendMessage", json!({"QueueUrl": url, "MessageBody": "x"})).0,
        "QueueDoesNotExist"
    );
    // Made again it has another number, which is found out without the client's help.
    create(&mut http, "orders", json!({}));
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "x"}));
}

#[test]
fn messages_in_json() {
    let broker = broker();
    let mut http = connect(&broker);
    let url = create(&mut http, "q", json!({}));
    let sent = http.json_ok(
        "SendMessage",
        json!({
            "QueueUrl": url, "MessageBody": BODY,
            "MessageAttributes": {
                "text": {"DataType": "String.label", "StringValue": "value"},
                "number": {"DataType": "Number", "StringValue": "17"},
                "bytes": {"DataType": "Binary", "BinaryValue": "AAEC/w=="},
            },
            "MessageSystemAttributes": {
                "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"},
            },
        }),
    );
    assert_eq!(sent["MD5OfMessageBody"], BODY_MD5);
    assert_eq!(sent["MD5OfMessageSystemAttributes"], "62a56dd927315f2b2e12832b84617ea5");
    let received = receive(&mut http, &url);
    let message = &received[0];
    assert_eq!(message["MessageId"], sent["MessageId"]);
    assert_eq!(message["Body"], BODY);
    assert_eq!(message["MD5OfBody"], BODY_MD5);
    assert_eq!(message["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    let bytes = json!({"DataType": "Binary", "BinaryValue": "AAEC/w=="});
    assert_eq!(message["MessageAttributes"]["bytes"], bytes);
    assert_eq!(
        message["MessageAttributes"]["text"],
        json!({"DataType": "String.label", "StringValue": "value"})
    );
    let attributes = &message["Attributes"];
    assert_eq!(attributes["AWSTraceHeader"], "Root=1-5759e988-bd862e3fe1be46a994272793");
    assert_eq!(attributes["ApproximateReceiveCount"], "1");
    assert!(text(&attributes["SentTimestamp"]).parse::<u64>().unwrap() > 1_700_000_000_000);
    assert!(attributes.get("SenderId").is_some() && attributes.get("SequenceNumber").is_none());

    // Visible at once, and received with a filter.
    let handle = text(&message["ReceiptHandle"]);
    let change = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0});
    http.json_ok("ChangeMessageVisibility", change.clone());
    let reply = http.json("ChangeMessageVisibility", change);
    assert_eq!(reply.header("x-amzn-query-error"), Some("AWS.SimpleQueueService.MessageNotInflight;Sender"));
    let filtered = json!({
        "QueueUrl": url, "MessageAttributeNames": ["te.*"], "AttributeNames": ["ApproximateReceiveCount"],
    });
    let message = http.json_ok("ReceiveMessage", filtered)["Messages"][0].clone();
    assert_eq!(message["Attributes"], json!({"ApproximateReceiveCount": "2"}));
    assert_eq!(message["MessageAttributes"].as_object().unwrap().len(), 1);
    assert_ne!(message["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    http.json_ok("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle}));
    // Once more is success, and what is no handle is not.
    http.json_ok("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle}));
    let change = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 60});
    let gone = format!(
        "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
         available for visibility timeout change."
    );
    assert_eq!(
        http.json_refused("ChangeMessageVisibility", change),
        ("InvalidParameterValueException".to_owned(), gone)
    );
    let reply = http.json("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": "nonsense"}));
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json()["message"],
        "The input receipt handle \"nonsense\" is not a valid receipt handle."
    );
    let other = create(&mut http, "other", json!({}));
    let (name, why) = http.json_refused("DeleteMessage", json!({"QueueUrl": other, "ReceiptHandle": handle}));
    assert!(name == "ReceiptHandleIsInvalid" && why.contains("not valid for this queue"), "{name}: {why}");

    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "to be purged"}));
    http.json_ok("PurgeQueue", json!({"QueueUrl": url}));
    assert!(receive(&mut http, &url).is_empty());
    for (parameters, error) in [
        (json!({"QueueUrl": url}), "MissingRequiredParameterException"),
        (json!({"QueueUrl": url, "MessageBody": "\u{1}"}), "InvalidMessageContents"),
        (json!({"QueueUrl": url, "MessageBody": "x", "DelaySeconds": 901}), "InvalidParameterValueException"),
        (json!({"MessageBody": "x"}), "MissingRequiredParameterException"),
        (
            json!({"QueueUrl": format!("http://h/{}", "a".repeat(70_000)), "MessageBody": "x"}),
            "QueueDoesNotExist",
        ),
    ] {
        assert_eq!(http.json_refused("SendMessage", parameters).0, error);
    }
}

#[test]
fn batches_in_json() {
    let broker = broker();
    let mut http = connect(&broker);
    let url = create(&mut http, "q", json!({}));
    let sent = http.json_ok(
        "SendMessageBatch",
        json!({"QueueUrl": url, "Entries": [
            {"Id": "a", "MessageBody": "first"},
            {"Id": "b", "MessageBody": "\u{0}"},
            {"Id": "c", "MessageBody": "third", "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "1"}}},
        ]}),
    );
    let ids = |list: &Value| -> Vec<String> {
        list.as_array()
            .map_or(Vec::new(), |list| list.iter().map(|entry| text(&entry["Id"]).to_owned()).collect())
    };
    assert_eq!(
        (ids(&sent["Successful"]), ids(&sent["Failed"])),
        (vec!["a".into(), "c".into()], vec!["b".into()])
    );
    assert_eq!(sent["Failed"][0]["Code"], "InvalidMessageContents");
    assert_eq!(sent["Failed"][0]["SenderFault"], true);

    let received = receive(&mut http, &url);
    assert_eq!(received.len(), 2);
    let changes: Vec<_> = received
        .iter()
        .enumerate()
        .map(|(id, message)| json!({"Id": id.to_string(), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 60}))
        .chain([json!({"Id": "bad", "ReceiptHandle": "bad", "VisibilityTimeout": 60})])
        .collect();
    let changed = http.json_ok("ChangeMessageVisibilityBatch", json!({"QueueUrl": url, "Entries": changes}));
    assert_eq!((ids(&changed["Successful"]).len(), ids(&changed["Failed"])), (2, vec!["bad".into()]));
    let deletes: Vec<_> = received
        .iter()
        .enumerate()
        .map(|(id, message)| json!({"Id": id.to_string(), "ReceiptHandle": message["ReceiptHandle"]}))
        .collect();
    let deleted = http.json_ok("DeleteMessageBatch", json!({"QueueUrl": url, "Entries": deletes}));
    assert_eq!(ids(&deleted["Successful"]).len(), 2);

    let many: Vec<_> = (0..11).map(|id| json!({"Id": id.to_string(), "MessageBody": "x"})).collect();
    let (name, why) = http.json_refused("SendMessageBatch", json!({"QueueUrl": url, "Entries": many}));
    assert_eq!(name, "TooManyEntriesInBatchRequest");
    assert_eq!(why, "Maximum number of entries per request are 10. You have sent 11.");
    let twice = json!([{"Id": "a", "MessageBody": "x"}, {"Id": "a", "MessageBody": "x"}]);
    let (name, _) = http.json_refused("SendMessageBatch", json!({"QueueUrl": url, "Entries": twice}));
    assert_eq!(name, "BatchEntryIdsNotDistinct");
    let large = "x".repeat(600_000);
    let large = json!([{"Id": "a", "MessageBody": large}, {"Id": "b", "MessageBody": large}]);
    let (name, why) = http.json_refused("SendMessageBatch", json!({"QueueUrl": url, "Entries": large}));
    assert_eq!(name, "BatchRequestTooLong");
    assert_eq!(why, "Batch requests cannot be longer than 1048576 bytes. You have sent 1200000 bytes.");
    let (_, why) =
        http.json_refused("SendMessage", json!({"QueueUrl": url, "MessageBody": "x".repeat(1 << 20) + "x"}));
    assert_eq!(
        why,
        "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."
    );
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "x".repeat(1 << 20)}));
    assert_eq!(text(&receive(&mut http, &url)[0]["Body"]).len(), 1 << 20);
}

#[test]
fn fifo_queues_dead_letters_and_move_tasks() {
    let broker = broker();
    let mut http = connect(&broker);
    let dead = create(&mut http, "dead", json!({}));
    let arn = "arn:aws:sqs:us-east-1:000000000000:dead";
    let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 1}).to_string();
    let url = create(&mut http, "source", json!({"RedrivePolicy": redrive, "VisibilityTimeout": "0"}));
    let sources = http.json_ok("ListDeadLetterSourceQueues", json!({"QueueUrl": dead}));
    assert_eq!(sources["queueUrls"], json!([url]));
    let second = create(&mut http, "source-2", json!({"RedrivePolicy": redrive}));
    let one = json!({"QueueUrl": dead, "MaxResults": 1});
    let page = http.json_ok("ListDeadLetterSourceQueues", one);
    assert_eq!(page["queueUrls"], json!([url]));
    let next = json!({"QueueUrl": dead, "MaxResults": 1, "NextToken": page["NextToken"]});
    assert_eq!(http.json_ok("ListDeadLetterSourceQueues", next), json!({"queueUrls": [second]}));
    http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": "poison"}));
    assert_eq!(receive(&mut http, &url).len(), 1);
    assert!(receive(&mut http, &url).is_empty());
    let letters = json!({
        "QueueUrl": dead, "WaitTimeSeconds": 20, "VisibilityTimeout": 0, "AttributeNames": ["All"],
    });
    let letter = http.json_ok("ReceiveMessage", letters)["Messages"][0].clone();
    assert_eq!(letter["Attributes"]["DeadLetterQueueSourceArn"], "arn:aws:sqs:us-east-1:000000000000:source");

    let started = http.json_ok("StartMessageMoveTask", json!({"SourceArn": arn}));
    assert!(!text(&started["TaskHandle"]).is_empty());
    common::wait_until("the task has moved the message", || {
        let tasks = http.json_ok("ListMessageMoveTasks", json!({"SourceArn": arn}));
        tasks["Results"][0]["Status"] == "COMPLETED"
    });
    let tasks = http.json_ok("ListMessageMoveTasks", json!({"SourceArn": arn}));
    assert_eq!(tasks["Results"][0]["ApproximateNumberOfMessagesMoved"], 1);
    assert_eq!(tasks["Results"][0]["SourceArn"], arn);
    assert_eq!(receive(&mut http, &url).len(), 1, "it is back");
    let cancelled = http.json("CancelMessageMoveTask", json!({"TaskHandle": started["TaskHandle"]}));
    assert!((400..500).contains(&cancelled.status), "it is over: {cancelled:?}");
    let missing = "arn:aws:sqs:us-east-1:000000000000:missing";
    let reply = http.json("StartMessageMoveTask", json!({"SourceArn": missing}));
    assert_eq!(
        (reply.status, reply.header("x-amzn-query-error")),
        (404, Some("ResourceNotFoundException;Sender"))
    );

    let fifo = create(&mut http, "q.fifo", json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"}));
    let send = json!({"QueueUrl": fifo, "MessageBody": "first", "MessageGroupId": "g"});
    let sent = http.json_ok("SendMessage", send.clone());
    assert_eq!(text(&sent["SequenceNumber"]).len(), 20);
    assert_eq!(http.json_ok("SendMessage", send)["SequenceNumber"], sent["SequenceNumber"], "a duplicate");
    // One with another body, since the id is given: the digest is that of what was asked now.
    let digest = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    let other = json!({
        "QueueUrl": fifo, "MessageBody": "other", "MessageGroupId": "g", "MessageDeduplicationId": digest,
        "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "1"}},
    });
    let duplicate = http.json_ok("SendMessage", other);
    assert_eq!(duplicate["MessageId"], sent["MessageId"]);
    assert_eq!(duplicate["MD5OfMessageBody"], "795f3202b17cb6bc3d4b771d8c6c9eaf");
    assert!(duplicate["MD5OfMessageAttributes"].is_string(), "{duplicate}");
    let (name, why) = http.json_refused("SendMessage", json!({"QueueUrl": fifo, "MessageBody": "no group"}));
    assert_eq!(
        (&name[..], &why[..]),
        ("MissingRequiredParameterException", "The request must contain the parameter MessageGroupId.")
    );
    let attempt = json!({
        "QueueUrl": fifo, "ReceiveRequestAttemptId": "attempt-1", "AttributeNames": ["All"], "MaxNumberOfMessages": 10,
    });
    let first = http.json_ok("ReceiveMessage", attempt.clone());
    let message = &first["Messages"][0];
    assert_eq!(message["Attributes"]["MessageGroupId"], "g");
    assert_eq!(message["Attributes"]["SequenceNumber"], sent["SequenceNumber"]);
    assert_eq!(text(&message["Attributes"]["MessageDeduplicationId"]).len(), 64);
    let again = http.json_ok("ReceiveMessage", attempt);
    assert_eq!(again["Messages"][0]["ReceiptHandle"], message["ReceiptHandle"], "the same attempt");
}

#[test]
fn queues_and_messages_by_forms() {
    let broker = broker();
    let mut http = connect(&broker);
    let create = [
        ("QueueName", "q"),
        ("Attribute.1.Name", "DelaySeconds"),
        ("Attribute.1.Value", "0"),
        ("Tag.1.Key", "team"),
        ("Tag.1.Value", "one"),
    ];
    let url = http.query_ok("/", "CreateQueue", &create).element("QueueUrl").unwrap();
    let path = path(&url).to_owned();
    assert_eq!(
        http.query_ok("/", "GetQueueUrl", &[("QueueName", "q")]).element("QueueUrl"),
        Some(url.clone())
    );
    assert!(http.query_ok("/", "ListQueues", &[]).body.contains(&url));
    let missing = http.query("/", "GetQueueUrl", &[("QueueName", "none")]);
    assert_eq!(missing.element("Code").as_deref(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    assert_eq!(
        missing.element("Message").as_deref(),
        Some("The specified queue does not exist for this wsdl version.")
    );
    assert!(missing.element("RequestId").is_some() && missing.element("Type").as_deref() == Some("Sender"));

    let set = [("Attribute.Name", "VisibilityTimeout"), ("Attribute.Value", "44")];
    http.query_ok(&path, "SetQueueAttributes", &set);
    let attributes = http.query_ok(&path, "GetQueueAttributes", &[("AttributeName.1", "VisibilityTimeout")]);
    assert!(attributes.body.contains("<Name>VisibilityTimeout</Name><Value>44</Value>"), "{attributes:?}");
    http.query_ok(&path, "TagQueue", &[("Tag.1.Key", "a"), ("Tag.1.Value", "b")]);
    http.query_ok(&path, "UntagQueue", &[("TagKey.1", "team")]);
    let tags = http.query_ok(&path, "ListQueueTags", &[]);
    assert_eq!((tags.element("Key").as_deref(), tags.element("Value").as_deref()), (Some("a"), Some("b")));
    let permission = [("Label", "share"), ("AWSAccountId.1", "123456789012"), ("ActionName.1", "*")];
    http.query_ok(&path, "AddPermission", &permission);
    http.query_ok(&path, "RemovePermission", &[("Label", "share")]);

    let send = [
        ("MessageBody", BODY),
        ("MessageAttribute.1.Name", "n"),
        ("MessageAttribute.1.Value.DataType", "Number"),
        ("MessageAttribute.1.Value.StringValue", "17"),
    ];
    let sent = http.query_ok(&path, "SendMessage", &send);
    assert_eq!(sent.element("MD5OfMessageBody").as_deref(), Some(BODY_MD5));
    let receive =
        [("AttributeName.1", "All"), ("MessageAttributeName.1", "All"), ("MaxNumberOfMessages", "10")];
    let received = http.query_ok(&path, "ReceiveMessage", &receive);
    assert_eq!(received.element("Body").as_deref(), Some(BODY));
    assert_eq!(received.element("MD5OfMessageAttributes"), sent.element("MD5OfMessageAttributes"));
    let handle = received.element("ReceiptHandle").unwrap();
    http.query_ok(
        &path,
        "ChangeMessageVisibility",
        &[("ReceiptHandle", &handle), ("VisibilityTimeout", "60")],
    );
    http.query_ok(&path, "DeleteMessage", &[("ReceiptHandle", &handle)]);

    let batch = [
        ("SendMessageBatchRequestEntry.1.Id", "a"),
        ("SendMessageBatchRequestEntry.1.MessageBody", "x"),
        ("SendMessageBatchRequestEntry.2.Id", "b"),
        ("SendMessageBatchRequestEntry.2.MessageBody", ""),
    ];
    let sent = http.query_ok(&path, "SendMessageBatch", &batch);
    assert!(
        sent.body.contains("<SendMessageBatchResultEntry>") && sent.body.contains("<BatchResultErrorEntry>")
    );
    let handle = http.query_ok(&path, "ReceiveMessage", &[]).element("ReceiptHandle").unwrap();
    let change = [
        ("ChangeMessageVisibilityBatchRequestEntry.1.Id", "a"),
        ("ChangeMessageVisibilityBatchRequestEntry.1.ReceiptHandle", &handle),
        ("ChangeMessageVisibilityBatchRequestEntry.1.VisibilityTimeout", "5"),
    ];
    let changed = http.query_ok(&path, "ChangeMessageVisibilityBatch", &change);
    assert!(changed.body.contains("ChangeMessageVisibilityBatchResultEntry"), "{changed:?}");
    let delete = [
        ("DeleteMessageBatchRequestEntry.1.Id", "a"),
        ("DeleteMessageBatchRequestEntry.1.ReceiptHandle", &handle),
    ];
    assert!(
        http.query_ok(&path, "DeleteMessageBatch", &delete).body.contains("DeleteMessageBatchResultEntry")
    );
    http.query_ok(&path, "PurgeQueue", &[]);
    assert!(http.query_ok(&path, "ListDeadLetterSourceQueues", &[]).element("QueueUrl").is_none());
    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    let refused = http.query("/", "StartMessageMoveTask", &[("SourceArn", arn)]);
    assert_eq!(
        refused.element("Message").as_deref(),
        Some("Source queue must be configured as a Dead Letter Queue.")
    );
    http.query_ok("/", "ListMessageMoveTasks", &[("SourceArn", arn)]);
    assert_eq!(http.query("/", "CancelMessageMoveTask", &[("TaskHandle", "x")]).status / 100, 4);
    http.query_ok(&path, "DeleteQueue", &[]);
    assert_eq!(http.query(&path, "PurgeQueue", &[]).status, 400);
}

#[test]
fn the_protocol_is_what_the_request_is() {
    let broker = broker();
    let mut http = connect(&broker);
    let url = create(&mut http, "q", json!({}));
    let path = path(&url).to_owned();
    // GET, with the queue in the path or in a parameter, which wins.
    assert_eq!(http.get(&format!("{path}?Action=SendMessage&MessageBody=a%20b")).status, 200);
    let received = http.get(&format!("/?Action=ReceiveMessage&QueueUrl={}", url.replace('/', "%2F")));
    assert_eq!(received.element("Body").as_deref(), Some("a b"));
    create(&mut http, "other", json!({}));
    let other = url.replace("/q", "/other").replace('/', "%2F");
    let asked = format!("{path}?Action=GetQueueAttributes&AttributeName=QueueArn&QueueUrl={other}");
    let shown = http.get(&asked).element("Value");
    assert_eq!(shown.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:other"));
    // Without an action, and with one that is not for queues.
    assert_eq!(http.get(&path).status, 404);
    assert!(http.get("/?x=y").element("Code").is_some());
    let reply = http.get(&format!("{path}?Action=ListQueues"));
    assert_eq!((reply.status, reply.element("Code").as_deref()), (400, Some("InvalidAction")));
    let reply = http.get("/?Action=Dance");
    assert_eq!((reply.status, reply.element("Code").as_deref()), (400, Some("InvalidAction")));
    // Accept: application/json.
    http.headers = "accept: application/json\r\n".into();
    let listed = http.get("/?Action=ListQueues").json();
    assert!(listed["ListQueuesResponse"]["ResponseMetadata"]["RequestId"].is_string(), "{listed}");
    http.headers.clear();
    // JSON to the queue's URL.
    let headers = "x-amz-target: AmazonSQS.PurgeQueue\r\ncontent-type: application/x-amz-json-1.0\r\n";
    let bytes = http.request("POST", &path, headers, b"{}");
    http.write(&bytes);
    let reply = http.read();
    assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{reply:?}");
    assert!(reply.header("x-amzn-requestid").is_some());
    let health = http.get("/health");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
    let only_head = http.request("HEAD", "/health", "", b"");
    http.write(&only_head);
    assert_eq!(http.read().status, 200);
}

/// Account and region come from the credential scope, and keep queues of one name apart.
#[test]
fn accounts_and_regions_keep_apart() {
    let broker = broker();
    let mut http = connect(&broker);
    let scope = |key: &str, region: &str| {
        format!(
            "authorization: AWS4-HMAC-SHA256 Credential={key}/20261128/{region}/sqs/aws4_request, \
             SignedHeaders=host, Signature=00\r\n"
        )
    };
    let mut urls = Vec::new();
    for (key, region) in
        [("AKIDEXAMPLE", "us-east-1"), ("123456789012", "us-east-1"), ("123456789012", "eu-west-1")]
    {
        http.headers = scope(key, region);
        let url = create(&mut http, "q", json!({}));
        http.json_ok("SendMessage", json!({"QueueUrl": url, "MessageBody": format!("{key} {region}")}));
        let arn =
            http.json_ok("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": ["QueueArn"]}));
        assert!(text(&arn["Attributes"]["QueueArn"]).contains(region), "{arn}");
        urls.push((key, region, url));
    }
    for (key, region, url) in &urls {
        http.headers = scope(key, region);
        let received = receive(&mut http, url);
        assert_eq!(received.len(), 1);
        assert_eq!(received[0]["Body"], json!(format!("{key} {region}")));
    }
    // Another account's queue, by its owner.
    http.headers = scope("AKIDEXAMPLE", "us-east-1");
    let owner = json!({"QueueName": "q", "QueueOwnerAWSAccountId": "123456789012"});
    assert!(text(&http.json_ok("GetQueueUrl", owner)["QueueUrl"]).ends_with("/123456789012/q"));
    // An empty owner is none.
    http.headers = scope("123456789012", "us-east-1");
    let nobody = json!({"QueueName": "q", "QueueOwnerAWSAccountId": ""});
    assert!(text(&http.json_ok("GetQueueUrl", nobody)["QueueUrl"]).ends_with("/123456789012/q"));
}
