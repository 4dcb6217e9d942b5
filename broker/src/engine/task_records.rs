//! The record of a move task, and the handle by which clients cancel one.

use tenpin_protocol::MoveTaskStatus;

use super::append;
use super::queue_number::incarnation_of;
use super::records::{Kind, Reader, Writer, name_bytes, read_name, write_name};
use super::tasks::{Failure, Share};
use crate::catalog::QueueName;
use crate::flaws::Flaws;
use crate::journal::{Damage, Log, Position, RawRecord};

/// Length of Task's fixed part.
const TASK_BYTES: usize = 64;
/// Length of a definition as bytes of a change, without its names.
const DEFINITION_BYTES: usize = 40;

/// What a move task shall do: the same on every shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDefinition {
    /// Never used again.
    pub id: u64,
    /// The number of the dead-letter queue, and its name.
    pub source: (u64, QueueName),
    /// Where to; `None`: each message to the queue that it came from.
    pub destination: Option<(u64, QueueName)>,
    /// How many messages a second on all shards together; 0: as fast as it goes.
    pub messages_per_second_max: u32,
    /// When it was started.
    pub started_at_ms: u64,
}

impl TaskDefinition {
    /// Its place among tasks: the source's incarnation, then the id.
    pub(super) fn key(&self) -> (u64, u64) {
        (incarnation_of(self.source.0), self.id)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.u64(self.id);
        writer.u64(self.source.0);
        writer.u64(self.destination.as_ref().map_or(0, |destination| destination.0));
        writer.u64(self.started_at_ms);
        writer.u32(self.messages_per_second_max);
        writer.u32(0);
    }

    fn names_bytes(&self) -> usize {
        let destination = self.destination.as_ref().map_or(0, |(_, name)| name_bytes(name));
        name_bytes(&self.source.1) + destination
    }

    fn write_names(&self, out: &mut [u8]) {
        let (source, destination) = out.split_at_mut(name_bytes(&self.source.1));
        write_name(&self.source.1, source);
        if let Some((_, name)) = &self.destination {
            write_name(name, destination);
        }
    }

    fn read(reader: &mut Reader<'_>, names: &[u8]) -> Result<Self, Damage> {
        let (id, source, destination) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let started_at_ms = reader.u64()?;
        let messages_per_second_max = reader.u32()?;
        reader.u32()?;
        let source_name = read_name(names)?;
        let destination = match destination {
            0 => None,
            number => Some((number, read_name(&names[name_bytes(&source_name)..])?)),
        };
        Ok(Self { id, source: (source, source_name), destination, messages_per_second_max, started_at_ms })
    }

    /// The definition as bytes, for a change of the catalog.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + DEFINITION_BYTES + self.names_bytes(), 0);
        let (fixed, names) = out[start..].split_at_mut(DEFINITION_BYTES);
        self.write(&mut Writer(fixed));
        self.write_names(names);
    }

    /// The definition that these bytes are.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut reader = Reader(bytes);
        let mut fixed = Reader(reader.bytes(DEFINITION_BYTES)?);
        Self::read(&mut fixed, reader.0)
    }
}

/// A task on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskRecord {
    pub definition: TaskDefinition,
    pub share: Share,
}

impl TaskRecord {
    pub fn append<F: Flaws>(&self, now_ms: u64, log: &mut Log<F>) -> (Position, u32) {
        let variable_bytes = self.definition.names_bytes();
        append(log, now_ms, Kind::Task, TASK_BYTES, variable_bytes, true, |out| self.write(out))
    }

    fn write(&self, out: &mut [u8]) {
        let (fixed, names) = out.split_at_mut(TASK_BYTES);
        let mut writer = Writer(fixed);
        self.definition.write(&mut writer);
        writer.u64(self.share.moved);
        writer.u64(self.share.to_move);
        writer.u16(self.share.status.number());
        writer.u16(self.share.failure as u16);
        writer.u32(0);
        self.definition.write_names(names);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let definition = TaskDefinition::read(&mut reader, raw.variable)?;
        let (moved, to_move) = (reader.u64()?, reader.u64()?);
        let status = MoveTaskStatus::from_number(reader.u16()?);
        let failure = u8::try_from(reader.u16()?).ok().and_then(Failure::from_number);
        let unknown = Damage::new("a move task is in a state that is not known");
        let (Some(status), Some(failure)) = (status, failure) else { return Err(unknown) };
        Ok(Self { definition, share: Share { status, failure, moved, to_move } })
    }
}

