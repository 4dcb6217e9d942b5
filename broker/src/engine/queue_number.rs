//! The numbers by which hot frames name queues (rules 7 and 8): which incarnation, above where in the table.
//!
//! An incarnation is never used again, so a number is not either, and one that a client has kept for longer than
//! its queue was there means nothing. Handles have room for as many incarnations.

use super::handle::INCARNATION_BITS;
use super::queue::QUEUES_MAX;

const INDEX_BITS: u32 = u64::BITS - INCARNATION_BITS;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

const _: () = assert!((QUEUES_MAX as u64) < INDEX_MASK, "every place in the table has numbers");

/// The last incarnation that numbers and handles have room for: a hundred queues made each second reach it
/// after three hundred years. None is made beyond it.
pub(super) const INCARNATION_MAX: u64 = (1 << INCARNATION_BITS) - 1;

/// The number of the queue with this incarnation at this place.
#[inline]
pub(super) fn number_of(index: u32, incarnation: u64) -> u64 {
    u64::from(index) | (incarnation << INDEX_BITS)
}

/// The place in the table that a number names.
#[inline]
pub(super) fn index_of(number: u64) -> u32 {
    (number & INDEX_MASK) as u32
}

/// The incarnation that a number names.
#[inline]
pub fn incarnation_of(number: u64) -> u64 {
    number >> INDEX_BITS
}

#[cfg(test)]
mod tests {
    use super::super::tests::{World, world};
    use super::super::{Command, EngineOptions, RawName, ReplyBody};
    use super::*;
    use crate::flaws::Sound;
    use tenpin_protocol::{Entries, ErrorCode};

    #[test]
    fn places_and_incarnations_come_back_from_their_numbers() {
        for index in [0, 1, QUEUES_MAX] {
            for incarnation in [0, 1, 1 << 32, INCARNATION_MAX] {
                let number = number_of(index, incarnation);
                assert_eq!((index_of(number), incarnation_of(number)), (index, incarnation));
            }
        }
    }

    fn create(world: &mut World<Sound>, name: &str) -> ReplyBody {
        let name = RawName { account: "", region: "", name };
        world
            .ask(Command::CreateQueue { name, attributes: Entries::default(), tags: Entries::default() })
            .body
    }

    /// Rule 8: a number means one queue, however many there have been since.
    #[test]
    fn a_number_of_long_ago_names_no_queue() {
        let mut world =
            World::<Sound>::new(EngineOptions { minute_rules: false, ..EngineOptions::new(0, [1, 2]) });
        let long_ago = world.create("q");
        world.ask(Command::DeleteQueue { queue: long_ago });
        world.engine.identity.skip_incarnations_to(incarnation_of(long_ago) + (1 << 32));
        let now = world.create("q");
        assert_eq!(index_of(now), index_of(long_ago));
        world.send(now, &["a"]);
        assert_eq!(refused(world.ask(Command::Purge { queue: long_ago }).body), ErrorCode::QueueDoesNotExist);
        assert_eq!(world.counts(now), [1, 0, 0, 0]);
        world.restart();
        assert_eq!(refused(world.ask(Command::Purge { queue: long_ago }).body), ErrorCode::QueueDoesNotExist);
        assert_eq!(world.received(now, 1, 30), ["a"]);
    }

    #[test]
    fn no_queue_is_made_beyond_the_last_number() {
        let mut world = world::<Sound>();
        world.engine.identity.skip_incarnations_to(INCARNATION_MAX);
        let last = world.create("last");
        assert_eq!(incarnation_of(last), INCARNATION_MAX);
        assert_eq!(refused(create(&mut world, "beyond")), ErrorCode::OverLimit);
    }

    /// A queue in a place that no record may name would be damage at the next start.
    #[test]
    fn no_queue_is_made_where_deleted_ones_hold_all_places() {
        let mut world = world::<Sound>();
        (0..QUEUES_MAX - 1).for_each(|index| world.engine.queues.take_index(index));
        world.create("last");
        assert_eq!(refused(create(&mut world, "beyond")), ErrorCode::OverLimit);
    }

    fn refused(body: ReplyBody) -> ErrorCode {
        match body {
            ReplyBody::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }
}
