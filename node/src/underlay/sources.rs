//! Owns the addresses of this machine to which others spoke last, so that answers leave from the address that was asked. A machine
//! with several addresses would else answer from another one, which the asker's firewall does not let in.

use crate::crypto::entropy;
use std::net::{IpAddr, SocketAddr};

/// Most addresses of others that are known. Source: own choice, clients of one rendezvous that are served at once; what is beyond
/// is answered from the address that the system chooses.
const SOURCES_MAX: usize = 8192;
/// Places of the first table.
const SOURCES_MIN: usize = 64;
/// Places in which an address may stand.
const NEAR: usize = 4;

#[derive(Clone, Copy)]
struct Place {
    remote: SocketAddr,
    local: IpAddr,
    /// Something was sent there. Strangers, which get no answer, do not drive such a place out.
    is_answered: bool,
}

/// A table from addresses of others to addresses of this machine: a hash of the first finds its few places.
#[derive(Default)]
pub(super) struct Sources {
    /// None, or a power of two.
    places: Vec<Option<Place>>,
    seed: u64,
}

impl Sources {
    /// A datagram came from `remote` to `local`.
    pub(super) fn note(&mut self, remote: SocketAddr, local: IpAddr) {
        if let Some(place) = self.find(&remote) {
            place.local = local;
            return;
        }
        let new = Place { remote, local, is_answered: false };
        while !self.insert(new) && self.places.len() < SOURCES_MAX {
            self.grow();
        }
    }

    /// The address of this machine to which `remote` spoke last; something leaves for there now.
    pub(super) fn local(&mut self, remote: &SocketAddr) -> Option<IpAddr> {
        let place = self.find(remote)?;
        place.is_answered = true;
        Some(place.local)
    }

    pub(super) fn forget(&mut self, remote: &SocketAddr) {
        let slots = self.near(remote).filter(|at| self.places[*at].is_some_and(|place| place.remote == *remote));
        if let Some(at) = slots.last() {
            self.places[at] = None;
        }
    }

    fn find(&mut self, remote: &SocketAddr) -> Option<&mut Place> {
        let at = self.near(remote).find(|at| self.places[*at].is_some_and(|place| place.remote == *remote))?;
        self.places[at].as_mut()
    }

    /// The places in which an address may stand.
    fn near(&self, remote: &SocketAddr) -> impl Iterator<Item = usize> + use<> {
        let bits = match remote.ip() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let mut hash = self.seed ^ u64::from(remote.port()).rotate_left(48);
        for word in [bits as u64, (bits >> 64) as u64] {
            // A round of SplitMix64.
            hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            hash ^= hash >> 31;
        }
        let len = self.places.len();
        (0..NEAR.min(len)).map(move |n| (hash as usize + n) & (len - 1))
    }

    /// Takes a free place, or in the largest table one that was not answered; false when there is none.
    fn insert(&mut self, new: Place) -> bool {
        let is_largest = self.places.len() >= SOURCES_MAX;
        let is_free = |place: &Option<Place>| place.is_none_or(|place| is_largest && !place.is_answered);
        let at = self.near(&new.remote).find(|at| is_free(&self.places[*at]));
        at.inspect(|at| self.places[*at] = Some(new)).is_some()
    }

    /// Doubles the table; addresses that find no place even so are forgotten.
    fn grow(&mut self) {
        if self.places.is_empty() {
            self.seed = u64::from_ne_bytes(entropy());
        }
        let len = (self.places.len() * 2).clamp(SOURCES_MIN, SOURCES_MAX);
        debug_assert!(len.is_power_of_two() && len > self.places.len(), "a larger table");
        let before = std::mem::replace(&mut self.places, vec![None; len]);
        before.into_iter().flatten().for_each(|place| {
            self.insert(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 7))
    }

    #[test]
    fn the_newest_address_is_known_until_it_is_forgotten() {
        let mut sources = Sources::default();
        let (one, two): (IpAddr, IpAddr) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(sources.local(&remote(1)), None);
        sources.note(remote(1), one);
        sources.note(remote(2), one);
        sources.note(remote(1), two);
        assert_eq!((sources.local(&remote(1)), sources.local(&remote(2))), (Some(two), Some(one)));
        sources.forget(&remote(1));
        sources.forget(&remote(3));
        assert_eq!((sources.local(&remote(1)), sources.local(&remote(2))), (None, Some(one)));
        let v6: SocketAddr = "[2001:db8::1]:7".parse().expect("an address");
        sources.note(v6, two);
        assert_eq!(sources.local(&v6), Some(two));
    }

    #[test]
    fn sources_have_a_maximum_and_strangers_drive_out_only_strangers() {
        let mut sources = Sources::default();
        let local = IpAddr::from([10, 0, 0, 1]);
        for n in 0..100 {
            sources.note(remote(n), local);
            assert_eq!(sources.local(&remote(n)), Some(local), "answered");
        }
        for n in 1000..100_000 {
            sources.note(remote(n), local);
        }
        assert_eq!(sources.places.len(), SOURCES_MAX);
        let known = |sources: &mut Sources, range: std::ops::Range<u32>| {
            range.filter(|n| sources.local(&remote(*n)).is_some()).count()
        };
        assert_eq!(known(&mut sources, 0..100), 100);
        assert!(known(&mut sources, 1000..100_000) < SOURCES_MAX);
        for n in 0..100_000 {
            sources.forget(&remote(n));
        }
        assert!(sources.places.iter().all(Option::is_none));
    }
}
