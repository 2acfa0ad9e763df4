//! Owns what counts as one source, and how many first registrations come from where.

use crate::bucket::Bucket;
use pilot_core::Instant;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// First registrations that a source may make each second, beside its burst.
const PER_SECOND: u64 = 1;

/// A network: /24 of IPv4, /56 of IPv6.
type Network = [u8; 8];

#[derive(Default)]
pub(crate) struct Sources(BTreeMap<Network, Bucket>);

impl Sources {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True when another node may register from `addr`. This machine's own nodes always may.
    pub(crate) fn admits(&mut self, now: Instant, addr: &SocketAddr, max: usize, burst: u64) -> bool {
        let Some(source) = network(addr) else { return true };
        if !self.0.contains_key(&source) && self.0.len() >= max {
            return false;
        }
        self.0.entry(source).or_insert_with(|| Bucket::new(burst, now)).take(now, 1, PER_SECOND, burst)
    }

    /// Forgets the sources that have been quiet.
    pub(crate) fn sweep(&mut self, now: Instant, burst: u64) {
        self.0.retain(|_, bucket| !bucket.is_full(now, PER_SECOND, burst));
    }
}

/// The network of an address; `None` for this machine's own, which no bound of a network holds for.
pub(crate) fn network(addr: &SocketAddr) -> Option<Network> {
    let ip = addr.ip().to_canonical();
    let mut network = [0; 8];
    match ip {
        IpAddr::V4(ip) => network[1..4].copy_from_slice(&ip.octets()[..3]),
        IpAddr::V6(ip) => {
            network[0] = 6;
            network[1..].copy_from_slice(&ip.octets()[..7]);
        }
    }
    (!ip.is_loopback()).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::time::Duration;

    #[test]
    fn networks_have_a_maximum_and_are_forgotten_when_they_are_quiet() {
        let (mut sources, mut now, max, burst) = (Sources::default(), Instant::ZERO, 3, 2);
        let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (from, admitted) in [
            ("192.0.2.1:1", true),
            ("192.0.2.200:1", true),
            ("[::ffff:192.0.2.9]:1", false), // the third of one network
            ("[2001:db8:0:ff::1]:1", true),
            ("[2001:db8:0:ff00::1]:1", true),
            ("198.51.100.1:1", false), // one network too many
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
        ] {
            assert_eq!(sources.admits(now, &addr(from), max, burst), admitted, "{from}");
        }
        assert_eq!(sources.len(), max);
        now = now + Duration::from_secs(1);
        sources.sweep(now, burst);
        assert_eq!(sources.len(), 1, "the network that has used up its burst");
        assert!(sources.admits(now, &addr("192.0.2.1:1"), max, burst), "one more each second");
        sources.sweep(now + Duration::from_secs(burst), burst);
        assert_eq!(sources.len(), 0);
    }
}
