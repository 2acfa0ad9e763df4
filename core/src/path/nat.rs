//! Owns what is known of a NAT: how it maps, in the terms of RFC 4787, and which port it gives next.

use super::Source;
use crate::time::Instant;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most ports from one mapping to the next that count as one after the other. Source: own choice; other hosts behind the NAT open
/// flows meanwhile.
const STEP_MAX: u16 = 16;
/// Most ports of what counts as a block. Source: own choice, twice the 512 that are common (RFC 7422); four random ports lie so close
/// once in 60,000 times.
const BLOCK_LEN_MAX: u16 = 1024;

/// What the outer port of a socket depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Too few answers.
    #[default]
    Unknown,
    /// Nothing: peers reach the address that the rendezvous sees.
    Independent,
    /// The address that is sent to.
    AddressDependent,
    /// Address and port that are sent to ("symmetric").
    PortDependent,
}

/// Which port a new mapping gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// Not known, or of no interest.
    #[default]
    Unknown,
    /// That of the socket.
    Kept,
    /// So many more than the one before.
    Sequential(i16),
    /// Any one of a small block.
    Block,
    /// Any.
    Random,
}

/// A NAT as its inner host sees it, or none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// What a mapping depends on.
    pub mapping: Mapping,
    /// Which port a new one gets.
    pub ports: Ports,
}

impl Mapping {
    /// Its name: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Independent => "independent",
            Self::AddressDependent => "address_dependent",
            Self::PortDependent => "port_dependent",
        }
    }
}

impl Ports {
    /// Its name: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Kept => "kept",
            Self::Sequential(_) => "sequential",
            Self::Block => "block",
            Self::Random => "random",
        }
    }
}

impl core::fmt::Display for Nat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.mapping.name())?;
        match self.ports {
            Ports::Unknown => Ok(()),
            Ports::Sequential(step) => write!(f, ", ports {} ({step:+})", self.ports.name()),
            ports => write!(f, ", ports {}", ports.name()),
        }
    }
}

impl Nat {
    /// True when a peer can send to the address that others see, as far as is known.
    pub fn is_easy(self) -> bool {
        self.mapping <= Mapping::Independent
    }

    /// True when no meeting makes a direct path between the hosts of two such NATs.
    pub fn is_hopeless_with(self, other: Self) -> bool {
        let are_sequential = matches!((self.ports, other.ports), (Ports::Sequential(_), Ports::Sequential(_)));
        !(self.is_easy() || other.is_easy() || are_sequential)
    }
}

/// What has passed between this node and a peer; boxed, since most peers need no meeting.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acquaintance {
    /// The peer's NAT, as the peer says.
    pub(crate) nat: Nat,
    /// When the newest meeting began.
    pub(crate) met_at: Option<Instant>,
    /// When the newest one began in which many ports were tried.
    pub(crate) birthday_at: Option<Instant>,
}

/// The address that one socket has for one destination, in the order in which they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) source: Source,
    pub(crate) asked: SocketAddr,
    pub(crate) seen: SocketAddr,
}

/// What samples say of a NAT.
pub(crate) fn classify(samples: &[Sample]) -> Nat {
    let mut mapping = Mapping::Unknown;
    for (i, a) in samples.iter().enumerate() {
        for b in samples[..i].iter().filter(|b| b.source == a.source) {
            mapping = mapping.max(match (a.seen == b.seen, a.asked.ip() == b.asked.ip()) {
                (true, _) => Mapping::Independent,
                (false, false) => Mapping::AddressDependent,
                (false, true) => Mapping::PortDependent,
            });
        }
    }
    let ports = if mapping > Mapping::Independent { ports_of(samples) } else { Ports::Unknown };
    Nat { mapping, ports }
}

fn ports_of(samples: &[Sample]) -> Ports {
    let is_new = |(i, s): &(usize, &Sample)| !samples[..*i].iter().any(|b| b.source == s.source && b.seen == s.seen);
    let ports: Vec<u16> = samples.iter().enumerate().filter(is_new).map(|(_, sample)| sample.seen.port()).collect();
    let steps = || ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as i16);
    let Some(step) = steps().min_by_key(|step| step.unsigned_abs()).filter(|_| ports.len() > 2) else {
        return Ports::Unknown;
    };
    let is_along = |next: i16| next.signum() == step.signum() && next.unsigned_abs() <= STEP_MAX;
    let span = ports.iter().max().zip(ports.iter().min()).map_or(0, |(high, low)| high - low);
    match () {
        () if step != 0 && steps().all(is_along) => Ports::Sequential(step),
        () if span < BLOCK_LEN_MAX => Ports::Block,
        () => Ports::Random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two sockets see that ask two ports of one address and one of another.
    fn classified(ports: [u16; 6]) -> Nat {
        let asked = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:2"].map(|addr| addr.parse().expect("an address"));
        let sample = |(i, port)| Sample {
            source: Source(1 + i as u32 / 3),
            asked: asked[i % 3],
            seen: SocketAddr::from(([203, 0, 113, 1], port)),
        };
        classify(&ports.into_iter().enumerate().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn nats_are_told_apart_by_six_answers() {
        use Mapping::{AddressDependent, Independent, PortDependent};
        for (ports, mapping, order) in [
            ([5, 5, 5, 900, 900, 900], Independent, Ports::Unknown),
            ([5, 5, 900, 40_000, 40_000, 777], AddressDependent, Ports::Random),
            ([5, 5, 7, 9, 9, 11], AddressDependent, Ports::Sequential(2)),
            ([5, 6, 7, 8, 9, 10], PortDependent, Ports::Sequential(1)),
            ([5, 6, 8, 9, 12, 13], PortDependent, Ports::Sequential(1)),
            ([2, 1, 0, 65_535, 65_534, 65_532], PortDependent, Ports::Sequential(-1)),
            ([500, 30, 77, 401, 3, 99], PortDependent, Ports::Block),
            ([500, 30_000, 77, 401, 3, 99], PortDependent, Ports::Random),
        ] {
            assert_eq!(classified(ports), Nat { mapping, ports: order }, "{ports:?}");
        }
    }

    #[test]
    fn few_answers_say_little() {
        let seen = SocketAddr::from(([203, 0, 113, 1], 7));
        let sample =
            |source, port| Sample { source: Source(source), asked: seen, seen: SocketAddr::new(seen.ip(), port) };
        assert_eq!(classify(&[]), Nat::default());
        assert_eq!(classify(&[sample(1, 7), sample(2, 99)]), Nat::default());
        let nat = classify(&[sample(1, 7), sample(1, 8)]);
        assert_eq!((nat.mapping, nat.ports), (Mapping::PortDependent, Ports::Unknown));
    }

    #[test]
    fn two_unpredictable_nats_are_hopeless() {
        let hard = |ports| Nat { mapping: Mapping::PortDependent, ports };
        let (sequential, random, easy) = (hard(Ports::Sequential(1)), hard(Ports::Random), Nat::default());
        assert!(random.is_hopeless_with(random) && random.is_hopeless_with(sequential));
        assert!(!sequential.is_hopeless_with(sequential) && !easy.is_hopeless_with(random));
    }
}
