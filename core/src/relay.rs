//! Owns the relay leg: the header that stands in front of every datagram between a node and its beacon.
//!
//! Its tag tells the beacon which client speaks, and a client that its beacon does. The datagram behind it is sealed
//! end to end, and the beacon holds no key for it.

use crate::hash::equal;
use crate::path::PathAddr;
use crate::wire::{Channel, RELAY_HEADER_LEN, emit_relay_header, relay_tag};
use alloc::vec::Vec;
use core::net::SocketAddr;
use litemap::LiteMap;

/// The key of the relay leg, which the rendezvous gives to each client when it registers.
pub(crate) type RelayKey = [u8; 32];

/// Number of a relay of this node: 0 is that of its rendezvous, the spares follow.
pub(crate) type RelayNumber = u8;

/// The legs to the spare relays, and the channels that are theirs. All others are those of the rendezvous.
///
/// Each relay draws the numbers of its channels at random; a number that another spare has given is not used.
#[derive(Default)]
pub(crate) struct Legs {
    /// Address and key of each spare, the first of which has the number 1.
    spares: Vec<(SocketAddr, RelayKey)>,
    channels: LiteMap<u32, RelayNumber>,
}

impl Legs {
    /// Adds a spare relay and gives its number.
    pub(crate) fn add(&mut self, addr: SocketAddr) -> RelayNumber {
        self.spares.push((addr, [0; 32]));
        self.spares.len() as RelayNumber
    }

    /// The spare that has given this channel; `None`: the rendezvous.
    pub(crate) fn number(&self, channel: Channel) -> Option<RelayNumber> {
        self.channels.get(&channel.0).copied()
    }

    /// The spare at this address.
    pub(crate) fn at(&self, addr: &SocketAddr) -> Option<RelayNumber> {
        self.spares.iter().position(|(at, _)| at == addr).map(|at| at as RelayNumber + 1)
    }

    /// Where the spare is that has given this channel.
    pub(crate) fn addr_of(&self, channel: Channel) -> Option<SocketAddr> {
        Some(self.spare_of(channel)?.0)
    }

    fn spare_of(&self, channel: Channel) -> Option<&(SocketAddr, RelayKey)> {
        self.spares.get(usize::from(self.number(channel)?) - 1)
    }

    fn spare_mut(&mut self, number: RelayNumber) -> Option<&mut (SocketAddr, RelayKey)> {
        self.spares.get_mut(usize::from(number).checked_sub(1)?)
    }

    pub(crate) fn set_addr(&mut self, number: RelayNumber, addr: SocketAddr) {
        self.spare_mut(number).into_iter().for_each(|spare| spare.0 = addr);
    }

    pub(crate) fn set_key(&mut self, number: RelayNumber, key: RelayKey) {
        self.spare_mut(number).into_iter().for_each(|spare| spare.1 = key);
    }

    /// Notes that a spare has given this channel; false when another one has.
    pub(crate) fn open(&mut self, number: RelayNumber, channel: Channel) -> bool {
        let is_free = self.number(channel).is_none_or(|of| of == number);
        if is_free {
            self.channels.insert(channel.0, number);
        }
        is_free
    }

    pub(crate) fn close(&mut self, channel: Channel) {
        self.channels.remove(&channel.0);
    }

    #[cfg(test)]
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }
}

/// The keys of all legs.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    rendezvous: &'a RelayKey,
    legs: &'a Legs,
}

impl<'a> Keys<'a> {
    pub(crate) const fn new(rendezvous: &'a RelayKey, legs: &'a Legs) -> Self {
        Self { rendezvous, legs }
    }

    /// The key for datagrams in this channel.
    pub(crate) fn of(self, channel: Channel) -> &'a RelayKey {
        self.legs.spare_of(channel).map_or(self.rendezvous, |(_, key)| key)
    }

    pub(crate) fn route(self, to: PathAddr) -> Route<'a> {
        let key = if let PathAddr::Relay(channel) = to { self.of(channel) } else { self.rendezvous };
        Route { to, key }
    }
}

/// The way of one datagram, with what its relay header is made of.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    /// Where it goes.
    pub(crate) to: PathAddr,
    key: &'a RelayKey,
}

impl<'a> Route<'a> {
    #[cfg(test)]
    const fn new(to: PathAddr, key: &'a RelayKey) -> Self {
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
    fn a_channel_belongs_to_the_relay_that_gave_it() {
        let (mut legs, home) = (Legs::default(), [1; 32]);
        let addr = |n: u8| SocketAddr::from(([192, 0, 2, n], 4000));
        assert_eq!((legs.add(addr(1)), legs.add(addr(2))), (1, 2));
        legs.set_key(1, [2; 32]);
        legs.set_key(2, [3; 32]);
        assert!(legs.open(1, Channel(7)) && legs.open(1, Channel(7)) && legs.open(2, Channel(8)));
        assert!(!legs.open(2, Channel(7)), "another relay has given it");
        let keys = Keys::new(&home, &legs);
        let key = |channel| keys.route(PathAddr::Relay(Channel(channel))).key[0];
        assert_eq!([key(7), key(8), key(9)], [2, 3, 1]);
        assert_eq!((legs.addr_of(Channel(7)), legs.addr_of(Channel(9))), (Some(addr(1)), None));
        legs.close(Channel(7));
        legs.set_addr(1, addr(3));
        assert_eq!((legs.number(Channel(7)), legs.at(&addr(1)), legs.at(&addr(3))), (None, None, Some(1)));
        assert_eq!(legs.channels(), 1);
    }

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
