//! Attributes as they are asked for: checked one by one, then against what the queue is.
//!
//! A change is made once from what came over the wire, whatever queue it is for. Applying it gives
//! whole new settings or a refusal, never half of either.

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, Entries, ErrorCode};

use super::attributes::{Attributes, DeduplicationScope, FifoAttributes, NUMBERS, RANGES, ThroughputLimit};
use super::details::Details;
use super::error::AttributeError;
use super::name::QueueName;
use super::policy::Policy;
use super::redrive::{Redrive, RedriveAllow};

/// For how long a data key may be used, in seconds.
const KMS_REUSE_SECONDS: (u32, u32) = (60, 86_400);
/// For how long a data key is used where nothing was said, in seconds.
pub(crate) const KMS_REUSE_SECONDS_DEFAULT: u32 = 300;
/// Most characters of a KMS key's name; a longer one is refused.
const KMS_KEY_CHARACTERS_MAX: usize = 2_048;

/// Settings that were given and checked; what was not given stays as it is. In policies and the key,
/// `Some(None)` resets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeChange {
    numbers: [Option<u32>; NUMBERS],
    policy: Option<Option<Policy>>,
    redrive: Option<Option<Redrive>>,
    redrive_allow: Option<Option<RedriveAllow>>,
    kms_key: Option<Option<Box<str>>>,
    kms_reuse_seconds: Option<u32>,
    is_managed: Option<bool>,
    is_fifo: Option<bool>,
    content_based: Option<bool>,
    scope: Option<DeduplicationScope>,
    throughput: Option<ThroughputLimit>,
}

