//! What a queue means: a state machine without clock, thread, socket or randomness.
//!
//! The shard gives commands with the time; the engine changes its state, appends what happened to
//! the log, and says what to answer and how far the log must be committed before it may leave. The
//! same records give the same state (rule 18). Whatever a command touches is judged by its deadline
//! against the time given, never by whether a timer has run (rule 10); timers and slices of longer
//! work run in [`Engine::advance`], a bounded number of steps a call. Engine, slots, queues and
//! waits belong to one shard's thread.
#![forbid(unsafe_code)]

mod attempts;
mod attributes;
mod carry;
#[cfg(test)]
mod catalog_model;
mod change;
mod chunks;
mod command;
mod counts;
mod deduplication;
mod delete;
mod digest;
pub mod export;
mod fair;
#[cfg(test)]
mod fair_tests;
mod fifo;
mod fifo_receive;
mod fifo_records;
mod fifo_send;
#[cfg(test)]
mod fifo_tests;
mod groups;
mod handle;
mod identity;
mod index;
mod keyed_hash;
#[cfg(test)]
mod late_tests;
mod letters;
#[cfg(test)]
mod letters_tests;
mod lists;
mod manage;
mod message;
#[cfg(test)]
mod model;
mod move_records;
mod moves;
#[cfg(test)]
mod moves_model;
#[cfg(test)]
mod moves_tests;
mod noise;
mod origins;
mod outputs;
mod peek;
mod plan;
mod queue;
mod queue_number;
mod queue_state;
mod rare;
mod ready;
mod receive;
pub mod records;
mod recovery;
mod refused;
mod rescue;
mod returned;
mod send;
mod shards;
#[cfg(test)]
mod shards_tests;
mod side;
mod slab;
mod slot;
mod sweep;
mod task_commands;
mod task_records;
mod task_shares;
mod tasks;
#[cfg(test)]
mod tasks_tests;
#[cfg(test)]
mod tests;
mod timers;
mod visibility;
mod waits;
mod wheel;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;

pub use change::{Change, Planned};
pub use chunks::{Chunk, WantedChunk};
pub use command::{Command, RawName, Ticket};
pub use counts::{Counts, Sum};
pub use handle::{HANDLE_BYTES, Handle, HandleKey, shard_of_handle};
pub use moves::{MoveAnswer, Moving};
pub use noise::{GroupShare, GroupShares, NOISY_IN_FLIGHT_MIN};
pub use outputs::{
    Accepted, AttributeOutput, DeliveredMessage, Delivery, Outcome, Outputs, QueuePage, Refusal, Reply,
    ReplyBody, SendOutcome, TaskOutput,
};
pub use queue_number::incarnation_of;
pub use queue_state::Definition;
pub use receive::DELIVERY_OVERHEAD_BYTES;
pub use shards::{Home, Waiting};
pub use task_shares::TaskShare;

use attempts::Attempts;
use deduplication::Deduplication;
use groups::{Groups, Member};
use identity::Identity;
use letters::Unfinished;
use manage::Tombstones;
use move_records::MovedMessage;
use moves::Moves;
use noise::Share;
use origins::Origins;
use queue::{Queues, Turn};
use rare::Rare;
use records::{Kind, Listed, START_BYTES, Start};
use recovery::Recovery;
use refused::Refused;
use side::Side;
use slab::Slab;
use sweep::Sweep;
use tasks::Tasks;
use tenpin_protocol::ErrorCode;
use waits::Waits;
use wheel::Wheel;

use crate::catalog::NameDefaults;
use crate::flaws::{Flaw, Flaws};
use crate::journal::{Log, Position};

/// Most entries of a batch, and most messages of a receive.
pub const BATCH_ENTRIES_MAX: usize = 10;

