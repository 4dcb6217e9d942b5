//! The log over a disk that fails in every way that disks do.

mod disk;
mod full;
mod model;

use model::{World, options};
use proptest::prelude::*;

use super::{
    Cleaning, ColdRecord, Durability, Log, LogOptions, OpenError, Position, Room, SEGMENT_BYTES_MIN, inspect,
    verify,
};
use crate::flaws::{Flaw, Flaws, Sound};
use crate::simulator::bugs::Planted;

/// Sends, deletes, turns and crashes by chance.
fn live_through<F: Flaws>(durability: Durability, seed: u64, steps: u64) -> World<F> {
    let mut world = World::<F>::new(options(durability), seed);
    for _ in 0..steps {
        work(&mut world);
        if world.random.one_in(60) {
            world.settle();
        }
        if world.random.one_in(40) {
            let power_fails = world.random.one_in(2);
            world.restart(power_fails).expect("a crash is no damage");
        }
    }
    world
}

fn work<F: Flaws>(world: &mut World<F>) {
    if !world.log.is_backlogged() {
        for _ in 0..world.random.below(12) {
            let body = if world.random.one_in(20) { 20_000 } else { 600 };
            let body = world.random.below(body) as usize;
            world.send(body);
        }
        let deletes = world.random.below(14);
        for _ in 0..deletes {
            let index = world.random.below(world.live.len().max(1) as u64) as usize;
            // Mostly the oldest, as queues do, and now and then any.
            let index = if world.random.one_in(4) { index } else { 0 };
            let Some(&message) = world.live.keys().nth(index) else { break };
            world.delete(message);
        }
    }
    let haste = 1 + world.random.below(4);
    world.turn(haste);
}

/// A start does not wait until its file is filled with zeros, and nothing is written where that still goes on.
#[test]
fn a_file_that_has_been_begun_is_written_to_as_far_as_it_is() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 1);
    let log = &mut world.log;
    let (file, length) = log
        .wants_segment()
        .or_else(|| {
            log.append(1, 1, 16, 0, true, |out| out.fill(0));
            log.wants_segment()
        })
        .expect("a log that has something to write wants a file");
    log.segment_begun(file, 8192);
    world.send(100);
    let write = world.log.next_write().expect("there is room for little");
    assert!(write.file == file && write.offset + write.bytes.as_ref().len() as u64 <= 8192);
    world.log.written();
    world.send(20_000);
    assert!(world.log.next_write().is_none());
    assert_eq!(world.log.wants_finishing(), Some((file, 8192, length)));
    assert_eq!(world.log.wants_finishing(), None);
    // Zeros that could not be written are read all the same.
    world.log.segment_prepared(file, Err(std::io::ErrorKind::Other.into()));
    assert!(world.log.next_write().is_some_and(|write| write.file == file));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_was_promised_outlives_every_crash(seed: u64) {
        let mut world = live_through::<Sound>(Durability::Fsync, seed, 400);
        world.settle();
        world.restart(true).unwrap();
        prop_assert!(is_whole(&mut world));
    }

    #[test]
    fn after_a_power_cut_an_async_log_is_a_prefix(seed: u64) {
        live_through::<Sound>(Durability::Async, seed, 400);
    }

    #[test]
    fn damage_is_never_cut(seed: u64) {
        survive_rot::<Sound>(seed);
    }
}

fn is_whole<F: Flaws>(world: &mut World<F>) -> bool {
    verify(&mut world.disk, &world.options, &mut |_| {}).unwrap().damage.is_empty()
}

/// Works, rests, and opens a disk on which one bit has changed.
fn survive_rot<F: Flaws>(seed: u64) {
    let mut world = World::<F>::new(options(Durability::Fsync), seed);
    for _ in 0..150 {
        work(&mut world);
        if world.random.one_in(50) {
            world.restart(true).expect("a crash is no damage");
        }
    }
    world.settle();
    let before = world.history.len();
    let place = world.random.next();
    rot(&mut world, place);
    match world.restart(true) {
        Ok(()) => assert_eq!(world.history.len(), before, "nothing is missing"),
        Err(OpenError::Damage { .. }) => {
            assert!(!is_whole(&mut world));
        }
        Err(error) => panic!("not damage: {error}"),
    }
}

