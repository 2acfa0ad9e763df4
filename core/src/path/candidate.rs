//! Owns which underlay addresses a peer may name as its own.
//!
//! Probes to a named address leave before its owner has said anything: a peer must not be able to point them at a machine
//! of this node's own network that has nothing to do with Pilot.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Private ranges: addresses of one range may be one network's. Source: RFC 1918, RFC 6598.
const PRIVATE: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];

/// True for an address that a peer may name as its own: a port, and a unicast address of the internet, or one of a private
/// range in which this node has an address as well. Loopback and link-local addresses count only for a node that is
/// reachable at such an address itself, and never this node's own addresses.
pub(crate) fn is_acceptable_candidate(addr: &SocketAddr, own: &[SocketAddr]) -> bool {
    let is_near = |near: &dyn Fn(IpAddr) -> bool| own.iter().any(|own| near(own.ip()));
    let is_unicast = addr.port() != 0 && !own.contains(addr);
    is_unicast
        && match addr.ip().to_canonical() {
            ip if ip.is_unspecified() || ip.is_multicast() => false,
            ip if ip.is_loopback() => is_near(&|own| own.is_loopback()),
            IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240 => false,
            IpAddr::V4(ip) if ip.is_link_local() => {
                is_near(&|own| matches!(own, IpAddr::V4(own) if own.is_link_local()))
            }
            IpAddr::V4(ip) => match private_range(ip) {
                None => true,
                range => is_near(&|own| matches!(own, IpAddr::V4(own) if private_range(own) == range)),
            },
            // A link-local address means nothing without the name of an interface.
            IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80 => false,
            IpAddr::V6(ip) if ip.segments()[0] & 0xfe00 == 0xfc00 => {
                let site = |ip: core::net::Ipv6Addr| ip.to_bits() >> 80;
                is_near(&|own| matches!(own, IpAddr::V6(own) if site(own) == site(ip)))
            }
            _ if is_reserved(addr) => false,
            IpAddr::V6(_) => true,
        }
}

/// True for an address of 100::/8, which is given to no network (RFC 4291 §2.4): a rendezvous knows clients that have no UDP by such
/// addresses (`docs/paths.md`, "Without UDP").
pub(crate) fn is_reserved(addr: &SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.octets()[0] == 1)
}

/// True for an address to which no NAT is on the way: loopback, link-local, or of a private range.
pub(super) fn is_local(addr: &SocketAddr) -> bool {
    match addr.ip().to_canonical() {
        ip if ip.is_loopback() => true,
        IpAddr::V4(ip) => ip.is_link_local() || private_range(ip).is_some(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80 || ip.segments()[0] & 0xfe00 == 0xfc00,
    }
}

/// The place of the private range in [`PRIVATE`]; `None` for an address of the internet.
fn private_range(ip: Ipv4Addr) -> Option<usize> {
    PRIVATE.iter().position(|(net, len)| (ip.to_bits() ^ net.to_bits()) >> (32 - len) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn is_acceptable(addr: &str, own: &[&str]) -> bool {
        let own: Vec<SocketAddr> = own.iter().map(|addr| addr.parse().expect("an address")).collect();
        is_acceptable_candidate(&addr.parse().expect("an address"), &own)
    }

    #[test]
    fn harmful_candidates_are_refused() {
        let own = ["198.51.100.9:5", "192.168.1.7:5", "[2001:db8::9]:5"];
        for bad in [
            "224.0.0.1:5",
            "0.0.0.0:5",
            "0.1.2.3:5",
            "240.0.0.1:5",
            "255.255.255.255:5",
            "192.0.2.1:0",
            "127.0.0.1:5",
            "169.254.169.254:80",
            "10.0.0.1:5",
            "172.16.0.1:5",
            "100.64.0.1:5",
            "192.168.1.7:5",
            "[ff02::1]:5",
            "[::1]:5",
            "[::]:5",
            "[fe80::1]:5",
            "[fd00::1]:5",
            "[104:c000:200::5:0:7]:443",
            "[::ffff:127.0.0.1]:5",
            "[::ffff:10.0.0.1]:5",
        ] {
            assert!(!is_acceptable(bad, &own), "{bad}");
        }
        for good in
            ["192.0.2.1:5", "192.168.200.1:5", "192.168.1.7:6", "100.128.0.1:5", "172.32.0.1:5", "[2001:db8::1]:5"]
        {
            assert!(is_acceptable(good, &own), "{good}");
        }
    }

    #[test]
    fn near_addresses_are_for_nodes_that_are_near() {
        for (addr, own) in [
            ("127.0.0.1:5", "127.0.0.1:6"),
            ("[::1]:5", "[::1]:6"),
            ("10.200.0.1:5", "10.0.0.1:5"),
            ("169.254.1.1:5", "169.254.9.9:5"),
            ("[fd12:3456:789a:1::1]:5", "[fd12:3456:789a:2::2]:5"),
        ] {
            assert!(is_acceptable(addr, &[own]), "{addr} for {own}");
            assert!(!is_acceptable(addr, &["198.51.100.9:5"]), "{addr}");
        }
    }
}
