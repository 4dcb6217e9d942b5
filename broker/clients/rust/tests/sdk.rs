//! Amazon's SDK for Rust through every action of the API, as programs use it: only the endpoint is ours.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sqs::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents};
use aws_sdk_sqs::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::RequestId;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use aws_sdk_sqs::operation::create_queue::CreateQueueError;
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::operation::list_message_move_tasks::ListMessageMoveTasksError;
use aws_sdk_sqs::operation::purge_queue::PurgeQueueError;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::operation::set_queue_attributes::SetQueueAttributesError;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use aws_sdk_sqs::{Client, Config};
use tenpin_broker::embedded::Broker;
use tenpin_broker::sqs::{ActionName, Digest, md5_of_attributes, md5_of_body, md5_of_system_attributes};

/// Remembers which actions the SDK has asked for.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<BTreeSet<String>>>);

impl Intercept for Asked {
    fn name(&self) -> &'static str {
        "Asked"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").ok_or("a request without its target")?;
        let action = target.strip_prefix("AmazonSQS.").ok_or("a request for something else")?;
        self.0.lock().unwrap().insert(action.to_owned());
        Ok(())
    }
}

fn broker() -> Broker {
    Broker::builder().sqs_listen(([127, 0, 0, 1], 0).into()).start().unwrap()
}

fn client(broker: &Broker, asked: Asked) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "tests"))
        .endpoint_url(format!("http://{}", broker.sqs_address().unwrap()))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(RetryConfig::disabled())
        .interceptor(asked)
        .build();
    Client::from_conf(config)
}

async fn create(client: &Client, name: &str) -> String {
    client.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap()
}

async fn arn(client: &Client, url: &str) -> String {
    let names = QueueAttributeName::QueueArn;
    let reply = client.get_queue_attributes().queue_url(url).attribute_names(names).send().await.unwrap();
    reply.attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
}

/// Waits for messages.
async fn receive(client: &Client, url: &str, count_max: i32) -> Vec<Message> {
    let receive = client.receive_message().queue_url(url).max_number_of_messages(count_max);
    let receive = receive.wait_time_seconds(20).message_attribute_names("All");
    let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All);
    receive.send().await.unwrap().messages.unwrap_or_default()
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap()
}

fn hex(digest: Digest) -> String {
    digest.to_string()
}

#[tokio::test]
async fn every_action() {
    let broker = broker();
    let asked = Asked::default();
    let client = client(&broker, asked.clone());
    queues(&client).await;
    tags_and_permissions(&client).await;
    messages(&client).await;
    batches(&client).await;
    fifo(&client).await;
    dead_letters(&client).await;
    let all: BTreeSet<String> = ActionName::ALL.iter().map(|action| action.as_str().to_owned()).collect();
    assert_eq!(*asked.0.lock().unwrap(), all);
    assert_eq!(all.len(), 23);
}

