//! A real daemon behind a gateway that maps ports, or says so: processes in network namespaces, which only root may make.
#![cfg(not(feature = "portable-platform"))] // gateways and interfaces are told by Linux alone
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Net;
use harness::until;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The external address that a gateway gives, and the requests that it has heard.
type Ledger = ([u8; 4], Vec<Vec<u8>>);

/// The gateway of one network.
#[derive(Clone)]
struct Gateway(Arc<Mutex<Ledger>>);

impl Gateway {
    /// Serves the first machine of the network from a thread that has entered it.
    fn serve(net: &Net, external: [u8; 4]) -> Self {
        let path = format!("/run/netns/{}", net.name("gateway"));
        let gateway = Self(Arc::new(Mutex::new((external, Vec::new()))));
        let this = gateway.clone();
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = UdpSocket::bind("10.9.0.1:5351").unwrap();
            let mut room = [0; 1100];
            while let Ok((len, from)) = socket.recv_from(&mut room) {
                let mut state = this.0.lock().unwrap();
                state.1.push(room[..len].to_vec());
                mapped(&room[..len], state.0).into_iter().for_each(|bytes| drop(socket.send_to(&bytes, from)));
            }
        });
        gateway
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().1.clone()
    }
}

/// The answer of PCP that maps the port to this address.
fn mapped(request: &[u8], ip: [u8; 4]) -> Option<Vec<u8>> {
    let mut bytes = request.to_vec();
    if request.len() != 60 || request[0] != 2 {
        return None;
    }
    bytes[1] |= 0x80;
    bytes[8..12].copy_from_slice(&1000u32.to_be_bytes());
    bytes[12..24].fill(0);
    bytes[42..44].copy_from_slice(&6000u16.to_be_bytes());
    bytes[44..60].copy_from_slice(&std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets());
    Some(bytes)
}

fn mapping(net: &Net) -> Value {
    let said = net.run("home", &["info", "--json"]).stdout;
    serde_json::from_slice::<Value>(&said).unwrap()["data"]["mapping"].clone()
}

#[test]
fn a_daemon_has_its_port_mapped_and_gives_it_back_and_believes_no_lie() {
    let Some(net) = Net::new(&["gateway", "home"]) else { return };
    let home = net.name("home");
    net.ip(&["-n", &home, "route", "add", "default", "via", "10.9.0.1"]);
    let nowhere = format!("{}@10.9.0.1:9", "01".repeat(32));
    let start = |more: &[&str]| net.ok("home", &[&["daemon", "start", "--rendezvous", &nowhere], more].concat());
    let gateway = Gateway::serve(&net, [203, 0, 113, 9]);
    start(&["--no-port-mapping"]);
    assert_eq!((mapping(&net)["why"].as_str(), gateway.heard().len()), (Some("off"), 0));
    net.ok("home", &["daemon", "stop"]);

    start(&[]);
    until("the mapping", || mapping(&net)["external"] == "203.0.113.9:6000");
    assert_eq!(mapping(&net)["kind"], "pcp");
    let asked = gateway.heard();
    assert_eq!(asked[0][8..24], std::net::Ipv4Addr::new(10, 9, 0, 2).to_ipv6_mapped().octets(), "this machine there");
    net.ok("home", &["daemon", "stop"]);
    until("the farewell", || gateway.heard().len() > asked.len());
    let farewell = gateway.heard()[asked.len()].clone();
    assert_eq!((&farewell[4..8], &farewell[24..42]), (&[0; 4][..], &asked[0][24..42]), "the same mapping");

    // The same gateway lies.
    gateway.0.lock().unwrap().0 = [127, 0, 0, 1];
    let before = gateway.heard().len();
    start(&[]);
    until("the answer", || mapping(&net)["why"] == "not_public");
    std::thread::sleep(Duration::from_secs(1));
    assert!(gateway.heard().len() <= before + 2, "a question, and the mapping is given back");
}
