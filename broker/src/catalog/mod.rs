//! Which queues exist and what they are set to: names, attributes, policies and tags that have been checked.
//!
//! What a client sends is parsed once, here, into types that cannot hold anything out of range; the
//! engine never looks at a raw name or value again. A refusal names what is wrong and its range.
//! Numbers that every send and receive needs are apart ([`Attributes`]) from texts that are rarely
//! read ([`Details`]).

mod attributes;
mod change;
mod details;
mod error;
mod name;
mod policy;
mod redrive;
mod shown;
mod tags;

pub(crate) use attributes::NUMBERS;
pub use attributes::{Attributes, DeduplicationScope, FifoAttributes, ThroughputLimit};
pub use change::AttributeChange;
pub use details::{BoxedDetails, Details, Encryption, Tags};
pub use error::AttributeError;
pub use name::{NameDefaults, NameError, QueueName};
pub use policy::{Permission, Policy};
pub use redrive::{Redrive, RedriveAllow};
pub use shown::{attribute_number, attribute_text};
pub use tags::{remove_tags, set_tags};
