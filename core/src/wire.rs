//! Owns the outside of every PN1 datagram: five types, told apart by their first byte.
//!
//! ```text
//!  1 INIT   157  type ver flags2 | sender 4 | e 32 | static 48 | timestamp 12, incarnation 8, stance 1, tag 16 | macs 32
//!  2 RESP   101  type ver flags2 | sender 4 | receiver 4 | e 32 | incarnation 8, stance 1, tag 16 | macs 32
//!  3 COOKIE  66  type ver flags2 | receiver 4 | nonce 24 | cookie 16, wait 2, tag 16
//!  4 DATA  32+n  type 0 0 0      | receiver 4 | counter 8 | n bytes of frames | tag 16
//!  5 RELAY 16+n  type 0 0 0      | channel 4 | tag 8 | one of the datagrams above
//! ```
//! Integers are little-endian. Source: `docs/wire.md`, "Datagrams". But for incarnations, stances and the wait, the
//! sizes of 1–4 are WireGuard's, so that what is known about its amplification holds here too.

use core::fmt;

/// Protocol version in INIT, RESP and COOKIE.
pub const VERSION: u8 = 2;
/// Size of an INIT datagram. Unit: bytes.
pub const INIT_LEN: usize = 157;
/// Size of a RESP datagram. Unit: bytes.
pub const RESP_LEN: usize = 101;
/// Size of a COOKIE datagram. Unit: bytes.
pub const COOKIE_LEN: usize = 66;
/// Bytes of an INIT before its first key; they are mixed into the key handshake.
pub(crate) const INIT_HEADER_LEN: usize = 8;
/// Bytes of a RESP before its key; they are mixed into the key handshake.
pub(crate) const RESP_HEADER_LEN: usize = 12;
/// Bytes in front of a DATA datagram's frames; they are the cipher's additional data.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that a DATA datagram adds to its frames: header and tag.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + crate::aead::TAG_LEN;
/// Bytes that the relay leg puts in front of a datagram.
pub const RELAY_HEADER_LEN: usize = 16;
/// Largest datagram on a path that has proven nothing more: IPv6's minimum MTU of 1280 less its and UDP's headers, and
/// less the relay leg's header, so that moving between relay and direct path never changes what fits.
pub const DATAGRAM_LEN_BASE: usize = 1232 - RELAY_HEADER_LEN;
/// Smallest bound for datagrams on a path: an IPv4 datagram of 576 bytes, which every IPv4 network carries, less its and UDP's
/// headers, and less the relay leg's header.
pub const DATAGRAM_LEN_MIN: usize = 576 - 28 - RELAY_HEADER_LEN;
/// Bytes of each of mac1 and mac2.
pub const MAC_LEN: usize = 16;

/// A node's own number for a session: its peer puts it into every datagram of that session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalIndex(pub u32);

/// The peer's number for a session: it goes into every datagram to that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteIndex(pub u32);

/// The cipher's counter of a DATA datagram, which counts a session's datagrams in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter(pub u64);

/// A relay channel: a node's own number for a pair of nodes that the beacon connects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(pub u32);

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const INIT: u8 = 1;
const RESP: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;
const RELAY: u8 = 5;

/// A datagram by type, borrowing its bytes. Nothing in it is authenticated yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// First message of an handshake.
    Init(&'a [u8; INIT_LEN]),
    /// Answer to an INIT.
    Resp(&'a [u8; RESP_LEN]),
    /// Asks for a proof of the sender's address.
    Cookie(&'a [u8; COOKIE_LEN]),
    /// Sealed frames for the session with this receiver index.
    Data {
        /// The session, as its receiver numbered it.
        receiver: LocalIndex,
        /// The cipher's counter, which is the packet number.
        counter: Counter,
    },
    /// A datagram that came through the beacon.
    Relay {
        /// The receiver's number for the pair.
        channel: Channel,
        /// Short tag over header and payload under the receiver's relay key.
        tag: [u8; 8],
    },
}

/// Why bytes are not a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// There is no such type.
    Type,
    /// The size does not fit the type.
    Length,
    /// The version, or a reserved bit, is not spoken here.
    Version,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type => "no datagram has this type",
            Self::Length => "the size does not fit the datagram's type",
            Self::Version => "the datagram's version is not spoken here",
        })
    }
}

impl core::error::Error for WireError {}

