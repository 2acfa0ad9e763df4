//! Owns the hosts of URLs: `HOST:PORT` as clients write it, and the Pilot names among hosts.

use pilot_core::Addr;
use pilot_core::identity::valid_hostname;
use std::net::{IpAddr, Ipv6Addr};

/// Longest host. Unit: bytes. Source: RFC 1035, section 2.3.4; SOCKS has one byte for the length.
pub(crate) const HOST_LEN_MAX: usize = 255;
/// The suffix of Pilot names in URLs.
const SUFFIX: &str = ".pilot";

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// A name or an address; IPv6 without brackets. 1 to 255 bytes of visible ASCII.
    pub(crate) host: String,
    /// 1 to 65535.
    pub(crate) port: u16,
}

impl Authority {
    /// A host and a port that were given apart.
    pub(crate) fn new(host: &str, port: u16) -> Option<Self> {
        let is_host = (1..=HOST_LEN_MAX).contains(&host.len()) && host.bytes().all(is_of_host);
        (is_host && port > 0).then(|| Self { host: host.to_owned(), port })
    }

    /// Parses `HOST:PORT`, `[IPV6]:PORT`, or with a default port also the host alone.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            None if rest.is_empty() => default_port?,
            _ => return None,
        };
        Self::new(host, port)
    }
}

/// Bytes of names and addresses: no controls, no spaces, nothing that separates the parts of a URL.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte)
}

/// The node that a host means: `worker-node`, `worker-node.pilot`, an address with `-` for `:`, or the IPv6 address that
/// stands for an address. True beside it: the host cannot mean anything else.
pub(crate) fn pilot_name(host: &str) -> Option<(String, bool)> {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let bare = host.strip_suffix(SUFFIX);
    let name = bare.unwrap_or(host);
    let address = name.split_once('-').and_then(|(network, node)| format!("{network}:{node}").parse::<Addr>().ok());
    if let Some(addr) = address.or_else(|| of_ipv6(host)) {
        return Some((addr.to_string(), true));
    }
    let is_name = valid_hostname(name) && name.parse::<IpAddr>().is_err();
    is_name.then(|| (name.to_owned(), bare.is_some()))
}

fn of_ipv6(host: &str) -> Option<Addr> {
    let ip: Ipv6Addr = host.parse().ok()?;
    let [.., network, high, low] = ip.segments();
    let addr = Addr::new(network, u32::from(high) << 16 | u32::from(low));
    (addr.to_ipv6() == ip).then_some(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_and_everything_else_is_refused() {
        for (text, host, port) in [
            ("worker-node.pilot:8080", "worker-node.pilot", 8080),
            ("worker-node", "worker-node", 80),
            ("[fd50::1]:65535", "fd50::1", 65535),
            ("[::1]", "::1", 80),
            ("192.0.2.1:1", "192.0.2.1", 1),
        ] {
            assert_eq!(Authority::parse(text, Some(80)), Authority::new(host, port), "{text}");
            assert!(Authority::parse(text, Some(80)).is_some(), "{text}");
        }
        let long = "a".repeat(HOST_LEN_MAX + 1);
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:99999",
            "a:+1",
            "a: 1",
            "a:1:2",
            "user@a:1",
            "a b:1",
            "a\x01:1",
            "a/b",
            "[a]:1",
            "[::1]x",
            "[::1",
            "::1",
            "a\u{e9}:1",
            &long,
        ] {
            assert_eq!(Authority::parse(text, Some(80)), None, "{text:?}");
        }
        assert!(Authority::parse(&long[1..], Some(80)).is_some());
        assert_eq!(Authority::parse("worker-node", None), None, "CONNECT names a port");
        assert_eq!(Authority::new("a", 0), None);
    }

    #[test]
    fn names_of_nodes_are_told_from_other_hosts() {
        for (host, name, is_sure) in [
            ("worker-node", "worker-node", false),
            ("Worker-Node.Pilot.", "worker-node", true),
            ("0-0000.0001.F00D", "0:0000.0001.F00D", true),
            ("0-0000.0001.f00d.pilot", "0:0000.0001.F00D", true),
            ("fd50:494c:4f54::1:f00d", "0:0000.0001.F00D", true),
            ("1-0001.0000.0007", "1:0001.0000.0007", true),
        ] {
            assert_eq!(pilot_name(host), Some((name.to_owned(), is_sure)), "{host}");
        }
        for host in [
            "example.com",
            "a.b.pilot",
            ".pilot",
            "127.0.0.1",
            "::1",
            "fd50:494c:4f54:1::1:f00d",
            "pilot.example.com",
            "",
        ] {
            assert_eq!(pilot_name(host), None, "{host}");
        }
    }
}
