//! Requests of the Query protocol: a form, and behind the first line feed what stands in the URL.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../src/sqs/mod.rs"]
mod sqs;

use libfuzzer_sys::fuzz_target;
use sqs::{Action, query};

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (form, url) = bytes.split_at(end);
    let url = std::str::from_utf8(url.get(1..).unwrap_or_default()).unwrap_or_default();
    if let Ok(Action::SendMessageBatch(batch)) = query::parse(url, form, bytes.len() % 2 == 0) {
        assert!((1..=10).contains(&batch.entries.len()));
        for entry in &batch.entries {
            let _ = entry.check();
        }
    }
});