/// What cancels a task: base64 of its id and its source's ARN, as text.
pub(super) fn task_handle(definition: &TaskDefinition) -> Vec<u8> {
    let text =
        format!(r#"{{"taskId":"{:016x}","sourceArn":"{}"}}"#, definition.id, definition.source.1.arn());
    encode_base64(text.as_bytes())
}

/// The task's id and the name of its source. `None`: it is no handle of a task.
pub(super) fn read_task_handle(handle: &[u8]) -> Option<(u64, QueueName)> {
    let text = decode_base64(handle)?;
    let text = std::str::from_utf8(&text).ok()?;
    let rest = text.strip_prefix(r#"{"taskId":""#)?;
    let (id, rest) = rest.split_at_checked(16)?;
    let arn = rest.strip_prefix(r#"","sourceArn":""#)?.strip_suffix(r#""}"#)?;
    Some((u64::from_str_radix(id, 16).ok()?, QueueName::from_arn(arn)?))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
    out
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    for chunk in text.chunks_exact(4) {
        let digits = chunk.iter().take_while(|&&digit| digit != b'=').count();
        let mut bits = 0;
        for &digit in &chunk[..digits] {
            bits = (bits << 6) | DIGITS.iter().position(|&known| known == digit)? as u32;
        }
        bits <<= 6 * (4 - digits as u32);
        out.extend_from_slice(&bits.to_be_bytes()[1..digits.max(1)]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::queue_number::number_of;
    use super::*;
    use crate::catalog::NameDefaults;

    fn definition(with_destination: bool) -> TaskDefinition {
        let name = |name| QueueName::parse("", "", name, &NameDefaults::default()).expect("a name");
        TaskDefinition {
            id: 0x0102_0304_0506_0708,
            source: (number_of(0, 7), name("letters")),
            destination: with_destination.then(|| (number_of(0, 9), name("work"))),
            messages_per_second_max: 500,
            started_at_ms: 1,
        }
    }

    #[test]
    fn records_and_changes_come_back_as_they_were() {
        for with_destination in [false, true] {
            let definition = definition(with_destination);
            let mut bytes = Vec::new();
            definition.encode(&mut bytes);
            assert_eq!(TaskDefinition::decode(&bytes).as_ref(), Ok(&definition));
            for end in 0..bytes.len() {
                assert!(TaskDefinition::decode(&bytes[..end]).is_err());
            }
            let share =
                Share { status: MoveTaskStatus::Failed, failure: Failure::TooLong, moved: 3, to_move: 4 };
            let record = TaskRecord { definition, share };
            let mut bytes = vec![0xff; TASK_BYTES + record.definition.names_bytes()];
            record.write(&mut bytes);
            let (fixed, variable) = bytes.split_at(TASK_BYTES);
            let raw = RawRecord { kind: 39, flags: 0, fixed, variable, length: 0 };
            assert_eq!(TaskRecord::read(&raw), Ok(record));
        }
    }

    #[test]
    fn handles_come_back_and_others_are_none() {
        let definition = definition(false);
        let handle = task_handle(&definition);
        assert_eq!(read_task_handle(&handle), Some((definition.id, definition.source.1)));
        for end in 0..handle.len() {
            assert_eq!(read_task_handle(&handle[..end]), None);
        }
        assert_eq!(read_task_handle(b"===="), None);
        for text in [&b""[..], b"f", b"fo", b"foo", b"foob", b"fooba", b"foobar"] {
            assert_eq!(decode_base64(&encode_base64(text)).as_deref(), Some(text));
        }
        assert_eq!(encode_base64(b"fooba"), b"Zm9vYmE=");
    }
}
