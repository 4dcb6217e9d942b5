//! Who may do what with a queue: the JSON of the attribute Policy, checked, kept, and extended by permissions.
//!
//! Nothing here is enforced; what was given is given back letter for letter. A permission that is
//! added or taken away writes the policy anew, with the other statements as they were.

use serde_json::{Map, Value, json};
use tenpin_protocol::{Entries, ErrorCode, Text};

use super::error::AttributeError;
use super::name::{QueueName, is_account};

/// Most bytes of a policy; a longer one is refused.
pub(crate) const POLICY_BYTES_MAX: usize = 8_192;
/// Most statements of a policy.
const STATEMENTS_MAX: usize = 20;
/// Most actions of a permission that is added.
const ACTIONS_MAX: usize = 7;
/// Most characters of a permission's label.
const LABEL_CHARACTERS_MAX: usize = 80;
/// Most accounts of a permission that is added.
const ACCOUNTS_MAX: usize = 50;

/// What a permission can allow, as SQS names it.
const ACTIONS: [&str; 8] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "PurgeQueue",
];

/// The attribute Policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    text: Box<str>,
}

/// A statement to add to a policy, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Permission<'a> {
    /// Its label, by which it can be taken away.
    pub label: &'a str,
    /// Whom it allows something.
    pub accounts: Entries<'a, Text<'a>>,
    /// What it allows them.
    pub actions: Entries<'a, Text<'a>>,
}

impl Policy {
    /// Checks a policy.
    pub fn parse(text: &str) -> Result<Self, AttributeError> {
        let refuse = || {
            AttributeError::new(ErrorCode::InvalidAttributeValue, "Invalid value for the parameter Policy.")
        };
        if text.len() > POLICY_BYTES_MAX {
            return Err(too_long());
        }
        let fields = read(text).ok_or_else(refuse)?;
        let count = statements(&fields).filter(|statements| statements.iter().all(is_statement));
        check_count(count.ok_or_else(refuse)?.len())?;
        Ok(Self { text: text.into() })
    }

    /// The policy as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it says the same, in whatever order and spacing.
    pub fn says_what(&self, other: &Self) -> bool {
        read(&self.text) == read(&other.text)
    }

    /// The policy of this queue with one statement more.
    pub fn with_permission(
        before: Option<&Self>,
        queue: &QueueName,
        permission: &Permission<'_>,
    ) -> Result<Self, AttributeError> {
        permission.check()?;
        let arn = queue.arn();
        let mut fields = match before.and_then(|policy| read(&policy.text)) {
            Some(fields) => fields,
            None => Map::from_iter([
                ("Version".to_owned(), json!("2008-10-17")),
                ("Id".to_owned(), json!(format!("{arn}/SQSDefaultPolicy"))),
            ]),
        };
        let mut list = statements(&fields).unwrap_or_default().to_vec();
        if list.iter().any(|statement| label_of(statement) == Some(permission.label)) {
            let text =
                format!("Value {} for parameter Label is invalid. Reason: Already exists.", permission.label);
            return Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
        }
        list.push(permission.statement(&arn));
        check_count(list.len())?;
        fields.insert("Statement".to_owned(), Value::Array(list));
        Self::written(fields)
    }

    /// The policy without the statement of this label; `None`: nothing is left of it.
    pub fn without_permission(before: Option<&Self>, label: &str) -> Result<Option<Self>, AttributeError> {
        let missing = || {
            let text = format!("Value {label} for parameter Label is invalid. Reason: can't find label.");
            AttributeError::new(ErrorCode::InvalidParameterValue, text)
        };
        let mut fields = before.and_then(|policy| read(&policy.text)).ok_or_else(missing)?;
        let mut list = statements(&fields).unwrap_or_default().to_vec();
        let place = list.iter().position(|statement| label_of(statement) == Some(label));
        list.remove(place.ok_or_else(missing)?);
        if list.is_empty() {
            return Ok(None);
        }
        fields.insert("Statement".to_owned(), Value::Array(list));
        Self::written(fields).map(Some)
    }