impl AttributeChange {
    /// Checks attributes as they came; the last of several values of one holds.
    pub fn parse<'a>(given: Entries<'a, Attribute<'a>>) -> Result<Self, AttributeError> {
        let mut change = Self::default();
        for attribute in given {
            let Some(code) = AttributeCode::from_number(attribute.number) else {
                let text = format!("Unknown Attribute {}.", attribute.number);
                return Err(AttributeError::new(ErrorCode::InvalidAttributeName, text));
            };
            if code.is_read_only() {
                return Err(unknown(code));
            }
            change.take(code, attribute.value())?;
        }
        if matches!(change.kms_key, Some(Some(_))) && change.is_managed == Some(true) {
            let text = "You can use one type of server-side encryption (SSE) at one time. You can either \
                        enable KMS SSE or SQS SSE.";
            return Err(AttributeError::new(ErrorCode::InvalidAttributeName, text));
        }
        Ok(change)
    }

    fn take(&mut self, code: AttributeCode, value: AttributeValue<'_>) -> Result<(), AttributeError> {
        if let Some(place) = RANGES.iter().position(|range| range.0 == code) {
            let (_, minimum, maximum) = RANGES[place];
            self.numbers[place] = Some(number(code, value, minimum, maximum)?);
            return Ok(());
        }
        match code {
            AttributeCode::Policy => self.policy = Some(policy(code, value, Policy::parse)?),
            AttributeCode::RedrivePolicy => self.redrive = Some(policy(code, value, Redrive::parse)?),
            AttributeCode::RedriveAllowPolicy => {
                self.redrive_allow = Some(policy(code, value, RedriveAllow::parse)?);
            }
            AttributeCode::KmsMasterKeyId => {
                self.kms_key = Some(policy(code, value, |key| {
                    let is_short = key.chars().count() <= KMS_KEY_CHARACTERS_MAX;
                    if is_short { Ok(key.into()) } else { Err(invalid(code, "Too long.")) }
                })?);
            }
            AttributeCode::KmsDataKeyReusePeriodSeconds => {
                let (minimum, maximum) = KMS_REUSE_SECONDS;
                self.kms_reuse_seconds = Some(number(code, value, minimum, maximum)?);
            }
            AttributeCode::SqsManagedSseEnabled => self.is_managed = Some(switch(code, value)?),
            AttributeCode::FifoQueue => self.is_fifo = Some(switch(code, value)?),
            AttributeCode::ContentBasedDeduplication => self.content_based = Some(switch(code, value)?),
            AttributeCode::DeduplicationScope => {
                self.scope = Some(choice(code, value, DeduplicationScope::from_name)?);
            }
            AttributeCode::FifoThroughputLimit => {
                self.throughput = Some(choice(code, value, ThroughputLimit::from_name)?);
            }
            _ => return Err(unknown(code)),
        }
        Ok(())
    }

    /// The settings of a new queue of this name.
    pub fn create(&self, name: &QueueName) -> Result<(Attributes, Details), AttributeError> {
        let is_fifo = self.is_fifo == Some(true);
        if self.is_fifo == Some(false) && !name.is_fifo() {
            return Err(unknown(AttributeCode::FifoQueue));
        }
        if is_fifo != name.is_fifo() {
            let text = if is_fifo {
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, \
                 must end with .fifo suffix and be 1 to 80 in length."
            } else {
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length. Only \
                 the name of a FIFO queue ends in .fifo."
            };
            return Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
        }
        let fifo = is_fifo.then(FifoAttributes::default);
        self.change(Attributes::of_kind(fifo), Details::default())
    }

    /// The settings of a queue that had these, with what was given changed.
    pub fn set(
        &self,
        before: Attributes,
        details: &Details,
    ) -> Result<(Attributes, Details), AttributeError> {
        match self.is_fifo {
            Some(_) if !before.is_fifo() => return Err(unknown(AttributeCode::FifoQueue)),
            Some(false) => {
                return Err(invalid(AttributeCode::FifoQueue, "Modifying queue type is not supported."));
            }
            Some(true) | None => {}
        }
        self.change(before, details.clone())
    }

    fn change(
        &self,
        before: Attributes,
        mut details: Details,
    ) -> Result<(Attributes, Details), AttributeError> {
        let mut numbers = before.numbers();
        for (number, given) in numbers.iter_mut().zip(&self.numbers) {
            *number = given.unwrap_or(*number);
        }
        let mut attributes = before.with_numbers(numbers).expect("both were in their ranges");
        attributes.fifo = self.change_fifo(before.fifo)?;
        if let Some(policy) = &self.policy {
            details.policy.clone_from(policy);
        }
        if let Some(redrive) = &self.redrive {
            details.redrive.clone_from(redrive);
        }
        if let Some(redrive_allow) = &self.redrive_allow {
            details.redrive_allow.clone_from(redrive_allow);
        }
        self.change_encryption(&mut details);
        Ok((attributes, details))
    }

    fn change_fifo(&self, before: Option<FifoAttributes>) -> Result<Option<FifoAttributes>, AttributeError> {
        let Some(before) = before else {
            let only = |code: AttributeCode| {
                let name = code.name();
                let text = format!("You can specify the {name} only when FifoQueue is set to true.");
                Err(AttributeError::new(ErrorCode::InvalidAttributeName, text))
            };
            return match () {
                () if self.content_based.is_some() => Err(unknown(AttributeCode::ContentBasedDeduplication)),
                () if self.scope.is_some() => only(AttributeCode::DeduplicationScope),
                () if self.throughput.is_some() => only(AttributeCode::FifoThroughputLimit),
                () => Ok(None),
            };
        };
        let fifo = FifoAttributes {
            content_based: self.content_based.unwrap_or(before.content_based),
            scope: self.scope.unwrap_or(before.scope),
            throughput: self.throughput.unwrap_or(before.throughput),
        };
        let needs_groups = fifo.throughput == ThroughputLimit::PerMessageGroup;
        if needs_groups && fifo.scope != DeduplicationScope::MessageGroup {
            let text = "The perMessageGroupId value is allowed only when the value for DeduplicationScope is \
                        messageGroup.";
            return Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
        }
        Ok(Some(fifo))
    }

    /// A KMS key switches the broker's own keys off, and they switch it off. Without the key that
    /// there was nothing comes back by itself.
    fn change_encryption(&self, details: &mut Details) {
        let encryption = &mut details.encryption;
        if let Some(kms_key) = &self.kms_key {
            encryption.kms_key.clone_from(kms_key);
            encryption.is_managed &= kms_key.is_none();
        }
        if let Some(seconds) = self.kms_reuse_seconds {
            encryption.kms_reuse_seconds = Some(seconds);
        }
        if let Some(is_managed) = self.is_managed {
            encryption.is_managed = is_managed;
            if is_managed {
                encryption.kms_key = None;
                encryption.kms_reuse_seconds = self.kms_reuse_seconds;
            }
        }
    }

    /// Whether it says where dead letters go.
    pub fn has_redrive(&self) -> bool {
        self.redrive.is_some()
    }

    /// The first attribute that was given and is not what the queue has.
    pub fn differs_from(&self, attributes: &Attributes, details: &Details) -> Option<AttributeCode> {
        let numbers = attributes.numbers();
        let differing = |&place: &usize| self.numbers[place].is_some_and(|given| given != numbers[place]);
        if let Some(place) = (0..NUMBERS).find(differing) {
            return Some(RANGES[place].0);
        }
        let encryption = &details.encryption;
        let reuse_seconds = encryption.kms_reuse_seconds.unwrap_or(KMS_REUSE_SECONDS_DEFAULT);
        let fifo = attributes.fifo.unwrap_or_default();
        let is_other = [
            (AttributeCode::Policy, differ(&self.policy, &details.policy, Policy::says_what)),
            (AttributeCode::RedrivePolicy, differ(&self.redrive, &details.redrive, Redrive::says_what)),
            (
                AttributeCode::RedriveAllowPolicy,
                differ(&self.redrive_allow, &details.redrive_allow, RedriveAllow::says_what),
            ),
            (AttributeCode::KmsMasterKeyId, differ(&self.kms_key, &encryption.kms_key, |a, b| a == b)),
            (
                AttributeCode::KmsDataKeyReusePeriodSeconds,
                self.kms_reuse_seconds.is_some_and(|given| given != reuse_seconds),
            ),
            (
                AttributeCode::SqsManagedSseEnabled,
                self.is_managed.is_some_and(|given| given != encryption.is_managed),
            ),
            (AttributeCode::FifoQueue, self.is_fifo.is_some_and(|given| given != attributes.is_fifo())),
            (
                AttributeCode::ContentBasedDeduplication,
                self.content_based.is_some_and(|given| given != fifo.content_based),
            ),
            (AttributeCode::DeduplicationScope, self.scope.is_some_and(|given| given != fifo.scope)),
            (
                AttributeCode::FifoThroughputLimit,
                self.throughput.is_some_and(|given| given != fifo.throughput),
            ),
        ];
        is_other.into_iter().find(|&(_, is_other)| is_other).map(|(code, _)| code)
    }
}

