//! The command line as a script uses it: what it prints, and how it ends.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::{TestBroker, program};

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
    shell.says(&["delete", "orders", received[0]["handle"].as_str().unwrap()]);
    assert_eq!(shell.json(&["queue", "show", "orders", "--json"])[0]["in_flight"], 0);
    assert!(shell.says(&["queue", "list"]).contains("orders"));
    shell.says(&["queue", "delete", "orders"]);
    assert_eq!(shell.json(&["queue", "list", "--json"]).len(), 0);
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
    let (shell, _broker) = shell_and_broker();
    let nowhere = Shell { address: "127.0.0.1:1".into() };
    shell.says(&["queue", "create", "there"]);
    for (shell, arguments, code, words) in [
        (&shell, &["send", "not-there", "x"][..], 11, "The specified queue does not exist"),
        (&shell, &["delete", "there", "no handle!"], 2, "is no receipt handle"),
        (&shell, &["queue", "set", "there", "VisibilityTimeOut=3"], 2, "there are VisibilityTimeout"),
        (&shell, &["queue", "set", "there", "VisibilityTimeout=50000"], 11, "VisibilityTimeout"),
        (&shell, &["queue"], 2, "Usage"),
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
    assert!(shell.says(&["config", "show", "--durability", "async"]).contains("durability = \"async\""));
    assert!(shell.says(&["completions", "bash"]).contains("_tenpin"));
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
    assert_eq!(output.status.code(), Some(2), "nothing runs");
    let output = shell.run(&["queue", "redrive", "orders"]);
    assert_eq!(output.status.code(), Some(11), "it is no dead-letter queue");
}

#[test]
fn each_command_explains_itself_with_examples() {
    let (shell, _broker) = shell_and_broker();
    for command in [
        &["queue", "create"][..],
        &["queue", "set"],
        &["queue", "redrive"],
        &["send"],
        &["receive"],
        &["delete"],
        &["peek"],
        &["stats"],
    ] {
        let help = shell.says(&[command, &["--help"]].concat());
        let example = format!("  tenpin {}", command.join(" "));
        assert!(help.contains("Examples:") && help.contains(&example), "{help}");
    }
}
