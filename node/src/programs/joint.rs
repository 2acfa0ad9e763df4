//! Owns one connection between a program's socket and a peer's stream.

use crate::programs::relay::Relay;
use crate::programs::wire::Wire;
use crate::underlay::dial::Dial;
use pilot_core::Instant;
use pilot_stack::StreamId;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// The stage of a connection.
pub(super) enum Phase {
    /// A program has connected, and its first bytes are awaited for a moment, so that they travel with the question.
    Early(Wire),
    /// The stream to the peer is being opened.
    Opening(Wire),
    /// A peer's stream stands, and the host of the program behind the port is being looked up.
    Naming,
    /// A peer's stream stands, and the program behind the port is being called.
    Dialing(Dial),
    /// Bytes move.
    Joined(Wire),
    /// Bytes move through a filter, which may still look for the server.
    Relayed(Box<Relay>),
    /// The connection goes from one phase to another, or leaves the table.
    Between,
}

/// A connection.
pub(super) struct Joint {
    /// The number of the entry that it came by.
    pub(super) entry: u32,
    pub(super) phase: Phase,
    /// The stream, once there is one.
    pub(super) stream: Option<StreamId>,
    /// The end of this phase's patience. Set by [`Joints::set_deadline`](super::joints::Joints::set_deadline) only.
    pub(super) deadline: Option<Instant>,
    /// Address of this node's end of the socket, by which the program behind an exposed port knows the connection.
    pub(super) local: Option<SocketAddr>,
    /// The first bytes were waited for.
    pub(super) has_waited: bool,
}

impl Joint {
    pub(super) const fn new(entry: u32, phase: Phase, stream: Option<StreamId>) -> Self {
        Self { entry, phase, stream, deadline: None, local: None, has_waited: false }
    }

    /// Descriptors that are registered under the connection's token.
    pub(super) fn descriptors(&self) -> Vec<&OwnedFd> {
        match &self.phase {
            Phase::Early(wire) | Phase::Opening(wire) | Phase::Joined(wire) => vec![&wire.socket],
            Phase::Dialing(dial) => dial.descriptors().iter().collect(),
            Phase::Relayed(relay) => relay.descriptors(),
            Phase::Naming | Phase::Between => Vec::new(),
        }
    }
}
