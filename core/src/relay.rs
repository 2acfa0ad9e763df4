//! Owns the relay leg: the header that stands in front of every datagram between a node and its beacon.
//!
//! Its tag tells the beacon which client speaks, and a client that its beacon does. The datagram behind it is sealed
//! end to end, and the beacon holds no key for it.

use crate::hash::equal;
use crate::path::PathAddr;
use crate::wire::{Channel, RELAY_HEADER_LEN, emit_relay_header, relay_tag};

/// The key of the relay leg, which the rendezvous gives to each client when it registers.
pub(crate) type RelayKey = [u8; 32];

/// The way of one datagram, with what its relay header is made of.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    /// Where it goes.
    pub(crate) to: PathAddr,
    key: &'a RelayKey,
}

impl<'a> Route<'a> {
    pub(crate) const fn new(to: PathAddr, key: &'a RelayKey) -> Self {
        Self { to, key }
    }

    /// Room in front of a datagram on this way. Unit: bytes.
    pub(crate) const fn header_len(self) -> usize {
        match self.to {
            PathAddr::Direct(_) | PathAddr::Side(..) => 0,
            PathAddr::Relay(_) => RELAY_HEADER_LEN,
        }
    }

    /// Writes the header into the room in front of the finished datagram, if this way has one.
    #[inline]
    pub(crate) fn emit_header(self, datagram: &mut [u8]) {
        debug_assert!(datagram.len() > self.header_len(), "a header stands before a datagram");
        if let PathAddr::Relay(channel) = self.to
            && let Some((header, inner)) = datagram.split_first_chunk_mut::<RELAY_HEADER_LEN>()
        {
            *header = emit_relay_header(channel, relay_tag(self.key, channel, inner));
        }
    }
}

/// True when the header of a relayed datagram was made with `key`: it comes from our beacon.
pub(crate) fn is_authentic(key: &RelayKey, channel: Channel, tag: &[u8], inner: &[u8]) -> bool {
    equal(&relay_tag(key, channel, inner), tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datagram;
    use core::net::SocketAddr;
    use std::vec;

    #[test]
    fn only_a_relayed_datagram_has_a_header_and_only_its_key_verifies_it() {
        let direct = Route::new(PathAddr::Direct(SocketAddr::from(([192, 0, 2, 1], 4000))), &[7; 32]);
        assert_eq!(direct.header_len(), 0);
        let mut datagram = vec![9; 40];
        direct.emit_header(&mut datagram);
        assert_eq!(datagram, [9; 40]);

        let relayed = Route::new(PathAddr::Relay(Channel(5)), &[7; 32]);
        let mut datagram = vec![9; relayed.header_len() + 40];
        relayed.emit_header(&mut datagram);
        let Ok(Datagram::Relay { channel, tag }) = Datagram::parse(&datagram) else { panic!("{datagram:?}") };
        let inner = &datagram[RELAY_HEADER_LEN..];
        assert_eq!((channel, inner), (Channel(5), &[9; 40][..]));
        assert!(is_authentic(&[7; 32], channel, &tag, inner));
        assert!(!is_authentic(&[8; 32], channel, &tag, inner), "another client's key");
        assert!(!is_authentic(&[7; 32], Channel(6), &tag, inner), "another channel");
        assert!(!is_authentic(&[7; 32], channel, &tag, &inner[1..]), "another length");
    }
}