/// Whether what was given, if anything, says something else than what there is.
fn differ<T>(given: &Option<Option<T>>, has: &Option<T>, same: impl Fn(&T, &T) -> bool) -> bool {
    match (given, has) {
        (None, _) | (Some(None), None) => false,
        (Some(Some(given)), Some(has)) => !same(given, has),
        (Some(_), _) => true,
    }
}

/// A text that resets what it is for where it is empty.
fn policy<T>(
    code: AttributeCode,
    value: AttributeValue<'_>,
    parse: impl FnOnce(&str) -> Result<T, AttributeError>,
) -> Result<Option<T>, AttributeError> {
    match value {
        AttributeValue::Text("") => Ok(None),
        AttributeValue::Text(text) => parse(text).map(Some),
        AttributeValue::Number(_) => Err(invalid(code, "Must be a text.")),
    }
}

fn number(
    code: AttributeCode,
    value: AttributeValue<'_>,
    minimum: u32,
    maximum: u32,
) -> Result<u32, AttributeError> {
    let number = match value {
        AttributeValue::Number(number) => u32::try_from(number).ok(),
        AttributeValue::Text(_) => None,
    };
    number
        .filter(|number| (minimum..=maximum).contains(number))
        .ok_or_else(|| invalid(code, &format!("Must be between {minimum} and {maximum}, if provided.")))
}

fn switch(code: AttributeCode, value: AttributeValue<'_>) -> Result<bool, AttributeError> {
    match value {
        AttributeValue::Number(0) => Ok(false),
        AttributeValue::Number(1) => Ok(true),
        _ => Err(invalid(code, "Valid values: true, false.")),
    }
}

fn choice<T>(
    code: AttributeCode,
    value: AttributeValue<'_>,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> Result<T, AttributeError> {
    let chosen = match value {
        AttributeValue::Text(text) => from_name(text),
        AttributeValue::Number(_) => None,
    };
    let valid = match code {
        AttributeCode::DeduplicationScope => "Valid values: messageGroup, queue.",
        _ => "Valid values: perQueue, perMessageGroupId.",
    };
    chosen.ok_or_else(|| invalid(code, valid))
}

fn unknown(code: AttributeCode) -> AttributeError {
    AttributeError::new(ErrorCode::InvalidAttributeName, format!("Unknown Attribute {}.", code.name()))
}

