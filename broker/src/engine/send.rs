//! Storing messages.

use tenpin_protocol::{ErrorCode, SendEntries, SendEntry};

use super::attributes::check_attributes;
use super::fifo_send::{check_group, not_for_queue_type};
use super::keyed_hash::{Key, group_key};
use super::message::link_fresh_behind;
use super::outputs::{Accepted, Outputs, Refusal, ReplyBody, SendOutcome};
use super::records::{CONTENT_GROUPED, COPIED_OVERHEAD_BYTES_MAX, Kind, MessageHead, SENT_BYTES};
use super::slot::{NONE, State};
use super::{BATCH_ENTRIES_MAX, Engine, Ticket, append};
use crate::flaws::Flaws;
use crate::journal::{Log, Room, Tally};

/// Bytes of a batch's messages; a longer batch is refused whole.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// The longest delay of a message.
const DELAY_SECONDS_MAX: u32 = 900;

/// What is the same for all messages of a batch.
struct Terms {
    queue: u32,
    incarnation: u64,
    delay_ms: u64,
    message_bytes_max: u32,
    content_bytes_max: usize,
}

/// What a batch has stored so far, to be counted at its end.
#[derive(Default)]
pub(super) struct Stored {
    pub count: u64,
    pub delayed: u64,
    pub content_bytes: u64,
    pub records: Tally,
}

impl<F: Flaws> Engine<F> {
    #[inline]
    pub(super) fn send(
        &mut self,
        ticket: Ticket,
        number: u64,
        entries: SendEntries<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        let start = out.sent.len() as u32;
        let body = match self.send_batch(ticket, number, entries, log, out) {
            Ok(()) => ReplyBody::Sent(start..out.sent.len() as u32),
            Err(refusal) => ReplyBody::Refused(refusal),
        };
        out.reply(ticket, log.end(), body);
    }

    #[inline]
    fn send_batch(
        &mut self,
        ticket: Ticket,
        number: u64,
        entries: SendEntries<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let queue = self.find_queue(number)?;
        if let Err(refusal) = check_sendable(entries, log) {
            if self.is_fifo(queue) {
                self.refuse_groups(ticket, queue, entries.iter());
            }
            return Err(refusal);
        }
        self.reserve_sequences(log);
        if let Some(fifo) = self.queues[queue].attributes.fifo {
            self.send_fifo(ticket, queue, fifo, entries, log, out);
        } else {
            self.send_standard(queue, entries, log, out);
        }
        self.start_queue_timer(queue);
        if self.queues[queue].is_awaited() && self.queues[queue].visible > 0 {
            self.mark_ready(queue);
        }
        Ok(())
    }

    /// Stores the messages of a batch to a standard queue.
    #[inline]
    fn send_standard(&mut self, queue: u32, entries: SendEntries<'_>, log: &mut Log<F>, out: &mut Outputs) {
        let attributes = &self.queues[queue].attributes;
        let terms = Terms {
            queue,
            incarnation: self.queues[queue].incarnation,
            delay_ms: attributes.delay_ms(),
            message_bytes_max: attributes.message_bytes_max(),
            content_bytes_max: log.record_bytes_max() - COPIED_OVERHEAD_BYTES_MAX,
        };
        let mut stored = Stored::default();
        entries.visit(|body, entry| {
            let sent = &mut out.sent;
            match entry {
                None => self.send_body(&terms, body, &mut stored, log, sent),
                Some(entry) => self.send_entry(&terms, entry, &mut stored, log, sent),
            }
        });
        self.settle_stored(queue, stored, log);
    }

    /// Stores a message that is only a body.
    #[inline]
    fn send_body(
        &mut self,
        terms: &Terms,
        body: &[u8],
        batch: &mut Stored,
        log: &mut Log<F>,
        sent: &mut Vec<SendOutcome>,
    ) {
        let bytes_max = terms.content_bytes_max.min(terms.message_bytes_max as usize);
        if body.is_empty() || body.len() > bytes_max {
            return self.send_entry(terms, &SendEntry::new(body), batch, log, sent);
        }
        self.store(terms, (body, None), body.len(), terms.delay_ms, batch, log, sent);
    }

