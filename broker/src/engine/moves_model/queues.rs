//! Queues and messages as the model has them, on each shard.

use super::tasks::{Said, Share};
use super::*;

/// A stored message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// What tells it from all others.
    pub(super) body: u64,
    /// Its id, once that is known: a task gives it a new one.
    pub(super) id: Option<[u8; 16]>,
    /// The id that it had before a task moved it.
    pub(super) former_id: Option<[u8; 16]>,
    pub(super) group: u8,
    pub(super) order: usize,
    pub(super) sent_at_ms: u64,
    pub(super) available_at_ms: u64,
    pub(super) receive_count: u32,
    pub(super) receives_before: u32,
    pub(super) first_received_at_ms: u64,
    /// The queue that it is a dead letter of.
    pub(super) source: Option<usize>,
    /// It is on its way to the other shard.
    pub(super) moving: Option<Way>,
    /// The other shard has not taken it: it is delivered once before that is tried again.
    pub(super) stayed: bool,
}

/// Whether a queue lives on another shard than this one.
pub(super) fn is_elsewhere(name: usize, me: usize) -> bool {
    HOMES[name].is_some_and(|home| home != me)
}

/// A message's way to the other shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The number of the queue that it goes to.
    pub(super) target: u64,
    /// The task that moves it; 0: it is a dead letter.
    pub(super) task: u64,
    /// What has begun before goes before.
    pub(super) begun: usize,
    /// The move's number, once it was given.
    pub(super) number: Option<u64>,
    pub(super) is_given: bool,
}

impl Message {
    pub(super) fn is_visible(&self, now_ms: u64) -> bool {
        self.moving.is_none() && self.available_at_ms <= now_ms
    }
}

/// A queue's part on a shard.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: usize,
    pub(super) number: u64,
    pub(super) denies: bool,
    pub(super) messages: Vec<Message>,
}

impl Entry {
    pub(super) fn is_fifo(&self) -> bool {
        HOMES[self.name].is_some()
    }

    /// Visible, in flight, delayed, damaged.
    pub(super) fn counts(&self, now_ms: u64) -> [u64; 4] {
        let visible = self.messages.iter().filter(|message| message.is_visible(now_ms)).count();
        [visible as u64, (self.messages.len() - visible) as u64, 0, 0]
    }

    /// What is on its way does not expire.
    pub(super) fn expire(&mut self, now_ms: u64, gone: &mut Vec<u64>) {
        let is_over = |message: &mut Message| {
            message.moving.is_none() && message.sent_at_ms + RETENTION_SECONDS * 1_000 <= now_ms
        };
        gone.extend(self.messages.extract_if(.., is_over).map(|message| message.body));
    }

    /// The places of a group's messages, in their order.
    pub(super) fn group(&self, group: u8) -> Vec<usize> {
        (0..self.messages.len()).filter(|&place| self.messages[place].group == group).collect()
    }

    /// The message that is next, but for those of these groups and with these bodies. A FIFO queue's groups
    /// wait while anything of them is in flight.
    pub(super) fn first(&self, but_groups: &[u8], but: &[u64], now_ms: u64) -> Option<usize> {
        let is_next = |place: usize| {
            let message = &self.messages[place];
            if !self.is_fifo() {
                return message.is_visible(now_ms) && !but.contains(&message.body);
            }
            let group = self.group(message.group);
            let is_locked = group.iter().any(|&place| !self.messages[place].is_visible(now_ms));
            group[0] == place && !is_locked && !but_groups.contains(&message.group)
        };
        let next = (0..self.messages.len()).filter(|&place| is_next(place));
        next.min_by_key(|&place| (self.messages[place].available_at_ms, self.messages[place].order))
    }
}

