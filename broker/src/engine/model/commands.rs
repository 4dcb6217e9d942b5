//! Commands that send, receive and name messages.

use super::*;

impl<F: Flaws> Test<F> {
    pub(super) fn send(&mut self, name: usize, messages: &[Message]) {
        let bodies: Vec<Vec<u8>> = messages
            .iter()
            .map(|message| {
                self.order += 1;
                let mut body = format!("{:08}", self.order).into_bytes();
                body.resize(message.bytes, b'.');
                body
            })
            .collect();
        let attributes = [UserAttribute { name: "colour", data_type: "String", value: b"red" }];
        let contents: Vec<Vec<u8>> = messages
            .iter()
            .zip(&bodies)
            .map(|(message, body)| {
                let mut content = Vec::new();
                let attributes = if message.attribute { &attributes[..] } else { &[] };
                let group = message.group.map(fair::name_of);
                let fields = tenpin_protocol::ContentFields {
                    attributes: Entries::of(attributes),
                    group: group.as_deref(),
                    ..Default::default()
                };
                write_content(&mut content, body, &fields);
                content
            })
            .collect();
        let entries: Vec<_> = messages
            .iter()
            .zip(&contents)
            .map(|(message, content)| {
                let mut entry =
                    SendEntry::with_content(content, message.bytes).expect("written by the protocol");
                entry.delay_seconds = message.delay_seconds;
                entry
            })
            .collect();
        let (number, now_ms) = (self.number(name), self.now_ms());
        let waiting = self.waiting_queues();
        let replies = self.ask(0, Command::Send { queue: number, entries: Entries::of(&entries) });
        let correlation = self.correlation;
        let (own, others): (Vec<_>, Vec<_>) =
            replies.into_iter().partition(|reply| reply.ticket.correlation == correlation);
        let Some(queue) = self.queues.get_mut(&name) else {
            assert!(
                matches!(&own[0].body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::QueueDoesNotExist)
            );
            return;
        };
        let ReplyBody::Sent(range) = own[0].body.clone() else { panic!("{own:?}") };
        let outcomes = self.world.out.sent[range.start as usize..range.end as usize].to_vec();
        assert_eq!(outcomes.len(), messages.len());
        assert!(own[0].depends_on <= self.world.log.end());
        queue.now_ms = now_ms;
        for (place, (message, outcome)) in messages.iter().zip(outcomes).enumerate() {
            let attribute_bytes = if message.attribute { 6 + 6 + 3 } else { 0 };
            let error = match message {
                Message { bytes: 0, .. } => Some(ErrorCode::MissingRequiredParameter),
                Message { delay_seconds: Some(901..), .. } => Some(ErrorCode::InvalidParameterValue),
                Message { bytes, .. }
                    if bytes + attribute_bytes > queue.attributes.message_bytes_max() as usize =>
                {
                    Some(ErrorCode::InvalidParameterValue)
                }
                _ => None,
            };
            assert_eq!(outcome.as_ref().err().map(|refusal| refusal.code), error);
            let Ok(Accepted { id, .. }) = outcome else { continue };
            assert!(self.ids.insert(id), "message ids are never used twice");
            let delay_ms = message
                .delay_seconds
                .map_or(queue.attributes.delay_ms(), |seconds| u64::from(seconds) * 1_000);
            queue.messages.push(Stored {
                id,
                content: contents[place].clone(),
                order: {
                    self.order += 1;
                    self.order
                },
                sent_at_ms: now_ms,
                available_at_ms: now_ms + delay_ms,
                changed: false,
                receive_count: 0,
                first_received_at_ms: 0,
                delivered_at_ms: 0,
                damaged: false,
                receives_before: 0,
                source: None,
                group: message.group,
                processing: false,
                fifo: None,
            });
        }
        let mut expected = BTreeMap::new();
        self.serve(&mut expected);
        self.compare(&others, &expected, &waiting);
    }