    /// Stores a message with all that an entry can say.
    #[inline(never)]
    fn send_entry(
        &mut self,
        terms: &Terms,
        entry: &SendEntry<'_>,
        batch: &mut Stored,
        log: &mut Log<F>,
        sent: &mut Vec<SendOutcome>,
    ) {
        let group = match check_standard_entry(entry, terms, log) {
            Ok(group) => group.map(|id| group_key(&self.options.check_key, terms.incarnation, id)),
            Err(refusal) => return sent.push(Err(refusal)),
        };
        let delay_ms = entry.delay_seconds.map_or(terms.delay_ms, |seconds| u64::from(seconds) * 1_000);
        self.store(terms, (entry.content, group), entry.body.len(), delay_ms, batch, log, sent);
    }

    /// Stores a message and adds its outcome. All is written from registers to where it stays: a copy of what
    /// was just put together would have the processor wait for it.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a message, its terms, and all that it changes")]
    fn store(
        &mut self,
        terms: &Terms,
        (content, group): (&[u8], Option<Key>),
        body_bytes: usize,
        delay_ms: u64,
        batch: &mut Stored,
        log: &mut Log<F>,
        sent: &mut Vec<SendOutcome>,
    ) {
        let Terms { queue: queue_index, incarnation, .. } = *terms;
        let Some((slot, stored)) = self.slab.take_slot() else {
            return sent.push(Err(ErrorCode::StorageFull.into()));
        };
        let sequence = self.identity.next_sequence();
        let head = MessageHead {
            slot,
            content_flags: if group.is_some() { CONTENT_GROUPED } else { 0 },
            sequence,
            incarnation,
            sent_at_ms: self.now_ms,
            available_at_ms: self.now_ms + delay_ms,
            id: self.identity.message_id(sequence),
            body_bytes: body_bytes as u32,
        };
        let (position, length) =
            append(log, self.now_ms, Kind::Sent, SENT_BYTES, content.len(), true, |out| {
                head.write(out);
                out[SENT_BYTES..].copy_from_slice(content);
            });
        log.note_live(&mut batch.records, position, length);
        batch.count += 1;
        batch.content_bytes += content.len() as u64;
        stored.sequence = sequence;
        stored.position = position.0;
        stored.length = length;
        stored.queue = queue_index;
        stored.available_at_ms = head.available_at_ms;
        stored.receive_count = 0;
        if delay_ms == 0 {
            stored.set_sent(self.now_ms, State::Fresh, 0);
            if group.is_none() {
                let queue = &mut self.queues[queue_index];
                stored.list_next = NONE;
                stored.list_previous = queue.fresh_tail;
                link_fresh_behind(&mut self.slab, queue, slot);
            }
        } else {
            stored.set_sent(self.now_ms, State::Delayed, 0);
            batch.delayed += 1;
            self.start_timer(slot);
        }
        if let Some(group) = group {
            self.join_fair(slot, group);
        }
        sent.push(Ok(Accepted { id: head.id, sequence_number: 0 }));
    }

    /// Counts what a batch has stored.
    #[inline]
    pub(super) fn settle_stored(&mut self, index: u32, mut stored: Stored, log: &mut Log<F>) {
        log.settle_live(&mut stored.records);
        let queue = &mut self.queues[index];
        queue.slots += stored.count;
        queue.totals.sent += stored.count;
        queue.stored_bytes += stored.content_bytes;
        queue.visible += stored.count - stored.delayed;
        queue.delayed += stored.delayed;
    }
}

