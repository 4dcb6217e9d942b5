//! Messages that are sent, received and deleted.

use tenpin_protocol::{ContentFields, Entries, ErrorCode, SendEntry, write_content};

use super::catalog::arn;
use super::exchange::body_of;
use super::queues::{Message, is_elsewhere};
use super::*;
use crate::engine::records::StoredMessage;
use crate::journal::RawRecord;

/// What a receive has given.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    shard: usize,
    pub(super) name: usize,
    number: u64,
    body: u64,
    order: usize,
    receive_count: u32,
    handle: [u8; HANDLE_BYTES],
}

impl<F: Flaws> Test<F> {
    /// The shard that serves a queue, where that is not any.
    fn shard_for(&self, name: usize, shard: usize) -> usize {
        HOMES[name].unwrap_or(shard)
    }

    pub(super) fn send(&mut self, name: usize, shard: usize, group: u8) {
        let shard = self.shard_for(name, shard);
        let Some(entry) = &self.shards[shard].queues[name] else { return };
        let queue = entry.number;
        let has_room = self.has_room(shard);
        self.sent += u64::from(has_room);
        self.order += 1;
        let (text, group_text) = (self.sent.to_string(), group.to_string());
        let fields = ContentFields { group: HOMES[name].map(|_| group_text.as_str()), ..Default::default() };
        let mut content = Vec::new();
        write_content(&mut content, text.as_bytes(), &fields);
        let entry = SendEntry::with_content(&content, text.len()).expect("it was written");
        let world = &mut self.worlds[shard];
        world.apply(Command::Send { queue, entries: Entries::of(&[entry]) });
        if !has_room {
            let is_full = |reply: &Reply| matches!(&reply.body, ReplyBody::Refused(refusal) if refusal.code == ErrorCode::StorageFull);
            return assert!(world.out.replies.iter().all(is_full) && world.out.replies.len() == 1);
        }
        let Accepted { id, .. } = world.out.sent[0].clone().expect("nothing is wrong with it");
        let now_ms = world.now_ms;
        let message = Message {
            body: self.sent,
            id: Some(id),
            former_id: None,
            group,
            order: self.order,
            sent_at_ms: now_ms,
            available_at_ms: now_ms,
            receive_count: 0,
            receives_before: 0,
            first_received_at_ms: 0,
            source: None,
            moving: None,
            stayed: false,
        };
        self.shards[shard].entry(name).messages.push(message);
        self.serve(shard);
    }

    pub(super) fn receive(
        &mut self,
        name: usize,
        shard: usize,
        (count_max, seconds): (u32, u32),
        wait_ms: u32,
    ) {
        let shard = self.shard_for(name, shard);
        let Some(entry) = &self.shards[shard].queues[name] else { return };
        let number = entry.number;
        // With several that wait at a time it would not be told who is first.
        let waits = self.waits[shard].first().is_some_and(|wait| wait.name != name);
        let wait_ms = if waits { 0 } else { wait_ms };
        let (now_ms, room) = (self.now_ms(), self.worlds[shard].log.room());
        let is_refused = room == Room::NoReceives && entry.counts(now_ms)[0] > 0;
        let expected =
            if is_refused { Vec::new() } else { self.hand_out(name, shard, count_max as usize, seconds) };
        let replies = self.worlds[shard].apply(Command::Receive {
            queue: number,
            count_max,
            wait_ms: Some(wait_ms),
            visibility_seconds: Some(seconds),
            reply_bytes_max: u32::MAX,
            attempt_id: None,
        });
        let correlation = self.worlds[shard].correlation;
        let reply = replies.iter().find(|reply| reply.ticket.correlation == correlation);
        match reply.map(|reply| &reply.body) {
            None => {
                assert!(wait_ms > 0 && !is_refused && expected.is_empty());
                let deadline_ms = now_ms + u64::from(wait_ms);
                self.waits[shard].push(Wait { name, number, correlation, count_max, seconds, deadline_ms });
            }
            Some(ReplyBody::Refused(refusal)) => {
                assert!(is_refused && refusal.code == ErrorCode::StorageFull);
            }
            Some(ReplyBody::Received(range)) => {
                assert!(!is_refused && (wait_ms == 0 || !expected.is_empty()));
                self.note_deliveries(shard, (name, number), range.clone(), &expected);
            }
            Some(other) => panic!("{other:?}"),
        }
        self.serve(shard);
    }

    /// Compares what was given out with what the model gives out.
    pub(super) fn note_deliveries(
        &mut self,
        shard: usize,
        (name, number): (usize, u64),
        range: std::ops::Range<u32>,
        expected: &[Message],
    ) {
        let deliveries = self.worlds[shard].out.deliveries[range.start as usize..range.end as usize].to_vec();
        assert_eq!(deliveries.len(), expected.len(), "{} on shard {shard}: {expected:?}", NAMES[name]);
        for (delivery, message) in deliveries.iter().zip(expected) {
            let id = self.check_delivery(shard, delivery, message);
            let mut messages = self.shards[shard].entry(name).messages.iter_mut();
            if let Some(message) = messages.find(|other| other.body == message.body) {
                message.id = Some(id);
            }
            self.issued.push(Issued {
                shard,
                name,
                number,
                body: message.body,
                order: message.order,
                receive_count: message.receive_count,
                handle: delivery.handle,
            });
        }
    }

