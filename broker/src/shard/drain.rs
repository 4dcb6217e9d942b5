//! Stopping in good order: no new connections, long polls return, clients are told goodbye, what
//! they are owed is sent, and the log is durable, all within a bounded time.

use tenpin_protocol::{ErrorCode, Operation};

use super::connection::Stage;
use super::driver::ConnectionId;
use super::{Core, limits};
use crate::engine::{Command, Ticket};
use crate::flaws::Flaws;

/// A stop under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// When the broker stops whatever is left, in monotonic time.
    pub(super) ends_ms: u64,
    told_driver: bool,
    told_clients: bool,
    stopped: bool,
}

impl Drain {
    /// Whether this is the first look at a drain that has just begun.
    pub(super) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.told_driver, true)
    }
}

impl<F: Flaws> Core<F> {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let ends_ms = self.monotonic_ms() + limits::DRAIN_MS_MAX;
        self.drain = Some(Drain { ends_ms, told_driver: false, told_clients: false, stopped: false });
        let nobody = ConnectionId { index: u32::MAX, generation: u32::MAX };
        let ticket = Ticket { connection: nobody, correlation: 0, operation: Operation::Goodbye };
        self.apply(ticket, Command::AnswerWaits { connection: None });
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.stopped)
    }

    /// Goes on with a stop that has begun.
    pub(super) fn drain_on(&mut self) {
        let Some(drain) = &self.drain else { return };
        let ends_ms = drain.ends_ms;
        let now_ms = self.monotonic_ms();
        let out_of_time = now_ms >= ends_ms;
        let owed = !self.held.is_empty() || !self.parked.is_empty() || self.exchange.owes_clients();
        let owed = owed || !self.counting.is_idle();
        if !drain.told_clients && (!owed || out_of_time) {
            self.say_goodbye();
        }
        let settled = self.log.committed() >= self.log.end() && self.log.is_settled();
        // Clients that take nothing are not waited for; the disk is, as long as there is hope.
        let disk_is_hopeless = now_ms >= ends_ms + limits::DRAIN_DISK_MS_MAX;
        let late = out_of_time && (self.log.is_durable() || disk_is_hopeless);
        let told_clients = self.drain.as_ref().is_some_and(|drain| drain.told_clients);
        let is_done = told_clients && !self.connections.has_clients();
        let siblings_are_done = self.exchange.are_drained(is_done);
        let Some(drain) = &mut self.drain else { return };
        drain.stopped = (is_done && siblings_are_done && settled) || late;
    }

    fn say_goodbye(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.told_clients = true;
        }
        for connection in
            self.connections.clients_mut().filter(|connection| connection.stage != Stage::Closing)
        {
            let text = "the broker is shutting down; connect again later";
            tenpin_protocol::ErrorFrame::encode(
                &mut connection.out,
                Operation::Goodbye.number(),
                0,
                ErrorCode::ShuttingDown,
                text,
            );
            connection.stage = Stage::Closing;
            Self::mark_dirty(&mut self.dirty, connection);
            self.closing.push((connection.id, false));
        }
    }
}
