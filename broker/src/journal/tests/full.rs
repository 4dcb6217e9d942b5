//! Logs that are full, or as short as they get: cleaning comes to its end, and clients can always empty
//! what they have filled (rule 16).

use super::model::{World, options};
use crate::flaws::Sound;
use crate::journal::{
    BLOCK_BYTES, CLEANING_SLICE_BYTES, Durability, LOG_SEGMENTS_MIN, LogOptions, Room, SEGMENT_BYTES_MIN,
};
use crate::shard::driver::FileNumber;

/// Turns after which the log must have come to rest, or made room.
const TURNS_MAX: u32 = 400;

fn world(options: LogOptions, seed: u64) -> World<Sound> {
    let mut world = World::new(options, seed);
    world.slice_bytes = CLEANING_SLICE_BYTES;
    world
}

/// A log that may hold so many segments, and is otherwise not cleaned.
fn bounded(segments: u64) -> LogOptions {
    LogOptions {
        log_bytes_max: Some(segments * u64::from(SEGMENT_BYTES_MIN)),
        growth_base_bytes: 1 << 30,
        ..options(Durability::Fsync)
    }
}

#[test]
fn cleaning_that_wins_nothing_ends() {
    for live_count in [3, 56, 200] {
        let options = LogOptions { growth_factor: 1, growth_base_bytes: 0, ..options(Durability::Fsync) };
        let mut world = world(options, live_count);
        for _ in 0..live_count {
            world.send(1_300);
            let garbage = world.send(3_000);
            world.turn(1);
            world.delete(garbage);
        }
        for _ in 0..TURNS_MAX {
            world.turn(1);
        }
        let (end, copied) = (world.log.end(), world.copied);
        assert!(copied > 0 || live_count == 3, "there was something to win");
        for _ in 0..TURNS_MAX {
            world.turn(1);
        }
        assert_eq!(
            (world.log.end(), world.copied),
            (end, copied),
            "{live_count} messages are copied for ever"
        );
    }
}

/// Rule 17: where long records fall so badly that a round frees nothing, none follows it.
#[test]
fn a_round_that_was_in_vain_is_not_followed_by_another() {
    // Two of them do not fit into a segment, so that no copy of them makes the log shorter.
    const BODY: usize = SEGMENT_BYTES_MIN as usize * 11 / 20;
    let mut world = world(bounded(120), 1);
    while world.log.room() == Room::All {
        world.send(BODY);
        world.turn(1);
    }
    // So little room that it is worth a try.
    world.log.set_log_bytes_max((world.log.segments_taken() + 8) * u64::from(SEGMENT_BYTES_MIN));
    for _ in 0..4 * TURNS_MAX {
        world.turn(1);
    }
    let (end, copied) = (world.log.end(), world.copied);
    assert!(copied > 0, "it was tried");
    for _ in 0..TURNS_MAX {
        world.turn(1);
    }
    assert_eq!((world.log.end(), world.copied), (end, copied), "the same is copied for ever");
}

/// Rule 17: what stays for long beside much that comes and goes is copied seldom.
#[test]
fn a_backlog_beside_a_hot_queue_costs_little() {
    const BODY: usize = 500;
    let growth_factor = LogOptions::new(Durability::Fsync, [7; 16], 0).growth_factor;
    // So short a log stands for one that is far longer than what any log may grow to.
    let options = LogOptions { growth_factor, growth_base_bytes: 0, ..options(Durability::Fsync) };
    let mut world = world(options, 1);
    for _ in 0..200 {
        for _ in 0..10 {
            world.send(BODY);
        }
        world.turn(1);
    }
    let backlog_bytes = world.log.live_bytes();
    world.copied = 0;
    let mut new_bytes = 0;
    while new_bytes < 40 * backlog_bytes {
        let hot: Vec<u64> = (0..20).map(|_| world.send(BODY)).collect();
        world.turn(1);
        new_bytes += hot.iter().map(|message| u64::from(world.live[message].1)).sum::<u64>();
        hot.into_iter().for_each(|message| world.delete(message));
        world.turn(1);
    }
    let copied_bytes = world.copied * backlog_bytes / 2_000;
    assert!(copied_bytes > backlog_bytes, "it was cleaned");
    let cost = copied_bytes as f64 / new_bytes as f64;
    assert!(cost <= 0.2, "{cost} bytes copied for each byte newly written");
}

/// Sends bodies of up to this length until sends are refused.
fn fill(world: &mut World<Sound>, body_max: u64) {
    while world.log.room() == Room::All {
        let body = world.random.below(body_max + 1) as usize;
        world.send(body);
        // Every batch fills its blocks, so that there is garbage too; now and then there is none.
        if !world.random.one_in(4) {
            world.turn(1);
        }
        while world.log.is_backlogged() {
            world.turn(1);
        }
    }
}

