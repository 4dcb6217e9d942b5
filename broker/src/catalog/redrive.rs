//! Where dead letters go, and from where they may come: the JSON of two attributes, parsed and kept.
//!
//! What was given is given back letter for letter. The parsed part is what the broker goes by.

use serde_json::{Map, Value};
use tenpin_protocol::ErrorCode;

use super::error::AttributeError;
use super::name::{NameDefaults, QueueName};

/// Most receives before a message is a dead letter.
const RECEIVES_MAX: u32 = 1_000;
/// Most queues that a policy allows by name.
const SOURCES_MAX: usize = 10;
/// Most bytes of such a policy: ten ARNs and their frame take under 2 KiB. A longer one is refused.
pub(crate) const REDRIVE_BYTES_MAX: usize = 8_192;

/// Bytes of a policy that a refusal shows; the rest is left out.
const TEXT_SHOWN_BYTES_MAX: usize = 640;

/// The attribute RedrivePolicy: where a queue's dead letters go, and when a message is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The dead-letter queue. It was there when this was set.
    pub target: QueueName,
    /// A message that has been received this often is moved instead of being delivered again.
    pub max_receive_count: u32,
    text: Box<str>,
}

/// The attribute RedriveAllowPolicy: which queues may send their dead letters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveAllow {
    permission: Permission,
    text: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permission {
    All,
    None,
    Queues(Box<[QueueName]>),
}

impl Redrive {
    /// Checks a policy. Whether its target is there is for who knows the queues.
    pub fn parse(text: &str) -> Result<Self, AttributeError> {
        let refuse = |reason: &str| invalid("RedrivePolicy", text, reason);
        let fields = object(text)
            .ok_or_else(|| unreadable("RedrivePolicy", "Redrive policy is not a valid JSON map."))?;
        let mandatory = |name: &str| {
            let missing = || refuse(&format!("Redrive policy does not contain mandatory attribute: {name}."));
            fields.get(name).ok_or_else(missing)
        };
        let (count, target) = (mandatory("maxReceiveCount")?, mandatory("deadLetterTargetArn")?);
        let Some(max_receive_count) = receive_count(count) else {
            return Err(refuse(&format!(
                "Invalid value for maxReceiveCount: {}, valid values are from 1 to {RECEIVES_MAX} both \
                 inclusive.",
                shown(count)
            )));
        };
        let target = target.as_str().and_then(QueueName::from_arn);
        let target = target.ok_or_else(|| refuse("Dead-letter target ARN should be fully qualified ARN."))?;
        if fields.len() > 2 {
            let reason = "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].";
            return Err(refuse(reason));
        }
        Ok(Self { target, max_receive_count, text: text.into() })
    }

    /// The policy as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it says the same, in whatever words.
    pub fn says_what(&self, other: &Self) -> bool {
        (&self.target, self.max_receive_count) == (&other.target, other.max_receive_count)
    }

    /// Why a queue cannot have this, though nothing is wrong with its form.
    pub(crate) fn refuse(&self, reason: &str) -> AttributeError {
        invalid("RedrivePolicy", &self.text, reason)
    }
}

impl RedriveAllow {
    /// Checks a policy.
    pub fn parse(text: &str) -> Result<Self, AttributeError> {
        let refuse = |reason: &str| {
            let reason = format!("Amazon SQS can't create the redrive allow policy. {reason}");
            invalid("RedriveAllowPolicy", text, &reason)
        };
        let unsupported = || {
            let reason =
                "Amazon SQS can't create the redrive allow policy, as it’s in an unsupported format.";
            unreadable("RedriveAllowPolicy", reason)
        };
        let fields = object(text).ok_or_else(unsupported)?;
        if fields.keys().any(|name| !["redrivePermission", "sourceQueueArns"].contains(&name.as_str())) {
            return Err(unsupported());
        }
        let sources = match fields.get("sourceQueueArns") {
            Some(Value::Array(sources)) => Some(sources),
            Some(_) => return Err(unsupported()),
            None => None,
        };
        let permission = match fields.get("redrivePermission").and_then(Value::as_str) {
            Some("byQueue") => {
                let sources = sources.filter(|sources| !sources.is_empty()).ok_or_else(|| {
                    refuse(
                        "When you specify the byQueue permission type, you must also specify one or more \
                         sourceQueueArns values.",
                    )
                })?;
                if sources.len() > SOURCES_MAX {
                    return Err(refuse(&format!(
                        "The maximum number of source queue ARNs you can specify is {SOURCES_MAX}."
                    )));
                }
                let source = |source: &Value| source.as_str().and_then(QueueName::from_arn);
                let sources: Option<_> = sources.iter().map(source).collect();
                Permission::Queues(sources.ok_or_else(unsupported)?)
            }
            Some("allowAll" | "denyAll") if sources.is_some() => {
                return Err(refuse(
                    "To specify one or more source queue ARNs, you must set redrivePermission to byQueue.",
                ));
            }
            Some("allowAll") => Permission::All,
            Some("denyAll") => Permission::None,
            _ => return Err(unsupported()),
        };
        Ok(Self { permission, text: text.into() })
    }

    /// Whether this queue may send its dead letters to the one that has the policy.
    pub fn allows(&self, source: &QueueName) -> bool {
        match &self.permission {
            Permission::All => true,
            Permission::None => false,
            Permission::Queues(sources) => sources.contains(source),
        }
    }

    /// The policy as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it says the same, in whatever words.
    pub fn says_what(&self, other: &Self) -> bool {
        self.permission == other.permission
    }
}

/// A number, or digits in a text, within its range.
fn receive_count(value: &Value) -> Option<u32> {
    let count = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let count = u32::try_from(count?).ok()?;
    (1..=RECEIVES_MAX).contains(&count).then_some(count)
}

/// The fields of a JSON object that is not too long; serde_json bounds how deep it may nest.
fn object(text: &str) -> Option<Map<String, Value>> {
    if text.len() > REDRIVE_BYTES_MAX {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// A value as it was given, without the quotes of a text.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unreadable(parameter: &str, reason: &str) -> AttributeError {
    let text = format!("Invalid value for the parameter {parameter}. Reason: {reason}");
    AttributeError::new(ErrorCode::InvalidParameterValue, text)
}

fn invalid(parameter: &str, text: &str, reason: &str) -> AttributeError {
    // A frame cuts long texts, and what is wrong stands at the end.
    let end = (0..=TEXT_SHOWN_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    let text = &text[..end.unwrap_or(0)];
    AttributeError::new(
        ErrorCode::InvalidParameterValue,
        format!("Value {text} for parameter {parameter} is invalid. Reason: {reason}"),
    )
}

impl QueueName {
    /// The queue that an ARN names.
    pub fn from_arn(arn: &str) -> Option<Self> {
        let mut parts = arn.strip_prefix("arn:aws:sqs:")?.splitn(3, ':');
        let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
        if region.is_empty() || account.is_empty() {
            return None;
        }
        Self::parse(account, region, name, &NameDefaults::default()).ok()
    }
}
