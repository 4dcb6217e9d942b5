//! FIFO queues in the model: a group is whatever messages say that they are of it, and what was accepted
//! is a list that is looked through.

use sha2::{Digest, Sha256};

use super::*;

/// So few that histories reach it.
pub(super) const DEDUPLICATION_MAX: u64 = 60;
const WINDOW_MS: u64 = 300_000;

/// A group or an id that no message may have, and none.
const BAD: u8 = 200;
const NONE_GIVEN: u8 = 201;

/// A message to a FIFO queue.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: usize,
    group: u8,
    deduplication: u8,
    delay_seconds: Option<u32>,
    flagged: bool,
}

/// Where a stored message stands in its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    group: u8,
    pub sequence: u64,
    /// The queue's delay, which may change.
    pub delay_ms: u64,
}

/// What was accepted in the last minutes.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub queue: u64,
    scope: Option<u8>,
    id: String,
    accepted: Accepted,
    at_ms: u64,
    pub is_void: bool,
}

/// A receive with an attempt id.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    attempt: u8,
    at_ms: u64,
    deadline_ms: u64,
    messages: Vec<([u8; 16], u32)>,
}

impl Attempt {
    /// Whether the message's last delivery was to it.
    pub(super) fn has_given(&self, message: &Stored) -> bool {
        self.at_ms == message.delivered_at_ms && self.messages.contains(&(message.id, message.receive_count))
    }
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    let bytes = prop_oneof![8 => 1..12_usize, 1 => 12..1_200_usize, 1 => Just(0)];
    let group = prop_oneof![30 => 0..4_u8, 1 => Just(BAD), 1 => Just(NONE_GIVEN)];
    let deduplication = prop_oneof![24 => 0..60_u8, 1 => Just(BAD), 8 => Just(NONE_GIVEN)];
    let delay = prop_oneof![20 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1))];
    (bytes, group, deduplication, delay, prop::bool::weighted(0.3)).prop_map(
        |(bytes, group, deduplication, delay_seconds, flagged)| Message {
            bytes,
            group,
            deduplication,
            delay_seconds,
            flagged,
        },
    )
}

/// Settings that only FIFO queues have.
pub(super) fn setting() -> impl Strategy<Value = (AttributeCode, u64)> {
    let code = prop_oneof![
        3 => Just(AttributeCode::ContentBasedDeduplication), 1 => Just(AttributeCode::DeduplicationScope)
    ];
    (code, 0..2_u64)
}

pub(super) fn attribute(code: AttributeCode, value: u64) -> Attribute<'static> {
    let value = match (code, value) {
        (AttributeCode::DeduplicationScope, 0) => AttributeValue::Text("queue"),
        (AttributeCode::DeduplicationScope, _) => AttributeValue::Text("messageGroup"),
        _ => AttributeValue::Number(value),
    };
    Attribute::new(code, value)
}

fn text(kind: &str, number: u8) -> Option<String> {
    match number {
        NONE_GIVEN => None,
        BAD => Some("with space".to_owned()),
        number => Some(format!("{kind}-{number}")),
    }
}

impl Stored {
    /// From when on it could have been received, were it alone.
    pub(super) fn visible_since_ms(&self) -> u64 {
        match self.fifo {
            Some(place) if self.receive_count == 0 => self.sent_at_ms + place.delay_ms,
            _ => self.available_at_ms,
        }
    }
}

impl Queue {
    /// Whether a handle of a FIFO queue is not that of a delivery which still hides its message.
    pub(super) fn has_expired(&self, issued: &Issued, now_ms: u64) -> bool {
        let message = self.messages.iter().find(|message| issued.is_of(message));
        self.attributes.is_fifo()
            && message.is_some_and(|message| {
                message.state(now_ms) != MessageState::InFlight
                    || message.receive_count != issued.delivery.receive_count
            })
    }

    /// The places of a group's messages, in their order.
    fn group(&self, group: u8) -> Vec<usize> {
        let is_in =
            |message: &Stored| !message.damaged && message.fifo.is_some_and(|place| place.group == group);
        (0..self.messages.len()).filter(|&place| is_in(&self.messages[place])).collect()
    }

    /// The ready group whose first message has waited longest, but for these.
    fn first_ready(&self, but: &[u8], now_ms: u64) -> Option<u8> {
        let ready = (0..4).filter(|group| !but.contains(group)).filter_map(|group| {
            let places = self.group(group);
            let is = |place: &usize, state| self.messages[*place].state(now_ms) == state;
            let first = *places.first().filter(|place| is(place, MessageState::Visible))?;
            let is_locked = places.iter().any(|place| is(place, MessageState::InFlight));
            let first = &self.messages[first];
            (!is_locked).then_some(((first.available_at_ms, first.order), group))
        });
        ready.min().map(|(_, group)| group)
    }

    pub(super) fn oldest_fifo_ms(&self, now_ms: u64) -> u64 {
        let Some(group) = self.first_ready(&[], now_ms) else { return 0 };
        let first = &self.messages[self.group(group)[0]];
        now_ms - first.visible_since_ms().max(first.available_at_ms)
    }

