//! Histories of changes to the catalog, compared with a model that is obviously right: a map of queues,
//! each a plain list of what was set.
//!
//! Every change also goes, as bytes, to an engine that stands for another shard. After each step both
//! must show what the model has; restarts and cleaning go on all the time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tenpin_protocol::{
    ALL_ATTRIBUTES, Attribute, AttributeCode, AttributeName, AttributeValue, Entries, ErrorCode, Tag, Text,
};

use super::tests::World;
use super::*;
use crate::catalog::Permission;
use crate::flaws::Sound;

const NAMES: [&str; 4] = ["one", "two", "three.fifo", "four.fifo"];
const LABELS: [&str; 3] = ["first", "second", "third"];
const NUMBERS: [(AttributeCode, u64, u64, u64); 5] = [
    (AttributeCode::VisibilityTimeout, 0, 43_200, 30),
    (AttributeCode::DelaySeconds, 0, 900, 0),
    (AttributeCode::ReceiveMessageWaitTimeSeconds, 0, 20, 0),
    (AttributeCode::MessageRetentionPeriod, 60, 1_209_600, 345_600),
    (AttributeCode::MaximumMessageSize, 1_024, 1_048_576, 1_048_576),
];

#[derive(Debug, Clone)]
enum Given {
    Number(usize, u64),
    Policy(Option<usize>),
    Redrive(Option<(usize, u32)>),
    Allow(Option<Option<Vec<usize>>>),
    KmsKey(bool),
    KmsReuse(u64),
    Managed(bool),
    Fifo(bool),
    ContentBased(bool),
    GroupScope(bool),
    PerGroup(bool),
}

#[derive(Debug, Clone)]
enum Action {
    Create { name: usize, given: Vec<Given>, tags: Vec<usize> },
    Set { name: usize, given: Vec<Given> },
    Tag { name: usize, tags: Vec<usize> },
    Untag { name: usize, tags: Vec<usize> },
    Allow { name: usize, label: usize },
    Disallow { name: usize, label: usize },
    Delete { name: usize },
    Purge { name: usize },
    Advance { by_ms: u64 },
    Restart,
    Clean { count: usize },
}

fn given() -> impl Strategy<Value = Given> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => (0..NUMBERS.len(), 0..4_usize, any::<u64>()).prop_map(|(place, kind, any)| {
            let (_, minimum, maximum, default) = NUMBERS[place];
            Given::Number(place, [minimum, maximum, default, any][kind])
        }),
        1 => prop::option::weighted(0.7, 0..LABELS.len()).prop_map(Given::Policy),
        4 => prop::option::weighted(0.8, (name(), prop_oneof![4 => 1..=1_000_u32, 1 => Just(0), 1 => Just(1_001)]))
            .prop_map(Given::Redrive),
        2 => prop::option::weighted(0.8, prop::option::of(prop::collection::vec(name(), 0..3)))
            .prop_map(Given::Allow),
        1 => any::<bool>().prop_map(Given::KmsKey),
        1 => prop_oneof![Just(59_u64), Just(60), Just(300), Just(86_400), Just(86_401)].prop_map(Given::KmsReuse),
        1 => any::<bool>().prop_map(Given::Managed),
        1 => any::<bool>().prop_map(Given::Fifo),
        1 => any::<bool>().prop_map(Given::ContentBased),
        2 => any::<bool>().prop_map(Given::GroupScope),
        2 => any::<bool>().prop_map(Given::PerGroup),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let name = || 0..NAMES.len();
    let some = || prop::collection::vec(given(), 1..3);
    let tags = || prop::collection::vec(0..5_usize, 0..3);
    prop_oneof![
        6 => (name(), prop::bool::weighted(0.9), prop::collection::vec(given(), 0..2), tags())
            .prop_map(|(name, says_kind, mut given, tags)| {
                if says_kind && NAMES[name].ends_with(".fifo") {
                    given.push(Given::Fifo(true));
                }
                Action::Create { name, given, tags }
            }),
        8 => (name(), some()).prop_map(|(name, given)| Action::Set { name, given }),
        3 => (name(), tags()).prop_map(|(name, tags)| Action::Tag { name, tags }),
        2 => (name(), tags()).prop_map(|(name, tags)| Action::Untag { name, tags }),
        3 => (name(), 0..LABELS.len()).prop_map(|(name, label)| Action::Allow { name, label }),
        2 => (name(), 0..LABELS.len()).prop_map(|(name, label)| Action::Disallow { name, label }),
        1 => name().prop_map(|name| Action::Delete { name }),
        1 => name().prop_map(|name| Action::Purge { name }),
        2 => (0..70_000_u64).prop_map(|by_ms| Action::Advance { by_ms }),
        2 => Just(Action::Restart),
        2 => (1..20_usize).prop_map(|count| Action::Clean { count }),
    ]
}