impl<'a> Datagram<'a> {
    /// Recognises a datagram by type, size and version. Bounded work; never panics.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header: &[u8; 4] = bytes.first_chunk().ok_or(WireError::Length)?;
        let handshake = match header {
            [INIT..=COOKIE, VERSION, 0, 0] => true,
            [DATA | RELAY, 0, 0, 0] => false,
            [INIT..=RELAY, ..] => return Err(WireError::Version),
            _ => return Err(WireError::Type),
        };
        if handshake {
            return match header[0] {
                INIT => bytes.try_into().map(Self::Init),
                RESP => bytes.try_into().map(Self::Resp),
                _ => bytes.try_into().map(Self::Cookie),
            }
            .map_err(|_| WireError::Length);
        }
        let minimum = if header[0] == DATA { DATA_OVERHEAD } else { RELAY_HEADER_LEN + DATA_OVERHEAD };
        if bytes.len() < minimum {
            return Err(WireError::Length);
        }
        let index = u32_at(bytes, 4);
        Ok(match header[0] {
            DATA => {
                Self::Data { receiver: LocalIndex(index), counter: Counter(u64::from_le_bytes(array_at(bytes, 8))) }
            }
            _ => Self::Relay { channel: Channel(index), tag: array_at(bytes, 8) },
        })
    }
}

/// Writes the header of a DATA datagram into the front of `out` (at least 16 bytes).
pub fn emit_data_header(out: &mut [u8], receiver: RemoteIndex, counter: Counter) {
    debug_assert!(out.len() >= DATA_HEADER_LEN);
    out[..4].copy_from_slice(&[DATA, 0, 0, 0]);
    out[4..8].copy_from_slice(&receiver.0.to_le_bytes());
    out[8..16].copy_from_slice(&counter.0.to_le_bytes());
}

/// The header of the relay leg.
pub fn emit_relay_header(channel: Channel, tag: [u8; 8]) -> [u8; RELAY_HEADER_LEN] {
    let mut out = [0; RELAY_HEADER_LEN];
    out[0] = RELAY;
    out[4..8].copy_from_slice(&channel.0.to_le_bytes());
    out[8..].copy_from_slice(&tag);
    out
}

/// The tag of a relay header: keyed with the node's relay key, over channel and payload's first 32 bytes and length.
///
/// The tag tells a beacon which client speaks, and a client that its beacon does; the payload has a tag of its own.
pub fn relay_tag(key: &[u8; 32], channel: Channel, payload: &[u8]) -> [u8; 8] {
    let head = &payload[..payload.len().min(32)];
    crate::hash::mac8(key, &[&channel.0.to_le_bytes(), &(payload.len() as u32).to_le_bytes(), head])
}

pub(crate) fn handshake_header(kind: HandshakeKind) -> [u8; 4] {
    let byte = match kind {
        HandshakeKind::Init => INIT,
        HandshakeKind::Resp => RESP,
        HandshakeKind::Cookie => COOKIE,
    };
    [byte, VERSION, 0, 0]
}

#[derive(Clone, Copy)]
pub(crate) enum HandshakeKind {
    Init,
    Resp,
    Cookie,
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// `N` bytes at a fixed place in a datagram, after `parse` has checked its length.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("length checked by parse")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn datagrams_are_told_apart_by_type_size_and_version() {
        let mut init = vec![0u8; INIT_LEN];
        init[..4].copy_from_slice(&handshake_header(HandshakeKind::Init));
        assert!(matches!(Datagram::parse(&init), Ok(Datagram::Init(_))));
        assert_eq!(Datagram::parse(&init[..INIT_LEN - 1]), Err(WireError::Length));
        init[1] = VERSION + 1;
        assert_eq!(Datagram::parse(&init), Err(WireError::Version));
        init[0] = 9;
        assert_eq!(Datagram::parse(&init), Err(WireError::Type));
        assert_eq!(Datagram::parse(&[4]), Err(WireError::Length));
    }

    #[test]
    fn data_and_relay_headers_have_their_frozen_bytes() {
        let mut data = vec![0u8; DATA_OVERHEAD];
        emit_data_header(&mut data, RemoteIndex(0x0403_0201), Counter(0x0807_0605_0403_0201));
        assert_eq!(&data[..16], &[4, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            Datagram::parse(&data),
            Ok(Datagram::Data { receiver: LocalIndex(0x0403_0201), counter: Counter(0x0807_0605_0403_0201) })
        );
        assert_eq!(Datagram::parse(&data[..31]), Err(WireError::Length));

        let mut relay = emit_relay_header(Channel(7), [9; 8]).to_vec();
        relay.extend_from_slice(&data);
        assert_eq!(Datagram::parse(&relay), Ok(Datagram::Relay { channel: Channel(7), tag: [9; 8] }));
        assert_eq!(Datagram::parse(&relay[..40]), Err(WireError::Length));
    }
}
