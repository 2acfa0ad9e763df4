//! A machine changes its address while its streams are idle: real processes in network namespaces, which only root may make.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Net;
use harness::until;
use std::time::{Duration, Instant};

#[test]
fn an_idle_node_whose_machine_moves_is_found_at_once() {
    let Some(net) = Net::new(&["beacon", "mover", "stayer"]) else { return };
    let (_rendezvous, endpoint) = net.serve_rendezvous("beacon");
    for machine in ["mover", "stayer"] {
        net.ok(machine, &["daemon", "start", "--hostname", machine, "--rendezvous", &endpoint]);
    }
    net.ok("mover", &["handshake", "stayer"]);
    until("the approval", || net.run("stayer", &["approve", "mover", "--ports", "all"]).status.success());
    until("the tunnel", || net.run("stayer", &["ping", "mover", "--count", "1"]).status.success());
    std::thread::sleep(Duration::from_secs(2));

    let mover = net.name("mover");
    net.ip(&["-n", &mover, "addr", "del", "10.9.0.2/24", "dev", "eth0"]);
    net.ip(&["-n", &mover, "addr", "add", "10.9.0.77/24", "dev", "eth0"]);
    std::thread::sleep(Duration::from_millis(300));
    // The node that stayed sends first. Without a notice it would learn the new address with the next keepalive, some ten
    // seconds later.
    let begin = Instant::now();
    net.ok("stayer", &["ping", "mover", "--count", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}
