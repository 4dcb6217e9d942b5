//! Storing messages of FIFO queues: groups, deduplication, and the order of one sender's entries.

use sha2::{Digest, Sha256};
use tenpin_protocol::{ErrorCode, FIELD_HEADER_BYTES, SendEntries, SendEntry, content_tag};

use super::command::Ticket;
use super::keyed_hash::{
    Key, Room, TEXT_BYTES_MAX, group_key, group_key_in, key_of, key_of_two, queue_key, short_word,
};
use super::message::link_fresh_behind;
use super::outputs::{Accepted, Outputs, Refusal, SendOutcome};
use super::records::{
    CONTENT_GROUPED, CONTENT_KEYED, COPIED_OVERHEAD_BYTES_MAX, KEYED_BYTES, Kind, MessageHead, SENT_BYTES,
};
use super::send::{Stored, check_entry, check_record};
use super::slot::{FLAG_KEYED, FLAG_MEMBER, NONE, State};
use super::{BATCH_ENTRIES_MAX, Engine, append};
use crate::catalog::{DeduplicationScope, FifoAttributes};
use crate::flaws::Flaws;
use crate::journal::Log;

/// Characters of a deduplication id that is made from a body.
const DIGEST_CHARACTERS: usize = 64;

/// What is the same for all messages of a batch.
struct Terms {
    queue: u32,
    fifo: FifoAttributes,
    incarnation: u64,
    /// What the keys of the queue's groups have in common.
    queue_key: Key,
    delay_ms: u64,
    message_bytes_max: u32,
    content_bytes_max: usize,
    purged_through: u64,
}

/// An entry taken apart and looked at as far as it can be by itself.
struct Read<'e> {
    content: &'e [u8],
    body_bytes: u32,
    group_id: Option<&'e [u8]>,
    id: Option<&'e [u8]>,
    only_if_previous_accepted: bool,
    /// What is wrong with it beside its ids.
    refusal: Option<Refusal>,
    /// The deduplication id, where the body stands for it: it is stored as if it had been given.
    made_id: Option<Box<[u8; DIGEST_CHARACTERS]>>,
    /// Of texts that may be ids.
    group: Option<Key>,
    deduplication: Option<Key>,
}

impl<'e> Read<'e> {
    /// Put together at the very end, so that it is written from registers to where it stays.
    #[inline(always)]
    fn of(secret: &[u64; 2], terms: &Terms, entry: &SendEntry<'e>) -> Self {
        let (mut group_id, mut id, mut has_attributes) = (None, None, false);
        for (tag, value) in entry.fields() {
            match tag {
                content_tag::GROUP => group_id = Some(value),
                content_tag::DEDUPLICATION_ID => id = Some(value),
                content_tag::ATTRIBUTES => has_attributes = true,
                _ => {}
            }
        }
        let made_id = match id {
            None if terms.fifo.content_based => Some(Box::new(digest(entry.body))),
            _ => None,
        };
        let group_text = group_id.filter(|text| is_text(text));
        let id_text = made_id.as_deref().map(|digits| &digits[..]).or(id).filter(|text| is_text(text));
        let deduplication = match (id_text, terms.fifo.scope, group_text) {
            (Some(id), DeduplicationScope::Queue, _) => {
                Some(key_of(secret, Room::Deduplication, terms.incarnation, id))
            }
            (Some(id), DeduplicationScope::MessageGroup, Some(group_id)) => {
                Some(key_of_two(secret, Room::GroupDeduplication, terms.incarnation, group_id, id))
            }
            _ => None,
        };
        Self {
            content: entry.content,
            body_bytes: entry.body.len() as u32,
            group_id,
            id,
            only_if_previous_accepted: entry.only_if_previous_accepted,
            refusal: find_fault(entry, has_attributes, terms.message_bytes_max),
            made_id,
            group: group_text.map(|id| group_key_in(secret, terms.queue_key, id)),
            deduplication,
        }
    }
}

