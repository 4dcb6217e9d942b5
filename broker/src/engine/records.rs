//! What the engine writes into the log: every kind of record, its layout, and how it is read back.
//!
//! Records say what happened, with absolute times, never what was asked for: reading them back
//! computes no time and takes no decision. Numbers are little-endian. A newer minor version may make
//! a fixed part longer; what is behind the fields known here is skipped. Bytes that the checksums
//! vouch for and that still make no sense are [`Damage`], never a panic.

use super::move_records::MOVED_IN_BYTES;
use super::rare::{ORIGIN_BLOCK_BYTES, RareBlock};
use super::slot::{FLAG_COPIED, FLAG_KEYED, FLAG_MOVED_IN, FLAG_ORIGIN};
use crate::catalog::{NameDefaults, QueueName};
use crate::journal::{Damage, RawRecord};

/// What a record says. Kept for what is not written yet: 38 Producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A start of the broker: its number and epoch, and the next incarnation. The newest is live.
    Start = 1,
    /// A queue's whole state but its messages. The newest of a queue is live.
    QueueState = 2,
    /// A queue and its messages are gone. Live while its name is not free.
    QueueDeleted = 3,
    /// All messages of a queue up to a sequence are gone.
    Purged = 4,
    /// A message, as it was sent. Live while the message is stored and was not copied.
    Sent = 5,
    /// A message with its whole state, copied by cleaning. Live while it is the newest copy.
    Copied = 6,
    /// Messages were handed out.
    Delivered = 7,
    /// Visibility deadlines were changed.
    Hidden = 8,
    /// Messages were deleted.
    Deleted = 9,
    /// Messages expired.
    Expired = 10,
    /// Deliveries never left: the messages are visible again and the receive does not count.
    Undelivered = 11,
    /// Messages were set aside because their records are damaged.
    Damaged = 12,
    /// A block of deduplication entries, carried by cleaning. Live while one of them counts.
    Deduplication = 36,
    /// A receive with an attempt id, and what it was given. The newest of an attempt is live.
    Attempt = 37,
    /// A message is being moved to a queue on another shard; it is locked until the move is over.
    MovingOut = 32,
    /// A message with its whole state that came from another place: another shard, or the slot that it
    /// had before a move task sent it anew. Live while the message is stored and was not copied.
    MovedIn = 33,
    /// A message has been moved to another shard and is gone, or its move was refused and it is back.
    MovedOut = 34,
    /// Messages were moved to another queue of the same shard.
    Moved = 35,
    /// A move task, whole. The newest of a task is live.
    Task = 39,
    /// The name of a queue that messages here came from. Live while there are such messages.
    Origin = 40,
    /// Which moves from other shards have arrived and may come again. The newest is live.
    Arrivals = 41,
}

impl Kind {
    /// The kind with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Start,
            2 => Self::QueueState,
            3 => Self::QueueDeleted,
            4 => Self::Purged,
            5 => Self::Sent,
            6 => Self::Copied,
            7 => Self::Delivered,
            8 => Self::Hidden,
            9 => Self::Deleted,
            10 => Self::Expired,
            11 => Self::Undelivered,
            12 => Self::Damaged,
            36 => Self::Deduplication,
            37 => Self::Attempt,
            32 => Self::MovingOut,
            33 => Self::MovedIn,
            34 => Self::MovedOut,
            35 => Self::Moved,
            39 => Self::Task,
            40 => Self::Origin,
            41 => Self::Arrivals,
            _ => return None,
        })
    }

    /// Its name, as the description of the format has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::QueueState => "QueueState",
            Self::QueueDeleted => "QueueDeleted",
            Self::Purged => "Purged",
            Self::Sent => "Sent",
            Self::Copied => "Copied",
            Self::Delivered => "Delivered",
            Self::Hidden => "Hidden",
            Self::Deleted => "Deleted",
            Self::Expired => "Expired",
            Self::Undelivered => "Undelivered",
            Self::Damaged => "Damaged",
            Self::Deduplication => "Deduplication",
            Self::Attempt => "Attempt",
            Self::MovingOut => "MovingOut",
            Self::MovedIn => "MovedIn",
            Self::MovedOut => "MovedOut",
            Self::Moved => "Moved",
            Self::Task => "Task",
            Self::Origin => "Origin",
            Self::Arrivals => "Arrivals",
        }
    }
}

/// Bytes that the log puts before every record's fixed part.
const PREFIX_BYTES: usize = crate::journal::PREFIX_BYTES;

