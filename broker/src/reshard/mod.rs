//! Another number of shards for a data folder whose broker is stopped (rule 19).
//!
//! The old shards' logs are read into engines, a new set of folders is written beside them, read back and
//! compared message by message, and then `folder.toml` is replaced by one that names the new set: that
//! rename is the one moment at which the folder becomes another, so that a crash at any time leaves
//! the old shards or the new ones, whole. What is left over is removed by whoever opens the folder next.
//!
//! **What goes where.** A message of a standard queue stays on its shard, in its slot and under its
//! sequence, as long as there is such a shard; otherwise it goes to the one with its number modulo the
//! new number. New sends and receives spread the rest. A FIFO queue goes whole to the shard that its
//! incarnation has among so many, with its sequences, deduplication entries and attempts. Receipt handles
//! of messages that stay go on working; those of others are refused, and the messages are received
//! again when their visibility timeout ends. Every shard gets the catalog of shard 0, and what a
//! shard had not heard of when the broker ended is made up for.

mod plan;
mod source;
mod target;

use std::path::Path;
use std::time::Instant;

use crate::exit::{ExitReason, Failure};
use crate::folder::{Folder, Identity, SHARDS_MAX, random_bytes, sync_folder};
use crate::journal::OpenError;

use plan::{Plan, Tally};
use source::Source;

/// Gives a data folder another number of shards; tells `say` how far it is.
pub fn reshard(data_dir: &Path, shards: u16, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    if !(1..=SHARDS_MAX).contains(&shards) {
        let text = format!("--shards is {shards}: it must be from 1 to {SHARDS_MAX}");
        return Err(Failure::new(ExitReason::Usage, text));
    }
    let result = reshard_in_steps(data_dir, shards, say, &mut |_| Ok(()));
    if result.is_err()
        && let Ok(folder) = Folder::open_existing(data_dir)
    {
        // The room that a new set has taken is wanted back.
        folder.remove_other_distributions();
    }
    result
}

/// The same for tests, with `step` called before each thing that is done to the disk; what it refuses
/// ends the work there, as a crash would.
pub fn reshard_in_steps(
    data_dir: &Path,
    shards: u16,
    say: &mut dyn FnMut(&str),
    step: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    // Locked until the end, so that no broker begins to write meanwhile.
    let mut folder = Folder::open_existing(data_dir)?;
    let old = folder.identity().clone();
    if old.shards == shards {
        say(&format!("{} has {shards} shards already", data_dir.display()));
        return Ok(());
    }
    let new = Identity {
        shards,
        distribution: old.distribution.wrapping_add(1).max(1),
        nonce: random_bytes()?,
        ..old.clone()
    };
    say(&format!("reading {} shards", old.shards));
    let (sources, now_ms) = Source::read_all(&folder, say)?;
    let plan = Plan::new(&sources, shards, now_ms)?;
    let written = write_all(&folder, &new, &sources, &plan, say, step)?;
    step("verify")?;
    say("reading the new shards back");
    let found = target::read_back(&folder, &new, plan.now_ms)?;
    if written != plan.expected || found != written {
        let text = "what was written is not what was read; nothing was changed: please report this";
        return Err(Failure::new(ExitReason::Unexpected, text));
    }
    step("switch")?;
    folder.become_another(new)?;
    step("remove the old shards")?;
    folder.remove_other_distributions();
    say(&format!(
        "{} has {shards} shards now: {} messages in {} queues, in {:.1} s",
        data_dir.display(),
        found.messages(),
        plan.queues.len(),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// What a folder holds, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its number of shards.
    pub shards: u16,
    /// For each queue's incarnation: how many messages, how many bytes of content, and a sum over everything
    /// that they are but their places.
    pub messages: Vec<(u64, u64, u64, u64)>,
}

/// Reads what a folder holds whose broker is stopped.
pub fn contents(data_dir: &Path) -> Result<Contents, Failure> {
    let folder = Folder::open_existing(data_dir)?;
    let (sources, _) = Source::read_all(&folder, &mut |_| {})?;
    let mut tally = Tally::default();
    for source in &sources {
        source.each_message(&mut |message| {
            tally.note(&message);
            Ok(())
        })?;
    }
    Ok(Contents { shards: folder.identity().shards, messages: tally.sums().collect() })
}

/// Writes all new shards, durable with their names; says what is in them.
fn write_all(
    folder: &Folder,
    new: &Identity,
    sources: &[Source],
    plan: &Plan,
    say: &mut dyn FnMut(&str),
    step: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Tally, Failure> {
    let place = folder.distribution_path(new.distribution);
    step("make the folder")?;
    std::fs::create_dir_all(&place).map_err(|error| failed("the new shards' folder", &error))?;
    let mut tally = Tally::default();
    for shard in 0..new.shards {
        say(&format!("writing shard {shard}, {} of {}", shard + 1, new.shards));
        tally.add(&target::write(&place, new, shard, sources, plan, step)?);
    }
    step("sync the folders")?;
    sync_folder(&place)
        .and_then(|()| sync_folder(folder.path()))
        .map_err(|error| failed("the new shards' folder", &error))?;
    Ok(tally)
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ExitReason::FolderUnusable, format!("{what}: {error}; nothing was changed"))
}

fn cannot_open(what: &str, error: &OpenError) -> Failure {
    let reason = match error {
        OpenError::Damage { .. } | OpenError::Records(_) => ExitReason::LogDamaged,
        _ => ExitReason::FolderUnusable,
    };
    Failure::new(reason, format!("{what}: {error}; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::EngineOptions;
    use crate::flaws::Sound;
    use crate::journal::Log;
    use crate::journal::real_storage::RealStorage;
    use crate::server;
    use crate::shard::driver::Clocks;
    use crate::shard::{Opened, open};

    /// Rule 9: a wall clock that is far ahead would be believed by the next start if the new logs had its time.
    #[test]
    fn the_new_logs_go_on_at_the_time_of_the_old_ones() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(place.path(), 64 << 10, 1).expect("a new folder");
        let clocks = Clocks { monotonic_ns: 1, wall_ms: 1_000_000_000_000 };
        let opened: Opened<Sound> = open(
            &mut RealStorage::new(folder.shard_path(0)),
            server::log_options(&Config::default(), folder.identity(), 0),
            EngineOptions::new(0, folder.identity().check_key_words()),
            clocks,
            [1; 16],
            &mut |_| {},
        )
        .expect("a new log");
        drop((opened, folder));
        reshard(place.path(), 2, &mut |_| {}).expect("there is room");
        let folder = Folder::open_existing(place.path()).expect("it is there");
        for shard in 0..2 {
            let options = server::log_options(&Config::default(), folder.identity(), shard);
            let mut storage = RealStorage::new(folder.shard_path(shard));
            let (_, report) = Log::<Sound>::open(&mut storage, options, &mut |_| {}, &mut |_, _| Ok(()))
                .expect("it was written whole");
            assert_eq!(report.last_time_ms, Some(clocks.wall_ms));
        }
    }
}