    pub(super) fn receive(&mut self, name: usize, asked: Ask) {
        let Ask { connection, count_max, wait_ms, seconds, bytes_max, attempt } = asked;
        let attempt_id = attempt.map(|attempt| format!("attempt-{attempt}"));
        let (number, now_ms, correlation) = (self.number(name), self.now_ms(), self.correlation + 1);
        // Half of the receives without a wait of their own have the queue's.
        let own_wait = (wait_ms > 0 || connection == 0).then_some(wait_ms);
        let answer = match self.queues.get_mut(&name) {
            None => Some(Answer::Refused(ErrorCode::QueueDoesNotExist)),
            Some(_) if seconds.is_some_and(|seconds| seconds > 43_200) => {
                Some(Answer::Refused(ErrorCode::InvalidParameterValue))
            }
            Some(queue) if attempt.is_some() && !queue.attributes.is_fifo() => {
                Some(Answer::Refused(ErrorCode::InvalidParameterValue))
            }
            Some(queue) => {
                let visibility_ms = seconds
                    .map_or(queue.attributes.visibility_timeout_ms(), |seconds| u64::from(seconds) * 1_000);
                let wait_ms = own_wait.map_or(queue.attributes.receive_wait_ms(), u64::from);
                let wait = Wait {
                    correlation,
                    connection,
                    deadline_ms: now_ms + wait_ms,
                    count_max,
                    visibility_ms,
                    bytes_max,
                    attempt,
                };
                self.settle(name, wait)
            }
        };
        let command = Command::Receive {
            queue: number,
            count_max,
            wait_ms: own_wait,
            visibility_seconds: seconds,
            reply_bytes_max: bytes_max,
            attempt_id: attempt_id.as_deref(),
        };
        self.apply(connection, command, name, answer);
    }

    /// A handle that was issued, or garbage, and what it names.
    pub(super) fn pick(&self, place: usize) -> Option<&Issued> {
        if place.is_multiple_of(11) || self.issued.is_empty() {
            return None;
        }
        // Mostly recent ones.
        let recent = self.issued.len().min(12);
        let from = if place.is_multiple_of(3) { 0 } else { self.issued.len() - recent };
        Some(&self.issued[from + place % (self.issued.len() - from)])
    }

    pub(super) fn delete(&mut self, name: usize, handles: &[usize]) {
        let (number, now_ms) = (self.number(name), self.now_ms());
        let picked: Vec<Option<Issued>> = handles.iter().map(|&place| self.pick(place).cloned()).collect();
        let garbage = [9_u8; 32];
        let handles: Vec<&[u8]> = picked
            .iter()
            .map(|issued| issued.as_ref().map_or(&garbage[..], |issued| &issued.delivery.handle[..]))
            .collect();
        let answer = match self.queues.get_mut(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(queue) => Answer::Outcomes(
                picked
                    .iter()
                    .map(|issued| match issued {
                        Some(issued) if issued.queue == number && queue.has_expired(issued, now_ms) => {
                            Some(ErrorCode::InvalidParameterValue)
                        }
                        Some(issued) if issued.queue == number => {
                            queue.note_deleted(issued);
                            queue.messages.retain(|message| !issued.is_of(message));
                            queue.measure();
                            None
                        }
                        _ => Some(ErrorCode::ReceiptHandleIsInvalid),
                    })
                    .collect(),
            ),
        };
        self.apply(0, Command::Delete { queue: number, handles: Entries::of(&handles) }, name, Some(answer));
    }

    pub(super) fn hide(&mut self, name: usize, entries: &[(usize, u32)]) {
        let (number, now_ms) = (self.number(name), self.now_ms());
        let picked: Vec<(Option<Issued>, u32)> =
            entries.iter().map(|&(place, seconds)| (self.pick(place).cloned(), seconds)).collect();
        let garbage = [9_u8; 31];
        let entries: Vec<_> = picked
            .iter()
            .map(|(issued, visibility_seconds)| ChangeVisibilityEntry {
                visibility_seconds: *visibility_seconds,
                handle: issued.as_ref().map_or(&garbage[..], |issued| &issued.delivery.handle[..]),
            })
            .collect();
        let answer = match self.queues.get_mut(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(queue) => {
                let outcomes = picked.iter().map(|(issued, seconds)| match issued {
                    Some(issued) if issued.queue == number => queue.hide(issued, *seconds, now_ms),
                    _ => Some(ErrorCode::ReceiptHandleIsInvalid),
                });
                Answer::Outcomes(outcomes.collect())
            }
        };
        let command = Command::ChangeVisibility { queue: number, entries: Entries::of(&entries) };
        self.apply(0, command, name, Some(answer));
    }