/// What a queue has, as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Queue {
    number: u64,
    is_fifo: bool,
    numbers: [u64; NUMBERS.len()],
    /// Labels of its policy's statements.
    labels: Vec<usize>,
    /// Which policy it was given, while no permission has written another.
    given_policy: Option<usize>,
    redrive: Option<(usize, u32)>,
    allow: Option<Option<Vec<usize>>>,
    kms_key: bool,
    kms_reuse: Option<u64>,
    is_managed: bool,
    content_based: bool,
    group_scope: bool,
    per_group: bool,
    tags: BTreeSet<usize>,
    purged_at_ms: Option<u64>,
}

impl Queue {
    fn new(is_fifo: bool) -> Self {
        Self {
            number: 0,
            is_fifo,
            numbers: NUMBERS.map(|number| number.3),
            labels: Vec::new(),
            given_policy: None,
            redrive: None,
            allow: None,
            kms_key: false,
            kms_reuse: None,
            is_managed: true,
            content_based: false,
            group_scope: false,
            per_group: false,
            tags: BTreeSet::new(),
            purged_at_ms: None,
        }
    }
}

fn arn(name: usize) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{}", NAMES[name])
}

fn redrive_text((target, count): (usize, u32)) -> String {
    format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":{count}}}"#, arn(target))
}

fn allow_text(allow: &Option<Vec<usize>>) -> String {
    match allow {
        None => r#"{"redrivePermission":"denyAll"}"#.to_owned(),
        Some(sources) => {
            let sources: Vec<_> = sources.iter().map(|&source| arn(source)).collect();
            format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":{sources:?}}}"#)
        }
    }
}

fn policy_text(label: usize) -> String {
    let label = LABELS[label];
    format!(
        r#"{{"Statement":{{"Sid":"{label}","Effect":"Allow","Principal":"*","Action":"SQS:*","Resource":"*"}}}}"#
    )
}

impl Given {
    fn code(&self) -> AttributeCode {
        match self {
            Self::Number(place, _) => NUMBERS[*place].0,
            Self::Policy(_) => AttributeCode::Policy,
            Self::Redrive(_) => AttributeCode::RedrivePolicy,
            Self::Allow(_) => AttributeCode::RedriveAllowPolicy,
            Self::KmsKey(_) => AttributeCode::KmsMasterKeyId,
            Self::KmsReuse(_) => AttributeCode::KmsDataKeyReusePeriodSeconds,
            Self::Managed(_) => AttributeCode::SqsManagedSseEnabled,
            Self::Fifo(_) => AttributeCode::FifoQueue,
            Self::ContentBased(_) => AttributeCode::ContentBasedDeduplication,
            Self::GroupScope(_) => AttributeCode::DeduplicationScope,
            Self::PerGroup(_) => AttributeCode::FifoThroughputLimit,
        }
    }

    fn text(&self) -> Option<String> {
        Some(match self {
            Self::Policy(label) => label.map(policy_text).unwrap_or_default(),
            Self::Redrive(redrive) => redrive.map(redrive_text).unwrap_or_default(),
            Self::Allow(allow) => allow.as_ref().map(allow_text).unwrap_or_default(),
            Self::KmsKey(is_set) => if *is_set { "alias/key" } else { "" }.to_owned(),
            Self::GroupScope(is_set) => if *is_set { "messageGroup" } else { "queue" }.to_owned(),
            Self::PerGroup(is_set) => if *is_set { "perMessageGroupId" } else { "perQueue" }.to_owned(),
            _ => return None,
        })
    }

    fn number(&self) -> u64 {
        match self {
            Self::Number(_, number) | Self::KmsReuse(number) => *number,
            Self::Managed(is_set) | Self::Fifo(is_set) | Self::ContentBased(is_set) => u64::from(*is_set),
            _ => 0,
        }
    }
}

struct Test {
    world: World<Sound>,
    sibling: World<Sound>,
    queues: BTreeMap<usize, Queue>,
    deleted_at_ms: BTreeMap<usize, u64>,
}

impl Test {
    fn new() -> Self {
        let world = || World::new(EngineOptions::new(0, [3, 4]));
        Self { world: world(), sibling: world(), queues: BTreeMap::new(), deleted_at_ms: BTreeMap::new() }
    }

