//! The HTTP side of SQS as bytes: what requests of its two protocols say, how replies and errors look,
//! and what HTTP clients are shown of messages that the binary protocol does not show. Pure functions; the
//! server that calls them, and what an action does, is elsewhere.
//!
//! - [`actions`]: what a client asks for; [`replies`]: what it is answered; [`error`]: why it is refused.
//! - [`checks`]: the rules that need no queue.
//! - [`json`] and [`query`]: requests of the two protocols; [`json_out`] and [`xml`]: replies and errors.

pub mod actions;
pub mod checks;
mod digests;
pub mod error;
mod filters;
pub mod json;
pub mod json_out;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod parameters;
pub mod query;
pub mod replies;
mod text;
mod walk;
pub mod xml;

pub use actions::{Action, ActionName};
pub use digests::{Digest, md5_of_attributes, md5_of_bodies, md5_of_body, md5_of_system_attributes};
pub use error::{ErrorName, ServiceError};
pub use filters::AttributeFilter;
pub use replies::Reply;
pub use text::Text;
pub(crate) use walk::uuid;

#[cfg(test)]
mod parse_tests;
#[cfg(test)]
mod print_tests;
