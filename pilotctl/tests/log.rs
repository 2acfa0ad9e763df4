//! The log of real daemons.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Net;
use harness::{Lab, Node, befriend, until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Waits for a line of the node's log that has all these words, and gives it.
fn line_with(node: &Node, words: &[&str]) -> String {
    let mut found = None;
    until(&format!("the log of {} has {words:?}", node.name), || {
        let text = node.ok(&["log", "--lines", "1000"]);
        found = text.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        found.is_some()
    });
    found.unwrap()
}

fn hang_up(node: &Node) {
    assert!(Command::new("kill").args(["-HUP", &node.pid()]).status().unwrap().success());
}

#[test]
fn refusals_trust_and_restarts_are_told_with_peer_and_reason() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    assert!(line_with(&b, &[" started ", "version=", "udp=127.0.0.1:"]).contains(" info started "));
    line_with(&b, &["rendezvous_up", "addr="]);
    line_with(&b, &["trust peer=primary-node", "step=pending"]);
    line_with(&b, &["trust peer=primary-node", "step=approved by=owner"]);
    line_with(&a, &["trust peer=worker-node", "step=asked by=owner"]);
    line_with(&a, &["trust peer=worker-node", "step=pinned"]);
    // A knows that it may not connect, so the peer sees only what is sent without asking.
    a.fails(&["connect", "worker-node", "22", "--message", "x"], 5, "trust_required");
    a.ok(&["dgram", "worker-node", "22", "--data", "x"]);
    let refused = line_with(&b, &["refused"]);
    assert!(refused.ends_with(" warn refused peer=primary-node port=22 reason=not_granted"), "{refused}");
    a.kill();
    a.start();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    line_with(&b, &[" info peer_restarted peer=primary-node"]);
    b.ok(&["untrust", "primary-node"]);
    line_with(&b, &["trust peer=primary-node", "step=revoked by=owner"]);
    line_with(&a, &["trust peer=worker-node", "step=revoked"]);

    let warnings = b.ok(&["log", "--level", "warn"]);
    assert!(warnings.contains("refused") && !warnings.contains(" info "), "{warnings}");
    assert_eq!(b.ok(&["log", "--lines", "1"]).lines().count(), 1);
    let text = b.ok(&["log", "--json", "--level", "warn"]);
    let mut objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused = objects.rfind(|o| o["kind"] == "refused").unwrap();
    assert_eq!((&refused["port"], &refused["reason"]), (&22.into(), &"not_granted".into()), "{refused}");
    b.ok(&["daemon", "stop"]);
    line_with(&b, &["stopped uptime_s="]);
}

#[test]
fn bad_levels_forms_and_files_are_told() {
    let mut lab = Lab::new();
    let node = lab.node("single");
    for args in [["daemon", "start", "--log-level", "loud"], ["daemon", "run", "--log-format", "xml"]] {
        node.fails(&args, 2, "invalid_argument");
    }
    node.fails(&["log", "--level", "loud"], 2, "invalid_argument");
    node.fails(&["log", "--log-file", "/nonexistent/pilot.log"], 4, "not_found");
    node.ok(&["daemon", "stop"]);
    let endpoint = lab.endpoint().unwrap();
    let start = ["daemon", "start", "--rendezvous", &endpoint, "--log-file"];
    node.fails(&[&start[..], &["/nonexistent/pilot.log"]].concat(), 1, "internal");
    // The device on which every write fails as on a full disk.
    if Path::new("/dev/full").exists() {
        node.ok(&[&start[..], &["/dev/full"]].concat());
        assert_eq!(node.json(&["info"])["rendezvous"], "ready", "the daemon goes on");
    }
}

