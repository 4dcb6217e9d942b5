//! Deleting and hiding, by handles in batches some of which are to be refused.

use std::time::Duration;

use tenpin_client::{Error, ErrorCode, ReceiptHandle};

use crate::history::History;
use crate::model::{Issued, Key, QUEUES, Standing, Stored, is_fifo};

/// What is hidden is hidden for longer than a test takes, and each time for another time.
pub const HIDDEN_FOR: Duration = Duration::from_secs(3_600);

/// What is given where messages are named.
pub struct Picked {
    pub handle: ReceiptHandle,
    /// None: it never was one.
    pub issued: Option<Issued>,
}

impl From<Issued> for Picked {
    fn from(issued: Issued) -> Self {
        Self { handle: issued.handle.clone(), issued: Some(issued) }
    }
}

pub fn code_of<T>(result: &Result<T, Error>) -> Option<ErrorCode> {
    result.as_ref().err().map(|error| error.code().unwrap_or_else(|| panic!("{error}")))
}

impl History {
    /// Handles: mostly of what is in flight in a queue, then of whatever was given out, or none at all.
    pub fn pick(&mut self, queue: usize) -> Vec<Picked> {
        let mut held = self.held_in(queue);
        let most = 1 + self.below(9);
        while held.len() > most {
            let place = self.below(held.len());
            held.swap_remove(place);
        }
        let mut picked: Vec<Picked> = held.into_iter().map(Picked::from).collect();
        // What still names a message, but for another delivery; any of this queue; any at all.
        let is_old = |issued: &Issued| {
            let message = self.model.stored.get(&issued.key);
            message.is_some_and(|message| {
                message.arrival == issued.arrival && !message.is_held_by(&issued.handle)
            })
        };
        let of_queue = |issued: &&Issued| issued.queue == queue;
        let issued = &self.model.issued;
        let old: Vec<_> = issued.iter().filter(of_queue).filter(|issued| is_old(issued)).cloned().collect();
        let own: Vec<_> = issued.iter().filter(of_queue).cloned().collect();
        for (issued, once_in) in [(old, 2), (own, 4), (issued.clone(), 5)] {
            if !issued.is_empty() && self.once_in(once_in) {
                picked.push(Picked::from(issued[self.below(issued.len())].clone()));
            }
        }
        if self.once_in(12) {
            picked.push(Picked { handle: ReceiptHandle::from_bytes(vec![9; 32]), issued: None });
        }
        picked.truncate(10);
        picked
    }

    pub fn delete(&mut self) {
        let queue = self.some_queue();
        let picked = self.pick(queue);
        if picked.is_empty() {
            return;
        }
        self.tell(format!("delete in {}: {:?}", QUEUES[queue], names(&picked)));
        let handles: Vec<_> = picked.iter().map(|picked| picked.handle.clone()).collect();
        let asked = self.queue(queue);
        let outcomes = self.runtime.block_on(asked.delete_batch(&handles)).unwrap();
        assert_eq!(outcomes.len(), picked.len());
        for (picked, outcome) in picked.iter().zip(outcomes) {
            self.judge_deleted(queue, picked, code_of(&outcome));
        }
    }

