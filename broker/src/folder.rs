//! The data folder: who it is, and that one broker has it at a time.
//!
//! `folder.toml` is written when the folder is made: format version, number of shards (rule 19),
//! segment size, the nonce that goes into every checksum (rule 14) and the key of receipt handles
//! (rule 5). It is changed by nothing but a new distribution over shards, which replaces it whole.
//! `lock` is locked while a broker runs. Each shard's segments lie in `shard-N/`. `served` is made once each
//! shard has a log: from then on one without a log has lost it, and is not taken for a new one (rule 14).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{ExitReason, Failure};

/// The format that this version reads and writes. In the first one, numbers of queues had 32 bits of
/// their incarnation.
pub const FORMAT_VERSION: u32 = 2;

const IDENTITY_FILE: &str = "folder.toml";
const SERVED_FILE: &str = "served";
const SHARD_PREFIX: &str = "shard-";
const DISTRIBUTION_PREFIX: &str = "distribution-";

/// Most shards of a folder: each two of them have rings of their own.
pub const SHARDS_MAX: u16 = 128;

/// What a folder is, as kept in `folder.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// [`FORMAT_VERSION`] of the broker that made it.
    pub format_version: u32,
    /// How many shards its logs are split into.
    pub shards: u16,
    /// How often the messages were spread over another number of shards: names the folder that the
    /// shards' folders lie in, so that this file alone says which are in use.
    #[serde(default)]
    pub distribution: u32,
    /// Size of each segment of the logs.
    pub segment_bytes: u32,
    /// Goes into every checksum of the logs, so that no other folder's bytes are taken for ours.
    #[serde(with = "hex")]
    pub nonce: [u8; 16],
    /// Key of the check value in receipt handles.
    #[serde(with = "hex")]
    pub check_key: [u8; 16],
}

impl Identity {
    /// A new folder's identity.
    pub fn random(segment_bytes: u32, shards: u16) -> Result<Self, Failure> {
        Ok(Self {
            format_version: FORMAT_VERSION,
            shards,
            distribution: 0,
            segment_bytes,
            nonce: random_bytes()?,
            check_key: random_bytes()?,
        })
    }

    /// The key as the two words that the handle's hash takes.
    pub fn check_key_words(&self) -> [u64; 2] {
        let (low, high) = self.check_key.split_at(8);
        [
            u64::from_le_bytes(low.try_into().expect("split at 8 of 16")),
            u64::from_le_bytes(high.try_into().expect("split at 8 of 16")),
        ]
    }
}

/// An opened data folder, locked until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    identity: Identity,
    /// Holds the lock; the kernel lets go of it however the process ends.
    _lock: File,
}

