//! Random requests and responses of every kind, for tests that are to hold for all of them.
//!
//! What they borrow is leaked: a test's process is short, and frames are small.

#![allow(dead_code)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tenpin_protocol::*;

pub mod examples;

fn text() -> impl Strategy<Value = &'static str> {
    proptest::string::string_regex("[a-zA-Z0-9_.é-]{0,12}")
        .expect("a valid pattern")
        .prop_map(|text| &*text.leak())
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| &*bytes.leak())
}

fn list<E: Layout<'static> + Copy + std::fmt::Debug + 'static>(
    entry: impl Strategy<Value = E>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Entries<'static, E>> {
    vec(entry, count).prop_map(|entries| Entries::of(entries.leak()))
}

/// Gives random values to the named fields of a struct.
macro_rules! random {
    ($name:ident { $($field:ident: $strategy:expr),* $(,)? }) => {{
        #[allow(unused_parens)]
        let values = ($($strategy),*).prop_map(|($($field),*)| $name { $($field),* });
        values
    }};
}

fn content() -> impl Strategy<Value = (&'static [u8], &'static [u8])> {
    let attribute = random!(UserAttribute { name: text(), data_type: text(), value: bytes() });
    let fields = (
        bytes(),
        option::weighted(0.3, text()),
        option::weighted(0.3, text()),
        list(attribute, 0..3),
        option::weighted(0.3, text()),
    );
    fields.prop_map(|(body, group, deduplication_id, attributes, trace_header)| {
        let fields =
            ContentFields { group, deduplication_id, attributes, trace_header, ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, body, &fields);
        let content = &*content.leak();
        (&content[..body.len()], content)
    })
}

fn given_out_content() -> impl Strategy<Value = (&'static [u8], &'static [u8])> {
    (bytes(), option::of(text()), option::of(text())).prop_map(|(body, dead_letter_source, sender)| {
        let fields = ContentFields { dead_letter_source, sender, ..ContentFields::default() };
        let mut content = Vec::new();
        write_content(&mut content, body, &fields);
        let content = &*content.leak();
        (&content[..body.len()], content)
    })
}

fn send_entry() -> impl Strategy<Value = SendEntry<'static>> {
    let producer = random!(Producer { id: any::<u64>(), sequence: any::<u64>(), first_shard: any::<u16>() });
    let options = (
        option::weighted(0.3, any::<u32>()),
        option::weighted(0.3, any::<u8>()),
        option::weighted(0.3, any::<u64>()),
        option::weighted(0.3, producer),
        any::<bool>(),
    );
    (content(), options).prop_map(|((body, content), options)| {
        let (delay_seconds, priority, own_expiry_ms, producer, only_if_previous_accepted) = options;
        SendEntry {
            body,
            content,
            delay_seconds,
            priority,
            own_expiry_ms,
            producer,
            only_if_previous_accepted,
        }
    })
}

fn attribute() -> impl Strategy<Value = Attribute<'static>> {
    random!(Attribute { number: any::<u16>(), value: any::<u64>(), text: option::of(text()) })
}

fn tag() -> impl Strategy<Value = Tag<'static>> {
    random!(Tag { key: text(), value: text() })
}

fn text_entry() -> impl Strategy<Value = Text<'static>> {
    text().prop_map(|text| Text { text })
}

fn any_or_default(maximum: u32) -> impl Strategy<Value = u32> {
    prop_oneof![Just(QUEUE_DEFAULT), 0..=maximum]
}

/// Any request.
pub fn request() -> impl Strategy<Value = Request<'static>> {
    let q = any::<u64>;
    prop_oneof![
        3 => random!(SendRequest { queue: q(), entries: list(send_entry(), 1..11) }).prop_map(Request::Send),
        2 => receive_request().prop_map(Request::Receive),
        2 => random!(DeleteRequest { queue: q(), handles: list(bytes(), 1..11) }).prop_map(Request::Delete),
        2 => change_request().prop_map(Request::ChangeVisibility),
        2 => connection_request(),
        4 => queue_request(),
        2 => dead_letter_request(),
    ]
}

fn receive_request() -> impl Strategy<Value = ReceiveRequest<'static>> {
    random!(ReceiveRequest {
        queue: any::<u64>(),
        max: 1..=10u8,
        flags: Just(NoFlags),
        wait_ms: any_or_default(20_000),
        visibility_seconds: any_or_default(43_200),
        reply_bytes_max: any::<u32>(),
        attempt_id: option::of(text()),
    })
}

