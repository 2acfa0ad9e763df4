//! Owns the place of a machine as people write it: a name or an address, and a port.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

/// A place of a rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousHost {
    /// Name, or address without brackets.
    pub name: String,
    /// UDP port.
    pub port: u16,
}

impl From<SocketAddr> for RendezvousHost {
    fn from(addr: SocketAddr) -> Self {
        Self { name: addr.ip().to_string(), port: addr.port() }
    }
}

impl fmt::Display for RendezvousHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

impl std::str::FromStr for RendezvousHost {
    type Err = ();

    /// Reads `host[:port]`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::parse(text, Self::UDP_PORT).ok_or(())
    }
}

impl RendezvousHost {
    /// Port of a rendezvous whose place names none.
    pub(crate) const UDP_PORT: u16 = 9000;

    /// Reads `host[:port]`; an IPv6 address stands in brackets. `default`: the port of a text that names none. `None`: the text has another form.
    pub fn parse(text: &str, default: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']')?;
                name.parse::<Ipv6Addr>().ok()?;
                (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_right = text.starts_with('[') || (1..=253).contains(&name.len()) && name.bytes().all(is_name);
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0));
        Some(Self { name: Some(name).filter(|_| is_right)?.into(), port: port? })
    }
}
