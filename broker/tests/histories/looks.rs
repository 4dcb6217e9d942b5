//! Looking at everything: what peeks show and counters say must come to what the model has, and what the model was not
//! sure of is known then. Restarts, after which all must be as it was, and a history's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tenpin_client::{MessageState, Peeked, QueueAttributes};

use crate::common::TestBroker;
use crate::history::History;
use crate::messages::HIDDEN_FOR;
use crate::model::{Delay, Held, Key, Path, QUEUES, Stored, is_fifo, is_letters};
use crate::receives::{Ask, HELD_FOR, number_in};

/// A message as it was shown, and where.
struct Seen {
    queue: usize,
    key: Key,
    peeked: Peeked,
}

impl Stored {
    /// It was seen how often it was received: whether a receive took it whose answer never came.
    fn settle_lost_receive(&mut self, receive_count: u32) -> bool {
        let is_received = std::mem::take(&mut self.may_be_received) && receive_count == self.received + 1;
        if is_received {
            self.received += 1;
            self.received_here += 1;
            (self.delay, self.held) = (Delay::None, Some(Held::new(None, true)));
        }
        is_received
    }
}

impl Stored {
    /// It was seen until when it is hidden: whether it was hidden anew though no answer said so.
    fn settle_unanswered_hide(&mut self, until: Option<SystemTime>) {
        let Some(held) = &mut self.held else { return };
        held.maybe_visible = false;
        // What it was hidden for by its receive is longer than that, or so short that it may be over at any time.
        let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        let is_as_asked = (HIDDEN_FOR / 2..(HIDDEN_FOR + HELD_FOR) / 2).contains(&left);
        if std::mem::take(&mut held.maybe_changed) && is_as_asked {
            (held.changed, held.may_be_over) = (true, false);
            self.surely_received = self.received;
        }
    }
}

impl Seen {
    fn is(&self, state: MessageState) -> bool {
        self.peeked.state == Some(state)
    }
}

impl History {
    /// Waits until all is at rest and as the model has it. Gives what was received though no answer said so.
    pub fn look(&mut self) -> Vec<Key> {
        self.look_after(false)
    }

    pub fn look_after(&mut self, crash: bool) -> Vec<Key> {
        self.tell(format!("look, after a crash: {crash}"));
        self.model.note_task();
        let seen = self.until_right(|history| {
            history.note_time();
            let seen = history.peek_at_all()?;
            history.judge(&seen, crash)?;
            Ok(seen)
        });
        let mut places: Vec<usize> = (0..seen.len()).collect();
        // What is not visible is shown in no order; what moved together stands as it stood, and a task takes what lay
        // among the letters before what has come there meanwhile.
        places.sort_by(|&one, &other| {
            let place = |place: usize| {
                let stored = &self.model.stored[&seen[place].key];
                if seen[place].is(MessageState::Visible) {
                    (false, false, 0.0)
                } else {
                    (true, !is_letters(stored.queue), stored.order)
                }
            };
            place(one).partial_cmp(&place(other)).expect("orders are numbers")
        });
        let mut received = Vec::new();
        for place in places {
            if self.settle(place, &seen) {
                received.push(seen[place].key);
            }
        }
        // What may have been deleted and can be nowhere else is gone.
        let shown: BTreeSet<Key> = seen.iter().map(|one| one.key).collect();
        self.model.stored.retain(|key, message| {
            let is_somewhere = message.maybe_letter_in.is_some() || message.maybe_moved_to.is_some();
            shown.contains(key) || !message.may_be_gone || is_somewhere
        });
        self.model.leaving.clear();
        self.model.note_task();
        received
    }

    /// All messages of all queues; counters must say the same.
    fn peek_at_all(&mut self) -> Result<Vec<Seen>, String> {
        let mut all = Vec::new();
        for (queue, name) in QUEUES.iter().enumerate() {
            let seen = self.peek_at(queue, None);
            let asked = self.queue(queue);
            let stats = self.runtime.block_on(asked.stats()).unwrap();
            let count = |state| seen.iter().filter(|one| one.is(state)).count() as u64;
            let counted = [stats.visible(), stats.in_flight(), stats.delayed()];
            let shown = [MessageState::Visible, MessageState::InFlight, MessageState::Delayed].map(count);
            if counted != shown {
                return Err(format!("{name}: it counts {counted:?} and shows {shown:?}"));
            }
            all.extend(seen);
        }
        Ok(all)
    }

    fn peek_at(&mut self, queue: usize, state: Option<MessageState>) -> Vec<Seen> {
        let asked = self.queue(queue);
        let (mut seen, mut page) = (Vec::new(), None);
        loop {
            let next = self.runtime.block_on(asked.peek(state, page.as_ref())).unwrap();
            seen.extend(next.messages.iter().map(|peeked| {
                let group = peeked.group.as_ref().map(|group| group.parse().unwrap());
                Seen { queue, key: (number_in(&peeked.body), group), peeked: peeked.clone() }
            }));
            if !next.has_more() {
                return seen;
            }
            page = Some(next);
        }
    }

