//! A message's content: its body and, behind it, its optional fields. Content travels and is stored
//! in one piece, so that a reply can copy it as it came.

use crate::codes::content_tag;
use crate::error::{DecodeError, Problem};
use crate::layout::{
    Entries, Fields, Layout, Reader, as_text, check_fields, layout, length_u32, short, write_field,
    write_fixed,
};

const NAME: &str = "message content";

/// The optional fields of a message, for writing its content.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ContentFields<'a> {
    /// Message group.
    pub group: Option<&'a str>,
    /// Deduplication id.
    pub deduplication_id: Option<&'a str>,
    /// User attributes; none are written where there are none.
    pub attributes: Entries<'a, UserAttribute<'a>>,
    /// Trace header.
    pub trace_header: Option<&'a str>,
    /// ARN of the queue that it was a dead letter of; only the broker may say so.
    pub dead_letter_source: Option<&'a str>,
    /// Who sent it; only the broker may say so.
    pub sender: Option<&'a str>,
}

/// Appends a message's content: `body` and the optional fields behind it.
pub fn write_content(out: &mut Vec<u8>, body: &[u8], fields: &ContentFields<'_>) {
    out.extend_from_slice(body);
    let texts = |out: &mut Vec<u8>, tag, value: Option<&str>| {
        if let Some(value) = value {
            write_field(out, tag, value.as_bytes());
        }
    };
    texts(out, content_tag::GROUP, fields.group);
    texts(out, content_tag::DEDUPLICATION_ID, fields.deduplication_id);
    if !fields.attributes.is_empty() {
        out.push(content_tag::ATTRIBUTES);
        let attributes = UserAttributes { attributes: fields.attributes };
        crate::layout::write_entry(out, |out| attributes.write(out));
    }
    texts(out, content_tag::TRACE_HEADER, fields.trace_header);
    texts(out, content_tag::DEAD_LETTER_SOURCE, fields.dead_letter_source);
    texts(out, content_tag::SENDER, fields.sender);
}

layout! {
    /// The value of the attributes field.
    pub struct UserAttributes<'a> as "attributes" {
        lists {
            /// The attributes, in the sender's order.
            attributes: UserAttribute<'a>,
        }
    }
}

/// One user attribute of a message. Only its layout is checked here; names, types and sizes are the
/// business of who takes the message.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UserAttribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// `String`, `Number` or `Binary`, with an optional label behind a dot.
    pub data_type: &'a str,
    /// Its value: UTF-8, but for `Binary`.
    pub value: &'a [u8],
}

impl<'a> Layout<'a> for UserAttribute<'a> {
    const NAME: &'static str = "attribute";

    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut fixed = reader.fixed(Self::NAME)?;
        let name_length = fixed.u16("attribute: length of name")?;
        let type_length = fixed.u16("attribute: length of data_type")?;
        let value_length = fixed.u32("attribute: length of value")?;
        let name = reader.text(usize::from(name_length), "attribute: name")?;
        let data_type = reader.text(usize::from(type_length), "attribute: data_type")?;
        let value = reader.bytes(value_length as usize, "attribute: value")?;
        check_fields(reader.rest, Self::NAME)?;
        Ok(Self { name, data_type, value })
    }

    fn text_bytes(&self) -> Option<usize> {
        Some(short(self.name.len())? + short(self.data_type.len())? + self.value.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_fixed(out, |out| {
            out.extend_from_slice(&crate::layout::length_u16(self.name.len()).to_le_bytes());
            out.extend_from_slice(&crate::layout::length_u16(self.data_type.len()).to_le_bytes());
            out.extend_from_slice(&length_u32(self.value.len()).to_le_bytes());
        });
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.data_type.as_bytes());
        out.extend_from_slice(self.value);
    }
}

impl UserAttribute<'_> {
    /// What it adds to its message's size.
    pub fn message_bytes(&self) -> usize {
        self.name.len() + self.data_type.len() + self.value.len()
    }
}