/// In a message's content flags: a block of rare fields stands before the body.
pub const CONTENT_RARE: u16 = 1;

/// In a message's content flags: it is one of its group's list, so that its group must be known again
/// after a restart.
pub const CONTENT_GROUPED: u16 = 2;
/// In a message's content flags: [`Kind::Sent`]'s fixed part ends in its deduplication key.
pub const CONTENT_KEYED: u16 = 4;

/// Length of a deduplication key.
pub(super) const KEYED_BYTES: usize = 16;
/// Length of [`Kind::Start`]'s fixed part.
pub(super) const START_BYTES: usize = 40;
/// Length of [`Kind::QueueDeleted`]'s and [`Kind::Purged`]'s fixed part.
pub(super) const MARK_BYTES: usize = 24;
/// Length of [`Kind::Sent`]'s fixed part.
pub(super) const SENT_BYTES: usize = 64;
/// Length of [`Kind::Copied`]'s fixed part, which begins like that of Sent.
pub(super) const COPIED_BYTES: usize = 88;
/// Length of the fixed part of records that list messages.
pub(super) const LIST_BYTES: usize = 32;
/// Length of one message in such a list; in a Hidden record a deadline follows each.
const LISTED_BYTES: usize = 16;

/// Length of one message in a list of this kind.
#[inline]
pub(super) fn listed_bytes(kind: Kind) -> usize {
    if kind == Kind::Hidden { LISTED_BYTES + 8 } else { LISTED_BYTES }
}

/// Most bytes of a copied message's record that are not its content: whatever becomes of a message, it
/// must fit a record.
pub(super) const COPIED_OVERHEAD_BYTES_MAX: usize = PREFIX_BYTES + MOVED_IN_BYTES + ORIGIN_BLOCK_BYTES;

/// Bytes of a message's record that are not its content; the flags are those of its slot.
#[inline]
pub(super) fn message_overhead_bytes(flags: u8) -> u32 {
    let mut bytes = PREFIX_BYTES + if flags & FLAG_COPIED != 0 { COPIED_BYTES } else { SENT_BYTES };
    if flags & (FLAG_KEYED | FLAG_ORIGIN | FLAG_MOVED_IN) != 0 {
        bytes += if flags & FLAG_KEYED != 0 { KEYED_BYTES } else { 0 };
        bytes += if flags & FLAG_ORIGIN != 0 { ORIGIN_BLOCK_BYTES } else { 0 };
        bytes += if flags & FLAG_MOVED_IN != 0 { MOVED_IN_BYTES - COPIED_BYTES } else { 0 };
    }
    bytes as u32
}

/// Writes numbers one behind the other.
pub(super) struct Writer<'a>(pub &'a mut [u8]);

impl Writer<'_> {
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (now, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        self.0 = rest;
    }

    #[inline]
    pub fn u16(&mut self, number: u16) {
        self.bytes(&number.to_le_bytes());
    }

    #[inline]
    pub fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    #[inline]
    pub fn u64(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }
}

/// Reads numbers one behind the other; an end too soon is damage.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (now, rest) = self.0.split_at_checked(length).ok_or(Damage::new("a record ends too soon"))?;
        self.0 = rest;
        Ok(now)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (now, rest) = self.0.split_first_chunk().ok_or(Damage::new("a record ends too soon"))?;
        self.0 = rest;
        Ok(*now)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn text(&mut self, length: u16) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes(length.into())?).map_err(|_| Damage::new("a name is not UTF-8"))
    }
}

/// [`Kind::Start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub start_number: u32,
    pub epoch: [u8; 16],
    pub incarnation_next: u64,
    pub time_ms: u64,
}

impl Start {
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(out);
        writer.u32(self.start_number);
        writer.u32(0);
        writer.u64(self.time_ms);
        writer.bytes(&self.epoch);
        writer.u64(self.incarnation_next);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let start_number = reader.u32()?;
        reader.u32()?;
        let time_ms = reader.u64()?;
        let epoch = reader.array()?;
        Ok(Self { start_number, epoch, incarnation_next: reader.u64()?, time_ms })
    }
}

/// [`Kind::Purged`]: `through` is the last sequence that is gone.
/// [`Kind::QueueDeleted`]: the variable part has the name, `through` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub incarnation: u64,
    pub time_ms: u64,
    pub through: u64,
}

