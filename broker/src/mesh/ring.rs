//! A bounded ring from one thread to one other, without locks.
//!
//! Sender and receiver each own one of two positions, which only ever rise, and keep a copy of the
//! other's, which they look up anew only when the copy says that the ring is full or empty. So in the
//! steady state the two cores exchange cache lines once per many items. It is our own, and not the
//! crate rtrb, because loom can then check the very code that runs; `benches/mesh.rs` measures both.

use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, fence};
use super::wake::is_first;

/// Makes a ring of `capacity` places, a power of two.
pub fn ring<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity.is_power_of_two(), "positions are reduced by a mask");
    let shared = Arc::new(Shared {
        tail: Line(AtomicUsize::new(0)),
        head: Line(AtomicUsize::new(0)),
        room_wanted: Line(AtomicBool::new(false)),
        places: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let sender = Sender { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (sender, Receiver { shared, head: 0, tail_seen: 0 })
}

/// The end of a ring that gives. Owned by one thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// Items ever sent, wrapping.
    tail: usize,
    /// Items ever received, as far as the sender knows.
    head_seen: usize,
}

/// The end of a ring that takes. Owned by one thread.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Items ever received, wrapping.
    head: usize,
    /// Items ever sent, as far as the receiver knows.
    tail_seen: usize,
}

struct Shared<T> {
    /// Items ever sent; written by the sender.
    tail: Line<AtomicUsize>,
    /// Items ever received; written by the receiver.
    head: Line<AtomicUsize>,
    /// The sender is about to park, and wants to be told when there is room.
    room_wanted: Line<AtomicBool>,
    /// Items from `head` to `tail` are initialised.
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

/// On cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
struct Line<T>(T);

// SAFETY: sender and receiver are one each, and reach a place only while it is theirs: the sender from
// when the receiver's head has passed it (acquire on head) until its own tail has (release), the
// receiver the other way round. Items move between threads, so they are Send.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; dropping it on either thread drops items that are Send.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Send> Sender<T> {
    /// Puts an item in, or gives it back when the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(item);
        }
        let place = &self.shared.places[self.tail & (self.shared.places.len() - 1)];
        // SAFETY: there is room, so the place is the sender's until the tail has passed it.
        place.with_mut(|place| unsafe { (*place).write(item) });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether an item would go in.
    pub fn has_room(&mut self) -> bool {
        if self.tail.wrapping_sub(self.head_seen) < self.shared.places.len() {
            return true;
        }
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head_seen) < self.shared.places.len()
    }

    /// Asks to be told of room. The caller has announced that it parks, and looks for room once more
    /// behind a fence: either it sees room, or the receiver sees this.
    pub(super) fn ask_for_room(&self) {
        self.shared.room_wanted.0.store(true, Ordering::Release);
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let place = &self.shared.places[self.head & (self.shared.places.len() - 1)];
        // SAFETY: the sender's tail has passed the place, so it is initialised and the receiver's
        // until the head has passed it; it is read once, as the head passes it now.
        let item = place.with(|place| unsafe { (*place).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&mut self) -> bool {
        if self.head != self.tail_seen {
            return false;
        }
        self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        self.head == self.tail_seen
    }

    /// Whether the sender has asked to be told of the room that was just made; it is asked once.
    pub(super) fn owes_word_of_room(&self) -> bool {
        // Against the sender's: whoever comes second to the fence sees what the other did.
        fence(Ordering::SeqCst);
        let wanted = &self.shared.room_wanted.0;
        wanted.load(Ordering::Relaxed) && is_first(wanted)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (self.head.0.load(Ordering::Acquire), self.tail.0.load(Ordering::Acquire));
        while head != tail {
            let place = &self.places[head & (self.places.len() - 1)];
            // SAFETY: both ends are gone, and items from head to tail are initialised.
            place.with_mut(|place| unsafe { (*place).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}
