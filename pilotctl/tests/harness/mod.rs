//! Real daemons with real sockets in temporary folders; dropping the lab ends and removes all of them.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod agent;
pub(crate) mod net;

use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static LABS: AtomicU32 = AtomicU32::new(0);

/// A folder with a rendezvous and any number of nodes.
pub(crate) struct Lab {
    pub(crate) folder: PathBuf,
    rendezvous: Option<Child>,
    nodes: Vec<PathBuf>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let number = LABS.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("pilot-lab-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut lab = Self { folder, rendezvous: None, nodes: Vec::new() };
        lab.start_rendezvous();
        lab
    }

    pub(crate) fn start_rendezvous(&mut self) {
        let home = self.folder.join("rendezvous");
        let listen = self.endpoint().map_or("127.0.0.1:0".into(), |e| e.split_once('@').unwrap().1.to_owned());
        let _ = std::fs::remove_file(home.join("endpoint"));
        let child = pilotctl(&["rendezvous", "run", "--listen", &listen, "--home", home.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.rendezvous = Some(child);
        until("the rendezvous starts", || self.endpoint().is_some());
    }

    pub(crate) fn kill_rendezvous(&mut self) {
        let mut child = self.rendezvous.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn endpoint(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("rendezvous/endpoint")).ok()
    }

    pub(crate) fn node(&mut self, name: &str) -> Node {
        let node = Node { name: name.into(), home: self.folder.join(name), endpoint: self.endpoint().unwrap() };
        self.nodes.push(node.home.clone());
        node.start();
        node
    }

    /// Starts two nodes and lets their owners approve each other.
    pub(crate) fn friends(&mut self) -> (Node, Node) {
        let (a, b) = (self.node("primary-node"), self.node("worker-node"));
        befriend(&a, &b);
        (a, b)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for home in &self.nodes {
            let _ = pilotctl(&["daemon", "stop"]).env("PILOT_HOME", home).output();
        }
        if let Some(mut child) = self.rendezvous.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn befriend(a: &Node, b: &Node) {
    a.ok(&["handshake", &b.name]);
    until("the request arrives", || {
        b.json(&["pending"])["pending"].as_array().is_some_and(|p| p.iter().any(|p| p["hostname"] == a.name.as_str()))
    });
    b.ok(&["approve", &a.name]);
    until("the approval arrives", || {
        a.json(&["trust"])["trusted"].as_array().is_some_and(|t| t.iter().any(|t| t["hostname"] == b.name.as_str()))
    });
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    endpoint: String,
}

impl Node {
    pub(crate) fn start(&self) {
        self.start_with(&[]);
    }

    /// The command that starts the daemon.
    pub(crate) fn start_command(&self) -> Command {
        let words = ["daemon", "start", "--listen", "127.0.0.1:0", "--hostname", &self.name, "--rendezvous"];
        self.command(&[&words[..], &[&*self.endpoint]].concat())
    }

    /// Starts the daemon with more variables in its environment.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) {
        let output = self.start_command().envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = pilotctl(args);
        command.env("PILOT_HOME", &self.home);
        command
    }

    /// Runs a command without input.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command with input.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed with `--json`; returns its `data`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"], "ok");
        value["data"].clone()
    }

    /// Runs a command that must fail with this exit status and code; returns the error.
    pub(crate) fn fails(&self, args: &[&str], status: i32, code: &str) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let error: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(status), Some(code)), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?}: stdout is for data only");
        assert!(!error["message"].as_str().unwrap_or_default().is_empty());
        error
    }

    pub(crate) fn pid(&self) -> String {
        self.json(&["info"])["pid"].to_string()
    }

    /// Kills the daemon without warning.
    pub(crate) fn kill(&self) {
        let pid = self.pid();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        // All threads of the daemon are gone when the folder's lock is free.
        until("it is dead", || pilot_node::Home::open(&self.home).is_ok());
    }

    pub(crate) fn client(&self) -> pilot_node::Client {
        pilot_node::Client::connect(&self.home.join("pilot.sock")).unwrap()
    }

    /// A client that gets the node's events from now on.
    pub(crate) fn watcher(&self) -> pilot_node::Client {
        let mut client = self.client();
        client.watch(None).unwrap();
        client
    }
}

/// The next event of this kind; others are passed over.
pub(crate) fn next_event(watcher: &mut pilot_node::Client, kind: &str) -> Value {
    loop {
        let event = watcher.next_event(Some(Duration::from_secs(20))).unwrap();
        let event = event.unwrap_or_else(|| panic!("no event {kind} in 20 s")).data;
        if event["event"] == kind {
            return event;
        }
    }
}

pub(crate) fn pilotctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotctl"));
    command.args(args);
    for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "until {what}: 20 s have passed");
        std::thread::sleep(Duration::from_millis(20));
    }
}
