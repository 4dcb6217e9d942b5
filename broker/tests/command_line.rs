//! The command line as a script uses it: what it prints, and how it ends.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::http::Http;
use common::{PATIENCE, TestBroker, program};
use serde_json::json;

struct Shell {
    address: String,
}

impl Shell {
    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(program());
        command.args(arguments).env("TENPIN_ADDRESS", &self.address);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a command prints that succeeds.
    fn says(&self, arguments: &[&str]) -> String {
        text_of(self.run(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        self.says(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn text_of(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn shell_and_broker() -> (Shell, TestBroker) {
    let broker = TestBroker::start("memory", "minute_rules = false\n");
    (Shell { address: broker.address().to_string() }, broker)
}

#[test]
fn a_message_goes_all_the_way() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "orders", "VisibilityTimeout=60"]);
    let sent = shell.json(&["send", "orders", "hello", "--json", "--attribute", "items:Number=3"]);
    let received = shell.json(&["receive", "orders", "--json"]);
    assert_eq!(received[0]["message_id"], sent[0]["message_id"]);
    assert_eq!(received[0]["body"], "hello");
    assert_eq!(received[0]["attributes"]["items"]["value"], "3");
    let shown = &shell.json(&["queue", "show", "orders", "--json"])[0];
    assert_eq!(
        (&shown["visible"], &shown["in_flight"], &shown["delayed"]),
        (&0.into(), &1.into(), &0.into())
    );
    assert_eq!(shown["attributes"]["VisibilityTimeout"], "60");
    assert_eq!(shown["attributes"]["SqsManagedSseEnabled"], "true");
    shell.says(&["delete", "orders", received[0]["handle"].as_str().unwrap()]);
    assert_eq!(shell.json(&["queue", "show", "orders", "--json"])[0]["in_flight"], 0);
    assert!(shell.says(&["queue", "list"]).contains("orders"));
    shell.says(&["queue", "delete", "orders"]);
    assert_eq!(shell.json(&["queue", "list", "--json"]).len(), 0);
}

/// A handle is the same text at both fronts, so that one from a program's log can be used here.
#[test]
fn a_handle_of_the_sqs_endpoint_is_good_here_and_the_other_way() {
    let broker = TestBroker::start_with_sqs("memory", "");
    let shell = Shell { address: broker.address().to_string() };
    let mut http = Http::connect(broker.process().sqs_address(PATIENCE).unwrap());
    shell.says(&["queue", "create", "orders"]);
    shell.says(&["send", "orders", "one", "two"]);
    let received = http.json_ok("ReceiveMessage", json!({"QueueUrl": "orders"}));
    shell.says(&["delete", "orders", received["Messages"][0]["ReceiptHandle"].as_str().unwrap()]);
    let handle = &shell.json(&["receive", "orders", "--json"])[0]["handle"];
    http.json_ok("DeleteMessage", json!({"QueueUrl": "orders", "ReceiptHandle": handle}));
    let shown = &shell.json(&["queue", "show", "orders", "--json"])[0];
    assert_eq!((&shown["visible"], &shown["in_flight"]), (&0.into(), &0.into()));
}

#[test]
fn lines_become_messages_and_come_back() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "lines"]);
    let input: String = (0..2_500).map(|number| format!("line {number}\n")).collect();
    let sent = text_of(shell.run_with_input(&["send", "lines", "--lines", "--json"], &input));
    assert_eq!(sent.lines().count(), 2_500);
    assert!(sent.lines().all(|line| line.contains("\"message_id\"")));
    assert_eq!(shell.json(&["peek", "lines", "--max", "25", "--json"]).len(), 25);
    let received = shell.json(&["receive", "lines", "--max", "3000", "--delete", "--wait", "0", "--json"]);
    let bodies: Vec<_> = received.iter().map(|message| message["body"].as_str().unwrap()).collect();
    let expected: Vec<_> = input.lines().collect();
    assert_eq!(bodies, expected);
    assert_eq!(shell.json(&["stats", "lines", "--json"])[0]["InFlight"], 0);
}