fn invalid(code: AttributeCode, reason: &str) -> AttributeError {
    let text = format!("Invalid value for the parameter {}. Reason: {reason}", code.name());
    AttributeError::new(ErrorCode::InvalidAttributeValue, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{NameDefaults, attribute_number, attribute_text};

    fn number(code: AttributeCode, value: u64) -> Attribute<'static> {
        Attribute::new(code, AttributeValue::Number(value))
    }

    fn text(code: AttributeCode, value: &str) -> Attribute<'_> {
        Attribute::new(code, AttributeValue::Text(value))
    }

    fn name(name: &str) -> QueueName {
        QueueName::parse("", "", name, &NameDefaults::default()).expect("a name")
    }

    fn create(queue: &str, given: &[Attribute<'_>]) -> Result<(Attributes, Details), AttributeError> {
        AttributeChange::parse(Entries::of(given))?.create(&name(queue))
    }

    fn set(
        before: &(Attributes, Details),
        given: &[Attribute<'_>],
    ) -> Result<(Attributes, Details), AttributeError> {
        AttributeChange::parse(Entries::of(given))?.set(before.0, &before.1)
    }

    fn fifo(given: &[Attribute<'_>]) -> Result<(Attributes, Details), AttributeError> {
        let mut all = vec![number(AttributeCode::FifoQueue, 1)];
        all.extend_from_slice(given);
        create("q.fifo", &all)
    }

    #[track_caller]
    fn refused<T>(result: Result<T, AttributeError>, code: ErrorCode, text: &str) {
        let Err(error) = result else { panic!("it was to be refused: {text}") };
        assert_eq!((error.code, &*error.text), (code, text));
    }

    #[test]
    fn numbers_have_their_ranges() {
        let with_reuse = [(AttributeCode::KmsDataKeyReusePeriodSeconds, 60, 86_400)];
        for (code, minimum, maximum) in RANGES.into_iter().chain(with_reuse) {
            for good in [minimum, maximum] {
                let (attributes, details) = create("q", &[number(code, good.into())]).expect("in range");
                assert_eq!(attribute_number(&attributes, &details, code), Some(good.into()));
            }
            let expected = format!(
                "Invalid value for the parameter {}. Reason: Must be between {minimum} and {maximum}, if provided.",
                code.name()
            );
            for bad in [u64::from(maximum) + 1, u64::from(minimum).wrapping_sub(1), 1 << 32, u64::MAX] {
                refused(create("q", &[number(code, bad)]), ErrorCode::InvalidAttributeValue, &expected);
            }
            for bad in ["", "30", "x"] {
                refused(create("q", &[text(code, bad)]), ErrorCode::InvalidAttributeValue, &expected);
            }
        }
    }

    #[test]
    fn defaults_are_those_of_sqs() {
        let (attributes, details) = create("q", &[]).expect("nothing is given");
        for (code, default) in [
            (AttributeCode::VisibilityTimeout, Some(30)),
            (AttributeCode::DelaySeconds, Some(0)),
            (AttributeCode::ReceiveMessageWaitTimeSeconds, Some(0)),
            (AttributeCode::MessageRetentionPeriod, Some(345_600)),
            (AttributeCode::MaximumMessageSize, Some(1_048_576)),
            (AttributeCode::SqsManagedSseEnabled, Some(1)),
            (AttributeCode::KmsDataKeyReusePeriodSeconds, None),
            (AttributeCode::FifoQueue, None),
            (AttributeCode::ContentBasedDeduplication, None),
        ] {
            assert_eq!(attribute_number(&attributes, &details, code), default, "{}", code.name());
        }
        let texts = AttributeCode::ALL.iter().filter(|code| code.is_text());
        assert!(texts.clone().all(|&code| attribute_text(&attributes, &details, code).is_none()));
        let (attributes, details) = fifo(&[]).expect("a FIFO queue");
        let shown = |code| attribute_text(&attributes, &details, code);
        assert_eq!(shown(AttributeCode::DeduplicationScope), Some("queue"));
        assert_eq!(shown(AttributeCode::FifoThroughputLimit), Some("perQueue"));
        assert_eq!(attribute_number(&attributes, &details, AttributeCode::FifoQueue), Some(1));
        assert_eq!(
            attribute_number(&attributes, &details, AttributeCode::ContentBasedDeduplication),
            Some(0)
        );
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for &code in AttributeCode::ALL.iter().filter(|code| code.is_read_only()) {
            let expected = format!("Unknown Attribute {}.", code.name());
            refused(create("q", &[number(code, 0)]), ErrorCode::InvalidAttributeName, &expected);
        }
        let unknown = Attribute { number: 9_999, value: 0, text: None };
        refused(create("q", &[unknown]), ErrorCode::InvalidAttributeName, "Unknown Attribute 9999.");
    }

    #[test]
    fn switches_and_choices_have_their_values() {
        for code in [
            AttributeCode::FifoQueue,
            AttributeCode::ContentBasedDeduplication,
            AttributeCode::SqsManagedSseEnabled,
        ] {
            let expected = format!(
                "Invalid value for the parameter {}. Reason: Valid values: true, false.",
                code.name()
            );
            refused(fifo(&[number(code, 2)]), ErrorCode::InvalidAttributeValue, &expected);
            refused(fifo(&[text(code, "true")]), ErrorCode::InvalidAttributeValue, &expected);
        }
        for (code, valid) in [
            (AttributeCode::DeduplicationScope, "messageGroup, queue"),
            (AttributeCode::FifoThroughputLimit, "perQueue, perMessageGroupId"),
        ] {
            let expected =
                format!("Invalid value for the parameter {}. Reason: Valid values: {valid}.", code.name());
            for bad in ["", "Queue", "x"] {
                refused(fifo(&[text(code, bad)]), ErrorCode::InvalidAttributeValue, &expected);
            }
            refused(fifo(&[number(code, 0)]), ErrorCode::InvalidAttributeValue, &expected);
        }
    }

    #[test]
    fn the_name_and_the_kind_belong_together() {
        let code = ErrorCode::InvalidParameterValue;
        let error = create("q.fifo", &[]).expect_err("it does not say that it is a FIFO queue");
        assert!(error.code == code && error.text.starts_with("Can only include alphanumeric characters"));
        let error = create("q", &[number(AttributeCode::FifoQueue, 1)]).expect_err("no suffix");
        assert!(
            error.code == code && error.text.contains("must end with .fifo suffix and be 1 to 80 in length.")
        );
        // A standard queue does not have the attribute, not even as a no.
        refused(
            create("q", &[number(AttributeCode::FifoQueue, 0)]),
            ErrorCode::InvalidAttributeName,
            "Unknown Attribute FifoQueue.",
        );
        let (standard, queue) = (create("q", &[]).expect("a queue"), fifo(&[]).expect("a queue"));
        assert!(set(&queue, &[number(AttributeCode::FifoQueue, 1)]).is_ok());
        refused(
            set(&queue, &[number(AttributeCode::FifoQueue, 0)]),
            ErrorCode::InvalidAttributeValue,
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        );
        for is_fifo in [0, 1] {
            refused(
                set(&standard, &[number(AttributeCode::FifoQueue, is_fifo)]),
                ErrorCode::InvalidAttributeName,
                "Unknown Attribute FifoQueue.",
            );
        }
    }

    #[test]
    fn attributes_of_fifo_queues_are_theirs_alone() {
        let standard = create("q", &[]).expect("a queue");
        for (given, expected) in [
            (
                number(AttributeCode::ContentBasedDeduplication, 0),
                "Unknown Attribute ContentBasedDeduplication.",
            ),
            (
                text(AttributeCode::DeduplicationScope, "queue"),
                "You can specify the DeduplicationScope only when FifoQueue is set to true.",
            ),
            (
                text(AttributeCode::FifoThroughputLimit, "perQueue"),
                "You can specify the FifoThroughputLimit only when FifoQueue is set to true.",
            ),
        ] {
            refused(create("q", &[given]), ErrorCode::InvalidAttributeName, expected);
            refused(set(&standard, &[given]), ErrorCode::InvalidAttributeName, expected);
            assert!(fifo(&[given]).is_ok());
        }
    }

    #[test]
    fn a_limit_per_group_needs_the_scope_of_groups() {
        let scope = |scope| text(AttributeCode::DeduplicationScope, scope);
        let limit = text(AttributeCode::FifoThroughputLimit, "perMessageGroupId");
        let expected = "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.";
        refused(fifo(&[limit]), ErrorCode::InvalidParameterValue, expected);
        let both = fifo(&[limit, scope("messageGroup")]).expect("high throughput");
        refused(set(&both, &[scope("queue")]), ErrorCode::InvalidParameterValue, expected);
        let grouped = fifo(&[scope("messageGroup")]).expect("a scope");
        let fifo = set(&grouped, &[limit]).expect("the scope is there").0.fifo.expect("a FIFO queue");
        assert_eq!(fifo.throughput, ThroughputLimit::PerMessageGroup);
    }

    #[test]
    fn one_kind_of_encryption_at_a_time() {
        let (key, managed) = (AttributeCode::KmsMasterKeyId, AttributeCode::SqsManagedSseEnabled);
        let reuse = AttributeCode::KmsDataKeyReusePeriodSeconds;
        refused(
            create("q", &[text(key, "alias/aws/sqs"), number(managed, 1)]),
            ErrorCode::InvalidAttributeName,
            "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or \
             SQS SSE.",
        );
        let shown = |queue: &(Attributes, Details)| {
            let number = |code| attribute_number(&queue.0, &queue.1, code);
            (attribute_text(&queue.0, &queue.1, key).map(str::to_owned), number(reuse), number(managed))
        };
        let keyed = create("q", &[text(key, "alias/aws/sqs")]).expect("a key");
        assert_eq!(shown(&keyed), (Some("alias/aws/sqs".into()), Some(300), Some(0)));
        let managed_again = set(&keyed, &[number(managed, 1)]).expect("a switch");
        assert_eq!(shown(&managed_again), (None, None, Some(1)));
        let neither = set(&keyed, &[text(key, "")]).expect("reset");
        assert_eq!(shown(&neither), (None, None, Some(0)));
        let slow = set(&keyed, &[number(reuse, 600), number(managed, 0)]).expect("a key has a period");
        assert_eq!(shown(&slow), (Some("alias/aws/sqs".into()), Some(600), Some(0)));
        let long = "k".repeat(2_049);
        assert!(create("q", &[text(key, &long)]).is_err() && create("q", &[text(key, &long[1..])]).is_ok());
    }

    #[test]
    fn empty_texts_reset_policies() {
        let policies = [
            text(AttributeCode::Policy, r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"*"}}"#),
            text(
                AttributeCode::RedrivePolicy,
                r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:d","maxReceiveCount":3}"#,
            ),
            text(AttributeCode::RedriveAllowPolicy, r#"{"redrivePermission":"denyAll"}"#),
        ];
        for given in policies {
            let code = given.code().expect("a known one");
            let queue = create("q", &[given]).expect("a policy");
            assert_eq!(attribute_text(&queue.0, &queue.1, code), given.text);
            let reset = set(&queue, &[text(code, "")]).expect("a reset");
            assert_eq!(reset, create("q", &[]).expect("nothing is given"));
            assert_eq!(create("q", &[text(code, "")]).expect("a reset of nothing"), reset);
            let expected =
                format!("Invalid value for the parameter {}. Reason: Must be a text.", code.name());
            refused(create("q", &[number(code, 0)]), ErrorCode::InvalidAttributeValue, &expected);
        }
    }

    #[test]
    fn only_what_was_given_is_compared() {
        let change = |given: &[Attribute<'_>]| AttributeChange::parse(Entries::of(given)).expect("in range");
        let given = [number(AttributeCode::DelaySeconds, 5)];
        let (attributes, details) = create("q", &given).expect("in range");
        assert_eq!(change(&given).differs_from(&attributes, &details), None);
        assert_eq!(change(&[]).differs_from(&attributes, &details), None);
        for (given, code) in [
            (number(AttributeCode::DelaySeconds, 0), AttributeCode::DelaySeconds),
            (number(AttributeCode::SqsManagedSseEnabled, 0), AttributeCode::SqsManagedSseEnabled),
            (
                number(AttributeCode::KmsDataKeyReusePeriodSeconds, 60),
                AttributeCode::KmsDataKeyReusePeriodSeconds,
            ),
            (text(AttributeCode::KmsMasterKeyId, "k"), AttributeCode::KmsMasterKeyId),
            (number(AttributeCode::FifoQueue, 1), AttributeCode::FifoQueue),
            (
                text(AttributeCode::RedriveAllowPolicy, r#"{"redrivePermission":"denyAll"}"#),
                AttributeCode::RedriveAllowPolicy,
            ),
        ] {
            assert_eq!(change(&[given]).differs_from(&attributes, &details), Some(code));
        }
        let same =
            [number(AttributeCode::KmsDataKeyReusePeriodSeconds, 300), text(AttributeCode::Policy, "")];
        assert_eq!(change(&same).differs_from(&attributes, &details), None);
    }
}
