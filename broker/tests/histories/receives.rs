//! Receiving, at once or by waiting, under an attempt id or none.

use std::collections::BTreeSet;
use std::time::Duration;

use tenpin_client::{Error, ErrorCode, Message, NewMessage, ReceiptHandle, Receive};

use crate::history::History;
use crate::messages::{Picked, code_of};
use crate::model::{
    Delay, Held, IN_FLIGHT_MAX, Issued, Key, Path, QUEUES, Standing, Stored, is_fifo, is_letters,
};

/// Longer than a test takes.
pub const HELD_FOR: Duration = Duration::from_secs(7_200);
const WAITS_FOR: Duration = Duration::from_secs(20);
const ATTEMPTS: u64 = 3;
/// For how short messages are hidden that are to come back by themselves.
pub const SHORTLY: Duration = Duration::from_secs(1);
/// So many of what was given out last are named again.
const ISSUED_MAX: usize = 80;

/// A receive as it is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub most: usize,
    /// None: what the queue says, which is long as well.
    pub visibility: Option<Duration>,
    pub attempt: Option<u64>,
}

impl Ask {
    pub fn hiding(most: usize) -> Self {
        Self { most, visibility: Some(HELD_FOR), attempt: None }
    }

    pub fn receive(&self, wait: Duration) -> Receive {
        let mut receive = Receive::up_to(self.most as u8).wait(wait);
        if let Some(visibility) = self.visibility {
            receive = receive.visibility_timeout(visibility);
        }
        if let Some(attempt) = self.attempt {
            receive = receive.attempt_id(format!("attempt-{attempt}"));
        }
        receive
    }
}

impl History {
    pub fn receive(&mut self) {
        let queue = self.some_queue();
        let mut ask = Ask::hiding(1 + self.below(10));
        if is_fifo(queue) && self.once_in(3) {
            ask.attempt = Some(self.random.below(ATTEMPTS));
        } else {
            ask.visibility = match self.below(12) {
                0 => Some(Duration::ZERO),
                1 => Some(SHORTLY),
                2 => None,
                _ => Some(HELD_FOR),
            };
            if !is_fifo(queue) && self.once_in(30) {
                ask.attempt = Some(0);
            }
        }
        self.receive_at_once(queue, &ask);
        if ask.attempt.is_some() && self.once_in(2) {
            self.receive_at_once(queue, &ask);
        }
    }

    /// Takes as much from a standard queue as may be in flight.
    pub fn fill_up(&mut self) {
        let queue = self.some_standard();
        self.send_some(queue, IN_FLIGHT_MAX);
        // A bound, as what is taken may be dead letters.
        for _ in 0..4 * IN_FLIGHT_MAX {
            if self.receive_at_once(queue, &Ask::hiding(10)) == 0 {
                return;
            }
        }
    }

    /// Asks again for what an attempt was given, where that is as it was.
    pub fn repeat_an_attempt(&mut self) {
        let attempts: Vec<_> = self.model.attempts.keys().copied().collect();
        let again = attempts.into_iter().find_map(|(queue, incarnation, attempt)| {
            let ask = Ask { attempt: Some(attempt), ..Ask::hiding(10) };
            let is_of_now = incarnation == self.model.incarnation(queue);
            (is_of_now && self.repeated(queue, &ask).is_some()).then_some((queue, ask))
        });
        if let Some((queue, ask)) = again {
            self.receive_at_once(queue, &ask);
        }
    }

