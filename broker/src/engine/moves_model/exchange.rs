//! What stands between the shards for their exchange: two rows, first in, first out. What has come is taken a part
//! a turn, so that what was said behind it may be heard before.

use super::queues::{Message, Way};
use super::*;

/// What one shard says to the other.
#[derive(Debug)]
pub(super) enum Item {
    Move(Box<Moving>),
    Answer(u64, MoveAnswer),
    Shares(Vec<TaskShare>),
    Change(Change),
}

/// What is on its way to a shard.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) items: VecDeque<Item>,
}

impl Wire {
    /// Changes of the catalog, in their order.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let items = self.items.drain(..);
        items.filter_map(|item| if let Item::Change(change) = item { Some(change) } else { None }).collect()
    }
}

impl<F: Flaws> Test<F> {
    /// A shard gives what is to go to the other and was not given since the start, some at a time.
    pub(super) fn want(&mut self, shard: usize, has_room: bool) {
        let world = &mut self.worlds[shard];
        let mut out = Vec::new();
        world.engine.moves_wanted(world.now_ms, |_| has_room, &mut world.log, &mut out);
        world.note_records();
        let mut expected: Vec<(usize, usize, usize)> = Vec::new();
        for entry in self.shards[shard].queues.iter().flatten().filter(|_| has_room) {
            let messages = entry.messages.iter().enumerate();
            let ways = messages.filter_map(|(place, message)| Some((place, message.moving?)));
            let new = ways.filter(|(_, way)| !way.is_given);
            expected.extend(new.map(|(place, way)| (way.begun, entry.name, place)));
        }
        expected.sort_unstable();
        expected.truncate(8);
        assert_eq!(out.len(), expected.len(), "what has begun is given");
        for ((to, moving), (_, name, place)) in out.into_iter().zip(expected) {
            assert_eq!(usize::from(to), 1 - shard);
            let model = &mut self.shards[shard];
            let number = model.entry(name).number;
            let message = &mut model.entry(name).messages[place];
            check_moving(&moving, message, (number, name));
            let way = message.moving.as_mut().expect("it is on its way");
            assert!(way.number.is_none_or(|number| number == moving.number), "a move keeps its number");
            (way.number, way.is_given) = (Some(moving.number), true);
            self.wires[1 - shard].items.push_back(Item::Move(Box::new(moving)));
        }
    }

    /// A shard hears the next thing that the other has said.
    pub(super) fn hear(&mut self, shard: usize) {
        match self.wires[shard].items.pop_front() {
            None => {}
            Some(Item::Move(moving)) => self.arrived[shard].push_back(*moving),
            Some(Item::Change(change)) => self.follow(shard, &change),
            Some(Item::Shares(shares)) => self.hear_shares(shard, &shares),
            Some(Item::Answer(number, answer)) => {
                let world = &mut self.worlds[shard];
                world.out.clear();
                world.engine.moved_out(world.now_ms, number, answer, &mut world.log, &mut world.out);
                world.note_records();
                self.answered(shard, number, answer);
                self.serve(shard);
                self.tell_of_tasks(shard);
            }
        }
        self.let_timers_run();
    }

    pub(super) fn hear_all(&mut self) {
        while let Some(shard) = (0..SHARDS).find(|&shard| !self.wires[shard].items.is_empty()) {
            self.hear(shard);
        }
    }

    /// A shard takes the next message that has come, and says so; perhaps twice.
    pub(super) fn take(&mut self, shard: usize, twice: bool) {
        let Some(moving) = self.arrived[shard].pop_front() else { return };
        for _ in 0..1 + usize::from(twice) {
            let has_room = self.has_room(shard);
            let world = &mut self.worlds[shard];
            world.out.clear();
            let from = (1 - shard) as u16;
            let (answer, _) =
                world.engine.moved_in(world.now_ms, from, &moving, &mut world.log, &mut world.out);
            world.note_records();
            assert_eq!(answer, self.arrives(shard, has_room, &moving));
            self.serve(shard);
            self.wires[1 - shard].items.push_back(Item::Answer(moving.number, answer));
        }
    }

