//! Where a load stands: everything of it but its connections.

use std::io;
use std::time::{Duration, Instant};

use super::books::Books;
use super::connection::{Connection, Groups, Role, SLOTS_MAX, Slot, Step};
use super::measured::Times;
use super::open::Open;
use super::{LoadOptions, books};
use crate::measure::Gaps;
use crate::random::Random;

/// What the slots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Only send, until the queue is as deep as was asked for.
    Fill,
    /// Send, receive, delete.
    Cycle,
    /// Receive and delete until the queue is empty.
    Drain,
}

/// Everything but the connections, so that both can be borrowed at once.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) started: Instant,
    /// The clock as it was read last.
    pub(super) now_ns: u64,
    pub(super) idle_ns: u64,
    /// Requests of slots that are under way on all connections.
    pub(super) under_way: usize,
    pub(super) options: LoadOptions,
    /// The dead-letter queue's number.
    pub(super) dead_letter_queue: usize,
    pub(super) streams_per_queue: u64,
    /// More messages than this are not kept with the broker in a closed loop.
    pub(super) outstanding_max: u64,
    pub(super) batch: Batch,
    pub(super) books: Books,
    pub(super) random: Random,
    pub(super) replies: u64,
    pub(super) deleted: u64,
    /// Of each queue, whether it was found empty since the draining began, and nothing has come since.
    pub(super) empty: Vec<bool>,
    pub(super) drain_began_ns: u64,
    pub(super) last_arrival_ns: u64,
    pub(super) open: Option<Open>,
    pub(super) times: Option<Times>,
    pub(super) gaps: Gaps,
    pub(super) gap_ended_ns: u64,
    pub(super) failure: Option<String>,
}

/// The next batch of messages.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<(usize, Option<u64>, Option<u32>)>,
}

/// What a slot needs of its connection.
pub(super) struct Ends<'a> {
    pub(super) role: Role,
    pub(super) queues: &'a [(usize, u64)],
    pub(super) groups: &'a mut Groups,
    pub(super) output: &'a mut Vec<u8>,
    pub(super) slots: usize,
}

impl<'a> Ends<'a> {
    /// Slots and ends of a connection.
    pub(super) fn of(connection: &'a mut Connection) -> (&'a mut [Slot], Self) {
        let Connection { role, queues, groups, output, slots, .. } = connection;
        let count = slots.len();
        (slots, Ends { role: *role, queues, groups, output, slots: count })
    }
}

impl State {
    pub(super) fn new(options: &LoadOptions, streams_per_queue: u64) -> io::Result<Self> {
        let slots = options.connections * options.depth;
        if streams_per_queue * options.queues as u64 >= books::STREAMS_MAX || slots > SLOTS_MAX {
            return Err(io::Error::other("so many queues, groups and slots are too much for one run"));
        }
        let is_ordered = options.fifo_groups > 0;
        let mut options = options.clone();
        if options.fates.is_plain() {
            // Longer than any run, so that each message comes once.
            options.fates.visibility_seconds = 43_200;
        }
        Ok(State {
            phase: if options.backlog > 0 { Phase::Fill } else { Phase::Cycle },
            started: Instant::now(),
            now_ns: 0,
            idle_ns: 0,
            under_way: 0,
            dead_letter_queue: options.queues,
            streams_per_queue,
            outstanding_max: options.backlog + 3 * (slots * options.batch) as u64,
            batch: Batch { bytes: Vec::new(), entries: Vec::new() },
            books: Books::of(options.fates, options.queues, streams_per_queue, is_ordered),
            random: Random::new(1),
            replies: 0,
            deleted: 0,
            empty: vec![false; options.queues + 1],
            drain_began_ns: 0,
            last_arrival_ns: 0,
            open: None,
            times: None,
            gaps: Gaps::default(),
            gap_ended_ns: 0,
            failure: None,
            options,
        })
    }

    pub(super) fn read_clock(&mut self) {
        self.now_ns = self.started.elapsed().as_nanos() as u64;
    }

    pub(super) fn clock(&self) -> Instant {
        self.started + Duration::from_nanos(self.now_ns)
    }

    /// A turn's work takes far less than a gap lasts, unless the host stopped the machine.
    pub(super) fn note_gap(&mut self, turn_began_ns: u64) {
        self.read_clock();
        if self.gaps.note(Duration::from_nanos(self.now_ns - turn_began_ns)) {
            self.gap_ended_ns = self.now_ns;
        }
    }

    pub(super) fn note_time(&mut self, step: Step, asked_ns: u64) {
        let Some(times) = &mut self.times else { return };
        let histogram = if asked_ns < self.gap_ended_ns {
            &mut times.in_gaps
        } else {
            match step {
                Step::Send => &mut times.send,
                Step::Receive => &mut times.receive,
                Step::Delete => &mut times.delete,
            }
        };
        histogram.saturating_record(self.now_ns.saturating_sub(asked_ns));
    }

    pub(super) fn check_count(&mut self, answered: u32, asked: u32) {
        if answered != asked {
            self.fail(format!("{answered} results for {asked} entries"));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    pub(super) fn asked(&mut self, slot: &mut Slot, step: Step) {
        slot.begin(step);
        self.under_way += 1;
    }
}