/// Flips one bit somewhere on the disk, but not in the last batch, which nothing vouches for.
fn rot<F: Flaws>(world: &mut World<F>, place: u64) {
    let mark = world.log.chain_end;
    let files: Vec<u32> = world.disk.files.keys().copied().collect();
    let file = files[(place % files.len() as u64) as usize];
    let offset = (place / 64 % u64::from(SEGMENT_BYTES_MIN)) as usize;
    let tail_file = world.log.segments.back().and_then(|segment| segment.file);
    let last_block = world.log.geometry.offset(Position(mark.0 - 1)) / super::BLOCK_BYTES;
    let is_mark = tail_file.is_some_and(|tail| tail.0 == file) && offset / super::BLOCK_BYTES == last_block;
    if !is_mark {
        world.disk.files.get_mut(&file).unwrap()[offset] ^= 1 << (place % 8);
    }
}

#[test]
fn small_logs_are_cleaned_and_their_files_used_again() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 1);
    let keeper = world.send(500);
    for _ in 0..3_000 {
        let message = world.send(400);
        world.turn(1);
        world.delete(message);
    }
    world.settle();
    assert!(world.copied > 0, "the keeper was carried");
    assert!(world.log.log_bytes() < 1 << 20, "{} bytes", world.log.log_bytes());
    assert!(world.disk.files.len() < 16, "{} files", world.disk.files.len());
    assert!(world.fetch(keeper).is_ok());
    world.restart(true).unwrap();
    assert_eq!(world.live.keys().collect::<Vec<_>>(), [&keeper]);
}

#[test]
fn cold_records_come_back_and_damaged_ones_are_told() {
    let options = LogOptions { growth_base_bytes: 1 << 30, ..options(Durability::Fsync) };
    let mut world = World::<Sound>::new(options, 2);
    let messages: Vec<u64> = (0..400)
        .map(|_| {
            let message = world.send(1_500);
            world.turn(1);
            message
        })
        .collect();
    world.settle();
    world.restart(false).unwrap();
    for message in &messages {
        let bytes = world.fetch(*message).expect("it is whole");
        assert_eq!(bytes.len(), 1_500 + 32);
        assert_eq!(bytes[40], *message as u8);
    }
    let (position, _) = world.live[&messages[5]];
    let offset = world.log.geometry.offset(position) + 100;
    let serial = world.log.geometry.serial(position);
    let file = world.log.segments[(serial - world.log.first_serial) as usize].file.unwrap();
    world.log.windows = super::cold::Windows::default();
    world.disk.files.get_mut(&file.0).unwrap()[offset] ^= 1;
    assert!(world.fetch(messages[5]).is_err(), "its own checksum tells");
    assert!(world.fetch(messages[6]).is_ok());
    world.log.windows = super::cold::Windows::default();
    world.disk.files.remove(&file.0);
    assert!(world.fetch(messages[7]).is_err(), "a failed read is not waited for forever");
}

#[test]
fn a_read_that_fails_once_is_no_damage() {
    let options = LogOptions { growth_base_bytes: 1 << 30, ..options(Durability::Fsync) };
    let mut world = World::<Sound>::new(options, 10);
    let messages: Vec<u64> = (0..200).map(|_| world.send(1_500)).collect();
    world.settle();
    world.restart(false).unwrap();
    for message in &messages {
        world.log.windows = super::cold::Windows::default();
        world.failing_reads = 1;
        assert!(world.fetch(*message).is_ok(), "whether it lies in one window or crosses into the next");
    }
}

