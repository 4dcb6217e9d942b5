//! Brokers inside this process: many at a time, on folders and in memory, and gone when they are dropped.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, wait_until};
use tenpin_broker::embedded::{Broker, Builder, DurabilitySetting, ExitReason, IoSetting};
use tenpin_client::{Client, Receive};

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it ends") })
}

async fn client_of(broker: &Broker) -> Client {
    Client::connect(broker.address().to_string()).await.unwrap()
}

/// Over each driver that this machine offers, with one shard and with three.
fn each_kind(test: impl Fn(Builder)) {
    for shards in [1, 3] {
        for io in [IoSetting::Epoll, IoSetting::Uring] {
            let builder = Broker::builder().io(io).shards(shards);
            match builder.clone().start().map(drop) {
                Ok(()) => test(builder),
                Err(failure) => {
                    assert_eq!((io, failure.reason), (IoSetting::Uring, ExitReason::RingRefused), "{failure}")
                }
            }
        }
    }
}

/// Threads of this process whose names begin so.
fn threads_named(prefix: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

async fn send(broker: &Broker, bodies: std::ops::Range<usize>) {
    let queue = client_of(broker).await.create_queue("kept").await.unwrap();
    for number in bodies {
        queue.send(number.to_string()).await.unwrap();
    }
}

async fn bodies(broker: &Broker) -> Vec<String> {
    let queue = client_of(broker).await.queue("kept").await.unwrap();
    let mut bodies = Vec::new();
    loop {
        let messages = queue.receive_with(&Receive::up_to(10).wait(Duration::ZERO)).await.unwrap();
        if messages.is_empty() {
            bodies.sort();
            return bodies;
        }
        for message in &messages {
            queue.delete(message).await.unwrap();
            bodies.push(message.text().unwrap().to_owned());
        }
    }
}

#[test]
fn brokers_side_by_side_know_nothing_of_each_other() {
    let brokers: Vec<_> = (0..8).map(|_| Broker::in_memory().unwrap()).collect();
    run(async {
        for (number, broker) in brokers.iter().enumerate() {
            send(broker, number..number + 1).await;
        }
        for (number, broker) in brokers.iter().enumerate() {
            assert_eq!(bodies(broker).await, [number.to_string()]);
        }
    });
}

#[test]
fn what_a_folder_holds_outlives_its_broker_however_that_ends() {
    each_kind(|builder| {
        let folder = tempfile::tempdir().unwrap();
        let start = || builder.clone().folder(folder.path()).start().unwrap();
        let broker = start();
        run(send(&broker, 0..3));
        broker.stop().unwrap();
        let broker = start();
        run(send(&broker, 3..5));
        drop(broker);
        assert_eq!(run(bodies(&start())), ["0", "1", "2", "3", "4"]);
    });
}

#[test]
fn a_second_broker_on_a_folder_is_refused_and_leaves_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::in_folder(folder.path()).unwrap();
    let failure = Broker::in_folder(folder.path()).unwrap_err();
    assert_eq!(failure.reason, ExitReason::FolderLocked);
    assert!(failure.text.contains("this process"), "{failure}");
    run(send(&broker, 0..1));
    assert_eq!(run(bodies(&broker)), ["0"]);
}

#[test]
fn a_start_that_is_refused_leaves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let builder = Broker::builder().folder(folder.path()).shards(2);
    let refused = builder.clone().listen(taken.local_addr().unwrap()).start().unwrap_err();
    assert_eq!(refused.reason, ExitReason::Listen);
    let broker = builder.start().expect("the folder is free");
    drop(broker);
    let other = Broker::builder().folder(folder.path()).shards(3).start().unwrap_err();
    assert_eq!(other.reason, ExitReason::Configuration);
    assert_eq!(Broker::builder().shards(0).start().unwrap_err().reason, ExitReason::Configuration);
    // One shard cannot be opened, while the other could.
    damage(&folder.path().join("shard-1"));
    let damaged = Broker::in_folder(folder.path()).unwrap_err();
    assert_eq!(damaged.reason, ExitReason::LogDamaged, "{damaged}");
    let damaged = Broker::in_folder(folder.path()).unwrap_err();
    assert_eq!(damaged.reason, ExitReason::LogDamaged, "the folder was free again: {damaged}");
}

