//! Owns one connection between a program's socket and a peer's stream.

use crate::programs::dial::Dial;
use crate::programs::relay::Relay;
use crate::streams::socket::FdStream;
use pilot_core::Instant;
use pilot_stack::StreamId;
use rustix::net::{SocketAddrAny, sockopt};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The stage of a connection.
pub(super) enum Phase {
    /// A program has connected, and its first bytes are awaited for a moment, so that they travel with the question.
    Early(FdStream),
    /// The stream to the peer is being opened.
    Opening(FdStream),
    /// A peer's stream stands, and the program behind the port is being called.
    Dialing(Dial),
    /// Bytes move.
    Joined(FdStream),
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
            Phase::Early(socket) | Phase::Opening(socket) | Phase::Joined(socket) => vec![&socket.fd],
            Phase::Dialing(dial) => dial.descriptors().iter().collect(),
            Phase::Relayed(relay) => relay.descriptors(),
            Phase::Between => Vec::new(),
        }
    }
}

/// Lets closing the socket send a reset where the socket is a TCP one. The end of another socket is only an end.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A socket without lingering says so, and is closed as it is.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Sets a TCP socket to send small writes at once, as the stream behind it does.
pub(super) fn send_at_once(socket: &OwnedFd) {
    // A socket of another kind needs no such setting.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// The address of this node's end of a socket; `None` unless the socket is an IP one.
pub(super) fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().and_then(|addr: SocketAddrAny| SocketAddr::try_from(addr).ok())
}