/// What the model knows of one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) queues: [Option<Entry>; NAMES.len()],
    pub(super) shares: Vec<Share>,
    /// What the other shard has said of tasks that are not known here yet.
    pub(super) early: Vec<(u64, Said)>,
    /// Numbers of moves whose messages have come.
    pub(super) arrivals: Vec<u64>,
    /// Moves that were given whose messages are gone here, with their tasks.
    pub(super) leaving: Vec<(u64, u64)>,
}

impl Shard {
    pub(super) fn entry(&mut self, name: usize) -> &mut Entry {
        self.queues[name].as_mut().expect("it is there")
    }

    pub(super) fn numbered(&self, number: u64) -> Option<usize> {
        self.queues.iter().flatten().find(|entry| entry.number == number).map(|entry| entry.name)
    }

    /// Where a queue's dead letters go, if that is there and lets them in.
    pub(super) fn letters(&self, name: usize) -> Option<(usize, u32)> {
        let (target, count) = LETTERS[name]?;
        let allows = self.queues[target].as_ref().is_some_and(|entry| !entry.denies);
        allows.then_some((target, count))
    }

    /// A message goes to another queue: a dead letter with all that it was, what a task moves as a new one.
    /// Where that queue lives on the other shard its way there begins.
    pub(super) fn begin_move(
        &mut self,
        (name, place): (usize, usize),
        target: usize,
        task: u64,
        (me, now_ms): (usize, u64),
        order: &mut usize,
    ) {
        *order += 1;
        if is_elsewhere(target, me) {
            let target = self.entry(target).number;
            let way = Way { target, task, begun: *order, number: None, is_given: false };
            self.entry(name).messages[place].moving = Some(way);
            return;
        }
        let message = self.entry(name).messages.remove(place);
        self.arrive(message, name, target, task, now_ms, *order);
    }

    /// A message comes to its new queue.
    pub(super) fn arrive(
        &mut self,
        message: Message,
        from: usize,
        target: usize,
        task: u64,
        now_ms: u64,
        order: usize,
    ) {
        let is_letter = task == 0;
        let begins_anew = !is_letter || HOMES[target].is_some();
        self.entry(target).messages.push(Message {
            id: message.id.filter(|_| is_letter),
            former_id: if is_letter { message.former_id } else { message.id },
            order,
            sent_at_ms: if begins_anew { now_ms } else { message.sent_at_ms },
            available_at_ms: now_ms,
            receive_count: if is_letter { message.receive_count } else { 0 },
            receives_before: if is_letter { message.receive_count } else { 0 },
            first_received_at_ms: if is_letter { message.first_received_at_ms } else { 0 },
            source: is_letter.then_some(from),
            moving: None,
            stayed: false,
            ..message
        });
    }

    /// Moves begin again, and what only memory knew is forgotten.
    pub(super) fn restart(&mut self, now_ms: u64) {
        self.early.clear();
        self.leaving.clear();
        for message in self.queues.iter_mut().flatten().flat_map(|entry| &mut entry.messages) {
            message.stayed = false;
            if let Some(way) = &mut message.moving {
                way.is_given = false;
            }
        }
        let under_way: Vec<u64> = self.shares.iter().map(|share| self.under_way(share.id)).collect();
        for (share, under_way) in self.shares.iter_mut().zip(under_way) {
            share.restart(now_ms, under_way);
        }
    }

    /// Whether no message is on its way, and no task runs.
    pub(super) fn is_at_rest(&self) -> bool {
        let mut messages = self.queues.iter().flatten().flat_map(|entry| &entry.messages);
        messages.all(|message| message.moving.is_none()) && !self.shares.iter().any(Share::is_active)
    }

    /// How many messages of a task are on their way.
    pub(super) fn under_way(&self, task: u64) -> u64 {
        let messages = self.queues.iter().flatten().flat_map(|entry| &entry.messages);
        let ways = messages.filter_map(|message| message.moving);
        let leaving = self.leaving.iter().filter(|(_, other)| *other == task).count();
        (ways.filter(|way| way.task == task).count() + leaving) as u64
    }
}
