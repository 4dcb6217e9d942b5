//! A change of the catalog, apart from who asked for it.
//!
//! What a client asks is first planned: judged against the catalog as it is, which gives a refusal, an
//! answer, or a change. A change is then applied, here and on every other shard, without being judged
//! again: it says what shall be, whole, and can be written down, sent on, and applied twice.

use super::outputs::ReplyBody;
use super::queue_state::{Definition, QUEUE_STATE_BYTES, QueueState};
use super::records::{Reader, Writer};
use super::task_records::TaskDefinition;
use crate::journal::Damage;

/// What becomes of one queue, or of one of its move tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is this queue, new or set anew.
    Define(Box<Definition>),
    /// The queue with this number is gone, with its messages.
    Delete {
        /// The queue's number.
        queue: u64,
        /// When it was deleted.
        time_ms: u64,
    },
    /// This move task runs.
    StartTask(Box<TaskDefinition>),
    /// A move task is to stop.
    CancelTask {
        /// The number of its source.
        queue: u64,
        /// Its id.
        id: u64,
    },
    /// All messages of the queue with this number are gone, as far as the shard that applies this has any.
    Purge {
        /// The queue's number.
        queue: u64,
        /// When it was purged.
        time_ms: u64,
    },
}

/// What comes of a request to change the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// Nothing changes; this is the answer.
    Answer(ReplyBody),
    /// This changes, and then this is the answer.
    Change(Change, ReplyBody),
}

const DEFINE: u8 = 1;
const DELETE: u8 = 2;
const PURGE: u8 = 3;
const START_TASK: u8 = 4;
const CANCEL_TASK: u8 = 5;
/// Bytes of a deletion, a purge, or the end of a task.
const MARK_BYTES: usize = 17;

impl Change {
    /// The change as bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Define(definition) => {
                let state = QueueState::of((**definition).clone());
                let mut bytes = vec![0; 1 + QUEUE_STATE_BYTES + state.variable_bytes()];
                bytes[0] = DEFINE;
                state.write(&mut bytes[1..]);
                bytes
            }
            Self::StartTask(definition) => {
                let mut bytes = vec![START_TASK];
                definition.encode(&mut bytes);
                bytes
            }
            Self::CancelTask { queue, id } => Self::encode_mark(CANCEL_TASK, *queue, *id),
            Self::Delete { queue, time_ms } => Self::encode_mark(DELETE, *queue, *time_ms),
            Self::Purge { queue, time_ms } => Self::encode_mark(PURGE, *queue, *time_ms),
        }
    }

    fn encode_mark(kind: u8, queue: u64, time_ms: u64) -> Vec<u8> {
        let mut bytes = vec![0; MARK_BYTES];
        let mut writer = Writer(&mut bytes);
        writer.bytes(&[kind]);
        writer.u64(queue);
        writer.u64(time_ms);
        bytes
    }

    /// The change that these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut reader = Reader(bytes);
        let [kind] = reader.array()?;
        match kind {
            DEFINE => {
                let fixed = reader.bytes(QUEUE_STATE_BYTES)?;
                let state = QueueState::read_parts(fixed, reader.0)?;
                Ok(Self::Define(Box::new(state.definition)))
            }
            START_TASK => Ok(Self::StartTask(Box::new(TaskDefinition::decode(reader.0)?))),
            CANCEL_TASK => Ok(Self::CancelTask { queue: reader.u64()?, id: reader.u64()? }),
            DELETE => Ok(Self::Delete { queue: reader.u64()?, time_ms: reader.u64()? }),
            PURGE => Ok(Self::Purge { queue: reader.u64()?, time_ms: reader.u64()? }),
            _ => Err(Damage::new(format!("a change of the unknown kind {kind}"))),
        }
    }
}