#[test]
fn what_goes_wrong_has_a_code_and_words() {
    let broker = TestBroker::start_with_sqs("memory", "");
    let shell = Shell { address: broker.address().to_string() };
    let long = broker.folder().join("long");
    std::fs::write(&long, vec![b'x'; (1 << 20) + 1]).unwrap();
    let long = long.to_str().unwrap();
    let endpoint = broker.process().sqs_address(PATIENCE).unwrap().to_string();
    let nowhere = Shell { address: "127.0.0.1:1".into() };
    shell.says(&["queue", "create", "there"]);
    shell.says(&["queue", "create", "steps.fifo"]);
    for (shell, arguments, code, words) in [
        (&shell, &["send", "not-there", "x"][..], 11, "The specified queue does not exist"),
        (&shell, &["receive", "not-there"], 11, "`tenpin queue create not-there` makes it"),
        (&shell, &["delete", "there", "no handle!"], 2, "is no receipt handle"),
        (&shell, &["queue", "set", "there", "VisibilityTimeOut=3"], 2, "there are VisibilityTimeout"),
        (&shell, &["queue", "set", "there", "VisibilityTimeout=50000"], 11, "VisibilityTimeout"),
        (&shell, &["queue", "set", "there", "VisibilityTimeout=long"], 2, "is not a whole number"),
        (&shell, &["queue", "set", "there", "VisibilityTimeout=true"], 2, "is not a whole number"),
        (&shell, &["queue"], 2, "Usage"),
        (&shell, &["send", "there", "--file", "missing.txt"], 2, "missing.txt cannot be read"),
        (&shell, &["send", "there", "--lines", "--file", "missing.txt"], 2, "missing.txt cannot be read"),
        (&shell, &["send", "there", "--file", long], 11, "Message must be shorter than 1048576 bytes"),
        (&shell, &["stats", "--address", &endpoint], 10, "perhaps the SQS endpoint"),
        (&shell, &["send", "there", "x", "--lines"], 2, "cannot be used with"),
        (&shell, &["send", "steps.fifo", "x"], 2, "say with --group"),
        (&shell, &["send", "there"], 2, "body 1 of 1 is empty"),
        (&shell, &["send", "there", "x", "--attribute", "items"], 2, "give NAME=VALUE"),
        (&shell, &["send", "there", "x", "--attribute", "items:Number=many"], 11, "items"),
        (&shell, &["send", "there", "x", "--delay", "901"], 2, "0..=900"),
        (&shell, &["receive", "there", "--max", "0"], 2, "at least 1"),
        (&shell, &["receive", "there", "--wait", "21"], 2, "0..=20"),
        (&shell, &["hide", "there", "no handle!", "--for", "1"], 2, "is no receipt handle"),
        (&shell, &["hide", "there", "AAAA", "--for", "1"], 11, "handle"),
        (&shell, &["hide", "there", "AAAA", "--for", "43201"], 2, "0..=43200"),
        (&shell, &["queue", "tag", "there", "team"], 2, "give NAME=VALUE"),
        (&shell, &["queue", "tag", "there", "=x"], 11, "Tag keys must be"),
        (&shell, &["queue", "untag", "there"], 2, "<KEY>"),
        (&shell, &["stats", "--timeout", "0"], 2, "1..=86400"),
        (&shell, &["stats", "--address", "localhost"], 2, "give a host and a port"),
        (&shell, &["serve", "--address", "127.0.0.1:7010"], 2, "unexpected argument '--address'"),
        (&nowhere, &["stats"], 10, "start one with"),
    ] {
        let output = shell.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn the_configuration_is_explained_and_completions_are_printed() {
    let (shell, broker) = shell_and_broker();
    let file = broker.folder().join("bad.toml");
    std::fs::write(&file, "durability = \"fsync\"\nlistn = \"127.0.0.1:1\"\n").unwrap();
    let output = shell.run(&["config", "check", "--config", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("line 2") && said.contains("listn"), "{said}");
    std::fs::write(&file, "[[queues]]\nname = \"a b\"\n").unwrap();
    let output = shell.run(&["config", "check", "--config", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the queue \"a b\""), "{said}");
    assert!(shell.says(&["config", "show", "--durability", "async"]).contains("durability = \"async\""));
    assert!(shell.says(&["completions", "bash"]).contains("_tenpin"));
    assert!(shell.says(&["--version"]).starts_with("tenpin 0."));
}

/// Tags and policies are others' texts, and a terminal does what some characters say.
#[test]
fn what_others_have_written_cannot_steer_a_terminal() {
    let (shell, _broker) = shell_and_broker();
    let shown = shell.says(&["queue", "create", "orders", "--tag", "team=a\u{1b}[2J\nb"]);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.lines().any(|line| line.starts_with("Tag team") && line.ends_with("[2J b")), "{shown:?}");
}

#[test]
fn peek_tells_people_what_receive_does() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "orders"]);
    shell.says(&["send", "orders", "one", "--group", "customer-7", "--attribute", "items=3"]);
    let shown = shell.says(&["peek", "orders"]);
    assert!(shown.contains(", visible, sent ") && shown.contains(", group customer-7"), "{shown}");
    assert!(shown.contains("  items (String): 3"), "{shown}");
    shell.says(&["receive", "orders"]);
    let shown = shell.says(&["peek", "orders"]);
    assert!(shown.contains(", in flight (ends in ") && shown.contains(", received once"), "{shown}");
}

