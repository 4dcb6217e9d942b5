//! The offline tools of the command line: looking at a log whose broker is stopped.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use crate::config::Config;
use crate::engine::records::Kind;
use crate::engine::{Engine, EngineOptions};
use crate::exit::{ExitReason, Failure};
use crate::flaws::Sound;
use crate::folder::Folder;
use crate::journal::real_storage::RealStorage;
use crate::journal::{
    Log, LogOptions, OpenError, Progress, Summary, inspect as inspect_log, verify as verify_log,
};
use crate::server;

/// Prints a line. Whoever reads may have gone; what the log is like is the exit code's to say as well.
macro_rules! say {
    ($($text:tt)*) => {
        let _ = writeln!(std::io::stdout(), $($text)*);
    };
}

/// Prints what the logs of a data folder consist of: records by kind, segments, and damage, which is an
/// error.
pub fn inspect(data_dir: &Path) -> Result<(), Failure> {
    each_shard(data_dir, |opened| {
        let summary = opened.look("reading", inspect_log)?;
        say!("{}: {summary}", opened.storage_path());
        print_kinds(&summary);
        let live = if summary.damage.is_empty() { opened.live_by_segment() } else { None };
        for segment in &summary.segments {
            let live = live.as_ref().and_then(|live| live.get(&segment.serial));
            let live = live.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes} bytes"));
            say!("{segment}, live: {live}");
        }
        Ok(summary)
    })
}

/// Checks every checksum of a data folder's logs; damage is an error.
pub fn verify(data_dir: &Path) -> Result<(), Failure> {
    each_shard(data_dir, |opened| {
        let summary = opened.look("checking", verify_log)?;
        say!("{}: {summary}", opened.storage_path());
        Ok(summary)
    })
}

/// Looks at one shard after the other; damage of one does not keep the others from being looked at.
fn each_shard(
    data_dir: &Path,
    look: impl Fn(&Opened<'_>) -> Result<Summary, Failure>,
) -> Result<(), Failure> {
    let folder = Folder::open_existing(data_dir)?;
    let mut judgement = Ok(());
    for shard in 0..folder.identity().shards {
        let options = server::log_options(&Config::default(), folder.identity(), shard);
        let summary = look(&Opened { folder: &folder, shard, options })?;
        judgement = judge(&summary).and(judgement);
    }
    judgement
}

/// One shard of a folder that no broker has, and none gets meanwhile.
struct Opened<'a> {
    folder: &'a Folder,
    shard: u16,
    options: LogOptions,
}

impl Opened<'_> {
    fn storage(&self) -> RealStorage {
        RealStorage::new(self.folder.shard_path(self.shard))
    }

    fn storage_path(&self) -> String {
        self.folder.shard_path(self.shard).display().to_string()
    }

    fn look(
        &self,
        doing: &str,
        look_at: impl FnOnce(
            &mut RealStorage,
            &LogOptions,
            &mut dyn FnMut(&Progress),
        ) -> Result<Summary, OpenError>,
    ) -> Result<Summary, Failure> {
        look_at(&mut self.storage(), &self.options, &mut show_progress(doing)).map_err(|error| {
            let text = format!("the log in {} cannot be read: {error}", self.storage_path());
            Failure::new(ExitReason::FolderUnusable, text)
        })
    }

    /// What is live in each segment: known to the engine alone, which is rebuilt in memory for it.
    /// `None` where the records contradict each other.
    fn live_by_segment(&self) -> Option<BTreeMap<u64, u64>> {
        let identity = self.folder.identity();
        let options = EngineOptions {
            shards: identity.shards,
            ..EngineOptions::new(self.shard, identity.check_key_words())
        };
        let mut engine = Engine::<Sound>::new(options);
        let mut replay = |position, record: crate::journal::RawRecord<'_>| engine.replay(position, record);
        let mut progress = show_progress("finding what is live");
        let (mut log, report) =
            Log::open(&mut self.storage(), self.options.clone(), &mut progress, &mut replay).ok()?;
        engine.finish_recovery(report.last_time_ms.unwrap_or(0), &mut log).ok()?;
        Some(log.live_by_segment().collect())
    }
}

/// Says once a second how far it is, to people only.
fn show_progress(doing: &str) -> impl FnMut(&Progress) {
    let is_seen = std::io::stderr().is_terminal();
    let mut said = Instant::now();
    move |progress| {
        if is_seen && said.elapsed().as_secs() >= 1 {
            said = Instant::now();
            eprintln!("tenpin: {doing}, {progress}");
        }
    }
}

fn print_kinds(summary: &Summary) {
    for (code, sum) in &summary.kinds {
        let name =
            Kind::from_code(*code).map_or_else(|| format!("kind {code}, unknown"), |kind| kind.name().into());
        say!("  {name:<16} {:>12} records {:>16} bytes", sum.records, sum.bytes);
    }
}

/// Prints what is damaged.
fn judge(summary: &Summary) -> Result<(), Failure> {
    for finding in &summary.damage {
        say!("damage: {finding}");
    }
    if summary.damage_not_listed > 0 {
        say!("damage: {} further places", summary.damage_not_listed);
    }
    if summary.damage.is_empty() {
        return Ok(());
    }
    let text = "the log is damaged; nothing was changed: copy the folder, and restore a backup";
    Err(Failure::new(ExitReason::LogDamaged, text))
}
