//! Owns where the two sides of a meeting send: one address, predicted ports, or so many that two of them meet by chance.
//!
//! Both sides follow the same table, so that each knows what the other does (`docs/paths.md`, "Meeting").

use super::nat::{Nat, Ports};
use crate::rng::Rng;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Ports that are predicted from the newest one. Source: own choice; other flows of the NAT take some meanwhile.
pub(crate) const PREDICTED_MAX: i32 = 3;
/// Ports that one side sprays. Source: `docs/paths.md`, "Meeting": with [`SOCKETS_MAX`] two of them meet with 98 %.
pub(crate) const SPRAY_MAX: u32 = 1000;
/// Sockets that the other side opens.
pub(crate) const SOCKETS_MAX: u32 = 256;
/// The same where all its ports are sprayed.
const SOCKETS_OF_BLOCK: u32 = 16;
/// Lowest port that NATs give. Source: RFC 4787 REQ-3.
const PORT_MIN: u32 = 1024;

/// What one side tells the other before both probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Names the meeting; the one that is invited repeats the number.
    pub number: u32,
    /// True for the answer to an invitation.
    pub is_answer: bool,
    /// The NAT of the sender.
    pub nat: Nat,
    /// Where the sender's socket for this meeting was seen last.
    pub at: SocketAddr,
    /// The lowest and the highest port that the sender's sockets had.
    pub span: (u16, u16),
}

/// What a side does when both fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing helps.
    Hopeless,
    /// Probes these addresses, in this order.
    Probe(Vec<SocketAddr>),
    /// Sends one probe to each of many ports, before the other side sends anything.
    Spray(Spread),
    /// Sends from so many sockets to the one address of the other side, once that has sprayed.
    Sockets(u32),
}

/// Ports in an order that looks random, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    base: u32,
    len: u32,
    /// Has no divisor in common with `len`.
    stride: u32,
    next: u32,
    left: u32,
}

impl Spread {
    fn new(base: u32, end: u32, rng: &mut Rng) -> Self {
        let len = end - base;
        // Both are primes, and no length up to 65,536 is a multiple of both.
        let stride = [10_007, 10_009].into_iter().find(|stride| !len.is_multiple_of(*stride)).unwrap_or(1);
        Self { base, len, stride, next: rng.below(len.into()) as u32, left: len.min(SPRAY_MAX) }
    }

    /// Around the ports of a block of which those of `span` are known.
    fn around((low, high): (u16, u16), rng: &mut Rng) -> Self {
        let (low, high) = (u32::from(low.min(high)), u32::from(high) + 1);
        let more = SPRAY_MAX.saturating_sub(high.saturating_sub(low)) / 2;
        let base = low.saturating_sub(more).max(PORT_MIN.min(low));
        Self::new(base, (base + SPRAY_MAX).min(1 << 16), rng)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Spread {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let port = self.base + self.next;
        self.next = (self.next + self.stride) % self.len;
        Some(port as u16)
    }
}

/// What the side with the NAT `own` does in a meeting with the other.
pub(crate) fn plan(own: Nat, other: &Meeting, rng: &mut Rng) -> Plan {
    let predicted = |step: i16| {
        let port = |k| i32::from(other.at.port()) + k * i32::from(step);
        let ports = (1..=PREDICTED_MAX).filter_map(|k| u16::try_from(port(k)).ok()).filter(|port| *port != 0);
        Plan::Probe(ports.map(|port| SocketAddr::new(other.at.ip(), port)).collect())
    };
    match (own.is_easy(), other.nat.is_easy()) {
        (true, true) => Plan::Probe(alloc::vec![other.at]),
        (true, false) => match other.nat.ports {
            Ports::Sequential(step) => predicted(step),
            Ports::Block => Plan::Spray(Spread::around(other.span, rng)),
            Ports::Unknown | Ports::Kept | Ports::Random => Plan::Spray(Spread::new(PORT_MIN, 1 << 16, rng)),
        },
        (false, true) => match own.ports {
            Ports::Sequential(_) => Plan::Probe(alloc::vec![other.at]),
            Ports::Block => Plan::Sockets(SOCKETS_OF_BLOCK),
            Ports::Unknown | Ports::Kept | Ports::Random => Plan::Sockets(SOCKETS_MAX),
        },
        (false, false) => match (own.ports, other.nat.ports) {
            (Ports::Sequential(_), Ports::Sequential(step)) => predicted(step),
            _ => Plan::Hopeless,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::nat::Mapping;
    use super::*;
    use std::collections::BTreeSet;

    fn meeting(ports: Ports) -> Meeting {
        let mapping = if ports == Ports::Unknown { Mapping::Independent } else { Mapping::PortDependent };
        let at = SocketAddr::from(([203, 0, 113, 1], 30_000));
        Meeting { number: 1, is_answer: false, nat: Nat { mapping, ports }, at, span: (29_900, 30_099) }
    }

    #[test]
    fn both_sides_of_every_pair_do_what_fits() {
        let kinds = [Ports::Unknown, Ports::Sequential(2), Ports::Block, Ports::Random];
        let rng = &mut Rng::new([1; 32]);
        for (a, b) in kinds.into_iter().flat_map(|a| kinds.map(|b| (a, b))) {
            let plans = [(a, b), (b, a)].map(|(own, other)| plan(meeting(own).nat, &meeting(other), rng));
            let fits = match &plans {
                [Plan::Probe(one), Plan::Probe(other)] => !one.is_empty() && !other.is_empty(),
                [Plan::Spray(_), Plan::Sockets(n)] | [Plan::Sockets(n), Plan::Spray(_)] => *n <= SOCKETS_MAX,
                [Plan::Hopeless, Plan::Hopeless] => meeting(a).nat.is_hopeless_with(meeting(b).nat),
                _ => false,
            };
            assert!(fits, "{a:?} {b:?}: {plans:?}");
        }
    }

    #[test]
    fn the_first_probe_goes_to_the_next_port_and_none_to_the_last() {
        let Plan::Probe(list) = plan(Nat::default(), &meeting(Ports::Sequential(2)), &mut Rng::new([1; 32])) else {
            panic!("ports are predicted")
        };
        let ports: Vec<u16> = list.iter().map(SocketAddr::port).collect();
        assert_eq!((ports, list.len()), (alloc::vec![30_002, 30_004, 30_006], PREDICTED_MAX as usize));
        let mut last = meeting(Ports::Sequential(7));
        last.at.set_port(65_530);
        assert_eq!(plan(Nat::default(), &last, &mut Rng::new([1; 32])), Plan::Probe(Vec::new()));
    }

    #[test]
    fn a_spray_has_a_maximum_and_no_port_comes_twice() {
        let rng = &mut Rng::new([1; 32]);
        for (spread, lies_in) in [
            (Spread::new(PORT_MIN, 1 << 16, rng), 1024..=65_535),
            (Spread::around((29_900, 30_099), rng), 29_500..=30_499),
            (Spread::around((65_500, 65_535), rng), 65_018..=65_535),
            (Spread::around((700, 1000), rng), 700..=1699),
            (Spread::around((9, 3), rng), 3..=1002),
        ] {
            let ports: Vec<u16> = spread.collect();
            let different: BTreeSet<_> = ports.iter().collect();
            assert!(different.len() == ports.len() && ports.len() <= SPRAY_MAX as usize, "{spread:?}");
            assert!(ports.iter().all(|port| lies_in.contains(port)), "{spread:?}");
            assert!(ports.len() as u32 >= SPRAY_MAX.min(u32::from(lies_in.end() - lies_in.start())), "{spread:?}");
        }
    }
}