    fn written(fields: Map<String, Value>) -> Result<Self, AttributeError> {
        let text = Value::Object(fields).to_string();
        if text.len() > POLICY_BYTES_MAX { Err(too_long()) } else { Ok(Self { text: text.into() }) }
    }
}

impl Permission<'_> {
    fn check(&self) -> Result<(), AttributeError> {
        let refuse = |text: String| Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
        let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let label = self.label;
        if !(1..=LABEL_CHARACTERS_MAX).contains(&label.len()) || !label.bytes().all(is_label) {
            return refuse(format!(
                "Value {label} for parameter Label is invalid. Reason: Can only include alphanumeric \
                 characters, hyphens, or underscores. 1 to {LABEL_CHARACTERS_MAX} in length."
            ));
        }
        for (list, parameter) in [(self.accounts, "AWSAccountIds"), (self.actions, "Actions")] {
            if list.is_empty() {
                let text = format!("The request must contain the parameter {parameter}.");
                return Err(AttributeError::new(ErrorCode::MissingRequiredParameter, text));
            }
        }
        let over = |what: &str, count: usize, maximum: usize| {
            let text = format!("{count} {what} were found, maximum allowed is {maximum}.");
            Err(AttributeError::new(ErrorCode::OverLimit, text))
        };
        if self.actions.len() > ACTIONS_MAX {
            return over("Actions", self.actions.len(), ACTIONS_MAX);
        }
        if self.accounts.len() > ACCOUNTS_MAX {
            return over("AWSAccountIds", self.accounts.len(), ACCOUNTS_MAX);
        }
        if let Some(account) = self.accounts.iter().find(|account| !is_account(account.text)) {
            return refuse(format!(
                "Value {} for parameter PrincipalId is invalid. Reason: Unable to verify.",
                account.text
            ));
        }
        if let Some(action) = self.actions.iter().find(|action| !ACTIONS.contains(&action.text)) {
            return refuse(format!(
                "Value SQS:{} for parameter ActionName is invalid. Reason: Please refer to the appropriate \
                 WSDL for a list of valid actions.",
                action.text
            ));
        }
        Ok(())
    }

    fn statement(&self, queue_arn: &str) -> Value {
        let one_or_all = |mut texts: Vec<String>| match texts.len() {
            1 => Value::String(texts.remove(0)),
            _ => Value::Array(texts.into_iter().map(Value::String).collect()),
        };
        let principals = self.accounts.iter().map(|account| format!("arn:aws:iam::{}:root", account.text));
        let actions = self.actions.iter().map(|action| format!("SQS:{}", action.text));
        json!({
            "Sid": self.label,
            "Effect": "Allow",
            "Principal": { "AWS": one_or_all(principals.collect()) },
            "Action": one_or_all(actions.collect()),
            "Resource": queue_arn,
        })
    }
}

