//! What fair queues promise, each promise by a short history; histories over all of them are the model's.

use tenpin_protocol::{AttributeCode, ContentFields, Entries, SendEntry, write_content};

use super::keyed_hash::group_key;
use super::tests::{World, world};
use super::*;
use crate::flaws::{Flaw, Flaws, Sound};
use crate::simulator::bugs::Planted;

/// Sends so many messages of a group, or without one, whose bodies are the group and a number.
fn send<F: Flaws>(world: &mut World<F>, queue: u64, group: &str, count: usize) {
    let contents: Vec<(Vec<u8>, usize)> = (0..count)
        .map(|number| {
            let (body, mut content) = (format!("{group}{number}"), Vec::new());
            let group = Some(group).filter(|group| !group.is_empty());
            write_content(&mut content, body.as_bytes(), &ContentFields { group, ..Default::default() });
            (content, body.len())
        })
        .collect();
    for contents in contents.chunks(BATCH_ENTRIES_MAX) {
        let entries: Vec<_> = contents
            .iter()
            .map(|(content, body_bytes)| {
                SendEntry::with_content(content, *body_bytes).expect("it was just written")
            })
            .collect();
        world.apply(Command::Send { queue, entries: Entries::of(&entries) });
        assert!(world.out.sent.iter().all(Result::is_ok));
    }
}

fn take<F: Flaws>(world: &mut World<F>, queue: u64, count: usize, seconds: u32) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(world.receive(queue, (count - taken.len()).min(10) as u32, seconds));
    }
    taken
}

fn bodies<F: Flaws>(world: &World<F>, deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| world.body(delivery)).collect()
}

fn shares_of<F: Flaws>(world: &mut World<F>, queue: u64) -> GroupShares {
    world.engine.group_shares(world.now_ms, queue).expect("it has groups")
}

/// A queue on one of several shards, which has the whole limit of messages in flight for itself.
fn one_of_two_shards() -> (World<Sound>, u64) {
    let mut world = World::new(EngineOptions { shards: 2, ..EngineOptions::new(0, [1, 2]) });
    let queue = world.create("q");
    let index = world.engine.queues.find(queue).expect("it is there");
    world.engine.queues[index].in_flight_max = 120_000;
    (world, queue)
}

#[test]
fn a_group_with_much_in_flight_waits_behind_quiet_ones() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = world.create("q");
        send(&mut world, queue, "loud", 40);
        send(&mut world, queue, "calm", 2);
        send(&mut world, queue, "", 1);
        take(&mut world, queue, 29, 600);
        world.now_ms += 1;
        let mut taken = take(&mut world, queue, 1, 600);
        taken.extend(take(&mut world, queue, 5, 600));
        bodies(&world, &taken)
    }
    assert_eq!(run::<Sound>(), ["loud29", "calm0", "calm1", "0", "loud30", "loud31"]);
    assert_ne!(Planted::with(Flaw::ServeNoisyGroupsFirst, run::<Planted>), run::<Sound>());
}

#[test]
fn noise_by_what_is_in_flight_is_there_after_a_restart() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "loud", 40);
    take(&mut world, queue, 30, 600);
    send(&mut world, queue, "calm", 1);
    world.restart();
    world.clean(60);
    world.restart();
    assert_eq!(world.received(queue, 2, 600), ["calm0", "loud30"]);
    assert_eq!(world.counts(queue), [9, 32, 0, 0]);
}

#[test]
fn a_group_that_is_not_noisy_any_more_stands_in_its_place_again() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "loud", 40);
    let taken = take(&mut world, queue, 30, 600);
    world.now_ms += 5;
    send(&mut world, queue, "calm", 3);
    assert_eq!(world.received(queue, 1, 600), ["calm0"]);
    world.delete(queue, &taken[0].handle).0.expect("it is in flight");
    // By its processing time it is noisy: nobody else had any.
    assert_eq!(world.received(queue, 1, 600), ["calm1"]);
    world.now_ms += 70_000;
    world.drain();
    assert_eq!(world.received(queue, 1, 600), ["loud30"]);
    assert_eq!(world.received(queue, 1, 600), ["calm2"], "thirty again");
}

#[test]
fn a_group_that_takes_long_waits_for_a_minute() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "slow", 9);
    for _ in 0..20 {
        send(&mut world, queue, "", 1);
    }
    for (spent_ms, count) in [(20_000, 1), (100, 20)] {
        let taken = take(&mut world, queue, count, 600);
        world.now_ms += spent_ms;
        for delivery in taken {
            world.delete(queue, &delivery.handle).0.expect("it is in flight");
        }
        if count == 1 {
            // The slow one is noisy now, so those without a group go first.
            assert_eq!(world.counts(queue), [28, 0, 0, 0]);
        }
    }
    assert_eq!(world.counts(queue), [8, 0, 0, 0]);
    send(&mut world, queue, "", 1);
    assert_eq!(world.received(queue, 1, 600), ["0"]);
    world.now_ms += 60_000;
    send(&mut world, queue, "", 1);
    assert_eq!(world.received(queue, 1, 600), ["slow1"], "what was long ago does not count");
}

