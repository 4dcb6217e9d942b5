//! Records of moves: to another queue of the shard, to another shard, and by a task.

use super::keyed_hash::Key;
use super::records::{COPIED_BYTES, Reader, Writer};
use crate::journal::{Damage, RawRecord};

/// Length of Moved's fixed part.
pub(super) const MOVED_BYTES: usize = 32;
/// Length of one message of Moved.
pub(super) const MOVED_MESSAGE_BYTES: usize = 40;
/// Length of MovingOut's fixed part.
pub(super) const MOVING_OUT_BYTES: usize = 56;
/// Length of MovedIn's fixed part, which begins like that of Copied.
pub(super) const MOVED_IN_BYTES: usize = COPIED_BYTES + 32;
/// Length of MovedOut's fixed part.
pub(super) const MOVED_OUT_BYTES: usize = 40;
/// Length of Arrivals' fixed part.
pub(super) const ARRIVALS_BYTES: usize = 8;
/// Length of one move of Arrivals.
pub(super) const ARRIVAL_BYTES: usize = 16;

/// A Moved record, but for its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub source: u64,
    pub target: u64,
    pub time_ms: u64,
    /// Both are FIFO queues: the messages have groups, and their retention begins anew.
    pub is_fifo: bool,
}

/// One message of a Moved record. It keeps its slot and its record, and has a new sequence, so that what
/// was said of the target's messages before does not mean it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MovedMessage {
    pub slot: u32,
    /// How often it was received before the move.
    pub receive_count: u32,
    pub before: u64,
    pub sequence: u64,
    /// Its group in the target; zeros where it has none.
    pub group: Key,
}

impl Moved {
    pub fn write(&self, messages: &[MovedMessage], out: &mut [u8]) {
        let (fixed, list) = out.split_at_mut(MOVED_BYTES);
        let mut writer = Writer(fixed);
        writer.u64(self.source);
        writer.u64(self.target);
        writer.u64(self.time_ms);
        writer.u32(messages.len() as u32);
        writer.u32(u32::from(self.is_fifo));
        for (bytes, message) in list.chunks_exact_mut(MOVED_MESSAGE_BYTES).zip(messages) {
            let mut writer = Writer(bytes);
            writer.u32(message.slot);
            writer.u32(message.receive_count);
            writer.u64(message.before);
            writer.u64(message.sequence);
            writer.bytes(&message.group.bytes());
        }
    }

    /// Reads the record; its messages are given one by one.
    pub fn read(raw: &RawRecord<'_>, mut each: impl FnMut(&Self, MovedMessage)) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let (source, target, time_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let count = reader.u32()? as usize;
        let moved = Self { source, target, time_ms, is_fifo: reader.u32()? != 0 };
        if Some(raw.variable.len()) != count.checked_mul(MOVED_MESSAGE_BYTES) {
            return Err(Damage::new("a list of moved messages has another length than it says"));
        }
        for bytes in raw.variable.chunks_exact(MOVED_MESSAGE_BYTES) {
            let mut reader = Reader(bytes);
            let message = MovedMessage {
                slot: reader.u32()?,
                receive_count: reader.u32()?,
                before: reader.u64()?,
                sequence: reader.u64()?,
                group: Key::from_bytes(reader.array()?),
            };
            each(&moved, message);
        }
        Ok(moved)
    }
}

/// A MovingOut record: a message is locked and on its way to another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MovingOut {
    /// The move's number, a sequence of this shard.
    pub number: u64,
    pub source: u64,
    pub target: u64,
    pub time_ms: u64,
    pub slot: u32,
    pub to_shard: u16,
    pub sequence: u64,
    /// The task that moves it; 0: it is a dead letter.
    pub task: u64,
}

impl MovingOut {
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(out);
        writer.u64(self.number);
        writer.u64(self.source);
        writer.u64(self.target);
        writer.u64(self.time_ms);
        writer.u32(self.slot);
        writer.u16(self.to_shard);
        writer.u16(0);
        writer.u64(self.sequence);
        writer.u64(self.task);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let (number, source, target, time_ms) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let (slot, to_shard) = (reader.u32()?, reader.u16()?);
        reader.u16()?;
        let (sequence, task) = (reader.u64()?, reader.u64()?);
        Ok(Self { number, source, target, time_ms, slot, to_shard, sequence, task })
    }
}

/// What MovedIn says beyond Copied: where the message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MovedInFrom {
    /// The shard; this one, where a task sent a message of its own anew.
    pub shard: u16,
    /// Its slot there, which is free by this record where it is the same shard.
    pub slot: u32,
    /// Its sequence in that slot, or the number of the move from another shard.
    pub number: u64,
    /// That shard has no open moves below this number.
    pub settled_below: u64,
    /// The task that moved it; 0: it is a dead letter.
    pub task: u64,
}

impl MovedInFrom {
    /// Writes what stands behind Copied's fields; `out` begins with the record's fixed part.
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(&mut out[COPIED_BYTES..MOVED_IN_BYTES]);
        writer.u16(self.shard);
        writer.u16(0);
        writer.u32(self.slot);
        writer.u64(self.number);
        writer.u64(self.settled_below);
        writer.u64(self.task);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let fixed = raw.fixed.get(COPIED_BYTES..).ok_or(Damage::new("a record ends too soon"))?;
        let mut reader = Reader(fixed);
        let shard = reader.u16()?;
        reader.u16()?;
        Ok(Self {
            shard,
            slot: reader.u32()?,
            number: reader.u64()?,
            settled_below: reader.u64()?,
            task: reader.u64()?,
        })
    }
}

