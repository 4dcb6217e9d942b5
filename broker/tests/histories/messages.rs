//! Sending, deleting and hiding, in batches in which some entries are to be refused.

use std::time::Duration;

use tenpin_client::{Error, ErrorCode, MessageId, NewMessage, ReceiptHandle, Sent};

use crate::history::History;
use crate::model::{Delay, Issued, Key, LONG_DELAY_SECONDS, Model, QUEUES, Standing, Stored, is_fifo};

const GROUPS: u64 = 4;
const IDS: u64 = 25;
/// Bodies have at most so many bytes, but for those that are too long.
const PADDING_MAX: usize = 700;
/// What is hidden is hidden for longer than a test takes, and each time for another time.
const HIDDEN_FOR: Duration = Duration::from_secs(3_600);

/// A message that is to be sent, and what is to be said of it.
struct Draft {
    key: Key,
    message: NewMessage,
    attributes: Vec<(String, String, Vec<u8>)>,
    trace_header: Option<String>,
    id: Option<String>,
    delay: Delay,
    error: Option<ErrorCode>,
}

/// What is given where messages are named.
pub struct Picked {
    pub handle: ReceiptHandle,
    /// None: it never was one.
    pub issued: Option<Issued>,
}

impl From<Issued> for Picked {
    fn from(issued: Issued) -> Self {
        Self { handle: issued.handle.clone(), issued: Some(issued) }
    }
}

pub fn code_of<T>(result: &Result<T, Error>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code().unwrap_or_else(|| panic!("{error}")))
}

impl History {
    fn draft(&mut self, key: Key) -> Draft {
        let mut body = key.0.to_string();
        if self.once_in(3) {
            body.push(' ');
            body.extend(std::iter::repeat_n('x', self.below(PADDING_MAX)));
        }
        let mut message = NewMessage::new(body);
        let mut attributes = Vec::new();
        for name in ["colour", "size", "raw"] {
            if !self.once_in(4) {
                continue;
            }
            let number = self.below(1_000).to_string();
            let (data_type, value) = match name {
                "colour" => ("String", number.clone().into()),
                "size" => ("Number", tenpin_client::AttributeValue::Number(number.clone())),
                _ => ("Binary", tenpin_client::AttributeValue::Binary(number.clone().into_bytes().into())),
            };
            message = message.attribute(name, value);
            attributes.push((name.to_owned(), data_type.to_owned(), number.into_bytes()));
        }
        let trace_header = self.once_in(4).then(|| format!("Root=1-{}", key.0));
        if let Some(header) = &trace_header {
            message = message.trace_header(header.as_str());
        }
        if let Some(group) = key.1 {
            message = message.group(group.to_string());
        }
        Draft { key, message, attributes, trace_header, id: None, delay: Delay::None, error: None }
    }

    /// Now and then something is wrong with an entry.
    fn spoil(&mut self, draft: &mut Draft, queue: usize) {
        if !self.once_in(9) {
            return;
        }
        let (number, fifo) = (draft.key.0.to_string(), is_fifo(queue));
        let message = draft.message.clone();
        let (message, error) = match self.below(4) {
            0 => (message.delay(Duration::from_secs(901)), ErrorCode::InvalidParameterValue),
            1 if fifo => (message.delay(Duration::from_secs(1)), ErrorCode::InvalidParameterValue),
            1 => (NewMessage::new(""), ErrorCode::MissingRequiredParameter),
            2 if self.model.settings[queue].message_bytes_max == 1_024 => {
                let group = draft.key.1.map_or("none".to_owned(), |group| group.to_string());
                let body = format!("{number} {}", "x".repeat(1_024));
                let message = NewMessage::new(body).group(group);
                let message = if fifo { message.deduplication_id(number) } else { message };
                (message, ErrorCode::InvalidParameterValue)
            }
            _ if fifo => (
                NewMessage::new(number.clone()).deduplication_id(number),
                ErrorCode::MissingRequiredParameter,
            ),
            _ => (message.attribute("AWS.mine", "x"), ErrorCode::InvalidParameterValue),
        };
        (draft.message, draft.error) = (message, Some(error));
    }

    pub fn some_standard(&mut self) -> usize {
        [0, 0, 0, 1, 1, 2][self.below(6)]
    }

    pub fn send(&mut self) {
        let queue = self.some_standard();
        let drafts: Vec<Draft> = (0..=self.below(4)).map(|_| self.draft_standard(queue)).collect();
        self.send_drafts(queue, drafts);
    }

