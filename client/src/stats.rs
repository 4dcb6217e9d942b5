//! Counters that the broker gives out.

use std::collections::BTreeMap;

use tenpin_protocol::{StatisticCode, StatsReply};

/// Counters of a queue or of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    counters: BTreeMap<StatisticCode, u64>,
}

impl Stats {
    pub(crate) fn from_wire(reply: &StatsReply<'_>) -> Self {
        let known = reply.statistics.iter().filter_map(|statistic| {
            StatisticCode::from_number(statistic.number).map(|code| (code, statistic.value))
        });
        Self { counters: known.collect() }
    }

    /// One counter; 0 where the broker does not give it.
    pub fn get(&self, code: StatisticCode) -> u64 {
        self.counters.get(&code).copied().unwrap_or(0)
    }

    /// Messages that a receive could take now.
    pub fn visible(&self) -> u64 {
        self.get(StatisticCode::Visible)
    }

    /// Messages that were received and are hidden.
    pub fn in_flight(&self) -> u64 {
        self.get(StatisticCode::InFlight)
    }

    /// Messages whose delay is not over.
    pub fn delayed(&self) -> u64 {
        self.get(StatisticCode::Delayed)
    }

    /// All counters with their names, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter().map(|(code, &value)| (code.name(), value))
    }
}