    /// What a handle names, where it is one of this queue; else why it is refused. Where that may be either way, it is as
    /// the broker has said.
    fn named(
        &mut self,
        queue: usize,
        picked: &Picked,
        said: Option<ErrorCode>,
    ) -> Result<Option<&mut Stored>, ErrorCode> {
        const INVALID: ErrorCode = ErrorCode::ReceiptHandleIsInvalid;
        let incarnation = self.model.incarnation(queue);
        let is_of = |issued: &&Issued| (issued.queue, issued.incarnation) == (queue, incarnation);
        let Some(issued) = picked.issued.as_ref().filter(is_of) else {
            self.note("a foreign handle is refused");
            return Err(INVALID);
        };
        let standing = self.model.standing(queue, &picked.handle);
        let message = self.model.stored.get(&issued.key);
        let message = message.filter(|message| message.arrival == issued.arrival);
        let (is_there, is_sure) = (message.is_some(), message.is_some_and(|message| !message.is_unsure()));
        // Until the shard that it has left for another one has heard that it is there.
        let is_leaving = self.model.leaving.contains(&(queue, issued.key.1));
        let is_refused = match standing {
            Standing::Good => false,
            // Whether it is gone or elsewhere is not known any more.
            Standing::Moved => true,
            Standing::Stayed | Standing::CameBack if !is_there && is_leaving => said == Some(INVALID),
            Standing::Stayed | Standing::CameBack if !is_there => true,
            Standing::Stayed | Standing::CameBack if !is_sure => said == Some(INVALID),
            Standing::Stayed => false,
            Standing::CameBack => said == Some(INVALID),
        };
        if is_refused {
            self.note("a handle from before a change of the shards is refused");
            if let Some(message) = self.model.stored.get_mut(&issued.key)
                && message.is_held_by(&picked.handle)
                && let Some(held) = &mut message.held
            {
                held.is_refused = true;
            }
            return Err(INVALID);
        }
        if standing != Standing::Good {
            self.note("a handle from before a change of the shards works");
        }
        let message = self.model.stored.get_mut(&issued.key);
        Ok(message.filter(|message| message.arrival == issued.arrival))
    }

    pub fn judge_deleted(&mut self, queue: usize, picked: &Picked, error: Option<ErrorCode>) {
        const EXPIRED: Option<ErrorCode> = Some(ErrorCode::InvalidParameterValue);
        let message = match self.named(queue, picked, error) {
            Err(refusal) => return assert_eq!(error, Some(refusal), "{:?}", picked.issued),
            Ok(None) => return assert_eq!(error, None, "what is gone is deleted"),
            Ok(Some(message)) => message,
        };
        let key = message.key;
        if message.is_unsure() {
            assert!(error.is_none() || (is_fifo(queue) && error == EXPIRED), "{key:?}: {error:?}");
            message.may_be_gone |= error.is_none();
            if let Some(task) = &mut self.model.task {
                task.is_inexact = true;
            }
            return;
        }
        let is_this = message.is_held_by(&picked.handle);
        match message.held.as_ref().filter(|_| is_this) {
            Some(_) if !is_fifo(queue) => assert_eq!(error, None, "deleting {key:?}"),
            None if !is_fifo(queue) => {
                assert_eq!(error, None, "deleting {key:?}");
                self.note("an old handle deletes");
            }
            None => {
                self.note("an expired handle is refused");
                return assert_eq!(error, EXPIRED, "deleting {key:?}");
            }
            Some(held) if held.may_be_over && error == EXPIRED => {
                message.held = None;
                return;
            }
            Some(_) => assert_eq!(error, None, "deleting {key:?}"),
        }
        self.model.stored.remove(&key);
    }

    /// All that is in flight in a queue, as far as it can be named.
    pub fn held_in(&self, queue: usize) -> Vec<Issued> {
        let incarnation = self.model.incarnation(queue);
        let held = self.model.stored.values().filter(|message| message.queue == queue);
        held.filter_map(|message| {
            let handle = message.held.as_ref().filter(|held| !held.is_refused)?.handle.clone()?;
            let (key, arrival) = (message.key, message.arrival);
            Some(Issued { queue, incarnation, key, arrival, handle })
        })
        .collect()
    }

    /// Makes all that is in flight in a queue visible.
    pub fn give_back_held(&mut self, queue: usize) {
        let held = self.held_in(queue).into_iter().map(Picked::from).collect();
        self.give_back(queue, held);
    }

    pub fn give_back(&mut self, queue: usize, held: Vec<Picked>) {
        if !held.is_empty() {
            self.tell(format!("give back: {:?}", names(&held)));
        }
        for batch in held.chunks(10) {
            let changes: Vec<_> = batch.iter().map(|picked| (&picked.handle, Duration::ZERO)).collect();
            let asked = self.queue(queue);
            let outcomes = self.runtime.block_on(asked.change_visibility_batch(&changes)).unwrap();
            for (picked, outcome) in batch.iter().zip(outcomes) {
                self.judge_hidden(queue, picked, Duration::ZERO, code_of(&outcome));
            }
        }
    }

