//! Owns the NAT model: mapping × filtering in the terms of RFC 4787, with the lifetimes of Linux' connection tracking.

use pilot_core::Instant;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Behaviour of a NAT. All filter by address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping, address-and-port-dependent filtering ("port-restricted cone").
    PortRestricted,
    /// Address-dependent mapping to random ports, address-and-port-dependent filtering.
    AddressDependent,
    /// Address-and-port-dependent mapping and filtering ("symmetric") with random ports.
    Symmetric,
    /// The same, with ports one after the other.
    Sequential,
    /// The same, with random ports of a block of 512, as carriers give to each customer (RFC 7422).
    Block,
    /// Linux' masquerade on a host that takes unsolicited datagrams itself (hosts of containers and virtual machines). The port
    /// is preserved, but a datagram from outside that comes first takes the pair of addresses, and the inner host's flow to
    /// that address gets another port.
    OpenInput,
}

/// Ports of the block of [`NatKind::Block`].
const BLOCK_LEN: u64 = 512;

/// Lifetime of a flow that was never answered, or answered for less than [`STREAM_AFTER`]. Source: Linux,
/// `nf_conntrack_udp_timeout`.
const LIFETIME_SHORT: Duration = Duration::from_secs(30);
/// Lifetime of any other flow. Source: Linux, `nf_conntrack_udp_timeout_stream`.
const LIFETIME: Duration = Duration::from_secs(120);
/// Age from which on an answered flow counts as a stream. Source: Linux.
const STREAM_AFTER: Duration = Duration::from_secs(2);

/// What an inner socket and one remote address have exchanged.
#[derive(Clone, Copy)]
struct Flow {
    port: u16,
    began: Instant,
    used: Instant,
    is_answered: bool,
}

impl Flow {
    fn lives(&self, now: Instant) -> bool {
        let is_stream = self.is_answered && self.used.since(self.began) >= STREAM_AFTER;
        now.since(self.used) < if is_stream { LIFETIME } else { LIFETIME_SHORT }
    }
}

/// One NAT with one inner host.
pub struct Nat {
    kind: NatKind,
    public: IpAddr,
    next_port: u16,
    rng: Rng,
    /// By inner and remote address.
    flows: BTreeMap<(SocketAddr, SocketAddr), Flow>,
    /// The flows of each outer port.
    by_port: BTreeMap<u16, Vec<(SocketAddr, SocketAddr)>>,
    /// Flows from which on the dead ones are looked for.
    flows_max: usize,
    /// An inner address that has an outer port of its own, at which everything is let in.
    mapped: Option<(SocketAddr, u16)>,
    /// When an unsolicited datagram last came to this port from this address, where the host of the NAT takes them.
    taken: BTreeMap<(u16, SocketAddr), Instant>,
}

impl Nat {
    /// Makes a NAT with this outer address.
    pub fn new(kind: NatKind, public: IpAddr) -> Self {
        let seed = if let IpAddr::V4(ip) = public { ip.octets()[3] } else { 0 };
        Self {
            kind,
            public,
            next_port: 20_000,
            rng: Rng::new([seed; 32]),
            flows: BTreeMap::new(),
            by_port: BTreeMap::new(),
            flows_max: 0,
            mapped: None,
            taken: BTreeMap::new(),
        }
    }

