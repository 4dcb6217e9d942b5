//! A new shard: its log is written from the parts of the old ones that come to it, and read back.

use std::path::Path;

use super::plan::{Plan, Tally};
use super::source::Source;
use super::{cannot_open, failed};
use crate::config::Config;
use crate::engine::export::ExportedEntries;
use crate::engine::{Engine, EngineOptions};
use crate::exit::Failure;
use crate::flaws::Sound;
use crate::folder::{Folder, Identity};
use crate::journal::real_storage::RealStorage;
use crate::journal::storage::Storage;
use crate::journal::{Log, Position, RawRecord};
use crate::server;
use crate::shard::write_all;

/// Records are written to the disk when there are this many bytes of them.
const WRITE_BYTES: u64 = 2 << 20;

/// A log that is being written.
struct Writer {
    storage: RealStorage,
    log: Log<Sound>,
    written: Position,
    what: String,
}

impl Writer {
    fn new(path: &Path, identity: &Identity, shard: u16) -> Result<Self, Failure> {
        let options = server::log_options(&Config::default(), identity, shard);
        let mut storage = RealStorage::new(path);
        let what = path.display().to_string();
        let (log, _) = Log::open(&mut storage, options, &mut |_| {}, &mut |_, _| Ok(()))
            .map_err(|error| cannot_open(&what, &error))?;
        Ok(Self { storage, written: log.end(), log, what })
    }

    fn has_much(&self) -> bool {
        self.log.end().0 - self.written.0 >= WRITE_BYTES
    }

    fn write_if_much(&mut self) -> Result<(), Failure> {
        if self.has_much() { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Failure> {
        write_all(&mut self.storage, &mut self.log).map_err(|error| cannot_open(&self.what, &error))?;
        self.written = self.log.end();
        // A new shard may be larger than memory.
        self.log.cool();
        Ok(())
    }

    /// Everything is on the disk with its names.
    fn finish(mut self, now_ms: u64) -> Result<(), Failure> {
        self.log.idle_mark(now_ms);
        self.write()?;
        self.storage.sync_all().map_err(|error| failed(&self.what, &error))
    }
}

/// Writes a new shard; says which messages are in it.
pub(super) fn write(
    place: &Path,
    identity: &Identity,
    shard: u16,
    sources: &[Source],
    plan: &Plan,
    step: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Tally, Failure> {
    step("make a shard")?;
    let mut writer = Writer::new(&place.join(format!("shard-{shard}")), identity, shard)?;
    let now_ms = plan.now_ms;
    plan.numbers.write(plan.epoch, now_ms, &mut writer.log);
    for queue in &plan.queues {
        plan.queue_on(queue, sources).write(now_ms, &mut writer.log);
        writer.write_if_much()?;
    }
    plan.tombstones.iter().for_each(|tombstone| tombstone.write(now_ms, &mut writer.log));
    // Those that nothing here has come from are forgotten by the first start.
    for origin in sources.iter().flat_map(|source| source.engine.exported_origins()) {
        origin.write(now_ms, &mut writer.log);
    }
    for task in plan.tasks_on(shard, sources) {
        task.write(now_ms, &mut writer.log);
        writer.write_if_much()?;
    }
    step("write the queues of a shard")?;
    writer.write()?;
    let mut tally = Tally::default();
    for source in sources.iter().filter(|source| plan.gives_to(source.shard, shard)) {
        source.each_message(&mut |message| {
            if plan.target(source.shard, message.incarnation) == Some(shard) {
                tally.note(&message);
                let (slot, sequence) = plan.place(source.shard, &message);
                message.write(slot, sequence, now_ms, &mut writer.log);
            }
            if writer.has_much() {
                step("write messages of a shard")?;
                writer.write()?;
            }
            Ok(())
        })?;
    }
    step("write what a shard remembers")?;
    write_memories(&mut writer, shard, sources, plan)?;
    step("finish a shard")?;
    writer.finish(now_ms)?;
    Ok(tally)
}

/// What FIFO queues that come here remember of sends and receives.
fn write_memories(writer: &mut Writer, shard: u16, sources: &[Source], plan: &Plan) -> Result<(), Failure> {
    let mut entries = ExportedEntries::default();
    for source in sources.iter().filter(|source| plan.moves_fifo(source.shard, shard)) {
        // Entries do not say whose they are. Those of queues that went elsewhere are never asked for.
        entries.extend(&source.engine.exported_entries());
        for attempt in source.engine.exported_attempts() {
            if plan.target(source.shard, attempt.incarnation()) == Some(shard) {
                attempt.write(|slot| plan.slot(source.shard, slot), plan.now_ms, &mut writer.log);
                writer.write_if_much()?;
            }
        }
    }
    entries.write(plan.now_ms, &mut writer.log);
    Ok(())
}

/// Reads all new shards back as a broker would, and says which messages are in them.
pub(super) fn read_back(folder: &Folder, identity: &Identity, now_ms: u64) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for shard in 0..identity.shards {
        let path = folder.distribution_path(identity.distribution).join(format!("shard-{shard}"));
        let what = path.display().to_string();
        let options = server::log_options(&Config::default(), identity, shard);
        let engine_options = EngineOptions {
            shards: identity.shards,
            ..EngineOptions::new(shard, identity.check_key_words())
        };
        let mut engine = Engine::<Sound>::new(engine_options);
        let mut storage = RealStorage::new(path);
        let mut replay = |position, record: RawRecord<'_>| engine.replay(position, record);
        let (mut log, _) = Log::<Sound>::open(&mut storage, options.clone(), &mut |_| {}, &mut replay)
            .map_err(|error| cannot_open(&what, &error))?;
        engine
            .finish_recovery(now_ms, &mut log)
            .map_err(|damage| cannot_open(&what, &crate::journal::OpenError::Records(damage)))?;
        drop(log);
        let mut visit = |position, record: RawRecord<'_>| {
            if let Some(message) = engine.exported_message(position, &record) {
                tally.note(&message);
            }
            Ok(())
        };
        Log::<Sound>::open(&mut storage, options, &mut |_| {}, &mut visit)
            .map_err(|error| cannot_open(&what, &error))?;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_memory() {
        let place = tempfile::tempdir().expect("a temporary folder");
        // So many that each keeps little in memory.
        let identity = Identity::random(64 << 10, 1024).expect("random numbers");
        let mut writer = Writer::new(place.path(), &identity, 0).expect("a new log");
        let hot_bytes_max = writer.log.options().hot_bytes_max;
        let mut records = Vec::new();
        while writer.log.log_bytes() < 4 * hot_bytes_max {
            let position = writer.log.append(1, 5, 8, 20_000, true, |out| out.fill(1));
            records.push(position);
            writer.write_if_much().expect("there is room");
        }
        writer.write().expect("there is room");
        let in_memory = records.iter().filter(|position| writer.log.bytes(**position, 20_024).is_some());
        let bytes = in_memory.count() as u64 * 20_024;
        assert!((1..=hot_bytes_max).contains(&bytes), "{bytes} bytes are in memory");
    }
}
