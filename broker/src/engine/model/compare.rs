//! Commands, and what their replies have to say.

use super::*;

/// What a reply has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Messages(Vec<Expected>),
    Outcomes(Vec<Option<ErrorCode>>),
    Opened,
    Done,
    Refused(ErrorCode),
}

impl<F: Flaws> Test<F> {
    pub(super) fn ask(&mut self, connection: u32, command: Command<'_>) -> Vec<Reply> {
        self.correlation += 1;
        self.world.apply_for(ConnectionId { index: connection, generation: 0 }, command)
    }

    /// Compares replies with what the model says, whatever their order between queues.
    pub(super) fn compare(
        &mut self,
        replies: &[Reply],
        expected: &BTreeMap<u32, Answer>,
        queues: &BTreeMap<u32, u64>,
    ) {
        let mut found = BTreeMap::new();
        let issued_before = self.issued.len();
        for reply in replies {
            let answer = self.read(reply, queues);
            let before = found.insert(reply.ticket.correlation, answer);
            assert!(before.is_none(), "two replies to one request");
        }
        assert_eq!(&found, expected);
        for issued in &mut self.issued[issued_before..] {
            let Some(Answer::Messages(messages)) = expected.get(&issued.correlation) else { continue };
            let message = messages.iter().find(|message| message.id == issued.id);
            issued.arrival = message.expect("the answers are the same").arrival;
        }
    }

    pub(super) fn read(&mut self, reply: &Reply, queues: &BTreeMap<u32, u64>) -> Answer {
        match &reply.body {
            ReplyBody::Received(range) => {
                let deliveries = self.world.out.deliveries[range.start as usize..range.end as usize].to_vec();
                let messages =
                    deliveries.iter().map(|delivery| self.read_delivery(delivery)).collect::<Vec<_>>();
                let end =
                    deliveries.iter().map(|delivery| end_of(delivery.position.0, delivery.length)).max();
                if deliveries.iter().any(|delivery| delivery.sequence_number > 0) {
                    // Its own record lies behind those of its messages.
                    assert!(Some(reply.depends_on) > end && reply.depends_on <= self.world.log.end());
                } else {
                    // What has moved depends on its move, too.
                    let has_moved = deliveries.iter().any(|delivery| delivery.source != 0);
                    let end = end.unwrap_or_default();
                    assert!(reply.depends_on == end || (has_moved && reply.depends_on > end));
                }
                let until = deliveries.iter().map(|delivery| delivery.until_ms).min();
                let stale = until.filter(|&until| until > self.now_ms()).unwrap_or(u64::MAX);
                assert_eq!(reply.stale_after_ms, stale);
                let queue = queues.get(&reply.ticket.correlation).copied().unwrap_or_default();
                for (delivery, message) in deliveries.iter().zip(&messages) {
                    self.issued.push(Issued {
                        delivery: *delivery,
                        queue,
                        id: message.id,
                        correlation: reply.ticket.correlation,
                        arrival: Arrival(0),
                    });
                }
                Answer::Messages(messages)
            }
            ReplyBody::Deleted(range) | ReplyBody::Hidden(range) => {
                let outcomes = &self.world.out.outcomes[range.start as usize..range.end as usize];
                Answer::Outcomes(
                    outcomes
                        .iter()
                        .map(|outcome| outcome.as_ref().err().map(|refusal| refusal.code))
                        .collect(),
                )
            }
            ReplyBody::QueueOpened { .. } => Answer::Opened,
            ReplyBody::Done => Answer::Done,
            ReplyBody::Refused(refusal) => Answer::Refused(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn read_delivery(&self, delivery: &Delivery) -> Expected {
        let bytes = self.world.log.bytes(delivery.position, delivery.length).expect("all is in memory");
        let raw = crate::journal::RawRecord::parse(bytes).expect("the engine wrote it");
        let stored = records::StoredMessage::parse(&raw).expect("a message");
        // On a FIFO queue a move begins a message's time anew.
        assert!(stored.sent_at_ms == delivery.sent_at_ms || delivery.source != 0);
        Expected {
            id: stored.id,
            content: stored.content.to_vec(),
            sent_at_ms: delivery.sent_at_ms,
            first_received_at_ms: delivery.first_received_at_ms,
            receive_count: delivery.receive_count,
            // The model does not know what a move gives.
            sequence_number: if delivery.source == 0 { delivery.sequence_number } else { 0 },
            source: self.world.engine.origin_name(delivery.source).map(|name| name.arn()),
            arrival: Arrival(0),
        }
    }

    /// Which queue each request that may be answered now was for.
    pub(super) fn waiting_queues(&self) -> BTreeMap<u32, u64> {
        let waits = self
            .queues
            .values()
            .flat_map(|queue| queue.waits.iter().map(|wait| (wait.correlation, queue.number)));
        let unfinished = self.unfinished.iter().map(|(name, wait)| (wait.correlation, self.number(*name)));
        waits.chain(unfinished).collect()
    }

    /// Applies a command whose own answer is known, with what follows for those who wait.
    pub(super) fn apply(
        &mut self,
        connection: u32,
        command: Command<'_>,
        name: usize,
        answer: Option<Answer>,
    ) {
        let mut queues = self.waiting_queues();
        let replies = self.ask(connection, command);
        queues.insert(self.correlation, self.number(name));
        let mut expected: BTreeMap<u32, Answer> =
            answer.map(|answer| (self.correlation, answer)).into_iter().collect();
        self.serve(&mut expected);
        self.compare(&replies, &expected, &queues);
        self.go_on();
    }
}
