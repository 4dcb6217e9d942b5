//! From the configuration to recovered shards, several at a time.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Say;
use crate::config::{Config, DurabilitySetting};
use crate::engine::EngineOptions;
use crate::exit::{ExitReason, Failure};
use crate::flaws::Sound;
use crate::folder::{self, Identity};
use crate::journal::real_storage::RealStorage;
use crate::journal::{Durability, LOG_SEGMENTS_MIN, LogOptions, OpenError, Progress, RecoveryReport};
use crate::shard::{Opened, open, real_clocks};

/// Segments of each shard's log that stay in memory, whatever the setting: with less, nothing that was
/// just written could be read without the disk.
const HOT_SEGMENTS_MIN: u64 = 4;

/// How the log of one shard is set up; the tools use it as well. The settings are the broker's, and each
/// shard has its part of them.
pub fn log_options(config: &Config, identity: &Identity, shard: u16) -> LogOptions {
    let durability = match config.durability {
        DurabilitySetting::Fsync => Durability::Fsync,
        DurabilitySetting::Async => Durability::Async,
        DurabilitySetting::Memory => Durability::Memory,
    };
    let defaults = LogOptions::new(durability, identity.nonce, shard);
    let segment_bytes = if defaults.has_files() { identity.segment_bytes } else { defaults.segment_bytes };
    let shards = u64::from(identity.shards.max(1));
    // Without files, what is kept in memory is all there is of the log.
    let hot_segments_min = if defaults.has_files() { HOT_SEGMENTS_MIN } else { LOG_SEGMENTS_MIN };
    LogOptions {
        segment_bytes,
        hot_bytes_max: (config.hot_bytes_max / shards).max(hot_segments_min * u64::from(segment_bytes)),
        log_bytes_max: config.log_bytes_max.map(|bytes| bytes / shards),
        growth_factor: config.log_growth_factor,
        ..defaults
    }
}

/// Whether the configuration fits a folder of so many shards.
pub(super) fn check(config: &Config, identity: &Identity) -> Result<(), Failure> {
    let options = log_options(config, identity, 0);
    let least = LOG_SEGMENTS_MIN * u64::from(options.segment_bytes) * u64::from(identity.shards);
    let problem = match config.log_bytes_max {
        Some(bytes) if bytes < least => Err(format!(
            "log_bytes_max is {bytes}: for {} shards it must be at least {least}, or there is no room to \
             clean full logs",
            identity.shards
        )),
        _ => options.check(),
    };
    problem.map_err(|text| Failure::new(ExitReason::Configuration, text))
}

/// Opens the log of a shard and rebuilds its engine; says how far it is.
pub(super) fn open_shard(
    config: &Config,
    identity: &Identity,
    path: Option<&Path>,
    shard: u16,
    say: &Say,
) -> Result<Opened<Sound>, Failure> {
    let engine_options = EngineOptions {
        defaults: config.name_defaults(),
        minute_rules: config.minute_rules,
        in_flight_max: config.in_flight_max.into(),
        deduplication_max: config.deduplication_max.into(),
        shards: identity.shards,
        distribution: identity.distribution as u8,
        ..EngineOptions::new(shard, identity.check_key_words())
    };
    let name = if identity.shards > 1 { format!("shard {shard}: ") } else { String::new() };
    let path = path.map_or_else(PathBuf::new, Path::to_owned);
    let began = Instant::now();
    let mut said = Instant::now();
    let mut progress = |progress: &Progress| {
        if said.elapsed().as_secs() >= 1 {
            said = Instant::now();
            say(&format!("{name}recovering, {progress}"));
        }
    };
    let opened = open(
        &mut RealStorage::new(path.clone()),
        log_options(config, identity, shard),
        engine_options,
        real_clocks(),
        folder::random_bytes()?,
        &mut progress,
    )
    .map_err(|error| {
        let reason = match &error {
            OpenError::Damage { .. } | OpenError::Records(_) => ExitReason::LogDamaged,
            _ => ExitReason::FolderUnusable,
        };
        Failure::new(reason, format!("the log in {} cannot be opened: {error}", path.display()))
    })?;
    if let Some(report) = &opened.report {
        report_recovery(&name, report, began, say);
    }
    Ok(opened)
}

fn report_recovery(name: &str, report: &RecoveryReport, began: Instant, say: &Say) {
    if report.records > 0 {
        say(&format!("{name}recovered {report} in {:.1} s", began.elapsed().as_secs_f64()));
    }
}
