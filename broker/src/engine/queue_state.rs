//! What a queue is, as records and steps between shards have it: a fixed part, its name, and texts by tag.
//!
//! A definition is what its owner chose and what was given to it at its creation; it is the same on every shard. What a
//! shard keeps beside it (how far it was purged, what had expired) is the shard's own.

use super::queue_number::number_of;
use super::records::{Reader, Writer, name_bytes, read_name, write_name};
use crate::catalog::{
    AttributeError, Attributes, BoxedDetails, DeduplicationScope, Details, FifoAttributes, NUMBERS, Policy,
    QueueName, Redrive, RedriveAllow, ThroughputLimit,
};
use crate::journal::{Damage, RawRecord};

/// Length of a QueueState record's fixed part.
pub(super) const QUEUE_STATE_BYTES: usize = 96;

/// A queue as all shards know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Where it stands in the table, which queue numbers carry.
    pub index: u32,
    /// Never used again.
    pub incarnation: u64,
    /// The shard that a FIFO queue lives on, chosen at its creation and kept; of no meaning for others.
    pub owner_shard: u16,
    /// Its name.
    pub name: QueueName,
    /// What the engine reads all the time.
    pub attributes: Attributes,
    /// The rest.
    pub details: BoxedDetails,
    /// When it was made.
    pub created_at_ms: u64,
    /// When its attributes were changed last.
    pub modified_at_ms: u64,
}

/// A QueueState record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueState {
    pub definition: Definition,
    /// 0 if it was never purged.
    pub purged_at_ms: u64,
    pub purged_through: u64,
    /// Messages sent at or before this had expired when the retention period was changed.
    pub expired_through_ms: u64,
    /// The last sequence for which that holds.
    pub expired_through: u64,
}

/// Switches of a definition, as bits.
mod switches {
    pub const FIFO: u16 = 1;
    pub const CONTENT_BASED: u16 = 1 << 1;
    pub const SCOPE_GROUP: u16 = 1 << 2;
    pub const LIMIT_PER_GROUP: u16 = 1 << 3;
    pub const NOT_MANAGED: u16 = 1 << 4;
    pub const ALL: u16 = FIFO | CONTENT_BASED | SCOPE_GROUP | LIMIT_PER_GROUP | NOT_MANAGED;
}

/// Tags of the texts behind the name; each is followed by its length as a `u32`.
mod text_tag {
    pub const POLICY: u16 = 1;
    pub const REDRIVE: u16 = 2;
    pub const REDRIVE_ALLOW: u16 = 3;
    pub const KMS_KEY: u16 = 4;
    /// One for each tag of the queue: length of its key as a `u16`, key, value.
    pub const TAG: u16 = 5;
}

/// Bytes of a text's tag and length.
const TEXT_HEAD_BYTES: usize = 6;

impl Definition {
    /// The number that hot frames carry: where in the table, and which incarnation.
    pub fn number(&self) -> u64 {
        number_of(self.index, self.incarnation)
    }
}

impl QueueState {
    /// A queue of which no message is gone yet.
    pub fn of(definition: Definition) -> Self {
        Self { definition, purged_at_ms: 0, purged_through: 0, expired_through_ms: 0, expired_through: 0 }
    }

    /// Bytes of the variable part.
    pub fn variable_bytes(&self) -> usize {
        let mut bytes = name_bytes(&self.definition.name);
        each_text(&self.definition.details, |_, pieces| {
            bytes += TEXT_HEAD_BYTES + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        });
        bytes
    }

    pub fn write(&self, out: &mut [u8]) {
        let definition = &self.definition;
        let (fixed, variable) = out.split_at_mut(QUEUE_STATE_BYTES);
        let mut writer = Writer(fixed);
        writer.u64(definition.incarnation);
        writer.u32(definition.index);
        writer.u16(definition.owner_shard);
        writer.u16(switches_of(definition));
        writer.u64(definition.created_at_ms);
        writer.u64(definition.modified_at_ms);
        writer.u64(self.purged_at_ms);
        writer.u64(self.purged_through);
        writer.u64(self.expired_through_ms);
        for number in definition.attributes.numbers() {
            writer.u32(number);
        }
        writer.u32(definition.details.encryption.kms_reuse_seconds.unwrap_or(0));
        writer.u64(self.expired_through);
        writer.0.fill(0);
        let (name, texts) = variable.split_at_mut(name_bytes(&definition.name));
        write_name(&definition.name, name);
        let mut writer = Writer(texts);
        each_text(&definition.details, |tag, pieces| {
            writer.u16(tag);
            writer.u32(pieces.iter().map(|piece| piece.len() as u32).sum());
            for piece in pieces {
                writer.bytes(piece);
            }
        });
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        Self::read_parts(raw.fixed, raw.variable)
    }