    pub(super) fn undelivered(&mut self, deliveries: &[usize]) {
        self.let_one_queue_wait();
        let picked: Vec<Issued> = deliveries.iter().filter_map(|&place| self.pick(place).cloned()).collect();
        let now_ms = self.now_ms();
        for issued in &picked {
            for queue in self.queues.values_mut().filter(|queue| queue.number == issued.queue) {
                let found = queue.messages.iter_mut().find(|message| issued.is_of(message));
                if let Some(message) = found
                    && message.receive_count == issued.delivery.receive_count
                    && (message.available_at_ms <= now_ms || !message.changed)
                    && !message.damaged
                {
                    let is_hidden = message.available_at_ms > now_ms;
                    if is_hidden {
                        queue.attempts.retain(|attempt| !attempt.has_given(message));
                    }
                    message.receive_count -= 1;
                    message.processing = false;
                    if message.receive_count == 0 && (is_hidden || message.fifo.is_some()) {
                        message.available_at_ms = message.sent_at_ms;
                    } else if is_hidden {
                        message.available_at_ms = now_ms;
                    }
                }
            }
        }
        let messages: Vec<_> = picked.iter().map(|issued| issued.delivery.message()).collect();
        self.apply(0, Command::Undelivered { messages: &messages }, 0, None);
    }

    pub(super) fn damaged(&mut self, delivery: usize) {
        let Some(issued) = self.pick(delivery).cloned() else { return };
        for queue in self.queues.values_mut().filter(|queue| queue.number == issued.queue) {
            for message in queue.messages.iter_mut().filter(|message| issued.is_of(message)) {
                message.damaged = true;
            }
        }
        let Delivery { slot, sequence, .. } = issued.delivery;
        self.apply(0, Command::Damaged { slot, sequence }, 0, None);
    }

    pub(super) fn peek(&mut self, name: usize, count_max: u32) {
        let (number, now_ms) = (self.number(name), self.now_ms());
        let Some(queue) = self.queues.get(&name) else { return };
        let mut visible: Vec<_> =
            queue.messages.iter().filter(|message| message.state(now_ms) == MessageState::Visible).collect();
        let is_fifo = queue.attributes.is_fifo();
        visible.sort_by_key(|message| {
            (message.group.is_some(), if is_fifo { 0 } else { message.available_at_ms }, message.order)
        });
        let visible: Vec<_> = visible.into_iter().map(|message| message.id).collect();
        let mut others: Vec<_> = queue
            .messages
            .iter()
            .filter(|message| message.state(now_ms) != MessageState::Visible)
            .map(|message| (message.id, message.state(now_ms)))
            .collect();
        others.sort();
        let (mut shown, mut next) = (Vec::new(), None::<Box<[u8]>>);
        loop {
            let command = Command::Peek {
                queue: number,
                count_max,
                state: 0,
                next: next.as_deref(),
                reply_bytes_max: u32::MAX,
            };
            let replies = self.ask(0, command);
            let ReplyBody::Peeked(range, more) = replies[0].body.clone() else { panic!("{replies:?}") };
            assert!(range.len() <= count_max as usize);
            let deliveries = self.world.out.deliveries[range.start as usize..range.end as usize].to_vec();
            shown.extend(deliveries.iter().map(|delivery| (self.read_delivery(delivery).id, delivery.state)));
            next = more;
            if next.is_none() {
                break;
            }
        }
        let ids: Vec<_> = shown.iter().take(visible.len()).map(|&(id, _)| id).collect();
        assert_eq!(ids, visible);
        let mut rest = shown[visible.len()..].to_vec();
        rest.sort();
        assert_eq!(rest, others);
    }

    pub(super) fn answer_waits(&mut self, connection: Option<u32>) {
        let mut expected = BTreeMap::new();
        for queue in self.queues.values_mut() {
            queue.waits.retain(|wait| {
                let ends = connection.is_none_or(|connection| connection == wait.connection);
                if ends {
                    expected.insert(wait.correlation, Answer::Messages(Vec::new()));
                }
                !ends
            });
        }
        let connection = connection.map(|index| ConnectionId { index, generation: 0 });
        let replies = self.ask(0, Command::AnswerWaits { connection });
        self.compare(&replies, &expected, &BTreeMap::new());
    }

    /// Lets a command come before the timers that are due: what it names is judged by its deadline (rule 10).
    pub(super) fn come_late(&mut self, command: impl FnOnce(&mut Self)) {
        let by_ms = std::mem::take(&mut self.late_ms);
        // Who waits is to be given what the timers bring, in its order.
        if self.waiting_queues().is_empty() {
            self.world.now_ms += by_ms;
            let now_ms = self.now_ms();
            for queue in self.queues.values_mut() {
                queue.now_ms = now_ms;
                queue.expire(now_ms);
            }
        }
        command(self);
        self.advance(0, ALL);
    }
}
