//! Daemons that are for one run alone: what they leave behind here, and at the rendezvous.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, pilotctl, until};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A command of a daemon with its socket and its temporary folder in `folder`.
fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = pilotctl(words);
    command.env("PILOT_HOME", folder.join("home")).env("XDG_RUNTIME_DIR", folder.join("runtime"));
    command.stdin(Stdio::null());
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_daemon_that_joins_for_one_run_leaves_nothing_behind() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let invite = a.json(&["invite", "--ports", "all"]);
    let code = invite["code"].as_str().unwrap();
    let folder = lab.folder.join("worker");
    std::fs::create_dir_all(folder.join("runtime")).unwrap();

    let words = ["daemon", "start", "--ephemeral", "--hostname", "worker-node", "--listen", "127.0.0.1:0"];
    let endpoint = lab.endpoint().unwrap();
    let started =
        command(&folder, &[&words[..], &["--rendezvous", &endpoint]].concat()).env("PILOT_JOIN", code).output();
    let started = started.unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let kept = || files(&folder.join("runtime"));
    assert!(kept().iter().any(|file| file.ends_with("identity")), "{:?}", kept());
    assert!(files(&folder.join("home")).iter().all(|file| file.extension().is_some_and(|end| end == "sock")));
    assert_eq!(a.ok(&["connect", "worker-node", "7", "--message", "hello"]), "hello");
    let found = a.json(&["find", "worker-node"])["address"].clone();
    assert!(found.is_string());

    let stopped = run(&folder, &["daemon", "stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    until("its folder is gone", || kept().is_empty());
    assert!(files(&folder.join("home")).is_empty(), "{:?}", files(&folder.join("home")));
    // The peer that has pinned it keeps the pin. For others it has never been there, and its name is free.
    a.ok(&["untrust", "worker-node"]);
    a.fails(&["find", "worker-node"], 4, "not_found");
    let c = lab.node("worker-node");
    assert!(c.json(&["info"])["name_taken"] != true);
    assert_eq!(a.json(&["find", "worker-node"])["hostname"], "worker-node");
    assert_ne!(a.json(&["find", "worker-node"])["address"], found);
}

/// A container that joins a group is no member of it any more when it ends.
#[test]
fn a_daemon_for_one_run_leaves_its_groups_at_its_end() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    a.json(&["group", "create", "fleet"]);
    let invite = a.json(&["group", "invite", "fleet"]);
    let folder = lab.folder.join("worker");
    std::fs::create_dir_all(folder.join("runtime")).unwrap();
    let words = ["daemon", "start", "--ephemeral", "--hostname", "worker-node", "--listen", "127.0.0.1:0"];
    let endpoint = lab.endpoint().unwrap();
    let started = command(&folder, &[&words[..], &["--rendezvous", &endpoint]].concat())
        .env("PILOT_JOIN", invite["code"].as_str().unwrap())
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let members = || a.json(&["group", "list"])["groups"][0]["members"].clone();
    until("it is a member", || members() == 2);
    let stopped = run(&folder, &["daemon", "stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    until("the group is without it", || members() == 1);
}

#[test]
fn the_end_of_a_daemon_for_one_run_does_not_wait_for_a_rendezvous_that_is_gone() {
    let mut lab = Lab::new();
    let folder = lab.folder.join("worker");
    std::fs::create_dir_all(folder.join("runtime")).unwrap();
    let log = lab.folder.join("worker.log");
    let words = ["daemon", "start", "--ephemeral", "--hostname", "worker-node", "--listen", "127.0.0.1:0"];
    let (endpoint, log_file) = (lab.endpoint().unwrap(), ["--log-file", log.to_str().unwrap()]);
    let started = run(&folder, &[&words[..], &["--rendezvous", &endpoint], &log_file].concat());
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    lab.kill_rendezvous();
    let stopped = run(&folder, &["daemon", "stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    until("its folder is gone", || files(&folder.join("runtime")).is_empty());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("not_given_back") && log.contains("stopped"), "{log}");
}