    /// Returns the outer address.
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// Returns the source address that an outgoing datagram gets.
    pub fn outbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        if let Some(flow) = self.flows.get_mut(&(from, to)).filter(|flow| flow.lives(now)) {
            flow.used = now;
            return SocketAddr::new(self.public, flow.port);
        }
        if self.flows.len() >= self.flows_max {
            self.forget_dead(now);
        }
        let port = self.port_for(now, from, to);
        let flow = Flow { port, began: now, used: now, is_answered: false };
        if let Some(dead) = self.flows.insert((from, to), flow) {
            self.by_port.entry(dead.port).or_default().retain(|key| *key != (from, to));
        }
        self.by_port.entry(port).or_default().push((from, to));
        SocketAddr::new(self.public, port)
    }

    fn forget_dead(&mut self, now: Instant) {
        let (flows, by_port) = (&mut self.flows, &mut self.by_port);
        flows.retain(|_, flow| flow.lives(now));
        by_port.retain(|_, of| {
            of.retain(|key| flows.contains_key(key));
            !of.is_empty()
        });
        self.flows_max = 2 * flows.len() + 64;
    }

    /// The living flow of an outer port with a remote address, by its inner and remote address.
    fn flow_at(&self, now: Instant, port: u16, remote: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        let mut of = self.by_port.get(&port)?.iter();
        of.find(|key| key.1 == remote && self.flows.get(key).is_some_and(|flow| flow.lives(now))).copied()
    }

    /// Gives an inner address an outer port of its own, as a host asks for by PCP (RFC 6887); gives the outer address.
    pub fn map(&mut self, inner: SocketAddr, port: u16) -> SocketAddr {
        self.mapped = Some((inner, port));
        SocketAddr::new(self.public, port)
    }

    fn port_for(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> u16 {
        if let Some((_, port)) = self.mapped.filter(|(inner, _)| *inner == from) {
            return port;
        }
        let lives = |at: &Instant| now.since(*at) < LIFETIME_SHORT;
        let mapped = match self.kind {
            NatKind::PortRestricted => {
                let living = |(key, flow): (&(SocketAddr, SocketAddr), &Flow)| {
                    (key.0 == from && flow.lives(now)).then_some(flow.port)
                };
                self.flows.iter().find_map(living)
            }
            NatKind::AddressDependent => {
                let living = |(key, flow): (&(SocketAddr, SocketAddr), &Flow)| {
                    (key.0 == from && key.1.ip() == to.ip() && flow.lives(now)).then_some(flow.port)
                };
                self.flows.iter().find_map(living)
            }
            NatKind::Symmetric | NatKind::Sequential | NatKind::Block => None,
            NatKind::OpenInput => {
                let is_taken = self.taken.get(&(from.port(), to)).is_some_and(lives);
                (!is_taken && self.flow_at(now, from.port(), to).is_none()).then_some(from.port())
            }
        };
        mapped.unwrap_or_else(|| self.new_port(now))
    }

    fn new_port(&mut self, now: Instant) -> u16 {
        loop {
            let port = match self.kind {
                NatKind::Symmetric | NatKind::AddressDependent => 1024 + self.rng.below(64_512) as u16,
                NatKind::Block => self.next_port + self.rng.below(BLOCK_LEN) as u16,
                NatKind::PortRestricted | NatKind::Sequential | NatKind::OpenInput => {
                    self.next_port += 1;
                    self.next_port
                }
            };
            let lives = |key: &(SocketAddr, SocketAddr)| self.flows.get(key).is_some_and(|flow| flow.lives(now));
            if !self.by_port.get(&port).is_some_and(|of| of.iter().any(lives)) {
                return port;
            }
        }
    }

    /// Returns the inner destination of a datagram from outside; `None` when the NAT filters the datagram.
    pub fn inbound(&mut self, now: Instant, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        if let Some((inner, _)) = self.mapped.filter(|(_, mapped)| *mapped == port) {
            return Some(inner);
        }
        if let Some(key) = self.flow_at(now, port, from)
            && let Some(flow) = self.flows.get_mut(&key)
        {
            (flow.used, flow.is_answered) = (now, true);
            return Some(key.0);
        }
        if self.kind == NatKind::OpenInput {
            self.taken.insert((port, from), now);
        }
        None
    }

    /// Forgets every flow, as a router does that is switched off and on.
    pub fn reboot(&mut self) {
        self.flows.clear();
        self.by_port.clear();
        self.taken.clear();
        self.next_port += 1000;
    }

    /// Gets another outer address, as a router does that dials in again.
    pub fn dial_in(&mut self) {
        self.reboot();
        if let IpAddr::V4(old) = self.public {
            let [a, b, c, d] = old.octets();
            self.public = IpAddr::from([a, b, c ^ 1, d]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn flows_are_forgotten_after_thirty_seconds_or_as_streams_after_120() {
        let (inner, remote, other) = (addr("10.0.0.1:4000"), addr("192.0.2.9:1"), addr("192.0.2.9:2"));
        use NatKind::{AddressDependent, Block, OpenInput, PortRestricted, Sequential, Symmetric};
        for kind in [PortRestricted, AddressDependent, Symmetric, Sequential, Block, OpenInput] {
            let (mut nat, mut now) = (Nat::new(kind, "203.0.113.1".parse().expect("an address")), Instant::ZERO);
            let port = nat.outbound(now, inner, remote).port();
            assert_eq!(nat.inbound(now, remote, port), Some(inner));
            assert_eq!(nat.inbound(now, other, port), None, "{kind:?} filters by port");
            assert_eq!(nat.inbound(now + S * 30, remote, port), None, "{kind:?}: a short exchange");
            let keeps = matches!(kind, PortRestricted | AddressDependent);
            assert_eq!(nat.outbound(now, inner, other).port() == port, keeps, "{kind:?}");
            now = now + S * 3;
            nat.outbound(now, inner, remote);
            assert_eq!(nat.inbound(now, remote, port), Some(inner));
            assert_eq!(nat.inbound(now + S * 119, remote, port), Some(inner), "{kind:?}: a stream");
            assert_eq!(nat.inbound(now + S * 239, remote, port), None);
            nat.reboot();
            assert_eq!(nat.inbound(now, remote, port), None);
        }
    }

    #[test]
    fn a_mapped_port_lets_everyone_in_and_is_the_source_of_new_flows() {
        let (inner, remote, other) = (addr("10.0.0.1:4000"), addr("192.0.2.9:1"), addr("192.0.2.9:2"));
        let mut nat = Nat::new(NatKind::Symmetric, "203.0.113.1".parse().expect("an address"));
        assert_eq!(nat.map(inner, 6000), addr("203.0.113.1:6000"));
        assert_eq!(nat.inbound(Instant::ZERO, remote, 6000), Some(inner));
        assert_eq!(nat.outbound(Instant::ZERO, inner, other), addr("203.0.113.1:6000"));
        assert_eq!(nat.inbound(Instant::ZERO, remote, 6001), None);
        assert_ne!(nat.outbound(Instant::ZERO, addr("10.0.0.1:4001"), other).port(), 6000, "another socket");
    }

    #[test]
    fn an_open_input_gives_the_port_away_to_the_one_who_comes_first() {
        let (inner, early, other) = (addr("10.0.0.1:4000"), addr("192.0.2.9:1"), addr("192.0.2.9:2"));
        let mut nat = Nat::new(NatKind::OpenInput, "203.0.113.1".parse().expect("an address"));
        assert_eq!(nat.inbound(Instant::ZERO, early, 4000), None);
        assert_eq!(nat.outbound(Instant::ZERO, inner, other).port(), 4000);
        assert_ne!(nat.outbound(Instant::ZERO, inner, early).port(), 4000);
        nat.reboot();
        assert_eq!(nat.outbound(Instant::ZERO, inner, early).port(), 4000);
    }
}
