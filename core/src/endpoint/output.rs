//! Owns what an endpoint says: events, batches, timers, and what is known of a peer.

use super::PeerId;
use super::directory::DirectoryState;
use crate::control::{Answer, Call, Ticket};
use crate::identity::{IdentityKey, NodeRecord};
use crate::link::LinkStats;
use crate::path::{Path, PathAddr};
use crate::time::{Duration, Instant};
use crate::trust::{Outcome, TrustVersion};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Why all streams to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetReason {
    /// The peer process ended in order.
    Closed,
    /// The peer is another process than before.
    Restarted,
    /// No answer on any path for the time allowed.
    Unreachable,
    /// The rendezvous does not have the peer connected, and no known address answers.
    Away,
    /// One side withdrew its trust.
    Revoked,
}

/// What happened, for the owner of the endpoint.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session with the peer exists.
    Up(PeerId),
    /// Whatever was in flight to and from the peer is lost.
    Reset(PeerId, ResetReason),
    /// Another path, or another datagram size, is in use.
    PathChanged(PeerId),
    /// A stranger or the rendezvous has said who it is.
    Introduced(PeerId, NodeRecord),
    /// A message of another node changed trust.
    Trust(Outcome),
    /// Trust has changed: put [`Endpoint::trust`](super::Endpoint::trust) on disk, then call
    /// [`Endpoint::trust_saved`](super::Endpoint::trust_saved) with the version that the book had.
    SaveTrust(TrustVersion),
    /// A stranger asks something (rendezvous only).
    Call(PeerId, Ticket, Call),
    /// The answer to a call of ours; `None` when there was none in time.
    Answer(Ticket, Option<Answer>),
    /// The rendezvous connection changed.
    Directory(DirectoryState),
}

/// One batch to be sent: the datagrams lie one behind the other in the buffer given to [`Endpoint::poll_transmit`](super::Endpoint::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Size of each datagram but the last, which may be smaller. Unit: bytes.
    pub segment_len: usize,
}

/// Why an owner wakes up, for busy loops that explain themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A peer's recovery, pacing, exchange, probing or keepalive.
    Peer(PeerId),
    /// A rendezvous call's time, or the next attempt to reach it.
    Directory,
    /// The key for the next exchange is made in advance.
    Reserve,
}

/// What is known of a peer, for `info` and `peers`.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Identity key, once known.
    pub identity: Option<IdentityKey>,
    /// Data can be sealed now.
    pub up: bool,
    /// Age of the session.
    pub session_age: Option<Duration>,
    /// The path in use.
    pub path: Option<PathAddr>,
    /// All paths.
    pub paths: Vec<Path>,
    /// Datagram size on the path in use. Unit: bytes.
    pub datagram_len: usize,
    /// Smoothed and smallest round-trip time.
    pub srtt: Option<Duration>,
    /// Smallest round-trip time seen.
    pub min_rtt: Duration,
    /// Congestion window and bytes in flight.
    pub window: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Congestion controller.
    pub controller: &'static str,
    /// Underlay bytes.
    pub bytes_sent: u64,
    /// Underlay bytes.
    pub bytes_received: u64,
    /// Link counters.
    pub link: LinkStats,
    /// When something authentic last came.
    pub last_received: Option<Instant>,
}
