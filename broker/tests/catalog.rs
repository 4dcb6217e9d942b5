//! The catalog as clients see it: tags, permissions, attributes that are texts, and dead-letter sources, over a
//! socket and across a restart.

mod common;

use tenpin_protocol::{
    AddPermissionRequest, Attribute, AttributeCode, AttributeName, AttributeValue, CreateQueueRequest,
    Entries, ErrorCode, FLAG_REPLY, Frame, GetAttributesRequest, ListDeadLetterSourcesRequest,
    ListTagsRequest, OpenRequest, RemovePermissionRequest, Request, Response, SetAttributesRequest, Tag,
    TagQueueRequest, Text, UntagQueueRequest, VERSION,
};

use crate::common::{RawConnection, RawFrame, TestBroker};

const REDRIVE: &str =
    r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":3}"#;

fn ask(connection: &mut RawConnection, request: Request<'_>) -> RawFrame {
    let mut bytes = Vec::new();
    request.encode(9, &mut bytes);
    connection.write(&bytes);
    connection.read_frame().expect("an answer")
}

fn read(raw: &RawFrame) -> Response<'_> {
    let RawFrame { operation, flags, correlation, payload } = raw;
    let (operation, flags, correlation) = (*operation, *flags, *correlation);
    Response::decode(&Frame { version: VERSION, operation, flags, correlation, payload })
        .expect("the broker speaks the protocol")
}

#[track_caller]
fn done(raw: &RawFrame) {
    assert_eq!(raw.flags, FLAG_REPLY, "{:?}", read(raw));
}

fn create(connection: &mut RawConnection, name: &str, attributes: &[Attribute<'_>], tags: &[Tag<'_>]) -> u64 {
    let (attributes, tags) = (Entries::of(attributes), Entries::of(tags));
    let request = CreateQueueRequest { account: "", region: "", name, attributes, tags };
    let raw = ask(connection, Request::CreateQueue(request));
    let Response::CreateQueue(opened) = read(&raw) else { panic!("{:?}", read(&raw)) };
    assert_eq!(opened.fifo != 0, name.ends_with(".fifo"));
    opened.queue
}

fn open(connection: &mut RawConnection, name: &str) -> u64 {
    let raw = ask(connection, Request::Open(OpenRequest { account: "", region: "", name }));
    let Response::Open(opened) = read(&raw) else { panic!("{:?}", read(&raw)) };
    opened.queue
}

fn attribute(connection: &mut RawConnection, queue: u64, code: AttributeCode) -> Option<String> {
    let names = [AttributeName { number: code.number() }];
    let request = GetAttributesRequest { queue, names: Entries::of(&names) };
    let raw = ask(connection, Request::GetAttributes(request));
    let Response::GetAttributes(reply) = read(&raw) else { panic!("{:?}", read(&raw)) };
    let text = |attribute: Attribute<'_>| match attribute.value() {
        AttributeValue::Number(number) => number.to_string(),
        AttributeValue::Text(text) => text.to_owned(),
    };
    reply.attributes.iter().next().map(text)
}

fn tags(connection: &mut RawConnection, queue: u64) -> Vec<(String, String)> {
    let raw = ask(connection, Request::ListTags(ListTagsRequest { queue }));
    let Response::ListTags(reply) = read(&raw) else { panic!("{:?}", read(&raw)) };
    reply.tags.iter().map(|tag| (tag.key.to_owned(), tag.value.to_owned())).collect()
}

fn sources(connection: &mut RawConnection, queue: u64) -> Vec<String> {
    let request = ListDeadLetterSourcesRequest { queue, max: 0, next: None };
    let raw = ask(connection, Request::ListDeadLetterSources(request));
    let Response::ListDeadLetterSources(reply) = read(&raw) else { panic!("{:?}", read(&raw)) };
    reply.queues.iter().map(|queue| queue.name.to_owned()).collect()
}

#[test]
fn what_a_queue_is_set_to_outlives_a_restart() {
    let mut broker = TestBroker::start("fsync", "");
    let mut connection = RawConnection::after_hello(broker.address());
    let connection = &mut connection;
    let dead = create(connection, "dead", &[], &[]);
    let redrive = [Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(REDRIVE))];
    let queue = create(connection, "orders", &redrive, &[Tag { key: "team", value: "lane" }]);
    assert_eq!(sources(connection, dead), ["orders"]);

    let more = [Tag { key: "stage", value: "test" }, Tag { key: "team", value: "pins" }];
    done(&ask(connection, Request::TagQueue(TagQueueRequest { queue, tags: Entries::of(&more) })));
    let keys = [Text { text: "stage" }];
    done(&ask(connection, Request::UntagQueue(UntagQueueRequest { queue, keys: Entries::of(&keys) })));

    let (accounts, actions) = ([Text { text: "111122223333" }], [Text { text: "SendMessage" }]);
    let permission = AddPermissionRequest {
        queue,
        label: "alice",
        accounts: Entries::of(&accounts),
        actions: Entries::of(&actions),
    };
    done(&ask(connection, Request::AddPermission(permission)));
    let again = ask(connection, Request::AddPermission(permission));
    assert_eq!(again.error_number(), ErrorCode::InvalidParameterValue.number());
    let key = [Attribute::new(AttributeCode::KmsMasterKeyId, AttributeValue::Text("alias/pins"))];
    let request = SetAttributesRequest { queue, attributes: Entries::of(&key) };
    done(&ask(connection, Request::SetAttributes(request)));

    broker.kill_and_restart();
    let mut connection = RawConnection::after_hello(broker.address());
    let connection = &mut connection;
    let queue = open(connection, "orders");
    assert_eq!(tags(connection, queue), [("team".to_owned(), "pins".to_owned())]);
    assert_eq!(attribute(connection, queue, AttributeCode::RedrivePolicy).as_deref(), Some(REDRIVE));
    assert_eq!(attribute(connection, queue, AttributeCode::KmsMasterKeyId).as_deref(), Some("alias/pins"));
    assert_eq!(attribute(connection, queue, AttributeCode::SqsManagedSseEnabled).as_deref(), Some("0"));
    let policy = attribute(connection, queue, AttributeCode::Policy).expect("a permission makes one");
    assert!(policy.contains(r#""Sid":"alice""#), "{policy}");
    let dead = open(connection, "dead");
    assert_eq!(sources(connection, dead), ["orders"]);
    let request = RemovePermissionRequest { queue, label: "alice" };
    done(&ask(connection, Request::RemovePermission(request)));
    assert_eq!(attribute(connection, queue, AttributeCode::Policy), None);
}
