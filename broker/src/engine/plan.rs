//! Judging what shall change in the catalog: from the catalog as it is and a request to a refusal, an
//! answer, or a whole [`Change`]. Nothing changes here but the count of incarnations.

use tenpin_protocol::{Attribute, Entries, ErrorCode, Tag, Text};

use super::Engine;
use super::change::{Change, Planned};
use super::command::{Command, RawName};
use super::manage::MINUTE_MS;
use super::outputs::{Refusal, ReplyBody};
use super::queue::QUEUES_MAX;
use super::queue_number::INCARNATION_MAX;
use super::queue_state::{Definition, QUEUE_STATE_BYTES, QueueState};
use crate::catalog::{
    AttributeChange, AttributeError, Details, NameError, Permission, Policy, QueueName, Redrive, remove_tags,
    set_tags,
};
use crate::flaws::Flaws;
use crate::journal::{Log, PREFIX_BYTES, Room};

pub(super) type Answer = Result<ReplyBody, Refusal>;
type Plan = Result<Planned, Refusal>;

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Self {
        Self { code: error.code, text: error.text }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

impl<F: Flaws> Engine<F> {
    /// What a command that is to change the catalog comes to. Another shard may be told the change
    /// once this one has it durable; where this shard applies it at once, nothing lies between.
    ///
    /// # Panics
    /// Where the command is not one that changes the catalog.
    pub fn plan(&mut self, now_ms: u64, command: Command<'_>, log: &Log<F>) -> Result<Planned, Refusal> {
        self.now_ms = self.now_ms.max(now_ms);
        match command {
            Command::CreateQueue { name, attributes, tags } => self.plan_create(name, attributes, tags, log),
            Command::DeleteQueue { queue } => {
                self.find_queue(queue)?;
                Ok(Planned::Change(Change::Delete { queue, time_ms: self.now_ms }, ReplyBody::Done))
            }
            Command::SetAttributes { queue, attributes } => self.plan_set(queue, attributes, log),
            Command::TagQueue { queue, tags } => self.plan_tag(queue, tags, log),
            Command::UntagQueue { queue, keys } => self.plan_untag(queue, keys, log),
            Command::AddPermission { queue, permission } => self.plan_permission(queue, permission, log),
            Command::RemovePermission { queue, label } => self.plan_no_permission(queue, label, log),
            Command::Purge { queue } => self.plan_purge(queue),
            Command::StartMoveTask { source, destination, messages_per_second_max } => {
                self.plan_start_task(source, destination, messages_per_second_max, log)
            }
            Command::CancelMoveTask { task } => self.plan_cancel_task(task),
            other => unreachable!("{other:?} changes no catalog"),
        }
    }

    fn plan_create(
        &mut self,
        name: RawName<'_>,
        attributes: Entries<'_, Attribute<'_>>,
        tags: Entries<'_, Tag<'_>>,
        log: &Log<F>,
    ) -> Plan {
        let name = self.parse_name(name)?;
        let change = AttributeChange::parse(attributes)?;
        let (attributes, mut details) = change.create(&name)?;
        details.tags = set_tags(&details.tags, tags)?;
        if let Some(index) = self.queues.named(&name) {
            let queue = &self.queues[index];
            if let Some(attribute) = change.differs_from(&queue.attributes, &queue.details) {
                let text = format!(
                    "A queue already exists with the same name and a different value for attribute {}",
                    attribute.name()
                );
                return Err(Refusal::new(ErrorCode::QueueNameExists, text));
            }
            return Ok(Planned::Answer(self.opened(index)));
        }
        if let Some(redrive) = &details.redrive {
            self.check_redrive(&name, redrive)?;
        }
        let tombstone = self.tombstones.by_name.get(&name);
        if tombstone.is_some_and(|tombstone| self.now_ms < tombstone.deleted_at_ms + MINUTE_MS) {
            return Err(ErrorCode::QueueDeletedRecently.into());
        }
        // The place counts, not how many have names: messages of deleted ones may hold theirs for a while.
        if self.queues.next_index() >= QUEUES_MAX {
            return Err(Refusal::new(ErrorCode::OverLimit, "There are as many queues as there may be."));
        }
        let incarnation = self.identity.incarnation_next();
        if incarnation > INCARNATION_MAX {
            let text = "There have been as many queues as there may ever be in one data folder.";
            return Err(Refusal::new(ErrorCode::OverLimit, text));
        }
        let definition = Definition {
            index: self.queues.next_index(),
            incarnation,
            owner_shard: self.identity.shard_of_incarnation(self.options.shards),
            name,
            attributes,
            details: details.into(),
            created_at_ms: self.now_ms,
            modified_at_ms: self.now_ms,
        };
        let reply = ReplyBody::QueueOpened {
            number: definition.number(),
            incarnation,
            fifo_shard: definition.attributes.is_fifo().then_some(definition.owner_shard),
        };
        check_room(None, &definition, log)?;
        Ok(Planned::Change(Change::Define(Box::new(definition)), reply))
    }

    fn plan_set(&self, number: u64, attributes: Entries<'_, Attribute<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let change = AttributeChange::parse(attributes)?;
        let queue = &self.queues[index];
        let (attributes, details) = change.set(queue.attributes, &queue.details)?;
        if let Some(redrive) = details.redrive.as_ref().filter(|_| change.has_redrive()) {
            self.check_redrive(&queue.name, redrive)?;
        }
        let before = queue.definition(index);
        let after =
            Definition { attributes, details: details.into(), modified_at_ms: self.now_ms, ..before.clone() };
        define(before, after, log)
    }

    fn plan_tag(&self, number: u64, tags: Entries<'_, Tag<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let tags = set_tags(&before.details.tags, tags)?;
        let after = with_details(&before, |details| details.tags = tags);
        define(before, after, log)
    }

    fn plan_untag(&self, number: u64, keys: Entries<'_, Text<'_>>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let tags = remove_tags(&before.details.tags, keys);
        let after = with_details(&before, |details| details.tags = tags);
        define(before, after, log)
    }

    fn plan_permission(&self, number: u64, permission: Permission<'_>, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let policy = Policy::with_permission(before.details.policy.as_ref(), &before.name, &permission)?;
        let mut after = with_details(&before, |details| details.policy = Some(policy));
        after.modified_at_ms = self.now_ms;
        define(before, after, log)
    }

    fn plan_no_permission(&self, number: u64, label: &str, log: &Log<F>) -> Plan {
        let index = self.find_queue(number)?;
        let before = self.queues[index].definition(index);
        let policy = Policy::without_permission(before.details.policy.as_ref(), label)?;
        let mut after = with_details(&before, |details| details.policy = policy);
        after.modified_at_ms = self.now_ms;
        define(before, after, log)
    }

    fn plan_purge(&self, number: u64) -> Plan {
        let queue = &self.queues[self.find_queue(number)?];
        let is_soon = queue.purged_at_ms > 0 && self.now_ms < queue.purge_ended_ms + MINUTE_MS;
        if self.options.minute_rules && is_soon {
            let text = format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                queue.name.name()
            );
            return Err(Refusal::new(ErrorCode::PurgeQueueInProgress, text));
        }
        Ok(Planned::Change(Change::Purge { queue: number, time_ms: self.now_ms }, ReplyBody::Done))
    }

    /// A dead-letter queue must be there, be another one of the same kind, account and region, and
    /// allow this.
    fn check_redrive(&self, source: &QueueName, redrive: &Redrive) -> Result<(), Refusal> {
        let target = &redrive.target;
        let refuse = |reason: &str| Err(redrive.refuse(reason).into());
        if target.account() != source.account() {
            return refuse("Dead-letter target owner should be same as the source.");
        }
        if target.region() != source.region() {
            return refuse("Dead-letter target should be in the same region as the source.");
        }
        if target.is_fifo() != source.is_fifo() {
            return refuse("Dead-letter queue must be same type of queue as the source.");
        }
        if target == source {
            return refuse("A queue cannot be its own dead-letter queue.");
        }
        let Some(index) = self.queues.named(target) else {
            return refuse("Dead letter target does not exist.");
        };
        match &self.queues[index].details.redrive_allow {
            Some(policy) if !policy.allows(source) => {
                refuse("The redrive allow policy of the dead-letter queue does not allow the source queue.")
            }
            _ => Ok(()),
        }
    }
}

