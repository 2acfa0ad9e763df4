//! Nodes that reach their rendezvous over TLS alone: UDP leads to a port where nothing listens.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod tls_lab;

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Node, ProxySetting, RendezvousConfig};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tls_lab::{HttpProxy, Lab, UdpMiddle, until};

/// Sends bytes to the echo service of `node-b`, and has them back.
fn echo(a: &Node, len: u32) {
    let mut stream = a.connect("node-b", 7).unwrap();
    let sent: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
    let mut echoed = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut echoed).unwrap();
    });
    assert!(echoed == sent, "{} bytes came back", echoed.len());
    stream.flush().unwrap();
}

/// `node-b` at an address of another family, so that no path between the two is direct.
fn apart(config: &mut Config) {
    config.listen = "[::1]:0".parse().unwrap();
}

#[test]
fn a_stream_is_relayed_over_tls_where_no_udp_passes() {
    let lab = Lab::new("tls-relayed");
    let begin = Instant::now();
    let a = lab.node("node-a", |_| {});
    println!("registered after {:?}", begin.elapsed());
    let b = lab.node("node-b", apart);
    lab.befriend(&a, &b);
    let begin = Instant::now();
    echo(&a, 1);
    println!("first byte and back after {:?}", begin.elapsed());
    echo(&a, 3_000_000);
    let peers = a.peers().unwrap();
    let path = peers.peers[0].path.clone();
    assert!(path.as_deref().is_some_and(|path| path.starts_with("relay")), "{path:?}");
    assert!(lab.logs[0].lines().iter().any(|line| line.contains("carrier=tls")));
}

#[test]
fn a_proxy_is_passed_by_name_with_a_password() {
    let lab = Lab::new("tls-proxy");
    let proxy = HttpProxy::new("Basic dXNlcjpvcGVuIHNlc2FtZQ==", lab.tls);
    // The name means something to the proxy alone.
    let named = format!("{}@rendezvous.invalid", lab.key);
    let by_proxy = |credentials: &'static str| {
        let (url, named) = (format!("http://{credentials}{}", proxy.addr), named.clone());
        move |config: &mut Config| {
            config.rendezvous = named.parse().unwrap();
            config.tls.at = None;
            config.tls.proxy = ProxySetting::At(url.parse().unwrap());
        }
    };
    let mut refused = lab.config("node-b");
    by_proxy("user:wrong@")(&mut refused);
    let refused = Node::start(refused).unwrap();
    let log = &lab.logs[1];
    until("a warning", || log.lines().iter().any(|line| line.contains("tls_failed") && line.contains("password")));
    assert_ne!(refused.info().unwrap().rendezvous, RendezvousState::Ready);
    drop(refused);
    let (a, b) = (lab.node("node-a", by_proxy("user:open%20sesame@")), lab.node("node-b", apart));
    assert_eq!(proxy.targets.lock().unwrap()[0], "rendezvous.invalid:443");
    lab.befriend(&a, &b);
    echo(&a, 100_000);
}

#[test]
fn a_stream_goes_on_when_udp_is_blocked_in_its_midst() {
    let lab = Lab::new("tls-blocked");
    let middle = UdpMiddle::new(lab.udp);
    let a = lab.node("node-a", |config| config.rendezvous = RendezvousConfig::At(lab.key, middle.addr));
    let b = lab.node("node-b", apart);
    lab.befriend(&a, &b);
    assert!(!lab.logs[0].lines().iter().any(|line| line.contains("carrier=tls")), "UDP works");
    let stream = a.connect("node-b", 7).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut longest, mut block) = (Duration::ZERO, [0; 10_000]);
    for round in 0..100u8 {
        if round == 50 {
            middle.is_blocked.store(true, Ordering::SeqCst);
        }
        let begin = Instant::now();
        (&stream).write_all(&[round; 10_000]).unwrap();
        (&stream).read_exact(&mut block).unwrap();
        assert_eq!(block, [round; 10_000]);
        longest = longest.max(begin.elapsed());
    }
    println!("longest stall {longest:?}");
    assert!(lab.logs[0].lines().iter().any(|line| line.contains("carrier=tls")));
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}