#[test]
fn a_log_read_in_order_is_waited_for_once() {
    let budgets =
        LogOptions { growth_base_bytes: 1 << 30, cold_bytes_max: 1 << 20, ..options(Durability::Fsync) };
    let mut world = World::<Sound>::new(budgets, 8);
    let messages: Vec<u64> = (0..400).map(|_| world.send(1_500)).collect();
    world.settle();
    world.restart(false).unwrap();
    let serials = |world: &World<Sound>| world.log.segments.iter().filter(|one| one.file.is_some()).count();
    assert!(serials(&world) > 5, "several segments are crossed");
    for message in &messages {
        let (position, length) = world.live[message];
        let bytes = world.fetch(*message).expect("it is whole");
        assert_eq!(world.log.record_here(position, length), Some(&bytes[..]));
        world.turn(1);
    }
    assert_eq!(world.waits, 1, "all but the first window were there in time");
}

#[test]
fn a_full_disk_leaves_room_to_delete() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 3);
    world.disk.files_max = Some(14);
    while world.log.room() == Room::All {
        world.send(2_000);
        world.turn(1);
        assert!(world.disk.files.len() <= 14);
    }
    let kept: Vec<u64> = world.live.keys().copied().collect();
    for (index, message) in kept.iter().enumerate() {
        if index % 4 != 0 {
            world.delete(*message);
        }
        world.turn(1);
    }
    world.settle();
    for _ in 0..2_000 {
        world.turn(1);
        world.now_ms += 10;
        world.log.idle_mark(world.now_ms);
    }
    assert_eq!(world.log.room(), Room::All, "cleaning has made room");
    world.send(10);
    world.settle();
    world.restart(true).unwrap();
}

#[test]
fn a_log_in_memory_frees_what_is_dead() {
    let options = LogOptions { hot_bytes_max: 2 << 20, ..options(Durability::Memory) };
    let mut log = Log::<Sound>::in_memory(options);
    let keep = |log: &mut Log<Sound>, value: u8| {
        let position = log.append(1, 5, 8, 40_000, true, |bytes| bytes.fill(value));
        log.live(position, 40_024);
        position
    };
    let append = |log: &mut Log<Sound>, tally: &mut super::Tally| {
        let position = log.append(1, 5, 8, 400, true, |bytes| bytes.fill(9));
        log.note_live(tally, position, 424);
        position
    };
    let keepers = [7, 8].map(|value| {
        let position = keep(&mut log, value);
        for _ in 0..10_000 {
            // Some batches are in two segments, and are counted when the first is full.
            let mut tally = super::Tally::default();
            let batch = [(); 10].map(|()| append(&mut log, &mut tally));
            log.settle_live(&mut tally);
            let _ = log.cleaning_chunk(4096);
            for position in batch {
                assert!(
                    log.bytes(position, 424).is_some_and(|bytes| bytes[24..].iter().all(|&byte| byte == 9))
                );
                log.note_released(&mut tally, position, 424);
            }
            log.settle_released(&mut tally);
            let _ = log.cleaning_chunk(4096);
        }
        position
    });
    assert!(log.segments.len() > 1_000, "what is kept is where it was");
    assert!(log.segments_taken() <= 4, "one segment for each, and the tail's");
    assert_eq!(log.room(), Room::All);
    for (position, value) in keepers.into_iter().zip([7, 8]) {
        let bytes = log.bytes(position, 40_024).expect("it is live");
        assert!(bytes[24..].iter().all(|&byte| byte == value));
        log.release(position, 40_024);
        let _ = log.cleaning_chunk(4096);
    }
    assert_eq!((log.segments.len(), log.vacant), (1, 0));
    assert_eq!(log.committed(), Position::MAX);
}

/// What is live for ever does not make the list of segments before the tail longer and longer.
#[test]
fn a_log_in_memory_goes_on_from_what_is_kept_in_time() {
    let options = LogOptions { hot_bytes_max: 2 << 20, ..options(Durability::Memory) };
    let mut log = Log::<Sound>::in_memory(options);
    let keeper = log.append(1, 5, 8, 40_000, true, |bytes| bytes.fill(7));
    log.live(keeper, 40_024);
    let segment_bytes = log.options().segment_bytes as usize;
    let mut begun = 0;
    while begun == 0 {
        log.append(1, 5, 8, segment_bytes / 2, true, |_| ());
        if let Cleaning::Begins(old) = log.cleaning_chunk(4096) {
            assert!(old.contains(&keeper));
            begun = log.segments.len();
        }
        assert!(log.segments_taken() <= 3);
    }
    assert!((1 << 16..=(1 << 16) + 3).contains(&begun), "{begun} segments");
}