    /// Sends this many plain messages to a standard queue.
    pub fn send_some(&mut self, queue: usize, count: usize) {
        let drafts = (0..count).map(|_| {
            let key = (self.model.next(), None);
            let mut draft = self.draft(key);
            draft.message = draft.message.delay(Duration::ZERO);
            draft
        });
        let drafts = drafts.collect();
        self.send_drafts(queue, drafts);
    }

    fn draft_standard(&mut self, queue: usize) -> Draft {
        let group = self.once_in(3).then(|| self.random.below(GROUPS));
        let number = self.model.next();
        let mut draft = self.draft((number, group));
        let delay = match self.below(12) {
            0 => Some(0),
            1 => Some(1),
            2 => Some(LONG_DELAY_SECONDS),
            _ => None,
        };
        if let Some(seconds) = delay {
            draft.message = draft.message.delay(Duration::from_secs(seconds));
        }
        draft.delay = match delay.unwrap_or(self.model.settings[queue].delay_seconds) {
            0 => Delay::None,
            1 => Delay::Short,
            _ => Delay::Long,
        };
        self.spoil(&mut draft, queue);
        draft
    }

    pub fn send_fifo(&mut self) {
        let queue = [3, 3, 3, 4, 4, 5][self.below(6)];
        if self.is_busy(queue) && self.model.settings[queue].delay_seconds > 0 {
            // What is sent would stand in no order to what is moved meanwhile, as far as can be seen.
            return;
        }
        let drafts: Vec<Draft> = (0..=self.below(5)).map(|_| self.draft_fifo(queue)).collect();
        self.send_drafts(queue, drafts);
    }

    fn draft_fifo(&mut self, queue: usize) -> Draft {
        let (number, group) = (self.model.next(), self.random.below(GROUPS));
        let by_content = self.model.settings[queue].content_based && self.once_in(2);
        let mut key = (number, Some(group));
        if by_content && self.once_in(2) {
            // A body of before: a duplicate, or new in this group.
            let before: Vec<u64> = self.model.remembered.keys().filter_map(|key| number_of(&key.3)).collect();
            if !before.is_empty() {
                key.0 = before[self.below(before.len())];
            }
        }
        let mut draft = if by_content {
            let message = NewMessage::new(key.0.to_string()).group(group.to_string());
            let (attributes, trace_header) = (Vec::new(), None);
            let id = Some(content_id(key.0));
            Draft { key, message, attributes, trace_header, id, delay: Delay::None, error: None }
        } else {
            let mut draft = self.draft(key);
            let id = format!("id-{}", self.random.below(IDS));
            draft.message = draft.message.deduplication_id(id.as_str());
            draft.id = Some(id);
            draft
        };
        if self.model.used.contains(&key) && self.model.first_of(queue, &draft).is_none() {
            // It would be stored under the name of another.
            return self.draft_fifo(queue);
        }
        self.model.used.insert(key);
        if !by_content {
            self.spoil(&mut draft, queue);
        }
        draft
    }

    fn send_drafts(&mut self, queue: usize, drafts: Vec<Draft>) {
        let is_unsure = |message: &Stored| message.is_unsure() && message.may_be_in(queue);
        if self.model.settings[queue].delay_seconds > 0 && self.model.stored.values().any(is_unsure) {
            // Peeks show delayed messages in no order: what came before has to be known.
            self.look();
        }
        let numbers: Vec<_> = drafts.iter().map(|draft| (draft.key, draft.delay, draft.error)).collect();
        self.tell(format!("send to {}: {numbers:?}", QUEUES[queue]));
        let messages: Vec<_> = drafts.iter().map(|draft| draft.message.clone()).collect();
        // Opened anew, since an open queue remembers for a while whether it is deduplicated by content.
        let (client, name) = (self.any_client(), self.name(queue));
        let sent = self
            .runtime
            .block_on(async { client.queue(name).await.unwrap().send_batch(&messages).await.unwrap() });
        assert_eq!(sent.len(), drafts.len());
        for (draft, sent) in drafts.into_iter().zip(sent) {
            self.judge_sent(queue, draft, sent);
        }
    }

