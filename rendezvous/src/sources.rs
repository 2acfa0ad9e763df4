//! Owns how many first registrations come from where.

use crate::bucket::Bucket;
use pilot_core::Instant;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// First registrations that a source may make each second, beside its burst.
const PER_SECOND: u64 = 1;

/// A network: /24 of IPv4, /56 of IPv6.
type Source = [u8; 8];

#[derive(Default)]
pub(crate) struct Sources(BTreeMap<Source, Bucket>);

impl Sources {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True when another node may register from `addr`. This machine's own nodes always may.
    pub(crate) fn admits(&mut self, now: Instant, addr: &SocketAddr, max: usize, burst: u64) -> bool {
        let ip = addr.ip().to_canonical();
        if ip.is_loopback() {
            return true;
        }
        let source = source(ip);
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

fn source(ip: IpAddr) -> Source {
    let mut source = [0; 8];
    match ip {
        IpAddr::V4(ip) => source[1..4].copy_from_slice(&ip.octets()[..3]),
        IpAddr::V6(ip) => {
            source[0] = 6;
            source[1..].copy_from_slice(&ip.octets()[..7]);
        }
    }
    source
}