#[test]
fn a_received_message_is_hidden_for_longer_or_given_back() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "orders", "VisibilityTimeout=60"]);
    shell.says(&["send", "orders", "one", "two"]);
    let received = shell.json(&["receive", "orders", "--max", "2", "--json"]);
    let [one, two] = [0, 1].map(|place: usize| received[place]["handle"].as_str().unwrap());
    shell.says(&["hide", "orders", one, two, "--for", "0"]);
    assert_eq!(shell.json(&["peek", "orders", "--state", "visible", "--json"]).len(), 2);
    let again = shell.json(&["receive", "orders", "--max", "2", "--json"]);
    assert_eq!(again[0]["receive_count"], 2);
    shell.says(&["hide", "orders", again[0]["handle"].as_str().unwrap(), "--for", "40000"]);
    let shown = shell.says(&["peek", "orders"]);
    assert!(shown.contains("(ends in 11 h "), "{shown}");
}

#[test]
fn tags_are_added_replaced_and_removed() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "orders", "--tag", "team=billing"]);
    shell.says(&["queue", "tag", "orders", "team=shipping", "stage=test=1"]);
    let tags = || shell.json(&["queue", "show", "orders", "--json"])[0]["tags"].clone();
    assert_eq!(tags(), json!({ "team": "shipping", "stage": "test=1" }));
    shell.says(&["queue", "untag", "orders", "stage", "none"]);
    assert_eq!(tags(), json!({ "team": "shipping" }));
}

#[test]
fn dead_letters_are_moved_back() {
    let (shell, _broker) = shell_and_broker();
    let dead = &shell.json(&["queue", "create", "orders-dead", "--json"])[0];
    let arn = dead["attributes"]["QueueArn"].as_str().unwrap();
    let policy = format!("RedrivePolicy={{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":1}}");
    shell.says(&["queue", "create", "orders", "VisibilityTimeout=0", &policy]);
    shell.says(&["send", "orders", "one", "two", "three"]);
    let visible = |queue: &str| shell.json(&["queue", "show", queue, "--json"])[0]["visible"].clone();
    common::wait_until("all are dead letters", || {
        shell.says(&["receive", "orders", "--max", "10", "--wait", "0", "--json"]);
        visible("orders-dead") == 3
    });
    let task = &shell.json(&["queue", "redrive", "orders-dead", "--json"])[0];
    assert_eq!((&task["status"], &task["moved"]), (&"COMPLETED".into(), &3.into()), "{task}");
    assert_eq!((visible("orders-dead"), visible("orders")), (0.into(), 3.into()));
    let tasks = shell.json(&["queue", "redrive", "orders-dead", "--status", "--json"]);
    assert_eq!(tasks.len(), 1, "looking starts none");
    let output = shell.run(&["queue", "redrive", "orders-dead", "--cancel"]);
    assert_eq!(output.status.code(), Some(11), "nothing runs");
    let output = shell.run(&["queue", "redrive", "orders"]);
    assert_eq!(output.status.code(), Some(11), "it is no dead-letter queue");
}