async fn queues(client: &Client) {
    use QueueAttributeName::{
        ApproximateNumberOfMessages, DelaySeconds, MessageRetentionPeriod, VisibilityTimeout,
    };
    let create = client.create_queue().queue_name("orders").attributes(VisibilityTimeout, "45");
    let url = create.send().await.unwrap().queue_url.unwrap();
    assert!(url.ends_with("/000000000000/orders"), "{url}");
    let found = client.get_queue_url().queue_name("orders").send().await.unwrap();
    assert_eq!(found.queue_url(), Some(&url[..]));
    self::create(client, "orders-2").await;
    let mut listed = Vec::new();
    let mut pages = client.list_queues().queue_name_prefix("orders").max_results(1).into_paginator().send();
    while let Some(page) = pages.next().await {
        listed.extend(page.unwrap().queue_urls.unwrap_or_default());
    }
    assert_eq!(listed, [url.clone(), format!("{url}-2")]);
    let set = client.set_queue_attributes().queue_url(&url).attributes(DelaySeconds, "7");
    set.attributes(MessageRetentionPeriod, "86400").send().await.unwrap();
    let all = QueueAttributeName::All;
    let shown = client.get_queue_attributes().queue_url(&url).attribute_names(all).send().await.unwrap();
    let shown = shown.attributes.unwrap();
    assert_eq!(shown[&VisibilityTimeout], "45");
    assert_eq!(shown[&DelaySeconds], "7");
    assert_eq!(shown[&MessageRetentionPeriod], "86400");
    assert_eq!(shown[&ApproximateNumberOfMessages], "0");
    // Every name is one that the SDK knows.
    for name in shown.keys() {
        assert!(QueueAttributeName::values().contains(&name.as_str()), "{name:?}");
    }
    client.send_message().queue_url(&url).message_body("x").send().await.unwrap();
    client.purge_queue().queue_url(&url).send().await.unwrap();
    let again = client.purge_queue().queue_url(&url).send().await.unwrap_err().into_service_error();
    assert!(matches!(again, PurgeQueueError::PurgeQueueInProgress(_)), "{again:?}");
    client.delete_queue().queue_url(&url).send().await.unwrap();
    let again = client.create_queue().queue_name("orders").send().await.unwrap_err().into_service_error();
    assert!(matches!(again, CreateQueueError::QueueDeletedRecently(_)), "{again:?}");
}

async fn tags_and_permissions(client: &Client) {
    let url = create(client, "tagged").await;
    client.tag_queue().queue_url(&url).tags("team", "one").tags("cost", "two").send().await.unwrap();
    client.untag_queue().queue_url(&url).tag_keys("cost").send().await.unwrap();
    let tags = client.list_queue_tags().queue_url(&url).send().await.unwrap().tags.unwrap();
    assert_eq!(tags, HashMap::from([("team".to_owned(), "one".to_owned())]));
    let add = client.add_permission().queue_url(&url).label("share").aws_account_ids("123456789012");
    add.actions("SendMessage").actions("ReceiveMessage").send().await.unwrap();
    let policy = async || {
        let names = QueueAttributeName::Policy;
        let reply = client.get_queue_attributes().queue_url(&url).attribute_names(names).send().await;
        let policy = reply.unwrap().attributes.unwrap_or_default().remove(&QueueAttributeName::Policy);
        policy.unwrap_or_default()
    };
    assert!(policy().await.contains("SQS:ReceiveMessage"), "{}", policy().await);
    client.remove_permission().queue_url(&url).label("share").send().await.unwrap();
    assert!(!policy().await.contains("share"), "{}", policy().await);
}

