//! Histories of commands and time, compared with a model that is obviously right: a list of messages
//! a queue, looked through from end to end, with no timers at all.
//!
//! Every reply, every count and, across restarts and cleaning, the digest and the log's live bytes
//! must agree. Timers are drained before each comparison, since what is still in the wheel may come
//! late (rule 10).

mod action;
mod catalog;
mod commands;
mod compare;
mod fair;
mod fifo;
mod hand_out;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tenpin_protocol::{
    Attribute, AttributeCode, AttributeValue, ChangeVisibilityEntry, Entries, ErrorCode, MessageState,
    SendEntry, UserAttribute, write_content,
};

use self::action::{Action, Allow, Ask, Message, action};
use self::compare::Answer;
use self::hand_out::{Taken, arn};
use self::stored::{Arrival, Expected, Issued, Queue, Stored, Wait};
use super::tests::{ALL, START_MS, World};
use super::*;
use crate::catalog::Attributes;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::shard::driver::ConnectionId;
use crate::simulator::bugs::Planted;

const IN_FLIGHT_MAX: usize = 7;
/// So few that receives have to go on.
const LETTERS_A_RECEIVE: usize = 3;
const NAMES: [&str; 5] = ["one", "two", "three", "four.fifo", "five.fifo"];
/// Queues from this name on are FIFO queues.
const FIFO_FROM: usize = 3;

struct Test<F: Flaws = Sound> {
    world: World<F>,
    queues: BTreeMap<usize, Queue>,
    deleted_at_ms: BTreeMap<usize, u64>,
    issued: Vec<Issued>,
    ids: BTreeSet<[u8; 16]>,
    correlation: u32,
    order: usize,
    minute_rules: bool,
    numbers: BTreeSet<u64>,
    remembered: Vec<fifo::Remembered>,
    /// By connection and queue: groups of which something was refused.
    refused: BTreeSet<(u32, u64, u8)>,
    /// Receives that move dead letters and go on.
    unfinished: Vec<(usize, Wait)>,
    /// Queues whose waits move dead letters and go on.
    later: BTreeSet<usize>,
    /// Whether there were dead letters since that was looked at.
    has_moved: bool,
    /// By how much the next command that names messages comes late.
    late_ms: u64,
}

impl<F: Flaws> Test<F> {
    fn new(minute_rules: bool) -> Self {
        let options = EngineOptions {
            in_flight_max: IN_FLIGHT_MAX as u64,
            letters_a_receive: LETTERS_A_RECEIVE,
            noisy_in_flight_min: fair::NOISY_IN_FLIGHT_MIN,
            minute_rules,
            deduplication_max: fifo::DEDUPLICATION_MAX,
            ..EngineOptions::new(0, [3, 4])
        };
        Self {
            world: World::new(options),
            queues: BTreeMap::new(),
            deleted_at_ms: BTreeMap::new(),
            issued: Vec::new(),
            ids: BTreeSet::new(),
            correlation: 0,
            order: 0,
            minute_rules,
            numbers: BTreeSet::new(),
            remembered: Vec::new(),
            refused: BTreeSet::new(),
            unfinished: Vec::new(),
            later: BTreeSet::new(),
            has_moved: false,
            late_ms: 0,
        }
    }

    fn now_ms(&self) -> u64 {
        self.world.now_ms
    }

    fn number(&self, name: usize) -> u64 {
        self.queues.get(&name).map_or(u64::MAX - 1, |queue| queue.number)
    }

    fn run(&mut self, action: &Action) {
        match action {
            Action::Create { name, delay_seconds } => self.create(*name, *delay_seconds),
            Action::DeleteQueue { name } => self.delete_queue(*name),
            Action::Purge { name } => self.purge(*name),
            Action::Send { name, messages } => self.send(*name, messages),
            Action::Receive { name, count_max, wait_ms, seconds, bytes_max, connection, attempt } => {
                // On a standard queue an attempt id is refused, which needs no more than a try now and then.
                let attempt = attempt.filter(|_| *name >= FIFO_FROM || *count_max == 1);
                let ask = Ask {
                    connection: *connection,
                    count_max: *count_max,
                    wait_ms: *wait_ms,
                    seconds: *seconds,
                    bytes_max: *bytes_max,
                    attempt,
                };
                self.receive(*name, ask);
            }
            Action::SendFifo { name, connection, messages } => self.send_fifo(*name, *connection, messages),
            Action::Delete { name, handles } => self.come_late(|test| test.delete(*name, handles)),
            Action::Hide { name, entries } => self.come_late(|test| test.hide(*name, entries)),
            Action::Set { name, code, value } => self.set(*name, *code, *value),
            Action::Redrive { name, target, count } => self.redrive(*name, *target, *count),
            Action::Allow { name, allow } => self.allow(*name, *allow),
            Action::Undelivered { deliveries } => self.come_late(|test| test.undelivered(deliveries)),
            Action::Damaged { delivery } => self.come_late(|test| test.damaged(*delivery)),
            Action::Peek { name, count_max } => self.peek(*name, *count_max),
            Action::CancelWaits { connection } => {
                let id = ConnectionId { index: *connection, generation: 0 };
                for queue in self.queues.values_mut() {
                    queue.waits.retain(|wait| wait.connection != *connection);
                }
                self.refused.retain(|refused| refused.0 != *connection);
                self.apply(*connection, Command::CancelWaits { connection: id }, 0, None);
            }
            Action::AnswerWaits { connection } => self.answer_waits(*connection),
            Action::Advance { by_ms, steps } => self.advance(*by_ms, *steps),
            Action::Late { by_ms } => self.late_ms = *by_ms,
            Action::Restart => self.restart(),
            Action::Clean { count } => self.world.clean(*count),
        }
        self.check();
    }