/// Rule 31: where much is dead at once, as a backlog of large messages is that was purged, it goes a little at a time,
/// behind what stays and when nothing does.
#[test]
fn a_log_lets_go_of_a_few_segments_at_a_time() {
    let expected = [[27, 23, 19, 15, 11, 7, 3, 2], [27, 23, 19, 15, 11, 7, 3, 1]];
    for (stays, expected) in [true, false].into_iter().zip(expected) {
        let options =
            LogOptions { hot_bytes_max: 1 << 30, ..LogOptions::new(Durability::Memory, [0; 16], 0) };
        let mut log = Log::<Sound>::in_memory(options);
        let keeper = log.append(1, 5, 8, 40, true, |bytes| bytes.fill(7));
        log.live(keeper, 64);
        while log.segments.len() < 31 {
            log.append(1, 5, 8, 1 << 20, true, |bytes| bytes[0] = 9);
        }
        if !stays {
            log.release(keeper, 64);
        }
        let mut taken = Vec::new();
        while taken.is_empty() || log.has_more_to_let_go() {
            let _ = log.cleaning_chunk(4096);
            taken.push(log.segments_taken());
        }
        assert_eq!(taken, expected);
    }
}

/// Rule 16: what may be refused depends on the longest record, however records are counted.
#[test]
fn records_counted_together_leave_as_much_room_as_one_by_one() {
    let options = LogOptions { hot_bytes_max: 1 << 20, ..options(Durability::Memory) };
    let [mut one_by_one, mut together] = [options.clone(), options].map(Log::<Sound>::in_memory);
    let (mut rooms, mut stored) = (Vec::new(), 0);
    while one_by_one.room() == Room::All {
        let mut tally = super::Tally::default();
        for length in [424, 30_024] {
            let position = one_by_one.append(1, 5, 8, length - 24, true, |bytes| bytes.fill(9));
            one_by_one.live(position, length as u32);
            let position = together.append(1, 5, 8, length - 24, true, |bytes| bytes.fill(9));
            together.note_live(&mut tally, position, length as u32);
            stored += length;
        }
        together.settle_live(&mut tally);
        rooms.push((one_by_one.room(), together.room()));
    }
    assert_eq!(one_by_one.longest_bytes, together.longest_bytes);
    assert!(rooms.iter().all(|(one, other)| one == other), "{stored} bytes stored: {rooms:?}");
}

#[test]
fn inspecting_tells_what_there_is() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 4);
    world.send(100);
    world.settle();
    let summary = inspect(&mut world.disk, &world.options, &mut |_| {}).unwrap();
    assert_eq!((summary.totals.records, summary.totals.batches), (1, 2));
    let [segment] = summary.segments[..] else { panic!("{summary:?}") };
    assert_eq!((segment.serial, segment.file.0, segment.batches, segment.records), (1, 1, 2, 1));
    assert_eq!(summary.kinds.len(), 1);
    let sum = summary.kinds.values().next().unwrap();
    assert_eq!((sum.records, sum.bytes), (1, 136));
    assert!(summary.to_string().starts_with("1 records in 2 batches of 1 segments"), "{summary}");
}