    /// Deletes all that is in flight in a queue.
    pub fn delete_held(&mut self, queue: usize) {
        let held: Vec<Picked> = self.held_in(queue).into_iter().map(Picked::from).collect();
        for batch in held.chunks(10) {
            let handles: Vec<_> = batch.iter().map(|picked| picked.handle.clone()).collect();
            let asked = self.queue(queue);
            let outcomes = self.runtime.block_on(asked.delete_batch(&handles)).unwrap();
            for (picked, outcome) in batch.iter().zip(outcomes) {
                self.judge_deleted(queue, picked, code_of(&outcome));
            }
        }
    }

    /// Changes for how long messages stay hidden, mostly to zero.
    pub fn hide(&mut self) {
        let queue = self.some_queue();
        let picked = self.pick(queue);
        if picked.is_empty() {
            return;
        }
        let timeouts: Vec<Duration> = picked.iter().map(|_| self.some_timeout()).collect();
        self.tell(format!("hide in {}: {:?} {timeouts:?}", QUEUES[queue], names(&picked)));
        let changes: Vec<_> =
            picked.iter().map(|picked| &picked.handle).zip(timeouts.iter().copied()).collect();
        let asked = self.queue(queue);
        let outcomes = self.runtime.block_on(asked.change_visibility_batch(&changes)).unwrap();
        assert_eq!(outcomes.len(), picked.len());
        for ((picked, timeout), outcome) in picked.iter().zip(timeouts).zip(outcomes) {
            self.judge_hidden(queue, picked, timeout, code_of(&outcome));
        }
    }

    fn some_timeout(&mut self) -> Duration {
        match self.below(10) {
            0..7 => Duration::ZERO,
            7..9 => HIDDEN_FOR,
            _ => Duration::from_secs(43_201),
        }
    }

    pub fn some_lawful_timeout(&mut self) -> Duration {
        if self.once_in(2) { Duration::ZERO } else { HIDDEN_FOR }
    }

    pub fn judge_hidden(
        &mut self,
        queue: usize,
        picked: &Picked,
        timeout: Duration,
        error: Option<ErrorCode>,
    ) {
        if error.is_some() {
            self.note("a change of visibility is refused");
        }
        let invalid = Some(ErrorCode::InvalidParameterValue);
        let not_in_flight = if is_fifo(queue) { invalid } else { Some(ErrorCode::MessageNotInflight) };
        let message = match self.named(queue, picked, error) {
            Err(refusal) => return assert_eq!(error, Some(refusal), "{:?}", picked.issued),
            Ok(_) if timeout > Duration::from_secs(43_200) => return assert_eq!(error, invalid),
            Ok(None) => return assert_eq!(error, invalid, "it is gone"),
            Ok(Some(message)) => message,
        };
        let key = message.key;
        if message.is_unsure() && error.is_some() {
            return assert!(error == invalid || error == not_in_flight, "{key:?}: {error:?}");
        }
        let is_unsure = message.is_unsure();
        let is_this = message.is_held_by(&picked.handle);
        match &mut message.held {
            Some(held) if is_this || !is_fifo(queue) => {
                if held.may_be_over && error == not_in_flight {
                    message.held = None;
                    return;
                }
                assert_eq!(error, None, "hiding {key:?}");
                // Another task or letter it is not any more: it was in flight.
                (held.changed, held.may_be_over) = (true, false);
                message.is_here();
                message.surely_received = message.received;
                if timeout.is_zero() {
                    message.held = None;
                }
            }
            _ => {
                let is_moving = is_unsure && error.is_none();
                assert!(error == not_in_flight || is_moving, "hiding {key:?}: {error:?}");
            }
        }
    }
}

fn names(picked: &[Picked]) -> Vec<Option<(usize, Key)>> {
    picked.iter().map(|picked| picked.issued.as_ref().map(|issued| (issued.queue, issued.key))).collect()
}
