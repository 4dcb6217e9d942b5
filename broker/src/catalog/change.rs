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
