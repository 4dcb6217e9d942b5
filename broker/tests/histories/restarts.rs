//! Brokers that are stopped or killed, after which all must be as it was, also where the folder has another number of
//! shards then.

use crate::history::History;
use crate::model::QUEUES;

/// The numbers of shards that folders get.
const SHARDS: [usize; 4] = [1, 2, 3, 5];

impl History {
    /// Stops the broker, or kills it, and goes on with what it has kept, perhaps on other shards.
    pub fn restart(&mut self) {
        let is_killed = self.once_in(2);
        let shards = self.other_shards();
        self.restart_with(is_killed, shards);
    }

    /// Another number of shards, now and then.
    pub fn other_shards(&mut self) -> Option<usize> {
        let shards = SHARDS[self.below(SHARDS.len())];
        let is_wanted = self.once_in(3) && shards != self.broker().shards();
        if is_wanted && self.once_in(2) {
            // Or handles would name little any more.
            (0..QUEUES.len()).for_each(|queue| self.give_back_held(queue));
        }
        is_wanted.then_some(shards)
    }

    pub fn restart_with(&mut self, is_killed: bool, shards: Option<usize>) {
        self.tell(format!("restart, killed: {is_killed}, shards: {shards:?}"));
        self.model.note_task();
        // They would try the old port again.
        self.clients.iter().for_each(tenpin_client::Client::close);
        if is_killed {
            self.broker().kill();
        } else {
            self.broker().stop();
            self.model.stored.values_mut().for_each(|message| message.surely_received = message.received);
        }
        self.start_again(shards);
        self.note_task_goes_on();
        self.look_after(is_killed);
        self.repeat_an_attempt();
    }

    /// Starts the broker again that has ended, on so many shards.
    pub fn start_again(&mut self, shards: Option<usize>) {
        if let Some(shards) = shards {
            self.broker().reshard(shards);
            self.model.reshards.push(shards);
            self.note("a folder gets another number of shards");
        }
        self.broker().restart();
        self.connect();
        self.open();
    }

    pub fn note_task_goes_on(&mut self) {
        if self.model.task.is_some() && self.newest_task().handle.is_some() {
            self.note("a task goes on after a restart");
        }
    }
}
