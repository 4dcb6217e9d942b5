//! The frames that the golden files hold, one of each kind and a few more.

use tenpin_protocol::*;

/// A frame with what it means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Example {
    /// From a client.
    Request(u32, Request<'static>),
    /// From the broker.
    Response(u32, Response<'static>),
}

impl Example {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Request(correlation, request) => request.encode(*correlation, &mut out),
            Self::Response(correlation, response) => response.encode(*correlation, &mut out),
        }
        out
    }
}

const QUEUE: u64 = 0x0000_0001_0000_0007;
const ID: [u8; 16] =
    [0x01, 0x8f, 0x3c, 0x5a, 0x77, 0x10, 0x4e, 0x2b, 0x9d, 0x31, 0xaa, 0x04, 0x55, 0xee, 0x60, 0x7c];
const HANDLE: &[u8] = &[
    0x00, 0x00, 0x01, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x8d, 0x1f, 0x42, 0xe6, 0x90, 0x7b, 0xc3, 0x58,
];
const SENT_AT_MS: u64 = 1_795_000_000_000;

/// The content of the message with everything: body, group, deduplication id, an attribute, trace
/// header.
fn whole_content() -> &'static [u8] {
    let attributes = [UserAttribute { name: "colour", data_type: "String", value: b"red" }];
    let fields = ContentFields {
        group: Some("orders"),
        deduplication_id: Some("order-17"),
        attributes: Entries::of(&attributes),
        trace_header: Some("Root=1"),
        ..ContentFields::default()
    };
    let mut content = Vec::new();
    write_content(&mut content, b"ship it", &fields);
    content.leak()
}

fn dead_letter_content() -> &'static [u8] {
    let fields = ContentFields {
        dead_letter_source: Some("arn:aws:sqs:us-east-1:000000000000:orders"),
        sender: Some("000000000000"),
        ..ContentFields::default()
    };
    let mut content = Vec::new();
    write_content(&mut content, b"broken", &fields);
    content.leak()
}

/// All examples with their names.
pub fn all() -> Vec<(&'static str, Example)> {
    let mut examples = requests();
    examples.extend(more_requests());
    examples.extend(responses());
    examples.extend(more_responses());
    examples
}

fn requests() -> Vec<(&'static str, Example)> {
    let whole = SendEntry {
        delay_seconds: Some(5),
        priority: Some(9),
        own_expiry_ms: Some(60_000),
        producer: Some(Producer { id: 11, sequence: 12, first_shard: 1 }),
        only_if_previous_accepted: true,
        ..SendEntry::with_content(whole_content(), 7).expect("just written")
    };
    let entries =
        vec![SendEntry::new(b"hi"), SendEntry { delay_seconds: Some(5), ..SendEntry::new(b"later") }];
    let change = vec![ChangeVisibilityEntry { visibility_seconds: 60, handle: HANDLE }];
    let requests = vec![
        (
            "hello",
            Request::Hello(Hello {
                version_minimum: 1,
                version_maximum: 1,
                revision: 0,
                features: 0,
                frame_bytes_max: 2 << 20,
                keep_alive_ms: 30_000,
                shard: ANY_SHARD,
                client: "example/1.0",
            }),
        ),
        ("authenticate", Request::Authenticate(Authenticate { method: "token", credentials: b"secret" })),
        ("open", Request::Open(OpenRequest { name: "orders", ..OpenRequest::default() })),
        (
            "create_queue",
            Request::CreateQueue(CreateQueueRequest {
                account: "000000000000",
                region: "us-east-1",
                name: "orders",
                attributes: Entries::of(
                    vec![
                        Attribute::new(AttributeCode::VisibilityTimeout, AttributeValue::Number(60)),
                        Attribute::new(AttributeCode::Policy, AttributeValue::Text("{}")),
                    ]
                    .leak(),
                ),
                tags: Entries::of(vec![Tag { key: "team", value: "blue" }].leak()),
            }),
        ),
        ("send", Request::Send(SendRequest { queue: QUEUE, entries: Entries::of(entries.leak()) })),
        (
            "send_with_everything",
            Request::Send(SendRequest { queue: QUEUE, entries: Entries::of(vec![whole].leak()) }),
        ),
        ("receive", Request::Receive(ReceiveRequest { wait_ms: 20_000, ..ReceiveRequest::new(QUEUE, 10) })),
        (
            "receive_with_attempt_id",
            Request::Receive(ReceiveRequest {
                visibility_seconds: 120,
                reply_bytes_max: 65_536,
                attempt_id: Some("try-1"),
                ..ReceiveRequest::new(QUEUE, 1)
            }),
        ),
        (
            "delete",
            Request::Delete(DeleteRequest { queue: QUEUE, handles: Entries::of(vec![HANDLE].leak()) }),
        ),
        (
            "change_visibility",
            Request::ChangeVisibility(ChangeVisibilityRequest {
                queue: QUEUE,
                entries: Entries::of(change.leak()),
            }),
        ),
        (
            "peek",
            Request::Peek(PeekRequest {
                queue: QUEUE,
                max: 10,
                state: MessageState::InFlight.number(),
                reply_bytes_max: u32::MAX,
                next: Some(&[1, 2, 3]),
                ..PeekRequest::default()
            }),
        ),
        ("ping", Request::Ping(Ping { echo: b"ping" })),
        ("goodbye", Request::Goodbye(Goodbye { text: Some("done") })),
    ];
    number_requests(requests)
}

