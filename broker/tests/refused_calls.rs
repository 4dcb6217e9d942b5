//! What the drivers make of a kernel that refuses calls, as seccomp profiles and old kernels do.
//!
//! Each test puts a seccomp filter on a thread of its own, which ends with the test.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tenpin_broker::shard::driver::{Clocks, Driver, Event, EventSink};
use tenpin_broker::shard::epoll::EpollDriver;
use tenpin_broker::shard::uring;

#[test]
fn a_profile_that_forbids_io_uring_is_named() {
    let text =
        with_refused(libc::SYS_io_uring_setup, libc::EPERM, || uring::probe().unwrap_err().to_string());
    assert!(text.contains("seccomp") && text.contains("allow io_uring_setup"), "{text}");
}

#[test]
fn a_kernel_without_io_uring_is_named() {
    let text =
        with_refused(libc::SYS_io_uring_setup, libc::ENOSYS, || uring::probe().unwrap_err().to_string());
    assert!(text.contains("kernel without io_uring"), "{text}");
}

#[test]
fn too_little_locked_memory_is_named() {
    let text =
        with_refused(libc::SYS_io_uring_setup, libc::ENOMEM, || uring::probe().unwrap_err().to_string());
    assert!(text.contains("locked memory") && text.contains("8 MiB"), "{text}");
}

#[test]
fn a_ring_that_cannot_register_anything_is_refused() {
    let text =
        with_refused(libc::SYS_io_uring_register, libc::EINVAL, || uring::probe().unwrap_err().to_string());
    assert!(text.contains("io_uring refused"), "{text}");
}

#[test]
fn epoll_waits_without_the_precise_call() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        with_refused(libc::SYS_epoll_pwait2, errno, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut driver = EpollDriver::new(listener, None).unwrap();
            let mut accepted = Accepted(0);
            driver.poll(Some(Duration::from_micros(100)), &mut accepted).unwrap();
            assert_eq!(accepted.0, 0);
            let _client = TcpStream::connect(address).unwrap();
            for _ in 0..1000 {
                if accepted.0 == 0 {
                    driver.poll(Some(Duration::from_millis(1)), &mut accepted).unwrap();
                }
            }
            assert_eq!(accepted.0, 1);
        });
    }
}

struct Accepted(usize);

impl EventSink for Accepted {
    fn turn_begins(&mut self, _clocks: Clocks) {}

    fn event(&mut self, event: Event<'_>) {
        self.0 += usize::from(matches!(event, Event::Accepted { .. }));
    }
}

/// Runs `body` on a thread whose calls of one kind fail with `errno`.
fn with_refused<T: Send>(call: libc::c_long, errno: i32, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let refused = scope.spawn(|| {
            refuse(call, errno);
            body()
        });
        refused.join().expect("the test's own assertions say why")
    })
}

fn refuse(call: libc::c_long, errno: i32) {
    let filter = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The number of the call, compared with the one refused, and what becomes of it.
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: both calls concern this thread only; the program lives through the second, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}