    fn judge_sent(&mut self, queue: usize, draft: Draft, sent: Result<Sent, Error>) {
        let Draft { key, id, .. } = &draft;
        assert_eq!(code_of(&sent), draft.error, "sending {key:?}");
        let Ok(sent) = sent else { return self.note("a send is refused") };
        assert_eq!(sent.sequence_number.is_some(), is_fifo(queue));
        let Some(id) = id else { return self.store(queue, draft, sent, None) };
        if let Some((first, sequence, number)) = self.model.first_of(queue, &draft) {
            let is_first = (sent.id, sent.sequence_number) == (first, Some(sequence));
            assert!(is_first, "{key:?} is a duplicate of {number}, and was given {sent:?}");
            self.note("a duplicate");
            return;
        }
        let sequence = sent.sequence_number.expect("a FIFO queue's");
        let last = self.model.last_sequence.insert((queue, self.model.incarnation(queue)), sequence);
        assert!(last < Some(sequence), "sequence numbers rise: {last:?}, {sequence}");
        let remembered = self.model.remembered_as(queue, key.1, id);
        self.model.remembered.insert(remembered, (sent.id, sequence, key.0));
        let id = (!id.starts_with("content ")).then(|| id.clone());
        self.store(queue, draft, sent, id);
    }

    /// What was sent so that who waits is given it.
    pub fn note_sent(&mut self, queue: usize, key: Key, sent: Sent) {
        let message = NewMessage::default();
        let (attributes, trace_header, id) = (Vec::new(), None, None);
        let draft = Draft { key, message, attributes, trace_header, id, delay: Delay::None, error: None };
        let id = is_fifo(queue).then(|| format!("wait-{}", key.0));
        self.store(queue, draft, sent, id);
    }

    fn store(&mut self, queue: usize, draft: Draft, sent: Sent, deduplication_id: Option<String>) {
        let order = self.model.next();
        let Draft { key, attributes, trace_header, delay, .. } = draft;
        self.model.store(Stored {
            key,
            id: sent.id,
            queue,
            order: order as f64,
            arrival: order,
            attributes,
            trace_header,
            sequence: sent.sequence_number,
            deduplication_id,
            received: 0,
            received_here: 0,
            surely_received: 0,
            first_received: None,
            held: None,
            source: None,
            delay,
            maybe_letter_in: None,
            maybe_moved_to: None,
            may_be_gone: false,
            may_be_received: false,
        });
    }
}

/// Messages are deduplicated by content under what stands for their body.
fn content_id(number: u64) -> String {
    format!("content {number}")
}

fn number_of(content_id: &str) -> Option<u64> {
    content_id.strip_prefix("content ")?.parse().ok()
}

impl Model {
    fn remembered_as(&self, queue: usize, group: Option<u64>, id: &str) -> crate::model::Remembered {
        let settings = &self.settings[queue];
        (queue, settings.incarnation, group.filter(|_| settings.scope_is_group), id.to_owned())
    }

    fn first_of(&self, queue: usize, draft: &Draft) -> Option<(MessageId, u64, u64)> {
        self.remembered.get(&self.remembered_as(queue, draft.key.1, draft.id.as_ref()?)).copied()
    }
}

impl History {
    /// Handles: mostly of what is in flight in a queue, then of whatever was given out, or none at all.
    fn pick(&mut self, queue: usize) -> Vec<Picked> {
        let mut held = self.held_in(queue);
        let most = 1 + self.below(9);
        while held.len() > most {
            let place = self.below(held.len());
            held.swap_remove(place);
        }
        let mut picked: Vec<Picked> = held.into_iter().map(Picked::from).collect();
        // What still names a message, but for another delivery; any of this queue; any at all.
        let is_old = |issued: &Issued| {
            let message = self.model.stored.get(&issued.key);
            message.is_some_and(|message| {
                message.arrival == issued.arrival && !message.is_held_by(&issued.handle)
            })
        };
        let of_queue = |issued: &&Issued| issued.queue == queue;
        let issued = &self.model.issued;
        let old: Vec<_> = issued.iter().filter(of_queue).filter(|issued| is_old(issued)).cloned().collect();
        let own: Vec<_> = issued.iter().filter(of_queue).cloned().collect();
        for (issued, once_in) in [(old, 2), (own, 4), (issued.clone(), 5)] {
            if !issued.is_empty() && self.once_in(once_in) {
                picked.push(Picked::from(issued[self.below(issued.len())].clone()));
            }
        }
        if self.once_in(12) {
            picked.push(Picked { handle: ReceiptHandle::from_bytes(vec![9; 32]), issued: None });
        }
        picked.truncate(10);
        picked
    }