#[test]
fn a_hang_up_opens_the_log_anew_and_readers_follow() {
    let mut lab = Lab::new();
    let node = lab.node("single");
    let (log, moved) = (node.home.join("pilot.log"), node.home.join("moved"));
    let follow = ["log", "--follow", "--lines", "0"];
    let mut reader = harness::net::Running(node.command(&follow).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(reader.0.stdout.take().unwrap()).lines();
    node.ok(&["set-hostname", "single-node"]);
    fs::rename(&log, &moved).unwrap();
    hang_up(&node);
    until("the log is there again", || fs::read_to_string(&log).is_ok_and(|text| text.contains("log_reopened")));
    assert!(fs::read_to_string(&moved).unwrap().contains(" started "));
    assert!(lines.any(|line| line.unwrap().contains(" info log_reopened")), "the reader has changed over");
    hang_up(&node);
    assert!(lines.any(|line| line.unwrap().contains(" info log_reopened")));
    assert_eq!(node.json(&["info"])["hostname"], "single-node", "the daemon lives");
}

#[test]
fn a_hang_up_applies_settings_that_changed_and_names_those_that_wait() {
    let mut lab = Lab::new();
    let (node, other) = (lab.node("single"), lab.node("other"));
    node.fails(&["config", "--set", "log_level=loud"], 2, "invalid_argument");
    node.ok(&["config", "--set", "log_level=debug"]);
    hang_up(&node);
    line_with(&node, &[" info setting_changed setting=log_level"]);
    befriend(&node, &other);
    line_with(&node, &[" debug handshake peer=other"]);
    let endpoint = lab.endpoint().unwrap();
    let (key, _) = endpoint.split_once('@').unwrap();
    node.ok(&["config", "--set", "hostname=renamed"]);
    node.ok(&["config", "--set", &format!("rendezvous={key}@192.0.2.7")]);
    hang_up(&node);
    line_with(&node, &[" info setting_changed setting=hostname"]);
    line_with(&node, &[" warn setting_kept setting=rendezvous", "when the daemon starts again"]);
    assert_eq!(node.json(&["info"])["hostname"], "renamed");
    fs::write(node.home.join("config.json"), b"{").unwrap();
    hang_up(&node);
    line_with(&node, &[" warn setting_kept setting=config.json"]);
    assert_eq!(node.json(&["info"])["rendezvous"], "ready");
}

#[test]
fn a_daemon_in_the_foreground_logs_to_standard_error() {
    let lab = Lab::new();
    let home = lab.folder.join("foreground");
    let endpoint = lab.endpoint().unwrap();
    let run = ["daemon", "run", "--rendezvous", &endpoint, "--log-level", "debug", "--log-format", "json"];
    let mut daemon = harness::pilotctl(&run);
    let mut daemon = daemon.env("PILOT_HOME", &home).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines().map(|line| {
        let line = line.unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{line}"))
    });
    assert!(lines.any(|line| line["kind"] == "started"));
    assert!(lines.any(|line| line["kind"] == "rendezvous_up" && line["level"] == "info"));
    assert!(Command::new("kill").args(["-HUP", &daemon.id().to_string()]).status().unwrap().success());
    assert!(lines.any(|line| line["kind"] == "log_reopened"), "it has no terminal to end with");
    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    assert!(lines.any(|line| line["kind"] == "stopped"));
    assert!(daemon.wait().unwrap().success());
    assert!(!home.join("pilot.log").exists());
}

/// Prints a log when the test is over, also when it has failed.
struct Shown(PathBuf);

impl Drop for Shown {
    fn drop(&mut self) {
        println!("{}", fs::read_to_string(&self.0).unwrap_or_default());
    }
}

/// Two daemons, each on a machine of its own: a refusal, a path that changes, a restart and a full disk. The log is printed.
#[test]
fn a_run_with_trouble_can_be_read_in_the_log() {
    let Some(net) = Net::new(&["beacon", "mover", "stayer"]) else { return };
    let (_rendezvous, endpoint) = net.serve_rendezvous("beacon");
    let start = |machine: &str| {
        // The books are on a small disk of their own, which only this daemon sees.
        let books = net.folder.join(machine).join("books");
        let mount = "mkdir -p \"$0\" && mount -t tmpfs -o size=256k tmpfs \"$0\" && exec \"$@\"";
        let inner = net.command(machine, &["daemon", "start", "--hostname", machine, "--rendezvous", &endpoint]);
        let mut words = inner.get_args();
        let mut command = Command::new(inner.get_program());
        command.args(words.by_ref().take(3)).args(["sh", "-c", mount, books.to_str().unwrap()]).args(words);
        command.env("PILOT_HOME", net.folder.join(machine));
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    net.ok("mover", &["daemon", "start", "--hostname", "mover", "--rendezvous", &endpoint]);
    start("stayer");
    let _shown = Shown(net.folder.join("stayer/pilot.log"));
    let log = || String::from_utf8(net.run("stayer", &["log", "--lines", "1000"]).stdout).unwrap();
    let until_log = |words: &[&str]| {
        until(&format!("the log has {words:?}"), || log().lines().any(|l| words.iter().all(|word| l.contains(word))));
    };
    net.ok("mover", &["handshake", "stayer"]);
    until("the approval", || net.run("stayer", &["approve", "mover"]).status.success());
    until("the tunnel", || net.run("mover", &["ping", "stayer", "--count", "1"]).status.success());

    assert!(!net.run("mover", &["connect", "stayer", "22", "--message", "x"]).status.success());
    assert!(net.run("mover", &["dgram", "stayer", "22", "--data", "x"]).status.success());
    until_log(&["warn refused peer=mover port=22 reason=not_granted"]);

    let mover = net.name("mover");
    net.ip(&["-n", &mover, "addr", "del", "10.9.0.2/24", "dev", "eth0"]);
    net.ip(&["-n", &mover, "addr", "add", "10.9.0.77/24", "dev", "eth0"]);
    until("the mover is reached again", || net.run("mover", &["ping", "stayer", "--count", "1"]).status.success());
    until_log(&["path_chosen peer=mover", "10.9.0.77"]);

    let info = net.run("mover", &["info", "--json"]).stdout;
    let pid = serde_json::from_slice::<Value>(&info).unwrap()["data"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    until("it is dead", || pilot_node::Home::open(&net.folder.join("mover")).is_ok());
    net.ok("mover", &["daemon", "start", "--hostname", "mover", "--rendezvous", &endpoint]);
    until("the mover is back", || net.run("mover", &["ping", "stayer", "--count", "1"]).status.success());
    until_log(&["peer_restarted peer=mover"]);

    let big = net.folder.join("big");
    fs::write(&big, vec![b'x'; 60_000]).unwrap();
    let send = || {
        let file = big.to_str().unwrap();
        net.run("mover", &["send-message", "stayer", "--data-file", file, "--no-queue", "--timeout", "5"])
    };
    until("the disk is full", || {
        let sent = send();
        println!("{}", String::from_utf8_lossy(&sent.stderr));
        !sent.status.success()
    });
    until_log(&["error disk_failed reason=", "No space left"]);
    let info = net.run("stayer", &["info", "--json"]).stdout;
    let pid = serde_json::from_slice::<Value>(&info).unwrap()["data"]["pid"].to_string();
    let books = net.folder.join("stayer/books");
    let remount = ["-t", &pid, "-m", "mount", "-o", "remount,size=8m", books.to_str().unwrap()];
    assert!(Command::new("nsenter").args(remount).status().unwrap().success());
    until("the disk takes messages", || send().status.success());
    until_log(&["info disk_recovered failures="]);
    net.ok("stayer", &["daemon", "stop"]);
}
