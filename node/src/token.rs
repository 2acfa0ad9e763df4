//! Owns the numbers under which mio reports readiness: each names a room and one of its descriptors.

use mio::Token;

/// Bits of a token behind its room.
const NUMBER_BITS: u32 = usize::BITS - 4;
/// Numbers that each room has.
pub(crate) const NUMBERS: usize = 1 << NUMBER_BITS;

/// The owner of a registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Room {
    /// The UDP socket.
    Underlay,
    /// The waker of the loop.
    Waker,
    /// The watch on this machine's addresses.
    Addresses,
    /// The IPC listener and its clients.
    Ipc,
    /// Descriptors of handed-out streams.
    Streams,
    /// Datagram ports of clients.
    Datagrams,
    /// Sockets of programs, and the listeners that they connect to.
    Programs,
    /// The watch on steps of the wall clock.
    Clock,
    /// The UDP sockets beside the node's own one.
    Sides,
    /// The sockets towards gateways that map ports.
    Mapping,
    /// The sockets that hear the announcements of nodes on one network.
    Lan,
    /// The connection to the rendezvous over TLS.
    #[cfg(feature = "tls")]
    Tls,
}

impl Room {
    const ALL: &[Self] = &[
        Self::Underlay,
        Self::Waker,
        Self::Addresses,
        Self::Ipc,
        Self::Streams,
        Self::Datagrams,
        Self::Programs,
        Self::Clock,
        Self::Sides,
        Self::Mapping,
        Self::Lan,
        #[cfg(feature = "tls")]
        Self::Tls,
    ];

    /// The token of descriptor `number` of this room.
    pub(crate) const fn token(self, number: usize) -> Token {
        debug_assert!(number < NUMBERS, "rooms count anew before that");
        Token((self as usize) << NUMBER_BITS | number)
    }

    /// The number of a token of this room.
    pub(crate) const fn number(self, token: Token) -> usize {
        debug_assert!(token.0 >> NUMBER_BITS == self as usize, "the token of another room");
        token.0 % NUMBERS
    }

    /// The room of a token; `None` for a token that no room has made.
    pub(crate) fn of(token: Token) -> Option<Self> {
        Self::ALL.get(token.0 >> NUMBER_BITS).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_names_its_room() {
        for &room in Room::ALL {
            for number in [0, 1, 1 << 20] {
                let token = room.token(number);
                assert_eq!((Room::of(token), room.number(token)), (Some(room), number));
            }
        }
        assert_eq!(Room::of(Token(usize::MAX)), None);
    }
}
