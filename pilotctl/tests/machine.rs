//! Checks what this machine may do to a daemon and its commands: folders of others, other users' sockets, processes that hang,
//! disks and descriptors that run out, names that are no text.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, pilotctl, until};
use pilot_node::Request;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A daemon in the foreground, which ends with the value.
struct Daemon(Child);

impl Daemon {
    fn run(command: &mut Command, socket: &Path) -> Self {
        let daemon = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the daemon serves", || UnixStream::connect(socket).is_ok());
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_daemon(lab: &Lab) -> Command {
    pilotctl(&["daemon", "run", "--listen", "127.0.0.1:0", "--rendezvous", &lab.endpoint().unwrap()])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn error_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stderr).unwrap_or_default()
}

#[test]
fn a_home_that_others_use_is_left_as_it_is() {
    let lab = Lab::new();
    let shared = lab.folder.join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    let _daemon = Daemon::run(run_daemon(&lab).env("PILOT_HOME", &shared), &shared.join("pilot.sock"));
    let info = pilotctl(&["info"]).env("PILOT_HOME", &shared).output().unwrap();
    assert!(info.status.success());
    assert_eq!(mode(&shared), 0o1777);
    for entry in fs::read_dir(&shared).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{} is closed to others", path.display());
    }
}

#[test]
fn a_volume_of_another_owner_and_a_service_without_a_home_will_do() {
    if !geteuid().is_root() {
        return println!("needs root");
    }
    let lab = Lab::new();
    fs::set_permissions(&lab.folder, Permissions::from_mode(0o755)).unwrap();
    let volume = lab.folder.join("volume");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::chown(&volume, None, Some(4001)).unwrap();
    fs::set_permissions(&volume, Permissions::from_mode(0o2770)).unwrap();
    let service = |command: &mut Command| {
        command.env_remove("HOME").env_remove("XDG_RUNTIME_DIR").uid(4001).gid(4001);
    };
    for variable in ["PILOT_HOME", "STATE_DIRECTORY"] {
        let mut command = run_daemon(&lab);
        service(command.env("HOME", "/").env(variable, &volume));
        let daemon = Daemon::run(&mut command, &volume.join("pilot.sock"));
        let mut info = pilotctl(&["info"]);
        service(info.env(variable, &volume));
        assert!(info.output().unwrap().status.success(), "{variable}");
        assert_eq!(mode(&volume), 0o2770);
        drop(daemon);
    }
    let mut command = pilotctl(&["daemon", "start", "--json"]);
    service(command.env("HOME", "/"));
    let output = command.output().unwrap();
    assert!(error_of(&output)["hint"].as_str().unwrap().contains("PILOT_HOME"), "{output:?}");
}

/// What cannot be dumped belongs to root in `/proc`, so that no process of its own user looks into it.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_daemon_and_rendezvous_is_kept_private() {
    let lab = Lab::new();
    fs::set_permissions(&lab.folder, Permissions::from_mode(0o755)).unwrap();
    let user = if geteuid().is_root() { 4001 } else { geteuid().as_raw() };
    let home = |name: &str| {
        let home = lab.folder.join(name);
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(user), None).unwrap();
        home
    };
    let (node, server) = (home("private-node"), home("private-rendezvous"));
    let daemon = Daemon::run(run_daemon(&lab).env("PILOT_HOME", &node).uid(user), &node.join("pilot.sock"));
    let mut run = pilotctl(&["rendezvous", "run", "--listen", "127.0.0.1:0", "--home", server.to_str().unwrap()]);
    let quiet = run.uid(user).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let rendezvous = Daemon(quiet.spawn().unwrap());
    until("the rendezvous serves", || server.join("endpoint").exists());
    for process in [&daemon.0, &rendezvous.0] {
        let folder = PathBuf::from(format!("/proc/{}", process.id()));
        let limits = fs::read_to_string(folder.join("limits")).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().next(), Some("0"), "{limits}");
        assert_ne!(fs::metadata(folder.join("limits")).unwrap().uid(), user, "it can be dumped");
    }
}

/// Removes the newest part of the books in a folder.
fn lose_newest(books: &Path) {
    let files = fs::read_dir(books).unwrap().map(|entry| entry.unwrap().path());
    let is_part = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|n| n.parse::<u32>().is_ok());
    fs::remove_file(files.filter(is_part).max().unwrap()).unwrap();
}

