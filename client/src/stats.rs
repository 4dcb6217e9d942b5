//! Counters that the broker gives out.

use std::collections::BTreeMap;

use tenpin_protocol::{Operation, OwnedFrame, Response, StatisticCode, StatsReply};

use crate::client::response;
use crate::connection::unexpected;
use crate::error::Result;

/// Counters of a queue or of a broker.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
/// # example::run(async |client, queue| {
/// queue.send("a first order").await?;
/// let stats = queue.stats().await?;
/// assert_eq!((stats.visible(), stats.in_flight(), stats.delayed()), (1, 0, 0));
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    counters: BTreeMap<StatisticCode, u64>,
}

impl Stats {
    pub(crate) fn of_answer(frame: &OwnedFrame) -> Result<Self> {
        match response(frame)? {
            Response::Stats(reply) => Ok(Self::from_wire(&reply)),
            _ => Err(unexpected(Operation::Stats)),
        }
    }

    fn from_wire(reply: &StatsReply<'_>) -> Self {
        let known = reply.statistics.iter().filter_map(|statistic| {
            StatisticCode::from_number(statistic.number).map(|code| (code, statistic.value))
        });
        Self { counters: known.collect() }
    }

    /// One counter; 0 where the broker does not give it.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// use tenpin_client::StatisticCode;
    /// println!("the oldest is {} ms old", queue.stats().await?.get(StatisticCode::OldestAgeMs));
    /// # Ok(()) });
    /// ```
    pub fn get(&self, code: StatisticCode) -> u64 {
        self.counters.get(&code).copied().unwrap_or(0)
    }

    /// Messages that a receive could take now.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// assert_eq!(queue.stats().await?.visible(), 1);
    /// # Ok(()) });
    /// ```
    pub fn visible(&self) -> u64 {
        self.get(StatisticCode::Visible)
    }

    /// Messages that were received and are hidden.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// queue.send("a first order").await?;
    /// queue.receive().await?;
    /// assert_eq!(queue.stats().await?.in_flight(), 1);
    /// # Ok(()) });
    /// ```
    pub fn in_flight(&self) -> u64 {
        self.get(StatisticCode::InFlight)
    }

    /// Messages whose delay is not over.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # use std::time::Duration;
    /// # example::run(async |client, queue| {
    /// let later = tenpin_client::NewMessage::new("in a minute").delay(Duration::from_secs(60));
    /// queue.send(later).await?;
    /// assert_eq!(queue.stats().await?.delayed(), 1);
    /// # Ok(()) });
    /// ```
    pub fn delayed(&self) -> u64 {
        self.get(StatisticCode::Delayed)
    }

    /// All counters with their names, in the order of their numbers.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/example.rs")); }
    /// # example::run(async |client, queue| {
    /// for (name, value) in client.stats().await?.iter() {
    ///     println!("{name}: {value}");
    /// }
    /// # Ok(()) });
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter().map(|(code, &value)| (code.name(), value))
    }
}
