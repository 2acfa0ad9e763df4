//! Owns the NAT model: mapping × filtering in the terms of RFC 4787, with expiry.

use pilot_core::Instant;
use pilot_core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Behaviour of a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping, address-and-port-dependent filtering ("port-restricted cone").
    PortRestricted,
    /// Address-and-port-dependent mapping and filtering ("symmetric"): a peer cannot predict the port.
    Symmetric,
}

/// Lifetime of an idle mapping. Source: RFC 4787 REQ-5 asks for more; many home routers use 30–120 s.
const LIFETIME: Duration = Duration::from_secs(120);

/// One NAT with one inner host.
pub struct Nat {
    kind: NatKind,
    public: IpAddr,
    next_port: u16,
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), (u16, Instant)>,
    /// Inner address of each external port.
    inner: BTreeMap<u16, SocketAddr>,
    /// Remote addresses that each external port has sent to.
    permitted: BTreeMap<(u16, SocketAddr), Instant>,
}

impl Nat {
    /// Makes a NAT with this outer address.
    pub fn new(kind: NatKind, public: IpAddr) -> Self {
        let (mappings, inner, permitted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { kind, public, next_port: 20_000, mappings, inner, permitted }
    }

    /// Returns the outer address.
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// Returns the source address that an outgoing datagram gets.
    pub fn outbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (from, (self.kind == NatKind::Symmetric).then_some(to));
        let fresh = self.mappings.get(&key).filter(|(_, used)| now.since(*used) < LIFETIME).map(|(port, _)| *port);
        let port = fresh.unwrap_or_else(|| {
            self.next_port += 1;
            self.next_port
        });
        self.mappings.insert(key, (port, now));
        self.inner.insert(port, from);
        self.permitted.insert((port, to), now);
        SocketAddr::new(self.public, port)
    }

    /// Returns the inner destination of a datagram from outside; `None` when the NAT filters the datagram.
    pub fn inbound(&mut self, now: Instant, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let allowed = self.permitted.get(&(port, from)).is_some_and(|used| now.since(*used) < LIFETIME);
        allowed.then(|| self.inner.get(&port).copied()).flatten()
    }

    /// Forgets every mapping, as a router does that is switched off and on.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.inner.clear();
        self.permitted.clear();
        self.next_port += 1000;
    }
}