    /// What the model gives out, dead letters on the way moved.
    pub(super) fn hand_out(
        &mut self,
        name: usize,
        shard: usize,
        count_max: usize,
        seconds: u32,
    ) -> Vec<Message> {
        let (now_ms, has_room) = (self.now_ms(), self.has_room(shard));
        let model = &mut self.shards[shard];
        let letters = model.letters(name);
        let has_way = letters.is_none_or(|(target, _)| has_room || !is_elsewhere(target, shard));
        let is_letter = |message: &Message| {
            letters.is_some_and(|(_, count)| message.receive_count - message.receives_before >= count)
        };
        let (mut taken, mut groups, mut bodies) = (Vec::<Message>::new(), Vec::new(), Vec::new());
        while taken.len() < count_max
            && let Some(place) = model.entry(name).first(&groups, &bodies, now_ms)
        {
            let head = &mut model.entry(name).messages[place];
            let (group, is_due) = (head.group, is_letter(head));
            let stays = is_due && (std::mem::take(&mut head.stayed) || !has_way);
            if let Some((target, _)) = letters.filter(|_| is_due && !stays) {
                model.begin_move((name, place), target, 0, (shard, now_ms), &mut self.order);
                continue;
            }
            groups.push(group);
            let entry = model.entry(name);
            let places = if entry.is_fifo() { entry.group(group) } else { vec![place] };
            for (nth, place) in places.into_iter().enumerate() {
                let message = &mut entry.messages[place];
                let stops = is_letter(message) && !(nth == 0 && stays);
                if taken.len() == count_max || !message.is_visible(now_ms) || stops {
                    break;
                }
                message.receive_count += 1;
                if message.receive_count == 1 {
                    message.first_received_at_ms = now_ms;
                }
                message.available_at_ms = now_ms + u64::from(seconds) * 1_000;
                bodies.push(message.body);
                taken.push(message.clone());
            }
        }
        taken
    }

    /// Compares a delivery with the model's message, and gives its id.
    fn check_delivery(&self, shard: usize, delivery: &Delivery, message: &Message) -> [u8; 16] {
        let world = &self.worlds[shard];
        let bytes = world.log.bytes(delivery.position, delivery.length).expect("all is in memory");
        let raw = RawRecord::parse(bytes).expect("the engine wrote it");
        let stored = StoredMessage::parse(&raw).expect("a message");
        assert_eq!(body_of(&stored.content[..stored.body_bytes as usize]), message.body);
        assert!(message.id.is_none_or(|id| id == stored.id), "only a task gives a new id");
        assert_ne!(message.former_id, Some(stored.id), "a task gives a new id");
        let found = (delivery.receive_count, delivery.sent_at_ms, delivery.first_received_at_ms);
        assert_eq!(
            found,
            (message.receive_count, message.sent_at_ms, message.first_received_at_ms),
            "{message:?}"
        );
        let source = world.engine.origin_name(delivery.source).map(|name| name.arn());
        assert_eq!(source, message.source.map(arn));
        stored.id
    }

    /// Deletes what was received, lately or long ago.
    pub(super) fn delete_message(&mut self, place: usize) {
        let now_ms = self.now_ms();
        let recent = self.issued.len().min(if place.is_multiple_of(3) { usize::MAX } else { 5 });
        let Some(issued) = self.issued.iter().rev().take(recent).nth(place % recent.max(1)).cloned() else {
            return;
        };
        let model = &mut self.shards[issued.shard];
        if model.numbered(issued.number) != Some(issued.name) {
            return;
        }
        let entry = model.entry(issued.name);
        let is_fifo = entry.is_fifo();
        let is_it = |message: &Message| (message.body, message.order) == (issued.body, issued.order);
        let found = entry.messages.iter().position(is_it);
        let is_current = |message: &Message| {
            message.moving.is_none()
                && message.available_at_ms > now_ms
                && message.receive_count == issued.receive_count
        };
        let expired = found.is_some_and(|place| is_fifo && !is_current(&entry.messages[place]));
        // What is on its way is not this queue's any more (rule 6).
        if let Some(place) = found.filter(|&place| !expired && entry.messages[place].moving.is_none()) {
            self.gone.push(entry.messages.remove(place).body);
        }
        let (queue, handles) = (issued.number, [&issued.handle[..]]);
        let world = &mut self.worlds[issued.shard];
        world.apply(Command::Delete { queue, handles: Entries::of(&handles) });
        let outcome = &world.out.outcomes[0];
        assert_eq!(outcome.is_err(), expired, "{outcome:?}");
        self.serve(issued.shard);
    }
}