async fn messages(client: &Client) {
    const BODY: &str = "one & <two>\r\n\"three\" é 🎳";
    let url = create(client, "messages").await;
    let bytes =
        MessageAttributeValue::builder().data_type("Binary.png").binary_value(Blob::new([0, 255, 16]));
    let number = MessageAttributeValue::builder().data_type("Number").string_value("-12.5");
    let attributes = HashMap::from([
        ("bytes".to_owned(), bytes.build().unwrap()),
        ("number".to_owned(), number.build().unwrap()),
        ("text".to_owned(), text("a <value>")),
    ]);
    let trace = MessageSystemAttributeValue::builder().data_type("String").string_value("Root=1-2-3");
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body(BODY)
        .set_message_attributes(Some(attributes.clone()))
        .message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, trace.build().unwrap())
        .send()
        .await
        .unwrap();
    let in_order: [(&str, &str, &[u8]); 3] = [
        ("bytes", "Binary.png", &[0, 255, 16]),
        ("number", "Number", b"-12.5"),
        ("text", "String", b"a <value>"),
    ];
    let in_order =
        in_order.map(|(name, data_type, value)| tenpin_protocol::UserAttribute { name, data_type, value });
    // The SDK for Rust leaves the comparison of digests to its users.
    let of_body = "fc029c6c5caa90d1c3ce73b5eb3b9fc9";
    assert_eq!(hex(md5_of_body(BODY.as_bytes())), of_body);
    let of_attributes = hex(md5_of_attributes(in_order).unwrap());
    assert_eq!(sent.md5_of_message_body(), Some(of_body));
    assert_eq!(sent.md5_of_message_attributes(), Some(&of_attributes[..]));
    let of_trace = hex(md5_of_system_attributes(Some("Root=1-2-3")).unwrap());
    assert_eq!(sent.md5_of_message_system_attributes(), Some(&of_trace[..]));

    let [message] = &receive(client, &url, 1).await[..] else { panic!("not one message") };
    assert_eq!(message.body(), Some(BODY));
    assert_eq!(message.message_id(), sent.message_id());
    assert_eq!(message.md5_of_body(), Some(of_body));
    assert_eq!(message.md5_of_message_attributes(), Some(&of_attributes[..]));
    assert_eq!(message.message_attributes(), Some(&attributes));
    let system = message.attributes().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::AwsTraceHeader], "Root=1-2-3");
    assert_eq!(system[&MessageSystemAttributeName::ApproximateReceiveCount], "1");
    for name in system.keys() {
        assert!(MessageSystemAttributeName::values().contains(&name.as_str()), "{name:?}");
    }

    let handle = message.receipt_handle().unwrap();
    let change = |handle: &str, seconds| {
        let change = client.change_message_visibility().queue_url(&url).receipt_handle(handle);
        change.visibility_timeout(seconds).send()
    };
    change(handle, 0).await.unwrap();
    let error = change(handle, 10).await.unwrap_err().into_service_error();
    assert!(matches!(error, ChangeMessageVisibilityError::MessageNotInflight(_)), "{error:?}");
    let [again] = &receive(client, &url, 1).await[..] else { panic!("not one message") };
    let count = &again.attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount];
    assert_eq!(count, "2");
    let delete = client.delete_message().queue_url(&url);
    delete.receipt_handle(again.receipt_handle().unwrap()).send().await.unwrap();
    let empty = client.receive_message().queue_url(&url).send().await.unwrap();
    assert_eq!(empty.messages, None);
}

async fn batches(client: &Client) {
    let url = create(client, "batches").await;
    let entry = |id: &str, body: &str| {
        SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
    };
    let send = client.send_message_batch().queue_url(&url).entries(entry("good", "one"));
    let sent = send.entries(entry("bad", "\u{1}")).entries(entry("also", "two")).send().await.unwrap();
    assert_eq!(sent.successful.iter().map(|entry| &entry.id[..]).collect::<Vec<_>>(), ["good", "also"]);
    assert_eq!(sent.successful[0].md5_of_message_body, hex(md5_of_body(b"one")));
    let [failed] = &sent.failed[..] else { panic!("{sent:?}") };
    assert_eq!((failed.id(), failed.code(), failed.sender_fault()), ("bad", "InvalidMessageContents", true));

    let mut messages = Vec::new();
    while messages.len() < 2 {
        messages.extend(receive(client, &url, 10).await);
    }
    let handle = |place: usize| messages[place].receipt_handle().unwrap();
    let change = |id: &str, handle: &str, seconds| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(handle);
        entry.visibility_timeout(seconds).build().unwrap()
    };
    let changed = client
        .change_message_visibility_batch()
        .queue_url(&url)
        .entries(change("a", handle(0), 100))
        .entries(change("b", handle(1), 43_201))
        .send()
        .await
        .unwrap();
    assert_eq!(changed.successful.iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["a"]);
    assert_eq!((changed.failed[0].id(), changed.failed[0].code()), ("b", "InvalidParameterValue"));
    let delete = |id: &str, handle: &str| {
        DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build().unwrap()
    };
    let deleted = client
        .delete_message_batch()
        .queue_url(&url)
        .entries(delete("a", handle(0)))
        .entries(delete("b", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.successful.iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["a"]);
    assert_eq!((deleted.failed[0].id(), deleted.failed[0].code()), ("b", "ReceiptHandleIsInvalid"));
}

