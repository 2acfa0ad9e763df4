//! The room of datagram ports: each is one end of a pair of sockets that carries packets; a client has the other end.
//!
//! A packet on the pair is `address 6 bytes | port u16 (big-endian) | payload`: on the way to the client the sender's, on the
//! way from the client the recipient's. A packet that the client does not make room for is dropped, as on a full socket, and
//! counted (`info`).

use crate::answer::Bound;
use crate::calls::resolve;
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::{Code, Failure};
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::platform::PacketSocket;
use crate::token::Room;
use litemap::LiteMap;
use mio::unix::SourceFd;
use mio::{Registry, Token};
use pilot_core::Addr;
use pilot_stack::CommandError;
use rustix::io::Errno;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Most datagram ports that are open at once.
const DATAGRAM_PORTS_MAX: usize = 256;
/// First port that a client gets that asks for any port. Source: RFC 6335 §6 (dynamic ports).
const FIRST_DYNAMIC_PORT: u16 = 49_152;
/// Most datagrams that are taken from one port in a turn.
const PER_TURN: usize = 64;
/// Length of the head of a packet on the pair. Unit: bytes.
const HEAD_LEN: usize = 8;

/// The datagram ports of clients.
pub(crate) struct Datagrams {
    registry: Registry,
    ports: LiteMap<u16, PacketSocket>,
    /// Datagrams that clients did not make room for.
    pub(crate) dropped: u64,
    /// Ports with descriptors that may have datagrams.
    readable: LiteMap<u16, ()>,
}

impl Datagrams {
    pub(crate) const fn new(registry: Registry) -> Self {
        Self { registry, ports: LiteMap::new(), dropped: 0, readable: LiteMap::new() }
    }

    /// Opens a port (0: any free one) and gives the other end of its pair to the client.
    pub(crate) fn open(
        &mut self,
        cx: &mut Context,
        client: ClientId,
        request: RequestNumber,
        port: u16,
    ) -> Result<(), Failure> {
        if self.ports.len() >= DATAGRAM_PORTS_MAX {
            return Err(Failure::new(Code::Full, "too many datagram ports are open"));
        }
        let port = match port {
            0 => (FIRST_DYNAMIC_PORT..=u16::MAX).find(|p| !self.ports.contains_key(p)),
            port => Some(port).filter(|p| !self.ports.contains_key(p)),
        };
        let port = port.ok_or_else(|| Failure::new(Code::Conflict, "the port is bound for datagrams already"))?;
        let (ours, theirs) =
            PacketSocket::pair().map_err(|_| Failure::new(Code::Full, "no file descriptors are left"))?;
        let token = Room::Datagrams.token(port.into());
        self.registry
            .register(&mut SourceFd(&ours.as_fd().as_raw_fd()), token, PacketSocket::INTEREST)
            .map_err(|e| Failure::new(Code::Full, e.to_string()))?;
        let _ = cx.stack.bind(port); // fails where the node has bound every port
        self.ports.insert(port, ours);
        cx.out.push(Effect::ReplyDescriptor(client, request, Bound { port }.into(), theirs));
        Ok(())
    }

    /// A port's descriptor became readable.
    pub(crate) fn readiness(&mut self, token: Token) {
        let port = self.ports.iter().map(|(port, _)| *port).find(|p| Room::Datagrams.token((*p).into()) == token);
        if let Some(port) = port {
            self.readable.insert(port, ());
        }
    }

    /// A datagram has arrived for a client's port.
    pub(crate) fn deliver(&mut self, cx: &mut Context, from: Addr, source_port: u16, port: u16, payload: &[u8]) {
        let Some(socket) = self.ports.get_mut(&port) else { return };
        let mut packet = Vec::with_capacity(HEAD_LEN + payload.len());
        packet.extend_from_slice(&from.to_bytes());
        packet.extend_from_slice(&source_port.to_be_bytes());
        packet.extend_from_slice(payload);
        match socket.send(&packet) {
            Ok(()) => {}
            Err(Errno::AGAIN) => self.dropped += 1,
            Err(_) => self.close(cx, port),
        }
    }

    /// True while a port may have more datagrams.
    pub(crate) fn has_more(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Sends the datagrams that clients have put into their ends. At most [`PER_TURN`] of each port.
    pub(crate) fn serve(&mut self, cx: &mut Context) {
        for (port, ()) in std::mem::take(&mut self.readable) {
            self.serve_port(cx, port);
        }
    }

    fn serve_port(&mut self, cx: &mut Context, port: u16) {
        let mut packet = [0; 64 * 1024];
        for _ in 0..PER_TURN {
            let Some(socket) = self.ports.get_mut(&port) else { return };
            match socket.recv(&mut packet) {
                Ok(0) => return self.close(cx, port),
                Ok(n) => {
                    let Some((head, payload)) = packet[..n].split_first_chunk::<HEAD_LEN>() else { continue };
                    let [a, b, c, d, e, f, high, low] = *head;
                    let (to, to_port) = (Addr::from_bytes([a, b, c, d, e, f]), u16::from_be_bytes([high, low]));
                    // A datagram may be lost; a client that needs the reason sends it by request.
                    let _ = send_datagram(cx, &to.to_string(), (port, to_port), payload);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        self.readable.insert(port, ());
    }

    fn close(&mut self, cx: &mut Context, port: u16) {
        let Some(socket) = self.ports.remove(&port) else { return };
        // The descriptor is closed right after; a failure here leaves nothing behind.
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
        cx.stack.unbind(port);
    }
}

/// Sends one datagram to the node that `node` names. `ports`: source and destination.
pub(crate) fn send_datagram(cx: &mut Context, node: &str, ports: (u16, u16), payload: &[u8]) -> Result<(), Failure> {
    let key = resolve::pinned(cx.stack.endpoint().trust(), node).map(|p| p.identity);
    let key = key.map_err(|f| match f.code {
        Code::NotFound => Failure::new(Code::TrustRequired, f.message).hint(format!("pilotctl handshake {node}")),
        _ => f,
    })?;
    let peer = cx.stack.endpoint().peer_by_identity(&key);
    let sent = peer.ok_or(CommandError::UnknownPeer).and_then(|p| cx.stack.send_datagram(p, ports, payload));
    sent.map_err(|e| match e {
        CommandError::TooLong => {
            Failure::new(Code::InvalidArgument, format!("{} bytes do not fit into one datagram", payload.len()))
                .hint("a stream has no such limit: pilotctl connect")
        }
        _ => Failure::new(Code::Unreachable, format!("{node} cannot be reached now")),
    })
}

#[cfg(test)]
mod tests;
