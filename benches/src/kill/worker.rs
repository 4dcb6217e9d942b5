//! One connection's worth of load for the kill run: sends, receives, hides and deletes in a random
//! order, several sends at once, and tells the ledger before and after.

use std::sync::atomic::Ordering;

use tenpin_protocol::ErrorCode;

use super::{QUEUE, Shared, VISIBILITY_SECONDS};
use crate::client::{Answer, Client, ClientError, Message, Outgoing, Receive, Refusal};
use crate::payload::{BODY_BYTES_MIN, Payload};
use crate::random::Random;

/// Send requests that are under way at once, at most.
const SENDS_AT_ONCE_MAX: u64 = 4;

/// Messages in the queue beyond which workers only receive, so that the drain at the end is short.
const BACKLOG_MAX: u64 = 3_000;

pub(super) fn run(shared: &Shared, mut random: Random) {
    let mut generation = 0;
    while let Some(place) = shared.next_place(generation) {
        generation = place.generation;
        let mut worker = match Worker::connect(shared, place.address, &mut random) {
            Ok(worker) => worker,
            Err(error) => {
                report(shared, generation, error);
                continue;
            }
        };
        let error = loop {
            if shared.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = worker.step() {
                break error;
            }
        };
        report(shared, generation, error);
    }
}

/// A broken connection is what kills do; everything else is the broker's mistake.
fn report(shared: &Shared, generation: u64, error: ClientError) {
    match error {
        ClientError::Connection(error) => shared.connection_broke(generation, &error),
        other => shared.ledger().violation(format!("a worker was told: {other}")),
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    random: &'a mut Random,
    client: Client,
    queue: u64,
}

impl<'a> Worker<'a> {
    fn connect(
        shared: &'a Shared,
        address: std::net::SocketAddr,
        random: &'a mut Random,
    ) -> Result<Self, ClientError> {
        let mut client = Client::connect(address)?;
        let queue = client.open(QUEUE)?;
        Ok(Worker { shared, random, client, queue })
    }

    fn step(&mut self) -> Result<(), ClientError> {
        let totals = self.shared.ledger().totals();
        let backlog = totals.acknowledged.saturating_sub(totals.deleted);
        if backlog < BACKLOG_MAX && self.random.once_in(2) { self.send() } else { self.receive() }
    }

    fn send(&mut self) -> Result<(), ClientError> {
        let mut under_way = Vec::new();
        for _ in 0..=self.random.below(SENDS_AT_ONCE_MAX) {
            let numbers: Vec<u64> =
                (0..=self.random.below(10)).map(|_| self.shared.ledger().attempt_send()).collect();
            let bodies: Vec<Vec<u8>> = numbers.iter().map(|number| self.body(*number)).collect();
            let delay_seconds = self.random.once_in(16).then_some(1);
            let messages: Vec<Outgoing<'_>> =
                bodies.iter().map(|body| Outgoing { body, delay_seconds }).collect();
            under_way.push((self.client.submit_send(self.queue, &messages)?, numbers));
        }
        while !under_way.is_empty() {
            let (correlation, answer) = self.client.next_answer()?;
            let Some(place) = under_way.iter().position(|(expected, _)| *expected == correlation) else {
                return Err(ClientError::Protocol(format!(
                    "an answer to request {correlation}, which is not under way"
                )));
            };
            let (_, numbers) = under_way.swap_remove(place);
            self.shared.note_answer();
            let outcomes = match answer {
                Answer::Sent(outcomes) => outcomes,
                Answer::Refused(refusal) if is_full(&refusal) => {
                    numbers.iter().for_each(|number| self.shared.ledger().answer_send(*number, false));
                    continue;
                }
                other => return Err(unexpected(&other)),
            };
            check_count(outcomes.len(), numbers.len())?;
            for (number, outcome) in numbers.iter().zip(outcomes) {
                let mut ledger = self.shared.ledger();
                ledger.answer_send(*number, outcome.is_ok());
                if let Err(refusal) = outcome
                    && !is_full(&refusal)
                {
                    ledger.violation(format!("a send was refused: {refusal}"));
                }
            }
        }
        Ok(())
    }

    fn body(&mut self, number: u64) -> Vec<u8> {
        let room = (self.shared.body_bytes_max - BODY_BYTES_MIN + 1) as u64;
        let mut body = vec![0; BODY_BYTES_MIN + self.random.below(room) as usize];
        Payload { origin: self.shared.origin, number }.write(&mut body);
        body
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        let begun = self.shared.ledger().begin_receive();
        let receive = Receive { messages_max: 10, wait_ms: 50, visibility_seconds: Some(VISIBILITY_SECONDS) };
        let messages = match self.client.receive(self.queue, receive) {
            Err(ClientError::Refused(refusal)) if is_full(&refusal) => Vec::new(),
            received => received?,
        };
        self.shared.note_answer();
        let mut taken: Vec<(u64, Message)> = Vec::new();
        for message in messages {
            if let Some(number) = self.shared.check(&message.body, begun) {
                taken.push((number, message));
            }
        }
        match self.random.below(16) {
            // Forgotten, as by a consumer that died.
            0 => Ok(()),
            1 => self.put_back(&taken),
            2 => {
                self.delete(&taken)?;
                self.delete(&taken)
            }
            _ => self.delete(&taken),
        }
    }

    fn put_back(&mut self, taken: &[(u64, Message)]) -> Result<(), ClientError> {
        if taken.is_empty() {
            return Ok(());
        }
        let changes: Vec<(Vec<u8>, u32)> =
            taken.iter().map(|(_, message)| (message.handle.clone(), 0)).collect();
        // A timeout that ran out meanwhile makes this one fail, which is no broken promise.
        self.client.change_visibility(self.queue, &changes)?;
        self.shared.note_answer();
        Ok(())
    }

    fn delete(&mut self, taken: &[(u64, Message)]) -> Result<(), ClientError> {
        if taken.is_empty() {
            return Ok(());
        }
        taken.iter().for_each(|(number, _)| self.shared.ledger().attempt_delete(*number));
        let handles: Vec<Vec<u8>> = taken.iter().map(|(_, message)| message.handle.clone()).collect();
        let outcomes: Vec<Result<(), Refusal>> = self.client.delete(self.queue, &handles)?;
        self.shared.note_answer();
        check_count(outcomes.len(), taken.len())?;
        for ((number, _), outcome) in taken.iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.shared.ledger().acknowledge_delete(*number),
                Err(refusal) => self.shared.ledger().violation(format!("a delete was refused: {refusal}")),
            }
        }
        Ok(())
    }
}

/// What an answer says nothing about would pass for done or for never asked.
fn check_count(answered: usize, asked: usize) -> Result<(), ClientError> {
    if answered == asked {
        return Ok(());
    }
    Err(ClientError::Protocol(format!("{answered} results for {asked} entries")))
}

/// Whether a log has no room now, which breaks no promise: each start begins a segment, and after several in a row
/// a small log has to be cleaned first. That it gets room again, the drain at the end shows.
fn is_full(refusal: &Refusal) -> bool {
    refusal.code == Some(ErrorCode::StorageFull)
}

fn unexpected(answer: &Answer) -> ClientError {
    match answer {
        Answer::Refused(refusal) => ClientError::Refused(refusal.clone()),
        other => ClientError::Protocol(format!("an answer of the wrong kind: {other:?}")),
    }
}