fn more_requests() -> Vec<(&'static str, Example)> {
    let names = vec![AttributeName { number: AttributeCode::ApproximateNumberOfMessages.number() }];
    let attributes = vec![Attribute::new(AttributeCode::DelaySeconds, AttributeValue::Number(10))];
    let requests = vec![
        ("delete_queue", Request::DeleteQueue(DeleteQueueRequest { queue: QUEUE })),
        (
            "list_queues",
            Request::ListQueues(ListQueuesRequest {
                max: 100,
                prefix: "ord",
                next: Some(b"orders"),
                ..ListQueuesRequest::default()
            }),
        ),
        (
            "get_attributes",
            Request::GetAttributes(GetAttributesRequest { queue: QUEUE, names: Entries::of(names.leak()) }),
        ),
        (
            "set_attributes",
            Request::SetAttributes(SetAttributesRequest {
                queue: QUEUE,
                attributes: Entries::of(attributes.leak()),
            }),
        ),
        (
            "tag_queue",
            Request::TagQueue(TagQueueRequest {
                queue: QUEUE,
                tags: Entries::of(&[Tag { key: "team", value: "blue" }]),
            }),
        ),
        (
            "untag_queue",
            Request::UntagQueue(UntagQueueRequest {
                queue: QUEUE,
                keys: Entries::of(&[Text { text: "team" }]),
            }),
        ),
        ("list_tags", Request::ListTags(ListTagsRequest { queue: QUEUE })),
        (
            "add_permission",
            Request::AddPermission(AddPermissionRequest {
                queue: QUEUE,
                label: "friends",
                accounts: Entries::of(&[Text { text: "111111111111" }]),
                actions: Entries::of(&[Text { text: "SendMessage" }, Text { text: "ReceiveMessage" }]),
            }),
        ),
        (
            "remove_permission",
            Request::RemovePermission(RemovePermissionRequest { queue: QUEUE, label: "friends" }),
        ),
        ("purge", Request::Purge(PurgeRequest { queue: QUEUE })),
        (
            "list_dead_letter_sources",
            Request::ListDeadLetterSources(ListDeadLetterSourcesRequest {
                queue: QUEUE,
                max: 10,
                next: None,
            }),
        ),
        (
            "start_move_task",
            Request::StartMoveTask(StartMoveTaskRequest {
                source: QUEUE,
                destination: NO_QUEUE,
                messages_per_second_max: 500,
            }),
        ),
        ("cancel_move_task", Request::CancelMoveTask(CancelMoveTaskRequest { task: &[7; 8] })),
        ("list_move_tasks", Request::ListMoveTasks(ListMoveTasksRequest { source: QUEUE, max: 10 })),
        ("stats", Request::Stats(StatsRequest { queue: NO_QUEUE })),
    ];
    number_requests(requests)
}

