//! What the machine says about a run: processor time, memory, load, and the gaps in which the host
//! gave this machine no time at all.
//!
//! Throughput moves with the neighbours of a virtual machine; the processor time that a process was
//! charged moves far less. Hosts take time away without reporting it, in gaps of up to hundreds of
//! milliseconds, which look like latency of whatever was being measured. A probe that does nothing
//! but read the clock sees them for what they are.

use std::fmt;
use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A pause this long between two readings of the clock, with nothing to do between them, is the
/// host's doing and counted as a gap.
pub const GAP_MIN: Duration = Duration::from_micros(200);

/// Processor time that a process has used, user and system, all its threads, the ended ones too.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so fields are counted from behind it. User and
    // system time are the 14th and 15th of the line, the 12th and 13th from there.
    let fields = stat.rsplit_once(')').map(|(_, behind)| behind).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf only reads a constant of the system.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second))
}

/// Processor time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most that was ever resident.
    pub resident_bytes_max: u64,
}

/// Resident memory of a process, now and at most.
pub fn process_memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(Memory { resident_bytes: kib("VmRSS:") * 1024, resident_bytes_max: kib("VmHWM:") * 1024 })
}

/// Bytes that a process has had written to disk so far.
pub fn disk_bytes_written(pid: u32) -> io::Result<u64> {
    let counters = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `perf`, counting the system calls of a process beside it.
#[derive(Debug)]
pub struct SystemCalls(Child);

impl SystemCalls {
    /// Starts counting, where perf is installed.
    pub fn count(pid: u32) -> Option<Self> {
        let mut command = Command::new("perf");
        command.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().ok().map(SystemCalls)
    }

    /// Calls for each second of processor time, if perf was allowed to count them.
    pub fn per_cpu_second(self) -> Option<f64> {
        // SAFETY: the process is our child and not yet waited for, so that the id is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let output = self.0.wait_with_output().ok()?;
        calls_per_second(&String::from_utf8_lossy(&output.stderr))
    }
}

/// From a line of count, unit, event, and the nanoseconds for which it was counted.
fn calls_per_second(printed: &str) -> Option<f64> {
    let line = printed.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    let fields: Vec<&str> = line.split(',').collect();
    let (calls, nanoseconds): (f64, f64) = (fields.first()?.parse().ok()?, fields.get(3)?.parse().ok()?);
    (nanoseconds > 0.0).then(|| calls * 1e9 / nanoseconds)
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    let line = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    line.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// How many cores this process may run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread, and what it spawns later, on one core. Safe to call between fork and exec.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `core` lies inside the set, as checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a valid set of the size given.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets this process, and those that it starts, open as many files as the system allows.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid for the call, which copies it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Pauses in which a thread got no time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gaps {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
    /// For how long was looked.
    pub watched: Duration,
}

impl Gaps {
    /// Counts a pause, if it is long enough to be one.
    pub fn note(&mut self, pause: Duration) -> bool {
        if pause < GAP_MIN {
            return false;
        }
        self.count += 1;
        self.total += pause;
        self.longest = self.longest.max(pause);
        true
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.total.as_secs_f64() / self.watched.as_secs_f64().max(f64::MIN_POSITIVE);
        let longest_ms = self.longest.as_secs_f64() * 1e3;
        write!(formatter, "{} gaps, {share:.1} % of the time, longest {longest_ms:.1} ms", self.count)
    }
}

/// Does nothing but read the clock on one core, and tells in which gaps it could not.
pub fn spin_probe(core: usize, length: Duration) -> Gaps {
    let probe = std::thread::spawn(move || {
        // A probe that cannot be pinned still measures the machine, only not that core.
        let _ = pin_to_core(core);
        let start = Instant::now();
        let mut gaps = Gaps::default();
        let mut last = start;
        while last - start < length {
            let now = Instant::now();
            gaps.note(now - last);
            last = now;
        }
        gaps.watched = last - start;
        gaps
    });
    probe.join().unwrap_or_default()
}

/// One line about the machine, to stand beside any figure.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {} cores, Linux {}", cores(), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let before = process_cpu(pid).unwrap();
        // The clock has ticks of 10 ms: work until one has passed.
        while process_cpu(pid).unwrap() == before {
            std::hint::spin_loop();
        }
        assert!(thread_cpu() > Duration::ZERO);
        let memory = process_memory(pid).unwrap();
        assert!(memory.resident_bytes > 0 && memory.resident_bytes_max >= memory.resident_bytes);
    }

    #[test]
    fn what_perf_prints_is_read() {
        assert_eq!(calls_per_second("500,,raw_syscalls:sys_enter,250000000,100.00,,"), Some(2_000.0));
        assert_eq!(calls_per_second("<not counted>,,raw_syscalls:sys_enter,0,100.00,,"), None);
        assert_eq!(calls_per_second("event syntax error"), None);
    }

    #[test]
    fn only_long_pauses_are_gaps() {
        let mut gaps = Gaps::default();
        assert!(!gaps.note(GAP_MIN / 2));
        assert!(gaps.note(GAP_MIN));
        assert_eq!((gaps.count, gaps.longest), (1, GAP_MIN));
    }
}
