//! Receives that wait: served in their order by whatever comes, a message that moves included, and ended by their
//! time, with their queue, or with their shard.

use tenpin_protocol::ErrorCode;

use super::*;

/// A receive that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) name: usize,
    pub(super) number: u64,
    pub(super) correlation: u32,
    pub(super) count_max: u32,
    pub(super) seconds: u32,
    pub(super) deadline_ms: u64,
}

impl<F: Flaws> Test<F> {
    /// What the shard has last said to who waits.
    fn said_to(&self, shard: usize, wait: &Wait) -> Option<&ReplyBody> {
        let replies = self.worlds[shard].out.replies.iter();
        let mut said = replies.filter(|reply| reply.ticket.correlation == wait.correlation);
        let reply = said.next()?;
        assert!(said.next().is_none() && reply.ends_wait, "each is answered once");
        Some(&reply.body)
    }

    /// Gives what is visible on a shard to who waits there, and compares that with what the shard has last said.
    pub(super) fn serve(&mut self, shard: usize) {
        while let Some(wait) = self.waits[shard].first().copied() {
            if self.worlds[shard].log.room() == Room::NoReceives {
                break;
            }
            let expected = self.hand_out(wait.name, shard, wait.count_max as usize, wait.seconds);
            if expected.is_empty() {
                break;
            }
            self.waits[shard].remove(0);
            match self.said_to(shard, &wait) {
                Some(ReplyBody::Received(range)) => {
                    self.note_deliveries(shard, (wait.name, wait.number), range.clone(), &expected);
                }
                other => panic!("{other:?} instead of {expected:?}"),
            }
        }
        assert!(
            self.waits[shard].iter().all(|wait| self.said_to(shard, wait).is_none()),
            "nothing is there for it"
        );
    }

    /// Those whose time is up get nothing.
    pub(super) fn end_waits(&mut self, shard: usize) {
        let now_ms = self.now_ms();
        let is_over = |wait: &Wait| wait.deadline_ms <= now_ms;
        let over: Vec<Wait> = self.waits[shard].iter().filter(|wait| is_over(wait)).copied().collect();
        self.waits[shard].retain(|wait| !is_over(wait));
        for wait in over {
            assert!(
                matches!(self.said_to(shard, &wait), Some(ReplyBody::Received(range)) if range.is_empty())
            );
        }
    }

    /// The queue is deleted.
    pub(super) fn refuse_waits(&mut self, shard: usize, queue: u64) {
        for wait in self.waits[shard].extract_if(.., |wait| wait.number == queue).collect::<Vec<_>>() {
            match self.said_to(shard, &wait) {
                Some(ReplyBody::Refused(refusal)) => assert_eq!(refusal.code, ErrorCode::QueueDoesNotExist),
                other => panic!("{other:?}"),
            }
        }
    }
}