#[test]
fn a_daemon_and_a_rendezvous_with_losses_start_only_when_that_is_accepted() {
    let mut lab = Lab::new();
    let node = lab.node("primary-node");
    let key = node.json(&["info"])["public_key"].clone();
    node.ok(&["daemon", "stop"]);
    lose_newest(&node.home.join("books"));
    let start = |more: &[&str]| node.start_command().args(more).stdin(Stdio::null()).output().unwrap();
    let refused = start(&["--json"]);
    let error = error_of(&refused);
    assert_eq!((refused.status.code(), error["code"].as_str()), (Some(1), Some("internal")), "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("is missing"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("--accept-loss"), "{error}");
    assert!(start(&["--accept-loss"]).status.success());
    assert_eq!(node.json(&["info"])["public_key"], key);
    node.ok(&["daemon", "stop"]);
    assert!(start(&[]).status.success(), "what is left is whole");

    lab.kill_rendezvous();
    let home = lab.folder.join("rendezvous");
    lose_newest(&home.join("books"));
    let words = ["rendezvous", "run", "--listen", "127.0.0.1:0", "--home", home.to_str().unwrap()];
    let refused = pilotctl(&words).arg("--json").output().unwrap();
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--accept-loss"),
        "{refused:?}"
    );
    fs::remove_file(home.join("endpoint")).unwrap();
    let mut run = pilotctl(&words);
    let quiet = run.arg("--accept-loss").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _rendezvous = Daemon(quiet.spawn().unwrap());
    until("the rendezvous serves", || home.join("endpoint").exists());
}

/// A daemon that is stopped with the value.
struct Started(PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = pilotctl(&["daemon", "stop"]).env("PILOT_HOME", &self.0).output();
    }
}

