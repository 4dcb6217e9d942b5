//! Bugs planted on purpose, so that the simulator and the tests can show that they would find them.
//!
//! Which of them a broker has is a type parameter of the shard, the engine and the log. [`Sound`] has
//! none, which the compiler knows, and is the only one that a broker is ever built with; the simulator
//! and the tests also build [`crate::simulator::bugs::Planted`], which has the one that its thread names.

/// Which planted bugs a broker has.
pub trait Flaws: 'static {
    /// Whether it has this one.
    fn has(flaw: Flaw) -> bool;
}

/// No planted bug: what brokers are built with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sound;

impl Flaws for Sound {
    #[inline(always)]
    fn has(_: Flaw) -> bool {
        false
    }
}

macro_rules! flaws {
    ($($(#[$about:meta])* $flaw:ident = $name:literal,)*) => {
        /// A mistake that somebody could make.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Flaw {
            $($(#[$about])* $flaw,)*
        }

        impl Flaw {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$flaw),*];

            /// The name that `tenpin-sim --bug` takes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$flaw => $name,)*
                }
            }
        }
    };
}

flaws! {
    /// Replies leave as soon as their records are in memory (breaks rule 1).
    AcknowledgeBeforeSync = "acknowledge-before-sync",
    /// A second delete is answered at once though the first is not yet on disk (breaks rule 1).
    ForgetWhatARepeatedDeleteRestsOn = "forget-what-a-repeated-delete-rests-on",
    /// Sequences begin again after a restart where the last start began (breaks rule 5).
    ReuseGenerationsAfterRestart = "reuse-generations-after-restart",
    /// Cleaning carries messages but forgets the queues (breaks rule 11).
    LoseQueuesInCleaning = "lose-queues-in-cleaning",
    /// Cleaning carries queues with their numbers but without policies and tags (breaks rule 11).
    LoseDetailsInCleaning = "lose-details-in-cleaning",
    /// Recovery links messages in the order of their places in the log (breaks rule 12).
    LinkCopiesInLogOrder = "link-copies-in-log-order",
    /// A cleaned segment is used again before its copies are durable (breaks rule 13).
    RecycleBeforeCopiesAreDurable = "recycle-before-copies-are-durable",
    /// Recovery leaves messages in flight without a timer (breaks rule 10).
    DropTimersAfterRestart = "drop-timers-after-restart",
    /// A message is expired only once its timer has run, not by its deadline (breaks rule 10).
    JudgeExpiryByTimer = "judge-expiry-by-timer",
    /// Recovery believes a last batch whose checksum does not match (breaks rule 14).
    TakeTornTailAsWhole = "take-torn-tail-as-whole",
    /// Recovery cuts the log at any damage, whatever later batches prove (breaks rule 14).
    CutDamageAsTornTail = "cut-damage-as-torn-tail",
    /// Bodies read back from disk are given out without looking at their checksum (breaks rule 15).
    ServeBodiesUnchecked = "serve-bodies-unchecked",
    /// Cleaning forgets which messages were accepted in the last minutes (breaks rule 11).
    ForgetDuplicatesInCleaning = "forget-duplicates-in-cleaning",
    /// A FIFO queue's group gives out more as soon as one of its messages in flight is gone.
    UnlockGroupsEarly = "unlock-groups-early",
    /// A message that is to go to another shard is freed before it is known to be there (breaks rule 22).
    FreeWhatMovesBeforeItArrived = "free-what-moves-before-it-arrived",
    /// A message goes to another shard before the record is durable that locks it here (breaks rule 22).
    SendMovesBeforeTheyAreDurable = "send-moves-before-they-are-durable",
    /// A shard says that it has taken a message before that is durable (breaks rule 22).
    AnswerMovesBeforeTheyAreDurable = "answer-moves-before-they-are-durable",
    /// Cleaning forgets which messages came from other shards and may come again (breaks rule 11).
    ForgetArrivalsInCleaning = "forget-arrivals-in-cleaning",
    /// A copy of a dead letter does not say how often it was received before it came to its queue
    /// (breaks rule 11).
    LoseReceivesBeforeArrivalInCleaning = "lose-receives-before-arrival-in-cleaning",
    /// Noisy groups of a standard queue go before quiet ones.
    ServeNoisyGroupsFirst = "serve-noisy-groups-first",
    /// A held delivery leaves although its visibility timeout has passed meanwhile (breaks rule 2).
    SendStaleDeliveries = "send-stale-deliveries",
    /// The same of one whose messages had to be read from the disk.
    SendStaleColdDeliveries = "send-stale-cold-deliveries",
    /// A start does not complete purges that a crash cut short (breaks rule 20).
    ForgetPurgesCutShort = "forget-purges-cut-short",
    /// Shard 0 tells of changes of the catalog that a power cut takes from it (breaks rule 20).
    TellCatalogBeforeItIsDurable = "tell-catalog-before-it-is-durable",
    /// A start gives what a deleted queue held to the queue that has its name now (breaks rule 7).
    GiveTheDeadsMessagesToTheirHeirs = "give-the-deads-messages-to-their-heirs",
    /// A shard serves what it has, whatever waits longer elsewhere (breaks rule 23).
    ServeOwnMessagesFirst = "serve-own-messages-first",
    /// A shard gives hints when it hears of hunger, and never again (breaks rule 24).
    HintOnlyTheNewlyHungry = "hint-only-the-newly-hungry",
    /// A hint takes the message that it is about (breaks rule 24).
    HintCountsAsReceive = "hint-counts-as-receive",
    /// A shard parks without looking whether something came while it announced that.
    ParkWithoutLookingAgain = "park-without-looking-again",
    /// A shard that let requests come together sleeps as if nothing were due where something fell due meanwhile
    /// (breaks rule 10).
    SleepOnWhatFellDueWhileGathering = "sleep-on-what-fell-due-while-gathering",
    /// Stops and silences are measured by a clock that jumps with the wall.
    MeasureStopsByTheWall = "measure-stops-by-the-wall",
    /// What a connection that goes has asked other shards does not make room for other requests (breaks
    /// rule 25).
    LoseCreditOfGoneConnections = "lose-credit-of-gone-connections",
    /// An answer that comes while further requests wait for room makes none (breaks rule 25).
    LoseCreditOnOverflow = "lose-credit-on-overflow",
}
