//! How threads talk, by one thread that is both.

use tenpin_broker::mesh::ring::ring;
use tenpin_broker::mesh::{RING_CAPACITY, Wake, mesh};

/// As large as a parcel with its enum.
type Item = [u64; 4];

/// Items that go together.
const TOGETHER: u64 = 10;

pub fn through_a_ring(items: u64) {
    let (mut sender, mut receiver) = ring::<Item>(RING_CAPACITY);
    let mut got = 0;
    for _ in 0..items / TOGETHER {
        for number in 0..TOGETHER {
            assert!(sender.push([number; 4]).is_ok());
        }
        while let Some(item) = receiver.pop() {
            got += u64::from(item[0] < TOGETHER);
        }
    }
    assert_eq!(got, items);
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

pub fn to_a_peer(items: u64) {
    let peers = mesh::<Item>(vec![Box::new(Nobody), Box::new(Nobody)], RING_CAPACITY);
    let [mut here, mut there] = <[_; 2]>::try_from(peers).ok().expect("two of them");
    let mut got = 0;
    for _ in 0..items / TOGETHER {
        for number in 0..TOGETHER {
            here.send(1, [number; 4]);
        }
        there.receive(&mut |_, item| got += u64::from(item[0] < TOGETHER));
        here.receive(&mut |_, _| {});
    }
    assert_eq!(got, items);
}
