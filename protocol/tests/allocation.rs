//! The hot path allocates nothing: counted by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use tenpin_protocol::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(black_box(vec![1u8; 100]))) > 0);
}

#[test]
fn decoding_allocates_nothing() {
    let attributes = [UserAttribute { name: "colour", data_type: "String", value: b"red" }];
    let fields = ContentFields {
        group: Some("group"),
        attributes: Entries::of(&attributes),
        ..ContentFields::default()
    };
    let mut content = Vec::new();
    write_content(&mut content, &[7; 64], &fields);
    let entry =
        SendEntry { delay_seconds: Some(1), ..SendEntry::with_content(&content, 64).expect("a content") };
    let entries = [entry; 10];
    let handles = [&[1u8; 32][..]; 10];
    let mut bytes = Vec::new();
    Request::Send(SendRequest { queue: 1, entries: Entries::of(&entries) }).encode(1, &mut bytes);
    Request::Receive(ReceiveRequest::new(1, 10)).encode(2, &mut bytes);
    Request::Delete(DeleteRequest { queue: 1, handles: Entries::of(&handles) }).encode(3, &mut bytes);
    // Refused as well: the error is made without memory too.
    Request::Send(SendRequest { queue: 1, entries: Entries::of(&[]) }).encode(4, &mut bytes);

    let mut seen = 0;
    let count = allocations(|| {
        let mut rest = &bytes[..];
        while let Ok(Some((frame, consumed))) = split_frame(rest, 1 << 20) {
            rest = &rest[consumed..];
            match black_box(Request::decode(&frame)) {
                Ok(Request::Send(send)) => {
                    for entry in send.entries {
                        seen +=
                            entry.body.len() + entry.attributes().len() + entry.group().map_or(0, str::len);
                    }
                }
                Ok(Request::Delete(delete)) => seen += delete.handles.iter().map(<[u8]>::len).sum::<usize>(),
                Ok(_) => seen += 1,
                Err(error) => seen += usize::from(error.code.number()),
            }
        }
    });
    assert_eq!(seen, 10 * (64 + 1 + 5) + 1 + 10 * 32 + usize::from(ErrorCode::EmptyBatchRequest.number()));
    assert_eq!(count, 0);
}

#[test]
fn encoding_replies_allocates_nothing() {
    let mut out = Vec::with_capacity(8_192);
    let count = allocations(|| {
        let mut writer = ReceiveReplyWriter::begin(&mut out, 1);
        for _ in 0..10 {
            writer.push(&ReceivedFixed::default(), &[1; 32], &[2; 64], 64);
        }
        writer.finish();
        let mut writer = SendReplyWriter::begin(&mut out, 2);
        for _ in 0..9 {
            writer.accepted([3; 16], 0);
        }
        writer.refused(ErrorCode::StorageFull, ErrorCode::StorageFull.text());
        writer.finish();
        let mut writer = OutcomeReplyWriter::begin(&mut out, Operation::Delete, 3);
        for _ in 0..10 {
            writer.succeeded();
        }
        writer.finish();
        ErrorFrame::encode(&mut out, 4, 4, ErrorCode::QueueDoesNotExist, ErrorCode::QueueDoesNotExist.text());
    });
    assert!(out.len() > 2_000 && out.capacity() == 8_192);
    assert_eq!(count, 0);
}
