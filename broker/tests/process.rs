//! The broker as a process: how it starts, what it refuses, how it stops, with which exit codes.

mod common;

use std::process::Command;

use tenpin_benches::client::{Answer, Outgoing, Receive};

use crate::common::{PATIENCE, TestBroker, program, wait_until};

const USAGE: i32 = 2;
const CONFIGURATION: i32 = 3;
const LISTEN: i32 = 4;
const FOLDER_LOCKED: i32 = 5;
const FOLDER_UNUSABLE: i32 = 6;
const LOG_DAMAGED: i32 = 7;
const JOURNAL_FAILED: i32 = 8;

/// Runs `tenpin` with arguments that it refuses; gives the exit code and what it said.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program()).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A broker that is told to stop lets long polls return, says goodbye, and has everything on disk.
fn stopping_drains(signal: i32, durability: &str) {
    let mut broker = TestBroker::start(durability, "");
    let (mut client, queue) = broker.client_and_queue();
    client.send(queue, &[Outgoing { body: b"kept", delay_seconds: Some(900) }]).unwrap();
    let mut waiting = broker.client();
    let wait = Receive { messages_max: 1, wait_ms: 20_000, visibility_seconds: None };
    let asked = waiting.submit_receive(queue, wait).unwrap();
    waiting.flush().unwrap();
    wait_until("the receive waits", || client.counts(queue).unwrap().waiting == 1);

    broker.process().signal(signal).unwrap();
    let (correlation, answer) = waiting.next_answer().unwrap();
    assert_eq!(correlation, asked);
    assert!(matches!(&answer, Answer::Received(messages) if messages.is_empty()), "{answer:?}");
    // The goodbye is an error frame that answers no request.
    let (correlation, answer) = waiting.next_answer().unwrap();
    assert!(correlation == 0 && matches!(answer, Answer::Refused(_)), "{answer:?}");
    waiting.next_answer().expect_err("the connection ends behind the goodbye");

    let (status, printed) = broker.take_process().wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{printed}");
    if durability != "memory" {
        let again = broker.command.start().unwrap();
        let mut client = tenpin_benches::client::Client::connect(again.address()).unwrap();
        let queue = client.open("tests").unwrap();
        assert_eq!(client.counts(queue).unwrap().delayed, 1);
    }
}

#[test]
fn sigterm_drains() {
    stopping_drains(libc::SIGTERM, "fsync");
}

#[test]
fn sigint_drains() {
    stopping_drains(libc::SIGINT, "async");
}

#[test]
fn sigterm_drains_memory() {
    stopping_drains(libc::SIGTERM, "memory");
}

/// A client that takes nothing cannot keep the broker from stopping.
#[test]
fn a_client_that_does_not_read_cannot_hold_the_stop() {
    let mut broker = TestBroker::start("memory", "");
    let (mut client, queue) = broker.client_and_queue();
    let body = vec![7; 100_000];
    for _ in 0..10 {
        client.send(queue, &[Outgoing { body: &body, delay_seconds: None }]).unwrap();
    }
    let mut silent = broker.client();
    for _ in 0..100 {
        silent.submit_peek(queue, 10).unwrap();
    }
    silent.flush().unwrap();
    broker.stop();
}

/// Rule 3: nothing more leaves once the disk has failed, on no shard; the process says why, once, and ends; and
/// what was acknowledged is there after the next start.
#[test]
fn a_disk_that_fails_ends_all_shards_with_a_code_of_its_own() {
    // A process whose files may grow no further gets this signal, which its parent has it ignore.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    for shards in [1, 2] {
        let mut broker = TestBroker::start("fsync", &format!("shards = {shards}\n"));
        let (mut client, queue) = broker.client_and_queue();
        client.send(queue, &[Outgoing { body: b"kept", delay_seconds: None }]).unwrap();
        let receive = Receive { messages_max: 1, wait_ms: 20_000, visibility_seconds: None };
        let received = client.receive(queue, receive).unwrap();
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: libc::RLIM_INFINITY };
        let pid = broker.process().pid() as libc::pid_t;
        // SAFETY: the limit lives through the call, and nothing is asked for.
        assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) }, 0);
        // No file can be made, which refuses sends only; what is deleted is written to one that is there.
        let deleted = client.delete(queue, std::slice::from_ref(&received[0].handle));
        assert!(deleted.is_err(), "{deleted:?}");
        let (status, printed) = broker.take_process().wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(JOURNAL_FAILED), "{printed}");
        assert_eq!(printed.matches("the log could not be written").count(), 1, "{printed}");
        let again = broker.command.start().unwrap();
        let mut client = tenpin_benches::client::Client::connect(again.address()).unwrap();
        let queue = client.open("tests").unwrap();
        let counts = client.counts(queue).unwrap();
        assert_eq!(counts.visible + counts.in_flight, 1);
    }
}

/// Rule 14: files that somebody's clean-up took are no reason to begin anew.
#[test]
fn a_log_that_is_gone_is_not_taken_for_a_new_one() {
    let mut broker = TestBroker::start("fsync", "");
    let (mut client, queue) = broker.client_and_queue();
    client.send(queue, &[Outgoing { body: b"lost", delay_seconds: None }]).unwrap();
    broker.stop();
    let folder = broker.command.folder.clone();
    for entry in std::fs::read_dir(folder.join("shard-0")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let (status, printed) = broker.command.spawn().unwrap().wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(LOG_DAMAGED), "{printed}");
    assert!(printed.contains("shard-0"), "{printed}");
    let (code, text) = refused(&["journal", "verify", "--data-dir", folder.to_str().unwrap()]);
    assert_eq!(code, LOG_DAMAGED, "{text}");
}

