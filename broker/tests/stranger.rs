//! A client that was written from the protocol's specification alone, in another language, against this
//! broker: a test of the specification.

mod common;

use std::path::Path;
use std::process::Command;

use common::TestBroker;

#[test]
fn a_client_written_from_the_specification_works() {
    let broker = TestBroker::start("memory", "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/stranger.py");
    let address = broker.address();
    let output = Command::new("python3")
        .arg(script)
        .args([address.ip().to_string(), address.port().to_string()])
        .output()
        .expect("python3 is there");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim() == "ok", "{said}{errors}");
}
