//! The mesh with real threads. What only some interleaving shows is loom's to find; here is what needs
//! numbers.

use std::sync::Arc;
use std::thread;

use super::ring::ring;
use super::{ITEMS_PER_RECEIVE_MAX, Peer, Wake, mesh};

/// Ends a thread's parking.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// For peers that only one thread plays.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn pair(ring_capacity: usize) -> [Peer<u64>; 2] {
    let peers = mesh(vec![Box::new(Nobody), Box::new(Nobody)], ring_capacity);
    peers.try_into().ok().expect("two of them")
}

fn all(peer: &mut Peer<u64>) -> Vec<u64> {
    let mut items = Vec::new();
    while peer.receive(&mut |_, item| items.push(item)) {}
    items
}

#[test]
fn a_ring_refuses_when_full_and_drops_what_it_holds() {
    let (mut sender, mut receiver) = ring(4);
    let item = Arc::new(());
    for _ in 0..4 {
        sender.push(Arc::clone(&item)).expect("there is room");
    }
    sender.push(Arc::clone(&item)).expect_err("it is full");
    assert!(receiver.pop().is_some() && sender.has_room());
    drop((sender, receiver));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn all_later_traffic_goes_behind_what_overflowed() {
    let [mut here, mut there] = pair(4);
    (0..10).for_each(|item| here.send(1, item));
    assert_eq!(here.overflow_len(), 6);
    assert_eq!(all(&mut there), [0, 1, 2, 3]);
    // There is room now, and yet this one may not overtake.
    here.send(1, 10);
    assert_eq!(here.overflow_len(), 7);
    let mut items = Vec::new();
    while items.len() < 7 {
        here.receive(&mut |_, _| {});
        items.extend(all(&mut there));
    }
    assert_eq!(items, [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(here.overflow_len(), 0);
}

#[test]
fn a_receive_is_bounded_and_no_peer_shuts_out_another() {
    let mut peers = mesh(vec![Box::new(Nobody), Box::new(Nobody), Box::new(Nobody)], 1024);
    let mut receiver = peers.pop().expect("three of them");
    for peer in &mut peers {
        (0..1000).for_each(|item| peer.send(2, item));
    }
    let mut counts = [0_usize; 2];
    assert!(receiver.receive(&mut |from, _| counts[usize::from(from)] += 1), "there is more");
    assert_eq!(counts.iter().sum::<usize>(), ITEMS_PER_RECEIVE_MAX);
    assert_eq!(counts[0], counts[1]);
    assert_eq!(all(&mut receiver).len() + ITEMS_PER_RECEIVE_MAX, 2000);
}

#[test]
fn parking_is_refused_while_there_is_something_to_do() {
    let [mut here, mut there] = pair(2);
    assert!(there.prepare_to_park());
    there.unparked();
    (0..3).for_each(|item| here.send(1, item));
    assert!(!there.prepare_to_park(), "something has come");
    assert!(here.prepare_to_park(), "what overflowed has no room yet");
    here.unparked();
    assert_eq!(all(&mut there), [0, 1]);
    assert!(!here.prepare_to_park(), "there is room now");
}

#[test]
fn threads_that_park_whenever_they_can_miss_nothing() {
    const PEERS: usize = 4;
    const ITEMS: u64 = 20_000;
    // Each thread hands over its handle before there is a mesh.
    let (to_maker, from_threads) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..PEERS)
        .map(|_| {
            let to_maker = to_maker.clone();
            let (give, take) = std::sync::mpsc::channel::<Peer<u64>>();
            to_maker.send(give).expect("it is listened for");
            thread::spawn(move || {
                let peer = take.recv().expect("a peer comes");
                talk_with_all(peer, ITEMS);
            })
        })
        .collect();
    let wakes = threads.iter().map(|thread| Box::new(Unpark(thread.thread().clone())) as Box<dyn Wake>);
    let peers = mesh(wakes.collect(), 8);
    for (peer, give) in peers.into_iter().zip(from_threads) {
        give.send(peer).expect("the thread waits for it");
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
}

/// Sends `items` to each other peer, and parks between turns until as many have come from each.
fn talk_with_all(mut peer: Peer<u64>, items: u64) {
    let peers = peer.peers() as u16;
    let me = peer.me();
    let mut next = vec![0; usize::from(peers)];
    let mut sent = 0;
    loop {
        peer.receive(&mut |from, item| {
            assert_eq!(item, next[usize::from(from)], "in order, once");
            next[usize::from(from)] += 1;
        });
        if sent < items {
            for to in (0..peers).filter(|to| *to != me) {
                peer.send(to, sent);
            }
            sent += 1;
        } else if next.iter().sum::<u64>() == items * u64::from(peers - 1) && peer.overflow_len() == 0 {
            return;
        } else if peer.prepare_to_park() {
            thread::park();
        }
        peer.unparked();
    }
}