impl Folder {
    /// Opens the folder at `path`, or makes one there with segments of `segment_bytes` and so many shards.
    pub fn open(path: &Path, segment_bytes: u32, shards: u16) -> Result<Self, Failure> {
        make_folder(path).map_err(|error| unusable(path, "cannot be made", &error))?;
        let lock = take_lock(path)?;
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            None => make_identity(path, segment_bytes, shards)?,
        };
        check_identity(path, &identity)?;
        let folder = Self { path: path.to_owned(), identity, _lock: lock };
        folder.check_logs()?;
        // Whoever wrote the identity may have ended before its name was durable, or been told that it cannot be
        // made so: what it replaces must be there until it is.
        sync_folder(path).map_err(|error| unusable(path, "cannot be synced", &error))?;
        folder.remove_other_distributions();
        for shard in 0..folder.identity.shards {
            let shard = folder.shard_path(shard);
            fs::create_dir_all(&shard).map_err(|error| unusable(&shard, "cannot be made", &error))?;
        }
        for place in [folder.distribution_path(folder.identity.distribution).as_path(), path] {
            sync_folder(place).map_err(|error| unusable(place, "cannot be synced", &error))?;
        }
        Ok(folder)
    }

    /// Opens a folder for the tools: it has to be there already.
    pub fn open_existing(path: &Path) -> Result<Self, Failure> {
        if !path.join(IDENTITY_FILE).exists() {
            let text = format!("{} is not a Tenpin data folder: it has no {IDENTITY_FILE}", path.display());
            return Err(Failure::new(ExitReason::FolderUnusable, text));
        }
        Self::open(path, 0, 0)
    }

    /// Whether it has the number of shards that was asked for (rule 19).
    pub fn check_shards(&self, wanted: u16) -> Result<(), Failure> {
        let shards = self.identity.shards;
        if shards == wanted {
            return Ok(());
        }
        let path = self.path.display();
        let text = format!(
            "{path} has {shards} shards, not {wanted}: leave --shards out, or stop the broker and run \
             tenpin journal reshard --data-dir {path} --shards {wanted}"
        );
        Err(Failure::new(ExitReason::Configuration, text))
    }

    /// Each shard has a log now, and is never without one again.
    pub fn mark_as_served(&self) -> Result<(), Failure> {
        if self.path.join(SERVED_FILE).exists() {
            return Ok(());
        }
        write_durably(&self.path, SERVED_FILE, b"")
            .map_err(|error| unusable(&self.path.join(SERVED_FILE), "cannot be written", &error))
    }

    /// Whether each shard has its log, where each had one.
    fn check_logs(&self) -> Result<(), Failure> {
        if !self.path.join(SERVED_FILE).exists() {
            return Ok(());
        }
        let mut shards = (0..self.identity.shards).map(|shard| self.shard_path(shard));
        let Some(shard) = shards.find(|shard| !has_segments(shard)) else { return Ok(()) };
        let text = format!(
            "{} has lost its log: there is no file in it, though this folder has served before; nothing was \
             changed: restore the whole folder from a backup, or choose another --data-dir",
            shard.display()
        );
        Err(Failure::new(ExitReason::LogDamaged, text))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where a shard's segments lie.
    pub fn shard_path(&self, shard: u16) -> PathBuf {
        self.distribution_path(self.identity.distribution).join(format!("{SHARD_PREFIX}{shard}"))
    }

    /// Where the shards' folders of a distribution lie: the first has none of its own.
    pub fn distribution_path(&self, distribution: u32) -> PathBuf {
        match distribution {
            0 => self.path.clone(),
            number => self.path.join(format!("{DISTRIBUTION_PREFIX}{number}")),
        }
    }

    /// Makes the folder another one, at once: before this returns it may be either after a crash, and
    /// nothing between.
    pub fn become_another(&mut self, identity: Identity) -> Result<(), Failure> {
        write_identity(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Removes shards' folders that are not in use: what a new distribution has replaced, or what was
    /// left of one that was never finished. What cannot be removed takes room and does no harm.
    pub fn remove_other_distributions(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let current = self.identity.distribution;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_first = name.strip_prefix(SHARD_PREFIX).is_some_and(is_number);
            let other = name.strip_prefix(DISTRIBUTION_PREFIX).and_then(|number| number.parse::<u32>().ok());
            if (is_first && current != 0) || other.is_some_and(|number| number != current) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn take_lock(path: &Path) -> Result<File, Failure> {
    let lock_path = path.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(|error| unusable(&lock_path, "cannot be opened", &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only to name the process; a lock file without a number is as good.
            let _ = lock.read_to_string(&mut holder);
            let (path, holder) = (path.display(), holder.trim());
            let text = if holder == std::process::id().to_string() {
                format!(
                    "{path} is in use by another broker of this process ({holder}); drop that one first, or \
                     choose another folder"
                )
            } else {
                format!(
                    "{path} is in use by another broker (process {holder}); stop it, or choose another --data-dir"
                )
            };
            return Err(Failure::new(ExitReason::FolderLocked, text));
        }
        Err(fs::TryLockError::Error(error)) => return Err(unusable(&lock_path, "cannot be locked", &error)),
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|error| unusable(&lock_path, "cannot be written", &error))?;
    Ok(lock)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, Failure> {
    let file = path.join(IDENTITY_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&file, "cannot be read", &error)),
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        let text = format!("{} is damaged: {error}restore it from a backup of the folder", file.display());
        Failure::new(ExitReason::FolderUnusable, text)
    })
}

fn make_identity(path: &Path, segment_bytes: u32, shards: u16) -> Result<Identity, Failure> {
    if has_logs(path) {
        let text = format!(
            "{} has logs but no {IDENTITY_FILE}; without it they cannot be read: restore it from a backup",
            path.display()
        );
        return Err(Failure::new(ExitReason::FolderUnusable, text));
    }
    let identity = Identity::random(segment_bytes, shards)?;
    write_identity(path, &identity)?;
    Ok(identity)
}

/// Whether there are shards' folders, of whichever distribution.
fn has_logs(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let number = name.strip_prefix(SHARD_PREFIX).or(name.strip_prefix(DISTRIBUTION_PREFIX));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

fn has_segments(shard: &Path) -> bool {
    let Ok(entries) = fs::read_dir(shard) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".log")))
}