/// The fields of a policy; serde_json bounds how deep it may nest.
fn read(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// The statements of a policy, of which a single one may stand without a list.
fn statements(fields: &Map<String, Value>) -> Option<&[Value]> {
    match fields.get("Statement")? {
        Value::Array(list) => Some(list),
        one => Some(std::slice::from_ref(one)),
    }
}

fn is_statement(statement: &Value) -> bool {
    let Some(fields) = statement.as_object() else { return false };
    let has = |names: [&str; 2]| names.iter().any(|name| fields.contains_key(*name));
    let effect = fields.get("Effect").and_then(Value::as_str);
    matches!(effect, Some("Allow" | "Deny"))
        && has(["Action", "NotAction"])
        && has(["Principal", "NotPrincipal"])
}

fn label_of(statement: &Value) -> Option<&str> {
    statement.get("Sid")?.as_str()
}

fn check_count(count: usize) -> Result<(), AttributeError> {
    if count <= STATEMENTS_MAX {
        return Ok(());
    }
    let text =
        format!("{count} statements were found in the submitted policy, max allowed is {STATEMENTS_MAX}");
    Err(AttributeError::new(ErrorCode::OverLimit, text))
}

fn too_long() -> AttributeError {
    let text = format!("Policy length exceeds {POLICY_BYTES_MAX} bytes");
    AttributeError::new(ErrorCode::OverLimit, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tenpin_protocol::ERROR_TEXT_BYTES_MAX;

    use super::*;
    use crate::catalog::NameDefaults;

    fn queue() -> QueueName {
        QueueName::parse("123456789012", "us-east-1", "q", &NameDefaults::default()).expect("a name")
    }

    fn texts<'a>(texts: &[&'a str]) -> Vec<Text<'a>> {
        texts.iter().map(|&text| Text { text }).collect()
    }

    fn add(
        before: Option<&Policy>,
        label: &str,
        accounts: &[&str],
        actions: &[&str],
    ) -> Result<Policy, AttributeError> {
        let (accounts, actions) = (texts(accounts), texts(actions));
        let permission =
            Permission { label, accounts: Entries::of(&accounts), actions: Entries::of(&actions) };
        Policy::with_permission(before, &queue(), &permission)
    }

    #[test]
    fn a_permission_writes_the_policy_as_sqs_does() {
        let policy = add(None, "alice", &["111122223333"], &["SendMessage"]).expect("a permission");
        assert_eq!(
            policy.text(),
            r#"{"Version":"2008-10-17","Id":"arn:aws:sqs:us-east-1:123456789012:q/SQSDefaultPolicy","Statement":[{"Sid":"alice","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"SQS:SendMessage","Resource":"arn:aws:sqs:us-east-1:123456789012:q"}]}"#
        );
        let two = add(Some(&policy), "both", &["111122223333", "444455556666"], &["*", "PurgeQueue"]);
        let two = two.expect("another");
        assert!(two.text().contains(
            r#""Principal":{"AWS":["arn:aws:iam::111122223333:root","arn:aws:iam::444455556666:root"]},"Action":["SQS:*","SQS:PurgeQueue"]"#
        ));
        assert!(Policy::parse(two.text()).is_ok());
        let one = Policy::without_permission(Some(&two), "both").expect("it is there");
        assert_eq!(one.as_ref().map(Policy::text), Some(policy.text()));
        assert_eq!(Policy::without_permission(one.as_ref(), "alice"), Ok(None));
    }

    #[test]
    fn permissions_are_refused_with_the_reason() {
        let account = "111122223333";
        let policy = add(None, "alice", &[account], &["SendMessage"]).expect("a permission");
        let label = "l".repeat(81);
        let many: Vec<_> = vec![account; 51];
        for (label, accounts, actions, code, text) in [
            (
                "alice",
                &[account][..],
                &["SendMessage"][..],
                ErrorCode::InvalidParameterValue,
                "Reason: Already exists.",
            ),
            ("", &[account], &["*"], ErrorCode::InvalidParameterValue, "parameter Label is invalid"),
            (&label, &[account], &["*"], ErrorCode::InvalidParameterValue, "parameter Label is invalid"),
            ("a b", &[account], &["*"], ErrorCode::InvalidParameterValue, "parameter Label is invalid"),
            ("b", &[], &["*"], ErrorCode::MissingRequiredParameter, "parameter AWSAccountIds."),
            ("b", &[account], &[], ErrorCode::MissingRequiredParameter, "parameter Actions."),
            ("b", &[account], &["*"; 8], ErrorCode::OverLimit, "8 Actions were found, maximum allowed is 7."),
            ("b", &many, &["*"], ErrorCode::OverLimit, "51 AWSAccountIds were found"),
            (
                "b",
                &["12"],
                &["*"],
                ErrorCode::InvalidParameterValue,
                "Value 12 for parameter PrincipalId is invalid.",
            ),
            (
                "b",
                &[account],
                &["Fly"],
                ErrorCode::InvalidParameterValue,
                "Value SQS:Fly for parameter ActionName",
            ),
            ("b", &[account], &["sendmessage"], ErrorCode::InvalidParameterValue, "parameter ActionName"),
        ] {
            let error = add(Some(&policy), label, accounts, actions).expect_err(text);
            assert_eq!(error.code, code, "{}", error.text);
            assert!(error.text.contains(text), "{}", error.text);
        }
        assert!(add(None, &label[..80], &[account], &["*"; 7]).is_ok());
        for before in [None, Some(&policy)] {
            let error = Policy::without_permission(before, "bob").expect_err("no such label");
            assert_eq!(error.text, "Value bob for parameter Label is invalid. Reason: can't find label.");
        }
    }

    fn with_statements(count: usize) -> String {
        let one = r#"{"Effect":"Allow","Principal":"*","Action":"sqs:*","Resource":"*"}"#;
        format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, vec![one; count].join(","))
    }

    #[test]
    fn policies_are_kept_as_given_and_bounded() {
        let text = format!("  {} ", with_statements(20));
        let policy = Policy::parse(&text).expect("twenty");
        assert_eq!(policy.text(), text);
        assert!(policy.says_what(&Policy::parse(text.trim()).expect("the same")));
        let error = Policy::parse(&with_statements(22)).expect_err("too many");
        assert_eq!(error.code, ErrorCode::OverLimit);
        assert_eq!(error.text, "22 statements were found in the submitted policy, max allowed is 20");
        assert!(add(Some(&policy), "more", &["111122223333"], &["*"]).is_err());
        let long = format!("{}{}", with_statements(1), " ".repeat(POLICY_BYTES_MAX));
        assert_eq!(Policy::parse(&long).expect_err("too long").code, ErrorCode::OverLimit);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in [
            "x",
            "[]",
            "{}",
            r#"{"Statement":[1]}"#,
            r#"{"Statement":[{"Effect":"allow","Principal":"*","Action":"*"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":"*"}]}"#,
            r#"{"Statement":{"Effect":"Allow","Principal":"*"}}"#,
        ] {
            let error = Policy::parse(text).expect_err(text);
            assert_eq!(error.code, ErrorCode::InvalidAttributeValue);
            assert_eq!(error.text, "Invalid value for the parameter Policy.");
        }
    }

    /// JSON that nests, some of it a policy or nearly one, and some of it broken.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| format!("{number:e}")),
            prop_oneof![Just("Allow"), Just("*"), Just("byQueue"), Just("ä\\n\\u0000"), Just("\u{0}")]
                .prop_map(|text| format!("\"{text}\"")),
        ];
        let keys = prop_oneof![
            Just("Statement"),
            Just("Effect"),
            Just("Action"),
            Just("Principal"),
            Just("Sid"),
            Just("deadLetterTargetArn"),
            Just("maxReceiveCount"),
            Just("redrivePermission"),
            Just("sourceQueueArns"),
        ];
        let tree = leaf.prop_recursive(8, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|list| format!("[{}]", list.join(","))),
                prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|fields| {
                    let fields: Vec<_> =
                        fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        });
        prop_oneof![
            6 => tree.clone(),
            2 => (tree, any::<prop::sample::Index>()).prop_map(|(text, at)| {
                let ends: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
                text[..*at.get(&ends)].to_owned()
            }),
            1 => (1..6_000_usize).prop_map(|depth| "[".repeat(depth)),
            1 => (1..3_000_usize).prop_map(|depth| format!("{}1{}", r#"{"Statement":"#.repeat(depth), "}".repeat(depth))),
        ]
    }

    proptest! {
        /// Whatever comes, it is taken as it was given or refused in few words; nothing panics.
        #[test]
        fn any_json_is_taken_or_refused(text in json()) {
            use crate::catalog::{Redrive, RedriveAllow};
            let errors = [
                Policy::parse(&text).map(|policy| assert_eq!(policy.text(), text)).err(),
                Redrive::parse(&text).map(|policy| assert_eq!(policy.text(), text)).err(),
                RedriveAllow::parse(&text).map(|policy| assert_eq!(policy.text(), text)).err(),
            ];
            for error in errors.into_iter().flatten() {
                prop_assert!(error.text.len() <= ERROR_TEXT_BYTES_MAX, "{}", error.text);
            }
            if let Ok(policy) = Policy::parse(&text) {
                let _ = add(Some(&policy), "label", &["111122223333"], &["*"]);
                let _ = Policy::without_permission(Some(&policy), "Allow");
            }
        }
    }
}
