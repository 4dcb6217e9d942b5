//! What a shard counts beside what its queues do.

use tenpin_protocol::{NO_QUEUE, StatisticCode};

use super::Core;
use crate::engine::{Command, ReplyBody, Ticket};
use crate::flaws::Flaws;

impl<F: Flaws> Core<F> {
    /// Answers with the counters of a queue, or of the shard.
    pub(super) fn tell_statistics(&mut self, ticket: Ticket, queue: u64) {
        let queue = (queue != NO_QUEUE).then_some(queue);
        let command = Command::Stats { queue };
        self.engine.apply(self.clock.now_ms(), ticket, command, &mut self.log, &mut self.outputs);
        if queue.is_none() {
            let own = self.own_statistics();
            let told = self.outputs.replies.iter_mut().rev().find_map(|reply| match &mut reply.body {
                ReplyBody::Stats(told) => Some(told),
                _ => None,
            });
            if let Some(told) = told {
                *told = told.iter().copied().chain(own).collect();
            }
        }
        self.write_replies();
    }

    fn own_statistics(&self) -> [(StatisticCode, u64); 5] {
        [
            (StatisticCode::Connections, self.connections.clients() as u64),
            (StatisticCode::LogBytes, self.log.appended_bytes()),
            (StatisticCode::LogLiveBytes, self.log.live_bytes()),
            (StatisticCode::LogCopiedBytes, self.upkeep.copied_bytes),
            (StatisticCode::LogBatches, self.log.batches()),
        ]
    }
}