fn with_details(before: &Definition, change: impl FnOnce(&mut Details)) -> Definition {
    let mut details = (*before.details).clone();
    change(&mut details);
    Definition { details: details.into(), ..before.clone() }
}

/// A change from one definition of a queue to another.
fn define<F: Flaws>(before: Definition, after: Definition, log: &Log<F>) -> Plan {
    if before == after {
        return Ok(Planned::Answer(ReplyBody::Done));
    }
    check_room(Some(before), &after, log)?;
    Ok(Planned::Change(Change::Define(Box::new(after)), ReplyBody::Done))
}

/// A queue's record must fit into the log at all, and where room is short none may grow (rule 16).
fn check_room<F: Flaws>(before: Option<Definition>, after: &Definition, log: &Log<F>) -> Result<(), Refusal> {
    let bytes = |definition: Definition| {
        PREFIX_BYTES + QUEUE_STATE_BYTES + QueueState::of(definition).variable_bytes()
    };
    let after_bytes = bytes(after.clone());
    if after_bytes > log.record_bytes_max() {
        let text = "The queue's policies and tags are longer than a record of the log may be.";
        return Err(Refusal::new(ErrorCode::InvalidParameterValue, text));
    }
    if log.room() != Room::All && after_bytes > before.map_or(0, bytes) {
        return Err(ErrorCode::StorageFull.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tenpin_protocol::{AttributeCode, AttributeValue};

    use super::super::tests::{START_MS, World};
    use super::super::{EngineOptions, QueuePage};
    use super::*;
    use crate::flaws::Sound;

    fn world() -> World<Sound> {
        World::new(EngineOptions::new(0, [1, 2]))
    }

    fn text(code: AttributeCode, text: &str) -> Attribute<'_> {
        Attribute::new(code, AttributeValue::Text(text))
    }

    fn redrive(arn: &str) -> String {
        format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":2}}"#)
    }

    fn create(world: &mut World<Sound>, name: &str, attributes: &[Attribute<'_>]) -> ReplyBody {
        let name = RawName { account: "", region: "", name };
        let attributes = Entries::of(attributes);
        world.ask(Command::CreateQueue { name, attributes, tags: Entries::default() }).body
    }

    fn refusal(body: ReplyBody) -> Refusal {
        match body {
            ReplyBody::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dead_letter_queue_must_be_there_and_fit_and_allow() {
        let mut world = world();
        let only_one =
            r#"{"redrivePermission":"byQueue","sourceQueueArns":["arn:aws:sqs:us-east-1:000000000000:one"]}"#;
        world.create_with("dead", &[text(AttributeCode::RedriveAllowPolicy, only_one)]);
        let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
        world.create_with("dead.fifo", &[fifo]);
        let one = world.create("one");
        for (arn, source, reason) in [
            ("arn:aws:sqs:us-east-1:000000000000:none", "one", "Dead letter target does not exist."),
            (
                "arn:aws:sqs:us-east-1:000000000000:dead.fifo",
                "one",
                "Dead-letter queue must be same type of queue as the source.",
            ),
            (
                "arn:aws:sqs:us-east-1:111111111111:dead",
                "one",
                "Dead-letter target owner should be same as the source.",
            ),
            (
                "arn:aws:sqs:eu-west-1:000000000000:dead",
                "one",
                "Dead-letter target should be in the same region as the source.",
            ),
            ("arn:aws:sqs:us-east-1:000000000000:one", "one", "A queue cannot be its own dead-letter queue."),
            (
                "arn:aws:sqs:us-east-1:000000000000:dead",
                "two",
                "The redrive allow policy of the dead-letter queue does not allow the source queue.",
            ),
        ] {
            let policy = redrive(arn);
            let given = [text(AttributeCode::RedrivePolicy, &policy)];
            let expected = format!("Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}");
            let body = if source == "one" {
                world.ask(Command::SetAttributes { queue: one, attributes: Entries::of(&given) }).body
            } else {
                create(&mut world, source, &given)
            };
            let refusal = refusal(body);
            assert_eq!((refusal.code, &*refusal.text), (ErrorCode::InvalidParameterValue, expected.as_str()));
        }
        let policy = redrive("arn:aws:sqs:us-east-1:000000000000:dead");
        let given = [text(AttributeCode::RedrivePolicy, &policy)];
        let body = world.ask(Command::SetAttributes { queue: one, attributes: Entries::of(&given) }).body;
        assert_eq!(body, ReplyBody::Done);
    }

    #[test]
    fn the_attribute_that_differs_is_named() {
        let mut world = world();
        world.create("q");
        let delay = Attribute::new(AttributeCode::DelaySeconds, AttributeValue::Number(7));
        let refusal = refusal(create(&mut world, "q", &[delay]));
        assert_eq!(refusal.code, ErrorCode::QueueNameExists);
        assert_eq!(
            refusal.text,
            "A queue already exists with the same name and a different value for attribute DelaySeconds"
        );
        assert!(matches!(create(&mut world, "q", &[]), ReplyBody::QueueOpened { .. }));
        assert!(matches!(create(&mut world, "Q", &[delay]), ReplyBody::QueueOpened { .. }), "case matters");
    }

    #[test]
    fn names_and_purges_have_their_minute_unless_it_is_switched_off() {
        for minute_rules in [true, false] {
            let mut world =
                World::<Sound>::new(EngineOptions { minute_rules, ..EngineOptions::new(0, [1, 2]) });
            let queue = world.create("q");
            let purge = |world: &mut World<Sound>| world.ask(Command::Purge { queue }).body;
            assert_eq!(purge(&mut world), ReplyBody::Done);
            world.now_ms += MINUTE_MS - 1;
            match purge(&mut world) {
                ReplyBody::Done => assert!(!minute_rules),
                body => {
                    let refusal = refusal(body);
                    assert_eq!(refusal.code, ErrorCode::PurgeQueueInProgress);
                    assert_eq!(
                        refusal.text,
                        "Only one PurgeQueue operation on q is allowed every 60 seconds."
                    );
                }
            }
            world.now_ms = START_MS + 2 * MINUTE_MS;
            assert_eq!(purge(&mut world), ReplyBody::Done);
            world.ask(Command::DeleteQueue { queue });
            world.now_ms += MINUTE_MS - 1;
            let body = create(&mut world, "q", &[]);
            assert_eq!(matches!(body, ReplyBody::QueueOpened { .. }), !minute_rules);
            world.now_ms += 1;
            assert!(matches!(create(&mut world, "q", &[]), ReplyBody::QueueOpened { .. }));
        }
    }

    #[test]
    fn lists_come_in_pages_of_one_account_and_region() {
        let mut world = world();
        for name in ["a", "ab", "abc", "b"] {
            world.create(name);
        }
        let name = RawName { account: "111111111111", region: "eu-west-1", name: "abd" };
        world.ask(Command::CreateQueue { name, attributes: Entries::default(), tags: Entries::default() });
        let mut list = |prefix: &str, next: Option<&[u8]>, count_max: u32| -> QueuePage {
            let prefix = RawName { account: "", region: "", name: prefix };
            match world.ask(Command::ListQueues { prefix, next, count_max }).body {
                ReplyBody::Queues(page) => *page,
                other => panic!("{other:?}"),
            }
        };
        let names = |page: &QueuePage| -> Vec<String> {
            page.names.iter().map(|name| name.name().to_owned()).collect()
        };
        let first = list("a", None, 2);
        assert_eq!(names(&first), ["a", "ab"]);
        let second = list("a", first.next.as_deref(), 2);
        assert_eq!((names(&second), second.next), (vec!["abc".to_owned()], None));
        let all = list("", None, 0);
        assert_eq!((names(&all).len(), all.next), (4, None));
        assert!(names(&list("x", None, 10)).is_empty());
        assert_eq!(list("a", None, 3).next, None, "a full last page has none behind it");
        let prefix = RawName { account: "", region: "", name: "" };
        let refused = world.ask(Command::ListQueues { prefix, next: None, count_max: 1_001 }).body;
        assert_eq!(
            refusal(refused).text,
            "Value 1001 for parameter MaxResults is invalid. Reason: Must be between 1 and 1000, if provided."
        );
    }

    #[test]
    fn a_place_that_still_has_messages_elsewhere_is_waited_for() {
        let (mut first, mut second) = (world(), world());
        let plan = |world: &mut World<Sound>, command: Command<'_>| -> Change {
            match world.engine.plan(world.now_ms, command, &world.log).expect("a change") {
                Planned::Change(change, _) => change,
                answer => panic!("{answer:?}"),
            }
        };
        let new = |name| Command::CreateQueue {
            name: RawName { account: "", region: "", name },
            attributes: Entries::default(),
            tags: Entries::default(),
        };
        let made = plan(&mut first, new("one"));
        for world in [&mut first, &mut second] {
            world.apply_change(&made);
        }
        let Change::Define(definition) = &made else { panic!("{made:?}") };
        let queue = definition.number();
        second.send(queue, &["a"]);
        let gone = plan(&mut first, Command::DeleteQueue { queue });
        first.apply_change(&gone);
        let next = plan(&mut first, new("two"));
        first.apply_change(&next);
        second.apply_change(&gone);
        assert!(!second.engine.can_apply(&next), "its slot refers to the place");
        second.drain();
        assert!(second.engine.can_apply(&next));
        // Twice is as good as once.
        for _ in 0..2 {
            second.apply_change(&next);
            second.apply_change(&gone);
        }
        assert_eq!((first.engine.queue_count(), second.engine.queue_count()), (1, 1));
    }

    #[test]
    fn bytes_that_are_no_change_are_damage() {
        let mut world = world();
        let planned = world.engine.plan(
            START_MS,
            Command::CreateQueue {
                name: RawName { account: "", region: "", name: "q" },
                attributes: Entries::default(),
                tags: Entries::of(&[Tag { key: "key", value: "value" }]),
            },
            &world.log,
        );
        let Ok(Planned::Change(change, _)) = planned else { panic!("{planned:?}") };
        let bytes = change.encode();
        assert_eq!(Change::decode(&bytes).expect("it was encoded"), change);
        for length in 0..bytes.len() {
            // Without its last text whole it is another queue, or none; it never panics.
            assert!(Change::decode(&bytes[..length]).ok() != Some(change.clone()));
        }
        assert!(Change::decode(&[9]).is_err());
        for change in [Change::Delete { queue: 7, time_ms: 8 }, Change::Purge { queue: 7, time_ms: 8 }] {
            assert_eq!(Change::decode(&change.encode()).expect("it was encoded"), change);
        }
    }
}
