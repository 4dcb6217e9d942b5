//! One peer of the mesh: what it sends and receives, and how it parks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ring::{Receiver, Sender, ring};
use super::wake::{Berth, Wake, look_again};

/// Most items that one [`Peer::receive`] hands over; the others wait in their rings for the next.
pub const ITEMS_PER_RECEIVE_MAX: usize = 512;

/// Most items taken from one ring before the next one's turn.
const ITEMS_IN_A_ROW_MAX: usize = 64;

/// Room of an overflow list that is kept when the list has run empty.
const OVERFLOW_KEPT: usize = 1024;

/// An end of the mesh. Owned by one thread (or by one task of a runtime with one thread, as a task that
/// moves would make two producers, rule 30).
pub struct Peer<T> {
    me: u16,
    /// Of all peers.
    berths: Arc<[Berth]>,
    /// By peer; nothing for oneself.
    outgoing: Vec<Option<Outgoing<T>>>,
    incoming: Vec<Option<Receiver<T>>>,
    /// Which ring is looked at first next time.
    first: usize,
    /// How many of the outgoing overflow.
    overflowing: usize,
}

struct Outgoing<T> {
    ring: Sender<T>,
    /// What found the ring full, in order. While anything is in here, everything goes behind it (rule
    /// 25). It has no bound of its own: it never drops and never blocks, and what makes it grow is
    /// bounded by the credits of those who send.
    overflow: VecDeque<T>,
}

/// Makes a mesh of as many peers as there are ways to wake one, each joined to every other by rings of
/// `ring_capacity` items, a power of two.
pub fn mesh<T: Send>(wakes: Vec<Box<dyn Wake>>, ring_capacity: usize) -> Vec<Peer<T>> {
    let count = wakes.len();
    let berths: Arc<[Berth]> = wakes.into_iter().map(Berth::new).collect::<Vec<_>>().into();
    let mut peers: Vec<Peer<T>> = (0..count)
        .map(|me| Peer {
            me: u16::try_from(me).expect("peers are numbered in 16 bits"),
            berths: Arc::clone(&berths),
            outgoing: (0..count).map(|_| None).collect(),
            incoming: (0..count).map(|_| None).collect(),
            first: 0,
            overflowing: 0,
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (sender, receiver) = ring(ring_capacity);
            peers[from].outgoing[to] = Some(Outgoing { ring: sender, overflow: VecDeque::new() });
            peers[to].incoming[from] = Some(receiver);
        }
    }
    peers
}

impl<T: Send> Peer<T> {
    /// Its own number.
    pub fn me(&self) -> u16 {
        self.me
    }

    /// How many peers there are, with this one.
    pub fn peers(&self) -> usize {
        self.berths.len()
    }

    /// Sends to another peer. Never blocks and never drops; items to one peer arrive in order.
    pub fn send(&mut self, to: u16, item: T) {
        let outgoing = self.outgoing[usize::from(to)].as_mut().expect("nobody sends to itself");
        if !outgoing.overflow.is_empty() {
            outgoing.overflow.push_back(item);
        } else if let Err(item) = outgoing.ring.push(item) {
            outgoing.overflow.push_back(item);
            self.overflowing += 1;
        }
        self.berths[usize::from(to)].wake();
    }

    /// Hands over what has come, a bounded number of items, and moves on what overflowed. Says whether
    /// there is more.
    pub fn receive(&mut self, sink: &mut impl FnMut(u16, T)) -> bool {
        self.move_overflow();
        let count = self.incoming.len();
        let mut left = ITEMS_PER_RECEIVE_MAX;
        let mut more = true;
        while more && left > 0 {
            more = false;
            for step in 0..count {
                let from = (self.first + step) % count;
                let taken = self.take_from(from, left.min(ITEMS_IN_A_ROW_MAX), sink);
                left -= taken;
                more |= taken == ITEMS_IN_A_ROW_MAX || left == 0;
            }
        }
        // Whoever was last in a call that found no end is first in the next.
        self.first = (self.first + 1) % count;
        more && self.has_input()
    }

    /// Announces that this peer is going to wait, and looks once more. `false`: there is something to
    /// do, do not wait. Whoever waits calls [`Peer::unparked`] afterwards.
    pub fn prepare_to_park(&mut self) -> bool {
        let berth = &self.berths[usize::from(self.me)];
        berth.announce();
        if self.overflowing > 0 {
            self.overflows().for_each(|outgoing| outgoing.ring.ask_for_room());
        }
        look_again();
        let has_room = self.overflowing > 0 && self.overflows().any(|outgoing| outgoing.ring.has_room());
        if has_room || self.has_input() {
            self.unparked();
            return false;
        }
        true
    }

    /// The wait is over: nobody need wake this peer any more.
    pub fn unparked(&mut self) {
        self.berths[usize::from(self.me)].leave();
    }

    /// How many items wait for room on the way to other peers.
    pub fn overflow_len(&self) -> usize {
        self.outgoing.iter().flatten().map(|outgoing| outgoing.overflow.len()).sum()
    }

    fn has_input(&mut self) -> bool {
        self.incoming.iter_mut().flatten().any(|ring| !ring.is_empty())
    }

    fn overflows(&mut self) -> impl Iterator<Item = &mut Outgoing<T>> {
        self.outgoing.iter_mut().flatten().filter(|outgoing| !outgoing.overflow.is_empty())
    }

    fn take_from(&mut self, from: usize, most: usize, sink: &mut impl FnMut(u16, T)) -> usize {
        let Some(ring) = &mut self.incoming[from] else { return 0 };
        let mut taken = 0;
        while taken < most
            && let Some(item) = ring.pop()
        {
            sink(from as u16, item);
            taken += 1;
        }
        if taken > 0 && ring.owes_word_of_room() {
            self.berths[from].wake();
        }
        taken
    }

    /// Moves what overflowed into rings that have room again.
    fn move_overflow(&mut self) {
        if self.overflowing == 0 {
            return;
        }
        for (to, outgoing) in self.outgoing.iter_mut().enumerate() {
            let Some(outgoing) = outgoing else { continue };
            if !outgoing.overflow.is_empty() && outgoing.move_overflow() {
                self.berths[to].wake();
                self.overflowing -= usize::from(outgoing.overflow.is_empty());
            }
        }
    }
}

impl<T: Send> Outgoing<T> {
    /// Says whether anything was moved.
    fn move_overflow(&mut self) -> bool {
        let before = self.overflow.len();
        while let Some(item) = self.overflow.pop_front() {
            if let Err(item) = self.ring.push(item) {
                self.overflow.push_front(item);
                break;
            }
        }
        if self.overflow.is_empty() && self.overflow.capacity() > OVERFLOW_KEPT {
            self.overflow = VecDeque::new();
        }
        self.overflow.len() < before
    }
}
