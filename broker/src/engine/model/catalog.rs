//! Queues that are made, set, purged and deleted.

use super::*;

impl<F: Flaws> Test<F> {
    pub(super) fn create(&mut self, name: usize, delay_seconds: Option<u32>) {
        let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
        let given: Vec<_> = delay_seconds
            .map(|delay| Attribute::new(AttributeCode::DelaySeconds, AttributeValue::Number(delay.into())))
            .into_iter()
            .chain((name >= FIFO_FROM).then_some(fifo))
            .collect();
        let recent = self.deleted_at_ms.get(&name).is_some_and(|&at_ms| self.now_ms() < at_ms + 60_000);
        let answer = match self.queues.get(&name) {
            Some(queue)
                if delay_seconds
                    .is_some_and(|delay| u64::from(delay) * 1_000 != queue.attributes.delay_ms()) =>
            {
                Answer::Refused(ErrorCode::QueueNameExists)
            }
            Some(_) => Answer::Opened,
            None if recent && self.minute_rules => Answer::Refused(ErrorCode::QueueDeletedRecently),
            None => Answer::Opened,
        };
        let command = Command::CreateQueue {
            name: RawName { account: "", region: "", name: NAMES[name] },
            attributes: Entries::of(&given),
            tags: Entries::default(),
        };
        let replies = self.ask(0, command);
        self.compare(&replies, &BTreeMap::from([(self.correlation, answer)]), &BTreeMap::new());
        if let ReplyBody::QueueOpened { number, .. } = replies[0].body {
            let attributes = catalog_attributes(name, &given);
            let now_ms = self.now_ms();
            let (numbers, queues) = (&mut self.numbers, &mut self.queues);
            let queue = queues.entry(name).or_insert_with(|| {
                assert!(numbers.insert(number), "numbers are never used twice");
                Queue {
                    number,
                    attributes,
                    messages: Vec::new(),
                    waits: Vec::new(),
                    purged_at_ms: None,
                    redrive: None,
                    allow: Allow::All,
                    attempts: Vec::new(),
                    measured: fair::Measured::default(),
                    now_ms,
                }
            });
            assert_eq!(queue.number, number);
        }
    }

    pub(super) fn delete_queue(&mut self, name: usize) {
        let number = self.number(name);
        let mut expected = BTreeMap::new();
        let queues = self.waiting_queues();
        let answer = match self.queues.remove(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(queue) => {
                let refused = Answer::Refused(ErrorCode::QueueDoesNotExist);
                expected.extend(queue.waits.iter().map(|wait| (wait.correlation, refused.clone())));
                self.deleted_at_ms.insert(name, self.now_ms());
                Answer::Done
            }
        };
        let replies = self.ask(0, Command::DeleteQueue { queue: number });
        expected.insert(self.correlation, answer);
        self.compare(&replies, &expected, &queues);
    }

    pub(super) fn purge(&mut self, name: usize) {
        let (number, now_ms, minute_rules) = (self.number(name), self.now_ms(), self.minute_rules);
        let answer = match self.queues.get_mut(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(queue)
                if minute_rules && queue.purged_at_ms.is_some_and(|at_ms| now_ms < at_ms + 60_000) =>
            {
                Answer::Refused(ErrorCode::PurgeQueueInProgress)
            }
            Some(queue) => {
                queue.messages.clear();
                queue.measured = fair::Measured::default();
                queue.purged_at_ms = Some(now_ms);
                let remembered = self.remembered.iter_mut();
                remembered.filter(|one| one.queue == number).for_each(|one| one.is_void = true);
                Answer::Done
            }
        };
        self.apply(0, Command::Purge { queue: number }, name, Some(answer));
    }

    /// The policies that say where dead letters go: refused where the target is not there or denies it.
    pub(super) fn redrive(&mut self, name: usize, target: Option<usize>, count: u32) {
        let text = target.map_or(String::new(), |target| {
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":{count}}}"#, arn(target))
        });
        let is_fifo = |name| name >= FIFO_FROM;
        let allowed = target.is_none_or(|target| {
            let allows = self.queues.get(&target).is_some_and(|queue| queue.allows(name));
            allows && target != name && is_fifo(target) == is_fifo(name)
        });
        self.set_text(name, AttributeCode::RedrivePolicy, &text, allowed);
        if allowed && let Some(queue) = self.queues.get_mut(&name) {
            queue.redrive = target.map(|target| (target, count));
        }
    }

    pub(super) fn allow(&mut self, name: usize, allow: Allow) {
        let text = match allow {
            Allow::All => r#"{"redrivePermission":"allowAll"}"#.to_owned(),
            Allow::None => r#"{"redrivePermission":"denyAll"}"#.to_owned(),
            Allow::Only(source) => {
                format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{}"]}}"#, arn(source))
            }
        };
        self.set_text(name, AttributeCode::RedriveAllowPolicy, &text, true);
        if let Some(queue) = self.queues.get_mut(&name) {
            queue.allow = allow;
        }
    }

    pub(super) fn set_text(&mut self, name: usize, code: AttributeCode, text: &str, is_taken: bool) {
        let number = self.number(name);
        let given = [Attribute::new(code, AttributeValue::Text(text))];
        let answer = match self.queues.get(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(_) if !is_taken => Answer::Refused(ErrorCode::InvalidParameterValue),
            Some(_) => Answer::Done,
        };
        let command = Command::SetAttributes { queue: number, attributes: Entries::of(&given) };
        let replies = self.ask(0, command);
        self.compare(&replies, &BTreeMap::from([(self.correlation, answer)]), &BTreeMap::new());
    }

    pub(super) fn set(&mut self, name: usize, code: AttributeCode, value: u64) {
        if code == AttributeCode::MessageRetentionPeriod {
            // What expires in flight makes room for those who wait only slice by slice.
            self.answer_waits(None);
        }
        let number = self.number(name);
        let given = [fifo::attribute(code, value)];
        let (minimum, maximum) = match code {
            AttributeCode::MessageRetentionPeriod => (60, 1_209_600),
            AttributeCode::ReceiveMessageWaitTimeSeconds => (0, 20),
            _ => (0, u64::MAX),
        };
        let answer = match self.queues.get_mut(&name) {
            None => Answer::Refused(ErrorCode::QueueDoesNotExist),
            Some(_) if value < minimum || value > maximum => {
                Answer::Refused(ErrorCode::InvalidAttributeValue)
            }
            Some(queue) => {
                let change = crate::catalog::AttributeChange::parse(Entries::of(&given)).expect("in range");
                let details = crate::catalog::Details::default();
                queue.attributes = change.set(queue.attributes, &details).expect("a good change").0;
                for place in queue.messages.iter_mut().filter_map(|message| message.fifo.as_mut()) {
                    place.delay_ms = queue.attributes.delay_ms();
                }
                Answer::Done
            }
        };
        let command = Command::SetAttributes { queue: number, attributes: Entries::of(&given) };
        let replies = self.ask(0, command);
        self.compare(&replies, &BTreeMap::from([(self.correlation, answer)]), &BTreeMap::new());
        // What a shorter period makes expire goes in slices, and only then others get its room.
        self.advance(0, ALL);
    }
}

fn catalog_attributes(name: usize, given: &[Attribute<'_>]) -> Attributes {
    let change = crate::catalog::AttributeChange::parse(Entries::of(given)).expect("in range");
    let name = crate::catalog::QueueName::parse("", "", NAMES[name], &NameDefaults::default());
    change.create(&name.expect("a good name")).expect("a good queue's").0
}
