//! A hierarchical timer wheel of one-millisecond ticks.
//!
//! Six levels of 256 buckets cover 48 bits of milliseconds, so that every time has a bucket and
//! there is no list of far timers. A bucket is a doubly linked list whose links lie in what is timed
//! (slots, queues, waits), which makes starting and cancelling O(1) without memory of its own. A
//! timer on a higher level moves down when the wheel's time reaches its bucket; each such move is a
//! step like each timer that is due, and the caller says how many steps it has, so that a million
//! timers of one millisecond are spread over as many calls as it takes.
//!
//! The wheel does not keep deadlines. Where it needs one again (moving down), the caller tells it
//! anew, so that it may have changed: a timer may come early, and its owner looks at the time itself.

/// Buckets on a level.
const BUCKETS: usize = 256;
/// Levels: six bytes of milliseconds.
const LEVELS: usize = 6;
/// In [`TimerLinks::previous`]: the node is its bucket's first, and the low bits say which bucket.
const FIRST: u32 = 1 << 31;
/// No node.
const NONE: u32 = u32::MAX;

/// Links of one node. A node that is in no bucket has [`u32::MAX`] as its `previous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimerLinks {
    pub next: u32,
    pub previous: u32,
}

impl TimerLinks {
    /// Links of a node that is in no bucket.
    pub const IDLE: Self = Self { next: NONE, previous: NONE };
}

/// Where the nodes of a wheel live. Nodes are numbered below 2^31.
pub(super) trait Links {
    fn links(&self, node: u32) -> TimerLinks;
    fn set_next(&mut self, node: u32, next: u32);
    fn set_previous(&mut self, node: u32, previous: u32);

    /// Both at once, for those who have to look for a node.
    fn set_links(&mut self, node: u32, links: TimerLinks) {
        self.set_next(node, links.next);
        self.set_previous(node, links.previous);
    }
}

/// Where in a wheel a deadline is kept at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    level: usize,
    bucket: usize,
}

/// What [`Wheel::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This node's time has come; it is in no bucket any more.
    Due(u32),
    /// This node was taken out to move down: start it again with its deadline.
    Moved(u32),
    /// Nothing is due up to the given time.
    Idle,
}

/// The buckets. The nodes' links live elsewhere.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[[u32; BUCKETS]; LEVELS]>,
    occupied: [[u64; BUCKETS / 64]; LEVELS],
    /// All timers before this tick have been handed out.
    current: u64,
    /// A bucket of a higher level whose time has come and that is not empty yet.
    cascading: Option<(usize, usize)>,
}

impl Wheel {
    pub fn new() -> Self {
        Self {
            heads: Box::new([[NONE; BUCKETS]; LEVELS]),
            occupied: [[0; BUCKETS / 64]; LEVELS],
            current: 0,
            cascading: None,
        }
    }

    /// Moves an empty wheel's time forward (recovery does, before it starts timers).
    pub fn begin_at(&mut self, now_ms: u64) {
        assert!(self.occupied.iter().flatten().all(|&word| word == 0), "only an empty wheel may jump");
        self.current = now_ms;
    }

    /// Whether the node is in a bucket.
    #[inline]
    pub fn is_started(links: &impl Links, node: u32) -> bool {
        links.links(node).previous != NONE
    }

    /// Starts a node's timer; it must not be running. A deadline that has passed is due at once.
    #[inline]
    pub fn start(&mut self, links: &mut impl Links, node: u32, deadline_ms: u64) {
        self.start_in(links, node, self.bucket(deadline_ms));
    }

    /// The bucket of a deadline, for starting many timers with the same one.
    #[inline]
    pub fn bucket(&self, deadline_ms: u64) -> Bucket {
        let tick = deadline_ms.clamp(self.current, (1 << 48) - 1);
        let differing = tick ^ self.current;
        let level = if differing == 0 { 0 } else { (63 - differing.leading_zeros() as usize) / 8 };
        let level = level.min(LEVELS - 1);
        Bucket { level, bucket: (tick >> (8 * level)) as usize % BUCKETS }
    }

