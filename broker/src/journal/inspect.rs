//! Looking at a log whose broker is stopped: what it consists of, and whether all of it is sound.

use std::fmt;

use super::Geometry;
use super::options::LogOptions;
use super::record::{Damage, verify as verify_record};
use super::recovery::for_each_record;
use super::report::{OpenError, RecoveryReport};
use super::scan::{Scanner, Walked};
use super::storage::Storage;
use crate::flaws::Sound;

/// What a look at a log found.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The sums.
    pub totals: RecoveryReport,
    /// The serials of the first and the last segment.
    pub serials: Option<(u64, u64)>,
    /// Files that hold no part of the log.
    pub other_files: u64,
    /// What is damaged; the log cannot be opened while there is something.
    pub damage: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.totals)?;
        if let Some((first, last)) = self.serials {
            write!(formatter, "; segments {first} to {last}")?;
        }
        write!(formatter, "; {} files in reserve", self.other_files)?;
        for damage in &self.damage {
            write!(formatter, "\ndamage: {damage}")?;
        }
        Ok(())
    }
}

/// Says what a log consists of. Reads the whole log, as only that tells where it ends; changes nothing.
pub fn inspect<S: Storage>(storage: &mut S, options: &LogOptions) -> Result<Summary, OpenError> {
    look(storage, options, false)
}

/// Checks every checksum of a log, the records' own too. Changes nothing.
pub fn verify<S: Storage>(storage: &mut S, options: &LogOptions) -> Result<Summary, OpenError> {
    look(storage, options, true)
}

fn look<S: Storage>(storage: &mut S, options: &LogOptions, own: bool) -> Result<Summary, OpenError> {
    options.check().map_err(|text| OpenError::Records(Damage::new(text)))?;
    let geometry = Geometry::new(options.segment_bytes);
    let mut summary = Summary::default();
    let scanner = match Scanner::new(storage, options) {
        Err(error @ OpenError::Damage { .. }) => {
            summary.damage.push(error.to_string());
            return Ok(summary);
        }
        result => result?,
    };
    let totals = &mut summary.totals;
    let serials = &mut summary.serials;
    let walked = scanner.walk::<Sound>(&mut |batch| {
        let serial = batch.header.serial;
        let first = serials.map_or(serial, |(first, _)| first);
        if *serials != Some((first, serial)) {
            totals.segments += 1;
        }
        *serials = Some((first, serial));
        totals.batches += 1;
        totals.bytes += u64::from(batch.header.length);
        totals.last_time_ms = totals.last_time_ms.max(Some(batch.header.time_ms));
        for_each_record(geometry, batch, &mut |position, record| {
            totals.records += 1;
            if !own || !record.has_own_crc() {
                return Ok(());
            }
            let start = geometry.offset(position) - batch.offset;
            verify_record(position, &batch.bytes[start..], record.length).map(|_| ())
        })
    });
    match walked {
        Ok(Walked { cut, spares, cut_off, junk, .. }) => {
            summary.totals.cut = cut;
            summary.other_files = (spares.len() + cut_off.len() + junk.len()) as u64;
        }
        Err(error @ OpenError::Damage { .. }) => summary.damage.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(summary)
}
