//! What is claimed of the mesh, each claim by all interleavings of a small world.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::peer::{Peer, mesh};
use crate::ring::ring;
use crate::sync::without_fences;
use crate::wake::Wake;

/// Preemptions that a model tries: loom's authors found two to three to be where bugs show.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

/// How a peer waits in a model. A wait that nobody ends is a deadlock, which loom reports.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = self.heard.wait(rung).unwrap();
        }
    }
}

struct Rope(Arc<Bell>);

impl Wake for Rope {
    fn wake(&self) {
        *self.0.rung.lock().unwrap() = true;
        self.0.heard.notify_one();
    }
}

/// A peer with what it waits on. Never dropped: a model that fails has no world left to drop it in.
type Party = (ManuallyDrop<Peer<u32>>, Arc<Bell>);

fn parties(count: usize, ring_capacity: usize) -> Vec<Party> {
    let bells: Vec<_> = (0..count).map(|_| Arc::<Bell>::default()).collect();
    let wakes = bells.iter().map(|bell| Box::new(Rope(Arc::clone(bell))) as Box<dyn Wake>).collect();
    mesh(wakes, ring_capacity).into_iter().map(ManuallyDrop::new).zip(bells).collect()
}

/// Takes turns and parks between them until `wanted` items have come, and all of its own are on the way.
fn run((mut peer, bell): Party, wanted: usize) -> (Party, Vec<(u16, u32)>) {
    let mut received = Vec::new();
    loop {
        peer.receive(&mut |from, item| received.push((from, item)));
        if received.len() >= wanted && peer.overflow_len() == 0 {
            return ((peer, bell), received);
        }
        if peer.prepare_to_park() {
            bell.wait();
        }
        peer.unparked();
    }
}

#[test]
fn a_ring_keeps_items_whole_and_in_order() {
    check(|| {
        let (mut sender, mut receiver) = ring::<Box<u32>>(2);
        let giving = thread::spawn(move || {
            for number in 0..3 {
                let mut item = Box::new(number);
                while let Err(refused) = sender.push(item) {
                    item = refused;
                    thread::yield_now();
                }
            }
        });
        let mut received = Vec::new();
        while received.len() < 3 {
            match receiver.pop() {
                Some(item) => received.push(*item),
                None => thread::yield_now(),
            }
        }
        giving.join().unwrap();
        assert_eq!(received, [0, 1, 2]);
    });
}

/// One peer sends, the other parks: whoever comes second sees the other.
fn a_sleeper_is_woken() {
    let mut parties = parties(2, 2);
    let receiver = parties.pop().unwrap();
    let (mut sender, _bell) = parties.pop().unwrap();
    let sending = thread::spawn(move || {
        sender.send(1, 7);
        sender.send(1, 8);
        sender
    });
    let (_, received) = run(receiver, 2);
    assert_eq!(received, [(0, 7), (0, 8)]);
    sending.join().unwrap();
}

#[test]
fn no_wake_is_lost() {
    check(a_sleeper_is_woken);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_its_fences_a_wake_is_lost() {
    without_fences(|| check(a_sleeper_is_woken));
}

#[test]
fn two_senders_do_not_leave_the_wake_to_each_other() {
    check(|| {
        let mut parties = parties(3, 2);
        let receiver = parties.pop().unwrap();
        let sending: Vec<_> = parties
            .into_iter()
            .map(|(mut sender, _bell)| {
                thread::spawn(move || {
                    let me = sender.me();
                    sender.send(2, u32::from(me));
                    sender
                })
            })
            .collect();
        let (_, mut received) = run(receiver, 2);
        received.sort_unstable();
        assert_eq!(received, [(0, 0), (1, 1)]);
        for thread in sending {
            thread.join().unwrap();
        }
    });
}

/// Three items through a ring of one: the sender parks until it is told of room, the receiver until it
/// is told of items.
fn a_parked_sender_is_told_of_room() {
    let mut parties = parties(2, 1);
    let receiver = parties.pop().unwrap();
    let mut sender = parties.pop().unwrap();
    let sending = thread::spawn(move || {
        for number in 0..3 {
            sender.0.send(1, number);
        }
        run(sender, 0)
    });
    let (_, received) = run(receiver, 3);
    assert_eq!(received, [(0, 0), (0, 1), (0, 2)], "in order, however they overflow");
    sending.join().unwrap();
}

#[test]
fn overflow_waits_in_order_and_moves_on() {
    check(a_parked_sender_is_told_of_room);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_its_fences_word_of_room_is_lost() {
    without_fences(|| check(a_parked_sender_is_told_of_room));
}

#[test]
fn two_full_rings_do_not_wait_for_each_other() {
    check(|| {
        let mut parties = parties(2, 1);
        let mut there = parties.pop().unwrap();
        let mut here = parties.pop().unwrap();
        let other = thread::spawn(move || {
            there.0.send(0, 1);
            there.0.send(0, 2);
            run(there, 2).1
        });
        here.0.send(1, 3);
        here.0.send(1, 4);
        assert_eq!(run(here, 2).1, [(1, 1), (1, 2)]);
        assert_eq!(other.join().unwrap(), [(0, 3), (0, 4)]);
    });
}
