//! Which cores the process may use, and which shard runs where.

use std::io;

/// How the shards are spread over threads, and the threads over cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// One entry a thread.
    pub(super) threads: Vec<ThreadPlan>,
}

/// What one thread does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThreadPlan {
    /// The shards that it runs, by turns.
    pub(super) shards: Vec<u16>,
    /// The core that it stays on, if it stays on one.
    pub(super) core: Option<usize>,
}

/// The cores of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cores {
    /// Those that it may be scheduled on; none where the system does not say.
    allowed: Vec<usize>,
    /// How many of them it may use at a time: fewer where a container's quota says so.
    usable: usize,
}

impl Cores {
    pub(super) fn of_this_process() -> Self {
        let allowed = allowed_cores().unwrap_or_default();
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        let usable = if allowed.is_empty() { usable } else { usable.min(allowed.len()) };
        Self { allowed, usable }
    }
}

impl Plan {
    /// One thread for each shard, each on a core of its own, where there are as many; otherwise shards
    /// share threads. `offset` is where counting begins where not all cores are needed, so that several
    /// brokers of a machine do not all take the first.
    pub(super) fn new(shards: u16, cores: &Cores, pins: bool, offset: usize) -> Self {
        let threads = usize::from(shards).min(cores.usable).max(1);
        let pins = pins && cores.allowed.len() >= usize::from(shards) && threads == usize::from(shards);
        let offset = if cores.allowed.len() > usize::from(shards) { offset } else { 0 };
        let core = |thread: usize| {
            let core = || cores.allowed[(offset + thread) % cores.allowed.len()];
            pins.then(core)
        };
        let shards_of = |thread: usize| (0..shards).skip(thread).step_by(threads).collect();
        let plan = |thread| ThreadPlan { shards: shards_of(thread), core: core(thread) };
        Self { threads: (0..threads).map(plan).collect() }
    }

    /// For the line that the start prints.
    pub(super) fn describe(&self) -> String {
        let shards: usize = self.threads.iter().map(|thread| thread.shards.len()).sum();
        let threads = self.threads.len();
        let shards_text = if shards == 1 { "1".to_owned() } else { format!("{shards}") };
        if threads < shards {
            return format!("{shards_text} on {threads} threads, as cores are fewer");
        }
        let cores: Vec<_> =
            self.threads.iter().filter_map(|thread| thread.core).map(|core| core.to_string()).collect();
        if cores.is_empty() {
            return format!("{shards_text}, on a thread each, not pinned");
        }
        format!("{shards_text}, pinned to {} {}", plural(cores.len(), "core", "cores"), cores.join(", "))
    }
}

fn plural<'a>(count: usize, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}

/// The cores that the scheduler may put this process on.
fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: a set of cores is plain bits, and all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more than the size that it is told.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers are below the set's size.
    let is_in = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(is_in).collect())
}

/// Keeps the calling thread on one core.
pub(super) fn pin_to(core: usize) -> io::Result<()> {
    // SAFETY: a set of cores is plain bits, and all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number came out of such a set, and is below its size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the set during the call; zero is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(allowed: &[usize], usable: usize) -> Cores {
        Cores { allowed: allowed.to_vec(), usable }
    }

    fn shards(plan: &Plan) -> Vec<Vec<u16>> {
        plan.threads.iter().map(|thread| thread.shards.clone()).collect()
    }

    fn pinned(plan: &Plan) -> Vec<Option<usize>> {
        plan.threads.iter().map(|thread| thread.core).collect()
    }

    #[test]
    fn each_shard_has_a_core_where_there_are_enough() {
        let plan = Plan::new(2, &cores(&[3, 5], 2), true, 7);
        assert_eq!(shards(&plan), [[0], [1]]);
        assert_eq!(pinned(&plan), [Some(3), Some(5)]);
        assert_eq!(plan.describe(), "2, pinned to cores 3, 5");
        let other = Plan::new(2, &cores(&[0, 1, 2], 3), true, 7);
        assert_eq!(pinned(&other), [Some(1), Some(2)], "where some are left over, brokers begin elsewhere");
    }

    #[test]
    fn shards_share_threads_where_cores_are_fewer() {
        let plan = Plan::new(5, &cores(&[0, 1], 2), true, 0);
        assert_eq!(shards(&plan), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(pinned(&plan), [None, None]);
        assert_eq!(plan.describe(), "5 on 2 threads, as cores are fewer");
        // A quota of two cores on a machine of many.
        let quota = Plan::new(4, &cores(&[0, 1, 2, 3], 2), true, 0);
        assert_eq!(pinned(&quota), [None, None]);
    }

    #[test]
    fn nothing_is_pinned_where_that_is_not_wanted_or_not_known() {
        assert_eq!(pinned(&Plan::new(1, &cores(&[0, 1], 2), false, 0)), [None]);
        assert_eq!(pinned(&Plan::new(1, &cores(&[], 2), true, 0)), [None]);
    }

    #[test]
    fn this_process_may_run_somewhere() {
        let cores = Cores::of_this_process();
        assert!(cores.usable >= 1);
        let place = *cores.allowed.first().expect("this test runs on a core");
        std::thread::spawn(move || pin_to(place)).join().expect("no panic").expect("it is allowed");
    }
}