/// Changes what had been durable before the log's last batch.
fn damage(shard: &Path) {
    let file = shard.join("segment-00000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096 + 64] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
}

/// Long polls that wait, and clients whose runtime has no turn until the drop returns, cannot hold it.
#[test]
fn a_drop_takes_bounded_time_and_leaves_no_thread_no_port_and_no_connection() {
    each_kind(|builder| {
        let folder = tempfile::tempdir().unwrap();
        let broker = builder.folder(folder.path()).durability(DurabilitySetting::Async).start().unwrap();
        let address = broker.address();
        run(async {
            let client = client_of(&broker).await;
            let queue = client.create_queue("kept").await.unwrap();
            let waiting = tokio::spawn({
                let queue = queue.clone();
                async move { queue.receive_with(&Receive::up_to(1).wait(Duration::from_secs(20))).await }
            });
            while queue.stats().await.unwrap().get(tenpin_client::StatisticCode::Waiting) == 0 {
                tokio::task::yield_now().await;
            }
            let began = Instant::now();
            drop(broker);
            assert!(began.elapsed() < PATIENCE / 2, "it waits for nobody");
            TcpListener::bind(address).expect("the port is free");
            waiting.abort();
        });
    });
}

/// Runs this very test again in a process of its own, which `is_inside` then tells; gives what it printed.
fn alone(test: &str) -> String {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let printed = printed + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    printed
}

const ALONE: &str = "TENPIN_TEST_ALONE";

fn is_inside() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// In a process of its own, whose threads are all its own.
#[test]
fn no_thread_is_left_and_nothing_is_printed() {
    if !is_inside() {
        let printed = alone("no_thread_is_left_and_nothing_is_printed");
        assert!(!printed.contains("tenpin"), "{printed}");
        return;
    }
    let names = ["tenpin-shard", "journal-"];
    each_kind(|builder| {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let broker = builder.clone().folder(folder.path()).start().unwrap();
            // A thread names itself, a moment after it has begun.
            wait_until("they have their names", || names.iter().all(|name| threads_named(name) > 0));
            run(send(&broker, 0..10));
            drop(broker);
            // The kernel lists a thread for a moment after it was joined.
            wait_until("none is listed", || names.map(threads_named) == [0, 0]);
        }
    });
}

/// A disk that fails ends the broker; its drop returns, and says what has happened where it is asked. In a
/// process of its own, whose files may grow no further.
#[test]
fn a_broker_that_has_failed_is_dropped_like_any_other() {
    if !is_inside() {
        alone("a_broker_that_has_failed_is_dropped_like_any_other");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    each_kind(|builder| {
        for asks in [false, true] {
            let folder = folder.path().join("data");
            let broker = builder.clone().folder(&folder).start().unwrap();
            run(send(&broker, 0..3));
            let queue = run(async {
                let address = broker.address().to_string();
                let client = Client::builder(address).request_timeout(PATIENCE).retries(false);
                let queue = client.connect().await.unwrap().queue("kept").await.unwrap();
                limit_file_size(4096);
                queue.send("never stored").await.expect_err("the disk refuses it");
                queue
            });
            drop(queue);
            if asks {
                assert_eq!(broker.stop().unwrap_err().reason, ExitReason::JournalFailed);
            } else {
                drop(broker);
            }
            limit_file_size(libc::RLIM_INFINITY);
            let broker = builder.clone().folder(&folder).start().expect("the folder is free");
            assert_eq!(run(bodies(&broker)), ["0", "1", "2"]);
            drop(broker);
            std::fs::remove_dir_all(&folder).unwrap();
        }
    });
}

/// How far files may be written by this process; further, writing fails.
fn limit_file_size(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit lives through the call, and ignoring a signal runs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}
