//! Owns the names of the ways to a peer.

use crate::wire::Channel;
use core::fmt;
use core::net::SocketAddr;

/// Number of a socket from which a node sends. Others than its own one are opened with the first datagram that leaves from them, and
/// no number is used again after [`Endpoint::poll_closed_source`](crate::Endpoint::poll_closed_source) has given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(pub u32);

impl Source {
    /// The socket at whose address a node says that it may be reached.
    pub const MAIN: Self = Self(0);
}

/// One way to send a datagram to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathAddr {
    /// Straight to this underlay address.
    Direct(SocketAddr),
    /// The same from another socket than [`Source::MAIN`], which NATs know by another port.
    Side(SocketAddr, Source),
    /// Through the beacon, on this channel.
    Relay(Channel),
}

impl PathAddr {
    /// Straight to `addr`, from this socket.
    pub(crate) fn from_source(addr: SocketAddr, source: Source) -> Self {
        if source == Source::MAIN { Self::Direct(addr) } else { Self::Side(addr, source) }
    }

    /// True unless the way leads through the beacon.
    pub const fn is_direct(self) -> bool {
        !matches!(self, Self::Relay(_))
    }

    /// The underlay address of the peer; `None` through the beacon.
    pub const fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Direct(addr) | Self::Side(addr, _) => Some(addr),
            Self::Relay(_) => None,
        }
    }

    /// The socket from which datagrams leave.
    pub const fn source(self) -> Source {
        match self {
            Self::Side(_, source) => source,
            Self::Direct(_) | Self::Relay(_) => Source::MAIN,
        }
    }
}

impl fmt::Display for PathAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(addr) => write!(f, "direct {addr}"),
            Self::Side(addr, _) => write!(f, "direct {addr} from another port"),
            Self::Relay(channel) => write!(f, "relay channel {channel}"),
        }
    }
}

impl fmt::Debug for PathAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
