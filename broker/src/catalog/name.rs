//! Queue names: account, region and name, each checked.

use std::fmt;

/// Most characters of a queue's name.
const NAME_CHARACTERS_MAX: usize = 80;
/// Digits of an account.
const ACCOUNT_DIGITS: usize = 12;
/// Most characters of a region.
const REGION_CHARACTERS_MAX: usize = 32;
/// The end of a FIFO queue's name.
const FIFO_SUFFIX: &str = ".fifo";

/// The account and the region that a client means when it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameDefaults {
    /// Twelve digits.
    pub account: Box<str>,
    /// Such as `us-east-1`.
    pub region: Box<str>,
}

impl Default for NameDefaults {
    fn default() -> Self {
        Self { account: "000000000000".into(), region: "us-east-1".into() }
    }
}

/// A queue's whole name. Ordered by account, region, name, which is how lists come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueName {
    account: Box<str>,
    region: Box<str>,
    name: Box<str>,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not 1 to 80 letters, digits, hyphens and underscores.
    Name,
    /// Not twelve digits.
    Account,
    /// Not 1 to 32 lower-case letters, digits and hyphens.
    Region,
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Name => {
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            }
            Self::Account => "An account is 12 digits.",
            Self::Region => "A region is 1 to 32 lower-case letters, digits and hyphens.",
        })
    }
}

impl std::error::Error for NameError {}

impl QueueName {
    /// Checks a name; an empty account or region is the default one.
    pub fn parse(
        account: &str,
        region: &str,
        name: &str,
        defaults: &NameDefaults,
    ) -> Result<Self, NameError> {
        let base = name.strip_suffix(FIFO_SUFFIX).unwrap_or(name);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if base.is_empty() || name.len() > NAME_CHARACTERS_MAX || !base.bytes().all(is_name) {
            return Err(NameError::Name);
        }
        let (account, region) = Self::parse_scope(account, region, defaults)?;
        Ok(Self { account: account.into(), region: region.into(), name: name.into() })
    }

    /// Checks an account and a region; empty ones are the defaults.
    pub fn parse_scope<'a>(
        account: &'a str,
        region: &'a str,
        defaults: &'a NameDefaults,
    ) -> Result<(&'a str, &'a str), NameError> {
        let account = if account.is_empty() { &*defaults.account } else { account };
        let region = if region.is_empty() { &*defaults.region } else { region };
        if !is_account(account) {
            return Err(NameError::Account);
        }
        let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || region.len() > REGION_CHARACTERS_MAX || !region.bytes().all(is_region) {
            return Err(NameError::Region);
        }
        Ok((account, region))
    }

    /// A name that sorts at or before every name of this scope that begins with `prefix`, to look
    /// from; it need not be one that a queue could have.
    pub(crate) fn lower_bound(account: &str, region: &str, prefix: &str) -> Self {
        Self { account: account.into(), region: region.into(), name: prefix.into() }
    }

    /// The account, twelve digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The name within account and region.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a FIFO queue's.
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(FIFO_SUFFIX)
    }

    /// The queue's ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:{}:{}:{}", self.region, self.account, self.name)
    }
}

/// Whether this is an account.
pub(super) fn is_account(account: &str) -> bool {
    account.len() == ACCOUNT_DIGITS && account.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(account: &str, region: &str, name: &str) -> Result<QueueName, NameError> {
        QueueName::parse(account, region, name, &NameDefaults::default())
    }

    #[test]
    fn names_are_checked_and_defaults_filled_in() {
        let name = parse("", "", "orders_1-A").expect("a name");
        assert_eq!(name.arn(), "arn:aws:sqs:us-east-1:000000000000:orders_1-A");
        assert!(parse("123456789012", "eu-west-1", &"a".repeat(80)).is_ok());
        for (account, region, name, error) in [
            ("", "", "", NameError::Name),
            ("", "", "a b", NameError::Name),
            ("", "", "a.b", NameError::Name),
            ("", "", "ä", NameError::Name),
            ("", "", ".fifo", NameError::Name),
            ("", "", "x.fifo.fifo", NameError::Name),
            ("", "", "x.FIFO", NameError::Name),
            ("12345678901", "", "x", NameError::Account),
            ("12345678901a", "", "x", NameError::Account),
            ("", "EU", "x", NameError::Region),
        ] {
            assert_eq!(parse(account, region, name), Err(error));
        }
        assert_eq!(parse("", "", &"a".repeat(81)), Err(NameError::Name));
        let fifo = |length: usize| parse("", "", &format!("{}.fifo", "a".repeat(length)));
        assert!(fifo(75).expect("80 with the suffix").is_fifo());
        assert_eq!(fifo(76), Err(NameError::Name));
        assert!(!parse("", "", "fifo").expect("a name").is_fifo());
    }
}
