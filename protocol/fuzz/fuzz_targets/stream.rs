//! Any bytes as a stream: frames are found wherever the stream is cut, the same ones, and each is
//! decoded. The first two bytes say where it is cut and which limit holds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenpin_protocol::{Request, Response, frame_bytes, split_frame};

fuzz_target!(|bytes: &[u8]| {
    let [cut, limit, stream @ ..] = bytes else { return };
    let limit = usize::from(*limit) * 16;
    let whole = frames(stream, limit);
    let cut = usize::from(*cut).min(stream.len());
    let first = frames(&stream[..cut], limit);
    assert!(first.len() <= whole.len());
    assert_eq!(first[..], whole[..first.len()]);
});

/// The lengths of the frames at the front of a stream.
fn frames(mut stream: &[u8], limit: usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Ok(Some((frame, length))) = split_frame(stream, limit) {
        assert_eq!(frame_bytes(stream), Some(length));
        assert!(length <= limit);
        assert!(Request::decode(&frame).is_err() || Response::decode(&frame).is_err());
        lengths.push(length);
        stream = &stream[length..];
    }
    lengths
}
