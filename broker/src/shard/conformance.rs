//! What every driver must do, whatever it is made of.
//!
//! The tests are generic over a [`World`]: a driver, clients that connect to it, and somebody who wakes
//! it. They never sleep: they poll the driver until what they wait for has happened, a bounded number
//! of times. [`run::Recorder`] checks the contract's standing promises on every event.

mod closing;
mod connections;
mod files;
mod hand_over;
mod mixed;
mod real;
mod run;

use std::io;

use closing::*;
use connections::*;
use files::*;
use hand_over::*;
use mixed::*;

use super::driver::Driver;
use crate::journal::memory::SealedRange;

/// A driver in its surroundings. The driver has an empty folder for its journal.
pub(crate) trait World {
    type Driver: Driver;
    type Client: Client;

    /// Whether this machine offers what the driver needs; without it the tests pass over the world.
    fn is_offered() -> bool {
        true
    }

    fn new() -> Self;
    fn driver(&mut self) -> &mut Self::Driver;
    /// Connects, or is refused.
    fn connect(&mut self) -> io::Result<Self::Client>;
    /// Has the driver woken from elsewhere, now or soon.
    fn wake(&mut self);
    /// Bytes for a journal write; a multiple of 4096.
    fn sealed(&mut self, bytes: &[u8]) -> SealedRange;
}

/// The other end of a connection. Dropping it closes it. Nothing blocks: what would is `WouldBlock`.
pub(crate) trait Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Zero is the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Says that nothing more is to come, while still reading.
    fn finish_writing(&mut self);
}

/// Runs every test of this module over a world.
macro_rules! conformance_tests {
    ($name:ident, $world:ty, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $test() {
                    if <$world>::is_offered() {
                        super::$test::<$world>();
                    }
                }
            )*
        }
    };
}

macro_rules! all_conformance_tests {
    ($name:ident, $world:ty) => {
        conformance_tests!(
            $name,
            $world,
            [
                echo_returns_what_was_sent,
                a_slow_reader_gets_everything_in_the_end,
                reading_stops_and_goes_on,
                closing_ends_a_connection_at_once,
                closing_gives_an_unfinished_send_back,
                lingering_sends_everything_and_survives_unread_input,
                lingering_without_a_send_tells_the_client,
                a_client_that_keeps_an_ended_connection_is_closed_in_time,
                a_client_that_goes_is_reported,
                a_client_that_goes_with_unread_bytes_ends_the_send,
                a_half_closed_client_gets_the_send_under_way,
                a_half_closed_client_with_nothing_under_way_is_closed,
                an_end_behind_stopped_reading_shows_when_it_goes_on,
                many_connections_are_served_and_their_places_reused,
                a_busy_client_does_not_shut_out_the_others,
                waking_ends_the_wait,
                a_poll_ends_when_its_time_is_up,
                gathering_does_what_was_asked_and_keeps_what_happens,
                stopping_to_accept_leaves_connections_alone,
                what_arrives_around_a_hand_over_arrives_once_and_in_order,
                a_send_under_way_ends_before_a_hand_over,
                a_hand_over_that_does_not_come_can_be_given_up,
                an_end_during_a_hand_over_shows_after_it,
                a_connection_that_ends_is_not_handed_over,
                journal_files_keep_what_is_written,
                several_reads_and_a_write_are_under_way_at_once,
                what_is_asked_of_missing_files_fails,
                a_file_is_finished_while_its_beginning_is_written_to,
                a_driver_can_be_dropped_with_everything_under_way,
                whatever_both_sides_do_nothing_is_mixed_up,
            ]
        );
    };
}

all_conformance_tests!(epoll, real::RealWorld<real::Epoll>);
all_conformance_tests!(epoll_through_cache, real::RealWorld<real::EpollThroughCache>);
all_conformance_tests!(uring, real::RealWorld<real::Uring>);
all_conformance_tests!(modest_uring, real::RealWorld<real::ModestUring>);
