//! Random histories over real sockets, of clients on all shards, against a model that is obviously right: a
//! list of messages. Standard and FIFO queues, duplicates, dead letters that stay on their shard or go to
//! another, purges, and queues that are made anew.
//!
//! Nothing depends on the clock: a message is hidden for longer than a test takes, and comes back when it is
//! told to.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use tenpin_benches::random::Random;
use tenpin_client::blocking::{Client, Queue};
use tenpin_client::{MessageId, NewMessage, QueueAttributes, ReceiptHandle, Receive};

use crate::common::{TestBroker, wait_until};

const SEEDS: u64 = 6;
const STEPS: u32 = 150;
/// Of each kind there is a queue and, behind it, the one for its dead letters.
const QUEUES: [&str; 4] = ["work", "letters", "work.fifo", "letters.fifo"];
/// A message is a dead letter once it was received so often.
const LETTERS_AFTER: u32 = 2;
const GROUPS: u64 = 3;
const HELD_FOR: Duration = Duration::from_secs(3_600);

/// A message as the model has it. Messages are known by the numbers that are their bodies, which rise.
struct Stored {
    number: u64,
    queue: usize,
    group: Option<u64>,
    received: u32,
    received_here: u32,
    held: Option<ReceiptHandle>,
    /// What was purged while it may have been on its way out of it.
    may_be_gone: bool,
}

impl Stored {
    /// Whether a receive may have moved it to the queue behind its own meanwhile.
    fn may_have_moved(&self) -> bool {
        self.held.is_none() && self.queue.is_multiple_of(2) && self.received_here >= LETTERS_AFTER
    }

    fn is_surely_in(&self, queue: usize) -> bool {
        self.queue == queue && !self.may_have_moved()
    }
}

struct History {
    seed: u64,
    /// By client and queue. Each client has a shard of its own, as far as there are as many.
    queues: Vec<Vec<Queue>>,
    clients: Vec<Client>,
    stored: BTreeMap<u64, Stored>,
    /// Messages of the FIFO queue by their deduplication ids.
    remembered: BTreeMap<u64, MessageId>,
    random: Random,
    last_number: u64,
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

impl History {
    fn new(broker: &TestBroker, seed: u64) -> Self {
        let clients: Vec<Client> =
            (0..=broker.shards()).map(|_| Client::connect(broker.address().to_string()).unwrap()).collect();
        let mut history = Self {
            seed,
            queues: clients.iter().map(|_| Vec::new()).collect(),
            clients,
            stored: BTreeMap::new(),
            remembered: BTreeMap::new(),
            random: Random::new(seed),
            last_number: 0,
        };
        [1, 3, 0, 2].into_iter().for_each(|queue| history.create(queue));
        history.open();
        history
    }

    fn name(&self, queue: usize) -> String {
        format!("{}-{}", self.seed, QUEUES[queue])
    }

    fn create(&mut self, queue: usize) {
        let mut attributes = QueueAttributes::new();
        if queue.is_multiple_of(2) {
            attributes = attributes.dead_letters(&arn(&self.name(queue + 1)), LETTERS_AFTER);
        }
        let client = self.random.below(self.clients.len() as u64) as usize;
        self.clients[client].create_queue_with(self.name(queue), &attributes).unwrap();
    }