async fn fifo(client: &Client) {
    let create = client.create_queue().queue_name("steps.fifo");
    let create = create.attributes(QueueAttributeName::FifoQueue, "true");
    let url = create.send().await.unwrap().queue_url.unwrap();
    let send = |body: &str, group: &str, id: &str| {
        let send = client.send_message().queue_url(&url).message_body(body);
        send.message_group_id(group).message_deduplication_id(id).send()
    };
    let first = send("0", "a", "0").await.unwrap();
    send("1", "a", "1").await.unwrap();
    let again = send("0", "a", "0").await.unwrap();
    assert_eq!(again.sequence_number(), first.sequence_number());
    assert_eq!(again.message_id(), first.message_id());
    let attempt = async || {
        let receive = client.receive_message().queue_url(&url).receive_request_attempt_id("attempt");
        receive.send().await.unwrap().messages.unwrap().remove(0)
    };
    let message = attempt().await;
    assert_eq!(message.receipt_handle(), attempt().await.receipt_handle());
    let delete = client.delete_message().queue_url(&url);
    delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
    let [message] = &receive(client, &url, 10).await[..] else { panic!("not one message") };
    let system = message.attributes().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::MessageGroupId], "a");
    assert_eq!(system[&MessageSystemAttributeName::MessageDeduplicationId], "1");
    assert_eq!(system[&MessageSystemAttributeName::SequenceNumber].len(), 20);
}

async fn dead_letters(client: &Client) {
    let (dead, url) = (create(client, "dead").await, create(client, "alive").await);
    let (dead_arn, url_arn) = (arn(client, &dead).await, arn(client, &url).await);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead_arn}","maxReceiveCount":1}}"#);
    let set = client.set_queue_attributes().queue_url(&url);
    set.attributes(QueueAttributeName::RedrivePolicy, policy).send().await.unwrap();
    for body in ["one", "two"] {
        client.send_message().queue_url(&url).message_body(body).send().await.unwrap();
        let receive = client.receive_message().queue_url(&url).visibility_timeout(0).wait_time_seconds(20);
        assert_eq!(receive.send().await.unwrap().messages.unwrap().len(), 1);
        // This one finds it dead.
        assert_eq!(client.receive_message().queue_url(&url).send().await.unwrap().messages, None);
    }
    let sources = client.list_dead_letter_source_queues().queue_url(&dead).send().await.unwrap();
    assert_eq!(sources.queue_urls(), [&url[..]]);
    // One a second: it is still at it when it is cancelled.
    let start = client.start_message_move_task().source_arn(&dead_arn).destination_arn(&url_arn);
    let task = start.max_number_of_messages_per_second(1).send().await.unwrap().task_handle.unwrap();
    let cancelled = client.cancel_message_move_task().task_handle(&task).send().await;
    if let Err(error) = &cancelled {
        // It may have been done by then.
        assert_eq!(error.code(), Some("AWS.SimpleQueueService.UnsupportedOperation"), "{error:?}");
    }
    loop {
        let listed = client.list_message_move_tasks().source_arn(&dead_arn).send().await.unwrap();
        let [found] = listed.results() else { panic!("{listed:?}") };
        assert_eq!(found.source_arn(), Some(&dead_arn[..]));
        match found.status().unwrap() {
            "RUNNING" | "CANCELLING" => tokio::time::sleep(Duration::from_millis(5)).await,
            status => break assert_eq!(status, if cancelled.is_ok() { "CANCELLED" } else { "COMPLETED" }),
        }
    }
}

/// What a program sees of an error: its type, its code, its text, the request's id and the status.
fn seen<E: ProvideErrorMetadata + std::fmt::Debug>(error: &SdkError<E>) -> (Option<&str>, Option<&str>, u16)
where
    SdkError<E>: RequestId,
{
    assert!(error.request_id().is_some_and(|id| id.len() == 36), "{error:?}");
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    (error.code(), error.message(), status)
}