fn number_requests(requests: Vec<(&'static str, Request<'static>)>) -> Vec<(&'static str, Example)> {
    let correlation = |request: &Request<'_>| u32::from(request.operation().number());
    requests
        .into_iter()
        .map(|(name, request)| (name, Example::Request(correlation(&request), request)))
        .collect()
}

fn responses() -> Vec<(&'static str, Example)> {
    let fixed = ReceivedFixed {
        id: ID,
        sequence_number: 0,
        sent_at_ms: SENT_AT_MS,
        first_received_at_ms: SENT_AT_MS + 40,
        receive_count: 1,
    };
    let plain = ReceivedMessage { fixed, handle: HANDLE, body: b"hi", content: b"hi" };
    let content = dead_letter_content();
    let peeked = PeekedMessage {
        fixed: PeekedFixed {
            state: MessageState::InFlight.number(),
            message: fixed,
            until_ms: SENT_AT_MS + 30_040,
        },
        body: &content[..6],
        content,
    };
    let refused = SendOutcome {
        number: ErrorCode::InvalidParameterValue.number(),
        text: Some("One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."),
        ..SendOutcome::default()
    };
    let outcomes = vec![
        Outcome::default(),
        Outcome {
            number: ErrorCode::MessageNotInflight.number(),
            text: Some(ErrorCode::MessageNotInflight.text()),
        },
    ];
    let shards = vec![ShardInfo { shard: 1, port: 7011, host: "" }];
    let opened = QueueOpened { queue: QUEUE, incarnation: 1, shard: ANY_SHARD, fifo: 0 };
    let responses = vec![
        (
            "hello_reply",
            Response::Hello(HelloReply {
                version: 1,
                revision: 0,
                features: 0,
                frame_bytes_max: 2 << 20,
                batch_entries_max: 10,
                batch_bytes_max: 1 << 20,
                long_polls_max: 1_024,
                keep_alive_ms: 120_000,
                shard_count: 2,
                shard: 0,
                broker: "tenpin/0.1.0",
                shards: Entries::of(shards.leak()),
            }),
        ),
        ("authenticate_reply", Response::Authenticate(AuthenticateReply { goes_on: 0, challenge: b"" })),
        ("open_reply", Response::Open(opened)),
        ("create_queue_reply", Response::CreateQueue(opened)),
        (
            "send_reply",
            Response::Send(SendReply {
                outcomes: Entries::of(vec![SendOutcome { id: ID, ..SendOutcome::default() }, refused].leak()),
            }),
        ),
        ("receive_reply", Response::Receive(ReceiveReply { messages: Entries::of(vec![plain].leak()) })),
        ("receive_reply_empty", Response::Receive(ReceiveReply::default())),
        (
            "delete_reply",
            Response::Delete(OutcomeReply { outcomes: Entries::of(vec![Outcome::default()].leak()) }),
        ),
        (
            "change_visibility_reply",
            Response::ChangeVisibility(OutcomeReply { outcomes: Entries::of(outcomes.leak()) }),
        ),
        (
            "peek_reply",
            Response::Peek(PeekReply { messages: Entries::of(vec![peeked].leak()), next: Some(&[1, 2, 3]) }),
        ),
        ("ping_reply", Response::Ping(Ping { echo: b"ping" })),
        ("goodbye_reply", Response::Goodbye(Done {})),
    ];
    let mut examples = number_responses(responses);
    examples.extend(errors());
    examples
}

