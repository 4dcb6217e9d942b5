//! What must hold for every frame: it comes back as it went, nothing makes decoding panic, and what
//! a newer version adds is skipped.

use proptest::prelude::*;
use tenpin_protocol::*;

mod common;

use common::examples::{self, Example};

fn split(bytes: &[u8]) -> Frame<'_> {
    let (frame, consumed) = split_frame(bytes, usize::MAX).expect("a frame").expect("a whole frame");
    assert_eq!(consumed, bytes.len());
    frame
}

/// Walks everything that there is in a request, so that nothing stays unread.
fn look_at_request(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let request = match Request::decode(frame) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let _ = format!("{request:?}");
    if let Request::Send(send) = &request {
        assert_eq!(send.entries.iter().count(), send.entries.len());
        assert!(send.message_bytes() <= frame.payload.len());
        for entry in send.entries {
            assert!(entry.content.starts_with(entry.body));
            let _ = (entry.group(), entry.deduplication_id(), entry.attributes().len(), entry.trace_header());
        }
    }
    let mut out = Vec::new();
    request.encode(frame.correlation, &mut out);
    assert_eq!(Request::decode(&split(&out)), Ok(request), "what is encoded means the same");
    Some(out)
}

fn look_at_response(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let response = match Response::decode(frame) {
        Ok(response) => response,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let _ = format!("{response:?}");
    let mut out = Vec::new();
    response.encode(frame.correlation, &mut out);
    assert_eq!(Response::decode(&split(&out)), Ok(response), "what is encoded means the same");
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn requests_come_back(request in common::request(), correlation in 1..=u32::MAX) {
        let mut bytes = Vec::new();
        request.encode(correlation, &mut bytes);
        prop_assert!(request.fits(bytes.len()));
        let frame = split(&bytes);
        prop_assert_eq!(frame.correlation, correlation);
        prop_assert_eq!(Request::decode(&frame), Ok(request));
        prop_assert_eq!(look_at_request(&frame), Some(bytes.clone()));
    }

    #[test]
    fn responses_come_back(response in common::response(), correlation: u32) {
        let mut bytes = Vec::new();
        response.encode(correlation, &mut bytes);
        let frame = split(&bytes);
        prop_assert_eq!(Response::decode(&frame), Ok(response));
        prop_assert_eq!(look_at_response(&frame), Some(bytes.clone()));
    }

    #[test]
    fn a_payload_cut_anywhere_is_refused_or_whole(request in common::request(), response in common::response()) {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        for end in HEADER_BYTES..bytes.len() {
            let frame = Frame { payload: &bytes[HEADER_BYTES..end], ..split(&bytes) };
            look_at_request(&frame);
        }
        bytes.clear();
        response.encode(1, &mut bytes);
        for end in HEADER_BYTES..bytes.len() {
            let frame = Frame { payload: &bytes[HEADER_BYTES..end], ..split(&bytes) };
            look_at_response(&frame);
        }
    }

    #[test]
    fn mutated_payloads_never_panic(
        request in common::request(),
        response in common::response(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        operation in 0..=30u8,
    ) {
        let mutate = |bytes: &mut Vec<u8>| {
            for (place, value) in &changes {
                let place = HEADER_BYTES + place.index(bytes.len() - HEADER_BYTES);
                bytes[place] = *value;
            }
        };
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        let frame = split(&bytes);
        let (flags, own_operation) = (frame.flags, frame.operation);
        mutate(&mut bytes);
        for operation in [own_operation, operation] {
            let payload = &bytes[HEADER_BYTES..];
            look_at_request(&Frame { version: VERSION, operation, flags, correlation: 1, payload });
        }
        bytes.clear();
        response.encode(1, &mut bytes);
        let frame = split(&bytes);
        let (flags, own_operation) = (frame.flags, frame.operation);
        mutate(&mut bytes);
        for operation in [own_operation, operation] {
            let payload = &bytes[HEADER_BYTES..];
            look_at_response(&Frame { version: VERSION, operation, flags, correlation: 1, payload });
        }
    }

    #[test]
    fn garbage_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        operation in 0..=30u8,
        frame_bytes_max in 0..400usize,
    ) {
        let _ = split_frame(&bytes, frame_bytes_max);
        let _ = frame_bytes(&bytes);
        for flags in [0, FLAG_REPLY, FLAG_REPLY | FLAG_ERROR, 1 << 9] {
            let frame = Frame { version: VERSION, operation, flags, correlation: 9, payload: &bytes };
            look_at_request(&frame);
            look_at_response(&frame);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen(request in common::request(), bit: prop::sample::Index) {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A length that is now larger asks for more bytes; a smaller one has another CRC.
        prop_assert!(!matches!(split_frame(&bytes, usize::MAX), Ok(Some(_))));
    }
}

#[test]
fn each_prefix_of_a_stream_gives_the_whole_frames_in_it() {
    let mut stream = Vec::new();
    let mut ends = Vec::new();
    for (_, example) in examples::all() {
        stream.extend(example.encode());
        ends.push(stream.len());
    }
    for cut in 0..=stream.len() {
        let (mut consumed, mut frames) = (0, 0);
        while let Some((_, length)) = split_frame(&stream[consumed..cut], 1 << 20).expect("good frames") {
            assert_eq!(frame_bytes(&stream[consumed..cut]), Some(length));
            consumed += length;
            frames += 1;
        }
        assert_eq!(frames, ends.iter().filter(|&&end| end <= cut).count());
    }
}

#[test]
fn every_operation_has_an_example_each_way() {
    for &operation in Operation::ALL {
        let mut requests = 0;
        let mut responses = 0;
        for (_, example) in examples::all() {
            match example {
                Example::Request(_, request) => requests += usize::from(request.operation() == operation),
                Example::Response(_, response) => {
                    responses += usize::from(response.operation() == Some(operation))
                }
            }
        }
        assert!(requests > 0 && responses > 0, "{}", operation.name());
    }
}

/// Appends bytes to each fixed part at any depth that this test knows the place of, and unknown
/// fields at the end, as a newer revision would.
#[test]
fn what_a_newer_revision_adds_is_skipped() {
    for (name, example) in examples::all() {
        let bytes = example.encode();
        let payload = &bytes[HEADER_BYTES..];
        let mut newer = longer_fixed_part(payload);
        newer.extend([200, 3, 0, 0, 0, b'n', b'e', b'w']);
        let frame = Frame { payload: &newer, ..split(&bytes) };
        match example {
            Example::Request(_, request) => assert_eq!(Request::decode(&frame), Ok(request), "{name}"),
            Example::Response(_, response) => assert_eq!(Response::decode(&frame), Ok(response), "{name}"),
        }
    }
}

#[test]
fn what_a_newer_revision_adds_to_entries_is_skipped() {
    let with_one_list = [
        "send",
        "send_with_everything",
        "delete",
        "change_visibility",
        "send_reply",
        "receive_reply",
        "delete_reply",
        "change_visibility_reply",
        "set_attributes",
        "get_attributes",
        "tag_queue",
        "get_attributes_reply",
        "list_move_tasks_reply",
        "stats_reply",
        "list_dead_letter_sources_reply",
    ];
    for (name, example) in examples::all() {
        if !with_one_list.contains(&name) {
            continue;
        }
        let bytes = example.encode();
        let payload = &bytes[HEADER_BYTES..];
        let fixed_length = usize::from(u16::from_le_bytes([payload[0], payload[1]]));
        let (front, mut entries) = payload.split_at(2 + fixed_length);
        let mut newer = front.to_vec();
        while let Some((length, rest)) = entries.split_first_chunk::<4>() {
            let (entry, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            entries = rest;
            let mut entry = longer_fixed_part(entry);
            entry.extend([201, 1, 0, 0, 0, b'x']);
            newer.extend((entry.len() as u32).to_le_bytes());
            newer.extend(entry);
        }
        let frame = Frame { payload: &newer, ..split(&bytes) };
        match (example, Request::decode(&frame), Response::decode(&frame)) {
            (Example::Request(_, Request::Send(older)), Ok(Request::Send(newer)), _) => {
                // A content keeps fields that this version does not know, for readers that do.
                assert_eq!(older.entries.len(), newer.entries.len());
                for (older, newer) in older.entries.iter().zip(newer.entries) {
                    assert_eq!(newer.fields().value(201), Some(&b"x"[..]));
                    assert_eq!(SendEntry { content: older.content, ..newer }, older);
                    assert_eq!(
                        (newer.group(), newer.message_bytes()),
                        (older.group(), older.message_bytes())
                    );
                }
            }
            (Example::Response(_, Response::Receive(older)), _, Ok(Response::Receive(newer))) => {
                for (older, newer) in older.messages.iter().zip(newer.messages) {
                    assert_eq!(ReceivedMessage { content: older.content, ..newer }, older);
                }
            }
            (Example::Request(_, older), newer, _) => assert_eq!(newer, Ok(older), "{name}"),
            (Example::Response(_, older), _, newer) => assert_eq!(newer, Ok(older), "{name}"),
        }
    }
}

/// The same layout with two more bytes at the end of its fixed part.
fn longer_fixed_part(bytes: &[u8]) -> Vec<u8> {
    let fixed_length = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (fixed, rest) = bytes[2..].split_at(usize::from(fixed_length));
    let mut longer = (fixed_length + 2).to_le_bytes().to_vec();
    longer.extend(fixed);
    longer.extend([0xaa, 0xbb]);
    longer.extend(rest);
    longer
}

#[test]
fn errors_name_what_is_wrong() {
    let send = examples::all().into_iter().find(|(name, _)| *name == "send").expect("an example").1.encode();
    let frame = split(&send);
    let refusal = |frame: &Frame<'_>| {
        let error = Request::decode(frame).expect_err("a wrong frame");
        (error.code, error.to_string())
    };
    let says = |code, text: &str| (code, text.to_owned());
    assert_eq!(
        refusal(&Frame { operation: 99, ..frame }),
        says(ErrorCode::UnknownOperation, "Operation 99 is unknown.")
    );
    assert_eq!(
        refusal(&Frame { flags: 0x8004, ..frame }),
        says(ErrorCode::ReservedBits, "Reserved bits are set in the header's flags: 0x8004.")
    );
    assert_eq!(
        refusal(&Frame { version: 2, ..frame }),
        says(ErrorCode::UnsupportedVersion, "Version 2 is not supported.")
    );
    assert_eq!(
        refusal(&Frame { flags: FLAG_REPLY, ..frame }),
        says(ErrorCode::BadFrame, "Operation 4 does not go in this direction.")
    );
    assert_eq!(
        refusal(&Frame { correlation: 0, ..frame }),
        says(ErrorCode::BadFrame, "A request must not have the correlation id 0.")
    );
    let mut entry_flags = frame.payload.to_vec();
    entry_flags[2 + 10 + 4 + 2 + 1] = 0x40;
    assert_eq!(
        refusal(&Frame { payload: &entry_flags, ..frame }),
        says(ErrorCode::ReservedBits, "Reserved bits are set in send entry: flags: 0x4000.")
    );
    let mut entries = Vec::new();
    Request::Send(SendRequest { queue: 1, entries: Entries::of(&[SendEntry::new(b"x"); 11]) })
        .encode(1, &mut entries);
    assert_eq!(
        refusal(&split(&entries)),
        says(
            ErrorCode::TooManyEntriesInBatchRequest,
            "Maximum number of entries per request are 10. You have sent 11."
        )
    );
    let mut none = Vec::new();
    Request::Send(SendRequest { queue: 1, entries: Entries::of(&[]) }).encode(1, &mut none);
    assert_eq!(refusal(&split(&none)).0, ErrorCode::EmptyBatchRequest);
    let mut receive = Vec::new();
    Request::Receive(ReceiveRequest::new(1, 11)).encode(1, &mut receive);
    assert_eq!(
        refusal(&split(&receive)),
        says(
            ErrorCode::InvalidParameterValue,
            "Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
        )
    );
    assert_eq!(
        refusal(&Frame { payload: &frame.payload[..14], ..frame }),
        says(ErrorCode::BadFrame, "The bytes end inside send entry.")
    );
}

#[test]
fn only_the_broker_says_where_a_dead_letter_came_from() {
    let fields = ContentFields { dead_letter_source: Some("arn"), ..ContentFields::default() };
    let mut content = Vec::new();
    write_content(&mut content, b"body", &fields);
    let error = SendEntry::with_content(&content, 4).expect_err("not for clients");
    assert_eq!(
        (error.code, error.to_string().as_str()),
        (ErrorCode::BadFrame, "Not allowed here: dead-letter source.")
    );
}

#[test]
fn writers_write_what_the_types_write() {
    let fixed = ReceivedFixed { id: [7; 16], sent_at_ms: 5, receive_count: 2, ..ReceivedFixed::default() };
    let message = ReceivedMessage { fixed, handle: &[1; 32], body: b"body", content: b"body" };
    let messages = [message, message];
    let mut written = vec![0xee; 3];
    let mut writer = ReceiveReplyWriter::begin(&mut written, 5);
    for message in &messages {
        writer.push(&message.fixed, message.handle, message.content, message.body.len());
    }
    writer.finish();
    let mut encoded = vec![0xee; 3];
    Response::Receive(ReceiveReply { messages: Entries::of(&messages) }).encode(5, &mut encoded);
    assert_eq!(written, encoded);

    let peeked = PeekedMessage {
        fixed: PeekedFixed { state: 2, message: fixed, until_ms: 9 },
        body: b"body",
        content: b"body",
    };
    let (mut written, mut encoded) = (Vec::new(), Vec::new());
    let mut writer = PeekReplyWriter::begin(&mut written, 6);
    writer.push(&peeked.fixed, peeked.content, 4);
    writer.finish(Some(b"next"));
    Response::Peek(PeekReply { messages: Entries::of(&[peeked]), next: Some(b"next") })
        .encode(6, &mut encoded);
    assert_eq!(written, encoded);

    let accepted = SendOutcome { number: 0, id: [3; 16], sequence_number: 4, text: None };
    let refused =
        SendOutcome { number: ErrorCode::StorageFull.number(), text: Some("full"), ..SendOutcome::default() };
    let (mut written, mut encoded) = (Vec::new(), Vec::new());
    let mut writer = SendReplyWriter::begin(&mut written, 7);
    writer.accepted([3; 16], 4).refused(ErrorCode::StorageFull, "full");
    writer.finish();
    Response::Send(SendReply { outcomes: Entries::of(&[accepted, refused]) }).encode(7, &mut encoded);
    assert_eq!(written, encoded);

    let refused = Outcome { number: ErrorCode::Internal.number(), text: Some("why") };
    let (mut written, mut encoded) = (Vec::new(), Vec::new());
    let mut writer = OutcomeReplyWriter::begin(&mut written, Operation::ChangeVisibility, 8);
    writer.succeeded().refused(ErrorCode::Internal, "why");
    writer.finish();
    let outcomes = [Outcome::default(), refused];
    Response::ChangeVisibility(OutcomeReply { outcomes: Entries::of(&outcomes) }).encode(8, &mut encoded);
    assert_eq!(written, encoded);
}

#[test]
fn long_error_texts_are_cut_at_a_character() {
    let mut bytes = Vec::new();
    let text = format!("x{}", "é".repeat(ERROR_TEXT_BYTES_MAX));
    ErrorFrame::encode(&mut bytes, 4, 3, ErrorCode::Internal, &text);
    let Ok(Response::Error(error)) = Response::decode(&split(&bytes)) else { panic!("an error frame") };
    assert_eq!(error.code(), Some(ErrorCode::Internal));
    assert_eq!(error.text, Some(&text[..ERROR_TEXT_BYTES_MAX - 1]));
}

#[test]
fn a_batch_at_the_limit_fits_into_the_least_frame_limit() {
    let body = vec![b'x'; BATCH_BYTES_MAX / 10];
    let long = "g".repeat(128);
    let fields = ContentFields {
        group: Some(&long),
        deduplication_id: Some(&long),
        trace_header: Some(&long),
        dead_letter_source: Some(&long),
        sender: Some(&long),
        ..ContentFields::default()
    };
    let mut content = Vec::new();
    write_content(&mut content, &body, &fields);
    let mut out = Vec::new();
    let mut writer = ReceiveReplyWriter::begin(&mut out, 1);
    for _ in 0..10 {
        writer.push(&ReceivedFixed::default(), &[0; 32], &content, body.len());
    }
    writer.finish();
    assert!(out.len() < FRAME_BYTES_MAX_LEAST);
}

#[test]
fn codes_are_distinct_and_come_back() {
    for &code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), Some(code));
        assert!(code.number() != 0 && !code.text().is_empty());
    }
    for &code in AttributeCode::ALL {
        assert_eq!(AttributeCode::from_name(code.name()), Some(code));
    }
    assert_eq!(ErrorCode::QueueDoesNotExist.query_code(), "AWS.SimpleQueueService.NonExistentQueue");
    assert!(ErrorCode::CrcMismatch.closes_connection() && !ErrorCode::StorageFull.closes_connection());
}

