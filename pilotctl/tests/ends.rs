//! Streams of commands that end early, and commands that lose their output.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Output, Stdio};

/// A port that no service has.
const PORT: &str = "5005";

/// Two nodes that reach each other on every port.
fn friends(lab: &mut Lab) -> (Node, Node) {
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    a.ok(&["handshake", &b.name, "--ports", "all"]);
    until("the request arrives", || b.run(&["approve", &a.name, "--ports", "all"]).status.success());
    until("the approval arrives", || a.json(&["trust"])["total"] == 1);
    (a, b)
}

fn spawn(node: &Node, args: &[&str]) -> Child {
    node.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Repeats a command until the other side has bound the port.
fn when_bound(mut run: impl FnMut() -> Output) -> Output {
    let mut output = None;
    until("the port is bound", || {
        let made = run();
        let is_refused = String::from_utf8_lossy(&made.stderr).contains("connection_refused");
        let is_text_refused = String::from_utf8_lossy(&made.stderr).contains("refuses");
        output = Some(made);
        !is_refused && !is_text_refused
    });
    output.unwrap()
}

#[test]
fn connect_fails_with_the_count_that_was_acknowledged_when_the_reader_goes() {
    let mut lab = Lab::new();
    let (a, b) = friends(&mut lab);
    let input = vec![7; 60_000_000];
    // As text, of a reader that loses its output.
    let mut reader = spawn(&b, &["listen", PORT]);
    let mut stdout = reader.stdout.take().unwrap();
    let taker = std::thread::spawn(move || stdout.read_exact(&mut vec![0; 1_000_000]).unwrap());
    let output = when_bound(|| a.feed(&["connect", "worker-node", PORT], &input));
    taker.join().unwrap();
    reader.wait().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    let count = error.split("acknowledged by the other node: ").nth(1).and_then(|rest| rest.split(' ').next());
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {error}"));
    assert!((1_000_000..60_000_000).contains(&count), "{count}");

    // As JSON, of a reader that gives up, since more comes than it shows.
    let mut reader = spawn(&b, &["recv", PORT]);
    let output = when_bound(|| a.feed(&["connect", "worker-node", PORT, "--json"], &input[..18_000_000]));
    assert!(!reader.wait().unwrap().success());
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &error["code"]), (Some(1), &"connection_reset".into()));
    assert!(error["acknowledged"].as_u64().is_some_and(|count| count > 1_000_000), "{error}");
}

#[test]
fn a_command_that_is_killed_leaves_a_reset_and_never_half_a_message() {
    let mut lab = Lab::new();
    let (a, b) = friends(&mut lab);
    // The writer dies.
    let reader = spawn(&b, &["listen", PORT]);
    let mut writer = None;
    until("the stream stands", || {
        let mut child = spawn(&a, &["connect", "worker-node", PORT]);
        child.stdin.as_mut().unwrap().write_all(b"half").unwrap();
        until("connecting has an end", || {
            // The one that is refused has no stream there, though it may have one here for a moment.
            b.json(&["connections"])["total"] == 1 || child.try_wait().unwrap().is_some()
        });
        let stands = child.try_wait().unwrap().is_none();
        writer = Some(child);
        stands
    });
    let mut writer = writer.unwrap();
    let mut got = [0; 4];
    let mut reader = reader;
    reader.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let output = reader.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &got), (Some(1), b"half"), "{}", String::from_utf8_lossy(&output.stderr));

    // The same on port 1000, where a text becomes a message.
    let mut writer = spawn(&a, &["connect", "worker-node", "1000"]);
    writer.stdin.as_mut().unwrap().write_all(b"{\"action\": \"delete\", \"path\": \"/tmp/a").unwrap();
    until("the stream stands", || a.json(&["connections"])["total"] == 1);
    writer.kill().unwrap();
    writer.wait().unwrap();
    until("the stream is over", || b.json(&["connections"])["total"] == 0);
    let whole = a.feed(&["connect", "worker-node", "1000"], b"{\"action\": \"none\"}");
    assert!(whole.status.success());
    assert_eq!(b.json(&["inbox"])["total"], 1, "the whole one alone");
}

#[test]
fn listings_of_events_end_when_nobody_reads_them() {
    let mut lab = Lab::new();
    let (a, b) = friends(&mut lab);
    for command in [&["subscribe", ".", "*"][..], &["subscribe", "worker-node", "*"], &["events"]] {
        let node = if command[1..].first() == Some(&"worker-node") { &a } else { &b };
        let mut child = spawn(node, command);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let publish = || {
            b.ok(&["publish", ".", "topic", "--data", "x"]);
            a.ok(&["send-message", "worker-node", "--data", "x"]);
        };
        let reader = std::thread::spawn(move || {
            lines.read_line(&mut line).unwrap();
            line // the pipe is closed with `lines`
        });
        until("the first line", || {
            publish();
            reader.is_finished()
        });
        assert!(reader.join().unwrap().starts_with('{'));
        until("the end", || {
            publish();
            child.try_wait().unwrap().is_some()
        });
        assert!(child.wait().unwrap().success(), "{command:?}");
    }
}

#[test]
fn clearing_the_inbox_takes_what_it_shows() {
    let mut lab = Lab::new();
    let (a, b) = friends(&mut lab);
    for text in ["first", "second", "third"] {
        a.ok(&["send-message", "worker-node", "--data", text]);
    }
    let cleared = b.json(&["inbox", "--clear", "--limit", "2"]);
    assert_eq!((&cleared["cleared"], &cleared["messages"][0]["preview"]), (&2.into(), &"second".into()));
    let left = b.json(&["inbox"]);
    assert_eq!((&left["total"], &left["messages"][0]["preview"]), (&1.into(), &"first".into()));
    b.fails(&["inbox", "--all"], 2, "invalid_argument");
    a.ok(&["send-message", "worker-node", "--data", "fourth"]);
    assert_eq!(b.json(&["inbox", "--clear", "--all", "--limit", "1"])["cleared"], 2);
    assert_eq!(b.json(&["inbox", "--clear"])["cleared"], 0);
}
