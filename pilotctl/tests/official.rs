//! Drives our daemon with the official `pilotctl` of the official Python package.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The official program, installed once beside the build.
fn program() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-1.18.0");
    let program = target.join("pilotprotocol/bin/pilotctl");
    if !program.is_file() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&target)
            .arg("pilotprotocol==1.18.0");
        if !pip.status().is_ok_and(|s| s.success()) {
            assert!(std::env::var_os("CI").is_none(), "the official package is needed in CI");
            println!("skipped: pip cannot install the official package");
            return None;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
    }
    Some(program)
}

struct Official<'a> {
    program: &'a Path,
    home: PathBuf,
}

impl Official<'_> {
    fn command(&self, node: &Node, line: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--json").args(line).env("PILOT_SOCKET", node.home.join("pilot.sock")).env("HOME", &self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that must succeed; returns its data.
    fn ok(&self, node: &Node, line: &[&str]) -> Value {
        let output = self.command(node, line).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?}: {text}{errors}");
        let answer: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{line:?}: {e}: {text}"));
        assert_eq!(answer["status"], "ok", "{line:?}");
        answer["data"].clone()
    }

    /// Runs a command that must fail; returns its message.
    fn fails(&self, node: &Node, line: &[&str]) -> String {
        let output = self.command(node, line).output().unwrap();
        assert!(!output.status.success(), "{line:?}");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    }
}

#[test]
fn the_official_program_drives_our_daemon() {
    let Some(program) = program() else { return };
    let mut lab = Lab::new();
    let home = lab.folder.join("official-home");
    std::fs::create_dir_all(&home).unwrap();
    let (a, b) = (lab.node("node-a"), lab.node("node-b"));
    let pair = Pair { official: Official { program: &program, home }, a, b };
    pair.trust();
    pair.state();
    pair.streams();
    pair.datagrams();
    pair.mail_and_events(&lab.folder);
    pair.settings();
}

/// Two nodes that the official program drives.
struct Pair<'a> {
    official: Official<'a>,
    a: Node,
    b: Node,
}

