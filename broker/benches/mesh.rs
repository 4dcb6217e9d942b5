//! What it costs to say something to another thread: items through a ring, ours and rtrb's; an item
//! there and back between peers that never sleep; and one between peers that park after each.
//!
//! `cargo bench -p tenpin-broker --bench mesh`. Two cores at least, or the first figures say nothing.

use std::time::{Duration, Instant};

use tenpin_broker::mesh::ring::ring;
use tenpin_broker::mesh::{Peer, RING_CAPACITY, Wake, mesh};

const ROUNDS: usize = 3;
const ITEMS: u64 = 20_000_000;
const SPINNING_TRIPS: u64 = 1_000_000;
const PARKING_TRIPS: u64 = 50_000;

/// As large as a parcel with its enum.
type Item = [u64; 4];

fn main() {
    for _ in 0..ROUNDS {
        report("ring, one way", ITEMS, through_ring());
        report("rtrb, one way", ITEMS, through_rtrb());
        report("peers, one way", ITEMS, through_peers());
        report("peers that spin, there and back", SPINNING_TRIPS, there_and_back(SPINNING_TRIPS, false));
        report("peers that park, there and back", PARKING_TRIPS, there_and_back(PARKING_TRIPS, true));
    }
}

fn report(what: &str, count: u64, took: Duration) {
    let each_ns = took.as_nanos() as f64 / count as f64;
    println!("{what:<34} {each_ns:>9.1} ns each, {:>6.1} million a second", 1000.0 / each_ns);
}

fn through_ring() -> Duration {
    let (mut sender, mut receiver) = ring::<Item>(RING_CAPACITY);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..ITEMS {
                while sender.push([number; 4]).is_err() {
                    std::hint::spin_loop();
                }
            }
        });
        let mut next = 0;
        while next < ITEMS {
            match receiver.pop() {
                Some(item) => next += u64::from(item[0] == next),
                None => std::hint::spin_loop(),
            }
        }
    });
    began.elapsed()
}

fn through_rtrb() -> Duration {
    let (mut sender, mut receiver) = rtrb::RingBuffer::<Item>::new(RING_CAPACITY);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..ITEMS {
                while sender.push([number; 4]).is_err() {
                    std::hint::spin_loop();
                }
            }
        });
        let mut next = 0;
        while next < ITEMS {
            match receiver.pop() {
                Ok(item) => next += u64::from(item[0] == next),
                Err(_) => std::hint::spin_loop(),
            }
        }
    });
    began.elapsed()
}

fn through_peers() -> Duration {
    let [mut here, mut there] = pair();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..ITEMS {
                here.send(1, [number; 4]);
                while here.overflow_len() > 0 {
                    here.receive(&mut |_, _| {});
                }
            }
        });
        let mut next = 0;
        while next < ITEMS {
            there.receive(&mut |_, item| next += u64::from(item[0] == next));
        }
    });
    began.elapsed()
}

fn there_and_back(trips: u64, parks: bool) -> Duration {
    let [mut here, mut there] = pair();
    let wait = move |peer: &mut Peer<Item>, got: &mut u64| {
        let before = *got;
        loop {
            peer.receive(&mut |_, _| *got += 1);
            if *got > before {
                return;
            }
            if parks && peer.prepare_to_park() {
                std::thread::park();
            }
            peer.unparked();
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let caller = std::thread::current();
        let answering = scope.spawn(move || {
            let mut got = 0;
            // The handles of both are known only now that both run.
            std::thread::park();
            while got < trips {
                wait(&mut there, &mut got);
                there.send(0, [got; 4]);
            }
        });
        HANDLES.with_both([caller, answering.thread().clone()]);
        answering.thread().unpark();
        let mut got = 0;
        for _ in 0..trips {
            here.send(1, [0; 4]);
            wait(&mut here, &mut got);
        }
    });
    began.elapsed()
}

/// The threads of the two peers, which are known only after the mesh is made.
static HANDLES: Handles = Handles(std::sync::Mutex::new(None));

struct Handles(std::sync::Mutex<Option<[std::thread::Thread; 2]>>);

impl Handles {
    fn with_both(&self, both: [std::thread::Thread; 2]) {
        *self.0.lock().expect("nobody panics") = Some(both);
    }
}

struct Unpark(usize);

impl Wake for Unpark {
    fn wake(&self) {
        if let Some(handles) = &*HANDLES.0.lock().expect("nobody panics") {
            handles[self.0].unpark();
        }
    }
}

fn pair() -> [Peer<Item>; 2] {
    let peers = mesh(vec![Box::new(Unpark(0)), Box::new(Unpark(1))], RING_CAPACITY);
    peers.try_into().ok().expect("two of them")
}
