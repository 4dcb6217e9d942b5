//! Requests of the JSON protocol: the first byte says which action, the rest is the body.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../src/sqs/mod.rs"]
mod sqs;

use libfuzzer_sys::fuzz_target;
use sqs::{Action, ActionName, json};

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, body)) = bytes.split_first() else { return };
    let name = ActionName::ALL[usize::from(which) % ActionName::ALL.len()];
    match json::parse(&format!("AmazonSQS.{}", name.as_str()), body) {
        Ok(action) => {
            assert_eq!(action.name(), name);
            if let Action::SendMessage(send) = &action {
                let _ = send.message.check();
            }
        }
        Err(error) => assert!(!error.text.is_empty()),
    }
});
