//! Machines with IPv6 alone, with both families, with two addresses or interfaces, and on a network that translates: real
//! processes in network namespaces, which only root may make.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::{Net, Running};
use harness::until;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Networks of one process have the same names.
static NETWORK: Mutex<()> = Mutex::new(());

fn net() -> Option<(MutexGuard<'static, ()>, Net)> {
    let guard = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    Net::new(&["beacon", "one", "two"]).map(|net| (guard, net))
}

/// Takes the machines' IPv4 addresses, and gives them IPv6 ones: `beacon` has `2001:db8:9::1` and is everybody's router.
fn make_ipv6_only(net: &Net) {
    for (i, machine) in ["beacon", "one", "two"].iter().enumerate() {
        let name = net.name(machine);
        net.ip(&["-n", &name, "addr", "flush", "dev", "eth0", "scope", "global"]);
        net.ip(&["-n", &name, "addr", "add", &format!("2001:db8:9::{}/64", i + 1), "dev", "eth0", "nodad"]);
        if *machine != "beacon" {
            net.ip(&["-n", &name, "route", "add", "default", "via", "2001:db8:9::1"]);
        }
    }
}

/// Starts a rendezvous with the listen address of `beacon`, and two nodes that name it by `host`; they talk.
fn meet(net: &Net, listen: Option<&str>, host: &str) -> Running {
    let (rendezvous, endpoint) = net.serve_rendezvous_at("beacon", listen);
    let (key, _) = endpoint.split_once('@').unwrap();
    for machine in ["one", "two"] {
        net.ok(
            machine,
            &["daemon", "start", "--hostname", machine, "--rendezvous", &format!("{key}@{host}"), "--no-lan"],
        );
        let info = net.run(machine, &["info", "--json"]);
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(info.contains(r#""rendezvous":"ready""#), "{info}");
    }
    net.ok("one", &["handshake", "two"]);
    until("the approval", || net.run("two", &["approve", "one", "--ports", "all"]).status.success());
    until("the tunnel", || net.run("one", &["ping", "two", "--count", "1"]).status.success());
    rendezvous
}

/// Drops what `one` and `two` send to each other by the addresses by which the rendezvous sees them.
fn cut_ipv4(net: &Net) {
    for (machine, other) in [("one", "10.9.0.3"), ("two", "10.9.0.2")] {
        let name = net.name(machine);
        let nft = |words: &[&str]| net.ip(&[&["netns", "exec", &name, "nft", "add"], words].concat());
        nft(&["table", "ip", "cut"]);
        nft(&["chain", "ip", "cut", "input", "{ type filter hook input priority 0; }"]);
        nft(&["rule", "ip", "cut", "input", "ip", "saddr", other, "drop"]);
    }
}

/// Waits until the path from `one` to `two` begins so.
fn until_path(net: &Net, path: &str) {
    let told = || String::from_utf8_lossy(&net.run("one", &["peers", "--json"]).stdout).into_owned();
    until(path, || net.run("one", &["ping", "two", "--count", "1"]).status.success() && told().contains(path));
}

#[test]
fn machines_with_ipv6_alone_reach_each_other_by_default() {
    let Some((_one, net)) = net() else { return };
    make_ipv6_only(&net);
    let _rendezvous = meet(&net, None, "[2001:db8:9::1]:9000");
    until_path(&net, "direct [2001:db8:9::3]:");
}

#[test]
fn a_rendezvous_with_two_addresses_answers_from_the_one_that_was_asked() {
    let Some((_one, net)) = net() else { return };
    net.ip(&["-n", &net.name("beacon"), "addr", "add", "10.9.0.99/24", "dev", "eth0"]);
    let _rendezvous = meet(&net, Some("0.0.0.0:9000"), "10.9.0.99:9000");
    until_path(&net, "direct 10.9.0.3:");
}

#[test]
fn an_ipv6_network_that_translates_leads_to_an_ipv4_rendezvous() {
    let Some((_one, net)) = net() else { return };
    make_ipv6_only(&net);
    // What a translator would do with 192.0.2.9 is done by the machine itself, which has that address in its IPv6 form.
    net.ip(&["-n", &net.name("beacon"), "addr", "add", "2001:db8:64::192.0.2.9/96", "dev", "eth0", "nodad"]);
    let etc: Vec<_> = ["one", "two"].map(|machine| std::path::Path::new("/etc/netns").join(net.name(machine))).into();
    for folder in &etc {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("hosts"), "2001:db8:64::192.0.0.170 ipv4only.arpa\n").unwrap();
    }
    let rendezvous = std::panic::catch_unwind(|| meet(&net, None, "192.0.2.9:9000"));
    for folder in &etc {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let _rendezvous = rendezvous.unwrap();
    until_path(&net, "direct [2001:db8:9::3]:");
}

#[test]
fn a_pair_that_ipv4_leaves_on_the_relay_is_direct_by_ipv6() {
    let Some((_one, net)) = net() else { return };
    for (machine, address) in [("one", "2001:db8:9::2/64"), ("two", "2001:db8:9::3/64")] {
        net.ip(&["-n", &net.name(machine), "addr", "add", address, "dev", "eth0", "nodad"]);
    }
    cut_ipv4(&net);
    let _rendezvous = meet(&net, Some("10.9.0.1:9000"), "10.9.0.1:9000");
    until_path(&net, "direct [2001:db8:9::3]:");
}

#[test]
fn a_network_that_no_default_route_leads_to_is_used() {
    let Some((_one, net)) = net() else { return };
    let (one, two) = (net.name("one"), net.name("two"));
    net.ip(&["-n", &one, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", &two]);
    for (name, address) in [(&one, "192.168.7.2/24"), (&two, "192.168.7.3/24")] {
        net.ip(&["-n", name, "addr", "add", address, "dev", "eth1"]);
        net.ip(&["-n", name, "link", "set", "eth1", "up"]);
        net.ip(&["-n", name, "route", "add", "default", "via", "10.9.0.1"]);
    }
    cut_ipv4(&net);
    let _rendezvous = meet(&net, Some("10.9.0.1:9000"), "10.9.0.1:9000");
    until_path(&net, "direct 192.168.7.3:");
}