    /// What a repeated attempt is given.
    fn repeat(&mut self, wait: &Wait, now_ms: u64) -> Option<Vec<Expected>> {
        let attempt = self.attempts.iter_mut().find(|other| Some(other.attempt) == wait.attempt)?;
        if attempt.at_ms + WINDOW_MS <= now_ms {
            return None;
        }
        let mut places = Vec::new();
        let mut bytes = 0;
        for (id, receive_count) in &attempt.messages {
            let place = self.messages.iter().position(|message| message.id == *id)?;
            let message = &self.messages[place];
            let is_as_it_was = message.state(now_ms) == MessageState::InFlight
                && message.receive_count == *receive_count
                && message.available_at_ms == attempt.deadline_ms;
            if !is_as_it_was {
                return None;
            }
            bytes += message.shown_bytes();
            places.push(place);
        }
        if places.len() > 1 && bytes > u64::from(wait.bytes_max) {
            return None;
        }
        attempt.deadline_ms = now_ms + wait.visibility_ms;
        let deadline_ms = attempt.deadline_ms;
        let again = places.into_iter().map(|place| {
            self.messages[place].available_at_ms = deadline_ms;
            self.messages[place].changed = true;
            self.messages[place].expected()
        });
        Some(again.collect())
    }
}

impl<F: Flaws> Test<F> {
    /// Hands out messages of the groups that have waited longest; dead letters at their heads are moved.
    pub(super) fn take_fifo(&mut self, name: usize, wait: &Wait) -> Taken {
        let now_ms = self.now_ms();
        let queue = self.queues.get_mut(&name).expect("it is there");
        if let Some(taken) = queue.repeat(wait, now_ms) {
            return Taken::Messages(taken);
        }
        let free = IN_FLIGHT_MAX.saturating_sub(queue.count(MessageState::InFlight, now_ms));
        let most = free.min(wait.count_max as usize);
        let letters = self.letters(name);
        let is_letter = |message: &Stored| letters.is_some_and(|(_, count)| message.receives_here() >= count);
        let (mut taken, mut bytes, mut seen, mut moved) = (Vec::new(), 0, Vec::new(), 0);
        'groups: while taken.len() < most
            && let Some(group) = self.queues[&name].first_ready(&seen, now_ms)
        {
            let places = self.queues[&name].group(group);
            let head = &self.queues[&name].messages[places[0]];
            if let Some((target, _)) = letters.filter(|_| is_letter(head)) {
                if moved == LETTERS_A_RECEIVE {
                    if taken.is_empty() {
                        return Taken::More;
                    }
                    break;
                }
                moved += 1;
                let id = head.id;
                self.move_letter(name, target, id);
                continue;
            }
            seen.push(group);
            let queue = self.queues.get_mut(&name).expect("it is there");
            for place in places {
                let message = &mut queue.messages[place];
                let is_visible = message.state(now_ms) == MessageState::Visible;
                if taken.len() == most || !is_visible || is_letter(message) {
                    break;
                }
                bytes += message.shown_bytes();
                if !taken.is_empty() && bytes > u64::from(wait.bytes_max) {
                    break 'groups;
                }
                taken.push(message.hand_out(wait.visibility_ms, now_ms));
            }
        }
        if taken.is_empty() {
            return Taken::Nothing;
        }
        if let Some(attempt) = wait.attempt {
            let attempts = &mut self.queues.get_mut(&name).expect("it is there").attempts;
            attempts.retain(|other| other.attempt != attempt);
            let messages = taken.iter().map(|message| (message.id, message.receive_count)).collect();
            let deadline_ms = now_ms + wait.visibility_ms;
            attempts.push(Attempt { attempt, at_ms: now_ms, deadline_ms, messages });
        }
        Taken::Messages(taken)
    }

    pub(super) fn send_fifo(&mut self, name: usize, connection: u32, messages: &[Message]) {
        let bodies: Vec<Vec<u8>> = messages
            .iter()
            .map(|message| {
                self.order += 1;
                let mut body = format!("{:05}", self.order % 50).into_bytes();
                body.resize(message.bytes, b'.');
                body
            })
            .collect();
        let content = |message: &Message, body: &[u8], id: Option<&str>| {
            let group = text("group", message.group);
            let fields = tenpin_protocol::ContentFields {
                group: group.as_deref(),
                deduplication_id: id,
                ..Default::default()
            };
            let mut content = Vec::new();
            write_content(&mut content, body, &fields);
            content
        };
        let contents: Vec<Vec<u8>> = messages
            .iter()
            .zip(&bodies)
            .map(|(message, body)| content(message, body, text("id", message.deduplication).as_deref()))
            .collect();
        let entries: Vec<_> = messages
            .iter()
            .zip(&contents)
            .map(|(message, content)| SendEntry {
                delay_seconds: message.delay_seconds,
                only_if_previous_accepted: message.flagged,
                ..SendEntry::with_content(content, message.bytes).expect("written by the protocol")
            })
            .collect();
        let number = self.number(name);
        let waiting = self.waiting_queues();
        let replies = self.ask(connection, Command::Send { queue: number, entries: Entries::of(&entries) });
        let correlation = self.correlation;
        let (own, others): (Vec<_>, Vec<_>) =
            replies.into_iter().partition(|reply| reply.ticket.correlation == correlation);
        if !self.queues.contains_key(&name) {
            assert!(
                matches!(&own[0].body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::QueueDoesNotExist)
            );
            return;
        }
        let ReplyBody::Sent(range) = own[0].body.clone() else { panic!("{own:?}") };
        assert_eq!(own[0].depends_on, self.world.log.end().min(own[0].depends_on));
        let outcomes = self.world.out.sent[range.start as usize..range.end as usize].to_vec();
        assert_eq!(outcomes.len(), messages.len());
        for ((message, body), outcome) in messages.iter().zip(&bodies).zip(outcomes) {
            self.judge(name, connection, message, body, &outcome, content);
        }
        let mut expected = BTreeMap::new();
        self.serve(&mut expected);
        self.compare(&others, &expected, &waiting);
    }