    /// Does a command here, and its change, sent as bytes, on the other shard.
    fn ask(&mut self, command: Command<'_>) -> ReplyBody {
        let planned = self.world.engine.plan(self.world.now_ms, command, &self.world.log);
        if let Ok(Planned::Change(change, _)) = planned {
            let sent = Change::decode(&change.encode()).expect("it was encoded the line before");
            assert_eq!(sent, change);
            self.sibling.now_ms = self.world.now_ms;
            while !self.sibling.engine.can_apply(&sent) {
                self.sibling.drain();
            }
            self.sibling.apply_change(&sent);
        }
        self.world.ask(command).body
    }

    fn run(&mut self, action: &Action) {
        let now_ms = self.world.now_ms;
        match action {
            Action::Create { name, given, tags } => self.create(*name, given, tags),
            Action::Set { name, given } => self.set(*name, given),
            Action::Tag { name, tags } => self.tag(*name, tags, true),
            Action::Untag { name, tags } => self.tag(*name, tags, false),
            Action::Allow { name, label } => self.permit(*name, *label, true),
            Action::Disallow { name, label } => self.permit(*name, *label, false),
            Action::Delete { name } => {
                let body = self.ask(Command::DeleteQueue { queue: self.number(*name) });
                let is_there = self.queues.remove(name).is_some();
                if is_there {
                    self.deleted_at_ms.insert(*name, now_ms);
                }
                assert_eq!(body == ReplyBody::Done, is_there);
            }
            Action::Purge { name } => {
                let body = self.ask(Command::Purge { queue: self.number(*name) });
                let Some(queue) = self.queues.get_mut(name) else { return };
                let is_soon = queue.purged_at_ms.is_some_and(|at_ms| now_ms < at_ms + 60_000);
                assert_eq!(body == ReplyBody::Done, !is_soon);
                if !is_soon {
                    queue.purged_at_ms = Some(now_ms);
                }
            }
            Action::Advance { by_ms } => self.world.now_ms += by_ms,
            Action::Restart => {
                for world in [&mut self.world, &mut self.sibling] {
                    // What is gone by time is so once the engine knows the time.
                    world.drain();
                    let digest = world.engine.digest();
                    world.recover();
                    assert_eq!(world.engine.digest(), digest, "the records give the same catalog");
                    world.restart_recovered();
                }
            }
            Action::Clean { count } => {
                self.world.clean(*count);
                self.sibling.clean(*count);
            }
        }
    }

    fn number(&self, name: usize) -> u64 {
        self.queues.get(&name).map_or(u64::MAX - 1, |queue| queue.number)
    }

    fn create(&mut self, name: usize, given: &[Given], tags: &[usize]) {
        let texts: Vec<_> = given.iter().map(Given::text).collect();
        let attributes = attributes(given, &texts);
        let texts = tag_texts(tags);
        let tags_given = tag_list(&texts);
        let body = self.ask(Command::CreateQueue {
            name: RawName { account: "", region: "", name: NAMES[name] },
            attributes: Entries::of(&attributes),
            tags: Entries::of(&tags_given),
        });
        let is_fifo = NAMES[name].ends_with(".fifo");
        let says_fifo = given.iter().rev().find_map(|given| match given {
            Given::Fifo(is_fifo) => Some(*is_fifo),
            _ => None,
        });
        let mut fresh = Queue::new(is_fifo);
        fresh.tags.extend(tags);
        // One that is there is opened wherever its target is meanwhile.
        let without_redrive = |given: &&Given| {
            self.queues.contains_key(&name) && matches!(given, Given::Redrive(Some((_, 1..=1_000))))
        };
        let judged: Vec<_> = given.iter().filter(|given| !without_redrive(given)).cloned().collect();
        // What a standard queue does not have cannot be said of it, not even as a no.
        let is_of_kind = says_fifo == is_fifo.then_some(true);
        let is_valid = is_of_kind && self.change(&mut fresh, name, &judged, true);
        if let Some(Given::Redrive(redrive)) =
            given.iter().rev().find(|given| matches!(given, Given::Redrive(_)))
        {
            fresh.redrive = *redrive;
        }
        let recent = self.deleted_at_ms.get(&name).is_some_and(|&at_ms| self.world.now_ms < at_ms + 60_000);
        match self.queues.get(&name) {
            Some(queue) => {
                let is_same = given.iter().all(|given| same(queue, &fresh, given));
                match body {
                    ReplyBody::QueueOpened { number, .. } => {
                        assert!(is_valid && is_same);
                        assert_eq!(number, queue.number);
                    }
                    body => {
                        let differs = refusal(&body) == Some(ErrorCode::QueueNameExists);
                        assert!(!is_valid || (differs && !is_same), "{body:?}");
                    }
                }
            }
            None => match body {
                ReplyBody::QueueOpened { number, fifo_shard, .. } => {
                    assert!(is_valid && !recent);
                    assert_eq!(fifo_shard.is_some(), is_fifo);
                    self.queues.insert(name, Queue { number, ..fresh });
                }
                body => assert!(!is_valid || recent, "{body:?}"),
            },
        }
    }

