//! Requests that were not answered. A message says what may have become of it, and what has is known once it was
//! looked at; what more can be said of all that one request was to do is judged here.

use std::time::Duration;

use crate::history::History;
use crate::messages::Picked;
use crate::model::{Key, Remembered, Standing, Stored, is_fifo};
use crate::receives::Ask;
use crate::sends::Draft;

/// A message whose send was not answered, and under what its queue remembers it if it has come.
pub struct Pending {
    key: Key,
    remembered: Option<Remembered>,
}

/// What may have been done or not.
#[derive(Default)]
pub struct Unanswered {
    pub sends: Vec<Vec<Pending>>,
    pub deletes: Vec<Key>,
    pub receives: Vec<(usize, Ask)>,
    pub hides: Vec<Key>,
    pub start: bool,
}

impl History {
    /// A send was not answered: of its messages the first ones may be there.
    pub fn note_unanswered_send(&mut self, queue: usize, drafts: Vec<Draft>) -> Vec<Pending> {
        let mut pending: Vec<Pending> = Vec::new();
        for draft in drafts {
            let remembered = draft.id.as_ref().map(|id| self.model.remembered_as(queue, draft.key.1, id));
            let is_known = |remembered: &Remembered| {
                self.model.remembered.contains_key(remembered)
                    || pending.iter().any(|before| before.remembered.as_ref() == Some(remembered))
            };
            if draft.error.is_none() && !remembered.as_ref().is_some_and(is_known) {
                pending.push(Pending { key: draft.key, remembered });
                let id = draft.own_id();
                self.store(queue, draft, None, id);
            }
        }
        pending
    }

    /// What was there was seen.
    pub fn judge_unanswered_send(&mut self, pending: Vec<Pending>) {
        let mut missing = None;
        for Pending { key, remembered } in pending {
            let Some(stored) = self.model.stored.get(&key) else {
                missing = Some(key);
                continue;
            };
            let Some(id) = stored.id else {
                // A task may have it under way.
                continue;
            };
            assert!(missing.is_none(), "{key:?} was stored, and not {missing:?} before it");
            if let Some(remembered) = remembered {
                self.model.remembered.insert(remembered, (id, stored.sequence, key.0));
            }
            self.note("a message is stored whose send was not answered");
        }
    }

    /// What a handle may name, whose use was not answered.
    fn may_be_named(&mut self, queue: usize, picked: &Picked) -> Option<&mut Stored> {
        let incarnation = self.model.incarnation(queue);
        let issued = picked.issued.as_ref()?;
        let is_of = (issued.queue, issued.incarnation) == (queue, incarnation);
        let is_moved = self.model.standing(queue, &picked.handle) == Standing::Moved;
        let message = self.model.stored.get_mut(&issued.key)?;
        let is_this = message.is_held_by(&picked.handle) || !is_fifo(queue);
        (is_of && !is_moved && is_this && message.arrival == issued.arrival).then_some(message)
    }

    pub fn note_unanswered_delete(&mut self, queue: usize, picked: &Picked) -> Option<Key> {
        let message = self.may_be_named(queue, picked)?;
        message.may_be_gone = true;
        let key = message.key;
        if let Some(task) = &mut self.model.task {
            task.is_inexact = true;
        }
        Some(key)
    }

    pub fn note_unanswered_hide(&mut self, queue: usize, picked: &Picked, timeout: Duration) -> Option<Key> {
        let message = self.may_be_named(queue, picked)?;
        let key = message.key;
        let held = message.held.as_mut()?;
        held.maybe_visible |= timeout.is_zero();
        held.maybe_changed |= !timeout.is_zero();
        Some(key)
    }

    pub fn judge_unanswered(&mut self, unanswered: Unanswered, received: &[Key]) {
        self.tell(format!("received without an answer: {received:?}"));
        for sends in unanswered.sends {
            self.judge_unanswered_send(sends);
        }
        for key in unanswered.deletes {
            if !self.model.stored.contains_key(&key) {
                self.note("a message is gone whose deletion was not answered");
            }
        }
        for key in unanswered.hides {
            let held = self.model.stored.get(&key).map(|message| message.held.as_ref());
            if held.is_some_and(|held| held.is_none_or(|held| held.changed)) {
                self.note("a message is hidden anew or visible without an answer");
            }
        }
        for (queue, ask) in unanswered.receives {
            self.judge_unanswered_receive(queue, &ask, received);
        }
    }

    fn judge_unanswered_receive(&mut self, queue: usize, ask: &Ask, received: &[Key]) {
        let is_here = |key: &&Key| self.model.stored.get(*key).is_some_and(|message| message.queue == queue);
        let received: Vec<Key> = received.iter().filter(is_here).copied().collect();
        // Where a shard was held up, another one may have been asked after it.
        assert!(!is_fifo(queue) || received.len() <= ask.most, "{received:?} were received by {ask:?}");
        if !received.is_empty() {
            self.note("messages are received without an answer");
        }
        if !is_fifo(queue) {
            return;
        }
        for key in &received {
            // A task may have it by now, as far as is known: it is not among those that surely are there.
            let order = self.model.stored[key].order;
            let before = self.model.in_order(queue, key.1).into_iter().filter(|other| other.order < order);
            let missing = before.into_iter().find(|other| !received.contains(&other.key));
            assert!(missing.is_none(), "{:?} was received before {missing:?}", self.model.stored[key]);
        }
        if received.is_empty() {
            // It is as if nobody had asked.
            self.receive_at_once(queue, ask);
        } else {
            self.receive_what_was_lost(queue, ask, received);
        }
    }
}
