//! Several shards on one thread: they run by turns without waiting, and between their turns the thread waits for
//! all of them at once. One that lets requests come together keeps none of the others from being served.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;
use std::{io, ptr};

use super::threads::{Common, RealDriver, RealShard};
use crate::shard::{ShardError, Turn};

/// What of a shard its thread knows.
trait Runs {
    /// Does what there is to do, without waiting.
    fn turn(&mut self) -> Result<Turn, ShardError>;

    /// For how long it is left alone from now on, after a turn; `None`: it is not.
    fn begin_to_gather(&mut self) -> Result<Option<Duration>, ShardError>;

    /// What is left of that.
    fn gathers_for(&mut self) -> Option<Duration>;

    /// How long it may wait for something to happen, of which it has to be told from now on.
    fn rest(&mut self) -> Result<Option<Duration>, ShardError>;
}

/// A shard, and whom it tells what operators have to know.
struct Member<'a, D: RealDriver> {
    shard: &'a mut RealShard<D>,
    common: &'a Common,
}

impl<D: RealDriver> Runs for Member<'_, D> {
    fn turn(&mut self) -> Result<Turn, ShardError> {
        let turn = self.shard.turn_within(Some(Duration::ZERO))?;
        self.shard.news().into_iter().for_each(|text| (self.common.say)(text));
        Ok(turn)
    }

    fn begin_to_gather(&mut self) -> Result<Option<Duration>, ShardError> {
        self.shard.gather_elsewhere()
    }

    fn gathers_for(&mut self) -> Option<Duration> {
        self.shard.gathers_for()
    }

    fn rest(&mut self) -> Result<Option<Duration>, ShardError> {
        self.shard.rest_elsewhere()
    }
}

/// Where a shard stands between two turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It may have something to do.
    Due,
    /// It waits for something to happen, so long at most.
    Rests(Option<Duration>),
    /// Requests come together for so long still; whatever happens waits for that.
    Gathers(Duration),
    Stopped,
}

/// Runs shards until all have stopped.
pub(super) fn run_by_turns<D: RealDriver>(
    shards: &mut [RealShard<D>],
    common: &Common,
) -> Result<(), ShardError> {
    let mut members: Vec<_> = shards.iter_mut().map(|shard| Member { shard, common }).collect();
    let mut stands = vec![Stand::Due; members.len()];
    let mut entries = Vec::with_capacity(members.len());
    while !common.ending.is_abandoned() {
        run_round(&mut members, &mut stands)?;
        if stands.iter().all(|stand| *stand == Stand::Stopped) {
            break;
        }
        let timeout = time_to_wait(&stands);
        if timeout != Some(Duration::ZERO) {
            let awaited = members.iter().zip(&stands).filter(|(_, stand)| is_awaited(**stand));
            entries.clear();
            entries.extend(awaited.map(|(member, _)| entry(member.shard.wait_handle())));
            poll(&mut entries, timeout).map_err(ShardError::Driver)?;
        }
    }
    Ok(())
}

/// A turn for each shard but those that gather; then each says what it waits for.
fn run_round(members: &mut [impl Runs], stands: &mut [Stand]) -> Result<(), ShardError> {
    for (member, stand) in members.iter_mut().zip(&mut *stands) {
        if matches!(stand, Stand::Due | Stand::Rests(_)) {
            *stand = match member.turn()? {
                Turn::Running => Stand::Due,
                Turn::Stopped => Stand::Stopped,
            };
        }
    }
    // Before any of them rests: a driver that has something already, were it only that an answer went out, does not.
    for (member, stand) in members.iter_mut().zip(&mut *stands) {
        let gathers_for = match stand {
            Stand::Gathers(_) => member.gathers_for(),
            Stand::Due | Stand::Rests(_) => member.begin_to_gather()?,
            Stand::Stopped => continue,
        };
        *stand = gathers_for.map_or(Stand::Due, Stand::Gathers);
    }
    for (member, stand) in members.iter_mut().zip(stands).filter(|(_, stand)| **stand == Stand::Due) {
        let timeout = member.rest()?;
        *stand = Stand::Rests(timeout);
        if timeout == Some(Duration::ZERO) {
            // Those that have said that they rest are woken for nothing at worst.
            break;
        }
    }
    Ok(())
}

/// How long the thread may wait for the shards that are awaited; `None`: for as long as it takes.
fn time_to_wait(stands: &[Stand]) -> Option<Duration> {
    let of = |stand: &Stand| match stand {
        Stand::Due => Some(Duration::ZERO),
        Stand::Rests(timeout) => *timeout,
        Stand::Gathers(time) => Some(*time),
        Stand::Stopped => None,
    };
    stands.iter().filter_map(of).min()
}

/// Whether what happens to a shard ends the wait.
fn is_awaited(stand: Stand) -> bool {
    matches!(stand, Stand::Rests(_))
}

