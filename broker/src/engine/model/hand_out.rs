//! What receives are given, at once or when they have waited.

use super::*;

/// What a receive comes to.
pub(super) enum Taken {
    Messages(Vec<Expected>),
    Nothing,
    /// It moved as many dead letters as one receive does, and goes on.
    More,
}

impl<F: Flaws> Test<F> {
    /// Where the dead letters of a queue go, and after how many receives.
    pub(super) fn letters(&self, name: usize) -> Option<(usize, u32)> {
        let (target, count) = self.queues[&name].redrive?;
        self.queues.get(&target)?.allows(name).then_some((target, count))
    }

    /// Hands out the messages that have been visible longest; dead letters on the way are moved.
    pub(super) fn take(&mut self, name: usize, wait: &Wait) -> Taken {
        if name >= FIFO_FROM {
            return self.take_fifo(name, wait);
        }
        let now_ms = self.now_ms();
        let queue = self.queue_now(name);
        let free = IN_FLIGHT_MAX.saturating_sub(queue.count(MessageState::InFlight, now_ms));
        if free > 0 && queue.count(MessageState::Visible, now_ms) > 0 {
            queue.judge_lingering();
        }
        let (mut taken, mut bytes, mut moved) = (Vec::<Expected>::new(), 0, 0);
        while taken.len() < free.min(wait.count_max as usize) {
            let ids: Vec<[u8; 16]> = taken.iter().map(|message| message.id).collect();
            let Some(id) = self.queues[&name].next(&ids) else { break };
            if let Some((target, count)) = self.letters(name)
                && self.message(name, id).receives_here() >= count
            {
                if moved == LETTERS_A_RECEIVE {
                    return if taken.is_empty() { Taken::More } else { Taken::Messages(taken) };
                }
                moved += 1;
                self.move_letter(name, target, id);
                self.queue_now(name);
                continue;
            }
            let message = self.message(name, id);
            bytes += message.shown_bytes();
            if !taken.is_empty() && bytes > u64::from(wait.bytes_max) {
                break;
            }
            taken.push(message.hand_out(wait.visibility_ms, now_ms));
        }
        if taken.is_empty() { Taken::Nothing } else { Taken::Messages(taken) }
    }

    /// A queue with everything noted that was processed on it up to now.
    pub(super) fn queue_now(&mut self, name: usize) -> &mut Queue {
        let now_ms = self.now_ms();
        let queue = self.queues.get_mut(&name).expect("it is there");
        queue.now_ms = now_ms;
        queue.measure();
        queue
    }

    pub(super) fn message(&mut self, name: usize, id: [u8; 16]) -> &mut Stored {
        let queue = self.queues.get_mut(&name).expect("it is there");
        queue.messages.iter_mut().find(|message| message.id == id).expect("it is there")
    }

    pub(super) fn move_letter(&mut self, name: usize, target: usize, id: [u8; 16]) {
        let now_ms = self.now_ms();
        self.order += 1;
        let queue = self.queues.get_mut(&name).expect("it is there");
        let place = queue.messages.iter().position(|message| message.id == id).expect("it is there");
        let mut message = queue.messages.remove(place);
        let target = self.queues.get_mut(&target).expect("letters go to queues that are there");
        message.order = self.order;
        message.available_at_ms = now_ms;
        message.receives_before = message.receive_count;
        message.changed = false;
        message.source = Some(arn(name));
        if let Some(place) = &mut message.fifo {
            message.sent_at_ms = now_ms;
            (place.sequence, place.delay_ms) = (0, target.attributes.delay_ms());
        }
        if message.sent_at_ms + target.attributes.retention_ms() > now_ms {
            target.messages.push(message);
        }
        self.has_moved = true;
    }
}

impl<F: Flaws> Test<F> {
    /// Gives those who wait what there is, in their order. Dead letters may wake those who wait on other
    /// queues.
    pub(super) fn serve(&mut self, expected: &mut BTreeMap<u32, Answer>) {
        let names: Vec<usize> = self.queues.keys().copied().collect();
        let mut goes_on = true;
        while std::mem::take(&mut goes_on) {
            for &name in &names {
                while !self.later.contains(&name)
                    && let Some(wait) = self.queues[&name].waits.first().cloned()
                {
                    match self.take(name, &wait) {
                        Taken::Messages(taken) => {
                            self.queues.get_mut(&name).expect("it is there").waits.remove(0);
                            expected.insert(wait.correlation, Answer::Messages(taken));
                            goes_on = true;
                        }
                        Taken::More => {
                            self.later.insert(name);
                            goes_on = true;
                        }
                        Taken::Nothing => break,
                    }
                }
            }
        }
    }

    /// What a receive is answered at once, if it is.
    pub(super) fn settle(&mut self, name: usize, wait: Wait) -> Option<Answer> {
        match self.take(name, &wait) {
            Taken::Messages(taken) => Some(Answer::Messages(taken)),
            Taken::More => {
                self.unfinished.push((name, wait));
                None
            }
            Taken::Nothing => self.find_nothing(name, wait),
        }
    }

    pub(super) fn find_nothing(&mut self, name: usize, wait: Wait) -> Option<Answer> {
        let now_ms = self.now_ms();
        let queue = self.queues.get_mut(&name).expect("it is there");
        if wait.deadline_ms > now_ms {
            queue.waits.push(wait);
            None
        } else if name < FIFO_FROM && queue.count(MessageState::InFlight, now_ms) >= IN_FLIGHT_MAX {
            Some(Answer::Refused(ErrorCode::OverLimit))
        } else {
            Some(Answer::Messages(Vec::new()))
        }
    }

    /// Turn by turn, until all dead letters have been moved.
    pub(super) fn go_on(&mut self) {
        while !self.unfinished.is_empty() || !self.later.is_empty() {
            let queues = self.waiting_queues();
            let mut expected = BTreeMap::new();
            self.later.clear();
            for (name, wait) in std::mem::take(&mut self.unfinished) {
                let correlation = wait.correlation;
                if let Some(answer) = self.settle(name, wait) {
                    expected.insert(correlation, answer);
                }
            }
            self.serve(&mut expected);
            let (_, replies) = self.world.advance(0, ALL);
            self.compare(&replies, &expected, &queues);
        }
        if std::mem::take(&mut self.has_moved) {
            // What expired by moving goes with the next timers.
            while self.world.advance(0, ALL).0 {}
        }
    }

    /// Two queues whose waits are served in one turn are in no order, and one's dead letters would come to
    /// the other before or after it is served.
    pub(super) fn let_one_queue_wait(&mut self) {
        let waiting = self.queues.values().filter(|queue| !queue.waits.is_empty()).count();
        if waiting > 1 && self.queues.values().any(|queue| queue.redrive.is_some()) {
            self.answer_waits(None);
        }
    }
}

pub(super) fn arn(name: usize) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{}", NAMES[name])
}
