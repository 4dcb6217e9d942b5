//! From files to a log that goes on: every record is replayed in order, then appending begins in a
//! new segment.
//!
//! A start never writes into a segment that was there before, and takes a serial above every one
//! ever seen: a durable block is never written again, and what a crash left unfinished can stay where
//! it is. Recovered segments are cold: they are read back where they are asked for.

use super::commit::Commit;
use super::log::{Log, Segment};
use super::options::LogOptions;
use super::position::{Position, round_up};
use super::record::{Damage, RECORD_ALIGNMENT, RawRecord};
use super::report::{OpenError, Progress, RecoveryReport};
use super::scan::{Batch, Scanner, Walked};
use super::storage::Storage;
use super::{BATCH_HEADER_BYTES, Geometry};
use crate::flaws::Flaws;

impl<F: Flaws> Log<F> {
    /// Reads the log in `storage`, hands every record to `replay`, and goes on behind it. Where there
    /// are no files yet the log is empty. The caller then counts what is [`live`](Log::live).
    pub fn open<S: Storage>(
        storage: &mut S,
        options: LogOptions,
        progress: &mut dyn FnMut(&Progress),
        replay: &mut dyn FnMut(Position, RawRecord<'_>) -> Result<(), Damage>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        options.check().map_err(|text| OpenError::Records(Damage::new(text)))?;
        // What is read must be what the disk has, or a later power cut could take what was recovered.
        storage.sync_all().map_err(OpenError::Write)?;
        let scanner = Scanner::new(storage, &options)?;
        let geometry = Geometry::new(options.segment_bytes);
        let mut report = RecoveryReport::default();
        let mut told = Progress { segments_in_all: scanner.segment_count(), ..Progress::default() };
        let mut serial = 0;
        let walked = scanner.walk::<F>(&mut |batch| {
            if serial != batch.header.serial {
                serial = batch.header.serial;
                report.segments += 1;
                told.segments = report.segments;
                told.records = report.records;
                progress(&told);
            }
            report.batches += 1;
            report.bytes += u64::from(batch.header.length);
            report.last_time_ms = report.last_time_ms.max(Some(batch.header.time_ms));
            for_each_record(geometry, batch, &mut |position, record| {
                report.records += 1;
                replay(position, record)
            })
        })?;
        report.cut = walked.cut;
        let last_time_ms = report.last_time_ms.unwrap_or(0);
        Ok((Self::recovered(options, walked, last_time_ms)?, report))
    }

    fn recovered(options: LogOptions, walked: Walked, time_ms: u64) -> Result<Self, OpenError> {
        let next_serial = walked.highest_serial + 1;
        let first_serial = walked.segments.first().map_or(next_serial, |segment| segment.serial);
        let mut log = Self::empty(options, first_serial);
        for chained in &walked.segments {
            log.add_vacant(chained.serial);
            log.segments.push_back(Segment {
                file: Some(chained.file),
                end: chained.end,
                first_sequence: Some(chained.first_sequence),
                ..Segment::default()
            });
            log.live.push_back(0);
        }
        log.add_vacant(next_serial);
        let start = log.geometry.position(next_serial, 0);
        log.tail = start.0;
        log.base = start.0;
        log.hot_serial = next_serial;
        log.filled = log.options.segment_bytes as usize;
        log.chain_end = walked.end;
        log.time_ms = time_ms;
        // Nothing is stated yet by this run: what holds older statements keeps until the first batch.
        log.commit = Commit::recovered(walked.last_sequence, walked.last_crc, start);
        log.files.spares.extend(walked.spares);
        log.files.retiring.extend(walked.cut_off.into_iter().map(|file| (first_serial - 1, file)));
        log.files.next_number = walked.highest_file;
        Ok(log)
    }

    /// Adds serials that are no part of the log up to this one.
    fn add_vacant(&mut self, serial: u64) {
        while self.first_serial + (self.segments.len() as u64) < serial {
            self.segments.push_back(Segment { is_vacant: true, ..Segment::default() });
            self.live.push_back(0);
            self.vacant += 1;
        }
    }
}

/// Hands each record of a batch to `visit`.
pub(super) fn for_each_record(
    geometry: Geometry,
    batch: &Batch<'_>,
    visit: &mut dyn FnMut(Position, RawRecord<'_>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut offset = BATCH_HEADER_BYTES;
    while offset < batch.bytes.len() {
        let record = RawRecord::parse(&batch.bytes[offset..])?;
        let length = round_up(record.length as usize, RECORD_ALIGNMENT);
        visit(geometry.position(batch.header.serial, batch.offset + offset), record)?;
        offset += length;
    }
    Ok(())
}
