//! Owns the 48-bit virtual address: its text form, its six bytes, and the IPv6 address made of it.
//!
//! Text form: `N:NNNN.HHHH.LLLL[:port]` — the network in decimal, then the network and the two halves of the node
//! number as four hexadecimal digits each. `0:0000.0001.F00D` is node 0x1F00D of network 0.

use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;

/// A permanent 48-bit address: a 16-bit network and a 32-bit node. It is a label, never an authority (see `trust`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr {
    /// Network number; 0 is the global network.
    pub network: u16,
    /// Node number within the network; 0 means "none yet".
    pub node: u32,
}

/// An address with a port, as in `0:0000.0001.F00D:1000`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrPort {
    /// The node.
    pub addr: Addr,
    /// The virtual port, 0–65535.
    pub port: u16,
}

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrParseError;

/// First three groups of every inner IPv6 address: a unique local prefix (RFC 4193) that spells `PILOT`.
const ULA: [u16; 3] = [0xfd50, 0x494c, 0x4f54];

impl Addr {
    /// Bytes on the wire: network, then node, both big-endian.
    pub const LEN: usize = 6;

    /// The address with this network and node number.
    pub const fn new(network: u16, node: u32) -> Self {
        Self { network, node }
    }

    /// The six bytes used on the wire and in IPC.
    pub const fn to_bytes(self) -> [u8; 6] {
        let (n, h) = (self.network.to_be_bytes(), self.node.to_be_bytes());
        [n[0], n[1], h[0], h[1], h[2], h[3]]
    }

    /// The inverse of [`Addr::to_bytes`].
    pub const fn from_bytes(b: [u8; 6]) -> Self {
        Self { network: u16::from_be_bytes([b[0], b[1]]), node: u32::from_be_bytes([b[2], b[3], b[4], b[5]]) }
    }

    /// The unique local IPv6 address that stands for this address inside a tunnel.
    pub const fn to_ipv6(self) -> Ipv6Addr {
        let [a, b, c] = ULA;
        Ipv6Addr::new(a, b, c, 0, 0, self.network, (self.node >> 16) as u16, self.node as u16)
    }

    /// True for the address of a node that has not been given one.
    pub const fn is_unassigned(self) -> bool {
        self.node == 0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.node >> 16, self.node & 0xffff);
        write!(f, "{}:{:04X}.{high:04X}.{low:04X}", self.network, self.network)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AddrPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.addr, self.port)
    }
}

impl fmt::Debug for AddrPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AddrParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address looks like 0:0000.0001.F00D")
    }
}

impl core::error::Error for AddrParseError {}

impl FromStr for Addr {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let (network, rest) = text.split_once(':').ok_or(AddrParseError)?;
        let network: u16 = decimal(network)?;
        let mut groups = rest.split('.').map(hex4);
        let mut next = || groups.next().ok_or(AddrParseError)?;
        let (again, high, low) = (next()?, next()?, next()?);
        if groups.next().is_some() || again != network {
            return Err(AddrParseError);
        }
        Ok(Self { network, node: u32::from(high) << 16 | u32::from(low) })
    }
}

impl FromStr for AddrPort {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let (addr, port) = text.rsplit_once(':').ok_or(AddrParseError)?;
        Ok(Self { addr: addr.parse()?, port: decimal(port)? })
    }
}

fn decimal(text: &str) -> Result<u16, AddrParseError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddrParseError);
    }
    text.parse().map_err(|_| AddrParseError)
}

fn hex4(text: &str) -> Result<u16, AddrParseError> {
    if text.len() != 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(AddrParseError);
    }
    u16::from_str_radix(text, 16).map_err(|_| AddrParseError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_form_round_trips() {
        for addr in [Addr::new(0, 3), Addr::new(7, 0x1f00d), Addr::new(u16::MAX, u32::MAX)] {
            assert_eq!(addr.to_string().parse(), Ok(addr));
            assert_eq!(Addr::from_bytes(addr.to_bytes()), addr);
            let [.., 0, 0, network, high, low] = addr.to_ipv6().segments() else { panic!("{:?}", addr.to_ipv6()) };
            assert_eq!((network, u32::from(high) << 16 | u32::from(low)), (addr.network, addr.node));
            let with_port = AddrPort { addr, port: 1000 };
            assert_eq!(with_port.to_string().parse(), Ok(with_port));
        }
        assert_eq!(Addr::new(0, 0x1f00d).to_string(), "0:0000.0001.F00D");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "0",
            "0:",
            "0:0000.0001",
            "0:0001.0000.0001",
            "0:0000.0000.0001.0",
            "x:0000.0000.0001",
            "0:0000.+001.0001",
            "65536:0000.0000.0001",
        ] {
            assert_eq!(text.parse::<Addr>(), Err(AddrParseError), "{text}");
        }
        assert!("0:0000.0000.0001".parse::<AddrPort>().is_err());
        assert!("0:0000.0000.0001:65536".parse::<AddrPort>().is_err());
    }
}
