//! Why the process ended, for scripts and supervisors: one exit code a reason.

use std::process::ExitCode;

/// The reason of an exit that is not success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitReason {
    /// Something that none of the others names.
    Unexpected = 1,
    /// The command line was not understood.
    Usage = 2,
    /// The configuration file or a value in it is wrong.
    Configuration = 3,
    /// The address cannot be listened on.
    Listen = 4,
    /// Another broker has the data folder.
    FolderLocked = 5,
    /// The data folder cannot be used: it cannot be read or written, or is of another version.
    FolderUnusable = 6,
    /// The log is damaged where it had been durable; it is left as it is.
    LogDamaged = 7,
    /// A write or sync of the log failed while running (rule 3).
    JournalFailed = 8,
    /// io_uring was asked for and is refused here.
    RingRefused = 9,
    /// No broker answers at the address.
    Unreachable = 10,
    /// The broker refused what was asked.
    Refused = 11,
}

impl From<ExitReason> for ExitCode {
    fn from(reason: ExitReason) -> Self {
        ExitCode::from(reason as u8)
    }
}

/// An error that ends the process: its exit code and one line that says what happened and what to do.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub reason: ExitReason,
    /// For people.
    pub text: String,
}

impl Failure {
    /// A failure with its words.
    pub fn new(reason: ExitReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