/// More sequences than any command takes in one turn: with so many left a start goes on.
const SEQUENCES_A_COMMAND_MAX: u64 = 1 << 12;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Which shard it is.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Which distribution over shards this is; in the handles that are issued, so that those of an
    /// older one are known.
    pub distribution: u8,
    /// The data folder's key for receipt handles.
    pub check_key: [u64; 2],
    /// Account and region of names that have none.
    pub defaults: NameDefaults,
    /// Messages in flight a queue; at it a short poll is answered OverLimit and a long poll waits.
    pub in_flight_max: u64,
    /// Whether a purge and the creation of a queue just deleted are refused for 60 seconds.
    pub minute_rules: bool,
    /// Dead letters that one receive moves; where there are more, it goes on in the next turn.
    pub letters_a_receive: usize,
    /// Long polls of the shard; one more is refused with RequestThrottled.
    pub waits_max: u32,
    /// Messages of FIFO queues that the shard remembers for deduplication, each for five minutes; one
    /// more is refused with RequestThrottled (rule 33).
    pub deduplication_max: u64,
    /// Receives with an attempt id that the shard remembers, each for five minutes; one more is refused with
    /// RequestThrottled.
    pub attempts_max: usize,
    /// Messages in flight with which a group of a standard queue may count as noisy.
    pub noisy_in_flight_min: u32,
}

impl EngineOptions {
    /// The defaults of a shard whose folder has this key.
    pub fn new(shard: u16, check_key: [u64; 2]) -> Self {
        Self {
            shard,
            shards: 1,
            distribution: 0,
            check_key,
            defaults: NameDefaults::default(),
            in_flight_max: 120_000,
            minute_rules: true,
            letters_a_receive: letters::LETTERS_A_RECEIVE,
            waits_max: 1 << 20,
            deduplication_max: 64 << 20,
            attempts_max: 1 << 20,
            noisy_in_flight_min: NOISY_IN_FLIGHT_MIN,
        }
    }
}

/// One shard's queues and messages.
pub struct Engine<F: Flaws> {
    options: EngineOptions,
    handle_key: HandleKey,
    identity: Identity,
    slab: Slab,
    members: Side<Member>,
    groups: Groups,
    /// Beside the groups of standard queues.
    shares: Side<Share>,
    deduplication: Deduplication,
    attempts: Attempts,
    refused: Refused,
    queues: Queues,
    slot_wheel: Wheel,
    queue_wheel: Wheel,
    waits: Waits,
    sweep: Sweep,
    tombstones: Tombstones,
    /// Maps of purged queues, dropped in slices.
    discarded: Vec<BTreeMap<Turn, u32>>,
    discarded_of_groups: Vec<BTreeMap<(u32, Turn), u32>>,
    /// Queues that have waits and got something that these could take.
    ready: Vec<u32>,
    /// Queues that found the log without room for receives, and for which somebody waits here or elsewhere.
    blocked: Vec<u32>,
    /// Watched queues that have got something nobody waits for here.
    surplus: Vec<u64>,
    /// Queues whose receives have met this shard's part of the limit of messages in flight.
    over_limit: Vec<u64>,
    /// Standard queues that have got message groups, of which other shards are to know.
    grouped: BTreeSet<u64>,
    /// Messages that expired and are not yet in a record, all of one queue.
    expired: Vec<Listed>,
    /// Entries of messages that came from another queue.
    rares: Side<Rare>,
    origins: Origins,
    moves: Moves,
    tasks: Tasks,
    /// Messages that were moved and are not yet in a record, all from one queue to one other.
    moved: Vec<MovedMessage>,
    /// Receives that go on in the next turn.
    unfinished: VecDeque<Unfinished>,
    /// Queues whose waits go on in the next turn.
    later: Vec<u32>,
    /// Before this time neither does, as a record is being read.
    letters_due_ms: u64,
    /// Room for the lists of records.
    listed: Vec<Listed>,
    now_ms: u64,
    retention_lag_ms: u64,
    start_record: (Position, u32),
    /// Where [`Engine::rescue`] goes on.
    rescue_cursor: u32,
    recovery: Option<Box<Recovery>>,
    flaws: PhantomData<F>,
}

