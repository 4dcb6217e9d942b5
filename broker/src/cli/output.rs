//! Printing: tables whose columns stand under each other, and JSON.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::ReceiptHandle;

use super::usage;

/// Prints one JSON value on a line of its own.
pub fn json_line(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Prints a line. Who reads may have gone: that ends the command.
pub fn line(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").map_err(unwritable)
}

/// Prints what has its ends of lines.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(unwritable)
}

fn unwritable(error: io::Error) -> Failure {
    Failure::new(ExitReason::Unexpected, format!("standard output cannot be written: {error}"))
}

/// Prints rows in columns; the first row is the heading. Each is one line, whatever is in it.
pub fn table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| on_one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Text that others have chosen, for a line of a terminal, which it must not steer.
pub fn on_one_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A body for people: as text where it is one, else what it is.
pub fn body_for_people(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text
            .chars()
            .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
            .collect(),
        Err(_) => format!("({} bytes that are not text)", body.len()),
    }
}

/// Puts a body into JSON: as text where it is one, else in base64 under another name.
pub fn put_body(object: &mut Value, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => object["body"] = json!(text),
        Err(_) => object["body_base64"] = json!(STANDARD.encode(body)),
    }
}

/// Attributes of a message as JSON.
pub fn attributes_json<'a>(attributes: impl Iterator<Item = (&'a str, &'a str, &'a [u8])>) -> Value {
    let entry = |(name, data_type, value): (&str, &str, &[u8])| {
        let mut object = json!({ "type": data_type });
        match std::str::from_utf8(value) {
            Ok(text) if !data_type.starts_with("Binary") => object["value"] = json!(text),
            _ => object["value_base64"] = json!(STANDARD.encode(value)),
        }
        (name.to_owned(), object)
    };
    Value::Object(attributes.map(entry).collect())
}

/// A receipt handle as text, as the SQS endpoint has it: a handle from either is good at the other.
pub fn handle_text(handle: &ReceiptHandle) -> String {
    URL_SAFE_NO_PAD.encode(handle.as_bytes())
}

/// A receipt handle from such a text.
pub fn parse_handle(text: &str) -> Result<ReceiptHandle, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| {
        usage(format!("\"{text}\" is no receipt handle: give one as `tenpin receive` prints it"))
    })?;
    Ok(ReceiptHandle::from_bytes(bytes))
}

/// Milliseconds since the Unix epoch.
pub fn epoch_ms(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// How long ago something was, or how far ahead, for people.
pub fn distance(time: SystemTime) -> String {
    let now = SystemTime::now();
    match now.duration_since(time) {
        Ok(past) => format!("{} ago", duration(past)),
        Err(ahead) => format!("in {}", duration(ahead.duration())),
    }
}

/// A time for people: its two largest units.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Whether a person watches the progress.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_text() {
        let handle = ReceiptHandle::from_bytes(vec![0, 255, 7]);
        assert_eq!(parse_handle(&handle_text(&handle)).unwrap(), handle);
        assert!(parse_handle("not a handle!").is_err());
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        assert_eq!(duration(Duration::from_millis(1_500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(3_700)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
    }

    #[test]
    fn bodies_cannot_steer_a_terminal() {
        assert_eq!(body_for_people(b"a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(body_for_people(&[0xff]), "(1 bytes that are not text)");
        assert_eq!(on_one_line("a\x1b[2J\nb"), "a\u{fffd}[2J b");
    }
}
