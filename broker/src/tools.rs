//! The offline tools of the command line: looking at a log whose broker is stopped.

use std::path::Path;

use crate::config::Config;
use crate::exit::{ExitReason, Failure};
use crate::folder::Folder;
use crate::journal::real_storage::RealStorage;
use crate::journal::{LogOptions, OpenError, Summary, inspect as inspect_log, verify as verify_log};
use crate::server;

/// Prints what the log of a data folder consists of.
pub fn inspect(data_dir: &Path) -> Result<(), Failure> {
    look(data_dir, inspect_log)
}

/// Checks every checksum of a data folder's log; damage is an error.
pub fn verify(data_dir: &Path) -> Result<(), Failure> {
    look(data_dir, verify_log)
}

fn look(
    data_dir: &Path,
    look_at: impl FnOnce(&mut RealStorage, &LogOptions) -> Result<Summary, OpenError>,
) -> Result<(), Failure> {
    // Locked until the end, so that no broker begins to write meanwhile.
    let folder = Folder::open_existing(data_dir)?;
    let options = server::log_options(&Config::default(), folder.identity());
    let path = folder.shard_path(0);
    let summary = look_at(&mut RealStorage::new(path.clone()), &options).map_err(|error| {
        Failure::new(
            ExitReason::FolderUnusable,
            format!("the log in {} cannot be read: {error}", path.display()),
        )
    })?;
    println!("{}: {summary}", path.display());
    if summary.damage.is_empty() {
        return Ok(());
    }
    let text = "the log is damaged; nothing was changed: copy the folder, and restore a backup";
    Err(Failure::new(ExitReason::LogDamaged, text))
}
