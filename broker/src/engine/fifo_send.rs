//! Storing messages of FIFO queues: groups, deduplication, and the order of one sender's entries.

use sha2::{Digest, Sha256};
use tenpin_protocol::{ErrorCode, FIELD_HEADER_BYTES, SendEntry, content_tag};

use super::command::Ticket;
use super::deduplication::Entry;
use super::keyed_hash::{Key, Room, TEXT_BYTES_MAX, group_key, key_of};
use super::outputs::{Accepted, Refusal, SendOutcome};
use super::records::{CONTENT_GROUPED, CONTENT_KEYED, KEYED_BYTES, Kind, MessageHead, SENT_BYTES};
use super::send::{check_entry, check_record};
use super::slot::{FLAG_KEYED, FLAG_MEMBER, State};
use super::{Engine, append};
use crate::catalog::{DeduplicationScope, FifoAttributes};
use crate::flaws::Flaws;
use crate::journal::Log;

/// Characters of a deduplication id that is made from a body.
const DIGEST_CHARACTERS: usize = 64;

/// A FIFO queue's entry with everything decided.
struct Checked<'e> {
    entry: &'e SendEntry<'e>,
    group_id: &'e str,
    group: Key,
    deduplication: Key,
    /// The deduplication id, where the body stands for it: it is stored as if it had been given.
    made_id: Option<[u8; DIGEST_CHARACTERS]>,
}

impl<F: Flaws> Engine<F> {
    /// Stores one entry, or says what it is a duplicate of.
    pub(super) fn send_fifo(
        &mut self,
        ticket: Ticket,
        queue_index: u32,
        fifo: FifoAttributes,
        entry: &SendEntry<'_>,
        log: &mut Log<F>,
    ) -> SendOutcome {
        let group_id = check_group(entry)?.ok_or_else(|| {
            Refusal::new(
                ErrorCode::MissingRequiredParameter,
                "The request must contain the parameter MessageGroupId.",
            )
        })?;
        let incarnation = self.queues[queue_index].incarnation;
        let group = group_key(&self.options.check_key, incarnation, group_id);
        let outcome = self.send_to_group(ticket, queue_index, fifo, entry, (group_id, group), log);
        match &outcome {
            Ok(_) => self.refused.accepted(ticket.connection, group),
            Err(_) => self.refused.refused(ticket.connection, group),
        }
        outcome
    }

