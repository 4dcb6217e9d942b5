//! A dead letter as it is given out: with the ARN of the queue that it came from.

use tenpin_protocol::{ContentFields, SendEntry, write_content};

use crate::catalog::QueueName;
use crate::engine::{Delivery, Engine};
use crate::flaws::Flaws;

/// The ARN of the queue that a message is a dead letter of, if it is one.
pub(super) fn source_arn<F: Flaws>(engine: &Engine<F>, delivery: &Delivery) -> Option<String> {
    if delivery.source == 0 {
        return None;
    }
    engine.origin_name(delivery.source).map(QueueName::arn)
}

/// The message's content with the ARN among its fields. On a FIFO queue its id is its deduplication id,
/// since the one that it was sent with meant something on its first queue only.
pub(super) fn with_source(content: &[u8], body_bytes: usize, id: [u8; 16], arn: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + arn.len() + 64);
    let Ok(message) = SendEntry::with_content(content, body_bytes) else { return content.to_vec() };
    let id_text = arn.ends_with(".fifo").then(|| id_text(id));
    let fields = ContentFields {
        group: message.group(),
        deduplication_id: id_text.as_deref().or(message.deduplication_id()),
        attributes: message.attributes(),
        trace_header: message.trace_header(),
        dead_letter_source: Some(arn),
        sender: None,
    };
    write_content(&mut out, message.body, &fields);
    out
}

/// A message id in the usual form of a UUID.
fn id_text(id: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in id.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_joins_what_the_sender_gave() {
        let mut content = Vec::new();
        let fields = ContentFields {
            group: Some("g"),
            deduplication_id: Some("d"),
            trace_header: Some("t"),
            ..ContentFields::default()
        };
        write_content(&mut content, b"body", &fields);
        let id = [0xab; 16];
        for (arn, deduplication_id) in
            [("arn:aws:sqs:r:1:q", "d"), ("arn:aws:sqs:r:1:q.fifo", "abababab-abab-abab-abab-abababababab")]
        {
            let mut expected = Vec::new();
            let fields = ContentFields {
                deduplication_id: Some(deduplication_id),
                dead_letter_source: Some(arn),
                ..fields
            };
            write_content(&mut expected, b"body", &fields);
            assert_eq!(with_source(&content, 4, id, arn), expected);
        }
    }
}
