//! The codec: frames cross any cut of the stream, and a broken one ends it.

use bytes::BytesMut;
use tenpin_protocol::*;
use tokio_util::codec::{Decoder, Encoder};

mod common;

use common::examples::{self, Example};

#[test]
fn frames_cross_any_cut() {
    for pieces in [1, 3, 7, 64, 100_000] {
        let mut stream = BytesMut::new();
        let mut codec = FrameCodec::new();
        for (_, example) in examples::all() {
            match example {
                Example::Request(correlation, request) => codec.encode((correlation, &request), &mut stream),
                Example::Response(correlation, response) => {
                    codec.encode((correlation, &response), &mut stream)
                }
            }
            .expect("within the limit");
        }
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        for piece in stream.chunks(pieces) {
            input.extend_from_slice(piece);
            while let Some(frame) = codec.decode(&mut input).expect("good frames") {
                frames.push(frame);
            }
        }
        assert!(input.is_empty());
        let examples = examples::all();
        assert_eq!(frames.len(), examples.len());
        for (frame, (name, example)) in frames.iter().zip(examples) {
            assert_eq!(frame.bytes()[..], example.encode(), "{name}");
            match example {
                Example::Request(correlation, request) => {
                    assert_eq!((frame.correlation(), frame.request()), (correlation, Ok(request)));
                }
                Example::Response(correlation, response) => {
                    assert_eq!((frame.correlation(), frame.response()), (correlation, Ok(response)));
                }
            }
        }
    }
}

#[test]
fn broken_and_oversized_frames_are_errors() {
    let mut codec = FrameCodec::new();
    let ping = Request::Ping(Ping { echo: b"ping" });
    let mut stream = BytesMut::new();
    codec.encode((1, &ping), &mut stream).expect("within the limit");
    stream[20] ^= 1;
    assert!(matches!(codec.decode(&mut stream), Err(CodecError::Frame(FrameError::Crc { .. }))));

    codec.set_frame_bytes_max(20);
    let mut out = BytesMut::new();
    let error = codec.encode((1, &ping), &mut out).expect_err("over the limit");
    assert!(out.is_empty() && error.to_string().contains("longer than agreed"));
    assert!(matches!(
        codec.decode(&mut BytesMut::from(&[0xff_u8; 4][..])),
        Err(CodecError::Frame(FrameError::TooLarge { .. }))
    ));
}