#[test]
fn all_damage_is_listed_and_the_segments_behind_it_are_read() {
    let mut world =
        World::<Sound>::new(LogOptions { growth_base_bytes: 1 << 30, ..options(Durability::Fsync) }, 9);
    for _ in 0..300 {
        world.send(1_500);
        world.turn(1);
    }
    world.settle();
    // A start in between leaves a segment short and begins another.
    world.restart(true).unwrap();
    for _ in 0..100 {
        world.send(1_500);
        world.turn(1);
    }
    world.settle();
    let whole = verify(&mut world.disk, &world.options, &mut |_| {}).unwrap();
    assert_eq!((whole.totals.records, whole.damage.len()), (400, 0));
    assert!(whole.segments.len() > 6);
    let (second, fifth) = (whole.segments[1], whole.segments[4]);
    // The first batch of one segment, the header of another.
    world.disk.files.get_mut(&second.file.0).unwrap()[super::BLOCK_BYTES + 100] ^= 1;
    world.disk.files.get_mut(&fifth.file.0).unwrap()[50] ^= 1;
    let mut told = 0;
    let summary = verify(&mut world.disk, &world.options, &mut |_| told += 1).unwrap();
    let places: Vec<_> = summary.damage.iter().map(|finding| (finding.file, finding.offset)).collect();
    // Without its header the fifth is not known: the log breaks at the end of the fourth.
    let fourth = whole.segments[3];
    assert!(places.contains(&(second.file, super::BLOCK_BYTES as u64)), "{places:?}");
    assert!(places.iter().any(|(file, offset)| *file == fourth.file && *offset > 0), "{places:?}");
    assert_eq!(places.len(), 2);
    let lost = second.records + fifth.records;
    assert_eq!(summary.totals.records, 400 - lost, "everything else was read");
    assert_eq!(told, whole.segments.len() - 2);
    assert!(matches!(world.restart(false), Err(OpenError::Damage { .. })), "it is not served");
}

/// A file gets its name when it has its length: one that was cut short has lost what was in it, also where nothing is
/// left that says so.
#[test]
fn a_file_that_is_cut_short_is_damage() {
    for length in [0, 100, super::BLOCK_BYTES, 3 * super::BLOCK_BYTES] {
        let mut world = World::<Sound>::new(options(Durability::Fsync), 5);
        world.send(100);
        world.settle();
        let whole = inspect(&mut world.disk, &world.options, &mut |_| {}).unwrap();
        let newest = whole.segments.last().unwrap().file.0;
        world.disk.files.get_mut(&newest).unwrap().truncate(length);
        assert!(matches!(world.restart(false), Err(OpenError::Damage { .. })), "{length} bytes are left");
    }
}

#[test]
fn a_closing_mark_that_is_wanted_during_a_write_follows_it() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 5);
    world.settle();
    world.send(100);
    let write = loop {
        match world.log.next_write() {
            Some(write) => break write,
            None => world.turn(1),
        }
    };
    world.log.idle_mark(world.now_ms);
    super::storage::Storage::write(&mut world.disk, write.file, write.offset, write.bytes.as_ref()).unwrap();
    world.log.written();
    assert!(!world.log.is_settled());
    let mark = world.log.next_write().expect("the mark was not forgotten");
    assert_eq!(mark.bytes.len(), super::BLOCK_BYTES);
    world.log.written();
    assert!(world.log.is_settled());
}

#[test]
fn starts_need_no_budget_for_what_they_write() {
    let options =
        LogOptions { log_bytes_max: Some(8 * u64::from(SEGMENT_BYTES_MIN)), ..options(Durability::Fsync) };
    let mut world = World::<Sound>::new(options, 6);
    while world.log.room() == Room::All {
        world.send(2_000);
        world.turn(1);
    }
    for _ in 0..12 {
        world.restart(false).unwrap();
        // What a start journals before it serves.
        world.send(10);
        world.settle();
    }
}

/// Whether one of these seeds shows that something is wrong.
fn is_found(run: fn(u64)) -> bool {
    (0..60).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err())
}

macro_rules! planted {
    ($test:ident, $flaw:ident, $run:expr) => {
        #[test]
        fn $test() {
            assert!(Planted::with(Flaw::$flaw, || is_found($run)), "these tests would not find it");
        }
    };
}

planted!(a_reply_before_the_sync_is_found, AcknowledgeBeforeSync, |seed| {
    live_through::<Planted>(Durability::Fsync, seed, 400);
});
planted!(a_file_used_again_too_early_is_found, RecycleBeforeCopiesAreDurable, |seed| {
    live_through::<Planted>(Durability::Fsync, seed, 400);
});
planted!(a_torn_batch_taken_as_whole_is_found, TakeTornTailAsWhole, |seed| {
    live_through::<Planted>(Durability::Fsync, seed, 400);
});
planted!(damage_cut_as_a_torn_tail_is_found, CutDamageAsTornTail, survive_rot::<Planted>);