impl Mark {
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(out);
        writer.u64(self.incarnation);
        writer.u64(self.time_ms);
        writer.u64(self.through);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        Ok(Self { incarnation: reader.u64()?, time_ms: reader.u64()?, through: reader.u64()? })
    }
}

/// A name as the variable part of a record has it: three lengths, three texts.
pub(super) fn name_bytes(name: &QueueName) -> usize {
    6 + name.account().len() + name.region().len() + name.name().len()
}

/// Writes a name.
pub(super) fn write_name(name: &QueueName, out: &mut [u8]) {
    let mut writer = Writer(out);
    let texts = [name.account(), name.region(), name.name()];
    for text in texts {
        writer.u16(text.len() as u16);
    }
    for text in texts {
        writer.bytes(text.as_bytes());
    }
}

/// Reads a name from the start of a variable part.
pub(super) fn read_name(variable: &[u8]) -> Result<QueueName, Damage> {
    let mut reader = Reader(variable);
    let lengths = [reader.u16()?, reader.u16()?, reader.u16()?];
    let [account, region, name] =
        [reader.text(lengths[0])?, reader.text(lengths[1])?, reader.text(lengths[2])?];
    if account.is_empty() || region.is_empty() {
        // They would be the defaults, and the name longer than what was read.
        return Err(Damage::new("a queue's name in a record is not whole"));
    }
    QueueName::parse(account, region, name, &NameDefaults::default())
        .map_err(|error| Damage::new(format!("a queue's name in a record: {error}")))
}

/// What [`Kind::Sent`] and [`Kind::Copied`] have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageHead {
    pub slot: u32,
    pub content_flags: u16,
    pub sequence: u64,
    pub incarnation: u64,
    pub sent_at_ms: u64,
    pub available_at_ms: u64,
    pub id: [u8; 16],
    pub body_bytes: u32,
}

impl MessageHead {
    #[inline]
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(&mut out[..SENT_BYTES]);
        writer.u32(self.slot);
        writer.u16(self.content_flags);
        writer.u16(0);
        writer.u64(self.sequence);
        writer.u64(self.incarnation);
        writer.u64(self.sent_at_ms);
        writer.u64(self.available_at_ms);
        writer.bytes(&self.id);
        writer.u32(self.body_bytes);
        writer.u32(0);
    }

    #[inline(always)]
    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let slot = reader.u32()?;
        let content_flags = reader.u16()?;
        reader.u16()?;
        Ok(Self {
            slot,
            content_flags,
            sequence: reader.u64()?,
            incarnation: reader.u64()?,
            sent_at_ms: reader.u64()?,
            available_at_ms: reader.u64()?,
            id: reader.array()?,
            body_bytes: reader.u32()?,
        })
    }
}

/// The deduplication key of a Sent record that has one.
pub(super) fn read_key(raw: &RawRecord<'_>) -> Result<[u8; KEYED_BYTES], Damage> {
    let key = raw.fixed.get(SENT_BYTES..).ok_or(Damage::new("a record ends too soon"))?;
    Reader(key).array()
}

/// What [`Kind::Copied`] says beyond [`MessageHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CopiedState {
    pub damaged: bool,
    pub receive_count: u32,
    pub first_received_at_ms: u64,
    pub delivered_at_ms: u64,
}

impl CopiedState {
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(&mut out[SENT_BYTES..COPIED_BYTES]);
        writer.u32(u32::from(self.damaged));
        writer.u32(self.receive_count);
        writer.u64(self.first_received_at_ms);
        writer.u64(self.delivered_at_ms);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let state = raw.fixed.get(SENT_BYTES..).ok_or(Damage::new("a record ends too soon"))?;
        let mut reader = Reader(state);
        let damaged = reader.u32()? != 0;
        let receive_count = reader.u32()?;
        Ok(Self {
            damaged,
            receive_count,
            first_received_at_ms: reader.u64()?,
            delivered_at_ms: reader.u64()?,
        })
    }
}

/// A message as a Sent or Copied record has it, for whoever gives it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// Its slot.
    pub slot: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub id: [u8; 16],
    /// When it was sent.
    pub sent_at_ms: u64,
    /// Bytes of the body, which is the first part of `content`.
    pub body_bytes: u32,
    /// The body and the fields behind it, as they came over the wire.
    pub content: &'a [u8],
}