/// What is wrong with an entry beside its ids.
#[inline(always)]
fn find_fault(entry: &SendEntry<'_>, has_attributes: bool, message_bytes_max: u32) -> Option<Refusal> {
    // Without attributes nothing but the body counts, and there is nothing to walk.
    let is_plain = !has_attributes
        && (1..=message_bytes_max as usize).contains(&entry.body.len())
        && entry.is_without_options();
    if is_plain { None } else { find_fault_of_any(entry, message_bytes_max) }
}

#[inline(never)]
fn find_fault_of_any(entry: &SendEntry<'_>, message_bytes_max: u32) -> Option<Refusal> {
    if let Err(refusal) = check_entry(entry, message_bytes_max) {
        return Some(refusal);
    }
    let seconds = entry.delay_seconds.filter(|&seconds| seconds > 0)?;
    Some(not_for_queue_type("DelaySeconds", seconds))
}

impl<F: Flaws> Engine<F> {
    /// Stores the messages of a batch, or says what they are duplicates of.
    pub(super) fn send_fifo<'e>(
        &mut self,
        ticket: Ticket,
        queue_index: u32,
        fifo: FifoAttributes,
        entries: SendEntries<'e>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        let queue = &self.queues[queue_index];
        let terms = Terms {
            queue: queue_index,
            fifo,
            incarnation: queue.incarnation,
            queue_key: queue_key(&self.options.check_key, queue.incarnation),
            delay_ms: queue.attributes.delay_ms(),
            message_bytes_max: queue.attributes.message_bytes_max(),
            content_bytes_max: log.record_bytes_max() - COPIED_OVERHEAD_BYTES_MAX,
            purged_through: queue.purged_through,
        };
        // All keys first, and then what they lead to: the processor does not go far beyond a line that it has
        // to look for the address of, so that fetches with work in between come one after the other.
        let mut batch: [Option<Read<'e>>; BATCH_ENTRIES_MAX] = [const { None }; BATCH_ENTRIES_MAX];
        let mut places = batch.iter_mut();
        entries.visit(|body, entry| {
            let Some(place) = places.next() else { return };
            let only_body;
            let entry = match entry {
                Some(entry) => entry,
                None => {
                    only_body = SendEntry::new(body);
                    &only_body
                }
            };
            *place = Some(Read::of(&self.options.check_key, &terms, entry));
        });
        for read in batch.iter().flatten() {
            read.deduplication.into_iter().for_each(|key| self.deduplication.expect(key));
            read.group.into_iter().for_each(|key| self.groups.expect(key));
        }
        let mut stored = Stored::default();
        for read in batch.iter_mut().flatten() {
            let Some(group) = read.group else {
                out.sent.push(Err(refuse_group(read.group_id)));
                continue;
            };
            match self.send_to_group(ticket, &terms, (read, group), &mut stored, log, &mut out.sent) {
                Ok(()) => self.refused.accepted(ticket.connection, group),
                Err(refusal) => {
                    self.refused.refused(ticket.connection, group);
                    out.sent.push(Err(refusal));
                }
            }
        }
        self.settle_stored(queue_index, stored, log);
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

    /// Stores an entry with a group, or says what it is a duplicate of. Its outcome is added if it is a good one.
    #[inline]
    fn send_to_group(
        &mut self,
        ticket: Ticket,
        terms: &Terms,
        (read, group): (&mut Read<'_>, Key),
        stored: &mut Stored,
        log: &mut Log<F>,
        sent: &mut Vec<SendOutcome>,
    ) -> Result<(), Refusal> {
        if let Some(refusal) = read.refusal.take() {
            return Err(refusal);
        }
        if read.only_if_previous_accepted && self.refused.was_refused(ticket.connection, group) {
            return Err(Refusal::new(
                ErrorCode::InvalidParameterValue,
                "The message before it of the same group was refused.",
            ));
        }
        let Some(deduplication) = read.deduplication else { return Err(refuse_deduplication(read.id)) };
        let known = self.deduplication.find(deduplication);
        if let Some(place) = known {
            let found = self.deduplication.get(place, &self.identity);
            if !found.is_over(self.now_ms) && found.sequence > terms.purged_through {
                // What it is a duplicate of was accepted by a record before this (rule 1).
                sent.push(Ok(Accepted { id: found.id, sequence_number: found.sequence }));
                return Ok(());
            }
        }
        if !self.deduplication.has_room(self.options.deduplication_max) {
            let text = "The shard remembers as many deduplication ids as it may.";
            return Err(Refusal::new(ErrorCode::RequestThrottled, text));
        }
        self.store_fifo(terms, read, (group, deduplication, known), stored, log, sent)
    }

    #[inline(always)]
    fn store_fifo(
        &mut self,
        terms: &Terms,
        read: &Read<'_>,
        (group, deduplication, known): (Key, Key, Option<u32>),
        batch: &mut Stored,
        log: &mut Log<F>,
        sent: &mut Vec<SendOutcome>,
    ) -> Result<(), Refusal> {
        let Read { content, group_id, made_id, .. } = read;
        let made_bytes = if made_id.is_some() { FIELD_HEADER_BYTES + DIGEST_CHARACTERS } else { 0 };
        let content_bytes = content.len() + made_bytes;
        if content_bytes > terms.content_bytes_max {
            check_record(content_bytes, log)?;
        }
        let Some((index, slot)) = self.slab.take_slot() else { return Err(ErrorCode::StorageFull.into()) };
        let sequence = self.identity.next_sequence();
        let head = MessageHead {
            slot: index,
            content_flags: CONTENT_GROUPED | CONTENT_KEYED,
            sequence,
            incarnation: terms.incarnation,
            sent_at_ms: self.now_ms,
            available_at_ms: self.now_ms,
            id: self.identity.message_id(sequence),
            body_bytes: read.body_bytes,
        };
        const FIXED_BYTES: usize = SENT_BYTES + KEYED_BYTES;
        let (position, length) =
            append(log, self.now_ms, Kind::Sent, FIXED_BYTES, content_bytes, true, |out| {
                head.write(out);
                out[SENT_BYTES..FIXED_BYTES].copy_from_slice(&deduplication.bytes());
                match made_id {
                    None => out[FIXED_BYTES..].copy_from_slice(content),
                    Some(digits) => {
                        // Fields stand in the order of their tags, and the group's is the first.
                        let group_bytes = FIELD_HEADER_BYTES + group_id.map_or(0, <[u8]>::len);
                        let before = read.body_bytes as usize + group_bytes;
                        write_made(&mut out[FIXED_BYTES..], content, before, digits);
                    }
                }
            });
        log.note_live(&mut batch.records, position, length);
        batch.count += 1;
        batch.content_bytes += content_bytes as u64;
        self.deduplication.push((deduplication, known), (sequence, self.now_ms), position, log);
        let is_delayed = terms.delay_ms > 0;
        let state = if is_delayed { State::Delayed } else { State::Fresh };
        let queue = &mut self.queues[terms.queue];
        slot.sequence = sequence;
        slot.position = position.0;
        slot.length = length;
        slot.queue = terms.queue;
        slot.available_at_ms = self.now_ms;
        slot.receive_count = 0;
        slot.set_sent(self.now_ms, state, FLAG_KEYED | FLAG_MEMBER);
        slot.list_next = NONE;
        slot.list_previous = queue.fresh_tail;
        link_fresh_behind(&mut self.slab, queue, index);
        if is_delayed {
            batch.delayed += 1;
            self.begin_delay(terms.queue, index);
        }
        let place = self.groups.find_or_make(group);
        self.join_group(index, place, false, terms.purged_through);
        sent.push(Ok(Accepted { id: head.id, sequence_number: sequence }));
        Ok(())
    }
}

/// Writes an entry's content with the deduplication id that its body stands for behind so many bytes of it.
#[inline(never)]
fn write_made(out: &mut [u8], content: &[u8], before: usize, digits: &[u8; DIGEST_CHARACTERS]) {
    const MADE_BYTES: usize = FIELD_HEADER_BYTES + DIGEST_CHARACTERS;
    let (before, behind) = content.split_at(before);
    let (first, rest) = out.split_at_mut(before.len());
    first.copy_from_slice(before);
    rest[0] = content_tag::DEDUPLICATION_ID;
    rest[1..FIELD_HEADER_BYTES].copy_from_slice(&(DIGEST_CHARACTERS as u32).to_le_bytes());
    rest[FIELD_HEADER_BYTES..MADE_BYTES].copy_from_slice(digits);
    rest[MADE_BYTES..].copy_from_slice(behind);
}

#[cold]
fn refuse_group(group_id: Option<&[u8]>) -> Refusal {
    match group_id {
        Some(text) => refuse_text("MessageGroupId", text),
        None => Refusal::new(
            ErrorCode::MissingRequiredParameter,
            "The request must contain the parameter MessageGroupId.",
        ),
    }
}

#[cold]
fn refuse_deduplication(id: Option<&[u8]>) -> Refusal {
    match id {
        Some(text) => refuse_text("MessageDeduplicationId", text),
        None => Refusal::new(
            ErrorCode::InvalidParameterValue,
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
             provided explicitly",
        ),
    }
}

/// The group of an entry, if it has one, checked.
pub(super) fn check_group<'e>(entry: &SendEntry<'e>) -> Result<Option<&'e str>, Refusal> {
    match entry.group() {
        Some(group) => check_text("MessageGroupId", group).map(Some),
        None => Ok(None),
    }
}