#[test]
fn a_damaged_segment_is_told_and_the_rest_of_it_is_carried() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 7);
    let messages: Vec<u64> = (0..100).map(|_| world.send(500)).collect();
    world.settle();
    world.restart(false).unwrap();
    let serial = world.log.first_serial;
    let file = world.log.segments[0].file.unwrap();
    // A record's own length, so that the way to those behind it is lost, and another one's body.
    for (message, byte) in [(messages[10], 1), (messages[50], 100)] {
        let (position, _) = world.live[&message];
        let offset = world.log.geometry.offset(position) + byte;
        world.disk.files.get_mut(&file.0).unwrap()[offset] ^= 1;
    }
    world.log.options.growth_base_bytes = 0;
    // The oldest segment is cleaned once there is something to win.
    for _ in 0..10 {
        let garbage = world.send(20_000);
        world.turn(1);
        world.delete(garbage);
    }
    world.log.options.growth_factor = 0;
    for _ in 0..2_000 {
        world.turn(1);
    }
    let lost = world.log.lost_positions().expect("two records cannot be found");
    assert_eq!(world.log.geometry.serial(lost.start), serial);
    assert_eq!(world.copied, 98, "all others were carried, once");
    assert!(world.fetch(messages[10]).is_err() && world.fetch(messages[50]).is_err());
    assert!(world.fetch(messages[11]).is_ok());
}

/// Rule 15: what a disk cannot read any more is lost with the records that lie there, and with no others,
/// though cleaning reads much at once.
#[test]
fn a_block_that_cannot_be_read_costs_only_what_lies_in_it() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 7);
    world.slice_bytes = super::CLEANING_SLICE_BYTES;
    let messages: Vec<u64> = (0..100).map(|_| world.send(500)).collect();
    world.settle();
    world.restart(false).expect("it is no damage");
    let serial = world.log.first_serial;
    let file = world.log.segments[0].file.expect("it has been written");
    let place = world.log.geometry.offset(world.live[&messages[50]].0) + 100;
    world.disk.unreadable = Some((file.0, place));
    let block = place / super::BLOCK_BYTES;
    let lies_there = |message: &&u64| {
        let (position, length) = world.live[*message];
        let first = world.log.geometry.offset(position);
        (first / super::BLOCK_BYTES..=(first + length as usize - 1) / super::BLOCK_BYTES).contains(&block)
    };
    let lost: Vec<u64> = messages.iter().filter(lies_there).copied().collect();
    assert!((8..=10).contains(&lost.len()));
    world.log.options.growth_base_bytes = 0;
    // The oldest segment is cleaned once there is something to win.
    for _ in 0..10 {
        let garbage = world.send(20_000);
        world.turn(1);
        world.delete(garbage);
    }
    world.log.options.growth_factor = 0;
    for _ in 0..2_000 {
        world.turn(1);
    }
    let range = world.log.lost_positions().expect("what lies there cannot be found");
    assert_eq!(world.log.geometry.serial(range.start), serial);
    let stay: Vec<u64> =
        messages.iter().filter(|message| range.contains(&world.live[*message].0)).copied().collect();
    assert_eq!(stay, lost);
}