#[test]
fn nobody_waits_while_there_are_messages() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "loud", 60);
    let taken = take(&mut world, queue, 60, 600);
    assert_eq!(bodies(&world, &taken)[59], "loud59");
}

#[test]
fn groups_go_when_they_hold_nothing_and_are_not_noisy() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let index = world.engine.queues.find(queue).expect("it is there");
    let has_group = |world: &World<Sound>, group: &str| {
        let key = group_key(&world.engine.options.check_key, world.engine.queues[index].incarnation, group);
        world.engine.groups.find(key).is_some()
    };
    send(&mut world, queue, "quick", 1);
    send(&mut world, queue, "slow", 1);
    let taken = take(&mut world, queue, 2, 600);
    world.delete(queue, &taken[0].handle).0.expect("it is in flight");
    assert!(!has_group(&world, "quick"), "it took no time");
    world.now_ms += 10_000;
    world.delete(queue, &taken[1].handle).0.expect("it is in flight");
    assert!(has_group(&world, "slow"));
    send(&mut world, queue, "", 1);
    assert_eq!(world.received(queue, 1, 600), ["0"]);
    assert!(has_group(&world, "slow"), "it is still noisy");
    world.now_ms += 70_000;
    send(&mut world, queue, "", 1);
    assert_eq!(world.received(queue, 1, 600), ["0"]);
    assert!(!has_group(&world, "slow"));
    assert!(world.engine.queues[index].fair.is_none(), "it is a queue like any other");
}

#[test]
fn thousands_of_groups_come_and_go() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    for number in 0..2_000 {
        send(&mut world, queue, &format!("g{number}-"), 1);
    }
    let taken = take(&mut world, queue, 2_000, 600);
    world.now_ms += 500;
    for delivery in &taken {
        world.delete(queue, &delivery.handle).0.expect("it is in flight");
    }
    let index = world.engine.queues.find(queue).expect("it is there");
    let lingering = world.engine.queues[index].fair.as_ref().map_or(0, |fair| fair.lingering.len());
    assert!(lingering <= 65, "{lingering}");
    for group in 0..3 {
        send(&mut world, queue, &format!("g{group}-"), 1);
        take(&mut world, queue, 1, 600);
    }
    let used = world.engine.groups.places().filter(|&place| world.engine.groups.is_used(place)).count();
    assert!(used <= 10, "{used}");
}

#[test]
fn a_purge_and_a_deletion_take_groups_with_them() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "loud", 60);
    let taken = take(&mut world, queue, 40, 600);
    world.now_ms += 1_000;
    taken[..5].iter().for_each(|delivery| world.delete(queue, &delivery.handle).0.expect("in flight"));
    world.hide(queue, &taken[6].handle, 0).expect("it is in flight");
    world.ask(Command::Purge { queue });
    send(&mut world, queue, "loud", 2);
    send(&mut world, queue, "calm", 1);
    assert_eq!(world.received(queue, 10, 600), ["loud0", "loud1", "calm0"]);
    assert_eq!(world.counts(queue), [0, 3, 0, 0]);
    let digest = world.engine.digest();
    world.drain();
    world.recover();
    assert_eq!(world.engine.digest(), digest);
    world.restart_recovered();
    world.ask(Command::DeleteQueue { queue });
    world.drain();
    let used = world.engine.groups.places().filter(|&place| world.engine.groups.is_used(place)).count();
    assert_eq!((used, world.engine.stored_messages()), (0, 0));
}

#[test]
fn messages_of_groups_expire_and_are_set_aside() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    world.set(queue, AttributeCode::MessageRetentionPeriod, 60);
    send(&mut world, queue, "a", 2);
    send(&mut world, queue, "", 1);
    let taken = take(&mut world, queue, 1, 5);
    world.apply(Command::Damaged { slot: taken[0].slot, sequence: taken[0].sequence });
    world.advance(10_000, super::tests::ALL);
    send(&mut world, queue, "b", 1);
    assert_eq!(world.counts(queue), [3, 0, 0, 1]);
    world.restart();
    assert_eq!(world.counts(queue), [3, 0, 0, 1]);
    world.advance(50_000, super::tests::ALL);
    world.drain();
    assert_eq!(world.received(queue, 10, 5), ["b0"]);
    world.advance(60_000, super::tests::ALL);
    world.drain();
    assert_eq!((world.counts(queue), world.engine.stored_messages()), ([0; 4], 0));
}

