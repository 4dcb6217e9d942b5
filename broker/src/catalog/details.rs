//! What of a queue is rarely read: policies, encryption, tags. A queue without any of it has no box for it.

use std::collections::BTreeMap;

use super::policy::Policy;
use super::redrive::{Redrive, RedriveAllow};

/// A queue's tags, by key.
pub type Tags = BTreeMap<Box<str>, Box<str>>;

/// What of a queue is rarely read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Who may do what. Kept and shown.
    pub policy: Option<Policy>,
    /// Where dead letters go.
    pub redrive: Option<Redrive>,
    /// From where dead letters may come; `None`: from everywhere.
    pub redrive_allow: Option<RedriveAllow>,
    /// How what is stored is said to be encrypted.
    pub encryption: Encryption,
    /// Its tags.
    pub tags: Tags,
}

/// How what is stored is said to be encrypted. Kept and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// By keys of the broker's own. Never together with `kms_key`.
    pub is_managed: bool,
    /// By this KMS key.
    pub kms_key: Option<Box<str>>,
    /// For how many seconds a data key is used, where that was said.
    pub kms_reuse_seconds: Option<u32>,
}

/// What a queue has that nothing was said of.
static DEFAULT: Details = Details {
    policy: None,
    redrive: None,
    redrive_allow: None,
    encryption: Encryption { is_managed: true, kms_key: None, kms_reuse_seconds: None },
    tags: BTreeMap::new(),
};

impl Default for Details {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// [`Details`] in a box, or nothing where they are the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BoxedDetails(Option<Box<Details>>);

impl From<Details> for BoxedDetails {
    fn from(details: Details) -> Self {
        Self((details != DEFAULT).then(|| Box::new(details)))
    }
}

impl std::ops::Deref for BoxedDetails {
    type Target = Details;

    fn deref(&self) -> &Details {
        self.0.as_deref().unwrap_or(&DEFAULT)
    }
}

impl BoxedDetails {
    /// Where dead letters go. Costs one comparison where a queue has no details.
    #[inline]
    pub fn redrive(&self) -> Option<&Redrive> {
        self.0.as_deref()?.redrive.as_ref()
    }
}