/// Rule 31: a turn checks some of what looks like the beginnings of long records and is none.
#[test]
fn what_looks_like_records_is_checked_over_several_turns() {
    const LENGTH: usize = 16_000;
    let mut world = World::<Sound>::new(options(Durability::Fsync), 7);
    world.slice_bytes = super::CLEANING_SLICE_BYTES;
    let large = world.send(20_000);
    let others: Vec<u64> = (0..40).map(|_| world.send(500)).collect();
    world.settle();
    world.restart(false).expect("it is no damage");
    let serial = world.log.first_serial;
    let file = world.log.segments[0].file.expect("it has been written");
    let place = world.log.geometry.offset(world.live[&large].0);
    let body = place + 32..place + 32 + 20_000;
    let bytes = world.disk.files.get_mut(&file.0).expect("it is there");
    // The record's own length, so that the way to those behind it is lost.
    bytes[place + 1] ^= 1;
    let [one, two, ..] = LENGTH.to_le_bytes();
    for beginning in bytes[body.clone()].chunks_exact_mut(8) {
        beginning.copy_from_slice(&[one, two, 0, 0, 5, 1, 0, 0]);
    }
    let turn = |world: &mut World<Sound>| {
        let before = world.log.cleaner.offset.max(body.start);
        world.turn(1);
        if world.log.cleaner.serial == serial {
            let looked_at = world.log.cleaner.offset.min(body.end).saturating_sub(before) / 8;
            assert!(
                looked_at * LENGTH < super::CLEANING_SLICE_BYTES as usize + LENGTH,
                "{looked_at} at once"
            );
        }
    };
    world.log.options.growth_base_bytes = 0;
    // The oldest segment is cleaned once there is something to win.
    for _ in 0..10 {
        let garbage = world.send(20_000);
        turn(&mut world);
        world.delete(garbage);
    }
    world.log.options.growth_factor = 0;
    for _ in 0..4_000 {
        turn(&mut world);
    }
    let lost = world.log.lost_positions().expect("a record cannot be found");
    assert_eq!(world.log.geometry.serial(lost.start), serial);
    assert_eq!(world.copied, others.len() as u64, "all others were carried, once");
}

/// Rule 14: a batch follows only the one that it was written behind, whatever else fits.
#[test]
fn a_batch_of_another_history_is_not_taken_for_the_next_one() {
    let written = |bodies: &[usize]| {
        let mut world = World::<Sound>::new(options(Durability::Fsync), 1);
        for &body in bodies {
            world.send(body);
            while world.log.committed() < world.log.end() {
                world.turn(1);
            }
        }
        world
    };
    let (other, mut world) = (written(&[100, 100, 100]), written(&[100, 200]));
    // Each batch is a block, behind that of the segment's header.
    let third = 3 * super::BLOCK_BYTES..4 * super::BLOCK_BYTES;
    let foreign = other.disk.files[&1][third.clone()].to_vec();
    assert!(
        foreign.starts_with(b"TPB1") && world.disk.files[&1][third.start..].iter().all(|byte| *byte == 0)
    );
    world.disk.sync_everything();
    world.disk.files.get_mut(&1).expect("it has one file")[third].copy_from_slice(&foreign);
    world.disk.sync_everything();
    world.restart(false).expect("it is no damage");
    assert_eq!(world.history.len(), 2);
    assert!(world.report.cut.is_some(), "what lies there is told of");
}

/// Rule 13: a file is not used again while somebody still reads from it, though nothing in it is needed any more.
#[test]
fn a_file_that_is_read_from_is_not_used_again() {
    let mut world = World::<Sound>::new(options(Durability::Fsync), 3);
    let message = world.send(500);
    world.settle();
    world.restart(false).expect("it is no damage");
    let file = world.log.segments[0].file.expect("it has been written");
    let (position, length) = world.live[&message];
    assert_eq!(world.log.cold_record(position, length), ColdRecord::Reading);
    let read = world.log.next_read().expect("it has to be read");
    assert_eq!(read.file, file);
    world.delete(message);
    let go_on = |world: &mut World<Sound>| {
        for _ in 0..40 {
            let garbage = world.send(20_000);
            world.turn(1);
            world.delete(garbage);
        }
    };
    let waits = |world: &World<Sound>| world.log.files.retiring.iter().any(|(_, retiring)| *retiring == file);
    go_on(&mut world);
    assert!(world.log.first_serial > world.log.geometry.serial(position) && waits(&world));
    world.log.read_done(read, Ok(vec![0; read.length as usize]));
    go_on(&mut world);
    assert!(!waits(&world));
}