    fn open(&mut self) {
        let names: Vec<String> = (0..QUEUES.len()).map(|queue| self.name(queue)).collect();
        let open = |client: &Client| names.iter().map(|name| client.queue(name.as_str()).unwrap()).collect();
        self.queues = self.clients.iter().map(open).collect();
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// The queue, as one of the clients sees it.
    fn queue(&mut self, queue: usize) -> Queue {
        let client = self.below(self.queues.len());
        self.queues[client][queue].clone()
    }

    fn step(&mut self) {
        match self.below(20) {
            0..=3 => self.send(),
            4..=7 => self.send_fifo(),
            8..=13 => {
                let (queue, most) = (self.below(QUEUES.len()), 1 + self.below(10));
                self.receive(queue, most);
            }
            14..=15 => self.delete(),
            16..=18 => self.give_back(),
            _ => match self.below(6) {
                0 => self.make_anew(),
                1 | 2 => self.purge(),
                _ => self.send(),
            },
        }
    }

    fn store(&mut self, number: u64, queue: usize, group: Option<u64>) {
        let (received, received_here, held, may_be_gone) = (0, 0, None, false);
        let message = Stored { number, queue, group, received, received_here, held, may_be_gone };
        self.stored.insert(number, message);
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn send(&mut self) {
        let numbers: Vec<u64> = (0..=self.below(5)).map(|_| self.next_number()).collect();
        let messages: Vec<_> = numbers.iter().map(|number| NewMessage::new(number.to_string())).collect();
        assert!(self.queue(0).send_batch(&messages).unwrap().iter().all(Result::is_ok));
        numbers.into_iter().for_each(|number| self.store(number, 0, None));
    }

    fn send_fifo(&mut self) {
        let said: Vec<(u64, u64, u64)> = (0..=self.below(5))
            .map(|_| (self.next_number(), self.random.below(GROUPS), self.random.below(200)))
            .collect();
        let message = |&(number, group, id): &(u64, u64, u64)| {
            NewMessage::new(number.to_string()).group(group.to_string()).deduplication_id(id.to_string())
        };
        let messages: Vec<_> = said.iter().map(message).collect();
        let sent = self.queue(2).send_batch(&messages).unwrap();
        for ((number, group, id), sent) in said.into_iter().zip(sent) {
            let sent = sent.unwrap().id;
            match self.remembered.get(&id) {
                Some(first) => assert_eq!(sent, *first, "{number} is a duplicate"),
                None => {
                    self.remembered.insert(id, sent);
                    self.store(number, 2, Some(group));
                }
            }
        }
    }

    /// Receives without waiting; gives how many came.
    fn receive(&mut self, queue: usize, most: usize) -> usize {
        let must_give = self.must_give(queue);
        let asked = Receive::up_to(most as u8).wait(Duration::ZERO).visibility_timeout(HELD_FOR);
        let messages = self.queue(queue).receive_with(&asked).unwrap();
        assert!(!messages.is_empty() || !must_give, "nothing came of {}", QUEUES[queue]);
        let mut taken = Vec::new();
        for message in &messages {
            let number: u64 = message.text().unwrap().parse().unwrap();
            self.check_order(queue, number, &taken);
            taken.push(number);
            let stored = self.stored.get_mut(&number).unwrap_or_else(|| panic!("{number} was gone"));
            assert!(stored.held.is_none(), "{number} is in flight");
            if stored.may_have_moved() {
                assert_eq!(queue, stored.queue + 1, "{number} was received often enough");
                (stored.queue, stored.received_here, stored.may_be_gone) = (queue, 0, false);
            }
            assert_eq!(queue, stored.queue, "{number} is in another queue");
            stored.received += 1;
            stored.received_here += 1;
            assert_eq!(message.receive_count(), stored.received, "of {number}");
            assert_eq!(message.group(), stored.group.map(|group| group.to_string()).as_deref());
            let source = (queue % 2 == 1).then(|| arn(&format!("{}-{}", self.seed, QUEUES[queue - 1])));
            assert_eq!(message.dead_letter_source(), source.as_deref());
            stored.held = Some(message.handle());
        }
        messages.len()
    }

    /// Whether a receive that does not wait must give something, on whatever shard that is.
    fn must_give(&self, queue: usize) -> bool {
        let is_free = |message: &&Stored| message.is_surely_in(queue) && message.held.is_none();
        let blocks = |group: Option<u64>| {
            // In flight, or on the way out, which may take a while.
            self.stored.values().any(|other| {
                other.queue == queue
                    && other.group == group
                    && (other.held.is_some() || other.may_have_moved())
            })
        };
        let mut free = self.stored.values().filter(is_free);
        free.any(|message| message.group.is_none() || !blocks(message.group))
    }

    /// Nothing of a group overtakes, and what is in flight blocks it.
    fn check_order(&self, queue: usize, number: u64, taken: &[u64]) {
        let Some(group) = self.stored.get(&number).and_then(|stored| stored.group) else { return };
        let of_group =
            self.stored.values().filter(|other| other.group == Some(group) && other.is_surely_in(queue));
        for other in of_group.filter(|other| other.number != number && !taken.contains(&other.number)) {
            assert!(other.held.is_none(), "{number} came while {} was in flight", other.number);
            assert!(other.number > number, "{number} came before {}", other.number);
        }
    }

    /// Some of the messages in flight, with their handles, all of one queue.
    fn some_held(&mut self) -> (usize, Vec<(u64, ReceiptHandle)>) {
        let queue = self.below(QUEUES.len());
        let most = 1 + self.below(10);
        let held = self.stored.values().filter(|stored| stored.queue == queue);
        let mut held: Vec<_> =
            held.filter_map(|stored| Some((stored.number, stored.held.clone()?))).collect();
        while held.len() > most {
            let place = self.below(held.len());
            held.swap_remove(place);
        }
        (queue, held)
    }

    fn delete(&mut self) {
        let (queue, held) = self.some_held();
        if held.is_empty() {
            return;
        }
        let handles: Vec<_> = held.iter().map(|(_, handle)| handle.clone()).collect();
        let queue = self.queue(queue);
        assert!(queue.delete_batch(&handles).unwrap().iter().all(Result::is_ok));
        held.iter().for_each(|(number, _)| drop(self.stored.remove(number)));
    }

    fn give_back(&mut self) {
        let (queue, held) = self.some_held();
        for (number, handle) in held {
            self.queue(queue).change_visibility(&handle, Duration::ZERO).unwrap();
            self.stored.get_mut(&number).expect("it is held").held = None;
        }
    }

    fn purge(&mut self) {
        let queue = self.below(QUEUES.len());
        self.queue(queue).purge().unwrap();
        self.forget(queue);
    }

    fn make_anew(&mut self) {
        let queue = 2 * self.below(2);
        self.queue(queue).delete_queue().unwrap();
        self.forget(queue);
        self.create(queue);
        self.open();
    }

    /// All messages of a queue are gone, and so is what it remembered.
    fn forget(&mut self, queue: usize) {
        self.stored.retain(|_, message| !message.is_surely_in(queue));
        for message in self.stored.values_mut().filter(|message| message.may_have_moved()) {
            message.may_be_gone |= message.queue == queue || message.queue + 1 == queue;
        }
        if queue == 2 {
            self.remembered.clear();
        }
    }

    /// Takes everything out; what must be there is, and nothing else.
    fn drain(&mut self) {
        for queue in 0..QUEUES.len() {
            wait_until("all is taken out", || {
                while self.receive(queue, 10) > 0 {}
                let held = self.stored.values().filter(|stored| stored.queue == queue);
                let held: Vec<_> =
                    held.filter_map(|stored| Some((stored.number, stored.held.clone()?))).collect();
                for (number, handle) in held {
                    self.queue(queue).delete_batch(&[handle]).unwrap().remove(0).unwrap();
                    self.stored.remove(&number);
                }
                let stats = self.queue(queue).stats().unwrap();
                stats.visible() + stats.in_flight() + stats.delayed() == 0
            });
        }
        let left: Vec<u64> =
            self.stored.values().filter(|stored| !stored.may_be_gone).map(|stored| stored.number).collect();
        assert!(left.is_empty(), "{left:?} are lost");
    }
}

fn run(io: &str, shards: u16) {
    let config = format!("minute_rules = false\nshards = {shards}\n");
    let Some(mut broker) = TestBroker::try_start(io, "memory", &config) else { return };
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        let mut history = History::new(&broker, seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.drain();
    }
    broker.stop();
}

#[test]
fn histories_on_one_shard_agree_with_the_model() {
    run("epoll", 1);
}

#[test]
fn histories_on_two_shards_agree_with_the_model() {
    run("uring", 2);
}

#[test]
fn histories_on_five_shards_agree_with_the_model() {
    run("epoll", 5);
}