#[tokio::test]
async fn errors_have_their_types() {
    let broker = broker();
    let client = client(&broker, Asked::default());
    let url = create(&client, "q").await;
    let nowhere = url.replace("/q", "/nothing");

    let error = client.get_queue_url().queue_name("nothing").send().await.unwrap_err();
    let expected =
        (Some("AWS.SimpleQueueService.NonExistentQueue"), Some("The specified queue does not exist."), 400);
    assert_eq!(seen(&error), expected);
    assert!(matches!(error.into_service_error(), GetQueueUrlError::QueueDoesNotExist(_)));
    let error = client.send_message().queue_url(&nowhere).message_body("x").send().await.unwrap_err();
    assert_eq!(seen(&error).0, Some("AWS.SimpleQueueService.NonExistentQueue"));
    assert!(matches!(error.into_service_error(), SendMessageError::QueueDoesNotExist(_)));
    let error = client.send_message().queue_url(&url).message_body("\u{1}").send().await.unwrap_err();
    assert!(matches!(error.into_service_error(), SendMessageError::InvalidMessageContents(_)));
    let error = client.send_message().queue_url(&url).message_body("").send().await.unwrap_err();
    assert_eq!(seen(&error).0, Some("MissingParameter"));

    let create = client.create_queue().queue_name("q");
    let error = create.attributes(QueueAttributeName::DelaySeconds, "1").send().await.unwrap_err();
    assert_eq!(seen(&error).0, Some("QueueAlreadyExists"));
    assert!(matches!(error.into_service_error(), CreateQueueError::QueueNameExists(_)));
    let set = client.set_queue_attributes().queue_url(&url);
    let error = set.attributes(QueueAttributeName::DelaySeconds, "901").send().await.unwrap_err();
    assert_eq!(seen(&error).2, 400);
    assert!(matches!(error.into_service_error(), SetQueueAttributesError::InvalidAttributeValue(_)));
    let get = client.get_queue_attributes().queue_url(&url);
    let error = get.attribute_names(QueueAttributeName::from("Colour")).send().await.unwrap_err();
    assert!(matches!(error.into_service_error(), GetQueueAttributesError::InvalidAttributeName(_)));
    let delete = client.delete_message().queue_url(&url).receipt_handle("nonsense");
    let error = delete.send().await.unwrap_err();
    assert_eq!(seen(&error).0, Some("ReceiptHandleIsInvalid"));
    assert!(matches!(error.into_service_error(), DeleteMessageError::ReceiptHandleIsInvalid(_)));
    let list = client.list_message_move_tasks().source_arn("arn:aws:sqs:us-east-1:000000000000:nothing");
    let error = list.send().await.unwrap_err();
    assert!(matches!(error.into_service_error(), ListMessageMoveTasksError::ResourceNotFoundException(_)));
}

#[tokio::test]
async fn batches_that_are_none_have_their_types() {
    let broker = broker();
    let client = client(&broker, Asked::default());
    let url = create(&client, "q").await;
    let entry = |id: String, bytes| {
        SendMessageBatchRequestEntry::builder().id(id).message_body("x".repeat(bytes)).build().unwrap()
    };
    let refused = async |entries: Vec<_>| {
        let send = client.send_message_batch().queue_url(&url).set_entries(Some(entries));
        send.send().await.unwrap_err().into_service_error()
    };
    let error = refused(vec![]).await;
    assert!(matches!(error, SendMessageBatchError::EmptyBatchRequest(_)), "{error:?}");
    let error = refused((0..11).map(|n| entry(n.to_string(), 1)).collect()).await;
    assert!(matches!(error, SendMessageBatchError::TooManyEntriesInBatchRequest(_)), "{error:?}");
    let error = refused(vec![entry("a".into(), 1), entry("a".into(), 1)]).await;
    assert!(matches!(error, SendMessageBatchError::BatchEntryIdsNotDistinct(_)), "{error:?}");
    let error = refused(vec![entry("a b".into(), 1)]).await;
    assert!(matches!(error, SendMessageBatchError::InvalidBatchEntryId(_)), "{error:?}");
    let error = refused((0..2).map(|n| entry(n.to_string(), 600_000)).collect()).await;
    assert!(matches!(error, SendMessageBatchError::BatchRequestTooLong(_)), "{error:?}");
}
