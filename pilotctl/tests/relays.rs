//! Two rendezvous that share nothing, one of which only relays: real processes on loopback. One node has IPv4 alone and the other
//! one IPv6 alone, so that no direct path is possible.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{pilotctl, until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

/// A rendezvous in its folder; it ends when this is dropped.
struct Relay(Child, String);

impl Relay {
    fn start(folder: &Path) -> Self {
        let run = ["rendezvous", "run", "--listen", "[::]:0", "--home", folder.to_str().unwrap()];
        let child = pilotctl(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let endpoint = || fs::read_to_string(folder.join("endpoint")).ok();
        until("it serves", || endpoint().is_some());
        Self(child, endpoint().unwrap())
    }

    /// The key, and the place on a loopback address.
    fn at(&self, host: &str) -> String {
        let (key, _) = self.1.split_once('@').unwrap();
        format!("{key}@{host}:{}", self.1.rsplit(':').next().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node in its folder; it ends when this is dropped.
struct Node(PathBuf);

impl Node {
    fn run(&self, args: &[&str]) -> Output {
        pilotctl(args).env("PILOT_HOME", &self.0).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.run(&["daemon", "stop"]);
    }
}

#[test]
fn when_one_of_two_relays_is_killed_peers_talk_over_the_other() {
    let folder = std::env::temp_dir().join(format!("pilot-relays-{}", std::process::id()));
    let has_both = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if !has_both {
        return; // a machine without IPv6
    }
    let mut first = Relay::start(&folder.join("first"));
    let second = Relay::start(&folder.join("second"));
    let nodes = [("one", "127.0.0.1"), ("two", "[::1]")].map(|(name, host)| {
        let node = Node(folder.join(name));
        let listen = format!("{host}:0");
        let start = ["daemon", "start", "--hostname", name, "--listen", &listen, "--rendezvous", &first.at(host)];
        let refused = node.run(&[&start[..], &["--relay", "nonsense"]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
        let twice = node.run(&[&start[..], &["--relay", &first.at(host)]].concat());
        assert_eq!(twice.status.code(), Some(2), "{}", String::from_utf8_lossy(&twice.stderr));
        node.ok(&[&start[..], &["--relay", &second.at(host)]].concat());
        node
    });
    let [one, two] = &nodes;
    one.ok(&["handshake", "two"]);
    until("the approval", || two.run(&["approve", "one"]).status.success());
    let ping = ["ping", "two", "--count", "1"];
    until("they talk", || one.run(&ping).status.success());
    let peers = one.ok(&["peers", "--json"]);
    assert!(peers.contains(r#""relay":true"#), "{peers}");
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    until("they talk over the other relay", || one.run(&ping).status.success());
    two.ok(&["ping", "one", "--count", "1"]);
    drop(nodes);
    drop(second);
    fs::remove_dir_all(folder).unwrap();
}
