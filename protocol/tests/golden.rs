//! The golden files: what version 1 puts on the wire, byte for byte, and the README's examples.
//!
//! `TENPIN_GOLDEN=write cargo test -p tenpin-protocol --test golden` writes files that are missing; a
//! file that is there is never changed by it, since what version 1 looks like cannot change.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tenpin_protocol::{
    AttributeCode, ErrorCode, MessageState, MoveTaskStatus, Operation, Request, Response, StatisticCode,
    split_frame,
};

mod common;

use common::examples::{self, Example};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Bytes from lines of hex; what follows two spaces, or a `#` in front, is a remark.
fn from_hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let line = line.trim_start();
        let hex = line.split_once("  ").map_or(line, |(hex, _)| hex);
        for pair in hex.split_whitespace() {
            bytes.push(u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("not hex: {line}")));
        }
    }
    bytes
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        let pairs: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&pairs.join(" "));
        text.push('\n');
    }
    text
}

#[test]
fn golden_files_hold_both_ways() {
    let mut names = BTreeSet::new();
    for (name, example) in examples::all() {
        assert!(names.insert(format!("{name}.hex")), "two examples are called {name}");
        let path = folder().join(name).with_extension("hex");
        if is_written() && !path.exists() {
            fs::write(&path, to_hex(&example.encode())).expect("write a golden file");
        }
        let golden = from_hex(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}")));
        assert_eq!(to_hex(&example.encode()), to_hex(&golden), "{name} is encoded as its golden file says");
        let (frame, consumed) = split_frame(&golden, 1 << 20).expect("a frame").expect("a whole frame");
        assert_eq!(consumed, golden.len(), "{name}");
        match example {
            Example::Request(correlation, request) => {
                assert_eq!(
                    (frame.correlation, Request::decode(&frame)),
                    (correlation, Ok(request)),
                    "{name}"
                );
            }
            Example::Response(correlation, response) => {
                assert_eq!(
                    (frame.correlation, Response::decode(&frame)),
                    (correlation, Ok(response)),
                    "{name}"
                );
            }
        }
    }
    let files: BTreeSet<_> = fs::read_dir(folder())
        .expect("the golden folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, names, "each golden file has an example");
}

#[test]
fn examples_in_the_readme_are_the_golden_files() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let mut shown = 0;
    let mut parts = readme.split("```hex ");
    parts.next();
    for part in parts {
        let (name, rest) = part.split_once('\n').expect("a name");
        let (block, _) = rest.split_once("```").expect("the block's end");
        let golden = fs::read_to_string(folder().join(name).with_extension("hex"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(to_hex(&from_hex(block)), to_hex(&from_hex(&golden)), "{name} in the README");
        shown += 1;
    }
    assert!(shown >= 8, "the README shows examples");
}

/// Remarks that say a length or a count say the one that the bytes beside them have.
#[test]
fn numbers_in_the_remarks_are_right() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let mut checked = 0;
    let blocks = readme.split("```hex ").skip(1).filter_map(|part| part.split("```").next());
    for line in blocks.flat_map(str::lines) {
        let Some((_, remark)) = line.split_once("  ") else { continue };
        let remark = remark.trim();
        let is_counted =
            ["length", "fixed part", "entry", "count"].iter().any(|start| remark.starts_with(start));
        let Some((_, number)) = remark.split_once(": ").filter(|_| is_counted) else { continue };
        let number = number.split([' ', ',']).next().unwrap_or_default();
        let value = from_hex(line).iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        assert_eq!(number, value.to_string(), "{line}");
        checked += 1;
    }
    assert!(checked > 50);
}

/// A table's row for each code, so that the specification cannot fall behind.
#[test]
fn every_code_is_in_the_readme() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let mut rows = Vec::new();
    for code in ErrorCode::ALL {
        let closes = if code.closes_connection() { "yes" } else { "" };
        rows.push(format!("| {} | {} | {closes} | {} |", code.number(), code.name(), code.text()));
    }
    rows.extend(AttributeCode::ALL.iter().map(|code| format!("| {} | {} |", code.number(), code.name())));
    rows.extend(StatisticCode::ALL.iter().map(|code| format!("| {} | {} |", code.number(), code.name())));
    rows.extend(MessageState::ALL.iter().map(|code| format!("| {} | {} |", code.number(), code.name())));
    rows.extend(MoveTaskStatus::ALL.iter().map(|code| format!("| {} | {} |", code.number(), code.name())));
    for operation in Operation::ALL {
        rows.push(format!("| {} | {} |", operation.number(), in_words(operation.name())));
    }
    for row in rows {
        let row = row.replace("|  |", "| |");
        assert!(readme.replace("|  |", "| |").contains(&row), "the README has no row {row}");
    }
}

/// `ListMoveTasks` as "list move tasks".
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words.replace("dead letter", "dead-letter")
}

/// The seeds of the fuzz targets are the golden files as bytes.
#[test]
fn the_fuzz_corpus_is_made_of_the_golden_files() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut stream = vec![100, 255];
    for (name, example) in examples::all() {
        let target = match example {
            Example::Request(..) => "request",
            Example::Response(..) => "response",
        };
        stream.extend(example.encode());
        hold_seed(&corpus.join(target).join(name), &example.encode());
    }
    hold_seed(&corpus.join("stream/all"), &stream);
}

fn hold_seed(path: &Path, bytes: &[u8]) {
    if is_written() && !path.exists() {
        fs::create_dir_all(path.parent().expect("a seed lies in a folder")).expect("make the corpus folder");
        fs::write(path, bytes).expect("write a seed");
    }
    assert_eq!(fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())), bytes);
}

fn is_written() -> bool {
    std::env::var("TENPIN_GOLDEN").is_ok_and(|value| value == "write")
}