/// Checks a batch's number of entries.
#[inline]
pub(super) fn check_batch(entries: usize) -> Result<(), Refusal> {
    if (1..=BATCH_ENTRIES_MAX).contains(&entries) {
        return Ok(());
    }
    if entries == 0 {
        return Err(ErrorCode::EmptyBatchRequest.into());
    }
    let text =
        format!("Maximum number of entries per request are {BATCH_ENTRIES_MAX}. You have sent {entries}.");
    Err(Refusal::new(ErrorCode::TooManyEntriesInBatchRequest, text))
}

/// Checks what concerns a batch as a whole.
#[inline]
fn check_sendable<F: Flaws>(entries: SendEntries<'_>, log: &Log<F>) -> Result<(), Refusal> {
    check_batch(entries.len())?;
    if entries.wire_bytes().is_none_or(|bytes| bytes as u64 > BATCH_BYTES_MAX) {
        // Only now does it matter how much of it counts.
        let bytes = entries.iter().map(|entry| entry.message_bytes() as u64).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(batch_too_long(bytes));
        }
    }
    if log.room() != Room::All {
        return Err(ErrorCode::StorageFull.into());
    }
    Ok(())
}

/// Checks that a message of this content fits a record, also when it is copied.
#[inline]
pub(super) fn check_record<F: Flaws>(content_bytes: usize, log: &Log<F>) -> Result<(), Refusal> {
    if COPIED_OVERHEAD_BYTES_MAX + content_bytes <= log.record_bytes_max() {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::InvalidParameterValue,
        "One or more parameters are invalid. Reason: The message with its fields is longer than a \
         record of the log may be.",
    ))
}

/// Checks an entry for a standard queue. Says its group, if any.
#[inline]
fn check_standard_entry<'e, F: Flaws>(
    entry: &SendEntry<'e>,
    terms: &Terms,
    log: &Log<F>,
) -> Result<Option<&'e str>, Refusal> {
    check_entry(entry, terms.message_bytes_max)?;
    let group = if entry.content.len() > entry.body.len() { check_standard(entry)? } else { None };
    check_record(entry.content.len(), log)?;
    Ok(group)
}

/// Checks the fields that mean something else, or nothing, on a FIFO queue. Says the group, if any.
#[inline(never)]
fn check_standard<'e>(entry: &SendEntry<'e>) -> Result<Option<&'e str>, Refusal> {
    let group = check_group(entry)?;
    match entry.deduplication_id() {
        Some(id) => Err(not_for_queue_type("MessageDeduplicationId", id)),
        None => Ok(group),
    }
}

#[cold]
fn batch_too_long(bytes: u64) -> Refusal {
    Refusal::new(
        ErrorCode::BatchRequestTooLong,
        format!("Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {bytes} bytes."),
    )
}

#[inline]
pub(super) fn check_entry(entry: &SendEntry<'_>, message_bytes_max: u32) -> Result<(), Refusal> {
    if entry.body.is_empty() {
        return Err(Refusal::new(
            ErrorCode::MissingRequiredParameter,
            "The request must contain the parameter MessageBody.",
        ));
    }
    if let Some(seconds) = entry.delay_seconds
        && seconds > DELAY_SECONDS_MAX
    {
        return Err(super::out_of_range(seconds, "DelaySeconds", 0, DELAY_SECONDS_MAX.into()));
    }
    if entry.message_bytes() > message_bytes_max as usize {
        let text = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {message_bytes_max} bytes."
        );
        return Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
    }
    if let Some(field) = unserved_field(entry) {
        return Err(Refusal::new(ErrorCode::UnsupportedOperation, format!("{field} is not supported.")));
    }
    if entry.content.len() > entry.body.len() {
        check_attributes(entry.attributes())?;
    }
    Ok(())
}

/// The first thing that an entry asks for and that is not served.
#[inline]
fn unserved_field(entry: &SendEntry<'_>) -> Option<&'static str> {
    if entry.priority.is_some() {
        return Some("Priority");
    }
    if entry.own_expiry_ms.is_some() {
        return Some("A message's own expiry");
    }
    if entry.producer.is_some() {
        return Some("A producer's sequence");
    }
    None
}