    pub fn delete(&mut self) {
        let queue = self.some_queue();
        let picked = self.pick(queue);
        if picked.is_empty() {
            return;
        }
        self.tell(format!("delete in {}: {:?}", QUEUES[queue], names(&picked)));
        let handles: Vec<_> = picked.iter().map(|picked| picked.handle.clone()).collect();
        let asked = self.queue(queue);
        let outcomes = self.runtime.block_on(asked.delete_batch(&handles)).unwrap();
        assert_eq!(outcomes.len(), picked.len());
        for (picked, outcome) in picked.iter().zip(outcomes) {
            self.judge_deleted(queue, picked, code_of(&outcome));
        }
    }

    /// What a handle names, where it is one of this queue; else why it is refused. What the broker said of it
    /// tells whether a FIFO queue has moved to another shard.
    fn named(
        &mut self,
        queue: usize,
        picked: &Picked,
        said: Option<ErrorCode>,
    ) -> Result<Option<&mut Stored>, ErrorCode> {
        const INVALID: ErrorCode = ErrorCode::ReceiptHandleIsInvalid;
        let incarnation = self.model.incarnation(queue);
        let is_of = |issued: &&Issued| (issued.queue, issued.incarnation) == (queue, incarnation);
        let Some(issued) = picked.issued.as_ref().filter(is_of) else {
            self.note("a foreign handle is refused");
            return Err(INVALID);
        };
        let standing = self.model.standing(queue, &picked.handle);
        let message = self.model.stored.get(&issued.key);
        let message = message.filter(|message| message.arrival == issued.arrival);
        let (is_there, is_sure) = (message.is_some(), message.is_some_and(|message| !message.is_unsure()));
        let is_refused = match standing {
            Standing::Good => false,
            // Whether it is gone or elsewhere is not known any more.
            Standing::Moved => true,
            Standing::Stayed | Standing::Unknown if !is_there => true,
            Standing::Stayed | Standing::Unknown if !is_sure => said == Some(INVALID),
            Standing::Stayed => false,
            Standing::Unknown => {
                let after = self.model.issued_after[&picked.handle];
                let between = (queue, incarnation, after, self.model.reshards.len());
                let moved = said == Some(INVALID);
                let known = *self.model.fifo_moved.entry(between).or_insert(moved);
                assert_eq!(known, moved, "a FIFO queue moves whole: {between:?}");
                moved
            }
        };
        if is_refused {
            self.note("a handle from before a change of the shards is refused");
            if let Some(message) = self.model.stored.get_mut(&issued.key)
                && message.is_held_by(&picked.handle)
                && let Some(held) = &mut message.held
            {
                held.handle = None;
            }
            return Err(INVALID);
        }
        if standing != Standing::Good {
            self.note("a handle from before a change of the shards works");
        }
        let message = self.model.stored.get_mut(&issued.key);
        Ok(message.filter(|message| message.arrival == issued.arrival))
    }

    fn judge_deleted(&mut self, queue: usize, picked: &Picked, error: Option<ErrorCode>) {
        const EXPIRED: Option<ErrorCode> = Some(ErrorCode::InvalidParameterValue);
        let message = match self.named(queue, picked, error) {
            Err(refusal) => return assert_eq!(error, Some(refusal), "{:?}", picked.issued),
            Ok(None) => return assert_eq!(error, None, "what is gone is deleted"),
            Ok(Some(message)) => message,
        };
        let key = message.key;
        if message.is_unsure() {
            assert!(error.is_none() || (is_fifo(queue) && error == EXPIRED), "{key:?}: {error:?}");
            message.may_be_gone |= error.is_none();
            if let Some(task) = &mut self.model.task {
                task.is_inexact = true;
            }
            return;
        }
        let is_this = message.is_held_by(&picked.handle);
        match message.held.as_ref().filter(|_| is_this) {
            Some(_) if !is_fifo(queue) => assert_eq!(error, None, "deleting {key:?}"),
            None if !is_fifo(queue) => {
                assert_eq!(error, None, "deleting {key:?}");
                self.note("an old handle deletes");
            }
            None => {
                self.note("an expired handle is refused");
                return assert_eq!(error, EXPIRED, "deleting {key:?}");
            }
            Some(held) if held.may_be_over && error == EXPIRED => {
                message.held = None;
                return;
            }
            Some(_) => assert_eq!(error, None, "deleting {key:?}"),
        }
        self.model.stored.remove(&key);
    }

    /// All that is in flight in a queue, as far as it can be named.
    fn held_in(&self, queue: usize) -> Vec<Issued> {
        let incarnation = self.model.incarnation(queue);
        let held = self.model.stored.values().filter(|message| message.queue == queue);
        held.filter_map(|message| {
            let handle = message.held.as_ref()?.handle.clone()?;
            let (key, arrival) = (message.key, message.arrival);
            Some(Issued { queue, incarnation, key, arrival, handle })
        })
        .collect()
    }