    fn judge(&self, seen: &[Seen], crash: bool) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        for one in seen {
            if !keys.insert(one.key) {
                return Err(format!("{:?} is shown twice", one.key));
            }
            self.judge_one(one, crash)?;
        }
        let missing =
            self.model.stored.values().find(|message| !message.may_be_gone && !keys.contains(&message.key));
        if let Some(message) = missing {
            return Err(format!("not shown: {message:?}"));
        }
        (0..QUEUES.len()).filter(|queue| is_fifo(*queue)).try_for_each(|queue| self.judge_order(queue, seen))
    }

    fn judge_one(&self, one: &Seen, crash: bool) -> Result<(), String> {
        let (queue, peeked) = (one.queue, &one.peeked);
        let wrong = |why: &str, stored: Option<&Stored>| {
            Err(format!("{why}: {} shows {:?} {peeked:?}; {stored:?}", QUEUES[queue], one.key))
        };
        let Some(stored) = self.model.stored.get(&one.key) else { return wrong("it was gone", None) };
        let wrong = |why: &str| wrong(why, Some(stored));
        let Some(path) = self.model.path(stored, queue, peeked.id) else { return wrong("it is elsewhere") };
        let attributes: Vec<_> = (peeked.attributes.iter())
            .map(|(name, kind, value)| (name.clone(), kind.clone(), value.to_vec()))
            .collect();
        if attributes != stored.attributes {
            return wrong("its attributes are others");
        }
        let fewest = if crash { stored.surely_received } else { stored.received };
        let is_count = |count| (fewest..=stored.received).contains(&count);
        let state = peeked.state.ok_or("a state that nobody knows")?;
        let (is_count, states) = match path {
            Path::Letter => (is_count(peeked.receive_count), &[MessageState::Visible][..]),
            Path::Task if self.model.settings[queue].delay_seconds > 0 => {
                (peeked.receive_count == 0, &[MessageState::Delayed][..])
            }
            Path::Task => (peeked.receive_count == 0, &[MessageState::Visible][..]),
            Path::Stayed => (is_count(peeked.receive_count), self.states_of(stored, crash)),
        };
        let received_before = if path == Path::Task { 0 } else { stored.received };
        let (is_count, states) = if stored.may_be_received && peeked.receive_count == received_before + 1 {
            (true, &[MessageState::Visible, MessageState::InFlight][..])
        } else {
            (is_count, states)
        };
        if !is_count {
            return wrong("it was received another number of times");
        }
        if !states.contains(&state) {
            return wrong("its state is another");
        }
        if (state == MessageState::Visible) != peeked.until.is_none() {
            return wrong("only what is hidden is so until some time");
        }
        Ok(())
    }

    /// The states that a message may be in which stayed where it was.
    fn states_of(&self, stored: &Stored, crash: bool) -> &'static [MessageState] {
        match &stored.held {
            Some(held) if held.may_be_over || held.maybe_visible => {
                &[MessageState::Visible, MessageState::InFlight]
            }
            // The record of a standard queue's delivery may be lost.
            Some(_) if crash && stored.surely_received < stored.received => {
                &[MessageState::Visible, MessageState::InFlight]
            }
            Some(_) => &[MessageState::InFlight],
            None => match self.model.delay_of(stored) {
                Delay::None => &[MessageState::Visible],
                Delay::Short => &[MessageState::Visible, MessageState::Delayed],
                Delay::Long => &[MessageState::Delayed],
            },
        }
    }

    /// Visible messages of a FIFO queue are shown in their order.
    fn judge_order(&self, queue: usize, seen: &[Seen]) -> Result<(), String> {
        let mut last = BTreeMap::new();
        for one in seen.iter().filter(|one| one.queue == queue && one.is(MessageState::Visible)) {
            let stored = &self.model.stored[&one.key];
            if !stored.is_surely_in(queue) {
                continue;
            }
            let before = last.insert(one.key.1, (stored.order, one.key));
            if let Some((order, key)) = before.filter(|(order, _)| *order > stored.order) {
                return Err(format!("{:?} ({}) is shown behind {key:?} ({order})", one.key, stored.order));
            }
        }
        Ok(())
    }

    /// What was seen is so. Says whether it was received though no answer said so.
    fn settle(&mut self, place: usize, seen: &[Seen]) -> bool {
        let one = &seen[place];
        let (queue, key, peeked) = (one.queue, one.key, &one.peeked);
        let path = self.model.path(&self.model.stored[&key], queue, peeked.id).expect("it was judged");
        if one.is(MessageState::Delayed) {
            self.note("a message is delayed");
        }
        if path != Path::Stayed {
            self.note_arrival(path);
            // What stands behind it in its group was there before it was seen.
            let behind = seen[place + 1..].iter().find(|other| {
                let stored = &self.model.stored[&other.key];
                let is_like = (other.queue, other.key.1) == (queue, key.1);
                let has_stayed = self.model.path(stored, queue, other.peeked.id) == Some(Path::Stayed);
                is_like && has_stayed && other.is(MessageState::Visible)
            });
            let behind = behind.filter(|_| is_fifo(queue) && one.is(MessageState::Visible));
            // What was taken since was the first of its group.
            let is_taken = is_fifo(queue) && one.is(MessageState::InFlight);
            let first_left = || self.first_visible(queue, key.1, seen);
            let behind = behind.map(|behind| self.model.stored[&behind.key].order);
            let order = match behind.or_else(|| is_taken.then(first_left).flatten()) {
                Some(behind) => self.model.just_before(behind),
                None => self.model.next() as f64,
            };
            self.model.arrive(key, queue, peeked.id, path, order);
        }
        let stored = self.model.stored.get_mut(&key).expect("it was judged");
        stored.is_here();
        stored.id = Some(peeked.id);
        let is_received = stored.settle_lost_receive(peeked.receive_count);
        stored.settle_unanswered_hide(peeked.until);
        let lost = stored.received - peeked.receive_count;
        if lost > 0 {
            stored.received -= lost;
            stored.received_here = stored.received_here.saturating_sub(lost);
            stored.surely_received = stored.surely_received.min(stored.received);
        }
        if stored.received == 0 {
            stored.first_received = None;
        }
        if one.is(MessageState::Visible) {
            (stored.held, stored.delay) = (None, Delay::None);
        }
        is_received
    }

    /// Where the first message stands of those of a group that were seen to be visible.
    fn first_visible(&self, queue: usize, group: Option<u64>, seen: &[Seen]) -> Option<f64> {
        let is_of = |one: &&Seen| (one.queue, one.key.1) == (queue, group) && one.is(MessageState::Visible);
        seen.iter().filter(is_of).map(|one| self.model.stored[&one.key].order).reduce(f64::min)
    }

    pub fn note_arrival(&mut self, path: Path) {
        match path {
            Path::Stayed => {}
            Path::Letter => self.note("a dead letter"),
            Path::Task => self.note("a task moves a message"),
        }
    }

    /// Takes everything out; what must be there is, and nothing else.
    pub fn drain(mut self) -> (TestBroker, BTreeMap<&'static str, u64>) {
        if self.broker().shards() != self.shards {
            // The next history begins with as many as this one.
            let shards = self.shards;
            self.restart_with(false, Some(shards));
        }
        self.end_the_task();
        self.look();
        for queue in 0..QUEUES.len() {
            self.peek_by_state(queue);
            if is_fifo(queue) && self.model.settings[queue].delay_seconds > 0 {
                let asked = self.queue(queue);
                let no_delay = QueueAttributes::new().delay(Duration::ZERO);
                self.runtime.block_on(asked.set_attributes(&no_delay)).unwrap();
                self.model.settings[queue].delay_seconds = 0;
            }
        }
        self.look();
        self.until_right(|history| {
            (0..QUEUES.len()).for_each(|queue| history.take_all(queue));
            history.look();
            let model = &history.model;
            let is_left = |message: &&Stored| {
                !message.may_be_gone && message.delay != Delay::Long && !model.is_stuck(message)
            };
            match history.model.stored.values().find(is_left) {
                Some(message) => Err(format!("{message:?} is left")),
                None => Ok(()),
            }
        });
        for queue in 0..QUEUES.len() {
            let asked = self.queue(queue);
            self.runtime.block_on(asked.purge()).unwrap();
            self.model.forget(queue);
        }
        self.look();
        for queue in 0..QUEUES.len() {
            let asked = self.queue(queue);
            self.runtime.block_on(asked.delete_queue()).unwrap();
        }
        (self.broker.take().expect("it runs as long as the history"), std::mem::take(&mut self.happened))
    }

    /// Peeks at one state after the other show the same as one at all.
    fn peek_by_state(&mut self, queue: usize) {
        self.until_right(|history| {
            let all = history.peek_at(queue, None);
            for state in [MessageState::Visible, MessageState::InFlight, MessageState::Delayed] {
                let keys = |seen: &[Seen]| -> BTreeSet<Key> { seen.iter().map(|one| one.key).collect() };
                let of_state = history.peek_at(queue, Some(state));
                let wanted: Vec<Seen> = all
                    .iter()
                    .filter(|one| one.is(state))
                    .map(|one| Seen { queue, key: one.key, peeked: one.peeked.clone() })
                    .collect();
                if keys(&of_state) != keys(&wanted) {
                    return Err(format!("{}: a peek at {state:?} shows others", QUEUES[queue]));
                }
            }
            Ok(())
        });
    }

    /// Receives and deletes whatever a queue gives.
    fn take_all(&mut self, queue: usize) {
        loop {
            self.delete_held(queue);
            if self.receive_at_once(queue, &Ask::hiding(10)) == 0 {
                return;
            }
        }
    }
}
