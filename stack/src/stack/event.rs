//! Owns the values that a stack hands out: events, refusals, reasons to wake up, and facts of a stream.

use crate::flow::StreamEnd;
use crate::stream_id::StreamId;
use alloc::vec::Vec;
use core::fmt;
use pilot_core::PeerId;
use pilot_core::endpoint::{Event as EndpointEvent, Timer};
use pilot_core::identity::IdentityKey;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No such stream, or it has ended and was closed.
    UnknownStream,
    /// No such trusted peer.
    UnknownPeer,
    /// The port has a listener already.
    PortInUse,
    /// No local port is free, or the peer has too many streams.
    TooMany,
    /// The datagram does not fit the path, or the early data its maximum.
    TooLong,
    /// The writing side of the stream is shut down.
    ShutDown,
    /// The stream has ended.
    Ended(StreamEnd),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownStream => f.write_str("no such stream"),
            Self::UnknownPeer => f.write_str("no such trusted peer"),
            Self::PortInUse => f.write_str("the port is in use"),
            Self::TooMany => f.write_str("too many streams to this peer"),
            Self::TooLong => f.write_str("more bytes than one datagram carries"),
            Self::ShutDown => f.write_str("the stream's writing side is shut down"),
            Self::Ended(end) => end.fmt(f),
        }
    }
}

impl core::error::Error for CommandError {}

/// Tells the application of a change.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer opened a stream to a listener's port.
    Incoming {
        /// The listener's port.
        port: u16,
        /// The stream, open for reading and writing. Counts towards the listener's backlog until [`Stack::accepted`],
        /// [`Stack::close`] or [`Stack::abort`].
        ///
        /// [`Stack::accepted`]: super::Stack::accepted
        /// [`Stack::close`]: super::Stack::close
        /// [`Stack::abort`]: super::Stack::abort
        stream: StreamId,
    },
    /// A stream connected, became readable or writable, or ended: read it, write it, or ask [`Stack::stream_info`]. May
    /// come without a cause.
    ///
    /// [`Stack::stream_info`]: super::Stack::stream_info
    Stream(StreamId),
    /// A datagram arrived for a bound port.
    Datagram {
        /// The sender.
        from: IdentityKey,
        /// The sender's port.
        source_port: u16,
        /// The bound port.
        port: u16,
        /// The datagram's bytes.
        payload: Vec<u8>,
    },
    /// An event of the endpoint below.
    Endpoint(EndpointEvent),
}

/// Why a stack wants to be woken, so that a busy loop explains itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// TCP of a stream to this peer: an acknowledgement that waited, a retransmission, or the end of patience with a
    /// closed stream.
    Tcp(PeerId),
    /// The endpoint below.
    Endpoint(Timer),
}

/// Facts of a stream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The peer at the other end.
    pub peer: PeerId,
    /// The port at this end.
    pub local_port: u16,
    /// The port at the peer's end.
    pub remote_port: u16,
    /// The connection stands, or is half closed.
    pub connected: bool,
    /// The peer has not answered yet.
    pub connecting: bool,
    /// Room in the send ring. Unit: bytes.
    pub writable: usize,
    /// Bytes that can be read now.
    pub readable: usize,
    /// Bytes written and not yet acknowledged by the peer's TCP.
    pub unacknowledged: usize,
    /// Bytes written and acknowledged by the peer's TCP.
    pub acknowledged: u64,
    /// How the stream ended, if it broke.
    pub end: Option<StreamEnd>,
    /// State as in RFC 9293 §3.3.2, in capitals.
    pub state: &'static str,
}
