//! What is told of messages, from their sends to their deletes.

use super::{Checker, Ending, Received, Sweep, Window};
use crate::simulator::message::{Existence, Hold, HoldKind, Message, Removal, read_body};
use crate::simulator::plan::SECOND;

impl Checker {
    /// A message is sent; whether it is stored is not known from now on.
    pub fn send_began(
        &mut self,
        id: u64,
        queue: u64,
        body_bytes: usize,
        delay_seconds: Option<u64>,
        now_ns: u64,
    ) {
        self.messages.insert(id, Message::new(queue, body_bytes, delay_seconds, now_ns));
        self.sends_under_way += 1;
    }

    /// Whether messages are on their way to a queue.
    pub fn has_sends_under_way(&self) -> bool {
        self.sends_under_way > 0
    }

    /// A receive was never answered: messages may be hidden that nobody has.
    pub fn receive_lost(&mut self, queue: u64, now_ns: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.receive_lost_ns = now_ns;
        }
    }

    /// The send of a message has ended; the broker gave it an id where it was accepted.
    pub fn send_ended(&mut self, id: u64, ending: Ending, broker_id: [u8; 16]) {
        self.sends_under_way -= 1;
        let message = self.messages.get_mut(&id).expect("it began");
        message.send_has_ended = true;
        match ending {
            Ending::Done(window) => {
                message.existence = Existence::Yes { from_ns: window.from_ns, to_ns: window.to_ns };
                if self.moves {
                    self.lived(id, broker_id, window);
                } else {
                    self.has_broker_id(id, broker_id);
                }
            }
            Ending::Refused | Ending::Unknown(None) => {
                if let Existence::Yes { .. } = message.existence {
                    self.violation(format!(
                        "message {id} was received, but its send was refused or never arrived"
                    ));
                } else {
                    message.existence = Existence::No;
                }
            }
            Ending::Unknown(Some(from_ns)) => {
                if let Existence::Maybe { from_ns: since_ns } = &mut message.existence {
                    *since_ns = from_ns;
                }
            }
        }
    }

    /// Nobody waits any more for the answer of a receive that the shard may still serve.
    pub fn receive_abandoned(&mut self, queue: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.abandoned_receives += 1;
        }
    }

    /// The shard serves an abandoned receive no more.
    pub fn abandoned_receive_ended(&mut self, queue: u64, now_ns: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.abandoned_receives -= 1;
        }
        self.receive_lost(queue, now_ns);
    }

    /// A message's delete was asked for.
    pub fn delete_began(&mut self, id: u64) {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.deletes_under_way += 1;
    }

    /// A message's delete from a queue by this handle has ended.
    pub fn delete_ended(&mut self, id: u64, queue: u64, handle: &[u8], ending: Ending) {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.deletes_under_way -= 1;
        if self.moves {
            return self.moving_delete_ended(id, queue, handle, ending);
        }
        message.delete_ended(queue, ending);
    }

    /// A message's visibility is to be changed; the hold that is returned is to be named at the end.
    pub fn change_began(&mut self, id: u64, seconds: u64, now_ns: u64) -> usize {
        let message = self.messages.get_mut(&id).expect("it was received");
        message.change_began(seconds * SECOND, now_ns)
    }

    /// A change of visibility has ended.
    pub fn change_ended(&mut self, id: u64, hold: usize, ending: Ending) {
        self.messages.get_mut(&id).expect("it was received").change_ended(hold, ending);
    }

    /// A message was received: is it one that may be? Gives its number if it is.
    pub fn received(&mut self, received: &Received<'_>, window: Window) -> Option<u64> {
        let id = self.known_body(received)?;
        if self.moves {
            self.received_moving(id, received, window);
        } else {
            self.has_broker_id(id, received.broker_id);
            self.check_existence(id, received, window);
            self.check_time(id, received, window);
            self.check_order(id, received, window);
            self.check_holds(id, received, window);
        }
        let message = self.messages.get_mut(&id).expect("it was just found");
        message.received_ns = message.received_ns.max(window.from_ns);
        self.delivered += 1;
        Some(id)
    }

    /// A message was seen without being taken: is its body one that was sent?
    pub fn peeked(&mut self, received: &Received<'_>, window: Window) {
        let Some(id) = self.known_body(received) else { return };
        // Until the other shard has said, durably, that it has a message, it is seen as well where it left; that
        // it was deleted where it came to is not known there.
        let has_left = self.moves && self.messages[&id].deleted_from != received.queue;
        if !has_left {
            self.check_existence(id, received, window);
        }
    }

    fn known_body(&mut self, received: &Received<'_>) -> Option<u64> {
        let id = read_body(received.body);
        let known = id.and_then(|id| self.messages.get(&id).map(|message| (id, message)));
        let Some((id, message)) = known else {
            self.violation(format!("a body of {} bytes was never sent", received.body.len()));
            return None;
        };
        if message.body_bytes != received.body.len() {
            self.violation(format!("message {id} has not the length with which it was sent"));
        } else if message.queue != received.queue && !self.are_kin(message.queue, received.queue) {
            self.violation(format!("message {id} came from queue {}, not from its own", received.queue));
        }
        Some(id)
    }

    pub(super) fn has_broker_id(&mut self, id: u64, broker_id: [u8; 16]) {
        let message = self.messages.get_mut(&id).expect("the caller found it");
        if *message.broker_id.get_or_insert(broker_id) != broker_id {
            self.violation(format!("message {id} has two ids: it was stored twice"));
        }
        if *self.by_broker_id.entry(broker_id).or_insert(id) != id {
            self.violation(format!("message {id} has the id of another message"));
        }
    }

    pub(super) fn check_existence(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = self.messages.get_mut(&id).expect("the caller found it");
        let sent = match message.existence {
            Existence::No => {
                return self.violation(format!(
                    "message {id} was received, but its send was refused or never arrived"
                ));
            }
            Existence::Maybe { from_ns } => {
                // It was revealed, and so it is durable (rule 1).
                message.existence = Existence::Yes { from_ns, to_ns: window.to_ns };
                u64::MAX
            }
            Existence::Yes { to_ns, .. } => to_ns,
        };
        if let Removal::Yes { to_ns } = message.removal
            && to_ns < window.from_ns
        {
            return self.violation(format!("message {id} came back after its delete was acknowledged"));
        }
        let Some(queue) = self.queues.get(&received.queue) else { return };
        let swept =
            |sweep: &Sweep| sent < sweep.from_ns && sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns);
        if queue.purges.iter().any(swept) {
            self.violation(format!("message {id} came back after its queue was purged"));
        } else if queue.deletions.iter().any(|sweep| sweep.to_ns.is_some_and(|to_ns| to_ns < window.from_ns))
        {
            self.violation(format!("message {id} came from a queue that was deleted"));
        }
    }

    pub(super) fn check_time(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let message = &self.messages[&id];
        let from_ns = message.sent_from_ns();
        let delay_min = self.queues.get(&received.queue).map_or(0, |queue| queue.delay_seconds_min);
        let delay_ns = message.delay_seconds.unwrap_or(delay_min) * SECOND;
        if self.elapsed_ns_max(from_ns, window.to_ns) < delay_ns {
            return self.violation(format!(
                "message {id} was received at {} before its delay of {delay_ns} had passed since {from_ns}",
                window.to_ns
            ));
        }
        let (Some(from_ms), Some(sent_ms)) = (self.engine_ms(window.from_ns), self.engine_ms(from_ns)) else {
            return;
        };
        if received.sent_at_ms + 1 < sent_ms
            || received.sent_at_ms > 1 + from_ms.max(self.engine_ms(window.to_ns).unwrap_or(0))
        {
            return self.violation(format!(
                "message {id} says that it was sent at {}, but it was handed over at {sent_ms}",
                received.sent_at_ms
            ));
        }
        let retention_max =
            self.queues.get(&received.queue).map_or(u64::MAX / 1000, |queue| queue.retention_seconds.1);
        if from_ms >= received.sent_at_ms + retention_max * 1000 {
            let late_ms = from_ms - received.sent_at_ms - retention_max * 1000;
            self.violation(format!("message {id} was received {late_ms} ms after it had expired"));
        }
    }

    /// Whether a message that was never delivered was passed over: those stand in the order of their
    /// sends.
    fn check_order(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let is_fifo = self.is_fifo_number(received.queue);
        let may_be_gone = self.may_be_gone(&self.messages[&id], window.to_ns);
        let message = self.messages.get_mut(&id).expect("the caller found it");
        let is_first = !std::mem::replace(&mut message.was_delivered, true) && received.receive_count == 1;
        let Existence::Yes { from_ns, to_ns } = message.existence else { return };
        let Some(queue) = self.queues.get_mut(&received.queue) else { return };
        if is_fifo {
            // Those stand in the order of their groups.
            return;
        }
        if !is_first || message.delay_seconds.unwrap_or(queue.delay_seconds_max) > 0 {
            // How long it has been visible, nobody here knows: its shard may have been the right one to ask.
            queue.receives.delivered(received.shard, 0, window);
            return;
        }
        let times = (from_ns, to_ns);
        if !self.bounds.has_one_order() {
            return self.check_starving(id, received.queue, received.shard, times, window);
        }
        let before = queue.first_deliveries.partition_point(|(left_ns, _)| *left_ns < window.from_ns);
        let latest_ns = before.checked_sub(1).map_or(0, |index| queue.first_deliveries[index].1);
        let last = queue.first_deliveries.last().copied().unwrap_or((0, 0));
        if window.to_ns >= last.0 {
            queue.first_deliveries.push((window.to_ns, last.1.max(from_ns)));
        }
        // What rots is set aside and passed over; it comes back where the rot is undone, and with it what
        // the log said of it. So does what a purge or a shorter retention took away, of which a crash left
        // nothing.
        let is_judged = queue.abandoned_receives == 0 && from_ns > queue.receive_lost_ns && !self.rot;
        if is_judged && !may_be_gone && to_ns < latest_ns {
            self.violation(format!("message {id} was passed over by one that was sent after it"));
        }
        self.check_starving(id, received.queue, received.shard, times, window);
    }

    /// Whether nobody else can have the message.
    pub(super) fn check_holds(&mut self, id: u64, received: &Received<'_>, window: Window) {
        let visibility_min = self.queues.get(&received.queue).map_or(0, |queue| queue.visibility_seconds_min);
        let hidden_ns = received.visibility_seconds.unwrap_or(visibility_min) * SECOND;
        let hold = Hold {
            kind: HoldKind::Delivery { count: received.receive_count, earliest_ns: window.earliest_ns },
            from_ns: window.from_ns.max(self.messages[&id].sent_from_ns()),
            to_ns: window.to_ns,
            hidden_ns,
            certain: true,
        };
        let elapsed = |from_ns, to_ns| self.elapsed_ns_max(from_ns, to_ns);
        let found = self.messages[&id].holds_against(&hold, elapsed);
        if let Some(found) = found {
            self.violation(format!("message {id} {found}"));
        }
        self.messages.get_mut(&id).expect("it was just read").holds.push(hold);
    }
}
