//! Why a queue's attribute, tag or permission was not taken.

use std::borrow::Cow;

use tenpin_protocol::ErrorCode;

/// Why an attribute, a tag or a permission was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeError {
    /// The error's code.
    pub code: ErrorCode,
    /// What it says.
    pub text: Cow<'static, str>,
}

impl AttributeError {
    /// An error that says this.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }
}