impl<F: Flaws> Engine<F> {
    /// An engine without anything, to replay a log into or to start.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            handle_key: HandleKey::new(options.check_key),
            options,
            identity: Identity::new(),
            slab: Slab::new(),
            members: Side::new(Member::NONE),
            groups: Groups::new(),
            shares: Side::new(Share::NONE),
            deduplication: Deduplication::new(),
            attempts: Attempts::new(),
            refused: Refused::default(),
            queues: Queues::default(),
            slot_wheel: Wheel::new(),
            queue_wheel: Wheel::new(),
            waits: Waits::new(),
            sweep: Sweep::default(),
            tombstones: Tombstones::default(),
            discarded: Vec::new(),
            discarded_of_groups: Vec::new(),
            ready: Vec::new(),
            blocked: Vec::new(),
            surplus: Vec::new(),
            over_limit: Vec::new(),
            grouped: BTreeSet::new(),
            expired: Vec::new(),
            rares: Side::new(Rare::NONE),
            origins: Origins::default(),
            moves: Moves::default(),
            tasks: Tasks::default(),
            moved: Vec::new(),
            unfinished: VecDeque::new(),
            later: Vec::new(),
            letters_due_ms: 0,
            listed: Vec::new(),
            now_ms: 0,
            retention_lag_ms: 0,
            start_record: (Position::default(), 0),
            rescue_cursor: 0,
            recovery: Some(Box::default()),
            flaws: PhantomData,
        }
    }

    /// Journals a new start: sequences are above all before from here on (rule 5). The shard serves
    /// once this is durable.
    pub fn start(&mut self, now_ms: u64, epoch: [u8; 16], log: &mut Log<F>) {
        assert!(self.recovery.is_none(), "recovery is finished before the start");
        self.now_ms = self.now_ms.max(now_ms);
        if F::has(Flaw::ReuseGenerationsAfterRestart) {
            self.identity.begin_again(epoch);
        } else {
            self.identity.begin_start(epoch);
        }
        self.journal_start(log);
    }

    fn journal_start(&mut self, log: &mut Log<F>) {
        let start = Start {
            start_number: self.identity.start_number(),
            epoch: self.identity.epoch(),
            incarnation_next: self.identity.incarnation_next(),
            time_ms: self.now_ms,
        };
        let record = append(log, self.now_ms, Kind::Start, START_BYTES, 0, true, |out| start.write(out));
        if self.start_record.1 > 0 {
            log.release(self.start_record.0, self.start_record.1);
        }
        log.live(record.0, record.1);
        self.start_record = record;
    }

    /// Makes sure that a batch's sequences are there; takes a new start number once the counter is
    /// spent.
    #[inline]
    fn reserve_sequences(&mut self, log: &mut Log<F>) {
        if self.identity.is_spent(SEQUENCES_A_COMMAND_MAX) {
            self.identity.begin_start(self.identity.epoch());
            self.journal_start(log);
        }
    }

    /// Does what a command says. Engine time never runs backwards: an older time counts as the last.
    #[inline]
    pub fn apply(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        command: Command<'_>,
        log: &mut Log<F>,
        out: &mut Outputs,
    ) {
        debug_assert!(self.recovery.is_none(), "recovery is finished before commands come");
        self.now_ms = self.now_ms.max(now_ms);
        match command {
            Command::Send { queue, entries } => self.send(ticket, queue, entries, log, out),
            Command::Receive {
                queue,
                count_max,
                wait_ms,
                visibility_seconds,
                reply_bytes_max,
                attempt_id,
            } => {
                let asked =
                    receive::Asked { count_max, wait_ms, visibility_seconds, reply_bytes_max, attempt_id };
                self.receive(ticket, queue, asked, log, out);
            }
            Command::Delete { queue, handles } => self.delete(ticket, queue, handles, log, out),
            Command::ChangeVisibility { queue, entries } => {
                self.change_visibility(ticket, queue, entries, log, out);
            }
            other => self.apply_rare(ticket, other, log, out),
        }
        if !self.ready.is_empty() {
            self.serve_ready(log, out);
        }
    }

    fn apply_rare(&mut self, ticket: Ticket, command: Command<'_>, log: &mut Log<F>, out: &mut Outputs) {
        let body = match command {
            Command::CreateQueue { .. }
            | Command::DeleteQueue { .. }
            | Command::SetAttributes { .. }
            | Command::TagQueue { .. }
            | Command::UntagQueue { .. }
            | Command::AddPermission { .. }
            | Command::RemovePermission { .. }
            | Command::StartMoveTask { .. }
            | Command::CancelMoveTask { .. }
            | Command::Purge { .. } => self.change_catalog(command, log, out),
            Command::ListMoveTasks { source, count_max } => self.list_tasks(source, count_max),
            Command::OpenQueue { name } => self.open_queue(name),
            Command::ListQueues { prefix, next, count_max } => self.list_queues(prefix, next, count_max),
            Command::GetAttributes { queue, names } => self.get_attributes(queue, names),
            Command::ListTags { queue } => self.list_tags(queue),
            Command::ListDeadLetterSources { queue, next, count_max } => {
                self.list_dead_letter_sources(queue, next, count_max)
            }
            Command::Stats { queue } => self.stats(queue),
            Command::Peek { queue, count_max, state, next, reply_bytes_max } => {
                let asked = peek::Asked { count_max, state, next, reply_bytes_max };
                return self.peek(ticket, queue, asked, log, out);
            }
            Command::CancelWaits { connection } => {
                self.refused.forget(connection);
                self.cancel_unfinished(connection);
                return self.forget_waits(connection);
            }
            Command::AnswerWaits { connection } => return self.answer_waits(connection, out),
            Command::Undelivered { messages } => return self.undelivered(messages, log),
            Command::Damaged { slot, sequence } => return self.set_aside(slot, sequence, log),
            Command::Send { .. }
            | Command::Receive { .. }
            | Command::Delete { .. }
            | Command::ChangeVisibility { .. } => unreachable!("served by apply"),
        };
        let body = body.unwrap_or_else(ReplyBody::Refused);
        // What these say rests on everything so far: a queue, a purge, an absence (rule 1).
        out.reply(ticket, log.end(), body);
    }

    /// Retention is judged this much later than engine time says, while the wall clock is not
    /// believed (rule 9). Less of it than before is like a shorter retention period everywhere.
    pub fn set_retention_lag_ms(&mut self, retention_lag_ms: u64) {
        if retention_lag_ms < self.retention_lag_ms {
            self.sweep.request();
            for index in 0..self.queues.table_length() {
                if self.queues.get(index).is_some() {
                    self.queue_wheel.cancel(&mut self.queues, index);
                    self.queue_wheel.start(&mut self.queues, index, self.now_ms);
                }
            }
        }
        self.retention_lag_ms = retention_lag_ms;
    }

    /// Where a message's record is now, if it is still to be given out: cleaning moves records, and what
    /// was set aside has lost its own.
    pub fn locate(&self, message: DeliveredMessage) -> Option<(Position, u32)> {
        let slot = &self.slab[self.find_message(message.slot, message.sequence)?];
        (slot.state() != slot::State::Damaged).then_some((Position(slot.position), slot.length))
    }

    /// The queue with this number, or why not.
    #[inline]
    fn find_queue(&self, number: u64) -> Result<u32, Refusal> {
        self.queues
            .find(number)
            .ok_or(Refusal::new(ErrorCode::QueueDoesNotExist, ErrorCode::QueueDoesNotExist.text()))
    }
}

/// Appends a record and says where it is and how long.
#[inline(always)]
fn append<F: Flaws>(
    log: &mut Log<F>,
    now_ms: u64,
    kind: Kind,
    fixed_bytes: usize,
    variable_bytes: usize,
    own_crc: bool,
    fill: impl FnOnce(&mut [u8]),
) -> (Position, u32) {
    let position = log.append(now_ms, kind as u8, fixed_bytes, variable_bytes, own_crc, fill);
    (position, (crate::journal::PREFIX_BYTES + fixed_bytes + variable_bytes) as u32)
}

/// Where a record ends: what depends on it waits for this.
#[inline]
fn end_of(position: u64, length: u32) -> Position {
    const ALIGNMENT: u64 = crate::journal::RECORD_ALIGNMENT as u64;
    Position((position + u64::from(length)).next_multiple_of(ALIGNMENT))
}

/// "Value V for parameter P is invalid. …", as SQS says it.
fn out_of_range(value: impl std::fmt::Display, parameter: &str, minimum: u64, maximum: u64) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Value {value} for parameter {parameter} is invalid. Reason: Must be between {minimum} and \
             {maximum}, if provided."
        ),
    )
}
