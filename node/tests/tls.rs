//! Nodes that reach their rendezvous over TLS alone: UDP leads to a port where nothing listens.

mod tls_lab;

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, LogConfig, LogLevel, MemoryLog, Node, ProxySetting, RendezvousConfig, Terms};
use pilot_rendezvous::Certificate;
use pilot_rendezvous::server::{Server, ServerConfig};
use std::io::{Read, Write};
use std::time::Instant;
use tls_lab::*;

#[test]
fn a_stream_goes_over_tls_where_no_udp_passes() {
    let lab = Lab::new("tls-stream");
    let begin = Instant::now();
    let (a, b) = (lab.node("node-a", |_| {}), lab.node("node-b", |_| {}));
    let ready = begin.elapsed();
    lab.befriend(&a, &b);
    let begin = Instant::now();
    let mut stream = a.connect("node-b", 7).unwrap();
    let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).unwrap();
    println!("ready after {ready:?}, echoed after {:?}", begin.elapsed());
    assert!(echoed == sent, "{} bytes came back", echoed.len());
    assert!(lab.logs[0].lines().iter().any(|line| line.contains("carrier=tls")));
}
