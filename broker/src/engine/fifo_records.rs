//! Records of what FIFO queues remember beside their messages: deduplication entries and attempts.

use super::attempts::ATTEMPT_MS;
use super::deduplication::Entry;
use super::keyed_hash::Key;
use super::records::{Reader, Writer};
use crate::journal::{Damage, RawRecord};

/// Length of Deduplication's fixed part: how many entries follow.
pub(super) const DEDUPLICATION_BYTES: usize = 8;
/// Length of one entry.
pub(super) const ENTRY_BYTES: usize = 48;
/// Length of Attempt's fixed part.
pub(super) const ATTEMPT_BYTES: usize = 48;
/// Length of one message of an attempt.
pub(super) const ATTEMPTED_BYTES: usize = 16;

/// Writes a Deduplication record's parts.
pub(super) fn write_entries(entries: impl ExactSizeIterator<Item = Entry>, out: &mut [u8]) {
    let (fixed, variable) = out.split_at_mut(DEDUPLICATION_BYTES);
    let mut writer = Writer(fixed);
    writer.u32(entries.len() as u32);
    writer.u32(0);
    for (bytes, entry) in variable.chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        let mut writer = Writer(bytes);
        writer.bytes(&entry.key.bytes());
        writer.u64(entry.sequence);
        writer.u64(entry.sent_at_ms);
        writer.bytes(&entry.id);
    }
}

/// Reads the entries of a Deduplication record.
pub(super) fn read_entries(raw: &RawRecord<'_>, mut each: impl FnMut(Entry)) -> Result<(), Damage> {
    let count = Reader(raw.fixed).u32()? as usize;
    if Some(raw.variable.len()) != count.checked_mul(ENTRY_BYTES) {
        return Err(Damage::new("a block of deduplication has another length than it says"));
    }
    for bytes in raw.variable.chunks_exact(ENTRY_BYTES) {
        let mut reader = Reader(bytes);
        each(Entry {
            key: Key::from_bytes(reader.array()?),
            sequence: reader.u64()?,
            sent_at_ms: reader.u64()?,
            id: reader.array()?,
        });
    }
    Ok(())
}

/// A message that a receive with an attempt id was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptedMessage {
    pub slot: u32,
    pub receive_count: u32,
    pub sequence: u64,
}

/// A receive with an attempt id, and what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempted {
    pub key: Key,
    pub incarnation: u64,
    /// When it was first asked.
    pub time_ms: u64,
    /// Until when its messages are hidden, if nobody has changed that.
    pub deadline_ms: u64,
    pub messages: Box<[AttemptedMessage]>,
}

impl Attempted {
    /// Whether it is not to be repeated any more.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.time_ms + ATTEMPT_MS <= now_ms
    }

    /// Bytes of the record's variable part.
    pub fn variable_bytes(&self) -> usize {
        self.messages.len() * ATTEMPTED_BYTES
    }

    /// Writes an Attempt record's parts.
    pub fn write(&self, out: &mut [u8]) {
        let (fixed, variable) = out.split_at_mut(ATTEMPT_BYTES);
        let mut writer = Writer(fixed);
        writer.bytes(&self.key.bytes());
        writer.u64(self.incarnation);
        writer.u64(self.time_ms);
        writer.u64(self.deadline_ms);
        writer.u32(self.messages.len() as u32);
        writer.u32(0);
        for (bytes, message) in variable.chunks_exact_mut(ATTEMPTED_BYTES).zip(&self.messages) {
            let mut writer = Writer(bytes);
            writer.u32(message.slot);
            writer.u32(message.receive_count);
            writer.u64(message.sequence);
        }
    }

    /// Reads an Attempt record.
    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let key = Key::from_bytes(reader.array()?);
        let (incarnation, time_ms, deadline_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let count = reader.u32()? as usize;
        if Some(raw.variable.len()) != count.checked_mul(ATTEMPTED_BYTES) {
            return Err(Damage::new("an attempt has another length than it says"));
        }
        let mut messages = Vec::with_capacity(count);
        for bytes in raw.variable.chunks_exact(ATTEMPTED_BYTES) {
            let mut reader = Reader(bytes);
            messages.push(AttemptedMessage {
                slot: reader.u32()?,
                receive_count: reader.u32()?,
                sequence: reader.u64()?,
            });
        }
        Ok(Self { key, incarnation, time_ms, deadline_ms, messages: messages.into() })
    }
}