impl<'a> StoredMessage<'a> {
    /// Reads a message's record, a Sent, Copied or MovedIn one.
    #[inline(always)]
    pub fn parse(raw: &RawRecord<'a>) -> Result<Self, Damage> {
        if ![Kind::Sent as u8, Kind::Copied as u8, Kind::MovedIn as u8].contains(&raw.kind) {
            return Err(Damage::new("a record that is no message's"));
        }
        let head = MessageHead::read(raw)?;
        let content = content_of(&head, raw.variable)?;
        if head.body_bytes as usize > content.len() {
            return Err(Damage::new("a body is longer than its record"));
        }
        Ok(Self {
            slot: head.slot,
            sequence: head.sequence,
            id: head.id,
            sent_at_ms: head.sent_at_ms,
            body_bytes: head.body_bytes,
            content,
        })
    }
}

/// What stands behind the block of rare fields, if there is one.
#[inline]
pub(super) fn content_of<'a>(head: &MessageHead, variable: &'a [u8]) -> Result<&'a [u8], Damage> {
    if head.content_flags & CONTENT_RARE == 0 {
        return Ok(variable);
    }
    Ok(RareBlock::split(variable)?.1)
}

/// The fixed part of records that list messages. What `deadline_ms` is depends on the kind:
/// for Delivered the visibility deadline of all, for others nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListHead {
    pub incarnation: u64,
    pub time_ms: u64,
    pub deadline_ms: u64,
}

/// One message of such a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub slot: u32,
    /// Delivered: how often it has been received now. Undelivered: which delivery.
    pub receive_count: u32,
    pub sequence: u64,
    /// Hidden: until when.
    pub deadline_ms: u64,
}

impl ListHead {
    /// Writes head and list.
    #[inline]
    pub fn write(&self, kind: Kind, listed: impl ExactSizeIterator<Item = Listed>, out: &mut [u8]) {
        let (head, list) = out.split_at_mut(LIST_BYTES);
        let mut writer = Writer(head);
        writer.u64(self.incarnation);
        writer.u64(self.time_ms);
        writer.u64(self.deadline_ms);
        writer.u32(listed.len() as u32);
        writer.u32(0);
        for (bytes, message) in list.chunks_exact_mut(listed_bytes(kind)).zip(listed) {
            let mut writer = Writer(bytes);
            writer.u32(message.slot);
            writer.u32(message.receive_count);
            writer.u64(message.sequence);
            if kind == Kind::Hidden {
                writer.u64(message.deadline_ms);
            }
        }
    }

    /// Reads the head; the messages are read by [`Listed::each`].
    #[inline]
    pub fn read(kind: Kind, raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let head = Self { incarnation: reader.u64()?, time_ms: reader.u64()?, deadline_ms: reader.u64()? };
        let count = reader.u32()? as usize;
        if raw.variable.len() != count * listed_bytes(kind) {
            return Err(Damage::new("a list of messages has another length than it says"));
        }
        Ok(head)
    }
}

impl Listed {
    /// The messages of a list whose head has been read.
    #[inline]
    pub fn each<'a>(kind: Kind, raw: &RawRecord<'a>) -> impl Iterator<Item = Self> + use<'a> {
        raw.variable.chunks_exact(listed_bytes(kind)).map(|bytes| {
            let (mut half, mut word) = ([0; 4], [0; 8]);
            half.copy_from_slice(&bytes[..4]);
            let slot = u32::from_le_bytes(half);
            half.copy_from_slice(&bytes[4..8]);
            let receive_count = u32::from_le_bytes(half);
            word.copy_from_slice(&bytes[8..16]);
            let sequence = u64::from_le_bytes(word);
            let deadline_ms = bytes.get(16..24).map_or(0, |bytes| {
                word.copy_from_slice(bytes);
                u64::from_le_bytes(word)
            });
            Self { slot, receive_count, sequence, deadline_ms }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_as_it_was_and_one_that_is_not_whole_is_damage() {
        let name = QueueName::parse("", "", "q", &NameDefaults::default()).expect("a name");
        let mut bytes = vec![0; name_bytes(&name)];
        write_name(&name, &mut bytes);
        assert_eq!(read_name(&bytes), Ok(name));
        for end in 0..bytes.len() {
            assert!(read_name(&bytes[..end]).is_err());
        }
        assert!(
            read_name(&[0, 0, 9, 0, 1, 0, b'u', b's', b'-', b'e', b'a', b's', b't', b'-', b'1', b'q'])
                .is_err()
        );
        assert!(read_name(&[0, 0, 0, 0, 1, 0, b'q']).is_err());
    }
}