    fn advance(&mut self, by_ms: u64, steps: u32) {
        self.let_one_queue_wait();
        let waiting = self.waiting_queues();
        // Slices may give what is visible first to whom the whole would give what is first in order.
        let steps = if waiting.is_empty() { steps } else { ALL };
        self.world.now_ms += by_ms;
        let now_ms = self.now_ms();
        let mut expected = BTreeMap::new();
        for queue in self.queues.values_mut() {
            queue.waits.retain(|wait| {
                let over = wait.deadline_ms <= now_ms;
                if over {
                    expected.insert(wait.correlation, Answer::Messages(Vec::new()));
                }
                !over
            });
            queue.expire(now_ms);
        }
        self.serve(&mut expected);
        let next_ms = self.world.engine.next_deadline_ms();
        let (mut more, replies) = self.world.advance(0, steps);
        if next_ms.is_none_or(|next_ms| next_ms > now_ms) {
            assert!(replies.is_empty(), "nothing was to come before {next_ms:?}");
        }
        self.compare(&replies, &expected, &waiting);
        self.go_on();
        while more {
            let (again, some) = self.world.advance(0, steps);
            assert!(some.is_empty(), "one call with steps enough answers all");
            more = again;
        }
    }

    fn restart(&mut self) {
        self.world.drain();
        let (digest, live_bytes) = (self.world.engine.digest(), self.world.live_bytes());
        let stored = self.world.engine.stored_messages();
        self.world.recover();
        assert_eq!(self.world.engine.digest(), digest, "the records give the same state");
        assert_eq!(self.world.engine.stored_messages(), stored);
        assert_eq!(self.world.live_bytes(), live_bytes, "the same records are live");
        self.world.restart_recovered();
        for queue in self.queues.values_mut() {
            queue.waits.clear();
            // Deliveries of before are taken back by nobody any more: nothing need remember this.
            queue.messages.iter_mut().for_each(|message| message.changed = false);
            // Processing times are not in the records.
            queue.measured = fair::Measured::default();
        }
        self.refused.clear();
    }

    fn check(&mut self) {
        self.check_remembered();
        let now_ms = self.now_ms();
        for queue in self.queues.values_mut() {
            queue.now_ms = now_ms;
            queue.measure();
        }
        for queue in self.queues.values() {
            let count = |state| queue.count(state, now_ms) as u64;
            let expected = [
                count(MessageState::Visible),
                count(MessageState::InFlight),
                count(MessageState::Delayed),
                count(MessageState::Damaged),
            ];
            assert_eq!(self.world.counts(queue.number), expected);
            if queue.attributes.is_fifo() {
                let oldest_ms = queue.oldest_fifo_ms(now_ms);
                assert_eq!(self.world.engine.oldest_age_ms(queue.number), Some(oldest_ms));
                continue;
            }
            let visible =
                queue.messages.iter().filter(|message| message.state(now_ms) == MessageState::Visible);
            let oldest_ms = visible.map(|message| now_ms - message.available_at_ms).max();
            assert_eq!(self.world.engine.oldest_age_ms(queue.number), Some(oldest_ms.unwrap_or(0)));
        }
    }
}

fn run_history<F: Flaws>(minute_rules: bool, actions: &[Action]) {
    let mut test = Test::<F>::new(minute_rules);
    test.create(0, None);
    test.create(FIFO_FROM, None);
    for action in actions {
        test.run(action);
    }
    test.restart();
    test.check();
    assert!(test.now_ms() >= START_MS);
}

/// Histories in which a planted bug must be found.
const BUDGET: usize = 64;

#[test]
fn histories_find_noisy_groups_that_go_first() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let found = (0..BUDGET).any(|_| {
        let history = prop::collection::vec(action(), 1..150).new_tree(&mut runner).expect("a history");
        let actions = proptest::strategy::ValueTree::current(&history);
        let is_found = std::panic::catch_unwind(|| {
            Planted::with(Flaw::ServeNoisyGroupsFirst, || run_history::<Planted>(false, &actions))
        })
        .is_err();
        if is_found {
            // It is this bug that it has found.
            run_history::<Sound>(false, &actions);
        }
        is_found
    });
    assert!(found);
}

proptest! {
    // Faults of combinations show once in ten thousand histories; a thousand take two seconds.
    #![proptest_config(ProptestConfig {
        cases: 12 * ProptestConfig::default().cases,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn histories_agree_with_the_model(
        minute_rules: bool,
        actions in prop::collection::vec(action(), 1..150),
    ) {
        run_history::<Sound>(minute_rules, &actions);
    }
}
