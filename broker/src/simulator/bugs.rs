//! The planted bugs, each a type, and how to run one by its name.

use crate::flaws::{Flaws, Sound};

/// Does something with a choice of flaws that is only known when the program runs.
pub trait FlawVisitor {
    /// What comes out.
    type Output;

    /// Does it.
    fn visit<F: Flaws>(self) -> Self::Output;
}

macro_rules! bugs {
    ($($(#[$about:meta])* $type:ident = $name:literal: $flaw:ident;)*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, Default)]
            pub struct $type;

            impl Flaws for $type {
                const NAME: &'static str = $name;
                const $flaw: bool = true;
            }
        )*

        /// The names of all planted bugs.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Does something with the bug of this name, or with none for `"none"`. `None`: no bug has
        /// this name.
        ///
        /// Generic, so that only the programs that call it are built with bugs.
        pub fn with_bug<V: FlawVisitor>(name: &str, visitor: V) -> Option<V::Output> {
            match name {
                $(<$type as Flaws>::NAME => Some(visitor.visit::<$type>()),)*
                <Sound as Flaws>::NAME => Some(visitor.visit::<Sound>()),
                _ => None,
            }
        }
    };
}

bugs! {
    /// Replies leave before their records are durable.
    AcknowledgeBeforeSync = "acknowledge-before-sync": ACKNOWLEDGE_BEFORE_SYNC;
    /// A repeated delete is answered before the first is durable.
    ForgetWhatARepeatedDeleteRestsOn = "forget-what-a-repeated-delete-rests-on": FORGET_WHAT_A_REPEATED_DELETE_RESTS_ON;
    /// Sequences are used again after a restart.
    ReuseGenerationsAfterRestart = "reuse-generations-after-restart": REUSE_GENERATIONS_AFTER_RESTART;
    /// Cleaning forgets queues.
    LoseQueuesInCleaning = "lose-queues-in-cleaning": LOSE_QUEUES_IN_CLEANING;
    /// Cleaning forgets policies and tags.
    LoseDetailsInCleaning = "lose-details-in-cleaning": LOSE_DETAILS_IN_CLEANING;
    /// Recovery takes the log's order for the messages' order.
    LinkCopiesInLogOrder = "link-copies-in-log-order": LINK_COPIES_IN_LOG_ORDER;
    /// A segment is used again too early.
    RecycleBeforeCopiesAreDurable = "recycle-before-copies-are-durable": RECYCLE_BEFORE_COPIES_ARE_DURABLE;
    /// Messages in flight have no timer after a restart.
    DropTimersAfterRestart = "drop-timers-after-restart": DROP_TIMERS_AFTER_RESTART;
    /// Expired messages are delivered until their timer runs.
    JudgeExpiryByTimer = "judge-expiry-by-timer": JUDGE_EXPIRY_BY_TIMER;
    /// A torn batch is replayed.
    TakeTornTailAsWhole = "take-torn-tail-as-whole": TAKE_TORN_TAIL_AS_WHOLE;
    /// Damage is cut off.
    CutDamageAsTornTail = "cut-damage-as-torn-tail": CUT_DAMAGE_AS_TORN_TAIL;
    /// Cold bodies are not checked.
    ServeBodiesUnchecked = "serve-bodies-unchecked": SERVE_BODIES_UNCHECKED;
    /// A purge that a crash cut short is never completed on all shards.
    ForgetPurgesCutShort = "forget-purges-cut-short": FORGET_PURGES_CUT_SHORT;
    /// A hungry shard is told of messages once.
    HintOnlyTheNewlyHungry = "hint-only-the-newly-hungry": HINT_ONLY_THE_NEWLY_HUNGRY;
    /// A hint takes the message.
    HintCountsAsReceive = "hint-counts-as-receive": HINT_COUNTS_AS_RECEIVE;
    /// Credit is lost with connections.
    LoseCreditOfGoneConnections = "lose-credit-of-gone-connections": LOSE_CREDIT_OF_GONE_CONNECTIONS;
    /// A shard falls asleep over what has just come.
    ParkWithoutLookingAgain = "park-without-looking-again": PARK_WITHOUT_LOOKING_AGAIN;
    /// Cleaning forgets what FIFO queues accepted lately.
    ForgetDuplicatesInCleaning = "forget-duplicates-in-cleaning": FORGET_DUPLICATES_IN_CLEANING;
    /// A group gives out more while one of its messages is in flight.
    UnlockGroupsEarly = "unlock-groups-early": UNLOCK_GROUPS_EARLY;
    /// Deliveries leave after their visibility timeout.
    SendStaleDeliveries = "send-stale-deliveries": SEND_STALE_DELIVERIES;
}
