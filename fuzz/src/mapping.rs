//! The mapping of a port at a gateway that says anything at any time.

use pilot_node::probe::mapped;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Most datagrams of one input.
const DATAGRAMS_MAX: usize = 500;

/// Runs a mapping. The input is a list of datagrams: its pause in minutes, its length, its bytes. Invariants: a mapped address is one
/// of the internet, with a port; and the gateway is asked seldom.
pub fn mapping(bytes: &[u8]) {
    let (mut datagrams, mut rest) = (Vec::new(), bytes);
    while let [pause, len, more @ ..] = rest
        && datagrams.len() < DATAGRAMS_MAX
    {
        let (datagram, more) = more.split_at(usize::from(*len).min(more.len()));
        datagrams.push((Duration::from_secs(60 * u64::from(*pause)), datagram));
        rest = more;
    }
    for client in ["192.168.1.2:5000", "[2001:db8::2]:5000"] {
        let (mapped, sent) = mapped(client.parse().expect("an address"), &datagrams);
        let is_public = |addr: &SocketAddr| match addr.ip() {
            IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified()),
            IpAddr::V6(ip) => ip.octets()[0] & 0xe0 == 0x20,
        };
        assert!(mapped.iter().all(|addr| addr.port() != 0 && is_public(addr)), "{mapped:?}");
        let minutes: u64 = datagrams.iter().map(|(pause, _)| pause.as_secs() / 60).sum();
        let max = 12 * datagrams.len() as u64 + 6 * (minutes + 2);
        assert!(sent as u64 <= max, "{sent} questions in {minutes} minutes");
    }
}
