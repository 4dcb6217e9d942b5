//! Counters: of a queue, and of all queues of the shard with what the shard counts beside them.
//!
//! There may be a million queues, so those of all are added up over several turns (rule 31), once for all who
//! asked before that began.

use std::collections::VecDeque;

use tenpin_protocol::{NO_QUEUE, StatisticCode};

use super::{Core, limits};
use crate::engine::{Command, Reply, ReplyBody, Sum, Ticket};
use crate::flaws::Flaws;
use crate::journal::Room;

/// Who wants to know the counters of all queues, and how far they are added up.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// The sum so far and the place to go on at.
    sum: Sum,
    from: u32,
    /// Those whom it is for, and those who came after it was begun.
    asked: Vec<Ticket>,
    asked_later: Vec<Ticket>,
    /// What was last added up, for those who are not told yet.
    counted: Box<[(StatisticCode, u64)]>,
    to_tell: VecDeque<Ticket>,
}

impl Counting {
    /// Whether nobody wants to know.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.asked_later.is_empty() && self.to_tell.is_empty()
    }
}

impl<F: Flaws> Core<F> {
    /// Answers with the counters of a queue, or, soon, of the shard.
    pub(super) fn tell_statistics(&mut self, ticket: Ticket, queue: u64) {
        if queue != NO_QUEUE {
            return self.apply(ticket, Command::Stats { queue });
        }
        self.owes_later(ticket);
        self.counting.asked_later.push(ticket);
    }

    /// Adds up some more, and tells some who wait for it.
    pub(super) fn count_on(&mut self) {
        let Self { counting, engine, .. } = self;
        if counting.to_tell.is_empty() {
            if counting.asked.is_empty() {
                counting.asked = std::mem::take(&mut counting.asked_later);
                (counting.sum, counting.from) = (Sum::default(), 0);
            }
            if counting.asked.is_empty() {
                return;
            }
            if let Some(from) = engine.add_up_queues(&mut counting.sum, counting.from, limits::QUEUES_A_TURN)
            {
                counting.from = from;
                return;
            }
            counting.to_tell = std::mem::take(&mut counting.asked).into();
            let counted = self.counting.sum.values().into_iter().chain(self.own_statistics()).collect();
            self.counting.counted = counted;
        }
        for _ in 0..limits::COUNTS_TOLD_A_TURN {
            let Some(ticket) = self.counting.to_tell.pop_front() else { break };
            self.owed_comes(ticket);
            self.outputs.replies.push(Reply {
                ticket,
                depends_on: self.log.end(),
                stale_after_ms: u64::MAX,
                ends_wait: false,
                body: ReplyBody::Stats(self.counting.counted.clone()),
            });
        }
        self.write_replies();
    }

    fn own_statistics(&self) -> [(StatisticCode, u64); 8] {
        [
            (StatisticCode::Queues, self.engine.queue_count() as u64),
            (StatisticCode::Connections, self.connections.clients() as u64),
            (StatisticCode::LogBytes, self.log.appended_bytes()),
            (StatisticCode::LogLiveBytes, self.log.live_bytes()),
            (StatisticCode::LogCopiedBytes, self.upkeep.copied_bytes),
            (StatisticCode::LogBatches, self.log.batches()),
            (StatisticCode::LogFull, u64::from(self.log.room() != Room::All)),
            (StatisticCode::RetentionHeldBack, u64::from(self.clock.retention_lag_ms() > 0)),
        ]
    }
}