    fn set(&mut self, name: usize, given: &[Given]) {
        let texts: Vec<_> = given.iter().map(Given::text).collect();
        let attributes = attributes(given, &texts);
        let queue = self.number(name);
        let body = self.ask(Command::SetAttributes { queue, attributes: Entries::of(&attributes) });
        let Some(mut queue) = self.queues.get(&name).cloned() else {
            return assert_eq!(refusal(&body), Some(ErrorCode::QueueDoesNotExist));
        };
        let is_valid = self.change(&mut queue, name, given, false);
        assert_eq!(body == ReplyBody::Done, is_valid, "{body:?}");
        if is_valid {
            self.queues.insert(name, queue);
        }
    }

    /// Changes a queue as the rules say; `false`: something of it is refused.
    fn change(&self, queue: &mut Queue, name: usize, given: &[Given], is_new: bool) -> bool {
        let is_fifo = queue.is_fifo;
        let (mut key_given, mut managed_given) = (None, None);
        // Of what is given twice, the last counts.
        let last_kind = given.iter().rev().find_map(|given| match given {
            Given::Fifo(says_fifo) => Some(*says_fifo),
            _ => None,
        });
        for given in given {
            let is_valid = match given {
                Given::Number(place, number) => {
                    queue.numbers[*place] = *number;
                    (NUMBERS[*place].1..=NUMBERS[*place].2).contains(number)
                }
                Given::Policy(label) => {
                    queue.labels = label.iter().copied().collect();
                    queue.given_policy = *label;
                    true
                }
                Given::Redrive(redrive) => {
                    queue.redrive = *redrive;
                    redrive.is_none_or(|(_, count)| (1..=1_000).contains(&count))
                }
                Given::Allow(allow) => {
                    queue.allow.clone_from(allow);
                    !matches!(allow, Some(Some(sources)) if sources.is_empty())
                }
                Given::KmsKey(is_set) => {
                    key_given = Some(*is_set);
                    true
                }
                Given::KmsReuse(seconds) => {
                    queue.kms_reuse = Some(*seconds);
                    (60..=86_400).contains(seconds)
                }
                Given::Managed(is_managed) => {
                    managed_given = Some(*is_managed);
                    true
                }
                Given::Fifo(_) => is_new || (is_fifo && last_kind == Some(true)),
                Given::ContentBased(is_set) => {
                    queue.content_based = *is_set;
                    is_fifo
                }
                Given::GroupScope(is_set) => {
                    queue.group_scope = *is_set;
                    is_fifo
                }
                Given::PerGroup(is_set) => {
                    queue.per_group = *is_set;
                    is_fifo
                }
            };
            if !is_valid {
                return false;
            }
        }
        if (key_given, managed_given) == (Some(true), Some(true)) {
            return false;
        }
        if let Some(is_set) = key_given {
            queue.kms_key = is_set;
            queue.is_managed &= !is_set;
        }
        if let Some(is_managed) = managed_given {
            queue.is_managed = is_managed;
            if is_managed {
                queue.kms_key = false;
                let is_reuse = |given: &Given| matches!(given, Given::KmsReuse(_));
                queue.kms_reuse = queue.kms_reuse.filter(|_| given.iter().any(is_reuse));
            }
        }
        let has_redrive = given.iter().any(|given| matches!(given, Given::Redrive(_)));
        (!queue.per_group || queue.group_scope) && (!has_redrive || self.is_target(name, queue.redrive))
    }

    fn is_target(&self, source: usize, redrive: Option<(usize, u32)>) -> bool {
        let Some((target, _)) = redrive else { return true };
        let is_fifo = |name: usize| NAMES[name].ends_with(".fifo");
        source != target
            && is_fifo(source) == is_fifo(target)
            && self.queues.get(&target).is_some_and(|queue| allows(queue, source))
    }

