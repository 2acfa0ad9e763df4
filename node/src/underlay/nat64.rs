//! Owns the way to IPv4 addresses on networks that have IPv6 alone and translate: how the network's prefix is found (RFC 7050),
//! and which IPv6 address stands for an IPv4 address (RFC 6052).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name that has an IPv6 address only where a network translates. Source: RFC 7050 §3.
pub(super) const WELL_KNOWN_NAME: &str = "ipv4only.arpa";
/// The IPv4 addresses of that name. Source: RFC 7050 §2.2.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// The prefix that stands for public addresses only. Source: RFC 6052 §3.1.
const WELL_KNOWN_PREFIX: u128 = 0x0064_ff9b << 96;
/// Lengths of prefixes, the usual one first. Unit: bytes. Source: RFC 6052 §2.2.
const PREFIX_LENS: [u8; 6] = [12, 8, 7, 6, 5, 4];
/// The byte of an address that is always zero. Source: as above.
const ZERO_BYTE: usize = 8;

/// The prefix of a network that translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nat64 {
    prefix: u128,
    /// Unit: bytes.
    len: u8,
}

impl Nat64 {
    /// The prefix that the addresses of [`WELL_KNOWN_NAME`] show.
    pub(super) fn found(addresses: &[IpAddr]) -> Option<Self> {
        let of = |ip: Ipv6Addr, len: u8| Self { prefix: ip.to_bits() & (u128::MAX << (128 - 8 * u32::from(len))), len };
        let shows = |ip: Ipv6Addr| {
            let prefixes = PREFIX_LENS.into_iter().map(|len| of(ip, len));
            prefixes.into_iter().find(|prefix| prefix.embedded(ip).is_some_and(|ip| WELL_KNOWN.contains(&ip)))
        };
        addresses.iter().find_map(|ip| match ip {
            IpAddr::V6(ip) => shows(*ip),
            IpAddr::V4(_) => None,
        })
    }

    /// The IPv6 address that stands for an IPv4 address; `None` where none does.
    pub(super) fn synthesize(&self, ip: Ipv4Addr) -> Option<Ipv6Addr> {
        let is_near =
            ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified();
        let is_private = self.prefix == WELL_KNOWN_PREFIX && ip.is_private();
        (!is_near && !is_private).then(|| self.embed(ip))
    }

    /// The IPv4 address for which an IPv6 address stands.
    pub(super) fn extract(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        self.embedded(ip).filter(|v4| self.synthesize(*v4).is_some())
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        (usize::from(self.len)..16).filter(|at| *at != ZERO_BYTE).take(4)
    }

    fn embed(&self, ip: Ipv4Addr) -> Ipv6Addr {
        let mut bytes = self.prefix.to_be_bytes();
        self.places().zip(ip.octets()).for_each(|(at, byte)| bytes[at] = byte);
        Ipv6Addr::from(bytes)
    }

    fn embedded(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let (bytes, mut v4) = (ip.octets(), [0; 4]);
        self.places().zip(&mut v4).for_each(|(at, byte)| *byte = bytes[at]);
        Some(Ipv4Addr::from(v4)).filter(|v4| self.embed(*v4) == ip)
    }
}

/// Most addresses that this node uses in their IPv6 form. Source: own choice, twice the places of a rendezvous, whose name may
/// have such addresses; what comes from an address beyond that counts as coming from the IPv4 address, and its path is found anew.
const AS_IS_MAX: usize = 16;

/// The translation at a socket: an address that is used in its IPv6 form, as names have it on such a network, keeps that form.
#[derive(Clone)]
pub(super) struct Translation {
    nat64: Nat64,
    /// Addresses with the prefix to which something was sent; the newest stands last.
    as_is: Vec<Ipv6Addr>,
}

impl Translation {
    pub(super) const fn new(nat64: Nat64) -> Self {
        Self { nat64, as_is: Vec::new() }
    }

    /// Something leaves for an IPv6 address.
    pub(super) fn note(&mut self, ip: Ipv6Addr) {
        if self.nat64.extract(ip).is_some() && !self.as_is.contains(&ip) {
            if self.as_is.len() == AS_IS_MAX {
                self.as_is.remove(0);
            }
            self.as_is.push(ip);
        }
    }

    /// The form that an IPv4 address has on the network.
    pub(super) fn outwards(&self, ip: Ipv4Addr) -> Option<Ipv6Addr> {
        self.nat64.synthesize(ip)
    }

    /// The IPv4 address that stands behind an address of the network, if it is not used as it is.
    pub(super) fn inwards(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        self.nat64.extract(ip).filter(|_| !self.as_is.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_used_in_their_ipv6_form_keep_it_and_have_a_maximum() {
        let mut translation = Translation::new(found("64:ff9b::192.0.0.170").expect("one"));
        let (v4, form) = (Ipv4Addr::new(192, 0, 2, 1), v6("64:ff9b::192.0.2.1"));
        assert_eq!((translation.outwards(v4), translation.inwards(form)), (Some(form), Some(v4)));
        translation.note(form);
        translation.note(v6("2001:db8::1"));
        assert_eq!((translation.inwards(form), translation.as_is.len()), (None, 1));
        for n in 0..AS_IS_MAX as u8 {
            translation.note(v6(&format!("64:ff9b::198.51.100.{n}")));
        }
        assert_eq!(
            (translation.inwards(form), translation.as_is.len()),
            (Some(v4), AS_IS_MAX),
            "the oldest is forgotten"
        );
    }

    fn found(text: &str) -> Option<Nat64> {
        Nat64::found(&[IpAddr::from([192, 0, 0, 170]), text.parse().expect(text)])
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect(text)
    }

    #[test]
    fn the_prefix_is_found_wherever_the_address_stands() {
        // The table of RFC 6052 §2.4 has 192.0.2.33.
        for (shown, address) in [
            ("2001:db8:c000:aa::", "2001:db8:c000:221::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:2:21::"),
            ("2001:db8:122:c000:0:aa00::", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344:c0:0:aa00::", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::192.0.0.171", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::192.0.0.170", "64:ff9b::192.0.2.33"),
        ] {
            let nat64 = found(shown).expect(shown);
            assert_eq!(nat64.synthesize(Ipv4Addr::new(192, 0, 2, 33)), Some(v6(address)), "{shown}");
            assert_eq!(nat64.extract(v6(address)), Some(Ipv4Addr::new(192, 0, 2, 33)), "{shown}");
        }
        assert_eq!((found("2001:db8::1"), found("192.0.0.171"), Nat64::found(&[])), (None, None, None));
    }

    #[test]
    fn addresses_of_this_machine_and_of_its_network_are_not_translated() {
        let (public, own) = (found("64:ff9b::192.0.0.170").expect("one"), found("2001:db8::192.0.0.170").expect("one"));
        for ip in [[127, 0, 0, 1], [169, 254, 1, 1], [224, 0, 0, 1], [255; 4], [0; 4]].map(Ipv4Addr::from) {
            assert_eq!((public.synthesize(ip), own.synthesize(ip)), (None, None), "{ip}");
            assert_eq!(own.extract(own.embed(ip)), None, "{ip}");
        }
        let private = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!((public.synthesize(private), public.extract(v6("64:ff9b::10.0.0.1"))), (None, None));
        assert_eq!(own.synthesize(private), Some(v6("2001:db8::10.0.0.1")));
        assert_eq!(own.extract(v6("2001:db9::10.0.0.1")), None);
        assert_eq!(own.extract(v6("2001:db8::1:10.0.0.1")), None);
    }
}