/// A MovedOut record: a move to another shard is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MovedOut {
    pub number: u64,
    pub time_ms: u64,
    pub slot: u32,
    /// The target did not take it: the message is visible again where it was.
    pub refused: bool,
    pub sequence: u64,
    pub task: u64,
}

impl MovedOut {
    pub fn write(&self, out: &mut [u8]) {
        let mut writer = Writer(out);
        writer.u64(self.number);
        writer.u64(self.time_ms);
        writer.u32(self.slot);
        writer.u32(u32::from(self.refused));
        writer.u64(self.sequence);
        writer.u64(self.task);
    }

    pub fn read(raw: &RawRecord<'_>) -> Result<Self, Damage> {
        let mut reader = Reader(raw.fixed);
        let (number, time_ms, slot) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let refused = reader.u32()? != 0;
        Ok(Self { number, time_ms, slot, refused, sequence: reader.u64()?, task: reader.u64()? })
    }
}

/// Writes an Arrivals record: shards and numbers of moves that have arrived and may come again.
pub(super) fn write_arrivals(arrivals: &[(u16, u64)], out: &mut [u8]) {
    let (fixed, list) = out.split_at_mut(ARRIVALS_BYTES);
    let mut writer = Writer(fixed);
    writer.u32(arrivals.len() as u32);
    writer.u32(0);
    for (bytes, &(shard, number)) in list.chunks_exact_mut(ARRIVAL_BYTES).zip(arrivals) {
        let mut writer = Writer(bytes);
        writer.u16(shard);
        writer.bytes(&[0; 6]);
        writer.u64(number);
    }
}

/// Reads an Arrivals record.
pub(super) fn read_arrivals(raw: &RawRecord<'_>) -> Result<Vec<(u16, u64)>, Damage> {
    let count = Reader(raw.fixed).u32()? as usize;
    if Some(raw.variable.len()) != count.checked_mul(ARRIVAL_BYTES) {
        return Err(Damage::new("a list of arrivals has another length than it says"));
    }
    let read = |bytes: &[u8]| {
        let mut reader = Reader(bytes);
        let shard = reader.u16()?;
        reader.bytes(6)?;
        Ok((shard, reader.u64()?))
    };
    raw.variable.chunks_exact(ARRIVAL_BYTES).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw<'a>(kind: u8, fixed: &'a [u8], variable: &'a [u8]) -> RawRecord<'a> {
        RawRecord { kind, flags: 0, fixed, variable, length: (16 + fixed.len() + variable.len()) as u32 }
    }

    #[test]
    fn lists_of_moves_come_back_as_they_were() {
        let moved = Moved { source: 1, target: 2, time_ms: 3, is_fifo: true };
        let messages: Vec<_> = (0..3)
            .map(|slot| MovedMessage {
                slot,
                receive_count: 7,
                before: 5 + u64::from(slot),
                sequence: 90,
                group: Key::from_bytes([3; 16]),
            })
            .collect();
        let mut bytes = vec![0xff; MOVED_BYTES + 3 * MOVED_MESSAGE_BYTES];
        moved.write(&messages, &mut bytes);
        let (fixed, variable) = bytes.split_at(MOVED_BYTES);
        let mut read = Vec::new();
        assert_eq!(Moved::read(&raw(35, fixed, variable), |_, message| read.push(message)), Ok(moved));
        assert_eq!(read, messages);
        assert!(Moved::read(&raw(35, fixed, &variable[1..]), |_, _| ()).is_err());

        let arrivals = [(1, 2), (u16::MAX, u64::MAX)];
        let mut bytes = vec![0xff; ARRIVALS_BYTES + 2 * ARRIVAL_BYTES];
        write_arrivals(&arrivals, &mut bytes);
        let (fixed, variable) = bytes.split_at(ARRIVALS_BYTES);
        assert_eq!(read_arrivals(&raw(41, fixed, variable)), Ok(arrivals.to_vec()));
        assert!(read_arrivals(&raw(41, fixed, &variable[..ARRIVAL_BYTES])).is_err());
    }

    #[test]
    fn single_moves_come_back_as_they_were() {
        let out = MovingOut {
            number: 1,
            source: 2,
            target: 3,
            time_ms: 4,
            slot: 5,
            to_shard: 6,
            sequence: 7,
            task: 8,
        };
        let mut bytes = [0xff; MOVING_OUT_BYTES];
        out.write(&mut bytes);
        assert_eq!(MovingOut::read(&raw(32, &bytes, &[])), Ok(out));
        assert!(MovingOut::read(&raw(32, &bytes[..MOVING_OUT_BYTES - 1], &[])).is_err());

        let from = MovedInFrom { shard: 1, slot: 2, number: 3, settled_below: 4, task: 5 };
        let mut bytes = [0xff; MOVED_IN_BYTES];
        from.write(&mut bytes);
        assert_eq!(MovedInFrom::read(&raw(33, &bytes, &[])), Ok(from));

        let over = MovedOut { number: 1, time_ms: 2, slot: 3, refused: true, sequence: 4, task: 5 };
        let mut bytes = [0xff; MOVED_OUT_BYTES];
        over.write(&mut bytes);
        assert_eq!(MovedOut::read(&raw(34, &bytes, &[])), Ok(over));
    }
}
