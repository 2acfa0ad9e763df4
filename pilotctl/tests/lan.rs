//! Two nodes of one network that have both moved, without a rendezvous: real processes in network namespaces, which only root may make.
#![cfg(not(feature = "portable-platform"))] // interfaces are told by Linux alone
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Net;
use harness::until;
use serde_json::Value;

#[test]
fn friends_on_one_network_find_each_other_without_a_rendezvous() {
    let Some(net) = Net::new(&["beacon", "ann", "bob"]) else { return };
    let (rendezvous, endpoint) = net.serve_rendezvous("beacon");
    let start = |name: &str, more: &[&str]| {
        net.ok(name, &[&["daemon", "start", "--hostname", name, "--rendezvous", &endpoint], more].concat());
    };
    let ping = || net.run("ann", &["ping", "bob", "--count", "1", "--timeout", "3"]).status.success();
    ["ann", "bob"].iter().for_each(|name| start(name, &[]));
    net.ok("ann", &["handshake", "bob"]);
    until("the approval", || net.run("bob", &["approve", "ann", "--ports", "all"]).status.success());
    until("the tunnel", ping);

    let stop = || ["ann", "bob"].iter().for_each(|name| net.ok(name, &["daemon", "stop"]));
    stop();
    drop(rendezvous);
    for (name, before, after) in [("ann", "10.9.0.2/24", "10.9.0.52/24"), ("bob", "10.9.0.3/24", "10.9.0.53/24")] {
        let machine = net.name(name);
        net.ip(&["-n", &machine, "addr", "del", before, "dev", "eth0"]);
        net.ip(&["-n", &machine, "addr", "add", after, "dev", "eth0"]);
    }
    ["ann", "bob"].iter().for_each(|name| start(name, &["--no-lan"]));
    assert!(!ping(), "neither knows where the other is");
    stop();

    ["ann", "bob"].iter().for_each(|name| start(name, &[]));
    until("they have met", ping);
    let said = net.run("bob", &["info", "--json"]).stdout;
    let info: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(info["data"]["lan"]["on"], true, "{info}");
}
