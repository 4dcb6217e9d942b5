//! Queues that the configuration says there are, checked before anything is started: what only the catalog
//! knows, whether a dead-letter queue exists, is found out when they are made.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, Entries, Tag};

use crate::catalog::{AttributeChange, NameDefaults, QueueName, Tags, set_tags};

/// After how many receives messages are dead letters where nothing is said.
const MAX_RECEIVE_COUNT_DEFAULT: u32 = 10;
/// How many receives can be said.
const MAX_RECEIVE_COUNTS: std::ops::RangeInclusive<u32> = 1..=1_000;

/// A queue that is there when the broker has started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSetting {
    /// Its name.
    pub name: String,
    /// Its account, where that is not the default.
    pub account: Option<String>,
    /// Its region, where that is not the default.
    pub region: Option<String>,
    /// Its attributes, by their names in SQS.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeSetting>,
    /// The queue that its dead letters go to, in the same account and region.
    pub dead_letter_queue: Option<String>,
    /// After how many receives they do, where it is not 10.
    pub max_receive_count: Option<u32>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// The value of an attribute of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum AttributeSetting {
    /// A switch.
    Switch(bool),
    /// A number.
    Number(i64),
    /// A text; numbers and switches can also be said as texts.
    Text(String),
}

impl std::fmt::Display for AttributeSetting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switch(switch) => write!(formatter, "{switch}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

impl QueueSetting {
    /// After how many receives messages go to the dead-letter queue.
    pub(crate) fn receives_max(&self) -> u32 {
        self.max_receive_count.unwrap_or(MAX_RECEIVE_COUNT_DEFAULT)
    }

    /// All attributes as texts; the name of a FIFO queue says that it is one.
    pub(crate) fn attribute_texts(&self) -> BTreeMap<&str, String> {
        let given = self.attributes.iter().map(|(name, value)| (name.as_str(), value.to_string()));
        let mut texts: BTreeMap<_, _> = given.collect();
        if self.name.ends_with(".fifo") {
            texts.entry("FifoQueue").or_insert_with(|| "true".to_owned());
        }
        texts
    }

    fn name(&self, name: &str, defaults: &NameDefaults) -> Result<QueueName, String> {
        let (account, region) = (self.account.as_deref(), self.region.as_deref());
        QueueName::parse(account.unwrap_or_default(), region.unwrap_or_default(), name, defaults)
            .map_err(|error| error.to_string())
    }

    /// Checks what can be checked without the catalog; gives the whole name.
    fn check(&self, defaults: &NameDefaults) -> Result<QueueName, String> {
        let name = self.name(&self.name, defaults)?;
        let texts = self.attribute_texts();
        let attributes: Vec<_> =
            texts.iter().map(|(name, text)| attribute(name, text)).collect::<Result<_, _>>()?;
        let tags: Vec<_> = self.tags.iter().map(|(key, value)| Tag { key, value }).collect();
        AttributeChange::parse(Entries::of(&attributes))
            .and_then(|change| change.create(&name))
            .and_then(|_| set_tags(&Tags::new(), Entries::of(&tags)))
            .map_err(|error| error.text.into_owned())?;
        self.check_dead_letters(&name, defaults)?;
        Ok(name)
    }

    fn check_dead_letters(&self, name: &QueueName, defaults: &NameDefaults) -> Result<(), String> {
        let Some(target) = &self.dead_letter_queue else {
            return match self.max_receive_count {
                Some(_) => Err("max_receive_count means nothing without dead_letter_queue".to_owned()),
                None => Ok(()),
            };
        };
        let of_target = |problem: String| format!("dead_letter_queue {target:?}: {problem}");
        let target_name = self.name(target, defaults).map_err(of_target)?;
        if target_name == *name {
            return Err("a queue cannot be its own dead_letter_queue".to_owned());
        }
        if target_name.is_fifo() != name.is_fifo() {
            let text = "a FIFO queue's has to be a FIFO queue, and a standard one's a standard one";
            return Err(of_target(text.to_owned()));
        }
        if !MAX_RECEIVE_COUNTS.contains(&self.receives_max()) {
            let (least, most) = (MAX_RECEIVE_COUNTS.start(), MAX_RECEIVE_COUNTS.end());
            return Err(format!(
                "max_receive_count is {}: it must be from {least} to {most}",
                self.receives_max()
            ));
        }
        Ok(())
    }
}

fn attribute<'a>(name: &str, text: &'a str) -> Result<Attribute<'a>, String> {
    let code = AttributeCode::from_name(name).filter(|code| !code.is_read_only());
    let code = code.ok_or_else(|| format!("no attribute is called {name}"))?;
    let number = if code.is_text() {
        return Ok(Attribute::new(code, AttributeValue::Text(text)));
    } else if code.is_switch() {
        let switch = text.to_ascii_lowercase().parse::<bool>();
        switch.map(u64::from).map_err(|_| format!("{name} is {text}: it must be true or false"))?
    } else {
        text.parse().map_err(|_| format!("{name} is {text}: it must be a whole number"))?
    };
    Ok(Attribute::new(code, AttributeValue::Number(number)))
}