    fn tag(&mut self, name: usize, tags: &[usize], adds: bool) {
        let texts = tag_texts(tags);
        let queue = self.number(name);
        let body = if adds {
            self.ask(Command::TagQueue { queue, tags: Entries::of(&tag_list(&texts)) })
        } else {
            let keys: Vec<_> = texts.iter().map(|(key, _)| Text { text: key }).collect();
            self.ask(Command::UntagQueue { queue, keys: Entries::of(&keys) })
        };
        assert_eq!(body == ReplyBody::Done, self.queues.contains_key(&name));
        let Some(queue) = self.queues.get_mut(&name) else { return };
        for tag in tags {
            if adds {
                queue.tags.insert(*tag)
            } else {
                queue.tags.remove(tag)
            };
        }
    }

    fn permit(&mut self, name: usize, label: usize, adds: bool) {
        let queue = self.number(name);
        let (accounts, actions) = ([Text { text: "123456789012" }], [Text { text: "SendMessage" }]);
        let (accounts, actions) = (Entries::of(&accounts), Entries::of(&actions));
        let text = LABELS[label];
        let permission = Permission { label: text, accounts, actions };
        let body = self.ask(match adds {
            true => Command::AddPermission { queue, permission },
            false => Command::RemovePermission { queue, label: text },
        });
        let Some(queue) = self.queues.get_mut(&name) else { return };
        assert_eq!(body == ReplyBody::Done, queue.labels.contains(&label) != adds, "{body:?}");
        if body == ReplyBody::Done {
            queue.given_policy = None;
            queue.labels.retain(|&other| other != label);
            if adds {
                queue.labels.push(label);
            }
        }
    }

    fn check(&mut self) {
        for name in 0..NAMES.len() {
            if let Some(queue) = self.queues.get(&name).cloned() {
                self.check_queue(name, &queue);
            }
        }
        assert_eq!(self.world.engine.queue_count(), self.queues.len());
        assert_eq!(self.sibling.engine.queue_count(), self.queues.len());
    }

    fn check_queue(&mut self, name: usize, queue: &Queue) {
        let number = queue.number;
        let sources: Vec<_> = self.queues.iter().filter(|(_, source)| points_to(source, name)).collect();
        let mut sources: Vec<_> = sources.into_iter().map(|(&source, _)| NAMES[source]).collect();
        sources.sort_unstable();
        let target = queue.redrive.and_then(|(target, count)| {
            let there = self.queues.get(&target).filter(|there| allows(there, name))?;
            Some((there.number, count))
        });
        for world in [&mut self.world, &mut self.sibling] {
            assert_eq!(shown(world, number), expected(queue));
            let body = world.ask(Command::ListTags { queue: number }).body;
            let ReplyBody::Tags(tags) = body else { panic!("{body:?}") };
            let expected = tag_texts(&queue.tags.iter().copied().collect::<Vec<_>>());
            let tags: Vec<_> = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            assert_eq!(tags, expected);
            assert_eq!(list_sources(world, number), sources);
            assert_eq!(world.engine.dead_letter_target(number), target);
        }
    }
}

fn allows(target: &Queue, source: usize) -> bool {
    match &target.allow {
        None => true,
        Some(None) => false,
        Some(Some(sources)) => sources.contains(&source),
    }
}

fn points_to(source: &Queue, target: usize) -> bool {
    source.redrive.is_some_and(|(other, _)| other == target)
}

/// Pages of one, to try their seams.
fn list_sources(world: &mut World<Sound>, queue: u64) -> Vec<String> {
    let (mut names, mut next) = (Vec::new(), None::<Box<[u8]>>);
    loop {
        let command = Command::ListDeadLetterSources { queue, next: next.as_deref(), count_max: 1 };
        let body = world.ask(command).body;
        let ReplyBody::Queues(page) = body else { panic!("{body:?}") };
        names.extend(page.names.iter().map(|name| name.name().to_owned()));
        next = page.next;
        if next.is_none() {
            return names;
        }
    }
}

fn attributes<'a>(given: &[Given], texts: &'a [Option<String>]) -> Vec<Attribute<'a>> {
    let value = |(given, text): (&Given, &'a Option<String>)| {
        let number = AttributeValue::Number(given.number());
        Attribute::new(given.code(), text.as_deref().map_or(number, AttributeValue::Text))
    };
    given.iter().zip(texts).map(value).collect()
}

