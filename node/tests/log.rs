//! The log of nodes in this process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

#[test]
fn a_flood_of_strangers_neither_fills_the_log_nor_hides_others() {
    let lab = Lab::new("flood");
    let (a, _) = lab.nodes();
    let log = || lab.logs[1].lines();
    let started = log().into_iter().find(|line| line.contains(" info started ")).unwrap();
    let to = started.split(' ').find_map(|word| word.strip_prefix("udp=")).unwrap().to_owned();
    let begin = Instant::now();
    // Where the loopback network has one address only, the ports differ.
    let bind = |n| UdpSocket::bind(format!("127.0.1.{n}:0")).or_else(|_| UdpSocket::bind("127.0.0.1:0"));
    let sockets: Vec<UdpSocket> = (1..=100).map(|n| bind(n).unwrap()).collect();
    while begin.elapsed() < Duration::from_secs(3) {
        // A full socket buffer loses the rest, which does not matter.
        sockets.iter().for_each(|socket| drop(socket.send_to(b"not a datagram of ours", &to)));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(a.connect("node-b", 9).is_err());
    while !log().iter().any(|line| line.contains("warn refused peer=node-a port=9 reason=no_listener")) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:#?}", log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = log();
    let strangers = lines.iter().filter(|line| line.contains(" discarded ") || line.contains(" suppressed ")).count();
    let seconds = begin.elapsed().as_secs() as usize;
    assert!((1..=seconds + 1).contains(&strangers), "{strangers} lines in {seconds} s: {lines:#?}");
    let suppressed = lines.iter().filter_map(|line| line.split_once(" suppressed=")?.1.parse::<u64>().ok());
    assert!(suppressed.sum::<u64>() > 1000, "{lines:#?}");
}