fn errors() -> Vec<(&'static str, Example)> {
    let error = |operation: u8, code: ErrorCode, text| {
        Response::Error(ErrorFrame { operation, number: code.number(), text: Some(text) })
    };
    vec![
        (
            "error",
            Example::Response(
                4,
                error(
                    Operation::Send.number(),
                    ErrorCode::QueueDoesNotExist,
                    ErrorCode::QueueDoesNotExist.text(),
                ),
            ),
        ),
        (
            "error_crc",
            Example::Response(
                0,
                error(
                    0,
                    ErrorCode::CrcMismatch,
                    "The frame states the CRC 0x00000000, its bytes give 0x12345678.",
                ),
            ),
        ),
        (
            "goodbye_from_broker",
            Example::Response(
                0,
                error(Operation::Goodbye.number(), ErrorCode::ShuttingDown, ErrorCode::ShuttingDown.text()),
            ),
        ),
    ]
}

fn more_responses() -> Vec<(&'static str, Example)> {
    let attributes = vec![
        Attribute::new(AttributeCode::ApproximateNumberOfMessages, AttributeValue::Number(3)),
        Attribute::new(
            AttributeCode::QueueArn,
            AttributeValue::Text("arn:aws:sqs:us-east-1:000000000000:orders"),
        ),
    ];
    let queues = vec![QueueName { account: "000000000000", region: "us-east-1", name: "orders" }];
    let queues = Entries::of(queues.leak());
    let task = MoveTask {
        status: MoveTaskStatus::Failed.number(),
        messages_per_second_max: 500,
        moved: 3,
        to_move: 10,
        started_at_ms: SENT_AT_MS,
        task: b"",
        source: "arn:aws:sqs:us-east-1:000000000000:dead",
        destination: "",
        failure: Some("The source queue is gone."),
    };
    let statistics = vec![
        Statistic { number: StatisticCode::Visible.number(), value: 3 },
        Statistic { number: StatisticCode::Sent.number(), value: 1_000 },
    ];
    let responses = vec![
        ("delete_queue_reply", Response::DeleteQueue(Done {})),
        ("list_queues_reply", Response::ListQueues(QueuesReply { queues, next: Some(b"orders") })),
        (
            "get_attributes_reply",
            Response::GetAttributes(AttributesReply { attributes: Entries::of(attributes.leak()) }),
        ),
        ("set_attributes_reply", Response::SetAttributes(Done {})),
        ("tag_queue_reply", Response::TagQueue(Done {})),
        ("untag_queue_reply", Response::UntagQueue(Done {})),
        (
            "list_tags_reply",
            Response::ListTags(TagsReply { tags: Entries::of(&[Tag { key: "team", value: "blue" }]) }),
        ),
        ("add_permission_reply", Response::AddPermission(Done {})),
        ("remove_permission_reply", Response::RemovePermission(Done {})),
        ("purge_reply", Response::Purge(Done {})),
        (
            "list_dead_letter_sources_reply",
            Response::ListDeadLetterSources(QueuesReply { queues, next: None }),
        ),
        ("start_move_task_reply", Response::StartMoveTask(MoveTaskStarted { task: &[7; 8] })),
        ("cancel_move_task_reply", Response::CancelMoveTask(MoveTaskCancelled { moved: 3 })),
        (
            "list_move_tasks_reply",
            Response::ListMoveTasks(MoveTasksReply { tasks: Entries::of(vec![task].leak()) }),
        ),
        ("stats_reply", Response::Stats(StatsReply { statistics: Entries::of(statistics.leak()) })),
    ];
    number_responses(responses)
}

fn number_responses(responses: Vec<(&'static str, Response<'static>)>) -> Vec<(&'static str, Example)> {
    let correlation =
        |response: &Response<'_>| response.operation().map_or(0, |operation| u32::from(operation.number()));
    responses
        .into_iter()
        .map(|(name, response)| (name, Example::Response(correlation(&response), response)))
        .collect()
}