    /// Reads what [`QueueState::write`] wrote, with the fixed part apart, which may have grown.
    pub fn read_parts(fixed: &[u8], variable: &[u8]) -> Result<Self, Damage> {
        let mut reader = Reader(fixed);
        let incarnation = reader.u64()?;
        let index = reader.u32()?;
        let owner_shard = reader.u16()?;
        let switches = reader.u16()?;
        let created_at_ms = reader.u64()?;
        let modified_at_ms = reader.u64()?;
        let purged_at_ms = reader.u64()?;
        let purged_through = reader.u64()?;
        let expired_through_ms = reader.u64()?;
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = reader.u32()?;
        }
        let kms_reuse_seconds = reader.u32()?;
        let expired_through = reader.u64()?;
        let name = read_name(variable)?;
        let mut details = read_texts(&variable[name_bytes(&name)..])?;
        details.encryption.kms_reuse_seconds = (kms_reuse_seconds > 0).then_some(kms_reuse_seconds);
        details.encryption.is_managed = switches & switches::NOT_MANAGED == 0;
        let attributes = Attributes::of_kind(read_fifo(switches)?)
            .with_numbers(numbers)
            .ok_or(Damage::new("a queue's attribute is out of range"))?;
        let details = details.into();
        Ok(Self {
            definition: Definition {
                index,
                incarnation,
                owner_shard,
                name,
                attributes,
                details,
                created_at_ms,
                modified_at_ms,
            },
            purged_at_ms,
            purged_through,
            expired_through_ms,
            expired_through,
        })
    }
}

fn switches_of(definition: &Definition) -> u16 {
    let mut bits = 0;
    let mut set = |bit, is_set| bits |= if is_set { bit } else { 0 };
    if let Some(fifo) = definition.attributes.fifo {
        set(switches::FIFO, true);
        set(switches::CONTENT_BASED, fifo.content_based);
        set(switches::SCOPE_GROUP, fifo.scope == DeduplicationScope::MessageGroup);
        set(switches::LIMIT_PER_GROUP, fifo.throughput == ThroughputLimit::PerMessageGroup);
    }
    set(switches::NOT_MANAGED, !definition.details.encryption.is_managed);
    bits
}

fn read_fifo(switches: u16) -> Result<Option<FifoAttributes>, Damage> {
    if switches & !switches::ALL != 0 {
        return Err(Damage::new("a queue has a switch that is not known"));
    }
    let is_set = |bit| switches & bit != 0;
    Ok(is_set(switches::FIFO).then(|| FifoAttributes {
        content_based: is_set(switches::CONTENT_BASED),
        scope: match is_set(switches::SCOPE_GROUP) {
            true => DeduplicationScope::MessageGroup,
            false => DeduplicationScope::Queue,
        },
        throughput: match is_set(switches::LIMIT_PER_GROUP) {
            true => ThroughputLimit::PerMessageGroup,
            false => ThroughputLimit::PerQueue,
        },
    }))
}

/// Gives each text with its tag, in one order always.
fn each_text(details: &Details, mut give: impl FnMut(u16, &[&[u8]])) {
    let texts = [
        (text_tag::POLICY, details.policy.as_ref().map(Policy::text)),
        (text_tag::REDRIVE, details.redrive.as_ref().map(Redrive::text)),
        (text_tag::REDRIVE_ALLOW, details.redrive_allow.as_ref().map(RedriveAllow::text)),
        (text_tag::KMS_KEY, details.encryption.kms_key.as_deref()),
    ];
    for (tag, text) in texts {
        if let Some(text) = text {
            give(tag, &[text.as_bytes()]);
        }
    }
    for (key, value) in &details.tags {
        let length = (key.len() as u16).to_le_bytes();
        give(text_tag::TAG, &[&length, key.as_bytes(), value.as_bytes()]);
    }
}

/// Reads the texts behind a name. One that is not known is a newer broker's, and is left out.
fn read_texts(bytes: &[u8]) -> Result<Details, Damage> {
    let mut details = Details::default();
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let tag = reader.u16()?;
        let length = reader.u32()? as usize;
        let text = reader.bytes(length)?;
        match tag {
            text_tag::POLICY => details.policy = Some(checked(Policy::parse(utf8(text)?))?),
            text_tag::REDRIVE => details.redrive = Some(checked(Redrive::parse(utf8(text)?))?),
            text_tag::REDRIVE_ALLOW => {
                details.redrive_allow = Some(checked(RedriveAllow::parse(utf8(text)?))?);
            }
            text_tag::KMS_KEY => details.encryption.kms_key = Some(utf8(text)?.into()),
            text_tag::TAG => {
                let mut reader = Reader(text);
                let key_bytes = reader.u16()?;
                let key = reader.text(key_bytes)?.into();
                details.tags.insert(key, utf8(reader.0)?.into());
            }
            _ => {}
        }
    }
    Ok(details)
}

fn utf8(bytes: &[u8]) -> Result<&str, Damage> {
    std::str::from_utf8(bytes).map_err(|_| Damage::new("a text of a queue is not UTF-8"))
}

fn checked<T>(parsed: Result<T, AttributeError>) -> Result<T, Damage> {
    parsed.map_err(|error| Damage::new(format!("a queue's attribute in a record: {}", error.text)))
}
