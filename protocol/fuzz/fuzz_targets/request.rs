//! Any bytes as a request: decoding never panics, and what it gives means the same when it is
//! encoded, in bytes that come back the same. The CRC is left out, which would stop the fuzzer at
//! the door.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenpin_protocol::{Frame, HEADER_BYTES, Request, split_frame};

fuzz_target!(|bytes: &[u8]| {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return };
    let frame = Frame {
        version: header[8],
        operation: header[9],
        flags: u16::from_le_bytes([header[10], header[11]]),
        correlation: u32::from_le_bytes([header[12], header[13], header[14], header[15]]),
        payload,
    };
    let request = match Request::decode(&frame) {
        Ok(request) => request,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if let Request::Send(send) = &request {
        assert!(send.message_bytes() <= payload.len());
    }
    let mut once = Vec::new();
    request.encode(frame.correlation, &mut once);
    let (again, consumed) = split_frame(&once, usize::MAX).unwrap().unwrap();
    assert_eq!(consumed, once.len());
    assert!(again.payload.len() <= payload.len());
    assert_eq!(Request::decode(&again), Ok(request));
    if again.payload.len() == payload.len() {
        assert_eq!(again.payload, payload);
    }
});
