//! Everything at once, at random.

use std::time::Duration;

use super::run::{Run, pattern, read_ready};
use super::{Client, World};
use crate::shard::driver::{ConnectionId, Driver};

/// One client of [`whatever_both_sides_do_nothing_is_mixed_up`] and what it has seen and done.
struct Party<C> {
    client: Option<C>,
    connection: ConnectionId,
    /// What the client sends, and what the driver sends, in all.
    upstream: Vec<u8>,
    downstream: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    given: usize,
    has_finished: bool,
    is_closing: bool,
}

/// Bytes of one stream of a [`Party`]: no more are sent on it.
const STREAM_BYTES: usize = 1 << 20;

impl<C: Client> Party<C> {
    fn act<W: World<Client = C>>(&mut self, run: &mut Run<W>, action: u32, length: usize) {
        match (action, &mut self.client) {
            (0..=3, Some(client)) if !self.has_finished => {
                let end = STREAM_BYTES.min(self.written + length);
                self.written += client.write(&self.upstream[self.written..end]).unwrap_or(0);
            }
            (4..=6, Some(client)) => {
                read_ready(client, &mut self.received);
            }
            (7, Some(client)) if length < 10_000 && !self.has_finished => {
                client.finish_writing();
                self.has_finished = true;
            }
            (8, Some(_)) if length < 10_000 => self.client = None,
            (9..=12, _) if !run.seen.sending.contains(&self.connection) && !self.is_closing => {
                let end = STREAM_BYTES.min(self.given + length);
                if end > self.given && run.seen.open.contains(&self.connection) {
                    run.send(self.connection, self.downstream[self.given..end].to_vec());
                    self.given = end;
                }
            }
            (13, _) => run.world.driver().set_reading(self.connection, length.is_multiple_of(2)),
            (14, _) if length < 20_000 => {
                run.world.driver().close(self.connection, length.is_multiple_of(2));
                self.is_closing = true;
            }
            _ => run.poll(Some(Duration::ZERO)),
        }
    }

    fn check<W: World<Client = C>>(&self, run: &Run<W>) {
        let arrived = run.seen.data(self.connection);
        assert!(arrived.len() <= self.written && *arrived == self.upstream[..arrived.len()]);
        assert!(
            self.received.len() <= self.given && *self.received == self.downstream[..self.received.len()]
        );
    }
}

pub(super) fn whatever_both_sides_do_nothing_is_mixed_up<W: World>() {
    for seed in 1..=4_u64 {
        let mut run = Run::<W>::new();
        let mut parties = Vec::new();
        let mut state = seed;
        let mut random = || {
            // A linear congruential generator does, as long as only its high bits are used.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for step in 0..4_000_u32 {
            if step.is_multiple_of(200) {
                let (client, connection) = run.connect();
                parties.push(Party {
                    client: Some(client),
                    connection,
                    upstream: pattern(STREAM_BYTES, 2 * step),
                    downstream: pattern(STREAM_BYTES, 2 * step + 1),
                    written: 0,
                    received: Vec::new(),
                    given: 0,
                    has_finished: false,
                    is_closing: false,
                });
            }
            let party = random() % parties.len();
            let (action, length) = (random() as u32 % 17, 1 + random() % 200_000);
            parties[party].act(&mut run, action, length);
        }
        for party in &mut parties {
            party.client = None;
            run.world.driver().close(party.connection, false);
        }
        run.until("all connections to end", |run| run.seen.open.is_empty());
        assert!(run.seen.sending.is_empty(), "every send has come back");
        parties.iter().for_each(|party| party.check(&run));
    }
}