/// Takes and deletes all messages, each with a write of its own, in any order. Says how many
/// segments the log ever had.
fn empty(world: &mut World<Sound>) -> u64 {
    let mut segments = 0;
    while !world.live.is_empty() {
        let index = world.random.below(world.live.len() as u64) as usize;
        let message = *world.live.keys().nth(index).expect("one of them");
        let mut turns = 0;
        while world.log.room() == Room::NoReceives {
            world.turn(1);
            turns += 1;
            assert!(turns < TURNS_MAX, "receives are refused with {} messages left", world.live.len());
        }
        world.touch(message);
        world.turn(1);
        world.delete(message);
        world.turn(1);
        segments = segments.max(world.log.segments_taken());
    }
    for _ in 0..TURNS_MAX {
        world.turn(1);
        world.now_ms += 10;
        world.log.idle_mark(world.now_ms);
    }
    segments
}

#[test]
fn a_full_log_is_emptied_within_its_bound() {
    for (seed, body_max) in [0, 64, 600, 20_000, 30_000, 60_000].into_iter().enumerate() {
        for segments_max in [LOG_SEGMENTS_MIN, 13, 40] {
            let mut world = world(bounded(segments_max), seed as u64);
            fill(&mut world, body_max);
            let (sent, bytes) = (world.live.len(), world.log.live_bytes());
            let segments = empty(&mut world);
            assert!(segments <= segments_max, "{segments} of {segments_max} segments, bodies of {body_max}");
            assert_eq!(world.log.room(), Room::All);
            assert!(sent > 0, "{bytes} bytes in {segments_max} segments, bodies of {body_max}");
        }
    }
}

#[test]
fn what_fills_a_disk_can_be_taken_from_it() {
    for (seed, body_max) in [0, 64, 600, 20_000, 60_000].into_iter().enumerate() {
        for files_max in [10, 16, 40] {
            let options = LogOptions { log_bytes_max: None, ..bounded(0) };
            let mut world = world(options, seed as u64);
            world.disk.files_max = Some(files_max);
            fill(&mut world, body_max);
            empty(&mut world);
            assert_eq!(world.log.room(), Room::All, "{files_max} files, bodies of {body_max}");
        }
    }
}

#[test]
fn room_on_the_disk_is_noticed_though_no_file_is_needed() {
    let options = LogOptions { log_bytes_max: None, ..bounded(0) };
    let mut world = world(options, 1);
    world.disk.files_max = Some(12);
    fill(&mut world, 600);
    let free = world.disk.files_max.take();
    assert_eq!(world.disk.files.len(), free.expect("it was full"));
    for _ in 0..TURNS_MAX {
        world.turn(1);
    }
    assert_eq!(world.log.room(), Room::All);
    assert!(world.log.end().0 as usize > BLOCK_BYTES);
}

/// Rule 16: garbage takes nothing of the reserve, though cleaning will win it back.
#[test]
fn what_is_not_won_back_yet_is_no_room_for_sends() {
    let mut world = world(bounded(40), 1);
    while world.log.room() == Room::All {
        let message = world.send(600);
        world.delete(message);
    }
    assert_eq!(world.log.room(), Room::NoSends);
}

/// Rule 16: sends are refused by what the live records take once they are copied, wherever their copies fall, and by
/// what copying takes on the way there: each of the two may be twice their bytes.
#[test]
fn no_more_is_taken_than_can_be_copied_at_worst() {
    const SEGMENTS: u64 = 120;
    let mut world = world(bounded(SEGMENTS), 1);
    // With such among them a segment may be half filled; here all are full.
    world.send(SEGMENT_BYTES_MIN as usize * 9 / 10);
    while world.log.room() == Room::All {
        world.send(600);
    }
    let (live_bytes, most) = (world.log.live_bytes(), SEGMENTS * u64::from(SEGMENT_BYTES_MIN));
    assert!(4 * live_bytes <= most, "{live_bytes} of {most} bytes");
}

/// A world in which files of segments that are gone wait for a batch that says so, and nothing else is to be written.
fn owing() -> World<Sound> {
    let mut world = world(bounded(120), 1);
    let messages: Vec<u64> = (0..30).map(|_| world.send(20_000)).collect();
    world.settle();
    messages.into_iter().for_each(|message| world.delete(message));
    while world.log.files.retiring.is_empty() {
        world.turn(1);
    }
    assert!(world.log.is_durable());
    world
}

/// Rule 16: where no file is ready and nothing else is coming, a batch without records frees those that wait for one.
#[test]
fn files_that_wait_for_a_batch_get_one_where_none_is_ready() {
    let mut world = owing();
    assert!(!world.log.files.spares.is_empty());
    assert!(world.log.next_write().is_none(), "there is no need");
    world.log.files.spares.clear();
    assert!(world.log.next_write().is_some());
}

/// A file is ready for the tail beside those that will be free with the next batches, and they count for the reserve.
#[test]
fn the_tail_waits_for_no_file_to_become_free() {
    let mut world = owing();
    let files = &mut world.log.files;
    files.spares.clear();
    files.retiring = (1..40).map(|number| (u64::MAX, FileNumber(1_000 + number))).collect();
    let (file, _) = world.log.wants_segment().expect("none is ready");
    world.log.segment_prepared(file, Ok(()));
    assert_eq!(world.log.wants_segment(), None);
}
