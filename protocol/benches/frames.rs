//! What a batch of ten costs on its way in and on its way out, beside what its CRC alone costs.
//!
//! `cargo bench -p tenpin-protocol` prints the median, and the least, of many short rounds in
//! nanoseconds a batch.

use std::hint::black_box;
use std::time::Instant;

use tenpin_protocol::{
    Entries, ReceiveReplyWriter, ReceivedFixed, Request, SendEntry, SendReplyWriter, SendRequest, split_frame,
};

const ENTRIES: usize = 10;
const BODY_BYTES: usize = 64;
const ROUNDS: usize = 301;
const BATCHES_PER_ROUND: u32 = 2_000;

fn main() {
    let body = [b'x'; BODY_BYTES];
    let entries = [SendEntry::new(&body); ENTRIES];
    let mut send = Vec::new();
    Request::Send(SendRequest { queue: 7, entries: Entries::of(&entries) }).encode(1, &mut send);
    let mut out = Vec::with_capacity(64 << 10);

    report("send batch: crc alone", || {
        black_box(crc32fast::hash(&black_box(&send)[8..]));
    });
    report("send batch: split, verify, decode", || {
        let (frame, _) = split_frame(black_box(&send), usize::MAX).unwrap().unwrap();
        black_box(Request::decode(&frame).unwrap());
    });
    report("send batch: split, verify, decode, walk", || {
        let (frame, _) = split_frame(black_box(&send), usize::MAX).unwrap().unwrap();
        let Ok(Request::Send(request)) = Request::decode(&frame) else { unreachable!() };
        for entry in request.entries {
            black_box(entry.content);
        }
    });
    report("send reply: encode", || {
        out.clear();
        let mut writer = SendReplyWriter::begin(&mut out, 1);
        for _ in 0..ENTRIES {
            writer.accepted(black_box([3; 16]), 0);
        }
        writer.finish();
        black_box(&out);
    });
    let deliveries: [ReceivedFixed; ENTRIES] = std::array::from_fn(|index| ReceivedFixed {
        id: [index as u8; 16],
        sent_at_ms: 1_800_000_000_000 + index as u64,
        receive_count: 1,
        ..ReceivedFixed::default()
    });
    let write_receive = |out: &mut Vec<u8>| {
        out.clear();
        let mut writer = ReceiveReplyWriter::begin(out, 1);
        for fixed in black_box(&deliveries) {
            writer.push(fixed, black_box(&[9; 32]), black_box(&body[..]), BODY_BYTES);
        }
        writer.finish();
    };
    report("receive reply: encode", || {
        write_receive(&mut out);
        black_box(&out);
    });
    write_receive(&mut out);
    report("receive reply: crc alone", || {
        black_box(crc32fast::hash(&black_box(&out)[8..]));
    });
}

fn report(name: &str, mut batch: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCHES_PER_ROUND {
                batch();
            }
            start.elapsed().as_nanos() as f64 / f64::from(BATCHES_PER_ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:42} median {:6.1} ns   least {:6.1} ns", rounds[ROUNDS / 2], rounds[0]);
}