impl Pair<'_> {
    /// Makes the two nodes trust each other.
    fn trust(&self) {
        let Self { official, a, b } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        assert_eq!(ok(&["find", "node-b"])["hostname"], "node-b");
        assert!(official.fails(a, &["ping", "node-b", "--timeout", "2s"]).contains("trust"));
        ok(&["handshake", "node-b", "hello there"]);
        until("the request arrives", || {
            official.ok(b, &["pending"])["pending"].as_array().is_some_and(|p| !p.is_empty())
        });
        let number = ok(&["info"])["node_id"].to_string();
        official.ok(b, &["approve", &number]);
        until("the approval arrives", || ok(&["trust"])["trusted"].as_array().is_some_and(|t| t.len() == 1));
    }

    /// Asks for the state of the daemon.
    fn state(&self) {
        let Self { official, a, .. } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        assert_eq!(ok(&["info"])["hostname"], "node-a");
        assert_eq!(ok(&["health"])["status"], "ok");
        assert_eq!(ok(&["daemon", "status"])["running"], true);
        ok(&["peers"]);
        ok(&["connections"]);
    }

    /// Opens streams.
    fn streams(&self) {
        let Self { official, a, b } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        assert_eq!(ok(&["ping", "node-b"])["timeout"], false);
        let address = ok(&["find", "node-b"])["address"].as_str().unwrap().to_owned();
        ok(&["traceroute", &address]);
        assert_eq!(ok(&["bench", "node-b"])["recv_bytes"], 1 << 20);
        assert_eq!(ok(&["connect", "node-b", "7", "--message", "hello"])["response"], "hello");
        assert_eq!(ok(&["send", "node-b", "7", "--data", "hello"])["response"], "hello");
        let receiver = official.command(b, &["recv", "5000", "--count", "1", "--timeout", "20s"]).spawn().unwrap();
        until("the port is bound", || b.json(&["info"])["ports"].as_array().unwrap().contains(&5000.into()));
        let mut sender = official.command(a, &["send", "node-b", "5000", "--data", "to you"]).spawn().unwrap();
        let output = receiver.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("to you"), "{output:?}");
        // The command waits for an answer.
        sender.kill().unwrap();
        sender.wait().unwrap();
        ok(&["disconnect", "12345"]);
    }

    /// Sends datagrams to a program that sends no command before it waits.
    fn datagrams(&self) {
        let Self { official, a, b } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        let mut listener =
            official.command(b, &["listen", "5300", "--count", "1", "--timeout", "20s"]).spawn().unwrap();
        until("the datagram arrives", || {
            ok(&["dgram", "node-b", "5300", "--data", "ping"]);
            listener.try_wait().unwrap().is_some()
        });
        let output = listener.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("ping"), "{output:?}");
    }

    /// Sends messages, a file and events.
    fn mail_and_events(&self, folder: &Path) {
        let Self { official, a, b } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        assert_eq!(ok(&["send-message", "node-b", "--data", "hello"])["ack"], "ACK TEXT 5 bytes");
        assert_eq!(ok(&["send-message", "node-b", "--data", "{}", "--type", "json"])["ack"], "ACK JSON 2 bytes");
        assert_eq!(b.json(&["inbox"])["total"], 2);
        let (file, bytes) = (folder.join("report.bin"), vec![7; 3_000_000]);
        std::fs::write(&file, &bytes).unwrap();
        let sent = ok(&["send-file", "node-b", file.to_str().unwrap()]);
        assert_eq!((&sent["verified"], &sent["transport"]), (&true.into(), &"filestream".into()));
        assert!(std::fs::read(b.home.join("received/report.bin")).unwrap() == bytes);
        let mut subscriber = official
            .command(a, &["subscribe", "node-b", "sensor", "--count", "1", "--timeout", "20s"])
            .spawn()
            .unwrap();
        until("the event arrives", || {
            ok(&["publish", "node-b", "sensor", "--data", "21.5"]);
            subscriber.try_wait().unwrap().is_some()
        });
        let output = subscriber.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("21.5"), "{output:?}");
    }

    /// Changes settings, and withdraws trust.
    fn settings(&self) {
        let Self { official, a, b } = self;
        let ok = |line: &[&str]| official.ok(a, line);
        assert_eq!(ok(&["set-hostname", "renamed"])["hostname"], "renamed");
        ok(&["clear-hostname"]);
        assert_eq!(ok(&["set-public"])["visibility"], "public");
        assert_eq!(ok(&["set-private"])["visibility"], "private");
        assert_eq!(ok(&["extras", "set-tags", "x", "y"])["tags"], serde_json::json!(["x", "y"]));
        ok(&["extras", "clear-tags"]);
        ok(&["clear-webhook"]);
        ok(&["network", "list"]);
        ok(&["prefer-direct", "node-b"]);
        ok(&["deregister"]);
        assert!(official.fails(a, &["rotate-key"]).contains("identity"));
        assert!(official.fails(a, &["managed", "status", "0"]).contains("no active managed networks"));
        let number = b.json(&["info"])["node_id"].to_string();
        ok(&["untrust", &number]);
        assert!(official.fails(a, &["untrust", &number]).contains("revoke"));
        assert!(official.fails(a, &["reject", "77"]).contains("77"));
    }
}

#[test]
fn our_own_program_sends_files_events_and_datagrams() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let file = lab.folder.join("notes.txt");
    std::fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let sent = a.json(&["send-file", "worker-node", file.to_str().unwrap()]);
    assert_eq!((&sent["bytes"], &sent["bytes_resumed"]), (&200_000.into(), &0.into()));
    assert_eq!(b.json(&["received"])["files"][0]["name"], "notes.txt");
    a.fails(&["send-file", "worker-node", "/nowhere/file"], 4, "not_found");
    a.fails(&["send-file", "nobody", file.to_str().unwrap()], 4, "not_found");

    let mut events = b.command(&["events", "--count", "1", "--timeout", "20"]);
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut subscriber = a.command(&["subscribe", "worker-node", "room.*", "--count", "1", "--timeout", "20"]);
    let mut subscriber = subscriber.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until("the event arrives", || {
        a.ok(&["publish", "worker-node", "room.heat", "--data", "21.5"]);
        b.ok(&["publish", ".", "room.heat", "--data", "21.5"]);
        subscriber.try_wait().unwrap().is_some()
    });
    let output = subscriber.wait_with_output().unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["topic"], &line["data"]), (&"room.heat".into(), &"21.5".into()));
    until("the message is told", || {
        a.ok(&["send-message", "worker-node", "--data", "hello"]);
        events.try_wait().unwrap().is_some()
    });
    let output = events.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"event\":"), "{output:?}");

    a.ok(&["dgram", "worker-node", "1000", "--data", "ping"]);
    a.fails(&["dgram", "nobody", "1000", "--data", "ping"], 5, "trust_required");
    a.fails(&["publish", "worker-node", "", "--data", "x"], 2, "invalid_argument");
}