fn write_identity(path: &Path, identity: &Identity) -> Result<(), Failure> {
    let text = format!(
        "# Made by Tenpin with this folder. Never change or lose it: the logs cannot be read without it,\n\
         # and check_key is a secret.\n{}",
        toml::to_string(identity).expect("a struct of numbers and strings is always valid TOML")
    );
    write_durably(path, IDENTITY_FILE, text.as_bytes())
        .map_err(|error| unusable(&path.join(IDENTITY_FILE), "cannot be written", &error))
}

fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn check_identity(path: &Path, identity: &Identity) -> Result<(), Failure> {
    let problem = if identity.format_version != FORMAT_VERSION {
        format!(
            "has format version {}, this broker reads {FORMAT_VERSION}: run it with the broker that made it, or \
             give this one another --data-dir",
            identity.format_version
        )
    } else if !(1..=SHARDS_MAX).contains(&identity.shards) {
        format!("has {} shards, this version serves 1 to {SHARDS_MAX}", identity.shards)
    } else if !identity.segment_bytes.is_power_of_two() {
        format!("names a segment size of {} bytes, which is no power of two", identity.segment_bytes)
    } else {
        return Ok(());
    };
    Err(Failure::new(ExitReason::FolderUnusable, format!("{} {problem}", path.display())))
}

/// Writes under another name, syncs, renames, syncs the folder: the file is there whole or not at all.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    sync_folder(folder)
}

/// Makes a folder, and those that it lies in, each with a name that outlives a power cut.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let parents = parents_of_missing(path);
    fs::create_dir_all(path)?;
    parents.into_iter().try_for_each(sync_folder)
}

/// The folders that get a new name where this one is made with those that it lies in.
fn parents_of_missing(path: &Path) -> Vec<&Path> {
    let missing = path.ancestors().take_while(|folder| !folder.exists());
    let parents = missing.filter_map(Path::parent);
    parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).collect()
}

pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let directory = File::open(folder)?;
    directory.sync_all()
}

fn unusable(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitReason::FolderUnusable, format!("{} {what}: {error}", path.display()))
}

/// Random bytes from the kernel.
pub fn random_bytes() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(|error| {
        Failure::new(ExitReason::Unexpected, format!("/dev/urandom cannot be read: {error}"))
    })?;
    Ok(bytes)
}

