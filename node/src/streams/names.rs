//! Owns the words for a stream's ends: addresses, hostnames, and the reason of a stream's end as its user reads it.

use crate::answer::Opened;
use crate::failure::Failure;
use pilot_core::trust::Pin;
use pilot_core::{Addr, AddrPort};
use pilot_stack::{EPHEMERAL_FIRST, Stack, StreamEnd, StreamId};

/// The local end and the peer's end of a stream.
pub(crate) fn ends(stack: &Stack, id: StreamId) -> (AddrPort, AddrPort) {
    let info = stack.stream_info(id);
    let key = info.and_then(|i| stack.endpoint().identity_of(i.peer));
    let addr = key.and_then(|key| stack.endpoint().trust().pin(&key)).map(|p| p.addr).unwrap_or_default();
    let (local_port, remote_port) = info.map_or((0, 0), |i| (i.local_port, i.remote_port));
    (AddrPort { addr: stack.endpoint().addr(), port: local_port }, AddrPort { addr, port: remote_port })
}

/// The hostname of the trusted peer at `addr`; empty when it has none.
pub(crate) fn hostname_of(stack: &Stack, addr: Addr) -> String {
    stack.endpoint().trust().pins().find(|p| p.addr == addr).map(|p| p.hostname.clone()).unwrap_or_default()
}

/// The reason of a stream's end, in words that name the peer.
pub(crate) fn failure_of(stack: &Stack, id: StreamId, end: StreamEnd) -> Failure {
    let (local, peer) = ends(stack, id);
    let hostname = hostname_of(stack, peer.addr);
    let name = if hostname.is_empty() { peer.addr.to_string() } else { hostname };
    let pin = stack.endpoint().trust().pins().find(|p| p.addr == peer.addr);
    // The peer grants the ports of its own side of streams that this node has opened, and those have a port from above here.
    let may_be_denied = end == StreamEnd::Refused || end == StreamEnd::Reset && local.port >= EPHEMERAL_FIRST;
    if may_be_denied && pin.is_some_and(|pin| pin.is_denied(peer.port)) {
        return Failure::not_granted(&name, peer.port);
    }
    Failure::from_end(end, &name, peer.port)
}

/// A stream as its client is told of it.
pub(crate) fn describe(stack: &Stack, id: StreamId) -> Opened {
    let (local, peer) = ends(stack, id);
    let key = stack.stream_info(id).and_then(|info| stack.endpoint().identity_of(info.peer));
    Opened {
        stream: id.number(),
        local: local.to_string(),
        peer: peer.to_string(),
        hostname: hostname_of(stack, peer.addr),
        fingerprint: key.map(|key| key.fingerprint()).unwrap_or_default(),
    }
}

/// A pinned peer as people call it.
pub(crate) fn name_of(pin: &Pin) -> String {
    if pin.hostname.is_empty() { pin.addr.to_string() } else { pin.hostname.clone() }
}
