//! One number for the whole state, to compare a shard with what its log says (rule 18).
//!
//! What is physical is left out: places in the log, slots, which timers have run. A message counts
//! by what can be told from it at this time, so that one whose visibility deadline has passed is the
//! same whether or not its timer has run.

use super::Engine;
use super::keyed_hash::Key;
use super::message::content_bytes;
use super::queue_state::QUEUE_STATE_BYTES;
use super::slot::{FLAG_ARRIVED, FLAG_MEMBER, FLAG_MOVING, State};
use crate::catalog::QueueName;
use crate::flaws::Flaws;

/// Mixes words into one, in their order.
#[derive(Debug, Clone, Copy)]
struct Mix(u64);

impl Mix {
    fn new(kind: u64) -> Self {
        Self(kind.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn word(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        Self((mixed ^ (mixed >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(23))
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self.word(bytes.len() as u64), |mix, &byte| mix.word(byte.into()))
    }
}

impl<F: Flaws> Engine<F> {
    /// The digest of the state at engine time.
    pub fn digest(&self) -> u64 {
        let identity = Mix::new(1)
            .word(self.identity.start_number().into())
            .word(self.identity.incarnation_next())
            .bytes(&self.identity.epoch());
        let queues = (0..self.queues.table_length()).map(|index| self.queue_digest(index));
        let messages = (0..self.slab.used()).map(|index| self.message_digest(index));
        let names = self.tombstones.order.iter().filter(|(free_at_ms, _)| *free_at_ms > self.now_ms);
        let names =
            names.map(|(free_at_ms, name)| Mix::new(4).word(*free_at_ms).bytes(name.arn().as_bytes()).0);
        // A sum, since the order of slots is physical.
        let remembered = self.remembered_digests();
        let moving = self.moving_digests();
        queues
            .chain(messages)
            .chain(names)
            .chain(remembered)
            .chain(moving)
            .fold(identity.0, u64::wrapping_add)
    }

    /// Of move tasks, and of moves from and to other shards.
    fn moving_digests(&self) -> impl Iterator<Item = u64> {
        let tasks = self.tasks.table.values().map(|task| {
            let mut bytes = Vec::new();
            task.definition.encode(&mut bytes);
            let share = task.share;
            let mix = Mix::new(7).bytes(&bytes).word(share.status.number().into());
            mix.word(share.failure as u64).word(share.moved).word(share.to_move).0
        });
        let outgoing = self.moves.outgoing.values().map(|outgoing| outgoing.record);
        let outgoing = outgoing.map(|record| Mix::new(8).word(record.number).word(record.sequence).0);
        let arrivals = self.moves.arrivals.keys();
        let arrivals = arrivals.map(|&(shard, number)| Mix::new(9).word(shard.into()).word(number).0);
        tasks.chain(outgoing).chain(arrivals)
    }

    /// Of what FIFO queues remember beside their messages.
    fn remembered_digests(&self) -> impl Iterator<Item = u64> {
        let entries = self.deduplication.entries(&self.identity);
        let entries = entries.filter(|entry| !entry.is_over(self.now_ms));
        let entries = entries.map(|entry| {
            let Key(key) = entry.key;
            let mix = Mix::new(5).word(key[0]).word(key[1]).word(entry.sequence).word(entry.sent_at_ms);
            mix.bytes(&entry.id).0
        });
        let attempts = self.attempts.iter().filter(|attempted| !attempted.is_over(self.now_ms));
        let attempts = attempts.map(|attempted| {
            let Key(key) = attempted.key;
            let mix =
                Mix::new(6).word(key[0]).word(key[1]).word(attempted.time_ms).word(attempted.deadline_ms);
            attempted.messages.iter().fold(mix, |mix, message| mix.word(message.sequence)).0
        });
        entries.chain(attempts)
    }

    fn queue_digest(&self, index: u32) -> u64 {
        let Some(queue) = self.queues.get(index).filter(|queue| !queue.deleted) else { return 0 };
        // The record says all that there is of it; nothing in it is physical.
        let state = queue.state(index);
        let mut bytes = vec![0; QUEUE_STATE_BYTES + state.variable_bytes()];
        state.write(&mut bytes);
        Mix::new(2).bytes(&bytes).0
    }

    fn message_digest(&self, index: u32) -> u64 {
        let slot = &self.slab[index];
        if slot.state() == State::Free {
            return 0;
        }
        let queue = &self.queues[slot.queue];
        if queue.is_gone(slot.sequence) || self.expiry_ms(queue, slot) <= self.now_ms {
            return 0;
        }
        let is_member = slot.flags() & FLAG_MEMBER != 0;
        let group = if is_member { self.groups[self.members.get(index).group].key } else { Key::default() };
        let is_moving = slot.flags() & FLAG_MOVING != 0;
        let in_flight = slot.state() == State::Hidden && slot.available_at_ms > self.now_ms && !is_moving;
        let mix = Mix::new(3)
            .word(queue.incarnation)
            .word(slot.sequence)
            .word(slot.sent_at_ms())
            .word(slot.available_at_ms)
            .word(slot.receive_count.into())
            .word(if slot.receive_count > 0 { slot.first_received_at_ms() } else { 0 })
            .word(if in_flight { self.delivered_at_ms(index) } else { 0 })
            .word(group.0[0])
            .word(group.0[1])
            .word(u64::from(slot.state() == State::Damaged))
            .word(content_bytes(slot).into());
        if slot.flags() & FLAG_ARRIVED == 0 {
            return mix.0;
        }
        let rare = self.rares.get(index);
        let name = self.origin_name(rare.source).map(QueueName::arn).unwrap_or_default();
        let mix = mix.word(rare.source).word(rare.receives_before.into()).bytes(name.as_bytes());
        if slot.receive_count > 0 { mix.word(rare.first_received_at_ms).0 } else { mix.0 }
    }
}