/// 16 bytes as 32 hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:032x}", u128::from_be_bytes(*bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 32 {
            return Err(D::Error::custom("expected 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(u128::to_be_bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity_and_admits_one_broker() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let first = Folder::open(place.path(), 1 << 20, 2).expect("a new folder");
        let identity = first.identity().clone();
        let refused = Folder::open(place.path(), 1 << 20, 2).expect_err("it is locked");
        assert_eq!(refused.reason, ExitReason::FolderLocked);
        assert!(refused.text.contains(&std::process::id().to_string()), "{}", refused.text);
        drop(first);
        let again = Folder::open(place.path(), 1 << 21, 3).expect("it is free again");
        assert_eq!(*again.identity(), identity, "an existing folder keeps its settings");
    }

    /// Else the folder may be gone after a power cut, with all in it that was synced.
    #[test]
    fn the_names_of_all_folders_that_are_made_are_synced() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let (outer, path) = (place.path().join("outer"), place.path().join("outer/inner"));
        assert_eq!(parents_of_missing(&path), [outer.as_path(), place.path()]);
        make_folder(&outer).expect("a folder can be made");
        assert_eq!(parents_of_missing(&path), [outer.as_path()]);
        make_folder(&path).expect("a folder can be made");
        assert!(path.is_dir() && parents_of_missing(&path).is_empty());
        let relative = parents_of_missing(Path::new("not-there/inner"));
        assert_eq!(relative, [Path::new("not-there"), Path::new(".")]);
    }

    #[test]
    fn logs_without_their_identity_are_refused_not_replaced() {
        let place = tempfile::tempdir().expect("a temporary folder");
        drop(Folder::open(place.path(), 1 << 20, 2).expect("a new folder"));
        fs::remove_file(place.path().join(IDENTITY_FILE)).expect("it was there");
        let refused = Folder::open(place.path(), 1 << 20, 2).expect_err("the logs are there still");
        assert_eq!(refused.reason, ExitReason::FolderUnusable);
    }

    #[test]
    fn a_later_distribution_without_its_identity_is_refused_not_removed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let logs = place.path().join("distribution-1/shard-0");
        fs::create_dir_all(&logs).expect("a folder can be made");
        let refused = Folder::open(place.path(), 1 << 20, 1).expect_err("nobody knows what they are");
        assert_eq!(refused.reason, ExitReason::FolderUnusable);
        assert!(logs.exists());
    }

    #[test]
    fn a_shard_that_has_lost_its_log_is_refused_not_begun_anew() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let first = Folder::open(place.path(), 1 << 20, 2).expect("a new folder");
        drop(first);
        let again = Folder::open(place.path(), 1 << 20, 2).expect("a start that was cut short");
        let file = |shard| again.shard_path(shard).join("segment-00000001.log");
        let [one, other] = [0, 1].map(file);
        [&one, &other].into_iter().for_each(|file| fs::write(file, b"a log").expect("writable"));
        again.mark_as_served().expect("writable");
        drop(again);
        drop(Folder::open(place.path(), 1 << 20, 2).expect("everything is there"));
        fs::remove_file(&other).expect("it was there");
        let refused = Folder::open(place.path(), 1 << 20, 2).expect_err("a file is missing");
        assert_eq!(refused.reason, ExitReason::LogDamaged);
        assert!(refused.text.contains("shard-1"), "{}", refused.text);
        fs::remove_dir(other.parent().expect("it has one")).expect("it is empty");
        Folder::open(place.path(), 1 << 20, 2).expect_err("a folder is missing");
        assert!(one.exists());
    }

    #[test]
    fn another_format_is_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        drop(Folder::open(place.path(), 1 << 20, 2).expect("a new folder"));
        let file = place.path().join(IDENTITY_FILE);
        let own = format!("format_version = {FORMAT_VERSION}");
        for other in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            let text = fs::read_to_string(&file).expect("readable");
            fs::write(&file, text.replace(&own, &format!("format_version = {other}"))).expect("writable");
            let refused = Folder::open(place.path(), 1 << 20, 2).expect_err("another version is not ours");
            assert!(refused.text.contains(&format!("format version {other}")), "{}", refused.text);
            fs::write(&file, text).expect("writable");
        }
    }
}
