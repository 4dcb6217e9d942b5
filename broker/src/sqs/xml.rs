//! XML, which clients of the Query protocol are answered: replies and errors. Written straight into a buffer.
//!
//! Characters that XML cannot have are replaced; carriage returns are escaped, since a reader of XML would make
//! line feeds of them.

use std::borrow::Cow;

use tenpin_protocol::ErrorCode;

use super::checks::is_xml_character;
use super::error::{ErrorName, ServiceError};
use super::json_out::write_base64;
use super::replies::Reply;
use super::walk::{MapWords, Named, Writer, decimal, has_result, walk};

/// The content type.
pub const CONTENT_TYPE: &str = "text/xml";

const DECLARATION: &str = "<?xml version=\"1.0\"?>";
const NAMESPACE: &str = " xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"";

/// Appends a reply.
pub fn write_reply(reply: &Reply<'_>, request_id: &str, out: &mut Vec<u8>) {
    let action = reply.action().as_str();
    let mut writer = XmlWriter { out };
    writer.raw(&[DECLARATION, "<", action, "Response", NAMESPACE, ">"]);
    if has_result(reply) {
        writer.raw(&["<", action, "Result>"]);
        let start = writer.out.len();
        walk(reply, &mut writer);
        if writer.out.len() == start {
            // The short form of an empty element, as the service has it.
            writer.out.pop();
            writer.raw(&["/>"]);
        } else {
            writer.raw(&["</", action, "Result>"]);
        }
    }
    writer.raw(&["<ResponseMetadata>"]);
    writer.text("RequestId", request_id);
    writer.raw(&["</ResponseMetadata></", action, "Response>"]);
}

/// Appends an error.
pub fn write_error(error: &ServiceError, request_id: &str, out: &mut Vec<u8>) {
    let mut writer = XmlWriter { out };
    if error.name == ErrorName::NoOperation {
        return writer.raw(&["<UnknownOperationException/>\n"]);
    }
    writer.raw(&[DECLARATION, "<ErrorResponse", NAMESPACE, "><Error>"]);
    writer.text("Type", if error.name.is_sender_fault() { "Sender" } else { "Receiver" });
    writer.text("Code", error.name.legacy_code());
    writer.text("Message", &query_text(error));
    writer.raw(&["<Detail/></Error>"]);
    writer.text("RequestId", request_id);
    writer.raw(&["</ErrorResponse>"]);
}

/// An error's text as the Query protocol has it.
pub(super) fn query_text(error: &ServiceError) -> Cow<'_, str> {
    let missing = ErrorCode::QueueDoesNotExist;
    if error.name == ErrorName::Broker(missing) && error.text == missing.text() {
        return "The specified queue does not exist for this wsdl version.".into();
    }
    (&*error.text).into()
}

struct XmlWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl XmlWriter<'_> {
    fn raw(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
    }

    fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.raw(&["<", name, ">"]);
        content(self);
        self.raw(&["</", name, ">"]);
    }
}

impl Writer for XmlWriter<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.element(name, |writer| write_text(writer.out, value));
    }

    fn plain(&mut self, name: &'static str, value: &[u8]) {
        self.element(name, |writer| writer.out.extend_from_slice(value));
    }

    fn binary(&mut self, name: &'static str, value: &[u8]) {
        self.element(name, |writer| write_base64(writer.out, value));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.element(name, |writer| writer.raw(&[decimal(value, &mut [0; 20])]));
    }

    fn boolean(&mut self, name: &'static str, value: bool) {
        self.element(name, |writer| writer.raw(&[if value { "true" } else { "false" }]));
    }

    fn texts<'t>(&mut self, name: Named, texts: impl Iterator<Item = &'t str>) {
        texts.for_each(|text| self.text(name.1, text));
    }

    fn structures<T>(&mut self, name: Named, items: &[T], each: impl Fn(&mut Self, &T)) {
        items.iter().for_each(|item| self.element(name.1, |writer| each(writer, item)));
    }

    fn map_begins(&mut self, _: Named) {}

    fn map_ends(&mut self) {}

    fn map_text(&mut self, name: Named, words: MapWords, key: &str, value: &str) {
        self.element(name.1, |writer| {
            writer.text(words.0, key);
            writer.text(words.1, value);
        });
    }

    fn map_structure(&mut self, name: Named, key: &str, each: impl FnOnce(&mut Self)) {
        self.element(name.1, |writer| {
            writer.text("Name", key);
            writer.element("Value", each);
        });
    }
}

/// Appends the content of an element.
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len());
    let is_plain =
        |byte: u8| matches!(byte, b' '..=0x7f | b'\t' | b'\n') && !matches!(byte, b'<' | b'>' | b'&' | b'"');
    let mut rest = text;
    loop {
        let end = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        let (plain, special) = rest.split_at(end);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = special.chars();
        let Some(character) = characters.next() else { return };
        rest = characters.as_str();
        match character {
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '&' => out.extend_from_slice(b"&amp;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\r' => out.extend_from_slice(b"&#xD;"),
            other => {
                let shown = if is_xml_character(other) { other } else { char::REPLACEMENT_CHARACTER };
                out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}