#[test]
fn each_command_explains_itself_as_a_manual_does() {
    let (shell, _broker) = shell_and_broker();
    let talking = [
        "queue create",
        "queue list",
        "queue show",
        "queue set",
        "queue tag",
        "queue untag",
        "queue delete",
        "queue purge",
        "queue redrive",
        "send",
        "receive",
        "delete",
        "hide",
        "peek",
        "stats",
    ];
    let others =
        ["serve", "config check", "config show", "journal inspect", "journal verify", "journal reshard"];
    for command in talking.iter().chain(&others) {
        let words: Vec<_> = command.split(' ').collect();
        let help = shell.says(&[&words[..], &["--help"]].concat());
        let example = format!("  tenpin {command}");
        for part in ["Usage: ", "Options:", "Examples:", &example, "Exit codes:\n  0   "] {
            assert!(help.contains(part), "{part:?} is missing:\n{help}");
        }
        let is_talking = talking.contains(command);
        assert_eq!(help.contains("--address"), is_talking, "{help}");
        assert_eq!(help.contains("  11  "), is_talking, "{help}");
        assert_eq!(help.contains("TENPIN_ADDRESS"), is_talking || !command.starts_with("journal"), "{help}");
    }
    assert!(shell.says(&["--help"]).contains("  11  "));
}

/// Runs a command whose standard error is a terminal, and gives what stands on it.
fn on_a_terminal(shell: &Shell, arguments: &[&str], input: &str) -> (String, String) {
    use std::io::Read;
    use std::os::fd::{FromRawFd, OwnedFd};

    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both numbers are written by the call, and the other pointers are null or to what outlives it.
    let opened =
        unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call has just opened both, and nobody else has them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut command = Command::new(program());
    command.args(arguments).env("TENPIN_ADDRESS", &shell.address).env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    // It holds the other side of the terminal, whose end is to be seen.
    drop(command);
    let seen = std::thread::spawn(move || {
        let (mut seen, mut terminal) = (Vec::new(), std::fs::File::from(ours));
        // A terminal whose other side is closed gives an error, not an end.
        let _ = terminal.read_to_end(&mut seen);
        String::from_utf8_lossy(&seen).into_owned()
    });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let printed = text_of(child.wait_with_output().unwrap());
    (printed, seen.join().unwrap())
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "lines"]);
    let input: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
    let (printed, seen) = on_a_terminal(&shell, &["send", "lines", "--lines"], &input);
    assert_eq!(printed, "5000 sent\n");
    assert!(seen.contains("sent, ") && seen.contains("/s"), "{seen:?}");
    let (printed, seen) = on_a_terminal(&shell, &["send", "lines", "--lines", "--json"], &input);
    assert!(
        printed.lines().all(|line| line.starts_with("{\"message_id\"")),
        "the bar is not among the output"
    );
    assert!(seen.contains("sent, "), "{seen:?}");
    let piped = shell.run_with_input(&["send", "lines", "--lines"], &input);
    assert_eq!(String::from_utf8_lossy(&piped.stderr), "", "nobody watches");
}

#[test]
fn a_reader_that_goes_ends_a_command_in_good_order() {
    let (shell, _broker) = shell_and_broker();
    shell.says(&["queue", "create", "orders"]);
    shell.says(&["send", "orders", "a first order"]);
    for arguments in [
        &["queue", "show", "orders"][..],
        &["receive", "orders", "--delete"],
        &["send", "orders", "a second order"],
        &["completions", "bash"],
        &["config", "show"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program());
        command.args(arguments).env("TENPIN_ADDRESS", &shell.address).stdin(Stdio::null());
        let output =
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("standard output cannot be written"), "{arguments:?}: {said}");
    }
    let shown = &shell.json(&["queue", "show", "orders", "--json"])[0];
    assert_eq!(
        (&shown["visible"], &shown["in_flight"]),
        (&1.into(), &1.into()),
        "what could not be printed was not deleted"
    );
}
