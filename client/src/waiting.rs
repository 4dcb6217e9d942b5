//! Messages that wait to be sent by a producer: on a FIFO queue each group by itself, so that of each one batch
//! is under way at a time.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tenpin_protocol::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};

use crate::message::NewMessage;
use crate::sending::Telling;

/// Entries in a batch at most.
const BATCH_MAX: usize = BATCH_ENTRIES_MAX as usize;

/// A message that waits, and who wants to know what becomes of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub message: NewMessage,
    pub bytes: usize,
    /// Until when it is sent again.
    pub until: Instant,
    pub telling: Telling,
}

impl Item {
    pub fn group(&self) -> Box<str> {
        self.message.group_id().unwrap_or_default().into()
    }
}

/// What waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// On a standard queue.
    Plain(Plain),
    /// On a FIFO queue.
    Groups(Groups),
}

impl Default for Waiting {
    fn default() -> Self {
        Self::Plain(Plain::default())
    }
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.items.is_empty(),
            Self::Groups(groups) => groups.count == 0,
        }
    }

    #[inline]
    pub fn push(&mut self, item: Item) {
        match self {
            Self::Plain(plain) => {
                plain.bytes += item.bytes;
                plain.items.push_back(item);
            }
            Self::Groups(groups) => groups.push(item),
        }
    }

    /// How many batches there are, at least one where there is any; less than a full one counts only if
    /// `partial`.
    #[inline]
    pub fn due(&self, partial: bool) -> usize {
        let (items, is_full) = match self {
            Self::Plain(Plain { items, bytes }) => (items.len(), *bytes > BATCH_BYTES_MAX),
            Self::Groups(groups) => (groups.ready_items, false),
        };
        let least_one = is_full || (partial && items > 0);
        (items / BATCH_MAX).max(usize::from(least_one))
    }

    /// The next batch.
    pub fn take_batch(&mut self) -> Vec<Item> {
        match self {
            Self::Plain(plain) => plain.take_batch(),
            Self::Groups(groups) => groups.take_batch(),
        }
    }

    /// Items that are to be sent again, in their order, before what waits; these groups have nothing
    /// under way any more.
    pub fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item>, groups_back: &[Box<str>]) {
        match self {
            Self::Plain(plain) => {
                for item in items.rev() {
                    plain.bytes += item.bytes;
                    plain.items.push_front(item);
                }
            }
            Self::Groups(groups) => groups.put_back(items, groups_back),
        }
    }
}

/// What waits on a standard queue.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Plain {
    fn take_batch(&mut self) -> Vec<Item> {
        let (mut count, mut bytes) = (0, 0);
        for item in self.items.iter().take(BATCH_MAX) {
            if bytes + item.bytes > BATCH_BYTES_MAX {
                break;
            }
            bytes += item.bytes;
            count += 1;
        }
        self.bytes -= bytes;
        self.items.drain(..count).collect()
    }
}

/// What waits on a FIFO queue: each group in its order, and the groups that may send in theirs.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_name: HashMap<Box<str>, Group>,
    ready: VecDeque<Box<str>>,
    /// Items of the groups that may send.
    ready_items: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Group {
    items: VecDeque<Item>,
    in_flight: bool,
}

impl Groups {
    fn push(&mut self, item: Item) {
        let name = item.group();
        self.count += 1;
        let group = self.by_name.entry(name.clone()).or_default();
        group.items.push_back(item);
        if group.in_flight {
            return;
        }
        self.ready_items += 1;
        if group.items.len() == 1 {
            self.ready.push_back(name);
        }
    }

    fn take_batch(&mut self) -> Vec<Item> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_MAX {
            let Some(name) = self.ready.front() else { break };
            let group = self.by_name.get_mut(name).expect("a group that is ready is there");
            let fits = |item: &Item, bytes| bytes + item.bytes <= BATCH_BYTES_MAX;
            if group.items.front().is_none_or(|item| !fits(item, bytes)) {
                break;
            }
            self.ready_items -= group.items.len();
            let mut is_first = true;
            while batch.len() < BATCH_MAX
                && let Some(item) = group.items.front()
                && fits(item, bytes)
                && let Some(mut item) = group.items.pop_front()
            {
                item.message.set_only_if_previous_accepted(!is_first);
                is_first = false;
                bytes += item.bytes;
                batch.push(item);
                self.count -= 1;
            }
            group.in_flight = true;
            self.ready.pop_front();
        }
        batch
    }

    fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item>, groups_back: &[Box<str>]) {
        for item in items.rev() {
            self.count += 1;
            let group = self.by_name.entry(item.group()).or_default();
            group.items.push_front(item);
        }
        for name in groups_back {
            let Some(group) = self.by_name.get_mut(name) else { continue };
            group.in_flight = false;
            if group.items.is_empty() {
                self.by_name.remove(name);
            } else {
                self.ready_items += group.items.len();
                self.ready.push_back(name.clone());
            }
        }
    }
}