fn entry(handle: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits until one of the descriptors can be read, or the time is up. A signal ends the wait early.
fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let timespec = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: entries and time live through the call, and no signal mask is given.
    let result =
        unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timespec, ptr::null()) };
    match result {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::VecDeque;

    /// How far apart turns begin that have requests.
    const GATHER_US: u64 = 300;
    /// When each of them has something to do by itself, first.
    const DEADLINE_US: u64 = 2_100;
    const STOPS_US: u64 = 5_000;

    /// A shard for which requests come at given times. Time is that of the test.
    struct Scripted<'a> {
        clock_us: &'a Cell<u64>,
        requests_us: VecDeque<u64>,
        deadlines_us: VecDeque<u64>,
        /// Its driver has an answer that went out, and has not said so.
        has_sent: bool,
        was_asked: bool,
        rests: bool,
        turned_us: u64,
        turns: u64,
        /// How late each request and each deadline was served.
        waited_us: Vec<u64>,
        late_us: Vec<u64>,
    }

    impl<'a> Scripted<'a> {
        fn new(clock_us: &'a Cell<u64>, requests_us: impl IntoIterator<Item = u64>) -> Self {
            Self {
                clock_us,
                requests_us: requests_us.into_iter().collect(),
                deadlines_us: [DEADLINE_US, STOPS_US].into(),
                has_sent: false,
                was_asked: false,
                rests: false,
                turned_us: 0,
                turns: 0,
                waited_us: Vec::new(),
                late_us: Vec::new(),
            }
        }

        /// When something happens that ends a wait for it.
        fn happens_us(&self) -> Option<u64> {
            self.requests_us.front().copied()
        }

        fn until(&self, time_us: u64) -> Duration {
            Duration::from_micros(time_us.saturating_sub(self.clock_us.get()))
        }
    }

    impl Runs for Scripted<'_> {
        fn turn(&mut self) -> Result<Turn, ShardError> {
            let now_us = self.clock_us.get();
            (self.turned_us, self.rests, self.turns) = (now_us, false, self.turns + 1);
            self.was_asked = false;
            self.has_sent = false;
            while let Some(came_us) = take_due(&mut self.requests_us, now_us) {
                self.waited_us.push(now_us - came_us);
                (self.was_asked, self.has_sent) = (true, true);
            }
            while let Some(due_us) = take_due(&mut self.deadlines_us, now_us) {
                self.late_us.push(now_us - due_us);
            }
            Ok(if now_us < STOPS_US { Turn::Running } else { Turn::Stopped })
        }

        fn begin_to_gather(&mut self) -> Result<Option<Duration>, ShardError> {
            Ok(self.gathers_for())
        }

        fn gathers_for(&mut self) -> Option<Duration> {
            let until_us = self.deadlines_us[0].min(self.turned_us + GATHER_US);
            (self.was_asked && until_us > self.clock_us.get()).then(|| self.until(until_us))
        }

        fn rest(&mut self) -> Result<Option<Duration>, ShardError> {
            self.rests = true;
            let came = self.happens_us().is_some_and(|came_us| came_us <= self.clock_us.get());
            let timeout = self.until(self.deadlines_us[0]);
            Ok(Some(if came || self.has_sent { Duration::ZERO } else { timeout }))
        }
    }

    fn take_due(times_us: &mut VecDeque<u64>, now_us: u64) -> Option<u64> {
        times_us.front().is_some_and(|time_us| *time_us <= now_us).then(|| times_us.pop_front()).flatten()
    }

    /// Runs shards until all have stopped, as their thread does.
    fn run(clock_us: &Cell<u64>, members: &mut [Scripted<'_>]) {
        let mut stands = vec![Stand::Due; members.len()];
        for _ in 0..1_000 {
            run_round(members, &mut stands).unwrap();
            if stands.iter().all(|stand| *stand == Stand::Stopped) {
                return;
            }
            let timeout = time_to_wait(&stands).expect("each has a deadline");
            let mut until_us = clock_us.get() + timeout.as_micros() as u64;
            for (member, stand) in members.iter().zip(&stands) {
                if is_awaited(*stand) {
                    assert!(member.rests, "it is to be told of what happens");
                    until_us = member.happens_us().map_or(until_us, |happens_us| happens_us.min(until_us));
                }
            }
            clock_us.set(until_us.max(clock_us.get()));
        }
        panic!("they have not stopped");
    }

    #[test]
    fn requests_come_together_on_a_shared_thread_too() {
        let clock_us = Cell::new(0);
        let mut members = [Scripted::new(&clock_us, (0..1_000).step_by(10)), Scripted::new(&clock_us, [])];
        run(&clock_us, &mut members);
        let busy = &members[0];
        assert_eq!(busy.waited_us.len(), 100);
        assert!(busy.waited_us.iter().all(|waited_us| *waited_us <= GATHER_US), "{:?}", busy.waited_us);
        assert!(busy.turns < 12, "{} turns for a hundred requests", busy.turns);
    }

    #[test]
    fn who_gathers_delays_neither_a_first_request_to_another_shard_nor_what_is_due() {
        let clock_us = Cell::new(0);
        let busy = Scripted::new(&clock_us, (0..4_000).step_by(10));
        let mut idle = Scripted::new(&clock_us, [555, 1_555, 2_555]);
        idle.deadlines_us.push_front(1_234);
        let mut members = [busy, idle];
        run(&clock_us, &mut members);
        assert_eq!(members[1].waited_us, [0; 3]);
        assert_eq!(members[1].late_us, [0; 3]);
        assert_eq!(members[0].late_us, [0; 2]);
    }

    #[test]
    fn a_wait_is_as_long_as_the_least_and_for_those_that_rest() {
        let [short, long] = [1, 2].map(Duration::from_millis);
        for (stands, timeout) in [
            (vec![Stand::Stopped, Stand::Rests(None)], None),
            (vec![Stand::Rests(None), Stand::Rests(Some(long))], Some(long)),
            (vec![Stand::Gathers(short), Stand::Rests(Some(long)), Stand::Rests(None)], Some(short)),
            (vec![Stand::Gathers(long), Stand::Rests(Some(short))], Some(short)),
            (vec![Stand::Gathers(long), Stand::Due], Some(Duration::ZERO)),
        ] {
            assert_eq!(time_to_wait(&stands), timeout, "{stands:?}");
        }
        assert!(is_awaited(Stand::Rests(None)));
        assert!(!is_awaited(Stand::Gathers(short)));
    }
}
