//! Owns the settings and the addresses of programs' sockets.

use rustix::net::{SocketAddrAny, sockopt};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Lets closing the socket send a reset where the socket is a TCP one. The end of another socket is only an end.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A socket without lingering says so, and is closed as it is.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// The address of this node's end of a socket; `None` unless the socket is an IP one.
pub(super) fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().and_then(|addr: SocketAddrAny| SocketAddr::try_from(addr).ok())
}
