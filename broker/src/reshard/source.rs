//! An old shard: its engine, and its log to be read once more for what the messages contain.

use std::path::PathBuf;

use super::cannot_open;
use crate::config::Config;
use crate::engine::export::ExportedMessage;
use crate::engine::{Engine, EngineOptions};
use crate::exit::Failure;
use crate::flaws::Sound;
use crate::folder::Folder;
use crate::journal::real_storage::RealStorage;
use crate::journal::{Damage, Log, LogOptions, RawRecord};
use crate::server;
use crate::shard::real_clocks;

/// What one old shard holds.
pub(super) struct Source {
    pub(super) shard: u16,
    pub(super) engine: Engine<Sound>,
    path: PathBuf,
    options: LogOptions,
}

impl Source {
    /// Reads all shards of a folder as they are at one time, which is given as well: the last that any of them
    /// knew. The wall's would be in the new logs, and the next start would believe it however far it had jumped
    /// (rule 9).
    pub(super) fn read_all(folder: &Folder, say: &mut dyn FnMut(&str)) -> Result<(Vec<Self>, u64), Failure> {
        let identity = folder.identity();
        let mut opened = Vec::new();
        let mut last_time_ms = None;
        for shard in 0..identity.shards {
            let options = server::log_options(&Config::default(), identity, shard);
            let path = folder.shard_path(shard);
            let engine_options = EngineOptions {
                shards: identity.shards,
                ..EngineOptions::new(shard, identity.check_key_words())
            };
            let mut engine = Engine::new(engine_options);
            let mut replay = |position, record: RawRecord<'_>| engine.replay(position, record);
            let (log, report) =
                Log::open(&mut RealStorage::new(path.clone()), options.clone(), &mut |_| {}, &mut replay)
                    .map_err(|error| cannot_open(&path.display().to_string(), &error))?;
            last_time_ms = last_time_ms.max(report.last_time_ms);
            say(&format!("read shard {shard}: {report}"));
            opened.push((Self { shard, engine, path, options }, log));
        }
        let now_ms = last_time_ms.unwrap_or_else(|| real_clocks().wall_ms);
        let finish = |(mut source, mut log): (Self, Log<Sound>)| {
            let result = source.engine.finish_recovery(now_ms, &mut log);
            result.map_err(|damage| {
                cannot_open(&source.path.display().to_string(), &crate::journal::OpenError::Records(damage))
            })?;
            Ok(source)
        };
        let sources: Result<Vec<_>, _> = opened.into_iter().map(finish).collect();
        let mut sources = sources?;
        settle_moves(&mut sources);
        Ok((sources, now_ms))
    }

    /// Reads the log once more and hands over each stored message, until `take` refuses.
    pub(super) fn each_message(
        &self,
        take: &mut dyn FnMut(ExportedMessage<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut refused = None;
        let mut visit = |position, record: RawRecord<'_>| match self
            .engine
            .exported_message(position, &record)
            .map_or(Ok(()), &mut *take)
        {
            Ok(()) => Ok(()),
            Err(failure) => {
                refused = Some(failure);
                Err(Damage::new("not read on"))
            }
        };
        let mut storage = RealStorage::new(self.path.clone());
        let result = Log::<Sound>::open(&mut storage, self.options.clone(), &mut |_| {}, &mut visit);
        match (refused, result) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(cannot_open(&self.path.display().to_string(), &error)),
            (None, Ok(_)) => Ok(()),
        }
    }
}

/// Ends moves between shards that are open: where both have the message, it is where it was going, and
/// otherwise it is where it was (rule 22).
fn settle_moves(sources: &mut [Source]) {
    for place in 0..sources.len() {
        let (before, rest) = sources.split_at_mut(place);
        let Some((source, behind)) = rest.split_first_mut() else { return };
        let shard = source.shard;
        source.engine.settle_moves_for_export(|to, number| {
            let others = before.iter().chain(behind.iter());
            others.filter(|other| other.shard == to).any(|other| other.engine.has_arrived(shard, number))
        });
    }
}
