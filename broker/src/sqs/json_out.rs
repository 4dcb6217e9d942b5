//! JSON: replies and errors. Written straight into a buffer.
//!
//! The JSON protocol has a result as it is. A client of the Query protocol that accepts JSON is answered the
//! same parts in the shape that XML has: with frame and request id, and maps as lists of names and values.

use base64::Engine as _;

use super::error::ServiceError;
use super::json::BASE64;
use super::replies::Reply;
use super::walk::{MapWords, Named, Writer, decimal, walk};

/// The content type of the JSON protocol.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// The content type of the Query protocol where the client accepts JSON.
pub const QUERY_CONTENT_TYPE: &str = "application/json";
/// The header that has an error's code of the Query protocol: [`query_error_header`].
pub const QUERY_ERROR_HEADER: &str = "x-amzn-query-error";

/// Appends a reply of the JSON protocol. One that has nothing to tell has no body.
pub fn write_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    if !super::walk::has_result(reply) {
        return;
    }
    let mut writer = JsonWriter { out, is_query: false };
    writer.open(b'{');
    walk(reply, &mut writer);
    writer.close(b'}');
}

/// Appends an error of the JSON protocol.
pub fn write_error(error: &ServiceError, out: &mut Vec<u8>) {
    let (namespace, name) = error.name.json_type();
    out.extend_from_slice(b"{\"__type\":\"");
    for part in [namespace, "#", name] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\",\"message\":");
    write_string(out, &error.text);
    out.push(b'}');
}

/// What the header [`QUERY_ERROR_HEADER`] says of an error.
pub fn query_error_header(error: &ServiceError) -> String {
    let fault = if error.name.is_sender_fault() { "Sender" } else { "Receiver" };
    format!("{};{fault}", error.name.legacy_code())
}

/// Appends a reply of the Query protocol to a client that accepts JSON.
pub fn write_query_reply(reply: &Reply<'_>, request_id: &str, out: &mut Vec<u8>) {
    let action = reply.action().as_str();
    let mut writer = JsonWriter { out, is_query: true };
    writer.open(b'{');
    writer.framed_key(action, "Response");
    writer.open(b'{');
    if super::walk::has_result(reply) {
        writer.framed_key(action, "Result");
        writer.open(b'{');
        walk(reply, &mut writer);
        writer.close(b'}');
    }
    writer.key("ResponseMetadata");
    writer.open(b'{');
    writer.text("RequestId", request_id);
    writer.out.extend_from_slice(b"}}}");
}

/// Appends an error of the Query protocol to a client that accepts JSON.
pub fn write_query_error(error: &ServiceError, request_id: &str, out: &mut Vec<u8>) {
    let mut writer = JsonWriter { out, is_query: true };
    writer.open(b'{');
    writer.key("Error");
    writer.open(b'{');
    writer.text("Type", if error.name.is_sender_fault() { "Sender" } else { "Receiver" });
    writer.text("Code", error.name.legacy_code());
    writer.text("Message", &super::xml::query_text(error));
    writer.close(b'}');
    writer.text("RequestId", request_id);
    writer.close(b'}');
}

struct JsonWriter<'o> {
    out: &'o mut Vec<u8>,
    is_query: bool,
}

impl JsonWriter<'_> {
    fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    /// A comma, unless something has just been opened.
    fn next(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[' | b':') | None) {
            self.out.push(b',');
        }
    }

    /// A key of ours, in which nothing needs escaping.
    fn key(&mut self, name: &'static str) {
        debug_assert!(is_plain(name.as_bytes()));
        self.out.reserve(name.len() + 4);
        self.next();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A key of somebody's choice.
    fn chosen_key(&mut self, name: &str) {
        self.next();
        write_string(self.out, name);
        self.out.push(b':');
    }

    fn framed_key(&mut self, action: &str, word: &str) {
        self.next();
        self.out.push(b'"');
        self.out.extend_from_slice(action.as_bytes());
        self.out.extend_from_slice(word.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn key_value(&mut self, words: MapWords, key: &str) {
        self.next();
        self.open(b'{');
        self.key(words.0);
        write_string(self.out, key);
        self.key(words.1);
    }
}

impl Writer for JsonWriter<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.key(name);
        write_string(self.out, value);
    }

    fn plain(&mut self, name: &'static str, value: &[u8]) {
        self.key(name);
        self.out.reserve(value.len() + 2);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    fn binary(&mut self, name: &'static str, value: &[u8]) {
        self.key(name);
        self.out.push(b'"');
        write_base64(self.out, value);
        self.out.push(b'"');
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.key(name);
        self.out.extend_from_slice(decimal(value, &mut [0; 20]).as_bytes());
    }

    fn boolean(&mut self, name: &'static str, value: bool) {
        self.key(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn texts<'t>(&mut self, name: Named, texts: impl Iterator<Item = &'t str>) {
        self.key(name.0);
        self.open(b'[');
        for text in texts {
            self.next();
            write_string(self.out, text);
        }
        self.close(b']');
    }

    fn structures<T>(&mut self, name: Named, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.key(name.0);
        self.open(b'[');
        for item in items {
            self.next();
            self.open(b'{');
            each(self, item);
            self.close(b'}');
        }
        self.close(b']');
    }

    fn map_begins(&mut self, name: Named) {
        self.key(name.0);
        self.open(if self.is_query { b'[' } else { b'{' });
    }

    fn map_ends(&mut self) {
        self.close(if self.is_query { b']' } else { b'}' });
    }

    fn map_text(&mut self, _: Named, words: MapWords, key: &str, value: &str) {
        if !self.is_query {
            self.chosen_key(key);
            return write_string(self.out, value);
        }
        self.key_value(words, key);
        write_string(self.out, value);
        self.close(b'}');
    }

    fn map_structure(&mut self, _: Named, key: &str, each: impl FnOnce(&mut Self)) {
        if self.is_query {
            self.key_value(MapWords("Name", "Value"), key);
        } else {
            self.chosen_key(key);
        }
        self.open(b'{');
        each(self);
        self.close(b'}');
        if self.is_query {
            self.close(b'}');
        }
    }
}

/// Appends a JSON string.
fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_escaped(out, text.as_bytes());
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, mut rest: &[u8]) {
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some(first) = special.first() else { return };
        match *first {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[DIGITS[usize::from(other >> 4)], DIGITS[usize::from(other & 15)]]);
            }
        }
        rest = &special[1..];
    }
}

/// Whether a byte needs escaping.
fn is_special(byte: &u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// How many bytes at the beginning need no escaping. Sixteen are looked at as one.
fn plain_length(bytes: &[u8]) -> usize {
    let length = 16 * bytes.chunks_exact(16).take_while(|chunk| is_plain(chunk)).count();
    length + bytes[length..].iter().position(is_special).unwrap_or(bytes.len() - length)
}

/// Whether no byte needs escaping. All are looked at, which takes less time than to stop at the first.
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, byte| found | is_special(byte))
}

/// Appends bytes in base64.
pub(super) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut out[start..]).expect("room was made for it");
    out.truncate(start + written);
}
