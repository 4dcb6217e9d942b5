//! The journal's files: writes, reads, and what is not there.

use super::World;
use super::run::{POLL_TIMEOUT, POLLS_MAX, Run, pattern, read_ready};
use crate::shard::driver::{Driver, FileNumber, JournalRead, JournalWrite};

pub(super) fn journal_files_keep_what_is_written<W: World>() {
    let mut run = Run::<W>::new();
    let (one, two) = (FileNumber(1), FileNumber(2));
    run.prepare(one, 1 << 20).unwrap();
    run.prepare(two, 1 << 20).unwrap();
    assert_eq!(run.read(one, 0, 8192).unwrap(), vec![0; 8192]);
    let bytes = pattern(64 << 10, 11);
    run.write(one, 4096, &bytes, true).unwrap();
    run.write(two, 0, &bytes[..4096], false).unwrap();
    run.world.driver().journal_sync(two);
    run.until("the sync to end", |run| !run.seen.synced.is_empty());
    run.seen.synced.remove(0).unwrap();
    assert!(run.read(one, 4096, 64 << 10).unwrap() == bytes);
    assert_eq!(run.read(two, 0, 4096).unwrap(), bytes[..4096]);

    // A file that is there already is left as it is.
    run.prepare(one, 1 << 20).unwrap();
    assert_eq!(run.read(one, 4096, 4096).unwrap(), bytes[..4096]);
    // One that was removed is made anew, though it was open.
    run.remove(one).unwrap();
    run.read(one, 0, 4096).unwrap_err();
    run.write(one, 0, &bytes[..4096], true).unwrap_err();
    run.prepare(one, 1 << 20).unwrap();
    run.write(one, 0, &bytes[..4096], true).unwrap();
    assert_eq!(run.read(one, 0, 4096).unwrap(), bytes[..4096]);
    assert_eq!(run.read(one, 4096, 4096).unwrap(), vec![0; 4096]);
}

pub(super) fn a_file_is_finished_while_its_beginning_is_written_to<W: World>() {
    let mut run = Run::<W>::new();
    let file = FileNumber(1);
    run.prepare(file, 1 << 20).unwrap();
    let bytes = pattern(64 << 10, 16);
    run.world.driver().finish_segment(file, 512 << 10, 1 << 20);
    run.write(file, 0, &bytes, true).unwrap();
    run.until("the file to be finished", |run| !run.seen.prepared.is_empty());
    let (finished, result) = run.seen.prepared.remove(0);
    assert_eq!(finished, file);
    result.unwrap();
    assert!(run.read(file, 0, 64 << 10).unwrap() == bytes);
    assert_eq!(run.read(file, 512 << 10, 4096).unwrap(), vec![0; 4096]);
}

pub(super) fn several_reads_and_a_write_are_under_way_at_once<W: World>() {
    const READS: u64 = 20;
    let mut run = Run::<W>::new();
    run.prepare(FileNumber(1), 1 << 20).unwrap();
    let bytes = pattern(512 << 10, 12);
    run.write(FileNumber(1), 0, &bytes, true).unwrap();
    for number in 0..READS {
        let read = JournalRead { file: FileNumber(1), offset: number * 4096, length: 8192 };
        run.world.driver().journal_read(read);
    }
    run.world.driver().prepare_segment(FileNumber(2), 4 << 20);
    run.write(FileNumber(1), 512 << 10, &bytes, true).unwrap();
    run.until("all reads", |run| run.seen.reads.len() == READS as usize && !run.seen.prepared.is_empty());
    for (read, result) in &run.seen.reads {
        let start = read.offset as usize;
        assert_eq!(result.as_ref().unwrap(), &bytes[start..start + 8192]);
    }
}

pub(super) fn what_is_asked_of_missing_files_fails<W: World>() {
    let mut run = Run::<W>::new();
    let missing = FileNumber(77);
    run.write(missing, 0, &[1; 4096], true).unwrap_err();
    run.write(missing, 0, &[1; 4096], false).unwrap_err();
    run.read(missing, 0, 4096).unwrap_err();
    run.remove(missing).unwrap_err();
    run.world.driver().journal_sync(missing);
    run.until("the sync to end", |run| !run.seen.synced.is_empty());
    run.seen.synced.remove(0).unwrap_err();

    run.prepare(FileNumber(1), 64 << 10).unwrap();
    run.read(FileNumber(1), 60 << 10, 8192).unwrap_err();
    run.read(FileNumber(1), 64 << 10, 4096).unwrap_err();
}

pub(super) fn a_driver_can_be_dropped_with_everything_under_way<W: World>() {
    let mut run = Run::<W>::new();
    run.prepare(FileNumber(1), 1 << 20).unwrap();
    let (mut client, connection) = run.connect();
    let (mut lingering, other) = run.connect();
    run.send(connection, pattern(16 << 20, 13));
    run.send(other, pattern(16 << 20, 14));
    run.world.driver().close(other, true);
    run.poll(Some(POLL_TIMEOUT));
    for file in 2..6 {
        run.world.driver().prepare_segment(FileNumber(file), 64 << 20);
    }
    for number in 0..8 {
        run.world.driver().journal_read(JournalRead {
            file: FileNumber(1),
            offset: number * 4096,
            length: 4096,
        });
    }
    let bytes = run.world.sealed(&pattern(256 << 10, 15));
    run.world.driver().journal_write(JournalWrite { file: FileNumber(1), offset: 0, bytes, durable: true });
    let _unaccepted = run.world.connect().unwrap();
    drop(run);
    // Both connections have ended; what had been taken may still arrive.
    let mut bytes = Vec::new();
    for client in [&mut client, &mut lingering] {
        assert!((0..POLLS_MAX).any(|_| read_ready(client, &mut bytes)), "the client sees the end");
    }
}