    /// Receives without waiting; gives how many came.
    pub fn receive_at_once(&mut self, queue: usize, ask: &Ask) -> usize {
        self.note_time();
        let repeated = self.repeated(queue, ask);
        let in_flight = self.model.in_flight(queue);
        self.model.note_receive(queue);
        let must_give = repeated.is_some() || self.model.must_give(queue);
        let asked = self.queue(queue);
        let answer = self.runtime.block_on(asked.receive_with(&ask.receive(Duration::ZERO)));
        if ask.attempt.is_some() && !is_fifo(queue) {
            assert_eq!(
                code_of(&answer),
                Some(ErrorCode::InvalidParameterValue),
                "only FIFO queues have attempts"
            );
            return 0;
        }
        let may_have_lapsed = ask.visibility == Some(SHORTLY);
        let Some(messages) = self.judge_limit(queue, ask, in_flight, answer) else {
            if may_have_lapsed {
                self.look_for_lapsed(queue);
            }
            return 0;
        };
        assert!(
            !messages.is_empty() || !must_give || may_have_lapsed,
            "nothing came of {} for {ask:?}",
            QUEUES[queue]
        );
        if let Some(repeated) = repeated {
            self.check_repeated(queue, ask, &messages, &repeated);
            return messages.len();
        }
        self.take(queue, ask, &messages);
        if may_have_lapsed {
            let lapsed = self.look_for_lapsed(queue);
            assert!(
                !messages.is_empty() || !must_give || lapsed > 0,
                "nothing came of {} for {ask:?}, and nothing was taken",
                QUEUES[queue]
            );
        }
        messages.len()
    }

    /// What a receive gave, if so much was not in flight already; at least and at most so many were.
    fn judge_limit(
        &mut self,
        queue: usize,
        ask: &Ask,
        (surely, perhaps): (usize, usize),
        answer: Result<Vec<Message>, Error>,
    ) -> Option<Vec<Message>> {
        if code_of(&answer) == Some(ErrorCode::OverLimit) {
            self.tell(format!("receive from {}: over the limit", QUEUES[queue]));
            assert!(!is_fifo(queue) && perhaps >= IN_FLIGHT_MAX, "{perhaps} are in flight");
            self.note("over the limit");
            return None;
        }
        assert!(is_fifo(queue) || surely < IN_FLIGHT_MAX, "{surely} were in flight, and no refusal");
        let messages = answer.unwrap();
        let repeated = self.repeated(queue, ask).map_or(0, |repeated| repeated.len());
        let bound = ask.most.min(IN_FLIGHT_MAX.saturating_sub(surely)).max(repeated);
        let is_held = |message: &&Stored| message.queue == queue && message.is_surely_held();
        let held: Vec<Key> = self.model.stored.values().filter(is_held).map(|message| message.key).collect();
        let (name, keys) = (QUEUES[queue], keys(&messages));
        assert!(messages.len() <= bound, "{keys:?} came of {name} for {ask:?}; in flight were {held:?}");
        Some(messages)
    }

    /// A receive was answered among other requests.
    pub fn judge_received(&mut self, queue: usize, ask: &Ask, answer: Result<Vec<Message>, Error>) {
        let in_flight = self.model.in_flight(queue);
        if let Some(messages) = self.judge_limit(queue, ask, in_flight, answer) {
            self.take(queue, ask, &messages);
        }
    }

    /// Where a shard is held up for a second, what it takes for so short is visible again before it can be given
    /// out, and is not (rule 2); that receive counts. Says of how many messages that is so.
    fn look_for_lapsed(&mut self, queue: usize) -> usize {
        self.model.note_lost_receive(queue);
        let lapsed = self.look();
        if !lapsed.is_empty() {
            self.tell(format!("deliveries from {} have lapsed: {lapsed:?}", QUEUES[queue]));
        }
        lapsed.len()
    }

    /// What an attempt was given, if that is all as it was.
    fn repeated(&self, queue: usize, ask: &Ask) -> Option<Vec<(Key, ReceiptHandle)>> {
        let attempt = (queue, self.model.incarnation(queue), ask.attempt?);
        let given = self.model.attempts.get(&attempt)?;
        let is_as_it_was = |(key, handle): &(Key, ReceiptHandle)| {
            self.model.stored.get(key).is_some_and(|message| {
                message.is_held_by(handle) && message.held.as_ref().is_some_and(|held| !held.changed)
            })
        };
        given.iter().all(is_as_it_was).then(|| given.clone())
    }

