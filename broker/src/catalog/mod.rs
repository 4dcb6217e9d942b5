//! Which queues exist and what they are set to: names and attributes that have been checked.
//!
//! What a client sends is parsed once, here, into types that cannot hold anything out of range; the
//! engine never looks at a raw name or value again. A refusal names the attribute and its range.

mod attributes;
mod name;

pub use attributes::{AttributeChange, AttributeError, Attributes};
pub use name::{NameDefaults, NameError, QueueName};
