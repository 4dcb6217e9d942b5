//! Frames read and written, in batches of ten.

use std::hint::black_box;

use tenpin_protocol::{
    DeleteRequest, Entries, ReceiveReplyWriter, ReceivedFixed, Request, SendEntry, SendReplyWriter,
    SendRequest, split_frame,
};

use super::{BATCH, BODY};

pub fn read_sends(batches: u64) {
    let entries = [SendEntry::new(&BODY); BATCH];
    let mut frame = Vec::new();
    Request::Send(SendRequest { queue: 7, entries: Entries::of(&entries) }).encode(1, &mut frame);
    for _ in 0..batches {
        let (frame, _) =
            split_frame(black_box(&frame), usize::MAX).expect("it is right").expect("it is whole");
        let Ok(Request::Send(request)) = Request::decode(&frame) else { panic!("no send") };
        for entry in request.entries {
            black_box(entry.content);
        }
    }
}

pub fn answer_sends(batches: u64) {
    let mut out = Vec::with_capacity(64 << 10);
    for _ in 0..batches {
        out.clear();
        let mut writer = SendReplyWriter::begin(&mut out, 1);
        for _ in 0..BATCH {
            writer.accepted(black_box([3; 16]), 0);
        }
        writer.finish();
        black_box(&out);
    }
}

pub fn answer_receives(batches: u64) {
    let deliveries: [ReceivedFixed; BATCH] = std::array::from_fn(|index| ReceivedFixed {
        id: [index as u8; 16],
        sent_at_ms: 1_800_000_000_000 + index as u64,
        receive_count: 1,
        ..ReceivedFixed::default()
    });
    let mut out = Vec::with_capacity(64 << 10);
    for _ in 0..batches {
        out.clear();
        let mut writer = ReceiveReplyWriter::begin(&mut out, 1);
        for fixed in black_box(&deliveries) {
            writer.push(fixed, black_box(&[9; 32]), black_box(&BODY[..]), BODY.len());
        }
        writer.finish();
        black_box(&out);
    }
}

pub fn read_deletes(batches: u64) {
    let handle = [5; 32];
    let handles = [&handle[..]; BATCH];
    let mut frame = Vec::new();
    Request::Delete(DeleteRequest { queue: 7, handles: Entries::of(&handles) }).encode(1, &mut frame);
    for _ in 0..batches {
        let (frame, _) =
            split_frame(black_box(&frame), usize::MAX).expect("it is right").expect("it is whole");
        let Ok(Request::Delete(request)) = Request::decode(&frame) else { panic!("no delete") };
        for handle in request.handles {
            black_box(handle);
        }
    }
}
