//! A queue's settings, each within its range.

use std::borrow::Cow;

use tenpin_protocol::{Attribute, AttributeCode, AttributeValue, Entries, ErrorCode};

/// What a standard queue can be set to. All fields are within their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    visibility_timeout_seconds: u32,
    delay_seconds: u32,
    receive_wait_seconds: u32,
    retention_seconds: u32,
    message_bytes_max: u32,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            visibility_timeout_seconds: 30,
            delay_seconds: 0,
            receive_wait_seconds: 0,
            retention_seconds: 345_600,
            message_bytes_max: 1_048_576,
        }
    }
}

/// Why an attribute was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeError {
    /// The error's code.
    pub code: ErrorCode,
    /// What it says.
    pub text: Cow<'static, str>,
}

/// Settings that were given and checked; what was not given stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttributeChange {
    numbers: [Option<u32>; SETTABLE.len()],
}

/// The attributes that can be set, with their ranges.
const SETTABLE: [(AttributeCode, u32, u32); 5] = [
    (AttributeCode::VisibilityTimeout, 0, 43_200),
    (AttributeCode::DelaySeconds, 0, 900),
    (AttributeCode::ReceiveMessageWaitTimeSeconds, 0, 20),
    (AttributeCode::MessageRetentionPeriod, 60, 1_209_600),
    (AttributeCode::MaximumMessageSize, 1_024, 1_048_576),
];

impl AttributeChange {
    /// Checks attributes as they came; the last of several values of one holds.
    pub fn parse<'a>(given: Entries<'a, Attribute<'a>>) -> Result<Self, AttributeError> {
        let mut change = Self::default();
        for attribute in given {
            change.take(attribute.number, attribute.value())?;
        }
        Ok(change)
    }

    fn take(&mut self, code: u16, value: AttributeValue<'_>) -> Result<(), AttributeError> {
        let refuse = |code, text| Err(AttributeError { code, text });
        let Some(attribute) = AttributeCode::from_number(code) else {
            return refuse(ErrorCode::InvalidAttributeName, format!("Unknown Attribute {code}.").into());
        };
        let name = attribute.name();
        if attribute.is_read_only() {
            return refuse(
                ErrorCode::InvalidAttributeName,
                format!("Attribute {name} cannot be set.").into(),
            );
        }
        let Some(place) = SETTABLE.iter().position(|settable| settable.0 == attribute) else {
            // Switching off what is off anyway asks for nothing.
            if attribute == AttributeCode::FifoQueue && value == AttributeValue::Number(0) {
                return Ok(());
            }
            let text = format!("Attribute {name} is not supported.");
            return refuse(ErrorCode::UnsupportedOperation, text.into());
        };
        let (_, minimum, maximum) = SETTABLE[place];
        let number = match value {
            AttributeValue::Number(number) => u32::try_from(number).ok(),
            AttributeValue::Text(_) => None,
        };
        match number.filter(|number| (minimum..=maximum).contains(number)) {
            Some(number) => self.numbers[place] = Some(number),
            None => {
                let value = match value {
                    AttributeValue::Number(number) => number.to_string(),
                    AttributeValue::Text(_) => "of a text".to_owned(),
                };
                let text = format!(
                    "Value {value} for parameter {name} is invalid. Reason: Must be between {minimum} and \
                     {maximum}, if provided."
                );
                return refuse(ErrorCode::InvalidAttributeValue, text.into());
            }
        }
        Ok(())
    }

    /// The attributes with what was given changed.
    pub fn apply_to(&self, attributes: &Attributes) -> Attributes {
        let mut numbers = attributes.numbers();
        for (number, given) in numbers.iter_mut().zip(&self.numbers) {
            *number = given.unwrap_or(*number);
        }
        Attributes::from_numbers(numbers)
    }

    /// The first attribute that was given and is not what the queue has.
    pub fn differs_from(&self, attributes: &Attributes) -> Option<AttributeCode> {
        let numbers = attributes.numbers();
        let differing = |&place: &usize| self.numbers[place].is_some_and(|given| given != numbers[place]);
        (0..SETTABLE.len()).find(differing).map(|place| SETTABLE[place].0)
    }
}

impl Attributes {
    /// How long a received message is hidden.
    pub fn visibility_timeout_ms(&self) -> u64 {
        u64::from(self.visibility_timeout_seconds) * 1_000
    }