/// Takes content apart after its body, checking the fields.
#[inline(always)]
pub(crate) fn split_content(content: &[u8], body_length: u32, given_out: bool) -> Result<&[u8], DecodeError> {
    let Some((body, fields)) = content.split_at_checked(body_length as usize) else {
        return Err(DecodeError::malformed(Problem::EndsInside { what: "message body" }));
    };
    if !fields.is_empty() {
        check_content_fields(fields, given_out)?;
    }
    Ok(body)
}

fn check_content_fields(bytes: &[u8], given_out: bool) -> Result<(), DecodeError> {
    check_fields(bytes, NAME)?;
    for (tag, value) in Fields::new(bytes) {
        match tag {
            content_tag::GROUP => drop(as_text(value, "message group")?),
            content_tag::DEDUPLICATION_ID => drop(as_text(value, "deduplication id")?),
            content_tag::ATTRIBUTES => drop(UserAttributes::read(value)?),
            content_tag::TRACE_HEADER => drop(as_text(value, "trace header")?),
            content_tag::DEAD_LETTER_SOURCE | content_tag::SENDER if !given_out => {
                let what = if tag == content_tag::SENDER { "sender" } else { "dead-letter source" };
                return Err(DecodeError::malformed(Problem::Misplaced { what }));
            }
            content_tag::DEAD_LETTER_SOURCE => drop(as_text(value, "dead-letter source")?),
            content_tag::SENDER => drop(as_text(value, "sender")?),
            _ => {}
        }
    }
    Ok(())
}

/// The optional fields behind a body of `body_length` bytes.
pub(crate) fn content_fields(content: &[u8], body_length: usize) -> Fields<'_> {
    Fields::new(content.get(body_length..).unwrap_or_default())
}

pub(crate) fn content_text(content: &[u8], body_length: usize, tag: u8) -> Option<&str> {
    // The text was checked when the content was taken.
    content_fields(content, body_length).value(tag).and_then(|value| std::str::from_utf8(value).ok())
}

pub(crate) fn content_attributes(content: &[u8], body_length: usize) -> Entries<'_, UserAttribute<'_>> {
    content_fields(content, body_length)
        .value(content_tag::ATTRIBUTES)
        .and_then(|value| UserAttributes::read(value).ok())
        .map(|attributes| attributes.attributes)
        .unwrap_or_default()
}

/// Accessors of the optional fields, alike for all that have a content.
macro_rules! content_accessors {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// The optional fields behind the body.
            pub fn fields(&self) -> Fields<'a> {
                content_fields(self.content, self.body.len())
            }

            /// Message group.
            pub fn group(&self) -> Option<&'a str> {
                content_text(self.content, self.body.len(), content_tag::GROUP)
            }

            /// Deduplication id.
            pub fn deduplication_id(&self) -> Option<&'a str> {
                content_text(self.content, self.body.len(), content_tag::DEDUPLICATION_ID)
            }

            /// User attributes.
            pub fn attributes(&self) -> Entries<'a, UserAttribute<'a>> {
                content_attributes(self.content, self.body.len())
            }

            /// Trace header.
            pub fn trace_header(&self) -> Option<&'a str> {
                content_text(self.content, self.body.len(), content_tag::TRACE_HEADER)
            }

            /// ARN of the queue that it was a dead letter of.
            pub fn dead_letter_source(&self) -> Option<&'a str> {
                content_text(self.content, self.body.len(), content_tag::DEAD_LETTER_SOURCE)
            }

            /// Who sent it.
            pub fn sender(&self) -> Option<&'a str> {
                content_text(self.content, self.body.len(), content_tag::SENDER)
            }

            /// The message's size as the limits count it: body and user attributes.
            #[inline]
            pub fn message_bytes(&self) -> usize {
                if self.content.len() == self.body.len() {
                    return self.body.len();
                }
                self.message_bytes_with_fields()
            }

            #[inline(never)]
            fn message_bytes_with_fields(&self) -> usize {
                self.body.len() + self.attributes().iter().map(|entry| entry.message_bytes()).sum::<usize>()
            }
        }
    };
}
pub(crate) use content_accessors;
