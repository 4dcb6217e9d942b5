//! What opening a log tells: how far it is, what it found, and why it cannot go on.

use std::fmt;
use std::io;

use super::record::Damage;
use crate::shard::driver::FileNumber;

/// What to do about damage, for the operator.
const WHAT_TO_DO: &str = "stop here and keep the folder as it is; restore it from a backup, or look at it \
                          with `tenpin journal verify`";

/// Where recovery is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Segments read so far.
    pub segments: u64,
    /// Segments of the log.
    pub segments_in_all: u64,
    /// Records read so far.
    pub records: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { segments, segments_in_all, records } = self;
        write!(formatter, "{segments} of {segments_in_all} segments, {records} records")
    }
}

/// The end of the log as it was found: a batch that was never durable was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The file in which it would have stood.
    pub file: FileNumber,
    /// Where in the file.
    pub offset: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { file, offset } = self;
        write!(formatter, "an unfinished write was left out at byte {offset} of {}", name_of(*file))
    }
}

/// What recovery read.
#[derive(Debug, Default, Clone)]
pub struct RecoveryReport {
    /// The log's time at its end.
    pub last_time_ms: Option<u64>,
    /// Segments of the log.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// Bytes of the batches.
    pub bytes: u64,
    /// What was left out at the end, if anything was.
    pub cut: Option<Cut>,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecoveryReport { records, batches, segments, bytes, .. } = self;
        write!(formatter, "{records} records in {batches} batches of {segments} segments ({bytes} bytes)")?;
        match &self.cut {
            Some(cut) => write!(formatter, "; {cut}"),
            None => Ok(()),
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Something on disk is not what was written, and may not be left out.
    Damage {
        /// The file.
        file: FileNumber,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        text: String,
    },
    /// The records contradict each other.
    Records(Damage),
    /// The files could not be read.
    Read(io::Error),
    /// The files could not be written.
    Write(io::Error),
    /// There is no room for what a start has to write.
    Full,
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Damage { file, offset, text } => {
                write!(formatter, "{} is damaged at byte {offset}: {text}; {WHAT_TO_DO}", name_of(*file))
            }
            OpenError::Records(damage) => write!(formatter, "its records contradict each other: {damage}"),
            OpenError::Read(error) => write!(formatter, "its files cannot be read: {error}"),
            OpenError::Write(error) => write!(formatter, "its files cannot be written: {error}"),
            OpenError::Full => formatter.write_str("the disk is full: free some room and start again"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A file's name as the operator sees it.
pub(super) fn name_of(file: FileNumber) -> String {
    format!("segment-{:08}.log", file.0)
}
