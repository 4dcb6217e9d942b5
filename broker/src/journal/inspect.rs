//! Looking at a log whose broker is stopped: what it consists of, and whether all of it is sound.
//!
//! Damage does not end the look: it is noted with its place, and the next segment is looked at. So one
//! run shows everything that is wrong.

use std::collections::BTreeMap;
use std::fmt;

use super::options::LogOptions;
use super::record::{Damage, RECORD_ALIGNMENT, RawRecord, verify as verify_record};
use super::report::{OpenError, Progress, RecoveryReport, name_of};
use super::scan::{Batch, Scanner, Walked};
use super::storage::Storage;
use super::{BATCH_HEADER_BYTES, Geometry};
use crate::shard::driver::FileNumber;

/// Places of damage that are listed; the others are counted.
const FINDINGS_MAX: usize = 1_000;

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: FileNumber,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at byte {}: {}", name_of(self.file), self.offset, self.text)
    }
}

/// Records of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindSum {
    /// How many.
    pub records: u64,
    /// Their bytes, with prefixes and rounded up as they lie in the log.
    pub bytes: u64,
}

/// One segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSum {
    /// Its serial.
    pub serial: u64,
    /// Its file.
    pub file: FileNumber,
    /// Batches in it.
    pub batches: u64,
    /// Records in these.
    pub records: u64,
    /// Bytes of the batches.
    pub bytes: u64,
}

impl fmt::Display for SegmentSum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentSum { serial, file, batches, records, bytes } = self;
        let name = name_of(*file);
        write!(
            formatter,
            "segment {serial} in {name}: {records} records in {batches} batches ({bytes} bytes)"
        )
    }
}

/// What a look at a log found.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The sums.
    pub totals: RecoveryReport,
    /// The segments, in their order.
    pub segments: Vec<SegmentSum>,
    /// The records by the codes of their kinds.
    pub kinds: BTreeMap<u8, KindSum>,
    /// Files that hold no part of the log.
    pub other_files: u64,
    /// What is damaged, the first thousand places; the log cannot be opened while a batch is.
    pub damage: Vec<Finding>,
    /// Further places.
    pub damage_not_listed: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.totals)?;
        if let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) {
            write!(formatter, "; segments {} to {}", first.serial, last.serial)?;
        }
        write!(formatter, "; {} files in reserve", self.other_files)
    }
}

impl Summary {
    fn find(&mut self, file: FileNumber, offset: u64, text: String) {
        if self.damage.len() < FINDINGS_MAX {
            self.damage.push(Finding { file, offset, text });
        } else {
            self.damage_not_listed += 1;
        }
    }

    fn find_error(&mut self, file: FileNumber, offset: u64, error: OpenError) {
        match error {
            OpenError::Damage { file, offset, text } => self.find(file, offset, text),
            OpenError::Read(error) => self.find(file, offset, format!("cannot be read: {error}")),
            other => self.find(file, offset, other.to_string()),
        }
    }

    fn segment(&mut self, batch: &Batch<'_>) -> &mut SegmentSum {
        let serial = batch.header.serial;
        if self.segments.last().is_none_or(|last| last.serial != serial) {
            let file = batch.file;
            self.segments.push(SegmentSum { serial, file, batches: 0, records: 0, bytes: 0 });
            self.totals.segments += 1;
        }
        self.segments.last_mut().expect("it was just added")
    }

    fn count_batch(&mut self, batch: &Batch<'_>) {
        let bytes = u64::from(batch.header.length);
        let segment = self.segment(batch);
        segment.batches += 1;
        segment.bytes += bytes;
        self.totals.batches += 1;
        self.totals.bytes += bytes;
        self.totals.last_time_ms = self.totals.last_time_ms.max(Some(batch.header.time_ms));
    }

    fn count_record(&mut self, batch: &Batch<'_>, record: &RawRecord<'_>) {
        self.segment(batch).records += 1;
        self.totals.records += 1;
        let kind = self.kinds.entry(record.kind).or_default();
        kind.records += 1;
        kind.bytes += record.padded_length() as u64;
    }
}

/// Says what a log consists of. Reads the whole log, as only that tells where it ends; changes nothing.
pub fn inspect<S: Storage>(
    storage: &mut S,
    options: &LogOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary, OpenError> {
    look(storage, options, false, progress)
}

/// Checks every checksum of a log, the records' own too. Changes nothing.
pub fn verify<S: Storage>(
    storage: &mut S,
    options: &LogOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary, OpenError> {
    look(storage, options, true, progress)
}

fn look<S: Storage>(
    storage: &mut S,
    options: &LogOptions,
    own: bool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary, OpenError> {
    options.check().map_err(|text| OpenError::Records(Damage::new(text)))?;
    let geometry = Geometry::new(options.segment_bytes);
    let mut summary = Summary::default();
    let mut found = Vec::new();
    let mut find = |file, offset, error| found.push((file, offset, error));
    let scanner = Scanner::for_survey(storage, options, &mut find)?;
    let segments_in_all = scanner.segment_count();
    let mut visit = |batch: &Batch<'_>| {
        let before = summary.segments.len();
        summary.count_batch(batch);
        look_at_records(geometry, batch, own, &mut summary);
        if summary.segments.len() > before {
            let segments = summary.totals.segments;
            progress(&Progress { segments, segments_in_all, records: summary.totals.records });
        }
        Ok(())
    };
    let Walked { cut, spares, cut_off, .. } = scanner.survey(&mut visit, &mut find);
    summary.totals.cut = cut;
    summary.other_files = (spares.len() + cut_off.len()) as u64;
    for (file, offset, error) in found {
        summary.find_error(file, offset, error);
    }
    summary.damage.sort_by_key(|finding| (finding.file.0, finding.offset));
    Ok(summary)
}

/// Counts the records of a batch, whose own checksum holds. What is wrong in there all the same was
/// written so.
fn look_at_records(geometry: Geometry, batch: &Batch<'_>, own: bool, summary: &mut Summary) {
    let mut offset = BATCH_HEADER_BYTES;
    while offset < batch.bytes.len() {
        let place = batch.offset + offset;
        let bytes = &batch.bytes[offset..];
        let record = match RawRecord::parse(bytes) {
            Ok(record) => record,
            Err(reason) => return summary.find(batch.file, place as u64, reason.to_string()),
        };
        let position = geometry.position(batch.header.serial, place);
        if own
            && record.has_own_crc()
            && let Err(reason) = verify_record(position, bytes, record.length)
        {
            summary.find(batch.file, place as u64, reason.to_string());
        }
        summary.count_record(batch, &record);
        offset += record.padded_length().max(RECORD_ALIGNMENT);
    }
}