#[test]
fn a_hello_agrees_on_a_version_and_a_limit() {
    let hello = Hello { version_minimum: 1, version_maximum: 3, frame_bytes_max: 5, ..Hello::default() };
    assert_eq!(hello.agreed_version(), Some(VERSION));
    assert_eq!(hello.agreed_frame_bytes_max(4 << 20), FRAME_BYTES_MAX_LEAST as u32);
    assert_eq!(Hello { frame_bytes_max: 0, ..hello }.agreed_frame_bytes_max(4 << 20), 4 << 20);
    assert_eq!(Hello { frame_bytes_max: u32::MAX, ..hello }.agreed_frame_bytes_max(4 << 20), 4 << 20);
    assert_eq!(Hello { version_minimum: 2, ..hello }.agreed_version(), None);
}

#[test]
fn what_is_too_long_for_its_layout_is_known_before_it_is_written() {
    let (longest, longer) = ("x".repeat(65_535), "x".repeat(65_536));
    let is_written = |request: Request<'_>| {
        let fits = request.fits(usize::MAX);
        if fits {
            request.encode(1, &mut Vec::new());
        }
        fits
    };
    let open = |name| Request::Open(OpenRequest { name, ..OpenRequest::default() });
    assert!(is_written(open(longest.as_str())) && !is_written(open(longer.as_str())));
    let handles = [longest.as_bytes(), longer.as_bytes()];
    let delete = |handles| Request::Delete(DeleteRequest { queue: 1, handles: Entries::of(handles) });
    assert!(is_written(delete(&handles[..1])) && !is_written(delete(&handles[1..])));
    let tags = vec![Tag::default(); 65_536];
    let tag = |tags| Request::TagQueue(TagQueueRequest { queue: 1, tags: Entries::of(tags) });
    assert!(is_written(tag(&tags[1..])) && !is_written(tag(&tags[..])));
    let entries = [SendEntry::new(longer.as_bytes())];
    let send = Request::Send(SendRequest { queue: 1, entries: Entries::of(&entries) });
    assert!(is_written(send), "bodies have longer lengths");
    assert!(send.fits(longer.len()) && !send.fits(longer.len() - 1));
}
