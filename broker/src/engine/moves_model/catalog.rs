//! Queues that are made, set, purged and deleted: the first shard judges and does it at once, the second when it
//! hears of it.

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, Entries, ErrorCode};

use super::queues::Way;
use super::tasks::Share;
use super::*;

pub(super) fn arn(name: usize) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{}", NAMES[name])
}

impl<F: Flaws> Test<F> {
    /// Has the first shard judge a change and do it, and tells the other.
    pub(super) fn change(&mut self, command: Command<'_>) -> Result<(Change, ReplyBody), Refusal> {
        let World { engine, log, now_ms, .. } = &mut self.worlds[0];
        match engine.plan(*now_ms, command, log)? {
            Planned::Answer(body) => {
                Err(Refusal::new(tenpin_protocol::ErrorCode::UnsupportedOperation, format!("{body:?}")))
            }
            Planned::Change(mut change, body) => {
                if let Change::Define(definition) = &mut change
                    && let Some(home) = home_of(definition.name.name())
                {
                    definition.owner_shard = home as u16;
                }
                self.wires[1].items.push_back(Item::Change(change.clone()));
                self.follow(0, &change);
                Ok((change, body))
            }
        }
    }

    /// A shard does what was changed, and so does the model.
    pub(super) fn follow(&mut self, shard: usize, change: &Change) {
        let world = &mut self.worlds[shard];
        assert!(world.engine.can_apply(change), "what was deleted is gone by now");
        world.apply_change(change);
        let now_ms = world.now_ms;
        let model = &mut self.shards[shard];
        match change {
            Change::Define(definition) => {
                let name =
                    NAMES.iter().position(|name| *name == definition.name.name()).expect("it is one of ours");
                let denies = definition
                    .details
                    .redrive_allow
                    .as_ref()
                    .is_some_and(|allow| !allow.allows(&definition.name));
                let number = definition.number();
                let messages = model.queues[name].take().filter(|entry| entry.number == number);
                let messages = messages.map_or(Vec::new(), |entry| entry.messages);
                model.queues[name] = Some(Entry { name, number, denies, messages });
                self.give_leases();
            }
            Change::Delete { queue, .. } => {
                if let Some(name) = model.numbered(*queue) {
                    self.empty(shard, name);
                    self.refuse_waits(shard, *queue);
                    let model = &mut self.shards[shard];
                    model.queues[name] = None;
                    model.shares.retain(|share| share.source != name);
                }
            }
            Change::Purge { queue, .. } => {
                if let Some(name) = model.numbered(*queue) {
                    self.empty(shard, name);
                }
            }
            Change::StartTask(definition) => {
                let Some(source) = model.numbered(definition.source.0) else { return };
                let visible = model.entry(source).counts(now_ms)[0];
                model.start_share(Share::new(definition, source, visible, now_ms), now_ms);
            }
            Change::CancelTask { id, .. } => model.cancel_share(*id, now_ms),
        }
        self.tell_of_tasks(shard);
    }

    /// All messages of a queue on a shard are gone. What was given to the other shard counts as moved by its task
    /// once that says that it has come there.
    fn empty(&mut self, shard: usize, name: usize) {
        for message in std::mem::take(&mut self.shards[shard].entry(name).messages) {
            if let Some(Way { task, number: Some(number), is_given: true, .. }) = message.moving
                && task != 0
            {
                self.shards[shard].leaving.push((number, task));
            }
            if !self.has_left(shard, &message) {
                self.gone.push(message.body);
            }
        }
    }

    /// Each shard may have as much in flight as it likes.
    pub(super) fn give_leases(&mut self) {
        for (world, model) in self.worlds.iter_mut().zip(&self.shards) {
            for entry in model.queues.iter().flatten() {
                world.engine.add_lease(entry.number, 10_000);
            }
        }
    }

    pub(super) fn create(&mut self, name: usize) {
        let can_be = LETTERS[name].is_none() || self.shards[0].letters(name).is_some();
        let has_room = self.has_room(0);
        if self.shards[0].queues[name].is_some() || !can_be {
            return;
        }
        let fifo = Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1));
        let content = Attribute::new(AttributeCode::ContentBasedDeduplication, AttributeValue::Number(1));
        let retention =
            Attribute::new(AttributeCode::MessageRetentionPeriod, AttributeValue::Number(RETENTION_SECONDS));
        let policy = LETTERS[name].map(|(target, count)| {
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":{count}}}"#, arn(target))
        });
        let redrive = policy
            .as_deref()
            .map(|policy| Attribute::new(AttributeCode::RedrivePolicy, AttributeValue::Text(policy)));
        let kind: &[_] = if HOMES[name].is_some() { &[fifo, content] } else { &[] };
        let given: Vec<_> = [retention].into_iter().chain(redrive).chain(kind.iter().copied()).collect();
        let raw = RawName { account: "", region: "", name: NAMES[name] };
        let command =
            Command::CreateQueue { name: raw, attributes: Entries::of(&given), tags: Entries::default() };
        let refused = self.change(command).err().map(|refusal| refusal.code);
        assert_eq!(refused, (!has_room).then_some(ErrorCode::StorageFull));
    }

    pub(super) fn delete_queue(&mut self, name: usize) {
        let Some(queue) = self.number(name) else { return };
        self.change(Command::DeleteQueue { queue }).expect("it is there");
    }

    pub(super) fn purge(&mut self, name: usize) {
        let Some(queue) = self.number(name) else { return };
        self.change(Command::Purge { queue }).expect("it is there");
    }

    pub(super) fn deny(&mut self, name: usize, on: bool) {
        let Some(queue) = self.number(name) else { return };
        if self.shards[0].entry(name).denies == on {
            return;
        }
        let text =
            if on { r#"{"redrivePermission":"denyAll"}"# } else { r#"{"redrivePermission":"allowAll"}"# };
        // Without room no definition may become longer.
        if !self.has_room(0) {
            return;
        }
        let allow = [Attribute::new(AttributeCode::RedriveAllowPolicy, AttributeValue::Text(text))];
        self.change(Command::SetAttributes { queue, attributes: Entries::of(&allow) }).expect("it is right");
    }

    /// The number of a queue as the first shard has it.
    pub(super) fn number(&self, name: usize) -> Option<u64> {
        self.shards[0].queues[name].as_ref().map(|entry| entry.number)
    }
}

fn home_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|other| *other == name).and_then(|name| HOMES[name])
}
