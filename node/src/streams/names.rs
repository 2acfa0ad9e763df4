//! Owns the words for a stream's ends: addresses, hostnames, and the reason of a stream's end as its user reads it.

use crate::answer::Opened;
use crate::failure::Failure;
use pilot_core::trust::Pin;
use pilot_core::{Addr, AddrPort, PeerId};
use pilot_stack::{EPHEMERAL_FIRST, Stack, StreamEnd, StreamId};

/// The local end and the peer's end of a stream.
pub(crate) fn ends(stack: &Stack, id: StreamId) -> (AddrPort, AddrPort) {
    let info = stack.stream_info(id);
    let addr = info.and_then(|i| known(stack, i.peer)).map(|(addr, _)| addr).unwrap_or_default();
    let (local_port, remote_port) = info.map_or((0, 0), |i| (i.local_port, i.remote_port));
    (AddrPort { addr: stack.endpoint().addr(), port: local_port }, AddrPort { addr, port: remote_port })
}

/// Address and hostname of a peer that is trusted, or was until a moment ago: what its streams end with names it.
fn known(stack: &Stack, peer: PeerId) -> Option<(Addr, &str)> {
    let (endpoint, trust) = (stack.endpoint(), stack.endpoint().trust());
    let key = endpoint.identity_of(peer).or_else(|| endpoint.former_identity(peer))?;
    trust.pin(&key).map(|pin| (pin.addr, pin.hostname.as_str())).or_else(|| trust.former(&key))
}

/// The hostname of the trusted peer at `addr`; empty when it has none.
pub(crate) fn hostname_of(stack: &Stack, addr: Addr) -> String {
    stack.endpoint().trust().pins().find(|p| p.addr == addr).map(|p| p.hostname.clone()).unwrap_or_default()
}

/// The reason of a stream's end, in words that name the peer.
pub(crate) fn failure_of(stack: &Stack, id: StreamId, end: StreamEnd) -> Failure {
    let (local, peer) = ends(stack, id);
    let hostname = stack.stream_info(id).and_then(|info| known(stack, info.peer)).map_or("", |(_, name)| name);
    let name = if hostname.is_empty() { peer.addr.to_string() } else { hostname.to_owned() };
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