    /// The model's part of that: a message that has come before does not come again.
    fn arrives(&mut self, shard: usize, has_room: bool, moving: &Moving) -> MoveAnswer {
        let now_ms = self.now_ms();
        let model = &mut self.shards[shard];
        if model.arrivals.contains(&moving.number) {
            return MoveAnswer::Taken;
        }
        let Some(target) = model.numbered(moving.target) else { return MoveAnswer::Refused };
        if moving.task == 0 && model.entry(target).denies {
            return MoveAnswer::Refused;
        }
        if !has_room {
            return MoveAnswer::NoRoom;
        }
        model.arrivals.push(moving.number);
        self.order += 1;
        let from = NAMES.iter().position(|name| *name == moving.source.1.name()).expect("it is one of ours");
        let message = Message {
            body: body_of(&moving.content[..moving.body_bytes as usize]),
            id: Some(moving.id),
            former_id: None,
            group: group_of(&moving.content, moving.body_bytes as usize),
            order: 0,
            sent_at_ms: moving.sent_at_ms,
            available_at_ms: 0,
            receive_count: moving.receive_count,
            receives_before: 0,
            first_received_at_ms: moving.first_received_at_ms,
            source: None,
            moving: None,
            stayed: false,
        };
        // What has left a queue that was emptied meanwhile is here after all.
        self.gone.retain(|&body| body != message.body);
        let order = self.order;
        self.shards[shard].arrive(message, from, target, moving.task, now_ms, order);
        MoveAnswer::Taken
    }

    /// A move is over on the shard that the message leaves.
    fn answered(&mut self, shard: usize, number: u64, answer: MoveAnswer) {
        let now_ms = self.now_ms();
        let model = &mut self.shards[shard];
        let is_it = |message: &Message| message.moving.is_some_and(|way| way.number == Some(number));
        let found = model.queues.iter().flatten().find_map(|entry| {
            let place = entry.messages.iter().position(is_it)?;
            Some((entry.name, place, entry.messages[place].moving?))
        });
        let Some((name, place, way)) = found else {
            if let Some(place) = model.leaving.iter().position(|(leaving, _)| *leaving == number) {
                let (_, task) = model.leaving.remove(place);
                model.share_answered(task, answer, now_ms);
            }
            return;
        };
        if answer == MoveAnswer::Taken {
            model.entry(name).messages.remove(place);
            return model.share_answered(way.task, answer, now_ms);
        }
        let is_fifo = model.entry(name).is_fifo();
        let message = &mut model.entry(name).messages[place];
        message.moving = None;
        // What was never received goes back to its place in a FIFO queue.
        let has_its_place = is_fifo && message.receive_count == 0;
        message.available_at_ms = if has_its_place { message.sent_at_ms } else { now_ms };
        message.stayed = way.task == 0;
        model.share_answered(way.task, answer, now_ms);
    }

    /// Whether a message that was on its way from a shard is on the other one.
    pub(super) fn has_left(&self, shard: usize, message: &Message) -> bool {
        let number = message.moving.and_then(|way| way.number);
        number.is_some_and(|number| self.shards[1 - shard].arrivals.contains(&number))
    }
}

pub(super) fn body_of(body: &[u8]) -> u64 {
    std::str::from_utf8(body).expect("it is a number").parse().expect("it is a number")
}

fn group_of(content: &[u8], body_bytes: usize) -> u8 {
    let group = super::super::letters::group_of(content, body_bytes).expect("it has a group");
    group.parse().expect("it is a number")
}

fn check_moving(moving: &Moving, message: &Message, source: (u64, usize)) {
    let Way { target, task, .. } = message.moving.expect("it is on its way");
    assert_eq!((moving.target, moving.task), (target, task));
    assert_eq!((moving.source.0, moving.source.1.name()), (source.0, NAMES[source.1]));
    assert_eq!(body_of(&moving.content[..moving.body_bytes as usize]), message.body);
    assert_eq!(group_of(&moving.content, moving.body_bytes as usize), message.group);
    assert!(message.id.is_none_or(|id| id == moving.id));
    let found = (moving.sent_at_ms, moving.receive_count, moving.first_received_at_ms);
    assert_eq!(found, (message.sent_at_ms, message.receive_count, message.first_received_at_ms));
}