#[test]
fn dead_letters_keep_their_group() {
    let (mut world, work, letters) = super::letters_tests::world::<Sound>(1);
    send(&mut world, work, "loud", 3);
    super::letters_tests::fail(&mut world, work, 1);
    world.receive(work, 10, 30);
    assert_eq!(world.counts(letters), [3, 0, 0, 0]);
    let key_of = |world: &World<Sound>, queue: u64| {
        group_key(&world.engine.options.check_key, incarnation_of(queue), "loud")
    };
    // The processing times that the group is remembered for on the queue before begin anew.
    world.restart();
    for _ in 0..2 {
        let place = world.engine.groups.find(key_of(&world, letters)).expect("it is there");
        assert_eq!(world.engine.groups[place].slots, 3);
        assert_eq!(world.engine.groups.find(key_of(&world, work)), None);
        let digest = world.engine.digest();
        world.recover();
        assert_eq!(world.engine.digest(), digest);
        world.restart_recovered();
        world.clean(100);
    }
    assert_eq!(world.received(letters, 10, 30), ["loud0", "loud1", "loud2"]);
}

#[test]
fn shares_of_other_shards_count() {
    let (mut world, queue) = one_of_two_shards();
    assert_eq!(world.engine.group_shares(world.now_ms, queue), None);
    send(&mut world, queue, "loud", 20);
    send(&mut world, queue, "calm", 2);
    send(&mut world, queue, "", 80);
    let taken = take(&mut world, queue, 10, 600);
    world.now_ms += 2_000;
    world.delete(queue, &taken[0].handle).0.expect("it is in flight");
    let shares = shares_of(&mut world, queue);
    let loud = group_key(&world.engine.options.check_key, incarnation_of(queue), "loud").bytes();
    let expected = GroupShare { group: loud, in_flight: 9, processing_ms: 2_000 };
    assert_eq!(shares, GroupShares { in_flight: 9, processing_ms: 2_000, groups: vec![expected] });
    // By its time it is noisy here; not among all shards.
    let mut foreign = GroupShares { in_flight: 0, processing_ms: 30_000, groups: Vec::new() };
    world.engine.set_foreign_shares(queue, &foreign);
    assert_eq!(world.received(queue, 1, 600), ["loud10"]);
    // Ten here and twenty elsewhere are thirty.
    foreign.groups.push(GroupShare { group: loud, in_flight: 10, processing_ms: 0 });
    foreign.groups.push(GroupShare { group: loud, in_flight: 10, processing_ms: 0 });
    foreign.in_flight = 40;
    world.engine.set_foreign_shares(queue, &foreign);
    assert_eq!(world.received(queue, 2, 600), ["calm0", "calm1"]);
    world.engine.set_foreign_shares(queue, &GroupShares { processing_ms: 30_000, ..Default::default() });
    assert_eq!(world.received(queue, 1, 600), ["loud11"]);
}

#[test]
fn groups_that_matter_no_more_are_not_told_of() {
    let (mut world, queue) = one_of_two_shards();
    for number in 0..500 {
        send(&mut world, queue, &format!("g{number}-"), 1);
    }
    take(&mut world, queue, 500, 600);
    assert!(shares_of(&mut world, queue).groups.is_empty(), "each holds a five-hundredth");
    send(&mut world, queue, "big", 20);
    take(&mut world, queue, 20, 600);
    let shares = shares_of(&mut world, queue);
    assert_eq!((shares.in_flight, shares.groups.len(), shares.groups[0].in_flight), (520, 1, 20));
}

#[test]
fn peek_shows_messages_of_groups_in_their_order_behind_the_others() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    send(&mut world, queue, "a", 2);
    send(&mut world, queue, "", 2);
    send(&mut world, queue, "b", 1);
    let taken = take(&mut world, queue, 1, 600);
    world.now_ms += 1;
    world.hide(queue, &taken[0].handle, 0).expect("it is in flight");
    let (mut shown, mut next) = (Vec::new(), None::<Box<[u8]>>);
    loop {
        let command =
            Command::Peek { queue, count_max: 1, state: 0, next: next.as_deref(), reply_bytes_max: u32::MAX };
        let ReplyBody::Peeked(range, more) = world.ask(command).body else { panic!("it is a page") };
        shown.extend(world.out.deliveries[range.start as usize..range.end as usize].to_vec());
        next = more;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(bodies(&world, &shown), ["0", "1", "a1", "b0", "a0"]);
}
