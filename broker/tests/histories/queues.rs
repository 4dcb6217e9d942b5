//! Queues as a whole: made, changed, tagged, purged, made anew, and what they say of themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use tenpin_client::{AttributeCode, DeduplicationScope, ErrorCode, QueueAttributes};

use crate::ages::KEPT_SECONDS_MIN;
use crate::history::History;
use crate::messages::code_of;
use crate::model::{Allow, LONG_DELAY_SECONDS, QUEUES, Settings, is_fifo, is_letters, letters_of_kind};

const MAX: AttributeCode = AttributeCode::MaximumMessageSize;

impl History {
    fn redrive_text(&self, queue: usize, after: Option<u32>) -> String {
        let target = self.arn(letters_of_kind(queue));
        after.map_or(String::new(), |after| {
            format!(r#"{{"deadLetterTargetArn":"{target}","maxReceiveCount":{after}}}"#)
        })
    }

    fn allow_text(&self, allow: Allow) -> String {
        match allow {
            Allow::All => String::new(),
            Allow::None => r#"{"redrivePermission":"denyAll"}"#.to_owned(),
            Allow::Only(source) => {
                let source = self.arn(source);
                format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{source}"]}}"#)
            }
        }
    }

    fn scope(settings: &Settings) -> DeduplicationScope {
        if settings.scope_is_group { DeduplicationScope::MessageGroup } else { DeduplicationScope::Queue }
    }

    fn attributes_of(&self, queue: usize) -> QueueAttributes {
        let settings = &self.model.settings[queue];
        let mut attributes = QueueAttributes::new()
            .visibility_timeout(Duration::from_secs(settings.visibility_seconds))
            .delay(Duration::from_secs(settings.delay_seconds))
            .retention(Duration::from_secs(settings.retention_seconds))
            .number(MAX, settings.message_bytes_max);
        if settings.letters_after.is_some() {
            let text = self.redrive_text(queue, settings.letters_after);
            attributes = attributes.text(AttributeCode::RedrivePolicy, text);
        }
        if is_fifo(queue) {
            attributes = attributes
                .content_based_deduplication(settings.content_based)
                .deduplication_scope(Self::scope(settings));
        }
        attributes
    }

    pub fn create(&mut self, queue: usize) {
        let attributes = self.attributes_of(queue);
        let (client, name) = (self.any_client(), self.name(queue));
        self.runtime.block_on(client.create_queue_with(name, &attributes)).unwrap();
    }

    /// Changes one of a queue's attributes, or its tags.
    pub fn change_a_queue(&mut self) {
        let queue = self.below(QUEUES.len());
        let choice = self.below(14);
        if self.is_busy(queue) && (3..9).contains(&choice) {
            return;
        }
        self.tell(format!("change {}: {choice}", QUEUES[queue]));
        match choice {
            0 => {
                let seconds = 7_200 + self.random.below(36_000);
                self.model.settings[queue].visibility_seconds = seconds;
                self.set(queue, AttributeCode::VisibilityTimeout, seconds);
            }
            1 => {
                let is_short = self.once_in(2);
                let seconds = 3_600 + self.random.below(1_000_000);
                self.keep_for(queue, if is_short { KEPT_SECONDS_MIN } else { seconds });
            }
            2 => {
                let bytes = [1_024, 1_048_576][self.below(2)];
                self.model.settings[queue].message_bytes_max = bytes;
                self.set(queue, MAX, bytes);
            }
            3 | 4 => {
                self.look();
                let is_delayed = self.model.settings[queue].delay_seconds > 0;
                let seconds = if is_delayed { 0 } else { LONG_DELAY_SECONDS };
                self.delay(queue, seconds);
            }
            5 | 6 => self.change_redrive(queue),
            7 | 8 => self.change_allow(letters_of_kind(queue)),
            9 if is_fifo(queue) => {
                let on = self.once_in(2);
                self.model.settings[queue].content_based = on;
                self.set(queue, AttributeCode::ContentBasedDeduplication, on.into());
            }
            10 | 11 if is_fifo(queue) => {
                self.model.settings[queue].scope_is_group = self.once_in(2);
                let scope = Self::scope(&self.model.settings[queue]);
                let attributes = QueueAttributes::new().deduplication_scope(scope);
                assert_eq!(self.set_attributes(queue, &attributes), None);
            }
            _ => self.change_tags(queue),
        }
        self.look_at(queue);
    }

    /// For so long a queue keeps messages, those that it has as well.
    pub fn keep_for(&mut self, queue: usize, seconds: u64) {
        self.note_time();
        self.model.settings[queue].retention_seconds = seconds;
        self.set(queue, AttributeCode::MessageRetentionPeriod, seconds);
        self.note_time();
    }

    pub fn delay(&mut self, queue: usize, seconds: u64) {
        self.model.settings[queue].delay_seconds = seconds;
        self.set(queue, AttributeCode::DelaySeconds, seconds);
        // What a FIFO queue's delay says of what is stored takes effect slice by slice.
        self.look();
    }

    fn set(&mut self, queue: usize, code: AttributeCode, value: u64) {
        let refused = QueueAttributes::new().number(code, 100_000_000);
        if self.once_in(8) && code != AttributeCode::ContentBasedDeduplication {
            assert_eq!(self.set_attributes(queue, &refused), Some(ErrorCode::InvalidAttributeValue));
        }
        assert_eq!(self.set_attributes(queue, &QueueAttributes::new().number(code, value)), None);
    }

    fn set_attributes(&mut self, queue: usize, attributes: &QueueAttributes) -> Option<ErrorCode> {
        let asked = self.queue(queue);
        code_of(&self.runtime.block_on(asked.set_attributes(attributes)))
    }

    fn change_redrive(&mut self, queue: usize) {
        if is_letters(queue) {
            return;
        }
        let after = (!self.once_in(5)).then(|| 1 + self.below(3) as u32);
        let text = self.redrive_text(queue, after);
        let error =
            self.set_attributes(queue, &QueueAttributes::new().text(AttributeCode::RedrivePolicy, text));
        let is_allowed = self.model.settings[letters_of_kind(queue)].allow.allows(queue);
        if after.is_some() && !is_allowed {
            return assert_eq!(error, Some(ErrorCode::InvalidParameterValue), "the target does not allow it");
        }
        assert_eq!(error, None);
        self.model.settings[queue].letters_after = after;
    }

    fn change_allow(&mut self, letters: usize) {
        let allow = [Allow::All, Allow::All, Allow::None, Allow::Only(letters - 1), Allow::Only(letters - 2)];
        let allow = allow[self.below(allow.len())];
        let text = self.allow_text(allow);
        let attributes = QueueAttributes::new().text(AttributeCode::RedriveAllowPolicy, text);
        assert_eq!(self.set_attributes(letters, &attributes), None);
        self.model.settings[letters].allow = allow;
    }

    fn change_tags(&mut self, queue: usize) {
        let (key, value) = (format!("key-{}", self.below(3)), self.below(1_000).to_string());
        let asked = self.queue(queue);
        self.runtime.block_on(asked.tag(&[(&key, &value)])).unwrap();
        let tags = &mut self.model.settings[queue].tags;
        tags.insert(key, value);
        if self.random.once_in(2) {
            let place = self.random.below(tags.len() as u64) as usize;
            let key = tags.keys().nth(place).expect("there are more").clone();
            tags.remove(&key);
            self.runtime.block_on(asked.untag(&[&key])).unwrap();
        }
    }

    /// What a queue says of itself, to a client on any shard.
    pub fn look_at(&mut self, queue: usize) {
        let asked = self.queue(queue);
        let said = self.runtime.block_on(asked.attributes()).unwrap();
        let settings = self.model.settings[queue].clone();
        let number = |code| said.get_number(code);
        let text = |code| said.get_text(code).unwrap_or_default().to_owned();
        assert_eq!(number(AttributeCode::VisibilityTimeout), Some(settings.visibility_seconds));
        assert_eq!(number(AttributeCode::DelaySeconds), Some(settings.delay_seconds));
        assert_eq!(number(AttributeCode::MessageRetentionPeriod), Some(settings.retention_seconds));
        assert_eq!(number(MAX), Some(settings.message_bytes_max));
        assert_eq!(text(AttributeCode::RedrivePolicy), self.redrive_text(queue, settings.letters_after));
        assert_eq!(text(AttributeCode::RedriveAllowPolicy), self.allow_text(settings.allow));
        assert_eq!(text(AttributeCode::QueueArn), self.arn(queue));
        if is_fifo(queue) {
            let content_based = number(AttributeCode::ContentBasedDeduplication);
            assert_eq!(content_based, Some(settings.content_based.into()));
            let scope = if settings.scope_is_group { "messageGroup" } else { "queue" };
            assert_eq!(text(AttributeCode::DeduplicationScope), scope);
        }
        let tags: BTreeMap<_, _> = self.runtime.block_on(asked.tags()).unwrap().into_iter().collect();
        assert_eq!(tags, settings.tags);
        self.look_at_the_catalog(queue);
    }

    fn look_at_the_catalog(&mut self, queue: usize) {
        let letters = letters_of_kind(queue);
        let client = self.any_client();
        let prefix = format!("{}-", self.seed);
        let listed = self.runtime.block_on(client.list_queues(&prefix, None)).unwrap();
        let mut listed: Vec<_> = listed.names.iter().map(|name| name.name().to_owned()).collect();
        listed.sort();
        let mut expected: Vec<_> = (0..QUEUES.len()).map(|queue| self.name(queue)).collect();
        expected.sort();
        assert_eq!(listed, expected);
        let asked = self.queue(letters);
        let sources = self.runtime.block_on(asked.dead_letter_sources(None)).unwrap();
        let mut sources: Vec<_> = sources.names.iter().map(|name| name.name().to_owned()).collect();
        sources.sort();
        let is_source = |queue: &usize| self.model.settings[*queue].letters_after.is_some();
        let mut expected: Vec<_> =
            (letters - 2..letters).filter(is_source).map(|queue| self.name(queue)).collect();
        expected.sort();
        assert_eq!(sources, expected);
        let delay = QueueAttributes::new().delay(Duration::from_secs(7));
        let again = self.runtime.block_on(client.create_queue_with(self.name(queue), &delay));
        assert_eq!(code_of(&again), Some(ErrorCode::QueueNameExists));
    }

    pub fn purge_or_make_anew(&mut self) {
        let queue = self.below(QUEUES.len());
        if self.is_busy(queue) {
            return;
        }
        if is_letters(queue) || self.once_in(2) {
            self.tell(format!("purge {}", QUEUES[queue]));
            let asked = self.queue(queue);
            self.runtime.block_on(asked.purge()).unwrap();
            self.model.forget(queue);
        } else if self.model.settings[letters_of_kind(queue)].allow.allows(queue) {
            self.make_anew(queue);
        }
    }

    fn make_anew(&mut self, queue: usize) {
        self.tell(format!("make {} anew", QUEUES[queue]));
        let asked = self.queue(queue);
        self.runtime.block_on(asked.delete_queue()).unwrap();
        self.model.forget(queue);
        let incarnation = self.model.incarnation(queue) + 1;
        self.model.settings[queue] = Settings::of(queue, incarnation);
        self.create(queue);
        self.open();
    }
}