/// Checks a text that a client chooses: 1 to 128 letters, digits and punctuation.
pub(super) fn check_text<'t>(parameter: &str, text: &'t str) -> Result<&'t str, Refusal> {
    if is_text(text.as_bytes()) { Ok(text) } else { Err(refuse_text(parameter, text.as_bytes())) }
}

/// Whether a text is one that a client may choose.
#[inline]
fn is_text(text: &[u8]) -> bool {
    const EVERY: u64 = 0x0101_0101_0101_0101;
    // In a byte's highest bit: it is below '!', or above '~'. A carry into the next byte comes only from
    // one of which that is so.
    let outside = |word: u64| {
        let below = word.wrapping_sub(EVERY * 0x21) & !word;
        let above = word.wrapping_add(EVERY) | word;
        (below | above) & (EVERY << 7)
    };
    let (words, rest) = text.as_chunks();
    let filled = short_word(rest) | (EVERY * 0x21) << (8 * rest.len());
    let found = words.iter().fold(outside(filled), |found, &word| found | outside(u64::from_le_bytes(word)));
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && found == 0
}

#[cold]
fn refuse_text(parameter: &str, text: &[u8]) -> Refusal {
    // What a client made very long is not said back to it whole.
    let shown: String = String::from_utf8_lossy(text).chars().take(TEXT_BYTES_MAX).collect();
    Refusal::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Value {shown} for parameter {parameter} is invalid. Reason: {parameter} can only include \
             alphanumeric and punctuation characters. 1 to {TEXT_BYTES_MAX} in length."
        ),
    )
}

/// A parameter that queues of the other type have.
#[cold]
pub(super) fn not_for_queue_type(parameter: &str, value: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Value {value} for parameter {parameter} is invalid. Reason: The request include parameter that \
             is not valid for this queue type."
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
        for byte in 0..=u8::MAX {
            for (length, place) in [(1, 0), (7, 3), (8, 7), (9, 8), (20, 1), (20, 18)] {
                let mut text = vec![b'a'; length];
                text[place] = byte;
                assert_eq!(is_text(&text), byte.is_ascii_graphic(), "{byte} at {place} of {length}");
            }
        }
    }

    #[test]
    fn a_body_stands_for_its_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(&digest(b"abc"), expected.as_bytes());
    }
}