    fn check_repeated(
        &mut self,
        queue: usize,
        ask: &Ask,
        messages: &[Message],
        repeated: &[(Key, ReceiptHandle)],
    ) {
        let came: Vec<_> = messages.iter().map(|message| (key_of(message), message.handle())).collect();
        self.tell(format!("receive again from {}: {:?}", QUEUES[queue], keys(messages)));
        if repeated.iter().all(|(_, handle)| self.model.standing(queue, handle) == Standing::Good) {
            assert_eq!(came, repeated, "an attempt is given what it was given");
        } else {
            // Under another number of shards the same deliveries have other handles.
            let repeated: Vec<Key> = repeated.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys(messages), repeated, "an attempt is given what it was given");
            self.note("an attempt is repeated after a change of the shards");
            self.rename(queue, ask, messages);
        }
        self.note("a repeated attempt");
        for message in messages {
            let stored = &self.model.stored[&key_of(message)];
            assert_eq!(message.receive_count(), stored.received, "a repeat is no receive");
        }
    }

    /// Asks again under the id of a receive that was not answered: the messages that it took come again.
    pub fn receive_what_was_lost(&mut self, queue: usize, ask: &Ask, lost: Vec<Key>) {
        let asked = self.queue(queue);
        let messages = self.runtime.block_on(asked.receive_with(&ask.receive(Duration::ZERO))).unwrap();
        self.tell(format!("receive from {} what was lost: {:?}", QUEUES[queue], keys(&messages)));
        let came: BTreeSet<Key> = keys(&messages).into_iter().collect();
        assert_eq!(came, lost.into_iter().collect(), "an attempt is given what it was given");
        assert_eq!(came.len(), messages.len());
        for message in &messages {
            self.check_given(queue, message);
            let stored = self.model.stored.get_mut(&key_of(message)).expect("it is there");
            assert_eq!(message.receive_count(), stored.received, "a repeat is no receive");
            stored.first_received.get_or_insert(message.first_received_at());
            stored.held = Some(Held::new(None, false));
            stored.surely_received = stored.received;
        }
        self.rename(queue, ask, &messages);
        self.note("an attempt that was not answered is repeated");
    }

    /// Deliveries of before have new handles.
    fn rename(&mut self, queue: usize, ask: &Ask, messages: &[Message]) {
        for message in messages {
            let (key, handle) = (key_of(message), message.handle());
            let stored = self.model.stored.get_mut(&key).expect("it is there");
            let arrival = stored.arrival;
            let held = stored.held.as_mut().expect("it is as it was");
            held.is_refused = false;
            let before = held.handle.replace(handle.clone());
            self.model.issued.retain(|issued| Some(&issued.handle) != before.as_ref());
            self.note_issued(queue, key, arrival, handle);
        }
        self.note_attempt(queue, ask, messages);
    }

    fn note_issued(&mut self, queue: usize, key: Key, arrival: u64, handle: ReceiptHandle) {
        self.model.issued_after.insert(handle.clone(), self.model.reshards.len());
        let issued = Issued { queue, incarnation: self.model.incarnation(queue), key, arrival, handle };
        if self.model.issued.len() == ISSUED_MAX {
            self.model.issued.remove(0);
        }
        self.model.issued.push(issued);
    }

    fn note_attempt(&mut self, queue: usize, ask: &Ask, messages: &[Message]) {
        if let Some(attempt) = ask.attempt.filter(|_| !messages.is_empty()) {
            let attempt = (queue, self.model.incarnation(queue), attempt);
            let given = messages.iter().map(|message| (key_of(message), message.handle())).collect();
            self.model.attempts.insert(attempt, given);
        }
    }

    /// Messages have come.
    fn take(&mut self, queue: usize, ask: &Ask, messages: &[Message]) {
        self.tell(format!("receive from {}, {ask:?}: {:?}", QUEUES[queue], keys(messages)));
        let mut taken = Vec::new();
        for message in messages {
            let key = key_of(message);
            self.take_one(queue, ask, message, &taken);
            taken.push(key);
        }
        self.note_attempt(queue, ask, messages);
    }

    fn take_one(&mut self, queue: usize, ask: &Ask, message: &Message, taken: &[Key]) {
        let key = key_of(message);
        let stored = self.model.stored.get(&key).unwrap_or_else(|| panic!("{key:?} was gone"));
        assert!(!stored.is_surely_held(), "{key:?} is in flight");
        let path = self.model.path(stored, queue, message.id());
        let path = path.unwrap_or_else(|| panic!("{key:?} came of {}: {stored:?}", QUEUES[queue]));
        if path == Path::Stayed {
            assert!(!self.model.is_letter(stored), "{key:?} was received often enough: {stored:?}");
            assert!(self.model.delay_of(stored) != Delay::Long, "{key:?} is delayed");
            self.check_order(stored, taken);
        }
        self.note_what_comes(&key, path);
        let order = self.model.order_before(queue, key.1, taken).filter(|_| is_fifo(queue));
        let order = order.unwrap_or_else(|| self.model.next() as f64);
        self.model.arrive(key, queue, message.id(), path, order);
        self.check_given(queue, message);
        let handle = message.handle();
        let stored = self.model.stored.get_mut(&key).expect("it is there");
        stored.id = Some(message.id());
        stored.received += 1;
        stored.received_here += 1;
        assert_eq!(message.receive_count(), stored.received, "of {key:?}");
        let first = stored.first_received.get_or_insert(message.first_received_at());
        assert_eq!(*first, message.first_received_at(), "of {key:?}");
        if is_fifo(queue) {
            stored.surely_received = stored.received;
        }
        let may_be_over = ask.visibility.is_some_and(|visibility| visibility < HELD_FOR);
        stored.delay = Delay::None;
        stored.held = Some(Held::new(Some(handle.clone()), may_be_over));
        let arrival = stored.arrival;
        self.note_issued(queue, key, arrival, handle);
    }

    fn note_what_comes(&mut self, key: &Key, path: Path) {
        self.note_arrival(path);
        let stored = &self.model.stored[key];
        let after = self.model.settings[stored.queue].letters_after;
        let stays = path == Path::Stayed && after.is_some_and(|after| stored.received_here >= after);
        let is_beside = |other: &Stored| {
            let is_of = (other.queue, other.key.1) == (stored.queue, key.1);
            is_of && key.1.is_some() && other.is_surely_held()
        };
        let is_shared = !is_fifo(stored.queue) && self.model.stored.values().any(is_beside);
        if stays {
            self.note("a dead letter stays, as its target does not allow it");
        }
        if is_shared {
            self.note("a message is received while its group is in flight on a standard queue");
        }
    }

    /// What is shown of a message besides counts.
    fn check_given(&mut self, queue: usize, message: &Message) {
        let key = key_of(message);
        let source = self.model.stored[&key].source.map(|source| self.arn(source));
        let stored = self.model.stored.get_mut(&key).expect("it is there");
        let attributes: Vec<_> = message
            .attributes()
            .map(|(name, kind, value)| (name.to_owned(), kind.to_owned(), value.to_vec()))
            .collect();
        assert_eq!(attributes, stored.attributes, "of {key:?}");
        assert_eq!(message.trace_header(), stored.trace_header.as_deref(), "of {key:?}");
        assert_eq!(message.dead_letter_source(), source.as_deref(), "of {key:?}");
        if let Some(id) = &stored.deduplication_id {
            assert_eq!(message.deduplication_id(), Some(id.as_str()), "of {key:?}");
        }
        let sequence = message.sequence_number();
        assert_eq!(sequence.is_some(), is_fifo(queue));
        assert!(stored.sequence.is_none() || stored.sequence == sequence, "{stored:?}: {sequence:?}");
        stored.sequence = sequence;
        assert!(source.is_none() || is_letters(queue));
    }

    /// Nothing of a FIFO queue's group overtakes, and what is in flight blocks it.
    fn check_order(&self, message: &Stored, taken: &[Key]) {
        if !is_fifo(message.queue) {
            return;
        }
        let others = self.model.in_order(message.queue, message.key.1);
        for other in others.iter().filter(|other| other.key != message.key && !taken.contains(&other.key)) {
            let (key, other_key) = (message.key, other.key);
            assert!(!other.is_surely_held(), "{key:?} came while {other_key:?} was in flight");
            assert!(other.order > message.order, "{key:?} came before {other_key:?}");
        }
    }

    /// Waits for a message, which is sent or given back meanwhile.
    pub fn wait_for_one(&mut self) {
        let queue = self.below(QUEUES.len());
        if self.model.in_flight(queue).1 >= IN_FLIGHT_MAX - 1 {
            return;
        }
        let ask = Ask::hiding(1 + self.below(10));
        let group = self.model.next();
        let key = (group, is_fifo(queue).then_some(group));
        let is_delayed = is_fifo(queue) && self.model.settings[queue].delay_seconds > 0;
        // What is refused gives nothing back.
        let works =
            |handle: &_| matches!(self.model.standing(queue, handle), Standing::Good | Standing::Stayed);
        let back = (self.model.stored.values())
            .find(|message| {
                let is_alone = || {
                    let is_of = |other: &&Stored| other.key.1 == message.key.1 && other.may_be_in(queue);
                    self.model.stored.values().filter(is_of).count() == 1
                };
                message.is_surely_in(queue)
                    && message.is_surely_held()
                    && message.held.as_ref().and_then(|held| held.handle.as_ref()).is_some_and(works)
                    && !self.model.is_letter(message)
                    && (!is_fifo(queue) || is_alone())
            })
            .map(|message| message.key);
        let back = back.filter(|_| is_delayed || self.once_in(2));
        if is_delayed && back.is_none() {
            return;
        }
        self.model.note_receive(queue);
        let (waiting, giving) = (self.queue(queue), self.queue(queue));
        let receive = ask.receive(WAITS_FOR);
        let messages = if let Some(key) = back {
            self.tell(format!("wait on {} for {key:?} to come back", QUEUES[queue]));
            let stored = &self.model.stored[&key];
            let handle = stored.held.as_ref().and_then(|held| held.handle.clone()).expect("it is held");
            let (incarnation, arrival) = (self.model.incarnation(queue), stored.arrival);
            let picked = Picked::from(Issued { queue, incarnation, key, arrival, handle: handle.clone() });
            let (messages, hidden) = self.runtime.block_on(async {
                tokio::join!(
                    waiting.receive_with(&receive),
                    giving.change_visibility(&handle, Duration::ZERO)
                )
            });
            self.judge_hidden(queue, &picked, Duration::ZERO, code_of(&hidden));
            messages.unwrap()
        } else {
            self.tell(format!("wait on {} for {key:?} to be sent", QUEUES[queue]));
            let mut message = NewMessage::new(group.to_string()).delay(Duration::ZERO);
            if is_fifo(queue) {
                message = message.group(group.to_string()).deduplication_id(format!("wait-{group}"));
            }
            let (messages, sent) = self
                .runtime
                .block_on(async { tokio::join!(waiting.receive_with(&receive), giving.send(message)) });
            self.note_sent(queue, key, sent.unwrap());
            messages.unwrap()
        };
        assert!(!messages.is_empty(), "who waited on {} was given nothing", QUEUES[queue]);
        self.note("a wait is served");
        self.take(queue, &ask, &messages);
        // Another shard may have been asked for messages as well, which go back to it (rule 24).
        self.look();
    }
}

pub fn key_of(message: &Message) -> Key {
    (number_in(message.body()), message.group().map(|group| group.parse().unwrap()))
}

/// The number that a body begins with.
pub fn number_in(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn keys(messages: &[Message]) -> Vec<Key> {
    messages.iter().map(key_of).collect()
}
