//! What a broker still has of a load's messages when all of them were deleted.
//!
//! What is received stays hidden for longer than a run lasts, so that a broker that acknowledges deletes and does not
//! carry them out would never show it again: it is asked how many messages it has.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::LoadOptions;
use crate::client::{Client, Counts};

/// For so long a broker may still count what was on its way from one queue or shard to another.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Messages on the load's queues that were there before it and are not seen by it.
pub(super) struct Remains {
    hidden_before: Vec<u64>,
}

impl Remains {
    /// Looks at the queues before anything is sent to them: another run may have left messages that stay hidden.
    pub(super) fn before(options: &LoadOptions, client: &mut Client) -> io::Result<Self> {
        let hidden = |counts: &Counts| counts.in_flight + counts.delayed;
        Ok(Remains { hidden_before: counts(options, client)?.iter().map(hidden).collect() })
    }

    /// Messages that are left beside so many that may be.
    pub(super) fn left(&self, options: &LoadOptions, address: SocketAddr, allowed: u64) -> io::Result<u64> {
        let mut client = Client::connect(address)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = counts(options, &mut client)?;
            let each = now.iter().zip(&self.hidden_before);
            let left: u64 = each.map(|(now, before)| now.all().saturating_sub(*before)).sum();
            if left <= allowed || Instant::now() >= deadline {
                return Ok(left.saturating_sub(allowed));
            }
            std::thread::sleep(ASK_EVERY);
        }
    }
}

/// Of each of the load's queues, the one of dead letters last.
fn counts(options: &LoadOptions, client: &mut Client) -> io::Result<Vec<Counts>> {
    let dead_letters = (options.fates.doomed > 0).then(|| options.dead_letter_queue());
    let names = (0..options.queues).map(|queue| options.queue_name(queue)).chain(dead_letters);
    names
        .map(|name| {
            let queue = client.open(&name)?;
            Ok(client.counts(queue)?)
        })
        .collect()
}