fn change_request() -> impl Strategy<Value = ChangeVisibilityRequest<'static>> {
    let entry = random!(ChangeVisibilityEntry { visibility_seconds: any::<u32>(), handle: bytes() });
    random!(ChangeVisibilityRequest { queue: any::<u64>(), entries: list(entry, 1..11) })
}

fn connection_request() -> impl Strategy<Value = Request<'static>> {
    prop_oneof![
        random!(Hello {
            version_minimum: any::<u8>(),
            version_maximum: any::<u8>(),
            revision: any::<u16>(),
            features: any::<u64>(),
            frame_bytes_max: any::<u32>(),
            keep_alive_ms: any::<u32>(),
            shard: any::<u16>(),
            client: text(),
        })
        .prop_map(Request::Hello),
        random!(OpenRequest { account: text(), region: text(), name: text() }).prop_map(Request::Open),
        random!(Authenticate { method: text(), credentials: bytes() }).prop_map(Request::Authenticate),
        bytes().prop_map(|echo| Request::Ping(Ping { echo })),
        option::of(text()).prop_map(|text| Request::Goodbye(Goodbye { text })),
        random!(PeekRequest {
            queue: any::<u64>(),
            max: 1..=10u8,
            state: any::<u8>(),
            flags: Just(NoFlags),
            reply_bytes_max: any::<u32>(),
            next: option::of(bytes()),
        })
        .prop_map(Request::Peek),
    ]
}

fn queue_request() -> impl Strategy<Value = Request<'static>> {
    let q = any::<u64>;
    let name = any::<u16>().prop_map(|number| AttributeName { number });
    prop_oneof![
        random!(CreateQueueRequest {
            account: text(),
            region: text(),
            name: text(),
            attributes: list(attribute(), 0..4),
            tags: list(tag(), 0..4),
        })
        .prop_map(Request::CreateQueue),
        q().prop_map(|queue| Request::DeleteQueue(DeleteQueueRequest { queue })),
        random!(ListQueuesRequest {
            max: any::<u16>(),
            account: text(),
            region: text(),
            prefix: text(),
            next: option::of(bytes()),
        })
        .prop_map(Request::ListQueues),
        random!(GetAttributesRequest { queue: q(), names: list(name, 0..4) })
            .prop_map(Request::GetAttributes),
        random!(SetAttributesRequest { queue: q(), attributes: list(attribute(), 0..4) })
            .prop_map(Request::SetAttributes),
        random!(TagQueueRequest { queue: q(), tags: list(tag(), 0..4) }).prop_map(Request::TagQueue),
        random!(UntagQueueRequest { queue: q(), keys: list(text_entry(), 0..4) })
            .prop_map(Request::UntagQueue),
        q().prop_map(|queue| Request::ListTags(ListTagsRequest { queue })),
        random!(AddPermissionRequest {
            queue: q(),
            label: text(),
            accounts: list(text_entry(), 0..4),
            actions: list(text_entry(), 0..4),
        })
        .prop_map(Request::AddPermission),
        random!(RemovePermissionRequest { queue: q(), label: text() }).prop_map(Request::RemovePermission),
        q().prop_map(|queue| Request::Purge(PurgeRequest { queue })),
        q().prop_map(|queue| Request::Stats(StatsRequest { queue })),
    ]
}

fn dead_letter_request() -> impl Strategy<Value = Request<'static>> {
    prop_oneof![
        random!(ListDeadLetterSourcesRequest {
            queue: any::<u64>(),
            max: any::<u16>(),
            next: option::of(bytes())
        })
        .prop_map(Request::ListDeadLetterSources),
        random!(StartMoveTaskRequest {
            source: any::<u64>(),
            destination: any::<u64>(),
            messages_per_second_max: any::<u32>(),
        })
        .prop_map(Request::StartMoveTask),
        bytes().prop_map(|task| Request::CancelMoveTask(CancelMoveTaskRequest { task })),
        random!(ListMoveTasksRequest { source: any::<u64>(), max: any::<u8>() })
            .prop_map(Request::ListMoveTasks),
    ]
}

/// Any response.
pub fn response() -> impl Strategy<Value = Response<'static>> {
    prop_oneof![
        3 => message_response(),
        2 => connection_response(),
        3 => queue_response(),
    ]
}

fn received_fixed() -> impl Strategy<Value = ReceivedFixed> {
    random!(ReceivedFixed {
        id: any::<[u8; 16]>(),
        sequence_number: any::<u64>(),
        sent_at_ms: any::<u64>(),
        first_received_at_ms: any::<u64>(),
        receive_count: any::<u32>(),
    })
}

