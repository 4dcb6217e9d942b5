//! Bugs planted on purpose, so that the simulator can show that it would find them.
//!
//! Each is a constant of a trait that the shard, the engine and the log take as a type parameter.
//! [`Sound`] has none of them, and is the only implementation that a broker is ever built with; the
//! simulator's binary builds one more for each bug.

/// Which planted bugs a broker has. Every constant is a mistake that somebody could make.
pub trait Flaws: 'static {
    /// The name that `tenpin-sim --bug` takes.
    const NAME: &'static str;
    /// Replies leave as soon as their records are in memory (breaks rule 1).
    const ACKNOWLEDGE_BEFORE_SYNC: bool = false;
    /// A second delete is answered at once though the first is not yet on disk (breaks rule 1).
    const FORGET_WHAT_A_REPEATED_DELETE_RESTS_ON: bool = false;
    /// Sequences begin again after a restart where the last start began (breaks rule 5).
    const REUSE_GENERATIONS_AFTER_RESTART: bool = false;
    /// Cleaning carries messages but forgets the queues (breaks rule 11).
    const LOSE_QUEUES_IN_CLEANING: bool = false;
    /// Cleaning carries queues with their numbers but without policies and tags (breaks rule 11).
    const LOSE_DETAILS_IN_CLEANING: bool = false;
    /// Recovery links messages in the order of their places in the log (breaks rule 12).
    const LINK_COPIES_IN_LOG_ORDER: bool = false;
    /// A cleaned segment is used again before its copies are durable (breaks rule 13).
    const RECYCLE_BEFORE_COPIES_ARE_DURABLE: bool = false;
    /// Recovery leaves messages in flight without a timer (breaks rule 10).
    const DROP_TIMERS_AFTER_RESTART: bool = false;
    /// A message is expired only once its timer has run, not by its deadline (breaks rule 10).
    const JUDGE_EXPIRY_BY_TIMER: bool = false;
    /// Recovery believes a last batch whose checksum does not match (breaks rule 14).
    const TAKE_TORN_TAIL_AS_WHOLE: bool = false;
    /// Recovery cuts the log at any damage, whatever later batches prove (breaks rule 14).
    const CUT_DAMAGE_AS_TORN_TAIL: bool = false;
    /// Bodies read back from disk are given out without looking at their checksum (breaks rule 15).
    const SERVE_BODIES_UNCHECKED: bool = false;
    /// Cleaning forgets which messages were accepted in the last minutes (breaks rule 11).
    const FORGET_DUPLICATES_IN_CLEANING: bool = false;
    /// A FIFO queue's group gives out more as soon as one of its messages in flight is gone.
    const UNLOCK_GROUPS_EARLY: bool = false;
    /// A message that is to go to another shard is freed before it is known to be there (breaks rule 22).
    const FREE_WHAT_MOVES_BEFORE_IT_ARRIVED: bool = false;
    /// Cleaning forgets which messages came from other shards and may come again (breaks rule 11).
    const FORGET_ARRIVALS_IN_CLEANING: bool = false;
    /// A copy of a dead letter does not say how often it was received before it came to its queue
    /// (breaks rule 11).
    const LOSE_RECEIVES_BEFORE_ARRIVAL_IN_CLEANING: bool = false;
    /// Noisy groups of a standard queue go before quiet ones.
    const SERVE_NOISY_GROUPS_FIRST: bool = false;
    /// A held delivery leaves although its visibility timeout has passed meanwhile (breaks rule 2).
    const SEND_STALE_DELIVERIES: bool = false;
    /// A start does not complete purges that a crash cut short (breaks rule 20).
    const FORGET_PURGES_CUT_SHORT: bool = false;
    /// A shard gives hints when it hears of hunger, and never again (breaks rule 24).
    const HINT_ONLY_THE_NEWLY_HUNGRY: bool = false;
    /// A hint takes the message that it is about (breaks rule 24).
    const HINT_COUNTS_AS_RECEIVE: bool = false;
    /// A shard parks without looking whether something came while it announced that.
    const PARK_WITHOUT_LOOKING_AGAIN: bool = false;
    /// An answer to a connection that is gone does not make room for another request (breaks rule 25).
    const LOSE_CREDIT_OF_GONE_CONNECTIONS: bool = false;
}

/// No planted bug: what brokers are built with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sound;

impl Flaws for Sound {
    const NAME: &'static str = "none";
}
