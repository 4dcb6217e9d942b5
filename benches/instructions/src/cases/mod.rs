//! What is counted.

mod codec;
mod engine;
mod journal;
mod rings;
mod timers;

use tenpin_instructions::count::Case;

/// Messages of a batch.
const BATCH: usize = 10;
/// Their bodies.
const BODY: [u8; 64] = [b'x'; 64];

/// In the order in which they are told.
pub const CASES: &[Case] = &[
    of_batches("codec: a send is read", 2_000, codec::read_sends),
    of_batches("codec: a send is answered", 2_000, codec::answer_sends),
    of_batches("codec: a receive is answered", 2_000, codec::answer_receives),
    of_batches("codec: a delete is read", 2_000, codec::read_deletes),
    of_batches("engine: send", 500, engine::send),
    of_batches("engine: send, receive", 500, engine::send_and_receive),
    of_batches("engine: send, receive, delete", 500, engine::live),
    of_batches("engine: the same behind 1,000 messages", 500, engine::live_behind_others),
    of_batches("engine: send, receive, delete, FIFO", 300, engine::live_in_groups),
    of_batches("engine: send, receive, come back", 500, engine::come_back),
    each("wheel: a timer starts and is stopped", "a timer", 20_000, timers::stopped),
    each("wheel: a timer starts and is due", "a timer", 20_000, timers::due),
    each("rings: an item goes through a ring", "an item", 20_000, rings::through_a_ring),
    each("rings: an item goes to a peer", "an item", 20_000, rings::to_a_peer),
    each("journal: a record is appended", "a record", 20_000, journal::append),
    each("journal: ten records are sealed as a write", "a write", 1_000, journal::seal),
];

/// Operations are batches, and the count is for a message.
const fn of_batches(name: &'static str, operations: u64, run: fn(u64)) -> Case {
    Case { name, unit: "a message", operations, units_an_operation: BATCH as f64, run }
}

const fn each(name: &'static str, unit: &'static str, operations: u64, run: fn(u64)) -> Case {
    Case { name, unit, operations, units_an_operation: 1.0, run }
}