/// The first thing that is wrong with them.
pub(super) fn problem_of(queues: &[QueueSetting], defaults: &NameDefaults) -> Option<String> {
    let mut names = BTreeSet::new();
    queues.iter().find_map(|queue| {
        let problem = match queue.check(defaults) {
            Ok(name) => (!names.insert(name)).then(|| "it is there twice".to_owned()),
            Err(problem) => Some(problem),
        };
        problem.map(|problem| format!("the queue {:?} of the configuration: {problem}", queue.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        queues: Vec<QueueSetting>,
    }

    fn problem(text: &str) -> Option<String> {
        let file: File = toml::from_str(text).expect("what is tried is no matter of TOML");
        problem_of(&file.queues, &NameDefaults::default())
    }

    #[test]
    fn what_a_broker_would_refuse_is_found_before_it_is_started() {
        for (text, words) in [
            ("[[queues]]\nname = 'a b'", "\"a b\""),
            ("[[queues]]\nname = 'a'\nregion = 'A'", "A region is"),
            ("[[queues]]\nname = 'a'\n[[queues]]\nname = 'a'", "twice"),
            ("[[queues]]\nname = 'a'\nattributes = { VisibilityTimeot = 1 }", "called VisibilityTimeot"),
            ("[[queues]]\nname = 'a'\nattributes = { QueueArn = 'x' }", "called QueueArn"),
            ("[[queues]]\nname = 'a'\nattributes = { VisibilityTimeout = 43201 }", "between 0 and 43200"),
            ("[[queues]]\nname = 'a'\nattributes = { DelaySeconds = -1 }", "a whole number"),
            ("[[queues]]\nname = 'a'\nattributes = { FifoQueue = true }", "FIFO"),
            ("[[queues]]\nname = 'a.fifo'\nattributes = { FifoQueue = 'x' }", "true or false"),
            ("[[queues]]\nname = 'a.fifo'\nattributes = { FifoQueue = false }", ".fifo"),
            ("[[queues]]\nname = 'a'\ntags = { 'aws:x' = '1' }", "aws:"),
            ("[[queues]]\nname = 'a'\ndead_letter_queue = 'a'", "its own"),
            ("[[queues]]\nname = 'a'\ndead_letter_queue = 'b c'", "\"b c\""),
            ("[[queues]]\nname = 'a'\ndead_letter_queue = 'b.fifo'", "b.fifo"),
            ("[[queues]]\nname = 'a'\ndead_letter_queue = 'b'\nmax_receive_count = 0", "from 1 to 1000"),
            ("[[queues]]\nname = 'a'\nmax_receive_count = 3", "without dead_letter_queue"),
        ] {
            let problem = problem(text).unwrap_or_else(|| panic!("{text}"));
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }

    #[test]
    fn what_can_be_made_is_taken() {
        let text = "
            [[queues]]
            name = 'orders'
            attributes = { VisibilityTimeout = '45', SqsManagedSseEnabled = true }
            dead_letter_queue = 'there-already'
            tags = { team = 'billing' }
            [[queues]]
            name = 'orders'
            region = 'eu-west-1'
            [[queues]]
            name = 'steps.fifo'
            attributes = { ContentBasedDeduplication = true }
        ";
        assert_eq!(problem(text), None);
    }
}