fn message_response() -> impl Strategy<Value = Response<'static>> {
    let sent = random!(SendOutcome {
        number: any::<u16>(),
        id: any::<[u8; 16]>(),
        sequence_number: any::<u64>(),
        text: option::of(text()),
    });
    let outcome = || random!(Outcome { number: any::<u16>(), text: option::of(text()) });
    let outcomes = move || random!(OutcomeReply { outcomes: list(outcome(), 0..11) });
    let received = (received_fixed(), bytes(), prop_oneof![content(), given_out_content()])
        .prop_map(|(fixed, handle, (body, content))| ReceivedMessage { fixed, handle, body, content });
    let peeked_fixed =
        random!(PeekedFixed { state: any::<u8>(), message: received_fixed(), until_ms: any::<u64>() });
    let peeked = (peeked_fixed, given_out_content()).prop_map(|(fixed, (body, content))| PeekedMessage {
        fixed,
        body,
        content,
    });
    prop_oneof![
        list(sent, 0..11).prop_map(|outcomes| Response::Send(SendReply { outcomes })),
        list(received, 0..11).prop_map(|messages| Response::Receive(ReceiveReply { messages })),
        outcomes().prop_map(Response::Delete),
        outcomes().prop_map(Response::ChangeVisibility),
        random!(PeekReply { messages: list(peeked, 0..11), next: option::of(bytes()) })
            .prop_map(Response::Peek),
        random!(ErrorFrame { operation: any::<u8>(), number: any::<u16>(), text: option::of(text()) })
            .prop_map(Response::Error),
    ]
}

fn connection_response() -> impl Strategy<Value = Response<'static>> {
    let shard = random!(ShardInfo { shard: any::<u16>(), port: any::<u16>(), host: text() });
    let numbers = (any::<(u8, u16, u64, u32)>(), any::<(u16, u32, u32, u32, u16, u16)>());
    let hello =
        (numbers, text(), list(shard, 0..4)).prop_map(|((first, second), broker, shards)| HelloReply {
            version: first.0,
            revision: first.1,
            features: first.2,
            frame_bytes_max: first.3,
            batch_entries_max: second.0,
            batch_bytes_max: second.1,
            long_polls_max: second.2,
            keep_alive_ms: second.3,
            shard_count: second.4,
            shard: second.5,
            broker,
            shards,
        });
    prop_oneof![
        hello.prop_map(Response::Hello),
        random!(AuthenticateReply { goes_on: any::<u8>(), challenge: bytes() })
            .prop_map(Response::Authenticate),
        bytes().prop_map(|echo| Response::Ping(Ping { echo })),
        Just(Response::Goodbye(Done {})),
    ]
}

fn queue_response() -> impl Strategy<Value = Response<'static>> {
    let opened = || {
        random!(QueueOpened {
            queue: any::<u64>(),
            incarnation: any::<u64>(),
            shard: any::<u16>(),
            fifo: any::<u8>(),
        })
    };
    let name = || random!(QueueName { account: text(), region: text(), name: text() });
    let queues = move || random!(QueuesReply { queues: list(name(), 0..4), next: option::of(bytes()) });
    let task = random!(MoveTask {
        status: any::<u16>(),
        messages_per_second_max: any::<u32>(),
        moved: any::<u64>(),
        to_move: any::<u64>(),
        started_at_ms: any::<u64>(),
        task: bytes(),
        source: text(),
        destination: text(),
        failure: option::of(text()),
    });
    let statistic = random!(Statistic { number: any::<u16>(), value: any::<u64>() });
    prop_oneof![
        opened().prop_map(Response::Open),
        opened().prop_map(Response::CreateQueue),
        queues().prop_map(Response::ListQueues),
        queues().prop_map(Response::ListDeadLetterSources),
        list(attribute(), 0..4)
            .prop_map(|attributes| Response::GetAttributes(AttributesReply { attributes })),
        list(tag(), 0..4).prop_map(|tags| Response::ListTags(TagsReply { tags })),
        bytes().prop_map(|task| Response::StartMoveTask(MoveTaskStarted { task })),
        any::<u64>().prop_map(|moved| Response::CancelMoveTask(MoveTaskCancelled { moved })),
        list(task, 0..4).prop_map(|tasks| Response::ListMoveTasks(MoveTasksReply { tasks })),
        list(statistic, 0..4).prop_map(|statistics| Response::Stats(StatsReply { statistics })),
        proptest::sample::select(vec![
            Response::DeleteQueue(Done {}),
            Response::SetAttributes(Done {}),
            Response::TagQueue(Done {}),
            Response::UntagQueue(Done {}),
            Response::AddPermission(Done {}),
            Response::RemovePermission(Done {}),
            Response::Purge(Done {}),
        ]),
    ]
}
