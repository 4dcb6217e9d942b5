//! A history: a broker, clients of it, the model, and what is done next.

use std::collections::BTreeMap;
use std::time::Instant;

use tenpin_benches::random::Random;
use tenpin_client::{Client, Queue};
use tokio::runtime::Runtime;

use crate::common::{PATIENCE, TestBroker};
use crate::model::{FIFO_FROM, Model, QUEUES};

/// What was done last is printed where a test fails: so much of it.
const TOLD_MAX: usize = 400;

/// What has to happen in a run now and then, or the test is of no use.
pub const HAPPENS: [&str; 25] = [
    "a duplicate",
    "a send is refused",
    "an old handle deletes",
    "a foreign handle is refused",
    "an expired handle is refused",
    "a change of visibility is refused",
    "a repeated attempt",
    "over the limit",
    "a dead letter",
    "a dead letter stays, as its target does not allow it",
    "a task moves a message",
    "a task completes",
    "a task fails",
    "a task is cancelled",
    "a task goes on after a restart",
    "a message is delayed",
    "a message is received while its group is in flight on a standard queue",
    "a wait is served",
    "a folder gets another number of shards",
    "a handle from before a change of the shards works",
    "a handle from before a change of the shards is refused",
    "a message is stored whose send was not answered",
    "a message is gone whose deletion was not answered",
    "a message is hidden anew or visible without an answer",
    "messages are received without an answer",
];

/// What happens in some runs only; it is counted as well.
const SELDOM: [&str; 3] = [
    "an attempt is repeated after a change of the shards",
    "an attempt that was not answered is repeated",
    "a task runs whose start was not answered",
];

/// What has to happen where messages are waited for to expire.
pub const EXPIRES: [&str; 2] =
    ["a message that was received expires", "a message that nobody had received expires"];

pub struct History {
    pub seed: u64,
    pub model: Model,
    pub broker: Option<TestBroker>,
    /// When its step under way began.
    pub began: Instant,
    /// How many shards the broker had when it began.
    pub shards: usize,
    pub clients: Vec<Client>,
    /// By client and queue. There is one client more than shards, so that each shard has one.
    queues: Vec<Vec<Queue>>,
    pub runtime: Runtime,
    pub random: Random,
    /// Tasks of both kinds of letters that have ended, newest first, as they were listed.
    pub ended: [Vec<tenpin_client::MoveTask>; 2],
    told: Vec<String>,
    /// How often each of what has to happen did.
    pub happened: BTreeMap<&'static str, u64>,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}; what was done last:", self.seed);
            self.told.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

impl History {
    pub fn new(broker: TestBroker, seed: u64) -> Self {
        let mut history = Self {
            seed,
            model: Model::new(),
            shards: broker.shards(),
            broker: Some(broker),
            began: Instant::now(),
            clients: Vec::new(),
            queues: Vec::new(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            random: Random::new(seed),
            ended: [Vec::new(), Vec::new()],
            told: Vec::new(),
            happened: BTreeMap::new(),
        };
        history.connect();
        [2, 5, 0, 1, 3, 4].into_iter().for_each(|queue| history.create(queue));
        history.open();
        history
    }

    pub fn tell(&mut self, what: String) {
        if self.told.len() == TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(what);
    }

    pub fn note(&mut self, what: &'static str) {
        let mut listed = HAPPENS.iter().chain(&SELDOM).chain(&EXPIRES);
        assert!(listed.any(|listed| *listed == what), "{what} is not listed");
        *self.happened.entry(what).or_default() += 1;
    }

    pub fn broker(&mut self) -> &mut TestBroker {
        self.broker.as_mut().expect("it runs as long as the history")
    }

    pub fn connect(&mut self) {
        let (address, shards) = (self.broker().address().to_string(), self.broker().shards());
        let connect = || {
            // What is not answered is not to be asked again.
            let builder = Client::builder(address.clone()).retries(false);
            let builder = builder.connect_timeout(PATIENCE).request_timeout(PATIENCE);
            self.runtime.block_on(builder.connect()).unwrap()
        };
        let clients = (0..=shards).map(|_| connect()).collect();
        self.clients = clients;
    }

    pub fn name(&self, queue: usize) -> String {
        format!("{}-{}", self.seed, QUEUES[queue])
    }

    pub fn arn(&self, queue: usize) -> String {
        format!("arn:aws:sqs:us-east-1:000000000000:{}", self.name(queue))
    }

    pub fn open(&mut self) {
        let names: Vec<String> = (0..QUEUES.len()).map(|queue| self.name(queue)).collect();
        let open = |client: &Client| {
            names.iter().map(|name| self.runtime.block_on(client.queue(name.as_str())).unwrap()).collect()
        };
        self.queues = self.clients.iter().map(open).collect();
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    pub fn once_in(&mut self, times: u64) -> bool {
        self.random.once_in(times)
    }

    pub fn any_client(&mut self) -> Client {
        let client = self.below(self.clients.len());
        self.clients[client].clone()
    }

    /// The queue, as one of the clients sees it.
    pub fn queue(&mut self, queue: usize) -> Queue {
        let client = self.below(self.clients.len());
        self.queues[client][queue].clone()
    }

    /// The same as it is now: an open queue remembers for a while whether it is deduplicated by content.
    pub fn queue_opened_anew(&mut self, queue: usize) -> Queue {
        let (client, name) = (self.any_client(), self.name(queue));
        self.runtime.block_on(client.queue(name)).unwrap()
    }

    /// One of the queues, those where most happens more often.
    pub fn some_queue(&mut self) -> usize {
        [0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 5][self.below(12)]
    }

    /// Whether a task moves messages between queues of this kind, so that these stay what they are.
    pub fn is_busy(&self, queue: usize) -> bool {
        self.model.task.as_ref().is_some_and(|task| task.letters / FIFO_FROM == queue / FIFO_FROM)
    }

    pub fn step(&mut self) {
        self.began = Instant::now();
        self.note_time();
        match self.below(100) {
            0..9 => self.send(),
            9..21 => self.send_fifo(),
            21..49 => self.receive(),
            49..51 => self.fill_up(),
            51..57 => self.delete(),
            57..75 => self.hide(),
            75..78 => self.wait_for_one(),
            78..85 => self.change_a_queue(),
            85..87 => self.purge_or_make_anew(),
            87..90 => drop(self.look()),
            90..92 => {
                let queue = self.below(QUEUES.len());
                self.look_at(queue);
            }
            92..97 => self.start_a_task(),
            97 => self.refused_tasks(),
            _ if self.once_in(3) => self.restart(),
            _ => self.kill_while_asked(),
        }
        self.go_on_with_the_task();
    }

    /// Asks until nothing is wrong with the answer.
    pub fn until_right<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ask(self) {
                Ok(answer) => return answer,
                Err(wrong) => assert!(Instant::now() < deadline, "{wrong}, and that stays so"),
            }
        }
    }
}
