//! The log's tail: records appended, and sealed with their checksums for a write that nobody carries out.

use std::io;

use tenpin_broker::flaws::Sound;
use tenpin_broker::journal::storage::Storage;
use tenpin_broker::journal::{Durability, Log, LogOptions, RawRecord};
use tenpin_broker::shard::driver::FileNumber;

use super::BATCH;

const NOW_MS: u64 = 1_700_000_000_000;
const FIXED_BYTES: usize = 56;
const BODY_BYTES: usize = 64;

/// A kind of record that nobody reads here.
const KIND: u8 = 5;

fn append_one(log: &mut Log<Sound>) {
    log.append(NOW_MS, KIND, FIXED_BYTES, BODY_BYTES, true, |bytes| bytes.fill(7));
}

pub fn append(records: u64) {
    let mut log = Log::in_memory(LogOptions::new(Durability::Memory, [0; 16], 0));
    for index in 0..records {
        append_one(&mut log);
        if index.is_multiple_of(100) {
            log.cleaning_chunk(256 << 10);
        }
    }
}

/// A new folder.
struct Empty;

impl Storage for Empty {
    fn segments(&mut self) -> io::Result<Vec<(FileNumber, u64)>> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: FileNumber, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, _: FileNumber, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _: FileNumber, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn seal(writes: u64) {
    let options = LogOptions::new(Durability::Fsync, [0; 16], 0);
    let (mut log, _) =
        Log::<Sound>::open(&mut Empty, options, &mut |_| {}, &mut |_, _: RawRecord<'_>| Ok(()))
            .expect("an empty folder opens");
    let mut written = 0;
    while written < writes {
        for _ in 0..BATCH {
            append_one(&mut log);
        }
        while let Some((file, _)) = log.wants_segment() {
            log.segment_prepared(file, Ok(()));
        }
        while let Some(write) = log.next_write() {
            drop(write);
            log.written();
            written += 1;
        }
        log.cleaning_chunk(256 << 10);
    }
}