    /// Whether an entry's outcome is what it has to be; an accepted one is stored.
    fn judge(
        &mut self,
        name: usize,
        connection: u32,
        message: &Message,
        body: &[u8],
        outcome: &Result<Accepted, Refusal>,
        content: impl Fn(&Message, &[u8], Option<&str>) -> Vec<u8>,
    ) {
        let (now_ms, number) = (self.now_ms(), self.number(name));
        let attributes = self.queues[&name].attributes;
        let fifo = attributes.fifo.expect("a FIFO queue");
        let place = (connection, number, message.group);
        let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let id = text("id", message.deduplication).or(fifo.content_based.then_some(digest));
        let error = match message {
            Message { group: NONE_GIVEN, .. } => Some(ErrorCode::MissingRequiredParameter),
            Message { group: BAD, .. } => Some(ErrorCode::InvalidParameterValue),
            Message { bytes: 0, .. } => Some(ErrorCode::MissingRequiredParameter),
            Message { bytes, .. } if *bytes > attributes.message_bytes_max() as usize => {
                Some(ErrorCode::InvalidParameterValue)
            }
            Message { delay_seconds: Some(1..), .. } => Some(ErrorCode::InvalidParameterValue),
            Message { flagged: true, .. } if self.refused.contains(&place) => {
                Some(ErrorCode::InvalidParameterValue)
            }
            Message { deduplication: BAD, .. } => Some(ErrorCode::InvalidParameterValue),
            _ if id.is_none() => Some(ErrorCode::InvalidParameterValue),
            _ => None,
        };
        if let Some(error) = error {
            assert_eq!(outcome.as_ref().expect_err("it is to be refused").code, error);
            if message.group < BAD {
                self.refused.insert(place);
            }
            return;
        }
        let id = id.expect("others were refused");
        let is_grouped = fifo.scope == crate::catalog::DeduplicationScope::MessageGroup;
        let scope = is_grouped.then_some(message.group);
        let is_living = |one: &&Remembered| one.at_ms + WINDOW_MS > now_ms;
        let same = |one: &&Remembered| (one.queue, one.scope, &one.id) == (number, scope, &id);
        let first = self.remembered.iter().rev().find(same).filter(is_living).filter(|one| !one.is_void);
        if let Some(first) = first {
            assert_eq!(*outcome, Ok(first.accepted), "a duplicate of {first:?}");
            self.refused.remove(&place);
            return;
        }
        if self.remembered.iter().filter(is_living).count() as u64 >= DEDUPLICATION_MAX {
            assert_eq!(outcome.as_ref().expect_err("there is no room").code, ErrorCode::RequestThrottled);
            self.refused.insert(place);
            return;
        }
        let accepted = outcome.clone().expect("nothing is wrong with it");
        self.refused.remove(&place);
        assert!(self.ids.insert(accepted.id), "message ids are never used twice");
        let last =
            self.remembered.iter().filter(|one| one.queue == number).map(|one| one.accepted.sequence_number);
        assert!(last.max() < Some(accepted.sequence_number), "sequence numbers rise");
        let content = content(message, body, Some(&id));
        self.remembered.push(Remembered {
            queue: number,
            scope,
            id,
            accepted,
            at_ms: now_ms,
            is_void: false,
        });
        let fifo = Place {
            group: message.group,
            sequence: accepted.sequence_number,
            delay_ms: attributes.delay_ms(),
        };
        self.order += 1;
        let order = self.order;
        let queue = self.queues.get_mut(&name).expect("it is there");
        queue.messages.push(Stored {
            id: accepted.id,
            content,
            order,
            sent_at_ms: now_ms,
            available_at_ms: now_ms,
            receive_count: 0,
            first_received_at_ms: 0,
            delivered_at_ms: 0,
            changed: false,
            damaged: false,
            receives_before: 0,
            source: None,
            group: None,
            processing: false,
            fifo: Some(fifo),
        });
    }

    /// What is remembered is what is counted.
    pub(super) fn check_remembered(&self) {
        let now_ms = self.now_ms();
        let living = self.remembered.iter().filter(|one| one.at_ms + WINDOW_MS > now_ms).count();
        assert_eq!(self.world.engine.deduplication.count(), living as u64);
    }
}