#[test]
fn a_machine_whose_name_belongs_to_another_key_is_registered_and_told_the_name() {
    let mut lab = Lab::new();
    let first = lab.node("build-box");
    let second = Started(lab.folder.join("reinstalled"));
    assert!(first.start_command().env("PILOT_HOME", &second.0).stdin(Stdio::null()).output().unwrap().status.success());
    let ask = |words: &[&str]| pilotctl(words).env("PILOT_HOME", &second.0).output().unwrap().stdout;
    let info = || serde_json::from_slice::<Value>(&ask(&["info", "--json"])).unwrap()["data"].clone();
    until("it has an address", || info()["rendezvous"] == "ready");
    let warnings = info()["warnings"].to_string();
    assert!(warnings.contains("the hostname \\\"build-box\\\" belongs to another node"), "{warnings}");
    let log = String::from_utf8(ask(&["log"])).unwrap();
    assert!(log.lines().any(|line| line.contains("name_taken")), "{log}");
    let address = info()["address"].clone();
    assert!(address.is_string());
    assert_ne!(first.json(&["find", "build-box"])["address"], address, "the name is that of the first one");
    // The way out that the warning names.
    assert!(warnings.contains("pilotctl set-hostname"), "{warnings}");
    ask(&["set-hostname", "build-box-2"]);
    until("it has another name", || info()["warnings"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(first.json(&["find", "build-box-2"])["address"], address);
}

#[test]
fn nothing_is_said_to_another_users_socket() {
    if !geteuid().is_root() {
        return println!("needs root");
    }
    let lab = Lab::new();
    fs::set_permissions(&lab.folder, Permissions::from_mode(0o755)).unwrap();
    let (home, shared) = (lab.folder.join("home"), lab.folder.join("shared"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(&home, Some(4002), Some(4002)).unwrap();
    let serve = |socket: &Path| {
        let mut command = run_daemon(&lab);
        command.env("PILOT_HOME", &home).env("PILOT_SOCKET", socket).uid(4002).gid(4002);
        let daemon = Daemon::run(&mut command, socket);
        fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
        daemon
    };
    let ask = |socket: &Path, uid: u32| {
        let mut command = pilotctl(&["send-message", "beta", "--data", "secret", "--json"]);
        command.env("PILOT_SOCKET", socket).uid(uid).output().unwrap()
    };
    let socket = shared.join("pilot.sock");
    let impostor = serve(&socket);
    for uid in [0, 4001] {
        let output = ask(&socket, uid);
        let error = error_of(&output);
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(8), Some("already_exists")), "{output:?}");
        assert!(error["message"].as_str().unwrap().contains("served by user 4002"), "{error}");
    }
    drop(impostor);
    // Root may manage the daemon of a service in the folder of the service.
    let socket = home.join("pilot.sock");
    let _service = serve(&socket);
    assert_eq!(ask(&socket, 4002).status.code(), Some(4), "it knows no beta");
    assert_eq!(ask(&socket, 0).status.code(), Some(4));
    assert_eq!(ask(&socket, 4001).status.code(), Some(8));
}

#[test]
fn a_daemon_that_hangs_is_told_and_ended_by_force() {
    let mut lab = Lab::new();
    let node = lab.node("stuck");
    let pid: i32 = node.pid().parse().unwrap();
    assert_eq!(node.json(&["daemon", "status"])["state"], "running");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    let status = node.json(&["daemon", "status"]);
    assert_eq!(
        (&status["state"], &status["responsive"], &status["running"]),
        (&"hung".into(), &false.into(), &true.into())
    );
    if cfg!(target_os = "linux") {
        assert_eq!(status["pid"], pid);
        let error = node.fails(&["daemon", "stop"], 6, "timeout");
        assert!(error["message"].as_str().unwrap().contains(&format!("(pid {pid}) is hung")), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("--force"));
        assert_eq!(node.json(&["daemon", "stop", "--force"])["status"], "killed");
    } else {
        node.fails(&["daemon", "status", "--check"], 6, "timeout");
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    until("it is gone", || node.json(&["daemon", "status"])["state"] == "stopped");
    node.start();
    assert_eq!(node.json(&["daemon", "stop", "--force"])["status"], "stopped", "one that answers ends in order");
}

#[test]
fn a_daemon_is_stopped_by_its_socket_alone() {
    let mut lab = Lab::new();
    let other = lab.node("other");
    let (home, socket) = (lab.folder.join("elsewhere"), lab.folder.join("named.sock"));
    let mut daemon = Daemon::run(run_daemon(&lab).env("PILOT_HOME", &home).env("PILOT_SOCKET", &socket), &socket);
    // The home of this command is another daemon's.
    let stopped = other.command(&["daemon", "stop"]).env("PILOT_SOCKET", &socket).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!pilot_node::Home::is_locked(&home), "another may start there at once");
    assert!(daemon.0.wait().unwrap().success());
    other.ok(&["info"]);
}

#[test]
fn a_client_that_came_when_no_descriptor_was_left_is_served_later() {
    let lab = Lab::new();
    let home = lab.folder.join("few");
    let line = format!(
        "ulimit -n 60; exec {} daemon run --listen 127.0.0.1:0 --rendezvous {}",
        env!("CARGO_BIN_EXE_pilotctl"),
        lab.endpoint().unwrap()
    );
    let socket = home.join("pilot.sock");
    let _daemon = Daemon::run(Command::new("sh").args(["-c", &line]).env("PILOT_HOME", &home), &socket);
    let full: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut last = pilot_node::Client::connect(&socket).unwrap();
    let early = last.request(&Request::Version, &[], Some(Duration::from_millis(500)));
    assert!(early.is_err(), "it waits for a descriptor");
    drop(full);
    // No other client comes.
    last.request(&Request::Version, &[], Some(Duration::from_secs(20))).unwrap();
}

/// A thousand connections of programs and more are ordinary, and shells allow 1024 descriptors.
#[test]
#[cfg(target_os = "linux")]
fn a_daemon_takes_as_many_descriptors_as_the_system_allows() {
    let lab = Lab::new();
    let home = lab.folder.join("many");
    let line = format!(
        "ulimit -Sn 300; ulimit -Hn 700; exec {} daemon run --listen 127.0.0.1:0 --rendezvous {}",
        env!("CARGO_BIN_EXE_pilotctl"),
        lab.endpoint().unwrap()
    );
    let mut command = Command::new("bash");
    let daemon = Daemon::run(command.args(["-c", &line]).env("PILOT_HOME", &home), &home.join("pilot.sock"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.0.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["700", "700"]);
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["send-message", "worker-node", "--data", "hello"]);
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for line in [
        &["info"][..],
        &["inbox", "read", "1"],
        &["inbox", "--json"],
        &["--help"],
        &["log"],
        &["connect", "primary-node"],
    ] {
        if line == ["log"] && !b.home.join("pilot.log").exists() {
            continue;
        }
        let mut command = b.command(line);
        if line[0] == "connect" {
            // Port 1000 of the other node sends nothing, port 7 what it gets.
            command.arg("7");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may have ended by now.
        let _ = child.stdin.take().unwrap().write_all(b"echo\n");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {text}");
        assert!(text.contains("standard output: No space left"), "{line:?}: {text}");
    }
    // Standard error may be lost without harm.
    let lost = a.command(&["info", "--frobnicate"]).stderr(full()).output().unwrap();
    assert_eq!(lost.status.code(), Some(2));
}

#[test]
fn listings_end_with_their_reader_also_when_nothing_comes() {
    let mut lab = Lab::new();
    let (a, _b) = lab.friends();
    for line in [&["events"][..], &["subscribe", "worker-node", "*"], &["subscribe", ".", "*"], &["log", "--follow"]] {
        let mut child =
            a.command(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        until("the end", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success(), "{line:?}");
    }
}

#[test]
fn arguments_that_are_no_text_and_pipes_without_a_writer_are_refused() {
    let mut lab = Lab::new();
    let (a, _b) = lab.friends();
    let file = lab.folder.join(OsStr::from_bytes(b"caf\xe9.txt"));
    fs::write(&file, b"x").unwrap();
    let output = a.command(&["send-file", "worker-node", "--json"]).arg(&file).output().unwrap();
    let error = error_of(&output);
    assert_eq!((output.status.code(), error["code"].as_str()), (Some(2), Some("invalid_argument")), "{output:?}");
    assert!(error["message"].as_str().unwrap().contains("caf\\xE9.txt"), "{error}");
    let mut start = a.command(&["daemon", "run", "--json"]);
    let output = start.env("PILOT_HOSTNAME", OsStr::from_bytes(b"caf\xe9")).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "it runs already; the variable is another command's: {output:?}");

    let pipe: PathBuf = lab.folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    a.fails(&["send-file", "worker-node", pipe], 2, "invalid_argument");
    a.fails(&["send-file", "worker-node", "/dev/zero"], 2, "invalid_argument");
    a.fails(&["send-message", "worker-node", "--data-file", pipe, "--timeout", "300ms"], 6, "timeout");
}

#[test]
fn what_peers_write_cannot_act_on_a_terminal() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{2028}\nverified  true";
    a.ok(&["handshake", "worker-node", hostile]);
    until("the request arrives", || b.json(&["pending"])["pending"].as_array().is_some_and(|p| !p.is_empty()));
    let note = b.json(&["pending"])["pending"][0]["justification"].clone();
    assert!(note.as_str().unwrap().contains("\u{202e}\u{2028}"), "JSON means the same: {note}");
    for line in [&["pending"][..], &["pending", "--json"], &["log", "--json"]] {
        let shown = b.ok(line);
        let is_harmful = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!shown.contains(is_harmful), "{line:?}: {shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("verified")), "{shown:?}");
    }
    b.ok(&["approve", "primary-node"]);
    until("the approval arrives", || a.json(&["trust"])["total"] == 1);
    // What comes while a command watches.
    let watch = |args: &[&str]| b.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut watching = [watch(&["events", "--count", "2"]), watch(&["subscribe", ".", "*", "--count", "1", "--json"])];
    until("both have seen enough", || {
        a.ok(&["publish", "worker-node", "t", "--data", hostile]);
        a.ok(&["send-message", "worker-node", "--data", hostile]);
        watching.iter_mut().all(|child| child.try_wait().unwrap().is_some())
    });
    let seen = watching.map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    let listed = [&["inbox"][..], &["inbox", "--json"], &["peers"], &["log"]].map(|line| b.ok(line));
    for shown in seen.iter().chain(&listed) {
        let is_harmful = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!shown.is_empty() && !shown.contains(is_harmful), "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("verified")), "{shown:?}");
    }
    assert!(seen[1].contains("\\u202e\\u2028"), "what came is shown, as JSON writes it: {seen:?}");
}
