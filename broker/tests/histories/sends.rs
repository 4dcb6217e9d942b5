//! Sending, in batches in which some entries are to be refused.

use std::time::{Duration, Instant};

use tenpin_client::{Error, ErrorCode, MessageId, NewMessage, Sent};

use crate::ages::SentBetween;
use crate::history::History;
use crate::messages::code_of;
use crate::model::{Delay, Key, LONG_DELAY_SECONDS, Model, QUEUES, Remembered, Stored, is_fifo};

const GROUPS: u64 = 4;
const IDS: u64 = 25;
/// Bodies have at most so many bytes, but for those that are too long.
const PADDING_MAX: usize = 700;

/// A message that is to be sent, and what is to be said of it.
pub struct Draft {
    pub key: Key,
    pub message: NewMessage,
    attributes: Vec<(String, String, Vec<u8>)>,
    trace_header: Option<String>,
    pub id: Option<String>,
    delay: Delay,
    pub error: Option<ErrorCode>,
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
        let drafts = self.some_drafts(queue);
        self.send_drafts(queue, drafts);
    }

    pub fn some_drafts(&mut self, queue: usize) -> Vec<Draft> {
        if is_fifo(queue) {
            (0..=self.below(5)).map(|_| self.draft_fifo(queue)).collect()
        } else {
            (0..=self.below(4)).map(|_| self.draft_standard(queue)).collect()
        }
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
        let drafts = self.some_drafts(queue);
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
        let asked = self.queue_opened_anew(queue);
        let sent = self.runtime.block_on(asked.send_batch(&messages)).unwrap();
        self.judge_all_sent(queue, drafts, sent);
    }

    pub fn judge_all_sent(&mut self, queue: usize, drafts: Vec<Draft>, sent: Vec<Result<Sent, Error>>) {
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
        let Some(id) = id else { return self.store(queue, draft, Some(sent), None) };
        if let Some((first, sequence, number)) = self.model.first_of(queue, &draft) {
            let is_first = sent.id == first && (sequence.is_none() || sequence == sent.sequence_number);
            assert!(is_first, "{key:?} is a duplicate of {number}, and was given {sent:?}");
            self.note("a duplicate");
            return;
        }
        let sequence = sent.sequence_number.expect("a FIFO queue's");
        let last = self.model.last_sequence.insert((queue, self.model.incarnation(queue)), sequence);
        assert!(last < Some(sequence), "sequence numbers rise: {last:?}, {sequence}");
        let remembered = self.model.remembered_as(queue, key.1, id);
        self.model.remembered.insert(remembered, (sent.id, Some(sequence), key.0));
        let id = draft.own_id();
        self.store(queue, draft, Some(sent), id);
    }

    /// What was sent so that who waits is given it.
    pub fn note_sent(&mut self, queue: usize, key: Key, sent: Sent) {
        let message = NewMessage::default();
        let (attributes, trace_header, id) = (Vec::new(), None, None);
        let draft = Draft { key, message, attributes, trace_header, id, delay: Delay::None, error: None };
        let id = is_fifo(queue).then(|| format!("wait-{}", key.0));
        self.store(queue, draft, Some(sent), id);
    }

    /// Without an answer, it may be there or not.
    pub fn store(
        &mut self,
        queue: usize,
        draft: Draft,
        sent: Option<Sent>,
        deduplication_id: Option<String>,
    ) {
        let order = self.model.next();
        let Draft { key, attributes, trace_header, delay, .. } = draft;
        self.model.store(Stored {
            key,
            id: sent.map(|sent| sent.id),
            queue,
            sent: SentBetween { earliest: self.began, latest: Instant::now() },
            order: order as f64,
            arrival: order,
            attributes,
            trace_header,
            sequence: sent.and_then(|sent| sent.sequence_number),
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
            may_be_gone: sent.is_none(),
            may_be_received: false,
        });
    }
}

impl Draft {
    /// The deduplication id that it is given out with, where the sender has chosen it.
    pub fn own_id(&self) -> Option<String> {
        self.id.clone().filter(|id| !id.starts_with("content "))
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
    pub fn remembered_as(&self, queue: usize, group: Option<u64>, id: &str) -> Remembered {
        let settings = &self.settings[queue];
        (queue, settings.incarnation, group.filter(|_| settings.scope_is_group), id.to_owned())
    }

    fn first_of(&self, queue: usize, draft: &Draft) -> Option<(MessageId, Option<u64>, u64)> {
        self.remembered.get(&self.remembered_as(queue, draft.key.1, draft.id.as_ref()?)).copied()
    }
}