    /// Starts a node's timer in the bucket of its deadline; it must not be running, and the wheel must
    /// not have been stepped since the bucket was asked for.
    #[inline]
    pub fn start_in(&mut self, links: &mut impl Links, node: u32, place: Bucket) {
        let Bucket { level, bucket } = place;
        let head = self.heads[level][bucket];
        let previous = FIRST | (level * BUCKETS + bucket) as u32;
        links.set_links(node, TimerLinks { next: head, previous });
        if head != NONE {
            links.set_previous(head, node);
        }
        self.heads[level][bucket] = node;
        self.occupied[level][bucket / 64] |= 1 << (bucket % 64);
    }

    /// Starts the timers of several nodes in the bucket of their deadline, as [`Wheel::start_in`] does for
    /// one. They stand there in their order, so that stopping them in it looks at none but the next one.
    #[inline]
    pub fn start_all_in(&mut self, links: &mut impl Links, nodes: impl Iterator<Item = u32>, place: Bucket) {
        let Bucket { level, bucket } = place;
        let mut nodes = nodes;
        let Some(first) = nodes.next() else { return };
        let head = std::mem::replace(&mut self.heads[level][bucket], first);
        self.occupied[level][bucket / 64] |= 1 << (bucket % 64);
        let (mut node, mut previous) = (first, FIRST | (level * BUCKETS + bucket) as u32);
        for next in nodes {
            links.set_links(node, TimerLinks { next, previous });
            (node, previous) = (next, node);
        }
        links.set_links(node, TimerLinks { next: head, previous });
        if head != NONE {
            links.set_previous(head, node);
        }
    }

    /// Stops a node's timer if it is running.
    #[inline]
    pub fn cancel(&mut self, links: &mut impl Links, node: u32) {
        let TimerLinks { next, previous } = links.links(node);
        if previous == NONE {
            return;
        }
        if previous & FIRST == 0 {
            links.set_next(previous, next);
        } else {
            let place = (previous & !FIRST) as usize;
            let (level, bucket) = (place / BUCKETS, place % BUCKETS);
            self.heads[level][bucket] = next;
            if next == NONE {
                self.occupied[level][bucket / 64] &= !(1 << (bucket % 64));
            }
        }
        if next != NONE {
            links.set_previous(next, previous);
        }
        links.set_previous(node, NONE);
    }

    /// Does one bounded piece of work towards `now_ms`.
    pub fn step(&mut self, links: &mut impl Links, now_ms: u64) -> Step {
        loop {
            if let Some((level, bucket)) = self.cascading {
                let head = self.heads[level][bucket];
                if head != NONE {
                    self.cancel(links, head);
                    return Step::Moved(head);
                }
                self.cascading = None;
            }
            let Some((level, bucket, tick)) = self.earliest() else {
                self.current = self.current.max(now_ms);
                return Step::Idle;
            };
            if tick > now_ms {
                self.current = self.current.max(now_ms);
                return Step::Idle;
            }
            self.current = tick;
            if level > 0 {
                self.cascading = Some((level, bucket));
                continue;
            }
            let head = self.heads[0][bucket];
            self.cancel(links, head);
            return Step::Due(head);
        }
    }

    /// A time before which nothing is due: the next timer's own where it is near, the start of its
    /// bucket where it is far (and must move down then).
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.cascading.is_some() {
            return Some(self.current);
        }
        self.earliest().map(|(_, _, tick)| tick)
    }

    /// The first occupied bucket in time: its level, its number, the tick at which it begins.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            let shift = 8 * level;
            let from = (self.current >> shift) as usize % BUCKETS;
            if let Some(bucket) = first_set(&self.occupied[level], from) {
                let window = (self.current >> shift) & !(BUCKETS as u64 - 1);
                return Some((level, bucket, ((window | bucket as u64) << shift).max(self.current)));
            }
        }
        None
    }
}