    /// Nothing of a batch was looked at: every group in it waits for its sender to begin again
    /// (rule 35).
    pub(super) fn refuse_groups<'e>(
        &mut self,
        ticket: Ticket,
        queue_index: u32,
        entries: impl Iterator<Item = SendEntry<'e>>,
    ) {
        let incarnation = self.queues[queue_index].incarnation;
        for entry in entries {
            if let Ok(Some(group_id)) = check_group(&entry) {
                let group = group_key(&self.options.check_key, incarnation, group_id);
                self.refused.refused(ticket.connection, group);
            }
        }
    }

    fn send_to_group(
        &mut self,
        ticket: Ticket,
        queue_index: u32,
        fifo: FifoAttributes,
        entry: &SendEntry<'_>,
        (group_id, group): (&str, Key),
        log: &mut Log<F>,
    ) -> SendOutcome {
        let queue = &self.queues[queue_index];
        check_entry(entry, queue.attributes.message_bytes_max())?;
        if let Some(seconds) = entry.delay_seconds.filter(|&seconds| seconds > 0) {
            return Err(not_for_queue_type("DelaySeconds", seconds));
        }
        if entry.only_if_previous_accepted && self.refused.was_refused(ticket.connection, group) {
            return Err(Refusal::new(
                ErrorCode::InvalidParameterValue,
                "The message before it of the same group was refused.",
            ));
        }
        let made_id = match deduplication_id(entry)? {
            Some(_) => None,
            None if fifo.content_based => Some(digest(entry.body)),
            None => {
                return Err(Refusal::new(
                    ErrorCode::InvalidParameterValue,
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
                     provided explicitly",
                ));
            }
        };
        let made_text = made_id.as_ref().and_then(|digits| std::str::from_utf8(digits).ok());
        let id = made_text.or(entry.deduplication_id()).unwrap_or_default();
        let (room, scope) = match fifo.scope {
            DeduplicationScope::Queue => (Room::Deduplication, ""),
            DeduplicationScope::MessageGroup => (Room::GroupDeduplication, group_id),
        };
        let deduplication = key_of(&self.options.check_key, room, queue.incarnation, scope, id);
        if let Some(found) = self.deduplication.find(deduplication)
            && !found.is_over(self.now_ms)
            && found.sequence > queue.purged_through
        {
            // What it is a duplicate of was accepted by a record before this (rule 1).
            return Ok(Accepted { id: found.id, sequence_number: found.sequence });
        }
        if !self.deduplication.has_room(self.options.deduplication_max) {
            let text = "The shard remembers as many deduplication ids as it may.";
            return Err(Refusal::new(ErrorCode::RequestThrottled, text));
        }
        self.store_fifo(queue_index, &Checked { entry, group_id, group, deduplication, made_id }, log)
    }

    fn store_fifo(&mut self, queue_index: u32, checked: &Checked<'_>, log: &mut Log<F>) -> SendOutcome {
        let Checked { entry, group_id, group, deduplication, made_id } = checked;
        let made_bytes = if made_id.is_some() { FIELD_HEADER_BYTES + DIGEST_CHARACTERS } else { 0 };
        let content_bytes = entry.content.len() + made_bytes;
        check_record(content_bytes, log)?;
        let Some(index) = self.slab.take() else { return Err(ErrorCode::StorageFull.into()) };
        let sequence = self.identity.next_sequence();
        let head = MessageHead {
            slot: index,
            content_flags: CONTENT_GROUPED | CONTENT_KEYED,
            sequence,
            incarnation: self.queues[queue_index].incarnation,
            sent_at_ms: self.now_ms,
            available_at_ms: self.now_ms,
            id: self.identity.message_id(sequence),
            body_bytes: entry.body.len() as u32,
        };
        // Fields stand in the order of their tags, and the group's is the first.
        let (before, behind) = entry.content.split_at(entry.body.len() + FIELD_HEADER_BYTES + group_id.len());
        const FIXED_BYTES: usize = SENT_BYTES + KEYED_BYTES;
        let (position, length) =
            append(log, self.now_ms, Kind::Sent, FIXED_BYTES, content_bytes, true, |out| {
                head.write(out);
                out[SENT_BYTES..FIXED_BYTES].copy_from_slice(&deduplication.bytes());
                let (first, rest) = out[FIXED_BYTES..].split_at_mut(before.len());
                first.copy_from_slice(before);
                if let Some(digits) = made_id {
                    rest[0] = content_tag::DEDUPLICATION_ID;
                    rest[1..FIELD_HEADER_BYTES].copy_from_slice(&(DIGEST_CHARACTERS as u32).to_le_bytes());
                    rest[FIELD_HEADER_BYTES..made_bytes].copy_from_slice(digits);
                }
                rest[made_bytes..].copy_from_slice(behind);
            });
        log.live(position, length);
        let entry = Entry { key: *deduplication, sequence, sent_at_ms: self.now_ms, id: head.id };
        self.deduplication.push(entry, position, log);
        let slot = &mut self.slab[index];
        slot.sequence = sequence;
        slot.position = position.0;
        slot.length = length;
        slot.queue = queue_index;
        slot.available_at_ms = self.now_ms;
        slot.receive_count = 0;
        slot.set_sent(self.now_ms, State::Fresh, FLAG_KEYED | FLAG_MEMBER);
        let queue = &mut self.queues[queue_index];
        queue.slots += 1;
        queue.totals.sent += 1;
        queue.stored_bytes += content_bytes as u64;
        let group = self.groups.find_or_make(*group);
        self.link_fifo(index, Some(group));
        Ok(Accepted { id: head.id, sequence_number: sequence })
    }
}

/// The group of an entry, if it has one, checked.
pub(super) fn check_group<'e>(entry: &SendEntry<'e>) -> Result<Option<&'e str>, Refusal> {
    match entry.group() {
        Some(group) => check_text("MessageGroupId", group).map(Some),
        None => Ok(None),
    }
}

fn deduplication_id<'e>(entry: &SendEntry<'e>) -> Result<Option<&'e str>, Refusal> {
    match entry.deduplication_id() {
        Some(id) => check_text("MessageDeduplicationId", id).map(Some),
        None => Ok(None),
    }
}

/// Checks a text that a client chooses: 1 to 128 letters, digits and punctuation.
pub(super) fn check_text<'t>(parameter: &str, text: &'t str) -> Result<&'t str, Refusal> {
    let is_allowed =
        (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_allowed {
        return Ok(text);
    }
    // What a client made very long is not said back to it whole.
    let shown: String = text.chars().take(TEXT_BYTES_MAX).collect();
    Err(Refusal::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Value {shown} for parameter {parameter} is invalid. Reason: {parameter} can only include \
             alphanumeric and punctuation characters. 1 to {TEXT_BYTES_MAX} in length."
        ),
    ))
}

/// A parameter that queues of the other type have.
#[cold]
pub(super) fn not_for_queue_type(parameter: &str, value: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Value {value} for parameter {parameter} is invalid. Reason: The request include parameter that \
             is not valid for this queue type"
        ),
    )
}

/// A body's SHA-256 in hexadecimal digits, which is the deduplication id that it stands for.
fn digest(body: &[u8]) -> [u8; DIGEST_CHARACTERS] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; DIGEST_CHARACTERS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(body)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_1_to_128_letters_digits_and_punctuation() {
        let longest = "~".repeat(128);
        for text in ["a", "Z9", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", &longest] {
            assert!(check_text("MessageGroupId", text).is_ok(), "{text}");
        }
        let too_long = "x".repeat(129);
        for text in ["", " ", "a b", "ä", "a\n", &too_long] {
            let refusal = check_text("MessageGroupId", text).expect_err(text);
            assert!(refusal.text.contains("MessageGroupId can only include"));
        }
    }

    #[test]
    fn a_body_stands_for_its_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(&digest(b"abc"), expected.as_bytes());
    }
}