/// Who runs it hears of it before the clients' users call.
#[test]
fn a_full_log_is_told_of() {
    let sizes = "log_bytes_max = 33554432\n";
    let broker = TestBroker::start("fsync", sizes);
    let (mut client, queue) = broker.client_and_queue();
    let body = vec![7; 500_000];
    wait_until("the log is full", || {
        client.send(queue, &[Outgoing { body: &body, delay_seconds: None }]).is_err()
    });
    broker.process().wait_for_line("the log has no room for more messages", PATIENCE).unwrap();
}

#[test]
fn a_second_broker_on_the_folder_is_refused() {
    let broker = TestBroker::start("fsync", "");
    let second = broker.command.spawn().unwrap();
    let (status, printed) = second.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(FOLDER_LOCKED), "{printed}");
    assert!(printed.contains(&broker.process().pid().to_string()), "it names the other: {printed}");
    let (_, _) = broker.client_and_queue();
}

#[test]
fn a_killed_broker_leaves_no_lock() {
    let mut broker = TestBroker::start("fsync", "");
    broker.kill_and_restart();
    broker.stop();
}

#[test]
fn an_address_in_use_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, text) = refused(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", &address]);
    assert_eq!(code, LISTEN, "{text}");
    assert!(text.contains(&address), "{text}");
}

/// Names are looked up, in flags, variables and the file.
#[test]
fn a_name_can_be_listened_at() {
    let mut broker = TestBroker::try_start_at("localhost:0", "epoll", "memory", "").unwrap();
    assert!(broker.address().ip().is_loopback() && broker.address().is_ipv4());
    let (_, _) = broker.client_and_queue();
    broker.stop();
    broker.command.sqs_listen = "localhost:0".into();
    broker.start_again("");
    assert!(broker.process().sqs_address(PATIENCE).unwrap().ip().is_loopback());
    let address = format!("localhost:{}", broker.address().port());
    let output = Command::new(program()).args(["stats", "--address", &address]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_name_that_means_nothing_is_refused_with_its_flag() {
    for flag in ["--listen", "--sqs-listen"] {
        let other = if flag == "--listen" { "--sqs-listen" } else { "--listen" };
        let (name, free) = ("no-such-host.invalid:7010", "127.0.0.1:0");
        let (code, text) = refused(&["serve", "--durability", "memory", flag, name, other, free]);
        assert_eq!(code, LISTEN, "{text}");
        assert!(text.contains(name) && text.contains(flag), "{text}");
    }
}

#[test]
fn flags_that_are_none_are_refused() {
    for arguments in [
        &["serve", "--no-such-flag"] as &[&str],
        &["serve", "--io", "carrier-pigeon"],
        &["serve", "--durability", "hope"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--sqs-listen", "nowhere"],
        &["no-such-command"],
    ] {
        let (code, text) = refused(arguments);
        assert_eq!(code, USAGE, "{arguments:?}: {text}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenpin.toml");
    for (text, names) in
        [("handshake_timeout = 3", "handshake_timeout"), ("segment_bytes = 5000", "segment_bytes")]
    {
        std::fs::write(&file, text).unwrap();
        let (code, said) = refused(&["serve", "--config", file.to_str().unwrap()]);
        assert_eq!(code, CONFIGURATION, "{text}: {said}");
        assert!(said.contains(names), "{said}");
    }
    let (code, said) = refused(&["serve", "--config", "/no/such/file.toml"]);
    assert_eq!(code, CONFIGURATION, "{said}");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let (code, text) =
        refused(&["serve", "--data-dir", file.join("data").to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, FOLDER_UNUSABLE, "{text}");
}

/// A variable whose name has a typing error would set nothing, and nobody would know.
#[test]
fn variables_that_set_nothing_are_named_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(program());
    // It says so, and then goes no further.
    command.args(["serve", "--durability", "memory", "--sqs-listen", "off", "--listen", &address]);
    let output = command.env("TENPIN_DURABILTY", "async").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(LISTEN), "{said}");
    assert!(said.contains("TENPIN_DURABILTY"), "{said}");
}

/// The lines at the start say where it listens, where data lies, which driver it took and how to try it.
#[test]
fn the_first_lines_say_what_one_needs() {
    let broker = TestBroker::try_start("auto", "fsync", "").unwrap();
    let folder = broker.command.folder.to_str().unwrap().to_owned();
    for text in ["listening on ", &folder, "try it: tenpin "] {
        broker.process().wait_for_line(text, PATIENCE).unwrap();
    }
    let printed = broker.process().printed();
    assert!(printed.contains("epoll") || printed.contains("io_uring"), "{printed}");
}

/// The log that a broker leaves is whole, and the tools say so.
#[test]
fn the_tools_read_what_a_broker_wrote() {
    let mut broker = TestBroker::start("fsync", "");
    let (mut client, queue) = broker.client_and_queue();
    client.send(queue, &[Outgoing { body: b"one for the log", delay_seconds: None }]).unwrap();
    broker.stop();
    for tool in ["inspect", "verify"] {
        let folder = broker.command.folder.to_str().unwrap();
        let output = Command::new(program()).args(["journal", tool, "--data-dir", folder]).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool}: {text}");
        assert!(text.contains("records in"), "{text}");
        if tool == "inspect" {
            for part in ["Sent ", "QueueState", "segment 1 in segment-00000001.log", "live: "] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
