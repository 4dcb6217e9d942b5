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
        let target = target.as_str().filter(|target| target.starts_with("arn:"));
        let target = target.ok_or_else(|| refuse("Invalid value for deadLetterTargetArn."))?;
        let target = QueueName::from_arn(target)
            .ok_or_else(|| refuse("Dead-letter target ARN should be fully qualified ARN."))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "arn:aws:sqs:us-east-1:123456789012:dead";

    fn name(name: &str) -> QueueName {
        QueueName::parse("123456789012", "us-east-1", name, &NameDefaults::default()).expect("a name")
    }

    #[test]
    fn redrive_policies_are_parsed_and_kept() {
        for (count, expected) in [("1", 1), ("1000", 1_000), ("\"7\"", 7), ("\"0010\"", 10)] {
            let text = format!(r#"{{ "maxReceiveCount": {count},  "deadLetterTargetArn": "{TARGET}" }}"#);
            let redrive = Redrive::parse(&text).expect("a policy");
            assert_eq!((redrive.max_receive_count, redrive.text()), (expected, text.as_str()));
            assert_eq!(redrive.target, name("dead"));
        }
    }

    #[test]
    fn redrive_policies_are_refused_with_the_reason() {
        let with_count =
            |count: &str| format!(r#"{{"deadLetterTargetArn":"{TARGET}","maxReceiveCount":{count}}}"#);
        let with_target = |target: &str| format!(r#"{{"deadLetterTargetArn":{target},"maxReceiveCount":1}}"#);
        let count = "valid values are from 1 to 1000 both inclusive.";
        let arn = "Reason: Dead-letter target ARN should be fully qualified ARN.";
        let json =
            "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map.";
        for (text, expected) in [
            (
                "{}".to_owned(),
                "Value {} for parameter RedrivePolicy is invalid. Reason: Redrive policy does not \
                               contain mandatory attribute: maxReceiveCount.",
            ),
            (
                r#"{"maxReceiveCount":1}"#.to_owned(),
                "does not contain mandatory attribute: deadLetterTargetArn.",
            ),
            (with_count("0"), "Invalid value for maxReceiveCount: 0, valid values"),
            (with_count("1001"), count),
            (with_count("-1"), count),
            (with_count("1.5"), count),
            (with_count("\"\""), count),
            (with_count("\"+1\""), count),
            (with_count("null"), count),
            (with_count("99999999999999999999999"), count),
            (with_target("1"), "Reason: Invalid value for deadLetterTargetArn."),
            (with_target("\"dead\""), "Reason: Invalid value for deadLetterTargetArn."),
            (with_target("\"arn:aws:sns:us-east-1:123456789012:dead\""), arn),
            (with_target("\"arn:aws:sqs:us-east-1:12:dead\""), arn),
            (with_target("\"arn:aws:sqs:us-east-1:123456789012:a b\""), arn),
            (with_target("\"arn:aws:sqs::123456789012:dead\""), arn),
            (
                format!(r#"{{"deadLetterTargetArn":"{TARGET}","maxReceiveCount":1,"more":1}}"#),
                "Reason: Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].",
            ),
            ("[]".to_owned(), json),
            ("{".to_owned(), json),
            ("1".to_owned(), json),
            ("[".repeat(4_000), json),
            (format!("{{}}{}", " ".repeat(REDRIVE_BYTES_MAX)), json),
        ] {
            let error = Redrive::parse(&text).expect_err(&text);
            assert_eq!(error.code, ErrorCode::InvalidParameterValue, "{text}");
            assert!(error.text.contains(expected), "{}", error.text);
        }
    }

    #[test]
    fn a_long_policy_does_not_hide_what_is_wrong_with_it() {
        let text = format!(r#"{{"maxReceiveCount":"{}"}}"#, "ä".repeat(2_000));
        let error = Redrive::parse(&text).expect_err("no target");
        assert!(error.text.len() < 1_000 && error.text.contains("deadLetterTargetArn"));
    }

    #[test]
    fn allow_policies_say_who_may() {
        let allows = |text: &str, source: &str| {
            RedriveAllow::parse(text).unwrap_or_else(|error| panic!("{}", error.text)).allows(&name(source))
        };
        assert!(allows(r#"{"redrivePermission":"allowAll"}"#, "a"));
        assert!(!allows(r#"{"redrivePermission":"denyAll"}"#, "a"));
        let only_a =
            r#"{"redrivePermission":"byQueue","sourceQueueArns":["arn:aws:sqs:us-east-1:123456789012:a"]}"#;
        assert!(allows(only_a, "a") && !allows(only_a, "A"));
    }

    #[test]
    fn allow_policies_are_refused_with_the_reason() {
        let by_queue = |count: usize| {
            let sources: Vec<_> = (0..count).map(|number| format!("{TARGET}{number}")).collect();
            format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":{sources:?}}}"#)
        };
        assert!(RedriveAllow::parse(&by_queue(10)).is_ok());
        let format = "as it’s in an unsupported format.";
        let none = "you must also specify one or more sourceQueueArns values.";
        for (text, expected) in [
            (by_queue(11), "The maximum number of source queue ARNs you can specify is 10."),
            (by_queue(0), none),
            (r#"{"redrivePermission":"byQueue"}"#.to_owned(), none),
            (
                format!(r#"{{"redrivePermission":"denyAll","sourceQueueArns":["{TARGET}"]}}"#),
                "you must set redrivePermission to byQueue.",
            ),
            (r#"{"redrivePermission":"byQueue","sourceQueueArns":"x"}"#.to_owned(), format),
            (r#"{"redrivePermission":"byQueue","sourceQueueArns":["x"]}"#.to_owned(), format),
            (r#"{"redrivePermission":"byQueue","sourceQueueArns":[1]}"#.to_owned(), format),
            (r#"{"redrivePermission":"ALL"}"#.to_owned(), format),
            (r#"{"redrivePermission":"allowAll","more":1}"#.to_owned(), format),
            ("{}".to_owned(), format),
            ("null".to_owned(), format),
        ] {
            let error = RedriveAllow::parse(&text).expect_err(&text);
            assert_eq!(error.code, ErrorCode::InvalidParameterValue);
            assert!(error.text.contains(expected), "{}", error.text);
            assert!(error.text.contains("parameter RedriveAllowPolicy"), "{}", error.text);
        }
    }

    #[test]
    fn the_same_in_other_words_is_the_same() {
        let one = Redrive::parse(&format!(r#"{{"deadLetterTargetArn":"{TARGET}","maxReceiveCount":5}}"#));
        let two = Redrive::parse(&format!(r#"{{"maxReceiveCount":"5", "deadLetterTargetArn":"{TARGET}"}}"#));
        let (one, two) = (one.expect("a policy"), two.expect("a policy"));
        assert!(one.says_what(&two) && one != two);
    }
}