fn tag_texts(tags: &[usize]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (format!("key-{tag}"), format!("value-{tag}"))).collect()
}

fn tag_list(texts: &[(String, String)]) -> Vec<Tag<'_>> {
    texts.iter().map(|(key, value)| Tag { key, value }).collect()
}

fn refusal(body: &ReplyBody) -> Option<ErrorCode> {
    match body {
        ReplyBody::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// Whether a queue has what another has of this attribute.
fn same(queue: &Queue, fresh: &Queue, given: &Given) -> bool {
    match given {
        Given::Number(place, _) => queue.numbers[*place] == fresh.numbers[*place],
        Given::Policy(_) => {
            let has_none = |queue: &Queue| queue.labels.is_empty();
            (queue.given_policy, has_none(queue)) == (fresh.given_policy, has_none(fresh))
        }
        Given::Redrive(_) => queue.redrive == fresh.redrive,
        Given::Allow(_) => queue.allow == fresh.allow,
        Given::KmsKey(_) => queue.kms_key == fresh.kms_key,
        Given::KmsReuse(_) => queue.kms_reuse.unwrap_or(300) == fresh.kms_reuse.unwrap_or(300),
        Given::Managed(_) => queue.is_managed == fresh.is_managed,
        Given::Fifo(_) => queue.is_fifo == fresh.is_fifo,
        Given::ContentBased(_) => queue.content_based == fresh.content_based,
        Given::GroupScope(_) => queue.group_scope == fresh.group_scope,
        Given::PerGroup(_) => queue.per_group == fresh.per_group,
    }
}

/// The settings that a queue shows, with a policy as its labels.
fn shown(world: &mut World<Sound>, queue: u64) -> BTreeMap<AttributeCode, String> {
    let names = [AttributeName { number: ALL_ATTRIBUTES }];
    let body = world.ask(Command::GetAttributes { queue, names: Entries::of(&names) }).body;
    let ReplyBody::Attributes(values) = body else { panic!("{body:?}") };
    let text = |(code, value): &(AttributeCode, AttributeOutput)| {
        let text = match value {
            AttributeOutput::Number(number) => number.to_string(),
            AttributeOutput::Text(text) if *code == AttributeCode::Policy => labels_of(text),
            AttributeOutput::Text(text) => text.clone(),
        };
        (*code, text)
    };
    values.iter().filter(|(code, _)| !code.is_read_only()).map(text).collect()
}

fn labels_of(policy: &str) -> String {
    let policy: serde_json::Value = serde_json::from_str(policy).expect("JSON");
    let statements = match &policy["Statement"] {
        serde_json::Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let labels: Vec<_> =
        statements.iter().map(|statement| statement["Sid"].as_str().expect("a label")).collect();
    labels.join(" ")
}

fn expected(queue: &Queue) -> BTreeMap<AttributeCode, String> {
    let mut all: BTreeMap<_, _> =
        NUMBERS.iter().zip(queue.numbers).map(|(code, number)| (code.0, number.to_string())).collect();
    let mut add = |code, text: Option<String>| all.extend(text.map(|text| (code, text)));
    let labels: Vec<_> = queue.labels.iter().map(|&label| LABELS[label]).collect();
    add(AttributeCode::Policy, (!labels.is_empty()).then(|| labels.join(" ")));
    add(AttributeCode::RedrivePolicy, queue.redrive.map(redrive_text));
    add(AttributeCode::RedriveAllowPolicy, queue.allow.as_ref().map(allow_text));
    add(AttributeCode::KmsMasterKeyId, queue.kms_key.then(|| "alias/key".to_owned()));
    let reuse = queue.kms_reuse.or(queue.kms_key.then_some(300));
    add(AttributeCode::KmsDataKeyReusePeriodSeconds, reuse.map(|seconds| seconds.to_string()));
    add(AttributeCode::SqsManagedSseEnabled, Some(u8::from(queue.is_managed).to_string()));
    if queue.is_fifo {
        add(AttributeCode::FifoQueue, Some("1".to_owned()));
        add(AttributeCode::ContentBasedDeduplication, Some(u8::from(queue.content_based).to_string()));
        add(AttributeCode::DeduplicationScope, Given::GroupScope(queue.group_scope).text());
        add(AttributeCode::FifoThroughputLimit, Given::PerGroup(queue.per_group).text());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn catalogs_agree_with_the_model(actions in prop::collection::vec(action(), 1..60)) {
        let mut test = Test::new();
        for action in &actions {
            test.run(action);
            test.check();
        }
    }
}