    /// How long a sent message is delayed.
    pub fn delay_ms(&self) -> u64 {
        u64::from(self.delay_seconds) * 1_000
    }

    /// How long a receive waits.
    pub fn receive_wait_ms(&self) -> u64 {
        u64::from(self.receive_wait_seconds) * 1_000
    }

    /// How long a message is kept.
    pub fn retention_ms(&self) -> u64 {
        u64::from(self.retention_seconds) * 1_000
    }

    /// The largest message, user attributes included.
    pub fn message_bytes_max(&self) -> u32 {
        self.message_bytes_max
    }

    /// What a settable attribute is; `None` for those that a standard queue does not have.
    pub fn number(&self, attribute: AttributeCode) -> Option<u64> {
        let place = SETTABLE.iter().position(|settable| settable.0 == attribute)?;
        Some(u64::from(self.numbers()[place]))
    }

    /// All numbers, in the order in which records have them.
    pub(crate) fn numbers(&self) -> [u32; SETTABLE.len()] {
        [
            self.visibility_timeout_seconds,
            self.delay_seconds,
            self.receive_wait_seconds,
            self.retention_seconds,
            self.message_bytes_max,
        ]
    }

    /// Attributes from a record, which may be a newer broker's: what is out of range is refused.
    pub(crate) fn from_record(numbers: [u32; SETTABLE.len()]) -> Option<Self> {
        let within = |(number, settable): (&u32, &(_, u32, u32))| (settable.1..=settable.2).contains(number);
        numbers.iter().zip(&SETTABLE).all(within).then(|| Self::from_numbers(numbers))
    }

    fn from_numbers(numbers: [u32; SETTABLE.len()]) -> Self {
        let [
            visibility_timeout_seconds,
            delay_seconds,
            receive_wait_seconds,
            retention_seconds,
            message_bytes_max,
        ] = numbers;
        Self {
            visibility_timeout_seconds,
            delay_seconds,
            receive_wait_seconds,
            retention_seconds,
            message_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(code: AttributeCode, value: u64) -> Attribute<'static> {
        Attribute::new(code, AttributeValue::Number(value))
    }

    fn parse(given: &[Attribute<'_>]) -> Result<AttributeChange, AttributeError> {
        AttributeChange::parse(Entries::of(given))
    }

    #[test]
    fn defaults_are_in_range_and_ranges_are_kept() {
        let defaults = Attributes::default();
        assert_eq!(Attributes::from_record(defaults.numbers()), Some(defaults));
        for (code, minimum, maximum) in SETTABLE {
            for good in [minimum, maximum] {
                let change = parse(&[number(code, good.into())]).expect("in range");
                assert_eq!(change.apply_to(&defaults).number(code), Some(good.into()));
            }
            for bad in [u64::from(maximum) + 1, u64::from(minimum).wrapping_sub(1), u64::MAX] {
                let error = parse(&[number(code, bad)]).expect_err("out of range");
                assert_eq!(error.code, ErrorCode::InvalidAttributeValue);
                assert!(error.text.contains(code.name()) && error.text.contains("Must be between"));
            }
        }
    }

    #[test]
    fn what_is_not_served_is_named() {
        for code in AttributeCode::ALL.iter().copied().filter(|code| !code.is_read_only()) {
            if SETTABLE.iter().all(|settable| settable.0 != code) {
                let error = parse(&[number(code, 1)]).expect_err("not served");
                assert_eq!(error.code, ErrorCode::UnsupportedOperation);
                assert!(error.text.contains(code.name()));
            }
        }
        assert!(parse(&[number(AttributeCode::FifoQueue, 0)]).is_ok());
        let error = parse(&[number(AttributeCode::QueueArn, 0)]).expect_err("read only");
        assert_eq!(error.code, ErrorCode::InvalidAttributeName);
        let error = parse(&[Attribute { number: 9_999, value: 0, text: None }]).expect_err("unknown");
        assert_eq!(error.code, ErrorCode::InvalidAttributeName);
    }

    #[test]
    fn only_what_was_given_is_compared() {
        let given = [number(AttributeCode::DelaySeconds, 5)];
        let change = parse(&given).expect("in range");
        let attributes = change.apply_to(&Attributes::default());
        assert_eq!(change.differs_from(&attributes), None);
        assert_eq!(change.differs_from(&Attributes::default()), Some(AttributeCode::DelaySeconds));
        assert_eq!(AttributeChange::default().differs_from(&attributes), None);
    }
}
