//! A rendezvous that moves to another process, and one that is away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, pilotctl, until};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

/// Copies what lasts: the identity and the books.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, path) = (entry.file_name(), entry.path());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false if name == "lock" || name == "endpoint" => {}
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_drained_rendezvous_takes_its_nodes_to_its_successor() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("node-a"), lab.node("node-b"));
    let (first, second) = (lab.folder.join("rendezvous"), lab.folder.join("successor"));
    copy(&first, &second);
    let run = ["rendezvous", "run", "--listen", "127.0.0.1:0", "--home", second.to_str().unwrap()];
    let _successor = Successor(pilotctl(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let endpoint = || fs::read_to_string(second.join("endpoint")).ok();
    until("the successor serves", || endpoint().is_some());
    let endpoint = endpoint().unwrap();
    let (key, to) = endpoint.split_once('@').unwrap();
    assert!(lab.endpoint().unwrap().starts_with(key));
    let drain = |seconds: &str| {
        let words = ["rendezvous", "drain", "--to", to, "--seconds", seconds, "--home", first.to_str().unwrap()];
        pilotctl(&words).output().unwrap()
    };
    assert_eq!(drain("3601").status.code(), Some(2), "more than an hour");
    let drained = drain("1");
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    for (node, other) in [(&a, "node-b"), (&b, "node-a")] {
        until("the successor answers", || node.run(&["find", other]).status.success());
    }
    assert_eq!(drain("1").status.code(), Some(3), "it has ended");
}

/// The UDP port of a node.
fn port(node: &Node) -> u16 {
    let udp = node.json(&["info"])["udp"].as_str().unwrap().to_owned();
    udp.rsplit(':').next().unwrap().parse().unwrap()
}

/// True when a file of the node's folder holds this address on loopback, as a pin writes it.
fn knows_place(node: &Node, port: u16) -> bool {
    let wanted = [&[127, 0, 0, 1][..], &port.to_le_bytes()].concat();
    let has = |path: &Path| fs::read(path).is_ok_and(|bytes| bytes.windows(6).any(|six| six == wanted));
    let mut folders = vec![node.home.clone()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.is_file() && has(&path) => return true,
                false => {}
            }
        }
    }
    false
}

#[test]
fn without_the_rendezvous_peers_are_found_where_they_were_before_a_power_cut() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", &b.name, "--count", "1"]);
    let ports = [port(&a), port(&b)];
    until("the places are on disk", || knows_place(&a, ports[1]) && knows_place(&b, ports[0]));
    lab.kill_rendezvous();
    a.kill();
    b.kill();
    a.start();
    b.start();
    assert_eq!([port(&a), port(&b)], ports, "the ports of before");
    a.ok(&["ping", &b.name, "--count", "1"]);
    b.ok(&["ping", &a.name, "--count", "1"]);
    b.ok(&["daemon", "stop"]);
    // While another program has the port, the node takes another one.
    let other = std::net::UdpSocket::bind(("127.0.0.1", ports[1])).unwrap();
    b.start();
    assert_ne!(port(&b), ports[1]);
    assert!(b.ok(&["log"]).contains("port_taken"));
    b.ok(&["ping", &a.name, "--count", "1"]);
    drop(other);
}