/// The first set bit at or behind `from`.
fn first_set(words: &[u64; BUCKETS / 64], from: usize) -> Option<usize> {
    let mut word = from / 64;
    let mut bits = words[word] & (u64::MAX << (from % 64));
    loop {
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        word += 1;
        bits = *words.get(word)?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    struct Nodes(Vec<TimerLinks>);

    impl Links for Nodes {
        fn links(&self, node: u32) -> TimerLinks {
            self.0[node as usize]
        }
        fn set_next(&mut self, node: u32, next: u32) {
            self.0[node as usize].next = next;
        }
        fn set_previous(&mut self, node: u32, previous: u32) {
            self.0[node as usize].previous = previous;
        }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Start { node: u32, after_ms: u64 },
        StartAll { nodes: BTreeSet<u32>, after_ms: u64 },
        Cancel { node: u32 },
        Advance { by_ms: u64, steps: u32 },
    }

    fn action() -> impl Strategy<Value = Action> {
        let spans = prop_oneof![0..4_u64, 0..600_u64, 0..100_000_u64, 0..20_000_000_u64, 0..(1_u64 << 40)];
        prop_oneof![
            4 => (0..40_u32, spans.clone()).prop_map(|(node, after_ms)| Action::Start { node, after_ms }),
            1 => (prop::collection::btree_set(0..40_u32, 0..6), spans.clone())
                .prop_map(|(nodes, after_ms)| Action::StartAll { nodes, after_ms }),
            1 => (0..40_u32).prop_map(|node| Action::Cancel { node }),
            3 => (spans, prop_oneof![Just(u32::MAX), 1..6_u32])
                .prop_map(|(by_ms, steps)| Action::Advance { by_ms, steps }),
        ]
    }

    proptest! {
        #[test]
        fn timers_come_in_order_never_early_and_all(
            start_ms in 0..(1_u64 << 47), actions in prop::collection::vec(action(), 1..120),
        ) {
            let mut nodes = Nodes(vec![TimerLinks::IDLE; 40]);
            let mut deadlines: Vec<Option<u64>> = vec![None; 40];
            let mut wheel = Wheel::new();
            let mut now_ms = start_ms;
            wheel.begin_at(now_ms);
            for action in actions.into_iter().chain([Action::Advance { by_ms: 1 << 41, steps: u32::MAX }]) {
                match action {
                    Action::Start { node, after_ms } => {
                        wheel.cancel(&mut nodes, node);
                        wheel.start(&mut nodes, node, now_ms + after_ms);
                        deadlines[node as usize] = Some(now_ms + after_ms);
                    }
                    Action::StartAll { nodes: started, after_ms } => {
                        for &node in &started {
                            wheel.cancel(&mut nodes, node);
                            deadlines[node as usize] = Some(now_ms + after_ms);
                        }
                        let bucket = wheel.bucket(now_ms + after_ms);
                        wheel.start_all_in(&mut nodes, started.into_iter(), bucket);
                    }
                    Action::Cancel { node } => {
                        wheel.cancel(&mut nodes, node);
                        deadlines[node as usize] = None;
                    }
                    Action::Advance { by_ms, steps } => {
                        now_ms += by_ms;
                        let mut idle = false;
                        for _ in 0..steps {
                            match wheel.step(&mut nodes, now_ms) {
                                Step::Due(node) => {
                                    let deadline = deadlines[node as usize].take();
                                    let deadline = deadline.expect("only started timers come");
                                    prop_assert!(deadline <= now_ms);
                                    let next = deadlines.iter().flatten().min();
                                    prop_assert!(next.is_none_or(|&next| next >= deadline || next <= now_ms));
                                }
                                Step::Moved(node) => {
                                    let deadline = deadlines[node as usize].expect("only started timers move");
                                    wheel.start(&mut nodes, node, deadline);
                                }
                                Step::Idle => {
                                    idle = true;
                                    break;
                                }
                            }
                        }
                        let next = deadlines.iter().flatten().min().copied();
                        if idle {
                            prop_assert!(next.is_none_or(|next| next > now_ms));
                        }
                        match (wheel.next_deadline_ms(), next) {
                            (None, None) => {}
                            (Some(promised), Some(next)) => prop_assert!(promised <= next.max(now_ms)),
                            other => prop_assert!(false, "one knows of a timer, the other not: {other:?}"),
                        }
                    }
                }
            }
            prop_assert!(deadlines.iter().all(Option::is_none));
        }
    }
}