    /// Makes all that is in flight in a queue visible.
    pub fn give_back_held(&mut self, queue: usize) {
        let held: Vec<Picked> = self.held_in(queue).into_iter().map(Picked::from).collect();
        for batch in held.chunks(10) {
            let changes: Vec<_> = batch.iter().map(|picked| (&picked.handle, Duration::ZERO)).collect();
            let asked = self.queue(queue);
            let outcomes = self.runtime.block_on(asked.change_visibility_batch(&changes)).unwrap();
            for (picked, outcome) in batch.iter().zip(outcomes) {
                self.judge_hidden(queue, picked, Duration::ZERO, code_of(&outcome));
            }
        }
    }

    /// Deletes all that is in flight in a queue.
    pub fn delete_held(&mut self, queue: usize) {
        let held: Vec<Picked> = self.held_in(queue).into_iter().map(Picked::from).collect();
        for batch in held.chunks(10) {
            let handles: Vec<_> = batch.iter().map(|picked| picked.handle.clone()).collect();
            let asked = self.queue(queue);
            let outcomes = self.runtime.block_on(asked.delete_batch(&handles)).unwrap();
            for (picked, outcome) in batch.iter().zip(outcomes) {
                self.judge_deleted(queue, picked, code_of(&outcome));
            }
        }
    }

    /// Changes for how long messages stay hidden, mostly to zero.
    pub fn hide(&mut self) {
        let queue = self.some_queue();
        let picked = self.pick(queue);
        if picked.is_empty() {
            return;
        }
        let timeouts: Vec<Duration> = picked.iter().map(|_| self.some_timeout()).collect();
        self.tell(format!("hide in {}: {:?} {timeouts:?}", QUEUES[queue], names(&picked)));
        let changes: Vec<_> =
            picked.iter().map(|picked| &picked.handle).zip(timeouts.iter().copied()).collect();
        let asked = self.queue(queue);
        let outcomes = self.runtime.block_on(asked.change_visibility_batch(&changes)).unwrap();
        assert_eq!(outcomes.len(), picked.len());
        for ((picked, timeout), outcome) in picked.iter().zip(timeouts).zip(outcomes) {
            self.judge_hidden(queue, picked, timeout, code_of(&outcome));
        }
    }

    fn some_timeout(&mut self) -> Duration {
        match self.below(10) {
            0..7 => Duration::ZERO,
            7..9 => HIDDEN_FOR,
            _ => Duration::from_secs(43_201),
        }
    }

    pub fn judge_hidden(
        &mut self,
        queue: usize,
        picked: &Picked,
        timeout: Duration,
        error: Option<ErrorCode>,
    ) {
        if error.is_some() {
            self.note("a change of visibility is refused");
        }
        let invalid = Some(ErrorCode::InvalidParameterValue);
        let not_in_flight = if is_fifo(queue) { invalid } else { Some(ErrorCode::MessageNotInflight) };
        let message = match self.named(queue, picked, error) {
            Err(refusal) => return assert_eq!(error, Some(refusal), "{:?}", picked.issued),
            Ok(_) if timeout > Duration::from_secs(43_200) => return assert_eq!(error, invalid),
            Ok(None) => return assert_eq!(error, invalid, "it is gone"),
            Ok(Some(message)) => message,
        };
        let key = message.key;
        if message.is_unsure() && error.is_some() {
            return assert!(error == invalid || error == not_in_flight, "{key:?}: {error:?}");
        }
        let is_unsure = message.is_unsure();
        let is_this = message.is_held_by(&picked.handle);
        match &mut message.held {
            Some(held) if is_this || !is_fifo(queue) => {
                if held.may_be_over && error == not_in_flight {
                    message.held = None;
                    return;
                }
                assert_eq!(error, None, "hiding {key:?}");
                // Another task or letter it is not any more: it was in flight.
                (held.changed, held.may_be_over) = (true, false);
                message.is_here();
                message.surely_received = message.received;
                if timeout.is_zero() {
                    message.held = None;
                }
            }
            _ => {
                let is_moving = is_unsure && error.is_none();
                assert!(error == not_in_flight || is_moving, "hiding {key:?}: {error:?}");
            }
        }
    }
}

fn names(picked: &[Picked]) -> Vec<Option<(usize, Key)>> {
    picked.iter().map(|picked| picked.issued.as_ref().map(|issued| (issued.queue, issued.key))).collect()
}
